"""A peer that stands still or is cut off is noticed in 15 s, and all is well 10 s after its return.

Real processes and the real times: that is what is measured here. Since each of these takes its
15 s, they all run at once, each with a pair of its own.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bridle.v1 import session_pb2
from tests.pair import Pair, running_pair, until
from tests.robustness.fault_proxy import FaultProxy, fault_proxy
from tests.scenarios.support import output, turn_ends
from tests.support.pace import paced

#: Seconds.
NOTICED = 15.0
HEALED = 10.0

#: Put before a service's own code: SIGUSR2 blocks its event loop, while grpc's threads go on.
BLOCKER = """
import signal, time
signal.signal(signal.SIGUSR2, lambda *_: time.sleep(17.0))
"""


@dataclass
class Case:
    """One pair, what was done to it, and how long it took until it was noticed and mended."""

    name: str
    pair: Pair
    proxy: FaultProxy
    took: dict[str, float] = field(default_factory=dict)

    @asynccontextmanager
    async def within(self, seconds: float, what: str) -> AsyncIterator[None]:
        """Measures what takes place in the block."""
        begin = time.monotonic()
        yield
        self.took[what] = time.monotonic() - begin
        told = f"{self.name}: {what} took {self.took[what]:.1f} s of {seconds}"
        # (Where it is not noticed it never comes: who was blocked goes on as if nothing had been.)
        assert self.took[what] <= paced(seconds), told

    async def reachable(self, wanted: bool) -> None:
        """Waits until control says so of the session."""

        async def is_so() -> bool:
            told = (await self.pair.client.get_session("s")).reachability
            return (told == session_pb2.REACHABILITY_REACHABLE) is wanted

        await until(is_so, f"{self.name}: reachable is {wanted}")

    async def host_says(self, line: str, count: int = 1) -> None:
        """Waits until the host has logged a line so often."""
        log = self.pair.log("host")

        async def is_there() -> bool:
            return (await asyncio.to_thread(log.read_text)).count(line) >= count

        await until(is_there, f"{self.name}: {line}")

    async def host_notices(self) -> None:
        await self.host_says("link is down")

    async def works(self) -> None:
        """The same shell, with all that was in it, does one more turn."""
        sent = await self.pair.client.send("s", "echo still $KEPT")
        done = await self.pair.client.wait(sent.receipt)
        await turn_ends(self.pair, "s", done.outcome.turn)
        events = [event async for event in self.pair.client.list_events("s")]
        assert output(events, done.outcome.turn) == "still here\n"

    def tell(self, service: str, number: int) -> None:
        process = self.pair.host if service == "host" else self.pair.control
        assert process is not None
        process.send_signal(number)


@asynccontextmanager
async def case(directory: Path, name: str) -> AsyncIterator[Case]:
    """A pair with a proxy between its services, and a session that has seen a turn."""
    home = directory / name.replace(" ", "-")
    hooks = home / "hooks"
    hooks.mkdir(parents=True)
    (hooks / "sitecustomize.py").write_text(BLOCKER)
    more = {"PYTHONPATH": str(hooks)}
    async with (
        running_pair(home, host=False, host_environment=more) as pair,
        fault_proxy(pair.address, seed=1) as proxy,
    ):
        pair.control_environment = more
        await pair.restart_control()
        pair.host_arguments = ("--control", proxy.address)
        await pair.start_host()
        await pair.client.start_session("s", agent="shell", prompt="export KEPT=here")
        await turn_ends(pair, "s", 1)
        yield Case(name, pair, proxy)
        await pair.kill_all()


async def frozen_host(of: Case) -> None:
    of.tell("host", signal.SIGSTOP)
    async with of.within(NOTICED, "control notices"):
        await of.reachable(False)
    of.tell("host", signal.SIGCONT)
    async with of.within(HEALED, "heals"):
        await of.reachable(True)
        await of.works()


async def frozen_control(of: Case) -> None:
    of.tell("control", signal.SIGSTOP)
    async with of.within(NOTICED, "the host notices"):
        await of.host_notices()
    of.tell("control", signal.SIGCONT)
    async with of.within(HEALED, "heals"):
        await of.host_says("link is up", 2)
        await of.reachable(True)
        await of.works()


async def blocked_host(of: Case) -> None:
    of.tell("host", signal.SIGUSR2)
    async with of.within(NOTICED, "control notices"):
        await of.reachable(False)
    # The loop goes on 17 s after it was blocked.
    async with of.within(HEALED + 17.0 - of.took["control notices"], "heals"):
        await of.reachable(True)
        await of.works()


async def blocked_control(of: Case) -> None:
    of.tell("control", signal.SIGUSR2)
    async with of.within(NOTICED, "the host notices"):
        await of.host_notices()
    async with of.within(HEALED + 17.0 - of.took["the host notices"], "heals"):
        await of.host_says("link is up", 2)
        await of.reachable(True)
        await of.works()


async def cut_network(of: Case) -> None:
    of.proxy.stall()
    async with of.within(NOTICED, "both notice"):
        await asyncio.gather(of.reachable(False), of.host_notices())
    of.proxy.heal()
    async with of.within(HEALED, "heals"):
        await of.reachable(True)
        await of.works()


CASES: dict[str, Callable[[Case], Awaitable[None]]] = {
    "a frozen host": frozen_host,
    "a frozen control": frozen_control,
    "a blocked loop of a host": blocked_host,
    "a blocked loop of control": blocked_control,
    "a cut network": cut_network,
}


async def run_case(directory: Path, name: str) -> dict[str, float]:
    async with case(directory, name) as made:
        await CASES[name](made)
        return made.took


@pytest.mark.timeout(400)
async def test_a_peer_that_stands_still_or_is_cut_off_is_noticed_in_15_s_and_healed_in_10_s(
    tmp_path: Path,
) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = {name: group.create_task(run_case(tmp_path, name)) for name in CASES}
    for name, task in tasks.items():
        print(name, {what: round(seconds, 1) for what, seconds in task.result().items()})
