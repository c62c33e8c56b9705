"""What `bridle_host.process` and `bridle_host.sweep` say: values and errors, nothing that acts."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """What to run.

    argv: program (looked up in the environment's PATH) and arguments. directory: absolute.
    environment: the agent's whole environment; the session's mark is added to it.
    state_directory: the session's own, made with mode 0700 if it is missing; any length of path.
    control_pipes: how many extra pipes the agent may write to, as its descriptors 3, 4, … (≤ 16).
    on_host_lost: what the shim does when the host service is gone. "kill" ends all, "keep" goes on
    until the next host process adopts it. With "kill" there is nobody who could ask for output a
    second time, so what was read counts as acknowledged.
    holds: files, absolute; each is locked for as long as the shim lives, see `ShimProcess.hold`.
    within: the directory, without links, that `directory` must turn out to lie in once the agent's
    process is in it; "" for anywhere.
    """

    argv: tuple[str, ...]
    directory: str
    environment: Mapping[str, str] = field(repr=False)
    session_id: str
    run: int
    state_directory: Path
    control_pipes: int = 0
    on_host_lost: Literal["keep", "kill"] = "kill"
    within: str = ""
    holds: tuple[Path, ...] = ()


class Stream(enum.IntEnum):
    STDOUT = 1
    STDERR = 2
    CONTROL = 3


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes as they were read, cut anywhere: not a line, perhaps half a character.

    time: epoch seconds when the shim read them. pipe: the agent's descriptor (1, 2, 3, 4, …).
    offset: where the first byte stands in all that the processes of this state directory have said,
    all streams together. It begins at no particular number; a later process's offsets are above
    all of an earlier one's, so that an offset of one process is never taken for another's.
    """

    stream: Stream
    data: bytes
    time: float
    pipe: int
    offset: int = 0

    @property
    def end(self) -> int:
        """The offset behind its last byte: what to acknowledge once all of it is durable."""
        return self.offset + len(self.data)


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """One of the two is set; neither when the shim was lost, and with it the knowledge."""

    code: int | None
    signal: int | None


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """pid and parent as the host sees them (0: not visible or gone); start_time in epoch seconds.

    command: the command line, cut at 300 characters, or the name in brackets.
    """

    pid: int
    parent: int
    start_time: float
    command: str


@dataclass(frozen=True, slots=True)
class Mark:
    """The processes that were alive at one moment. Opaque; outlives the connection to the shim."""

    processes: tuple[tuple[int, int], ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Interrupted:
    """signalled: got the signal. killed: had to be killed after the grace. duration in seconds.

    Lists are cut at 256. remaining is 0 unless something cannot be killed, or the root process
    spawns faster than its children die: then the root must be interrupted or stopped.
    """

    signalled: tuple[ProcessInfo, ...]
    killed: tuple[ProcessInfo, ...]
    remaining: int
    duration: float


@dataclass(frozen=True, slots=True)
class Ladder:
    """Seconds to wait after SIGINT, then after SIGTERM, before SIGKILL. 0 leaves the rung out."""

    interrupt_grace: float
    terminate_grace: float


@dataclass(frozen=True, slots=True)
class Rung:
    """count: how many were alive when the signal was sent; found: the first 256 of them. What forks
    and leaves, quicker than it can be looked at, may be killed without being found: it counts 1.
    """

    signal: int
    count: int
    found: tuple[ProcessInfo, ...]
    duration: float


@dataclass(frozen=True, slots=True)
class Proof:
    """What a stop found and left. remaining must be 0; left names what is not. Seconds."""

    rungs: tuple[Rung, ...]
    remaining: int
    duration: float
    left: tuple[ProcessInfo, ...] = ()


class ProcessError(Exception):
    """Base of what `bridle_host.process` raises. The text is for the host's log."""


class SpawnError(ProcessError):
    """The agent was not started, and nothing of it is left."""


class DirectoryMissingError(SpawnError):
    """The directory isn't there, or can't be entered."""


class NotExecutableError(SpawnError):
    """argv names no program, or none that can be executed."""


class ShimFailedError(SpawnError):
    """The shim did not start, or did not do its part."""


class HeldError(SpawnError):
    """Another process holds one of the locks that were asked for."""


class SessionBusyError(SpawnError):
    """A shim in this state directory is alive: there would be two agents for one session."""


class InputClosedError(ProcessError):
    """The agent has closed its stdin, has exited, or close_stdin was called."""


class ShimLostError(ProcessError):
    """The shim died; what it held was swept. Nothing can be asked of it any more."""
