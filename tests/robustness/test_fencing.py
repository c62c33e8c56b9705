"""One owner for each session: hosts that come back, are replaced, have twins, or are removed.

Real processes with real agents, each case with a pair of its own; all at once, since most of the
time is spent waiting for the times that are promised.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from bridle.v1 import event_pb2, host_pb2, session_pb2
from tests.pair import Pair, running_pair, until
from tests.robustness.fault_proxy import fault_proxy
from tests.scenarios.other_host import OtherHost, joined, other_host
from tests.scenarios.support import RAN, bearing, check_order, kinds, log, reaches, turn_ends
from tests.support.pace import paced

#: Seconds in which a host that came back has ended what is no longer its own.
ENDED = 5.0


async def copied(pair: Pair, other: OtherHost) -> None:
    """Gives it the identity of the pair's host."""
    other.state.mkdir(mode=0o700)
    await asyncio.to_thread(shutil.copy, pair.home / "host" / "credential", other.state)


async def says(path: Path, line: str, count: int = 1) -> None:
    async def is_there() -> bool:
        return (await asyncio.to_thread(path.read_text)).count(line) >= count

    await until(is_there, line)


async def working(pair: Pair, slug: str, mark: str) -> None:
    """A session in whose turn a process runs that bears the mark."""
    await pair.client.start_session(slug, agent="shell", prompt=f"sleep 1000.{mark}")
    await reaches(pair, slug, session_pb2.PHASE_RUNNING)

    async def runs() -> bool:
        return bool(await asyncio.to_thread(bearing, f"sleep 1000.{mark}"))

    await until(runs, "the agent's process runs")


async def gone(mark: str) -> None:
    async def is_gone() -> bool:
        return not await asyncio.to_thread(bearing, f"sleep 1000.{mark}")

    await until(is_gone, "the stale run's processes are gone")


async def unreachable(pair: Pair, slug: str) -> None:
    async def is_so() -> bool:
        told = (await pair.client.get_session(slug)).reachability
        return told == session_pb2.REACHABILITY_UNREACHABLE

    await until(is_so, "control notices")


def ends(events: list[event_pb2.Event]) -> list[tuple[int, str, bool]]:
    """(run, reason, verified) of each end of a run."""
    return [
        (
            event.run,
            session_pb2.EndReason.Name(event.session_ended.reason).removeprefix("END_REASON_"),
            event.session_ended.verified,
        )
        for event in events
        if event.WhichOneof("kind") == "session_ended"
    ]


# ---------------------------------------------------------------- the cases


async def moved(pair: Pair) -> None:
    """Resume on another host while the first is away, and the first coming back."""
    async with other_host(pair, "other") as other:
        await joined(pair, other, "there")
        await pair.client.start_session("x", agent="shell", host="here")
        await working_on(pair, "x", "7101")
        assert pair.host is not None
        pair.host.send_signal(signal.SIGSTOP)
        await unreachable(pair, "x")
        refused = await pair.cli("session", "resume", "x", "--host", "there")
        assert (refused.code, "--force" in refused.err) == (7, True), refused
        resumed = await pair.cli("session", "resume", "x", "--host", "there", "--force")
        assert (resumed.code, resumed.out) == (0, "resumed\n"), resumed
        await reaches(pair, "x", session_pb2.PHASE_IDLE)
        before = await log(pair, "x")
        assert ends(before) == [(1, "HOST_ABANDONED", False)]
        pair.host.send_signal(signal.SIGCONT)
        async with asyncio.timeout(paced(ENDED)):
            await gone("7101")
        await says(pair.log("host"), "link is up", 2)
        sent = await pair.client.send("x", "echo on")
        done = await pair.client.wait(sent.receipt)
        await turn_ends(pair, "x", done.outcome.turn)
        events = await log(pair, "x")
        assert {event.run for event in events[len(before) :]} <= {0, 2}
        assert ends(events) == [(1, "HOST_ABANDONED", False)]
        check_order(events)
        await pair.kill_all()


async def working_on(pair: Pair, slug: str, mark: str) -> None:
    await reaches(pair, slug, session_pb2.PHASE_IDLE)
    await pair.client.send(slug, f"sleep 1000.{mark}")
    await reaches(pair, slug, session_pb2.PHASE_RUNNING)

    async def runs() -> bool:
        return bool(await asyncio.to_thread(bearing, f"sleep 1000.{mark}"))

    await until(runs, "the agent's process runs")


