"""What is left when the host service or the shim dies: nothing, at once or after the sweep."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import bridle_host
from bridle_host import shim
from bridle_host.containment import Level
from bridle_host.process import (
    KILL_NOW,
    ExitStatus,
    InputClosedError,
    Ladder,
    ProcessError,
    SessionBusyError,
    ShimLostError,
    ShimProcess,
    sweep,
)
from bridle_host.sweep import SweepReport, unseen
from tests.bridle_host.process_support import (
    LEVELS,
    Bench,
    alive,
    bench,
    names,
    python,
    read_all,
    read_until,
    until,
)
from tests.bridle_host.test_process_stop import AGENTS, DAEMON, STUBBORN

SERVICES = str(Path(bridle_host.__file__).parents[1])

# A host service in small: starts agents by the code under test, says so, and waits to be killed.
HOST = """
import asyncio, json, os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from bridle_host.containment import detect
from bridle_host.process import Ladder, ProcessSpec, ShimProcess

async def main():
    directory, level, count, source, tag, stopping = sys.argv[2:]
    directory = Path(directory)
    environment = {**os.environ, 'TEST_TAG': tag}
    containment = detect(level)
    print('detected', flush=True)
    held = []
    for number in range(int(count)):
        held.append(await ShimProcess.spawn(ProcessSpec(
            (sys.executable, '-I', '-S', '-c', source), str(directory), environment,
            f'lost-{tag[:8]}-{number}', 1, directory / f'lost-{number}'), containment))
        async for chunk in held[-1].output():
            if b'ready' in chunk.data: break
        print(json.dumps([held[-1].pid, held[-1].shim_pid]), flush=True)
    stops = [asyncio.ensure_future(process.stop(Ladder(60, 60))) for process in held if stopping]
    for process in held if stopping else []:
        async for chunk in process.output():
            if b'hit' in chunk.data: break
    print('all', flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture(params=LEVELS, ids=names)
async def room(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path, request.param) as made:
        yield made


class Host:
    """The small host service as a process of its own."""

    def __init__(self, room: Bench, count: int, source: str, stopping: str = "") -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", HOST, SERVICES),
                *(str(room.directory), room.containment.name, str(count), source, room.tag),
                stopping,
            ],
            stdout=subprocess.PIPE,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()

    def agents(self) -> list[tuple[int, int]]:
        """(agent, shim) of all that it starts; waits for them."""
        assert self.line() == "detected"
        found = []
        while (line := self.line()) != "all":
            agent, of = json.loads(line)
            found.append((agent, of))
        return found

    def end(self) -> None:
        self.process.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process.wait()


@pytest.mark.parametrize("agent", STUBBORN)
async def test_when_the_host_is_killed_nothing_is_left(room: Bench, agent: str) -> None:
    host = Host(room, 3, STUBBORN[agent])
    found = host.agents()
    assert all(alive(shim) for _, shim in found)
    started = time.monotonic()
    host.end()
    await until(lambda: not room.living() and not any(alive(shim) for _, shim in found))
    assert time.monotonic() - started < 20
    assert list(room.directory.glob("lost-*/shim.json")) == []
    assert cgroups(room) == []


def cgroups(room: Bench) -> list[Path]:
    root = room.containment.cgroup_root
    return [] if root is None else list(root.glob(f"bridle-lost-{room.tag[:8]}-*"))


async def test_a_host_that_dies_in_the_middle_of_stopping_leaves_nothing(room: Bench) -> None:
    stubborn = """
import os, signal, time
for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, lambda *_: os.write(1, b'hit'))
os.write(1, b'ready')
while True: time.sleep(60)
"""
    host = Host(room, 2, stubborn, stopping="yes")
    assert len(host.agents()) == 2
    host.end()
    await until(lambda: not room.living())


async def test_a_host_that_dies_in_the_middle_of_starting_leaves_nothing(room: Bench) -> None:
    for delay in range(0, 100, 10):
        host = Host(room, 50, DAEMON)
        assert host.line() == "detected"
        await asyncio.sleep(delay / 1000)  # the moment of death is what is varied
        host.end()
        await until(lambda: not room.living())
    for left in room.directory.glob("lost-*"):
        assert sweep(left).remaining == 0
    # Nor a shim, whose environment carries no tag.
    await until(lambda: not _shims_in(room.directory))


def _shims_in(directory: Path) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and alive(int(name)):
            try:
                line = Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue
            if b"--state=" + os.fsencode(directory) in line:
                found.append(int(name))
    return found


