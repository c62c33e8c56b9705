"""Control in a simulation: its real links, commands and verbs, over a store in memory.

A process of control is a set of tasks; `kill` ends them between any two steps, and what was not
committed never was. The disk outlives it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

from bridle.v1 import principal_pb2
from bridle_control import caller as callers
from bridle_control.caller import Caller
from bridle_control.commands import Commands
from bridle_control.links.registry import Links
from bridle_control.links.service import HostLinkService
from bridle_control.session_service import SessionService
from bridle_control.store.api import Changes, HostRow
from bridle_control.watch.hub import Hub
from bridle_core.errors import BridleError
from bridle_core.rights import CredentialKind
from tests.robustness.simulation.network import Context, LinkDownError, Wire
from tests.robustness.simulation.store import Disk, MemoryStore
from tests.robustness.simulation.virtual import LoopClock

#: Nanoseconds since the epoch at which a simulation begins.
EPOCH = 1_800_000_000 * 10**9

ADMIN = Caller(
    CredentialKind.USER,
    "t1",
    principal_pb2.Principal(kind=principal_pb2.PRINCIPAL_KIND_USER, id="u1", name="user"),
    "",
    ("*",),
)


def agent_of(session_id: str, run: int) -> Caller:
    """The caller that a session's own token stands for."""
    principal = principal_pb2.Principal(
        kind=principal_pb2.PRINCIPAL_KIND_SESSION, id=session_id, name="agent"
    )
    rights = ("session.read", "session.start")
    return Caller(
        CredentialKind.SESSION,
        "t3",
        principal,
        "default",
        rights,
        session_id=session_id,
        run=run,
    )


class Control:
    """See the module. `listener` hears of each commit."""

    def __init__(self, chance: random.Random, listener: Callable[[Changes], None]) -> None:
        self._chance = chance
        self._listener = listener
        #: How far the machine's clock is off, in seconds.
        self.clock_off = 0.0
        self._begin = asyncio.get_running_loop().time()
        self.disk = Disk(self.wall())
        # In order, not as sets: who is ended first must not hang on where it lies in memory.
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._wires: dict[Wire, None] = {}
        self.latency = 0.005
        self.up = False

    def wall(self) -> int:
        """Nanoseconds since the epoch, as control's machine has them."""
        passed = asyncio.get_running_loop().time() - self._begin + self.clock_off
        return EPOCH + int(passed * 1e9)

    # --- its life ------------------------------------------------------------------------------

    def start(self) -> None:
        clock = LoopClock()
        self.store = store = MemoryStore(self.disk, self._chance, self.wall, self._listener)
        hub = Hub(store, clock=clock)
        self.links = Links(store, hub, clock=clock, wall_clock=self.wall)
        commands = Commands(store, self.links, clock=clock, wall_clock=self.wall)
        self.service: Any = SessionService(store, self.links, commands, hub, clock=clock)
        self.link_service: Any = HostLinkService(store, self.links)
        self.up = True
        for component in (store, self.links, commands, self.service):
            self._spawn(component.run())

    def kill(self) -> None:
        """Ends the process; nobody is told but by their broken connections."""
        self.up = False
        tasks, self._tasks = self._tasks, {}
        for task in tasks:
            task.cancel()
        for stream in list(self._wires):
            stream.cut()

    def _spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
        return task

    # --- for hosts -----------------------------------------------------------------------------

    async def enrol(self, name: str) -> str:
        """A host's row; its id."""
        host_id = f"host-{name}"
        await self.store.write(lambda tx: tx.insert_host(HostRow(host_id, "default", name, tx.now)))
        return host_id

    async def dial(self, host_id: str) -> Wire:
        """A new stream of a host. Raises LinkDownError when nobody answers."""
        await asyncio.sleep(self._chance.random() * 2 * self.latency)
        if not self.up:
            raise LinkDownError
        stream = Wire(self._chance, self.latency)
        self._wires[stream] = None
        self._spawn(self._serve(host_id, stream))
        return stream

    async def _serve(self, host_id: str, stream: Wire) -> None:
        principal = principal_pb2.Principal(kind=principal_pb2.PRINCIPAL_KIND_HOST, id=host_id)
        callers.set_current(
            Caller(CredentialKind.HOST, "t2", principal, "default", (), host_id=host_id)
        )
        error: BridleError | None = None
        try:
            await self.link_service.Connect(stream.requests(), Context(stream))
        except BridleError as raised:
            error = raised
        finally:
            self._wires.pop(stream, None)
            stream.end_by_control(error)

    # --- for callers ---------------------------------------------------------------------------

    async def call(
        self, verb: str, request: Any, remaining: float = 10.0, caller: Caller = ADMIN
    ) -> Any:
        """A call of SessionService. Raises BridleError; LinkDownError where control is down, or
        dies before it has answered."""
        await asyncio.sleep(self._chance.random() * 2 * self.latency)
        if not self.up:
            raise LinkDownError
        task = self._spawn(self._handle(verb, request, remaining, caller))
        await asyncio.wait({task})
        if task.cancelled():
            raise LinkDownError
        return task.result()

    async def _handle(self, verb: str, request: Any, remaining: float, caller: Caller) -> Any:
        callers.set_current(caller)
        return await getattr(self.service, verb)(request, Context(remaining=remaining))
