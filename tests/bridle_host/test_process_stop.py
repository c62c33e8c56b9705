"""Stopping: the ladder, its proof, and agents that do what they can to live on."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridle_host.process import KILL_NOW, ExitStatus, Ladder, Proof, ShimLostError
from tests.bridle_host.process_support import (
    LEVELS,
    Bench,
    alive,
    bench,
    names,
    python,
    read_until,
    state_of,
    until,
)

IGNORE = """
import signal, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
print('ready', flush=True)
while True: time.sleep(60)
"""

# A daemon as in the books: fork, setsid, fork; and no descriptor is kept.
DAEMON = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)
        os.write(1, b'ready')
        os.closerange(0, 64)
        time.sleep(600)
    os._exit(0)
os.wait()
time.sleep(600)
"""

# 200 forks a second; the children live for a while.
BOMB = """
import os, signal, time
for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)
print('ready', flush=True)
count = 0
while True:
    if os.fork() == 0:
        time.sleep(1)
        os._exit(0)
    time.sleep(0.005)
    try:
        while os.waitpid(-1, os.WNOHANG)[0]: pass
    except ChildProcessError: pass
"""

# One that is never there when you look: each process forks its successor and leaves.
RUNNER = """
import os, signal, time
for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)
print('ready', flush=True)
while True:
    if os.fork(): os._exit(0)
    os.setsid()
    time.sleep(0.005)
"""

# The same without a rest: gone before a look at /proc comes to it.
SPRINTER = RUNNER.replace("    time.sleep(0.005)\n", "")

STUBBORN = {"ignoring": IGNORE, "daemon": DAEMON, "bomb": BOMB, "runner": RUNNER}
AGENTS = {**STUBBORN, "sprinter": SPRINTER}


@pytest.fixture(params=LEVELS, ids=names)
async def room(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path, request.param) as made:
        yield made


def signals_of(proof: Proof) -> list[int]:
    return [rung.signal for rung in proof.rungs]


async def test_a_polite_agent_ends_at_the_first_rung(room: Bench) -> None:
    process = await room.spawn(("sleep", "60"))
    proof = await process.stop(Ladder(40, 40))
    assert signals_of(proof) == [signal.SIGINT]
    [rung] = proof.rungs
    assert (rung.count, [found.pid for found in rung.found]) == (1, [process.pid])
    assert (proof.remaining, proof.left) == (0, ())
    assert proof.duration < 12
    assert await process.wait() == ExitStatus(None, signal.SIGINT)


async def test_an_agent_that_ignores_the_interrupt_is_terminated(room: Bench) -> None:
    process = await room.spawn(("sh", "-c", "trap '' INT; echo ready; exec sleep 60"))
    await read_until(process, b"ready")
    proof = await process.stop(Ladder(0.2, 40))
    assert signals_of(proof) == [signal.SIGINT, signal.SIGTERM]
    assert 0.2 <= proof.duration < 12
    assert await process.wait() == ExitStatus(None, signal.SIGTERM)


@pytest.mark.parametrize("agent", AGENTS)
async def test_an_agent_that_will_not_die_is_killed_with_all_that_it_made(
    room: Bench, agent: str
) -> None:
    process = await room.spawn(python(AGENTS[agent]))
    await read_until(process, b"ready")
    proof = await process.stop(Ladder(0.2, 0.2))
    assert room.living() == []
    assert proof.remaining == 0
    assert signals_of(proof)[-1] == signal.SIGKILL
    assert proof.duration < 15
    assert await process.processes() == []


@pytest.mark.parametrize("agent", AGENTS)
async def test_a_kill_needs_no_grace(room: Bench, agent: str) -> None:
    process = await room.spawn(python(AGENTS[agent]))
    await read_until(process, b"ready")
    proof = await process.stop(KILL_NOW)
    assert room.living() == []
    assert signals_of(proof) == [signal.SIGKILL]
    assert proof.remaining == 0
    assert proof.duration < 12


async def test_a_stopped_agent_is_continued_so_that_it_can_end(room: Bench) -> None:
    script = "trap 'exit 4' TERM INT; echo ready; kill -STOP $$; wait"
    process = await room.spawn(("sh", "-c", script))
    await read_until(process, b"ready")
    await until(lambda: state_of(process.pid) == "T")
    proof = await process.stop(Ladder(40, 40))
    assert signals_of(proof) == [signal.SIGINT]
    assert await process.wait() == ExitStatus(4, None)


async def test_stopped_children_die_with_the_rest(room: Bench) -> None:
    script = "for i in 1 2 3; do setsid sleep 600 & kill -STOP $!; done; echo ready; wait"
    process = await room.spawn(("bash", "-c", script))
    await read_until(process, b"ready")
    proof = await process.stop(Ladder(1, 1))
    assert proof.remaining == 0
    assert room.living() == []


async def test_a_cleaned_environment_does_not_hide_a_daemon(room: Bench) -> None:
    script = "env -i setsid sh -c 'sleep 6543 & sleep 6543 & wait' >/dev/null 2>&1 & sleep 0.1"
    process = await room.spawn(("bash", "-c", script))
    await process.wait()
    hidden = [found.pid for found in await process.processes() if "6543" in found.command]
    assert hidden
    await process.stop(KILL_NOW)
    assert not any(alive(pid) for pid in hidden)


