"""A watch over restarts of control, for which each client gets a pair of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.client_tools import MissingError
from tests.clients.conftest import chosen
from tests.clients.runners import Answer, Language, Runner, running
from tests.clients.test_calls import phase_is, ref, start, text
from tests.clients.test_watching import events_of, parsed, until_end
from tests.pair import Pair, running_pair

pytestmark = pytest.mark.timeout(240)


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


async def keep(runner: Runner, number: str, seen: list[Answer], wanted: str) -> None:
    """Waits for an answer of a kind; events before it are kept."""
    while True:
        answer = await runner.next(number)
        if "event" in answer:
            seen.append(answer["event"])
        if wanted in answer:
            return
        assert not answer.keys() & {"end", "error"}, answer
