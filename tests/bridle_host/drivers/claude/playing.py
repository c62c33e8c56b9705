"""Plays what was recorded between the dialect and the real program, line by line.

A recording has what the program said behind each `<`; behind each `>` what was asked of the dialect
and what it wrote then. Played again it has to write the same, word for word. How recordings are
made stands in `recording.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridle_core.observations import Content, Decision, Image, Text
from bridle_host.drivers.claude.dialect import ClaudeDialect
from bridle_host.drivers.lines.dialect import Beginning, Order, Said, UnreadableError

RECORDED = Path(__file__).parent / "recorded"
DIRECTORY = "/home/user/project"
#: A picture of one point, in a format of which the program only looks at the name.
PICTURE = Image(b"GIF89a\1\0\1\0\0\0\0;", "image/gif")


def beginning(
    run: int = 1, kept: bytes = b"", *, native: bool = False, serial: int = 1
) -> Beginning:
    return Beginning("session", run, serial, DIRECTORY, {}, native=native, kept=kept)


def dialect(begins: Beginning | None = None, standing: bytes | None = None) -> ClaudeDialect:
    return ClaudeDialect(("claude",), begins or beginning(), standing)


@dataclass
class Speaker:
    """A dialect with its verbs by name, and each order once. said: without the orders."""

    dialect: ClaudeDialect
    said: list[Said] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)

    def verb(self, name: str, arguments: Sequence[Any]) -> list[bytes]:
        """What has to be written now. arguments: as a recording has them."""
        speaker = self.dialect
        match name, *arguments:
            case ["greet"]:
                return self._fresh(speaker.greet())
            case ["begin", int() as turn, str() as text]:
                return self._fresh(speaker.begin(turn, _content(text)))
            case ["steer", str() as turn, str() as input_id, str() as text]:
                return self._fresh(speaker.steer(turn, input_id, _content(text)))
            case ["interrupt", str() as turn, bool() as background]:
                return self._fresh(speaker.interrupt(turn, include_background=background))
            case ["respond", str() as turn, str() as approval, str() as word, str() as message]:
                decision = Decision(word)
                return self._fresh(speaker.respond(turn, approval, decision, message))
        raise AssertionError(f"no such verb: {name} {arguments}")

    def hear(self, line: bytes) -> list[bytes]:
        """What has to be written because of a line."""
        try:
            said = list(self.dialect.read(line))
        except UnreadableError as error:
            self.unreadable.append(f"{error}: {line[:200].decode()}")
            return []
        self.said += [one for one in said if not isinstance(one, Order)]
        return self._fresh(one for one in said if isinstance(one, Order))

    def _fresh(self, orders: Iterable[Order]) -> list[bytes]:
        fresh = [order for order in orders if order.key not in self.keys]
        self.keys |= {order.key for order in fresh}
        return [order.data for order in fresh]


def _content(text: str) -> list[Content]:
    """`#picture` stands for a picture."""
    return [PICTURE if part == "#picture" else Text(part) for part in text.split("\n")]


def play(name: str, begins: Beginning | None = None, *, succeeding: bool = False) -> Speaker:
    """succeeding: after each line another dialect goes on from the last one's standing."""
    speaker = Speaker(dialect(begins))
    due: list[Any] = []
    for entry in (RECORDED / f"{name}.txt").read_text().splitlines():
        line = json.loads(entry[2:])
        if entry[0] == "<":
            assert not due, "it wrote what it did not write then"
            due = [json.loads(data) for data in speaker.hear(entry[2:].encode())]
        else:
            if line["verb"]:
                due += [json.loads(data) for data in speaker.verb(*line["verb"])]
            assert due == line["wrote"]
            due = []
        if succeeding:
            standing = speaker.dialect.standing()
            assert len(standing) <= 32 * 1024
            speaker.dialect = dialect(begins, standing)
    assert not due
    assert not speaker.unreadable
    return speaker
