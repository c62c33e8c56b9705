"""The store on SQLite: one file, one thread that writes, a few that read.

Purpose: `Store` for one control process on one machine. See `api` for what it promises, and
`sqlite_writer` for how it commits. Opened by control's application and by its `init` command.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from bridle_control import crash_points
from bridle_control.store.api import (
    Changes,
    Commit,
    ReadTx,
    Store,
    StoreOpenError,
    Tx,
    Urgency,
)
from bridle_control.store.schema import MIGRATIONS, Migration
from bridle_control.store.sqlite_checkpoint import CHECKPOINT_BYTES, LOG_BYTES, Checkpoints
from bridle_control.store.sqlite_open import RESERVE, OpenStore, open_directory
from bridle_control.store.sqlite_readers import Readers
from bridle_control.store.sqlite_room import RESERVE_BYTES, Room
from bridle_control.store.sqlite_writer import Writer

_log = logging.getLogger("bridle.control.store")

T = TypeVar("T")


def die(reason: str) -> None:
    """Ends the process at once: after a failed fsync nothing that it would still say is certain."""
    print(f"level=critical event=store_failed reason={reason!r}", file=sys.stderr, flush=True)
    os._exit(1)


class SqliteStore:
    """See `Store`."""

    def __init__(
        self,
        opened: OpenStore,
        *,
        clock: Callable[[], int],
        room: Room,
        checkpoint_bytes: int,
        log_bytes: int,
        on_fatal: Callable[[str], None],
    ) -> None:
        self._opened = opened
        self._listeners: list[Callable[[Changes], None]] = []
        self._measures: list[Callable[[Commit], None]] = []
        self._closed = False
        self._readers = Readers(opened.database, clock=clock)
        self._writer = Writer(
            opened.writer,
            clock=clock,
            room=room,
            checkpoints=Checkpoints(
                opened.writer,
                self._readers.paused,
                checkpoint_bytes=checkpoint_bytes,
                log_bytes=log_bytes,
            ),
            on_fatal=on_fatal,
            on_changes=self._changed,
            on_commit=self._committed,
        )

    @classmethod
    async def open(
        cls,
        directory: Path,
        *,
        create: bool = False,
        restored: bool = False,
        clock: Callable[[], int] = time.time_ns,
        free_bytes: Callable[[], int] | None = None,
        reserve_bytes: int = RESERVE_BYTES,
        checkpoint_bytes: int = CHECKPOINT_BYTES,
        log_bytes: int = LOG_BYTES,
        on_fatal: Callable[[str], None] = die,
        migrations: Sequence[Migration] = MIGRATIONS,
        connection_class: type[sqlite3.Connection] = sqlite3.Connection,
    ) -> SqliteStore:
        """Opens the store in a directory of its own; with `create`, makes a new one.

        `restored`: it was set back to an older state, which is not always seen. `clock` gives
        nanoseconds since the epoch, `free_bytes` the room on the disk; `on_fatal` is called on the
        writer's thread when the disk failed, and must end the process. Raises StoreOpenError.
        Blocks for as long as SQLite takes to recover a log, and to look at the tables, so it is
        called before anything is served.
        """
        opened = open_directory(
            directory,
            create=create,
            now=clock(),
            restored=restored,
            migrations=migrations,
            connection_class=connection_class,
        )
        try:
            room = Room(directory / RESERVE, reserve_bytes=reserve_bytes, free_bytes=free_bytes)
        except OSError as error:
            opened.close()
            raise StoreOpenError(f"{directory / RESERVE}: {error.strerror}") from error
        return cls(
            opened,
            clock=clock,
            room=room,
            checkpoint_bytes=checkpoint_bytes,
            log_bytes=log_bytes,
            on_fatal=on_fatal,
        )

    @property
    def log_id(self) -> str:
        return self._opened.log_id

    @property
    def store_id(self) -> str:
        return self._opened.store_id

    def listen(self, listener: Callable[[Changes], None]) -> None:
        self._listeners.append(listener)

    def measure(self, listener: Callable[[Commit], None]) -> None:
        self._measures.append(listener)

    async def write(
        self, fn: Callable[[Tx], T], *, urgent: bool = False, output: bool = False
    ) -> T:
        urgency = Urgency.LAST if urgent else Urgency.ORDINARY
        result: T = await self._writer.submit(fn, Urgency.OUTPUT if output else urgency)
        return result

    async def read(self, fn: Callable[[ReadTx], T]) -> T:
        result: T = await self._readers.read(fn)
        return result

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        # Readers first: the last connection to close is the one that may checkpoint.
        await self._readers.close()
        await self._writer.close()
        self._opened.unlock()

    def _committed(self, commit: Commit) -> None:
        for measure in self._measures:
            try:
                measure(commit)
            except Exception:  # noqa: BLE001 - as below
                _log.exception("a measurement of the store failed")

    def _changed(self, changes: Changes) -> None:
        crash_points.reached("store.before-fan-out")
        for listener in self._listeners:
            try:
                listener(changes)
            except Exception:  # noqa: BLE001 - it is told of below
                # What it is told are hints. Were its fault let through, nobody who wrote in this
                # group would ever be answered.
                _log.exception("a listener of the store failed")


def _check(store: SqliteStore) -> Store:
    return store
