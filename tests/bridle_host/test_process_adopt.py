"""A shim outlives its host process; the next one takes over: same agent, nothing lost or twice."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import bridle_host
from bridle_host import shim, shim_client, shim_link
from bridle_host.process import (
    HELD_CAP,
    KILL_NOW,
    OUTPUT_CAP,
    Chunk,
    ExitStatus,
    InputClosedError,
    Ladder,
    ShimFailedError,
    ShimLostError,
    ShimProcess,
    sweep,
)
from tests.bridle_host.process_support import (
    LEVELS,
    Bench,
    alive,
    bench,
    command_of,
    names,
    python,
    read_all,
    read_until,
    state_of,
    until,
)
from tests.bridle_host.test_process_stop import IGNORE

SERVICES = str(Path(bridle_host.__file__).parents[1])

# Prints 2,000 numbered lines as fast as it may, then waits for a line and answers it.
COUNTER = """
import os, sys
for number in range(2000):
    data = b'%06d\\n' % number * 37
    while data: data = data[os.write(1, data):]
line = sys.stdin.readline()
os.write(1, b'got ' + line.encode())
sys.stdin.readline()
"""
COUNTED = b"".join(b"%06d\n" % number * 37 for number in range(2000))

# Notes each line that it reads, as (length, number), before it reads the next.
LEDGER = """
import os, sys
with open(sys.argv[1], 'ab', 0) as ledger:
    for line in sys.stdin.buffer:
        ledger.write(b'%d %s\\n' % (len(line), line[:8]))
"""


@pytest.fixture(params=LEVELS, ids=names)
async def room(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path, request.param) as made:
        yield made


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Bench]:
    """For what doesn't depend on the level: the weakest, which everybody has."""
    async with bench(tmp_path, LEVELS[-1]) as made:
        yield made


async def keep(room: Bench, argv: tuple[str, ...], **changes: Any) -> ShimProcess:
    process = await room.spawn(argv, on_host_lost="keep", **changes)
    state = json.loads((process_state(room, changes) / "shim.json").read_text())
    guardian = state["guardian"]
    room.left_alone.append(guardian["pid"] if guardian else process.shim_pid)
    return process


def process_state(room: Bench, changes: dict[str, Any]) -> Path:
    place: Path = changes.get("state_directory", room.directory / f"state-{len(room.started) - 1}")
    return place


async def adopt(room: Bench, number: int = 0) -> ShimProcess:
    process = await ShimProcess.adopt(room.directory / f"state-{number}", room.containment)
    room.started.append(process)
    return process


async def take(process: ShimProcess, size: int) -> list[Chunk]:
    """At least so many bytes of output."""
    chunks: list[Chunk] = []
    async with asyncio.timeout(60):
        async for chunk in process.output():
            chunks.append(chunk)
            # (Bytes may come one by one, very many of them.)
            size -= len(chunk.data)
            if size <= 0:
                break
    return chunks


def joined(chunks: list[Chunk]) -> bytes:
    """Their bytes; each begins where the last one ended."""
    for before, after in pairwise(chunks):
        assert after.offset == before.end
    return b"".join(chunk.data for chunk in chunks)


async def test_an_adopted_agent_is_the_same_and_its_output_has_no_gap(room: Bench) -> None:
    first = await keep(room, python(COUNTER))
    read = await take(first, 100_000)
    durable = read[-1].end - 12_345  # in the middle of a chunk
    first.acknowledge(durable)
    first.detach()
    second = await adopt(room)
    same = ("pid", "start_time", "shim_pid", "containment")
    assert [getattr(second, name) for name in same] == [getattr(first, name) for name in same]
    await second.write(b"hello\n")
    chunks = [*await take(second, len(COUNTED) + len(b"got hello\n") - (durable - read[0].offset))]
    assert chunks[0].offset == durable
    assert joined(read)[: durable - read[0].offset] + joined(chunks) == COUNTED + b"got hello\n"
    assert await second.processes()
    await second.write(b"end\n")
    assert await second.wait() == ExitStatus(0, None)


async def test_what_became_durable_without_the_shim_hearing_of_it_is_not_told_again(
    one: Bench,
) -> None:
    first = await keep(one, python(COUNTER))
    read = await take(first, 100_000)
    first.detach()
    second = await adopt(one)
    durable = read[-1].end - 1
    second.acknowledge(durable)
    chunks = await take(second, len(COUNTED) - (durable - read[0].offset))
    assert chunks[0].offset == durable
    assert joined(read)[:-1] + joined(chunks) == COUNTED


