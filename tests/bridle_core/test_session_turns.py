"""Turns in the session machine: inputs, steering, interrupts, approvals."""

from __future__ import annotations

import pytest

from bridle_core.commands import Deliver, Release, Resolve, RunSpec, Update
from bridle_core.effects import (
    Answer,
    ApprovalResolved,
    Emit,
    InputCancelled,
    InputConsumed,
    InterruptTurn,
    KillAgent,
    Live,
    Met,
    OutcomeState,
    PhaseChanged,
    QueueHeld,
    QueueReleased,
    RespondApproval,
    SendTurn,
    SteerTurn,
    TurnEnded,
    TurnStarted,
)
from bridle_core.errors import Reason
from bridle_core.observations import (
    ApprovalAsked,
    ApprovalWithdrawn,
    Capability,
    Decision,
    Image,
    Message,
    MessageText,
    ProcessGone,
    ProcessUp,
    Steered,
    StopReason,
    Text,
    ToolEnded,
    ToolOutput,
    ToolStarted,
    ToolStatus,
    TurnBegan,
    TurnOver,
)
from bridle_core.phases import (
    SYSTEM,
    AfterInterrupt,
    ApprovalPolicy,
    CancelReason,
    ConsumePolicy,
    Decider,
    InputMode,
    Phase,
    Policy,
    Principal,
    PrincipalKind,
    QueueState,
    Rule,
    TurnTrigger,
)
from bridle_core.session_inputs import SETTLED
from bridle_core.session_record import RunRecord
from bridle_core.turn import KEPT_CALL, KEPT_CALLS
from tests.bridle_core.session_support import Run, calls, events

PENDING, RAN, NOT_RUN = OutcomeState.PENDING, OutcomeState.RAN, OutcomeState.NOT_RUN
UNKNOWN = OutcomeState.UNKNOWN
ANNA = Principal(PrincipalKind.USER, "t1", "anna")
ALL = frozenset({Capability.STEER, Capability.APPROVALS})


def run_of(
    capabilities: frozenset[Capability] = ALL,
    queue_state: QueueState = QueueState.OPEN,
    **policy: object,
) -> Run:
    rules = Policy(**policy)  # type: ignore[arg-type]
    spec = RunSpec(
        "start", "fake", capabilities=capabilities, policy=rules, queue_state=queue_state
    )
    return Run(spec).up()


# --- turns --------------------------------------------------------------------------------------


def test_inputs_run_one_after_the_other() -> None:
    run = run_of()
    run.send("a")
    run.send("b")
    assert [s.label for s in run.said if isinstance(s, SendTurn)] == [1]
    run.confirm()
    effects = run.finish()
    assert isinstance(effects[-1], SendTurn)
    run.confirm()
    assert [t.input_ids for t in run.events(TurnStarted)] == [("a",), ("b",)]
    assert run.all_answers("ca")[-1] == Answer("ca", RAN, Met.TURN_STARTED, 1, "a")


def test_one_turn_takes_all_where_the_session_says_so() -> None:
    run = run_of(consume=ConsumePolicy.ALL).begin("a")
    run.send("b", text="B")
    run.send("c", text="C")
    effects = run.finish()
    assert effects[-1] == SendTurn(2, (Text("B"), Text("C")))
    run.confirm()
    assert run.events(TurnStarted)[-1].input_ids == ("b", "c")
    assert run.events(InputConsumed)[-2:] == [InputConsumed("b"), InputConsumed("c")]


def test_an_agent_may_begin_a_turn_by_itself() -> None:
    run = run_of()
    run.see(TurnBegan())
    assert run.events(TurnStarted) == [TurnStarted(TurnTrigger.AGENT)]
    assert run.phase() is Phase.RUNNING
    run.send("x")
    run.see(TurnBegan())
    assert len(run.events(TurnStarted)) == 1


def test_a_turn_of_the_agents_own_may_come_before_the_one_that_it_was_given() -> None:
    run = run_of(turn_timeout=100.0)
    run.send("x")
    run.see(TurnBegan(), TurnOver(StopReason.COMPLETED))
    assert run.see(TurnBegan(run.label)) != []
    assert [t.trigger for t in run.events(TurnStarted)] == [TurnTrigger.AGENT, TurnTrigger.INPUT]
    assert run.machine.open_turn == 2
    assert run.machine.deadline == run.now + 100.0


