"""A tracer and a meter, and what takes from them: exporters over OTLP, a port for Prometheus.

Where nothing is asked for, both are OpenTelemetry's own that do nothing, and nothing of its SDK is
loaded. No provider is made the process's global one: what a service measures is handed to its
parts.

Exporters run on threads of the SDK. What a collector does not take in time is dropped, oldest
first, and told in the log every five minutes; no call waits for it, and at the end it is waited for
no longer than `CLOSE_GRACE`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from opentelemetry.metrics import Meter, NoOpMeter
from opentelemetry.trace import NoOpTracer, Tracer

from bridle_telemetry.complaints import Complaints
from bridle_telemetry.settings import (
    MetricsListenError,
    TelemetrySettings,
    TelemetrySettingsError,
)

if TYPE_CHECKING:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

_log = logging.getLogger("bridle.telemetry")

#: Seconds that exporters get at the end for what they still have.
CLOSE_GRACE = 3.0
#: And then, to give up.
_ABORT_GRACE = 1.0


class Telemetry:
    """See the module. One per process; `close` ends what it began."""

    def __init__(self, tracer: Tracer, meter: Meter, *, traces: bool, metrics: bool) -> None:
        self.tracer = tracer
        self.meter = meter
        #: Whether spans go anywhere, and whether measurements do.
        self.traces = traces
        self.metrics = metrics
        #: Where Prometheus may ask, as HOST:PORT.
        self.metrics_address: str | None = None
        # In this order, at the end; and what makes those give up that wait for a collector.
        self._closers: list[Callable[[], object]] = []
        self._aborts: list[Callable[[], object]] = []
        self._complaints: Complaints | None = None

    @classmethod
    def off(cls) -> Telemetry:
        """One that does nothing."""
        return cls(NoOpTracer(), NoOpMeter("bridle"), traces=False, metrics=False)

    @classmethod
    def start(
        cls, settings: TelemetrySettings, *, service: str, instance: str, version: str
    ) -> Telemetry:
        """What the settings ask for. `service` and `instance` name the process to collectors.

        Raises MetricsListenError, TelemetrySettingsError.
        """
        if not settings.on:
            return cls.off()
        closers: list[Callable[[], object]] = []
        try:
            return cls._start(settings, service, instance, version, closers)
        except ValueError as error:
            # So some of OpenTelemetry's own variables are refused; of others it takes the defaults.
            for close in closers:
                close()
            raise TelemetrySettingsError(
                f"a variable of OpenTelemetry (OTEL_…): {error}"
            ) from error

    @classmethod
    def _start(
        cls,
        settings: TelemetrySettings,
        service: str,
        instance: str,
        version: str,
        closers: list[Callable[[], object]],
    ) -> Telemetry:
        """`closers` gets what ends what was begun, as it is begun."""
        # Some 100 ms and 20 MB that nobody needs who asks for nothing.
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

        complaints = Complaints()
        resource = _resource(service, instance, version)
        aborts: list[Callable[[], object]] = []
        readers: list[MetricReader] = []
        tracer: Tracer = NoOpTracer()
        address = None
        if settings.metrics_host is not None:
            address, close = _listen(settings.metrics_host, settings.metrics_port)
            closers.append(close)
        if settings.otlp_endpoint is not None:
            metrics, spans = _otlp(settings.otlp_endpoint)
            aborts += [spans.shutdown, metrics.shutdown]
            # First what a variable may be wrong for: a reader has a thread from its begin.
            tracers = _tracers(settings, resource, spans)
            readers.append(PeriodicExportingMetricReader(metrics))
            tracer = tracers.get_tracer("bridle", version)
            closers.append(tracers.shutdown)
        if address is not None:
            readers.append(_prometheus())
        provider = MeterProvider(readers, resource, shutdown_on_exit=False)
        closers.append(provider.shutdown)
        made = cls(
            tracer,
            provider.get_meter("bridle", version),
            traces=settings.otlp_endpoint is not None,
            metrics=True,
        )
        made.metrics_address = address
        made._closers, made._aborts = closers, aborts
        made._complaints = complaints
        complaints.begin()
        return made

    async def close(self) -> None:
        """Hands over what exporters still have, as far as they take it within CLOSE_GRACE."""
        try:
            await self._close()
        finally:
            if self._complaints is not None:
                self._complaints.end()
                self._complaints = None

    async def _close(self) -> None:
        closers, self._closers = self._closers, []
        if not closers:
            return
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def run() -> None:
            for close in closers:
                close()
            with contextlib.suppress(RuntimeError):  # the loop did not wait for it
                loop.call_soon_threadsafe(done.set)

        # A thread that nobody has to wait for: a request that a collector does not answer can't be
        # ended, and would hold up the end of the process for as long as it may take.
        thread = threading.Thread(target=run, name="telemetry-close", daemon=True)
        thread.start()
        try:
            await asyncio.wait_for(done.wait(), CLOSE_GRACE)
        except TimeoutError:
            _log.warning("the collector did not take the last of traces and metrics in time")
            if self._complaints is not None:
                self._complaints.muted = True
            for abort in self._aborts:
                abort()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), _ABORT_GRACE)


def _resource(service: str, instance: str, version: str) -> Resource:
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    said = {"service.version": version, "service.instance.id": instance}
    # By OTEL_SERVICE_NAME, or among OTEL_RESOURCE_ATTRIBUTES; what is said here would go before.
    if "service.name" not in OTELResourceDetector().detect().attributes:
        said["service.name"] = service
    return Resource.create(said)


def _otlp(endpoint: str) -> tuple[OTLPMetricExporter, OTLPSpanExporter]:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return (
        OTLPMetricExporter(endpoint=f"{endpoint}/v1/metrics"),
        OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces"),
    )


def _tracers(
    settings: TelemetrySettings, resource: Resource, exporter: OTLPSpanExporter
) -> TracerProvider:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    sampler = ParentBasedTraceIdRatio(settings.trace_ratio)
    tracers = TracerProvider(sampler, resource, shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(exporter))
    return tracers


def _prometheus() -> MetricReader:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader

    return PrometheusMetricReader(scope_info_enabled=False)


def _listen(host: str, port: int) -> tuple[str, Callable[[], object]]:
    """Serves the metrics of the process on threads of its own: they can be had while the event loop
    is stuck, which is when one wants them most."""
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(port, host)
    except OSError as error:
        text = (error.strerror or "it can't be bound").lower()
        raise MetricsListenError(f"metrics-listen: can't listen on {host}:{port}: {text}") from None

    def close() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{server.server_port}", close
