"""What the tests of the journal share: entries, a journal that is closed, bad disks."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle.v1 import event_pb2, receipt_pb2
from bridle_host.journal import Entry, Journal

OUTPUT = event_pb2.EVENT_KIND_TOOL_CALL_OUTPUT
ENDED = event_pb2.EVENT_KIND_TURN_ENDED
PENDING = receipt_pb2.OUTCOME_STATE_PENDING
RAN = receipt_pb2.OUTCOME_STATE_RAN


def output(text: str = "x", session_id: str = "s", run: int = 1) -> Entry:
    """An entry that an agent can make without end."""
    return Entry(session_id, run, event=(OUTPUT, text.encode()))


def lifecycle(text: str = "x", session_id: str = "s", run: int = 1) -> Entry:
    """An entry that moves a session's life on."""
    return Entry(session_id, run, event=(ENDED, text.encode()))


def answer(command_id: str, state: Any = RAN, session_id: str = "s", run: int = 1) -> Entry:
    """What came of a command."""
    outcome = receipt_pb2.Outcome(state=state)
    command = host_pb.CommandEntry(command_id=command_id, outcome=outcome)
    return Entry(session_id, run, command=command)


class Fatal:
    """An `on_fatal` that lets the process live."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)


@asynccontextmanager
async def opened(path: Path, **options: Any) -> AsyncIterator[Journal]:
    """The journal in a directory, closed in the end."""
    options.setdefault("on_fatal", Fatal())
    options.setdefault("reserve_bytes", 4096)
    journal = Journal.open(path / "journal", **options)
    try:
        yield journal
    finally:
        await journal.close()


async def records(
    journal: Journal, after: int = 0, max_bytes: int = 1 << 30
) -> list[host_pb.Record]:
    """All entries after one, parsed."""
    found = await journal.read_after(after, max_bytes, 1_000_000)
    parsed = [host_pb.Record.FromString(body) for _, body in found]
    assert [record.journal_sequence for record in parsed] == [sequence for sequence, _ in found]
    return parsed


async def until(condition: Callable[[], bool]) -> None:
    """Lets the loop run until the condition holds (the test's timeout is the limit)."""
    while not condition():  # noqa: ASYNC110 - any condition, so nobody can tell when it holds
        await asyncio.sleep(0.001)


async def settle() -> None:
    """Lets everything that could go on go on."""
    for _ in range(20):
        await asyncio.sleep(0)


class BadDisk(sqlite3.Connection):
    """A connection whose statements fail on order, with the codes that SQLite gives."""

    #: (the statement's beginning, the error's code); the next such statement fails.
    failing: tuple[str, int] | None = None

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        if self.failing is not None and sql.startswith(self.failing[0]):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = self.failing[1]
            type(self).failing = None
            raise error
        return super().execute(sql, *arguments)


def bad_disk(path: Path) -> sqlite3.Connection:
    """Connects by BadDisk."""
    BadDisk.failing = None
    return sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=0, factory=BadDisk
    )
