"""How an input comes into the rows, and on its way to a host. Functions of one transaction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle.v1 import content_pb2, event_pb2, input_pb2, receipt_pb2
from bridle_control.ids import uuid7
from bridle_control.placement import agent_of
from bridle_control.projection import Projection
from bridle_control.receipts import RequestKey
from bridle_control.render import policy_of
from bridle_control.service.base import inner_command, nanoseconds
from bridle_control.store.api import CommandRow, InputRow, ReadTx, SessionRow
from bridle_core.errors import BridleError, Reason
from bridle_core.observations import Capability

#: How many inputs of one session may wait.
WAITING_MAX = 1000
#: The largest input, in bytes: as a command and as an event it must fit into a message of 4 MiB,
#: with what stands around it.
INPUT_MAX = 4 * 1024 * 1024 - 64 * 1024


@dataclass(frozen=True, slots=True)
class NewInput:
    """What is to be said, and how. `expire_time` in ns since the epoch; 0: never."""

    content: tuple[content_pb2.Content, ...]
    mode: input_pb2.InputMode.ValueType = input_pb2.INPUT_MODE_QUEUE
    or_queue: bool = False
    expire_time: int = 0


def prompt(tx: ReadTx, row: SessionRow, content: Iterable[content_pb2.Content]) -> NewInput | None:
    """The input that a start brings with it; None where it brings none."""
    pieces = tuple(content)
    return NewInput(pieces, expire_time=expiry(tx, row)) if pieces else None


def expiry(tx: ReadTx, row: SessionRow) -> int:
    """When an input of this session expires that says nothing of it; 0: never."""
    ttl = nanoseconds(policy_of(row).input_ttl)
    return tx.now + ttl if ttl else 0


def check_size(what: str, size: int, limit: int) -> None:
    """Raises MESSAGE_TOO_LARGE. Sizes are in bytes."""
    if size > limit:
        raise BridleError(
            Reason.MESSAGE_TOO_LARGE,
            f"{what} has {size} bytes; at most {limit} are taken",
            metadata={"limit": str(limit)},
        )


def check_input(tx: ReadTx, row: SessionRow, new: NewInput) -> None:
    """Raises MESSAGE_TOO_LARGE, QUEUE_FULL, CAPABILITY_MISSING: what is known before anything is
    written."""
    check_size("the input", sum(piece.ByteSize() for piece in new.content), INPUT_MAX)
    if row.inputs_waiting >= WAITING_MAX:
        raise BridleError(
            Reason.QUEUE_FULL,
            f'{WAITING_MAX} inputs wait for the session "{row.slug}"',
            metadata={"limit": str(WAITING_MAX)},
        )
    able = capabilities(tx, row)
    if new.mode == input_pb2.INPUT_MODE_STEER and not new.or_queue and Capability.STEER not in able:
        raise _missing(row, Capability.STEER, "be steered; send with or_queue")
    pictures = any(piece.HasField("image") for piece in new.content)
    if pictures and Capability.IMAGES not in able:
        raise _missing(row, Capability.IMAGES, "take images")


def capabilities(tx: ReadTx, row: SessionRow) -> frozenset[str]:
    """What the session's agent can do: as its run told, else as its host tells."""
    if row.capabilities:
        return frozenset(row.capabilities)
    told = agent_of(tx.host(row.host_id), row.agent)
    return frozenset(told.capabilities) if told is not None else frozenset()


def _missing(row: SessionRow, capability: Capability, what: str) -> BridleError:
    return BridleError(
        Reason.CAPABILITY_MISSING,
        f'the agent "{row.agent}" can\'t {what}',
        metadata={"capability": capability, "agent": row.agent},
    )


def queue_input(
    projection: Projection,
    row: SessionRow,
    key: RequestKey,
    new: NewInput,
    *,
    command_id: str,
) -> InputRow:
    """Writes InputQueued and the input's row; `command_id` is the receipt that it decides."""
    tx = projection.tx
    input_id = uuid7(tx.now)
    queued = event_pb2.InputQueued(input_id=input_id, content=new.content, mode=new.mode)
    sequence = projection.happen(row, event_pb2.Event(input_queued=queued), principal=key.principal)
    made = InputRow(
        input_id=input_id,
        session_id=row.session_id,
        sequence=sequence,
        content=input_pb2.Input(content=new.content).SerializeToString(deterministic=True),
        mode=new.mode,
        state=input_pb2.INPUT_STATE_WAITING,
        create_time=tx.now,
        principal=key.principal,
        expire_time=new.expire_time,
        command_id=command_id,
        or_queue=new.or_queue,
    )
    tx.insert_input(made)
    return made


def delivery(row: InputRow) -> wire.Command:
    """What takes an input to a host."""
    return wire.Command(
        deliver=wire.DeliverInput(
            input_id=row.input_id,
            content=input_pb2.Input.FromString(row.content).content,
            mode=input_pb2.InputMode.ValueType(row.mode),
            or_queue=row.or_queue,
            sequence=row.sequence,
        )
    )


def queue_prompt(
    projection: Projection,
    row: SessionRow,
    key: RequestKey,
    new: NewInput,
    *,
    live: bool,
    parent: str,
) -> CommandRow:
    """Queues an input that comes with a start, behind it; returns its command, which is written."""
    command_id = uuid7(projection.tx.now)
    made = queue_input(projection, row, key, new, command_id=command_id)
    return projection.tx.insert_command(
        inner_command(
            projection.tx,
            key,
            row,
            receipt_pb2.VERB_SEND,
            delivery(made),
            live=live,
            parent=parent,
            expire_time=made.expire_time,
            input_id=made.input_id,
            sequence=made.sequence,
            command_id=command_id,
        )
    )


def deliver_again(
    projection: Projection, row: SessionRow, key: RequestKey, *, live: bool, parent: str
) -> None:
    """Hands what an earlier run left waiting to the new one, in order; expires what is too old."""
    tx = projection.tx
    for left in projection.waiting(row):
        if 0 < left.expire_time <= tx.now:
            projection.cancel_input(row, left.input_id, input_pb2.CANCEL_REASON_EXPIRED)
            continue
        again = inner_command(
            tx,
            key,
            row,
            receipt_pb2.VERB_SEND,
            delivery(left),
            live=live,
            parent=parent,
            expire_time=left.expire_time,
            input_id=left.input_id,
            sequence=left.sequence,
        )
        # Who said it, says it: not who resumes.
        tx.insert_command(replace(again, principal=left.principal))
