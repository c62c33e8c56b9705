"""A connection of the gateway, as HTTP/1.1: how long a caller may take to say what it wants.

uvicorn waits for ever for a request that was begun, and takes any number of connections; a few
thousand that say nothing would use up the process's file descriptors, and the gRPC port and the
store with them. Nothing of a request is read here. Called by `server`.
"""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

#: Seconds that a TLS handshake may take, and then the head of a request.
HEAD_TIME = 10.0
#: Seconds that a whole request may take: the largest over a poor line.
REQUEST_TIME = 60.0
#: Connections at once; beyond it 503. A page needs one or two.
CONNECTIONS_MAX = 4096
#: Beyond so many more they are closed without a word.
_REFUSALS_MAX = 64


class Connection(H11Protocol):
    """See the module. Made by the server, one for each connection."""

    _clock: asyncio.TimerHandle | None = None
    _stage: object = None  # of the request that the clock is for

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_MAX + _REFUSALS_MAX:
            transport.abort()
        else:
            self._look()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    def handle_events(self) -> None:
        super().handle_events()
        # One that came along with the request before it had to wait for that one's answer; no data
        # need come any more. (Not where it has no head yet: the answer may be on its way still.)
        if self.conn.their_state is h11.SEND_BODY:
            self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Starts the clock once for each stage: a byte now and then doesn't set it back."""
        stage = self.conn.their_state
        if stage is self._stage:
            return
        self._stop()
        if stage is h11.IDLE or stage is h11.SEND_BODY:
            limit = HEAD_TIME if stage is h11.IDLE else REQUEST_TIME
            self._stage = stage
            self._clock = self.loop.call_later(limit, self.transport.abort)

    def _stop(self) -> None:
        self._stage = None
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
