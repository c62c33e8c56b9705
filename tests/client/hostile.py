"""A control that is out to take over its callers' terminals, and the sequences for that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc
import grpc.aio
from google.protobuf import any_pb2, message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from bridle.v1 import (
    event_pb2,
    host_service_pb2,
    identity_service_pb2,
    session_service_pb2,
    watch_pb2,
)

ESC, ST = "\x1b", "\x1b\\"


def sequences() -> list[str]:
    """All that terminals are known to obey, and what hides or reorders text; each with a mark."""
    return [f"{text}~{index}" for index, text in enumerate(dict.fromkeys(_sequences()))]


def _sequences() -> Iterator[str]:
    finals = [chr(code) for code in range(0x40, 0x7F)]
    for final in finals:
        yield from (f"{ESC}[{final}", f"{ESC}[1;2{final}", f"{ESC}[?1049{final}", f"\x9b5{final}")
    for number in (0, 1, 2, 4, 5, 7, 8, 9, 10, 11, 12, 50, 52, 104, 133, 777, 1337):
        body = {8: ";http://evil", 52: "c;ZXZpbA==", 4: "1;?", 1337: "File=inline=1:AA"}
        for end in ("\x07", ST, "\x9c", "", "\n"):
            yield f"{ESC}]{number};{body.get(number, 'evil')}{end}"
        yield f"\x9d{number};evil\x9c"
    for kind, c1 in (("P", "\x90"), ("X", "\x98"), ("^", "\x9e"), ("_", "\x9f")):
        for end in (ST, "\x9c", "\x07", ""):
            yield f"{ESC}{kind}+q544e{end}"
            yield f"{c1}$qm{end}"
    for code in range(0x20, 0x7F):
        yield f"{ESC}{chr(code)}"
    for between in ' !"#$%&()*+-./':
        yield f"{ESC}{between}0"
    for code in (*range(0x20), *range(0x7F, 0xA0)):
        yield f"a{chr(code)}b"
    yield from ("good\rEVIL", "good\b\b\b\bEVIL", "a\x0bb\x0cc", f"{ESC}[31", f"{ESC}{ESC}[2J")
    yield from (f"{ESC}]0;a{ESC}[2Jb\x07", f"{ESC}[6n{ESC}[c{ESC}[>c{ESC}[?6n{ESC}[18t{ESC}[21t")
    for code in (0xAD, 0x61C, 0x180E, *range(0x200B, 0x2010), *range(0x2028, 0x202F)):
        yield f"x{chr(code)}y"
    for code in (*range(0x2060, 0x2070), 0xFEFF, 0xFFF9, 0xE0041, 0xE007F, 0x3164, 0x2800):
        yield f"x{chr(code)}y"
    yield "e" + "\u0301" * 50


# --- messages full of it -----------------------------------------------------------------------

#: Fields that must make sense, or the client would wait, page for ever, or not ask again.
_KEPT = frozenset({"next_page_token", "log_id", "session_id"})
SESSION_ID = f"id{ESC}[2J\x9b31m\u202e"
LOG_ID = f"log{ESC}]0;evil\x07"


def fill(message: Message, text: str, depth: int = 0) -> Message:
    """Sets every field of a message: text to `text`, numbers and enums to 2, all unions' first."""
    for field in message.DESCRIPTOR.fields:
        if field.containing_oneof is not None and message.WhichOneof(field.containing_oneof.name):
            continue
        if field.name == "session_id":
            setattr(message, field.name, SESSION_ID)
            continue
        if field.name == "log_id":
            setattr(message, field.name, LOG_ID)
            continue
        if field.name == "last_sequence":
            message.last_sequence = 10**6  # type: ignore[attr-defined]
            continue
        if field.name in _KEPT:
            continue
        _fill_field(message, field, text, depth)
    return message


def _fill_field(message: Message, field: Any, text: str, depth: int) -> None:
    mine: Any = getattr(message, field.name)
    value: object = 2
    if field.message_type is not None:
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].type == FieldDescriptor.TYPE_STRING:
                mine["key" + text] = text
        elif depth < 4:
            if field.is_repeated:
                fill(mine.add(), text, depth + 1)
            else:
                mine.SetInParent()
                fill(mine, text, depth + 1)
        return
    if field.type == FieldDescriptor.TYPE_STRING:
        value = text
    elif field.type == FieldDescriptor.TYPE_BYTES:
        value = text.encode() + b"\xff\x9b31m\xc2"
    elif field.type == FieldDescriptor.TYPE_BOOL:
        value = field.name not in ("verified", "closing")
    if field.is_repeated:
        mine.append(value)
    else:
        setattr(message, field.name, value)


