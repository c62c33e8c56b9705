"""Inputs: Send, ListInputs, CancelInput.

A Send is one commit {receipt, input, InputQueued}: that event's sequence is the order of the queue.
Only the host consumes; control cancels an input itself only where no run lives.
"""

from __future__ import annotations

from dataclasses import replace

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle.v1 import input_pb2, receipt_pb2, session_service_pb2
from bridle_control import caller as callers
from bridle_control import outcomes
from bridle_control.caller import Caller, session_of
from bridle_control.decisions import ENDED, Verdict
from bridle_control.filters import (
    Choice,
    Fields,
    Order,
    decode_page_token,
    encode_page_token,
    invalid,
    parse_filter,
    parse_order,
    store_terms,
)
from bridle_control.ids import uuid7
from bridle_control.interceptor import Context
from bridle_control.projection import Projection
from bridle_control.receipts import RequestKey, find_known, new_command, request_key
from bridle_control.render import to_input
from bridle_control.service.base import Verbs, check, insert, nanoseconds
from bridle_control.service.launching import Reach, Wish, resume
from bridle_control.service.queueing import (
    NewInput,
    check_input,
    delivery,
    expiry,
    queue_input,
)
from bridle_control.store.api import CommandRow, InputRow, ReadTx, SessionRow, Tx
from bridle_core.errors import BridleError, Reason
from bridle_core.transcript import Transcript

_FIELDS: Fields = {
    "state": Choice.of(input_pb2.InputState.items(), "INPUT_STATE_"),
    "mode": Choice.of(input_pb2.InputMode.items(), "INPUT_MODE_"),
}
_BY_SEQUENCE = Order("sequence")
_PAGE = 100


class InputVerbs(Verbs):
    """See the module."""

    async def Send(
        self, request: session_service_pb2.SendRequest, context: Context
    ) -> session_service_pb2.SendResponse:
        """Gives the agent an input."""
        caller = callers.current()
        scope = request.session.workspace or caller.own_workspace
        key = request_key("Send", request, scope=scope, caller=caller)
        reach = Reach(self._links.live_hosts())
        said = Transcript()
        if request.resume_if_ended:
            said = await self.transcript(caller, request.session, ended=True)

        def accept(tx: Tx) -> CommandRow:
            return find_known(tx, key) or _send(tx, key, caller, request, reach, said)

        row = await self._store.write(accept)
        return session_service_pb2.SendResponse(receipt=await self.receipt(row, context))

    async def CancelInput(
        self, request: session_service_pb2.CancelInputRequest, context: Context
    ) -> session_service_pb2.CancelInputResponse:
        """Cancels an input that waits."""
        caller = callers.current()
        scope = request.session.workspace or caller.own_workspace
        key = request_key("CancelInput", request, scope=scope, caller=caller)
        reach = Reach(self._links.live_hosts())

        def accept(tx: Tx) -> CommandRow:
            return find_known(tx, key) or _cancel(tx, key, caller, request, reach)

        row = await self._store.write(accept)
        return session_service_pb2.CancelInputResponse(receipt=await self.receipt(row, context))

    async def ListInputs(
        self, request: session_service_pb2.ListInputsRequest, context: Context
    ) -> session_service_pb2.ListInputsResponse:
        """A page of a session's inputs, in the order of the queue."""
        caller = callers.current()
        terms = store_terms(parse_filter(request.filter, _FIELDS))
        order = parse_order(request.order_by, ("sequence",), _BY_SEQUENCE)
        size = request.page_size or _PAGE

        def read(tx: ReadTx) -> tuple[list[InputRow], str]:
            session = session_of(tx, caller, request.session)
            question = ("ListInputs", session.session_id, request.filter, request.order_by)
            key = decode_page_token(question, request.page_token)
            after = key[0] if key else 0
            if not isinstance(after, int):
                raise invalid("page_token", "it is none of ours")
            rows = tx.inputs(
                session.session_id,
                terms=terms,
                descending=order.descending,
                after=after,
                limit=size + 1,
            )
            if len(rows) <= size:
                return rows, ""
            return rows[:size], encode_page_token(question, [rows[size - 1].sequence])

        rows, token = await self._store.read(read)
        return session_service_pb2.ListInputsResponse(
            inputs=[to_input(row) for row in rows], next_page_token=token
        )


