"""Every command on a real terminal, against a control whose every field is out to take it over."""

from __future__ import annotations

import asyncio
import json
import os
import re
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pyte
import pytest

from bridle.terminal import Cleaner, clean_line, clean_text
from tests.client.hostile import HostileControl, hostile_control, sequences
from tests.client.on_terminal import OWN, on_terminal
from tests.pair import PATIENCE, program

SEQUENCES = sequences()
#: Own colours alone, for commands that draw no live lines.
COLOURS = re.compile(r"\x1b\[[0-9;]*m")

#: Every command that prints what came from elsewhere.
COMMANDS = [
    ("ls",),
    ("status", "s"),
    ("session", "watch", "s"),
    ("session", "watch", "s", "--no-follow"),
    ("attach", "s"),
    ("session", "turns", "s"),
    ("session", "transcript", "s"),
    ("session", "artifacts", "s"),
    ("session", "start", "s", "--agent", "shell", "--wait"),
    ("session", "send", "s", "hello", "--wait"),
    ("session", "interrupt", "s", "--wait"),
    ("session", "stop", "s"),
    ("session", "resume", "s"),
    ("session", "delete", "s"),
    ("kill", "s", "--wait"),
    ("approve", "s"),
    ("queue", "list", "s"),
    ("queue", "clear", "s"),
    ("queue", "release", "s"),
    ("hosts",),
    ("agents",),
    ("host", "drain", "h"),
    ("token", "list"),
    ("token", "create", "n", "--right", "session.read"),
    ("token", "revoke", "n"),
    ("workspace", "list"),
    ("workspace", "create", "w"),
    ("auth", "whoami"),
    ("token", "create", "--join"),
]


#: Those that show every field of a list, or every event.
SHOWING = [
    *(
        ("ls",),
        ("status", "s"),
        ("session", "watch", "s"),
        ("session", "watch", "s", "--no-follow"),
    ),
    *(("session", "transcript", "s"), ("queue", "list", "s"), ("hosts",), ("agents",)),
    *(("token", "list"), ("workspace", "list"), ("attach", "s"), ("kill", "s", "--wait")),
]


class Emulator(pyte.Screen):
    """A terminal that would answer, take a title, and switch modes."""

    def __init__(self) -> None:
        super().__init__(100, 40)
        self.answered: list[str] = []
        self.began = set(self.mode)

    def write_process_input(self, data: str) -> None:
        self.answered.append(data)


class Home:
    """What `on_terminal` needs of a pair: an environment."""

    def __init__(self, home: Path, control: HostileControl) -> None:
        self._variables = {
            "BRIDLE_HOME": str(home),
            "BRIDLE_ADDRESS": control.address,
            "BRIDLE_TOKEN": "brt_" + "A" * 43,
        }

    def environment(self, **more: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("BRIDLE_")}
        return {**kept, **self._variables, **more}


@pytest.fixture
async def control() -> AsyncIterator[HostileControl]:
    async with hostile_control(SEQUENCES) as running:
        yield running


def check(raw: bytes, words: Sequence[str], *, live: bool) -> None:
    """Only what is printable, newlines, tabs and what is our own; nothing obeyed, none answered."""
    text = raw.decode()  # all of it is UTF-8
    text = (OWN if live else COLOURS).sub("", text).replace("\r\n", "\n")
    wrong = {char for char in text if char not in "\n\t" and not char.isprintable()}
    assert not wrong, (words, wrong)
    emulator = Emulator()
    stream = pyte.ByteStream(emulator)
    stream.feed(raw)
    assert emulator.answered == [], words
    assert (emulator.title, emulator.icon_name) == ("", ""), words
    assert emulator.mode == emulator.began, words
    assert emulator.margins is None, words
    assert emulator.g0_charset == pyte.charsets.LAT1_MAP, words


def test_there_are_sequences_enough_and_each_is_harmless_wherever_it_is_cut() -> None:
    assert len(SEQUENCES) >= 300
    for text in SEQUENCES:
        mark = text[text.rindex("~") :]
        for shown in (clean_text(text), clean_line(text)):
            assert all(char in "\n\t" or char.isprintable() for char in shown), text
        for cut in range(len(text) + 1):
            cleaner = Cleaner()
            shown = cleaner.feed(text[:cut]) + cleaner.feed(text[cut:])
            assert all(char in "\n\t" or char.isprintable() for char in shown), (text, cut)
        # What comes on the line after is never swallowed.
        assert clean_text(text + "\nafter" + mark).endswith("\nafter" + mark), text


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
async def test_nothing_that_control_says_has_power_over_the_terminal(
    words: tuple[str, ...], control: HostileControl, tmp_path: Path
) -> None:
    async with on_terminal(Home(tmp_path, control), *words) as terminal:  # type: ignore[arg-type]
        if words[0] == "attach":
            await terminal.shows(SEQUENCES[-1][-4:])
            terminal.type("\x04")
        await terminal.ends()
    live = words[0] == "attach" or words[:2] == ("session", "watch")
    check(bytes(terminal.raw), words, live=live)
    assert terminal.raw, words
    if words in SHOWING:
        assert terminal.raw.count(b"~") >= 500, words


async def test_what_refusals_say_has_no_power_over_the_terminal(
    control: HostileControl, tmp_path: Path
) -> None:
    whole = len(SEQUENCES)
    for begin in range(0, whole, 120):
        control.refuse = "\n".join(SEQUENCES[begin : begin + 120])
        words = ("status", "s") if begin % 240 else ("session", "watch", "s")
        async with on_terminal(Home(tmp_path, control), *words) as terminal:  # type: ignore[arg-type]
            assert await terminal.ends() == 5
        check(bytes(terminal.raw), words, live=False)
        assert b"PERMISSION_DENIED" in terminal.raw


async def test_json_holds_nothing_that_a_terminal_obeys_and_all_that_was_said(
    control: HostileControl, tmp_path: Path
) -> None:
    for words in (("ls",), ("hosts",), ("session", "watch", "s"), ("queue", "list", "s")):
        process = await asyncio.create_subprocess_exec(
            program("bridle"),
            *words,
            "--json",
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            env=Home(tmp_path, control).environment(),
        )
        async with asyncio.timeout(PATIENCE):
            out, _ = await process.communicate()
        text = out.decode()
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2066]", text), words
        values = "".join(json.dumps(json.loads(line)) for line in text.splitlines())
        assert len(text.splitlines()) >= 300
        assert json.dumps(SEQUENCES[0])[1:-1] in values
