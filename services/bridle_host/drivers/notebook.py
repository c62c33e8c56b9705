"""What a driver writes down for its successor beside the state of its checkpoints.

For what is too large for a checkpoint, and for what has to be known of an order before the agent
gets it, when no checkpoint could be durable yet. Plain files in the run's own directory, not
synced: what takes unwritten pages away takes the agent away, too. Used by the drivers.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


class Notebook:
    """See the module. Pages are replaced whole, so that each is the old one or the new one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def write(self, page: str, data: bytes) -> None:
        """Raises OSError."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with open(os.open(self._directory / f"{page}.new", flags, 0o600), "wb") as file:
            file.write(data)
        os.replace(self._directory / f"{page}.new", self._directory / page)

    def append(self, page: str, data: bytes) -> None:
        """Add to what is there; another process may see a part of it. Raises OSError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        with open(os.open(self._directory / page, flags, 0o600), "ab") as file:
            file.write(data)

    def read(self, page: str) -> bytes:
        """b"" where it isn't there, or can't be read."""
        with suppress(OSError):
            return (self._directory / page).read_bytes()
        return b""