def test_a_turn_cannot_begin_before_the_agent_is_up() -> None:
    run = Run()
    run.open()
    assert run.see(TurnBegan()) == []


def test_a_turn_that_was_over_before_anybody_saw_it_begin_is_told_whole() -> None:
    run = run_of()
    run.send("x")
    run.see(TurnOver(StopReason.REFUSED))
    assert run.events(TurnEnded) == [TurnEnded(StopReason.REFUSED)]
    assert run.answers("cx")[-1] == (RAN, Met.TURN_STARTED)


def test_what_comes_while_no_turn_is_on_is_left_out() -> None:
    run = run_of().begin("x")
    run.finish()
    late = run.see(Message("m", (Text("late"),)), TurnOver(StopReason.COMPLETED), Steered("x"))
    assert late == []
    assert run.see(ApprovalWithdrawn("a")) == []


def test_live_text_is_shown_in_its_turn() -> None:
    run = run_of().begin("x")
    assert run.see(MessageText("m", "hi")) == [Live(1, "m", 0, "hi")]


def test_a_turn_that_takes_too_long_times_out() -> None:
    run = run_of(turn_timeout=60.0, interrupt_grace=3.0).begin("x")
    assert calls(run.wait(60.0)) == [InterruptTurn(3.0, False)]
    effects = run.finish(StopReason.INTERRUPTED)
    assert effects[0] == Emit(TurnEnded(StopReason.TIMED_OUT), 1, SYSTEM)


def test_an_interrupt_takes_a_timeout_over() -> None:
    run = run_of(turn_timeout=60.0).begin("x")
    run.wait(60.0)
    run.interrupt("v", principal=ANNA)
    effects = run.finish(StopReason.INTERRUPTED)
    assert effects[0] == Emit(TurnEnded(StopReason.INTERRUPTED), 1, ANNA)


# --- inputs -------------------------------------------------------------------------------------


def test_an_input_that_is_here_already_is_refused() -> None:
    run = run_of().begin("settled")
    run.send("steering", mode=InputMode.STEER)
    run.send("queued")
    for input_id in ("settled", "steering", "queued"):
        run.do(Deliver("again", input_id, (), 9))
    run.finish()
    run.do(Deliver("again", "steering", (), 9))
    assert {a.error for a in run.all_answers("again")} == {Reason.INVALID_REQUEST}
    assert len(run.all_answers("again")) == 4


def test_an_input_in_stopping_is_refused_and_cancelled() -> None:
    run = run_of().begin("x")
    run.stop()
    assert events(run.send("y")) == [InputCancelled("y", CancelReason.STOPPED)]
    run.kill()
    assert events(run.send("z")) == [InputCancelled("z", CancelReason.KILLED)]


def test_pictures_need_their_capability() -> None:
    run = run_of()
    run.do(Deliver("c", "i", (Image(b"x", "image/png"),), 1))
    answer = run.all_answers("c")[0]
    assert answer.error is Reason.CAPABILITY_MISSING
    assert answer.metadata == {"capability": "IMAGES"}
    able = run_of(ALL | {Capability.IMAGES})
    able.do(Deliver("c", "i", (Image(b"x", "image/png"),), 1))
    assert isinstance(able.said[-1], SendTurn)


def test_an_input_that_waits_is_cancelled_on_request() -> None:
    run = run_of().begin("x")
    run.send("y")
    run.cancel("y", "k")
    assert run.events(InputCancelled) == [InputCancelled("y", CancelReason.REQUESTED)]
    assert run.answers("cy")[-1] == (NOT_RUN, Met.CANCELLED)
    assert run.all_answers("k") == [Answer("k", RAN, Met.INPUT_CANCELLED, input_id="y")]
    run.cancel("y", "k2")
    assert run.answers("k2") == [(RAN, Met.INPUT_CANCELLED)]


def test_a_cancel_that_comes_after_a_turn_took_the_input_names_the_turn() -> None:
    run = run_of().begin("x")
    run.cancel("x", "k")
    assert run.all_answers("k") == [Answer("k", NOT_RUN, Met.TURN_STARTED, 1, "x")]


def test_a_cancel_of_what_the_agent_has_waits_until_it_is_known_what_became_of_it() -> None:
    run = run_of()
    run.send("x")
    run.cancel("x", "k1")
    run.cancel("x", "k2")
    assert run.answers("k1") == [(PENDING, Met.IN_PROGRESS)]
    run.confirm()
    assert run.answers("k1")[-1] == run.answers("k2")[-1] == (NOT_RUN, Met.TURN_STARTED)


