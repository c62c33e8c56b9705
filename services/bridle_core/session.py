"""The session machine: one run of one session, from its start to its proven end.

It takes observations of the driver, commands of control and the time, and returns effects. It has
no clock, does no I/O and draws no chance, so that the same calls always give the same effects. The
host's session actor is its only caller. Every method takes `now`, seconds on any clock that never
goes back; `deadline` tells when to call `tick`.

THE LAWS (what the table of phases can't hold)

1. Interrupt is a boundary. Its turn's open tool calls and approvals close before
   TurnEnded{INTERRUPTED}, and nothing of that turn follows: what comes while no turn is on is left
   out. What was being written is kept, as partial.
2. An interrupt is held until the agent has confirmed that the turn began, because agents lose early
   ones; but not beyond its grace: then the driver is told to end what never began. Before the agent
   is up there is nothing to end, and an interrupt cancels the head input.
3. A turn stands in the log, and its inputs count as consumed, once the agent has confirmed it. What
   was handed to an agent that died before it confirmed is UNKNOWN, counts as consumed and never
   runs again. Two exceptions: an agent that ended on purpose never read its input, which goes back
   to the queue; and where a driver killed its agent to end a turn, the next agent gets it.
4. Every input is consumed or cancelled at most once, and never both. Steered text that the agent
   did not confirm returns to the head of the queue.
5. Every command gets exactly one final answer; before it perhaps one that says PENDING. Commands
   apply in their order. (A FAILED run keeps the inputs that wait, and so the answers to them.)
6. PhaseChanged stands directly after its cause, SessionEnded for the last one.
7. A run ends as it was first decided: a Kill overrides all, and the loss of the agent in its turn
   overrides a Stop. Stop and Kill cancel what waits; FAILED keeps it for Resume.
8. "Ended" is a fact: SessionEnded follows only when the performer of the effects has seen
   the process and every descendant gone (VerifyGone, then `gone`). After it there is nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from bridle_core.commands import (
    Cancel,
    Command,
    Deliver,
    Interrupt,
    Kill,
    Release,
    Resolve,
    Stop,
    Update,
)
from bridle_core.effects import (
    Answer,
    Closed,
    Effect,
    Keep,
    Met,
    OutcomeState,
    PhaseChanged,
    ProcessExited,
    SessionStarted,
    StartAgent,
)
from bridle_core.errors import Reason
from bridle_core.observations import (
    ApprovalAsked,
    ApprovalWithdrawn,
    Checkpoint,
    KeepState,
    Note,
    Observation,
    ProcessGone,
    ProcessUp,
    StartFailed,
    Steered,
    StopReason,
    TurnBegan,
    TurnOver,
)
from bridle_core.phases import ENDED, SYSTEM, CancelReason, EndReason, Phase
from bridle_core.session_ends import End
from bridle_core.session_inputs import Move, Timer
from bridle_core.session_record import RunRecord
from bridle_core.session_recovery import Recovery
from bridle_core.turn import TURN_CONTENT

__all__ = ["PARK_SECONDS", "TABLE", "Move", "RunRecord", "Session", "answer_after_end"]

#: A host without a place at control goes on for so many seconds before it stops what it runs: the
#: network may come back, and nobody has its sessions yet.
PARK_SECONDS = 60.0

#: (phase, what moved) -> phase. What isn't in here can't happen; the machine's own code would be
#: wrong. A turn is always closed before the run ends, so no end leads out of RUNNING or WAITING.
TABLE: Mapping[tuple[Phase, Move], Phase] = {
    (Phase.STARTING, Move.PROCESS_UP): Phase.IDLE,
    (Phase.STARTING, Move.STOP_ACCEPTED): Phase.STOPPING,
    (Phase.STARTING, Move.KILL_ACCEPTED): Phase.STOPPING,
    (Phase.STARTING, Move.FAILED): Phase.FAILED,
    (Phase.IDLE, Move.PROCESS_UP): Phase.IDLE,
    (Phase.IDLE, Move.TURN_BEGAN): Phase.RUNNING,
    (Phase.IDLE, Move.STOP_ACCEPTED): Phase.STOPPING,
    (Phase.IDLE, Move.KILL_ACCEPTED): Phase.STOPPING,
    (Phase.IDLE, Move.STOPPED): Phase.STOPPED,
    (Phase.IDLE, Move.FAILED): Phase.FAILED,
    (Phase.RUNNING, Move.APPROVAL_OPENED): Phase.WAITING,
    (Phase.RUNNING, Move.TURN_OVER): Phase.IDLE,
    (Phase.RUNNING, Move.STOP_ACCEPTED): Phase.STOPPING,
    (Phase.RUNNING, Move.KILL_ACCEPTED): Phase.STOPPING,
    (Phase.WAITING, Move.APPROVAL_OPENED): Phase.WAITING,
    (Phase.WAITING, Move.APPROVALS_CLOSED): Phase.RUNNING,
    (Phase.WAITING, Move.TURN_OVER): Phase.IDLE,
    (Phase.WAITING, Move.STOP_ACCEPTED): Phase.STOPPING,
    (Phase.WAITING, Move.KILL_ACCEPTED): Phase.STOPPING,
    (Phase.STOPPING, Move.PROCESS_UP): Phase.STOPPING,
    (Phase.STOPPING, Move.TURN_BEGAN): Phase.STOPPING,
    (Phase.STOPPING, Move.APPROVAL_OPENED): Phase.STOPPING,
    (Phase.STOPPING, Move.APPROVALS_CLOSED): Phase.STOPPING,
    (Phase.STOPPING, Move.TURN_OVER): Phase.STOPPING,
    (Phase.STOPPING, Move.STOP_ACCEPTED): Phase.STOPPING,
    (Phase.STOPPING, Move.KILL_ACCEPTED): Phase.STOPPING,
    (Phase.STOPPING, Move.STOPPED): Phase.STOPPED,
    (Phase.STOPPING, Move.FAILED): Phase.FAILED,
    (Phase.STOPPING, Move.KILLED): Phase.KILLED,
}


def answer_after_end(command: Command) -> Answer:
    """The answer to a command whose run is over or was never here."""
    if isinstance(command, Stop | Kill):
        return Answer(command.command_id, OutcomeState.RAN, Met.ALREADY_ENDED)
    return Answer(command.command_id, OutcomeState.NOT_RUN, Met.SESSION_ENDED)


class Session(Recovery):
    """See the module. Call `open` first, and `settle` after each batch of observations."""

    # --- what it tells ---

    @property
    def phase(self) -> Phase:
        """Where the session stands."""
        return self._phase

    @property
    def closed(self) -> bool:
        """Whether the run is over; nothing more will come."""
        return self._closed

    @property
    def open_turn(self) -> int:
        """The turn that is open; 0 for none."""
        return self._turn.number if self._turn is not None else 0

    @property
    def last_turn(self) -> int:
        """The newest turn, of this run or an earlier one; 0 for none yet."""
        return self._last_turn

    @property
    def hurried(self) -> bool:
        """Whether somebody wants the turn or the run to end: what is left of it should not wait."""
        return self._interrupt is not None or self._end is not None

    @property
    def input_ids(self) -> tuple[str, ...]:
        """The inputs that no turn has consumed."""
        handed = self._handed.items if self._handed is not None else ()
        ids = tuple(item.input_id for item in handed)
        return (*ids, *self._steering, *self._queue.input_ids)

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do; None for never."""
        moments = list(self._timers.values())
        if self._turn is not None:
            moments += [e for e in self._turn.approvals.values() if e is not None]
        if not self._verifying and (expiry := self._queue.next_expiry) is not None:
            moments.append(expiry)
        return min(moments, default=None)

    # --- what it takes ---

    def open(self, now: float) -> list[Effect]:
        """Begin the run."""
        self._now = now
        if self._spec.resume is None:
            self._open(SessionStarted())
        self._set_timer(Timer.START, self._policy.start_timeout)
        self._out.append(StartAgent())
        return self._flush()

    def observe(self, observation: Observation, now: float) -> list[Effect]:
        """Take what the driver saw."""
        if self._closed:
            return []
        self._now = now
        if isinstance(observation, TURN_CONTENT):
            self._on_content(observation)
        else:
            _OBSERVERS[type(observation)](self, observation)
        return self._flush()

    def settle(self, now: float) -> list[Effect]:
        """All that was observed by now is told: what comes next?

        Not asked after each observation, because the next may say that the agent is gone.
        """
        if self._closed:
            return []
        self._now = now
        self._settle_down()
        return self._flush()

    def apply(self, command: Command, now: float) -> list[Effect]:
        """Take a command."""
        if self._closed:
            return [answer_after_end(command)]
        self._now = now
        self._settle_down()
        _APPLIERS[type(command)](self, command)
        self._settle_down()
        return self._flush()

    def tick(self, now: float) -> list[Effect]:
        """Let the time pass."""
        self._now = now
        while self._timers and not self._closed:
            timer = min(self._timers, key=lambda name: self._timers[name])
            if self._timers[timer] > now:
                break
            del self._timers[timer]
            self._fire(timer)
        self._expire_approvals()
        if not self._verifying:
            expired = self._queue.take_expired(now)
            self._cancel_items(expired, CancelReason.EXPIRED, SYSTEM)
        self._settle_down()
        return self._flush()

    def broken(self, message: str, now: float) -> list[Effect]:
        """The driver failed, or ended without a word; `message` is a line for people."""
        if self._closed or self._verifying:
            return []
        self._now = now
        if self._end is None or (self._turn_number and self._end.phase is Phase.STOPPED):
            started = self._up or self._replacing
            reason = EndReason.AGENT_LOST if started else EndReason.START_FAILED
            self._end = End(Phase.FAILED, reason, message)
        self._wind_up()
        return self._flush()

    def host_lost(
        self, now: float, message: str, reason: EndReason = EndReason.HOST_STOPPED
    ) -> list[Effect]:
        """The host service died under the run (see `restore`); only its proven end is left.

        reason: AGENT_LOST where the agent was gone by itself when the host was back.
        """
        self._now = now
        if self._end is None or self._end.phase is not Phase.KILLED:
            self._end = End(Phase.FAILED, reason, message, SYSTEM)
        self._wind_up()
        return self._flush()

    def gone(
        self, swept: int, now: float, *, verified: bool = True, doubt: str = ""
    ) -> list[Effect]:
        """The process and every descendant were seen gone; `swept` of them had to be killed.

        Not `verified`: they are out of reach, and may live. `doubt`: the process is gone, and why
        not every descendant could be seen, a line for people.
        """
        if self._closed:
            return []
        self._now = now
        end = self._end
        assert end is not None
        self._close_turn()
        if self._up:
            self._up = False
            if verified:
                self._emit(ProcessExited(self._pid, killed=True))
        self._closed = True
        if not self._opened and not self._enders and end.phase is Phase.FAILED:
            # A Resume that failed: nothing was written, so the session stays as it was.
            self._phase = Phase.FAILED
            metadata = {"agent": self._spec.agent}
            start = self._spec.start_command
            self._refuse(start, Reason.START_FAILED, end.message, metadata)
        else:
            message = f"{end.message}; {doubt}" if end.message and doubt else end.message or doubt
            self._finish(replace(end, message=message), swept, verified and not doubt)
        self._out.append(Closed())
        return self._flush()

    # --- for a host that has lost its place ---

    def park(self, now: float) -> list[Effect]:
        """No turn starts any more; after PARK_SECONDS the run is stopped. Idempotent."""
        if not self._parked and not self._closed and not self._dying:
            self._now, self._parked = now, True
            self._set_timer(Timer.PARK, PARK_SECONDS)
        return self._flush()

    def unpark(self, now: float) -> list[Effect]:
        """Go on as if nothing had been; a stop that came of it goes on, too. Idempotent."""
        if not self._parked or self._closed:
            return []
        self._now, self._parked = now, False
        self._timers.pop(Timer.PARK, None)
        self._rest()
        self._settle_down()
        return self._flush()

    # --- phases ---

    def _move(self, move: Move) -> None:
        before, after = self._phase, TABLE[(self._phase, move)]
        self._phase = after
        if after is not before and after not in ENDED:
            self._emit(PhaseChanged(before, after))

    # --- the rest ---

    def _apply_update(self, command: Update) -> None:
        self._policy = command.policy
        self._rule_open()
        self._timers.pop(Timer.IDLE, None)
        self._rest()
        self._answer(command.command_id, OutcomeState.RAN, Met.DONE)

    def _on_note(self, observation: Note) -> None:
        self._emit(observation, self.open_turn)

    def _on_keep_state(self, observation: KeepState) -> None:
        self._out.append(Keep(observation.state))

    def _on_checkpoint(self, observation: Checkpoint) -> None:
        """Where the driver stands is for the driver of the next host process."""

    def _fire(self, timer: Timer) -> None:
        if timer is Timer.START and self._replacing:
            self._fail(EndReason.AGENT_LOST, "the agent did not come up again in time")
        elif timer is Timer.START:
            self._fail(EndReason.START_TIMEOUT, "the agent was not up in time")
        elif timer is Timer.TURN:
            self._interrupt_turn(StopReason.TIMED_OUT)
        elif timer is Timer.INTERRUPT:
            if not self._hold_no_longer():
                self._fail(EndReason.AGENT_LOST, "the agent did not end its turn")
        elif timer is Timer.STOP:
            self._interrupt_turn(StopReason.INTERRUPTED)
        elif timer is Timer.END:
            self._kill_agent()
        elif timer is Timer.KILL:
            self._wind_up()
        elif timer is Timer.PARK:
            # Whoever has the place now may run this session: it must not have two agents.
            self._apply_stop(Stop(grace=0.0, reason=EndReason.HOST_STOPPED, principal=SYSTEM))
        else:
            self._apply_stop(Stop(reason=EndReason.IDLE_TIMEOUT, principal=SYSTEM))


_OBSERVERS: Mapping[type, Callable[[Session, Any], None]] = {
    ProcessUp: Session._on_process_up,
    ProcessGone: Session._on_process_gone,
    StartFailed: Session._on_start_failed,
    TurnBegan: Session._on_turn_began,
    TurnOver: Session._on_turn_over,
    Steered: Session._on_steered,
    ApprovalAsked: Session._on_approval_asked,
    ApprovalWithdrawn: Session._on_approval_withdrawn,
    Note: Session._on_note,
    KeepState: Session._on_keep_state,
    Checkpoint: Session._on_checkpoint,
}

_APPLIERS: Mapping[type, Callable[[Session, Any], None]] = {
    Deliver: Session._deliver,
    Interrupt: Session._apply_interrupt,
    Stop: Session._apply_stop,
    Kill: Session._apply_kill,
    Resolve: Session._resolve,
    Release: Session._release,
    Cancel: Session._cancel,
    Update: Session._apply_update,
}
