"""One service in the foreground: control init, control serve, host join, host serve.

All but `join` become the service's own program, which knows its own flags; here only what the user
would have to repeat is filled in.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bridle.cli import output
from bridle.cli.base import Call, command
from bridle.cli.processes import Service, entry_point, environment

#: Everything after the command goes to the service's program, `--help` too.
_PASS_ON: dict[str, Any] = {
    "ignore_unknown_options": True,
    "help_option_names": [],
    "allow_interspersed_args": False,
}


def _become(program: str, *arguments: str) -> None:
    sys.stdout.flush()
    os.execve(entry_point(program), [program, *arguments], environment())


def _given(arguments: tuple[str, ...], *flags: str) -> bool:
    names = {argument.partition("=")[0] for argument in arguments}
    return bool(names.intersection(flags))


def _service(name: str) -> Callable[[Callable[[tuple[str, ...]], None]], click.Command]:
    return click.command(name, context_settings=_PASS_ON, add_help_option=False)


@_service("init")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def control_init(arguments: tuple[str, ...]) -> None:
    """Create a store, with its first token."""
    from bridle.settings import Places

    store = [] if _given(arguments, "--store") else ["--store", str(_made(Places.find().store))]
    _become("bridle-control", "init", *store, *arguments)


@_service("serve")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def control_serve(arguments: tuple[str, ...]) -> None:
    """Run the control service."""
    from bridle.settings import DEFAULT_ADDRESS, Places

    filled: list[str] = []
    if not _given(arguments, "--config", "--help", "-h"):
        if not _given(arguments, "--store"):
            filled += ["--store", str(Places.find().store)]
        if not _given(arguments, "--listen"):
            filled += ["--listen", DEFAULT_ADDRESS]
    _become("bridle-control", "serve", *filled, *arguments)


@_service("serve")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def host_serve(arguments: tuple[str, ...]) -> None:
    """Run the agent host service of this machine."""
    from bridle.settings import Places, load

    state = Places.find().host
    filled: list[str] = []
    if not _given(arguments, "--help", "-h"):
        if not _given(arguments, "--state"):
            filled += ["--state", str(_made(state))]
        if not _given(arguments, "--control"):
            joined = state / "control"
            if joined.is_file():
                filled += joined.read_text(encoding="utf-8").splitlines()
            else:
                filled += ["--control", load().address]
    _become("bridle-host", "serve", *filled, *arguments)


def _made(path: Path) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


_FILE = click.Path(path_type=Path, dir_okay=False, resolve_path=True)


@command("join", json=False)
@click.option("--name", metavar="NAME", help="The host's name (the machine's).")
@click.option("--token-file", metavar="FILE", help='A join token in a file, "-" for stdin.')
@click.option("--hosts-address", metavar="HOST:PORT", help="Where hosts connect, if elsewhere.")
@click.option("--tls-ca", type=_FILE, metavar="FILE", help="The CA of control's certificate.")
@click.option("--tls-cert", type=_FILE, metavar="FILE", help="This host's certificate.")
@click.option("--tls-key", type=_FILE, metavar="FILE", help="Its private key.")
@click.option("--insecure-public", is_flag=True, help="In plaintext to another machine.")
async def host_join(
    call: Call,
    name: str | None,
    token_file: str | None,
    hosts_address: str | None,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    insecure_public: bool,
) -> None:
    """Let this machine join a control; then `bridle host serve` runs the service.

    Without --token-file a join token is made with your own token. For a machine on which you are
    not logged in, make one elsewhere: bridle token create --join.
    """
    from bridle.credentials import write_secret
    from bridle.settings import Places

    state = Places.find().host
    if (state / "credential").exists():
        raise click.UsageError(f"this machine has joined already; its credential is in {state}")
    if token_file == "-":
        token = sys.stdin.readline().strip()
    elif token_file is not None:
        token = Path(token_file).read_text(encoding="utf-8").strip()  # noqa: ASYNC240
    else:
        async with call.client() as client:
            token = (await client.create_join_token()).join_token
    address = call.settings.address
    reached = ["--control", hosts_address or address]
    reached += ["--agents-address", address] if hosts_address else []
    files = (("--tls-ca", tls_ca or call.settings.tls_ca), ("--tls-cert", tls_cert))
    for flag, file in (*files, ("--tls-key", tls_key)):
        reached += [flag, str(file)] if file is not None else []
    reached += ["--insecure-public"] if insecure_public else []
    write_secret(state.with_name("join-token"), token)
    arguments = ["serve", *reached, "--state", str(state)]
    arguments += ["--join-token-file", str(state.with_name("join-token"))]
    arguments += ["--name", name] if name else []
    service = Service("host", arguments, Places.find().log("host"))
    try:
        ready = await service.start()
    finally:
        state.with_name("join-token").unlink(missing_ok=True)
        await service.end()
    # How the service is started from now on: a flag or its value in each line.
    write_secret(state / "control", "\n".join(reached) + "\n")
    output.line(f"joined {address} as {ready.removeprefix('ready host=')}")
