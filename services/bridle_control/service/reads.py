"""What only reads: GetSession, ListSessions, ListEvents, GetCommand."""

from __future__ import annotations

from collections.abc import Sequence

from bridle.v1 import event_pb2, session_pb2, session_service_pb2
from bridle_control import caller as callers
from bridle_control.approvals import open_approvals
from bridle_control.caller import Caller, may_see, session_of, workspace_of
from bridle_control.deadlines import HasDeadline
from bridle_control.filters import (
    Choice,
    Fields,
    Kind,
    Order,
    decode_page_token,
    encode_page_token,
    invalid,
    parse_filter,
    parse_order,
    store_terms,
)
from bridle_control.interceptor import Context
from bridle_control.receipts import to_receipt
from bridle_control.service.base import Verbs, nanoseconds
from bridle_control.store.api import (
    SESSION_ORDERS,
    CommandRow,
    EventSlice,
    PageKey,
    ReadTx,
    SessionPage,
    SessionRow,
    Term,
)
from bridle_control.store.event_bytes import unframe
from bridle_control.watch.channel import cursor_compacted
from bridle_core.errors import BridleError, Reason
from bridle_core.rights import CredentialKind

_SESSION_FIELDS: Fields = {
    "phase": Choice.of(session_pb2.Phase.items(), "PHASE_"),
    "agent": Kind.TEXT,
    "live": Kind.BOOLEAN,
    "parent_session_id": Kind.TEXT,
    "host_id": Kind.TEXT,
    "slug": Kind.TEXT,
    "queue_state": Choice.of(session_pb2.QueueState.items(), "QUEUE_STATE_"),
    "end_reason": Choice.of(session_pb2.EndReason.items(), "END_REASON_"),
    "title": Kind.TEXT,
    "closing": Kind.BOOLEAN,
    "labels.": Kind.TEXT,
}
_EVENT_FIELDS: Fields = {
    "kind": Choice.of(event_pb2.EventKind.items(), "EVENT_KIND_"),
    "turn": Kind.INTEGER,
    "run": Kind.INTEGER,
}
_NEWEST = Order("create_time", descending=True)
_BY_SEQUENCE = Order("sequence")
_PAGE = 100
#: A page of events ends at so many bytes.
_PAGE_BYTES = 2 * 1024 * 1024


class Reads(Verbs):
    """See the module."""

    async def GetSession(
        self, request: session_service_pb2.GetSessionRequest, context: Context
    ) -> session_service_pb2.GetSessionResponse:
        """One session, and what its open approvals ask for."""
        caller = callers.current()

        def read(tx: ReadTx) -> tuple[SessionRow, list[session_service_pb2.OpenApproval]]:
            row = session_of(tx, caller, request.session)
            return row, open_approvals(tx, row)

        row, approvals = await self._store.read(read)
        return session_service_pb2.GetSessionResponse(session=self.render(row), approvals=approvals)

    async def ListSessions(
        self, request: session_service_pb2.ListSessionsRequest, context: Context
    ) -> session_service_pb2.ListSessionsResponse:
        """A page of sessions; to a session's own token, of its own and those beneath it."""
        caller = callers.current()
        terms = session_terms(request.filter)
        order = parse_order(request.order_by, SESSION_ORDERS, _NEWEST)
        size = request.page_size or _PAGE

        def read(tx: ReadTx) -> tuple[SessionPage, tuple[str, ...]]:
            workspace = workspace_of(tx, caller, request.workspace)
            question = ("ListSessions", workspace, request.filter, request.order_by)
            after = _page_key(decode_page_token(question, request.page_token), order)
            if caller.kind is CredentialKind.SESSION:
                found = _own(tx, caller, workspace, terms, order, after, size)
            else:
                found = tx.sessions(
                    workspace,
                    terms=terms,
                    order=order.field,
                    descending=order.descending,
                    after=after,
                    limit=size,
                )
            return found, question

        page, question = await self._store.read(read)
        token = encode_page_token(question, page.next_key) if page.next_key else ""
        return session_service_pb2.ListSessionsResponse(
            sessions=[self.render(row) for row in page.sessions], next_page_token=token
        )

    async def ListEvents(
        self, request: session_service_pb2.ListEventsRequest, context: Context
    ) -> session_service_pb2.ListEventsResponse:
        """A page of a session's log."""
        caller = callers.current()
        terms = store_terms(parse_filter(request.filter, _EVENT_FIELDS))
        order = parse_order(request.order_by, ("sequence",), _BY_SEQUENCE)

        def read(tx: ReadTx) -> tuple[str, EventSlice, tuple[str, ...]]:
            row = session_of(tx, caller, request.session)
            question = (
                "ListEvents",
                row.session_id,
                request.filter,
                request.order_by,
                str(request.after_sequence),
            )
            after = _cursor(decode_page_token(question, request.page_token), request, row, order)
            found = tx.events(
                row.session_id,
                after,
                terms=terms,
                descending=order.descending,
                limit=request.page_size or _PAGE,
                max_bytes=_PAGE_BYTES,
            )
            return row.session_id, found, question

        session_id, found, question = await self._store.read(read)
        return session_service_pb2.ListEventsResponse(
            events=[event_pb2.Event.FromString(unframe(framed)) for framed in found.framed],
            next_page_token=encode_page_token(question, [found.scanned]) if found.more else "",
            log_id=self._store.log_id,
            session_id=session_id,
        )

    async def GetCommand(
        self, request: session_service_pb2.GetCommandRequest, context: Context
    ) -> session_service_pb2.GetCommandResponse:
        """A receipt, as it is now or once its outcome is decided."""
        caller = callers.current()
        row = await self._store.read(lambda tx: _command(tx, caller, request))
        wait = nanoseconds(request.wait) / 1e9
        row = await self._commands.done(row, min(wait, _patience(context))) or row
        return session_service_pb2.GetCommandResponse(receipt=to_receipt(row))


