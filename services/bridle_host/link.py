"""The host's link to control: dials, connects, and dials again, for as long as the host lives.

One channel, and one stream at a time on it. A stream is only begun on a channel that is connected:
calls that are made again and again on a channel whose server is away pile up in grpc. When a stream
has ended, the reason in its status decides (`redial_after`): dial again after a pause that grows
and has jitter, wait because a twin is connected, or give up. A pause begins anew only after a
stream that lived for a while, so a control that takes every stream and drops it isn't hammered.
After a silence the channel is made anew: what stands behind it may be a connection of which nobody
says that it is dead. So it is when it can't connect and its certificates were replaced.

A process that is told that another one has its identity's place tells its sessions so, and when it
has the place again; a stream that merely ended, or a control that is away, takes no place.

It may not know what the commands or the entries mean. `bridle_host.app` runs it; the sessions call
`live_text` only.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import grpc
from grpc import aio

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle.v1 import host_pb2
from bridle_core.errors import Reason
from bridle_core.link import (
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    TWIN_PAUSE,
    Backoff,
    ProtocolViolation,
    Redial,
    Silence,
    Standstill,
    redial_after,
)
from bridle_host.artifact_sender import send_artifact
from bridle_host.clock import Clock
from bridle_host.dial import CertificateError, Control
from bridle_host.journal import Journal
from bridle_host.link_stream import (
    Call,
    Incoming,
    JournalStale,
    LinkOverrun,
    LinkStream,
    Sent,
    VersionRefused,
)
from bridle_host.live_texts import LiveTexts
from bridle_host.logs import kv
from bridle_host.statuses import describe, metadata_of, reason_of

log = logging.getLogger("bridle.host.link")

#: Seconds between two looks whether the channel is connected by now.
LONGEST_LOOK = 0.1

CONNECT = "/bridle.host.v1.HostLinkService/Connect"

#: How the reason begins for which a host that was removed gives up.
CREDENTIAL_REFUSED = "control refuses this host's credential"

#: Commands, withdrawals and tokens that wait for the sessions at most: several times what any
#: control hands over without an answer.
INCOMING = 8192
#: Artifacts that are sent at once: twice what control asks for.
SENDING = 64
#: Seconds that a stream has to live for the pauses to begin anew.
STEADY = 5.0
#: Seconds that control gets to end the stream after our Goodbye.
GOODBYE_GRACE = 2.0


class LinkSessions(Protocol):
    """What the link needs of the sessions."""

    async def submit(self, command: host_pb.Command) -> None:
        """Takes a command. May wait, but not for an acknowledgement of the journal."""

    def withdraw(self, command_id: str) -> None:
        """Forgets a command that wasn't begun."""

    def inventory(self) -> list[host_pb.LiveSession]:
        """The live sessions. One leaves only when its SessionEnded is durable in the journal."""

    def kept(self) -> list[str]:
        """The sessions that are not live and of which there are files."""

    async def forget(self, session_ids: Sequence[str]) -> None:
        """Removes what is kept of sessions that are not live."""

    async def kill_stale(self, session_id: str, run: int) -> None:
        """Kills a run without a word to control."""

    def set_token(self, token: host_pb.SessionToken) -> None:
        """Takes a fresh token for a session."""

    def place_lost(self) -> None:
        """Another process has this host's place: begin nothing, and end before long. Idempotent."""

    def place_held(self) -> None:
        """This process has the place. Idempotent."""


