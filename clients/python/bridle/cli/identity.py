"""Tokens, workspaces, and which token is used: auth, token, workspace."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bridle.cli import output
from bridle.cli.base import Call, command
from bridle.cli.output import SPAN
from bridle.terminal import clean_line


@command("login", json=False)
@click.option(
    "--tls-ca",
    type=click.Path(path_type=Path, dir_okay=False, resolve_path=True),
    metavar="FILE",
    help="The CA of control's certificate, kept for later commands too.",
)
async def login(call: Call, tls_ca: Path | None) -> None:
    """Store the token for a control, which later commands then call.

    The token is asked for, or read from stdin where that is no terminal. It is checked first.
    """
    from bridle import credentials
    from bridle.client import Client
    from bridle.settings import Places

    found = call.settings
    if found.session:
        raise click.UsageError("inside a session only its own identity is used")
    if sys.stdin.isatty():
        token = str(click.prompt(f"token for {found.address}", hide_input=True, err=True))
    else:
        token = sys.stdin.readline()
    token = token.strip()
    if not token:
        raise click.UsageError("there is no token on stdin")
    authority = tls_ca or found.tls_ca
    async with Client(
        found.address,
        token=token,
        workspace=found.workspace,
        insecure=found.insecure,
        tls_ca=authority,
    ) as client:
        answer = await client.who_am_i()
    credentials.store(Places.find().credentials, found.address, token, authority)
    output.line(f"logged in to {found.address} as {clean_line(answer.principal.name)}")


@command("logout", json=False)
async def logout(call: Call) -> None:
    """Forget the token for a control. The token itself stays good: see `bridle token revoke`."""
    from bridle import credentials
    from bridle.settings import Places

    known = credentials.forget(Places.find().credentials, call.settings.address)
    if known:
        output.line(f"logged out of {call.settings.address}")
    else:
        call.note(f"no token was stored for {call.settings.address}")


@command("whoami")
async def whoami(call: Call) -> None:
    """Tell whom the token belongs to, and what it may do."""
    from bridle.render import enum_name

    async with call.client() as client:
        answer = await client.who_am_i()
    if call.json:
        output.json(answer)
        return
    output.pairs(
        [
            ("principal", f"{answer.principal.name} ({enum_name(answer.principal, 'kind')})"),
            ("workspace", answer.token.workspace or "all"),
            ("rights", ", ".join(answer.token.rights)),
            ("expires", output.stamp_text(answer.token.expire_time)),
            ("control", f"{client.address} {answer.control_version}"),
            ("address", f"from {call.settings.address_from}"),
        ]
    )


@command("create")
@click.argument("name", required=False)
@click.option("--right", "rights", multiple=True, help="Such as session.read; repeatable.")
@click.option("--ttl", type=SPAN, help="How long it is good (90d; 0: for ever).")
@click.option("--all-workspaces", is_flag=True, help="Good for all workspaces.")
@click.option("--join", is_flag=True, help="A token with which one host can join, once.")
async def token_create(
    call: Call,
    name: str | None,
    rights: tuple[str, ...],
    ttl: float | None,
    all_workspaces: bool,
    join: bool,
) -> None:
    """Create the token NAME and print its secret, which is shown only now."""
    if join:
        async with call.client() as client:
            joined = await client.create_join_token(time_to_live=ttl)
        output.json(joined) if call.json else output.line(clean_line(joined.join_token))
        return
    if not name:
        raise click.UsageError("missing argument NAME")
    if not rights:
        raise click.UsageError('missing option --right, such as "session.*"')
    async with call.client() as client:
        made = await client.create_token(
            name, rights, time_to_live=ttl, all_workspaces=all_workspaces
        )
    output.json(made) if call.json else output.line(clean_line(made.secret))


@command("list")
@click.option("-a", "--all", "all_", is_flag=True, help="Revoked ones too.")
async def token_list(call: Call, all_: bool) -> None:
    """List tokens, without their secrets."""
    async with call.client() as client:
        found = [item async for item in client.list_tokens("" if all_ else "revoked = false")]
    if call.json:
        for token in found:
            output.json(token)
        return
    rows = [
        (
            token.name,
            token.workspace or "(all)",
            "revoked" if token.revoked else output.stamp_text(token.expire_time),
            output.age(token.create_time),
            token.token_id,
            ",".join(token.rights),
        )
        for token in found
    ]
    output.table(("NAME", "WORKSPACE", "EXPIRES", "AGE", "ID", "RIGHTS"), rows)


@command("revoke")
@click.argument("token")
async def token_revoke(call: Call, token: str) -> None:
    """Revoke TOKEN, by name or id; what it has open ends within 5 s."""
    async with call.client() as client:
        response = await client.revoke_token(token)
    output.json(response.token) if call.json else output.line("revoked")


@command("create")
@click.argument("name")
async def workspace_create(call: Call, name: str) -> None:
    """Create the workspace NAME."""
    async with call.client() as client:
        response = await client.create_workspace(name)
    output.json(response.workspace) if call.json else output.line("created")


@command("list")
async def workspace_list(call: Call) -> None:
    """List the workspaces that the token may see."""
    async with call.client() as client:
        found = [item async for item in client.list_workspaces()]
    if call.json:
        for workspace in found:
            output.json(workspace)
    else:
        output.table(("NAME", "AGE"), [(item.name, output.age(item.create_time)) for item in found])
