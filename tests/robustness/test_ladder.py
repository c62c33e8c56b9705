"""The stop ladder against the worst agents, at every containment level that this user has here.

Each is gone within its grace and two seconds (of a machine with nothing else to do), its exit told,
nothing of it a corpse, its cgroup empty, and its neighbours untouched. BRIDLE_ROUNDS repeats all of
it (1 by default).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridle_host.process import KILL_NOW, ExitStatus, Ladder, Proof, ShimProcess
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
from tests.bridle_host.test_process_lost import HIDDEN, hidden
from tests.bridle_host.test_process_stop import AGENTS
from tests.support.pace import paced

ROUNDS = int(os.environ.get("BRIDLE_ROUNDS", "1"))
GRACE = Ladder(0.2, 0.2)
#: Beyond the grace, seconds. Where it is broken, it is as long as an agent sleeps.
BOUND = paced(2.0)
#: The same where the shim itself has to be brought to life first, which takes it to be noticed.
SILENCE_BOUND = paced(3.0)

_DEAF = """
import os, signal, sys, time
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
"""

# Deaf and stopped, with children that are.
STOPPED = (
    _DEAF
    + """
for _ in range(5):
    if os.fork() == 0:
        os.setsid()
        os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(600)
        os._exit(0)
os.write(1, b'ready')
os.kill(os.getpid(), signal.SIGSTOP)
time.sleep(600)
"""
)

# Two that bring each other back, in sessions of their own.
HYDRA = (
    _DEAF
    + """
def watch(other):
    while True:
        try: os.kill(other, 0)
        except ProcessLookupError:
            me = os.getpid()
            other = os.fork()
            if other == 0:
                os.setsid()
                other = me
        time.sleep(0.001)
me = os.getpid()
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
child = os.fork()
if child == 0: os.setsid()
else: os.write(1, b'ready')
watch(child or me)
"""
)

# Writes without end, to everything that it has, from grandchildren too.
FLOOD = (
    _DEAF
    + """
os.write(1, b'ready')
for stream in (1, 2, 1):
    if os.fork() == 0:
        os.setsid()
        while True: os.write(stream, b'y' * 65536)
while True: os.write(1, b'x' * 65536)
"""
)

# Ends by itself; what it leaves holds its pipes open.
HOLDER = (
    _DEAF
    + """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True: time.sleep(60)
    os._exit(0)
try: os.wait()
except ChildProcessError: pass  # SIGCHLD is ignored, too
os.write(1, b'ready')
os._exit(3)
"""
)

# Turns against its keepers; in a PID namespace it can't.
STOPS_ITS_SHIM = (
    _DEAF
    + """
def parent(pid): return int(open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[1])
shim = os.getppid()
if shim > 1:
    os.kill(parent(shim), signal.SIGSTOP)
os.kill(shim, signal.SIGSTOP)
os.write(2, b'done')
time.sleep(600)
"""
)

WORST = {**AGENTS, "stopped": STOPPED, "hydra": HYDRA, "flood": FLOOD, "hidden": HIDDEN}


@pytest.fixture(params=LEVELS, ids=names)
async def room(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path, request.param) as made:
        yield made


class Neighbours:
    """A session and a process of nobody's, that must not notice anything."""

    def __init__(self, session: ShimProcess, outsider: asyncio.subprocess.Process) -> None:
        self._session, self._outsider = session, outsider

    @classmethod
    async def of(cls, room: Bench) -> Neighbours:
        session = await room.spawn(("cat",))
        return cls(session, await asyncio.create_subprocess_exec("sleep", "600"))

    async def untouched(self) -> None:
        assert alive(self._outsider.pid)
        await self._session.write(b"still here\n")
        await read_until(self._session, b"still here")

    async def leave(self) -> None:
        self._outsider.kill()
        await self._outsider.wait()


def keepers(room: Bench, number: int) -> list[int]:
    """The shim of a session and its guardian, if it has one."""
    state = json.loads((room.directory / f"state-{number}" / "shim.json").read_text())
    guardian = state["guardian"]
    return [state["pid"], *([guardian["pid"]] if guardian else [])]


def corpses_of(parents: list[int]) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            fields = (
                Path(f"/proc/{name}/stat").read_text(errors="replace").rpartition(")")[2].split()
            )
        except OSError:
            continue
        if fields[0] == "Z" and int(fields[1]) in parents:
            found.append(int(name))
    return found


