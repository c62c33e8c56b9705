"""Spans of runs that end without a word, or go on elsewhere: each that was begun is told once."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridle_core.observations import ToolStarted
from tests.bridle_host.sessions_support import SESSION
from tests.bridle_host.telemetry_support import (
    CALLER,
    FAKE,
    TRACE,
    finish,
    measured,
    named,
    only,
    parent,
    place,
    up,
)
from tests.fakes.driver import FakeFactory
from tests.support.collector import collector


def lose_the_journal(place: Path) -> None:
    for file in place.glob("journal*"):
        file.unlink()


async def test_the_start_of_an_agent_that_another_process_goes_on_with_is_told_by_the_first(
    tmp_path: Path,
) -> None:
    factory = FakeFactory(made=lambda driver: driver.gate.clear())
    with collector() as taken:
        async with measured(tmp_path, {FAKE: factory}, taken.endpoint) as host:
            host.trace = place()
            await host.start()
            await (await factory.driver()).called("start")
            await host.sessions.detach_all()
        begun = only(taken, "start agent")
        assert parent(begun) == (TRACE, only(taken, "command START").span_id)
        assert not begun.error


async def test_a_turn_that_is_killed_without_a_word_to_control_is_an_error_with_all_inside_of_it(
    tmp_path: Path,
) -> None:
    factory = FakeFactory()
    with collector() as taken:
        async with measured(tmp_path, {FAKE: factory}, taken.endpoint) as host:
            driver = await up(host, factory)
            host.trace = place()
            await host.outcome(await host.send("hello"))
            driver.tell(ToolStarted("t", "Bash"))
            await host.event("tool_call_started")
            # Control has given the run up meanwhile.
            await host.sessions.kill_stale(SESSION, 1)
        turn, call = only(taken, "turn"), only(taken, "tool call")
        assert parent(turn) == (TRACE, CALLER)
        assert call.parent_id == turn.span_id
        assert turn.error
        assert "bridle.stop_reason" not in turn.attributes


@pytest.mark.usefixtures("held")
async def test_a_turn_that_was_open_when_the_journal_was_lost_is_told_as_control_ends_it(
    tmp_path: Path,
) -> None:
    factory = FakeFactory()
    with collector() as taken:
        async with measured(tmp_path, {FAKE: factory}, taken.endpoint) as host:
            await up(host, factory)
            host.trace = place()
            await host.outcome(await host.send("first"))
            await host.sessions.detach_all()
        lose_the_journal(tmp_path)
        for _ in range(2):  # and once more: it is told once
            factory = FakeFactory()
            async with measured(tmp_path, {FAKE: factory}, taken.endpoint) as host:
                await (await factory.driver()).called("read_on")
                await host.sessions.detach_all()
        turn = only(taken, "turn")
        assert parent(turn) == (TRACE, CALLER)
        assert turn.error
        assert turn.attributes["bridle.turn"] == 1
        assert turn.attributes["bridle.stop_reason"] == "HOST_STATE_LOST"
        # What comes after it is a turn of its own.
        assert len(named(taken, "turn")) == 1


@pytest.mark.usefixtures("held")
async def test_a_turn_that_is_left_to_the_next_process_is_not_told_by_the_first(
    tmp_path: Path,
) -> None:
    factory = FakeFactory()
    with collector() as taken:
        async with measured(tmp_path, {FAKE: factory}, taken.endpoint) as host:
            driver = await up(host, factory)
            await host.outcome(await host.send("hello"))
            driver.tell(ToolStarted("t", "Bash"))
            await host.event("tool_call_started")
            await host.sessions.detach_all()
        assert named(taken, "turn") == []
        factory = FakeFactory()
        async with measured(tmp_path, {FAKE: factory}, taken.endpoint) as host:
            driver = await factory.driver()
            await driver.called("read_on")
            await finish(host, driver)
        assert not only(taken, "turn").error
