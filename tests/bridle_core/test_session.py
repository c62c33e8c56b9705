"""The session machine beside its verbs: process and ends, limits in time, its memory."""

from __future__ import annotations

import itertools

import pytest

from bridle_core.commands import Kill, RunSpec, Stop, Update
from bridle_core.effects import (
    Answer,
    ArtifactsReported,
    Closed,
    Emit,
    InputCancelled,
    InputConsumed,
    Keep,
    KillAgent,
    Met,
    OutcomeState,
    PhaseChanged,
    ProcessExited,
    ProcessStarted,
    SendTurn,
    SessionEnded,
    SessionResumed,
    SessionStarted,
    StartAgent,
    StopAgent,
    TurnEnded,
    TurnStarted,
    VerifyGone,
)
from bridle_core.errors import Reason
from bridle_core.observations import (
    ApprovalAsked,
    Capability,
    KeepState,
    Message,
    Note,
    NoteKind,
    ProcessGone,
    ProcessUp,
    ResumeMode,
    StartFailed,
    StopReason,
    Text,
    ToolOutput,
    ToolStarted,
    TurnBegan,
    TurnOver,
)
from bridle_core.ordering import EventKind, OrderChecker
from bridle_core.phases import (
    ENDED,
    CancelReason,
    EndReason,
    InputMode,
    Phase,
    Policy,
    Principal,
    PrincipalKind,
    QueueState,
)
from bridle_core.session import TABLE, Move, RunRecord, Session, answer_after_end
from tests.bridle_core.session_support import Run, calls, events, feed

PENDING, RAN, NOT_RUN = OutcomeState.PENDING, OutcomeState.RAN, OutcomeState.NOT_RUN
ANNA = Principal(PrincipalKind.USER, "t1", "anna")


def spec(**fields: object) -> RunSpec:
    policy = fields.pop("policy", Policy())
    return RunSpec("start", "fake", policy=policy, **fields)  # type: ignore[arg-type]


def run_with(**policy: object) -> Run:
    return Run(spec(policy=Policy(**policy)))  # type: ignore[arg-type]


def end_of(run: Run) -> SessionEnded:
    return run.events(SessionEnded)[-1]


# --- the table ----------------------------------------------------------------------------------


def test_nothing_leads_out_of_an_ended_phase() -> None:
    assert not [phase for phase, _ in TABLE if phase in ENDED]


def test_a_session_that_stops_only_ends() -> None:
    after = {TABLE[key] for key in TABLE if key[0] is Phase.STOPPING}
    assert after == {Phase.STOPPING, *ENDED}


def test_every_phase_is_reached_and_every_move_moves() -> None:
    assert set(TABLE.values()) | {Phase.STARTING} == set(Phase)
    assert {move for _, move in TABLE} == set(Move)


# --- the start ----------------------------------------------------------------------------------


def test_a_run_opens_with_session_started_and_then_its_answer() -> None:
    effects = Run(spec(principal=ANNA)).open()
    assert effects == [
        Emit(SessionStarted(), principal=ANNA),
        Answer("start", RAN, Met.DONE),
        StartAgent(),
    ]


def test_the_agent_that_is_up_makes_the_session_idle() -> None:
    run = Run()
    run.open()
    effects = run.see(ProcessUp(7))
    assert events(effects) == [ProcessStarted(7), PhaseChanged(Phase.STARTING, Phase.IDLE)]
    assert run.see(ProcessUp(8)) == []


def test_phase_changed_stands_directly_after_its_cause() -> None:
    run = Run().up()
    run.send("x")
    assert events(run.confirm()) == [
        TurnStarted(run.events(TurnStarted)[0].trigger, ("x",)),
        InputConsumed("x"),
        PhaseChanged(Phase.IDLE, Phase.RUNNING),
    ]


