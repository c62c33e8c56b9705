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
import socket
import subprocess
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self, TypeVar

from bridle_host import shim
from bridle_host.containment import Containment, shim_command, shim_environment
from bridle_host.process_types import (
    Chunk,
    DirectoryMissingError,
    ExitStatus,
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
from bridle_host.shim_link import Birth, Death, Link, connected_pair
from bridle_host.sweep import SweepReport, read_state, shim_alive, sweep

__all__ = [
    "Chunk",
    "DirectoryMissingError",
    "ExitStatus",
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

# Output that the driver has not consumed. Enough that a busy pipe never waits for the loop, little
# enough that a hundred flooding sessions fit into memory.
OUTPUT_CAP = 1024 * 1024
# Input on its way: the shim's buffer, beyond what the agent's pipe holds.
INPUT_WINDOW = 256 * 1024
INPUT_FRAME = 64 * 1024
# Acknowledging each small chunk would double the traffic of a chatty agent.
ACK_EVERY = 64 * 1024
# From the start of the interpreter to its greeting; a loaded machine may start twenty at once.
SHIM_START_SECONDS = 30.0
# Entering a directory or loading a program from a slow network disk.
AGENT_START_SECONDS = 30.0
# What a request may take beyond the times that it names itself, before the shim counts as hung.
REQUEST_SECONDS = shim.KILL_LIMIT + 10.0

KILL_NOW = Ladder(interrupt_grace=0, terminate_grace=0)
LOG_FILE = "shim.log"

T = TypeVar("T")


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

    def __init__(self, spec: ProcessSpec) -> None:
        """For `spawn` only."""
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._state_directory = spec.state_directory
        self._link = Link(self._frame, self._lost)
        self._deaths: list[Death] = []  # the started process and, if it is another, the shim
        self._birth: Birth | None = None
        self._greeting: asyncio.Future[dict[str, Any]] = loop.create_future()
        self._started: asyncio.Future[dict[str, Any]] = loop.create_future()
        self._exit: asyncio.Future[ExitStatus] = loop.create_future()
        self._disconnected: asyncio.Future[None] = loop.create_future()
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._request = 0
        self._running = False  # between a successful spawn and close
        self._recovery: asyncio.Future[SweepReport] | None = None
        self._proof: Proof | None = None
        self._close_lock = asyncio.Lock()
        self._closed = False
        # Bounded by the shim: OUTPUT_CAP, and what the pipes hold when the agent exits.
        self._chunks: deque[Chunk] = deque()
        self._arrived = asyncio.Event()
        self._consumed = 0
        self._acknowledged = 0
        self._input_lock = asyncio.Lock()
        self._input_moved = asyncio.Event()
        self._input_sent = 0
        self._input_taken = 0
        self._input_closed = False

    # Start.

    @classmethod
    async def spawn(cls, spec: ProcessSpec, containment: Containment) -> Self:
        """Start the agent. Returns when it has been executed.

        Raises a SpawnError: DirectoryMissingError, NotExecutableError, SessionBusyError or
        ShimFailedError. Then nothing is left.
        """
        if not spec.argv or not spec.argv[0]:
            raise NotExecutableError("argv is empty")
        if not 0 <= spec.control_pipes <= 16:
            raise ValueError("control_pipes must be 0 to 16")
        _prepare(spec.state_directory)
        process = cls(spec)
        try:
            await process._start_shim(_shim_options(spec, containment))
            await process._start_agent(spec)
        except BaseException:
            await process._end_shim(SHIM_START_SECONDS)
            raise
        process._running = True
        return process

    async def _start_shim(self, options: list[str]) -> None:
        birth_read, birth_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            first, client = _launch(self._state_directory, options, birth_write)
        except OSError as error:
            os.close(birth_read)
            raise ShimFailedError(f"cannot start the shim: {error}") from error
        finally:
            os.close(birth_write)
        self._deaths.append(first)
        self._birth = Birth(birth_read, self._born)
        await self._loop.create_unix_connection(lambda: self._link, sock=client)
        if not await self._birth.wait(SHIM_START_SECONDS):
            raise ShimFailedError(f"no shim within {SHIM_START_SECONDS:g} s")
        if self._birth.error:
            raise ShimFailedError(self._birth.error)
        hello = await self._soon(self._greeting, SHIM_START_SECONDS, "no greeting from the shim")
        if hello["version"] != shim.PROTOCOL_VERSION:
            raise ShimFailedError(f"the shim speaks version {hello['version']}")
        self.shim_pid = int(hello["pid"])

    def _born(self, pid: int) -> None:
        if pid != self._deaths[0].pid:
            self._deaths.append(Death(pid))

    async def _start_agent(self, spec: ProcessSpec) -> None:
        start = {
            "argv": list(spec.argv),
            "directory": spec.directory,
            "environment": dict(spec.environment),
            "mark": f"{spec.session_id}:{secrets.token_hex(16)}",
            "control_pipes": spec.control_pipes,
            "cap": OUTPUT_CAP,
        }
        body = json.dumps(start).encode("ascii")
        if len(body) > shim.FRAME_LIMIT:
            raise NotExecutableError("argv and environment are too long")
        self._link.send(shim.START, body)
        started = await self._soon(self._started, AGENT_START_SECONDS, "the agent does not start")
        self.pid = int(started["pid"])
        self.start_time = float(started["start_time"])
        self.containment = str(started["level"])
        for note in started["notes"]:
            log.warning("session %s: containment %s: %s", spec.session_id, self.containment, note)

    async def _soon(
        self, future: asyncio.Future[dict[str, Any]], seconds: float, problem: str
    ) -> dict[str, Any]:
        await asyncio.wait([future], timeout=seconds)
        if not future.done():
            raise ShimFailedError(f"{problem} within {seconds:g} s")
        return future.result()

    # Frames from the shim, in the event loop's callbacks.

    def _frame(self, kind: int, body: bytes) -> None:
        if kind == shim.OUTPUT:
            stream, _offset, seconds = shim.OUTPUT_HEAD.unpack_from(body)
            data = body[shim.OUTPUT_HEAD.size :]
            self._chunks.append(Chunk(Stream(min(stream, 3)), data, seconds, stream))
            self._arrived.set()
        elif kind == shim.BLOCKED:
            self.blocked = body == b"\1"
            self.blockages += self.blocked
        elif kind == shim.STDIN_TAKEN:
            self._input_taken, broken = shim.TAKEN.unpack(body)
            self._input_closed = self._input_closed or bool(broken)
            self._input_moved.set()
        elif kind == shim.EXIT:
            status = json.loads(body)
            self._exited(ExitStatus(status["code"], status["signal"]))
        elif kind == shim.REPLY:
            reply = json.loads(body)
            future = self._replies.pop(reply["id"], None)
            if future is not None and not future.done():
                future.set_result(reply)
        elif kind == shim.HELLO:
            _resolve(self._greeting, json.loads(body))
        elif kind == shim.STARTED:
            _resolve(self._started, json.loads(body))
        elif kind == shim.REFUSED:
            _fail(self._started, _refusal(json.loads(body)))

    def _exited(self, status: ExitStatus) -> None:
        _resolve(self._exit, status)
        self._input_closed = True
        self._input_moved.set()
        self._arrived.set()

    def _lost(self) -> None:
        """The connection has ended: asked for by `close`, or the shim is dying or dead."""
        _resolve(self._disconnected, None)
        problem = ShimFailedError(f"the shim died: {_last_line(self._state_directory / LOG_FILE)}")
        _fail(self._greeting, problem)
        _fail(self._started, problem)
        if self._running:
            log.error("session's shim %d is lost; sweeping", self.shim_pid)
            self._recovery = self._loop.run_in_executor(None, sweep, self._state_directory)
            self._recovery.add_done_callback(self._recovered)

    def _recovered(self, recovery: asyncio.Future[SweepReport]) -> None:
        if not recovery.cancelled() and (error := recovery.exception()) is not None:
            log.error("the sweep after a lost shim failed", exc_info=error)
        self._exited(ExitStatus(None, None))
        for future in self._replies.values():
            _fail(future, ShimLostError("the shim died"))
        self._replies.clear()

    # Input and output.

    async def write(self, data: bytes) -> None:
        """Hand bytes to the agent's stdin, in order; returns when they are on their way.

        Waits while the agent doesn't read. Raises InputClosedError when the agent has closed its
        stdin or has exited, as soon as that is known.
        """
        async with self._input_lock:
            for start in range(0, len(data), INPUT_FRAME):
                piece = data[start : start + INPUT_FRAME]
                await self._input_room(len(piece))
                self._link.send(shim.STDIN, piece)
                self._input_sent += len(piece)

    async def _input_room(self, size: int) -> None:
        while True:
            if self._input_closed:
                raise InputClosedError("the agent's stdin is closed")
            if self._input_sent - self._input_taken + size <= INPUT_WINDOW:
                return
            self._input_moved.clear()
            await self._input_moved.wait()

    async def close_stdin(self) -> None:
        """The end of input, after what was written. Idempotent."""
        async with self._input_lock:
            if not self._input_closed:
                self._input_closed = True
                self._link.send(shim.STDIN_END)

    def output(self) -> Output:
        """All output in order; ends after the exit report. One reader at a time.

        A chunk counts as consumed when the next one is asked for; above OUTPUT_CAP unconsumed bytes
        the agent blocks on its pipes. A marker on a control pipe follows all output that the agent
        wrote before it.
        """
        return Output(self._next_chunk)

    async def _next_chunk(self) -> Chunk:
        while not self._chunks:
            self._acknowledge()
            if self._exit.done():
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        if self._consumed - self._acknowledged >= ACK_EVERY:
            self._acknowledge()
        chunk = self._chunks.popleft()
        self._consumed += len(chunk.data)
        return chunk

    def _acknowledge(self) -> None:
        if self._consumed > self._acknowledged:
            self._acknowledged = self._consumed
            self._link.send(shim.ACK, shim.OFFSET.pack(self._consumed))

    # Requests.

    async def wait(self) -> ExitStatus:
        """How the agent's root process ended. Does not wait for its output to be read."""
        return await asyncio.shield(self._exit)

    @property
    def exited(self) -> ExitStatus | None:
        return self._exit.result() if self._exit.done() else None

    async def _ask(self, verb: str, *, seconds: float = 0.0, **fields: Any) -> dict[str, Any]:
        """One request; `seconds` is what it takes by its own nature. Raises ShimLostError."""
        if self._disconnected.done() or self._closed:
            raise ShimLostError("the shim is gone")
        self._request += 1
        number = self._request
        future: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._replies[number] = future
        self._link.send_object(shim.REQUEST, {"id": number, "verb": verb, **fields})
        try:
            async with asyncio.timeout(seconds + REQUEST_SECONDS):
                reply = await future
        except TimeoutError:
            # A shim that doesn't answer holds nothing together; its death starts the sweep.
            self._deaths[-1].kill()
            raise ShimLostError(f"the shim did not answer {verb}") from None
        finally:
            self._replies.pop(number, None)
        if "error" in reply:
            raise ProcessError(f"{verb}: {reply['error']}")
        return reply

    async def signal(self, signum: int) -> bool:
        """Signal the agent's root process, and only it. False when it has exited.

        Raises ValueError when there is no such signal.
        """
        if signum not in signals.valid_signals():
            raise ValueError(f"no signal {signum}")
        return bool((await self._ask("signal", signal=int(signum)))["delivered"])

    async def mark(self) -> Mark:
        """Remember what is alive now, for `interrupt`."""
        reply = await self._ask("mark")
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
        reply = await self._ask(
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

    async def processes(self) -> list[ProcessInfo]:
        """What is alive in the session (at most 256)."""
        return list(_infos((await self._ask("processes"))["processes"]))

    async def stop(self, ladder: Ladder) -> Proof:
        """Climb the ladder until nothing is left, and say what was found.

        Idempotent, also after the exit: then it takes what the agent left behind. Two stops at once
        climb beside each other, so that a shorter grace counts.
        """
        try:
            reply = await self._ask(
                "stop",
                seconds=ladder.interrupt_grace + ladder.terminate_grace,
                interrupt_grace=ladder.interrupt_grace,
                terminate_grace=ladder.terminate_grace,
            )
        except ShimLostError:
            return await self._proof_without_shim()
        rungs = tuple(
            Rung(rung["signal"], rung["count"], _infos(rung["found"]), rung["duration"])
            for rung in reply["rungs"]
        )
        left = _infos(reply["left"])
        self._proof = Proof(rungs, int(reply["remaining"]), float(reply["duration"]), left)
        return self._proof

    async def _proof_without_shim(self) -> Proof:
        await self._disconnected
        if self._recovery is not None:
            report = await asyncio.shield(self._recovery)
            rung = Rung(signals.SIGKILL, len(report.killed), report.killed, report.duration)
            self._proof = Proof((rung,), report.remaining, report.duration)
        return self._proof or Proof((), 0, 0.0)

    async def close(self) -> None:
        """Kill what is left, end the shim, release the socket. Idempotent; leaves nothing."""
        async with self._close_lock:
            if self._closed:
                return
            if not self._disconnected.done():
                # So that the exit is reported before the shim goes.
                await self.stop(KILL_NOW)
            self._running = False
            self._link.send(shim.RELEASE)
            await self._end_shim(shim.KILL_LIMIT + 5.0)
            self._closed = True
            self._exited(self.exited or ExitStatus(None, None))

    async def _end_shim(self, seconds: float) -> None:
        """See the shim dead (it ends at the loss of its connection), or kill it and sweep."""
        await self._drop_connection()
        forced = self._birth is not None and not await self._birth.wait(seconds)
        for death in list(self._deaths):
            if not forced and await death.wait(seconds):
                continue
            forced = True
            death.kill()
            await death.wait(seconds)
        if self._recovery is not None:
            await asyncio.wait([self._recovery])
        if forced:
            report = await asyncio.to_thread(sweep, self._state_directory)
            log.error("killed a hung shim; the sweep killed %d", len(report.killed))

    async def _drop_connection(self) -> None:
        if self._link.connected:
            self._link.close()
            await asyncio.wait([self._disconnected])


class Output:
    """Asynchronous iterator of Chunk. Not a generator: it may be left at any time."""

    def __init__(self, next_chunk: Callable[[], Awaitable[Chunk]]) -> None:
        self._next_chunk = next_chunk

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        return await self._next_chunk()


def _prepare(state_directory: Path) -> None:
    """Make the state directory; refuse while a shim of an earlier run is alive in it."""
    try:
        state_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        state_directory.chmod(0o700)
    except OSError as error:
        raise ShimFailedError(f"state directory: {error.strerror}") from error
    state = read_state(state_directory)
    if state is not None and shim_alive(state):
        raise SessionBusyError(f"shim {state['pid']} of run {state['run']} is alive")


def _launch(state_directory: Path, options: list[str], birth: int) -> tuple[Death, socket.socket]:
    """Start the first process, watched, and connect to it."""
    listener, client = connected_pair(state_directory)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with open(os.open(state_directory / LOG_FILE, flags, 0o600), "wb") as log_file:
            first = subprocess.Popen(
                shim_command(*options),
                stdin=listener.fileno(),
                stdout=birth,
                stderr=log_file,
                env=shim_environment(),
                cwd="/",
                start_new_session=True,
            )
        try:
            death = Death(first.pid)
        except OSError:
            first.kill()
            first.wait()
            raise
    except BaseException:
        client.close()
        raise
    finally:
        listener.close()
    first.returncode = 0  # `Death` reaps it: Popen must neither wait nor warn
    return death, client


def _shim_options(spec: ProcessSpec, containment: Containment) -> list[str]:
    options = [
        f"--session={spec.session_id}",
        f"--run={spec.run}",
        f"--state={os.path.abspath(spec.state_directory)}",
        f"--level={containment.level}",
        "--on-host-lost=kill",
    ]
    if containment.cgroup_root is not None:
        label = re.sub(r"[^A-Za-z0-9-]", "", spec.session_id)[:40]
        name = f"bridle-{label}-{spec.run}-{secrets.token_hex(4)}"
        options.append(f"--cgroup={containment.cgroup_root / name}")
    return options


def _resolve(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # seen, should nobody wait for it


def _refusal(refused: dict[str, Any]) -> SpawnError:
    kinds = {"directory": DirectoryMissingError, "execute": NotExecutableError}
    return kinds.get(refused["stage"], ShimFailedError)(refused["text"])


def _infos(listed: list[dict[str, Any]]) -> tuple[ProcessInfo, ...]:
    return tuple(
        ProcessInfo(int(p["pid"]), int(p["parent"]), float(p["start_time"]), str(p["command"]))
        for p in listed
    )


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text("utf-8", "replace").strip().splitlines()
    except OSError:
        return "no reason known"
    return lines[-1] if lines else "no reason given"
