"""A control for tests of the host: the real protocol over a real server, and faults on order.

It keeps what it is told as control would: each record once, by (journal, sequence), acknowledged
after it was kept, with epochs and high-water marks that outlive streams. What it doesn't forgive
ends the stream with the assertion's text: a gap, a message out of place.

    async with FakeControl() as control:
        control.faults.cut_after_messages = 3        # see Faults
        ... start a host that dials control.address ...
        control.command(…)                            # on the newest stream
        assert control.records …
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from socket import socket
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle.host.v1 import host_link_service_pb2_grpc as host_grpc
from bridle_core.errors import CODE_OF, DOMAIN, Reason
from bridle_core.link import Kind, LinkMachine, Side
from tests.support.ports import held_port

Context = aio.ServicerContext[host_pb.ConnectRequest, host_pb.ConnectResponse]


@dataclass
class Faults:
    """What goes wrong. Each holds until it is changed."""

    #: Drop each stream after this many messages of the host (Hello counts), before looking at the
    #: last one.
    cut_after_messages: int | None = None
    #: Keep records, but say no word of it.
    lose_acknowledgements: bool = False
    #: Say nothing any more, read nothing any more, and leave the stream open.
    silent: bool = False
    #: Refuse each Connect, or each Enroll.
    refuse: Reason | None = None
    refuse_enroll: Reason | None = None
    #: Send each thing that is said twice.
    say_twice: bool = False
    #: Welcome with this mark, whatever is known.
    mark: int | None = None
    journal_lost: bool = False
    #: Kill these in Reconcile.
    kill: list[tuple[str, int]] = field(default_factory=list)


@dataclass
class Stream:
    """One Connect, as it was heard."""

    epoch: int
    hello: host_pb.Hello
    messages: list[host_pb.ConnectRequest] = field(default_factory=list)
    inventory: list[host_pb.LiveSession] = field(default_factory=list)
    goodbye: str | None = None
    #: It has heard something while control was silent, and reads no more.
    stuck: bool = False
    over: bool = False


class FakeControl(host_grpc.HostLinkServiceServicer):
    """See the module."""

    def __init__(self, join_token: str = "brj_good", credential: str = "brh_good") -> None:
        self.faults = Faults()
        self.join_token, self.credential = join_token, credential
        self.streams: list[Stream] = []
        self.enrolled: list[str] = []
        #: What was kept, in the order of the journal.
        self.records: list[host_pb.Record] = []
        #: Records and pieces of live text in the order in which they were heard.
        self.timeline: list[host_pb.Record | host_pb.LiveTextPiece] = []
        self.marks: dict[str, int] = {}
        self._held: socket | None = None
        self._epoch = 0
        self._farewell: tuple[Reason | None, dict[str, str]] = (None, {})
        self._outbox: asyncio.Queue[host_pb.ConnectResponse | None] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._server: aio.Server | None = None

    # --- for tests ---

    @property
    def port(self) -> int:
        """Its own until the end of the block, also while it is stopped."""
        if self._held is None:
            self._held = held_port()
        return int(self._held.getsockname()[1])

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()
        if self._held is not None:
            self._held.close()

    async def start(self) -> None:
        """Listens, on the same port as before."""
        self._server = aio.server(options=[("grpc.so_reuseport", 0)])
        host_grpc.add_HostLinkServiceServicer_to_server(self, self._server)
        self._server.add_insecure_port(self.address)
        await self._server.start()

    async def stop(self) -> None:
        """Dies: connections are gone without a word."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    def say(self, **message: Any) -> None:
        """Sends a ConnectResponse on the newest stream, and on the next one if that has ended."""
        for _ in range(2 if self.faults.say_twice else 1):
            self._outbox.put_nowait(host_pb.ConnectResponse(**message))

    def command(self, *commands: host_pb.Command) -> None:
        """Hands commands to the host, in one message."""
        self.say(commands=host_pb.Commands(commands=commands))

    def hang_up(self, reason: Reason | None = None, **metadata: str) -> None:
        """Ends the newest stream with OK, or with a status that says why."""
        self._farewell = (reason, metadata)
        self._outbox.put_nowait(None)

    async def until(self, condition: Callable[[], object]) -> None:
        """Waits until the condition holds; it is looked at whenever something was heard."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def texts(self) -> list[str]:
        """What the kept records say: events as text, commands by their id."""
        return [r.command.command_id or r.event.event.decode() for r in self.records]

    # --- the service ---

    async def Enroll(
        self, request: host_pb.EnrollRequest, context: aio.ServicerContext[Any, Any]
    ) -> host_pb.EnrollResponse:
        if bearer(context) != self.join_token:
            await refuse(context, Reason.TOKEN_INVALID)
        if self.faults.refuse_enroll is not None:
            await refuse(context, self.faults.refuse_enroll)
        self.enrolled.append(request.name)
        return host_pb.EnrollResponse(
            host_id="host-1", credential=self.credential, workspace="default"
        )

    async def SendArtifact(  # type: ignore[override] # writes through the context
        self, requests: AsyncIterator[host_pb.SendArtifactRequest], context: Context
    ) -> None:
        await refuse(context, Reason.ARTIFACT_NOT_FOUND)

    async def Connect(  # type: ignore[override] # writes through the context
        self, requests: AsyncIterator[host_pb.ConnectRequest], context: Context
    ) -> None:
        if bearer(context) != self.credential:
            await refuse(context, Reason.TOKEN_INVALID)
        if self.faults.refuse is not None:
            await refuse(context, self.faults.refuse)
        self._epoch += 1
        connection = _Connection(self, context, self._epoch)
        try:
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(connection.write(self._outbox))
                reader = group.create_task(connection.read(requests))
                await asyncio.wait({writer, reader}, return_when=asyncio.FIRST_COMPLETED)
                writer.cancel()
                reader.cancel()
        finally:
            if connection.stream is not None:
                connection.stream.over = True
            self.changed()
        (reason, metadata), self._farewell = self._farewell, (None, {})
        if reason is not None:
            await refuse(context, reason, **metadata)
        if connection.cut:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")

    def changed(self) -> None:
        self._changed.set()


class _Connection:
    """The work on one stream."""

    def __init__(self, control: FakeControl, context: Context, epoch: int) -> None:
        self._control = control
        self._context = context
        self._epoch = epoch
        self._clock = asyncio.get_running_loop().time
        self._machine = LinkMachine(Side.CONTROL, self._clock())
        self._replies: asyncio.Queue[host_pb.ConnectResponse] = asyncio.Queue()
        self._heard = 0
        self.stream: Stream | None = None
        self.cut = False

    async def read(self, requests: AsyncIterator[host_pb.ConnectRequest]) -> None:
        faults = self._control.faults
        async for message in requests:
            self._heard += 1
            if faults.cut_after_messages is not None and self._heard >= faults.cut_after_messages:
                self.cut = True
                return
            if faults.silent:
                if self.stream is not None:
                    self.stream.stuck = True
                    self._control.changed()
                await asyncio.Event().wait()
            self._take(message)
            self._control.changed()

    def _take(self, message: host_pb.ConnectRequest) -> None:
        name = Kind(str(message.WhichOneof("message")))
        beat = self._machine.receive(
            name,
            self._clock(),
            complete=message.inventory.complete,
            count=message.heartbeat.count,
            received=message.heartbeat.received,
        )
        if beat is not None:
            self._reply(heartbeat=host_pb.Heartbeat(count=beat.count, received=beat.received))
        if name == Kind.HELLO:
            self._greet(message.hello)
        assert self.stream is not None
        self.stream.messages.append(message)
        if name == Kind.INVENTORY:
            self.stream.inventory += message.inventory.sessions
            if message.inventory.complete:
                kill = [host_pb.StaleRun(session_id=s, run=r) for s, r in self._control.faults.kill]
                self._reply(reconcile=host_pb.Reconcile(kill=kill))
        elif name == Kind.RECORDS:
            self._keep(message.records)
        elif name == Kind.LIVE_TEXTS:
            self._control.timeline += message.live_texts.pieces
        elif name == Kind.GOODBYE:
            self.stream.goodbye = message.goodbye.reason

    def _greet(self, hello: host_pb.Hello) -> None:
        control = self._control
        self.stream = Stream(self._epoch, hello)
        control.streams.append(self.stream)
        mark = control.marks.get(hello.journal_id, 0)
        mark = mark if control.faults.mark is None else control.faults.mark
        self._reply(
            welcome=host_pb.Welcome(
                protocol=1,
                epoch=self._epoch,
                host_id="host-1",
                journal_sequence=mark,
                journal_lost=control.faults.journal_lost,
            )
        )

    def _keep(self, records: host_pb.Records) -> None:
        control = self._control
        mark = control.marks.get(records.journal_id, 0)
        numbers = [record.journal_sequence for record in records.records]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "gap in a message"
        assert numbers[0] <= mark + 1, f"gap: {numbers[0]} after {mark}"
        fresh = [record for record in records.records if record.journal_sequence > mark]
        control.records += fresh
        control.timeline += fresh
        control.marks[records.journal_id] = max(mark, numbers[-1])
        if not control.faults.lose_acknowledgements:
            acknowledge = host_pb.Acknowledge(
                journal_id=records.journal_id, journal_sequence=control.marks[records.journal_id]
            )
            self._reply(acknowledge=acknowledge)

    def _reply(self, **message: Any) -> None:
        self._replies.put_nowait(host_pb.ConnectResponse(**message))

    async def write(self, outbox: asyncio.Queue[host_pb.ConnectResponse | None]) -> None:
        """Replies first; what the test says only once the handshake is over."""
        async with asyncio.TaskGroup() as group:
            while True:
                reply = group.create_task(self._replies.get())
                said = group.create_task(outbox.get()) if self._machine.ready else None
                waiting = {task for task in (reply, said) if task is not None}
                try:
                    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in waiting:
                        task.cancel()
                if reply.done() and not reply.cancelled():
                    await self._put(reply.result())
                if said is not None and said.done() and not said.cancelled():
                    message = said.result()
                    if message is None:
                        return
                    await self._put(message)

    async def _put(self, message: host_pb.ConnectResponse) -> None:
        if self._control.faults.silent:
            return
        self._machine.send(Kind(str(message.WhichOneof("message"))))
        await self._context.write(message)


def bearer(context: aio.ServicerContext[Any, Any]) -> str:
    """The token in a call's metadata."""
    metadata = dict(context.invocation_metadata() or ())
    return str(metadata.get("authorization", "")).removeprefix("Bearer ")


async def refuse(context: aio.ServicerContext[Any, Any], reason: Reason, **metadata: str) -> None:
    """Ends the call as control's interceptor does."""
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata))
    code = CODE_OF[reason]
    status = status_pb2.Status(code=code, message=f"refused: {reason}", details=[detail])
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    codes = {status.value[0]: status for status in grpc.StatusCode}
    await context.abort(codes[code], f"refused: {reason}")
