"""How far an agent's output is used up: whatever is held back, whenever its host dies."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from bridle_host.drivers.output import Lines, Log, Overlong
from bridle_host.drivers.places import Places
from bridle_host.process_types import Chunk, Stream

#: (pipe, bytes) in the order in which a shim read them.
SAID = st.lists(
    st.tuples(st.sampled_from([1, 2]), st.text("ab\n", min_size=1, max_size=9)), max_size=12
)


def chunks(said: Sequence[tuple[int, str]], cuts: Sequence[int], start: int) -> list[Chunk]:
    """What a shim hands over from an offset on, cut anywhere within each piece."""
    found, offset = [], 100
    for (pipe, text), cut in zip(said, cuts, strict=True):
        data = text.encode()
        for piece in (data[:cut], data[cut:]):
            skipped = max(0, start - offset)
            if piece[skipped:]:
                part = piece[skipped:]
                found.append(Chunk(Stream(pipe), part, 0.0, pipe, offset + skipped))
            offset += len(piece)
    return found


@given(said=SAID, data=st.data())
def test_each_line_is_told_once_wherever_hosts_die(
    said: list[tuple[int, str]], data: st.DataObject
) -> None:
    told: dict[int, list[bytes | Overlong]] = {1: [], 2: []}
    places, over = Places(), False
    while not over:
        cuts = [data.draw(st.integers(0, len(text))) for _, text in said]
        left = data.draw(st.integers(1, 30))
        readers = {1: Lines(), 2: Lines()}
        for chunk in chunks(said, cuts, places.acknowledge):
            if left == 0:
                break
            left -= 1
            if (fresh := places.fresh(chunk)) is not None:
                places.took(fresh)
                told[fresh.pipe] += readers[fresh.pipe].feed(fresh.data)
                places.keep(fresh.pipe, readers[fresh.pipe].held)
        else:
            over = True
        # The next host has of it what a checkpoint says, and the beginning of no line.
        places = Places(places.end, dict(places.behind))
    for pipe in (1, 2):
        whole = "".join(text for at, text in said if at == pipe).encode()
        assert told[pipe] == whole.split(b"\n")[:-1]


def test_what_is_not_held_back_is_acknowledged() -> None:
    places = Places()
    for stream, data, offset in ((1, b"abc", 10), (2, b"defg", 13), (1, b"hi", 17)):
        places.took(Chunk(Stream(stream), data, 0.0, stream, offset))
        places.keep(stream, 0)
        assert places.acknowledge == offset + len(data)
    places.took(Chunk(Stream.STDOUT, b"xyz", 0.0, 1, 19))
    places.keep(1, 2)
    places.took(Chunk(Stream.STDERR, b"more", 0.0, 2, 22))
    places.keep(2, 0)
    assert (places.acknowledge, places.behind) == (20, {1: 20})


def test_a_line_that_is_too_long_is_not_held_back_and_goes_on_after_a_host() -> None:
    lines = Lines(limit=10)
    assert lines.feed(b"x" * 11) == []
    assert lines.held == 0
    again = Lines(limit=10, overlong=lines.overlong)
    assert again.feed(b"yy\nnext\n") == [Overlong(b"x" * 11, 13), b"next"]


def test_a_log_goes_on_after_a_host() -> None:
    log = Log()
    for _ in range(200):
        log.feed(b"x" * 100)
    again = Log(*log.standing)
    assert again.feed(b"more") == log.feed(b"more") == ""
    assert again.end() == log.end() > 0
