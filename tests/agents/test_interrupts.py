"""Interrupts of real agents: the turn ends, its tools are gone, the agent lives and remembers."""

from __future__ import annotations

import asyncio
import os
import random
import time
from functools import partial

import pytest

from bridle.v1 import receipt_pb2
from tests.agents.talk import COMPLETED, INTERRUPTED, Talk, World, gone, running
from tests.model_server import gate, hang, pace, say, tool
from tests.pair import until
from tests.support.pace import paced

INTERRUPTS = int(os.environ.get("TEST_INTERRUPTS", "8"))
SEED = int(os.environ.get("TEST_SEED", "1"))

#: Seconds after an interrupt within which the processes of its turn are gone, on a quiet machine.
GONE = 2.0


async def goes_on(talk: Talk, tag: str, before: list[str]) -> None:
    """The agent takes the next turn, and tells the model a history that a model can take."""
    assert (await talk.say(tag)).stop_reason == COMPLETED
    assert talk.messages(tag) == talk.model.said(tag)
    request = talk.model.of(tag)[-1].request
    assert request.tags == [*before, tag]
    assert request.dangling == []


@pytest.mark.short
async def test_an_interrupt_in_mid_text_ends_the_turn_and_the_next_goes_on_from_there(
    world: World,
) -> None:
    async with world.talk() as talk:
        await talk.say("T1")
        await talk.send("T2", say(3), gate("go"), say(2))
        await world.model.sent("T2", 3)
        if world.profile.live:
            await talk.until(lambda: b"T2.1 T2.2 T2.3" in talk.live.values(), "the text so far")
        assert (await talk.interrupt()).outcome.reason == (
            receipt_pb2.OUTCOME_REASON_TURN_INTERRUPTED
        )
        assert (await talk.ends("T2")).stop_reason == INTERRUPTED
        await world.model.until(lambda: world.model.of("T2")[-1].over)
        world.model.open("go")
        if world.profile.live:
            # What it said before is kept, as what it is.
            assert talk.messages("T2", partial=True) == ["T2.1 T2.2 T2.3"]
            assert talk.messages("T2") == []
        await goes_on(talk, "T3", ["T1", "T2"])
        assert talk.replacements == 0


async def test_an_interrupt_reaches_an_agent_whose_model_says_nothing(world: World) -> None:
    async with world.talk() as talk:
        await talk.send("T1", hang())
        await world.model.asked("T1")
        await talk.interrupt()
        assert (await talk.ends("T1")).stop_reason == INTERRUPTED
        await goes_on(talk, "T2", ["T1"])
        assert talk.replacements == 0


@pytest.mark.short
async def test_an_interrupt_in_mid_tool_takes_the_tools_processes_along(world: World) -> None:
    async with world.talk() as talk:
        daemon, own, child, foreground = sleepers = world.sleepers(4)
        # The first has left its session and its parents: no agent finds that one by itself.
        command = f"(setsid {daemon} &); setsid {own} & {child} & {foreground}"
        await talk.send("T1", say(1), tool(command), say(1))
        await talk.tool_starts("T1")
        for sleeper in sleepers:
            await until(partial(running, sleeper), f"{sleeper} runs")
        began = time.monotonic()
        await talk.interrupt()
        assert (await talk.ends("T1")).stop_reason == INTERRUPTED
        for sleeper in sleepers:
            await until(partial(gone, sleeper), f"{sleeper} is gone")
        assert time.monotonic() - began < paced(GONE)
        await goes_on(talk, "T2", ["T1"])
        assert talk.replacements == 0


async def test_an_interrupt_ends_a_tool_that_is_deaf_to_signals(world: World) -> None:
    async with world.talk() as talk:
        [sleeper] = world.sleepers(1)
        deaf = f"trap '' INT TERM HUP; echo deaf; for i in 1 2 3 4 5 6; do {sleeper}; done"
        await talk.send("T1", tool(deaf), say(1))
        await talk.tool_starts("T1")
        await until(partial(running, sleeper), "the tool runs")
        await talk.interrupt()
        assert (await talk.ends("T1")).stop_reason == INTERRUPTED
        await until(partial(gone, sleeper), "the tool is gone")
        await goes_on(talk, "T2", ["T1"])


async def test_what_waits_runs_after_an_interrupt(world: World) -> None:
    async with world.talk() as talk:
        await talk.send("T1", say(2), gate("never"), say(2))
        await world.model.sent("T1", 2)
        await talk.send("T2", say(2))
        await talk.interrupt()
        assert (await talk.ends("T1")).stop_reason == INTERRUPTED
        assert (await talk.ends("T2")).stop_reason == COMPLETED
        assert talk.messages("T2") == world.model.said("T2")
        assert len(world.model.of("T2")) == 1


@pytest.mark.short
@pytest.mark.timeout(900)
async def test_nothing_of_a_turn_follows_its_interrupt_at_whatever_moment_it_comes(
    world: World,
) -> None:
    """TEST_INTERRUPTS moments drawn from TEST_SEED, from none after the send on.

    `World.talk` judges at the end: by the tags that the model put on its words.
    """
    chance = random.Random(f"{SEED} {world.profile.name}")
    [sleeper] = world.sleepers(1)
    async with world.talk() as talk:
        await talk.say("warm")
        hit = 0
        for number in range(INTERRUPTS):
            tag = f"R{number}"
            steps = [pace(4), say(20)]
            if number % 3 == 2:
                steps = [pace(2), say(5), tool(f"echo begun; {sleeper}"), say(3)]
            await talk.send(tag, *steps)
            # A moment is what is drawn here; nothing is waited for.
            await asyncio.sleep(0 if number % 5 == 0 else chance.uniform(0, 0.25))
            receipt = await talk.interrupt()
            if receipt.outcome.reason == receipt_pb2.OUTCOME_REASON_TURN_INTERRUPTED:
                assert (await talk.ends(tag)).stop_reason == INTERRUPTED
                hit += 1
            elif receipt.outcome.reason != receipt_pb2.OUTCOME_REASON_INPUT_CANCELLED:
                # It came too late, or before the turn was known: then that turn runs to its end.
                await talk.interrupt()
                await talk.ends(tag)
        assert hit > INTERRUPTS // 3
        assert (await talk.say("last", 3)).stop_reason == COMPLETED
        assert talk.messages("last") == world.model.said("last")
        assert world.model.of("last")[-1].request.dangling == []
        await until(partial(gone, sleeper), "the tools are gone")
