"""The watchers of a soak: from random cursors, over every loss, some of them slow.

Each keeps a `Recorder` of all that it was told. Between two watches it leaves and comes back, to
the sessions and the cursors that chance wants, up to a hundred events from the newest.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from bridle import Client, by_id
from bridle.errors import BridleError
from bridle.v1 import event_pb2, watch_pb2
from tests.robustness.soak.world import World
from tests.support.event_log import Log, Recorder

NEVER = watch_pb2.WATCH_UNTIL_NEVER
#: Seconds that one watch lives, at most.
LIFE = 40.0
#: Sessions of one watch; a stream takes 64.
TARGETS = 12
#: Seconds within which a watcher that missed nothing has caught up with a log that has ended.
CATCH_UP = 60.0


@dataclass
class Watcher:
    """See the module. `number` decides over its manners."""

    world: World
    number: int
    #: Slugs by ids.
    slugs: dict[str, str]
    #: One for each watch that it held.
    recorders: list[Recorder] = field(default_factory=list)
    #: The newest sequence seen of each session, to choose cursors by.
    heads: dict[str, int] = field(default_factory=dict)
    heal: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Watches until `heal` is set, then once more to the end by `finish`."""
        shape, proxies = self.world.shape, self.world.client_proxies
        chance = random.Random(f"watcher/{shape.seed}/{self.number}")
        proxy = proxies[self.number % len(proxies)]
        async with Client(proxy.address, token=self.world.token) as client:
            while not self.heal.is_set():
                life = chance.uniform(0.2, 1.0) * min(LIFE, shape.seconds / 2)
                await self._watch(client, self._choose(chance), life)

    def _choose(self, chance: random.Random) -> dict[str, int]:
        """Sessions and cursors: from the beginning, or somewhere around the newest."""
        # Each watcher has its share of all, so that every session is watched.
        sessions = list(self.slugs)
        mine = sessions[self.number % self.world.shape.watchers :: self.world.shape.watchers]
        others = chance.sample(sessions, min(len(sessions), TARGETS - 1))
        chosen = list(dict.fromkeys((*mine, *others)))[:TARGETS]
        return {
            each: max(0, self.heads.get(each, 0) + chance.randint(-100, 100))
            if chance.random() < 0.8
            else 0
            for each in chosen
        }

    async def _watch(self, client: Client, cursors: dict[str, int], life: float) -> None:
        recorder = Recorder()
        self.recorders.append(recorder)
        targets = {self.slugs[each]: after for each, after in cursors.items()}
        watch = client.watch_many(targets, until=NEVER)
        recorder.opened(cursors)
        try:
            async with asyncio.timeout(life), watch:
                async for update in watch.updates():
                    recorder.update(update)
                    if isinstance(update.item, event_pb2.Event):
                        self.heads[update.session_id] = update.item.sequence
                    if self.number % 4 == 3:
                        await asyncio.sleep(0.02)  # a slow one
        except TimeoutError:
            pass
        except BridleError as error:
            if error.reason or self.heal.is_set():
                self.world.complain(f"watcher {self.number} was ended: {error!r}")

    async def finish(self, client: Client, logs: list[Log]) -> None:
        """A last watch from random cursors that must reach the end of each log."""
        chance = random.Random(f"last/{self.world.shape.seed}/{self.number}")
        mine = logs[self.number % self.world.shape.watchers :: self.world.shape.watchers]
        for log in mine:
            recorder = Recorder()
            after = chance.randint(0, log.head)
            recorder.opened({log.session_id: after})
            self.recorders.append(recorder)
            watch = client.watch(by_id(log.session_id), after_sequence=after, until=NEVER)
            try:
                async with asyncio.timeout(CATCH_UP), watch:
                    async for update in watch.updates():
                        recorder.update(update)
                        if watch.cursor >= log.head:
                            break
            except TimeoutError:
                self.world.complain(f"watcher {self.number} never reached the end of a log")
