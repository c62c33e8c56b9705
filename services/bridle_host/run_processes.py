"""The processes of one run: every shim that its driver starts, and the proof that nothing is left.

The driver starts them through `spawn` and does with each what it wants. At the run's end `end`
kills what is still there and looks until nothing is, whatever the driver did or failed to do. The
shims outlive the host service: what an earlier process of it left is taken over by `adopt`, and
`detach` leaves what is there to the next. Called by the session actor.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from bridle_host.containment import Containment
from bridle_host.process import (
    ProcessSpec,
    ShimFailedError,
    ShimLostError,
    ShimProcess,
    sweep,
)
from bridle_host.sweep import unseen

log = logging.getLogger("bridle.host.processes")

#: Seconds between looks at what can't be killed (a process in the kernel's hands).
LOOK_AGAIN = 5.0


class RunProcesses:
    """See the module. `environment` is the session's own; `spawn` adds to it.

    `acknowledged` is how far the agent's output is known to be durable from an earlier process.
    `bound`: the run's directory, and the one that it must turn out to lie in.
    """

    def __init__(
        self,
        session_id: str,
        run: int,
        state_directory: Path,
        environment: Mapping[str, str],
        containment: Containment,
        acknowledged: int = 0,
        bound: tuple[str, str] | None = None,
    ) -> None:
        self._bound = bound
        self._acknowledged = acknowledged
        self._session_id = session_id
        self._run = run
        self._state_directory = state_directory
        self._environment = environment
        self._containment = containment
        # One at a time: a shim refuses to start while another is alive in its state directory.
        self._process: ShimProcess | None = None
        self._over = asyncio.Event()
        self._detached = False
        #: After `end`: something may live on that nobody could see, see `sweep.unseen`.
        self.unseen = False

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        directory: str,
        environment: Mapping[str, str],
        control_pipes: int = 0,
        holds: Sequence[Path] = (),
    ) -> ShimProcess:
        """As `bridle_host.drivers.base.Spawn`. Once the run is being ended it raises ShimFailed."""
        if self._over.is_set() or self._detached:
            raise ShimFailedError("the run is over")
        if self._process is not None:
            # It has ended, and that is durable, or nobody would start another.
            await self._process.close()
            self._process = None
        # A shell that went elsewhere by itself is taken up again where it was.
        bound = self._bound
        spec = ProcessSpec(
            within=bound[1] if bound is not None and directory == bound[0] else "",
            argv=tuple(argv),
            directory=directory,
            environment={**self._environment, **environment},
            session_id=self._session_id,
            run=self._run,
            state_directory=self._state_directory,
            control_pipes=control_pipes,
            holds=tuple(holds),
            on_host_lost="keep",
        )
        return await self._take(await ShimProcess.spawn(spec, self._containment))

    async def adopt(self) -> ShimProcess:
        """As `bridle_host.drivers.base.Adopt`. Its output begins where what is durable ends."""
        if self._over.is_set() or self._detached:
            raise ShimLostError("the run is over")
        process = await ShimProcess.adopt(self._state_directory, self._containment)
        process.acknowledge(self._acknowledged)
        return await self._take(process)

    async def _take(self, process: ShimProcess) -> ShimProcess:
        if self._detached:
            # It was on its way up when the host service ended; the next one finds it.
            process.detach()
        elif self._over.is_set():
            # It was on its way up while the run ended; `end` may have looked already.
            await process.close()
            raise ShimFailedError("the run is over")
        self._process = process
        return process

    def acknowledge(self, offset: int) -> None:
        """All that comes of the agent's output before `offset` is durable."""
        if self._process is not None:
            self._process.acknowledge(offset)

    def detach(self) -> None:
        """Let go of what is there, for the next process of the host service. Nothing is ended."""
        self._detached = True
        if self._process is not None:
            self._process.detach()

    async def end(self) -> int:
        """Kill what is left, and return when it was seen gone: how many beyond the agent's own.

        Idempotent. Nothing is spawned any more once it was called.
        """
        self._over.set()
        swept = 0
        if self._process is not None:
            await self._process.close()
            swept = self._process.swept
            self._process = None
        swept += await sweep_until_gone(self._state_directory)
        self.unseen = await asyncio.to_thread(unseen, self._state_directory)
        return swept


async def sweep_until_gone(state_directory: Path) -> int:
    """Kill what no shim holds any more; returns, however long it takes, when nothing is left: how
    many were killed beyond the agent's own."""
    killed: set[tuple[int, float]] = set()
    while True:
        report = await asyncio.to_thread(sweep, state_directory)
        killed.update((info.pid, info.start_time) for info in report.beyond_agent)
        if report.remaining == 0:
            return len(killed)
        log.error("%d processes of a run can't be killed; looking again", report.remaining)
        await asyncio.sleep(LOOK_AGAIN)
