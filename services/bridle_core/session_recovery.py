"""The session machine as a value: written down, made again, and what its driver is told then.

A part of `bridle_core.session.Session`, which alone builds on it. It decides nothing of a run's
course: a machine that was made again goes on as the one would have that was written down.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Self

from bridle_core.commands import RunSpec
from bridle_core.effects import (
    ApprovalResolved,
    Effect,
    InterruptTurn,
    KillAgent,
    ReadOn,
    RecoverAgent,
    ReplaceAgent,
    SendTurn,
    SteerTurn,
    StopAgent,
    VerifyGone,
)
from bridle_core.observations import Content, Decision, StopReason
from bridle_core.phases import EndReason, Phase, TurnTrigger
from bridle_core.queue import InputQueue, Item
from bridle_core.session_ends import END_WATCH, STOP_GRACE, End, Ends
from bridle_core.session_inputs import Handed, Interrupting, Timer
from bridle_core.session_record import (
    EndRecord,
    InterruptRecord,
    ItemRecord,
    RunRecord,
    WritingRecord,
)
from bridle_core.session_turns import INTERRUPT_WATCH
from bridle_core.turn import LastWords, Turn, Writing

#: What had to happen while no host process was there to see it may have happened all the same. So
#: each of these moments is at least so many seconds ahead, in which what the agent said meanwhile
#: is read.
CATCH_UP: Mapping[Timer, float] = {
    Timer.START: 10.0,
    Timer.TURN: 2.0,
    Timer.STOP: 2.0,
    Timer.IDLE: 2.0,
    Timer.INTERRUPT: INTERRUPT_WATCH,
    Timer.END: STOP_GRACE + END_WATCH,
    Timer.KILL: END_WATCH,
    Timer.PARK: 2.0,
}

Contents = Mapping[str, tuple[Content, ...]]


class Recovery(Ends):
    """See the module."""

    def record(self) -> RunRecord:
        """All that the machine knows, but for what the inputs say: for `restore`."""
        turn, interrupt, end = self._turn, self._interrupt, self._end
        return RunRecord(
            phase=self._phase,
            opened=self._opened,
            pid=self._pid if self._up else 0,
            last_turn=self._last_turn,
            turn=turn.number if turn is not None else 0,
            tools=tuple(turn.tools) if turn is not None else (),
            approvals=tuple(turn.approvals) if turn is not None else (),
            handed=tuple(map(_item, self._handed.items if self._handed is not None else ())),
            steering=tuple(map(_item, self._steering.values())),
            interrupts=tuple(interrupt.commands) if interrupt is not None else (),
            cancels=tuple((i, tuple(c)) for i, c in self._cancels.items()),
            enders=tuple(self._enders),
            killed=end is not None and end.phase is Phase.KILLED,
            policy=self._policy,
            timers=tuple(self._timers.items()),
            queue_state=self._queue.state,
            queue=tuple(map(_item, self._queue.items)),
            trigger=turn.trigger if turn is not None else TurnTrigger.INPUT,
            expiries=_expiries(turn),
            calls=_calls(turn),
            resolved=_resolved(turn),
            writing=_writing(turn),
            written=tuple(turn.written) if turn is not None else (),
            label=self._handed.label if self._handed is not None else 0,
            last_label=self._last_label,
            interrupt=_interrupt(interrupt),
            settled=tuple((i, number, steered) for i, (number, steered) in self._settled.items()),
            last_stop=self._last_stop,
            last_message=self._words.message,
            usage=self._usage,
            last_output=self._words.output,
            replacing=self._replacing,
            end=EndRecord(end.phase, end.reason, end.message, end.principal) if end else None,
            reported=self._reported,
            killing=self._killing,
            verifying=self._verifying,
            closed=self._closed,
            resting=self._resting,
            parked=self._parked,
        )

    @classmethod
    def restore(cls, spec: RunSpec, record: RunRecord, contents: Contents | None = None) -> Self:
        """A machine as it was when `record` was made: it goes on as that one would.

        contents: of the inputs, by their ids (`input_ids`); the record does not hold them. Without
        them the machine is good for `host_lost` and `gone` only.
        """
        self = cls(spec)
        self._restore_inputs(record, contents or {})
        self._restore_turn(record)
        self._restore_ends(record)
        return self

    def recovered(self, now: float) -> list[Effect]:
        """After `restore`, with a shim that is alive: what the driver has to be told.

        All that it may not have been told by the earlier process, in order; what it was told, it
        does not tell the agent twice. Nothing is written for it.
        """
        self._now = now
        if self._closed:
            return []
        for timer, seconds in CATCH_UP.items():
            if timer in self._timers:
                self._timers[timer] = max(self._timers[timer], now + seconds)
        if self._verifying:
            self._out.append(VerifyGone())
        else:
            self._out.append(RecoverAgent())
            self._order_again()
            self._out.append(ReadOn())
        return self._flush()

    def _order_again(self) -> None:
        if self._killing:
            self._out.append(KillAgent())
            return
        if (turn := self._turn) is not None:
            for item in self._steering.values():
                self._out.append(SteerTurn(item.input_id, item.content))
            for resolved in turn.resolved.values():
                if resolved.decision is not Decision.VOID:
                    self._respond(resolved.approval_id, resolved.decision, resolved.message)
        if self._replacing:
            self._out.append(ReplaceAgent())
        if (handed := self._handed) is not None:
            content = tuple(piece for item in handed.items for piece in item.content)
            self._out.append(SendTurn(handed.label, content))
        interrupt = self._interrupt
        on = turn is not None or handed is not None
        if on and interrupt is not None and interrupt.deadline is not None:
            left = max(0.0, interrupt.deadline - self._now)
            self._set_timer(Timer.INTERRUPT, left + INTERRUPT_WATCH)
            self._out.append(InterruptTurn(left, interrupt.include_background))
        if self._reported:
            self._out.append(StopAgent(STOP_GRACE))

    # --- restoring ---

    def _restore_inputs(self, record: RunRecord, contents: Contents) -> None:
        def items(records: tuple[ItemRecord, ...]) -> tuple[Item, ...]:
            return tuple(_restored_item(one, contents) for one in records)

        if record.policy is not None:
            self._policy = record.policy
        state = record.queue_state or self._spec.queue_state
        self._queue = InputQueue(state, items(record.queue))
        self._timers = dict(record.timers)
        if record.handed:
            label = record.label or record.last_turn + 1
            self._handed = Handed(label, items(record.handed))
        self._last_label = record.last_label
        self._steering = {item.input_id: item for item in items(record.steering)}
        self._cancels = {i: list(c) for i, c in record.cancels}
        self._settled = OrderedDict((i, (turn, steered)) for i, turn, steered in record.settled)
        self._last_turn, self._last_stop = record.last_turn, record.last_stop
        self._usage = record.usage
        self._words = LastWords(record.last_message, record.last_output)

    def _restore_turn(self, record: RunRecord) -> None:
        if (told := record.interrupt) is not None or record.interrupts:
            told = told or InterruptRecord(StopReason.INTERRUPTED, 0.0)
            self._interrupt = Interrupting(
                told.stop_reason,
                told.grace,
                told.after,
                told.include_background,
                told.principal,
                list(record.interrupts),
                told.dropped,
                told.early,
                told.deadline,
            )
        if not record.turn:
            return
        turn = self._turn = Turn(record.turn, record.trigger)
        turn.tools = dict.fromkeys(record.tools)
        turn.approvals = {**dict.fromkeys(record.approvals), **dict(record.expiries)}
        turn.calls = {name: (tool, arguments) for name, tool, arguments in record.calls}
        turn.resolved = {i: ApprovalResolved(i, d, message) for i, d, message in record.resolved}
        for one in record.writing:
            parts = [one.text] if one.text else []
            turn.writing[one.message_id] = Writing(one.offset, one.dropped, len(one.text), parts)
        turn.written = dict.fromkeys(record.written)

    def _restore_ends(self, record: RunRecord) -> None:
        self._phase, self._opened = record.phase, record.opened
        self._pid, self._up = record.pid, record.pid > 0
        self._replacing = record.replacing
        self._enders = list(record.enders)
        if (end := record.end) is not None:
            self._end = End(end.phase, end.reason, end.message, end.principal)
        elif record.killed:
            self._end = End(Phase.KILLED, EndReason.KILL_REQUESTED)
        self._reported, self._killing = record.reported, record.killing
        self._verifying, self._closed = record.verifying, record.closed
        self._resting, self._parked = record.resting, record.parked


# --- parts of a record ---


def _item(item: Item) -> ItemRecord:
    return ItemRecord(
        item.input_id,
        item.command_id,
        item.sequence,
        item.mode,
        item.expires,
        item.principal,
        item.returned,
        item.into_turn,
    )


def _restored_item(record: ItemRecord, contents: Contents) -> Item:
    return Item(
        record.input_id,
        record.command_id,
        tuple(contents.get(record.input_id, ())),
        record.sequence,
        record.mode,
        record.expires,
        record.principal,
        record.returned,
        record.into_turn,
    )


def _interrupt(interrupt: Interrupting | None) -> InterruptRecord | None:
    if interrupt is None:
        return None
    return InterruptRecord(
        interrupt.stop_reason,
        interrupt.grace,
        interrupt.after,
        interrupt.include_background,
        interrupt.principal,
        interrupt.dropped,
        interrupt.early,
        interrupt.deadline,
    )


def _expiries(turn: Turn | None) -> tuple[tuple[str, float], ...]:
    if turn is None:
        return ()
    return tuple((name, moment) for name, moment in turn.approvals.items() if moment is not None)


def _calls(turn: Turn | None) -> tuple[tuple[str, str, str], ...]:
    if turn is None:
        return ()
    return tuple((name, *call) for name, call in turn.calls.items())


def _resolved(turn: Turn | None) -> tuple[tuple[str, Decision, str], ...]:
    if turn is None:
        return ()
    return tuple((r.approval_id, r.decision, r.message) for r in turn.resolved.values())


def _writing(turn: Turn | None) -> tuple[WritingRecord, ...]:
    if turn is None:
        return ()
    return tuple(
        WritingRecord(name, one.offset, one.dropped, one.text) for name, one in turn.writing.items()
    )
