"""The processes of a run: started under shims, counted, seen gone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridle_host import run_processes
from bridle_host.containment import detect
from bridle_host.process import ShimFailedError, ShimProcess
from bridle_host.run_processes import RunProcesses, sweep_until_gone
from bridle_host.sweep import SweepReport, shim_present
from tests.bridle_host.process_support import Bench

SLEEPS = ("/bin/sh", "-c", "sleep 1000 & sleep 1000 & echo up; wait")


def processes(path: Path) -> RunProcesses:
    environment = {"PATH": "/usr/bin:/bin", "OWN": "1"}
    return RunProcesses("session", 1, path / "process", environment, detect())


async def start(run: RunProcesses, path: Path) -> ShimProcess:
    """Something with two children, which are there."""
    process = await run.spawn(SLEEPS, directory=str(path), environment={"MORE": "2"})
    async for chunk in process.output():
        assert chunk.data == b"up\n"
        break
    return process


async def test_what_is_left_is_killed_and_counted(tmp_path: Path) -> None:
    run = processes(tmp_path)
    process = await start(run, tmp_path)
    assert await run.end() == 2
    assert process.exited is not None
    assert await run.end() == 0


async def test_nothing_starts_in_a_run_that_is_over(tmp_path: Path) -> None:
    run = processes(tmp_path)
    assert await run.end() == 0
    with pytest.raises(ShimFailedError, match="the run is over"):
        await start(run, tmp_path)


async def test_what_was_starting_while_the_run_ended_is_ended(tmp_path: Path) -> None:
    run = processes(tmp_path)
    bench = Bench(tmp_path, detect())
    async with asyncio.TaskGroup() as group:
        starting = group.create_task(_refused(run, bench))
        await asyncio.sleep(0)
        # (How many it finds is a matter of how far that has come.)
        group.create_task(run.end())
    assert starting.result()
    assert bench.living() == []
    assert not shim_present(tmp_path / "process")
    assert await run.end() == 0


async def _refused(run: RunProcesses, bench: Bench) -> bool:
    with pytest.raises(ShimFailedError):
        await run.spawn(SLEEPS, directory=str(bench.directory), environment=bench.environment())
    return True


async def test_the_next_process_takes_the_place_of_one_that_ended(tmp_path: Path) -> None:
    run = processes(tmp_path)
    first = await run.spawn(("/bin/true",), directory=str(tmp_path), environment={})
    await first.wait()
    await first.close()
    second = await run.spawn(
        ("/bin/sh", "-c", "echo $OWN$MORE"), directory=str(tmp_path), environment={"MORE": "2"}
    )
    output = b"".join([chunk.data async for chunk in second.output()])
    assert output == b"12\n"
    assert await run.end() == 0


async def test_what_cannot_be_killed_is_looked_at_until_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter([2, 1, 0])
    monkeypatch.setattr(run_processes, "LOOK_AGAIN", 0.001)
    monkeypatch.setattr(
        run_processes, "sweep", lambda path: SweepReport(found=True, remaining=next(left))
    )
    assert await sweep_until_gone(tmp_path) == 0
    assert list(left) == []
