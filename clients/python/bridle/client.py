"""The asynchronous client: every verb of the contract, and watches that outlive their connections.

    async with bridle.Client() as client:
        await client.start_session("fix-auth", agent="shell", prompt="make test")
        async for event in client.watch("fix-auth"):
            ...

A client belongs to the event loop on which it is first used. It imports no service.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from grpc import aio

from bridle import settings as settings_of
from bridle.admin_calls import HostCalls, IdentityCalls
from bridle.calls import DEFAULT_TIMEOUT, SessionLike
from bridle.errors import BridleError, ConnectionLostError, from_rpc
from bridle.retry import RetryPolicy
from bridle.session_calls import SessionCalls
from bridle.transport import Transport, is_broken
from bridle.v1 import event_pb2, session_pb2, watch_pb2
from bridle.v1 import session_service_pb2 as pb
from bridle.watching import FIRST_TRIES, Target, Watch

if TYPE_CHECKING:
    from grpc_health.v1 import health_pb2


class Client(SessionCalls, HostCalls, IdentityCalls):
    """A client of one control.

    address: "host:port"; empty means the user's settings (see settings.py). token: the secret, a
    file that holds it, or a function that gives it; None means the one that is stored for the
    address. workspace: for calls that name none. insecure: plaintext although the address is not
    loopback. tls_ca: a file with the CA of control's certificate; None means that of the settings,
    else the machine's own. timeout: seconds for a call with all its tries. interceptors: gRPC's,
    for traces, say (see tracing.py); they see each try of a call and each connection of a watch.
    """

    def __init__(
        self,
        address: str = "",
        *,
        token: str | Path | Callable[[], str | None] | None = None,
        workspace: str = "",
        insecure: bool = False,
        tls_ca: Path | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        retry: RetryPolicy | None = None,
        interceptors: Sequence[aio.ClientInterceptor] = (),
    ) -> None:
        if not address or token is None:
            found = settings_of.load(address=address, workspace=workspace)
            address, workspace = found.address, found.workspace
            insecure = insecure or found.insecure
            tls_ca = tls_ca or found.tls_ca
            token = found.token if token is None else token
        transport = Transport(
            settings_of.normal_address(address, "address"),
            _token_source(token),
            insecure=insecure,
            tls_ca=tls_ca,
            retry=retry or RetryPolicy(),
            interceptors=interceptors,
        )
        super().__init__(transport, workspace, timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection, for good; what goes on over it ends with CANCELLED."""
        await self._transport.close()

    # --- streams -------------------------------------------------------------------------------

    def watch(
        self,
        session: SessionLike,
        *,
        after_sequence: int = 0,
        tail: int | None = None,
        log_id: str = "",
        until: watch_pb2.WatchUntil.ValueType = watch_pb2.WATCH_UNTIL_RUN_END,
        kinds: Iterable[event_pb2.EventKind.ValueType] = (),
        live_text: bool = False,
    ) -> Watch:
        """Watches a session from after a sequence, or from `tail` events before the newest.

        By default it ends after the newest run's SessionEnded; WATCH_UNTIL_NEVER goes on over
        Resume. Nothing is repeated or left out when the connection is lost in between.
        """
        target = Target(
            self.ref(session), after_sequence if tail is None else None, tail, log_id=log_id
        )
        return self._watch([target], until, kinds, live_text)

    def watch_many(
        self,
        sessions: Mapping[str, int] | Iterable[SessionLike],
        *,
        until: watch_pb2.WatchUntil.ValueType = watch_pb2.WATCH_UNTIL_RUN_END,
        kinds: Iterable[event_pb2.EventKind.ValueType] = (),
        live_text: bool = False,
    ) -> Watch:
        """Watches up to 64 sessions over one stream: slugs with their cursors, or just sessions.

        Iterate over `updates()`, which names the session of each event.
        """
        if isinstance(sessions, Mapping):
            targets = [Target(self.ref(slug), cursor) for slug, cursor in sessions.items()]
        else:
            targets = [Target(self.ref(session)) for session in sessions]
        return self._watch(targets, until, kinds, live_text)

    def _watch(
        self,
        targets: list[Target],
        until: watch_pb2.WatchUntil.ValueType,
        kinds: Iterable[event_pb2.EventKind.ValueType],
        live_text: bool,
    ) -> Watch:
        async def pin(ref: session_pb2.SessionRef) -> session_pb2.SessionRef:
            found = await self.get_session(ref)
            return session_pb2.SessionRef(workspace=found.workspace, id=found.session_id)

        return Watch(
            self._transport,
            self._sessions,
            targets,
            pin=pin,
            until=until,
            kinds=kinds,
            live_text=live_text,
            connect_timeout=self._timeout,
        )

    async def watch_sessions(
        self,
        filter: str = "",  # noqa: A002
    ) -> AsyncGenerator[watch_pb2.WatchSessionsResponse, None]:
        """Watches the sessions of the workspace: a snapshot, SnapshotEnd, then changes.

        After a lost connection the snapshot comes again, with `removed` for what went meanwhile.
        """
        known: dict[str, str] = {}
        request = watch_pb2.WatchSessionsRequest(workspace=self._workspace, filter=filter)
        attempt = renewed = 0
        connected = False
        while True:
            await self._transport.ready(None if connected else self._timeout)
            seen: dict[str, str] | None = {}
            metadata = self._transport.metadata()
            call = self._sessions.WatchSessions(request, metadata=metadata)
            try:
                while True:
                    with self._transport.calling():
                        message = await call.read()
                    if not isinstance(message, watch_pb2.WatchSessionsResponse):
                        break
                    connected, attempt, renewed = True, 0, 0
                    kind = message.WhichOneof("response")
                    if kind == "session":
                        known[message.session.session_id] = message.session.slug
                        if seen is not None:
                            seen[message.session.session_id] = message.session.slug
                    elif kind == "removed":
                        known.pop(message.removed.session_id, None)
                    elif kind == "snapshot_end" and seen is not None:
                        for gone in known.keys() - seen.keys():
                            yield _removed(gone, known.pop(gone))
                        seen = None
                    yield message
                error: BridleError = ConnectionLostError(f"{self.address} broke off")
            except aio.AioRpcError as raised:
                error = from_rpc(raised, self.address)
                if self._transport.renewed(error, metadata) and renewed < FIRST_TRIES:
                    renewed += 1
                elif not is_broken(error):
                    raise error from raised
            finally:
                call.cancel()
            attempt += 1
            await self._transport.pause(attempt, error)

    async def read_artifact(
        self, session: SessionLike, name: str, *, run: int = 0, offset: int = 0
    ) -> AsyncIterator[bytes]:
        """Streams an artifact, in pieces of at most 1 MiB; run 0 means the newest with any.

        `offset`: where to begin, in bytes. After a HostUnreachableError, which says that the
        artifact's host is away or went, go on from where you have got to once it is back.
        """
        request = pb.ReadArtifactRequest(
            session=self.ref(session), run=run, name=name, offset=offset
        )
        call = self._sessions.ReadArtifact(request, metadata=self._transport.metadata())
        try:
            while True:
                with self._transport.calling():
                    piece = await call.read()
                if not isinstance(piece, pb.ReadArtifactResponse):
                    break
                if piece.data:
                    yield piece.data
        except aio.AioRpcError as raised:
            raise from_rpc(raised, self.address) from raised
        finally:
            call.cancel()

    # --- health --------------------------------------------------------------------------------

    async def health(
        self, service: str = "", *, timeout: float | None = None
    ) -> health_pb2.HealthCheckResponse:
        """Whether control serves; needs no token. `service`: one by its full name, else all."""
        from grpc_health.v1 import health_pb2

        check: aio.UnaryUnaryMultiCallable[
            health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
        ] = self._transport.channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            return await check(request, timeout=timeout or self._timeout)
        except aio.AioRpcError as raised:
            raise from_rpc(raised, self.address) from raised


def _removed(session_id: str, slug: str) -> watch_pb2.WatchSessionsResponse:
    removed = watch_pb2.SessionRemoved(session_id=session_id, slug=slug)
    return watch_pb2.WatchSessionsResponse(removed=removed)


def _token_source(
    token: str | Path | Callable[[], str | None] | None,
) -> Callable[[], str | None]:
    if isinstance(token, Path):
        return settings_of.token_file(token)
    if isinstance(token, str) or token is None:
        return lambda: token
    return token
