"""What agents put out: lines of any length and of any bytes, floods, and what they cost the others.

Whatever comes, each input of the corpus is told as one thing, the reader lives, memory is bounded,
and the other sessions do not feel it. The long form floods for BRIDLE_FLOOD_SECONDS.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from bridle.v1 import event_pb2
from bridle_core.observations import (
    Message,
    Note,
    NoteKind,
    Observation,
    StopReason,
    ToolOutput,
)
from bridle_host.drivers.base import Driver, DriverContext
from bridle_host.drivers.lines.driver import LineDriver
from bridle_host.drivers.output import LINE, PIECE
from bridle_host.drivers.scripted import ScriptedFactory
from bridle_host.drivers.scripted.dialect import ScriptedDialect
from bridle_host.drivers.shell import ShellFactory
from tests.pair import PATIENCE, Pair, running_pair, until
from tests.scenarios.support import log
from tests.support.driving import Drive, driving
from tests.support.pace import paced

#: Seconds of each flood, and bytes by which the host may grow in it.
FLOOD_SECONDS = float(os.environ.get("BRIDLE_FLOOD_SECONDS", "3"))
GROWTH = 64 * 1024 * 1024
MIB = 1024 * 1024


def memory(field: str, pid: int | str = "self") -> int:
    """VmRSS, or VmHWM (the most so far), of a process in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {field}")


def forget_peak(pid: int | str = "self") -> None:
    """Let VmHWM begin anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


# --- An agent that says bytes from files ---------------------------------------------------------

_AGENT = r"""
import json, sys
def say(**fields): sys.stdout.buffer.write(json.dumps(fields).encode() + b"\n")
for line in sys.stdin.buffer:
    told = json.loads(line)
    if told["type"] == "hello":
        say(type="ready", version="1", resumed=False)
    elif told["type"] == "turn":
        say(type="turn_began", turn=told["turn"])
        with open(told["content"][0]["text"], "rb") as file:
            while piece := file.read(1 << 20):
                sys.stdout.buffer.write(piece)
        say(type="turn_ended", reason="COMPLETED", message="")
    elif told["type"] == "stop":
        say(type="bye")
        sys.stdout.flush()
        break
    sys.stdout.flush()
