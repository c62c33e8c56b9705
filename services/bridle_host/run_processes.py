"""The processes of one run: every shim that its driver starts, and the proof that nothing is left.

The driver starts them through `spawn` and does with each what it wants. At the run's end `end`
kills what is still there and looks until nothing is, whatever the driver did or failed to do.
Called by the session actor and, for runs of an earlier host process, by the manager.
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
    ShimProcess,
    sweep,
)

log = logging.getLogger("bridle.host.processes")

#: Seconds between looks at what can't be killed (a process in the kernel's hands).
LOOK_AGAIN = 5.0


class RunProcesses:
    """See the module. `environment` is the session's own; `spawn` adds to it."""

    def __init__(
        self,
        session_id: str,
        run: int,
        state_directory: Path,
        environment: Mapping[str, str],
        containment: Containment,
    ) -> None:
        self._session_id = session_id
        self._run = run
        self._state_directory = state_directory
        self._environment = environment
        self._containment = containment
        # One at a time: a shim refuses to start while another is alive in its state directory.
        self._process: ShimProcess | None = None
        self._over = asyncio.Event()

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        directory: str,
        environment: Mapping[str, str],
        control_pipes: int = 0,
    ) -> ShimProcess:
        """As `bridle_host.drivers.base.Spawn`. Once the run is being ended it raises ShimFailed."""
        if self._over.is_set():
            raise ShimFailedError("the run is over")
        spec = ProcessSpec(
            argv=tuple(argv),
            directory=directory,
            environment={**self._environment, **environment},
            session_id=self._session_id,
            run=self._run,
            state_directory=self._state_directory,
            control_pipes=control_pipes,
        )
        process = await ShimProcess.spawn(spec, self._containment)
        if self._over.is_set():
            # It was on its way up while the run ended; `end` may have looked already.
            await process.close()
            raise ShimFailedError("the run is over")
        if self._process is not None:
            await self._process.close()
        self._process = process
        return process

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
        return swept + await sweep_until_gone(self._state_directory)


async def sweep_until_gone(state_directory: Path) -> int:
    """Kill what no shim holds any more; returns, however long it takes, when nothing is left."""
    swept = 0
    while True:
        report = await asyncio.to_thread(sweep, state_directory)
        swept += len(report.killed)
        if report.remaining == 0:
            return swept
        log.error("%d processes of a run can't be killed; looking again", report.remaining)
        await asyncio.sleep(LOOK_AGAIN)
