"""A turn of an agent: how far it is, and how long an interrupt lets it live.

Used by `LineDriver` only.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from bridle_host.process import Mark


class Turn:
    """A turn from its being asked for to its TurnOver.

    number: None for one of the agent's own. name: among all turns of the run.
    """

    def __init__(self, number: int | None, mark: Mark, name: str) -> None:
        self.number = number
        self.name = name
        #: What was alive before it.
        self.mark = mark
        #: The agent has ended it; what it says from now on is of no turn.
        self.ended = asyncio.Event()
        #: It was told to be over, or an interrupt has done with it what it could.
        self.settled = asyncio.Event()
        self.interrupted = False
        #: When the agent's grace is over, on the loop's clock.
        self.deadline = 0.0
        self.background = False
        self._moved = asyncio.Event()

    def end(self) -> None:
        self.ended.set()
        self._moved.set()

    def interrupt(self, deadline: float, background: bool) -> None:
        """The first, or one that joins it and may shorten its grace."""
        self.deadline = min(self.deadline, deadline) if self.interrupted else deadline
        self.background |= background
        self.interrupted = True
        self._moved.set()

    async def ended_in_time(self) -> bool:
        """Wait for the agent to end it, until the deadline."""
        while not self.ended.is_set():
            left = self.deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return False
            self._moved.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._moved.wait()
        return True