async def test_offsets_of_a_later_process_are_above_those_of_an_earlier_one(one: Bench) -> None:
    ends = [0]
    for _ in range(3):
        process = await keep(one, ("echo", "word"), state_directory=one.directory / "state")
        [chunk] = await take(process, 5)
        process.acknowledge(ends[-1])  # late, of the one before: means nothing here
        assert chunk.offset > ends[-1]
        ends.append(chunk.end)
        process.detach()
        again = await ShimProcess.adopt(one.directory / "state", one.containment)
        assert joined(await take(again, 5)) == b"word\n"
        await again.close()


async def test_reading_acknowledges_nothing_that_a_successor_may_need(one: Bench) -> None:
    first = await keep(one, python(COUNTER))
    read = joined(await take(first, len(COUNTED)))
    await first.write(b"x\n")
    read += joined(await take(first, 1))
    first.detach()
    second = await adopt(one)
    assert joined(await take(second, len(read))) == read


async def test_a_driver_may_hold_back_far_more_than_the_cap_of_unread_output(one: Bench) -> None:
    agent = """
import os
line = b'x' * 65536
for number in range(9 * 16): os.write(1, line)
os.write(1, b'\\n')
"""
    process = await keep(one, python(agent))
    chunks = await take(process, 9 * 1024 * 1024 + 1)
    assert joined(chunks).endswith(b"x\n")
    process.acknowledge(chunks[-1].end)
    assert await process.wait() == ExitStatus(0, None)


async def test_bytes_one_by_one_that_nobody_acknowledges_do_not_reach_the_cap_early(
    one: Bench,
) -> None:
    size = 2 * HELD_CAP // shim.PIECE_COST
    agent = f"import os\nfor _ in range({size}): os.write(1, b'x')"
    process = await keep(one, python(agent))
    assert len(joined(await take(process, size))) == size
    assert process.blockages == 0


async def test_output_beyond_the_cap_waits_for_the_next_host_and_none_is_lost(room: Bench) -> None:
    progress = room.directory / "progress"
    agent = f"""
import os
with open({str(progress)!r}, 'wb', 0) as progress:
    for number in range(512):
        os.write(1, b'%07d\\n' % number * 1024)
        os.pwrite(progress.fileno(), b'%d' % (number + 1), 0)
"""
    first = await keep(room, python(agent))
    first.detach()

    def written() -> int:
        return int(progress.read_bytes() or b"0") * 8192 if progress.exists() else 0

    await until(lambda: written() >= OUTPUT_CAP and state_of(first.pid) == "S")
    assert written() <= OUTPUT_CAP + 3 * 65_536
    second = await adopt(room)
    await until(lambda: second.blocked)
    said = await read_all(second)
    assert said[1] == b"".join(b"%07d\n" % number * 1024 for number in range(512))
    assert not second.blocked


async def test_an_agent_that_ends_while_no_host_is_there_is_seen_to_have_ended(
    room: Bench,
) -> None:
    first = await keep(room, ("sh", "-c", "read x; echo said $x; exit 7"))
    await first.write(b"a word\n")
    first.detach()
    await until(lambda: not alive(first.pid))
    for _ in range(2):
        again = await adopt(room)
        assert await again.wait() == ExitStatus(7, None)
        assert await read_all(again) == {1: b"said a word\n"}
        with pytest.raises(InputClosedError):
            await again.write(b"late")
        again.detach()
    last = await adopt(room)
    await last.close()
    assert not (room.directory / "state-0" / "shim.json").exists()
    assert not (room.directory / "state-0" / "input").exists()


async def test_the_order_of_a_marker_and_output_is_kept_over_an_adoption(one: Bench) -> None:
    agent = """
import os, sys
for turn in range(5):
    os.write(1, b'out%d' % turn); os.write(2, b'err%d' % turn); os.write(3, b'mark%d' % turn)
    sys.stdin.readline()
"""
    first = await keep(one, python(agent), control_pipes=1)
    for _ in range(4):
        await first.write(b"\n")
    # All of it, for it may be cut in other places the next time.
    size = 5 * len("out0err0mark0")
    before = await take(first, size)
    first.detach()
    second = await adopt(one)
    after = await take(second, size)
    flat = [(chunk.pipe, chunk.offset + i, byte) for chunk in before for i, byte in
            enumerate(chunk.data)]  # fmt: skip
    again = [(chunk.pipe, chunk.offset + i, byte) for chunk in after for i, byte in
             enumerate(chunk.data)]  # fmt: skip
    assert flat == again


