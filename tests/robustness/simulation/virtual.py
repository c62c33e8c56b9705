"""An event loop on virtual time, and what else a simulation needs to be the same each time.

    run(7, lambda: scenario(...))

The loop never waits: when nothing is ready it jumps to the next timer. Files, sockets and threads
do not exist in it (what asks for a thread is called at once). So hours pass in milliseconds, and
the same seed gives the same order of everything.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from bridle_control import ids

T = TypeVar("T")


class StuckError(Exception):
    """Nothing will ever happen again, and the simulation is not over."""


class _Jump(selectors.SelectSelector):
    """Never waits; tells the loop how far to jump."""

    def __init__(self) -> None:
        super().__init__()
        self.jumped = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise StuckError
        self.jumped += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        # Not at 0: what is measured from "never" must not be just now.
        return 1000.0 + self._jump.jumped

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it belongs to whoever awaits it
            future.set_exception(error)
        return future


class LoopClock:
    """Control's and the host's clock: the loop's."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def call_at(self, when: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_at(when, callback)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Chance:
    """In place of `secrets` where control makes ids."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(f"ids/{seed}")

    def randbits(self, count: int) -> int:
        return self._random.getrandbits(count)


def run(seed: int, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs a simulation to its end, in a loop of its own."""
    loop = VirtualLoop()
    module: Any = ids
    real, module.secrets = module.secrets, _Chance(seed)
    try:
        return loop.run_until_complete(main())
    finally:
        module.secrets = real
        _cancel_all(loop)
        loop.close()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    # More than once: a task group that fails in the same moment swallows it.
    for _ in range(100):
        left = asyncio.all_tasks(loop)
        if not left:
            return
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.01))
