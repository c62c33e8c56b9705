"""The journal against a model of it: whatever is done in whatever order, both hold the same."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from bridle_host.journal import Journal
from tests.bridle_host.journal_support import Fatal, answer, lifecycle, output, records

SESSIONS = st.sampled_from(["s1", "s2"])
RUNS = st.integers(1, 2)

appends = st.tuples(
    st.just("append"),
    st.lists(
        st.tuples(st.sampled_from(["output", "lifecycle", "answer"]), SESSIONS, RUNS),
        min_size=1,
        max_size=4,
    ),
)
acknowledges = st.tuples(st.just("acknowledge"), st.floats(0, 1))
runs = st.tuples(st.sampled_from(["put_run", "drop_run"]), st.tuples(SESSIONS, RUNS))
others = st.tuples(st.sampled_from(["reopen", "renew", "read"]), st.none())
steps = st.lists(st.one_of(appends, acknowledges, runs, others), max_size=25)


@dataclass
class Model:
    """What the journal should hold."""

    #: What each entry says, by its number, from the floor on.
    entries: dict[int, str] = field(default_factory=dict)
    last: int = 0
    acknowledged: int = 0
    runs: set[tuple[str, int]] = field(default_factory=set)
    #: command → (its run, the number of its entry)
    needed: dict[str, tuple[tuple[str, int], int]] = field(default_factory=dict)
    texts: int = 0

    def acknowledge(self, sequence: int) -> None:
        self.acknowledged = sequence
        self.entries = {k: v for k, v in self.entries.items() if k > sequence}

    def renew(self) -> None:
        offset = self.acknowledged
        self.entries = {k - offset: v for k, v in self.entries.items()}
        self.needed = {c: (run, k - offset) for c, (run, k) in self.needed.items()}
        self.last -= offset
        self.acknowledged = 0

    def still_needed(self) -> list[str]:
        return [
            command
            for command, (run, sequence) in self.needed.items()
            if run in self.runs or sequence > self.acknowledged
        ]


@given(steps)
@settings(max_examples=60)
def test_the_journal_holds_what_its_model_holds(plan: list[tuple[str, object]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(play(Path(directory), plan))


async def play(directory: Path, plan: list[tuple[str, object]]) -> None:
    model = Model()
    journal = Journal.open(directory / "journal", on_fatal=Fatal(), reserve_bytes=0)
    try:
        for name, argument in plan:
            if name == "reopen":
                await journal.close()
                journal = Journal.open(directory / "journal", on_fatal=Fatal(), reserve_bytes=0)
            await step(journal, model, name, argument)
            await compare(journal, model)
    finally:
        await journal.close()


async def step(journal: Journal, model: Model, name: str, argument: object) -> None:
    if name == "append" and isinstance(argument, list):
        await append(journal, model, argument)
    elif name == "acknowledge" and isinstance(argument, float):
        sequence = model.acknowledged + int((model.last - model.acknowledged) * argument)
        journal.acknowledge(sequence)
        model.acknowledge(sequence)
    elif name == "put_run" and isinstance(argument, tuple):
        session_id, run = argument
        await journal.put_run(session_id, run, b"state")
        model.runs.add((session_id, run))
    elif name == "drop_run" and isinstance(argument, tuple):
        session_id, run = argument
        await journal.drop_run(session_id, run)
        model.runs.discard((session_id, run))
    elif name == "renew":
        before = journal.journal_id
        await journal.renew()
        assert journal.journal_id != before
        model.renew()


async def append(journal: Journal, model: Model, what: list[tuple[str, str, int]]) -> None:
    entries = []
    for kind, session_id, run in what:
        model.texts += 1
        model.last += 1
        text = str(model.texts)
        model.entries[model.last] = text
        if kind == "answer":
            entries.append(answer(text, session_id=session_id, run=run))
            model.needed[text] = ((session_id, run), model.last)
        else:
            make = output if kind == "output" else lifecycle
            entries.append(make(text, session_id, run))
    assert await journal.append(entries) == model.last


async def compare(journal: Journal, model: Model) -> None:
    found = await records(journal)
    said = {r.journal_sequence: r.command.command_id or r.event.event.decode() for r in found}
    assert said == model.entries
    assert journal.last_sequence == journal.assigned_sequence == model.last
    assert journal.acknowledged == model.acknowledged
    assert journal.floor == (min(model.entries) if model.entries else 0)
    assert journal.size >= sum(len(text) for text in model.entries.values())
    assert {(session_id, run) for session_id, run, _ in journal.runs()} == model.runs
    for command in model.still_needed():
        assert [a.command_id for a in journal.answers(command)] == [command]
