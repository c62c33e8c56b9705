"""Live text on its way to control: keeps its place among the journal's entries, and is bounded.

A piece is stamped with the newest entry that had a number when the piece came. It leaves after that
entry and before the next one; so none follows its AgentMessage or its TurnEnded, and none runs
ahead of its TurnStarted. Pieces of one message that stand at the same place become one.

Live text may be lost, and here it is: when nobody listens, and when the queue is full. Whoever
reads it sees the hole by the offsets. No I/O; used by `bridle_host.link` only.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from bridle.host.v1 import host_link_service_pb2 as host_pb

#: Bytes of text that wait at most: a second or two of very many writing agents. What would come too
#: late to be read live is read from the log anyway.
QUEUE_BYTES = 1024 * 1024
#: Pieces that wait at most: the same bound for tiny ones.
QUEUE_PIECES = 4096

_Key = tuple[str, int, int, str]


@dataclass(slots=True, eq=False)
class _Waiting:
    """Pieces of one message that stand at the same place and follow each other without a hole."""

    place: int
    first: host_pb.LiveTextPiece
    texts: list[str]
    end: int


class LiveTexts:
    """The queue. See the module."""

    def __init__(self) -> None:
        self._queue: deque[_Waiting] = deque()
        self._newest: dict[_Key, _Waiting] = {}
        self._size = 0

    def put(self, piece: host_pb.LiveTextPiece, place: int) -> None:
        """Takes a piece that came when `place` was the newest number of the journal."""
        size = len(piece.text.encode())
        if self._size + size > QUEUE_BYTES or len(self._queue) >= QUEUE_PIECES:
            return
        self._size += size
        key = _key(piece)
        newest = self._newest.get(key)
        if newest is not None and newest.place == place and newest.end == piece.offset:
            newest.texts.append(piece.text)
            newest.end += size
            return
        waiting = _Waiting(place, piece, [piece.text], piece.offset + size)
        self._newest[key] = waiting
        self._queue.append(waiting)

    def next_place(self) -> int | None:
        """The entry after which the oldest piece leaves; None when nothing waits."""
        return self._queue[0].place if self._queue else None

    def take(self, cursor: int, max_bytes: int) -> list[host_pb.LiveTextPiece]:
        """The pieces that leave when all entries up to `cursor` have left; at least one of them."""
        taken: list[host_pb.LiveTextPiece] = []
        while self._queue and self._queue[0].place <= cursor and (max_bytes > 0 or not taken):
            waiting = self._queue.popleft()
            key = _key(waiting.first)
            if self._newest.get(key) is waiting:
                del self._newest[key]
            size = waiting.end - waiting.first.offset
            self._size -= size
            max_bytes -= size
            piece = host_pb.LiveTextPiece()
            piece.CopyFrom(waiting.first)
            piece.text = "".join(waiting.texts)
            taken.append(piece)
        return taken

    def clear(self) -> None:
        """Forgets all of them."""
        self._queue.clear()
        self._newest.clear()
        self._size = 0


def _key(piece: host_pb.LiveTextPiece) -> _Key:
    return piece.session_id, piece.run, piece.turn, piece.message_id
