"""The validator of event logs: what was promised of Watch, checked against what watchers were told.

Anybody who watches in a test keeps a `Recorder` beside it, reads the logs in full at the end
(`Log`), and calls `validate`. It raises `Broken`, which names the promise, at the first thing that
a watcher may not have been told; or returns how much was checked, so that a run in which nothing
happened doesn't pass for a good one.

    recorder = Recorder(kinds=())
    recorder.opened({session_id: after})     # at each connection, with the cursors asked for
    recorder.said(watch_response)            # each message, as it came; or `recorder.update(…)`
    recorder.lost()                          # the connection broke, or ended
    log = Log.of(session_id, log_id, events) # the final full read
    log.learn([recorder, …])                 # what is compacted by then is known from watchers
    checked = validate(log, recorder)        # counts; raises Broken
    check_log(log)                           # the log for itself: numbers, times, the order table

Built for long runs: an event is kept as some thirty bytes, not as a message.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from typing import NamedTuple, Self

from bridle.v1 import event_pb2, watch_pb2
from bridle.watching import Connected, Disconnected, Update
from tests.support.event_order import check_order

#: Control says something at least so often, in seconds.
BOOKMARK_EVERY = 15.0


class Promise(StrEnum):
    """What a history can break, in the words of the contract."""

    ORDERED = "ordered"
    UNIQUE = "unique"
    RELIABLE = "reliable"  # none is left out between two that were seen
    RESUMABLE = "resumable"  # a watch from a cursor goes on right behind it
    BOOKMARKABLE = "bookmarkable"  # Progress at n: all up to n was delivered
    FILTER = "filter"  # the kinds that were asked for, no others
    SAME = "same"  # an event reads the same to all, for ever
    FLOOR = "floor"  # what is gone is told, and only what is gone
    OPENING = "opening"  # Progress or Compacted comes first, at the cursor
    ENDING = "ending"  # Progress{ended} stands behind the newest SessionEnded
    COMPLETE = "complete"  # all of the log was delivered by the end
    LIVELY = "lively"  # something comes at least every 15 s
    NUMBERED = "numbered"  # a log's sequences have no gaps
    TIMED = "timed"  # commit times don't fall
    TABLE = "order table"


class Broken(AssertionError):  # noqa: N818 - it says what is broken
    """A promise was broken; `promise` says which."""

    def __init__(self, promise: Promise, text: str) -> None:
        super().__init__(f"not {promise}: {text}")
        self.promise = promise


class What(StrEnum):
    """What one entry of a history is. One letter each: they are kept as bytes."""

    OPENED = "o"  # number: the cursor asked for; -1: a tail
    EVENT = "e"  # number: its sequence
    PROGRESS = "p"
    ENDED = "x"  # Progress{ended}
    COMPACTED = "c"  # number: the floor
    REFUSED = "r"  # CURSOR_COMPACTED; number: the floor
    LOST = "l"


class Entry(NamedTuple):
    """One thing that a watcher was told (or did: OPENED) about one session."""

    what: What
    number: int
    kind: int
    digest: int
    at: float


class Known(NamedTuple):
    """What is known of one event."""

    kind: int
    digest: int


def digest(event: event_pb2.Event) -> int:
    """64 bits that tell two events apart."""
    data = event.SerializeToString(deterministic=True)
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


def kind_of(event: event_pb2.Event) -> int:
    """The number of its kind; 0 for one that is not known here."""
    name = event.WhichOneof("kind")
    return event.DESCRIPTOR.fields_by_name[name].number if name else 0


class History:
    """What one watcher was told about one session, over all its connections."""

    def __init__(self, session_id: str, kinds: Iterable[int] = ()) -> None:
        self.session_id = session_id
        self.kinds = frozenset(kinds)
        self.log_id = ""
        self._what = bytearray()
        self._numbers = array("q")
        self._kinds = array("H")
        self._digests = array("Q")
        self._times = array("d")

    def add(self, what: What, number: int = 0, kind: int = 0, hashed: int = 0) -> None:
        self._what.append(ord(what.value))
        self._numbers.append(number)
        self._kinds.append(kind)
        self._digests.append(hashed)
        self._times.append(time.monotonic())

    def event(self, event: event_pb2.Event) -> None:
        self.add(What.EVENT, event.sequence, kind_of(event), digest(event))

    def __len__(self) -> int:
        return len(self._what)

    def __iter__(self) -> Iterator[Entry]:
        for index, what in enumerate(self._what):
            yield Entry(
                What(chr(what)),
                self._numbers[index],
                self._kinds[index],
                self._digests[index],
                self._times[index],
            )

    def cursor(self) -> int:
        """From where this watcher would go on: the last that it was told of."""
        for index in range(len(self._what) - 1, -1, -1):
            what = What(chr(self._what[index]))
            if what in (What.EVENT, What.PROGRESS, What.ENDED):
                return self._numbers[index]
            if what is What.COMPACTED:
                return self._numbers[index] - 1
        return 0


class Recorder:
    """One watcher's histories, one for each session that it watches."""

    def __init__(self, kinds: Iterable[int] = ()) -> None:
        self.kinds = tuple(kinds)
        self.histories: dict[str, History] = {}
        self._open: set[str] = set()

    def of(self, session_id: str) -> History:
        found = self.histories.get(session_id)
        if found is None:
            found = self.histories[session_id] = History(session_id, self.kinds)
        return found

    def opened(self, cursors: Mapping[str, int | None]) -> None:
        """A connection is opened: sessions' ids with the cursors asked for, None for a tail."""
        for session_id, after in cursors.items():
            self._open.add(session_id)
            self.of(session_id).add(What.OPENED, -1 if after is None else after)

    def said(self, response: watch_pb2.WatchResponse) -> None:
        """A message of a Watch, as it came."""
        match response.WhichOneof("response"):
            case "events":
                history = self._told(response.events.session_id, response.events.log_id)
                for event in response.events.events:
                    history.event(event)
            case "progress":
                said = response.progress
                history = self._told(said.session_id, said.log_id)
                history.add(What.ENDED if said.ended else What.PROGRESS, said.sequence)
            case "compacted":
                history = self._told(response.compacted.session_id, response.compacted.log_id)
                history.add(What.COMPACTED, response.compacted.floor_sequence)

    def update(self, update: Update) -> None:
        """What a watch of the SDK tells by `updates()`: one connection, however many there were."""
        item = update.item
        if isinstance(item, Connected | Disconnected | watch_pb2.LiveText):
            return
        history = self.of(update.session_id)
        if isinstance(item, event_pb2.Event):
            history.event(item)
        elif isinstance(item, watch_pb2.Progress):
            history.add(What.ENDED if item.ended else What.PROGRESS, item.sequence)
        else:
            history.add(What.COMPACTED, item.floor_sequence)

    def lost(self) -> None:
        """The connection broke, or ended; nothing that comes belongs to it."""
        for session_id in self._open:
            self.of(session_id).add(What.LOST)
        self._open.clear()

    def refused(self, session_id: str, floor: int) -> None:
        """The watch ended with CURSOR_COMPACTED, which named this floor."""
        self.of(session_id).add(What.REFUSED, floor)
        self.lost()

    def _told(self, session_id: str, log_id: str) -> History:
        history = self.of(session_id)
        if history.log_id and history.log_id != log_id:
            raise Broken(Promise.SAME, f"session {session_id} changed its log to {log_id!r}")
        history.log_id = log_id
        return history


