"""What the verbs share: their parts, the wait for a host's answer, the making of command rows.

Each verb is one write transaction that begins with the check for a repeat (see `receipts`), decides
what control's rows decide surely (see `decisions`), and writes a command for the rest. Then it
waits until the host has answered, at most for the call's budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from google.protobuf.duration_pb2 import Duration

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle.v1 import receipt_pb2, session_pb2
from bridle_control import outcomes, transcripts
from bridle_control.caller import Caller, session_of
from bridle_control.commands import Commands, is_ending
from bridle_control.deadlines import HasDeadline, wait_budget
from bridle_control.decisions import ERRORS, LIVE, Verdict, decide
from bridle_control.ids import uuid7
from bridle_control.links.registry import Links
from bridle_control.receipts import RequestKey, pending, to_receipt
from bridle_control.render import to_session
from bridle_control.store.api import CommandRow, CommandState, ReadTx, SessionRow, Store, Tx
from bridle_control.watch.hub import Hub
from bridle_control.watch.sessions_feed import SessionsFeed
from bridle_core import transcript
from bridle_core.errors import BridleError, Reason
from bridle_core.transcript import Transcript

_DAY_NS = 24 * 3600 * 10**9
#: Longer than that is for ever: the store's times are 64 bits of nanoseconds.
_FOREVER_NS = 36_500 * _DAY_NS


@dataclass(frozen=True, slots=True)
class Parts:
    """What the service is made of."""

    store: Store
    links: Links
    commands: Commands
    hub: Hub
    feed: SessionsFeed
    #: The most bytes of what an agent that takes another's place is told of the conversation.
    transcript_bytes: int = transcript.CAP


class Verbs:
    """The base of all parts of the service. Used from one event loop alone."""

    def __init__(self, parts: Parts) -> None:
        self._store = parts.store
        self._links = parts.links
        self._commands = parts.commands
        self._hub = parts.hub
        self._feed = parts.feed
        self._transcript_bytes = parts.transcript_bytes

    def render(self, row: SessionRow) -> session_pb2.Session:
        """A session as it is now."""
        return to_session(
            row, reachable=self._links.is_live(row.host_id), log_id=self._store.log_id
        )

    async def answered(self, row: CommandRow, context: HasDeadline) -> CommandRow:
        """The command's row, once its host has answered or the call's budget is spent.

        Raises what the host refused with; SESSION_NOT_FOUND when the session's start was taken
        back meanwhile, and the command with it.
        """
        row = still_there(await self._commands.answered(row, wait_budget(context)), row)
        error = outcomes.error_of(row)
        if error is not None:
            raise error
        return row

    async def receipt(self, row: CommandRow, context: HasDeadline) -> receipt_pb2.Receipt:
        """The receipt, as `answered` gets it."""
        return to_receipt(await self.answered(row, context))

    async def transcript(
        self, caller: Caller, session: session_pb2.SessionRef, *, ended: bool = False
    ) -> Transcript:
        """What was said in a session, for its next run; of one that the caller may not see,
        nothing, and with `ended` of one that lives. Read beside the writer: it takes some time."""

        def read(tx: ReadTx) -> Transcript:
            try:
                row = session_of(tx, caller, session)
            except BridleError:
                return Transcript()  # (The verb finds out for itself, and may know its request.)
            if ended and row.phase in LIVE:
                return Transcript()
            return transcripts.of_session(tx, row, self._transcript_bytes)

        return await self._store.read(read)

    async def session_now(self, session_id: str) -> session_pb2.Session | None:
        """The session as it is now; None when it is gone."""
        row = await self._store.read(lambda tx: tx.session(session_id))
        return None if row is None else self.render(row)


def still_there(found: CommandRow | None, was: CommandRow) -> CommandRow:
    """The row that was found; SESSION_NOT_FOUND when it is gone, which it is with its session."""
    if found is None:
        raise BridleError(
            Reason.SESSION_NOT_FOUND,
            "the session's start was refused while this waited for it",
            metadata={"session": was.session_id},
        )
    return found


# ---------------------------------------------------------------- inside a transaction


def check(tx: ReadTx, verb: receipt_pb2.Verb.ValueType, row: SessionRow) -> Verdict:
    """The verdict on a verb; raises the error where it is one."""
    verdict = verdict_on(tx, verb, row)
    reason = ERRORS.get(verdict)
    if reason is not None:
        raise refusal(reason, row)
    return verdict


def verdict_on(tx: ReadTx, verb: receipt_pb2.Verb.ValueType, row: SessionRow) -> Verdict:
    """The verdict on a verb. Whether an end is in force is looked up where it would matter."""
    verdict = decide(verb, row.phase)
    other = decide(verb, row.phase, ending=True)
    if other is not verdict and is_ending(tx, row.session_id, row.run):
        return other
    return verdict


def refusal(reason: Reason, row: SessionRow, *, away: bool = False) -> BridleError:
    """The error of a verdict, in the words of its reason. `away`: the session's host is."""
    phase = session_pb2.Phase.Name(session_pb2.Phase.ValueType(row.phase)).removeprefix("PHASE_")
    metadata = {"workspace": row.workspace, "session": row.slug, "phase": phase}
    text = {
        Reason.SESSION_ENDED: f'the session "{row.slug}" has ended ({phase})',
        Reason.SESSION_ENDING: f'the session "{row.slug}" is ending',
        Reason.SESSION_LIVE: f'the session "{row.slug}" is live ({phase})',
    }[reason]
    if away:
        text += "; its host is away, and with force that run is given up"
    return BridleError(reason, text, metadata=metadata)


