"""The words of a session's life: its phases, its rules, and why things end.

Values only: nothing here acts. The names are those of `bridle.v1` without their prefixes, so that
the host maps them by name. Used by the session machine and by whoever feeds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """Where a session stands. The first five are live, the last three are ended."""

    STARTING = "STARTING"
    IDLE = "IDLE"
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    FAILED = "FAILED"
    KILLED = "KILLED"


#: The phases that nothing follows but a Resume.
ENDED = frozenset({Phase.STOPPED, Phase.FAILED, Phase.KILLED})


class EndReason(StrEnum):
    """Why a run ended: those that a host finds out."""

    STOP_REQUESTED = "STOP_REQUESTED"
    KILL_REQUESTED = "KILL_REQUESTED"
    AGENT_EXITED = "AGENT_EXITED"
    AGENT_LOST = "AGENT_LOST"
    START_FAILED = "START_FAILED"
    START_TIMEOUT = "START_TIMEOUT"
    IDLE_TIMEOUT = "IDLE_TIMEOUT"
    HOST_DRAINED = "HOST_DRAINED"
    HOST_STOPPED = "HOST_STOPPED"


class QueueState(StrEnum):
    """Whether queued inputs may start turns."""

    OPEN = "OPEN"
    HELD = "HELD"


class InputMode(StrEnum):
    """How an input is to be delivered."""

    QUEUE = "QUEUE"
    STEER = "STEER"
    NOW = "NOW"


class AfterInterrupt(StrEnum):
    """What happens to the queue once a turn was interrupted."""

    RUN = "RUN"
    HOLD = "HOLD"
    DROP = "DROP"


class ConsumePolicy(StrEnum):
    """How many inputs one turn takes."""

    ONE = "ONE"
    ALL = "ALL"


class ApprovalPolicy(StrEnum):
    """Who answers when the agent asks for leave."""

    ASK = "ASK"
    ALLOW = "ALLOW"
    DENY = "DENY"


@dataclass(frozen=True, slots=True)
class Rule:
    """What is decided of the calls that it is about; see `bridle_core.approval_rules`.

    tool: a tool's name; one that ends with `*` means all that begin so. argument: which one of the
    call's is compared: "" its command, a name, a JSON pointer, or "*" all of them as one. value:
    what the argument begins with, or with `exact` what it is. Neither value nor exact: every call.
    """

    tool: str
    decision: ApprovalPolicy
    argument: str = ""
    value: str = ""
    exact: bool = False

    @property
    def every(self) -> bool:
        """Whether it is about every call of the tool."""
        return not (self.value or self.exact)


class Decider(StrEnum):
    """Who or what decided an approval; bridle.v1.ApprovalDecider without its prefix."""

    PRINCIPAL = "PRINCIPAL"
    POLICY = "POLICY"
    RULE = "RULE"
    TIMEOUT = "TIMEOUT"
    INTERRUPT = "INTERRUPT"
    TURN_END = "TURN_END"
    AGENT = "AGENT"


class CancelReason(StrEnum):
    """Why an input will never run."""

    REQUESTED = "REQUESTED"
    INTERRUPTED = "INTERRUPTED"
    DROPPED = "DROPPED"
    EXPIRED = "EXPIRED"
    STOPPED = "STOPPED"
    KILLED = "KILLED"
    CAPABILITY_MISSING = "CAPABILITY_MISSING"


class TurnTrigger(StrEnum):
    """What set a turn off."""

    INPUT = "INPUT"
    AGENT = "AGENT"


class PrincipalKind(StrEnum):
    """What kind of actor a principal is."""

    USER = "USER"
    SESSION = "SESSION"
    HOST = "HOST"
    SYSTEM = "SYSTEM"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who did something, as control stamped it."""

    kind: PrincipalKind
    id: str = ""
    name: str = ""


#: Bridle itself: a limit in time, a rule.
SYSTEM = Principal(PrincipalKind.SYSTEM)


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of one session, with the defaults filled in. Durations in seconds; 0 means never.

    `interrupt_grace` alone takes its 0 literally: an interrupted turn gets no time at all.
    """

    after_interrupt: AfterInterrupt = AfterInterrupt.RUN
    consume: ConsumePolicy = ConsumePolicy.ONE
    approval: ApprovalPolicy = ApprovalPolicy.ASK
    start_timeout: float = 60.0
    turn_timeout: float = 0.0
    approval_timeout: float = 0.0
    input_ttl: float = 0.0
    idle_ttl: float = 0.0
    interrupt_grace: float = 5.0
    rules: tuple[Rule, ...] = ()
