"""The host service as a process: its start, its refusals in one line, and its end in order."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle.v1 import content_pb2, event_pb2, receipt_pb2, session_pb2
from bridle_core.errors import Reason
from tests.bridle_host.app_support import PATIENT, Ended, HostProcess, ended, host, serve
from tests.bridle_host.journal_support import until
from tests.bridle_host.process_support import alive
from tests.fakes.control import FakeControl
from tests.support.shims import end_shims


@pytest.fixture
def joined(tmp_path: Path) -> Iterator[Path]:
    """A directory with a join token that the fake control takes."""
    (tmp_path / "join").write_text("brj_good\n")
    yield tmp_path
    # Sessions outlive their host, and no test is to leave one.
    end_shims(tmp_path / "state" / "runs")


JOIN = ("--join-token-file", "join", "--name", "h1")


@asynccontextmanager
async def joined_host(directory: Path) -> AsyncIterator[tuple[FakeControl, HostProcess]]:
    """A control, and a host that has joined it and is ready."""
    async with (
        FakeControl() as control,
        host(directory, *serve(control.address, *JOIN)) as process,
    ):
        assert await process.line() == "ready host=h1"
        yield control, process


def refused(process: Ended, code: int, words: str) -> None:
    """It ended with this code, and one line that holds these words."""
    assert process.code == code
    assert process.out == []
    assert len(process.told) == 1
    assert process.told[0].startswith("bridle-host: ")
    assert words in process.told[0]


# --- the start ---


async def test_a_host_joins_once_and_is_ready_when_control_has_reconciled(joined: Path) -> None:
    async with FakeControl() as control:
        async with host(joined, *serve(control.address, *JOIN), program=PATIENT) as process:
            assert await process.line() == "ready host=h1"
            assert control.enrolled == ["h1"]
            hello = control.streams[0].hello
            shell = next(agent for agent in hello.agents if agent.agent == "shell")
            assert shell.installed
            assert hello.containment
            assert hello.session_limit == 64
            assert hello.version
            assert (await process.end(signal.SIGTERM)).code == 0
        (joined / "join").unlink()
        async with host(joined, *serve(control.address), program=PATIENT) as process:
            assert await process.line() == "ready host=h1"
            assert (await process.end(signal.SIGINT)).code == 0
        assert control.enrolled == ["h1"]
        first, second = control.streams
        assert first.hello.incarnation != second.hello.incarnation
        assert first.hello.journal_id == second.hello.journal_id
        assert first.goodbye == second.goodbye == "the host service ends"


async def test_what_a_host_keeps_is_for_its_user_only(joined: Path) -> None:
    async with joined_host(joined) as (_, process):
        for path in [joined / "state", *(joined / "state").rglob("*")]:
            assert path.stat().st_mode & 0o077 == 0, path
        await process.end(signal.SIGTERM)


async def test_secrets_are_not_logged(joined: Path) -> None:
    async with FakeControl() as control:
        async with host(joined, *serve(control.address, *JOIN, "--log-level", "DEBUG")) as process:
            await process.line()
            said = await process.end(signal.SIGTERM)
        assert said.err
        assert not any("brj_" in line or "brh_" in line for line in said.err)


# --- refusals ---


async def test_without_a_credential_and_a_join_token_it_is_wrong_usage(tmp_path: Path) -> None:
    refused(await ended(tmp_path, *serve("127.0.0.1:1")), 2, "give --join-token-file to join")


async def test_a_join_token_that_control_refuses_is_a_failure(joined: Path) -> None:
    (joined / "join").write_text("brj_bad")
    async with FakeControl() as control:
        refused(await ended(joined, *serve(control.address, *JOIN)), 1, "refuses the join token")
        assert not (joined / "state" / "credential").exists()


async def test_a_name_that_is_taken_is_a_failure(joined: Path) -> None:
    async with FakeControl() as control:
        control.faults.refuse_enroll = Reason.NAME_TAKEN
        refused(await ended(joined, *serve(control.address, *JOIN)), 1, 'a host named "h1" exists')


async def test_joining_a_control_that_is_not_there_is_a_failure(joined: Path) -> None:
    refused(await ended(joined, *serve("127.0.0.1:1", *JOIN)), 1, "control can't be reached")


async def test_a_credential_that_control_refuses_is_a_failure(joined: Path) -> None:
    async with FakeControl() as control:
        control.faults.refuse = Reason.TOKEN_REVOKED
        process = await ended(joined, *serve(control.address, *JOIN))
        refused(process, 1, "control refuses this host's credential")
        assert process.told[0].endswith(f"; to join anew, move {joined / 'state'} away")


async def test_a_control_of_another_version_is_a_failure(joined: Path) -> None:
    async with FakeControl() as control:
        control.faults.refuse = Reason.VERSION_UNSUPPORTED
        refused(await ended(joined, *serve(control.address, *JOIN)), 1, "no common version")


async def test_a_state_directory_that_is_in_use_is_a_failure(joined: Path) -> None:
    async with joined_host(joined) as (control, process):
        refused(await ended(joined, *serve(control.address)), 1, "in use by another")
        await process.end(signal.SIGTERM)


async def test_the_state_directory_of_another_host_is_wrong_usage(joined: Path) -> None:
    async with FakeControl() as control:
        async with host(joined, *serve(control.address, *JOIN)) as process:
            await process.line()
            await process.end(signal.SIGTERM)
        other = await ended(joined, *serve(control.address, "--name", "h2"))
        refused(other, 2, 'is that of the host "h1"')


async def test_a_journal_from_the_future_is_a_failure_and_stays(joined: Path) -> None:
    async with FakeControl() as control:
        async with host(joined, *serve(control.address, *JOIN)) as process:
            await process.line()
            await process.end(signal.SIGTERM)
        connection = sqlite3.connect(joined / "state" / "journal")
        connection.execute("PRAGMA user_version = 99")
        connection.close()
        before = (joined / "state" / "journal").read_bytes()
        refused(await ended(joined, *serve(control.address)), 1, "by a newer bridle-host")
        assert (joined / "state" / "journal").read_bytes() == before


@pytest.mark.parametrize("level", ["NOTHING", "SUBREAPER+DOCKER"])
async def test_a_containment_that_is_none_is_wrong_usage(joined: Path, level: str) -> None:
    process = await ended(joined, *serve("127.0.0.1:1", "--containment", level))
    refused(process, 2, "is no containment level")


# --- the end ---


def start(command_id: str = "c-start", session_id: str = "s1") -> host_pb.Command:
    return host_pb.Command(
        command_id=command_id,
        session_id=session_id,
        run=1,
        start=host_pb.StartRun(
            workspace="default",
            slug="demo",
            agent="shell",
            policy=session_pb2.SessionPolicy(),
            queue_state=session_pb2.QUEUE_STATE_OPEN,
            token=host_pb.SessionToken(session_id=session_id, run=1, token="brs_x"),
        ),
    )


def deliver(text: str) -> host_pb.Command:
    return host_pb.Command(
        command_id="c-deliver",
        session_id="s1",
        run=1,
        deliver=host_pb.DeliverInput(
            input_id="i1",
            content=[content_pb2.Content(text=text)],
            sequence=1,
        ),
    )


def gone(pid: int) -> bool:
    """A corpse counts: who reaps it, and when, is no business of the host's where its shim died."""
    return not alive(pid)


