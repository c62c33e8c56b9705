"""The watch hub: every Watch is a reader of the log by cursor.

The store is the only source of events; what a commit tells the hub (`Changes`) wakes watchers and
spares them a read, no more. Hence a watcher that is slow costs one frame of memory and slows
nobody, and one that comes back after a restart goes on from its cursor as if nothing had been.

`Hub.watch` yields serialized WatchResponses; the RPC's handler writes them as they are (it has no
response serializer). Called by SessionService; the host links hand in live text.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager

from bridle.v1 import event_pb2
from bridle_control.clock import Clock, SystemClock, wait
from bridle_control.store.api import Changes, Store
from bridle_control.watch.channel import Channel
from bridle_control.watch.frames import FrameCache, Tails
from bridle_control.watch.limits import WatchLimit
from bridle_control.watch.live_text import LiveText
from bridle_control.watch.reader import Reader, Target, Wish
from bridle_core.errors import BridleError, FieldViolation, Reason

__all__ = ["Hub", "Target"]

#: After this much silence a target says Progress, in seconds. The contract promises 15.
PROGRESS_EVERY = 12.0


class _Call:
    """One Watch: what wakes it, and what it reads."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.readers: list[Reader] = []

    def wake(self) -> None:
        self.event.set()


class Hub:
    """See the module. One per process, used from its event loop alone."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock | None = None,
        limit: WatchLimit | None = None,
        progress_every: float = PROGRESS_EVERY,
    ) -> None:
        self._store = store
        self._clock = clock or SystemClock()
        self._limit = limit or WatchLimit()
        self._progress_every = progress_every
        self._channels: dict[str, Channel] = {}
        self._cache = FrameCache()
        self._tails = Tails()
        self._live = LiveText()
        self._calls: set[_Call] = set()  # bounded as the watches are
        store.listen(self._committed)

    # ---- what others tell

    def add_live_text(
        self, session_id: str, turn: int, message_id: str, offset: int, text: str
    ) -> None:
        """A piece of a message that is being written; `offset` in bytes of UTF-8.

        All Records that came before it on the host's link must have been committed, and it must
        belong to the session's current run.
        """
        if self._live.add(session_id, turn, message_id, offset, text):
            channel = self._channels.get(session_id)
            if channel is not None:
                channel.wake()

    def _committed(self, changes: Changes) -> None:
        for appended in changes.appended:
            self._live.committed(appended)
            channel = self._channels.get(appended.session_id)
            if channel is not None:
                channel.committed(appended)
                if event_pb2.EVENT_KIND_SESSION_ENDED in appended.kinds:
                    channel.row_changes += 1
                channel.wake()
        for session_id in changes.deleted:
            self._live.drop(session_id)
        if not self._channels:
            return
        # (In an order that hangs on no hash: a simulated story must be the same each time.)
        for session_id in sorted(changes.sessions | changes.deleted):
            channel = self._channels.get(session_id)
            if channel is not None:
                channel.row_changes += 1
                channel.deleted = channel.deleted or session_id in changes.deleted
                channel.wake()

    # ---- what is measured

    def lags(self) -> list[int]:
        """For each target of each open Watch: how many events it is behind."""
        return [reader.lag for call in self._calls for reader in call.readers]

    # ---- watching

    async def watch(
        self,
        targets: Sequence[Target],
        *,
        principal_key: str,
        until_run_end: bool = False,
        kinds: Sequence[int] = (),
        live_text: bool = False,
    ) -> AsyncGenerator[bytes, None]:
        """Serialized WatchResponses of all targets, in one stream, until it ends or is closed.

        The first message of each target is Progress or Compacted, at the cursor where it begins.
        Nothing is read ahead: at most one frame is held at a time. Raises TOO_MANY_WATCHES,
        SESSION_NOT_FOUND, CURSOR_COMPACTED, CURSOR_FOREIGN, INVALID_REQUEST (a session that is
        named twice), LOG_CORRUPT.
        """
        _refuse_twins(targets)
        wish = Wish(until_run_end, frozenset(kinds), live_text)
        call = _Call()
        with self._limit.admit(principal_key), self._channels_of(targets, call) as channels:
            call.readers = await self._open(targets, channels, wish)
            while call.readers:
                # Cleared before looking: what comes from here on makes another round.
                call.event.clear()
                idle = True
                # One message of each target a round: none of them can crowd out the others.
                for reader in call.readers:
                    message = await reader.next()
                    if message is not None:
                        idle = False
                        yield message
                call.readers = [reader for reader in call.readers if not reader.ended]
                if idle and not any(reader.behind for reader in call.readers):
                    soonest = min(reader.due for reader in call.readers)
                    await wait(call.event, self._clock, soonest)

    @contextmanager
    def _channels_of(self, targets: Sequence[Target], call: _Call) -> Iterator[list[Channel]]:
        """The targets' channels, which tell the call of commits from now on."""
        self._calls.add(call)
        channels = [self._join(target.session_id, call) for target in targets]
        try:
            yield channels
        finally:
            self._calls.discard(call)
            for channel in channels:
                self._leave(channel, call)

    def _join(self, session_id: str, call: _Call) -> Channel:
        channel = self._channels.get(session_id)
        if channel is None:
            channel = Channel(session_id, self._store, self._cache, self._tails)
            self._channels[session_id] = channel
        channel.waiters.add(call)
        return channel

    def _leave(self, channel: Channel, call: _Call) -> None:
        channel.waiters.discard(call)
        if not channel.waiters and self._channels.get(channel.session_id) is channel:
            del self._channels[channel.session_id]
            channel.close()
            self._cache.drop_session(channel.session_id)

    async def _open(
        self, targets: Sequence[Target], channels: Sequence[Channel], wish: Wish
    ) -> list[Reader]:
        """Readers at their starting cursors, as one snapshot of the store tells them."""
        ids = [target.session_id for target in targets]
        # The channels were joined before this: no commit falls between the read and the listening.
        sessions = await self._store.read(lambda tx: [tx.session(each) for each in ids])
        readers = []
        for target, channel, session in zip(targets, channels, sessions, strict=True):
            reader = Reader(
                channel, self._live, wish, clock=self._clock, progress_every=self._progress_every
            )
            reader.begin(target, session, self._store.log_id)
            readers.append(reader)
        return readers


def _refuse_twins(targets: Sequence[Target]) -> None:
    """A session that is named twice could keep none of its promises in one stream."""
    seen: set[str] = set()
    for index, target in enumerate(targets):
        if target.session_id in seen:
            field = FieldViolation(f"targets[{index}].session", "the session is named twice")
            raise BridleError(
                Reason.INVALID_REQUEST, "a session may be watched once in a call", fields=(field,)
            )
        seen.add(target.session_id)
