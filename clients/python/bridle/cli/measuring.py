"""Traces and metrics of `bridle up`: its options, as both services take them, and its ready line.

The services themselves know what may be asked for (`--help` of each tells); what is wrong is found
here all the same, where one line and exit code 2 can be made of it before anything is started.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import click

_METRICS = " metrics="


def options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The three options, by the names of the fields of `Measuring`."""
    for option in (
        click.option(
            "--trace-ratio",
            type=float,
            callback=_ratio,
            metavar="RATIO",
            help="Keep this part, 0 to 1, of the traces that begin here.  [default: 1]",
        ),
        click.option(
            "--metrics-port",
            type=click.IntRange(0, 65535),
            help="Prometheus may ask for control's metrics there, for the host's at PORT + 1;"
            " 0: any that are free.",
        ),
        click.option(
            "--otlp-endpoint",
            callback=_url,
            metavar="URL",
            help="Send traces and metrics to this collector by OTLP over HTTP.",
        ),
    ):
        function = option(function)
    return function


@dataclass(frozen=True)
class Measuring:
    """What was asked for; None: nothing."""

    otlp_endpoint: str | None
    metrics_port: int | None
    trace_ratio: float | None

    @property
    def ports(self) -> tuple[int, int] | None:
        """Where control and the host listen; 0: anywhere."""
        port = self.metrics_port
        return None if port is None else (port, port + 1 if 0 < port < 65535 else 0)

    def arguments(self, bind: str) -> tuple[list[str], list[str]]:
        """For control and for the host. `bind`: the address to listen on."""
        both = ["--otlp-endpoint", self.otlp_endpoint] if self.otlp_endpoint else []
        both += ["--trace-ratio", str(self.trace_ratio)] if self.trace_ratio is not None else []
        if self.ports is None:
            return both, both
        control, host = (["--metrics-listen", f"{bind}:{port}"] for port in self.ports)
        return both + control, both + host


def ready_line(control: str, host: str) -> str:
    """The line of `up`, from those of the services: where metrics are stands behind all else."""
    control, _, metrics = control.partition(_METRICS)
    host, _, host_metrics = host.removeprefix("ready ").partition(_METRICS)
    line = f"{control} {host}"
    line += f"{_METRICS}{metrics}" if metrics else ""
    line += f" host-metrics={host_metrics}" if host_metrics else ""
    return line


def _url(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment:
        raise click.BadParameter("no URL of a collector, such as http://127.0.0.1:4318")
    return value


def _ratio(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and 0 <= value <= 1):
        raise click.BadParameter("no number from 0 to 1")
    return value
