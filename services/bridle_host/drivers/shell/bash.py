"""One bash under its shim: brought up, given turns, interrupted, ended.

Knows lines, frames and signals; nothing of observations. Used by the shell driver only.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import signal as signals
from contextlib import suppress
from pathlib import Path
from typing import Self

from bridle_host.drivers.base import DriverContext
from bridle_host.drivers.notebook import Notebook
from bridle_host.drivers.shell.control import Began, Files, Frames, Report
from bridle_host.drivers.shell.standing import FRAME
from bridle_host.process import (
    KILL_NOW,
    Chunk,
    InputClosedError,
    Ladder,
    Proof,
    ShimProcess,
)

#: What bash has a trap for: it throws bash out of the line that it runs.
BREAK = signals.SIGRTMAX - 1

#: Tokens, and the keys of the orders that they name.
BEGIN, SEED, EXIT = "begin", "seed", "exit"

#: Bytes of an unfinished frame above which it is written down. It holds all exported variables.
SPILL = 256 * 1024

#: Seconds that background jobs have after a SIGTERM when bash has ended by itself.
JOBS_GRACE = 1.0


class Bash:
    """A bash whose start-up is over when `ready` has been answered.

    An order with a key reaches it once, whichever process of the host gave it.
    """

    def __init__(self, context: DriverContext, process: ShimProcess, nonce: str) -> None:
        self.process = process
        self.killed = False
        self.jobs: tuple[str, ...] = ()
        self._frames = Frames(nonce)
        self._files = Files(context.state_directory, nonce)
        self._output = process.output()
        # Answers to what an earlier process of the host asked are not taken for ours.
        self._salt = secrets.token_hex(4)
        self._tokens = 0
        self._notebook = Notebook(context.state_directory)
        self._spilled = 0

    @classmethod
    async def spawn(cls, context: DriverContext, program: str, directory: str, nonce: str) -> Self:
        """Start it. Raises SpawnError and OSError; then nothing is left."""
        process = await context.spawn(
            (program, "--norc", "--noprofile", "--noediting", "-i"),
            directory=directory,
            # So that a directory that was reached by a symbolic link keeps its name.
            environment={"PWD": directory},
            control_pipes=1,
        )
        return cls(context, process, nonce)

    @classmethod
    async def adopt(cls, context: DriverContext, nonce: str, frame: int) -> Self:
        """Take over one that an earlier process of the host has spawned.

        frame: how much it had kept of a frame. Raises ShimLostError, ShimFailedError.
        """
        bash = cls(context, await context.adopt(), nonce)
        if frame:
            bash._frames.feed(bash._notebook.read(FRAME)[:frame])
            bash._spilled = frame
        return bash

    def token(self) -> str:
        """A name for a question, by which its answer is known."""
        self._tokens += 1
        return f"{self._salt}-{self._tokens}"

    async def read(self) -> Chunk | None:
        """What commands print and, from the control pipe, what `frames` are made of; a frame comes
        after all that was printed before it.

        None when it has ended and all was read.
        """
        try:
            return await anext(self._output)
        except StopAsyncIteration:
            return None

    def frames(self, data: bytes) -> list[Began | Report]:
        """The frames that are whole with this piece of the control pipe."""
        found = self._frames.feed(data)
        begun = self._frames.begun
        if found or len(begun) < self._spilled:
            self._spilled = 0
        if len(begun) - self._spilled > SPILL:
            self._spill(begun)
        return found

    def _spill(self, begun: bytearray) -> None:
        """Write down the beginning of a long frame, so that it need not be asked for again: it
        may be longer than all that a shim keeps.
        """
        with suppress(OSError):  # there is no room: then as long as the shim keeps it
            if not self._spilled:
                self._notebook.write(FRAME, b"")
            self._notebook.append(FRAME, bytes(begun[self._spilled :]))
            self._spilled = len(begun)

    @property
    def held(self) -> int:
        """How many bytes of the control pipe wait for the rest of their frame."""
        return len(self._frames.begun) - self._spilled

    @property
    def spilled(self) -> int:
        """How many bytes of the frame's page are the beginning of a frame."""
        return self._spilled

    # Lines.

    async def begin(self) -> None:
        """Give it its first lines; the report of BEGIN says that it is ready. Raises OSError."""
        if not self.process.written(BEGIN):
            self._files.write()
            await self._write(self._files.first_lines(BEGIN), BEGIN)

    async def seed(self, commands: str) -> None:
        """Run these before the first turn; the report of SEED follows. Raises OSError."""
        if not self.process.written(SEED):
            self._files.write_seed(commands)
            await self._write(self._files.seed_lines(SEED), SEED)

    def has(self, token: str) -> bool:
        """Whether it was given the turn of this token."""
        return self.process.written(token)

    async def run(self, token: str, script: str, status: int) -> None:
        """Run a turn; the token's `Began` and report follow. Raises OSError."""
        self._files.write_turn(token, script, status)
        await self._write(self._files.turn_lines(token), token)

    async def ask(self, token: str) -> None:
        """Ask for a report: an answer says that it is back from all lines before."""
        # The first line takes the blow of a trap that is still to come.
        await self._write(b"\n\\builtin :\n" + self._files.report_line(token))

    def forget(self) -> None:
        """Remove the script and the seed: their texts belong in the log and nowhere else."""
        self._files.discard()

    async def _write(self, lines: bytes, key: str = "") -> None:
        try:
            await self.process.write(lines, key)
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
        if not self.process.written(EXIT):
            await self._write(b"\\builtin exit 0\n", EXIT)
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
