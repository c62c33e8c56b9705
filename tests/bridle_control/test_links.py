"""Control's side of the host link: handshake, epochs, records once, lost hosts, lost journals."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import grpc
import pytest

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle.host.v1 import host_link_service_pb2_grpc as wire_grpc
from bridle.v1 import event_pb2, receipt_pb2, session_pb2, watch_pb2
from bridle_control.links.welcome import reconcile
from bridle_control.store.api import CommandRow, Tx
from bridle_control.tokens import mint_join_token
from tests.bridle_control.serving import bearer, fails, failure
from tests.bridle_control.stack import Stack, outcome, pb, phase, ref, text
from tests.fakes.host import PENDING, RAN, FakeHost, FakeJournal, Status


def reason(status: Status) -> str:
    assert status.error is not None
    return failure(status.error).reason


def output(line: str) -> dict[str, Any]:
    return {"tool_call_output": event_pb2.ToolCallOutput(text=line)}


# ---------------------------------------------------------------- Enroll


async def join_token(stack: Stack, ttl: int = 600) -> str:
    return await stack.store.write(
        lambda tx: mint_join_token(tx, workspace="default", expire_time=tx.now + ttl * 10**9).secret
    )


def enroll(stack: Stack, channel: grpc.aio.Channel, token: str, name: str) -> Any:
    stub: Any = wire_grpc.HostLinkServiceStub(channel)
    return stub.Enroll(wire.EnrollRequest(name=name), metadata=bearer(token))


async def test_a_join_token_makes_one_host_once(stack: Stack) -> None:
    token = await join_token(stack)
    async with grpc.aio.insecure_channel(stack.address) as channel:
        answers = await asyncio.gather(
            *[enroll(stack, channel, token, f"box-{n}") for n in range(8)],
            return_exceptions=True,
        )
        good = [each for each in answers if isinstance(each, wire.EnrollResponse)]
        bad = [each for each in answers if isinstance(each, grpc.aio.AioRpcError)]
        assert (len(good), len(bad)) == (1, 7)
        assert {failure(each).reason for each in bad} == {"TOKEN_INVALID"}
    (answer,) = good
    assert answer.workspace == "default"
    async with FakeHost(stack.address, answer.credential) as host:
        assert host.welcome.host_id == answer.host_id
        assert host.welcome.epoch == 1


async def test_a_name_that_is_taken_leaves_the_join_token_good(stack: Stack) -> None:
    await stack.host("box", connect=False)
    token = await join_token(stack)
    async with grpc.aio.insecure_channel(stack.address) as channel:
        refused = await fails(enroll(stack, channel, token, "box"))
        assert (refused.reason, refused.code) == ("NAME_TAKEN", grpc.StatusCode.ALREADY_EXISTS)
        assert (await enroll(stack, channel, token, "other")).host_id


# ---------------------------------------------------------------- handshake


async def test_the_welcome_names_the_epoch_and_the_mark_of_the_journal(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    assert (host.welcome.protocol, host.welcome.epoch) == (1, 1)
    assert not host.welcome.journal_lost
    await host.drop()
    await host.connect()
    assert host.welcome.epoch == 2
    assert host.welcome.journal_sequence == host.journal.last
    assert not host.welcome.journal_lost
    assert phase(await stack.session(session.session_id)) == "IDLE"


@pytest.mark.parametrize(
    "first",
    [
        {"heartbeat": wire.Heartbeat(count=1)},
        {"inventory": wire.Inventory(complete=True)},
        {"records": wire.Records(journal_id="j")},
    ],
)
async def test_anything_but_a_hello_first_ends_the_stream(
    stack: Stack, first: dict[str, Any]
) -> None:
    host = await stack.host(connect=False)
    await host.open()
    host.say(**first)
    status = await host.ended()
    assert status.code is grpc.StatusCode.FAILED_PRECONDITION


async def test_records_before_the_inventory_end_the_stream_and_store_nothing(
    stack: Stack,
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await host.drop()
    await host.greet()
    host.event(session.session_id, 1, **output("early"))
    assert (await host.ended()).code is grpc.StatusCode.FAILED_PRECONDITION
    assert "tool_call_output" not in await stack.kinds(session.session_id)


async def test_a_host_of_another_protocol_is_told_which_are_spoken(stack: Stack) -> None:
    host = await stack.host(connect=False)
    host.protocol = (2, 3)
    await host.open()
    host.say(hello=host.hello())
    status = await host.ended()
    assert status.error is not None
    told = failure(status.error)
    assert (told.reason, told.metadata) == ("VERSION_UNSUPPORTED", {"supported": "1-1"})


async def test_a_hello_that_breaks_a_rule_is_refused(stack: Stack) -> None:
    host = await stack.host(connect=False)
    host.incarnation = "short"
    await host.open()
    host.say(hello=host.hello())
    assert reason(await host.ended()) == "INVALID_REQUEST"


async def test_an_inventory_in_several_parts_is_compared_as_a_whole(stack: Stack) -> None:
    host = await stack.host()
    sessions = [await stack.start(host, slug) for slug in ("a", "b", "c")]
    await host.drop()
    await host.greet()
    for number, session in enumerate(sessions):
        live = wire.LiveSession(session_id=session.session_id, run=1)
        host.say(inventory=wire.Inventory(sessions=[live], complete=number == 2))
    await host.until(lambda: len(host.reconciles) == 2)
    assert not host.reconciles[-1].kill
    await host.synced()
    for session in sessions:
        assert phase(await stack.session(session.session_id)) == "IDLE"


# ---------------------------------------------------------------- epochs and twins


async def test_the_same_incarnation_takes_its_own_place_again(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    again = stack.twin(host, incarnation=host.incarnation, journal=host.journal)
    again.inventory = host.inventory
    await again.connect()
    assert again.welcome.epoch == 2
    assert reason(await host.ended()) == "EPOCH_FENCED"
    again.event(session.session_id, 1, **output("new"))
    await again.synced()
    assert (await stack.kinds(session.session_id))[-1] == "tool_call_output"


async def test_another_process_with_the_identity_of_a_live_host_is_refused(stack: Stack) -> None:
    host = await stack.host()
    twin = stack.twin(host)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await twin.connect()
    told = failure(refused.value)
    assert (told.reason, told.code) == ("HOST_TWIN", grpc.StatusCode.ALREADY_EXISTS)
    assert host.heartbeats, "the old one was asked whether it lives"
    session = await stack.start(host)
    assert phase(session) == "IDLE"


async def test_a_host_that_does_not_answer_gives_way_and_is_fenced(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    host.answers_heartbeats = False
    reborn = stack.reborn(host)
    reborn.inventory = host.inventory
    call = asyncio.ensure_future(reborn.connect())
    await host.until(lambda: host.heartbeats)
    stack.clock.advance(2.0)
    await call
    assert reborn.welcome.epoch == 2
    # What the frozen one still says is stored nowhere.
    host.journal = FakeJournal(host.journal.journal_id, trimmed=host.journal.last)
    host.event(session.session_id, 1, **output("ghost"))
    assert reason(await host.ended()) == "EPOCH_FENCED"
    assert "tool_call_output" not in await stack.kinds(session.session_id)


# ---------------------------------------------------------------- records


async def test_entries_that_come_again_after_a_lost_acknowledgement_are_stored_once(
    stack: Stack,
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    for number in range(50):
        host.event(session.session_id, 1, **output(str(number)))
    # Twice on the same stream, and from the start on the next two.
    host.resend(host.journal.records)
    await host.synced()
    marks = host.acknowledged[host.journal.journal_id]
    for _ in range(2):
        await host.drop()
        await host.connect()
        before = len(marks)
        host.resend(host.journal.records)
        # (The mark is where it was: that it is told once more says that they were looked at.)
        await host.until(lambda before=before: len(marks) > before)
    events = await stack.events(session.session_id)
    said = [each.tool_call_output.text for each in events if each.HasField("tool_call_output")]
    assert said == [str(number) for number in range(50)]
    assert [each.sequence for each in events] == list(range(1, len(events) + 1))


async def test_a_gap_in_the_journal_ends_the_stream_and_stores_nothing_behind_it(
    stack: Stack,
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    host.sends = False
    host.event(session.session_id, 1, **output("one"))
    host.event(session.session_id, 1, **output("two"))
    host.resend(host.journal.records[-1:])
    assert (await host.ended()).code is grpc.StatusCode.FAILED_PRECONDITION
    assert "tool_call_output" not in await stack.kinds(session.session_id)


async def test_an_acknowledgement_means_that_it_is_in_the_store_after_a_restart(
    stack: Stack,
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    host.event(session.session_id, 1, **output("kept"))
    await host.synced()
    await host.drop()
    await stack.restart()
    assert (await stack.kinds(session.session_id)).count("tool_call_output") == 1
    await host.connect()
    assert host.welcome.journal_sequence == host.journal.last


async def test_records_about_sessions_that_are_not_the_hosts_are_dropped(stack: Stack) -> None:
    mine = await stack.host("mine")
    other = await stack.host("other")
    session = await stack.start(mine, host="mine")
    before = await stack.session(session.session_id)
    other.event(session.session_id, 1, **output("forged"))
    other.event(session.session_id, 2, **output("wrong run"))
    other.event("nowhere", 1, **output("no session"))
    other.over(session.session_id, 1, "KILLED")
    await other.synced()
    mine.event(session.session_id, 2, **output("wrong run"))
    await mine.synced()
    assert await stack.session(session.session_id) == before


ENDED_NOWHERE = event_pb2.Event(run=1, session_ended=event_pb2.SessionEnded())
OVER = event_pb2.Event(run=1, session_ended=event_pb2.SessionEnded(phase=session_pb2.PHASE_STOPPED))
OUTPUT = event_pb2.Event(run=1, tool_call_output=event_pb2.ToolCallOutput(text="x"))


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (event_pb2.EVENT_KIND_AGENT_MESSAGE, b"\xff\xff"),
        (event_pb2.EVENT_KIND_AGENT_MESSAGE, b""),
        (event_pb2.EVENT_KIND_AGENT_MESSAGE, OUTPUT.SerializeToString()),
        (event_pb2.EVENT_KIND_AGENT_MESSAGE, OVER.SerializeToString()),
        (99, OVER.SerializeToString()),
        (event_pb2.EVENT_KIND_SESSION_ENDED, ENDED_NOWHERE.SerializeToString()),
        (
            event_pb2.EVENT_KIND_TOOL_CALL_OUTPUT,
            OUTPUT.SerializeToString() + b"\x32\x80\x80\xff\x01" + b"a" * (255 * 16384),
        ),
    ],
    ids=[
        "no message",
        "no kind",
        "another kind",
        "a hidden end",
        "an unknown kind that is known",
        "an end without a phase",
        "too large to be told",
    ],
)
async def test_an_event_that_its_readers_would_stumble_over_comes_into_no_log(
    stack: Stack, kind: Any, data: bytes
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    # A message that is being written: its text is let go of when the message itself comes.
    host.live_text(session.session_id, 1, 1, "m", "so far")
    before = await stack.kinds(session.session_id)
    host.journaled(
        wire.Record(
            session_id=session.session_id,
            run=1,
            event=wire.EventEntry(kind=kind, event=data),
        )
    )
    host.event(session.session_id, 1, **output("goes on"))
    await host.synced()
    assert await stack.kinds(session.session_id) == [*before, "tool_call_output"]
    assert phase(await stack.session(session.session_id)) == "IDLE"


async def test_an_event_of_a_kind_that_is_not_known_here_is_kept(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    before = len(await stack.events(session.session_id))
    host.journaled(
        wire.Record(
            session_id=session.session_id,
            run=1,
            # Field 99 of Event, of a newer host.
            event=wire.EventEntry(kind=99, event=b"\x20\x01\x9a\x06\x02hi"),  # type: ignore[arg-type]
        )
    )
    await host.synced()
    after = await stack.events(session.session_id)
    assert len(after) == before + 1
    assert b"hi" in after[-1].SerializeToString()


async def test_an_event_that_can_not_be_read_is_dropped_and_the_rest_goes_on(
    stack: Stack,
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    kind = event_pb2.EVENT_KIND_TURN_STARTED
    for data in (b"\xff\xff", b""):
        entry = wire.EventEntry(kind=kind, event=data)
        host.journaled(wire.Record(session_id=session.session_id, run=1, event=entry))
    host.event(session.session_id, 1, **output("good"))
    await host.synced()
    assert (await stack.kinds(session.session_id))[-1] == "tool_call_output"


async def test_live_text_keeps_its_place_and_is_of_the_current_run_alone(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await stack.begin_turn(host, session, 1)
    request = watch_pb2.WatchRequest(
        targets=[watch_pb2.WatchTarget(session=ref(session), tail=1)], live_text=True
    )
    watch = stack.sessions.Watch(request, metadata=stack.admin)
    host.live_text(session.session_id, 2, 1, "ghost", "from another run")
    host.live_text(session.session_id, 1, 1, "m1", "hello")
    seen: list[Any] = []
    while not seen or seen[-1].WhichOneof("response") != "live_text":
        seen.append(await watch.read())
    live = seen[-1].live_text
    assert (live.message_id, live.turn, live.text) == ("m1", 1, "hello")
    said = event_pb2.AgentMessage(message_id="m1", content=[text("hello")])
    host.event(session.session_id, 1, turn=1, agent_message=said)
    assert (await watch.read()).events.events[0].agent_message.message_id == "m1"
    watch.cancel()


# ---------------------------------------------------------------- reconcile


async def test_runs_that_are_not_current_are_to_be_killed(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    over = await stack.start(host, "over")
    host.over(over.session_id, 1)
    await host.synced()
    await host.drop()
    for name, run in (("unknown", 1), (over.session_id, 1), (session.session_id, 1)):
        host.inventory[name] = wire.LiveSession(session_id=name, run=run)
    await host.connect()
    assert {(each.session_id, each.run) for each in host.reconciles[-1].kill} == {
        ("unknown", 1),
        (over.session_id, 1),
    }


async def test_a_run_that_the_host_has_forgotten_ends_once_all_its_records_are_here(
    stack: Stack,
) -> None:
    host = await stack.host()
    kept = await stack.start(host, "kept")
    lost = await stack.start(host, "lost")
    told = await stack.start(host, "told")
    await stack.begin_turn(host, lost, 1)
    await host.drop()
    # While the link was down one ended, and of another nothing is known any more.
    host.over(told.session_id, 1)
    del host.inventory[lost.session_id]
    host.sends = False
    await host.connect()
    await stack.until(lambda: stack.links.is_live(host.host_id))
    assert phase(await stack.session(lost.session_id)) == "RUNNING", "records are on their way"
    host.sends = True
    host.flush()
    await host.synced()
    await stack.eventually(lambda: phase_of(stack, lost.session_id), "FAILED")
    now = await stack.session(lost.session_id)
    assert now.end_reason == 10  # HOST_STATE_LOST
    assert (await stack.kinds(lost.session_id))[-2:] == ["turn_ended", "session_ended"]
    events = await stack.events(lost.session_id)
    assert events[-2].turn_ended.stop_reason == event_pb2.STOP_REASON_HOST_STATE_LOST
    assert not events[-1].session_ended.verified
    assert phase(await stack.session(kept.session_id)) == "IDLE"
    assert phase(await stack.session(told.session_id)) == "STOPPED"


async def phase_of(stack: Stack, session_id: str) -> str:
    return phase(await stack.session(session_id))


async def test_a_start_that_the_host_never_got_is_handed_over_after_a_reconnect(
    stack: Stack,
) -> None:
    host = await stack.host()
    call = asyncio.ensure_future(
        stack.sessions.StartSession(stack.start_request(), metadata=stack.admin)
    )
    first = await host.command("start")
    await host.drop()
    await host.connect()
    second = await host.command("start")
    assert second.command_id == first.command_id
    assert second.start.token.token not in ("", first.start.token.token)
    host.started(second)
    assert outcome((await call).receipt) == ("RAN", "DONE")


async def test_open_commands_come_again_in_order_and_answered_ones_do_not(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await stack.send(host, session)
    calls = []
    for verb in ("Send", "Stop", "Kill"):
        fields: dict[str, Any] = {"session": ref(session)}
        if verb == "Send":
            fields["content"] = [text("late")]
        request = getattr(pb, f"{verb}Request")(**fields)
        calls.append(
            asyncio.ensure_future(getattr(stack.sessions, verb)(request, metadata=stack.admin))
        )
        await host.command()
    before = [command.command_id for command in host.commands[-3:]]
    count = len(host.commands)
    await host.drop()
    await host.connect()
    await host.until(lambda: len(host.commands) == count + 3)
    assert [command.command_id for command in host.commands[count:]] == before
    for command in host.commands[count:]:
        host.answer(command, PENDING)
    await asyncio.gather(*calls)


# ---------------------------------------------------------------- a lost journal


async def test_a_journal_that_is_another_one_than_before_is_lost(stack: Stack) -> None:
    host = await stack.host()
    gone = await stack.start(host, "gone")
    live = await stack.start(host, "live")
    receipt, deliver = await stack.send(host, live)
    held, held_deliver = await stack.send(host, live)
    await stack.begin_turn(host, gone, 1)
    await host.drop()
    host.journal = FakeJournal()
    host.inventory = {
        live.session_id: wire.LiveSession(
            session_id=live.session_id,
            run=1,
            phase=session_pb2.PHASE_IDLE,
            input_ids=[held.input_id],
        )
    }
    await host.connect()
    assert host.welcome.journal_lost
    assert host.welcome.journal_sequence == 0
    await stack.eventually(lambda: phase_of(stack, gone.session_id), "FAILED")
    assert (await stack.kinds(gone.session_id))[-2:] == ["turn_ended", "session_ended"]
    # The adopted one goes on under the new journal; what is not known of it is UNKNOWN.
    assert outcome(await stack.command(receipt.command_id)) == ("UNKNOWN", "HOST_STATE_LOST")
    assert outcome(await stack.command(held.command_id)) == ("PENDING", "QUEUED")
    kinds = await stack.kinds(live.session_id)
    assert kinds[-2:] == ["input_cancelled", "diagnostic"]
    del deliver
    host.turn(held_deliver, 1)
    await host.synced()
    assert outcome(await stack.command(held.command_id)) == ("RAN", "TURN_STARTED")


async def test_a_turn_that_was_open_when_the_journal_was_lost_ends_as_lost(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await stack.begin_turn(host, session, 1)
    await host.drop()
    host.journal = FakeJournal()
    host.inventory[session.session_id].open_turn = 0
    host.inventory[session.session_id].phase = session_pb2.PHASE_IDLE
    await host.connect()
    await host.synced()
    now = await stack.session(session.session_id)
    assert (phase(now), now.turn_open) == ("IDLE", False)
    assert (await stack.kinds(session.session_id))[-3:] == [
        "turn_ended",
        "phase_changed",
        "diagnostic",
    ]


async def test_a_journal_that_is_older_than_ours_must_begin_anew(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await host.drop()
    del host.journal.records[2:]
    await host.connect()
    assert host.welcome.journal_lost
    host.event(session.session_id, 1, **output("a number that is taken"))
    assert (await host.ended()).code is grpc.StatusCode.FAILED_PRECONDITION
    host.journal = FakeJournal()
    await host.connect()
    host.event(session.session_id, 1, **output("good"))
    await host.synced()
    assert (await stack.kinds(session.session_id))[-1] == "tool_call_output"


async def test_a_journal_that_was_trimmed_beyond_what_we_have_is_lost_too(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await host.drop()
    # As after a restore of the store: the host trimmed what an acknowledgement allowed.
    host.sends = False
    for line in ("a", "b", "c"):
        host.event(session.session_id, 1, **output(line))
    host.journal.trimmed = host.journal.last - 1
    del host.journal.records[:-1]
    host.sends = True
    await host.connect()
    assert host.welcome.journal_lost
    await host.synced()
    events = await stack.events(session.session_id)
    assert events[-1].tool_call_output.text == "c"


async def test_a_journal_that_was_trimmed_to_nothing_beyond_what_we_have_is_lost_too(
    stack: Stack,
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await host.drop()
    # As after a restore of the store: all that the host had said was acknowledged, and is gone.
    host.journal.trimmed = host.journal.last + 3
    host.journal.records.clear()
    await host.connect()
    assert host.welcome.journal_lost
    assert host.welcome.journal_sequence == host.journal.last
    host.event(session.session_id, 1, **output("goes on"))
    await host.synced()
    assert (await stack.kinds(session.session_id))[-1] == "tool_call_output"


async def test_a_start_whose_answer_was_lost_with_the_journal_is_confirmed_by_the_inventory(
    stack: Stack,
) -> None:
    host = await stack.host()
    call = asyncio.ensure_future(
        stack.sessions.StartSession(stack.start_request(), metadata=stack.admin)
    )
    start = await host.command("start")
    await host.drop()
    host.journal = FakeJournal()
    host.inventory[start.session_id] = wire.LiveSession(
        session_id=start.session_id, run=1, phase=session_pb2.PHASE_RUNNING, open_turn=2
    )
    # (Its own turn is later than what we know: the ones between are lost with the journal.)
    host.event("other", 1, **output("so that the journal is another one than the first"))
    await stack.store.write(lambda tx: tx.set_journal(host.host_id, "an older one", 7))
    await host.connect()
    assert host.welcome.journal_lost
    answer = await call
    assert outcome(answer.receipt) == ("RAN", "DONE")
    now = await stack.session(start.session_id)
    assert (phase(now), now.turn, now.turn_open) == ("RUNNING", 2, True)


# ---------------------------------------------------------------- lost hosts


async def test_a_host_counts_as_lost_ten_seconds_after_its_link_ended(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    other = await stack.host("other")
    untouched = await stack.start(other, "untouched", host="other")
    await host.drop()
    await stack.until(lambda: not stack.links.is_live(host.host_id))
    assert (await stack.session(session.session_id)).reachability == 2
    assert "host_lost" not in await after(stack, session.session_id, 9.8)
    await stack.eventually(lambda: soon(stack, session.session_id), "host_lost")
    assert (await after(stack, session.session_id, 60.0)).count("host_lost") == 1
    await host.connect()
    await stack.eventually(lambda: last_kind(stack, session.session_id), "host_returned")
    now = await stack.session(session.session_id)
    assert (now.reachability, phase(now)) == (1, "IDLE")
    assert "host_lost" not in await stack.kinds(untouched.session_id)


async def after(stack: Stack, session_id: str, seconds: float) -> list[str]:
    """The session's log some time later. Hosts that are linked are not heard meanwhile."""
    stack.clock.advance(seconds)
    for _ in range(3):  # (what is to happen has its chance)
        kinds = await stack.kinds(session_id)
    return kinds


