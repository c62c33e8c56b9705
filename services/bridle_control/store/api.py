"""What control asks of its store: the rows, and the calls inside a transaction.

Purpose: the one seam between control and a database. `SqliteStore` serves it now; another database
has only to serve these protocols and pass the same tests. The verbs, the host links, identity and
the watch hub call it. It may not know gRPC, nor parse what it keeps: events, principals, policies,
contents and outcomes are serialized messages of bridle.v1, opaque here.

How it is used:

    receipt = await store.write(lambda tx: accept(tx, request))    # resumes after COMMIT + fsync
    session = await store.read(lambda tx: tx.session(session_id))  # a snapshot

`fn` runs on a thread of the store: it may only touch `tx` and values that nobody else changes, it
must not block, and it must not keep `tx`. A `write` is all or nothing: what it raises undoes all
that it wrote, and reaches its caller alone. Many writes share one COMMIT (group commit), and a
later write of the group sees what an earlier one wrote; none is acknowledged before the COMMIT.

Rules for all rows:
  - Times are `int` nanoseconds since the Unix epoch, UTC; 0 is unset.
  - Enums of the contract are their `int` numbers.
  - Text that is absent is "", bytes that are absent are b"".
  - Rows are frozen; change one by `dataclasses.replace` and hand it to `tx.update_…`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Protocol, TypeVar

T = TypeVar("T")

#: How long a receipt is kept after its accept, in nanoseconds: 7 days, and a day of margin for
#: clocks that differ.
RECEIPT_RETENTION_NS = 8 * 24 * 3600 * 10**9
#: How long a tombstone is kept after the deletion, in nanoseconds: 7 days.
TOMBSTONE_RETENTION_NS = 7 * 24 * 3600 * 10**9


# ---------------------------------------------------------------- errors of opening


class StoreOpenError(Exception):
    """The store can't be opened. Its text is one line, fit for the person who started control."""


class StoreMissingError(StoreOpenError):
    """There is no store at the path (and none was to be made)."""


class StoreExistsError(StoreOpenError):
    """A store was to be made where there is one."""


class StoreForeignError(StoreOpenError):
    """What is at the path is no store of Bridle, or is damaged beyond opening."""


class StoreFromFutureError(StoreOpenError):
    """The store was written by a newer version, which this one can't read. Nothing was changed."""


class StoreInUseError(StoreOpenError):
    """Another process has the store open."""


class Urgency(IntEnum):
    """Which writes may use the reserve of a disk that is full (see `Store.write`)."""

    ORDINARY = 0  # none of it
    OUTPUT = 1  # the first half
    LAST = 2  # all of it


# ---------------------------------------------------------------- rows


@dataclass(frozen=True, slots=True)
class WorkspaceRow:
    """A tenant. `default` always exists."""

    name: str
    create_time: int


