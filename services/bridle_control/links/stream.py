"""One connection of a host: its reader, its committer, its writer and its watchman.

    reader     takes messages in order; Hello and Inventory it handles itself, the rest it hands on
    committer  commits Records in batches and hands live text on; in order (see `committer`)
    writer     the only one that writes: handshake, heartbeats, acknowledgements, commands, tokens
    watchman   the deadlines of the link machine, and the end when somebody asks for it

They live and end together, in one TaskGroup. All state that must outlive the stream is in the
store; this object is thrown away with it. Made by `Links` for `HostLinkService.Connect`; `Links`
says whether the host may come in.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Protocol

import grpc.aio

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle_control.clock import Clock, wait
from bridle_control.crash_points import reached
from bridle_control.interceptor import Context
from bridle_control.links.committer import Committer, LiveTextSink
from bridle_control.links.faults import (
    OverError,
    first_of,
    no_common_version,
    out_of_place,
    silent,
)
from bridle_control.links.handing import Outgoing, due_tokens, in_batches
from bridle_control.links.records import Batch
from bridle_control.links.welcome import Accepted, reconcile
from bridle_control.logs import kv
from bridle_control.store.api import CommandRow, ReadTx, Store
from bridle_core.errors import BridleError
from bridle_core.link import (
    Beat,
    CommandWindow,
    Kind,
    LinkMachine,
    ProtocolViolation,
    Side,
    Silence,
    Stage,
    negotiate,
)
from bridle_core.version import VERSION

_log = logging.getLogger("bridle.control.links")

#: How often it is looked whether a session needs a fresh token, in seconds.
_TOKENS_EVERY = 60.0
#: Sessions that one inventory may name: far more than any host admits.
_INVENTORY_MAX = 100_000
#: The same of sessions of which it keeps files.
_KEPT_MAX = 1_000_000
#: How long an end that was asked for may take until the host was told, in seconds.
_FAREWELL = 1.0
#: Entries that may wait for their acknowledgement, and how long it may be kept, in seconds. Nobody
#: waits for one, and a message for each of a host's answers would cost as much as the answer.
_ACK_ENTRIES = 500
_ACK_AFTER = 0.02
#: Commands that are taken at once.
_PAGE = 256


class Gatekeeper(Protocol):
    """What a stream needs of the registry."""

    async def enter(self, stream: HostStream, hello: wire.Hello) -> Accepted:
        """Lets the stream in as the host's newest. Raises HOST_TWIN, EPOCH_FENCED."""

    def opened(self, stream: HostStream) -> None:
        """The handshake is over: commands may flow."""


