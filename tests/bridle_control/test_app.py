"""The control service as a whole, in this process: how it serves and the order of its end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_channelz.v1 import channelz_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bridle.host.v1 import host_link_service_pb2 as link_pb2
from bridle.host.v1 import host_link_service_pb2_grpc
from bridle.v1 import identity_service_pb2, watch_pb2
from bridle_control.app import Control
from bridle_control.health import Health
from bridle_control.links.stream import HostStream
from bridle_control.settings import Address, Settings, SettingsError
from bridle_control.streams import OpenCalls
from bridle_core.errors import BridleError
from tests.bridle_control.serving import (
    RunningControl,
    bearer,
    control_server,
    fails,
    hold_end,
    mint_host,
    opened,
)

WHOAMI = "/bridle.v1.IdentityService/WhoAmI"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[RunningControl]:
    async with control_server(tmp_path / "store") as running:
        yield running


def whoami(channel: grpc.aio.Channel) -> Any:
    """A call with bytes on both sides."""
    return channel.unary_unary(WHOAMI)


async def linked(control: RunningControl) -> Any:
    """A host's link whose handshake is over."""
    stub: Any = host_link_service_pb2_grpc.HostLinkServiceStub(control.channel)
    link = stub.Connect(metadata=bearer(await mint_host(control.store)))
    hello = link_pb2.Hello(protocol_min=1, protocol_max=1, incarnation="i" * 8, journal_id="j" * 8)
    await link.write(link_pb2.ConnectRequest(hello=hello))
    await link.write(link_pb2.ConnectRequest(inventory=link_pb2.Inventory(complete=True)))
    assert (await link.read()).HasField("welcome")
    assert (await link.read()).HasField("reconcile")
    return link