def test_only_the_newest_of_what_is_over_is_remembered() -> None:
    run = run_of(queue_state=QueueState.HELD)
    for number in range(SETTLED + 1):
        run.send(f"i{number}")
        run.cancel(f"i{number}", f"k{number}")
    run.cancel("i0", "old")
    assert run.all_answers("old")[0].error is Reason.INPUT_NOT_FOUND
    run.cancel("i1", "known")
    assert run.answers("known") == [(RAN, Met.INPUT_CANCELLED)]


def test_a_held_queue_goes_on_when_it_is_released() -> None:
    run = run_of(queue_state=QueueState.HELD)
    run.send("x")
    effects = run.do(Release("r", ANNA))
    assert effects[:2] == [Emit(QueueReleased(), 0, ANNA), Answer("r", RAN, Met.DONE)]
    assert isinstance(effects[2], SendTurn)
    assert run.do(Release("r2")) == [Answer("r2", RAN, Met.DONE)]


def test_while_held_now_runs_alone() -> None:
    run = run_of(queue_state=QueueState.HELD, consume=ConsumePolicy.ALL)
    run.send("x")
    run.send("n", mode=InputMode.NOW)
    run.confirm()
    assert run.events(TurnStarted)[0].input_ids == ("n",)
    assert calls(run.finish()) == []


# --- steering -----------------------------------------------------------------------------------


def test_steered_text_becomes_part_of_the_turn_when_the_agent_confirms_it() -> None:
    run = run_of().begin("x")
    effects = run.send("s", mode=InputMode.STEER)
    assert effects[-1] == SteerTurn("s", (Text("hello"),))
    assert "s" in run.machine.input_ids
    assert run.see(Steered("s")) == [
        Emit(InputConsumed("s", steered=True), 1),
        Answer("cs", RAN, Met.STEERED, 1, "s"),
    ]
    assert run.see(Steered("s")) == []


def test_steered_text_that_was_not_confirmed_returns_to_the_head() -> None:
    run = run_of().begin("x")
    run.send("waits")
    run.send("s", mode=InputMode.STEER)
    run.finish()
    run.confirm()
    assert run.events(TurnStarted)[-1].input_ids == ("s",)


def test_without_the_capability_steering_is_refused_unless_it_may_queue() -> None:
    run = run_of(frozenset()).begin("x")
    run.send("s", mode=InputMode.STEER)
    answer = run.all_answers("cs")[0]
    assert (answer.met, answer.error) == (Met.REFUSED, Reason.CAPABILITY_MISSING)
    assert run.events(InputCancelled) == [InputCancelled("s", CancelReason.CAPABILITY_MISSING)]
    run.send("q", mode=InputMode.STEER, or_queue=True)
    assert run.machine.input_ids == ("q",)


def test_what_is_steered_before_the_turn_began_waits_for_its_begin() -> None:
    run = run_of()
    run.send("x")
    assert calls(run.send("s", mode=InputMode.STEER)) == []
    effects = run.confirm()
    assert calls(effects) == [SteerTurn("s", (Text("hello"),))]


def test_without_the_capability_nothing_is_steered_into_the_turn_that_begins() -> None:
    run = run_of(frozenset())
    run.send("x")
    run.send("q", mode=InputMode.STEER, or_queue=True)
    assert calls(run.confirm()) == []
    assert run.machine.input_ids == ("q",)


def test_what_is_steered_into_a_turn_that_is_being_interrupted_waits() -> None:
    run = run_of().begin("x")
    run.interrupt()
    assert calls(run.send("s", mode=InputMode.STEER)) == []


def test_steered_text_whose_agent_died_is_unknown() -> None:
    run = run_of().begin("x")
    run.send("s", mode=InputMode.STEER)
    run.see(ProcessGone(7, signal=11))
    run.gone()
    assert run.answers("cs")[-1] == (UNKNOWN, Met.AGENT_LOST)
    assert InputConsumed("s", steered=True) in run.events(InputConsumed)
    run.checker.finish()


def test_steered_text_that_comes_back_is_cancelled_where_somebody_asked_for_that() -> None:
    run = run_of().begin("x")
    run.send("s", mode=InputMode.STEER)
    run.cancel("s", "k")
    run.finish()
    assert run.answers("k") == [(PENDING, Met.IN_PROGRESS), (RAN, Met.INPUT_CANCELLED)]
    assert run.events(InputCancelled) == [InputCancelled("s", CancelReason.REQUESTED)]