# Input.


async def test_a_message_that_was_cut_by_the_end_of_a_host_arrives_whole(room: Bench) -> None:
    agent = """
import os, sys
open(sys.argv[1]).read()
data = sys.stdin.buffer.read()
os.write(1, b'%d %d' % (len(data), sum(data)))
"""
    gate = room.directory / "gate"
    os.mkfifo(gate)
    first = await keep(room, python(agent, str(gate)))
    message = bytes(range(256)) * 8192
    writing = asyncio.ensure_future(first.write(message, "big"))
    await until(lambda: first._input_sent > 0)
    await asyncio.wait([writing], timeout=0.1)
    assert not writing.done()  # the agent does not read
    first.detach()
    writing.cancel()
    await asyncio.wait([writing])
    second = await adopt(room)
    assert second.written("big")
    assert not second.written("other")
    await asyncio.to_thread(gate.write_text, "go")
    await second.close_stdin()
    said = await read_all(second)
    assert said[1] == b"%d %d" % (len(message), sum(message))


async def test_the_end_of_input_is_given_once_too(one: Bench) -> None:
    first = await keep(one, ("sh", "-c", "sleep 0.2; cat; echo over"))
    await first.write(b"text\n")
    await first.close_stdin()
    first.detach()
    second = await adopt(one)
    with pytest.raises(InputClosedError):
        await second.write(b"more")
    assert (await read_all(second))[1] == b"text\nover\n"


# A host service that writes numbered messages of odd sizes until it is killed, from the first that
# was not written. Says nothing: what it did is what the next one finds.
WRITER = """
import asyncio, random, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from bridle_host.containment import detect
from bridle_host.input_log import KEYS
from bridle_host.process import ShimProcess

async def main():
    place, level, seed = Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    process = await ShimProcess.adopt(place, detect(level))
    number = 0
    while process.written(f'key-{number}') or number < int(sys.argv[5]): number += 1
    print(number, flush=True)
    # A fast machine had better not come beyond the keys that are kept.
    for number in range(number, number + KEYS // 2):
        size = random.Random(number).choice((20, 300, 5000, 200_000))
        await process.write((b'%07d ' % number).ljust(size, b'.') + b'\\n', f'key-{number}')
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_every_order_is_given_once_however_often_the_host_is_killed(one: Bench) -> None:
    ledger = one.directory / "ledger"
    (await keep(one, python(LEDGER, str(ledger)))).detach()
    chance = random.Random(11)
    first = round_number = 0
    # On a slow machine a host may come to write next to nothing.
    while round_number < 12 or first <= 30:
        round_number += 1
        host = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WRITER, SERVICES, str(one.directory / "state-0")),
            *(one.containment.name, str(round_number), str(first)),
            stdout=subprocess.PIPE,
        )
        assert host.stdout is not None
        first = int(await host.stdout.readline())
        await asyncio.sleep(chance.uniform(0, 0.15))  # the moment of death is what is varied
        host.kill()
        await host.wait()
    last = await adopt(one)
    while last.written(f"key-{first}"):
        first += 1
    await last.close_stdin()
    await last.wait()
    expected = []
    for number in range(first):
        size = random.Random(number).choice((20, 300, 5000, 200_000))
        expected.append(b"%d %07d " % (size + 1, number))
    assert ledger.read_bytes().splitlines() == expected


# Who may come, and who is believed.


async def test_a_newer_connection_takes_the_place_of_an_older_one_which_harms_nobody(
    one: Bench,
) -> None:
    first = await keep(one, ("cat",))
    second = await adopt(one)
    assert await first.wait() == ExitStatus(None, None)
    with pytest.raises(ShimLostError):
        await first.mark()
    await first.close()
    await second.write(b"still here\n")
    await read_until(second, b"still here")
    assert alive(second.pid)


async def test_a_host_that_lets_go_is_told_nothing_any_more(one: Bench) -> None:
    process = await keep(one, ("cat",))
    process.detach()
    process.detach()
    calls = [
        process.wait(),
        process.stop(KILL_NOW),
        process.write(b"x"),
        process.close_stdin(),
        process.mark(),
        anext(process.output()),
    ]
    tasks = [asyncio.ensure_future(call) for call in calls]
    done, _ = await asyncio.wait(tasks, timeout=0.2)
    assert not done
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await process.close()
    assert alive(process.pid)
    await adopt(one)


async def test_a_connection_of_another_user_is_closed_without_a_word(one: Bench) -> None:
    if os.geteuid() != 0:
        return  # an ordinary user can be nobody else
    process = await keep(one, ("cat",))
    place = one.directory / "state-0"
    place.chmod(0o755)
    (place / "shim.sock").chmod(0o666)
    code = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
with socket.socket(socket.AF_UNIX) as client:
    client.connect(f'/proc/self/fd/{sys.argv[1]}/shim.sock')
    print(client.recv(100))
"""
    directory = os.open(place, os.O_RDONLY)
    command = [sys.executable, "-I", "-S", "-c", code, str(directory)]
    done = await asyncio.to_thread(
        subprocess.run, command, pass_fds=[directory], capture_output=True, check=False
    )
    os.close(directory)
    assert done.stdout == b"b''\n", done.stderr
    assert (await process.mark()).processes  # ours is not replaced


