"""W3C Trace Context (https://www.w3.org/TR/trace-context/): out of metadata, and into what carries
it further.

What can't be read is as if it were not there: a trace is never a reason to refuse a call.
"""

from __future__ import annotations

from collections.abc import Iterable

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()
_PARENT, _STATE = "traceparent", "tracestate"
#: A later version may be longer than this one's 55 characters.
_PARENT_MAX = 256
#: Longer ones are left out: it stands in every command's row (the standard asks for 512 at least).
_STATE_MAX = 512


def from_metadata(metadata: Iterable[tuple[str, str | bytes]]) -> Context | None:
    """The caller's place in its trace, from a call's metadata; None where it has none.

    Names are in lower case, as gRPC and HTTP/2 hand them over.
    """
    parent = ""
    states = []
    for key, value in metadata:
        if key == _PARENT and isinstance(value, str):
            parent = value
        elif key == _STATE and isinstance(value, str):
            states.append(value)
    return from_headers(parent, ",".join(states)) if parent else None


def from_headers(traceparent: str, tracestate: str = "") -> Context | None:
    """A place in a trace, from the values of the two headers; None where they name none."""
    if len(traceparent) > _PARENT_MAX:
        return None  # (else a line of the library's in the log, for whoever calls)
    if len(tracestate) > _STATE_MAX:
        tracestate = ""
    carrier = {_PARENT: traceparent, _STATE: tracestate} if tracestate else {_PARENT: traceparent}
    # An empty context, not the current one: what the values don't name must not come from there.
    found = _PROPAGATOR.extract(carrier, Context())
    return found if place_of(found).is_valid else None


def place_of(context: Context | None) -> SpanContext:
    """The span that a context names; an invalid one where it names none."""
    return trace.get_current_span(Context() if context is None else context).get_span_context()


def to_headers(place: SpanContext) -> tuple[str, str]:
    """The values of the two headers for a span; ("", "") for an invalid one."""
    if not place.is_valid:
        return "", ""
    parent = f"00-{place.trace_id:032x}-{place.span_id:016x}-{place.trace_flags:02x}"
    return parent, place.trace_state.to_header()
