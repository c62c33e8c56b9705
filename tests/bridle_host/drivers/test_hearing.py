"""Where an agent's output is cut: before each line that may begin a turn nobody asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from bridle_host.drivers.lines.hearing import Hearing
from bridle_host.drivers.output import Lines
from bridle_host.process import Chunk, Stream

WORDS = st.sampled_from([b"init", b"agent", b"in", b"it", b"x", b"\n"])


def cut(begun: bytes, data: bytes, unasked: object) -> list[tuple[Chunk, bool]]:
    lines = Lines()
    lines.feed(begun)
    hearing = Hearing.__new__(Hearing)
    hearing._course = cast("Any", SimpleNamespace(lines=lines))
    hearing._dialect = cast("Any", SimpleNamespace(unasked=unasked))
    return list(hearing._parts(Chunk(Stream.STDOUT, data, 0.0, 1, 100)))


@given(
    begun=st.lists(WORDS.filter(lambda word: word != b"\n"), max_size=3).map(b"".join),
    data=st.lists(WORDS, min_size=1, max_size=12).map(b"".join),
    unasked=st.sampled_from([b"", b"init", (), (b"init",), (b"init", b"agent")]),
)
def test_each_line_with_such_bytes_begins_a_part_and_nothing_is_lost(
    begun: bytes, data: bytes, unasked: bytes | tuple[bytes, ...]
) -> None:
    parts = cut(begun, data, unasked)
    assert b"".join(part.data for part, _ in parts) == data
    at = 100
    for part, _ in parts:
        assert part.offset == at
        at += len(part.data)
    needles = [one for one in ((unasked,) if isinstance(unasked, bytes) else unasked) if one]
    held = begun
    for part, flagged in parts:
        first, *others = (held + part.data).split(b"\n")
        assert flagged == any(one in first for one in needles)
        assert not any(one in other for one in needles for other in others)
        held = others[-1] if others else first
