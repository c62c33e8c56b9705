"""HostService, the public one: hosts as their owners and users see them.

The comments of host_service.proto are the specification. The link of hosts is elsewhere (`links`);
what is decided here reaches a host through rows: its commands, or its credential that is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from google.protobuf.duration_pb2 import Duration

from bridle.host.v1 import host_link_service_pb2 as link_pb2
from bridle.v1 import (
    host_pb2,
    host_service_pb2,
    host_service_pb2_grpc,
    receipt_pb2,
    session_pb2,
)
from bridle_control import caller as callers
from bridle_control import endings, outcomes
from bridle_control.caller import Caller, workspace_of
from bridle_control.filters import (
    Choice,
    Fields,
    Kind,
    Order,
    matches,
    page,
    parse_filter,
    parse_order,
)
from bridle_control.hosts import agent_values, agents_of, host_of, host_values, to_host
from bridle_control.ids import uuid7
from bridle_control.interceptor import Context
from bridle_control.projection import Projection
from bridle_control.receipts import (
    RequestKey,
    find_known,
    new_command,
    pending,
    ran,
    request_key,
    timestamp,
    to_receipt,
)
from bridle_control.store.api import (
    CommandRow,
    HostRow,
    ReadTx,
    SessionRow,
    Store,
    Tx,
)
from bridle_control.tokens import mint_join_token
from bridle_core.errors import BridleError, Reason

#: How long a join token is good where the request does not say, in ns: 10 min.
DEFAULT_JOIN_TTL_NS = 600 * 10**9
#: A stop is in force this long where its host is away, in ns: 24 h.
_STOP_TTL_NS = 24 * 3600 * 10**9

_HOST_FIELDS: Fields = {
    "state": Choice.of(host_pb2.HostState.items(), "HOST_STATE_"),
    "name": Kind.TEXT,
    "draining": Kind.BOOLEAN,
}
_AGENT_FIELDS: Fields = {"agent": Kind.TEXT, "installed": Kind.BOOLEAN}


class HostService(host_service_pb2_grpc.HostServiceServicer):
    """See the module."""

    def __init__(
        self,
        store: Store,
        *,
        connected: Callable[[str], bool],
        twin_time: Callable[[str], int] = lambda _: 0,
    ) -> None:
        """`connected` tells whether this control has a live link to a host, by its id; `twin_time`
        when a twin of it was turned away, in ns since the epoch, 0 for never of late."""
        self._store = store
        self._connected = connected
        self._twin_time = twin_time

    async def ListHosts(
        self, request: host_service_pb2.ListHostsRequest, context: Context
    ) -> host_service_pb2.ListHostsResponse:
        """A page of the workspace's hosts."""
        terms = parse_filter(request.filter, _HOST_FIELDS)
        order = parse_order(request.order_by, ("name", "create_time"), Order("name"))
        workspace, rows = await self._rows(callers.current(), request.workspace)
        made = (self._host(row) for row in rows)
        hosts, next_token = page(
            (host for host in made if matches(terms, host_values(host).get)),
            key_of=lambda host: (
                host.name if order.field == "name" else host.create_time.ToNanoseconds(),
                host.host_id,
            ),
            descending=order.descending,
            page_size=request.page_size,
            page_token=request.page_token,
            question=("ListHosts", workspace, request.filter, request.order_by),
        )
        return host_service_pb2.ListHostsResponse(hosts=hosts, next_page_token=next_token)

    async def ListAgents(
        self, request: host_service_pb2.ListAgentsRequest, context: Context
    ) -> host_service_pb2.ListAgentsResponse:
        """A page of what the workspace's hosts can run."""
        terms = parse_filter(request.filter, _AGENT_FIELDS)
        order = parse_order(request.order_by, ("agent", "host_id"), Order("agent"))
        workspace, rows = await self._rows(callers.current(), request.workspace, request.host)
        made = (agent for row in rows for agent in agents_of(row))
        agents, next_token = page(
            (agent for agent in made if matches(terms, agent_values(agent).get)),
            key_of=lambda agent: (
                (agent.agent, agent.host_id)
                if order.field == "agent"
                else (agent.host_id, agent.agent)
            ),
            descending=order.descending,
            page_size=request.page_size,
            page_token=request.page_token,
            question=("ListAgents", workspace, request.host, request.filter, request.order_by),
        )
        return host_service_pb2.ListAgentsResponse(agents=agents, next_page_token=next_token)

    async def DrainHost(
        self, request: host_service_pb2.DrainHostRequest, context: Context
    ) -> host_service_pb2.DrainHostResponse:
        """Marks the host, and asks each of its sessions to stop; all in one transaction."""
        caller = callers.current()

        def drain(tx: Tx) -> tuple[CommandRow, HostRow | None]:
            workspace = workspace_of(tx, caller, request.workspace)
            key = request_key("DrainHost", request, scope=workspace, caller=caller)
            if known := find_known(tx, key):
                return known, tx.host(known.host_id)
            row = host_of(tx, workspace, request.host)
            command = _undo_drain(tx, key, row) if request.undo else _drain(tx, key, row, request)
            return command, tx.host(row.host_id)

        command, row = await self._store.write(drain, urgent=True)
        return host_service_pb2.DrainHostResponse(
            receipt=to_receipt(command), host=self._host(row) if row is not None else None
        )

    async def RemoveHost(
        self, request: host_service_pb2.RemoveHostRequest, context: Context
    ) -> host_service_pb2.RemoveHostResponse:
        """Removes the host with its credential; its link ends as every call of a dead token."""
        caller = callers.current()

        def remove(tx: Tx) -> CommandRow:
            workspace = workspace_of(tx, caller, request.workspace)
            key = request_key("RemoveHost", request, scope=workspace, caller=caller)
            if known := find_known(tx, key):
                return known
            row = host_of(tx, workspace, request.host)
            live = tx.live_sessions_of_host(row.host_id)
            if live and not request.force:
                raise BridleError(
                    Reason.HOST_IN_USE,
                    f'host "{row.name}" owns {len(live)} live sessions; drain it or use force',
                    metadata={"host": row.name},
                )
            _abandon(tx, key, row, live)
            tx.delete_host(row.host_id)
            return _done(tx, key, receipt_pb2.VERB_REMOVE_HOST, resource=row.host_id)

        command = await self._store.write(remove, urgent=True)
        return host_service_pb2.RemoveHostResponse(receipt=to_receipt(command))

    async def CreateJoinToken(
        self, request: host_service_pb2.CreateJoinTokenRequest, context: Context
    ) -> host_service_pb2.CreateJoinTokenResponse:
        """Makes a join token; its secret is in the first answer alone."""
        caller = callers.current()
        ttl = (
            request.time_to_live.ToNanoseconds()
            if request.HasField("time_to_live")
            else DEFAULT_JOIN_TTL_NS
        )

        def create(tx: Tx) -> tuple[CommandRow, str]:
            workspace = workspace_of(tx, caller, request.workspace)
            key = request_key("CreateJoinToken", request, scope=workspace, caller=caller)
            if known := find_known(tx, key):
                return known, ""
            minted = mint_join_token(tx, workspace=workspace, expire_time=tx.now + ttl)
            row = _done(tx, key, receipt_pb2.VERB_CREATE_JOIN_TOKEN, resource=minted.token_id)
            return row, minted.secret

        row, secret = await self._store.write(create)
        return host_service_pb2.CreateJoinTokenResponse(
            receipt=to_receipt(row),
            join_token=secret,
            # A repeat has the same body, hence the same time to live from the same accept.
            expire_time=timestamp(row.accept_time + ttl),
        )

    def _host(self, row: HostRow) -> host_pb2.Host:
        return to_host(
            row,
            connected=self._connected(row.host_id),
            twin_time=self._twin_time(row.host_id),
        )

    async def _rows(
        self, caller: Caller, workspace: str, host: str = ""
    ) -> tuple[str, list[HostRow]]:
        """The workspace's name and its hosts, or the one that is named."""

        def read(tx: ReadTx) -> tuple[str, list[HostRow]]:
            name = workspace_of(tx, caller, workspace)
            return name, [host_of(tx, name, host)] if host else tx.hosts(name)

        return await self._store.read(read)


