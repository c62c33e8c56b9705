"""The semantics of the cursor against a model: any history, any watchers, any restarts."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from bridle.v1 import event_pb2, session_pb2
from bridle_control.store.api import NewEvent, Tx
from bridle_control.watch.hub import PROGRESS_EVERY, Hub, Target
from bridle_core.errors import BridleError, Reason
from tests.support.manual_clock import ManualClock
from tests.support.stores import a_session, an_event, begin, event_of, open_sqlite
from tests.support.watching import Watcher, watching

T = TypeVar("T")

OUTPUT = event_pb2.EVENT_KIND_TOOL_CALL_OUTPUT
QUEUE_HELD = event_pb2.EVENT_KIND_QUEUE_HELD
KINDS = st.frozensets(st.sampled_from([OUTPUT, QUEUE_HELD]), max_size=1)


def held() -> NewEvent:
    event = event_pb2.Event(run=1)
    event.queue_held.SetInParent()
    return event_of(event)


class Seen:
    """A watcher over all its connections, and what the model says that it must see."""

    def __init__(self, begin_at: int, kinds: frozenset[int]) -> None:
        self.begin_at = begin_at
        self.kinds = kinds
        self.watcher: Watcher
        self._before: list[int] = []  # what it saw over connections that are gone

    def expected(self, log: list[int]) -> list[int]:
        return [
            sequence
            for sequence, kind in enumerate(log, 1)
            if sequence > self.begin_at and (not self.kinds or kind in self.kinds)
        ]

    @property
    def sequences(self) -> list[int]:
        return self._before + self.watcher.sequences

    @property
    def cursor(self) -> int:
        """Where it would go on: the last event or Progress that it has seen."""
        cursors = [each.sequence for each in self.watcher.progress]
        return max([self.begin_at, *self.sequences, *cursors])

    def disconnected(self) -> None:
        self._before = self.sequences


class WatchMachine(RuleBasedStateMachine):
    """`log` is the model: the kinds of all events, and below which of them the floor lies."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.new_event_loop()
        self._place = Path(tempfile.mkdtemp(prefix="bridle-watch-"))
        self.log: list[int] = []
        self.floor = 1
        self.seen: list[Seen] = []
        self._stack = AsyncExitStack()
        self._run(self._open())
        self._run(begin(self._store, a_session("s1")))

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(coroutine)

    async def _open(self) -> None:
        self._stack = AsyncExitStack()
        place = self._place / "store"
        self._store = await self._stack.enter_async_context(open_sqlite(place))
        self.clock = ManualClock()
        self._hub = Hub(self._store, clock=self.clock)

    async def _caught_up(self) -> None:
        for each in self.seen:
            expected = each.expected(self.log)
            await each.watcher.until(
                lambda each=each, expected=expected: (  # type: ignore[misc]
                    len(each.sequences) >= len(expected) or each.watcher.done
                )
            )

    @initialize(first=KINDS, second=KINDS)
    def two_are_there_from_the_start(self, first: frozenset[int], second: frozenset[int]) -> None:
        self.watch(0.0, tail=False, kinds=first)
        self.watch(1.0, tail=True, kinds=second)

    @rule(count=st.integers(1, 600), every=st.integers(1, 4))
    def append(self, count: int, every: int) -> None:
        kinds = [QUEUE_HELD if number % every else OUTPUT for number in range(count)]
        events = [an_event() if kind == OUTPUT else held() for kind in kinds]
        first = self._run(self._store.write(lambda tx: tx.append_events("s1", events)))
        assert first == len(self.log) + 1
        self.log += kinds

    @precondition(lambda self: len(self.seen) < 5)
    @rule(where=st.floats(0, 1.2), tail=st.booleans(), kinds=KINDS)
    def watch(self, where: float, tail: bool, kinds: frozenset[int]) -> None:
        head = len(self.log)
        number = int(where * head)
        target = Target("s1", tail=number) if tail else Target("s1", after=number)
        watcher = self._connect(target, kinds)
        if not tail and 0 < number < self.floor - 1:
            error = self._run(watcher.ended())
            assert isinstance(error, BridleError)
            assert error.reason is Reason.CURSOR_COMPACTED
            return
        start = max(self.floor - 1, head - number if tail else number)
        first = watcher.said[0]
        if not tail and number == 0 and self.floor > 1:
            assert first.compacted.floor_sequence == self.floor
        else:
            assert first.progress.sequence == start
        seen = Seen(start, kinds)
        seen.watcher = watcher
        self.seen.append(seen)

    def _connect(self, target: Target, kinds: frozenset[int]) -> Watcher:
        context = watching(self._hub, target, kinds=sorted(kinds))
        return self._run(self._stack.enter_async_context(context))

    @rule(step=st.floats(0, 1))
    def raise_floor(self, step: float) -> None:
        # Only where everybody is: what happens to those behind it has a test of its own.
        self._run(self._caught_up())
        self._run(self._at_head())
        self.floor += int(step * (len(self.log) + 1 - self.floor))
        self._run(self._store.write(lambda tx: tx.raise_floor("s1", self.floor)))

    async def _at_head(self) -> None:
        """After enough silence all have said that they are. One that is still passing over what its
        filter leaves out says how far it is, and that it is at the end when it is silent again."""
        for each in self.seen:
            wanted = max(len(self.log), each.begin_at)
            while True:
                said = len(each.watcher.progress)
                self.clock.advance(PROGRESS_EVERY)
                await each.watcher.until(
                    lambda each=each, said=said: len(each.watcher.progress) > said  # type: ignore[misc]
                )
                if each.watcher.progress[-1].sequence == wanted:
                    break

    @precondition(lambda self: bool(self.seen))
    @rule()
    def everybody_is_told_how_far_they_are(self) -> None:
        self._run(self._caught_up())
        self._run(self._at_head())

    @rule()
    def restart(self) -> None:
        """Of control, in the midst of whatever the watchers are at; they go on by their cursors."""
        self._run(self._stack.aclose())
        self.check()
        self._run(self._open())
        for each in self.seen:
            cursor = each.cursor
            each.disconnected()
            log_id = self._store.log_id
            each.watcher = self._connect(Target("s1", after=cursor, log_id=log_id), each.kinds)

    @rule(ended=st.booleans())
    def the_row_changes(self, ended: bool) -> None:
        phase = session_pb2.PHASE_STOPPED if ended else session_pb2.PHASE_IDLE

        def fn(tx: Tx) -> None:
            tx.update_session(a_session("s1", phase=phase))

        self._run(self._store.write(fn))

    @invariant()
    def check(self) -> None:
        """Ordered, unique and without holes, always; bookmarks tell the truth."""
        for each in self.seen:
            expected = each.expected(self.log)
            got = each.sequences
            assert got == expected[: len(got)]
            assert each.watcher.error is None
            self._check_bookmarks(each)

    def _check_bookmarks(self, each: Seen) -> None:
        """Progress at n: all up to n was delivered by then, and nothing from before n follows."""
        delivered = len(each.sequences) - len(each.watcher.sequences)
        last = each.begin_at
        expected = each.expected(self.log)
        for message in each.watcher.said:
            if message.HasField("progress"):
                due = sum(sequence <= message.progress.sequence for sequence in expected)
                assert delivered >= due
                assert message.progress.sequence >= last
                last = message.progress.sequence
            for event in message.events.events:
                delivered += 1
                assert event.sequence > last
                last = event.sequence

    def teardown(self) -> None:
        try:
            self._run(self._caught_up())
            self.check()
            for each in self.seen:
                assert each.sequences == each.expected(self.log)
        finally:
            self._run(self._stack.aclose())
            self._run(self._loop.shutdown_default_executor())
            self._loop.close()
            shutil.rmtree(self._place)


TestWatchModel = WatchMachine.TestCase
TestWatchModel.settings = settings(max_examples=40, stateful_step_count=25)
