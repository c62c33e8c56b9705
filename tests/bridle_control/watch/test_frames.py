"""The two short memories of the hub: what they give is what the store would."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridle.v1 import watch_pb2
from bridle_control.watch.frames import (
    FRAME_BYTES,
    FRAME_EVENTS,
    Frame,
    FrameCache,
    Framer,
    Tail,
    Tails,
)

ALL: frozenset[int] = frozenset()


def event(sequence: int, size: int) -> bytes:
    return str(sequence).encode().rjust(size, b".")


@given(
    commits=st.lists(
        st.tuples(st.integers(1, 400), st.sampled_from([8, 3000])), min_size=1, max_size=12
    ),
    kinds=st.frozensets(st.sampled_from([0, 1]), max_size=1),
)
def test_the_tail_gives_what_was_committed_or_nothing(
    commits: list[tuple[int, int]], kinds: frozenset[int]
) -> None:
    tail = Tail(Tails())
    log: list[bytes] = []
    for count, size in commits:
        first = len(log) + 1
        new = [event(sequence, size) for sequence in range(first, first + count)]
        tail.extend(first, [sequence % 2 for sequence in range(first, first + count)], new)
        log += new
        assert len(tail._framed) <= Tail.TAIL_EVENTS
        assert tail._bytes == sum(map(len, tail._framed)) <= Tail.TAIL_BYTES
        for cursor in {0, len(log) // 2, len(log) - 600, len(log) - 300, len(log) - 1, len(log)}:
            if cursor < 0:
                continue
            found = tail.after(cursor, kinds)
            if found is None:
                continue
            framed, last = found
            assert cursor < last <= min(len(log), cursor + FRAME_EVENTS)
            assert framed == [
                log[sequence - 1]
                for sequence in range(cursor + 1, last + 1)
                if not kinds or sequence % 2 in kinds
            ]
            assert sum(map(len, log[cursor:last])) <= FRAME_BYTES
    assert tail.after(len(log), kinds) is None


def test_a_tail_that_missed_something_begins_anew() -> None:
    tail = Tail(Tails())
    tail.extend(1, [0, 0], [b"1", b"2"])
    tail.extend(9, [0], [b"9"])
    assert tail.after(0, ALL) is None
    assert tail.after(2, ALL) is None
    assert tail.after(8, ALL) == ([b"9"], 9)


def test_an_event_larger_than_a_frame_is_a_frame() -> None:
    tail = Tail(Tails())
    tail.extend(1, [0, 0], [b"x" * (FRAME_BYTES + 1), b"y"])
    assert tail.after(0, ALL) == ([b"x" * (FRAME_BYTES + 1)], 1)


def test_all_tails_together_have_a_bound_and_the_idle_ones_go_first() -> None:
    tails = Tails()
    many = [Tail(tails) for _ in range(40)]
    for number, tail in enumerate(many):
        tail.extend(1, [0] * 8, [b"x" * 100_000] * 8)
        many[0].extend(8 + number, [0], [b"y"])  # it stays busy
        assert tails.bytes <= Tails.MAX_BYTES
    assert many[0].after(many[0]._first - 1, ALL) is not None
    assert [tail.after(0, ALL) for tail in many[1:10]] == [None] * 9
    kept = [tail for tail in many if tail._framed]
    assert 15 <= len(kept) < 40
    assert tails.bytes == sum(tail._bytes + Tail.EVENT_COST * len(tail._framed) for tail in many)
    for tail in many:
        tail.clear()
    assert tails.bytes == 0


def test_the_messages_are_what_protobuf_would_write() -> None:
    framer = Framer("s1", "log")
    progress = watch_pb2.Progress(session_id="s1", log_id="log", sequence=300, ended=True)
    assert (
        framer.progress(300, ended=True)
        == watch_pb2.WatchResponse(progress=progress).SerializeToString()
    )
    progress = watch_pb2.Progress(session_id="s1", log_id="log")
    assert framer.progress(0) == watch_pb2.WatchResponse(progress=progress).SerializeToString()
    compacted = watch_pb2.Compacted(session_id="s1", log_id="log", floor_sequence=2**40)
    assert (
        framer.compacted(2**40) == watch_pb2.WatchResponse(compacted=compacted).SerializeToString()
    )
    batch = watch_pb2.EventBatch(session_id="s1", log_id="log")
    batch.events.add(sequence=7)
    framed = watch_pb2.EventBatch(events=batch.events).SerializeToString()
    assert framer.events([framed], 7) == Frame(
        watch_pb2.WatchResponse(events=batch).SerializeToString(), 7
    )
    assert framer.events([], 7) == Frame(b"", 7)


def test_the_cache_keeps_what_was_used_lately_and_no_more() -> None:
    cache = FrameCache()
    size = FrameCache.MAX_BYTES // 4
    for cursor in range(5):
        cache.put(("s1", cursor, ALL), Frame(b"x" * size, cursor + 1))
        cache.get(("s1", 0, ALL))
    kept = [cursor for cursor in range(5) if cache.get(("s1", cursor, ALL))]
    assert kept == [0, 2, 3, 4]
    cache.put(("s1", 0, ALL), Frame(b"longer", 9))
    assert cache.get(("s1", 0, ALL)) == Frame(b"longer", 9)
    for cursor in range(2 * FrameCache.MAX_FRAMES):
        cache.put(("s2", cursor, ALL), Frame(b"x", cursor + 1))
    assert len(cache._frames) == FrameCache.MAX_FRAMES
    cache.drop_session("s2")
    assert cache._bytes == sum(len(frame.data) for frame in cache._frames.values())
    assert not any(key[0] == "s2" for key in cache._frames)