def test_steered_text_that_comes_back_in_stopping_is_cancelled() -> None:
    run = run_of().begin("x")
    run.send("s", mode=InputMode.STEER)
    run.stop()
    run.finish()
    assert run.events(InputCancelled) == [InputCancelled("s", CancelReason.STOPPED)]


# --- interrupts ---------------------------------------------------------------------------------


def test_after_an_interrupted_turn_nothing_of_it_follows_and_all_of_it_is_closed() -> None:
    run = run_of().begin("x")
    run.see(ToolStarted("t", "bash"), MessageText("m", "half"), ApprovalAsked("a", "bash"))
    assert run.phase() is Phase.WAITING
    voided = run.interrupt("v", principal=ANNA)
    assert voided == [
        Answer("v", PENDING, Met.IN_PROGRESS, turn=1),
        Emit(
            ApprovalResolved("a", Decision.VOID, "the turn is interrupted", Decider.INTERRUPT),
            1,
            ANNA,
        ),
        Emit(PhaseChanged(Phase.WAITING, Phase.RUNNING)),
        InterruptTurn(5.0, False),
    ]
    effects = run.see(
        TurnOver(StopReason.INTERRUPTED, 130),
        ToolOutput("t", b"late"),
        ToolEnded("t", ToolStatus.SUCCEEDED),
    )
    message = "the turn ended before the call did"
    assert effects == [
        Emit(Message("m", (Text("half"),), partial=True), 1),
        Emit(ToolEnded("t", ToolStatus.CANCELLED, message=message), 1),
        Emit(TurnEnded(StopReason.INTERRUPTED, 130), 1, ANNA),
        Emit(PhaseChanged(Phase.RUNNING, Phase.IDLE)),
        Answer("v", RAN, Met.TURN_INTERRUPTED, turn=1),
    ]


def test_an_interrupt_before_the_turn_began_is_held_until_the_agent_confirms_it() -> None:
    run = run_of()
    run.send("x")
    assert run.interrupt("v") == [Answer("v", PENDING, Met.IN_PROGRESS, turn=1)]
    effects = run.confirm()
    assert effects[-1] == InterruptTurn(5.0, False)
    run.finish(StopReason.INTERRUPTED)
    assert run.answers("v")[-1] == (RAN, Met.TURN_INTERRUPTED)


def test_an_interrupt_that_is_held_passes_over_a_turn_of_the_agents_own() -> None:
    run = run_of()
    run.send("x")
    run.interrupt("v")
    run.see(TurnBegan(), TurnOver(StopReason.COMPLETED))
    assert run.answers("v") == [(PENDING, Met.IN_PROGRESS)]
    assert run.see(TurnBegan(run.label))[-1] == InterruptTurn(5.0, False)
    run.finish(StopReason.INTERRUPTED)
    assert run.all_answers("v")[-1].turn == 2


def test_an_agent_that_never_confirms_a_turn_cannot_hold_an_interrupt_for_ever() -> None:
    run = run_of()
    run.send("x")
    run.interrupt("v", grace=2.0)
    assert calls(run.wait(2.0)) == [InterruptTurn(0.0, False)]
    assert calls(run.wait(10.0)) == [KillAgent()]
    run.see(ProcessGone(7, signal=9, killed=True))
    run.gone()
    assert run.answers("v")[-1] == (RAN, Met.TURN_ALREADY_ENDED)
    assert run.answers("cx")[-1] == (UNKNOWN, Met.AGENT_LOST)


def test_a_turn_that_does_not_end_costs_the_agent_its_life() -> None:
    run = run_of().begin("x")
    run.interrupt("v", grace=2.0)
    assert calls(run.wait(11.9)) == []
    assert calls(run.wait(0.2)) == [KillAgent()]
    run.interrupt("v2")
    run.see(ApprovalAsked("late", "bash"))
    run.see(ProcessGone(7, signal=9, killed=True))
    run.gone()
    assert run.events(TurnEnded) == [TurnEnded(StopReason.AGENT_LOST)]
    assert run.answers("v")[-1] == run.answers("v2")[-1] == (RAN, Met.TURN_ALREADY_ENDED)
    run.checker.finish()


