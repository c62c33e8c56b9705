"""Watch and WatchSessions: what the hub and the feed make, written as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from bridle.v1 import watch_pb2
from bridle_control import caller as callers
from bridle_control.caller import Caller, may_see, session_of, workspace_of
from bridle_control.interceptor import Context
from bridle_control.service.base import Verbs
from bridle_control.service.reads import session_terms
from bridle_control.store.api import ReadTx
from bridle_control.watch.hub import Target
from bridle_core.rights import CredentialKind


class WatchVerbs(Verbs):
    """See the module. Both answer in bytes: they are registered without a response serializer."""

    async def Watch(
        self, request: watch_pb2.WatchRequest, context: Context
    ) -> AsyncIterator[bytes]:
        """Events of one or more sessions, from cursors, then live."""
        caller = callers.current()
        targets = await self._store.read(lambda tx: _targets(tx, caller, request))
        frames = self._hub.watch(
            targets,
            principal_key=caller.key,
            until_run_end=request.until == watch_pb2.WATCH_UNTIL_RUN_END,
            kinds=request.kinds,
            live_text=request.live_text,
        )
        async with aclosing(frames):
            async for frame in frames:
                yield frame

    async def WatchSessions(
        self, request: watch_pb2.WatchSessionsRequest, context: Context
    ) -> AsyncIterator[bytes]:
        """The workspace's sessions as they change; to a session's own token, those it may see."""
        caller = callers.current()
        terms = session_terms(request.filter)
        workspace = await self._store.read(lambda tx: workspace_of(tx, caller, request.workspace))

        def sees(tx: ReadTx, session_id: str) -> bool:
            return may_see(tx, caller, session_id)

        confined = caller.kind is CredentialKind.SESSION
        messages = self._feed.watch(
            workspace, terms, principal_key=caller.key, sees=sees if confined else None
        )
        async with aclosing(messages):
            async for message in messages:
                yield message


def _targets(tx: ReadTx, caller: Caller, request: watch_pb2.WatchRequest) -> list[Target]:
    made = []
    for target in request.targets:
        row = session_of(tx, caller, target.session)
        made.append(
            Target(
                row.session_id,
                after=target.after_sequence,
                tail=target.tail if target.WhichOneof("start") == "tail" else None,
                log_id=target.log_id,
            )
        )
    return made
