"""The driver: the adapter that speaks one agent's protocol.

A driver is made for one run of one session. It knows nothing of gRPC, of the journal or of other
sessions: it starts its agent through `DriverContext.spawn` (which puts it under a shim with the
session's containment), is told what to do by the session actor, one call at a time, and answers
only by observations. Every call returns as soon as the order was given to the agent; what comes of
it is observed.

An agent outlives the host process (its shim holds it), and a driver does not. So a driver tells
what it saw in groups, each of which ends with a Checkpoint: where the driver stands, and how much
of the agent's output is used up by that. A group is written to the journal whole or not at all; the
next process of the host makes another driver, which goes on from the last Checkpoint by `recover`.

Optional parts are declared: `steer` is called only with STEER, `respond` only with APPROVALS, a
NATIVE resume is only asked for with NATIVE_RESUME.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bridle_core.observations import Capability, Content, Decision, Observation, ResumeMode
from bridle_core.transcript import Transcript
from bridle_host.process import ShimProcess


@dataclass(frozen=True, slots=True)
class Installation:
    """Whether an agent can be run on this machine: `hint` says how to get it where it can't."""

    installed: bool
    version: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class ResumeFrom:
    """What a resumed run is made from. `driver_state`: what KeepState gave, the newest, or b"".

    transcript: what was said in the session so far, rendered for a model, "" for nothing or with
    NATIVE; left_out: what of it that leaves out, for the `lost` of a SEEDED ProcessUp.
    """

    mode: ResumeMode
    driver_state: bytes = field(default=b"", repr=False)
    same_host: bool = True
    transcript: str = field(default="", repr=False)
    left_out: tuple[str, ...] = ()


class Spawn(Protocol):
    """Starts a process of the session under its shim."""

    async def __call__(
        self,
        argv: Sequence[str],
        *,
        directory: str,
        environment: Mapping[str, str],
        control_pipes: int = 0,
        holds: Sequence[Path] = (),
    ) -> ShimProcess:
        """The environment is added to the session's own; `holds` are files that are locked for as
        long as the process's shim lives. See `ShimProcess.spawn` for the errors.
        """


class Adopt(Protocol):
    """Takes over the session's process, whose shim has outlived its host process."""

    async def __call__(self) -> ShimProcess:
        """See `ShimProcess.adopt` for the errors: ShimLostError, ShimFailedError."""


@dataclass(frozen=True, slots=True)
class DriverContext:
    """What a driver is given. `state_directory` is the run's own, private, on this host.

    What a driver keeps there outlives the host process, though not the machine, and so does the
    agent. It need not be synced. `transcript` tells what was said in the session until now, for an
    agent that takes another's place within the run. `locks` is a directory of this kind of agent on
    this host, for what no two processes may hold; it need not exist.
    """

    session_id: str
    run: int
    directory: str
    agent_command: str
    environment: Mapping[str, str]
    state_directory: Path
    spawn: Spawn
    adopt: Adopt
    locks: Path
    transcript: Callable[[], Transcript] = Transcript


class Driver(Protocol):
    """One agent of one run. The methods are called by the session actor only, never two at once."""

    async def run(self) -> None:
        """The driver's own work: reads its agent until it has told ProcessGone. Started first.

        The process is not closed at the end: for as long as that ProcessGone is not durable, a
        successor may have to read its last words again. The host closes it.
        """

    def observations(self) -> AsyncIterator[Sequence[Observation]]:
        """What the driver sees, in order; ends after the last ProcessGone or StartFailed.

        In groups: each is written whole or not at all. A group is made of one chunk of output at
        the most, and ends with a Checkpoint; one without has moved nothing that matters later.
        """

    async def start(self, resume: ResumeFrom | None) -> None:
        """Bring the agent up: ProcessUp follows, or StartFailed."""

    async def recover(self, state: bytes, resume: ResumeFrom | None) -> None:
        """Take over the agent of an earlier process of the host; called in place of `start`.

        `state` is that of the last Checkpoint that became durable, b"" where none did; `resume` is
        what `start` was called with. There is no second ProcessUp. What was ordered and may not
        have reached the agent is ordered again before `read_on`, and in no other words; the driver
        sees to it that the agent gets each order once (`ShimProcess.written`). If the agent cannot
        be had any more, its end is told: ProcessGone, or StartFailed where it was not up.
        """

    async def read_on(self) -> None:
        """Called after `recover`; before it the driver tells nothing."""

    async def replace(self) -> None:
        """Bring up another agent in place of the one that was killed to end its turn.

        Called once that end is durable: until then a successor has to find the old one's shim, to
        read what it said last. ProcessUp(replacement=True) follows, or StartFailed.
        """

    async def send(self, turn: int, content: Sequence[Content]) -> None:
        """Give the agent an input as a turn of its own: TurnBegan(turn) and TurnOver follow."""

    async def steer(self, input_id: str, content: Sequence[Content]) -> None:
        """Give the agent an input into the open turn: Steered follows; nothing if it was late."""

    async def interrupt(self, *, grace: float, include_background: bool) -> None:
        """End the open turn (called after its TurnBegan): TurnOver(INTERRUPTED) follows.

        Where the agent was sent a turn and did not confirm it in its time, this is called without:
        TurnBegan(confirmed=False) and its TurnOver follow, or nothing where a driver can't do that.

        The agent gets `grace` seconds. After that the driver kills the turn's tools, then, if need
        be, the agent itself and brings up another, and says so by a Note(ESCALATED). What was born
        in the turn beneath its tool calls is gone by the time of TurnOver, setsid children too;
        what was there before lives, unless `include_background`.
        """

    async def respond(self, approval_id: str, decision: Decision, message: str) -> None:
        """Answer an approval."""

    async def stop(self, *, grace: float) -> None:
        """Let the idle agent end by itself within `grace` seconds, else kill it.

        ProcessGone follows.
        """

    async def kill(self) -> None:
        """End the agent and all that it started, now.

        ProcessGone follows; TurnOver is not needed.
        """


class DriverFactory(Protocol):
    """A kind of agent: makes drivers and knows whether the agent is there."""

    name: str
    capabilities: frozenset[Capability]

    def probe(self) -> Installation:
        """Look whether the agent can be run here. Called at the host's start, off the loop."""

    def create(self, context: DriverContext) -> Driver:
        """A driver for one run.

        Raises ValueError with a line for people on a bad `agent_command`.
        """
