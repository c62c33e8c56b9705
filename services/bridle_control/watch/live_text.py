"""Text of messages that are still being written: never stored, kept here while it is live.

A host's pieces come in the order of its link, between its Records. Whoever calls `add` has
committed all Records that came before the piece; so a piece never overtakes an event, and once
AgentMessage, TurnEnded or SessionEnded is committed the text is gone from here and no watcher can
still get it.

Each watcher remembers how far it has each message (a Cursors), and takes what is behind that when
it has seen all events; so a new one first gets the text so far, and a slow one gets fewer, longer
pieces. Only a window of each message is kept: who has fallen out of it gets no more of the message.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from bridle.v1 import event_pb2, watch_pb2
from bridle_control.store.api import Appended
from bridle_control.store.event_bytes import unframe

#: How much of one message is kept, in bytes of UTF-8.
MESSAGE_BYTES = 256 * 1024
#: How many messages of one session may be open; agents write one or two at a time.
SESSION_MESSAGES = 8
#: How much is kept over all sessions, in bytes; beyond it the oldest messages go.
TOTAL_BYTES = 64 * 1024 * 1024
#: At most this much in one LiveText, in bytes.
PIECE_BYTES = 64 * 1024

_MESSAGE_KINDS = (event_pb2.EVENT_KIND_AGENT_MESSAGE, event_pb2.EVENT_KIND_AGENT_THOUGHT)
_END_KINDS = frozenset((event_pb2.EVENT_KIND_TURN_ENDED, event_pb2.EVENT_KIND_SESSION_ENDED))
_ALL_KINDS = _END_KINDS.union(_MESSAGE_KINDS)

#: How far a watcher has the open messages of a session: offsets by (turn, message_id).
Cursors = dict[tuple[int, str], int]


@dataclass(slots=True)
class _Message:
    """An open message: bytes `start` .. `end` of its text. `holed`: nothing more is kept of it."""

    start: int = 0
    text: bytearray = field(default_factory=bytearray)
    holed: bool = False

    @property
    def end(self) -> int:
        return self.start + len(self.text)


class LiveText:
    """See the module. Used from the event loop alone."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, OrderedDict[tuple[int, str], _Message]] = OrderedDict()
        self._bytes = 0

    def add(self, session_id: str, turn: int, message_id: str, offset: int, text: str) -> bool:
        """Takes a piece. False when there is nothing new in it for watchers.

        A piece that doesn't join on (a hole, or control was started anew in between) ends what is
        kept of its message, until the message itself comes.
        """
        messages = self._sessions.setdefault(session_id, OrderedDict())
        self._sessions.move_to_end(session_id)
        key = (turn, message_id)
        message = messages.get(key)
        if message is None:
            message = messages[key] = _Message()
            while len(messages) > SESSION_MESSAGES:
                self._forget(messages.popitem(last=False)[1])
        if message.holed:
            return False
        if offset != message.end:
            self._forget(message)
            message.holed = True
            return False
        data = text.encode()
        message.text += data
        self._bytes += len(data)
        self._trim(message)
        self._make_room()
        return True

    def committed(self, appended: Appended) -> None:
        """Lets go of the messages whose end was committed."""
        messages = self._sessions.get(appended.session_id)
        if not messages or _ALL_KINDS.isdisjoint(appended.kinds):
            return
        for kind, framed in zip(appended.kinds, appended.framed, strict=True):
            if kind in _END_KINDS:
                self.drop(appended.session_id)
                return
            if kind in _MESSAGE_KINDS:
                event = event_pb2.Event.FromString(unframe(framed))
                said = event.agent_message.message_id or event.agent_thought.message_id
                if (message := messages.pop((event.turn, said), None)) is not None:
                    self._forget(message)
        if not messages:
            del self._sessions[appended.session_id]

    def drop(self, session_id: str) -> None:
        """Lets go of all messages of a session."""
        for message in self._sessions.pop(session_id, {}).values():
            self._forget(message)

    def next(self, session_id: str, seen: Cursors) -> bytes | None:
        """The next serialized WatchResponse for a watcher that has seen that far, or None.

        Moves `seen` on.
        """
        messages = self._sessions.get(session_id)
        if not messages:
            seen.clear()
            return None
        for gone in [key for key in seen if key not in messages]:
            del seen[gone]
        for (turn, message_id), message in messages.items():
            have = seen.get((turn, message_id), 0)
            if have < message.start or have >= message.end:
                continue
            piece = _cut(message.text, have - message.start)
            seen[turn, message_id] = have + len(piece)
            text = watch_pb2.LiveText(
                session_id=session_id,
                turn=turn,
                message_id=message_id,
                offset=have,
                text=piece.decode(),
            )
            return watch_pb2.WatchResponse(live_text=text).SerializeToString()
        return None

    def _trim(self, message: _Message) -> None:
        """Drops the beginning of a message that has grown beyond its window, to half of it."""
        if len(message.text) <= MESSAGE_BYTES:
            return
        drop = _boundary(message.text, len(message.text) - MESSAGE_BYTES // 2)
        del message.text[:drop]
        message.start += drop
        self._bytes -= drop

    def _make_room(self) -> None:
        while self._bytes > TOTAL_BYTES:
            self.drop(next(iter(self._sessions)))

    def _forget(self, message: _Message) -> None:
        self._bytes -= len(message.text)
        message.text.clear()


def _boundary(text: bytearray, position: int) -> int:
    """The first place at or behind `position` where a character begins."""
    while position < len(text) and text[position] & 0xC0 == 0x80:
        position += 1
    return position


def _cut(text: bytearray, start: int) -> bytes:
    """A piece from `start`, which ends with a whole character."""
    end = min(start + PIECE_BYTES, len(text))
    while end < len(text) and text[end] & 0xC0 == 0x80:
        end -= 1
    return bytes(text[start:end])
