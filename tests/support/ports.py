"""Ports for tests whose servers go away and come back."""

from __future__ import annotations

import socket


def held_port() -> socket.socket:
    """A port on 127.0.0.1 that nobody else on this machine is given until the socket is closed.

    Who asks for this very port may listen on it all the same (with SO_REUSEADDR, as grpc and
    asyncio do), go away, and come again. In between whoever dials it is refused; without this,
    another process could be there.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held
