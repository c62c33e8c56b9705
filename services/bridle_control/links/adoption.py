"""Live runs whose host lost its journal: what control writes, so that their logs go on.

What happened between the last event that control has and the loss is gone. `adopt` goes by the
entry with which the new journal begins, and so stands before all else that it says of the run.
`adopt_told` goes by the inventory alone, for hosts that write no such entry and for journals of
which a part is lost: entries that were on their way may then say again what it had to assume.
Functions of a write transaction; they flush nothing.
"""

from __future__ import annotations

from collections.abc import Collection

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle.v1 import event_pb2, receipt_pb2, session_pb2
from bridle_control import outcomes
from bridle_control.decisions import LIVE
from bridle_control.endings import give_up, lose, lose_turn
from bridle_control.projection import Projection
from bridle_control.store.api import CommandRow, CommandState, SessionRow, Tx
from bridle_control.store.event_bytes import unframe

_IN_TURN = frozenset({session_pb2.PHASE_RUNNING, session_pb2.PHASE_WAITING})
_STARTS = frozenset({receipt_pb2.VERB_START, receipt_pb2.VERB_RESUME})
#: What may be asked of the host again.
_AGAIN = frozenset({receipt_pb2.VERB_STOP, receipt_pb2.VERB_KILL, receipt_pb2.VERB_UPDATE_SESSION})
_OPENINGS = frozenset({"session_started", "session_resumed"})
#: What tells how far a run's log is.
_STANDING = (
    event_pb2.EVENT_KIND_SESSION_STARTED,
    event_pb2.EVENT_KIND_SESSION_RESUMED,
    event_pb2.EVENT_KIND_PROCESS_STARTED,
    event_pb2.EVENT_KIND_PROCESS_EXITED,
)

#: What the end of a run says whose host remembers an earlier time of it.
SET_BACK = "the host came back with an older state of this run"


def adopt(projection: Projection, row: SessionRow, entry: wire.AdoptEntry) -> None:
    """Takes the log of a live run to where its new journal begins."""
    if entry.last_turn < row.turn:
        give_up(projection, row, session_pb2.END_REASON_HOST_STATE_LOST, SET_BACK)
        return
    opened = entry.WhichOneof("opening") is not None
    ending = entry.phase == session_pb2.PHASE_STOPPING
    _settle_commands(projection, row, entry.input_ids, started=opened, ending=ending)
    if row.turn_open:
        lose_turn(projection, row)
    _open(projection, row, entry)
    _hold_queue(projection, row, entry)
    _move(projection, row, entry.phase)
    _tell(projection, row)


def adopt_told(projection: Projection, row: SessionRow, told: wire.LiveSession) -> None:
    """The same for a run of which the inventory alone tells: what is open there goes on."""
    ending = told.phase == session_pb2.PHASE_STOPPING
    _settle_commands(projection, row, told.input_ids, started=True, ending=ending)
    if row.turn_open and told.open_turn != row.turn:
        lose_turn(projection, row)
    current = projection.session(row.session_id) or row
    if told.open_turn > current.turn:
        # It goes on, and its end will be told: a log has none without a begin.
        begun = event_pb2.Event(turn=told.open_turn, turn_started=event_pb2.TurnStarted())
        projection.happen(current, begun)
    phase = told.phase
    if phase in _IN_TURN and not told.open_turn:
        # Its agent is still in a turn that is over for the log, and is being interrupted.
        phase = session_pb2.PHASE_IDLE
    _move(projection, row, phase)
    _tell(projection, row)


# ---------------------------------------------------------------- what was asked for


