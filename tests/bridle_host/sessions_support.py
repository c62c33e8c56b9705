"""What the tests of the session actors share: a host without a link, and what its journal says."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from google.protobuf import duration_pb2

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle.v1 import content_pb2, event_pb2, receipt_pb2
from bridle_core.ordering import EventKind, OrderChecker
from bridle_host.containment import Containment, Level, detect
from bridle_host.drivers.base import DriverFactory
from bridle_host.journal import Journal
from bridle_host.sessions import Sessions
from bridle_host.telemetry import observe
from bridle_telemetry.telemetry import Telemetry
from tests.bridle_host.journal_support import opened

SESSION = "0190-session"
#: No process is started by a fake driver, so nothing needs to hold any.
NONE = Containment(Level.SUBREAPER, None, "for tests")


def seconds(value: float) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(int(value * 1e9))
    return duration


def state_name(outcome: receipt_pb2.Outcome) -> tuple[str, str]:
    """Such as ("RAN", "DONE")."""
    return (
        receipt_pb2.OutcomeState.Name(outcome.state).removeprefix("OUTCOME_STATE_"),
        receipt_pb2.OutcomeReason.Name(outcome.reason).removeprefix("OUTCOME_REASON_"),
    )


class Host:
    """Sessions with a journal, as control would see them."""

    def __init__(self, sessions: Sessions, journal: Journal, directory: Path) -> None:
        self.sessions = sessions
        self.journal = journal
        self.directory = directory
        self.live: list[host_pb.LiveTextPiece] = []
        #: What the commands that follow belong to.
        self.trace: host_pb.TraceContext | None = None
        #: Where its metrics are to be had, as HOST:PORT.
        self.metrics_address: str | None = None
        self._numbers = itertools.count(1)
        self._moved = asyncio.Event()
        journal.on_durable(self._moved.set)

    # --- commands ---

    async def command(
        self, session_id: str = SESSION, run: int = 1, command_id: str = "", **action: Any
    ) -> str:
        """Submit a command, which belongs to `trace`; returns its id."""
        command_id = command_id or f"command-{next(self._numbers)}"
        command = host_pb.Command(
            command_id=command_id, session_id=session_id, run=run, trace=self.trace, **action
        )
        await self.sessions.submit(command)
        return command_id

    async def start(
        self, session_id: str = SESSION, run: int = 1, command_id: str = "", **fields: Any
    ) -> str:
        fields.setdefault("agent", "fake")
        fields.setdefault("slug", "fix-auth")
        fields.setdefault("workspace", "default")
        fields.setdefault("token", host_pb.SessionToken(token="brs_first"))
        start = host_pb.StartRun(**fields)
        return await self.command(session_id, run, command_id, start=start)

    async def send(self, text: str, session_id: str = SESSION, run: int = 1, **fields: Any) -> str:
        number = next(self._numbers)
        fields.setdefault("input_id", f"input-{number}")
        deliver = host_pb.DeliverInput(
            content=[content_pb2.Content(text=text)], sequence=number, **fields
        )
        return await self.command(session_id, run, deliver=deliver)

    async def interrupt(self, session_id: str = SESSION, run: int = 1, **fields: Any) -> str:
        return await self.command(session_id, run, interrupt=host_pb.InterruptTurn(**fields))

    async def stop(self, session_id: str = SESSION, run: int = 1, **fields: Any) -> str:
        return await self.command(session_id, run, stop=host_pb.StopRun(**fields))

    async def kill(self, session_id: str = SESSION, run: int = 1) -> str:
        return await self.command(session_id, run, kill=host_pb.KillRun())

    # --- the journal ---

    async def records(self, session_id: str = SESSION) -> list[host_pb.Record]:
        found = await self.journal.read_after(0, 1 << 30, 1_000_000)
        parsed = [host_pb.Record.FromString(body) for _, body in found]
        return [record for record in parsed if record.session_id == session_id]

    async def events(self, session_id: str = SESSION) -> list[event_pb2.Event]:
        return [
            event_pb2.Event.FromString(record.event.event)
            for record in await self.records(session_id)
            if record.HasField("event")
        ]

    async def kinds(self, session_id: str = SESSION) -> list[str]:
        return [str(event.WhichOneof("kind")) for event in await self.events(session_id)]

    async def event(self, kind: str, count: int = 1, session_id: str = SESSION) -> Any:
        """Wait for the count-th event of a kind; the event's part of that kind."""
        while True:
            self._moved.clear()
            found = [e for e in await self.events(session_id) if e.WhichOneof("kind") == kind]
            if len(found) >= count:
                return getattr(found[count - 1], kind)
            await self._moved.wait()

    async def answers(self, command_id: str) -> list[receipt_pb2.Outcome]:
        found = await self.journal.read_after(0, 1 << 30, 1_000_000)
        parsed = [host_pb.Record.FromString(body) for _, body in found]
        return [r.command.outcome for r in parsed if r.command.command_id == command_id]

    async def answer(self, command_id: str, count: int = 1) -> tuple[str, str]:
        """Wait for the count-th answer to a command."""
        while True:
            self._moved.clear()
            found = await self.answers(command_id)
            if len(found) >= count:
                return state_name(found[count - 1])
            await self._moved.wait()

    async def outcome(self, command_id: str) -> tuple[str, str]:
        """Wait for the final answer."""
        while True:
            self._moved.clear()
            for found in await self.answers(command_id):
                if found.state != receipt_pb2.OUTCOME_STATE_PENDING:
                    return state_name(found)
            await self._moved.wait()

    async def in_order(self, session_id: str = SESSION) -> OrderChecker:
        """The checker, with the session's whole log in it."""
        return check_order(await self.events(session_id))


