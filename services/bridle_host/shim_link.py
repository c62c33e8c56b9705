"""The host's side of a shim's socket, birth and death.

Frames only: what they mean is the business of `bridle_host.shim_client`, its only caller.
Runs inside the event loop's callbacks, so there is no task to own; may not block.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import secrets
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bridle_host import shim


class Link(asyncio.Protocol):
    """Splits the byte stream into frames. `on_frame(kind, body)`, then once `on_lost()`."""

    def __init__(self, on_frame: Callable[[int, bytes], None], on_lost: Callable[[], None]) -> None:
        self._on_frame, self._on_lost = on_frame, on_lost
        self._incoming = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._incoming += data
        position = 0
        while len(self._incoming) - position >= shim.FRAME.size:
            length, kind = shim.FRAME.unpack_from(self._incoming, position)
            end = position + shim.FRAME.size + length
            if len(self._incoming) < end:
                break
            self._on_frame(kind, bytes(self._incoming[position + shim.FRAME.size : end]))
            position = end
        del self._incoming[:position]

    @property
    def connected(self) -> bool:
        """Whether there was a connection at all; it may be lost by now."""
        return self._transport is not None

    def connection_lost(self, _error: Exception | None) -> None:
        self._on_lost()

    def send(self, kind: int, body: bytes = b"") -> None:
        """Never waits: what the host sends is bounded by the input window and by its requests."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(shim.FRAME.pack(len(body), kind) + body)

    def send_object(self, kind: int, value: dict[str, Any]) -> None:
        self.send(kind, json.dumps(value).encode("ascii"))

    def close(self) -> None:
        """Once what was sent is on its way, for which the shim must read."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """At once; what isn't on its way is thrown away."""
        if self._transport is not None:
            self._transport.abort()


class Death:
    """Sees one process die, by its pidfd, and reaps it: no thread, no SIGCHLD handler.

    It is a child of ours, or of an earlier host process: then init reaps it.
    """

    def __init__(self, pid: int, start_ticks: int | None = None) -> None:
        """Raises OSError when there is none, or not the one that started at that time."""
        self.pid = pid
        self._loop = asyncio.get_running_loop()
        self._seen: asyncio.Future[None] = self._loop.create_future()
        self._descriptor = os.pidfd_open(pid)
        if start_ticks is not None:
            # The descriptor holds whoever has the pid: if it is the right one now, it stays so.
            process = shim.read_process(pid)
            if process is None or process.start != start_ticks:
                os.close(self._descriptor)
                raise ProcessLookupError(errno.ESRCH, "another process has this pid now")
        self._loop.add_reader(self._descriptor, self._dead)

    def _dead(self) -> None:
        # By the descriptor: reaped by another, its pid may be a living child's of ours by now.
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, self._descriptor, os.WEXITED)
        self.release()
        if not self._seen.done():
            self._seen.set_result(None)

    def release(self) -> None:
        """Look no longer. Idempotent."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def dead(self) -> bool:
        return self._seen.done()

    async def wait(self, seconds: float) -> bool:
        """Whether it is dead within this time."""
        done, _ = await asyncio.wait([self._seen], timeout=seconds)
        return bool(done)

    def signal(self, signum: int) -> None:
        """Signal exactly this process; nothing when it is dead."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._descriptor, signum)


class Birth:
    """Reads the shim's birth pipe to its end, also when nobody waits for it any more.

    `on_pid(pid)` is called as soon as the shim's pid is known, so that it will be reaped whatever
    else happens. `error` is the shim's reason not to be, or empty.
    """

    def __init__(self, descriptor: int, on_pid: Callable[[int], None]) -> None:
        self.error = ""
        self._on_pid = on_pid
        self._descriptor = descriptor
        self._data = bytearray()
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(descriptor, self._readable)

    def _readable(self) -> None:
        try:
            part = os.read(self._descriptor, 4096)
        except BlockingIOError:
            return
        self._data += part
        *lines, self._data = self._data.split(b"\n")
        for line in lines:
            word, _, rest = line.decode("utf-8", "replace").partition(" ")
            if word == "pid":
                self._on_pid(int(rest))
            elif word == "error":
                self.error = rest
        if not part:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            if not self._ended.done():
                self._ended.set_result(None)

    async def wait(self, seconds: float) -> bool:
        """Whether the pipe has ended within this time."""
        done, _ = await asyncio.wait([self._ended], timeout=seconds)
        return bool(done)


def connected_pair(state_directory: Path) -> tuple[socket.socket, socket.socket]:
    """A listening socket (`shim.sock`, mode 0600) and a connection that waits in its queue.

    The shim inherits the listener, so there is no moment at which it isn't there yet.
    """
    directory = os.open(state_directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # A socket's name has room for 107 bytes; a path through the directory's descriptor is
        # short. Bound under another name and moved: a predecessor's is replaced in one step.
        temporary = f"{shim.SOCKET_FILE}.{secrets.token_hex(4)}"
        listener.bind(f"/proc/self/fd/{directory}/{temporary}")
        os.chmod(temporary, 0o600, dir_fd=directory)
        os.rename(temporary, shim.SOCKET_FILE, src_dir_fd=directory, dst_dir_fd=directory)
        listener.listen(8)
        client.connect(f"/proc/self/fd/{directory}/{shim.SOCKET_FILE}")
        client.setblocking(False)
    except BaseException:
        listener.close()
        client.close()
        raise
    finally:
        os.close(directory)
    return listener, client


def connect(state_directory: Path) -> socket.socket:
    """To the shim that listens there. Raises OSError; never waits."""
    directory = os.open(state_directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        client.setblocking(False)
        client.connect(f"/proc/self/fd/{directory}/{shim.SOCKET_FILE}")
    except BaseException:
        client.close()
        raise
    finally:
        os.close(directory)
    return client
