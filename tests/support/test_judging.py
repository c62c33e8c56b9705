"""The judge of what real agents were told to have said: it sees each way for a turn to leak."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bridle.v1 import content_pb2, event_pb2, session_pb2, watch_pb2
from tests.agents.talk import judge

Item = event_pb2.Event | watch_pb2.LiveText
INTERRUPTED = event_pb2.STOP_REASON_INTERRUPTED


def message(turn: int, text: str) -> event_pb2.Event:
    content = [content_pb2.Content(text=text)]
    said = event_pb2.AgentMessage(message_id=f"m-{turn}-{text}", content=content)
    return event_pb2.Event(turn=turn, agent_message=said)


def live(turn: int, text: str) -> watch_pb2.LiveText:
    return watch_pb2.LiveText(turn=turn, message_id="m", text=text)


def begins(turn: int) -> event_pb2.Event:
    return event_pb2.Event(turn=turn, turn_started=event_pb2.TurnStarted())


def ends(turn: int) -> event_pb2.Event:
    return event_pb2.Event(turn=turn, turn_ended=event_pb2.TurnEnded(stop_reason=INTERRUPTED))


def judged(*said: Item) -> None:
    """Judges a run with this in it."""
    ended = event_pb2.SessionEnded(phase=session_pb2.PHASE_STOPPED, verified=True)
    items: Sequence[Item] = (
        event_pb2.Event(session_started=event_pb2.SessionStarted()),
        event_pb2.Event(process_started=event_pb2.ProcessStarted()),
        *said,
        event_pb2.Event(process_exited=event_pb2.ProcessExited(exit_code=0)),
        event_pb2.Event(session_ended=ended),
    )
    events = [item for item in items if isinstance(item, event_pb2.Event)]
    for sequence, event in enumerate(events, 1):
        event.sequence, event.run = sequence, 1
    judge(events, items, {"T1", "T2"})


def test_turns_that_keep_to_themselves_pass() -> None:
    judged(
        *(begins(1), live(1, "T1.1"), message(1, "T1.1 T1.2"), ends(1)),
        *(begins(2), message(2, "T2.1"), ends(2)),
    )


@pytest.mark.parametrize(
    "late",
    [
        pytest.param([begins(2), message(2, "T1.3"), ends(2)], id="in-the-next-turn"),
        pytest.param([begins(2), live(2, "and T1.3"), ends(2)], id="live-in-the-next-turn"),
        pytest.param([live(1, "T1.3")], id="live-behind-the-end"),
        pytest.param([message(1, "T1.3")], id="behind-the-end"),
    ],
)
def test_a_word_behind_its_turns_end_is_seen(late: list[Item]) -> None:
    with pytest.raises(AssertionError, match=r"a word of T1|agent_message"):
        judged(begins(1), message(1, "T1.1"), ends(1), *late)
