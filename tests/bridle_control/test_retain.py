"""The words of the retention flags."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridle_control.retain import EVERYTHING, Limits
from bridle_control.settings import SettingsError, load


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("100000ev", Limits(events=100_000)),
        ("1GiB", Limits(bytes=2**30)),
        ("5MB", Limits(bytes=5_000_000)),
        ("7B", Limits(bytes=7)),
        ("30d", Limits(age=30 * 86_400)),
        ("90min", Limits(age=5400)),
        ("2w,10ev,3KiB", Limits(events=10, bytes=3072, age=14 * 86_400)),
        (" 1h , 2ev ", Limits(events=2, age=3600)),
    ],
)
def test_limits_are_a_number_of_events_of_bytes_or_an_age(text: str, limits: Limits) -> None:
    assert Limits.parse(text) == limits


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no limit"),
        ("30", "no limit"),
        ("d", "no limit"),
        ("30m", "no limit"),  # minutes or months
        ("-1ev", "no limit"),
        ("1.5GiB", "no limit"),
        ("٣d", "no limit"),
        ("1d,", "no limit"),
        ("0ev", "out of range"),
        ("999999999TiB", "out of range"),
        ("999999999d", "out of range"),
        ("1d,2h", "two limits of that kind"),
    ],
)
def test_what_is_no_limit_is_told_in_one_line(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as raised:
        Limits.parse(text)
    assert "\n" not in str(raised.value)


def test_by_default_everything_is_kept() -> None:
    settings = load({"store": Path("/s")}, None)
    assert not settings.retain_per_session
    assert not settings.retain_total
    assert not EVERYTHING


def test_flags_and_the_settings_file_take_them_by_the_same_names(tmp_path: Path) -> None:
    config = tmp_path / "control.yaml"
    config.write_text("store: /s\nretain-per-session: 5ev,1d\nretain-total: 1GiB\n")
    settings = load({"retain_total": "2GiB"}, config)
    assert settings.retain_per_session == Limits(events=5, age=86_400)
    assert settings.retain_total == Limits(bytes=2**31)


@pytest.mark.parametrize("value", ["soon", 5, True, ["1d"]])
def test_a_wrong_one_is_told_by_its_name(value: object) -> None:
    with pytest.raises(SettingsError, match=r"retain.per.session: [^\n]+$"):
        load({"store": Path("/s"), "retain_per_session": value}, None)
