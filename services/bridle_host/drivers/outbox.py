"""What a driver has observed and the session actor has not taken yet: ordered, bounded.

Filled by a driver's own tasks, read by the session actor. A driver's orders (`send`, `interrupt` …)
never put anything in here themselves: the actor that gives them is also the one that makes room.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Self

from bridle_core.observations import Observation

#: Observations that wait at most. A tool's output is up to 64 KiB in each, so this is 2 MiB for a
#: session whose log cannot keep up; then the agent is no longer read and blocks on its pipes.
CAPACITY = 32


class Outbox:
    """Many writers, one reader. Iterating ends after `close` when everything was taken."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._waiting: deque[Observation] = deque()
        self._changed = asyncio.Event()
        self._closed = False

    async def put(self, observation: Observation) -> None:
        """Wait for room, then append. After `close` it goes nowhere."""
        while len(self._waiting) >= self._capacity and not self._closed:
            self._changed.clear()
            await self._changed.wait()
        if not self._closed:
            self._waiting.append(observation)
            self._changed.set()

    @property
    def full(self) -> bool:
        """Whether the reader is behind, so that a writer waits."""
        return len(self._waiting) >= self._capacity

    def close(self) -> None:
        """No more will come. Idempotent."""
        self._closed = True
        self._changed.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Observation:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        self._changed.set()
        return self._waiting.popleft()