async def test_the_end_says_not_serving_then_goodbye_then_ends_watches(
    control: RunningControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    health: Any = health_pb2_grpc.HealthStub(control.channel)
    told = health.Watch(health_pb2.HealthCheckRequest(service="bridle.v1.SessionService"))
    assert (await told.read()).status == SERVING
    link = await linked(control)
    watch: Any = control.channel.unary_stream(
        "/bridle.v1.SessionService/WatchSessions",
        watch_pb2.WatchSessionsRequest.SerializeToString,
        watch_pb2.WatchSessionsResponse.FromString,
    )(watch_pb2.WatchSessionsRequest(), metadata=control.metadata)
    assert (await watch.read()).HasField("snapshot_end")

    # (It is told at once. A host that could not be, in so long, would be left without.)
    monkeypatch.setattr("bridle_control.app._GOODBYE", 60.0)
    monkeypatch.setattr("bridle_control.links.stream._FAREWELL", 60.0)
    # As control does it: what goes over several streams comes out of them in any order.
    order: list[str] = []
    ending, put, end_all = Health.ending, HostStream._put, OpenCalls.end_all

    def notes_ending(self: Health) -> None:
        order.append("not serving")
        ending(self)

    async def notes_goodbye(self: HostStream, context: Any, message: Any) -> None:
        await put(self, context, message)
        order.extend(["goodbye"] * message.HasField("goodbye"))

    async def notes_end(self: OpenCalls, error: BridleError, grace: float) -> None:
        order.append("watch")
        await end_all(self, error, grace)

    monkeypatch.setattr(Health, "ending", notes_ending)
    monkeypatch.setattr(HostStream, "_put", notes_goodbye)
    monkeypatch.setattr(OpenCalls, "end_all", notes_end)

    async def see_health() -> None:
        assert (await told.read()).status == NOT_SERVING

    async def see_goodbye() -> None:
        while not (message := await link.read()).HasField("goodbye"):
            pass
        assert message.goodbye.reason
        assert (await fails(link)).reason == "SHUTTING_DOWN"

    async def see_watch() -> None:
        assert (await fails(watch)).reason == "SHUTTING_DOWN"

    control.stop.set()
    async with asyncio.TaskGroup() as group:
        for part in (see_health(), see_goodbye(), see_watch()):
            group.create_task(part)
    await control.running
    assert order == ["not serving", "goodbye", "watch"]
    # The port is free again.
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((control.address.host, control.address.port))


async def test_while_it_ends_new_calls_are_refused_and_health_still_answers(
    control: RunningControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    health: Any = health_pb2_grpc.HealthStub(control.channel)
    go_on = hold_end(monkeypatch)
    control.stop.set()
    refused = None
    while refused is None:
        try:
            await whoami(control.channel)(b"", metadata=control.metadata)
        except grpc.aio.AioRpcError as error:
            refused = error
    assert refused.code() is grpc.StatusCode.UNAVAILABLE
    answer = await health.Check(health_pb2.HealthCheckRequest())
    assert answer.status == NOT_SERVING
    go_on.set()
    await control.running


async def test_health_lists_every_service(control: RunningControl) -> None:
    list_method: Any = control.channel.unary_unary("/grpc.health.v1.Health/List")
    pb2: Any = health_pb2
    answer = pb2.HealthListResponse.FromString(await list_method(b""))
    assert set(answer.statuses) == {
        "",
        "bridle.v1.SessionService",
        "bridle.v1.HostService",
        "bridle.v1.IdentityService",
        "bridle.host.v1.HostLinkService",
    }
    assert {status.status for status in answer.statuses.values()} == {SERVING}


async def test_an_unknown_service_is_watched_until_the_end(control: RunningControl) -> None:
    health: Any = health_pb2_grpc.HealthStub(control.channel)
    told = health.Watch(health_pb2.HealthCheckRequest(service="no.such"))
    assert (await told.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    told.cancel()


async def test_channelz_shows_the_server_to_those_who_may_debug_it(
    control: RunningControl,
) -> None:
    get: Any = control.channel.unary_unary("/grpc.channelz.v1.Channelz/GetServers")
    answer = channelz_pb2.GetServersResponse.FromString(await get(b"", metadata=control.metadata))
    assert answer.server
    bogus: Any = control.channel.unary_unary("/grpc.channelz.v1.Channelz/GetSocket")
    request = channelz_pb2.GetSocketRequest(socket_id=2**40).SerializeToString()
    found = await fails(bogus(request, metadata=control.metadata))
    assert found.code is grpc.StatusCode.NOT_FOUND


async def test_a_port_in_use_is_told_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = Address("127.0.0.1", taken.getsockname()[1])
        async with opened(tmp_path / "store") as store:
            with pytest.raises(SettingsError) as raised:
                Control(Settings(store=tmp_path / "store", listen=address), store)
    assert str(raised.value) == f"can't listen on {address}: address already in use"


async def test_two_services_can_not_share_a_port(control: RunningControl, tmp_path: Path) -> None:
    async with opened(tmp_path / "second") as store:
        settings = Settings(store=tmp_path / "second", listen=control.address)
        with pytest.raises(SettingsError):
            Control(settings, store)


async def test_a_certificate_that_is_not_there_or_is_none_is_told(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert", tmp_path / "key"
    settings = Settings(
        store=tmp_path / "store", listen=Address("127.0.0.1", 0), tls_cert=cert, tls_key=key
    )
    async with opened(tmp_path / "store") as store:
        for said in ("No such file", "no certificate with its key"):
            with pytest.raises(SettingsError, match=said):
                Control(settings, store)
            cert.write_text("none")
            key.write_text("none")


async def test_an_idle_connection_costs_nothing_after_its_client_is_gone(
    control: RunningControl,
) -> None:
    async with grpc.aio.insecure_channel(str(control.address)) as channel:
        answer = await whoami(channel)(b"", metadata=control.metadata)
        told = identity_service_pb2.WhoAmIResponse.FromString(answer)
        assert told.principal.name == "admin"


async def test_a_part_that_fails_ends_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: object) -> None:
        raise RuntimeError("broken")

    settings = Settings(store=tmp_path / "store", listen=Address("127.0.0.1", 0))
    monkeypatch.setattr("bridle_control.streams.OpenCalls.run", broken)
    async with opened(tmp_path / "store") as store:
        with pytest.raises(ExceptionGroup):
            await Control(settings, store).run(asyncio.Event(), lambda _: None)


async def test_with_a_certificate_it_serves_tls_and_nothing_else(tmp_path: Path) -> None:
    """The pair in `tls` is for localhost, of nobody's, and good for this test alone."""
    pair = Path(__file__).parent / "tls"
    settings = Settings(
        store=tmp_path / "store",
        listen=Address("127.0.0.1", 0),
        tls_cert=pair / "cert.pem",
        tls_key=pair / "key.pem",
    )
    async with control_server(tmp_path / "store", settings=settings) as control:
        credentials = grpc.ssl_channel_credentials((pair / "cert.pem").read_bytes())
        async with grpc.aio.secure_channel(str(control.address), credentials) as channel:
            answer = await whoami(channel)(b"", metadata=control.metadata)
            told = identity_service_pb2.WhoAmIResponse.FromString(answer)
            assert told.principal.name == "admin"
        found = await fails(whoami(control.channel)(b"", metadata=control.metadata))
        assert found.code is grpc.StatusCode.UNAVAILABLE