class Link:
    """See the module. `hello` holds what doesn't change from stream to stream.

    `chance` gives random numbers from 0 to 1 for the jitter.
    """

    def __init__(
        self,
        *,
        control: Control,
        credential: str,
        hello: host_pb.Hello,
        journal: Journal,
        sessions: LinkSessions,
        runs: Path,
        clock: Clock,
        chance: Callable[[], float],
    ) -> None:
        self._control = control
        self._runs = runs
        self._metadata = (("authorization", f"Bearer {credential}"),)
        self._profile = hello
        self._journal = journal
        self._sessions = sessions
        self._clock = clock
        self._chance = chance
        self._backoff = Backoff()
        # Before anything is appended by this process: what was found in the journal.
        self._sent = Sent(journal.last_sequence)
        self._attempt = 0
        #: Of the files that the channel was made with.
        self._certificates: object = None
        # By the machine's own clock: it is about this process, not about what is waited for.
        self._standstill = Standstill(time.monotonic())
        self._live_texts = LiveTexts()
        self._stream: LinkStream | None = None
        self._incoming: asyncio.Queue[Incoming] = asyncio.Queue(INCOMING)
        self._killing: set[tuple[str, int]] = set()
        self._channel: aio.Channel | None = None
        #: Artifacts that are being sent.
        self._sending: set[asyncio.Task[None]] = set()
        self._group = asyncio.TaskGroup()
        self._keeper: asyncio.Task[str | None] | None = None
        self._ending = False
        # When the handshake of the stream was over; the end of time when it isn't.
        self._opened_at = math.inf
        #: How often the link came up.
        self.connections = 0
        # What was logged last: one line for a control that is away, not one for each attempt.
        self._told: str | None = None
        #: Set when the handshake of a stream is over for the first time.
        self.ready = asyncio.Event()
        journal.on_durable(self._wake)

    @property
    def connected(self) -> bool:
        """Whether a stream is up and its handshake over."""
        stream = self._stream  # (metrics are asked for from other threads)
        return stream is not None and stream.ready

    @property
    def streaming(self) -> bool:
        """Whether a stream is up, or on its way up."""
        return self._stream is not None

    def introduce(self, agents: Sequence[host_pb2.Agent]) -> None:
        """The agents that Hello tells of from now on. They change seldom: a stream that is up is
        ended for it and dialled anew, which is what happens all the time anyway."""
        del self._profile.agents[:]
        self._profile.agents.extend(agents)
        if self._stream is not None:
            self._stream.say_goodbye("its agents have changed")

    def live_text(self, piece: host_pb.LiveTextPiece) -> None:
        """Sends text of a message that is being written; it may be lost."""
        if self._stream is not None and self._stream.ready:
            self._live_texts.put(piece, self._journal.assigned_sequence)
            self._stream.wake()

    async def run(self) -> str | None:
        """Keeps the link up. Returns None after `end`, or why dialling again can't help, as one
        line for people."""
        async with self._group:
            self._keeper = self._group.create_task(self._keep_up())
            workers = [
                self._group.create_task(self._hand_over()),
                self._group.create_task(self._beat()),
            ]
            await asyncio.wait({self._keeper})
            for worker in (*workers, *self._sending):
                worker.cancel()
        return None if self._keeper.cancelled() else self._keeper.result()

    async def end(self, reason: str) -> None:
        """Says goodbye, where there is a stream, and ends `run`."""
        self._ending = True
        if self._keeper is None:
            return
        if self._stream is not None and self._stream.ready:
            self._stream.say_goodbye(reason)
            await asyncio.wait({self._keeper}, timeout=GOODBYE_GRACE)
        self._keeper.cancel()

    # --- connecting, again and again ---

    async def _keep_up(self) -> str | None:
        while not self._ending:
            self._certificates = self._control.signature()
            try:
                made = self._control.channel()
            except CertificateError as error:
                await self._pause(str(error), Redial.SOON)
                continue
            async with made as channel:
                self._channel = channel
                try:
                    final = await self._keep_up_on(channel)
                finally:
                    self._channel = None
            if final is not None:
                return final
        return None

    async def _keep_up_on(self, channel: aio.Channel) -> str | None:
        """Returns why no dialling helps, or None when a new channel is wanted, or the end is."""
        while not self._ending:
            dead = False
            try:
                if not await self._reach(channel):
                    return None
                await self._serve(channel)
                why, redial = "control ended the stream", Redial.SOON
            except JournalStale:
                await self._renew_journal()
                why, redial = "the journal is an old copy; it has a new id now", Redial.SOON
            except (aio.AioRpcError, *_ENDED_HERE) as error:
                why, redial = _judge(error, self._profile.incarnation)
                dead = isinstance(error, Silence)
            if redial is Redial.NEVER:
                return why
            if redial is Redial.LATER:
                self._sessions.place_lost()
            if not self._ending:
                await self._pause(why, redial)
            # (With TLS 1.3 a channel counts as connected before control has refused a certificate.)
            if dead or self._control.signature() != self._certificates:
                return None
        return None

    async def _renew_journal(self) -> None:
        """The journal is an old copy of itself. What this process found in it, or sent of it,
        control had before; only what was appended since is news."""
        self._journal.acknowledge(min(self._sent.newest, self._journal.last_sequence))
        await self._journal.renew()
        self._sent = Sent(0)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(Standstill.EVERY)
            self._standstill.beat(time.monotonic())

    async def _reach(self, channel: aio.Channel) -> bool:
        """Returns True when the channel is connected, which grpc tries again and again by itself;
        False when it isn't, and there are other certificates now."""
        pause = 0.001
        state = channel.get_state(try_to_connect=True)
        while state is not grpc.ChannelConnectivity.READY:
            if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                self._tell("control can't be reached")
                if self._control.signature() != self._certificates:
                    return False
            # Looked at, not waited for: a channel that fails again and again stays in this state.
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_LOOK)
            state = channel.get_state(try_to_connect=True)
        return True

    async def _serve(self, channel: aio.Channel) -> None:
        """One stream, from its begin to its end; see `LinkStream.run` for what it raises."""
        connect: aio.StreamStreamMultiCallable[bytes, host_pb.ConnectResponse]
        connect = channel.stream_stream(
            CONNECT,
            request_serializer=None,
            response_deserializer=host_pb.ConnectResponse.FromString,
        )
        call: Call = connect(metadata=self._metadata)
        self._opened_at = math.inf
        # The journal's end and the inventory are looked at in the same instant: a session is either
        # in the inventory, or what ended it is among the entries that Hello tells of.
        self._stream = LinkStream(
            call,
            hello=self._hello(),
            inventory=self._sessions.inventory(),
            kept=self._sessions.kept(),
            journal=self._journal,
            live_texts=self._live_texts,
            hand_over=self,
            clock=self._clock,
            sent=self._sent,
        )
        try:
            await self._stream.run()
        finally:
            self._stream = None
            self._journal.linked(False)
            self._live_texts.clear()
            if self._clock.now() - self._opened_at >= STEADY:
                self._backoff.reset()

    def _hello(self) -> host_pb.Hello:
        hello = host_pb.Hello()
        hello.CopyFrom(self._profile)
        hello.protocol_min, hello.protocol_max = PROTOCOL_MIN, PROTOCOL_MAX
        hello.journal_id = self._journal.journal_id
        hello.journal_sequence = self._journal.last_sequence
        hello.journal_floor = self._journal.floor
        hello.journal_adopted = min(self._journal.adopted, self._journal.last_sequence)
        hello.journal_known = min(self._sent.newest, self._journal.last_sequence)
        self._attempt += 1
        hello.attempt = self._attempt
        return hello

    async def _pause(self, why: str, redial: Redial) -> None:
        pause = TWIN_PAUSE if redial is Redial.LATER else self._backoff.next(self._chance())
        self._tell(why)
        await self._clock.sleep(pause)

    def _tell(self, why: str) -> None:
        if why != self._told:
            self._told = why
            log.warning("link is down", extra=kv(control=self._control.address, reason=why))

    def _wake(self) -> None:
        if self._stream is not None:
            self._stream.wake()

    # --- what the stream hands over ---

    def opened(self) -> None:
        """The handshake of the stream is over."""
        self._opened_at = self._clock.now()
        self.connections += 1
        self._told = None
        self._sessions.place_held()
        self._journal.linked(True)
        log.info("link is up", extra=kv(control=self._control.address))
        self.ready.set()

    def put(self, item: Incoming) -> None:
        """Takes a command, a withdrawal or a token for the sessions, without waiting."""
        if isinstance(item, host_pb.Command) and item.HasField("time_to_live"):
            _shorten(item, self._standstill.behind(time.monotonic()))
        try:
            self._incoming.put_nowait(item)
        except asyncio.QueueFull:
            raise LinkOverrun from None

    def kill_stale(self, runs: Sequence[host_pb.StaleRun]) -> None:
        """Has these runs killed, each once, however often they are named while it lasts."""
        for stale in runs:
            key = (stale.session_id, stale.run)
            if key not in self._killing:
                self._killing.add(key)
                self._group.create_task(self._kill(key))

    def send_artifact(self, wanted: host_pb.ReadArtifact) -> None:
        """Has an artifact sent on a stream of its own."""
        if self._channel is None or len(self._sending) >= SENDING:
            log.warning("an artifact is not sent", extra=kv(session=wanted.session_id))
            return  # (control gives up waiting for it)
        task = self._group.create_task(
            send_artifact(self._channel, self._metadata, self._runs, wanted)
        )
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    def forget(self, session_ids: Sequence[str]) -> None:
        """Has what is kept of deleted sessions removed."""
        self._group.create_task(self._sessions.forget(session_ids))

    async def _kill(self, key: tuple[str, int]) -> None:
        session_id, run = key
        log.warning("a stale run is killed", extra=kv(session=session_id, run=run))
        try:
            await self._sessions.kill_stale(session_id, run)
        finally:
            self._killing.discard(key)

    async def _hand_over(self) -> None:
        """Gives the sessions what came, in order: they may wait, the reader may not."""
        while True:
            item = await self._incoming.get()
            if isinstance(item, host_pb.Command):
                await self._sessions.submit(item)
            elif isinstance(item, host_pb.Withdraw):
                self._sessions.withdraw(item.command_id)
            else:
                self._sessions.set_token(item)


