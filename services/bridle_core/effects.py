"""What the session machine wants done: events for the log, answers, and calls of the driver.

Values only. Whoever performs them (the host's session actor) does so in this order: everything that
is to be remembered (`Emit`, `Answer`, `Keep`) is durable before any call is made and before anybody
sees it; then come the calls, one after another, in their order.

The payload of an `Emit` is a lifecycle event of this module, or the driver's observation itself
where the log takes it over as it came (messages, tool calls, plans, usage, notes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from bridle_core.errors import Reason
from bridle_core.observations import (
    Content,
    Decision,
    Message,
    Note,
    Plan,
    ResumeMode,
    StopReason,
    Thought,
    ToolEnded,
    ToolOutput,
    ToolStarted,
    Usage,
)
from bridle_core.phases import (
    CancelReason,
    Decider,
    EndReason,
    Phase,
    Principal,
    Rule,
    TurnTrigger,
)


class OutcomeState(StrEnum):
    """Whether a command took effect. All but PENDING are final."""

    PENDING = "PENDING"
    RAN = "RAN"
    NOT_RUN = "NOT_RUN"
    UNKNOWN = "UNKNOWN"


class Met(StrEnum):
    """What a command met; the names of bridle.v1.OutcomeReason that a host can say."""

    QUEUED = "QUEUED"
    IN_PROGRESS = "IN_PROGRESS"
    DONE = "DONE"
    TURN_STARTED = "TURN_STARTED"
    STEERED = "STEERED"
    TURN_INTERRUPTED = "TURN_INTERRUPTED"
    INPUT_CANCELLED = "INPUT_CANCELLED"
    NO_TURN = "NO_TURN"
    TURN_ALREADY_ENDED = "TURN_ALREADY_ENDED"
    ALREADY_STOPPING = "ALREADY_STOPPING"
    ALREADY_ENDED = "ALREADY_ENDED"
    REFUSED = "REFUSED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"
    SESSION_ENDED = "SESSION_ENDED"
    AGENT_LOST = "AGENT_LOST"


# --- lifecycle events ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """A run opens with a new agent. The rest is in the RunSpec."""


@dataclass(frozen=True, slots=True)
class SessionResumed:
    """A run opens that continues an earlier one."""

    mode: ResumeMode
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProcessStarted:
    """The agent's process is up."""

    pid: int
    replacement: bool = False
    mode: ResumeMode | None = None
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TurnStarted:
    """A turn begins."""

    trigger: TurnTrigger
    input_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """A turn is over."""

    stop_reason: StopReason
    exit_code: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class ArtifactsReported:
    """What the run leaves behind; the performer adds the artifacts and what git tells."""

    final_message: str
    last_stop_reason: StopReason | None
    turns: int
    #: What the agent told last of what it used; None where it told nothing.
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class ProcessExited:
    """The agent's process is gone."""

    pid: int
    exit_code: int | None = None
    signal: int | None = None
    killed: bool = False


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """The run is over: the process and every descendant were seen gone, `swept` of them killed.

    Not `verified`: nobody could look; its ProcessExited may be missing.
    """

    phase: Phase
    reason: EndReason
    message: str = ""
    swept: int = 0
    verified: bool = True


@dataclass(frozen=True, slots=True)
class PhaseChanged:
    """The session's phase changed."""

    before: Phase
    after: Phase


@dataclass(frozen=True, slots=True)
class InputConsumed:
    """A turn took an input."""

    input_id: str
    steered: bool = False


@dataclass(frozen=True, slots=True)
class InputCancelled:
    """An input will never run."""

    input_id: str
    reason: CancelReason


@dataclass(frozen=True, slots=True)
class QueueHeld:
    """Inputs wait from now on."""


@dataclass(frozen=True, slots=True)
class QueueReleased:
    """Inputs may start turns again."""


@dataclass(frozen=True, slots=True)
class ApprovalRequested:
    """The agent asks for leave. `expires_in` is in seconds; None means never."""

    approval_id: str
    tool: str
    arguments_json: str = "{}"
    reason: str = ""
    tool_call_id: str = ""
    expires_in: float | None = None


@dataclass(frozen=True, slots=True)
class ApprovalResolved:
    """An approval was answered, or became void.

    rule: the one that decided, or with ALLOW_ALWAYS the one that decides from now on.
    """

    approval_id: str
    decision: Decision
    message: str = ""
    by: Decider = Decider.PRINCIPAL
    rule: Rule | None = None


LogEvent = (
    SessionStarted
    | SessionResumed
    | ProcessStarted
    | TurnStarted
    | TurnEnded
    | ArtifactsReported
    | ProcessExited
    | SessionEnded
    | PhaseChanged
    | InputConsumed
    | InputCancelled
    | QueueHeld
    | QueueReleased
    | ApprovalRequested
    | ApprovalResolved
    | Message
    | Thought
    | ToolStarted
    | ToolOutput
    | ToolEnded
    | Plan
    | Usage
    | Note
)


# --- effects ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Emit:
    """Write an event into the session's log. `turn` 0 means that it belongs to none."""

    event: LogEvent
    turn: int = 0
    principal: Principal | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Tell control what came of a command."""

    command_id: str
    state: OutcomeState
    met: Met
    turn: int = 0
    input_id: str = ""
    message: str = ""
    error: Reason | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def final(self) -> bool:
        """Whether no other answer to this command follows."""
        return self.state is not OutcomeState.PENDING


@dataclass(frozen=True, slots=True)
class Keep:
    """Keep the driver's state for a later Resume."""

    state: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Live:
    """Show text of a message that is being written; `offset` in bytes of UTF-8. Never stored."""

    turn: int
    message_id: str
    offset: int
    text: str


@dataclass(frozen=True, slots=True)
class StartAgent:
    """Call `Driver.start`."""


@dataclass(frozen=True, slots=True)
class RecoverAgent:
    """Call `Driver.recover`, in place of StartAgent. First of what `Session.recovered` wants."""


@dataclass(frozen=True, slots=True)
class ReadOn:
    """Call `Driver.read_on`: all that the driver may have to be told again, it was told."""


@dataclass(frozen=True, slots=True)
class ReplaceAgent:
    """Call `Driver.replace`: that its agent had to be killed to end a turn is durable."""


@dataclass(frozen=True, slots=True)
class SendTurn:
    """Call `Driver.send`. `label` is what its TurnBegan will name."""

    label: int
    content: tuple[Content, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class SteerTurn:
    """Call `Driver.steer`."""

    input_id: str
    content: tuple[Content, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class InterruptTurn:
    """Call `Driver.interrupt`; again, with less grace, when somebody became impatient."""

    grace: float
    include_background: bool


@dataclass(frozen=True, slots=True)
class RespondApproval:
    """Call `Driver.respond`."""

    approval_id: str
    decision: Decision
    message: str


@dataclass(frozen=True, slots=True)
class StopAgent:
    """Call `Driver.stop`."""

    grace: float


@dataclass(frozen=True, slots=True)
class KillAgent:
    """Call `Driver.kill`, whatever other call is under way."""


@dataclass(frozen=True, slots=True)
class VerifyGone:
    """Kill what is left of the run and see it gone; then tell the machine by `Session.gone`."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The run is over for the machine too: it takes nothing more and says nothing more."""


Call = (
    StartAgent
    | RecoverAgent
    | ReadOn
    | ReplaceAgent
    | SendTurn
    | SteerTurn
    | InterruptTurn
    | RespondApproval
    | StopAgent
    | KillAgent
    | VerifyGone
)

Effect = Emit | Answer | Keep | Live | Call | Closed
