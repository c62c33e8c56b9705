"""Runs that one process of the host leaves and the next takes over; and a host without a place."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle.v1 import content_pb2, session_pb2
from bridle_core.observations import (
    Checkpoint,
    Message,
    MessageText,
    OutputStream,
    StopReason,
    Text,
    ToolEnded,
    ToolOutput,
    ToolStarted,
    ToolStatus,
    TurnOver,
)
from bridle_host.live_run import OWED
from bridle_host.run_files import RunFiles
from bridle_host.run_state import RunState
from bridle_host.sessions import Sessions
from tests.bridle_host.journal_support import until
from tests.bridle_host.sessions_support import SESSION, Host, hosting
from tests.fakes.driver import FakeDriver, FakeFactory

FAKE = "fake"


async def in_turn(host: Host, factory: FakeFactory) -> FakeDriver:
    """A session whose agent is in its first turn."""
    await host.start(environment={"MINE": "1"})
    driver = await factory.driver()
    await host.outcome(await host.send("x", input_id="i-x"))
    return driver


def kept(host: Host) -> RunState:
    ((_, _, state),) = host.journal.runs()
    return RunState.load(state)


# --- what is kept ---------------------------------------------------------------------------------


async def test_a_group_is_in_the_journal_together_with_where_its_driver_stands(
    tmp_path: Path,
) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        driver = await in_turn(host, factory)
        driver.tell_group(ToolStarted("t", "bash"), Checkpoint(b"one", 10))
        await host.event("tool_call_started")
        assert (kept(host).driver, kept(host).acknowledge) == (b"one", 10)
        assert kept(host).record.tools == ("t",)
        driver.tell_group(
            ToolOutput("t", b"caf\xc3", stream=OutputStream.STDOUT), Checkpoint(b"two", 14)
        )
        await host.event("tool_call_output")
        assert kept(host).driver == b"two"
        # The half of a character that the log has not got is not forgotten, either.
        assert kept(host).output["tails"] == [["t", "STDOUT", "c3"]]


async def test_what_an_agent_says_that_is_not_for_the_log_is_owed_up_to_a_bound(
    tmp_path: Path,
) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        driver = await in_turn(host, factory)
        driver.tell_group(Checkpoint(b"little", 10))
        driver.tell_group(MessageText("m", "y"), Checkpoint(b"more", 20))
        await until(lambda: bool(host.live))
        assert kept(host).driver == b""
        driver.tell_group(Checkpoint(b"much", 20 + OWED))
        await until(lambda: kept(host).driver == b"much")


# --- taken over -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("held")
async def test_the_next_process_of_the_host_goes_on_in_mid_turn_and_tells_nothing_twice(
    tmp_path: Path,
) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        driver = await in_turn(host, factory)
        queued = await host.send("y", input_id="i-y")
        await host.answer(queued)
        driver.tell_group(ToolStarted("t", "bash"), Checkpoint(b"one", 10))
        driver.tell_group(ToolOutput("t", b"caf\xc3"), Checkpoint(b"two", 14))
        await host.event("tool_call_output")
        assert await host.sessions.detach_all() == ["default/fix-auth"]
        # What comes now is for the next.
        driver.tell_group(ToolOutput("t", b"never"), Checkpoint(b"three", 19))
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        (live,) = host.sessions.inventory()
        assert (live.session_id, live.phase) == (SESSION, session_pb2.PHASE_RUNNING)
        assert (live.open_turn, list(live.input_ids)) == (1, ["i-y"])
        driver = await factory.driver()
        await driver.called("read_on")
        assert [call[:2] for call in driver.calls] == [("recover", b"two"), ("read_on",)]
        assert driver.context.environment["MINE"] == "1"
        driver.tell_group(ToolOutput("t", b"\xa9"), Checkpoint(b"three", 15))
        driver.tell(ToolEnded("t", ToolStatus.SUCCEEDED, 0), TurnOver(StopReason.COMPLETED, 0))
        assert await driver.called("send") == ("send", 2, "y")
        assert await host.outcome(queued) == ("RAN", "TURN_STARTED")
        await host.outcome(await host.command(command_id="k", kill=host_pb.KillRun()))
        (await host.in_order()).finish()
        events = await host.events()
        text = "".join(event.tool_call_output.text for event in events)
        assert text == "caf\u00e9"
        kinds = await host.kinds()
        assert [kinds.count(kind) for kind in ("process_started", "tool_call_started")] == [1, 1]


@pytest.mark.usefixtures("held")
async def test_an_input_of_which_only_the_name_was_kept_is_cancelled_and_never_run_empty(
    tmp_path: Path,
) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        await in_turn(host, factory)
        lost = await host.send("y", input_id="i-y")
        await host.answer(await host.send("z", input_id="i-z"))
        await host.sessions.detach_all()
    RunFiles(tmp_path / "runs", SESSION, 1).remove_inputs(["i-y"])
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        driver = await factory.driver()
        await driver.called("read_on")
        assert await host.outcome(lost) == ("NOT_RUN", "CANCELLED")
        assert (await host.event("input_cancelled")).input_id == "i-y"
        driver.tell(TurnOver(StopReason.COMPLETED))
        assert await driver.called("send") == ("send", 2, "z")


@pytest.mark.usefixtures("held")
async def test_what_was_said_is_known_to_the_next_process(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        driver = await in_turn(host, factory)
        said = Message("m", (Text("done"),))
        driver.tell_group(said, TurnOver(StopReason.COMPLETED), Checkpoint(b"one", 1))
        await host.event("turn_ended")
        before = driver.context.transcript()
        await host.sessions.detach_all()
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        driver = await factory.driver()
        await driver.called("read_on")
        assert before.text.endswith("[turn 1] somebody asked:\n| x\n[turn 1] you said:\n| done\n")
        assert driver.context.transcript() == before
        await host.outcome(await host.command(command_id="k", kill=host_pb.KillRun()))
        await until(lambda: not RunFiles(tmp_path / "runs", SESSION, 1).said.exists())


@pytest.mark.usefixtures("held")
async def test_what_comes_while_a_host_leaves_its_sessions_is_answered_by_the_next(
    tmp_path: Path,
) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        driver = await in_turn(host, factory)
        driver.tell_group(TurnOver(StopReason.COMPLETED, 0), Checkpoint(b"one", 1))
        await host.event("turn_ended")
        queued = await host.send("y", input_id="i-y")
        await host.answer(queued)
        await host.sessions.detach_all()
        # It is not over for a run that goes on, nor can what was said of it be said again.
        late = await host.send("z", input_id="i-z", session_id=SESSION)
        await host.command(command_id=queued, deliver=host_pb.DeliverInput(input_id="i-y"))
        assert [len(await host.answers(each)) for each in (queued, late)] == [1, 0]
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        again = host_pb.DeliverInput(
            input_id="i-z", content=[content_pb2.Content(text="z")], sequence=9
        )
        await host.command(command_id=late, deliver=again)
        assert await host.answer(late) == ("PENDING", "QUEUED")
        await host.outcome(await host.command(command_id="k", kill=host_pb.KillRun()))


@pytest.mark.usefixtures("held")
async def test_a_kill_reaches_a_driver_that_is_still_taking_over(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        await in_turn(host, factory)
        await host.sessions.detach_all()
    factory = FakeFactory(made=lambda driver: driver.gate.clear())
    async with hosting(tmp_path, {FAKE: factory}) as host:
        driver = await factory.driver()
        await driver.called("recover")
        killed = await host.command(command_id="k", kill=host_pb.KillRun())
        await host.answer(killed)
        driver.gate.set()
        assert await host.outcome(killed) == ("RAN", "DONE")
        assert [call[0] for call in driver.calls] == ["recover", "read_on", "kill"]


@pytest.mark.usefixtures("held")
async def test_a_driver_that_hangs_while_it_takes_over_does_not_hold_the_end_of_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridle_core.session_ends.END_WATCH", 0.05)
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        await in_turn(host, factory)
        await host.sessions.detach_all()
    factory = FakeFactory(made=lambda driver: driver.gate.clear())
    async with hosting(tmp_path, {FAKE: factory}) as host:
        driver = await factory.driver()
        await driver.called("recover")
        killed = await host.command(command_id="k", kill=host_pb.KillRun())
        assert await host.outcome(killed) == ("RAN", "DONE")


@pytest.mark.usefixtures("held")
@pytest.mark.usefixtures("held")
async def test_a_run_of_an_agent_that_this_host_has_no_driver_for_any_more_is_ended(
    tmp_path: Path,
) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        await in_turn(host, factory)
        await host.sessions.detach_all()
    async with hosting(tmp_path, {}) as host:
        ended = await host.event("session_ended")
        assert ended.reason == session_pb2.END_REASON_HOST_STOPPED
        assert ended.verified


# --- without a place ------------------------------------------------------------------------------


async def test_a_host_without_a_place_reads_no_agent_and_begins_no_turn_until_it_has_one(
    tmp_path: Path,
) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        driver = await in_turn(host, factory)
        host.sessions.place_lost()
        host.sessions.place_lost()
        driver.tell(ToolStarted("t", "bash"), TurnOver(StopReason.COMPLETED))
        queued = await host.send("y")
        assert await host.answer(queued) == ("PENDING", "QUEUED")
        assert "tool_call_started" not in await host.kinds()
        assert len(driver.calls) == 2
        host.sessions.place_held()
        assert await driver.called("send", 2) == ("send", 2, "y")
        assert await host.outcome(queued) == ("RAN", "TURN_STARTED")
        await host.in_order()


async def test_a_host_that_stays_without_a_place_interrupts_and_stops_what_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridle_core.session.PARK_SECONDS", 0.05)
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        driver = await in_turn(host, factory)
        host.sessions.place_lost()
        await driver.called("interrupt")
        ended = await host.event("session_ended")
        assert ended.phase == session_pb2.PHASE_STOPPED
        turn = await host.event("turn_ended")
        assert turn.stop_reason
        (await host.in_order()).finish()


# --- the end of the host --------------------------------------------------------------------------


async def test_a_second_word_leaves_no_grace_to_what_does_not_stop(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        driver = await in_turn(host, factory)
        at_once = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            driver.plays = False
            stopping = group.create_task(stop(host.sessions, at_once))
            await driver.called("interrupt")
            driver.plays = True
            at_once.set()
            await driver.called("kill")
        assert stopping.done()
        assert (await host.event("session_ended")).phase == session_pb2.PHASE_KILLED


async def stop(sessions: Sessions, at_once: asyncio.Event) -> None:
    await sessions.stop_all(session_pb2.END_REASON_HOST_STOPPED, 3600.0, at_once)
