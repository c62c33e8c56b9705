"""Room on the disk: what there is, who may use the last of it, and the file that holds a place.

A disk is mostly filled by others, at once and to the last byte; keeping an eye on what is free
helps little then. So a file beside the database holds a place (the reserve). When a commit finds no
room, the reserve gives way a slice at a time, and not for all:

  ORDINARY  Send, Start, tokens …, and what agents say: refused while the disk is full
  OUTPUT    what an agent says that was asked to stop: may use the first half
  LAST      Interrupt, Stop, Kill, what they come to, what frees room: may use all of it

Once there is room again the reserve is laid anew, and everything goes on by itself. Used by the
store's writer, on its thread alone.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path

from bridle_control.store.api import Urgency

_log = logging.getLogger("bridle.control.store")

#: The reserve: enough for the interrupts, stops and kills of hundreds of sessions and what comes of
#: them, and for what hosts have under way when the disk becomes full.
RESERVE_BYTES = 32 * 1024 * 1024
#: On a small disk no more than this part of it is held back.
_PART_OF_DISK = 8
#: Slices in which the reserve is given up: a commit is tried again after each.
_SLICES = 16
#: What a disk without room says, and one whose owner may have no more of it.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
#: What is asked for, in bytes, to see whether there is any.
_SAMPLE = 64 * 1024


class Room:
    """See the module. Raises OSError for anything but a full disk."""

    def __init__(
        self,
        reserve: Path,
        *,
        reserve_bytes: int = RESERVE_BYTES,
        free_bytes: Callable[[], int] | None = None,
    ) -> None:
        """`free_bytes` tells what is free on the disk, without the reserve."""
        disk = os.statvfs(reserve.parent)
        self._size = min(reserve_bytes, disk.f_blocks * disk.f_frsize // _PART_OF_DISK)
        # What must be free beside the reserve: were it laid into the last gap, the disk would be
        # full again with the next write.
        self._margin = self._size // 4
        self._directory = reserve.parent
        self._free = free_bytes or self._statvfs
        self._file = os.open(reserve, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._held = 0
        self._full = False
        self.look()

    @property
    def full(self) -> bool:
        """Whether ordinary writes are refused."""
        return self._full

    def admits(self, urgency: Urgency) -> bool:
        """Whether a write of this urgency may use what is left."""
        if urgency is Urgency.ORDINARY:
            return not self._full
        return urgency is Urgency.LAST or self._held * 2 >= self._size

    def look(self) -> None:
        """Looks at the disk, and lays the reserve where it is missing and there is room."""
        missing = self._size - self._held
        room = self._free() >= missing + self._margin
        self._set_full(not (room and (not missing or self._lay())))

    def give(self) -> bool:
        """A write found no room: gives up a slice. False when all is given."""
        self._set_full(True)
        if not self._held:
            return False
        self._held = max(0, self._held - max(1, self._size // _SLICES))
        os.ftruncate(self._file, self._held)
        return True

    def exhausted(self) -> bool:
        """Whether nothing more can be had: SQLite takes a used-up quota for a failed write."""
        try:
            os.posix_fallocate(self._file, 0, self._held + _SAMPLE)
        except OSError as error:
            if error.errno in _NO_ROOM:
                return True
            raise
        os.ftruncate(self._file, self._held)
        return False

    def close(self) -> None:
        """The reserve keeps its place: the next process finds it."""
        os.close(self._file)

    def _lay(self) -> bool:
        try:
            if self._size:
                os.posix_fallocate(self._file, 0, self._size)
            os.ftruncate(self._file, self._size)  # (an older reserve may have been larger)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            os.ftruncate(self._file, self._held)
            return False
        self._held = self._size
        return True

    def _set_full(self, full: bool) -> None:
        if full == self._full:
            return
        self._full = full
        if full:
            _log.warning("the store's disk is full; only what is urgent is written")
        else:
            _log.info("the store's disk has room again")

    def _statvfs(self) -> int:
        found = os.statvfs(self._directory)
        return found.f_bavail * found.f_frsize