"""


class Reciter(ScriptedFactory):
    """Its agent says what stands in the file that it is sent the name of."""

    def create(self, context: DriverContext) -> Driver:
        argv = (sys.executable, "-I", "-S", "-c", _AGENT)
        return LineDriver(context, partial(ScriptedDialect, argv))


def message(text: str, **more: object) -> bytes:
    return json.dumps({"type": "message", "id": "m", "text": text, **more}).encode()


def say(text: str) -> bytes:
    """A message whose text is not escaped."""
    return b'{"type":"message","id":"m","text":"' + text.encode("utf-8", "surrogatepass") + b'"}'


def wide(size: int) -> bytes:
    """A message that is so many bytes long, as a line without its end."""
    return message("x" * (size - len(message(""))))


UNPARSED, SAID = "unparsed", "said"

#: name -> (a line, what it is told as). One line each.
CORPUS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", UNPARSED),
    "blanks": (b"   ", UNPARSED),
    "a word": (b"hello", UNPARSED),
    "half an object": (b'{"type":"message","id":"m","te', UNPARSED),
    "two objects": (message("a") + message("b"), UNPARSED),
    "an object and more": (message("a") + b" and more", UNPARSED),
    "an array": (b"[1,2,3]", UNPARSED),
    "null": (b"null", UNPARSED),
    "a number": (b"1", UNPARSED),
    "a string": (b'"message"', UNPARSED),
    "NaN": (b"NaN", UNPARSED),
    "NaN for a field": (b'{"type":"usage","input_tokens":NaN}', UNPARSED),
    "Infinity for a field": (b'{"type":"usage","input_tokens":Infinity}', UNPARSED),
    "a float for a count": (b'{"type":"usage","input_tokens":1.5}', UNPARSED),
    "a negative count": (b'{"type":"usage","input_tokens":-1}', UNPARSED),
    "a count beyond 64 bits": (b'{"type":"usage","input_tokens":99999999999999999999}', UNPARSED),
    "true for a count": (b'{"type":"usage","input_tokens":true}', UNPARSED),
    "an int of a million digits": (
        b'{"type":"usage","input_tokens":' + b"9" * 10**6 + b"}",
        UNPARSED,
    ),
    "depth 100,000": (b"[" * 100_000 + b"]" * 100_000, UNPARSED),
    "depth 100,000 of objects": (b'{"a":' * 100_000, UNPARSED),
    "deep arguments": (
        b'{"type":"tool_started","id":"t","tool":"x","arguments":"' + b"[" * 50_000 + b'"}',
        UNPARSED,
    ),
    "no type": (b'{"id":"m","text":"x"}', UNPARSED),
    "a type that is no word": (b'{"type":7}', UNPARSED),
    "an object for a type": (b'{"type":{}}', UNPARSED),
    "an unknown type": (b'{"type":"dance"}', UNPARSED),
    "text that is no text": (b'{"type":"message","id":"m","text":5}', UNPARSED),
    "a name that is too long": (message("x").replace(b'"m"', b'"' + b"m" * 300 + b'"'), UNPARSED),
    "hex that is none": (
        b'{"type":"tool_output","id":"t","stream":"STDOUT","hex":"zz"}',
        UNPARSED,
    ),
    "a plan that is no list": (b'{"type":"plan","steps":{}}', UNPARSED),
    "a plan of a million steps": (b'{"type":"plan","steps":[' + b"0," * 100_000 + b"0]}", UNPARSED),
    "a word of ours": (b'{"type":"turn_ended","reason":"HOST_STATE_LOST"}', UNPARSED),
    "a turn that nobody asked for": (b'{"type":"turn_began","turn":99}', UNPARSED),
    "NUL": (b"\0", UNPARSED),
    "NUL in a string": (say("a\0b"), UNPARSED),
    "NUL, escaped": (message("a\0b"), SAID),
    "a frame of ours": (b"\0abc\0report\x001\x000\0/\0\0\0\0abc.\0", UNPARSED),
    "bad UTF-8": (b'{"type":"message","id":"m","text":"\xff\xfe"}', UNPARSED),
    "UTF-8 that is cut short": (b'{"type":"message","id":"m","text":"\xe2\x82"}', UNPARSED),
    "an overlong form": (b'{"type":"message","id":"m","text":"\xc0\xaf"}', UNPARSED),
    "a surrogate in UTF-8": (say("\ud800"), UNPARSED),
    "a lone surrogate, escaped": (b'{"type":"message","id":"m","text":"\\ud800"}', SAID),
    "a pair of surrogates, escaped": (b'{"type":"message","id":"m","text":"\\ud83d\\ude00"}', SAID),
    "a byte order mark": ("\ufeff".encode() + message("x"), UNPARSED),
    "UTF-16": (message("x").decode().encode("utf-16-le").replace(b"\n", b""), UNPARSED),
    "a carriage return before the end": (message("x") + b"\r", SAID),
    "a carriage return within": (message("x") + b"\r" + message("y"), UNPARSED),
    "blanks around": (b"  " + message("x") + b"\t ", SAID),
    "keys twice": (b'{"type":"dance","type":"message","id":"m","text":"x"}', SAID),
    "unknown keys": (message("x", more=[1, {"a": None}]), SAID),
    "an emoji": (say("\U0001f600"), SAID),
    "right to left and zero width": (say("\u202e\u200b\ufeff"), SAID),
    "escape sequences": (message("\x1b]0;title\x07\x1b[2J"), SAID),
    "an empty text": (message(""), SAID),
    "4 KiB": (wide(4096), SAID),
    "65,535 bytes": (wide(65_535), SAID),
    "65,536 bytes": (wide(65_536), SAID),
    "65,537 bytes": (wide(65_537), SAID),
    "a byte less than the limit": (wide(LINE - 1), SAID),
    "the limit": (wide(LINE), SAID),
    "a byte more than the limit": (wide(LINE + 1), UNPARSED),
    "2 MiB": (wide(2 * MIB), UNPARSED),
    "16 MiB": (b"x" * (16 * MIB), UNPARSED),
    "100 MiB": (b"x" * (100 * MIB), UNPARSED),
    "a message of 100 MiB": (wide(100 * MIB), UNPARSED),
}


async def test_each_line_of_the_corpus_is_told_as_one_thing_and_the_reader_lives(
    tmp_path: Path,
) -> None:
    assert len(CORPUS) >= 60
    slowest = (0.0, "")
    async with driving(Reciter(), tmp_path) as run:
        await run.start()
        for number, (name, (line, kind)) in enumerate(CORPUS.items()):
            (tmp_path / "line").write_bytes(line + b"\n")
            began = time.monotonic()
            after = await run.begin(str(tmp_path / "line"))
            over = await run.over(after)
            slowest = max(slowest, (time.monotonic() - began, name))
            place = run.seen.index(over, after)
            told = run.seen[after:place]
            assert len(told) == 1, (number, name, told[:3])
            assert shown_as(told[0]) == kind, (name, told)
            if isinstance(told[0], Note):
                assert told[0].bytes_dropped == len(line), name
                assert len(told[0].message) < 1024, name
            assert over.stop_reason is StopReason.COMPLETED, name
        assert len(run.spawned) == 1
    print(f"slowest: {slowest[1]}, {slowest[0]:.2f} s")
    # Reading 100 MiB through two processes takes its time on a busy machine.
    assert slowest[0] < paced(7.0)


def shown_as(told: Observation) -> str:
    if isinstance(told, Note):
        assert told.kind is NoteKind.UNPARSED, told
        return UNPARSED
    assert isinstance(told, Message), told
    return SAID


async def test_a_line_of_100_mib_takes_no_memory_worth_mentioning(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(b"x" * (100 * MIB) + b"\n")
    async with driving(Reciter(), tmp_path) as run:
        await run.start()
        forget_peak()
        before = memory("VmRSS")
        await run.turn(str(tmp_path / "long"))
        grown = memory("VmHWM") - before
    print(f"grown by {grown / MIB:.1f} MiB")
    assert grown < 32 * MIB


async def test_a_character_that_comes_in_halves_is_whole_wherever_it_is_cut(
    tmp_path: Path,
) -> None:
    async with driving(ScriptedFactory(), tmp_path) as run:
        await run.start()
        after = await run.begin("; ".join(f"rune pause=0.01 {char}" for char in "é€😀"))
        await run.over(after)
        said = [seen.content for seen in run.all(Message)]
        assert ["".join(getattr(p, "text", "") for p in content) for content in said] == [*"é€😀"]


# --- A shell's output ----------------------------------------------------------------------------


def blobs() -> Iterator[tuple[str, bytes]]:
    yield "all bytes", bytes(range(256)) * 3
    yield "NUL only", b"\0" * 100_000
    yield "no end of line", b"no end"
    yield "a frame of ours", b"\0abc\0began\0turn-1\0abc.\0"
    yield "bad UTF-8", b"\xff\xfe\x80" * 10_000
    yield "a rune cut short", "€".encode()[:2]
    yield "runes at every cut", b"".join(b"x" * n + "😀".encode() for n in range(200)) * 20
    for size in (PIECE - 1, PIECE, PIECE + 1, MIB, 16 * MIB):
        yield f"{size} bytes in a line", b"x" * size
    yield "carriage returns", b"10%\r20%\r\n" * 1000


async def test_a_shells_output_is_told_byte_by_byte_in_pieces_that_cut_no_character(
    tmp_path: Path,
) -> None:
    async with driving(ShellFactory(), tmp_path) as run:
        await run.start()
        for name, blob in blobs():
            (tmp_path / "blob").write_bytes(blob)
            after = await run.begin("cat blob")
            await run.over(after)
            pieces = [one.data for one in run.seen[after:] if isinstance(one, ToolOutput)]
            assert b"".join(pieces) == blob, name
            assert all(0 < len(piece) <= PIECE for piece in pieces), name
            if name == "runes at every cut":
                assert all(piece.decode() for piece in pieces)


async def test_a_shell_that_prints_100_mib_takes_no_memory_worth_mentioning(
    tmp_path: Path,
) -> None:
    async with driving(ShellFactory(), tmp_path) as run:
        await run.start()
        seen = discard_output(run)
        forget_peak()
        before = memory("VmRSS")
        await run.turn("head -c 104857600 /dev/zero")
        grown = memory("VmHWM") - before
        assert seen() == 100 * MIB
    print(f"grown by {grown / MIB:.1f} MiB")
    assert grown < 32 * MIB


class Discarding(list[Observation]):
    """What was seen, but for output, of which only the size is kept."""

    def __init__(self, seen: list[Observation]) -> None:
        super().__init__(seen)
        self.size = 0

    def extend(self, told: object) -> None:
        assert isinstance(told, list)
        self.size += sum(len(one.data) for one in told if isinstance(one, ToolOutput))
        super().extend(one for one in told if not isinstance(one, ToolOutput))


def discard_output(run: Drive):  # type: ignore[no-untyped-def]
    kept = run.seen = Discarding(run.seen)
    run.times = []
    return lambda: kept.size


# --- Floods --------------------------------------------------------------------------------------

FLOODS = {
    "shell, stdout": ("shell", "yes"),
    "shell, stderr": ("shell", "yes >&2"),
    "shell, without a line's end": ("shell", "cat /dev/zero"),
    "shell, in the background": ("shell", "yes & sleep 600"),
    "scripted, a tool's output": ("scripted", "flood as=tool piece=65536 1e15"),
    "scripted, messages": ("scripted", "flood as=say piece=60000 1e15"),
    "scripted, live text": ("scripted", "flood as=text piece=4096 1e15"),
    "scripted, no protocol": ("scripted", "flood as=raw piece=65536 1e15"),
    "scripted, stderr": ("scripted", "flood as=stderr piece=65536 1e15"),
    "scripted, a line without end": ("scripted", "line 1e15"),
}


@asynccontextmanager
async def neighbours(pair: Pair, count: int) -> AsyncIterator[list[float]]:
    """Sessions that run a short turn after the other; yields how long each took."""
    took: list[float] = []
    over = asyncio.Event()

    async def work(slug: str) -> None:
        number = 0
        while not over.is_set():
            number += 1
            began = time.monotonic()
            await pair.client.send(slug, f"echo {number}")
            async for event in pair.client.watch(slug):
                if event.turn == number and event.WhichOneof("kind") == "turn_ended":
                    break
            took.append(time.monotonic() - began)

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            await pair.client.start_session(f"quiet-{number}", agent="shell")
            group.create_task(work(f"quiet-{number}"))
        try:
            yield took
        finally:
            over.set()


def _longer(took: list[float], than: int) -> Callable[[], Awaitable[bool]]:
    async def longer() -> bool:
        return len(took) > than

    return longer


def disk_use(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


async def test_a_flood_harms_neither_the_host_nor_its_neighbours(tmp_path: Path) -> None:
    async with running_pair(tmp_path, host_arguments=["--output-cap", "1"]) as pair:
        assert pair.host is not None
        pid = pair.host.pid
        async with neighbours(pair, 3) as took:
            for number, (name, (agent, script)) in enumerate(FLOODS.items()):
                slug = f"flood-{number}"
                await pair.client.start_session(slug, agent=agent)
                forget_peak(pid)
                before, done = memory("VmRSS", pid), len(took)
                await pair.client.send(slug, script)
                await asyncio.sleep(FLOOD_SECONDS / len(FLOODS) * 3)
                await until(_longer(took, done), f"{name}: the neighbours go on")
                answer = await pair.client.interrupt(slug, grace=1.0)
                await pair.client.wait(answer.receipt)
                grown = memory("VmHWM", pid) - before
                await pair.client.wait((await pair.client.kill(slug)).receipt)
                events = await log(pair, slug)
                stored = sum(event.ByteSize() for event in events)
                slow = max(took[done:])
                print(
                    f"{name}: host +{grown / MIB:.1f} MiB, {stored / MIB:.2f} MiB stored,"
                    f" neighbours' slowest {slow:.2f} s of {len(took) - done}"
                )
                assert grown <= GROWTH, name
                # The cap of a turn, and what surrounds the output in events.
                assert stored <= 2 * MIB, name
        took.sort()
        p99 = took[int(len(took) * 0.99)]
        print(f"{len(took)} turns of neighbours, p99 {p99:.2f} s")
        assert p99 <= paced(2.0)
        assert disk_use(pair.home / "host") < 64 * MIB


async def test_what_a_turn_put_out_beyond_its_cap_is_told_once_with_its_size(
    tmp_path: Path,
) -> None:
    async with running_pair(tmp_path, host_arguments=["--output-cap", "1"]) as pair:
        await pair.client.start_session("s", agent="shell")
        await pair.client.send("s", f"head -c {3 * MIB} /dev/zero | tr '\\0' x; echo end")
        await pair.client.send("s", "echo next")
        async with asyncio.timeout(PATIENCE):
            async for event in pair.client.watch("s"):
                if event.turn == 2 and event.WhichOneof("kind") == "turn_ended":
                    break
        events = await log(pair, "s")
        [note] = [event.diagnostic for event in events if event.HasField("diagnostic")]
        assert note.kind == event_pb2.DIAGNOSTIC_KIND_TRUNCATED
        outputs = [event for event in events if event.HasField("tool_call_output")]
        kept = [event for event in outputs if event.turn == 1]
        size = sum(len(event.tool_call_output.text) for event in kept)
        # The command counts, too.
        assert MIB - 1000 < size <= MIB
        assert size + note.bytes_dropped == 3 * MIB + len("end\n")
        assert [event.tool_call_output.text for event in outputs if event.turn == 2] == ["next\n"]


@pytest.mark.parametrize("calls", [3000])
async def test_an_agent_that_begins_tool_calls_without_end_has_so_many_open(
    tmp_path: Path, calls: int
) -> None:
    async with running_pair(tmp_path) as pair:
        await pair.client.start_session("s", agent="scripted")
        await pair.client.send("s", "; ".join(f"tool_start id=t{n}" for n in range(calls)))
        async with asyncio.timeout(PATIENCE):
            async for event in pair.client.watch("s"):
                if event.WhichOneof("kind") == "turn_ended":
                    break
        events = await log(pair, "s")
        begun = sum(event.HasField("tool_call_started") for event in events)
        ended = sum(event.HasField("tool_call_ended") for event in events)
        assert begun == ended == 1024 < calls
