"""How a run comes into the rows: a session's first one, and those after it.

Functions of one transaction, called by StartSession, by Resume and by Send with `resume_if_ended`.
What the host needs for any run of the session is kept as its LAUNCH; a start command is that, with
what is true at its time.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle.v1 import event_pb2, receipt_pb2, session_pb2, session_service_pb2
from bridle_control import placement, tree
from bridle_control.answers import remember
from bridle_control.approvals import as_asked
from bridle_control.caller import Caller, workspace_of
from bridle_control.decisions import LIVE
from bridle_control.endings import give_up
from bridle_control.ids import uuid7
from bridle_control.projection import Projection
from bridle_control.receipts import RequestKey, new_command
from bridle_control.render import policy_of
from bridle_control.service.base import inner_command, insert, refusal
from bridle_control.service.queueing import (
    check_input,
    check_size,
    deliver_again,
    prompt,
    queue_prompt,
)
from bridle_control.store.api import CommandRow, HostRow, SessionBlob, SessionRow, Tx
from bridle_control.tokens import keep_session_rights
from bridle_core.errors import BridleError, Reason
from bridle_core.rights import CredentialKind
from bridle_core.transcript import Transcript

#: The largest command line with its environment, in bytes: more than Linux would start, and with a
#: driver's state still one message.
LAUNCH_MAX = 2 * 1024 * 1024
#: What a run that was given up says.
ABANDONED = "the run was given up while its host was away"


@dataclass(frozen=True, slots=True)
class Reach:
    """Which hosts can be reached, as it was when the call came."""

    live: Collection[str]

    def has(self, host_id: str) -> bool:
        """Whether commands reach the host."""
        return host_id in self.live


# ---------------------------------------------------------------- the first run


def start(
    tx: Tx,
    key: RequestKey,
    caller: Caller,
    request: session_service_pb2.StartSessionRequest,
    reach: Reach,
) -> CommandRow:
    """Writes a new session, its start, and its first input. Raises as StartSession tells."""
    workspace = workspace_of(tx, caller, request.workspace)
    parent = tree.parent_of(tx, caller)
    _check_slug(tx, workspace, request.slug)
    host_name, directory, policy = request.host, request.directory, as_asked(request.policy)
    if parent is not None:
        parents_host = tx.host(parent.host_id)
        own_name = parents_host.name if parents_host is not None else ""
        host_name = tree.host_for_child(parent, request.host, own_name)
        directory = tree.directory_for_child(parent, request.directory)
        tree.check_agent_for_child(parent, parents_host, request)
        policy = tree.policy_for_child(parent, policy)
    host = placement.choose(
        tx, workspace, host_name, request.agent, reach.live, request.agent_command
    )
    row = SessionRow(
        session_id=uuid7(tx.now),
        workspace=workspace,
        slug=request.slug,
        agent=request.agent,
        agent_command=request.agent_command,
        host_id=host.host_id,
        directory=directory,
        title=request.title,
        labels=dict(request.labels),
        phase=session_pb2.PHASE_STARTING,
        run=1,
        create_time=tx.now,
        update_time=tx.now,
        queue_state=session_pb2.QUEUE_STATE_OPEN,
        policy=policy.SerializeToString(deterministic=True),
        parent_session_id=parent.session_id if parent is not None else "",
        started_by=key.principal,
    )
    first = prompt(tx, row, request.prompt)
    if first is not None:
        check_input(tx, row, first)
    tx.insert_session(row)
    keep_session_rights(tx, row.session_id, caller.rights)
    launch = wire.StartRun(
        workspace=workspace,
        slug=row.slug,
        agent=row.agent,
        agent_command=row.agent_command,
        directory=row.directory,
        environment=request.environment,
        within=parent.directory if parent is not None else "",
    )
    check_size("what the agent is started with", launch.ByteSize(), LAUNCH_MAX)
    tx.put_blob(row.session_id, SessionBlob.LAUNCH, launch.SerializeToString(deterministic=True))
    action = wire.Command(start=_run(launch, row))
    command = new_command(
        tx,
        key,
        verb=receipt_pb2.VERB_START,
        session_id=row.session_id,
        run=row.run,
        host_id=row.host_id,
        action=action.SerializeToString(deterministic=True),
    )
    command = insert(tx, command, live=True)
    if first is not None:
        projection = Projection(tx)
        queue_prompt(projection, row, key, first, live=True, parent=command.command_id)
        projection.flush()
    return command


def _check_slug(tx: Tx, workspace: str, slug: str) -> None:
    if tx.session_by_slug(workspace, slug) is not None:
        raise BridleError(
            Reason.SLUG_TAKEN,
            f'there is a session "{slug}" in workspace "{workspace}"',
            metadata={"workspace": workspace, "session": slug},
        )


def _run(launch: wire.StartRun, row: SessionRow) -> wire.StartRun:
    """The start of the session's run as its row is now; the link adds the token."""
    made = wire.StartRun()
    made.CopyFrom(launch)
    made.directory = row.directory
    made.policy.CopyFrom(policy_of(row))
    made.last_turn = row.turn
    made.queue_state = session_pb2.QueueState.ValueType(row.queue_state)
    return made


