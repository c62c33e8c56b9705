"""The network between hosts and control, simulated: streams of messages, late, stuck or cut.

A `Wire` is one stream with two ends. What is sent arrives in order, after a delay of chance; a cut
takes with it what was under way, and is told to nobody, to both, or to one of them late. Only the
silence limit of the link finds out about the worst.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc import aio

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle_core.errors import BridleError


class LinkDownError(aio.AioRpcError):
    """What a host's stub raises: with Bridle's reason, where control gave one."""

    def __init__(self, error: BridleError | None = None) -> None:
        code = grpc.StatusCode.UNAVAILABLE
        super().__init__(code, aio.Metadata(), aio.Metadata(), "the stream broke off")
        self.error = error


class _End:
    """One direction: what is under way, and what has arrived."""

    def __init__(self, owner: Wire) -> None:
        self._owner = owner
        self._arrived: deque[Any] = deque()
        self._held: deque[Any] = deque()
        self._news = asyncio.Event()
        self._due = 0.0
        #: No more will come, and the reader may know.
        self.closed = False

    def send(self, message: Any) -> None:
        loop = asyncio.get_running_loop()
        # A moment later than the one before: equal timers have no order.
        self._due = max(self._due + 1e-6, loop.time() + self._owner.delay())
        loop.call_at(self._due, self._deliver, message)

    def _deliver(self, message: Any) -> None:
        if self._owner.cut_off:
            return
        if self._owner.stalled:
            self._held.append(message)
            return
        self._arrived.append(message)
        self._news.set()

    def release(self) -> None:
        """What was held back arrives now."""
        while self._held:
            self._arrived.append(self._held.popleft())
        self._news.set()

    def close(self) -> None:
        self.closed = True
        self._news.set()

    async def receive(self) -> Any:
        """The next message; None at the end."""
        while not self._arrived:
            if self.closed:
                return None
            self._news.clear()
            await self._news.wait()
        return self._arrived.popleft()


class Wire:
    """See the module. The host's end is a `Call` as its link stream uses one."""

    def __init__(self, chance: random.Random, latency: float) -> None:
        self._chance = chance
        self.latency = latency
        self.stalled = False
        self.cut_off = False
        self.to_control = _End(self)
        self.to_host = _End(self)
        #: Why control ended it.
        self.error: BridleError | None = None

    def delay(self) -> float:
        return self._chance.uniform(0.2, 1.8) * self.latency

    # --- what befalls it -----------------------------------------------------------------------

    def cut(self, *, tell_host: bool = True, tell_control: bool = True) -> None:
        """Ends it; what is under way is lost."""
        self.cut_off = True
        if tell_host:
            self.to_host.close()
        if tell_control:
            self.to_control.close()

    def stall(self) -> None:
        """Holds back all that arrives, until `go_on`."""
        self.stalled = True

    def go_on(self) -> None:
        self.stalled = False
        if not self.cut_off:
            self.to_control.release()
            self.to_host.release()

    # --- control's end -------------------------------------------------------------------------

    async def requests(self) -> AsyncIterator[wire.ConnectRequest]:
        """As gRPC gives them: the end of a lost stream is an end like any."""
        while (message := await self.to_control.receive()) is not None:
            yield message

    def end_by_control(self, error: BridleError | None) -> None:
        """Control is done with it; what it said before still arrives."""
        self.error = error
        loop = asyncio.get_running_loop()
        loop.call_later(2 * self.latency + 0.001, self.to_host.close)

    # --- the host's end ------------------------------------------------------------------------

    async def write(self, request: bytes) -> None:
        if self.to_host.closed:
            raise LinkDownError(self.error)
        self.to_control.send(wire.ConnectRequest.FromString(request))

    async def read(self) -> wire.ConnectResponse:
        message = await self.to_host.receive()
        if not isinstance(message, wire.ConnectResponse):
            raise LinkDownError(self.error)
        return message

    def cancel(self) -> bool:
        """The host is done with it."""
        asyncio.get_running_loop().call_later(self.delay(), self.to_control.close)
        return True

    async def done_writing(self) -> None:
        self.cancel()


class Context:
    """Control's view of a call: as much of it as the services look at."""

    def __init__(self, stream: Wire | None = None, remaining: float | None = 10.0) -> None:
        self._stream = stream
        self._remaining = remaining

    def time_remaining(self) -> float | None:
        return self._remaining

    async def write(self, message: wire.ConnectResponse) -> None:
        assert self._stream is not None
        if self._stream.to_control.closed:
            raise aio.UsageError("the stream is over")
        self._stream.to_host.send(message)
