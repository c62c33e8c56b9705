"""A process that is killed in a write loses nothing acknowledged and leaves nothing half done."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from bridle_control import crash_points
from tests.support.stores import begin, open_sqlite

ROOT = Path(__file__).resolve().parents[3]


async def write_until_killed(directory: Path, point: str) -> int:
    """Runs the writer with a crash point; returns what it had acknowledged when it died."""
    path = os.pathsep.join(str(ROOT / part) for part in ("services", "clients/python", "."))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("writer_process.py")),
        str(directory),
        env={**os.environ, "PYTHONPATH": path, crash_points.VARIABLE: point},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == -signal.SIGKILL
    acknowledged = [int(line.split()[1]) for line in output.decode().splitlines()]
    return acknowledged[-1] if acknowledged else 0


@pytest.mark.parametrize(
    ("point", "unacknowledged"),
    [("store.before-insert", 0), ("store.before-commit", 0), ("store.after-commit", 3)],
)
@pytest.mark.parametrize("time", [1, 4])
async def test_a_killed_process_loses_nothing_that_it_acknowledged(
    tmp_path: Path, point: str, unacknowledged: int, time: int
) -> None:
    async with open_sqlite(tmp_path / "store") as store:
        await begin(store)
    acknowledged = await write_until_killed(tmp_path / "store", f"{point}:{time}")
    assert acknowledged == 3 * (time - 1)
    async with open_sqlite(tmp_path / "store") as store:
        part = await store.read(lambda tx: tx.events("s1", 0))
        session = await store.read(lambda tx: tx.session("s1"))
        assert session is not None
        # What was committed just before the end is there, though nobody was told.
        assert part.sequences == tuple(range(1, acknowledged + unacknowledged + 1))
        assert session.last_sequence == len(part.sequences)
        assert session.title == (str(len(part.sequences)) if part.sequences else "")
        assert await store.write(lambda tx: tx.purge_events(9)) == 0
