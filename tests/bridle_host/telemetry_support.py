"""A host whose traces and metrics go to a collector, for tests."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle_core.observations import StopReason, TurnOver
from bridle_host.drivers.base import DriverFactory
from bridle_telemetry.settings import TelemetrySettings
from bridle_telemetry.telemetry import Telemetry
from tests.bridle_host.sessions_support import Host, hosting
from tests.fakes.driver import FakeDriver, FakeFactory
from tests.support.collector import Collector, Span

#: The trace that a caller began, and its span.
TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
#: Another one's.
OTHER = "1bf7651916cd43dd8448eb211c80319d"
#: The driver that the tests play.
FAKE = "fake"


def place(trace: str = TRACE, *, span: str = CALLER, sampled: bool = True) -> host_pb.TraceContext:
    """What control says of a command's place in its trace."""
    flags = "01" if sampled else "00"
    return host_pb.TraceContext(traceparent=f"00-{trace}-{span}-{flags}")


@asynccontextmanager
async def measured(
    path: Path,
    drivers: Mapping[str, DriverFactory],
    endpoint: str | None,
    *,
    metrics_listen: str | None = None,
    **options: Any,
) -> AsyncIterator[Host]:
    """A host at work. At the end all that it has told is at the endpoint."""
    settings = TelemetrySettings.of(endpoint, metrics_listen)
    telemetry = Telemetry.start(settings, service="bridle-host", instance="host-1", version="1")
    try:
        async with hosting(path, drivers, telemetry=telemetry, **options) as host:
            host.metrics_address = telemetry.metrics_address
            yield host
    finally:
        with pytest.MonkeyPatch.context() as patch:
            # A collector that is there takes all of it, however busy the machine is.
            patch.setattr("bridle_telemetry.telemetry.CLOSE_GRACE", 30.0)
            await telemetry.close()


async def scraped(address: str | None) -> dict[str, float]:
    """What Prometheus would see: the values by "name{labels}"."""

    def get() -> str:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
            return str(answer.read().decode())

    text = await asyncio.to_thread(get)
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def named(taken: Collector, name: str) -> list[Span]:
    """The spans of that name, by their begin."""
    return sorted((s for s in taken.spans if s.name == name), key=lambda s: s.start)


def only(taken: Collector, name: str) -> Span:
    """The one span of that name."""
    (span,) = named(taken, name)
    return span


async def up(host: Host, factory: FakeFactory) -> FakeDriver:
    """A session whose agent is up; its start is in no trace."""
    await host.start()
    driver = await factory.driver()
    await host.event("process_started")
    return driver


async def finish(host: Host, driver: FakeDriver, turn: int = 1) -> None:
    """Let the agent end its turn."""
    driver.tell(TurnOver(StopReason.COMPLETED))
    await host.event("turn_ended", turn)


def parent(span: Span) -> tuple[str, str]:
    return span.trace_id, span.parent_id
