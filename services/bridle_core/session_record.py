"""What is remembered of a live run, so that another process of the host can go on with it.

Values, and their text form. Made by `Session.record`, kept by the host, taken by `Session.restore`.
It holds all that the machine knows, but for what the inputs say. An upgrade reads what an earlier
version wrote: whatever is added here has a default, which says what was true before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from bridle_core import values
from bridle_core.observations import Decision, StopReason, Usage
from bridle_core.phases import (
    AfterInterrupt,
    EndReason,
    InputMode,
    Phase,
    Policy,
    Principal,
    QueueState,
    TurnTrigger,
)
from bridle_core.session_inputs import Timer


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """An input that no turn has consumed. See `bridle_core.queue.Item`."""

    input_id: str
    command_id: str
    sequence: int = 0
    mode: InputMode = InputMode.QUEUE
    expires: float | None = None
    principal: Principal | None = None
    returned: bool = False
    into_turn: bool = False


@dataclass(frozen=True, slots=True)
class WritingRecord:
    """A message that is being written. See `bridle_core.turn.Writing`."""

    message_id: str
    offset: int
    dropped: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class InterruptRecord:
    """An interrupt that waits for the turn's end. See `bridle_core.session_inputs.Interrupting`."""

    stop_reason: StopReason
    grace: float
    after: AfterInterrupt | None = None
    include_background: bool = False
    principal: Principal | None = None
    dropped: frozenset[str] = frozenset()
    early: bool = False
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class EndRecord:
    """How the run will end. See `bridle_core.session_ends.End`."""

    phase: Phase
    reason: EndReason
    message: str = ""
    principal: Principal | None = None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """See `Session.record`. Moments are on the machine's clock, which has to be the same one."""

    phase: Phase
    #: SessionStarted or SessionResumed was written.
    opened: bool
    #: Of the agent's process; 0 while there is none.
    pid: int
    last_turn: int
    #: The turn that is open; 0 for none.
    turn: int
    tools: tuple[str, ...] = ()
    approvals: tuple[str, ...] = ()
    handed: tuple[ItemRecord, ...] = ()
    steering: tuple[ItemRecord, ...] = ()
    #: Commands that wait for the end of the turn.
    interrupts: tuple[str, ...] = ()
    #: (input id, commands that wait until it is known what became of it).
    cancels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    #: Stops and kills that wait for the end of the run.
    enders: tuple[str, ...] = ()
    killed: bool = False
    # What the above says is enough to end the run; what follows, to go on with it.
    policy: Policy | None = None
    timers: tuple[tuple[Timer, float], ...] = ()
    queue_state: QueueState | None = None
    queue: tuple[ItemRecord, ...] = ()
    trigger: TurnTrigger = TurnTrigger.INPUT
    #: (approval id, when it is denied by itself).
    expiries: tuple[tuple[str, float], ...] = ()
    #: (approval id, tool, arguments) of those of which the call is remembered.
    calls: tuple[tuple[str, str, str], ...] = ()
    #: (approval id, decision, message) of the open turn.
    resolved: tuple[tuple[str, Decision, str], ...] = ()
    writing: tuple[WritingRecord, ...] = ()
    written: tuple[str, ...] = ()
    #: Of what is handed, and the highest that was given so far.
    label: int = 0
    last_label: int = 0
    interrupt: InterruptRecord | None = None
    #: (input id, turn, steered) of inputs that are over; turn 0 for cancelled.
    settled: tuple[tuple[str, int, bool], ...] = ()
    last_stop: StopReason | None = None
    last_message: str = ""
    usage: Usage | None = None
    last_output: bytes = b""
    #: Between an agent that was killed to end its turn and the one that replaces it.
    replacing: bool = False
    end: EndRecord | None = None
    reported: bool = False
    killing: bool = False
    verifying: bool = False
    closed: bool = False
    resting: bool = False
    parked: bool = False

    @property
    def input_ids(self) -> tuple[str, ...]:
        """As `Session.input_ids`: the inputs that no turn has consumed."""
        return tuple(item.input_id for item in (*self.handed, *self.steering, *self.queue))

    def dump(self) -> str:
        """As JSON text."""
        return values.dump(self)

    @classmethod
    def load(cls, text: str) -> Self:
        """From JSON text. Raises ValueError when it isn't a record."""
        return values.load(cls, text)
