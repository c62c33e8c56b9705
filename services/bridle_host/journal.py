"""The journal: the host's durable memory of what it has to tell control, and of what it was told.

Three things live in it (see `journal_file` for the file itself, and for why it is SQLite):

- **Entries**, numbered 1, 2, 3 … without gaps: events, answers to commands, drivers' states, and
  the runs that were taken over from a journal that is lost. An entry stays until control has
  acknowledged it, which is after control's own fsync. So a cut of the link, a crash of either side
  and a loss of power lose none, and none is stored twice.
- **Answers**: each CommandEntry once more, by the command's id, kept at least until it is
  acknowledged *and* its run is over. So a repeated command is answered and never run twice.
- **Runs** that are live, with what the sessions want to know about them after a crash.

`append` returns after the fsync. One thread writes; what waits while it commits goes into the
next commit together (group commit). Sequences are given on the event loop, in the order of the
calls, before anything waits for the disk; only what is durable can be read.

**When there is no room, appends wait; nothing is ever dropped.** The sizes of what isn't
acknowledged are capped. Above the cap only batches that hold a lifecycle entry (all but `BULK`) go
on, into a reserve, so that interrupts, stops and kills work while output waits; above the reserve
all wait. Whoever reads an agent should look at `pressed` before it reads on: an actor that waits in
`append` with output can't append the answer to an interrupt. A full disk is the same: a file
that holds a place for the reserve is given up, output waits, and the commit is tried again until it
succeeds.

A failed fsync, or any other failure of the file, ends the process (`on_fatal`), because what the
disk holds then is unknown; the next start reads what is there.

Called by the session actors (append, answers, runs), and by the link (read_after, acknowledge).
It may not import either, and must be used from one event loop.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle.v1 import event_pb2
from bridle_host.journal_answers import Answers
from bridle_host.journal_file import (
    AnswerRow,
    Change,
    Connect,
    JournalError,
    JournalFile,
    connect,
)
from bridle_host.journal_writer import JournalWriter

#: Kinds of events that an agent can make without end. All others, and the answers to commands, move
#: a session's life on; they may use the reserve.
BULK = frozenset(
    {
        event_pb2.EVENT_KIND_AGENT_MESSAGE,
        event_pb2.EVENT_KIND_AGENT_THOUGHT,
        event_pb2.EVENT_KIND_TOOL_CALL_STARTED,
        event_pb2.EVENT_KIND_TOOL_CALL_OUTPUT,
        event_pb2.EVENT_KIND_TOOL_CALL_ENDED,
        event_pb2.EVENT_KIND_PLAN_UPDATED,
        event_pb2.EVENT_KIND_USAGE_REPORTED,
        event_pb2.EVENT_KIND_DIAGNOSTIC,
    }
)
#: The largest entry, in bytes: it has to fit into a message of 4 MiB with room to spare.
MAX_ENTRY_BYTES = 3 * 1024 * 1024
#: Recent entries that are kept in memory for the link, in bytes: what a link that keeps up reads.
TAIL_BYTES = 4 * 1024 * 1024
#: Default sizes, in bytes.
CAP_BYTES = 256 * 1024 * 1024
RESERVE_BYTES = 8 * 1024 * 1024
#: While control is there, so much waits for its acknowledgement before agents are read no more, in
#: bytes: the answer to an interrupt stands behind all of it, also where control's disk is full.
#: As much as one message of the link holds, and many times what comes between two acknowledgements.
WINDOW_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry to append: exactly one of the last four is set.

    `event` is (kind, a serialized bridle.v1.Event without sequence and commit_time).
    """

    session_id: str
    run: int
    event: tuple[int, bytes] | None = None
    command: host_pb.CommandEntry | None = None
    driver_state: bytes | None = field(default=None, repr=False)
    adopt: host_pb.AdoptEntry | None = None

    @property
    def is_bulk(self) -> bool:
        """Whether an agent can make such entries without end."""
        return self.event is not None and self.event[0] in BULK


