"""The log of what was given to an agent: whole messages, once, whatever cuts the host short."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bridle_host import input_log
from bridle_host.input_log import KEYS, USELESS, InputLog


def test_what_the_shim_has_not_received_is_given_from_there(tmp_path: Path) -> None:
    log = InputLog(tmp_path / "input")
    log.append(b"first ", "a")
    log.append(b"second ", "")
    log.append(b"third", "c")
    for received in range(len(b"first second third") + 1):
        again = InputLog.load(tmp_path / "input")
        assert again.resume(received) == b"first second third"[received:]
        assert again.end == 18
        assert ("a" in again, "b" in again, "c" in again) == (True, False, True)
        again.close()
    log.close()


def test_a_message_that_was_cut_short_was_not_given(tmp_path: Path) -> None:
    path = tmp_path / "input"
    log = InputLog(path)
    log.append(b"whole", "whole")
    size = path.stat().st_size
    log.append(b"cut short", "cut")
    log.close()
    text = path.read_bytes()
    for end in range(size, len(text)):
        path.write_bytes(text[:end])
        again = InputLog.load(path)
        assert "cut" not in again
        assert again.resume(0) == b"whole"
        again.append(b" and more", "more")
        again.close()
        third = InputLog.load(path)
        assert third.resume(0) == b"whole and more"
        third.close()


def test_the_end_of_input_is_remembered(tmp_path: Path) -> None:
    log = InputLog(tmp_path / "input")
    log.append(b"all", "")
    log.append_end()
    log.close()
    again = InputLog.load(tmp_path / "input")
    assert again.ended
    assert again.resume(1) == b"ll"


def test_what_was_taken_is_not_kept_but_for_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "input"
    log = InputLog(path)
    taken = 0
    for number in range(200):
        log.append(b"x" * 10_000, f"key-{number}")
        log.taken(taken)  # one behind
        taken = log.end
        assert path.stat().st_size < USELESS + 40_000
    log.append_end()
    log.close()
    again = InputLog.load(path)
    assert all(f"key-{number}" in again for number in range(200))
    assert again.ended
    assert again.resume(again.end - 5) == b"xxxxx"


def test_keys_are_bounded(tmp_path: Path) -> None:
    log = InputLog(tmp_path / "input")
    for number in range(KEYS + 10):
        log.append(b"x", f"key-{number}")
    log.close()
    for known in (log, InputLog.load(tmp_path / "input")):
        assert "key-9" not in known
        assert "key-10" in known
        assert f"key-{KEYS + 9}" in known


def test_a_message_that_cannot_be_logged_is_given_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = InputLog(tmp_path / "input")
    log.append(b"one", "one")
    with monkeypatch.context() as full:

        def no_space(descriptor: int, data: bytes) -> None:
            os.write(descriptor, data[:3])
            raise OSError(28, "No space left on device")

        full.setattr(input_log, "_write_all", no_space)
        log.append(b"two", "two")
    assert "No space left" in caplog.text
    assert "two" in log
    log.append(b"three", "three")
    log.close()
    # The shim has all of it, or none of what came after the hole: never less than was taken.
    assert InputLog.load(tmp_path / "input").resume(11) == b""
    again = InputLog.load(tmp_path / "input")
    assert again.resume(6) == b"three"
    again.append(b"four", "four")
    again.close()
    third = InputLog.load(tmp_path / "input")
    assert third.resume(6) == b"threefour"


def test_without_a_file_keys_are_known_as_long_as_the_process_lives() -> None:
    log = InputLog(None)
    log.append(b"x", "key")
    log.append_end()
    assert "key" in log
    assert log.ended
