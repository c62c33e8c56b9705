"""Bad input gets one clear line and the right code, and changes nothing."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from pathlib import Path

import pytest

from bridle.v1 import session_pb2
from tests.pair import PATIENCE, Result, program, running_pair
from tests.scenarios.support import log, reaches


async def _run(name: str, *words: str) -> Result:
    process = await asyncio.create_subprocess_exec(
        program(name),
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    return Result(process.returncode or 0, out.decode(), err.decode())


async def test_each_mistake_at_the_command_line_gets_its_code_and_changes_nothing(
    tmp_path: Path,
) -> None:
    async with running_pair(tmp_path) as pair:
        await pair.client.start_session("x", agent="shell")
        await reaches(pair, "x", session_pb2.PHASE_IDLE)
        before = [s.SerializeToString() async for s in pair.client.list_sessions()]
        large = tmp_path / "large"
        large.write_text("x" * 5_000_000)
        start = ("session", "start")
        cases: list[tuple[tuple[str, ...], int, str]] = [
            (("session", "interrupt"), 2, "SLUG"),
            (("session", "interrupt", "../x"), 2, "slug"),
            (("session", "interrupt", "x\ny"), 2, "slug"),
            (("session", "interrupt", "nobody"), 3, "NOT_FOUND"),
            (("session", "interupt", "x"), 2, "interrupt"),
            ((*start, "y", "--agent", "shell", "--dir", "/not/there"), 7, "/not/there"),
            ((*start, "y", "--agent", "no-such-agent"), 7, "no-such-agent"),
            ((*start, "x", "--agent", "shell"), 1, "ALREADY_EXISTS"),
            ((*start, "y", "--agent", "shell", "--host", "no-such-host"), 3, "no-such-host"),
            (("session", "send", "x", "--steer", "now"), 1, "UNIMPLEMENTED"),
            (("session", "stop", "x", "--grace", "soon"), 2, "grace"),
            (("session", "watch", "x", "--from", "-1"), 2, "--from"),
        ]
        for words, code, part in cases:
            result = await pair.cli(*words)
            assert result.code == code, (words, result)
            assert part in result.err, (words, result)
            assert "Traceback" not in result.err
            assert result.out == "", (words, result)
            # One line, and perhaps one more with a hint.
            assert 1 <= len(result.err.strip().splitlines()) <= 2, (words, result)

        too_large = await pair.cli("session", "send", "x", "-", stdin=large.read_text())
        assert too_large.code in (1, 2), too_large.err[:500]
        assert len(too_large.err.strip().splitlines()) <= 2
        assert len(too_large.err) < 1000

        after = [s.SerializeToString() async for s in pair.client.list_sessions()]
        assert [s for s in after if s not in before] == [] or len(after) == len(before)
        assert "input_queued" not in [e.WhichOneof("kind") for e in await log(pair, "x")]


async def test_tokens_that_are_missing_or_garbage_are_refused_with_code_four(
    tmp_path: Path,
) -> None:
    async with running_pair(tmp_path) as pair:
        await pair.client.start_session("x", agent="shell")
        garbage = await pair.cli("session", "interrupt", "x", BRIDLE_TOKEN="garbage")
        (pair.home / "credentials.json").unlink()
        missing = await pair.cli("session", "interrupt", "x", BRIDLE_ADDRESS=pair.address)

        assert garbage.code == missing.code == 4, (garbage, missing)
        assert garbage.err.startswith("bridle: session interrupt: UNAUTHENTICATED: ")
        assert missing.err.startswith("bridle: session interrupt: UNAUTHENTICATED: ")


async def test_a_corrupt_settings_file_is_named_and_nothing_is_called(tmp_path: Path) -> None:
    async with running_pair(tmp_path, host=False) as pair:
        (pair.work / "bridle.yaml").write_text("workspace: [unclosed\n")
        result = await pair.cli("ls")
        assert result.code in (1, 2)
        assert "bridle.yaml" in result.err
        assert len(result.err.strip().splitlines()) <= 2


async def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        store = str(tmp_path / "control")
        await _run("bridle-control", "init", "--store", store)
        address = f"127.0.0.1:{port}"
        result = await _run("bridle-control", "serve", "--store", store, "--listen", address)
    assert result.code == 1
    assert address in result.err
    assert "Traceback" not in result.err


async def test_a_store_from_the_future_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    store = tmp_path / "control"
    await _run("bridle-control", "init", "--store", str(store))
    [file] = [path for path in [store, *store.rglob("*")] if _is_database(path)]
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 999")
    connection.commit()
    connection.close()
    before = file.read_bytes()

    result = await _run("bridle-control", "serve", "--store", str(store), "--listen", "127.0.0.1:0")

    assert result.code == 1
    assert "999" in result.err
    assert "Traceback" not in result.err
    assert file.read_bytes() == before


async def test_a_public_address_in_plaintext_is_refused_unless_forced(tmp_path: Path) -> None:
    store = str(tmp_path / "control")
    await _run("bridle-control", "init", "--store", store)
    result = await _run("bridle-control", "serve", "--store", store, "--listen", "0.0.0.0:0")
    assert result.code == 2
    assert "plaintext" in result.err


def _is_database(path: Path) -> bool:
    return path.is_file() and path.read_bytes()[:15] == b"SQLite format 3"


@pytest.mark.parametrize(
    ("service", "words"),
    [
        ("bridle-control", ("--store", "/nowhere")),
        ("bridle-host", ("--control", "127.0.0.1:1", "--state", "/nowhere")),
    ],
)
async def test_an_unknown_flag_is_a_usage_error(service: str, words: tuple[str, ...]) -> None:
    result = await _run(service, "serve", *words, "--no-such-flag")
    assert result.code == 2
    assert "--no-such-flag" in result.err