class Journal:
    """See the module. Make it by `Journal.open`; end it by `close`."""

    def __init__(
        self, file: JournalFile, writer: JournalWriter, cap_bytes: int, reserve_bytes: int
    ) -> None:
        loaded = file.loaded
        self._writer = writer
        self._cap = cap_bytes
        self._reserve = reserve_bytes
        self._journal_id = loaded.journal_id
        self._assigned = loaded.last
        self._durable = loaded.last
        self._acknowledged = loaded.trimmed
        self._adopted = loaded.adopted
        # (last sequence, bytes) of what was appended together, ascending: how acknowledged bytes
        # are counted off. Bounded by the cap, as each stands for at least one entry.
        self._sizes = deque(loaded.sizes)
        self._size = sum(size for _, size in loaded.sizes)
        self._tail: deque[tuple[int, bytes]] = deque()
        self._tail_size = 0
        self._runs = dict(loaded.runs)
        self._answers = Answers(loaded.answers, self._runs.keys(), loaded.trimmed)
        self._room = asyncio.Event()
        self._linked = False
        self._renewing = False
        self._listeners: list[Callable[[], None]] = []
        self._answer_listeners: list[Callable[[Sequence[AnswerRow]], None]] = []
        writer.start(self._committed, self._room.set)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        on_fatal: Callable[[str], None],
        cap_bytes: int = CAP_BYTES,
        reserve_bytes: int = RESERVE_BYTES,
        connect: Connect = connect,
    ) -> Journal:
        """Opens the journal in the file `path` (mode 0600), or makes an empty one.

        `on_fatal(line)` is called on the writing thread when the file failed; it should end the
        process at once. Raises JournalError, whose text is one line for people: the file is used by
        another process, is damaged, or was written by a newer version.
        """
        file = JournalFile(path, connect)
        # On another name than the journal's own files, which SQLite makes.
        ballast = path.with_name(path.name + ".reserve")
        try:
            writer = JournalWriter(file, ballast, reserve_bytes, on_fatal)
        except OSError as error:
            file.close()
            raise JournalError(f"{ballast} can't be written: {error.strerror}") from None
        return cls(file, writer, cap_bytes, reserve_bytes)

    # --- what it is ---

    @property
    def journal_id(self) -> str:
        """Random; another one after `renew`."""
        return self._journal_id

    @property
    def last_sequence(self) -> int:
        """The newest entry that is durable; 0 for none ever."""
        return self._durable

    @property
    def assigned_sequence(self) -> int:
        """The newest entry that has a number, durable or not yet."""
        return self._assigned

    @property
    def acknowledged(self) -> int:
        """Control has all entries up to this one."""
        return self._acknowledged

    @property
    def adopted(self) -> int:
        """The newest entry by which a run of a lost journal was taken over; 0 for none."""
        return self._adopted

    @property
    def floor(self) -> int:
        """The oldest entry that is still here; 0 when there is none."""
        return self._acknowledged + 1 if self._acknowledged < self._durable else 0

    @property
    def size(self) -> int:
        """How much waits for its acknowledgement, in bytes."""
        return self._size

    @property
    def pressed(self) -> bool:
        """Whether output would have to wait: stop reading from the agent until `wait_for_room`."""
        limit = min(self._cap, WINDOW_BYTES) if self._linked else self._cap
        return self._size >= limit or self._writer.disk_full

    def linked(self, is_linked: bool) -> None:
        """Whether control takes what is here; then agents say no more at once than it takes."""
        self._linked = is_linked
        self._room.set()

    async def wait_for_room(self) -> None:
        """Returns when `pressed` is false."""
        while self.pressed:
            await self._wait_for_change()

    # --- appending ---

    async def append(
        self,
        entries: Sequence[Entry],
        run: Callable[[], tuple[str, int, bytes] | None] | None = None,
        *,
        urgent: bool = False,
        always: bool = False,
    ) -> int:
        """Appends all of them or none, durably; returns the sequence of the last.

        What `run` gives, (session_id, run, state) as in `put_run`, is kept in the same commit; it
        is asked when there is room, so that no older state follows a newer one. With `urgent`
        output may use the reserve (what stands before the end of a turn that somebody wants to
        end). `always` goes beyond cap and reserve.

        Waits while there is no room. A call that is cancelled after it got its place is
        carried out all the same. Raises ValueError for an entry above MAX_ENTRY_BYTES.
        """
        if not entries:
            return self._durable
        bodies = [_body(entry) for entry in entries]
        size = sum(map(len, bodies))
        bulk = all(entry.is_bulk for entry in entries)
        while not self._admits(size, bulk and not urgent, always=always):
            await self._wait_for_change()
        # Until it is submitted nothing waits: the numbers follow the order of the calls.
        change = self._place(entries, bodies, run() if run is not None else None)
        await self._writer.submit(change)
        return change.entries[-1][0]

    def begin(
        self,
        entries: Sequence[Entry],
        run: tuple[str, int, bytes] | None = None,
        *,
        urgent: bool = False,
    ) -> Awaitable[None] | None:
        """As `append`, but with its place given now, before anything else can have one.

        None, and nothing was done, where the entries have to wait for room. What is returned is to
        be awaited: it is done when all is durable. Output has room while the journal isn't
        `pressed`, whatever its size, so that whoever has looked never waits.
        """
        bodies = [_body(entry) for entry in entries]
        bulk = all(entry.is_bulk for entry in entries) and not urgent
        admitted = bulk and not self.pressed and not self._renewing
        if not admitted and not self._admits(sum(map(len, bodies)), bulk, always=False):
            return None
        return self._writer.put(self._place(entries, bodies, run))

    def _place(
        self,
        entries: Sequence[Entry],
        bodies: Sequence[bytes],
        run: tuple[str, int, bytes] | None,
    ) -> Change:
        """Gives the entries their numbers."""
        size = sum(map(len, bodies))
        numbers = range(self._assigned + 1, self._assigned + len(bodies) + 1)
        rows = [(n, _stamp(n, body)) for n, body in zip(numbers, bodies, strict=True)]
        self._assigned += len(rows)
        self._size += size
        self._sizes.append((self._assigned, size))
        answers = [
            self._answers.add(number, (entry.session_id, entry.run), entry.command)
            for number, entry in zip(numbers, entries, strict=True)
            if entry.command is not None
        ]
        change = Change(entries=rows, answers=answers, size=size)
        for number, entry in zip(numbers, entries, strict=True):
            if entry.adopt is not None:
                self._adopted = change.adopted = number
        if run is not None:
            self._runs[run[0], run[1]] = run[2]
            change.put_runs = [run]
        return change

    def _admits(self, size: int, bulk: bool, *, always: bool) -> bool:
        if self._renewing or (bulk and self._writer.disk_full):
            return False
        if always:
            return True
        limit = self._cap if bulk else self._cap + self._reserve
        # Into an empty journal goes whatever comes, or it would wait for ever.
        return self._size + size <= limit or self._size == 0

    async def _wait_for_change(self) -> None:
        self._writer.check()
        self._room.clear()
        await self._room.wait()

    def _committed(self, changes: Sequence[Change]) -> None:
        """The writer's report, on the event loop, in the order of the commits."""
        for change in changes:
            if not change.entries:
                continue
            if change.answers:
                for hears in self._answer_listeners:
                    hears(change.answers)
            self._durable = change.entries[-1][0]
            self._tail.extend(change.entries)
            self._tail_size += sum(len(body) for _, body in change.entries)
        while self._tail and (
            self._tail_size > TAIL_BYTES or self._tail[0][0] <= self._acknowledged
        ):
            self._tail_size -= len(self._tail.popleft()[1])
        for listener in self._listeners:
            listener()

    # --- answers ---

    def answers(self, command_id: str) -> list[host_pb.CommandEntry]:
        """What was answered to a command, oldest first; empty for one that is not known.

        Holds what was appended, also where it isn't durable yet.
        """
        return self._answers.of(command_id)

    def open_commands(self) -> list[tuple[str, int, host_pb.CommandEntry]]:
        """(session_id, run, newest answer) of the commands that were begun and never decided."""
        return self._answers.open()

    # --- runs ---

    async def put_run(self, session_id: str, run: int, state: bytes) -> None:
        """Keeps what is to be known about a live run; durable when it returns."""
        self._runs[session_id, run] = state
        await self._writer.submit(Change(put_runs=[(session_id, run, state)], size=len(state)))

    async def drop_run(self, session_id: str, run: int) -> None:
        """Forgets a run that is over; durable when it returns."""
        self._runs.pop((session_id, run), None)
        dropped = self._answers.run_over((session_id, run))
        await self._writer.submit(Change(drop_runs=[(session_id, run)], drop_answers=dropped))

    def runs(self) -> list[tuple[str, int, bytes]]:
        """(session_id, run, state) of the runs that were put and not dropped."""
        return [(session_id, run, state) for (session_id, run), state in self._runs.items()]

    # --- the link's side ---

    def on_durable(self, listener: Callable[[], None]) -> None:
        """Calls the listener, on the event loop, whenever entries have become readable."""
        self._listeners.append(listener)

    def on_answers(self, listener: Callable[[Sequence[AnswerRow]], None]) -> None:
        """Calls the listener, on the event loop, with answers that have become durable."""
        self._answer_listeners.append(listener)

    def on_commit(self, listener: Callable[[float], None]) -> None:
        """Calls the listener, on the journal's thread, with the seconds that each commit took."""
        self._writer.on_commit = listener

    async def read_after(
        self, sequence: int, max_bytes: int, max_entries: int = 1000
    ) -> list[tuple[int, bytes]]:
        """(sequence, a serialized Record) of the durable entries after `sequence`, ascending.

        As many as fit, without gaps, but at least one where there is one. Where the entries after
        `sequence` are gone already, it begins at the floor.
        """
        if self._durable <= sequence:
            return []
        if self._tail and self._tail[0][0] <= sequence + 1:
            return self._read_tail(sequence, max_bytes, max_entries)
        return await self._writer.call(lambda file: file.read(sequence, max_bytes, max_entries))

    def _read_tail(
        self, sequence: int, max_bytes: int, max_entries: int
    ) -> list[tuple[int, bytes]]:
        start = sequence + 1 - self._tail[0][0]
        found: list[tuple[int, bytes]] = []
        for item in itertools.islice(self._tail, start, start + max_entries):
            max_bytes -= len(item[1])
            if found and max_bytes < 0:
                break
            found.append(item)
        return found

    def acknowledge(self, sequence: int) -> None:
        """Control has committed all entries up to this one: they may go.

        Raises ValueError for one that was never durable.
        """
        if sequence > self._durable:
            raise ValueError(f"entry {sequence} is acknowledged, the newest is {self._durable}")
        if sequence <= self._acknowledged:
            return
        self._acknowledged = sequence
        while self._sizes and self._sizes[0][0] <= sequence:
            self._size -= self._sizes.popleft()[1]
        while self._tail and self._tail[0][0] <= sequence:
            self._tail_size -= len(self._tail.popleft()[1])
        dropped = self._answers.acknowledge(sequence)
        self._writer.submit_lazily(Change(trim=sequence, drop_answers=dropped))
        self._room.set()

    async def wait_acknowledged(self, sequence: int) -> None:
        """Returns when control has all entries up to this one."""
        while self._acknowledged < sequence:
            await self._wait_for_change()

    async def renew(self) -> None:
        """Takes a new journal_id, and numbers what is not acknowledged from 1.

        For a control that knows entries of this journal_id which this journal never had: the file
        is an old copy of itself, and its next numbers would be taken for repeats.
        """
        self._renewing = True
        try:
            journal_id = str(uuid.uuid4())
            # Appends wait meanwhile; those before are committed once this call has its turn.
            last = await self._writer.call(lambda file: file.renew(journal_id, _restamp))
            offset = self._acknowledged
            self._answers.renumber(offset)
            self._adopted = max(0, self._adopted - offset)
            self._sizes = deque((sequence - offset, size) for sequence, size in self._sizes)
            self._tail.clear()
            self._tail_size = self._acknowledged = 0
            self._journal_id = journal_id
            self._assigned = self._durable = last
        finally:
            self._renewing = False
            self._room.set()

    async def close(self) -> None:
        """Ends the journal; what was appended is durable. Later calls raise JournalError."""
        await asyncio.to_thread(self._writer.close)


