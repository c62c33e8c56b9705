"""Opening a store: its directory, its lock, its version, its connections.

A store is a directory of its own (0700): `bridle.sqlite3` (0600) with SQLite's -wal and -shm beside
it, and `lock`, which the process that has the store open holds locked. Everything that can be wrong
with it is a StoreOpenError of one line, and nothing was changed then. Called by SqliteStore alone.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bridle_control.store.api import (
    StoreExistsError,
    StoreForeignError,
    StoreFromFutureError,
    StoreInUseError,
    StoreMissingError,
    StoreOpenError,
)
from bridle_control.store.schema import APPLICATION_ID, MIGRATIONS, Migration
from bridle_control.store.sqlite_checkpoint import BUSY_MS, LOG_BYTES
from bridle_control.store.sqlite_restored import OPENING, note_opening

_log = logging.getLogger("bridle.control.store")

DATABASE = "bridle.sqlite3"
LOCK = "lock"
RESERVE = "reserve"
#: How long the tables are looked through at a start, in seconds.
EXAMINE = 0.7
_OURS = frozenset(
    {DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", f"{DATABASE}-journal", LOCK, OPENING, RESERVE}
)


@dataclass(slots=True)
class OpenStore:
    """A store that is open: the connection that writes, and the lock that is held."""

    writer: sqlite3.Connection
    lock: int
    database: Path
    store_id: str
    log_id: str

    def unlock(self) -> None:
        os.close(self.lock)

    def close(self) -> None:
        """Where nothing was begun with it."""
        self.writer.close()
        self.unlock()


def open_directory(
    directory: Path,
    *,
    create: bool,
    now: int,
    restored: bool = False,
    migrations: Sequence[Migration] = MIGRATIONS,
    connection_class: type[sqlite3.Connection] = sqlite3.Connection,
) -> OpenStore:
    """Opens the store in `directory`; with `create`, makes a new one there.

    `restored`: it was set back to an older state. Raises StoreOpenError, one kind for each thing
    that can be wrong.
    """
    database = directory / DATABASE
    try:
        _prepare(directory, create=create)
        lock = _lock(directory)
    except OSError as error:
        raise StoreOpenError(f"{directory}: {error.strerror}") from error
    try:
        # Looked at under the lock: two that make a store at once can't both find none.
        if create and database.exists() and database.stat().st_size:
            raise StoreExistsError(f"{directory}: there is a store already")
        if not create:
            _inspect(database, len(migrations))
        connection = _connect(database, connection_class)
        try:
            _migrate(connection, migrations, now)
            _compare_schema(connection, database, migrations)
            _examine(connection, database)
            note_opening(connection, database, restored=restored)
            ids = dict(connection.execute("SELECT key, value FROM meta").fetchall())
        except BaseException:
            connection.close()
            raise
        return OpenStore(connection, lock, database, ids["store_id"], ids["log_id"])
    except (sqlite3.Error, UnicodeDecodeError, KeyError) as error:
        # (The module tells of a damaged schema in text that is none, or stumbles over it itself.)
        os.close(lock)
        what = str(error).splitlines()[0] if isinstance(error, sqlite3.Error) else "its text"
        raise StoreForeignError(f"{database}: not a store, or damaged ({what})") from error
    except OSError as error:
        os.close(lock)
        raise StoreOpenError(f"{database}: {error.strerror}") from error
    except BaseException:
        os.close(lock)
        raise


def connect_reader(database: Path) -> sqlite3.Connection:
    """A connection that can't write, nor checkpoint."""
    connection = sqlite3.connect(
        f"{database.absolute().as_uri()}?mode=ro",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    return connection


def _prepare(directory: Path, *, create: bool) -> None:
    if not create:
        if not (directory / DATABASE).is_file():
            raise StoreMissingError(f"{directory}: no store there; make one by `init`")
        return
    if directory.is_dir():
        strangers = sorted(name for name in os.listdir(directory) if name not in _OURS)
        if strangers:
            raise StoreForeignError(f"{directory}: holds other files, such as {strangers[0]!r}")
    elif directory.exists():
        raise StoreForeignError(f"{directory}: not a directory")
    else:
        directory.mkdir(mode=0o700, parents=True)
    directory.chmod(0o700)


def _lock(directory: Path) -> int:
    lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise StoreInUseError(f"{directory}: another process has this store open") from None
    return lock


def _inspect(database: Path, newest: int) -> None:
    """Refuses what this version can't use, before anything may write to it."""
    # Without a log behind it the file is all there is; then SQLite need not make one to look at it.
    logged = database.with_name(f"{DATABASE}-wal").exists()
    uri = f"{database.absolute().as_uri()}?{'mode=ro' if logged else 'immutable=1'}"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID:
        raise StoreForeignError(f"{database}: not a store of Bridle")
    if version > newest:
        raise StoreFromFutureError(
            f"{database}: written by a newer version of Bridle (store version {version},"
            f" this one reads up to {newest}); nothing was changed"
        )


def _connect(database: Path, connection_class: type[sqlite3.Connection]) -> sqlite3.Connection:
    # Made here rather than by SQLite, so that it never is anybody else's to read. SQLite gives
    # -wal and -shm the mode of the database.
    os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    database.chmod(0o600)
    connection = sqlite3.connect(
        database,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=512,
        factory=connection_class,
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        # See `sqlite_checkpoint`.
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
        # What a statement puts aside must not fail for want of room in a place that is not ours.
        connection.execute("PRAGMA temp_store = MEMORY")
        # Another process may still be looking (a backup); it never writes.
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection, migrations: Sequence[Migration], now: int) -> None:
    """Brings the tables to the newest version, in one transaction."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version >= len(migrations):
        return
    connection.execute("BEGIN IMMEDIATE")
    for step in migrations[version:]:
        step(connection)
    if version == 0:
        _found(connection, now)
    connection.execute(f"PRAGMA user_version = {len(migrations)}")
    connection.execute("COMMIT")


def _compare_schema(
    connection: sqlite3.Connection, database: Path, migrations: Sequence[Migration]
) -> None:
    """The tables must be those of this version, to the letter. Raises StoreForeignError."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as model:
        for step in migrations:
            step(model)
        if _schema(model) != _schema(connection):
            raise StoreForeignError(f"{database}: damaged (its schema); restore a copy")


def _schema(connection: sqlite3.Connection) -> list[tuple[str, str, str, str]]:
    found: list[tuple[str, str, str, str]] = connection.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"
    ).fetchall()
    return found


def _examine(connection: sqlite3.Connection, database: Path) -> None:
    """Looks for damage in all tables but the events', whose checksums every read looks at.

    An index that lacks a row would let a request run twice. Raises StoreForeignError. Looks no
    longer than EXAMINE seconds: what a large store has beyond that is found when it is used.
    """
    names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    until = time.monotonic() + EXAMINE
    connection.set_progress_handler(lambda: time.monotonic() > until, 100_000)
    try:
        for (name,) in names:
            if name != "events":
                found = connection.execute(f"PRAGMA integrity_check('{name}')").fetchall()
                if found != [("ok",)]:
                    what = str(found[0][0]).splitlines()[-1]
                    raise StoreForeignError(f"{database}: damaged ({name}: {what}); restore a copy")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        _log.info("the store is too large to be looked through at the start")
    finally:
        connection.set_progress_handler(None, 0)


def _found(connection: sqlite3.Connection, now: int) -> None:
    """What every store has from its first moment."""
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.executemany(
        "INSERT INTO meta VALUES (?, ?)",
        [("store_id", secrets.token_hex(16)), ("log_id", secrets.token_hex(16))],
    )
    connection.execute("INSERT INTO workspaces VALUES ('default', ?)", (now,))