# ---------------------------------------------------------------- the next run


@dataclass(frozen=True, slots=True)
class Wish:
    """How a session is to be resumed."""

    mode: event_pb2.ResumeMode.ValueType = event_pb2.RESUME_MODE_AUTO
    host: str = ""
    force: bool = False
    #: For an agent that can't take its own conversation up again.
    transcript: Transcript = field(default_factory=Transcript)


def resume(
    projection: Projection,
    key: RequestKey,
    caller: Caller,
    row: SessionRow,
    wish: Wish,
    reach: Reach,
    *,
    inner: bool = False,
) -> tuple[CommandRow, SessionRow]:
    """Writes the next run and its start, and delivers again what waits; flushes nothing.

    `inner`: the start is part of another request, whose receipt counts. Returns the start's command
    and the session's row. Raises as Resume tells.
    """
    tx = projection.tx
    _check_child(tx, caller, row, wish)
    if row.phase in LIVE:
        row = _abandon(projection, key, row, wish, reach)
    # What a session ran on before it ran out of it: its host, unless another one is named.
    named = wish.host or row.host_id
    host = placement.choose(tx, row.workspace, named, row.agent, reach.live, row.agent_command)
    action = wire.Command(start=_next_run(tx, row, host, wish))
    row = projection.put(_opened(tx, row, host))
    start_verb = receipt_pb2.VERB_RESUME
    if inner:
        command = tx.insert_command(inner_command(tx, key, row, start_verb, action, live=True))
    else:
        command = new_command(
            tx,
            key,
            verb=start_verb,
            session_id=row.session_id,
            run=row.run,
            host_id=row.host_id,
            action=action.SerializeToString(deterministic=True),
        )
        command = insert(tx, command, live=True)
    deliver_again(projection, row, key, live=True, parent=command.command_id)
    return command, projection.session(row.session_id) or row


def _check_child(tx: Tx, caller: Caller, row: SessionRow, wish: Wish) -> None:
    """An agent resumes its children where they were; nobody resumes beneath what is killed."""
    if caller.kind is CredentialKind.SESSION and (wish.force or wish.host not in ("", row.host_id)):
        raise tree.not_allowed("an agent can't move a session to another host")
    tree.check_agent_may_set(tx, caller, row, policy_of(row))  # (its parent's may be stricter now)
    parent = tx.session(row.parent_session_id) if row.parent_session_id else None
    if parent is not None and parent.closing and parent.phase in LIVE:
        raise tree.ending(parent)


def _abandon(
    projection: Projection, key: RequestKey, row: SessionRow, wish: Wish, reach: Reach
) -> SessionRow:
    """Gives up a run whose host is away, where that was asked for. Raises SESSION_LIVE."""
    away = not reach.has(row.host_id)
    if not away or not wish.force:
        raise refusal(Reason.SESSION_LIVE, row, away=away)
    give_up(
        projection,
        row,
        session_pb2.END_REASON_HOST_ABANDONED,
        ABANDONED,
        principal=key.principal,
    )
    return projection.session(row.session_id) or row


def _next_run(tx: Tx, row: SessionRow, host: HostRow, wish: Wish) -> wire.StartRun:
    launch = wire.StartRun.FromString(tx.blob(row.session_id, SessionBlob.LAUNCH))
    made = _run(launch, row)
    made.resume.CopyFrom(
        wire.ResumeFrom(
            mode=wish.mode or event_pb2.RESUME_MODE_AUTO,
            driver_state=tx.blob(row.session_id, SessionBlob.DRIVER_STATE),
            same_host=host.host_id == row.host_id,
            transcript=wish.transcript.text,
            left_out=wish.transcript.left_out,
        )
    )
    return made


def _opened(tx: Tx, row: SessionRow, host: HostRow) -> SessionRow:
    """The row of the next run; a refusal of the host takes it back (see `answers.refuse`).

    A run's number is never given out twice: what came of a start that was refused may still be on
    its way, or even live on a host that answered late, and would be taken for the new run's.
    """
    last = int(tx.blob(row.session_id, SessionBlob.LAST_RUN) or b"0")
    return replace(
        row,
        phase=session_pb2.PHASE_STARTING,
        run=max(row.run, last) + 1,
        host_id=host.host_id,
        end_reason=session_pb2.END_REASON_UNSPECIFIED,
        end_message="",
        closing=False,
        verb_state=remember(row),
        update_time=tx.now,
    )
