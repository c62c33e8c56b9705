"""The calls of SessionService, but for the streams of events: one method for each RPC.

Each returns the contract's own response message. What every method shares: `timeout` is for all
tries together, in seconds; `request_id` is for callers that repeat a request themselves, over
restarts of their own process; each raises the exceptions of bridle.errors that its RPC lists in
session_service.proto.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from google.protobuf.field_mask_pb2 import FieldMask

from bridle.calls import (
    Calls,
    ContentLike,
    DurationLike,
    SessionLike,
    content_of,
    duration_of,
)
from bridle.transport import wait_of
from bridle.v1 import (
    event_pb2,
    input_pb2,
    receipt_pb2,
    session_pb2,
)
from bridle.v1 import session_service_pb2 as pb
from bridle.v1.session_service_pb2_grpc import SessionServiceStub

if TYPE_CHECKING:
    from bridle.v1.session_service_pb2_grpc import SessionServiceAsyncStub

#: Answers to `wait` come in steps of at most this many seconds, so that a broken connection is
#: noticed by its silence.
WAIT_STEP = 30.0


class SessionCalls(Calls):
    """The verbs, and what can be read about a session."""

    @cached_property
    def _sessions(self) -> SessionServiceAsyncStub:
        return SessionServiceStub(self._transport.channel)

    async def start_session(
        self,
        slug: str,
        *,
        agent: str,
        prompt: ContentLike = "",
        directory: str = "",
        host: str = "",
        agent_command: str = "",
        title: str = "",
        labels: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        policy: session_pb2.SessionPolicy | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> pb.StartSessionResponse:
        """Starts a session with an agent, on `host` (id or name) or where there is room."""
        request = pb.StartSessionRequest(
            request_id=self._request_id(request_id),
            workspace=self._workspace,
            slug=slug,
            agent=agent,
            agent_command=agent_command,
            host=host,
            directory=directory,
            prompt=content_of(prompt),
            title=title,
            labels=labels or {},
            policy=policy,
            environment=environment or {},
        )
        return await self._call(self._sessions.StartSession, request, timeout)

    async def get_session(
        self, session: SessionLike, *, timeout: float | None = None
    ) -> session_pb2.Session:
        """Reads one session."""
        request = pb.GetSessionRequest(session=self.ref(session))
        return (await self._call(self._sessions.GetSession, request, timeout)).session

    async def open_approvals(
        self, session: SessionLike, *, timeout: float | None = None
    ) -> Sequence[pb.OpenApproval]:
        """What the session's open approvals ask for, the oldest first."""
        request = pb.GetSessionRequest(session=self.ref(session))
        return (await self._call(self._sessions.GetSession, request, timeout)).approvals

    def list_sessions(
        self,
        filter: str = "",  # noqa: A002
        *,
        order_by: str = "",
    ) -> AsyncIterator[session_pb2.Session]:
        """Lists sessions, live and ended; `filter` such as "live = true AND agent = shell"."""

        async def read(token: str) -> pb.ListSessionsResponse:
            request = pb.ListSessionsRequest(
                workspace=self._workspace,
                page_token=token,
                filter=filter,
                order_by=order_by,
            )
            return await self._call(self._sessions.ListSessions, request, None)

        return self._pages(read, lambda page: page.sessions, lambda page: page.next_page_token)

    async def update_session(
        self,
        session: SessionLike,
        *,
        title: str | None = None,
        labels: Mapping[str, str] | None = None,
        policy: session_pb2.SessionPolicy | None = None,
        policy_fields: Sequence[str] = (),
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> pb.UpdateSessionResponse:
        """Changes what is given. `policy` counts whole, or only its `policy_fields`."""
        given = {"title": title, "labels": labels, "policy": policy}
        paths = [name for name, value in given.items() if value is not None]
        if policy is not None and policy_fields:
            paths.remove("policy")
            paths += [f"policy.{name}" for name in policy_fields]
        request = pb.UpdateSessionRequest(
            request_id=self._request_id(request_id),
            session=self.ref(session),
            update_mask=FieldMask(paths=paths),
            title=title or "",
            labels=labels or {},
            policy=policy,
        )
        return await self._call(self._sessions.UpdateSession, request, timeout)

    async def delete_session(
        self,
        session: SessionLike,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> pb.DeleteSessionResponse:
        """Deletes an ended session with its log."""
        request = pb.DeleteSessionRequest(
            request_id=self._request_id(request_id), session=self.ref(session)
        )
        return await self._call(self._sessions.DeleteSession, request, timeout)

    async def send(
        self,
        session: SessionLike,
        content: ContentLike,
        *,
        mode: input_pb2.InputMode.ValueType = input_pb2.INPUT_MODE_UNSPECIFIED,
        or_queue: bool = False,
        resume_if_ended: bool = False,
        time_to_live: DurationLike | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> pb.SendResponse:
        """Gives the agent an input: into its queue, or by `mode` into the turn or before others."""
        request = pb.SendRequest(
            request_id=self._request_id(request_id),
            session=self.ref(session),
            content=content_of(content),
            mode=mode,
            or_queue=or_queue,
            resume_if_ended=resume_if_ended,
            time_to_live=duration_of(time_to_live),
        )
        return await self._call(self._sessions.Send, request, timeout)

    async def interrupt(
        self,
        session: SessionLike,
        *,
        turn: int | None = None,
        after: session_pb2.AfterInterrupt.ValueType = session_pb2.AFTER_INTERRUPT_UNSPECIFIED,
        include_background: bool = False,
        grace: DurationLike | None = None,
        tree: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> pb.InterruptResponse:
        """Ends the turn that is on; the agent's process lives. The outcome says what it hit."""
        request = pb.InterruptRequest(
            request_id=self._request_id(request_id),
            session=self.ref(session),
            turn=turn,
            after=after,
            include_background=include_background,
            grace=duration_of(grace),
            tree=tree,
        )
        return await self._call(self._sessions.Interrupt, request, timeout)

    async def stop(
        self,
        session: SessionLike,
        *,
        grace: DurationLike | None = None,
        tree: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> pb.StopResponse:
        """Lets the agent finish its turn, at most for `grace`, and end."""
        request = pb.StopRequest(
            request_id=self._request_id(request_id),
            session=self.ref(session),
            grace=duration_of(grace),
            tree=tree,
        )
        return await self._call(self._sessions.Stop, request, timeout)

    async def kill(
        self,
        session: SessionLike,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> pb.KillResponse:
        """Ends the session and its children now."""
        request = pb.KillRequest(request_id=self._request_id(request_id), session=self.ref(session))
        return await self._call(self._sessions.Kill, request, timeout)

    async def resume(
        self,
        session: SessionLike,
        *,
        mode: event_pb2.ResumeMode.ValueType = event_pb2.RESUME_MODE_UNSPECIFIED,
        host: str = "",
        force: bool = False,
        prompt: ContentLike = "",
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> pb.ResumeResponse:
        """Opens the next run of an ended session."""
        request = pb.ResumeRequest(
            request_id=self._request_id(request_id),
            session=self.ref(session),
            mode=mode,
            host=host,
            force=force,
            prompt=content_of(prompt),
        )
        return await self._call(self._sessions.Resume, request, timeout)

    async def respond(
        self,
        session: SessionLike,
        approval_id: str,
        decision: event_pb2.ApprovalDecision.ValueType,
        *,
        message: str = "",
        rule: session_pb2.ApprovalRule | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> pb.RespondResponse:
        """Answers an approval: ALLOW, ALLOW_ALWAYS or DENY.

        rule: with ALLOW_ALWAYS what is allowed from now on, instead of this very call
        (`bridle.approvals.parse_rule` makes one of a text).
        """
        request = pb.RespondRequest(
            request_id=self._request_id(request_id),
            session=self.ref(session),
            approval_id=approval_id,
            decision=decision,
            message=message,
            rule=rule,
        )
        return await self._call(self._sessions.Respond, request, timeout)

    async def release_queue(
        self,
        session: SessionLike,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> pb.ReleaseQueueResponse:
        """Opens a held queue."""
        request = pb.ReleaseQueueRequest(
            request_id=self._request_id(request_id), session=self.ref(session)
        )
        return await self._call(self._sessions.ReleaseQueue, request, timeout)

    def list_inputs(
        self,
        session: SessionLike,
        filter: str = "",  # noqa: A002
        *,
        order_by: str = "",
    ) -> AsyncIterator[input_pb2.Input]:
        """Lists inputs in the order of the queue; `filter` such as "state = WAITING"."""

        async def read(token: str) -> pb.ListInputsResponse:
            request = pb.ListInputsRequest(
                session=self.ref(session), page_token=token, filter=filter, order_by=order_by
            )
            return await self._call(self._sessions.ListInputs, request, None)

        return self._pages(read, lambda page: page.inputs, lambda page: page.next_page_token)

    async def cancel_input(
        self,
        session: SessionLike,
        input_id: str,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> pb.CancelInputResponse:
        """Cancels an input that waits."""
        request = pb.CancelInputRequest(
            request_id=self._request_id(request_id), session=self.ref(session), input_id=input_id
        )
        return await self._call(self._sessions.CancelInput, request, timeout)

    def list_events(
        self,
        session: SessionLike,
        filter: str = "",  # noqa: A002
        *,
        after_sequence: int = 0,
        order_by: str = "",
    ) -> AsyncIterator[event_pb2.Event]:
        """Reads the log as it is now; `filter` such as "kind = TURN_ENDED"."""

        async def read(token: str) -> pb.ListEventsResponse:
            request = pb.ListEventsRequest(
                session=self.ref(session),
                page_size=1000,
                page_token=token,
                filter=filter,
                order_by=order_by,
                after_sequence=after_sequence,
            )
            return await self._call(self._sessions.ListEvents, request, None)

        return self._pages(read, lambda page: page.events, lambda page: page.next_page_token)

    async def get_command(
        self,
        command_id: str = "",
        *,
        request_id: str = "",
        wait: DurationLike | None = None,
        timeout: float | None = None,
    ) -> receipt_pb2.Receipt:
        """Reads a receipt by its id, or by the id of the caller's own request.

        `wait`: for its outcome; that long is added to the time that a call may take by default.
        """
        request = pb.GetCommandRequest(workspace=self._workspace, wait=duration_of(wait))
        if request_id:
            request.request_id = request_id
        else:
            request.command_id = command_id
        if timeout is None:
            timeout = self._timeout + wait_of(request)
        return (await self._call(self._sessions.GetCommand, request, timeout)).receipt

    async def wait(self, receipt: receipt_pb2.Receipt) -> receipt_pb2.Receipt:
        """Waits until the outcome of a receipt is decided, for as long as it takes."""
        while receipt.outcome.state == receipt_pb2.OUTCOME_STATE_PENDING:
            receipt = await self.get_command(receipt.command_id, wait=WAIT_STEP)
        return receipt
