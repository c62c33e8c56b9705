"""The settings of the host service: its command line, checked, as one frozen value.

Called by `bridle_host.__main__`. What is wrong ends the process with 2 and one line.
"""

from __future__ import annotations

import argparse
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NoReturn

from bridle_core.version import VERSION
from bridle_host.dial import CertificateError, Control
from bridle_telemetry.settings import OFF, TelemetrySettings, TelemetrySettingsError
from bridle_telemetry.settings import add_flags as add_telemetry_flags

#: As EnrollRequest.name has it.
_NAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9._-]{0,61}[a-zA-Z0-9])?")
#: Sessions that a host admits where nothing is said: each is a shim and an agent.
SESSION_LIMIT = 64
#: What one turn may put into the log where nothing is said, in MiB. More than people read and less
#: than a log minds; a build that prints more is kept to its begin, and the log says so.
OUTPUT_CAP = 16
#: Seconds that sessions get to end when the service ends: an interrupt's grace and a little more.
STOP_GRACE = 10.0


class OnEnd(StrEnum):
    """What becomes of the sessions when the service ends."""

    DETACH = "detach"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What `bridle-host serve` was told.

    `name` is None where the credential's, or the machine's, is to be taken; `agents_address` is
    where agents reach control; `directory` is where sessions work that name none; `containment` is
    None for the strongest; `output_cap` is what one turn may put into the log, in bytes, 0 for all.
    """

    control: Control
    agents_address: str
    state: Path
    name: str | None
    join_token_file: Path | None
    session_limit: int
    directory: Path
    containment: str | None
    output_cap: int
    on_end: OnEnd
    stop_grace: float
    log_level: str
    telemetry: TelemetrySettings = OFF


def machine_name() -> str:
    """The machine's name, made one that a host may have."""
    name = re.sub(r"[^a-zA-Z0-9._-]+", "-", socket.gethostname())[:63].strip("._-")
    return name or "host"


class _OneLine(argparse.ArgumentParser):
    """Errors are one line; `--help` tells the rest."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def parse(arguments: Sequence[str]) -> HostSettings:
    """The settings of a command line. Ends the process with 2 and one line where it is wrong."""
    parser = _parser()
    given = parser.parse_args(arguments)
    control = Control(
        given.control, given.insecure_public, given.tls_ca, given.tls_cert, given.tls_key
    )
    if (control.cert is None) != (control.key is None):
        parser.error("--tls-cert and --tls-key go together")
    if control.cert is not None and control.plaintext:
        parser.error("--tls-cert is for TLS; give --tls-ca too, and no --insecure-public")
    try:
        control.check()
        telemetry = TelemetrySettings.of(
            given.otlp_endpoint, given.metrics_listen, given.trace_ratio
        )
    except (CertificateError, TelemetrySettingsError) as error:
        parser.error(str(error))
    return HostSettings(
        control=control,
        agents_address=given.agents_address or given.control,
        state=given.state.absolute(),
        name=given.name,
        join_token_file=given.join_token_file,
        session_limit=given.session_limit,
        directory=given.directory.absolute(),
        containment=given.containment,
        output_cap=given.output_cap * 1024 * 1024,
        on_end=OnEnd(given.on_end),
        stop_grace=given.stop_grace,
        log_level=given.log_level,
        telemetry=telemetry,
    )


def _parser() -> argparse.ArgumentParser:
    about = "Runs agents on this machine for a Bridle control."
    parser = _OneLine("bridle-host", description=about)
    parser.add_argument("--version", action="version", version=f"bridle-host {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_OneLine)
    serve = commands.add_parser("serve", help="join control where needed, and serve it")

    def add(flag: str, metavar: str, about: str, **more: Any) -> None:
        serve.add_argument(flag, metavar=metavar, help=about, **more)

    add("--control", "HOST:PORT", "where control is", required=True, type=_address)
    add("--state", "DIR", "what the host must not forget", required=True, type=Path)
    add("--name", "NAME", "the host's name in its workspace; default: the machine's", type=_name)
    add("--join-token-file", "FILE", "needed to join, the first time", type=Path)
    add(
        "--tls-ca",
        "FILE",
        "the CA of control's certificate, PEM; default: the machine's",
        type=_file,
    )
    add("--tls-cert", "FILE", "this host's certificate, where control wants one, PEM", type=_file)
    add("--tls-key", "FILE", "its private key, PEM", type=_file)
    about_agents = "where agents reach control, if it is not --control"
    add("--agents-address", "HOST:PORT", about_agents, type=_address)
    add("--session-limit", "N", f"default {SESSION_LIMIT}", type=_limit, default=SESSION_LIMIT)
    add("--directory", "DIR", "where sessions work that name none", type=Path, default=Path())
    add("--containment", "LEVEL", "instead of the strongest that this machine gives")
    about_cap = f"what one turn may put into the log, 0 for all; default {OUTPUT_CAP}"
    add("--output-cap", "MIB", about_cap, type=_mebibytes, default=OUTPUT_CAP)
    serve.add_argument(
        "--on-end",
        choices=[choice.value for choice in OnEnd],
        default=OnEnd.DETACH.value,
        help="what becomes of the sessions when the service ends: they go on, and the next process "
        "takes them over (the default), or they are stopped",
    )
    grace = "what sessions get to end where they are stopped with the service"
    add("--stop-grace", "SECONDS", grace, type=_seconds, default=STOP_GRACE)
    serve.add_argument(
        "--insecure-public",
        action="store_true",
        help="plaintext to another machine: anybody on the way can read the credential",
    )
    add_telemetry_flags(serve)
    serve.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    return parser


def _address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return text


def _file(text: str) -> Path:
    return Path(text).absolute()


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no name for a host: 1 to 63 letters, digits, '.', '_' or '-', "
            "the first and the last a letter or digit"
        )
    return text


def _limit(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 10000")
    return int(text)


def _mebibytes(text: str) -> int:
    if not text.isdecimal() or int(text) > 1024 * 1024:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of MiB from 0 to 1048576")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 3600")
    return seconds
