"""A session machine that is written down and made again: it goes on, and its driver is told.

That a machine made again does what the other would do is held at every call of every test of the
machine, and of its model (`session_support.Twins`).
"""

from __future__ import annotations

import pytest

from bridle_core.commands import Resolve, RunSpec, Update
from bridle_core.effects import (
    Call,
    Effect,
    InterruptTurn,
    KillAgent,
    Live,
    Met,
    OutcomeState,
    ReadOn,
    RecoverAgent,
    ReplaceAgent,
    RespondApproval,
    SendTurn,
    SessionEnded,
    SteerTurn,
    StopAgent,
    TurnEnded,
    VerifyGone,
)
from bridle_core.observations import (
    ApprovalAsked,
    Capability,
    Checkpoint,
    Decision,
    MessageText,
    ProcessGone,
    ProcessUp,
    Steered,
    StopReason,
    Text,
    TurnBegan,
    TurnOver,
)
from bridle_core.phases import EndReason, InputMode, Phase, Policy
from bridle_core.session import PARK_SECONDS, RunRecord, Session
from bridle_core.session_ends import STOP_GRACE
from tests.bridle_core.session_support import Run, events

RECOVER, READ_ON = RecoverAgent(), ReadOn()
STEERS = RunSpec("start", "fake", capabilities=frozenset(Capability))


def text(of: str) -> tuple[Text, ...]:
    return (Text(of),)


def calls(effects: list[Effect]) -> list[Call]:
    assert all(isinstance(effect, Call) for effect in effects)
    return [effect for effect in effects if isinstance(effect, Call)]


# --- what the driver is told ---------------------------------------------------------------------


def test_an_idle_driver_is_told_nothing_but_to_take_over() -> None:
    run = Run().up()
    assert calls(run.succeed()) == [RECOVER, READ_ON]


def test_a_start_is_taken_over_and_not_made_again() -> None:
    run = Run()
    run.open()
    assert calls(run.succeed()) == [RECOVER, READ_ON]
    run.see(ProcessUp(7))
    assert run.phase() is Phase.IDLE


def test_what_was_handed_and_has_not_begun_is_sent_again_under_its_label() -> None:
    run = Run().up()
    run.send("a", text="hello")
    label = run.label
    assert calls(run.succeed()) == [RECOVER, SendTurn(label, text("hello")), READ_ON]
    run.see(TurnBegan(label))
    assert run.answers("ca")[-1] == (OutcomeState.RAN, Met.TURN_STARTED)


def test_an_open_turn_is_not_sent_again() -> None:
    run = Run().up().begin()
    assert calls(run.succeed()) == [RECOVER, READ_ON]


def test_steered_text_that_is_not_confirmed_is_steered_again() -> None:
    run = Run(STEERS).up().begin()
    run.send("s", mode=InputMode.STEER, text="left")
    run.send("t", mode=InputMode.STEER, text="right")
    run.see(Steered("s"))
    assert calls(run.succeed()) == [RECOVER, SteerTurn("t", text("right")), READ_ON]
    run.see(Steered("t"))
    assert run.answers("ct")[-1] == (OutcomeState.RAN, Met.STEERED)


def test_decisions_of_the_open_turn_are_told_again_and_open_approvals_stay_open() -> None:
    run = Run().up().begin()
    run.see(ApprovalAsked("a", "bash"), ApprovalAsked("b", "bash"))
    run.do(Resolve("r", "a", Decision.ALLOW, "go"))
    told = run.succeed()
    assert calls(told) == [RECOVER, RespondApproval("a", Decision.ALLOW, "go"), READ_ON]
    assert run.phase() is Phase.WAITING
    run.do(Resolve("s", "b", Decision.DENY))
    assert run.phase() is Phase.RUNNING


def test_an_interrupt_that_the_driver_had_is_given_again_with_what_is_left_of_its_grace() -> None:
    run = Run().up().begin()
    run.interrupt(grace=5.0)
    run.wait(2.0)
    assert calls(run.succeed()) == [RECOVER, InterruptTurn(3.0, False), READ_ON]
    run.finish(StopReason.INTERRUPTED)
    assert run.answers("int")[-1] == (OutcomeState.RAN, Met.TURN_INTERRUPTED)


def test_an_interrupt_whose_grace_ran_out_while_no_host_was_there_still_has_its_watch() -> None:
    run = Run().up().begin()
    run.interrupt(grace=1.0)
    run.now += 300.0
    assert calls(run.succeed()) == [RECOVER, InterruptTurn(0.0, False), READ_ON]
    run.wait(5.0)
    run.finish(StopReason.INTERRUPTED)
    assert run.phase() is Phase.IDLE


def test_an_interrupt_that_is_held_stays_held() -> None:
    run = Run().up()
    run.send("a")
    run.interrupt()
    assert InterruptTurn not in map(type, calls(run.succeed()))
    assert InterruptTurn in map(type, run.confirm())


def test_a_stop_that_the_idle_agent_had_is_given_again() -> None:
    run = Run().up()
    run.stop()
    assert calls(run.succeed()) == [RECOVER, StopAgent(STOP_GRACE), READ_ON]


