"""Turn marks: an interrupt takes what was born since, and nothing that is older."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridle_host.process import ExitStatus, ProcessInfo, ShimProcess
from tests.bridle_host.process_support import (
    LEVELS,
    Bench,
    alive,
    bench,
    names,
    python,
    read_until,
    until,
)


@pytest.fixture(params=LEVELS, ids=names)
async def room(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path, request.param) as made:
        yield made


async def shell(room: Bench) -> ShimProcess:
    """A bash that runs what it reads, and shrugs off SIGINT."""
    process = await room.spawn(("bash", "--norc"))
    await do(process, "trap 'echo hit' INT")
    return process


async def do(process: ShimProcess, script: str) -> None:
    await process.write(f"{script}\necho done-$((40+2))\n".encode())
    await read_until(process, b"done-42")


async def pids(process: ShimProcess, text: str) -> set[int]:
    return {found.pid for found in await process.processes() if text in found.command}


def pids_of(found: tuple[ProcessInfo, ...]) -> set[int]:
    return {info.pid for info in found}


async def test_an_interrupt_takes_what_was_born_since_the_mark_and_nothing_older(
    room: Bench,
) -> None:
    process = await shell(room)
    await do(process, "sleep 1001 & setsid sleep 1002 & (setsid sleep 1003 & )")
    old = await until_async(process, "sleep 1", 3)
    mark = await process.mark()
    await do(process, "sleep 2001 & setsid sleep 2002 & (setsid sleep 2003 & )")
    young = await until_async(process, "sleep 2", 3)
    assert (len(young), len(old)) == (3, 3)
    # Background children of a shell without job control ignore SIGINT: so they are killed.
    interrupted = await process.interrupt(mark, grace=0.2)
    assert pids_of(interrupted.signalled) == young
    assert pids_of(interrupted.killed) <= young
    assert interrupted.remaining == 0
    assert interrupted.duration < 12
    assert not any(alive(pid) for pid in young)
    assert all(alive(pid) for pid in old)
    await do(process, "true")


async def test_a_tool_that_obeys_is_not_killed(room: Bench) -> None:
    process = await shell(room)
    mark = await process.mark()
    await process.write(b"sleep 3001; echo after-$?\n")
    await until_async(process, "sleep 3001")
    interrupted = await process.interrupt(mark, grace=40)
    assert len(interrupted.signalled) == 1
    assert (interrupted.killed, interrupted.remaining) == ((), 0)
    assert interrupted.duration < 12
    await read_until(process, b"after-130")


async def until_async(process: ShimProcess, text: str, count: int = 1) -> set[int]:
    while len(found := await pids(process, text)) < count:
        pass
    return found


async def test_the_root_is_spared_unless_asked_for(room: Bench) -> None:
    process = await shell(room)
    mark = await process.mark()
    await process.write(b"sleep 3002; echo after\n")
    await until_async(process, "sleep 3002")
    await process.interrupt(mark, grace=40)
    assert b"hit" not in await read_until(process, b"after")
    mark = await process.mark()
    await process.write(b"sleep 3003; echo after\n")
    await until_async(process, "sleep 3003")
    await process.interrupt(mark, grace=40, spare_root=False)
    assert b"hit" in await read_until(process, b"after")
    assert process.exited is None


async def test_a_root_that_ignores_the_signal_is_not_killed_by_an_interrupt(room: Bench) -> None:
    process = await room.spawn(("sh", "-c", "trap '' INT; echo ready; exec sleep 60"))
    await read_until(process, b"ready")
    mark = await process.mark()
    interrupted = await process.interrupt(mark, grace=0.1, spare_root=False)
    assert (interrupted.signalled, interrupted.killed, interrupted.remaining) == ((), (), 0)
    assert process.exited is None


async def test_what_ignores_the_interrupt_or_is_stopped_is_killed_after_the_grace(
    room: Bench,
) -> None:
    process = await shell(room)
    mark = await process.mark()
    await process.write(b"(trap '' INT TERM; sleep 4001; sleep 4002; true) & wait\n")
    await until_async(process, "sleep 4001")
    [sleeper] = await pids(process, "sleep 4001")
    interrupted = await process.interrupt(mark, grace=0.3)
    assert interrupted.remaining == 0
    assert 0.3 <= interrupted.duration < 12
    assert sleeper in pids_of(interrupted.killed)
    assert await pids(process, "sleep 4") == set()


async def test_what_is_born_during_the_grace_dies_too(room: Bench) -> None:
    process = await shell(room)
    mark = await process.mark()
    source = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    if os.fork() == 0:
        os.setsid()
        time.sleep(30)
        os._exit(0)
    time.sleep(0.005)
"""
    (room.directory / "bomb.py").write_text(source)
    await process.write(f"{python('')[0]} bomb.py & wait\n".encode())
    await until_async(process, "bomb.py", 5)
    interrupted = await process.interrupt(mark, grace=0.3)
    assert interrupted.remaining == 0
    assert interrupted.killed
    assert await pids(process, "bomb.py") == set()
    await do(process, "true")


