"""Respond, ReleaseQueue, UpdateSession and DeleteSession."""

from __future__ import annotations

from dataclasses import replace

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle.v1 import event_pb2, receipt_pb2, session_pb2, session_service_pb2
from bridle_control import caller as callers
from bridle_control import outcomes, tree
from bridle_control.approvals import as_asked, rule_of_answer
from bridle_control.caller import Caller, session_of
from bridle_control.decisions import Verdict
from bridle_control.filters import invalid
from bridle_control.interceptor import Context
from bridle_control.projection import Projection
from bridle_control.receipts import (
    RequestKey,
    find_known,
    new_command,
    ran,
    request_key,
    to_receipt,
)
from bridle_control.render import policy_of
from bridle_control.service.base import Verbs, check, insert, verdict_on
from bridle_control.service.launching import Reach
from bridle_control.store.api import ApprovalRow, CommandRow, SessionRow, Tx
from bridle_core.errors import BridleError, Reason

_POLICY = "policy."


class OtherVerbs(Verbs):
    """See the module."""

    async def Respond(
        self, request: session_service_pb2.RespondRequest, context: Context
    ) -> session_service_pb2.RespondResponse:
        """Answers an approval; the first answer wins."""
        caller = callers.current()
        scope = request.session.workspace or caller.own_workspace
        key = request_key("Respond", request, scope=scope, caller=caller)
        reach = Reach(self._links.live_hosts())

        def accept(tx: Tx) -> CommandRow:
            if known := find_known(tx, key):
                return known
            row = session_of(tx, caller, request.session)
            rule = rule_of_answer(tx, row, _open_approval(tx, row, request.approval_id), request)
            action = wire.ResolveApproval(
                approval_id=request.approval_id,
                decision=request.decision,
                message=request.message,
                rule=rule,
            )
            return _command(
                tx, key, receipt_pb2.VERB_RESPOND, row, wire.Command(resolve=action), reach
            )

        row = await self._store.write(accept, urgent=True)
        return session_service_pb2.RespondResponse(receipt=await self.receipt(row, context))

    async def ReleaseQueue(
        self, request: session_service_pb2.ReleaseQueueRequest, context: Context
    ) -> session_service_pb2.ReleaseQueueResponse:
        """Opens a HELD queue."""
        caller = callers.current()
        scope = request.session.workspace or caller.own_workspace
        key = request_key("ReleaseQueue", request, scope=scope, caller=caller)
        reach = Reach(self._links.live_hosts())

        def accept(tx: Tx) -> CommandRow:
            if known := find_known(tx, key):
                return known
            row = session_of(tx, caller, request.session)
            verb = receipt_pb2.VERB_RELEASE_QUEUE
            check(tx, verb, row)
            action = wire.Command(release=wire.ReleaseQueue())
            return _command(tx, key, verb, row, action, reach)

        row = await self._store.write(accept)
        return session_service_pb2.ReleaseQueueResponse(receipt=await self.receipt(row, context))

    async def UpdateSession(
        self, request: session_service_pb2.UpdateSessionRequest, context: Context
    ) -> session_service_pb2.UpdateSessionResponse:
        """Changes title, labels or policy: here at once, on the host by a command."""
        caller = callers.current()
        scope = request.session.workspace or caller.own_workspace
        key = request_key("UpdateSession", request, scope=scope, caller=caller)
        reach = Reach(self._links.live_hosts())
        _check_mask(request)

        def accept(tx: Tx) -> CommandRow:
            return find_known(tx, key) or _update(tx, key, caller, request, reach)

        row = await self._store.write(accept)
        row = await self.answered(row, context)
        return session_service_pb2.UpdateSessionResponse(
            receipt=to_receipt(row), session=await self.session_now(row.session_id)
        )

    async def DeleteSession(
        self, request: session_service_pb2.DeleteSessionRequest, context: Context
    ) -> session_service_pb2.DeleteSessionResponse:
        """Deletes an ended session with its log."""
        caller = callers.current()
        scope = request.session.workspace or caller.own_workspace
        key = request_key("DeleteSession", request, scope=scope, caller=caller)

        def accept(tx: Tx) -> CommandRow:
            if known := find_known(tx, key):
                return known
            row = session_of(tx, caller, request.session)
            verb = receipt_pb2.VERB_DELETE_SESSION
            check(tx, verb, row)
            command = tx.insert_command(
                new_command(tx, key, verb=verb, outcome=ran(tx.now), session_id=row.session_id)
            )
            _forget_open(tx, row)
            tx.delete_session(row.session_id)
            return command

        # (Urgent: it makes room.)
        row = await self._store.write(accept, urgent=True)
        self._links.forget(row.session_id)
        return session_service_pb2.DeleteSessionResponse(receipt=to_receipt(row))


# ---------------------------------------------------------------- inside a transaction


