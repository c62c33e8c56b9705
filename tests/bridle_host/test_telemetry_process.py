"""Traces and metrics of a host as a process: what is asked for, and that nothing waits for it."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle.v1 import content_pb2, event_pb2, session_pb2
from tests.bridle_host.app_support import HostProcess, ended, host, serve
from tests.bridle_host.journal_support import until
from tests.bridle_host.telemetry_support import CALLER, TRACE, named, only, place, scraped
from tests.fakes.control import FakeControl
from tests.support.collector import collector
from tests.support.ports import held_port
from tests.support.shims import end_shims

JOIN = ("--join-token-file", "join", "--name", "h1")
#: Seconds in which a host ends whatever its collector does: a few, on a quiet machine. What would
#: wait for the collector would wait for `HANGS`.
ENDS, HANGS = 120, 600


@pytest.fixture
def joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with a join token that the fake control takes."""
    (tmp_path / "join").write_text("brj_good\n")
    # In ms: tests wait for what comes.
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", str(HANGS))
    yield tmp_path
    end_shims(tmp_path / "state" / "runs")


#: Runs the service, which waits in the end for a collector that is there, but slow.
PATIENT = f"""
import sys
from bridle_telemetry import telemetry
telemetry.CLOSE_GRACE = {ENDS}
from bridle_host.__main__ import main
sys.exit(main())
"""


@asynccontextmanager
async def running(
    directory: Path, control: FakeControl, *more: str, patient: bool = False
) -> AsyncIterator[tuple[HostProcess, str]]:
    """A host that is ready, and its line."""
    program = ("-c", PATIENT) if patient else ("-m", "bridle_host")
    words = serve(control.address, *JOIN, *more)
    async with host(directory, *words, program=program) as process:
        yield process, await process.line()


def start(**fields: object) -> host_pb.Command:
    run = host_pb.StartRun(
        workspace="default",
        slug="demo",
        agent="shell",
        policy=session_pb2.SessionPolicy(),
        queue_state=session_pb2.QUEUE_STATE_OPEN,
        token=host_pb.SessionToken(session_id="s1", run=1, token="brs_x"),
        **fields,  # type: ignore[arg-type]
    )
    return host_pb.Command(command_id="c-start", session_id="s1", run=1, trace=place(), start=run)


def deliver(text: str, number: int = 1) -> host_pb.Command:
    return host_pb.Command(
        command_id=f"c-{number}",
        session_id="s1",
        run=1,
        trace=place(),
        deliver=host_pb.DeliverInput(
            input_id=f"i{number}", content=[content_pb2.Content(text=text)], sequence=number
        ),
    )


def interrupt(number: int) -> host_pb.Command:
    return host_pb.Command(
        command_id=f"c-interrupt-{number}",
        session_id="s1",
        run=1,
        trace=place(),
        interrupt=host_pb.InterruptTurn(),
    )


def ended_turns(control: FakeControl) -> int:
    return sum(r.event.kind == event_pb2.EVENT_KIND_TURN_ENDED for r in control.records)


def answered(control: FakeControl, command_id: str) -> bool:
    return any(r.command.command_id == command_id for r in control.records)


