"""What goes in and what comes out of an agent's process, and how its exit is known."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import stat
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridle_host.containment import Containment
from bridle_host.process import (
    OUTPUT_CAP,
    Chunk,
    DirectoryMissingError,
    ExitStatus,
    InputClosedError,
    NotExecutableError,
    SessionBusyError,
    ShimFailedError,
    Stream,
)
from tests.bridle_host.process_support import (
    LEVELS,
    Bench,
    alive,
    bench,
    command_of,
    environment_of,
    memory_of,
    names,
    python,
    read_all,
    read_until,
    state_of,
    until,
)


@pytest.fixture(params=LEVELS, ids=names)
async def room(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path, request.param) as made:
        yield made


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Bench]:
    """For what doesn't depend on the level: the strongest."""
    async with bench(tmp_path, LEVELS[0]) as made:
        yield made


async def test_output_is_told_apart_and_followed_by_the_exit(room: Bench) -> None:
    process = await room.spawn(
        ("sh", "-c", "echo out; echo err >&2; echo side >&3; exit 3"), control_pipes=1
    )
    assert await read_all(process) == {1: b"out\n", 2: b"err\n", 3: b"side\n"}
    assert await process.wait() == ExitStatus(3, None)
    assert process.exited == ExitStatus(3, None)


async def test_the_process_is_what_it_says_it_is(room: Bench) -> None:
    before = time.time()
    process = await room.spawn(("sh", "-c", "echo ready; exec sleep 60"))
    assert process.containment == room.containment.name
    assert before - 0.5 <= process.start_time <= time.time() + 0.5
    await read_until(process, b"ready")
    await until(lambda: command_of(process.pid) == b"sleep\0" + b"60\0")
    [found] = await process.processes()
    assert (found.pid, found.command) == (process.pid, "sleep 60")
    assert found.parent == process.shim_pid


async def test_a_death_by_a_signal_is_an_exit_by_that_signal(room: Bench) -> None:
    process = await room.spawn(("sh", "-c", "kill -KILL $$"))
    assert await process.wait() == ExitStatus(None, signal.SIGKILL)


async def test_chunks_say_when_they_were_read(one: Bench) -> None:
    before = time.time()
    process = await one.spawn(("sh", "-c", "echo x; echo y >&4"), control_pipes=2)
    chunks = [chunk async for chunk in process.output()]
    assert [chunk.stream for chunk in chunks] == [Stream.STDOUT, Stream.CONTROL]
    assert [chunk.pipe for chunk in chunks] == [1, 4]
    assert all(before <= chunk.time <= time.time() for chunk in chunks)


async def test_input_arrives_in_order_and_ends_when_it_is_closed(room: Bench) -> None:
    process = await room.spawn(("cat",))
    await process.write(b"one ")
    await process.write(b"two")
    assert await read_until(process, b"two") == b"one two"
    await process.close_stdin()
    await process.close_stdin()
    assert await process.wait() == ExitStatus(0, None)
    with pytest.raises(InputClosedError):
        await process.write(b"late")


async def test_writing_to_an_agent_that_closed_its_input_fails(room: Bench) -> None:
    process = await room.spawn(("sh", "-c", "exec <&-; echo closed; exec sleep 60"))
    await read_until(process, b"closed")

    async def write_on() -> None:
        while True:
            await process.write(b"x" * 1000)

    with pytest.raises(InputClosedError):
        await asyncio.wait_for(write_on(), 30)


