"""The messages of a Watch as bytes, and the two short memories that let watchers share them.

A frame is a serialized WatchResponse that holds an EventBatch, made by joining events as the store
keeps them; nothing is parsed. Called by the channels of the hub. Knows the field numbers of
WatchResponse, EventBatch and Progress, which never change.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from bridle_control.store.event_bytes import field_bytes, varint

#: A frame ends at this many events or this many bytes (but holds one event at least). Small enough
#: that a watcher of many sessions hears of all of them, large enough to spare the calls.
FRAME_EVENTS = 256
FRAME_BYTES = 256 * 1024

_RESPONSE_EVENTS = b"\x0a"  # WatchResponse.events = 1
_RESPONSE_PROGRESS = b"\x12"  # WatchResponse.progress = 2
_RESPONSE_COMPACTED = b"\x1a"  # WatchResponse.compacted = 3
_SESSION_ID = b"\x0a"  # EventBatch, Progress, Compacted: session_id = 1
_LOG_ID = b"\x12"  # and log_id = 2
_NUMBER = b"\x18"  # Progress.sequence, Compacted.floor_sequence = 3
_ENDED = b"\x20\x01"  # Progress.ended = 4, true


@dataclass(frozen=True, slots=True)
class Frame:
    """Events `after` + 1 .. `last` of a session, as far as the filter lets them through.

    `data` is the serialized WatchResponse, b"" when the filter left out all of them.
    """

    data: bytes
    last: int


class Framer:
    """Makes the messages of one session."""

    __slots__ = ("_head",)

    def __init__(self, session_id: str, log_id: str) -> None:
        self._head = field_bytes(_SESSION_ID, session_id.encode()) + field_bytes(
            _LOG_ID, log_id.encode()
        )

    def events(self, framed: Sequence[bytes], last: int) -> Frame:
        """A frame of events as the store keeps them."""
        if not framed:
            return Frame(b"", last)
        size = len(self._head) + sum(map(len, framed))
        return Frame(b"".join((_RESPONSE_EVENTS, varint(size), self._head, *framed)), last)

    def progress(self, sequence: int, *, ended: bool = False) -> bytes:
        """A serialized WatchResponse with a Progress."""
        number = _NUMBER + varint(sequence) if sequence else b""
        return field_bytes(_RESPONSE_PROGRESS, self._head + number + (_ENDED if ended else b""))

    def compacted(self, floor: int) -> bytes:
        """A serialized WatchResponse with a Compacted."""
        return field_bytes(_RESPONSE_COMPACTED, self._head + _NUMBER + varint(floor))


class Tails:
    """The tails of all sessions that are watched: together they are bounded, too.

    The ones that nothing was added to for longest go first; who needed them reads the store.
    """

    #: Enough for a frame or two of each of the sessions that are busy at a time.
    MAX_BYTES = 16 * 1024 * 1024

    def __init__(self) -> None:
        self._sizes: OrderedDict[Tail, int] = OrderedDict()
        self.bytes = 0

    def grown(self, tail: Tail, size: int) -> None:
        """A tail takes so many bytes now; 0 takes it off the books."""
        self.bytes += size - self._sizes.pop(tail, 0)
        if size:
            self._sizes[tail] = size
        while self.bytes > self.MAX_BYTES and len(self._sizes) > 1:
            next(iter(self._sizes)).clear()


class Tail:
    """The newest events of a session that is watched, as they were committed.

    Bounded by TAIL_EVENTS and TAIL_BYTES; whoever is further behind reads the store.
    """

    __slots__ = ("_bytes", "_first", "_framed", "_kinds", "_tails")

    #: What comes while a watcher writes a frame or two: one commit of a flood has thousands.
    TAIL_EVENTS = 16 * FRAME_EVENTS
    TAIL_BYTES = 4 * FRAME_BYTES
    #: What an event takes beside its bytes.
    EVENT_COST = 64

    def __init__(self, tails: Tails) -> None:
        self._tails = tails
        self.clear()

    def clear(self) -> None:
        self._first = 1
        self._framed: list[bytes] = []
        self._kinds: list[int] = []
        self._bytes = 0
        self._tails.grown(self, 0)

    def extend(self, first: int, kinds: Sequence[int], framed: Sequence[bytes]) -> None:
        """Adds what was committed; what does not join on begins it anew."""
        if not self._framed or first != self._first + len(self._framed):
            self.clear()
            self._first = first
        self._framed += framed
        self._kinds += kinds
        self._bytes += sum(map(len, framed))
        if len(self._framed) > self.TAIL_EVENTS or self._bytes > self.TAIL_BYTES:
            self._trim()
        self._tails.grown(self, self._bytes + self.EVENT_COST * len(self._framed))

    def _trim(self) -> None:
        # To half of the bounds, so that the list isn't moved at each event.
        drop = max(0, len(self._framed) - self.TAIL_EVENTS // 2)
        self._bytes -= sum(map(len, self._framed[:drop]))
        while self._bytes > self.TAIL_BYTES // 2 and drop < len(self._framed):
            self._bytes -= len(self._framed[drop])
            drop += 1
        self._first += drop
        del self._framed[:drop], self._kinds[:drop]

    def after(self, cursor: int, kinds: frozenset[int]) -> tuple[list[bytes], int] | None:
        """A frame's worth of events after a cursor, and the last sequence that it covers; None
        when they are not (all) here."""
        start = cursor + 1 - self._first
        if start < 0 or start >= len(self._framed):
            return None
        taken = self._framed[start : start + FRAME_EVENTS]
        size = 0
        for count, event in enumerate(taken):
            size += len(event)
            if size > FRAME_BYTES and count:
                del taken[count:]
                break
        last = cursor + len(taken)
        if kinds:
            found = self._kinds[start : start + len(taken)]
            taken = [event for event, kind in zip(taken, found, strict=True) if kind in kinds]
        return taken, last


FrameKey = tuple[str, int, frozenset[int]]


class FrameCache:
    """Frames that were made lately, over all sessions: watchers at the same cursor share the bytes.

    The least recently used go first.
    """

    #: Together with what is being written to watchers this bounds what frames take.
    MAX_BYTES = 8 * 1024 * 1024
    #: Small frames cost more than their bytes.
    MAX_FRAMES = 1024

    def __init__(self) -> None:
        self._frames: OrderedDict[FrameKey, Frame] = OrderedDict()
        self._bytes = 0

    def get(self, key: FrameKey) -> Frame | None:
        frame = self._frames.get(key)
        if frame is not None:
            self._frames.move_to_end(key)
        return frame

    def put(self, key: FrameKey, frame: Frame) -> None:
        old = self._frames.pop(key, None)
        self._bytes += len(frame.data) - (len(old.data) if old else 0)
        self._frames[key] = frame
        while self._bytes > self.MAX_BYTES or len(self._frames) > self.MAX_FRAMES:
            _, gone = self._frames.popitem(last=False)
            self._bytes -= len(gone.data)

    def drop_session(self, session_id: str) -> None:
        """Forgets the frames of a session that nobody watches any more."""
        for key in [key for key in self._frames if key[0] == session_id]:
            self._bytes -= len(self._frames.pop(key).data)