def kinds(control: FakeControl) -> list[int]:
    return [record.event.kind for record in control.records if record.HasField("event")]


def has(control: FakeControl, kind: int) -> bool:
    return kind in kinds(control)


def outcome(control: FakeControl, command_id: str) -> int:
    """The newest state of a command; 0 for one that wasn't answered."""
    states = [
        record.command.outcome.state
        for record in control.records
        if record.command.command_id == command_id
    ]
    return states[-1] if states else 0


async def busy(control: FakeControl) -> int:
    """A session with a turn that takes a minute; returns the pid of its shell."""
    control.command(start())
    control.command(deliver("sleep 61 & sleep 60"))
    await control.until(partial(has, control, event_pb2.EVENT_KIND_TOOL_CALL_STARTED))
    raw = next(
        record.event.event
        for record in control.records
        if record.event.kind == event_pb2.EVENT_KIND_PROCESS_STARTED
    )
    return event_pb2.Event.FromString(raw).process_started.pid


async def test_with_on_end_stop_the_sessions_end_first_and_goodbye_is_last(joined: Path) -> None:
    async with FakeControl() as control:
        more = ("--stop-grace", "20", "--on-end", "stop")
        arguments = serve(control.address, *JOIN, *more)
        async with host(joined, *arguments, program=PATIENT) as process:
            await process.line()
            pid = await busy(control)
            said = await process.end(signal.SIGTERM)
        assert said.code == 0
        assert said.told == []
        assert gone(pid)
        (stream,) = control.streams
        assert stream.goodbye
        assert stream.messages[-1].HasField("goodbye")
        last = control.records[-1]
        end = next(r for r in reversed(control.records) if r.HasField("event"))
        assert end.event.kind == event_pb2.EVENT_KIND_SESSION_ENDED
        session_ended = event_pb2.Event.FromString(end.event.event).session_ended
        assert session_ended.reason == session_pb2.END_REASON_HOST_STOPPED
        assert session_ended.verified
        assert outcome(control, "c-start") == receipt_pb2.OUTCOME_STATE_RAN
        # All of it was acknowledged, so nothing is told again.
        async with host(joined, *serve(control.address)) as process:
            await process.line()
            assert control.streams[1].hello.journal_sequence == last.journal_sequence
            assert control.streams[1].hello.journal_floor == 0
            assert control.streams[1].inventory == []
            await process.end(signal.SIGTERM)


