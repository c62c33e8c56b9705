"""Where a driver of lines stands: its checkpoint's state, and its notebook's pages.

Pure values. Used by `LineDriver` only. A successor of another version reads them: what is added has
a default.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
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
    """The state of a checkpoint: a few KiB, and the dialect's own of at most 32."""

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
    #: See `Course.begun`.
    begun: int = 0
    #: A line that is too long and goes on.
    overlong: Overlong | None = None
    log: tuple[int, int, int] = (LOG_BYTES, LOG_NOTES, 0)
    unreadable: int = 0
    refused: str = ""
    bye: bool = False
    #: Whether something was told to be kept, and its digest.
    kept: str = ""
    #: The turn that what was said so far is given with: "" for none, or FIRST, or its name.
    seeded: str = ""
    dialect: bytes = field(default=b"", repr=False)

    def dump(self) -> bytes:
        return values.dump(self).encode()

    @classmethod
    def load(cls, state: bytes) -> Standing:
        """b"" is that of a driver that told nothing yet. Raises ValueError."""
        return values.load(cls, state) if state else cls()


#: The first turn that the process is given, whichever that is.
FIRST = "first"


@dataclass(frozen=True, slots=True)
class Birth:
    """A page: the process that is about to be spawned. The last one that is written counts.

    native: the agent is asked to take the conversation up again; forced: it has to.
    """

    serial: int
    native: bool = False
    forced: bool = False
    replacement: bool = False


@dataclass(frozen=True, slots=True)
class Provision:
    """A page: what the process of this serial is given beside its birth.

    kept: for `Beginning`. transcript: comes before its first input if it knows nothing; left_out:
    what that does not tell. declined: why it does not take the conversation up, where it was to.
    """

    serial: int
    kept: bytes = field(default=b"", repr=False)
    transcript: str = field(default="", repr=False)
    left_out: tuple[str, ...] = ()
    declined: str = ""


@dataclass(frozen=True, slots=True)
class Marked:
    """A page: what was alive before a turn. Written before the agent hears of the turn."""

    turn: str
    processes: tuple[tuple[int, int], ...]


BIRTH, PROVISION, KEPT = "birth", "provision", "kept"


def page_of(turn: str) -> str:
    """A turn of the agent's own may come between one that is asked for and its begin."""
    return "mark" if turn.startswith("turn-") else "mark-own"


def digest(state: bytes) -> str:
    """Tells one kept state from another; "" for none."""
    return hashlib.sha256(state).hexdigest()[:16] if state else ""
