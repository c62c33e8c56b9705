"""Orders that a driver carries out beside its own work: each a task, none left at the end.

A call of the driver's interface must return at once, while what it asks for may take its grace. So
each call becomes an order. Used by the drivers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

Work = Coroutine[object, object, None]


class Orders:
    """See the module. The session actor gives a few at a time, so their number needs no bound."""

    def __init__(self) -> None:
        self._early: list[Work] = []
        self._group: asyncio.TaskGroup | None = None
        self._over = False
        self._tasks: set[asyncio.Task[None]] = set()

    def give(self, order: Work) -> None:
        """Carry it out, once `run` is on. When that is over, it comes too late and is dropped."""
        if self._over:
            order.close()
        elif self._group is None:
            self._early.append(order)
        else:
            task = self._group.create_task(order)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def run(self, work: Work) -> None:
        """Do the driver's own work; what is still being carried out at its end is cancelled.

        Raises an ExceptionGroup of what the work or an order raised.
        """
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                early, self._early = self._early, []
                for order in early:
                    self.give(order)
                await work
                self._over = True
                for task in self._tasks:
                    task.cancel()
        finally:
            self._over = True
            for never_begun in (work, *self._early):
                never_begun.close()
