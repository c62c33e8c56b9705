"""Sessions that start sessions: their limits, what their tokens reach, killed subtrees."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from bridle.v1 import receipt_pb2, session_pb2, watch_pb2
from tests.bridle_control.serving import bearer, fails, mint
from tests.bridle_control.stack import Stack, outcome, pb, phase, ref, text
from tests.fakes.host import PENDING, RAN, FakeHost


async def child(
    stack: Stack, on: FakeHost, parent: session_pb2.Session, slug: str, **fields: Any
) -> session_pb2.Session:
    """A session that the parent's agent starts."""
    metadata = await stack.agent(parent.session_id)
    request = stack.start_request(slug, **fields)
    call = asyncio.ensure_future(stack.sessions.StartSession(request, metadata=metadata))
    on.started(await on.command("start"))
    answer = await call
    await on.synced()
    return await stack.session(answer.session.session_id)


async def refused_child(stack: Stack, parent: session_pb2.Session, **fields: Any) -> Any:
    metadata = await stack.agent(parent.session_id)
    request = stack.start_request("refused", **fields)
    return await fails(stack.sessions.StartSession(request, metadata=metadata))


async def family(stack: Stack, host: FakeHost) -> dict[str, session_pb2.Session]:
    """root → (left → leaf, right)."""
    root = await stack.start(host, "root", directory="/srv/app")
    left = await child(stack, host, root, "left")
    leaf = await child(stack, host, left, "leaf")
    right = await child(stack, host, root, "right")
    return {"root": root, "left": left, "leaf": leaf, "right": right}


async def test_a_child_belongs_to_the_session_that_started_it(stack: Stack) -> None:
    host = await stack.host()
    root = await stack.start(host, "root", directory="/srv/app")
    made = await child(stack, host, root, "child")
    assert made.parent_session_id == root.session_id
    assert made.started_by.kind == 2
    assert (made.started_by.id, made.started_by.name) == (root.session_id, "root")
    assert (made.host_id, made.directory) == (root.host_id, "/srv/app")


async def test_a_child_runs_on_its_parents_host(stack: Stack) -> None:
    host = await stack.host("box")
    await stack.host("another")
    root = await stack.start(host, "root", host="box")
    named = await child(stack, host, root, "named", host="box")
    assert named.host_id == host.host_id
    failure = await refused_child(stack, root, host="another")
    assert (failure.reason, failure.code) == (
        "NOT_ALLOWED",
        grpc.StatusCode.PERMISSION_DENIED,
    )


@pytest.mark.parametrize(
    ("directory", "good"),
    [
        ("/srv/app", True),
        ("/srv/app/sub/dir", True),
        ("/srv/app/./sub", True),
        ("/srv/app/../app/sub", True),
        ("//srv/app/sub", True),
        ("/srv/app2", False),
        ("/srv/app/../other", False),
        ("/srv", False),
        ("/", False),
    ],
)
async def test_a_childs_directory_lies_in_its_parents(
    stack: Stack, directory: str, good: bool
) -> None:
    host = await stack.host()
    root = await stack.start(host, "root", directory="/srv/app")
    if good:
        made = await child(stack, host, root, "child", directory=directory)
        assert made.directory.startswith("/srv/app")
        assert ".." not in made.directory
    else:
        assert (await refused_child(stack, root, directory=directory)).reason == "NOT_ALLOWED"


ASK, ALLOW, DENY = 1, 2, 3


@pytest.mark.parametrize(
    ("parents", "wanted", "got"),
    [
        (0, 0, 0),
        (ASK, 0, 0),
        (ALLOW, ALLOW, ALLOW),
        (ALLOW, 0, 0),
        (ASK, DENY, DENY),
        (DENY, 0, DENY),
        (ASK, ALLOW, None),
        (0, ALLOW, None),
        (DENY, ASK, None),
    ],
)
async def test_a_childs_approvals_are_no_laxer_than_its_parents(
    stack: Stack, parents: int, wanted: int, got: int | None
) -> None:
    host = await stack.host()
    root = await stack.start(host, "root", policy={"approval": parents})
    if got is None:
        failure = await refused_child(stack, root, policy={"approval": wanted})
        assert failure.reason == "NOT_ALLOWED"
    else:
        made = await child(stack, host, root, "child", policy={"approval": wanted})
        assert made.policy.approval == got


