"""What all table groups of the SQLite store share: running statements, noting changes.

A read transaction and a write transaction are each one class put together from the table groups
(sqlite_identity, sqlite_hosts, sqlite_sessions, sqlite_log, sqlite_queue, sqlite_commands).
Nothing outside of the store calls it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bridle_control.store.api import Appended, Changes, CommandRow, StoreFaultError

Values = Sequence[str | bytes | int | None]


@dataclass(slots=True)
class ChangeSet:
    """What one write changed so far; see `Changes`."""

    appended: list[Appended] = field(default_factory=list)
    sessions: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)
    commands: dict[str, CommandRow] = field(default_factory=dict)
    commands_gone: set[str] = field(default_factory=set)
    tokens: set[str] = field(default_factory=set)
    size: int = 0  # bytes of events that came or went: for the bound of a group, and checkpoints

    def add(self, other: ChangeSet) -> None:
        self.appended += other.appended
        # A session may go and another one come within a group, but an id never comes again.
        self.sessions |= other.sessions
        self.deleted |= other.deleted
        self.hosts |= other.hosts
        self.commands.update(other.commands)
        self.commands_gone |= other.commands_gone
        self.tokens |= other.tokens
        self.size += other.size

    def freeze(self) -> Changes | None:
        """As listeners get it; None when nothing changed that anybody waits for."""
        parts = (self.sessions, self.deleted, self.hosts, self.commands, self.tokens)
        if not self.appended and not self.commands_gone and not any(parts):
            return None
        for command_id in self.commands_gone:
            self.commands.pop(command_id, None)
        return Changes(
            appended=tuple(self.appended),
            sessions=frozenset(self.sessions - self.deleted),
            deleted=frozenset(self.deleted),
            hosts=frozenset(self.hosts),
            commands=self.commands,
            commands_gone=frozenset(self.commands_gone),
            tokens=frozenset(self.tokens),
        )


class ReadBase:
    """A transaction that reads."""

    def __init__(self, connection: sqlite3.Connection, now: int) -> None:
        self._connection = connection
        self._now = now

    @property
    def now(self) -> int:
        return self._now

    def _one(self, statement: str, values: Values = ()) -> Any:
        """The first row as a tuple, or None."""
        return self._connection.execute(statement, values).fetchone()

    def _all(self, statement: str, values: Values = ()) -> list[Any]:
        return self._connection.execute(statement, values).fetchall()


class WriteBase(ReadBase):
    """A transaction that writes, too."""

    def __init__(self, connection: sqlite3.Connection, now: int) -> None:
        super().__init__(connection, now)
        self.changes = ChangeSet()

    def _run(self, statement: str, values: Values = ()) -> int:
        """Runs a statement; returns how many rows it touched."""
        return self._connection.execute(statement, values).rowcount

    def _insert(self, table: str, columns: Iterable[str], values: Values) -> int:
        """Inserts a row and returns its rowid."""
        names = tuple(columns)
        marks = ", ".join("?" * len(names))
        statement = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})"
        try:
            return self._connection.execute(statement, values).lastrowid or 0
        except sqlite3.IntegrityError as error:
            raise StoreFaultError(f"{table}: {error}") from error

    def _update(self, table: str, columns: Iterable[str], key: str, values: Values) -> None:
        """Sets columns of the row whose `key` is the last of `values`."""
        settings = ", ".join(f"{name} = ?" for name in columns)
        try:
            touched = self._run(f"UPDATE {table} SET {settings} WHERE {key} = ?", values)
        except sqlite3.IntegrityError as error:
            raise StoreFaultError(f"{table}: {error}") from error
        if touched != 1:
            raise StoreFaultError(f"{table}: no row with {key} = {values[-1]!r}")
