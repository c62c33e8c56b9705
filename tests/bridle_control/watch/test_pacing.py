"""How often the watchers of a session are woken."""

from __future__ import annotations

import asyncio

import pytest

from bridle_control.store.api import Store
from bridle_control.watch.channel import FRAME_COST, LONGEST_REST, Channel
from bridle_control.watch.frames import FrameCache, Tails
from bridle_control.watch.hub import Hub
from tests.support.stores import append
from tests.support.watching import watching


class Moment:
    """The event loop's time, which stands still until the test moves it: a busy machine pauses for
    longer than any rest, and a commit may take as long."""

    def __init__(self, now: float) -> None:
        self.now = now

    async def on(self, seconds: float) -> None:
        """Moves it; what is due has been called then."""
        self.now += seconds
        for _ in range(3):  # (seen in the next turn, called in that or in the one after it)
            await asyncio.sleep(0)


@pytest.fixture
async def moment(monkeypatch: pytest.MonkeyPatch) -> Moment:
    loop = asyncio.get_running_loop()
    made = Moment(loop.time())
    monkeypatch.setattr(loop, "time", lambda: made.now)
    return made


class Sleeper:
    """A watcher that counts how often it is woken."""

    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


async def test_a_first_event_is_told_at_once_and_a_flood_no_more_often_than_it_can_be_served(
    store: Store, moment: Moment
) -> None:
    channel = Channel("s1", store, FrameCache(), Tails())
    sleepers = [Sleeper() for _ in range(50)]
    channel.waiters.update(sleepers)
    channel.wake()
    assert [each.woken for each in sleepers] == [1] * 50
    rest = 50 * FRAME_COST
    assert rest <= LONGEST_REST
    for times in (1, 2, 3):
        for _ in range(1000):
            channel.wake()
        await moment.on(rest * 0.9)
        channel.wake()
        assert [each.woken for each in sleepers] == [times] * 50
        await moment.on(rest * 0.2)
        assert [each.woken for each in sleepers] == [times + 1] * 50
    await moment.on(rest)
    channel.wake()  # after a rest at once, as the first time
    assert [each.woken for each in sleepers] == [5] * 50
    channel.wake()
    channel.close()  # nobody is woken any more
    await moment.on(LONGEST_REST)
    assert [each.woken for each in sleepers] == [5] * 50


async def test_many_watchers_of_a_flood_get_few_frames_and_every_event(
    store: Store, hub: Hub, moment: Moment
) -> None:
    streams = [watching(hub, "s1") for _ in range(40)]
    watchers = [await each.__aenter__() for each in streams]
    try:
        for number in range(200):
            await append(store, "s1", str(number))
        for each in watchers:
            await each.until_events(1)
            assert each.sequences == [1]  # at once; with the others it is rested first
        await moment.on(40 * FRAME_COST)
        for each in watchers:
            await each.until_events(200)
            assert each.sequences == list(range(1, 201))
            assert [message.WhichOneof("response") for message in each.said] == [
                *("progress", "events", "events")
            ]
    finally:
        for stream in streams:
            await stream.__aexit__(None, None, None)
