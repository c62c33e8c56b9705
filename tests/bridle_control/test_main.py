"""The command line of the control service, as a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bridle.v1 import identity_service_pb2, identity_service_pb2_grpc

COMMAND = (sys.executable, "-m", "bridle_control")
SECONDS = 30


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def complaint(result: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line of a failure."""
    assert result.returncode == code, result
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("bridle-control")
    return line


@contextmanager
def serving(
    *arguments: str | Path, pass_fds: Sequence[int] = ()
) -> Iterator[subprocess.Popen[str]]:
    """`serve` as a process; ended by SIGTERM, which must end it well."""
    process = subprocess.Popen(
        [*COMMAND, "serve", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=pass_fds,
    )
    try:
        yield process
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, log
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def ready(process: subprocess.Popen[str]) -> str:
    """The address in the ready line."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("ready grpc=127.0.0.1:"), line
    return line.removeprefix("ready grpc=").strip()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    directory = tmp_path / "store"
    made = run("init", "--store", directory, "--token-file", tmp_path / "token")
    assert (made.returncode, made.stdout, made.stderr) == (0, "", "")
    return directory


def snapshot(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir()) if path.is_file()}


# --- init ------------------------------------------------------------------------------------


def test_init_makes_a_private_store_and_prints_the_first_token_once(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "store"
    made = run("init", "--store", directory)
    assert made.returncode == 0
    [line] = made.stdout.splitlines()
    assert line.startswith("token brt_")
    assert directory.stat().st_mode & 0o777 == 0o700
    for path in directory.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    before = snapshot(directory)
    assert "there is a store already" in complaint(run("init", "--store", directory), 1)
    assert snapshot(directory) == before


def test_the_token_file_is_private_and_never_overwritten(tmp_path: Path, store: Path) -> None:
    token = tmp_path / "token"
    assert token.stat().st_mode & 0o777 == 0o600
    secret = token.read_text()
    assert secret.startswith("brt_")
    line = complaint(run("init", "--store", tmp_path / "other", "--token-file", token), 2)
    assert "File exists" in line
    assert token.read_text() == secret
    assert not (tmp_path / "other").exists()


def test_a_store_that_can_not_be_made_leaves_no_token_file(tmp_path: Path, store: Path) -> None:
    token = tmp_path / "second-token"
    complaint(run("init", "--store", store, "--token-file", token), 1)
    assert not token.exists()


def test_an_init_that_dies_behind_its_commit_has_left_a_token_that_opens(tmp_path: Path) -> None:
    token, directory = tmp_path / "token", tmp_path / "store"
    died = subprocess.run(
        [*COMMAND, "init", "--store", str(directory), "--token-file", str(token)],
        env={**os.environ, "BRIDLE_CRASH_AT": "store.after-commit"},
        timeout=SECONDS,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL
    with serving("--store", directory, "--listen", "127.0.0.1:0") as process:
        assert whose(ready(process), token.read_text().strip()) == "admin"


def whose(address: str, secret: str) -> str:
    """The principal of a token, as control tells it."""
    with grpc.insecure_channel(address) as channel:
        identity = identity_service_pb2_grpc.IdentityServiceStub(channel)
        told = identity.WhoAmI(
            identity_service_pb2.WhoAmIRequest(),
            metadata=(("authorization", f"Bearer {secret}"),),
        )
        return told.principal.name


# --- serve -----------------------------------------------------------------------------------


def test_it_serves_the_first_token_and_ends_well_on_sigterm(tmp_path: Path, store: Path) -> None:
    secret = (tmp_path / "token").read_text().strip()
    with serving("--store", store, "--listen", "127.0.0.1:0") as process:
        address = ready(process)
        assert whose(address, secret) == "admin"
        with grpc.insecure_channel(address) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            answer = health.Check(health_pb2.HealthCheckRequest())
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_it_ends_well_on_sigint_and_tells_ready_where_it_was_asked(store: Path) -> None:
    read, write = os.pipe()
    arguments = ("--store", store, "--listen", "127.0.0.1:0", "--ready-fd", str(write))
    with os.fdopen(read) as pipe:
        with serving(*arguments, pass_fds=(write,)) as process:
            os.close(write)
            # The descriptor is closed behind the line: the reader sees its end.
            assert pipe.read().startswith("ready grpc=127.0.0.1:")
            process.send_signal(signal.SIGINT)
            process.wait(SECONDS)
        assert process.stdout is not None


def test_its_log_is_lines_of_keys_and_values_without_secrets(tmp_path: Path, store: Path) -> None:
    secret = (tmp_path / "token").read_text().strip()
    process = subprocess.Popen(
        [*COMMAND, "serve", "--store", store, "--listen", "127.0.0.1:0", "--log-level", "DEBUG"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    address = ready(process)
    with grpc.insecure_channel(address) as channel:
        identity = identity_service_pb2_grpc.IdentityServiceStub(channel)
        for metadata in (secret, "brt_" + "Z" * 43):
            with suppress(grpc.RpcError):
                identity.WhoAmI(
                    identity_service_pb2.WhoAmIRequest(),
                    metadata=(("authorization", f"Bearer {metadata}"),),
                )
    process.terminate()
    _, log = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert secret not in log
    assert "Z" * 43 not in log
    lines = log.splitlines()
    assert any("reason=TOKEN_INVALID" in line for line in lines)
    assert all(line.startswith("time=") for line in lines), log


# --- what is wrong is one line, and nothing changes ----------------------------------------------


def test_usage_is_one_line_and_2(store: Path) -> None:
    for arguments in ((), ("fly",), ("serve", "--colour"), ("init",), ("serve", "--ready-fd", "x")):
        complaint(run(*arguments), 2)


def test_without_a_store_it_says_how_to_make_one(tmp_path: Path) -> None:
    assert "init" in complaint(run("serve", "--store", tmp_path / "none"), 1)
    assert not (tmp_path / "none").exists()
    assert "--store" in complaint(run("serve"), 2)


def test_a_corrupt_settings_file_is_told(tmp_path: Path, store: Path) -> None:
    config = tmp_path / "control.yaml"
    config.write_text("store: [\n")
    before = snapshot(store)
    line = complaint(run("serve", "--config", config, "--store", store), 2)
    assert str(config) in line
    assert snapshot(store) == before


def test_a_public_plaintext_address_is_refused(store: Path) -> None:
    before = snapshot(store)
    line = complaint(run("serve", "--store", store, "--listen", "0.0.0.0:0"), 2)
    assert "plaintext" in line
    assert snapshot(store) == before


def test_a_public_address_can_be_forced(store: Path) -> None:
    arguments = ("--store", store, "--listen", "0.0.0.0:0", "--insecure-public")
    with serving(*arguments) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready grpc=0.0.0.0:")


def test_a_port_in_use_is_told(store: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        line = complaint(run("serve", "--store", store, "--listen", place), 1)
    assert line == f"bridle-control: can't listen on {place}: address already in use"


def test_a_store_from_the_future_is_told_and_left_alone(store: Path) -> None:
    database = store / "bridle.sqlite3"
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    before = snapshot(store)
    line = complaint(run("serve", "--store", store), 1)
    assert "newer version" in line
    assert snapshot(store) == before


def test_a_store_that_is_none_is_told_and_left_alone(store: Path) -> None:
    database = store / "bridle.sqlite3"
    for name in ("bridle.sqlite3-wal", "bridle.sqlite3-shm"):
        (store / name).unlink(missing_ok=True)
    database.write_bytes(b"not a database at all" * 100)
    before = snapshot(store)
    complaint(run("serve", "--store", store), 1)
    assert snapshot(store) == before


def test_a_store_that_another_process_has_open_is_told(store: Path) -> None:
    with serving("--store", store, "--listen", "127.0.0.1:0") as process:
        ready(process)
        line = complaint(run("serve", "--store", store, "--listen", "127.0.0.1:0"), 1)
        assert "another process" in line


def test_a_place_that_can_not_hold_a_store_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    complaint(run("init", "--store", tmp_path / "file"), 1)
    complaint(run("init", "--store", tmp_path / "file" / "store"), 1)
    complaint(run("init", "--store", "/proc/nothing/store"), 1)
    line = complaint(run("init", "--store", tmp_path / "s", "--token-file", tmp_path / "no/t"), 2)
    assert "No such file" in line
    assert not (tmp_path / "s").exists()
