"""Agents that start sessions of their own, from inside a session."""

from __future__ import annotations

from pathlib import Path

from tests.pair import running_pair
from tests.scenarios.support import log, output, turn_ends

START = "bridle session start {slug} --agent shell --dir {directory}; echo $?"


async def test_a_childs_directory_lies_in_its_parents_wherever_links_lead(tmp_path: Path) -> None:
    async with running_pair(tmp_path) as pair:
        (tmp_path / "outside").mkdir()
        (pair.work / "below").mkdir()
        (pair.work / "out").symlink_to(tmp_path / "outside")
        (pair.work / "in").symlink_to(pair.work / "below")
        starts = [START.format(slug=name, directory=name) for name in ("below", "in", "out")]
        await pair.client.start_session("parent", agent="shell", prompt="; ".join(starts))
        await turn_ends(pair, "parent", 1)

        said = output(await log(pair, "parent"))
        assert [line for line in said.splitlines() if line.isdigit()] == ["0", "0", "5"]
        assert "PERMISSION_DENIED: a child's directory lies in its parent's" in said
        slugs = {found.slug async for found in pair.client.list_sessions()}
        assert slugs == {"parent", "below", "in"}
        await pair.kill_all()
