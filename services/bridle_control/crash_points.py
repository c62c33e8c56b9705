"""Named points at which this process can be made to die, for tests of what survives.

`BRIDLE_CRASH_AT=store.before-commit` kills the process by SIGKILL the first time that it comes to
that point, `BRIDLE_CRASH_AT=store.before-commit:3` the third time. Without the variable `reached`
is an empty function. Called wherever something durable is about to happen or has just happened.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

VARIABLE = "BRIDLE_CRASH_AT"

#: All points, in the order in which an event of a host passes them; the last are retention's.
POINTS = (
    "links.before-commit",  # read from the host's stream
    "store.before-insert",  # in a transaction, nothing of it written yet
    "store.before-commit",  # written into the transaction
    "store.after-commit",  # on the disk, nobody told
    "store.before-fan-out",  # about to tell watchers and waiting calls
    "links.after-commit",  # watchers were told, the host was not
    "links.after-ack",  # the host was told
    "store.before-checkpoint",
    "store.in-checkpoint",  # moved into the file, and still in the log
    "store.after-checkpoint",
    "store.before-floor",  # about to raise the floor of a log
    "store.before-purge",  # about to let go of dead events
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