@pytest.mark.parametrize("agent", STUBBORN)
async def test_a_killed_shim_is_noticed_and_what_it_held_is_swept(room: Bench, agent: str) -> None:
    process = await room.spawn(python(STUBBORN[agent]))
    await read_until(process, b"ready")
    os.kill(process.shim_pid, signal.SIGKILL)
    status = await asyncio.wait_for(process.wait(), 30)
    # The root of a runner is gone before its shim.
    assert status == ExitStatus(None, None) or agent == "runner"
    proof = await process.stop(Ladder(5, 5))
    assert proof.remaining == 0
    assert room.living() == []
    assert await read_all(process) == {}
    with pytest.raises(ShimLostError):
        await process.mark()
    with pytest.raises(InputClosedError):
        await process.write(b"x")
    await process.close()
    assert not (room.directory / "state-0" / "shim.json").exists()


# A daemon that keeps nothing of its session: no parent, no terminal, no descriptor, no environment.
HIDDEN = """
import os, signal, sys, time
ready, left = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP): signal.signal(number, 1)
        os.closerange(0, 3)
        os.dup2(left, 7)
        code = 'import os, time; os.write(7, b"x"); os.close(7); time.sleep(600)'
        os.execve(sys.executable, [sys.executable, '-I', '-S', '-c', code, sys.argv[1]], {})
    os._exit(0)
os.wait()
os.read(ready, 1)
os.write(1, b'ready')
time.sleep(600)
"""


def hidden(tag: str) -> list[int]:
    """The daemons of HIDDEN, by their last argument."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and alive(int(name)):
            try:
                line = Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue
            if line.endswith(b"\0" + tag.encode() + b"\0") and b"time.sleep(600)" in line:
                found.append(int(name))
    return found


DEATHS = {**AGENTS, "hidden": HIDDEN}


@pytest.mark.parametrize("agent", DEATHS)
async def test_the_death_of_the_shim_kills_the_tree_with_no_host_there(
    room: Bench, agent: str
) -> None:
    process = await room.spawn(python(DEATHS[agent], room.tag), on_host_lost="keep")
    await read_until(process, b"ready")
    own = process.shim_pid
    state = json.loads((room.directory / "state-0" / "shim.json").read_text())
    room.left_alone.append(state["guardian"]["pid"] if state["guardian"] else own)
    process.detach()
    os.kill(own, signal.SIGKILL)
    await until(lambda: not room.living() and not hidden(room.tag))
    with pytest.raises(ShimLostError):
        await ShimProcess.adopt(room.directory / "state-0", room.containment)
    report = await asyncio.to_thread(sweep, room.directory / "state-0")
    # All of it was seen: by the kernel, by the cgroup, or by the guardian, which says so.
    assert (report.found, report.remaining, report.seen) == (True, 0, True)
    assert not (room.directory / "state-0" / "shim.json").exists()
    assert not unseen(room.directory / "state-0")


@pytest.mark.parametrize("agent", DEATHS)
async def test_the_death_of_the_shim_kills_the_tree_while_the_host_is_there(
    room: Bench, agent: str
) -> None:
    process = await room.spawn(python(DEATHS[agent], room.tag), on_host_lost="keep")
    await read_until(process, b"ready")
    os.kill(process.shim_pid, signal.SIGKILL)
    proof = await asyncio.wait_for(process.stop(Ladder(40, 40)), 30)
    assert proof.remaining == 0
    assert room.living() == []
    assert hidden(room.tag) == []


async def test_an_agent_outlives_the_guardian_of_its_shim(tmp_path: Path) -> None:
    for containment in LEVELS:
        if containment.level is not Level.SUBREAPER:
            continue
        place = tmp_path / containment.name
        place.mkdir()
        async with bench(place, containment) as room:
            process = await room.spawn(("cat",), on_host_lost="keep")
            state = json.loads((place / "state-0" / "shim.json").read_text())
            os.kill(state["guardian"]["pid"], signal.SIGKILL)
            await process.write(b"here\n")
            await read_until(process, b"here")
            process.detach()
            again = await ShimProcess.adopt(place / "state-0", containment)
            room.started.append(again)
            await again.write(b"still\n")
            await read_until(again, b"still")


async def killed_at_one_blow(room: Bench) -> Path:
    """The state directory of an agent whose shim and guardian are gone: neither could act on the
    other's death."""
    process = await room.spawn(python(DAEMON), on_host_lost="keep")
    await read_until(process, b"ready")
    place = room.directory / "state-0"
    state = json.loads((place / "shim.json").read_text())
    pids = [state["guardian"]["pid"]] if state["guardian"] else []
    room.left_alone += pids or [process.shim_pid]
    process.detach()
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in [*pids, process.shim_pid]:
            os.kill(pid, number)
    await until(lambda: not any(map(alive, [*pids, process.shim_pid])))
    return place


