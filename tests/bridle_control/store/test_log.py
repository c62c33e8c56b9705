"""What every store promises of the log: numbers, bytes, filters, floors."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from bridle.v1 import event_pb2, principal_pb2
from bridle_control.store.api import LogBounds, Store, StoreFaultError, Term, Tx
from tests.support.stores import a_session, an_event, append, begin, event_of, parse


def texts(framed: tuple[bytes, ...]) -> list[str]:
    return [parse(each).tool_call_output.text for each in framed]


async def test_events_get_their_numbers_and_control_adds_its_fields(store: Store) -> None:
    await begin(store)
    alice = principal_pb2.Principal(kind=principal_pb2.PRINCIPAL_KIND_USER, id="t1", name="alice")

    def fn(tx: Tx) -> tuple[int, int]:
        said = replace(an_event("two"), principal=alice.SerializeToString())
        return tx.append_events("s1", [an_event("one"), said]), tx.now

    first, now = await store.write(fn)
    assert first == 1
    part = await store.read(lambda tx: tx.events("s1", 0))
    one, two = map(parse, part.framed)
    assert (one.sequence, two.sequence) == (1, 2)
    assert one.commit_time.ToNanoseconds() == now
    assert one.time.ToNanoseconds() == 5 * 10**9
    assert (one.run, one.turn, one.tool_call_output.text) == (1, 1, "one")
    assert not one.HasField("principal")
    assert two.principal == alice
    assert part.sequences == (1, 2)
    assert (part.scanned, part.more) == (2, False)


async def test_sequences_have_no_gaps_however_many_write(store: Store) -> None:
    await begin(store, a_session("s1"), a_session("s2"))

    async def writer(number: int) -> None:
        for step in range(10):
            await append(store, f"s{number % 2 + 1}", *[f"{number}.{step}.{n}" for n in range(3)])

    await asyncio.gather(*(writer(number) for number in range(12)))
    for session_id in ("s1", "s2"):
        part = await store.read(lambda tx, each=session_id: tx.events(each, 0, limit=1000))  # type: ignore[misc]
        assert part.sequences == tuple(range(1, 181))
        assert [parse(each).sequence for each in part.framed] == list(part.sequences)
        said = texts(part.framed)
        for writer_number in {text.split(".")[0] for text in said}:
            own = [text for text in said if text.startswith(f"{writer_number}.")]
            assert own == sorted(own)


async def test_nothing_is_appended_to_a_session_that_is_not_there(store: Store) -> None:
    with pytest.raises(StoreFaultError):
        await append(store, "none", "one")


async def test_reads_go_on_from_a_cursor_and_stop_at_a_count_or_a_size(store: Store) -> None:
    await begin(store)
    await append(store, "s1", *(f"{n:03}" for n in range(1, 201)))
    part = await store.read(lambda tx: tx.events("s1", 150, limit=20))
    assert part.sequences == tuple(range(151, 171))
    assert (part.scanned, part.more) == (170, True)
    part = await store.read(lambda tx: tx.events("s1", 190, limit=20))
    assert (len(part.sequences), part.scanned, part.more) == (10, 200, False)
    size = len((await store.read(lambda tx: tx.events("s1", 0, limit=1))).framed[0])
    part = await store.read(lambda tx: tx.events("s1", 0, max_bytes=size * 70))
    assert (len(part.sequences), part.scanned, part.more) == (70, 70, True)
    # The first one always comes, or nobody could ever read beyond it.
    part = await store.read(lambda tx: tx.events("s1", 7, max_bytes=1))
    assert (part.sequences, part.scanned, part.more) == ((8,), 8, True)
    part = await store.read(lambda tx: tx.events("s1", 200))
    assert (part.sequences, part.scanned, part.more) == ((), 200, False)
    part = await store.read(lambda tx: tx.events("s1", 999))
    assert (part.sequences, part.scanned) == ((), 999)
    assert (await store.read(lambda tx: tx.events("none", 0))).framed == ()


async def test_reads_go_backwards(store: Store) -> None:
    await begin(store)
    await append(store, "s1", *(f"{n:03}" for n in range(1, 101)))
    part = await store.read(lambda tx: tx.events("s1", 0, descending=True, limit=3))
    assert (part.sequences, part.scanned, part.more) == ((100, 99, 98), 98, True)
    part = await store.read(lambda tx: tx.events("s1", 3, descending=True, limit=3))
    assert (part.sequences, part.scanned, part.more) == ((2, 1), 1, False)
    part = await store.read(lambda tx: tx.events("s1", 1, descending=True))
    assert part.sequences == ()
    size = len((await store.read(lambda tx: tx.events("s1", 0, limit=1))).framed[0])
    part = await store.read(lambda tx: tx.events("s1", 0, descending=True, max_bytes=2 * size))
    assert (part.sequences, part.scanned) == ((100, 99), 99)


async def test_reads_choose_by_kind_run_and_turn_and_still_say_how_far_they_came(
    store: Store,
) -> None:
    await begin(store)
    ended = event_pb2.Event(run=2, turn=4)
    ended.turn_ended.message = "over"
    events = [an_event(turn=n, run=1 + n // 5) for n in range(1, 9)]
    events.insert(5, event_of(ended))
    await store.write(lambda tx: tx.append_events("s1", events))

    def fn(tx: Tx) -> list[tuple[tuple[int, ...], int, bool]]:
        parts = [
            tx.events("s1", 0, kinds=[event_pb2.EVENT_KIND_TURN_ENDED]),
            tx.events("s1", 6, kinds=[event_pb2.EVENT_KIND_TURN_ENDED]),
            tx.events("s1", 0, terms=[Term("turn", 4)]),
            tx.events("s1", 0, terms=[Term("turn", 4, equal=False), Term("run", 2)], limit=2),
            tx.events("s1", 0, terms=[Term("run", 1)], descending=True, limit=1),
            tx.events("s1", 0, terms=[Term("kind", event_pb2.EVENT_KIND_TURN_ENDED, equal=False)]),
        ]
        return [(part.sequences, part.scanned, part.more) for part in parts]

    by_kind, behind, by_turn, by_run, backwards, others = await store.read(fn)  # type: ignore[arg-type]
    assert by_kind == ((6,), 9, False)
    assert behind == ((), 9, False)
    assert by_turn == ((4, 6), 9, False)
    assert by_run == ((5, 7), 7, True)
    assert backwards == ((4,), 4, True)
    assert others == ((1, 2, 3, 4, 5, 7, 8, 9), 9, False)
    with pytest.raises(StoreFaultError):
        await store.read(lambda tx: tx.events("s1", 0, terms=[Term("time", 1)]))


async def test_a_filtered_read_of_a_long_log_comes_back_in_bits(store: Store) -> None:
    await begin(store)
    for _ in range(5):
        await append(store, "s1", *["x"] * 4000)
    kinds = [event_pb2.EVENT_KIND_TURN_ENDED]
    part = await store.read(lambda tx: tx.events("s1", 0, kinds=kinds))
    assert part.framed == ()
    assert part.more
    assert 0 < part.scanned < 20_000
    part = await store.read(lambda tx: tx.events("s1", part.scanned, kinds=kinds))
    assert (part.scanned, part.more) == (20_000, False)


async def test_nothing_below_the_floor_is_read_again(store: Store) -> None:
    await begin(store)
    assert await store.read(lambda tx: tx.bounds("s1")) == LogBounds(1, 0)
    await append(store, "s1", *map(str, range(1, 11)))
    await store.write(lambda tx: tx.raise_floor("s1", 8))
    await store.write(lambda tx: tx.raise_floor("s1", 3))
    assert await store.read(lambda tx: tx.bounds("s1")) == LogBounds(8, 10)
    assert (await store.read(lambda tx: tx.events("s1", 0))).sequences == (8, 9, 10)
    down = await store.read(lambda tx: tx.events("s1", 0, descending=True))
    assert (down.sequences, down.more) == ((10, 9, 8), False)
    with pytest.raises(StoreFaultError):
        await store.write(lambda tx: tx.raise_floor("s1", 12))
    await store.write(lambda tx: tx.raise_floor("s1", 11))
    assert (await store.read(lambda tx: tx.events("s1", 0))).sequences == ()
    assert await append(store, "s1", "next") == 11


async def test_dead_events_are_purged_a_bit_at_a_time(store: Store) -> None:
    await begin(store, a_session("s1"), a_session("s2"))
    await append(store, "s1", *map(str, range(1500)))
    await append(store, "s2", *map(str, range(10)))
    await store.write(lambda tx: tx.delete_session("s1"))
    await store.write(lambda tx: tx.raise_floor("s2", 6))
    assert await store.write(lambda tx: tx.purge_events(700)) == 700
    assert await store.write(lambda tx: tx.purge_events(10_000)) == 805
    assert await store.write(lambda tx: tx.purge_events(10_000)) == 0
    assert texts((await store.read(lambda tx: tx.events("s2", 0))).framed) == list("56789")


async def test_large_dead_events_are_purged_fewer_at_a_time(store: Store) -> None:
    await begin(store)
    await append(store, "s1", *["x" * 1024 * 1024] * 12)
    await store.write(lambda tx: tx.raise_floor("s1", 11))
    gone = []
    while went := await store.write(lambda tx: tx.purge_events(1000)):
        gone.append(went)
    assert gone == [4, 4, 2]
    left = await store.read(lambda tx: tx.events("s1", 0, max_bytes=10**8))
    assert left.sequences == (11, 12)


async def test_the_size_of_a_log_is_that_of_its_events_whatever_happens_to_it(store: Store) -> None:
    async def true_size(session_id: str) -> tuple[int, int]:
        part = await store.read(lambda tx: tx.events(session_id, 0, limit=1000))
        return len(part.framed), sum(map(len, part.framed))

    await begin(store, a_session("s1"), a_session("s2"))
    await append(store, "s1", *("x" * n for n in range(100)))
    await append(store, "s2", "alone")

    async def raise_to(floor: int) -> None:
        await store.write(lambda tx: tx.raise_floor("s1", floor))

    for floor in (1, 7, 7, 60, 3, 101):
        await raise_to(floor)
        sizes = await store.read(lambda tx: tx.log_sizes())
        assert [size.session_id for size in sizes] == ["s1", "s2"]
        for size in sizes:
            assert (size.events, size.bytes) == await true_size(size.session_id)
        totals = await store.read(lambda tx: tx.log_totals())
        assert totals == (sum(s.events for s in sizes), sum(s.bytes for s in sizes))
        assert await store.read(lambda tx: tx.log_size("s1")) == sizes[0]
    await append(store, "s1", "more")
    assert await store.read(lambda tx: tx.log_totals()) == (
        2,
        (await true_size("s1"))[1] + (await true_size("s2"))[1],
    )
    assert await store.read(lambda tx: tx.log_size("none")) is None


async def test_logs_above_a_size_are_found(store: Store) -> None:
    await begin(store, *(a_session(f"s{n}") for n in range(1, 5)))
    for number in range(1, 5):
        await append(store, f"s{number}", *["x" * 100] * number)

    async def found(events: int = 0, size: int = 0) -> list[str]:
        sizes = await store.read(lambda tx: tx.log_sizes(events=events, size=size))
        return [each.session_id for each in sizes]

    assert await found(events=2) == ["s3", "s4"]
    assert await found(size=1) == ["s1", "s2", "s3", "s4"]
    assert await found(events=3, size=10**6) == ["s4"]
    assert await store.read(lambda tx: tx.event_sizes("s3", 2)) == [
        len(framed) for framed in (await store.read(lambda tx: tx.events("s3", 0))).framed[:2]
    ]
    assert [
        s.session_id for s in await store.read(lambda tx: tx.log_sizes(after="s2", limit=1))
    ] == ["s3"]


async def test_the_newest_event_of_a_kind_is_found_above_the_floor(store: Store) -> None:
    await begin(store)
    turn = event_pb2.Event(run=1, turn=4)
    turn.turn_started.trigger = event_pb2.TURN_TRIGGER_INPUT
    await store.write(
        lambda tx: tx.append_events("s1", [event_of(turn), an_event(), event_of(turn), an_event()])
    )
    kinds = [event_pb2.EVENT_KIND_TURN_STARTED, event_pb2.EVENT_KIND_TURN_ENDED]
    assert await store.read(lambda tx: tx.newest_of("s1", kinds)) == 3
    assert await store.read(lambda tx: tx.newest_of("s1", kinds[1:])) == 0
    await store.write(lambda tx: tx.raise_floor("s1", 4))
    assert await store.read(lambda tx: tx.newest_of("s1", kinds)) == 0
