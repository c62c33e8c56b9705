"""The processes that a benchmark needs: the real pair, the load host, the bare relay.

Each is started in a temporary place and ended with the stage; nothing here measures.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from bridle.v1 import host_service_pb2, host_service_pb2_grpc

BIN = Path(sys.executable).parent
#: Control's messages are at most 4 MiB; the yardstick gets the same.
OPTIONS = (("grpc.max_receive_message_length", 4 << 20),)


@dataclass(frozen=True, slots=True)
class Stage:
    """Where everything is. `metadata` is what a call to the pair needs; `place` is temporary."""

    channel: grpc.aio.Channel
    metadata: tuple[tuple[str, str], ...]
    load_host: str
    relay: grpc.aio.Channel
    control_pid: int
    environment: dict[str, str]
    place: Path


@asynccontextmanager
async def process(*argv: str, log: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A process and the first line that it prints; what it logs goes to `log`. Ends by SIGTERM."""
    with log.open("ab") as errors:
        child = await asyncio.create_subprocess_exec(
            *argv, stdout=asyncio.subprocess.PIPE, stderr=errors
        )
    assert child.stdout is not None
    try:
        yield child, (await child.stdout.readline()).decode().strip()
    finally:
        if child.returncode is None:
            child.terminate()
        await child.communicate()


def _field(line: str, name: str) -> str:
    """The value of `name=value` in a ready line."""
    for word in line.split():
        key, _, value = word.partition("=")
        if key == name:
            return value
    raise RuntimeError(f"no {name} in {line!r}")


async def _control(stack: AsyncExitStack, place: Path, *flags: str) -> tuple[str, str, int]:
    """Start control; gives address, token and pid."""
    store, token = str(place / "control.db"), place / "token"
    control = str(BIN / "bridle-control")
    init = await asyncio.create_subprocess_exec(
        control, "init", "--store", store, "--token-file", str(token)
    )
    if await init.wait() != 0:
        raise RuntimeError("bridle-control init failed")
    serve: Sequence[str] = (control, "serve", "--store", store, "--listen", "127.0.0.1:0", *flags)
    child, line = await stack.enter_async_context(process(*serve, log=place / "log"))
    return _field(line, "grpc"), token.read_text(encoding="utf-8").split()[-1], child.pid


async def _join(
    place: Path, channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...]
) -> str:
    """A file with a new join token."""
    hosts: host_service_pb2_grpc.HostServiceAsyncStub = host_service_pb2_grpc.HostServiceStub(
        channel
    )
    made = await hosts.CreateJoinToken(host_service_pb2.CreateJoinTokenRequest(), metadata=metadata)
    join = place / f"join-{made.join_token[-8:]}"
    join.write_text(made.join_token, encoding="utf-8")
    return str(join)


async def _host(stack: AsyncExitStack, place: Path, address: str, join: str, *flags: str) -> None:
    """Start a host."""
    await stack.enter_async_context(
        process(
            *(str(BIN / "bridle-host"), "serve", "--control", address, "--name", "real"),
            *("--state", str(place / "host"), "--join-token-file", join, *flags),
            log=place / "log",
        )
    )


@asynccontextmanager
async def telling(at: Stage) -> AsyncIterator[tuple[grpc.aio.Channel, tuple[tuple[str, str], ...]]]:
    """Another pair, which tells a collector of traces and metrics; its channel and metadata."""
    place = at.place / "telling"
    place.mkdir(exist_ok=True)
    async with AsyncExitStack() as stack:
        _, port = await stack.enter_async_context(
            process(sys.executable, "-m", "bench.sink", log=place / "log")
        )
        flags = ("--otlp-endpoint", f"http://127.0.0.1:{port}")
        address, token, _ = await _control(stack, place, *flags)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(address, OPTIONS))
        metadata = (("authorization", f"Bearer {token}"),)
        await _host(stack, place, address, await _join(place, channel, metadata), *flags)
        yield channel, metadata


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """Everything, up. Where a measurement fails, what the services logged is shown."""
    async with AsyncExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        log = place / "log"
        stack.push(lambda kind, *_: _show(log) if kind else None)
        address, token, pid = await _control(stack, place)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(address, OPTIONS))
        metadata = (("authorization", f"Bearer {token}"),)
        await _host(stack, place, address, await _join(place, channel, metadata))
        join = await _join(place, channel, metadata)
        python = (sys.executable, "-m")
        _, ready = await stack.enter_async_context(
            process(*python, "bench.load_host", address, join, log=log)
        )
        _, port = await stack.enter_async_context(process(*python, "bench.bare", "relay", log=log))
        await stack.enter_async_context(_quiet_peer(port))
        relay = await stack.enter_async_context(
            grpc.aio.insecure_channel(f"127.0.0.1:{port}", OPTIONS)
        )
        environment = {"BRIDLE_ADDRESS": address, "BRIDLE_TOKEN": token, "BRIDLE_HOME": str(place)}
        yield Stage(channel, metadata, ready.split()[-1], relay, pid, environment, place)


def _show(log: Path) -> None:
    """The end of a log."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    print("\n".join(lines[-40:]), file=sys.stderr)


@asynccontextmanager
async def _quiet_peer(port: str) -> AsyncIterator[None]:
    """The far end of the bare link; it prints nothing."""
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.bare", "peer", port)
    try:
        yield
    finally:
        child.terminate()
        await child.wait()
