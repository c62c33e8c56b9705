"""The one thread that writes: group commit over the one connection that writes and checkpoints.

Why one: SQLite before 3.51.3 can lose a WAL reset when two connections write or checkpoint at the
same time, and a single writer needs no retries. Why groups: an fsync costs as much for one write as
for a hundred, so everything that was handed in while the last COMMIT was under way goes into the
next one, each write in a savepoint of its own. Nobody hears of a write before the COMMIT that
holds it is on the disk, not even that it was refused: a refusal may rest on an earlier write of its
group.

A group that finds the disk full is undone, and done again with what may use the reserve (see
`sqlite_room`); the others are refused. A failed fsync is never tried again: it ends the process.

Called by SqliteStore alone. What comes back goes to the event loop by `call_soon_threadsafe`.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from bridle_control import crash_points
from bridle_control.store.api import Changes, Commit, Urgency
from bridle_control.store.sqlite_base import ChangeSet
from bridle_control.store.sqlite_checkpoint import Checkpoints
from bridle_control.store.sqlite_errors import (
    Trouble,
    internal,
    is_write_error,
    log_corrupt,
    shutting_down,
    store_full,
    trouble,
)
from bridle_control.store.sqlite_room import Room
from bridle_control.store.sqlite_tx import SqliteTx
from bridle_core.errors import BridleError

T = TypeVar("T")

#: Writes handed in and not yet answered. Enough for every caller of a busy control to stand in one
#: group; beyond it callers wait in line, which is the back-pressure that hosts feel.
MAX_WAITING = 1024
#: A group ends at this many writes or this many bytes of events, so that its first caller doesn't
#: wait for an endless stream of others.
MAX_GROUP = 256
MAX_GROUP_BYTES = 4 * 1024 * 1024
#: How often a full disk is looked at while nothing is written, in seconds.
FULL_DELAY = 0.5


@dataclass(slots=True)
class Job:
    """One write on its way: what to run, and where its end is told."""

    fn: Callable[[SqliteTx], Any]
    future: asyncio.Future[Any]
    urgency: Urgency
    result: Any = None
    error: BaseException | None = None


@dataclass(slots=True)
class _Done:
    """A group that is committed."""

    changes: Changes | None
    commit: Commit


class _GroupFailedError(Exception):
    """The whole group is undone; `error` makes what each of its callers gets."""

    def __init__(self, error: Callable[[], BridleError], trouble: Trouble) -> None:
        super().__init__()
        self.error = error
        self.trouble = trouble


class Writer:
    """Takes writes, commits them in groups, answers them."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        clock: Callable[[], int],
        room: Room,
        checkpoints: Checkpoints,
        on_fatal: Callable[[str], None],
        on_changes: Callable[[Changes], None],
        on_commit: Callable[[Commit], None],
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._room = room
        self._checkpoints = checkpoints
        self._on_fatal = on_fatal
        self._on_changes = on_changes
        self._on_commit = on_commit
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(MAX_WAITING)
        # What came in this round of the loop, and is handed in at its end: the thread is woken once
        # for all of it, and it makes one group. Both are bounded by the slots: a job has one from
        # before it is put until it is answered.
        self._coming: list[Job] = []
        self._queue: queue.SimpleQueue[list[Job] | None] = queue.SimpleQueue()
        self._waiting: deque[Job] = deque()  # the writer's thread alone
        self._closed = False
        self._failed = False  # only the writer's thread sets it
        self._now = 0
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    # ---- on the event loop

    async def submit(self, fn: Callable[[SqliteTx], Any], urgency: Urgency) -> Any:
        """Runs `fn` in the next group; see `Store.write`."""
        await self._slots.acquire()
        if self._closed:
            self._slots.release()
            raise shutting_down()
        job = Job(fn, self._loop.create_future(), urgency)
        if not self._coming:
            self._loop.call_soon(self._hand_in)
        self._coming.append(job)
        return await job.future

    def _hand_in(self) -> None:
        if self._coming:
            self._queue.put(self._coming)
            self._coming = []

    async def close(self) -> None:
        """Lets what was handed in finish, then ends the thread and closes the connection."""
        if not self._closed:
            self._closed = True
            self._hand_in()
            self._queue.put(None)
        await self._ended.wait()
        self._thread.join()

    def _answer(self, group: list[Job], done: _Done | None) -> None:
        if done is not None:
            if done.changes is not None:
                self._on_changes(done.changes)
            self._on_commit(done.commit)
        for job in group:
            self._slots.release()
            if job.future.done():
                continue  # cancelled by its caller
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.result)

    # ---- on the writer's thread

    def _run(self) -> None:
        try:
            while (job := self._first()) is not None:
                group = [job]
                done = None if self._failed else self._or_die(partial(self._commit, group))
                if self._failed:
                    for each in group:
                        each.error = each.error or internal()
                self._tell(self._answer, group, done)
                if self._checkpoints.due and not self._failed:
                    self._or_die(self._checkpoint)
            if not self._failed:
                self._or_die(self._checkpoint)
        finally:
            self._connection.close()
            self._room.close()
            self._tell(self._ended.set)

    def _tell(self, callback: Callable[..., object], *args: Any) -> None:
        # A closed loop means that nobody is left who could be told.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *args)

    def _first(self) -> Job | None:
        """Waits for the next job, looking for room meanwhile where there is none; None: the end."""
        while not self._waiting:
            try:
                jobs = self._queue.get(timeout=FULL_DELAY if self._room.full else None)
            except queue.Empty:
                self._or_die(self._room.look)
                continue
            if jobs is None:
                return None
            self._waiting.extend(jobs)
        return self._waiting.popleft()

    def _or_die(self, what: Callable[[], T]) -> T | None:
        """Does it; whatever goes wrong on this thread unforeseen is the end of the process, since
        all who write would wait for it for ever."""
        try:
            return what()
        except Exception as error:  # noqa: BLE001 - nobody above could tell of it
            self._undo()
            self._die(f"the store's writer broke: {type(error).__name__}")
            return None

    def _die(self, reason: str) -> None:
        if not self._failed:
            self._failed = True
            self._on_fatal(reason)

    def _checkpoint(self) -> None:
        try:
            self._checkpoints.make()
        except sqlite3.Error as error:
            # What was committed is safe in the log, as long as it is not known to be ill: where
            # there is no room the log just grows, and a later checkpoint moves it.
            if self._trouble(error) is not Trouble.FULL:
                self._die(f"a checkpoint of the store failed: {error}")

    def _commit(self, group: list[Job]) -> _Done | None:
        """Runs the first job and all that wait behind it as one transaction."""
        began = time.perf_counter()
        self._room.look()
        while True:
            changes = ChangeSet()
            try:
                self._transaction(group, changes)
            except _GroupFailedError as failed:
                self._undo()
                # Without room it is done again, by those who may use a slice of the reserve.
                if failed.trouble is Trouble.FULL and self._room.give():
                    continue
                for job in group:
                    job.error = failed.error()
                if failed.trouble is Trouble.FATAL:
                    self._die("the store failed: what is on the disk is not known any more")
                return None
            self._checkpoints.wrote(len(group), changes.size)
            events = sum(len(appended.framed) for appended in changes.appended)
            took = time.perf_counter() - began
            return _Done(changes.freeze(), Commit(len(group), events, took))

    def _transaction(self, group: list[Job], changes: ChangeSet) -> None:
        self._execute("BEGIN IMMEDIATE")
        alone = True  # nothing is written yet
        done = 0
        while done < len(group) or self._joined(group, changes):
            job = group[done]
            done += 1
            job.result = job.error = None
            if job.future.cancelled():
                continue
            if self._room.admits(job.urgency):
                self._attempt(job, changes, alone=alone)
                alone = alone and job.error is not None
            else:
                job.error = store_full()
        crash_points.reached("store.before-commit")
        self._execute("COMMIT")
        crash_points.reached("store.after-commit")

    def _joined(self, group: list[Job], changes: ChangeSet) -> bool:
        """Whether another job came into this group; false when the group is complete."""
        if len(group) >= MAX_GROUP or changes.size >= MAX_GROUP_BYTES:
            return False
        if not self._waiting:
            try:
                jobs = self._queue.get_nowait()
            except queue.Empty:
                return False
            if jobs is None:
                self._queue.put(None)  # the end comes after this group
                return False
            self._waiting.extend(jobs)
        group.append(self._waiting.popleft())
        return True

    def _attempt(self, job: Job, changes: ChangeSet, *, alone: bool) -> None:
        """Runs one job so that it can be undone: in a savepoint, where something stands before it
        in the transaction. What it raises is its own, unless it is the disk's."""
        if not alone:
            self._execute("SAVEPOINT job")
        self._now = max(self._now, self._clock())
        tx = SqliteTx(self._connection, self._now)
        try:
            job.result = job.fn(tx)
        except sqlite3.Error as error:
            job.error = self._sort_out(error)
        except UnicodeDecodeError:
            job.error = log_corrupt()  # text is read as text by SQLite's module
        except Exception as error:  # noqa: BLE001 - it belongs to the caller, who gets it
            job.error = error
        if job.error is None:
            changes.add(tx.changes)
        elif alone:
            self._execute("ROLLBACK")
            self._execute("BEGIN IMMEDIATE")
        else:
            self._execute("ROLLBACK TO job")
        if not alone:
            self._execute("RELEASE job")

    def _sort_out(self, error: sqlite3.Error) -> Exception:
        """What the job's caller gets; raises where the whole group is concerned."""
        match self._trouble(error):
            case Trouble.FULL:
                raise _GroupFailedError(store_full, Trouble.FULL) from error
            case Trouble.FATAL:
                raise _GroupFailedError(internal, Trouble.FATAL) from error
            case Trouble.CORRUPT:
                return log_corrupt()  # what it read or changed; the others go on
            case Trouble.FAULT:
                return error

    def _execute(self, statement: str) -> None:
        try:
            self._connection.execute(statement)
        except sqlite3.Error as error:
            what = self._trouble(error)
            if what is Trouble.FAULT:
                what = Trouble.FATAL
            errors = {Trouble.FULL: store_full, Trouble.CORRUPT: log_corrupt}
            raise _GroupFailedError(errors.get(what, internal), what) from error

    def _trouble(self, error: sqlite3.Error) -> Trouble:
        if is_write_error(error) and self._room.exhausted():
            return Trouble.FULL
        return trouble(error)

    def _undo(self) -> None:
        try:
            # A full disk may have made SQLite roll back by itself.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._die("the store failed: a transaction could not be rolled back")