def _body(entry: Entry) -> bytes:
    """A serialized Record without its sequence."""
    record = host_pb.Record(session_id=entry.session_id, run=entry.run)
    if entry.event is not None:
        # The stub's enum is open: a kind that this version doesn't know goes through.
        record.event.kind = entry.event[0]  # type: ignore[assignment]
        record.event.event = entry.event[1]
    elif entry.command is not None:
        record.command.CopyFrom(entry.command)
    elif entry.adopt is not None:
        record.adopt.CopyFrom(entry.adopt)
    else:
        record.driver_state.state = entry.driver_state or b""
    body = record.SerializeToString()
    if len(body) > MAX_ENTRY_BYTES:
        raise ValueError(f"an entry of {len(body)} bytes is too large for the journal")
    return body


def _stamp(sequence: int, body: bytes) -> bytes:
    """The Record: its first field, journal_sequence, before what `_body` made."""
    head = bytearray(b"\x08")
    while sequence > 0x7F:
        head.append(sequence & 0x7F | 0x80)
        sequence >>= 7
    head.append(sequence)
    return bytes(head) + body


def _restamp(sequence: int, record: bytes) -> bytes:
    """The Record under another sequence."""
    end = 1
    while record[end] & 0x80:
        end += 1
    return _stamp(sequence, record[end + 1 :])
