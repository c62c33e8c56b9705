"""The link against a control that speaks the real protocol, and against one that fails on order."""

from __future__ import annotations

import asyncio
import gc
from functools import partial
from pathlib import Path

import pytest
from grpc import aio

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle.v1 import host_pb2, session_pb2
from bridle_core.errors import Reason
from bridle_core.link import HEARTBEAT_EVERY, TWIN_PAUSE
from bridle_host.link import INCOMING
from bridle_host.link_stream import INVENTORY_SESSIONS
from tests.bridle_host.journal_support import answer, lifecycle, opened, output, until
from tests.bridle_host.link_support import Bench, HandClock, linked
from tests.fakes.control import FakeControl


def piece(
    text: str, offset: int = 0, message: str = "m", session: str = "s"
) -> host_pb.LiveTextPiece:
    return host_pb.LiveTextPiece(
        session_id=session, run=1, turn=1, message_id=message, offset=offset, text=text
    )


# --- the handshake ---


async def test_the_handshake_tells_who_the_host_is_and_what_it_has(tmp_path: Path) -> None:
    async with FakeControl() as control, linked(tmp_path, control.address) as bench:
        await control.until(lambda: control.streams and control.streams[0].inventory is not None)
        await bench.connected()
        assert bench.link.ready.is_set()
        (stream,) = control.streams
        hello = stream.hello
        assert (hello.protocol_min, hello.protocol_max) == (1, 1)
        assert hello.incarnation == "incarnation-1"
        assert hello.journal_id == bench.journal.journal_id
        assert (hello.journal_sequence, hello.journal_floor) == (0, 0)
        kinds = [message.WhichOneof("message") for message in stream.messages]
        assert kinds == ["hello", "inventory"]


async def test_agents_that_have_changed_are_told_in_a_new_hello(tmp_path: Path) -> None:
    async with FakeControl() as control, linked(tmp_path, control.address) as bench:
        await bench.connected()
        found = [host_pb2.Agent(agent="codex", installed=True, version="1.0")]
        bench.link.introduce(found)
        await control.until(lambda: len(control.streams) == 2)
        await bench.connected()
        kinds = [message.WhichOneof("message") for message in control.streams[0].messages]
        assert kinds[-1] == "goodbye"
        assert list(control.streams[1].hello.agents) == found


async def test_a_large_inventory_comes_in_parts_and_the_last_says_so(tmp_path: Path) -> None:
    live = [
        host_pb.LiveSession(session_id=f"s{n}", run=1, phase=session_pb2.PHASE_IDLE)
        for n in range(2 * INVENTORY_SESSIONS + 1)
    ]
    async with FakeControl() as control, linked(tmp_path, control.address) as bench:
        await bench.connected()
        bench.sessions.live = live
        control.hang_up()
        await control.until(lambda: len(control.streams) == 2)
        await bench.connected()
        parts = [m.inventory for m in control.streams[1].messages if m.HasField("inventory")]
        assert [part.complete for part in parts] == [False, False, True]
        assert [s.session_id for s in control.streams[1].inventory] == [s.session_id for s in live]


async def test_stale_runs_are_killed_once_and_only_after_reconcile(tmp_path: Path) -> None:
    async with FakeControl() as control, linked(tmp_path, control.address) as bench:
        control.faults.kill = [("s1", 1), ("s2", 3)]
        await bench.connected()
        bench.sessions.open.clear()
        control.hang_up()
        await control.until(lambda: len(control.streams) == 2)
        await bench.connected()
        control.hang_up()
        await control.until(lambda: len(control.streams) == 3)
        await bench.connected()
        before = len(bench.sessions.killed)
        bench.sessions.open.set()
        await until(lambda: len(bench.sessions.killed) >= before + 2)
        assert set(bench.sessions.killed) == {("s1", 1), ("s2", 3)}
        assert len(bench.sessions.killed) <= 4


# --- records ---


async def test_entries_arrive_in_order_and_are_trimmed_by_their_acknowledgement(
    tmp_path: Path,
) -> None:
    async with FakeControl() as control, linked(tmp_path, control.address) as bench:
        for number in range(100):
            await bench.journal.append([output(str(number))])
        await bench.journal.wait_acknowledged(100)
        assert control.texts() == [str(number) for number in range(100)]
        assert bench.journal.size == 0


