"""What the commands print: lines, tables, JSON, outcomes. Everything foreign is made harmless here.

Called by the modules of commands.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING

import click

from bridle.terminal import clean_line, cut, escape_json, paint, width

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

    from bridle.v1 import receipt_pb2

#: Style of a phase, by its name.
PHASE_STYLES = {
    "STARTING": "cyan",
    "IDLE": "green",
    "RUNNING": "bold cyan",
    "WAITING": "bold yellow",
    "STOPPING": "yellow",
    "FAILED": "red",
    "KILLED": "red",
}


@cache
def colour() -> bool:
    """Whether stdout is a terminal that shows colours, and the user wants them (NO_COLOR)."""
    import os

    return (
        sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )


def line(text: str) -> None:
    """Prints clean text, at once: somebody may be reading the pipe as it comes."""
    encoding = sys.stdout.encoding or "ascii"
    if encoding.lower() not in ("utf-8", "utf8"):
        text = text.encode(encoding, "backslashreplace").decode(encoding)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def json_line(message: Message) -> str:
    """A message in protobuf's JSON mapping, as one line that no terminal obeys."""
    from google.protobuf.json_format import MessageToJson

    utf8 = (sys.stdout.encoding or "").lower() in ("utf-8", "utf8")
    return escape_json(MessageToJson(message, indent=None, ensure_ascii=not utf8))


def json(message: Message) -> None:
    """Prints a message as JSON."""
    line(json_line(message))


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints columns as wide as they must be; on a terminal the last is cut to fit."""
    cells = [[clean_line(cell) for cell in row] for row in rows]
    columns = list(zip(headers, *cells, strict=True))
    widths = [max(width(cell) for cell in column) for column in columns]
    room = _terminal_width() - sum(widths[:-1]) - 2 * (len(widths) - 1)
    for index, row in enumerate([list(headers), *cells]):
        padded = [
            _padded(name, cell, size, index == 0)
            for name, cell, size in zip(headers, row, widths, strict=True)
        ]
        if colour():
            padded[-1] = paint(cut(row[-1], max(room, 8)), "bold" if index == 0 else "", True)
        line("  ".join(padded).rstrip())


def _padded(header: str, cell: str, size: int, is_header: bool) -> str:
    style = "bold" if is_header else PHASE_STYLES.get(cell, "") if header == "PHASE" else ""
    return paint(cell, style, colour()) + " " * (size - width(cell))


def _terminal_width() -> int:
    import shutil

    return shutil.get_terminal_size().columns


def pairs(rows: Iterable[tuple[str, str]]) -> None:
    """Prints names and values, one pair a line."""
    shown = [(name, clean_line(value)) for name, value in rows]
    size = max(len(name) for name, _ in shown)
    for name, value in shown:
        style = PHASE_STYLES.get(value, "") if name == "phase" else ""
        line(f"{paint(name.ljust(size), 'dim', colour())}  {paint(value, style, colour())}")


def outcome_text(receipt: receipt_pb2.Receipt) -> str:
    """An outcome in one line: `RAN TURN_INTERRUPTED turn=2`."""
    from bridle.render import enum_name

    outcome = receipt.outcome
    words = [enum_name(outcome, "state")]
    if outcome.error_reason:
        words.append(outcome.error_reason)
    elif outcome.reason:
        words.append(enum_name(outcome, "reason"))
    if outcome.turn:
        words.append(f"turn={outcome.turn}")
    if outcome.input_id:
        words.append(f"input={outcome.input_id}")
    text = " ".join(words)
    return clean_line(f"{text}: {outcome.message}" if outcome.message else text)


def age(stamp: Timestamp) -> str:
    """How long ago that was, in its largest unit."""
    return span(time.time() - stamp.seconds) if stamp.seconds else "-"


def span(seconds: float) -> str:
    """A length of time in at most two units: "4s", "3m10s", "5h", "2d"."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d"


def stamp_text(stamp: Timestamp) -> str:
    """A time as ISO 8601 in local time; "-" where it is not set."""
    from datetime import datetime

    if not stamp.seconds:
        return "-"
    try:
        return datetime.fromtimestamp(stamp.seconds).astimezone().isoformat(" ")
    except (ValueError, OverflowError, OSError):
        return "-"


def clock(stamp: Timestamp) -> str:
    """The local time of day, HH:MM:SS."""
    from bridle.render import clock as of_seconds

    return of_seconds(stamp.seconds)


class Span(click.ParamType[float]):
    """A length of time on the command line: 30, 30s, 1.5m, 2h, 1d; in seconds."""

    name = "time"
    _UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}  # noqa: RUF012

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        text = str(value).strip()
        unit = self._UNITS.get(text[-1:])
        try:
            seconds = float(text[:-1] if unit else text) * (unit or 1.0)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds < 1e9:
            self.fail(f'"{text}" is no length of time, such as 30s, 5m or 2h', param, ctx)
        return seconds


class Pair(click.ParamType[tuple[str, str]]):
    """KEY=VALUE on the command line."""

    name = "pair"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        key, equals, rest = str(value).partition("=")
        if not (key and equals):
            self.fail(f'"{value}" is not KEY=VALUE', param, ctx)
        return key, rest


SPAN = Span()
PAIR = Pair()
