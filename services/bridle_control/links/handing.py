"""Commands on their way to a host: which rows go out next, and as what.

Rows go out behind a position that only grows on one stream, so each goes out once on it, in the
order of commits; a new stream begins at the start again. A row says HANDED before its command may
reach a host, so that ACCEPTED means for certain that no host had it; the verbs write HANDED at once
where the link is up. The secret of a session's token is made here: it is stored nowhere, so a start
that goes out again has another one. Called by the writer of one stream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle.v1 import receipt_pb2
from bridle_control.links.welcome import fence
from bridle_control.render import principal_of
from bridle_control.store.api import CommandRow, CommandState, ReadTx, Store, Tx
from bridle_control.tokens import mint_session_token, session_token_is_due

#: Bytes of commands in one message; the first may be larger by itself.
_BATCH_BYTES = 1024 * 1024
#: Rows that were told of and are not out; beyond it they are read again, a page at a time.
_TOLD_MAX = 1024

#: How long after its accept a start may still be begun, in ns. Whoever asked was told that it is
#: pending; an agent that starts hours later, when a host comes back, surprises everybody.
START_TTL_NS = 60 * 10**9

_STARTS = frozenset({receipt_pb2.VERB_START, receipt_pb2.VERB_RESUME})


def in_batches(commands: Iterable[wire.Command]) -> Iterator[list[wire.Command]]:
    """What goes into one message each, in order."""
    batch: list[wire.Command] = []
    room = _BATCH_BYTES
    for command in commands:
        size = command.ByteSize()
        if batch and size > room:
            yield batch
            batch, room = [], _BATCH_BYTES
        batch.append(command)
        room -= size
    if batch:
        yield batch


def is_to_send(row: CommandRow) -> bool:
    """Whether a row is one that a host still has to get."""
    return row.state <= CommandState.HANDED and bool(row.action)


class Outgoing:
    """What is to be written on one stream, in the order of commits.

    Rows are read from the store until they are all out; from then on the rows that commits tell of
    are the next ones, and nothing need be read. Whenever that could be in doubt (they came faster
    than they went out) it is read again: the rows in the store are what counts.
    """

    def __init__(self, store: Store, host_id: str, epoch: int) -> None:
        self._store = store
        self._host_id = host_id
        self._epoch = epoch
        self._position = 0
        self._told: deque[CommandRow] = deque()
        self._reading = True  # the store has (or may have) rows that were not told
        # What was withdrawn while `take` read or wrote: its rows may be of before.
        self._withdrawn: set[str] = set()
        self._taking = False

    @property
    def pending(self) -> bool:
        """Whether there may be something to write."""
        return self._reading or bool(self._told)

    def tell(self, rows: Sequence[CommandRow]) -> None:
        """A commit brought these rows, in order."""
        if self._reading:
            return
        self._told.extend(rows)
        if len(self._told) > _TOLD_MAX:
            self.look()

    def look(self) -> None:
        """Read the store again: what was told does not suffice."""
        self._told.clear()
        self._reading = True

    def withdraw(self, command_id: str) -> None:
        """This one is not to be written any more."""
        self._told = deque(row for row in self._told if row.command_id != command_id)
        if self._taking:
            self._withdrawn.add(command_id)

    async def take(self, limit: int, now_ns: int) -> list[wire.Command]:
        """The next commands, at most so many, ready to be written; they count as written."""
        self._taking = True
        try:
            taken = await self._take(limit, now_ns)
            return [each for each in taken if each.command_id not in self._withdrawn]
        finally:
            self._taking = False
            self._withdrawn.clear()

    async def _take(self, limit: int, now_ns: int) -> list[wire.Command]:
        rows = await self._next(limit)
        if not rows:
            return []
        self._position = rows[-1].position
        tokens: dict[str, wire.SessionToken] = {}
        if any(row.state == CommandState.ACCEPTED or row.verb in _STARTS for row in rows):
            command_ids = [row.command_id for row in rows]
            rows, tokens = await self._store.write(
                lambda tx: _hand(tx, self._host_id, self._epoch, command_ids), urgent=True
            )
        return [
            _to_command(row, tokens.get(row.command_id), now_ns)
            for row in rows
            if not row.expire_time or row.expire_time > now_ns or row.verb == receipt_pb2.VERB_SEND
        ]

    async def _next(self, limit: int) -> list[CommandRow]:
        if self._reading:
            # From here on commits are told of: what they bring while this reads comes behind it,
            # and what both have is known by its position.
            self._reading = False
            after = self._position
            rows = await self._store.read(
                lambda tx: tx.commands_to_send(self._host_id, after=after, limit=limit)
            )
            if len(rows) == limit:
                self.look()
            return rows
        rows = []
        while self._told and len(rows) < limit:
            row = self._told.popleft()
            if row.position > self._position:
                rows.append(row)
        return rows


def _hand(
    tx: Tx, host_id: str, epoch: int, command_ids: Sequence[str]
) -> tuple[list[CommandRow], dict[str, wire.SessionToken]]:
    fence(tx, host_id, epoch)
    rows: list[CommandRow] = []
    tokens: dict[str, wire.SessionToken] = {}
    for command_id in command_ids:
        row = tx.command(command_id)
        if row is None or row.state > CommandState.HANDED:
            continue  # it was decided in between
        if row.state == CommandState.ACCEPTED:
            row = replace(row, state=CommandState.HANDED)
            tx.update_command(row)
        if row.verb in _STARTS:
            token = fresh_token(tx, row.session_id, row.run)
            if token is not None:
                tokens[command_id] = token
        rows.append(row)
    return rows, tokens


def fresh_token(tx: Tx, session_id: str, run: int) -> wire.SessionToken | None:
    """Makes a token for a session's run; None where the session is gone or in another run."""
    session = tx.session(session_id)
    if session is None or session.run != run:
        return None
    minted = mint_session_token(tx, session, run)
    made = wire.SessionToken(session_id=session_id, run=run, token=minted.secret)
    made.expire_time.FromNanoseconds(minted.expire_time)
    return made