#: Ends of a stream that this side makes.
_ENDED_HERE = (Silence, ProtocolViolation, LinkOverrun, VersionRefused)


def _shorten(command: host_pb.Command, seconds: float) -> None:
    """Takes from a command's time to live what it may have waited to be read."""
    if seconds > 0.0:
        for life in (command.time_to_live, command.deliver.time_to_live):
            if life.ByteSize():
                life.FromNanoseconds(max(1, life.ToNanoseconds() - int(seconds * 1e9)))


def _judge(error: Exception, incarnation: str) -> tuple[str, Redial]:
    """Why a stream ended, as a line for people, and what is to be done."""
    if isinstance(error, aio.AioRpcError):
        reason = reason_of(error)
        by_itself = metadata_of(error).get("incarnation") == incarnation
        redial = redial_after(reason, by_itself=by_itself)
        if redial is Redial.LATER:
            return "another process is connected as this host", redial
        if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
            return f"{CREDENTIAL_REFUSED} ({describe(error)})", Redial.NEVER
        if reason is Reason.VERSION_UNSUPPORTED:
            return (
                f"control and this host speak no common version ({describe(error)})",
                Redial.NEVER,
            )
        return describe(error), redial
    if isinstance(error, VersionRefused):
        return "control and this host speak no common version", Redial.NEVER
    if isinstance(error, Silence):
        return "control was silent", Redial.SOON
    log.error("control broke the protocol of the link", extra=kv(error=error))
    return "control broke the protocol of the link", Redial.SOON
