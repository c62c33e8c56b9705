"""The transactions of the SQLite store, put together from its table groups.

A ReadTx and a Tx, as `api` names them; `_check` lets the type checker prove it.
"""

from __future__ import annotations

import sqlite3

from bridle_control.store.api import ReadTx, Tx
from bridle_control.store.sqlite_commands import CommandReads, CommandWrites
from bridle_control.store.sqlite_hosts import HostReads
from bridle_control.store.sqlite_identity import IdentityReads
from bridle_control.store.sqlite_log import LogReads
from bridle_control.store.sqlite_queue import QueueReads
from bridle_control.store.sqlite_sessions import SessionReads


class SqliteReadTx(CommandReads, QueueReads, LogReads, SessionReads, HostReads, IdentityReads):
    """A snapshot to read from."""


class SqliteTx(CommandWrites):
    """A transaction that reads and writes; each group of writes stands on the one before it."""


def _check(connection: sqlite3.Connection) -> tuple[ReadTx, Tx]:
    return SqliteReadTx(connection, 0), SqliteTx(connection, 0)
