"""What a host tells, on its way into the store: in order, in batches, each entry once.

One per stream, run by it. It takes Records and live text from a short queue, commits what has come
in one transaction, and only then lets it be acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle.v1 import receipt_pb2
from bridle_control.crash_points import reached
from bridle_control.links.faults import OverError, out_of_place
from bridle_control.links.records import Batch, JournalGapError, commit, prepare
from bridle_control.links.welcome import Accepted, end_missing
from bridle_control.store.api import CommandState, ReadTx, Store, Urgency
from bridle_core.errors import BridleError, Reason

#: Messages that were read and not yet committed, and their bytes (but for one message, which has
#: at most 1 MiB). A host that sends faster than the disk takes is stopped by HTTP/2's flow control
#: behind this queue. Many, since they may be small: a host tells each event when it happens, and
#: where a commit takes long, all that came meanwhile has to fit into the next one.
_INBOX = 256
_INBOX_BYTES = 8 * 1024 * 1024
#: How often a batch is tried again that the store has no room for, in seconds.
_FULL_DELAY = 0.25
#: Verbs after which a host's agent says little more.
_SOON_OVER = frozenset({receipt_pb2.VERB_INTERRUPT, receipt_pb2.VERB_KILL})


class LiveTextSink(Protocol):
    """Where live text goes: the watch hub."""

    def add_live_text(
        self, session_id: str, turn: int, message_id: str, offset: int, text: str
    ) -> None:
        """A piece of a message that is being written, of the session's current run."""


class Committer:
    """See the module. `committed(batch)` is called after each commit, on the event loop."""

    def __init__(
        self,
        host_id: str,
        store: Store,
        sink: LiveTextSink,
        committed: Callable[[Batch], None],
    ) -> None:
        self._host_id = host_id
        self._store = store
        self._sink = sink
        self._told = committed
        self._inbox: asyncio.Queue[wire.ConnectRequest | None] = asyncio.Queue(_INBOX)
        self._held_bytes = 0
        self._drained = asyncio.Event()
        #: Whether the queue is full, so that the stream is not read.
        self.blocked = False
        self._accepted: Accepted | None = None
        self._journal_id = ""
        self._journal_end = 0
        self._high_water = 0
        # The host has an older copy of its journal: it must begin another one.
        self._stale = False
        # The live runs that are this host's, as far as its inventory and its records told; as many
        # as it has sessions at once.
        self._runs: dict[str, int] = {}
        self._missing: Mapping[str, int] = {}

    @property
    def high_water(self) -> int:
        """The newest entry of the journal that is committed."""
        return self._high_water

    # ------------------------------------------------------------ what the handshake found

    def begin(self, accepted: Accepted, hello: wire.Hello) -> None:
        """The stream was let in."""
        self._accepted = accepted
        self._journal_id = hello.journal_id
        self._journal_end = hello.journal_sequence
        self._high_water = accepted.high_water
        known = hello.journal_known if hello.HasField("journal_known") else hello.journal_sequence
        self._stale = accepted.journal_lost and accepted.high_water > known

    async def reconciled(self, runs: Mapping[str, int], missing: Mapping[str, int]) -> None:
        """The inventory was compared: the runs that the host has, and those that it lacks."""
        self._runs.update(runs)
        self._missing = missing
        await self._end_missing()

    async def put(self, message: wire.ConnectRequest | None) -> None:
        """Takes Records, LiveTexts or (None) the end of the stream, in order."""
        size = _size(message)
        while self._held_bytes and self._held_bytes + size > _INBOX_BYTES:
            self.blocked = True
            self._drained.clear()
            await self._drained.wait()
        self._held_bytes += size
        self.blocked = self._inbox.full()
        await self._inbox.put(message)
        self.blocked = False

    def _taken(self, message: wire.ConnectRequest | None) -> wire.ConnectRequest | None:
        """A message that was taken out of the queue: there is room for another."""
        self._held_bytes -= _size(message)
        self._drained.set()
        return message

    # ------------------------------------------------------------ at work

    async def run(self) -> None:
        """Commits until the stream's end was put in. Raises OverError then."""
        held: wire.ConnectRequest | None = None
        while True:
            message = held or self._taken(await self._inbox.get())
            held = None
            if message is None:
                raise OverError
            if message.HasField("live_texts"):
                self._show(message.live_texts)
                continue
            # What came while the last commit was on goes into one transaction.
            batch = [message.records]
            over = False
            while not self._inbox.empty():
                follower = self._taken(self._inbox.get_nowait())
                if follower is None or not follower.HasField("records"):
                    held, over = follower, follower is None
                    break
                batch.append(follower.records)
            await self._commit(batch)
            if over:
                raise OverError

    async def _commit(self, messages: Sequence[wire.Records]) -> None:
        accepted = self._accepted
        assert accepted is not None  # nothing is put in before the handshake
        if self._stale or any(each.journal_id != self._journal_id for each in messages):
            raise out_of_place("records of another journal than the one that goes on")
        try:
            batch = prepare(self._journal_id, self._high_water, messages)
            if batch.last >= batch.first:
                reached("links.before-commit")
                self._note(await self._write(accepted, batch))
                reached("links.after-commit")
        except JournalGapError as gap:
            raise out_of_place(str(gap)) from gap
        self._high_water = batch.last
        self._told(batch)
        await self._end_missing()

    async def _write(self, accepted: Accepted, batch: Batch) -> dict[str, int]:
        """Commits a batch. Where there is no room it waits for some: the stream is not read, and
        the host keeps what it has to tell; to end the stream would only have it told again."""
        urgency = Urgency.ORDINARY if batch.output else Urgency.LAST
        while True:
            try:
                return await self._store.write(
                    lambda tx: commit(tx, self._host_id, accepted.epoch, batch),
                    urgent=urgency is Urgency.LAST,
                    output=urgency is Urgency.OUTPUT,
                )
            except BridleError as error:
                if error.reason is not Reason.STORE_FULL:
                    raise
            if batch.output:
                urgency = await self._store.read(self._hurry)
            await asyncio.sleep(_FULL_DELAY)

    def _hurry(self, tx: ReadTx) -> Urgency:
        """Who waits for what stands behind the output that there is no room for."""
        urgency = Urgency.ORDINARY
        for row in tx.open_commands_of_host(self._host_id):
            if row.verb in _SOON_OVER or (
                row.verb == receipt_pb2.VERB_STOP and row.state < CommandState.ANSWERED
            ):
                return Urgency.LAST
            if row.verb == receipt_pb2.VERB_STOP:
                # The agent has its grace, and may speak on; it must not use up all that there is.
                urgency = Urgency.OUTPUT
        return urgency

    def _note(self, runs: Mapping[str, int]) -> None:
        for session_id, run in runs.items():
            if run:
                self._runs[session_id] = run
            else:
                self._runs.pop(session_id, None)

    async def _end_missing(self) -> None:
        """Once all that the host had journaled by its Hello is here, what it forgot is over."""
        accepted, missing = self._accepted, self._missing
        if accepted is None or not missing or self._high_water < self._journal_end:
            return
        self._missing = {}
        await self._store.write(lambda tx: end_missing(tx, accepted, missing), urgent=True)

    def _show(self, texts: wire.LiveTexts) -> None:
        for piece in texts.pieces:
            if self._runs.get(piece.session_id) == piece.run:
                self._sink.add_live_text(
                    piece.session_id, piece.turn, piece.message_id, piece.offset, piece.text
                )


def _size(message: wire.ConnectRequest | None) -> int:
    return 0 if message is None else message.ByteSize()
