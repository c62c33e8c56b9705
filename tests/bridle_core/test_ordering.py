"""The checker of the order table: what it lets through, and each thing that it doesn't."""

from __future__ import annotations

import pytest

from bridle.v1 import event_pb2
from bridle_core.ordering import ANYWHERE, INSIDE, TABLE, EventKind, OrderChecker, OrderViolation

K = EventKind
UP = [K.SESSION_STARTED, K.PROCESS_STARTED]


def fed(*kinds: EventKind) -> OrderChecker:
    checker = OrderChecker()
    for kind in kinds:
        checker.feed(kind)
    return checker


def in_turn(turn: int = 1, *inputs: str) -> OrderChecker:
    checker = fed(*UP)
    checker.feed(K.TURN_STARTED, turn=turn, inputs=inputs)
    return checker


def test_the_kinds_are_those_of_the_contract() -> None:
    names = {name.removeprefix("EVENT_KIND_") for name in list(event_pb2.EventKind.keys())}
    assert {kind.value for kind in EventKind} == names - {"UNSPECIFIED"}


def test_every_kind_has_its_place() -> None:
    told = {kind for _, kind in TABLE}
    assert told | ANYWHERE | INSIDE == set(EventKind)
    assert not told & (ANYWHERE | INSIDE)


def test_a_whole_run_that_was_stopped_is_in_order() -> None:
    checker = OrderChecker()
    checker.feed(K.INPUT_QUEUED, ref="i1")
    checker.feed(K.SESSION_STARTED, run=1)
    checker.feed(K.PROCESS_STARTED, run=1)
    checker.feed(K.PHASE_CHANGED, run=1)
    checker.feed(K.TURN_STARTED, run=1, turn=1, inputs=["i1"])
    checker.feed(K.INPUT_CONSUMED, run=1, turn=1, ref="i1")
    checker.feed(K.TOOL_CALL_STARTED, run=1, turn=1, ref="t")
    checker.feed(K.APPROVAL_REQUESTED, run=1, turn=1, ref="a")
    checker.feed(K.APPROVAL_RESOLVED, run=1, turn=1, ref="a")
    checker.feed(K.TOOL_CALL_OUTPUT, run=1, turn=1, ref="t")
    checker.feed(K.TOOL_CALL_ENDED, run=1, turn=1, ref="t")
    checker.feed(K.AGENT_MESSAGE, run=1, turn=1)
    checker.feed(K.INPUT_CONSUMED, run=1, turn=1, ref="steered")
    checker.feed(K.TURN_ENDED, run=1, turn=1)
    checker.feed(K.PROCESS_EXITED, run=1)
    checker.feed(K.PROCESS_STARTED, run=1)
    checker.feed(K.INPUT_CANCELLED, run=1, ref="i2")
    checker.feed(K.ARTIFACTS_REPORTED, run=1)
    checker.feed(K.PROCESS_EXITED, run=1)
    checker.feed(K.SESSION_ENDED, run=1)
    checker.finish()


def test_a_run_that_was_given_up_may_lack_the_exit_of_its_process() -> None:
    checker = fed(*UP)
    with pytest.raises(OrderViolation):
        checker.feed(K.SESSION_ENDED)
    checker.feed(K.SESSION_ENDED, verified=False)
    checker.feed(K.SESSION_RESUMED)
    within = in_turn()
    with pytest.raises(OrderViolation):
        within.feed(K.SESSION_ENDED, verified=False)


def test_a_run_that_was_given_up_before_it_opened_has_nothing_but_its_end() -> None:
    checker = OrderChecker()
    checker.feed(K.SESSION_STARTED, run=1)
    checker.feed(K.SESSION_ENDED, run=1)
    checker.feed(K.SESSION_ENDED, run=2, verified=False)
    with pytest.raises(OrderViolation):
        checker.feed(K.SESSION_ENDED, run=2, verified=False)
    with pytest.raises(OrderViolation):
        checker.feed(K.SESSION_RESUMED, run=2)
    checker.feed(K.SESSION_RESUMED, run=3)


def test_runs_follow_each_other_by_resume() -> None:
    checker = OrderChecker()
    for run, kind in ((1, K.SESSION_STARTED), (2, K.SESSION_RESUMED)):
        checker.feed(kind, run=run)
        checker.feed(K.SESSION_ENDED, run=run)
    checker.finish()


