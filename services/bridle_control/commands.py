"""Commands as rows: waiting for what comes of them, withdrawing them, letting them expire.

A verb writes a command row; a link hands it over; the host's answer changes the row. Whoever waits,
waits for the row: the store tells of each commit which commands it changed, and how. Called by the
verbs; `run` is the sweeper, one per process.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from bridle.v1 import input_pb2, receipt_pb2
from bridle_control import outcomes
from bridle_control.clock import Clock, SystemClock, wait
from bridle_control.deadlines import HasDeadline, wait_budget
from bridle_control.links.registry import Links
from bridle_control.logs import kv
from bridle_control.projection import Projection
from bridle_control.store.api import (
    Changes,
    CommandRow,
    CommandState,
    ReadTx,
    Store,
    Tx,
)
from bridle_core.errors import BridleError

_log = logging.getLogger("bridle.control.commands")

#: How long an Interrupt is good: as long as the longest call waits for it. In ns.
INTERRUPT_TTL_NS = 5 * 10**9
#: How long a Stop or a Kill stays in force while the host is away. In ns.
STOP_TTL_NS = 24 * 3600 * 10**9

#: Commands whose answers are remembered for those who begin to wait for them just now. What they
#: may miss was told within a turn or two of the event loop: a few commits of a few hundred writes.
_RECENT = 8192

#: How often the sweeper looks, in seconds: so late may an expiry be.
_SWEEP_EVERY = 1.0


class _Waiter:
    """One that waits for a command; `row` is the newest that it was told of."""

    __slots__ = ("event", "row")

    def __init__(self, row: CommandRow | None) -> None:
        self.event = asyncio.Event()
        self.row = row


class Commands:
    """See the module. Used from one event loop alone."""

    def __init__(
        self,
        store: Store,
        links: Links,
        *,
        clock: Clock | None = None,
        wall_clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """`wall_clock`: nanoseconds since the epoch; must be the clock of the store."""
        self._store = store
        self._links = links
        self._clock = clock or SystemClock()
        self._wall_clock = wall_clock
        # A waiter is an open call, and those are bounded. In the order in which they came: who is
        # told first must not hang on where it lies in memory.
        self._waiters: dict[str, dict[_Waiter, None]] = {}
        # What was told last, oldest first; None: gone. Answered rows are small: their action went.
        self._recent: OrderedDict[str, CommandRow | None] = OrderedDict()
        store.listen(self._changed)

    def _changed(self, changes: Changes) -> None:
        for command_id, row in changes.commands.items():
            if row.state >= CommandState.ANSWERED:
                self._remember(command_id, row)
            self._tell(command_id, row)
        for command_id in sorted(changes.commands_gone):
            self._remember(command_id, None)
            self._tell(command_id, None)

    def _tell(self, command_id: str, row: CommandRow | None) -> None:
        for waiter in self._waiters.get(command_id, ()):
            waiter.row = row
            waiter.event.set()

    def _remember(self, command_id: str, row: CommandRow | None) -> None:
        self._recent.pop(command_id, None)
        self._recent[command_id] = row
        if len(self._recent) > _RECENT:
            self._recent.popitem(last=False)

    # ------------------------------------------------------------ waiting

    @property
    def waiting(self) -> int:
        """How many calls wait for a command."""
        return sum(len(waiters) for waiters in self._waiters.values())

    def now(self) -> float:
        """Seconds of the clock that budgets are measured with."""
        return self._clock.now()

    def budget_ends(self, context: HasDeadline) -> float:
        """When a unary call that came now has waited for hosts as long as it may."""
        return self._clock.now() + wait_budget(context)

    async def answered(
        self, row: CommandRow, budget: float, *, stale: bool = False
    ) -> CommandRow | None:
        """The row once the host has answered, or as it is after `budget` seconds; None: gone.

        `row` must be what a write has just returned, with nothing awaited since: what was told of
        it meanwhile (its own commit may hold the answer, and the next one may be told before its
        caller goes on) is remembered for so long. `stale` says that it is older, or from a read:
        what a read saw may be old news when it returns.
        """
        return await self._wait(row, CommandState.ANSWERED, budget, stale)

    async def done(self, row: CommandRow, budget: float) -> CommandRow | None:
        """The row once its outcome is decided, or as it is after `budget` seconds; None: gone.

        `row` may be old.
        """
        return await self._wait(row, CommandState.DONE, budget, stale=budget > 0)

    async def _wait(
        self, row: CommandRow, state: CommandState, budget: float, stale: bool
    ) -> CommandRow | None:
        command_id = row.command_id
        told = self._recent.get(command_id, row)
        if told is None:
            return None
        row = told if told.state > row.state else row
        if row.state >= state or (budget <= 0 and not stale):
            return row
        until = self._clock.now() + budget
        waiter = _Waiter(row)
        self._waiters.setdefault(command_id, {})[waiter] = None
        try:
            if stale:
                found = await self._store.read(lambda tx: tx.command(command_id))
                if not waiter.event.is_set():  # else it was told of something newer meanwhile
                    waiter.row = found
            while waiter.row is not None and waiter.row.state < state:
                if not await wait(waiter.event, self._clock, until):
                    break
                waiter.event.clear()
            return waiter.row
        finally:
            waiters = self._waiters[command_id]
            del waiters[waiter]
            if not waiters:
                del self._waiters[command_id]

    # ------------------------------------------------------------ withdrawing

    async def withdraw(self, command_ids: Sequence[str]) -> None:
        """What has no answer is NOT_RUN, EXPIRED from now on, and its host is told so.

        A host that had begun all the same answers later, and then the row says what it says.
        """
        gone = await self._store.write(lambda tx: withdraw(tx, command_ids), urgent=True)
        for row in gone:
            self._links.withdraw(row.host_id, row.command_id)

    # ------------------------------------------------------------ the sweeper

    async def run(self) -> None:
        """Lets commands expire, until cancelled."""
        while True:
            # From here on, and not from its end: what falls due during a long look isn't later.
            following = self._clock.now() + _SWEEP_EVERY
            try:
                await self._expire()
            except BridleError as error:
                _log.warning("could not sweep", extra=kv(reason=error.reason))
            await wait(asyncio.Event(), self._clock, following)

    async def _expire(self) -> None:
        now = self._wall_clock()
        if await self._store.read(lambda tx: tx.inputs_left_expired(now, 1)):
            await self._store.write(expire_left, urgent=True)
        soonest = await self._store.read(lambda tx: tx.next_command_expiry())
        if 0 < soonest <= self._wall_clock():
            for row in await self._store.write(expire, urgent=True):
                self._links.withdraw(row.host_id, row.command_id)


# ---------------------------------------------------------------- inside a transaction


def withdraw(tx: Tx, command_ids: Sequence[str]) -> list[CommandRow]:
    """Decides commands that have no answer: NOT_RUN, EXPIRED. Returns those."""
    gone = []
    for command_id in command_ids:
        row = tx.command(command_id)
        if row is not None and row.state < CommandState.ANSWERED:
            gone.append(_expired(tx, row))
    return gone


def expire(tx: Tx) -> list[CommandRow]:
    """Decides the commands whose time is over; returns those that a host may have to be told of.

    An input that a host may have had is the host's to expire: it may have been consumed. The store
    does not even name those.
    """
    projection = Projection(tx)
    gone = []
    for row in tx.commands_expired(tx.now):
        if row.verb != receipt_pb2.VERB_SEND:
            gone.append(_expired(tx, row))
            if row.verb == receipt_pb2.VERB_KILL:
                projection.reopen(row.session_id)
            continue
        session = projection.session(row.session_id)
        if session is not None:
            projection.cancel_input(session, row.input_id, input_pb2.CANCEL_REASON_EXPIRED)
        after = tx.command(row.command_id) or row
        if after.state != CommandState.DONE:
            _expired(tx, after)
    projection.flush()
    return gone


def expire_left(tx: Tx) -> None:
    """Cancels the inputs that a failed run left waiting and whose time is over: no host has them,
    so none would."""
    projection = Projection(tx)
    for left in tx.inputs_left_expired(tx.now):
        session = projection.session(left.session_id)
        if session is not None:
            projection.cancel_input(session, left.input_id, input_pb2.CANCEL_REASON_EXPIRED)
    projection.flush()


def _expired(tx: Tx, row: CommandRow) -> CommandRow:
    outcome = outcomes.decided(
        tx.now, outcomes.NOT_RUN, receipt_pb2.OUTCOME_REASON_EXPIRED, input_id=row.input_id
    )
    settled = outcomes.settle(row, outcome)
    tx.update_command(settled)
    return settled


def is_ending(tx: ReadTx, session_id: str, run: int) -> bool:
    """Whether a Stop or a Kill of this run was accepted and is in force."""
    return tx.has_open_command(session_id, run, (receipt_pb2.VERB_STOP, receipt_pb2.VERB_KILL))