async def test_what_control_could_not_hear_at_the_end_is_told_by_the_next_process(
    joined: Path,
) -> None:
    async with FakeControl() as control:
        more = ("--on-end", "stop")
        async with host(joined, *serve(control.address, *JOIN, *more)) as process:
            await process.line()
            await busy(control)
            await control.stop()
            said = await process.end(signal.SIGTERM)
        assert said.code == 0
        assert not has(control, event_pb2.EVENT_KIND_SESSION_ENDED)
        await control.start()
        async with host(joined, *serve(control.address)) as process:
            await process.line()
            await control.until(partial(has, control, event_pb2.EVENT_KIND_SESSION_ENDED))
            await process.end(signal.SIGTERM)
        assert kinds(control).count(event_pb2.EVENT_KIND_SESSION_ENDED) == 1


async def test_a_run_whose_shim_died_with_its_host_is_told_as_lost_by_the_next(
    joined: Path,
) -> None:
    async with FakeControl() as control:
        async with host(joined, *serve(control.address, *JOIN)) as process:
            await process.line()
            pid = await busy(control)
            shim = json.loads((joined / "state/runs/s1/1/process/shim.json").read_text())
            await process.end(signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.kill(shim["pid"], signal.SIGKILL)
        async with host(joined, *serve(control.address)) as process:
            await process.line()
            await control.until(partial(has, control, event_pb2.EVENT_KIND_SESSION_ENDED))
            # It lives until its end is told: nobody is to take it for lost before that.
            end = next(
                record.journal_sequence
                for record in control.records
                if record.event.kind == event_pb2.EVENT_KIND_SESSION_ENDED
            )
            stream = control.streams[1]
            told_before = end <= stream.hello.journal_sequence
            assert [live.session_id for live in stream.inventory] == ["s1"] * (not told_before)
            assert gone(pid)
            # The start was answered, so its repeat is not run again, as one that follows it is.
            control.command(start())
            control.command(start("c-other", "s2"))
            await control.until(lambda: outcome(control, "c-other"))
            await process.end(signal.SIGTERM)
        ends = [
            event_pb2.Event.FromString(record.event.event).session_ended
            for record in control.records
            if record.event.kind == event_pb2.EVENT_KIND_SESSION_ENDED
        ]
        assert ends[0].phase == session_pb2.PHASE_FAILED
        assert ends[0].reason == session_pb2.END_REASON_AGENT_LOST
        assert ends[0].message == "the agent was gone when the host service came back"
        assert kinds(control).count(event_pb2.EVENT_KIND_SESSION_STARTED) == 2


async def test_sessions_work_on_while_control_is_away(joined: Path) -> None:
    async with joined_host(joined) as (control, process):
        marker = joined / "marker"
        control.command(start())
        control.command(deliver(f"until test -e {marker}; do sleep 0.05; done; echo on"))
        await control.until(partial(has, control, event_pb2.EVENT_KIND_TOOL_CALL_STARTED))
        await control.stop()
        marker.touch()
        await control.start()
        await control.until(partial(has, control, event_pb2.EVENT_KIND_TURN_ENDED))
        assert len(control.streams[-1].inventory) == 1
        output = [
            event_pb2.Event.FromString(r.event.event).tool_call_output.text
            for r in control.records
            if r.event.kind == event_pb2.EVENT_KIND_TOOL_CALL_OUTPUT
        ]
        assert output == ["on\n"]
        await process.end(signal.SIGTERM)


async def test_a_repeated_command_is_answered_and_not_run_again(joined: Path) -> None:
    async with FakeControl() as control:
        control.faults.say_twice = True
        async with host(joined, *serve(control.address, *JOIN)) as process:
            await process.line()
            control.command(start())
            control.command(deliver("echo once >> count"))
            await control.until(partial(has, control, event_pb2.EVENT_KIND_TURN_ENDED))
            control.command(deliver("echo once >> count"))
            interrupt = host_pb.InterruptTurn(grace=Duration(seconds=1))
            control.command(
                host_pb.Command(
                    command_id="c-interrupt", session_id="s1", run=1, interrupt=interrupt
                )
            )
            await control.until(lambda: outcome(control, "c-interrupt") != 0)
            await process.end(signal.SIGTERM)
        assert (joined / "count").read_text() == "once\n"
        assert kinds(control).count(event_pb2.EVENT_KIND_SESSION_STARTED) == 1
        assert kinds(control).count(event_pb2.EVENT_KIND_INPUT_CONSUMED) == 1


async def test_a_stale_run_is_killed_without_a_word(joined: Path) -> None:
    async with joined_host(joined) as (control, process):
        pid = await busy(control)
        control.faults.kill = [("s1", 1)]
        control.hang_up()
        await until(lambda: gone(pid))
        await process.end(signal.SIGTERM)
        assert not has(control, event_pb2.EVENT_KIND_SESSION_ENDED)
