"""The session machine's turns: handed to the agent, begun, interrupted, over.

A part of `bridle_core.session.Session` (where the laws and the table of phases stand). It may not
decide how a run ends. Only `session` builds on it.
"""

from __future__ import annotations

from dataclasses import replace

from bridle_core.commands import Interrupt
from bridle_core.effects import (
    Emit,
    InterruptTurn,
    Met,
    OutcomeState,
    QueueHeld,
    SendTurn,
    TurnEnded,
    TurnStarted,
)
from bridle_core.observations import (
    Message,
    Steered,
    StopReason,
    ToolOutput,
    TurnBegan,
    TurnOver,
    Usage,
)
from bridle_core.phases import SYSTEM, AfterInterrupt, CancelReason, Principal, TurnTrigger
from bridle_core.queue import Item
from bridle_core.session_approvals import Approvals
from bridle_core.session_inputs import Handed, Interrupting, Move, Timer
from bridle_core.turn import Turn, TurnContent

#: Beyond an interrupt's grace, which the driver keeps itself, the machine waits this many seconds
#: for the end of the turn; then the agent is killed and the run with it.
INTERRUPT_WATCH = 10.0
#: Of the name of a model so many characters are remembered: it is written down with each record.
LONGEST_MODEL = 256


class Turns(Approvals):
    """See the module."""

    # --- turns ---

    def _hand(self, items: tuple[Item, ...]) -> None:
        """Give inputs to the agent as a turn; it is one when the agent confirms it."""
        # Not always the turn's number: the agent may begin a turn of its own before it, and what
        # comes back unread is handed out again.
        label = self._last_label = max(self._last_turn, self._last_label) + 1
        self._handed = Handed(label, items)
        self._timers.pop(Timer.IDLE, None)
        self._set_timer(Timer.TURN, self._policy.turn_timeout)
        content = tuple(piece for item in items for piece in item.content)
        self._out.append(SendTurn(label, content))

    def _on_turn_began(self, observation: TurnBegan) -> None:
        if self._turn is not None or not self._up:
            return
        handed = self._handed
        if handed is not None and observation.turn == handed.label:
            self._begin_handed(handed, confirmed=observation.confirmed)
        elif self._taking and not self._dying:
            self._timers.pop(Timer.IDLE, None)
            self._set_timer(Timer.TURN, self._policy.turn_timeout)
            self._begin(TurnTrigger.AGENT, ())

    def _begin_handed(self, handed: Handed, *, confirmed: bool) -> None:
        self._handed = None
        if Timer.TURN not in self._timers:
            # A turn of the agent's own came between and took the time along.
            self._set_timer(Timer.TURN, self._policy.turn_timeout)
        self._begin(TurnTrigger.INPUT, handed.items, confirmed=confirmed)
        for item in self._queue.take_for_turn():
            self._steer(item)
        if self._interrupt is not None and not self._dying:
            self._give_interrupt(self._interrupt)

    def _begin(
        self, trigger: TurnTrigger, items: tuple[Item, ...], *, confirmed: bool = True
    ) -> None:
        self._last_turn += 1
        turn = self._turn = Turn(self._last_turn, trigger)
        self._words.new_turn()
        principal = items[0].principal if items else None
        ids = tuple(item.input_id for item in items)
        self._emit(TurnStarted(trigger, ids), turn.number, principal)
        for item in items:
            self._consume(item, turn.number, steered=False, confirmed=confirmed)
        self._move(Move.TURN_BEGAN)

    def _on_content(self, content: TurnContent) -> None:
        """Outside of a turn nothing of a turn is taken: it belongs to one that is over."""
        if self._turn is None:
            return
        for effect in self._turn.take(content):
            self._out.append(effect)
            if isinstance(effect, Emit) and isinstance(effect.event, Message):
                self._words.note(effect.event)
        if isinstance(content, ToolOutput):
            self._words.note(content)
        elif isinstance(content, Usage):
            self._usage = replace(content, model=content.model[:LONGEST_MODEL])

    def _on_steered(self, observation: Steered) -> None:
        item = self._steering.pop(observation.input_id, None)
        if item is not None and self._turn is not None:
            self._consume(item, self._turn.number, steered=True, confirmed=True)

    def _on_turn_over(self, observation: TurnOver) -> None:
        if self._turn is None and self._handed is not None and self._up:
            # The agent was so quick that its driver saw the end only.
            self._begin_handed(self._handed, confirmed=True)
        if self._turn is None:
            return
        reason = observation.stop_reason
        if reason is StopReason.INTERRUPTED:
            if self._interrupt is not None:
                reason = self._interrupt.stop_reason
            elif self._dying:
                reason = StopReason.KILLED
        self._end_turn(reason, observation.exit_code, observation.message)
        self._rest()

    def _end_turn(
        self, reason: StopReason, exit_code: int | None = None, message: str = ""
    ) -> None:
        turn, interrupt = self._turn, self._interrupt
        assert turn is not None
        lost = reason in (StopReason.AGENT_LOST, StopReason.KILLED)
        steering, self._steering = self._steering, {}
        if lost:
            for item in steering.values():
                self._consume(item, turn.number, steered=True, confirmed=False)
        self._out.extend(turn.close(reason))
        principal = None
        if interrupt is not None and reason is StopReason.INTERRUPTED:
            principal = interrupt.principal
        elif reason is StopReason.TIMED_OUT:
            principal = SYSTEM
        self._emit(TurnEnded(reason, exit_code, message), turn.number, principal)
        self._turn, self._last_stop = None, reason
        self._timers.pop(Timer.TURN, None)
        self._move(Move.TURN_OVER)
        if not lost:
            for item in steering.values():
                self._give_back(item)
        if interrupt is not None and interrupt.early and self._handed is not None:
            # The agent had begun a turn of its own before the one that is meant.
            interrupt.deadline = None
            self._set_timer(Timer.INTERRUPT, interrupt.grace)
            return
        self._interrupt = None
        self._timers.pop(Timer.INTERRUPT, None)
        self._after_interrupt(interrupt, turn.number, reason)

    # --- interrupts ---

    def _apply_interrupt(self, command: Interrupt) -> None:
        current, named = self._turn_number, command.turn
        ran = OutcomeState.RAN
        if named and named != current:
            met = Met.TURN_ALREADY_ENDED if named <= self._last_turn else Met.NO_TURN
            self._answer(command.command_id, ran, met, turn=named)
        elif current:
            self._answer(command.command_id, OutcomeState.PENDING, Met.IN_PROGRESS, turn=current)
            self._interrupt_turn(
                StopReason.INTERRUPTED,
                command_id=command.command_id,
                grace=command.grace,
                after=command.after or self._policy.after_interrupt,
                include_background=command.include_background,
                principal=command.principal,
            )
        elif not self._up and not self._dying and (head := self._queue.take_head()) is not None:
            principal = command.principal
            self._cancel_items((head,), CancelReason.INTERRUPTED, principal)
            input_id = head.input_id
            self._answer(command.command_id, ran, Met.INPUT_CANCELLED, input_id=input_id)
            after = command.after or self._policy.after_interrupt
            self._apply_after(after, frozenset(self._queue.input_ids), principal)
        else:
            self._answer(command.command_id, ran, Met.NO_TURN)

    def _interrupt_turn(
        self,
        stop_reason: StopReason,
        *,
        command_id: str = "",
        grace: float | None = None,
        after: AfterInterrupt | None = None,
        include_background: bool = False,
        principal: Principal | None = None,
    ) -> None:
        """End the turn that is on or about to begin. Without `after` the queue just goes on."""
        seconds = self._policy.interrupt_grace if grace is None else grace
        interrupt = self._interrupt
        if interrupt is None:
            interrupt = Interrupting(stop_reason, seconds, None, include_background, principal)
            interrupt.early = self._turn is None
            self._interrupt = interrupt
            self._void_approvals(principal)
            again = True
        else:
            if command_id and interrupt.stop_reason is StopReason.TIMED_OUT:
                interrupt.stop_reason, interrupt.principal = stop_reason, principal
            again = self._join(interrupt, seconds, include_background)
        if command_id:
            interrupt.commands.append(command_id)
        if after is not None:
            interrupt.after = after
            if after is AfterInterrupt.DROP:
                interrupt.dropped = frozenset((*self._queue.input_ids, *self._steering))
        if again and not self._dying:
            if self._turn is not None:
                self._give_interrupt(interrupt)
            else:
                # Held until the agent confirms that the turn began: agents lose early ones. But
                # not for ever: one that is stuck confirms nothing.
                watch = INTERRUPT_WATCH if interrupt.deadline is not None else 0.0
                self._set_timer(Timer.INTERRUPT, interrupt.grace + watch)

    def _hold_no_longer(self) -> bool:
        """An interrupt that was held has had its grace. False where none was held."""
        interrupt = self._interrupt
        if interrupt is None or interrupt.deadline is not None:
            return False
        if self._turn is not None or self._handed is None:
            return False
        interrupt.grace = 0.0
        self._give_interrupt(interrupt)
        return True

    def _join(self, interrupt: Interrupting, seconds: float, include_background: bool) -> bool:
        """Let one interrupt stand for two. Whether the driver has to hear of the second."""
        left = interrupt.grace
        if interrupt.deadline is not None:
            left = max(0.0, interrupt.deadline - self._now)
        again = seconds < left or (include_background and not interrupt.include_background)
        interrupt.grace = min(seconds, left)
        interrupt.include_background |= include_background
        return again

    def _give_interrupt(self, interrupt: Interrupting) -> None:
        interrupt.deadline = self._now + interrupt.grace
        self._set_timer(Timer.INTERRUPT, interrupt.grace + INTERRUPT_WATCH)
        self._out.append(InterruptTurn(interrupt.grace, interrupt.include_background))

    def _after_interrupt(
        self, interrupt: Interrupting | None, turn: int, reason: StopReason
    ) -> None:
        if interrupt is None:
            return
        hit = reason is StopReason.INTERRUPTED
        met = Met.TURN_INTERRUPTED if hit else Met.TURN_ALREADY_ENDED
        if hit:
            self._apply_after(interrupt.after, interrupt.dropped, interrupt.principal)
        for command_id in interrupt.commands:
            self._answer(command_id, OutcomeState.RAN, met, turn=turn)

    def _apply_after(
        self, after: AfterInterrupt | None, dropped: frozenset[str], principal: Principal | None
    ) -> None:
        if after is AfterInterrupt.DROP:
            items = self._queue.take_ids(dropped)
            self._cancel_items(items, CancelReason.DROPPED, principal)
        elif after is AfterInterrupt.HOLD and self._taking and self._queue.hold():
            self._emit(QueueHeld(), principal=principal)