def test_a_turn_that_was_over_first_was_not_interrupted() -> None:
    run = run_of().begin("x")
    run.send("y")
    run.interrupt("v", after=AfterInterrupt.DROP)
    run.finish(StopReason.COMPLETED)
    assert run.answers("v")[-1] == (RAN, Met.TURN_ALREADY_ENDED)
    assert run.events(InputCancelled) == []


@pytest.mark.parametrize(
    ("named", "met"), [(1, Met.TURN_ALREADY_ENDED), (2, Met.IN_PROGRESS), (9, Met.NO_TURN)]
)
def test_a_turn_may_be_named(named: int, met: Met) -> None:
    run = run_of().begin("x")
    run.finish()
    run.begin("y")
    run.interrupt("v", turn=named)
    assert run.all_answers("v")[0].met is met
    assert run.all_answers("v")[0].turn == named


def test_a_turn_may_be_named_before_it_began() -> None:
    run = run_of()
    run.send("x")
    run.interrupt("v", turn=1)
    assert run.answers("v") == [(PENDING, Met.IN_PROGRESS)]


def test_with_no_turn_and_nothing_to_cancel_an_interrupt_met_no_turn() -> None:
    held = run_of(queue_state=QueueState.HELD)
    held.send("x")
    held.interrupt("v")
    assert held.answers("v") == [(RAN, Met.NO_TURN)]
    assert held.machine.input_ids == ("x",)


def test_several_interrupts_are_one_each_with_its_answer() -> None:
    run = run_of().begin("x")
    run.interrupt("v1")
    assert calls(run.interrupt("v2")) == []
    run.finish(StopReason.INTERRUPTED)
    assert run.answers("v1") == run.answers("v2")
    assert len(run.events(TurnEnded)) == 1


def test_who_is_more_impatient_is_heard() -> None:
    run = run_of().begin("x")
    run.interrupt("v1", grace=30.0)
    run.now += 10.0
    assert calls(run.interrupt("v2", grace=25.0)) == []
    assert calls(run.interrupt("v3", grace=1.0)) == [InterruptTurn(1.0, False)]
    assert calls(run.interrupt("v4", include_background=True)) == [InterruptTurn(1.0, True)]
    assert calls(run.interrupt("v5", include_background=True)) == []
    assert calls(run.wait(11.0)) == [KillAgent()]


def test_who_is_more_impatient_before_the_turn_began_is_heard_when_it_begins() -> None:
    run = run_of()
    run.send("x")
    run.interrupt("v1", grace=30.0)
    run.interrupt("v2", grace=3.0)
    assert calls(run.confirm()) == [InterruptTurn(3.0, False)]


def test_hold_lets_the_queue_wait() -> None:
    run = run_of().begin("x")
    run.send("y")
    run.interrupt("v", after=AfterInterrupt.HOLD, principal=ANNA)
    effects = run.finish(StopReason.INTERRUPTED)
    assert Emit(QueueHeld(), 0, ANNA) in effects
    assert calls(effects) == []
    run.do(Release("r"))
    run.confirm()
    run.interrupt("v2", after=AfterInterrupt.HOLD)
    run.finish(StopReason.INTERRUPTED)
    assert len(run.events(QueueHeld)) == 2


def test_a_release_after_the_interrupt_undoes_its_hold() -> None:
    run = run_of(after_interrupt=AfterInterrupt.HOLD).begin("x")
    run.send("y")
    run.interrupt("v")
    run.do(Release("r"))
    assert isinstance(run.finish(StopReason.INTERRUPTED)[-1], SendTurn)
    assert run.events(QueueHeld) == []


def test_holding_what_is_held_says_nothing() -> None:
    run = run_of(queue_state=QueueState.HELD)
    run.send("n", mode=InputMode.NOW)
    run.confirm()
    run.interrupt("v", after=AfterInterrupt.HOLD)
    run.finish(StopReason.INTERRUPTED)
    assert run.events(QueueHeld) == []


def test_drop_cancels_what_waited_and_not_what_came_later() -> None:
    run = run_of().begin("x")
    run.send("y")
    run.send("s", mode=InputMode.STEER)
    run.interrupt("v", after=AfterInterrupt.DROP, principal=ANNA)
    run.send("later", mode=InputMode.NOW)
    effects = run.finish(StopReason.INTERRUPTED)
    assert {e.input_id for e in run.events(InputCancelled)} == {"y", "s"}
    assert {e.reason for e in run.events(InputCancelled)} == {CancelReason.DROPPED}
    assert isinstance(effects[-1], SendTurn)
    assert run.machine.input_ids == ("later",)


