"""The law of observations (bridle_core.observations), as a checker of what a driver told.

Two readings of the same list: once by the words of the observations themselves, once as the events
that follow from them, by the order table of the log.
"""

from __future__ import annotations

from collections.abc import Sequence

from bridle_core.observations import (
    ApprovalAsked,
    ApprovalWithdrawn,
    KeepState,
    Message,
    MessageText,
    Note,
    Observation,
    Plan,
    ProcessGone,
    ProcessUp,
    StartFailed,
    Steered,
    Thought,
    ToolEnded,
    ToolOutput,
    ToolStarted,
    TurnBegan,
    TurnOver,
    Usage,
)
from bridle_core.ordering import EventKind, OrderChecker

#: What may be told at any time between the first and the last.
_ANYWHERE = (Note, KeepState)
_MESSAGES = {
    Message: EventKind.AGENT_MESSAGE,
    Thought: EventKind.AGENT_THOUGHT,
    Plan: EventKind.PLAN_UPDATED,
    Usage: EventKind.USAGE_REPORTED,
}

#: Bounds that a driver keeps, in bytes.
OUTPUT = 64 * 1024
STATE = 256 * 1024


def check(seen: Sequence[Observation], *, ended: bool) -> None:
    """Raises AssertionError where the list breaks the law. ended: no more will come."""
    reading = _Reading()
    for place, observation in enumerate(seen):
        try:
            reading.take(observation)
        except AssertionError as error:
            around = "\n  ".join(map(repr, seen[max(0, place - 5) : place + 1]))
            raise AssertionError(f"{error}, at the end of\n  {around}") from error
    if ended:
        reading.finish()


class _Reading:
    def __init__(self) -> None:
        self.order = OrderChecker()
        self.order.feed(EventKind.SESSION_STARTED, run=1)
        self.up: ProcessUp | None = None
        self.ups = 0
        self.failed = False
        self.turn_open = False
        self.turns = 0
        self.tools: set[str] = set()
        self.approvals: set[str] = set()
        self.written: set[str] = set()
        self.tool_calls: set[str] = set()
        self.gone: ProcessGone | None = None

    def take(self, seen: Observation) -> None:
        assert not self.failed, "something follows StartFailed"
        if self.gone is not None and not isinstance(seen, _ANYWHERE):
            again = isinstance(seen, ProcessUp) and seen.replacement and self.gone.killed
            assert again or isinstance(seen, StartFailed), "something follows ProcessGone"
        match seen:
            case ProcessUp():
                self._process_up(seen)
            case ProcessGone():
                self._process_gone(seen)
            case StartFailed():
                assert self.up is None, "StartFailed while a process is up"
                self.failed = True
            case TurnBegan():
                assert self.up is not None, "a turn begins without a process"
                assert not self.turn_open, "a turn begins in a turn"
                self.turn_open = True
                self.turns += 1
                self.order.feed(EventKind.TURN_STARTED, turn=self.turns)
            case TurnOver():
                assert self.turn_open, "TurnOver without TurnBegan"
                self._close_turn()
            case KeepState(state):
                assert len(state) <= STATE, "too much is to be kept"
            case Note():
                pass
            case _:
                assert self.turn_open, f"{type(seen).__name__} belongs to no turn"
                self._content(seen)

    def _process_up(self, seen: ProcessUp) -> None:
        assert self.up is None, "ProcessUp while a process is up"
        assert seen.replacement is (self.ups > 0), "replacement is wrong"
        if seen.replacement:
            assert seen.mode is not None, "a replacement does not say how it came along"
        self.up, self.gone = seen, None
        self.ups += 1
        self.order.feed(EventKind.PROCESS_STARTED)

    def _process_gone(self, seen: ProcessGone) -> None:
        assert self.up is not None, "ProcessGone without ProcessUp"
        assert seen.pid == self.up.pid, "another process is gone"
        assert (seen.exit_code is None) is not (seen.signal is None), "code or signal, one of them"
        assert not (seen.killed and seen.deliberate), "killed is not deliberate"
        if self.turn_open:
            assert not seen.deliberate, "an open turn is lost, which is not deliberate"
            self._close_turn()
        self.up, self.gone = None, seen
        self.order.feed(EventKind.PROCESS_EXITED)

    def _close_turn(self) -> None:
        # What is open the session machine closes.
        for tool in self.tools:
            self.order.feed(EventKind.TOOL_CALL_ENDED, turn=self.turns, ref=tool)
        for approval in self.approvals:
            self.order.feed(EventKind.APPROVAL_RESOLVED, turn=self.turns, ref=approval)
        self.tools.clear()
        self.approvals.clear()
        self.written.clear()
        self.turn_open = False
        self.order.feed(EventKind.TURN_ENDED, turn=self.turns)

    def _content(self, seen: Observation) -> None:
        turn = self.turns
        match seen:
            case ToolStarted(name):
                assert name not in self.tool_calls, "the tool call's id is not new"
                self.tool_calls.add(name)
                self.tools.add(name)
                self.order.feed(EventKind.TOOL_CALL_STARTED, turn=turn, ref=name)
            case ToolOutput(name, data):
                assert 0 < len(data) <= OUTPUT, "output is empty or too large"
                self.order.feed(EventKind.TOOL_CALL_OUTPUT, turn=turn, ref=name)
            case ToolEnded(name):
                self.tools.discard(name)
                self.order.feed(EventKind.TOOL_CALL_ENDED, turn=turn, ref=name)
            case ApprovalAsked(name):
                self.approvals.add(name)
                self.order.feed(EventKind.APPROVAL_REQUESTED, turn=turn, ref=name)
            case ApprovalWithdrawn(name):
                self.approvals.discard(name)
                self.order.feed(EventKind.APPROVAL_RESOLVED, turn=turn, ref=name)
            case MessageText(name):
                assert name not in self.written, "live text follows its message"
            case Steered():
                pass
            case _:
                if isinstance(seen, Message | Thought):
                    self.written.add(seen.message_id)
                self.order.feed(_MESSAGES[type(seen)], turn=turn)

    def finish(self) -> None:
        assert self.up is None, "the process is never told to be gone"
        assert self.ups or self.failed, "nothing was told at all"
        self.order.feed(EventKind.SESSION_ENDED)
        self.order.finish()
