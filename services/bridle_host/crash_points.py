"""Named points at which this process can be made to die, for tests of what survives.

`BRIDLE_CRASH_AT=journal.before-commit` kills the process by SIGKILL the first time that it comes to
that point, `BRIDLE_CRASH_AT=journal.before-commit:3` the third time. Without the variable `reached`
is an empty function. Control has the same, with other names (the two may not import each other).
Called wherever something durable is about to happen or has just happened.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

VARIABLE = "BRIDLE_CRASH_AT"

#: All points, in the order in which an entry of the journal passes them.
POINTS = (
    "journal.before-commit",  # numbered, not written yet
    "journal.after-commit",  # on the disk, nobody told
    "link.before-send",
    "link.after-send",  # sent, not acknowledged
    "link.after-ack",  # acknowledged, and still in the journal
    "journal.before-trim",
    "journal.after-trim",
    "journal.before-checkpoint",
    "journal.after-checkpoint",
)


def _armed(point: str, times: int) -> Callable[[str], None]:
    left = times

    def reached(name: str) -> None:
        nonlocal left
        if name == point:
            left -= 1
            if left <= 0:
                # Not exit, nor abort: nothing may be flushed, closed or rolled back on the way.
                os.kill(os.getpid(), signal.SIGKILL)

    return reached


def _nothing(name: str) -> None:
    """Crash points are off."""


def _configure(setting: str) -> Callable[[str], None]:
    point, _, times = setting.partition(":")
    return _armed(point, int(times or "1")) if point else _nothing


#: Tells that the process is at the point `name`; dies there if the variable says so.
reached: Callable[[str], None] = _configure(os.environ.get(VARIABLE, ""))
