"""Control and the host die in the middle of a real agent's turn: nothing that it said is lost."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

import pytest

from tests.agents.talk import COMPLETED, Talk, World
from tests.model_server import gate, pace, say
from tests.pair import Pair
from tests.scenarios.support import RAN

Death = Callable[[Pair], Awaitable[None]]


async def kill_control(pair: Pair) -> None:
    await pair.restart_control()


async def kill_host(pair: Pair) -> None:
    await pair.end_host(signal.SIGKILL)
    await pair.start_host()


DEATHS = pytest.mark.parametrize(
    "death", [kill_control, kill_host], ids=("of-control", "of-the-host")
)


async def says_all(talk: Talk, tag: str) -> None:
    """The transcript of a turn is what the model sent, each message once."""
    assert (await talk.ends(tag)).stop_reason == COMPLETED
    assert talk.messages(tag, partial=True) == talk.model.said(tag)


@DEATHS
@pytest.mark.short
async def test_a_death_in_mid_text_costs_nothing_of_the_turn(world: World, death: Death) -> None:
    async with world.talk() as talk:
        await talk.send("T1", say(3), gate("go"), pace(2), say(200))
        await world.model.sent("T1", 3)
        await death(world.pair)
        world.model.open("go")
        await says_all(talk, "T1")
        await talk.say("T2")
        await says_all(talk, "T2")
        assert len(world.model.of("T1")) == len(world.model.of("T2")) == 1
        assert talk.replacements == 0


@DEATHS
async def test_what_the_agent_says_while_nobody_hears_it_is_told_later(
    world: World, death: Death
) -> None:
    async with world.talk() as talk:
        await talk.send("T1", say(2), gate("go"), say(50))
        await world.model.sent("T1", 2)
        # Dead until the agent has said all.
        pair = world.pair
        if death is kill_control:
            await pair.end_control(signal.SIGKILL)
        else:
            await pair.end_host(signal.SIGKILL)
        world.model.open("go")
        await world.model.until(lambda: len(world.model.said("T1")) == 1)
        if death is kill_control:
            await pair.start_control()
        else:
            await pair.start_host()
        await says_all(talk, "T1")


@DEATHS
async def test_an_interrupt_behind_a_death_hits_the_turn_that_is_on(
    world: World, death: Death
) -> None:
    async with world.talk() as talk:
        await talk.send("T1", say(3), gate("never"), say(2))
        await world.model.sent("T1", 3)
        await death(world.pair)
        receipt = await talk.interrupt()
        assert (receipt.outcome.state, receipt.outcome.turn) == (RAN, 1)
        await talk.ends("T1")
        await talk.say("T2")
        await says_all(talk, "T2")
        assert talk.replacements == 0


@DEATHS
async def test_what_was_sent_around_a_death_runs_once(world: World, death: Death) -> None:
    async with world.talk() as talk:
        await talk.send("T1", say(3), gate("go"), say(2))
        await world.model.sent("T1", 3)
        await talk.send("T2", say(4))
        await death(world.pair)
        await talk.send("T3", say(4))
        world.model.open("go")
        for tag in ("T1", "T2", "T3"):
            await says_all(talk, tag)
            assert len(world.model.of(tag)) == 1
