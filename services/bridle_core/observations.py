"""What a driver tells about its agent, in the words of no protocol.

A driver turns its agent's stream into these; the session machine (`bridle_core.session`) takes
them as its input, and the host writes what follows from them into the log. They are plain frozen
values: no bytes of gRPC, no time (whoever reads them stamps it).

The order that a driver keeps, which the conformance suite checks:

    ProcessUp < (TurnBegan < … < TurnOver)* < ProcessGone

- `TurnBegan` confirms a turn that the host asked for by `Driver.send`; until then the host holds
  an interrupt back, because agents lose early ones. `TurnBegan(turn=None)` is a turn that the
  agent began by itself.
- Exactly one `TurnOver` per `TurnBegan`; after it nothing of that turn, whatever the agent says.
- Tool calls and approvals that are open at a `TurnOver` are closed by the session machine.
- A `ProcessGone` in an open turn means that the agent was lost; a driver that knows that the
  process ended on purpose in its turn (a shell's `exit 3`) tells `TurnOver` first and marks the
  `ProcessGone` as `deliberate`.
- A driver that had to kill its agent to end a turn tells TurnOver and ProcessGone(killed=True) in
  one group; when it is told to replace the agent, ProcessUp(replacement=True), and the run goes on.
  What it is sent after that TurnOver it gives to the replacement, once.
- What a driver was sent and has not confirmed when its agent ended on purpose, it forgets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Capability(StrEnum):
    """What a driver can do beyond the least. Told to control in the host's Hello."""

    NATIVE_RESUME = "NATIVE_RESUME"
    STEER = "STEER"
    APPROVALS = "APPROVALS"
    IMAGES = "IMAGES"
    #: Background jobs may outlive a turn.
    BACKGROUND = "BACKGROUND"


class StopReason(StrEnum):
    """How a turn ended; the names of bridle.v1.StopReason without their prefix."""

    COMPLETED = "COMPLETED"
    INTERRUPTED = "INTERRUPTED"
    FAILED = "FAILED"
    REFUSED = "REFUSED"
    LIMIT_REACHED = "LIMIT_REACHED"
    TIMED_OUT = "TIMED_OUT"
    AGENT_LOST = "AGENT_LOST"
    HOST_STATE_LOST = "HOST_STATE_LOST"
    KILLED = "KILLED"


class ResumeMode(StrEnum):
    """How a conversation comes along; the names of bridle.v1.ResumeMode without their prefix."""

    AUTO = "AUTO"
    NATIVE = "NATIVE"
    SEEDED = "SEEDED"


class Decision(StrEnum):
    """How an approval was decided; the names of bridle.v1.ApprovalDecision without their prefix."""

    ALLOW = "ALLOW"
    ALLOW_ALWAYS = "ALLOW_ALWAYS"
    DENY = "DENY"
    VOID = "VOID"


class ToolStatus(StrEnum):
    """How a tool call ended; the names of bridle.v1.ToolCallStatus without their prefix."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    DENIED = "DENIED"


class OutputStream(StrEnum):
    """Where a tool's output was written; the names of bridle.v1.OutputStream."""

    STDOUT = "STDOUT"
    STDERR = "STDERR"


class NoteKind(StrEnum):
    """What a note is about; the names of bridle.v1.DiagnosticKind without their prefix."""

    TRUNCATED = "TRUNCATED"
    UNPARSED = "UNPARSED"
    ESCALATED = "ESCALATED"
    BACKPRESSURE = "BACKPRESSURE"
    JOURNAL_LOST = "JOURNAL_LOST"
    AGENT_LOG = "AGENT_LOG"
    STATE_LOST = "STATE_LOST"


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of content: text."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """A piece of content: a picture, whole."""

    data: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Resource:
    """A piece of content: the address of something that the agent can read by itself."""

    uri: str
    title: str = ""
    media_type: str = ""


Content = Text | Image | Resource


@dataclass(frozen=True, slots=True)
class ProcessUp:
    """The agent's process is up. `pid` as the host sees it."""

    pid: int
    agent_version: str = ""
    #: True when it replaces one that was killed within the run.
    replacement: bool = False
    #: For a resumed run and for a replacement: how the conversation came along.
    mode: ResumeMode | None = None
    #: What did not come along, a line each for people.
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProcessGone:
    """The agent's process has ended. Exactly one of `exit_code` and `signal` is set."""

    pid: int
    exit_code: int | None = None
    signal: int | None = None
    #: Bridle killed it.
    killed: bool = False
    #: The agent meant to end: not a loss, whatever its exit code.
    deliberate: bool = False


