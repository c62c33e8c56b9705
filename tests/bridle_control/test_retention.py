"""Retention: what is let go of, and what never is."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridle.v1 import event_pb2, input_pb2, session_pb2
from bridle_control.retain import EVERYTHING, Limits
from bridle_control.retention import AGE_PERIOD, PERIOD, Retention
from bridle_control.store.api import ApprovalRow, InputRow, NewEvent, Store, Tx
from bridle_control.store.sqlite import SqliteStore
from bridle_control.store.sqlite_errors import store_full
from tests.support.manual_clock import ManualClock
from tests.support.stores import a_session, an_event, append, begin, event_of, open_sqlite

SECOND = 10**9
WAITING, CONSUMED = input_pb2.INPUT_STATE_WAITING, input_pb2.INPUT_STATE_CONSUMED


class Wall:
    """The store's clock, in nanoseconds."""

    def __init__(self) -> None:
        self.now = 1_000_000 * SECOND

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
async def store(tmp_path: Path, wall: Wall) -> AsyncIterator[SqliteStore]:
    async with open_sqlite(tmp_path / "store", clock=wall) as opened:
        await begin(opened)
        yield opened


def kind(run: int = 1, turn: int = 0, **values: Any) -> NewEvent:
    return event_of(event_pb2.Event(run=run, turn=turn, **values))


async def log(store: Store, *events: NewEvent, session_id: str = "s1", **row: Any) -> int:
    """Appends events, and sets fields of the row, as the projection does; the first sequence."""

    def fn(tx: Tx) -> int:
        session = tx.session(session_id)
        assert session is not None
        tx.update_session(replace(session, **row))
        return tx.append_events(session_id, events)

    return await store.write(fn)


async def start(store: Store, session_id: str = "s1", run: int = 1) -> int:
    opening = (
        kind(run, session_started=event_pb2.SessionStarted())
        if run == 1
        else kind(run, session_resumed=event_pb2.SessionResumed())
    )
    up = kind(run, process_started=event_pb2.ProcessStarted())
    return await log(store, opening, up, session_id=session_id, run=run)


async def turn(
    store: Store, number: int, outputs: int, *, session_id: str = "s1", inputs: Iterable[str] = ()
) -> int:
    """A whole turn; its TurnStarted's sequence."""
    first = await open_turn(store, number, outputs, session_id=session_id, inputs=inputs)
    over = kind(turn=number, turn_ended=event_pb2.TurnEnded())
    await log(store, over, session_id=session_id, turn_open=False)
    return first


async def open_turn(
    store: Store, number: int, outputs: int, *, session_id: str = "s1", inputs: Iterable[str] = ()
) -> int:
    begun = kind(turn=number, turn_started=event_pb2.TurnStarted(input_ids=inputs))
    said = [an_event("x" * 100, turn=number)] * outputs
    return await log(store, begun, *said, session_id=session_id, turn=number, turn_open=True)


async def an_input(store: Store, input_id: str, state: int = WAITING) -> int:
    """An input; its InputQueued's sequence."""
    queued = kind(input_queued=event_pb2.InputQueued(input_id=input_id))

    def fn(tx: Tx) -> int:
        sequence = tx.append_events("s1", [queued])
        tx.insert_input(InputRow(input_id, "s1", sequence, b"", 1, state, tx.now))
        return sequence

    return await store.write(fn)


async def floor(store: Store, session_id: str = "s1") -> int:
    bounds = await store.read(lambda tx: tx.bounds(session_id))
    assert bounds is not None
    return bounds.floor


async def kept(store: Store, session_id: str = "s1") -> int:
    size = await store.read(lambda tx: tx.log_size(session_id))
    assert size is not None
    return size.events


def retention(
    store: Store,
    per_session: str = "",
    total: str = "",
    clock: ManualClock | None = None,
    step_events: int = 50,
) -> Retention:
    return Retention(
        store,
        Limits.parse(per_session) if per_session else EVERYTHING,
        Limits.parse(total) if total else EVERYTHING,
        clock=clock or ManualClock(),
        step_events=step_events,
    )


