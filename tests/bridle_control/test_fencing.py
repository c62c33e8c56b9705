"""Who may write for a session and a host: places, twins, runs that were given up, principals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle.v1 import event_pb2, principal_pb2, receipt_pb2, session_pb2
from bridle_control.links.handing import due_tokens
from bridle_control.links.records import Batch, commit
from bridle_control.links.registry import PROBE
from bridle_control.links.welcome import end_missing, reconcile
from bridle_control.store.api import Tx
from bridle_core.errors import BridleError
from bridle_core.link_place import TAKEOVER_EVERY
from tests.bridle_control.serving import bearer, fails, failure, mint
from tests.bridle_control.stack import Stack, outcome, pb, phase, ref, text
from tests.fakes.host import NOT_RUN, FakeHost, FakeJournal, Status


def reason(status: Status) -> str:
    assert status.error is not None
    return failure(status.error).reason


async def take_over(stack: Stack, frozen: FakeHost, host: FakeHost) -> None:
    """Another process takes the place of one that does not answer."""
    frozen.answers_heartbeats = False
    call = asyncio.ensure_future(host.connect())
    began, beats = stack.clock.now(), len(frozen.heartbeats)

    def passes() -> bool:
        nonlocal beats
        if len(frozen.heartbeats) > beats:
            # It is asked by one: its answer is being waited for now. (Or it is one that was due:
            # then another comes. No more time may pass: it would end by its silence.)
            beats = len(frozen.heartbeats)
            stack.clock.advance(PROBE)
        return call.done()

    await stack.until(passes)
    await call
    assert stack.clock.now() - began >= PROBE


# ---------------------------------------------------------------- the place of a host


async def test_a_connect_that_was_long_on_its_way_does_not_fence_the_newer_of_the_same_process(
    stack: Stack,
) -> None:
    host = await stack.host(connect=False)
    host.attempt = 2
    await host.connect()
    late = stack.twin(host, incarnation=host.incarnation, journal=host.journal)
    late.attempt = 1
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await late.connect()
    told = failure(refused.value)
    assert (told.reason, told.metadata["incarnation"]) == ("EPOCH_FENCED", host.incarnation)
    session = await stack.start(host)
    assert (phase(session), host.welcome.epoch) == ("IDLE", 1)


async def test_one_that_is_fenced_is_told_by_which_process(stack: Stack) -> None:
    host = await stack.host()
    heir = stack.reborn(host)
    await take_over(stack, host, heir)
    status = await host.ended()
    assert status.error is not None
    told = failure(status.error)
    assert (told.reason, told.metadata["incarnation"]) == ("EPOCH_FENCED", heir.incarnation)


async def test_the_place_changes_once_in_ten_seconds_then_the_newcomer_is_turned_away_and_told_of(
    stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    first = await stack.host()
    second, third = stack.twin(first), stack.twin(first)
    await take_over(stack, first, second)
    second.answers_heartbeats = False  # it stands still in its turn
    assert stack.links.twin_time(first.host_id) == 0
    for _ in range(5):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await third.connect()
        assert failure(refused.value).reason == "HOST_TWIN"
    assert stack.links.twin_time(first.host_id) == stack.wall()
    assert caplog.text.count("a second process has a host's identity") == 1
    stack.clock.advance(TAKEOVER_EVERY)
    second.say(heartbeat=wire.Heartbeat())  # (not so still that it would be silent)
    await stack.until(lambda: stack.links.silence(first.host_id) == 0.0)
    await take_over(stack, second, third)
    assert (second.welcome.epoch, third.welcome.epoch) == (2, 3)
    third.answers_heartbeats = True
    stack.clock.advance(5.0)
    await stack.pass_time(third, 300.0)
    assert stack.links.twin_time(first.host_id) == 0


async def test_nothing_of_an_epoch_that_is_over_is_stored_or_handed_over(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    name = session.session_id
    before = await stack.events(name)
    # Another control has let the host in meanwhile; the stream here knows nothing of it yet.
    await stack.store.write(lambda tx: tx.bump_epoch(host.host_id, "elsewhere"))
    accepted = stack.links._streams[host.host_id]._accepted
    assert accepted is not None
    fenced: list[Callable[[Tx], object]] = [
        lambda tx: commit(tx, host.host_id, 1, Batch(host.journal.journal_id, 5, 5)),
        lambda tx: reconcile(tx, accepted, {}),
        lambda tx: end_missing(tx, accepted, {name: 1}),
    ]
    for write in fenced:
        with pytest.raises(BridleError) as refused:
            await stack.store.write(write)
        assert refused.value.reason == "EPOCH_FENCED"
        assert refused.value.metadata["incarnation"] == "elsewhere"
    host.event(name, 1, tool_call_output=event_pb2.ToolCallOutput(text="ghost"))
    assert reason(await host.ended()) == "EPOCH_FENCED"
    assert await stack.events(name) == before
    stack.clock.advance(3600.0 * 0.6)
    with pytest.raises(BridleError):  # (its token is due)
        await due_tokens(stack.store, host.host_id, 1)


# ---------------------------------------------------------------- runs that were given up


async def test_a_host_that_came_back_while_its_run_was_given_up_is_made_to_come_again_and_kill_it(
    stack: Stack,
) -> None:
    old = await stack.host("old")
    session = await stack.start(old)
    await old.drop()
    await stack.until(lambda: not stack.links.is_live(old.host_id))
    new = await stack.host("new")
    forced = pb.ResumeRequest(session=ref(session), host="new", force=True)
    write = stack.store.write

    async def write_late(fn: Any, **how: Any) -> Any:
        # Between the look at who is here and the commit: it is reconciled, and all is well.
        stack.store.write = write  # type: ignore[method-assign]
        await old.connect()
        await stack.until(lambda: stack.links.is_live(old.host_id))
        return await write(fn, **how)

    stack.store.write = write_late  # type: ignore[method-assign]
    call = asyncio.ensure_future(stack.sessions.Resume(forced, metadata=stack.admin))
    start = await new.command("start")
    assert [len(each.kill) for each in old.reconciles] == [0, 0]
    assert reason(await old.ended()) == "HOST_UNREACHABLE"
    new.started(start)
    await call
    await old.connect()
    assert [(each.session_id, each.run) for each in old.reconciles[-1].kill] == [
        (session.session_id, 1)
    ]


async def test_what_was_given_up_stays_unknown_although_its_host_has_the_session_again(
    stack: Stack,
) -> None:
    old = await stack.host("old")
    session = await stack.start(old)
    receipt, deliver = await stack.send(old, session)
    await old.synced()
    await old.drop()
    await stack.until(lambda: not stack.links.is_live(old.host_id))
    new = await stack.host("new")
    forced = pb.ResumeRequest(session=ref(session), host="new", force=True)
    call = asyncio.ensure_future(fails(stack.sessions.Resume(forced, metadata=stack.admin)))
    new.refuse(await new.command("start"), "START_FAILED")
    await call
    given_up = await stack.events(session.session_id)
    assert outcome(await stack.command(receipt.command_id)) == ("UNKNOWN", "HOST_STATE_LOST")
    # The refusal put the session back where it was; now the old host tells what it did meanwhile.
    old.sends = False
    old.turn(deliver, 1)
    old.over(session.session_id, 1)
    await old.connect()
    old.flush()
    await old.synced()
    assert outcome(await stack.command(receipt.command_id)) == ("UNKNOWN", "HOST_STATE_LOST")
    assert await stack.events(session.session_id) == given_up


async def test_nothing_of_a_run_that_was_given_up_is_stored_when_its_host_comes_back(
    stack: Stack,
) -> None:
    old = await stack.host("old")
    session = await stack.start(old)
    await stack.begin_turn(old, session)
    await old.drop()
    await stack.until(lambda: not stack.links.is_live(old.host_id))
    new = await stack.host("new")
    plain = pb.ResumeRequest(session=ref(session), host="new")
    refused = await fails(stack.sessions.Resume(plain, metadata=stack.admin))
    assert refused.reason == "SESSION_LIVE"
    assert "force" in refused.text
    forced = pb.ResumeRequest(session=ref(session), host="new", force=True)
    call = asyncio.ensure_future(stack.sessions.Resume(forced, metadata=stack.admin))
    new.started(await new.command("start"))
    await call
    await new.synced()
    before = await stack.events(session.session_id)
    ended = [each for each in before if each.WhichOneof("kind") == "session_ended"]
    assert len(ended) == 1
    assert ended[0].session_ended.reason == session_pb2.END_REASON_HOST_ABANDONED
    assert not ended[0].session_ended.verified
    # It wrote on while it was away, and knows nothing of all that.
    said = event_pb2.ToolCallOutput(text="ghost")
    old.event(session.session_id, 1, turn=1, tool_call_output=said)
    old.turn_over(session.session_id, 1, 1)
    old.journaled_state(session.session_id, 1, b"old")
    await old.connect()
    await old.synced()
    assert [(each.session_id, each.run) for each in old.reconciles[-1].kill] == [
        (session.session_id, 1)
    ]
    assert await stack.events(session.session_id) == before
    now = await stack.session(session.session_id)
    assert (now.run, now.host_id, phase(now)) == (2, new.host_id, "IDLE")


async def test_what_a_host_still_says_of_a_run_that_a_refusal_gave_back_is_not_stored(
    stack: Stack,
) -> None:
    old = await stack.host("old")
    session = await stack.start(old)
    await old.drop()
    await stack.until(lambda: not stack.links.is_live(old.host_id))
    new = await stack.host("new")
    forced = pb.ResumeRequest(session=ref(session), host="new", force=True)
    call = asyncio.ensure_future(fails(stack.sessions.Resume(forced, metadata=stack.admin)))
    new.refuse(await new.command("start"), "START_FAILED")
    assert (await call).reason == "START_FAILED"
    now = await stack.session(session.session_id)
    assert (now.run, phase(now), now.host_id) == (1, "FAILED", old.host_id)
    before = await stack.events(session.session_id)
    old.journaled_state(session.session_id, 1, b"old")
    old.event(session.session_id, 1, tool_call_output=event_pb2.ToolCallOutput(text="ghost"))
    await old.connect()
    await old.synced()
    assert len(old.reconciles[-1].kill) == 1
    assert await stack.events(session.session_id) == before


# ---------------------------------------------------------------- journals


async def test_an_old_copy_of_a_journal_that_was_written_on_is_lost(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await host.synced()
    mark = host.journal.last
    copied = FakeJournal(host.journal.journal_id, list(host.journal.records[: mark - 1]))
    await host.drop()
    await stack.until(lambda: not stack.links.is_live(host.host_id))
    reborn = stack.reborn(host, journal=copied)
    reborn.inventory = host.inventory
    reborn.sends = False
    for line in "abc":
        reborn.event(session.session_id, 1, tool_call_output=event_pb2.ToolCallOutput(text=line))
    reborn.journal_known = mark - 1
    assert copied.last > mark
    await reborn.connect()
    assert (reborn.welcome.journal_lost, reborn.welcome.journal_sequence) == (True, mark)
    reborn.sends = True
    reborn.flush()
    await reborn.ended()
    assert "tool_call_output" not in await stack.kinds(session.session_id)


async def test_a_host_that_sent_on_what_it_had_not_found_has_lost_nothing(stack: Stack) -> None:
    host = await stack.host()
    await stack.start(host)
    await host.synced()
    await host.drop()
    host.journal_known = host.journal.last
    await host.connect()
    assert not host.welcome.journal_lost


# ---------------------------------------------------------------- a journal that is lost


async def test_a_turn_that_is_interrupted_unseen_after_the_journal_was_lost_is_over_for_the_log(
    stack: Stack,
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await stack.begin_turn(host, session)
    name = session.session_id
    started = event_pb2.ToolCallStarted(tool_call_id="t1")
    host.event(name, 1, turn=1, tool_call_started=started)
    asked = event_pb2.ApprovalRequested(approval_id="a1")
    host.event(name, 1, turn=1, approval_requested=asked)
    host.phase(name, 1, "RUNNING", "WAITING")
    await host.synced()
    await host.drop()
    before = len(await stack.events(name))
    # It lives on; its turn has no number any more, though the agent is still at it.
    host.journal = FakeJournal()
    host.inventory[name].open_turn = 0
    await host.connect()
    await host.synced()
    events = (await stack.events(name))[before:]
    assert [each.WhichOneof("kind") for each in events] == [
        "tool_call_ended",
        "approval_resolved",
        "turn_ended",
        "phase_changed",
        "diagnostic",
    ]
    assert events[2].turn_ended.stop_reason == event_pb2.STOP_REASON_HOST_STATE_LOST
    now = await stack.session(name)
    assert (phase(now), now.turn_open, list(now.open_approvals)) == ("IDLE", False, [])
    await stack.begin_turn(host, session, 2)
    assert phase(await stack.session(name)) == "RUNNING"


async def test_a_run_of_which_the_host_remembers_an_older_state_is_ended(stack: Stack) -> None:
    host = await stack.host()
    older, current = await stack.start(host, "older"), await stack.start(host, "current")
    for session in (older, current):
        await stack.begin_turn(host, session)
        host.turn_over(session.session_id, 1, 1)
    await host.synced()
    await host.drop()
    host.journal = FakeJournal()
    host.inventory[older.session_id].last_turn = 0
    host.inventory[current.session_id].last_turn = 1
    await host.connect()
    assert [(each.session_id, each.run) for each in host.reconciles[-1].kill] == [
        (older.session_id, 1)
    ]
    # What it makes of that state is not stored: the numbers are taken.
    before = await stack.events(older.session_id)
    host.event(older.session_id, 1, turn=1, turn_started=event_pb2.TurnStarted())
    await host.synced()
    assert await stack.events(older.session_id) == before
    ended = before[-1].session_ended
    assert (ended.reason, ended.verified) == (session_pb2.END_REASON_HOST_STATE_LOST, False)
    assert phase(await stack.session(current.session_id)) == "IDLE"


async def test_a_turn_of_which_only_the_host_knows_the_begin_has_one_in_the_log_too(
    stack: Stack,
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await host.drop()
    # A store that was set back: the host had begun turn 4 meanwhile, and goes on with it.
    host.journal = FakeJournal()
    host.inventory[session.session_id].open_turn = 4
    host.inventory[session.session_id].phase = session_pb2.PHASE_RUNNING
    await host.connect()
    host.turn_over(session.session_id, 1, 4)
    await host.synced()
    kinds = await stack.kinds(session.session_id)
    assert kinds[-5:] == [
        "turn_started",
        "phase_changed",
        "diagnostic",
        "turn_ended",
        "phase_changed",
    ]
    assert phase(await stack.session(session.session_id)) == "IDLE"


async def test_what_a_host_may_have_had_when_its_journal_was_lost_is_unknown_and_the_rest_is_not(
    stack: Stack,
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await stack.begin_turn(host, session)
    request = pb.InterruptRequest(session=ref(session), request_id=stack.new_id())
    call = asyncio.ensure_future(stack.sessions.Interrupt(request, metadata=stack.admin))
    await host.command("interrupt")
    await host.drop()
    await stack.until(lambda: not stack.links.is_live(host.host_id))
    away = pb.SendRequest(session=ref(session), content=[text("later")], request_id=stack.new_id())
    sending = asyncio.ensure_future(stack.sessions.Send(away, metadata=stack.admin))
    await stack.until(lambda: stack.commands.waiting == 2)
    host.journal = FakeJournal()
    host.inventory[session.session_id].open_turn = 0
    await host.connect()
    assert outcome((await call).receipt) == ("UNKNOWN", "HOST_STATE_LOST")
    deliver = await host.command("deliver")
    host.turn(deliver, 2)
    assert outcome((await sending).receipt) == ("RAN", "TURN_STARTED")


# ---------------------------------------------------------------- what is kept of runs


async def test_a_stream_remembers_no_more_runs_than_its_host_has(stack: Stack) -> None:
    host = await stack.host()
    for number in range(5):
        session = await stack.start(host, f"s{number}")
        if number:
            host.over(session.session_id, 1)
    await host.synced()
    remembered = stack.links._streams[host.host_id]._committer._runs
    assert len(remembered) == 1


# ---------------------------------------------------------------- principals


async def test_a_principal_whom_nobody_named_to_the_host_comes_into_no_log(
    stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await stack.begin_turn(host, session)
    (queued,) = [
        each for each in await stack.events(session.session_id) if each.HasField("input_queued")
    ]
    asked = queued.principal
    system = principal_pb2.Principal(kind=principal_pb2.PRINCIPAL_KIND_SYSTEM)
    forged = [
        principal_pb2.Principal(kind=asked.kind, id=asked.id, name="somebody else"),
        principal_pb2.Principal(kind=principal_pb2.PRINCIPAL_KIND_USER, id="root", name="root"),
        principal_pb2.Principal(kind=principal_pb2.PRINCIPAL_KIND_SYSTEM, name="the boss"),
    ]
    for number, named in enumerate((asked, system, *forged)):
        resolved = event_pb2.ApprovalResolved(approval_id=f"a{number}")
        host.event(session.session_id, 1, turn=1, principal=named, approval_resolved=resolved)
        said = event_pb2.Diagnostic(message=f"d{number}")
        host.event(session.session_id, 1, turn=1, principal=named, diagnostic=said)
    await host.synced()
    told = {
        each.approval_resolved.approval_id or each.diagnostic.message: each.principal
        for each in await stack.events(session.session_id)
        if each.WhichOneof("kind") in ("approval_resolved", "diagnostic")
    }
    nobody = principal_pb2.Principal()
    assert [told[f"a{number}"] for number in range(5)] == [asked, system, nobody, nobody, nobody]
    assert [told[f"d{number}"] for number in range(5)] == [asked, system, nobody, nobody, nobody]
    assert caplog.text.count("a host named a principal who asked for nothing") == 6


async def test_an_event_of_another_run_than_its_record_says_is_dropped(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    event = event_pb2.Event(run=7, diagnostic=event_pb2.Diagnostic(message="forged"))
    entry = wire.EventEntry(kind=event_pb2.EVENT_KIND_DIAGNOSTIC, event=event.SerializeToString())
    host.journaled(wire.Record(session_id=session.session_id, run=1, event=entry))
    await host.synced()
    assert "diagnostic" not in await stack.kinds(session.session_id)


# ---------------------------------------------------------------- times to live, withdrawals


async def test_a_start_that_comes_too_late_is_taken_back_and_its_caller_told(stack: Stack) -> None:
    host = await stack.host()
    request = stack.start_request("late", prompt=[text("go")])
    call = asyncio.ensure_future(stack.sessions.StartSession(request, metadata=stack.admin))
    start = await host.command("start")
    await host.command("deliver")
    assert 59.0 < start.time_to_live.ToNanoseconds() / 1e9 <= 60.0
    await host.drop()
    await stack.lose_patience()
    session = (await call).session
    assert phase(session) == "STARTING"
    stack.clock.advance(600.0)
    # It goes out all the same: the host may have had it, and then only repeats its answer.
    await host.connect()
    again = await host.command("start")
    assert (again.command_id, again.time_to_live.ToNanoseconds()) == (start.command_id, 1)
    host.answer(again, NOT_RUN, receipt_pb2.OUTCOME_REASON_EXPIRED)
    await host.synced()
    told = await fails(stack.sessions.StartSession(request, metadata=stack.admin))
    assert told.reason == "HOST_UNREACHABLE"
    gone = pb.GetSessionRequest(session=ref(session))
    assert (await fails(stack.sessions.GetSession(gone, metadata=stack.admin))).reason == (
        "SESSION_NOT_FOUND"
    )


async def test_an_input_that_a_failed_run_left_waiting_expires_without_a_resume(
    stack: Stack,
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    receipt, _ = await stack.send(host, session, time_to_live={"seconds": 30})
    kept, _ = await stack.send(host, session)
    host.over(session.session_id, 1, "FAILED", "AGENT_LOST")
    await host.synced()
    stack.clock.advance(31.0)

    async def state() -> tuple[str, str]:
        return outcome(await stack.command(receipt.command_id))

    await stack.eventually(state, ("NOT_RUN", "EXPIRED"))
    assert outcome(await stack.command(kept.command_id)) == ("PENDING", "QUEUED")
    (cancelled,) = [
        each.input_cancelled
        for each in await stack.events(session.session_id)
        if each.HasField("input_cancelled")
    ]
    assert cancelled.input_id == receipt.input_id
    assert (await stack.session(session.session_id)).inputs_waiting == 1


async def test_a_kill_that_no_host_ever_got_is_over_in_a_day_and_its_session_goes_on(
    stack: Stack,
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await host.drop()
    await stack.until(lambda: not stack.links.is_live(host.host_id))
    request = pb.KillRequest(session=ref(session), request_id=stack.new_id())
    call = asyncio.ensure_future(stack.sessions.Kill(request, metadata=stack.admin))
    await stack.lose_patience()
    receipt = (await call).receipt
    assert (await stack.session(session.session_id)).closing
    stack.clock.advance(24 * 3600.0 + 1.0)

    async def state() -> tuple[str, str]:
        return outcome(await stack.command(receipt.command_id))

    await stack.eventually(state, ("NOT_RUN", "EXPIRED"))
    now = await stack.session(session.session_id)
    assert (phase(now), now.closing) == ("IDLE", False)


async def test_what_is_delivered_again_is_still_its_senders(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    _, deliver = await stack.send(host, session)
    host.over(session.session_id, 1, "FAILED", "AGENT_LOST")
    await host.synced()
    somebody_else = bearer(await mint(stack.store, name="other"))
    request = pb.ResumeRequest(session=ref(session))
    call = asyncio.ensure_future(stack.sessions.Resume(request, metadata=somebody_else))
    resume = await host.command("start")
    host.started(resume)
    await call
    assert resume.principal.name == "other"
    again = await host.command("deliver")
    assert again.principal == deliver.principal


async def test_what_was_delivered_again_and_is_lost_with_the_journal_is_unknown_to_its_sender(
    stack: Stack,
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    receipt, _ = await stack.send(host, session)
    host.over(session.session_id, 1, "FAILED", "AGENT_LOST")
    await host.synced()
    request = pb.ResumeRequest(session=ref(session))
    call = asyncio.ensure_future(stack.sessions.Resume(request, metadata=stack.admin))
    host.started(await host.command("start"))
    await call
    again = await host.command("deliver")
    assert again.deliver.input_id == receipt.input_id
    await host.synced()
    await host.drop()
    # The agent may have run it; nobody knows, so nobody may say that it did not.
    host.journal = FakeJournal()
    host.inventory = {}
    await host.connect()

    async def ended() -> str:
        return phase(await stack.session(session.session_id))

    await stack.eventually(ended, "FAILED")
    assert outcome(await stack.command(receipt.command_id)) == ("UNKNOWN", "HOST_STATE_LOST")


async def test_an_interrupt_that_an_earlier_stream_took_is_withdrawn_on_the_next(
    stack: Stack,
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await stack.begin_turn(host, session)
    request = pb.InterruptRequest(session=ref(session), request_id=stack.new_id())
    call = asyncio.ensure_future(fails(stack.sessions.Interrupt(request, metadata=stack.admin)))
    interrupt = await host.command("interrupt")
    await host.drop()
    # In the midst of the handshake, where no command may go out, nor a withdrawal.
    host.answers_heartbeats = False
    await host.greet()
    await stack.until(lambda: stack.commands.waiting == 1)
    stack.clock.advance(5.0)
    assert (await call).reason == "HOST_UNREACHABLE"
    host.list()
    await host.until(lambda: interrupt.command_id in host.withdrawn)
    assert [each.command_id for each in host.commands].count(interrupt.command_id) == 1


async def test_an_interrupt_that_is_withdrawn_while_its_row_is_read_goes_out_no_more(
    stack: Stack,
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await stack.begin_turn(host, session)
    request = pb.InterruptRequest(session=ref(session), request_id=stack.new_id())
    call = asyncio.ensure_future(fails(stack.sessions.Interrupt(request, metadata=stack.admin)))
    # (One that was never out is looked at again before it goes out; this one was.)
    await host.command("interrupt")
    await host.drop()
    await stack.until(lambda: not stack.links.is_live(host.host_id))
    read, reading, go_on = stack.store.read, asyncio.Event(), asyncio.Event()

    async def read_slowly(fn: Any) -> Any:
        found = await read(fn)
        if isinstance(found, list) and any(getattr(row, "verb", 0) for row in found):
            reading.set()
            await go_on.wait()
        return found

    stack.store.read = read_slowly  # type: ignore[method-assign]
    await host.connect()
    await reading.wait()
    stack.clock.advance(4.9)  # (its time to live is not over: only its caller's is)
    (interrupt,) = await read(lambda tx: tx.open_commands(session.session_id))
    await stack.commands.withdraw([interrupt.command_id])
    go_on.set()
    assert (await call).reason == "HOST_UNREACHABLE"
    stack.store.read = read  # type: ignore[method-assign]
    _, deliver = await stack.send(host, session)
    assert deliver.HasField("deliver")
    assert len([each for each in host.commands if each.HasField("interrupt")]) == 1
