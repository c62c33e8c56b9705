"""The session actors and their manager: a driver that the test plays, a journal that is real."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle.v1 import event_pb2, input_pb2, session_pb2
from bridle_core.observations import (
    ApprovalAsked,
    Capability,
    KeepState,
    Message,
    MessageText,
    ProcessGone,
    ProcessUp,
    ResumeMode,
    StopReason,
    Text,
    ToolEnded,
    ToolOutput,
    ToolStarted,
    ToolStatus,
    TurnBegan,
    TurnOver,
)
from bridle_core.transcript import Transcript
from bridle_host import live_run
from bridle_host.drivers.base import Installation, ResumeFrom
from tests.bridle_host.journal_support import opened, until
from tests.bridle_host.sessions_support import SESSION, Host, hosting, seconds
from tests.fakes.driver import FakeDriver, FakeFactory

FAKE = "fake"


async def up(host: Host, factory: FakeFactory, session_id: str = SESSION) -> FakeDriver:
    """A session whose agent is up."""
    count = len(factory.drivers) + 1
    await host.start(session_id)
    driver = await factory.driver(count)
    await host.event("process_started", session_id=session_id)
    return driver


async def finish(host: Host, driver: FakeDriver, turn: int = 1) -> None:
    """Let the agent end its turn."""
    driver.tell(TurnOver(StopReason.COMPLETED))
    await host.event("turn_ended", turn)


# --- the life of a run --------------------------------------------------------------------------


async def test_a_session_lives_from_its_start_to_its_stop(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        start = await host.start(directory=str(host.directory))
        assert await host.outcome(start) == ("RAN", "DONE")
        send = await host.send("hello", input_id="i1")
        assert await host.answer(send) == ("PENDING", "QUEUED")
        assert await host.outcome(send) == ("RAN", "TURN_STARTED")
        driver = await factory.driver()
        driver.tell(Message("m", (Text("hi"),)))
        await finish(host, driver)
        stop = await host.stop()
        assert await host.answer(stop) == ("PENDING", "IN_PROGRESS")
        assert await host.outcome(stop) == ("RAN", "DONE")
        await until(lambda: host.sessions.inventory() == [])
        assert await host.kinds() == [
            "session_started",
            "process_started",
            "phase_changed",
            "turn_started",
            "input_consumed",
            "phase_changed",
            "agent_message",
            "turn_ended",
            "phase_changed",
            "phase_changed",
            "artifacts_reported",
            "process_exited",
            "session_ended",
        ]
        (await host.in_order()).finish()
        events = await host.events()
        assert {event.run for event in events} == {1}
        started = events[0].session_started
        assert (started.agent, started.agent_version, started.host_id) == (FAKE, "1.0", "host-1")
        assert started.directory == str(host.directory)
        assert started.capabilities == ["APPROVALS", "BACKGROUND", "IMAGES", "STEER"]
        ended = events[-1].session_ended
        assert (ended.phase, ended.verified) == (session_pb2.PHASE_STOPPED, True)
        await until(lambda: not (tmp_path / "runs" / SESSION).exists())
        assert host.journal.runs() == []


async def test_an_answer_is_in_the_journal_before_the_driver_is_asked(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        driver = await up(host, factory)
        seen: list[int] = []
        send = driver.send

        async def looking(turn: int, content: object) -> None:
            seen.append(len(host.journal.answers("the-send")))
            await send(turn, content)  # type: ignore[arg-type]

        driver.send = looking  # type: ignore[method-assign]
        deliver = host_pb.DeliverInput(input_id="i", sequence=1)
        await host.command(command_id="the-send", deliver=deliver)
        await driver.called("send")
        assert seen == [1]


async def test_an_interrupt_ends_the_turn_and_the_next_input_runs(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        driver = await up(host, factory)
        await host.outcome(await host.send("long"))
        after = await host.send("next")
        interrupt = await host.interrupt(grace=seconds(2), include_background=True)
        assert await host.outcome(interrupt) == ("RAN", "TURN_INTERRUPTED")
        assert await host.outcome(after) == ("RAN", "TURN_STARTED")
        assert ("interrupt", 2.0, True) in driver.calls
        assert ("send", 2, "next") in driver.calls
        await host.in_order()


async def test_an_interrupt_that_comes_with_the_start_cancels_the_input(tmp_path: Path) -> None:
    factory = FakeFactory(plays=False)
    async with hosting(tmp_path, {FAKE: factory}) as host:
        await host.start()
        send = await host.send("never")
        assert await host.outcome(await host.interrupt()) == ("RAN", "INPUT_CANCELLED")
        assert await host.outcome(send) == ("NOT_RUN", "CANCELLED")
        driver = await factory.driver()
        driver.tell(ProcessUp(1))
        await host.event("process_started")
        assert [call[0] for call in driver.calls] == ["start"]


async def test_an_approval_is_asked_for_answered_and_told_to_the_agent(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        policy = session_pb2.SessionPolicy(approval_timeout=seconds(600))
        await host.start(policy=policy)
        driver = await factory.driver()
        await host.outcome(await host.send("x"))
        driver.tell(ApprovalAsked("a", "bash", '{"command":"rm"}', "to tidy up"))
        asked = await host.event("approval_requested")
        assert (asked.tool, asked.reason) == ("bash", "to tidy up")
        assert asked.HasField("expire_time")
        rule = session_pb2.ApprovalRule(
            tool="bash", decision=session_pb2.APPROVAL_POLICY_ALLOW, value="rm", exact=True
        )
        resolve = host_pb.ResolveApproval(
            approval_id="a",
            decision=event_pb2.APPROVAL_DECISION_ALLOW_ALWAYS,
            message="go",
            rule=rule,
        )
        principal = {"kind": 1, "id": "t1", "name": "anna"}
        answer = await host.command(resolve=resolve, principal=principal)
        assert await host.outcome(answer) == ("RAN", "DONE")
        assert (await driver.called("respond"))[1:] == ("a", "ALLOW", "go")
        resolved = next(
            e for e in await host.events() if e.WhichOneof("kind") == "approval_resolved"
        )
        assert resolved.principal.name == "anna"
        told = resolved.approval_resolved
        assert (told.by, told.rule) == (event_pb2.APPROVAL_DECIDER_PRINCIPAL, rule)


async def test_every_command_reaches_the_machine(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        await host.start(queue_state=session_pb2.QUEUE_STATE_HELD, last_turn=7)
        send = await host.send("x", input_id="i1", mode=input_pb2.INPUT_MODE_STEER)
        later = await host.send("y", input_id="i2")
        cancel = await host.command(cancel=host_pb.CancelInput(input_id="i2"))
        assert await host.outcome(cancel) == ("RAN", "INPUT_CANCELLED")
        assert await host.outcome(later) == ("NOT_RUN", "CANCELLED")
        rules = session_pb2.SessionPolicy(consume=session_pb2.CONSUME_POLICY_ALL)
        update = await host.command(update=host_pb.UpdatePolicy(policy=rules))
        assert await host.outcome(update) == ("RAN", "DONE")
        release = await host.command(release=host_pb.ReleaseQueue())
        assert await host.outcome(release) == ("RAN", "DONE")
        assert await host.outcome(send) == ("RAN", "TURN_STARTED")
        assert (await host.event("turn_started")).input_ids == ["i1"]
        assert (await host.events())[-2].turn == 8


async def test_what_the_driver_wants_kept_is_kept_within_its_limit(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        driver = await up(host, factory)
        driver.tell(KeepState(b"state"), KeepState(b"x" * (256 * 1024 + 1)))
        note = await host.event("diagnostic")
        assert note.kind == event_pb2.DIAGNOSTIC_KIND_STATE_LOST
        kept = [r.driver_state.state for r in await host.records() if r.HasField("driver_state")]
        assert kept == [b"state"]


async def test_a_resumed_run_opens_by_the_drivers_word(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        resume = host_pb.ResumeFrom(
            mode=event_pb2.RESUME_MODE_SEEDED, driver_state=b"kept", same_host=True
        )
        start = await host.start(run=2, resume=resume)
        assert await host.outcome(start) == ("RAN", "DONE")
        assert (await host.event("session_resumed")).mode == event_pb2.RESUME_MODE_SEEDED
        driver = await factory.driver()
        given = driver.calls[0][1]
        assert (given.driver_state, given.same_host) == (b"kept", True)  # type: ignore[attr-defined]


async def test_the_driver_is_told_what_was_said_in_the_runs_before_and_in_its_own(
    tmp_path: Path,
) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        resume = host_pb.ResumeFrom(
            mode=event_pb2.RESUME_MODE_AUTO, transcript="BEFORE", left_out=["much"], same_host=True
        )
        await host.start(run=2, resume=resume)
        driver = await factory.driver()
        await driver.called("start")
        given = driver.calls[0][1]
        assert isinstance(given, ResumeFrom)
        assert (given.mode, given.transcript, given.left_out) == (
            ResumeMode.AUTO,
            "BEFORE",
            ("much",),
        )
        assert driver.context.transcript() == Transcript("BEFORE", ("much",))
        await host.outcome(await host.send("mend it", run=2))
        driver.tell(Message("m", (Text("done"),)), TurnOver(StopReason.COMPLETED))
        await host.event("turn_ended")
        told = driver.context.transcript()
        assert told.text.startswith("BEFORE\n")
        assert told.text.endswith(
            "[turn 1] somebody asked:\n| mend it\n[turn 1] you said:\n| done\n"
        )


async def test_on_another_host_a_run_begins_anew_and_one_that_must_be_native_is_refused(
    tmp_path: Path,
) -> None:
    factory = FakeFactory(frozenset(Capability))
    async with hosting(tmp_path, {FAKE: factory}) as host:
        native = host_pb.ResumeFrom(mode=event_pb2.RESUME_MODE_NATIVE, driver_state=b"kept")
        refused = await host.start(run=2, resume=native)
        assert await host.outcome(refused) == ("NOT_RUN", "REFUSED")
        [answer] = await host.answers(refused)
        assert (answer.error_reason, "other host" in answer.message) == ("START_FAILED", True)
        either = host_pb.ResumeFrom(mode=event_pb2.RESUME_MODE_AUTO, driver_state=b"kept")
        await host.start("fresh", run=3, resume=either)
        driver = await factory.driver()
        await driver.called("start")
        given = driver.calls[0][1]
        assert isinstance(given, ResumeFrom)
        assert given.mode is ResumeMode.SEEDED


async def test_live_text_follows_its_turn_and_never_its_message(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        driver = await up(host, factory)
        await host.outcome(await host.send("x"))
        driver.tell(MessageText("m", "hal"))
        await until(lambda: len(host.live) == 1)
        driver.tell(MessageText("m", "lo"), Message("m", (Text("hallo"),)))
        await host.event("agent_message")
        driver.tell(MessageText("n", "cut"), TurnOver(StopReason.COMPLETED))
        await host.event("turn_ended")
        assert [(p.turn, p.message_id, p.offset, p.text) for p in host.live] == [(1, "m", 0, "hal")]


async def test_outputs_that_come_together_are_one_event(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        driver = await up(host, factory)
        await host.outcome(await host.send("x"))
        lines = [ToolOutput("t", f"line {n}\n".encode()) for n in range(2000)]
        driver.tell(ToolStarted("t", "bash"), *lines, ToolEnded("t", ToolStatus.SUCCEEDED))
        await finish(host, driver)
        events = await host.events()
        outputs = [e.tool_call_output.text for e in events if e.HasField("tool_call_output")]
        assert len(outputs) < 100
        assert "".join(outputs) == "".join(f"line {n}\n" for n in range(2000))


# --- the start ----------------------------------------------------------------------------------


async def refused(host: Host, session_id: str = SESSION, run: int = 1, **fields: Any) -> str:
    """Start; the reason of the refusal."""
    start = await host.start(session_id, run, **fields)
    assert await host.outcome(start) == ("NOT_RUN", "REFUSED")
    assert await host.kinds(session_id) == []
    return (await host.answers(start))[-1].error_reason


async def test_an_agent_whose_command_names_a_program_need_not_be_found_elsewhere(
    tmp_path: Path,
) -> None:
    absent = FakeFactory()
    absent.name, absent.installation = "absent", Installation(False)
    async with hosting(tmp_path, {"absent": absent}) as host:
        await host.start(agent="absent", agent_command=f"{sys.executable} --flag")
        driver = await absent.driver()
        await driver.called("start")


async def test_a_start_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    absent = FakeFactory()
    absent.name, absent.installation = "absent", Installation(False, hint="apt install absent")
    async with hosting(tmp_path, {FAKE: FakeFactory(), "absent": absent}) as host:
        assert await refused(host, agent="nobody's") == "AGENT_NOT_INSTALLED"
        assert await refused(host, agent="absent") == "AGENT_NOT_INSTALLED"
        assert await refused(host, directory="relative") == "DIRECTORY_MISSING"
        assert await refused(host, directory=str(tmp_path / "missing")) == "DIRECTORY_MISSING"
        assert await refused(host, directory="/nul\0byte") == "DIRECTORY_MISSING"
        assert await refused(host, agent_command="bad") == "START_FAILED"
        native = host_pb.ResumeFrom(mode=event_pb2.RESUME_MODE_NATIVE)
        assert await refused(host, resume=native) == "START_FAILED"
        await until(lambda: host.sessions.inventory() == [])
        assert not list((tmp_path / "runs").glob("*"))
        for command in ("--flag", "/nowhere/absent --flag", "a 'b"):
            refusal = await refused(host, agent="absent", agent_command=command)
            assert refusal == "AGENT_NOT_INSTALLED"
        absent.installation = Installation(True)
        start = await host.start(agent="absent")
        assert await host.outcome(start) == ("RAN", "DONE")


async def test_a_host_that_is_full_says_so(tmp_path: Path) -> None:
    async with hosting(tmp_path, {FAKE: FakeFactory()}, limit=1) as host:
        await host.outcome(await host.start("one"))
        assert await refused(host, "two") == "HOST_FULL"
        await host.outcome(await host.kill("one"))
        await until(lambda: host.sessions.inventory() == [])
        assert await host.outcome(await host.start("three")) == ("RAN", "DONE")


async def test_a_second_run_of_a_live_session_is_refused(tmp_path: Path) -> None:
    async with hosting(tmp_path, {FAKE: FakeFactory()}) as host:
        await host.outcome(await host.start())
        start = await host.start(run=2)
        assert await host.outcome(start) == ("NOT_RUN", "REFUSED")


async def test_files_that_cannot_be_made_refuse_the_start(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / SESSION).write_text("in the way")
    async with hosting(tmp_path, {FAKE: FakeFactory()}) as host:
        assert await refused(host) == "START_FAILED"


async def test_a_fault_of_ours_at_the_start_refuses_it(tmp_path: Path) -> None:
    factory = FakeFactory()
    factory.probe = None  # type: ignore[assignment, method-assign]
    async with hosting(tmp_path, {FAKE: factory}) as host:
        assert await refused(host) == "INTERNAL"


async def test_a_driver_that_can_not_be_made_leaves_no_token_behind(tmp_path: Path) -> None:
    factory = FakeFactory()
    factory.create = None  # type: ignore[assignment, method-assign]
    async with hosting(tmp_path, {FAKE: factory}) as host:
        assert await refused(host) == "INTERNAL"
    assert not list((tmp_path / "runs").rglob("*"))


async def test_commands_that_wait_behind_a_refused_start_are_answered(tmp_path: Path) -> None:
    async with hosting(tmp_path, {FAKE: FakeFactory()}) as host:
        await host.start(agent="nobody's")
        send, stop = await host.send("x"), await host.stop()
        assert await host.outcome(send) == ("NOT_RUN", "SESSION_ENDED")
        assert await host.outcome(stop) == ("RAN", "ALREADY_ENDED")


# --- at most once -------------------------------------------------------------------------------


async def test_a_repeat_is_answered_and_not_run_again(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        start = await host.start(command_id="s")
        await host.outcome(start)
        await host.start(command_id="s")
        assert len(await host.answers("s")) == 2
        deliver = host_pb.DeliverInput(input_id="i", sequence=1)
        for _ in range(5):
            await host.command(command_id="d", deliver=deliver)
        await host.outcome("d")
        driver = await factory.driver()
        await finish(host, driver)
        await host.command(command_id="d", deliver=deliver)
        assert [call for call in driver.calls if call[0] == "send"] == [("send", 1, "")]
        assert (await host.kinds()).count("input_consumed") == 1
        assert len(factory.drivers) == 1


async def test_a_repeat_of_what_is_on_its_way_is_nothing(tmp_path: Path) -> None:
    factory = FakeFactory(plays=False)
    async with hosting(tmp_path, {FAKE: factory}) as host:
        await host.start(command_id="s")
        await host.start(command_id="s")
        for _ in range(2):
            await host.command(command_id="d", deliver=host_pb.DeliverInput(input_id="i"))
        assert await host.answer("d") == ("PENDING", "QUEUED")
        assert len(await host.answers("s")) == 1


async def test_what_is_for_no_run_is_answered_at_once(tmp_path: Path) -> None:
    async with hosting(tmp_path, {FAKE: FakeFactory()}) as host:
        assert await host.outcome(await host.send("x")) == ("NOT_RUN", "SESSION_ENDED")
        assert await host.outcome(await host.kill()) == ("RAN", "ALREADY_ENDED")
        assert await host.outcome(await host.command()) == ("NOT_RUN", "REFUSED")


async def test_a_command_that_is_out_of_time_or_withdrawn_is_not_run(tmp_path: Path) -> None:
    factory = FakeFactory()
    factory.plays = False
    async with hosting(tmp_path, {FAKE: factory}) as host:
        await host.start()
        # Nothing waits in between: all of these are there before the actor looks.
        host.sessions.withdraw("unknown")
        late = await host.command(
            interrupt=host_pb.InterruptTurn(), time_to_live=seconds(0), command_id="late"
        )
        deliver = host_pb.DeliverInput(input_id="i", sequence=1)
        sent = await host.command(deliver=deliver, command_id="withdrawn")
        host.sessions.withdraw("withdrawn")
        assert await host.outcome(late) == ("NOT_RUN", "EXPIRED")
        assert await host.outcome(sent) == ("NOT_RUN", "EXPIRED")
        assert (await host.event("input_cancelled")).input_id == "i"


async def test_what_comes_too_late_for_a_run_is_answered_as_after_its_end(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        await up(host, factory)
        kill = await host.kill()
        await host.event("session_ended")
        assert await host.outcome(await host.send("x")) == ("NOT_RUN", "SESSION_ENDED")
        assert await host.outcome(kill) == ("RAN", "DONE")


# --- drivers that fail --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "where", ["run", "observations", "start", "send", "interrupt", "stop", "kill"]
)
async def test_a_driver_that_fails_ends_its_run_and_no_other(tmp_path: Path, where: str) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        await up(host, factory, "other")
        factory.made = lambda driver: driver.fails.add(where)
        await host.start()
        await host.send("x")
        if where in ("interrupt", "stop", "kill"):
            await host.event("turn_started")
            await getattr(host, where)()
            if where == "stop":
                factory.drivers[-1].tell(TurnOver(StopReason.COMPLETED))
        ended = await host.event("session_ended")
        expected = {"kill": "KILLED", "stop": "STOPPED"}.get(where, "FAILED")
        assert session_pb2.Phase.Name(ended.phase) == f"PHASE_{expected}"
        (await host.in_order()).finish()
        assert "session_ended" not in await host.kinds("other")


async def test_a_driver_that_ends_without_a_word_has_lost_its_agent(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        driver = await up(host, factory)
        driver.end()
        ended = await host.event("session_ended")
        assert ended.reason == session_pb2.END_REASON_AGENT_LOST
        assert "without a word" in ended.message


async def test_a_driver_whose_observations_fail_has_failed(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        driver = await up(host, factory)
        driver.tell("no observation", "of any kind")  # type: ignore[arg-type]
        ended = await host.event("session_ended")
        assert ended.phase == session_pb2.PHASE_FAILED
        (await host.in_order()).finish()
        await until(lambda: host.sessions.inventory() == [])


async def test_a_call_that_hangs_does_not_hold_a_kill(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        driver = await up(host, factory)
        driver.gate.clear()
        await host.send("x")
        await driver.called("send")
        assert await host.answer(await host.interrupt()) == ("PENDING", "IN_PROGRESS")
        assert await host.outcome(await host.kill()) == ("RAN", "DONE")
        (await host.in_order()).finish()


async def test_a_flood_of_questions_waits_while_the_driver_does_not_listen(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        policy = session_pb2.SessionPolicy(approval=session_pb2.APPROVAL_POLICY_ALLOW)
        await host.start(policy=policy)
        driver = await factory.driver()
        await host.outcome(await host.send("x"))
        driver.gate.clear()
        driver.tell(*[ApprovalAsked(f"a{n}", "bash") for n in range(2000)])
        await host.event("approval_resolved", 128)
        driver.gate.set()
        await driver.called("respond", 2000)
        await host.event("approval_resolved", 2000)


async def acknowledged(host: Host) -> list[event_pb2.Event]:
    """The events that are in the journal, which lets them go."""
    events = []
    for sequence, body in await host.journal.read_after(host.journal.acknowledged, 1 << 30):
        host.journal.acknowledge(sequence)
        events.append(event_pb2.Event.FromString(host_pb.Record.FromString(body).event.event))
    return events


# --- back-pressure ------------------------------------------------------------------------------


async def test_while_the_journal_has_no_room_output_waits_and_commands_do_not(
    tmp_path: Path,
) -> None:
    factory = FakeFactory()
    sizes = {"cap_bytes": 700_000, "reserve_bytes": 4_000_000}
    async with hosting(tmp_path, {FAKE: factory}, journal=sizes) as host:
        driver = await up(host, factory)
        await host.outcome(await host.send("x"))
        driver.tell(ToolStarted("t", "bash"))
        driver.tell(*[ToolOutput("t", b"x" * 60_000) for _ in range(40)])
        await until(lambda: host.journal.size > 400_000)
        queued = await host.send("y")
        assert await host.answer(queued) == ("PENDING", "QUEUED")
        assert len(host.journal.answers(queued)) == 1
        interrupt = await host.interrupt()
        assert await host.outcome(interrupt) == ("RAN", "TURN_INTERRUPTED")
        await host.in_order()
        events = await host.events()
        written = sum(len(e.tool_call_output.text) for e in events)
        assert written == 40 * 60_000


async def test_when_there_is_room_again_the_output_goes_on(tmp_path: Path) -> None:
    factory = FakeFactory()
    sizes = {"cap_bytes": 400_000, "reserve_bytes": 100_000}
    async with hosting(tmp_path, {FAKE: factory}, journal=sizes) as host:
        driver = await up(host, factory)
        await host.outcome(await host.send("x"))
        driver.tell(ToolStarted("t", "bash"))
        driver.tell(*[ToolOutput("t", b"x" * 50_000) for _ in range(40)])
        driver.tell(ToolEnded("t", ToolStatus.SUCCEEDED), TurnOver(StopReason.COMPLETED))
        taken: list[event_pb2.Event] = []
        while not any(event.HasField("turn_ended") for event in taken):
            taken += await acknowledged(host)
            await asyncio.sleep(0)
        assert sum(len(event.tool_call_output.text) for event in taken) == 40 * 50_000


async def test_a_journal_that_is_full_lets_no_output_in_until_control_has_taken_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridle_host.live_run.TOLD_PRESSURE", 0.0)
    factory = FakeFactory()
    sizes = {"cap_bytes": 100, "reserve_bytes": 1_000_000}
    async with hosting(tmp_path, {FAKE: factory}, journal=sizes) as host:
        driver = await up(host, factory)
        await host.outcome(await host.send("x"))
        # The life of the session goes on in the reserve.
        assert host.journal.pressed
        driver.tell(ToolStarted("t", "bash"), ToolOutput("t", b"x"))
        answered = await host.command(update=host_pb.UpdatePolicy())
        assert await host.outcome(answered) == ("RAN", "DONE")
        assert "tool_call_started" not in await host.kinds()
        taken: list[event_pb2.Event] = []
        while not any(event.HasField("diagnostic") for event in taken):
            taken += await acknowledged(host)
            await asyncio.sleep(0)
        outputs = [e.tool_call_output.text for e in taken if e.HasField("tool_call_output")]
        assert outputs == ["x"]
        assert taken[-1].diagnostic.kind == event_pb2.DIAGNOSTIC_KIND_BACKPRESSURE


# --- identity -----------------------------------------------------------------------------------


def content_of(path: str) -> str:
    return Path(path).read_text()


async def test_an_agent_is_told_who_it_is_and_gets_fresh_tokens(tmp_path: Path) -> None:
    factory = FakeFactory()
    environment = {"PATH": "/bin", "BRIDLE_ADDRESS": "other:1", "CODEX_SANDBOX": "1", "HOME": "/h"}
    async with hosting(tmp_path, {FAKE: factory}, environment=environment) as host:
        await host.start(environment={"MINE": "1", "BRIDLE_SESSION": "forged"})
        driver = await factory.driver()
        await driver.called("start")
        given = driver.context.environment
        assert given["BRIDLE_ADDRESS"] == "127.0.0.1:1"
        assert (given["BRIDLE_WORKSPACE"], given["BRIDLE_SESSION"]) == ("default", "fix-auth")
        assert (given["BRIDLE_SESSION_ID"], given["MINE"], given["HOME"]) == (SESSION, "1", "/h")
        assert "CODEX_SANDBOX" not in given
        assert given["PATH"].startswith("/bin")
        token = given["BRIDLE_TOKEN_FILE"]
        assert stat.S_IMODE(os.stat(token).st_mode) == 0o600
        assert content_of(token) == "brs_first\n"
        fresh = host_pb.SessionToken(session_id=SESSION, run=1, token="brs_second")
        host.sessions.set_token(fresh)
        host.sessions.set_token(host_pb.SessionToken(session_id=SESSION, run=9, token="brs_no"))
        assert content_of(token) == "brs_second\n"
        assert sorted(os.listdir(os.path.dirname(token))) == [
            *("artifacts", "driver", "git", "inputs", "start", "state", "token")
        ]


async def test_a_token_that_cannot_be_written_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        driver = await up(host, factory)
        path = driver.context.environment["BRIDLE_TOKEN_FILE"]
        os.unlink(path)
        os.mkdir(path)
        host.sessions.set_token(host_pb.SessionToken(session_id=SESSION, run=1, token="t"))
        assert "a token can't be written" in caplog.text
        os.rmdir(path)


async def test_a_stop_reports_the_artifacts_and_leaves_them(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        driver = await up(host, factory)
        place = Path(driver.context.environment["BRIDLE_ARTIFACTS"])
        (place / "deep").mkdir()
        (place / "deep" / "report.md").write_text("hello")
        (place / "link").symlink_to("/etc/passwd")
        os.mkfifo(place / "pipe")
        await host.stop()
        reported = await host.event("artifacts_reported")
        assert [(a.name, a.size) for a in reported.artifacts] == [("deep/report.md", 5)]
        await until(lambda: host.journal.runs() == [])
        await until(lambda: not (place.parent / "driver").exists())
        assert (place / "deep" / "report.md").read_text() == "hello"


async def test_a_kill_does_not_wait_for_what_a_stop_collects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collecting = threading.Event()

    def slow(_files: object, _directory: str, over: Callable[[], bool]) -> Any:
        collecting.set()
        while not over():
            time.sleep(0.001)
        return event_pb2.ArtifactsReported()

    monkeypatch.setattr(live_run, "collect", slow)
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        await up(host, factory)
        stop = await host.command(command_id="s", stop=host_pb.StopRun())
        await until(collecting.is_set)
        kill = await host.command(command_id="k", kill=host_pb.KillRun())
        async with asyncio.timeout(30):
            await host.outcome(kill)
            await host.outcome(stop)
        ended = await host.event("session_ended")
        assert ended.phase == session_pb2.PHASE_KILLED


# --- the host's own end and begin ---------------------------------------------------------------


async def test_the_end_of_the_host_stops_every_session(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        await up(host, factory, "idle")
        await up(host, factory, "busy")
        await host.outcome(await host.send("x", "busy"))
        await host.sessions.stop_all(session_pb2.END_REASON_HOST_STOPPED, 10.0)
        assert host.sessions.inventory() == []
        for session_id in ("idle", "busy"):
            ended = await host.event("session_ended", session_id=session_id)
            assert ended.phase == session_pb2.PHASE_STOPPED
            assert ended.reason == session_pb2.END_REASON_HOST_STOPPED
        assert await refused(host, "late") == "SHUTTING_DOWN"


async def test_what_does_not_stop_in_time_is_killed(tmp_path: Path) -> None:
    factory = FakeFactory(plays=False)
    async with hosting(tmp_path, {FAKE: factory}) as host:
        await host.start()
        driver = await factory.driver()
        driver.tell(ProcessUp(1))
        await host.event("process_started")

        async def dies() -> None:
            await driver.called("kill")
            driver.tell(ProcessGone(1, signal=9, killed=True))

        async with asyncio.TaskGroup() as group:
            group.create_task(dies())
            await host.sessions.stop_all(session_pb2.END_REASON_HOST_DRAINED, 0.05)
        ended = await host.event("session_ended")
        assert ended.phase == session_pb2.PHASE_KILLED
        assert ended.reason == session_pb2.END_REASON_HOST_DRAINED


async def test_a_stale_run_is_killed_without_a_word(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        await up(host, factory)
        before = await host.kinds()
        await host.sessions.kill_stale(SESSION, 1)
        await host.sessions.kill_stale(SESSION, 7)
        assert host.sessions.inventory() == []
        assert await host.kinds() == before
        assert host.journal.runs() == []


async def test_a_run_that_is_stale_before_it_began_leaves_nothing(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        await host.start()
        await host.send("x")
        await host.sessions.kill_stale(SESSION, 1)
        assert await host.records() == []
        assert not (tmp_path / "runs" / SESSION).exists()


async def test_the_inventory_tells_what_lives(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        await host.start()
        assert [s.phase for s in host.sessions.inventory()] == [session_pb2.PHASE_STARTING]
        await host.outcome(await host.send("x"))
        await host.send("y", input_id="waits")
        await until(lambda: list(host.sessions.inventory()[0].input_ids) == ["waits"])
        live = host.sessions.inventory()[0]
        assert (live.session_id, live.run, live.open_turn) == (SESSION, 1, 1)
        assert live.phase == session_pb2.PHASE_RUNNING


async def test_the_inventory_is_not_ahead_of_what_the_journal_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        await host.start()
        driver = await factory.driver()
        await host.event("phase_changed")
        await until(lambda: host.sessions.inventory()[0].phase == session_pb2.PHASE_IDLE)
        append, begun, go_on = host.journal.append, asyncio.Event(), asyncio.Event()

        async def append_late(*entries: Any, **how: Any) -> None:
            begun.set()
            await go_on.wait()
            await append(*entries, **how)

        monkeypatch.setattr(host.journal, "append", append_late)
        driver.tell(TurnBegan())
        await begun.wait()
        (live,) = host.sessions.inventory()
        assert (live.open_turn, live.phase) == (0, session_pb2.PHASE_IDLE)
        go_on.set()
        await host.event("turn_started")
        await until(lambda: host.sessions.inventory()[0].open_turn == 1)


async def test_the_next_host_process_ends_what_the_last_one_left(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        driver = await up(host, factory)
        await host.outcome(await host.send("x"))
        driver.tell(ToolStarted("t", "bash"), ApprovalAsked("a", "bash"))
        await host.event("approval_requested")
        interrupt = await host.interrupt()
        driver.plays = False
        await host.answer(interrupt)
        left = host.journal.runs()
        resumed = await host.start("resumed", 3, resume=host_pb.ResumeFrom())
        await host.outcome(resumed)
        assert len(left) == 1
    # The host is gone without a word: its actors were cancelled, and nothing more was written.
    (tmp_path / "runs" / "nobody's" / "1" / "process").mkdir(parents=True)
    async with hosting(tmp_path, {FAKE: factory}) as host:
        ended = await host.event("session_ended")
        checker = await host.in_order()
        checker.finish()
        assert ended.phase == session_pb2.PHASE_FAILED
        assert ended.reason == session_pb2.END_REASON_AGENT_LOST
        assert ended.verified
        await until(lambda: host.sessions.inventory() == [] and host.journal.runs() == [])
        await until(lambda: not list((tmp_path / "runs").glob("*")))
        (await host.in_order("resumed")).finish()


async def test_a_start_that_never_came_to_its_agent_is_gone_on_with_by_the_next_host_process(
    tmp_path: Path,
) -> None:
    factory = FakeFactory(plays=False)
    async with hosting(tmp_path, {FAKE: factory}) as host:
        await host.start(environment={"MINE": "1"})
        await (await factory.driver()).called("start")
        first = await host.send("x", input_id="i-x")
        await host.answer(first)
        await host.sessions.detach_all()
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        assert list(host.sessions.inventory()[0].input_ids) == ["i-x"]
        driver = await factory.driver()
        assert await driver.called("send") == ("send", 1, "x")
        assert [call[0] for call in driver.calls] == ["start", "send"]
        assert driver.context.environment["MINE"] == "1"
        assert await host.outcome(first) == ("RAN", "TURN_STARTED")
        await host.outcome(await host.command(command_id="k", kill=host_pb.KillRun()))
        (await host.in_order()).finish()
        assert (await host.kinds()).count("session_started") == 1


async def test_a_journal_without_any_room_keeps_no_host_from_coming_back(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        await up(host, factory)
    # Only control's acknowledgements make room, and it is not dialled before this.
    sizes = {"cap_bytes": 1, "reserve_bytes": 1}
    async with asyncio.timeout(30), hosting(tmp_path, {FAKE: factory}, journal=sizes) as host:
        ended = await host.event("session_ended")
        assert ended.reason == session_pb2.END_REASON_AGENT_LOST


async def test_what_is_kept_of_a_run_and_cannot_be_read_is_dropped(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.put_run("a", 1, b"{}")
        await journal.put_run("b", 1, b"no json")
    async with hosting(tmp_path, {FAKE: FakeFactory()}) as host:
        await until(lambda: host.journal.runs() == [])
        assert await host.records("a") == []


async def test_a_pending_command_of_a_run_that_is_gone_is_over(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        await host.start(queue_state=session_pb2.QUEUE_STATE_HELD)
        await host.event("process_started")
        await host.command(command_id="d", deliver=host_pb.DeliverInput(input_id="i"))
        await host.answer("d")
    async with hosting(tmp_path, {FAKE: factory}) as host:
        await until(lambda: host.sessions.inventory() == [])
        await host.command(command_id="d", deliver=host_pb.DeliverInput(input_id="i"))
        assert await host.outcome("d") == ("NOT_RUN", "SESSION_ENDED")


async def test_a_fault_of_ours_in_a_run_ends_this_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    factory = FakeFactory()
    async with hosting(tmp_path, {FAKE: factory}) as host:
        driver = await up(host, factory)
        await host.outcome(await host.send("x"))

        def fails(self: object) -> None:
            raise RuntimeError("a fault of ours")

        monkeypatch.setattr("bridle_core.session.Session._settle_down", fails)
        driver.tell(TurnBegan())
        ended = await host.event("session_ended")
        assert ended.reason == session_pb2.END_REASON_HOST_STOPPED
        (await host.in_order()).finish()
        await until(lambda: host.sessions.inventory() == [])