# ---------------------------------------------------------------- the limits


async def test_a_session_keeps_its_newest_events_up_to_a_number(store: Store) -> None:
    await start(store)
    for number in range(1, 31):
        await turn(store, number, 20)
    assert await retention(store, "100ev").round() == 2 + 30 * 22 - 100
    assert await kept(store) == 100
    assert await retention(store, "100ev").round() == 0


async def test_a_session_keeps_its_newest_events_up_to_a_size(store: Store) -> None:
    await start(store)
    for number in range(1, 31):
        await turn(store, number, 20)
    await retention(store, "20kB").round()
    size = await store.read(lambda tx: tx.log_size("s1"))
    assert size is not None
    assert 20_000 - 200 < size.bytes <= 20_000


async def test_events_go_when_they_are_too_old(store: Store, wall: Wall) -> None:
    clock = ManualClock()
    await start(store)
    aged = retention(store, "1h", clock=clock)
    for number in range(1, 11):
        last = await turn(store, number, 10)
        wall.now += 600 * SECOND
    # The newest was committed ten minutes ago; six are not older than an hour.
    assert await aged.round() > 0
    assert await floor(store) == last - 5 * 12
    wall.now += 600 * SECOND
    assert await aged.round() == 0  # ages are looked at once a minute
    clock.advance(AGE_PERIOD)
    assert await aged.round() == 12
    wall.now += 10**6 * SECOND
    clock.advance(AGE_PERIOD)
    await aged.round()
    assert await floor(store) == last  # its newest turn stays


async def test_of_all_sessions_together_the_oldest_events_go_first(
    store: Store, wall: Wall
) -> None:
    await begin(store, *(a_session(f"t{n}") for n in range(3)))
    for number in range(1, 6):
        for name in ("t0", "t1", "t2"):
            await turn(store, number, 98, session_id=name)
            wall.now += SECOND
    assert await retention(store, total="700ev").round() == 800
    assert (await store.read(lambda tx: tx.log_totals()))[0] == 700
    # Nine turns of a hundred are the oldest but for what is needed; eight of them are gone.
    assert [await kept(store, f"t{n}") for n in range(3)] == [200, 200, 300]


async def test_the_total_may_be_one_of_bytes(store: Store) -> None:
    await begin(store, a_session("t0"))
    for number in range(1, 11):
        await turn(store, number, 50)
        await turn(store, number, 50, session_id="t0")
    await retention(store, total="50kB").round()
    _, size = await store.read(lambda tx: tx.log_totals())
    assert 50_000 - 10_000 < size <= 50_000


async def test_both_kinds_of_limits_hold_together(store: Store) -> None:
    await begin(store, a_session("t0"))
    for number in range(1, 11):
        await turn(store, number, 98)
        await turn(store, number, 8, session_id="t0")
    await retention(store, "500ev", "450ev").round()
    assert await kept(store) <= 400
    assert (await store.read(lambda tx: tx.log_totals()))[0] == 450


async def test_by_default_nothing_goes(store: Store, wall: Wall) -> None:
    await turn(store, 1, 1000)
    await turn(store, 2, 1)
    wall.now += 10**9 * SECOND
    everything = retention(store)
    assert await everything.round() == 0
    await everything.run()  # returns: there is nothing to do
    assert await floor(store) == 1


# ---------------------------------------------------------------- what is never let go of


async def test_the_floor_never_passes_an_open_turn(store: Store) -> None:
    await start(store)
    await turn(store, 1, 10)
    first = await open_turn(store, 2, 300)
    small = retention(store, "5ev")
    await small.round()
    assert await floor(store) == first
    await append(store, "s1", *"abc")
    assert await small.round() == 0
    # Nor the newest one when it is over, until there is another.
    await log(store, kind(turn=2, turn_ended=event_pb2.TurnEnded()), turn_open=False)
    assert await small.round() == 0
    newer = await turn(store, 3, 9)
    await small.round()
    assert await floor(store) == newer