@dataclass(frozen=True, slots=True)
class StartFailed:
    """The agent could not be brought up; no ProcessUp will come."""

    message: str


@dataclass(frozen=True, slots=True)
class TurnBegan:
    """The agent confirmed that a turn began: the one asked for, or (None) one of its own.

    confirmed: False where it did not, and an interrupt could not wait for it any longer.
    """

    turn: int | None = None
    confirmed: bool = True


@dataclass(frozen=True, slots=True)
class TurnOver:
    """The open turn is over."""

    stop_reason: StopReason
    exit_code: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Steered:
    """The agent confirmed that a steered input became part of the open turn."""

    input_id: str


@dataclass(frozen=True, slots=True)
class MessageText:
    """More text of a message that is being written (live text; never stored)."""

    message_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """A message of the agent, whole (or cut off, `partial`).

    content: () for what its MessageText said, of an agent that does not say it once more. Of all
    messages that are being written, `bridle_core.turn.KEPT_TEXT` characters are kept.
    """

    message_id: str
    content: tuple[Content, ...]
    partial: bool = False
    sub_agent: str = ""


@dataclass(frozen=True, slots=True)
class Thought:
    """A thought that the agent let be seen."""

    message_id: str
    text: str
    partial: bool = False
    sub_agent: str = ""


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """A tool call began. `arguments_json` is JSON text."""

    tool_call_id: str
    tool: str
    arguments_json: str = "{}"
    title: str = ""
    sub_agent: str = ""


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """A tool call put something out: at most 64 KiB."""

    tool_call_id: str
    data: bytes
    stream: OutputStream = OutputStream.STDOUT


@dataclass(frozen=True, slots=True)
class ToolEnded:
    """A tool call is over."""

    tool_call_id: str
    status: ToolStatus
    exit_code: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class PlanStep:
    """A step of a plan; `state` is PENDING, IN_PROGRESS or COMPLETED."""

    text: str
    state: str = "PENDING"


@dataclass(frozen=True, slots=True)
class Plan:
    """The agent's plan, whole, as it is now."""

    steps: tuple[PlanStep, ...]


@dataclass(frozen=True, slots=True)
class ApprovalAsked:
    """The agent asks for leave; the turn waits for `Driver.respond`."""

    approval_id: str
    tool: str
    arguments_json: str = "{}"
    reason: str = ""
    tool_call_id: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalWithdrawn:
    """The agent no longer asks."""

    approval_id: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used so far in this run."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_micro_usd: int | None = None
    model: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """Something that a person who looks for a cause wants to know."""

    kind: NoteKind
    message: str
    bytes_dropped: int = 0


@dataclass(frozen=True, slots=True)
class KeepState:
    """What the driver wants kept for a later Resume: opaque, at most 256 KiB, the newest counts."""

    state: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All that the driver has told so far comes from output before `acknowledge`.

    The last of its group (see `bridle_host.drivers.base`). With `state`, at most 64 KiB, another
    process of the host can go on from here: what the agent said from `acknowledge` on is read
    again, and nothing is told twice. It follows nothing from it for the log.
    """

    state: bytes = field(repr=False)
    #: An offset as in `bridle_host.process.Chunk`.
    acknowledge: int


Observation = (
    ProcessUp
    | ProcessGone
    | StartFailed
    | TurnBegan
    | TurnOver
    | Steered
    | MessageText
    | Message
    | Thought
    | ToolStarted
    | ToolOutput
    | ToolEnded
    | Plan
    | ApprovalAsked
    | ApprovalWithdrawn
    | Usage
    | Note
    | KeepState
    | Checkpoint
)
