"""A terminal with a few lines at its bottom that change: above them everything scrolls by.

`Screen` knows nothing of Bridle; `Standing` keeps what the status line tells. Called by
the commands that stay: watch, attach.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from bridle.cli import output
from bridle.terminal import Cleaner, clean_line, cut, paint

if TYPE_CHECKING:
    from bridle.v1 import event_pb2, session_pb2, watch_pb2

#: Live text that is kept for display, in characters; a message comes whole when it is finished.
LIVE_CAP = 8192


class Screen:
    """Prints lines for good, and keeps `bottom` beneath them. Takes clean text only."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._drawn = 0  # lines of the bottom that stand on the terminal
        self._bottom: list[tuple[str, str]] = []

    def print(self, lines: Sequence[str]) -> None:
        """Prints lines above the bottom."""
        if lines:
            self._write(self._erased() + "".join(f"{line}\n" for line in lines) + self._redrawn())

    def bottom(self, lines: Sequence[tuple[str, str]]) -> None:
        """Sets the bottom: lines and their styles, each cut to the terminal's width."""
        if list(lines) != self._bottom:
            self._bottom = list(lines)
            self._write(self._erased() + self._redrawn())

    def entered(self, width: int) -> None:
        """Somebody typed so many columns behind the bottom, and Enter: the terminal echoed it, and
        the cursor stands beneath. It goes with the bottom when that is drawn anew.
        """
        if self._drawn:
            self._drawn += 1 + (len(self._bottom[-1][0]) + width) // shutil.get_terminal_size()[0]

    def close(self) -> None:
        """Takes the bottom away."""
        self.bottom([])

    def _erased(self) -> str:
        up = "\x1b[1A\x1b[2K" * (self._drawn - 1) if self._drawn > 1 else ""
        erased = f"\r\x1b[2K{up}" if self._drawn else ""
        self._drawn = 0
        return erased

    def _redrawn(self) -> str:
        columns, rows = shutil.get_terminal_size()
        shown = self._bottom[-max(1, rows // 2) :]
        self._drawn = len(shown)
        return "\n".join(paint(cut(text, columns - 1), style, True) for text, style in shown)

    def _write(self, text: str) -> None:
        if text:
            self._out.write(text)
            self._out.flush()


class Standing:
    """Where a session stands, kept up to date by its events, and as a line to look at."""

    def __init__(self, session: session_pb2.Session) -> None:
        from bridle.render import enum_name

        self._slug = clean_line(session.slug)
        self._seen = session.last_sequence
        self._phase = enum_name(session, "phase")
        self._turn = session.turn
        self._turn_since = time.time() if session.turn_open else 0.0
        self._waiting = session.inputs_waiting
        self._held = output_is_held(session)
        self.connected = True

    def see(self, event: event_pb2.Event) -> None:
        """Takes the next event; those that the session's row held already change only times."""
        from bridle.render import enum_name

        kind = event.WhichOneof("kind")
        if kind == "turn_started" and event.turn >= self._turn:
            # The host's clock may differ from ours: a turn is never younger than nothing.
            self._turn_since = min(time.time(), event.time.seconds + event.time.nanos / 1e9)
        if event.sequence <= self._seen:
            return
        if kind == "phase_changed":
            self._phase = enum_name(event.phase_changed, "to")
        elif kind in ("session_started", "session_resumed"):
            self._phase = "STARTING"
        elif kind == "session_ended":
            self._phase, self._turn_since = enum_name(event.session_ended, "phase"), 0.0
        elif kind == "turn_started":
            self._turn = event.turn
        elif kind == "turn_ended":
            self._turn_since = 0.0
        elif kind == "input_queued":
            self._waiting += 1
        elif kind in ("input_consumed", "input_cancelled"):
            self._waiting = max(0, self._waiting - 1)
        elif kind in ("queue_held", "queue_released"):
            self._held = kind == "queue_held"

    def line(self) -> tuple[str, str]:
        """The status line and its style."""
        parts = [self._slug, self._phase]
        if self._turn:
            since = self._turn_since
            parts.append(
                f"turn {self._turn}" + (f" {output.span(time.time() - since)}" if since else "")
            )
        parts.append(f"queue {self._waiting}{' HELD' if self._held else ''}")
        if not self.connected:
            parts.append("connection lost, trying again")
            return "  ".join(parts), "yellow"
        return "  ".join(parts), output.PHASE_STYLES.get(self._phase, "")


def output_is_held(session: session_pb2.Session) -> bool:
    from bridle.v1 import session_pb2 as pb

    return session.queue_state == pb.QUEUE_STATE_HELD


class LiveMessage:
    """The message that is still being written, for display only."""

    def __init__(self) -> None:
        self._message_id = ""
        self._bytes = 0
        self._text = ""
        self._cleaner = Cleaner()

    def take(self, live: watch_pb2.LiveText) -> None:
        """Adds text; on a hole the message is dropped until it comes whole."""
        if live.message_id != self._message_id or live.offset == 0:
            self._message_id, self._bytes, self._text = live.message_id, 0, ""
            self._cleaner = Cleaner()
        if live.offset == self._bytes:
            self._bytes += len(live.text.encode())
            self._text = (self._text + self._cleaner.feed(live.text))[-LIVE_CAP:]
        else:
            self._bytes, self._text = -1, ""

    def clear(self) -> None:
        """It is finished, or its turn is over."""
        self._message_id, self._bytes, self._text = "", 0, ""

    def lines(self) -> list[tuple[str, str]]:
        """Its lines and their style."""
        shown = self._text.rstrip("\n").split("\n") if self._text else []
        return [(f"  {line}".replace("\t", "    "), "dim") for line in shown]
