"""Retention among watchers: a floor that rises is told, and never is an event skipped in silence.

In this process with a real store where the moment has to be exact; with the real pair where it is
about what people see. Everything that a watcher was told is held against the log.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

import bridle
from bridle.v1 import event_pb2, session_pb2, watch_pb2
from bridle_control.retain import EVERYTHING, Limits
from bridle_control.retention import Retention
from bridle_control.store.api import NewEvent, Store, Tx
from bridle_control.store.sqlite import SqliteStore
from bridle_control.watch.hub import PROGRESS_EVERY, Hub, Target
from bridle_core.errors import BridleError, Reason
from tests.pair import Pair, running_pair, until
from tests.scenarios.support import NEVER, reaches, turn_ends
from tests.support.event_log import BOOKMARK_EVERY, Checked, Log, Recorder, check_log, validate
from tests.support.manual_clock import ManualClock
from tests.support.pace import paced
from tests.support.stores import a_session, an_event, begin, event_of, open_sqlite, parse

#: Rounds of the races: the short form, and the long one.
ROUNDS = 2000 if os.environ.get("WATCH_STRESS") == "full" else 200
OUTPUT = event_pb2.EVENT_KIND_TOOL_CALL_OUTPUT


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with open_sqlite(tmp_path / "store") as opened:
        await begin(opened, a_session("s1"))
        yield opened


async def append(store: Store, *events: NewEvent) -> int:
    return await store.write(lambda tx: tx.append_events("s1", events))


async def open_turn(store: Store, turn: int, *events: NewEvent) -> None:
    """A turn begins with these events; the row moves with it, as the projection has it."""
    started = event_pb2.TurnStarted(trigger=event_pb2.TURN_TRIGGER_AGENT)
    opening = event_of(event_pb2.Event(run=1, turn=turn, turn_started=started))

    def fn(tx: Tx) -> None:
        tx.update_session(a_session("s1", turn=turn, turn_open=True))
        tx.append_events("s1", [opening, *events])

    await store.write(fn)


def floor_told(error: BridleError) -> int:
    """The floor that a watch was refused with."""
    assert error.reason is Reason.CURSOR_COMPACTED
    return int(error.metadata["floor"])


async def rise(store: Store, floor: int) -> None:
    await store.write(lambda tx: tx.raise_floor("s1", floor))


async def whole(store: Store) -> Log:
    """The log as it is kept, however long."""
    events: list[event_pb2.Event] = []
    after, more = 0, True
    while more:
        part = await store.read(lambda tx: tx.events("s1", after, limit=1000))  # noqa: B023
        events += map(parse, part.framed)
        after, more = part.scanned, part.more
    return Log.of("s1", store.log_id, events)


# ---------------------------------------------------------------- exact moments


async def test_resuming_from_every_cursor_gives_exactly_what_lies_behind_it(store: Store) -> None:
    """Of a log of 1,000 events whose first 99 are gone: the floor, the end, the future."""
    hub = Hub(store, clock=ManualClock())
    await append(store, *[an_event(str(number)) for number in range(1000)])
    await rise(store, 100)
    log = await whole(store)
    checked, refusals = Checked(), 0
    for after in [*range(1001), 1001, 5000, 2**63 - 1]:
        recorder = Recorder()
        recorder.opened({"s1": after})
        try:
            async with aclosing(hub.watch([Target("s1", after)], principal_key="me")) as stream:
                while True:
                    recorder.said(watch_pb2.WatchResponse.FromString(await anext(stream)))
                    if recorder.of("s1").cursor() >= 1000:
                        break
        except BridleError as error:
            recorder.refused("s1", floor_told(error))
            refusals += 1
        else:
            checked += validate(log, recorder, complete=True)
            continue
        validate(log, recorder)
    assert refusals == 98  # 1 … 98: what 99 has seen is gone, but not what lies behind it
    assert checked.events == 901 + sum(range(902))


async def test_a_floor_that_rises_past_a_slow_reader_is_told_and_never_a_silent_gap(
    store: Store,
) -> None:
    """At exactly its next event, one before, one behind, far ahead; 200 rounds of a seed, through
    the memory of the hub and through the store, with a filter and without one."""
    chance = random.Random(17529)
    hub = Hub(store, clock=ManualClock())
    recorders: list[Recorder] = []
    told, delivered = 0, 0
    for _ in range(ROUNDS):
        await append(store, *[an_event("x" * chance.randrange(200))] * chance.randrange(300, 700))
        bounds = await store.read(lambda tx: tx.bounds("s1"))
        assert bounds is not None
        kinds = [OUTPUT] if chance.random() < 0.3 else []
        after = bounds.floor - 1 + chance.randrange(bounds.head - bounds.floor)
        recorder = Recorder(kinds)
        recorders.append(recorder)
        recorder.opened({"s1": after})
        history = recorder.of("s1")
        stream = hub.watch([Target("s1", after)], principal_key="me", kinds=kinds)
        async with aclosing(stream):
            for _ in range(chance.randrange(1, 3)):
                recorder.said(watch_pb2.WatchResponse.FromString(await anext(stream)))
            # It sleeps before its next read, and meanwhile:
            if chance.random() < 0.5:
                await append(store, an_event("live"))
            if chance.random() < 0.5:
                hub._channels["s1"].rest()
            bounds = await store.read(lambda tx: tx.bounds("s1"))
            assert bounds is not None
            floor = history.cursor() + 1 + chance.choice([-1, 0, 1, 1, 2, 100, 10_000])
            await rise(store, min(floor, bounds.head))
            try:
                async with asyncio.timeout(20):
                    while history.cursor() < bounds.head:
                        recorder.said(watch_pb2.WatchResponse.FromString(await anext(stream)))
                delivered += 1
            except BridleError as error:
                recorder.refused("s1", floor_told(error))
                told += 1
    log = await whole(store)
    log.learn(recorders)
    for recorder in recorders:
        validate(log, recorder)
    assert told > ROUNDS // 10
    assert delivered > ROUNDS // 10


async def test_bookmarks_come_in_time_and_never_ahead_of_an_event(store: Store) -> None:
    """A quiet session beside a busy one, a read that takes long before it is sent (etcd#15220)."""
    clock = ManualClock()
    slow = SlowReads(store)
    hub = Hub(slow, clock=clock)  # type: ignore[arg-type]
    await begin(store, a_session("s2"))
    chance = random.Random(15220)
    recorder = Recorder()
    recorder.opened({"s1": 0, "s2": 0})
    bookmarks: dict[str, list[float]] = {"s1": [clock.now()], "s2": [clock.now()]}

    async def read(stream: AsyncIterator[bytes]) -> None:
        async for message in stream:
            said = watch_pb2.WatchResponse.FromString(message)
            recorder.said(said)
            if said.HasField("progress"):
                bookmarks[said.progress.session_id].append(clock.now())
            elif said.HasField("events"):
                bookmarks[said.events.session_id].append(clock.now())

    async with (
        aclosing(hub.watch([Target("s1"), Target("s2")], principal_key="me")) as stream,
        asyncio.TaskGroup() as tasks,
    ):
        reading = tasks.create_task(read(stream))
        for number in range(300):
            slow.pauses = chance.randrange(20)
            await append(store, an_event(str(number)))
            if number % 40 == 39:
                hub._channels["s1"].rest()
            for _ in range(chance.randrange(10)):
                await asyncio.sleep(0)
            clock.advance(chance.choice([0.1, 0.1, 0.1, PROGRESS_EVERY / 2]))
            # Virtual time waits for what is due, as real time would not notice: a read takes the
            # threads' time, whatever this clock says.
            async with asyncio.timeout(30):
                while clock.now() - bookmarks["s2"][-1] >= PROGRESS_EVERY:  # noqa: ASYNC110
                    await asyncio.sleep(0)
        async with asyncio.timeout(30):
            while recorder.of("s1").cursor() < 300:  # noqa: ASYNC110
                await asyncio.sleep(0)
        for _ in range(4):
            clock.advance(PROGRESS_EVERY)
            heard = len(bookmarks["s2"])
            async with asyncio.timeout(30):
                while len(bookmarks["s2"]) == heard:  # noqa: ASYNC110
                    await asyncio.sleep(0)
        reading.cancel()
    checked = validate(await whole(store), recorder, complete=True)
    assert checked.events == 300
    assert checked.bookmarks >= 3
    # The quiet one's: what was told is as late as the clock was moved on, at the most.
    gaps = [later - at for at, later in zip(bookmarks["s2"], bookmarks["s2"][1:], strict=False)]
    assert len(gaps) >= 4
    assert max(gaps) <= BOOKMARK_EVERY + PROGRESS_EVERY / 2


async def test_a_bookmark_within_a_long_filtered_replay_is_no_further_than_the_replay(
    store: Store,
) -> None:
    """Most of the log is left out, the last event is not; Progress comes before it was reached."""
    clock = ManualClock()
    hub = Hub(store, clock=clock)
    for _ in range(10):
        await append(store, *[an_event()] * 4000)
    over = event_of(event_pb2.Event(run=1, turn=1, turn_ended=event_pb2.TurnEnded()))
    await append(store, over)
    kinds = [event_pb2.EVENT_KIND_TURN_ENDED]
    recorder = Recorder(kinds)
    recorder.opened({"s1": 0})
    history = recorder.of("s1")
    async with aclosing(hub.watch([Target("s1")], principal_key="me", kinds=kinds)) as stream:
        while history.cursor() < 40_001:
            recorder.said(watch_pb2.WatchResponse.FromString(await anext(stream)))
            clock.advance(PROGRESS_EVERY)
    checked = validate(await whole(store), recorder, complete=True)
    assert checked.events == 1
    assert checked.bookmarks >= 3


class SlowReads:
    """A store whose reads reach the reader only rounds of the loop after they were made."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.pauses = 0
        self.log_id = store.log_id
        self.listen = store.listen
        self.write = store.write

    async def read(self, fn):  # type: ignore[no-untyped-def]
        found = await self._store.read(fn)
        for _ in range(self.pauses):
            await asyncio.sleep(0)
        return found


# ---------------------------------------------------------------- under way


async def test_retention_under_way_breaks_no_promise_of_any_watcher(store: SqliteStore) -> None:
    """A writer, compactions without a pause, watchers of all manners that leave and come back."""
    chance = random.Random(18089)
    hub = Hub(store, clock=ManualClock())
    retention = Retention(store, Limits(events=400), EVERYTHING, clock=ManualClock())
    over = asyncio.Event()
    recorders = [Recorder([OUTPUT] if number % 3 == 2 else []) for number in range(8)]

    connections = 0

    async def write() -> None:
        for turn in itertools.count(1):
            if turn > 120 and connections > 50:
                break
            said = [an_event("x" * 100, turn=turn)] * chance.randrange(1, 150)
            await open_turn(store, turn, *said)
            await asyncio.sleep(0)
        over.set()

    async def compact() -> None:
        while not over.is_set():
            await retention.round()
            await asyncio.sleep(0)

    async def watch(number: int) -> None:
        nonlocal connections
        recorder, own = recorders[number], random.Random(number)
        cursor = 0
        while not over.is_set():
            recorder.opened({"s1": cursor})
            connections += 1
            target = Target("s1", cursor, log_id=store.log_id)
            stream = hub.watch([target], principal_key="me", kinds=recorder.kinds)
            try:
                async with aclosing(stream):
                    for _ in range(own.randrange(1, 30)):
                        async with asyncio.timeout(0.2):
                            message = await anext(stream)
                        recorder.said(watch_pb2.WatchResponse.FromString(message))
                        for _ in range(number * own.randrange(4)):
                            await asyncio.sleep(0)
            except TimeoutError:
                recorder.lost()
                cursor = recorder.of("s1").cursor()
            except BridleError as error:
                recorder.refused("s1", floor_told(error))
                cursor = 0  # as the contract says
            else:
                recorder.lost()
                cursor = recorder.of("s1").cursor() if own.random() < 0.8 else 0

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        tasks.create_task(compact())
        for number in range(len(recorders)):
            tasks.create_task(watch(number))
    log = await whole(store)
    log.learn(recorders)
    checked = Checked()
    for recorder in recorders:
        checked += validate(log, recorder)
    assert log.floor > 3000
    assert checked.events > 5000
    assert checked.connections > 50


async def test_compaction_does_not_hold_up_the_writer(store: SqliteStore) -> None:
    """While 200,000 events go, 99 of 100 commits of a single event take half a second at the
    most. (Held up, there would be a few, as long as all that goes takes.)"""
    for turn in range(1, 51):
        await open_turn(store, turn, *[an_event("x" * 250, turn=turn)] * 4000)
    before = await store.read(lambda tx: tx.log_size("s1"))
    retention = Retention(store, Limits(events=100), EVERYTHING, clock=ManualClock())
    waits: list[float] = []
    done = asyncio.Event()

    async def write() -> None:
        while not done.is_set():
            begun = time.perf_counter()
            await append(store, an_event("one"))
            waits.append(time.perf_counter() - begun)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        begun = time.perf_counter()
        gone = await retention.round()
        took = time.perf_counter() - begun
        done.set()
    assert before is not None
    assert gone == before.events - 4001  # the newest turn stays
    waits.sort()
    print(
        f"\n  {gone} events let go of in {took:.1f} s; meanwhile {len(waits)} commits,"
        f" p99 {waits[int(len(waits) * 0.99)] * 1e3:.1f} ms, max {waits[-1] * 1e3:.1f} ms"
    )
    # (Of a hundred, one may be the machine's: it stands still for longer at times.)
    assert len(waits) > 50
    assert waits[int(len(waits) * 0.99) - 1] < paced(0.5)


# ---------------------------------------------------------------- what people see


async def test_people_see_where_a_log_begins_and_go_on_over_a_killed_control(
    tmp_path: Path,
) -> None:
    """The real pair, with --retain-per-session: a watcher that keeps up sees all, over a kill -9 of
    control; one that comes late is told of the floor, by the SDK and on the terminal."""
    retain = ("--retain-per-session", "60ev")
    async with running_pair(tmp_path, control_arguments=retain) as pair:
        client = pair.client
        await client.start_session("long", agent="shell")
        recorder = Recorder()
        seen: list[event_pb2.Event] = []

        async def keep_up() -> None:
            async for update in client.watch("long", until=NEVER).updates():
                recorder.update(update)
                if isinstance(update.item, event_pb2.Event):
                    seen.append(update.item)

        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(keep_up())
            for turn in range(1, 13):
                await client.send("long", f"echo {turn}")
                await turn_ends(pair, "long", turn)
            floor = await floor_of(pair, above=1)
            await pair.restart_control(signal.SIGKILL)
            assert await floor_of(pair, above=floor - 1) >= floor
            waiting = await blocked(pair, 13)
            higher = await floor_of(pair, above=floor)
            await client.interrupt("long")
            await turn_ends(pair, "long", 14)
            head = await settled(pair, 60)

            async def caught_up() -> bool:
                return seen[-1].sequence >= head

            await until(caught_up, "the watcher has all")
            watching.cancel()
        session = await client.get_session("long")
        events = [event async for event in client.list_events("long")]
        log = Log.of(session.session_id, session.log_id, events)
        assert log.floor == session.floor_sequence >= higher
        assert log.head == head
        log.learn([recorder])
        assert validate(log, recorder).events == len(seen)
        assert [event.sequence for event in seen] == list(range(1, len(seen) + 1))
        check_log(Log.of(session.session_id, session.log_id, [*seen[: log.floor - 1], *events]))
        assert waiting >= higher
        await what_the_sdk_says(pair, log)
        await what_the_terminal_shows(pair, log)


async def floor_of(pair: Pair, *, above: int) -> int:
    """The session's floor, once it is above a sequence."""
    found = 0

    async def rose() -> bool:
        nonlocal found
        found = (await pair.client.get_session("long")).floor_sequence
        return found > above

    await until(rose, f"the floor is above {above}")
    return found


async def settled(pair: Pair, kept: int) -> int:
    """The end of the session's log, once nothing is added any more and nothing taken away."""
    await reaches(pair, "long", session_pb2.PHASE_IDLE)
    head = 0

    async def still() -> bool:
        nonlocal head
        session = await pair.client.get_session("long")
        head = session.last_sequence
        return head - session.floor_sequence < kept

    await until(still, f"no more than {kept} events are kept")
    return head


async def blocked(pair: Pair, turn: int) -> int:
    """A turn that stays open and says much, and an input that waits behind it; the sequence of
    the older one's InputQueued."""
    sent = await pair.client.send("long", "seq 1 3; sleep 600")
    waits = await pair.client.send("long", "echo waits")
    async for event in pair.client.watch("long", until=NEVER):
        if event.WhichOneof("kind") == "tool_call_output" and event.turn == turn:
            break
    assert waits.receipt.sequence > sent.receipt.sequence
    return sent.receipt.sequence


async def what_the_sdk_says(pair: Pair, log: Log) -> None:
    client = pair.client
    async with client.watch("long", until=NEVER) as watch:
        told = [await anext(watch.updates()) for _ in range(3)]
        assert isinstance(told[1].item, watch_pb2.Compacted)
        assert told[1].item.floor_sequence == log.floor
        assert isinstance(told[2].item, event_pb2.Event)
        assert told[2].item.sequence == log.floor
    async with client.watch("long", after_sequence=log.floor - 2, until=NEVER) as watch:
        with pytest.raises(bridle.CursorCompactedError) as refused:
            await anext(watch.updates())
        assert refused.value.metadata["floor"] == str(log.floor)
    for watch in (
        client.watch("long", after_sequence=log.floor - 1, until=NEVER),
        client.watch("long", tail=1000, until=NEVER),
    ):
        async with watch:
            assert (await anext(aiter(watch))).sequence == log.floor


async def what_the_terminal_shows(pair: Pair, log: Log) -> None:
    gone = f"events before {log.floor} are gone"
    late = await pair.cli("session", "watch", "long", "--from", "2", "--no-follow")
    assert late.code == 1
    assert re.search(rf"OUT_OF_RANGE: [^\n]*begins at {log.floor}\n", late.err)
    assert "hint: `--from 0`" in late.err
    assert late.out == ""
    for words in ((), ("--from", "0"), ("--json",)):
        shown = await pair.cli("session", "watch", "long", "--no-follow", *words)
        assert shown.code == 0, shown.err
        assert gone in shown.err
        assert "echo 1\n" not in shown.out
    at = await pair.cli("session", "watch", "long", "--no-follow", "--from", str(log.floor))
    assert (at.code, at.err) == (0, "")
    transcript = await pair.cli("session", "transcript", "long")
    assert transcript.code == 0
    assert gone in transcript.err
    turns = await pair.cli("session", "turns", "long")
    assert turns.code == 0
    assert gone in turns.err


async def test_a_limit_that_is_none_is_told_before_anything_starts(tmp_path: Path) -> None:
    async with running_pair(tmp_path, host=False) as pair:
        wrong = await pair.cli("up", "--port", "0", "--temporary", "--retain-total", "plenty")
        assert wrong.code == 1
        assert "retain-total: 'plenty' is no limit: write 100000ev, 1GiB or 30d" in wrong.err
