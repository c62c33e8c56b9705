"""The promises of Watch: ordered, unique, reliable, resumable, bookmarkable."""

from __future__ import annotations

import asyncio
import tracemalloc
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from bridle.v1 import event_pb2, session_pb2, watch_pb2
from bridle_control.store.api import NewEvent, Store, Tx
from bridle_control.watch.frames import Tails
from bridle_control.watch.hub import PROGRESS_EVERY, Hub, Target
from bridle_control.watch.limits import WatchLimit
from bridle_core.errors import BridleError, Reason
from tests.support.manual_clock import ManualClock
from tests.support.stores import a_session, an_event, append, begin, event_of, open_sqlite
from tests.support.watching import reading, watching


def end_event(run: int = 1) -> NewEvent:
    event = event_pb2.Event(run=run)
    event.session_ended.phase = session_pb2.PHASE_STOPPED
    return event_of(event)


async def end_run(store: Store, session_id: str = "s1") -> None:
    """As the projection does: the event and the row in one write."""

    def fn(tx: Tx) -> None:
        session = tx.session(session_id)
        assert session is not None
        tx.append_events(session_id, [end_event(session.run)])
        tx.update_session(replace(session, phase=session_pb2.PHASE_STOPPED))

    await store.write(fn)


async def resume(store: Store, session_id: str = "s1") -> None:
    def fn(tx: Tx) -> None:
        session = tx.session(session_id)
        assert session is not None
        tx.update_session(replace(session, phase=session_pb2.PHASE_STARTING, run=session.run + 1))

    await store.write(fn)


def reason_of(error: BaseException | None) -> Reason:
    assert isinstance(error, BridleError), error
    return error.reason


# ---------------------------------------------------------------- where a watch begins


async def test_a_watch_replays_and_then_goes_on_live(store: Store, hub: Hub) -> None:
    await append(store, "s1", *map(str, range(1, 601)))
    async with watching(hub, "s1") as watcher:
        first = watcher.said[0].progress
        assert (first.session_id, first.log_id, first.sequence) == ("s1", store.log_id, 0)
        await watcher.until_events(600)
        await append(store, "s1", "601", "602")
        await watcher.until_events(602)
        assert watcher.sequences == list(range(1, 603))
        assert watcher.texts == [str(n) for n in range(1, 603)]
        batches = [each.events for each in watcher.said if each.HasField("events")]
        assert {(batch.session_id, batch.log_id) for batch in batches} == {("s1", store.log_id)}
        assert max(len(batch.events) for batch in batches) <= 256


async def test_a_watch_goes_on_behind_its_cursor(store: Store, hub: Hub) -> None:
    await append(store, "s1", *"abcde")
    async with watching(hub, Target("s1", after=3, log_id=store.log_id)) as watcher:
        assert watcher.said[0].progress.sequence == 3
        await watcher.until_events(2)
        assert watcher.texts == ["d", "e"]


async def test_a_tail_begins_with_the_newest_events(store: Store, hub: Hub) -> None:
    await append(store, "s1", *"abcde")
    async with (
        watching(hub, Target("s1", tail=2)) as two,
        watching(hub, Target("s1", tail=99)) as all_of_them,
        watching(hub, Target("s1", tail=0)) as none,
    ):
        await two.until_events(2)
        await all_of_them.until_events(5)
        assert two.texts == ["d", "e"]
        assert all_of_them.texts == list("abcde")
        assert none.said[0].progress.sequence == 5
        await append(store, "s1", "f")
        await none.until_events(1)
        assert none.texts == ["f"]


async def test_a_future_cursor_waits_for_what_lies_behind_it(store: Store, hub: Hub) -> None:
    await append(store, "s1", "a")
    async with watching(hub, Target("s1", after=3)) as watcher:
        assert watcher.said[0].progress.sequence == 3
        await append(store, "s1", "b", "c")
        await append(store, "s1", "d", "e")
        await watcher.until_events(2)
        assert watcher.texts == ["d", "e"]


async def test_a_watch_from_0_begins_at_the_floor_and_says_so(store: Store, hub: Hub) -> None:
    await append(store, "s1", *"abcde")
    await store.write(lambda tx: tx.raise_floor("s1", 4))
    async with watching(hub, "s1") as watcher:
        compacted = watcher.said[0].compacted
        assert (compacted.session_id, compacted.log_id) == ("s1", store.log_id)
        assert compacted.floor_sequence == 4
        await watcher.until_events(2)
        assert watcher.texts == ["d", "e"]
    async with watching(hub, Target("s1", after=3)) as watcher:
        assert watcher.said[0].progress.sequence == 3
        await watcher.until_events(2)


