"""Rules of approvals at control: who may set which, what "always" makes, what hosts may say."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bridle.v1 import event_pb2, session_pb2
from tests.bridle_control.serving import fails
from tests.bridle_control.stack import Stack, outcome, pb, ref
from tests.fakes.host import RAN, FakeHost

ASK, ALLOW, DENY = 1, 2, 3
ALWAYS = event_pb2.APPROVAL_DECISION_ALLOW_ALWAYS


def rule(decision: int, value: str = "", **fields: Any) -> dict[str, Any]:
    return {"tool": "Bash", "decision": decision, "value": value, **fields}


GIT, PUSH = rule(ALLOW, "git"), rule(DENY, "git push")


async def asked(
    stack: Stack, host: FakeHost, arguments: str = '{"command":"make"}', **fields: Any
) -> session_pb2.Session:
    """A session whose agent asks leave for something."""
    session = await stack.start(host, **fields)
    await stack.begin_turn(host, session)
    request = {"approval_id": "a1", "tool": "Bash", "arguments_json": arguments, "reason": "so"}
    host.event(session.session_id, 1, turn=1, approval_requested=request)
    host.phase(session.session_id, 1, "RUNNING", "WAITING")
    await host.synced()
    return await stack.session(session.session_id)


def always(session: session_pb2.Session, **fields: Any) -> pb.RespondRequest:
    return pb.RespondRequest(session=ref(session), approval_id="a1", decision=ALWAYS, **fields)


def resolves(host: FakeHost, session: session_pb2.Session, **fields: Any) -> None:
    told = {"approval_id": "a1", "decision": ALWAYS, **fields}
    host.event(session.session_id, 1, turn=1, approval_resolved=told)


def rules(session: session_pb2.Session) -> list[tuple[int, str, bool]]:
    return [(each.decision, each.value, each.exact) for each in session.policy.approval_rules]


async def test_always_is_told_to_the_host_as_a_rule_and_kept_with_the_event_that_tells_it(
    stack: Stack,
) -> None:
    host = await stack.host()
    session = await asked(stack, host, policy={"approval_rules": [PUSH]})
    call = asyncio.ensure_future(stack.sessions.Respond(always(session), metadata=stack.admin))
    command = await host.command("resolve")
    made = command.resolve.rule
    assert (made.tool, made.value, made.exact, made.decision) == ("Bash", "make", True, ALLOW)
    assert rules(await stack.session(session.session_id)) == [(DENY, "git push", False)]
    resolves(host, session, rule=made)
    host.answer(command, RAN)
    await call
    await host.synced()
    kept = await stack.session(session.session_id)
    assert rules(kept) == [(DENY, "git push", False), (ALLOW, "make", True)]
    assert kept.policy.approval_rules[1].approval_id == "a1"
    resolves(host, session, rule=made)
    await host.synced()
    assert len((await stack.session(session.session_id)).policy.approval_rules) == 2


async def test_rules_that_are_on_their_way_do_not_undo_an_always_that_they_knew_nothing_of(
    stack: Stack,
) -> None:
    host = await stack.host()
    session = await asked(stack, host)
    update = pb.UpdateSessionRequest(
        session=ref(session),
        update_mask={"paths": ["policy.turn_timeout"]},
        policy={"turn_timeout": {"seconds": 30}},
    )
    call = asyncio.ensure_future(stack.sessions.UpdateSession(update, metadata=stack.admin))
    first = await host.command("update")
    assert not first.update.policy.approval_rules
    resolves(host, session, rule=rule(ALLOW, "make", exact=True))
    second = await host.command("update")
    assert [each.value for each in second.update.policy.approval_rules] == ["make"]
    assert second.update.policy.turn_timeout.seconds == 30
    host.answer(first, RAN)
    host.answer(second, RAN)
    await call
    await host.synced()
    resolves(host, session, rule=rule(ALLOW, "ls", exact=True))
    await host.synced()
    await stack.start(host, "after")  # (its start is the next command that comes)


@pytest.mark.parametrize(
    "told",
    [
        {"rule": rule(DENY, "x")},
        {"rule": rule(ASK, "x")},
        {"rule": rule(ALLOW, "x"), "decision": event_pb2.APPROVAL_DECISION_ALLOW},
        {"rule": {"decision": ALLOW}},
        {"rule": rule(ALLOW, "x" * 70_000)},
        {},
    ],
)
async def test_a_host_makes_no_other_rule_of_an_answer(stack: Stack, told: dict[str, Any]) -> None:
    host = await stack.host()
    session = await asked(stack, host)
    resolves(host, session, **told)
    await host.synced()
    assert rules(await stack.session(session.session_id)) == []


@pytest.mark.parametrize(
    ("arguments", "fields", "field"),
    [
        ("nonsense", {}, "decision"),
        ('{"truncated":true}', {}, "decision"),
        ('{"command":"make"}', {"rule": rule(ALLOW, "mak")}, "rule"),
        ('{"command":"make"}', {"rule": rule(DENY, "make")}, "rule"),
        ('{"command":"make; x"}', {"rule": rule(ALLOW, "make")}, "rule"),
        ('{"command":"make"}', {"rule": GIT, "decision": DENY}, "rule"),
    ],
)
async def test_an_always_that_can_be_no_rule_is_refused(
    stack: Stack, arguments: str, fields: dict[str, Any], field: str
) -> None:
    host = await stack.host()
    session = await asked(stack, host, arguments)
    request = pb.RespondRequest(
        session=ref(session), approval_id="a1", **{"decision": ALWAYS, **fields}
    )
    failure = await fails(stack.sessions.Respond(request, metadata=stack.admin))
    assert (failure.reason, [name for name, _ in failure.fields]) == ("INVALID_REQUEST", [field])


async def test_a_wider_rule_that_is_about_the_call_is_taken(stack: Stack) -> None:
    host = await stack.host()
    session = await asked(stack, host, '{"command":"make all"}')
    request = always(session, rule=rule(ALLOW, "make"))
    call = asyncio.ensure_future(stack.sessions.Respond(request, metadata=stack.admin))
    command = await host.command("resolve")
    assert (command.resolve.rule.value, command.resolve.rule.exact) == ("make", False)
    host.answer(command, RAN)
    assert outcome((await call).receipt) == ("RAN", "DONE")


async def test_who_granted_a_rule_is_not_for_callers_to_say(stack: Stack) -> None:
    host = await stack.host()
    claim = {"granted_by": {"kind": 1, "name": "somebody"}, "approval_id": "a9"}
    session = await stack.start(host, policy={"approval_rules": [{**GIT, **claim}]})
    [kept] = session.policy.approval_rules
    assert (kept.value, kept.approval_id, kept.HasField("granted_by")) == ("git", "", False)


async def test_a_rule_that_stays_in_an_update_keeps_who_granted_it(stack: Stack) -> None:
    host = await stack.host()
    session = await asked(stack, host)
    resolves(host, session, rule=rule(ALLOW, "make", exact=True))
    await host.synced()
    policy = {"approval_rules": [rule(ALLOW, "make", exact=True), GIT]}
    request = pb.UpdateSessionRequest(
        session=ref(session), update_mask={"paths": ["policy.approval_rules"]}, policy=policy
    )
    call = asyncio.ensure_future(stack.sessions.UpdateSession(request, metadata=stack.admin))
    host.answer(await host.command("update"), RAN)
    await call
    made, added = (await stack.session(session.session_id)).policy.approval_rules
    assert (made.approval_id, added.approval_id) == ("a1", "")


async def test_rules_that_are_too_many_or_too_long_are_refused(stack: Stack) -> None:
    await stack.host()
    for found in ([GIT] * 257, [rule(ALLOW, "x" * 16_000)] * 5):
        request = stack.start_request("x", policy={"approval_rules": found})
        failure = await fails(stack.sessions.StartSession(request, metadata=stack.admin))
        assert failure.reason == "INVALID_REQUEST"


async def test_what_open_approvals_ask_for_is_told_with_the_session(stack: Stack) -> None:
    host = await stack.host()
    long = '{"command":"' + "x" * 20_000 + '"}'
    session = await asked(stack, host, long)
    found = await stack.sessions.GetSession(
        pb.GetSessionRequest(session=ref(session)), metadata=stack.admin
    )
    [approval] = found.approvals
    assert (approval.turn, approval.request.tool, approval.request.reason) == (1, "Bash", "so")
    assert approval.request.arguments_json == long[: 16 * 1024]
    resolves(host, session, decision=event_pb2.APPROVAL_DECISION_ALLOW)
    await host.synced()
    found = await stack.sessions.GetSession(
        pb.GetSessionRequest(session=ref(session)), metadata=stack.admin
    )
    assert not found.approvals


# ---------------------------------------------------------------- children


async def start_child(
    stack: Stack, host: FakeHost, parent: session_pb2.Session, slug: str, **policy: Any
) -> session_pb2.Session:
    metadata = await stack.agent(parent.session_id)
    request = stack.start_request(slug, policy=policy)
    call = asyncio.ensure_future(stack.sessions.StartSession(request, metadata=metadata))
    host.started(await host.command("start"))
    answer = await call
    await host.synced()
    return await stack.session(answer.session.session_id)


async def test_a_child_has_what_its_parent_denies_or_asks_and_no_allowance_beyond(
    stack: Stack,
) -> None:
    host = await stack.host()
    parent = await stack.start(host, "parent", policy={"approval_rules": [GIT, PUSH]})
    plain = await start_child(stack, host, parent, "plain")
    assert rules(plain) == [(DENY, "git push", False)]
    within = await start_child(
        stack, host, parent, "within", approval_rules=[rule(ALLOW, "git log")]
    )
    assert rules(within) == [(ALLOW, "git log", False), (DENY, "git push", False)]
    for beyond in (rule(ALLOW, "make"), rule(ALLOW), rule(ALLOW, "gi")):
        request = stack.start_request("no", policy={"approval_rules": [beyond]})
        metadata = await stack.agent(parent.session_id)
        failure = await fails(stack.sessions.StartSession(request, metadata=metadata))
        assert failure.reason == "NOT_ALLOWED"


async def test_an_agent_neither_drops_a_denial_nor_adds_an_allowance(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host, policy={"approval_rules": [GIT, PUSH]})
    metadata = await stack.agent(session.session_id)
    for found in ([GIT], [GIT, PUSH, rule(ALLOW, "make")]):
        request = pb.UpdateSessionRequest(
            session=ref(session),
            update_mask={"paths": ["policy.approval_rules"]},
            policy={"approval_rules": found},
        )
        failure = await fails(stack.sessions.UpdateSession(request, metadata=metadata))
        assert failure.reason == "NOT_ALLOWED"


async def test_a_child_that_was_allowed_more_by_somebody_is_resumed_by_its_parent_all_the_same(
    stack: Stack,
) -> None:
    host = await stack.host()
    parent = await stack.start(host, "parent")
    child = await start_child(stack, host, parent, "child")
    await stack.begin_turn(host, child)
    request = {"approval_id": "a1", "tool": "Bash", "arguments_json": '{"command":"make"}'}
    host.event(child.session_id, 1, turn=1, approval_requested=request)
    resolves(host, child, rule=rule(ALLOW, "make", exact=True))
    host.turn_over(child.session_id, 1, 1)
    host.over(child.session_id, 1)
    await host.synced()
    metadata = await stack.agent(parent.session_id)
    again = pb.ResumeRequest(session=ref(child))
    call = asyncio.ensure_future(stack.sessions.Resume(again, metadata=metadata))
    start = await host.command("start")
    assert [each.value for each in start.start.policy.approval_rules] == ["make"]
    host.started(start)
    assert outcome((await call).receipt) == ("RAN", "DONE")
