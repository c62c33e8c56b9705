"""The session's row, inputs, approvals and receipts follow from events, in one transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridle.v1 import event_pb2, input_pb2, receipt_pb2, session_pb2
from bridle_control import outcomes
from bridle_control.answers import answer
from bridle_control.commands import is_ending
from bridle_control.projection import MOVING, Projection, moved
from bridle_control.receipts import pending
from bridle_control.store.api import (
    ApprovalRow,
    CommandRow,
    CommandState,
    HostRow,
    InputRow,
    SessionRow,
    Store,
    Tx,
)
from tests.support.stores import a_session, begin, open_sqlite

SEND, STOP, KILL = receipt_pb2.VERB_SEND, receipt_pb2.VERB_STOP, receipt_pb2.VERB_KILL
PHASES = session_pb2.Phase.values()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_sqlite(tmp_path / "store") as opened:
        await begin(opened, a_session("s1", verb_state=b"{}"))
        yield opened


def event(turn: int = 0, **kind: Any) -> event_pb2.Event:
    return event_pb2.Event(turn=turn, **kind)


async def happen(store: Store, *events: event_pb2.Event) -> SessionRow:
    def write(tx: Tx) -> None:
        projection = Projection(tx)
        for each in events:
            row = projection.session("s1")
            assert row is not None
            projection.happen(row, each)
        projection.flush()

    await store.write(write)
    return await row_of(store)


async def row_of(store: Store) -> SessionRow:
    row = await store.read(lambda tx: tx.session("s1"))
    assert row is not None
    return row


async def put(store: Store, fn: Callable[[Tx], object]) -> None:
    await store.write(fn)


def command(name: str, verb: int, **fields: Any) -> CommandRow:
    outcome = pending().SerializeToString()
    return CommandRow(name, verb, 1, session_id="s1", run=1, outcome=outcome, **fields)


def waiting(name: str, sequence: int, by: str = "") -> InputRow:
    state = input_pb2.INPUT_STATE_WAITING
    return InputRow(name, "s1", sequence, b"", 1, state, 1, command_id=by)


async def outcome_of(store: Store, name: str) -> tuple[str, str]:
    row = await store.read(lambda tx: tx.command(name))
    assert row is not None
    got = outcomes.outcome_of(row)
    return (
        receipt_pb2.OutcomeState.Name(got.state).removeprefix("OUTCOME_STATE_"),
        receipt_pb2.OutcomeReason.Name(got.reason).removeprefix("OUTCOME_REASON_"),
    )


# ---------------------------------------------------------------- the pure part


@pytest.mark.parametrize(
    ("happened", "expected"),
    [
        ({"turn_started": {}}, {"turn": 7, "turn_open": True}),
        ({"turn_ended": {}}, {"turn_open": False}),
        ({"queue_held": {}}, {"queue_state": session_pb2.QUEUE_STATE_HELD}),
        ({"queue_released": {}}, {"queue_state": session_pb2.QUEUE_STATE_OPEN}),
        (
            {"session_started": {"directory": "/d", "containment": "C", "capabilities": ["STEER"]}},
            {"directory": "/d", "containment": "C", "capabilities": ("STEER",), "verb_state": b""},
        ),
        (
            {"session_resumed": {"containment": "C"}},
            {"directory": "/old", "containment": "C", "verb_state": b""},
        ),
        (
            {"session_ended": {"phase": 7, "reason": 4, "message": "gone"}},
            {"phase": 7, "end_reason": 4, "end_message": "gone", "turn_open": False},
        ),
    ],
)
def test_an_event_moves_its_part_of_the_row(
    happened: dict[str, Any], expected: dict[str, Any]
) -> None:
    before = a_session(turn=6, turn_open=True, directory="/old", verb_state=b"{}")
    after = moved(before, event(turn=7, **happened), now=2000)
    assert {name: getattr(after, name) for name in expected} == expected
    assert after.update_time == 2000


@pytest.mark.parametrize("phase", PHASES)
def test_phase_changed_moves_to_live_phases_alone(phase: int) -> None:
    before = a_session()
    after = moved(before, event(phase_changed={"to": phase}), now=2000)
    live = 1 <= phase <= 5
    assert after.phase == (phase if live else before.phase)


def test_every_kind_that_moves_something_is_named_as_such() -> None:
    kinds = event_pb2.Event.DESCRIPTOR.oneofs_by_name["kind"].fields
    row = a_session(phase=session_pb2.PHASE_RUNNING, turn_open=True)
    for field in kinds:
        made = event_pb2.Event(turn=3)
        getattr(made, field.name).SetInParent()
        if moved(row, made, 5) is not row:
            assert field.number in MOVING, field.name


# ---------------------------------------------------------------- inputs and their receipts


@pytest.mark.parametrize(
    ("happened", "outcome", "state"),
    [
        ({"input_consumed": {"input_id": "i1"}}, ("RAN", "TURN_STARTED"), 2),
        ({"input_consumed": {"input_id": "i1", "steered": True}}, ("RAN", "STEERED"), 2),
        ({"input_cancelled": {"input_id": "i1", "reason": 1}}, ("NOT_RUN", "CANCELLED"), 3),
        ({"input_cancelled": {"input_id": "i1", "reason": 4}}, ("NOT_RUN", "EXPIRED"), 3),
        ({"input_cancelled": {"input_id": "i1", "reason": 7}}, ("NOT_RUN", "REFUSED"), 3),
        ({"input_consumed": {"input_id": "other"}}, ("PENDING", "PENDING_HOST"), 1),
        ({"input_cancelled": {"input_id": "other"}}, ("PENDING", "PENDING_HOST"), 1),
    ],
)
async def test_what_becomes_of_an_input_decides_its_receipt(
    store: Store, happened: dict[str, Any], outcome: tuple[str, str], state: int
) -> None:
    await put(store, lambda tx: tx.insert_command(command("c1", SEND, input_id="i1")))
    await put(store, lambda tx: tx.insert_input(waiting("i1", 1, "c1")))
    row = await happen(store, event(turn=4, **happened))
    assert await outcome_of(store, "c1") == outcome
    found = await store.read(lambda tx: tx.input("i1"))
    assert found is not None
    assert found.state == state
    assert found.turn == (4 if state == 2 else 0)
    assert row.inputs_waiting == (1 if state == 1 else 0)


async def test_an_input_is_consumed_or_cancelled_once(store: Store) -> None:
    await put(store, lambda tx: tx.insert_command(command("c1", SEND, input_id="i1")))
    await put(store, lambda tx: tx.insert_input(waiting("i1", 1, "c1")))
    await happen(store, event(turn=1, input_consumed={"input_id": "i1"}))
    await happen(store, event(input_cancelled={"input_id": "i1", "reason": 1}))
    assert await outcome_of(store, "c1") == ("RAN", "TURN_STARTED")


async def test_an_input_of_another_session_is_left_alone(store: Store) -> None:
    await begin(store, a_session("s2"))
    await put(store, lambda tx: tx.insert_input(replace(waiting("i1", 1), session_id="s2")))
    await happen(store, event(turn=1, input_consumed={"input_id": "i1"}))
    found = await store.read(lambda tx: tx.input("i1"))
    assert found is not None
    assert found.state == input_pb2.INPUT_STATE_WAITING


# ---------------------------------------------------------------- approvals


async def test_approvals_open_and_close(store: Store) -> None:
    row = await happen(store, event(turn=1, approval_requested={"approval_id": "a1"}))
    assert row.open_approvals == ("a1",)
    row = await happen(store, event(turn=1, approval_resolved={"approval_id": "a1", "decision": 3}))
    assert row.open_approvals == ()
    known = await store.read(lambda tx: tx.approval("s1", "a1"))
    assert known == ApprovalRow("s1", "a1", run=1, turn=1, sequence=1, decision=3)


async def test_an_approval_that_a_host_left_open_is_void_at_the_runs_end(store: Store) -> None:
    await happen(store, event(turn=1, approval_requested={"approval_id": "a1"}))
    row = await happen(store, event(session_ended={"phase": 7}))
    assert row.open_approvals == ()


async def test_an_approval_that_was_never_asked_for_here_is_noted_all_the_same(
    store: Store,
) -> None:
    await happen(store, event(turn=1, approval_resolved={"approval_id": "a9", "decision": 1}))
    known = await store.read(lambda tx: tx.approval("s1", "a9"))
    assert known is not None
    assert known.decision == 1


# ---------------------------------------------------------------- a run's end


@pytest.mark.parametrize(
    ("phase", "reason"), [(6, input_pb2.CANCEL_REASON_STOPPED), (8, input_pb2.CANCEL_REASON_KILLED)]
)
async def test_what_no_turn_took_is_cancelled_before_the_end(
    store: Store, phase: int, reason: int
) -> None:
    for number in range(3):
        await put(store, lambda tx, n=number: tx.insert_input(waiting(f"i{n}", n + 1)))  # type: ignore[misc]
    await happen(store, event(session_ended={"phase": phase}))
    page = await store.read(lambda tx: tx.events("s1", 0))
    assert len(page.sequences) == 4
    found = await store.read(lambda tx: tx.inputs("s1"))
    assert {each.cancel_reason for each in found} == {reason}


async def test_a_failed_run_keeps_its_inputs_and_closes_the_rest(store: Store) -> None:
    def prepare(tx: Tx) -> None:
        tx.insert_input(waiting("i1", 1, "send"))
        for name, verb, input_id in (
            ("send", SEND, "i1"),
            ("again", SEND, "i1"),
            ("stop", STOP, ""),
            ("update", receipt_pb2.VERB_UPDATE_SESSION, ""),
            ("release", receipt_pb2.VERB_RELEASE_QUEUE, ""),
        ):
            tx.insert_command(command(name, verb, input_id=input_id))
        tx.insert_command(replace(command("other run", STOP), run=2))

    await put(store, prepare)
    assert await store.read(lambda tx: is_ending(tx, "s1", 1))
    row = await happen(store, event(session_ended={"phase": 7}))
    assert row.inputs_waiting == 1
    assert {
        name: await outcome_of(store, name)
        for name in ("send", "again", "stop", "update", "release", "other run")
    } == {
        "send": ("PENDING", "QUEUED"),
        "again": ("NOT_RUN", "SESSION_ENDED"),
        "stop": ("RAN", "DONE"),
        "update": ("RAN", "DONE"),
        "release": ("NOT_RUN", "SESSION_ENDED"),
        "other run": ("PENDING", "PENDING_HOST"),
    }
    assert not await store.read(lambda tx: is_ending(tx, "s1", 1))


async def test_a_drain_is_done_with_the_last_session_of_its_host(store: Store) -> None:
    await begin(store, a_session("s2"))

    def drain(tx: Tx) -> None:
        tx.insert_host(HostRow("h1", "default", "box", 1, draining=True))
        tx.insert_command(CommandRow("d1", receipt_pb2.VERB_DRAIN_HOST, 1, host_id="h1"))

    await put(store, drain)
    await happen(store, event(session_ended={"phase": 6}))
    assert await outcome_of(store, "d1") == ("UNSPECIFIED", "UNSPECIFIED")

    def end_other(tx: Tx) -> None:
        projection = Projection(tx)
        row = projection.session("s2")
        assert row is not None
        projection.happen(row, event(session_ended={"phase": 6}))
        projection.flush()

    await store.write(end_other)
    assert await outcome_of(store, "d1") == ("RAN", "DONE")


# ---------------------------------------------------------------- answers of hosts


async def apply(store: Store, name: str, **outcome: Any) -> None:
    def write(tx: Tx) -> None:
        projection = Projection(tx)
        row = projection.session("s1")
        assert row is not None
        answer(projection, row, name, receipt_pb2.Outcome(**outcome), {"k": "v"})
        projection.flush()

    await store.write(write)


NOT_RUN, REFUSED = outcomes.NOT_RUN, receipt_pb2.OUTCOME_REASON_REFUSED


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        ({"reason": receipt_pb2.OUTCOME_REASON_EXPIRED}, input_pb2.CANCEL_REASON_EXPIRED),
        (
            {"reason": REFUSED, "error_reason": "CAPABILITY_MISSING"},
            input_pb2.CANCEL_REASON_CAPABILITY_MISSING,
        ),
        (
            {"reason": REFUSED, "error_reason": "SESSION_ENDING"},
            input_pb2.CANCEL_REASON_STOPPED,
        ),
        ({"reason": REFUSED}, input_pb2.CANCEL_REASON_UNSPECIFIED),
    ],
)
async def test_an_input_that_its_host_refused_is_cancelled(
    store: Store, outcome: dict[str, Any], reason: int
) -> None:
    await put(store, lambda tx: tx.insert_command(command("c1", SEND, input_id="i1")))
    await put(store, lambda tx: tx.insert_input(waiting("i1", 1, "c1")))
    await apply(store, "c1", state=NOT_RUN, **outcome)
    found = await store.read(lambda tx: tx.input("i1"))
    assert found is not None
    assert (found.state, found.cancel_reason) == (input_pb2.INPUT_STATE_CANCELLED, reason)
    row = await store.read(lambda tx: tx.command("c1"))
    assert row is not None
    assert row.state is CommandState.DONE
    assert outcomes.outcome_of(row).error_reason == outcome.get("error_reason", "")
    assert outcomes.outcome_of(row).HasField("decide_time")
    assert row.error_metadata == {"k": "v"}


async def test_an_input_whose_run_failed_first_goes_on_waiting(store: Store) -> None:
    await put(store, lambda tx: tx.insert_command(command("c1", SEND, input_id="i1")))
    await put(store, lambda tx: tx.insert_input(waiting("i1", 1, "c1")))
    await apply(store, "c1", state=NOT_RUN, reason=receipt_pb2.OUTCOME_REASON_SESSION_ENDED)
    assert await outcome_of(store, "c1") == ("PENDING", "PENDING_HOST")
    assert (await row_of(store)).inputs_waiting == 1


async def test_an_answer_in_work_does_not_undo_a_decision_and_a_final_one_does(
    store: Store,
) -> None:
    done = outcomes.decided(1, NOT_RUN, receipt_pb2.OUTCOME_REASON_EXPIRED)
    row = outcomes.settle(command("c1", receipt_pb2.VERB_INTERRUPT), done)
    await put(store, lambda tx: tx.insert_command(row))
    await apply(store, "c1", state=outcomes.PENDING, reason=3)
    assert await outcome_of(store, "c1") == ("NOT_RUN", "EXPIRED")
    await apply(store, "c1", state=outcomes.RAN, reason=7, turn=3)
    assert await outcome_of(store, "c1") == ("RAN", "TURN_INTERRUPTED")


async def test_answers_about_other_runs_and_sessions_are_no_answers(store: Store) -> None:
    await put(store, lambda tx: tx.insert_command(replace(command("old", STOP), run=9)))
    await put(store, lambda tx: tx.insert_command(replace(command("s2's", STOP), session_id="s2")))
    for name in ("old", "s2's", "unknown"):
        await apply(store, name, state=outcomes.RAN, reason=4)
    assert await outcome_of(store, "old") == ("PENDING", "PENDING_HOST")
    assert await outcome_of(store, "s2's") == ("PENDING", "PENDING_HOST")


async def test_the_receipt_of_an_input_follows_its_delivery_in_a_later_run(store: Store) -> None:
    def prepare(tx: Tx) -> None:
        tx.insert_command(replace(command("first", SEND, input_id="i1"), run=0))
        tx.insert_input(waiting("i1", 1, "first"))
        tx.insert_command(command("again", SEND, input_id="i1"))

    await put(store, prepare)
    lost = receipt_pb2.OUTCOME_REASON_AGENT_LOST
    await happen(store, event(turn=2, input_consumed={"input_id": "i1"}))
    await apply(store, "again", state=outcomes.UNKNOWN, reason=lost, turn=2)
    assert await outcome_of(store, "first") == ("UNKNOWN", "AGENT_LOST")
    assert await outcome_of(store, "again") == ("UNKNOWN", "AGENT_LOST")
    assert (await row_of(store)).inputs_waiting == 0


@pytest.mark.parametrize("verb", [STOP, KILL])
async def test_only_an_end_of_the_same_run_is_in_force(store: Store, verb: int) -> None:
    await put(store, lambda tx: tx.insert_command(command("c1", verb)))
    assert await store.read(lambda tx: is_ending(tx, "s1", 1))
    assert not await store.read(lambda tx: is_ending(tx, "s1", 2))
