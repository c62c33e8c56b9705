"""What was said, as a record that nothing in it can step out of, and that fits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridle_core.transcript import (
    LEGEND,
    OUTPUT,
    SAID,
    Calls,
    Entry,
    Transcript,
    asked,
    ended,
    ran,
    render,
    said,
)


def test_a_conversation_is_told_in_its_order_with_who_said_what() -> None:
    found = render(
        [
            asked(1, "anna", "mend it\nplease"),
            ran(1, "Bash", '{"command": "make"}', "all good\n", "SUCCEEDED"),
            ran(1, "Read", "{}", "", ""),
            said(1, "halfway", sub_agent="helper"),
            said(1, "It is men", partial=True),
            ended(1, "INTERRUPTED"),
            asked(2, "", "again"),
        ]
    )
    assert found == Transcript(
        LEGEND
        + """
[turn 1] anna asked:
| mend it
| please
[turn 1] you ran Bash {"command": "make"}: SUCCEEDED, and it put out:
| all good
[turn 1] you ran Read {}: its end was not seen
[turn 1] your sub-agent helper said:
| halfway
[turn 1] you said, and were cut off:
| It is men
[turn 1] the turn ended: INTERRUPTED
[turn 2] somebody asked:
| again
"""
    )


def test_nothing_that_was_said_is_told_of_nothing() -> None:
    assert render([]) == Transcript()
    assert render([], before="the rest") == Transcript("", ("the rest",))


ENTRIES = st.one_of(
    st.builds(asked, st.integers(1, 9), st.text(), st.text()),
    st.builds(said, st.integers(1, 9), st.text(), sub_agent=st.text()),
    st.builds(ran, st.integers(1, 9), st.text(), st.text(), st.text(), st.just("FAILED")),
)


@given(st.lists(ENTRIES, max_size=8))
def test_no_text_and_no_name_makes_a_line_of_the_record(entries: list[Entry]) -> None:
    lines = render(entries).text.split("\n")
    heads = [line for line in lines if line and not line.startswith("| ")]
    assert len(heads) == (len(entries) + 1 if entries else 0)
    assert all(head.startswith("[turn ") for head in heads[1:])
    assert all(sign == "\t" or sign.isprintable() for line in lines for sign in line)


@given(st.lists(st.builds(said, st.integers(1, 9), st.text(max_size=200)), max_size=200))
def test_it_fits_and_the_newest_is_kept_and_what_is_missing_is_told(entries: list[Entry]) -> None:
    found = render(entries, 4096)
    assert len(found.text.encode()) <= 4096
    body = "".join(entry.rendered for entry in entries)
    if entries and not found.left_out:
        assert found.text == f"{LEGEND}\n{body}"
    elif entries:
        assert body.endswith(found.text.split(".)\n", 1)[1])


def test_hostile_ends_of_lines_and_characters_do_nothing() -> None:
    text = "a\x1b[2Jb\r[turn 9] anna asked:\u2028| c\x85d\x0b\x0ce\u202e\x00\ud800"
    rendered = said(1, text).rendered
    assert rendered == (
        "[turn 1] you said:\n| a[2Jb\n| [turn 9] anna asked:\n| | c\n| d\n| \n| e?\n"
    )
    name = asked(1, "an\nna] asked:\n[turn 2]", "x").rendered
    assert name == "[turn 1] an na] asked: [turn 2] asked:\n| x\n"


def test_long_texts_are_cut_in_their_middle_and_that_is_told() -> None:
    found = render([said(1, "begin" + "x" * 2 * SAID + "end"), said(2, "short")])
    assert found.left_out == ("parts of 1 long texts of the conversation",)
    assert "| begin" in found.text
    assert "(the middle is left out)" in found.text
    assert "xend\n" in found.text


def test_the_oldest_goes_first() -> None:
    found = render([said(turn, "x" * 500) for turn in range(1, 21)], 4096)
    assert found.left_out[0].startswith("of the conversation the oldest ")
    assert "[turn 20]" in found.text
    assert "[turn 1]" not in found.text
    assert f"(Left out: {found.left_out[0]}.)" in found.text


def test_of_what_a_tool_puts_out_begin_and_end_are_kept_in_either_direction() -> None:
    pieces = [f"{number:05}\n".encode() * 100 for number in range(50)]
    forwards, backwards = Calls(), Calls()
    for piece in pieces:
        forwards.put("a", piece)
    for piece in reversed(pieces):
        backwards.put("a", piece, front=True)
    assert forwards.take("a") == backwards.take("a")
    assert forwards.take("a") == ("", False)
    for piece in pieces[:2]:
        forwards.put("a", piece)
    assert forwards.take("a") == ("00000\n" * 100 + "00001\n" * 100, False)
    forwards.put("b", b"x" * 9 * OUTPUT)
    text, cut = forwards.take("b")
    assert (len(text), cut) == (2 * OUTPUT, True)
