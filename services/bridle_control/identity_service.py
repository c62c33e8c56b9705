"""IdentityService: who calls, tokens, workspaces.

The comments of identity_service.proto are the specification. Each verb is one write transaction
that begins with the check for a repeat (see `receipts`). Registered by `app`; the interceptor has
checked the caller's right and the request's rules before.
"""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.duration_pb2 import Duration

from bridle.v1 import (
    identity_pb2,
    identity_service_pb2,
    identity_service_pb2_grpc,
    receipt_pb2,
)
from bridle_control import caller as callers
from bridle_control.caller import Caller, workspace_of
from bridle_control.filters import (
    Fields,
    Kind,
    Order,
    Value,
    invalid,
    matches,
    page,
    parse_filter,
    parse_order,
)
from bridle_control.interceptor import Context
from bridle_control.receipts import (
    RequestKey,
    find_known,
    new_command,
    ran,
    request_key,
    timestamp,
    to_receipt,
)
from bridle_control.store.api import (
    CommandRow,
    ReadTx,
    Store,
    TokenRow,
    Tx,
    WorkspaceRow,
)
from bridle_control.tokens import mint_user_token, to_token
from bridle_core.errors import BridleError, FieldViolation, Reason
from bridle_core.rights import GRANTABLE, narrows
from bridle_core.version import VERSION

_DAY_NS = 24 * 3600 * 10**9
#: How long a token is good where the request does not say.
DEFAULT_TTL_NS = 90 * _DAY_NS
# Longer than that is what "for ever" is for, and the store's times are 64 bits of nanoseconds.
_TTL_MAX_NS = 36_500 * _DAY_NS

_TOKEN_FIELDS: Fields = {"name": Kind.TEXT, "revoked": Kind.BOOLEAN}
_WORKSPACE_FIELDS: Fields = {"name": Kind.TEXT}
_ORDERS = ("name", "create_time")
_BY_NAME = Order("name")


