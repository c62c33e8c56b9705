"""The language between the driver `scripted` and its agent: JSON, one object a line.

Pure: bytes to values and back. What the agent says is taken for hostile, as with any agent: each
field is looked at, and a line that is not as it should be raises UnreadableError. Used by the
dialect only.

To the agent:
    hello {resume: null | {conversation, memory}, always: [tool]}     first
    turn {turn, content: [{text} | {image, size} | {uri}]}
    steer {input, content}
    interrupt {}
    respond {approval, decision, message}
    stop {}

From the agent:
    ready {version, resumed, quiet, seedable}  |  refused {message}                     first
    turn_began {turn | null}
    text {id, text}  message {id, text, sub}  thought {id, text, sub}
    tool_started {id, tool, arguments, sub}  tool_output {id, stream, hex}
    tool_ended {id, status, code}  plan {steps: [[text, state]]}
    usage {model, input_tokens, output_tokens, cached_tokens, cost_micro_usd}
    approval_asked {id, tool, arguments, reason}  approval_withdrawn {id}
    steered {input}  memory {memory, always}
    turn_ended {reason, message}
    bye {}                                                             it means to end
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from bridle_core.observations import (
    ApprovalAsked,
    ApprovalWithdrawn,
    Content,
    Image,
    Message,
    MessageText,
    Observation,
    OutputStream,
    Plan,
    PlanStep,
    Steered,
    StopReason,
    Text,
    Thought,
    ToolEnded,
    ToolOutput,
    ToolStarted,
    ToolStatus,
    Usage,
)
from bridle_host.drivers.lines.dialect import (
    Began,
    Bye,
    Ended,
    Refused,
    UnreadableError,
)
from bridle_host.drivers.output import PIECE

#: Names and ids; longer ones are no names.
NAME = 256
#: How much live text is told at once, in characters.
LIVE = 16 * 1024


@dataclass(frozen=True, slots=True)
class Up:
    """The agent is up, with manners that its script gave it; see `Dialect`."""

    version: str
    resumed: bool
    quiet: float
    seedable: bool


@dataclass(frozen=True, slots=True)
class Memory:
    """What the agent wants to have again after a resume."""

    memory: Mapping[str, str] = field(repr=False)
    always: tuple[str, ...]


Word = Up | Refused | Began | Ended | Memory | Bye | tuple[Observation, ...]


# --- To the agent --------------------------------------------------------------------------------


def line(kind: str, **fields: object) -> bytes:
    """One line."""
    return json.dumps({"type": kind, **fields}).encode("ascii") + b"\n"


def content_of(content: Sequence[Content]) -> list[dict[str, object]]:
    """Pictures are not sent themselves: the agent only tells what came."""
    pieces: list[dict[str, object]] = []
    for piece in content:
        if isinstance(piece, Text):
            pieces.append({"text": piece.text})
        elif isinstance(piece, Image):
            pieces.append({"image": piece.media_type, "size": len(piece.data)})
        else:
            pieces.append({"uri": piece.uri})
    return pieces


# --- From the agent ------------------------------------------------------------------------------


class _Fields:
    """One line's object, with each field asked for by its type."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        self._fields = fields

    def text(self, name: str, default: str | None = None, limit: int | None = None) -> str:
        value = self._fields.get(name, default)
        if not isinstance(value, str):
            raise UnreadableError(f"{name} is no text")
        # Half of a surrogate pair is no text that could be stored.
        value = value.encode("utf-8", "replace").decode()
        if limit is not None and len(value) > limit:
            raise UnreadableError(f"{name} is too long")
        return value

    def name(self, name: str, default: str | None = None) -> str:
        return self.text(name, default, NAME)

    def count(self, name: str, default: int | None = None) -> int:
        value = self._fields.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
            raise UnreadableError(f"{name} is no count")
        return value

    def maybe(self, name: str) -> int | None:
        return None if self._fields.get(name) is None else self.count(name)

    def flag(self, name: str) -> bool:
        return self._fields.get(name) is True

    def list(self, name: str) -> list[Any]:
        value = self._fields.get(name)
        if not isinstance(value, list) or len(value) > 1000:
            raise UnreadableError(f"{name} is no list")
        return value

    def json(self, name: str) -> str:
        text = self.text(name, "{}")
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            raise UnreadableError(f"{name} is no JSON") from None
        return text

    def texts(self, name: str) -> dict[str, str]:
        value = self._fields.get(name)
        if not isinstance(value, dict):
            raise UnreadableError(f"{name} is no object")
        if not all(isinstance(entry, str) for entry in value.values()):
            raise UnreadableError(f"{name} holds what is no text")
        return value


OneOf = TypeVar("OneOf", bound=StrEnum)


