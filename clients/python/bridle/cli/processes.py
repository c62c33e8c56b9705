"""The two services as child processes: found, started, waited for, ended.

Called by `bridle up` and by the commands that run one service.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from bridle.errors import BridleError, Code

#: A log that is larger when its service starts is put aside first, bytes.
LOG_CAP = 8 * 1024 * 1024
#: Seconds that a service gets to come up, and to end.
READY_TIMEOUT = 30.0
END_TIMEOUT = 30.0

_LEASH = Path(__file__).with_name("leash.py")


class ServiceError(BridleError):
    """A service did not start, or ended by itself. The text is one line."""

    default_code = Code.UNKNOWN
    local = True


def entry_point(name: str) -> str:
    """The path of a program of this distribution, such as "bridle-control"."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise ServiceError(f"{name} is not installed")
    return found


def environment() -> dict[str, str]:
    """What a service sees: nothing of whoever starts it but what is the user's own."""
    ours = ("BRIDLE_", "GRPC_VERBOSITY", "GRPC_ENABLE_FORK_SUPPORT")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


class Service:
    """One service as a child process. name: "control" or "host"; log: where its stderr goes."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path) -> None:
        self.name = name
        self._arguments = list(arguments)
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def process(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> str:
        """Starts it and returns its line that begins with `ready`. ServiceError: it ended before,
        or took too long.
        """
        self._log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._log.exists() and self._log.stat().st_size > LOG_CAP:
            self._log.replace(self._log.with_suffix(".log.1"))
        program = entry_point(f"bridle-{self.name}")
        leash = [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid())]
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *leash,
                program,
                *self._arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=environment(),
                # Ctrl-C reaches the whole foreground group; who ends when is decided here.
                start_new_session=True,
            )
        finally:
            os.close(log)
        return await self._ready()

    async def _ready(self) -> str:
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(READY_TIMEOUT):
                while line := (await self.process.stdout.readline()).decode(errors="replace"):
                    if line.startswith("ready "):
                        return line.strip()
        except TimeoutError:
            raise ServiceError(f"{self.name} is not ready after {READY_TIMEOUT:g} s") from None
        await self.process.wait()
        raise ServiceError(self.why())

    async def wait(self) -> None:
        """Until it ends."""
        await self.process.wait()

    def why(self) -> str:
        """Why it ended, with the last that it said."""
        code = self.process.returncode or 0
        if code < 0:
            return f"{self.name} was ended by signal {-code}; see {self._log}"
        return f"{self.name} ended with exit code {code}: {self.last_words()}"

    def last_words(self) -> str:
        """The last line that it wrote to its log."""
        try:
            with self._log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
                lines = log.read().decode(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1] if lines else f"see {self._log}"

    def tell(self) -> None:
        """Asks it to end, where it runs."""
        if self.running:
            self.process.terminate()

    async def end(self) -> None:
        """Ends it and waits for that: asked to, and killed if that takes too long."""
        if not self.running:
            return
        self.tell()
        try:
            async with asyncio.timeout(END_TIMEOUT):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
