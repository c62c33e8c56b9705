"""What the scenarios share: reading logs, and looking for what a session left on the machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bridle.v1 import event_pb2, receipt_pb2, session_pb2, watch_pb2
from tests.pair import PATIENCE, Pair
from tests.support.event_order import check_order
from tests.support.leaks import GUARD

__all__ = [
    "NEVER",
    "NOT_RUN",
    "PENDING",
    "RAN",
    "Gate",
    "bearing",
    "check_order",
    "gate",
    "kinds",
    "log",
    "output",
    "reaches",
    "turn_begins",
    "turn_ends",
]

RAN = receipt_pb2.OUTCOME_STATE_RAN
NOT_RUN = receipt_pb2.OUTCOME_STATE_NOT_RUN
PENDING = receipt_pb2.OUTCOME_STATE_PENDING
NEVER = watch_pb2.WATCH_UNTIL_NEVER

LIVE = {
    session_pb2.PHASE_STARTING,
    session_pb2.PHASE_IDLE,
    session_pb2.PHASE_RUNNING,
    session_pb2.PHASE_WAITING,
    session_pb2.PHASE_STOPPING,
}


async def log(pair: Pair, slug: str) -> list[event_pb2.Event]:
    """The whole log of a session as it is now; checked to be gap-free."""
    events = [event async for event in pair.client.list_events(slug)]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    return events


def kinds(events: Iterable[event_pb2.Event]) -> list[str]:
    """The kinds of events, by their names in the contract."""
    return [event.WhichOneof("kind") or "" for event in events]


def output(events: Iterable[event_pb2.Event], turn: int | None = None) -> str:
    """What tools put out, in one turn or in all."""
    return "".join(
        event.tool_call_output.text or event.tool_call_output.data.decode("utf-8", "replace")
        for event in events
        if event.WhichOneof("kind") == "tool_call_output" and turn in (None, event.turn)
    )


async def reaches(pair: Pair, slug: str, phase: session_pb2.Phase.ValueType) -> None:
    """Wait until a session is in a phase, woken by its events."""
    async with asyncio.timeout(PATIENCE):
        async for _ in pair.client.watch(slug, until=NEVER):
            found = await pair.client.get_session(slug)
            if found.phase == phase:
                return
            assert found.phase in LIVE, session_pb2.Phase.Name(found.phase)


async def turn_begins(pair: Pair, slug: str, turn: int) -> None:
    """Wait until a turn is told to have begun: its host, and no one else, has it in hand."""
    async with asyncio.timeout(PATIENCE):
        async for event in pair.client.watch(slug, until=NEVER):
            if event.WhichOneof("kind") == "turn_started" and event.turn == turn:
                return
    raise AssertionError("the watch ended by itself")


async def turn_ends(pair: Pair, slug: str, turn: int, *, commands: int = 1) -> event_pb2.Event:
    """Wait for the end of a turn, in which an agent runs so many commands of Bridle's at most."""
    # (On a busy machine each is seconds, most of which its Python takes to come up.)
    async with asyncio.timeout(PATIENCE + 10.0 * (commands - 1)):
        async for event in pair.client.watch(slug, until=NEVER):
            if event.WhichOneof("kind") == "turn_ended" and event.turn == turn:
                return event
    raise AssertionError("the watch ended by itself")


class Gate:
    """Holds a `scripted` agent: its step `ledger PATH` takes until the gate is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self._descriptor = -1

    def open(self) -> None:
        """Lets whoever comes go on. (A pipe is opened for writing once somebody reads from it.)"""
        if self._descriptor < 0:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


@contextmanager
def gate(path: Path) -> Iterator[Gate]:
    """A gate, shut, that `open` opens for as long as the block lasts."""
    made = Gate(path)
    try:
        yield made
    finally:
        made.close()


def bearing(word: str) -> list[str]:
    """The command lines of processes on this machine that hold a word, but for those of another
    run of the tests: it may run the very same ones."""
    guard = f"{GUARD}={os.environ.get(GUARD, '')}"
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (
                (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            )
            if word not in command:
                continue
            environment = (entry / "environ").read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            continue
        guards = [each for each in environment if each.startswith(f"{GUARD}=")]
        if all(each.startswith(guard) for each in guards):
            found.append(command)
    return found