def _word(words: type[OneOf], fields: _Fields, name: str) -> OneOf:
    try:
        return words(fields.text(name))
    except ValueError:
        raise UnreadableError(f"{name} is none of its words") from None


#: How a turn may end by the agent's own word.
_REASONS = frozenset(
    {
        StopReason.COMPLETED,
        StopReason.INTERRUPTED,
        StopReason.FAILED,
        StopReason.REFUSED,
        StopReason.LIMIT_REACHED,
    }
)


def _ended(fields: _Fields) -> Ended:
    reason = _word(StopReason, fields, "reason")
    if reason not in _REASONS:
        raise UnreadableError("reason is not the agent's to give")
    return Ended(reason, fields.text("message", "", 4096))


def _text(fields: _Fields) -> tuple[Observation, ...]:
    name, text = fields.name("id"), fields.text("text")
    return tuple(
        MessageText(name, text[start : start + LIVE]) for start in range(0, len(text), LIVE)
    )


def _tool_output(fields: _Fields) -> tuple[Observation, ...]:
    name, stream = fields.name("id"), _word(OutputStream, fields, "stream")
    try:
        data = bytes.fromhex(fields.text("hex"))
    except ValueError:
        raise UnreadableError("hex is no bytes") from None
    return tuple(
        ToolOutput(name, data[start : start + PIECE], stream)
        for start in range(0, len(data), PIECE)
    )


def _plan(fields: _Fields) -> tuple[Observation, ...]:
    steps = []
    for entry in fields.list("steps"):
        step = entry if isinstance(entry, list) and len(entry) == 2 else [None, None]
        text = _Fields({"text": step[0], "state": step[1]})
        state = text.text("state")
        if state not in ("PENDING", "IN_PROGRESS", "COMPLETED"):
            raise UnreadableError("a step's state is none of its words")
        steps.append(PlanStep(text.text("text"), state))
    return (Plan(tuple(steps)),)


def _usage(fields: _Fields) -> tuple[Observation, ...]:
    return (
        Usage(
            input_tokens=fields.count("input_tokens", 0),
            output_tokens=fields.count("output_tokens", 0),
            cached_tokens=fields.count("cached_tokens", 0),
            cost_micro_usd=fields.maybe("cost_micro_usd"),
            model=fields.name("model", ""),
        ),
    )


def _tool_started(fields: _Fields) -> tuple[Observation, ...]:
    return (
        ToolStarted(
            fields.name("id"),
            fields.name("tool"),
            fields.json("arguments"),
            sub_agent=fields.name("sub", ""),
        ),
    )


def _memory(fields: _Fields) -> Memory:
    always = fields.list("always")
    if not all(isinstance(tool, str) for tool in always):
        raise UnreadableError("always holds what is no name")
    return Memory(fields.texts("memory"), tuple(always))


_READERS: Mapping[str, Callable[[_Fields], Word]] = {
    "ready": lambda f: Up(
        f.name("version"), f.flag("resumed"), f.count("quiet", 0) / 1000, f.flag("seedable")
    ),
    "refused": lambda f: Refused(f.text("message", limit=4096)),
    "turn_began": lambda f: Began(f.maybe("turn")),
    "turn_ended": _ended,
    "text": _text,
    "message": lambda f: (
        Message(f.name("id"), (Text(f.text("text")),), sub_agent=f.name("sub", "")),
    ),
    "thought": lambda f: (Thought(f.name("id"), f.text("text"), sub_agent=f.name("sub", "")),),
    "tool_started": _tool_started,
    "tool_output": _tool_output,
    "tool_ended": lambda f: (
        ToolEnded(f.name("id"), _word(ToolStatus, f, "status"), f.maybe("code")),
    ),
    "plan": _plan,
    "usage": _usage,
    "approval_asked": lambda f: (
        ApprovalAsked(f.name("id"), f.name("tool"), f.json("arguments"), f.text("reason", "")),
    ),
    "approval_withdrawn": lambda f: (ApprovalWithdrawn(f.name("id")),),
    "steered": lambda f: (Steered(f.name("input")),),
    "memory": _memory,
    "bye": lambda _f: Bye(),
}


def read(said: bytes) -> Word:
    """What a line says: something about the turn's course, or observations.

    Raises UnreadableError.
    """
    try:
        # As text: of bytes json would guess whether they are UTF-16 or UTF-32.
        fields = json.loads(said.decode())
    except (ValueError, RecursionError):
        raise UnreadableError("it is no JSON") from None
    if not isinstance(fields, dict):
        raise UnreadableError("it is no object")
    kind = fields.get("type")
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise UnreadableError("it is of no known type")
    return reader(_Fields(fields))
