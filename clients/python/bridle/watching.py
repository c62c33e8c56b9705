"""Watching: a stream of events that outlives its connections.

A `Watch` opens the stream, keeps the cursor of each session, and when the connection is lost opens
it again from there: over any number of losses each event comes once and in order. What it can't
promise it raises: CursorCompactedError, CursorForeignError, SessionNotFoundError and so on. Losses
in between are told by `updates` only. Made by `Client.watch`; does not touch the log itself.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self, TypeAlias

from grpc import aio

from bridle.errors import BridleError, Code, ConnectionLostError, from_rpc
from bridle.transport import Transport, is_broken
from bridle.v1 import event_pb2, session_pb2, watch_pb2

if TYPE_CHECKING:
    from bridle.v1.session_service_pb2_grpc import SessionServiceAsyncStub

#: Seconds without anything from control, which says something every 15 s, after which the
#: connection counts as lost.
SILENCE = 30.0
#: Seconds that control gets to end the stream of a watch that has told everything: it does at once,
#: but on a busy machine anybody may pause for some.
CLOSING = 10.0
#: Gaps in a row, each seen after a new connection, that show a broken log and not a bad moment.
GAPS_CAP = 5
#: Failures in a row before the first answer, after which a watch gives up; and times in a row that
#: it is refused although the token was made fresh.
FIRST_TRIES = 5


class Disconnected(NamedTuple):
    """The connection was lost; the watch goes on trying."""

    error: BridleError


class Connected(NamedTuple):
    """The stream is open, for the first time or again."""


Item: TypeAlias = (
    "event_pb2.Event | watch_pb2.LiveText | watch_pb2.Compacted | watch_pb2.Progress"
    " | Disconnected | Connected"
)


class Update(NamedTuple):
    """One thing that a watch tells. session_id is empty where the item is about all of them."""

    session_id: str
    item: Item


@dataclass(slots=True)
class Target:
    """One session of a watch and how far it was seen.

    cursor: the last sequence seen, exclusive start; None while only `tail` is known, the number of
    the newest events to begin with.
    """

    ref: session_pb2.SessionRef
    cursor: int | None = 0
    tail: int | None = None
    log_id: str = ""
    ended: bool = False
    # It begins at the floor, wherever that is, and nothing of it was told yet.
    _from_floor: bool = False

    def __post_init__(self) -> None:
        self._from_floor = self.cursor == 0

    def advance(self, sequence: int) -> None:
        """All up to `sequence` was told."""
        self.cursor = max(self.cursor or 0, sequence)
        self._from_floor = self._from_floor and not sequence

    def begin_at(self, floor: int) -> None:
        """The log begins there."""
        self.cursor = max(self.cursor or 0, floor - 1)

    @property
    def session_id(self) -> str:
        """Empty until the first answer has told it."""
        return self.ref.id

    def request(self) -> watch_pb2.WatchTarget:
        message = watch_pb2.WatchTarget(session=self.ref, log_id=self.log_id)
        if self.cursor is not None:
            # Not from behind the floor that it was told of: that may have risen since.
            message.after_sequence = 0 if self._from_floor else self.cursor
        elif self.tail is not None:
            message.tail = self.tail
        return message


class GapError(ConnectionLostError):
    """Something between two events did not come: the stream can't be trusted any further."""


