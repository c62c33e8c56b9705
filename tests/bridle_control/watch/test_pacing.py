"""How often the watchers of a session are woken."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from bridle_control.store.api import Store
from bridle_control.watch.channel import FRAME_COST, LONGEST_REST, Channel
from bridle_control.watch.frames import FrameCache, Tails
from bridle_control.watch.hub import Hub
from tests.support.stores import append
from tests.support.watching import watching


class Sleeper:
    """A watcher that counts how often it is woken."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.woken = asyncio.Event()

    def wake(self) -> None:
        self.times.append(asyncio.get_running_loop().time())
        self.woken.set()


async def test_a_first_event_is_told_at_once_and_a_flood_no_more_often_than_it_can_be_served(
    store: Store,
) -> None:
    channel = Channel("s1", store, FrameCache(), Tails())
    sleepers = [Sleeper() for _ in range(50)]
    channel.waiters.update(sleepers)
    channel.wake()
    assert [len(each.times) for each in sleepers] == [1] * 50
    for _ in range(3):
        for _ in range(1000):
            channel.wake()
        sleepers[0].woken.clear()
        async with asyncio.timeout(30):
            await sleepers[0].woken.wait()
    times = sleepers[0].times
    assert len(times) == 4
    assert all(len(each.times) == 4 for each in sleepers)
    gaps = [later - at for at, later in pairwise(times)]
    assert min(gaps) >= 50 * FRAME_COST * 0.9
    assert 50 * FRAME_COST <= LONGEST_REST
    channel.wake()
    channel.close()  # nobody is woken any more


async def test_many_watchers_of_a_flood_get_few_frames_and_every_event(
    store: Store, hub: Hub
) -> None:
    async with watching(hub, "s1") as one:
        for number in range(200):
            await append(store, "s1", str(number))
        await one.until_events(200)
        alone = len(one.said)
    streams = [watching(hub, "s1") for _ in range(40)]
    watchers = [await each.__aenter__() for each in streams]
    try:
        for each in watchers:
            await each.until_events(200)
        before = len(watchers[0].said)
        for number in range(200):
            await append(store, "s1", str(number))
        for each in watchers:
            await each.until_events(400)
            assert each.sequences == list(range(1, 401))
        assert len(watchers[0].said) - before < alone / 2
    finally:
        for stream in streams:
            await stream.__aexit__(None, None, None)
