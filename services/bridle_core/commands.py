"""What the session machine is told to do: control's commands, and the run that it is made for.

Values only. The host makes them from `bridle.host.v1.Command`; durations are in seconds and count
from the moment in which the machine gets the command.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bridle_core.observations import Capability, Content, Decision, ResumeMode
from bridle_core.phases import (
    AfterInterrupt,
    EndReason,
    InputMode,
    Policy,
    Principal,
    QueueState,
    Rule,
)


@dataclass(frozen=True, slots=True)
class RunSpec:
    """The run that a machine is for.

    `last_turn` is the number of the last turn of earlier runs. `resume` is set for a run that
    continues an earlier one, and says how the conversation is to come along.
    """

    start_command: str
    agent: str
    agent_version: str = ""
    host_id: str = ""
    directory: str = ""
    containment: str = ""
    capabilities: frozenset[Capability] = frozenset()
    policy: Policy = field(default_factory=Policy)
    last_turn: int = 0
    queue_state: QueueState = QueueState.OPEN
    resume: ResumeMode | None = None
    principal: Principal | None = None


@dataclass(frozen=True, slots=True)
class Deliver:
    """Take an input into the queue."""

    command_id: str
    input_id: str
    content: tuple[Content, ...] = field(repr=False)
    sequence: int
    mode: InputMode = InputMode.QUEUE
    or_queue: bool = False
    #: None: the policy's.
    time_to_live: float | None = None
    principal: Principal | None = None


@dataclass(frozen=True, slots=True)
class Interrupt:
    """End the turn: the one that is named, or (0) the one that is on."""

    command_id: str
    turn: int = 0
    #: None: the policy's.
    after: AfterInterrupt | None = None
    include_background: bool = False
    #: None: the policy's.
    grace: float | None = None
    principal: Principal | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """Let the run end. `grace` None: the turn may take as long as it takes.

    An empty `command_id` is a stop that the host itself decided on; nobody gets an answer.
    """

    command_id: str = ""
    grace: float | None = None
    reason: EndReason = EndReason.STOP_REQUESTED
    principal: Principal | None = None


@dataclass(frozen=True, slots=True)
class Kill:
    """End the run now. An empty `command_id`: as in Stop."""

    command_id: str = ""
    reason: EndReason = EndReason.KILL_REQUESTED
    principal: Principal | None = None


@dataclass(frozen=True, slots=True)
class Resolve:
    """Answer an approval: ALLOW, ALLOW_ALWAYS or DENY.

    rule: with ALLOW_ALWAYS, what is allowed from now on without asking.
    """

    command_id: str
    approval_id: str
    decision: Decision
    message: str = ""
    principal: Principal | None = None
    rule: Rule | None = None


@dataclass(frozen=True, slots=True)
class Release:
    """Open the queue."""

    command_id: str
    principal: Principal | None = None


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancel an input that waits."""

    command_id: str
    input_id: str
    principal: Principal | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """New rules, all of them; they hold from the next decision on, and for the calls that wait."""

    command_id: str
    policy: Policy


Command = Deliver | Interrupt | Stop | Kill | Resolve | Release | Cancel | Update
