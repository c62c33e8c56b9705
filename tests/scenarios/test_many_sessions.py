"""Many real shells at once: every command runs once, in order, and nothing is left behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridle.v1 import session_pb2
from tests.pair import running_pair
from tests.scenarios.support import bearing, check_order, kinds, log, turn_ends

SESSIONS = 20
COMMANDS = 50
CLIENTS = 5


@pytest.mark.timeout(300)
async def test_twenty_shells_run_fifty_commands_each_once_and_in_order(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    ledger.mkdir()
    async with running_pair(tmp_path) as pair:
        slugs = [f"s{number}" for number in range(SESSIONS)]
        async with asyncio.timeout(240):
            await asyncio.gather(*(pair.client.start_session(s, agent="shell") for s in slugs))

            async def client(slug: str, number: int) -> None:
                # Each client's own commands are in order; those of different clients mix.
                for turn in range(COMMANDS // CLIENTS):
                    await pair.client.send(slug, f"echo {number}.{turn} >> {ledger}/{slug}")

            async with asyncio.TaskGroup() as tasks:
                for slug in slugs:
                    for number in range(CLIENTS):
                        tasks.create_task(client(slug, number))
            await asyncio.gather(*(turn_ends(pair, slug, COMMANDS) for slug in slugs))
            # A job in a session of its own, to be found at the end.
            for slug in slugs:
                await pair.client.send(slug, "setsid sleep 63.5 & ")
            await asyncio.gather(*(turn_ends(pair, slug, COMMANDS + 1) for slug in slugs))
            killed = await asyncio.gather(*(pair.client.kill(slug) for slug in slugs))
            await asyncio.gather(*(pair.client.wait(answer.receipt) for answer in killed))

        for slug in slugs:
            ran = (ledger / slug).read_text().split()
            assert len(ran) == len(set(ran)) == COMMANDS
            events = await log(pair, slug)
            check_order(events)
            # They ran in the order in which control had accepted them.
            queued = [
                event.input_queued.content[0].text.split()[1]
                for event in events
                if event.WhichOneof("kind") == "input_queued"
            ][:COMMANDS]
            assert ran == queued
            assert kinds(events).count("turn_started") == COMMANDS + 1
            assert (await pair.client.get_session(slug)).phase == session_pb2.PHASE_KILLED
        assert bearing("sleep 63.5") == []
