"""The control service's process: what it is made of, how it starts and how it ends.

Everything is made in `Control.__init__`, runs in one TaskGroup, and serves on one gRPC server. The
end, on SIGTERM or SIGINT, goes in this order:

  1. new calls get SHUTTING_DOWN, and health says NOT_SERVING: balancers and clients go elsewhere;
  2. hosts are told Goodbye and their links end: their runs go on;
  3. long calls (Watch, …) end with SHUTTING_DOWN, others get a moment to be answered;
  4. the server closes its port and its connections;
  5. the components stop, the audit log is written to its end, and the store is closed: what was
     handed in is committed.

On SIGHUP the audit log is opened anew.

Called by `__main__`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import cast

import grpc.aio
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_channelz.v1.channelz import aio as grpc_channelz
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.reflection import aio as grpc_reflection

from bridle.host.v1 import host_link_service_pb2, host_link_service_pb2_grpc
from bridle.v1 import (
    host_service_pb2,
    host_service_pb2_grpc,
    identity_service_pb2,
    identity_service_pb2_grpc,
    session_service_pb2,
)
from bridle_control import status
from bridle_control.audit import Audit
from bridle_control.auth import Authenticator
from bridle_control.commands import Commands
from bridle_control.gateway.calls import Handlers
from bridle_control.gateway.server import Gateway
from bridle_control.health import Health
from bridle_control.host_service import HostService
from bridle_control.identity_service import IdentityService
from bridle_control.interceptor import Gate
from bridle_control.links.registry import Links
from bridle_control.links.service import HostLinkService
from bridle_control.logs import kv
from bridle_control.retention import Retention
from bridle_control.session_service import SessionService, add_session_service
from bridle_control.settings import ListenError, Settings, SettingsError
from bridle_control.store.api import Store
from bridle_control.store.housekeeping import Housekeeping
from bridle_control.store.sqlite import SqliteStore
from bridle_control.streams import OpenCalls
from bridle_control.telemetry.gauges import Gauges
from bridle_control.telemetry.work import WorkTelemetry
from bridle_control.transport import CALLS_MAX, CONNECTION_CALLS_MAX, Ports, Serving, make_server
from bridle_control.watch.hub import Hub
from bridle_control.watch.limits import WatchLimit
from bridle_core.version import VERSION
from bridle_telemetry.settings import MetricsListenError, TelemetrySettingsError
from bridle_telemetry.telemetry import Telemetry

_log = logging.getLogger("bridle.control.app")

#: How long calls may take to be answered at the end, in seconds, before they are ended.
_GRACE = 1.0
#: How long hosts may take to be told Goodbye, in seconds.
_GOODBYE = 2.0

# What the browser gateway has.
_PUBLIC_SERVICES = (
    session_service_pb2.DESCRIPTOR.services_by_name["SessionService"],
    host_service_pb2.DESCRIPTOR.services_by_name["HostService"],
    identity_service_pb2.DESCRIPTOR.services_by_name["IdentityService"],
)
# What health tells of, and what reflection shows beside itself and health.
_OWN_SERVICES = (
    session_service_pb2.DESCRIPTOR.services_by_name["SessionService"].full_name,
    host_service_pb2.DESCRIPTOR.services_by_name["HostService"].full_name,
    identity_service_pb2.DESCRIPTOR.services_by_name["IdentityService"].full_name,
    host_link_service_pb2.DESCRIPTOR.services_by_name["HostLinkService"].full_name,
)
_COMMON_SERVICES = (
    health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
    reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].full_name,
    channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name,
)


class Control:
    """The service with all that it is made of. One per process (tests make several)."""

    def __init__(
        self, settings: Settings, store: Store, telemetry: Telemetry | None = None
    ) -> None:
        """Raises SettingsError for an address or a certificate that can't be used."""
        self._telemetry = telemetry or Telemetry.off()
        self._ports = Ports.of(settings)
        self._open_calls = OpenCalls(store)
        self._audit = Audit(settings.audit_path, reads=settings.audit_reads)
        self._audit.open()  # before there is a server: one that never started leaks what it holds
        self._gate = Gate(
            Authenticator(store),
            self._open_calls,
            calls_max=CALLS_MAX,
            connection_calls_max=CONNECTION_CALLS_MAX,
            audit=self._audit,
            telemetry=self._telemetry,
        )
        self._health = Health(_OWN_SERVICES)
        watches = WatchLimit()  # of both kinds together
        hub = Hub(store, limit=watches)
        self._links = Links(store, hub)
        self._gauges = Gauges(self._telemetry, store, self._links, hub, self._open_calls)
        if self._telemetry.metrics:
            WorkTelemetry(self._telemetry).listen(store)
        self._commands = Commands(store, self._links)
        self._sessions = SessionService(
            store,
            self._links,
            self._commands,
            hub,
            limit=watches,
            transcript_bytes=settings.transcript_bytes,
        )
        self._housekeeping = Housekeeping(store)
        self._retention = Retention(store, settings.retain_per_session, settings.retain_total)
        self.server = make_server(self._gate)
        self._handlers = Handlers()  # the same services, for the gateway
        self._serve_own(store)
        self._serve_common()
        self._gateway = self._make_gateway(settings)

    def _serve_own(self, store: Store) -> None:
        hosts = HostService(store, connected=self._links.is_live, twin_time=self._links.twin_time)
        identities = IdentityService(store)
        # (grpc's types know no place but a server.)
        for place in (self.server, cast("grpc.aio.Server", self._handlers)):
            add_session_service(self._sessions, place)
            identity_service_pb2_grpc.add_IdentityServiceServicer_to_server(identities, place)
            host_service_pb2_grpc.add_HostServiceServicer_to_server(hosts, place)
        host_link_service_pb2_grpc.add_HostLinkServiceServicer_to_server(
            HostLinkService(store, self._links, certificates=self._ports.hosts is not None),
            self.server,
        )

    def _make_gateway(self, settings: Settings) -> Gateway | None:
        if self._ports.http is None:
            return None
        return Gateway(
            self._ports.http,
            origins=settings.http_origins,
            services=_PUBLIC_SERVICES,
            handlers=self._handlers,
            gate=self._gate,
            is_serving=lambda: self._health.is_serving,
        )

    def _serve_common(self) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.server)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(  # type: ignore[no-untyped-call]
            grpc_reflection.ReflectionServicer((*_OWN_SERVICES, *_COMMON_SERVICES)), self.server
        )
        # Everybody's connections are in it: the table of rights opens it to callers on this
        # machine alone.
        channelz_pb2_grpc.add_ChannelzServicer_to_server(
            grpc_channelz.ChannelzServicer(), self.server
        )

    def reopen(self) -> None:
        """Opens anew what may have been renamed: the audit log."""
        self._audit.reopen()

    async def run(self, stop: asyncio.Event, ready: Callable[[Serving], None]) -> None:
        """Serves until `stop` is set; `ready` is told where once everything is up.

        Raises SettingsError when an address can't be bound.
        """
        try:
            serving = self._ports.bind(self.server)
            if self._gateway is not None:
                serving = replace(serving, http=self._gateway.bind())
            serving = replace(serving, metrics=self._telemetry.metrics_address)
            async with asyncio.TaskGroup() as group:
                parts = (
                    self._open_calls,
                    self._links,
                    self._commands,
                    self._sessions,
                    self._housekeeping,
                    self._retention,
                    self._audit,
                    self._gauges,
                )
                running = [group.create_task(part.run()) for part in parts]
                await self.server.start()
                if self._gateway is not None:
                    up = asyncio.Event()
                    running.append(group.create_task(self._gateway.run(up)))
                    await up.wait()
                self._health.serving()
                _log.info("serving", extra=kv(grpc=serving.grpc, hosts=serving.hosts or "the same"))
                ready(serving)
                await stop.wait()
                await self._end()
                for task in running:
                    task.cancel()
        finally:
            # At once; where all went well it has stopped before.
            await self.server.stop(None)
            if self._gateway is not None:
                self._gateway.close()
            self._audit.close()

    async def _end(self) -> None:
        """See the module."""
        _log.info("ending", extra=kv(open_calls=len(self._open_calls)))
        self._gate.refuse_new_calls()
        self._health.ending()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._links.close(), _GOODBYE)
        await self._open_calls.end_all(status.shutting_down(), _GRACE)
        if self._gateway is not None:
            await self._gateway.end()
        await self.server.stop(_GRACE)


