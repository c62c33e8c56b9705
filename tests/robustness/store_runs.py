"""Runs `store_process.py` until something ends it, and looks at what it left.

`run` gives what it acknowledged; `check_whole` that all of that is there once, and that nothing is
there in part.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridle_control import crash_points
from tests.support.stores import begin, open_sqlite, parse

ROOT = Path(__file__).resolve().parents[2]
DATABASE = "bridle.sqlite3"


@dataclass(frozen=True)
class Run:
    """What a process said, and how it ended."""

    code: int
    #: (head, floor) of the steps that it acknowledged.
    acknowledged: list[tuple[int, int]]
    closed: bool
    err: str

    @property
    def last(self) -> tuple[int, int]:
        return self.acknowledged[-1] if self.acknowledged else (0, 1)


def command(store: Path, *arguments: str) -> list[str]:
    return [
        sys.executable,
        str(Path(__file__).with_name("store_process.py")),
        str(store),
        *arguments,
    ]


def environment(crash_at: str = "") -> dict[str, str]:
    path = os.pathsep.join(str(ROOT / part) for part in ("services", "clients/python", "."))
    return {**os.environ, "PYTHONPATH": path, crash_points.VARIABLE: crash_at}


async def run(store: Path, *arguments: str, crash_at: str = "", around: Sequence[str] = ()) -> Run:
    """Runs it to its end; `around` is a command that runs it, such as strace."""
    process = await asyncio.create_subprocess_exec(
        *around,
        *command(store, *arguments),
        env=environment(crash_at),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    return finished(process.returncode or 0, out, err)


def finished(code: int, out: bytes, err: bytes) -> Run:
    # A line that was cut off by the end was said to nobody.
    lines = out.decode().split("\n")[:-1]
    told = [line.split()[1:] for line in lines if line.startswith("acknowledged")]
    return Run(code, [(int(h), int(f)) for h, f in told], "closed" in lines, err.decode())


def strace(*arguments: str, log: Path) -> list[str]:
    """A command that traces another; the test is skipped where there is none."""
    program = shutil.which("strace")
    if program is None:
        pytest.skip("SKIP: strace is not installed")
    return [program, "-f", "-o", str(log), *arguments]


async def make(directory: Path) -> None:
    async with open_sqlite(directory) as store:
        await begin(store)


async def check_whole(directory: Path, run: Run, *, unacknowledged: int = 3) -> int:
    """Opens the store and checks it; returns the head. `unacknowledged`: what may be there more."""
    head, floor = run.last
    async with open_sqlite(directory) as store:
        session = await store.read(lambda tx: tx.session("s1"))
        assert session is not None
        assert head <= session.last_sequence <= head + unacknowledged
        assert floor <= session.floor_sequence
        part = await store.read(lambda tx: tx.events("s1", 0, limit=100_000, max_bytes=1 << 30))
        assert part.sequences == tuple(range(session.floor_sequence, session.last_sequence + 1))
        assert [parse(each).sequence for each in part.framed] == list(part.sequences)
        assert session.last_sequence % 3 == 0
        assert session.title == (str(session.last_sequence) if session.last_sequence else "")
        while await store.write(lambda tx: tx.purge_events(1000)):
            pass
        last = session.last_sequence
    with closing(sqlite3.connect(directory / DATABASE)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = connection.execute("SELECT count(*) FROM events").fetchone()[0]
        assert rows == len(part.sequences)
    return last