def test_an_agent_that_cannot_be_started_fails_the_run_and_keeps_the_inputs() -> None:
    run = Run()
    run.open()
    run.send("x")
    run.see(StartFailed("no such program"))
    run.gone()
    assert end_of(run) == SessionEnded(Phase.FAILED, EndReason.START_FAILED, "no such program")
    assert run.events(InputCancelled) == []
    assert run.answers("cx") == [(PENDING, Met.QUEUED)]
    run.checker.finish()


def test_an_agent_that_ends_before_it_is_up_has_failed_to_start() -> None:
    run = Run()
    run.open()
    run.see(ProcessGone(7, exit_code=1))
    run.gone()
    assert end_of(run).reason is EndReason.START_FAILED
    assert run.events(ProcessExited) == []


def test_an_agent_that_is_not_up_in_time_is_killed() -> None:
    run = run_with(start_timeout=60.0)
    run.open()
    assert calls(run.wait(59.9)) == []
    assert calls(run.wait(0.2)) == [KillAgent()]
    run.see(StartFailed("killed"))
    run.gone()
    assert end_of(run).reason is EndReason.START_TIMEOUT
    assert end_of(run).phase is Phase.FAILED


def test_an_agent_that_comes_up_while_it_is_killed_is_told_of_and_gets_no_work() -> None:
    run = run_with(start_timeout=1.0)
    run.open()
    run.send("x")
    run.wait(1.0)
    effects = run.see(ProcessUp(7))
    assert SendTurn not in {type(effect) for effect in effects}
    run.see(ProcessGone(7, signal=9, killed=True))
    run.gone()
    assert [e.pid for e in run.events(ProcessExited)] == [7]
    assert end_of(run).reason is EndReason.START_TIMEOUT


def test_without_a_start_timeout_the_start_may_take_for_ever() -> None:
    run = run_with(start_timeout=0.0)
    run.open()
    assert run.machine.deadline is None


# --- resume -------------------------------------------------------------------------------------


def test_a_resumed_run_opens_when_the_agent_has_told_how() -> None:
    run = Run(spec(resume=ResumeMode.AUTO))
    assert run.open() == [StartAgent()]
    effects = run.see(ProcessUp(7, mode=ResumeMode.NATIVE, lost=("variables",)))
    assert events(effects)[:2] == [
        SessionResumed(ResumeMode.NATIVE, ("variables",)),
        ProcessStarted(7),
    ]
    assert run.answers("start") == [(RAN, Met.DONE)]


@pytest.mark.parametrize(
    ("asked", "told"),
    [(ResumeMode.NATIVE, ResumeMode.NATIVE), (ResumeMode.AUTO, ResumeMode.SEEDED)],
)
def test_where_the_driver_does_not_tell_how_it_was_as_asked(
    asked: ResumeMode, told: ResumeMode
) -> None:
    run = Run(spec(resume=asked))
    run.open()
    run.see(ProcessUp(7))
    assert run.events(SessionResumed) == [SessionResumed(told)]


def test_a_resume_that_fails_is_refused_and_writes_nothing() -> None:
    run = Run(spec(resume=ResumeMode.NATIVE))
    run.open()
    run.see(StartFailed("the conversation is gone"))
    effects = run.gone()
    assert events(effects) == []
    answer = run.all_answers("start")[-1]
    assert (answer.state, answer.error) == (NOT_RUN, Reason.START_FAILED)
    assert answer.message == "the conversation is gone"
    assert run.closed


def test_a_resume_that_fails_after_a_stop_is_told_as_a_run() -> None:
    run = Run(spec(resume=ResumeMode.AUTO))
    run.open()
    run.stop()
    run.see(StartFailed("no"))
    run.gone()
    assert run.events(SessionResumed) == [SessionResumed(ResumeMode.SEEDED)]
    assert end_of(run).reason is EndReason.START_FAILED
    assert run.answers("stop")[-1] == (RAN, Met.DONE)


# --- ends that nobody asked for -----------------------------------------------------------------


def test_an_idle_agent_that_ends_with_0_has_stopped() -> None:
    run = Run().up()
    run.see(ProcessGone(7, exit_code=0))
    run.gone()
    assert end_of(run) == SessionEnded(
        Phase.STOPPED, EndReason.AGENT_EXITED, "the agent exited with 0"
    )


