"""Stores for tests, and rows to put into them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bridle.v1 import event_pb2, session_pb2, watch_pb2
from bridle_control.store.api import NewEvent, SessionRow, Store, Tx
from bridle_control.store.sqlite import SqliteStore

#: Opens the store at a place: `async with open_store(path) as store`. The first time it is made.
OpenStore = Callable[[Path], AbstractAsyncContextManager[Store]]


@asynccontextmanager
async def open_sqlite(directory: Path, **options: Any) -> AsyncIterator[SqliteStore]:
    """A SQLite store in a directory; closed at the end."""
    create = not (directory / "bridle.sqlite3").exists()
    options.setdefault("reserve_bytes", 64 * 1024)  # to lay a real one takes time
    store = await SqliteStore.open(directory, create=create, **options)
    try:
        yield store
    finally:
        await store.close()


#: Every store that must pass the common suite, by name.
STORES: dict[str, OpenStore] = {"sqlite": open_sqlite}

MINUTE = 60 * 10**9


def a_session(session_id: str = "s1", **values: Any) -> SessionRow:
    """A session that is IDLE, in `default`; its slug is its id unless told."""
    row = SessionRow(
        session_id=session_id,
        workspace="default",
        slug=session_id,
        agent="shell",
        host_id="h1",
        phase=session_pb2.PHASE_IDLE,
        run=1,
        create_time=1000,
        update_time=1000,
    )
    return replace(row, **values)


def an_event(text: str = "out", *, turn: int = 1, run: int = 1) -> NewEvent:
    """A ToolCallOutput, as a host writes it."""
    event = event_pb2.Event(run=run, turn=turn)
    event.time.FromNanoseconds(5 * 10**9)
    event.tool_call_output.text = text
    return NewEvent(event_pb2.EVENT_KIND_TOOL_CALL_OUTPUT, run, event.SerializeToString())


def event_of(event: event_pb2.Event) -> NewEvent:
    """An event of any kind."""
    name = event.WhichOneof("kind")
    assert name is not None
    number = event_pb2.Event.DESCRIPTOR.fields_by_name[name].number
    return NewEvent(number, event.run, event.SerializeToString())


def parse(framed: bytes) -> event_pb2.Event:
    """One event, as the store keeps it."""
    (event,) = watch_pb2.EventBatch.FromString(framed).events
    return event


async def begin(store: Store, *sessions: SessionRow) -> None:
    """Inserts sessions (one, unless told)."""

    def fn(tx: Tx) -> None:
        for row in sessions or (a_session(),):
            tx.insert_session(row)

    await store.write(fn)


async def append(store: Store, session_id: str, *texts: str) -> int:
    """Appends an output for each text, in one write; returns the first sequence."""
    events = [an_event(text) for text in texts]
    return await store.write(lambda tx: tx.append_events(session_id, events))


def is_root() -> bool:
    return os.geteuid() == 0
