"""Hosts and their agents: hosts, agents, host drain, host remove."""

from __future__ import annotations

import click

from bridle.cli import output
from bridle.cli.base import Call, command
from bridle.cli.output import SPAN


@command("hosts")
async def hosts(call: Call) -> None:
    """List the workspace's hosts."""
    from bridle.render import enum_name

    async with call.client() as client:
        found = [host async for host in client.list_hosts()]
    if call.json:
        for host in found:
            output.json(host)
        return
    rows = [
        (
            host.name,
            enum_name(host, "state")
            + (" (draining)" if host.draining else "")
            + (" (twin!)" if host.HasField("twin_time") else ""),
            f"{host.live_sessions}/{host.session_limit}",
            ",".join(agent.agent for agent in host.agents if agent.installed),
            host.containment[0] if host.containment else "-",
            host.version,
            output.age(host.last_seen_time),
            host.host_id,
        )
        for host in found
    ]
    output.table(
        ("HOST", "STATE", "SESSIONS", "AGENTS", "CONTAINMENT", "VERSION", "SEEN", "ID"), rows
    )
    for host in found:
        if host.HasField("twin_time"):
            call.note(
                f'host "{host.name}": another process with its identity was turned away '
                f"{output.age(host.twin_time)} ago; is its state directory in use twice?"
            )


@command("agents")
@click.option("--host", default="", metavar="H", help="Only of this host, by name or id.")
async def agents(call: Call, host: str) -> None:
    """List the agents that the hosts can run, and what is missing for the others."""
    async with call.client() as client:
        found = [agent async for agent in client.list_agents(host=host)]
        names = {} if call.json else {item.host_id: item.name async for item in client.list_hosts()}
    if call.json:
        for agent in found:
            output.json(agent)
        return
    rows = [
        (
            agent.agent,
            names.get(agent.host_id, agent.host_id),
            "yes" if agent.installed else "no",
            agent.version,
            ",".join(agent.capabilities) if agent.installed else agent.hint,
        )
        for agent in found
    ]
    output.table(("AGENT", "HOST", "INSTALLED", "VERSION", "CAPABILITIES"), rows)


@command("drain", wait=True)
@click.argument("host")
@click.option("--grace", type=SPAN, help="How long turns may take before they are interrupted.")
@click.option("--undo", is_flag=True, help="Let it take sessions again.")
async def drain(call: Call, host: str, grace: float | None, undo: bool) -> int:
    """Stop the sessions of HOST, by name or id, and give it no new ones."""
    from bridle.cli.session import answer

    async with call.client() as client:
        response = await client.drain_host(host, grace=grace, undo=undo)
        return await answer(call, client, "sent", response.receipt)


@command("remove")
@click.argument("host")
@click.option("--force", is_flag=True, help="Give up the sessions that it owns.")
async def remove(call: Call, host: str, force: bool) -> int:
    """Remove HOST, by name or id: its credential is dead at once."""
    from bridle.cli.session import answer

    async with call.client() as client:
        response = await client.remove_host(host, force=force)
        return await answer(call, client, "removed", response.receipt)