def check_order(events: Sequence[event_pb2.Event]) -> OrderChecker:
    """Raises OrderViolation."""
    checker = OrderChecker()
    for event in events:
        name = event.WhichOneof("kind")
        assert name is not None
        kind = EventKind(
            event_pb2.EventKind.Name(
                event.DESCRIPTOR.fields_by_name[name].number  # type: ignore[arg-type]
            ).removeprefix("EVENT_KIND_")
        )
        part = getattr(event, name)
        ref = ""
        fields = part.DESCRIPTOR.fields_by_name
        about = "approval_id" if name.startswith("approval") else "tool_call_id"
        for field in (about, "input_id"):
            if field in fields and not ref:
                ref = getattr(part, field)
        inputs = list(part.input_ids) if name == "turn_started" else []
        checker.feed(kind, run=event.run, turn=event.turn, ref=ref, inputs=inputs)
    return checker


@asynccontextmanager
async def hosting(
    path: Path,
    drivers: Mapping[str, DriverFactory],
    *,
    containment: Containment | None = None,
    limit: int = 8,
    journal: Mapping[str, Any] | None = None,
    telemetry: Telemetry | None = None,
    **options: Any,
) -> AsyncIterator[Host]:
    """A host at work, with its files in `path`."""
    work = path / "work"
    work.mkdir(exist_ok=True)
    async with opened(path, **(journal or {})) as book:
        pieces: list[host_pb.LiveTextPiece] = []
        sessions = Sessions(
            journal=book,
            drivers=drivers,
            live_text=pieces.append,
            containment=containment or NONE,
            state_directory=path / "runs",
            default_directory=work,
            session_limit=limit,
            host_id="host-1",
            control_address="127.0.0.1:1",
            observer=observe(telemetry or Telemetry.off(), book),
            **options,
        )
        await sessions.recover()
        host = Host(sessions, book, work)
        host.live = pieces
        async with asyncio.TaskGroup() as group:
            running = group.create_task(sessions.run())
            try:
                yield host
            finally:
                running.cancel()


def strongest() -> Containment:
    """What this machine gives."""
    return detect()
