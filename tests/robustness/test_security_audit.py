"""The audit log of a real control: on a full disk, over a rename, and after a sudden death."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from bridle import BridleError, Client
from tests.pair import PATIENCE, Pair, program, running_pair, until
from tests.support.pace import paced


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Its whole lines: the last one may just be written."""
    whole = path.read_bytes().rpartition(b"\n")[0]
    return [json.loads(line) for line in whole.splitlines()]


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """A file system of its own with so much room; skips where none can be mounted."""
    path.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


class AuditedPair(Pair):
    """Control with an audit log of its own place."""

    audit: Path

    async def start_control(self) -> None:
        words = ("--store", str(self.home / "control"), "--listen", self.address)
        self.control, ready = await self._start("control", *words, "--audit-log", str(self.audit))
        self.address = ready.removeprefix("ready grpc=")


async def test_a_full_disk_keeps_no_verb_waiting_and_what_was_lost_is_counted(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path / "small", "256k") as small:
        pair = AuditedPair(tmp_path / "home")
        pair.audit = small / "audit.jsonl"
        await pair.init()
        await pair.start_control()
        try:
            async with Client(pair.address, token=pair.token) as client:
                await client.create_workspace("first")
                ballast = small / "ballast"
                with suppress(OSError), ballast.open("wb", buffering=0) as file:
                    while True:
                        file.write(b"x" * 512)
                loop = asyncio.get_running_loop()
                began = loop.time()
                for number in range(200):
                    await client.create_workspace(f"w{number}")
                    with suppress(BridleError):
                        await client.kill("nobody")
                # (Each would wait for a second or more.)
                assert loop.time() - began < paced(20)
                ballast.unlink()

                async def caught_up() -> bool:
                    told = lines_of(pair.audit)
                    made = [line for line in told if line["method"].endswith("CreateWorkspace")]
                    return len(made) == 201

                await until(caught_up, "all that waited is written")
        finally:
            await pair.end_control()
        assert "lines wait" in pair.log("control").read_text()
        names = [line.get("name") for line in lines_of(pair.audit) if line.get("name")]
        assert names == ["first", *(f"w{number}" for number in range(200))]


async def test_the_log_is_opened_anew_on_sighup_and_loses_no_line_over_it(tmp_path: Path) -> None:
    async with running_pair(tmp_path, host=False) as pair:
        path = pair.home / "control" / "audit.jsonl"
        made = 0
        for round_ in range(3):
            for _ in range(5):
                await pair.client.create_workspace(f"w{made}")
                made += 1

            await until(_tells(path, [f"w{number}" for number in range(made - 5, made)]), "told")
            path.rename(path.with_name(f"audit.{round_}"))
            assert pair.control is not None
            pair.control.send_signal(signal.SIGHUP)
            await until(lambda: _exists(path), "there is a new file")
            assert os.stat(path).st_mode & 0o777 == 0o600
        names = [
            line["name"]
            for round_ in range(3)
            for line in lines_of(path.with_name(f"audit.{round_}"))
        ]
        assert names == [f"w{number}" for number in range(made)]


def _tells(path: Path, names: list[str]) -> Callable[[], Awaitable[bool]]:
    async def tells() -> bool:
        return {line.get("name") for line in lines_of(path)}.issuperset(names)

    return tells


async def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: ASYNC240


async def test_after_a_sudden_death_the_log_goes_on_in_whole_lines(tmp_path: Path) -> None:
    async with running_pair(tmp_path, host=False) as pair:
        path = pair.home / "control" / "audit.jsonl"
        for round_ in range(3):
            names = [f"w{round_}-{number}" for number in range(20)]
            for name in names[:-1]:
                await pair.client.create_workspace(name)
            await until(_tells(path, names[:-1]), "told")
            await pair.client.create_workspace(names[-1])
            await pair.restart_control()
        await pair.client.create_workspace("last")
        await pair.end_control()
        assert path.read_bytes().endswith(b"\n")
        told = {line.get("name") for line in lines_of(path)}
        # A line follows its answer within an instant; only what fell into that may be missing,
        # and that stands in the store, as its receipt.
        assert told.issuperset(f"w{round_}-{number}" for round_ in range(3) for number in range(19))
        assert "last" in told


async def test_an_audit_log_that_can_not_be_one_is_told_in_one_line(tmp_path: Path) -> None:
    pair = Pair(tmp_path / "home")
    await pair.init()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for place in (tmp_path, tmp_path / "no" / "such", tmp_path / "link"):
        process = await asyncio.create_subprocess_exec(
            program("bridle-control"),
            *("serve", "--store", str(pair.home / "control"), "--listen", "127.0.0.1:0"),
            *("--audit-log", str(place)),
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(PATIENCE):
            _, said = await process.communicate()
        assert process.returncode == 2
        assert said.decode().startswith(f"bridle-control: audit-log: {place}: ")
        assert said.count(b"\n") == 1
    assert "elsewhere" not in os.listdir(tmp_path)
