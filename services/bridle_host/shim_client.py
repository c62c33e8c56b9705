"""One shim as the host service sees it: started or adopted, asked, lost, ended; never left behind.

Owns the shim's processes (their birth, their reaping), its connection, and the sweep after its
unexpected death. Knows nothing of input and output: those frames go on to `bridle_host.process`,
its only caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from bridle_host import shim
from bridle_host.containment import shim_command, shim_environment
from bridle_host.process_types import (
    DirectoryMissingError,
    HeldError,
    NotExecutableError,
    ProcessError,
    SessionBusyError,
    ShimFailedError,
    ShimLostError,
    SpawnError,
)
from bridle_host.shim_link import Birth, Death, Link, connect, connected_pair
from bridle_host.sweep import SweepReport, read_state, shim_alive, sweep

log = logging.getLogger("bridle.host.process")

# From the start of the interpreter to its greeting; a loaded machine may start twenty at once.
SHIM_START_SECONDS = 30.0
# Entering a directory or loading a program from a slow network disk.
AGENT_START_SECONDS = 30.0
# What a request may take beyond the times that it names itself, before the shim counts as hung.
REQUEST_SECONDS = shim.KILL_LIMIT + 10.0
# A shim that was told to end kills first; then it counts as hung.
END_SECONDS = shim.KILL_LIMIT + 5.0
# A shim answers a ping in a millisecond. One that is asked for something and stays silent for so
# long is continued, should it have been stopped; and, when it is to stop what it holds and stays
# silent after that too, killed, unless it is working or the machine lets it wait for a processor.
PING_SECONDS = 0.5
SILENT_SECONDS = 1.5
DEAF_SECONDS = 2.5
# A shim that is loaded or was frozen and continued greets its new host within this time.
ADOPT_SECONDS = 10.0
# How long a shim that no longer listens may take to be gone.
PARTING_SECONDS = shim.KILL_LIMIT + 5.0

LOG_FILE = "shim.log"

T = TypeVar("T")


class ShimClient:
    """`on_frame(kind, body)` gets what isn't answered here. `on_end()` is called once when the
    connection is lost after a successful start, and what the shim left has been swept.
    """

    pid: int

    def __init__(
        self,
        state_directory: Path,
        on_frame: Callable[[int, bytes], None],
        on_end: Callable[[], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._directory = state_directory
        self._on_frame, self._on_end = on_frame, on_end
        self._link = Link(self._frame, self._lost)
        self._deaths: list[Death] = []  # the started process and, if it is another, the shim
        self._birth: Birth | None = None
        self._greeting: asyncio.Future[dict[str, Any]] = loop.create_future()
        self._started: asyncio.Future[dict[str, Any]] = loop.create_future()
        self._disconnected: asyncio.Future[None] = loop.create_future()
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._request = 0
        self._running = False  # between a successful start and the end that is asked for
        self._detached = False
        self._replaced = False
        # When the first ping was sent after which nothing was heard.
        self._unanswered: float | None = None
        self._recovery: asyncio.Future[SweepReport] | None = None

    # Start.

    async def start(self, options: list[str], agent: dict[str, Any]) -> dict[str, Any]:
        """Start the shim, then the agent (the body of START). Returns the body of STARTED.

        Raises a SpawnError; then, as after a cancellation, nothing is left.
        """
        try:
            if _prepare(self._directory):
                await _sweep_earlier(self._directory)
            await self._start_shim(options)
            body = json.dumps(agent).encode("ascii")
            if len(body) > shim.FRAME_LIMIT:
                raise NotExecutableError("argv and environment are too long")
            self._link.send(shim.START, body)
            started = await _soon(self._started, AGENT_START_SECONDS, "no agent")
            if self.gone:
                raise ShimFailedError("the shim died")
        except BaseException:
            await self._see_dead(SHIM_START_SECONDS)
            raise
        self._running = True
        return started

    async def adopt(self) -> dict[str, Any]:
        """Connect to the shim that an earlier host process has left (the body of HELLO).

        Raises ShimLostError or ShimFailedError, as `ShimProcess.adopt`. Signals nothing but a shim
        that was seen to be the one that is recorded, and that only to continue it.
        """
        state = read_state(self._directory)
        if state is None or not shim_alive(state):
            raise ShimLostError("there is no shim any more")
        try:
            self._watch(state)
            await self._connect(state)
            hello = await self._greeted()
            self._compare(state, hello)
        except BaseException:
            self._let_go()
            raise
        self.pid = int(hello["pid"])
        self._running = True
        return hello

    def _watch(self, state: dict[str, Any]) -> None:
        """See the deaths of the guardian, if there is one, and of the shim."""
        guardian = state.get("guardian")
        if isinstance(guardian, dict):
            # It may be dead: then the shim has no guardian any more.
            with contextlib.suppress(OSError):
                self._deaths.append(Death(int(guardian["pid"]), int(guardian["start_ticks"])))
        try:
            self._deaths.append(Death(int(state["pid"]), int(state["start_ticks"])))
        except OSError:
            raise ShimLostError("the shim has just died") from None

    async def _connect(self, state: dict[str, Any]) -> None:
        if state.get("version") != shim.PROTOCOL_VERSION:
            raise ShimFailedError(f"the shim speaks version {state.get('version')}")
        try:
            client = connect(self._directory)
        except OSError as error:
            # It is about to end, or listens elsewhere: it closes its door, then kills, then dies.
            if await self._deaths[-1].wait(PARTING_SECONDS):
                raise ShimLostError("the shim was about to end") from None
            raise ShimFailedError(f"the shim does not listen: {error.strerror}") from error
        await self._loop.create_unix_connection(lambda: self._link, sock=client)

    async def _greeted(self) -> dict[str, Any]:
        done, _ = await asyncio.wait([self._greeting], timeout=SILENT_SECONDS)
        if not done:
            self._revive()
        try:
            return await _soon(self._greeting, ADOPT_SECONDS, "no greeting")
        except ShimFailedError:
            if self.gone and await self._deaths[-1].wait(PARTING_SECONDS):
                raise ShimLostError("the shim has just died") from None
            raise

    def _compare(self, state: dict[str, Any], hello: dict[str, Any]) -> None:
        if hello["version"] != shim.PROTOCOL_VERSION:
            raise ShimFailedError(f"the shim speaks version {hello['version']}")
        for name in ("session", "run", "pid", "start_ticks", "boot_id"):
            if hello[name] != state[name]:
                raise ShimFailedError(f"another shim listens: its {name} differs")
        if hello["agent"] is None:
            raise ShimFailedError("the shim has no agent")

    def _let_go(self) -> None:
        """Nothing came of an adoption."""
        self._link.close()
        for death in self._deaths:
            death.release()

    async def _start_shim(self, options: list[str]) -> None:
        birth_read, birth_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            first, client = _launch(self._directory, options, birth_write)
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
        hello = await _soon(self._greeting, SHIM_START_SECONDS, "no greeting")
        if hello["version"] != shim.PROTOCOL_VERSION:
            raise ShimFailedError(f"the shim speaks version {hello['version']}")
        self.pid = int(hello["pid"])

    def _born(self, pid: int) -> None:
        if pid != self._deaths[0].pid:
            # Its guardian may have reaped it before we have read of it; the pipe tells us why.
            with contextlib.suppress(OSError):
                self._deaths.append(Death(pid))

    # Frames and requests.

    def _frame(self, kind: int, body: bytes) -> None:
        self._unanswered = None
        if kind == shim.REPLY:
            reply = json.loads(body)
            future = self._replies.get(reply["id"])
            if future is not None:
                _resolve(future, reply)
        elif kind == shim.HELLO:
            _resolve(self._greeting, json.loads(body))
        elif kind == shim.STARTED:
            _resolve(self._started, json.loads(body))
        elif kind == shim.REFUSED:
            _fail(self._started, _refusal(json.loads(body)))
        elif kind == shim.REPLACED:
            self._replaced = True
        elif kind != shim.PONG and not self._detached:
            self._on_frame(kind, body)

    def send(self, kind: int, body: bytes = b"") -> None:
        """Never waits; lost when the shim is."""
        self._link.send(kind, body)

    async def ask(self, verb: str, *, seconds: float = 0.0, **fields: Any) -> dict[str, Any]:
        """One request and its reply; `seconds` is what it takes by its own nature.

        Raises ShimLostError, or ProcessError when the shim finds the request wrong.
        """
        await self.unless_detached()
        if self.gone or not self._running:
            raise ShimLostError("the shim is gone")
        self._request += 1
        number = self._request
        future: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._replies[number] = future
        self._link.send_object(shim.REQUEST, {"id": number, "verb": verb, **fields})
        try:
            await self._answered(future, seconds + REQUEST_SECONDS, urgent=verb == "stop")
            await self.unless_detached()
            reply = future.result()
        finally:
            del self._replies[number]
        if "error" in reply:
            raise ProcessError(f"{verb}: {reply['error']}")
        return reply

    async def _answered(
        self, future: asyncio.Future[dict[str, Any]], seconds: float, *, urgent: bool
    ) -> None:
        """Until the reply is there. A shim that can't be brought to answer is killed."""
        begun = self._ping()
        revived: float | None = None
        while not future.done():
            left = begun + seconds - self._loop.time()
            await asyncio.wait([future], timeout=min(PING_SECONDS, max(left, 0.0)))
            if future.done() or self.gone:
                # When it is gone, the future is done after the sweep, whatever time that takes.
                await asyncio.wait([future])
                return
            now = self._loop.time()
            # Not since something was heard: were we the ones who stood still, nothing was asked.
            silent = 0.0 if self._unanswered is None else now - self._unanswered
            if silent >= SILENT_SECONDS and revived is None:
                revived = now
                self._revive()
            deaf = revived is not None and now - revived >= DEAF_SECONDS - SILENT_SECONDS
            working = shim.state_of(self.pid) in ("R", "D")
            if left <= 0 or (urgent and deaf and silent >= DEAF_SECONDS and not working):
                # A shim that doesn't answer holds nothing together; its death starts the sweep.
                log.error("shim %d does not answer; it is killed", self.pid)
                self._deaths[-1].signal(signal.SIGKILL)
                raise ShimLostError("the shim did not answer")
            self._ping()

    def _ping(self) -> float:
        """Ask it whether it is alive; the time of that."""
        now = self._loop.time()
        self._link.send(shim.PING)
        if self._unanswered is None:
            self._unanswered = now
        return now

    def _revive(self) -> None:
        """Whoever stopped it, by whatever signal: it goes on."""
        log.warning("a shim does not answer; it is continued, should it have been stopped")
        for death in self._deaths:
            death.signal(signal.SIGCONT)

    async def unless_detached(self) -> None:
        """Waits for ever once the shim was let go: there is nothing to tell of it any more."""
        if self._detached:
            await self._loop.create_future()

    # Loss and end.

    @property
    def gone(self) -> bool:
        return self._disconnected.done()

    def _lost(self) -> None:
        """The connection has ended: asked for by `end`, or the shim is dying or dead."""
        _resolve(self._disconnected, None)
        problem = ShimFailedError(f"the shim died: {_last_line(self._directory / LOG_FILE)}")
        _fail(self._greeting, problem)
        _fail(self._started, problem)
        if self._detached:
            return
        if self._replaced:
            # Its processes are another's business now.
            log.error("shim %d has been taken over by another host process", self.pid)
            self._running = False
            for death in self._deaths:
                death.release()
            self._deaths.clear()
            for future in self._replies.values():
                _fail(future, ShimLostError("the shim was taken over"))
            self._on_end()
        elif self._running:
            log.error("shim %d is lost; sweeping %s", self.pid, self._directory)
            self._recovery = self._loop.run_in_executor(None, sweep, self._directory)
            self._recovery.add_done_callback(self._recovered)
        else:
            # Asked while another ended the shim; nobody is there to answer.
            for future in self._replies.values():
                _fail(future, ShimLostError("the shim has ended"))

    def _recovered(self, recovery: asyncio.Future[SweepReport]) -> None:
        if not recovery.cancelled() and (error := recovery.exception()) is not None:
            log.error("the sweep after a lost shim failed", exc_info=error)
        for future in self._replies.values():
            _fail(future, ShimLostError("the shim died"))
        self._on_end()

    async def swept(self) -> SweepReport | None:
        """After the loss of the shim: what the sweep found. None when it ended as it was told."""
        await self._disconnected
        return None if self._recovery is None else await asyncio.shield(self._recovery)

    def detach(self) -> None:
        """Close the connection and nothing else. Whoever waits goes on waiting."""
        self._detached = True
        self._running = False
        self._let_go()

    async def end(self) -> None:
        """Let the shim kill what is left and end; see to it that it does."""
        self._running = False
        await self._see_dead(END_SECONDS)

    async def _see_dead(self, seconds: float) -> None:
        """A shim that was told to ends. One that doesn't is killed; its rest swept."""
        if self._link.connected:
            # Also where it would outlive the connection.
            self._link.send(shim.RELEASE)
            self._link.close()
            await self._unlinked(seconds)
        if self._replaced:
            return
        if self._birth is not None:
            hung = not await self._birth.wait(seconds)
            if hung:
                for death in self._deaths:
                    death.signal(signal.SIGKILL)
        # The shim before its guardian.
        for death in reversed(self._deaths):
            if await death.wait(SILENT_SECONDS):
                continue
            death.signal(signal.SIGCONT)
            if not await death.wait(seconds):
                death.signal(signal.SIGKILL)
                await death.wait(seconds)
        if self._recovery is not None:
            await asyncio.wait([self._recovery])
        # A shim that has ended well has removed its state.
        if self._deaths and read_state(self._directory) is not None:
            report = await asyncio.to_thread(sweep, self._directory)
            log.error("shim did not end well; the sweep killed %d", len(report.killed))

    async def _unlinked(self, seconds: float) -> None:
        """Until the closed connection is gone. What a shim doesn't read would keep it for ever."""
        if (await asyncio.wait([self._disconnected], timeout=SILENT_SECONDS))[0]:
            return
        self._revive()
        if not (await asyncio.wait([self._disconnected], timeout=seconds))[0]:
            self._link.abort()
            await asyncio.wait([self._disconnected])


