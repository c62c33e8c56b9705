"""One stream to control, from its Hello to its end: one reader, one writer, one timer.

The order of the handshake, the heartbeats and the silence are `bridle_core.link`'s; here are the
bytes. The writer sends, in this order of urgency: a heartbeat that is due, live text whose place
has come, entries of the journal after its cursor. It never waits for an answer: what was sent is
sent again on the next stream if control doesn't have it by then.

The reader never waits for anything but the stream. What takes time (commands, and what must keep
its place among them) goes into a queue that outlives the stream; only acknowledgements are carried
out at once, because what waits for room in the journal may be what the queue waits for.

`bridle_host.link` makes one for each connection; nobody else does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from itertools import zip_longest
from typing import Protocol, TypeVar

from grpc import aio

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle_core.link import Beat, Kind, LinkMachine, Side
from bridle_host.clock import Clock
from bridle_host.crash_points import reached
from bridle_host.journal import Journal
from bridle_host.live_texts import LiveTexts
from bridle_host.logs import kv

log = logging.getLogger("bridle.host.link")

#: Bytes and entries in one message at most.
BATCH_BYTES = 1024 * 1024
BATCH_ENTRIES = 1000
#: Live sessions in one Inventory: each names its waiting inputs, a queue has at most some hundreds.
INVENTORY_SESSIONS = 50
#: Sessions in one Inventory of which there are files: their ids.
INVENTORY_KEPT = 5000
#: Live text in one message at most, in bytes.
LIVE_TEXT_BYTES = 256 * 1024

T = TypeVar("T")

#: The call of Connect, with requests as bytes.
Call = aio.StreamStreamCall[bytes, host_pb.ConnectResponse]
#: What waits to be handed to the sessions, in the order in which it came.
Incoming = host_pb.Command | host_pb.Withdraw | host_pb.SessionToken


class HandOver(Protocol):
    """What the link does with what control says."""

    def put(self, item: Incoming) -> None:
        """Takes it for the sessions. Raises LinkOverrun when control sends more than it may."""

    def kill_stale(self, runs: Sequence[host_pb.StaleRun]) -> None:
        """Has these runs killed."""

    def opened(self) -> None:
        """The handshake is over."""

    def send_artifact(self, wanted: host_pb.ReadArtifact) -> None:
        """Has an artifact sent, beside this stream."""

    def forget(self, session_ids: Sequence[str]) -> None:
        """Has what is kept of these sessions removed."""


class LinkOverrun(Exception):  # noqa: N818 - named as its fellows in bridle_core.link
    """Control sent more than any control may: a bug there. Ends the stream."""


class JournalStale(Exception):  # noqa: N818
    """Control has entries of this journal that the journal never had: it is an old copy."""


class VersionRefused(Exception):  # noqa: N818
    """Control speaks a version that this host doesn't."""


class Sent:
    """How far this process knows that control may have its journal: what it found in it when it
    began, and what it has sent since, on any stream."""

    __slots__ = ("newest",)

    def __init__(self, newest: int) -> None:
        self.newest = newest


