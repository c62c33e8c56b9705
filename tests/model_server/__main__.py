"""Serves the scripted model until Ctrl-C, with a line for each request: for trying by hand."""

from __future__ import annotations

import argparse
import asyncio
import json
from contextlib import suppress

from tests.model_server.server import model_server


async def _serve(port: int, bodies: str) -> None:
    async with model_server(port) as model:
        print(f"ready {model.url}", flush=True)
        shown = 0
        while True:
            await model.until(lambda: len(model.replies) > shown, timeout=10**9)  # noqa: B023
            reply = model.replies[shown]
            shown += 1
            request = reply.request
            print(
                f"{request.api} {request.model} turn={reply.tag or '-'} sees={request.tags}"
                f" shell={request.shell or '-'} tools={len(request.tools)}",
                flush=True,
            )
            if bodies:
                _keep(bodies, json.dumps(request.body))


def _keep(path: str, line: str) -> None:
    with open(path, "a", encoding="utf-8") as log:
        log.write(line + "\n")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.model_server", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument(
        "--bodies", default="", metavar="FILE", help="keep each request, a line each"
    )
    given = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(given.port, given.bodies))


if __name__ == "__main__":
    main()