class IdentityService(identity_service_pb2_grpc.IdentityServiceServicer):
    """See the module."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def WhoAmI(
        self, request: identity_service_pb2.WhoAmIRequest, context: Context
    ) -> identity_service_pb2.WhoAmIResponse:
        """The caller as its token tells."""
        caller = callers.current()
        row = await self._store.read(lambda tx: tx.token(caller.token_id))
        return identity_service_pb2.WhoAmIResponse(
            principal=caller.principal,
            token=to_token(row) if row is not None else None,
            session_id=caller.session_id,
            control_version=VERSION,
        )

    # -- tokens

    async def CreateToken(
        self, request: identity_service_pb2.CreateTokenRequest, context: Context
    ) -> identity_service_pb2.CreateTokenResponse:
        """Makes a token; its secret is in the first answer alone."""
        caller = callers.current()
        _check_rights(caller, request.rights)
        ttl = _ttl(request.time_to_live if request.HasField("time_to_live") else None)
        if request.all_workspaces:
            if request.workspace:
                raise invalid("workspace", "must be empty with all_workspaces")
            _needs_all_workspaces(caller, "token.create")

        def create(tx: Tx) -> tuple[CommandRow, str]:
            workspace = (
                "" if request.all_workspaces else workspace_of(tx, caller, request.workspace)
            )
            key = request_key("CreateToken", request, scope=workspace, caller=caller)
            if known := find_known(tx, key):
                return known, ""
            _check_name(tx, workspace, request.name)
            minted = mint_user_token(
                tx,
                workspace=workspace,
                name=request.name,
                rights=tuple(request.rights),
                expire_time=_expire_time(tx, caller, request, ttl),
                created_by=key.principal,
            )
            row = _done(tx, key, receipt_pb2.VERB_CREATE_TOKEN, minted.token_id)
            return row, minted.secret

        row, secret = await self._store.write(create)
        return identity_service_pb2.CreateTokenResponse(
            receipt=to_receipt(row), token=await self._token(row.resource), secret=secret
        )

    async def ListTokens(
        self, request: identity_service_pb2.ListTokensRequest, context: Context
    ) -> identity_service_pb2.ListTokensResponse:
        """A page of the tokens that are good in the workspace (and of those that were)."""
        caller = callers.current()
        terms = parse_filter(request.filter, _TOKEN_FIELDS)
        order = parse_order(request.order_by, _ORDERS, _BY_NAME)

        def read(tx: ReadTx) -> tuple[str, list[TokenRow]]:
            workspace = workspace_of(tx, caller, request.workspace)
            return workspace, _visible_tokens(tx, caller, workspace)

        workspace, rows = await self._store.read(read)
        chosen, next_token = page(
            (row for row in rows if matches(terms, _token_values(row).get)),
            key_of=lambda row: (
                row.name if order.field == "name" else row.create_time,
                row.token_id,
            ),
            descending=order.descending,
            page_size=request.page_size,
            page_token=request.page_token,
            question=("ListTokens", workspace, request.filter, request.order_by),
        )
        return identity_service_pb2.ListTokensResponse(
            tokens=[to_token(row) for row in chosen], next_page_token=next_token
        )

    async def RevokeToken(
        self, request: identity_service_pb2.RevokeTokenRequest, context: Context
    ) -> identity_service_pb2.RevokeTokenResponse:
        """Revokes a token. What it opened ends within 5 s: commits are what `streams` hears."""
        caller = callers.current()

        def revoke(tx: Tx) -> CommandRow:
            workspace = workspace_of(tx, caller, request.workspace)
            key = request_key("RevokeToken", request, scope=workspace, caller=caller)
            if known := find_known(tx, key):
                return known
            token = _find_token(tx, caller, workspace, request.token)
            tx.revoke_token(token.token_id)
            return _done(tx, key, receipt_pb2.VERB_REVOKE_TOKEN, token.token_id)

        # Urgent: taking a token away must work when the store is nearly full.
        row = await self._store.write(revoke, urgent=True)
        return identity_service_pb2.RevokeTokenResponse(
            receipt=to_receipt(row), token=await self._token(row.resource)
        )

    async def _token(self, token_id: str) -> identity_pb2.Token | None:
        row = await self._store.read(lambda tx: tx.token(token_id))
        return to_token(row) if row is not None else None

    # -- workspaces

    async def CreateWorkspace(
        self, request: identity_service_pb2.CreateWorkspaceRequest, context: Context
    ) -> identity_service_pb2.CreateWorkspaceResponse:
        """Makes a workspace."""
        caller = callers.current()
        _needs_all_workspaces(caller, "workspace.create")
        key = request_key("CreateWorkspace", request, scope="", caller=caller)

        def create(tx: Tx) -> tuple[CommandRow, WorkspaceRow | None]:
            if known := find_known(tx, key):
                return known, tx.workspace(known.resource)
            if tx.workspace(request.name) is not None:
                raise _name_taken("workspace", request.name)
            made = WorkspaceRow(request.name, tx.now)
            tx.insert_workspace(made)
            return _done(tx, key, receipt_pb2.VERB_CREATE_WORKSPACE, request.name), made

        row, made = await self._store.write(create)
        return identity_service_pb2.CreateWorkspaceResponse(
            receipt=to_receipt(row),
            workspace=_to_workspace(made) if made is not None else None,
        )

    async def ListWorkspaces(
        self, request: identity_service_pb2.ListWorkspacesRequest, context: Context
    ) -> identity_service_pb2.ListWorkspacesResponse:
        """A page of the workspaces that the caller may see."""
        caller = callers.current()
        terms = parse_filter(request.filter, _WORKSPACE_FIELDS)
        order = parse_order(request.order_by, _ORDERS, _BY_NAME)
        rows = await self._store.read(lambda tx: tx.workspaces())
        visible = (row for row in rows if caller.workspace in ("", row.name))
        chosen, next_token = page(
            (row for row in visible if matches(terms, _workspace_values(row).get)),
            key_of=lambda row: (
                row.name if order.field == "name" else row.create_time,
                row.name,
            ),
            descending=order.descending,
            page_size=request.page_size,
            page_token=request.page_token,
            question=("ListWorkspaces", request.filter, request.order_by),
        )
        return identity_service_pb2.ListWorkspacesResponse(
            workspaces=[_to_workspace(row) for row in chosen], next_page_token=next_token
        )


# --- rules -------------------------------------------------------------------------------------


def _check_rights(caller: Caller, rights: Iterable[str]) -> None:
    """What is asked for must be rights that there are, and that the caller has."""
    unknown = [
        FieldViolation(f"rights[{index}]", f'no right "{right}"')
        for index, right in enumerate(rights)
        if right not in GRANTABLE
    ]
    if unknown:
        raise BridleError(Reason.INVALID_REQUEST, unknown[0].description, fields=unknown)
    for right in rights:
        if not narrows(caller.rights, (right,)):
            raise BridleError(
                Reason.NOT_ALLOWED,
                f"a token can't have more rights than yours: you lack {right}",
                metadata={"right": right},
            )


def _needs_all_workspaces(caller: Caller, right: str) -> None:
    if caller.workspace:
        raise BridleError(
            Reason.NOT_ALLOWED,
            "only a token that belongs to all workspaces may do this",
            metadata={"right": right},
        )


def _ttl(duration: Duration | None) -> int:
    """How long a token is to be good, in ns; 0: for ever."""
    if duration is None:
        return DEFAULT_TTL_NS
    nanoseconds = duration.seconds * 10**9 + duration.nanos
    if nanoseconds > _TTL_MAX_NS:
        raise invalid("time_to_live", "at most 100 years, or 0 for ever")
    return nanoseconds


def _expire_time(
    tx: Tx, caller: Caller, request: identity_service_pb2.CreateTokenRequest, ttl: int
) -> int:
    """When the new token ends, in ns since the epoch, 0: never. Raises NOT_ALLOWED.

    A token that ends could else make one that does not, and whoever stole it would stay.
    """
    wanted = tx.now + ttl if ttl else 0
    if not caller.expire_time or 0 < wanted <= caller.expire_time:
        return wanted
    if not request.HasField("time_to_live"):
        return caller.expire_time
    raise BridleError(
        Reason.NOT_ALLOWED,
        "a token can't be good for longer than yours",
        metadata={"right": "token.create"},
    )


def _check_name(tx: ReadTx, workspace: str, name: str) -> None:
    """Names are unique among live tokens: a name that was revoked or has expired is free."""
    for row in tx.tokens(workspace):
        if row.name == name and not row.revoke_time and not 0 < row.expire_time <= tx.now:
            raise _name_taken("token", name)


def _name_taken(what: str, name: str) -> BridleError:
    return BridleError(
        Reason.NAME_TAKEN, f'there is a {what} "{name}" already', metadata={"name": name}
    )


def _visible_tokens(tx: ReadTx, caller: Caller, workspace: str) -> list[TokenRow]:
    """The workspace's, and to callers of all workspaces those that are good in all."""
    rows = tx.tokens(workspace)
    return rows if caller.workspace else [*rows, *tx.tokens("")]


