"""Certificates for TLS: pki init, pki control, pki host."""

from __future__ import annotations

import re
from pathlib import Path

import click

from bridle.cli import output
from bridle.cli.base import Call, command

#: As a host's name has it.
_NAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9._-]{0,61}[a-zA-Z0-9])?")

_DIRECTORY = click.argument("directory", type=click.Path(path_type=Path, file_okay=False))


@command("init", json=False, remote=False)
@_DIRECTORY
@click.option("--days", type=click.IntRange(1, 36500), default=3650, show_default=True)
async def init(call: Call, directory: Path, days: int) -> None:
    """Make a certificate authority in DIRECTORY, for control and its hosts."""
    from bridle.pki import make_authority

    files = make_authority(directory, days)
    output.line(f"made {files.cert} for everybody, and {files.key}, which stays here")


@command("control", json=False, remote=False)
@_DIRECTORY
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--days", type=click.IntRange(1, 3650), default=365, show_default=True)
async def control(call: Call, directory: Path, names: tuple[str, ...], days: int) -> None:
    """Make or renew control's certificate; NAMEs are its DNS names and IP addresses."""
    from bridle.pki import make_control

    files = make_control(directory, names, days)
    output.line(f"made {files.cert} and {files.key}")
    output.line(f"  bridle control serve --tls-cert {files.cert} --tls-key {files.key}")
    call.note("a control that runs takes a renewed certificate by itself")


@command("host", json=False, remote=False)
@_DIRECTORY
@click.argument("name")
@click.option("--days", type=click.IntRange(1, 3650), default=365, show_default=True)
async def host(call: Call, directory: Path, name: str, days: int) -> None:
    """Make or renew the certificate of the host that joins as NAME."""
    from bridle.pki import make_host

    if not _NAME.fullmatch(name):
        raise click.UsageError(
            f"{name!r} is no name for a host: 1 to 63 letters, digits, '.', '_' or '-', "
            "the first and the last a letter or digit"
        )
    files = make_host(directory, name, days)
    output.line(f"made {files.cert} and {files.key}; the host needs them and ca.pem")