def _settle_commands(
    projection: Projection,
    row: SessionRow,
    input_ids: Collection[str],
    *,
    started: bool,
    ending: bool,
) -> None:
    """A command that the host may have had is UNKNOWN. Not an input that still waits there; nor the
    start: that the run is there is the answer that was lost (`started`: it opened); nor what does
    no harm twice: without an answer it goes out again, with one the host is at it (`ending`)."""
    for command in projection.tx.open_commands(row.session_id):
        if command.run != row.run:
            continue
        if command.verb in _STARTS:
            if started:
                _confirm(projection.tx, command)
        elif command.verb == receipt_pb2.VERB_SEND and command.input_id in input_ids:
            _confirm(projection.tx, command)
        elif command.verb in _AGAIN and (command.state <= CommandState.HANDED or ending):
            continue
        else:
            lose(projection, row, command)
    projection.reopen(row.session_id)


def _confirm(tx: Tx, command: CommandRow) -> None:
    if command.state >= CommandState.ANSWERED:
        return
    if command.verb in _STARTS:
        outcome = outcomes.decided(tx.now, outcomes.RAN, receipt_pb2.OUTCOME_REASON_DONE)
    else:
        outcome = receipt_pb2.Outcome(
            state=outcomes.PENDING, reason=receipt_pb2.OUTCOME_REASON_QUEUED
        )
    tx.update_command(outcomes.settle(command, outcome))


# ---------------------------------------------------------------- what the log lacks


def _open(projection: Projection, row: SessionRow, entry: wire.AdoptEntry) -> None:
    """That the run opened, and which process is up."""
    opened, pid = _standing(projection, row)
    if not opened and entry.HasField("started"):
        _happen(projection, row, event_pb2.Event(session_started=entry.started), row.started_by)
    elif not opened and entry.HasField("resumed"):
        _happen(projection, row, event_pb2.Event(session_resumed=entry.resumed), row.started_by)
    if pid and pid != entry.process.pid:
        # Another took its place unseen, or none is there any more.
        exited = event_pb2.ProcessExited(pid=pid)
        _happen(projection, row, event_pb2.Event(process_exited=exited))
    if entry.process.pid and pid != entry.process.pid:
        _happen(projection, row, event_pb2.Event(process_started=entry.process))


def _standing(projection: Projection, row: SessionRow) -> tuple[bool, int]:
    """Whether the log has the run's opening, and the process that is up by it; 0 for none."""
    pid: int | None = None
    before = 0  # the end of the log
    while True:
        found = projection.tx.events(
            row.session_id, before, kinds=_STANDING, descending=True, limit=64
        )
        for framed in found.framed:
            event = event_pb2.Event.FromString(unframe(framed))
            kind = event.WhichOneof("kind")
            if event.run != row.run:
                return False, pid or 0
            if kind in _OPENINGS:
                return True, pid or 0
            if pid is None:
                pid = event.process_started.pid if kind == "process_started" else 0
        if not found.more:
            return False, pid or 0
        before = found.scanned


def _hold_queue(projection: Projection, row: SessionRow, entry: wire.AdoptEntry) -> None:
    if entry.queue_state == row.queue_state or not entry.queue_state:
        return
    if entry.queue_state == session_pb2.QUEUE_STATE_HELD:
        _happen(projection, row, event_pb2.Event(queue_held=event_pb2.QueueHeld()))
    else:
        _happen(projection, row, event_pb2.Event(queue_released=event_pb2.QueueReleased()))


def _move(projection: Projection, row: SessionRow, phase: session_pb2.Phase.ValueType) -> None:
    current = projection.session(row.session_id) or row
    if phase in LIVE and phase != current.phase:
        moved = event_pb2.PhaseChanged(to=phase)
        setattr(moved, "from", current.phase)  # (a keyword of the language)
        projection.happen(current, event_pb2.Event(phase_changed=moved))


def _tell(projection: Projection, row: SessionRow) -> None:
    lost = event_pb2.Diagnostic(
        kind=event_pb2.DIAGNOSTIC_KIND_JOURNAL_LOST,
        message="the host's journal was lost; what happened since the event before is not known",
    )
    _happen(projection, row, event_pb2.Event(diagnostic=lost))


def _happen(
    projection: Projection, row: SessionRow, event: event_pb2.Event, principal: bytes = b""
) -> None:
    projection.happen(projection.session(row.session_id) or row, event, principal=principal)