def listening(pid: int) -> list[str]:
    """The local addresses at which a process listens, in hexadecimal."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it is at work, and closes some
            inodes.add(os.readlink(descriptor).removeprefix("socket:[").removesuffix("]"))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.append(fields[1])
    return found


# --- what is asked of it --------------------------------------------------------------------------


async def test_a_turn_of_a_real_shell_is_in_the_collector_without_a_word_of_it(
    joined: Path,
) -> None:
    secret = "swordfish"
    (joined / secret).mkdir()
    with collector() as taken:
        async with FakeControl() as control:
            more = ("--otlp-endpoint", taken.endpoint)
            async with running(joined, control, *more, patient=True) as (process, ready):
                assert ready == "ready host=h1"
                control.command(start(directory=str(joined / secret), environment={"KEY": secret}))
                where = "$OTEL_EXPORTER_OTLP_ENDPOINT"
                control.command(deliver(f'echo {secret} $KEY; ls /{secret}; echo "<{where}>"'))
                await control.until(lambda: ended_turns(control))
                await process.end(signal.SIGTERM)
        # The flag is the host's alone: its agents know of no collector.
        assert any(b"<>" in record.event.event for record in control.records)
        await taken.until(lambda: len(taken.spans) >= 5)
        turn, call = only(taken, "turn"), only(taken, "tool call")
        assert {(s.trace_id, s.service) for s in taken.spans} == {(TRACE, "bridle-host")}
        assert turn.parent_id == CALLER
        assert call.parent_id == turn.span_id
        assert turn.attributes["bridle.agent"] == "shell"
        assert only(taken, "start agent").parent_id == only(taken, "command START").span_id
        # The last of the metrics are handed over at the end, too.
        assert {"bridle.host.turn.duration", "bridle.host.link.connections"} <= {
            point.name for point in taken.points
        }
        for body in taken.bodies:
            assert secret.encode() not in body


async def test_a_turn_over_which_its_host_was_killed_is_one_span_of_its_input(
    joined: Path,
) -> None:
    with collector() as taken:
        async with FakeControl() as control:
            more = ("--otlp-endpoint", taken.endpoint)
            marker = joined / "marker"
            async with running(joined, control, *more) as (process, _):
                control.command(start())
                control.command(deliver(f"until test -e {marker}; do sleep 0.05; done"))
                await control.until(
                    lambda: any(
                        r.event.kind == event_pb2.EVENT_KIND_TOOL_CALL_STARTED
                        for r in control.records
                    )
                )
                # A second one waits, of which control has heard.
                control.command(deliver("echo on", 2))
                await control.until(lambda: answered(control, "c-2"))
                killed = time.time_ns()
                await process.end(signal.SIGKILL)
            async with running(joined, control, *more, patient=True) as (process, _):
                marker.touch()
                await control.until(lambda: ended_turns(control) == 2)
                await process.end(signal.SIGTERM)
        first, second = named(taken, "turn")
        assert {(turn.trace_id, turn.parent_id) for turn in (first, second)} == {(TRACE, CALLER)}
        assert first.start < killed < first.end <= second.start
        assert [turn.attributes["bridle.turn"] for turn in (first, second)] == [1, 2]


async def test_the_collector_may_stand_in_the_environment(
    joined: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collector() as taken:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", taken.endpoint)
        async with FakeControl() as control, running(joined, control) as (process, _):
            control.command(start())
            await taken.until(lambda: named(taken, "start agent"))
            await process.end(signal.SIGTERM)


async def test_prometheus_may_ask_for_metrics(joined: Path) -> None:
    async with FakeControl() as control:
        more = ("--metrics-listen", "127.0.0.1:0")
        async with running(joined, control, *more) as (process, ready):
            assert ready.startswith("ready host=h1 metrics=127.0.0.1:")
            address = ready.rpartition("=")[2]
            control.command(start())
            control.command(deliver("echo hello"))
            await control.until(lambda: ended_turns(control))
            seen = await scraped(address)
            assert seen["bridle_host_link_connected"] == 1
            assert seen["bridle_host_link_connections_total"] == 1
            assert seen['bridle_host_sessions{bridle_phase="IDLE"}'] == 1
            assert seen['bridle_host_agents{bridle_agent="shell"}'] == 1
            assert seen['bridle_host_agent_output_bytes_total{bridle_agent="shell"}'] >= 6
            assert seen["bridle_host_journal_commit_duration_seconds_count"] >= 1
            control.hang_up()
            await control.until(lambda: len(control.streams) == 2)
            while seen["bridle_host_link_connections_total"] < 2:
                seen = await scraped(address)
            await control.stop()
            while seen["bridle_host_link_connected"]:
                seen = await scraped(address)
            said = await process.end(signal.SIGTERM)
        assert said.code == 0


#: Runs the service, and tells on SIGUSR1 what it has loaded and which threads it has.
TELLING = """
import json, os, signal, sys, threading
def tell(*_):
    told = {"modules": sorted(sys.modules), "threads": [t.name for t in threading.enumerate()]}
    with open("told.new", "w") as file:
        json.dump(told, file)
    os.rename("told.new", "told")
