"""Traces and metrics that are kept in memory, for tests of what is measured."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bridle_telemetry.telemetry import Telemetry

#: A caller's place in a trace that is kept.
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"


class Recorded:
    """A telemetry, and what it was told."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        tracers = TracerProvider(shutdown_on_exit=False)
        tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self.telemetry = Telemetry(
            tracers.get_tracer("test"), self._meters.get_meter("test"), traces=True, metrics=True
        )

    def spans(self, name: str = "") -> list[ReadableSpan]:
        """The spans that have ended, in the order of their ends; `name`: those that begin so."""
        return [span for span in self._exporter.get_finished_spans() if span.name.startswith(name)]

    def points(self, metric: str) -> list[tuple[dict[str, Any], Any]]:
        """The points of a metric as they are now: attributes, and value (of a histogram: count)."""
        data = self._reader.get_metrics_data()
        found: list[tuple[dict[str, Any], Any]] = []
        for group in data.resource_metrics if data is not None else ():
            for scope in group.scope_metrics:
                for each in scope.metrics:
                    if each.name == metric:
                        for point in each.data.data_points:
                            histogram = isinstance(point, HistogramDataPoint)
                            value = point.count if histogram else point.value  # type: ignore[union-attr]
                            found.append((dict(point.attributes or {}), value))
        return found


def hex_parent(span: ReadableSpan) -> str:
    """The id of a span's parent; "" for none."""
    return f"{span.parent.span_id:016x}" if span.parent is not None else ""


def hex_trace(span: ReadableSpan) -> str:
    """The id of a span's trace."""
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


def hex_id(span: ReadableSpan) -> str:
    """A span's own id."""
    assert span.context is not None
    return f"{span.context.span_id:016x}"
