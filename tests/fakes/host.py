"""A host for tests of control: the real protocol over the wire, and every word of it scripted.

    async with FakeHost(address, credential) as host:       # connected, reconciled
        start = await host.command("start")                 # the next one that is not taken
        host.started(start)                                 # SessionStarted … IDLE, and RAN
        deliver = await host.command("deliver")
        host.event(session, run, turn_started=…, turn=1)     # an entry of the journal
        host.answer(deliver, RAN, TURN_STARTED, turn=1)

The journal outlives connections (`FakeJournal`), so does what it acknowledged; `drop()` cuts the
stream without Goodbye, `connect()` dials again. Nothing happens by itself but heartbeats' answers.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle.host.v1 import host_link_service_pb2_grpc as wire_grpc
from bridle.v1 import event_pb2, host_pb2, receipt_pb2, session_pb2

PENDING = receipt_pb2.OUTCOME_STATE_PENDING
RAN = receipt_pb2.OUTCOME_STATE_RAN
NOT_RUN = receipt_pb2.OUTCOME_STATE_NOT_RUN

SHELL = host_pb2.Agent(agent="shell", installed=True, version="5.2")
STEERABLE = host_pb2.Agent(
    agent="steerable", installed=True, version="1", capabilities=["STEER", "APPROVALS", "IMAGES"]
)
ABSENT = host_pb2.Agent(agent="absent", installed=False, hint="apt install absent")


@dataclass
class FakeJournal:
    """What a host has journaled: entries by their number, from 1; it forgets nothing by itself."""

    journal_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    records: list[wire.Record] = field(default_factory=list)
    #: Entries that were trimmed from its head.
    trimmed: int = 0
    #: The newest entry by which it took a run over.
    adopted: int = 0

    @property
    def last(self) -> int:
        return self.trimmed + len(self.records)

    def append(self, record: wire.Record) -> int:
        record.journal_sequence = self.last + 1
        if record.HasField("adopt"):
            self.adopted = record.journal_sequence
        self.records.append(record)
        return record.journal_sequence

    def after(self, sequence: int) -> list[wire.Record]:
        return self.records[max(0, sequence - self.trimmed) :]


@dataclass
class Status:
    """How a stream ended."""

    code: grpc.StatusCode
    error: grpc.aio.AioRpcError | None = None


class FakeHost:
    """See the module. One loop, one stream at a time."""

    def __init__(
        self,
        address: str,
        credential: str,
        *,
        agents: Sequence[host_pb2.Agent] = (SHELL, STEERABLE, ABSENT),
        session_limit: int = 64,
        incarnation: str = "",
        journal: FakeJournal | None = None,
    ) -> None:
        self.address = address
        self.credential = credential
        self.agents = agents
        self.session_limit = session_limit
        #: Set by whoever enrolled it.
        self.host_id = ""
        self.incarnation = incarnation or str(uuid.uuid4())
        self.journal = journal or FakeJournal()
        self.protocol = (1, 1)
        #: What its next Hello says of the connection, and of what it knows of its journal.
        self.attempt = 0
        self.journal_known: int | None = None
        #: What the next inventory says.
        self.inventory: dict[str, wire.LiveSession] = {}
        #: False: entries are journaled and not sent until `flush`.
        self.sends = True
        #: False: heartbeats are not answered.
        self.answers_heartbeats = True
        # What came, over all streams.
        self.welcome = wire.Welcome()
        self.reconciles: list[wire.Reconcile] = []
        self.commands: list[wire.Command] = []
        self.withdrawn: list[str] = []
        #: The marks of each journal.
        self.acknowledged: dict[str, list[int]] = {}
        self.tokens: dict[str, wire.SessionToken] = {}
        self.heartbeats: list[wire.Heartbeat] = []
        self.goodbyes: list[str] = []
        self.wanted: list[wire.ReadArtifact] = []
        self.forgotten: list[str] = []
        #: Sessions of which it says that it keeps files.
        self.kept: list[str] = []
        self._taken = 0
        self._changed = asyncio.Event()
        self._channel: grpc.aio.Channel | None = None
        self._call: Any = None
        self._outgoing: asyncio.Queue[wire.ConnectRequest | None] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._ended: Status | None = None
        self._sent = 0

    # ------------------------------------------------------------ the connection

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.drop()

    async def open(self) -> None:
        """Opens the stream and says nothing."""
        await self.drop()
        self._ended = None
        self._channel = grpc.aio.insecure_channel(
            self.address, options=[("grpc.use_local_subchannel_pool", 1)]
        )
        self._outgoing = asyncio.Queue()
        stub: Any = wire_grpc.HostLinkServiceStub(self._channel)
        self._call = stub.Connect(
            self._requests(), metadata=(("authorization", f"Bearer {self.credential}"),)
        )
        self._tasks = [asyncio.create_task(self._read(self._call))]

    async def connect(self) -> None:
        """Opens the stream and goes through the handshake. Raises AioRpcError when refused."""
        await self.greet()
        self.list()
        count = len(self.reconciles)
        await self.until(lambda: len(self.reconciles) > count)
        if self.sends:
            self.flush()

    async def greet(self) -> None:
        """Opens the stream, says hello and is welcomed."""
        await self.open()
        before = self.welcome.epoch
        self.say(hello=self.hello())
        await self.until(lambda: self.welcome.epoch > before)
        self._sent = self.welcome.journal_sequence

    def hello(self) -> wire.Hello:
        """What the host is."""
        return wire.Hello(
            protocol_min=self.protocol[0],
            protocol_max=self.protocol[1],
            incarnation=self.incarnation,
            boot_id="boot",
            journal_id=self.journal.journal_id,
            journal_sequence=self.journal.last,
            journal_floor=self.journal.trimmed + 1 if self.journal.records else 0,
            agents=self.agents,
            containment=["SUBREAPER"],
            session_limit=self.session_limit,
            version="0.0.1",
            journal_known=self.journal_known,
            journal_adopted=self.journal.adopted,
            attempt=self.attempt,
        )

    def list(self) -> None:
        """Says the inventory."""
        inventory = wire.Inventory(sessions=self.inventory.values(), kept=self.kept, complete=True)
        self.say(inventory=inventory)

    def send_artifact(self) -> Any:
        """A call of SendArtifact, on which nothing was said."""
        assert self._channel is not None
        stub: Any = wire_grpc.HostLinkServiceStub(self._channel)
        return stub.SendArtifact(metadata=(("authorization", f"Bearer {self.credential}"),))

    async def drop(self) -> None:
        """Cuts the stream, without Goodbye."""
        if self._call is not None:
            self._call.cancel()
            self._outgoing.put_nowait(None)  # (grpc lets go of its requests only at their end)
            self._call = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    async def leave(self) -> None:
        """Says Goodbye and ends the stream."""
        self.say(goodbye=wire.Goodbye(reason="test"))
        self._outgoing.put_nowait(None)
        await self.ended()
        await self.drop()

    async def ended(self) -> Status:
        """Waits until the stream has ended, and tells how."""
        while self._ended is None:
            self._changed.clear()
            await self._changed.wait()
        return self._ended

    async def _requests(self) -> AsyncIterator[wire.ConnectRequest]:
        outgoing = self._outgoing
        while (message := await outgoing.get()) is not None:
            yield message

    async def _read(self, call: Any) -> None:
        status = Status(grpc.StatusCode.OK)
        try:
            async for message in call:
                self._take(message)
                self._changed.set()
        except grpc.aio.AioRpcError as error:
            # (Its traceback would keep the call, and with it grpc's descriptors.)
            status = Status(error.code(), error.with_traceback(None))
        self._ended = status
        self._changed.set()

    def _take(self, message: wire.ConnectResponse) -> None:
        kind = message.WhichOneof("message")
        if kind == "welcome":
            self.welcome = message.welcome
            # What control has, whatever was acknowledged on earlier streams: an Acknowledge may
            # have been lost with one, and what it was for is not sent again.
            marks = self.acknowledged.setdefault(self.journal.journal_id, [])
            marks.append(message.welcome.journal_sequence)
        elif kind == "reconcile":
            self.reconciles.append(message.reconcile)
        elif kind == "commands":
            for command in message.commands.commands:
                self.commands.append(command)
                if command.start.HasField("token"):
                    self.tokens[command.session_id] = command.start.token
        elif kind == "withdraw":
            self.withdrawn.append(message.withdraw.command_id)
        elif kind == "acknowledge":
            marks = self.acknowledged.setdefault(message.acknowledge.journal_id, [])
            marks.append(message.acknowledge.journal_sequence)
        elif kind == "session_token":
            self.tokens[message.session_token.session_id] = message.session_token
        elif kind == "heartbeat":
            self.heartbeats.append(message.heartbeat)
            if self.answers_heartbeats and message.heartbeat.count:
                self.say(heartbeat=wire.Heartbeat(received=message.heartbeat.count))
        elif kind == "read_artifact":
            self.wanted.append(message.read_artifact)
        elif kind == "forget":
            self.forgotten += message.forget.session_ids
        elif kind == "goodbye":
            self.goodbyes.append(message.goodbye.reason)

    # ------------------------------------------------------------ saying

    def say(self, **message: Any) -> None:
        """Says one message, whatever it is."""
        self._outgoing.put_nowait(wire.ConnectRequest(**message))

    def live_text(self, session_id: str, run: int, turn: int, message_id: str, text: str) -> None:
        """Says a piece of live text from offset 0."""
        piece = wire.LiveTextPiece(
            session_id=session_id, run=run, turn=turn, message_id=message_id, text=text
        )
        self.say(live_texts=wire.LiveTexts(pieces=[piece]))

    def flush(self) -> None:
        """Sends what is journaled and was not sent on this stream."""
        records = self.journal.after(self._sent)
        for start in range(0, len(records), 500):
            self.resend(records[start : start + 500])
        self._sent = self.journal.last

    def resend(self, records: Iterable[wire.Record]) -> None:
        """Sends entries as they are, whether they were sent or not."""
        self.say(records=wire.Records(journal_id=self.journal.journal_id, records=records))

    def journaled(self, record: wire.Record) -> int:
        """Puts an entry into the journal; returns its number."""
        sequence = self.journal.append(record)
        if self.sends and self._call is not None:
            self.flush()
        return sequence

    def event(self, session_id: str, run: int, *, turn: int = 0, **kind: Any) -> int:
        """Journals an event: `event(session, run, turn=1, turn_ended=event_pb2.TurnEnded(…))`."""
        event = event_pb2.Event(run=run, turn=turn, **kind)
        event.time.FromNanoseconds(time.time_ns())
        name = event.WhichOneof("kind")
        assert name is not None
        number = event.DESCRIPTOR.fields_by_name[name].number
        return self.journaled(
            wire.Record(
                session_id=session_id,
                run=run,
                event=wire.EventEntry(
                    kind=event_pb2.EventKind.ValueType(number), event=event.SerializeToString()
                ),
            )
        )

    def answer(
        self,
        command: wire.Command,
        state: receipt_pb2.OutcomeState.ValueType,
        reason: receipt_pb2.OutcomeReason.ValueType = receipt_pb2.OUTCOME_REASON_DONE,
        *,
        turn: int = 0,
        input_id: str = "",
        error: str = "",
        message: str = "",
        metadata: dict[str, str] | None = None,
    ) -> int:
        """Journals an answer to a command."""
        outcome = receipt_pb2.Outcome(
            state=state,
            reason=reason,
            turn=turn,
            input_id=input_id,
            error_reason=error,
            message=message,
        )
        entry = wire.CommandEntry(
            command_id=command.command_id, outcome=outcome, error_metadata=metadata
        )
        return self.journaled(
            wire.Record(session_id=command.session_id, run=command.run, command=entry)
        )

    def journaled_state(self, session_id: str, run: int, state: bytes) -> int:
        """Journals what the driver wants kept."""
        entry = wire.DriverStateEntry(state=state)
        return self.journaled(wire.Record(session_id=session_id, run=run, driver_state=entry))

    def adopt(self, session_id: str, run: int, **entry: Any) -> int:
        """Journals that a run of a lost journal goes on: IDLE, unless `entry` says otherwise."""
        entry.setdefault("phase", session_pb2.PHASE_IDLE)
        entry.setdefault("process", event_pb2.ProcessStarted(pid=4711))
        told = wire.AdoptEntry(**entry)
        return self.journaled(wire.Record(session_id=session_id, run=run, adopt=told))

    def refuse(self, command: wire.Command, error: str, **metadata: str) -> int:
        """Journals a refusal."""
        return self.answer(
            command,
            NOT_RUN,
            receipt_pb2.OUTCOME_REASON_REFUSED,
            error=error,
            message=f"refused: {error}",
            metadata=metadata,
        )

    # ------------------------------------------------------------ whole stretches of a run

    def started(self, start: wire.Command, *, idle: bool = True) -> None:
        """The run is up: the answer, SessionStarted or SessionResumed, and (unless not) IDLE."""
        session_id, run = start.session_id, start.run
        capabilities = next(
            list(each.capabilities) for each in self.agents if each.agent == start.start.agent
        )
        told: dict[str, Any] = {
            "agent": start.start.agent,
            "host_id": self.host_id,
            "directory": start.start.directory or "/srv",
            "containment": "SUBREAPER",
            "capabilities": capabilities,
        }
        if start.start.HasField("resume"):
            resumed = event_pb2.SessionResumed(mode=event_pb2.RESUME_MODE_SEEDED, **told)
            self.event(session_id, run, session_resumed=resumed)
        else:
            self.event(session_id, run, session_started=event_pb2.SessionStarted(**told))
        self.answer(start, RAN)
        self.inventory[session_id] = wire.LiveSession(session_id=session_id, run=run)
        if idle:
            self.event(session_id, run, process_started=event_pb2.ProcessStarted(pid=4711))
            self.phase(session_id, run, "STARTING", "IDLE")

    def phase(self, session_id: str, run: int, before: str, after: str) -> None:
        """PhaseChanged, by the names of the phases."""
        changed = event_pb2.PhaseChanged(to=session_pb2.Phase.Value(f"PHASE_{after}"))
        setattr(changed, "from", session_pb2.Phase.Value(f"PHASE_{before}"))
        self.event(session_id, run, phase_changed=changed)
        if session_id in self.inventory:
            self.inventory[session_id].phase = changed.to

    def turn(self, deliver: wire.Command, number: int) -> None:
        """A turn begins with an input; its Send is answered."""
        session_id, run, input_id = deliver.session_id, deliver.run, deliver.deliver.input_id
        started = event_pb2.TurnStarted(trigger=event_pb2.TURN_TRIGGER_INPUT, input_ids=[input_id])
        self.event(session_id, run, turn=number, turn_started=started)
        consumed = event_pb2.InputConsumed(input_id=input_id)
        self.event(session_id, run, turn=number, input_consumed=consumed)
        reason = receipt_pb2.OUTCOME_REASON_TURN_STARTED
        self.answer(deliver, RAN, reason, turn=number, input_id=input_id)
        self.inventory[session_id].open_turn = number
        self.phase(session_id, run, "IDLE", "RUNNING")

    def turn_over(self, session_id: str, run: int, number: int, reason: str = "COMPLETED") -> None:
        """The turn ends."""
        stop_reason = event_pb2.StopReason.Value(f"STOP_REASON_{reason}")
        ended = event_pb2.TurnEnded(stop_reason=stop_reason)
        self.event(session_id, run, turn=number, turn_ended=ended)
        self.inventory[session_id].open_turn = 0
        self.phase(session_id, run, "RUNNING", "IDLE")

    def over(
        self, session_id: str, run: int, phase: str = "STOPPED", reason: str = "STOP_REQUESTED"
    ) -> None:
        """The run ends."""
        ended = event_pb2.SessionEnded(
            phase=session_pb2.Phase.Value(f"PHASE_{phase}"),
            reason=session_pb2.EndReason.Value(f"END_REASON_{reason}"),
            verified=True,
        )
        self.event(session_id, run, session_ended=ended)
        self.inventory.pop(session_id, None)

    # ------------------------------------------------------------ waiting

    async def until(self, condition: Any) -> None:
        """Waits until something that came makes it true. Raises what ended the stream."""
        while not condition():
            if self._ended is not None:
                if self._ended.error is not None:
                    raise self._ended.error
                raise AssertionError("the stream ended")
            self._changed.clear()
            await self._changed.wait()

    async def command(self, action: str = "") -> wire.Command:
        """The next command that was not taken yet; it must be of this kind."""
        await self.until(lambda: len(self.commands) > self._taken)
        taken = self.commands[self._taken]
        self._taken += 1
        assert action in ("", taken.WhichOneof("action")), taken
        return taken

    async def synced(self) -> None:
        """Waits until control has acknowledged all that is journaled."""
        last = self.journal.last
        marks = self.acknowledged.setdefault(self.journal.journal_id, [0])
        await self.until(lambda: marks[-1] >= last)
