"""OpenAI Responses: POST /v1/responses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.model_server.apis import event
from tests.model_server.conversation import Entry, Request, Role, as_text

_ROLES = {"assistant": Role.ASSISTANT, "user": Role.USER}


def read(body: Mapping[str, Any]) -> Request:
    entries = [Entry(Role.SYSTEM, as_text(body.get("instructions") or ""))]
    given = body.get("input") or ()
    for item in [{"role": "user", "content": given}] if isinstance(given, str) else given:
        entries += _entries(item)
    tools = {t["name"]: t.get("parameters") or {} for t in body.get("tools") or () if "name" in t}
    model, stream = str(body.get("model") or ""), bool(body.get("stream"))
    return Request("responses", model, stream, entries, tools, body)


def _entries(item: Mapping[str, Any]) -> Iterator[Entry]:
    match item.get("type") or "message":
        case "message":
            role = _ROLES.get(str(item.get("role")), Role.SYSTEM)
            yield Entry(role, as_text(item.get("content") or ""))
        case "function_call" | "custom_tool_call" as kind:
            arguments = item.get("arguments") if kind == "function_call" else item.get("input")
            name = item.get("name") or ""
            yield Entry(Role.CALL, str(arguments), item.get("call_id") or "", name)
        case "function_call_output" | "custom_tool_call_output":
            yield Entry(Role.RESULT, as_text(item.get("output") or ""), item.get("call_id") or "")


class Answer:
    """See apis.Api."""

    def __init__(self, request: Request, message_id: str) -> None:
        self._request = request
        self._id = message_id
        self._output: list[dict[str, Any]] = []
        self._open: dict[str, Any] | None = None
        self._number = 0
        self._pieces = 0

    def begin(self) -> bytes:
        return self._event("response.created", response=self._response("in_progress"))

    def text(self, piece: str) -> bytes:
        self._pieces += 1
        begun = b""
        if self._open is None or self._open["type"] != "message":
            part = {"type": "output_text", "text": "", "annotations": []}
            begun = self._close() + self._begin(
                {"type": "message", "role": "assistant", "content": []}, "msg"
            )
            begun += self._within("response.content_part.added", content_index=0, part=part)
            assert self._open is not None
            self._open["content"] = [dict(part)]
        assert self._open is not None
        self._open["content"][0]["text"] += piece
        return begun + self._within("response.output_text.delta", content_index=0, delta=piece)

    def thought(self, piece: str) -> bytes:
        self._pieces += 1
        begun = b""
        if self._open is None or self._open["type"] != "reasoning":
            part = {"type": "summary_text", "text": ""}
            begun = self._close() + self._begin({"type": "reasoning", "summary": []}, "rs")
            begun += self._within(
                "response.reasoning_summary_part.added", summary_index=0, part=part
            )
            assert self._open is not None
            self._open["summary"] = [dict(part)]
        assert self._open is not None
        self._open["summary"][0]["text"] += piece
        return begun + self._within(
            "response.reasoning_summary_text.delta", summary_index=0, delta=piece
        )

    def call(self, call_id: str, name: str, arguments: str) -> bytes:
        item = {"type": "function_call", "call_id": call_id, "name": name, "arguments": ""}
        said = self._close() + self._begin(item, "fc")
        assert self._open is not None
        self._open["arguments"] = arguments
        return said + self._within("response.function_call_arguments.delta", delta=arguments)

    def end(self, reason: str) -> bytes:
        said = self._close()
        status = "incomplete" if reason == "length" else "completed"
        response = self._response(status)
        if not self._request.stream:
            return json.dumps(response).encode()
        return said + self._event(f"response.{status}", response=response)

    def _begin(self, item: dict[str, Any], kind: str) -> bytes:
        item = {"id": f"{kind}_{self._id}_{len(self._output)}", "status": "in_progress", **item}
        self._open = item
        number = len(self._output)
        return self._event("response.output_item.added", output_index=number, item=dict(item))

    def _close(self) -> bytes:
        if (item := self._open) is None:
            return b""
        self._open = None
        item["status"] = "completed"
        said, number = b"", len(self._output)
        place = {"item_id": item["id"], "output_index": number}
        if item["type"] == "message":
            part = item["content"][0]
            done = {**place, "content_index": 0}
            said += self._event("response.output_text.done", **done, text=part["text"])
            said += self._event("response.content_part.done", **done, part=part)
        elif item["type"] == "reasoning":
            part = item["summary"][0]
            done = {**place, "summary_index": 0}
            said += self._event("response.reasoning_summary_text.done", **done, text=part["text"])
            said += self._event("response.reasoning_summary_part.done", **done, part=part)
        else:
            done = {**place, "arguments": item["arguments"]}
            said += self._event("response.function_call_arguments.done", **done)
        self._output.append(item)
        return said + self._event("response.output_item.done", output_index=number, item=item)

    def _within(self, kind: str, **more: Any) -> bytes:
        assert self._open is not None
        return self._event(kind, item_id=self._open["id"], output_index=len(self._output), **more)

    def _response(self, status: str) -> dict[str, Any]:
        tokens = self._pieces + 1
        usage = {
            "input_tokens": 100,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 100 + tokens,
        }
        cut = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            "id": f"resp_{self._id}",
            "object": "response",
            "created_at": 1,
            "status": status,
            "model": self._request.model,
            "output": list(self._output),
            "incomplete_details": cut,
            "usage": None if status == "in_progress" else usage,
        }

    def _event(self, kind: str, **more: Any) -> bytes:
        if not self._request.stream:
            return b""
        self._number += 1
        return event({"type": kind, "sequence_number": self._number, **more})

    @staticmethod
    def error(status: int, message: str) -> Mapping[str, Any]:
        kind = "server_error" if status >= 500 else "invalid_request_error"
        return {"error": {"message": message, "type": kind, "param": None, "code": None}}
