"""Runs that control ends itself, because their host can't: its journal is lost, or it is given up.

Nobody saw the processes end, so these ends are not `verified`. Used inside a write transaction, by
the links (HOST_STATE_LOST), by Resume with `force` and by RemoveHost with `force` (HOST_ABANDONED).
"""

from __future__ import annotations

from bridle.v1 import event_pb2, input_pb2, receipt_pb2, session_pb2
from bridle_control import outcomes
from bridle_control.projection import Projection
from bridle_control.store.api import CommandRow, CommandState, SessionRow
from bridle_control.store.event_bytes import unframe
from bridle_core.errors import BridleError, Reason

#: Read in pieces: the store bounds the bytes of each by itself.
_TOOL_EVENTS = 4096
#: What tells which tool calls are open, and where their turn began.
_TURN_KINDS = (
    event_pb2.EVENT_KIND_TURN_STARTED,
    event_pb2.EVENT_KIND_TOOL_CALL_STARTED,
    event_pb2.EVENT_KIND_TOOL_CALL_ENDED,
)

#: What the end of a run decides whoever ends it (see Projection).
_DECIDED_BY_END = frozenset(
    {receipt_pb2.VERB_STOP, receipt_pb2.VERB_KILL, receipt_pb2.VERB_UPDATE_SESSION}
)


def give_up(
    projection: Projection,
    row: SessionRow,
    reason: session_pb2.EndReason.ValueType,
    message: str,
    *,
    principal: bytes = b"",
) -> None:
    """Ends the live run of a session: FAILED, `verified` false; flushes nothing.

    What the host may have had is UNKNOWN from now on and never runs again by itself, inputs too:
    a turn may have taken them unseen. What surely never left control is kept, as FAILED keeps it.
    """
    for command in projection.tx.open_commands(row.session_id):
        if command.run == row.run and command.verb not in _DECIDED_BY_END:
            lose(projection, row, command)
    if row.turn_open:
        lose_turn(projection, row)
    ended = event_pb2.SessionEnded(
        phase=session_pb2.PHASE_FAILED, reason=reason, message=message, verified=False
    )
    projection.happen(row, event_pb2.Event(session_ended=ended), principal=principal)


def lose(projection: Projection, row: SessionRow, command: CommandRow) -> None:
    """Makes an open command UNKNOWN if a host may have had it, and cancels its input."""
    if command.state == CommandState.ACCEPTED:
        return
    lost = outcomes.decided(
        projection.tx.now,
        outcomes.UNKNOWN,
        receipt_pb2.OUTCOME_REASON_HOST_STATE_LOST,
        input_id=command.input_id,
    )
    projection.tx.update_command(outcomes.settle(command, lost))
    sent = projection.tx.input(command.input_id) if command.verb == receipt_pb2.VERB_SEND else None
    if sent is not None and sent.state == input_pb2.INPUT_STATE_WAITING:
        # One that was delivered again has another command of its own: its sender's receipt.
        first = projection.tx.command(sent.command_id)
        if first is not None and first.state != CommandState.DONE:
            projection.tx.update_command(outcomes.settle(first, lost))
        unspecified = input_pb2.CANCEL_REASON_UNSPECIFIED
        projection.cancel_input(row, sent.input_id, unspecified)


def lose_turn(projection: Projection, row: SessionRow) -> None:
    """Ends the open turn HOST_STATE_LOST, with all that is open in it."""
    turn = row.turn
    for call in _open_tool_calls(projection, row):
        ended = event_pb2.ToolCallEnded(
            tool_call_id=call, status=event_pb2.TOOL_CALL_STATUS_CANCELLED
        )
        projection.happen(row, event_pb2.Event(turn=turn, tool_call_ended=ended))
    for approval_id in row.open_approvals:
        void = event_pb2.ApprovalResolved(
            approval_id=approval_id, decision=event_pb2.APPROVAL_DECISION_VOID
        )
        projection.happen(row, event_pb2.Event(turn=turn, approval_resolved=void))
    over = event_pb2.TurnEnded(stop_reason=event_pb2.STOP_REASON_HOST_STATE_LOST)
    projection.happen(row, event_pb2.Event(turn=turn, turn_ended=over))


def _open_tool_calls(projection: Projection, row: SessionRow) -> list[str]:
    """The ids of the open turn's tool calls that have no end, oldest first.

    Read from the end of the log back to where the turn began: the log may be long, and all other
    writes wait for this one.
    """
    open_calls: list[str] = []
    ended: set[str] = set()
    before = 0  # the end of the log
    while True:
        try:
            found = projection.tx.events(
                row.session_id, before, kinds=_TURN_KINDS, descending=True, limit=_TOOL_EVENTS
            )
        except BridleError as error:
            if error.reason is not Reason.LOG_CORRUPT:
                raise
            # A damaged log must not keep its run from being ended, nor its host from its place.
            return open_calls[::-1]
        for framed in found.framed:
            event = event_pb2.Event.FromString(unframe(framed))
            if event.turn != row.turn or event.WhichOneof("kind") == "turn_started":
                return open_calls[::-1]
            if event.WhichOneof("kind") == "tool_call_ended":
                ended.add(event.tool_call_ended.tool_call_id)
            elif event.tool_call_started.tool_call_id not in ended:
                open_calls.append(event.tool_call_started.tool_call_id)
        if not found.more:
            return open_calls[::-1]
        before = found.scanned