async def test_a_cursor_below_the_floor_is_refused_and_told_the_floor(
    store: Store, hub: Hub
) -> None:
    await append(store, "s1", *"abcde")
    await store.write(lambda tx: tx.raise_floor("s1", 4))
    async with watching(hub, Target("s1", after=2)) as watcher:
        error = await watcher.ended()
        assert reason_of(error) is Reason.CURSOR_COMPACTED
        assert isinstance(error, BridleError)
        assert error.metadata["floor"] == "4"
        assert watcher.said == []


async def test_a_watcher_that_the_floor_overtakes_is_told(store: Store, hub: Hub) -> None:
    await append(store, "s1", *["x" * 1000] * 2000)
    stream = hub.watch([Target("s1")], principal_key="me")
    async with aclosing(stream):
        await anext(stream)
        # It has got events: one that has none yet is told the new floor, and goes on from there.
        first = watch_pb2.WatchResponse.FromString(await anext(stream)).events
        await store.write(lambda tx: tx.raise_floor("s1", 1999))
        async with reading(stream) as watcher:
            assert reason_of(await watcher.ended()) is Reason.CURSOR_COMPACTED
            told = [event.sequence for event in first.events] + watcher.sequences
            assert told == list(range(1, len(told) + 1))


async def test_the_floor_overtakes_a_watcher_once_its_next_event_is_gone(
    store: Store, hub: Hub
) -> None:
    await append(store, "s1", *["x"] * 600)
    stream = hub.watch([Target("s1")], principal_key="me")
    async with aclosing(stream):
        await anext(stream)
        await anext(stream)  # up to 256
        await store.write(lambda tx: tx.raise_floor("s1", 257))
        batch = watch_pb2.WatchResponse.FromString(await anext(stream)).events
        assert [batch.events[0].sequence, batch.events[-1].sequence] == [257, 512]
        await store.write(lambda tx: tx.raise_floor("s1", 514))
        with pytest.raises(BridleError) as told:
            await anext(stream)
        assert told.value.reason is Reason.CURSOR_COMPACTED
        assert told.value.metadata["floor"] == "514"


async def test_a_watch_from_0_is_told_again_when_the_floor_rises_before_its_first_event(
    store: Store, hub: Hub
) -> None:
    await append(store, "s1", *"abcdefgh")

    async def rise(floor: int) -> None:
        await store.write(lambda tx: tx.raise_floor("s1", floor))

    stream = hub.watch([Target("s1")], principal_key="me")
    async with aclosing(stream):
        first = watch_pb2.WatchResponse.FromString(await anext(stream))
        assert first.HasField("progress")
        for floor in (4, 6):
            await rise(floor)
            told = watch_pb2.WatchResponse.FromString(await anext(stream))
            assert told.compacted.floor_sequence == floor
        batch = watch_pb2.WatchResponse.FromString(await anext(stream)).events
        assert [event.sequence for event in batch.events] == [6, 7, 8]
        # From its first event on it has a place in the log, which the floor may overtake.
        await append(store, "s1", "i", "j")
        await rise(10)
        hub._channels["s1"].rest()
        with pytest.raises(BridleError) as refused:
            await anext(stream)
        assert refused.value.reason is Reason.CURSOR_COMPACTED


async def test_a_cursor_of_another_log_is_refused_but_0_belongs_to_all(
    store: Store, hub: Hub
) -> None:
    await append(store, "s1", "a", "b")
    async with watching(hub, Target("s1", after=1, log_id="other")) as watcher:
        error = await watcher.ended()
        assert reason_of(error) is Reason.CURSOR_FOREIGN
        assert isinstance(error, BridleError)
        assert error.metadata["log_id"] == store.log_id
    async with watching(hub, Target("s1", log_id="other")) as watcher:
        await watcher.until_events(2)


async def test_a_session_that_is_not_there_is_not_found(hub: Hub) -> None:
    async with watching(hub, "s1", "none") as watcher:
        assert reason_of(await watcher.ended()) is Reason.SESSION_NOT_FOUND
        assert watcher.said == []


async def test_a_session_is_watched_once_in_a_call(hub: Hub) -> None:
    async with watching(hub, "s1", "s2", "s1") as watcher:
        error = await watcher.ended()
        assert reason_of(error) is Reason.INVALID_REQUEST
        assert isinstance(error, BridleError)
        assert [each.field for each in error.fields] == ["targets[2].session"]


# ---------------------------------------------------------------- what everybody sees


