"""Approvals of real agents: the tool waits for a person's word, whoever gives it and when."""

from __future__ import annotations

import json

import pytest

from bridle.v1 import event_pb2, principal_pb2, session_pb2
from tests.agents.talk import ASK, COMPLETED, INTERRUPTED, Talk, World
from tests.model_server import Role, say, tool
from tests.pair import PATIENCE
from tests.scenarios.support import log, reaches

ALLOW = event_pb2.APPROVAL_DECISION_ALLOW
ALWAYS = event_pb2.APPROVAL_DECISION_ALLOW_ALWAYS
DENY = event_pb2.APPROVAL_DECISION_DENY
VOID = event_pb2.APPROVAL_DECISION_VOID

pytestmark = pytest.mark.needs("approvals")


def touching(world: World, name: str) -> str:
    """A command that no agent takes for harmless, and whose run leaves a file."""
    return f"touch {world.work / name}"


async def asked(talk: Talk, tag: str, name: str) -> event_pb2.ApprovalRequested:
    """A turn whose tool waits for its approval."""
    await talk.send(tag, say(1), tool(touching(talk.world, name)), say(1))
    question = await talk.asks(tag)
    assert not (talk.world.work / name).exists()
    return question


def resolved(talk: Talk, question: event_pb2.ApprovalRequested) -> event_pb2.Event:
    [event] = [
        e
        for e in talk.of("approval_resolved")
        if e.approval_resolved.approval_id == question.approval_id
    ]
    return event


@pytest.mark.short
async def test_a_tool_waits_for_its_approval_and_runs_when_it_is_allowed(world: World) -> None:
    async with world.talk(approval=ASK) as talk:
        question = await asked(talk, "T1", "made")
        assert question.tool
        assert touching(world, "made") in json.dumps(json.loads(question.arguments_json))
        await reaches(world.pair, "talk", session_pb2.PHASE_WAITING)
        assert (await talk.client.get_session("talk")).open_approvals

        await talk.client.respond("talk", question.approval_id, ALLOW)
        assert (await talk.ends("T1")).stop_reason == COMPLETED
        assert (world.work / "made").exists()
        event = resolved(talk, question)
        assert event.approval_resolved.decision == ALLOW
        assert event.principal.kind == principal_pb2.PRINCIPAL_KIND_USER
        assert talk.messages("T1") == world.model.said("T1") == ["T1.1", "T1.2"]


@pytest.mark.short
async def test_a_tool_that_is_denied_does_not_run_and_the_agent_goes_on(world: World) -> None:
    async with world.talk(approval=ASK) as talk:
        question = await asked(talk, "T1", "made")
        answer = await talk.client.respond(
            "talk", question.approval_id, DENY, message="not on a Saturday"
        )
        await talk.outcome(answer.receipt)
        await talk.ends("T1")
        assert not (world.work / "made").exists()
        event = resolved(talk, question).approval_resolved
        assert (event.decision, event.message) == (DENY, "not on a Saturday")
        [ended] = [e.tool_call_ended for e in talk.of("tool_call_ended", talk.number("T1"))]
        assert ended.status == event_pb2.TOOL_CALL_STATUS_DENIED
        assert (await talk.say("T2")).stop_reason == COMPLETED
        seen = world.model.of("T2")[-1].request
        assert seen.dangling == []
        if world.profile.told_why:
            assert "not on a Saturday" in seen.said(Role.RESULT)


async def test_what_is_always_allowed_is_not_asked_for_again(world: World) -> None:
    async with world.talk(approval=ASK) as talk:
        question = await asked(talk, "T1", "made")
        await talk.client.respond("talk", question.approval_id, ALWAYS)
        assert (await talk.ends("T1")).stop_reason == COMPLETED
        (world.work / "made").unlink()
        await talk.send("T2", tool(touching(world, "made")), say(1))
        assert (await talk.ends("T2")).stop_reason == COMPLETED
        assert (world.work / "made").exists()
        asked_for = talk.of("approval_resolved", talk.number("T2"))
        users = principal_pb2.PRINCIPAL_KIND_USER
        assert all(e.principal.kind != users for e in asked_for)


@pytest.mark.short
async def test_an_interrupt_voids_what_is_asked(world: World) -> None:
    async with world.talk(approval=ASK) as talk:
        question = await asked(talk, "T1", "made")
        await talk.interrupt()
        assert (await talk.ends("T1")).stop_reason == INTERRUPTED
        assert resolved(talk, question).approval_resolved.decision == VOID
        assert (await talk.say("T2")).stop_reason == COMPLETED
        assert world.model.of("T2")[-1].request.dangling == []
        assert not (world.work / "made").exists()


async def test_a_question_is_seen_by_who_comes_later_and_outlives_control_and_host(
    world: World,
) -> None:
    async with world.talk(approval=ASK) as talk:
        question = await asked(talk, "T1", "made")
        await world.pair.restart_control()
        await world.pair.end_host(9)
        await world.pair.start_host()
        later = [e for e in await log(world.pair, "talk") if e.HasField("approval_requested")]
        assert [e.approval_requested for e in later] == [question]
        await talk.client.respond("talk", question.approval_id, ALLOW, timeout=PATIENCE)
        assert (await talk.ends("T1")).stop_reason == COMPLETED
        assert (world.work / "made").exists()
        assert len(talk.of("approval_requested")) == 1