async def test_no_corpse_is_left(room: Bench) -> None:
    # The root never reaps; its dead children become the shim's when it dies.
    source = """
import os, time
for _ in range(50):
    if os.fork() == 0: os._exit(0)
print('ready', flush=True)
time.sleep(600)
"""
    process = await room.spawn(python(source))
    await read_until(process, b"ready")
    while [found.pid for found in await process.processes()] != [process.pid]:
        pass  # the last of them are still dying
    await process.stop(Ladder(1, 1))
    assert _children(process.shim_pid) == ""


def _children(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text()


async def test_output_flows_while_an_agent_is_being_stopped(room: Bench) -> None:
    source = """
import os, signal
def end(*_):
    left = memoryview(b'bye' * 300000)
    while left: left = left[os.write(1, left):]
    os._exit(0)
signal.signal(2, end)
os.write(1, b'ready')
while True: signal.pause()
"""
    process = await room.spawn(python(source))
    await read_until(process, b"ready")
    async with asyncio.TaskGroup() as group:
        stopping = group.create_task(process.stop(Ladder(40, 40)))
        size = sum([len(chunk.data) async for chunk in process.output()])
    assert size == 900_000
    assert signals_of(stopping.result()) == [signal.SIGINT]
    assert await process.wait() == ExitStatus(0, None)


async def test_what_the_agent_leaves_behind_is_swept_after_its_exit(room: Bench) -> None:
    process = await room.spawn(("bash", "-c", "setsid sleep 600 & sleep 600 & disown; exit 0"))
    assert await process.wait() == ExitStatus(0, None)
    proof = await process.stop(Ladder(1, 1))
    assert proof.rungs[0].count == 2
    assert proof.remaining == 0


async def test_stopping_again_finds_nothing(room: Bench) -> None:
    process = await room.spawn(("sleep", "60"))
    await process.stop(KILL_NOW)
    for _ in range(2):
        again = await process.stop(Ladder(5, 5))
        assert (again.rungs, again.remaining) == ((), 0)
    await process.close()
    assert (await process.stop(KILL_NOW)).remaining == 0
    await process.close()


async def test_a_shorter_grace_overtakes_a_longer_one(room: Bench) -> None:
    process = await room.spawn(python(IGNORE))
    await read_until(process, b"ready")
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        patient = group.create_task(process.stop(Ladder(30, 30)))
        await process.stop(Ladder(0.1, 0.1))
    assert patient.result().remaining == 0


async def test_closing_kills_what_is_left_and_ends_the_shim(room: Bench) -> None:
    process = await room.spawn(python(DAEMON))
    await read_until(process, b"ready")
    shim = process.shim_pid
    await process.close()
    assert room.living() == []
    assert not alive(shim)
    assert process.exited == ExitStatus(None, signal.SIGKILL)
    assert not (room.directory / "state-0" / "shim.json").exists()
    assert not (room.directory / "state-0" / "shim.sock").exists()
    with pytest.raises(ShimLostError):
        await process.mark()


async def test_closing_leaves_no_cgroup(room: Bench) -> None:
    process = await room.spawn(("sleep", "60"))
    root = room.containment.cgroup_root
    if root is not None:
        [own] = root.glob(f"bridle-{room.tag[:8]}-0-*")
        assert str(process.pid) in (own / "cgroup.procs").read_text().split()
        # An agent may make cgroups of its own beneath.
        (own / "inner").mkdir()
    await process.close()
    assert root is None or list(root.glob(f"bridle-{room.tag[:8]}-0-*")) == []


async def test_neighbours_are_not_touched(room: Bench) -> None:
    outsider = await asyncio.create_subprocess_exec("sleep", "60")
    neighbour = await room.spawn(("cat",))
    process = await room.spawn(python(BOMB))
    await read_until(process, b"ready")
    await process.stop(Ladder(0.1, 0.1))
    assert alive(outsider.pid)
    await neighbour.write(b"still here")
    await read_until(neighbour, b"still here")
    outsider.kill()
    await outsider.wait()


async def test_a_signal_to_the_shim_from_the_agent_is_not_heard(room: Bench) -> None:
    script = "kill -TERM $PPID; kill -INT $PPID; kill -HUP $PPID; echo sent; read x"
    process = await room.spawn(("sh", "-c", script))
    await read_until(process, b"sent")
    assert [found.pid for found in await process.processes()] == [process.pid]


async def test_a_signal_reaches_the_root_only(room: Bench) -> None:
    script = "trap 'echo got it' USR1; sleep 600 & echo ready; while :; do wait; done"
    process = await room.spawn(("bash", "-c", script))
    await read_until(process, b"ready")
    assert await process.signal(signal.SIGUSR1) is True
    await read_until(process, b"got it")
    assert len(await process.processes()) == 2
    await process.stop(KILL_NOW)
    assert await process.signal(signal.SIGUSR1) is False


async def test_two_hundred_processes_are_listed_and_stopped(room: Bench) -> None:
    script = "for i in $(seq 300); do sleep 600 & done; echo ready; wait"
    process = await room.spawn(("bash", "-c", script))
    await read_until(process, b"ready")
    proof = await process.stop(Ladder(2, 2))
    assert proof.rungs[0].count == 301
    assert len(proof.rungs[0].found) == 256
    assert proof.remaining == 0
    started = time.monotonic()
    assert (await process.stop(KILL_NOW)).remaining == 0
    assert time.monotonic() - started < 12