def test_a_kill_is_given_again() -> None:
    run = Run().up().begin()
    run.kill()
    assert calls(run.succeed()) == [RECOVER, KillAgent(), READ_ON]


def test_a_run_that_was_being_seen_gone_is_only_seen_gone() -> None:
    run = Run().up()
    run.see(ProcessGone(7, exit_code=0))
    assert calls(run.succeed()) == [VerifyGone()]


def test_between_two_agents_the_driver_gets_what_the_next_one_is_to_get() -> None:
    run = Run().up().begin("a")
    run.send("b", text="next")
    run.interrupt()
    run.see(TurnOver(StopReason.INTERRUPTED))
    run.see(ProcessGone(7, signal=9, killed=True))
    assert run.machine.record().replacing
    told = calls(run.succeed())
    assert told == [RECOVER, ReplaceAgent(), SendTurn(run.label, text("next")), READ_ON]


def test_what_ran_out_while_no_host_was_there_waits_until_what_was_said_is_read() -> None:
    run = Run(RunSpec("start", "fake", policy=Policy(turn_timeout=10.0))).up().begin()
    run.now += 60.0
    assert calls(run.succeed()) == [RECOVER, READ_ON]
    assert run.wait(0.5) == []
    run.finish()
    assert run.events(TurnEnded)[-1].stop_reason is StopReason.COMPLETED


def test_a_stop_that_took_too_long_while_no_host_was_there_gets_its_time() -> None:
    run = Run().up()
    run.stop()
    run.now += 300.0
    run.succeed()
    assert run.wait(STOP_GRACE) == []
    run.see(ProcessGone(7, exit_code=0, deliberate=True))
    run.gone()
    assert run.phase() is Phase.STOPPED


# --- what is remembered --------------------------------------------------------------------------


def test_the_rules_that_were_changed_hold_after_the_host() -> None:
    run = Run().up()
    run.do(Update("u", Policy(idle_ttl=30.0)))
    run.succeed()
    run.wait(31.0)
    assert run.phase() is Phase.STOPPING


def test_a_message_that_is_being_written_goes_on_where_it_was() -> None:
    run = Run().up().begin()
    run.see(MessageText("m", "one "))
    run.succeed()
    [live] = run.see(MessageText("m", "two"))
    assert live == Live(1, "m", 4, "two")
    message = run.finish(StopReason.INTERRUPTED)[0]
    assert "one two" in repr(message)


def test_a_checkpoint_is_nothing_to_the_machine() -> None:
    run = Run().up()
    before = run.machine.record()
    assert run.see(Checkpoint(b"state", 7)) == []
    assert run.machine.record() == before


def test_a_record_of_an_earlier_version_is_enough_to_end_the_run_by() -> None:
    text = (
        '{"phase":"RUNNING","opened":true,"pid":7,"last_turn":4,"turn":4,"tools":["t"],'
        '"approvals":[],"handed":[],"steering":[["s","cs"]],"interrupts":["v"],'
        '"cancels":[["s",["cancel"]]],"enders":[],"killed":false,"a field to come":1}'
    )
    machine = Session.restore(RunSpec("start", "fake"), RunRecord.load(text))
    effects = machine.host_lost(0.0, "the host ended") + machine.gone(0, 0.0)
    ended = [event for event in events(effects) if isinstance(event, SessionEnded)]
    assert [(one.phase, one.reason) for one in ended] == [(Phase.FAILED, EndReason.HOST_STOPPED)]


@pytest.mark.parametrize("bad", ['{"phase":"IDLE"}', '{"phase":"IDLE","opened":1}', "[[[[", "null"])
def test_what_is_no_record_is_found_out(bad: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any of them, that is the contract
        RunRecord.load(bad)


# --- a host without a place ----------------------------------------------------------------------


def test_a_parked_session_starts_no_turn_and_goes_on_where_it_was() -> None:
    run = Run().up()
    run.take(run.machine.park(run.now))
    run.send("a")
    run.send("b")
    run.wait(PARK_SECONDS - 1)
    assert not any(isinstance(effect, SendTurn) for effect in run.said)
    [sent] = run.take(run.machine.unpark(run.now))
    assert isinstance(sent, SendTurn)
    run.wait(PARK_SECONDS)
    assert run.phase() is Phase.IDLE


def test_a_session_that_stays_parked_interrupts_its_turn_and_stops() -> None:
    run = Run().up().begin()
    run.take(run.machine.park(run.now))
    run.take(run.machine.park(run.now + 30.0))
    run.now += 30.0
    run.wait(PARK_SECONDS - 30.0)
    assert run.phase() is Phase.STOPPING
    assert any(isinstance(effect, InterruptTurn) for effect in run.said)
    run.finish(StopReason.INTERRUPTED)
    run.take(run.machine.unpark(run.now))
    run.see(ProcessGone(7, exit_code=0, deliberate=True))
    run.gone()
    [ended] = run.events(SessionEnded)
    assert (ended.phase, ended.reason) == (Phase.STOPPED, EndReason.HOST_STOPPED)
    run.checker.finish()


def test_a_parked_session_can_be_stopped() -> None:
    run = Run().up()
    run.take(run.machine.park(run.now))
    assert StopAgent in map(type, run.stop())
