"""The events of sessions, in SQLite. See `api`.

Numbers are given inside the write transaction, from the session's own row, so they have no gaps and
are committed in order. A checksum binds each event to its place and kind; every read checks it, and
that nothing is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zlib import crc32

from bridle_control import crash_points
from bridle_control.store.api import (
    EVENT_FIELDS,
    Appended,
    EventSlice,
    LogBounds,
    NewEvent,
    StoreFaultError,
    Term,
)
from bridle_control.store.event_bytes import (
    commit_time_field,
    frame,
    principal_field,
    run_and_turn,
    unframe,
)
from bridle_control.store.sqlite_base import ReadBase
from bridle_control.store.sqlite_errors import log_corrupt
from bridle_control.store.sqlite_sessions import SessionWrites

#: How many events one filtered read looks at, at most: it holds a snapshot and a reader as long.
SCAN_WINDOW = 16_384
#: How many rows are taken from SQLite at a time, between looks at the sum of their sizes.
_STEP = 64
#: How many purged events one statement takes.
_PURGE_STEP = 1000

# The start value of an event's checksum. A kind is a field number below 2**12 (see EventKind).
_SEED = "sequence * 4096 + kind"


def _seed(sequence: int, kind: int) -> int:
    return sequence * 4096 + kind


class LogReads(ReadBase):
    """The reads."""

    def _log(self, session_id: str) -> tuple[int, LogBounds] | None:
        row = self._one(
            "SELECT log, floor_sequence, last_sequence FROM sessions WHERE session_id = ?",
            (session_id,),
        )
        return row and (row[0], LogBounds(row[1], row[2]))

    def bounds(self, session_id: str) -> LogBounds | None:
        found = self._log(session_id)
        return found and found[1]

    def events(
        self,
        session_id: str,
        after: int,
        *,
        kinds: Sequence[int] = (),
        terms: Sequence[Term] = (),
        descending: bool = False,
        limit: int = 256,
        max_bytes: int = 256 * 1024,
    ) -> EventSlice:
        found = self._log(session_id)
        if found is None:
            return EventSlice((), (), after, more=False)
        log, bounds = found
        filtered = bool(kinds or terms)
        window = SCAN_WINDOW if filtered else limit
        if descending:
            top = min(after - 1, bounds.head) if after else bounds.head
            low, high = max(bounds.floor, top - window + 1), top
        else:
            low = max(after + 1, bounds.floor)
            high = min(low + window - 1, bounds.head)
        if low > high:
            return EventSlice((), (), after, more=False)
        conditions, values, turns = _where(kinds, terms)
        cursor = self._connection.execute(
            f"SELECT sequence, crc, data, {_SEED} FROM events"
            f" WHERE log = ? AND sequence BETWEEN ? AND ?{conditions}"
            f" ORDER BY sequence {'DESC' if descending else 'ASC'}",
            (log, low, high, *values),
        )
        sequences: list[int] = []
        framed: list[bytes] = []
        room, stopped = max_bytes, False
        while not stopped and (rows := cursor.fetchmany(_STEP)):
            numbers, sums, data, seeds = zip(*rows, strict=True)
            if not _intact(data, seeds, sums):
                raise log_corrupt(f"an event of session {session_id} does not read back")
            for number, event in zip(numbers, data, strict=True):
                if turns and not _in_turns(event, turns):
                    continue
                if sequences and (len(event) > room or len(sequences) >= limit):
                    stopped = True
                    break
                room -= len(event)
                sequences.append(number)
                framed.append(event)
        cursor.close()
        edge = low if descending else high
        scanned = sequences[-1] if stopped else edge
        if not filtered and len(sequences) != abs(scanned - (high if descending else low)) + 1:
            raise log_corrupt(f"events of session {session_id} are missing")
        more = scanned > bounds.floor if descending else scanned < bounds.head
        return EventSlice(tuple(sequences), tuple(framed), scanned, more)


def _intact(data: Sequence[Any], seeds: Sequence[int], sums: Sequence[Any]) -> bool:
    try:
        return list(map(crc32, data, seeds)) == list(sums)
    except TypeError:  # a damaged row may say that its data is no bytes at all
        return False


def _where(
    kinds: Sequence[int], terms: Sequence[Term]
) -> tuple[str, list[int], list[tuple[int, bool]]]:
    """SQL behind the range of sequences, its values, and what to ask of turns (not a column)."""
    conditions = ""
    values: list[int] = []
    turns: list[tuple[int, bool]] = []
    if kinds:
        conditions += f" AND kind IN ({', '.join('?' * len(kinds))})"
        values += kinds
    for term in terms:
        if term.field not in EVENT_FIELDS:
            raise StoreFaultError(f"events have no field {term.field!r} to filter by")
        if term.field == "turn":
            turns.append((int(term.value), term.equal))
        else:
            conditions += f" AND {term.field} {'=' if term.equal else '<>'} ?"
            values.append(int(term.value))
    return conditions, values, turns


def _in_turns(framed: bytes, turns: Sequence[tuple[int, bool]]) -> bool:
    turn = run_and_turn(unframe(framed))[1]
    return all((turn == wanted) == equal for wanted, equal in turns)


class LogWrites(LogReads, SessionWrites):
    """The writes."""

    def append_events(self, session_id: str, events: Sequence[NewEvent]) -> int:
        row: Any = self._one(
            "UPDATE sessions SET last_sequence = last_sequence + ? WHERE session_id = ?"
            " RETURNING log, last_sequence",
            (len(events), session_id),
        )
        if row is None:
            raise StoreFaultError(f"sessions: no row with session_id = {session_id!r}")
        log, last = int(row[0]), int(row[1])
        first = last - len(events) + 1
        stamp = commit_time_field(self.now)
        framed = tuple(
            frame(event.data, sequence, stamp + principal_field(event.principal))
            for sequence, event in enumerate(events, first)
        )
        crash_points.reached("store.before-insert")
        self._connection.executemany(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    log,
                    sequence,
                    event.kind,
                    event.run,
                    crc32(data, _seed(sequence, event.kind)),
                    data,
                )
                for sequence, (event, data) in enumerate(zip(events, framed, strict=True), first)
            ],
        )
        if events:
            kinds = tuple(event.kind for event in events)
            self.changes.appended.append(Appended(session_id, first, kinds, framed))
            self.changes.size += sum(map(len, framed))
        return first

    def raise_floor(self, session_id: str, floor: int) -> None:
        found = self._log(session_id)
        if found is None:
            raise StoreFaultError(f"sessions: no row with session_id = {session_id!r}")
        log, bounds = found
        if floor > bounds.head + 1:
            raise StoreFaultError("events: the floor is beyond the end of the log")
        if floor > bounds.floor:
            self._run("UPDATE sessions SET floor_sequence = ? WHERE log = ?", (floor, log))
            self._bury(log, floor)
            self.changes.sessions.add(session_id)

    def purge_events(self, limit: int) -> int:
        gone = 0
        while gone < limit:
            row = self._one("SELECT log, below FROM garbage LIMIT 1")
            if row is None:
                break
            step = min(_PURGE_STEP, limit - gone)
            # SQLite is built without DELETE … LIMIT; the events of a log are dead from its start.
            purged = self._run(
                "DELETE FROM events WHERE log = ?1 AND sequence IN (SELECT sequence FROM events"
                " WHERE log = ?1 AND sequence < ?2 ORDER BY sequence LIMIT ?3)",
                (*row, step),
            )
            gone += purged
            if purged < step:
                self._run("DELETE FROM garbage WHERE log = ?", (row[0],))
        return gone
