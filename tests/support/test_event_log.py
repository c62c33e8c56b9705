"""The validator of event logs finds what it is there to find: each promise, on a history that
breaks it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import pytest

from bridle.v1 import event_pb2, watch_pb2
from bridle.watching import Connected, Update
from tests.support.event_log import Broken, Checked, Log, Promise, Recorder, check_log, validate

Say = Callable[[Recorder], None]


def an_event(sequence: int, **kind: object) -> event_pb2.Event:
    event = event_pb2.Event(sequence=sequence, run=1, **kind)  # type: ignore[arg-type]
    event.commit_time.seconds = sequence
    return event


def a_log() -> list[event_pb2.Event]:
    """Eight events: a run of one turn."""
    return [
        an_event(1, session_started=event_pb2.SessionStarted()),
        an_event(2, process_started=event_pb2.ProcessStarted()),
        an_event(3, turn=1, turn_started=event_pb2.TurnStarted()),
        an_event(4, turn=1, agent_message=event_pb2.AgentMessage(message_id="m1")),
        an_event(5, turn=1, agent_message=event_pb2.AgentMessage(message_id="m2")),
        an_event(6, turn=1, turn_ended=event_pb2.TurnEnded()),
        an_event(7, process_exited=event_pb2.ProcessExited()),
        an_event(8, session_ended=event_pb2.SessionEnded()),
    ]


EVENTS = a_log()
MESSAGES = (event_pb2.EVENT_KIND_AGENT_MESSAGE,)


def events(*sequences: int, of: list[event_pb2.Event] = EVENTS) -> Say:
    batch = watch_pb2.EventBatch(
        session_id="s1", log_id="l1", events=[of[number - 1] for number in sequences]
    )
    return lambda recorder: recorder.said(watch_pb2.WatchResponse(events=batch))


def progress(sequence: int, *, ended: bool = False, log_id: str = "l1") -> Say:
    said = watch_pb2.Progress(session_id="s1", log_id=log_id, sequence=sequence, ended=ended)
    return lambda recorder: recorder.said(watch_pb2.WatchResponse(progress=said))


def compacted(floor: int) -> Say:
    said = watch_pb2.Compacted(session_id="s1", log_id="l1", floor_sequence=floor)
    return lambda recorder: recorder.said(watch_pb2.WatchResponse(compacted=said))


def opened(after: int | None) -> Say:
    return lambda recorder: recorder.opened({"s1": after})


def lost(recorder: Recorder) -> None:
    recorder.lost()


def refused(floor: int) -> Say:
    return lambda recorder: recorder.refused("s1", floor)


def told(*steps: Say, kinds: Iterable[int] = ()) -> Recorder:
    recorder = Recorder(kinds)
    for step in steps:
        step(recorder)
    return recorder


def whole() -> Log:
    return Log.of("s1", "l1", EVENTS)


def from_floor(floor: int) -> Log:
    return Log.of("s1", "l1", EVENTS[floor - 1 :])


GOOD = {
    "whole": told(opened(0), progress(0), events(1, 2, 3, 4), events(5, 6, 7, 8)),
    "resumed": told(
        opened(0), progress(0), events(1, 2), lost, opened(2), progress(2), events(3, 4, 5, 6, 7, 8)
    ),
    "resumed from a bookmark": told(
        *(opened(0), progress(0), events(1, 2, 3), progress(3), lost),
        *(opened(3), progress(3), lost, opened(3), progress(3), events(4, 5, 6, 7, 8)),
    ),
    "asked again": told(
        *(opened(0), progress(0), events(1, 2, 3), lost),
        *(opened(1), progress(1), events(2, 3, 4, 5, 6, 7, 8)),
    ),
    "filtered": told(
        *(opened(0), progress(0), events(4, 5), progress(8, ended=False)), kinds=MESSAGES
    ),
    "a tail": told(opened(None), progress(6), events(7, 8), progress(8, ended=True)),
    "ended": told(
        opened(0), progress(0), events(1, 2, 3, 4, 5, 6, 7, 8), progress(8, ended=True), lost
    ),
    "ahead": told(opened(20), progress(20), lost),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_may_be_told_passes(name: str) -> None:
    checked = validate(whole(), GOOD[name], complete=name != "ahead")
    assert checked.connections
    assert checked.bookmarks
    assert checked.events or name == "ahead"


def test_a_watch_from_0_that_is_told_of_the_floor_passes() -> None:
    recorder = told(opened(0), compacted(4), events(4, 5, 6, 7, 8))
    assert validate(from_floor(4), recorder, complete=True).events == 5


def test_a_refusal_that_names_the_floor_passes() -> None:
    recorder = told(opened(1), refused(4))
    assert validate(from_floor(4), recorder) == Checked(connections=1, refusals=1)


def test_what_was_told_before_it_was_compacted_passes_and_is_known_to_the_log() -> None:
    recorder = told(opened(0), progress(0), events(1, 2, 3, 4), refused(7))
    filtered = told(opened(0), progress(0), progress(7), kinds=MESSAGES)
    log = from_floor(7)
    assert validate(log, recorder).events == 4
    assert validate(log, filtered).bookmarks == 2  # nobody knows of messages
    log.learn([recorder])
    with pytest.raises(Broken, match="Progress 7 is ahead of event 4"):
        validate(log, filtered)


BROKEN: dict[str, tuple[Promise, Recorder]] = {
    "out of order": (
        Promise.ORDERED,
        told(opened(0), progress(0), events(1, 2, 3, 2)),
    ),
    "twice": (
        Promise.UNIQUE,
        told(opened(0), progress(0), events(1, 2, 2)),
    ),
    "a gap": (
        Promise.RELIABLE,
        told(opened(0), progress(0), events(1, 2), events(4, 5)),
    ),
    "a gap in what the filter lets through": (
        Promise.RELIABLE,
        told(
            opened(0),
            progress(0),
            events(1, 6),
            kinds=(
                *MESSAGES,
                event_pb2.EVENT_KIND_SESSION_STARTED,
                event_pb2.EVENT_KIND_TURN_ENDED,
            ),
        ),
    ),
    "a gap where it went on": (
        Promise.RESUMABLE,
        told(opened(0), progress(0), events(1, 2), lost, opened(2), progress(2), events(4)),
    ),
    "old events where it went on": (
        Promise.RESUMABLE,
        told(opened(0), progress(0), events(1, 2), lost, opened(2), progress(2), events(2, 3)),
    ),
    "old events to a cursor in the future": (
        Promise.RESUMABLE,
        told(opened(6), progress(6), events(5)),
    ),
    "a bookmark ahead of an event": (
        Promise.BOOKMARKABLE,
        told(opened(0), progress(0), events(1, 2), progress(3), events(3)),
    ),
    "a bookmark that goes back": (
        Promise.BOOKMARKABLE,
        told(opened(0), progress(0), events(1, 2, 3), progress(2)),
    ),
    "an event below a bookmark": (
        Promise.BOOKMARKABLE,
        told(
            *(opened(0), progress(0), events(4), progress(6), events(5)),
            kinds=MESSAGES,
        ),
    ),
    "a kind that was not asked for": (
        Promise.FILTER,
        told(opened(3), progress(3), events(4, 5, 6), kinds=MESSAGES),
    ),
    "another event under the same number": (
        Promise.SAME,
        told(
            opened(0),
            progress(0),
            events(1, of=[an_event(1, turn=9, turn_ended=event_pb2.TurnEnded())]),
        ),
    ),
    "an event that is not in the log": (
        Promise.SAME,
        told(opened(8), progress(8), events(9, of=[*EVENTS, an_event(9)])),
    ),
    "another log": (Promise.SAME, told(opened(0), progress(0, log_id="l2"))),
    "no opening": (Promise.OPENING, told(opened(0), events(1))),
    "an opening elsewhere": (Promise.OPENING, told(opened(2), progress(3))),
    "a floor that is not told": (Promise.FLOOR, told(opened(0), progress(3))),
    "a floor that is none": (Promise.FLOOR, told(opened(0), compacted(4))),
    "a floor in the middle": (
        Promise.FLOOR,
        told(opened(0), progress(0), events(1, 2), compacted(4)),
    ),
    "a refusal without a cause": (Promise.FLOOR, told(opened(3), refused(4))),
    "an end before the end": (
        Promise.ENDING,
        told(opened(0), progress(0), events(1, 2, 3), progress(3, ended=True)),
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_may_not_be_told_is_found(name: str) -> None:
    promise, recorder = BROKEN[name]
    with pytest.raises(Broken) as raised:
        validate(whole(), recorder)
    assert raised.value.promise is promise


def test_events_that_never_came_are_found() -> None:
    recorder = told(opened(0), progress(0), events(1, 2, 3))
    assert validate(whole(), recorder).events == 3
    with pytest.raises(Broken, match=re.escape("event 4 never came")) as raised:
        validate(whole(), recorder, complete=True)
    assert raised.value.promise is Promise.COMPLETE
    with pytest.raises(Broken, match="event 1 never came"):
        validate(whole(), Recorder(), complete=True)


def test_a_silence_on_an_open_connection_is_found_but_not_between_two() -> None:
    recorder = told(opened(0), progress(0), events(1, 2), lost, opened(2), progress(2))
    times = recorder.histories["s1"]._times
    times[:] = type(times)("d", [0, 1, 2, 3, 4, 40, 41])
    assert validate(whole(), recorder, lively=15).connections == 2
    times[:] = type(times)("d", [0, 1, 20, 21, 22, 23, 24])
    with pytest.raises(Broken, match=r"nothing came for 19\.0 s") as raised:
        validate(whole(), recorder, lively=15)
    assert raised.value.promise is Promise.LIVELY


def test_two_watchers_that_were_told_different_things_are_found() -> None:
    other = told(opened(0), progress(0), events(1, of=[an_event(1, turn=3)]))
    with pytest.raises(Broken, match="event 1 reads differently to watcher 0") as raised:
        whole().learn([other])
    assert raised.value.promise is Promise.SAME


def test_what_the_sdk_tells_is_one_history_over_its_connections() -> None:
    recorder = Recorder()
    recorder.update(Update("", Connected()))
    recorder.update(Update("s1", watch_pb2.Progress(session_id="s1")))
    for event in EVENTS[:3]:
        recorder.update(Update("s1", event))
    recorder.update(Update("", Connected()))
    recorder.update(Update("s1", watch_pb2.Progress(session_id="s1", sequence=3)))
    for event in EVENTS[3:]:
        recorder.update(Update("s1", event))
    assert validate(whole(), recorder, complete=True) == Checked(events=8, bookmarks=2)
    recorder.update(Update("s1", EVENTS[-1]))
    with pytest.raises(Broken, match="event 8 came twice"):
        validate(whole(), recorder)


def test_a_cursor_to_go_on_from_is_that_of_the_last_thing_told() -> None:
    assert told(opened(0)).of("s1").cursor() == 0
    assert told(opened(0), progress(0), events(1, 2), lost).of("s1").cursor() == 2
    assert told(opened(0), compacted(4)).of("s1").cursor() == 3


# --- the log itself


def broken_log(change: Callable[[list[event_pb2.Event]], object]) -> Log:
    made = a_log()
    change(made)
    return Log.of("s1", "l1", made)


def test_a_good_log_passes() -> None:
    check_log(whole(), ended=True)
    check_log(from_floor(4), ended=True)  # nothing of it can be held against the table


def test_a_log_with_a_gap_is_found() -> None:
    with pytest.raises(Broken, match="event 4 stands where 3 should") as raised:
        check_log(broken_log(lambda made: made.pop(2)))
    assert raised.value.promise is Promise.NUMBERED


def test_commit_times_that_fall_are_found() -> None:
    def change(made: list[event_pb2.Event]) -> None:
        made[4].commit_time.seconds = 1

    with pytest.raises(Broken) as raised:
        check_log(broken_log(change))
    assert raised.value.promise is Promise.TIMED


def test_an_event_out_of_its_place_is_found() -> None:
    def change(made: list[event_pb2.Event]) -> None:
        made[6].Clear()
        made[6].MergeFrom(an_event(7, turn=1, agent_message=event_pb2.AgentMessage()))

    with pytest.raises(Broken, match="AGENT_MESSAGE stands where") as raised:
        check_log(broken_log(change))
    assert raised.value.promise is Promise.TABLE


def test_a_run_that_is_not_over_is_found_where_it_should_be() -> None:
    log = broken_log(lambda made: made.pop())
    check_log(log)
    with pytest.raises(Broken) as raised:
        check_log(log, ended=True)
    assert raised.value.promise is Promise.TABLE
