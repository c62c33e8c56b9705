"""The tree of commands: their names, where they live, and a line of help for each.

The table is all that `--help` and the look-up of a name need; a command's module is imported when
the command runs. Called by base.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import click


class Entry(NamedTuple):
    """A command: its module within bridle.cli, its name there, its line of help."""

    module: str
    attribute: str
    help: str


Table = dict[str, "Entry | LazyGroup"]


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used."""

    def __init__(self, name: str, table: Table, help: str, **more: Any) -> None:  # noqa: A002
        super().__init__(name, help=help, no_args_is_help=True, **more)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.table.get(cmd_name)
        if entry is None or isinstance(entry, LazyGroup):
            return entry
        from importlib import import_module

        module = import_module(f"bridle.cli.{entry.module}")
        found: click.Command = getattr(module, entry.attribute)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, entry.help or "") for name, entry in self.table.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self.table and not name.startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(name, self.table, 1)
            behind = f'; did you mean "{near[0]}"?' if near else ""
            raise click.UsageError(f'there is no command "{name}"{behind}', ctx)
        return super().resolve_command(ctx, args)


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from importlib.metadata import version

        click.echo(f"bridle {version('bridle')}")
        ctx.exit()


SESSION: Table = {
    "start": Entry("session", "start", "Start a session with an agent."),
    "send": Entry("session", "send", "Send the agent an input."),
    "interrupt": Entry("session", "interrupt", "Interrupt the turn that is on; the agent lives."),
    "stop": Entry("session", "stop", "Let the agent finish its turn, and end the session."),
    "resume": Entry("session", "resume", "Take an ended session up again."),
    "watch": Entry("watch", "watch", "Stream the session's events."),
    "turns": Entry("reading", "turns", "List the session's turns."),
    "transcript": Entry("reading", "transcript", "Show the conversation."),
    "artifacts": Entry("artifacts", "artifacts", "List what a stopped session left, or read it."),
    "approvals": Entry("approvals", "approvals", "Who answers approvals: show or change it."),
    "delete": Entry("session", "delete", "Delete an ended session with its log."),
}
QUEUE: Table = {
    "list": Entry("queue", "list_", "List the inputs that wait."),
    "cancel": Entry("queue", "cancel", "Cancel an input that waits."),
    "clear": Entry("queue", "clear", "Cancel all inputs that wait."),
    "release": Entry("queue", "release", "Let a held queue go on."),
}
HOST: Table = {
    "join": Entry("services", "host_join", "Let this machine join a control."),
    "serve": Entry("services", "host_serve", "Run the agent host service of this machine."),
    "drain": Entry("hosts", "drain", "Stop a host's sessions and give it no new ones."),
    "remove": Entry("hosts", "remove", "Remove a host for good."),
}
CONTROL: Table = {
    "init": Entry("services", "control_init", "Create a store, with its first token."),
    "serve": Entry("services", "control_serve", "Run the control service."),
}
TOKEN: Table = {
    "create": Entry("identity", "token_create", "Create a token."),
    "list": Entry("identity", "token_list", "List tokens."),
    "revoke": Entry("identity", "token_revoke", "Revoke a token."),
}
PKI: Table = {
    "init": Entry("pki", "init", "Make a certificate authority."),
    "control": Entry("pki", "control", "Make or renew control's certificate."),
    "host": Entry("pki", "host", "Make or renew a host's certificate."),
}
AUTH: Table = {
    "login": Entry("identity", "login", "Store the token for a control."),
    "logout": Entry("identity", "logout", "Forget the token for a control."),
    "whoami": Entry("identity", "whoami", "Tell whom the token belongs to."),
}
WORKSPACE: Table = {
    "create": Entry("identity", "workspace_create", "Create a workspace."),
    "list": Entry("identity", "workspace_list", "List workspaces."),
}

ROOT: Table = {
    "up": Entry("up", "up", "Start control and an agent host on this machine."),
    "session": LazyGroup("session", SESSION, "Steer sessions."),
    "ls": Entry("sessions", "ls", "List sessions."),
    "status": Entry("sessions", "status", "Tell where a session stands."),
    "wait": Entry("sessions", "wait", "Wait until a session is where you want it."),
    "kill": Entry("session", "kill", "End a session and its children now."),
    "approve": Entry("sessions", "approve", "Allow what the agent asks for."),
    "deny": Entry("sessions", "deny", "Deny what the agent asks for."),
    "artifacts": Entry("artifacts", "artifacts", "List what a stopped session left, or read it."),
    "attach": Entry("attach", "attach", "Watch a session and talk to its agent."),
    "queue": LazyGroup("queue", QUEUE, "See and change what waits for a session."),
    "hosts": Entry("hosts", "hosts", "List hosts."),
    "agents": Entry("hosts", "agents", "List the agents that the hosts can run."),
    "host": LazyGroup("host", HOST, "Run and manage agent hosts."),
    "control": LazyGroup("control", CONTROL, "Run the control service."),
    "pki": LazyGroup("pki", PKI, "Make certificates for TLS."),
    "auth": LazyGroup("auth", AUTH, "Log in to a control."),
    "token": LazyGroup("token", TOKEN, "Manage tokens."),
    "workspace": LazyGroup("workspace", WORKSPACE, "Manage workspaces."),
    "health": Entry("sessions", "health", "Tell whether control serves."),
}

#: The command itself: `bridle`.
root = LazyGroup(
    "bridle",
    ROOT,
    "Steer running AI agents: interrupt them, send them word, stop and resume them, watch each"
    " step.",
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_version,
            help="Show the version and exit.",
        )
    ],
)
