"""The processes of a soak: one control, its hosts, a proxy before each, and what befalls them.

Everything is a real process, started by its program and talking over TCP through a proxy. `inflict`
does one planned fault and returns when its time is over and who was killed serves again. Everything
that is noticed and is not as it should be goes into `wrong`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
import uuid
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bridle import Client
from tests.pair import program
from tests.robustness.fault_proxy import Direction, FaultProxy
from tests.robustness.soak.plan import Fault, Planned, Shape
from tests.support.ports import held_port

#: In the environment of everything that a soak starts, and of all that those start.
MARK = "SOAK_MARK"
#: Seconds until a service must serve again, with everything else that goes on.
RESTART = 90.0
#: Seconds that a service has to end in order.
END = 60.0


@dataclass
class Service:
    """One of our services: its process, and whether its end is our doing."""

    name: str
    arguments: list[str]
    log: Path
    process: Process | None = None
    meant: bool = False
    #: One fault at a time befalls a process itself.
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    starts: int = 0

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid


@dataclass(frozen=True)
class Killed:
    """An agent or a shim that was killed by a fault."""

    session_id: str
    at: float


class World:
    """See the module. Made by `world`."""

    def __init__(self, shape: Shape, directory: Path, tasks: asyncio.TaskGroup) -> None:
        self.shape = shape
        self.directory = directory
        self.mark = uuid.uuid4().hex
        self.wrong: list[str] = []
        self.killed: list[Killed] = []
        self.done: Counter[str] = Counter()
        self.begin = time.monotonic()
        #: Control comes back to its port after its death; nobody else is given it meanwhile.
        self._port = held_port()
        self.address = f"127.0.0.1:{self._port.getsockname()[1]}"
        self.token = ""
        self.control = self._service("control")
        self.hosts: list[Service] = []
        self.host_proxies: list[FaultProxy] = []
        self.client_proxies: list[FaultProxy] = []
        #: Ids of the sessions that were started, for those who are to be killed.
        self.sessions: list[str] = []
        self._tasks = tasks
        self._serving: list[asyncio.Task[None]] = []
        self._log = (directory / "faults.log").open("a", buffering=1)

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.begin

    def work(self, slug: str) -> Path:
        """Where a session works, and its agent keeps its ledger."""
        return self.directory / "work" / slug

    def say(self, text: str) -> None:
        """A line for the log of faults."""
        self._log.write(f"{self.now:8.2f} {text}\n")

    def close(self) -> None:
        """Kills what is left of it, whatever it is."""
        for service in (self.control, *self.hosts):
            service.meant = True
        for pid in self.left_over():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for task in self._serving:
            task.cancel()
        self._port.close()
        self._log.close()

    def left_over(self) -> dict[int, str]:
        """The processes that came of this soak, with their commands: by its mark in their
        environment, or its directory in their command line."""
        mark, directory = f"{MARK}={self.mark}".encode(), f"{self.directory}/".encode()
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                command = (entry / "cmdline").read_bytes()
                if directory in command or mark in _environment(entry):
                    text = command.replace(b"\0", b" ").decode(errors="replace").strip()
                    found[int(entry.name)] = text[:200] or "?"
            except OSError:
                continue
        return found

    # --- bringing up ---------------------------------------------------------------------------

    def _service(self, name: str) -> Service:
        return Service(name, [], self.directory / f"{name}.log")

    async def init(self) -> None:
        """Makes the store and starts control and its hosts, each behind its proxy."""
        token = self.directory / "token"
        store = str(self.directory / "control")
        made = await asyncio.create_subprocess_exec(
            *(program("bridle-control"), "init", "--store", store, "--token-file", str(token)),
            stdin=DEVNULL,
        )
        if await made.wait() != 0:
            raise RuntimeError("the store can't be made")
        self.token = token.read_text("ascii").strip()
        self.control.arguments = ["--store", store, "--listen", self.address]
        await self.start(self.control)
        self.client_proxies = [self._proxy(1000 + number) for number in range(4)]
        # A few at a time: each start costs a second of a processor.
        at_once = asyncio.Semaphore(4)
        async with (
            Client(self.address, token=self.token) as client,
            asyncio.TaskGroup() as starts,
        ):
            for number in range(self.shape.hosts):
                starts.create_task(self._init_host(number, client, at_once))

    async def _init_host(self, number: int, client: Client, at_once: asyncio.Semaphore) -> None:
        name = f"h{number:02}"
        host, proxy = self._service(name), self._proxy(number)
        self.hosts.append(host)
        self.host_proxies.append(proxy)
        async with at_once:
            join = self.directory / f"{name}.join"
            join.write_text((await client.create_join_token()).join_token)
            state = str(self.directory / name)
            host.arguments = ["--control", proxy.address, "--state", state, "--name", name]
            host.arguments += ["--directory", str(self.directory / "work")]
            await self.start(host, "--join-token-file", str(join))

    def _proxy(self, number: int) -> FaultProxy:
        proxy = FaultProxy(self.address, self.shape.seed * 10_000 + number)
        self._serving.append(self._tasks.create_task(proxy.run(), name=f"proxy-{number}"))
        return proxy

    async def start(self, service: Service, *more: str) -> str:
        """Starts a service; returns its ready line."""
        which = "control" if service is self.control else "host"
        with service.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(program(f"bridle-{which}"), "serve", *service.arguments, *more),
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=log,
                env={**os.environ, MARK: self.mark},
                start_new_session=True,
            )
        service.process, service.meant = process, False
        service.starts += 1
        assert process.stdout is not None
        try:
            async with asyncio.timeout(RESTART):
                ready = (await process.stdout.readline()).decode().strip()
        except TimeoutError:
            raise RuntimeError(f"{service.name} is not ready after {RESTART:.0f} s") from None
        if not ready.startswith("ready "):
            raise RuntimeError(f"{service.name} did not start: {ready!r}, see {service.log}")
        self._tasks.create_task(self._watch(service, process), name=f"watch-{service.name}")
        return ready

    async def _watch(self, service: Service, process: Process) -> None:
        code = await process.wait()
        process._transport.close()  # type: ignore[attr-defined]
        if not service.meant:
            self.complain(f"{service.name} ended by itself with {code}")

    def complain(self, text: str) -> None:
        """Something is not as it should be."""
        self.say(f"WRONG {text}")
        self.wrong.append(text)

    async def end(self, service: Service, number: int) -> int:
        """Ends a service by a signal; its exit code."""
        process = service.process
        assert process is not None
        service.meant = True
        if process.returncode is None:
            process.send_signal(number)
        try:
            async with asyncio.timeout(END):
                return await process.wait()
        except TimeoutError:
            self.complain(f"{service.name} does not end after signal {number}")
            process.kill()
            return await process.wait()

    # --- faults --------------------------------------------------------------------------------

    async def inflict(self, planned: Planned) -> None:
        """One fault, from its beginning to its end."""
        self.say(f"begin {planned}")
        try:
            hit = await self._inflict(planned)
        except RuntimeError as error:
            self.complain(f"{planned}: {error}")
            return
        if hit:
            self.done[planned.fault] += 1
        self.say(f"{'end' if hit else 'nobody for'} {planned}")

    async def _inflict(self, planned: Planned) -> bool:
        fault = planned.fault
        host = planned.target % len(self.hosts)
        if fault in (Fault.CONTROL_KILL, Fault.HOST_KILL, Fault.HOST_DETACH):
            service = self.control if fault is Fault.CONTROL_KILL else self.hosts[host]
            number = signal.SIGTERM if fault is Fault.HOST_DETACH else signal.SIGKILL
            await self._restart(service, number, planned.chance)
        elif fault in (Fault.CONTROL_FREEZE, Fault.HOST_FREEZE):
            service = self.control if fault is Fault.CONTROL_FREEZE else self.hosts[host]
            await self._freeze(service, planned.seconds)
        elif fault in (Fault.AGENT_KILL, Fault.SHIM_KILL):
            return self._kill_process(planned)
        elif fault in (Fault.CLIENT_CUT, Fault.CLIENT_BLACKHOLE):
            proxy = self.client_proxies[planned.target % len(self.client_proxies)]
            await self._weather(proxy, planned)
        else:
            await self._weather(self.host_proxies[host], planned)
        return True

    async def _restart(self, service: Service, number: int, chance: float) -> None:
        async with service.lock:
            code = await self.end(service, number)
            if number == signal.SIGTERM and code != 0:
                self.complain(f"{service.name} ended with {code} after SIGTERM")
            await asyncio.sleep(chance * 2.0 if chance > 0.3 else 0.0)
            begin = self.now
            await self.start(service)
            self.say(f"{service.name} serves again after {self.now - begin:.2f} s")

    async def _freeze(self, service: Service, seconds: float) -> None:
        async with service.lock:
            os.kill(service.pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(seconds)
            finally:
                os.kill(service.pid, signal.SIGCONT)

    async def _weather(self, proxy: FaultProxy, planned: Planned) -> None:
        match planned.fault:
            case Fault.CUT | Fault.CLIENT_CUT:
                proxy.reset_now()
                return
            case Fault.RESET_AT:
                way = Direction.UP if planned.target % 2 else Direction.DOWN
                proxy.reset_at(int(planned.chance * 4000), way)
                return
            case Fault.BLACKHOLE | Fault.CLIENT_BLACKHOLE:
                proxy.stall()
            case Fault.LATENCY:
                proxy.latency(0.075, jitter=0.05)
            case Fault.SLICES:
                proxy.slicer(64, pause=0.0005)
        await asyncio.sleep(planned.seconds)
        proxy.heal()

    def _kill_process(self, planned: Planned) -> bool:
        """Kills the agent or the shim of the first session, from a drawn one on, that has one."""
        count = len(self.sessions)
        for step in range(count):
            session_id = self.sessions[(planned.target + step) % count]
            shims, agents = processes_of(session_id)
            pids = shims if planned.fault is Fault.SHIM_KILL else agents
            if shims and agents:
                self.killed.append(Killed(session_id, self.now))
                for pid in pids:
                    # (It may have ended by itself since it was seen.)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                self.say(f"killed {pids} of {session_id}")
                return True
        return False

    def heal(self) -> None:
        """Good weather everywhere."""
        for proxy in (*self.host_proxies, *self.client_proxies):
            proxy.heal()


def processes_of(session_id: str) -> tuple[list[int], list[int]]:
    """The pids of a session's shim and of its agent."""
    shims: list[int] = []
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            pid = int(entry.name)
            if f"--session={session_id}".encode() in words:
                shims.append(pid)
            elif f"BRIDLE_SESSION_ID={session_id}".encode() in _environment(entry):
                parents[pid] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    return sorted(shims), sorted(pid for pid, parent in parents.items() if parent in shims)


def _environment(entry: Path) -> list[bytes]:
    return (entry / "environ").read_bytes().split(b"\0")


@dataclass(frozen=True)
class Weight:
    """What a process holds at a moment: resident memory in MiB, open descriptors."""

    memory: float
    descriptors: int

    @classmethod
    def of(cls, pid: int) -> Weight:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return cls(int(line.split()[1]) / 1024, len(os.listdir(f"/proc/{pid}/fd")))
        raise ProcessLookupError(pid)


@asynccontextmanager
async def world(shape: Shape, directory: Path) -> AsyncIterator[World]:
    """Control and all hosts, up; all of them dead when the block is left."""
    async with asyncio.TaskGroup() as tasks:
        made = World(shape, directory, tasks)
        try:
            await made.init()
            yield made
        finally:
            made.close()
