"""The contract's methods as connectrpc's endpoints, each behind the gate.

`Handlers` takes the place of a grpc server where services are registered: the same registration
serves both ports. Called by `server`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import anyio
import grpc
from anyio.streams.memory import MemoryObjectSendStream
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import RequestContext
from connectrpc.server import ConnectASGIApplication, Endpoint
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from bridle_control.gateway.exchange import Exchange
from bridle_control.gateway.messages import Answer, BinaryCodec, JsonCodec, Request
from bridle_control.interceptor import TRANSPORT_MAX, Gate


class Handlers:
    """What services were registered: path of a method -> its handler."""

    def __init__(self) -> None:
        self._found: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        self._generic: list[grpc.GenericRpcHandler] = []

    def add_generic_rpc_handlers(
        self, generic_rpc_handlers: Sequence[grpc.GenericRpcHandler]
    ) -> None:
        """As of a grpc server."""
        self._generic.extend(generic_rpc_handlers)

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """As of a grpc server, which gets each handler in both ways."""
        for name, handler in method_handlers.items():
            self._found[f"/{service_name}/{name}"] = handler

    def of(self, path: str) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler of a method. Raises LookupError where none was registered."""
        if path in self._found:
            return self._found[path]
        for generic in self._generic:
            if (handler := generic.service(_Details(path))) is not None:
                return handler
        raise LookupError(path)


class _Details(grpc.HandlerCallDetails):
    def __init__(self, method: str) -> None:
        self.method = method
        self.invocation_metadata = ()


class ServiceCalls(ConnectASGIApplication[Handlers]):
    """One service by HTTP."""

    def __init__(
        self, service: ServiceDescriptor, handlers: Handlers, gate: Gate, tasks: asyncio.TaskGroup
    ) -> None:
        self._descriptor = service
        super().__init__(
            service=handlers,
            endpoints=lambda found: {
                path: _endpoint(method, _guard(path, method, found.of(path), gate), tasks)
                for method in service.methods
                for path in [f"/{service.full_name}/{method.name}"]
            },
            # Beyond it connectrpc refuses; somewhat less is refused by the gate, with its reason.
            read_max_bytes=TRANSPORT_MAX,
            codecs=(BinaryCodec(), JsonCodec()),
        )

    @property
    def path(self) -> str:
        """What all its methods' paths begin with."""
        return f"/{self._descriptor.full_name}"


def _guard(
    path: str,
    method: MethodDescriptor,
    handler: grpc.RpcMethodHandler[Any, Any],
    gate: Gate,
) -> grpc.RpcMethodHandler[Any, Any]:
    """The handler behind the gate; it takes a Request, which it parses once it knows the caller."""
    message_class: type[Message] = GetMessageClass(method.input_type)

    def parse(request: Request) -> Message:
        return request.parse(message_class)

    # (grpc's types know only the synchronous shapes, and requests as bytes.)
    behavior: Any = handler.unary_stream or handler.unary_unary
    make: Any = (
        grpc.unary_stream_rpc_method_handler
        if method.server_streaming
        else grpc.unary_unary_rpc_method_handler
    )
    return gate.guard(path, make(behavior, parse, handler.response_serializer))


def _endpoint(
    method: MethodDescriptor,
    guarded: grpc.RpcMethodHandler[Any, Any],
    tasks: asyncio.TaskGroup,
) -> Any:
    # (What kinds of endpoints there are is the library's own.)
    output: type[Message] = GetMessageClass(method.output_type)
    info: MethodInfo[Any, Any] = MethodInfo(
        name=method.name,
        service_name=method.containing_service.full_name,
        input=Request,
        output=Answer,
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=StreamType.SERVER_STREAM if method.server_streaming else StreamType.UNARY,
    )
    if method.server_streaming:

        def answers(request: Request, context: RequestContext[Any, Any]) -> AsyncIterator[Answer]:
            return _stream(guarded, request, context, output, tasks)

        return Endpoint.server_stream(info, answers)
    unary: Any = guarded.unary_unary

    async def answer(request: Request, context: RequestContext[Any, Any]) -> Answer:
        return Answer(await unary(request, Exchange(context)), output)

    return Endpoint.unary(info, answer)


async def _stream(
    guarded: grpc.RpcMethodHandler[Any, Any],
    request: Request,
    context: RequestContext[Any, Any],
    output: type[Message],
    tasks: asyncio.TaskGroup,
) -> AsyncIterator[Answer]:
    """A stream's answers, pulled: the gate's handlers push theirs.

    The handler has a task of its own, because the gate ends a call by cancelling its task, and has
    to find itself in it. Nothing is stored between the two: who reads slowly makes it wait.
    """
    sending, receiving = anyio.create_memory_object_stream[bytes](max_buffer_size=0)
    failures: list[ConnectError] = []
    task = tasks.create_task(_push(guarded, request, context, sending, failures))
    try:
        async for raw in receiving:
            yield Answer(raw, output)
        if failures:
            raise failures[0]
    finally:
        receiving.close()
        task.cancel()
        await asyncio.wait([task])


async def _push(
    guarded: grpc.RpcMethodHandler[Any, Any],
    request: Request,
    context: RequestContext[Any, Any],
    sending: MemoryObjectSendStream[bytes],
    failures: list[ConnectError],
) -> None:
    # (grpc's types know only the synchronous shapes.)
    handler: Any = guarded.unary_stream
    encode: Any = guarded.response_serializer

    async def write(answer: Message | bytes) -> None:
        # As grpc does it: some handlers write messages, some the bytes that many share.
        await sending.send(encode(answer))

    with sending:
        try:
            await handler(request, Exchange(context, write))
        except ConnectError as failure:
            failures.append(failure)
