"""The order table of the log, as a checker: feed it what the host wrote, in order.

The table itself stands at the top of event.proto. This is its other form, for the conformance suite
of the drivers and for tests: one `OrderChecker` per session, over all its runs. It raises
OrderViolation at the first event that stands where it may not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum


class OrderViolation(AssertionError):  # noqa: N818 - the word of the table
    """An event stands where it may not; the text says which and why."""


class EventKind(StrEnum):
    """The kinds of events; the names of bridle.v1.EventKind without their prefix."""

    SESSION_STARTED = "SESSION_STARTED"
    SESSION_RESUMED = "SESSION_RESUMED"
    PROCESS_STARTED = "PROCESS_STARTED"
    TURN_STARTED = "TURN_STARTED"
    TURN_ENDED = "TURN_ENDED"
    ARTIFACTS_REPORTED = "ARTIFACTS_REPORTED"
    PROCESS_EXITED = "PROCESS_EXITED"
    SESSION_ENDED = "SESSION_ENDED"
    PHASE_CHANGED = "PHASE_CHANGED"
    INPUT_QUEUED = "INPUT_QUEUED"
    INPUT_CONSUMED = "INPUT_CONSUMED"
    INPUT_CANCELLED = "INPUT_CANCELLED"
    QUEUE_HELD = "QUEUE_HELD"
    QUEUE_RELEASED = "QUEUE_RELEASED"
    AGENT_MESSAGE = "AGENT_MESSAGE"
    AGENT_THOUGHT = "AGENT_THOUGHT"
    TOOL_CALL_STARTED = "TOOL_CALL_STARTED"
    TOOL_CALL_OUTPUT = "TOOL_CALL_OUTPUT"
    TOOL_CALL_ENDED = "TOOL_CALL_ENDED"
    PLAN_UPDATED = "PLAN_UPDATED"
    APPROVAL_REQUESTED = "APPROVAL_REQUESTED"
    APPROVAL_RESOLVED = "APPROVAL_RESOLVED"
    USAGE_REPORTED = "USAGE_REPORTED"
    DIAGNOSTIC = "DIAGNOSTIC"
    HOST_LOST = "HOST_LOST"
    HOST_RETURNED = "HOST_RETURNED"


class Place(StrEnum):
    """How far a run has come."""

    CLOSED = "no run is open"
    DOWN = "the run is open and no process is up"
    UP = "a process is up and no turn is on"
    TURN = "a turn is on"
    REPORTED = "the artifacts are reported and the process is up"
    EXITED = "the artifacts are reported and the process is gone"


#: What may stand anywhere.
ANYWHERE = frozenset(
    {
        EventKind.INPUT_QUEUED,
        EventKind.INPUT_CANCELLED,
        EventKind.QUEUE_HELD,
        EventKind.QUEUE_RELEASED,
        EventKind.HOST_LOST,
        EventKind.HOST_RETURNED,
        EventKind.PHASE_CHANGED,
        EventKind.DIAGNOSTIC,
    }
)

#: What stands inside of a turn.
INSIDE = frozenset(
    {
        EventKind.INPUT_CONSUMED,
        EventKind.AGENT_MESSAGE,
        EventKind.AGENT_THOUGHT,
        EventKind.TOOL_CALL_STARTED,
        EventKind.TOOL_CALL_OUTPUT,
        EventKind.TOOL_CALL_ENDED,
        EventKind.PLAN_UPDATED,
        EventKind.APPROVAL_REQUESTED,
        EventKind.APPROVAL_RESOLVED,
        EventKind.USAGE_REPORTED,
    }
)

#: (place, kind) -> place for what opens and closes runs, processes and turns. What isn't in here
#: is a violation.
TABLE: Mapping[tuple[Place, EventKind], Place] = {
    (Place.CLOSED, EventKind.SESSION_STARTED): Place.DOWN,
    (Place.CLOSED, EventKind.SESSION_RESUMED): Place.DOWN,
    (Place.DOWN, EventKind.PROCESS_STARTED): Place.UP,
    (Place.DOWN, EventKind.SESSION_ENDED): Place.CLOSED,
    (Place.UP, EventKind.TURN_STARTED): Place.TURN,
    (Place.UP, EventKind.ARTIFACTS_REPORTED): Place.REPORTED,
    (Place.UP, EventKind.PROCESS_EXITED): Place.DOWN,
    (Place.TURN, EventKind.TURN_ENDED): Place.UP,
    (Place.REPORTED, EventKind.PROCESS_EXITED): Place.EXITED,
    (Place.EXITED, EventKind.SESSION_ENDED): Place.CLOSED,
}

#: Where a run may be given up: its SessionEnded is not verified, and no ProcessExited need stand
#: before it, nor (CLOSED) anything of it. Its turn is closed first, as ever.
GIVEN_UP = frozenset({Place.CLOSED, Place.DOWN, Place.UP, Place.REPORTED, Place.EXITED})


class OrderChecker:
    """See the module."""

    def __init__(self) -> None:
        self.place = Place.CLOSED
        #: The turn that is on; 0 for none.
        self.turn = 0
        self._last_turn = 0
        self._last_run = 0
        self._run = 0
        self._started = False
        self._tools: set[str] = set()
        self._approvals: set[str] = set()
        self._awaited: set[str] = set()
        self._consumed: set[str] = set()
        self._cancelled: set[str] = set()

    def feed(
        self,
        kind: EventKind,
        *,
        run: int = 0,
        turn: int = 0,
        ref: str = "",
        inputs: Iterable[str] = (),
        verified: bool = True,
    ) -> None:
        """Take the next event.

        `run` and `turn` as the event has them (run 0: not looked at); `ref` is the id of the tool
        call, the approval or the input that it is about; `inputs` those of a TurnStarted;
        `verified` that of a SessionEnded. Raises OrderViolation.
        """
        if kind is EventKind.SESSION_ENDED and not verified and self.place in GIVEN_UP:
            self._give_up(run)
            return
        self._check_run(kind, run)
        if kind in INSIDE:
            self._inside(kind, turn, ref)
        elif kind is EventKind.INPUT_CANCELLED:
            self._cancel(ref)
        elif kind not in ANYWHERE:
            self._advance(kind, turn, inputs)

    def finish(self) -> None:
        """No more follows. Raises OrderViolation while a run is open."""
        if self.place is not Place.CLOSED:
            raise OrderViolation(f"the log ends while {self.place.value}")

    def _give_up(self, run: int) -> None:
        """Nobody knows what has become of the process; its host may never have opened the run."""
        if self.place is Place.CLOSED and run and run <= self._last_run:
            raise OrderViolation(f"run {run} ends after the end of run {self._last_run}")
        self._run = self._last_run = max(run, self._last_run)
        self.place, self._started = Place.CLOSED, True

    def _check_run(self, kind: EventKind, run: int) -> None:
        if kind in ANYWHERE or not run:
            return
        if kind in (EventKind.SESSION_STARTED, EventKind.SESSION_RESUMED):
            if run <= self._last_run:
                raise OrderViolation(f"{kind} opens run {run} after run {self._last_run}")
            self._run = self._last_run = run
        elif run != self._run:
            raise OrderViolation(f"{kind} of run {run} stands in run {self._run}")

    def _advance(self, kind: EventKind, turn: int, inputs: Iterable[str]) -> None:
        place = TABLE.get((self.place, kind))
        if place is None:
            raise OrderViolation(f"{kind} stands where {self.place.value}")
        if kind is EventKind.SESSION_STARTED and self._started:
            raise OrderViolation("SESSION_STARTED stands twice")
        if kind is EventKind.TURN_STARTED:
            self._begin(turn, inputs)
        elif kind is EventKind.TURN_ENDED:
            self._end(turn)
        self._started = True
        self.place = place

    def _begin(self, turn: int, inputs: Iterable[str]) -> None:
        if turn <= self._last_turn:
            raise OrderViolation(f"turn {turn} begins after turn {self._last_turn}")
        self.turn = self._last_turn = turn
        self._awaited = set(inputs)

    def _end(self, turn: int) -> None:
        if turn != self.turn:
            raise OrderViolation(f"turn {turn} ends while turn {self.turn} is on")
        for what, ids in (
            ("tool call", self._tools),
            ("approval", self._approvals),
            ("input that it takes", self._awaited),
        ):
            if ids:
                raise OrderViolation(f"turn {turn} ends with an open {what}: {sorted(ids)}")
        self.turn = 0

    def _inside(self, kind: EventKind, turn: int, ref: str) -> None:
        if self.place is not Place.TURN:
            raise OrderViolation(f"{kind} stands where {self.place.value}")
        if turn != self.turn:
            raise OrderViolation(f"{kind} of turn {turn} stands in turn {self.turn}")
        if kind is EventKind.INPUT_CONSUMED:
            self._consume(ref)
        elif kind is EventKind.TOOL_CALL_STARTED:
            _open(self._tools, kind, ref)
        elif kind is EventKind.TOOL_CALL_OUTPUT:
            if ref not in self._tools:
                raise OrderViolation(f"{kind} of {ref!r}, which is not open")
        elif kind is EventKind.TOOL_CALL_ENDED:
            _close(self._tools, kind, ref)
        elif kind is EventKind.APPROVAL_REQUESTED:
            _open(self._approvals, kind, ref)
        elif kind is EventKind.APPROVAL_RESOLVED:
            _close(self._approvals, kind, ref)

    def _consume(self, ref: str) -> None:
        if ref in self._consumed or ref in self._cancelled:
            raise OrderViolation(f"input {ref!r} is consumed after its end")
        self._consumed.add(ref)
        # Not in the TurnStarted: it was steered.
        self._awaited.discard(ref)

    def _cancel(self, ref: str) -> None:
        if ref in self._consumed or ref in self._cancelled:
            raise OrderViolation(f"input {ref!r} is cancelled after its end")
        self._cancelled.add(ref)


def _open(ids: set[str], kind: EventKind, ref: str) -> None:
    if ref in ids:
        raise OrderViolation(f"{kind} of {ref!r}, which is open already")
    ids.add(ref)


def _close(ids: set[str], kind: EventKind, ref: str) -> None:
    if ref not in ids:
        raise OrderViolation(f"{kind} of {ref!r}, which is not open")
    ids.remove(ref)