def _patience(context: HasDeadline) -> float:
    """Seconds that a call may wait beyond the limit of unary ones: there must be time to answer."""
    remaining = context.time_remaining()
    if remaining is None:
        return float("inf")
    return max(0.0, remaining - max(0.1, remaining * 0.1))


# ---------------------------------------------------------------- filters and pages


def session_terms(text: str) -> list[Term]:
    """The terms of a filter of sessions, as the store takes them."""
    return store_terms(parse_filter(text, _SESSION_FIELDS))


def _page_key(key: tuple[str | int, ...] | None, order: Order) -> PageKey | None:
    if key is None:
        return None
    kind = str if order.field == "slug" else int
    if len(key) != 2 or not isinstance(key[0], kind) or not isinstance(key[1], str):
        raise invalid("page_token", "it is none of ours")
    return key[0], key[1]


def _own(
    tx: ReadTx,
    caller: Caller,
    workspace: str,
    terms: Sequence[Term],
    order: Order,
    after: PageKey | None,
    size: int,
) -> SessionPage:
    """A page of what a session's own token may see. A subtree is small: it is read whole."""
    own = tx.session(caller.session_id)
    rows = [row for row in (own, *tx.subtree(caller.session_id)) if row is not None]
    keyed: list[tuple[PageKey, SessionRow]] = []
    for row in rows:
        if tx.session_matches(row.session_id, workspace, terms):
            value: str | int = getattr(row, order.field)
            keyed.append(((value, row.session_id), row))
    keyed.sort(key=lambda pair: pair[0], reverse=order.descending)
    if after is not None and order.descending:
        keyed = [pair for pair in keyed if pair[0] < after]
    elif after is not None:
        keyed = [pair for pair in keyed if pair[0] > after]
    page = keyed[:size]
    next_key = page[-1][0] if len(keyed) > size else None
    return SessionPage(tuple(row for _, row in page), next_key)


def _cursor(
    key: tuple[str | int, ...] | None,
    request: session_service_pb2.ListEventsRequest,
    row: SessionRow,
    order: Order,
) -> int:
    """Where the page begins. Raises CURSOR_COMPACTED."""
    after = request.after_sequence
    if key is not None:
        if len(key) != 1 or not isinstance(key[0], int):
            raise invalid("page_token", "it is none of ours")
        after = key[0]
    # Of a next page too: the floor may have risen above it since the one before it.
    if not order.descending and 0 < after < row.floor_sequence - 1:
        raise cursor_compacted(row.session_id, row.floor_sequence)
    return after


# ---------------------------------------------------------------- GetCommand


def _command(
    tx: ReadTx, caller: Caller, request: session_service_pb2.GetCommandRequest
) -> CommandRow:
    """The command, if it is the caller's to see: of its workspace, of a session that it may see,
    or its own request. Raises COMMAND_NOT_FOUND."""
    workspace = workspace_of(tx, caller, request.workspace)
    if request.WhichOneof("command") == "command_id":
        name = request.command_id
        row = tx.command(name)
    else:
        name = request.request_id.lower()
        # (Requests about no workspace, such as CreateWorkspace, have the scope "".)
        row = tx.command_by_request(workspace, caller.key, name) or tx.command_by_request(
            "", caller.key, name
        )
    if row is None or not _is_visible(tx, caller, workspace, row):
        raise BridleError(
            Reason.COMMAND_NOT_FOUND,
            f'no command "{name}" in workspace "{workspace}"',
            metadata={"command": name},
        )
    return row


def _is_visible(tx: ReadTx, caller: Caller, workspace: str, row: CommandRow) -> bool:
    if row.principal_key == caller.key and row.scope in (workspace, ""):
        return True
    if row.scope != workspace or not row.session_id:
        return False
    return may_see(tx, caller, row.session_id)
