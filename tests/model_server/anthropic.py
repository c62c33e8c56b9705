"""Anthropic Messages: POST /v1/messages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.model_server.apis import event
from tests.model_server.conversation import Entry, Request, Role, as_text

_REASONS = {"stop": "end_turn", "tool": "tool_use", "length": "max_tokens", "refusal": "refusal"}


def read(body: Mapping[str, Any]) -> Request:
    entries = [Entry(Role.SYSTEM, as_text(body.get("system") or ""))]
    for message in body.get("messages") or ():
        entries += _entries(message)
    tools = {t["name"]: t.get("input_schema") or {} for t in body.get("tools") or () if "name" in t}
    return Request(
        "anthropic",
        str(body.get("model") or ""),
        bool(body.get("stream")),
        entries,
        tools,
        body,
    )


def _entries(message: Mapping[str, Any]) -> Iterator[Entry]:
    role = Role.ASSISTANT if message.get("role") == "assistant" else Role.USER
    content = message.get("content") or ""
    for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
        match part.get("type"):
            case "text":
                yield Entry(role, part.get("text") or "")
            case "tool_use":
                arguments = json.dumps(part.get("input"))
                yield Entry(Role.CALL, arguments, part.get("id") or "", part.get("name") or "")
            case "tool_result":
                said = as_text(part.get("content") or "")
                yield Entry(Role.RESULT, said, part.get("tool_use_id") or "")


class Answer:
    """See apis.Api."""

    def __init__(self, request: Request, message_id: str) -> None:
        self._stream = request.stream
        self._message: dict[str, Any] = {
            "id": f"msg_{message_id}",
            "type": "message",
            "role": "assistant",
            "model": request.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {
                "input_tokens": 100,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": 1,
            },
        }
        self._blocks: list[dict[str, Any]] = []
        self._pieces = 0

    def begin(self) -> bytes:
        return self._event({"type": "message_start", "message": self._message})

    def text(self, piece: str) -> bytes:
        return self._piece("text", piece, {"type": "text", "text": ""}, "text_delta")

    def thought(self, piece: str) -> bytes:
        empty = {"type": "thinking", "thinking": "", "signature": ""}
        return self._piece("thinking", piece, empty, "thinking_delta")

    def _piece(self, kind: str, piece: str, empty: Mapping[str, Any], delta: str) -> bytes:
        self._pieces += 1
        begun = b""
        if not self._blocks or self._blocks[-1]["type"] != kind:
            begun = self._close() + self._open(dict(empty))
        self._blocks[-1][kind] += piece
        return begun + self._delta({"type": delta, kind: piece})

    def call(self, call_id: str, name: str, arguments: str) -> bytes:
        said = self._close()
        said += self._open({"type": "tool_use", "id": call_id, "name": name, "input": {}})
        self._blocks[-1]["input"] = json.loads(arguments)
        return said + self._delta({"type": "input_json_delta", "partial_json": arguments})

    def end(self, reason: str) -> bytes:
        said = self._close()
        ended = {"stop_reason": _REASONS[reason], "stop_sequence": None}
        usage = {"output_tokens": self._pieces + 1}
        if not self._stream:
            whole_usage = {**self._message["usage"], **usage}
            whole = {**self._message, "content": self._blocks, **ended, "usage": whole_usage}
            return json.dumps(whole).encode()
        said += self._event({"type": "message_delta", "delta": ended, "usage": usage})
        return said + self._event({"type": "message_stop"})

    def _open(self, block: dict[str, Any]) -> bytes:
        self._blocks.append(block)
        number = len(self._blocks) - 1
        return self._event(
            {"type": "content_block_start", "index": number, "content_block": dict(block)}
        )

    def _delta(self, delta: Mapping[str, Any]) -> bytes:
        number = len(self._blocks) - 1
        return self._event({"type": "content_block_delta", "index": number, "delta": delta})

    def _close(self) -> bytes:
        if not self._blocks:
            return b""
        said = b""
        if self._blocks[-1]["type"] == "thinking":
            self._blocks[-1]["signature"] = "c2lnbmVk"
            said = self._delta({"type": "signature_delta", "signature": "c2lnbmVk"})
        number = len(self._blocks) - 1
        return said + self._event({"type": "content_block_stop", "index": number})

    def _event(self, value: Mapping[str, Any]) -> bytes:
        return event(value) if self._stream else b""

    @staticmethod
    def error(status: int, message: str) -> Mapping[str, Any]:
        kind = "api_error" if status >= 500 else "invalid_request_error"
        return {"type": "error", "error": {"type": kind, "message": message}}
