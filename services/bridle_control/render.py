"""Rows of the store as messages of the contract.

Pure. Called by the verbs, the lists and the feed of sessions.
"""

from __future__ import annotations

from bridle.v1 import input_pb2, principal_pb2, session_pb2
from bridle_control.receipts import timestamp
from bridle_control.store.api import InputRow, SessionRow


def principal_of(data: bytes) -> principal_pb2.Principal:
    """A serialized Principal."""
    return principal_pb2.Principal.FromString(data)


def policy_of(row: SessionRow) -> session_pb2.SessionPolicy:
    """The session's rules."""
    return session_pb2.SessionPolicy.FromString(row.policy)


def to_session(row: SessionRow, *, reachable: bool, log_id: str) -> session_pb2.Session:
    """A session as its watchers see it."""
    return session_pb2.Session(
        session_id=row.session_id,
        workspace=row.workspace,
        slug=row.slug,
        agent=row.agent,
        agent_command=row.agent_command,
        host_id=row.host_id,
        directory=row.directory,
        title=row.title,
        labels=row.labels,
        phase=session_pb2.Phase.ValueType(row.phase),
        run=row.run,
        turn=row.turn,
        turn_open=row.turn_open,
        queue_state=session_pb2.QueueState.ValueType(row.queue_state),
        inputs_waiting=row.inputs_waiting,
        open_approvals=row.open_approvals,
        reachability=(
            session_pb2.REACHABILITY_REACHABLE
            if reachable
            else session_pb2.REACHABILITY_UNREACHABLE
        ),
        policy=policy_of(row),
        last_sequence=row.last_sequence,
        floor_sequence=row.floor_sequence,
        log_id=log_id,
        parent_session_id=row.parent_session_id,
        started_by=principal_of(row.started_by),
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
        end_reason=session_pb2.EndReason.ValueType(row.end_reason),
        end_message=row.end_message,
        containment=row.containment,
        closing=row.closing,
    )


def to_input(row: InputRow) -> input_pb2.Input:
    """An input as ListInputs tells it."""
    made = input_pb2.Input.FromString(row.content)
    made.input_id = row.input_id
    made.mode = input_pb2.InputMode.ValueType(row.mode)
    made.state = input_pb2.InputState.ValueType(row.state)
    made.sequence = row.sequence
    made.turn = row.turn
    made.command_id = row.command_id
    made.or_queue = row.or_queue
    made.principal.CopyFrom(principal_of(row.principal))
    if row.create_time:
        made.create_time.FromNanoseconds(row.create_time)
    if row.expire_time:
        made.expire_time.FromNanoseconds(row.expire_time)
    return made