async def test_an_agent_can_not_allow_itself_or_its_children_more(stack: Stack) -> None:
    host = await stack.host()
    root = await stack.start(host, "root", policy={"approval": ASK})
    made = await child(stack, host, root, "child")
    agent = await stack.agent(root.session_id)
    for target in (root, made):
        request = pb.UpdateSessionRequest(
            session=ref(target),
            update_mask={"paths": ["policy.approval"]},
            policy={"approval": ALLOW},
        )
        failure = await fails(stack.sessions.UpdateSession(request, metadata=agent))
        assert failure.reason == "NOT_ALLOWED"
        assert (await stack.session(target.session_id)).policy.approval == target.policy.approval


async def test_sessions_stand_four_deep_beneath_a_root(stack: Stack) -> None:
    host = await stack.host()
    at = await stack.start(host, "root")
    for depth in range(1, 5):
        at = await child(stack, host, at, f"depth-{depth}")
    failure = await refused_child(stack, at)
    assert (failure.reason, failure.metadata) == ("CHILD_LIMIT", {"limit": "4"})
    assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_session_has_at_most_32_live_children(stack: Stack) -> None:
    host = await stack.host()
    root = await stack.start(host, "root")
    made = [await child(stack, host, root, f"child-{number}") for number in range(32)]
    failure = await refused_child(stack, root)
    assert (failure.reason, failure.metadata) == ("CHILD_LIMIT", {"limit": "32"})
    host.over(made[0].session_id, 1)
    await host.synced()
    await child(stack, host, root, "one-more")


# ---------------------------------------------------------------- what a token reaches


async def test_an_agent_reaches_itself_and_what_is_beneath_it_alone(stack: Stack) -> None:
    host = await stack.host()
    stranger = await stack.start(host, "stranger")
    tree = await family(stack, host)
    agent = await stack.agent(tree["left"].session_id)
    for name in ("left", "leaf"):
        answer = await stack.sessions.GetSession(
            pb.GetSessionRequest(session=ref(tree[name])), metadata=agent
        )
        assert answer.session.slug == name
    for other in (stranger, tree["root"], tree["right"]):
        for target in (ref(other), session_pb2.SessionRef(slug=other.slug)):
            failure = await fails(
                stack.sessions.Send(
                    pb.SendRequest(session=target, content=[text("x")]), metadata=agent
                )
            )
            assert failure.reason == "SESSION_NOT_FOUND"
    listed = await stack.sessions.ListSessions(
        pb.ListSessionsRequest(order_by="slug"), metadata=agent
    )
    assert [each.slug for each in listed.sessions] == ["leaf", "left"]
    watch = stack.sessions.WatchSessions(watch_pb2.WatchSessionsRequest(), metadata=agent)
    seen = []
    while (message := await watch.read()).HasField("session"):
        seen.append(message.session.slug)
    assert sorted(seen) == ["leaf", "left"]
    host.over(stranger.session_id, 1)
    host.over(tree["leaf"].session_id, 1)
    await host.synced()
    stack.clock.advance(1.0)
    assert (await watch.read()).session.slug == "leaf"
    watch.cancel()


async def test_pages_of_what_an_agent_sees_hold_each_session_once(stack: Stack) -> None:
    host = await stack.host()
    root = await stack.start(host, "root")
    for number in range(5):
        await child(stack, host, root, f"c{number}")
    agent = await stack.agent(root.session_id)
    for order in ("slug", "slug desc", "create_time", ""):
        seen, token = [], ""
        while True:
            page = await stack.sessions.ListSessions(
                pb.ListSessionsRequest(page_size=2, page_token=token, order_by=order),
                metadata=agent,
            )
            seen += [each.slug for each in page.sessions]
            token = page.next_page_token
            if not token:
                break
        assert sorted(seen) == ["c0", "c1", "c2", "c3", "c4", "root"]
        assert seen[0] == ("c0" if order == "slug" else "root" if "desc" in order else seen[0])


async def test_an_agent_holds_no_right_to_approve_or_to_delete(stack: Stack) -> None:
    host = await stack.host()
    root = await stack.start(host, "root")
    agent = await stack.agent(root.session_id)
    calls = [
        stack.sessions.Respond(
            pb.RespondRequest(session=ref(root), approval_id="a", decision=1), metadata=agent
        ),
        stack.sessions.DeleteSession(pb.DeleteSessionRequest(session=ref(root)), metadata=agent),
    ]
    for call in calls:
        assert (await fails(call)).reason == "NOT_ALLOWED"


