"""What the real pair can't be made to say at will: each reason of an error, and what a later
release might answer. Control's own gate and gateway say it; only the handlers are of the test.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio

from bridle.v1 import session_service_pb2, session_service_pb2_grpc
from bridle_control.auth import Authenticator
from bridle_control.gateway.calls import Handlers
from bridle_control.gateway.server import Gateway
from bridle_control.interceptor import Gate
from bridle_control.settings import Address
from bridle_control.store.sqlite import SqliteStore
from bridle_control.streams import OpenCalls
from bridle_control.transport import OPTIONS, Port
from bridle_core.errors import BridleError, FieldViolation, Reason
from tests.bridle_control.serving import mint

#: A Session of a later release: number 10 (phase) is 77, and number 1000 is "later".
ODD_SESSION = bytes.fromhex("504d") + bytes.fromhex("c23e05") + b"later"


def slug_of(reason: Reason) -> str:
    """Asking for a session by this slug is refused for this reason."""
    return reason.lower().replace("_", "-")


def refusal(reason: Reason) -> BridleError:
    """With all that an error can carry."""
    return BridleError(
        reason,
        f"refused: {reason} ü 馬",
        metadata={"key": "value ü", "other": ""},
        fields=[FieldViolation("session.slug", "because")],
        retry_after=0.125,
    )


# (Its types want all methods; control refuses those that are not there.)
_Servicer: Any = session_service_pb2_grpc.SessionServiceServicer


class OddService(_Servicer):  # type: ignore[misc]
    """GetSession alone."""

    async def GetSession(self, request: Any, context: Any) -> bytes:
        for reason in Reason:
            if request.session.slug == slug_of(reason):
                raise refusal(reason)
        size = len(ODD_SESSION)
        return b"\x0a" + bytes([size]) + ODD_SESSION


@dataclass(frozen=True)
class Odd:
    """Where it serves, and the token for it."""

    grpc: str
    http: str
    token: str


@asynccontextmanager
async def odd_service(place: Path) -> AsyncIterator[Odd]:
    store = await SqliteStore.open(place, create=True)
    token = await mint(store, name="odd")
    gate = Gate(Authenticator(store), OpenCalls(store), calls_max=100, connection_calls_max=100)
    server = grpc.aio.server(interceptors=[gate], options=OPTIONS)
    handlers: Any = Handlers()
    for where in (server, handlers):
        session_service_pb2_grpc.add_SessionServiceServicer_to_server(OddService(), where)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    gateway = Gateway(
        Port(Address("127.0.0.1", 0), None),
        origins=("*",),
        services=[session_service_pb2.DESCRIPTOR.services_by_name["SessionService"]],
        handlers=handlers,
        gate=gate,
    )
    http = gateway.bind()
    try:
        async with asyncio.TaskGroup() as tasks:
            up = asyncio.Event()
            tasks.create_task(gateway.run(up))
            await up.wait()
            yield Odd(f"127.0.0.1:{port}", str(http), token)
            await gateway.end()
    finally:
        gateway.close()
        await server.stop(None)
        await store.close()