def test_an_agent_that_meant_to_end_has_stopped_whatever_its_code() -> None:
    run = Run().up().begin("x")
    run.send("y")
    run.see(TurnOver(StopReason.COMPLETED, 3), ProcessGone(7, exit_code=3, deliberate=True))
    run.gone()
    assert end_of(run).phase is Phase.STOPPED
    assert run.events(InputCancelled) == [InputCancelled("y", CancelReason.STOPPED)]
    assert run.events(ArtifactsReported) == []


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        (ProcessGone(7, exit_code=1), "the agent exited with 1"),
        (ProcessGone(7, signal=11), "the agent was ended by signal 11"),
        (ProcessGone(7), "the agent is gone without a trace"),
    ],
)
def test_an_idle_agent_that_ends_otherwise_is_lost(gone: ProcessGone, message: str) -> None:
    run = Run().up()
    run.see(gone)
    run.gone()
    assert end_of(run) == SessionEnded(Phase.FAILED, EndReason.AGENT_LOST, message)


def test_an_agent_that_dies_in_its_turn_is_lost_even_with_0() -> None:
    run = Run().up().begin("x")
    run.send("y")
    run.see(ToolStarted("t", "bash"))
    run.see(ProcessGone(7, exit_code=0))
    run.gone()
    assert run.events(TurnEnded) == [TurnEnded(StopReason.AGENT_LOST)]
    assert end_of(run).reason is EndReason.AGENT_LOST
    assert run.events(InputCancelled) == []
    run.checker.finish()


def test_what_an_agent_had_not_confirmed_when_it_died_is_unknown_and_never_runs_again() -> None:
    run = Run().up()
    run.send("x")
    run.see(ProcessGone(7, signal=9))
    run.gone()
    assert run.answers("cx") == [(PENDING, Met.QUEUED), (OutcomeState.UNKNOWN, Met.AGENT_LOST)]
    assert run.events(InputConsumed) == [InputConsumed("x")]
    assert run.events(TurnEnded) == [TurnEnded(StopReason.AGENT_LOST)]
    run.checker.finish()


def test_an_agent_that_meant_to_end_never_read_what_came_last() -> None:
    run = Run().up().begin("x")
    run.finish()
    run.send("y")
    run.see(ProcessGone(7, exit_code=0, deliberate=True))
    run.gone()
    assert run.events(InputCancelled) == [InputCancelled("y", CancelReason.STOPPED)]
    assert run.answers("cy")[-1] == (NOT_RUN, Met.CANCELLED)


def test_a_loss_overrides_a_stop() -> None:
    run = Run().up().begin("x")
    run.stop()
    run.see(ProcessGone(7, signal=11))
    run.gone()
    assert end_of(run).reason is EndReason.AGENT_LOST
    assert run.answers("stop")[-1] == (RAN, Met.DONE)


def test_a_kill_overrides_everything_even_a_loss_that_is_being_looked_at() -> None:
    run = Run().up().begin("x")
    run.send("y")
    run.see(ProcessGone(7, signal=11))
    run.kill()
    run.kill("kill2")
    run.gone()
    assert end_of(run).phase is Phase.KILLED
    assert run.events(InputCancelled) == [InputCancelled("y", CancelReason.KILLED)]
    assert run.answers("kill2")[-1] == (RAN, Met.DONE)


def test_a_stop_of_a_failed_run_that_is_being_looked_at_changes_the_queue_only() -> None:
    run = Run().up().begin("x")
    run.send("y")
    run.see(ProcessGone(7, signal=11))
    run.stop(grace=0.0)
    run.gone()
    assert end_of(run).reason is EndReason.AGENT_LOST
    assert run.events(InputCancelled) == [InputCancelled("y", CancelReason.STOPPED)]