async def test_a_root_that_spawns_without_end_is_reported_and_not_waited_for(room: Bench) -> None:
    process = await room.spawn(("bash", "-c", "trap '' INT; while :; do sleep 0.01; done"))
    mark = await process.mark()
    interrupted = await process.interrupt(mark, grace=0.1)
    assert interrupted.duration < 15
    assert process.exited is None


async def test_background_jobs_of_earlier_turns_keep_their_new_children_when_asked(
    room: Bench,
) -> None:
    process = await shell(room)
    await do(process, "(while :; do sleep 0.3; done) & job=$!")
    mark = await process.mark()
    await process.write(b"sleep 5001 & wait $!\n")
    await until_async(process, "sleep 5001")
    interrupted = await process.interrupt(mark, grace=0.5, spare_jobs=True)
    assert [info.command for info in interrupted.signalled] == ["sleep 5001"]
    await do(process, "kill -0 $job || exit 9")


async def test_a_mark_holds_over_exec_and_knows_a_reused_pid_by_its_start(room: Bench) -> None:
    process = await shell(room)
    await do(process, "(sleep 0.2; exec sleep 6001) & sleep 0.05")
    mark = await process.mark()
    await until_async(process, "sleep 6001")
    older = await pids(process, "sleep 6001")
    interrupted = await process.interrupt(mark, grace=0.1)
    # The subshell that became the sleep is older; only its own sleep 0.2 may have been younger.
    assert older & pids_of(interrupted.killed + interrupted.signalled) == set()
    assert all(alive(pid) for pid in older)


async def test_an_interrupt_with_another_signal(room: Bench) -> None:
    process = await shell(room)
    mark = await process.mark()
    await process.write(b"sleep 7001; echo after-$?\n")
    await until_async(process, "sleep 7001")
    await process.interrupt(mark, signum=signal.SIGTERM, grace=40)
    await read_until(process, b"after-143")


async def test_an_interrupt_without_grace_kills(room: Bench) -> None:
    process = await shell(room)
    mark = await process.mark()
    await process.write(b"sleep 7002; echo after-$?\n")
    await until_async(process, "sleep 7002")
    interrupted = await process.interrupt(mark, grace=0)
    assert interrupted.remaining == 0
    said = await read_until(process, b"after-")
    assert said
    assert await pids(process, "sleep 7002") == set()


async def test_an_interrupt_after_the_exit_takes_what_was_left(room: Bench) -> None:
    process = await room.spawn(("bash", "-c", "read x; setsid sleep 8001 & exit 0"))
    mark = await process.mark()
    await process.write(b"\n")
    assert await process.wait() == ExitStatus(0, None)
    [left] = await until_async(process, "sleep 8001")
    interrupted = await process.interrupt(mark, grace=0.5)
    assert pids_of(interrupted.signalled) == {left}
    await until(lambda: not alive(left))
