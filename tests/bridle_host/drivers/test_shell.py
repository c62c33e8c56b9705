"""The shell driver: what a turn is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridle_core.observations import OutputStream, StopReason
from bridle_host.drivers.shell import ShellFactory
from tests.bridle_host.drivers.driving import Drive, driving


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Drive]:
    async with driving(ShellFactory(), tmp_path) as drive:
        await drive.start()
        yield drive


async def test_a_turn_runs_its_script_and_tells_what_it_printed_and_its_status(
    shell: Drive,
) -> None:
    after = await shell.begin("echo out; echo err >&2; exit_with() { return 3; }; exit_with")
    over = await shell.over(after)
    assert (over.stop_reason, over.exit_code) == (StopReason.COMPLETED, 3)
    assert shell.output(after, OutputStream.STDOUT) == b"out\n"
    assert shell.output(after, OutputStream.STDERR) == b"err\n"


async def test_an_interrupt_ends_a_sleep_and_bash_stays(shell: Drive) -> None:
    await shell.turn("set_before=kept")
    after = await shell.begin("sleep 60; echo never")
    over = await shell.interrupt(after)
    assert over.stop_reason is StopReason.INTERRUPTED
    after = await shell.begin("echo $? $set_before")
    await shell.over(after)
    assert shell.output(after) == b"130 kept\n"
