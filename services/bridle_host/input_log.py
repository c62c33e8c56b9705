"""What the host has given to an agent, so that the next host process gives the rest, once.

A plain file without fsync: it concerns an agent that dies with the machine, and what was written
outlives a killed process in the page cache. A message is whole in here before a byte of it goes to
the shim; one that was cut short by the end of the process was not given at all. Called by
`bridle_host.process` only; blocks for as long as the file system does.

The file is a sequence of records: a head (kind, length of the key, length of the data, offset of
the data in all input), the key in UTF-8, the data.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
from collections import deque
from pathlib import Path
from typing import Self

log = logging.getLogger("bridle.host.process")

#: Keys that are remembered. An order is given again only before it was confirmed, and far fewer
#: than this are on their way at a time.
KEYS = 1024
#: The file is written anew without what the agent has taken when it has this many useless bytes.
USELESS = 256 * 1024

_HEAD = struct.Struct(">BHIQ")
_DATA, _END, _KEYS = 1, 2, 3


class InputLog:
    """`end`: how much was given in all; `ended`: nothing comes after it.

    With path=None all is in memory, for a process that dies with its host.
    """

    def __init__(self, path: Path | None) -> None:
        """An empty one; `load` for what is there."""
        self.end = 0
        self.ended = False
        self._path = path
        self._keys: dict[str, None] = {}
        self._untaken: deque[tuple[int, bytes]] = deque()  # (offset behind it, data)
        self._size = 0
        self._descriptor = -1

    @classmethod
    def load(cls, path: Path) -> Self:
        """What an earlier process of the host has given. Unreadable or missing: nothing."""
        made = cls(path)
        try:
            text = path.read_bytes()
        except OSError:
            return made
        position = 0
        while position + _HEAD.size <= len(text):
            kind, key_size, size, offset = _HEAD.unpack_from(text, position)
            start = position + _HEAD.size + key_size
            if start + size > len(text):
                break
            key = text[start - key_size : start].decode("utf-8", "replace")
            made._read(kind, key, text[start : start + size], offset)
            position = start + size
        made._size = position
        # What was cut short must not stand before what follows.
        with contextlib.suppress(OSError):
            os.truncate(path, position)
        return made

    def _read(self, kind: int, key: str, data: bytes, offset: int) -> None:
        if kind == _KEYS:
            for known in data.decode("utf-8", "replace").split("\0"):
                self._remember(known)
            self.end = max(self.end, offset)
            return
        self._remember(key)
        self.ended = self.ended or kind == _END
        if data:
            self.end = offset + len(data)
            self._untaken.append((self.end, data))

    def _remember(self, key: str) -> None:
        if key:
            self._keys.pop(key, None)
            self._keys[key] = None
            if len(self._keys) > KEYS:
                del self._keys[next(iter(self._keys))]

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def append(self, data: bytes, key: str) -> None:
        """One message, before it goes out."""
        self._write(_DATA, key, data)
        self._remember(key)
        self.end += len(data)
        if self._path is not None and data:
            self._untaken.append((self.end, data))

    def append_end(self) -> None:
        self.ended = True
        self._write(_END, "", b"")

    def _write(self, kind: int, key: str, data: bytes) -> None:
        if self._path is None:
            return
        name = key.encode("utf-8", "replace")[:65_535]
        record = _HEAD.pack(kind, len(name), len(data), self.end) + name + data
        try:
            self._append(record)
        except OSError as error:
            # The order is more important than its protection against a kill in this very moment.
            log.error("input is not logged: %s", error.strerror)

    def _append(self, record: bytes) -> None:
        assert self._path is not None
        if self._descriptor < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o600)
            os.ftruncate(self._descriptor, self._size)
        try:
            _write_all(self._descriptor, record)
        except OSError:
            os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(record)

    def resume(self, received: int) -> bytes:
        """What is still to be sent to a shim that has received the bytes before this offset."""
        parts = []
        for end, data in self._untaken:
            if end > received:
                parts.append(data[max(0, received - (end - len(data))) :])
        rest = b"".join(parts)
        whole = self.end == received + len(rest)
        self.end = received + len(rest)
        self._untaken = deque([(self.end, rest)] if rest else [])
        if not whole and self._path is not None:
            # Messages that could not be logged are missing: offsets are counted anew from here.
            with contextlib.suppress(OSError):
                self._rewrite(self._path)
        return rest

    def taken(self, offset: int) -> None:
        """The agent has read what stands before this offset: it need not be kept."""
        while self._untaken and self._untaken[0][0] <= offset:
            self._untaken.popleft()
        kept = sum(len(data) for _, data in self._untaken)
        if self._size > USELESS + 2 * kept and self._path is not None:
            with contextlib.suppress(OSError):  # then it stays as long as it is
                self._rewrite(self._path)

    def _rewrite(self, path: Path) -> None:
        keys = "\0".join(self._keys).encode("utf-8", "replace")
        start = self._untaken[0][0] - len(self._untaken[0][1]) if self._untaken else self.end
        records = [_HEAD.pack(_KEYS, 0, len(keys), start) + keys]
        for end, data in self._untaken:
            records.append(_HEAD.pack(_DATA, 0, len(data), end - len(data)) + data)
        if self.ended:
            records.append(_HEAD.pack(_END, 0, 0, self.end))
        text = b"".join(records)
        new = path.with_name(path.name + ".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(descriptor, text)
        finally:
            os.close(descriptor)
        os.replace(new, path)
        self.close()
        self._size = len(text)

    def close(self) -> None:
        """Let go of the file; it stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
