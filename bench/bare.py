"""What bare grpc.aio does with the same hops: the yardstick of every figure here.

Run as a process of its own, in one of two parts:

    python -m bench.bare relay        unary calls go over a bidirectional stream to the peer and
                                      back; a server stream sends one event a message
    python -m bench.bare peer PORT    the far end of that stream; it echoes

No store, no rights, no rules: bytes in, bytes out. The relay prints its port.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import grpc

from bridle.v1 import event_pb2

CALL = "/bare.Relay/Call"
LINK = "/bare.Relay/Link"
STREAM = "/bare.Relay/Stream"


class Relay(grpc.GenericRpcHandler):
    """Forwards each unary call over the one link, by number, and completes it with the echo."""

    def __init__(self) -> None:
        # As many as callers wait at once, 64 here: a caller has one call under way.
        self.outbox: asyncio.Queue[bytes] = asyncio.Queue(1024)
        self.waiting: dict[int, asyncio.Future[bytes]] = {}
        self.count = 0

    def service(
        self, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """The handler of a path."""
        match details.method:
            case "/bare.Relay/Call":
                return grpc.unary_unary_rpc_method_handler(self.call)
            case "/bare.Relay/Link":
                return grpc.stream_stream_rpc_method_handler(self.link)
            case "/bare.Relay/Stream":
                return grpc.unary_stream_rpc_method_handler(self.stream)
        return None

    async def call(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        """One call: over the link and back."""
        self.count += 1
        number = self.count
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.waiting[number] = future
        await self.outbox.put(number.to_bytes(8, "big") + request)
        return await future

    async def link(
        self,
        requests: AsyncIterator[bytes],
        context: grpc.aio.ServicerContext[bytes, bytes],
    ) -> None:
        """The link: one writer here, one reader beside it."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write(context))
            async for answer in requests:
                self.waiting.pop(int.from_bytes(answer[:8], "big")).set_result(answer[8:])

    async def _write(self, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        while True:
            await context.write(await self.outbox.get())

    async def stream(
        self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> AsyncIterator[bytes]:
        """`request` is "COUNT SIZE": so many events of so many bytes, one a message."""
        count, size = (int(word) for word in request.split())
        output = event_pb2.ToolCallOutput(tool_call_id="bare", text="x" * size)
        event = event_pb2.Event(sequence=1, run=1, turn=1, tool_call_output=output)
        data = event.SerializeToString()
        for _ in range(count):
            yield data


async def relay() -> None:
    """Serve until killed."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Relay(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


async def peer(port: int) -> None:
    """Echo until the relay ends."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream(LINK)()
        # The stream begins with its first write; number 0 belongs to nobody.
        while True:
            message = await call.read()
            if not isinstance(message, bytes):
                return
            await call.write(message)


def main() -> None:
    """See the module."""
    if sys.argv[1:] == ["relay"]:
        asyncio.run(relay())
    else:
        asyncio.run(peer(int(sys.argv[2])))


if __name__ == "__main__":
    main()