class TokenKind(IntEnum):
    """Whom a token speaks for."""

    USER = 1  # brt_…: a person or a service
    SESSION = 2  # brs_…: a session's own
    HOST = 3  # brh_…: a host's credential


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token, by the SHA-256 of its secret (32 bytes). The secret is stored nowhere.

    `workspace` "" is for all workspaces. `session_id` and `run` are set for SESSION, `host_id` for
    HOST. `revoke_time` 0 means that it is not revoked. `created_by` is a serialized Principal.
    """

    token_id: str
    secret_hash: bytes
    kind: TokenKind
    workspace: str
    name: str
    rights: tuple[str, ...]
    create_time: int
    expire_time: int = 0
    revoke_time: int = 0
    created_by: bytes = b""
    session_id: str = ""
    run: int = 0
    host_id: str = ""


@dataclass(frozen=True, slots=True)
class JoinTokenRow:
    """A join token: good for one host, once. `use_time` and `host_id` are set when it was used."""

    join_token_id: str
    secret_hash: bytes
    workspace: str
    create_time: int
    expire_time: int
    use_time: int = 0
    host_id: str = ""


@dataclass(frozen=True, slots=True)
class HostRow:
    """A host. Its name is unique in its workspace.

    `agents` is a serialized ListAgentsResponse that holds only `agents`. `lost` is true between
    HostLost and HostReturned. `live_sessions` is counted by the store; writing ignores it.
    """

    host_id: str
    workspace: str
    name: str
    create_time: int
    epoch: int = 0
    incarnation: str = ""
    boot_id: str = ""
    version: str = ""
    containment: tuple[str, ...] = ()
    agents: bytes = b""
    session_limit: int = 0
    last_seen_time: int = 0
    draining: bool = False
    lost: bool = False
    live_sessions: int = 0


@dataclass(frozen=True, slots=True)
class JournalRow:
    """How far a host's journal is committed here. `high_water` only grows."""

    host_id: str
    journal_id: str
    high_water: int
    create_time: int


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session: a projection of its log, and what control decided.

    The store itself keeps `last_sequence` and `floor_sequence` (by `append_events`),
    `inputs_waiting` (the inputs in state WAITING) and `open_approvals` (the approvals without a
    decision, oldest first); `insert_session` and `update_session` ignore them.

    `policy` is a serialized SessionPolicy, `started_by` a serialized Principal. `capabilities` are
    what SessionStarted or SessionResumed told. `verb_state` belongs to the verbs: they keep there
    what a refused Resume needs to be taken back.
    """

    session_id: str
    workspace: str
    slug: str
    agent: str
    host_id: str
    phase: int
    run: int
    create_time: int
    update_time: int
    agent_command: str = ""
    directory: str = ""
    title: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    turn: int = 0
    turn_open: bool = False
    queue_state: int = 0
    policy: bytes = b""
    parent_session_id: str = ""
    started_by: bytes = b""
    end_reason: int = 0
    end_message: str = ""
    containment: str = ""
    capabilities: tuple[str, ...] = ()
    closing: bool = False
    verb_state: bytes = b""
    last_sequence: int = 0
    floor_sequence: int = 1
    inputs_waiting: int = 0
    open_approvals: tuple[str, ...] = ()


class SessionBlob(StrEnum):
    """What is kept of a session beside its row, since it may be large and is seldom read."""

    DRIVER_STATE = "driver_state"  # what the driver wants kept for a later Resume
    LAUNCH = "launch"  # a serialized StartRun: what the next run is started with
    RIGHTS = "rights"  # what its own tokens hold at most, joined by spaces
    LAST_RUN = "last_run"  # the highest run ever given out, where that one was refused


@dataclass(frozen=True, slots=True)
class TombstoneRow:
    """What is left of a deleted session, for 7 days."""

    session_id: str
    workspace: str
    slug: str
    delete_time: int


@dataclass(frozen=True, slots=True)
class InputRow:
    """An input. `content` is a serialized bridle.v1.Input that holds only `content`."""

    input_id: str
    session_id: str
    sequence: int
    content: bytes
    mode: int
    state: int
    create_time: int
    principal: bytes = b""
    expire_time: int = 0
    turn: int = 0
    command_id: str = ""
    or_queue: bool = False
    cancel_reason: int = 0


@dataclass(frozen=True, slots=True)
class ApprovalRow:
    """An approval. `decision` 0 means that it is open; `sequence` is of its ApprovalRequested."""

    session_id: str
    approval_id: str
    run: int
    turn: int
    sequence: int
    decision: int = 0


class CommandState(IntEnum):
    """Where a command is. It only goes up."""

    ACCEPTED = 1  # committed here
    HANDED = 2  # written to a live link; tells nothing for certain
    ANSWERED = 3  # the host journaled its answer; the outcome may be PENDING
    DONE = 4  # the outcome is decided: RAN, NOT_RUN or UNKNOWN


@dataclass(frozen=True, slots=True)
class CommandRow:
    """A request that was accepted: its receipt, and what is handed to a host.

    `position` is its place in the order of commits, given by the store at insert. A request is
    known again by (`scope`, `principal_key`, `request_id`): the workspace or "", who asked, and the
    id; rows with `request_id` "" are control's own and found by `command_id` alone. `request_hash`
    is what a repeat must have. `action` is a serialized host.v1.Command with the action only, b""
    for what no host gets. `outcome` is a serialized Outcome, `error_metadata` goes with its
    error_reason. `resource` names what the request made (a token, a host, a workspace);
    `parent_command_id` the Kill, Stop or Interrupt of the tree that this one belongs to. `trace` is
    a serialized host.v1.TraceContext, b"" for none.
    """

    command_id: str
    verb: int
    accept_time: int
    scope: str = ""
    principal_key: str = ""
    request_id: str = ""
    request_hash: bytes = b""
    principal: bytes = b""
    session_id: str = ""
    run: int = 0
    host_id: str = ""
    expire_time: int = 0
    action: bytes = b""
    state: CommandState = CommandState.ACCEPTED
    outcome: bytes = b""
    error_metadata: Mapping[str, str] = field(default_factory=dict)
    input_id: str = ""
    sequence: int = 0
    resource: str = ""
    parent_command_id: str = ""
    trace: bytes = b""
    position: int = 0


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to append.

    `kind` is its EventKind, `data` a serialized bridle.v1.Event without sequence and commit_time.
    The store appends these two fields, and `principal` (a serialized Principal) unless it is b"".
    """

    kind: int
    run: int
    data: bytes
    principal: bytes = b""


