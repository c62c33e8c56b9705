"""The calls of HostService and IdentityService: one method for each RPC.

As in session_calls.py: the responses are the contract's own messages, and the errors are listed in
host_service.proto and identity_service.proto. The stubs are imported when they are first used.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from bridle.calls import Calls, DurationLike, duration_of

if TYPE_CHECKING:
    from bridle.v1 import host_pb2, identity_pb2
    from bridle.v1 import host_service_pb2 as host_pb
    from bridle.v1 import identity_service_pb2 as identity_pb
    from bridle.v1.host_service_pb2_grpc import HostServiceAsyncStub
    from bridle.v1.identity_service_pb2_grpc import IdentityServiceAsyncStub


class HostCalls(Calls):
    """Hosts, as their owners and users see them."""

    @cached_property
    def _hosts(self) -> HostServiceAsyncStub:
        from bridle.v1.host_service_pb2_grpc import HostServiceStub

        return HostServiceStub(self._transport.channel)

    def list_hosts(
        self,
        filter: str = "",  # noqa: A002
        *,
        order_by: str = "",
    ) -> AsyncIterator[host_pb2.Host]:
        """Lists the workspace's hosts; `filter` such as "state = CONNECTED"."""
        from bridle.v1 import host_service_pb2 as pb

        async def read(token: str) -> host_pb.ListHostsResponse:
            request = pb.ListHostsRequest(
                workspace=self._workspace, page_token=token, filter=filter, order_by=order_by
            )
            return await self._call(self._hosts.ListHosts, request, None)

        return self._pages(read, lambda page: page.hosts, lambda page: page.next_page_token)

    def list_agents(
        self,
        filter: str = "",  # noqa: A002
        *,
        host: str = "",
        order_by: str = "",
    ) -> AsyncIterator[host_pb2.Agent]:
        """Lists the agents that the hosts can run, one for each host and agent."""
        from bridle.v1 import host_service_pb2 as pb

        async def read(token: str) -> host_pb.ListAgentsResponse:
            request = pb.ListAgentsRequest(
                workspace=self._workspace,
                host=host,
                page_token=token,
                filter=filter,
                order_by=order_by,
            )
            return await self._call(self._hosts.ListAgents, request, None)

        return self._pages(read, lambda page: page.agents, lambda page: page.next_page_token)

    async def drain_host(
        self,
        host: str,
        *,
        grace: DurationLike | None = None,
        undo: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> host_pb.DrainHostResponse:
        """Stops the sessions of a host (id or name) and admits no new ones, or again with undo."""
        from bridle.v1 import host_service_pb2 as pb

        request = pb.DrainHostRequest(
            request_id=self._request_id(request_id),
            workspace=self._workspace,
            host=host,
            grace=duration_of(grace),
            undo=undo,
        )
        return await self._call(self._hosts.DrainHost, request, timeout)

    async def remove_host(
        self,
        host: str,
        *,
        force: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> host_pb.RemoveHostResponse:
        """Removes a host; with `force` it gives up the sessions that the host owns."""
        from bridle.v1 import host_service_pb2 as pb

        request = pb.RemoveHostRequest(
            request_id=self._request_id(request_id),
            workspace=self._workspace,
            host=host,
            force=force,
        )
        return await self._call(self._hosts.RemoveHost, request, timeout)

    async def create_join_token(
        self,
        *,
        time_to_live: DurationLike | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> host_pb.CreateJoinTokenResponse:
        """Makes a token with which one host can join, once."""
        from bridle.v1 import host_service_pb2 as pb

        request = pb.CreateJoinTokenRequest(
            request_id=self._request_id(request_id),
            workspace=self._workspace,
            time_to_live=duration_of(time_to_live),
        )
        return await self._call(self._hosts.CreateJoinToken, request, timeout)


class IdentityCalls(Calls):
    """Tokens and workspaces."""

    @cached_property
    def _identity(self) -> IdentityServiceAsyncStub:
        from bridle.v1.identity_service_pb2_grpc import IdentityServiceStub

        return IdentityServiceStub(self._transport.channel)

    async def who_am_i(self, *, timeout: float | None = None) -> identity_pb.WhoAmIResponse:
        """Whom the token belongs to, and what it may do."""
        from bridle.v1 import identity_service_pb2 as pb

        return await self._call(self._identity.WhoAmI, pb.WhoAmIRequest(), timeout)

    async def create_token(
        self,
        name: str,
        rights: Sequence[str],
        *,
        time_to_live: DurationLike | None = None,
        all_workspaces: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> identity_pb.CreateTokenResponse:
        """Makes a token; its secret is in this answer only."""
        from bridle.v1 import identity_service_pb2 as pb

        request = pb.CreateTokenRequest(
            request_id=self._request_id(request_id),
            workspace=self._workspace,
            name=name,
            rights=rights,
            time_to_live=duration_of(time_to_live),
            all_workspaces=all_workspaces,
        )
        return await self._call(self._identity.CreateToken, request, timeout)

    def list_tokens(
        self,
        filter: str = "",  # noqa: A002
        *,
        order_by: str = "",
    ) -> AsyncIterator[identity_pb2.Token]:
        """Lists tokens, without secrets; `filter` such as "revoked = false"."""
        from bridle.v1 import identity_service_pb2 as pb

        async def read(token: str) -> identity_pb.ListTokensResponse:
            request = pb.ListTokensRequest(
                workspace=self._workspace, page_token=token, filter=filter, order_by=order_by
            )
            return await self._call(self._identity.ListTokens, request, None)

        return self._pages(read, lambda page: page.tokens, lambda page: page.next_page_token)

    async def revoke_token(
        self, token: str, *, request_id: str | None = None, timeout: float | None = None
    ) -> identity_pb.RevokeTokenResponse:
        """Revokes a token, by id or name; its open streams end within 5 s."""
        from bridle.v1 import identity_service_pb2 as pb

        request = pb.RevokeTokenRequest(
            request_id=self._request_id(request_id), workspace=self._workspace, token=token
        )
        return await self._call(self._identity.RevokeToken, request, timeout)

    async def create_workspace(
        self, name: str, *, request_id: str | None = None, timeout: float | None = None
    ) -> identity_pb.CreateWorkspaceResponse:
        """Makes a workspace."""
        from bridle.v1 import identity_service_pb2 as pb

        request = pb.CreateWorkspaceRequest(request_id=self._request_id(request_id), name=name)
        return await self._call(self._identity.CreateWorkspace, request, timeout)

    def list_workspaces(
        self,
        filter: str = "",  # noqa: A002
        *,
        order_by: str = "",
    ) -> AsyncIterator[identity_pb2.Workspace]:
        """Lists the workspaces that the caller may see."""
        from bridle.v1 import identity_service_pb2 as pb

        async def read(token: str) -> identity_pb.ListWorkspacesResponse:
            request = pb.ListWorkspacesRequest(page_token=token, filter=filter, order_by=order_by)
            return await self._call(self._identity.ListWorkspaces, request, None)

        return self._pages(read, lambda page: page.workspaces, lambda page: page.next_page_token)