def _prepare(state_directory: Path) -> bool:
    """Make the state directory; refuse while a shim of an earlier run is alive in it. Returns
    whether one that is dead has left its state."""
    try:
        state_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        state_directory.chmod(0o700)
    except OSError as error:
        raise ShimFailedError(f"state directory: {error.strerror}") from error
    state = read_state(state_directory)
    if state is not None and shim_alive(state):
        raise SessionBusyError(f"shim {state['pid']} of run {state['run']} is alive")
    try:
        # What an earlier agent was given is not this one's.
        (state_directory / shim.INPUT_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise ShimFailedError(f"state directory: {error.strerror}") from error
    return state is not None


async def _sweep_earlier(state_directory: Path) -> None:
    """End what an earlier shim left here; refuse where it can't be: the state file of a new shim
    takes the place of the one by which that is found."""
    report = await asyncio.to_thread(sweep, state_directory)
    if report.remaining:
        raise SessionBusyError(f"{report.remaining} processes of run {report.run} can't be killed")


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


async def _soon(future: asyncio.Future[T], seconds: float, problem: str) -> T:
    await asyncio.wait([future], timeout=seconds)
    if not future.done():
        raise ShimFailedError(f"{problem} within {seconds:g} s")
    return future.result()


def _resolve(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # seen, should nobody wait for it


def _refusal(refused: dict[str, Any]) -> SpawnError:
    kinds: dict[str, type[SpawnError]] = {
        "directory": DirectoryMissingError,
        "execute": NotExecutableError,
        "held": HeldError,
    }
    return kinds.get(refused["stage"], ShimFailedError)(refused["text"])


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text("utf-8", "replace").strip().splitlines()
    except OSError:
        return "no reason known"
    return lines[-1] if lines else "no reason given"