@dataclass(frozen=True, slots=True)
class EventSlice:
    """Events of one session as they were read, ascending.

    `framed[i]` is the event `sequences[i]` as it stands in an EventBatch: tag, length, bytes; so
    joining them makes the batch. `scanned` is the cursor that the read came to: all events up to
    it are in the slice or were left out by the filter. `more` tells that there is more behind it.
    """

    sequences: tuple[int, ...]
    framed: tuple[bytes, ...]
    scanned: int
    more: bool


@dataclass(frozen=True, slots=True)
class LogBounds:
    """Which events a session has: `floor` .. `head`; head is floor - 1 for an empty log."""

    floor: int
    head: int


@dataclass(frozen=True, slots=True)
class LogSize:
    """How large a session's log is: its bounds, and the bytes of its events as they are stored."""

    session_id: str
    floor: int
    head: int
    bytes: int

    @property
    def events(self) -> int:
        return self.head - self.floor + 1


# ---------------------------------------------------------------- choosing rows


@dataclass(frozen=True, slots=True)
class Term:
    """One term of a filter: `field` equals `value`, or differs from it. Terms are joined by AND.

    Fields of sessions: SESSION_FIELDS, and `labels` with the label's `key` (a session without the
    label differs from every value). Fields of inputs: INPUT_FIELDS. Of events: EVENT_FIELDS.
    """

    field: str
    value: str | int | bool
    equal: bool = True
    key: str = ""


#: The fields that a Term may name, with the type of their values.
SESSION_FIELDS: Mapping[str, type] = {
    "phase": int,
    "agent": str,
    "live": bool,
    "parent_session_id": str,
    "host_id": str,
    "slug": str,
    "queue_state": int,
    "end_reason": int,
    "title": str,
    "closing": bool,
}
INPUT_FIELDS: Mapping[str, type] = {"state": int, "mode": int}
EVENT_FIELDS: Mapping[str, type] = {"kind": int, "turn": int, "run": int}
#: The fields that sessions are ordered by.
SESSION_ORDERS = ("slug", "create_time", "update_time")

#: Where a page ends: (the value ordered by, the session's id). Opaque to callers but for its type.
PageKey = tuple[str | int, str]


@dataclass(frozen=True, slots=True)
class SessionPage:
    """A page of sessions; `next_key` is None at the end."""

    sessions: tuple[SessionRow, ...]
    next_key: PageKey | None


# ---------------------------------------------------------------- what a commit changed


