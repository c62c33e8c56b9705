"""What the real pair can't be made to say at will: each reason of an error, what a later release
might answer, a watch that breaks off twice. Control's own gate and gateway say it; only the
handlers are of the test, and they remember what came with each call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import grpc.aio
from google.rpc import status_pb2

from bridle.v1 import (
    event_pb2,
    session_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
    watch_pb2,
)
from bridle_control.auth import Authenticator
from bridle_control.gateway.calls import Handlers
from bridle_control.gateway.server import Gateway
from bridle_control.interceptor import Gate
from bridle_control.settings import Address
from bridle_control.status import STATUS_KEY
from bridle_control.store.sqlite import SqliteStore
from bridle_control.streams import OpenCalls
from bridle_control.transport import OPTIONS, Port
from bridle_core.errors import BridleError, Code, FieldViolation, Reason
from tests.bridle_control.serving import mint

#: How often a watch breaks off.
BREAKS = 2
#: Field number 1000, which is "later".
LATER = bytes.fromhex("c23e05") + b"later"
#: A Session of a later release: number 1 (session_id) is "s", number 10 (phase) is 77.
ODD_SESSION = bytes.fromhex("0a0173504d") + LATER

#: These slugs: how many seconds the caller gives, as the title; the same at the second try, for
#: which the first asks to wait; a refusal that asks to wait for long; and no answer at all.
DEADLINE, AGAIN, LONG, NEVER = "deadline", "again", "long", "never"
#: How long these ask to wait, seconds.
AGAIN_AFTER, LONG_AFTER = 1.0, 60.0
#: Refused once, to be tried again at once.
BUSY = "busy"
#: Refused with details that are no message, and with those of another code. Over gRPC alone.
SPOILT = {
    "garbled": b"\xff",
    "contradicted": status_pb2.Status(code=Code.INTERNAL, message="another").SerializeToString(),
}
#: A reason that nobody knows; its slug is the same in small letters.
LATER_REASON = "STRIKE"


def slug_of(reason: Reason) -> str:
    """Asking for a session by this slug is refused for this reason."""
    return reason.lower().replace("_", "-")


def refusal(reason: Reason) -> BridleError:
    """With all that an error can carry."""
    return BridleError(
        reason,
        f"refused: {reason} ü 馬",
        metadata={"key": "value ü", "other": ""},
        fields=[FieldViolation("session.slug", "because")],
        retry_after=0.125,
    )


class LaterError(BridleError):
    """For a reason of a later release, with a code that it shares with reasons of now."""

    def __init__(self) -> None:
        super().__init__(Reason.SESSION_ENDED, "refused: later", metadata={"key": "value"})
        self.reason = cast("Reason", LATER_REASON)

    @property
    def code(self) -> Code:
        return Code.FAILED_PRECONDITION


# (Its types want all methods; control refuses those that are not there.)
_Servicer: Any = session_service_pb2_grpc.SessionServiceServicer


class OddService(_Servicer):  # type: ignore[misc]
    """GetSession and Watch alone."""

    def __init__(self, metadata: dict[str, list[dict[str, list[str]]]]) -> None:
        self._metadata = metadata
        #: That somebody waits for an answer that never comes, or LONG; that he has gone.
        self.asked, self.left = asyncio.Event(), asyncio.Event()
        self._was_busy = False

    def _seen(self, method: str, context: Any) -> int:
        """Remembers what came with a call; returns how many there were of its method."""
        came: dict[str, list[str]] = {}
        for key, value in context.invocation_metadata():
            came.setdefault(key, []).append(value)
        calls = self._metadata.setdefault(method, [])
        calls.append(came)
        return len(calls)

    async def Watch(self, request: Any, context: Any) -> None:
        """Breaks off after its first answer, twice; the third time the session has ended.

        Before that it tells what nobody knows yet: a kind of event, a value, a kind of answer.
        NEVER has an answer, and never another.
        """
        endless = request.targets[0].session.slug == NEVER
        whole = self._seen("Watch", context) > BREAKS and not endless
        for answer in odd_answers() if whole else ():
            await context.write(answer)
        progress = watch_pb2.Progress(session_id="s", log_id="l", ended=whole)
        await context.write(watch_pb2.WatchResponse(progress=progress).SerializeToString())
        if endless:
            await asyncio.Event().wait()
        if not whole:
            raise refusal(Reason.SHUTTING_DOWN)

    async def GetSession(self, request: Any, context: Any) -> bytes:
        self._seen("GetSession", context)
        for reason in Reason:
            if request.session.slug == slug_of(reason):
                raise refusal(reason)
        if request.session.slug == LATER_REASON.lower():
            raise LaterError
        if request.session.slug in SPOILT:
            trailers = ((STATUS_KEY, SPOILT[request.session.slug]),)
            await context.abort(grpc.StatusCode.NOT_FOUND, "spoilt", trailers)
        if request.session.slug == BUSY and not self._was_busy:
            self._was_busy = True
            raise BridleError(Reason.RATE_LIMITED, "refused: busy", retry_after=0.01)
        if request.session.slug == LONG:
            self.asked.set()
            raise BridleError(Reason.SHUTTING_DOWN, "for long", retry_after=LONG_AFTER)
        if request.session.slug == AGAIN and len(self._metadata["GetSession"]) == 1:
            raise BridleError(Reason.SHUTTING_DOWN, "once", retry_after=AGAIN_AFTER)
        if request.session.slug in (DEADLINE, AGAIN):
            session = session_pb2.Session(title=str(context.time_remaining()))
            return session_service_pb2.GetSessionResponse(session=session).SerializeToString()
        if request.session.slug == NEVER:
            self.asked.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.left.set()
        size = len(ODD_SESSION)
        return b"\x0a" + bytes([size]) + ODD_SESSION


def odd_answers() -> Iterator[bytes]:
    """Events 1 to 3, of which only the first is known, and an answer that is no event."""
    held = event_pb2.Event(sequence=1, queue_held=event_pb2.QueueHeld())
    kind = event_pb2.Event.FromString(event_pb2.Event(sequence=2).SerializeToString() + LATER)
    ended = event_pb2.TurnEnded(stop_reason=77)  # type: ignore[arg-type]
    value = event_pb2.Event(sequence=3, turn_ended=ended)
    for events in ((held, kind), (), (value,)):
        batch = watch_pb2.EventBatch(session_id="s", log_id="l", events=events)
        response = watch_pb2.WatchResponse(events=batch)
        yield response.SerializeToString() if events else LATER


@dataclass(frozen=True)
class Odd:
    """Where it serves, the token for it, and what came: method -> the metadata of each call."""

    service: OddService

    grpc: str
    http: str
    token: str
    metadata: dict[str, list[dict[str, list[str]]]]


@asynccontextmanager
async def odd_service(place: Path) -> AsyncIterator[Odd]:
    store = await SqliteStore.open(place, create=True)
    token = await mint(store, name="odd")
    gate = Gate(Authenticator(store), OpenCalls(store), calls_max=100, connection_calls_max=100)
    server = grpc.aio.server(interceptors=[gate], options=OPTIONS)
    handlers: Any = Handlers()
    metadata: dict[str, list[dict[str, list[str]]]] = {}
    service = OddService(metadata)
    for where in (server, handlers):
        session_service_pb2_grpc.add_SessionServiceServicer_to_server(service, where)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    gateway = Gateway(
        Port(Address("127.0.0.1", 0), None),
        origins=("*",),
        services=[session_service_pb2.DESCRIPTOR.services_by_name["SessionService"]],
        handlers=handlers,
        gate=gate,
        is_serving=lambda: True,
    )
    http = gateway.bind()
    try:
        async with asyncio.TaskGroup() as tasks:
            up = asyncio.Event()
            tasks.create_task(gateway.run(up))
            await up.wait()
            yield Odd(service, f"127.0.0.1:{port}", str(http), token, metadata)
            await gateway.end()
    finally:
        gateway.close()
        await server.stop(None)
        await store.close()
