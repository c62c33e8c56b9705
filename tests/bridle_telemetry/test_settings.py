"""What the settings of traces and metrics may be."""

from __future__ import annotations

import pytest

from bridle_telemetry.settings import (
    ENDPOINT_VARIABLE,
    OFF,
    TelemetrySettings,
    TelemetrySettingsError,
)


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENDPOINT_VARIABLE, raising=False)


def test_nothing_is_asked_for_unless_it_is_said() -> None:
    assert TelemetrySettings.of() == OFF
    assert not OFF.on


def test_a_collector_an_address_and_a_ratio_are_taken() -> None:
    settings = TelemetrySettings.of("https://collector.example/otlp/", "[::1]:9464", 0.25)
    assert settings == TelemetrySettings("https://collector.example/otlp", "::1", 9464, 0.25)
    assert settings.on


def test_the_standard_variable_names_the_collector_where_nothing_else_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(ENDPOINT_VARIABLE, "http://127.0.0.1:4318")
    assert TelemetrySettings.of().otlp_endpoint == "http://127.0.0.1:4318"
    assert TelemetrySettings.of("http://other:1").otlp_endpoint == "http://other:1"
    monkeypatch.setenv(ENDPOINT_VARIABLE, "foo")
    with pytest.raises(TelemetrySettingsError, match=rf"^{ENDPOINT_VARIABLE}: 'foo' is no URL"):
        TelemetrySettings.of()
    monkeypatch.setenv(ENDPOINT_VARIABLE, "")
    assert TelemetrySettings.of() == OFF


@pytest.mark.parametrize(
    "url",
    [
        *("collector:4318", "grpc://collector", "http://", "http://host:99999", "http://host:x"),
        *("http://host/?a=b", "http://host:0", "", "http://[::1", 5),
    ],
)
def test_what_is_no_url_of_a_collector_is_refused_in_one_line(url: object) -> None:
    if url == "":
        assert TelemetrySettings.of(url) == OFF
        return
    with pytest.raises(TelemetrySettingsError, match=r"^otlp-endpoint: .* is no URL") as failure:
        TelemetrySettings.of(url)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("text", ["9464", "host", ":9464", "host:70000", "::1:9464", "h:-1", "", 7])
def test_what_is_no_address_is_refused_in_one_line(text: object) -> None:
    with pytest.raises(TelemetrySettingsError, match=r"^metrics-listen: "):
        TelemetrySettings.of(None, text)


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan"), float("inf"), "half", True])
def test_what_is_no_ratio_is_refused(ratio: object) -> None:
    with pytest.raises(TelemetrySettingsError, match=r"^trace-ratio: .* from 0 to 1"):
        TelemetrySettings.of(trace_ratio=ratio)
