"""Hosts and their agents as messages of the contract. Pure; called by HostService and by Enroll."""

from __future__ import annotations

from bridle.v1 import host_pb2, host_service_pb2
from bridle_control.filters import Value
from bridle_control.receipts import timestamp
from bridle_control.store.api import HostRow, ReadTx
from bridle_core.errors import BridleError, Reason


def agents_of(row: HostRow) -> list[host_pb2.Agent]:
    """The agents that the host told of in its newest Hello, each with the host's id."""
    told = host_service_pb2.ListAgentsResponse.FromString(row.agents)
    for agent in told.agents:
        agent.host_id = row.host_id
    return list(told.agents)


def to_host(row: HostRow, *, connected: bool, twin_time: int = 0) -> host_pb2.Host:
    """A host as ListHosts tells it. `twin_time`: in ns since the epoch; 0: none came."""
    return host_pb2.Host(
        host_id=row.host_id,
        workspace=row.workspace,
        name=row.name,
        state=host_pb2.HOST_STATE_CONNECTED if connected else host_pb2.HOST_STATE_DISCONNECTED,
        epoch=row.epoch,
        version=row.version,
        containment=row.containment,
        agents=agents_of(row),
        live_sessions=row.live_sessions,
        session_limit=row.session_limit,
        create_time=timestamp(row.create_time),
        last_seen_time=timestamp(row.last_seen_time),
        draining=row.draining,
        twin_time=timestamp(twin_time),
    )


def host_values(host: host_pb2.Host) -> dict[str, Value]:
    """What a filter of ListHosts compares."""
    return {"state": host.state, "name": host.name, "draining": host.draining}


def agent_values(agent: host_pb2.Agent) -> dict[str, Value]:
    """What a filter of ListAgents compares."""
    return {"agent": agent.agent, "installed": agent.installed}


def host_of(tx: ReadTx, workspace: str, name: str) -> HostRow:
    """The workspace's host by id or name. Raises HOST_NOT_FOUND, also for one of others.

    `workspace` is one that `caller.workspace_of` gave.
    """
    row = tx.host(name)
    if row is None or row.workspace != workspace:
        row = tx.host_by_name(workspace, name)
    if row is None:
        raise BridleError(
            Reason.HOST_NOT_FOUND,
            f'no host "{name}" in workspace "{workspace}"',
            metadata={"host": name, "workspace": workspace},
        )
    return row
