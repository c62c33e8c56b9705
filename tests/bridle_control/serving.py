"""A control service, or only its gate, served in this process for a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2

from bridle.v1 import principal_pb2
from bridle_control.app import Control
from bridle_control.auth import Authenticator
from bridle_control.ids import uuid7
from bridle_control.interceptor import Gate
from bridle_control.links.registry import Links
from bridle_control.settings import Address, Settings
from bridle_control.store.api import HostRow, Store, Tx
from bridle_control.store.sqlite import SqliteStore
from bridle_control.streams import OpenCalls
from bridle_control.tokens import mint_host_credential, mint_user_token
from bridle_control.transport import OPTIONS, Serving

SYSTEM = principal_pb2.Principal(kind=principal_pb2.PRINCIPAL_KIND_SYSTEM).SerializeToString()


@dataclass(frozen=True)
class Failure:
    """An RPC's error as a client reads it."""

    code: grpc.StatusCode
    text: str
    reason: str
    metadata: Mapping[str, str]
    fields: tuple[tuple[str, str], ...] = ()
    retry_seconds: float | None = None
    #: All that came over the wire.
    raw: str = ""


def failure(error: grpc.aio.AioRpcError) -> Failure:
    """Reads the google.rpc.Status of an error; `reason` is "" where there is none."""
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry: float | None = None
    for key, value in error.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        assert isinstance(value, bytes)
        status = status_pb2.Status.FromString(value)
        assert status.code == error.code().value[0]
        assert status.message == error.details()
        for detail in status.details:
            pause = error_details_pb2.RetryInfo()
            detail.Unpack(info)
            detail.Unpack(bad)
            if detail.Unpack(pause):
                retry = pause.retry_delay.ToTimedelta().total_seconds()
    if info.reason:
        assert info.domain == "bridle.v1"
    return Failure(
        error.code(),
        error.details() or "",
        info.reason,
        dict(info.metadata),
        tuple((v.field, v.description) for v in bad.field_violations),
        retry,
        repr((error.details(), error.trailing_metadata(), error.initial_metadata())),
    )


async def fails(call: Any) -> Failure:
    """Awaits a call, or reads a stream, that must fail."""
    try:
        if hasattr(call, "read"):
            while await call.read() is not grpc.aio.EOF:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return failure(error)
    raise AssertionError("the call did not fail")


def bearer(secret: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a call with this secret."""
    return (("authorization", f"Bearer {secret}"),)


async def mint(
    store: Store,
    *,
    rights: tuple[str, ...] = ("*",),
    workspace: str = "",
    name: str = "tester",
    expire_time: int = 0,
) -> str:
    """A user token's secret."""

    def make(tx: Tx) -> str:
        minted = mint_user_token(
            tx,
            workspace=workspace,
            name=name,
            rights=rights,
            expire_time=expire_time,
            created_by=SYSTEM,
        )
        return minted.secret

    return await store.write(make)


async def until(condition: Callable[[], bool]) -> None:
    """Waits for a condition that other tasks of this loop bring about."""
    while not condition():  # noqa: ASYNC110 (what is waited for is others' inner state)
        await asyncio.sleep(0.005)


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[SqliteStore]:
    """A new store."""
    store = await SqliteStore.open(directory, create=True)
    try:
        yield store
    finally:
        await store.close()


async def mint_host(store: Store, *, name: str = "box", workspace: str = "default") -> str:
    """A host's credential, with the host's row."""

    def make(tx: Tx) -> str:
        host_id = uuid7(tx.now)
        tx.insert_host(HostRow(host_id, workspace, name, tx.now))
        minted = mint_host_credential(tx, host_id=host_id, workspace=workspace, name=name)
        return minted.secret

    return await store.write(make)


# --- the gate with handlers of the test's own ----------------------------------------------------


@dataclass
class GateServer:
    """A server that has the gate and nothing of control's behind it."""

    gate: Gate
    open_calls: OpenCalls
    channel: grpc.aio.Channel
    address: str
    store: Store

    def unary(self, method: str) -> Any:
        """A call with bytes on both sides."""
        return self.channel.unary_unary(method)

    def stream(self, method: str) -> Any:
        """A call with one request and a stream of answers, bytes on both sides."""
        return self.channel.unary_stream(method)


@asynccontextmanager
async def gate_server(
    store: Store,
    handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]],
    *,
    calls_max: int = 100,
    connection_calls_max: int = 1000,
) -> AsyncIterator[GateServer]:
    """Serves handlers by their full method names behind the gate."""
    open_calls = OpenCalls(store)
    gate = Gate(
        Authenticator(store),
        open_calls,
        calls_max=calls_max,
        connection_calls_max=connection_calls_max,
    )
    server = grpc.aio.server(interceptors=[gate], options=OPTIONS)
    services: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {}
    for method, handler in handlers.items():
        _, service, name = method.split("/")
        services.setdefault(service, {})[name] = handler
    server.add_generic_rpc_handlers(
        tuple(
            grpc.method_handlers_generic_handler(service, methods)
            for service, methods in services.items()
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    watching = asyncio.create_task(open_calls.run())
    try:
        address = f"127.0.0.1:{port}"
        async with grpc.aio.insecure_channel(address) as channel:
            yield GateServer(gate, open_calls, channel, address, store)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await server.stop(None)


# --- all of control ------------------------------------------------------------------------------


@dataclass
class RunningControl:
    """A control service that serves."""

    control: Control
    store: Store
    address: Address
    channel: grpc.aio.Channel
    admin: str
    stop: asyncio.Event
    running: asyncio.Task[None]
    #: Where hosts connect, if that is another address.
    hosts: Address | None = None
    #: Of the browser gateway, if there is one.
    http: Address | None = None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Of a call by the admin."""
        return bearer(self.admin)


@asynccontextmanager
async def control_server(
    directory: Path,
    *,
    settings: Settings | None = None,
    prepare: Callable[[Control], None] | None = None,
) -> AsyncIterator[RunningControl]:
    """Control on a new store in `directory`, on any free port; `prepare` comes before it runs."""
    settings = settings or Settings(store=directory, listen=Address("127.0.0.1", 0))
    stop = asyncio.Event()
    serving: asyncio.Future[Serving] = asyncio.get_running_loop().create_future()
    async with opened(directory) as store:
        admin = await mint(store, name="admin")
        control = Control(settings, store)
        if prepare is not None:
            prepare(control)
        running = asyncio.create_task(control.run(stop, serving.set_result))
        try:
            running.add_done_callback(lambda _: serving.done() or serving.cancel())
            places = await serving
            place = places.grpc
            async with grpc.aio.insecure_channel(str(place)) as channel:
                yield RunningControl(
                    control, store, place, channel, admin, stop, running, places.hosts, places.http
                )
        finally:
            stop.set()
            await running


def hold_end(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """From now on the end of control waits, where it says goodbye to hosts, until this is set."""
    go_on = asyncio.Event()

    async def close(self: Links) -> None:
        await go_on.wait()

    monkeypatch.setattr(Links, "close", close)
    monkeypatch.setattr("bridle_control.app._GOODBYE", 60.0)
    return go_on