def test_an_input_that_comes_while_a_failed_run_is_being_looked_at_is_kept() -> None:
    run = Run().up()
    run.see(ProcessGone(7, signal=11))
    run.send("x", ttl=5.0)
    assert run.machine.deadline is None
    run.wait(10.0)
    run.gone()
    assert run.answers("cx") == [(PENDING, Met.QUEUED)]


# --- an agent that is replaced ------------------------------------------------------------------


def replaced() -> Run:
    """The agent had to be killed to end its turn; another is on its way."""
    run = run_with(start_timeout=10.0).up().begin("x")
    run.interrupt()
    run.see(TurnOver(StopReason.INTERRUPTED), ProcessGone(7, signal=9, killed=True))
    return run


def test_after_an_agent_that_was_killed_to_end_its_turn_the_run_goes_on() -> None:
    run = replaced()
    run.send("next")
    effects = run.see(ProcessUp(8, replacement=True, mode=ResumeMode.SEEDED, lost=("jobs",)))
    assert events(effects) == [ProcessStarted(8, True, ResumeMode.SEEDED, ("jobs",))]
    assert isinstance(effects[-1], SendTurn)
    assert run.phase() is Phase.IDLE


def carried() -> Run:
    """As `replaced`, and the next input was given to the driver before it told of the loss."""
    run = run_with().up().begin("x")
    run.send("next")
    run.interrupt()
    run.see(TurnOver(StopReason.INTERRUPTED))
    run.see(ProcessGone(7, signal=9, killed=True))
    assert run.machine.input_ids == ("next",)
    return run


def test_what_the_killed_agent_never_read_goes_to_the_next_once() -> None:
    run = carried()
    assert calls(run.see(ProcessUp(8, replacement=True))) == []
    run.confirm()
    assert run.events(TurnStarted)[-1].input_ids == ("next",)


def test_no_turn_is_over_while_no_agent_is_there() -> None:
    run = carried()
    assert run.see(TurnOver(StopReason.COMPLETED), TurnBegan(run.label)) == []


def test_what_no_agent_ever_read_is_kept_for_a_resume() -> None:
    run = carried()
    run.see(StartFailed("no more"))
    run.gone()
    assert run.answers("cnext") == [(PENDING, Met.QUEUED)]
    assert run.events(InputCancelled) == []
    assert run.machine.input_ids == ("next",)
    run.checker.finish()


def test_a_kill_cancels_what_no_agent_ever_read() -> None:
    run = carried()
    run.kill()
    run.wait(10.0)
    run.gone()
    assert run.events(InputCancelled) == [InputCancelled("next", CancelReason.KILLED)]
    run.checker.finish()


def test_an_input_of_the_agents_last_turn_on_purpose_is_not_carried() -> None:
    run = Run().up()
    run.send("x")
    run.send("y")
    run.see(ProcessGone(7, exit_code=0, killed=True, deliberate=True))
    run.gone()
    assert [e.input_id for e in run.events(InputCancelled)] == ["x", "y"]


def test_between_two_agents_an_interrupt_cancels_the_head_input() -> None:
    run = replaced()
    run.send("next")
    run.interrupt("v")
    assert run.answers("v") == [(RAN, Met.INPUT_CANCELLED)]


def test_an_interrupt_that_was_held_for_a_turn_that_never_begins_cancels_its_input() -> None:
    run = carried()
    run.send("after")
    run.interrupt("v")
    run.see(StartFailed("no more"))
    run.gone()
    assert run.answers("v") == [(PENDING, Met.IN_PROGRESS), (RAN, Met.INPUT_CANCELLED)]
    assert run.machine.input_ids == ("after",)


def test_an_interrupt_between_two_agents_is_held_for_the_turn_that_is_to_begin() -> None:
    run = carried()
    run.interrupt("v")
    run.see(ProcessUp(8, replacement=True))
    effects = run.confirm()
    assert [type(call).__name__ for call in calls(effects)] == ["InterruptTurn"]


def test_an_agent_that_does_not_come_up_again_is_lost() -> None:
    run = replaced()
    run.see(StartFailed("no more"))
    run.gone()
    assert end_of(run) == SessionEnded(Phase.FAILED, EndReason.AGENT_LOST, "no more")


