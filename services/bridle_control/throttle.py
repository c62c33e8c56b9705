"""Tells the first few of a kind and counts the rest: a flood fills no disk, and no count is lost.

Pure but for the clock that it is given. Called by `audit`, for what is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Kind = tuple[str, ...]

#: How many of one kind are told in one window, and how long a window is, in seconds.
FIRST = 20
WINDOW = 60.0
#: Kinds that are told apart at a time. Who comes under a thousand addresses is one kind.
KINDS_MAX = 512
#: The kind of all beyond those.
OTHERS: Kind = ("others",)


@dataclass(slots=True)
class _Window:
    end: float
    told: int = 0
    untold: int = 0


class Throttle:
    """See the module. Used from one thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds that never go back."""
        self._clock = clock
        self._windows: dict[Kind, _Window] = {}
        self._over: list[tuple[Kind, int]] = []

    def admits(self, kind: Kind) -> bool:
        """Whether this one is told; if not, it is counted."""
        now = self._clock()
        window = self._windows.get(kind)
        if window is None and len(self._windows) >= KINDS_MAX:
            kind = OTHERS
            window = self._windows.get(kind)
        if window is not None and window.end <= now:
            self._end(kind, window)
            window = None
        if window is None:
            window = self._windows[kind] = _Window(now + WINDOW)
        if window.told < FIRST:
            window.told += 1
            return True
        window.untold += 1
        return False

    def counted(self, *, everything: bool = False) -> list[tuple[Kind, int]]:
        """How many were not told, by kind, of the windows that are over (or of all); each once."""
        now = self._clock()
        for kind, window in list(self._windows.items()):
            if everything or window.end <= now:
                self._end(kind, window)
        over, self._over = self._over, []
        return over

    def _end(self, kind: Kind, window: _Window) -> None:
        del self._windows[kind]
        if window.untold:
            self._over.append((kind, window.untold))
