"""Each cell of the table of verbs by phase, through real gRPC: what control answers by itself, and
what it hands to the host. (What a host then does is the host's test.)"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from bridle.v1 import event_pb2, input_pb2, receipt_pb2, session_pb2, watch_pb2
from bridle_control.store.api import InputRow, Tx
from tests.bridle_control.serving import Failure, fails
from tests.bridle_control.stack import Stack, outcome, pb, phase, ref, text
from tests.fakes.host import NOT_RUN, PENDING, RAN, FakeHost

PHASES = ["STARTING", "IDLE", "RUNNING", "WAITING", "STOPPING", "STOPPED", "FAILED", "KILLED"]
LIVE = PHASES[:5]


async def session_in(stack: Stack, host: FakeHost, wanted: str) -> session_pb2.Session:
    """A session that is in this phase, as the host has told."""
    session = await stack.start(host, agent="steerable", idle=wanted != "STARTING")
    session_id = session.session_id
    if wanted in ("RUNNING", "WAITING"):
        await stack.begin_turn(host, session)
    if wanted == "WAITING":
        asked = event_pb2.ApprovalRequested(approval_id="a1", tool="bash")
        host.event(session_id, 1, turn=1, approval_requested=asked)
        host.phase(session_id, 1, "RUNNING", "WAITING")
    if wanted == "STOPPING":
        host.phase(session_id, 1, "IDLE", "STOPPING")
    if wanted in ("STOPPED", "FAILED", "KILLED"):
        host.over(session_id, 1, wanted)
    await host.synced()
    session = await stack.session(session_id)
    assert phase(session) == wanted
    return session


def request_of(stack: Stack, verb: str, session: session_pb2.Session) -> Any:
    fields: dict[str, Any] = {"session": ref(session), "request_id": stack.new_id()}
    if verb == "Send":
        fields["content"] = [text("more")]
    if verb == "Respond":
        fields |= {"approval_id": "a1", "decision": event_pb2.APPROVAL_DECISION_ALLOW}
    if verb == "UpdateSession":
        fields |= {"update_mask": {"paths": ["policy.consume"]}, "policy": {"consume": 2}}
    return getattr(pb, f"{verb}Request")(**fields)


async def ask(stack: Stack, verb: str, session: session_pb2.Session) -> Any:
    request = request_of(stack, verb, session)
    return await getattr(stack.sessions, verb)(request, metadata=stack.admin)


async def refused(stack: Stack, verb: str, session: session_pb2.Session) -> Failure:
    request = request_of(stack, verb, session)
    return await fails(getattr(stack.sessions, verb)(request, metadata=stack.admin))


ACTIONS = {
    "Send": "deliver",
    "Interrupt": "interrupt",
    "Stop": "stop",
    "Kill": "kill",
    "Respond": "resolve",
    "ReleaseQueue": "release",
    "UpdateSession": "update",
    "Resume": "start",
}

HANDED = [
    *[("Send", at) for at in LIVE[:4]],
    *[("Interrupt", at) for at in LIVE],
    *[("Stop", at) for at in LIVE],
    *[("Kill", at) for at in LIVE],
    ("Respond", "WAITING"),
    *[("ReleaseQueue", at) for at in LIVE[:4]],
    *[("UpdateSession", at) for at in LIVE],
    *[("Resume", at) for at in PHASES[5:]],
]


@pytest.mark.parametrize(("verb", "at"), HANDED)
async def test_the_host_decides(stack: Stack, verb: str, at: str) -> None:
    host = await stack.host()
    session = await session_in(stack, host, at)
    call = asyncio.ensure_future(ask(stack, verb, session))
    command = await host.command(ACTIONS[verb])
    assert command.session_id == session.session_id
    assert command.run == (2 if verb == "Resume" else 1)
    if verb == "Resume":
        host.started(command)
    else:
        host.answer(command, RAN)
    answer = await call
    assert outcome(answer.receipt) == ("RAN", "DONE")


REFUSED = [
    ("Send", "STOPPING", "SESSION_ENDING"),
    *[("Send", at, "SESSION_ENDED") for at in PHASES[5:]],
    *[("Interrupt", at, "SESSION_ENDED") for at in PHASES[5:]],
    *[("Resume", at, "SESSION_LIVE") for at in LIVE],
    *[("Respond", at, "APPROVAL_NOT_FOUND") for at in PHASES if at != "WAITING"],
    ("ReleaseQueue", "STOPPING", "SESSION_ENDING"),
    *[("ReleaseQueue", at, "SESSION_ENDED") for at in PHASES[5:]],
    *[("DeleteSession", at, "SESSION_LIVE") for at in LIVE],
]


@pytest.mark.parametrize(("verb", "at", "reason"), REFUSED)
async def test_control_refuses_at_once_and_writes_nothing(
    stack: Stack, verb: str, at: str, reason: str
) -> None:
    host = await stack.host()
    session = await session_in(stack, host, at)
    before = len(host.commands)
    failure = await refused(stack, verb, session)
    assert failure.reason == reason
    expected = (
        grpc.StatusCode.NOT_FOUND if "NOT_FOUND" in reason else grpc.StatusCode.FAILED_PRECONDITION
    )
    assert failure.code is expected
    after = await stack.session(session.session_id)
    assert (after.phase, after.last_sequence) == (session.phase, session.last_sequence)
    assert len(host.commands) == before


@pytest.mark.parametrize("verb", ["Stop", "Kill"])
@pytest.mark.parametrize("at", PHASES[5:])
async def test_an_end_of_an_ended_session_ran_without_effect(
    stack: Stack, verb: str, at: str
) -> None:
    host = await stack.host()
    session = await session_in(stack, host, at)
    answer = await ask(stack, verb, session)
    assert outcome(answer.receipt) == ("RAN", "ALREADY_ENDED")


@pytest.mark.parametrize("at", PHASES[5:])
async def test_deleting_an_ended_session_frees_its_slug(stack: Stack, at: str) -> None:
    host = await stack.host()
    session = await session_in(stack, host, at)
    watch = stack.sessions.Watch(pb_watch(session), metadata=stack.admin)
    await watch.read()
    answer = await ask(stack, "DeleteSession", session)
    assert outcome(answer.receipt) == ("RAN", "DONE")
    assert (await fails(watch)).reason == "SESSION_NOT_FOUND"
    assert (await refused(stack, "Stop", session)).reason == "SESSION_NOT_FOUND"
    again = await stack.start(host)
    assert again.session_id != session.session_id


def pb_watch(session: session_pb2.Session) -> Any:
    return watch_pb2.WatchRequest(targets=[watch_pb2.WatchTarget(session=ref(session))])


@pytest.mark.parametrize("verb", [*ACTIONS, "DeleteSession"])
async def test_a_session_that_is_not_there_is_not_found(stack: Stack, verb: str) -> None:
    failure = await refused(stack, verb, session_pb2.Session(session_id="none"))
    assert (failure.reason, failure.code) == ("SESSION_NOT_FOUND", grpc.StatusCode.NOT_FOUND)
    assert failure.metadata == {"workspace": "default", "session": "none"}


# ---------------------------------------------------------------- Send


async def test_a_send_is_queued_and_ran_once_a_turn_has_consumed_it(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    receipt, deliver = await stack.send(host, session)
    assert outcome(receipt) == ("PENDING", "QUEUED")
    assert receipt.sequence == deliver.deliver.sequence == 4
    assert (await stack.session(session.session_id)).inputs_waiting == 1
    host.turn(deliver, 1)
    done = await stack.command(receipt.command_id, wait=60)
    assert outcome(done) == ("RAN", "TURN_STARTED")
    assert (done.outcome.turn, done.outcome.input_id) == (1, receipt.input_id)
    now = await stack.session(session.session_id)
    assert (now.inputs_waiting, now.turn, now.turn_open) == (0, 1, True)


async def test_a_send_to_a_host_that_is_away_waits_and_is_delivered_when_it_is_back(
    stack: Stack,
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await host.drop()
    await stack.until(lambda: not stack.links.is_live(host.host_id))
    calls = [asyncio.ensure_future(ask(stack, "Send", session)) for _ in range(3)]
    await stack.eventually(lambda: waiting(stack, session), 3)
    await stack.lose_patience(3)
    receipts = [(await call).receipt for call in calls]
    assert {outcome(receipt) for receipt in receipts} == {("PENDING", "PENDING_HOST")}
    await host.connect()
    delivered = [await host.command("deliver") for _ in range(3)]
    in_order = sorted(receipts, key=lambda receipt: receipt.sequence)
    assert [each.deliver.input_id for each in delivered] == [each.input_id for each in in_order]


async def waiting(stack: Stack, session: session_pb2.Session) -> int:
    return int((await stack.session(session.session_id)).inputs_waiting)


@pytest.mark.parametrize("at", LIVE[:4])
async def test_steer_without_the_capability_is_refused_before_anything_is_written(
    stack: Stack, at: str
) -> None:
    host = await stack.host()
    session = await stack.start(host, idle=at != "STARTING")
    request = pb.SendRequest(session=ref(session), content=[text("x")], mode="INPUT_MODE_STEER")
    failure = await fails(stack.sessions.Send(request, metadata=stack.admin))
    assert (failure.reason, failure.metadata["capability"]) == ("CAPABILITY_MISSING", "STEER")
    assert failure.code is grpc.StatusCode.UNIMPLEMENTED
    assert "input_queued" not in await stack.kinds(session.session_id)


async def test_steer_with_leave_to_queue_is_handed_on_as_it_is(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    _, deliver = await stack.send(host, session, mode="INPUT_MODE_STEER", or_queue=True)
    assert deliver.deliver.or_queue
    assert deliver.deliver.mode == 2


async def test_steer_and_now_are_handed_to_an_agent_that_can(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host, agent="steerable")
    for mode in ("INPUT_MODE_STEER", "INPUT_MODE_NOW"):
        _, deliver = await stack.send(host, session, mode=mode)
        assert deliver.deliver.mode == input_pb2.InputMode.Value(mode)


async def test_an_image_for_an_agent_that_sees_none_is_refused(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    picture = {"image": {"data": b"x", "media_type": "image/png"}}
    request = pb.SendRequest(session=ref(session), content=[picture])
    failure = await fails(stack.sessions.Send(request, metadata=stack.admin))
    assert (failure.reason, failure.metadata["capability"]) == ("CAPABILITY_MISSING", "IMAGES")


async def test_the_thousand_and_first_waiting_input_is_refused(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    session_id = session.session_id

    def fill(tx: Tx) -> None:
        for number in range(1000):
            waits = input_pb2.INPUT_STATE_WAITING
            tx.insert_input(InputRow(f"i{number}", session_id, number + 10, b"", 1, waits, 1))

    await stack.store.write(fill)
    failure = await refused(stack, "Send", session)
    assert (failure.reason, failure.metadata) == ("QUEUE_FULL", {"limit": "1000"})
    assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_an_input_that_expires_before_any_host_had_it_is_cancelled(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await host.drop()
    await stack.until(lambda: not stack.links.is_live(host.host_id))
    request = request_of(stack, "Send", session)
    request.time_to_live.seconds = 30
    call = asyncio.ensure_future(stack.sessions.Send(request, metadata=stack.admin))
    await stack.eventually(lambda: waiting(stack, session), 1)
    await stack.lose_patience()
    receipt = (await call).receipt
    stack.clock.advance(30.0)
    await stack.eventually(lambda: outcome_later(stack, receipt.command_id), ("NOT_RUN", "EXPIRED"))
    assert (await stack.kinds(session.session_id))[-1] in ("input_cancelled", "host_lost")
    await host.connect()
    assert not [command for command in host.commands if command.HasField("deliver")]


async def test_an_input_that_a_host_may_have_had_is_the_hosts_to_expire(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    request = request_of(stack, "Send", session)
    request.time_to_live.seconds = 30
    call = asyncio.ensure_future(stack.sessions.Send(request, metadata=stack.admin))
    deliver = await host.command("deliver")
    assert deliver.deliver.time_to_live.ToSeconds() in (29, 30)
    await host.drop()
    await stack.lose_patience()
    receipt = (await call).receipt
    stack.clock.advance(60.0)
    assert outcome(await stack.command(receipt.command_id)) == ("PENDING", "PENDING_HOST")
    await host.connect()
    again = await host.command("deliver")
    assert again.command_id == deliver.command_id
    host.turn(deliver, 1)
    assert outcome(await stack.command(receipt.command_id, wait=60)) == ("RAN", "TURN_STARTED")


async def test_a_send_after_an_accepted_stop_is_refused_wherever_the_host_is(
    stack: Stack,
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    call = asyncio.ensure_future(ask(stack, "Stop", session))
    stop = await host.command("stop")
    host.answer(stop, PENDING, receipt_pb2.OUTCOME_REASON_IN_PROGRESS)
    assert outcome((await call).receipt) == ("PENDING", "IN_PROGRESS")
    assert (await refused(stack, "Send", session)).reason == "SESSION_ENDING"


async def test_a_host_that_refuses_an_input_has_it_cancelled(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    call = asyncio.ensure_future(refused(stack, "Send", session))
    deliver = await host.command("deliver")
    host.refuse(deliver, "SESSION_ENDING")
    assert (await call).reason == "SESSION_ENDING"
    assert (await stack.session(session.session_id)).inputs_waiting == 0
    assert (await stack.kinds(session.session_id))[-1] == "input_cancelled"


async def outcome_later(stack: Stack, command_id: str) -> tuple[str, str]:
    """The outcome a second later."""
    stack.clock.advance(1.0)
    return outcome(await stack.command(command_id))


# ---------------------------------------------------------------- CancelInput


async def test_the_host_decides_about_an_input_that_waits(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    receipt, deliver = await stack.send(host, session)
    request = pb.CancelInputRequest(session=ref(session), input_id=receipt.input_id)
    call = asyncio.ensure_future(stack.sessions.CancelInput(request, metadata=stack.admin))
    cancel = await host.command("cancel")
    assert cancel.cancel.input_id == receipt.input_id
    host.event(
        session.session_id,
        1,
        input_cancelled=event_pb2.InputCancelled(
            input_id=receipt.input_id, reason=input_pb2.CANCEL_REASON_REQUESTED
        ),
    )
    reason = receipt_pb2.OUTCOME_REASON_INPUT_CANCELLED
    host.answer(cancel, RAN, reason, input_id=receipt.input_id)
    assert outcome((await call).receipt) == ("RAN", "INPUT_CANCELLED")
    assert outcome(await stack.command(receipt.command_id)) == ("NOT_RUN", "CANCELLED")
    del deliver


async def test_cancelling_a_consumed_input_names_the_turn_that_took_it(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    input_id = await stack.begin_turn(host, session, 1)
    request = pb.CancelInputRequest(session=ref(session), input_id=input_id)
    receipt = (await stack.sessions.CancelInput(request, metadata=stack.admin)).receipt
    assert outcome(receipt) == ("NOT_RUN", "TURN_STARTED")
    assert (receipt.outcome.turn, receipt.outcome.input_id) == (1, input_id)


async def test_an_unknown_input_is_not_found(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    request = pb.CancelInputRequest(session=ref(session), input_id="none")
    failure = await fails(stack.sessions.CancelInput(request, metadata=stack.admin))
    assert (failure.reason, failure.metadata) == ("INPUT_NOT_FOUND", {"input": "none"})


async def test_control_cancels_by_itself_what_a_failed_run_left_waiting(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    receipt, _ = await stack.send(host, session)
    host.over(session.session_id, 1, "FAILED", "AGENT_LOST")
    await host.synced()
    request = pb.CancelInputRequest(session=ref(session), input_id=receipt.input_id)
    answer = await stack.sessions.CancelInput(request, metadata=stack.admin)
    assert outcome(answer.receipt) == ("RAN", "INPUT_CANCELLED")
    assert outcome(await stack.command(receipt.command_id)) == ("NOT_RUN", "CANCELLED")


async def test_what_waited_in_a_session_that_is_deleted_is_cancelled(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    receipt, _ = await stack.send(host, session)
    host.over(session.session_id, 1, "FAILED", "AGENT_LOST")
    await host.synced()
    await ask(stack, "DeleteSession", session)
    assert outcome(await stack.command(receipt.command_id)) == ("NOT_RUN", "CANCELLED")


# ---------------------------------------------------------------- Respond


async def test_the_first_answer_wins_and_the_second_learns_of_it(stack: Stack) -> None:
    host = await stack.host()
    session = await session_in(stack, host, "WAITING")
    assert list(session.open_approvals) == ["a1"]
    first = asyncio.ensure_future(ask(stack, "Respond", session))
    resolve = await host.command("resolve")
    second = asyncio.ensure_future(refused(stack, "Respond", session))
    late = await host.command("resolve")
    allow = event_pb2.APPROVAL_DECISION_ALLOW
    resolved = event_pb2.ApprovalResolved(approval_id="a1", decision=allow)
    host.event(session.session_id, 1, turn=1, approval_resolved=resolved)
    host.answer(resolve, RAN)
    host.refuse(late, "APPROVAL_RESOLVED", approval="a1", decision="ALLOW")
    assert outcome((await first).receipt) == ("RAN", "DONE")
    told = await second
    assert (told.reason, told.metadata) == (
        "APPROVAL_RESOLVED",
        {"approval": "a1", "decision": "ALLOW"},
    )
    # A third one is told by the rows alone.
    assert (await refused(stack, "Respond", session)).reason == "APPROVAL_RESOLVED"
    host.turn_over(session.session_id, 1, 1)
    await host.synced()
    assert (await refused(stack, "Respond", session)).reason == "APPROVAL_NOT_FOUND"


# ---------------------------------------------------------------- UpdateSession


async def test_title_and_labels_change_without_a_host(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host, title="old", labels={"a": "1"})
    await host.drop()
    request = pb.UpdateSessionRequest(
        session=ref(session),
        update_mask={"paths": ["title"]},
        title="new",
        labels={"b": "2"},
    )
    answer = await stack.sessions.UpdateSession(request, metadata=stack.admin)
    assert outcome(answer.receipt) == ("RAN", "DONE")
    assert (answer.session.title, dict(answer.session.labels)) == ("new", {"a": "1"})


async def test_one_rule_of_the_policy_changes_and_the_host_gets_them_all(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host, policy={"approval": 3, "turn_timeout": {"seconds": 9}})
    request = pb.UpdateSessionRequest(
        session=ref(session),
        update_mask={"paths": ["policy.turn_timeout"]},
        policy={"turn_timeout": {"seconds": 30}, "approval": 2},
    )
    call = asyncio.ensure_future(stack.sessions.UpdateSession(request, metadata=stack.admin))
    update = await host.command("update")
    host.answer(update, RAN)
    policy = (await call).session.policy
    assert policy == update.update.policy
    assert (policy.approval, policy.turn_timeout.seconds) == (3, 30)


@pytest.mark.parametrize("paths", [[], ["slug"], ["policy.nothing"], ["policy."]])
async def test_what_can_not_be_changed_is_an_invalid_request(
    stack: Stack, paths: list[str]
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    request = pb.UpdateSessionRequest(session=ref(session), update_mask={"paths": paths})
    failure = await fails(stack.sessions.UpdateSession(request, metadata=stack.admin))
    assert failure.reason == "INVALID_REQUEST"
    assert [field for field, _ in failure.fields] == ["update_mask"]


# ---------------------------------------------------------------- Stop and its outcome


async def test_a_stop_ran_once_the_session_has_ended(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    receipt, _ = await stack.send(host, session)
    call = asyncio.ensure_future(ask(stack, "Stop", session))
    stop = await host.command("stop")
    assert stop.stop.reason == session_pb2.END_REASON_STOP_REQUESTED
    assert not stop.stop.HasField("grace")
    assert stop.time_to_live.ToSeconds() in (24 * 3600 - 1, 24 * 3600)
    host.answer(stop, PENDING, receipt_pb2.OUTCOME_REASON_IN_PROGRESS)
    answer = await call
    assert outcome(answer.receipt) == ("PENDING", "IN_PROGRESS")
    wait = asyncio.ensure_future(stack.command(answer.receipt.command_id, wait=60))
    host.over(session.session_id, 1)
    assert outcome(await wait) == ("RAN", "DONE")
    # The input that the host never took is cancelled, before the end in the log.
    assert (await stack.kinds(session.session_id))[-2:] == ["input_cancelled", "session_ended"]
    assert outcome(await stack.command(receipt.command_id)) == ("NOT_RUN", "CANCELLED")


async def test_a_stop_stays_in_force_for_a_day_where_the_host_is_away(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await host.drop()
    await stack.until(lambda: not stack.links.is_live(host.host_id))
    call = asyncio.ensure_future(ask(stack, "Stop", session))
    await stack.lose_patience()
    receipt = (await call).receipt
    assert outcome(receipt) == ("PENDING", "PENDING_HOST")
    stack.clock.advance(23 * 3600)
    assert outcome(await stack.command(receipt.command_id)) == ("PENDING", "PENDING_HOST")
    stack.clock.advance(3600)

    await stack.eventually(lambda: outcome_later(stack, receipt.command_id), ("NOT_RUN", "EXPIRED"))


async def test_commands_that_are_open_at_a_runs_end_are_closed_by_it(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    release = asyncio.ensure_future(ask(stack, "ReleaseQueue", session))
    await host.command("release")
    kill = asyncio.ensure_future(ask(stack, "Kill", session))
    await host.command("kill")
    host.over(session.session_id, 1, "KILLED", "KILL_REQUESTED")
    assert outcome((await release).receipt) == ("NOT_RUN", "SESSION_ENDED")
    assert outcome((await kill).receipt) == ("RAN", "DONE")


# ---------------------------------------------------------------- the rest


async def test_a_refusal_that_this_version_does_not_know_is_still_a_refusal(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    call = asyncio.ensure_future(refused(stack, "ReleaseQueue", session))
    host.answer(
        await host.command("release"),
        NOT_RUN,
        receipt_pb2.OUTCOME_REASON_REFUSED,
        error="FROM_THE_FUTURE",
    )
    assert (await call).code is grpc.StatusCode.FAILED_PRECONDITION
