"""The session row as a projection of the log: events in, rows moved, in one transaction.

`moved` is the pure part: what one event makes of a session's row. `Projection` is used inside a
write transaction, for as long as that transaction lasts: it takes events (those that hosts wrote,
and control's own), keeps the rows of inputs, approvals and receipts in step with them, and writes
all of it at `flush`. Called by the records of host links and by the verbs; nothing else appends to
a log. It may not decide what happens, only what follows from what happened.
"""

from __future__ import annotations

from dataclasses import replace

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle.v1 import event_pb2, input_pb2, receipt_pb2, session_pb2
from bridle_control import outcomes
from bridle_control.approvals import keep_rule
from bridle_control.decisions import LIVE
from bridle_control.ids import uuid7
from bridle_control.receipts import pending
from bridle_control.store.api import (
    ApprovalRow,
    CommandRow,
    CommandState,
    InputRow,
    NewEvent,
    SessionRow,
    Term,
    Tx,
)
from bridle_core.errors import Reason

#: The kinds that move rows; all others are stored without being read.
MOVING = frozenset(
    {
        event_pb2.EVENT_KIND_SESSION_STARTED,
        event_pb2.EVENT_KIND_SESSION_RESUMED,
        event_pb2.EVENT_KIND_TURN_STARTED,
        event_pb2.EVENT_KIND_TURN_ENDED,
        event_pb2.EVENT_KIND_SESSION_ENDED,
        event_pb2.EVENT_KIND_PHASE_CHANGED,
        event_pb2.EVENT_KIND_INPUT_CONSUMED,
        event_pb2.EVENT_KIND_INPUT_CANCELLED,
        event_pb2.EVENT_KIND_QUEUE_HELD,
        event_pb2.EVENT_KIND_QUEUE_RELEASED,
        event_pb2.EVENT_KIND_APPROVAL_REQUESTED,
        event_pb2.EVENT_KIND_APPROVAL_RESOLVED,
    }
)

#: The waiting inputs of one session are read at once: their number is bounded when they come.
_ALL_INPUTS = 100_000

_CANCEL_OF_PHASE = {
    session_pb2.PHASE_STOPPED: input_pb2.CANCEL_REASON_STOPPED,
    session_pb2.PHASE_KILLED: input_pb2.CANCEL_REASON_KILLED,
}

_WAITING = Term("state", int(input_pb2.INPUT_STATE_WAITING))


def moved(row: SessionRow, event: event_pb2.Event, now: int) -> SessionRow:
    """The session's row after an event. Events that don't concern it leave it as it is."""
    kind = event.WhichOneof("kind")
    if kind == "phase_changed":
        # The row comes to an ended phase by SessionEnded alone, with all that hangs on it.
        to = event.phase_changed.to
        return replace(row, phase=to, update_time=now) if to in LIVE else row
    if kind == "turn_started":
        return replace(row, turn=event.turn, turn_open=True, update_time=now)
    if kind == "turn_ended":
        return replace(row, turn_open=False, update_time=now)
    if kind == "session_started" or kind == "session_resumed":
        told = event.session_started if kind == "session_started" else event.session_resumed
        return replace(
            row,
            directory=told.directory or row.directory,
            containment=told.containment,
            capabilities=tuple(told.capabilities),
            # What a refused start would have to be taken back to is of no use any more.
            verb_state=b"",
            update_time=now,
        )
    if kind == "queue_held":
        return replace(row, queue_state=session_pb2.QUEUE_STATE_HELD, update_time=now)
    if kind == "queue_released":
        return replace(row, queue_state=session_pb2.QUEUE_STATE_OPEN, update_time=now)
    if kind == "approval_resolved":
        return keep_rule(row, event)
    if kind == "session_ended":
        ended = event.session_ended
        return replace(
            row,
            phase=ended.phase,
            end_reason=ended.reason,
            end_message=ended.message,
            turn_open=False,
            verb_state=b"",
            update_time=now,
        )
    return row