@dataclass(slots=True)
class Log:
    """The truth about a session: its log as it was read in full, and what watchers knew before.

    `events` are those of the read, `floor` .. `head`; `known` is everything that is known, by
    sequence, with what fell below the floor since.
    """

    session_id: str
    log_id: str
    floor: int
    head: int
    events: Sequence[event_pb2.Event] = field(default=(), repr=False)
    known: dict[int, Known] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, session_id: str, log_id: str, events: Iterable[event_pb2.Event]) -> Log:
        """From a full read, oldest first. It must not be empty."""
        read = list(events)
        log = cls(session_id, log_id, read[0].sequence, read[-1].sequence, read)
        for event in read:
            log._know(event.sequence, Known(kind_of(event), digest(event)), "the log")
        return log

    def learn(self, recorders: Iterable[Recorder]) -> None:
        """Takes over what watchers were told. Broken: two were told different things."""
        for number, recorder in enumerate(recorders):
            for entry in recorder.histories.get(self.session_id, ()):
                if entry.what is What.EVENT:
                    known = Known(entry.kind, entry.digest)
                    self._know(entry.number, known, f"watcher {number}")

    def _know(self, sequence: int, known: Known, by: str) -> None:
        if self.known.setdefault(sequence, known) != known:
            raise Broken(Promise.SAME, f"event {sequence} reads differently to {by}")


