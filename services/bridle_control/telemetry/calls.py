"""Every call of a service of ours: how long it took and how it ended; a span where it is traced.

Names and attributes are those of OpenTelemetry's conventions for RPC servers
(https://opentelemetry.io/docs/specs/semconv/rpc/), for gRPC, Connect and gRPC-Web alike: the calls
are the same. Called by the interceptor.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from opentelemetry.trace import SpanKind, Status, StatusCode

from bridle_control.audit import Seen
from bridle_control.telemetry import place
from bridle_core.errors import BridleError, Code
from bridle_telemetry.telemetry import Telemetry
from bridle_telemetry.trace_context import from_metadata, place_of

#: Bounds of histograms of what people wait for, in seconds.
BOUNDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 60.0, 600.0),
)
# What a server is to blame for, says the convention; all else is its caller's.
_OURS = frozenset(
    (
        Code.UNIMPLEMENTED,
        Code.INTERNAL,
        Code.UNAVAILABLE,
        Code.DATA_LOSS,
    )
)
_CANCELLED = "CANCELLED"


class CallTelemetry:
    """See the module. Used from one event loop alone."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._tracer = telemetry.tracer
        self._traces = telemetry.traces
        self._duration = (
            telemetry.meter.create_histogram(
                "rpc.server.call.duration",
                unit="s",
                description="How long calls took.",
                explicit_bucket_boundaries_advisory=BOUNDS,
            )
            if telemetry.metrics
            else None
        )

    def known(self, call: Seen, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Its caller is known and may do it: from here on it is a part of its caller's trace.

        Not before: else whoever has no token could fill the collector.
        """
        parent = from_metadata(metadata)
        if self._traces:
            call.span = self._tracer.start_span(
                call.method.removeprefix("/"),
                parent,
                SpanKind.SERVER,
                {"rpc.system.name": "grpc", "rpc.method": call.method.removeprefix("/")},
                start_time=call.began,
            )
            place.set_current(call.span.get_span_context())
        elif parent is not None:
            # It is handed on all the same: a host may be traced where control is not.
            place.set_current(place_of(parent))

    def over(self, call: Seen) -> None:
        """It was answered."""
        self._end(call, "OK", None)

    def failed(self, call: Seen, error: BridleError) -> None:
        """It was refused, or failed."""
        self._end(call, error.code.name, error)

    def cancelled(self, call: Seen) -> None:
        """Its caller is gone."""
        self._end(call, _CANCELLED, None)

    def _end(self, call: Seen, code: str, error: BridleError | None) -> None:
        now = time.time_ns()
        if self._duration is not None:
            attributes = {
                "rpc.system.name": "grpc",
                "rpc.method": call.method.removeprefix("/"),
                "rpc.response.status_code": code,
            }
            if error is not None:
                attributes["error.type"] = error.reason
            self._duration.record(max(0, now - call.began) / 1e9, attributes)
        if call.span is not None:
            call.span.set_attribute("rpc.response.status_code", code)
            if error is not None:
                call.span.set_attribute("error.type", error.reason)
                if error.code in _OURS:
                    call.span.set_status(Status(StatusCode.ERROR))
            call.span.end(now)