@pytest.fixture
def bystander() -> Any:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def stale(directory: Path, pid: int, **changes: Any) -> None:
    process = shim.read_process(pid)
    assert process is not None
    key = {"pid": pid, "start_ticks": process.start}
    state: dict[str, Any] = {
        **key,
        "version": shim.PROTOCOL_VERSION,
        "session": "s",
        "run": 1,
        "boot_id": shim.boot_id(),
        "level": "SUBREAPER",
        "cgroup": "",
        "mark": "s:none",
        "agent": key,
        "guardian": key,
        "place": [directory.stat().st_dev, directory.stat().st_ino],
        **changes,
    }
    shim.write_state_file(str(directory), state)


@pytest.mark.parametrize("how", ["other start", "other boot", "a copy"])
async def test_a_stale_file_gets_nobody_adopted_and_nobody_signalled(
    tmp_path: Path, bystander: subprocess.Popen[bytes], how: str
) -> None:
    key = {"pid": bystander.pid, "start_ticks": 12}
    ways: dict[str, dict[str, Any]] = {
        "other start": {"start_ticks": 12, "agent": key, "guardian": key},
        "other boot": {"boot_id": "00000000-0000-0000-0000-000000000000"},
        "a copy": {"place": [1, 2]},
    }
    bystander.send_signal(signal.SIGSTOP)  # a SIGCONT would be seen
    await until(lambda: state_of(bystander.pid) == "T")
    stale(tmp_path, bystander.pid, **ways[how])
    with pytest.raises(ShimLostError):
        await ShimProcess.adopt(tmp_path, LEVELS[-1])
    assert (await asyncio.to_thread(sweep, tmp_path)).killed == ()
    assert state_of(bystander.pid) == "T"
    assert not (tmp_path / "shim.json").exists()


async def test_nothing_is_adopted_where_nothing_is(tmp_path: Path) -> None:
    with pytest.raises(ShimLostError):
        await ShimProcess.adopt(tmp_path, LEVELS[-1])
    with pytest.raises(ShimLostError):
        await ShimProcess.adopt(tmp_path / "missing", LEVELS[-1])


async def test_the_session_of_a_copied_state_directory_lives_on_in_the_original(
    one: Bench,
) -> None:
    process = await keep(one, ("cat",))
    copy = one.directory / "copy"
    copy.mkdir()
    shutil.copy2(one.directory / "state-0" / "shim.json", copy)
    with pytest.raises(ShimLostError):
        await ShimProcess.adopt(copy, one.containment)
    assert (await asyncio.to_thread(sweep, copy)).killed == ()
    assert await process.processes()


async def test_a_state_directory_may_be_moved_while_no_host_is_there(one: Bench) -> None:
    process = await keep(one, ("cat",))
    process.detach()
    moved = one.directory / "moved"
    (one.directory / "state-0").rename(moved)
    again = await ShimProcess.adopt(moved, one.containment)
    await again.write(b"here\n")
    await read_until(again, b"here")
    await again.close()
    assert list(moved.glob("shim.[js]*")) == []


async def test_a_shim_that_speaks_another_version_is_left_to_be_swept(one: Bench) -> None:
    process = await keep(one, ("cat",))
    process.detach()
    place = one.directory / "state-0"
    state = json.loads((place / "shim.json").read_text())
    shim.write_state_file(str(place), {**state, "version": 99})
    with pytest.raises(ShimFailedError, match="version 99"):
        await ShimProcess.adopt(place, one.containment)
    assert alive(process.pid)
    report = await asyncio.to_thread(sweep, place)
    assert report.remaining == 0
    assert not alive(process.pid)
    assert not alive(process.shim_pid)


