"""What a driver has observed and the session actor has not taken yet: ordered, bounded, in groups.

A group is written to the journal whole or not at all, together with the Checkpoint that ends it;
one that ends without a Checkpoint consumed none of the agent's output.

Filled by a driver's own tasks, read by the session actor. A driver's orders (`send`, `interrupt` …)
never put anything in here themselves: the actor that gives them is also the one that makes room.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Self

from bridle_core.observations import Observation

#: Groups that wait at most. Each is made of one chunk of output, of up to 64 KiB, so this is 2 MiB
#: for a session whose log cannot keep up; then the agent is not read and blocks on its pipes.
CAPACITY = 32


class Outbox:
    """Many writers, one reader. Iterating ends after `close` when everything was taken."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._waiting: deque[tuple[Observation, ...]] = deque()
        self._changed = asyncio.Event()
        self._closed = False

    async def room(self) -> None:
        """Wait until there is room for a group, or nobody reads any more."""
        while self.full and not self._closed:
            self._changed.clear()
            await self._changed.wait()

    def add(self, *group: Observation) -> None:
        """Append these as one group, room or not. After `close` they go nowhere.

        Without waiting, because a group ends with where its driver stands after it: nothing may
        come between the two. Whoever reads an agent waits for room first; the few groups that
        come of orders are not worth a place in that line.
        """
        if not self._closed:
            self._waiting.append(group)
            self._changed.set()

    async def put(self, *group: Observation) -> None:
        """Wait for room, then append these as one group. After `close` they go nowhere."""
        await self.room()
        self.add(*group)

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

    async def __anext__(self) -> tuple[Observation, ...]:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        self._changed.set()
        return self._waiting.popleft()
