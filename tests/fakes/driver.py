"""A driver that a test plays: it sees what the test tells, and remembers what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from bridle_core.observations import (
    Capability,
    Content,
    Decision,
    Observation,
    ProcessGone,
    ProcessUp,
    StopReason,
    Text,
    TurnBegan,
    TurnOver,
)
from bridle_host.drivers.base import Driver, DriverContext, Installation, ResumeFrom

Call = tuple[object, ...]


class FakeDriver(Driver):
    """See the module. With `plays` it goes up and down, and begins turns, by itself."""

    def __init__(self, context: DriverContext, *, plays: bool) -> None:
        self.context = context
        self.plays = plays
        self.calls: list[Call] = []
        self._called = asyncio.Event()
        # Unbounded: a test tells what it tells.
        self._seen: asyncio.Queue[tuple[Observation, ...] | None] = asyncio.Queue()
        self._done = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails: set[str] = set()

    # --- for the test ---

    def tell(self, *observations: Observation) -> None:
        """See these next, each by itself."""
        for observation in observations:
            self._seen.put_nowait((observation,))

    def tell_group(self, *observations: Observation) -> None:
        """See these next, together."""
        self._seen.put_nowait(observations)

    def end(self) -> None:
        """No more to see."""
        self._seen.put_nowait(None)
        self._done.set()

    async def called(self, name: str, count: int = 1) -> Call:
        """Wait until it was called that often; the newest such call."""
        while len(found := [call for call in self.calls if call[0] == name]) < count:
            self._called.clear()
            await self._called.wait()
        return found[-1]

    # --- the driver ---

    async def run(self) -> None:
        if "run" in self.fails:
            raise RuntimeError("a fault of this driver")
        await self._done.wait()

    async def observations(self) -> AsyncIterator[Sequence[Observation]]:
        while (group := await self._seen.get()) is not None:
            if "observations" in self.fails:
                raise RuntimeError("a fault of this driver")
            yield group

    async def start(self, resume: ResumeFrom | None) -> None:
        await self._call("start", resume)
        if self.plays:
            self.tell(ProcessUp(4242))

    async def recover(self, state: bytes, resume: ResumeFrom | None) -> None:
        await self._call("recover", state, resume)

    async def read_on(self) -> None:
        await self._call("read_on")

    async def replace(self) -> None:
        await self._call("replace")

    async def send(self, turn: int, content: Sequence[Content]) -> None:
        await self._call("send", turn, "".join(p.text for p in content if isinstance(p, Text)))
        if self.plays:
            self.tell(TurnBegan(turn))

    async def steer(self, input_id: str, content: Sequence[Content]) -> None:
        await self._call("steer", input_id)

    async def interrupt(self, *, grace: float, include_background: bool) -> None:
        await self._call("interrupt", grace, include_background)
        if self.plays:
            self.tell(TurnOver(StopReason.INTERRUPTED))

    async def respond(self, approval_id: str, decision: Decision, message: str) -> None:
        await self._call("respond", approval_id, decision, message)

    async def stop(self, *, grace: float) -> None:
        await self._call("stop", grace)
        if self.plays:
            self.tell(ProcessGone(4242, exit_code=0))
            self.end()

    async def kill(self) -> None:
        await self._call("kill")
        if self.plays:
            self.tell(ProcessGone(4242, signal=9, killed=True))
            self.end()

    async def _call(self, *call: object) -> None:
        self.calls.append(call)
        self._called.set()
        if call[0] in self.fails:
            raise RuntimeError("a fault of this driver")
        if call[0] != "kill":
            await self.gate.wait()


class FakeFactory:
    """Makes fake drivers and keeps them."""

    name = "fake"

    def __init__(
        self,
        capabilities: frozenset[Capability] = frozenset(Capability) - {Capability.NATIVE_RESUME},
        *,
        plays: bool = True,
        made: Callable[[FakeDriver], None] = lambda driver: None,
    ) -> None:
        self.capabilities = capabilities
        self.installation = Installation(True, "1.0")
        self.plays = plays
        self.made = made
        self.drivers: list[FakeDriver] = []
        self._created = asyncio.Event()

    def probe(self) -> Installation:
        return self.installation

    def create(self, context: DriverContext) -> FakeDriver:
        if context.agent_command == "bad":
            raise ValueError("bad is no command line")
        driver = FakeDriver(context, plays=self.plays)
        self.made(driver)
        self.drivers.append(driver)
        self._created.set()
        return driver

    async def driver(self, count: int = 1) -> FakeDriver:
        """The newest, once there are so many."""
        while len(self.drivers) < count:
            self._created.clear()
            await self._created.wait()
        return self.drivers[-1]
