"""The runner of the suite for Python; see README.md."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from grpc import aio

from bridle.calls import by_id
from bridle.errors import BridleError, from_rpc
from bridle.ids import uuid7
from bridle.retry import RetryPolicy
from bridle.settings import load, normal_address, token_file
from bridle.transport import Transport
from bridle.v1 import (
    event_pb2,
    host_service_pb2,
    host_service_pb2_grpc,
    identity_service_pb2,
    identity_service_pb2_grpc,
    session_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
    watch_pb2,
)
from bridle.watching import Connected, Disconnected, Target, Watch

MODULES: Any = {
    "bridle.v1.SessionService": (
        session_service_pb2,
        session_service_pb2_grpc.SessionServiceStub,
        {"WatchRequest": watch_pb2, "WatchSessionsRequest": watch_pb2},
    ),
    "bridle.v1.HostService": (host_service_pb2, host_service_pb2_grpc.HostServiceStub, {}),
    "bridle.v1.IdentityService": (
        identity_service_pb2,
        identity_service_pb2_grpc.IdentityServiceStub,
        {},
    ),
}


#: What the caller wants to go with its calls.
METADATA: ContextVar[dict[str, str]] = ContextVar("METADATA")


def with_metadata(details: Any) -> Any:
    return details._replace(metadata=aio.Metadata(*details.metadata, *METADATA.get().items()))


class UnaryMetadata(aio.UnaryUnaryClientInterceptor):
    """An interceptor as those for traces are: what it adds it has from the caller's context."""

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(with_metadata(details), request)


class StreamMetadata(aio.UnaryStreamClientInterceptor):
    """The same for streams."""

    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(with_metadata(details), request)


