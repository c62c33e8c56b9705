"""The session machine's process and ends: up, gone, replaced; stopped, killed, failed.

A part of `bridle_core.session.Session` (where the laws and the table of phases stand). Decides what
comes next when no turn is on, how a run ends, and that it ends once. Only `session` builds on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bridle_core.commands import Kill, RunSpec, Stop
from bridle_core.effects import (
    ArtifactsReported,
    KillAgent,
    Met,
    OutcomeState,
    ProcessExited,
    ProcessStarted,
    ReplaceAgent,
    SessionEnded,
    SessionResumed,
    SessionStarted,
    StopAgent,
    VerifyGone,
)
from bridle_core.observations import ProcessGone, ProcessUp, ResumeMode, StartFailed, StopReason
from bridle_core.phases import SYSTEM, CancelReason, EndReason, Phase, Principal
from bridle_core.session_inputs import Handed, Move, Timer
from bridle_core.session_turns import Turns

#: What an idle agent gets to end by itself after a Stop, in seconds.
STOP_GRACE = 5.0
#: Beyond that grace, and after a kill, the machine waits this long for the process's end, in
#: seconds; then what is left is killed without the driver.
END_WATCH = 10.0

ENDS: Mapping[Phase, Move] = {
    Phase.STOPPED: Move.STOPPED,
    Phase.FAILED: Move.FAILED,
    Phase.KILLED: Move.KILLED,
}


@dataclass(frozen=True, slots=True)
class End:
    """How the run will end."""

    phase: Phase
    reason: EndReason
    message: str = ""
    principal: Principal | None = None


class Ends(Turns):
    """See the module."""

    def __init__(self, spec: RunSpec) -> None:
        super().__init__(spec)
        self._phase = Phase.STARTING
        self._opened = False
        #: Between an agent that was killed to end its turn and the one that replaces it.
        self._replacing = False
        self._pid = 0
        self._end: End | None = None
        #: Stops and kills that are answered at the end.
        self._enders: list[str] = []
        self._reported = False
        self._killing = False
        self._verifying = False
        self._closed = False
        #: Something happened after which the next turn may begin, or the agent be stopped.
        self._resting = False
        #: The host has no place at control: no turn begins.
        self._parked = False

    @property
    def _taking(self) -> bool:
        return self._end is None or self._end.phase is Phase.FAILED

    @property
    def _closing(self) -> CancelReason:
        killed = self._end is not None and self._end.phase is Phase.KILLED
        return CancelReason.KILLED if killed else CancelReason.STOPPED

    @property
    def _dying(self) -> bool:
        return self._killing or self._verifying

    def _open(self, event: SessionStarted | SessionResumed) -> None:
        self._opened = True
        self._emit(event, principal=self._spec.principal)
        self._answer(self._spec.start_command, OutcomeState.RAN, Met.DONE)

    def _rest(self) -> None:
        self._resting = True

    def _settle_down(self) -> None:
        """Go on from where everything that is known by now has led."""
        resting, self._resting = self._resting, False
        if not resting or self._turn is not None or self._handed is not None:
            return
        if not self._up or self._dying:
            return
        if self._end is not None:
            self._stop_agent()
        elif self._parked:
            return
        elif items := self._queue.take(self._policy.consume):
            self._hand(items)
        elif Timer.IDLE not in self._timers:
            self._set_timer(Timer.IDLE, self._policy.idle_ttl)

    # --- the agent's process ---

    def _on_process_up(self, observation: ProcessUp) -> None:
        if self._up or self._verifying:
            return
        mode = observation.mode
        if not self._opened:
            self._open(SessionResumed(self._resume_mode(mode), observation.lost))
        again = self._replacing
        lost = observation.lost if again else ()
        self._pid, self._up, self._replacing = observation.pid, True, False
        self._emit(ProcessStarted(observation.pid, again, mode if again else None, lost))
        self._timers.pop(Timer.START, None)
        self._move(Move.PROCESS_UP)
        self._rest()

    def _resume_mode(self, told: ResumeMode | None) -> ResumeMode:
        """How the conversation came along: as the driver told, else as it was asked for."""
        if told is not None:
            return told
        native = self._spec.resume is ResumeMode.NATIVE
        return ResumeMode.NATIVE if native else ResumeMode.SEEDED

    def _on_start_failed(self, observation: StartFailed) -> None:
        if self._up or self._verifying:
            return
        if self._end is None or self._end.phase is Phase.STOPPED:
            reason = EndReason.AGENT_LOST if self._replacing else EndReason.START_FAILED
            self._end = End(Phase.FAILED, reason, observation.message)
        self._wind_up()

    def _on_process_gone(self, observation: ProcessGone) -> None:
        if self._verifying:
            return
        if not self._up:
            # Killed on its way up, or a driver that saw the end only.
            self._on_start_failed(StartFailed("the agent ended before it was up"))
            return
        # An agent that ended on purpose never read what came last; where its driver killed it to
        # end a turn, the next agent gets it.
        unread = observation.deliberate or (observation.killed and not self._killing)
        handed = self._handed if unread else None
        if handed is not None:
            self._handed = None
        self._decide_exit(observation, lost=bool(self._turn_number))
        self._close_turn()
        if handed is not None and self._end is None:
            self._handed = handed
        elif handed is not None:
            self._take_back(handed)
        self._up = False
        code, signal = observation.exit_code, observation.signal
        self._emit(ProcessExited(observation.pid, code, signal, observation.killed))
        if self._end is None:
            self._replacing = True
            self._timers.pop(Timer.IDLE, None)
            self._set_timer(Timer.START, self._policy.start_timeout)
            self._out.append(ReplaceAgent())
        else:
            self._wind_up()

    def _decide_exit(self, observation: ProcessGone, *, lost: bool) -> None:
        """How the run ends by this exit; it goes on after one that ended a turn by force."""
        end = self._end
        if end is not None and not (lost and end.phase is Phase.STOPPED):
            return
        code, signal = observation.exit_code, observation.signal
        how = f"exited with {code}" if code is not None else f"was ended by signal {signal}"
        if code is None and signal is None:
            how = "is gone without a trace"
        if lost:
            message = f"the agent {how} in a turn"
            self._end = End(Phase.FAILED, EndReason.AGENT_LOST, message)
        elif observation.deliberate or code == 0:
            self._end = End(Phase.STOPPED, EndReason.AGENT_EXITED, f"the agent {how}")
        elif not observation.killed:
            self._end = End(Phase.FAILED, EndReason.AGENT_LOST, f"the agent {how}")

    def _take_back(self, handed: Handed) -> None:
        """A turn that will not begin: an interrupt that was held for it cancels its inputs."""
        interrupt, self._interrupt = self._interrupt, None
        self._timers.pop(Timer.INTERRUPT, None)
        self._timers.pop(Timer.TURN, None)
        if interrupt is None or not interrupt.commands:
            for item in handed.items:
                self._give_back(item)
            return
        self._cancel_items(handed.items, CancelReason.INTERRUPTED, interrupt.principal)
        for command_id in interrupt.commands:
            input_id = handed.items[0].input_id
            self._answer(command_id, OutcomeState.RAN, Met.INPUT_CANCELLED, input_id=input_id)
        self._apply_after(interrupt.after, interrupt.dropped, interrupt.principal)

    def _close_turn(self) -> None:
        """The agent is gone: what is open is over."""
        killed = self._end is not None and self._end.phase is Phase.KILLED
        reason = StopReason.KILLED if killed else StopReason.AGENT_LOST
        if self._turn is not None:
            self._end_turn(reason)
        handed = self._handed
        if handed is not None and self._up:
            self._begin_handed(handed, confirmed=False)
            self._end_turn(reason)
        elif handed is not None:
            # No agent was there that could have read it.
            self._handed = None
            self._take_back(handed)

    # --- ends ---

    def _apply_stop(self, command: Stop) -> None:
        if self._phase is Phase.STOPPING:
            if command.grace is not None and not self._dying:
                self._stop_turn_after(command.grace)
            self._answer(command.command_id, OutcomeState.RAN, Met.ALREADY_STOPPING)
            return
        self._accept_end(command.command_id)
        if self._end is None:
            self._end = End(Phase.STOPPED, command.reason, principal=command.principal)
        self._move(Move.STOP_ACCEPTED)
        self._cancel_items(self._queue.take_all(), CancelReason.STOPPED, command.principal)
        self._timers.pop(Timer.IDLE, None)
        if command.grace is not None and not self._dying:
            self._stop_turn_after(command.grace)
        self._rest()

    def _accept_end(self, command_id: str) -> None:
        if command_id:
            self._answer(command_id, OutcomeState.PENDING, Met.IN_PROGRESS)
            self._enders.append(command_id)

    def _stop_turn_after(self, grace: float) -> None:
        """Interrupt the last turn after `grace` seconds; a shorter grace counts."""
        if not self._turn_number:
            return
        moment = self._now + grace
        if moment <= self._now:
            self._timers.pop(Timer.STOP, None)
            self._interrupt_turn(StopReason.INTERRUPTED)
        elif moment < self._timers.get(Timer.STOP, float("inf")):
            self._timers[Timer.STOP] = moment

    def _apply_kill(self, command: Kill) -> None:
        self._accept_end(command.command_id)
        if self._end is None or self._end.phase is not Phase.KILLED:
            self._end = End(Phase.KILLED, command.reason, principal=command.principal)
        self._move(Move.KILL_ACCEPTED)
        self._cancel_items(self._queue.take_all(), CancelReason.KILLED, command.principal)
        self._kill_agent()

    def _stop_agent(self) -> None:
        if self._reported:
            return
        self._reported = True
        turns = self._last_turn - self._spec.last_turn
        self._emit(ArtifactsReported(self._words.text, self._last_stop, turns, self._usage))
        self._timers.pop(Timer.STOP, None)
        self._set_timer(Timer.END, STOP_GRACE + END_WATCH)
        self._out.append(StopAgent(STOP_GRACE))

    def _kill_agent(self) -> None:
        if self._dying:
            return
        self._killing = True
        self._timers.clear()
        self._set_timer(Timer.KILL, END_WATCH)
        self._out.append(KillAgent())

    def _fail(self, reason: EndReason, message: str) -> None:
        self._end = End(Phase.FAILED, reason, message, SYSTEM)
        self._kill_agent()

    def _wind_up(self) -> None:
        self._verifying = True
        self._timers.clear()
        self._out.append(VerifyGone())

    def _finish(self, end: End, swept: int, verified: bool) -> None:
        if not self._opened:
            # A resumed run that never came up, and that somebody ended: the log tells both.
            self._open(SessionResumed(self._resume_mode(None)))
        if end.phase is not Phase.FAILED:
            self._cancel_items(self._queue.take_all(), self._closing, end.principal)
        self._move(ENDS[end.phase])
        ended = SessionEnded(end.phase, end.reason, end.message, swept, verified)
        self._emit(ended, principal=end.principal)
        for command_id in self._enders:
            self._answer(command_id, OutcomeState.RAN, Met.DONE)
