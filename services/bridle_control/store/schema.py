"""The tables of the SQLite store, version by version.

`PRAGMA user_version` tells the version of a file; `MIGRATIONS[n]` takes one from version n to
n + 1, so a new store goes through all of them and an old one through the rest, in one transaction.
A version that was released is never changed: the next one gets a step of its own. Called when a
store is opened, on the one connection that writes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

#: `PRAGMA application_id`: tells a store of Bridle from other SQLite files ("Brdl").
APPLICATION_ID = 0x4272646C

# Statements of version 1. What they rely on:
#   sessions.log      names a log for good: AUTOINCREMENT never gives a number again, so events of a
#                     deleted session can wait for their purge without being taken for another's
#   events.data       the event as it stands in an EventBatch; crc binds it to its place and kind
#                     (see `sqlite_log`)
#   garbage           events of `log` below `below` are dead, whether or not they are still there
#   commands.position the order of commits
# Literals in partial indexes: phase 1..5 is live, input state 1 waits, command state 4 is done.
_VERSION_1: tuple[str, ...] = (
    """CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID""",
    """CREATE TABLE workspaces (
        name TEXT PRIMARY KEY, create_time INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE tokens (
        token_id TEXT PRIMARY KEY, secret_hash BLOB NOT NULL UNIQUE, kind INTEGER NOT NULL,
        workspace TEXT NOT NULL, name TEXT NOT NULL, rights TEXT NOT NULL,
        create_time INTEGER NOT NULL, expire_time INTEGER NOT NULL, revoke_time INTEGER NOT NULL,
        created_by BLOB NOT NULL, session_id TEXT NOT NULL, run INTEGER NOT NULL,
        host_id TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX tokens_by_session ON tokens (session_id) WHERE session_id <> ''",
    "CREATE INDEX tokens_by_host ON tokens (host_id) WHERE host_id <> ''",
    "CREATE INDEX tokens_by_name ON tokens (kind, workspace, name)",
    """CREATE TABLE join_tokens (
        join_token_id TEXT PRIMARY KEY, secret_hash BLOB NOT NULL UNIQUE, workspace TEXT NOT NULL,
        create_time INTEGER NOT NULL, expire_time INTEGER NOT NULL, use_time INTEGER NOT NULL,
        host_id TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE hosts (
        host_id TEXT PRIMARY KEY, workspace TEXT NOT NULL, name TEXT NOT NULL,
        create_time INTEGER NOT NULL, epoch INTEGER NOT NULL, incarnation TEXT NOT NULL,
        boot_id TEXT NOT NULL, version TEXT NOT NULL, containment TEXT NOT NULL,
        agents BLOB NOT NULL, session_limit INTEGER NOT NULL, last_seen_time INTEGER NOT NULL,
        draining INTEGER NOT NULL, lost INTEGER NOT NULL,
        UNIQUE (workspace, name)
    ) STRICT""",
    """CREATE TABLE journals (
        host_id TEXT NOT NULL REFERENCES hosts ON DELETE CASCADE, journal_id TEXT NOT NULL,
        high_water INTEGER NOT NULL, create_time INTEGER NOT NULL,
        PRIMARY KEY (host_id, journal_id)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE sessions (
        log INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL UNIQUE,
        workspace TEXT NOT NULL, slug TEXT NOT NULL, agent TEXT NOT NULL, host_id TEXT NOT NULL,
        phase INTEGER NOT NULL, run INTEGER NOT NULL, create_time INTEGER NOT NULL,
        update_time INTEGER NOT NULL, agent_command TEXT NOT NULL, directory TEXT NOT NULL,
        title TEXT NOT NULL, labels TEXT NOT NULL, turn INTEGER NOT NULL,
        turn_open INTEGER NOT NULL, queue_state INTEGER NOT NULL, policy BLOB NOT NULL,
        parent_session_id TEXT NOT NULL, started_by BLOB NOT NULL, end_reason INTEGER NOT NULL,
        end_message TEXT NOT NULL, containment TEXT NOT NULL, capabilities TEXT NOT NULL,
        closing INTEGER NOT NULL, verb_state BLOB NOT NULL, last_sequence INTEGER NOT NULL,
        floor_sequence INTEGER NOT NULL,
        UNIQUE (workspace, slug)
    ) STRICT""",
    "CREATE INDEX sessions_by_creation ON sessions (workspace, create_time, session_id)",
    "CREATE INDEX sessions_by_update ON sessions (workspace, update_time, session_id)",
    "CREATE INDEX sessions_live ON sessions (host_id) WHERE phase BETWEEN 1 AND 5",
    """CREATE INDEX sessions_by_parent ON sessions (parent_session_id)
        WHERE parent_session_id <> ''""",
    """CREATE TABLE session_blobs (
        session_id TEXT NOT NULL REFERENCES sessions (session_id) ON DELETE CASCADE,
        name TEXT NOT NULL, value BLOB NOT NULL,
        PRIMARY KEY (session_id, name)
    ) STRICT""",
    """CREATE TABLE tombstones (
        session_id TEXT PRIMARY KEY, workspace TEXT NOT NULL, slug TEXT NOT NULL,
        delete_time INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX tombstones_by_age ON tombstones (delete_time)",
    """CREATE TABLE events (
        log INTEGER NOT NULL, sequence INTEGER NOT NULL, kind INTEGER NOT NULL,
        run INTEGER NOT NULL, crc INTEGER NOT NULL, data BLOB NOT NULL,
        PRIMARY KEY (log, sequence)
    ) STRICT, WITHOUT ROWID""",
    "CREATE TABLE garbage (log INTEGER PRIMARY KEY, below INTEGER NOT NULL) STRICT",
    """CREATE TABLE inputs (
        input_id TEXT PRIMARY KEY,
        session_id TEXT NOT NULL REFERENCES sessions (session_id) ON DELETE CASCADE,
        sequence INTEGER NOT NULL, content BLOB NOT NULL, mode INTEGER NOT NULL,
        state INTEGER NOT NULL, create_time INTEGER NOT NULL, principal BLOB NOT NULL,
        expire_time INTEGER NOT NULL, turn INTEGER NOT NULL, command_id TEXT NOT NULL,
        or_queue INTEGER NOT NULL, cancel_reason INTEGER NOT NULL,
        UNIQUE (session_id, sequence)
    ) STRICT""",
    "CREATE INDEX inputs_waiting ON inputs (session_id) WHERE state = 1",
    """CREATE TABLE approvals (
        session_id TEXT NOT NULL REFERENCES sessions (session_id) ON DELETE CASCADE,
        approval_id TEXT NOT NULL, run INTEGER NOT NULL, turn INTEGER NOT NULL,
        sequence INTEGER NOT NULL, decision INTEGER NOT NULL,
        PRIMARY KEY (session_id, approval_id)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX approvals_open ON approvals (session_id, sequence) WHERE decision = 0",
    """CREATE TABLE commands (
        position INTEGER PRIMARY KEY AUTOINCREMENT, command_id TEXT NOT NULL UNIQUE,
        verb INTEGER NOT NULL, accept_time INTEGER NOT NULL, scope TEXT NOT NULL,
        principal_key TEXT NOT NULL, request_id TEXT NOT NULL, request_hash BLOB NOT NULL,
        principal BLOB NOT NULL, session_id TEXT NOT NULL, run INTEGER NOT NULL,
        host_id TEXT NOT NULL, expire_time INTEGER NOT NULL, action BLOB NOT NULL,
        state INTEGER NOT NULL, outcome BLOB NOT NULL, error_metadata TEXT NOT NULL,
        input_id TEXT NOT NULL, sequence INTEGER NOT NULL, resource TEXT NOT NULL,
        parent_command_id TEXT NOT NULL
    ) STRICT""",
    """CREATE UNIQUE INDEX commands_by_request ON commands (scope, principal_key, request_id)
        WHERE request_id <> ''""",
    "CREATE INDEX commands_open ON commands (session_id, position) WHERE state < 4",
    "CREATE INDEX commands_of_host ON commands (host_id, position) WHERE state < 4",
    """CREATE INDEX commands_by_expiry ON commands (expire_time)
        WHERE state < 3 AND expire_time > 0""",
    """CREATE INDEX commands_by_parent ON commands (parent_command_id)
        WHERE parent_command_id <> ''""",
    "CREATE INDEX commands_done ON commands (accept_time) WHERE state = 4",
)


def _to_version_1(connection: sqlite3.Connection) -> None:
    for statement in _VERSION_1:
        connection.execute(statement)


def _to_version_2(connection: sqlite3.Connection) -> None:
    """`sessions.log_bytes`: what the events of a log take, from its floor on."""
    connection.execute("ALTER TABLE sessions ADD COLUMN log_bytes INTEGER NOT NULL DEFAULT 0")
    connection.execute(
        "UPDATE sessions SET log_bytes = coalesce((SELECT sum(length(data)) FROM events"
        " WHERE events.log = sessions.log AND sequence >= floor_sequence), 0)"
    )


def _to_version_3(connection: sqlite3.Connection) -> None:
    """`events.crc` binds an event to its log and run, too, and is below 0 then. What is there stays
    as it is: to write a long log anew would take its size once more. Older versions would take the
    new sums for damage, hence the step."""


def _to_version_4(connection: sqlite3.Connection) -> None:
    """All sessions of a host, in the order of their listing: read whenever it comes or goes."""
    connection.execute(
        "CREATE INDEX sessions_of_host ON sessions (host_id, create_time, session_id)"
    )


def _to_version_5(connection: sqlite3.Connection) -> None:
    """Who asked for something in a session: looked up within a host's write, for principals that it
    names, and a host may name whom it likes."""
    connection.execute(
        "CREATE INDEX commands_by_principal ON commands (session_id, principal, accept_time)"
        " WHERE state = 4"
    )
    connection.execute("CREATE INDEX inputs_by_principal ON inputs (session_id, principal)")


def _to_version_6(connection: sqlite3.Connection) -> None:
    """`commands.trace`: where the request stands in its caller's trace; and how many sessions are
    in each phase, which metrics ask for every few seconds."""
    connection.execute("ALTER TABLE commands ADD COLUMN trace BLOB NOT NULL DEFAULT x''")
    connection.execute("CREATE INDEX sessions_by_phase ON sessions (phase)")


Migration = Callable[[sqlite3.Connection], None]

#: `MIGRATIONS[n]` makes version n + 1 of version n; version 0 is an empty file.
MIGRATIONS: Sequence[Migration] = (
    _to_version_1,
    _to_version_2,
    _to_version_3,
    _to_version_4,
    _to_version_5,
    _to_version_6,
)