async def test_an_agent_resumes_its_child_where_it_was_and_nowhere_else(stack: Stack) -> None:
    host = await stack.host("box")
    await stack.host("another")
    root = await stack.start(host, "root", host="box")
    made = await child(stack, host, root, "child")
    host.over(made.session_id, 1)
    await host.synced()
    agent = await stack.agent(root.session_id)
    away = pb.ResumeRequest(session=ref(made), host="another")
    assert (await fails(stack.sessions.Resume(away, metadata=agent))).reason == "NOT_ALLOWED"
    here = pb.ResumeRequest(session=ref(made))
    call = asyncio.ensure_future(stack.sessions.Resume(here, metadata=agent))
    host.started(await host.command("start"))
    assert (await call).session.run == 2


# ---------------------------------------------------------------- trees


async def test_a_kill_takes_the_subtree_leaves_first(stack: Stack) -> None:
    host = await stack.host()
    tree = await family(stack, host)
    stranger = await stack.start(host, "stranger")
    request = pb.KillRequest(session=ref(tree["root"]), request_id=stack.new_id())
    call = asyncio.ensure_future(stack.sessions.Kill(request, metadata=stack.admin))
    kills = [await host.command("kill") for _ in range(4)]
    order = [kill.session_id for kill in kills]
    place = {name: order.index(session.session_id) for name, session in tree.items()}
    assert place["leaf"] < place["left"] < place["root"]
    assert place["right"] < place["root"]
    # All of it is closing from that commit on: nothing can be started beneath it.
    for session in tree.values():
        assert (await stack.session(session.session_id)).closing
        failure = await refused_child(stack, session)
        assert (failure.reason, failure.code) == (
            "SESSION_ENDING",
            grpc.StatusCode.FAILED_PRECONDITION,
        )
    for kill in kills:
        host.answer(kill, PENDING, receipt_pb2.OUTCOME_REASON_IN_PROGRESS)
    answer = await call
    assert [each.session_id for each in answer.children] == order[:3]
    assert {each.verb for each in answer.children} == {receipt_pb2.VERB_KILL}
    for session_id in order:
        host.over(session_id, 1, "KILLED", "KILL_REQUESTED")
    await host.synced()
    again = await stack.sessions.Kill(request, metadata=stack.admin)
    assert [outcome(each) for each in (again.receipt, *again.children)] == [("RAN", "DONE")] * 4
    assert phase(await stack.session(stranger.session_id)) == "IDLE"


async def test_a_kill_of_an_ended_session_still_takes_its_live_children(stack: Stack) -> None:
    host = await stack.host()
    tree = await family(stack, host)
    host.over(tree["root"].session_id, 1)
    await host.synced()
    request = pb.KillRequest(session=ref(tree["root"]))
    call = asyncio.ensure_future(stack.sessions.Kill(request, metadata=stack.admin))
    for _ in range(3):
        host.answer(await host.command("kill"), RAN)
    answer = await call
    assert outcome(answer.receipt) == ("RAN", "ALREADY_ENDED")
    assert len(answer.children) == 3


@pytest.mark.parametrize("verb", ["Stop", "Interrupt"])
async def test_children_are_left_alone_unless_the_tree_is_meant(stack: Stack, verb: str) -> None:
    host = await stack.host()
    tree = await family(stack, host)
    ask = getattr(pb, f"{verb}Request")
    for whole, count in ((False, 1), (True, 4)):
        request = ask(session=ref(tree["root"]), tree=whole)
        call = asyncio.ensure_future(getattr(stack.sessions, verb)(request, metadata=stack.admin))
        commands = [await host.command(verb.lower()) for _ in range(count)]
        for command in commands:
            host.answer(command, RAN)
        answer = await call
        assert len(answer.children) == count - 1
        assert {outcome(each) for each in (answer.receipt, *answer.children)} == {("RAN", "DONE")}
        if verb == "Stop":
            break  # (in force: a second one is answered by the host alone)


async def test_an_interrupt_of_a_tree_is_withdrawn_where_it_was_not_answered(
    stack: Stack,
) -> None:
    host = await stack.host()
    tree = await family(stack, host)
    request = pb.InterruptRequest(session=ref(tree["left"]), tree=True)
    call = asyncio.ensure_future(stack.sessions.Interrupt(request, metadata=stack.admin))
    leaf, left = [await host.command("interrupt") for _ in range(2)]
    assert (leaf.session_id, left.session_id) == (
        tree["leaf"].session_id,
        tree["left"].session_id,
    )
    host.answer(left, RAN, receipt_pb2.OUTCOME_REASON_NO_TURN)
    # (The root's answer is there, the leaf's is still waited for.)
    await stack.eventually(lambda: waits_for(stack, left.command_id), False)
    await stack.lose_patience()
    answer = await call
    assert outcome(answer.receipt) == ("RAN", "NO_TURN")
    assert [outcome(each) for each in answer.children] == [("NOT_RUN", "EXPIRED")]
    await host.until(lambda: host.withdrawn == [leaf.command_id])


