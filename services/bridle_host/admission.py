"""Whether a run may start on this host: room, the agent, the directory.

Raises the BridleError that the caller of StartSession or Resume gets. Looks at the machine, changes
nothing. Called by the session actors before they write anything.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle_core.errors import BridleError, Reason
from bridle_core.observations import Capability, ResumeMode
from bridle_host.drivers.base import DriverFactory, Installation
from bridle_host.translate import resume_of


class Admission:
    """See the module. `limit` is how many runs may be live at once."""

    def __init__(
        self,
        drivers: Mapping[str, DriverFactory],
        *,
        limit: int,
        host_id: str,
        default_directory: Path,
    ) -> None:
        self._drivers = drivers
        self._limit = limit
        self._host_id = host_id
        self._default_directory = default_directory
        self._installed: dict[str, Installation] = {}

    def room(self, live: int) -> None:
        """Raises HOST_FULL when `live` runs are there beside the one that asks."""
        if live >= self._limit:
            raise BridleError(
                Reason.HOST_FULL,
                f"the host has {live} live sessions, and that is its limit",
                metadata={"host": self._host_id, "limit": str(self._limit)},
            )

    def factory(self, agent: str) -> DriverFactory | None:
        """The driver of an agent; None where this host knows none."""
        return self._drivers.get(agent)

    async def agent(self, start: host_pb.StartRun) -> tuple[DriverFactory, Installation]:
        """The agent's driver. Raises AGENT_NOT_INSTALLED, START_FAILED."""
        factory = self._drivers.get(start.agent)
        if factory is None:
            raise BridleError(
                Reason.AGENT_NOT_INSTALLED,
                f'this host knows no agent "{start.agent}"; it knows '
                + ", ".join(sorted(self._drivers)),
                metadata={"agent": start.agent},
            )
        installation = await self._probe(factory)
        if not installation.installed and not await asyncio.to_thread(_names_program, start):
            hint = installation.hint or "it is not on this host"
            raise BridleError(
                Reason.AGENT_NOT_INSTALLED,
                f"{start.agent} can't be run: {hint}",
                metadata={"agent": start.agent, "hint": hint},
            )
        _check_native(start, factory)
        return factory, installation

    async def directory(self, start: host_pb.StartRun) -> Path:
        """The working directory, absolute. Raises DIRECTORY_MISSING, NOT_ALLOWED."""
        path = Path(start.directory) if start.directory else self._default_directory
        if not path.is_absolute() or not await asyncio.to_thread(_enterable, path):
            raise BridleError(
                Reason.DIRECTORY_MISSING,
                f"{path} is no directory on this host that can be entered"
                if path.is_absolute()
                else f"{path} is not absolute",
                metadata={"directory": str(path)},
            )
        if start.within and not await asyncio.to_thread(_lies_in, path, Path(start.within)):
            raise BridleError(
                Reason.NOT_ALLOWED,
                "a child's directory lies in its parent's",
                metadata={"right": "session.start"},
            )
        return path

    async def _probe(self, factory: DriverFactory) -> Installation:
        """What is installed stays so for us; what isn't may have been mended since."""
        known = self._installed.get(factory.name)
        if known is None or not known.installed:
            known = await asyncio.to_thread(factory.probe)
            self._installed[factory.name] = known
        return known


def _check_native(start: host_pb.StartRun, factory: DriverFactory) -> None:
    """Raises START_FAILED for a native resume that can't be: an agent keeps its conversations
    where it ran."""
    if resume_of(start) is not ResumeMode.NATIVE:
        return
    if Capability.NATIVE_RESUME not in factory.capabilities:
        why = f"{start.agent} has no native resume; use AUTO"
    elif not start.resume.same_host:
        why = f"{start.agent} keeps its conversation on the session's other host; use SEEDED"
    else:
        return
    raise BridleError(Reason.START_FAILED, why, metadata={"agent": start.agent})


def _names_program(start: host_pb.StartRun) -> bool:
    """Whether the agent's command names a program that is there, wherever `probe` has looked."""
    try:
        words = shlex.split(start.agent_command)
    except ValueError:
        return False  # the driver says what is wrong with it
    path = start.environment.get("PATH") or os.environ.get("PATH")
    return bool(words) and shutil.which(words[0], path=path) is not None


def _lies_in(path: Path, bound: Path) -> bool:
    """Whether a directory is `bound` or beneath it, wherever links lead."""
    try:
        return path.resolve(strict=True).is_relative_to(bound.resolve(strict=True))
    except (OSError, RuntimeError):
        return False


def _enterable(path: Path) -> bool:
    try:
        return path.is_dir() and os.access(path, os.R_OK | os.X_OK)
    except (OSError, ValueError):
        return False
