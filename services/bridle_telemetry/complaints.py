"""What OpenTelemetry's SDK has to complain of, told now and then instead of every few seconds.

Each export that a collector doesn't take is several lines of the SDK's, for as long as it is away.
Called by `telemetry`, for as long as exporters run.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

_log = logging.getLogger("bridle.telemetry")
_THEIRS = logging.getLogger("opentelemetry")

#: Seconds between two lines of one kind.
EVERY = 300.0
#: The first words tell what it is; an exception's text follows, with addresses of objects.
_CUT = 300


class Complaints(logging.Handler):
    """Takes the place of what the process does with the SDK's lines. `EVERY` holds for each of its
    loggers, of which there is one for each exporter. Any thread may log."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._monotonic = monotonic
        self._lock_told = threading.Lock()
        self._told: dict[str, tuple[float, int]] = {}
        self._propagated = _THEIRS.propagate
        #: Set once exporters are told to give up: what they say of that is no news.
        self.muted = False

    def begin(self) -> None:
        """From now on."""
        _THEIRS.addHandler(self)
        _THEIRS.propagate = False

    def end(self) -> None:
        """Everything as it was."""
        _THEIRS.propagate = self._propagated
        _THEIRS.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Tells it, or counts it."""
        if self.muted:
            return
        now = self._monotonic()
        with self._lock_told:
            told_at, kept_back = self._told.get(record.name, (float("-inf"), 0))
            if now < told_at + EVERY:
                self._told[record.name] = (told_at, kept_back + 1)
                return
            self._told[record.name] = (now, 0)
        more = f" ({kept_back} such lines since the last)" if kept_back else ""
        _log.warning("%s%s", record.getMessage()[:_CUT], more)