def populated(room: Bench, number: int) -> bool:
    root = room.containment.cgroup_root
    if root is None:
        return False
    groups = list(root.glob(f"bridle-{room.tag[:8]}-{number}-*"))
    return any("populated 1" in (group / "cgroup.events").read_text() for group in groups)


async def stopped(process: ShimProcess, ladder: Ladder, bound: float = BOUND) -> Proof:
    started = time.monotonic()
    proof = await process.stop(ladder)
    took = time.monotonic() - started
    assert took <= ladder.interrupt_grace + ladder.terminate_grace + bound
    async with asyncio.timeout(BOUND):
        await process.wait()
    return proof


@pytest.mark.parametrize("round_number", range(ROUNDS))
async def test_the_worst_agents_are_gone_in_time_and_their_neighbours_notice_nothing(
    room: Bench, round_number: int
) -> None:
    neighbours = await Neighbours.of(room)
    for agent, source in WORST.items():
        number = len(room.started)
        process = await room.spawn(python(source, room.tag), on_host_lost="keep")
        await read_until(process, b"ready")
        if agent == "stopped":
            await until(lambda pid=process.pid: state_of(pid) == "T")  # type: ignore[misc]
        proof = await stopped(process, GRACE)
        assert (proof.remaining, proof.left) == (0, ()), agent
        assert proof.rungs[-1].signal == signal.SIGKILL, agent
        assert hidden(room.tag) == [], agent
        assert not populated(room, number), agent
        assert corpses_of(keepers(room, number)) == [], agent
        own = keepers(room, number)
        await process.close()
        await until(lambda own=own: not any(map(alive, own)))  # type: ignore[misc]
        await neighbours.untouched()
    await neighbours.leave()


@pytest.mark.parametrize("round_number", range(ROUNDS))
async def test_short_lives_are_told_in_order_and_nobody_waits_for_who_holds_their_pipes(
    room: Bench, round_number: int
) -> None:
    for attempt in range(4):
        started = time.monotonic()
        process = await room.spawn(python(HOLDER), on_host_lost="keep")
        said = b"".join([chunk.data async for chunk in process.output()])
        assert (said, process.exited) == (b"ready", ExitStatus(3, None)), attempt
        at_once = await room.spawn(("true",), on_host_lost="keep")
        assert [chunk async for chunk in at_once.output()] == []
        assert at_once.exited == ExitStatus(0, None)
        assert time.monotonic() - started < 2 * BOUND
        proof = await stopped(process, KILL_NOW)
        assert (proof.remaining, proof.rungs[0].count) == (0, 1)
        await process.close()
        await at_once.close()


async def test_an_agent_that_stops_its_keepers_is_stopped_all_the_same(room: Bench) -> None:
    neighbours = await Neighbours.of(room)
    process = await room.spawn(python(STOPS_ITS_SHIM), on_host_lost="keep")
    shim, *guardian = keepers(room, 1)
    if guardian:
        await until(lambda: state_of(shim) == "T" and state_of(guardian[0]) == "T")
    else:
        await read_until(process, b"done", pipe=2)
    proof = await stopped(process, KILL_NOW, SILENCE_BOUND)
    assert proof.remaining == 0
    assert not alive(process.pid)
    await process.close()
    await neighbours.untouched()
    await neighbours.leave()


@pytest.mark.parametrize("agent", ["ignoring", "sprinter", "hidden"])
async def test_the_death_of_the_shim_in_the_middle_of_a_stop_ends_it_at_once(
    room: Bench, agent: str
) -> None:
    process = await room.spawn(python(WORST[agent], room.tag), on_host_lost="keep")
    await read_until(process, b"ready")
    stopping = asyncio.ensure_future(process.stop(Ladder(60, 60)))
    await until(lambda: process._shim._request)  # the stop is asked for before the mark
    assert (await process.mark()).processes is not None  # the shim has heard of the stop
    killed = time.monotonic()
    os.kill(process.shim_pid, signal.SIGKILL)
    assert (await stopping).remaining == 0
    assert time.monotonic() - killed <= 2 * BOUND
    assert room.living() == []
    assert hidden(room.tag) == []
