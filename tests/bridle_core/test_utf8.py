"""Cutting bytes and text where it does no harm."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridle_core.utf8 import clean, cut, incomplete_tail


def test_a_whole_text_has_no_unfinished_character() -> None:
    for text in ("", "a", "ä", "€", "😀", "aä€😀"):
        assert incomplete_tail(text.encode()) == 0


def test_the_begin_of_a_character_waits_for_the_rest() -> None:
    for character in ("ä", "€", "😀", "\u0800", "\ud7ff", "\U00010000", "\U0010ffff"):
        data = character.encode()
        for length in range(1, len(data)):
            assert incomplete_tail(b"x" + data[:length]) == length


def test_what_can_become_no_character_does_not_wait() -> None:
    for data in (
        b"\x80",  # nothing begins like this
        b"\x80\x80\x80\x80",
        b"\xc0",  # overlong
        b"\xc1",
        b"\xe0\x80",
        b"\xf0\x80",
        b"\xed\xa0",  # half of a surrogate pair
        b"\xf4\x90",  # above the last character
        b"\xf5",
        b"\xff",
        b"\xc3\xa4\xa4",  # a byte too many
    ):
        assert incomplete_tail(data) == 0


@given(st.text(), st.data())
def test_any_text_cut_anywhere_is_whole_without_its_tail(text: str, data: st.DataObject) -> None:
    whole = text.encode()
    piece = whole[: data.draw(st.integers(0, len(whole)))]
    tail = incomplete_tail(piece)
    piece[: len(piece) - tail].decode()
    assert tail < 4


def test_a_half_of_a_surrogate_pair_becomes_the_replacement_character() -> None:
    assert clean("a\ud800b") == "a\ufffdb"
    assert clean("\udfff") == "\ufffd"
    assert clean("whole 😀") == "whole 😀"


def test_text_is_cut_between_characters() -> None:
    assert cut("abc", 100) == ("abc", 0)
    assert cut("abc", 3) == ("abc", 0)
    assert cut("aää", 4) == ("aä", 2)
    assert cut("€€", 5) == ("€", 3)
    assert cut("abc", 0) == ("", 3)
    assert cut("abc", -1) == ("", 3)
