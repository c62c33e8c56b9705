"""A watch over restarts of control, for which each client gets a pair of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from scripts.client_tools import MissingError
from tests.clients.conftest import chosen
from tests.clients.runners import Answer, Language, Runner, running
from tests.clients.test_calls import phase_is, ref, start, text
from tests.clients.test_watching import events_of, parsed, until_end
from tests.pair import Pair, running_pair

pytestmark = pytest.mark.timeout(240)

#: Seconds without control; five tries are over within two.
AWAY = 4.0


@pytest.mark.parametrize("language", chosen(), ids=lambda language: language.name)
async def test_a_watch_runs_on_while_control_is_killed_and_started_again(
    language: Language, tmp_path: Path
) -> None:
    async with running_pair(
        tmp_path, gateway=True, control_arguments=("--http-origin", "*")
    ) as pair:
        try:
            async with running(language, tmp_path) as runner:
                await runner.dial(
                    "c", pair.http if language.over_http else pair.address, pair.token
                )
                await watch_over_restarts(runner, pair)
        except MissingError as why:
            pytest.skip(f"{language.name}: {why}")


async def watch_over_restarts(runner: Runner, pair: Pair) -> None:
    """Three times control dies by SIGKILL while a watch is open and the agent goes on talking."""
    slug = await start(runner)
    number = runner.watch(slug, until="WATCH_UNTIL_RUN_END")
    seen: list[Answer] = []
    for step in range(3):
        await keep(runner, number, seen, "connected")
        await runner.call("Send", ref(slug) | text(f"say repeat=200 step {step}"))
        await pair.restart_control()
        await keep(runner, number, seen, "disconnected")
    await keep(runner, number, seen, "connected")
    sent = await runner.call("Send", ref(slug) | text("say last"))
    assert "receipt" in sent, sent
    await phase_is(runner, slug, "IDLE")
    await runner.call("Stop", ref(slug))
    rest, end = await until_end(runner, number)
    assert end == {"end": True}
    seen += rest
    assert [int(each["sequence"]) for each in seen] == list(range(1, len(seen) + 1))
    assert len(seen) > 600
    assert parsed(seen) == await events_of(pair, slug)


@pytest.mark.parametrize("language", chosen(), ids=lambda language: language.name)
async def test_a_call_waits_for_a_control_that_answered_before_and_is_away_for_seconds(
    language: Language, tmp_path: Path
) -> None:
    async with running_pair(
        tmp_path, gateway=True, host=False, control_arguments=("--http-origin", "*")
    ) as pair:
        try:
            async with running(language, tmp_path) as runner:
                address = pair.http if language.over_http else pair.address
                await runner.dial("c", address, pair.token)
                await call_while_control_is_away(runner, pair)
        except MissingError as why:
            pytest.skip(f"{language.name}: {why}")


async def call_while_control_is_away(runner: Runner, pair: Pair) -> None:
    """Longer than five tries take."""
    assert "error" not in await runner.call("ListSessions", {})
    await pair.end_control()
    async with asyncio.TaskGroup() as group:
        call = group.create_task(runner.call("ListSessions", {}))
        await asyncio.sleep(AWAY)
        assert not call.done(), call.result()
        await pair.start_control()
    assert "error" not in call.result(), call.result()


async def keep(runner: Runner, number: str, seen: list[Answer], wanted: str) -> None:
    """Waits for an answer of a kind; events before it are kept."""
    while True:
        answer = await runner.next(number)
        if "event" in answer:
            seen.append(answer["event"])
        if wanted in answer:
            return
        assert not answer.keys() & {"end", "error"}, answer
