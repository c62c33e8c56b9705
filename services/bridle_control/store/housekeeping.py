"""Lets go of what the store need not keep any more, a bit at a time.

Receipts older than 8 days, tombstones older than 7, tokens of sessions that died a day ago, and the
events of deleted sessions. Each bit is a write of its own, small enough that no verb waits for it.
Run by control's application, as one of its components.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from bridle_control.clock import Clock, SystemClock, wait
from bridle_control.store.api import (
    RECEIPT_RETENTION_NS,
    TOMBSTONE_RETENTION_NS,
    Changes,
    Store,
    Tx,
)
from bridle_core.errors import BridleError

_log = logging.getLogger("bridle.control.housekeeping")

#: Seconds between two rounds; a deletion brings the next one forward.
PERIOD = 600.0
#: Rows that one write lets go of: a few milliseconds.
BIT = 1000
#: How long a dead token of a session is kept, so that its holder is told why: a day.
TOKEN_RETENTION_NS = 24 * 3600 * 10**9


class Housekeeping:
    """See the module."""

    def __init__(self, store: Store, *, clock: Clock | None = None, bit: int = BIT) -> None:
        self._store = store
        self._clock = clock or SystemClock()
        self._bit = bit
        self._wake = asyncio.Event()
        store.listen(self._committed)

    def _committed(self, changes: Changes) -> None:
        if changes.deleted:
            self._wake.set()

    async def run(self) -> None:
        """Goes round until cancelled."""
        while True:
            self._wake.clear()
            try:
                await self.round()
            except BridleError as error:
                # Whoever uses the store is told; this only tries again.
                _log.warning("event=housekeeping_failed reason=%s", error.reason)
            await wait(self._wake, self._clock, self._clock.now() + PERIOD)

    async def round(self) -> int:
        """Lets go of all that there is now. Returns how many rows went."""
        bit = self._bit
        chores: tuple[Callable[[Tx], int], ...] = (
            lambda tx: tx.purge_commands(tx.now - RECEIPT_RETENTION_NS, bit),
            lambda tx: tx.purge_tombstones(tx.now - TOMBSTONE_RETENTION_NS, bit),
            lambda tx: tx.purge_tokens(tx.now - TOKEN_RETENTION_NS, bit),
            lambda tx: tx.purge_events(bit),
        )
        gone = 0
        for chore in chores:
            # Urgent: it is what makes room again.
            while went := await self._store.write(chore, urgent=True):
                gone += went
        return gone
