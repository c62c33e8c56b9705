"""What a host's connection changes in the rows: its welcome, and the comparison of inventories.

Functions that run inside a write transaction; called by one stream of the host link, in this order:
`accept` for the Hello, `reconcile` for the whole inventory, `end_missing` once all that the host
had journaled by its Hello is committed. They decide nothing about the stream itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle.v1 import event_pb2, host_service_pb2, receipt_pb2, session_pb2
from bridle_control.decisions import LIVE
from bridle_control.endings import give_up
from bridle_control.links.adoption import SET_BACK, adopt_told
from bridle_control.projection import Projection
from bridle_control.store.api import CommandState, HostRow, ReadTx, SessionRow, Tx
from bridle_core.errors import BridleError, Reason

_STARTS = frozenset({receipt_pb2.VERB_START, receipt_pb2.VERB_RESUME})

#: What the end of a run says that its host forgot.
FORGOTTEN = "the host came back without this run"


@dataclass(frozen=True, slots=True)
class Accepted:
    """A connection's place: its epoch, and where the host's journal stands with us.

    `adopted`: nothing is handed over before this entry of the journal is here. `adopts`: the
    journal begins with what became of the runs of one that is lost.
    """

    host: HostRow
    epoch: int
    journal_id: str
    high_water: int
    journal_lost: bool
    adopted: int = 0
    adopts: bool = False


@dataclass(frozen=True, slots=True)
class Reconciled:
    """`kill`: runs that the host must end. `missing`: session → run that it may have forgotten."""

    kill: tuple[tuple[str, int], ...]
    missing: Mapping[str, int]


def fence(tx: ReadTx, host_id: str, epoch: int) -> None:
    """Raises EPOCH_FENCED unless this epoch is the host's current one, TOKEN_REVOKED without it."""
    current = tx.host_epoch(host_id)
    if current is None:
        raise removed()
    if current != epoch:
        host = tx.host(host_id)
        raise fenced(current, host.incarnation if host is not None else "")


def removed() -> BridleError:
    """What a host is told that was removed."""
    return BridleError(Reason.TOKEN_REVOKED, "this host was removed")


def fenced(epoch: int, incarnation: str) -> BridleError:
    """What an old connection is told: by which process, as it may have been itself."""
    return BridleError(
        Reason.EPOCH_FENCED,
        "a newer connection of this host was accepted",
        metadata={"epoch": str(epoch), "incarnation": incarnation},
    )


def accept(tx: Tx, host_id: str, hello: wire.Hello) -> Accepted:
    """Takes the connection: a higher epoch, the host's row as the Hello has it."""
    epoch = tx.bump_epoch(host_id, hello.incarnation)
    host = tx.host(host_id)
    if host is None:
        raise removed()
    host = replace(
        host,
        boot_id=hello.boot_id,
        version=hello.version,
        containment=tuple(hello.containment),
        agents=host_service_pb2.ListAgentsResponse(agents=hello.agents).SerializeToString(
            deterministic=True
        ),
        session_limit=hello.session_limit,
        last_seen_time=tx.now,
    )
    tx.update_host(host)
    high_water, lost = _journal(tx, host_id, hello)
    adopted = min(hello.journal_adopted, hello.journal_sequence)
    adopts = lost and high_water == 0 and adopted > 0
    return Accepted(host, epoch, hello.journal_id, high_water, lost, adopted, adopts)


def _journal(tx: Tx, host_id: str, hello: wire.Hello) -> tuple[int, bool]:
    """Where the journal stands, and whether what was in it is lost.

    Lost are: a journal that isn't the one that we knew; one that is older than what we have, also
    where it was written on since (what we have was neither found in it nor sent by this process);
    one that was trimmed beyond what we have (our store is older than the host: it was restored).
    Nothing is noted before what follows from a loss is (see `reconcile`): the stream may end first.
    """
    known = tx.journal(host_id, hello.journal_id)
    # One that holds nothing was trimmed up to its end.
    before_floor = (hello.journal_floor or hello.journal_sequence + 1) - 1
    if known is None:
        return before_floor, bool(tx.journals(host_id))
    newest = hello.journal_sequence
    if hello.HasField("journal_known"):
        newest = min(newest, hello.journal_known)
    if newest < known.high_water:
        return known.high_water, True
    if before_floor > known.high_water:
        return before_floor, True
    return known.high_water, False


