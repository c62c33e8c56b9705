"""The pool of connections that read, each on a thread of its own while it does.

Readers see what is committed and never hold up the writer (WAL). They can't write nor checkpoint.
Called by SqliteStore alone.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bridle_control.store.sqlite_errors import (
    Trouble,
    is_io_error,
    log_corrupt,
    shutting_down,
    trouble,
)
from bridle_control.store.sqlite_open import connect_reader
from bridle_control.store.sqlite_tx import SqliteReadTx

#: Reads under way at once. More would only take turns at Python's lock.
READERS = 4
#: How long a checkpoint that needs the readers gone waits for a read, in seconds.
LONGEST_READ = 1.0


class Readers:
    """Runs reads, each on one snapshot."""

    def __init__(self, database: Path, *, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._connections = [connect_reader(database) for _ in range(READERS)]
        # As many as there are threads: `get` never waits.
        self._idle: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        for connection in self._connections:
            self._idle.put(connection)
        # What waits for a thread is bounded by the callers: each of them waits for its own read.
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._closed = False
        # Reads that are under way, and whether new ones have to wait.
        self._active: set[sqlite3.Connection] = set()
        self._held_up = False
        self._gate = threading.Condition()

    async def read(self, fn: Callable[[SqliteReadTx], Any]) -> Any:
        """Runs `fn` on a snapshot; see `Store.read`."""
        if self._closed:
            raise shutting_down()
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, fn)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """No read is under way meanwhile, so that the log can begin anew.

        A read that takes too long is broken off, and begun again afterwards: its snapshot keeps all
        that was written since. (One that computes, without SQLite, is not waited for for ever.)
        Called on the writer's thread.
        """
        with self._gate:
            self._held_up = True
            if not self._gate.wait_for(lambda: not self._active, LONGEST_READ):
                for connection in self._active:
                    connection.interrupt()
                self._gate.wait_for(lambda: not self._active, LONGEST_READ)
        try:
            yield
        finally:
            with self._gate:
                self._held_up = False
                self._gate.notify_all()

    def _read(self, fn: Callable[[SqliteReadTx], Any]) -> Any:
        connection = self._idle.get()
        try:
            while True:
                try:
                    return self._attempt(connection, fn)
                except sqlite3.OperationalError as error:
                    if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_INTERRUPT:
                        raise
        except sqlite3.Error as error:
            # A file that can't be read is as lost to the reader as one that reads wrong; only what
            # the writer can't write ends the process.
            if trouble(error) is Trouble.CORRUPT or is_io_error(error):
                raise log_corrupt() from error
            raise
        except UnicodeDecodeError as error:
            raise log_corrupt() from error  # text is read as text by SQLite's module
        finally:
            self._idle.put(connection)

    def _attempt(self, connection: sqlite3.Connection, fn: Callable[[SqliteReadTx], Any]) -> Any:
        with self._gate:
            self._gate.wait_for(lambda: not self._held_up)
            self._active.add(connection)
        try:
            connection.execute("BEGIN")
            return fn(SqliteReadTx(connection, self._clock()))
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            with self._gate:
                self._active.discard(connection)
                if self._held_up:
                    self._gate.notify_all()

    async def close(self) -> None:
        """Waits for the reads that are under way; drops those that are not."""
        if self._closed:
            return
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)
        for connection in self._connections:
            connection.close()
