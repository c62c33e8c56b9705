"""Runs of real agents end and are resumed: natively in a new process, or from the log."""

from __future__ import annotations

import pytest

from bridle.errors import BridleError
from bridle.v1 import event_pb2, session_pb2
from tests.agents.talk import COMPLETED, Talk, World, gone
from tests.model_server import Role, gate, say, tool
from tests.scenarios.support import NOT_RUN, RAN, bearing

STOPPED, KILLED = (
    session_pb2.PHASE_STOPPED,
    session_pb2.PHASE_KILLED,
)
NATIVE, SEEDED = event_pb2.RESUME_MODE_NATIVE, event_pb2.RESUME_MODE_SEEDED


async def ended(talk: Talk, run: int) -> event_pb2.SessionEnded:
    await talk.until(lambda: talk.ended(run) is not None, f"run {run} ends")
    found = talk.ended(run)
    assert found is not None
    return found


async def stopped(talk: Talk, run: int = 1) -> None:
    await talk.outcome((await talk.client.stop(talk.slug)).receipt)
    end = await ended(talk, run)
    assert (end.phase, end.verified) == (STOPPED, True), end


def resumed(talk: Talk) -> event_pb2.SessionResumed:
    return talk.of("session_resumed")[-1].session_resumed


@pytest.mark.short
async def test_a_stop_lets_the_turn_end_and_tells_what_the_run_came_to(world: World) -> None:
    async with world.talk() as talk:
        await talk.send("T1", say(2), tool('echo kept > "$BRIDLE_ARTIFACTS/note.txt"'), say(2))
        await talk.ends("T1")
        await talk.send("T2", say(2), gate("go"), say(2))
        await world.model.sent("T2", 2)
        receipt = (await talk.client.stop("talk")).receipt
        world.model.open("go")
        await talk.outcome(receipt)
        end = await ended(talk, 1)
        assert (end.phase, end.verified) == (STOPPED, True)
        assert (await talk.ends("T2")).stop_reason == COMPLETED

        [report] = [e.artifacts_reported for e in talk.of("artifacts_reported")]
        assert report.final_message == world.model.said("T2")[-1]
        assert report.turns == 2
        assert "note.txt" in [each.name for each in report.artifacts]
        note = [piece async for piece in talk.client.read_artifact("talk", "note.txt")]
        assert b"".join(note) == b"kept\n"


@pytest.mark.short
@pytest.mark.needs("native")
async def test_a_resume_goes_on_with_the_agents_own_conversation(world: World) -> None:
    async with world.talk() as talk:
        await talk.say("T1")
        await talk.say("T2")
        before = talk.of("process_started")[-1].process_started.pid
        await stopped(talk)
        await talk.client.resume("talk")
        await talk.idle(2)
        assert resumed(talk).mode == NATIVE
        assert talk.of("process_started")[-1].process_started.pid != before
        assert (await talk.say("T3")).stop_reason == COMPLETED
        assert talk.messages("T3") == world.model.said("T3")
        seen = world.model.of("T3")[0].request
        assert seen.tags == ["T1", "T2", "T3"]
        # In its own words, not in those of a log that is told again.
        assert [e.text for e in seen.entries if e.role is Role.ASSISTANT][:1] == ["T1.1 T1.2"]


@pytest.mark.needs("native")
async def test_a_resume_after_a_kill_in_mid_turn_knows_what_came_before(world: World) -> None:
    [sleeper] = world.sleepers(1)
    async with world.talk() as talk:
        await talk.say("T1")
        await talk.send("T2", say(2), tool(f"echo begun; {sleeper}"), say(1))
        await talk.tool_starts("T2")
        await talk.outcome((await talk.client.kill("talk")).receipt)
        assert (await ended(talk, 1)).phase == KILLED
        assert await gone(sleeper)
        await talk.client.resume("talk")
        await talk.idle(2)
        assert resumed(talk).mode == NATIVE
        assert (await talk.say("T3")).stop_reason == COMPLETED
        seen = world.model.of("T3")[-1].request
        assert seen.tags[0] == "T1"
        assert seen.dangling == []


@pytest.mark.short
@pytest.mark.needs("native")
async def test_a_conversation_that_the_agent_lost_is_seeded_from_the_log(world: World) -> None:
    async with world.talk() as talk:
        await talk.say("T1")
        await stopped(talk)
        world.profile.forget(world.home)
        await talk.client.resume("talk")
        await talk.idle(2)
        assert (await talk.say("T2")).stop_reason == COMPLETED
        # Which way it came along is told once it is known: at the resume, or by the process.
        assert SEEDED in (
            resumed(talk).mode,
            talk.of("process_started")[-1].process_started.mode,
        )
        assert "T1.1 T1.2" in world.model.of("T2")[0].request.said(Role.USER)
        assert talk.messages("T2") == world.model.said("T2")


async def why_not(talk: Talk) -> str:
    """The reason for which a native resume is refused."""
    try:
        receipt = (await talk.client.resume("talk", mode=NATIVE)).receipt
    except BridleError as refused:
        return refused.reason
    # An agent may take longer to say so than a call waits.
    outcome = (await talk.outcome(receipt)).outcome
    assert (outcome.state, bool(outcome.message)) == (NOT_RUN, True), outcome
    return outcome.error_reason


@pytest.mark.needs("native")
async def test_a_lost_conversation_fails_who_asked_for_no_other(world: World) -> None:
    async with world.talk() as talk:
        await talk.say("T1")
        await stopped(talk)
        world.profile.forget(world.home)
        assert await why_not(talk) == "START_FAILED"
        # It is not lost for good.
        await talk.client.resume("talk", mode=SEEDED)
        assert (await talk.say("T2")).stop_reason == COMPLETED


async def test_a_resume_that_is_seeded_tells_the_model_what_was_said(world: World) -> None:
    async with world.talk() as talk:
        await talk.say("T1")
        await stopped(talk)
        await talk.client.resume("talk", mode=SEEDED)
        await talk.idle(2)
        assert resumed(talk).mode == SEEDED
        assert (await talk.say("T2")).stop_reason == COMPLETED
        seen = world.model.of("T2")[0].request
        assert "T1.1 T1.2" in seen.said(Role.USER)
        assert not [e for e in seen.entries if e.role is Role.ASSISTANT]


@pytest.mark.short
async def test_a_kill_leaves_nothing_of_the_agent(world: World) -> None:
    async with world.talk() as talk:
        own, foreground = world.sleepers(2)
        await talk.send("T1", say(1), tool(f"setsid {own} & {foreground}"), say(1))
        await talk.tool_starts("T1")
        receipt = await talk.outcome((await talk.client.kill("talk")).receipt)
        assert receipt.outcome.state == RAN
        end = await ended(talk, 1)
        assert (end.phase, end.verified) == (KILLED, True)
        for word in (own, foreground, str(world.home)):
            assert bearing(word) == []