async def waits_for(stack: Stack, command_id: str) -> bool:
    return outcome(await stack.command(command_id))[0] == "PENDING"


async def set_approval(
    stack: Stack, host: FakeHost, session: session_pb2.Session, approval: int
) -> None:
    """A user changes who answers the session's approvals."""
    request = pb.UpdateSessionRequest(
        session=ref(session),
        update_mask={"paths": ["policy.approval"]},
        policy={"approval": approval},
    )
    call = asyncio.ensure_future(stack.sessions.UpdateSession(request, metadata=stack.admin))
    host.answer(await host.command(), RAN)
    await call
    assert (await stack.session(session.session_id)).policy.approval == approval


@pytest.mark.parametrize(
    "asked",
    [
        {"agent": "shell"},
        {"agent": "absent"},
        {"agent": "steerable", "agent_command": "sh -c 'rm -rf /'"},
        {"agent": "steerable", "environment": {"LD_PRELOAD": "/tmp/evil.so"}},
    ],
)
async def test_who_must_ask_before_it_acts_starts_nothing_that_acts_without_asking(
    stack: Stack, asked: dict[str, Any]
) -> None:
    host = await stack.host()
    root = await stack.start(host, "root", agent="steerable", policy={"approval": ASK})
    failure = await refused_child(stack, root, **asked)
    assert (failure.reason, failure.code) == ("NOT_ALLOWED", grpc.StatusCode.PERMISSION_DENIED)
    made = await child(stack, host, root, "made", agent="steerable")
    assert (made.agent, made.policy.approval) == ("steerable", 0)


async def test_who_is_allowed_everything_starts_what_it_likes(stack: Stack) -> None:
    host = await stack.host()
    free = await stack.start(host, "free", agent="steerable", policy={"approval": ALLOW})
    await child(stack, host, free, "shell", agent="shell", environment={"A": "b"})
    shell = await stack.start(host, "root", agent="shell")
    await child(stack, host, shell, "steerable", agent="steerable", agent_command="x")


async def test_a_grandchild_is_allowed_no_more_than_its_own_parent(stack: Stack) -> None:
    host = await stack.host()
    root = await stack.start(host, "root", policy={"approval": ALLOW})
    middle = await child(stack, host, root, "middle", policy={"approval": DENY})
    leaf = await child(stack, host, middle, "leaf")
    request = pb.UpdateSessionRequest(
        session=ref(leaf), update_mask={"paths": ["policy.approval"]}, policy={"approval": ASK}
    )
    agent = await stack.agent(root.session_id)
    assert (await fails(stack.sessions.UpdateSession(request, metadata=agent))).reason == (
        "NOT_ALLOWED"
    )
    # People are not bound by what agents are allowed.
    await set_approval(stack, host, leaf, ASK)


async def test_an_agent_resumes_no_child_that_is_allowed_more_than_it_is_by_now(
    stack: Stack,
) -> None:
    host = await stack.host()
    root = await stack.start(host, "root", policy={"approval": ASK})
    made = await child(stack, host, root, "child")
    host.over(made.session_id, made.run)
    await host.synced()
    await set_approval(stack, host, root, DENY)
    agent = await stack.agent(root.session_id)
    resume = pb.ResumeRequest(session=ref(made), request_id=stack.new_id())
    assert (await fails(stack.sessions.Resume(resume, metadata=agent))).reason == "NOT_ALLOWED"


async def test_a_session_and_its_children_hold_no_right_that_their_starter_lacks(
    stack: Stack,
) -> None:
    host = await stack.host()
    starter = bearer(await mint(stack.store, name="s", rights=("session.start", "session.read")))
    call = asyncio.ensure_future(
        stack.sessions.StartSession(stack.start_request("root"), metadata=starter)
    )
    host.started(await host.command("start"))
    root = (await call).session
    await host.synced()
    made = await child(stack, host, root, "child")
    for session in (root, made):
        agent = await stack.agent(session.session_id)
        await stack.sessions.GetSession(pb.GetSessionRequest(session=ref(made)), metadata=agent)
        kill = pb.KillRequest(session=ref(made))
        assert (await fails(stack.sessions.Kill(kill, metadata=agent))).reason == "NOT_ALLOWED"
