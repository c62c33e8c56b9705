"""Sends artifacts to control, each on a stream of its own beside the link.

Control grants bytes as its reader takes them, so what is under way is bounded, whoever reads
slowly, and whoever stops reading stops the read. Made and owned by `bridle_host.link`, which gives
it the channel; nothing of the link waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from grpc import aio

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle_host.artifacts import open_artifact
from bridle_host.logs import kv

log = logging.getLogger("bridle.host.link")

SEND_ARTIFACT = "/bridle.host.v1.HostLinkService/SendArtifact"

#: Bytes in one message at most.
PIECE = 256 * 1024

Metadata = Sequence[tuple[str, str]]
_Call = aio.StreamStreamCall[host_pb.SendArtifactRequest, host_pb.SendArtifactResponse]


async def send_artifact(
    channel: aio.Channel, metadata: Metadata, runs: Path, wanted: host_pb.ReadArtifact
) -> None:
    """Sends what control wants, or that it is not there. Raises nothing but the end of its task:
    control hears of a stream that breaks off by itself."""
    found = await asyncio.to_thread(open_artifact, runs, wanted.session_id, wanted.run, wanted.name)
    handle, size = found if found is not None else (-1, 0)
    send: aio.StreamStreamMultiCallable[host_pb.SendArtifactRequest, host_pb.SendArtifactResponse]
    send = channel.stream_stream(
        SEND_ARTIFACT,
        request_serializer=host_pb.SendArtifactRequest.SerializeToString,
        response_deserializer=host_pb.SendArtifactResponse.FromString,
    )
    call: _Call = send(metadata=metadata)
    first = host_pb.SendArtifactRequest(read_id=wanted.read_id)
    try:
        if found is None:
            first.missing.SetInParent()
            await call.write(first)
        else:
            first.opened.size = size
            await call.write(first)
            await _send_bytes(call, handle, wanted.offset, size)
        await call.done_writing()
        # Until control has ended it: of a call that is cancelled the last may be lost.
        while isinstance(await call.read(), host_pb.SendArtifactResponse):
            pass
    except (aio.AioRpcError, asyncio.InvalidStateError):
        pass  # nobody reads any more, or control is gone
    except OSError:
        log.exception("an artifact can't be read", extra=kv(session=wanted.session_id))
    finally:
        call.cancel()
        if handle >= 0:
            os.close(handle)


async def _send_bytes(call: _Call, handle: int, begin: int, size: int) -> None:
    """All from `begin` up to `size`, or up to where the file ends by now. Raises OSError."""
    at, allowed = begin, 0
    while at < size:
        while at >= begin + allowed:
            answer = await call.read()
            if not isinstance(answer, host_pb.SendArtifactResponse):
                return  # control wants no more
            allowed = max(allowed, answer.allowed)
        length = min(PIECE, size - at, begin + allowed - at)
        data = await asyncio.to_thread(os.pread, handle, length, at)
        if not data:
            break
        await call.write(host_pb.SendArtifactRequest(data=data))
        at += len(data)
    await call.write(host_pb.SendArtifactRequest(done=host_pb.Done()))
