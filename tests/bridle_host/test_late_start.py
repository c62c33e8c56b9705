"""Starts that come when their time is over, and those that meet a run which is being killed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bridle.host.v1 import host_link_service_pb2 as host_pb
from tests.bridle_host.sessions_support import SESSION, hosting, seconds
from tests.fakes.driver import FakeFactory

START = host_pb.StartRun(agent="fake", slug="x", workspace="default")


async def test_a_start_that_is_out_of_time_is_answered_and_not_begun(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {"fake": factory}) as host:
        late = await host.command(start=START, time_to_live=seconds(1e-9))
        assert await host.answer(late) == ("NOT_RUN", "EXPIRED")
        assert host.sessions.inventory() == []
        # Said again it is answered again, and it may be given anew under another id.
        await host.command(command_id=late, start=START)
        assert await host.answer(late, 2) == ("NOT_RUN", "EXPIRED")
        good = await host.command(start=START, time_to_live=seconds(50.0))
        await factory.driver(1)
        assert await host.answer(good) == ("RAN", "DONE")


async def test_a_start_waits_for_the_stale_run_of_its_session_to_be_killed(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {"fake": factory}) as host:
        await host.start()
        await factory.driver(1)
        await host.event("process_started")
        killing = asyncio.ensure_future(host.sessions.kill_stale(SESSION, 1))
        await asyncio.sleep(0)
        again = await host.start(run=3)
        assert await host.answer(again) == ("RAN", "DONE")
        assert killing.done()
        assert [live.run for live in host.sessions.inventory()] == [3]
        await killing
