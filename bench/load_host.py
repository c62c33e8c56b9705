"""A host that makes events as fast as it is told to: the load for control and its watchers.

It speaks the real host link (bridle.host.v1) and runs no process. Given the text
"emit COUNT SIZE RATE" as an input, it writes COUNT outputs of SIZE bytes into the session's log,
RATE a second (0: as fast as control acknowledges them). Each output begins with the time at which
it was made, seconds since the epoch, so that a watcher can tell how old it is.

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

#: Entries a message: as the real host sends them.
BATCH = 1000
#: How many entries may be unacknowledged: what keeps control busy without flooding its memory.
WINDOW = 20_000

State = receipt_pb2.OutcomeState
Reason = receipt_pb2.OutcomeReason


class LoadHost:
    """One connection; sessions that exist in its answers only."""

    def __init__(self) -> None:
        self.journal = str(uuid.uuid4())
        self.sequence = 0
        self.acknowledged = 0
        self.progress = asyncio.Event()
        # Filled by one task a session, drained by the one writer.
        self.outbox: asyncio.Queue[link.ConnectRequest] = asyncio.Queue(64)

    async def run(self, address: str, join_token: str) -> None:
        """Enrol, connect, serve until control ends the stream."""
        async with grpc.aio.insecure_channel(address) as channel:
            stub: link_grpc.HostLinkServiceAsyncStub = link_grpc.HostLinkServiceStub(channel)
            enrolled = await stub.Enroll(
                link.EnrollRequest(name=f"load-{self.journal[:8]}"),
                metadata=(("authorization", f"Bearer {join_token}"),),
            )
            call = stub.Connect(metadata=(("authorization", f"Bearer {enrolled.credential}"),))
            await call.write(link.ConnectRequest(hello=self.hello()))
            await call.read()
            await call.write(link.ConnectRequest(inventory=link.Inventory(complete=True)))
            print(f"ready {enrolled.host_id}", flush=True)
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(self.write(call))
                beats = tasks.create_task(self.beat())
                async for message in call:
                    await self.take(message, tasks)
                writer.cancel()
                beats.cancel()

    def hello(self) -> link.Hello:
        """Who we are."""
        return link.Hello(
            protocol_min=1,
            protocol_max=1,
            incarnation=str(uuid.uuid4()),
            journal_id=self.journal,
            agents=[host_pb2.Agent(agent="load", installed=True, version="1")],
            session_limit=1000,
            version="bench",
        )

    async def write(
        self, call: grpc.aio.StreamStreamCall[link.ConnectRequest, link.ConnectResponse]
    ) -> None:
        """The one writer."""
        while True:
            await call.write(await self.outbox.get())

    async def beat(self) -> None:
        """A heartbeat every 5 s."""
        count = 0
        while True:
            await asyncio.sleep(5)
            count += 1
            await self.outbox.put(link.ConnectRequest(heartbeat=link.Heartbeat(count=count)))

    async def take(self, message: link.ConnectResponse, tasks: asyncio.TaskGroup) -> None:
        """What control says."""
        match message.WhichOneof("message"):
            case "acknowledge":
                self.acknowledged = message.acknowledge.journal_sequence
                self.progress.set()
            case "command":
                tasks.create_task(self.command(message.command))

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
        filler = "x" * max(size - 20, 0)
        begun = time.monotonic()
        sent = 0
        while sent < count:
            portion = min(BATCH, count - sent)
            if rate:
                portion = min(portion, max(1, int((time.monotonic() - begun) * rate) - sent))
            events = []
            for _ in range(portion):
                output = event_pb2.ToolCallOutput(
                    tool_call_id="load", text=f"{time.time():019.6f} {filler}"
                )
                event = event_pb2.Event(run=command.run, turn=1, tool_call_output=output)
                events.append((event_pb2.EVENT_KIND_TOOL_CALL_OUTPUT, event.SerializeToString()))
            await self.send(command, events, None)
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
        records = []
        for kind, data in events:
            self.sequence += 1
            records.append(
                link.Record(
                    journal_sequence=self.sequence,
                    session_id=command.session_id,
                    run=command.run,
                    event=link.EventEntry(kind=kind, event=data),
                )
            )
        if reason is not None:
            self.sequence += 1
            outcome = receipt_pb2.Outcome(state=State.OUTCOME_STATE_RAN, reason=reason)
            entry = link.CommandEntry(command_id=command.command_id, outcome=outcome)
            records.append(
                link.Record(
                    journal_sequence=self.sequence,
                    session_id=command.session_id,
                    run=command.run,
                    command=entry,
                )
            )
        message = link.Records(journal_id=self.journal, records=records)
        await self.outbox.put(link.ConnectRequest(records=message))


def main() -> None:
    """See the module."""
    address, token_file = sys.argv[1:]
    token = Path(token_file).read_text(encoding="utf-8").strip()
    asyncio.run(LoadHost().run(address, token))


if __name__ == "__main__":
    main()
