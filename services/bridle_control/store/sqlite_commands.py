"""Commands, in SQLite. See `api`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bridle_control.store.api import CommandRow, CommandState
from bridle_control.store.sqlite_base import ReadBase
from bridle_control.store.sqlite_queue import QueueWrites

_COLUMNS = (
    "command_id",
    "verb",
    "accept_time",
    "scope",
    "principal_key",
    "request_id",
    "request_hash",
    "principal",
    "session_id",
    "run",
    "host_id",
    "expire_time",
    "action",
    "state",
    "outcome",
    "error_metadata",
    "input_id",
    "sequence",
    "resource",
    "parent_command_id",
    "trace",
)
#: How long after its accept a command may still be what made a host do something, in ns: a stop is
#: in force for a day.
_ASKED_NS = 25 * 3600 * 10**9
_COMMANDS = f"SELECT {', '.join(_COLUMNS)}, position FROM commands"


def _command(row: Any) -> CommandRow:
    values = list(row)
    values[13] = CommandState(row[13])
    values[15] = json.loads(row[15])  # error_metadata
    return CommandRow(*values)


def _values(row: CommandRow) -> tuple[str | bytes | int, ...]:
    return (
        row.command_id,
        row.verb,
        row.accept_time,
        row.scope,
        row.principal_key,
        row.request_id,
        row.request_hash,
        row.principal,
        row.session_id,
        row.run,
        row.host_id,
        row.expire_time,
        row.action,
        row.state,
        row.outcome,
        json.dumps(dict(row.error_metadata)),
        row.input_id,
        row.sequence,
        row.resource,
        row.parent_command_id,
        row.trace,
    )


class CommandReads(ReadBase):
    """The reads. The literals in them are those of the partial indexes."""

    def command(self, command_id: str) -> CommandRow | None:
        row = self._one(f"{_COMMANDS} WHERE command_id = ?", (command_id,))
        return row and _command(row)

    def command_by_request(
        self, scope: str, principal_key: str, request_id: str
    ) -> CommandRow | None:
        row = self._one(
            f"{_COMMANDS} WHERE scope = ? AND principal_key = ? AND request_id = ?"
            " AND request_id <> ''",
            (scope, principal_key, request_id),
        )
        return row and _command(row)

    def commands_to_send(
        self, host_id: str, *, after: int = 0, limit: int = 256
    ) -> list[CommandRow]:
        rows = self._all(
            f"{_COMMANDS} WHERE host_id = ? AND position > ? AND state < 4 AND state < 3"
            " AND action <> x'' ORDER BY position LIMIT ?",
            (host_id, after, limit),
        )
        return [_command(row) for row in rows]

    def open_commands(self, session_id: str) -> list[CommandRow]:
        rows = self._all(
            f"{_COMMANDS} WHERE session_id = ? AND state < 4 ORDER BY position", (session_id,)
        )
        return [_command(row) for row in rows]

    def open_commands_of_host(self, host_id: str) -> list[CommandRow]:
        rows = self._all(
            f"{_COMMANDS} WHERE host_id = ? AND state < 4 ORDER BY position", (host_id,)
        )
        return [_command(row) for row in rows]

    def child_commands(self, parent_command_id: str) -> list[CommandRow]:
        rows = self._all(
            f"{_COMMANDS} WHERE parent_command_id = ? AND parent_command_id <> ''"
            " ORDER BY position",
            (parent_command_id,),
        )
        return [_command(row) for row in rows]

    def has_open_command(self, session_id: str, run: int, verbs: Sequence[int]) -> bool:
        marks = ", ".join("?" * len(verbs))
        row = self._one(
            "SELECT 1 FROM commands WHERE session_id = ? AND state < 4 AND run = ?"
            f" AND verb IN ({marks}) LIMIT 1",
            (session_id, run, *verbs),
        )
        return row is not None

    def knows_principal(self, session_id: str, principal: bytes) -> bool:
        # In the order of what it costs, and of what is likely: nearly always a command is open.
        for source, values in (
            ("commands WHERE session_id = ? AND state < 4", ()),
            ("inputs WHERE session_id = ?", ()),
            # What was withdrawn, and had begun all the same: decided here, and answered later.
            (
                "commands WHERE session_id = ? AND state = 4 AND accept_time > ?",
                (self.now - _ASKED_NS,),
            ),
        ):
            asked = f"SELECT 1 FROM {source} AND principal = ? LIMIT 1"
            if self._one(asked, (session_id, *values, principal)) is not None:
                return True
        return False

    def commands_expired(self, now: int, limit: int = 256) -> list[CommandRow]:
        rows = self._all(
            f"{_COMMANDS} WHERE state < 3 AND expire_time > 0 AND expire_time <= ?"
            " AND NOT (state = 2 AND input_id <> '') ORDER BY expire_time, position LIMIT ?",
            (now, limit),
        )
        return [_command(row) for row in rows]

    def next_command_expiry(self) -> int:
        row = self._one(
            "SELECT min(expire_time) FROM commands WHERE state < 3 AND expire_time > 0"
            " AND NOT (state = 2 AND input_id <> '')"
        )
        return row[0] or 0


class CommandWrites(CommandReads, QueueWrites):
    """The writes."""

    def insert_command(self, row: CommandRow) -> CommandRow:
        position = self._insert("commands", _COLUMNS, _values(row))
        row = replace(row, position=position)
        self.changes.commands[row.command_id] = row
        # (One that is HANDED already was inserted while the host's link was up.)
        if row.state <= CommandState.HANDED and row.host_id and row.action:
            self.changes.hosts.add(row.host_id)
        return row

    def update_command(self, row: CommandRow) -> None:
        self._update("commands", _COLUMNS[1:], "command_id", (*_values(row)[1:], row.command_id))
        self.changes.commands[row.command_id] = row
        if row.state == CommandState.ACCEPTED and row.host_id and row.action:
            self.changes.hosts.add(row.host_id)

    def delete_commands_of_session(self, session_id: str, *, keep: str = "") -> None:
        rows = self._all(
            "DELETE FROM commands WHERE session_id = ? AND command_id <> ? RETURNING command_id",
            (session_id, keep),
        )
        self.changes.commands_gone.update(row[0] for row in rows)

    def purge_commands(self, accepted_before: int, limit: int) -> int:
        return self._run(
            "DELETE FROM commands WHERE position IN (SELECT position FROM commands"
            " WHERE state = 4 AND accept_time < ? LIMIT ?)",
            (accepted_before, limit),
        )
