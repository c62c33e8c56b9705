"""What is on the disk of a host in a simulation: its journal, and what is kept of each run."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from dataclasses import dataclass, field, replace

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle_core.commands import RunSpec
from bridle_core.observations import Content
from bridle_core.session import RunRecord
from bridle_host.adoption import adoption
from bridle_host.run_state import RunState

Key = tuple[str, int]


@dataclass
class Kept:
    """What is on the disk of a run that lives."""

    spec: RunSpec
    record: str
    contents: dict[str, tuple[Content, ...]]
    #: How many of its agent's words are in the journal.
    taken: int
    #: See `RunState.astray`.
    astray: bool = False

    def forgotten(self) -> Kept:
        """For a journal that is lost, while the agent and the plain files live on."""
        left = RunState(self.spec, RunRecord.load(self.record)).forgotten()
        return replace(self, record=left.record.dump(), astray=left.astray)


@dataclass
class Journal:
    """The journal on the disk, as the link stream uses it."""

    journal_id: str
    entries: deque[tuple[int, bytes]] = field(default_factory=deque)
    last_sequence: int = 0
    acknowledged: int = 0
    #: The newest answer to each command.
    answers: dict[str, wire.CommandEntry] = field(default_factory=dict)
    runs: dict[Key, Kept] = field(default_factory=dict)
    #: The newest entry by which a run was taken over.
    adopted: int = 0

    @property
    def floor(self) -> int:
        return self.entries[0][0] if self.entries else 0

    def adopt(self, key: Key, kept: Kept, host_id: str) -> None:
        """Takes a run over from a journal that is lost, as the real host does."""
        self.last_sequence += 1
        self.adopted = self.last_sequence
        state = RunState(kept.spec, RunRecord.load(kept.record))
        record = wire.Record(
            journal_sequence=self.adopted,
            session_id=key[0],
            run=key[1],
            adopt=adoption(state, host_id),
        )
        self.entries.append((self.adopted, record.SerializeToString()))
        self.runs[key] = kept

    def acknowledge(self, sequence: int) -> None:
        self.acknowledged = max(self.acknowledged, sequence)
        while self.entries and self.entries[0][0] <= sequence:
            self.entries.popleft()

    async def read_after(
        self, cursor: int, max_bytes: int, max_entries: int
    ) -> list[tuple[int, bytes]]:
        await asyncio.sleep(0)
        found = (entry for entry in self.entries if entry[0] > cursor)
        return list(itertools.islice(found, max_entries))
