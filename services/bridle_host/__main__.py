"""`bridle-host`: the agent host service, as a process.

    bridle-host serve --control HOST:PORT --state DIR [--name NAME] [--join-token-file FILE] …

Prints one line, `ready host=NAME`, on stdout once control has welcomed it; behind it
`metrics=HOST:PORT`, where --metrics-listen asks for it. Logs to stderr. Exit codes: 0 after SIGTERM
or SIGINT, 1 for a failure (one line on stderr), 2 for wrong usage.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Sequence

_FORK = "GRPC_ENABLE_FORK_SUPPORT"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    from bridle_host import logs
    from bridle_host.settings import parse

    settings = parse(sys.argv[1:] if arguments is None else arguments)
    logs.configure(settings.log_level)
    # Nothing that the host writes is for others.
    os.umask(0o077)
    _start_grpc()
    from bridle_host.app import HostFailure, serve

    try:
        asyncio.run(serve(settings, _ready))
    except HostFailure as failure:
        sys.stderr.write(f"bridle-host: {failure}\n")
        return failure.code
    except Exception:
        # A fault of ours: the log has the whole of it in one line.
        logging.getLogger("bridle.host").critical("the service failed", exc_info=True)
        sys.stderr.write("bridle-host: internal error; the line above tells more\n")
        return 1
    return 0


def _start_grpc() -> None:
    """Starts grpc without its support for forks: this process starts others by exec only.

    grpc reads the variable once, and agents have no use for it: they get the environment as it was.
    """
    given = os.environ.get(_FORK)
    os.environ[_FORK] = "0"
    import grpc.aio

    grpc.aio.init_grpc_aio()
    if given is None:
        del os.environ[_FORK]
    else:
        os.environ[_FORK] = given


def _ready(name: str) -> None:
    try:
        print(f"ready host={name}", flush=True)
    except OSError:
        # Whoever was to read it is gone; that is no reason to end.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the rest of the process


if __name__ == "__main__":
    sys.exit(main())
