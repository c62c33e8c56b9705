"""The links that are up: who may come in, who is told of commands, when a host counts as lost.

One per process. It holds no truth: which connection is a host's newest is decided in the store (the
epoch), and everything that a link must do is in rows. The verbs ask it whether a host can be
reached, and the store's commits are passed on to the links as hints.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle_control.clock import Clock, SystemClock, wait
from bridle_control.links.artifacts import ArtifactReads
from bridle_control.links.committer import LiveTextSink
from bridle_control.links.faults import reconsidered, twin
from bridle_control.links.handing import is_to_send
from bridle_control.links.stream import HostStream
from bridle_control.links.welcome import Accepted, accept, fenced, mark_lost, note_last_seen
from bridle_control.logs import kv
from bridle_control.status import shutting_down
from bridle_control.store.api import Changes, ReadTx, Store
from bridle_core.errors import BridleError
from bridle_core.link_place import Door, Knock

_log = logging.getLogger("bridle.control.links")

#: How long after its link's end a host counts as lost, in seconds.
LOST_AFTER = 10.0
#: How long a twin that was turned away is told of, in ns: it comes again every 15 s while it lives.
TWIN_TOLD_NS = 300 * 10**9
#: How often a twin is logged, in seconds.
_TWIN_LOGGED = 60.0
#: How long the old connection of a host may take to show that it lives, in seconds, when another
#: process comes with the same identity. A host that lives answers from its event loop at once.
PROBE = 2.0


class _Place:
    """Who of the processes with a host's identity has its place, and who wanted it."""

    __slots__ = ("door", "lock", "logged_at", "twin_time")

    def __init__(self) -> None:
        #: One newcomer at a time.
        self.lock = asyncio.Lock()
        self.door = Door()
        #: When a twin was turned away, in ns since the epoch; 0: never.
        self.twin_time = 0
        self.logged_at = -math.inf


