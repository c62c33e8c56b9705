"""When a call is made again, and after how long.

Pure: no clock of its own, no sleeping; chance comes from outside. Called by the transport for
unary calls and by the watcher for streams.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from bridle.errors import BridleError, Code

#: Failures without a reason after which the same request may be sent again. A request that changes
#: something carries a request id, so that a repeat has no second effect; the rest only read.
BROKEN = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED})

#: The server did nothing and says that a later try may succeed. Not HOST_UNREACHABLE: there the
#: interrupt was withdrawn, and the same request id would only be told the same again.
LATER = frozenset({"SHUTTING_DOWN", "RATE_LIMITED", "NO_HOST"})


def may_retry(error: BridleError) -> bool:
    """Whether the same request, with the same request id, is safe and worth sending again."""
    if error.reason:
        return error.reason in LATER
    return error.code in BROKEN


def _chance() -> float:
    """From 0 to 1. The module `random` takes longer to import than most calls take."""
    return int.from_bytes(os.urandom(4), "big") / 2**32


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that grow from `first` to `most` seconds, each between half and the whole of it.

    The jitter keeps the clients of a service that restarts from coming back all at once.
    """

    first: float = 0.1
    most: float = 5.0
    chance: Callable[[], float] = _chance

    def delay(self, attempt: int, error: BridleError | None = None) -> float:
        """Seconds to wait after failure number `attempt` (from 1); at least what it asks for."""
        whole = min(self.most, self.first * 2.0 ** min(attempt - 1, 16))
        wished = 0.0 if error is None else error.retry_after or 0.0
        # Jitter on top of the server's wish too: it tells every client the same.
        return max(whole * (0.5 + self.chance() / 2), wished * (1 + self.chance() / 10))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long a unary call is tried.

    attempts: tries in all; but a control that has answered on this connection, and is lost, is
    waited for as long as the call may take. attempt_timeout: the longest that one try may take,
    seconds; a verb answers within 5 s, so that a longer silence is a lost connection.
    """

    attempts: int = 5
    attempt_timeout: float = 10.0
    backoff: Backoff = Backoff()

    def next_delay(
        self, error: BridleError, attempt: int, left: float, *, known: bool = False
    ) -> float | None:
        """Seconds to wait before the next try; None where there is none.

        attempt: how many tries there were. left: seconds until the call's own deadline. known:
        control has answered before, so that a lost connection is no wrong address.
        """
        if not may_retry(error):
            return None
        if attempt >= self.attempts and (error.reason or not known):
            return None
        delay = self.backoff.delay(attempt, error)
        return delay if delay < left else None
