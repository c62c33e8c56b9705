"""WatchSessions: a snapshot of a workspace's sessions, then what changes.

Each watcher keeps the ids of sessions that changed and that it has not told of yet; it reads them
from the store when it can write. So a session that changed five times comes once, as it is by then,
and a slow watcher costs an id for each changed session. Called by SessionService; the links say by
`touch` that hosts came or went, which changes sessions without changing their rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from functools import partial

from bridle.v1 import session_pb2, watch_pb2
from bridle_control.clock import Clock, SystemClock, wait
from bridle_control.store.api import Changes, PageKey, ReadTx, SessionRow, Store, Term
from bridle_control.watch.limits import WatchLimit

#: Which sessions a watcher may know of, by id; None: all.
Sees = Callable[[ReadTx, str], bool] | None

#: Rows that one read takes.
BATCH = 100
#: Seconds between two looks at what changed: a busy session comes ten times a second, at most.
INTERVAL = 0.1
#: The same for each of many watchers: together they read so seldom that others can read, too.
WATCHER_COST = 0.002


class _Watcher:
    """One WatchSessions."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        #: Changed sessions in the order of their first change; a dict for its order.
        self.changed: dict[str, None] = {}
        #: What the watcher was told of and not yet rid of: slugs by id.
        self.told: dict[str, str] = {}

    def note(self, session_ids: Iterable[str]) -> None:
        self.changed.update(dict.fromkeys(session_ids))
        self.event.set()


class SessionsFeed:
    """See the module. One per process, used from its event loop alone."""

    def __init__(
        self,
        store: Store,
        render: Callable[[SessionRow], session_pb2.Session],
        *,
        clock: Clock | None = None,
        limit: WatchLimit | None = None,
        interval: float = INTERVAL,
    ) -> None:
        """`render` makes the message of a row; `interval` is in seconds."""
        self._store = store
        self._render = render
        self._clock = clock or SystemClock()
        self._limit = limit or WatchLimit()
        self._interval = interval
        self._watchers: set[_Watcher] = set()
        store.listen(self._committed)

    def touch(self, session_ids: Iterable[str]) -> None:
        """These sessions look different now, though their rows are the same."""
        ids = list(session_ids)
        for watcher in self._watchers:
            watcher.note(ids)

    def _committed(self, changes: Changes) -> None:
        ids = changes.sessions | changes.deleted
        if ids:
            for watcher in self._watchers:
                watcher.note(ids)

    async def watch(
        self,
        workspace: str,
        terms: Sequence[Term] = (),
        *,
        principal_key: str,
        sees: Sees = None,
    ) -> AsyncGenerator[bytes, None]:
        """Serialized WatchSessionsResponses, until it is closed. Raises TOO_MANY_WATCHES.

        `sees` says, by id, which sessions this watcher may know of; None: all of the workspace.
        """
        watcher = _Watcher()
        with self._limit.admit(principal_key):
            # Before the snapshot: what changes while it is read is told behind it.
            self._watchers.add(watcher)
            try:
                after: PageKey | None = None
                while True:
                    rows, after = await self._page(workspace, terms, sees, after)
                    for row in rows:
                        watcher.told[row.session_id] = row.slug
                        yield _response(session=self._render(row))
                    if after is None:
                        break
                yield _response(snapshot_end=watch_pb2.SnapshotEnd())
                while True:
                    await watcher.event.wait()
                    watcher.event.clear()
                    while watcher.changed:
                        for message in await self._news(watcher, workspace, terms, sees):
                            yield message
                    await self._pause()
            finally:
                self._watchers.discard(watcher)

    async def _pause(self) -> None:
        pause = max(self._interval, WATCHER_COST * len(self._watchers))
        await wait(asyncio.Event(), self._clock, self._clock.now() + pause)

    async def _page(
        self, workspace: str, terms: Sequence[Term], sees: Sees, after: PageKey | None
    ) -> tuple[list[SessionRow], PageKey | None]:
        return await self._store.read(partial(_page, workspace, terms, sees, after))

    async def _news(
        self, watcher: _Watcher, workspace: str, terms: Sequence[Term], sees: Sees
    ) -> list[bytes]:
        """Takes some of the changed sessions, and makes what there is to say of them."""
        ids = list(watcher.changed)[:BATCH]
        for session_id in ids:
            del watcher.changed[session_id]
        rows = await self._store.read(lambda tx: _matching(tx, ids, workspace, terms, sees))
        messages = []
        for session_id in ids:
            row = rows.get(session_id)
            if row is not None:
                watcher.told[session_id] = row.slug
                messages.append(_response(session=self._render(row)))
            elif (slug := watcher.told.pop(session_id, None)) is not None:
                removed = watch_pb2.SessionRemoved(session_id=session_id, slug=slug)
                messages.append(_response(removed=removed))
        return messages


def _page(
    workspace: str, terms: Sequence[Term], sees: Sees, after: PageKey | None, tx: ReadTx
) -> tuple[list[SessionRow], PageKey | None]:
    page = tx.sessions(workspace, terms=terms, descending=False, after=after, limit=BATCH)
    rows = [row for row in page.sessions if sees is None or sees(tx, row.session_id)]
    return rows, page.next_key


def _matching(
    tx: ReadTx, ids: Sequence[str], workspace: str, terms: Sequence[Term], sees: Sees
) -> dict[str, SessionRow]:
    """Of these sessions the rows that the watcher is to know of, by id."""
    found = (tx.session(each) for each in ids if tx.session_matches(each, workspace, terms))
    return {
        row.session_id: row
        for row in found
        if row is not None and (sees is None or sees(tx, row.session_id))
    }


def _response(
    *,
    session: session_pb2.Session | None = None,
    snapshot_end: watch_pb2.SnapshotEnd | None = None,
    removed: watch_pb2.SessionRemoved | None = None,
) -> bytes:
    return watch_pb2.WatchSessionsResponse(
        session=session, snapshot_end=snapshot_end, removed=removed
    ).SerializeToString()
