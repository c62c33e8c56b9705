"""What an error of SQLite means for those who called.

FULL: nothing of the group was written, the store goes on. CORRUPT: what is stored does not read
back. FATAL: what is on the disk is not known any more (a failed fsync can't be tried again: the
kernel may have dropped the pages). Called by the store's writer and readers.
"""

from __future__ import annotations

import sqlite3
from enum import Enum

from bridle_core.errors import BridleError, Reason


class Trouble(Enum):
    """How bad it is."""

    FULL = "full"
    CORRUPT = "corrupt"
    FATAL = "fatal"
    FAULT = "fault"  # of the statement: only its caller is concerned


_FATAL_CODES = frozenset(
    {
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_INTERNAL,
        sqlite3.SQLITE_PROTOCOL,
        # Only one connection writes, so these mean that somebody else does, lock or no lock.
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    }
)


_WRITE_FAILED = 778  # SQLITE_IOERR_WRITE
#: The readers' index (-shm) could not grow: no page of the log is concerned.
_INDEX_FULL = 4874  # SQLITE_IOERR_SHMSIZE (the module names neither)


def trouble(error: sqlite3.Error) -> Trouble:
    """Reads the primary code of an error; the extended one mostly tells where it happened."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        # Raised by the module itself: an OperationalError is text that is no UTF-8, which this
        # store never writes; anything else is a wrong call.
        return Trouble.CORRUPT if isinstance(error, sqlite3.OperationalError) else Trouble.FAULT
    full = code == _INDEX_FULL
    code &= 0xFF
    if full or code == sqlite3.SQLITE_FULL:
        return Trouble.FULL
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return Trouble.CORRUPT
    return Trouble.FATAL if code in _FATAL_CODES else Trouble.FAULT


def is_io_error(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_IOERR


def is_write_error(error: sqlite3.Error) -> bool:
    """Whether bytes were not taken; none that were are concerned."""
    return getattr(error, "sqlite_errorcode", 0) == _WRITE_FAILED


def store_full() -> BridleError:
    return BridleError(Reason.STORE_FULL, "the store has no room; free some on control's disk")


def log_corrupt(what: str = "the store does not read back as it was written") -> BridleError:
    return BridleError(Reason.LOG_CORRUPT, what)


def internal() -> BridleError:
    return BridleError(Reason.INTERNAL, "the store failed")


def shutting_down() -> BridleError:
    return BridleError(Reason.SHUTTING_DOWN, "the service is shutting down; call again")
