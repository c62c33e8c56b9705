"""Where a shell driver stands, in values: its checkpoint's state, and its notebook's pages.

Pure. Used by the shell driver only. A successor of another version reads them: what is added has a
default.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bridle_core import values
from bridle_core.observations import ResumeMode
from bridle_host.drivers.output import LOG_BYTES, LOG_NOTES


class Stage(StrEnum):
    """How far the bash is of which the driver tells."""

    #: It has its first lines; nothing was told of it.
    STARTING = "STARTING"
    #: It has answered them, and takes over what was kept.
    SEEDING = "SEEDING"
    UP = "UP"
    #: It is told to be gone, and another is to take its place.
    BETWEEN = "BETWEEN"


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of a checkpoint: at most a few KiB."""

    stage: Stage = Stage.STARTING
    #: Which bash of the run it is, from 1 on, and its process; 0 for none yet.
    serial: int = 0
    pid: int = 0
    #: See `Places`.
    end: int = 0
    behind: tuple[tuple[int, int], ...] = ()
    #: The turn that has begun and is not over, and its script's exit status once that is known.
    turn: int = 0
    status: int | None = None
    #: `$?` for the next turn.
    last_status: int = 0
    log: tuple[int, int, int] = (LOG_BYTES, LOG_NOTES, 0)
    #: BETWEEN: what the next one does not have, a line each.
    lost: tuple[str, ...] = ()
    #: A digest of what was told to be kept.
    kept: str = ""
    #: How much of the frame's page is the beginning of a frame.
    frame: int = 0

    def dump(self) -> bytes:
        return values.dump(self).encode()

    @classmethod
    def load(cls, state: bytes) -> Standing:
        """b"" is that of a driver that told nothing yet. Raises ValueError."""
        return values.load(cls, state) if state else cls()


@dataclass(frozen=True, slots=True)
class Birth:
    """A page: the bash that is about to be spawned. The last one that is written counts."""

    serial: int
    nonce: str
    replacement: bool = False
    mode: ResumeMode | None = None
    #: What it does not have of the one before, a line each.
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Marked:
    """A page: what was alive before a turn. Written before the turn's lines are."""

    turn: int
    processes: tuple[tuple[int, int], ...]


BIRTH, MARKED, KEPT, BASELINE, FRAME = "birth", "mark", "kept", "baseline", "frame"
