"""Floods by callers who have no token: what they may cost, and that others don't notice them.

Beside each flood a caller with a token makes one call after the other, each with a deadline: not
one may fail. What a flood took, control gives back.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from bridle.v1 import identity_service_pb2
from tests.pair import PATIENCE, Pair, running_pair, until

WHO_AM_I = "/bridle.v1.IdentityService/WhoAmI"
WATCH = "/bridle.v1.SessionService/Watch"
SEND = "/bridle.v1.SessionService/Send"
#: Seconds within which each call of the caller with a token must be answered during a flood. On
#: an idle machine 99 of 100 take less than half a second; what is proved here is that none is lost.
DEADLINE = 30.0
#: How many of its calls must be answered during a flood, or nothing is proved.
CALLS_MIN = 6
#: What control may grow by in a flood, bytes.
GROWTH = 64 * 1024 * 1024
#: HTTP/2's preface and empty SETTINGS: a connection that says hello, and no more.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"

Call = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Pair]:
    async with running_pair(tmp_path, host=False) as pair:
        yield pair


class Served:
    """How many calls of the good caller were answered during the flood."""

    def __init__(self) -> None:
        self.calls = 0

    @property
    def enough(self) -> bool:
        return self.calls >= CALLS_MIN

    async def until_enough(self) -> None:
        """Floods that do not take their own time last until then."""

        async def is_enough() -> bool:
            return self.enough

        await until(is_enough, "others are served meanwhile")


@asynccontextmanager
async def served_meanwhile(pair: Pair) -> AsyncIterator[Served]:
    """Fails when a call of a good caller does, or when control keeps what the flood took."""
    stop, served = asyncio.Event(), Served()

    async def keep_calling(who_am_i: Call) -> None:
        while not stop.is_set():
            await who_am_i(b"", metadata=_bearer(pair.token), timeout=DEADLINE)
            served.calls += 1
            await asyncio.sleep(0.01)

    async with _channel(pair) as channel:
        who_am_i: Call = channel.unary_unary(WHO_AM_I)
        await who_am_i(b"", metadata=_bearer(pair.token), timeout=DEADLINE)
        memory, descriptors = _memory(pair), _descriptors(pair)
        async with asyncio.TaskGroup() as group:
            group.create_task(keep_calling(who_am_i))
            yield served
            stop.set()
        assert served.enough, "nobody was served, so nothing is proved"
        assert _memory(pair) - memory <= GROWTH

        async def given_back() -> bool:
            return _descriptors(pair) <= descriptors + 5

        await until(given_back, "control closes what the flood opened")


async def test_connections_that_say_nothing_are_dropped(control: Pair) -> None:
    async with (
        served_meanwhile(control) as served,
        _connections(control, 500) as silent,
        _connections(control, 500) as polite,
    ):
        for connection in polite:
            connection.sendall(PREFACE)

        async def dropped() -> bool:
            return all(_is_closed(connection) for connection in (*silent, *polite))

        # All hold out for a while, so that slow networks are served; none for long.
        assert not await dropped()
        await served.until_enough()
        await until(dropped, "every silent connection is dropped")


async def test_more_connections_than_control_takes_hurt_nobody_who_is_connected(
    control: Pair,
) -> None:
    async with served_meanwhile(control) as served:
        async with _connections(control, 4300) as connections:

            async def some_refused() -> bool:
                return sum(map(_is_closed, connections)) >= 4300 - 4096

            await until(some_refused, "connections beyond the cap are refused")
            assert sum(map(_is_closed, connections)) < 1000
            await served.until_enough()
        async with _channel(control) as channel, asyncio.timeout(PATIENCE):
            call: Call = channel.unary_unary(WHO_AM_I)
            answer = await call(b"", metadata=_bearer(control.token), wait_for_ready=True)
            told = identity_service_pb2.WhoAmIResponse.FromString(answer)
            assert told.principal.name == "admin"


async def test_streams_that_are_opened_and_cancelled_at_once_cost_the_others_nothing(
    control: Pair,
) -> None:
    opened = 0
    async with served_meanwhile(control) as served, _channel(control) as channel:
        watch: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(WATCH)
        end = time.monotonic() + 3
        while time.monotonic() < end or not served.enough or opened <= 1000:
            calls = [watch(b"", metadata=_bearer("x")) for _ in range(100)]
            await asyncio.sleep(0)
            for call in calls:
                call.cancel()
            opened += len(calls)
            await asyncio.sleep(0.01)
        # Nor does it cost the connection itself its life.
        who_am_i: Call = channel.unary_unary(WHO_AM_I)
        await who_am_i(b"", metadata=_bearer(control.token), timeout=DEADLINE)
    assert opened > 1000


async def test_tokens_that_are_tried_by_the_thousand_open_nothing(control: Pair) -> None:
    codes: dict[str, int] = {}
    end = time.monotonic() + 3

    async def guess(who_am_i: Call, served: Served, number: int) -> None:
        while time.monotonic() < end or not served.enough or sum(codes.values()) <= 500:
            secret = f"brt_{number:04}{os.urandom(20).hex()}"[:47]
            try:
                await who_am_i(b"", metadata=_bearer(secret), timeout=DEADLINE)
            except grpc.aio.AioRpcError as error:
                codes[error.code().name] = codes.get(error.code().name, 0) + 1
            else:
                codes["OK"] = codes.get("OK", 0) + 1

    async with (
        served_meanwhile(control) as served,
        _channel(control) as channel,
        asyncio.TaskGroup() as group,
    ):
        for number in range(50):
            group.create_task(guess(channel.unary_unary(WHO_AM_I), served, number))
    assert set(codes) == {"UNAUTHENTICATED"}
    assert sum(codes.values()) > 500


async def test_requests_that_are_too_large_are_refused_however_they_are_packed(
    control: Pair,
) -> None:
    nested = b""
    for _ in range(10_000):
        nested = b"\x0a" + _varint(len(nested)) + nested
    own = _bearer(control.token)
    large: dict[str, tuple[bytes, tuple[tuple[str, str], ...]]] = {
        # 1000 : 1, as zeros go.
        "compressed": (b"\x0a" + _varint(40_000_000) + b"\0" * 40_000_000, own),
        "a byte too long": (b"\0" * (4 * 1024 * 1024 + 1), own),
        "metadata": (b"", (*own, ("x", "y" * 65_000))),
    }
    async with served_meanwhile(control) as served:
        options = [("grpc.max_send_message_length", -1)]
        for what, (body, metadata) in large.items():
            packed = grpc.Compression.Gzip if what == "compressed" else None
            async with _channel(control, options, packed) as channel:
                answered = served.calls
                for tries in itertools.count(1):
                    code = await _code(channel, body, metadata)
                    assert code == "RESOURCE_EXHAUSTED", what
                    if tries >= 3 and served.calls >= answered + 2:
                        break
        async with _channel(control) as channel:
            assert await _code(channel, nested, own) in ("INVALID_ARGUMENT", "INTERNAL")


def _bearer(secret: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {secret}"),)


def _channel(
    pair: Pair,
    options: list[tuple[str, int]] | None = None,
    compression: grpc.Compression | None = None,
) -> grpc.aio.Channel:
    # Each channel has connections of its own.
    own = [("grpc.use_local_subchannel_pool", 1), *(options or [])]
    return grpc.aio.insecure_channel(pair.address, own, compression)


async def _code(
    channel: grpc.aio.Channel, body: bytes, metadata: tuple[tuple[str, str], ...]
) -> str:
    call: Call = channel.unary_unary(SEND)
    try:
        await call(body, metadata=metadata, timeout=PATIENCE)
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    return "OK"


@asynccontextmanager
async def _connections(pair: Pair, count: int) -> AsyncIterator[list[socket.socket]]:
    """Open connections, without a word."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, count + 1000)), hard))
    host, port = pair.address.rsplit(":", 1)
    opened: list[socket.socket] = []

    def connect() -> None:
        for _ in range(count):
            opened.append(socket.create_connection((host, int(port)), timeout=PATIENCE))
            opened[-1].setblocking(False)

    try:
        await asyncio.to_thread(connect)
        yield opened
    finally:
        for connection in opened:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _is_closed(connection: socket.socket) -> bool:
    """Whether the other side has closed it. Throws away what it said."""
    try:
        while connection.recv(4096):
            pass
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _memory(pair: Pair) -> int:
    assert pair.control is not None
    pages = Path(f"/proc/{pair.control.pid}/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


def _descriptors(pair: Pair) -> int:
    assert pair.control is not None
    return len(os.listdir(f"/proc/{pair.control.pid}/fd"))


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))