class HostStream:
    """See the module."""

    def __init__(
        self,
        host_id: str,
        *,
        store: Store,
        clock: Clock,
        sink: LiveTextSink,
        gatekeeper: Gatekeeper,
        wall_clock: Callable[[], int],
    ) -> None:
        self.host_id = host_id
        self.incarnation = ""
        self.attempt = 0
        self.epoch = 0
        #: Whether the handshake is over and commands may flow.
        self.ready = False
        #: Whether the host said Goodbye.
        self.said_goodbye = False
        self._store = store
        self._clock = clock
        self._gatekeeper = gatekeeper
        self._wall_clock = wall_clock
        self._machine = LinkMachine(Side.CONTROL, clock.now())
        self._committer = Committer(host_id, store, sink, self._committed)
        self._accepted: Accepted | None = None
        self._inventory: dict[str, wire.LiveSession] = {}
        self._kept: list[str] = []
        # Handshake, withdrawals, farewell: at most one for each command that is open.
        self._outbox: deque[wire.ConnectResponse] = deque()
        self._withdrawn: list[wire.ConnectResponse] = []
        self._beat: Beat | None = None
        # The newest alone counts, (journal, sequence); the timer runs while it is kept.
        self._ack: tuple[str, int] | None = None
        self._ack_timer: asyncio.TimerHandle | None = None
        self._acknowledged = 0
        #: The entry that has to be here before commands flow; None when they do, or never will.
        self._adopted: int | None = None
        self._window = CommandWindow()
        self._outgoing: Outgoing | None = None
        self._tokens_due = clock.now()
        self._wake = asyncio.Event()
        self._watch = asyncio.Event()
        self._heard = asyncio.Event()
        self._end: BridleError | None = None
        self._end_by = 0.0
        self._gone = asyncio.Event()

    # ------------------------------------------------------------ from outside, on the same loop

    async def run(self, requests: AsyncIterator[wire.ConnectRequest], context: Context) -> None:
        """Serves the stream until it ends. Raises BridleError where control ends it."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(requests))
                group.create_task(self._committer.run())
                group.create_task(self._write(context))
                group.create_task(self._keep_watch())
        except BaseExceptionGroup as raised:
            error = first_of(raised)
            if not isinstance(error, OverError):
                raise error from raised
        finally:
            self.ready, self._adopted = False, None
            if self._ack_timer is not None:
                self._ack_timer.cancel()
            self._gone.set()
            self._heard.set()  # whoever waits for a word waits no longer

    def silence(self) -> float:
        """Seconds since the host was heard last."""
        return self._clock.now() - self._machine.last_heard()

    def hint(self, rows: Sequence[CommandRow]) -> None:
        """A commit brought these commands for the host, in order."""
        if self._outgoing is not None:
            self._outgoing.tell(rows)
            self._wake.set()

    def say(self, message: wire.ConnectResponse) -> None:
        """Tells the host something that is not repeated. Only while the stream is ready."""
        self._say(message)

    def withdraw(self, command_id: str) -> None:
        """The command is not to be done any more, if it went out on this stream or before it."""
        if self._outgoing is not None:
            self._outgoing.withdraw(command_id)
        self._window.answered(command_id)
        told = wire.ConnectResponse(withdraw=wire.Withdraw(command_id=command_id))
        if self.ready:
            self._say(told)
        elif self._accepted is not None:
            self._withdrawn.append(told)  # its place is behind Reconcile

    def end(self, error: BridleError, *, goodbye: str = "") -> None:
        """Ends the stream with this error; `goodbye` is told to the host first."""
        if self._end is not None:
            return
        self._end, self._end_by = error, self._clock.now()
        if goodbye and self._accepted is not None:
            self._end_by += _FAREWELL
            self._say(wire.ConnectResponse(goodbye=wire.Goodbye(reason=goodbye)))
        self._watch.set()

    async def gone(self) -> None:
        """Waits until the stream has ended."""
        await self._gone.wait()

    async def answers(self, within: float) -> bool:
        """Whether the host says anything within so many seconds, after being asked."""
        if self._gone.is_set():
            return False
        self._heard.clear()
        if self.ready:
            self._beat = self._machine.probe(self._clock.now())
            self._wake.set()
        heard = await wait(self._heard, self._clock, self._clock.now() + within)
        return heard and not self._gone.is_set()

    # ------------------------------------------------------------ reader

    async def _read(self, requests: AsyncIterator[wire.ConnectRequest]) -> None:
        async for message in requests:
            name = message.WhichOneof("message")
            if name is None:
                continue  # of a newer host
            kind = Kind(name)
            self._receive(kind, message)
            if kind is Kind.HELLO:
                await self._greet(message.hello)
            elif kind is Kind.INVENTORY:
                await self._list(message.inventory)
            elif kind is Kind.GOODBYE:
                self.said_goodbye = True
            elif kind is not Kind.HEARTBEAT:
                await self._committer.put(message)
        # What was sent before the end is still committed, but nothing more is asked of the host.
        self.ready, self._adopted = False, None
        await self._committer.put(None)

    def _receive(self, kind: Kind, message: wire.ConnectRequest) -> None:
        try:
            answer = self._machine.receive(
                kind,
                self._clock.now(),
                complete=message.inventory.complete,
                count=message.heartbeat.count,
                received=message.heartbeat.received,
            )
        except ProtocolViolation as violation:
            raise out_of_place(str(violation)) from violation
        self._heard.set()
        if answer is not None:
            self._beat = answer
            self._wake.set()

    async def _greet(self, hello: wire.Hello) -> None:
        protocol = negotiate(hello.protocol_min, hello.protocol_max)
        if protocol is None:
            raise no_common_version()
        self.incarnation, self.attempt = hello.incarnation, hello.attempt
        accepted = await self._gatekeeper.enter(self, hello)
        self._accepted = accepted
        self.epoch = accepted.epoch
        self._committer.begin(accepted, hello)
        self._outgoing = Outgoing(self._store, self.host_id, self.epoch)
        welcome = wire.Welcome(
            protocol=protocol,
            epoch=accepted.epoch,
            host_id=self.host_id,
            journal_sequence=accepted.high_water,
            journal_lost=accepted.journal_lost,
            version=VERSION,
        )
        self._say(wire.ConnectResponse(welcome=welcome))

    async def _list(self, inventory: wire.Inventory) -> None:
        for live in inventory.sessions:
            self._inventory[live.session_id] = live
        self._kept += inventory.kept
        if len(self._inventory) > _INVENTORY_MAX or len(self._kept) > _KEPT_MAX:
            raise out_of_place("an inventory without end")
        if not inventory.complete:
            return
        accepted, sessions, self._inventory = self._accepted, self._inventory, {}
        assert accepted is not None  # the machine lets no inventory come before the welcome
        found = await self._store.write(lambda tx: reconcile(tx, accepted, sessions), urgent=True)
        kill = [wire.StaleRun(session_id=name, run=run) for name, run in found.kill]
        self._say(wire.ConnectResponse(reconcile=wire.Reconcile(kill=kill)))
        stale = dict(found.kill)
        runs = {name: live.run for name, live in sessions.items() if name not in stale}
        await self._committer.reconciled(runs, found.missing)
        await self._forget()
        # What of the open commands was lost with a journal is not known before.
        if accepted.adopted <= self._committer.high_water:
            self._open()
        else:
            self._adopted = accepted.adopted

    def _open(self) -> None:
        """From now on commands flow."""
        self.ready = True
        for told in self._withdrawn:
            self._say(told)
        self._withdrawn.clear()
        self._gatekeeper.opened(self)
        self._wake.set()

    async def _forget(self) -> None:
        """Tells the host which of the sessions that it keeps files of were deleted meanwhile.

        Only those of which the tombstone says so: what this control merely doesn't know may be of
        a time that it was set back from.
        """
        kept, self._kept = self._kept, []
        for start in range(0, len(kept), _PAGE):
            part = kept[start : start + _PAGE]
            gone = await self._store.read(partial(_deleted, part))
            if gone:
                self._say(wire.ConnectResponse(forget=wire.Forget(session_ids=gone)))

    # ------------------------------------------------------------ writer

    def _committed(self, batch: Batch) -> None:
        self._ack = (batch.journal_id, batch.last)
        if self._ack_timer is None:
            self._ack_timer = asyncio.get_running_loop().call_later(_ACK_AFTER, self._ack_is_due)
        if self._adopted is not None and batch.last >= self._adopted:
            self._adopted = None
            self._open()
        was_full = not self._window.room
        for command_id in batch.answered:
            self._window.answered(command_id)
        if was_full or batch.last - self._acknowledged >= _ACK_ENTRIES:
            self._wake.set()

    def _ack_is_due(self) -> None:
        self._ack_timer = None
        self._wake.set()

    def _say(self, message: wire.ConnectResponse) -> None:
        self._outbox.append(message)
        self._wake.set()

    async def _write(self, context: Context) -> None:
        while True:
            await wait(self._wake, self._clock, self._tokens_due if self.ready else None)
            self._wake.clear()
            while self._outbox:
                message = self._outbox.popleft()
                await self._put(context, message)
                if message.HasField("goodbye") and self._end is not None:
                    raise self._end
            if self._beat is not None:
                beat, self._beat = self._beat, None
                heartbeat = wire.Heartbeat(count=beat.count, received=beat.received)
                await self._put(context, wire.ConnectResponse(heartbeat=heartbeat))
            # (Not before Reconcile went out, which may have come into the outbox just now.)
            if self._machine.stage(Side.CONTROL) is Stage.OPEN:
                await self._write_open(context)

    async def _write_open(self, context: Context) -> None:
        if self._ack is not None and self._ack_wanted():
            (journal_id, sequence), self._ack = self._ack, None
            self._acknowledged = sequence
            acknowledge = wire.Acknowledge(journal_id=journal_id, journal_sequence=sequence)
            await self._put(context, wire.ConnectResponse(acknowledge=acknowledge))
            reached("links.after-ack")
        if self.ready and self._outgoing is not None:
            await self._hand_over(context, self._outgoing)
        if self.ready and self._clock.now() >= self._tokens_due:
            await self._refresh_tokens(context)

    def _ack_wanted(self) -> bool:
        """Whether it was kept long enough, or stands for many entries."""
        timer, count = self._ack_timer, 0 if self._ack is None else self._ack[1]
        return timer is None or count - self._acknowledged >= _ACK_ENTRIES

    async def _put(self, context: Context, message: wire.ConnectResponse) -> None:
        self._machine.send(Kind(str(message.WhichOneof("message"))))
        try:
            await context.write(message)
        except grpc.aio.BaseError:
            raise OverError from None  # the host is gone; the reader hears of it, too

    async def _hand_over(self, context: Context, outgoing: Outgoing) -> None:
        """Writes a page of commands; comes again when there may be more and there is room."""
        room = min(self._window.room, _PAGE)
        if not room or not outgoing.pending:
            return
        commands = await outgoing.take(room, self._wall_clock())
        self._window.select(command.command_id for command in commands)
        for batch in in_batches(commands):
            # (One may have been withdrawn while an earlier batch was written.)
            held = [each for each in batch if self._window.holds(each.command_id)]
            if held:
                await self._put(
                    context, wire.ConnectResponse(commands=wire.Commands(commands=held))
                )
        if outgoing.pending:
            self._wake.set()

    async def _refresh_tokens(self, context: Context) -> None:
        self._tokens_due = self._clock.now() + _TOKENS_EVERY
        for token in await due_tokens(self._store, self.host_id, self.epoch):
            await self._put(context, wire.ConnectResponse(session_token=token))

    # ------------------------------------------------------------ watchman

    async def _keep_watch(self) -> None:
        while True:
            until = self._machine.deadline()
            if self._end is not None:
                until = min(until, self._end_by)
            await wait(self._watch, self._clock, until)
            self._watch.clear()
            now = self._clock.now()
            if self._end is not None and now >= self._end_by:
                raise self._end
            if self._committer.blocked:
                self._machine.excuse(now)
            try:
                beat = self._machine.tick(now)
            except Silence:
                _log.warning("host is silent", extra=kv(host=self.host_id, epoch=self.epoch))
                raise silent() from None
            if beat is not None:
                self._beat = beat
                self._wake.set()


def _deleted(session_ids: Sequence[str], tx: ReadTx) -> list[str]:
    return [name for name in session_ids if tx.tombstone(name) is not None]
