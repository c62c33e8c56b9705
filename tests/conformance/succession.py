"""One run of one driver that outlives its host, time and again: a host process of the least kind.

It couples the session machine with a driver as the real one does: groups are taken whole; what
follows from one is "durable" together with the machine's record and the group's checkpoint; only
then is the output acknowledged and are the calls made. `die` throws away everything but what is
durable, at a moment that the test chooses; `succeed` goes on from there with another machine and
another driver, and the same shim.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from enum import Enum
from pathlib import Path

from bridle_core.commands import Command, Deliver, RunSpec
from bridle_core.effects import (
    Answer,
    Call,
    Closed,
    Effect,
    Emit,
    InterruptTurn,
    Keep,
    KillAgent,
    ReadOn,
    RecoverAgent,
    ReplaceAgent,
    RespondApproval,
    SendTurn,
    StartAgent,
    SteerTurn,
    StopAgent,
    VerifyGone,
)
from bridle_core.observations import Checkpoint, Content, Observation, Text
from bridle_core.ordering import OrderChecker
from bridle_core.phases import InputMode, Phase
from bridle_core.session import RunRecord, Session
from bridle_host.drivers.base import Driver, DriverContext, DriverFactory
from bridle_host.process import ProcessSpec, ShimProcess, sweep
from tests.bridle_core.session_support import feed
from tests.support.driving import CONTAINMENT, PATIENCE


class Moment(Enum):
    """When a host dies, of a group that it has taken."""

    BEFORE_DURABLE = "before what follows from it is durable"
    BEFORE_CALLS = "before the calls that follow from it are made"
    AFTER_CALLS = "after them"


Trap = Callable[[Sequence[Observation]], bool]


class Succession:
    """See the module."""

    def __init__(self, factory: DriverFactory, directory: Path, command: str = "") -> None:
        self._factory = factory
        self._command = command
        self._tag = uuid.uuid4().hex
        self._environment = {**os.environ, "TEST_TAG": self._tag}
        self._state = directory / "state"
        self._directory = directory
        self._spec = RunSpec("start", factory.name, capabilities=factory.capabilities)
        self._contents: dict[str, tuple[Content, ...]] = {}
        # What is durable.
        self._record = ""
        self._checkpoint = Checkpoint(b"", 0)
        self.events: list[Emit] = []
        self.answers: list[Answer] = []
        self.kept = b""
        self._checker = OrderChecker()
        # One life of a host.
        self.machine = Session(self._spec)
        self._driver: Driver | None = None
        self.process: ShimProcess | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._groups: asyncio.Queue[Sequence[Observation]] = asyncio.Queue(4)
        self._commands: list[Command] = []
        #: What was not answered: it is handed to the next host.
        self._open: dict[str, Command] = {}
        self._wake = asyncio.Event()
        self._trap: tuple[Trap, Moment] | None = None
        self._trapped_spawn = False
        self.dead = asyncio.Event()
        self._changed = asyncio.Condition()
        self.lives = 0
        self._shims: list[int] = []
        self._inputs = 0

    # --- for the test ---

    async def begin(self) -> None:
        """The first host."""
        self._live(self.machine.open(self._now()))

    async def succeed(self) -> None:
        """The next host takes over."""
        assert self.dead.is_set()
        record = RunRecord.load(self._record)
        self.machine = Session.restore(self._spec, record, self._contents)
        self._commands = list(self._open.values())
        self._live(self.machine.recovered(self._now()))

    async def die(self) -> None:
        """Now. What was not durable is gone."""
        self.dead.set()
        if self.process is not None:
            self.process.detach()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        self._tasks.clear()
        self._commands.clear()
        self.process = None

    def trap(self, trap: Trap, moment: Moment) -> None:
        """Die at the first group of which this is true; `dead` is set then, and `die` completes."""
        self._trap = (trap, moment)

    def trap_spawn(self) -> None:
        """Die as soon as another agent is started: before its driver hears of it."""
        self._trapped_spawn = True

    async def gone(self, linger: float = 0.0) -> None:
        """Wait for the trap. linger: let the driver go on for so long, with nothing durable."""
        await self.until(self.dead.is_set)
        await asyncio.sleep(linger)
        await self.die()

    async def dies(self, linger: float = 0.0) -> None:
        """Wait for the trap, then let the next host take over."""
        await self.gone(linger)
        await self.succeed()

    async def dies_unless(self, over: Callable[[], bool]) -> bool:
        """The same, unless something comes first."""
        await self.until(lambda: self.dead.is_set() or over())
        if not self.dead.is_set():
            self._trap = None
            return False
        await self.die()
        await self.succeed()
        return True

    async def process_quiet(self) -> None:
        """While no host is there: wait until the agent has done what it does in its turn."""
        last = -1.0
        for _ in range(int(PATIENCE / 0.3)):
            await asyncio.sleep(0.3)
            used = self._cpu()
            if used == last:
                return
            last = used

    def _cpu(self) -> float:
        total = 0.0
        for pid in self.living(""):
            with suppress(OSError, IndexError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                total += int(fields[11]) + int(fields[12])
        return total

    async def sweep(self) -> None:
        """The shim is killed, if there is one, and all that it held."""
        await asyncio.to_thread(sweep, self._state / "process")

    def do(self, command: Command) -> None:
        """Take a command; it is done when it is answered. The next host is given it until then."""
        if isinstance(command, Deliver):
            self._contents[command.input_id] = command.content
        self._open[command.command_id] = command
        self._commands.append(command)
        self._wake.set()

    async def send(self, script: str, mode: InputMode = InputMode.QUEUE) -> str:
        """Deliver an input, and wait as `answered` does. Returns the input's id."""
        self._inputs += 1
        name = f"i{self._inputs}"
        self.do(Deliver("c" + name, name, (Text(script),), self._inputs, mode))
        await self.answered("c" + name)
        return name

    async def answered(self, command_id: str) -> None:
        """Wait for the first answer to a command; or for the host's death, over which it may have
        been lost: then it is the next one's to answer."""
        await self.until(lambda: command_id not in self._open or self.dead.is_set())

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something durable."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: condition() or self._failed() is not None)
        if (failed := self._failed()) is not None:
            raise failed

    async def event(self, kind: type, count: int = 1) -> Emit:
        """Wait for so many events of a kind; the newest of them."""
        await self.until(lambda: len(self.all(kind)) >= count)
        return self.all(kind)[count - 1]

    def all(self, kind: type) -> list[Emit]:
        return [emit for emit in self.events if isinstance(emit.event, kind)]

    def told(self) -> list[Observation]:
        """The events, as `words` reads them."""
        return [emit.event for emit in self.events]  # type: ignore[misc]

    def living(self, text: str) -> list[int]:
        """Pids of what was started here and has this in its command line."""
        entry = f"TEST_TAG={self._tag}".encode()
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                if entry not in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                    continue
                command = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ")
                if text.encode() in command:
                    found.append(int(name))
        return sorted(found)

    # --- one host ---

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _live(self, effects: list[Effect]) -> None:
        self.lives += 1
        self.dead.clear()
        self._wake = asyncio.Event()
        self._groups = asyncio.Queue(4)
        driver = self._driver = self._factory.create(self._context())
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(driver.run(), name="driver"),
            loop.create_task(self._pump(driver), name="pump"),
            loop.create_task(self._loop(driver, effects), name="loop"),
        ]

    def _context(self) -> DriverContext:
        return DriverContext(
            session_id="session",
            run=1,
            directory=str(self._directory),
            agent_command=self._command,
            environment=self._environment,
            state_directory=self._state,
            spawn=self._spawn,
            adopt=self._adopt,
            locks=self._state / "locks",
        )

    async def _spawn(
        self,
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
            environment={**self._environment, **environment},
            session_id="session",
            run=1,
            state_directory=self._state / "process",
            control_pipes=control_pipes,
            holds=tuple(holds),
            on_host_lost="keep",
        )
        self.process = await ShimProcess.spawn(spec, CONTAINMENT)
        self._shims.append(self.process.shim_pid)
        with suppress(OSError):
            # Without a PID namespace there is a guardian between the shim and us.
            status = Path(f"/proc/{self.process.shim_pid}/stat").read_text()  # noqa: ASYNC240
            parent = int(status.rpartition(")")[2].split()[1])
            if parent != os.getpid():
                self._shims.append(parent)
        if self._trapped_spawn:
            self._trapped_spawn = False
            await self._fall()
            await asyncio.Event().wait()  # until `die`
        return self.process

    async def _adopt(self) -> ShimProcess:
        self.process = await ShimProcess.adopt(self._state / "process", CONTAINMENT)
        return self.process

    async def _pump(self, driver: Driver) -> None:
        async for group in driver.observations():
            await self._groups.put(group)
            self._wake.set()

    async def _loop(self, driver: Driver, effects: list[Effect]) -> None:
        if not await self._perform(driver, effects):
            return
        while not self.machine.closed and not self.dead.is_set():
            await self._wait()
            machine, now = self.machine, self._now()
            commands, self._commands = self._commands, []
            effects = [effect for command in commands for effect in machine.apply(command, now)]
            group: Sequence[Observation] = ()
            if not self._groups.empty():
                group = self._groups.get_nowait()
                effects += [e for one in group for e in machine.observe(one, now)]
                effects += machine.settle(now)
            if machine.deadline is not None and machine.deadline <= now:
                effects += machine.tick(now)
            if not await self._perform(driver, effects, group):
                return
        await self._notify()

    async def _wait(self) -> None:
        deadline = self.machine.deadline
        timeout = None if deadline is None else max(0.0, deadline - self._now())
        if self._groups.empty() and not self._commands:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._wake.wait()
        self._wake.clear()

    async def _perform(
        self, driver: Driver, effects: list[Effect], group: Sequence[Observation] = ()
    ) -> bool:
        """False when the host has died of it."""
        moment = None
        if self._trap is not None and group and self._trap[0](group):
            moment, self._trap = self._trap[1], None
        if moment is Moment.BEFORE_DURABLE:
            return await self._fall()
        for effect in effects:
            if isinstance(effect, Emit):
                feed(self._checker, effect)
                self.events.append(effect)
            elif isinstance(effect, Answer):
                self.answers.append(effect)
                self._open.pop(effect.command_id, None)
            elif isinstance(effect, Keep):
                self.kept = effect.state
        self._record = self.machine.record().dump()
        if group:
            last = group[-1]
            assert isinstance(last, Checkpoint)
            self._checkpoint = last
            if self.process is not None:
                self.process.acknowledge(last.acknowledge)
        await self._notify()
        if moment is Moment.BEFORE_CALLS:
            return await self._fall()
        for effect in effects:
            if isinstance(effect, Call):
                await self._call(driver, effect)
        if moment is Moment.AFTER_CALLS:
            return await self._fall()
        return True

    async def _fall(self) -> bool:
        """Dead: nothing is done any more."""
        self.dead.set()
        await self._notify()
        return False

    async def _call(self, driver: Driver, call: Call) -> None:
        match call:
            case StartAgent():
                await driver.start(None)
            case RecoverAgent():
                await driver.recover(self._checkpoint.state, None)
            case ReadOn():
                await driver.read_on()
            case ReplaceAgent():
                await driver.replace()
            case SendTurn(label, content):
                await driver.send(label, content)
            case SteerTurn(input_id, content):
                await driver.steer(input_id, content)
            case InterruptTurn(grace, background):
                await driver.interrupt(grace=grace, include_background=background)
            case RespondApproval(name, decision, message):
                await driver.respond(name, decision, message)
            case StopAgent(grace):
                await driver.stop(grace=grace)
            case KillAgent():
                await driver.kill()
            case VerifyGone():
                if self.process is not None:
                    await self.process.close()
                await self.sweep()
                effects = self.machine.gone(0, self._now())
                assert isinstance(effects[-1], Closed)
                await self._perform(driver, effects)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _failed(self) -> BaseException | None:
        for task in self._tasks:
            if task.done() and not task.cancelled() and task.exception() is not None:
                return task.exception()
        return None

    async def close(self) -> None:
        """The end of the test: the order of all events, over all seams."""
        if self._tasks:
            if not self.machine.closed and self.process is not None:
                await self.process.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
        for pid in self._shims:
            # All our hosts are this process, which is so the parent of shims that it let go of.
            with suppress(ChildProcessError):
                await asyncio.to_thread(os.waitpid, pid, 0)
        if self.machine.closed:
            self._checker.finish()
            assert self.machine.phase in (Phase.STOPPED, Phase.FAILED, Phase.KILLED)


@asynccontextmanager
async def succession(
    factory: DriverFactory, directory: Path, command: str = ""
) -> AsyncIterator[Succession]:
    """A run with its first host, which is up."""
    run = Succession(factory, directory, command)
    try:
        yield run
    finally:
        await run.close()
    assert run.living("") == []
