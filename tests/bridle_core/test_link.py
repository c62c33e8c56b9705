"""The link machine: the order of the handshake, heartbeats, silence, pauses and commands."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from bridle_core.errors import Reason
from bridle_core.link import (
    NEEDS,
    ORDER,
    Backoff,
    Beat,
    CommandWindow,
    Kind,
    LinkMachine,
    ProtocolViolation,
    Redial,
    Side,
    Silence,
    Stage,
    Standstill,
    negotiate,
    redial_after,
)

HANDSHAKE = [
    (Side.HOST, Kind.HELLO),
    (Side.CONTROL, Kind.WELCOME),
    (Side.HOST, Kind.INVENTORY),
    (Side.CONTROL, Kind.RECONCILE),
]


def machine(side: Side, steps: Iterable[tuple[Side, Kind]] = HANDSHAKE) -> LinkMachine:
    made = LinkMachine(side, 0.0)
    for who, kind in steps:
        say(made, who, kind)
    return made


def say(made: LinkMachine, who: Side, kind: Kind) -> None:
    if who is made.side:
        made.send(kind)
    else:
        made.receive(kind, 0.0)


@pytest.mark.parametrize("side", list(Side))
def test_the_handshake_in_order_makes_both_sides_ready(side: Side) -> None:
    made = LinkMachine(side, 0.0)
    for who, kind in HANDSHAKE:
        assert not made.ready
        say(made, who, kind)
    assert made.ready
    assert not made.said_goodbye


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("done", range(len(HANDSHAKE) + 1))
@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("who", list(Side))
def test_each_message_is_taken_exactly_where_the_table_allows_it(
    side: Side, done: int, kind: Kind, who: Side
) -> None:
    made = machine(side, HANDSHAKE[:done])
    other = Side.CONTROL if who is Side.HOST else Side.HOST
    ranks = [Stage.NEW, Stage.GREETED, Stage.LISTING, Stage.OPEN]
    needed = NEEDS.get((who, kind), Stage.NEW)
    allowed = (who, made.stage(who), kind) in ORDER and ranks.index(
        made.stage(other)
    ) >= ranks.index(needed)
    before = made.stage(who)
    if allowed:
        say(made, who, kind)
        assert made.stage(who) is ORDER[who, before, kind]
    else:
        with pytest.raises(ProtocolViolation) as caught:
            say(made, who, kind)
        assert (caught.value.side, caught.value.stage, caught.value.kind) == (who, before, kind)
        assert made.stage(who) is before


@pytest.mark.parametrize("kind", sorted(set(Kind) - {Kind.HELLO}))
def test_nothing_but_hello_may_come_first_from_a_host(kind: Kind) -> None:
    with pytest.raises(ProtocolViolation):
        machine(Side.CONTROL, []).receive(kind, 0.0)


@pytest.mark.parametrize("kind", sorted(set(Kind) - {Kind.INVENTORY, Kind.GOODBYE}))
def test_nothing_but_an_inventory_may_come_second_from_a_host(kind: Kind) -> None:
    with pytest.raises(ProtocolViolation):
        machine(Side.CONTROL, HANDSHAKE[:2]).receive(kind, 0.0)


def test_a_host_that_lists_before_it_was_welcomed_breaks_the_order() -> None:
    with pytest.raises(ProtocolViolation, match="inventory from host at stage greeted"):
        machine(Side.CONTROL, HANDSHAKE[:1]).receive(Kind.INVENTORY, 0.0)


def test_control_sends_no_command_before_it_has_the_whole_inventory() -> None:
    made = machine(Side.CONTROL, HANDSHAKE[:2])
    made.receive(Kind.INVENTORY, 0.0, complete=False)
    assert made.stage(Side.HOST) is Stage.LISTING
    for kind in (Kind.RECONCILE, Kind.COMMANDS):
        with pytest.raises(ProtocolViolation):
            made.send(kind)
    made.receive(Kind.HEARTBEAT, 0.0, count=1)
    made.receive(Kind.INVENTORY, 0.0, complete=True)
    made.send(Kind.RECONCILE)
    made.send(Kind.COMMANDS)
    assert made.ready


def test_nothing_may_follow_a_goodbye() -> None:
    made = machine(Side.CONTROL)
    made.receive(Kind.GOODBYE, 0.0)
    assert made.said_goodbye
    assert not made.ready
    with pytest.raises(ProtocolViolation):
        made.receive(Kind.RECORDS, 0.0)


def test_a_heartbeat_is_due_every_five_seconds_and_counts_up() -> None:
    made = machine(Side.CONTROL)
    assert made.deadline() == 5.0
    assert made.tick(4.9) is None
    assert made.tick(5.0) == Beat(count=1, received=0)
    made.receive(Kind.ACKNOWLEDGE if made.side is Side.HOST else Kind.RECORDS, 6.0)
    assert made.deadline() == 10.0
    assert made.tick(10.0) == Beat(count=2, received=0)


def test_no_heartbeat_is_sent_where_the_order_has_no_place_for_one() -> None:
    made = machine(Side.HOST, HANDSHAKE[:2])
    assert made.tick(5.0) is None
    assert made.receive(Kind.HEARTBEAT, 5.5, count=1) is None
    made.send(Kind.INVENTORY)
    assert made.tick(10.0) == Beat(count=1, received=1)


def test_a_heartbeat_is_answered_at_once_and_an_answer_is_not() -> None:
    host, control = machine(Side.HOST), machine(Side.CONTROL)
    beat = control.tick(5.0)
    assert beat is not None
    answer = host.receive(Kind.HEARTBEAT, 5.1, count=beat.count, received=beat.received)
    assert answer == Beat(count=0, received=1)
    assert (
        control.receive(Kind.HEARTBEAT, 5.25, count=answer.count, received=answer.received) is None
    )
    assert control.round_trip == 0.25
    assert host.round_trip is None
    assert host.receive(Kind.HEARTBEAT, 5.3, count=beat.count) is None


def test_an_old_answer_does_not_count_as_a_round_trip() -> None:
    made = machine(Side.CONTROL)
    made.probe(1.0)
    made.probe(2.0)
    made.receive(Kind.HEARTBEAT, 3.0, received=1)
    assert made.round_trip is None
    made.receive(Kind.HEARTBEAT, 4.0, received=2)
    assert made.round_trip == 2.0


@pytest.mark.parametrize("side", list(Side))
def test_twelve_seconds_without_a_message_are_silence_and_any_message_ends_it(side: Side) -> None:
    made = machine(side)
    made.tick(5.0)
    made.tick(10.0)
    assert made.deadline() == 12.0
    made.receive(Kind.HEARTBEAT, 11.9)
    assert made.last_heard() == 11.9
    made.tick(12.0)
    assert made.tick(23.8) is not None
    assert made.deadline() == pytest.approx(23.9)
    with pytest.raises(Silence):
        made.tick(23.9)


def test_a_side_that_does_not_read_hears_no_silence() -> None:
    made = machine(Side.CONTROL)
    made.excuse(11.0)
    made.tick(20.0)
    assert made.last_heard() == 11.0


def test_a_peer_that_never_says_hello_is_silent_from_the_start() -> None:
    made = LinkMachine(Side.CONTROL, 100.0)
    with pytest.raises(Silence):
        made.tick(112.0)


@pytest.mark.parametrize(
    ("peer", "own", "version"),
    [((1, 1), (1, 1), 1), ((1, 3), (2, 5), 3), ((2, 3), (1, 1), None), ((1, 1), (2, 2), None)],
)
def test_the_highest_version_that_both_speak_is_chosen(
    peer: tuple[int, int], own: tuple[int, int], version: int | None
) -> None:
    assert negotiate(*peer, *own) == version


def test_the_pauses_double_up_to_four_seconds_and_begin_again_after_a_reset() -> None:
    backoff = Backoff()
    pauses = [backoff.next(0.5) for _ in range(8)]
    assert pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 4.0, 4.0, 4.0])
    backoff.reset()
    assert backoff.next(0.5) == pytest.approx(0.2)


def test_a_pause_is_spread_by_a_fifth_in_both_directions() -> None:
    assert Backoff().next(0.0) == pytest.approx(0.16)
    assert Backoff().next(1.0) == pytest.approx(0.24)


@pytest.mark.parametrize(
    ("reason", "redial"),
    [
        (None, Redial.SOON),
        (Reason.SHUTTING_DOWN, Redial.SOON),
        (Reason.HOST_TWIN, Redial.LATER),
        (Reason.EPOCH_FENCED, Redial.LATER),
        (Reason.VERSION_UNSUPPORTED, Redial.NEVER),
        (Reason.TOKEN_INVALID, Redial.NEVER),
        (Reason.TOKEN_REVOKED, Redial.NEVER),
    ],
)
def test_a_host_dials_again_as_the_reason_of_the_end_says(
    reason: Reason | None, redial: Redial
) -> None:
    assert redial_after(reason) is redial


def test_a_host_that_was_fenced_by_itself_dials_again_at_once() -> None:
    assert redial_after(Reason.EPOCH_FENCED, by_itself=True) is Redial.SOON
    assert redial_after(Reason.HOST_TWIN, by_itself=True) is Redial.LATER


def test_a_command_is_handed_over_once_on_a_stream_and_again_on_the_next() -> None:
    window = CommandWindow()
    assert window.select(["a", "b"]) == ["a", "b"]
    assert window.select(["a", "b", "c"]) == ["c"]
    assert window.holds("a")
    assert window.answered("a")
    assert not window.holds("a")
    assert not window.answered("a")
    assert CommandWindow().select(["b", "c"]) == ["b", "c"]


def test_a_full_window_keeps_the_order_and_goes_on_with_the_answers() -> None:
    window = CommandWindow(limit=2)
    assert window.select(["a", "b", "c"]) == ["a", "b"]
    assert window.room == 0
    assert window.select(["c"]) == []
    window.answered("b")
    assert window.select(["a", "c", "d"]) == ["c"]


def test_what_is_read_behind_a_standstill_may_be_as_old_as_that_was_long() -> None:
    still = Standstill(100.0)
    still.beat(101.0)
    still.beat(102.3)
    assert still.behind(102.4) == 0.0
    # The reader comes before the beat, in the turn of the loop in which both go on …
    assert still.behind(122.3) == pytest.approx(20.0)
    still.beat(122.3)
    # … or behind it.
    assert still.behind(122.4) == pytest.approx(20.0)
    assert still.behind(122.3 + Standstill.GRACE) == 0.0
    still.beat(123.3)
    assert still.behind(123.4) == 0.0
