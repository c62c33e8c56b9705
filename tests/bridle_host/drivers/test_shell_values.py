"""What the shell driver reads and cuts, without a bash: frames, exported variables, output."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridle_core.observations import Text
from bridle_host.drivers.output import LOG_BYTES, LOG_NOTES, PIECE, Log, Pieces, unfinished
from bridle_host.drivers.shell.control import FRAME_LIMIT, Began, Files, Frames, Report
from bridle_host.drivers.shell.state import STATE_LIMIT, Baseline, Kept, parse_exported
from bridle_host.drivers.shell.turn import NoScriptError, script_of

NONCE = "abc"
REPORT = (
    b'\0abc\0report\x007\x003\0/some/where\n\0declare -x A="1"\n\0declare -f f\ndeclare -fx g\n\0'
    b"braceexpand:hashall:\x005.2\0abc.\0"
)
READ = Report("7", 3, "/some/where", 'declare -x A="1"\n', ("f", "g"),
              frozenset({"braceexpand", "hashall"}), "5.2")  # fmt: skip


# --- Frames --------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 400)))
def test_frames_are_found_wherever_the_bytes_are_cut(cuts: list[int]) -> None:
    data = b"\0abc\0began\x006\0abc.\0" + REPORT + b"noise" + REPORT
    frames = Frames(NONCE)
    found: list[Began | Report] = []
    start = 0
    for cut in sorted(cuts):
        found += frames.feed(data[start:cut])
        start = max(start, cut)
    found += frames.feed(data[start:])
    assert found == [Began("6"), READ, READ]


def test_a_frame_that_was_cut_short_is_skipped() -> None:
    assert Frames(NONCE).feed(REPORT[:40] + REPORT) == [READ]


@pytest.mark.parametrize(
    "data",
    [
        b"\0abc\0began\0abc.\0",
        b"\0abc\0report\x007\0abc.\0",
        b"\0abc\0other\x007\0abc.\0",
        REPORT.replace(b"\x003\0", b"\0three\0"),
        REPORT.replace(b"abc", b"xyz"),
        b"\0abc.\0",
    ],
)
def test_what_is_no_frame_is_left_out(data: bytes) -> None:
    assert Frames(NONCE).feed(data + REPORT) == [READ]


def test_a_pipe_full_of_nothing_does_not_fill_the_memory() -> None:
    frames = Frames(NONCE)
    for _ in range(FRAME_LIMIT // 65536 + 2):
        assert frames.feed(b"x" * 65536) == []
    assert frames.feed(REPORT) == [READ]


def test_the_files_are_private_and_their_names_are_quoted(tmp_path: Path) -> None:
    directory = tmp_path / "it's a; directory"
    directory.mkdir()
    files = Files(directory, NONCE)
    files.write()
    files.write_turn("1", "true\n", 0)
    for path in directory.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        subprocess.run(["bash", "-n", path], check=True)
    for lines in (files.first_lines("1"), files.seed_lines("2"), files.turn_lines("3")):
        subprocess.run(["bash", "-n"], input=lines, check=True)
    files.discard()
    assert sorted(path.name for path in directory.iterdir()) == ["after", "status"]


# --- Exported variables --------------------------------------------------------------------------

VALUES = {
    "PLAIN": "1",
    "EMPTY": "",
    "QUOTES": '\'"`$\\ \\\\ " !x',
    "LINES": "a\nb\r\tc\n",
    "CONTROL": "\x01\x1b[31m\x7f\a",
    "UNICODE": "é€😀",
    "BYTES": "\udcff\udc80x",
    "FAKE": '1"\ndeclare -x OTHER="forged',
    "MIXED": "$'x' \n \\n",
}


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
@pytest.mark.parametrize("option", ["+o", "-o"])
def test_what_bash_exports_is_read_back_as_it_was(locale: str, option: str) -> None:
    environment = {**VALUES, "LC_ALL": locale, "PATH": "/usr/bin:/bin"}
    told = subprocess.run(
        ["bash", "--norc", "-c", f"set {option} posix; declare -px"],
        env=environment,
        capture_output=True,
        check=True,
    ).stdout
    read = parse_exported(told.decode("utf-8", "surrogateescape"))
    assert {name: read.get(name) for name in VALUES} == VALUES
    assert "OTHER" not in read


def test_every_escape_of_bash_is_understood() -> None:
    text = r"declare -x A=$'\a\b\e\E\f\n\r\t\v\\\'\"\?\101\x41\u20ac\U0001F600\q'" + "\n"
    assert parse_exported(text)["A"] == "\a\b\x1b\x1b\f\n\r\t\v\\'\"?AA€😀q"


def report(exported: str, **changes: object) -> Report:
    given = {"functions": (), "options": frozenset({"a", "b"}), **changes}
    return Report("1", 0, "/d", exported, version="5", **given)  # type: ignore[arg-type]


def test_only_what_differs_from_the_start_is_kept() -> None:
    baseline = Baseline(report('declare -x A="1"\ndeclare -x B="2"\ndeclare -x C="3"\n'))
    kept = baseline.kept(
        report(
            'declare -x A="1"\ndeclare -x B="changed"\ndeclare -x D="new"\ndeclare -x PWD="/d"\n',
            functions=("f",),
            options=frozenset({"b", "c"}),
        )
    )
    assert kept == Kept("/d", {"B": "changed", "D": "new"}, ("C",), ("f",), ("a off", "c on"))
    assert Kept.decode(kept.encode()) == kept


@given(
    st.dictionaries(
        st.from_regex(r"[A-Z_][A-Z0-9_]{0,20}", fullmatch=True), st.text(max_size=50), max_size=20
    )
)
def test_what_was_kept_is_read_back(variables: dict[str, str]) -> None:
    kept = Kept("/d", variables, ("GONE",), ("f",), ("x on",))
    assert Kept.decode(kept.encode()) == kept


def test_a_state_never_exceeds_its_limit() -> None:
    huge = {f"V{number}": "ä" * 1000 for number in range(200)}
    names = tuple("f" * 200 + str(number) for number in range(100))
    state = Kept("/d", huge | {"SMALL": "1"}, names, names).encode()
    assert len(state) <= STATE_LIMIT
    kept = Kept.decode(state)
    assert kept is not None
    assert kept.set["SMALL"] == "1"
    assert set(kept.dropped) | set(kept.set) == {*huge, "SMALL"}
    assert any("and" in line and "more" in line for line in kept.lost())


# --- Output --------------------------------------------------------------------------------------


@given(st.text(max_size=200), st.lists(st.integers(0, 800)))
def test_text_is_cut_between_characters_only(text: str, cuts: list[int]) -> None:
    data = text.encode()
    pieces = Pieces()
    found = []
    start = 0
    for cut in [*sorted(cuts), len(data)]:
        found += pieces.feed(data[start:cut])
        start = max(start, min(cut, len(data)))
    for piece in found:
        piece.decode("utf-8")
    assert pieces.flush() == []
    assert b"".join(found) == data


@given(st.binary(max_size=300), st.lists(st.integers(0, 300)))
def test_binary_passes_as_it_is(data: bytes, cuts: list[int]) -> None:
    pieces = Pieces()
    found = []
    start = 0
    for cut in [*sorted(cuts), len(data)]:
        found += pieces.feed(data[start:cut])
        start = max(start, min(cut, len(data)))
    found += pieces.flush()
    assert b"".join(found) == data
    assert all(found)


def test_large_output_is_cut_into_pieces_between_characters() -> None:
    data = "€".encode() * 100_000
    found = Pieces().feed(data)
    assert b"".join(found) == data
    assert len(found) == 5
    for piece in found:
        assert len(piece) <= PIECE
        piece.decode("utf-8")


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (b"", 0),
        (b"abc", 0),
        ("é".encode(), 0),
        ("é".encode()[:1], 1),
        ("€".encode()[:1], 1),
        ("€".encode()[:2], 2),
        ("😀".encode()[:1], 1),
        ("😀".encode()[:2], 2),
        ("😀".encode()[:3], 3),
        ("😀".encode(), 0),
        (b"\x80\x80\x80", 0),
        (b"a\x80", 0),
        (b"\xff", 0),
        (b"\xc0", 0),
        (b"\xf5\x80", 0),
    ],
)
def test_how_much_of_a_character_has_begun(data: bytes, count: int) -> None:
    assert unfinished(data) == count


def test_the_log_between_turns_is_bounded_and_starts_anew() -> None:
    log = Log()
    told = [log.feed(b"x" * 1000) for _ in range(100)]
    assert sum(map(len, told)) == LOG_BYTES
    assert log.end() == 100_000 - LOG_BYTES
    assert log.end() == 0
    told = [log.feed(b"y") for _ in range(100)]
    assert sum(map(len, told)) == LOG_NOTES
    assert log.end() == 100 - LOG_NOTES


# --- Scripts -------------------------------------------------------------------------------------


def test_a_script_ends_with_a_line_break() -> None:
    assert script_of([Text("a")]) == "a\n"
    assert script_of([Text("a\n")]) == "a\n"
    assert script_of([Text("a"), Text("b\n")]) == "a\nb\n"
    assert script_of([]) == "\n"


def test_a_script_with_a_nul_is_none() -> None:
    with pytest.raises(NoScriptError, match="NUL"):
        script_of([Text("a\0")])
