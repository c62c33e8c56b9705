"""`bridle up`: one command brings the pair up, and one Ctrl-C ends it with nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import stat
import urllib.request
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridle.cli import tour
from bridle.cli.measuring import Measuring, ready_line
from bridle.settings import Places
from tests.pair import PATIENCE, Pair, Result, program, running_pair, until
from tests.support.collector import collector


class Up:
    """A `bridle up` in a home of its own."""

    def __init__(self, pair: Pair, process: Process, ready: str) -> None:
        self.pair = pair
        self.process = process
        self.ready = ready

    async def end(self, number: int = signal.SIGTERM) -> Result:
        """Ends it, and returns what it said after the ready line."""
        self.process.send_signal(number)
        return await finished(self.process)


async def finished(process: Process, within: float = PATIENCE) -> Result:
    async with asyncio.timeout(within):
        out, err = await process.communicate()
    return Result(process.returncode or 0, out.decode(), err.decode())


async def start_up(home: Path, *words: str) -> tuple[Pair, Process]:
    pair = Pair(home)
    pair.work.mkdir(parents=True, exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        program("bridle"),
        *("up", *words),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env=pair.environment(),
        cwd=pair.work,
    )
    return pair, process


@asynccontextmanager
async def running_up(home: Path, *words: str) -> AsyncIterator[Up]:
    pair, process = await start_up(home, "--port", "0", *words)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            ready = (await process.stdout.readline()).decode()
        yield Up(pair, process, ready)
    finally:
        if process.returncode is None:
            process.terminate()
            await finished(process)


def children(process: Process) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                stat_line = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(stat_line[1]) == process.pid:
                    found.append(int(entry.name))
    return found


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def exists(path: str) -> bool:
    return Path(path).exists()


async def one_shot(home: Path, *words: str) -> Result:
    _, process = await start_up(home, *words)
    return await finished(process)


async def test_after_up_the_next_command_just_works(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with running_up(home, "--name", "mine") as up:
        assert up.ready.startswith("ready grpc=127.0.0.1:")
        assert up.ready.endswith(" host=mine\n")
        cli = up.pair.cli
        started = await cli("session", "start", "first", "--agent", "shell", "pwd")
        assert started == Result(0, "started\n", "")
        assert (await cli("wait", "first")).out == "IDLE\n"
        assert f"| {up.pair.work}\n" in (await cli("session", "transcript", "first")).out
        said = await up.end(signal.SIGINT)
    assert said == Result(0, "stopping session default/first\n", "")
    for path in (home, home / "control", home / "host", home / "logs"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 or path == home
    for path in (home / "credentials.json", home / "token", home / "logs" / "control.log"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not (home / "join-token").exists()


async def test_up_finds_everything_again_the_next_time(tmp_path: Path) -> None:
    async with running_up(tmp_path / "home") as up:
        words = ("session", "start", "kept", "--agent", "shell", "export CITY=Rome")
        assert (await up.pair.cli(*words)).code == 0
        await up.pair.cli("wait", "kept")
    async with running_up(tmp_path / "home") as up:
        assert "HOST_STOPPED" in (await up.pair.cli("status", "kept")).out
        resumed = await up.pair.cli("session", "resume", "kept", "echo in $CITY")
        assert resumed.code == 0
        await up.pair.cli("wait", "kept")
        assert "| in Rome" in (await up.pair.cli("session", "transcript", "kept")).out


async def test_a_second_up_in_the_same_home_is_told_so(tmp_path: Path) -> None:
    async with running_up(tmp_path / "home") as up:
        second = await one_shot(tmp_path / "home", "--port", "0")
        told = f"bridle: up: it runs already, as process {up.process.pid}\n"
        assert second == Result(1, "", told)


async def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = await one_shot(tmp_path / "home", "--port", str(port))
    told = f"bridle: up: port {port} of 127.0.0.1 is in use; --port takes another, 0 any\n"
    assert result == Result(1, "", told)


@pytest.mark.parametrize("name", ["file", "n" * 300])
async def test_a_home_that_cannot_be_is_told_with_its_path(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    home = str(tmp_path / name)
    pair = Pair(tmp_path / "home")
    pair.work.mkdir(parents=True)
    result = await pair.cli("up", "--port", "0", BRIDLE_HOME=home)
    told, hint = result.err.splitlines()
    assert (result.code, result.out) == (1, "")
    assert told.startswith(f"bridle: up: {home}")
    assert hint.startswith("hint: ")


async def test_a_store_that_is_none_is_one_line(tmp_path: Path) -> None:
    store = tmp_path / "home" / "control"
    store.mkdir(parents=True)
    (store / "bridle.sqlite3").write_bytes(b"no database" * 1000)
    (tmp_path / "home" / "token").write_text("brt_x")
    result = await one_shot(tmp_path / "home", "--port", "0")
    assert result.code == 1
    assert result.err.startswith("bridle: up: control ended with exit code 1: ")
    assert result.err.count("\n") == 1


async def test_a_public_address_is_refused_unless_it_is_forced(tmp_path: Path) -> None:
    refused = await one_shot(tmp_path / "home", "--port", "0", "--bind", "0.0.0.0")
    assert refused.code == 2
    assert "--insecure-public forces it" in refused.err
    assert not (tmp_path / "home" / "control").exists()
    async with running_up(tmp_path / "home", "--bind", "0.0.0.0", "--insecure-public") as up:
        assert up.ready.startswith("ready grpc=0.0.0.0:")
        assert (await up.pair.cli("health")).out == "SERVING\n"


@pytest.mark.parametrize(("victim", "other"), [("control", "host"), ("host", "control")])
async def test_when_one_service_dies_up_says_so_and_ends_the_other(
    tmp_path: Path, victim: str, other: str
) -> None:
    async with running_up(tmp_path / "home") as up:
        pids = {
            name: next(pid for pid in children(up.process) if f"bridle-{name}" in command_of(pid))
            for name in (victim, other)
        }
        os.kill(pids[victim], signal.SIGKILL)
        result = await finished(up.process)
        assert result.code == 1
        assert result.err.startswith(f"bridle: up: {victim} was ended by signal 9; see ")
        assert not exists(f"/proc/{pids[other]}")


async def test_when_up_itself_is_killed_nothing_stays(tmp_path: Path) -> None:
    async with running_up(tmp_path / "home") as up:
        await up.pair.cli("session", "start", "x", "--agent", "shell", "sleep 71")
        pids = children(up.process)
        assert len(pids) == 2
        up.process.kill()
        await finished(up.process)

        async def gone() -> bool:
            return not any(exists(f"/proc/{pid}") for pid in pids)

        await until(gone, "both services have ended")


async def test_the_tour_in_a_temporary_place_does_what_it_says_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    _, process = await start_up(tmp_path / "home", "--tour", "--temporary")
    result = await finished(process, 3 * PATIENCE)  # of some twenty commands
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("ready grpc=127.0.0.1:")
    assert "$ bridle session interrupt tour --wait\nRAN TURN_INTERRUPTED turn=3\n" in result.out
    assert "| still the same shell: COLOUR is green\n" in result.out
    assert "| resumed: COLOUR is green\n" in result.out
    directory = next(line for line in result.out.splitlines() if line.startswith("directory "))
    assert not exists(directory.split()[1])
    assert not (tmp_path / "home" / "control").exists()


async def test_a_tour_whose_step_does_not_do_what_it_says_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_pair(tmp_path, host=False) as pair:
        monkeypatch.setenv("BRIDLE_HOME", str(pair.home))
        assert Places.find().data == pair.home
        step = tour.Step("Never so.", ("health",), "ON FIRE")
        monkeypatch.setattr(tour, "steps", lambda _: [step])
        assert not await tour.Tour(pair.address).play()
        failing = tour.Step("Nor so.", ("status", "nobody"), "")
        monkeypatch.setattr(tour, "steps", lambda _: [failing])
        assert not await tour.Tour(pair.address).play()
    said = capsys.readouterr()
    assert "$ bridle health\nSERVING\n" in said.out
    assert 'failed at `bridle health`: no "ON FIRE" in its output' in said.err
    assert "failed at `bridle status nobody`: exit code 3" in said.err


# --- traces and metrics ---


async def scrape(address: str) -> str:
    """What Prometheus is told there."""

    def get() -> str:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
            return str(answer.read().decode())

    return await asyncio.to_thread(get)


async def test_prometheus_may_ask_both_services_where_the_ready_line_says(tmp_path: Path) -> None:
    async with running_up(tmp_path / "home", "--metrics-port", "0", "--name", "mine") as up:
        names = [word.partition("=")[0] for word in up.ready.split()]
        assert names == ["ready", "grpc", "http", "host", "metrics", "host-metrics"]
        words = dict(word.split("=") for word in up.ready.split()[1:])
        assert words["host"] == "mine"
        assert "bridle_hosts{" in await scrape(words["metrics"])
        assert "bridle_host_link_connected 1.0\n" in await scrape(words["host-metrics"])


async def test_without_being_asked_nothing_is_told_of_metrics(tmp_path: Path) -> None:
    async with running_up(tmp_path / "home", "--name", "mine") as up:
        names = [word.partition("=")[0] for word in up.ready.split()]
        assert names == ["ready", "grpc", "http", "host"]


@pytest.mark.parametrize("by", ["flag", "environment"])
async def test_what_both_services_do_for_a_request_is_one_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    with collector() as taken:
        more = ["--otlp-endpoint", taken.endpoint] if by == "flag" else []
        if by == "environment":
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", taken.endpoint)
        async with running_up(tmp_path / "home", *more) as up:
            words = ("session", "start", "first", "--agent", "shell", "echo hello")
            assert (await up.pair.cli(*words)).code == 0
            turn = await taken.until(
                lambda: next((span for span in list(taken.spans) if span.name == "turn"), None)
            )
            whole = await taken.until(
                lambda: [span for span in taken.trace(turn.trace_id) if not span.parent_id]
            )
            assert [(span.service, span.name) for span in whole] == [
                ("bridle-control", "bridle.v1.SessionService/StartSession")
            ]
            assert turn.parent_id == whole[0].span_id


async def test_of_the_traces_that_begin_here_a_part_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    with collector() as taken:
        words = ("--otlp-endpoint", taken.endpoint, "--trace-ratio", "0")
        async with running_up(tmp_path / "home", *words) as up:
            cli = up.pair.cli
            await cli("session", "start", "first", "--agent", "shell", "echo hello")
            assert (await cli("wait", "first")).out == "IDLE\n"
            await up.end(signal.SIGINT)
        # (At their end both hand over what they have.)
        services = {point.service for point in taken.points}
        assert services == {"bridle-control", "bridle-host"}
        assert taken.spans == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("--otlp-endpoint", "here:1"),
            "invalid value for '--otlp-endpoint': no URL of a collector",
        ),
        (("--trace-ratio", "1.5"), "invalid value for '--trace-ratio': no number from 0 to 1"),
        (
            ("--metrics-port", "65536"),
            "invalid value for '--metrics-port': 65536 is not in the range 0<=x<=65535",
        ),
    ],
)
async def test_what_is_wrong_with_them_is_one_line_before_anything_starts(
    tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    result = await one_shot(tmp_path / "home", "--port", "0", *words)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"bridle: up: {told}")
    assert result.err.count("\n") == 1
    assert not (tmp_path / "home" / "control").exists()


async def test_a_port_for_metrics_that_is_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = await one_shot(tmp_path / "home", "--port", "0", "--metrics-port", str(port))
    told = f"bridle: up: port {port} of 127.0.0.1 is in use; --metrics-port takes another, 0 any\n"
    assert result == Result(1, "", told)


def test_the_hosts_metrics_are_one_port_above_controls() -> None:
    control, host = Measuring(None, 9464, 0.5).arguments("[::1]")
    assert control == ["--trace-ratio", "0.5", "--metrics-listen", "[::1]:9464"]
    assert host == ["--trace-ratio", "0.5", "--metrics-listen", "[::1]:9465"]
    assert Measuring(None, 65535, None).ports == (65535, 0)
    assert (
        Measuring("http://c", None, None).arguments("::1") == (["--otlp-endpoint", "http://c"],) * 2
    )


def test_the_ready_line_names_metrics_behind_all_else() -> None:
    told = ready_line("ready grpc=h:1 http=h:2 metrics=h:3", "ready host=mine metrics=h:4")
    assert told == "ready grpc=h:1 http=h:2 host=mine metrics=h:3 host-metrics=h:4"
    assert ready_line("ready grpc=h:1", "ready host=mine") == "ready grpc=h:1 host=mine"
