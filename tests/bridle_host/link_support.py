"""What the tests of the link share: a clock that is turned by hand, sessions that only listen."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle_host.dial import Control
from bridle_host.journal import Journal
from bridle_host.link import Link
from tests.bridle_host.journal_support import opened, until


class HandClock:
    """A clock that stands still until it is turned.

    Where `hurry` says so of the seconds, whoever wants to sleep for so long is through at once, and
    the time goes on by them: that is how the pauses between two streams are skipped.
    """

    def __init__(self) -> None:
        self.time = 1000.0
        self.hurry: Callable[[float], bool] = lambda _: False
        self.slept: list[float] = []
        self._numbers = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if self.hurry(seconds):
            self.time += seconds
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.time + seconds, next(self._numbers), future))
        await future

    @property
    def waiting(self) -> list[float]:
        """When the sleepers want to wake, seconds from now."""
        return [at - self.time for at, _, future in sorted(self._sleepers) if not future.done()]

    async def advance(self, seconds: float) -> None:
        """Turns the clock, waking who is due on the way, in order."""
        end = self.time + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                self.time = at
                future.set_result(None)
                for _ in range(5):
                    await asyncio.sleep(0)
        self.time = end


class ListeningSessions:
    """Sessions that keep what they are told."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.killed: list[tuple[str, int]] = []
        #: What was told of the place, in order.
        self.places: list[str] = []
        self.files: list[str] = []
        self.forgotten: list[str] = []
        self.live: list[host_pb.LiveSession] = []
        self.open = asyncio.Event()
        self.open.set()

    async def submit(self, command: host_pb.Command) -> None:
        await self.open.wait()
        self.told.append(command.command_id)

    def withdraw(self, command_id: str) -> None:
        self.told.append(("withdraw", command_id))

    def inventory(self) -> list[host_pb.LiveSession]:
        return list(self.live)

    def kept(self) -> list[str]:
        return list(self.files)

    async def forget(self, session_ids: Sequence[str]) -> None:
        self.forgotten += session_ids

    async def kill_stale(self, session_id: str, run: int) -> None:
        await self.open.wait()
        self.killed.append((session_id, run))

    def place_lost(self) -> None:
        self.places.append("lost")

    def place_held(self) -> None:
        self.places.append("held")

    def set_token(self, token: host_pb.SessionToken) -> None:
        self.told.append(("token", token.session_id))


class Bench:
    """A link with its journal, towards an address."""

    def __init__(
        self, journal: Journal, link: Link, sessions: ListeningSessions, clock: HandClock
    ) -> None:
        self.journal, self.link, self.sessions, self.clock = journal, link, sessions, clock
        self.task: asyncio.Task[str | None] | None = None

    async def ended(self) -> str | None:
        """Waits until the link has ended by itself."""
        assert self.task is not None
        return await self.task

    async def connected(self) -> None:
        await until(lambda: self.link.connected)


@asynccontextmanager
async def linked(
    directory: Path,
    address: str,
    *,
    clock: HandClock | None = None,
    credential: str = "brh_good",
    **options: Any,
) -> AsyncIterator[Bench]:
    """A link that runs. Without a clock of the test's, the pauses between streams are skipped."""
    sessions = ListeningSessions()
    by_hand = clock is not None
    clock = clock or HandClock()
    async with opened(directory, **options) as journal, asyncio.TaskGroup() as group:
        link = Link(
            control=Control(address),
            credential=credential,
            hello=host_pb.Hello(incarnation="incarnation-1", boot_id="boot", version="test"),
            journal=journal,
            sessions=sessions,
            runs=directory / "runs",
            clock=clock,
            chance=lambda: 0.5,
        )
        if not by_hand:
            clock.hurry = lambda _: not link.streaming
        bench = Bench(journal, link, sessions, clock)
        bench.task = group.create_task(link.run())
        try:
            yield bench
        finally:
            await link.end("the test is over")