@dataclass(frozen=True, slots=True)
class Appended:
    """Events that a commit added to a session: numbers `first` .. first + len(framed) - 1."""

    session_id: str
    first: int
    kinds: tuple[int, ...]
    framed: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """What a group of writes changed, told to listeners after the COMMIT.

    A hint for those who wait. All of it is in the store, and only the store is the truth:
    whoever listens late or not at all misses nothing that it can't read.
    `sessions` are the ids of rows that were inserted or changed (not by events alone), `deleted`
    of those that are gone; `hosts` are the ids of hosts that have new commands to be sent;
    `commands` the rows of commands that were inserted or changed, by id, as they were committed,
    the inserted ones in the order of their positions; `commands_gone` the ids of those that went
    with a start that was refused; `tokens` the ids of tokens that were revoked or deleted.
    """

    appended: tuple[Appended, ...] = ()
    sessions: frozenset[str] = frozenset()
    deleted: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    commands: Mapping[str, CommandRow] = field(default_factory=dict)
    commands_gone: frozenset[str] = frozenset()
    tokens: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Commit:
    """One COMMIT: how many writes it held, how many events they appended, and how many seconds it
    took until they were on the disk."""

    writes: int
    events: int
    seconds: float


# ---------------------------------------------------------------- inside a transaction


class ReadTx(Protocol):
    """What can be read. A row that is not there is None, a list without rows is empty."""

    @property
    def now(self) -> int:
        """The time of this transaction: control's clock, when `fn` began."""

    # -- identity
    def workspace(self, name: str) -> WorkspaceRow | None: ...
    def workspaces(self) -> list[WorkspaceRow]:
        """All of them, by name."""

    def token(self, token_id: str) -> TokenRow | None: ...
    def token_by_hash(self, secret_hash: bytes) -> TokenRow | None: ...
    def tokens(self, workspace: str | None, kind: TokenKind = TokenKind.USER) -> list[TokenRow]:
        """Of one workspace ("" is that of tokens for all workspaces), or of all; by name, id."""

    def tokens_of_session(self, session_id: str) -> list[TokenRow]: ...
    def join_token_by_hash(self, secret_hash: bytes) -> JoinTokenRow | None: ...

    # -- hosts
    def host(self, host_id: str) -> HostRow | None: ...
    def host_epoch(self, host_id: str) -> int | None:
        """The host's current epoch, without the rest of its row."""

    def host_by_name(self, workspace: str, name: str) -> HostRow | None: ...
    def hosts(self, workspace: str | None) -> list[HostRow]:
        """Of one workspace or of all, by name."""

    def journal(self, host_id: str, journal_id: str) -> JournalRow | None: ...
    def journals(self, host_id: str) -> list[JournalRow]:
        """Newest first."""

    # -- sessions
    def session(self, session_id: str) -> SessionRow | None: ...
    def session_by_slug(self, workspace: str, slug: str) -> SessionRow | None: ...
    def sessions_by_phase(self) -> dict[int, int]:
        """How many sessions there are in each phase, of all workspaces; without those of which
        there is none."""

    def sessions(
        self,
        workspace: str | None,
        *,
        terms: Sequence[Term] = (),
        order: str = "create_time",
        descending: bool = True,
        after: PageKey | None = None,
        limit: int = 100,
    ) -> SessionPage:
        """A page, by keyset: rows that come or go between two pages shift nothing."""

    def session_matches(self, session_id: str, workspace: str, terms: Sequence[Term]) -> bool:
        """Whether the session is there and meets the filter."""

    def live_sessions_of_host(self, host_id: str) -> list[SessionRow]: ...
    def children(self, session_id: str, *, live: bool = False) -> list[SessionRow]:
        """The sessions that it started itself, oldest first; `live`: only live ones."""

    def subtree(self, session_id: str) -> list[SessionRow]:
        """The sessions beneath it, without itself, leaves first: no parent before its child."""

    def ancestors(self, session_id: str) -> list[str]:
        """The ids of parent, grandparent …, as far as they are there; [] for a root."""

    def tombstone(self, session_id: str) -> TombstoneRow | None: ...
    def blob(self, session_id: str, name: SessionBlob) -> bytes:
        """b"" when there is none."""

    # -- the log
    def bounds(self, session_id: str) -> LogBounds | None: ...
    def events(
        self,
        session_id: str,
        after: int,
        *,
        kinds: Sequence[int] = (),
        terms: Sequence[Term] = (),
        descending: bool = False,
        limit: int = 256,
        max_bytes: int = 256 * 1024,
    ) -> EventSlice:
        """Events after a sequence (before it, when descending; then 0 is the newest).

        At most `limit`, and at most `max_bytes` unless the first alone has more. `sequences` are
        in the order of the read. Raises LOG_CORRUPT when one does not read back as it was written
        or is missing. A session that is not there has no events.
        """

    def log_size(self, session_id: str) -> LogSize | None: ...
    def log_sizes(
        self, *, after: str = "", limit: int = 256, events: int = 0, size: int = 0
    ) -> list[LogSize]:
        """Of the sessions beyond the id `after`, by id. With `events` or `size`, only of those
        whose log has more events or more bytes than that."""

    def log_totals(self) -> tuple[int, int]:
        """How many events all logs have, and how many bytes these take."""

    def event_sizes(self, session_id: str, limit: int) -> list[int]:
        """The bytes of the log's oldest events, from the floor on."""

    def newest_of(self, session_id: str, kinds: Sequence[int]) -> int:
        """The sequence of the newest event of one of these kinds; 0 for none."""

    def oldest_open(self, session_id: str) -> int:
        """The sequence of the oldest input that waits or approval that is open; 0 for none."""

    # -- inputs and approvals
    def input(self, input_id: str) -> InputRow | None: ...
    def inputs(
        self,
        session_id: str,
        *,
        terms: Sequence[Term] = (),
        descending: bool = False,
        after: int = 0,
        limit: int = 100,
    ) -> list[InputRow]:
        """In the order of the queue, beyond the sequence `after` (0: from the end begun at)."""

    def inputs_left_expired(self, now: int, limit: int = 256) -> list[InputRow]:
        """Those that wait in sessions that have ended, and whose time is over: no host has them."""

    def approval(self, session_id: str, approval_id: str) -> ApprovalRow | None: ...

    # -- commands
    def command(self, command_id: str) -> CommandRow | None: ...
    def command_by_request(
        self, scope: str, principal_key: str, request_id: str
    ) -> CommandRow | None: ...
    def commands_to_send(
        self, host_id: str, *, after: int = 0, limit: int = 256
    ) -> list[CommandRow]:
        """ACCEPTED and HANDED commands of a host that have an action, after a `position`, in the
        order of commits."""

    def open_commands(self, session_id: str) -> list[CommandRow]:
        """All that are not DONE, in the order of commits."""

    def has_open_command(self, session_id: str, run: int, verbs: Sequence[int]) -> bool:
        """Whether one of these verbs is not DONE for a run of a session."""

    def open_commands_of_host(self, host_id: str) -> list[CommandRow]:
        """All that are not DONE, in the order of commits."""

    def child_commands(self, parent_command_id: str) -> list[CommandRow]:
        """In the order of commits."""

    def knows_principal(self, session_id: str, principal: bytes) -> bool:
        """Whether somebody, as a serialized Principal, has lately asked for anything that concerns
        the session: a command of the last day, an input."""

    def commands_expired(self, now: int, limit: int = 256) -> list[CommandRow]:
        """Not yet ANSWERED, with an expire_time at or before `now`; soonest first. Without those
        that are HANDED and bring an input: a host may have consumed it."""

    def next_command_expiry(self) -> int:
        """The soonest expire_time of what `commands_expired` would name; 0 for none."""


