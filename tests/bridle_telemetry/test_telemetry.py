"""A tracer and a meter by the settings, against a collector that is real, slow, or not there."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bridle_telemetry.settings import (
    OFF,
    MetricsListenError,
    TelemetrySettings,
    TelemetrySettingsError,
)
from bridle_telemetry.telemetry import Telemetry
from tests.support.collector import collector
from tests.support.leaks import live_threads, open_descriptors


def start(settings: TelemetrySettings) -> Telemetry:
    return Telemetry.start(settings, service="bridle-test", instance="one", version="1.2.3")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end waits for a collector as long as a busy machine may keep it from being served."""
    monkeypatch.setattr("bridle_telemetry.telemetry.CLOSE_GRACE", 30.0)


@pytest.mark.usefixtures("patient")
async def test_spans_and_measurements_come_to_the_collector_at_the_latest_with_the_end() -> None:
    with collector() as found:
        telemetry = start(TelemetrySettings.of(found.endpoint))
        with telemetry.tracer.start_as_current_span("work"):
            telemetry.meter.create_counter("bridle.things").add(3)
        await telemetry.close()
        (span,) = found.spans
        assert (span.service, span.name) == ("bridle-test", "work")
        assert [(p.name, p.value) for p in found.points] == [("bridle.things", 3.0)]


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    ("name", "attributes", "told"),
    [
        (None, "", "bridle-test"),
        ("", "", "bridle-test"),
        ("mine", "", "mine"),
        (None, "service.name=theirs,team=core", "theirs"),
        ("", "service.name=theirs,team=core", "theirs"),
        ("mine", "service.name=theirs", "mine"),
    ],
)
async def test_a_service_has_the_name_that_opentelemetrys_variables_give_it_or_its_own(
    monkeypatch: pytest.MonkeyPatch, name: str | None, attributes: str, told: str
) -> None:
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    if name is not None:
        monkeypatch.setenv("OTEL_SERVICE_NAME", name)
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", attributes)
    with collector() as found:
        telemetry = start(TelemetrySettings.of(found.endpoint))
        telemetry.tracer.start_span("work").end()
        await telemetry.close()
        assert [span.service for span in found.spans] == [told]


@pytest.mark.usefixtures("patient")
async def test_prometheus_may_ask_where_it_was_said_and_no_longer_after_the_end() -> None:
    telemetry = start(TelemetrySettings.of(None, "127.0.0.1:0"))
    telemetry.meter.create_counter("bridle.things", unit="{thing}").add(3, {"kind": "good"})
    url = f"http://{telemetry.metrics_address}/metrics"
    page = await asyncio.to_thread(_read, url)
    assert 'bridle_things_total{kind="good"} 3.0' in page
    assert 'service_name="bridle-test"' in page
    assert not telemetry.traces
    await telemetry.close()
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(_read, url)


def test_an_address_that_is_taken_is_told_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(MetricsListenError, match=rf"127.0.0.1:{port}: .*in use$"):
            start(TelemetrySettings.of(None, f"127.0.0.1:{port}"))


def test_a_variable_that_opentelemetry_refuses_is_told_in_one_line_and_nothing_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    before = open_descriptors() | live_threads()
    with pytest.raises(TelemetrySettingsError, match=r"^a variable of OpenTelemetry .*queue_size"):
        start(TelemetrySettings.of("http://127.0.0.1:9", "127.0.0.1:0"))
    # (No thread that ends meanwhile counts, nor a port that somebody else takes.)
    assert not (open_descriptors() | live_threads()) - before


@pytest.mark.usefixtures("patient")
async def test_of_the_traces_that_begin_here_the_ratio_is_kept() -> None:
    with collector() as found:
        telemetry = start(TelemetrySettings.of(found.endpoint, None, 0.5))
        for _ in range(400):
            telemetry.tracer.start_span("work").end()
        await telemetry.close()
        assert 100 < len(found.spans) < 300


async def test_where_nothing_is_asked_for_nothing_is_loaded_or_started() -> None:
    code = (
        "import sys, threading\n"
        "from bridle_telemetry.telemetry import Telemetry\n"
        "from bridle_telemetry.settings import OFF\n"
        "t = Telemetry.start(OFF, service='s', instance='i', version='v')\n"
        "t.tracer.start_span('x').end(); t.meter.create_counter('c').add(1)\n"
        "assert not t.traces and not t.metrics\n"
        "loaded = [m for m in sys.modules if m.startswith(('opentelemetry.sdk',"
        " 'opentelemetry.exporter', 'prometheus_client', 'requests'))]\n"
        "assert not loaded, loaded\n"
        "assert threading.active_count() == 1\n"
    )
    ran = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    await start(OFF).close()


@contextmanager
def deaf() -> Iterator[str]:
    """Where connections are taken, and nothing is ever answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("there", [True, False], ids=["deaf", "not there"])
async def test_a_collector_that_does_not_answer_holds_up_neither_the_work_nor_the_end(
    there: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # How long one request may take. What waits longest for the collector is waited for here, since
    # its thread would outlive the test.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "20")
    with deaf() as endpoint:
        telemetry = start(TelemetrySettings.of(endpoint if there else "http://127.0.0.1:9"))
        began = time.monotonic()
        # More than the exporter's queue has room for.
        for _ in range(10_000):
            telemetry.tracer.start_span("work").end()
        worked = time.monotonic() - began
        await telemetry.close()
        closed = time.monotonic() - began - worked
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread.name.startswith(("Otel", "telem")):
            await asyncio.to_thread(thread.join)
    # Nothing of what exporters say that were told to give up.
    said = [record.getMessage() for record in caplog.records if record.name == "bridle.telemetry"]
    assert not [line for line in said if "shutdown" in line.lower()]
    # What it takes where an export is waited for: 20 s.
    assert worked < 15.0
    assert closed < 15.0


def _read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        text: str = answer.read().decode()
        return text
