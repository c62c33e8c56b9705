"""Jobs in the background of agents that know such: what outlives its turn, and what comes of it."""

from __future__ import annotations

from functools import partial

import pytest

from bridle.v1 import event_pb2
from tests.agents.talk import COMPLETED, INTERRUPTED, World, gone, running
from tests.model_server import call, gate, say
from tests.model_server.script import Step
from tests.pair import until

pytestmark = pytest.mark.needs("jobs")


def job(command: str) -> Step:
    """The shell tool, told not to wait."""
    arguments = {"command": command, "description": "a job", "run_in_background": True}
    return call("Bash", arguments)


async def test_a_job_that_ends_begins_a_turn_of_the_agents_own(world: World) -> None:
    async with world.talk() as talk:
        free = world.work / "free"
        hold = f"until test -e {free}; do sleep 0.05; done"
        await talk.send("T1", job(hold), say(1))
        assert (await talk.ends("T1")).stop_reason == COMPLETED
        free.touch()
        await talk.until(lambda: len(talk.of("turn_ended")) == 2, "it looks at what came of it")
        [_, own] = talk.of("turn_started")
        assert own.turn_started.trigger == event_pb2.TURN_TRIGGER_AGENT
        assert not own.turn_started.input_ids
        [ended] = talk.of("turn_ended", own.turn)
        assert ended.turn_ended.stop_reason == COMPLETED
        assert talk.of("agent_message", own.turn)
        notes = [e.diagnostic.message for e in talk.of("diagnostic")]
        assert any("a job" in note and "completed" in note for note in notes)
        assert (await talk.say("T2")).stop_reason == COMPLETED
        assert talk.messages("T2") == world.model.said("T2")


async def test_an_interrupt_takes_the_jobs_of_its_turn_and_those_of_others_if_it_is_told_to(
    world: World,
) -> None:
    async with world.talk() as talk:
        old, new = world.sleepers(2)
        await talk.send("T1", job(f"{old}; true"), say(1))
        assert (await talk.ends("T1")).stop_reason == COMPLETED
        await until(partial(running, old), "the first job runs")
        await talk.send("T2", job(f"{new}; true"), say(1), gate("never"))
        await until(partial(running, new), "the second job runs")
        await world.model.sent("T2", 1)
        await talk.interrupt()
        assert (await talk.ends("T2")).stop_reason == INTERRUPTED
        await until(partial(gone, new), "the second job is gone")
        assert await running(old)
        await talk.send("T3", say(1), gate("never"))
        await world.model.sent("T3", 1)
        await talk.interrupt(include_background=True)
        assert (await talk.ends("T3")).stop_reason == INTERRUPTED
        await until(partial(gone, old), "the first job is gone")
        assert (await talk.say("T4")).stop_reason == COMPLETED
        assert talk.replacements == 0
