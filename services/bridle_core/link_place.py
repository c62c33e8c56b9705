"""Who has the place of a host, where several processes come with its identity.

A copy of a host's state directory, or a machine that was cloned, makes twins: two live processes
with one credential. One of them has the place, and the other is turned away; see the comments of
host_link_service.proto. Control keeps one `Door` for each host. Pure: no clock of its own. Times
are seconds of any monotonic clock of the caller.
"""

from __future__ import annotations

from enum import Enum


class Knock(Enum):
    """What becomes of one who comes to a host's door."""

    #: Nobody has the place, or it is his own.
    ENTER = "enter"
    #: Another one has it: enter if that one does not answer.
    PROBE = "probe"
    #: Another one took it a moment ago: the place does not change again so soon.
    DAMPED = "damped"
    #: He has entered since by a newer attempt: this one was long on its way.
    STALE = "stale"


#: Seconds in which the place of a host changes at most once between processes that both live.
TAKEOVER_EVERY = 10.0


class Door:
    """Who of several processes with one identity has the place of a host. One for each host.

    Control asks `knock` for each Hello, and tells of what came of it by `entered` and `left`.
    Without the damping two processes that stand still in turns would take the place from each
    other for ever, and each change costs their sessions a reconciliation.
    """

    def __init__(self) -> None:
        self._holder: tuple[str, int] | None = None
        self._taken_at: float | None = None

    def knock(self, incarnation: str, attempt: int, now: float) -> Knock:
        """What to do with an incarnation that has come. `attempt` 0 is not told."""
        if self._holder is None:
            return Knock.ENTER
        holder, newest = self._holder
        if holder == incarnation:
            return Knock.STALE if 0 < attempt < newest else Knock.ENTER
        if self._taken_at is not None and now < self._taken_at + TAKEOVER_EVERY:
            return Knock.DAMPED
        return Knock.PROBE

    def entered(self, incarnation: str, attempt: int, now: float) -> None:
        """He has the place now."""
        if self._holder is not None and self._holder[0] != incarnation:
            self._taken_at = now
        self._holder = (incarnation, attempt)

    def left(self, incarnation: str, attempt: int) -> None:
        """His stream has ended; nobody has the place, unless a newer one is there."""
        if self._holder == (incarnation, attempt):
            self._holder = None
