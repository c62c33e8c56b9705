"""Inputs and approvals, in SQLite. See `api`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bridle_control.store.api import INPUT_FIELDS, ApprovalRow, InputRow, StoreFaultError, Term
from bridle_control.store.sqlite_base import ReadBase
from bridle_control.store.sqlite_log import LogWrites

_COLUMNS = (
    "input_id",
    "session_id",
    "sequence",
    "content",
    "mode",
    "state",
    "create_time",
    "principal",
    "expire_time",
    "turn",
    "command_id",
    "or_queue",
    "cancel_reason",
)
_INPUTS = f"SELECT {', '.join(_COLUMNS)} FROM inputs"


def _input(row: Any) -> InputRow:
    values = list(row)
    values[11] = bool(row[11])  # or_queue
    return InputRow(*values)


def _values(row: InputRow) -> tuple[str | bytes | int, ...]:
    return (
        row.input_id,
        row.session_id,
        row.sequence,
        row.content,
        row.mode,
        row.state,
        row.create_time,
        row.principal,
        row.expire_time,
        row.turn,
        row.command_id,
        row.or_queue,
        row.cancel_reason,
    )


class QueueReads(ReadBase):
    """The reads."""

    def input(self, input_id: str) -> InputRow | None:
        row = self._one(f"{_INPUTS} WHERE input_id = ?", (input_id,))
        return row and _input(row)

    def inputs(
        self,
        session_id: str,
        *,
        terms: Sequence[Term] = (),
        descending: bool = False,
        after: int = 0,
        limit: int = 100,
    ) -> list[InputRow]:
        conditions = "session_id = ?"
        values: list[str | int] = [session_id]
        for term in terms:
            if term.field not in INPUT_FIELDS:
                raise StoreFaultError(f"inputs have no field {term.field!r} to filter by")
            conditions += f" AND {term.field} {'=' if term.equal else '<>'} ?"
            values.append(term.value)
        if after:
            conditions += f" AND sequence {'<' if descending else '>'} ?"
            values.append(after)
        rows = self._all(
            f"{_INPUTS} WHERE {conditions}"
            f" ORDER BY sequence {'DESC' if descending else 'ASC'} LIMIT ?",
            (*values, limit),
        )
        return [_input(row) for row in rows]

    def inputs_left_expired(self, now: int, limit: int = 256) -> list[InputRow]:
        # (Whatever waits is looked at, by its partial index: it is little, in all sessions. Left to
        # itself SQLite goes through all inputs that ever were, for their order.)
        rows = self._all(
            f"{_INPUTS} INDEXED BY inputs_waiting"
            " WHERE state = 1 AND expire_time > 0 AND expire_time <= ?"
            " AND session_id NOT IN (SELECT session_id FROM sessions WHERE phase BETWEEN 1 AND 5)"
            " ORDER BY session_id, sequence LIMIT ?",
            (now, limit),
        )
        return [_input(row) for row in rows]

    def approval(self, session_id: str, approval_id: str) -> ApprovalRow | None:
        row = self._one(
            "SELECT session_id, approval_id, run, turn, sequence, decision FROM approvals"
            " WHERE session_id = ? AND approval_id = ?",
            (session_id, approval_id),
        )
        return row and ApprovalRow(*row)


class QueueWrites(QueueReads, LogWrites):
    """The writes."""

    def insert_input(self, row: InputRow) -> None:
        self._insert("inputs", _COLUMNS, _values(row))
        self.changes.sessions.add(row.session_id)

    def update_input(self, row: InputRow) -> None:
        self._update("inputs", _COLUMNS[1:], "input_id", (*_values(row)[1:], row.input_id))
        self.changes.sessions.add(row.session_id)

    def put_approval(self, row: ApprovalRow) -> None:
        self._run(
            "INSERT INTO approvals VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (session_id, approval_id) DO UPDATE SET run = excluded.run,"
            " turn = excluded.turn, sequence = excluded.sequence, decision = excluded.decision",
            (row.session_id, row.approval_id, row.run, row.turn, row.sequence, row.decision),
        )
        self.changes.sessions.add(row.session_id)