def test_an_agent_that_does_not_come_up_again_in_time_is_lost() -> None:
    run = replaced()
    assert calls(run.wait(10.0)) == [KillAgent()]
    run.see(StartFailed("killed"))
    run.gone()
    assert end_of(run).reason is EndReason.AGENT_LOST


def test_a_stop_waits_for_the_agent_that_is_on_its_way() -> None:
    run = replaced()
    run.stop()
    effects = run.see(ProcessUp(8, replacement=True))
    assert isinstance(effects[-1], StopAgent)


# --- stop ---------------------------------------------------------------------------------------


def test_a_stop_lets_the_turn_finish_reports_and_ends() -> None:
    run = Run().up().begin("x")
    run.see(ToolStarted("t", "bash"), ToolOutput("t", b"output"))
    run.see(Message("m", (Text("done"),)))
    assert calls(run.stop(grace=30.0)) == []
    effects = run.finish()
    assert events(effects)[-1] == ArtifactsReported("done", StopReason.COMPLETED, 1)
    assert effects[-1] == StopAgent(5.0)
    run.see(ProcessGone(7, exit_code=1))
    run.gone()
    assert end_of(run) == SessionEnded(Phase.STOPPED, EndReason.STOP_REQUESTED)
    run.checker.finish()


def test_after_the_grace_a_stop_interrupts_the_turn() -> None:
    run = Run().up().begin("x")
    run.stop(grace=30.0)
    assert calls(run.wait(29.9)) == []
    assert [type(call).__name__ for call in calls(run.wait(0.2))] == ["InterruptTurn"]


def test_a_shorter_grace_counts_and_a_longer_does_not() -> None:
    run = Run().up().begin("x")
    run.stop(grace=30.0)
    run.stop("s2", grace=60.0)
    run.stop("s3", grace=5.0)
    run.stop("s4")
    assert run.answers("s3") == [(RAN, Met.ALREADY_STOPPING)]
    assert len(calls(run.wait(5.0))) == 1
    assert calls(run.wait(60.0)) != []


def test_a_stop_without_grace_interrupts_at_once() -> None:
    run = Run().up().begin("x")
    run.stop("s1", grace=30.0)
    assert len(calls(run.stop("s2", grace=0.0))) == 1


def test_a_grace_without_a_turn_means_nothing() -> None:
    run = Run()
    run.open()
    run.stop(grace=1.0)
    assert calls(run.wait(2.0)) == []
    run.kill()
    assert run.stop("s2", grace=0.0) == [Answer("s2", RAN, Met.ALREADY_STOPPING)]


def test_a_stop_cancels_what_waits_at_once() -> None:
    run = Run().up().begin("x")
    run.send("y")
    run.stop()
    assert run.events(InputCancelled) == [InputCancelled("y", CancelReason.STOPPED)]
    run.finish()
    run.see(ProcessGone(7, exit_code=0))
    run.gone()
    kinds = [type(event) for event in run.events(object)]
    assert kinds.index(InputCancelled) < kinds.index(SessionEnded)


def test_an_agent_that_does_not_end_is_killed_and_the_stop_is_one() -> None:
    run = Run().up()
    run.stop()
    assert calls(run.wait(15.0)) == [KillAgent()]
    assert calls(run.wait(10.0)) == [VerifyGone()]
    run.gone()
    assert run.events(ProcessExited) == [ProcessExited(7, killed=True)]
    assert end_of(run).phase is Phase.STOPPED


def test_the_host_itself_stops_and_kills_without_an_answer_to_anybody() -> None:
    run = Run().up()
    run.do(Stop(reason=EndReason.HOST_STOPPED))
    run.do(Stop())
    run.do(Kill(reason=EndReason.HOST_STOPPED))
    run.see(ProcessGone(7, signal=9, killed=True))
    run.gone()
    assert end_of(run).reason is EndReason.HOST_STOPPED
    assert [a for a in run.said if isinstance(a, Answer)] == [Answer("start", RAN, Met.DONE)]


