"""What the three APIs have in common: how a request is read, and an answer's pieces are written.

An answer is written piece by piece (`begin`, `text`, `thought`, `call`, `end`), each giving the
bytes for the wire, the same for an answer that is not streamed: that has all its bytes at the end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from tests.model_server.conversation import Request


class Api(Protocol):
    """One answer of one API."""

    def begin(self) -> bytes: ...

    def text(self, piece: str) -> bytes: ...

    def thought(self, piece: str) -> bytes: ...

    def call(self, call_id: str, name: str, arguments: str) -> bytes:
        """A whole tool call; arguments: JSON."""

    def end(self, reason: str) -> bytes:
        """reason: stop, tool, length or refusal."""

    @staticmethod
    def error(status: int, message: str) -> Mapping[str, Any]:
        """The body of a failure."""


def data(value: object) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def event(value: Mapping[str, Any]) -> bytes:
    return f"event: {value['type']}\n".encode() + data(value)


def shell_arguments(request: Request, command: str) -> str:
    """What the agent's shell tool wants to be called with, by its own schema."""
    schema = request.tools[request.shell]
    properties: Mapping[str, Any] = schema.get("properties") or {}
    name = "cmd" if "cmd" in properties else "command"
    kind = (properties.get(name) or {}).get("type")
    value: object = ["bash", "-lc", command] if kind == "array" else command
    arguments: dict[str, object] = {name: value}
    if "description" in properties:
        arguments["description"] = "does what it says"
    # As long as the tool allows before it answers that the command is still running.
    if "yield_time_ms" in properties:
        arguments["yield_time_ms"] = 30_000
    if "timeout" in properties:
        arguments["timeout"] = 600_000
    if "timeout_ms" in properties:
        arguments["timeout_ms"] = 600_000
    return json.dumps(arguments)
