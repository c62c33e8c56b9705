"""A request that is sent again has one effect and one receipt, whatever restarts in between; and
what a call waits for."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from bridle.v1 import event_pb2, receipt_pb2, session_pb2
from bridle_control.deadlines import HasDeadline, wait_budget
from bridle_control.ids import uuid7
from tests.bridle_control.serving import bearer, fails, mint
from tests.bridle_control.stack import Stack, outcome, pb, phase, ref, text
from tests.fakes.host import PENDING, RAN

DAY = 24 * 3600 * 10**9


async def send(stack: Stack, request: Any, metadata: Any = None) -> receipt_pb2.Receipt:
    answer = await stack.sessions.Send(request, metadata=metadata or stack.admin)
    got: receipt_pb2.Receipt = answer.receipt
    return got


async def test_the_same_request_has_one_effect_and_one_receipt_over_restarts(
    stack: Stack,
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    request = pb.SendRequest(session=ref(session), request_id=stack.new_id(), content=[text("a")])
    calls = [asyncio.ensure_future(send(stack, request)) for _ in range(3)]
    deliver = await host.command("deliver")
    host.answer(deliver, PENDING, receipt_pb2.OUTCOME_REASON_QUEUED)
    receipts = [await call for call in calls]
    await host.drop()
    await stack.restart()
    await host.connect()
    receipts.append(await send(stack, request))
    host.turn(deliver, 1)
    await host.synced()
    await stack.restart()
    receipts.append(await send(stack, request))
    assert len({receipt.command_id for receipt in receipts}) == 1
    assert [outcome(receipt) for receipt in receipts[3:]] == [
        ("PENDING", "QUEUED"),
        ("RAN", "TURN_STARTED"),
    ]
    assert (await stack.kinds(session.session_id)).count("input_queued") == 1
    assert len([command for command in host.commands if command.HasField("deliver")]) == 1


async def test_a_start_that_is_sent_again_is_the_same_session(stack: Stack) -> None:
    host = await stack.host()
    request = stack.start_request()
    call = asyncio.ensure_future(stack.sessions.StartSession(request, metadata=stack.admin))
    host.started(await host.command("start"))
    first = await call
    second = await stack.sessions.StartSession(request, metadata=stack.admin)
    assert second.receipt == first.receipt
    assert second.session.session_id == first.session.session_id


async def test_a_request_id_with_another_body_or_another_method_is_refused(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    used = stack.new_id()
    stop = pb.StopRequest(session=ref(session), request_id=used)
    call = asyncio.ensure_future(stack.sessions.Stop(stop, metadata=stack.admin))
    host.answer(await host.command("stop"), PENDING)
    await call
    stop.grace.seconds = 1
    others = [
        stack.sessions.Stop(stop, metadata=stack.admin),
        stack.sessions.Kill(
            pb.KillRequest(session=ref(session), request_id=used), metadata=stack.admin
        ),
    ]
    for other in others:
        failure = await fails(other)
        assert failure.reason == "REQUEST_ID_REUSED"
        assert failure.code is grpc.StatusCode.ALREADY_EXISTS


async def test_request_ids_of_two_principals_have_nothing_to_do_with_each_other(
    stack: Stack,
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    other = bearer(await mint(stack.store, name="other"))
    request = pb.SendRequest(session=ref(session), request_id=stack.new_id(), content=[text("a")])
    calls = [asyncio.ensure_future(send(stack, request, who)) for who in (stack.admin, other)]
    for _ in calls:
        host.answer(await host.command("deliver"), PENDING)
    assert len({(await call).command_id for call in calls}) == 2


async def test_an_id_older_than_what_is_remembered_never_runs(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    old = uuid7(stack.wall() - 8 * DAY)
    request = pb.KillRequest(session=ref(session), request_id=old)
    failure = await fails(stack.sessions.Kill(request, metadata=stack.admin))
    assert failure.reason == "REQUEST_ID_EXPIRED"
    assert failure.code is grpc.StatusCode.FAILED_PRECONDITION
    assert not [command for command in host.commands if command.HasField("kill")]


# ---------------------------------------------------------------- how long a call waits


async def test_a_call_answers_in_time_before_its_own_deadline(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the real clock: budgets follow grpc's deadline."""
    budgets: list[float] = []

    class Fifteenth:  # (so that a call may come late, as on a busy machine, and has a budget left)
        def __init__(self, context: HasDeadline) -> None:
            self._context = context

        def time_remaining(self) -> float | None:
            remaining = self._context.time_remaining()
            return None if remaining is None else remaining / 15

    def budget(context: HasDeadline) -> float:
        budgets.append(wait_budget(Fifteenth(context)))
        return budgets[-1]

    monkeypatch.setattr("bridle_control.service.base.wait_budget", budget)
    host = await stack.host()
    session = await stack.start(host)
    budgets.clear()
    request = pb.SendRequest(session=ref(session), content=[text("a")])
    call = stack.sessions.Send(request, metadata=stack.admin, timeout=60.0)
    await host.command("deliver")
    await stack.until(lambda: stack.commands.waiting == 1)
    # It waits 3.6 s of the test's clock (4 s less a tenth), less what it took to come here; and a
    # little more, as grpc rounds deadlines up.
    (waits,) = budgets
    assert 0.0 < waits < 3.7
    stack.clock.advance(waits * 0.9)
    assert phase(await stack.session(session.session_id)) == "IDLE"
    assert stack.commands.waiting == 1
    stack.clock.advance(waits * 0.11)
    assert outcome((await call).receipt) == ("PENDING", "PENDING_HOST")


