"""Traces through OpenTelemetry: interceptors for `Client(interceptors=tracing.interceptors())`.

They make a span for each try of a call and each connection of a watch, below the caller's current
one, and hand it on to control. Names and attributes are those of OpenTelemetry's conventions for
RPC; nothing of what is said goes into them. Which traces are kept, and where they go, is the
set-up of the program that calls. Nothing else of this package imports OpenTelemetry.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
from grpc import aio
from opentelemetry import context, propagate, trace
from opentelemetry.trace import Span, SpanKind, StatusCode, TracerProvider

from bridle.transport import Addressed

#: What stands behind an interceptor. (Of what goes through it, gRPC's types don't know the half.)
_Continuation = Callable[[Any, Any], Awaitable[Any]]


def interceptors(tracer_provider: TracerProvider | None = None) -> Sequence[aio.ClientInterceptor]:
    """Those of one client. `tracer_provider`: None means the process's own."""
    tracer = trace.get_tracer("bridle", tracer_provider=tracer_provider)
    return (_Unary(tracer), _Stream(tracer))


class _Tracing(Addressed):
    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    def begin(self, details: Any) -> tuple[Span, Any]:
        """A span for the call, and the call as the one of that span."""
        method = details.method.decode().lstrip("/")
        host, _, port = self.address.rpartition(":")
        attributes: dict[str, str | int] = {
            "rpc.system.name": "grpc",
            "rpc.method": method,
            "server.address": host.strip("[]"),
            "server.port": int(port),
        }
        span = self._tracer.start_span(method, kind=SpanKind.CLIENT, attributes=attributes)
        carrier: dict[str, str] = {}
        propagate.inject(carrier, trace.set_span_in_context(span, context.get_current()))
        # (gRPC wants names in lower case, and some propagators write them otherwise.)
        own = ((key.lower(), value) for key, value in carrier.items())
        metadata = aio.Metadata(*(details.metadata or ()), *own)
        return span, details._replace(metadata=metadata)


class _Unary(_Tracing, aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, continuation: _Continuation, details: Any, request: Any
    ) -> Any:
        span, details = self.begin(details)
        try:
            call = await continuation(details, request)
            await call
        except aio.AioRpcError as error:
            _end(span, error.code())
            raise
        except BaseException as error:
            cancelled = isinstance(error, asyncio.CancelledError)
            _end(span, grpc.StatusCode.CANCELLED if cancelled else grpc.StatusCode.UNKNOWN)
            raise
        _end(span, grpc.StatusCode.OK)
        return call


class _Stream(_Tracing, aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(
        self, continuation: _Continuation, details: Any, request: Any
    ) -> Any:
        span, details = self.begin(details)
        call = await continuation(details, request)
        # Not by reading along: who has enough of a stream need not read it to its end.
        call.add_done_callback(lambda _: _end(span, _code_of(call)))
        return call


def _code_of(call: Any) -> grpc.StatusCode:
    """The status of a call that is done, which gRPC tells only to those who await it."""
    asking = call.code()
    try:
        asking.send(None)
    except StopIteration as told:
        code: grpc.StatusCode = told.value
        return code
    asking.close()
    return grpc.StatusCode.UNKNOWN


def _end(span: Span, code: grpc.StatusCode) -> None:
    span.set_attribute("rpc.response.status_code", code.name)
    if code is not grpc.StatusCode.OK:
        span.set_attribute("error.type", code.name)
        span.set_status(StatusCode.ERROR)
    span.end()