def test_a_turn_that_the_agent_begins_after_it_was_told_to_stop_is_left_out() -> None:
    run = Run().up()
    run.stop()
    assert run.see(TurnBegan(), Message("m", (Text("x"),)), TurnOver(StopReason.COMPLETED)) == []


def test_settling_twice_stops_once() -> None:
    run = Run().up()
    run.stop()
    assert run.do(Update("u", Policy())) == [Answer("u", RAN, Met.DONE)]


# --- kill ---------------------------------------------------------------------------------------


def test_what_a_kill_leaves_behind_is_ended_without_the_driver() -> None:
    run = Run().up().begin("x")
    assert calls(run.kill()) == [KillAgent()]
    assert calls(run.wait(10.0)) == [VerifyGone()]
    run.gone(4)
    assert run.events(TurnEnded) == [TurnEnded(StopReason.KILLED)]
    assert end_of(run).swept == 4
    run.checker.finish()


def test_a_turn_that_ends_by_itself_while_it_is_killed_keeps_its_reason() -> None:
    run = Run().up().begin("x")
    run.kill()
    run.finish(StopReason.COMPLETED)
    assert run.events(TurnEnded) == [TurnEnded(StopReason.COMPLETED)]


def test_a_turn_that_a_kill_interrupted_was_killed() -> None:
    run = Run().up().begin("x")
    run.kill()
    run.finish(StopReason.INTERRUPTED)
    assert run.events(TurnEnded) == [TurnEnded(StopReason.KILLED)]


def test_a_killed_session_emits_nothing_more() -> None:
    run = Run().up()
    run.kill()
    run.see(ProcessGone(7, signal=9, killed=True))
    effects = run.gone()
    assert effects[-1] == Closed()
    assert run.machine.closed
    assert run.see(Note(NoteKind.AGENT_LOG, "late"), TurnBegan()) == []
    assert run.wait(1000.0) == []
    assert run.gone() == []
    assert run.take(run.machine.broken("late", run.now)) == []
    assert run.send("late") == [Answer("clate", NOT_RUN, Met.SESSION_ENDED)]


def test_commands_after_the_end_have_their_answer() -> None:
    assert answer_after_end(Stop("s")) == Answer("s", RAN, Met.ALREADY_ENDED)
    assert answer_after_end(Kill("k")) == Answer("k", RAN, Met.ALREADY_ENDED)
    assert answer_after_end(Update("u", Policy())) == Answer("u", NOT_RUN, Met.SESSION_ENDED)


# --- a driver that fails ------------------------------------------------------------------------


@pytest.mark.parametrize("up", [True, False])
def test_a_driver_that_fails_fails_the_run(up: bool) -> None:
    run = Run()
    run.open()
    if up:
        run.see(ProcessUp(7))
        run.begin("x")
    effects = run.take(run.machine.broken("the driver failed", run.now))
    assert calls(effects) == [VerifyGone()]
    assert run.take(run.machine.broken("again", run.now)) == []
    assert run.see(StartFailed("late"), ProcessUp(9), ProcessGone(7, exit_code=0)) == []
    run.gone()
    reason = EndReason.AGENT_LOST if up else EndReason.START_FAILED
    assert end_of(run) == SessionEnded(Phase.FAILED, reason, "the driver failed")
    run.checker.finish()


def test_a_driver_that_ends_while_it_is_stopped_in_its_turn_has_lost_the_agent() -> None:
    run = Run().up().begin("x")
    run.stop()
    run.take(run.machine.broken("the driver ended", run.now))
    run.gone()
    assert end_of(run).reason is EndReason.AGENT_LOST


def test_a_driver_that_ends_without_a_word_after_a_stop_has_stopped() -> None:
    run = Run().up()
    run.stop()
    run.take(run.machine.broken("the driver ended", run.now))
    run.gone()
    assert end_of(run).phase is Phase.STOPPED


# --- limits in time -----------------------------------------------------------------------------


