"""What was answered to commands: the journal's memory that makes a repeat harmless.

Holds each command's answers until they are acknowledged, and the command's run is over, and KEPT
newer commands have come that far. Plain memory: `bridle_host.journal` writes to the file what
happens here, and nobody else uses it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle.v1 import receipt_pb2
from bridle_host.journal_file import AnswerRow

#: Commands that are remembered although nothing needs them: a margin for what nobody thought of.
KEPT = 4096

RunKey = tuple[str, int]


@dataclass(slots=True)
class _Command:
    """One command. `sequence` is that of the newest answer."""

    run: RunKey
    rows: list[AnswerRow] = field(default_factory=list)
    sequence: int = 0
    settled: bool = False


class Answers:
    """See the module. The live runs are the caller's, and are looked at, never changed."""

    def __init__(
        self, rows: Iterable[AnswerRow], live: Collection[RunKey], acknowledged: int
    ) -> None:
        self._live = live
        self._acknowledged = acknowledged
        self._commands: dict[str, _Command] = {}
        self._of_run: dict[RunKey, set[str]] = {}
        self._next_number = 1
        # (sequence, command) of answers that aren't acknowledged, ascending; as many as there are
        # entries in the journal at most, so its cap bounds it.
        self._unacknowledged: deque[tuple[int, str]] = deque()
        # Commands that nothing needs any more, oldest first; at most KEPT.
        self._settled: deque[str] = deque()
        for row in rows:
            self._put(row)
            self._next_number = row.number + 1
        self._settle(list(self._commands))

    def add(self, sequence: int, run: RunKey, entry: host_pb.CommandEntry) -> AnswerRow:
        """Remembers an answer; returns the row to be written with its entry."""
        body = entry.SerializeToString()
        row = AnswerRow(self._next_number, sequence, entry.command_id, *run, body)
        self._next_number += 1
        self._put(row)
        return row

    def of(self, command_id: str) -> list[host_pb.CommandEntry]:
        """What was answered to a command, oldest first."""
        command = self._commands.get(command_id)
        rows = command.rows if command else []
        return [host_pb.CommandEntry.FromString(row.body) for row in rows]

    def open(self) -> list[tuple[str, int, host_pb.CommandEntry]]:
        """(session_id, run, newest answer) of the commands that aren't decided."""
        found = []
        for command in self._commands.values():
            newest = host_pb.CommandEntry.FromString(command.rows[-1].body)
            if newest.outcome.state == receipt_pb2.OUTCOME_STATE_PENDING:
                found.append((*command.run, newest))
        return found

    def acknowledge(self, sequence: int) -> list[int]:
        """Control has all answers up to `sequence`. Returns the numbers of rows to delete."""
        self._acknowledged = sequence
        touched = []
        while self._unacknowledged and self._unacknowledged[0][0] <= sequence:
            touched.append(self._unacknowledged.popleft()[1])
        return self._settle(touched)

    def run_over(self, run: RunKey) -> list[int]:
        """A run has left the live ones. Returns the numbers of rows to delete."""
        return self._settle(list(self._of_run.get(run, ())))

    def renumber(self, offset: int) -> None:
        """The entries' sequences became lower by `offset`, and none is acknowledged any more."""
        self._acknowledged = 0
        self._unacknowledged = deque((s - offset, c) for s, c in self._unacknowledged)
        for command in self._commands.values():
            command.sequence = max(0, command.sequence - offset)

    def _put(self, row: AnswerRow) -> None:
        run = (row.session_id, row.run)
        command = self._commands.get(row.command_id)
        if command is None:
            command = self._commands[row.command_id] = _Command(run)
            self._of_run.setdefault(run, set()).add(row.command_id)
        command.rows.append(row)
        command.sequence = row.sequence
        if row.sequence > self._acknowledged:
            self._unacknowledged.append((row.sequence, row.command_id))

    def _settle(self, command_ids: Iterable[str]) -> list[int]:
        for command_id in command_ids:
            command = self._commands.get(command_id)
            if (
                command is not None
                and not command.settled
                and command.run not in self._live
                and command.sequence <= self._acknowledged
            ):
                command.settled = True
                self._settled.append(command_id)
        dropped: list[int] = []
        while len(self._settled) > KEPT:
            dropped += self._forget(self._settled.popleft())
        return dropped

    def _forget(self, command_id: str) -> list[int]:
        command = self._commands.pop(command_id)
        of_run = self._of_run[command.run]
        of_run.discard(command_id)
        if not of_run:
            del self._of_run[command.run]
        return [row.number for row in command.rows]
