"""Who calls: from the metadata of a call to a `Caller`, or a clean refusal.

Called by the interceptor alone. It decides whether a credential is good and of a kind that opens
the method; what rights it needs is the table's business (`bridle_core.rights`), what it may see is
decided where rows are read (`caller`).

What was looked up is remembered for two seconds, so that a busy caller costs no read per call. A
revocation made by this process is known at once; one made by another reaches here by then.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bridle.v1 import principal_pb2, session_pb2
from bridle_control import decisions
from bridle_control.caller import Caller
from bridle_control.store.api import Changes, ReadTx, SessionRow, Store, TokenKind, TokenRow
from bridle_control.tokens import hash_secret, kind_of
from bridle_core.errors import BridleError, Reason
from bridle_core.rights import CredentialKind

#: How long a look-up is remembered, in seconds. Less than the 5 s in which a revocation must bite.
REMEMBERED = 2.0
# Distinct tokens in use within two seconds; beyond it they are looked up each time.
_CACHE_MAX = 10_000

_KINDS = {
    CredentialKind.USER: TokenKind.USER,
    CredentialKind.SESSION: TokenKind.SESSION,
    CredentialKind.HOST: TokenKind.HOST,
}


def bearer_secret(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The secret in `authorization: Bearer SECRET`. Raises TOKEN_MISSING, TOKEN_INVALID."""
    values = [value for key, value in metadata if key.lower() == "authorization"]
    if not values:
        raise BridleError(
            Reason.TOKEN_MISSING, "the call has no token: metadata `authorization: Bearer TOKEN`"
        )
    if len(values) > 1:
        # Which of them counts would depend on who reads them first: a proxy or we.
        raise BridleError(Reason.TOKEN_INVALID, "the call has more than one authorization")
    value = values[0]
    scheme, _, secret = (value if isinstance(value, str) else "").partition(" ")
    if scheme.lower() != "bearer":
        raise BridleError(Reason.TOKEN_INVALID, "the authorization is not of the form Bearer TOKEN")
    return secret


def _unknown() -> BridleError:
    return BridleError(Reason.TOKEN_INVALID, "the token is not one of ours")


def _wrong_kind() -> BridleError:
    return BridleError(Reason.TOKEN_INVALID, "the token is of a kind that does not open this")


def _expired() -> BridleError:
    return BridleError(Reason.TOKEN_EXPIRED, "the token's time is over")


def _revoked() -> BridleError:
    return BridleError(Reason.TOKEN_REVOKED, "the token was revoked")


class DeadTokenError(BridleError):
    """The refusal of a token that was good once; which one is for the audit log alone."""

    def __init__(self, error: BridleError, token_id: str) -> None:
        super().__init__(error.reason, error.message)
        self.token_id = token_id


@dataclass(frozen=True, slots=True)
class _Remembered:
    caller: Caller
    until: float  # on the monotonic clock