@dataclass(slots=True)
class Checked:
    """How much was checked. Add them up, and demand a minimum."""

    events: int = 0
    bookmarks: int = 0
    connections: int = 0
    refusals: int = 0

    def __iadd__(self, other: Checked) -> Self:
        self.events += other.events
        self.bookmarks += other.bookmarks
        self.connections += other.connections
        self.refusals += other.refusals
        return self


def validate(
    log: Log, recorder: Recorder, *, complete: bool = False, lively: float | None = None
) -> Checked:
    """Checks what a watcher was told about the log's session. Raises Broken.

    `complete`: by the end it must have been told of all events. `lively`: seconds within which
    something had to come on an open connection (BOOKMARK_EVERY and some margin).
    """
    history = recorder.histories.get(log.session_id) or History(log.session_id)
    if history.log_id not in ("", log.log_id):
        raise Broken(Promise.SAME, f"the log is {log.log_id!r}, not {history.log_id!r}")
    walk = _Walk(log, history.kinds, lively)
    for entry in history:
        walk.step(entry)
    if complete and (missed := walk.missing(walk.cursor, log.head)):
        raise Broken(Promise.COMPLETE, f"event {missed} never came; the log ends at {log.head}")
    return walk.checked


class _Walk:
    """Goes through a history with the cursor that the watcher has at each moment."""

    def __init__(self, log: Log, kinds: frozenset[int], lively: float | None) -> None:
        self._log = log
        self._wanted = kinds
        self._lively = lively
        self.checked = Checked()
        #: All up to it was delivered, as far as the watcher asked for it.
        self.cursor = 0
        self._asked = 0  # the cursor that the connection was opened with; -1: a tail
        self._opening_due = False  # it was opened here, so its first message is known
        self._last = 0  # the newest event of this connection
        self._ended_at = 0  # the newest SessionEnded that was seen
        self._heard: float | None = None

    def missing(self, low: int, high: int) -> int:
        """The first event in (low, high] that the watcher should have had; 0 for none.

        Of events that nobody ever saw and that the log has no more, it is not known whether the
        filter would have let them through.
        """
        for sequence in range(low + 1, high + 1):
            known = self._log.known.get(sequence)
            if known is None:
                if not self._wanted:
                    return sequence
            elif not self._wanted or known.kind in self._wanted:
                return sequence
        return 0

    def step(self, entry: Entry) -> None:
        if entry.what is not What.OPENED:
            self._listen(entry)
        _STEPS[entry.what](self, entry)

    def _listen(self, entry: Entry) -> None:
        if self._lively is not None and self._heard is not None:
            silence = entry.at - self._heard
            if silence > self._lively:
                raise Broken(Promise.LIVELY, f"nothing came for {silence:.1f} s")
        self._heard = entry.at

    def _opened(self, entry: Entry) -> None:
        self.checked.connections += 1
        self._opening_due = True
        self._asked = entry.number
        self._last = 0
        self.cursor = max(0, entry.number)
        self._heard = entry.at

    def _event(self, entry: Entry) -> None:
        sequence = entry.number
        if self._opening_due:
            raise Broken(Promise.OPENING, f"event {sequence} came before Progress")
        if self._wanted and entry.kind not in self._wanted:
            raise Broken(Promise.FILTER, f"event {sequence} is of kind {entry.kind}")
        if self._last and sequence == self._last:
            raise Broken(Promise.UNIQUE, f"event {sequence} came twice")
        if self._last and sequence < self._last:
            raise Broken(Promise.ORDERED, f"event {sequence} came after event {self._last}")
        if sequence <= self.cursor:
            promise = Promise.BOOKMARKABLE if self._last else Promise.RESUMABLE
            raise Broken(promise, f"event {sequence} came to a watcher at {self.cursor}")
        if missed := self.missing(self.cursor, sequence - 1):
            promise = Promise.RELIABLE if self._last else Promise.RESUMABLE
            raise Broken(promise, f"event {missed} is left out before event {sequence}")
        self._compare(entry)
        self.cursor = self._last = sequence
        if entry.kind == event_pb2.EVENT_KIND_SESSION_ENDED:
            self._ended_at = sequence
        self.checked.events += 1

    def _compare(self, entry: Entry) -> None:
        """With what is known of the event. Below the floor that may be nothing."""
        known = self._log.known.get(entry.number)
        if known is None and entry.number >= self._log.floor:
            raise Broken(Promise.SAME, f"event {entry.number} came, and is not in the log")
        if known not in (None, Known(entry.kind, entry.digest)):
            raise Broken(Promise.SAME, f"event {entry.number} came other than it is in the log")

    def _open_at(self, sequence: int) -> None:
        """The first message is a Progress: a watch from 0 begins at the floor, which is 1 unless
        Compacted came instead; a tail begins where this says."""
        if self._asked < 0:
            self.cursor = sequence
        elif sequence != self._asked:
            promise = Promise.OPENING if self._asked else Promise.FLOOR
            raise Broken(promise, f"Progress {sequence} opens a watch from {self._asked}")

    def _progress(self, entry: Entry) -> None:
        sequence = entry.number
        if self._opening_due:
            self._open_at(sequence)
            self._opening_due = False
        if sequence < self.cursor:
            raise Broken(Promise.BOOKMARKABLE, f"Progress {sequence} after {self.cursor}")
        if missed := self.missing(self.cursor, min(sequence, self._log.head)):
            raise Broken(Promise.BOOKMARKABLE, f"Progress {sequence} is ahead of event {missed}")
        self.cursor = sequence
        self.checked.bookmarks += 1

    def _ended(self, entry: Entry) -> None:
        self._progress(entry)
        newest = max(
            (
                sequence
                for sequence, known in self._log.known.items()
                if known.kind == event_pb2.EVENT_KIND_SESSION_ENDED and sequence <= entry.number
            ),
            default=0,
        )
        wanted = not self._wanted or event_pb2.EVENT_KIND_SESSION_ENDED in self._wanted
        if not newest or (wanted and self._asked < newest and self._ended_at < newest):
            if self._asked < 0 and newest:
                return  # a tail may begin behind it
            raise Broken(Promise.ENDING, f"it ended at {entry.number} without a SessionEnded")

    def _compacted(self, entry: Entry) -> None:
        # (The SDK may tell it twice, when the floor rose before the first event came.)
        if self._last or self._asked > 0 or entry.number <= self.cursor:
            raise Broken(Promise.FLOOR, f"Compacted {entry.number} in the middle of a watch")
        if not 1 < entry.number <= max(self._log.floor, 1):
            raise Broken(
                Promise.FLOOR, f"Compacted {entry.number}: the log begins at {self._log.floor}"
            )
        self._opening_due = False
        self.cursor = max(self.cursor, entry.number - 1)

    def _refused(self, entry: Entry) -> None:
        if not self.cursor + 1 < entry.number <= self._log.floor:
            raise Broken(
                Promise.FLOOR,
                f"a watcher at {self.cursor} was refused with floor {entry.number}; the log"
                f" begins at {self._log.floor}",
            )
        self.checked.refusals += 1

    def _lost(self, entry: Entry) -> None:
        self._heard = None