def test_an_interrupt_while_starting_does_with_the_queue_what_it_says() -> None:
    run = Run()
    run.open()
    for name in "abc":
        run.send(name)
    run.interrupt("v1", after=AfterInterrupt.HOLD)
    run.interrupt("v2", after=AfterInterrupt.DROP)
    assert run.machine.input_ids == ()
    assert run.events(QueueHeld) == [QueueHeld()]


def test_now_interrupts_the_turn_and_runs_first() -> None:
    run = run_of(after_interrupt=AfterInterrupt.HOLD).begin("x")
    run.send("y")
    assert calls(run.send("n", mode=InputMode.NOW)) == [InterruptTurn(5.0, False)]
    assert calls(run.send("n2", mode=InputMode.NOW)) == []
    run.finish(StopReason.INTERRUPTED)
    run.confirm()
    run.finish()
    run.confirm()
    assert [t.input_ids for t in run.events(TurnStarted)] == [("x",), ("n",), ("n2",)]
    assert run.events(QueueHeld) == []


def test_an_agent_that_says_by_itself_that_it_was_interrupted_is_believed() -> None:
    run = run_of().begin("x")
    effects = run.finish(StopReason.INTERRUPTED)
    assert effects[0] == Emit(TurnEnded(StopReason.INTERRUPTED), 1)


def test_no_hold_in_a_session_that_stops() -> None:
    run = run_of().begin("x")
    run.interrupt("v", after=AfterInterrupt.HOLD)
    run.stop()
    run.finish(StopReason.INTERRUPTED)
    assert run.events(QueueHeld) == []


# --- approvals ----------------------------------------------------------------------------------


def test_an_approval_lets_the_turn_wait_until_it_is_answered() -> None:
    run = run_of().begin("x")
    run.see(ApprovalAsked("a", "bash"), ApprovalAsked("b", "bash"), ApprovalAsked("a", "bash"))
    assert run.phase() is Phase.WAITING
    effects = run.do(Resolve("r1", "a", Decision.ALLOW, "go", ANNA))
    assert effects == [
        Emit(ApprovalResolved("a", Decision.ALLOW, "go"), 1, ANNA),
        RespondApproval("a", Decision.ALLOW, "go"),
        Answer("r1", RAN, Met.DONE, turn=1),
    ]
    run.do(Resolve("r2", "b", Decision.DENY))
    assert run.phase() is Phase.RUNNING
    run.see(ApprovalAsked("a", "bash"))
    assert run.phase() is Phase.RUNNING


def test_the_first_answer_wins() -> None:
    run = run_of().begin("x")
    run.see(ApprovalAsked("a", "bash"))
    run.do(Resolve("r1", "a", Decision.DENY))
    run.do(Resolve("r2", "a", Decision.ALLOW))
    answer = run.all_answers("r2")[0]
    assert answer.error is Reason.APPROVAL_RESOLVED
    assert answer.metadata == {"approval": "a", "decision": "DENY"}


def test_an_approval_that_nobody_answers_in_time_is_denied() -> None:
    run = run_of(approval_timeout=30.0).begin("x")
    run.see(ApprovalAsked("a", "bash"))
    effects = run.wait(30.0)
    message = "nobody answered in time"
    late = ApprovalResolved("a", Decision.DENY, message, Decider.TIMEOUT)
    assert effects[0] == Emit(late, 1, SYSTEM)
    assert RespondApproval("a", Decision.DENY, message) in effects
    assert run.phase() is Phase.RUNNING


@pytest.mark.parametrize(
    ("policy", "decision"),
    [(ApprovalPolicy.ALLOW, Decision.ALLOW), (ApprovalPolicy.DENY, Decision.DENY)],
)
def test_where_the_session_has_a_rule_nobody_is_asked(
    policy: ApprovalPolicy, decision: Decision
) -> None:
    run = run_of(approval=policy, approval_timeout=5.0).begin("x")
    effects = run.see(ApprovalAsked("a", "bash"))
    assert effects[1:] == [
        Emit(ApprovalResolved("a", decision, "by policy", Decider.POLICY), 1, SYSTEM),
        RespondApproval("a", decision, "by policy" if decision is Decision.DENY else ""),
    ]
    assert run.phase() is Phase.RUNNING


GIT = '{"command":"git status"}'
ALWAYS = Rule("bash", ApprovalPolicy.ALLOW, value="git status", exact=True)


