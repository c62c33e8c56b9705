"""Who has the place of a host: who comes when, and how often it changes."""

from __future__ import annotations

import itertools

from bridle_core.link_place import TAKEOVER_EVERY, Door, Knock


def test_the_first_to_come_has_the_place_and_its_own_newer_stream_replaces_the_older() -> None:
    door = Door()
    assert door.knock("a", 1, 0.0) is Knock.ENTER
    door.entered("a", 1, 0.0)
    assert door.knock("a", 2, 1.0) is Knock.ENTER
    door.entered("a", 2, 1.0)
    door.left("a", 1)
    assert door.knock("b", 1, 2.0) is Knock.PROBE


def test_a_stream_that_was_long_on_its_way_does_not_replace_a_newer_one_of_the_same_process() -> (
    None
):
    door = Door()
    door.entered("a", 3, 0.0)
    assert door.knock("a", 2, 1.0) is Knock.STALE
    assert door.knock("a", 0, 1.0) is Knock.ENTER


def test_the_place_changes_at_most_once_in_ten_seconds_between_processes_that_hold_on_to_it() -> (
    None
):
    door = Door()
    door.entered("a", 1, 0.0)
    changes = []
    for second in range(300):
        # Both dial every second, and neither ever answers for its place.
        for who in ("a", "b"):
            if door.knock(who, second + 2, second) is Knock.PROBE:
                door.entered(who, second + 2, second)
                changes.append(second)
    assert changes[0] == 0
    assert all(late - early >= TAKEOVER_EVERY for early, late in itertools.pairwise(changes))


def test_one_that_comes_when_the_place_is_empty_is_let_in_however_soon() -> None:
    door = Door()
    door.entered("a", 1, 0.0)
    door.entered("b", 1, 1.0)
    assert door.knock("c", 1, 2.0) is Knock.DAMPED
    door.left("b", 1)
    assert door.knock("c", 1, 2.0) is Knock.ENTER