async def test_watchers_from_anywhere_see_the_same_live_and_after_a_restart(
    tmp_path: Path, clock: ManualClock
) -> None:
    place = tmp_path / "again"
    async with open_sqlite(place) as store:
        hub = Hub(store, clock=clock)
        await begin(store)
        await append(store, "s1", *map(str, range(1, 301)))
        async with (
            watching(hub, "s1") as one,
            watching(hub, "s1") as two,
            watching(hub, Target("s1", after=200)) as middle,
        ):
            for start in range(301, 1001, 7):
                await append(store, "s1", *map(str, range(start, start + 7)))
            total = 300 + 7 * 100
            await one.until_events(total)
            await two.until_events(total)
            await middle.until_events(total - 200)
            assert one.events == two.events
            assert one.events[200:] == middle.events
            assert one.sequences == list(range(1, total + 1))
        before = one.events
    async with open_sqlite(place) as store:
        hub = Hub(store, clock=clock)
        async with watching(hub, "s1") as one, watching(hub, Target("s1", after=500)) as middle:
            await append(store, "s1", "new")
            await one.until_events(total + 1)
            await middle.until_events(total + 1 - 500)
            assert one.events[:total] == before
            assert one.events[500:] == middle.events


async def test_many_writers_and_many_watchers_agree(store: Store, hub: Hub) -> None:
    async def writer(number: int) -> None:
        for step in range(20):
            await append(store, "s1", *(f"{number}.{step}.{n}" for n in range(number + 1)))

    total = 20 * sum(range(1, 9))
    async with (
        watching(hub, "s1") as first,
        watching(hub, Target("s1", after=100)) as second,
    ):
        await asyncio.gather(*(writer(number) for number in range(8)))
        async with watching(hub, "s1") as late:
            for watcher, count in ((first, total), (second, total - 100), (late, total)):
                await watcher.until_events(count)
            assert first.sequences == list(range(1, total + 1))
            assert first.events == late.events
            assert first.events[100:] == second.events