async def test_what_was_journaled_before_the_host_started_is_told_first(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append([output("old"), answer("c1")])
    async with FakeControl() as control, linked(tmp_path, control.address) as bench:
        await bench.journal.append([output("new")])
        await bench.journal.wait_acknowledged(3)
        assert control.streams[0].hello.journal_sequence >= 2
        assert control.texts() == ["old", "c1", "new"]


async def test_messages_stay_below_one_mebibyte_and_a_thousand_records(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append([output("x" * 90_000) for _ in range(30)])
        await journal.append([output("y") for _ in range(3000)])
    async with FakeControl() as control, linked(tmp_path, control.address) as bench:
        await bench.journal.wait_acknowledged(3030)
        batches = [m for m in control.streams[0].messages if m.HasField("records")]
        assert max(batch.ByteSize() for batch in batches) <= 1024 * 1024 + 16 * 1024
        assert max(len(batch.records.records) for batch in batches) == 1000


async def test_a_batch_ends_with_the_last_entry_that_hello_told_of(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append([output() for _ in range(5)])
    async with FakeControl() as control, linked(tmp_path, control.address) as bench:
        await bench.journal.append([output() for _ in range(5)])
        await bench.journal.wait_acknowledged(10)
        told = control.streams[0].hello.journal_sequence
        batches = [m.records.records for m in control.streams[0].messages if m.HasField("records")]
        assert told in [batch[-1].journal_sequence for batch in batches]


@pytest.mark.parametrize("cut", range(1, 8))
async def test_no_record_is_lost_or_repeated_wherever_the_stream_is_cut(
    tmp_path: Path, cut: int
) -> None:
    async with FakeControl() as control:
        control.faults.cut_after_messages = cut
        async with linked(tmp_path, control.address) as bench:
            for number in range(30):
                await bench.journal.append([output(str(number))])
                if number % 10 == 9:
                    # Cut at least once more before it goes on.
                    streams = len(control.streams) if cut > 1 else 0
                    await control.until(partial(has_streams, control, streams))
            control.faults.cut_after_messages = None
            await bench.journal.wait_acknowledged(30)
        assert control.texts() == [str(number) for number in range(30)]


async def test_acknowledgements_that_are_lost_are_learnt_from_the_next_welcome(
    tmp_path: Path,
) -> None:
    async with FakeControl() as control, linked(tmp_path, control.address) as bench:
        control.faults.lose_acknowledgements = True
        await bench.journal.append([output("a"), output("b")])
        await control.until(lambda: len(control.records) == 2)
        assert bench.journal.acknowledged == 0
        control.hang_up()
        await bench.journal.wait_acknowledged(2)
        await bench.journal.append([output("c")])
        await control.until(lambda: len(control.records) == 3)
        assert control.texts() == ["a", "b", "c"]


async def test_control_that_dies_and_comes_back_gets_what_it_missed(tmp_path: Path) -> None:
    async with FakeControl() as control, linked(tmp_path, control.address) as bench:
        await bench.journal.append([output("a")])
        await bench.journal.wait_acknowledged(1)
        await control.stop()
        await bench.journal.append([output("b")])
        await until(lambda: not bench.link.connected)
        await bench.journal.append([output("c")])
        await control.start()
        await bench.journal.wait_acknowledged(3)
        assert control.texts() == ["a", "b", "c"]


async def test_a_control_that_was_set_back_gets_what_is_still_here(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with FakeControl() as control, linked(tmp_path, control.address) as bench:
        await bench.journal.append([output("a"), output("b")])
        await bench.journal.wait_acknowledged(2)
        control.faults.mark = 0
        control.hang_up()
        await control.until(lambda: len(control.streams) == 2)
        await bench.connected()
        assert "control lacks entries" in caplog.text
        await bench.journal.append([output("c")])
        await control.until(lambda: len(control.records) == 3)


async def test_a_journal_that_is_an_old_copy_gets_a_new_id_and_tells_only_what_is_new(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as journal:
        await journal.append([output("a"), output("b")])
        old = journal.journal_id
    async with FakeControl() as control:
        control.marks[old] = 50
        async with linked(tmp_path, control.address) as bench:
            await until(lambda: bench.journal.journal_id != old)
            await bench.journal.append([output("c")])
            await bench.journal.wait_acknowledged(1)
            # What was found in the copy control had before: it was told by the original.
            assert control.texts() == ["c"]
            assert [s.hello.journal_id for s in control.streams] == [old, bench.journal.journal_id]


async def test_an_old_copy_of_a_journal_is_known_even_if_it_was_written_on_beyond_the_original(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as journal:
        await journal.append([output("a"), output("b")])
        old = journal.journal_id
    async with FakeControl() as control:
        control.marks[old] = 3
        clock = HandClock()
        async with linked(tmp_path, control.address, clock=clock) as bench:
            # (As the end of what an earlier process left would be, before the first Hello.)
            await bench.journal.append([output(text) for text in "cdef"])
            clock.hurry = lambda _: not bench.link.streaming
            await until(lambda: bench.journal.journal_id != old)
            await bench.journal.wait_acknowledged(4)
            assert control.texts() == ["c", "d", "e", "f"]


async def test_a_host_whose_journal_control_lost_goes_on_with_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with FakeControl() as control:
        control.faults.journal_lost = True
        async with linked(tmp_path, control.address) as bench:
            await bench.journal.append([output("a")])
            await bench.journal.wait_acknowledged(1)
            assert "control lost this journal" in caplog.text


async def test_acknowledgements_of_another_journal_are_not_taken(tmp_path: Path) -> None:
    async with FakeControl() as control, linked(tmp_path, control.address) as bench:
        control.faults.lose_acknowledgements = True
        await bench.connected()
        await bench.journal.append([output("a")])
        control.say(acknowledge=host_pb.Acknowledge(journal_id="another", journal_sequence=1))
        control.command(host_pb.Command(command_id="c1"))
        await until(lambda: bench.sessions.told == ["c1"])
        assert bench.journal.acknowledged == 0


# --- commands ---


async def test_commands_withdrawals_and_tokens_reach_the_sessions_in_the_order_they_came(
    tmp_path: Path,
) -> None:
    async with FakeControl() as control, linked(tmp_path, control.address) as bench:
        await bench.connected()
        control.command(host_pb.Command(command_id="c1"))
        control.say(withdraw=host_pb.Withdraw(command_id="c1"))
        control.say(session_token=host_pb.SessionToken(session_id="s", token="brs_x"))
        control.command(host_pb.Command(command_id="c2"))
        await until(lambda: len(bench.sessions.told) == 4)
        assert bench.sessions.told == ["c1", ("withdraw", "c1"), ("token", "s"), "c2"]


async def test_commands_that_come_in_one_message_are_handed_on_in_its_order(tmp_path: Path) -> None:
    async with FakeControl() as control, linked(tmp_path, control.address) as bench:
        await bench.connected()
        together = [host_pb.Command(command_id=f"c{number}") for number in (1, 2, 3)]
        control.command(*together)
        control.command(host_pb.Command(command_id="c4"))
        await until(lambda: len(bench.sessions.told) == 4)
        assert bench.sessions.told == ["c1", "c2", "c3", "c4"]


async def test_repeats_are_handed_on_for_the_sessions_to_answer(tmp_path: Path) -> None:
    async with FakeControl() as control, linked(tmp_path, control.address) as bench:
        await bench.connected()
        control.faults.say_twice = True
        control.command(host_pb.Command(command_id="c1"))
        await until(lambda: bench.sessions.told == ["c1", "c1"])


async def test_acknowledgements_are_read_while_the_sessions_take_no_command(
    tmp_path: Path,
) -> None:
    """What waits for room in the journal may be what keeps the sessions from taking commands."""
    async with FakeControl() as control, linked(tmp_path, control.address) as bench:
        await bench.connected()
        bench.sessions.open.clear()
        for number in range(300):
            control.command(host_pb.Command(command_id=f"c{number}"))
        await bench.journal.append([output()])
        await bench.journal.wait_acknowledged(1)
        assert bench.sessions.told == []
        bench.sessions.open.set()
        await until(lambda: len(bench.sessions.told) == 300)


async def test_commands_in_hand_survive_the_end_of_their_stream(tmp_path: Path) -> None:
    async with FakeControl() as control, linked(tmp_path, control.address) as bench:
        await bench.connected()
        bench.sessions.open.clear()
        control.command(host_pb.Command(command_id="c1"))
        control.command(host_pb.Command(command_id="c2"))
        control.hang_up()
        await control.until(lambda: len(control.streams) == 2)
        bench.sessions.open.set()
        await until(lambda: bench.sessions.told == ["c1", "c2"])


async def test_a_control_that_floods_the_host_loses_the_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert INCOMING >= 1024
    monkeypatch.setattr("bridle_host.link.INCOMING", 10)
    async with FakeControl() as control, linked(tmp_path, control.address) as bench:
        await bench.connected()
        bench.sessions.open.clear()
        for number in range(20):
            control.command(host_pb.Command(command_id=f"c{number}"))
        await control.until(lambda: len(control.streams) == 2)
        bench.sessions.open.set()


# --- live text ---


async def test_live_text_keeps_its_place_among_the_records(tmp_path: Path) -> None:
    async with FakeControl() as control, linked(tmp_path, control.address) as bench:
        await bench.connected()
        journal, link = bench.journal, bench.link
        for number in range(20):
            await journal.append([lifecycle(f"turn started {number}")])
            link.live_text(piece("live", message=f"m{number}"))
            async with asyncio.TaskGroup() as group:
                # Before it is durable, and after it has its number.
                appending = group.create_task(journal.append([output(f"message {number}")]))
                await asyncio.sleep(0)
                link.live_text(piece("next", message=f"n{number}"))
                await appending
        await journal.wait_acknowledged(40)
        await control.until(lambda: len(control.timeline) == 80)
        shown = [
            item.text + item.message_id
            if isinstance(item, host_pb.LiveTextPiece)
            else item.event.event.decode()
            for item in control.timeline
        ]
        assert shown == [
            text
            for n in range(20)
            for text in (f"turn started {n}", f"livem{n}", f"message {n}", f"nextn{n}")
        ]


async def test_pieces_of_one_message_that_wait_together_become_one(tmp_path: Path) -> None:
    async with FakeControl() as control, linked(tmp_path, control.address) as bench:
        await bench.connected()
        for text, offset in (("grün ", 0), ("und ", 6), ("gut", 10), ("hole", 99)):
            bench.link.live_text(piece(text, offset))
        await control.until(lambda: len(control.timeline) == 2)
        found = [
            (p.offset, p.text) for p in control.timeline if isinstance(p, host_pb.LiveTextPiece)
        ]
        assert found == [(0, "grün und gut"), (99, "hole")]


async def test_live_text_is_dropped_while_nobody_listens(tmp_path: Path) -> None:
    async with FakeControl() as control:
        async with linked(tmp_path, control.address) as bench:
            await bench.connected()
            await control.stop()
            await until(lambda: not bench.link.connected)
            bench.link.live_text(piece("lost"))
            await control.start()
            await bench.connected()
            bench.link.live_text(piece("heard", 4))
            await control.until(lambda: control.timeline)
        assert [p.text for p in control.timeline if isinstance(p, host_pb.LiveTextPiece)] == [
            "heard"
        ]


# --- ends ---


async def test_goodbye_ends_the_link_and_is_told_to_control(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridle_host.link.GOODBYE_GRACE", 30.0)
    async with FakeControl() as control:
        async with linked(tmp_path, control.address) as bench:
            await bench.connected()
            await bench.link.end("the end")
            assert await bench.ended() is None
        await control.until(lambda: control.streams[0].over)
        assert control.streams[0].goodbye == "the end"


async def test_the_link_ends_at_once_where_there_is_no_control(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with linked(tmp_path, "127.0.0.1:1") as bench:
        await until(lambda: "link is down" in caplog.text)
        await bench.link.end("the end")
        assert await bench.ended() is None


async def test_the_link_ends_although_control_is_deaf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridle_host.link.GOODBYE_GRACE", 0.05)
    async with FakeControl() as control, linked(tmp_path, control.address) as bench:
        await bench.connected()
        control.faults.silent = True
        await bench.link.end("the end")
        assert await bench.ended() is None


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (Reason.TOKEN_INVALID, "refuses this host's credential"),
        (Reason.TOKEN_REVOKED, "refuses this host's credential"),
        (Reason.NOT_ALLOWED, "refuses this host's credential"),
        (Reason.VERSION_UNSUPPORTED, "no common version"),
    ],
)
async def test_a_refusal_for_good_ends_the_link_with_one_clear_line(
    tmp_path: Path, reason: Reason, words: str
) -> None:
    async with FakeControl() as control:
        control.faults.refuse = reason
        async with linked(tmp_path, control.address) as bench:
            line = await bench.ended()
            assert line is not None
            assert words in line
            assert "\n" not in line
            assert "brh_good" not in line


async def test_a_welcome_in_another_version_ends_the_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeControl() as control:
        monkeypatch.setattr("bridle_host.link.PROTOCOL_MIN", 2)
        monkeypatch.setattr("bridle_host.link.PROTOCOL_MAX", 3)
        async with linked(tmp_path, control.address) as bench:
            assert await bench.ended() == "control and this host speak no common version"


@pytest.mark.parametrize("reason", [Reason.HOST_TWIN, Reason.EPOCH_FENCED])
async def test_a_twin_comes_again_after_its_pause_alone(tmp_path: Path, reason: Reason) -> None:
    clock = HandClock()
    async with FakeControl() as control:
        control.faults.refuse = reason
        async with linked(tmp_path, control.address, clock=clock) as bench:
            # (Of a call that ends while its first message is written grpc tells no reason, and the
            # link soon dials again.)
            clock.hurry = lambda seconds: not bench.link.streaming and seconds != TWIN_PAUSE
            await until(lambda: TWIN_PAUSE in clock.waiting)
            control.faults.refuse = None
            await clock.advance(TWIN_PAUSE)
            await bench.connected()


@pytest.mark.parametrize("reason", [Reason.HOST_TWIN, Reason.EPOCH_FENCED])
async def test_sessions_are_told_that_the_place_is_lost_and_when_it_is_held_again(
    tmp_path: Path, reason: Reason
) -> None:
    clock = HandClock()
    async with FakeControl() as control, linked(tmp_path, control.address, clock=clock) as bench:
        await bench.connected()
        assert bench.sessions.places == ["held"]
        control.hang_up(reason)
        await until(lambda: TWIN_PAUSE in clock.waiting)
        assert bench.sessions.places == ["held", "lost"]
        await clock.advance(TWIN_PAUSE)
        await bench.connected()
        assert bench.sessions.places == ["held", "lost", "held"]


async def test_a_stream_that_merely_ended_takes_no_place(tmp_path: Path) -> None:
    async with FakeControl() as control, linked(tmp_path, control.address) as bench:
        await bench.connected()
        for reason in (None, Reason.SHUTTING_DOWN, Reason.HOST_UNREACHABLE):
            once_more = partial(has_streams, control, len(control.streams) + 1)
            control.hang_up(reason)
            await control.until(once_more)
            await bench.connected()
        assert set(bench.sessions.places) == {"held"}


async def test_a_host_that_fenced_itself_keeps_its_place_and_comes_again_at_once(
    tmp_path: Path,
) -> None:
    async with FakeControl() as control, linked(tmp_path, control.address) as bench:
        await bench.connected()
        control.hang_up(Reason.EPOCH_FENCED, incarnation="incarnation-1")
        await control.until(lambda: len(control.streams) == 2)
        await bench.connected()
        assert "lost" not in bench.sessions.places
        assert TWIN_PAUSE not in bench.clock.slept
        assert [stream.hello.attempt for stream in control.streams] == [1, 2]


@pytest.mark.parametrize("reason", [Reason.SHUTTING_DOWN, Reason.INTERNAL, Reason.RATE_LIMITED])
async def test_other_statuses_are_dialled_again_after_growing_pauses(
    tmp_path: Path, reason: Reason
) -> None:
    async with FakeControl() as control:
        control.faults.refuse = reason
        async with linked(tmp_path, control.address) as bench:
            await until(lambda: len(pauses(bench)) >= 8)
        assert pauses(bench)[:8] == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 4.0, 4.0, 4.0])


def pauses(bench: Bench) -> list[float]:
    """Without the waits for the first heartbeat of each stream."""
    return [seconds for seconds in bench.clock.slept if abs(seconds - HEARTBEAT_EVERY) > 0.01]


async def test_a_stream_that_lived_for_a_while_begins_the_pauses_anew(tmp_path: Path) -> None:
    clock = HandClock()
    async with FakeControl() as control, linked(tmp_path, control.address, clock=clock) as bench:
        for expected in (0.2, 0.4, 0.2):
            await bench.connected()
            if expected == 0.2 and len(control.streams) > 1:
                await clock.advance(4.9)
                await clock.advance(0.2)  # with its heartbeat on the way
            control.hang_up()
            await until(lambda: not bench.link.streaming)
            await until(lambda: bool(clock.waiting))
            assert clock.slept[-1] == pytest.approx(expected)
            # No more than that: the next stream may be up before the clock stands still again.
            await clock.advance(1)


# --- silence ---


async def test_heartbeats_go_out_every_five_seconds_and_are_answered(tmp_path: Path) -> None:
    clock = HandClock()
    async with FakeControl() as control, linked(tmp_path, control.address, clock=clock) as bench:
        await bench.connected()
        for count in range(1, 8):
            await until(lambda: bool(clock.waiting))
            await clock.advance(5)
            await control.until(partial(has_heartbeats, control, 2 * count - 1))
            # Answered in order: then it has also read what its own was answered with.
            control.say(heartbeat=host_pb.Heartbeat(count=count))
            await control.until(partial(has_heartbeats, control, 2 * count))
        assert bench.link.connected
        assert len(control.streams) == 1


def has_streams(control: FakeControl, count: int) -> bool:
    return len(control.streams) >= count


def has_heartbeats(control: FakeControl, count: int) -> bool:
    return heartbeats(control) >= count


def heartbeats(control: FakeControl) -> int:
    return sum(m.HasField("heartbeat") for m in control.streams[-1].messages)


async def test_a_heartbeat_of_controls_is_answered_at_once(tmp_path: Path) -> None:
    clock = HandClock()
    async with FakeControl() as control, linked(tmp_path, control.address, clock=clock) as bench:
        await bench.connected()
        control.say(heartbeat=host_pb.Heartbeat(count=1))
        await control.until(lambda: heartbeats(control) == 1)
        assert control.streams[0].messages[-1].heartbeat.received == 1


async def test_a_silent_control_is_left_after_12_seconds_and_dialled_again(tmp_path: Path) -> None:
    clock = HandClock()
    async with FakeControl() as control, linked(tmp_path, control.address, clock=clock) as bench:
        await bench.connected()
        control.faults.silent = True
        await clock.advance(11.9)
        assert bench.link.connected
        # The heartbeats that were due have come, and are not answered.
        await control.until(lambda: control.streams[0].stuck)
        control.faults.silent = False  # for the next stream; this one's reader stands still
        await clock.advance(0.2)
        await until(lambda: not bench.link.streaming)
        await clock.advance(10)
        await control.until(lambda: len(control.streams) == 2)
        await bench.connected()


async def test_a_control_that_never_welcomes_is_left_after_12_seconds(tmp_path: Path) -> None:
    clock = HandClock()
    async with FakeControl() as control:
        control.faults.silent = True
        async with linked(tmp_path, control.address, clock=clock) as bench:
            await until(lambda: bool(clock.waiting))
            await clock.advance(12.1)
            await until(lambda: not bench.link.streaming)
            assert not bench.link.ready.is_set()


# --- nothing piles up ---


async def test_no_call_is_begun_while_control_is_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each would stay in grpc's memory."""
    attempts = 0

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts
        attempts += 1
        writer.close()

    control = FakeControl()
    door = await asyncio.start_server(hang_up, "127.0.0.1", control.port)
    gc.collect()  # what earlier tests left
    earlier = calls_in_memory()
    async with linked(tmp_path, control.address) as bench:
        await until(lambda: attempts >= 3)
        assert all(any(call is one for one in earlier) for call in calls_in_memory())
        assert caplog.text.count("link is down") == 1
        door.close()
        await door.wait_closed()
        async with control:
            await bench.connected()
            await bench.link.end("the test is over")


def calls_in_memory() -> list[aio.Call]:
    return [thing for thing in gc.get_objects() if isinstance(thing, aio.Call)]


async def test_hundreds_of_streams_leave_nothing_behind(tmp_path: Path) -> None:
    async with FakeControl() as control:
        control.faults.refuse = Reason.SHUTTING_DOWN
        async with linked(tmp_path, control.address) as bench:
            await until(lambda: len(pauses(bench)) > 100)
            gc.collect()
            before = len(gc.get_objects())
            await until(lambda: len(pauses(bench)) > 600)
            gc.collect()
            assert len(gc.get_objects()) < before + 2000
