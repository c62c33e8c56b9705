"""HostService over gRPC: lists, drain, removal, join tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from bridle.host.v1 import host_link_service_pb2 as link_pb2
from bridle.host.v1 import host_link_service_pb2_grpc
from bridle.v1 import (
    event_pb2,
    host_pb2,
    host_service_pb2_grpc,
    receipt_pb2,
    session_pb2,
)
from bridle.v1 import host_service_pb2 as pb
from bridle_control.ids import uuid7
from bridle_control.projection import Projection
from bridle_control.store.api import HostRow, SessionRow, Store, Tx
from bridle_control.store.event_bytes import unframe
from tests.bridle_control.serving import (
    RunningControl,
    bearer,
    control_server,
    fails,
    mint,
)


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[RunningControl]:
    async with control_server(tmp_path / "store") as running:
        yield running


@pytest.fixture
def hosts(control: RunningControl) -> Any:
    stub: Any = host_service_pb2_grpc.HostServiceStub(control.channel)
    return stub


def agents(*names: str) -> bytes:
    made = [host_pb2.Agent(agent=name, installed=name != "absent") for name in names]
    return pb.ListAgentsResponse(agents=made).SerializeToString()


async def add_host(store: Store, name: str, *agent_names: str, workspace: str = "default") -> None:
    row = HostRow(f"id-{name}", workspace, name, len(name), agents=agents(*agent_names))
    await store.write(lambda tx: tx.insert_host(row))


async def add_session(store: Store, session_id: str, host: str, **changes: Any) -> None:
    values: dict[str, Any] = {
        "session_id": session_id,
        "workspace": "default",
        "slug": session_id,
        "agent": "shell",
        "host_id": f"id-{host}",
        "phase": session_pb2.PHASE_IDLE,
        "run": 1,
        "create_time": 1,
        "update_time": 1,
        "queue_state": session_pb2.QUEUE_STATE_OPEN,
        **changes,
    }
    await store.write(lambda tx: tx.insert_session(SessionRow(**values)))


async def end_session(store: Store, session_id: str) -> None:
    def end(tx: Tx) -> None:
        projection = Projection(tx)
        row = projection.session(session_id)
        assert row is not None
        ended = event_pb2.SessionEnded(phase=session_pb2.PHASE_STOPPED, verified=True)
        projection.happen(row, event_pb2.Event(session_ended=ended))
        projection.flush()

    await store.write(end)


async def kinds(store: Store, session_id: str) -> list[str]:
    found = await store.read(lambda tx: tx.events(session_id, 0))
    events = [event_pb2.Event.FromString(unframe(framed)) for framed in found.framed]
    return [event.WhichOneof("kind") or "" for event in events]


# --- lists -----------------------------------------------------------------------------------


async def test_hosts_are_listed_filtered_and_ordered(control: RunningControl, hosts: Any) -> None:
    for name in ("mill", "barn", "a-long-name"):
        await add_host(control.store, name, "shell")
    await control.store.write(lambda tx: tx.insert_host(HostRow("x", "elsewhere", "hidden", 1)))

    async def names(**asked: Any) -> list[str]:
        listed = await hosts.ListHosts(pb.ListHostsRequest(**asked), metadata=control.metadata)
        return [host.name for host in listed.hosts]

    assert await names() == ["a-long-name", "barn", "mill"]
    assert await names(order_by="create_time desc") == ["a-long-name", "mill", "barn"]
    assert await names(filter="name = barn") == ["barn"]
    assert await names(filter="state = CONNECTED") == []
    assert await names(filter="draining = false AND name != barn", page_size=1) == ["a-long-name"]
    found = await fails(
        hosts.ListHosts(pb.ListHostsRequest(filter="size = 3"), metadata=control.metadata)
    )
    assert found.fields[0][0] == "filter"


async def test_agents_are_listed_by_host_and_agent(control: RunningControl, hosts: Any) -> None:
    await add_host(control.store, "mill", "shell", "absent")
    await add_host(control.store, "barn", "shell")

    async def found(**asked: Any) -> list[tuple[str, str]]:
        listed = await hosts.ListAgents(pb.ListAgentsRequest(**asked), metadata=control.metadata)
        return [(agent.agent, agent.host_id) for agent in listed.agents]

    assert await found() == [("absent", "id-mill"), ("shell", "id-barn"), ("shell", "id-mill")]
    assert await found(host="mill", filter="installed = true") == [("shell", "id-mill")]
    assert await found(order_by="host_id") == [
        ("shell", "id-barn"),
        ("absent", "id-mill"),
        ("shell", "id-mill"),
    ]
    refused = await fails(
        hosts.ListAgents(pb.ListAgentsRequest(host="shed"), metadata=control.metadata)
    )
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "HOST_NOT_FOUND")


async def test_a_host_of_another_workspace_is_not_there(
    control: RunningControl, hosts: Any
) -> None:
    await control.store.write(lambda tx: tx.insert_host(HostRow("far", "elsewhere", "far", 1)))
    clerk = bearer(await mint(control.store, rights=("host.*",), workspace="default"))
    texts = set()
    for name in ("far", "nobody"):
        for call in (
            hosts.DrainHost(pb.DrainHostRequest(host=name), metadata=clerk),
            hosts.RemoveHost(pb.RemoveHostRequest(host=name, force=True), metadata=clerk),
        ):
            found = await fails(call)
            assert found.reason == "HOST_NOT_FOUND"
            texts.add(found.text.replace(name, "X"))
    assert len(texts) == 1


# --- drain -----------------------------------------------------------------------------------


async def test_draining_an_idle_host_is_done_at_once_and_can_be_undone(
    control: RunningControl, hosts: Any
) -> None:
    await add_host(control.store, "mill")
    request = pb.DrainHostRequest(request_id=uuid7(), host="mill")
    first = await hosts.DrainHost(request, metadata=control.metadata)
    again = await hosts.DrainHost(request, metadata=control.metadata)
    assert first == again
    assert first.host.draining
    assert first.receipt.outcome.state == receipt_pb2.OUTCOME_STATE_RAN
    undone = await hosts.DrainHost(
        pb.DrainHostRequest(host="id-mill", undo=True), metadata=control.metadata
    )
    assert not undone.host.draining
    assert undone.receipt.outcome.state == receipt_pb2.OUTCOME_STATE_RAN


async def test_draining_asks_each_live_session_to_stop_and_is_done_with_the_last(
    control: RunningControl, hosts: Any
) -> None:
    await add_host(control.store, "mill")
    for session in ("a", "b"):
        await add_session(control.store, session, "mill")
    await add_session(control.store, "over", "mill", phase=session_pb2.PHASE_STOPPED)
    request = pb.DrainHostRequest(request_id=uuid7(), host="mill", grace=Duration(seconds=7))
    drained = await hosts.DrainHost(request, metadata=control.metadata)
    assert drained.receipt.outcome.state == receipt_pb2.OUTCOME_STATE_PENDING
    assert drained.host.live_sessions == 2
    rows = await control.store.read(lambda tx: tx.commands_to_send("id-mill"))
    assert sorted(row.session_id for row in rows) == ["a", "b"]
    for row in rows:
        stop = link_pb2.Command.FromString(row.action).stop
        assert stop.reason == session_pb2.END_REASON_HOST_DRAINED
        assert stop.grace.seconds == 7
        assert row.parent_command_id == drained.receipt.command_id
    states = []
    for session in ("a", "b"):
        await end_session(control.store, session)
        again = await hosts.DrainHost(request, metadata=control.metadata)
        states.append(again.receipt.outcome.state)
    assert states == [receipt_pb2.OUTCOME_STATE_PENDING, receipt_pb2.OUTCOME_STATE_RAN]


async def test_undoing_a_drain_decides_its_receipt(control: RunningControl, hosts: Any) -> None:
    await add_host(control.store, "mill")
    await add_session(control.store, "a", "mill")
    request = pb.DrainHostRequest(request_id=uuid7(), host="mill")
    await hosts.DrainHost(request, metadata=control.metadata)
    await hosts.DrainHost(pb.DrainHostRequest(host="mill", undo=True), metadata=control.metadata)
    outcome = (await hosts.DrainHost(request, metadata=control.metadata)).receipt.outcome
    assert outcome.state == receipt_pb2.OUTCOME_STATE_NOT_RUN
    assert outcome.reason == receipt_pb2.OUTCOME_REASON_CANCELLED


# --- removal ---------------------------------------------------------------------------------


async def test_a_host_with_live_sessions_goes_only_by_force(
    control: RunningControl, hosts: Any
) -> None:
    await add_host(control.store, "mill")
    await add_session(control.store, "a", "mill", turn=3, turn_open=True)
    found = await fails(
        hosts.RemoveHost(pb.RemoveHostRequest(host="mill"), metadata=control.metadata)
    )
    assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "HOST_IN_USE")
    assert found.metadata == {"host": "mill"}
    assert await kinds(control.store, "a") == []
    request = pb.RemoveHostRequest(request_id=uuid7(), host="mill", force=True)
    first = await hosts.RemoveHost(request, metadata=control.metadata)
    assert first == await hosts.RemoveHost(request, metadata=control.metadata)
    assert await kinds(control.store, "a") == ["turn_ended", "session_ended"]
    row = await control.store.read(lambda tx: tx.session("a"))
    assert row is not None
    assert row.phase == session_pb2.PHASE_FAILED
    assert row.end_reason == session_pb2.END_REASON_HOST_ABANDONED
    listed = await hosts.ListHosts(pb.ListHostsRequest(), metadata=control.metadata)
    assert not listed.hosts


async def test_removing_a_host_closes_a_drain_that_was_under_way(
    control: RunningControl, hosts: Any
) -> None:
    await add_host(control.store, "mill")
    await add_session(control.store, "a", "mill")
    drain = pb.DrainHostRequest(request_id=uuid7(), host="mill")
    await hosts.DrainHost(drain, metadata=control.metadata)
    await hosts.RemoveHost(pb.RemoveHostRequest(host="mill", force=True), metadata=control.metadata)
    again = await hosts.DrainHost(drain, metadata=control.metadata)
    assert again.receipt.outcome.state == receipt_pb2.OUTCOME_STATE_RAN
    assert not again.HasField("host")


# --- joining ---------------------------------------------------------------------------------


async def enroll(control: RunningControl, secret: str, name: str) -> Any:
    stub: Any = host_link_service_pb2_grpc.HostLinkServiceStub(control.channel)
    return await stub.Enroll(link_pb2.EnrollRequest(name=name), metadata=bearer(secret))


async def test_a_join_token_makes_one_host(control: RunningControl, hosts: Any) -> None:
    request = pb.CreateJoinTokenRequest(request_id=uuid7())
    made = await hosts.CreateJoinToken(request, metadata=control.metadata)
    again = await hosts.CreateJoinToken(request, metadata=control.metadata)
    assert made.join_token.startswith("brj_")
    assert again.join_token == ""
    assert (again.receipt, again.expire_time) == (made.receipt, made.expire_time)
    life = made.expire_time.ToNanoseconds() - made.receipt.accept_time.ToNanoseconds()
    assert life == 600 * 10**9
    host = await enroll(control, made.join_token, "mill")
    assert host.workspace == "default"
    assert (await fails(enroll(control, made.join_token, "barn"))).reason == "TOKEN_INVALID"
    listed = await hosts.ListHosts(pb.ListHostsRequest(), metadata=control.metadata)
    assert [found.host_id for found in listed.hosts] == [host.host_id]


async def test_a_linked_host_is_connected_until_it_is_removed(
    control: RunningControl, hosts: Any
) -> None:
    made = await hosts.CreateJoinToken(pb.CreateJoinTokenRequest(), metadata=control.metadata)
    host = await enroll(control, made.join_token, "mill")
    stub: Any = host_link_service_pb2_grpc.HostLinkServiceStub(control.channel)
    link = stub.Connect(metadata=bearer(host.credential))
    hello = link_pb2.Hello(
        protocol_min=1, protocol_max=1, incarnation="i" * 8, journal_id="j" * 8, version="1.2"
    )
    await link.write(link_pb2.ConnectRequest(hello=hello))
    await link.write(link_pb2.ConnectRequest(inventory=link_pb2.Inventory(complete=True)))
    assert (await link.read()).HasField("welcome")
    assert (await link.read()).HasField("reconcile")
    listed = await hosts.ListHosts(
        pb.ListHostsRequest(filter="state = CONNECTED"), metadata=control.metadata
    )
    assert [found.name for found in listed.hosts] == ["mill"]
    await hosts.RemoveHost(pb.RemoveHostRequest(host="mill"), metadata=control.metadata)
    assert (await fails(link)).reason == "TOKEN_REVOKED"
    refused = stub.Connect(metadata=bearer(host.credential))
    await refused.done_writing()
    assert (await fails(refused)).reason == "TOKEN_REVOKED"