async def serve(settings: Settings) -> bool:
    """Runs the service until a signal ends it. Whether it ended as it should.

    Raises StoreOpenError, SettingsError.
    """
    telemetry = _telemetry(settings)
    try:
        store = await SqliteStore.open(settings.store, restored=settings.restored)
        try:
            control = Control(settings, store, telemetry)
            with _signals(control.reopen) as stop:
                await control.run(stop, lambda serving: _tell_ready(settings, serving))
        except ExceptionGroup as failures:
            _log.critical("a part of the service failed", exc_info=failures)
            return False
        finally:
            await store.close()
    finally:
        await telemetry.close()
    _log.info("ended")
    return True


def _telemetry(settings: Settings) -> Telemetry:
    try:
        return Telemetry.start(
            settings.telemetry,
            service="bridle-control",
            instance=str(uuid.uuid4()),
            version=VERSION,
        )
    except MetricsListenError as error:
        raise ListenError(str(error)) from error
    except TelemetrySettingsError as error:
        raise SettingsError(str(error)) from error


@contextmanager
def _signals(reopen: Callable[[], None]) -> Iterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set; `reopen` is called at SIGHUP."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reopen)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)


def _tell_ready(settings: Settings, serving: Serving) -> None:
    line = f"ready {serving}\n"
    if settings.ready_fd is None:
        sys.stdout.write(line)
        sys.stdout.flush()
    else:
        os.write(settings.ready_fd, line.encode())
        os.close(settings.ready_fd)
