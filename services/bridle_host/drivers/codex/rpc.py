"""Codex's lines: JSON-RPC, one object a line, without the member that names the version.

Pure: bytes to values and back. The agent may be hostile, so each field is looked at before it is
used (`Fields`); a line that is not as it should be is Unreadable. Used by this driver only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bridle_host.drivers.lines.dialect import UnreadableError

#: Names and ids; longer ones are no names.
NAME = 256
#: What the protocol calls a method that the other side doesn't have, and one that failed.
NO_METHOD = -32601
INVALID_REQUEST = -32600

RequestId = str | int


class Fields:
    """An object of the agent's. Every getter raises UnreadableError on what is of another kind."""

    def __init__(self, value: object, what: str = "it") -> None:
        if not isinstance(value, dict):
            raise UnreadableError(f"{what} is no object")
        self._fields: dict[str, Any] = value

    def raw(self, name: str) -> Any:
        """As it came; None where it is missing."""
        return self._fields.get(name)

    def text(self, name: str) -> str:
        """Text that can be stored; "" where it is missing or null."""
        value = self._fields.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise UnreadableError(f"{name} is no text")
        # Half of a surrogate pair is no text that could be stored.
        return value.encode("utf-8", "replace").decode()

    def name(self, name: str) -> str:
        """A text that is short enough for a name; "" where it is missing or null."""
        value = self.text(name)
        if len(value) > NAME:
            raise UnreadableError(f"{name} is too long")
        return value

    def id(self, name: str) -> str:
        """A name that must be there."""
        value = self.name(name)
        if not value:
            raise UnreadableError(f"{name} is missing")
        return value

    def count(self, name: str) -> int:
        """0 where it is missing or null."""
        value = self._fields.get(name)
        if value is None:
            return 0
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
            raise UnreadableError(f"{name} is no count")
        return value

    def exit_code(self, name: str) -> int | None:
        """None where it is missing, null or no exit code."""
        value = self._fields.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            return None
        return value if -(2**31) <= value < 2**31 else None

    def flag(self, name: str) -> bool:
        return self._fields.get(name) is True

    def inner(self, name: str) -> Fields:
        """An object that must be there."""
        return Fields(self._fields.get(name), name)

    def maybe(self, name: str) -> Fields | None:
        """An object, or None where it is missing or null."""
        value = self._fields.get(name)
        return None if value is None else Fields(value, name)

    def each(self, name: str) -> Iterator[Fields]:
        """The objects of a list; none where it is missing or null."""
        for entry in self._list(name):
            yield Fields(entry, f"an entry of {name}")

    def texts(self, name: str) -> list[str]:
        """The texts of a list; none where it is missing or null."""
        return [Fields({name: entry}).text(name) for entry in self._list(name)]

    def _list(self, name: str) -> Sequence[object]:
        value = self._fields.get(name)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise UnreadableError(f"{name} is no list")
        return value


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request of ours led to: `result`, or `error` (a line for people) and its `code`."""

    id: RequestId
    result: Any = field(default=None, repr=False)
    error: str | None = None
    code: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """The agent wants something of us, and waits."""

    id: RequestId
    method: str
    params: Fields


@dataclass(frozen=True, slots=True)
class Notice:
    """The agent tells something."""

    method: str
    params: Fields


def parse(line: bytes) -> Answer | Request | Notice:
    """Raises UnreadableError."""
    try:
        # As text: of bytes json would guess whether they are UTF-16 or UTF-32.
        value = json.loads(line.decode())
    except (ValueError, RecursionError):
        raise UnreadableError("it is no JSON") from None
    fields = Fields(value)
    params = fields.raw("params")
    method, inner = fields.name("method"), Fields({} if params is None else params, "params")
    given = fields.raw("id")
    if given is None:
        if not method:
            raise UnreadableError("it is neither an answer nor a method")
        return Notice(method, inner)
    if not isinstance(given, int | str) or isinstance(given, bool) or len(str(given)) > NAME:
        raise UnreadableError("id is none")
    if method:
        return Request(given, method, inner)
    if (error := fields.maybe("error")) is not None:
        code = error.raw("code")
        message = error.text("message") or "an error without a message"
        return Answer(given, error=message, code=code if isinstance(code, int) else 0)
    return Answer(given, result=fields.raw("result"))


def request(name: str, method: str, params: Mapping[str, object]) -> bytes:
    """A line that wants an answer. `name` is its id, among all requests to this process."""
    return _line({"id": name, "method": method, "params": params})


def notice(method: str) -> bytes:
    """A line that wants none."""
    return _line({"method": method})


def answer(given: RequestId, result: Mapping[str, object]) -> bytes:
    return _line({"id": given, "result": result})


def refusal(given: RequestId, message: str) -> bytes:
    """The answer to what we don't have."""
    return _line({"id": given, "error": {"code": NO_METHOD, "message": message}})


def _line(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"
