"""A second machine for a pair, as far as one machine can be two: another host service, with a state
of its own.
"""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.pair import Pair, program


class OtherHost:
    """A second process of the host service, beside that of the pair."""

    def __init__(self, pair: Pair, name: str) -> None:
        self._pair = pair
        self.state = pair.home / name
        self.log = pair.home / f"{name}.log"
        self._process: Process | None = None

    async def start(self, name: str, *more: str, ready: bool = True) -> None:
        """Starts it; `name` is the host's. With `ready`, returns when it has its place."""
        with self.log.open("ab") as out:
            self._process = await asyncio.create_subprocess_exec(
                program("bridle-host"),
                *("serve", "--control", self._pair.address, "--state", str(self.state)),
                *("--directory", str(self._pair.work), "--name", name, *more),
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=out,
                start_new_session=True,
            )
        if ready:
            assert self._process.stdout is not None
            line = await self._process.stdout.readline()
            assert line.startswith(b"ready "), self.log.read_text()

    async def end(self, number: int = signal.SIGTERM) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            await process.wait()
            process._transport.close()  # type: ignore[attr-defined]


@asynccontextmanager
async def other_host(pair: Pair, name: str) -> AsyncIterator[OtherHost]:
    made = OtherHost(pair, name)
    try:
        yield made
    finally:
        await made.end(signal.SIGKILL)


async def joined(pair: Pair, other: OtherHost, name: str) -> None:
    """Has it join as a host of its own."""
    token = other.log.with_suffix(".join")
    secret = (await pair.client.create_join_token()).join_token
    await asyncio.to_thread(token.write_text, secret)
    await other.start(name, "--join-token-file", str(token))
