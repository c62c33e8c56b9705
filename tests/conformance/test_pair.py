"""The same profiles through the whole of Bridle: client, control, host, driver, shim, agent.

What the drivers' own suite shows of observations is shown here of the log, which is held against
the order table as a whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridle.v1 import event_pb2, session_pb2
from bridle_core.observations import ResumeMode
from tests.conformance.profiles import PROFILES, Profile
from tests.pair import PATIENCE, Pair, running_pair
from tests.scenarios.support import bearing, check_order, log, reaches
from tests.support.driving import eventually

INTERRUPTED = event_pb2.STOP_REASON_INTERRUPTED
COMPLETED = event_pb2.STOP_REASON_COMPLETED
STOPPED, FAILED, KILLED, IDLE = (
    session_pb2.PHASE_STOPPED,
    session_pb2.PHASE_FAILED,
    session_pb2.PHASE_KILLED,
    session_pb2.PHASE_IDLE,
)


@pytest.fixture(params=PROFILES, ids=lambda profile: profile.name)
def profile(request: pytest.FixtureRequest) -> Profile:
    found = request.param
    assert isinstance(found, Profile)
    return found


class Talk:
    """One session, its turns counted."""

    def __init__(self, pair: Pair, slug: str) -> None:
        self.pair, self.slug = pair, slug
        self.turn = 0

    async def send(self, script: str) -> int:
        await self.pair.client.send(self.slug, script)
        self.turn += 1
        return self.turn

    async def until_said(self, turn: int, word: str) -> None:
        async with asyncio.timeout(PATIENCE):
            async for event in self.pair.client.watch(self.slug):
                if event.turn == turn and word in text(event):
                    return

    async def ends(self, turn: int) -> event_pb2.TurnEnded:
        async with asyncio.timeout(PATIENCE):
            async for event in self.pair.client.watch(self.slug):
                if event.turn == turn and event.WhichOneof("kind") == "turn_ended":
                    return event.turn_ended
        raise AssertionError(f"turn {turn} never ended")

    async def said(self, turn: int) -> str:
        return "".join(map(text, [e for e in await log(self.pair, self.slug) if e.turn == turn]))

    async def ended(self) -> event_pb2.SessionEnded:
        async with asyncio.timeout(PATIENCE):
            async for _ in self.pair.client.watch(self.slug):
                pass  # to the end of the run
        ends = [e for e in await log(self.pair, self.slug) if e.HasField("session_ended")]
        return ends[-1].session_ended


def text(event: event_pb2.Event) -> str:
    """What an event says, whichever way its agent says it."""
    if event.WhichOneof("kind") == "tool_call_output":
        output = event.tool_call_output
        return output.text or output.data.decode("utf-8", "replace")
    if event.WhichOneof("kind") == "agent_message":
        return "".join(piece.text for piece in event.agent_message.content)
    return ""


@asynccontextmanager
async def talk(profile: Profile, tmp_path: Path) -> AsyncIterator[Talk]:
    """A session that is idle; at the end its log has to be in order."""
    async with running_pair(tmp_path) as pair:
        await pair.client.start_session("talk", agent=profile.name, agent_command=profile.command)
        await reaches(pair, "talk", IDLE)
        yield Talk(pair, "talk")
        checker = check_order(await log(pair, "talk"))
        checker.finish()


async def test_a_whole_life(profile: Profile, tmp_path: Path) -> None:
    async with talk(profile, tmp_path) as session:
        client = session.pair.client
        for number in range(5):
            turn = await session.send(profile.say(f"word-{number}"))
            assert (await session.ends(turn)).stop_reason == COMPLETED
            assert (await session.said(turn)).strip() == f"word-{number}"

        # An interrupt, and the follow-up that waited.
        turn = await session.send(profile.busy)
        follow = await session.send(profile.say("next"))
        await session.until_said(turn, "begun")
        answer = await client.interrupt("talk")
        await client.wait(answer.receipt)
        assert (await session.ends(turn)).stop_reason == INTERRUPTED
        assert (await session.ends(follow)).stop_reason == COMPLETED
        assert (await session.said(follow)).strip() == "next"

        # An agent that does not give way, and the one that takes its place.
        await session.ends(await session.send(profile.remember))
        turn = await session.send(profile.ignoring)
        await session.until_said(turn, "begun")
        answer = await client.interrupt("talk", grace=0.2)
        await client.wait(answer.receipt)
        turn = await session.send(profile.recall)
        assert (await session.ends(turn)).stop_reason == COMPLETED
        assert "remembered" in await session.said(turn)

        # A stop, a resume, a kill.
        await client.wait((await client.stop("talk")).receipt)
        ended = await session.ended()
        assert (ended.phase, ended.verified) == (STOPPED, True)
        await client.resume("talk")
        await reaches(session.pair, "talk", IDLE)
        turn = await session.send(profile.recall)
        await session.ends(turn)
        assert "remembered" in await session.said(turn)
        await client.wait((await client.kill("talk")).receipt)
        ended = await session.ended()
        assert (ended.phase, ended.verified) == (KILLED, True)

        events = await log(session.pair, "talk")
        [resumed] = [e.session_resumed for e in events if e.HasField("session_resumed")]
        native = profile.resumes is ResumeMode.NATIVE
        mode = event_pb2.RESUME_MODE_NATIVE if native else event_pb2.RESUME_MODE_SEEDED
        assert resumed.mode == mode
        ups = [e.process_started for e in events if e.HasField("process_started")]
        assert [up.replacement for up in ups] == [False, True, False]
        assert "never" not in "".join(map(text, events))


async def test_what_was_born_in_the_session_is_gone_with_it(
    profile: Profile, tmp_path: Path
) -> None:
    async with talk(profile, tmp_path) as session:
        await session.ends(await session.send(profile.children(6511, False)))
        turn = await session.send(profile.children(6512, True))
        await session.until_said(turn, "begun")
        # What was forked may not be what it is to be yet.
        for own in ("sleep 6511", "sleep 6512"):
            await eventually(lambda own=own: len(bearing(own)) == 3)  # type: ignore[misc]
        await session.pair.client.wait((await session.pair.client.interrupt("talk")).receipt)
        assert bearing("sleep 6512") == []
        assert len(bearing("sleep 6511")) == 3
        await session.pair.client.wait((await session.pair.client.kill("talk")).receipt)
        assert (await session.ended()).swept >= 3
        assert bearing("sleep 6511") == []


async def test_an_agent_that_dies_in_its_turn_fails_the_run_and_can_be_resumed(
    profile: Profile, tmp_path: Path
) -> None:
    async with talk(profile, tmp_path) as session:
        # One that dies before it said anything may have begun no conversation to go on with.
        await session.ends(await session.send(profile.say("first")))
        turn = await session.send(profile.dies)
        assert (await session.ends(turn)).stop_reason == event_pb2.STOP_REASON_AGENT_LOST
        assert (await session.ended()).phase == FAILED
        await session.pair.client.resume("talk")
        turn = await session.send(profile.say("again"))
        assert (await session.ends(turn)).stop_reason == COMPLETED
        await session.pair.client.wait((await session.pair.client.stop("talk")).receipt)


async def test_an_agent_that_ends_on_purpose_stops_the_run(
    profile: Profile, tmp_path: Path
) -> None:
    async with talk(profile, tmp_path) as session:
        turn = await session.send(profile.quits)
        assert (await session.ends(turn)).stop_reason == COMPLETED
        ended = await session.ended()
        assert (ended.phase, ended.reason) == (STOPPED, session_pb2.END_REASON_AGENT_EXITED)


async def test_a_flood_is_stored_in_order_and_gives_way_to_an_interrupt(
    profile: Profile, tmp_path: Path
) -> None:
    async with talk(profile, tmp_path) as session:
        turn = await session.send(profile.flood)
        await session.until_said(turn, "begun")
        client = session.pair.client
        await client.wait((await client.interrupt("talk")).receipt)
        assert (await session.ends(turn)).stop_reason == INTERRUPTED
        await client.wait((await client.kill("talk")).receipt)
