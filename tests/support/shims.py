"""Ends what outlives a host service: a test that has ended its host has to end its shims, too."""

from __future__ import annotations

from pathlib import Path

from bridle_host.run_files import every
from bridle_host.sweep import read_state, shim_alive, sweep


def end_shims(runs: Path) -> None:
    """Kills all that the runs in this directory of a host have left, and sees it gone. Blocks."""
    for files in list(every(runs)):
        assert sweep(files.process).remaining == 0, files.process


def held(runs: Path) -> list[str]:
    """The sessions in this directory of a host whose shims are alive."""
    found = ((files, read_state(files.process)) for files in every(runs))
    return sorted(
        files.session_id for files, state in found if state is not None and shim_alive(state)
    )
