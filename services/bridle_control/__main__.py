"""The command line of the control service.

    bridle-control init --store PATH [--token-file FILE]
    bridle-control serve --store PATH [--listen HOST:PORT] …

`init` makes a store with the workspace "default" and the first token, which may do everything; it
prints `token brt_…`, or writes the secret into a file of mode 0600. `serve` runs until SIGTERM or
SIGINT, and prints `ready grpc=HOST:PORT` once it serves (with `hosts=HOST:PORT` behind it, where
hosts have a port of their own, `http=HOST:PORT`, where there is a browser gateway, and
`metrics=HOST:PORT`, where Prometheus may ask).

Exit codes: 0 done, 1 failure, 2 usage or settings. What goes wrong is one line on stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from bridle_telemetry.settings import add_flags as add_telemetry_flags

# Processes are spawned by others, never forked here; and grpc's own lines on stderr (a port in use,
# with addresses and source lines) say nothing that ours don't. Both are read when grpc is loaded.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

OK, FAILURE, USAGE = 0, 1, 2


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, as for everything else that goes wrong."""
        self.exit(USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="bridle-control", description="The control service of Bridle.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    init = commands.add_parser("init", help="make a store and the first token")
    init.add_argument("--store", required=True, type=Path, metavar="PATH")
    init.add_argument(
        "--token-file", type=Path, metavar="FILE", help="write the token here, not to stdout"
    )
    # What is not given is not set: the settings file is asked then.
    serve = commands.add_parser("serve", help="run the service", argument_default=argparse.SUPPRESS)
    serve.add_argument("--config", type=Path, metavar="FILE", help="settings: these flags, as YAML")
    serve.add_argument("--store", type=Path, metavar="PATH", help="the store's directory")
    serve.add_argument("--listen", metavar="HOST:PORT", help="default 127.0.0.1:7420; port 0: any")
    serve.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate chain, PEM")
    serve.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key, PEM")
    serve.add_argument(
        "--hosts-listen", metavar="HOST:PORT", help="hosts connect here only, by mutual TLS"
    )
    serve.add_argument(
        "--hosts-ca", type=Path, metavar="FILE", help="the CA of the hosts' certificates, PEM"
    )
    serve.add_argument(
        "--http-listen", metavar="HOST:PORT", help="the browser gateway; without it there is none"
    )
    serve.add_argument(
        "--http-origin",
        action="append",
        dest="http_origins",
        metavar="ORIGIN",
        help="pages from there may call it, such as https://app.example; *: all; repeatable",
    )
    serve.add_argument(
        "--insecure-public",
        action="store_true",
        help="allow a public address in plaintext: anybody on the way can read the tokens",
    )
    serve.add_argument(
        "--audit-log",
        type=Path,
        metavar="FILE",
        help="who did what; default: audit.jsonl, in the store",
    )
    serve.add_argument(
        "--audit-reads", action="store_true", help="tell also who reads what agents say"
    )
    serve.add_argument(
        "--retain-per-session",
        metavar="LIMITS",
        help="keep no more of a session's events than, say, 100000ev,1GiB,30d; default: all",
    )
    serve.add_argument(
        "--retain-total",
        metavar="LIMITS",
        help="keep no more of all events than, say, 50GiB; the oldest go first; default: all",
    )
    serve.add_argument(
        "--transcript-bytes",
        type=int,
        metavar="N",
        help="the most that a fresh agent is told of the conversation; default 65536",
    )
    add_telemetry_flags(serve)
    serve.add_argument(
        "--restored",
        action="store_true",
        help="this once: the store was set back to a copy, which is not always noticed",
    )
    serve.add_argument(
        "--ready-fd", type=int, metavar="N", help="write the ready line there, not to stdout"
    )
    serve.add_argument("--log-level", metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The whole command; returns the exit code (argparse exits by itself with 2)."""
    chosen = vars(_parser().parse_args(arguments))
    command = chosen.pop("command")
    # Heavy imports come after the flags are known to be right.
    from bridle_control.settings import ListenError, SettingsError
    from bridle_control.store.api import StoreOpenError

    try:
        return _init(**chosen) if command == "init" else _serve(chosen)
    except (ListenError, StoreOpenError) as error:
        return _complain(error, FAILURE)
    except SettingsError as error:
        return _complain(error, USAGE)


def _complain(error: Exception, code: int) -> int:
    print(f"bridle-control: {error}", file=sys.stderr)
    return code


def _init(store: Path, token_file: Path | None) -> int:
    from bridle_control.init import init

    secret = init(store, token_file)
    if token_file is None:
        print(f"token {secret}", flush=True)
    return OK


def _serve(flags: dict[str, Any]) -> int:
    from bridle_control.app import serve
    from bridle_control.logs import configure
    from bridle_control.settings import load

    settings = load(flags, flags.pop("config", None))
    configure(settings.log_level)
    return OK if asyncio.run(serve(settings)) else FAILURE


if __name__ == "__main__":
    sys.exit(main())