@pytest.mark.parametrize(
    ("decision", "told"),
    [(ApprovalPolicy.ALLOW, Decision.ALLOW), (ApprovalPolicy.DENY, Decision.DENY)],
)
def test_a_rule_answers_what_it_is_about_and_leaves_the_rest_to_people(
    decision: ApprovalPolicy, told: Decision
) -> None:
    rule = Rule("bash", decision, value="git")
    run = run_of(rules=(rule,)).begin("x")
    message = "by the rule bash(git*)"
    assert run.see(ApprovalAsked("a", "bash", GIT))[1:] == [
        Emit(ApprovalResolved("a", told, message, Decider.RULE, rule), 1, SYSTEM),
        RespondApproval("a", told, "" if told is Decision.ALLOW else message),
    ]
    run.see(ApprovalAsked("b", "bash", '{"command":"ls"}'))
    assert run.phase() is Phase.WAITING


def test_what_is_allowed_always_is_a_rule_from_then_on_and_the_agent_asks_again() -> None:
    run = run_of().begin("x")
    run.see(ApprovalAsked("a", "bash", GIT))
    effects = run.do(Resolve("r", "a", Decision.ALLOW_ALWAYS, "", ANNA, ALWAYS))
    assert effects[0] == Emit(ApprovalResolved("a", Decision.ALLOW_ALWAYS, rule=ALWAYS), 1, ANNA)
    assert RespondApproval("a", Decision.ALLOW, "") in effects
    run.see(ApprovalAsked("b", "bash", GIT))
    resolved = run.events(ApprovalResolved)[-1]
    assert (resolved.by, resolved.rule, resolved.decision) == (
        Decider.RULE,
        ALWAYS,
        Decision.ALLOW,
    )
    again = run.machine.record()
    assert again.policy is not None
    assert again.policy.rules == (ALWAYS,)
    assert RunRecord.load(again.dump()).policy == again.policy


def test_a_new_rule_answers_the_others_that_wait_and_that_it_is_about() -> None:
    run = run_of().begin("x")
    run.see(
        ApprovalAsked("a", "bash", GIT),
        ApprovalAsked("b", "bash", '{"command":"ls"}'),
        ApprovalAsked("c", "bash", GIT),
    )
    effects = run.do(Resolve("r", "a", Decision.ALLOW_ALWAYS, "yes", ANNA, ALWAYS))
    ruled = ApprovalResolved(
        "c", Decision.ALLOW, "by the rule bash(git status)", Decider.RULE, ALWAYS
    )
    assert effects == [
        Emit(ApprovalResolved("a", Decision.ALLOW_ALWAYS, "yes", rule=ALWAYS), 1, ANNA),
        RespondApproval("a", Decision.ALLOW, "yes"),
        Emit(ruled, 1, SYSTEM),
        RespondApproval("c", Decision.ALLOW, ""),
        Answer("r", RAN, Met.DONE, 1),
    ]
    assert run.phase() is Phase.WAITING
    assert run.do(Resolve("s", "c", Decision.DENY, "", ANNA)) == [
        Answer(
            "s",
            OutcomeState.NOT_RUN,
            Met.REFUSED,
            message="somebody answered first",
            error=Reason.APPROVAL_RESOLVED,
            metadata={"approval": "c", "decision": "ALLOW"},
        )
    ]


def test_the_last_that_a_new_rule_answers_lets_the_turn_go_on() -> None:
    run = run_of().begin("x")
    run.see(ApprovalAsked("a", "bash", GIT), ApprovalAsked("b", "bash", GIT))
    effects = run.do(Resolve("r", "a", Decision.ALLOW_ALWAYS, "", ANNA, ALWAYS))
    assert events(effects)[-1] == PhaseChanged(Phase.WAITING, Phase.RUNNING)
    assert run.phase() is Phase.RUNNING


@pytest.mark.parametrize(
    ("decision", "told"),
    [(ApprovalPolicy.ALLOW, Decision.ALLOW), (ApprovalPolicy.DENY, Decision.DENY)],
)
def test_new_rules_of_the_session_answer_what_waits_and_its_own_word_does_not(
    decision: ApprovalPolicy, told: Decision
) -> None:
    run = run_of().begin("x")
    run.see(ApprovalAsked("a", "bash", GIT), ApprovalAsked("b", "edit"))
    rule = Rule("bash", decision, value="git")
    run.do(Update("u", Policy(approval=decision, rules=(rule,))))
    [resolved] = run.events(ApprovalResolved)
    assert (resolved.approval_id, resolved.decision, resolved.by, resolved.rule) == (
        "a",
        told,
        Decider.RULE,
        rule,
    )
    assert run.phase() is Phase.WAITING


