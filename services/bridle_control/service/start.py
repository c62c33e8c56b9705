"""StartSession and Resume."""

from __future__ import annotations

from bridle.v1 import event_pb2, session_service_pb2
from bridle_control import caller as callers
from bridle_control.caller import session_of
from bridle_control.decisions import LIVE
from bridle_control.interceptor import Context
from bridle_control.projection import Projection
from bridle_control.receipts import find_known, request_key, to_receipt
from bridle_control.service.base import Verbs
from bridle_control.service.launching import Reach, Wish, resume, start
from bridle_control.service.queueing import check_input, prompt, queue_prompt
from bridle_control.store.api import CommandRow, Tx
from bridle_core.transcript import Transcript


class StartVerbs(Verbs):
    """See the module."""

    async def StartSession(
        self, request: session_service_pb2.StartSessionRequest, context: Context
    ) -> session_service_pb2.StartSessionResponse:
        """Starts a session; if the host refuses, nothing of it is left."""
        caller = callers.current()
        scope = request.workspace or caller.own_workspace
        key = request_key("StartSession", request, scope=scope, caller=caller)
        reach = Reach(self._links.live_hosts())

        def accept(tx: Tx) -> CommandRow:
            return find_known(tx, key) or start(tx, key, caller, request, reach)

        row = await self.answered(await self._store.write(accept), context)
        return session_service_pb2.StartSessionResponse(
            receipt=to_receipt(row), session=await self.session_now(row.session_id)
        )

    async def Resume(
        self, request: session_service_pb2.ResumeRequest, context: Context
    ) -> session_service_pb2.ResumeResponse:
        """Opens the next run; if the host refuses, the session is as it was."""
        caller = callers.current()
        scope = request.session.workspace or caller.own_workspace
        key = request_key("Resume", request, scope=scope, caller=caller)
        reach = Reach(self._links.live_hosts())
        native = request.mode == event_pb2.RESUME_MODE_NATIVE
        said = Transcript() if native else await self.transcript(caller, request.session)
        wish = Wish(request.mode, request.host, request.force, said)
        abandoned: list[str] = []

        def accept(tx: Tx) -> CommandRow:
            if known := find_known(tx, key):
                return known
            projection = Projection(tx)
            row = session_of(tx, caller, request.session)
            if row.phase in LIVE:
                abandoned.append(row.host_id)
            command, row = resume(projection, key, caller, row, wish, reach)
            new = prompt(tx, row, request.prompt)
            if new is not None:
                check_input(tx, row, new)
                queue_prompt(projection, row, key, new, live=True, parent=command.command_id)
            projection.flush()
            return command

        written = await self._store.write(accept)
        for host_id in abandoned:
            # It may have come back in between, and would go on with what is no longer its own.
            self._links.reconsider(host_id)
        row = await self.answered(written, context)
        return session_service_pb2.ResumeResponse(
            receipt=to_receipt(row), session=await self.session_now(row.session_id)
        )
