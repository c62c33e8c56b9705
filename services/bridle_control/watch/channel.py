"""One session that is being watched: its head, who waits for it, and the way to its events.

A channel exists while somebody watches the session. It learns of commits by the hub, takes events
from its tail where it can and from the store where it must, and lets watchers that want the same
frame at the same time read it once. Called by the hub and the readers.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from bridle.v1 import session_pb2
from bridle_control.store.api import Appended, EventSlice, LogBounds, ReadTx, Store
from bridle_control.store.sqlite_errors import log_corrupt
from bridle_control.watch.frames import (
    FRAME_BYTES,
    FRAME_EVENTS,
    Frame,
    FrameCache,
    FrameKey,
    Framer,
    Tail,
    Tails,
)
from bridle_core.errors import BridleError, Reason

#: Seconds between two wake-ups for each watcher of a session: what comes meanwhile leaves as one
#: frame. A frame costs about half of it, so that however many watch a session that is busy, there
#: is time left for the commits. One that is not busy is told of at once.
FRAME_COST = 0.0002
#: But no longer than this, in seconds.
LONGEST_REST = 0.05

ENDED_PHASES = frozenset(
    (session_pb2.PHASE_STOPPED, session_pb2.PHASE_FAILED, session_pb2.PHASE_KILLED)
)


class Waiter(Protocol):
    """Somebody who waits for news of a session."""

    def wake(self) -> None: ...


def session_gone(session_id: str) -> BridleError:
    return BridleError(
        Reason.SESSION_NOT_FOUND,
        "no such session",
        metadata={"session": session_id},
    )


def cursor_compacted(session_id: str, floor: int) -> BridleError:
    return BridleError(
        Reason.CURSOR_COMPACTED,
        f"the log of session {session_id} begins at {floor}",
        metadata={"session": session_id, "floor": str(floor)},
    )


class Channel:
    """See the module. Used from the event loop alone."""

    def __init__(self, session_id: str, store: Store, cache: FrameCache, tails: Tails) -> None:
        self.session_id = session_id
        self.framer = Framer(session_id, store.log_id)
        #: The newest sequence that is known to be committed; 0 before the store was asked.
        self.head = 0
        self.deleted = False
        #: Counts what may have opened or ended a run.
        self.row_changes = 1
        self.waiters: set[Waiter] = set()
        self._store = store
        self._cache = cache
        self._tail = Tail(tails)
        self._woken = 0.0  # when the waiters were told last, and what will tell them next
        self._timer: asyncio.TimerHandle | None = None
        self._over = False
        self._over_at = 0  # the row_changes that `_over` was read at
        # Reads under way, so that whoever wants the same frame waits for it.
        self._reading: dict[FrameKey, asyncio.Future[None]] = {}

    # ---- what the hub tells

    def committed(self, appended: Appended) -> None:
        """New events are in the store."""
        last = appended.first + len(appended.framed) - 1
        if last <= self.head:
            return
        self.head = last
        self._tail.extend(appended.first, appended.kinds, appended.framed)

    def advance(self, head: int) -> None:
        """The store has events up to `head`."""
        self.head = max(self.head, head)

    def wake(self) -> None:
        """Tells all waiters, at once after a rest, and no more often than they can be served."""
        if self._timer is not None:
            return
        loop = asyncio.get_running_loop()
        early = self._woken + min(len(self.waiters) * FRAME_COST, LONGEST_REST) - loop.time()
        if early > 0:
            self._timer = loop.call_later(early, self._wake)
        else:
            self._wake()

    def _wake(self) -> None:
        self._timer = None
        self._woken = asyncio.get_running_loop().time()
        for waiter in self.waiters:
            waiter.wake()

    def rest(self) -> None:
        """Nothing came for a while: what is kept for those who are only a little behind goes."""
        self._tail.clear()

    def close(self) -> None:
        """Nobody watches the session any more."""
        self._tail.clear()
        if self._timer is not None:
            self._timer.cancel()

    # ---- what the readers ask

    async def frame(self, cursor: int, kinds: frozenset[int]) -> Frame:
        """The next frame after a cursor that is below the head.

        Raises CURSOR_COMPACTED, SESSION_NOT_FOUND, LOG_CORRUPT.
        """
        key = (self.session_id, cursor, kinds)
        while True:
            frame = self._cache.get(key)
            # A frame that was short since the log ended there may be longer by now.
            if frame is not None and (frame.last == self.head or self._is_full(frame, cursor)):
                return frame
            if (found := self._tail.after(cursor, kinds)) is not None:
                return self._keep(key, self.framer.events(*found))
            if (pending := self._reading.get(key)) is None:
                return await self._read(key)
            await asyncio.wait((pending,))

    @staticmethod
    def _is_full(frame: Frame, cursor: int) -> bool:
        return frame.last - cursor >= FRAME_EVENTS or len(frame.data) > FRAME_BYTES // 2

    async def _read(self, key: FrameKey) -> Frame:
        _, cursor, kinds = key
        done = self._reading[key] = asyncio.get_running_loop().create_future()
        try:
            bounds, part = await self._store.read(lambda tx: self._slice(tx, cursor, kinds))
        finally:
            # Those who wait look again: for the frame, or to read it themselves.
            del self._reading[key]
            done.set_result(None)
        if bounds is None:
            raise session_gone(self.session_id)
        if bounds.floor > cursor + 1:
            raise cursor_compacted(self.session_id, bounds.floor)
        if part.scanned <= cursor:
            # The head was once told, so events were there.
            raise log_corrupt(f"the log of session {self.session_id} is shorter than it was")
        self.advance(bounds.head)
        return self._keep(key, self.framer.events(part.framed, part.scanned))

    def _keep(self, key: FrameKey, frame: Frame) -> Frame:
        """Keeps a frame for the others, if there are any."""
        if len(self.waiters) > 1:
            self._cache.put(key, frame)
        return frame

    def _slice(
        self, tx: ReadTx, cursor: int, kinds: frozenset[int]
    ) -> tuple[LogBounds | None, EventSlice]:
        part = tx.events(
            self.session_id,
            cursor,
            kinds=sorted(kinds),
            limit=FRAME_EVENTS,
            max_bytes=FRAME_BYTES,
        )
        return tx.bounds(self.session_id), part

    async def run_is_over(self) -> bool:
        """Whether the newest run has ended; `head` is then at or behind its SessionEnded."""
        while self._over_at != self.row_changes:
            version = self.row_changes
            session = await self._store.read(lambda tx: tx.session(self.session_id))
            if session is None:
                raise session_gone(self.session_id)
            self.advance(session.last_sequence)
            self._over = session.phase in ENDED_PHASES
            self._over_at = version
        return self._over
