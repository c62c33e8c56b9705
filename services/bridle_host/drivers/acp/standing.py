"""Where a dialect of the Agent Client Protocol stands: what another object needs to go on.

Values only, each bounded, so that all of them together stay below 32 KiB: what an agent opens and
never closes must not grow what is written down with all that it says. A later version of Bridle
reads them: what is added has a default. Used by the driver `acp` only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from bridle_core import values

#: Calls that are open, or told of and held back; approvals that are open. More than any agent works
#: on at a time; of calls the oldest is forgotten (and closed with its turn), of approvals the
#: newest is cancelled.
CALLS = 24
APPROVALS = 12
#: Calls that are over, which are remembered for what comes late.
OVER = 16
#: Messages that are being written at once: the agent and its sub-agents.
LANES = 8
#: Bytes of JSON of all thoughts that are being thought.
THOUGHTS = 6 * 1024
#: Bytes of JSON of arguments that are held back, of one call.
ARGUMENTS = 1024
KEPT_VERSION = 1
#: An id or a name that is longer, or is no plain text, is told by its digest.
NAME = 64


class Stage(StrEnum):
    """How far the agent is."""

    GREETED = "GREETED"
    OPENING = "OPENING"
    UP = "UP"
    REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True)
class Lane:
    """A message or a thought that is being written. sub: the sub-agent, "" for the agent.

    agent_id: what the agent calls it, "" for nothing. size: characters so far. text: of a thought.
    """

    sub: str
    thought: bool
    agent_id: str
    id: str
    size: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call that is open. told: whether its begin was; until then arguments are held back.

    shown: characters of output that were told, and `digest` of them.
    """

    id: str
    tool: str
    title: str = ""
    arguments: str = ""
    sub: str = ""
    told: bool = False
    running: bool = False
    denied: bool = False
    shown: int = 0
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Leave:
    """An approval. request: the id of the agent's request, as JSON.

    options: the option's id for each kind that is offered. answer: the decision; "" while it is
    open. It stays after that, for the answer to be given once more where it got lost.
    """

    id: str
    request: str
    call: str
    options: tuple[tuple[str, str], ...] = ()
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Used:
    """Tokens, and millionths of a dollar (None for not known)."""

    input: int = 0
    output: int = 0
    cached: int = 0
    cost: int | None = None

    def plus(self, other: Used) -> Used:
        cost = None
        if self.cost is not None or other.cost is not None:
            cost = (self.cost or 0) + (other.cost or 0)
        return Used(
            self.input + other.input, self.output + other.output, self.cached + other.cached, cost
        )


@dataclass(slots=True)
class Standing:
    """All of it. asked: the turn that was ordered and has not begun, 0 for none."""

    stage: Stage = Stage.GREETED
    session: str = ""
    #: What the agent is, and can do.
    agent: str = ""
    version: str = ""
    model: str = ""
    login: str = ""
    resumes: bool = False
    loads: bool = False
    images: bool = False
    steers: bool = False
    #: It tells what each of its turns has cost, at its end, whoever asked for it.
    meters: bool = False
    #: While a conversation is loaded: something of it came.
    replayed: bool = False
    kept: bool = False
    asked: int = 0
    #: The open turn: "" for none, "own", or that which was asked for.
    turn: str = ""
    interrupted: bool = False
    #: What comes outside of a turn is the rest of one that is over, or of what was loaded.
    deaf: bool = True
    #: The turn that was interrupted last, until the next one is asked for.
    late: str = ""
    #: How many messages and thoughts there were.
    words: int = 0
    lanes: tuple[Lane, ...] = ()
    calls: tuple[Call, ...] = ()
    over: tuple[str, ...] = ()
    leaves: tuple[Leave, ...] = ()
    #: What is to be said with the next line.
    notes: tuple[str, ...] = ()
    #: What this process has used, and what those of the run before it had.
    used: Used = Used()
    before: Used = Used()

    def dump(self) -> bytes:
        return values.dump(self).encode()

    @classmethod
    def load(cls, state: bytes) -> Standing:
        """b"" is that of a process that said nothing yet. Raises ValueError."""
        return values.load(cls, state) if state else cls()


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept for a later Resume, and for a process that takes this one's place in the run.

    session: the agent's own name of the conversation. used: in the run `run`.
    """

    version: int = 0
    session: str = ""
    run: int = 0
    used: Used = Used()

    def dump(self) -> bytes:
        return values.dump(self).encode()

    @classmethod
    def load(cls, state: bytes) -> Kept:
        """Raises ValueError with a line for people."""
        kept = values.load(cls, state)
        if kept.version != KEPT_VERSION or not kept.session:
            raise ValueError("the agent's conversation was kept by another version of Bridle")
        return kept


def named(name: str) -> str:
    """A name of the agent's, short and plain: as it is, or else its digest."""
    if len(name) <= NAME and name.isascii() and name.isprintable():
        return name
    return digest(name)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]
