"""The host's command line: what is wrong is one line and exit code 2."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from bridle_host.dial import Control
from bridle_host.settings import HostSettings, OnEnd, machine_name, parse

LEAST = ["serve", "--control", "127.0.0.1:7000", "--state", "state"]


def test_the_least_that_has_to_be_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse(LEAST) == HostSettings(
        control=Control("127.0.0.1:7000"),
        agents_address="127.0.0.1:7000",
        state=tmp_path / "state",
        name=None,
        join_token_file=None,
        session_limit=64,
        directory=tmp_path,
        containment=None,
        output_cap=16 * 1024 * 1024,
        on_end=OnEnd.DETACH,
        stop_grace=10.0,
        log_level="INFO",
    )


def test_everything_that_can_be_said(tmp_path: Path) -> None:
    more = ["--name", "a.B-9", "--join-token-file", "join", "--session-limit", "3"]
    more += ["--directory", str(tmp_path), "--containment", "SUBREAPER", "--stop-grace", "0.5"]
    more += ["--output-cap", "0"]
    given = parse([*LEAST, *more, "--on-end", "stop", "--log-level", "DEBUG"])
    assert (given.name, given.join_token_file, given.session_limit) == ("a.B-9", Path("join"), 3)
    assert (given.directory, given.containment, given.stop_grace) == (tmp_path, "SUBREAPER", 0.5)
    assert given.output_cap == 0
    assert (given.on_end, given.log_level) == (OnEnd.STOP, "DEBUG")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--name", "../x"], "no name for a host"),
        (["--name", "a\nb"], "no name for a host"),
        (["--name", "x" * 64], "no name for a host"),
        (["--name", "ends-"], "no name for a host"),
        (["--session-limit", "0"], "not a number from 1"),
        (["--session-limit", "x"], "not a number from 1"),
        (["--output-cap", "-1"], "not a number of MiB"),
        (["--output-cap", "x"], "not a number of MiB"),
        (["--stop-grace", "-1"], "not a number of seconds"),
        (["--stop-grace", "nan"], "not a number of seconds"),
        (["--stop-grace", "x"], "not a number of seconds"),
        (["--log-level", "LOUD"], "invalid choice"),
        (["--control", "127.0.0.1"], "not HOST:PORT"),
        (["--control", "127.0.0.1:0"], "not HOST:PORT"),
        (["--control", ":1"], "not HOST:PORT"),
        (["--unknown"], "unrecognized"),
        (["--tls-cert", "x"], "--tls-cert and --tls-key go together"),
        (["--tls-cert", "x", "--tls-key", "x"], "give --tls-ca too"),
        (["--tls-ca", "/nowhere/ca.pem"], "/nowhere/ca.pem: No such file"),
        (["--tls-ca", __file__], "no CA, certificate and its key"),
        (["--agents-address", "x"], "not HOST:PORT"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(
    more: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse([*LEAST, *more])
    assert caught.value.code == 2
    told = capsys.readouterr()
    assert words in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""


@pytest.mark.parametrize("arguments", [[], ["serve"], ["dance"]])
def test_too_little_is_wrong_too(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_plaintext_to_another_machine_needs_leave() -> None:
    assert not parse([*LEAST, "--control", "10.0.0.1:1"]).control.plaintext
    assert parse([*LEAST, "--control", "10.0.0.1:1", "--insecure-public"]).control.plaintext


@pytest.mark.parametrize(
    ("hostname", "name"),
    [
        ("laptop.local", "laptop.local"),
        ("-ü my host-", "my-host"),
        ("", "host"),
        ("x" * 80, "x" * 63),
    ],
)
def test_the_machines_name_becomes_one_that_a_host_may_have(
    hostname: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: hostname)
    assert machine_name() == name
    assert parse([*LEAST, "--name", machine_name()]).name == name