_STEPS: Mapping[What, Callable[[_Walk, Entry], None]] = {
    What.OPENED: _Walk._opened,
    What.EVENT: _Walk._event,
    What.PROGRESS: _Walk._progress,
    What.ENDED: _Walk._ended,
    What.COMPACTED: _Walk._compacted,
    What.REFUSED: _Walk._refused,
    What.LOST: _Walk._lost,
}


def check_log(log: Log, *, ended: bool = False) -> None:
    """Checks a log for itself: its numbers, its commit times, the order table. Raises Broken.

    A log that begins at a floor is held against the table from its first whole run on. `ended`:
    its last run must be over.
    """
    newest = 0
    for number, event in enumerate(log.events, log.floor):
        if event.sequence != number:
            raise Broken(Promise.NUMBERED, f"event {event.sequence} stands where {number} should")
        committed = event.commit_time.ToNanoseconds()
        if committed < newest:
            raise Broken(Promise.TIMED, f"event {number} was committed before the one before it")
        newest = committed
    whole = list(log.events)
    if log.floor > 1:
        opens = ("session_started", "session_resumed")
        start = (i for i, event in enumerate(whole) if event.WhichOneof("kind") in opens)
        whole = whole[next(start, len(whole)) :]
    try:
        checker = check_order(event for event in whole if event.WhichOneof("kind"))
        if ended and whole:
            checker.finish()
    except AssertionError as violation:
        raise Broken(Promise.TABLE, str(violation)) from None
