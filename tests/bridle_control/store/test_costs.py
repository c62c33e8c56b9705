"""What a look into the store costs: by what it looks for, not by all that was ever kept."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bridle.v1 import input_pb2, receipt_pb2, session_pb2
from bridle_control.store.api import CommandRow, CommandState, InputRow, ReadTx, Tx
from bridle_control.store.sqlite import SqliteStore
from tests.support.stores import a_session, an_event, begin, open_sqlite

#: So many rows that are none of the look's, and fewer steps of SQLite's machine than those.
MANY = 2000
FEW = MANY // 4
WAITING, CONSUMED = input_pb2.INPUT_STATE_WAITING, input_pb2.INPUT_STATE_CONSUMED


@contextmanager
def steps(tx: ReadTx) -> Iterator[list[int]]:
    """Counts the steps of SQLite's machine."""
    connection: sqlite3.Connection = tx._connection  # type: ignore[attr-defined]
    taken = [0]

    def step() -> int:
        taken[0] += 1
        return 0

    connection.set_progress_handler(step, 1)
    try:
        yield taken
    finally:
        connection.set_progress_handler(None, 0)


async def cost(store: SqliteStore, look: Callable[[ReadTx], Any]) -> tuple[Any, int]:
    """What a look finds, and its steps."""

    def fn(tx: ReadTx) -> tuple[Any, int]:
        with steps(tx) as taken:
            found = look(tx)
        return found, taken[0]

    return await store.read(fn)


def an_input(number: int, state: int = CONSUMED) -> InputRow:
    return InputRow(f"i{number}", "s1", number, b"text", 1, state, 5, b"one", expire_time=7)


async def test_inputs_whose_time_is_over_are_not_looked_for_among_those_that_are_done(
    tmp_path: Path,
) -> None:
    async with open_sqlite(tmp_path / "store") as store:
        await begin(store, a_session(phase=session_pb2.PHASE_FAILED))

        def fill(tx: Tx) -> None:
            for number in range(1, MANY):
                tx.insert_input(an_input(number))
            tx.insert_input(an_input(MANY, WAITING))

        await store.write(fill)
        found, taken = await cost(store, lambda tx: tx.inputs_left_expired(10))
    assert [row.input_id for row in found] == [f"i{MANY}"]
    assert taken < FEW


async def test_who_asked_for_something_is_not_looked_for_among_all_that_was_asked(
    tmp_path: Path,
) -> None:
    def asked(number: int, session_id: str, principal: bytes) -> CommandRow:
        return CommandRow(
            f"c{number}",
            receipt_pb2.VERB_INTERRUPT,
            5,
            principal=principal,
            session_id=session_id,
            state=CommandState.DONE,
        )

    async with open_sqlite(tmp_path / "store", clock=lambda: 100) as store:
        await begin(store, a_session("s1"), a_session("s2"))

        def fill(tx: Tx) -> None:
            for number in range(1, MANY):
                tx.insert_input(an_input(number))
                tx.insert_command(asked(number, "s2" if number % 2 else "s1", b"one"))
            tx.insert_command(asked(MANY, "s1", b"two"))

        await store.write(fill)
        for principal, known in ((b"one", True), (b"two", True), (b"three", False)):
            look = cost(store, lambda tx, name=principal: tx.knows_principal("s1", name))  # type: ignore[misc]
            found, taken = await look
            assert found is known
            assert taken < FEW
        assert not await store.read(lambda tx: tx.knows_principal("s2", b"two"))


async def test_what_is_let_go_of_does_not_make_the_write_ahead_log_grow(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    event = an_event("x" * 3000)
    limit = 1024 * 1024
    async with open_sqlite(directory, checkpoint_bytes=limit) as store:
        await begin(store, a_session("s1"), a_session("s2"))
        for _ in range(120):  # of two logs in turns, as they are written
            for name in ("s1", "s2"):
                await store.write(lambda tx, log=name: tx.append_events(log, [event] * 50))  # type: ignore[misc]
        log = directory / "bridle.sqlite3-wal"
        before = log.stat().st_size
        await store.write(lambda tx: tx.raise_floor("s1", 6000))
        while await store.write(lambda tx: tx.purge_events(500)):
            pass
        assert log.stat().st_size <= max(before, 3 * limit)
