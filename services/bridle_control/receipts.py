"""Receipts, and the rule that makes a request safe to repeat.

Every verb that changes something goes through here, inside its own write transaction:

    key = request_key("Send", request, scope=workspace, caller=caller)  # before the transaction
    def accept(tx: Tx) -> CommandRow:
        if known := find_known(tx, key):      # the first thing in fn: a repeat, as it is by now
            return known
        ...                                   # decide, write rows
        return tx.insert_command(new_command(tx, key, verb=VERB_SEND, ...))
    row = await store.write(accept)
    return SendResponse(receipt=to_receipt(row))

The same id with the same body gets the row that is there, over restarts; with another body
REQUEST_ID_REUSED; an id whose own time is more than 7 days ago and that is not known (any more)
REQUEST_ID_EXPIRED, never run. Rows are kept for 8 days (store.api.RECEIPT_RETENTION_NS): an id may
tell a time up to a day ahead of control's clock.

This module reads and writes nothing but command rows.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from bridle.v1 import receipt_pb2
from bridle_control.caller import Caller
from bridle_control.filters import invalid
from bridle_control.ids import uuid7, uuid7_time
from bridle_control.store.api import CommandRow, CommandState, ReadTx
from bridle_control.telemetry import place
from bridle_core.errors import BridleError, Reason

_DAY_NS = 24 * 3600 * 10**9
#: How old the time in an unknown request id may be.
REMEMBERED_NS = 7 * _DAY_NS
#: How far ahead of control's clock it may be.
AHEAD_NS = _DAY_NS


@dataclass(frozen=True, slots=True)
class RequestKey:
    """What makes two requests the same one, and who asked."""

    #: The workspace that the request is about; "" for none.
    scope: str
    #: Who asked; two tokens are two principals.
    principal_key: str
    #: The caller's id in its canonical form, or one that was made here.
    request_id: str
    #: When the caller made the id, in ns since the epoch; None: it was made here.
    id_time: int | None
    #: SHA-256 of the method and the body without the id.
    request_hash: bytes
    #: The serialized Principal.
    principal: bytes
    #: Where the request stands in its caller's trace; no part of what makes it the same.
    trace: bytes = b""


def request_key(method: str, request: Message, *, scope: str, caller: Caller) -> RequestKey:
    """The key of a request; `method` is the RPC's short name ("Send").

    `request` has a field `request_id`. Raises INVALID_REQUEST for an id of another version.
    """
    text: str = getattr(request, "request_id")  # noqa: B009 (its type has no such name)
    if text:
        value = uuid.UUID(text)
        id_time = uuid7_time(value)
        if id_time is None:
            raise invalid("request_id", "must be a UUID of version 7")
        request_id = str(value)
    else:
        request_id, id_time = uuid7(), None
    return RequestKey(
        scope=scope,
        principal_key=caller.key,
        request_id=request_id,
        id_time=id_time,
        request_hash=hash_of(method, request),
        principal=caller.principal.SerializeToString(deterministic=True),
        trace=place.current(),
    )


def hash_of(method: str, request: Message) -> bytes:
    """SHA-256 of the method and of the request's deterministic bytes without its id."""
    bare = type(request)()
    bare.CopyFrom(request)
    bare.ClearField("request_id")
    body = bare.SerializeToString(deterministic=True)
    return hashlib.sha256(method.encode() + b"\0" + body).digest()


def find_known(tx: ReadTx, key: RequestKey) -> CommandRow | None:
    """The row of the same request, if it came before; the first thing in a verb's transaction.

    Raises REQUEST_ID_REUSED, REQUEST_ID_EXPIRED, or INVALID_REQUEST for an id from the future.
    """
    if key.id_time is None:
        return None
    row = tx.command_by_request(key.scope, key.principal_key, key.request_id)
    if row is None:
        if key.id_time < tx.now - REMEMBERED_NS:
            raise BridleError(
                Reason.REQUEST_ID_EXPIRED,
                f"request id {key.request_id} is older than 7 days; make a new one",
                metadata={"request_id": key.request_id},
            )
        if key.id_time > tx.now + AHEAD_NS:
            raise invalid("request_id", "its time is more than a day ahead of control's clock")
        return None
    if row.request_hash != key.request_hash:
        raise BridleError(
            Reason.REQUEST_ID_REUSED,
            f"request id {key.request_id} came before with another request",
            metadata={"request_id": key.request_id},
        )
    return row


def new_command(
    tx: ReadTx,
    key: RequestKey,
    *,
    verb: receipt_pb2.Verb.ValueType,
    outcome: receipt_pb2.Outcome | None = None,
    session_id: str = "",
    run: int = 0,
    host_id: str = "",
    expire_time: int = 0,
    action: bytes = b"",
    input_id: str = "",
    sequence: int = 0,
    resource: str = "",
    command_id: str = "",
) -> CommandRow:
    """The row of a request that is accepted now; to be handed to `tx.insert_command`.

    DONE when the outcome is decided, else ACCEPTED; without an outcome PENDING, PENDING_HOST.
    """
    decided = outcome or pending()
    pending_still = decided.state == receipt_pb2.OUTCOME_STATE_PENDING
    return CommandRow(
        command_id=command_id or uuid7(tx.now),
        verb=verb,
        accept_time=tx.now,
        scope=key.scope,
        principal_key=key.principal_key,
        request_id=key.request_id,
        request_hash=key.request_hash,
        principal=key.principal,
        session_id=session_id,
        run=run,
        host_id=host_id,
        expire_time=expire_time,
        action=action,
        state=CommandState.ACCEPTED if pending_still else CommandState.DONE,
        outcome=decided.SerializeToString(deterministic=True),
        input_id=input_id,
        sequence=sequence,
        resource=resource,
        trace=key.trace,
    )


def pending(
    reason: receipt_pb2.OutcomeReason.ValueType = receipt_pb2.OUTCOME_REASON_PENDING_HOST,
) -> receipt_pb2.Outcome:
    """An outcome that is not decided yet."""
    return receipt_pb2.Outcome(state=receipt_pb2.OUTCOME_STATE_PENDING, reason=reason)


def ran(
    now_ns: int, reason: receipt_pb2.OutcomeReason.ValueType = receipt_pb2.OUTCOME_REASON_DONE
) -> receipt_pb2.Outcome:
    """An outcome RAN that is decided now."""
    return receipt_pb2.Outcome(
        state=receipt_pb2.OUTCOME_STATE_RAN, reason=reason, decide_time=timestamp(now_ns)
    )


def to_receipt(row: CommandRow) -> receipt_pb2.Receipt:
    """The receipt that a command row is."""
    outcome = receipt_pb2.Outcome()
    outcome.ParseFromString(row.outcome)
    return receipt_pb2.Receipt(
        command_id=row.command_id,
        request_id=row.request_id,
        session_id=row.session_id,
        verb=receipt_pb2.Verb.ValueType(row.verb),
        accept_time=timestamp(row.accept_time),
        sequence=row.sequence,
        input_id=row.input_id,
        outcome=outcome,
    )


def timestamp(nanoseconds: int) -> Timestamp | None:
    """A store's time as a Timestamp; None for 0, which is unset."""
    if not nanoseconds:
        return None
    return Timestamp(seconds=nanoseconds // 10**9, nanos=nanoseconds % 10**9)