@pytest.mark.parametrize(
    ("before", "kind"),
    [
        ([], K.PROCESS_STARTED),
        ([], K.AGENT_MESSAGE),
        ([K.SESSION_STARTED], K.TURN_STARTED),
        ([K.SESSION_STARTED], K.SESSION_STARTED),
        ([*UP], K.PROCESS_STARTED),
        ([*UP], K.SESSION_ENDED),
        ([*UP], K.TURN_ENDED),
        ([*UP], K.TOOL_CALL_STARTED),
        ([*UP, K.ARTIFACTS_REPORTED], K.TURN_STARTED),
        ([*UP, K.ARTIFACTS_REPORTED], K.SESSION_ENDED),
        ([*UP, K.ARTIFACTS_REPORTED, K.PROCESS_EXITED], K.PROCESS_STARTED),
        ([*UP, K.PROCESS_EXITED], K.ARTIFACTS_REPORTED),
        ([K.SESSION_STARTED, K.SESSION_ENDED], K.SESSION_ENDED),
        ([K.SESSION_STARTED, K.SESSION_ENDED], K.SESSION_STARTED),
    ],
)
def test_what_stands_in_the_wrong_place_is_found(before: list[EventKind], kind: EventKind) -> None:
    checker = fed(*before)
    with pytest.raises(OrderViolation):
        checker.feed(kind)


@pytest.mark.parametrize("kind", [K.PROCESS_EXITED, K.SESSION_ENDED, K.TURN_STARTED])
def test_nothing_of_the_run_passes_over_an_open_turn(kind: EventKind) -> None:
    with pytest.raises(OrderViolation):
        in_turn().feed(kind, turn=2)


def test_turns_are_numbered_upwards() -> None:
    checker = in_turn(3)
    checker.feed(K.TURN_ENDED, turn=3)
    with pytest.raises(OrderViolation, match="turn 3 begins after turn 3"):
        checker.feed(K.TURN_STARTED, turn=3)


def test_a_turn_ends_under_its_own_number() -> None:
    with pytest.raises(OrderViolation, match="turn 2 ends while turn 1 is on"):
        in_turn().feed(K.TURN_ENDED, turn=2)


def test_what_belongs_to_another_turn_is_found() -> None:
    with pytest.raises(OrderViolation, match="of turn 1 stands in turn 2"):
        in_turn(2).feed(K.AGENT_MESSAGE, turn=1)


@pytest.mark.parametrize(
    ("kind", "what"),
    [(K.TOOL_CALL_STARTED, "tool call"), (K.APPROVAL_REQUESTED, "approval")],
)
def test_a_turn_ends_only_when_all_in_it_is_closed(kind: EventKind, what: str) -> None:
    checker = in_turn()
    checker.feed(kind, turn=1, ref="x")
    with pytest.raises(OrderViolation, match=f"open {what}"):
        checker.feed(K.TURN_ENDED, turn=1)


def test_a_turn_consumes_the_inputs_that_it_named() -> None:
    with pytest.raises(OrderViolation, match="open input"):
        in_turn(1, "i1").feed(K.TURN_ENDED, turn=1)


@pytest.mark.parametrize(
    ("opens", "closes"),
    [
        (K.TOOL_CALL_STARTED, K.TOOL_CALL_ENDED),
        (K.APPROVAL_REQUESTED, K.APPROVAL_RESOLVED),
    ],
)
def test_what_opens_once_closes_once(opens: EventKind, closes: EventKind) -> None:
    checker = in_turn()
    checker.feed(opens, turn=1, ref="x")
    with pytest.raises(OrderViolation, match="open already"):
        checker.feed(opens, turn=1, ref="x")
    checker.feed(closes, turn=1, ref="x")
    with pytest.raises(OrderViolation, match="is not open"):
        checker.feed(closes, turn=1, ref="x")


def test_output_belongs_to_an_open_call() -> None:
    with pytest.raises(OrderViolation, match="is not open"):
        in_turn().feed(K.TOOL_CALL_OUTPUT, turn=1, ref="x")


@pytest.mark.parametrize("first", [K.INPUT_CONSUMED, K.INPUT_CANCELLED])
@pytest.mark.parametrize("second", [K.INPUT_CONSUMED, K.INPUT_CANCELLED])
def test_an_input_ends_once(first: EventKind, second: EventKind) -> None:
    checker = in_turn()
    checker.feed(first, turn=1, ref="i")
    with pytest.raises(OrderViolation, match="after its end"):
        checker.feed(second, turn=1, ref="i")


def test_the_log_does_not_end_in_an_open_run() -> None:
    with pytest.raises(OrderViolation, match="the log ends"):
        fed(K.SESSION_STARTED).finish()


def test_a_run_is_opened_under_a_higher_number() -> None:
    checker = OrderChecker()
    checker.feed(K.SESSION_STARTED, run=2)
    checker.feed(K.SESSION_ENDED, run=2)
    with pytest.raises(OrderViolation, match="opens run 2 after run 2"):
        checker.feed(K.SESSION_RESUMED, run=2)


def test_what_belongs_to_another_run_is_found() -> None:
    checker = OrderChecker()
    checker.feed(K.SESSION_STARTED, run=2)
    with pytest.raises(OrderViolation, match="of run 1 stands in run 2"):
        checker.feed(K.PROCESS_STARTED, run=1)