async def test_a_foreign_listener_in_the_place_of_the_shim_is_not_believed(one: Bench) -> None:
    process = await keep(one, ("cat",))
    process.detach()
    place = one.directory / "state-0"
    (place / "shim.sock").unlink()
    hello = {"version": shim.PROTOCOL_VERSION, "session": "s", "run": 1, "pid": 1}
    body = json.dumps({**hello, "start_ticks": 1, "boot_id": "", "agent": None}).encode()
    with socket.socket(socket.AF_UNIX) as listener:
        directory = os.open(place, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{directory}/shim.sock")
        os.close(directory)
        listener.listen(1)
        adopting = asyncio.ensure_future(ShimProcess.adopt(place, one.containment))
        connection, _ = await asyncio.to_thread(listener.accept)
        with connection:
            connection.sendall(shim.FRAME.pack(len(body), shim.HELLO) + body)
            with pytest.raises(ShimFailedError, match="another shim"):
                await adopting
    assert (await asyncio.to_thread(sweep, place)).remaining == 0


# The shim goes on, and comes to its end.


async def test_a_ladder_is_climbed_to_its_end_without_the_host(room: Bench) -> None:
    process = await keep(room, python(IGNORE))
    await read_until(process, b"ready")
    await stop_heard(process, Ladder(0.3, 0.3))
    await until(lambda: not alive(process.pid))
    again = await adopt(room)
    assert await again.wait() == ExitStatus(None, signal.SIGKILL)
    assert (await again.stop(KILL_NOW)).remaining == 0


async def test_what_a_host_says_last_is_heard_though_writing_to_it_fails_first(one: Bench) -> None:
    process = await keep(one, python(COUNTER))
    read = await take(process, 100_000)
    durable = read[-1].end - 12_345
    os.kill(process.shim_pid, signal.SIGSTOP)
    await until(lambda: state_of(process.shim_pid) == "T")
    # More than it reads at once: it answers the first of them before it reads the rest.
    process._shim.send(shim.PING)
    process._shim.send(shim.PING, bytes(shim.CHUNK))
    process.acknowledge(durable)
    process.detach()
    await asyncio.wait([process._shim._disconnected])
    os.kill(process.shim_pid, signal.SIGCONT)
    again = await adopt(one)
    [first, *_] = await take(again, 1)
    assert first.offset == durable


async def stop_heard(process: ShimProcess, ladder: Ladder) -> None:
    """Ask for a stop, see that the shim has heard of it, and let go of it at once."""
    stopping = asyncio.ensure_future(process.stop(ladder))
    await until(lambda: process._shim._request)  # the stop is asked for before the mark
    await process.mark()
    process.detach()
    stopping.cancel()
    await asyncio.wait([stopping])


def count_replies(process: ShimProcess) -> list[int]:
    """The numbers of the requests that are answered from now on."""
    numbers: list[int] = []
    on_frame = process._shim._link._on_frame

    def count(kind: int, body: bytes) -> None:
        if kind == shim.REPLY:
            numbers.append(json.loads(body)["id"])
        on_frame(kind, body)

    process._shim._link._on_frame = count
    return numbers


async def ladder_is_over(again: ShimProcess) -> None:
    """Wait until the shim has ended a stop that another has asked for."""
    await again.wait()
    while await again.processes():
        pass  # it is on its way out
    # A stop of our own ends after the one that was begun before it.
    await again.stop(KILL_NOW)
    await again.mark()


async def test_the_answer_to_a_host_that_is_gone_is_not_given_to_the_next(one: Bench) -> None:
    process = await keep(one, python(IGNORE))
    await read_until(process, b"ready")
    await stop_heard(process, Ladder(0.3, 0))
    again = await adopt(one)
    answered = count_replies(again)
    await ladder_is_over(again)
    assert answered == list(range(1, again._shim._request + 1))


async def test_a_question_that_is_read_as_the_next_host_comes_is_not_answered_to_that_one(
    one: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = await keep(one, python(IGNORE))
    await read_until(process, b"ready")
    shim_pid = process._shim.pid
    os.kill(shim_pid, signal.SIGSTOP)
    await until(lambda: state_of(shim_pid) == "T")
    # It finds both at once: the question of the one, and the other at its door.
    stopping = asyncio.ensure_future(process.stop(Ladder(0.3, 0)))
    await until(lambda: process._shim._request)
    process.detach()
    stopping.cancel()
    await asyncio.wait([stopping])
    connected = asyncio.Event()

    def connect(directory: Path) -> socket.socket:
        connection = shim_link.connect(directory)
        connected.set()
        return connection

    monkeypatch.setattr(shim_client, "connect", connect)
    adopting = asyncio.ensure_future(adopt(one))
    await connected.wait()
    os.kill(shim_pid, signal.SIGCONT)
    again = await adopting
    answered = count_replies(again)
    await ladder_is_over(again)
    assert answered == list(range(1, again._shim._request + 1))


async def test_what_a_stop_found_is_counted_by_the_host_that_comes_after(one: Bench) -> None:
    process = await keep(one, ("bash", "-c", "setsid sleep 600 & sleep 600 & wait"))
    while len(await process.processes()) != 3:
        pass  # they are on their way
    assert (await process.stop(KILL_NOW)).remaining == 0
    process.detach()
    again = await adopt(one)
    assert again.swept == 2


async def test_a_shim_whose_directory_was_removed_ends_with_all_that_it_holds(
    one: Bench,
) -> None:
    process = await keep(one, ("cat",))
    process.detach()
    shutil.rmtree(one.directory / "state-0")
    await until(lambda: not alive(process.shim_pid), shim.DESERTED_LOOK + 30)
    assert one.living() == []


async def test_a_shim_shares_nothing_with_its_host_that_could_end_it(room: Bench) -> None:
    process = await keep(room, ("cat",))
    for pid in (process.shim_pid, process.pid):
        assert os.getsid(pid) != os.getsid(0)
        assert os.getpgid(pid) != os.getpgid(0)
    assert terminal_of(process.shim_pid) == 0
    own = {target for target in opened(os.getpid()) if target.startswith(("pipe:", "socket:"))}
    assert not own & opened(process.shim_pid)


def terminal_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[4])


def opened(pid: int) -> set[str]:
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # the descriptor of the listing
            found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found


async def test_an_idle_shim_and_its_guardian_fit_into_the_memory_of_one(room: Bench) -> None:
    process = await keep(room, ("sh", "-c", "echo ready; exec sleep 60"))
    await read_until(process, b"ready")
    await process.mark()
    pids = [process.shim_pid]
    state = json.loads((room.directory / "state-0" / "shim.json").read_text())
    if state["guardian"]:
        pids.append(state["guardian"]["pid"])
        assert b"shim" in command_of(pids[1])
    assert (len(pids) == 2) is room.containment.name.startswith("SUBREAPER")
    assert sum(own_memory_of(pid) for pid in pids) < 15


def own_memory_of(pid: int) -> float:
    """Megabytes, with what it shares counted in parts."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"no memory for {pid}")


# A shim that does not answer.


async def test_a_stopped_shim_is_continued_so_that_it_can_stop_its_agent(room: Bench) -> None:
    process = await keep(room, ("cat",))
    os.kill(process.shim_pid, signal.SIGSTOP)
    await until(lambda: state_of(process.shim_pid) == "T")
    started = time.monotonic()
    proof = await process.stop(KILL_NOW)
    assert proof.remaining == 0
    assert time.monotonic() - started < 15
    assert room.living() == []


async def test_a_shim_that_stays_silent_is_killed_and_what_it_held_is_swept(
    room: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = await keep(room, python(IGNORE))
    await read_until(process, b"ready")
    monkeypatch.setattr(process._shim, "_revive", lambda: None)  # as if it did not help
    os.kill(process.shim_pid, signal.SIGSTOP)
    await until(lambda: state_of(process.shim_pid) == "T")
    started = time.monotonic()
    proof = await process.stop(Ladder(60, 60))
    assert proof.remaining == 0
    assert time.monotonic() - started < 30
    assert room.living() == []


async def test_a_stopped_shim_is_continued_so_that_it_can_be_adopted(one: Bench) -> None:
    process = await keep(one, ("cat",))
    process.detach()
    os.kill(process.shim_pid, signal.SIGSTOP)
    await until(lambda: state_of(process.shim_pid) == "T")
    again = await adopt(one)
    await again.write(b"here\n")
    await read_until(again, b"here")
