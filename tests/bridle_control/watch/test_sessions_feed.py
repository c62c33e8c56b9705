"""WatchSessions: the snapshot, its end, then each change, once and as it is by then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from bridle.v1 import session_pb2, watch_pb2
from bridle_control.store.api import SessionRow, Store, Term
from bridle_control.watch.limits import WatchLimit
from bridle_control.watch.sessions_feed import INTERVAL, SessionsFeed
from bridle_core.errors import BridleError, Reason
from tests.support.manual_clock import ManualClock
from tests.support.stores import a_session, append, begin


def render(row: SessionRow) -> session_pb2.Session:
    return session_pb2.Session(
        session_id=row.session_id,
        slug=row.slug,
        title=row.title,
        phase=session_pb2.Phase.ValueType(row.phase),
        last_sequence=row.last_sequence,
    )


@pytest.fixture
def feed(store: Store, clock: ManualClock) -> SessionsFeed:
    return SessionsFeed(store, render, clock=clock)


class Feed:
    """A WatchSessions that is read message by message."""

    def __init__(self, stream: AsyncGenerator[bytes, None], clock: ManualClock) -> None:
        self._stream = stream
        self._clock = clock

    async def next(self) -> watch_pb2.WatchSessionsResponse:
        """The next message; moves the clock when the feed rests."""
        task = asyncio.ensure_future(anext(self._stream))
        try:
            async with asyncio.timeout(30):
                while not task.done():
                    await asyncio.wait((task,), timeout=0.002)
                    self._clock.advance(INTERVAL)
                return watch_pb2.WatchSessionsResponse.FromString(task.result())
        finally:
            task.cancel()

    async def snapshot(self) -> list[str]:
        """The ids before SnapshotEnd."""
        ids: list[str] = []
        while True:
            message = await self.next()
            if message.HasField("snapshot_end"):
                return ids
            ids.append(message.session.session_id)


Open = Callable[..., Any]


@pytest.fixture
def open_feed(feed: SessionsFeed, clock: ManualClock) -> Open:
    @asynccontextmanager
    async def opened(*terms: Term) -> AsyncIterator[Feed]:
        stream = feed.watch("default", terms, principal_key="me")
        try:
            yield Feed(stream, clock)
        finally:
            await stream.aclose()

    return opened


async def change(store: Store, session_id: str, **values: Any) -> None:
    row = await store.read(lambda tx: tx.session(session_id))
    assert row is not None
    await store.write(lambda tx: tx.update_session(replace(row, **values)))


async def test_the_snapshot_holds_the_workspaces_sessions_and_says_when_it_is_whole(
    store: Store, open_feed: Open
) -> None:
    await begin(store, *(a_session(f"n{n:03}", create_time=n) for n in range(250)))
    await begin(store, a_session("theirs", workspace="team"))
    async with open_feed() as feed:
        ids = await feed.snapshot()
    assert len(ids) == len(set(ids)) == 252
    assert "theirs" not in ids


async def test_changes_come_behind_the_snapshot(store: Store, open_feed: Open) -> None:
    async with open_feed() as feed:
        assert sorted(await feed.snapshot()) == ["s1", "s2"]
        await change(store, "s1", title="new")
        message = await feed.next()
        assert (message.session.session_id, message.session.title) == ("s1", "new")
        await begin(store, a_session("s3"))
        assert (await feed.next()).session.session_id == "s3"
        await store.write(lambda tx: tx.delete_session("s2"))
        removed = (await feed.next()).removed
        assert (removed.session_id, removed.slug) == ("s2", "s2")


async def test_what_changes_while_the_snapshot_is_read_is_told_behind_it(
    store: Store, open_feed: Open
) -> None:
    async with open_feed() as feed:
        assert (await feed.next()).session.session_id == "s1"
        await change(store, "s1", title="meanwhile")
        await store.write(lambda tx: tx.delete_session("s2"))
        await feed.snapshot()
        told = [await feed.next(), await feed.next()]
        assert {each.session.title or each.removed.session_id for each in told} == {
            "meanwhile",
            "s2",
        }


async def test_a_session_that_changed_often_comes_once_as_it_is(
    store: Store, open_feed: Open
) -> None:
    async with open_feed() as feed:
        await feed.snapshot()
        for number in range(20):
            await change(store, "s1", title=str(number))
        await change(store, "s2", title="other")
        first, second = await feed.next(), await feed.next()
        assert (first.session.session_id, first.session.title) == ("s1", "19")
        assert second.session.session_id == "s2"


async def test_events_alone_are_no_change(store: Store, open_feed: Open) -> None:
    async with open_feed() as feed:
        await feed.snapshot()
        await append(store, "s1", "out")
        await change(store, "s2", title="new")
        assert (await feed.next()).session.session_id == "s2"


async def test_a_session_enters_and_leaves_the_filter(store: Store, open_feed: Open) -> None:
    async with open_feed(Term("phase", session_pb2.PHASE_RUNNING)) as feed:
        assert await feed.snapshot() == []
        await change(store, "s2", title="still idle")
        await change(store, "s1", phase=session_pb2.PHASE_RUNNING)
        assert (await feed.next()).session.session_id == "s1"
        await change(store, "s1", phase=session_pb2.PHASE_IDLE)
        assert (await feed.next()).removed.session_id == "s1"
        await change(store, "s1", phase=session_pb2.PHASE_RUNNING)
        assert (await feed.next()).session.session_id == "s1"


async def test_a_host_that_comes_or_goes_touches_its_sessions(
    store: Store, feed: SessionsFeed, open_feed: Open
) -> None:
    async with open_feed() as reader:
        await reader.snapshot()
        feed.touch(["s2", "none"])
        assert (await reader.next()).session.session_id == "s2"


async def test_watches_of_sessions_count_as_watches(store: Store, clock: ManualClock) -> None:
    limit = WatchLimit(1)
    feed = SessionsFeed(store, render, clock=clock, limit=limit)
    stream = feed.watch("default", principal_key="me")
    await anext(stream)
    second = feed.watch("default", principal_key="me")
    with pytest.raises(BridleError) as refused:
        await anext(second)
    assert refused.value.reason is Reason.TOO_MANY_WATCHES
    await stream.aclose()
    third = feed.watch("default", principal_key="me")
    await anext(third)
    await third.aclose()
    assert feed._watchers == set()


async def test_many_watchers_of_a_busy_workspace_look_less_often_each(
    store: Store, clock: ManualClock
) -> None:
    """200 of them would make 2,000 reads a second, where a few hundred leave room for others."""
    feed = SessionsFeed(store, render, clock=clock, limit=WatchLimit(1000))
    streams = [feed.watch("default", principal_key="me") for _ in range(200)]
    for stream in streams:
        for _ in range(3):
            await anext(stream)
    news = [asyncio.ensure_future(anext(stream)) for stream in streams]
    await asyncio.sleep(0)
    await change(store, "s1", title="one")
    assert {_title(message) for message in await asyncio.gather(*news)} == {"one"}
    news = [asyncio.ensure_future(anext(stream)) for stream in streams]
    await asyncio.sleep(0)
    await change(store, "s1", title="two")
    clock.advance(0.3)
    for _ in range(20):  # whoever looks now has its answer before this has
        await asyncio.gather(*(store.read(lambda tx: tx.now) for _ in range(8)))
    assert not any(each.done() for each in news)
    clock.advance(0.1)
    async with asyncio.timeout(30):
        assert {_title(message) for message in await asyncio.gather(*news)} == {"two"}
    for stream in streams:
        await stream.aclose()


def _title(message: bytes) -> str:
    return watch_pb2.WatchSessionsResponse.FromString(message).session.title
