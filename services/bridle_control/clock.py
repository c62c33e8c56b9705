"""The clock of control's long waits, so that tests can turn it.

Grace times, heartbeats and expiries take one; what merely measures or stamps uses the system's own.
A waiter says when it wants to be called; nothing here sleeps.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call that was asked for."""

    def cancel(self) -> None:
        """Don't call. Idempotent."""


class Clock(Protocol):
    """Monotonic seconds, and being called at one."""

    def now(self) -> float:
        """Seconds of a monotonic clock."""

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Calls on the event loop, once `now` is `when`."""


class SystemClock:
    """The machine's."""

    def now(self) -> float:
        """Seconds of a monotonic clock."""
        return time.monotonic()

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Calls on the running event loop."""
        return asyncio.get_running_loop().call_later(max(0.0, when - self.now()), callback)


async def wait(event: asyncio.Event, clock: Clock, until: float | None) -> bool:
    """Waits for the event, at most until a time. Whether it was set, and not the clock."""
    if until is None:
        await event.wait()
        return True
    if event.is_set():
        return True
    late = False

    def ring() -> None:
        nonlocal late
        late = not event.is_set()
        event.set()

    timer = clock.call_at(until, ring)
    try:
        await event.wait()
    finally:
        timer.cancel()
    if late:
        event.clear()
    return not late
