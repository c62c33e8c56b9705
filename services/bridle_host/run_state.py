"""What is kept of a live run for the host process that comes after this one.

A value and its text form. The journal keeps it in the same commit as the events that led to it, so
the two never disagree; a plain copy beside the run's files serves when the journal is lost. Made
by the live run, read by whoever recovers.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from bridle_core.commands import RunSpec
from bridle_core.observations import Capability, ResumeMode
from bridle_core.phases import Phase
from bridle_core.session import RunRecord
from bridle_core.session_inputs import Timer

_TURN_TIMERS = (Timer.TURN, Timer.INTERRUPT)


@dataclass(frozen=True, slots=True)
class RunState:
    """See the module.

    `spec` lacks what the start command tells (see `RunFiles.start`). `driver` is the state of the
    driver's newest Checkpoint, `acknowledge` its offset: nothing of the agent's output before that
    is needed any more. Both are empty where the driver told none. `output` is what
    `output_events.OutputCoder` kept.
    """

    spec: RunSpec
    record: RunRecord
    driver: bytes = field(default=b"", repr=False)
    acknowledge: int = 0
    output: Mapping[str, Any] = field(default_factory=dict, repr=False)
    #: The agent is in a turn that is over for the log: it is to be ended, and nothing of it told.
    astray: bool = False
    #: Where the run stands in traces, see `RunObserver.kept`; nothing else depends on it.
    observed: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def opened(self) -> bool:
        """Whether anything of the run can be in the log: the run of a Resume is, by its start."""
        return self.record.opened or self.spec.resume is not None

    @property
    def unborn(self) -> bool:
        """Whether no agent was up yet, and none is unwanted: where none is there, it may start."""
        record = self.record
        return (
            record.phase is Phase.STARTING
            and record.end is None
            and not (record.pid or record.replacing or record.verifying)
        )

    @property
    def needs_no_agent(self) -> bool:
        """Whether the run goes on although no shim of it is left: none was there yet, the next is
        about to be, or what is left of the last is being looked for."""
        return self.unborn or self.record.replacing or self.record.verifying

    def completed(self, spec: RunSpec) -> RunSpec:
        """The spec of the start command, with what was true when the run began."""
        mine = self.spec
        return replace(
            spec,
            agent_version=mine.agent_version,
            directory=mine.directory,
            containment=mine.containment,
            # An upgrade may have taught the driver more, or less; the log tells what the run had.
            capabilities=mine.capabilities & spec.capabilities,
        )

    def forgotten(self) -> Self:
        """For a journal that is lost: what control can still know of the run.

        The open turn is over for the log, and no command will get an answer any more.
        """
        record = self.record
        in_turn = record.phase in (Phase.RUNNING, Phase.WAITING)
        bare = replace(
            record,
            phase=Phase.IDLE if in_turn else record.phase,
            turn=0,
            tools=(),
            approvals=(),
            calls=(),
            expiries=(),
            resolved=(),
            writing=(),
            written=(),
            steering=(),
            interrupt=None,
            interrupts=(),
            cancels=(),
            enders=(),
            timers=tuple(
                one for one in record.timers if one[0] not in (Timer.TURN, Timer.INTERRUPT)
            ),
        )
        return replace(self, record=bare, output={}, astray=bool(record.turn))

    def dump(self) -> bytes:
        """As JSON text."""
        spec = self.spec
        kept = {
            "start_command": spec.start_command,
            "agent": spec.agent,
            "agent_version": spec.agent_version,
            "directory": spec.directory,
            "containment": spec.containment,
            "capabilities": sorted(spec.capabilities),
            "last_turn": spec.last_turn,
            "resume": spec.resume,
            "record": self.record.dump(),
            "driver": base64.b64encode(self.driver).decode("ascii"),
            "acknowledge": self.acknowledge,
            "output": self.output,
            "astray": self.astray,
        }
        if self.observed:
            kept["observed"] = self.observed
        return json.dumps(kept, separators=(",", ":")).encode()

    @classmethod
    def load(cls, state: bytes) -> Self:
        """Of `dump`; what an older version did not write is empty. Raises ValueError."""
        try:
            kept = json.loads(state)
            spec = RunSpec(
                start_command=str(kept["start_command"]),
                agent=str(kept["agent"]),
                agent_version=str(kept.get("agent_version", "")),
                directory=str(kept.get("directory", "")),
                containment=str(kept.get("containment", "")),
                capabilities=frozenset(
                    Capability(name)
                    for name in kept.get("capabilities", ())
                    if name in Capability.__members__
                ),
                last_turn=int(kept["last_turn"]),
                resume=ResumeMode(kept["resume"]) if kept["resume"] is not None else None,
            )
            record = RunRecord.load(kept["record"])
            driver = base64.b64decode(kept.get("driver", ""), validate=True)
            output = dict(kept.get("output", {}))
            astray = bool(kept.get("astray", False))
            observed = dict(kept.get("observed", {}))
            acknowledge = int(kept.get("acknowledge", 0))
            return cls(spec, record, driver, acknowledge, output, astray, observed)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("not the state of a run") from error
