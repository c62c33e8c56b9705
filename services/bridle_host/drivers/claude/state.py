"""What the dialect of one Claude Code process knows, and what it wants kept for a later Resume.

Plain values, written down whole: another process of the host goes on with them, and it may be of
another version, so what is added has a default. Used by the driver `claude` only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from bridle_core import values
from bridle_core.observations import StopReason

#: All of it has to fit into 32 KiB; what comes beyond these bounds is forgotten. Those in bytes are
#: of what is written down, where a letter may take six.
OPEN_BLOCKS = 64
OPEN_CALLS = 16
TASK_BYTES = 5 * 1024
MUTED_BYTES = 2 * 1024
PLAN_BYTES = 10 * 1024
STEP_TEXT = 200
QUESTION_BYTES = 4 * 1024

Item = TypeVar("Item")


def fitting(items: Iterable[Item], limit: int) -> tuple[Item, ...]:
    """As many of the first dataclasses or texts as have room in so many bytes."""
    kept = []
    for item in items:
        limit -= len(json.dumps(item) if isinstance(item, str) else values.dump(item)) + 1
        if limit < 0:
            break
        kept.append(item)
    return tuple(kept)


def newest(items: Iterable[Item], limit: int) -> tuple[Item, ...]:
    """The same of the last ones."""
    return fitting(reversed(tuple(items)), limit)[::-1]


@dataclass(slots=True)
class Ending:
    """How the agent says that a turn ended."""

    reason: StopReason
    message: str = ""


@dataclass(slots=True)
class Steer:
    """An input that was given into the open turn; `begun`: the agent has taken it up."""

    input_id: str
    uuid: str
    begun: bool = False


@dataclass(slots=True)
class Open:
    """The open turn. uuid: of the message that it reacts to, "" for a turn of the agent's own."""

    name: str
    uuid: str = ""
    #: The message (or the turn of its own) is done with.
    done: bool = False
    steers: tuple[Steer, ...] = ()
    #: What the newest `result` says.
    ending: Ending | None = None
    interrupted: bool = False


@dataclass(slots=True)
class Asked:
    """A turn that was asked for and has not begun."""

    turn: int
    uuid: str


@dataclass(slots=True)
class Task:
    """Something that goes on beside the agent's own words: a sub-agent or a background job.

    tool: the tool call that began it, which its messages name. turn: in which it began.
    """

    task_id: str
    tool: str
    description: str
    turn: str
    background: bool


@dataclass(slots=True)
class Step:
    """A step of the agent's task list."""

    step_id: str
    text: str
    state: str = "PENDING"


class Planning(StrEnum):
    """The tools that move the task list, by their names."""

    CREATE = "TaskCreate"
    UPDATE = "TaskUpdate"
    LIST = "TaskList"


@dataclass(slots=True)
class PlanCall:
    """An open call of such a tool. text: of the step that it makes or renames."""

    tool_call_id: str
    tool: Planning
    text: str = ""


@dataclass(slots=True)
class Question:
    """An approval that is a question to the user, and the call's arguments as JSON text."""

    approval_id: str
    arguments: str


@dataclass(slots=True)
class Used:
    """Tokens, and millionths of a US dollar."""

    input: int = 0
    output: int = 0
    cached: int = 0
    cost: int = 0
    model: str = ""


@dataclass(slots=True)
class Block:
    """A text or a thought that is being written: its index in the message, and which it is."""

    index: int
    kind: str


@dataclass(slots=True)
class State:
    """See the module. At most 32 KiB as text."""

    #: The agent's own id of the conversation, and the one that was told to be kept.
    conversation: str = ""
    kept: str = ""
    ready: bool = False
    refused: bool = False
    asked: Asked | None = None
    open: Open | None = None
    own: int = 0
    #: The message that is being written, and its blocks that are not whole.
    message: str = ""
    blocks: tuple[Block, ...] = ()
    tasks: tuple[Task, ...] = ()
    #: Sub-agents of turns that were interrupted, by the tool calls that began them.
    muted: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    planning: tuple[PlanCall, ...] = ()
    questions: tuple[Question, ...] = ()
    used: Used = field(default_factory=Used)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a Resume needs: the conversation. `used`: in that run, by all of its processes."""

    conversation: str
    run: int = 0
    used: Used = field(default_factory=Used)
