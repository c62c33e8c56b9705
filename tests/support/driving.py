"""A driver under a test's hand: started, given orders, and everything that it observes kept."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

from bridle_core.observations import (
    Checkpoint,
    Content,
    KeepState,
    Note,
    NoteKind,
    Observation,
    OutputStream,
    ProcessGone,
    ProcessUp,
    StartFailed,
    Text,
    ToolOutput,
    TurnBegan,
    TurnOver,
)
from bridle_core.transcript import Transcript
from bridle_host.containment import Containment, detect
from bridle_host.drivers.base import Driver, DriverContext, DriverFactory, ResumeFrom
from bridle_host.process import ProcessSpec, ShimProcess

#: Whatever is waited for comes in milliseconds; a loaded machine takes longer.
PATIENCE = 30.0

CONTAINMENT = detect()

#: What whoever obeys is given to end: no machine stands still for so long.
GRACE = 30.0

#: Bytes of a checkpoint's state.
STATE = 64 * 1024

Seen = TypeVar("Seen", bound=Observation)


class Drive:
    """One run of one driver."""

    def __init__(self, driver: Driver, tag: str, directory: Path) -> None:
        self.driver = driver
        self.tag = tag
        self.directory = directory
        self.seen: list[Observation] = []
        #: When each was seen, monotonic seconds.
        self.times: list[float] = []
        self.ended = False
        self.spawned: list[ShimProcess] = []
        #: The driver's own work.
        self.running: asyncio.Task[None]
        #: Of the last group that was seen.
        self.checkpoint = Checkpoint(b"", 0)
        self._reading = asyncio.Event()
        self._reading.set()
        self._turns = 0
        self._changed = asyncio.Condition()

    async def collect(self) -> None:
        async for group in self.driver.observations():
            await self._reading.wait()
            *told, last = group
            assert isinstance(last, Checkpoint), f"no checkpoint ends {group}"
            assert len(last.state) <= STATE
            assert not any(isinstance(one, Checkpoint) for one in told)
            async with self._changed:
                self.seen.extend(told)
                self.times.extend(time.monotonic() for _ in told)
                self.checkpoint = last
                self._changed.notify_all()
            if any(isinstance(one, ProcessGone) and one.killed for one in told):
                await self.driver.replace()
        async with self._changed:
            self.ended = True
            self._changed.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition on what was seen."""
        async with asyncio.timeout(PATIENCE):
            async with self._changed:
                await self._changed.wait_for(condition)

    async def wait(self, kind: type[Seen], after: int = 0) -> Seen:
        """The first observation of a kind from an index on."""

        place = after

        def found() -> bool:
            # Each is looked at once: a flood has very many.
            nonlocal place
            while place < len(self.seen) and not isinstance(self.seen[place], kind):
                place += 1
            return place < len(self.seen)

        await self.until(lambda: found() or self.ended)
        assert found(), f"ended without {kind.__name__}: {self.seen[-8:]}"
        seen = self.seen[place]
        assert isinstance(seen, kind)
        return seen

    @asynccontextmanager
    async def reading_paused(self) -> AsyncIterator[None]:
        """Take nothing from the driver meanwhile."""
        self._reading.clear()
        try:
            yield
        finally:
            self._reading.set()

    async def until_late(self, seconds: float) -> None:
        """Let a stretch of time pass, which is what a test of moments varies."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.Event().wait()

    # Orders.

    async def start(self, resume: ResumeFrom | None = None) -> ProcessUp:
        await self.driver.start(resume)
        await self.until(lambda: bool(self.all(ProcessUp) or self.all(StartFailed)))
        assert not self.all(StartFailed), self.all(StartFailed)
        return self.all(ProcessUp)[0]

    async def begin(self, *content: Content | str) -> int:
        """Send an input and wait until its turn has begun. Returns the index after TurnBegan."""
        self._turns += 1
        after = len(self.seen)
        pieces = [Text(piece) if isinstance(piece, str) else piece for piece in content]
        await self.driver.send(self._turns, pieces)
        began = await self.wait(TurnBegan, after)
        assert began.turn == self._turns
        return self.seen.index(began, after) + 1

    async def over(self, after: int) -> TurnOver:
        return await self.wait(TurnOver, after)

    async def turn(self, *content: Content | str) -> TurnOver:
        """Run a whole turn."""
        return await self.over(await self.begin(*content))

    async def interrupt(
        self, after: int, *, grace: float = GRACE, include_background: bool = False
    ) -> TurnOver:
        await self.driver.interrupt(grace=grace, include_background=include_background)
        return await self.over(after)

    async def stop(self, grace: float = GRACE) -> ProcessGone:
        after = len(self.seen)
        await self.driver.stop(grace=grace)
        return await self.wait(ProcessGone, after)

    # What was seen.

    def all(self, kind: type[Seen]) -> list[Seen]:
        return [seen for seen in self.seen if isinstance(seen, kind)]

    def output(self, after: int = 0, stream: OutputStream | None = None) -> bytes:
        return b"".join(
            seen.data
            for seen in self.seen[after:]
            if isinstance(seen, ToolOutput) and stream in (None, seen.stream)
        )

    async def printed(self, needle: bytes, after: int = 0) -> None:
        await self.until(lambda: needle in self.output(after) or self.ended)
        assert needle in self.output(after), self.seen[-8:]

    def notes(self, kind: NoteKind) -> list[Note]:
        return [note for note in self.all(Note) if note.kind is kind]

    @property
    def kept(self) -> bytes:
        states = self.all(KeepState)
        return states[-1].state if states else b""

    # What lives.

    def living(self) -> dict[int, str]:
        """Pids and command lines of everything that was started here."""
        entry = f"TEST_TAG={self.tag}".encode()
        found = {}
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                environment = Path(f"/proc/{name}/environ").read_bytes()
                command = Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue
            if entry in environment.split(b"\0"):
                found[int(name)] = command.replace(b"\0", b" ").decode(errors="replace").strip()
        return found

    def commands(self, text: str) -> list[str]:
        return [command for command in self.living().values() if text in command]


async def eventually(condition: Callable[[], object]) -> None:
    """Wait for something of the outside world."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.005)