async def test_a_sweep_finds_what_shim_and_guardian_left_that_were_killed_at_one_blow(
    room: Bench,
) -> None:
    await killed_at_one_blow(room)
    if room.containment.level is Level.PID_NAMESPACE:
        await until(lambda: not room.living())
    else:
        assert room.living()  # else nothing is shown
    report = await asyncio.to_thread(sweep, room.directory / "state-0")
    assert (report.found, report.remaining, report.session_id) == (True, 0, f"{room.tag[:8]}-0")
    assert room.living() == []
    if room.containment.cgroup_root is not None:
        assert list(room.containment.cgroup_root.glob(f"bridle-{room.tag[:8]}-*")) == []
    assert not sweep(room.directory / "state-0").found
    # What had left the tree would be known to nobody, where neither kernel nor cgroup holds it.
    sure = room.containment.level is Level.PID_NAMESPACE or room.containment.cgroup_root is not None
    assert report.seen == sure
    assert unseen(room.directory / "state-0") == (not sure)


async def test_a_start_ends_first_what_an_earlier_shim_left_in_its_directory(room: Bench) -> None:
    place = await killed_at_one_blow(room)
    left = room.living()
    second = await room.spawn(("cat",), state_directory=place)
    assert not set(left) & set(room.living())
    assert alive(second.pid)


