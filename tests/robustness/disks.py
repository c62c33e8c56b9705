"""Small disks for tests, and what fills them: real ones, where this user may mount them."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(path: Path, mebibytes: int) -> Iterator[Path]:
    """A tmpfs of that size at `path`; the test is skipped where there can't be one."""
    if os.geteuid() != 0:
        pytest.skip("SKIP: only root may mount a disk")
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(path)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("SKIP: no disk can be mounted here")
    try:
        yield path
    finally:
        # Lazily: what a test that failed left open must not keep it.
        subprocess.run(["umount", "--lazy", str(path)], check=True)


class Filler:
    """A file that takes all the room that there is."""

    def __init__(self, disk: Path) -> None:
        self._path = disk / "filler"

    def fill(self) -> None:
        """Takes what is left, to the last block; more when it is called again."""
        with self._path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 65536)
        with self._path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 512)

    def remove(self) -> None:
        self._path.unlink()
