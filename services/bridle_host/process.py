"""An agent's process, as its driver holds it: written to, read from, signalled, stopped with proof.

Speaks to one shim (`bridle_host.shim`, where the protocol is written down) over its socket. Knows
nothing of gRPC, of the store or of any agent's protocol. Called by the drivers.

There is no task here and nothing to run: the socket is read in the event loop's callbacks, which
never wait, because the shim sends no more output than the host has room for. So a ShimProcess can
be held by any task of the root TaskGroup, and its one duty is `close()`:

    process = await ShimProcess.spawn(spec, containment)
    try:
        async for chunk in process.output(): …
    finally:
        await process.close()
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import secrets
import signal as signals
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from bridle_host import shim
from bridle_host.containment import Containment
from bridle_host.input_log import InputLog
from bridle_host.process_types import (
    Chunk,
    DirectoryMissingError,
    ExitStatus,
    HeldError,
    InputClosedError,
    Interrupted,
    Ladder,
    Mark,
    NotExecutableError,
    ProcessError,
    ProcessInfo,
    ProcessSpec,
    Proof,
    Rung,
    SessionBusyError,
    ShimFailedError,
    ShimLostError,
    SpawnError,
    Stream,
)
from bridle_host.shim_client import ShimClient
from bridle_host.sweep import SweepReport, sweep

__all__ = [
    "Chunk",
    "DirectoryMissingError",
    "ExitStatus",
    "HeldError",
    "InputClosedError",
    "Interrupted",
    "Ladder",
    "Mark",
    "NotExecutableError",
    "ProcessError",
    "ProcessInfo",
    "ProcessSpec",
    "Proof",
    "Rung",
    "SessionBusyError",
    "ShimFailedError",
    "ShimLostError",
    "ShimProcess",
    "SpawnError",
    "Stream",
    "SweepReport",
    "sweep",
]

log = logging.getLogger("bridle.host.process")

# Output that the driver has not read. Enough that a busy pipe never waits for the loop, little
# enough that a hundred flooding sessions fit into memory.
OUTPUT_CAP = 1024 * 1024
# Output that was read and is not durable yet, in the shim. A driver holds back what it cannot make
# sense of before its end: a line of a mebibyte, or a shell's report of eight. At the cap the agent
# blocks, and the driver would wait for that end for ever; so this is far above both.
HELD_CAP = 16 * 1024 * 1024
# Input on its way: the shim's buffer, beyond what the agent's pipe holds.
INPUT_WINDOW = 256 * 1024
INPUT_FRAME = 64 * 1024
# What is posted because of what the agent says, beyond that; whole inputs, with their pictures, are
# not waited for: an agent that must be read before it reads on would never get them.
POSTED_CAP = 16 * 1024 * 1024
# Telling of each small chunk that it was read would double the traffic of a chatty agent.
READ_EVERY = 64 * 1024
# The shim's own file is beside it, see `bridle_host.shim`.
INPUT_FILE = shim.INPUT_FILE
KILL_NOW = Ladder(interrupt_grace=0, terminate_grace=0)


class ShimProcess:
    """One agent process in its containment.

    pid: of the agent's root process, as the host sees it; start_time: epoch seconds; containment:
    the level that it really got, as in `Containment.name`; shim_pid: of the shim. blocked: whether
    the agent has to wait because its output isn't consumed; blockages: how often that has begun.
    """

    pid: int
    start_time: float
    containment: str
    shim_pid: int
    blocked: bool = False
    blockages: int = 0

    def __init__(self, state_directory: Path, log_input: InputLog, *, keep: bool) -> None:
        """For `spawn` and `adopt` only."""
        loop = asyncio.get_running_loop()
        self._shim = ShimClient(state_directory, self._frame, self._shim_ended)
        self._keep = keep
        self._exit: asyncio.Future[ExitStatus] = loop.create_future()
        self._proof: Proof | None = None
        # What every `stop` found beside the root process: (pid, start time).
        self._swept: set[tuple[int, float]] = set()
        self._close_lock = asyncio.Lock()
        self._closed = False
        # Bounded by the shim: OUTPUT_CAP, and what the pipes hold when the agent exits.
        self._chunks: deque[Chunk] = deque()
        self._arrived = asyncio.Event()
        # Offsets: what was taken from here, what the shim knows of that, what is durable.
        self._read = self._read_told = self._acknowledged = 0
        self._input_lock = asyncio.Lock()
        self._input_moved = asyncio.Event()
        self._input_log = log_input
        # What the shim has no room for: the rest of one message, or of what was adopted.
        self._input_waiting = memoryview(b"")
        self._input_sent = 0
        self._input_taken = 0
        self._input_posted = 0
        self._input_closed = False  # by the agent
        self._end_sent = False

    @classmethod
    async def spawn(cls, spec: ProcessSpec, containment: Containment) -> Self:
        """Start the agent. Returns when it has been executed.

        Raises a SpawnError: DirectoryMissingError, NotExecutableError, SessionBusyError, HeldError
        or ShimFailedError. Then nothing is left.
        """
        if not spec.argv or not spec.argv[0]:
            raise NotExecutableError("argv is empty")
        if not 0 <= spec.control_pipes <= 16:
            raise ValueError("control_pipes must be 0 to 16")
        keep = spec.on_host_lost == "keep"
        place = spec.state_directory
        process = cls(place, InputLog(place / INPUT_FILE if keep else None), keep=keep)
        agent = {
            "argv": list(spec.argv),
            "directory": spec.directory,
            "within": spec.within,
            "environment": dict(spec.environment),
            "mark": f"{spec.session_id}:{secrets.token_hex(16)}",
            "control_pipes": spec.control_pipes,
            "cap": OUTPUT_CAP,
            "held_cap": HELD_CAP,
            "holds": [str(path) for path in spec.holds],
        }
        started = await process._shim.start(_shim_options(spec, containment), agent)
        process._is(started, str(started["level"]), int(started["offset"]))
        for note in started["notes"]:
            log.warning("session %s: containment: %s", spec.session_id, note)
        return process

    @classmethod
    async def adopt(cls, state_directory: Path, containment: Containment) -> Self:
        """Take over the agent whose shim has outlived its host process.

        Then: `acknowledge` what is durable, and read `output()`, which begins exactly there. Input
        that was on its way is sent by itself.

        Raises ShimLostError: there is no shim any more, or none that may be trusted to be it; what
        is left is to be swept. Raises ShimFailedError: it is there, but cannot be talked to (it
        speaks another version); what it holds can only be killed, by a sweep.
        """
        process = cls(state_directory, InputLog.load(state_directory / INPUT_FILE), keep=True)
        process._end_sent = True  # nothing goes out before it is known from where on
        hello = await process._shim.adopt()
        level = str(hello["level"])
        if level != containment.name:
            log.info("adopted an agent contained by %s, not %s", level, containment.name)
        process._is(hello["agent"], level, int(hello["acknowledged"]))
        process._note_swept(_infos(hello["swept"]))
        process._input_sent = int(hello["input_received"])
        # Frames that followed the greeting may have been read already.
        process._input_taken = max(process._input_taken, int(hello["input_taken"]))
        process._input_closed = process._input_closed or bool(hello["input_broken"])
        process._input_waiting = memoryview(process._input_log.resume(process._input_sent))
        process._end_sent = False
        process._feed()
        return process

    def _is(self, agent: dict[str, Any], level: str, offset: int) -> None:
        self.shim_pid = self._shim.pid
        self.pid = int(agent["pid"])
        self.start_time = float(agent["start_time"])
        self.containment = level
        # What was acknowledged meanwhile, or has arrived, may be further on.
        self._read = self._read_told = offset
        self._acknowledged = max(self._acknowledged, offset)

    # Frames from the shim, in the event loop's callbacks.

    def _frame(self, kind: int, body: bytes) -> None:
        if kind == shim.OUTPUT:
            stream, offset, seconds = shim.OUTPUT_HEAD.unpack_from(body)
            data = body[shim.OUTPUT_HEAD.size :]
            self._chunks.append(Chunk(Stream(min(stream, 3)), data, seconds, stream, offset))
            self._arrived.set()
        elif kind == shim.BLOCKED:
            self.blocked = body == b"\1"
            self.blockages += self.blocked
        elif kind == shim.STDIN_TAKEN:
            self._input_taken, broken = shim.TAKEN.unpack(body)
            self._input_closed = self._input_closed or bool(broken)
            self._input_log.taken(self._input_taken)
            self._feed()
            self._input_moved.set()
        elif kind == shim.EXIT:
            status = json.loads(body)
            self._exited(ExitStatus(status["code"], status["signal"]))

    def _exited(self, status: ExitStatus) -> None:
        if not self._exit.done():
            self._exit.set_result(status)
        self._input_closed = True
        self._input_moved.set()
        self._arrived.set()

    def _shim_ended(self) -> None:
        self._exited(ExitStatus(None, None))

    # Input and output.

    async def write(self, data: bytes, key: str = "") -> None:
        """Hand one message to the agent's stdin, in order; returns when it is on its way.

        Waits while the agent doesn't read. Raises InputClosedError when the agent has closed its
        stdin or has exited, as soon as that is known. key: the order's name, see `written`. Once it
        was begun a message reaches the agent whole, also when the caller is cancelled.
        """
        async with self._input_lock:
            await self._input_fed()
            if self._input_log.ended:
                raise InputClosedError("the agent's stdin is closed")
            self._input_log.append(data, key)
            self._input_waiting = memoryview(data)
            self._feed()
            await self._input_fed()

    def post(self, data: bytes, key: str = "") -> None:
        """`write` without waiting: on its way when this returns, whatever the agent reads.

        Whoever posts because of what the agent says waits for `posted` before it reads on, else an
        agent that asks without end and hears nothing fills the memory. Raises InputClosedError.
        """
        if self._closed:
            return  # detached: there is nothing to tell of a process that goes on
        if self._input_log.ended or self._input_closed:
            raise InputClosedError("the agent's stdin is closed")
        self._input_log.append(data, key)
        self._input_posted += len(data)
        self._input_waiting = memoryview(bytes(self._input_waiting) + data)
        self._feed()

    async def posted(self) -> None:
        """Until less than POSTED_CAP of what was posted waits for the agent; or nothing can."""
        while self._input_posted > POSTED_CAP and self._input_waiting and not self._input_closed:
            await self._shim.unless_detached()
            self._input_moved.clear()
            await self._input_moved.wait()
        if not self._input_waiting:
            self._input_posted = 0

    def written(self, key: str) -> bool:
        """Whether a message of this key was given already, by this or an earlier host process.

        It reaches the agent then, whole and once, without anybody's doing; it must not be given
        again. Among the last 1024 messages.
        """
        return key in self._input_log

    async def _input_fed(self) -> None:
        """Until the shim has got all that was given so far."""
        while True:
            await self._shim.unless_detached()
            if self._input_closed:
                raise InputClosedError("the agent's stdin is closed")
            if not self._input_waiting:
                return
            self._input_moved.clear()
            await self._input_moved.wait()

    def _feed(self) -> None:
        """Send as much as the shim has room for; it is called again when there is more."""
        if self._input_closed:
            self._input_waiting = memoryview(b"")
        while self._input_waiting:
            room = INPUT_WINDOW - (self._input_sent - self._input_taken)
            piece = self._input_waiting[: min(INPUT_FRAME, room)]
            if room < min(INPUT_FRAME, len(self._input_waiting)):
                return
            self._shim.send(shim.STDIN, shim.OFFSET.pack(self._input_sent) + piece)
            self._input_sent += len(piece)
            self._input_waiting = self._input_waiting[len(piece) :]
        if self._input_log.ended and not self._end_sent:
            self._end_sent = True
            self._shim.send(shim.STDIN_END)

    async def close_stdin(self) -> None:
        """The end of input, after what was written. Idempotent."""
        async with self._input_lock:
            await self._shim.unless_detached()
            if not self._input_log.ended and not self._input_closed:
                self._input_log.append_end()
                self._feed()

    def output(self) -> Output:
        """All output in order; ends after the exit report. One reader at a time.

        A chunk counts as read when the next one is asked for; above OUTPUT_CAP unread bytes the
        agent blocks on its pipes. A marker on a control pipe follows all output that the agent
        wrote before it.
        """
        return Output(self._next_chunk)

    def acknowledge(self, offset: int) -> None:
        """All that comes of the bytes before `offset` is durable: nobody will ask for them again.

        May lie within a chunk. What an adopted process is told before its output is read is where
        its output begins. Offsets of an earlier process, and smaller ones, change nothing. With
        on_host_lost="kill" reading acknowledges.
        """
        if self._keep and offset > self._acknowledged:
            self._acknowledged = offset
            self._shim.send(shim.ACK, shim.OFFSET.pack(offset))

    async def _next_chunk(self) -> Chunk:
        while True:
            await self._shim.unless_detached()
            if not self._chunks:
                self._tell_read()
                if self._exit.done():
                    raise StopAsyncIteration
                self._arrived.clear()
                await self._arrived.wait()
                continue
            if self._read - self._read_told >= READ_EVERY:
                self._tell_read()
            chunk = self._chunks.popleft()
            # What is durable is not told again; it may end in the middle of a chunk.
            known = self._acknowledged - chunk.offset if self._keep else 0
            self._read = chunk.end
            if known <= 0:
                return chunk
            if known < len(chunk.data):
                return replace(chunk, data=chunk.data[known:], offset=self._acknowledged)

    def _tell_read(self) -> None:
        if self._read > self._read_told:
            self._read_told = self._read
            kind = shim.READ if self._keep else shim.ACK
            self._shim.send(kind, shim.OFFSET.pack(self._read))

    # Requests.

    async def wait(self) -> ExitStatus:
        """How the agent's root process ended. Does not wait for its output to be read."""
        await self._shim.unless_detached()
        return await asyncio.shield(self._exit)

    @property
    def exited(self) -> ExitStatus | None:
        return self._exit.result() if self._exit.done() else None

    async def signal(self, signum: int) -> bool:
        """Signal the agent's root process, and only it. False when it has exited.

        Raises ValueError when there is no such signal.
        """
        if signum not in signals.valid_signals():
            raise ValueError(f"no signal {signum}")
        return bool((await self._shim.ask("signal", signal=int(signum)))["delivered"])

    async def mark(self) -> Mark:
        """Remember what is alive now, for `interrupt`."""
        reply = await self._shim.ask("mark")
        return Mark(tuple((int(pid), int(start)) for pid, start in reply["mark"]))

    async def interrupt(
        self,
        mark: Mark,
        *,
        signum: int = signals.SIGINT,
        grace: float,
        spare_root: bool = True,
        spare_jobs: bool = False,
    ) -> Interrupted:
        """Signal everything born since the mark; after `grace` seconds kill what is left of it.

        Finds processes wherever they hang (setsid, daemonized). What is older lives on. With
        spare_root=False the root process gets the signal too, before the others; it is never killed
        here. With spare_jobs=True what hangs beneath an older process other than the root is spared
        too: right for a shell, whose older children are background jobs; wrong for an agent that
        runs its tools from a helper process.
        """
        reply = await self._shim.ask(
            "interrupt",
            seconds=grace + shim.INTERRUPT_KILL_LIMIT,
            mark=mark.processes,
            signal=int(signum),
            grace=grace,
            spare_root=spare_root,
            spare_jobs=spare_jobs,
        )
        return Interrupted(
            signalled=_infos(reply["signalled"]),
            killed=_infos(reply["killed"]),
            remaining=int(reply["remaining"]),
            duration=float(reply["duration"]),
        )

    async def hold(self, path: Path) -> bool:
        """Lock a file until the shim has ended, which outlives the host; False where another
        process has it. A lock that it has already it has.
        """
        return bool((await self._shim.ask("hold", path=str(path)))["held"])

    async def processes(self) -> list[ProcessInfo]:
        """What is alive in the session (at most 256)."""
        return list(_infos((await self._shim.ask("processes"))["processes"]))

    async def stop(self, ladder: Ladder) -> Proof:
        """Climb the ladder until nothing is left, and say what was found.

        Idempotent, also after the exit: then it takes what the agent left behind. Two stops at once
        climb beside each other, so that a shorter grace counts.
        """
        try:
            reply = await self._shim.ask(
                "stop",
                seconds=ladder.interrupt_grace + ladder.terminate_grace,
                interrupt_grace=ladder.interrupt_grace,
                terminate_grace=ladder.terminate_grace,
            )
        except ShimLostError:
            await self._shim.unless_detached()
            return await self._proof_without_shim()
        rungs = tuple(
            Rung(rung["signal"], rung["count"], _infos(rung["found"]), rung["duration"])
            for rung in reply["rungs"]
        )
        left = _infos(reply["left"])
        self._proof = Proof(rungs, int(reply["remaining"]), float(reply["duration"]), left)
        self._note(rungs)
        return self._proof

    def _note(self, rungs: tuple[Rung, ...]) -> None:
        for rung in rungs:
            self._note_swept(rung.found)

    def _note_swept(self, found: tuple[ProcessInfo, ...]) -> None:
        others = (info for info in found if info.pid != self.pid)
        self._swept.update((info.pid, info.start_time) for info in others)

    @property
    def swept(self) -> int:
        """How many processes beside the root had to be ended by `stop`, whoever called it; at most
        256 of each signal are counted."""
        return len(self._swept)

    async def _proof_without_shim(self) -> Proof:
        report = await self._shim.swept()
        if report is not None:
            rung = Rung(signals.SIGKILL, len(report.killed), report.killed, report.duration)
            self._proof = Proof((rung,), report.remaining, report.duration)
            self._note(self._proof.rungs)
        return self._proof or Proof((), 0, 0.0)

    def detach(self) -> None:
        """Let go of the shim and nothing else: the agent goes on, for `adopt`. Idempotent.

        For the end of the host process. `close` does nothing after it, and whatever else is awaited
        or called later waits until it is cancelled: there is nothing to tell of a process that
        goes on.
        """
        if not self._closed:
            self._closed = True
            self._shim.detach()
            self._input_log.close()

    async def close(self) -> None:
        """Kill what is left, end the shim, release the socket. Idempotent; leaves nothing."""
        async with self._close_lock:
            if self._closed:
                return
            if not self._shim.gone:
                # So that the exit is reported before the shim goes. A shim that can't do it (for
                # want of descriptors or memory) must go all the more.
                try:
                    await self.stop(KILL_NOW)
                except ProcessError as error:
                    log.error("a shim can't kill what it holds, and is ended: %s", error)
            await self._shim.end()
            self._closed = True
            self._input_log.close()
            self._exited(ExitStatus(None, None))


class Output:
    """Asynchronous iterator of Chunk. Not a generator: it may be left at any time."""

    def __init__(self, next_chunk: Callable[[], Awaitable[Chunk]]) -> None:
        self._next_chunk = next_chunk

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        return await self._next_chunk()


def _shim_options(spec: ProcessSpec, containment: Containment) -> list[str]:
    options = [
        f"--session={spec.session_id}",
        f"--run={spec.run}",
        f"--state={os.path.abspath(spec.state_directory)}",
        f"--level={containment.level}",
        f"--on-host-lost={spec.on_host_lost}",
    ]
    if containment.cgroup_root is not None:
        label = re.sub(r"[^A-Za-z0-9-]", "", spec.session_id)[:40]
        name = f"bridle-{label}-{spec.run}-{secrets.token_hex(4)}"
        options.append(f"--cgroup={containment.cgroup_root / name}")
    return options


def _infos(listed: list[dict[str, Any]]) -> tuple[ProcessInfo, ...]:
    return tuple(
        ProcessInfo(int(p["pid"]), int(p["parent"]), float(p["start_time"]), str(p["command"]))
        for p in listed
    )