def inner_command(
    tx: ReadTx,
    key: RequestKey,
    session: SessionRow,
    verb: receipt_pb2.Verb.ValueType,
    action: wire.Command,
    *,
    live: bool,
    parent: str = "",
    expire_time: int = 0,
    input_id: str = "",
    sequence: int = 0,
    command_id: str = "",
) -> CommandRow:
    """A command that a request brings with it: it has a receipt, but no request id of its own."""
    return CommandRow(
        command_id=command_id or uuid7(tx.now),
        verb=verb,
        accept_time=tx.now,
        scope=session.workspace,
        principal_key=key.principal_key,
        principal=key.principal,
        session_id=session.session_id,
        run=session.run,
        host_id=session.host_id,
        expire_time=expire_time,
        action=action.SerializeToString(deterministic=True),
        state=first_state(live),
        outcome=pending().SerializeToString(deterministic=True),
        input_id=input_id,
        sequence=sequence,
        parent_command_id=parent,
        trace=key.trace,
    )


def first_state(live: bool) -> CommandState:
    """Where a command begins. With a live link it is on its way as soon as it is committed; so
    ACCEPTED means for certain that no host had it."""
    return CommandState.HANDED if live else CommandState.ACCEPTED


def insert(tx: Tx, row: CommandRow, *, live: bool) -> CommandRow:
    """Writes the row of a request's own command."""
    if row.state == CommandState.ACCEPTED:
        row = replace(row, state=first_state(live))
    return tx.insert_command(row)


def nanoseconds(duration: Duration) -> int:
    """A duration in ns; 0 for one that is longer than all times."""
    whole = duration.seconds * 10**9 + duration.nanos
    return 0 if whole > _FOREVER_NS else whole


def rows_of(tx: ReadTx, root: CommandRow) -> tuple[CommandRow, list[CommandRow]]:
    """A command and those that it brought with it, as they are now."""
    return root, tx.child_commands(root.command_id)


def receipts_of(rows: Sequence[CommandRow]) -> list[receipt_pb2.Receipt]:
    """The receipts of commands."""
    return [to_receipt(row) for row in rows]


__all__ = [
    "Caller",
    "Parts",
    "Verbs",
    "check",
    "first_state",
    "inner_command",
    "insert",
    "nanoseconds",
    "receipts_of",
    "refusal",
    "rows_of",
    "still_there",
    "verdict_on",
]
