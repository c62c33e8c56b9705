"""The file of the audit log: lines that are appended by a thread of their own.

Whoever puts a line never waits: neither for the disk nor for its failure. What that means:

  - a line is with the kernel some microseconds after it was put, and on the disk within a second
    (`SYNC_EVERY`); a control that is killed loses at most the lines of its last instant, a machine
    that loses its power those of the last second. What was *accepted* stands in the store too, as
    the receipt, which is on the disk before its caller is answered;
  - while the file can't be written, at least `WAITING_MAX` lines wait, and the attempt is made
    every second; those beyond are counted, and the count is the first line once it works again;
  - the file is opened anew on `reopen` (SIGHUP), and by itself when it was renamed or removed.

Mode 0600, one process at a time; a line that a crash cut off is ended before the next one. Called
by `audit` alone.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from bridle_control.logs import kv

_log = logging.getLogger("bridle.control.audit")

#: Lines that wait while the disk does not take them: some 4 MB.
WAITING_MAX = 10_000
#: How often the file is synced at most, and looked for under its name, in seconds.
SYNC_EVERY = 1.0
#: Lines in one write: a disk that is nearly full takes some of what waits.
_AT_ONCE = 16
#: When a write that failed is tried again, in seconds.
RETRY_AFTER = 1.0

#: The disk's troubles, which pass; what else goes wrong at the start is a mistake in the settings.
_PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE})


class AuditFile:
    """See the module. `lost(count)` makes the line that tells how many were not written."""

    def __init__(self, path: Path, lost: Callable[[int], str]) -> None:
        self._path = path
        self._lost_line = lost
        self._descriptor = -1
        self._torn = False
        self._synced = self._looked = 0.0
        # Shared with the thread, under the condition's lock.
        self._condition = threading.Condition()
        self._waiting: deque[str] = deque()
        self._lost = 0
        self._reopen = False
        self._closing = False
        # The thread's own: what it has taken and not yet written, and the losses not yet told.
        self._unwritten: deque[str] = deque()
        self._untold = 0
        self._failing = False
        self._dirty = False
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Opens the file and starts the thread. Raises OSError, for what no waiting would mend."""
        try:
            self._open()
        except OSError as error:
            if error.errno not in _PASSING:
                raise
            self._told_of_failure(error)
        self._thread = threading.Thread(target=self._work, name="audit", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Takes a line without its end. Never waits and never fails."""
        with self._condition:
            if len(self._waiting) < WAITING_MAX:
                self._waiting.append(line)
                self._condition.notify()
            else:
                self._lost += 1

    def reopen(self) -> None:
        """Opens the file anew before the next line: it was renamed."""
        with self._condition:
            self._reopen = True
            self._condition.notify()

    def close(self, patience: float) -> bool:
        """Writes what waits and ends the thread, within `patience` s. Whether it has ended.

        A thread that hangs in the disk is left to the end of the process.
        """
        with self._condition:
            self._closing = True
            self._condition.notify()
        thread = self._thread
        if thread is not None:
            thread.join(patience)
        return thread is None or not thread.is_alive()

    # ------------------------------------------------------------ in the thread

    def _work(self) -> None:
        while True:
            reopen, closing = self._next()
            try:
                self._append(reopen, closing)
            except OSError as error:
                self._told_of_failure(error)
            if closing:
                break
        self._last_words()

    def _next(self) -> tuple[bool, bool]:
        """Waits until there is something to do; whether to open anew, and whether it is the end."""
        with self._condition:
            if self._failing:
                self._condition.wait_for(lambda: self._closing or self._reopen, RETRY_AFTER)
            else:
                pause = SYNC_EVERY if self._dirty else None
                self._condition.wait_for(
                    lambda: self._waiting or self._closing or self._reopen, pause
                )
            while self._waiting and len(self._unwritten) < WAITING_MAX:
                self._unwritten.append(self._waiting.popleft())
            self._untold += self._lost
            self._lost = 0
            reopen, self._reopen = self._reopen, False
            return reopen, self._closing

    def _append(self, reopen: bool, closing: bool) -> None:
        if reopen or self._failing or self._was_moved():
            self._shut()
            self._open()
        if self._untold:
            self._write([self._lost_line(self._untold)])
            self._untold = 0
        while self._unwritten:
            lines = [self._unwritten[at] for at in range(min(_AT_ONCE, len(self._unwritten)))]
            self._write(lines)
            for _ in lines:
                self._unwritten.popleft()
        now = time.monotonic()
        if self._dirty and (now - self._synced >= SYNC_EVERY or closing):
            os.fdatasync(self._descriptor)
            self._synced, self._dirty = now, False
        if self._failing:
            self._failing = False
            _log.info("the audit log is written again", extra=kv(path=self._path))

    def _write(self, lines: list[str]) -> None:
        """All of them or nothing: what was cut off is taken back, or else ended."""
        data = "".join(f"{line}\n" for line in lines).encode("ascii")
        if self._torn:
            data = b"\n" + data
        before = os.fstat(self._descriptor).st_size
        written = os.write(self._descriptor, data)
        self._dirty = True
        if written == len(data):
            self._torn = False
            return
        self._torn = True
        os.ftruncate(self._descriptor, before)
        self._torn = False
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _was_moved(self) -> bool:
        """Whether the file is no more under its name; looked at once a second."""
        now = time.monotonic()
        if now - self._looked < SYNC_EVERY:
            return False
        self._looked = now
        try:
            found, ours = os.stat(self._path), os.fstat(self._descriptor)
        except FileNotFoundError:
            return True
        return (found.st_dev, found.st_ino) != (ours.st_dev, ours.st_ino)

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(self._path, flags, 0o600)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            if stat.S_IMODE(status.st_mode) != 0o600:
                os.fchmod(descriptor, 0o600)
            size = status.st_size
            self._torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        self._looked = time.monotonic()

    def _shut(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            try:
                if self._dirty:
                    os.fdatasync(descriptor)
            finally:
                os.close(descriptor)

    def _told_of_failure(self, error: OSError) -> None:
        if not self._failing:
            self._failing = True
            fields = kv(path=self._path, error=error.strerror)
            _log.error("the audit log can't be written; lines wait", extra=fields)

    def _last_words(self) -> None:
        try:
            self._shut()
        except OSError as error:
            self._told_of_failure(error)
        with self._condition:
            lost = self._lost + self._untold + len(self._waiting) + len(self._unwritten)
        if lost:
            _log.error("lines of the audit log are lost", extra=kv(path=self._path, lost=lost))
