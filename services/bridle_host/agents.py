"""Which agents this machine can run: looked for at the start, and again from time to time.

An agent that is installed while the host serves is found without a restart; one that isn't there is
looked for often, for that is cheap, and those that are now and then, for an upgrade or a removal.
What changed is told to control. Knows drivers only by their factories; `bridle_host.app` runs it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from bridle.v1 import host_pb2
from bridle_host.clock import Clock
from bridle_host.drivers.base import DriverFactory, Installation
from bridle_host.logs import kv

log = logging.getLogger("bridle.host.agents")

#: Seconds between two looks for what is missing.
MISSING_EVERY = 15.0
#: After so many of them all are looked for, which may start each agent to ask for its version.
ALL_AFTER = 40


class Agents:
    """See the module. `told` gets all of them, whenever something of them has changed."""

    def __init__(
        self,
        drivers: Mapping[str, DriverFactory],
        clock: Clock,
        told: Callable[[Sequence[host_pb2.Agent]], None],
    ) -> None:
        self._drivers = drivers
        self._clock = clock
        self._told = told
        self._known: dict[str, Installation] = {}

    def look(self) -> list[host_pb2.Agent]:
        """Looks for all of them. Blocks: not for the event loop."""
        self._known = {name: _probe(factory) for name, factory in self._drivers.items()}
        return self._list()

    async def run(self) -> None:
        """Looks again and again, until it is cancelled."""
        looks = 0
        while True:
            await self._clock.sleep(MISSING_EVERY)
            looks += 1
            every = looks % ALL_AFTER == 0
            names = [n for n, known in self._known.items() if every or not known.installed]
            found = await asyncio.to_thread(self._look_for, names)
            changed = [name for name in names if found[name] != self._known[name]]
            self._known |= found
            if changed:
                log.info("agents have changed", extra=kv(agents=" ".join(changed)))
                self._told(self._list())

    def _look_for(self, names: Sequence[str]) -> dict[str, Installation]:
        return {name: _probe(self._drivers[name]) for name in names}

    def _list(self) -> list[host_pb2.Agent]:
        return [
            host_pb2.Agent(
                agent=name,
                installed=known.installed,
                version=known.version,
                capabilities=sorted(self._drivers[name].capabilities),
                hint=known.hint,
            )
            for name, known in self._known.items()
        ]


def _probe(factory: DriverFactory) -> Installation:
    try:
        return factory.probe()
    except Exception:
        # A driver's fault is that of one agent, not of the host.
        log.exception("an agent can't be looked for")
        return Installation(installed=False, hint="the host failed to look for it")
