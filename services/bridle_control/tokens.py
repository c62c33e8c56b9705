"""Secrets: how they look, how they are stored, how rows of tokens are made.

A secret is a prefix that tells its kind and 256 random bits; the store keeps its SHA-256 alone. A
plain hash is right here: nobody can try 2**256 secrets, so there is nothing to slow down. Called by
the authenticator, the identity and host services, `bridle-control init`, and by the verbs and the
links for the sessions' own tokens.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass

from bridle.v1 import identity_pb2, principal_pb2
from bridle_control.ids import uuid7
from bridle_control.receipts import timestamp
from bridle_control.store.api import (
    JoinTokenRow,
    ReadTx,
    SessionBlob,
    SessionRow,
    TokenKind,
    TokenRow,
    Tx,
)
from bridle_core.rights import CredentialKind, session_token_rights

#: How long a session's own token is good, in ns: an hour. Links hand over a fresh one in time.
SESSION_TOKEN_TTL_NS = 3600 * 10**9
#: The share of its life after which it is replaced: a link may be down for the rest.
_REFRESH_AT = 0.5

_SECRET = re.compile(r"(br[tsjh]_)[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Minted:
    """A secret that was just made; it is nowhere else. Times in ns since the epoch, 0: never."""

    secret: str
    token_id: str
    expire_time: int


def new_secret(kind: CredentialKind) -> str:
    """A prefix and 43 characters of base64url: 256 bits."""
    return kind.value + secrets.token_urlsafe(32)


def kind_of(secret: str) -> CredentialKind | None:
    """The kind that a text claims to be; None when it is no secret of ours at all."""
    match = _SECRET.fullmatch(secret)
    return CredentialKind(match[1]) if match else None


def hash_secret(secret: str) -> bytes:
    """What the store keeps: 32 bytes."""
    return hashlib.sha256(secret.encode()).digest()


# --- rows --------------------------------------------------------------------------------------


def mint_user_token(
    tx: Tx,
    *,
    workspace: str,
    name: str,
    rights: tuple[str, ...],
    expire_time: int,
    created_by: bytes,
) -> Minted:
    """Stores a token of a person or a service; workspace "" is for all."""
    secret, token_id = new_secret(CredentialKind.USER), uuid7(tx.now)
    tx.insert_token(
        TokenRow(
            token_id=token_id,
            secret_hash=hash_secret(secret),
            kind=TokenKind.USER,
            workspace=workspace,
            name=name,
            rights=rights,
            create_time=tx.now,
            expire_time=expire_time,
            created_by=created_by,
        )
    )
    return Minted(secret, token_id, expire_time)


def mint_session_token(tx: Tx, session: SessionRow, run: int) -> Minted:
    """Stores a token of a session's own, for one run.

    It dies with the run: the authenticator looks at the session's row too. Earlier tokens of the
    run stay good for their own time, since an agent may have read one a moment ago.
    """
    secret, token_id = new_secret(CredentialKind.SESSION), uuid7(tx.now)
    expire_time = tx.now + SESSION_TOKEN_TTL_NS
    principal = principal_pb2.Principal(kind=principal_pb2.PRINCIPAL_KIND_SYSTEM)
    tx.insert_token(
        TokenRow(
            token_id=token_id,
            secret_hash=hash_secret(secret),
            kind=TokenKind.SESSION,
            workspace=session.workspace,
            name=session.slug,
            rights=session_rights(tx, session.session_id),
            create_time=tx.now,
            expire_time=expire_time,
            created_by=principal.SerializeToString(deterministic=True),
            session_id=session.session_id,
            run=run,
        )
    )
    return Minted(secret, token_id, expire_time)


def keep_session_rights(tx: Tx, session_id: str, starter: tuple[str, ...]) -> None:
    """Remembers what the tokens of a new session may hold, by what its starter holds."""
    kept = " ".join(session_token_rights(starter)) or "none"
    tx.put_blob(session_id, SessionBlob.RIGHTS, kept.encode())


def session_rights(tx: ReadTx, session_id: str) -> tuple[str, ...]:
    """What the tokens of a session hold, in every run."""
    kept = tx.blob(session_id, SessionBlob.RIGHTS)
    # (A store of an earlier release remembers nothing.)
    return session_token_rights(kept.decode().split()) if kept else session_token_rights()


def session_token_is_due(tx: ReadTx, session_id: str, run: int) -> bool:
    """Whether a run needs a fresh token: the newest one has passed half of its life."""
    newest = max(
        (row.expire_time for row in tx.tokens_of_session(session_id) if row.run == run), default=0
    )
    return newest - tx.now < SESSION_TOKEN_TTL_NS * (1 - _REFRESH_AT)


def mint_host_credential(tx: Tx, *, host_id: str, workspace: str, name: str) -> Minted:
    """Stores the credential of a host; it never expires, and dies with the host's row."""
    secret, token_id = new_secret(CredentialKind.HOST), uuid7(tx.now)
    tx.insert_token(
        TokenRow(
            token_id=token_id,
            secret_hash=hash_secret(secret),
            kind=TokenKind.HOST,
            workspace=workspace,
            name=name,
            rights=(),
            create_time=tx.now,
            host_id=host_id,
        )
    )
    return Minted(secret, token_id, 0)


def mint_join_token(tx: Tx, *, workspace: str, expire_time: int) -> Minted:
    """Stores a join token: good for one host, once."""
    secret, token_id = new_secret(CredentialKind.JOIN), uuid7(tx.now)
    tx.insert_join_token(
        JoinTokenRow(
            join_token_id=token_id,
            secret_hash=hash_secret(secret),
            workspace=workspace,
            create_time=tx.now,
            expire_time=expire_time,
        )
    )
    return Minted(secret, token_id, expire_time)


def to_token(row: TokenRow) -> identity_pb2.Token:
    """What is told of a token."""
    created_by = principal_pb2.Principal()
    created_by.ParseFromString(row.created_by)
    return identity_pb2.Token(
        token_id=row.token_id,
        workspace=row.workspace,
        name=row.name,
        rights=row.rights,
        create_time=timestamp(row.create_time),
        expire_time=timestamp(row.expire_time),
        revoked=bool(row.revoke_time),
        created_by=created_by,
    )
