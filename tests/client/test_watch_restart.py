"""A watch by the command line outlives the control that serves it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests.pair import PATIENCE, running_pair


async def test_a_watch_goes_on_over_the_death_of_control_without_gap_or_repeat(
    tmp_path: Path,
) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do echo tick $i; sleep 0.4; done"
    async with running_pair(tmp_path) as pair:
        await pair.client.start_session("followed", agent="shell", prompt=script)
        watch = await pair.start_cli("session", "watch", "followed", "--json")
        assert watch.stdout is not None
        lines = [await watch.stdout.readline() for _ in range(8)]
        await pair.restart_control()
        assert (await pair.cli("wait", "followed")).out == "IDLE\n"
        assert (await pair.cli("session", "stop", "followed", "--wait")).code == 0
        async with asyncio.timeout(PATIENCE):
            rest, err = await watch.communicate()
    assert watch.returncode == 0, err
    rows = [json.loads(line) for line in [*lines, *rest.splitlines()]]
    assert [int(row["sequence"]) for row in rows] == list(range(1, len(rows) + 1))
    ticks = "".join(row["toolCallOutput"]["text"] for row in rows if "toolCallOutput" in row)
    assert ticks == "".join(f"tick {i}\n" for i in range(1, 9))
    assert "sessionEnded" in rows[-1]
