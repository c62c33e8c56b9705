"""A full disk and a disk that fails, on either side, under the real pair."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from bridle.errors import BridleError, Code
from bridle.ids import uuid7
from bridle.v1 import event_pb2, session_pb2
from bridle_host.journal import CAP_BYTES, RESERVE_BYTES
from bridle_host.journal_file import LOG_BYTES
from tests.pair import PATIENCE, Pair, running_pair
from tests.robustness.disks import Filler, small_disk
from tests.robustness.store_runs import strace
from tests.scenarios.support import RAN, check_order, log, output, reaches
from tests.support.driving import eventually
from tests.support.pace import paced

#: Lines of an agent, numbered: what is lost or repeated shows.
COUNT = "for ((i = 1; i <= 100000; i++)); do echo $i; sleep 0.01; done"
#: Much more than a disk holds.
FLOOD = "for ((i = 1; ; i++)); do echo $i {0..600}; done".replace("{0..600}", "x" * 2000)


async def reason_of_send(pair: Pair, slug: str, text: str) -> str:
    """ "" where it was taken."""
    try:
        await pair.client.send(slug, text)
    except BridleError as error:
        return error.reason
    return ""


def played(ledger: Path) -> list[str]:
    return ledger.read_text().split() if ledger.exists() else []


async def interrupt(pair: Pair, slug: str) -> None:
    asked = await pair.client.interrupt(slug)
    async with asyncio.timeout(PATIENCE):
        receipt = await pair.client.wait(asked.receipt)
    assert receipt.outcome.state == RAN


async def test_control_on_a_full_disk_still_interrupts_stops_kills_and_reads(
    tmp_path: Path,
) -> None:
    ledger = tmp_path / "ledger"
    with small_disk(tmp_path / "disk", 12) as disk:
        (disk / "control").mkdir()
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "control").symlink_to(disk / "control")
        filler = Filler(disk)
        async with running_pair(tmp_path) as pair:
            for slug in ("talker", "stopped", "killed", "doer"):
                await pair.client.start_session(slug, agent="shell")
            await pair.client.send("talker", COUNT)
            await reaches(pair, "talker", session_pb2.PHASE_RUNNING)
            taken, refused = 0, 0
            filler.fill()
            async with asyncio.timeout(PATIENCE):
                while refused < 3:
                    reason = await reason_of_send(pair, "doer", f"echo {taken} >> {ledger}")
                    assert reason in ("", "STORE_FULL")
                    taken, refused = taken + (not reason), refused + bool(reason)
            filler.fill()
            # What was said is committed, what is said is, and what is urgent works.
            began = time.monotonic()
            await interrupt(pair, "talker")
            assert (await pair.client.stop("stopped")).receipt.command_id
            await reaches(pair, "stopped", session_pb2.PHASE_STOPPED)
            await pair.client.kill("killed")
            await reaches(pair, "killed", session_pb2.PHASE_KILLED)
            print(f"interrupt, stop and kill on a full disk: {time.monotonic() - began:.2f} s")
            assert await reason_of_send(pair, "doer", "true") == "STORE_FULL"
            events = await log(pair, "talker")
            check_order(events)
            lines = output(events).split()
            assert lines == [str(number) for number in range(1, len(lines) + 1)]
            # And again after a start on the full disk.
            await pair.restart_control()
            assert await reason_of_send(pair, "doer", "true") == "STORE_FULL"
            assert len(await log(pair, "talker")) >= len(events)

            filler.remove()
            began = time.monotonic()
            async with asyncio.timeout(PATIENCE):
                while await reason_of_send(pair, "doer", f"echo {taken} >> {ledger}"):
                    continue
            recovered = time.monotonic() - began
            print(f"normal {recovered:.2f} s after there was room")
            assert recovered <= paced(5.0)
            await eventually(lambda: len(played(ledger)) > taken)
            # Those that were taken ran once, those that were refused never.
            assert played(ledger) == [str(number) for number in range(taken + 1)]


async def test_an_agent_that_floods_a_full_control_waits_and_can_be_interrupted(
    tmp_path: Path,
) -> None:
    # Its reserve, an eighth, holds more than what control has taken from the host and not written
    # (8 MiB at the most): that stands before the end of the turn, and is written with it.
    with small_disk(tmp_path / "disk", 96) as disk:
        (disk / "control").mkdir()
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "control").symlink_to(disk / "control")
        # A turn may print as much as it likes, or it would be kept to less than the disk holds.
        async with running_pair(tmp_path, host_arguments=["--output-cap", "0"]) as pair:
            await pair.client.start_session("flood", agent="shell")
            await pair.client.start_session("other", agent="shell")
            await pair.client.send("flood", FLOOD)
            # It fills the disk by itself.
            async with asyncio.timeout(PATIENCE):
                while not await reason_of_send(pair, "other", "true"):
                    continue
                # It is read no more, and what waits for control's disk stays little.
                journal = pair.home / "host"
                before, now = -1, bytes_of(journal, "journal")
                while now != before:
                    await asyncio.sleep(0.7)
                    before, now = now, bytes_of(journal, "journal")
            # Its write-ahead log, and what is in it; without pressure it would be its cap.
            assert now < 3 * LOG_BYTES < CAP_BYTES / 4
            await interrupt(pair, "flood")
            await pair.client.kill("flood")
            await reaches(pair, "flood", session_pb2.PHASE_KILLED)
            # Control never hung up on its host for it.
            assert "link ended" not in pair.log("control").read_text()


def bytes_of(directory: Path, prefix: str) -> int:
    """The size of the files there that begin so, but for the reserve."""
    found = [path for path in directory.iterdir() if path.name.startswith(prefix)]
    return sum(path.stat().st_size for path in found if not path.name.endswith(".reserve"))


async def test_a_host_on_a_full_disk_reads_no_agent_and_loses_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 32) as disk:
        (disk / "host").mkdir(mode=0o700)
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "host").symlink_to(disk / "host")
        filler = Filler(disk)
        async with running_pair(tmp_path) as pair:
            await pair.client.start_session("talker", agent="shell", prompt=COUNT)
            await pair.client.start_session("other", agent="shell")
            await reaches(pair, "talker", session_pb2.PHASE_RUNNING)
            # The log in use has room within itself for a while.
            await until_held_up(pair, "talker", filler)
            killed = await pair.client.kill("other")
            await pair.client.wait(killed.receipt)
            # (The host has answered: it did not only stand still. What the kill made room for may
            # have let the agent go on.)
            await until_held_up(pair, "talker", filler)
            quiet = len(await log(pair, "talker"))
            filler.remove()
            began = time.monotonic()
            async with asyncio.timeout(PATIENCE):
                while len(await log(pair, "talker")) <= quiet + 10:
                    continue
            recovered = time.monotonic() - began
            print(f"normal {recovered:.2f} s after there was room")
            assert recovered <= paced(5.0)
            await interrupt(pair, "talker")
            events = await log(pair, "talker")
            check_order(events)
            lines = output(events).split()
            assert lines == [str(number) for number in range(1, len(lines) + 1)]
            told = [event.diagnostic.kind for event in events if event.HasField("diagnostic")]
            assert event_pb2.DIAGNOSTIC_KIND_BACKPRESSURE in told


async def test_an_input_that_comes_while_a_hosts_disk_is_full_outlives_the_host_service(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path / "disk", 32) as disk:
        (disk / "host").mkdir(mode=0o700)
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "host").symlink_to(disk / "host")
        filler = Filler(disk)
        async with running_pair(tmp_path) as pair:
            gate = tmp_path / "gate"
            await pair.client.start_session("x", agent="shell")
            await pair.client.send("x", f"until test -e {gate}; do sleep 0.1; done")
            await reaches(pair, "x", session_pb2.PHASE_RUNNING)
            filler.fill()
            asked = [pair.client.send("x", f"echo input {number}") for number in range(3)]
            sent = await asyncio.gather(*asked)
            await pair.end_host(signal.SIGKILL)
            filler.remove()
            await pair.start_host()
            gate.touch()
            for each in sent:
                async with asyncio.timeout(PATIENCE):
                    receipt = await pair.client.wait(each.receipt)
                assert receipt.outcome.state == RAN
            await reaches(pair, "x", session_pb2.PHASE_IDLE)
            events = await log(pair, "x")
            check_order(events)
            assert sorted(output(events).splitlines()) == ["input 0", "input 1", "input 2"]
            await pair.kill_all()


async def until_held_up(pair: Pair, slug: str, filler: Filler) -> None:
    """Fills the disk until its host reads the agent no more."""
    async with asyncio.timeout(PATIENCE):
        while not await is_held_up(pair, slug):
            filler.fill()


async def is_held_up(pair: Pair, slug: str) -> bool:
    """Whether nothing came for a second and a half, with an agent that says something all along,
    while its host had no room on its disk and so had given up of what it holds in reserve."""
    reserve = pair.home / "host" / "journal.reserve"
    if reserve.exists() and reserve.stat().st_size >= RESERVE_BYTES:
        return False
    before = (await pair.client.get_session(slug)).last_sequence
    await asyncio.sleep(1.5)
    return (await pair.client.get_session(slug)).last_sequence == before


# ---------------------------------------------------------------- a disk that fails

#: What fails; writes fail like syncs, and take as long to try.
CALLS = ["fdatasync", "pwrite64"] if "BRIDLE_TEST_LONG" in os.environ else ["fdatasync"]


@asynccontextmanager
async def failing(process: Process, call: str, file: Path, trace: Path) -> AsyncIterator[None]:
    """Every `call` of a process on a file fails with EIO meanwhile."""
    tracer = await asyncio.create_subprocess_exec(
        *strace("-p", str(process.pid), "-P", str(file), "-e", f"trace={call}", log=trace),
        *("-e", f"inject={call}:error=EIO"),
        stderr=PIPE,
    )
    try:
        assert tracer.stderr is not None
        async with asyncio.timeout(PATIENCE):
            assert b"attached" in await tracer.stderr.readline()
        yield
    finally:
        if tracer.returncode is None:
            with suppress(ProcessLookupError):
                tracer.terminate()
        await tracer.communicate()


async def ends(process: Process, log: Path, word: str) -> None:
    """The process ends by itself with 1, and says last, in one line, why."""
    async with asyncio.timeout(PATIENCE):
        assert await process.wait() == 1
    check_last_line(log, word)


def check_last_line(log: Path, word: str) -> None:
    lines = log.read_text().splitlines()
    assert word in lines[-1]
    assert sum(word in line for line in lines) == 1
    assert not [line for line in lines if "Traceback" in line]


@pytest.mark.parametrize("call", CALLS)
async def test_control_ends_when_its_disk_fails_and_has_acknowledged_nothing_that_is_lost(
    tmp_path: Path, call: str
) -> None:
    ledger = tmp_path / "ledger"
    async with running_pair(tmp_path) as pair:
        await pair.client.start_session("doer", agent="shell")
        await pair.client.send("doer", f"echo before >> {ledger}")
        await eventually(lambda: played(ledger) == ["before"])
        file = pair.home / "control" / "bridle.sqlite3-wal"
        request_id = uuid7()
        assert pair.control is not None
        async with failing(pair.control, call, file, tmp_path / "trace"):
            with pytest.raises(BridleError) as lost:
                await pair.client.send(
                    "doer", f"echo after >> {ledger}", request_id=request_id, timeout=3.0
                )
            assert lost.value.code in (Code.UNAVAILABLE, Code.INTERNAL, Code.DEADLINE_EXCEEDED)
            await ends(pair.control, pair.log("control"), "store_failed")
        await pair.end_control()
        # Nothing was tried again.
        assert (tmp_path / "trace").read_text().count("INJECTED") == 1
        await pair.start_control()
        await pair.client.send("doer", f"echo after >> {ledger}", request_id=request_id)
        await eventually(lambda: played(ledger) == ["before", "after"])


async def test_control_ends_when_a_checkpoint_fails(tmp_path: Path) -> None:
    async with running_pair(tmp_path, host=False) as pair:
        await pair.client.create_workspace("team")
        assert pair.control is not None
        file = pair.home / "control" / "bridle.sqlite3"
        async with failing(pair.control, "fdatasync", file, tmp_path / "trace"):
            pair.control.send_signal(signal.SIGTERM)
            await ends(pair.control, pair.log("control"), "store_failed")
        await pair.end_control()
        await pair.start_control()
        assert "team" in {found.name async for found in pair.client.list_workspaces()}


@pytest.mark.parametrize("call", CALLS)
async def test_a_host_ends_when_its_disk_fails(tmp_path: Path, call: str) -> None:
    ledger = tmp_path / "ledger"
    async with running_pair(tmp_path) as pair:
        await pair.client.start_session("doer", agent="shell")
        await pair.client.send("doer", f"echo before >> {ledger}")
        await eventually(lambda: played(ledger) == ["before"])
        assert pair.host is not None
        file = pair.home / "host" / "journal-wal"
        async with failing(pair.host, call, file, tmp_path / "trace"):
            await pair.client.send("doer", f"echo after >> {ledger}")
            await ends(pair.host, pair.log("host"), "the journal failed")
        await pair.end_host()
        assert (tmp_path / "trace").read_text().count("INJECTED") == 1
        # The input is told of in the one way or the other, and was never played twice.
        await pair.start_host()
        await pair.kill_all()
        check_order(await log(pair, "doer"))
        assert played(ledger) in (["before"], ["before", "after"])
