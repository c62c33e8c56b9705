"""Hosts and their journals, in SQLite. See `api`."""

from __future__ import annotations

import json
from typing import Any

from bridle_control.store.api import HostRow, JournalRow, StoreFaultError
from bridle_control.store.sqlite_base import ReadBase
from bridle_control.store.sqlite_identity import IdentityWrites

_COLUMNS = (
    "host_id",
    "workspace",
    "name",
    "create_time",
    "epoch",
    "incarnation",
    "boot_id",
    "version",
    "containment",
    "agents",
    "session_limit",
    "last_seen_time",
    "draining",
    "lost",
)
_HOSTS = (
    f"SELECT {', '.join(_COLUMNS)}, (SELECT count(*) FROM sessions"
    " WHERE sessions.host_id = hosts.host_id AND phase BETWEEN 1 AND 5) FROM hosts"
)
_JOURNALS = "SELECT host_id, journal_id, high_water, create_time FROM journals"


def _host(row: Any) -> HostRow:
    values = list(row)
    values[8] = tuple(json.loads(row[8]))  # containment
    values[12], values[13] = bool(row[12]), bool(row[13])  # draining, lost
    return HostRow(*values)


def _values(row: HostRow) -> tuple[str | bytes | int, ...]:
    return (
        row.host_id,
        row.workspace,
        row.name,
        row.create_time,
        row.epoch,
        row.incarnation,
        row.boot_id,
        row.version,
        json.dumps(row.containment),
        row.agents,
        row.session_limit,
        row.last_seen_time,
        row.draining,
        row.lost,
    )


class HostReads(ReadBase):
    """The reads."""

    def host(self, host_id: str) -> HostRow | None:
        row = self._one(f"{_HOSTS} WHERE host_id = ?", (host_id,))
        return row and _host(row)

    def host_by_name(self, workspace: str, name: str) -> HostRow | None:
        row = self._one(f"{_HOSTS} WHERE workspace = ? AND name = ?", (workspace, name))
        return row and _host(row)

    def hosts(self, workspace: str | None) -> list[HostRow]:
        if workspace is None:
            rows = self._all(f"{_HOSTS} ORDER BY name, host_id")
        else:
            rows = self._all(f"{_HOSTS} WHERE workspace = ? ORDER BY name", (workspace,))
        return [_host(row) for row in rows]

    def host_epoch(self, host_id: str) -> int | None:
        row = self._one("SELECT epoch FROM hosts WHERE host_id = ?", (host_id,))
        return None if row is None else int(row[0])

    def journal(self, host_id: str, journal_id: str) -> JournalRow | None:
        row = self._one(f"{_JOURNALS} WHERE host_id = ? AND journal_id = ?", (host_id, journal_id))
        return row and JournalRow(*row)

    def journals(self, host_id: str) -> list[JournalRow]:
        rows = self._all(
            f"{_JOURNALS} WHERE host_id = ? ORDER BY create_time DESC, journal_id DESC", (host_id,)
        )
        return [JournalRow(*row) for row in rows]


class HostWrites(HostReads, IdentityWrites):
    """The writes."""

    def insert_host(self, row: HostRow) -> None:
        self._insert("hosts", _COLUMNS, _values(row))

    def update_host(self, row: HostRow) -> None:
        self._update("hosts", _COLUMNS[1:], "host_id", (*_values(row)[1:], row.host_id))

    def delete_host(self, host_id: str) -> None:
        if self._run("DELETE FROM hosts WHERE host_id = ?", (host_id,)) != 1:
            raise StoreFaultError(f"hosts: no row with host_id = {host_id!r}")
        self._revoke("host_id = ? AND host_id <> ''", host_id)

    def bump_epoch(self, host_id: str, incarnation: str) -> int:
        row = self._one(
            "UPDATE hosts SET epoch = epoch + 1, incarnation = ?, last_seen_time = ?"
            " WHERE host_id = ? RETURNING epoch",
            (incarnation, self.now, host_id),
        )
        if row is None:
            raise StoreFaultError(f"hosts: no row with host_id = {host_id!r}")
        return int(row[0])

    def set_journal(self, host_id: str, journal_id: str, high_water: int) -> None:
        moved = self._run(
            "UPDATE journals SET high_water = ?1"
            " WHERE host_id = ?2 AND journal_id = ?3 AND high_water <= ?1",
            (high_water, host_id, journal_id),
        )
        if moved:
            return
        if self.journal(host_id, journal_id) is not None:
            raise StoreFaultError("journals: the high-water mark never falls")
        columns = ("host_id", "journal_id", "high_water", "create_time")
        self._insert("journals", columns, (host_id, journal_id, high_water, self.now))