class Links:
    """See the module. Used from one event loop alone."""

    def __init__(
        self,
        store: Store,
        sink: LiveTextSink,
        *,
        clock: Clock | None = None,
        wall_clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """`wall_clock`: nanoseconds since the epoch; must be the clock of the store."""
        self._store = store
        self._sink = sink
        self._clock = clock or SystemClock()
        self._wall_clock = wall_clock
        self._streams: dict[str, HostStream] = {}
        # Bounded by the number of hosts that ever came.
        self._places: dict[str, _Place] = {}
        # When each host whose link is down counts as lost.
        self._lost_at: dict[str, float] = {}
        # Hosts whose link has ended, and since when (ns since the epoch); not noted yet.
        self._left: dict[str, int] = {}
        self._wake = asyncio.Event()
        self._listeners: list[Callable[[str], None]] = []
        self._closed = False
        #: Artifacts on their way from hosts to who reads them.
        self.artifacts = ArtifactReads()
        store.listen(self._changed)

    # ------------------------------------------------------------ for the verbs

    def is_live(self, host_id: str) -> bool:
        """Whether commands reach the host now."""
        stream = self._streams.get(host_id)
        return stream is not None and stream.ready

    def live_hosts(self) -> frozenset[str]:
        """The ids of all hosts that can be reached."""
        return frozenset(host for host, stream in self._streams.items() if stream.ready)

    def silence(self, host_id: str) -> float | None:
        """Seconds since the host was heard last; None where its link is down."""
        stream = self._streams.get(host_id)
        return None if stream is None else stream.silence()

    def withdraw(self, host_id: str, command_id: str) -> None:
        """Tells the host not to do a command that it may not have begun."""
        stream = self._streams.get(host_id)
        if stream is not None:
            stream.withdraw(command_id)

    def read_artifact(self, host_id: str, wanted: wire.ReadArtifact) -> bool:
        """Tells the host that somebody wants to read an artifact. False where it is away."""
        stream = self._streams.get(host_id)
        if stream is None or not stream.ready:
            return False
        stream.say(wire.ConnectResponse(read_artifact=wanted))
        return True

    def forget(self, session_id: str) -> None:
        """A session was deleted: whatever host has files of it removes them. One that is away now
        hears of it when it comes, see `HostStream`."""
        told = wire.ConnectResponse(forget=wire.Forget(session_ids=[session_id]))
        for stream in self._streams.values():
            if stream.ready:
                stream.say(told)

    def reconsider(self, host_id: str) -> None:
        """Has the host come again, if it is here or on its way in: a run of its was given up, and
        it may have been told before that what it has goes on."""
        stream = self._streams.get(host_id)
        if stream is not None:
            stream.end(reconsidered())

    def twin_time(self, host_id: str) -> int:
        """When a twin of the host was turned away, in ns since the epoch; 0: not of late."""
        place = self._places.get(host_id)
        late = place is None or place.twin_time < self._wall_clock() - TWIN_TOLD_NS
        return 0 if place is None or late else place.twin_time

    def listen(self, listener: Callable[[str], None]) -> None:
        """Calls `listener(host_id)` on the loop when a host can be reached, or no longer can."""
        self._listeners.append(listener)

    # ------------------------------------------------------------ for the service

    def stream(self, host_id: str) -> HostStream:
        """A new connection of a host, which is not let in yet. Raises SHUTTING_DOWN."""
        if self._closed:
            raise shutting_down()
        return HostStream(
            host_id,
            store=self._store,
            clock=self._clock,
            sink=self._sink,
            gatekeeper=self,
            wall_clock=self._wall_clock,
        )

    async def enter(self, stream: HostStream, hello: wire.Hello) -> Accepted:
        """Lets the stream in as the host's newest. Raises HOST_TWIN, EPOCH_FENCED, TOKEN_REVOKED.

        The same incarnation replaces its own old stream. Another one may only when the old one is
        dead, and not twice in a short time: two processes with one identity would throw each other
        out for ever.
        """
        host_id = stream.host_id
        place = self._places.setdefault(host_id, _Place())
        async with place.lock:
            old = self._streams.get(host_id)
            await self._check_place(place, old, stream, hello)
            accepted = await self._store.write(lambda tx: accept(tx, host_id, hello), urgent=True)
            place.door.entered(hello.incarnation, hello.attempt, self._clock.now())
            if old is not None:
                old.end(fenced(accepted.epoch, hello.incarnation))
            self._streams[host_id] = stream
        if accepted.journal_lost:
            _log.warning("a host's journal is lost", extra=kv(host=host_id))
        return accepted

    async def _check_place(
        self, place: _Place, old: HostStream | None, stream: HostStream, hello: wire.Hello
    ) -> None:
        """Raises what one who may not come in is told."""
        knock = place.door.knock(hello.incarnation, hello.attempt, self._clock.now())
        if old is None or knock is Knock.ENTER:
            return
        if knock is Knock.STALE:
            raise fenced(old.epoch, old.incarnation)
        if knock is Knock.PROBE and not await old.answers(PROBE):
            return
        place.twin_time = self._wall_clock()
        now = self._clock.now()
        if now >= place.logged_at + _TWIN_LOGGED:
            place.logged_at = now
            told = kv(host=stream.host_id, epoch=old.epoch, turned_away=hello.incarnation)
            _log.warning("a second process has a host's identity", extra=told)
        raise twin(stream.host_id)

    def opened(self, stream: HostStream) -> None:
        """The stream's handshake is over."""
        if self._streams.get(stream.host_id) is stream:
            self._lost_at.pop(stream.host_id, None)
            _log.info("linked", extra=kv(host=stream.host_id, epoch=stream.epoch))
            self._tell(stream.host_id)

    def left(self, stream: HostStream) -> None:
        """The stream has ended."""
        host_id = stream.host_id
        if self._streams.get(host_id) is not stream:
            return  # a newer one took its place, or it was never let in
        del self._streams[host_id]
        self._places[host_id].door.left(stream.incarnation, stream.attempt)
        self._left[host_id] = self._wall_clock()
        _log.info("link ended", extra=kv(host=host_id, goodbye=stream.said_goodbye))
        self._lose_later(host_id)
        self._tell(host_id)

    def _tell(self, host_id: str) -> None:
        if not self.is_live(host_id):
            self.artifacts.host_lost(host_id)
        for listener in self._listeners:
            listener(host_id)

    def _changed(self, changes: Changes) -> None:
        # (In an order that hangs on no hash: a simulated story must be the same each time.)
        for host_id in sorted(changes.hosts & self._streams.keys()):
            rows = [row for row in changes.commands.values() if row.host_id == host_id]
            self._streams[host_id].hint([row for row in rows if is_to_send(row)])

    # ------------------------------------------------------------ hosts that are lost

    async def run(self) -> None:
        """Says HostLost of hosts whose link stays down, until cancelled."""
        for host_id in await self._store.read(_hosts_with_live_sessions):
            if not self.is_live(host_id):
                self._lose_later(host_id)
        while True:
            soonest = min(self._lost_at.values(), default=None)
            await wait(self._wake, self._clock, soonest)
            self._wake.clear()
            await self._note_last_seen()
            now = self._clock.now()
            for host_id in [host for host, when in self._lost_at.items() if when <= now]:
                del self._lost_at[host_id]
                # One that is in its handshake is heard, and may be compared already: what is said
                # now would stand behind that, of a host that is here. When it leaves it is told.
                if host_id not in self._streams:
                    await self._lose(host_id)

    async def _note_last_seen(self) -> None:
        left, self._left = self._left, {}
        if left:
            with suppress(BridleError):  # (a line for people; nothing hangs on it)
                await self._store.write(lambda tx: note_last_seen(tx, left))

    async def _lose(self, host_id: str) -> None:
        try:
            await self._store.write(lambda tx: mark_lost(tx, host_id), urgent=True)
        except BridleError as error:
            # The store refuses at present (it is full, say); the sessions are told when it takes.
            _log.warning("a lost host was not noted", extra=kv(host=host_id, reason=error.reason))
            self._lose_later(host_id)

    def _lose_later(self, host_id: str) -> None:
        # From when it was linked last: one that comes and goes in its handshake gains no time.
        self._lost_at.setdefault(host_id, self._clock.now() + LOST_AFTER)
        self._wake.set()

    # ------------------------------------------------------------ the end

    async def close(self) -> None:
        """Says goodbye to all hosts and waits until their streams have ended; takes no new ones."""
        self._closed = True
        streams = list(self._streams.values())
        for stream in streams:
            stream.end(shutting_down(), goodbye="control is shutting down")
        for stream in streams:
            await stream.gone()


def _hosts_with_live_sessions(tx: ReadTx) -> list[str]:
    return [host.host_id for host in tx.hosts(None) if host.live_sessions and not host.lost]
