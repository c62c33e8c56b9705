"""A host that makes events as fast as it is told to: the load for control and its watchers.

It speaks the real host link (bridle.host.v1), runs no process and keeps no journal. Given the text
"emit COUNT SIZE RATE" as an input, it writes COUNT outputs of SIZE bytes into the session's log,
RATE a second (0: as fast as control acknowledges them). Each output begins with the time at which
it was made, seconds since the epoch, so that a watcher can tell how old it is. Records are written
as bytes, as the real host does, so that as little of the machine as possible goes into the load.

    python -m bench.load_host ADDRESS JOIN_TOKEN_FILE
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from pathlib import Path

import grpc

from bridle.host.v1 import host_link_service_pb2 as link
from bridle.host.v1 import host_link_service_pb2_grpc as link_grpc
from bridle.v1 import event_pb2, host_pb2, receipt_pb2, session_pb2

CONNECT = "/bridle.host.v1.HostLinkService/Connect"
#: Entries a message: as the real host sends them.
BATCH = 1000
#: How many entries may be unacknowledged: what keeps control busy without flooding its memory.
WINDOW = 20_000

State = receipt_pb2.OutcomeState
Reason = receipt_pb2.OutcomeReason
Call = grpc.aio.StreamStreamCall[bytes, link.ConnectResponse]


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited field, number 1 to 15."""
    return bytes((number << 3 | 2,)) + varint(len(payload)) + payload


