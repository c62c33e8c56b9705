"""Random pauses wherever a busy machine may make a process or a thread stand still.

For finding tests, and code, that depend on chance. `make test-jitter` puts this directory on
PYTHONPATH, and Python imports it as it starts: in the tests' own process and in every service that
they start; not in shims, which are isolated. JITTER is how often (1 is usual). Nothing else may
import this. It changes private places of the standard library, and nothing of ours.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from asyncio.base_events import BaseEventLoop
from collections.abc import Callable
from concurrent.futures import thread as pool
from contextvars import Context
from functools import wraps
from typing import Any

RATE = float(os.environ.get("JITTER") or 0)
#: Seconds. Most pauses are much shorter.
LONGEST = 0.12
# Of its own: what seeds the usual one must not make all processes pause alike.
_chance = random.Random()


def pause(probability: float, longest: float = LONGEST) -> None:
    """Stand still now and then: `probability` at the usual rate, seldom for all of `longest`."""
    if _chance.random() < probability * RATE:
        time.sleep(_chance.random() ** 2 * longest)


def late(function: Callable[..., Any], probability: float) -> Callable[..., Any]:
    """The function, which now and then begins later."""

    @wraps(function)
    def begin(*arguments: Any, **named: Any) -> Any:
        pause(probability)
        return function(*arguments, **named)

    return begin


_call_soon_threadsafe = BaseEventLoop.call_soon_threadsafe


def _from_thread(
    self: BaseEventLoop, callback: Callable[..., object], *args: Any, context: Context | None = None
) -> asyncio.Handle:
    # What the loop tells itself is paused with the loop.
    if self._thread_id != threading.get_ident():  # type: ignore[attr-defined]
        pause(0.03)
    return _call_soon_threadsafe(self, callback, *args, context=context)


if RATE:
    # Rare, for there are thousands of rounds in a second.
    BaseEventLoop._run_once = late(BaseEventLoop._run_once, 0.004)  # type: ignore[attr-defined]
    BaseEventLoop.call_soon_threadsafe = _from_thread  # type: ignore[assignment, method-assign]
    pool._WorkItem.run = late(pool._WorkItem.run, 0.03)  # type: ignore[method-assign]
    threading.Thread.run = late(threading.Thread.run, 0.1)  # type: ignore[method-assign]
    pause(0.3, 0.3)  # a process that is slow to start