class Watch:
    """An asynchronous iterator over the events of one session; `updates` tells everything.

    Use it once: `async for event in watch`, or `async with watch` to close it early.
    """

    def __init__(
        self,
        transport: Transport,
        stub: SessionServiceAsyncStub,
        targets: Sequence[Target],
        *,
        pin: Callable[[session_pb2.SessionRef], Awaitable[session_pb2.SessionRef]],
        until: watch_pb2.WatchUntil.ValueType,
        kinds: Iterable[event_pb2.EventKind.ValueType],
        live_text: bool,
        connect_timeout: float | None,
        silence: float = SILENCE,
    ) -> None:
        self._transport = transport
        self._stub = stub
        self._targets = list(targets)
        self._pin = pin
        self._until = until
        self._kinds = list(kinds)
        self._live_text = live_text
        self._connect_timeout = connect_timeout
        self._silence = silence
        self._fresh = True  # nothing of the current stream was seen yet
        self._gaps = 0
        self._renewed = 0  # times in a row that it was refused, and found another token
        self._updates = self._run()

    @property
    def targets(self) -> Sequence[Target]:
        """The sessions and their cursors: what was handed out, never what is still to come."""
        return self._targets

    @property
    def cursor(self) -> int:
        """The last sequence of the only, or first, session that was handed out."""
        return self._targets[0].cursor or 0

    def updates(self) -> AsyncIterator[Update]:
        """Everything that the watch tells, for all of its sessions."""
        return self._updates

    def __aiter__(self) -> AsyncIterator[event_pb2.Event]:
        return self._events()

    async def _events(self) -> AsyncIterator[event_pb2.Event]:
        async for update in self._updates:
            if isinstance(update.item, event_pb2.Event):
                yield update.item

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends the stream."""
        await self._updates.aclose()

    # --- the stream, over connections --------------------------------------------------------

    async def _run(self) -> AsyncGenerator[Update, None]:
        attempt = 0
        connected = False
        loop = asyncio.get_running_loop()
        patience = math.inf if self._connect_timeout is None else self._connect_timeout
        deadline = loop.time() + patience
        while True:
            metadata = None
            try:
                # Until the first success a wrong address should be told, later on not.
                await self._transport.ready(None if connected else deadline - loop.time())
                await self._pin_all()
                metadata = self._transport.metadata()
                async for update in self._stream(metadata):
                    if self._fresh:
                        self._fresh, connected, attempt = False, True, 0
                        self._renewed = 0
                        yield Update("", Connected())
                    yield update
                return
            except BridleError as error:
                attempt += 1
                late = attempt >= FIRST_TRIES or loop.time() >= deadline
                early = not connected and late
                if early or self._transport.closed or not self._goes_on(error, metadata):
                    raise
                lost = error
            if connected:
                yield Update("", Disconnected(lost))
            await self._transport.pause(attempt, lost)

    def _goes_on(self, error: BridleError, metadata: tuple[tuple[str, str], ...] | None) -> bool:
        if isinstance(error, GapError):
            self._gaps += 1
            return self._gaps < GAPS_CAP
        if metadata is not None and self._transport.renewed(error, metadata):
            self._renewed += 1
            return self._renewed < FIRST_TRIES
        return is_broken(error)

    async def _pin_all(self) -> None:
        """Fixes which sessions are meant, so that a slug that is deleted and taken again in
        between does not mix two logs. One alone is told by the first answer.
        """
        if len(self._targets) > 1:
            for target in self._targets:
                if not target.session_id:
                    target.ref = await self._pin(target.ref)

    async def _stream(self, metadata: tuple[tuple[str, str], ...]) -> AsyncGenerator[Update, None]:
        """One connection, until all targets have ended. Raises where it is lost."""
        self._fresh = True
        request = watch_pb2.WatchRequest(
            targets=[target.request() for target in self._targets if not target.ended],
            until=self._until,
            kinds=self._kinds,
            live_text=self._live_text,
        )
        call = self._stub.Watch(request, metadata=metadata)
        try:
            # (Of no targets at all none has ended: control refuses them.)
            while not self._targets or not all(target.ended for target in self._targets):
                try:
                    with self._transport.calling():
                        async with asyncio.timeout(self._silence):
                            response = await call.read()
                except TimeoutError as error:
                    raise ConnectionLostError(
                        f"nothing from {self._transport.address} for {self._silence:g} s"
                    ) from error
                except aio.AioRpcError as error:
                    raise from_rpc(error, self._transport.address) from error
                if not isinstance(response, watch_pb2.WatchResponse):  # the end of the stream
                    raise ConnectionLostError(f"{self._transport.address} broke off")
                for update in self._take(response):
                    yield update
            # Control ends the stream now. One that is broken off instead counts as failed: in
            # traces, say.
            with suppress(TimeoutError, aio.AioRpcError):
                async with asyncio.timeout(CLOSING):
                    await call.read()
        finally:
            call.cancel()

    # --- one answer --------------------------------------------------------------------------

    def _take(self, response: watch_pb2.WatchResponse) -> Iterable[Update]:
        """What an answer tells that was not told before. GapError: something is missing."""
        kind = response.WhichOneof("response")
        if kind == "events":
            yield from self._take_events(response.events)
        elif kind == "progress":
            target = self._target(response.progress.session_id, response.progress.log_id)
            self._take_progress(target, response.progress)
            yield Update(target.session_id, response.progress)
        elif kind == "compacted":
            target = self._target(response.compacted.session_id, response.compacted.log_id)
            target.begin_at(response.compacted.floor_sequence)
            yield Update(target.session_id, response.compacted)
        elif kind == "live_text":
            yield Update(response.live_text.session_id, response.live_text)

    def _take_events(self, batch: watch_pb2.EventBatch) -> Iterable[Update]:
        target = self._target(batch.session_id, batch.log_id)
        for event in batch.events:
            if target.cursor is not None:
                if event.sequence <= target.cursor:
                    continue  # told already, over an earlier connection
                if event.sequence != target.cursor + 1 and not self._kinds:
                    raise GapError(f"a gap after event {target.cursor}", code=Code.DATA_LOSS)
            target.advance(event.sequence)
            self._gaps = 0
            yield Update(target.session_id, event)

    def _take_progress(self, target: Target, progress: watch_pb2.Progress) -> None:
        if target.cursor is None or self._kinds:
            # Where a tail begins, or what `kinds` has left out.
            target.advance(progress.sequence)
        elif progress.sequence > target.cursor:
            raise GapError(f"a gap after event {target.cursor}", code=Code.DATA_LOSS)
        target.ended = target.ended or progress.ended

    def _target(self, session_id: str, log_id: str) -> Target:
        for target in self._targets:
            if target.session_id == session_id:
                target.log_id = target.log_id or log_id
                return target
        (target,) = self._targets  # several were pinned before
        workspace = target.ref.workspace
        target.ref = session_pb2.SessionRef(workspace=workspace, id=session_id)
        target.log_id = log_id
        return target
