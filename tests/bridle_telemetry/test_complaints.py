"""A collector that is away is told of now and then."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bridle_telemetry.complaints import EVERY, Complaints

TRACES = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")
METRICS = logging.getLogger("opentelemetry.exporter.otlp.proto.http.metric_exporter")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def taken(clock: Clock) -> Iterator[None]:
    # (Not a fixture: pytest listens at every logger that does not propagate when a test begins.)
    complaints = Complaints(clock)
    complaints.begin()
    try:
        yield
    finally:
        complaints.end()


def test_what_is_said_again_and_again_is_one_line_in_five_minutes_and_then_a_number(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    with taken(clock):
        _say_again_and_again(clock, caplog)


def _say_again_and_again(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(100):
        TRACES.warning("Transient error %s", "refused")
        METRICS.error("Failed")
        TRACES.info("nothing of note")
    assert [record.getMessage() for record in caplog.records] == [
        "Transient error refused",
        "Failed",
    ]
    assert {record.name for record in caplog.records} == {"bridle.telemetry"}
    caplog.clear()
    clock.now += EVERY
    TRACES.warning("Transient error refused")
    (record,) = caplog.records
    assert record.getMessage() == "Transient error refused (99 such lines since the last)"


def test_afterwards_everything_is_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints()
    complaints.begin()
    complaints.end()
    TRACES.warning("theirs")
    (record,) = caplog.records
    assert record.name == TRACES.name
