"""A collector of traces and metrics for tests: takes OTLP over HTTP, as any collector does.

Reads with the messages of the standard (opentelemetry-proto), keeps all that came, and lets tests
wait for what they look for.
"""

from __future__ import annotations

import asyncio
import gzip
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

#: Seconds that a test waits for what should come: exporters send every few seconds.
PATIENCE = 60.0


@dataclass(frozen=True)
class Span:
    """A span as it came; ids in hexadecimal, times in ns."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    start: int
    end: int
    error: bool
    attributes: dict[str, Any] = field(hash=False)
    #: (trace, span) of what it is linked to.
    links: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Point:
    """A point of a metric; `value` is a histogram's count."""

    service: str
    name: str
    unit: str
    value: float
    attributes: dict[str, Any] = field(hash=False)


class Collector:
    """What came, and where to send it."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self.spans: list[Span] = []
        self.points: list[Point] = []
        self.bodies: list[bytes] = []
        #: What it answers with; with another than 200 it takes nothing.
        self.status = 200
        self._changed = threading.Condition()

    def trace(self, trace_id: str) -> list[Span]:
        """The spans of a trace, by their begin."""
        return sorted(
            (span for span in list(self.spans) if span.trace_id == trace_id), key=lambda s: s.start
        )

    def wait(self, found: Callable[[], Any], patience: float = PATIENCE) -> Any:
        """What `found` returns once that is true. Raises AssertionError."""
        with self._changed:
            if not self._changed.wait_for(found, patience):
                seen = sorted({(span.service, span.name) for span in self.spans})
                raise AssertionError(f"it did not come; spans: {seen}")
            return found()

    async def until(self, found: Callable[[], Any], patience: float = PATIENCE) -> Any:
        """`wait`, on a loop."""
        # In a thread that ends here: a loop's own would live on with the loop.
        with ThreadPoolExecutor(1) as thread:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(thread, self.wait, found, patience)

    def take(self, path: str, body: bytes) -> bytes:
        """One request of an exporter; returns the body of the answer."""
        with self._changed:
            self.bodies.append(body)
            if self.status != 200:
                self._changed.notify_all()
                return b""
            if path == "/v1/traces":
                self.spans.extend(_spans(ExportTraceServiceRequest.FromString(body)))
                answer = ExportTraceServiceResponse().SerializeToString()
            else:
                self.points.extend(_points(ExportMetricsServiceRequest.FromString(body)))
                answer = ExportMetricsServiceResponse().SerializeToString()
            self._changed.notify_all()
            return answer


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self._body()
            match self.headers.get("content-encoding", ""):
                case "gzip":
                    body = gzip.decompress(body)
                case "deflate":
                    body = zlib.decompress(body)
            answer = made.take(self.path, body)
            self.send_response(made.status)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            # Else the thread of a connection that its exporter keeps would outlive the test.
            self.send_header("connection", "close")
            self.end_headers()
            self.wfile.write(answer)

        def _body(self) -> bytes:
            if self.headers.get("transfer-encoding") != "chunked":
                return self.rfile.read(int(self.headers["content-length"]))
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name there)
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False  # joined at the end
    made = Collector(server.server_port)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="collector")
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for group in request.resource_spans:
        service = _values(group.resource.attributes).get("service.name", "")
        for scope in group.scope_spans:
            for span in scope.spans:
                yield Span(
                    service=service,
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    kind=span.kind,
                    start=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                    error=span.status.code == span.status.STATUS_CODE_ERROR,
                    attributes=_values(span.attributes),
                    links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
                )


def _points(request: ExportMetricsServiceRequest) -> Iterator[Point]:
    for group in request.resource_metrics:
        service = _values(group.resource.attributes).get("service.name", "")
        for scope in group.scope_metrics:
            for metric in scope.metrics:
                data: Any = getattr(metric, metric.WhichOneof("data") or "")
                for point in data.data_points:
                    kind = point.WhichOneof("value") if hasattr(point, "as_int") else ""
                    value = float(getattr(point, kind) if kind else point.count)
                    attributes = _values(point.attributes)
                    yield Point(service, metric.name, metric.unit, value, attributes)


def _values(attributes: Iterable[Any]) -> dict[str, Any]:
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value") or "string_value")
        for each in attributes
    }