class Authenticator:
    """Looks credentials up. One per process; used from its event loop alone."""

    def __init__(self, store: Store, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._monotonic = monotonic
        self._cache: dict[bytes, _Remembered] = {}
        self._digests: dict[str, set[bytes]] = {}  # by the ids of tokens and of sessions
        store.listen(self._changed)

    async def authenticate(
        self,
        metadata: Iterable[tuple[str, str | bytes]],
        kinds: frozenset[CredentialKind],
    ) -> Caller:
        """The caller, if the credential is good and of one of the kinds.

        Raises TOKEN_MISSING, TOKEN_INVALID, TOKEN_EXPIRED, TOKEN_REVOKED.
        """
        secret = bearer_secret(metadata)
        kind = kind_of(secret)
        if kind is None:
            raise _unknown()
        if kind not in kinds:
            # Told without a look-up, so it tells nothing about whether the secret is good.
            raise _wrong_kind()
        digest = hash_secret(secret)
        known = self._cache.get(digest)
        if known is None or known.until <= self._monotonic():
            self._forget(digest)
            caller = await self._store.read(lambda tx: look_up(tx, kind, digest))
            self._remember(digest, caller)
            return caller
        if 0 < known.caller.expire_time <= time.time_ns():
            raise DeadTokenError(_expired(), known.caller.token_id)
        return known.caller

    def _remember(self, digest: bytes, caller: Caller) -> None:
        if caller.kind is CredentialKind.JOIN:
            return  # good once
        now = self._monotonic()
        if len(self._cache) >= _CACHE_MAX:
            for stale in [d for d, known in self._cache.items() if known.until <= now]:
                self._forget(stale)
        if len(self._cache) < _CACHE_MAX:
            self._cache[digest] = _Remembered(caller, now + REMEMBERED)
            for key in _keys(caller):
                self._digests.setdefault(key, set()).add(digest)

    def _forget(self, digest: bytes) -> None:
        known = self._cache.pop(digest, None)
        for key in _keys(known.caller) if known else ():
            self._digests[key].discard(digest)
            if not self._digests[key]:
                del self._digests[key]

    def _changed(self, changes: Changes) -> None:
        """A commit: look up again who was revoked, and whose session is not what it was."""
        for ids in (changes.tokens, changes.sessions, changes.deleted):
            for key in self._digests.keys() & ids:
                for digest in list(self._digests[key]):
                    self._forget(digest)


def _keys(caller: Caller) -> tuple[str, ...]:
    """What a remembered caller is found by when it is to be forgotten."""
    return (caller.token_id, caller.session_id) if caller.session_id else (caller.token_id,)


# --- inside a read transaction -------------------------------------------------------------------


def look_up(tx: ReadTx, kind: CredentialKind, digest: bytes) -> Caller:
    """The caller whose secret has this hash. Raises the errors of `authenticate`."""
    if kind is CredentialKind.JOIN:
        return _join(tx, digest)
    row = tx.token_by_hash(digest)
    if row is None or not hmac.compare_digest(row.secret_hash, digest) or row.kind != _KINDS[kind]:
        raise _unknown()
    try:
        check_row(tx, row)
    except BridleError as error:
        raise DeadTokenError(error, row.token_id) from None
    return Caller(
        kind=kind,
        token_id=row.token_id,
        principal=_principal(tx, row),
        workspace=row.workspace,
        rights=row.rights,
        expire_time=row.expire_time,
        session_id=row.session_id,
        run=row.run,
        host_id=row.host_id,
    )


def check_row(tx: ReadTx, row: TokenRow) -> None:
    """Raises TOKEN_REVOKED or TOKEN_EXPIRED for a token that is no longer good."""
    if row.revoke_time:
        raise _revoked()
    if 0 < row.expire_time <= tx.now:
        raise _expired()
    if row.kind is TokenKind.SESSION:
        session = tx.session(row.session_id)
        if session is None or session.run != row.run or not _lives(session):
            raise _revoked()  # it died with its run
    if row.kind is TokenKind.HOST and tx.host(row.host_id) is None:
        raise _revoked()


def _lives(session: SessionRow) -> bool:
    return session_pb2.Phase.ValueType(session.phase) in decisions.LIVE


def still_good(tx: ReadTx, token_id: str) -> BridleError | None:
    """What is wrong with a token that was good when its stream began; None: nothing."""
    row = tx.token(token_id)
    if row is None:
        return _revoked()
    try:
        check_row(tx, row)
    except BridleError as error:
        return error
    return None


def _join(tx: ReadTx, digest: bytes) -> Caller:
    row = tx.join_token_by_hash(digest)
    if row is None or not hmac.compare_digest(row.secret_hash, digest):
        raise _unknown()
    if row.use_time:
        raise BridleError(Reason.TOKEN_INVALID, "the join token was used; get a new one")
    if row.expire_time <= tx.now:
        raise _expired()
    return Caller(
        kind=CredentialKind.JOIN,
        token_id=row.join_token_id,
        principal=principal_pb2.Principal(
            kind=principal_pb2.PRINCIPAL_KIND_HOST, id=row.join_token_id
        ),
        workspace=row.workspace,
        rights=(),
        expire_time=row.expire_time,
    )


def _principal(tx: ReadTx, row: TokenRow) -> principal_pb2.Principal:
    if row.kind is TokenKind.SESSION:
        kind, identity = principal_pb2.PRINCIPAL_KIND_SESSION, row.session_id
    elif row.kind is TokenKind.HOST:
        kind, identity = principal_pb2.PRINCIPAL_KIND_HOST, row.host_id
    else:
        kind, identity = principal_pb2.PRINCIPAL_KIND_USER, row.token_id
    return principal_pb2.Principal(kind=kind, id=identity, name=row.name)
