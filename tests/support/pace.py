"""How long something may take: figures are of a machine with nothing else to do, which is rare."""

from __future__ import annotations

import os

#: Takes the figures as they stand: on a quiet machine, to measure.
STRICT = "BRIDLE_STRICT_TIMES"

#: What a machine that is shared by others may make of a figure. Whatever is worth a test is worse
#: than this where it is broken: it waits for a timeout, or does not come at all.
SLOWNESS = 6.0


def paced(seconds: float) -> float:
    """The most that something may take which takes so long on a quiet machine, in seconds."""
    return seconds if os.environ.get(STRICT) else seconds * SLOWNESS
