"""Runs `bridle-host` as a process, as its users do."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

_PATIENT = """
import sys
from bridle_host import __main__ as service
service._start_grpc()
from bridle_host import app, link
app.ACKNOWLEDGE_GRACE = link.GOODBYE_GRACE = 30.0
sys.exit(service.main())
"""
#: For `host`: it waits for control at its end for as long as a busy machine may take, so that what
#: it says then is heard for certain.
PATIENT = ("-c", _PATIENT)


@dataclass(frozen=True)
class Ended:
    """How a host process ended: its exit code, and the lines on stdout and stderr."""

    code: int
    out: list[str]
    err: list[str]

    @property
    def told(self) -> list[str]:
        """The lines on stderr that are for people: those that are not the log's."""
        return [line for line in self.err if not line.startswith("time=")]


class HostProcess:
    """A host process that runs."""

    def __init__(self, process: Process) -> None:
        self.process = process

    @property
    def pid(self) -> int:
        return self.process.pid

    async def line(self) -> str:
        """The next line on stdout; empty at its end."""
        assert self.process.stdout is not None
        return (await self.process.stdout.readline()).decode().rstrip("\n")

    async def end(self, signal: int | None = None) -> Ended:
        """Waits for the end, after a signal where one is given."""
        if signal is not None:
            self.process.send_signal(signal)
        out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return Ended(self.process.returncode, lines(out), lines(err))


def lines(raw: bytes) -> list[str]:
    return raw.decode().splitlines()


@asynccontextmanager
async def host(
    directory: Path, *arguments: str, program: Sequence[str] = ("-m", "bridle_host")
) -> AsyncIterator[HostProcess]:
    """`bridle-host` with these arguments, started in the directory; killed if it still runs.

    program: how Python is told to run it.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *program,
        *arguments,
        cwd=directory,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env=dict(os.environ),
    )
    try:
        yield HostProcess(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def serve(address: str, *more: str) -> list[str]:
    """The arguments of `serve` that most tests need. The state is in `state`."""
    return ["serve", "--control", address, "--state", "state", *more]


async def ended(directory: Path, *arguments: str) -> Ended:
    """Runs it to its end."""
    async with host(directory, *arguments) as process:
        return await process.end()
