"""The gateway's HTTP server: which services it has, who may call from a page, its start and end.

HTTP/1.1, in the process and on the event loop of control. A page needs one Watch for all its
sessions: browsers open six connections to an address, and each stream takes one; a proxy in front
that speaks HTTP/2 lifts that. Called by `app`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator, Sequence

import uvicorn
from google.protobuf.descriptor import ServiceDescriptor
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bridle_control.gateway import connections
from bridle_control.gateway.calls import Handlers, ServiceCalls
from bridle_control.interceptor import Gate
from bridle_control.settings import Address, ListenError
from bridle_control.transport import Port

# uvicorn tells of each connection that broke or said nonsense, which anybody may; who called and
# what came of it stands in the audit.
logging.getLogger("uvicorn").setLevel(logging.ERROR)

#: Where balancers ask, by GET, whether calls may come.
HEALTH = "/healthz"
#: Seconds that calls get at the end, once those that last were told to end.
_GRACE = 1
#: Seconds after which those are dropped that do not read: soon enough to be no fault at the end.
_STALLED = 0.7
#: What pages may send and read, beyond what the Fetch standard grants every page.
_REQUEST_HEADERS = (
    "authorization",
    "baggage",
    "connect-accept-encoding",
    "connect-content-encoding",
    "connect-protocol-version",
    "connect-timeout-ms",
    "content-type",
    "grpc-timeout",
    "traceparent",
    "tracestate",
    "x-grpc-web",
    "x-user-agent",
)
_ANSWER_HEADERS = (
    "connect-content-encoding",
    "grpc-message",
    "grpc-status",
    "grpc-status-details-bin",
)


class _Server(uvicorn.Server):
    """uvicorn, without its hold on signals: those are control's."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])
        limit = None if self.config.ssl is None else connections.HEAD_TIME
        for each in sockets or ():
            server = await asyncio.get_running_loop().create_server(
                self._connection,
                sock=each,
                ssl=self.config.ssl,
                ssl_handshake_timeout=limit,
                backlog=self.config.backlog,
            )
            self.servers.append(server)
        self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        drop = asyncio.get_running_loop().call_later(_STALLED, self._drop_stalled)
        try:
            await super().shutdown(sockets)
        finally:
            drop.cancel()

    def _drop_stalled(self) -> None:
        """Who has not read what was sent takes no end either: each would be logged as a fault."""
        for each in list(self.server_state.connections):
            if isinstance(each, connections.Connection) and each.flow.write_paused:
                each.transport.abort()

    def _connection(self) -> asyncio.Protocol:
        return connections.Connection(self.config, self.server_state, self.lifespan.state)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Front:
    """Tells a client that speaks gRPC that this isn't the port for it, and sees to it that headers
    can be read: connectrpc fails at any that are no UTF-8, and HTTP lets them be Latin-1.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            kind = dict(scope["headers"]).get(b"content-type", b"").partition(b";")[0]
            if kind == b"application/grpc" or kind.startswith(b"application/grpc+"):
                refusal = PlainTextResponse("gRPC has a port of its own\n", status_code=415)
                await refusal(scope, receive, send)
                return
            scope["headers"] = [(name, _as_utf8(value)) for name, value in scope["headers"]]
        await self._app(scope, receive, send)


def _as_utf8(value: bytes) -> bytes:
    try:
        value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1").encode()
    return value


class Gateway:
    """See the module. One per process; used from its event loop alone."""

    def __init__(
        self,
        port: Port,
        *,
        origins: Sequence[str],
        services: Sequence[ServiceDescriptor],
        handlers: Handlers,
        gate: Gate,
        is_serving: Callable[[], bool],
    ) -> None:
        """`origins`: of pages that may call, such as "https://app.example"; "*" for all.
        `is_serving`: what health tells."""
        self._port = port
        self._origins = origins
        self._services = services
        self._handlers = handlers
        self._gate = gate
        self._is_serving = is_serving
        self._server: _Server | None = None
        self._over = asyncio.Event()
        self._socket: socket.socket | None = None

    def bind(self) -> Address:
        """Takes the port; the answer has the one that was given. Raises ListenError."""
        wanted = self._port.address
        try:
            found = socket.getaddrinfo(wanted.host, wanted.port, type=socket.SOCK_STREAM)
            family, kind, protocol, _, place = found[0]
            self._socket = socket.socket(family, kind, protocol)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(place)
        except OSError as error:
            self.close()
            text = (error.strerror or "it can't be bound").lower()
            raise ListenError(f"can't listen on {wanted}: {text}") from error
        return Address(wanted.host, self._socket.getsockname()[1])

    def close(self) -> None:
        """Gives back the port, where the server never ran."""
        if self._socket is not None:
            self._socket.close()

    async def run(self, serving: asyncio.Event) -> None:
        """Serves until `end`; `serving` is set once it does."""
        assert self._socket is not None, "bind comes first"
        async with asyncio.TaskGroup() as tasks:
            self._server = server = _Server(self._config(tasks))
            running = tasks.create_task(server.serve(sockets=[self._socket]))
            await server.up.wait()
            serving.set()
            await running
        self._over.set()

    async def end(self) -> None:
        """Lets open calls be answered, for a moment, and ends the server."""
        if self._server is not None:
            self._server.should_exit = True
            await self._over.wait()

    def _config(self, tasks: asyncio.TaskGroup) -> uvicorn.Config:
        config = uvicorn.Config(
            self._app(tasks),
            lifespan="off",
            ws="none",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=connections.CONNECTIONS_MAX,
            timeout_graceful_shutdown=_GRACE,
        )
        config.load()
        if self._port.certificates is not None:
            config.ssl = self._port.certificates.context()
        return config

    def _app(self, tasks: asyncio.TaskGroup) -> Starlette:
        calls = [
            ServiceCalls(service, self._handlers, self._gate, tasks) for service in self._services
        ]
        allowed = Middleware(
            CORSMiddleware,
            allow_origins=self._origins,
            allow_methods=("POST",),
            allow_headers=_REQUEST_HEADERS,
            expose_headers=_ANSWER_HEADERS,
            max_age=7200,
            # Of a page from elsewhere, where the gateway is on the reader's own machine or network:
            # it is the origins that tell who may.
            allow_private_network=True,
        )
        routes = [Route(HEALTH, self._health), *(Mount(each.path, each) for each in calls)]
        return Starlette(routes=routes, middleware=[allowed, Middleware(_Front)])

    async def _health(self, _: Request) -> Response:
        """For balancers that ask by HTTP and know no gRPC. As gRPC's health it needs no token."""
        if self._is_serving():
            return PlainTextResponse("SERVING\n")
        return PlainTextResponse("NOT_SERVING\n", status_code=503)