async def test_get_command_waits_for_the_outcome_and_finds_it_by_request_id(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    request_id = stack.new_id()
    request = pb.StopRequest(session=ref(session), request_id=request_id)
    call = asyncio.ensure_future(stack.sessions.Stop(request, metadata=stack.admin))
    stop = await host.command("stop")
    host.answer(stop, PENDING, receipt_pb2.OUTCOME_REASON_IN_PROGRESS)
    await call
    ask = pb.GetCommandRequest(request_id=request_id.upper(), wait={"seconds": 3600})
    wait = stack.sessions.GetCommand(ask, metadata=stack.admin)
    await stack.until(lambda: stack.commands.waiting == 1)
    assert not wait.done()
    host.over(session.session_id, 1)
    assert outcome((await wait).receipt) == ("RAN", "DONE")


async def test_a_command_that_is_unknown_or_somebody_elses_is_not_found(stack: Stack) -> None:
    host = await stack.host()
    one = await stack.start(host, "one")
    two = await stack.start(host, "two")
    receipt, _ = await stack.send(host, one)
    agent = await stack.agent(two.session_id)
    for command_id, who in (("none", stack.admin), (receipt.command_id, agent)):
        ask = pb.GetCommandRequest(command_id=command_id)
        failure = await fails(stack.sessions.GetCommand(ask, metadata=who))
        assert (failure.reason, failure.code) == (
            "COMMAND_NOT_FOUND",
            grpc.StatusCode.NOT_FOUND,
        )
    own = pb.GetCommandRequest(command_id=receipt.command_id)
    agent = await stack.agent(one.session_id)
    assert (await stack.sessions.GetCommand(own, metadata=agent)).receipt.verb == 2


# ---------------------------------------------------------------- Interrupt


def interrupt(session: session_pb2.Session, **fields: Any) -> Any:
    return pb.InterruptRequest(session=ref(session), **fields)


async def test_an_interrupt_tells_which_turn_it_hit(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await stack.begin_turn(host, session, 1)
    fields = {"include_background": True, "grace": {"seconds": 2}, "after": "AFTER_INTERRUPT_HOLD"}
    call = asyncio.ensure_future(
        stack.sessions.Interrupt(interrupt(session, **fields), metadata=stack.admin)
    )
    command = await host.command("interrupt")
    assert (command.interrupt.turn, command.interrupt.include_background) == (0, True)
    assert (command.interrupt.grace.seconds, command.interrupt.after) == (2, 2)
    assert command.time_to_live.ToSeconds() in (4, 5)
    host.answer(command, PENDING, receipt_pb2.OUTCOME_REASON_IN_PROGRESS, turn=1)
    receipt = (await call).receipt
    assert (outcome(receipt), receipt.outcome.turn) == (("PENDING", "IN_PROGRESS"), 1)
    host.turn_over(session.session_id, 1, 1, "INTERRUPTED")
    host.answer(command, RAN, receipt_pb2.OUTCOME_REASON_TURN_INTERRUPTED, turn=1)
    done = await stack.command(receipt.command_id, wait=60)
    assert (outcome(done), done.outcome.turn) == (("RAN", "TURN_INTERRUPTED"), 1)


async def test_an_interrupt_behind_a_start_that_was_just_accepted_comes_after_it(
    stack: Stack,
) -> None:
    host = await stack.host()
    start = stack.start_request(prompt=[text("sleep 60")])
    first = asyncio.ensure_future(stack.sessions.StartSession(start, metadata=stack.admin))
    await host.command("start")
    by_slug = pb.InterruptRequest(session={"slug": "x"})
    second = asyncio.ensure_future(stack.sessions.Interrupt(by_slug, metadata=stack.admin))
    await host.until(lambda: len(host.commands) == 3)
    kinds = [each.WhichOneof("action") for each in host.commands]
    assert kinds == ["start", "deliver", "interrupt"]
    host.started(host.commands[0])
    input_id = host.commands[1].deliver.input_id
    cancelled = receipt_pb2.OUTCOME_REASON_INPUT_CANCELLED
    host.answer(host.commands[2], RAN, cancelled, input_id=input_id)
    receipt = (await second).receipt
    assert (outcome(receipt), receipt.outcome.input_id) == (("RAN", "INPUT_CANCELLED"), input_id)
    await first


async def test_an_interrupt_that_is_not_answered_in_time_is_withdrawn(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    request = interrupt(session, request_id=stack.new_id())
    call = asyncio.ensure_future(fails(stack.sessions.Interrupt(request, metadata=stack.admin)))
    command = await host.command("interrupt")
    await stack.lose_patience()
    failure = await call
    assert (failure.reason, failure.code) == ("HOST_UNREACHABLE", grpc.StatusCode.UNAVAILABLE)
    await host.until(lambda: host.withdrawn == [command.command_id])
    assert outcome(await stack.command(command.command_id)) == ("NOT_RUN", "EXPIRED")
    # The same request has the same answer; a reconnect does not bring it back.
    again = await fails(stack.sessions.Interrupt(request, metadata=stack.admin))
    assert again.reason == "HOST_UNREACHABLE"
    await host.drop()
    await host.connect()
    receipt, _ = await stack.send(host, session)
    del receipt
    # If it hit all the same, the host says so, and that is the truth.
    host.answer(command, RAN, receipt_pb2.OUTCOME_REASON_NO_TURN)
    await host.synced()
    assert outcome(await stack.command(command.command_id)) == ("RAN", "NO_TURN")
    truth = await stack.sessions.Interrupt(request, metadata=stack.admin)
    assert outcome(truth.receipt) == ("RAN", "NO_TURN")


async def test_an_interrupt_whose_caller_went_away_expires_by_itself(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    call = stack.sessions.Interrupt(interrupt(session), metadata=stack.admin)
    command = await host.command("interrupt")
    call.cancel()

    async def withdrawn() -> list[str]:
        await stack.pass_time(host, 1.0)
        return host.withdrawn

    await stack.eventually(withdrawn, [command.command_id])
    assert outcome(await stack.command(command.command_id)) == ("NOT_RUN", "EXPIRED")


async def test_an_interrupt_to_a_host_that_is_away_names_the_turn_that_is_known(
    stack: Stack,
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await stack.begin_turn(host, session, 1)
    await host.drop()
    await stack.until(lambda: not stack.links.is_live(host.host_id))
    call = asyncio.ensure_future(stack.sessions.Interrupt(interrupt(session), metadata=stack.admin))
    await stack.until(lambda: stack.commands.waiting == 1)
    await host.connect()
    command = await host.command("interrupt")
    assert command.interrupt.turn == 1
    host.answer(command, RAN, receipt_pb2.OUTCOME_REASON_TURN_ALREADY_ENDED, turn=1)
    assert outcome((await call).receipt) == ("RAN", "TURN_ALREADY_ENDED")


# ---------------------------------------------------------------- Resume


async def ended(stack: Stack, host: Any, how: str = "STOPPED") -> session_pb2.Session:
    session = await stack.start(host)
    host.over(session.session_id, 1, how)
    await host.synced()
    return await stack.session(session.session_id)


async def test_a_resume_opens_the_next_run_with_what_was_kept(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host, environment={"A": "1"}, directory="/srv/app")
    host.journaled_state(session.session_id, 1, b"kept")
    host.over(session.session_id, 1)
    await host.synced()
    request = pb.ResumeRequest(session=ref(session), prompt=[text("go on")])
    call = asyncio.ensure_future(stack.sessions.Resume(request, metadata=stack.admin))
    start = await host.command("start")
    assert start.run == 2
    assert start.start.resume.driver_state == b"kept"
    assert start.start.resume.mode == event_pb2.RESUME_MODE_AUTO
    assert start.start.resume.same_host
    assert dict(start.start.environment) == {"A": "1"}
    assert start.start.directory == "/srv/app"
    host.started(start)
    answer = await call
    assert outcome(answer.receipt) == ("RAN", "DONE")
    await host.synced()
    now = await stack.session(session.session_id)
    assert (now.run, phase(now), now.end_reason) == (2, "IDLE", 0)
    assert "session_resumed" in await stack.kinds(session.session_id)
    assert (await host.command("deliver")).deliver.content[0].text == "go on"


async def test_a_failed_run_leaves_its_inputs_to_the_next_one(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    receipt, first = await stack.send(host, session)
    host.over(session.session_id, 1, "FAILED", "AGENT_LOST")
    await host.synced()
    assert outcome(await stack.command(receipt.command_id)) == ("PENDING", "QUEUED")
    request = pb.ResumeRequest(session=ref(session))
    call = asyncio.ensure_future(stack.sessions.Resume(request, metadata=stack.admin))
    host.started(await host.command("start"))
    await call
    again = await host.command("deliver")
    assert (again.run, again.deliver.input_id) == (2, first.deliver.input_id)
    assert again.command_id != first.command_id
    assert again.deliver.sequence == first.deliver.sequence
    host.turn(again, 1)
    done = await stack.command(receipt.command_id, wait=60)
    assert (outcome(done), done.outcome.turn) == (("RAN", "TURN_STARTED"), 1)


async def test_a_refused_resume_leaves_the_session_as_it_was(stack: Stack) -> None:
    host = await stack.host()
    session = await ended(stack, host)
    request = pb.ResumeRequest(
        session=ref(session), prompt=[text("go on")], request_id=stack.new_id()
    )
    for _ in range(2):
        call = asyncio.ensure_future(fails(stack.sessions.Resume(request, metadata=stack.admin)))
        if _ == 0:
            host.refuse(await host.command("start"), "START_FAILED", agent="shell")
        failure = await call
        assert (failure.reason, failure.metadata) == ("START_FAILED", {"agent": "shell"})
    now = await stack.session(session.session_id)
    assert (now.run, now.phase, now.end_reason) == (1, session.phase, session.end_reason)
    assert (now.inputs_waiting, now.containment) == (0, session.containment)
    await host.command("deliver")
    # The run's number is never given out again: what is on its way of it would be taken for new.
    other = pb.ResumeRequest(session=ref(session))
    again = asyncio.ensure_future(stack.sessions.Resume(other, metadata=stack.admin))
    start = await host.command("start")
    assert start.run == 3
    host.started(start)
    await again


async def test_a_send_resumes_an_ended_session_where_it_is_asked_to(stack: Stack) -> None:
    host = await stack.host()
    session = await ended(stack, host)
    request = pb.SendRequest(
        session=ref(session), content=[text("go")], resume_if_ended=True, request_id=stack.new_id()
    )
    call = asyncio.ensure_future(send(stack, request))
    start = await host.command("start")
    deliver = await host.command("deliver")
    assert (start.run, deliver.run) == (2, 2)
    host.started(start)
    host.answer(deliver, PENDING, receipt_pb2.OUTCOME_REASON_QUEUED)
    receipt = await call
    assert outcome(receipt) == ("PENDING", "QUEUED")
    assert receipt.verb == receipt_pb2.VERB_SEND


async def test_a_send_whose_resume_is_refused_has_no_effect(stack: Stack) -> None:
    host = await stack.host()
    session = await ended(stack, host)
    request = pb.SendRequest(session=ref(session), content=[text("go")], resume_if_ended=True)
    call = asyncio.ensure_future(fails(stack.sessions.Send(request, metadata=stack.admin)))
    host.refuse(await host.command("start"), "AGENT_NOT_INSTALLED", agent="shell")
    failure = await call
    assert failure.reason == "AGENT_NOT_INSTALLED"
    now = await stack.session(session.session_id)
    assert (phase(now), now.run, now.inputs_waiting) == ("STOPPED", 1, 0)


async def test_a_session_is_resumed_on_another_host_only_if_it_is_named(stack: Stack) -> None:
    old = await stack.host("old")
    new = await stack.host("new")
    session = await stack.start(old, host="old")
    old.over(session.session_id, 1)
    await old.synced()
    await old.drop()
    await stack.until(lambda: not stack.links.is_live(old.host_id))
    failure = await fails(
        stack.sessions.Resume(pb.ResumeRequest(session=ref(session)), metadata=stack.admin)
    )
    assert failure.reason == "HOST_UNREACHABLE"
    request = pb.ResumeRequest(session=ref(session), host="new")
    call = asyncio.ensure_future(stack.sessions.Resume(request, metadata=stack.admin))
    start = await new.command("start")
    assert not start.start.resume.same_host
    new.started(start)
    assert (await call).session.host_id == new.host_id


async def test_a_run_whose_host_is_away_is_given_up_by_force_alone(stack: Stack) -> None:
    old = await stack.host("old")
    new = await stack.host("new")
    session = await stack.start(old, host="old")
    await stack.begin_turn(old, session, 1)
    called = event_pb2.ToolCallStarted(tool_call_id="t1", tool="bash")
    old.event(session.session_id, 1, turn=1, tool_call_started=called)
    handed, _ = await stack.send(old, session)
    await old.synced()
    forced = pb.ResumeRequest(session=ref(session), host="new", force=True)
    assert (await fails(stack.sessions.Resume(forced, metadata=stack.admin))).reason == (
        "SESSION_LIVE"
    )
    await old.drop()
    await stack.until(lambda: not stack.links.is_live(old.host_id))
    kept = asyncio.ensure_future(
        send(stack, pb.SendRequest(session=ref(session), content=[text("later")]))
    )
    await stack.lose_patience()
    later = await kept
    plain = pb.ResumeRequest(session=ref(session), host="new")
    assert (await fails(stack.sessions.Resume(plain, metadata=stack.admin))).reason == (
        "SESSION_LIVE"
    )
    call = asyncio.ensure_future(stack.sessions.Resume(forced, metadata=stack.admin))
    start = await new.command("start")
    assert (start.run, start.start.last_turn) == (2, 1)
    new.started(start)
    await call
    await new.synced()
    kinds = await stack.kinds(session.session_id)
    end = kinds.index("session_ended")
    assert kinds[end - 3 : end] == ["input_cancelled", "tool_call_ended", "turn_ended"]
    (event,) = [each for each in await stack.events(session.session_id) if each.session_ended.phase]
    assert event.session_ended.reason == session_pb2.END_REASON_HOST_ABANDONED
    assert not event.session_ended.verified
    assert event.principal.name == "admin"
    # What the old host may have had never runs again; what it surely never had goes on.
    assert outcome(await stack.command(handed.command_id)) == ("UNKNOWN", "HOST_STATE_LOST")
    again = await new.command("deliver")
    assert again.deliver.input_id == later.input_id
    # The old host comes back: its run is stale.
    await old.connect()
    assert [(each.session_id, each.run) for each in old.reconciles[-1].kill] == [
        (session.session_id, 1)
    ]
    old.turn_over(session.session_id, 1, 1)
    await old.synced()
    assert (await stack.session(session.session_id)).run == 2
    assert (await stack.kinds(session.session_id)).count("turn_ended") == 1


@pytest.mark.parametrize("reason", ["START_FAILED", "DIRECTORY_MISSING", "HOST_FULL"])
async def test_what_the_host_refuses_with_reaches_the_caller(stack: Stack, reason: str) -> None:
    host = await stack.host()
    call = asyncio.ensure_future(
        fails(stack.sessions.StartSession(stack.start_request(), metadata=stack.admin))
    )
    host.refuse(await host.command("start"), reason)
    assert (await call).reason == reason