class LoadHost:
    """One connection; sessions that exist in its answers only."""

    def __init__(self) -> None:
        self.journal = str(uuid.uuid4())
        self.sequence = 0
        self.acknowledged = 0
        self.progress = asyncio.Event()
        # Filled by one task a session, drained by the one writer.
        self.outbox: asyncio.Queue[bytes] = asyncio.Queue(64)

    async def run(self, address: str, join_token: str) -> None:
        """Enrol, connect, serve until control ends the stream."""
        async with grpc.aio.insecure_channel(address) as channel:
            stub: link_grpc.HostLinkServiceAsyncStub = link_grpc.HostLinkServiceStub(channel)
            enrolled = await stub.Enroll(
                link.EnrollRequest(name=f"load-{self.journal[:8]}"),
                metadata=(("authorization", f"Bearer {join_token}"),),
            )
            connect: grpc.aio.StreamStreamMultiCallable[bytes, link.ConnectResponse]
            connect = channel.stream_stream(
                CONNECT,
                request_serializer=None,
                response_deserializer=link.ConnectResponse.FromString,
            )
            call = connect(metadata=(("authorization", f"Bearer {enrolled.credential}"),))
            await call.write(link.ConnectRequest(hello=self.hello()).SerializeToString())
            await call.read()
            inventory = link.Inventory(complete=True)
            await call.write(link.ConnectRequest(inventory=inventory).SerializeToString())
            await call.read()
            print(f"ready {enrolled.host_id}", flush=True)
            async with asyncio.TaskGroup() as tasks:
                helpers = [tasks.create_task(self.write(call)), tasks.create_task(self.beat())]
                while isinstance(message := await call.read(), link.ConnectResponse):
                    await self.take(message, tasks)
                for helper in helpers:
                    helper.cancel()

    def hello(self) -> link.Hello:
        """Who we are."""
        return link.Hello(
            protocol_min=1,
            protocol_max=1,
            incarnation=str(uuid.uuid4()),
            journal_id=self.journal,
            agents=[host_pb2.Agent(agent="load", installed=True, version="1")],
            session_limit=10_000,
            version="bench",
        )

    async def write(self, call: Call) -> None:
        """The one writer."""
        while True:
            await call.write(await self.outbox.get())

    async def beat(self) -> None:
        """A heartbeat every 5 s."""
        count = 0
        while True:
            await asyncio.sleep(5)
            count += 1
            beat = link.ConnectRequest(heartbeat=link.Heartbeat(count=count))
            await self.outbox.put(beat.SerializeToString())

    async def take(self, message: link.ConnectResponse, tasks: asyncio.TaskGroup) -> None:
        """What control says."""
        match message.WhichOneof("message"):
            case "acknowledge":
                self.acknowledged = message.acknowledge.journal_sequence
                self.progress.set()
            case "commands":
                for command in message.commands.commands:
                    tasks.create_task(self.command(command))

    async def command(self, command: link.Command) -> None:
        """Start, emit, or say that there was nothing to do."""
        match command.WhichOneof("action"):
            case "start":
                started = event_pb2.Event(
                    run=command.run, session_started=event_pb2.SessionStarted(agent="load")
                )
                up = event_pb2.Event(
                    run=command.run, process_started=event_pb2.ProcessStarted(pid=1)
                )
                idle = event_pb2.Event(
                    run=command.run,
                    phase_changed=event_pb2.PhaseChanged(
                        **{"from": session_pb2.PHASE_STARTING, "to": session_pb2.PHASE_IDLE}
                    ),
                )
                await self.send(
                    command,
                    [
                        (event_pb2.EVENT_KIND_SESSION_STARTED, started.SerializeToString()),
                        (event_pb2.EVENT_KIND_PROCESS_STARTED, up.SerializeToString()),
                        (event_pb2.EVENT_KIND_PHASE_CHANGED, idle.SerializeToString()),
                    ],
                    Reason.OUTCOME_REASON_DONE,
                )
            case "deliver":
                await self.send(command, [], Reason.OUTCOME_REASON_TURN_STARTED)
                await self.emit(command, command.deliver.content[0].text.split())
            case _:
                await self.send(command, [], Reason.OUTCOME_REASON_NO_TURN)

    async def emit(self, command: link.Command, words: list[str]) -> None:
        """Write the events that were ordered."""
        count, size, rate = int(words[1]), int(words[2]), float(words[3])
        filler = "x" * max(size - 21, 0)

        def made_now() -> tuple[event_pb2.EventKind.ValueType, bytes]:
            output = event_pb2.ToolCallOutput(
                tool_call_id="load", text=f"{time.time():019.6f} {filler}\n"
            )
            event = event_pb2.Event(run=command.run, turn=1, tool_call_output=output)
            return event_pb2.EVENT_KIND_TOOL_CALL_OUTPUT, event.SerializeToString()

        begun = time.monotonic()
        sent = 0
        while sent < count:
            portion = min(BATCH, count - sent)
            if rate:
                portion = min(portion, max(1, int((time.monotonic() - begun) * rate) - sent))
            # In a flood the time of the message is that of its events.
            await self.send(command, [made_now()] * portion, None)
            sent += portion
            if rate:
                await asyncio.sleep(max(0.0, begun + sent / rate - time.monotonic()))

    async def send(
        self,
        command: link.Command,
        events: list[tuple[event_pb2.EventKind.ValueType, bytes]],
        reason: receipt_pb2.OutcomeReason.ValueType | None,
    ) -> None:
        """One message of entries: events, then perhaps the answer to the command."""
        while self.sequence - self.acknowledged > WINDOW:
            self.progress.clear()
            await self.progress.wait()
        parts = [field(link.Records.JOURNAL_ID_FIELD_NUMBER, self.journal.encode())]
        last, body = None, b""
        for event in events:
            # (The events of a flood are one and the same: encoded once.)
            if event is not last:
                last = event
                body = self.record(command, link.EventEntry(kind=event[0], event=event[1]))
            parts.append(self.numbered(body))
        if reason is not None:
            outcome = receipt_pb2.Outcome(state=State.OUTCOME_STATE_RAN, reason=reason)
            entry = link.CommandEntry(command_id=command.command_id, outcome=outcome)
            parts.append(self.numbered(self.record(command, entry)))
        await self.outbox.put(field(link.ConnectRequest.RECORDS_FIELD_NUMBER, b"".join(parts)))

    def record(self, command: link.Command, entry: link.EventEntry | link.CommandEntry) -> bytes:
        """A Record without its number."""
        record = link.Record(session_id=command.session_id, run=command.run)
        if isinstance(entry, link.EventEntry):
            record.event.CopyFrom(entry)
        else:
            record.command.CopyFrom(entry)
        return record.SerializeToString()

    def numbered(self, body: bytes) -> bytes:
        """The Record under the next number, as it stands in Records."""
        self.sequence += 1
        return field(link.Records.RECORDS_FIELD_NUMBER, b"\x08" + varint(self.sequence) + body)


def main() -> None:
    """See the module."""
    address, token_file = sys.argv[1:]
    token = Path(token_file).read_text(encoding="utf-8").strip()
    asyncio.run(LoadHost().run(address, token))


if __name__ == "__main__":
    main()