def test_an_idle_session_is_stopped_after_its_time() -> None:
    run = run_with(idle_ttl=60.0).up()
    run.wait(59.0)
    run.begin("x")
    run.wait(120.0)
    run.finish()
    assert calls(run.wait(59.0)) == []
    assert calls(run.wait(1.0)) == [StopAgent(5.0)]
    run.see(ProcessGone(7, exit_code=0))
    run.gone()
    assert end_of(run) == SessionEnded(Phase.STOPPED, EndReason.IDLE_TIMEOUT)


def test_what_waits_in_a_held_queue_does_not_keep_a_session_from_idling() -> None:
    run = Run(spec(policy=Policy(idle_ttl=60.0), queue_state=QueueState.HELD)).up()
    run.wait(30.0)
    run.send("x")
    assert calls(run.wait(30.0)) == [StopAgent(5.0)]


def test_a_turn_of_the_agents_own_is_no_idling() -> None:
    run = run_with(idle_ttl=60.0).up()
    run.see(TurnBegan())
    assert run.wait(600.0) == []


def test_new_rules_hold_from_the_next_decision_on() -> None:
    run = Run().up()
    run.do(Update("u", Policy(idle_ttl=5.0)))
    run.do(Update("u", Policy(idle_ttl=9.0)))
    assert run.wait(8.0) == []
    assert calls(run.wait(1.0)) == [StopAgent(5.0)]


def test_an_input_that_waits_too_long_is_cancelled() -> None:
    run = run_with(input_ttl=30.0).up().begin("x")
    run.send("by policy")
    run.send("sooner", ttl=10.0)
    run.wait(10.0)
    assert run.events(InputCancelled) == [InputCancelled("sooner", CancelReason.EXPIRED)]
    run.wait(20.0)
    assert run.answers("cby policy")[-1] == (NOT_RUN, Met.EXPIRED)
    run.checker.feed(EventKind.TURN_ENDED, turn=1)


def test_deadlines_are_told_soonest_first() -> None:
    run = Run(
        spec(
            policy=Policy(turn_timeout=50.0, approval_timeout=20.0),
            capabilities=frozenset({Capability.APPROVALS}),
        )
    ).up()
    told = [run.machine.deadline]
    run.begin("x")
    told.append(run.machine.deadline)
    run.see(ApprovalAsked("a", "bash"))
    told.append(run.machine.deadline)
    run.send("y", ttl=10.0)
    assert [*told, run.machine.deadline] == [None, run.now + 50, run.now + 20, run.now + 10]


# --- the rest -----------------------------------------------------------------------------------


def test_notes_and_states_pass_at_any_time() -> None:
    run = Run()
    run.open()
    note = Note(NoteKind.AGENT_LOG, "hello")
    assert run.see(note, KeepState(b"k")) == [Emit(note), Keep(b"k")]
    run.see(ProcessUp(7))
    run.begin("x")
    assert run.see(note) == [Emit(note, 1)]


def test_turns_are_numbered_on_from_earlier_runs() -> None:
    run = Run(spec(last_turn=41)).up().begin("x")
    assert run.machine.open_turn == 42
    run.finish()
    run.stop()
    assert run.events(ArtifactsReported)[0].turns == 1


def test_it_hurries_when_somebody_wants_an_end() -> None:
    run = Run().up().begin("x")
    hurried = [run.machine.hurried]
    run.interrupt()
    hurried.append(run.machine.hurried)
    run.finish(StopReason.INTERRUPTED)
    hurried.append(run.machine.hurried)
    run.stop()
    assert [*hurried, run.machine.hurried] == [False, True, False, True]


def test_the_same_calls_give_the_same_effects() -> None:
    def play() -> list[object]:
        run = Run().up().begin("x")
        run.send("y")
        run.interrupt()
        run.finish(StopReason.INTERRUPTED)
        run.wait(3.0)
        return list(run.said)

    assert play() == play()


# --- a host that comes back ---------------------------------------------------------------------