signal.signal(signal.SIGUSR1, tell)
from bridle_host.__main__ import main
sys.exit(main())
"""


async def told(directory: Path, control: FakeControl, *more: str) -> tuple[set[str], set[str], int]:
    """What a host has loaded that is ready, its threads, and at how many ports it listens."""
    words = serve(control.address, *JOIN, *more)
    async with host(directory, *words, program=("-c", TELLING)) as process:
        await process.line()
        ports = listening(process.pid)
        process.process.send_signal(signal.SIGUSR1)
        await until((directory / "told").exists)
        said = json.loads((directory / "told").read_text())
        (directory / "told").unlink()
        await process.end(signal.SIGTERM)
    return set(said["modules"]), set(said["threads"]), len(ports)


async def test_nothing_of_it_is_loaded_or_listens_where_nothing_is_asked_for(joined: Path) -> None:
    heavy = ("opentelemetry.sdk", "opentelemetry.exporter", "prometheus_client", "requests")
    async with FakeControl() as control:
        modules, threads, ports = await told(joined, control)
        assert "bridle_host.telemetry" in modules
        assert [name for name in modules if name.startswith(heavy)] == []
        assert not any(name.startswith("Otel") for name in threads)
        assert ports == 0
        # (It can be seen where it is asked for.)
        more = ("--metrics-listen", "127.0.0.1:0", "--otlp-endpoint", "http://127.0.0.1:9")
        modules, threads, ports = await told(joined, control, *more)
        assert set(heavy) <= modules
        assert any(name.startswith("Otel") for name in threads)
        assert ports == 1


# --- what is wrong with it ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--otlp-endpoint", "collector:4318"), "otlp-endpoint: 'collector:4318' is no URL"),
        (("--metrics-listen", "9090"), "metrics-listen: '9090' is not HOST:PORT"),
        (("--trace-ratio", "2"), "trace-ratio: 2.0 is no number from 0 to 1"),
    ],
)
async def test_settings_that_are_wrong_are_one_line(
    joined: Path, words: tuple[str, ...], told: str
) -> None:
    process = await ended(joined, *serve("127.0.0.1:1", *JOIN, *words))
    assert process.code == 2
    (line,) = process.err
    assert told in line
    assert line.startswith("bridle-host")


async def test_a_port_for_metrics_that_is_in_use_is_one_line(joined: Path) -> None:
    async with FakeControl() as control:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            where = f"127.0.0.1:{taken.getsockname()[1]}"
            process = await ended(joined, *serve(control.address, *JOIN, "--metrics-listen", where))
    assert process.code == 1
    assert process.told == [
        f"bridle-host: metrics-listen: can't listen on {where}: address already in use"
    ]


# --- a collector that is away, or fails -----------------------------------------------------------


async def works(control: FakeControl, process: HostProcess) -> list[str]:
    """A host does its work, and ends, in its own time; what it logged."""
    begun = time.monotonic()
    control.command(start())
    for number in range(1, 21):
        control.command(deliver("echo hello", number), interrupt(number))
    await control.until(lambda: answered(control, "c-interrupt-20"))
    control.command(deliver("echo bye", 21))
    await control.until(lambda: answered(control, "c-21"))
    said = await process.end(signal.SIGTERM)
    assert time.monotonic() - begun < ENDS
    assert said.code == 0
    assert said.told == []
    return said.err


async def test_a_collector_that_is_away_holds_up_nothing(joined: Path) -> None:
    # Nobody else is to have this port, and what is sent there.
    with held_port() as gone:
        nowhere = f"http://127.0.0.1:{gone.getsockname()[1]}"
        async with (
            FakeControl() as control,
            running(joined, control, "--otlp-endpoint", nowhere) as (process, _),
        ):
            await works(control, process)


async def test_a_collector_that_hangs_holds_up_nothing(joined: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hangs = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with (
            FakeControl() as control,
            running(joined, control, "--otlp-endpoint", hangs) as (process, _),
        ):
            log = await works(control, process)
    assert any("did not take the last" in line for line in log)


async def test_a_collector_that_fails_holds_up_nothing(joined: Path) -> None:
    with collector() as taken:
        taken.status = 500
        async with (
            FakeControl() as control,
            running(joined, control, "--otlp-endpoint", taken.endpoint) as (process, _),
        ):
            await works(control, process)
    assert taken.bodies
    assert taken.spans == []