def _command(
    tx: Tx,
    key: RequestKey,
    verb: receipt_pb2.Verb.ValueType,
    row: SessionRow,
    action: wire.Command,
    reach: Reach,
) -> CommandRow:
    """A command that is pending for as long as the run lives."""
    command = new_command(
        tx,
        key,
        verb=verb,
        session_id=row.session_id,
        run=row.run,
        host_id=row.host_id,
        action=action.SerializeToString(deterministic=True),
    )
    return insert(tx, command, live=reach.has(row.host_id))


def _forget_open(tx: Tx, row: SessionRow) -> None:
    """Decides the receipts of what a failed run left waiting: it goes with the session."""
    for open_still in tx.open_commands(row.session_id):
        cancelled = receipt_pb2.OUTCOME_REASON_CANCELLED
        outcome = outcomes.decided(tx.now, outcomes.NOT_RUN, cancelled)
        tx.update_command(outcomes.settle(open_still, outcome))


def _open_approval(tx: Tx, row: SessionRow, approval_id: str) -> ApprovalRow:
    """One that is open, for the host to decide. Raises APPROVAL_NOT_FOUND, APPROVAL_RESOLVED."""
    known = tx.approval(row.session_id, approval_id)
    verdict = verdict_on(tx, receipt_pb2.VERB_RESPOND, row)
    if verdict is Verdict.LOOK_UP and known is not None:
        if not known.decision:
            return known
        decision = event_pb2.ApprovalDecision.ValueType(known.decision)
        on = row.turn_open and known.turn == row.turn and known.run == row.run
        if on and decision != event_pb2.APPROVAL_DECISION_VOID:
            name = event_pb2.ApprovalDecision.Name(decision).removeprefix("APPROVAL_DECISION_")
            raise BridleError(
                Reason.APPROVAL_RESOLVED,
                f'the approval "{approval_id}" was answered: {name}',
                metadata={"approval": approval_id, "decision": name},
            )
    raise BridleError(
        Reason.APPROVAL_NOT_FOUND,
        f'no approval "{approval_id}" is open in the session "{row.slug}"',
        metadata={"approval": approval_id},
    )


# ---------------------------------------------------------------- UpdateSession


def _check_mask(request: session_service_pb2.UpdateSessionRequest) -> None:
    rules = session_pb2.SessionPolicy.DESCRIPTOR.fields_by_name
    if not request.update_mask.paths:
        raise invalid("update_mask", "names nothing to change")
    for path in request.update_mask.paths:
        known = path in ("title", "labels", "policy") or (
            path.startswith(_POLICY) and path.removeprefix(_POLICY) in rules
        )
        if not known:
            raise invalid("update_mask", f'"{path}" can\'t be changed')


def _update(
    tx: Tx,
    key: RequestKey,
    caller: Caller,
    request: session_service_pb2.UpdateSessionRequest,
    reach: Reach,
) -> CommandRow:
    row = session_of(tx, caller, request.session)
    policy = _new_policy(row, request)
    if policy is not None:
        tree.check_agent_may_set(tx, caller, row, policy)
    changed = _changed(row, request, policy)
    projection = Projection(tx)
    projection.put(replace(changed, update_time=tx.now))
    projection.flush()
    verb = receipt_pb2.VERB_UPDATE_SESSION
    if policy is None or check(tx, verb, row) is Verdict.BY_CONTROL:
        return tx.insert_command(
            new_command(
                tx,
                key,
                verb=verb,
                outcome=ran(tx.now),
                session_id=row.session_id,
                run=row.run,
                host_id=row.host_id,
            )
        )
    action = wire.Command(update=wire.UpdatePolicy(policy=policy))
    return _command(tx, key, verb, row, action, reach)


def _changed(
    row: SessionRow,
    request: session_service_pb2.UpdateSessionRequest,
    policy: session_pb2.SessionPolicy | None,
) -> SessionRow:
    paths = request.update_mask.paths
    if "title" in paths:
        row = replace(row, title=request.title)
    if "labels" in paths:
        row = replace(row, labels=dict(request.labels))
    if policy is not None:
        row = replace(row, policy=policy.SerializeToString(deterministic=True))
    return row


def _new_policy(
    row: SessionRow, request: session_service_pb2.UpdateSessionRequest
) -> session_pb2.SessionPolicy | None:
    """The rules as they will be; None where nothing is said of them."""
    paths = [path for path in request.update_mask.paths if path.startswith("policy")]
    if not paths:
        return None
    made = policy_of(row)
    if "policy" in paths:
        made.CopyFrom(request.policy)
    for path in paths:
        name = path.removeprefix(_POLICY)
        if path == "policy":
            continue
        made.ClearField(name)  # type: ignore[arg-type]  # (its names were checked)
        part = session_pb2.SessionPolicy()
        part.CopyFrom(request.policy)
        for other in session_pb2.SessionPolicy.DESCRIPTOR.fields_by_name:
            if other != name:
                part.ClearField(other)  # type: ignore[arg-type]
        made.MergeFrom(part)
    return as_asked(made, policy_of(row))
