"""Where the call that is being handled stands in its caller's trace, on its way into command rows.

The interceptor's observer sets it for each call; `receipts.request_key` takes it along with the
request. In a row, and on the link, it is a serialized host.v1.TraceContext.
"""

from __future__ import annotations

from contextvars import ContextVar

from google.protobuf.message import DecodeError
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle_telemetry.trace_context import from_headers, to_headers

_current: ContextVar[bytes] = ContextVar("bridle_trace", default=b"")


def current() -> bytes:
    """The place of the current call; b"" where it belongs to no trace."""
    return _current.get()


def set_current(place: SpanContext) -> None:
    """For the rest of this task."""
    traceparent, tracestate = to_headers(place)
    carried = wire.TraceContext(traceparent=traceparent, tracestate=tracestate)
    _current.set(carried.SerializeToString(deterministic=True))


def parent_of(trace: bytes) -> Context | None:
    """What a row's `trace` names; None for none."""
    if not trace:
        return None
    try:
        carried = wire.TraceContext.FromString(trace)
    except DecodeError:
        return None
    return from_headers(carried.traceparent, carried.tracestate)
