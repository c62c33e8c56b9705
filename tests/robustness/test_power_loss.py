"""A cut of the power: what was acknowledged is on the disk, and half a commit is none."""

from __future__ import annotations

import asyncio
import re
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

from bridle_control.store.api import ReadTx, Tx
from bridle_control.store.sqlite import SqliteStore
from tests.pair import PATIENCE, running_pair
from tests.robustness.store_process import step
from tests.robustness.store_runs import DATABASE, check_whole, make, run, strace
from tests.scenarios.support import turn_ends
from tests.support.stores import append, begin, open_sqlite

WAL = f"{DATABASE}-wal"
#: Bytes of a page in the log: its header and the page.
FRAME = 24 + 4096


async def test_a_log_cut_at_any_sector_holds_whole_commits_alone(tmp_path: Path) -> None:
    live = tmp_path / "live"
    ends: list[int] = []
    async with open_sqlite(live) as store:
        await begin(store)
        for _ in range(6):
            await store.write(lambda tx: step(tx, "text"))
            ends.append((live / WAL).stat().st_size)
        # As the machine would leave it: no checkpoint, no close.
        shutil.copytree(live, tmp_path / "copy")
    wal = (tmp_path / "copy" / WAL).read_bytes()
    # Through at least the last three frames, and the last commit.
    first = min(ends[-2], len(wal) - 3 * FRAME) - 512
    cuts = 0
    for cut in range(first, len(wal) + 1, 512):
        directory = tmp_path / "cut"
        shutil.copytree(tmp_path / "copy", directory)
        (directory / WAL).write_bytes(wal[:cut])
        (directory / f"{DATABASE}-shm").unlink()
        whole = sum(end <= cut for end in ends)
        async with open_sqlite(directory) as store:
            found = await store.read(lambda tx: tx.events("s1", 0))
            session = await store.read(lambda tx: tx.session("s1"))
            assert found.sequences == tuple(range(1, 3 * whole + 1))
            assert session is not None
            assert session.title == (str(3 * whole) if whole else "")
        with closing(sqlite3.connect(directory / DATABASE)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        shutil.rmtree(directory)
        cuts += 1
    assert cuts >= 24


async def test_every_connection_that_writes_syncs_fully(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path / "store") as store:

        def settings(tx: Tx) -> list[object]:
            read = tx._connection.execute  # type: ignore[attr-defined]
            names = ("journal_mode", "synchronous", "wal_autocheckpoint")
            return [read(f"PRAGMA {name}").fetchone()[0] for name in names]

        # 2 is FULL. Checkpoints are made by the store itself.
        assert await store.write(settings) == ["wal", 2, 0]


async def test_every_acknowledged_write_was_synced_before_it_was_told(tmp_path: Path) -> None:
    store = tmp_path / "store"
    await make(store)
    trace = tmp_path / "trace"
    around = strace("-e", "trace=fdatasync,fsync,write", "-s", "24", log=trace)
    done = await run(store, "--steps", "20", around=around)
    assert done.closed, done.err
    assert len(done.acknowledged) == 20
    check_synced(trace.read_text(), told=r"write\(1, \"acknowledged", count=20)
    await check_whole(store, done)


async def test_control_syncs_before_it_acknowledges_to_hosts_and_callers(tmp_path: Path) -> None:
    async with running_pair(tmp_path) as pair:
        await pair.client.start_session("s", agent="shell")
        assert pair.control is not None
        trace = tmp_path / "trace"
        tracer = await asyncio.create_subprocess_exec(
            *strace("-p", str(pair.control.pid), "-e", "trace=fdatasync,fsync", log=trace),
            stderr=asyncio.subprocess.PIPE,
        )
        assert tracer.stderr is not None
        async with asyncio.timeout(PATIENCE):
            assert b"attached" in await tracer.stderr.readline()
        for turn in range(1, 11):
            await pair.client.send("s", "true")
            await turn_ends(pair, "s", turn)
        tracer.terminate()
        await tracer.communicate()
        # At least the Send's own commit and one of what its host told, ten times.
        assert len(re.findall(r"f(?:data)?sync\(\d+\) += 0", trace.read_text())) >= 20


def check_synced(trace: str, *, told: str, count: int) -> None:
    """Before each line that tells of a write there is a sync that has succeeded since the last."""
    synced = False
    seen = 0
    for line in trace.splitlines():
        if re.search(r"f(data)?sync\(\d+\) += 0|f(data)?sync resumed>.* = 0", line):
            synced = True
        elif re.search(told, line):
            assert synced, f"told of without a sync: {line}"
            synced = False
            seen += 1
    assert seen == count


# ---------------------------------------------------------------- a log that may not grow for ever


async def test_readers_that_never_pause_let_the_log_begin_anew(tmp_path: Path) -> None:
    limit = 600_000
    over = threading.Event()
    reads = 0

    def slow(tx: ReadTx) -> int:
        # One of them always has a snapshot.
        found = tx.events("s1", 0, limit=500, max_bytes=1 << 30)
        over.wait(0.02)
        return len(found.sequences)

    async def read_on(store: SqliteStore) -> None:
        nonlocal reads
        while not over.is_set():
            await store.read(slow)
            reads += 1

    largest = 0
    async with open_sqlite(tmp_path / "store", checkpoint_bytes=100_000, log_bytes=limit) as store:
        await begin(store)
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(read_on(store))
            for _ in range(300):
                await append(store, "s1", "x" * 20_000)
                largest = max(largest, (tmp_path / "store" / WAL).stat().st_size)
            over.set()
    assert reads > 20
    assert largest < 3 * limit


async def test_a_read_without_end_holds_up_neither_writers_nor_the_log(tmp_path: Path) -> None:
    limit = 400_000
    begun = threading.Event()
    attempts = 0
    enough = False

    def endless(tx: ReadTx) -> int:
        nonlocal attempts
        attempts += 1
        assert tx.session("s1") is not None  # from here on it has a snapshot
        last = enough  # (Never the first: what may end it comes once that has begun.)
        begun.set()
        if last:
            return attempts
        tx._connection.execute(  # type: ignore[attr-defined]
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
        ).fetchone()
        raise AssertionError("it has no end")

    async with open_sqlite(tmp_path / "store", checkpoint_bytes=100_000, log_bytes=limit) as store:
        await begin(store)
        async with asyncio.TaskGroup() as group:
            read = group.create_task(store.read(endless))
            await asyncio.to_thread(begun.wait)
            for number in range(1000):
                enough = number > 20
                await append(store, "s1", "x" * 20_000)
                if read.done():
                    break
            # It was broken off for the log's sake, and begun again by itself.
            assert await read > 1
        assert (tmp_path / "store" / WAL).stat().st_size < 4 * limit
