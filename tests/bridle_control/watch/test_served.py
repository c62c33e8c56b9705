"""Watch over real gRPC: written as bytes, let go of when the client goes, however it goes."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from bridle.v1 import session_pb2, watch_pb2
from bridle_control.watch.hub import Target
from tests.bridle_control.stack import Stack
from tests.support.stores import a_session, append, begin


def request(*slugs: str, **fields: object) -> watch_pb2.WatchRequest:
    targets = [watch_pb2.WatchTarget(session=session_pb2.SessionRef(slug=slug)) for slug in slugs]
    return watch_pb2.WatchRequest(targets=targets, **fields)  # type: ignore[arg-type]


async def test_a_client_gets_the_hubs_bytes_and_leaves_nothing_when_it_goes(
    tmp_path: Path,
) -> None:
    async with Stack(tmp_path / "store") as stack:
        await begin(stack.store, a_session("s1"), a_session("s2"))
        await append(stack.store, "s1", *map(str, range(300)))
        call = stack.sessions.Watch(request("s1", "s2"), metadata=stack.admin)
        seen: list[int] = []
        while len(seen) < 300:
            message = await call.read()
            seen += [event.sequence for event in message.events.events]
        assert seen == list(range(1, 301))
        call.cancel()
        await stack.until(lambda: not stack.hub._channels)

        # One that goes away while there is more for it than it took.
        await append(stack.store, "s1", *["x" * 60_000] * 200)
        call = stack.sessions.Watch(request("s1"), metadata=stack.admin)
        await call.read()
        call.cancel()
        await stack.until(lambda: not stack.hub._channels)

        # And one whose session is deleted.
        call = stack.sessions.Watch(request("s2"), metadata=stack.admin)
        await call.read()
        await stack.store.write(lambda tx: tx.delete_session("s2"))
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await call.read()
        assert told.value.code() is grpc.StatusCode.NOT_FOUND
        await stack.until(lambda: not stack.hub._channels)
        # The hub is as good as new.
        stream = stack.hub.watch([Target("s1", tail=0)], principal_key="me")
        first = watch_pb2.WatchResponse.FromString(await anext(stream))
        assert first.progress.sequence == 500
        await stream.aclose()
