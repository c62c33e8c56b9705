"""The thread that writes the journal: group commit, a full disk, a failed disk.

Takes changes and calls in the order in which the event loop submits them. Changes that stand in a
row go into one commit; a call (a read, a checkpoint of the caller's own) runs alone between
commits. Results go back to the loop together, one wake-up per commit.

A full disk is waited for: the ballast, a file that only holds a place, is given up, slice by slice,
and what met it is tried again until it succeeds; later the ballast is laid again. Any other failure
is the end: everything that waits, and all that comes after, gets JournalError, and `on_fatal` is
called.

Only `bridle_host.journal` uses it. It doesn't know what the changes mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from bridle_host.journal_file import Change, DiskFullError, JournalError, JournalFile

#: Changes in one commit, at most: one commit of small ones stays in the tens of milliseconds.
GROUP_CHANGES = 512
#: Bytes in one commit, at most (the last change may go beyond it); below the ballast's size, so
#: that a commit which met a full disk fits when the ballast is gone.
GROUP_BYTES = 2 * 1024 * 1024
#: Seconds after which trims are committed by themselves when no other change comes.
TRIM_DELAY = 1.0
#: Seconds between attempts on a full disk.
FULL_DELAY = 0.25
#: The ballast is given up in so many slices, none smaller than SLICE_BYTES; a commit that met a
#: full disk is tried again after each.
SLICES = 16
SLICE_BYTES = 256 * 1024

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Job:
    """One thing to do: a change, or a call of `call` with the file. `future` may be nobody's."""

    change: Change | None = None
    call: Callable[[JournalFile], Any] | None = None
    future: asyncio.Future[Any] | None = None
    #: A change that may wait for company.
    lazy: bool = False


