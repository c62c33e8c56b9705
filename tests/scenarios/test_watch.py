"""Watchers see the same events in the same order, live, later, and over restarts of control."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from bridle.v1 import event_pb2
from tests.pair import PATIENCE, Pair, running_pair
from tests.scenarios.support import NEVER, check_order, kinds, log, turn_ends


async def _seen(pair: Pair, slug: str, after: int, last: asyncio.Future[int]) -> list[bytes]:
    """What a watcher from `after` sees, until it has seen the sequence that `last` will tell."""
    seen: list[bytes] = []
    async for event in pair.client.watch(slug, after_sequence=after, until=NEVER):
        seen.append(event.SerializeToString(deterministic=True))
        if last.done() and event.sequence >= last.result():
            return seen
    raise AssertionError("the watch ended by itself")


async def test_watchers_see_the_same_live_and_after_a_restart_of_control(tmp_path: Path) -> None:
    async with running_pair(tmp_path) as pair:
        await pair.client.start_session("x", agent="shell", prompt="echo first")
        await turn_ends(pair, "x", 1)
        middle = (await pair.client.get_session("x")).last_sequence
        last: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            one = tasks.create_task(_seen(pair, "x", 0, last))
            two = tasks.create_task(_seen(pair, "x", 0, last))
            three = tasks.create_task(_seen(pair, "x", middle, last))
            for turn in range(2, 8):
                await pair.client.send("x", f"for i in 1 2 3; do echo turn {turn} $i; done")
            await turn_ends(pair, "x", 7)
            last.set_result((await pair.client.get_session("x")).last_sequence)
            # The last event may have been seen before `last` was told: one more moves all watchers.
            await pair.client.send("x", "true")

        whole = one.result()
        assert len(whole) >= last.result()
        assert two.result()[: last.result()] == whole[: last.result()]
        assert three.result()[: last.result() - middle] == whole[middle : last.result()]

        await pair.restart_control()

        again = [event.SerializeToString(deterministic=True) for event in await log(pair, "x")]
        assert again[: last.result()] == whole[: last.result()]
        check_order(await log(pair, "x"))


async def test_a_watch_goes_on_while_control_is_killed_and_started_again(tmp_path: Path) -> None:
    async with running_pair(tmp_path) as pair:
        await pair.client.start_session("x", agent="shell")
        watcher = await pair.start_cli("session", "watch", "x", "--json")
        assert watcher.stdout is not None
        sequences: list[int] = []

        async def until_seen(text: str) -> None:
            assert watcher.stdout is not None
            while True:
                async with asyncio.timeout(PATIENCE):
                    line = await watcher.stdout.readline()
                assert line, "the watch ended by itself"
                event = json.loads(line)
                if "sequence" in event:
                    sequences.append(int(event["sequence"]))
                if text in event.get("toolCallOutput", {}).get("text", ""):
                    return

        for round_ in range(3):
            await pair.client.send("x", f"echo before {round_}")
            await until_seen(f"before {round_}")
            # At work while control is away: the host keeps what happens.
            await pair.client.send("x", f"sleep 0.3; echo during {round_}")
            await pair.restart_control()
            await until_seen(f"during {round_}")
            await pair.client.send("x", f"echo after {round_}")
            await until_seen(f"after {round_}")
        await pair.client.kill("x")
        async with asyncio.timeout(PATIENCE):
            rest = await watcher.stdout.read()
            assert await watcher.wait() == 0
        sequences += [
            int(json.loads(line)["sequence"]) for line in rest.splitlines() if b'"sequence"' in line
        ]

        assert sequences == list(range(1, len(sequences) + 1))
        assert kinds(await log(pair, "x"))[-1] == "session_ended"
        assert len(sequences) == len(await log(pair, "x"))


async def test_stop_reports_and_ends_and_resume_brings_directory_and_exports_back(
    tmp_path: Path,
) -> None:
    async with running_pair(tmp_path) as pair:
        place = tmp_path / "place"
        place.mkdir()
        await pair.client.start_session(
            "x", agent="shell", prompt=f"cd {place}; export COLOUR=green; plain=gone"
        )
        await turn_ends(pair, "x", 1)
        stopped = await pair.cli("session", "stop", "x", "--wait")
        resumed = await pair.cli("session", "resume", "x", "--wait")
        await pair.client.send("x", 'echo "$COLOUR $PWD [$plain]"')
        await turn_ends(pair, "x", 2)

        assert stopped.code == resumed.code == 0, (stopped, resumed)
        events = await log(pair, "x")
        check_order(events)
        order = kinds(events)
        assert order.index("turn_ended") < order.index("artifacts_reported")
        assert order.index("artifacts_reported") < order.index("process_exited")
        assert order.index("process_exited") < order.index("session_ended")
        ended = next(e for e in events if e.WhichOneof("kind") == "session_ended").session_ended
        assert ended.verified
        back = next(e for e in events if e.WhichOneof("kind") == "session_resumed").session_resumed
        assert back.mode == event_pb2.RESUME_MODE_SEEDED
        assert back.lost
        said = [
            e.tool_call_output.text for e in events if e.WhichOneof("kind") == "tool_call_output"
        ]
        assert said[-1] == f"green {place} []\n"
