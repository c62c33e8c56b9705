"""The calls of one driver: made one after the other, in order, beside the session actor.

A run that an earlier host process began starts with RecoverAgent, which even a kill leaves in its
place: before it the driver has nothing that it could kill.

Beside it, because a call can take its time (an agent that does not read its input) while commands
have to be answered. A kill waits for nothing: it takes the place of all that was to be called, and
the call that is under way is cancelled. Run by the session actor.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

from bridle_core.effects import (
    Call,
    InterruptTurn,
    KillAgent,
    ReadOn,
    RecoverAgent,
    ReplaceAgent,
    RespondApproval,
    SendTurn,
    StartAgent,
    SteerTurn,
    StopAgent,
    VerifyGone,
)
from bridle_host.drivers.base import Driver, ResumeFrom

log = logging.getLogger("bridle.host.calls")

#: Calls that wait, above which the actor takes no more from the driver: an agent that asks without
#: end and does not listen to the answers is not to fill the memory.
MANY = 128


class Calls:
    """See the module. `verify` ends the run's processes; `failed` takes a line for people.

    checkpoint: the state of the driver's last Checkpoint, for a run that is recovered.
    """

    def __init__(
        self,
        driver: Driver,
        resume: ResumeFrom | None,
        *,
        checkpoint: bytes = b"",
        verify: Callable[[], Awaitable[None]],
        failed: Callable[[str], None],
        called: Callable[[], None],
    ) -> None:
        self._driver = driver
        self._resume = resume
        self._checkpoint = checkpoint
        self._verify = verify
        self._failed = failed
        self._called = called
        self._waiting: deque[Call] = deque()
        self._arrived = asyncio.Event()
        self._current: asyncio.Task[None] | None = None
        self._recovering = False

    @property
    def many(self) -> bool:
        """Whether so many wait that no more should be caused."""
        return len(self._waiting) >= MANY

    def put(self, calls: Iterable[Call]) -> None:
        """Make these calls after those before them."""
        for call in calls:
            if isinstance(call, KillAgent | VerifyGone):
                first = [call for call in self._waiting if isinstance(call, RecoverAgent | ReadOn)]
                self._waiting.clear()
                self._waiting.extend(first if isinstance(call, KillAgent) else ())
                spared = self._recovering and isinstance(call, KillAgent)
                if self._current is not None and not spared:
                    self._current.cancel()
            self._waiting.append(call)
        self._arrived.set()

    async def run(self) -> None:
        """Makes them, until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                while not self._waiting:
                    self._arrived.clear()
                    await self._arrived.wait()
                call = self._waiting.popleft()
                self._recovering = isinstance(call, RecoverAgent | ReadOn)
                self._current = group.create_task(self._make(call))
                await asyncio.wait({self._current})
                self._current = None
                self._called()

    async def _make(self, call: Call) -> None:
        try:
            await self._call(call)
        except Exception:
            # A driver is the code of somebody who knows an agent, not us: its fault ends its run.
            log.exception("a driver failed at %s", type(call).__name__)
            self._failed("the driver failed")

    async def _call(self, call: Call) -> None:
        driver = self._driver
        if isinstance(call, StartAgent):
            await driver.start(self._resume)
        elif isinstance(call, RecoverAgent):
            await driver.recover(self._checkpoint, self._resume)
        elif isinstance(call, ReadOn):
            await driver.read_on()
        elif isinstance(call, ReplaceAgent):
            await driver.replace()
        elif isinstance(call, SendTurn):
            await driver.send(call.label, call.content)
        elif isinstance(call, SteerTurn):
            await driver.steer(call.input_id, call.content)
        elif isinstance(call, InterruptTurn):
            background = call.include_background
            await driver.interrupt(grace=call.grace, include_background=background)
        elif isinstance(call, RespondApproval):
            await driver.respond(call.approval_id, call.decision, call.message)
        elif isinstance(call, StopAgent):
            await driver.stop(grace=call.grace)
        elif isinstance(call, KillAgent):
            await driver.kill()
        else:
            await self._verify()
