"""What is asked of traces and metrics: three settings, the same for both services.

Each has a flag; control has them in its settings file, too. Where `otlp-endpoint` is not given,
OTEL_EXPORTER_OTLP_ENDPOINT is asked, as everywhere else where OpenTelemetry is. What more there is
to say to an exporter (headers, timeout, compression, certificates, attributes of the resource) is
said by OpenTelemetry's own variables, which its SDK reads by itself.
"""

from __future__ import annotations

import argparse
import math
import os
from dataclasses import dataclass
from urllib.parse import urlsplit

ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"


class TelemetrySettingsError(Exception):
    """Its text is one line, fit for the person who started the service."""


class MetricsListenError(TelemetrySettingsError):
    """The settings are right, but the address can't be had on this machine now."""


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """What is asked for. The default asks for nothing.

    `otlp_endpoint` is the base URL of a collector that takes OTLP over HTTP, such as
    "http://127.0.0.1:4318": traces and metrics go there. `metrics_host` and `metrics_port` are
    where Prometheus may ask for the metrics; None: nowhere; port 0: any that is free.
    `trace_ratio`, from 0 to 1, is the part of the traces that begin here which is kept; whether one
    that a caller began is kept, the caller has said in its `traceparent`.
    """

    otlp_endpoint: str | None = None
    metrics_host: str | None = None
    metrics_port: int = 0
    trace_ratio: float = 1.0

    @property
    def on(self) -> bool:
        """Whether anything is asked for."""
        return self.otlp_endpoint is not None or self.metrics_host is not None

    @classmethod
    def of(
        cls,
        otlp_endpoint: object = None,
        metrics_listen: object = None,
        trace_ratio: object = None,
    ) -> TelemetrySettings:
        """From what flags or a file say; None: nothing. Raises TelemetrySettingsError."""
        host, port = _address(metrics_listen) if metrics_listen is not None else (None, 0)
        name, endpoint = "otlp-endpoint", otlp_endpoint
        if endpoint is None:
            name, endpoint = ENDPOINT_VARIABLE, os.environ.get(ENDPOINT_VARIABLE)
        return cls(
            otlp_endpoint=_url(name, endpoint) if endpoint else None,
            metrics_host=host,
            metrics_port=port,
            trace_ratio=_ratio(trace_ratio) if trace_ratio is not None else 1.0,
        )


#: Nothing is asked for.
OFF = TelemetrySettings()


def add_flags(parser: argparse._ActionsContainer) -> None:
    """The flags of the settings, by the names of the parameters of `TelemetrySettings.of`."""
    parser.add_argument(
        "--otlp-endpoint",
        metavar="URL",
        help="send traces and metrics to this collector by OTLP over HTTP;"
        f" default: ${ENDPOINT_VARIABLE}, else nowhere",
    )
    parser.add_argument(
        "--metrics-listen", metavar="HOST:PORT", help="Prometheus may ask for metrics there"
    )
    parser.add_argument(
        "--trace-ratio",
        metavar="RATIO",
        type=float,
        help="keep this part, 0 to 1, of the traces that begin here; default 1",
    )


def _url(name: str, value: object) -> str:
    fault = TelemetrySettingsError(
        f"{name}: {value!r} is no URL of a collector, such as http://127.0.0.1:4318"
    )
    if not isinstance(value, str):
        raise fault
    try:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise fault
    except ValueError:
        raise fault from None
    if parts.query or parts.fragment:
        raise fault
    return value.rstrip("/")


def _address(value: object) -> tuple[str, int]:
    fault = TelemetrySettingsError(f"metrics-listen: {value!r} is not HOST:PORT")
    if not isinstance(value, str):
        raise fault
    host, colon, port = value.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not colon or not bare or not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise fault
    if ":" in bare and not host.startswith("["):
        raise TelemetrySettingsError(
            f"metrics-listen: {value!r}: write an IPv6 address as [ADDRESS]:PORT"
        )
    return bare, int(port)


def _ratio(value: object) -> float:
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not math.isfinite(value)
        or not 0 <= value <= 1
    ):
        raise TelemetrySettingsError(f"trace-ratio: {value!r} is no number from 0 to 1")
    return float(value)
