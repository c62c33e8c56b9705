"""Random pauses wherever a busy machine may make a process or a thread stand still.

For finding tests, and code, that depend on chance. `make test-jitter` puts this directory on
PYTHONPATH, and Python imports it as it starts: in the tests' own process and in every service that
they start; not in shims, which are isolated. JITTER is how often (1 is usual). Nothing else may
import this. It changes private places of the standard library, and nothing of ours.
"""

from __future__ import annotations

import importlib.util
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from importlib.machinery import ModuleSpec
from types import ModuleType
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


def change_loops(module: ModuleType) -> None:
    """asyncio.base_events: rounds of the loop, and what threads tell it."""
    loop = module.BaseEventLoop
    call_soon_threadsafe = loop.call_soon_threadsafe

    def from_thread(self: Any, *arguments: Any, **named: Any) -> Any:
        # What the loop tells itself is paused with the loop.
        if self._thread_id != threading.get_ident():
            pause(0.03)
        return call_soon_threadsafe(self, *arguments, **named)

    loop.call_soon_threadsafe = from_thread
    # Rare, for there are thousands of rounds in a second.
    loop._run_once = late(loop._run_once, 0.004)


def change_pools(module: ModuleType) -> None:
    """concurrent.futures.thread: what is handed to a thread."""
    module._WorkItem.run = late(module._WorkItem.run, 0.03)


class Changes:
    """Changes modules once they are imported: importing them here would be seen by tests that
    look at what a program imports."""

    def __init__(self, wanted: Mapping[str, Callable[[ModuleType], None]]) -> None:
        """Modules by name, each once."""
        self._wanted = dict(wanted)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        change = self._wanted.pop(name, None)
        spec = importlib.util.find_spec(name) if change is not None else None
        if change is None or spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def run_and_change(module: ModuleType) -> None:
            run(module)
            change(module)

        spec.loader.exec_module = run_and_change  # type: ignore[method-assign]
        return spec


if RATE:
    wanted = {"asyncio.base_events": change_loops, "concurrent.futures.thread": change_pools}
    sys.meta_path.insert(0, Changes(wanted))
    threading.Thread.run = late(threading.Thread.run, 0.1)  # type: ignore[method-assign]
    pause(0.3, 0.3)  # a process that is slow to start
