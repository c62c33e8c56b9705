"""Inputs that come while the host's disk has no room: they wait, and are lost to nobody."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

import pytest

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle.v1 import session_pb2
from bridle_core.observations import Content, StopReason, TurnOver
from bridle_host.run_files import RunFiles
from tests.bridle_host.journal_support import until
from tests.bridle_host.sessions_support import SESSION, Host, hosting
from tests.fakes.driver import FakeDriver, FakeFactory

FAKE = "fake"


class Disk:
    """Where inputs are kept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        self.refused: list[str] = []
        write = RunFiles.write_input

        def write_input(files: RunFiles, input_id: str, content: Sequence[Content]) -> None:
            if self.full:
                self.refused.append(input_id)
                raise OSError(errno.ENOSPC, "no space left on device")
            write(files, input_id, content)

        monkeypatch.setattr(RunFiles, "write_input", write_input)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


async def in_turn(host: Host, factory: FakeFactory) -> FakeDriver:
    """A session whose agent is in its first turn."""
    await host.start()
    driver = await factory.driver()
    await host.outcome(await host.send("x", input_id="i-x"))
    return driver


async def test_an_input_without_room_waits_unanswered_and_runs_once_there_is_some(
    tmp_path: Path, disk: Disk
) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        driver = await in_turn(host, factory)
        disk.full = True
        first = await host.send("y", input_id="i-y")
        second = await host.send("z", input_id="i-z")
        await until(lambda: len(disk.refused) >= 3)  # (it is tried again)
        assert not await host.answers(first)
        # What needs no room goes ahead.
        released = await host.command(release=host_pb.ReleaseQueue())
        assert (await host.outcome(released))[0] == "RAN"
        assert not await host.answers(first)
        disk.full = False
        assert await host.answer(first) == ("PENDING", "QUEUED")
        assert await host.answer(second) == ("PENDING", "QUEUED")
        files = RunFiles(tmp_path / "runs", SESSION, 1)
        assert sorted(files.read_inputs()) == ["i-y", "i-z"]
        driver.tell(TurnOver(StopReason.COMPLETED))
        assert await driver.called("send", 2) == ("send", 2, "y")


@pytest.mark.usefixtures("held")
async def test_an_input_without_room_is_not_answered_so_that_the_next_process_is_given_it(
    tmp_path: Path, disk: Disk
) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        await in_turn(host, factory)
        disk.full = True
        lost = await host.send("y", input_id="i-y")
        await until(lambda: bool(disk.refused))
        await host.sessions.detach_all()
        assert not await host.answers(lost)
    disk.full = False
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        driver = await factory.driver()
        await driver.called("read_on")
        again = await host.send("y", input_id="i-y")
        assert await host.answer(again) == ("PENDING", "QUEUED")
        driver.tell(TurnOver(StopReason.COMPLETED))
        assert await driver.called("send") == ("send", 2, "y")
        assert "input_cancelled" not in await host.kinds()


async def test_a_kill_does_not_wait_for_an_input_that_has_no_room(
    tmp_path: Path, disk: Disk
) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        await in_turn(host, factory)
        disk.full = True
        waits = await host.send("y")
        await until(lambda: bool(disk.refused))
        assert await host.outcome(await host.kill()) == ("RAN", "DONE")
        assert await host.outcome(waits) == ("NOT_RUN", "SESSION_ENDED")


async def test_an_interrupt_takes_along_what_was_sent_before_it(tmp_path: Path, disk: Disk) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        await in_turn(host, factory)
        disk.full = True
        dropped = await host.send("y", input_id="i-y")
        await until(lambda: bool(disk.refused))
        await host.interrupt(after=session_pb2.AFTER_INTERRUPT_DROP)
        later = await host.send("z", input_id="i-z")
        assert await host.outcome(dropped) == ("NOT_RUN", "CANCELLED")
        assert not await host.answers(later)


async def test_an_input_whose_time_is_over_needs_no_room(tmp_path: Path, disk: Disk) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        await in_turn(host, factory)
        disk.full = True
        late = await host.send("y")
        await until(lambda: bool(disk.refused))
        host.sessions.withdraw(late)
        assert await host.outcome(late) == ("NOT_RUN", "EXPIRED")
