"""What is measured of a host: a driver that the test plays, asked as Prometheus asks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle_core.observations import (
    Checkpoint,
    ProcessGone,
    StopReason,
    ToolOutput,
    ToolStarted,
    TurnOver,
)
from bridle_host import metrics
from bridle_host.run_files import RunFiles
from tests.bridle_host.journal_support import until
from tests.bridle_host.sessions_support import SESSION, Host
from tests.bridle_host.telemetry_support import measured, scraped
from tests.fakes.driver import FakeDriver, FakeFactory

FAKE = "fake"
ROOT = Path(__file__).resolve().parents[2]
HERE = "127.0.0.1:0"

PHASES = ("STARTING", "IDLE", "RUNNING", "WAITING", "STOPPING")


async def phases(host: Host) -> dict[str, int]:
    """How many sessions are in each phase, but for those in which none is."""
    seen = await scraped(host.metrics_address)
    found = {p: int(seen[f'bridle_host_sessions{{bridle_phase="{p}"}}']) for p in PHASES}
    return {phase: number for phase, number in found.items() if number}


async def value(host: Host, name: str, **labels: str) -> float:
    """One metric; 0 where it was never told of."""
    text = ",".join(f'bridle_{key}="{value}"' for key, value in sorted(labels.items()))
    seen = await scraped(host.metrics_address)
    return seen.get(f"bridle_host_{name}{{{text}}}" if text else f"bridle_host_{name}", 0.0)


async def up(host: Host, factory: FakeFactory) -> FakeDriver:
    await host.start()
    driver = await factory.driver()
    await host.event("process_started")
    return driver


async def test_sessions_are_counted_by_their_phase_until_they_are_gone(tmp_path: Path) -> None:
    factory = FakeFactory(plays=False)
    async with measured(tmp_path, {FAKE: factory}, None, metrics_listen=HERE) as host:
        assert await phases(host) == {}
        await host.outcome(await host.start())
        assert await phases(host) == {"STARTING": 1}
        factory.plays = True
        await host.outcome(await host.start("other"))
        await host.event("process_started", session_id="other")
        await host.outcome(await host.send("x", session_id="other"))
        assert await phases(host) == {"STARTING": 1, "RUNNING": 1}
        assert await value(host, "agents", agent=FAKE) == 1
        await host.outcome(await host.kill("other"))
        await until(lambda: len(host.sessions.inventory()) == 1)
        assert await phases(host) == {"STARTING": 1}
        assert await value(host, "agents", agent=FAKE) == 0


async def test_commands_are_counted_when_they_are_decided(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with measured(tmp_path, {FAKE: factory}, None, metrics_listen=HERE) as host:
        await up(host, factory)
        sent = {"outcome_reason": "TURN_STARTED", "outcome_state": "RAN", "verb": "SEND"}
        await host.outcome(await host.send("first"))
        waits = await host.send("second", input_id="i-2")
        await host.answer(waits)
        assert await value(host, "commands_total", **sent) == 1
        # How long it took to say that it waits.
        assert await value(host, "command_duration_seconds_count", verb="SEND") == 2
        cancel = await host.command(cancel=host_pb.CancelInput(input_id="i-2"))
        await host.outcome(cancel)
        cancelled = sent | {"outcome_reason": "CANCELLED", "outcome_state": "NOT_RUN"}
        assert await value(host, "commands_total", **cancelled) == 1
        await host.outcome(await host.start("other", agent="nobody"))
        refused = {"outcome_reason": "REFUSED", "outcome_state": "NOT_RUN", "verb": "START"}
        assert await value(host, "commands_total", **refused) == 1


async def test_a_repeat_of_a_command_is_not_counted(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with measured(tmp_path, {FAKE: factory}, None, metrics_listen=HERE) as host:
        await up(host, factory)
        for count in (1, 2, 3):
            await host.command(command_id="again", interrupt=host_pb.InterruptTurn())
            await host.answer("again", count)
        told = {"outcome_reason": "NO_TURN", "outcome_state": "RAN", "verb": "INTERRUPT"}
        assert await value(host, "commands_total", **told) == 1
        assert await value(host, "command_duration_seconds_count", verb="INTERRUPT") == 1


async def test_turns_are_measured_by_how_they_end(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with measured(tmp_path, {FAKE: factory}, None, metrics_listen=HERE) as host:
        driver = await up(host, factory)
        assert await value(host, "agent_start_duration_seconds_count", agent=FAKE) == 1
        for turn in (1, 2):
            await host.outcome(await host.send("x"))
            driver.tell(TurnOver(StopReason.COMPLETED))
            await host.event("turn_ended", turn)
        await host.outcome(await host.send("x"))
        driver.tell(ProcessGone(4242, signal=9))
        await host.event("session_ended")
        name = "turn_duration_seconds_count"
        assert await value(host, name, agent=FAKE, stop_reason="COMPLETED") == 2
        assert await value(host, name, agent=FAKE, stop_reason="AGENT_LOST") == 1


async def test_what_waits_in_the_journal_is_seen_and_what_agents_put_out(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with measured(tmp_path, {FAKE: factory}, None, metrics_listen=HERE) as host:
        driver = await up(host, factory)
        await host.outcome(await host.send("x"))
        driver.tell_group(ToolStarted("t", "bash"), ToolOutput("t", b"hi"), Checkpoint(b"", 400))
        await host.event("tool_call_output")
        driver.tell_group(ToolOutput("t", b"ho"), Checkpoint(b"", 700))
        driver.tell(TurnOver(StopReason.COMPLETED))
        await host.event("turn_ended")
        assert await value(host, "agent_output_bytes_total", agent=FAKE) == 700
        journal = host.journal
        assert await value(host, "journal_entries") == journal.last_sequence > 5
        assert await value(host, "journal_size_bytes") == journal.size > 100
        assert await value(host, "journal_pressed") == 0
        assert await value(host, "journal_commit_duration_seconds_count") >= 3
        journal.acknowledge(journal.last_sequence)
        assert await value(host, "journal_entries") == 0
        assert await value(host, "journal_size_bytes") == 0


async def test_a_journal_without_room_is_seen(tmp_path: Path) -> None:
    factory = FakeFactory()
    small = {"cap_bytes": 1}
    async with measured(
        tmp_path, {FAKE: factory}, None, metrics_listen=HERE, journal=small
    ) as host:
        await up(host, factory)
        assert await value(host, "journal_pressed") == 1


async def test_what_is_taken_over_is_counted_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def always(files: RunFiles) -> bool:
        return True

    monkeypatch.setattr("bridle_host.sessions._held", always)
    factory = FakeFactory()
    async with measured(tmp_path, {FAKE: factory}, None, metrics_listen=HERE) as host:
        driver = await up(host, factory)
        await host.outcome(await host.send("x"))
        driver.tell_group(ToolStarted("t", "bash"), Checkpoint(b"", 400))
        await host.event("tool_call_started")
        await host.sessions.detach_all()
        assert await phases(host) == {}
        assert await value(host, "agents", agent=FAKE) == 0
    factory = FakeFactory()
    async with measured(tmp_path, {FAKE: factory}, None, metrics_listen=HERE) as host:
        driver = await factory.driver()
        await driver.called("read_on")
        assert await phases(host) == {"RUNNING": 1}
        assert await value(host, "agents", agent=FAKE) == 1
        driver.tell_group(ToolOutput("t", b"hi"), Checkpoint(b"", 450))
        driver.tell(TurnOver(StopReason.COMPLETED))
        await host.event("turn_ended")
        name = "turn_duration_seconds_count"
        assert await value(host, name, agent=FAKE, stop_reason="COMPLETED") == 1
        assert await value(host, "agent_output_bytes_total", agent=FAKE) == 50
        # The command was the earlier process's.
        seen = await scraped(host.metrics_address)
        assert not any("commands_total" in key for key in seen)


async def test_nobody_who_uses_a_host_can_make_more_of_its_metrics(tmp_path: Path) -> None:
    factory = FakeFactory()
    async with measured(tmp_path, {FAKE: factory}, None, metrics_listen=HERE) as host:
        before: set[str] = set()
        for number in range(3):
            mine = f"swordfish-{number}"
            await host.outcome(await host.start(mine, slug=mine, workspace=mine, agent=FAKE))
            driver = await factory.driver(number + 1)
            await host.event("process_started", session_id=mine)
            await host.outcome(await host.send(mine, session_id=mine, input_id=mine))
            driver.tell(ToolStarted(mine, mine), TurnOver(StopReason.COMPLETED, 1, mine))
            await host.event("turn_ended", session_id=mine)
            await host.outcome(await host.start(f"no-{mine}", agent=mine))
            seen = {key for key in await scraped(host.metrics_address) if "bridle" in key}
            assert not any("swordfish" in key or SESSION in key for key in seen)
            assert not before or seen == before
            before = seen


def test_every_metric_stands_in_the_manual() -> None:
    source = Path(metrics.__file__).read_text()
    names = set(re.findall(r'"(bridle\.host\.[a-z.]+)"', source))
    names |= {
        f"bridle.host.{name}" for name in re.findall(r'_gauge\(\s*meter,\s*"([a-z.]+)"', source)
    }
    assert len(names) >= 12
    manual = (ROOT / "docs" / "operating.md").read_text()
    assert names == set(re.findall(r"^\| `(bridle\.host\.[a-z.]+)` \|", manual, re.MULTILINE))
