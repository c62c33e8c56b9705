"""Cuts what agents and their commands print: into pieces for the log, into lines, into notes.

Pure: bytes in, pieces out. Used by the drivers.
"""

from __future__ import annotations

from dataclasses import dataclass

#: What one observation of output may hold.
PIECE = 64 * 1024

#: A line of an agent's protocol. Agents do print megabytes in a line, by mistake or as a picture.
LINE = 1024 * 1024
#: How much of a line that is no part of the protocol a note shows.
SHOWN = 200

#: What an agent or its background jobs print beside the protocol goes into notes, and no more than
#: this of it until the next turn: whoever prints without end would fill the log.
LOG_BYTES = 16 * 1024
LOG_NOTES = 64
LOG_NOTE = 4 * 1024


class Pieces:
    """One stream of a turn: pieces of at most PIECE bytes that cut no UTF-8 character in two.

    Nothing waits for the end of a line. At most three bytes wait: a character's beginning, for its
    rest. Bytes that are no UTF-8 pass as they are.
    """

    def __init__(self) -> None:
        self._begun = b""

    @property
    def held(self) -> int:
        """How many bytes wait for the rest of their character."""
        return len(self._begun)

    def feed(self, data: bytes) -> list[bytes]:
        """The pieces that are ready, in order; none is empty."""
        data = self._begun + data
        end = len(data) - unfinished(data)
        self._begun = data[end:]
        pieces = []
        start = 0
        while start < end:
            cut = min(start + PIECE, end)
            if cut < end:
                cut -= unfinished(data[cut - 3 : cut])
            pieces.append(data[start:cut])
            start = cut
        return pieces

    def flush(self) -> list[bytes]:
        """What still waits; nothing more will come."""
        rest, self._begun = self._begun, b""
        return [rest] if rest else []


def unfinished(data: bytes) -> int:
    """How many bytes at the end begin a UTF-8 character without finishing it: 0 to 3."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0x80:
            continue  # inside of a character: look for where it begins
        length = 2 if 0xC2 <= byte <= 0xDF else 3 if byte & 0xF0 == 0xE0 else 0
        if 0xF0 <= byte <= 0xF4:
            length = 4
        return back if back < length else 0
    return 0


@dataclass(frozen=True, slots=True)
class Overlong:
    """A line that was longer than the limit: its beginning, and its length in bytes."""

    beginning: bytes
    size: int


class Lines:
    """Cuts a stream into lines. Never holds more than one line of the limit."""

    def __init__(self, limit: int = LINE, overlong: Overlong | None = None) -> None:
        """overlong: what was begun of a line that is too long, where an earlier reader stood."""
        self._limit = limit
        self._begun = bytearray()
        self._overlong = overlong

    @property
    def held(self) -> int:
        """How many bytes wait for the end of their line. Of an overlong line none do."""
        return len(self._begun)

    @property
    def tail(self) -> bytes:
        """The last of what waits."""
        return bytes(self._begun[-SHOWN:])

    @property
    def overlong(self) -> Overlong | None:
        """The line that is being read, if it is too long already."""
        return self._overlong

    def feed(self, data: bytes) -> list[bytes | Overlong]:
        """The lines that are whole by now, without their ends."""
        *ended, rest = data.split(b"\n")
        lines = []
        for part in ended:
            self._add(part)
            lines.append(self._take())
        self._add(rest)
        return lines

    def end(self) -> list[bytes | Overlong]:
        """What was begun and never ended; nothing more will come."""
        return [self._take()] if self._begun or self._overlong is not None else []

    def _add(self, part: bytes) -> None:
        size = len(self._begun) + len(part)
        if self._overlong is not None:
            size = self._overlong.size + len(part)
            self._overlong = Overlong(self._overlong.beginning, size)
        elif size > self._limit:
            beginning = bytes(self._begun[:SHOWN])
            self._overlong = Overlong((beginning + part[:SHOWN])[:SHOWN], size)
            self._begun = bytearray()
        else:
            self._begun += part

    def _take(self) -> bytes | Overlong:
        overlong, self._overlong = self._overlong, None
        if overlong is not None:
            return overlong
        line = bytes(self._begun)
        self._begun.clear()
        return line


class Log:
    """What is printed beside the protocol until the next turn, up to a bound."""

    def __init__(self, left: int = LOG_BYTES, notes: int = LOG_NOTES, dropped: int = 0) -> None:
        """How much is left of the bounds, and what was left out, as `standing` had them."""
        self._bytes = left
        self._notes = notes
        self._dropped = dropped

    @property
    def standing(self) -> tuple[int, int, int]:
        """What to make another of, that goes on from here."""
        return self._bytes, self._notes, self._dropped

    def feed(self, data: bytes) -> str:
        """The text of a note; empty when the bound is reached."""
        taken = data[: min(LOG_NOTE, self._bytes)] if self._notes else b""
        self._dropped += len(data) - len(taken)
        if not taken:
            return ""
        self._bytes -= len(taken)
        self._notes -= 1
        return taken.decode("utf-8", "replace")

    def end(self) -> int:
        """A turn begins: how many bytes were left out since the last one. Starts anew."""
        dropped = self._dropped
        self._bytes, self._notes, self._dropped = LOG_BYTES, LOG_NOTES, 0
        return dropped