async def soon(stack: Stack, session_id: str) -> str:
    """The kind of the newest event, a tenth of a second later."""
    stack.clock.advance(0.1)
    return (await stack.kinds(session_id))[-1]


async def last_kind(stack: Stack, session_id: str) -> str:
    return (await stack.kinds(session_id))[-1]


async def test_the_time_of_a_hosts_last_word_is_kept(stack: Stack) -> None:
    host = await stack.host()
    stack.clock.advance(4.0)
    await host.drop()

    async def last_seen() -> int:
        row = await stack.store.read(lambda tx: tx.host(host.host_id))
        assert row is not None
        return row.last_seen_time

    await stack.eventually(last_seen, stack.wall())


async def test_a_host_that_is_back_within_ten_seconds_was_never_lost(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await host.drop()
    await stack.until(lambda: not stack.links.is_live(host.host_id))
    await after(stack, session.session_id, 9.0)
    await host.connect()
    kinds = await after(stack, session.session_id, 9.0)
    assert "host_lost" not in kinds
    assert "host_returned" not in kinds


async def test_a_host_that_comes_and_goes_without_a_handshake_is_lost_all_the_same(
    stack: Stack,
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await host.drop()
    for _ in range(3):
        await stack.until(lambda: stack.links.silence(host.host_id) is None)
        stack.clock.advance(4.0)
        await host.greet()
        await host.drop()
    await stack.eventually(lambda: last_kind(stack, session.session_id), "host_lost")


async def test_a_host_that_is_in_its_handshake_when_the_time_is_over_is_not_lost_behind_it(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await host.drop()
    await stack.until(lambda: stack.links.silence(host.host_id) is None)
    compares, go_on = threading.Event(), threading.Event()

    def reconcile_late(*what: Any) -> Any:
        compares.set()
        go_on.wait(30)
        return reconcile(*what)

    monkeypatch.setattr("bridle_control.links.stream.reconcile", reconcile_late)
    call = asyncio.ensure_future(host.connect())
    await stack.until(compares.is_set)
    stack.clock.advance(10.0)
    await stack.until(lambda: not stack.links._lost_at)
    go_on.set()
    await call
    await stack.store.write(lambda tx: tx.now)  # (behind all that was to be written by then)
    assert "host_lost" not in await stack.kinds(session.session_id)
    assert (await stack.session(session.session_id)).reachability == 1


async def test_a_restarted_control_waits_ten_seconds_for_its_hosts(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await host.drop()
    await stack.restart()
    assert "host_lost" not in await after(stack, session.session_id, 9.8)
    await stack.eventually(lambda: soon(stack, session.session_id), "host_lost")


async def test_a_silent_host_is_lost_after_fifteen_seconds(stack: Stack) -> None:
    host = await stack.host()
    host.answers_heartbeats = False
    for number in range(3):
        stack.clock.advance(5.0)
        if number < 2:
            await host.until(lambda n=number: len(host.heartbeats) > n)
    status = await host.ended()
    assert reason(status) == "HOST_UNREACHABLE"
    assert len(host.heartbeats) >= 2
    assert not stack.links.is_live(host.host_id)


async def test_a_host_that_answers_heartbeats_stays(stack: Stack) -> None:
    host = await stack.host()
    await stack.pass_time(host, 60.0)
    assert stack.links.is_live(host.host_id)
    assert len(host.heartbeats) >= 11


async def test_control_says_goodbye_when_it_ends(stack: Stack) -> None:
    host = await stack.host()
    await stack.links.close()
    assert reason(await host.ended()) == "SHUTTING_DOWN"
    assert host.goodbyes == ["control is shutting down"]
    late = stack.twin(host)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await late.connect()
    assert failure(refused.value).reason == "SHUTTING_DOWN"


async def test_a_host_that_says_goodbye_leaves_all_that_it_said(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    for number in range(20):
        host.event(session.session_id, 1, **output(str(number)))
    host.over(session.session_id, 1)
    await host.leave()
    await stack.until(lambda: not stack.links.is_live(host.host_id))
    assert phase(await stack.session(session.session_id)) == "STOPPED"
    assert (await stack.kinds(session.session_id)).count("tool_call_output") == 20


# ---------------------------------------------------------------- tokens of sessions


async def test_a_sessions_token_is_refreshed_before_it_ends_and_dies_with_its_run(
    stack: Stack,
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    first = host.tokens[session.session_id].token
    me = pb.GetSessionRequest(session=ref(session))
    assert (await stack.sessions.GetSession(me, metadata=bearer(first))).session.slug == "x"

    await stack.pass_time(host, 1900.0)
    await host.until(lambda: host.tokens[session.session_id].token != first)
    fresh = host.tokens[session.session_id]
    assert fresh.expire_time.ToNanoseconds() > stack.wall() + 3000 * 10**9
    assert (await stack.sessions.GetSession(me, metadata=bearer(fresh.token))).session.slug == "x"
    host.over(session.session_id, 1)
    await host.synced()
    dead = await fails(stack.sessions.GetSession(me, metadata=bearer(fresh.token)))
    assert dead.reason == "TOKEN_REVOKED"


# ---------------------------------------------------------------- load


async def test_thousands_of_entries_are_committed_in_order(stack: Stack) -> None:
    host = await stack.host()
    sessions = [await stack.start(host, f"s{n}") for n in range(4)]
    host.sends = False
    for number in range(4000):
        host.event(sessions[number % 4].session_id, 1, **output(str(number)))
    host.sends = True
    host.flush()
    await host.synced()
    for place, session in enumerate(sessions):
        row = await stack.session(session.session_id)
        assert row.last_sequence == 3 + 1000
        events = await stack.events(session.session_id)
        said = [each.tool_call_output.text for each in events[3:]]
        assert said == [str(number) for number in range(place, 4000, 4)][: len(said)]


async def test_more_commands_than_a_host_may_hold_wait_for_its_answers(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    count, before = 1100, len(host.commands)
    action = wire.Command(release=wire.ReleaseQueue()).SerializeToString()

    def order(tx: Tx) -> None:
        for number in range(count):
            tx.insert_command(
                CommandRow(
                    f"c{number}",
                    receipt_pb2.VERB_RELEASE_QUEUE,
                    tx.now,
                    session_id=session.session_id,
                    run=1,
                    host_id=host.host_id,
                    action=action,
                )
            )

    await stack.store.write(order)
    await host.until(lambda: len(host.commands) == before + 1024)
    for command in host.commands[before : before + 100]:
        host.answer(command, RAN)
    await host.until(lambda: len(host.commands) == before + count)
    assert [command.command_id for command in host.commands[before:]] == [
        f"c{number}" for number in range(count)
    ]
