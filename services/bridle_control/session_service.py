"""SessionService as it is registered: all verbs in one, each method with the right shape.

The comments of session_service.proto are the specification. The interceptor has checked the
caller's right and the request's rules before. Called by `app`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message_factory import GetMessageClass

from bridle.v1 import session_service_pb2
from bridle_control.clock import Clock
from bridle_control.commands import Commands
from bridle_control.links.registry import Links
from bridle_control.service.artifacts import ArtifactVerbs
from bridle_control.service.base import Parts
from bridle_control.service.ends import EndVerbs
from bridle_control.service.inputs import InputVerbs
from bridle_control.service.reads import Reads
from bridle_control.service.start import StartVerbs
from bridle_control.service.verbs import OtherVerbs
from bridle_control.service.watching import WatchVerbs
from bridle_control.store.api import PageKey, ReadTx, SessionPage, Store, Term
from bridle_control.watch.hub import Hub
from bridle_control.watch.limits import WatchLimit
from bridle_control.watch.sessions_feed import SessionsFeed
from bridle_core import transcript
from bridle_core.errors import BridleError

_SERVICE = session_service_pb2.DESCRIPTOR.services_by_name["SessionService"]

#: What answers in bytes that are serialized already, once for all watchers.
_RAW = frozenset({"Watch", "WatchSessions"})


class SessionService(
    StartVerbs, InputVerbs, EndVerbs, OtherVerbs, Reads, ArtifactVerbs, WatchVerbs
):
    """See the module. `run` is one of the process's components."""

    def __init__(
        self,
        store: Store,
        links: Links,
        commands: Commands,
        hub: Hub,
        *,
        clock: Clock | None = None,
        limit: WatchLimit | None = None,
        transcript_bytes: int = transcript.CAP,
    ) -> None:
        """`limit`: that of the hub, where both kinds of watches are to count together;
        `transcript_bytes`: see `Parts`."""
        feed = SessionsFeed(store, self.render, clock=clock, limit=limit)
        super().__init__(Parts(store, links, commands, hub, feed, transcript_bytes))
        # Hosts that came or went, whose sessions are still to be told of; at most all hosts.
        self._touched: dict[str, None] = {}
        self._wake = asyncio.Event()
        links.listen(self._host_changed)

    def _host_changed(self, host_id: str) -> None:
        self._touched[host_id] = None
        self._wake.set()

    async def run(self) -> None:
        """Tells the watchers of sessions which can be reached and which no longer, until
        cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            hosts, self._touched = self._touched, {}
            for host_id in hosts:
                with suppress(BridleError):  # (they are told when the store reads again)
                    await self._touch(host_id)

    async def _touch(self, host_id: str) -> None:
        after: PageKey | None = None
        while True:
            page = await self._store.read(partial(_of_host, host_id, after))
            self._feed.touch(row.session_id for row in page.sessions)
            after = page.next_key
            if after is None:
                return


def _of_host(host_id: str, after: PageKey | None, tx: ReadTx) -> SessionPage:
    return tx.sessions(None, terms=(Term("host_id", host_id),), after=after, limit=1000)


def add_session_service(service: SessionService, server: grpc.aio.Server) -> None:
    """Registers every method of the descriptor; one that is not served fails here, at the start."""
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
    for method in _SERVICE.methods:
        make = (
            grpc.unary_stream_rpc_method_handler
            if method.server_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        answer = GetMessageClass(method.output_type)
        handlers[method.name] = make(
            getattr(service, method.name),
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=None if method.name in _RAW else answer.SerializeToString,
        )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(_SERVICE.full_name, handlers),)
    )
