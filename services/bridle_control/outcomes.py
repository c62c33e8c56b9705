"""Outcomes of commands: how they are made, how a row takes one, which are errors of the call.

Pure functions over rows. Called by the verbs, the projection and the links.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bridle.v1 import receipt_pb2
from bridle_control.receipts import timestamp
from bridle_control.store.api import CommandRow, CommandState
from bridle_core.errors import BridleError, Reason

PENDING = receipt_pb2.OUTCOME_STATE_PENDING
RAN = receipt_pb2.OUTCOME_STATE_RAN
NOT_RUN = receipt_pb2.OUTCOME_STATE_NOT_RUN
UNKNOWN = receipt_pb2.OUTCOME_STATE_UNKNOWN


def decided(
    now_ns: int,
    state: receipt_pb2.OutcomeState.ValueType,
    reason: receipt_pb2.OutcomeReason.ValueType,
    *,
    turn: int = 0,
    input_id: str = "",
    error: Reason | None = None,
    message: str = "",
) -> receipt_pb2.Outcome:
    """An outcome that is decided now."""
    return receipt_pb2.Outcome(
        state=state,
        reason=reason,
        turn=turn,
        input_id=input_id,
        decide_time=timestamp(now_ns),
        error_reason=error or "",
        message=message,
    )


def outcome_of(row: CommandRow) -> receipt_pb2.Outcome:
    """The outcome in a row."""
    outcome = receipt_pb2.Outcome()
    outcome.ParseFromString(row.outcome)
    return outcome


def settle(
    row: CommandRow,
    outcome: receipt_pb2.Outcome,
    *,
    metadata: Mapping[str, str] | None = None,
) -> CommandRow:
    """The row with this outcome: ANSWERED while it is PENDING, else DONE.

    What was to be done is dropped with the first answer: it is never handed over again.
    """
    pending = outcome.state == PENDING
    return replace(
        row,
        state=CommandState.ANSWERED if pending else CommandState.DONE,
        outcome=outcome.SerializeToString(deterministic=True),
        error_metadata=dict(metadata or {}),
        action=b"",
    )


def supersedes(row: CommandRow, outcome: receipt_pb2.Outcome) -> bool:
    """Whether a host's answer counts for a row that has come as far as it has.

    A row that is DONE was decided by control (a withdrawal, an expiry, a run's end), or by events
    that the host wrote. The host knows better: its final answer is the truth. But what it merely
    has in work can't undo a decision. And UNKNOWN stays: with it the run was given up or what hung
    on the command was closed, so that the log would know nothing of what the host tells now.
    """
    if row.state < CommandState.DONE:
        return True
    return outcome.state != PENDING and outcome_of(row).state != UNKNOWN


def error_of(row: CommandRow) -> BridleError | None:
    """The error that the caller of this command gets instead of a receipt; None for a receipt.

    The same for every repeat of the request: it is made from the row.
    """
    outcome = outcome_of(row)
    if outcome.state != NOT_RUN:
        return None
    if row.verb == receipt_pb2.VERB_INTERRUPT and outcome.reason == (
        receipt_pb2.OUTCOME_REASON_EXPIRED
    ):
        return BridleError(
            Reason.HOST_UNREACHABLE,
            "the session's host did not answer in time; the interrupt was withdrawn",
            metadata={"command": row.command_id, "host": row.host_id},
        )
    if not outcome.error_reason:
        return None
    try:
        reason = Reason(outcome.error_reason)
    except ValueError:
        # A newer host knows reasons that we don't; what it means for the caller is this.
        reason = Reason.START_FAILED
    text = outcome.message or "the session's host refused"
    return BridleError(reason, text, metadata=row.error_metadata)
