"""One target of one Watch: a cursor, and what is to be said next.

The promises of Watch are kept here: the cursor only moves on by what was handed out (or left out by
`kinds`), and what is handed out always begins right behind it. Called by the hub, which goes round
the targets of a Watch and writes what they say.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridle_control.clock import Clock
from bridle_control.store.api import SessionRow
from bridle_control.watch.channel import Channel, cursor_compacted, session_gone
from bridle_control.watch.live_text import Cursors, LiveText
from bridle_core.errors import BridleError, Reason


@dataclass(frozen=True, slots=True)
class Target:
    """A session to watch, and where to begin.

    `after` is the last sequence that the watcher has seen, 0 for the floor; or `tail`, this many of
    the newest events. `log_id` is the log that `after` belongs to, "" where the watcher knows none.
    """

    session_id: str
    after: int = 0
    tail: int | None = None
    log_id: str = ""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a Watch wants of all its targets. `kinds` empty: all."""

    until_run_end: bool = False
    kinds: frozenset[int] = frozenset()
    live_text: bool = False


class Reader:
    """See the module."""

    def __init__(
        self,
        channel: Channel,
        live: LiveText,
        wish: Wish,
        *,
        clock: Clock,
        progress_every: float,
    ) -> None:
        self._channel = channel
        self._live = live
        self._wish = wish
        self._clock = clock
        self._progress_every = progress_every
        self._cursor = 0
        self._opening: bytes | None = None
        self._from_floor = False  # it began at the floor, and no event was handed out yet
        self._texts: Cursors = {}
        self.ended = False
        #: When the next Progress is due, in seconds of the clock.
        self.due = 0.0

    def begin(self, target: Target, session: SessionRow | None, log_id: str) -> None:
        """Sets the cursor. Raises SESSION_NOT_FOUND, CURSOR_FOREIGN, CURSOR_COMPACTED."""
        if session is None:
            raise session_gone(target.session_id)
        floor, head = session.floor_sequence, session.last_sequence
        self._channel.advance(head)
        if target.tail is not None:
            self._cursor = max(floor - 1, head - target.tail)
        elif target.after == 0:
            self._from_floor = True
            self._cursor = floor - 1
            if floor > 1:
                self._opening = self._channel.framer.compacted(floor)
        else:
            if target.log_id not in ("", log_id):
                raise BridleError(
                    Reason.CURSOR_FOREIGN,
                    "the cursor belongs to another log; start at 0",
                    metadata={"session": target.session_id, "log_id": log_id},
                )
            if target.after < floor - 1:
                raise cursor_compacted(target.session_id, floor)
            self._cursor = target.after
        if self._opening is None:
            self._opening = self._channel.framer.progress(self._cursor)

    @property
    def behind(self) -> bool:
        """Whether there are events that it has not looked at."""
        return self._cursor < self._channel.head

    @property
    def lag(self) -> int:
        """How many events are committed that it has not looked at."""
        return max(0, self._channel.head - self._cursor)

    async def next(self) -> bytes | None:
        """The next serialized WatchResponse, or None when there is nothing to say now.

        Raises SESSION_NOT_FOUND, CURSOR_COMPACTED, LOG_CORRUPT.
        """
        message = await self._next()
        if message is not None:
            self.due = self._clock.now() + self._progress_every
        return message

    async def _next(self) -> bytes | None:
        if self._channel.deleted:
            raise session_gone(self._channel.session_id)
        if self._opening is not None:
            opening, self._opening = self._opening, None
            return opening
        if self.behind:
            try:
                frame = await self._channel.frame(self._cursor, self._wish.kinds)
            except BridleError as error:
                if error.reason is not Reason.CURSOR_COMPACTED or not self._from_floor:
                    raise
                # The floor rose before its first event was read; to it any floor is right.
                self._cursor = int(error.metadata["floor"]) - 1
                return self._channel.framer.compacted(self._cursor + 1)
            self._cursor = frame.last
            self._from_floor = False
            if frame.data:
                return frame.data
        # Also when the last events before the head were left out by the filter.
        if not self.behind and (message := await self._at_the_head()) is not None:
            return message
        if self._clock.now() >= self.due:
            if not self.behind:
                self._channel.rest()
            return self._channel.framer.progress(self._cursor)
        return None

    async def _at_the_head(self) -> bytes | None:
        """What there is to say once all events were handed out."""
        channel = self._channel
        # A cursor in the future is beyond the text that belongs to the present.
        if self._wish.live_text and self._cursor == channel.head:
            text = self._live.next(channel.session_id, self._texts)
            if text is not None:
                return text
        if self._wish.until_run_end and await channel.run_is_over() and not self.behind:
            self.ended = True
            return channel.framer.progress(self._cursor, ended=True)
        return None
