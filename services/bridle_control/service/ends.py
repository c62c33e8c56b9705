"""Interrupt, Stop and Kill: the verbs that end something, alone or with a tree beneath it."""

from __future__ import annotations

from collections.abc import Callable

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle.v1 import receipt_pb2, session_pb2, session_service_pb2
from bridle_control import caller as callers
from bridle_control import outcomes, tree
from bridle_control.caller import session_of
from bridle_control.commands import INTERRUPT_TTL_NS, STOP_TTL_NS
from bridle_control.decisions import LIVE
from bridle_control.interceptor import Context
from bridle_control.projection import Projection
from bridle_control.receipts import RequestKey, find_known, new_command, request_key, to_receipt
from bridle_control.service.base import (
    Verbs,
    check,
    inner_command,
    insert,
    receipts_of,
    rows_of,
    still_there,
)
from bridle_control.service.launching import Reach
from bridle_control.store.api import CommandRow, CommandState, SessionRow, Tx

#: What is to be done with one session, as its row is.
_Action = Callable[[SessionRow], wire.Command]
_Rows = tuple[CommandRow, list[CommandRow]]


class EndVerbs(Verbs):
    """See the module."""

    async def Interrupt(
        self, request: session_service_pb2.InterruptRequest, context: Context
    ) -> session_service_pb2.InterruptResponse:
        """Ends the turn that is on. Withdrawn when the host does not answer in time."""
        caller = callers.current()
        scope = request.session.workspace or caller.own_workspace
        key = request_key("Interrupt", request, scope=scope, caller=caller)
        reach = Reach(self._links.live_hosts())

        def accept(tx: Tx) -> _Rows:
            if known := find_known(tx, key):
                return rows_of(tx, known)
            row = session_of(tx, caller, request.session)
            check(tx, receipt_pb2.VERB_INTERRUPT, row)
            beneath = tree.live_beneath(tx, row) if request.tree else []
            # A turn that is named is the root's own.
            return _order(
                tx,
                key,
                receipt_pb2.VERB_INTERRUPT,
                row,
                beneath,
                reach,
                lambda each: _interrupt(request, each, reach, named=each is row),
                expire_time=tx.now + INTERRUPT_TTL_NS,
            )

        root, children = await self._store.write(accept, urgent=True)
        root, children = await self._await_all(root, children, context)
        late = [row.command_id for row in (root, *children) if row.state < CommandState.ANSWERED]
        if late:
            await self._commands.withdraw(late)
            ids = [row.command_id for row in (root, *children)]
            rows = await self._store.read(lambda tx: [tx.command(each) for each in ids])
            root, children = (
                still_there(rows[0], root),
                [row for row in rows[1:] if row is not None],
            )
        error = outcomes.error_of(root)
        if error is not None:
            raise error
        return session_service_pb2.InterruptResponse(
            receipt=to_receipt(root), children=receipts_of(children)
        )

    async def Stop(
        self, request: session_service_pb2.StopRequest, context: Context
    ) -> session_service_pb2.StopResponse:
        """Lets a session end."""
        caller = callers.current()
        scope = request.session.workspace or caller.own_workspace
        key = request_key("Stop", request, scope=scope, caller=caller)
        reach = Reach(self._links.live_hosts())
        stop = wire.StopRun(reason=session_pb2.END_REASON_STOP_REQUESTED)
        if request.HasField("grace"):
            stop.grace.CopyFrom(request.grace)

        def accept(tx: Tx) -> _Rows:
            if known := find_known(tx, key):
                return rows_of(tx, known)
            row = session_of(tx, caller, request.session)
            beneath = tree.live_beneath(tx, row) if request.tree else []
            return _order(
                tx,
                key,
                receipt_pb2.VERB_STOP,
                row,
                beneath,
                reach,
                lambda _: wire.Command(stop=stop),
                expire_time=tx.now + STOP_TTL_NS,
            )

        root, children = await self._store.write(accept, urgent=True)
        root, children = await self._await_all(root, children, context)
        return session_service_pb2.StopResponse(
            receipt=to_receipt(root), children=receipts_of(children)
        )

    async def Kill(
        self, request: session_service_pb2.KillRequest, context: Context
    ) -> session_service_pb2.KillResponse:
        """Ends a session and all beneath it now, leaves first."""
        caller = callers.current()
        scope = request.session.workspace or caller.own_workspace
        key = request_key("Kill", request, scope=scope, caller=caller)
        reach = Reach(self._links.live_hosts())

        def accept(tx: Tx) -> _Rows:
            if known := find_known(tx, key):
                return rows_of(tx, known)
            row = session_of(tx, caller, request.session)
            beneath = tree.live_beneath(tx, row)
            projection = Projection(tx)
            # In this one commit with the kills: nothing can be started beneath them from here on.
            tree.close(projection, [each for each in (*beneath, row) if _lives(each)])
            projection.flush()
            return _order(
                tx,
                key,
                receipt_pb2.VERB_KILL,
                row,
                beneath,
                reach,
                lambda _: wire.Command(kill=wire.KillRun()),
                expire_time=tx.now + STOP_TTL_NS,
            )

        root, children = await self._store.write(accept, urgent=True)
        root, children = await self._await_all(root, children, context)
        return session_service_pb2.KillResponse(
            receipt=to_receipt(root), children=receipts_of(children)
        )

    async def _await_all(
        self, root: CommandRow, children: list[CommandRow], context: Context
    ) -> _Rows:
        """Waits for the root's answer; then, with what is left of the budget, for the others'."""
        until = self._commands.budget_ends(context)
        row = await self._commands.answered(root, until - self._commands.now())
        root = still_there(row, root)
        answered = [
            await self._commands.answered(row, until - self._commands.now(), stale=True) or row
            for row in children
        ]
        return root, answered


# ---------------------------------------------------------------- inside a transaction


def _lives(row: SessionRow) -> bool:
    return row.phase in LIVE


def _order(
    tx: Tx,
    key: RequestKey,
    verb: receipt_pb2.Verb.ValueType,
    row: SessionRow,
    beneath: list[SessionRow],
    reach: Reach,
    action: _Action,
    *,
    expire_time: int,
) -> _Rows:
    """Writes one command for each session, leaves first, so that hosts get them in that order."""
    outcome = None
    if not _lives(row):
        already = receipt_pb2.OUTCOME_REASON_ALREADY_ENDED
        outcome = outcomes.decided(tx.now, outcomes.RAN, already)
    ended = outcome is not None
    root = new_command(
        tx,
        key,
        verb=verb,
        outcome=outcome,
        session_id=row.session_id,
        run=row.run,
        host_id=row.host_id,
        expire_time=0 if ended else expire_time,
        action=b"" if ended else action(row).SerializeToString(deterministic=True),
    )
    children = [
        tx.insert_command(
            inner_command(
                tx,
                key,
                each,
                verb,
                action(each),
                live=reach.has(each.host_id),
                parent=root.command_id,
                expire_time=expire_time,
            )
        )
        for each in beneath
    ]
    return insert(tx, root, live=reach.has(row.host_id)), children


def _interrupt(
    request: session_service_pb2.InterruptRequest, row: SessionRow, reach: Reach, *, named: bool
) -> wire.Command:
    made = wire.InterruptTurn(after=request.after, include_background=request.include_background)
    if named and request.HasField("turn"):
        made.turn = request.turn
    elif row.turn_open and not reach.has(row.host_id):
        # The host may come back in a later turn: meant is the last one that was known here.
        made.turn = row.turn
    if request.HasField("grace"):
        made.grace.CopyFrom(request.grace)
    return wire.Command(interrupt=made)
