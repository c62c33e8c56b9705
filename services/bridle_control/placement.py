"""Which host runs a session: functions over rows, called inside StartSession and Resume.

A host is taken when it is live, not drained, has the agent and has room. Room is counted in the
same transaction that takes it, so two starts never share the last place; the host itself counts
again.
"""

from __future__ import annotations

from collections.abc import Collection

from bridle.v1 import host_pb2
from bridle_control.hosts import agents_of, host_of
from bridle_control.store.api import HostRow, ReadTx
from bridle_core.errors import BridleError, Reason

#: When it makes sense to ask again for a host, in seconds.
_RETRY = 2.0


def choose(
    tx: ReadTx,
    workspace: str,
    name: str,
    agent: str,
    live: Collection[str],
    agent_command: str = "",
) -> HostRow:
    """The host for a new run: the one that is named (by id or name), else the least loaded.

    `live`: the ids of the hosts that can be reached. Raises HOST_NOT_FOUND, HOST_UNREACHABLE,
    AGENT_NOT_INSTALLED, HOST_FULL, NO_HOST.
    """
    if name:
        host = host_of(tx, workspace, name)
        _check_named(host, agent, agent_command, live)
        return host
    there = [host for host in tx.hosts(workspace) if host.host_id in live and not host.draining]
    if not there:
        raise _no_host(f'no live host in the workspace "{workspace}" takes sessions now')
    able = [host for host in there if _installed(host, agent)] or [
        host for host in there if _could(host, agent, agent_command)
    ]
    if not able:
        raise _not_installed(agent, _hint(there, agent))
    free = [host for host in able if has_room(host)]
    if not free:
        raise _no_host(f'no live host with the agent "{agent}" has room')
    return min(free, key=lambda host: (_load(host), host.live_sessions, host.name))


def has_room(host: HostRow) -> bool:
    """Whether the host admits one more session; a limit of 0 means that it told none."""
    return not host.session_limit or host.live_sessions < host.session_limit


def agent_of(host: HostRow | None, agent: str) -> host_pb2.Agent | None:
    """What the host told of an agent."""
    if host is None:
        return None
    return next((each for each in agents_of(host) if each.agent == agent), None)


def unreachable(host: HostRow) -> BridleError:
    """The host that must run the session is away."""
    return BridleError(
        Reason.HOST_UNREACHABLE,
        f'the host "{host.name}" is away',
        metadata={"host": host.host_id},
        retry_after=_RETRY,
    )


def _check_named(host: HostRow, agent: str, agent_command: str, live: Collection[str]) -> None:
    if host.host_id not in live:
        raise unreachable(host)
    if host.draining:
        raise _no_host(f'the host "{host.name}" is drained and takes no sessions')
    if not (_installed(host, agent) or _could(host, agent, agent_command)):
        raise _not_installed(agent, _hint([host], agent))
    if not has_room(host):
        raise BridleError(
            Reason.HOST_FULL,
            f'the host "{host.name}" admits no more than {host.session_limit} sessions',
            metadata={"host": host.host_id, "limit": str(host.session_limit)},
        )


def _installed(host: HostRow, agent: str) -> bool:
    told = agent_of(host, agent)
    return told is not None and told.installed


def _could(host: HostRow, agent: str, agent_command: str) -> bool:
    """Whether the host knows how to drive the agent, and the command names a program of its own,
    not flags alone: that one the host has not looked for, and does when it starts it.
    """
    program = agent_command.strip()
    return agent_of(host, agent) is not None and program != "" and not program.startswith("-")


def _hint(hosts: Collection[HostRow], agent: str) -> str:
    for host in hosts:
        told = agent_of(host, agent)
        if told is not None and told.hint:
            return told.hint
    known = sorted({each.agent for host in hosts for each in agents_of(host) if each.installed})
    return f"`bridle agents` lists them: {', '.join(known)}" if known else ""


def _load(host: HostRow) -> float:
    return host.live_sessions / host.session_limit if host.session_limit else 0.0


def _not_installed(agent: str, hint: str) -> BridleError:
    text = f'the agent "{agent}" is not installed on a host that could run it'
    return BridleError(
        Reason.AGENT_NOT_INSTALLED,
        f"{text}: {hint}" if hint else text,
        metadata={"agent": agent, "hint": hint},
    )


def _no_host(text: str) -> BridleError:
    return BridleError(Reason.NO_HOST, text, retry_after=_RETRY)
