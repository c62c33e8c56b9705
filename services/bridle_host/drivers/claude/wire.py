"""The language of Claude Code's streaming JSON mode: JSON, one object a line.

Pure: bytes to fields and back, and nothing of what they mean. What the agent says is taken for
hostile: each field is asked for by its type. Used by the dialect of the driver `claude` only.

To the agent:
    user {uuid, priority, message {role, content}}            a message; the uuid names it
    control_request {request_id, request {subtype, …}}        initialize, interrupt, stop_task …
    control_response {response {subtype, request_id, …}}      what it asked is answered

A line that is no JSON ends the agent, so none is ever written.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence

from bridle_core.observations import Content, Image, Text
from bridle_core.utf8 import clean
from bridle_host.drivers.lines.dialect import UnreadableError

#: Names and ids; longer ones are no names.
NAME = 256
#: What a list may hold, in elements.
LISTED = 10_000


class Fields:
    """An object, with each field asked for by its type. Raises UnreadableError."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        self._fields = fields

    def raw(self, name: str) -> object:
        """As it is; None where it is missing."""
        return self._fields.get(name)

    def json(self) -> str:
        """The object as JSON text."""
        return clean(json.dumps(self._fields, ensure_ascii=False))

    def text(self, name: str, default: str | None = None) -> str:
        """default: for a field that is missing or null."""
        value = self._fields.get(name)
        if value is None:
            value = default
        if not isinstance(value, str):
            raise UnreadableError(f"{name} is no text")
        return clean(value)

    def name(self, name: str, default: str | None = None) -> str:
        """A text that is short."""
        text = self.text(name, default)
        if len(text) > NAME:
            raise UnreadableError(f"{name} is too long")
        return text

    def maybe_text(self, name: str) -> str:
        """ "" where it is no text: for what is only shown."""
        value = self._fields.get(name)
        return clean(value) if isinstance(value, str) else ""

    def count(self, name: str) -> int:
        """0 where it is missing."""
        value = self._fields.get(name)
        if value is None:
            return 0
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
            raise UnreadableError(f"{name} is no count")
        return value

    def amount(self, name: str) -> float:
        """0 where it is missing."""
        value = self._fields.get(name)
        if value is None:
            return 0.0
        # A million million is more than anybody pays, and no number that isn't one passes.
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e12:
            raise UnreadableError(f"{name} is no amount")
        return float(value)

    def flag(self, name: str) -> bool:
        """Whether it is true."""
        return self._fields.get(name) is True

    def object(self, name: str) -> Fields:
        """The object in it."""
        value = self._fields.get(name)
        if not isinstance(value, dict):
            raise UnreadableError(f"{name} is no object")
        return Fields(value)

    def maybe_object(self, name: str) -> Fields:
        """An empty one where it is none."""
        value = self._fields.get(name)
        return Fields(value if isinstance(value, dict) else {})

    def objects(self, name: str) -> list[Fields]:
        """The objects in a list; an empty one where it is missing."""
        value = self._fields.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > LISTED:
            raise UnreadableError(f"{name} is no list")
        if not all(isinstance(entry, dict) for entry in value):
            raise UnreadableError(f"{name} holds what is no object")
        return [Fields(entry) for entry in value]

    def named_objects(self, name: str) -> dict[str, Fields]:
        """The objects in an object, by their names."""
        value = self._fields.get(name)
        if not isinstance(value, dict):
            return {}
        return {
            clean(key): Fields(entry) for key, entry in value.items() if isinstance(entry, dict)
        }


def parse(line: bytes) -> Fields:
    """The object of a line. Raises UnreadableError."""
    try:
        # As text: of bytes json would guess whether they are UTF-16 or UTF-32.
        fields = json.loads(line.decode())
    except (ValueError, RecursionError):
        raise UnreadableError("it is no JSON") from None
    if not isinstance(fields, dict):
        raise UnreadableError("it is no object")
    return Fields(fields)


def user(uuid: str, priority: str, content: Sequence[Content]) -> bytes:
    """A message to the agent.

    priority: "later" for a turn of its own; "next" for the next gap of the turn that is on.
    """
    return _line(
        type="user",
        uuid=uuid,
        priority=priority,
        message={"role": "user", "content": [_piece(piece) for piece in content]},
        parent_tool_use_id=None,
        session_id="",
    )


def request(request_id: str, subtype: str, **fields: object) -> bytes:
    """A control request."""
    asked = {"subtype": subtype, **fields}
    return _line(type="control_request", request_id=request_id, request=asked)


def response(request_id: str, answer: Mapping[str, object]) -> bytes:
    """The answer to a control request of the agent."""
    told = {"subtype": "success", "request_id": request_id, "response": answer}
    return _line(type="control_response", response=told)


def refusal(request_id: str, error: str) -> bytes:
    """The answer to a control request of the agent that nobody serves."""
    told = {"subtype": "error", "request_id": request_id, "error": error}
    return _line(type="control_response", response=told)


def _line(**fields: object) -> bytes:
    return json.dumps(fields).encode("ascii") + b"\n"


def _piece(piece: Content) -> dict[str, object]:
    if isinstance(piece, Text):
        return {"type": "text", "text": piece.text}
    if isinstance(piece, Image):
        data = base64.b64encode(piece.data).decode("ascii")
        source = {"type": "base64", "media_type": piece.media_type, "data": data}
        return {"type": "image", "source": source}
    # It has tools to read by itself what it is told the address of.
    return {"type": "text", "text": f"{piece.title}: {piece.uri}" if piece.title else piece.uri}
