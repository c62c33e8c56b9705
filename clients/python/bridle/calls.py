"""What the calls of the client have in common: references, content, durations, pages.

Called by the modules that hold the calls (session_calls.py, admin_calls.py) and by `Client`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from google.protobuf.duration_pb2 import Duration

from bridle.ids import uuid7
from bridle.transport import Request, Response, Transport
from bridle.v1 import content_pb2, session_pb2

if TYPE_CHECKING:
    import grpc

#: A session: its slug, or a reference (`by_id` makes one of an id).
SessionLike: TypeAlias = "str | session_pb2.SessionRef"
#: What to tell the agent: a text, or pieces of content.
ContentLike: TypeAlias = "str | Sequence[content_pb2.Content]"
#: A length of time: seconds or a timedelta.
DurationLike: TypeAlias = "float | timedelta"

#: Seconds that a call may take, all tries together, unless it says otherwise.
DEFAULT_TIMEOUT = 30.0

_Page = TypeVar("_Page")
_Item = TypeVar("_Item")


def by_id(session_id: str, workspace: str = "") -> session_pb2.SessionRef:
    """A session by its id, which never changes and is never used again."""
    return session_pb2.SessionRef(workspace=workspace, id=session_id)


def content_of(content: ContentLike) -> Sequence[content_pb2.Content]:
    """Pieces of content; none of an empty text."""
    if isinstance(content, str):
        return [content_pb2.Content(text=content)] if content else []
    return content


def duration_of(length: DurationLike | None) -> Duration | None:
    """A Duration; None stays None, which leaves the field unset."""
    if length is None:
        return None
    duration = Duration()
    span = length if isinstance(length, timedelta) else timedelta(seconds=length)
    duration.FromTimedelta(span)
    return duration


class Calls:
    """The part of `Client` that its groups of calls share."""

    def __init__(self, transport: Transport, workspace: str, timeout: float) -> None:
        self._transport = transport
        self._workspace = workspace
        self._timeout = timeout

    @property
    def address(self) -> str:
        """The address of control, "host:port"."""
        return self._transport.address

    @property
    def workspace(self) -> str:
        """The workspace of calls that name none; empty means the token's."""
        return self._workspace

    def ref(self, session: SessionLike) -> session_pb2.SessionRef:
        """The reference that a request carries."""
        if isinstance(session, str):
            return session_pb2.SessionRef(workspace=self._workspace, slug=session)
        if session.workspace or not self._workspace:
            return session
        whole = session_pb2.SessionRef(workspace=self._workspace)
        whole.MergeFrom(session)
        return whole

    @staticmethod
    def _request_id(given: str | None) -> str:
        """One id for all tries of a request: the caller's own, else a new one."""
        return given or uuid7()

    async def _call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float | None,
    ) -> Response:
        limit = self._timeout if timeout is None else timeout
        return await self._transport.call(method, request, limit)

    async def _pages(
        self,
        read: Callable[[str], Awaitable[_Page]],
        items: Callable[[_Page], Sequence[_Item]],
        token: Callable[[_Page], str],
    ) -> AsyncIterator[_Item]:
        """All items of a list, page by page. `read` takes the page token."""
        next_token = ""
        while True:
            page = await read(next_token)
            for item in items(page):
                yield item
            next_token = token(page)
            if not next_token:
                return