class JournalWriter:
    """See the module."""

    def __init__(
        self, file: JournalFile, ballast: Path, ballast_bytes: int, on_fatal: Callable[[str], None]
    ) -> None:
        self._file = file
        self._ballast = ballast
        self._ballast_bytes = ballast_bytes
        self._on_fatal = on_fatal
        # Ended by close. Not bounded by itself: the journal admits no more than its cap and
        # reserve, and every other submitter waits for its job.
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: set[asyncio.Future[Any]] = set()
        self._failure: str | None = None
        self._closing = threading.Event()
        #: Told of each commit, on the thread, how many seconds it took.
        self.on_commit: Callable[[float], None] | None = None
        self._laid = 0  # bytes that the ballast holds
        self._disk_full = not self._lay_ballast()

    def start(
        self, committed: Callable[[Sequence[Change]], None], room: Callable[[], None]
    ) -> None:
        """Begins. Both functions are called on the event loop: `committed` after each commit,
        before its submitters go on; `room` when waiting for it has become worth another look."""
        self._committed = committed
        self._room = room
        self._thread.start()

    # --- on the event loop ---

    @property
    def disk_full(self) -> bool:
        """Whether the disk has no room for more than the reserve."""
        return self._disk_full

    def check(self) -> None:
        """Raises JournalError once the file has failed or was closed."""
        if self._failure is not None:
            raise JournalError(self._failure)

    async def submit(self, change: Change) -> None:
        """Returns when the change is durable."""
        await self._submit(_Job(change=change))

    def submit_lazily(self, change: Change) -> None:
        """Carries the change out with the next one, or soon; it may be lost in a crash."""
        self.check()
        self._loop = asyncio.get_running_loop()
        self._jobs.put(_Job(change=change, lazy=True))

    async def call(self, function: Callable[[JournalFile], T]) -> T:
        """Runs the function on the thread, after all that was submitted before."""
        result: T = await self._submit(_Job(call=function))
        return result

    def put(self, change: Change) -> asyncio.Future[None]:
        """Carries the change out after all that was submitted before; done when it is durable."""
        return self._put(_Job(change=change))

    async def _submit(self, job: _Job) -> Any:
        return await self._put(job)

    def _put(self, job: _Job) -> asyncio.Future[Any]:
        self.check()
        self._loop = asyncio.get_running_loop()
        job.future = self._loop.create_future()
        self._waiting.add(job.future)
        job.future.add_done_callback(self._waiting.discard)
        self._jobs.put(job)
        return job.future

    def close(self) -> None:
        """Carries out what was submitted, then closes the file. Blocks until the thread is gone.

        On a disk that stays full, what doesn't fit is refused.
        """
        self._closing.set()
        self._jobs.put(None)
        self._thread.join()
        self._failure = self._failure or "the journal is closed"

    # --- on the thread ---

    def _work(self) -> None:
        try:
            self._serve()
        except DiskFullError:
            self._failure = "no space is left on the disk"
            self._tell(self._refuse_all)
        except Exception as error:  # noqa: BLE001 - whatever it was, nothing may be written after it
            # Before the file is closed: SQLite would sync once more what couldn't be synced.
            self._fail(error)
        finally:
            self._file.close()

    def _serve(self) -> None:
        group: list[_Job] = []
        ended = False
        while not ended:
            call, ended = self._gather(group)
            if group:
                self._commit(group)
                group = []
            if call is not None and call.call is not None:
                result = self._until_there_is_room(partial(call.call, self._file))
                self._answer([call], [], result)
            if self._file.wants_checkpoint() or ended:
                self._checkpoint()
            if self._disk_full and not ended:
                self._make_room()
                self._set_disk_full(not self._lay_ballast())

    def _gather(self, group: list[_Job]) -> tuple[_Job | None, bool]:
        """Waits for work and fills the group; returns the call that stands after it, and whether
        it is the end."""
        size = 0
        while len(group) < GROUP_CHANGES and size < GROUP_BYTES:
            try:
                job = self._next(group)
            except queue.Empty:
                break
            if job is None:
                return None, True
            if job.change is None:
                return job, False
            group.append(job)
            size += job.change.size
        return None, False

    def _next(self, group: list[_Job]) -> _Job | None:
        """The next job; raises queue.Empty when the group had better go now."""
        if any(not job.lazy for job in group):
            return self._jobs.get_nowait()
        return self._jobs.get(timeout=TRIM_DELAY if group or self._disk_full else None)

    def _commit(self, group: list[_Job]) -> None:
        changes = [job.change for job in group if job.change is not None]
        begun = time.perf_counter()
        self._until_there_is_room(partial(self._file.commit, changes))
        if self.on_commit is not None:
            self.on_commit(time.perf_counter() - begun)
        self._answer(group, changes, None)

    def _checkpoint(self) -> None:
        try:
            self._file.checkpoint()
        except DiskFullError:
            # What was committed is safe in the write-ahead log; the next checkpoint moves it.
            self._set_disk_full(True)

    def _answer(self, jobs: Sequence[_Job], changes: Sequence[Change], result: Any) -> None:
        def on_the_loop() -> None:
            if changes:
                self._committed(changes)
            for job in jobs:
                if job.future is not None and not job.future.done():
                    job.future.set_result(result)

        self._tell(on_the_loop)

    def _tell(self, function: Callable[[], None]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            # Closed between the look and the call: then nobody waits any more.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(function)

    # --- a full disk ---

    def _until_there_is_room(self, function: Callable[[], T]) -> T:
        """Does it, again each time that a full disk had no room for it, and nothing was done."""
        while True:
            try:
                return function()
            except DiskFullError:
                if not self._make_room() and not self._give_ballast():
                    raise

    def _make_room(self) -> bool:
        """Whether it could let go of a write-ahead log that is worth it: most of what stands in
        there is acknowledged, so that the file hardly grows."""
        size = self._file.log_bytes
        if size < SLICE_BYTES:
            return False
        self._checkpoint()
        return self._file.log_bytes < size

    def _lay_ballast(self) -> bool:
        """Whether the ballast holds its place now; what it holds of it, it keeps."""
        if self._laid == self._ballast_bytes and self._ballast.exists():
            return True
        try:
            descriptor = os.open(self._ballast, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                if self._ballast_bytes:
                    os.posix_fallocate(descriptor, 0, self._ballast_bytes)
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self._shrink_ballast(self._laid)
            return False
        self._laid = self._ballast_bytes
        return True

    def _give_ballast(self) -> bool:
        """Makes room, or waits for it; False when the journal is closing and there is none."""
        self._set_disk_full(True)
        if self._laid:
            # Not all at once: others want to write to this disk, too.
            slice_bytes = max(self._ballast_bytes // SLICES, SLICE_BYTES)
            self._shrink_ballast(max(0, self._laid - slice_bytes))
            return True
        return not self._closing.wait(FULL_DELAY)

    def _shrink_ballast(self, size: int) -> None:
        self._laid = size
        if size:
            os.truncate(self._ballast, size)
        else:
            self._ballast.unlink(missing_ok=True)

    def _set_disk_full(self, full: bool) -> None:
        if full != self._disk_full:
            self._disk_full = full
            self._tell(self._room)

    # --- a failed disk ---

    def _fail(self, error: Exception) -> None:
        self._failure = f"the journal failed: {error}"
        self._on_fatal(self._failure)
        # Only where on_fatal returned, which it does in tests: let nobody wait for ever.
        self._tell(self._refuse_all)

    def _refuse_all(self) -> None:
        for future in list(self._waiting):
            if not future.done():
                future.set_exception(JournalError(self._failure))
        self._room()
