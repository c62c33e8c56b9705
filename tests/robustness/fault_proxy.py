"""A TCP proxy that breaks what passes through it, on order and by a seed.

    async with fault_proxy("127.0.0.1:7850", seed=7) as proxy:
        client = Client(proxy.address, ...)
        proxy.latency(0.075, jitter=0.05)
        proxy.stall()                  # a cable that was cut: nobody is told
        proxy.heal()                   # what was held back goes on, in order
        proxy.reset_at(1000)           # the 1000th byte from now on is the last, then RST
        proxy.reset_now()

Bytes are never changed, left out or put in another order: it is TCP. All chances (jitter, sizes of
slices) are drawn from the seed, the number of the connection and the direction, so that the same
traffic meets the same faults. Works on plain sockets instead of asyncio's streams, since those
would read ahead and could not reset. Used by tests only.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum

#: Bytes taken from a socket at once.
CHUNK = 64 * 1024
#: Bytes on their way in one direction. Where more are held, the sender is not read: a slow network
#: has little room, and TCP's own backpressure must be met in tests.
WINDOW = 1024 * 1024
#: Connecting to the target may take so long; a target that is down refuses at once.
CONNECT_SECONDS = 10.0


class Direction(Enum):
    """UP is from who dialled to the target, DOWN the way back."""

    UP = "up"
    DOWN = "down"


BOTH = (Direction.UP, Direction.DOWN)


@dataclass
class Weather:
    """What one direction of all connections suffers at the moment. Seconds, bytes."""

    latency: float = 0.0
    jitter: float = 0.0
    #: Bytes a second; 0 is no limit.
    bandwidth: float = 0.0
    #: Largest slice; 0 is none.
    slice_bytes: int = 0
    slice_pause: float = 0.0
    close_delay: float = 0.0
    stalled: bool = False


def slices(data: bytes, largest: int, chance: random.Random) -> list[bytes]:
    """The data in pieces of 1 to `largest` bytes; 0: whole."""
    pieces = []
    while data:
        size = chance.randint(1, largest) if largest else len(data)
        pieces.append(data[:size])
        data = data[size:]
    return pieces


class Pipe:
    """One direction of one connection: reads, holds what the weather says, writes."""

    def __init__(
        self,
        proxy: FaultProxy,
        way: Direction,
        source: socket.socket,
        sink: socket.socket,
        key: str,
    ) -> None:
        self._proxy = proxy
        self._way = way
        self._source, self._sink = source, sink
        self._random = random.Random(key)
        #: (when due, the bytes; none of them is the end), in order.
        self._held: deque[tuple[float, bytes]] = deque()
        self._held_bytes = 0
        self._changed = asyncio.Event()
        self._last_due = 0.0

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read(), name="fault-proxy-read")
            tasks.create_task(self._write(), name="fault-proxy-write")

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._proxy.fair(self._way)
            data = await loop.sock_recv(self._source, CHUNK)
            weather = self._proxy.weather[self._way]
            delay = weather.latency + self._random.uniform(-weather.jitter, weather.jitter)
            if not data:
                delay += weather.close_delay
            # Jitter never lets one piece overtake another.
            self._last_due = max(self._last_due, loop.time() + max(0.0, delay))
            self._held.append((self._last_due, data))
            self._held_bytes += len(data)
            self._changed.set()
            if not data:
                return
            while self._held_bytes > WINDOW:
                self._changed.clear()
                await self._changed.wait()

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._held:
                self._changed.clear()
                await self._changed.wait()
            due, data = self._held[0]
            if (early := due - loop.time()) > 0:
                await asyncio.sleep(early)
            await self._proxy.fair(self._way)
            largest = self._proxy.weather[self._way].slice_bytes
            for piece in slices(data, largest, self._random):
                await self._send(piece)
            self._held.popleft()
            self._held_bytes -= len(data)
            self._changed.set()
            if not data:
                self._sink.shutdown(socket.SHUT_WR)
                return

    async def _send(self, piece: bytes) -> None:
        loop = asyncio.get_running_loop()
        await self._proxy.fair(self._way)
        weather = self._proxy.weather[self._way]
        room, reset = self._proxy.take_bytes(self._way, len(piece))
        if room:
            await loop.sock_sendall(self._sink, piece[:room])
            self._proxy.passed[self._way] += room
        if reset:
            raise ConnectionAbortedError("the byte at which to reset")
        if weather.bandwidth:
            await asyncio.sleep(len(piece) / weather.bandwidth)
        if weather.slice_pause:
            await asyncio.sleep(weather.slice_pause)


class Connection:
    """Two sockets and what passes between them."""

    def __init__(self, proxy: FaultProxy, number: int, near: socket.socket) -> None:
        self._proxy = proxy
        self._number = number
        self._near = near
        self._broken = asyncio.Event()

    def reset(self) -> None:
        """Both sides get a RST."""
        self._broken.set()

    async def run(self) -> None:
        far = socket.socket()
        far.setblocking(False)
        sockets = (self._near, far)
        abort = True
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(far, self._proxy.target)
            for each in sockets:
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            abort = await self._pump(far)
        except (OSError, TimeoutError):
            pass
        finally:
            for each in sockets:
                if abort:
                    # Close with a RST in place of a FIN.
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                each.close()

    async def _pump(self, far: socket.socket) -> bool:
        """Until both sides have closed (False), or it is to be reset (True)."""
        key = f"{self._proxy.seed}/{self._number}"
        up = Pipe(self._proxy, Direction.UP, self._near, far, f"{key}/up")
        down = Pipe(self._proxy, Direction.DOWN, far, self._near, f"{key}/down")

        async def both() -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(up.run(), name="fault-proxy-up")
                tasks.create_task(down.run(), name="fault-proxy-down")

        async with asyncio.TaskGroup() as tasks:
            pumping = tasks.create_task(_quietly(both()), name="fault-proxy-pump")
            broken = tasks.create_task(self._broken.wait(), name="fault-proxy-broken")
            await asyncio.wait((pumping, broken), return_when=asyncio.FIRST_COMPLETED)
            whole = pumping.done() and pumping.result()
            pumping.cancel()
            broken.cancel()
        return not whole


async def _quietly(pumping: Coroutine[None, None, None]) -> bool:
    """Whether it came to its end without a connection breaking."""
    whole = True
    try:
        await pumping
    except* OSError:
        whole = False
    return whole


class FaultProxy:
    """See the module. Made by `fault_proxy`; every order acts at once, on all connections."""

    def __init__(self, target: str, seed: int) -> None:
        host, _, port = target.rpartition(":")
        self.target = (host, int(port))
        self.seed = seed
        self.weather = {way: Weather() for way in BOTH}
        #: Bytes that passed in all, by direction.
        self.passed = dict.fromkeys(BOTH, 0)
        #: How many connections were made, how many were refused, how many were ended with a RST by
        #: order.
        self.made = 0
        self.refused = 0
        self.resets = 0
        self._refusing = False
        self._left: dict[Direction, int | None] = dict.fromkeys(BOTH)
        self._fair = {way: asyncio.Event() for way in BOTH}
        self._connections: set[Connection] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._listener.setblocking(False)
        for event in self._fair.values():
            event.set()

    @property
    def address(self) -> str:
        """Where to dial, "host:port"."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    # --- orders --------------------------------------------------------------------------------

    def latency(
        self, seconds: float, jitter: float = 0.0, ways: tuple[Direction, ...] = BOTH
    ) -> None:
        """Holds every piece for `seconds` ± `jitter`; order is kept."""
        for way in ways:
            self.weather[way].latency, self.weather[way].jitter = seconds, jitter

    def bandwidth(self, bytes_a_second: float, ways: tuple[Direction, ...] = BOTH) -> None:
        """So many bytes a second for each connection; 0: no limit."""
        for way in ways:
            self.weather[way].bandwidth = bytes_a_second
            if bytes_a_second and not self.weather[way].slice_bytes:
                self.weather[way].slice_bytes = max(1, int(bytes_a_second / 20))

    def slicer(self, largest: int, pause: float = 0.0, ways: tuple[Direction, ...] = BOTH) -> None:
        """Passes slices of 1 to `largest` bytes on, with a pause after each."""
        for way in ways:
            self.weather[way].slice_bytes, self.weather[way].slice_pause = largest, pause

    def slow_close(self, seconds: float, ways: tuple[Direction, ...] = BOTH) -> None:
        """Tells the other side of an end only after so long."""
        for way in ways:
            self.weather[way].close_delay = seconds

    def stall(self, ways: tuple[Direction, ...] = BOTH) -> None:
        """Nothing passes and nobody is told, as with a cut cable, until `heal`."""
        for way in ways:
            self.weather[way].stalled = True
            self._fair[way].clear()

    def refuse(self) -> None:
        """Ends every connection, and each new one at once."""
        self._refusing = True
        self.reset_now()

    def reset_at(self, count: int, way: Direction = Direction.UP) -> None:
        """Lets `count` more bytes pass in this direction, then resets that connection, once."""
        self._left[way] = count

    def reset_now(self) -> None:
        """Resets every connection that is open. New ones are served."""
        for connection in list(self._connections):
            self.resets += 1
            connection.reset()

    def heal(self) -> None:
        """Ends all of the above but what `reset_at` armed."""
        self._refusing = False
        for way in BOTH:
            self.weather[way] = Weather()
            self._fair[way].set()

    # --- for pipes -----------------------------------------------------------------------------

    async def fair(self, way: Direction) -> None:
        """Waits until nothing is stalled."""
        while self.weather[way].stalled:
            await self._fair[way].wait()

    def take_bytes(self, way: Direction, wanted: int) -> tuple[int, bool]:
        """How many of so many bytes may pass, and whether the reset is due behind them."""
        left = self._left[way]
        if left is None:
            return wanted, False
        if wanted < left:
            self._left[way] = left - wanted
            return wanted, False
        self._left[way] = None
        self.resets += 1
        return left, True

    # --- serving -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Accepts until cancelled."""
        loop = asyncio.get_running_loop()
        came = asyncio.Event()
        # Not sock_accept: cancelled in the very turn of the loop in which somebody comes, it loses
        # who came, and the loop tells of an error.
        loop.add_reader(self._listener, came.set)
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    await came.wait()
                    came.clear()
                    self._accept(tasks)
        finally:
            loop.remove_reader(self._listener)
            self._listener.close()

    def _accept(self, tasks: asyncio.TaskGroup) -> None:
        try:
            near, _ = self._listener.accept()
        except BlockingIOError:
            return  # who came is gone again
        near.setblocking(False)
        if self._refusing:
            self.refused += 1
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            near.close()
            return
        self.made += 1
        connection = Connection(self, self.made, near)
        self._connections.add(connection)
        tasks.create_task(self._serve(connection), name="fault-proxy-connection")

    async def _serve(self, connection: Connection) -> None:
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)


@asynccontextmanager
async def fault_proxy(target: str, seed: int = 0) -> AsyncIterator[FaultProxy]:
    """A proxy in front of `target` ("host:port"), which need not serve yet."""
    proxy = FaultProxy(target, seed)
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(proxy.run(), name="fault-proxy")
        try:
            yield proxy
        finally:
            serving.cancel()
