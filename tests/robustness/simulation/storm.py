"""The faults of a simulation, drawn from its seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from tests.robustness.simulation.callers import Callers


class Storm(Callers):
    """See the module."""

    async def _storm(self, dice: random.Random, seconds: float) -> None:
        end = self.now + seconds
        faults: dict[str, tuple[int, Callable[[random.Random], Awaitable[None] | None]]] = {
            "control-kill": (3, self._kill_control),
            "host-kill": (4, self._kill_host),
            "cut": (4, self._cut),
            "stall": (3, self._stall),
            "latency": (2, self._slow),
            "agent-crash": (2, self._crash_agent),
            "power": (1, self._power),
            "journal-lost": (1, self._lose_journal),
            "journal-forgotten": (int(self._forgotten), self._forget_journal),
            "clock": (1, self._turn_clock),
        }
        names = list(faults)
        while self.now < end:
            await asyncio.sleep(dice.expovariate(1 / 2.5))
            name = dice.choices(names, [weight for weight, _ in faults.values()])[0]
            self._note(f"fault {name}")
            self.told.faults[name] += 1
            doing = faults[name][1](dice)
            if doing is not None:
                await doing
            self._look()

    async def _kill_control(self, dice: random.Random) -> None:
        self.control.kill()
        await asyncio.sleep(dice.choice((0.0, 0.5, 3.0)))
        self.control.start()

    async def _kill_host(self, dice: random.Random) -> None:
        host = dice.choice(self.hosts)
        host.kill()
        await asyncio.sleep(dice.choice((0.0, 0.0, 1.0, 12.0)))
        host.start()

    def _cut(self, dice: random.Random) -> None:
        stream = dice.choice(self.hosts).stream
        told = dice.choice(((True, True), (True, False), (False, True), (False, False)))
        if stream is not None:
            stream.cut(tell_host=told[0], tell_control=told[1])

    def _stall(self, dice: random.Random) -> None:
        stream = dice.choice(self.hosts).stream
        if stream is not None:
            stream.stall()
            seconds = dice.choice((0.5, 3.0, 10.0, 20.0))
            asyncio.get_running_loop().call_later(seconds, stream.go_on)

    def _slow(self, dice: random.Random) -> None:
        self.control.latency = dice.choice((0.001, 0.005, 0.05, 0.3))
        for host in self.hosts:
            if host.stream is not None:
                host.stream.latency = self.control.latency

    def _crash_agent(self, dice: random.Random) -> None:
        living = [a for host in self.hosts for a in host.agents.values() if not a.dead]
        if living:
            dice.choice(living).crash()

    async def _power(self, dice: random.Random) -> None:
        host = dice.choice(self.hosts)
        host.lose_power(keep_journal=True)
        await asyncio.sleep(dice.choice((1.0, 12.0)))
        host.start()

    async def _lose_journal(self, dice: random.Random) -> None:
        host = dice.choice(self.hosts)
        host.lose_power(keep_journal=False)
        await asyncio.sleep(dice.choice((1.0, 12.0)))
        host.start()

    async def _forget_journal(self, dice: random.Random) -> None:
        host = dice.choice(self.hosts)
        host.lose_journal()
        await asyncio.sleep(dice.choice((0.0, 1.0, 12.0)))
        host.start()

    def _turn_clock(self, dice: random.Random) -> None:
        self.control.clock_off += dice.choice((-1, 1)) * dice.choice((3600.0, 86400.0))

    async def _heal(self) -> None:
        self._note("healed")
        self.control.latency = 0.005
        for host in self.hosts:
            if host.stream is not None:
                host.stream.go_on()
