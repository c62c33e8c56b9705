"""How long a unary call may wait for a host: one rule for all verbs."""

from __future__ import annotations

from typing import Protocol

#: The most that a unary call waits for a host, in seconds.
WAIT_MAX = 5.0


class HasDeadline(Protocol):
    """What the rule needs of a call's context."""

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline; None where it set none."""


def wait_budget(context: HasDeadline) -> float:
    """min(5 s, deadline - max(100 ms, 10 %)), never below 0: there is still time to answer."""
    remaining = context.time_remaining()
    if remaining is None:
        return WAIT_MAX
    return max(0.0, min(WAIT_MAX, remaining - max(0.1, remaining * 0.1)))
