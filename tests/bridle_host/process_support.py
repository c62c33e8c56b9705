"""Real agents for the tests of the shim, and eyes of our own to see what is left of them."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from bridle_host.containment import (
    NAMES,
    Containment,
    ContainmentUnavailableError,
    detect,
)
from bridle_host.process import ProcessSpec, ShimProcess


def _available() -> list[Containment]:
    found = []
    for name in NAMES:
        try:
            found.append(detect(name))
        except ContainmentUnavailableError:
            continue
    return found


#: Every level that works for this user on this machine; SUBREAPER is always there.
LEVELS = _available()


def names(containment: Containment) -> str:
    return containment.name


def python(source: str, *arguments: str) -> tuple[str, ...]:
    """An agent in Python."""
    return (sys.executable, "-I", "-S", "-c", source, *arguments)


class Bench:
    """Starts agents that all carry one tag in their environment, by which we find them again."""

    def __init__(self, directory: Path, containment: Containment) -> None:
        self.directory, self.containment = directory, containment
        self.tag = uuid.uuid4().hex
        self.started: list[ShimProcess] = []
        self.left_alone: list[int] = []

    def spec(self, argv: tuple[str, ...], **changes: Any) -> ProcessSpec:
        given: dict[str, Any] = {
            "argv": argv,
            "directory": str(self.directory),
            "environment": self.environment(),
            "session_id": f"{self.tag[:8]}-{len(self.started)}",
            "run": 1,
            "state_directory": self.directory / f"state-{len(self.started)}",
        }
        return ProcessSpec(**{**given, **changes})

    def environment(self) -> dict[str, str]:
        # What the leak check of the tests puts into the environment goes on to the agent.
        return {**os.environ, "TEST_TAG": self.tag}

    async def spawn(self, argv: tuple[str, ...], **changes: Any) -> ShimProcess:
        process = await ShimProcess.spawn(self.spec(argv, **changes), self.containment)
        self.started.append(process)
        return process

    async def close(self) -> None:
        for process in self.started:
            await process.close()
        for pid in self.left_alone:
            # A host that lets go of a shim ends, and init reaps; we go on.
            with suppress(ChildProcessError):
                await until(lambda pid=pid: os.waitpid(pid, os.WNOHANG)[0])  # type: ignore[misc]

    def living(self) -> list[int]:
        """Pids of what is alive and carries our tag, read from /proc by no code under test."""
        entry = f"TEST_TAG={self.tag}".encode()
        found = []
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                environment = Path(f"/proc/{name}/environ").read_bytes()
            except OSError:
                continue
            if entry in environment.split(b"\0") and alive(int(name)):
                found.append(int(name))
        return found


@asynccontextmanager
async def bench(directory: Path, containment: Containment) -> AsyncIterator[Bench]:
    made = Bench(directory, containment)
    try:
        yield made
    finally:
        await made.close()
    assert made.living() == []


def alive(pid: int) -> bool:
    """Neither gone nor a corpse."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]


def command_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def environment_of(pid: int) -> dict[str, str]:
    entries = os.fsdecode(Path(f"/proc/{pid}/environ").read_bytes()).split("\0")
    return dict(entry.split("=", 1) for entry in entries if entry)


def memory_of(pid: int) -> float:
    """Resident megabytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"no memory for {pid}")


async def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.01)


async def read_until(process: ShimProcess, needle: bytes, pipe: int = 1) -> bytes:
    """What one pipe has said, up to and with the needle."""
    said = b""
    async with asyncio.timeout(20):
        async for chunk in process.output():
            if chunk.pipe == pipe:
                said += chunk.data
            if needle in said:
                return said
    raise AssertionError(f"ended without {needle!r}, after {said[-200:]!r}")


async def read_all(process: ShimProcess) -> dict[int, bytes]:
    """What each pipe has said, to the end."""
    said: dict[int, list[bytes]] = {}
    async for chunk in process.output():
        said.setdefault(chunk.pipe, []).append(chunk.data)
    return {pipe: b"".join(parts) for pipe, parts in said.items()}