# ---------------------------------------------------------------- inside a transaction


def _send(
    tx: Tx,
    key: RequestKey,
    caller: Caller,
    request: session_service_pb2.SendRequest,
    reach: Reach,
    said: Transcript,
) -> CommandRow:
    projection = Projection(tx)
    row = session_of(tx, caller, request.session)
    parent = ""
    new = NewInput(
        tuple(request.content),
        request.mode or input_pb2.INPUT_MODE_QUEUE,
        request.or_queue,
        _expiry(tx, row, request),
    )
    if row.phase in ENDED and request.resume_if_ended:
        check_input(tx, row, new)
        opened, row = resume(projection, key, caller, row, Wish(transcript=said), reach, inner=True)
        parent = opened.command_id
    else:
        check(tx, receipt_pb2.VERB_SEND, row)
        check_input(tx, row, new)
    command_id = uuid7(tx.now)
    made = queue_input(projection, row, key, new, command_id=command_id)
    command = new_command(
        tx,
        key,
        verb=receipt_pb2.VERB_SEND,
        command_id=command_id,
        session_id=row.session_id,
        run=row.run,
        host_id=row.host_id,
        expire_time=made.expire_time,
        action=delivery(made).SerializeToString(deterministic=True),
        input_id=made.input_id,
        sequence=made.sequence,
    )
    command = insert(tx, replace(command, parent_command_id=parent), live=reach.has(row.host_id))
    projection.flush()
    return command


def _expiry(tx: Tx, row: SessionRow, request: session_service_pb2.SendRequest) -> int:
    if not request.HasField("time_to_live"):
        return expiry(tx, row)
    ttl = nanoseconds(request.time_to_live)
    return tx.now + ttl if ttl else 0


def _cancel(
    tx: Tx,
    key: RequestKey,
    caller: Caller,
    request: session_service_pb2.CancelInputRequest,
    reach: Reach,
) -> CommandRow:
    row = session_of(tx, caller, request.session)
    sent = tx.input(request.input_id)
    if sent is None or sent.session_id != row.session_id:
        raise BridleError(
            Reason.INPUT_NOT_FOUND,
            f'no input "{request.input_id}" in the session "{row.slug}"',
            metadata={"input": request.input_id},
        )
    verdict = check(tx, receipt_pb2.VERB_CANCEL_INPUT, row)
    outcome: receipt_pb2.Outcome | None = None
    action = wire.Command(cancel=wire.CancelInput(input_id=sent.input_id))
    if sent.state != input_pb2.INPUT_STATE_WAITING or verdict is Verdict.BY_CONTROL:
        outcome = _cancelled(tx, key, row, sent)
    command = new_command(
        tx,
        key,
        verb=receipt_pb2.VERB_CANCEL_INPUT,
        outcome=outcome,
        session_id=row.session_id,
        run=row.run,
        host_id=row.host_id,
        action=b"" if outcome else action.SerializeToString(deterministic=True),
        input_id=sent.input_id,
    )
    return insert(tx, command, live=reach.has(row.host_id))


def _cancelled(tx: Tx, key: RequestKey, row: SessionRow, sent: InputRow) -> receipt_pb2.Outcome:
    """What comes of it where no host has a say: the input is decided already, or no run lives."""
    if sent.state == input_pb2.INPUT_STATE_CONSUMED:
        bringer = tx.command(sent.command_id)
        met = (
            outcomes.outcome_of(bringer).reason
            if bringer is not None
            else receipt_pb2.OUTCOME_REASON_TURN_STARTED
        )
        return outcomes.decided(
            tx.now, outcomes.NOT_RUN, met, turn=sent.turn, input_id=sent.input_id
        )
    if sent.state == input_pb2.INPUT_STATE_WAITING:
        projection = Projection(tx)
        requested = input_pb2.CANCEL_REASON_REQUESTED
        projection.cancel_input(row, sent.input_id, requested, key.principal)
        projection.flush()
    done = receipt_pb2.OUTCOME_REASON_INPUT_CANCELLED
    return outcomes.decided(tx.now, outcomes.RAN, done, input_id=sent.input_id)
