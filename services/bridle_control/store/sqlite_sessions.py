"""Sessions, their trees, blobs and tombstones, in SQLite. See `api`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from bridle_control.store.api import (
    SESSION_FIELDS,
    SESSION_ORDERS,
    PageKey,
    SessionBlob,
    SessionPage,
    SessionRow,
    StoreFaultError,
    Term,
    TombstoneRow,
)
from bridle_control.store.sqlite_base import ReadBase
from bridle_control.store.sqlite_hosts import HostWrites

_COLUMNS = (
    "session_id",
    "workspace",
    "slug",
    "agent",
    "host_id",
    "phase",
    "run",
    "create_time",
    "update_time",
    "agent_command",
    "directory",
    "title",
    "labels",
    "turn",
    "turn_open",
    "queue_state",
    "policy",
    "parent_session_id",
    "started_by",
    "end_reason",
    "end_message",
    "containment",
    "capabilities",
    "closing",
    "verb_state",
)
# What the store itself keeps: read with the row, never written with it.
_WAITING = "(SELECT count(*) FROM inputs WHERE session_id = sessions.session_id AND state = 1)"
_OPEN = """(SELECT json_group_array(approval_id) FROM (SELECT approval_id FROM approvals
    WHERE session_id = sessions.session_id AND decision = 0 ORDER BY sequence))"""
_KEPT = ("sessions.last_sequence", "floor_sequence", _WAITING, _OPEN)
_SELECTED = ", ".join((*(f"sessions.{name}" for name in _COLUMNS), *_KEPT))
_SESSIONS = f"SELECT {_SELECTED} FROM sessions"
_LIVE = "phase BETWEEN 1 AND 5"
_HAS_LABEL = """EXISTS (SELECT 1 FROM json_each(sessions.labels)
    WHERE json_each.key = ? AND json_each.value = ?)"""


def _session(row: Any) -> SessionRow:
    values = list(row)
    values[12] = json.loads(row[12])  # labels
    values[14] = bool(row[14])  # turn_open
    values[22] = tuple(json.loads(row[22]))  # capabilities
    values[23] = bool(row[23])  # closing
    values[28] = tuple(json.loads(row[28]))  # open_approvals
    return SessionRow(*values)


def _values(row: SessionRow) -> tuple[str | bytes | int, ...]:
    return (
        row.session_id,
        row.workspace,
        row.slug,
        row.agent,
        row.host_id,
        row.phase,
        row.run,
        row.create_time,
        row.update_time,
        row.agent_command,
        row.directory,
        row.title,
        json.dumps(dict(row.labels)),
        row.turn,
        row.turn_open,
        row.queue_state,
        row.policy,
        row.parent_session_id,
        row.started_by,
        row.end_reason,
        row.end_message,
        row.containment,
        json.dumps(row.capabilities),
        row.closing,
        row.verb_state,
    )


def _condition(term: Term) -> tuple[str, list[str | int]]:
    """A term as SQL and its values."""
    if term.field == "labels":
        return f"{'' if term.equal else 'NOT '}{_HAS_LABEL}", [term.key, str(term.value)]
    if term.field not in SESSION_FIELDS:
        raise StoreFaultError(f"sessions have no field {term.field!r} to filter by")
    if term.field == "live":
        return (_LIVE if bool(term.value) == term.equal else f"NOT {_LIVE}"), []
    return f"sessions.{term.field} {'=' if term.equal else '<>'} ?", [term.value]


class SessionReads(ReadBase):
    """The reads."""

    def session(self, session_id: str) -> SessionRow | None:
        row = self._one(f"{_SESSIONS} WHERE session_id = ?", (session_id,))
        return row and _session(row)

    def sessions_by_phase(self) -> dict[int, int]:
        return dict(self._all("SELECT phase, count(*) FROM sessions GROUP BY phase"))

    def session_by_slug(self, workspace: str, slug: str) -> SessionRow | None:
        row = self._one(f"{_SESSIONS} WHERE workspace = ? AND slug = ?", (workspace, slug))
        return row and _session(row)

    def sessions(
        self,
        workspace: str | None,
        *,
        terms: Sequence[Term] = (),
        order: str = "create_time",
        descending: bool = True,
        after: PageKey | None = None,
        limit: int = 100,
    ) -> SessionPage:
        if order not in SESSION_ORDERS:
            raise StoreFaultError(f"sessions are not ordered by {order!r}")
        conditions, values = _where(workspace, terms)
        way, beyond = ("DESC", "<") if descending else ("ASC", ">")
        if after is not None:
            conditions.append(f"(sessions.{order}, sessions.session_id) {beyond} (?, ?)")
            values += after
        statement = (
            f"{_SESSIONS} WHERE {' AND '.join(conditions)}"
            f" ORDER BY sessions.{order} {way}, sessions.session_id {way} LIMIT ?"
        )
        # One more than asked for tells whether there is a next page.
        rows = self._all(statement, (*values, limit + 1))
        page = tuple(_session(row) for row in rows[:limit])
        if len(rows) <= limit or not page:
            return SessionPage(page, None)
        return SessionPage(page, (getattr(page[-1], order), page[-1].session_id))

    def session_matches(self, session_id: str, workspace: str, terms: Sequence[Term]) -> bool:
        conditions, values = _where(workspace, terms)
        statement = f"SELECT 1 FROM sessions WHERE session_id = ? AND {' AND '.join(conditions)}"
        return self._one(statement, (session_id, *values)) is not None

    def live_sessions_of_host(self, host_id: str) -> list[SessionRow]:
        rows = self._all(f"{_SESSIONS} WHERE host_id = ? AND {_LIVE} ORDER BY log", (host_id,))
        return [_session(row) for row in rows]

    def children(self, session_id: str, *, live: bool = False) -> list[SessionRow]:
        also = f" AND {_LIVE}" if live else ""
        rows = self._all(
            f"{_SESSIONS} WHERE parent_session_id = ? AND parent_session_id <> ''{also}"
            " ORDER BY log",
            (session_id,),
        )
        return [_session(row) for row in rows]

    def subtree(self, session_id: str) -> list[SessionRow]:
        rows = self._all(
            "WITH RECURSIVE beneath (id, depth) AS ("
            " SELECT session_id, 1 FROM sessions"
            "  WHERE parent_session_id = ? AND parent_session_id <> ''"
            " UNION SELECT session_id, depth + 1 FROM beneath JOIN sessions"
            "  ON parent_session_id = id AND parent_session_id <> '')"
            f" SELECT {_SELECTED} FROM beneath JOIN sessions ON session_id = id"
            " ORDER BY depth DESC, log DESC",
            (session_id,),
        )
        return [_session(row) for row in rows]

    def ancestors(self, session_id: str) -> list[str]:
        rows = self._all(
            "WITH RECURSIVE above (id, depth) AS ("
            " SELECT parent_session_id, 1 FROM sessions WHERE session_id = ?"
            " UNION SELECT parent_session_id, depth + 1 FROM above JOIN sessions"
            "  ON session_id = id)"
            " SELECT id FROM above WHERE id <> '' ORDER BY depth",
            (session_id,),
        )
        return [row[0] for row in rows]

    def tombstone(self, session_id: str) -> TombstoneRow | None:
        row = self._one(
            "SELECT session_id, workspace, slug, delete_time FROM tombstones WHERE session_id = ?",
            (session_id,),
        )
        return row and TombstoneRow(*row)

    def blob(self, session_id: str, name: SessionBlob) -> bytes:
        row = self._one(
            "SELECT value FROM session_blobs WHERE session_id = ? AND name = ?", (session_id, name)
        )
        return b"" if row is None else bytes(row[0])


def _where(
    workspace: str | None, terms: Sequence[Term]
) -> tuple[list[str], list[str | int | bytes]]:
    conditions, values = ["1"], list[str | int | bytes]()
    if workspace is not None:
        conditions.append("sessions.workspace = ?")
        values.append(workspace)
    for term in terms:
        condition, more = _condition(term)
        conditions.append(condition)
        values += more
    return conditions, values


class SessionWrites(SessionReads, HostWrites):
    """The writes."""

    def insert_session(self, row: SessionRow) -> None:
        columns = (*_COLUMNS, "last_sequence", "floor_sequence")
        self._insert("sessions", columns, (*_values(row), 0, 1))
        self.changes.sessions.add(row.session_id)

    def update_session(self, row: SessionRow) -> None:
        self._update("sessions", _COLUMNS[1:], "session_id", (*_values(row)[1:], row.session_id))
        self.changes.sessions.add(row.session_id)

    def delete_session(self, session_id: str, *, tombstone: bool = True) -> None:
        row = self._one(
            "DELETE FROM sessions WHERE session_id = ? RETURNING log, workspace, slug",
            (session_id,),
        )
        if row is None:
            raise StoreFaultError(f"sessions: no row with session_id = {session_id!r}")
        log, workspace, slug = row
        # A log may be long: its events are out of reach now, and are purged a bit at a time.
        self._bury(log, 2**62)
        self._revoke("session_id = ? AND session_id <> ''", session_id)
        if tombstone:
            columns = ("session_id", "workspace", "slug", "delete_time")
            self._insert("tombstones", columns, (session_id, workspace, slug, self.now))
        self.changes.deleted.add(session_id)

    def _bury(self, log: int, below: int) -> None:
        """Marks the events of a log below a sequence as dead."""
        self._run(
            "INSERT INTO garbage VALUES (?, ?)"
            " ON CONFLICT (log) DO UPDATE SET below = max(below, excluded.below)",
            (log, below),
        )

    def put_blob(self, session_id: str, name: SessionBlob, value: bytes) -> None:
        if value:
            self._run(
                "INSERT INTO session_blobs VALUES (?, ?, ?)"
                " ON CONFLICT (session_id, name) DO UPDATE SET value = excluded.value",
                (session_id, name, value),
            )
        else:
            self._run(
                "DELETE FROM session_blobs WHERE session_id = ? AND name = ?", (session_id, name)
            )

    def purge_tombstones(self, deleted_before: int, limit: int) -> int:
        return self._run(
            "DELETE FROM tombstones WHERE session_id IN"
            " (SELECT session_id FROM tombstones WHERE delete_time < ? LIMIT ?)",
            (deleted_before, limit),
        )