# --- inside the transaction ----------------------------------------------------------------------


def _drain(
    tx: Tx, key: RequestKey, row: HostRow, request: host_service_pb2.DrainHostRequest
) -> CommandRow:
    """Marks the host; the receipt is decided by the last session that ends (see Projection)."""
    if not row.draining:
        tx.update_host(replace(row, draining=True))
    live = tx.live_sessions_of_host(row.host_id)
    command = tx.insert_command(
        new_command(
            tx,
            key,
            verb=receipt_pb2.VERB_DRAIN_HOST,
            outcome=pending(receipt_pb2.OUTCOME_REASON_IN_PROGRESS) if live else ran(tx.now),
            host_id=row.host_id,
        )
    )
    grace = request.grace if request.HasField("grace") else None
    for session in live:
        tx.insert_command(_stop(tx, command, session, grace))
    return command


def _stop(tx: Tx, drain: CommandRow, session: SessionRow, grace: Duration | None) -> CommandRow:
    """Control's own Stop of one session, beneath the drain's command."""
    stop = link_pb2.StopRun(reason=session_pb2.END_REASON_HOST_DRAINED)
    if grace is not None:
        stop.grace.CopyFrom(grace)
    return CommandRow(
        command_id=uuid7(tx.now),
        verb=receipt_pb2.VERB_STOP,
        accept_time=tx.now,
        scope=drain.scope,
        principal_key=drain.principal_key,
        principal=drain.principal,
        session_id=session.session_id,
        run=session.run,
        host_id=session.host_id,
        expire_time=tx.now + _STOP_TTL_NS,
        action=link_pb2.Command(stop=stop).SerializeToString(deterministic=True),
        outcome=pending().SerializeToString(deterministic=True),
        parent_command_id=drain.command_id,
        trace=drain.trace,
    )


