"""Control's store in memory: the real tables and transactions, without the writer's thread.

Commits in groups, as the real one does: what was handed in while a commit was under way stands in
the next one, each write in a savepoint. A commit takes a moment, and so does the way back to those
who wrote: control can die before the one, and between the two.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from bridle_control.store.api import Changes, Commit, ReadTx, Store, Tx
from bridle_control.store.schema import MIGRATIONS
from bridle_control.store.sqlite_base import ChangeSet
from bridle_control.store.sqlite_open import _migrate
from bridle_control.store.sqlite_tx import SqliteReadTx, SqliteTx

T = TypeVar("T")


@dataclass
class _Job:
    fn: Callable[[SqliteTx], Any]
    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None


class Disk:
    """What is on control's disk: outlives its processes."""

    def __init__(self, now: int) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.execute("PRAGMA foreign_keys = ON")
        _migrate(self.connection, MIGRATIONS, now)
        self.ids = dict(self.connection.execute("SELECT key, value FROM meta").fetchall())


class MemoryStore:
    """See `Store`. One for each process of control."""

    def __init__(
        self,
        disk: Disk,
        chance: random.Random,
        clock: Callable[[], int],
        committed: Callable[[Changes], None],
    ) -> None:
        """`committed` hears of each commit in the moment in which it is on the disk."""
        self._disk = disk
        self._chance = chance
        self._clock = clock
        self._committed = committed
        self._now = 0
        self._listeners: list[Callable[[Changes], None]] = []
        self._measures: list[Callable[[Commit], None]] = []
        self._waiting: deque[_Job] = deque()
        self._arrived = asyncio.Event()

    @property
    def log_id(self) -> str:
        return str(self._disk.ids["log_id"])

    @property
    def store_id(self) -> str:
        return str(self._disk.ids["store_id"])

    def listen(self, listener: Callable[[Changes], None]) -> None:
        self._listeners.append(listener)

    def measure(self, listener: Callable[[Commit], None]) -> None:
        self._measures.append(listener)

    async def write(
        self, fn: Callable[[Tx], T], *, urgent: bool = False, output: bool = False
    ) -> T:
        job = _Job(fn, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        self._arrived.set()
        result: T = await job.future
        return result

    async def read(self, fn: Callable[[ReadTx], T]) -> T:
        await asyncio.sleep(self._chance.random() * 0.002)
        return fn(SqliteReadTx(self._disk.connection, self._clock()))

    async def close(self) -> None:
        """Nothing to do: it is killed with its process."""

    async def run(self) -> None:
        """The writer; ends by being cancelled, which is control's death."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            await asyncio.sleep(self._chance.random() * 0.004)
            group, self._waiting = self._waiting, deque()
            changes = self._commit(group)
            # It is on the disk, and nobody has heard of it.
            await asyncio.sleep(self._chance.random() * 0.002)
            if changes is not None:
                for listener in self._listeners:
                    listener(changes)
            for measure in self._measures:
                measure(Commit(len(group), 0, 0.0))
            for job in group:
                if job.future.done():
                    continue
                if job.error is not None:
                    job.future.set_exception(job.error)
                else:
                    job.future.set_result(job.result)

    def _commit(self, group: deque[_Job]) -> Changes | None:
        execute, changes = self._disk.connection.execute, ChangeSet()
        execute("BEGIN IMMEDIATE")
        for job in group:
            if job.future.cancelled():
                continue
            execute("SAVEPOINT job")
            # As the real one does: within a process the times of commits never fall.
            self._now = max(self._now, self._clock())
            tx = SqliteTx(self._disk.connection, self._now)
            try:
                job.result = job.fn(tx)
                changes.add(tx.changes)
            except Exception as error:  # noqa: BLE001 - it belongs to the caller, who gets it
                job.error = error
                execute("ROLLBACK TO job")
            execute("RELEASE job")
        execute("COMMIT")
        frozen = changes.freeze()
        if frozen is not None:
            self._committed(frozen)
        return frozen


def _check(store: MemoryStore) -> Store:
    return store