class LinkStream:
    """See the module. `run` is called once."""

    def __init__(
        self,
        call: Call,
        *,
        hello: host_pb.Hello,
        inventory: Sequence[host_pb.LiveSession],
        kept: Sequence[str],
        journal: Journal,
        live_texts: LiveTexts,
        hand_over: HandOver,
        clock: Clock,
        sent: Sent,
    ) -> None:
        self._call = call
        self._sent = sent
        self._hello = hello
        self._inventory = inventory
        self._kept = kept
        self._journal = journal
        self._live_texts = live_texts
        self._hand_over = hand_over
        self._clock = clock
        self._machine = LinkMachine(Side.HOST, clock.now())
        self._wake = asyncio.Event()
        self._welcomed = asyncio.Event()
        # At most one heartbeat waits: a newer one says all that an older one would.
        self._beat: Beat | None = None
        self._goodbye: str | None = None
        self._cursor = 0

    @property
    def ready(self) -> bool:
        """Whether the handshake is over."""
        return self._machine.ready

    def wake(self) -> None:
        """There may be something to send."""
        self._wake.set()

    def say_goodbye(self, reason: str) -> None:
        """Ends the stream: a Goodbye once the handshake is over, else at once."""
        self._goodbye = reason
        self.wake()
        if not self.ready:
            self._call.cancel()

    async def run(self) -> None:
        """Returns when control ended the stream with OK.

        Raises AioRpcError when it ended with another status, and Silence, ProtocolViolation,
        LinkOverrun, JournalStale or VersionRefused where this side ends it.
        """
        try:
            async with asyncio.TaskGroup() as group:
                helpers = [group.create_task(self._write()), group.create_task(self._watch_time())]
                await self._read()
                for helper in helpers:
                    helper.cancel()
        except BaseExceptionGroup as errors:
            # One fails and the others are cancelled for it; the first is the cause.
            raise errors.exceptions[0] from None
        finally:
            self._call.cancel()

    # --- reading ---

    async def _read(self) -> None:
        while True:
            message = await self._call.read()
            if not isinstance(message, host_pb.ConnectResponse):
                return  # the end of the stream
            self._take(message)

    def _take(self, message: host_pb.ConnectResponse) -> None:
        name = message.WhichOneof("message")
        if name is None:
            return  # of a kind that this version doesn't know
        beat = self._machine.receive(
            Kind(name),
            self._clock.now(),
            count=message.heartbeat.count,
            received=message.heartbeat.received,
        )
        if beat is not None:
            self._beat = beat
            self.wake()
        self._act(name, message)

    def _act(self, name: str, message: host_pb.ConnectResponse) -> None:
        if name == Kind.COMMANDS:
            for command in message.commands.commands:
                self._hand_over.put(command)
        elif name == Kind.ACKNOWLEDGE:
            self._acknowledge(message.acknowledge)
        elif name == Kind.WITHDRAW:
            self._hand_over.put(message.withdraw)
        elif name == Kind.SESSION_TOKEN:
            self._hand_over.put(message.session_token)
        elif name == Kind.WELCOME:
            self._welcome(message.welcome)
        elif name == Kind.RECONCILE:
            self._hand_over.kill_stale(message.reconcile.kill)
            self._hand_over.opened()
            self.wake()
        elif name == Kind.READ_ARTIFACT:
            self._hand_over.send_artifact(message.read_artifact)
        elif name == Kind.FORGET:
            self._hand_over.forget(message.forget.session_ids)
        elif name == Kind.GOODBYE:
            log.info("control says goodbye", extra=kv(reason=message.goodbye.reason))

    def _welcome(self, welcome: host_pb.Welcome) -> None:
        if not self._hello.protocol_min <= welcome.protocol <= self._hello.protocol_max:
            raise VersionRefused
        mark = welcome.journal_sequence
        if mark > self._hello.journal_known:
            raise JournalStale
        if welcome.journal_lost:
            log.warning("control lost this journal", extra=kv(journal=self._journal.journal_id))
        if mark < self._journal.acknowledged:
            # Control was set back to an older state; what it had then acknowledged is gone here.
            log.warning(
                "control lacks entries that it had acknowledged",
                extra=kv(has=mark, acknowledged=self._journal.acknowledged),
            )
        self._journal.acknowledge(mark)
        self._cursor = max(mark, self._journal.acknowledged)
        self._welcomed.set()

    def _acknowledge(self, acknowledge: host_pb.Acknowledge) -> None:
        reached("link.after-ack")
        if acknowledge.journal_id == self._journal.journal_id:
            if acknowledge.journal_sequence > self._journal.last_sequence:
                raise JournalStale
            self._journal.acknowledge(acknowledge.journal_sequence)

    # --- writing ---

    async def _write(self) -> None:
        try:
            await self._greet()
            while not (self._goodbye is not None and self.ready):
                await self._write_next()
            await self._send(Kind.GOODBYE, goodbye=host_pb.Goodbye(reason=self._goodbye))
            await self._call.done_writing()
        except (aio.AioRpcError, asyncio.InvalidStateError):
            # The stream has ended; the reader learns how.
            return

    async def _greet(self) -> None:
        await self._send(Kind.HELLO, hello=self._hello)
        await self._welcomed.wait()
        parts = _parts(self._inventory, INVENTORY_SESSIONS)
        kept = _parts(self._kept, INVENTORY_KEPT)
        count = max(len(parts), len(kept))
        for number, (part, names) in enumerate(zip_longest(parts, kept), 1):
            complete = number == count
            inventory = host_pb.Inventory(sessions=part, kept=names, complete=complete)
            await self._send(Kind.INVENTORY, complete=complete, inventory=inventory)

    async def _write_next(self) -> None:
        # Cleared before the looks, so that what comes during them is not slept over.
        self._wake.clear()
        if self._beat is not None:
            beat, self._beat = self._beat, None
            heartbeat = host_pb.Heartbeat(count=beat.count, received=beat.received)
            await self._send(Kind.HEARTBEAT, heartbeat=heartbeat)
        elif self.ready and await self._write_content():
            return
        else:
            await self._wake.wait()

    async def _write_content(self) -> bool:
        """Sends live text or entries; False where there are none to send now."""
        pieces = self._live_texts.take(self._cursor, LIVE_TEXT_BYTES)
        if pieces:
            await self._send(Kind.LIVE_TEXTS, live_texts=host_pb.LiveTexts(pieces=pieces))
            return True
        entries = await self._journal.read_after(
            self._cursor, BATCH_BYTES, min(BATCH_ENTRIES, self._until_next_stop())
        )
        if not entries:
            return False
        self._machine.send(Kind.RECORDS)
        # Before it is written: a write that fails may have been heard all the same.
        self._sent.newest = max(self._sent.newest, entries[-1][0])
        reached("link.before-send")
        await self._call.write(encode_records(self._journal.journal_id, [e[1] for e in entries]))
        reached("link.after-send")
        self._cursor = entries[-1][0]
        return True

    def _until_next_stop(self) -> int:
        """How many entries may leave before something else has to stand between them."""
        stops = [self._hello.journal_sequence, self._live_texts.next_place() or 0]
        # A batch ends with the last entry that Hello told of: control then compares the inventory
        # with exactly what the host had said by then.
        return min(
            (stop - self._cursor for stop in stops if stop > self._cursor), default=BATCH_ENTRIES
        )

    async def _send(
        self,
        kind: Kind,
        *,
        complete: bool = True,
        hello: host_pb.Hello | None = None,
        inventory: host_pb.Inventory | None = None,
        live_texts: host_pb.LiveTexts | None = None,
        heartbeat: host_pb.Heartbeat | None = None,
        goodbye: host_pb.Goodbye | None = None,
    ) -> None:
        self._machine.send(kind, complete=complete)
        message = host_pb.ConnectRequest(
            hello=hello,
            inventory=inventory,
            live_texts=live_texts,
            heartbeat=heartbeat,
            goodbye=goodbye,
        )
        await self._call.write(message.SerializeToString())

    # --- time ---

    async def _watch_time(self) -> None:
        while True:
            await self._clock.sleep(max(0.0, self._machine.deadline() - self._clock.now()))
            beat = self._machine.tick(self._clock.now())
            if beat is not None:
                self._beat = beat
                self.wake()


def _parts(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """In parts of so many at most; one that is empty where there are none."""
    return [items[start : start + size] for start in range(0, max(1, len(items)), size)]


def encode_records(journal_id: str, records: Sequence[bytes]) -> bytes:
    """A serialized ConnectRequest{records} around Records that are serialized already."""
    parts = [_field(host_pb.Records.JOURNAL_ID_FIELD_NUMBER, journal_id.encode())]
    parts += [_field(host_pb.Records.RECORDS_FIELD_NUMBER, record) for record in records]
    return _field(host_pb.ConnectRequest.RECORDS_FIELD_NUMBER, b"".join(parts))


def _field(number: int, payload: bytes) -> bytes:
    """A length-delimited field of protobuf's wire format. `number` is at most 15."""
    head = bytearray([number << 3 | 2])
    length = len(payload)
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + payload
