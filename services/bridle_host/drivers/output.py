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

    def __init__(self, limit: int = LINE) -> None:
        self._limit = limit
        self._begun = bytearray()
        self._size = 0

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
        return [self._take()] if self._size else []

    def _add(self, part: bytes) -> None:
        self._size += len(part)
        if room := self._limit - len(self._begun):
            self._begun += part[:room]

    def _take(self) -> bytes | Overlong:
        line, size = bytes(self._begun), self._size
        self._begun.clear()
        self._size = 0
        return Overlong(line[:SHOWN], size) if size > len(line) else line


class Log:
    """What is printed beside the protocol until the next turn, up to a bound."""

    def __init__(self) -> None:
        self._bytes = LOG_BYTES
        self._notes = LOG_NOTES
        self._dropped = 0

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
