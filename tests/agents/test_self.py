"""An agent inside its session: it steers itself and its children by `bridle`, and nobody else."""

from __future__ import annotations

import pytest

from bridle.v1 import session_pb2
from tests.agents.talk import COMPLETED, World
from tests.model_server import say, tool
from tests.pair import until
from tests.scenarios.support import log, output, reaches, turn_ends


@pytest.mark.short
async def test_an_agent_starts_a_child_sends_to_it_and_stops_itself(world: World) -> None:
    async with world.talk() as talk:
        await talk.send(
            "T1",
            tool(
                "bridle session start child --agent shell && bridle session send child echo hello"
                " && bridle status && bridle session stop; echo code $?"
            ),
            say(2),
        )
        assert (await talk.ends("T1")).stop_reason == COMPLETED
        assert "code 0" in talk.output("T1"), talk.output("T1")
        assert "talk" in talk.output("T1")
        await talk.until(lambda: talk.ended(1), "it has stopped itself")
        end = talk.ended(1)
        assert end is not None
        assert end.phase == session_pb2.PHASE_STOPPED
        assert talk.messages("T1") == world.model.said("T1") == ["T1.1 T1.2"]

        await turn_ends(world.pair, "child", 1)
        assert output(await log(world.pair, "child")) == "hello\n"
        child = await world.pair.client.get_session("child")
        parent = await world.pair.client.get_session("talk")
        assert child.parent_session_id == parent.session_id
        await world.pair.kill_all()


async def test_a_kill_takes_the_agents_children_along(world: World) -> None:
    async with world.talk() as talk:
        start = "bridle session start child --agent shell sleep 600"
        await talk.send("T1", tool(f"{start}; echo code $?"), say(1))
        assert (await talk.ends("T1")).stop_reason == COMPLETED
        assert "code 0" in talk.output("T1"), talk.output("T1")
        await reaches(world.pair, "child", session_pb2.PHASE_RUNNING)
        await talk.outcome((await talk.client.kill("talk")).receipt)

        async def killed() -> bool:
            child = await world.pair.client.get_session("child")
            return child.phase == session_pb2.PHASE_KILLED

        await until(killed, "the child is killed")


async def test_a_stranger_is_not_there_for_an_agent(world: World) -> None:
    await world.pair.client.start_session("stranger", agent="shell")
    async with world.talk() as talk:
        words = (
            "status stranger",
            "session stop stranger",
            "session send stranger echo hello",
            "session watch stranger --no-follow",
            "status nobody",
        )
        for number, word in enumerate(words):
            tag = f"T{number}"
            await talk.send(tag, tool(f"bridle {word} 2>&1; echo code $?"), say(1))
            assert (await talk.ends(tag)).stop_reason == COMPLETED
            said = talk.output(tag)
            assert "code 3" in said, said
            assert "NOT_FOUND" in said
    stranger = await world.pair.client.get_session("stranger")
    assert (stranger.phase, stranger.turn) == (session_pb2.PHASE_IDLE, 0)
    await world.pair.kill_all()


async def test_an_agent_watches_itself_and_does_not_approve_for_itself(world: World) -> None:
    async with world.talk() as talk:
        await talk.say("T1")
        # What it reads there are words of the first turn; they must not look like said in this one.
        watch = "bridle session watch --no-follow | sed 's/T1[.]/T1-/g'"
        command = f"{watch}; bridle approve nothing; echo code $?"
        await talk.send("T2", tool(f"({command}) 2>&1"), say(1))
        assert (await talk.ends("T2")).stop_reason == COMPLETED
        assert "T1-1 T1-2" in talk.output("T2")
        assert "code 0" not in talk.output("T2")


async def test_identities_of_other_tools_are_not_inherited(world: World) -> None:
    async with world.talk() as talk:
        await talk.send("T1", tool("env | sort"), say(1))
        assert (await talk.ends("T1")).stop_reason == COMPLETED
        names = {line.partition("=")[0] for line in talk.output("T1").splitlines()}
        assert {"BRIDLE_SESSION", "BRIDLE_TOKEN_FILE", "BRIDLE_ADDRESS"} <= names
        assert "BRIDLE_HOME" not in names
        assert "BRIDLE_TOKEN" not in names
