"""ReadArtifact: what a run left behind, from its host to the caller.

Control keeps no artifacts. The log says which there are and which host had the run; the bytes come
from there, through `links.artifacts`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle.v1 import event_pb2, session_service_pb2
from bridle_control import caller as callers
from bridle_control.caller import Caller, session_of
from bridle_control.interceptor import Context
from bridle_control.links.artifacts import unreachable
from bridle_control.service.base import Verbs
from bridle_control.store.api import ReadTx, SessionRow, Term
from bridle_control.store.event_bytes import unframe
from bridle_core.errors import BridleError, Reason

_REPORTED = (event_pb2.EVENT_KIND_ARTIFACTS_REPORTED,)
_OPENED = (event_pb2.EVENT_KIND_SESSION_STARTED, event_pb2.EVENT_KIND_SESSION_RESUMED)


@dataclass(frozen=True, slots=True)
class _Found:
    session_id: str
    run: int
    host_id: str


class ArtifactVerbs(Verbs):
    """See the module."""

    async def ReadArtifact(
        self, request: session_service_pb2.ReadArtifactRequest, context: Context
    ) -> AsyncIterator[session_service_pb2.ReadArtifactResponse]:
        """An artifact, in pieces, the first of which tells its size."""
        caller = callers.current()
        found = await self._store.read(lambda tx: _find(tx, caller, request))
        with self._links.artifacts.reading(found.host_id) as read:
            wanted = wire.ReadArtifact(
                read_id=read.read_id,
                session_id=found.session_id,
                run=found.run,
                name=request.name,
                offset=request.offset,
            )
            if not self._links.read_artifact(found.host_id, wanted):
                raise unreachable("the artifact's host is away")
            size = await read.opened()
            if size is None:
                raise _not_found(request)
            yield session_service_pb2.ReadArtifactResponse(size=size)
            async with aclosing(read.pieces()) as pieces:
                async for piece in pieces:
                    yield session_service_pb2.ReadArtifactResponse(data=piece)


def _find(tx: ReadTx, caller: Caller, request: session_service_pb2.ReadArtifactRequest) -> _Found:
    """Where the artifact is. Raises SESSION_NOT_FOUND, ARTIFACT_NOT_FOUND."""
    row = session_of(tx, caller, request.session)
    event = _newest(tx, row.session_id, _REPORTED, request.run)
    if event is None:
        raise _not_found(request)
    if all(artifact.name != request.name for artifact in event.artifacts_reported.artifacts):
        raise _not_found(request)
    return _Found(row.session_id, event.run, _host_of(tx, row, event.run))


def _host_of(tx: ReadTx, row: SessionRow, run: int) -> str:
    """The host that had a run."""
    if run == row.run:
        return row.host_id
    event = _newest(tx, row.session_id, _OPENED, run)
    if event is None:
        return row.host_id  # retention took it; most sessions stay where they are
    return event.session_started.host_id or event.session_resumed.host_id or row.host_id


def _newest(tx: ReadTx, session_id: str, kinds: Sequence[int], run: int) -> event_pb2.Event | None:
    """The newest event of these kinds, of this run where it isn't 0; None for none."""
    newest = tx.newest_of(session_id, kinds)
    terms = (Term("run", run),) if run else ()
    after = newest + 1
    while newest:
        found = tx.events(session_id, after, kinds=kinds, terms=terms, descending=True, limit=1)
        if found.framed:
            return event_pb2.Event.FromString(unframe(found.framed[0]))
        if not found.more:
            break
        after = found.scanned
    return None


def _not_found(request: session_service_pb2.ReadArtifactRequest) -> BridleError:
    return BridleError(
        Reason.ARTIFACT_NOT_FOUND,
        f'no artifact "{request.name}"' + (f" of run {request.run}" if request.run else ""),
        metadata={"artifact": request.name},
    )
