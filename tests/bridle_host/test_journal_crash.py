"""The journal when its process is killed, and when the power is cut: nothing durable is lost.

A process appends and says what is durable by then; it is killed at a moment that nobody chose.
A cut of the power is played on copies: a write-ahead log that ends at any byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bridle_host.journal_support import answer, opened, output, records, until

WRITER = """
import asyncio, sys
from pathlib import Path
from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle_host.journal import Entry, Journal

# Of all lanes together fewer commands than a journal remembers of runs that are over: it may be a
# while until the kill.
async def write(journal, lane):
    for number in range(1300):
        name = f"{lane}-{number}"
        command = host_pb.CommandEntry(command_id=name)
        last = await journal.append([
            Entry(lane, 1, event=(37, name.encode())), Entry(lane, 1, command=command)])
        await journal.put_run(lane, number, b"")
        if number:
            await journal.drop_run(lane, number - 1)
        if number % 50 == 49:
            journal.acknowledge(last - 40)
        print(last, name, flush=True)
    await asyncio.Event().wait()

async def main():
    journal = Journal.open(Path(sys.argv[1]) / "journal", on_fatal=print)
    await asyncio.gather(*(write(journal, lane) for lane in "abc"))

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 2, 40, 333, 800])
async def test_what_append_returned_for_survives_a_kill_of_the_process(
    tmp_path: Path, lines: int
) -> None:
    told = await asyncio.to_thread(write_until_killed, tmp_path, lines)
    async with opened(tmp_path) as journal:
        found = {record.journal_sequence: record for record in await records(journal)}
        assert sorted(found) == list(range(journal.acknowledged + 1, journal.last_sequence + 1))
        for last, name in told:
            assert journal.answers(name)
            if last > journal.acknowledged:
                assert found[last].command.command_id == name
                assert found[last - 1].event.event == name.encode()
        assert journal.last_sequence >= max(last for last, _ in told)
        # A put and a drop of the run before it: no lane has more than the two of them.
        lanes = [lane for lane, _, _ in journal.runs()]
        assert all(lanes.count(lane) <= 2 for lane in "abc")
        assert await journal.append([output()]) == journal.last_sequence


def write_until_killed(directory: Path, lines: int) -> list[tuple[int, str]]:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(directory)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        told += process.stdout.readlines()
    assert process.returncode == -signal.SIGKILL
    pairs = [line.split() for line in told if line.endswith("\n")]
    return [(int(last), name) for last, name in pairs]


async def test_a_log_that_was_cut_anywhere_holds_whole_commits_only(tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    sizes = []
    async with opened(tmp_path / "live") as journal:
        for number in range(6):
            await journal.append([output(f"{number}a"), answer(f"c{number}"), output(f"{number}b")])
            sizes.append((tmp_path / "live" / "journal-wal").stat().st_size)
        shutil.copytree(tmp_path / "live", tmp_path / "copy")
    wal = (tmp_path / "copy" / "journal-wal").read_bytes()
    for cut in range(sizes[1] - 1024, len(wal) + 1, 512):
        directory = tmp_path / f"cut-{cut}"
        shutil.copytree(tmp_path / "copy", directory)
        (directory / "journal-wal").write_bytes(wal[:cut])
        whole = sum(size <= cut for size in sizes)
        async with opened(directory) as journal:
            assert journal.last_sequence == 3 * whole
            assert len(await records(journal)) == 3 * whole
            assert [bool(journal.answers(f"c{n}")) for n in range(6)] == [
                n < whole for n in range(6)
            ]
        shutil.rmtree(directory)


async def test_a_start_that_was_cut_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "journal").touch(0o600)
    async with opened(tmp_path) as journal:
        assert await journal.append([output()]) == 1


@contextmanager
def small_disk(path: Path) -> Iterator[bool]:
    """A disk of 1 MiB; False where this user may not mount one."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)]
    mounted = False
    if os.geteuid() == 0:
        mounted = not subprocess.run(mount, check=False, capture_output=True).returncode
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(path)], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)


async def test_a_disk_that_is_really_full_is_waited_for(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as mounted:
        if not mounted:
            # Elsewhere SQLite's own limit plays the full disk (see test_journal).
            return
        filler = tmp_path / "disk" / "filler"
        async with opened(tmp_path / "disk", reserve_bytes=64 * 1024) as journal:
            await journal.append([output("before")])
            fill(filler)
            async with asyncio.TaskGroup() as group:
                large = group.create_task(journal.append([output("x" * 100_000)]))
                await until(lambda: journal.pressed)
                # The reserve is given up for what is small and moves a session's life on.
                await until(lambda: not (tmp_path / "disk" / "journal.reserve").exists())
                assert not large.done()
                filler.unlink()
                assert await large == 2
            await journal.wait_for_room()


async def test_the_write_ahead_log_is_moved_into_the_file_as_it_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridle_host.journal_file.CHECKPOINT_BYTES", 100_000)
    async with opened(tmp_path) as journal:
        for _ in range(50):
            last = await journal.append([output("x" * 20_000)])
            journal.acknowledge(last)
        assert (tmp_path / "journal-wal").stat().st_size < 300_000
        assert (tmp_path / "journal").stat().st_size < 300_000
    connection = sqlite3.connect(tmp_path / "journal")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
