"""Retention: raises the floors of logs that are longer, larger or older than they may be.

By default nothing is let go of; the settings say otherwise (see `retain`). The floor of a log never
passes what is still needed:

  - the newest turn, open or over, from its TurnStarted on, with the InputQueued of its inputs;
  - while the newest run has had no turn, that run from its SessionStarted or SessionResumed on;
  - an input that waits (its InputQueued) and an approval that is open.

A log that is damaged where that has to be looked up is left as it is, and told of: a copy may bring
it back. What it takes does not count in all, so that no other log has to give way to it.

So a reader always finds whole what goes on now, how the newest run ended, and what somebody still
has to answer; a log may be larger than its limit by that.

A floor is raised in steps, each a write of its own that is small enough that no verb waits for it,
and the room of what fell below is freed in bits of the same size (SQLite uses it again). What a
watcher is told is up to the hub: the store is the only truth about the floor, so it doesn't matter
when a watcher learns of it. Run by control's application, as one of its components.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable
from functools import partial

from bridle.v1 import event_pb2
from bridle_control.clock import Clock, SystemClock, wait
from bridle_control.logs import kv
from bridle_control.retain import Limits
from bridle_control.store.api import Changes, LogSize, ReadTx, Store, Tx
from bridle_control.store.event_bytes import unframe
from bridle_core.errors import BridleError, Reason

_log = logging.getLogger("bridle.control.retention")

#: Seconds between two rounds: by what comes meanwhile a log may be above its limit.
PERIOD = 5.0
#: Seconds between two looks at the ages of all logs.
AGE_PERIOD = 60.0
#: A step takes so many events and bytes from a log, at the most (but one event at the least):
#: a few milliseconds of the writer.
STEP_EVENTS = 2000
STEP_BYTES = 4 * 1024 * 1024
#: Logs that one read looks at.
PAGE = 100
#: How many sessions' newest turns are remembered.
MEMORY = 4096

_BEGINNINGS = (
    event_pb2.EVENT_KIND_SESSION_STARTED,
    event_pb2.EVENT_KIND_SESSION_RESUMED,
    event_pb2.EVENT_KIND_TURN_STARTED,
)


_Floor = Callable[[ReadTx, LogSize], int]


class Retention:
    """See the module."""

    def __init__(
        self,
        store: Store,
        per_session: Limits,
        total: Limits,
        *,
        clock: Clock | None = None,
        period: float = PERIOD,
        age_period: float = AGE_PERIOD,
        step_events: int = STEP_EVENTS,
    ) -> None:
        self._store = store
        # An age means the same of each session as of all of them.
        ages = [limits.age for limits in (per_session, total) if limits.age]
        self._age_ns = min(ages, default=0) * 10**9
        self._per_session = per_session
        self._total = total
        self._clock = clock or SystemClock()
        self._period = period
        self._age_period = age_period
        self._step_events = step_events
        self._grown = True  # something was appended since the last round
        self._ages_due = 0.0
        # The newest turn (or run) begins at an event that is found once: by (run, turn).
        self._beginnings: dict[str, tuple[tuple[int, int], int]] = {}
        # Logs that don't read back; told of once.
        self._damaged: set[str] = set()
        store.listen(self._committed)

    def _committed(self, changes: Changes) -> None:
        self._grown = self._grown or bool(changes.appended)

    async def run(self) -> None:
        """Goes round until cancelled; where nothing is to be let go of, returns at once."""
        if not (self._per_session or self._total):
            return
        never = asyncio.Event()
        while True:
            try:
                await self.round()
            except BridleError as error:
                # Whoever uses the store is told; this only tries again.
                _log.warning("retention failed", extra=kv(reason=error.reason))
                self._grown = True
            await wait(never, self._clock, self._clock.now() + self._period)

    async def round(self) -> int:
        """Lets go of all that is beyond the limits now. Returns how many events went."""
        gone = 0
        if self._age_ns and self._clock.now() >= self._ages_due:
            self._ages_due = self._clock.now() + self._age_period
            gone += await self._by_age()
        if self._grown:
            self._grown = False
            gone += await self._by_size()
            gone += await self._by_total()
        if gone:
            await self._free()
            _log.debug("events were let go of", extra=kv(events=gone))
        return gone

    # ---- which logs

    async def _by_size(self) -> int:
        """Sessions that have more events or bytes than one may."""
        limits, gone, after = self._per_session, 0, ""
        while limits.events or limits.bytes:
            sizes = await self._store.read(partial(_too_large, limits, after))
            for size in sizes:
                while went := await self._step(size.session_id, limits.events, limits.bytes):
                    gone += went
            if len(sizes) < PAGE:
                break
            after = sizes[-1].session_id
        return gone

    async def _by_age(self) -> int:
        """Events of all sessions that are older than they may be."""
        gone, after = 0, ""
        while True:
            oldest = await self._store.read(partial(self._oldest_of_page, after))
            for committed, session_id in oldest:
                if committed:
                    while went := await self._age_step(session_id):
                        gone += went
            if len(oldest) < PAGE:
                return gone
            after = oldest[-1][1]

    async def _by_total(self) -> int:
        """What all logs have beyond what they may together: the oldest events first."""
        limits, gone = self._total, 0
        if not (limits.events or limits.bytes):
            return 0
        heap: list[tuple[int, str]] | None = None
        while True:
            events, size = await self._store.read(self._totals)
            over_events = max(0, events - limits.events) if limits.events else 0
            over_bytes = max(0, size - limits.bytes) if limits.bytes else 0
            if not (over_events or over_bytes):
                return gone
            if heap is None:
                heap = await self._oldest_of_all()
            if not heap:
                return gone  # all that is left is needed
            _, session_id = heapq.heappop(heap)
            went = await self._step_of_total(session_id, over_events, over_bytes)
            gone += went
            if went and (committed := await self._store.read(partial(self._oldest, session_id))):
                heapq.heappush(heap, (committed, session_id))

    async def _oldest_of_all(self) -> list[tuple[int, str]]:
        """When the oldest event of each log was committed, as a heap."""
        found: list[tuple[int, str]] = []
        after = ""
        while True:
            page = await self._store.read(partial(self._oldest_of_page, after))
            found += [entry for entry in page if entry[0]]
            if len(page) < PAGE:
                heapq.heapify(found)
                return found
            after = page[-1][1]

    def _totals(self, tx: ReadTx) -> tuple[int, int]:
        """How many events and bytes all logs have, without the damaged ones."""
        events, size = tx.log_totals()
        for damaged in map(tx.log_size, self._damaged):
            if damaged is not None:
                events, size = events - damaged.events, size - damaged.bytes
        return events, size

    def _oldest_of_page(self, after: str, tx: ReadTx) -> list[tuple[int, str]]:
        sizes = tx.log_sizes(after=after, limit=PAGE)
        return [(self._oldest(size.session_id, tx), size.session_id) for size in sizes]

    def _oldest(self, session_id: str, tx: ReadTx) -> int:
        """When the oldest event of a log was committed; 0 for one that is empty or damaged."""
        bounds = tx.bounds(session_id)
        if bounds is None or bounds.head < bounds.floor:
            return 0
        try:
            return _committed_at(tx, session_id, bounds.floor)
        except BridleError as error:
            self._leave(session_id, error)
            return 0

    def _leave(self, session_id: str, error: BridleError) -> None:
        """A log does not read back, and is left as it is. Raises all other errors."""
        if error.reason is not Reason.LOG_CORRUPT:
            raise error
        if session_id not in self._damaged:
            self._damaged.add(session_id)
            _log.error("a damaged log is left as it is", extra=kv(session=session_id))

    # ---- one step of one log; each returns how many events went, 0 where no more may go

    async def _step(self, session_id: str, events: int, size: int) -> int:
        """Towards a log of so many events and bytes (0: no matter)."""

        def floor(tx: ReadTx, log: LogSize) -> int:
            over_events = log.events - events if events else 0
            over_bytes = log.bytes - size if size else 0
            return self._beyond(tx, log, over_events, over_bytes)

        return await self._raise(session_id, floor)

    async def _step_of_total(self, session_id: str, over_events: int, over_bytes: int) -> int:
        return await self._raise(
            session_id, lambda tx, log: self._beyond(tx, log, over_events, over_bytes)
        )

    async def _age_step(self, session_id: str) -> int:
        return await self._raise(
            session_id, lambda tx, log: self._younger(tx, log, tx.now - self._age_ns)
        )

    def _beyond(self, tx: ReadTx, log: LogSize, over_events: int, over_bytes: int) -> int:
        """The floor behind the oldest events that are too many or too large, a step at the most."""
        floor, taken = log.floor, 0
        for size in tx.event_sizes(log.session_id, self._step_events):
            enough = floor - log.floor >= over_events and taken >= over_bytes
            if enough or (taken and taken + size > STEP_BYTES):
                break
            floor += 1
            taken += size
        return floor

    def _younger(self, tx: ReadTx, log: LogSize, cutoff: int) -> int:
        """The floor at the first event that was committed at or after a time, a step at the most.

        Commit times don't fall within a log (but for a clock that was set back, and then what it
        stamped goes with its neighbours), so halving finds it.
        """
        sizes = tx.event_sizes(log.session_id, self._step_events)
        low, high, room = log.floor, log.floor, 0
        for size in sizes:
            if high > log.floor and room + size > STEP_BYTES:
                break
            high += 1
            room += size
        while low < high:
            middle = (low + high) // 2
            if _committed_at(tx, log.session_id, middle) < cutoff:
                low = middle + 1
            else:
                high = middle
        return low

    async def _raise(self, session_id: str, floor: _Floor) -> int:
        """Raises the floor of a log to where `floor` says, but never past what is needed."""

        def find(tx: ReadTx) -> int:
            log = tx.log_size(session_id)
            if log is None:
                return 0
            try:
                wanted = floor(tx, log)
                return min(wanted, self._needed(tx, session_id)) if wanted > log.floor else 0
            except BridleError as error:
                self._leave(session_id, error)
                return 0

        wanted = await self._store.read(find)
        if not wanted:
            return 0
        # Looked at again where nothing can come in between: an input may wait again by now. What
        # else becomes needed stands behind the end of the log as it was read.
        return await self._store.write(partial(_raise, session_id, wanted), urgent=True)

    def _needed(self, tx: ReadTx, session_id: str) -> int:
        """The first event that must stay, as far as it is told by events."""
        row = tx.session(session_id)
        if row is None:
            return 0
        now = (row.run, row.turn)
        known = self._beginnings.get(session_id)
        if known is not None and known[0] == now:
            return known[1]
        found = tx.newest_of(session_id, _BEGINNINGS)
        found = min(found, _inputs_of(tx, session_id, found)) or row.floor_sequence
        if len(self._beginnings) >= MEMORY:
            self._beginnings.clear()
        self._beginnings[session_id] = (now, found)
        return found

    # ---- room

    async def _free(self) -> None:
        """Frees the room of what fell below the floors, a bit at a time."""
        while await self._store.write(lambda tx: tx.purge_events(self._step_events), urgent=True):
            pass


def _too_large(limits: Limits, after: str, tx: ReadTx) -> list[LogSize]:
    return tx.log_sizes(after=after, limit=PAGE, events=limits.events, size=limits.bytes)


def _raise(session_id: str, wanted: int, tx: Tx) -> int:
    log = tx.log_size(session_id)
    if log is None:
        return 0
    floor = min(wanted, tx.oldest_open(session_id) or wanted)
    if floor <= log.floor:
        return 0
    tx.raise_floor(session_id, floor)
    return floor - log.floor


def _event(tx: ReadTx, session_id: str, sequence: int) -> event_pb2.Event | None:
    framed = tx.events(session_id, sequence - 1, limit=1).framed
    return event_pb2.Event.FromString(unframe(framed[0])) if framed else None


def _committed_at(tx: ReadTx, session_id: str, sequence: int) -> int:
    """When an event was committed, in nanoseconds; 0 for one that is not there."""
    event = _event(tx, session_id, sequence)
    return event.commit_time.ToNanoseconds() if event is not None else 0


def _inputs_of(tx: ReadTx, session_id: str, sequence: int) -> int:
    """The oldest InputQueued of the inputs that the turn of a TurnStarted takes, or the event's own
    sequence where that is older (or it is no TurnStarted)."""
    event = _event(tx, session_id, sequence) if sequence else None
    names = event.turn_started.input_ids if event is not None else ()
    rows = [tx.input(name) for name in names]
    return min([sequence, *(row.sequence for row in rows if row is not None)])
