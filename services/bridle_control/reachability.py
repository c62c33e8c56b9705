"""Tells those who watch sessions that a host came or went.

Whether a session's host can be reached is computed from the links that are up and stored nowhere,
so no commit tells of it. Made and run by `app`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from bridle_control.store.api import Store
from bridle_core.errors import BridleError

_log = logging.getLogger("bridle.control.reachability")


class Links(Protocol):
    """The registry of links."""

    def listen(self, listener: Callable[[str], None]) -> None:
        """Calls `listener(host_id)` when a host can be reached, or no longer can."""


class Feed(Protocol):
    """The feed of sessions."""

    def touch(self, session_ids: Iterable[str]) -> None:
        """These sessions look different now."""


class Reachability:
    """See the module. Used from one event loop alone."""

    def __init__(self, store: Store, links: Links, feed: Feed) -> None:
        self._store = store
        self._feed = feed
        self._changed: set[str] = set()  # bounded by the number of hosts
        self._wake = asyncio.Event()
        links.listen(self._note)

    def _note(self, host_id: str) -> None:
        self._changed.add(host_id)
        self._wake.set()

    async def run(self) -> None:
        """Passes changes on, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._changed:
                host_id = self._changed.pop()
                try:
                    rows = await self._store.read(
                        lambda tx, host_id=host_id: tx.live_sessions_of_host(host_id)  # type: ignore[misc]
                    )
                except BridleError as error:
                    _log.warning("watchers were not told of a host: %s", error.reason)
                    continue
                self._feed.touch(row.session_id for row in rows)
