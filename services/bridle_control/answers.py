"""What a host's answer to a command makes of the rows.

The host journals an answer for each command (CommandEntry); they come among its Records and are
applied here, inside the transaction that commits those. A start that was refused is taken back as
a whole: that is the other half of "StartSession leaves nothing if the host refuses".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from bridle.v1 import input_pb2, receipt_pb2
from bridle_control import outcomes
from bridle_control.projection import Projection
from bridle_control.store.api import CommandRow, CommandState, SessionBlob, SessionRow
from bridle_core.errors import Reason

_STARTS = frozenset({receipt_pb2.VERB_START, receipt_pb2.VERB_RESUME})

#: What a refused Resume puts back (see `remember`).
_KEPT = ("phase", "run", "host_id", "end_reason", "end_message", "containment", "closing")


def remember(row: SessionRow) -> bytes:
    """The `verb_state` with which a session's row survives a Resume that the host refuses."""
    kept = {name: getattr(row, name) for name in _KEPT}
    kept["capabilities"] = list(row.capabilities)
    return json.dumps(kept).encode()


def answer(
    projection: Projection,
    row: SessionRow,
    command_id: str,
    outcome: receipt_pb2.Outcome,
    metadata: Mapping[str, str],
) -> None:
    """Applies one answer about a command of this session's current run."""
    tx = projection.tx
    command = tx.command(command_id)
    if command is None or command.session_id != row.session_id or command.run != row.run:
        return
    if not outcomes.supersedes(command, outcome):
        return
    if outcome.state != outcomes.PENDING and not outcome.HasField("decide_time"):
        outcome.decide_time.FromNanoseconds(tx.now)
    if command.verb in _STARTS and outcome.state == outcomes.NOT_RUN:
        if not outcome.error_reason:
            # (It came too late: see `handing.START_TTL_NS`.)
            outcome.error_reason = Reason.HOST_UNREACHABLE
            outcome.message = outcome.message or "the start reached the session's host too late"
        settled = outcomes.settle(command, outcome, metadata=metadata)
        if command.state < CommandState.DONE:
            refuse(projection, row, settled)
        return
    if command.verb == receipt_pb2.VERB_SEND:
        if not _deliver(projection, row, command, outcome):
            return
        # The input was delivered again in a later run: its own receipt is another one.
        sent = tx.input(command.input_id)
        first = tx.command(sent.command_id) if sent is not None else None
        if first is not None and first.command_id != command_id:
            tx.update_command(outcomes.settle(first, outcome, metadata=metadata))
    tx.update_command(outcomes.settle(command, outcome, metadata=metadata))
    if command.verb == receipt_pb2.VERB_KILL and outcome.state == outcomes.NOT_RUN:
        projection.reopen(row.session_id)


def _deliver(
    projection: Projection, row: SessionRow, command: CommandRow, outcome: receipt_pb2.Outcome
) -> bool:
    """Whether the answer counts. An input that the host won't run is cancelled, if it isn't yet.

    (A host writes the event before its answer; this is for one that knew no such run.)
    """
    sent = projection.tx.input(command.input_id)
    waiting = sent is not None and sent.state == input_pb2.INPUT_STATE_WAITING
    if outcome.state != outcomes.NOT_RUN or not waiting:
        return True
    if outcome.reason == receipt_pb2.OUTCOME_REASON_SESSION_ENDED:
        # The run failed first: the input waits for the next one, and so does its receipt.
        return False
    if outcome.reason == receipt_pb2.OUTCOME_REASON_EXPIRED:
        reason = input_pb2.CANCEL_REASON_EXPIRED
    elif outcome.error_reason == Reason.CAPABILITY_MISSING:
        reason = input_pb2.CANCEL_REASON_CAPABILITY_MISSING
    elif outcome.error_reason == Reason.SESSION_ENDING:
        reason = input_pb2.CANCEL_REASON_STOPPED
    else:
        reason = input_pb2.CANCEL_REASON_UNSPECIFIED
    projection.cancel_input(row, command.input_id, reason)
    return True


def refuse(projection: Projection, row: SessionRow, command: CommandRow) -> None:
    """Takes a start back. `command` is its row with the refusal in it.

    A new session goes without a trace, but for the receipt that tells a repeat why. A Resume
    leaves the session as it was, but for the inputs that came with it: their callers are told that
    nothing ran, so nothing may run later.
    """
    tx = projection.tx
    tx.update_command(command)
    if command.verb == receipt_pb2.VERB_START:
        projection.drop(row.session_id)
        tx.delete_commands_of_session(row.session_id, keep=command.command_id)
        tx.delete_session(row.session_id, tombstone=False)
        return
    tx.put_blob(row.session_id, SessionBlob.LAST_RUN, str(command.run).encode())
    for other in tx.open_commands(row.session_id):
        if other.command_id == command.command_id or other.run != row.run:
            continue
        refusal = outcomes.outcome_of(command)
        tx.update_command(outcomes.settle(other, refusal, metadata=command.error_metadata))
        sent = tx.input(other.input_id) if other.input_id else None
        if sent is not None and sent.command_id == other.command_id:
            unspecified = input_pb2.CANCEL_REASON_UNSPECIFIED
            projection.cancel_input(row, sent.input_id, unspecified)
    for token in tx.tokens_of_session(row.session_id):
        if not token.revoke_time:
            tx.revoke_token(token.token_id)
    current = projection.session(row.session_id) or row
    if current.verb_state:
        kept = json.loads(current.verb_state)
        kept["capabilities"] = tuple(kept["capabilities"])
        projection.put(replace(current, **kept, verb_state=b"", update_time=tx.now))