def busy() -> Run:
    run = Run(
        spec(capabilities=frozenset({Capability.STEER, Capability.APPROVALS}), last_turn=3)
    ).up()
    run.begin("x")
    run.see(ToolStarted("t", "bash"), ApprovalAsked("a", "bash"))
    run.send("s", mode=InputMode.STEER)
    run.cancel("s", "cancel-s")
    run.send("kept")
    run.interrupt("v")
    return run


def ended_by_the_next_host(run: Run) -> Run:
    record = RunRecord.load(run.machine.record().dump())
    assert record == run.machine.record()
    machine = Session.restore(run.machine._spec, record)
    after = Run()
    after.checker = run.checker
    after.machine = machine
    after.take(machine.host_lost(0.0, "the host ended"))
    after.take(machine.gone(2, 0.0))
    return after


def test_a_run_whose_host_died_is_ended_by_the_next_host() -> None:
    after = ended_by_the_next_host(busy())
    assert after.events(TurnEnded) == [TurnEnded(StopReason.AGENT_LOST)]
    assert after.answers("v") == [(RAN, Met.TURN_ALREADY_ENDED)]
    assert after.answers("cs") == [(OutcomeState.UNKNOWN, Met.AGENT_LOST)]
    assert after.answers("cancel-s") == [(NOT_RUN, Met.STEERED)]
    assert after.events(ProcessExited) == [ProcessExited(7, killed=True)]
    assert end_of(after) == SessionEnded(
        Phase.FAILED, EndReason.HOST_STOPPED, "the host ended", swept=2
    )
    after.checker.finish()


def test_what_was_handed_to_an_agent_whose_host_died_is_unknown() -> None:
    run = Run().up()
    run.send("x")
    after = ended_by_the_next_host(run)
    assert after.answers("cx") == [(OutcomeState.UNKNOWN, Met.AGENT_LOST)]
    assert after.events(TurnStarted)[0].input_ids == ("x",)
    after.checker.finish()


def test_a_run_that_was_being_killed_when_its_host_died_was_killed() -> None:
    run = Run()
    run.open()
    run.kill()
    after = ended_by_the_next_host(run)
    assert end_of(after).phase is Phase.KILLED
    assert after.answers("kill") == [(RAN, Met.DONE)]
    after.checker.finish()


def test_a_resume_that_was_not_open_when_its_host_died_is_refused() -> None:
    run = Run(spec(resume=ResumeMode.AUTO))
    run.open()
    after = ended_by_the_next_host(run)
    assert after.all_answers("start")[-1].error is Reason.START_FAILED
    assert after.events(object) == []


@pytest.mark.parametrize("text", ["", "{}", "[]", "3", '{"phase": "NEVER"}'])
def test_a_record_that_is_none_is_found_out(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any of them, that is the contract
        RunRecord.load(text)


def test_the_log_of_a_whole_life_is_in_order() -> None:
    checker = OrderChecker()
    for number, resume in itertools.zip_longest(range(3), [None]):
        run = Run(spec(resume=ResumeMode.AUTO if number else resume, last_turn=number))
        run.up().begin("x" + str(number))
        run.finish()
        run.stop()
        run.see(ProcessGone(7, exit_code=0))
        run.gone()
        for effect in run.said:
            if isinstance(effect, Emit):
                feed(checker, effect)
    checker.finish()


def test_a_queue_that_was_held_is_held_in_the_next_run() -> None:
    run = Run(spec(queue_state=QueueState.HELD)).up()
    run.send("x")
    assert calls(run.said[-1:]) == []
    assert run.machine.input_ids == ("x",)


def test_an_end_of_which_not_all_could_be_seen_does_not_say_that_it_was() -> None:
    run = Run().up()
    run.see(ProcessGone(7, signal=9))
    run.take(run.machine.gone(0, run.now, doubt="nobody was there to see"))
    end = end_of(run)
    assert not end.verified
    assert end.message == "the agent was ended by signal 9; nobody was there to see"
    assert [e.pid for e in run.events(ProcessExited)] == [7]
    run.checker.finish()
