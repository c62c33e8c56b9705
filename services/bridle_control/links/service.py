"""HostLinkService: how a machine becomes a host, and the stream that it then holds.

The comments of host_link_service.proto are the specification. Registered by `app`; the interceptor
has checked the credential (a join token for Enroll, a host's for Connect) and the first message's
rules before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle.host.v1 import host_link_service_pb2_grpc
from bridle_control import caller as callers
from bridle_control import certificates
from bridle_control.caller import Caller
from bridle_control.ids import uuid7
from bridle_control.interceptor import Context
from bridle_control.links.registry import Links
from bridle_control.store.api import HostRow, Store, Tx
from bridle_control.tokens import mint_host_credential
from bridle_core.errors import BridleError, Reason


class HostLinkService(host_link_service_pb2_grpc.HostLinkServiceServicer):
    """See the module."""

    def __init__(self, store: Store, links: Links, *, certificates: bool = False) -> None:
        """`certificates`: whether a host must show a certificate with its name."""
        self._store = store
        self._links = links
        self._certificates = certificates

    async def Enroll(self, request: wire.EnrollRequest, context: Context) -> wire.EnrollResponse:
        """Makes the caller a host; its join token is used up."""
        caller = callers.current()
        self._check(context, request.name)
        return await self._store.write(lambda tx: enroll(tx, caller, request.name))

    async def Connect(  # type: ignore[override]  # (it writes by itself)
        self, request_iterator: AsyncIterator[wire.ConnectRequest], context: Context
    ) -> None:
        """The link, for as long as the stream lives."""
        caller = callers.current()
        self._check(context, caller.principal.name)
        stream = self._links.stream(caller.host_id)
        try:
            await stream.run(request_iterator, context)
        finally:
            self._links.left(stream)

    async def SendArtifact(  # type: ignore[override]  # (it writes by itself)
        self, request_iterator: AsyncIterator[wire.SendArtifactRequest], context: Context
    ) -> None:
        """One artifact, on its way to who reads it."""
        caller = callers.current()
        self._check(context, caller.principal.name)
        await self._links.artifacts.serve(caller.host_id, request_iterator, context)

    def _check(self, context: Context, name: str) -> None:
        """A credential that was stolen is worth nothing without its host's private key.

        Raises NOT_ALLOWED.
        """
        if not self._certificates:
            return
        shown = certificates.names(context.auth_context())
        if not shown:
            raise BridleError(
                Reason.NOT_ALLOWED,
                "hosts show a certificate here: connect to the address for hosts",
            )
        if name not in shown:
            raise BridleError(Reason.NOT_ALLOWED, f'the certificate is not that of host "{name}"')


def enroll(tx: Tx, caller: Caller, name: str) -> wire.EnrollResponse:
    """Makes a host's row and its credential. Raises TOKEN_INVALID, NAME_TAKEN."""
    host_id = uuid7(tx.now)
    if not tx.use_join_token(caller.token_id, host_id):
        raise BridleError(Reason.TOKEN_INVALID, "the join token was used; get a new one")
    if tx.host_by_name(caller.workspace, name) is not None:
        raise BridleError(
            Reason.NAME_TAKEN,
            f'there is a host "{name}" in workspace "{caller.workspace}"',
            metadata={"name": name},
        )
    tx.insert_host(
        HostRow(host_id=host_id, workspace=caller.workspace, name=name, create_time=tx.now)
    )
    minted = mint_host_credential(tx, host_id=host_id, workspace=caller.workspace, name=name)
    return wire.EnrollResponse(
        host_id=host_id, credential=minted.secret, workspace=caller.workspace
    )