async def due_tokens(store: Store, host_id: str, epoch: int) -> list[wire.SessionToken]:
    """Fresh tokens for the sessions of a host whose newest one has lived long enough."""
    due = await store.read(lambda tx: _due(tx, host_id))
    return await store.write(lambda tx: _refresh(tx, host_id, epoch, due)) if due else []


def _due(tx: ReadTx, host_id: str) -> list[tuple[str, int]]:
    """The runs that need one. (A start brings its own with it.)"""
    return [
        (row.session_id, row.run)
        for row in tx.live_sessions_of_host(host_id)
        if not tx.has_open_command(row.session_id, row.run, sorted(_STARTS))
        and session_token_is_due(tx, row.session_id, row.run)
    ]


def _refresh(
    tx: Tx, host_id: str, epoch: int, due: Sequence[tuple[str, int]]
) -> list[wire.SessionToken]:
    fence(tx, host_id, epoch)
    made = (fresh_token(tx, session_id, run) for session_id, run in due)
    return [token for token in made if token is not None]


def _to_command(row: CommandRow, token: wire.SessionToken | None, now_ns: int) -> wire.Command:
    command = wire.Command.FromString(row.action)
    command.command_id = row.command_id
    command.session_id = row.session_id
    command.run = row.run
    if row.principal:
        command.principal.CopyFrom(principal_of(row.principal))
    if row.trace:
        command.trace.ParseFromString(row.trace)
    if row.expire_time:
        # An input whose time is over goes out all the same: its host may have had it before, and
        # alone can say what came of it.
        left = max(1, row.expire_time - now_ns)
        command.time_to_live.FromNanoseconds(left)
        if command.HasField("deliver"):
            command.deliver.time_to_live.FromNanoseconds(left)
    if row.verb in _STARTS:
        # It goes out however late it is: its host may have had it before, and alone can say so. One
        # that has not answers that it is out of time, and the start is taken back.
        left = max(1, row.accept_time + START_TTL_NS - now_ns)
        command.time_to_live.FromNanoseconds(left)
    if token is not None:
        command.start.token.CopyFrom(token)
    return command