async def twins(pair: Pair) -> None:
    """A frozen host is replaced by a twin, thaws, and there is a third one."""
    await working(pair, "x", "7202")
    async with other_host(pair, "twin") as twin, other_host(pair, "third") as third:
        await copied(pair, twin)
        await copied(pair, third)
        assert pair.host is not None
        pair.host.send_signal(signal.SIGSTOP)
        await twin.start("here")
        first = await here(pair)
        pair.host.send_signal(signal.SIGCONT)
        await says(pair.log("host"), "another process is connected as this host")
        await third.start("here", ready=False)
        await says(third.log, "another process is connected as this host")
        told = await pair.cli("hosts")
        assert "twin" in told.out
        assert "another process with its identity was turned away" in told.err
        now = await here(pair)
        assert (now.epoch, now.state) == (first.epoch, host_pb2.HOST_STATE_CONNECTED)
        # What the fenced one still had to say is stored nowhere; the twin never had the session.
        await reaches(pair, "x", session_pb2.PHASE_FAILED)
        events = await log(pair, "x")
        assert ends(events) == [(1, "HOST_STATE_LOST", False)]
        assert kinds(events)[-1] == "session_ended"
        check_order(events)
        # The twin goes; the first has its place again with its next dial, and its run is stale.
        await third.end()
        await twin.end()
        await says(pair.log("host"), "link is up", 2)
        await gone("7202")
        assert len(await log(pair, "x")) == len(events)
        assert (await here(pair)).epoch == first.epoch + 1


async def here(pair: Pair) -> host_pb2.Host:
    (found,) = [host async for host in pair.client.list_hosts()]
    return found


async def resets(pair: Pair) -> None:
    """A host whose connections break again and again never takes itself for another one."""
    assert pair.host is not None
    await pair.end_host()
    async with fault_proxy(pair.address, seed=3) as proxy:
        pair.host_arguments = ("--control", proxy.address)
        await pair.start_host()
        await pair.client.start_session("x", agent="shell")
        proxy.latency(0.03, jitter=0.03)
        for count in range(2, 12):
            proxy.reset_now()
            await says(pair.log("host"), "link is up", count)
        proxy.heal()
        sent = await pair.client.send("x", "echo on")
        await turn_ends(pair, "x", (await pair.client.wait(sent.receipt)).outcome.turn)
        text = await asyncio.to_thread(pair.log("host").read_text)
        assert "another process" not in text
        await pair.kill_all()


async def removed(pair: Pair) -> None:
    """A host that is removed by force gives up its sessions, and ends what it runs."""
    await working(pair, "x", "7303")
    refused = await pair.cli("host", "remove", "here")
    assert (refused.code, "--force" in refused.err) == (7, True), refused
    done = await pair.cli("host", "remove", "here", "--force")
    assert (done.code, done.out) == (0, "removed\n"), done
    events = await log(pair, "x")
    assert ends(events) == [(1, "HOST_ABANDONED", False)]
    check_order(events)
    await gone("7303")
    assert pair.host is not None
    assert await pair.host.wait() == 1


async def set_back(pair: Pair) -> None:
    """A host whose journal is an old copy of itself: what it says under taken numbers is not lost
    in others', and what control had before is not told twice."""
    ledger = pair.work / "ledger"
    await pair.client.start_session("x", agent="shell", prompt=f"echo 0 >> {ledger}")
    await turn_ends(pair, "x", 1)
    await pair.end_host(signal.SIGKILL)
    kept = pair.home / "kept"
    await asyncio.to_thread(_copy_journal, pair.home / "host", kept)
    await pair.start_host()
    for number in range(1, 6):
        await once_more(pair, "x", f"echo {number} >> {ledger}")
    await pair.end_host(signal.SIGKILL)
    await asyncio.to_thread(_copy_journal, kept, pair.home / "host")
    await pair.start_host()
    await says(pair.log("control"), "a host's journal is lost")
    await once_more(pair, "x", f"echo 6 >> {ledger}")
    events = await log(pair, "x")
    check_order(events)
    # Each turn is told once, whatever became of its run.
    begun = [event.turn for event in events if event.WhichOneof("kind") == "turn_started"]
    assert begun == sorted(set(begun))
    lines = (await asyncio.to_thread(ledger.read_text)).split()
    assert lines == [str(number) for number in range(7)]
    await pair.kill_all()


def _copy_journal(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for old in target.glob("journal*"):
        old.unlink()
    for file in source.glob("journal*"):
        shutil.copy(file, target)


async def once_more(pair: Pair, slug: str, line: str) -> None:
    """One turn; in the next run, if the one before has ended with its host service."""
    sent = await pair.client.send(slug, line, resume_if_ended=True)

    async def has_run() -> bool:
        receipt = await pair.client.get_command(sent.receipt.command_id)
        if receipt.outcome.state == RAN:
            await turn_ends(pair, slug, receipt.outcome.turn)
            return True
        if (await pair.client.get_session(slug)).phase == session_pb2.PHASE_FAILED:
            # It was on its way as the run's end came: kept for the next one.
            await pair.client.resume(slug)
        return False

    await until(has_run, f"{line} has run")


CASES: dict[str, Callable[[Pair], Awaitable[None]]] = {
    "moved": moved,
    "twins": twins,
    "resets": resets,
    "removed": removed,
    "set_back": set_back,
}


@pytest.mark.timeout(400)
async def test_a_session_has_one_owner_whoever_comes_back_is_replaced_has_a_twin_or_is_removed(
    tmp_path: Path,
) -> None:
    async def run(name: str) -> None:
        (tmp_path / name).mkdir()
        async with running_pair(tmp_path / name) as pair:
            await CASES[name](pair)

    async with asyncio.TaskGroup() as group:
        for name in CASES:
            group.create_task(run(name), name=f"case-{name}")
