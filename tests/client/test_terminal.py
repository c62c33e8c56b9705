"""Nothing that a terminal would obey, and nothing that nobody sees, gets through."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridle.terminal import (
    MARKS_CAP,
    SEQUENCE_CAP,
    STRING_CAP,
    Cleaner,
    clean_line,
    clean_text,
    cut,
    decode,
    escape_json,
    paint,
    width,
)

#: Text that is likely to hit the cleaner's states.
HOSTILE = st.text(
    st.one_of(
        st.sampled_from("\x1b\x9b\x9d\x90\x9c\x07\x18\x1a\r\n\t\b[]PX^_m;0123\\?HJ ab\u202e\u200b"),
        st.characters(codec="utf-8"),
    )
)


def is_harmless(text: str) -> bool:
    return all(char in "\n\t" or char.isprintable() for char in text)


@given(HOSTILE)
def test_only_printable_characters_newlines_and_tabs_come_out(text: str) -> None:
    assert is_harmless(clean_text(text))
    assert is_harmless(Cleaner().feed(text))
    assert not set(clean_line(text)) & {"\n", "\t"}


@given(st.lists(HOSTILE))
def test_how_the_text_is_cut_into_pieces_makes_no_difference(pieces: list[str]) -> None:
    cleaner = Cleaner()
    assert "".join(cleaner.feed(piece) for piece in pieces) == Cleaner().feed("".join(pieces))


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_plain_ascii_stays_as_it_is(text: str) -> None:
    assert clean_text(text) == text


@given(HOSTILE)
def test_cleaning_a_second_time_changes_nothing(text: str) -> None:
    assert clean_text(clean_text(text)) == clean_text(text)


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("a\x1b[31mred\x1b[0m b", "ared b"),
        ("a\x9b31mred\x9b0m b", "ared b"),
        ("\x1b[2J\x1b[Hgone", "gone"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]0;title\x1b\\text", "text"),
        ("\x9d0;title\x9ctext", "text"),
        ("\x1bPpayload\x1b\\text", "text"),
        ("\x90payload\x9ctext", "text"),
        ("\x1b_apc\x1b\\\x1b^pm\x1b\\\x1bXsos\x1b\\text", "text"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b(0lqk", "lqk"),
        ("\x1bc\x1b7\x1b=text", "text"),
        ("\x1b]0;a\x1b[31mred", "red"),
        ("\x1b\x1b[31mred", "red"),
        ("rm -rf /\x08\x08ok", "rm -rf /␈␈ok"),
        ("safe\rEVIL", "safe\nEVIL"),
        ("line\r\nnext\r\r\nlast", "line\nnext\nlast"),
        ("bell\x07", "bell␇"),
        ("nul\x00del\x7f", "nul␀del␡"),
        ("\x85next", "<U+0085>next"),
        ("user\u202egnp.exe", "user<U+202E>gnp.exe"),
        ("a\u2066b\u2069c\u061cd", "a<U+2066>b<U+2069>c<U+061C>d"),
        ("zero\u200bwidth\ufeff\u00ad", "zero<U+200B>width<U+FEFF><U+00AD>"),
        ("tag\U000e0041", "tag<U+E0041>"),
        ("hidden\u3164\u2800\ufe00", "hidden<U+3164><U+2800><U+FE00>"),
        ("line\u2028sep", "line<U+2028>sep"),
        ("no\u00a0break", "no break"),
        ("unfinished \x1b[31", "unfinished "),
        ("naïve 日本語 🙂", "naïve 日本語 🙂"),
    ],
)
def test_what_is_shown_of(hostile: str, shown: str) -> None:
    assert clean_text(hostile) == shown


def test_an_unfinished_sequence_swallows_no_more_than_its_line() -> None:
    assert clean_text("\x1b]0;hidden\nshown") == "\nshown"
    assert clean_text("\x1b[12;\nshown") == "\nshown"


def test_a_sequence_that_is_too_long_swallows_no_more_than_its_cap() -> None:
    assert clean_text("\x1b]" + "x" * (STRING_CAP + 10)) == "x" * 10
    assert clean_text("\x1b[" + "1" * (SEQUENCE_CAP + 10)) == "1" * 10


def test_marks_do_not_pile_up() -> None:
    shown = clean_text("e" + "\u0301" * 100 + "f")
    assert sum(unicodedata.combining(char) > 0 for char in shown) == MARKS_CAP
    assert shown.endswith("f")


def test_bytes_become_text_without_control() -> None:
    assert decode(b"ok \xff\x9b31m") == "ok \\xff\\x9b31m"
    assert clean_text(decode("\u009b31mred".encode())) == "red"


def test_a_line_shows_its_newlines() -> None:
    assert clean_line("one\ntwo\tthree\n") == "one⏎two three"


@given(HOSTILE)
def test_json_keeps_the_value_and_holds_nothing_that_a_terminal_obeys(text: str) -> None:
    line = escape_json(json.dumps({"text": text}, ensure_ascii=False))
    assert json.loads(line) == {"text": text}
    assert not any(ord(char) < 0x20 or 0x7F <= ord(char) <= 0x9F for char in line)
    assert "\u202e" not in line


def test_width_counts_cells_and_cut_keeps_to_them() -> None:
    assert [width(text) for text in ("abc", "日本", "e\u0301")] == [3, 4, 1]
    assert cut("abcdef", 4) == "abc…"
    assert cut("日本語", 4) == "日…"
    assert cut("abc", 3) == "abc"
    assert [cut("abc", cells) for cells in (1, 0)] == ["…", ""]


@given(st.text(st.characters(categories=["L", "N", "P", "S"])), st.integers(0, 40))
def test_a_cut_line_is_never_wider_than_asked(text: str, cells: int) -> None:
    assert width(cut(text, cells)) <= cells


@given(HOSTILE, st.integers(0, 60))
def test_what_is_cut_is_the_longest_beginning_that_fits(text: str, cells: int) -> None:
    line = clean_line(text)
    shown = cut(line, cells)
    if width(line) <= cells:
        assert shown == line
    elif cells:
        kept = shown.removesuffix("…")
        assert line.startswith(kept)
        assert width(kept + line[len(kept)]) > cells - 1


def test_a_long_line_costs_no_more_to_cut_than_what_is_seen_of_it() -> None:
    class Counted(str):
        __slots__ = ()
        seen = 0

        def __iter__(self) -> Iterator[str]:
            for char in str.__iter__(self):
                Counted.seen += 1
                yield char

    assert width(cut(Counted("é" * 100_000), 80)) == 80
    assert Counted.seen <= 81


def test_paint_is_our_own_and_only_where_there_is_colour() -> None:
    assert paint("x", "bold red", True) == "\x1b[1;31mx\x1b[0m"
    assert paint("x", "bold red", False) == paint("x", "", True) == "x"
