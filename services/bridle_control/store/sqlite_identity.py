"""Workspaces, tokens, join tokens and the store's own values, in SQLite. See `api`."""

from __future__ import annotations

import json
from typing import Any

from bridle_control.store.api import JoinTokenRow, TokenKind, TokenRow, WorkspaceRow
from bridle_control.store.sqlite_base import ReadBase, WriteBase

_TOKEN_COLUMNS = (
    "token_id",
    "secret_hash",
    "kind",
    "workspace",
    "name",
    "rights",
    "create_time",
    "expire_time",
    "revoke_time",
    "created_by",
    "session_id",
    "run",
    "host_id",
)
_TOKENS = f"SELECT {', '.join(_TOKEN_COLUMNS)} FROM tokens"
_JOIN_TOKEN_COLUMNS = (
    "join_token_id",
    "secret_hash",
    "workspace",
    "create_time",
    "expire_time",
    "use_time",
    "host_id",
)


def _token(row: Any) -> TokenRow:
    values = list(row)
    values[2] = TokenKind(row[2])
    values[5] = tuple(json.loads(row[5]))  # rights
    return TokenRow(*values)


class IdentityReads(ReadBase):
    """The reads."""

    def workspace(self, name: str) -> WorkspaceRow | None:
        row = self._one("SELECT name, create_time FROM workspaces WHERE name = ?", (name,))
        return row and WorkspaceRow(*row)

    def workspaces(self) -> list[WorkspaceRow]:
        rows = self._all("SELECT name, create_time FROM workspaces ORDER BY name")
        return [WorkspaceRow(*row) for row in rows]

    def token(self, token_id: str) -> TokenRow | None:
        row = self._one(f"{_TOKENS} WHERE token_id = ?", (token_id,))
        return row and _token(row)

    def token_by_hash(self, secret_hash: bytes) -> TokenRow | None:
        row = self._one(f"{_TOKENS} WHERE secret_hash = ?", (secret_hash,))
        return row and _token(row)

    def tokens(self, workspace: str | None, kind: TokenKind = TokenKind.USER) -> list[TokenRow]:
        if workspace is None:
            rows = self._all(f"{_TOKENS} WHERE kind = ? ORDER BY name, token_id", (kind,))
        else:
            rows = self._all(
                f"{_TOKENS} WHERE kind = ? AND workspace = ? ORDER BY name, token_id",
                (kind, workspace),
            )
        return [_token(row) for row in rows]

    def tokens_of_session(self, session_id: str) -> list[TokenRow]:
        rows = self._all(
            f"{_TOKENS} WHERE session_id = ? AND session_id <> '' ORDER BY create_time, token_id",
            (session_id,),
        )
        return [_token(row) for row in rows]

    def join_token_by_hash(self, secret_hash: bytes) -> JoinTokenRow | None:
        row = self._one(
            f"SELECT {', '.join(_JOIN_TOKEN_COLUMNS)} FROM join_tokens WHERE secret_hash = ?",
            (secret_hash,),
        )
        return row and JoinTokenRow(*row)


class IdentityWrites(IdentityReads, WriteBase):
    """The writes."""

    def insert_workspace(self, row: WorkspaceRow) -> None:
        self._insert("workspaces", ("name", "create_time"), (row.name, row.create_time))

    def insert_token(self, row: TokenRow) -> None:
        values = (
            row.token_id,
            row.secret_hash,
            row.kind,
            row.workspace,
            row.name,
            json.dumps(row.rights),
            row.create_time,
            row.expire_time,
            row.revoke_time,
            row.created_by,
            row.session_id,
            row.run,
            row.host_id,
        )
        self._insert("tokens", _TOKEN_COLUMNS, values)

    def revoke_token(self, token_id: str) -> None:
        self._revoke("token_id = ?", token_id)

    def _revoke(self, which: str, value: str) -> None:
        rows = self._all(
            f"UPDATE tokens SET revoke_time = ? WHERE {which} AND revoke_time = 0"
            " RETURNING token_id",
            (self.now, value),
        )
        self.changes.tokens.update(row[0] for row in rows)

    def insert_join_token(self, row: JoinTokenRow) -> None:
        values = (
            row.join_token_id,
            row.secret_hash,
            row.workspace,
            row.create_time,
            row.expire_time,
            row.use_time,
            row.host_id,
        )
        self._insert("join_tokens", _JOIN_TOKEN_COLUMNS, values)

    def use_join_token(self, join_token_id: str, host_id: str) -> bool:
        touched = self._run(
            "UPDATE join_tokens SET use_time = ?, host_id = ?"
            " WHERE join_token_id = ? AND use_time = 0",
            (self.now, host_id, join_token_id),
        )
        return touched == 1

    def purge_tokens(self, dead_before: int, limit: int) -> int:
        gone = self._run(
            "DELETE FROM tokens WHERE token_id IN (SELECT token_id FROM tokens WHERE kind = ?"
            " AND ((revoke_time > 0 AND revoke_time < ?) OR (expire_time > 0 AND expire_time < ?))"
            " LIMIT ?)",
            (TokenKind.SESSION, dead_before, dead_before, limit),
        )
        return gone + self._run(
            "DELETE FROM join_tokens WHERE join_token_id IN (SELECT join_token_id FROM join_tokens"
            " WHERE (use_time > 0 AND use_time < ?) OR expire_time < ? LIMIT ?)",
            (dead_before, dead_before, limit - gone),
        )