async def test_writing_waits_for_an_agent_that_does_not_read(one: Bench) -> None:
    process = await one.spawn(("sleep", "60"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(process.write(b"x" * 4_000_000), 0.5)
    assert memory_of(process.shim_pid) < 20
    # A waiting writer learns of the exit.
    writing = asyncio.ensure_future(process.write(b"y" * 1_000_000))
    await process.signal(signal.SIGKILL)
    with pytest.raises(InputClosedError):
        await asyncio.wait_for(writing, 30)


async def test_a_mebibyte_on_stderr_before_reading_a_mebibyte_of_stdin_locks_nothing(
    room: Bench,
) -> None:
    agent = """
import sys
sys.stderr.buffer.write(b'e' * 1048576)
sys.stderr.flush()
sys.stdout.write(str(len(sys.stdin.buffer.read())))
"""
    process = await room.spawn(python(agent))

    async def feed() -> None:
        await process.write(b"i" * 1_048_576)
        await process.close_stdin()

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(feed())
        said = group.create_task(read_all(process))
    assert said.result() == {1: b"1048576", 2: b"e" * 1_048_576}


async def test_a_hundred_mebibytes_without_a_newline_pass_in_bounded_memory(one: Bench) -> None:
    agent = """
import os
block = bytes(range(256)) * 256
for number in range(1600):
    view = memoryview(block)
    while view:
        view = view[os.write(1, view):]
"""
    process = await one.spawn(python(agent))
    idle, own = memory_of(process.shim_pid), memory_of(os.getpid())
    peak = 0.0
    digest = hashlib.sha256()
    size = seen = 0
    async for chunk in process.output():
        digest.update(chunk.data)
        size += len(chunk.data)
        if size - seen > 4_000_000:
            seen = size
            peak = max(peak, memory_of(process.shim_pid))
    assert size == 100 * 1024 * 1024
    assert digest.digest() == hashlib.sha256(bytes(range(256)) * 256 * 1600).digest()
    assert peak < idle + 6
    assert memory_of(os.getpid()) < own + 32


async def test_an_agent_whose_output_nobody_reads_blocks_and_loses_nothing(one: Bench) -> None:
    progress = one.directory / "progress"
    agent = f"""
import os
with open({str(progress)!r}, 'wb', 0) as progress:
    for number in range(512):
        os.write(1, b'%07d\\n' % number * 1024)
        os.pwrite(progress.fileno(), b'%d' % (number + 1), 0)
"""
    process = await one.spawn(python(agent))

    def written() -> int:
        try:
            return int(progress.read_bytes() or b"0") * 8192
        except FileNotFoundError:
            return 0

    # A full pipe alone doesn't say that nobody reads it any more.
    await until(lambda: process.blocked)
    # It sleeps in its write, not in between.
    await until(lambda: written() >= OUTPUT_CAP and state_of(process.pid) == "S")
    assert written() <= OUTPUT_CAP + 2 * 65_536 + 65_536
    assert len((await process.mark()).processes) == 1  # requests pass while the output is stuck
    assert (process.blocked, process.blockages) == (True, 1)
    said = await read_all(process)
    assert said[1] == b"".join(b"%07d\n" % number * 1024 for number in range(512))
    assert not process.blocked


async def test_bytes_one_by_one_cost_bounded_memory_too(one: Bench) -> None:
    agent = "import os\nfor _ in range(300000): os.write(1, b'x')"
    process = await one.spawn(python(agent))
    frames = 0
    async for chunk in process.output():
        frames += len(chunk.data)
        if frames % 1000 < len(chunk.data):
            assert memory_of(process.shim_pid) < 20
    assert frames == 300_000


async def test_a_marker_on_a_control_pipe_follows_all_output_written_before_it(room: Bench) -> None:
    agent = """
import os, sys
for turn in range(200):
    for stream in (1, 2):
        view = memoryview(b'%d:%d;' % (turn, stream) * (1 + turn * 37 % 9000))
        while view:
            view = view[os.write(stream, view):]
    os.write(3, b'%d\\n' % turn)
    os.read(0, 1)
"""
    process = await room.spawn(python(agent), control_pipes=1)
    said = {1: b"", 2: b""}
    turn = 0
    async for chunk in process.output():
        if chunk.stream is not Stream.CONTROL:
            said[chunk.pipe] += chunk.data
            continue
        assert chunk.data == b"%d\n" % turn
        for stream in (1, 2):
            assert said[stream] == b"%d:%d;" % (turn, stream) * (1 + turn * 37 % 9000)
        said = {1: b"", 2: b""}
        turn += 1
        await process.write(b"g")
    assert turn == 200


async def test_a_marker_passes_a_flood_of_another_process(room: Bench) -> None:
    script = "yes flood & echo ready; read go; echo -n done; echo end >&3; sleep 60"
    process = await room.spawn(("bash", "-c", script), control_pipes=1)
    output = process.output()
    await process.write(b"go\n")
    said = b""
    async with asyncio.timeout(30):
        async for chunk in output:
            if chunk.stream is Stream.CONTROL:
                break
            said += chunk.data
    assert b"done" in said


async def test_a_grandchild_that_holds_stdout_does_not_delay_the_exit(room: Bench) -> None:
    script = "sleep 60 & (setsid sleep 60 &) ; echo last words; exit 7"
    started = time.monotonic()
    process = await room.spawn(("bash", "-c", script))
    assert await read_all(process) == {1: b"last words\n"}
    assert await process.wait() == ExitStatus(7, None)
    assert time.monotonic() - started < 20
    assert len(await process.processes()) == 2


async def test_the_exit_passes_a_grandchild_that_floods_stdout(room: Bench) -> None:
    process = await room.spawn(("bash", "-c", "yes & read go; exit 5"))
    await read_until(process, b"y\ny\n")
    await process.write(b"\n")
    async with asyncio.timeout(30):
        async for chunk in process.output():
            assert chunk.pipe == 1
    assert await process.wait() == ExitStatus(5, None)


async def test_all_output_written_before_the_exit_comes_before_it(one: Bench) -> None:
    agent = """
import os
os.write(1, b'a' * 60000)
os.write(2, b'b' * 60000)
os.write(3, b'c' * 60000)
os._exit(9)
"""
    for _ in range(30):
        process = await one.spawn(python(agent), control_pipes=1)
        assert await process.wait() == ExitStatus(9, None)
        assert await read_all(process) == {1: b"a" * 60_000, 2: b"b" * 60_000, 3: b"c" * 60_000}
        await process.close()


async def test_an_agent_that_dies_at_once_has_started_and_exited(room: Bench) -> None:
    for _ in range(10):
        process = await room.spawn(("true",))
        assert process.pid > 0
        assert await read_all(process) == {}
        assert await process.wait() == ExitStatus(0, None)
        await process.close()


async def test_many_may_wait_for_one_exit(one: Bench) -> None:
    process = await one.spawn(("cat",))
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(process.wait()) for _ in range(5)]
        await process.close_stdin()
    assert {task.result() for task in waiting} == {ExitStatus(0, None)}


async def test_reading_may_pause_and_be_taken_up_again(one: Bench) -> None:
    process = await one.spawn(("sh", "-c", "echo a; read x; echo b"))
    first: Chunk = await anext(process.output())
    await process.write(b"\n")
    second: Chunk = await anext(process.output())
    assert (first.data, second.data) == (b"a\n", b"b\n")


async def test_the_agent_has_its_own_descriptors_only(room: Bench) -> None:
    agent = """
import os
with os.scandir('/proc/self/fd') as found:
    kinds = {int(e.name): os.readlink(e.path).split(':')[0] for e in found}
print(sorted((fd, kind) for fd, kind in kinds.items() if kind == 'pipe' or fd <= 4), len(kinds))
"""
    process = await room.spawn(python(agent), control_pipes=2)
    said = (await read_all(process))[1].decode()
    pipes = [(fd, "pipe") for fd in range(5)]
    assert said == f"{pipes} 6\n"  # the sixth is the listing itself


async def test_the_agent_starts_with_a_clean_slate_of_signals(room: Bench) -> None:
    process = await room.spawn(("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"))
    said = (await read_all(process))[1].decode().split()
    # 32 and 33 are the C library's own: a program can't set them, and may inherit them ignored.
    reserved = 1 << 31 | 1 << 32
    assert [int(said[1], 16) & ~reserved, int(said[3], 16) & ~reserved] == [0, 0]


async def test_the_agent_leads_a_session_of_its_own(room: Bench) -> None:
    process = await room.spawn(python("import os; print(os.getsid(0) == os.getpid())"))
    assert await read_all(process) == {1: b"True\n"}


async def test_the_environment_reaches_the_agent_and_nobody_else(room: Bench) -> None:
    secret = "canary-5f0c"
    environment = {**room.environment(), "SECRET": secret, "ODD": "a=b\nc\udcff"}
    process = await room.spawn(("sh", "-c", "env; sleep 60"), environment=environment)
    await read_until(process, b"SECRET=canary-5f0c\n")
    given = environment_of(process.pid)
    assert given["ODD"] == "a=b\nc\udcff"
    assert given["BRIDLE_SESSION_MARK"].startswith(f"{room.tag[:8]}-0:")
    shim = Path(f"/proc/{process.shim_pid}")
    for file in (shim / "cmdline", shim / "environ", *process_state(room).iterdir()):
        if file.is_file():
            assert secret.encode() not in file.read_bytes()


def process_state(room: Bench) -> Path:
    return room.directory / f"state-{len(room.started) - 1}"


async def test_the_socket_is_for_its_user_alone(one: Bench) -> None:
    await one.spawn(("cat",))
    directory = process_state(one)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for name in ("shim.sock", "shim.json", "shim.log"):
        assert stat.S_IMODE((directory / name).stat().st_mode) == 0o600


async def test_a_state_directory_may_have_any_length(room: Bench) -> None:
    deep = room.directory
    for _ in range(10):
        deep = deep / ("d" * 100)
    process = await room.spawn(("echo", "deep"), state_directory=deep)
    assert await read_all(process) == {1: b"deep\n"}


async def test_the_agent_runs_in_its_directory(room: Bench) -> None:
    place = room.directory / "a place\nwith ü"
    place.mkdir()
    process = await room.spawn(python("import os; print(os.getcwd())"), directory=str(place))
    assert (await read_all(process))[1].decode() == f"{place}\n"


@pytest.mark.parametrize("missing", ["not-there", "a-file"])
async def test_a_directory_that_is_not_there_is_named_as_the_reason(
    room: Bench, missing: str
) -> None:
    (room.directory / "a-file").touch()
    with pytest.raises(DirectoryMissingError):
        await room.spawn(("true",), directory=str(room.directory / missing))
    assert not (room.directory / "state-0" / "shim.json").exists()


async def test_a_program_that_cannot_be_executed_is_named_as_the_reason(room: Bench) -> None:
    plain = room.directory / "plain"
    plain.write_text("text")
    for argv in (("no-such-program",), (str(plain),), ("",), ("true", "x" * 3_000_000)):
        with pytest.raises(NotExecutableError):
            await room.spawn(argv)
    assert room.living() == []


async def test_the_agent_is_looked_up_in_its_own_path(one: Bench) -> None:
    tool = one.directory / "bin" / "tool"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho found\n")
    tool.chmod(0o755)
    environment = {**one.environment(), "PATH": f"/usr/bin:/bin:{tool.parent}"}
    process = await one.spawn(("tool",), environment=environment)
    assert await read_all(process) == {1: b"found\n"}


async def test_a_shim_that_cannot_start_is_told_with_its_reason(
    one: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(ShimFailedError, match="No such file"):
        await one.spawn(("true",))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ShimFailedError, match="died"):
        await one.spawn(("true",))


async def test_a_session_has_one_agent_at_a_time(one: Bench) -> None:
    state = one.directory / "state"
    first = await one.spawn(("cat",), state_directory=state)
    with pytest.raises(SessionBusyError):
        await one.spawn(("cat",), state_directory=state)
    await first.close()
    second = await one.spawn(("cat",), state_directory=state)
    assert alive(second.pid)


async def test_a_start_that_is_cancelled_leaves_nothing(room: Bench) -> None:
    for delay in (0.0, 0.001, 0.005, 0.02, 0.03, 0.04):
        starting = asyncio.ensure_future(room.spawn(("sleep", "60")))
        await asyncio.wait([starting], timeout=delay)
        starting.cancel()
        await asyncio.wait([starting])
        if starting.cancelled():
            assert room.living() == []
        else:
            await starting.result().close()
    assert room.living() == []


async def test_a_shim_fits_into_its_memory(room: Bench) -> None:
    process = await room.spawn(("sh", "-c", "echo ready; exec sleep 60"))
    await read_until(process, b"ready")
    await process.mark()
    assert memory_of(process.shim_pid) < 15


def test_levels_are_tested_at_all() -> None:
    levels: list[Containment] = LEVELS
    assert levels[-1].name == "SUBREAPER"
    assert os.geteuid() != 0 or "PID_NAMESPACE" in {level.name for level in levels}
