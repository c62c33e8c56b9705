"""Which agents a machine can run, and that what changes is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from bridle.v1 import host_pb2
from bridle_host.agents import ALL_AFTER, MISSING_EVERY, Agents
from bridle_host.drivers.base import Installation
from tests.bridle_host.journal_support import until
from tests.bridle_host.link_support import HandClock
from tests.fakes.driver import FakeFactory

MISSING = Installation(installed=False, hint="npm install it")


class Watched(FakeFactory):
    """Counts how often it was looked for."""

    looks = 0

    def probe(self) -> Installation:
        self.looks += 1
        return super().probe()


@asynccontextmanager
async def watching(
    **factories: FakeFactory,
) -> AsyncIterator[tuple[HandClock, Agents, list[Sequence[host_pb2.Agent]]]]:
    clock, told = HandClock(), list[Sequence[host_pb2.Agent]]()
    agents = Agents(factories, clock, told.append)
    agents.look()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(agents.run())
        await until(lambda: bool(clock.waiting))
        yield clock, agents, told
        task.cancel()


async def test_an_agent_that_is_installed_later_is_found_and_told() -> None:
    codex, shell = Watched(), Watched()
    codex.installation = MISSING
    async with watching(codex=codex, shell=shell) as (clock, agents, told):
        before = {each.agent: each for each in agents.look()}
        assert (before["codex"].installed, before["codex"].hint) == (False, "npm install it")
        looked = shell.looks
        await clock.advance(MISSING_EVERY)
        await until(lambda: bool(clock.waiting))
        assert told == []
        codex.installation = Installation(installed=True, version="2.0")
        await clock.advance(MISSING_EVERY)
        await until(lambda: bool(told))
        now = {each.agent: each for each in told[0]}
        assert (now["codex"].installed, now["codex"].version) == (True, "2.0")
        assert now["codex"].capabilities
        assert now["shell"].version == "1.0"
        assert shell.looks == looked


async def test_an_agent_that_is_upgraded_or_removed_is_noticed_in_the_end() -> None:
    shell = Watched()
    async with watching(shell=shell) as (clock, _, told):
        shell.installation = Installation(installed=True, version="1.1")
        for _ in range(ALL_AFTER):
            assert told == []
            await until(lambda: bool(clock.waiting))
            await clock.advance(MISSING_EVERY)
        await until(lambda: bool(told))
        assert [each.version for each in told[0]] == ["1.1"]


async def test_a_driver_that_fails_to_look_is_that_agents_fault_alone() -> None:
    class Failing(FakeFactory):
        def probe(self) -> Installation:
            raise RuntimeError("a fault of this driver")

    async with watching(bad=Failing(), good=FakeFactory()) as (_, agents, _told):
        found = {each.agent: each.installed for each in agents.look()}
        assert found == {"bad": False, "good": True}