class Runner:
    """Does what it is told, each order as a task of its own."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._clients: dict[str, Transport] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    def take(self, order: dict[str, Any]) -> None:
        if order["op"] == "dial":
            try:
                self._clients[order["client"]] = dial(order)
            except BridleError as refused:
                self._say(order, refused=refused.message)
            else:
                self._say(order, done=True)
        elif order["op"] == "close":
            self._running[order["id"]] = self._tasks.create_task(self._close(order))
        elif order["op"] == "cancel":
            if (task := self._running.get(order["target"])) is not None:
                task.cancel()
            self._say(order, done=True)
        else:
            self._running[order["id"]] = self._tasks.create_task(self._work(order))

    def _say(self, order: dict[str, Any], **what: object) -> None:
        print(json.dumps({"id": order["id"], **what}), flush=True)

    async def close(self) -> None:
        for task in self._running.values():
            task.cancel()
        for client in self._clients.values():
            await client.close()

    async def _close(self, order: dict[str, Any]) -> None:
        await self._clients[order["client"]].close()
        self._say(order, done=True)

    async def _work(self, order: dict[str, Any]) -> None:
        METADATA.set(order.get("metadata", {}))
        try:
            if order["op"] == "watch":
                await self._watch(order)
            else:
                await self._call(order)
        except BridleError as error:
            self._say(order, error=shown_error(error))
        except json_format.ParseError as error:
            self._say(order, error={"code": "UNKNOWN", "reason": "", "message": str(error)})
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling(), "cancelled by nobody"
            self._say(order, error={"code": "CANCELLED", "reason": "", "message": "cancelled"})

    async def _call(self, order: dict[str, Any]) -> None:
        transport = self._clients[order["client"]]
        module, stub, elsewhere = MODULES[order["service"]]
        descriptor = module.DESCRIPTOR.services_by_name[order["service"].rpartition(".")[2]]
        name = descriptor.methods_by_name[order["method"]].input_type.name
        request = getattr(elsewhere.get(name, module), name)()
        if "request_bytes" in order:
            request.ParseFromString(base64.b64decode(order["request_bytes"]))
        else:
            json_format.ParseDict(order["request"], request)
        field = request.DESCRIPTOR.fields_by_name.get("request_id")
        # (Of GetCommand it is what is asked for.)
        if field is not None and field.containing_oneof is None and not request.request_id:
            request.request_id = uuid7()
        method = getattr(stub(transport.channel), order["method"])
        if order["op"] == "call":
            answer = await transport.call(method, request, order.get("timeout", 30.0))
            self._say(order, response=shown(order, answer))
            return
        call = method(request, metadata=transport.metadata(), timeout=order.get("timeout"))
        try:
            with transport.calling():
                async for answer in call:
                    self._say(order, message=shown(order, answer))
        except aio.AioRpcError as error:
            raise from_rpc(error, transport.address) from error
        self._say(order, end=True)

    async def _watch(self, order: dict[str, Any]) -> None:
        transport = self._clients[order["client"]]
        request = json_format.ParseDict(order["request"], watch_pb2.WatchRequest())
        stub: Any = session_service_pb2_grpc.SessionServiceStub(transport.channel)

        async def pin(ref: session_pb2.SessionRef) -> session_pb2.SessionRef:
            get = session_service_pb2.GetSessionRequest(session=ref)
            found = await transport.call(stub.GetSession, get, 30.0)
            return by_id(found.session.session_id, ref.workspace)

        watch = Watch(
            transport,
            stub,
            [target(each) for each in request.targets],
            pin=pin,
            until=request.until,
            kinds=request.kinds,
            live_text=request.live_text,
            connect_timeout=20.0,
        )
        async with watch:
            async for session_id, item in watch.updates():
                self._tell(order, session_id, item, watch.cursor)
        self._say(order, end=True)

    def _tell(self, order: dict[str, Any], session_id: str, item: object, cursor: int) -> None:
        match item:
            case Connected():
                self._say(order, connected=True)
            case Disconnected(error):
                self._say(order, disconnected=shown_error(error))
            case event_pb2.Event():
                event = json_format.MessageToDict(item)
                self._say(order, event=event, session=session_id, cursor=cursor)
            case watch_pb2.Progress():
                self._say(order, progress=json_format.MessageToDict(item))
            case watch_pb2.Compacted():
                self._say(order, compacted=json_format.MessageToDict(item))
            case watch_pb2.LiveText():
                self._say(order, live_text=json_format.MessageToDict(item))


def dial(order: dict[str, Any]) -> Transport:
    interceptors = (UnaryMetadata(), StreamMetadata())
    if order.get("environment"):
        found = load()
        return Transport(
            found.address,
            found.token,
            insecure=found.insecure,
            retry=RetryPolicy(),
            tls_ca=found.tls_ca,
            interceptors=interceptors,
        )
    token, authority = order["token"], order.get("authority")
    source = token_file(Path(order["token_file"])) if "token_file" in order else lambda: token
    tls_ca = None if authority is None else Path(authority)
    return Transport(
        normal_address(order["address"], "address"),
        source,
        insecure=False,
        retry=RetryPolicy(),
        tls_ca=tls_ca,
        interceptors=interceptors,
    )


def target(from_: watch_pb2.WatchTarget) -> Target:
    if from_.WhichOneof("start") == "tail":
        return Target(from_.session, cursor=None, tail=from_.tail, log_id=from_.log_id)
    return Target(from_.session, cursor=from_.after_sequence, log_id=from_.log_id)


def shown(order: dict[str, Any], message: Message) -> object:
    if order.get("answer_bytes"):
        return base64.b64encode(message.SerializeToString()).decode()
    return json_format.MessageToDict(message)


def shown_error(error: BridleError) -> dict[str, Any]:
    return {
        "code": error.code.name,
        "reason": error.reason,
        "message": error.message,
        "metadata": error.metadata,
        "fields": [each.field for each in error.fields],
        "retry_after": error.retry_after or 0,
    }


async def main() -> None:
    reader = asyncio.StreamReader(limit=16 * 1024 * 1024)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with asyncio.TaskGroup() as tasks:
        runner = Runner(tasks)
        while line := await reader.readline():
            runner.take(json.loads(line))
        await runner.close()


if __name__ == "__main__":
    asyncio.run(main())
