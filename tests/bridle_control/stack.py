"""All of control that sessions need, served in this process, with a clock that a test turns.

    async with Stack(tmp_path) as stack:
        host = await stack.host()
        answer = await stack.sessions.StartSession(…, metadata=stack.admin)

`stack.restart()` closes everything and opens it again on the same store and the same port.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from bridle.host.v1 import host_link_service_pb2_grpc
from bridle.v1 import (
    content_pb2,
    receipt_pb2,
    session_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
)
from bridle_control.auth import Authenticator
from bridle_control.commands import Commands
from bridle_control.ids import uuid7
from bridle_control.interceptor import Gate
from bridle_control.links.registry import Links
from bridle_control.links.service import HostLinkService
from bridle_control.session_service import SessionService, add_session_service
from bridle_control.store.api import HostRow, Store, Tx
from bridle_control.store.sqlite import SqliteStore
from bridle_control.streams import OpenCalls
from bridle_control.telemetry.gauges import Gauges
from bridle_control.telemetry.work import WorkTelemetry
from bridle_control.tokens import mint_host_credential, mint_session_token
from bridle_control.watch.hub import Hub
from bridle_telemetry.telemetry import Telemetry
from tests.bridle_control.serving import bearer, mint
from tests.fakes.host import FakeHost, FakeJournal
from tests.support.manual_clock import ManualClock
from tests.support.ports import held_port

#: (Requests of tests are made of plain dicts and names, which the stubs' types don't know.)
pb: Any = session_service_pb2


class Stack:
    """See the module."""

    def __init__(self, directory: Path, telemetry: Telemetry | None = None) -> None:
        self._directory = directory
        self._telemetry = telemetry or Telemetry.off()
        self.clock = ManualClock()
        self._begin_ns = time.time_ns()
        self._begin = self.clock.now()
        self._create = True
        self._port = held_port()
        self._parts = AsyncExitStack()
        self._hosts: list[FakeHost] = []

    # ------------------------------------------------------------ opening and closing

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for host in self._hosts:
            await host.drop()
        await self._parts.aclose()
        self._port.close()

    def wall(self) -> int:
        """The time of the test, in ns since the epoch."""
        return self._begin_ns + int((self.clock.now() - self._begin) * 1e9)

    async def _open(self) -> None:
        parts = self._parts = AsyncExitStack()
        store = await SqliteStore.open(self._directory, create=self._create, clock=self.wall)
        parts.push_async_callback(store.close)
        self.store: Store = store
        if self._create:
            self.admin = bearer(await mint(store, name="admin"))
        self._create = False
        self.open_calls = OpenCalls(store)
        gate = Gate(
            Authenticator(store),
            self.open_calls,
            calls_max=5000,
            connection_calls_max=5000,
            telemetry=self._telemetry,
        )
        server = grpc.aio.server(interceptors=[gate], options=[("grpc.so_reuseport", 0)])
        self.hub = Hub(store, clock=self.clock)
        self.links = Links(store, self.hub, clock=self.clock, wall_clock=self.wall)
        self.commands = Commands(store, self.links, clock=self.clock, wall_clock=self.wall)
        gauges = Gauges(
            self._telemetry, store, self.links, self.hub, self.open_calls, clock=self.clock
        )
        if self._telemetry.metrics:
            WorkTelemetry(self._telemetry, wall_clock=self.wall).listen(store)
        service = SessionService(store, self.links, self.commands, self.hub, clock=self.clock)
        add_session_service(service, server)
        links: Any = HostLinkService(store, self.links)
        host_link_service_pb2_grpc.add_HostLinkServiceServicer_to_server(links, server)
        server.add_insecure_port(self.address)
        await server.start()
        parts.push_async_callback(server.stop, None)
        for component in (self.links, self.commands, service, gauges):
            task = asyncio.create_task(component.run())
            parts.push_async_callback(_cancelled, task)
        parts.push_async_callback(self.links.close)
        channel = grpc.aio.insecure_channel(
            self.address, options=[("grpc.use_local_subchannel_pool", 1)]
        )
        parts.push_async_callback(channel.close)
        stub: Any = session_service_pb2_grpc.SessionServiceStub(channel)
        self.sessions = stub

    async def restart(self) -> None:
        """Ends control and starts it again, as a new process would."""
        await self._parts.aclose()
        await self._open()

    @property
    def address(self) -> str:
        """Where control serves, and nobody else while it doesn't."""
        return f"127.0.0.1:{self._port.getsockname()[1]}"

    # ------------------------------------------------------------ hosts and callers

    async def host(self, name: str = "box", *, connect: bool = True, **options: Any) -> FakeHost:
        """A new host; it is linked, unless not."""

        def make(tx: Tx) -> tuple[str, str]:
            host_id = str(uuid.uuid4())
            tx.insert_host(HostRow(host_id, "default", name, tx.now))
            minted = mint_host_credential(tx, host_id=host_id, workspace="default", name=name)
            return host_id, minted.secret

        host_id, secret = await self.store.write(make)
        made = FakeHost(self.address, secret, **options)
        made.host_id = host_id
        self._hosts.append(made)
        if connect:
            await made.connect()
            await self.until(lambda: self.links.is_live(host_id))
        return made

    def twin(self, host: FakeHost, **options: Any) -> FakeHost:
        """Another process with the same identity."""
        made = FakeHost(self.address, host.credential, **options)
        made.host_id = host.host_id
        self._hosts.append(made)
        return made

    def reborn(self, host: FakeHost, *, journal: FakeJournal | None = None) -> FakeHost:
        """The host's service, started anew: another incarnation with the same journal."""
        return self.twin(host, journal=journal or host.journal)

    async def agent(self, session_id: str) -> tuple[tuple[str, str], ...]:
        """The metadata of a session's own calls."""

        def make(tx: Tx) -> str:
            row = tx.session(session_id)
            assert row is not None
            return mint_session_token(tx, row, row.run).secret

        return bearer(await self.store.write(make))

    # ------------------------------------------------------------ shortcuts

    def start_request(
        self, slug: str = "x", **fields: Any
    ) -> session_service_pb2.StartSessionRequest:
        """A StartSession with a request id."""
        fields.setdefault("agent", "shell")
        fields.setdefault("request_id", uuid7(self.wall()))
        made: session_service_pb2.StartSessionRequest = pb.StartSessionRequest(slug=slug, **fields)
        return made

    async def start(
        self, on: FakeHost, slug: str = "x", *, idle: bool = True, **fields: Any
    ) -> session_pb2.Session:
        """A session that is IDLE on the host (or STARTING, once its start was answered)."""
        request = self.start_request(slug, **fields)
        call = asyncio.ensure_future(self.sessions.StartSession(request, metadata=self.admin))
        on.started(await on.command("start"), idle=idle)
        answer = await call
        await on.synced()
        return await self.session(answer.session.session_id)

    async def begin_turn(self, host: FakeHost, session: session_pb2.Session, turn: int = 1) -> str:
        """A turn that is on; the id of its input."""
        receipt, deliver = await self.send(host, session, queue=False)
        host.turn(deliver, turn)
        await host.synced()
        return str(receipt.input_id or deliver.deliver.input_id)

    async def send(
        self, host: FakeHost, session: session_pb2.Session, *, queue: bool = True, **fields: Any
    ) -> tuple[receipt_pb2.Receipt, Any]:
        """Sends a line; the host queues it. The receipt, and the command that the host got."""
        fields.setdefault("content", [text("go")])
        request = pb.SendRequest(session=ref(session), request_id=self.new_id(), **fields)
        call = asyncio.ensure_future(self.sessions.Send(request, metadata=self.admin))
        deliver = await host.command("deliver")
        host.answer(
            deliver,
            receipt_pb2.OUTCOME_STATE_PENDING,
            receipt_pb2.OUTCOME_REASON_QUEUED,
            input_id=deliver.deliver.input_id,
        )
        return (await call).receipt, deliver

    async def session(self, session_id: str) -> session_pb2.Session:
        """The session as it is now."""
        request = pb.GetSessionRequest(session=session_pb2.SessionRef(id=session_id))
        answer = await self.sessions.GetSession(request, metadata=self.admin)
        got: session_pb2.Session = answer.session
        return got

    async def events(self, session_id: str) -> list[Any]:
        """The session's whole log."""
        request = pb.ListEventsRequest(
            session=session_pb2.SessionRef(id=session_id), page_size=1000
        )
        return list((await self.sessions.ListEvents(request, metadata=self.admin)).events)

    async def kinds(self, session_id: str) -> list[str]:
        """The names of the events of the session's log."""
        return [str(event.WhichOneof("kind")) for event in await self.events(session_id)]

    async def command(self, command_id: str, wait: float = 0.0) -> receipt_pb2.Receipt:
        """A receipt as it is by now."""
        request = pb.GetCommandRequest(command_id=command_id)
        request.wait.FromNanoseconds(int(wait * 1e9))
        got: receipt_pb2.Receipt = (
            await self.sessions.GetCommand(request, metadata=self.admin)
        ).receipt
        return got

    def new_id(self) -> str:
        """A request id of now."""
        return uuid7(self.wall())

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for a condition that other tasks of this loop bring about."""
        while not condition():  # noqa: ASYNC110 (what is waited for is others' inner state)
            await asyncio.sleep(0.002)

    async def lose_patience(self, calls: int = 1) -> None:
        """So many calls wait for a host; their time runs out."""
        await self.until(lambda: self.commands.waiting == calls)
        self.clock.advance(5.0)

    async def pass_time(self, host: FakeHost, seconds: float) -> None:
        """Lets time pass in steps in which the host is heard, as it would be."""
        end = self.clock.now() + seconds
        while self.clock.now() < end:
            self.clock.advance(min(5.0, end - self.clock.now()))
            await self.until(lambda: (self.links.silence(host.host_id) or 0.0) < 5.0)

    async def eventually(self, read: Callable[[], Any], wanted: object) -> None:
        """Waits until a read of control gives what is wanted."""
        while await read() != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def ref(session: session_pb2.Session) -> session_pb2.SessionRef:
    """The session, by its id."""
    return session_pb2.SessionRef(id=session.session_id)


def text(line: str) -> content_pb2.Content:
    """A piece of content."""
    return content_pb2.Content(text=line)


def phase(session: session_pb2.Session) -> str:
    """The name of the session's phase."""
    return session_pb2.Phase.Name(session.phase).removeprefix("PHASE_")


def outcome(receipt: receipt_pb2.Receipt) -> tuple[str, str]:
    """The names of a receipt's outcome."""
    return (
        receipt_pb2.OutcomeState.Name(receipt.outcome.state).removeprefix("OUTCOME_STATE_"),
        receipt_pb2.OutcomeReason.Name(receipt.outcome.reason).removeprefix("OUTCOME_REASON_"),
    )
