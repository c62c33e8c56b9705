"""HTTP by hand, byte by byte: what a browser, or curl, says to the gateway."""

from __future__ import annotations

import asyncio
import json
import ssl
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

SERVICE = "/bridle.v1.SessionService"


@dataclass
class Reply:
    """An answer as far as it has come; `body` may be read on."""

    status: int
    headers: Mapping[str, str]
    reader: asyncio.StreamReader

    async def chunk(self) -> bytes:
        """The next piece of a chunked body; b"" at its end."""
        size = int(await self.reader.readline(), 16)
        data = await self.reader.readexactly(size)
        await self.reader.readexactly(2)
        return data

    async def body(self) -> bytes:
        if "content-length" in self.headers:
            return await self.reader.readexactly(int(self.headers["content-length"]))
        pieces = []
        while piece := await self.chunk():
            pieces.append(piece)
        return b"".join(pieces)

    async def json(self) -> Any:
        return json.loads(await self.body())

    async def frame(self) -> tuple[int, Any]:
        """The next message of a Connect stream in JSON: its flags (2: the end) and value."""
        data = await self.chunk()
        flags, size = struct.unpack(">BI", data[:5])
        assert len(data) == 5 + size, "one message to a chunk"
        return flags, json.loads(data[5:])


@asynccontextmanager
async def request(
    address: str,
    path: str,
    body: bytes = b"",
    *,
    verb: str = "POST",
    context: ssl.SSLContext | None = None,
    **headers: str,
) -> AsyncIterator[Reply]:
    """One request on a connection of its own, which ends with the block."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    try:
        lines = [f"{verb} {path} HTTP/1.1", f"host: {address}", f"content-length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        async with asyncio.timeout(20):
            status = int((await reader.readline()).split()[1])
            found = {}
            while line := (await reader.readline()).decode().strip():
                name, _, value = line.partition(":")
                found[name.lower()] = value.strip()
        yield Reply(status, found, reader)
    finally:
        await closed(writer)


async def closed(writer: asyncio.StreamWriter) -> None:
    """Ends a connection, which the other side may have ended, or broken off, before."""
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


def raw(address: str, method: str, body: bytes, token: str = "", **more: Any) -> Any:
    """A call of SessionService by Connect, with this as its JSON."""
    if token:
        more["authorization"] = f"Bearer {token}"
    more = {"content_type": "application/json", **more}
    return request(address, f"{SERVICE}/{method}", body, **more)


def call(address: str, method: str, value: object, token: str = "", **more: Any) -> Any:
    """The same, as by curl."""
    return raw(address, method, json.dumps(value).encode(), token, **more)


def stream(address: str, method: str, value: object, token: str) -> Any:
    """The same for a call with a stream of answers."""
    body = json.dumps(value).encode()
    return request(
        address,
        f"{SERVICE}/{method}",
        struct.pack(">BI", 0, len(body)) + body,
        content_type="application/connect+json",
        authorization=f"Bearer {token}",
    )