@asynccontextmanager
async def driving(
    factory: DriverFactory,
    directory: Path,
    *,
    agent_command: str = "",
    session: str = "session",
    state: Path | None = None,
    environment: Mapping[str, str] | None = None,
    containment: Containment = CONTAINMENT,
    transcript: Callable[[], Transcript] = Transcript,
) -> AsyncIterator[Drive]:
    """A driver whose `run` is on. At the end it is killed; nothing of it may be left."""
    tag = uuid.uuid4().hex
    base = {**os.environ, "TEST_TAG": tag, **(environment or {})}
    state_directory = state or directory / ".state" / session
    drive: Drive

    async def spawn(
        argv: Sequence[str],
        *,
        directory: str,
        environment: Mapping[str, str],
        control_pipes: int = 0,
        holds: Sequence[Path] = (),
    ) -> ShimProcess:
        spec = ProcessSpec(
            argv=tuple(argv),
            directory=directory,
            environment={**base, **environment},
            session_id=session,
            run=1,
            state_directory=state_directory,
            control_pipes=control_pipes,
            holds=tuple(holds),
        )
        process = await ShimProcess.spawn(spec, containment)
        drive.spawned.append(process)
        return process

    async def adopt() -> ShimProcess:
        process = await ShimProcess.adopt(state_directory, containment)
        drive.spawned.append(process)
        return process

    context = DriverContext(
        session_id=session,
        run=1,
        directory=str(directory),
        agent_command=agent_command,
        environment=base,
        state_directory=state_directory,
        spawn=spawn,
        adopt=adopt,
        locks=state_directory.parent / "locks",
        transcript=transcript,
    )
    drive = Drive(factory.create(context), tag, directory)
    async with asyncio.TaskGroup() as tasks:
        drive.running = running = tasks.create_task(drive.driver.run(), name="driver")
        tasks.create_task(drive.collect(), name="collect")
        try:
            yield drive
        finally:
            if not running.done():
                await drive.driver.kill()
                async with asyncio.timeout(PATIENCE):
                    await asyncio.wait([running])
            for process in drive.spawned:
                await process.close()
    assert drive.living() == {}