async def test_watchers_at_the_same_cursor_share_one_read(
    store: Store, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append(store, "s1", *map(str, range(2560)))
    reads = 0
    plain = store.read

    async def counted(fn):  # type: ignore[no-untyped-def]
        nonlocal reads
        reads += 1
        return await plain(fn)

    monkeypatch.setattr(store, "read", counted)
    streams = [hub.watch([Target("s1")], principal_key="me") for _ in range(10)]

    async def take(stream) -> list[bytes]:  # type: ignore[no-untyped-def]
        async with aclosing(stream):
            return [await anext(stream) for _ in range(11)]

    taken = await asyncio.gather(*map(take, streams))
    assert all(each == taken[0] for each in taken)
    # The bytes are the same objects, not only equal.
    assert {id(each[5]) for each in taken} == {id(taken[0][5])}
    assert reads <= 10 + 10


async def test_targets_take_turns_in_one_stream(store: Store, hub: Hub) -> None:
    await append(store, "s1", *["x" * 900] * 5000)
    await append(store, "s2", "small")
    stream = hub.watch([Target("s1"), Target("s2")], principal_key="me")
    async with aclosing(stream):
        first = [watch_pb2.WatchResponse.FromString(await anext(stream)) for _ in range(4)]
    kinds = [each.WhichOneof("response") for each in first]
    assert kinds == ["progress", "progress", "events", "events"]
    assert first[3].events.session_id == "s2"


async def test_a_slow_watcher_slows_nobody_and_holds_one_frame(store: Store, hub: Hub) -> None:
    async with watching(hub, "s1") as slow, watching(hub, "s1") as fast:
        slow.pause()
        tracemalloc.start()
        try:
            await append(store, "s1", "warm")
            await fast.until_events(1)
            fast.said.clear()
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(40):
                await append(store, "s1", *["x" * 2000] * 500)  # 40 MB in all
                await fast.until(lambda: len(fast.events) == 500)
                fast.said.clear()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # The tail, what both were writing, and frames that wait for nobody.
        assert after - before < 16_000_000
        slow.go_on()
        await slow.until_events(20_001)
        assert slow.sequences == list(range(1, 20_002))


async def test_many_busy_sessions_keep_no_more_than_few_and_nobody_misses_anything(
    store: Store, hub: Hub
) -> None:
    names = [f"t{number}" for number in range(60)]
    await begin(store, *map(a_session, names))
    async with watching(hub, *names) as slow:
        slow.pause()
        for name in names:
            await append(store, name, *["x" * 10_000] * 50)  # 30 MB in all
        assert 0 < hub._tails.bytes <= Tails.MAX_BYTES
        slow.go_on()
        await slow.until_events(60 * 50)
    assert hub._tails.bytes == 0


async def test_frames_keep_their_bounds(store: Store, hub: Hub) -> None:
    await append(store, "s1", *["x" * 60_000] * 20, *["y"] * 600)
    stream = hub.watch([Target("s1")], principal_key="me")
    sizes, seen = [], 0
    async with aclosing(stream):
        await anext(stream)
        while seen < 620:
            message = await anext(stream)
            sizes.append(len(message))
            seen += len(watch_pb2.WatchResponse.FromString(message).events.events)
    assert max(sizes) <= 256 * 1024 + 200


# ---------------------------------------------------------------- kinds and progress


async def test_kinds_leave_out_events_but_not_progress(
    store: Store, hub: Hub, clock: ManualClock
) -> None:
    ended = event_pb2.EVENT_KIND_TURN_ENDED
    over = event_pb2.Event(run=1, turn=1)
    over.turn_ended.message = "over"
    await append(store, "s1", *["x"] * 700)
    await store.write(lambda tx: tx.append_events("s1", [event_of(over)]))
    async with watching(hub, "s1", kinds=[ended]) as watcher:
        await watcher.until_events(1)
        assert watcher.sequences == [701]
        await append(store, "s1", "x", "x")  # from the tail, too
        await store.write(lambda tx: tx.append_events("s1", [an_event(), event_of(over)]))
        await watcher.until_events(2)
        assert watcher.sequences == [701, 705]
        await append(store, "s1", "x")
        clock.advance(PROGRESS_EVERY)
        await watcher.until(lambda: watcher.progress[-1].sequence == 706)


async def test_silence_is_broken_by_progress_for_every_target(
    store: Store, hub: Hub, clock: ManualClock
) -> None:
    assert PROGRESS_EVERY < 15
    await append(store, "s1", "a", "b")
    async with watching(hub, "s1", "s2") as watcher:
        await watcher.until_events(2)
        for count in (2, 3, 4):
            clock.advance(PROGRESS_EVERY)
            await watcher.until(lambda count=count: len(watcher.progress) == 2 * count)  # type: ignore[misc]
        said = {(each.session_id, each.sequence, each.ended) for each in watcher.progress[2:]}
        assert said == {("s1", 2, False), ("s2", 0, False)}
        clock.advance(PROGRESS_EVERY / 2)
        await append(store, "s1", "c")
        await watcher.until_events(3)
        clock.advance(PROGRESS_EVERY / 2)
        # Only the one that was silent all the time.
        await watcher.until(lambda: len(watcher.progress) == 9)
        assert watcher.progress[-1].session_id == "s2"


# ---------------------------------------------------------------- the end of a run


async def test_a_watch_until_the_end_of_the_run_ends_behind_it(store: Store, hub: Hub) -> None:
    async with watching(hub, "s1", until_run_end=True) as watcher:
        await append(store, "s1", "a")
        await end_run(store)
        assert await watcher.ended() is None
        assert watcher.sequences == [1, 2]
        last = watcher.said[-1].progress
        assert (last.session_id, last.sequence, last.ended) == ("s1", 2, True)


async def test_a_run_that_has_ended_is_replayed_and_over(store: Store, hub: Hub) -> None:
    await append(store, "s1", *map(str, range(500)))
    await end_run(store)
    async with watching(hub, "s1", until_run_end=True) as watcher:
        assert await watcher.ended() is None
        assert len(watcher.events) == 501
        assert watcher.said[-1].progress.ended
    async with watching(hub, Target("s1", after=501), until_run_end=True) as watcher:
        assert await watcher.ended() is None
        assert [each.ended for each in watcher.progress] == [False, True]


async def test_an_earlier_run_is_not_the_end(store: Store, hub: Hub) -> None:
    await append(store, "s1", "a")
    await end_run(store)
    await resume(store)
    async with watching(hub, "s1", until_run_end=True) as watcher:
        await watcher.until_events(2)
        await append(store, "s1", "b")
        await watcher.until_events(3)
        assert not watcher.done
        await end_run(store)
        assert await watcher.ended() is None
        assert watcher.sequences == [1, 2, 3, 4]


async def test_a_resume_that_was_taken_back_ends_the_watch(store: Store, hub: Hub) -> None:
    await end_run(store)
    await resume(store)
    async with watching(hub, "s1", until_run_end=True) as watcher:
        await watcher.until_events(1)

        def take_back(tx: Tx) -> None:
            session = tx.session("s1")
            assert session is not None
            tx.update_session(replace(session, phase=session_pb2.PHASE_STOPPED, run=1))

        await store.write(take_back)
        assert await watcher.ended() is None


async def test_the_end_is_said_though_its_kind_was_left_out(store: Store, hub: Hub) -> None:
    kinds = [event_pb2.EVENT_KIND_TURN_ENDED]
    async with watching(hub, "s1", until_run_end=True, kinds=kinds) as watcher:
        await append(store, "s1", "a")
        await end_run(store)
        assert await watcher.ended() is None
        assert watcher.events == []
        assert watcher.said[-1].progress.sequence == 2


async def test_the_stream_ends_with_the_last_of_its_targets(store: Store, hub: Hub) -> None:
    async with watching(hub, "s1", "s2", until_run_end=True) as watcher:
        await end_run(store, "s2")
        await watcher.until(lambda: any(each.ended for each in watcher.progress))
        await append(store, "s1", "on")
        await watcher.until_events(2)
        assert not watcher.done
        await end_run(store, "s1")
        assert await watcher.ended() is None
        assert [each.session_id for each in watcher.progress if each.ended] == ["s2", "s1"]


async def test_a_watch_without_end_waits_for_the_next_run(store: Store, hub: Hub) -> None:
    async with watching(hub, "s1") as watcher:
        await end_run(store)
        await watcher.until_events(1)
        await resume(store)
        await append(store, "s1", "again")
        await watcher.until_events(2)
        assert not watcher.done


async def test_a_deleted_session_ends_its_watches(store: Store, hub: Hub) -> None:
    async with watching(hub, "s1", "s2") as watcher, watching(hub, "s2") as other:
        await store.write(lambda tx: tx.delete_session("s1"))
        assert reason_of(await watcher.ended()) is Reason.SESSION_NOT_FOUND
        assert not other.done


# ---------------------------------------------------------------- limits and faults


async def test_a_principal_holds_so_many_watches_and_others_as_many(
    store: Store, clock: ManualClock
) -> None:
    hub = Hub(store, clock=clock, limit=WatchLimit(2))
    async with watching(hub, "s1"), watching(hub, "s1"):
        async with watching(hub, "s1") as third:
            error = await third.ended()
            assert reason_of(error) is Reason.TOO_MANY_WATCHES
            assert isinstance(error, BridleError)
            assert error.metadata == {"limit": "2"}
        async with watching(hub, "s1", principal_key="user:t2") as other:
            assert not other.done
    async with watching(hub, "s1") as again:
        assert not again.done


async def test_a_damaged_event_ends_the_watch_as_data_loss(store: Store, hub: Hub) -> None:
    await append(store, "s1", "a", "b")
    await store.write(
        lambda tx: tx._connection.execute("UPDATE events SET crc = 0 WHERE sequence = 2")  # type: ignore[attr-defined]
    )
    async with watching(hub, Target("s1", after=1)) as watcher:
        assert reason_of(await watcher.ended()) is Reason.LOG_CORRUPT


async def test_a_watch_that_is_closed_leaves_nothing_in_the_hub(store: Store, hub: Hub) -> None:
    async with watching(hub, "s1", "s2"), watching(hub, "s1"):
        pass
    assert hub._channels == {}
    unread = hub.watch([Target("s1")], principal_key="me")
    await unread.aclose()
    assert hub._channels == {}


async def test_a_read_that_was_given_up_does_not_stop_the_others(
    store: Store, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append(store, "s1", "a")
    gate = asyncio.Event()
    plain = store.read
    waiting = 0

    begun = asyncio.Event()

    async def gated(fn):  # type: ignore[no-untyped-def]
        nonlocal waiting
        waiting += 1
        begun.set()
        await gate.wait()
        return await plain(fn)

    async with (
        reading(hub.watch([Target("s1")], principal_key="me")) as first,
        reading(hub.watch([Target("s1")], principal_key="me")) as second,
    ):
        for watcher in (first, second):
            await watcher.until_events(1)
        hub._channels["s1"].rest()
        hub._cache.drop_session("s1")
        monkeypatch.setattr(store, "read", gated)
        late = [hub.watch([Target("s1")], principal_key="me") for _ in range(2)]
        gate.set()
        for stream in late:
            await anext(stream)
        gate.clear()
        waiting = 0
        begun.clear()
        calls = [asyncio.ensure_future(anext(stream)) for stream in late]
        await begun.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        assert waiting == 1  # one reads, the other waits for it
        calls[0].cancel()
        await asyncio.gather(calls[0], return_exceptions=True)
        gate.set()
        message = watch_pb2.WatchResponse.FromString(await calls[1])
        assert [event.sequence for event in message.events.events] == [1]
        for stream in late:
            await stream.aclose()