def _undo_drain(tx: Tx, key: RequestKey, row: HostRow) -> CommandRow:
    """Admits sessions again. What was asked to stop stops all the same."""
    if row.draining:
        tx.update_host(replace(row, draining=False))
    for command in tx.open_commands_of_host(row.host_id):
        if command.verb == receipt_pb2.VERB_DRAIN_HOST:
            cancelled = outcomes.decided(
                tx.now, outcomes.NOT_RUN, receipt_pb2.OUTCOME_REASON_CANCELLED
            )
            tx.update_command(outcomes.settle(command, cancelled))
    return _done(tx, key, receipt_pb2.VERB_DRAIN_HOST, host_id=row.host_id)


def _abandon(tx: Tx, key: RequestKey, row: HostRow, live: list[SessionRow]) -> None:
    """Gives the host's live runs up, and closes what is open of the host itself."""
    projection = Projection(tx)
    for session in live:
        endings.give_up(
            projection,
            session,
            session_pb2.END_REASON_HOST_ABANDONED,
            f'the host "{row.name}" was removed by force',
            principal=key.principal,
        )
    projection.flush()
    for command in tx.open_commands_of_host(row.host_id):
        if command.verb == receipt_pb2.VERB_DRAIN_HOST:
            done = outcomes.decided(tx.now, outcomes.RAN, receipt_pb2.OUTCOME_REASON_DONE)
            tx.update_command(outcomes.settle(command, done))


def _done(
    tx: Tx,
    key: RequestKey,
    verb: receipt_pb2.Verb.ValueType,
    *,
    host_id: str = "",
    resource: str = "",
) -> CommandRow:
    """The receipt of what was done in this very transaction."""
    command = new_command(
        tx, key, verb=verb, outcome=ran(tx.now), host_id=host_id, resource=resource
    )
    return tx.insert_command(command)