class Tx(ReadTx, Protocol):
    """What can be read and written. Inserting what is there, or updating what is not there, is a
    fault of the caller and raises `StoreFaultError`."""

    # -- identity
    def insert_workspace(self, row: WorkspaceRow) -> None: ...
    def insert_token(self, row: TokenRow) -> None: ...
    def revoke_token(self, token_id: str) -> None:
        """Sets revoke_time to now where it is not set."""

    def insert_join_token(self, row: JoinTokenRow) -> None: ...
    def use_join_token(self, join_token_id: str, host_id: str) -> bool:
        """True for the first caller alone; False when it is used or gone. Looks at no expiry."""

    # -- hosts
    def insert_host(self, row: HostRow) -> None: ...
    def update_host(self, row: HostRow) -> None: ...
    def delete_host(self, host_id: str) -> None:
        """With its journals; revokes its credentials. Its sessions keep its id."""

    def bump_epoch(self, host_id: str, incarnation: str) -> int:
        """The next epoch, which is the current one from now on."""

    def set_journal(self, host_id: str, journal_id: str, high_water: int) -> None:
        """Makes the row or moves it up; moving it down is a fault."""

    # -- sessions
    def insert_session(self, row: SessionRow) -> None: ...
    def update_session(self, row: SessionRow) -> None: ...
    def delete_session(self, session_id: str, *, tombstone: bool = True) -> None:
        """With its log, inputs, approvals and blobs; revokes its tokens. Its commands stay, for
        their receipts. Without `tombstone` no trace is left: for a start that was refused."""

    def put_blob(self, session_id: str, name: SessionBlob, value: bytes) -> None:
        """b"" deletes it."""

    # -- the log
    def append_events(self, session_id: str, events: Sequence[NewEvent]) -> int:
        """Numbers and stores them, in order. Returns the sequence of the first."""

    def raise_floor(self, session_id: str, floor: int) -> None:
        """Drops the events below `floor` (at most head + 1). The floor never falls.

        Takes time by the number of events: raise it in steps."""

    # -- inputs and approvals
    def insert_input(self, row: InputRow) -> None: ...
    def update_input(self, row: InputRow) -> None: ...
    def put_approval(self, row: ApprovalRow) -> None:
        """Inserts or replaces it."""

    # -- commands
    def insert_command(self, row: CommandRow) -> CommandRow:
        """Returns the row with its `position`."""

    def update_command(self, row: CommandRow) -> None: ...
    def delete_commands_of_session(self, session_id: str, *, keep: str = "") -> None:
        """But for the command `keep`: for a start that was refused."""

    # -- housekeeping; each returns how many rows went, at most `limit`
    def purge_commands(self, accepted_before: int, limit: int) -> int:
        """DONE commands that were accepted before a time."""

    def purge_tombstones(self, deleted_before: int, limit: int) -> int: ...
    def purge_tokens(self, dead_before: int, limit: int) -> int:
        """SESSION tokens and join tokens that expired or were revoked or used before a time."""

    def purge_events(self, limit: int) -> int:
        """Events of deleted sessions and below floors. They can't be read any more; this only
        frees their room, a bit at a time, so that no write waits for it."""