def test_a_call_that_is_too_long_to_be_remembered_waits_for_people() -> None:
    run = run_of().begin("x")
    long = '{"command":"git status","more":"' + "x" * KEPT_CALL + '"}'
    every = Rule("bash", ApprovalPolicy.ALLOW)
    run.see(ApprovalAsked("a", "bash", long), ApprovalAsked("b", "bash", GIT))
    run.do(Update("u", Policy(rules=(every,))))
    assert [each.approval_id for each in run.events(ApprovalResolved)] == ["b"]
    assert run.phase() is Phase.WAITING


def test_what_is_remembered_of_open_calls_is_bounded_together() -> None:
    run = run_of().begin("x")
    arguments = '{"command":"' + "x" * (KEPT_CALL - 100) + '"}'
    for number in range(10):
        run.see(ApprovalAsked(f"a{number}", "bash", arguments))
    assert len(run.machine.record().calls) == KEPT_CALLS // KEPT_CALL
    assert len(run.machine.record().approvals) == 10


def test_what_is_allowed_once_or_denied_makes_no_rule() -> None:
    for decision in (Decision.ALLOW, Decision.DENY):
        run = run_of().begin("x")
        run.see(ApprovalAsked("a", "bash", GIT))
        run.do(Resolve("r", "a", decision, "", ANNA, ALWAYS))
        run.see(ApprovalAsked("b", "bash", GIT))
        assert run.phase() is Phase.WAITING


def test_an_approval_that_the_agent_takes_back_is_void() -> None:
    run = run_of().begin("x")
    run.see(ApprovalAsked("a", "bash"))
    run.see(ApprovalWithdrawn("a"))
    assert run.events(ApprovalResolved)[-1].decision is Decision.VOID
    assert run.phase() is Phase.RUNNING


def test_who_asks_in_no_turn_or_in_one_that_is_interrupted_is_denied() -> None:
    run = run_of()
    denied = [RespondApproval("a", Decision.DENY, "the turn is over")]
    assert run.see(ApprovalAsked("a", "bash")) == denied
    run.begin("x")
    run.interrupt()
    assert run.see(ApprovalAsked("a", "bash")) == denied


def test_an_approval_that_expires_while_the_agent_is_killed_is_not_answered() -> None:
    run = run_of(approval_timeout=1.0).begin("x")
    run.see(ApprovalAsked("a", "bash"))
    run.kill()
    assert not [e for e in run.wait(1.0) if isinstance(e, RespondApproval)]
    assert run.events(ApprovalResolved)[-1].decision is Decision.DENY


def test_a_turn_that_ends_while_it_waits_is_idle_then() -> None:
    run = run_of().begin("x")
    run.see(ApprovalAsked("a", "bash"), TurnOver(StopReason.COMPLETED))
    assert run.phase() is Phase.IDLE
    assert run.events(PhaseChanged)[-1] == PhaseChanged(Phase.WAITING, Phase.IDLE)


def test_a_replacement_that_comes_up_takes_what_waits() -> None:
    run = run_of().begin("x")
    run.send("n", mode=InputMode.NOW)
    run.see(TurnOver(StopReason.INTERRUPTED), ProcessGone(7, signal=9, killed=True))
    effects = run.see(ProcessUp(8, replacement=True))
    assert isinstance(effects[-1], SendTurn)


def test_what_a_driver_ends_unconfirmed_is_a_turn_whose_input_nobody_knows_of() -> None:
    run = run_of()
    run.send("x")
    run.interrupt("v", grace=2.0)
    assert calls(run.wait(2.0)) == [InterruptTurn(0.0, False)]
    run.see(TurnBegan(run.label, confirmed=False))
    gone = ProcessGone(7, signal=9, killed=True)
    run.see(TurnOver(StopReason.INTERRUPTED), gone)
    assert run.events(TurnEnded) == [TurnEnded(StopReason.INTERRUPTED)]
    assert run.answers("v")[-1] == (RAN, Met.TURN_INTERRUPTED)
    assert run.answers("cx")[-1][0] is UNKNOWN
    run.see(ProcessUp(8, replacement=True))
    assert run.machine.phase is Phase.IDLE