async def test_the_floor_never_passes_the_inputs_of_the_newest_turn(store: Store) -> None:
    await start(store)
    await turn(store, 1, 50)
    queued = await an_input(store, "i1", CONSUMED)
    await append(store, "s1", *["x"] * 20)
    await turn(store, 2, 50, inputs=["i1", "gone"])
    await retention(store, "5ev").round()
    assert await floor(store) == queued


async def test_the_floor_never_passes_an_input_that_waits(store: Store) -> None:
    await start(store)
    await turn(store, 1, 50)
    queued = await an_input(store, "i1")
    for number in range(2, 5):
        await turn(store, number, 50)
    small = retention(store, "5ev")
    await small.round()
    assert await floor(store) == queued

    def cancel(tx: Tx) -> None:
        row = tx.input("i1")
        assert row is not None
        tx.update_input(replace(row, state=input_pb2.INPUT_STATE_CANCELLED))

    await store.write(cancel)
    newest = await turn(store, 5, 9)
    await small.round()
    assert await floor(store) == newest


async def test_the_floor_never_passes_an_open_approval(store: Store) -> None:
    await start(store)
    await turn(store, 1, 50)
    asked = await append(store, "s1", "may I?")
    row = ApprovalRow("s1", "a1", 1, 1, asked)
    await store.write(lambda tx: tx.put_approval(row))
    await turn(store, 2, 50)
    small = retention(store, "5ev")
    await small.round()
    assert await floor(store) == asked
    await store.write(lambda tx: tx.put_approval(replace(row, decision=1)))
    newest = await turn(store, 3, 9)
    await small.round()
    assert await floor(store) == newest


async def test_an_input_that_waits_again_before_the_floor_rises_stays(store: Store) -> None:
    """The limit is found in a snapshot, and looked at again in the write."""
    await start(store)
    queued = await an_input(store, "i1", CONSUMED)
    await turn(store, 1, 50)
    await turn(store, 2, 5)

    def returns(tx: Tx) -> None:
        row = tx.input("i1")
        assert row is not None
        tx.update_input(replace(row, state=WAITING))

    class Between(SqliteStore):
        async def write(self, fn: Any, **options: Any) -> Any:
            await store.write(returns)
            return await store.write(fn, **options)

    between: Any = object.__new__(Between)
    between.read, between.listen = store.read, store.listen
    await retention(between, "5ev").round()
    assert await floor(store) == queued


async def test_a_run_that_has_had_no_turn_keeps_its_start(store: Store) -> None:
    first = await start(store)
    await append(store, "s1", *["x"] * 50)
    small = retention(store, "5ev")
    assert await small.round() == 0
    await turn(store, 1, 5)
    await small.round()
    assert await floor(store) > first
    ended = event_pb2.SessionEnded(phase=session_pb2.PHASE_STOPPED)
    await log(store, kind(session_ended=ended), phase=session_pb2.PHASE_STOPPED)
    second = await start(store, run=2)
    await append(store, "s1", *["x"] * 50)
    await retention(store, "5ev").round()
    assert await floor(store) == second


async def test_a_log_that_has_not_begun_is_left_alone(store: Store) -> None:
    await an_input(store, "i1", CONSUMED)
    await append(store, "s1", *["x"] * 50)
    assert await retention(store, "5ev").round() == 0
    assert await retention(store, total="5ev").round() == 0


# ---------------------------------------------------------------- how


async def test_the_floor_rises_in_steps_so_that_no_write_waits_for_it(store: Store) -> None:
    await start(store)
    for number in range(1, 11):
        await turn(store, number, 98)
    steps: list[int] = []
    store.listen(lambda changes: steps.append(len(changes.sessions)))
    await retention(store, "100ev").round()
    assert len(steps) == (2 + 1000 - 100 + 49) // 50


