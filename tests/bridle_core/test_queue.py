"""The queue: its order, holding, what a turn takes, and what leaves otherwise."""

from __future__ import annotations

from bridle_core.observations import Text
from bridle_core.phases import ConsumePolicy, InputMode, QueueState
from bridle_core.queue import InputQueue, Item

ONE, ALL = ConsumePolicy.ONE, ConsumePolicy.ALL


def item(
    sequence: int,
    mode: InputMode = InputMode.QUEUE,
    *,
    expires: float | None = None,
    into_turn: bool = False,
) -> Item:
    return Item(
        f"i{sequence}",
        f"c{sequence}",
        (Text("x"),),
        sequence,
        mode,
        expires,
        into_turn=into_turn,
    )


def queue(*items: Item, state: QueueState = QueueState.OPEN) -> InputQueue:
    made = InputQueue(state)
    for one in items:
        made.add(one)
    return made


def ids(items: tuple[Item, ...]) -> list[str]:
    return [one.input_id for one in items]


def test_inputs_run_in_the_order_in_which_control_accepted_them() -> None:
    waiting = queue(item(3), item(1), item(2))
    assert waiting.input_ids == ("i1", "i2", "i3")


def test_now_inputs_stand_before_the_others_first_come_first() -> None:
    waiting = queue(item(1), item(4, InputMode.NOW), item(2), item(3, InputMode.NOW))
    assert waiting.input_ids == ("i3", "i4", "i1", "i2")


def test_what_came_back_stands_at_the_head_but_behind_now() -> None:
    waiting = queue(item(1), item(2), item(5, InputMode.NOW))
    waiting.give_back(item(4, InputMode.STEER, into_turn=True))
    assert waiting.input_ids == ("i5", "i4", "i1", "i2")
    assert waiting.take_for_turn() == ()


def test_a_turn_takes_one_input() -> None:
    waiting = queue(item(1), item(2))
    assert ids(waiting.take(ONE)) == ["i1"]
    assert ids(waiting.take(ONE)) == ["i2"]
    assert waiting.take(ONE) == ()


def test_a_turn_takes_all_where_the_session_says_so() -> None:
    waiting = queue(item(1), item(2), item(3, InputMode.NOW))
    assert ids(waiting.take(ALL)) == ["i3", "i1", "i2"]
    assert len(waiting) == 0


def test_while_held_inputs_wait() -> None:
    waiting = queue(item(1), state=QueueState.HELD)
    assert waiting.take(ONE) == ()
    assert waiting.take(ALL) == ()
    assert waiting.release()
    assert ids(waiting.take(ONE)) == ["i1"]


def test_while_held_now_runs_alone() -> None:
    waiting = queue(item(1), item(2, InputMode.NOW), item(3, InputMode.NOW), state=QueueState.HELD)
    assert ids(waiting.take(ALL)) == ["i2"]
    assert ids(waiting.take(ALL)) == ["i3"]
    assert waiting.take(ALL) == ()


def test_holding_and_releasing_tell_whether_they_changed_anything() -> None:
    waiting = queue()
    changes = [waiting.release(), waiting.hold(), waiting.hold(), waiting.release()]
    assert changes == [False, True, False, True]
    assert waiting.state is QueueState.OPEN


def test_the_head_leaves_held_or_not() -> None:
    waiting = queue(item(1), item(2), state=QueueState.HELD)
    head = waiting.take_head()
    assert head is not None
    assert head.input_id == "i1"
    assert queue().take_head() is None


def test_an_input_leaves_by_its_id_once() -> None:
    waiting = queue(item(1), item(2))
    assert "i2" in waiting
    found = waiting.take_id("i2")
    assert found is not None
    assert found.command_id == "c2"
    assert waiting.take_id("i2") is None
    assert "i2" not in waiting


def test_several_leave_by_their_ids_in_order() -> None:
    waiting = queue(item(1), item(2), item(3))
    assert ids(waiting.take_ids(frozenset({"i3", "i1", "i9"}))) == ["i1", "i3"]
    assert waiting.input_ids == ("i2",)


def test_what_waits_for_the_turn_leaves_in_order() -> None:
    waiting = queue(item(1), item(2, into_turn=True), item(3, into_turn=True))
    assert ids(waiting.take_for_turn()) == ["i2", "i3"]
    assert waiting.input_ids == ("i1",)


def test_inputs_expire_at_their_moment() -> None:
    waiting = queue(item(1), item(2, expires=20.0), item(3, expires=10.0))
    soonest = [waiting.next_expiry]
    assert ids(waiting.take_expired(9.9)) == []
    assert ids(waiting.take_expired(20.0)) == ["i2", "i3"]
    assert [*soonest, waiting.next_expiry] == [10.0, None]
    assert waiting.input_ids == ("i1",)


def test_everything_leaves_in_order() -> None:
    waiting = queue(item(2), item(1, InputMode.NOW))
    assert ids(waiting.take_all()) == ["i1", "i2"]
    assert waiting.take_all() == ()
