"""Checkpoints: from the write-ahead log into the file, where their errors are seen.

SQLite's own automatic checkpoints throw their errors away. An fsync that failed must never be tried
again (the kernel may have dropped the pages, and say yes the second time), so they are made here.
They come after a commit was answered: nobody waits for one.

A log begins anew only at a moment when no reader looks into it, and where many read all the time
there is none. So a log that has become long has the readers held up until it is moved whole. Used
by the store's writer, on its thread alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager

from bridle_control import crash_points

_PAGE = 4096
#: Written since the last checkpoint, in bytes, before the next one: roughly, since nothing hangs
#: on it. A start reads so much of a log at once.
CHECKPOINT_BYTES = 16 * 1024 * 1024
#: A log longer than this has the readers held up, in bytes. It is also what is left of its file.
LOG_BYTES = 64 * 1024 * 1024
#: Pages that a write changes beside its events: rows and their indexes.
_PAGES_OF_WRITE = 2
_PAGES_OF_COMMIT = 6
#: How long another process that looks (a backup) may hold up a write, in milliseconds.
BUSY_MS = 5000
#: The same of a checkpoint that holds up the readers.
_PATIENCE_MS = 100

#: Holds up new reads while it is entered, and waits for those that are under way.
Pause = Callable[[], AbstractContextManager[None]]


class Checkpoints:
    """See the module."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        pause: Pause,
        *,
        checkpoint_bytes: int = CHECKPOINT_BYTES,
        log_bytes: int = LOG_BYTES,
    ) -> None:
        self._connection = connection
        self._pause = pause
        self._every = checkpoint_bytes
        self._longest = log_bytes
        self._written = 0

    def wrote(self, writes: int, size: int) -> None:
        """A commit of so many writes went through, with so many bytes of events."""
        self._written += (_PAGES_OF_COMMIT + writes * _PAGES_OF_WRITE) * _PAGE + size * 5 // 4

    @property
    def due(self) -> bool:
        """Whether enough was written since the last one."""
        return self._written >= self._every

    def make(self) -> None:
        """Moves the log into the file. Raises sqlite3.Error."""
        self._written = 0
        crash_points.reached("store.before-checkpoint")
        pages = self._checkpoint("PASSIVE")
        crash_points.reached("store.in-checkpoint")
        if pages * _PAGE >= self._longest:
            self._connection.execute(f"PRAGMA busy_timeout = {_PATIENCE_MS}")
            try:
                with self._pause():
                    self._checkpoint("RESTART")
            finally:
                self._connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        crash_points.reached("store.after-checkpoint")

    def _checkpoint(self, how: str) -> int:
        """Returns how many pages the log has; -1 where it couldn't even be looked at."""
        rows = self._connection.execute(f"PRAGMA wal_checkpoint({how})").fetchall()
        return int(rows[0][1])
