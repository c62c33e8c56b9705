"""The gateway and callers who mean no good, or don't know how: nobody else may notice."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from bridle_control.gateway import connections, server
from tests.bridle_control.gateway.http_calls import SERVICE, call, closed, raw, request, stream
from tests.bridle_control.gateway.test_gateway import gateway

TLS = Path(__file__).parent.parent / "tls"
PATIENCE = 30


async def ends(address: str, *pieces: bytes) -> bytes:
    """Says this, and no more; returns what came until the other side ended the connection."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        async with asyncio.timeout(PATIENCE):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        await closed(writer)


HEAD = f"POST {SERVICE}/ListSessions HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n".encode()


@pytest.mark.parametrize(
    "said",
    [b"", HEAD, HEAD + b"content-type: application/json\r\n\r\n{"],
    ids=["nothing", "half a head", "half a body"],
)
async def test_a_connection_that_does_not_say_what_it_wants_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(connections, "HEAD_TIME", 0.2)
    monkeypatch.setattr(connections, "REQUEST_TIME", 0.2)
    async with gateway(tmp_path) as (_, address, _):
        assert await ends(address, said) == b""


async def test_a_request_that_came_with_another_is_not_waited_for_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_TIME", 2 * PATIENCE)  # it is another time that counts
    monkeypatch.setattr(connections, "REQUEST_TIME", 0.2)
    half = HEAD + b"content-type: application/json\r\n\r\n{"
    async with gateway(tmp_path) as (_, address, _):
        said = await ends(address, half + b'"a": 1}\n' + half)
        assert said.count(b"HTTP/1.1 401") == 1


async def test_a_byte_now_and_then_does_not_hold_a_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_TIME", 0.5)
    async with gateway(tmp_path) as (_, address, _):
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(HEAD)
        over = asyncio.create_task(reader.read())
        async with asyncio.timeout(PATIENCE):
            while not over.done():
                writer.write(b"x-more: x\r\n")
                await asyncio.wait([over], timeout=0.05)
        with suppress(ConnectionError):  # so it ends where a byte came that was not read any more
            assert await over == b""
        await closed(writer)


async def test_a_tls_handshake_that_stalls_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_TIME", 0.2)
    files = {"tls_cert": TLS / "cert.pem", "tls_key": TLS / "key.pem"}
    async with gateway(tmp_path, **files) as (_, address, _):
        assert await ends(address, b"\x16\x03\x01") == b""


async def test_a_stream_lasts_however_short_the_time_for_a_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # (The request of the stream has to come within them, too.)
    monkeypatch.setattr(connections, "HEAD_TIME", 2.0)
    monkeypatch.setattr(connections, "REQUEST_TIME", 2.0)
    async with (
        gateway(tmp_path) as (control, address, token),
        stream(address, "WatchSessions", {}, token) as reply,
    ):
        assert await reply.frame() == (0, {"snapshotEnd": {}})
        assert await ends(address) == b""  # so long, and longer
        control.stop.set()
        flags, _ = await reply.frame()
        assert flags == 2


async def test_who_does_not_read_holds_up_no_end_and_is_no_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # (Else a moment in which all stands still may reach from the one time beyond the other.)
    monkeypatch.setattr(server, "_GRACE", 2 * PATIENCE)
    async with (
        gateway(tmp_path) as (control, address, token),
        stream(address, "WatchSessions", {}, token) as reply,
    ):
        assert await reply.frame() == (0, {"snapshotEnd": {}})
        served: Any = control.control._gateway
        for each in served._server.server_state.connections:
            each.pause_writing()  # as its transport does when nobody reads
        control.stop.set()
        async with asyncio.timeout(PATIENCE):
            await control.running
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []


async def test_beyond_the_largest_number_connections_are_refused_and_then_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS_MAX", 3)
    monkeypatch.setattr(connections, "_REFUSALS_MAX", 2)
    monkeypatch.setattr(connections, "HEAD_TIME", 2 * PATIENCE)  # it would end them, too
    async with gateway(tmp_path) as (_, address, token), AsyncExitStack() as held:
        for _ in range(2):
            reply = await held.enter_async_context(stream(address, "WatchSessions", {}, token))
            assert await reply.frame() == (0, {"snapshotEnd": {}})
        async with call(address, "ListSessions", {}, token) as reply:
            assert reply.status == 503
        host, _, port = address.rpartition(":")
        for _ in range(3):
            _, writer = await asyncio.open_connection(host, int(port))
            held.callback(writer.close)
        assert await ends(address) == b""


async def test_a_header_that_is_no_utf8_harms_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway(tmp_path) as (_, address, token):
        lines = (
            HEAD.replace(b"9", b"2") + b"connection: close\r\ncontent-type: application/json\r\n"
        )
        named = lines + f"authorization: Bearer {token}\r\n".encode()
        assert b" 200 OK" in await ends(address, named, b"x-user: M\xfcller\r\n\r\n{}")
        refused = await ends(address, lines, b"authorization: Bearer \xff\xfe\r\n\r\n{}")
        assert b"unauthenticated" in refused
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"null", b"7", b"", b"\xef\xbb\xbf{}"])
async def test_a_request_is_an_object_of_json(tmp_path: Path, body: bytes) -> None:
    async with (
        gateway(tmp_path) as (_, address, token),
        raw(address, "ListSessions", body, token) as reply,
    ):
        assert reply.status == 400
        assert (await reply.json())["code"] == "invalid_argument"


async def test_nothing_is_called_by_a_request_that_a_page_may_send_unasked(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (_, address, token):
        page: Any = {"origin": "http://evil.example", "authorization": f"Bearer {token}"}
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            path = f"{SERVICE}/ListSessions"
            async with request(address, path, b"{}", content_type=kind, **page) as reply:
                assert reply.status == 415
        query = f"{SERVICE}/ListSessions?encoding=json&message=%7B%7D"
        async with request(address, query, verb="GET", **page) as reply:
            assert reply.status == 405