class Projection:
    """See the module. One per transaction; `flush` is the last call."""

    def __init__(self, tx: Tx) -> None:
        self.tx = tx
        self._rows: dict[str, SessionRow | None] = {}
        self._changed: dict[str, None] = {}  # in order, as they changed
        self._new: dict[str, list[NewEvent]] = {}

    # -- rows

    def session(self, session_id: str) -> SessionRow | None:
        """The session's row as it is by now, with what this transaction did to it."""
        if session_id not in self._rows:
            self._rows[session_id] = self.tx.session(session_id)
        return self._rows[session_id]

    def put(self, row: SessionRow) -> SessionRow:
        """Replaces the session's row."""
        self._rows[row.session_id] = row
        self._changed[row.session_id] = None
        return row

    def drop(self, session_id: str) -> None:
        """Forgets a session that is being deleted, with the events that were to be appended."""
        self._rows[session_id] = None
        self._changed.pop(session_id, None)
        self._new.pop(session_id, None)

    # -- events

    def append(self, row: SessionRow, event: NewEvent) -> int:
        """Appends an event as it is; returns its sequence. Moves nothing."""
        new = self._new.setdefault(row.session_id, [])
        new.append(event)
        return row.last_sequence + len(new)

    def extend(self, row: SessionRow, events: list[NewEvent]) -> None:
        """Appends events of kinds that move nothing."""
        self._new.setdefault(row.session_id, []).extend(events)

    def happen(
        self,
        row: SessionRow,
        event: event_pb2.Event,
        *,
        data: bytes | None = None,
        principal: bytes = b"",
    ) -> int:
        """Appends an event and moves the rows that follow from it; returns its sequence.

        `data` are the event's bytes as a host wrote them; control's own are stamped with the time
        and the run here.
        """
        if data is None:
            event.run = row.run
            event.time.FromNanoseconds(self.tx.now)
            data = event.SerializeToString(deterministic=True)
        field = event.DESCRIPTOR.fields_by_name[event.WhichOneof("kind") or "diagnostic"]
        new = NewEvent(kind=field.number, run=row.run, data=data, principal=principal)
        if field.number == event_pb2.EVENT_KIND_SESSION_ENDED:
            self._before_end(row, event)
        row = self.session(row.session_id) or row
        sequence = self.append(row, new)
        after = moved(row, event, self.tx.now)
        if after is not row:
            self.put(after)
            if after.policy != row.policy:
                self._tell_policy(after)
        self._follow(after, event, sequence)
        return sequence

    def flush(self) -> None:
        """Writes what was appended and changed."""
        for session_id, events in self._new.items():
            self.tx.append_events(session_id, events)
        for session_id in self._changed:
            row = self._rows[session_id]
            if row is not None:
                self.tx.update_session(row)
        self._new.clear()
        self._changed.clear()
        self._rows.clear()

    # -- what follows from an event, beside the session's row

    def _follow(self, row: SessionRow, event: event_pb2.Event, sequence: int) -> None:
        kind = event.WhichOneof("kind")
        if kind == "input_consumed":
            self._consumed(row, event)
        elif kind == "input_cancelled":
            cancelled = event.input_cancelled
            self._cancelled(row, cancelled.input_id, cancelled.reason)
        elif kind == "approval_requested":
            asked = event.approval_requested.approval_id
            self.tx.put_approval(ApprovalRow(row.session_id, asked, row.run, event.turn, sequence))
        elif kind == "approval_resolved":
            resolved = event.approval_resolved
            self._resolved(row, resolved.approval_id, resolved.decision, sequence)
        elif kind == "session_ended":
            self._after_end(row)

    def _tell_policy(self, row: SessionRow) -> None:
        """A host that made a rule has it. Where new rules are on their way to it, which were made
        before control knew of that one, it is told all of them again behind those.
        """
        for open_still in self.tx.open_commands(row.session_id):
            if open_still.verb != receipt_pb2.VERB_UPDATE_SESSION or open_still.run != row.run:
                continue
            policy = session_pb2.SessionPolicy.FromString(row.policy)
            action = wire.Command(update=wire.UpdatePolicy(policy=policy))
            self.tx.insert_command(
                replace(
                    open_still,
                    command_id=uuid7(self.tx.now),
                    request_id="",
                    request_hash=b"",
                    parent_command_id=open_still.command_id,
                    state=CommandState.ACCEPTED,
                    action=action.SerializeToString(deterministic=True),
                    outcome=pending().SerializeToString(deterministic=True),
                )
            )
            return

    def _resolved(self, row: SessionRow, approval_id: str, decision: int, sequence: int) -> None:
        known = self.tx.approval(row.session_id, approval_id)
        if known is None:
            known = ApprovalRow(row.session_id, approval_id, row.run, row.turn, sequence)
        self.tx.put_approval(replace(known, decision=decision))

    def _waiting_input(self, row: SessionRow, input_id: str) -> InputRow | None:
        known = self.tx.input(input_id)
        if known is None or known.session_id != row.session_id:
            return None
        return known if known.state == input_pb2.INPUT_STATE_WAITING else None

    def _consumed(self, row: SessionRow, event: event_pb2.Event) -> None:
        taken = self._waiting_input(row, event.input_consumed.input_id)
        if taken is None:
            return
        self.tx.update_input(replace(taken, state=input_pb2.INPUT_STATE_CONSUMED, turn=event.turn))
        reason = (
            receipt_pb2.OUTCOME_REASON_STEERED
            if event.input_consumed.steered
            else receipt_pb2.OUTCOME_REASON_TURN_STARTED
        )
        self._decide_send(taken, outcomes.RAN, reason, turn=event.turn)

    def _cancelled(
        self, row: SessionRow, input_id: str, reason: input_pb2.CancelReason.ValueType
    ) -> None:
        gone = self._waiting_input(row, input_id)
        if gone is None:
            return
        self.tx.update_input(
            replace(gone, state=input_pb2.INPUT_STATE_CANCELLED, cancel_reason=reason)
        )
        if reason == input_pb2.CANCEL_REASON_EXPIRED:
            met, error = receipt_pb2.OUTCOME_REASON_EXPIRED, None
        elif reason == input_pb2.CANCEL_REASON_CAPABILITY_MISSING:
            met, error = receipt_pb2.OUTCOME_REASON_REFUSED, Reason.CAPABILITY_MISSING
        else:
            met, error = receipt_pb2.OUTCOME_REASON_CANCELLED, None
        self._decide_send(gone, outcomes.NOT_RUN, met, error=error)

    def _decide_send(
        self,
        sent: InputRow,
        state: receipt_pb2.OutcomeState.ValueType,
        reason: receipt_pb2.OutcomeReason.ValueType,
        *,
        turn: int = 0,
        error: Reason | None = None,
    ) -> None:
        command = self.tx.command(sent.command_id)
        if command is None or command.state == CommandState.DONE:
            return
        outcome = outcomes.decided(
            self.tx.now, state, reason, turn=turn, input_id=sent.input_id, error=error
        )
        self.tx.update_command(outcomes.settle(command, outcome))

    def reopen(self, session_id: str) -> None:
        """A Kill was not carried out, and never will be: children may be started again."""
        row = self.session(session_id)
        kill = (receipt_pb2.VERB_KILL,)
        if row is None or not row.closing or row.phase not in LIVE:
            return
        if not self.tx.has_open_command(session_id, row.run, kill):
            self.put(replace(row, closing=False, update_time=self.tx.now))

    # -- a run's end

    def cancel_input(
        self,
        row: SessionRow,
        input_id: str,
        reason: input_pb2.CancelReason.ValueType,
        principal: bytes = b"",
    ) -> None:
        """Writes control's own InputCancelled."""
        event = event_pb2.Event(
            input_cancelled=event_pb2.InputCancelled(input_id=input_id, reason=reason)
        )
        self.happen(row, event, principal=principal)

    def waiting(self, row: SessionRow) -> list[InputRow]:
        """The inputs of a session that wait, in order."""
        return self.tx.inputs(row.session_id, terms=(_WAITING,), limit=_ALL_INPUTS)

    def _before_end(self, row: SessionRow, event: event_pb2.Event) -> None:
        """A host cancels what it has; what it never got is cancelled here, before SessionEnded."""
        reason = _CANCEL_OF_PHASE.get(event.session_ended.phase)
        if reason is not None:
            for left in self.waiting(row):
                self.cancel_input(row, left.input_id, reason)

    def _after_end(self, row: SessionRow) -> None:
        for approval_id in row.open_approvals:
            open_still = self.tx.approval(row.session_id, approval_id)
            if open_still is not None and not open_still.decision:
                void = event_pb2.APPROVAL_DECISION_VOID
                self.tx.put_approval(replace(open_still, decision=void))
        for command in self.tx.open_commands(row.session_id):
            if command.run == row.run:
                self._close(command)
        for token in self.tx.tokens_of_session(row.session_id):
            if not token.revoke_time:
                self.tx.revoke_token(token.token_id)
        self._drained(row)

    def _close(self, command: CommandRow) -> None:
        """What a run's end makes of a command that is open."""
        now = self.tx.now
        if command.verb in _ENDS_RAN:
            outcome = outcomes.decided(now, outcomes.RAN, receipt_pb2.OUTCOME_REASON_DONE)
        elif self._waits(command):
            # The run FAILED: the input is kept for the next one, and so is its receipt open.
            outcome = receipt_pb2.Outcome(
                state=outcomes.PENDING, reason=receipt_pb2.OUTCOME_REASON_QUEUED
            )
        else:
            outcome = outcomes.decided(
                now, outcomes.NOT_RUN, receipt_pb2.OUTCOME_REASON_SESSION_ENDED
            )
        self.tx.update_command(outcomes.settle(command, outcome))

    def _waits(self, command: CommandRow) -> bool:
        """Whether it is the Send of an input that waits still (and no repeat of its delivery)."""
        if not command.input_id or command.verb != receipt_pb2.VERB_SEND:
            return False
        sent = self.tx.input(command.input_id)
        return (
            sent is not None
            and sent.state == input_pb2.INPUT_STATE_WAITING
            and sent.command_id == command.command_id
        )

    def _drained(self, row: SessionRow) -> None:
        """The last session that ends on a drained host decides the receipts of its drain."""
        host = self.tx.host(row.host_id)
        if host is None or not host.draining:
            return
        for other in self.tx.live_sessions_of_host(row.host_id):
            now = self.session(other.session_id)
            if now is not None and now.phase in LIVE:
                return
        for command in self.tx.open_commands_of_host(row.host_id):
            if command.verb == receipt_pb2.VERB_DRAIN_HOST:
                done = outcomes.decided(self.tx.now, outcomes.RAN, receipt_pb2.OUTCOME_REASON_DONE)
                self.tx.update_command(outcomes.settle(command, done))


#: What a run's end fulfils: the ends themselves; a start, which was before it; new rules, which
#: are in the row and hold for the next run.
_ENDS_RAN = frozenset(
    {
        receipt_pb2.VERB_STOP,
        receipt_pb2.VERB_KILL,
        receipt_pb2.VERB_START,
        receipt_pb2.VERB_RESUME,
        receipt_pb2.VERB_UPDATE_SESSION,
    }
)