async def test_large_events_make_smaller_steps(store: Store) -> None:
    await start(store)
    await log(store, *[an_event("x" * 1024 * 1024)] * 9)
    await turn(store, 1, 1)
    steps: list[int] = []
    store.listen(lambda changes: steps.append(1))
    await retention(store, "3ev").round()
    assert await kept(store) == 3
    assert len(steps) >= 3


async def test_the_room_of_what_went_is_free_and_used_again(tmp_path: Path) -> None:
    file = tmp_path / "store" / "bridle.sqlite3"
    sizes = []
    # (With checkpoints often enough that all that is written goes through the file.)
    async with open_sqlite(tmp_path / "store", checkpoint_bytes=256 * 1024) as store:
        await begin(store)
        await start(store)
        small = retention(store, "2000ev", step_events=2000)
        for number in range(1, 41):
            await turn(store, number, 1000)
            await small.round()
            sizes.append(file.stat().st_size)
        assert await store.write(lambda tx: tx.purge_events(10)) == 0
    # The first rounds find their room; then 40,000 events go through the room of a few thousand.
    assert 2000 * 100 < max(sizes) < 8 * 2000 * 300
    assert sizes[-1] <= max(sizes[:15]) * 1.25


async def test_it_goes_round_by_itself_and_only_when_something_came(store: Store) -> None:
    clock = ManualClock()
    small = retention(store, "10ev", clock=clock)
    task = asyncio.get_running_loop().create_task(small.run())
    try:
        async with asyncio.timeout(30):
            while not clock.waiting:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0)
            await turn(store, 1, 100)
            last = await turn(store, 2, 2)
            clock.advance(PERIOD)
            while await floor(store) < last - 7:  # noqa: ASYNC110
                await asyncio.sleep(0)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_round_that_fails_is_made_again(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    failing: Any = object.__new__(SqliteStore)
    failing.listen = store.listen
    calls = 0

    async def read(fn: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise store_full()
        return await store.read(fn)

    failing.read, failing.write = read, store.write
    await turn(store, 1, 100)
    last = await turn(store, 2, 20)
    small = retention(failing, "10ev", clock=clock)
    task = asyncio.get_running_loop().create_task(small.run())
    try:
        async with asyncio.timeout(30):
            while not clock.waiting:  # noqa: ASYNC110
                await asyncio.sleep(0)
            assert "retention failed" in caplog.text
            clock.advance(PERIOD)
            while await floor(store) < last:  # noqa: ASYNC110
                await asyncio.sleep(0)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    ("per_session", "total"), [("4ev", ""), ("", "8ev"), ("60s", ""), ("", "60s")]
)
@pytest.mark.parametrize("place", ["the begin of the newest turn", "the oldest event"])
async def test_a_damaged_log_is_left_alone_and_told_of_and_the_others_are_kept_within_their_limits(
    store: SqliteStore,
    tmp_path: Path,
    wall: Wall,
    caplog: pytest.LogCaptureFixture,
    per_session: str,
    total: str,
    place: str,
) -> None:
    await begin(store, a_session("s2"), a_session("s3"))
    for session_id in ("s1", "s2", "s3"):
        await start(store, session_id)
        await turn(store, 1, 20, session_id=session_id)
        wall.now += SECOND
        last = await turn(store, 2, 2, session_id=session_id)
    wall.now += 3600 * SECOND
    damaged = last if place == "the begin of the newest turn" else 1
    with closing(sqlite3.connect(tmp_path / "store" / "bridle.sqlite3")) as connection, connection:
        connection.execute(
            "UPDATE events SET crc = crc + 1 WHERE sequence = ?"
            " AND log = (SELECT log FROM sessions WHERE session_id = 's2')",
            (damaged,),
        )
    small = retention(store, per_session, total)
    await small.round()
    await small.round()
    assert await floor(store, "s1") == last
    assert await floor(store, "s3") == last
    if damaged == last:
        assert await floor(store, "s2") == 1
        assert [record.message for record in caplog.records].count(
            "a damaged log is left as it is"
        ) == 1