# ---------------------------------------------------------------- inventory


def reconcile(
    tx: Tx,
    accepted: Accepted,
    sessions: Mapping[str, wire.LiveSession],
) -> Reconciled:
    """Compares what the host has with what the rows say, and writes HostReturned."""
    fence(tx, accepted.host.host_id, accepted.epoch)
    known = tx.journal(accepted.host.host_id, accepted.journal_id)
    if known is None or known.high_water < accepted.high_water:
        tx.set_journal(accepted.host.host_id, accepted.journal_id, accepted.high_water)
    host = tx.host(accepted.host.host_id) or accepted.host
    projection = Projection(tx)
    kill = [
        (live.session_id, live.run)
        for live in sessions.values()
        if not _is_ours(tx.session(live.session_id), host.host_id, live.run)
    ]
    missing: dict[str, int] = {}
    for row in tx.live_sessions_of_host(host.host_id):
        told = sessions.get(row.session_id)
        there = told is not None and told.run == row.run
        if there and accepted.journal_lost and told is not None and _is_older(row, told):
            kill.append((row.session_id, row.run))
            give_up(projection, row, session_pb2.END_REASON_HOST_STATE_LOST, SET_BACK)
            continue
        if host.lost:
            returned = event_pb2.HostReturned(host_id=host.host_id)
            projection.happen(row, event_pb2.Event(host_returned=returned))
        if there and accepted.journal_lost and not accepted.adopts and told is not None:
            adopt_told(projection, row, told)
        elif not there and (accepted.journal_lost or _was_started(tx, row)):
            missing[row.session_id] = row.run
    if host.lost:
        tx.update_host(replace(host, lost=False))
    projection.flush()
    return Reconciled(tuple(kill), missing)


def _is_ours(row: SessionRow | None, host_id: str, run: int) -> bool:
    return row is not None and row.host_id == host_id and row.run == run and row.phase in LIVE


def _is_older(row: SessionRow, told: wire.LiveSession) -> bool:
    """Whether the host remembers less of the run than its log: its state was set back. It would
    give numbers of turns out again, and inputs to the agent."""
    return told.HasField("last_turn") and told.last_turn < row.turn


def _was_started(tx: ReadTx, row: SessionRow) -> bool:
    """Whether the host once answered the start of this run: then it must know the run."""
    return not any(
        command.verb in _STARTS and command.run == row.run and command.state < CommandState.ANSWERED
        for command in tx.open_commands(row.session_id)
    )


def end_missing(tx: Tx, accepted: Accepted, missing: Mapping[str, int]) -> None:
    """Ends the runs that the host has forgotten, now that all it had to say is committed."""
    fence(tx, accepted.host.host_id, accepted.epoch)
    projection = Projection(tx)
    for session_id, run in missing.items():
        row = projection.session(session_id)
        if _is_ours(row, accepted.host.host_id, run) and row is not None:
            give_up(projection, row, session_pb2.END_REASON_HOST_STATE_LOST, FORGOTTEN)
    projection.flush()


def mark_lost(tx: Tx, host_id: str) -> None:
    """Writes HostLost to every live session of a host, once."""
    host = tx.host(host_id)
    if host is None or host.lost:
        return
    projection = Projection(tx)
    rows = tx.live_sessions_of_host(host_id)
    for row in rows:
        lost = event_pb2.HostLost(host_id=host_id)
        projection.happen(row, event_pb2.Event(host_lost=lost))
    projection.flush()
    if rows:
        tx.update_host(replace(host, lost=True))


def note_last_seen(tx: Tx, times: Mapping[str, int]) -> None:
    """Notes when hosts were heard last, in ns since the epoch."""
    for host_id, when in times.items():
        host = tx.host(host_id)
        if host is not None and host.last_seen_time < when:
            tx.update_host(replace(host, last_seen_time=when))
