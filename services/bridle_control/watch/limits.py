"""How many watches one principal may hold at a time. Shared by Watch and WatchSessions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from bridle_core.errors import BridleError, Reason

#: Watches per principal, unless the settings say otherwise.
MAX_WATCHES = 256


class WatchLimit:
    """Counts watches by principal. Used from the event loop alone."""

    def __init__(self, limit: int = MAX_WATCHES) -> None:
        self._limit = limit
        self._held: Counter[str] = Counter()

    @contextmanager
    def admit(self, principal_key: str) -> Iterator[None]:
        """Holds one watch. Raises TOO_MANY_WATCHES."""
        if self._held[principal_key] >= self._limit:
            raise BridleError(
                Reason.TOO_MANY_WATCHES,
                f"you hold {self._limit} watches; end some",
                metadata={"limit": str(self._limit)},
            )
        self._held[principal_key] += 1
        try:
            yield
        finally:
            self._held[principal_key] -= 1
            if not self._held[principal_key]:
                del self._held[principal_key]
