"""Request ids and receipts."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridle.v1 import identity_service_pb2, principal_pb2, receipt_pb2
from bridle_control.caller import Caller
from bridle_control.ids import uuid7, uuid7_time
from bridle_control.receipts import (
    AHEAD_NS,
    REMEMBERED_NS,
    RequestKey,
    find_known,
    hash_of,
    new_command,
    pending,
    ran,
    request_key,
    timestamp,
    to_receipt,
)
from bridle_control.store.api import CommandRow, CommandState, Store
from bridle_control.store.sqlite import SqliteStore
from bridle_core.errors import BridleError, Reason
from bridle_core.rights import CredentialKind
from tests.bridle_control.serving import opened


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened(tmp_path / "store") as made:
        yield made


def caller(token_id: str = "t1") -> Caller:
    principal = principal_pb2.Principal(kind=principal_pb2.PRINCIPAL_KIND_USER, id=token_id)
    return Caller(CredentialKind.USER, token_id, principal, "", ("*",))


def request(request_id: str, name: str = "a") -> identity_service_pb2.CreateWorkspaceRequest:
    return identity_service_pb2.CreateWorkspaceRequest(request_id=request_id, name=name)


def key(request_id: str, name: str = "a", *, who: str = "t1", scope: str = "") -> RequestKey:
    return request_key(
        "CreateWorkspace", request(request_id, name), scope=scope, caller=caller(who)
    )


async def accept(store: Store, made: RequestKey) -> CommandRow:
    return await store.write(
        lambda tx: (
            find_known(tx, made)
            or tx.insert_command(
                new_command(tx, made, verb=receipt_pb2.VERB_CREATE_WORKSPACE, outcome=ran(tx.now))
            )
        )
    )


async def refusal(store: Store, made: RequestKey) -> BridleError:
    with pytest.raises(BridleError) as raised:
        await accept(store, made)
    return raised.value


def test_uuids_of_version_7_sort_by_their_time_and_tell_it() -> None:
    ids = [uuid7(ms * 1_000_000) for ms in (1, 2, 1_700_000_000_000, 1_700_000_000_001)]
    assert ids == sorted(ids)
    for text, ms in zip(ids, (1, 2, 1_700_000_000_000, 1_700_000_000_001), strict=True):
        assert uuid.UUID(text).version == 7
        assert uuid7_time(uuid.UUID(text)) == ms * 1_000_000
    before = time.time_ns()
    told = uuid7_time(uuid.UUID(uuid7()))
    assert told is not None
    assert before - 1_000_000 < told <= time.time_ns()  # (in whole milliseconds)
    assert uuid7_time(uuid.uuid4()) is None
    assert uuid7_time(uuid.UUID(int=uuid.UUID(uuid7()).int & ~(0b11 << 62))) is None


async def test_the_same_request_five_times_has_one_row(store: Store) -> None:
    request_id = uuid7()
    rows = [await accept(store, key(request_id)) for _ in range(5)]
    assert len({row.command_id for row in rows}) == 1
    # The case of a UUID's letters means nothing.
    assert (await accept(store, key(request_id.upper()))).command_id == rows[0].command_id


async def test_the_same_request_is_known_after_a_restart(tmp_path: Path) -> None:
    request_id = uuid7()
    async with opened(tmp_path / "again") as first:
        before = await accept(first, key(request_id))
    second = await SqliteStore.open(tmp_path / "again")
    try:
        after = await accept(second, key(request_id))
    finally:
        await second.close()
    assert to_receipt(after) == to_receipt(before)


async def test_the_same_id_with_another_body_is_refused(store: Store) -> None:
    request_id = uuid7()
    await accept(store, key(request_id))
    error = await refusal(store, key(request_id, "b"))
    assert error.reason is Reason.REQUEST_ID_REUSED
    assert error.metadata == {"request_id": request_id}


async def test_ids_are_scoped_to_workspace_and_principal(store: Store) -> None:
    request_id = uuid7()
    rows = [
        await accept(store, key(request_id)),
        await accept(store, key(request_id, who="t2")),
        await accept(store, key(request_id, scope="other")),
    ]
    assert len({row.command_id for row in rows}) == 3


async def test_an_unknown_id_that_is_older_than_7_days_never_runs(store: Store) -> None:
    now = time.time_ns()
    old = uuid7(now - REMEMBERED_NS - 10**9)
    assert (await refusal(store, key(old))).reason is Reason.REQUEST_ID_EXPIRED
    await accept(store, key(uuid7(now - REMEMBERED_NS + 60 * 10**9)))


async def test_an_id_from_the_far_future_is_refused(store: Store) -> None:
    now = time.time_ns()
    far = uuid7(now + AHEAD_NS + 60 * 10**9)
    assert (await refusal(store, key(far))).fields[0].field == "request_id"
    await accept(store, key(uuid7(now + AHEAD_NS - 60 * 10**9)))


def test_an_id_of_another_version_is_refused() -> None:
    with pytest.raises(BridleError) as raised:
        key(str(uuid.uuid4()))
    assert raised.value.fields[0].field == "request_id"


async def test_without_an_id_one_is_made_and_nothing_is_known_again(store: Store) -> None:
    made = [await accept(store, key("")) for _ in range(2)]
    assert made[0].command_id != made[1].command_id
    assert uuid.UUID(made[0].request_id).version == 7


def test_the_hash_covers_the_method_and_the_body_but_not_the_id() -> None:
    assert hash_of("A", request("x")) == hash_of("A", request("y"))
    assert hash_of("A", request("x")) != hash_of("B", request("x"))
    assert hash_of("A", request("x")) != hash_of("A", request("x", "other"))


async def test_a_receipt_tells_what_its_row_holds(store: Store) -> None:
    made = key(uuid7())
    row = await store.write(
        lambda tx: tx.insert_command(
            new_command(
                tx,
                made,
                verb=receipt_pb2.VERB_SEND,
                session_id="s",
                input_id="i",
                sequence=7,
            )
        )
    )
    receipt = to_receipt(row)
    assert row.state is CommandState.ACCEPTED
    assert receipt.outcome == pending()
    assert (receipt.session_id, receipt.input_id, receipt.sequence) == ("s", "i", 7)
    assert receipt.request_id == made.request_id
    assert receipt.accept_time.ToNanoseconds() == row.accept_time


def test_times_are_exact_and_0_is_unset() -> None:
    assert timestamp(0) is None
    made = timestamp(1_700_000_000_123_456_789)
    assert made is not None
    assert made.ToNanoseconds() == 1_700_000_000_123_456_789
