"""Commands on their way from the inbox to the machine: an input is kept before it is taken.

What an input says has to be in a file before the machine has it, or the next process of the host
would have its name alone. Where the disk has no room it waits in the inbox, unanswered, so that
control gives it again to whoever comes; Stop, Kill and all that does not ask for its turn go
ahead of it. What does (an interrupt, a cancel of an input) stands in the order in which it was
asked: it takes the inputs before it along, kept or not.

Used by the live run alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from bridle_core.commands import Cancel, Deliver, Interrupt
from bridle_core.observations import Content
from bridle_host.inbox import Inbox, Queued
from bridle_host.run_files import RunFiles

log = logging.getLogger("bridle.host.intake")

#: Seconds between two tries on a disk without room.
FULL_DELAY = 0.25

Inputs = Sequence[tuple[str, tuple[Content, ...]]]


class Intake:
    """See the module. Belongs to one event loop."""

    def __init__(self, inbox: Inbox, files: RunFiles) -> None:
        self._inbox = inbox
        self._files = files
        self._retry: asyncio.TimerHandle | None = None
        self._told = False

    async def take(self, now: float) -> list[Queued]:
        """The commands to apply now, in order; `now` is a moment on the loop's clock."""
        queued = self._inbox.commands()
        inputs = {n: one.command for n, one in enumerate(queued) if not _expired(one, now)}
        wanted = {n: one for n, one in inputs.items() if isinstance(one, Deliver)}
        if not wanted:
            return queued
        written = 0
        if self._retry is None:
            contents = [(one.input_id, one.content) for one in wanted.values()]
            written = await asyncio.to_thread(self._write, contents)
        if written == len(wanted):
            self._told = False
            return queued
        self._wait()
        bound = max((n for n, one in enumerate(queued) if _binds(one)), default=-1)
        held = {n for n in list(wanted)[written:] if n > bound}
        self._inbox.put_back([queued[n] for n in sorted(held)])
        return [one for n, one in enumerate(queued) if n not in held]

    def close(self) -> None:
        """Nothing is taken any more."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _write(self, inputs: Inputs) -> int:
        """Writes as many as there is room for, in order; returns how many. On a thread."""
        for count, (input_id, content) in enumerate(inputs):
            try:
                self._files.write_input(input_id, content)
            except OSError:
                if not self._told:
                    log.exception("what an input says can't be written: it waits for room")
                    self._told = True
                return count
        return len(inputs)

    def _wait(self) -> None:
        if self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(FULL_DELAY, self._again)

    def _again(self) -> None:
        self._retry = None
        self._inbox.wake.set()


def _binds(queued: Queued) -> bool:
    """Whether it has to find what was asked before it."""
    return isinstance(queued.command, Interrupt | Cancel)


def _expired(queued: Queued, now: float) -> bool:
    return queued.expires is not None and queued.expires <= now
