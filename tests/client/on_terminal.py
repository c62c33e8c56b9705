"""The command line on a real terminal of the test's own (a PTY)."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import struct
import termios
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.pair import PATIENCE, Pair, program

#: All that our own program may ask of a terminal: colours, and to clear lines at its bottom.
OWN = re.compile(r"\x1b\[[0-9;]*m|\x1b\[2K|\x1b\[1A|\r")


class Terminal:
    """What a command wrote to its terminal, as it comes, and what is typed."""

    def __init__(self, handle: int, process: Process) -> None:
        self._handle = handle
        self.process = process
        self.raw = bytearray()
        self._came = asyncio.Event()
        self._closed = asyncio.Event()
        asyncio.get_running_loop().add_reader(handle, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._handle, 65536)
        except OSError:  # EIO: nobody has the other side open any more
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._handle)
            self._closed.set()
        self.raw += data
        self._came.set()

    @property
    def text(self) -> str:
        """Everything so far, without what is our own."""
        return OWN.sub("", self.raw.decode(errors="surrogateescape"))

    async def shows(self, text: str) -> None:
        """Waits until the text was written."""
        assert await self.shows_or_ends(text), f"{text!r} never came: {self.text!r}"

    async def shows_or_ends(self, text: str, times: int = 1) -> bool:
        """Waits until the text was written so often; False where the command ends before."""
        try:
            async with asyncio.timeout(PATIENCE):
                while self.text.count(text) < times:
                    if self._closed.is_set():
                        return False
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            raise AssertionError(f"{text!r} never came: {self.text!r}") from None
        return True

    def type(self, text: str) -> None:
        os.write(self._handle, text.encode())

    async def ends(self) -> int:
        """Waits until it has ended and all that it wrote was read; returns its exit code."""
        async with asyncio.timeout(PATIENCE):
            code = await self.process.wait()
            await self._closed.wait()
            return code


@asynccontextmanager
async def on_terminal(pair: Pair, *words: str, columns: int = 100) -> AsyncIterator[Terminal]:
    """`bridle WORD…` on a terminal; it is ended when the block is left."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = await asyncio.create_subprocess_exec(
        # What Ctrl-C reaches is the foreground group of the terminal.
        *("setsid", "--ctty", "--wait", program("bridle"), *words),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=pair.environment(TERM="xterm-256color"),
    )
    os.close(theirs)
    terminal = Terminal(ours, process)
    try:
        yield terminal
    finally:
        asyncio.get_running_loop().remove_reader(ours)
        os.close(ours)  # hangs up, which ends what is still there
        async with asyncio.timeout(PATIENCE):
            await process.wait()
