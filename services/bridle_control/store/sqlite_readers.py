"""The pool of connections that read, each on a thread of its own while it does.

Readers see what is committed and never hold up the writer (WAL). They can't write nor checkpoint.
Called by SqliteStore alone.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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

    async def read(self, fn: Callable[[SqliteReadTx], Any]) -> Any:
        """Runs `fn` on a snapshot; see `Store.read`."""
        if self._closed:
            raise shutting_down()
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, fn)

    def _read(self, fn: Callable[[SqliteReadTx], Any]) -> Any:
        connection = self._idle.get()
        try:
            connection.execute("BEGIN")
            return fn(SqliteReadTx(connection, self._clock()))
        except sqlite3.Error as error:
            # A file that can't be read is as lost to the reader as one that reads wrong; only what
            # the writer can't write ends the process.
            if trouble(error) is Trouble.CORRUPT or is_io_error(error):
                raise log_corrupt() from error
            raise
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._idle.put(connection)

    async def close(self) -> None:
        """Waits for the reads that are under way; drops those that are not."""
        if self._closed:
            return
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)
        for connection in self._connections:
            connection.close()
