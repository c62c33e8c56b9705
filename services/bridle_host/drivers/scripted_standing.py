"""Where a driver of scripted agents stands: its checkpoint's state, and its notebook's pages.

Pure values. Used by the driver `scripted` only. A successor of another version reads them: what is
added has a default.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bridle_core import values
from bridle_host.drivers.output import LOG_BYTES, LOG_NOTES, Overlong


class Stage(StrEnum):
    """How far the process is of which the driver tells."""

    #: Nothing was told of it.
    STARTING = "STARTING"
    UP = "UP"
    #: It is told to be gone, and another is to take its place.
    BETWEEN = "BETWEEN"


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of a checkpoint: a few KiB."""

    stage: Stage = Stage.STARTING
    #: Which process of the run it is, from 1 on, and its pid; 0 for none yet.
    serial: int = 0
    pid: int = 0
    #: See `Places`.
    end: int = 0
    behind: tuple[tuple[int, int], ...] = ()
    #: The open turn's name, "" for none; whether the agent has ended it.
    turn: str = ""
    ended: bool = False
    #: How many turns the agent began by itself.
    own: int = 0
    #: A line that is too long and goes on.
    overlong: Overlong | None = None
    log: tuple[int, int, int] = (LOG_BYTES, LOG_NOTES, 0)
    unreadable: int = 0
    refused: str = ""
    bye: bool = False
    #: Whether something was told to be kept, and its digest.
    kept: str = ""

    def dump(self) -> bytes:
        return values.dump(self).encode()

    @classmethod
    def load(cls, state: bytes) -> Standing:
        """b"" is that of a driver that told nothing yet. Raises ValueError."""
        return values.load(cls, state) if state else cls()


@dataclass(frozen=True, slots=True)
class Birth:
    """A page: the process that is about to be spawned. The last one that is written counts."""

    serial: int
    conversation: str
    #: The agent is asked to take the conversation up again; whether it has to.
    native: bool = False
    forced: bool = False
    replacement: bool = False


@dataclass(frozen=True, slots=True)
class Marked:
    """A page: what was alive before a turn. Written before the agent hears of the turn."""

    turn: str
    processes: tuple[tuple[int, int], ...]


BIRTH, MARKED, KEPT = "birth", "mark", "kept"
