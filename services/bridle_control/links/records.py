"""Records of a host's journal: prepared on the event loop, committed in one transaction.

`prepare` does what needs no rows: it checks the numbering, and that every event is one that its
readers can read; those of the few kinds that move rows stay read, and those that name a principal;
all others stay bytes. `commit` runs inside the write transaction and holds the fences: the epoch
for the whole batch, (host, run) for each session; and it lets no host say that somebody did
something who asked for nothing. Called by the committer of one stream of the host link. Neither may
wait for anything.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle.v1 import event_pb2, principal_pb2
from bridle_control.answers import answer
from bridle_control.decisions import ENDED, LIVE
from bridle_control.links.adoption import adopt
from bridle_control.links.welcome import fence
from bridle_control.logs import kv
from bridle_control.projection import MOVING, Projection
from bridle_control.store.api import NewEvent, SessionBlob, SessionRow, Tx

_log = logging.getLogger("bridle.control.links")

#: The largest event, in bytes: with what stands around it, it must fit into a watcher's message.
EVENT_MAX = 4 * 1024 * 1024 - 64 * 1024

_SYSTEM = principal_pb2.Principal(kind=principal_pb2.PRINCIPAL_KIND_SYSTEM).SerializeToString(
    deterministic=True
)
#: So many bytes of what agents say don't make a batch output: answers stand beside them.
OUTPUT_BYTES = 64 * 1024

_KINDS = event_pb2.Event.DESCRIPTOR.oneofs_by_name["kind"]
_KIND_NAMES = {each.number: each.name for each in _KINDS.fields}


class JournalGapError(Exception):
    """An entry is missing between what is committed and what came: a bug of the host."""


@dataclass(frozen=True, slots=True)
class Moving:
    """An event that moves rows or names a principal, read, and as it came."""

    event: event_pb2.Event
    data: bytes


Step = list[NewEvent] | Moving | wire.CommandEntry | wire.DriverStateEntry | wire.AdoptEntry


@dataclass(slots=True)
class Segment:
    """Entries of one run that follow each other."""

    session_id: str
    run: int
    steps: list[Step] = field(default_factory=list)


@dataclass(slots=True)
class Batch:
    """What is committed together: the entries `first` .. `last` of one journal."""

    journal_id: str
    first: int
    last: int
    segments: list[Segment] = field(default_factory=list)
    #: The commands that are answered in it.
    answered: list[str] = field(default_factory=list)
    #: Bytes of the events that move nothing: what agents say, which they can do without end.
    said: int = 0

    @property
    def output(self) -> bool:
        """Whether it is mostly what agents say, which a full disk has less room for."""
        return self.said > OUTPUT_BYTES


def prepare(journal_id: str, high_water: int, messages: Iterable[wire.Records]) -> Batch:
    """Makes a batch of messages of one journal, leaving out what was committed before.

    Raises JournalGapError. The batch is empty (last < first) when all of it was.
    """
    batch = Batch(journal_id, high_water + 1, high_water)
    segment: Segment | None = None
    plain: list[NewEvent] | None = None
    for message in messages:
        for record in message.records:
            sequence = record.journal_sequence
            if sequence <= batch.last:
                continue
            if sequence != batch.last + 1:
                raise JournalGapError(f"entry {sequence} came after entry {batch.last}")
            batch.last = sequence
            if segment is None or (
                segment.session_id != record.session_id or segment.run != record.run
            ):
                segment = Segment(record.session_id, record.run)
                batch.segments.append(segment)
                plain = None
            kind = record.WhichOneof("entry")
            if kind == "event":
                entry = record.event
                event = _read(record)
                if event is None:
                    continue
                if entry.kind in MOVING or event.HasField("principal"):
                    plain = None
                    segment.steps.append(Moving(event, entry.event))
                    continue
                if plain is None:
                    plain = []
                    segment.steps.append(plain)
                plain.append(NewEvent(entry.kind, record.run, entry.event))
                batch.said += len(entry.event)
                continue
            plain = None
            if kind == "command":
                segment.steps.append(record.command)
                batch.answered.append(record.command.command_id)
            elif kind == "driver_state":
                segment.steps.append(record.driver_state)
            elif kind == "adopt":
                segment.steps.append(record.adopt)
    return batch


def _read(record: wire.Record) -> event_pb2.Event | None:
    """The event of a record; None for one that may not come into a log.

    A log is for ever: all who read it would stumble over bytes that are no event, over one that is
    of another kind than it says (it would have moved rows unseen), or over one that fits into no
    message. Reading each once costs less than a microsecond.
    """
    entry = record.event
    try:
        event = event_pb2.Event.FromString(entry.event)
        why = _fault(entry, event, record.run)
        if not why:
            return event
    except DecodeError:
        why = "it is no event"
    fields = kv(session=record.session_id, run=record.run, kind=entry.kind, size=len(entry.event))
    _log.error("an event of a host was dropped: %s", why, extra=fields)
    return None


def _fault(entry: wire.EventEntry, event: event_pb2.Event, run: int) -> str:
    """Why an event may not come into a log; "" where it may."""
    known = _KIND_NAMES.get(entry.kind)
    if event.run not in (0, run):
        return "it is of another run"
    if event.WhichOneof("kind") != known:  # (None: a kind of a newer host, which is kept)
        return "it is of another kind"
    if known == "session_ended" and event.session_ended.phase not in ENDED:
        return "it is an end without a phase"
    return "it is too large" if len(entry.event) > EVENT_MAX else ""


def commit(tx: Tx, host_id: str, epoch: int, batch: Batch) -> dict[str, int]:
    """Stores a batch and moves the journal's mark. Raises EPOCH_FENCED, JournalGapError.

    Returns the current runs of the sessions in it that are this host's; 0 for one that is over.
    """
    fence(tx, host_id, epoch)
    known = tx.journal(host_id, batch.journal_id)
    high_water = known.high_water if known is not None else 0
    if high_water + 1 != batch.first:
        raise JournalGapError(f"entry {batch.first} came after entry {high_water}")
    projection = Projection(tx)
    runs: dict[str, int] = {}
    for segment in batch.segments:
        if not segment.session_id:
            continue
        for step in segment.steps:
            row = projection.session(segment.session_id)
            if row is None or row.host_id != host_id or row.run != segment.run:
                break  # a run that is no longer the current one: acknowledged, and dropped
            _take(projection, row, step)
            after = projection.session(segment.session_id)
            alive = after is not None and after.phase in LIVE
            runs[segment.session_id] = segment.run if alive else 0
    projection.flush()
    tx.set_journal(host_id, batch.journal_id, batch.last)
    return runs


def _take(projection: Projection, row: SessionRow, step: Step) -> None:
    if isinstance(step, wire.CommandEntry):
        answer(projection, row, step.command_id, step.outcome, step.error_metadata)
    elif row.phase not in LIVE:
        # Control ended this run itself; what its host still says of it comes too late.
        return
    elif isinstance(step, wire.DriverStateEntry):
        projection.tx.put_blob(row.session_id, SessionBlob.DRIVER_STATE, step.state)
    elif isinstance(step, wire.AdoptEntry):
        adopt(projection, row, step)
    elif isinstance(step, Moving):
        event, data = _vouched(projection.tx, row, step)
        projection.happen(row, event, data=data)
    else:
        projection.extend(row, step)


def _vouched(tx: Tx, row: SessionRow, step: Moving) -> tuple[event_pb2.Event, bytes]:
    """The event and its bytes, without a principal that control did not name to the host.

    A host writes down who asked for what it did, as control told it with the command or the input;
    and what Bridle did by itself. Nobody else can have asked for anything.
    """
    event = step.event
    if not event.HasField("principal"):
        return event, step.data
    named = event.principal.SerializeToString(deterministic=True)
    if named in (_SYSTEM, row.started_by) or tx.knows_principal(row.session_id, named):
        return event, step.data
    fields = kv(session=row.session_id, run=row.run, host=row.host_id)
    _log.error("a host named a principal who asked for nothing here; it was left out", extra=fields)
    event.ClearField("principal")
    return event, event.SerializeToString(deterministic=True)
