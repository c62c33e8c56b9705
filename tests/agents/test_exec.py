"""Real agents by their command line alone: a process for each turn, one conversation."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from bridle.v1 import event_pb2, session_pb2
from tests.agents.profiles import BY_COMMAND
from tests.agents.talk import COMPLETED, FAILED, INTERRUPTED, Talk, World, gone, running
from tests.model_server import gate, say, tool
from tests.pair import until
from tests.scenarios.support import RAN

assert BY_COMMAND, "the suite's conftest takes these profiles for this module"

NATIVE = event_pb2.RESUME_MODE_NATIVE


def words(talk: Talk, tag: str) -> str:
    """What a turn said, in however many messages."""
    return "".join(talk.messages(tag)).strip()


async def test_each_turn_knows_what_was_said_in_those_before(world: World) -> None:
    async with world.talk() as talk:
        for number in (1, 2, 3):
            assert (await talk.say(f"T{number}")).stop_reason == COMPLETED
            assert words(talk, f"T{number}") == f"T{number}.1 T{number}.2"
        seen = world.model.of("T3")[-1].request
        assert seen.tags == ["T1", "T2", "T3"]
        assert len(talk.of("process_started")) == 1


async def test_a_tool_of_the_agents_own_runs_in_the_sessions_directory(world: World) -> None:
    async with world.talk() as talk:
        await talk.send("T1", say(1), tool("echo made > here"), say(1))
        assert (await talk.ends("T1")).stop_reason == COMPLETED
        assert (world.work / "here").read_text() == "made\n"


async def test_an_interrupt_in_mid_text_leaves_a_conversation_that_goes_on(world: World) -> None:
    async with world.talk() as talk:
        await talk.say("T1")
        await talk.send("T2", say(3), gate("go"), say(2))
        await world.model.sent("T2", 3)
        assert (await talk.interrupt()).outcome.state == RAN
        assert (await talk.ends("T2")).stop_reason == INTERRUPTED
        world.model.open("go")
        assert (await talk.say("T3")).stop_reason == COMPLETED
        seen = world.model.of("T3")[-1].request
        assert (seen.tags[0], seen.tags[-1]) == ("T1", "T3")
        assert seen.dangling == []
        assert len(talk.of("process_started")) == 1


async def test_an_interrupt_in_mid_tool_takes_the_tools_processes_along(world: World) -> None:
    async with world.talk() as talk:
        own, child, foreground = sleepers = world.sleepers(3)
        await talk.send("T1", say(1), tool(f"setsid {own} & {child} & {foreground}"), say(1))
        for sleeper in sleepers:
            await until(partial(running, sleeper), f"{sleeper} runs")
        await talk.interrupt()
        assert (await talk.ends("T1")).stop_reason == INTERRUPTED
        for sleeper in sleepers:
            await until(partial(gone, sleeper), f"{sleeper} is gone")
        assert (await talk.say("T2")).stop_reason == COMPLETED


async def test_a_resume_goes_on_with_the_agents_own_conversation(world: World) -> None:
    async with world.talk() as talk:
        await talk.say("T1")
        await talk.outcome((await talk.client.stop(talk.slug)).receipt)
        await talk.until(lambda: talk.ended(1) is not None, "the run ends")
        await talk.client.resume(talk.slug)
        await talk.idle(2)
        assert talk.of("session_resumed")[-1].session_resumed.mode == NATIVE
        assert (await talk.say("T2")).stop_reason == COMPLETED
        assert world.model.of("T2")[-1].request.tags == ["T1", "T2"]


async def test_a_conversation_that_the_agent_lost_fails_the_turn_in_its_own_words(
    world: World,
) -> None:
    async with world.talk() as talk:
        await talk.say("T1")
        world.profile.forget(world.home)
        ended = await talk.say("T2")
        assert (ended.stop_reason, ended.exit_code != 0) == (FAILED, True)
        assert talk.of("diagnostic", 0) or talk.of("diagnostic", talk.number("T2"))
        session = await talk.client.get_session(talk.slug)
        assert session.phase == session_pb2.PHASE_IDLE


async def test_a_prompt_that_looks_like_an_option_is_none(world: World) -> None:
    async with world.talk() as talk:
        await talk.client.send(talk.slug, "--version")
        async with asyncio.timeout(60):
            await talk.until(lambda: talk.of("turn_ended", 1), "the turn ends")
        said = "".join(e.agent_message.content[0].text for e in talk.of("agent_message", 1))
        assert "(Claude Code)" not in said
        assert not said.startswith("codex-cli")


@pytest.mark.short
async def test_the_command_itself_is_what_a_host_runs(world: World) -> None:
    async with world.talk() as talk:
        assert (await talk.say("T1")).stop_reason == COMPLETED
        assert words(talk, "T1") == "T1.1 T1.2"
