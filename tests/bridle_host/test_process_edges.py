"""What seldom happens to a shim and its host: no answer, no room, no time; and nothing is left."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridle_host import shim, shim_client
from bridle_host import sweep as sweeping
from bridle_host.process import Ladder, ShimFailedError, ShimProcess
from bridle_host.shim_link import Death, connect
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
from tests.bridle_host.test_process_stop import IGNORE

READY = "import time\nprint('ready', flush=True)\ntime.sleep(600)"


@pytest.fixture(params=LEVELS, ids=names)
async def room(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path, request.param) as made:
        yield made


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path, LEVELS[-1]) as made:
        yield made


def start(source: str, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """A process that no shim knows of."""
    return subprocess.Popen(
        python(source), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )


async def test_a_shim_that_can_not_look_for_its_processes_is_ended_with_all_that_it_holds(
    room: Bench,
) -> None:
    process = await room.spawn(python(READY), on_host_lost="keep")
    await read_until(process, b"ready")
    # Without a free descriptor it can't list /proc, and its answer to a stop is an error.
    resource.prlimit(process.shim_pid, resource.RLIMIT_NOFILE, (3, 3))
    async with asyncio.timeout(120):
        await process.close()
    assert not alive(process.shim_pid)
    assert room.living() == []


@pytest.mark.parametrize("deaf", [False, True])
async def test_a_start_that_a_stopped_shim_does_not_read_fails_and_leaves_nothing(
    one: Bench, monkeypatch: pytest.MonkeyPatch, deaf: bool
) -> None:
    stopped: list[int] = []
    start_shim = shim_client.ShimClient._start_shim

    async def start_and_stop(client: shim_client.ShimClient, options: list[str]) -> None:
        await start_shim(client, options)
        os.kill(client.pid, signal.SIGSTOP)
        stopped.append(client.pid)
        if deaf:  # as if it were stopped again at once
            monkeypatch.setattr(client, "_revive", lambda: None)
            monkeypatch.setattr(shim_client, "SHIM_START_SECONDS", 0.1)

    monkeypatch.setattr(shim_client.ShimClient, "_start_shim", start_and_stop)
    monkeypatch.setattr(shim_client, "AGENT_START_SECONDS", 0.1)
    # More than the socket holds: a part of it waits on our side.
    large = {f"LARGE_{number}": "x" * 100_000 for number in range(20)}
    async with asyncio.timeout(120):
        with pytest.raises(ShimFailedError, match="no agent"):
            await one.spawn(python(READY), environment={**one.environment(), **large})
    assert len(stopped) == 1
    assert not alive(stopped[0])


async def test_a_shim_that_was_reaped_before_its_birth_was_told_is_not_looked_for(
    one: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    # As a guardian does whose shim ends at once.
    guardian = (
        "import os\n"
        "pid = os.fork()\n"
        "if not pid: os._exit(1)\n"
        "os.waitpid(pid, 0)\n"
        "os.write(1, b'pid %d\\nerror no room for it\\n' % pid)\n"
    )
    monkeypatch.setattr(shim_client, "shim_command", lambda *_: list(python(guardian)))
    with pytest.raises(ShimFailedError, match="no room for it"):
        await one.spawn(python(READY))
    assert failures == []


async def test_a_shim_greets_before_it_says_what_its_agent_has_said(one: Bench) -> None:
    process = await one.spawn(python(READY), on_host_lost="keep")
    await read_until(process, b"ready")
    process.detach()
    place = one.directory / "state-0"
    with connect(place) as client:
        client.setblocking(True)
        client.settimeout(60)
        head = b""
        while len(head) < shim.FRAME.size:
            part = await asyncio.to_thread(client.recv, shim.FRAME.size - len(head))
            assert part
            head += part
    assert shim.FRAME.unpack(head)[1] == shim.HELLO
    one.started[0] = await ShimProcess.adopt(place, one.containment)


async def test_a_shim_is_not_taken_for_deaf_because_its_host_stood_still(one: Bench) -> None:
    process = await one.spawn(python(IGNORE))
    await read_until(process, b"ready")
    on_frame = process._shim._link._on_frame
    stood: list[bool] = []

    def stand_still(kind: int, body: bytes) -> None:
        on_frame(kind, body)
        if kind == shim.PONG and not stood:
            stood.append(True)
            # Nothing is asked of the shim meanwhile, and so it has nothing to say.
            time.sleep(shim_client.DEAF_SECONDS + 0.5)

    process._shim._link._on_frame = stand_still
    proof = await process.stop(Ladder(shim_client.DEAF_SECONDS + 2, 0))
    assert stood
    assert [rung.signal for rung in proof.rungs] == [signal.SIGINT, signal.SIGKILL]
    assert await process.processes() == []  # the shim is there


async def test_the_dead_is_reaped_and_not_whoever_has_its_pid_now() -> None:
    # Its parent has reaped it, and a child of ours got the pid.
    parent = start(
        "import os, signal\n"
        "if os.fork(): os.wait()\n"
        "else: print(os.getpid(), flush=True), signal.pause()"
    )
    child = start("input()")
    late = threading.Timer(20, child.kill)
    late.start()
    try:
        assert parent.stdout is not None
        dying = int(parent.stdout.readline())
        death = Death(dying)
        death.pid = child.pid
        os.kill(dying, signal.SIGKILL)
        assert await death.wait(60)
        assert alive(child.pid)
    finally:
        late.cancel()
        child.kill()
        child.communicate()
        parent.kill()
        parent.communicate()


def test_a_guardian_that_would_go_on_if_it_were_let_is_not_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "GUARDIAN_SECONDS", 0.01)
    # It has been given a second of a processor, however long that takes.
    guardian = start("import time\nwhile time.process_time() < 1: pass")
    try:
        found = shim.read_process(guardian.pid)
        assert found is not None
        state = {
            "session": "s",
            "run": 1,
            "boot_id": shim.boot_id(),
            "pid": 0,
            "start_ticks": 0,
            "guardian": {"pid": found.pid, "start_ticks": found.start},
            "mark": "",
            "cgroup": "",
        }
        shim.write_state_file(str(tmp_path), state)
        assert sweeping.sweep(tmp_path, limit=120).remaining == 0
        assert guardian.wait() == 0
    finally:
        guardian.kill()
        guardian.communicate()


def test_a_sweep_whose_time_is_up_before_it_has_seen_nothing_twice_claims_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = start("input()")
    try:
        found = shim.read_process(agent.pid)
        assert found is not None
        state = {
            "session": "s",
            "run": 1,
            "boot_id": shim.boot_id(),
            "pid": found.pid,
            "start_ticks": found.start,
            "level": "PID_NAMESPACE",
            "mark": "",
            "cgroup": "",
        }
        shim.write_state_file(str(tmp_path), state)
        report = sweeping.sweep(tmp_path, limit=0.0)
        assert report.remaining > 0
        assert (tmp_path / shim.STATE_FILE).exists()
        assert agent.poll() is None
        # Neither where its cgroup says that something is there which /proc doesn't show.
        monkeypatch.setattr(sweeping._Search, "populated", lambda _: True)
        assert sweeping.sweep(tmp_path, limit=0.5).remaining > 0
        assert (tmp_path / shim.STATE_FILE).exists()
        monkeypatch.undo()
        assert sweeping.sweep(tmp_path).remaining == 0
        assert not (tmp_path / shim.STATE_FILE).exists()
    finally:
        agent.kill()
        agent.communicate()


async def test_a_process_that_shows_its_mark_only_later_is_found_by_the_next_look(
    tmp_path: Path,
) -> None:
    # In the midst of an execve a process has no environment that could be read.
    mark = f"s:{uuid.uuid4().hex}"  # (another test may sweep by its own)
    later = (
        "import os, sys\n"
        "input()\n"
        "os.execve(sys.executable, [sys.executable, '-c', 'input()'],"
        f" {{'{shim.MARK_VARIABLE}': '{mark}'}})"
    )
    agent = start(later, {})
    try:
        path = Path(f"/proc/{agent.pid}")
        await until(lambda: b"input" in (path / "cmdline").read_bytes())
        assert (path / "environ").read_bytes() == b""
        state = {"pid": 0, "start_ticks": 0, "mark": mark, "cgroup": ""}
        search = sweeping._Search(state)
        assert agent.pid not in search.look()
        assert agent.stdin is not None
        agent.stdin.write(b"\n")
        agent.stdin.flush()
        await until(lambda: mark.encode() in (path / "environ").read_bytes())
        assert agent.pid in search.look()
    finally:
        agent.kill()
        agent.communicate()
