"""The fault proxy does what the tests that use it rely on: no more, no less, and by its seed."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from tests.robustness.fault_proxy import Direction, FaultProxy, fault_proxy, slices

#: What takes longer on a busy machine fails.
PATIENCE = 20.0


@dataclass
class Echo:
    """A server that gives back what it gets, and keeps the pieces in which it came."""

    port: int = 0
    got: list[bytes] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    broken: int = 0


@asynccontextmanager
async def echo() -> AsyncIterator[Echo]:
    state = Echo()
    writers = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            while data := await reader.read(65536):
                state.got.append(data)
                writer.write(data)
                await writer.drain()
            state.ended.append(time.monotonic())
        except OSError:
            state.broken += 1
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()
        for writer in writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@asynccontextmanager
async def through(
    proxy: FaultProxy,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = proxy.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 22)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@pytest.fixture(autouse=True)
async def _in_time() -> AsyncIterator[None]:
    async with asyncio.timeout(PATIENCE):
        yield


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - nothing announces it
        await asyncio.sleep(0.005)


async def test_without_orders_every_byte_passes_in_order_and_both_ends_are_told_of_an_end() -> None:
    sent = bytes(range(256)) * 8192  # more than fits into the window
    async with echo() as server, fault_proxy(f"127.0.0.1:{server.port}") as proxy:
        async with through(proxy) as (reader, writer):
            async with asyncio.TaskGroup() as tasks:
                back = tasks.create_task(reader.readexactly(len(sent)))
                writer.write(sent)
                await writer.drain()
            assert back.result() == sent
            writer.write_eof()
            assert await reader.read() == b""
        assert proxy.passed == {Direction.UP: len(sent), Direction.DOWN: len(sent)}
        await until(lambda: proxy.open == 0)
        assert (proxy.made, proxy.resets, server.broken) == (1, 0, 0)


async def test_latency_holds_each_piece_and_jitter_never_lets_one_overtake_another() -> None:
    async with echo() as server, fault_proxy(f"127.0.0.1:{server.port}", seed=3) as proxy:
        proxy.latency(0.05, jitter=0.04)
        async with through(proxy) as (reader, writer):
            begin = time.monotonic()
            for number in range(20):
                writer.write(b"%03d" % number)
                await asyncio.sleep(0.002)
            assert await reader.readexactly(60) == b"".join(b"%03d" % each for each in range(20))
            assert time.monotonic() - begin >= 0.02 + 2 * 0.01


async def test_a_stall_tells_nobody_and_healing_gives_what_was_held_back() -> None:
    async with (
        echo() as server,
        fault_proxy(f"127.0.0.1:{server.port}") as proxy,
        through(proxy) as (reader, writer),
    ):
        writer.write(b"before")
        assert await reader.readexactly(6) == b"before"
        proxy.stall()
        writer.write(b"while")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.read(1)
        async with through(proxy) as (other, second):
            second.write(b"new")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await other.read(1)
            assert server.got == [b"before"]
            proxy.heal()
            assert await reader.readexactly(5) == b"while"
            assert await other.readexactly(3) == b"new"


async def test_a_stall_of_one_direction_lets_the_other_pass() -> None:
    async with echo() as server, fault_proxy(f"127.0.0.1:{server.port}") as proxy:
        proxy.stall((Direction.DOWN,))
        async with through(proxy) as (reader, writer):
            writer.write(b"heard")
            await until(lambda: server.got == [b"heard"])
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await reader.read(1)


@pytest.mark.parametrize("count", [0, 1, 7, 4095, 65536, 70000])
async def test_a_reset_falls_exactly_behind_byte_n(count: int) -> None:
    async with echo() as server, fault_proxy(f"127.0.0.1:{server.port}") as proxy:
        proxy.stall((Direction.DOWN,))
        proxy.reset_at(count)
        async with through(proxy) as (reader, writer):
            writer.write(b"x" * 100_000)
            with pytest.raises(ConnectionResetError):
                await reader.read(1)
            await until(lambda: proxy.open == 0)
            assert proxy.passed[Direction.UP] == count
            assert proxy.resets == 1
        # It was for once: the next connection is served.
        proxy.heal()
        async with through(proxy) as (reader, writer):
            writer.write(b"again")
            assert await reader.readexactly(5) == b"again"


async def test_a_reset_now_breaks_both_sides_of_every_connection() -> None:
    async with (
        echo() as server,
        fault_proxy(f"127.0.0.1:{server.port}") as proxy,
        through(proxy) as (one, first),
        through(proxy) as (two, second),
    ):
        for reader, writer in ((one, first), (two, second)):
            writer.write(b"up")
            assert await reader.readexactly(2) == b"up"
        proxy.reset_now()
        for reader in (one, two):
            with pytest.raises(ConnectionResetError):
                await reader.read(1)
        await until(lambda: server.broken == 2)
        assert proxy.resets == 2


async def test_a_refusing_proxy_ends_new_connections_at_once() -> None:
    async def answer(proxy: FaultProxy) -> bytes:
        async with through(proxy) as (reader, writer):
            writer.write(b"x")
            await writer.drain()
            return await reader.readexactly(1)

    async with echo() as server, fault_proxy(f"127.0.0.1:{server.port}") as proxy:
        proxy.refuse()
        with pytest.raises(ConnectionError):
            await answer(proxy)
        assert server.got == []
        proxy.heal()
        assert await answer(proxy) == b"x"


async def test_a_target_that_is_down_is_a_reset_and_not_a_silence() -> None:
    async with echo() as server:
        target = f"127.0.0.1:{server.port}"
    async with fault_proxy(target) as proxy, through(proxy) as (reader, _):
        with pytest.raises(ConnectionResetError):
            await reader.read(1)


async def test_a_slow_close_tells_of_the_end_only_after_its_time() -> None:
    async with echo() as server, fault_proxy(f"127.0.0.1:{server.port}") as proxy:
        proxy.slow_close(0.3, (Direction.UP,))
        async with through(proxy) as (reader, writer):
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            begin = time.monotonic()
            writer.write_eof()
            assert await reader.read() == b""
            assert server.ended[0] - begin >= 0.3


async def test_a_bandwidth_is_kept() -> None:
    async with echo() as server, fault_proxy(f"127.0.0.1:{server.port}") as proxy:
        proxy.bandwidth(100_000, (Direction.UP,))
        async with through(proxy) as (reader, writer):
            begin = time.monotonic()
            writer.write(b"x" * 50_000)
            await reader.readexactly(50_000)
            assert time.monotonic() - begin >= 0.45


async def test_the_slicer_passes_small_pieces() -> None:
    async with echo() as server, fault_proxy(f"127.0.0.1:{server.port}") as proxy:
        # The pause lets the server read most pieces by themselves.
        proxy.slicer(10, pause=0.005, ways=(Direction.UP,))
        async with through(proxy) as (reader, writer):
            writer.write(b"x" * 100)
            assert await reader.readexactly(100) == b"x" * 100
    assert len(server.got) >= 5


async def test_who_comes_in_the_very_moment_in_which_the_proxy_ends_is_not_left_behind() -> None:
    async with fault_proxy("127.0.0.1:9") as proxy:
        await asyncio.sleep(0)  # it accepts
        host, _, port = proxy.address.rpartition(":")
        late = socket.create_connection((host, int(port)))
        await asyncio.sleep(0)  # the next turn of the loop knows of it, and ends the proxy first
    late.close()  # (What was left behind, and what the loop told, the check of leaks finds.)


def test_slices_are_whole_in_order_and_the_same_by_the_same_seed() -> None:
    data = bytes(range(200))

    def cut(seed: int) -> list[bytes]:
        return slices(data, 10, random.Random(seed))

    assert b"".join(cut(1)) == data
    assert {len(piece) for piece in cut(1)} <= set(range(1, 11))
    assert cut(1) == cut(1) != cut(2)
    assert slices(data, 0, random.Random(1)) == [data]
