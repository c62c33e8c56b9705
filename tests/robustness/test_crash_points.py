"""Control and the host, killed at every named point: nothing acknowledged is lost or repeated."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import time
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from bridle.errors import ConnectionLostError
from bridle.ids import uuid7
from bridle_control import crash_points as control_points
from bridle_host import crash_points as host_points
from tests.bridle_host.journal_support import opened, output, records
from tests.pair import PATIENCE, Pair, running_pair, until
from tests.robustness.store_runs import ROOT, check_whole, environment, make, run, strace
from tests.scenarios.support import check_order, log
from tests.scenarios.support import output as output_of
from tests.support.driving import eventually
from tests.support.pace import paced


@pytest.mark.parametrize(
    ("package", "points"),
    [("bridle_control", control_points.POINTS), ("bridle_host", host_points.POINTS)],
)
def test_every_point_that_is_named_is_in_the_code_once_and_no_other(
    package: str, points: tuple[str, ...]
) -> None:
    found: list[str] = []
    for path in (ROOT / "services" / package).rglob("*.py"):
        found += re.findall(r'reached\("([a-z.-]+)"\)', path.read_text("utf-8"))
    assert sorted(found) == sorted(points)


STORE_POINTS = [point for point in control_points.POINTS if point.startswith("store.")]


@pytest.mark.parametrize("point", STORE_POINTS)
async def test_a_store_that_is_killed_at_any_point_has_all_that_it_acknowledged_once(
    tmp_path: Path, point: str
) -> None:
    store = tmp_path / "store"
    await make(store)
    # One time early in its life, one time later, when floors and checkpoints have come to pass.
    heads = [0]
    for visit in (1, 3):
        done = await run(store, "--checkpoint-bytes", "200000", crash_at=f"{point}:{visit}")
        assert done.code == -signal.SIGKILL, done.err
        assert not done.closed
        heads.append(await check_whole(store, done))
    assert heads[2] > heads[1]


@pytest.mark.parametrize("write", [1, 2, 7])
async def test_a_store_that_is_killed_inside_a_checkpoint_has_all_that_it_acknowledged(
    tmp_path: Path, write: int
) -> None:
    store = tmp_path / "store"
    await make(store)
    # The file itself is written by checkpoints alone.
    kill = ["-P", str(store / "bridle.sqlite3"), "-e", "trace=pwrite64"]
    kill += ["-e", f"inject=pwrite64:signal=SIGKILL:when={write}"]
    around = strace(*kill, log=tmp_path / "trace")
    done = await run(store, "--checkpoint-bytes", "400000", around=around)
    assert "SIGKILL" in (tmp_path / "trace").read_text()
    assert done.acknowledged
    assert not done.closed
    await check_whole(store, done)


# ---------------------------------------------------------------- the host's journal

JOURNAL_POINTS = [point for point in host_points.POINTS if point.startswith("journal.")]


@pytest.mark.parametrize("point", JOURNAL_POINTS)
async def test_a_journal_that_is_killed_at_any_point_has_all_that_was_durable_once(
    tmp_path: Path, point: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("journal_process.py")),
        str(tmp_path),
        env=environment(f"{point}:3"),
        stdout=PIPE,
    )
    async with asyncio.timeout(30):
        out, _ = await process.communicate()
    assert process.returncode == -signal.SIGKILL
    told = [line.split()[1:] for line in out.decode().split("\n")[:-1]]
    async with opened(tmp_path) as journal:
        found = {record.journal_sequence: record for record in await records(journal)}
        assert sorted(found) == list(range(journal.acknowledged + 1, journal.last_sequence + 1))
        # What control was told of may be forgotten, nothing else.
        assert journal.acknowledged <= max((int(each[2]) for each in told), default=0) + 60
        for last, name, _ in told:
            assert journal.answers(name)
            if int(last) > journal.acknowledged:
                assert found[int(last)].command.command_id == name
        assert journal.last_sequence >= max((int(each[0]) for each in told), default=0)
        assert await journal.append([output()]) == journal.last_sequence


# ---------------------------------------------------------------- the pair

#: Lines of an agent, numbered: what is lost or repeated shows.
COUNT = "for ((i = 1; i <= {lines}; i++)); do echo $i; sleep 0.01; done"
#: On an event's way through control. The number is how often it is passed before.
FLOW = {
    "links.before-commit": 12,
    "store.before-commit": 25,
    "store.after-commit": 25,
    "store.before-fan-out": 25,
    "links.after-commit": 12,
    "links.after-ack": 6,
}


async def test_control_that_dies_anywhere_on_an_events_way_loses_and_repeats_nothing(
    tmp_path: Path,
) -> None:
    ledger = tmp_path / "ledger"
    async with running_pair(tmp_path) as pair, asyncio.TaskGroup() as tasks:
        await pair.client.start_session("doer", agent="shell")
        await pair.client.start_session("counter", agent="shell", prompt=COUNT.format(lines=9000))
        seen: list[int] = []
        watcher = tasks.create_task(follow(pair, "counter", seen))
        slowest = 0.0
        for number, (point, passes) in enumerate(FLOW.items()):
            pair.control_environment = {control_points.VARIABLE: f"{point}:{passes}"}
            await pair.restart_control()
            # Asked while it dies, and again with the same request id.
            sent = tasks.create_task(send_once(pair, "doer", f"echo {number} >> {ledger}"))
            assert pair.control is not None
            async with asyncio.timeout(PATIENCE):
                assert await pair.control.wait() == -signal.SIGKILL, point
            await pair.end_control()
            pair.control_environment = {}
            began = time.monotonic()
            await pair.start_control()
            slowest = max(slowest, time.monotonic() - began)
            await sent
        await eventually(lambda: len(played(ledger)) >= len(FLOW))
        killed = await pair.client.kill("counter")
        await pair.client.wait(killed.receipt)
        await watcher
        events = await log(pair, "counter")
        check_order(events)
        assert seen == [event.sequence for event in events]
        lines = output_of(events).split()
        assert lines == [str(number) for number in range(1, len(lines) + 1)]
        assert len(lines) > 100
        assert played(ledger) == [str(number) for number in range(len(FLOW))]
        print(f"slowest restart to serving: {slowest:.2f} s")
        assert slowest <= paced(3.0)


async def follow(pair: Pair, slug: str, seen: list[int]) -> None:
    seen.extend([event.sequence async for event in pair.client.watch(slug)])


async def send_once(pair: Pair, slug: str, text: str) -> None:
    request_id = uuid7()
    for _ in range(5):
        try:
            await pair.client.send(slug, text, request_id=request_id)
        except ConnectionLostError:
            continue  # (the client has asked five times, and waited in between)
        return
    raise AssertionError("control did not come back")


def played(ledger: Path) -> list[str]:
    return ledger.read_text().split() if ledger.exists() else []


async def test_control_that_dies_in_the_checkpoint_of_its_end_starts_again_whole(
    tmp_path: Path,
) -> None:
    async with running_pair(tmp_path, host=False) as pair:
        for point in ("store.before-checkpoint", "store.in-checkpoint", "store.after-checkpoint"):
            pair.control_environment = {control_points.VARIABLE: point}
            await pair.restart_control()
            await pair.client.create_workspace(point.removeprefix("store."))
            assert pair.control is not None
            pair.control.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE):
                assert await pair.control.wait() == -signal.SIGKILL
            await pair.end_control()
        pair.control_environment = {}
        await pair.start_control()
        names = {found.name async for found in pair.client.list_workspaces()}
        assert {"before-checkpoint", "in-checkpoint", "after-checkpoint"} <= names


@pytest.mark.parametrize(
    "point", ["journal.after-commit:30", "link.after-send:12", "link.after-ack:4"]
)
async def test_a_host_that_dies_anywhere_on_an_events_way_repeats_nothing(
    tmp_path: Path, point: str
) -> None:
    dying = {host_points.VARIABLE: point}
    async with running_pair(tmp_path, host_environment=dying) as pair:
        await pair.client.start_session("counter", agent="shell", prompt=COUNT.format(lines=9000))
        assert pair.host is not None
        async with asyncio.timeout(PATIENCE):
            assert await pair.host.wait() == -signal.SIGKILL
        await pair.end_host()
        pair.host_environment = {}
        await pair.start_host()

        async def counts() -> bool:
            return bool(output_of(await log(pair, "counter")))

        await until(counts, "the agent goes on")  # (It may have died before the first line.)
        await pair.kill_all()
        events = await log(pair, "counter")
        check_order(events)
        assert events[-1].WhichOneof("kind") == "session_ended"
        lines = output_of(events).split()
        assert lines == [str(number) for number in range(1, len(lines) + 1)]
