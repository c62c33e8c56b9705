"""StartSession over real gRPC, against a host that speaks the real link."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import grpc
import pytest

from bridle.v1 import session_pb2
from bridle_control.store.api import SessionBlob, Tx
from tests.bridle_control.serving import fails
from tests.bridle_control.stack import Stack, outcome, pb, phase, ref, text


async def test_a_session_starts_with_its_receipt_and_its_first_events(stack: Stack) -> None:
    host = await stack.host()
    request = stack.start_request(labels={"team": "core"}, title="first", directory="/srv/app")
    call = asyncio.ensure_future(stack.sessions.StartSession(request, metadata=stack.admin))
    start = await host.command("start")
    assert (start.start.slug, start.start.agent, start.run) == ("x", "shell", 1)
    assert start.start.token.token.startswith("brs_")
    assert start.principal.name == "admin"
    host.started(start)
    answer = await call
    assert outcome(answer.receipt) == ("RAN", "DONE")
    assert answer.receipt.session_id == start.session_id == answer.session.session_id
    await host.synced()
    session = await stack.session(start.session_id)
    assert (phase(session), session.run, session.slug) == ("IDLE", 1, "x")
    assert (session.directory, session.containment) == ("/srv/app", "SUBREAPER")
    assert dict(session.labels) == {"team": "core"}
    assert session.reachability == session_pb2.REACHABILITY_REACHABLE
    assert await stack.kinds(start.session_id) == [
        "session_started",
        "process_started",
        "phase_changed",
    ]


async def test_a_prompt_is_queued_in_the_same_commit_and_delivered_behind_the_start(
    stack: Stack,
) -> None:
    host = await stack.host()
    request = stack.start_request(prompt=[text("sleep 60")])
    call = asyncio.ensure_future(stack.sessions.StartSession(request, metadata=stack.admin))
    start = await host.command("start")
    deliver = await host.command("deliver")
    assert deliver.deliver.content[0].text == "sleep 60"
    assert deliver.deliver.sequence == 1
    host.started(start)
    answer = await call
    host.turn(deliver, 1)
    await host.synced()
    assert (await stack.kinds(start.session_id))[0] == "input_queued"
    listed = await stack.sessions.ListInputs(
        pb.ListInputsRequest(session=ref(answer.session)), metadata=stack.admin
    )
    (prompt,) = listed.inputs
    assert (prompt.turn, prompt.sequence, prompt.principal.name) == (1, 1, "admin")
    assert outcome(await stack.command(prompt.command_id)) == ("RAN", "TURN_STARTED")


async def test_a_refused_start_leaves_nothing_and_tells_every_repeat_the_same(
    stack: Stack,
) -> None:
    host = await stack.host()
    request = stack.start_request(prompt=[text("hello")], directory="/gone")
    call = asyncio.ensure_future(fails(stack.sessions.StartSession(request, metadata=stack.admin)))
    start = await host.command("start")
    await host.command("deliver")
    host.refuse(start, "DIRECTORY_MISSING", directory="/gone")
    failure = await call
    assert failure.code is grpc.StatusCode.FAILED_PRECONDITION
    assert (failure.reason, failure.metadata) == ("DIRECTORY_MISSING", {"directory": "/gone"})
    again = await fails(stack.sessions.StartSession(request, metadata=stack.admin))
    assert (again.reason, again.metadata) == (failure.reason, failure.metadata)
    assert await stack.store.read(lambda tx: tx.session(start.session_id)) is None
    assert await stack.store.read(lambda tx: tx.inputs(start.session_id)) == []
    assert await stack.store.read(lambda tx: tx.blob(start.session_id, SessionBlob.LAUNCH)) == b""
    assert await stack.store.read(lambda tx: tx.open_commands(start.session_id)) == []
    # The slug is free, and late words about the dead run change nothing.
    host.event(start.session_id, 1, session_started={})
    await host.synced()
    await stack.start(host, "x")


@pytest.mark.parametrize(
    ("verb", "fields"),
    [
        ("Send", {"content": [text("go")]}),
        ("Interrupt", {}),
        ("Stop", {}),
        ("Kill", {}),
        ("ReleaseQueue", {}),
        ("UpdateSession", {"update_mask": {"paths": ["policy"]}}),
    ],
)
async def test_who_waits_for_a_session_whose_start_is_refused_hears_that_there_is_none(
    stack: Stack, verb: str, fields: dict[str, Any]
) -> None:
    host = await stack.host()
    call = asyncio.ensure_future(
        fails(stack.sessions.StartSession(stack.start_request(), metadata=stack.admin))
    )
    start = await host.command("start")
    reference = session_pb2.SessionRef(slug="x")
    request = getattr(pb, f"{verb}Request")(session=reference, request_id=stack.new_id(), **fields)
    waits = asyncio.ensure_future(
        fails(getattr(stack.sessions, verb)(request, metadata=stack.admin))
    )
    await stack.until(lambda: stack.commands.waiting == 2)
    host.refuse(start, "DIRECTORY_MISSING", directory="/gone")
    assert (await call).reason == "DIRECTORY_MISSING"
    assert (await waits).reason == "SESSION_NOT_FOUND"


async def test_a_start_without_an_answer_is_pending_and_goes_on_by_itself(stack: Stack) -> None:
    host = await stack.host()
    request = stack.start_request()
    call = asyncio.ensure_future(stack.sessions.StartSession(request, metadata=stack.admin))
    start = await host.command("start")
    await stack.lose_patience()
    answer = await call
    assert outcome(answer.receipt) == ("PENDING", "PENDING_HOST")
    assert phase(answer.session) == "STARTING"
    host.started(start)
    await host.synced()
    assert outcome(await stack.command(answer.receipt.command_id)) == ("RAN", "DONE")
    assert phase(await stack.session(answer.session.session_id)) == "IDLE"


@pytest.mark.parametrize("named", ["", "box"])
async def test_an_agents_own_program_is_looked_for_by_the_host_that_is_to_run_it(
    stack: Stack, named: str
) -> None:
    host = await stack.host("box")
    fields = {"agent": "absent", "agent_command": "/opt/absent --flag", "host": named}
    request = stack.start_request(**fields)
    call = asyncio.ensure_future(stack.sessions.StartSession(request, metadata=stack.admin))
    start = await host.command("start")
    assert start.start.agent_command == "/opt/absent --flag"
    host.started(start)
    assert (await call).session.agent == "absent"
    for command in ("--flag", " "):
        request = stack.start_request(slug="other", **{**fields, "agent_command": command})
        failure = await fails(stack.sessions.StartSession(request, metadata=stack.admin))
        assert failure.reason == "AGENT_NOT_INSTALLED"


@pytest.mark.parametrize(
    ("fields", "reason", "code"),
    [
        ({"host": "nowhere"}, "HOST_NOT_FOUND", grpc.StatusCode.NOT_FOUND),
        ({"agent": "absent"}, "AGENT_NOT_INSTALLED", grpc.StatusCode.FAILED_PRECONDITION),
        ({"agent": "unheard"}, "AGENT_NOT_INSTALLED", grpc.StatusCode.FAILED_PRECONDITION),
        ({"host": "full"}, "HOST_FULL", grpc.StatusCode.RESOURCE_EXHAUSTED),
        ({"host": "away"}, "HOST_UNREACHABLE", grpc.StatusCode.UNAVAILABLE),
        ({"slug": "taken"}, "SLUG_TAKEN", grpc.StatusCode.ALREADY_EXISTS),
        ({"slug": "../x"}, "INVALID_REQUEST", grpc.StatusCode.INVALID_ARGUMENT),
        ({"slug": "a\nb"}, "INVALID_REQUEST", grpc.StatusCode.INVALID_ARGUMENT),
        ({"request_id": "not-an-id"}, "INVALID_REQUEST", grpc.StatusCode.INVALID_ARGUMENT),
        ({"workspace": "other"}, "WORKSPACE_NOT_FOUND", grpc.StatusCode.NOT_FOUND),
    ],
)
async def test_what_is_wrong_with_a_start_is_told_and_nothing_is_written(
    stack: Stack, fields: dict[str, str], reason: str, code: grpc.StatusCode
) -> None:
    box = await stack.host("box")
    full = await stack.host("full", session_limit=1)
    await stack.host("away", connect=False)
    await stack.start(box, "taken", host="box")
    await stack.start(full, "filler", host="full")
    fields = {"slug": "fresh", **fields}
    failure = await fails(
        stack.sessions.StartSession(stack.start_request(**fields), metadata=stack.admin)
    )
    assert (failure.reason, failure.code) == (reason, code)
    listed = await stack.sessions.ListSessions(pb.ListSessionsRequest(), metadata=stack.admin)
    assert {session.slug for session in listed.sessions} == {"taken", "filler"}


async def test_without_a_live_host_a_start_is_refused_with_a_time_to_retry(stack: Stack) -> None:
    await stack.host("away", connect=False)
    failure = await fails(stack.sessions.StartSession(stack.start_request(), metadata=stack.admin))
    assert (failure.reason, failure.code) == ("NO_HOST", grpc.StatusCode.UNAVAILABLE)
    assert failure.retry_seconds == 2.0


async def test_the_least_loaded_host_with_the_agent_runs_the_session(stack: Stack) -> None:
    small = await stack.host("a-small", session_limit=2)
    large = await stack.host("b-large", session_limit=10)
    await stack.start(small, "one", host="a-small")
    await stack.start(large, "two", host="b-large")
    chosen = await stack.start(large, "three")
    assert chosen.host_id == large.host_id


async def test_a_drained_host_is_passed_over(stack: Stack) -> None:
    drained = await stack.host("a-drained")
    free = await stack.host("b-free")

    def drain(tx: Tx) -> None:
        row = tx.host(drained.host_id)
        assert row is not None
        tx.update_host(replace(row, draining=True))

    await stack.store.write(drain)
    chosen = await stack.start(free, "x")
    assert chosen.host_id == free.host_id
    failure = await fails(
        stack.sessions.StartSession(
            stack.start_request("y", host="a-drained"), metadata=stack.admin
        )
    )
    assert failure.reason == "NO_HOST"
