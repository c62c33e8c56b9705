"""Runs that go on under another journal than the one that their host lost."""

from __future__ import annotations

import asyncio
from typing import Any

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle.v1 import event_pb2, receipt_pb2, session_pb2
from bridle_core.ordering import OrderChecker
from tests.bridle_control.stack import Stack, outcome, pb, phase, ref, text
from tests.fakes.host import PENDING, RAN, FakeHost, FakeJournal
from tests.support.event_order import feed_event


async def lose_journal(host: FakeHost) -> None:
    """The link is cut, and the host's journal is another one, in which nothing stands yet."""
    await host.drop()
    host.journal = FakeJournal()


async def in_order(stack: Stack, session_id: str) -> list[Any]:
    """The session's log, once it was held against the order table."""
    events = await stack.events(session_id)
    checker = OrderChecker()
    for event in events:
        feed_event(checker, event)
    return events


async def test_what_a_new_journal_holds_by_its_hello_stands_behind_where_it_begins(
    stack: Stack,
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    name = session.session_id
    await stack.begin_turn(host, session, 1)
    held, deliver = await stack.send(host, session)
    gone, _ = await stack.send(host, session)
    await host.synced()
    await lose_journal(host)
    # Meanwhile the host works on: its inventory is of after the turn's begin.
    host.adopt(name, 1, last_turn=1, input_ids=[held.input_id])
    host.turn(deliver, 2)
    await host.connect()
    assert host.welcome.journal_lost
    await host.synced()
    events = await in_order(stack, name)
    assert [(each.turn, each.WhichOneof("kind")) for each in events[-7:]] == [
        (0, "input_cancelled"),
        (1, "turn_ended"),
        (0, "phase_changed"),
        (0, "diagnostic"),
        (2, "turn_started"),
        (2, "input_consumed"),
        (0, "phase_changed"),
    ]
    assert outcome(await stack.command(held.command_id)) == ("RAN", "TURN_STARTED")
    assert outcome(await stack.command(gone.command_id)) == ("UNKNOWN", "HOST_STATE_LOST")
    now = await stack.session(name)
    assert (phase(now), now.turn, now.turn_open) == ("RUNNING", 2, True)


async def test_nothing_is_handed_over_before_it_is_known_what_was_lost(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    request = pb.SendRequest(session=ref(session), request_id=stack.new_id(), content=[text("go")])
    call = asyncio.ensure_future(stack.sessions.Send(request, metadata=stack.admin))
    lost = await host.command("deliver")
    await lose_journal(host)
    host.sends = False
    host.adopt(session.session_id, 1)
    await host.connect()
    await host.drop()  # … not even by a stream to which the journal is known
    await host.connect()
    assert not host.welcome.journal_lost
    other = await stack.host("other")
    await stack.start(other, "elsewhere", host="other")
    assert not stack.links.is_live(host.host_id)
    host.sends = True
    host.flush()
    assert outcome((await call).receipt) == ("UNKNOWN", "HOST_STATE_LOST")
    _, deliver = await stack.send(host, session)
    assert deliver.command_id != lost.command_id
    assert [each.command_id for each in host.commands].count(lost.command_id) == 1


async def test_what_the_log_lacks_of_a_runs_begin_is_written_from_what_its_host_knows(
    stack: Stack,
) -> None:
    host = await stack.host()
    request = stack.start_request()
    call = asyncio.ensure_future(stack.sessions.StartSession(request, metadata=stack.admin))
    start = await host.command("start")
    await lose_journal(host)
    told = event_pb2.SessionStarted(agent="shell", directory="/srv/a", containment="SUBREAPER")
    host.adopt(start.session_id, 1, started=told)
    live = wire.LiveSession(session_id=start.session_id, run=1, phase=session_pb2.PHASE_IDLE)
    host.inventory[start.session_id] = live
    await host.connect()
    assert outcome((await call).receipt) == ("RAN", "DONE")
    await host.synced()
    events = await in_order(stack, start.session_id)
    kinds = [each.WhichOneof("kind") for each in events]
    assert kinds == ["session_started", "process_started", "phase_changed", "diagnostic"]
    assert events[0].principal.name == "admin"
    now = await stack.session(start.session_id)
    assert (phase(now), now.directory) == ("IDLE", "/srv/a")
    # Once only: the next loss finds it there.
    await lose_journal(host)
    host.adopt(start.session_id, 1, started=told)
    await host.connect()
    await host.synced()
    assert (await stack.kinds(start.session_id))[len(kinds) :] == ["diagnostic"]


async def test_a_process_that_took_anothers_place_unseen_is_told_as_the_one_that_is_up(
    stack: Stack,
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await lose_journal(host)
    told = event_pb2.SessionStarted(agent="shell")
    process = event_pb2.ProcessStarted(pid=4712)
    host.adopt(session.session_id, 1, started=told, process=process)
    await host.connect()
    await host.synced()
    events = await in_order(stack, session.session_id)
    assert [each.process_exited.pid for each in events if each.HasField("process_exited")] == [4711]
    assert events[-2].process_started.pid == 4712


async def test_a_queue_that_was_held_unseen_is_held(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await lose_journal(host)
    host.adopt(session.session_id, 1, queue_state=session_pb2.QUEUE_STATE_HELD)
    await host.connect()
    await host.synced()
    now = await stack.session(session.session_id)
    assert now.queue_state == session_pb2.QUEUE_STATE_HELD
    assert "queue_held" in await stack.kinds(session.session_id)


async def test_a_kill_that_was_lost_with_the_journal_is_asked_for_again(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    request = pb.KillRequest(session=ref(session), request_id=stack.new_id())
    call = asyncio.ensure_future(stack.sessions.Kill(request, metadata=stack.admin))
    kill = await host.command("kill")
    await lose_journal(host)
    host.adopt(session.session_id, 1)
    await host.connect()
    again = await host.command("kill")
    assert again.command_id == kill.command_id
    host.over(session.session_id, 1, "KILLED", "KILL_REQUESTED")
    host.answer(again, RAN)
    assert outcome((await call).receipt) == ("RAN", "DONE")


async def test_a_kill_that_the_host_is_at_is_decided_by_the_end(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    request = pb.KillRequest(session=ref(session), request_id=stack.new_id())
    call = asyncio.ensure_future(stack.sessions.Kill(request, metadata=stack.admin))
    kill = await host.command("kill")
    host.answer(kill, PENDING, receipt_pb2.OUTCOME_REASON_IN_PROGRESS)
    receipt = (await call).receipt
    await lose_journal(host)
    host.adopt(session.session_id, 1, phase=session_pb2.PHASE_STOPPING)
    await host.connect()
    await host.synced()
    assert outcome(await stack.command(receipt.command_id)) == ("PENDING", "IN_PROGRESS")
    host.over(session.session_id, 1, "KILLED", "KILL_REQUESTED")
    await host.synced()
    assert outcome(await stack.command(receipt.command_id)) == ("RAN", "DONE")


async def test_a_run_that_ended_meanwhile_ends_as_its_host_says(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await stack.begin_turn(host, session, 1)
    waits, _ = await stack.send(host, session)
    await host.synced()
    await lose_journal(host)
    host.adopt(session.session_id, 1, last_turn=1)
    host.event(session.session_id, 1, process_exited=event_pb2.ProcessExited(pid=4711))
    host.over(session.session_id, 1, "FAILED", "AGENT_LOST")
    await host.connect()
    await host.synced()
    events = await in_order(stack, session.session_id)
    assert events[-1].session_ended.reason == session_pb2.END_REASON_AGENT_LOST
    # It may have run in what was lost, so no later run may get it.
    assert outcome(await stack.command(waits.command_id)) == ("UNKNOWN", "HOST_STATE_LOST")


async def test_a_run_of_which_the_host_remembers_an_earlier_time_is_given_up(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await stack.begin_turn(host, session, 1)
    host.turn_over(session.session_id, 1, 1)
    await host.synced()
    await lose_journal(host)
    host.adopt(session.session_id, 1)
    host.inventory[session.session_id] = wire.LiveSession(session_id=session.session_id, run=1)
    await host.connect()
    await host.synced()
    now = await stack.session(session.session_id)
    assert (phase(now), session_pb2.EndReason.Name(now.end_reason)) == (
        "FAILED",
        "END_REASON_HOST_STATE_LOST",
    )


async def test_a_loss_is_not_forgotten_by_a_stream_that_ends_before_the_inventory(
    stack: Stack,
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await stack.begin_turn(host, session, 1)
    await lose_journal(host)
    host.inventory[session.session_id].open_turn = 0
    await host.greet()
    assert host.welcome.journal_lost
    await host.connect()
    assert host.welcome.journal_lost
    assert not (await stack.session(session.session_id)).turn_open