def answer_of(method: MethodDescriptor, texts: Sequence[str]) -> Message:
    """An answer with a text in every field; in a list, an item for each text."""
    made: Any = message_factory.GetMessageClass(method.output_type)()
    lists = [field for field in method.output_type.fields if field.is_repeated]
    if method.name.startswith("List") and lists:
        for text in texts:
            if lists[0].message_type is event_pb2.Event.DESCRIPTOR:
                continue
            fill(getattr(made, lists[0].name).add(), text)
        if lists[0].message_type is event_pb2.Event.DESCRIPTOR:
            made.events.extend(hostile_events(texts))
        return cast("Message", made)
    return fill(made, "\n".join(texts))


KINDS = [field.name for field in event_pb2.Event.DESCRIPTOR.oneofs_by_name["kind"].fields]


def hostile_events(texts: Sequence[str]) -> list[event_pb2.Event]:
    """Each kind of event with each text in all its fields (in turn), and outputs that are split."""
    found: list[event_pb2.Event] = []

    def add(**more: Any) -> event_pb2.Event:
        event = event_pb2.Event(sequence=len(found) + 1, turn=1, run=1, **more)
        event.principal.name = event.sub_agent = texts[len(found) % len(texts)]
        found.append(event)
        return event

    for index, text in enumerate(texts):
        event = add()
        inner = getattr(event, KINDS[index % len(KINDS)])
        inner.SetInParent()
        fill(inner, text)
        cut = (1, len(text) // 2, len(text) - 1)[index % 3]
        for part in (text[:cut], text[cut:]):
            output = event_pb2.ToolCallOutput(
                tool_call_id="t", stream=event_pb2.OUTPUT_STREAM_STDOUT
            )
            if index % 2:
                output.text = part
            else:
                output.data = part.encode()
            add(tool_call_output=output)
        # The same over two messages.
        for part in (text[:cut], text[cut:]) if index % 4 == 0 else ():
            said = event_pb2.AgentMessage()
            said.content.add().text = part
            add(agent_message=said)
    for kind in KINDS:
        event = add()
        inner = getattr(event, kind)
        inner.SetInParent()
        fill(inner, "\n".join(texts[:40]))
    return found


# --- the server -----------------------------------------------------------------------------------

_FILES = (session_service_pb2, host_service_pb2, identity_service_pb2)
_METHODS = {
    f"/{service.full_name}/{method.name}": method
    for file in _FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


class HostileControl(grpc.GenericRpcHandler):
    """Answers everything with texts; with `refuse` it refuses everything with them instead."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.refuse: str | None = None
        self.address = ""

    def service(self, details: Any) -> Any:
        method = _METHODS.get(details.method)
        if method is None:
            return None
        if method.name in ("Watch", "WatchSessions"):
            return grpc.unary_stream_rpc_method_handler(cast("Any", self._watch))

        async def unary(request: bytes, context: Any) -> bytes:
            await self._refused(context)
            answer = answer_of(method, self.texts)
            return answer.SerializeToString()

        return grpc.unary_unary_rpc_method_handler(cast("Any", unary))

    async def _watch(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        await self._refused(context)
        found = hostile_events(self.texts)
        for begin in range(0, len(found), 256):
            batch = watch_pb2.EventBatch(
                session_id=SESSION_ID, log_id=LOG_ID, events=found[begin : begin + 256]
            )
            yield watch_pb2.WatchResponse(events=batch).SerializeToString()
        for index, text in enumerate(self.texts[::4]):
            live = watch_pb2.LiveText(
                session_id=SESSION_ID, turn=2, message_id=f"m{index}{text}", offset=0, text=text
            )
            yield watch_pb2.WatchResponse(live_text=live).SerializeToString()
        progress = watch_pb2.Progress(
            session_id=SESSION_ID, log_id=LOG_ID, sequence=len(found), ended=True
        )
        yield watch_pb2.WatchResponse(progress=progress).SerializeToString()

    async def _refused(self, context: Any) -> None:
        if self.refuse is None:
            return
        details = any_pb2.Any()
        info = error_details_pb2.ErrorInfo(reason="NOT_ALLOWED", domain="bridle.v1")
        info.metadata["key"] = self.refuse
        details.Pack(info)
        status = status_pb2.Status(code=7, message=self.refuse, details=[details])
        metadata = (("grpc-status-details-bin", status.SerializeToString()),)
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "refused", metadata)


@asynccontextmanager
async def hostile_control(texts: Sequence[str]) -> AsyncIterator[HostileControl]:
    """Serves one on any free port."""
    control = HostileControl(texts)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((control,))
    control.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield control
    finally:
        await server.stop(None)
        await asyncio.sleep(0)