async def test_a_start_is_refused_where_what_an_earlier_shim_left_can_not_be_ended(
    room: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = await killed_at_one_blow(room)
    state = (place / "shim.json").read_bytes()
    with monkeypatch.context() as patch:
        held = SweepReport(found=True, run=1, remaining=3)  # in the hands of the kernel
        patch.setattr("bridle_host.shim_client.sweep", lambda _: held)
        with pytest.raises(SessionBusyError, match="3 processes of run 1 can't be killed"):
            await room.spawn(("cat",), state_directory=place)
    assert (place / "shim.json").read_bytes() == state
    assert (await asyncio.to_thread(sweep, place)).remaining == 0


async def test_a_shim_that_ends_as_it_is_told_leaves_no_doubt(room: Bench) -> None:
    process = await room.spawn(python(DAEMON))
    await read_until(process, b"ready")
    await process.close()
    assert not unseen(room.directory / "state-0")
    assert not (room.directory / "state-0" / "seen.json").exists()


async def test_a_sweep_that_can_not_note_its_doubt_leaves_the_state_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (containment,) = [
        one for one in LEVELS if one.level is Level.SUBREAPER and one.cgroup_root is None
    ]
    async with bench(tmp_path, containment) as room:
        place = await killed_at_one_blow(room)

        def touch(path: Path, mode: int) -> None:
            raise OSError

        with monkeypatch.context() as full:
            full.setattr(Path, "touch", touch)
            assert not (await asyncio.to_thread(sweep, place)).seen
        assert unseen(place)
        assert not (await asyncio.to_thread(sweep, place)).seen
        assert (unseen(place), (place / "shim.json").exists()) == (True, False)


async def test_a_sweep_takes_a_shim_that_still_lives(room: Bench) -> None:
    process = await room.spawn(python(DAEMON))
    await read_until(process, b"ready")
    report = await asyncio.to_thread(sweep, room.directory / "state-0")
    assert report.remaining == 0
    assert room.living() == []
    assert await process.wait() in (ExitStatus(None, None), ExitStatus(None, signal.SIGKILL))
    await process.close()


async def test_a_sweep_does_not_count_the_agents_own_process(room: Bench) -> None:
    process = await room.spawn(python(DAEMON))
    await read_until(process, b"ready")
    (daemon,) = set(room.living()) - {process.pid}
    report = await asyncio.to_thread(sweep, room.directory / "state-0")
    assert {info.pid for info in report.killed} == {process.pid, daemon}
    assert {info.pid for info in report.beyond_agent} == {daemon}
    await process.close()


async def test_a_shim_that_hangs_is_killed_and_swept(
    room: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = await room.spawn(python(DAEMON))
    await read_until(process, b"ready")
    monkeypatch.setattr("bridle_host.shim_client.REQUEST_SECONDS", 0.2)
    os.kill(process.shim_pid, signal.SIGSTOP)
    proof = await process.stop(KILL_NOW)
    assert proof.remaining == 0
    assert room.living() == []
    await process.close()


async def test_a_request_to_a_shim_that_another_lets_end_is_over_with_it(room: Bench) -> None:
    process = await room.spawn(python(STUBBORN["ignoring"]))
    await read_until(process, b"ready")
    stopping = asyncio.create_task(process.stop(Ladder(60, 60)))
    await asyncio.sleep(0)  # it has asked
    assert await process.processes()  # the shim has heard of the stop
    async with asyncio.timeout(60):  # long before the request itself counts as hung
        await process._shim.end()
        proof = await stopping
    assert proof.remaining == 0
    assert room.living() == []


async def test_a_request_that_makes_no_sense_is_answered_with_an_error(room: Bench) -> None:
    process = await room.spawn(("cat",))
    with pytest.raises(ProcessError, match="unknown verb"):
        await process._shim.ask("dance")
    with pytest.raises(ProcessError, match="KeyError"):
        await process._shim.ask("interrupt")
    with pytest.raises(ValueError, match="12345"):
        await process.signal(12345)
    assert await process.processes()


def victim_state(pid: int, **changes: Any) -> dict[str, Any]:
    process = shim.read_process(pid)
    assert process is not None
    state = {
        "version": 1,
        "session": "s",
        "run": 1,
        "boot_id": shim.boot_id(),
        "pid": pid,
        "start_ticks": process.start,
        "level": "SUBREAPER",
        "cgroup": "",
        "mark": "s:none",
        "agent": {"pid": pid, "start_ticks": process.start},
    }
    return {**state, **changes}


@pytest.fixture
def bystander(tmp_path: Path) -> Any:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


async def test_a_sweep_kills_the_process_that_is_recorded(
    tmp_path: Path, bystander: subprocess.Popen[bytes]
) -> None:
    shim.write_state_file(str(tmp_path), victim_state(bystander.pid))
    # Nobody reaps it meanwhile: a corpse is not alive.
    report = await asyncio.to_thread(sweep, tmp_path)
    assert [info.pid for info in report.killed] == [bystander.pid]
    assert bystander.wait() == -signal.SIGKILL


@pytest.mark.parametrize("how", ["other start", "other boot"])
async def test_a_stale_state_file_never_harms_whoever_has_the_pid_now(
    tmp_path: Path, bystander: subprocess.Popen[bytes], how: str
) -> None:
    state = victim_state(bystander.pid)
    if how == "other boot":
        state["boot_id"] = "00000000-0000-0000-0000-000000000000"
    else:
        state["start_ticks"] -= 1
        state["agent"]["start_ticks"] -= 1
    shim.write_state_file(str(tmp_path), state)
    report = await asyncio.to_thread(sweep, tmp_path)
    assert report.found
    assert report.rebooted is (how == "other boot")
    assert (report.killed, report.remaining) == ((), 0)
    assert bystander.poll() is None
    assert not (tmp_path / "shim.json").exists()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"session": 1}', '{"pid": "1"}', "\udcff", '{"session": null}']
)
async def test_a_damaged_state_file_is_no_order_to_kill(tmp_path: Path, text: str) -> None:
    (tmp_path / "shim.json").write_bytes(os.fsencode(text))
    assert not sweep(tmp_path).found


async def test_a_sweep_of_nothing_finds_nothing(tmp_path: Path) -> None:
    assert not sweep(tmp_path).found
    assert not sweep(tmp_path / "missing").found


async def test_the_mark_is_compared_whole(tmp_path: Path) -> None:
    mark = f"s:{uuid.uuid4().hex}"  # (another test may have processes with its own)
    values = {
        "same": mark,
        "longer": mark + "0",
        "shorter": mark[:-1],
        "other": f"s:{uuid.uuid4().hex}",
    }
    processes = {name: marked(value) for name, value in values.items()}
    try:
        for name, process in processes.items():
            # Their start is told before they show what they were given.
            entry = f"BRIDLE_SESSION_MARK={values[name]}".encode()
            await until(lambda pid=process.pid, entry=entry: entry in given(pid))  # type: ignore[misc]
        state = victim_state(os.getpid(), mark=mark, start_ticks=0, agent=None)
        shim.write_state_file(str(tmp_path), state)
        report = await asyncio.to_thread(sweep, tmp_path)
        assert [info.pid for info in report.killed] == [processes["same"].pid]
        assert {name for name, process in processes.items() if process.poll() is None} == {
            "longer",
            "shorter",
            "other",
        }
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def given(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


def marked(value: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "600"], env={**os.environ, "BRIDLE_SESSION_MARK": value})
