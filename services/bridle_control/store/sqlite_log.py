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
    LogSize,
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
#: How many bytes of events one call purges, about: the writer waits for it.
_PURGE_BYTES = 4 * 1024 * 1024

_SIZES = "SELECT session_id, floor_sequence, last_sequence, log_bytes FROM sessions"

# The start value of an event's checksum: it binds the bytes to their place, kind and run. Such sums
# are kept inverted, that is below 0; those of a store's first two versions are not, and bind less.
# (?1 is the log that is read: a row that a damaged tree brings from another one is none of its.)
_SEED = (
    "CASE WHEN crc < 0 THEN ?1 * 2246822519 + sequence * 2654435761 + kind * 3266489917"
    " + run * 668265263 ELSE sequence * 4096 + kind END"
)
_SUM = "CASE WHEN crc < 0 THEN ~crc ELSE crc END"


def checksum(data: bytes, log: int, sequence: int, kind: int, run: int) -> int:
    """What `crc` holds for an event."""
    seed = log * 2246822519 + sequence * 2654435761 + kind * 3266489917 + run * 668265263
    return ~crc32(data, seed)


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

    def log_size(self, session_id: str) -> LogSize | None:
        row = self._one(f"{_SIZES} WHERE session_id = ?", (session_id,))
        return row and LogSize(*row)

    def log_sizes(
        self, *, after: str = "", limit: int = 256, events: int = 0, size: int = 0
    ) -> list[LogSize]:
        over = ""
        if events or size:
            over = (
                f" AND (last_sequence - floor_sequence + 1 > {events or 2**62}"
                f" OR log_bytes > {size or 2**62})"
            )
        rows = self._all(
            f"{_SIZES} WHERE session_id > ?{over} ORDER BY session_id LIMIT ?", (after, limit)
        )
        return [LogSize(*row) for row in rows]

    def log_totals(self) -> tuple[int, int]:
        row = self._one(
            "SELECT coalesce(sum(last_sequence - floor_sequence + 1), 0),"
            " coalesce(sum(log_bytes), 0) FROM sessions"
        )
        return row[0], row[1]

    def event_sizes(self, session_id: str, limit: int) -> list[int]:
        found = self._log(session_id)
        if found is None:
            return []
        rows = self._all(
            "SELECT length(data) FROM events WHERE log = ? AND sequence >= ?"
            " ORDER BY sequence LIMIT ?",
            (found[0], found[1].floor, limit),
        )
        return [row[0] for row in rows]

    def newest_of(self, session_id: str, kinds: Sequence[int]) -> int:
        found = self._log(session_id)
        if found is None:
            return 0
        row = self._one(
            f"SELECT sequence FROM events WHERE log = ? AND sequence >= ?"
            f" AND kind IN ({', '.join('?' * len(kinds))}) ORDER BY sequence DESC LIMIT 1",
            (found[0], found[1].floor, *kinds),
        )
        return row[0] if row else 0

    def oldest_open(self, session_id: str) -> int:
        row = self._one(
            "SELECT min(sequence) FROM ("
            " SELECT sequence FROM inputs WHERE session_id = ?1 AND state = 1"
            " UNION ALL SELECT sequence FROM approvals WHERE session_id = ?1 AND decision = 0)",
            (session_id,),
        )
        return row[0] or 0

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
            f"SELECT sequence, {_SUM}, data, {_SEED} FROM events"
            f" WHERE log = ?1 AND sequence BETWEEN ?2 AND ?3{conditions}"
            f" ORDER BY sequence {'DESC' if descending else 'ASC'}",
            (log, low, high, *values),
        )
        sequences: list[int] = []
        framed: list[bytes] = []
        room, stopped = max_bytes, False
        previous, step = (high + 1, -1) if descending else (low - 1, 1)
        while not stopped and (rows := cursor.fetchmany(_STEP)):
            numbers, sums, data, seeds = zip(*rows, strict=True)
            if not _intact(data, seeds, sums) or not _in_order(
                numbers, previous, step, filtered=filtered
            ):
                raise log_corrupt(f"an event of session {session_id} does not read back")
            previous = numbers[-1]
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


def _in_order(numbers: Sequence[int], previous: int, step: int, *, filtered: bool) -> bool:
    """Whether sequences go on from the previous one: by `step`, or by more where some are left out.

    A damaged tree may bring rows twice, each of them sound.
    """
    if filtered:
        return all(
            (number - before) * step > 0
            for before, number in zip((previous, *numbers), numbers, strict=False)
        )
    return numbers == tuple(range(previous + step, previous + step * (len(numbers) + 1), step))


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
        found = self._log(session_id)
        if found is None:
            raise StoreFaultError(f"sessions: no row with session_id = {session_id!r}")
        log, first = found[0], found[1].head + 1
        stamp = commit_time_field(self.now)
        framed = tuple(
            frame(event.data, sequence, stamp + principal_field(event.principal))
            for sequence, event in enumerate(events, first)
        )
        size = sum(map(len, framed))
        self._run(
            "UPDATE sessions SET last_sequence = last_sequence + ?, log_bytes = log_bytes + ?"
            " WHERE log = ?",
            (len(events), size, log),
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
                    checksum(data, log, sequence, event.kind, event.run),
                    data,
                )
                for sequence, (event, data) in enumerate(zip(events, framed, strict=True), first)
            ],
        )
        if events:
            kinds = tuple(event.kind for event in events)
            self.changes.appended.append(Appended(session_id, first, kinds, framed))
            self.changes.size += size
        return first

    def raise_floor(self, session_id: str, floor: int) -> None:
        found = self._log(session_id)
        if found is None:
            raise StoreFaultError(f"sessions: no row with session_id = {session_id!r}")
        log, bounds = found
        if floor > bounds.head + 1:
            raise StoreFaultError("events: the floor is beyond the end of the log")
        if floor > bounds.floor:
            crash_points.reached("store.before-floor")
            self._run(
                "UPDATE sessions SET floor_sequence = ?1, log_bytes = log_bytes -"
                " (SELECT coalesce(sum(length(data)), 0) FROM events"
                "  WHERE log = ?2 AND sequence >= floor_sequence AND sequence < ?1)"
                " WHERE log = ?2",
                (floor, log),
            )
            self._bury(log, floor)
            self.changes.sessions.add(session_id)

    def purge_events(self, limit: int) -> int:
        crash_points.reached("store.before-purge")
        gone = room = 0
        while gone < limit and room < _PURGE_BYTES:
            row = self._one("SELECT log, below FROM garbage LIMIT 1")
            if row is None:
                break
            log, below = row
            # From the start of the log, where all is dead; large events fewer at a time.
            rows = self._all(
                "SELECT sequence, length(data) FROM events WHERE log = ? AND sequence < ?"
                " ORDER BY sequence LIMIT ?",
                (log, below, limit - gone),
            )
            last = None
            for sequence, size in rows:
                last = sequence
                gone += 1
                room += size
                if room >= _PURGE_BYTES:
                    break
            if last is not None:
                self._run("DELETE FROM events WHERE log = ? AND sequence <= ?", (log, last))
            if last is None or (last == rows[-1][0] and gone < limit):
                self._run("DELETE FROM garbage WHERE log = ?", (log,))
        # What goes is written to the log ahead, too: checkpoints have to know.
        self.changes.size += room
        return gone
