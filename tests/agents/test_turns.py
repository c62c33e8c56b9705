"""Turns of real agents: what they say, what their tools do, what happens when the model fails."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest

from bridle.v1 import event_pb2, input_pb2
from tests.agents.talk import COMPLETED, FAILED, World, text_of
from tests.model_server import big, call, cut, error, gate, say, think, tool, turn

SUCCEEDED = event_pb2.TOOL_CALL_STATUS_SUCCEEDED


@pytest.mark.short
async def test_text_is_told_as_it_comes_and_the_message_is_what_the_model_sent(
    world: World,
) -> None:
    async with world.talk() as talk:
        await talk.send("T1", say(3), gate("go"), say(2))
        number = await talk.begins("T1")
        if world.profile.live:
            await talk.until(
                lambda: any(text.decode() == "T1.1 T1.2 T1.3" for text in talk.live.values()),
                "the text so far",
            )
        world.model.open("go")
        assert (await talk.ends("T1")).stop_reason == COMPLETED

        [message] = talk.of("agent_message", number)
        assert talk.messages("T1") == world.model.said("T1") == ["T1.1 T1.2 T1.3 T1.4 T1.5"]
        if world.profile.live:
            # Of the same message; its last words may come with the message itself.
            [(message_id, live)] = talk.live.items()
            assert message_id == message.agent_message.message_id
            assert b"T1.1 T1.2 T1.3 T1.4 T1.5".startswith(live)


@pytest.mark.needs("thoughts")
async def test_thoughts_are_told_apart_from_messages(world: World) -> None:
    async with world.talk() as talk:
        await talk.send("T1", think(3), say(2))
        assert (await talk.ends("T1")).stop_reason == COMPLETED
        thoughts = [e.agent_thought.text for e in talk.of("agent_thought")]
        assert "".join(thoughts).strip() == "T1.1 T1.2 T1.3"
        assert talk.messages("T1") == ["T1.4 T1.5"]


@pytest.mark.needs("sub_agent")
async def test_what_a_sub_agent_does_is_told_as_its_own(world: World) -> None:
    async with world.talk() as talk:
        task = {
            "description": "say two words",
            "prompt": turn("S1", tool("echo from-$((6 * 7))"), say(2)),
            "subagent_type": "general-purpose",
            "run_in_background": False,
        }
        await talk.send("T1", call(world.profile.sub_agent, task), say(1))
        assert (await talk.ends("T1")).stop_reason == COMPLETED
        calls = talk.of("tool_call_started")
        assert [(e.tool_call_started.tool, e.sub_agent) for e in calls] == [
            (world.profile.sub_agent, ""),
            ("Bash", calls[0].tool_call_started.tool_call_id),
        ]
        assert "from-42" in talk.output("T1")
        assert "S1.1 S1.2" in "".join(map(text_of, talk.events))
        assert talk.messages("T1")[-1] == "T1.1"


async def test_what_a_turn_used_is_told(world: World) -> None:
    async with world.talk() as talk:
        await talk.say("T1", 5)
        used = [e.usage_reported for e in talk.of("usage_reported", talk.number("T1"))]
        # The model says of each answer: 100 tokens in, a token out for each word and one more.
        assert sum(each.input_tokens for each in used) == 100
        assert sum(each.output_tokens for each in used) == 6


@pytest.mark.short
async def test_a_tool_call_is_told_with_its_arguments_and_its_output(world: World) -> None:
    async with world.talk() as talk:
        await talk.send("T1", say(1), tool("echo out-$((40 + 2)); echo $BRIDLE_SESSION"), say(2))
        assert (await talk.ends("T1")).stop_reason == COMPLETED

        number = talk.number("T1")
        [started] = [e.tool_call_started for e in talk.of("tool_call_started", number)]
        assert "echo out-$((40 + 2))" in json.dumps(json.loads(started.arguments_json))
        [ended] = [e.tool_call_ended for e in talk.of("tool_call_ended", number)]
        assert (ended.tool_call_id, ended.status) == (started.tool_call_id, SUCCEEDED)
        assert "out-42\ntalk" in talk.output("T1")
        assert talk.messages("T1") == world.model.said("T1") == ["T1.1", "T1.2 T1.3"]
        assert "out-42" in world.model.of("T1")[-1].request.entries[-1].text


@pytest.mark.short
async def test_what_is_sent_meanwhile_waits_and_has_a_turn_of_its_own_in_its_order(
    world: World,
) -> None:
    async with world.talk() as talk:
        await talk.send("T1", say(2), gate("go"), say(1))
        await world.model.sent("T1", 2)
        for tag in ("T2", "T3", "T4"):
            await talk.send(tag, say(2))
        assert world.model.of("T2") == []
        world.model.open("go")
        for number, tag in enumerate(("T1", "T2", "T3", "T4"), 1):
            assert (await talk.ends(tag)).stop_reason == COMPLETED
            assert talk.number(tag) == number
            assert talk.messages(tag) == world.model.said(tag)
            assert len(world.model.of(tag)) == 1
        assert world.model.of("T4")[0].request.tags == ["T1", "T2", "T3", "T4"]


@pytest.mark.needs("steer")
async def test_what_is_steered_goes_into_the_turn_that_is_on(world: World) -> None:
    async with world.talk() as talk:
        free = world.work / "free"
        hold = f"echo held; until test -e {free}; do sleep 0.05; done"
        await talk.send("T1", say(1), tool(hold), say(1))
        await talk.tool_starts("T1")
        await talk.send("T2", say(3), mode=input_pb2.INPUT_MODE_STEER)
        free.touch()
        assert (await talk.ends("T1")).stop_reason == COMPLETED

        # The model saw it beside the tool's result, and answered to it in that turn.
        assert world.model.of("T2")[0].request.tags == ["T1", "T2"]
        assert len(talk.of("turn_started")) == 1
        assert "T2.1 T2.2 T2.3" in talk.messages("T1")
        steered = [e.input_consumed.steered for e in talk.of("input_consumed")]
        assert steered == [False, True]
        assert (await talk.say("T3")).stop_reason == COMPLETED


async def test_a_line_of_megabytes_is_told(world: World) -> None:
    async with world.talk() as talk:
        await talk.send("T1", say(1), big(700_000))
        assert (await talk.ends("T1")).stop_reason == COMPLETED
        assert len("".join(talk.messages("T1"))) > 500_000
        assert (await talk.say("T2")).stop_reason == COMPLETED


@pytest.mark.short
async def test_a_model_that_refuses_the_request_fails_the_turn_and_not_the_session(
    world: World,
) -> None:
    async with world.talk() as talk:
        await talk.send("T1", error(400))
        ended = await talk.ends("T1")
        assert ended.stop_reason == FAILED
        assert ended.message
        assert (await talk.say("T2")).stop_reason == COMPLETED
        assert talk.messages("T2") == world.model.said("T2")
        assert talk.replacements == 0


@pytest.mark.short
async def test_the_model_goes_down_in_a_turn_and_comes_back(world: World) -> None:
    async with world.talk() as talk:
        await talk.send("T1", say(2), gate("go"), say(1))
        await world.model.sent("T1", 2)
        await world.model.down()
        # It may give the turn up, or try again until the model is back.
        with suppress(AssertionError):
            await talk.until(lambda: talk.of("turn_ended"), "the turn is given up", 2.0)
        world.model.open("go")
        await world.model.up()
        ended = await talk.ends("T1")
        assert ended.stop_reason in (COMPLETED, FAILED)
        if ended.stop_reason == COMPLETED:
            assert talk.messages("T1")[-1] == world.model.said("T1")[-1]
        assert (await talk.say("T2")).stop_reason == COMPLETED
        assert talk.messages("T2") == world.model.said("T2")
        assert talk.replacements == 0


async def test_an_answer_that_breaks_off_is_no_end_of_the_session(world: World) -> None:
    async with world.talk() as talk:
        await talk.send("T1", say(2), cut())
        # Agents try that again and again; the interrupt holds all the same.
        await world.model.sent("T1", 2)
        await talk.interrupt()
        await talk.ends("T1")
        assert (await talk.say("T2")).stop_reason == COMPLETED
