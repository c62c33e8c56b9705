"""What control tells of itself by traces and metrics, through real gRPC, with a host that is
scripted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from bridle.v1 import event_pb2, receipt_pb2, watch_pb2
from tests.bridle_control.serving import bearer, fails
from tests.bridle_control.stack import Stack, pb, ref, text
from tests.fakes.host import RAN
from tests.support.telemetry import (
    PARENT_ID,
    TRACE_ID,
    TRACEPARENT,
    Recorded,
    hex_id,
    hex_parent,
    hex_trace,
)

TRACED = (("traceparent", TRACEPARENT), ("tracestate", "vendor=1"))


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


@pytest.fixture
async def stack(tmp_path: Path, recorded: Recorded) -> AsyncIterator[Stack]:
    async with Stack(tmp_path / "store", recorded.telemetry) as made:
        yield made


async def test_a_call_is_a_span_in_its_callers_trace_and_so_is_its_command_to_the_outcome(
    stack: Stack, recorded: Recorded
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    request = pb.SendRequest(session=ref(session), content=[text("s3cret")])
    call = asyncio.ensure_future(stack.sessions.Send(request, metadata=(*stack.admin, *TRACED)))
    deliver = await host.command("deliver")

    # The host is told the place of the call, not that of its caller.
    (_, trace_id, span_id, flags) = deliver.trace.traceparent.split("-")
    assert (trace_id, flags, deliver.trace.tracestate) == (TRACE_ID, "01", "vendor=1")

    host.answer(
        deliver,
        receipt_pb2.OUTCOME_STATE_PENDING,
        receipt_pb2.OUTCOME_REASON_QUEUED,
        input_id=deliver.deliver.input_id,
    )
    await call
    stack.clock.advance(3.0)
    assert not recorded.spans("command SEND"), "it has no outcome yet"
    host.turn(deliver, 1)
    await host.synced()

    (served,) = recorded.spans("bridle.v1.SessionService/Send")
    assert (hex_trace(served), hex_parent(served)) == (TRACE_ID, PARENT_ID)
    assert hex_id(served) == span_id
    assert served.kind.name == "SERVER"
    assert dict(served.attributes or {}) == {
        "rpc.system.name": "grpc",
        "rpc.method": "bridle.v1.SessionService/Send",
        "rpc.response.status_code": "OK",
    }
    (command,) = recorded.spans("command SEND")
    assert (hex_trace(command), hex_parent(command)) == (TRACE_ID, span_id)
    assert command.attributes is not None
    assert command.attributes["bridle.outcome.state"] == "RAN"
    assert command.attributes["bridle.session_id"] == session.session_id
    assert command.end_time is not None
    assert command.start_time is not None
    assert command.end_time - command.start_time >= 3 * 10**9, "from acceptance to outcome"


async def test_a_command_is_told_of_in_its_trace_by_a_control_that_was_started_anew(
    stack: Stack, recorded: Recorded
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await host.drop()
    await stack.until(lambda: not stack.links.is_live(host.host_id))
    request = pb.StopRequest(session=ref(session))
    call = asyncio.ensure_future(stack.sessions.Stop(request, metadata=(*stack.admin, *TRACED)))
    await stack.lose_patience()
    await call

    await stack.restart()
    again = stack.reborn(host)
    again.inventory = host.inventory
    await again.connect()
    stop = await again.command("stop")
    assert stop.trace.traceparent.split("-")[1] == TRACE_ID
    again.answer(stop, RAN, receipt_pb2.OUTCOME_REASON_DONE)
    await again.synced()

    (command,) = recorded.spans("command STOP")
    assert hex_trace(command) == TRACE_ID
    assert hex_parent(command) == hex_id(recorded.spans("bridle.v1.SessionService/Stop")[0])


async def test_a_kill_of_a_tree_is_one_trace(stack: Stack, recorded: Recorded) -> None:
    host = await stack.host()
    parent = await stack.start(host, "parent")
    agent = await stack.agent(parent.session_id)
    call = asyncio.ensure_future(
        stack.sessions.StartSession(stack.start_request("child"), metadata=agent)
    )
    host.started(await host.command("start"))
    await call
    kill = asyncio.ensure_future(
        stack.sessions.Kill(pb.KillRequest(session=ref(parent)), metadata=(*stack.admin, *TRACED))
    )
    traces = set()
    for _ in range(2):
        command = await host.command("kill")
        traces.add(command.trace.traceparent.split("-")[1])
        host.answer(command, RAN, receipt_pb2.OUTCOME_REASON_DONE)
    await kill
    assert traces == {TRACE_ID}


@pytest.mark.parametrize(
    "metadata",
    [
        (("traceparent", "00-" + "0" * 32 + "-b7ad6b7169203331-01"),),
        (("traceparent", "nonsense"),),
        (("traceparent", "00-" + "a" * 5000 + "-b7ad6b7169203331-01"),),
        (("traceparent", TRACEPARENT[:-1]),),
        (("tracestate", "vendor=1"),),
        (),
    ],
    ids=["zero", "nonsense", "long", "short", "only-state", "none"],
)
async def test_what_is_no_trace_context_is_as_if_there_were_none(
    stack: Stack, recorded: Recorded, metadata: tuple[tuple[str, str], ...]
) -> None:
    await stack.sessions.ListSessions(pb.ListSessionsRequest(), metadata=(*stack.admin, *metadata))
    (served,) = recorded.spans("bridle.v1.SessionService/ListSessions")
    assert served.parent is None
    assert hex_trace(served) != TRACE_ID


async def test_a_long_tracestate_is_left_out_and_the_trace_goes_on(
    stack: Stack, recorded: Recorded
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    long = ",".join(f"v{number}=" + "x" * 100 for number in range(20))
    call = asyncio.ensure_future(
        stack.sessions.Send(
            pb.SendRequest(session=ref(session), content=[text("go")]),
            metadata=(*stack.admin, ("traceparent", TRACEPARENT), ("tracestate", long)),
        )
    )
    deliver = await host.command("deliver")
    assert deliver.trace.traceparent.split("-")[1] == TRACE_ID
    assert not deliver.trace.tracestate
    host.turn(deliver, 1)
    await call


async def test_what_a_caller_does_not_want_kept_is_not_kept_and_is_handed_on_so(
    stack: Stack, recorded: Recorded
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    call = asyncio.ensure_future(
        stack.sessions.Send(
            pb.SendRequest(session=ref(session), content=[text("go")]),
            metadata=(*stack.admin, ("traceparent", TRACEPARENT[:-1] + "0")),
        )
    )
    deliver = await host.command("deliver")
    assert deliver.trace.traceparent.startswith(f"00-{TRACE_ID}-")
    assert deliver.trace.traceparent.endswith("-00")
    host.turn(deliver, 1)
    await call
    assert not [span for span in recorded.spans() if hex_trace(span) == TRACE_ID]


async def test_without_traces_a_callers_place_is_handed_on_as_it_is(tmp_path: Path) -> None:
    async with Stack(tmp_path / "store") as stack:
        host = await stack.host()
        session = await stack.start(host)
        call = asyncio.ensure_future(
            stack.sessions.Send(
                pb.SendRequest(session=ref(session), content=[text("go")]),
                metadata=(*stack.admin, *TRACED),
            )
        )
        deliver = await host.command("deliver")
        assert deliver.trace.traceparent == TRACEPARENT
        assert deliver.trace.tracestate == "vendor=1"
        host.turn(deliver, 1)
        await call


async def test_one_call_leaves_no_trace_for_the_next_of_its_connection(
    stack: Stack, recorded: Recorded
) -> None:
    for metadata in (TRACED, ()):
        await stack.sessions.ListSessions(
            pb.ListSessionsRequest(), metadata=(*stack.admin, *metadata)
        )
    traced, other = recorded.spans("bridle.v1.SessionService/ListSessions")
    assert hex_trace(traced) == TRACE_ID
    assert hex_trace(other) != TRACE_ID


async def test_who_is_not_let_in_makes_no_span_and_is_counted(
    stack: Stack, recorded: Recorded
) -> None:
    for credential in ((), bearer("brt_nobody")):
        await fails(
            stack.sessions.ListSessions(pb.ListSessionsRequest(), metadata=(*credential, *TRACED))
        )
    assert not recorded.spans()
    found = [
        (said["rpc.response.status_code"], said["error.type"], count)
        for said, count in recorded.points("rpc.server.call.duration")
        if said["rpc.method"] == "bridle.v1.SessionService/ListSessions"
    ]
    assert sorted(found) == [
        ("UNAUTHENTICATED", "TOKEN_INVALID", 1),
        ("UNAUTHENTICATED", "TOKEN_MISSING", 1),
    ]


async def test_a_failure_is_told_by_its_code_and_reason_and_is_an_error_where_it_is_ours(
    stack: Stack, recorded: Recorded
) -> None:
    gone = pb.GetSessionRequest(session={"slug": "nowhere"})
    assert (await fails(stack.sessions.GetSession(gone, metadata=stack.admin))).code == (
        grpc.StatusCode.NOT_FOUND
    )
    (span,) = recorded.spans("bridle.v1.SessionService/GetSession")
    assert span.attributes is not None
    assert span.attributes["rpc.response.status_code"] == "NOT_FOUND"
    assert span.attributes["error.type"] == "SESSION_NOT_FOUND"
    assert span.status.status_code.name == "UNSET", "it is the caller's"

    host = await stack.host()
    session = await stack.start(host)
    await host.drop()
    await stack.until(lambda: not stack.links.is_live(host.host_id))
    interrupt = pb.InterruptRequest(session=ref(session))
    call = asyncio.ensure_future(stack.sessions.Interrupt(interrupt, metadata=stack.admin))
    await stack.lose_patience()
    await fails(call)
    (span,) = recorded.spans("bridle.v1.SessionService/Interrupt")
    assert span.attributes is not None
    assert span.attributes["error.type"] == "HOST_UNREACHABLE"
    assert span.status.status_code.name == "ERROR"


async def test_commands_are_counted_once_by_verb_and_outcome(
    stack: Stack, recorded: Recorded
) -> None:
    host = await stack.host()
    session = await stack.start(host)
    call = asyncio.ensure_future(
        stack.sessions.Interrupt(pb.InterruptRequest(session=ref(session)), metadata=stack.admin)
    )
    # Withdrawn, and answered all the same: one command, however often its row says more.
    interrupt = await host.command("interrupt")
    await stack.lose_patience()
    await fails(call)
    host.answer(interrupt, RAN, receipt_pb2.OUTCOME_REASON_NO_TURN)
    await host.synced()
    found = {
        (said["bridle.verb"], said["bridle.outcome.state"], said["bridle.outcome.reason"]): count
        for said, count in recorded.points("bridle.command.duration")
    }
    assert found == {("START", "RAN", "DONE"): 1, ("INTERRUPT", "NOT_RUN", "EXPIRED"): 1}


async def test_sessions_hosts_links_and_commits_are_counted(
    stack: Stack, recorded: Recorded
) -> None:
    host = await stack.host()
    await stack.host("other", connect=False)
    await stack.start(host, "a")

    def phases() -> dict[str, Any]:
        return {said["bridle.phase"]: count for said, count in recorded.points("bridle.sessions")}

    async def until_seen(phase: str) -> None:
        while phases().get(phase) != 1:
            await stack.pass_time(host, 5.0)

    await until_seen("IDLE")
    assert phases()["RUNNING"] == 0
    hosts = {said["bridle.link.state"]: n for said, n in recorded.points("bridle.hosts")}
    assert hosts == {"connected": 1, "away": 1}
    changes = {said["bridle.link.state"]: n for said, n in recorded.points("bridle.link.changes")}
    assert changes == {"opened": 1}
    ((_, commits),) = recorded.points("bridle.store.commit.duration")
    assert commits > 0
    ((_, events),) = recorded.points("bridle.store.events")
    assert events == len(await stack.events((await _only(stack)).session_id))

    host.over((await _only(stack)).session_id, 1, "STOPPED")
    await host.synced()
    await until_seen("STOPPED")
    assert phases()["IDLE"] == 0, "no phase stays at what it was"


async def test_each_link_that_opened_is_told_to_have_ended_once_also_when_another_replaced_it(
    stack: Stack, recorded: Recorded
) -> None:
    def changes() -> dict[str, int]:
        points = recorded.points("bridle.link.changes")
        return {said["bridle.link.state"]: count for said, count in points}

    host = await stack.host()
    # Its connection is lost; control learns of that by the next one of the same process.
    again = stack.twin(host, incarnation=host.incarnation, journal=host.journal)
    again.attempt = host.attempt + 1
    await again.connect()
    await stack.until(lambda: changes() == {"opened": 2, "ended": 1})
    await host.drop()
    await again.drop()
    await stack.until(lambda: stack.links._streams == {})
    assert changes() == {"opened": 2, "ended": 2}
    # One that leaves before it is through its handshake has not opened.
    late = stack.reborn(again)
    late.answers_heartbeats = False
    await late.greet()
    await late.drop()
    await stack.until(lambda: stack.links._streams == {})
    assert changes() == {"opened": 2, "ended": 2}


async def test_watchers_and_how_far_they_are_behind_are_told(
    stack: Stack, recorded: Recorded
) -> None:
    host = await stack.host()
    session = await stack.start(host)

    def value(metric: str) -> Any:
        found = recorded.points(metric)
        return found[0][1] if found else None

    async def seen(metric: str, wanted: Callable[[Any], bool]) -> None:
        while not wanted(value(metric)):
            await stack.pass_time(host, 5.0)

    request = watch_pb2.WatchRequest(targets=[watch_pb2.WatchTarget(session=ref(session))])
    # One that reads nothing: what it has not been sent stays before it, however much comes.
    stuck = stack.sessions.Watch(request, metadata=stack.admin)
    await seen("bridle.watchers", lambda n: n == 1)
    output = event_pb2.ToolCallOutput(tool_call_id="t", text="x" * 500_000)
    for _ in range(60):
        host.event(session.session_id, 1, turn=1, tool_call_output=output)
    await host.synced()
    await seen("bridle.watch.lag", lambda n: n > 0)
    assert value("bridle.watchers.behind") == 1

    stuck.cancel()
    await seen("bridle.watchers", lambda n: n == 0)
    assert value("bridle.watch.lag") == 0


async def _only(stack: Stack) -> Any:
    answer = await stack.sessions.ListSessions(pb.ListSessionsRequest(), metadata=stack.admin)
    (session,) = answer.sessions
    return session


async def test_nothing_that_was_said_is_in_traces_or_metrics(
    stack: Stack, recorded: Recorded
) -> None:
    host = await stack.host()
    session = await stack.start(
        host,
        "slug-s3cret",
        title="s3cret",
        labels={"label": "s3cret"},
        environment={"NAME": "s3cret"},
        directory="/s3cret",
    )
    _, deliver = await stack.send(host, session, content=[text("s3cret")])
    host.turn(deliver, 1)
    await host.synced()
    await fails(
        stack.sessions.GetSession(
            pb.GetSessionRequest(session={"slug": "s3cret"}), metadata=stack.admin
        )
    )
    everything = [repr(span.to_json()) for span in recorded.spans()]
    everything += [
        repr(recorded.points(metric)) for metric in ("rpc.server.call.duration", "bridle.sessions")
    ]
    assert len(recorded.spans()) >= 4
    assert "s3cret" not in "".join(everything)
    assert stack.admin[0][1] not in "".join(everything)
