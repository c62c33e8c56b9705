"""Health, as orchestrators and load balancers ask for it, per service (grpc.health.v1).

SERVING from the moment that everything is up until the service begins to end, then NOT_SERVING for
good. Open to callers without a token. Built and told by `app`; the gateway passes it on by HTTP. It
is not grpc's own servicer, whose asynchronous version lacks List and writes to its watchers one
after another under a lock: one that does not read would hold up the end of the service.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
Response = health_pb2.HealthCheckResponse

_SERVING = Response.SERVING
_NOT_SERVING = Response.NOT_SERVING


class Health(health_pb2_grpc.HealthServicer):
    """The health of the server as a whole ("") and of each of its services."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = frozenset(["", *services])
        self._status: Any = _NOT_SERVING  # the stubs name no type for it
        self._ended = False
        # Of those who watch: each is set at a change, cleared by its watcher.
        self._wakes: set[asyncio.Event] = set()

    @property
    def is_serving(self) -> bool:
        """Whether everything is up, and nothing ends."""
        return bool(self._status == _SERVING)

    def serving(self) -> None:
        """Everything is up."""
        if not self._ended:
            self._tell(_SERVING)

    def ending(self) -> None:
        """The service begins to end; nothing makes it SERVING again."""
        self._ended = True
        self._tell(_NOT_SERVING)

    def _tell(self, status: int) -> None:
        self._status = status
        for wake in self._wakes:
            wake.set()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> Response:
        """One service's health; NOT_FOUND for one that there is not, as the protocol has it."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return Response(status=self._status)

    async def List(self, request: Any, context: Context) -> Any:
        """The health of every service."""
        pb2: Any = health_pb2  # the type stubs don't know the newest method
        statuses = {service: Response(status=self._status) for service in self._services}
        return pb2.HealthListResponse(statuses=statuses)

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> AsyncIterator[Response]:
        """One service's health, and its changes; SERVICE_UNKNOWN for one that there is not."""
        known = request.service in self._services
        wake = asyncio.Event()
        self._wakes.add(wake)
        told: int | None = None
        try:
            while True:
                wake.clear()
                status = self._status if known else Response.SERVICE_UNKNOWN
                if status != told:
                    told = status
                    yield Response(status=status)
                await wake.wait()
        finally:
            self._wakes.discard(wake)
