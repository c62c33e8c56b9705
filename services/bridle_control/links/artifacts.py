"""Artifacts on their way from a host to who reads them.

A read is opened by ReadArtifact; its host is told by the link, and comes with SendArtifact, whose
first message names the read by its secret id. What the host may send is granted as the reader takes
it: at most `WINDOW` bytes of a read are here, however slow the reader. Either end takes the other
along: a reader that goes ends the host's call, a host that goes ends the read with an error.

One per process, a part of `Links`; used from one event loop alone. It touches no rows and asks
nobody whether the caller may: ReadArtifact has.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager

import grpc.aio

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle_control.interceptor import Context
from bridle_control.links.faults import out_of_place
from bridle_core.errors import BridleError, Reason

#: Bytes of one read that may be here or on their way here.
WINDOW = 1024 * 1024
#: A host is told of more room when so many bytes were taken.
GRANT = 256 * 1024
#: Bytes that one message of a host may have; the contract says 256 KiB.
PIECE_MAX = 256 * 1024
#: Reads at once of one host's artifacts: with the window it bounds what they take here.
MOST_OF_HOST = 32
#: How long a host may take to begin, in seconds: it opens a file, and says so.
PATIENCE = 15.0
#: Seconds that a grant on its way to the host may take at the end of its call.
_LAST_WRITE = 2.0


class ArtifactRead:
    """One read, seen from both of its ends."""

    def __init__(self, host_id: str) -> None:
        self.host_id = host_id
        #: Known to us and the host alone.
        self.read_id = secrets.token_urlsafe(24)
        #: Whether a host's call has come for it; one may.
        self.claimed = False
        #: The artifact's size, once the host has said it.
        self.size: int | None = None
        self._missing = False
        self._pieces: deque[bytes] = deque()
        self._received = 0
        self._taken = 0
        self._done = False
        self._error: BridleError | None = None
        self._news = asyncio.Event()
        #: Set when the host may be told of more, or the read is over.
        self.granted = asyncio.Event()
        self.closed = False

    # ------------------------------------------------------------ the reader's end

    async def opened(self) -> int | None:
        """The artifact's size in bytes; None where there is none. Raises HOST_UNREACHABLE."""
        try:
            async with asyncio.timeout(PATIENCE):
                while self.size is None and not self._missing and self._error is None:
                    await self._wait()
        except TimeoutError:
            self.fail(unreachable("the artifact's host does not answer"))
        if self._error is not None and self.size is None:
            raise self._error
        return self.size

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The bytes, in order. Raises HOST_UNREACHABLE."""
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                yield piece
                self._taken += len(piece)
                self.granted.set()
            if self._done:
                return
            if self._error is not None:
                raise self._error
            await self._wait()

    async def _wait(self) -> None:
        self._news.clear()
        await self._news.wait()

    def close(self) -> None:
        """Nobody reads any more."""
        self.closed = True
        self._pieces.clear()
        self.granted.set()

    # ------------------------------------------------------------ the host's end

    @property
    def allowed(self) -> int:
        """How many bytes the host may have sent in all."""
        return self._taken + WINDOW

    def take(self, message: wire.SendArtifactRequest) -> bool:
        """Takes what the host says; False after the last. Raises VERSION_UNSUPPORTED."""
        kind = message.WhichOneof("message")
        begun = self.size is not None or self._missing
        if kind == "opened" and not begun:
            self.size = message.opened.size
        elif kind == "missing" and not begun:
            self._missing = self._done = True
        elif kind == "data" and self.size is not None:
            self._received += len(message.data)
            if len(message.data) > PIECE_MAX or self._received > self.allowed:
                raise out_of_place("more of an artifact than was asked for")
            self._pieces.append(message.data)
        elif kind == "done" and self.size is not None:
            self._done = True
        elif kind is not None:
            raise out_of_place(f"{kind} while an artifact is sent")
        self._news.set()
        return not self._done

    def fail(self, error: BridleError) -> None:
        """The host won't say any more."""
        if not self._done and self._error is None:
            self._error = error
        self._news.set()
        self.granted.set()

    @property
    def over(self) -> bool:
        """Whether the host's call may end."""
        return self.closed or self._error is not None


class ArtifactReads:
    """See the module."""

    def __init__(self) -> None:
        self._reads: dict[str, ArtifactRead] = {}
        self._of_host: Counter[str] = Counter()

    @contextmanager
    def reading(self, host_id: str) -> Iterator[ArtifactRead]:
        """A read, for as long as somebody reads. Raises RATE_LIMITED."""
        if self._of_host[host_id] >= MOST_OF_HOST:
            raise BridleError(
                Reason.RATE_LIMITED,
                f"{MOST_OF_HOST} artifacts of this host are being read; try again",
                retry_after=1.0,
            )
        read = ArtifactRead(host_id)
        self._reads[read.read_id] = read
        self._of_host[host_id] += 1
        try:
            yield read
        finally:
            read.close()
            del self._reads[read.read_id]
            self._of_host[host_id] -= 1
            if not self._of_host[host_id]:
                del self._of_host[host_id]

    def host_lost(self, host_id: str) -> None:
        """The host can't be reached any more: its reads end."""
        for read in self._reads.values():
            if read.host_id == host_id:
                read.fail(unreachable("the artifact's host went away"))

    async def serve(
        self, host_id: str, requests: AsyncIterator[wire.SendArtifactRequest], context: Context
    ) -> None:
        """A host's call, until the artifact is sent or nobody reads it any more.

        Raises ARTIFACT_NOT_FOUND where nobody waits for it, VERSION_UNSUPPORTED.
        """
        try:
            first = await anext(requests)
        except StopAsyncIteration:
            raise _unasked() from None
        read = self._reads.get(first.read_id)
        if read is None or read.host_id != host_id or read.claimed:
            raise _unasked()
        read.claimed = True
        try:
            if not read.take(first):
                return
            wrong: BridleError | None = None
            async with asyncio.TaskGroup() as group:
                taking = group.create_task(_take(read, requests))
                granting = group.create_task(_grant(read, context))
                both = {taking, granting}
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                _break_off(read)
                # It ends by that. To cancel a write on its way would leave it to grpc, which then
                # refuses to end the call.
                await asyncio.wait({granting}, timeout=_LAST_WRITE)
                wrong = taking.result() if taking.done() else None
                for task in both:
                    task.cancel()
            if wrong is not None:
                raise wrong
        finally:
            _break_off(read)


def _break_off(read: ArtifactRead) -> None:
    # After Done it changes nothing. (A lost channel looks like a plain end at first.)
    read.fail(unreachable("the artifact's host broke off"))


async def _take(
    read: ArtifactRead, requests: AsyncIterator[wire.SendArtifactRequest]
) -> BridleError | None:
    """Takes what comes until the end; the answer says what broke the rules."""
    try:
        async for message in requests:
            if not read.take(message):
                return None
    except BridleError as error:
        return error
    return None


async def _grant(read: ArtifactRead, context: Context) -> None:
    told = 0
    while True:
        read.granted.clear()
        if read.over:
            return
        if read.allowed < told + GRANT:
            await read.granted.wait()
            continue
        told = read.allowed
        try:
            await context.write(wire.SendArtifactResponse(allowed=told))
        except grpc.aio.BaseError:
            return  # the host is gone


def _unasked() -> BridleError:
    return BridleError(Reason.ARTIFACT_NOT_FOUND, "nobody waits for this artifact")


def unreachable(text: str) -> BridleError:
    """The host of an artifact is not there."""
    return BridleError(Reason.HOST_UNREACHABLE, text, retry_after=1.0)