def _find_token(tx: ReadTx, caller: Caller, workspace: str, name: str) -> TokenRow:
    """By id; else by name, the live one first, then the newest."""
    rows = _visible_tokens(tx, caller, workspace)
    found = [row for row in rows if name in (row.token_id, row.name)]
    if not found:
        raise BridleError(
            Reason.TOKEN_NOT_FOUND,
            f'no token "{name}" in workspace "{workspace}"',
            metadata={"token": name},
        )
    return max(
        found,
        key=lambda row: (
            row.token_id == name,
            not row.revoke_time,
            row.workspace != "",
            row.create_time,
        ),
    )


def _done(tx: Tx, key: RequestKey, verb: receipt_pb2.Verb.ValueType, resource: str) -> CommandRow:
    """The receipt of what was done in this very transaction."""
    command = new_command(tx, key, verb=verb, outcome=ran(tx.now), resource=resource)
    return tx.insert_command(command)


def _token_values(row: TokenRow) -> dict[str, Value]:
    return {"name": row.name, "revoked": bool(row.revoke_time)}


def _workspace_values(row: WorkspaceRow) -> dict[str, Value]:
    return {"name": row.name}


def _to_workspace(row: WorkspaceRow) -> identity_pb2.Workspace:
    return identity_pb2.Workspace(name=row.name, create_time=timestamp(row.create_time))
