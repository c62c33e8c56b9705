"""What takes long: a connection over which nothing comes any more, though nobody has ended it; a
call that has waited for long when its connection is lost; a control that is away for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

import pytest
import pytest_asyncio

from scripts.client_tools import MissingError
from tests.clients.conftest import chosen
from tests.clients.runners import Answer, Language, Runner, built, running
from tests.clients.test_calls import ref, start, text
from tests.clients.test_credentials import pending
from tests.clients.test_restart import AWAY
from tests.pair import PATIENCE, Pair
from tests.robustness.fault_proxy import FaultProxy, fault_proxy

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

#: Seconds, at most: control says something every 15 s, and 30 s without a word are a loss.
NOTICED = 90.0
#: Seconds, longer than a call that asks for no wait is tried; and what the call asks for.
LONG, WAIT = 31.0, "45s"

#: Seconds for which nobody can be reached, and the longest between two tries: 6 s, and for as long
#: a client and who looks at it may stand still. Left to itself gRPC would pause for 21 s or more by
#: then, and for minutes in the end.
AWAY_LONG, BETWEEN = 75.0, 20.0

#: What came of a client's three stories.
Outcomes = Sequence[BaseException | None]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def found(
    pair: Pair, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, BaseException | Outcomes]:
    """What came of each client; all at once, since most of it is waiting."""

    async def stories(language: Language) -> Outcomes:
        async with running(language, tmp_path_factory.mktemp("runner")) as runner:
            address = pair.http if language.over_http else pair.address
            await runner.dial("c", address, pair.token)
            async with (
                fault_proxy(address) as silent,
                fault_proxy(address) as lost,
                fault_proxy(address) as away,
            ):
                await runner.dial("far", silent.address, pair.token)
                await runner.dial("long", lost.address, pair.token)
                await runner.dial("away", away.address, pair.token)
                return await asyncio.gather(
                    silent_and_back(runner, silent),
                    lost_while_it_waits(runner, lost),
                    away_and_back(runner, away),
                    return_exceptions=True,
                )

    for language in chosen():
        with suppress(MissingError):
            built(language)  # One after the other: it stops the loop.
    outcomes = await asyncio.gather(*map(stories, chosen()), return_exceptions=True)
    return {each.name: outcome for each, outcome in zip(chosen(), outcomes, strict=True)}


async def silent_and_back(runner: Runner, proxy: FaultProxy) -> None:
    slug = await start(runner)
    number = runner.watch(slug, client="far")
    seen: list[Answer] = []
    await until(runner, number, seen, "event")
    proxy.stall()
    await runner.call("Send", ref(slug) | text("say meanwhile"))
    await until(runner, number, seen, "disconnected", NOTICED)
    proxy.heal()
    while "agentMessage" not in seen[-1]:
        await until(runner, number, seen, "event")
    assert [int(each["sequence"]) for each in seen] == list(range(1, len(seen) + 1))
    await runner.cancel(number)


async def lost_while_it_waits(runner: Runner, proxy: FaultProxy) -> None:
    slug, command = await pending(runner)
    assert "session" in await runner.call("GetSession", ref(slug), client="long")
    asked = {"commandId": command, "wait": WAIT}
    number = runner.begin("call", "GetCommand", asked, client="long", timeout=NOTICED)
    await asyncio.sleep(LONG)
    proxy.refuse()
    proxy.reset_now()
    await asyncio.sleep(AWAY)
    proxy.heal()
    await runner.call("Kill", ref(slug))
    answer = await runner.next(number, NOTICED)
    assert "response" in answer, answer


async def away_and_back(runner: Runner, proxy: FaultProxy) -> None:
    number = runner.watch(await start(runner), client="away")
    await until(runner, number, [], "connected")
    proxy.refuse()
    loop = asyncio.get_running_loop()
    began = last = loop.time()
    tries = proxy.refused
    while loop.time() - began < AWAY_LONG:
        await asyncio.sleep(0.1)
        if proxy.refused != tries:
            tries, last = proxy.refused, loop.time()
        assert loop.time() - last < BETWEEN, f"after {last - began:.0f} s, {tries} tries"
    proxy.heal()
    await until(runner, number, [], "connected")
    await runner.cancel(number)


async def until(
    runner: Runner, number: str, seen: list[Answer], wanted: str, within: float = PATIENCE
) -> None:
    """Until an answer of a kind, each in so many seconds; events are kept."""
    while True:
        answer = await runner.next(number, within)
        assert not answer.keys() & {"end", "error"}, answer
        if "event" in answer:
            seen.append(answer["event"])
        if wanted in answer:
            return


@pytest.mark.parametrize("language", chosen(), ids=lambda language: language.name)
async def test_a_watch_notices_that_its_connection_fell_silent_and_goes_on_over_another(
    language: Language, found: Mapping[str, BaseException | Outcomes]
) -> None:
    tell(language, found, 0)


@pytest.mark.parametrize("language", chosen(), ids=lambda language: language.name)
async def test_a_call_that_asked_for_a_long_wait_outlives_the_connection_that_it_waited_on(
    language: Language, found: Mapping[str, BaseException | Outcomes]
) -> None:
    tell(language, found, 1)


@pytest.mark.parametrize("language", chosen(), ids=lambda language: language.name)
async def test_a_watch_looks_for_control_every_few_seconds_however_long_it_is_away(
    language: Language, found: Mapping[str, BaseException | Outcomes]
) -> None:
    tell(language, found, 2)


def tell(language: Language, found: Mapping[str, BaseException | Outcomes], story: int) -> None:
    """Fails or skips where the client's story did."""
    outcomes = found[language.name]
    outcome = outcomes if isinstance(outcomes, BaseException) else outcomes[story]
    if isinstance(outcome, MissingError):
        pytest.skip(f"{language.name}: {outcome}")
    if outcome is not None:
        raise outcome
