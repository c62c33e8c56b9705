"""Who is told what happens on this host, for traces and metrics. By itself: nobody.

The one seam between the host's work and what is measured of it. The sessions, their actors and the
journal tell an `Observer`, and don't know whether anybody listens; nothing that they do depends on
it. It is told on the event loop, answers at once, and raises nothing.

These two listen to nothing, and are what is used where neither traces nor metrics are asked for;
`bridle_host.telemetry` has those that listen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle_core.effects import Effect
from bridle_host.journal_file import AnswerRow
from bridle_host.run_state import RunState


class RunObserver:
    """Of one run, from before it is admitted until it has left this process of the host."""

    def performed(self, effects: Sequence[Effect], read: int) -> None:
        """These effects are about to be performed. `read`: so many bytes of the agent's output are
        used up by now, as in `Checkpoint.acknowledge`; 0 where nobody knows."""

    def kept(self) -> Mapping[str, Any]:
        """What the observer in the next process of the host needs to go on, as JSON has it; as
        `RunState.observed`. Asked after `performed`, for what is written with those effects."""
        return {}

    def ended(self, *, left: bool) -> None:
        """The run has ended, or was `left` to the next process of the host. Idempotent."""


class Observer:
    """Of the whole host."""

    def received(self, command: host_pb.Command) -> None:
        """A command came that is not a repeat; it is going to be given to its run."""

    def answered(self, answers: Sequence[AnswerRow]) -> None:
        """These answers are durable."""

    def run(
        self, session_id: str, run: int, agent: str, start_command: str, left: RunState | None
    ) -> RunObserver:
        """A run begins, or is taken over (`left`). `agent` may be the name of no agent: nobody has
        looked at it yet. `start_command` is "" for a run that is taken over."""
        return _NOBODY


_NOBODY = RunObserver()
