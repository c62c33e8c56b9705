"""One shim at a time in a state directory: a successor waits, and loses nothing to the one before.

A host service that is killed between starting a shim and telling it what to run leaves a shim that
ends by itself, at its own time; the next host process may be quicker.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path

import pytest

from bridle_host import shim
from bridle_host.containment import Containment
from bridle_host.process import ProcessSpec, ShimProcess, _shim_options
from bridle_host.shim_client import _launch, _prepare
from bridle_host.sweep import shim_present
from tests.bridle_host.journal_support import until
from tests.bridle_host.process_support import LEVELS, names


def spec(directory: Path, *argv: str) -> ProcessSpec:
    return ProcessSpec(
        argv=argv,
        directory="/",
        environment={"PATH": "/usr/bin:/bin"},
        session_id="session",
        run=1,
        state_directory=directory,
        on_host_lost="keep",
    )


@pytest.mark.parametrize("containment", LEVELS, ids=names)
async def test_a_shim_that_was_never_told_what_to_run_leaves_its_successor_alone(
    tmp_path: Path, containment: Containment
) -> None:
    directory = tmp_path / "process"
    _prepare(directory)
    birth_read, birth_write = os.pipe2(os.O_CLOEXEC)
    options = _shim_options(spec(directory, "unused"), containment)
    first, client = _launch(directory, options, birth_write)
    os.close(birth_write)
    try:
        await until(lambda: shim_present(directory))
        socket = (directory / shim.SOCKET_FILE).stat().st_ino
        async with asyncio.TaskGroup() as group:
            second = group.create_task(
                ShimProcess.spawn(spec(directory, "sh", "-c", "echo up; sleep 1000"), containment)
            )
            # Its host dies, and it hears of that when its successor has begun to come up.
            await until(lambda: (directory / shim.SOCKET_FILE).stat().st_ino != socket)
            client.close()
        second.result().detach()
        adopted = await ShimProcess.adopt(directory, containment)
        try:
            async for chunk in adopted.output():
                assert chunk.data == b"up\n"
                break
        finally:
            await adopted.close()
        assert not shim_present(directory)
    finally:
        await first.wait(10.0)
        born = int(os.read(birth_read, 4096).split()[1])
        os.close(birth_read)
        with suppress(ChildProcessError):  # in a PID namespace it is a child of ours
            await asyncio.to_thread(os.waitpid, born, 0)
