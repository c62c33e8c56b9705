"""Watchers for tests: they collect what a Watch says, and wait on conditions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from bridle.v1 import event_pb2, watch_pb2
from bridle_control.watch.hub import Hub, Target


class Watcher:
    """One Watch that is read as fast as it comes, unless `pause`d. Holds all that it was told."""

    def __init__(self, stream: AsyncGenerator[bytes, None]) -> None:
        self._stream = stream
        self._news = asyncio.Condition()
        self._open = asyncio.Event()
        self._open.set()
        self.said: list[watch_pb2.WatchResponse] = []
        self.error: BaseException | None = None
        self.done = False

    async def run(self) -> None:
        try:
            await self._open.wait()
            async for message in self._stream:
                self.said.append(watch_pb2.WatchResponse.FromString(message))
                await self._tell()
                await self._open.wait()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.error = error
        finally:
            await self._stream.aclose()
        self.done = True
        await self._tell()

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    def pause(self) -> None:
        self._open.clear()

    def go_on(self) -> None:
        self._open.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until what was said meets the condition; fails after 30 s."""
        async with asyncio.timeout(30), self._news:
            await self._news.wait_for(condition)

    async def until_events(self, count: int) -> None:
        # (In their batches: to list many thousands anew at each message takes long.)
        await self.until(lambda: sum(len(each.events.events) for each in self.said) >= count)

    async def ended(self) -> BaseException | None:
        """Waits for the end; returns the error, None for an OK."""
        await self.until(lambda: self.done)
        return self.error

    @property
    def events(self) -> list[event_pb2.Event]:
        return [event for each in self.said for event in each.events.events]

    @property
    def sequences(self) -> list[int]:
        return [event.sequence for event in self.events]

    @property
    def texts(self) -> list[str]:
        return [event.tool_call_output.text for event in self.events]

    @property
    def progress(self) -> list[watch_pb2.Progress]:
        return [each.progress for each in self.said if each.HasField("progress")]

    @property
    def live(self) -> list[watch_pb2.LiveText]:
        return [each.live_text for each in self.said if each.HasField("live_text")]


@asynccontextmanager
async def reading(stream: AsyncGenerator[bytes, None]) -> AsyncIterator[Watcher]:
    """Reads a stream of WatchResponses in the background; closes it at the end."""
    watcher = Watcher(stream)
    task = asyncio.get_running_loop().create_task(watcher.run())
    try:
        yield watcher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def watching(
    hub: Hub, *targets: Target | str, principal_key: str = "user:t1", **wish: Any
) -> AsyncIterator[Watcher]:
    """Watches targets (a session's id: from 0) and waits until each has begun."""
    wanted: Sequence[Target] = [Target(each) if isinstance(each, str) else each for each in targets]
    stream = hub.watch(wanted, principal_key=principal_key, **wish)
    async with reading(stream) as watcher:
        await watcher.until(lambda: watcher.done or len(watcher.said) >= len(wanted))
        yield watcher
