"""One bash under its shim: brought up, given turns, interrupted, ended.

Knows lines, frames and signals; nothing of observations. Used by the shell driver only.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import signal as signals
from collections import deque
from pathlib import Path
from typing import Self

from bridle_host.drivers.base import DriverContext
from bridle_host.drivers.shell_control import Began, Files, Frames, Report
from bridle_host.process import (
    KILL_NOW,
    Chunk,
    InputClosedError,
    Ladder,
    Proof,
    ShimProcess,
    Stream,
)

#: What bash has a trap for: it throws bash out of the line that it runs.
BREAK = signals.SIGRTMAX - 1

#: Seconds that background jobs have after a SIGTERM when bash has ended by itself.
JOBS_GRACE = 1.0


class Bash:
    """A bash whose start-up is over when `ready` has been answered."""

    def __init__(self, process: ShimProcess, files: Files, frames: Frames) -> None:
        self.process = process
        self.killed = False
        self.jobs: tuple[str, ...] = ()
        self._frames = frames
        self._waiting: deque[Began | Report] = deque()
        self._output = process.output()
        self._files = files
        self._tokens = 0

    @classmethod
    async def spawn(cls, context: DriverContext, program: str, directory: str) -> Self:
        """Start it. Raises SpawnError and OSError; then nothing is left."""
        nonce = secrets.token_hex(16)
        process = await context.spawn(
            (program, "--norc", "--noprofile", "--noediting", "-i"),
            directory=directory,
            # So that a directory that was reached by a symbolic link keeps its name.
            environment={"PWD": directory},
            control_pipes=1,
        )
        try:
            context.state_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            files = Files(context.state_directory, nonce)
            files.write()
        except BaseException:
            await process.close()
            raise
        return cls(process, files, Frames(nonce))

    def token(self) -> str:
        """A name for a line, by which its answer is known."""
        self._tokens += 1
        return str(self._tokens)

    async def read(self) -> Chunk | Began | Report | None:
        """What commands print, and frames, each frame after all that was printed before it.

        None when it has ended and all was read.
        """
        while not self._waiting:
            try:
                chunk = await anext(self._output)
            except StopAsyncIteration:
                return None
            if chunk.stream is not Stream.CONTROL:
                return chunk
            self._waiting.extend(self._frames.feed(chunk.data))
        return self._waiting.popleft()

    # Lines.

    async def begin(self) -> str:
        """Give it its first lines; the token's report says that it is ready."""
        token = self.token()
        await self._write(self._files.first_lines(token))
        return token

    async def seed(self, commands: str) -> str:
        """Run these before the first turn; the token's report follows. Raises OSError."""
        token = self.token()
        self._files.write_seed(commands)
        await self._write(self._files.seed_lines(token))
        return token

    async def run(self, token: str, script: str, status: int) -> None:
        """Run a turn; the token's `Began` and report follow. Raises OSError."""
        self._files.write_turn(token, script, status)
        await self._write(self._files.turn_lines(token))

    async def ask(self, token: str) -> None:
        """Ask for a report: an answer says that it is back from all lines before."""
        # The first line takes the blow of a trap that is still to come.
        await self._write(b"\n\\builtin :\n" + self._files.report_line(token))

    def forget(self) -> None:
        """Remove the script and the seed: their texts belong in the log and nowhere else."""
        self._files.discard()

    async def _write(self, lines: bytes) -> None:
        try:
            await self.process.write(lines)
        except InputClosedError:
            return  # it is dying: its exit says all

    # Ends.

    async def throw(self) -> None:
        """Throw it out of its script. Raises ProcessError.

        To be done before the commands are signalled: as soon as the one that it waits for is gone,
        whatever way, bash then leaves the script instead of running the next one.
        """
        if _catches(self.process.pid, BREAK):
            await self.process.signal(BREAK)
        else:
            # The script took the trap away, or `exec` put another program into bash's place.
            await self.poke()

    async def poke(self) -> None:
        """For a builtin that waits where traps are not looked at. Raises ProcessError."""
        await self.process.signal(signals.SIGINT)
        await self.process.signal(signals.SIGCONT)

    async def exit(self, grace: float) -> None:
        """Let it end by itself, else kill it."""
        await self._write(b"\\builtin exit 0\n")
        await self.process.close_stdin()
        try:
            async with asyncio.timeout(grace):
                await self.process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> Proof:
        """Kill it and all that it started. Raises ProcessError."""
        self.killed = self.killed or self.process.exited is None
        return await self.process.stop(KILL_NOW)

    async def clear(self, *, gently: bool) -> Proof:
        """After its exit: end what it left behind."""
        return await self.process.stop(Ladder(0, JOBS_GRACE) if gently else KILL_NOW)

    async def list_jobs(self) -> None:
        """Remember what it runs, before it is killed together with it. Raises ProcessError."""
        found = await self.process.processes()
        self.jobs = tuple(info.command[:80] for info in found[:20] if info.pid != self.process.pid)


def _catches(pid: int, signum: int) -> bool:
    """Whether the process has a handler for the signal."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return False
    found = re.search(r"^SigCgt:\s*([0-9a-fA-F]+)$", status, re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> (signum - 1) & 1)
