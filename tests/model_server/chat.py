"""OpenAI Chat Completions: POST /v1/chat/completions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.model_server.apis import data
from tests.model_server.conversation import Entry, Request, Role, as_text

_ROLES = {"assistant": Role.ASSISTANT, "user": Role.USER}
_REASONS = {
    "stop": "stop",
    "tool": "tool_calls",
    "length": "length",
    "refusal": "content_filter",
}


def read(body: Mapping[str, Any]) -> Request:
    entries: list[Entry] = []
    for message in body.get("messages") or ():
        entries += _entries(message)
    functions = [tool.get("function") or {} for tool in body.get("tools") or ()]
    tools = {f["name"]: f.get("parameters") or {} for f in functions if "name" in f}
    model, stream = str(body.get("model") or ""), bool(body.get("stream"))
    return Request("chat", model, stream, entries, tools, body)


def _entries(message: Mapping[str, Any]) -> Iterator[Entry]:
    said = as_text(message.get("content") or "")
    if message.get("role") == "tool":
        yield Entry(Role.RESULT, said, message.get("tool_call_id") or "")
        return
    calls = message.get("tool_calls") or ()
    if said or not calls:
        yield Entry(_ROLES.get(str(message.get("role")), Role.SYSTEM), said)
    for call in calls:
        function = call.get("function") or {}
        arguments, name = function.get("arguments") or "", function.get("name") or ""
        yield Entry(Role.CALL, arguments, call.get("id") or "", name)


class Answer:
    """See apis.Api."""

    def __init__(self, request: Request, message_id: str) -> None:
        self._request = request
        self._id = f"chatcmpl-{message_id}"
        self._message: dict[str, Any] = {"role": "assistant", "content": ""}
        self._pieces = 0

    def begin(self) -> bytes:
        return self._chunk({"role": "assistant", "content": ""})

    def text(self, piece: str) -> bytes:
        self._pieces += 1
        self._message["content"] += piece
        return self._chunk({"content": piece})

    def thought(self, piece: str) -> bytes:
        self._pieces += 1
        before = self._message.get("reasoning_content", "")
        self._message["reasoning_content"] = before + piece
        return self._chunk({"reasoning_content": piece})

    def call(self, call_id: str, name: str, arguments: str) -> bytes:
        made = {
            "id": call_id,
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }
        calls = self._message.setdefault("tool_calls", [])
        calls.append(made)
        return self._chunk({"tool_calls": [{"index": len(calls) - 1, **made}]})

    def end(self, reason: str) -> bytes:
        tokens = self._pieces + 1
        usage = {
            "prompt_tokens": 100,
            "completion_tokens": tokens,
            "total_tokens": 100 + tokens,
        }
        if not self._request.stream:
            choice = {"index": 0, "message": self._message, "finish_reason": _REASONS[reason]}
            return json.dumps(self._body("chat.completion", [choice], usage)).encode()
        said = self._chunk({}, _REASONS[reason])
        said += data(self._body("chat.completion.chunk", [], usage))
        return said + b"data: [DONE]\n\n"

    def _chunk(self, delta: Mapping[str, Any], reason: str | None = None) -> bytes:
        if not self._request.stream:
            return b""
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return data(self._body("chat.completion.chunk", [choice], None))

    def _body(self, kind: str, choices: object, usage: object) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": 1,
            "model": self._request.model,
            "choices": choices,
            "usage": usage,
        }

    @staticmethod
    def error(status: int, message: str) -> Mapping[str, Any]:
        kind = "server_error" if status >= 500 else "invalid_request_error"
        return {"error": {"message": message, "type": kind, "param": None, "code": None}}