class StoreFaultError(Exception):
    """The caller broke a rule of the store: a fault of Bridle, INTERNAL to clients."""


# ---------------------------------------------------------------- the store


class Store(Protocol):
    """The store. Made on the event loop that uses it, and used from there alone."""

    @property
    def log_id(self) -> str:
        """The identity of all logs of this store; another one after a restore."""

    @property
    def store_id(self) -> str:
        """The identity of the store itself; never changes."""

    def listen(self, listener: Callable[[Changes], None]) -> None:
        """Calls `listener` on the event loop after every COMMIT that changed something, in the
        order of commits, before the writes' callers resume. It must be quick and may not raise."""

    def measure(self, listener: Callable[[Commit], None]) -> None:
        """Calls `listener` on the event loop after every COMMIT. It must be quick and may not
        raise."""

    async def write(
        self, fn: Callable[[Tx], T], *, urgent: bool = False, output: bool = False
    ) -> T:
        """Runs `fn` in a transaction of its own; returns once it is committed and synced.

        Raises what `fn` raised, then nothing is written; STORE_FULL when there is no room,
        LOG_CORRUPT when the store is damaged, SHUTTING_DOWN once `close` was called. A disk that
        is full has a reserve: `urgent` writes may use it (Interrupt, Stop, Kill, what they come to,
        what frees room), `output` (of an agent that was asked to stop) only its first half. `fn` is
        run again when the disk was found full half-way; nothing of its first run is left then.
        A caller that is cancelled while it waits does not know whether it was written.
        """

    async def read(self, fn: Callable[[ReadTx], T]) -> T:
        """Runs `fn` on one snapshot of all that is committed.

        Raises what `fn` raised, LOG_CORRUPT, SHUTTING_DOWN once `close` was called.
        """

    async def close(self) -> None:
        """Finishes what was handed in, then closes. Idempotent."""
