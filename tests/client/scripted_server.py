"""A SessionService that plays a script to the client, faults and all.

The real control can't be made to repeat, skip or fall silent; this is how the client's own promises
are put to the test.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from bridle.v1 import event_pb2, receipt_pb2, session_pb2, watch_pb2
from bridle.v1 import session_service_pb2 as pb
from bridle.v1.session_service_pb2_grpc import (
    SessionServiceServicer,
    add_SessionServiceServicer_to_server,
)

SESSION_ID = "s-1"
LOG_ID = "log-1"


@dataclass(frozen=True)
class Silence:
    """Nothing comes any more, until the watcher goes."""


@dataclass(frozen=True)
class Failure:
    """The stream ends with a status; with a reason it is one of Bridle's own."""

    code: grpc.StatusCode
    reason: str = ""


AWAY = Failure(grpc.StatusCode.UNAVAILABLE)

Step = watch_pb2.WatchResponse | Silence | Failure


def events(*sequences: int, session_id: str = SESSION_ID) -> watch_pb2.WatchResponse:
    batch = watch_pb2.EventBatch(
        session_id=session_id,
        log_id=LOG_ID,
        events=[event_pb2.Event(sequence=number) for number in sequences],
    )
    return watch_pb2.WatchResponse(events=batch)


def progress(
    sequence: int, *, ended: bool = False, session_id: str = SESSION_ID
) -> watch_pb2.WatchResponse:
    message = watch_pb2.Progress(
        session_id=session_id, log_id=LOG_ID, sequence=sequence, ended=ended
    )
    return watch_pb2.WatchResponse(progress=message)


def compacted(floor: int) -> watch_pb2.WatchResponse:
    message = watch_pb2.Compacted(session_id=SESSION_ID, log_id=LOG_ID, floor_sequence=floor)
    return watch_pb2.WatchResponse(compacted=message)


@dataclass
class Server(SessionServiceServicer):
    """Plays one script per Watch; `seen` holds the requests, `tokens`, and `places` and
    `states` (in traces) what came along.
    """

    scripts: Sequence[Sequence[Step]]
    sends: Sequence[Failure | Silence | None] = ()
    requests: list[pb.SendRequest] = field(default_factory=list)
    seen: list[watch_pb2.WatchRequest] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    address: str = ""

    async def Watch(  # type: ignore[override]
        self,
        request: watch_pb2.WatchRequest,
        context: aio.ServicerContext[watch_pb2.WatchRequest, watch_pb2.WatchResponse],
    ) -> None:
        script = self.scripts[len(self.seen)]
        self.seen.append(request)
        metadata = dict(context.invocation_metadata() or ())
        self.tokens.append(str(metadata.get("authorization")))
        self._placed(metadata)
        try:
            for step in script:
                if isinstance(step, Silence):
                    await asyncio.Event().wait()
                elif isinstance(step, Failure):
                    await _fail(context, step)
                else:
                    await context.write(step)
        except asyncio.CancelledError:
            # Not in the silence alone: a watcher that has what was said last may go before the
            # server is told that it was written.
            self.cancelled.set()
            raise

    async def Send(
        self,
        request: pb.SendRequest,
        context: aio.ServicerContext[pb.SendRequest, pb.SendResponse],
    ) -> pb.SendResponse:
        end = self.sends[len(self.requests)]
        self.requests.append(request)
        self._placed(dict(context.invocation_metadata() or ()))
        if isinstance(end, Silence):
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()
        elif end is not None:
            await _fail(context, end)
        receipt = receipt_pb2.Receipt(request_id=request.request_id)
        return pb.SendResponse(receipt=receipt)

    def _placed(self, metadata: Mapping[str, str | bytes]) -> None:
        self.places.append(str(metadata.get("traceparent")))
        self.states.append(str(metadata.get("tracestate")))

    async def GetSession(self, request: pb.GetSessionRequest, _: object) -> pb.GetSessionResponse:
        found = session_pb2.Session(
            workspace="default", slug=request.session.slug, session_id=f"id-{request.session.slug}"
        )
        return pb.GetSessionResponse(session=found)


async def _fail(context: aio.ServicerContext[Any, Any], step: Failure) -> None:
    if not step.reason:
        await context.abort(step.code, "as the script says")
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=step.reason, domain="bridle.v1"))
    number: int = step.code.value[0]
    status = status_pb2.Status(code=number, message="as the script says", details=[detail])
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    await context.abort(step.code, "as the script says")


@asynccontextmanager
async def serving(
    *scripts: Sequence[Step], sends: Sequence[Failure | Silence | None] = ()
) -> AsyncIterator[Server]:
    server = aio.server()
    service = Server(scripts, sends)  # type: ignore[abstract]  # the rest stays UNIMPLEMENTED
    add_SessionServiceServicer_to_server(service, server)
    service.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield service
    finally:
        await server.stop(0)
