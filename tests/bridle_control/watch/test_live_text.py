"""Text that is still being written: in order with the events, whole or not at all, bounded."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from bridle.v1 import event_pb2, watch_pb2
from bridle_control.store.api import NewEvent, Store
from bridle_control.watch import live_text
from bridle_control.watch.hub import Hub, Target
from bridle_control.watch.live_text import Cursors, LiveText
from tests.support.manual_clock import ManualClock
from tests.support.stores import append, event_of
from tests.support.watching import Watcher, watching


def message(message_id: str, turn: int = 1) -> NewEvent:
    event = event_pb2.Event(run=1, turn=turn)
    event.agent_message.message_id = message_id
    return event_of(event)


def thought(message_id: str, turn: int = 1) -> NewEvent:
    event = event_pb2.Event(run=1, turn=turn)
    event.agent_thought.message_id = message_id
    return event_of(event)


def turn_ended(turn: int = 1) -> NewEvent:
    event = event_pb2.Event(run=1, turn=turn)
    event.turn_ended.message = "over"
    return event_of(event)


async def commit(store: Store, *events: NewEvent) -> None:
    await store.write(lambda tx: tx.append_events("s1", list(events)))


def text_of(watcher: Watcher, message_id: str = "m") -> str:
    """What a watcher puts together, as the contract tells it to."""
    data = b""
    for piece in watcher.live:
        if piece.message_id == message_id:
            assert piece.offset == len(data)
            data += piece.text.encode()
    return data.decode()


def order(watcher: Watcher) -> list[str]:
    return [str(each.WhichOneof("response")) for each in watcher.said]


async def test_text_comes_as_it_is_written_and_a_new_watcher_gets_it_so_far(hub: Hub) -> None:
    async with watching(hub, "s1", live_text=True) as first:
        hub.add_live_text("s1", 1, "m", 0, "hé")
        await first.until(lambda: text_of(first) == "hé")
        async with watching(hub, "s1", live_text=True) as second:
            await second.until(lambda: text_of(second) == "hé")
            hub.add_live_text("s1", 1, "m", 3, "llo")
            for watcher in (first, second):
                await watcher.until(lambda watcher=watcher: text_of(watcher) == "héllo")  # type: ignore[misc]
        piece = first.live[0]
        assert (piece.session_id, piece.turn, piece.message_id) == ("s1", 1, "m")


async def test_who_did_not_ask_for_text_gets_none(store: Store, hub: Hub) -> None:
    async with watching(hub, "s1") as watcher:
        hub.add_live_text("s1", 1, "m", 0, "text")
        await append(store, "s1", "out")
        await watcher.until_events(1)
        assert watcher.live == []


@pytest.mark.parametrize("end", [message("m"), thought("m"), turn_ended()])
async def test_no_text_follows_the_end_of_its_message(
    store: Store, hub: Hub, end: NewEvent
) -> None:
    stream = hub.watch([Target("s1")], principal_key="me", live_text=True)
    async with aclosing(stream):
        await anext(stream)
        hub.add_live_text("s1", 1, "m", 0, "so far")
        said = watch_pb2.WatchResponse.FromString(await anext(stream))
        assert said.live_text.text == "so far"
        # The watcher is slow: it asks for no more until the message is whole.
        hub.add_live_text("s1", 1, "m", 6, " and never seen")
        await commit(store, end)
        await append(store, "s1", "later")
        said = watch_pb2.WatchResponse.FromString(await anext(stream))
        assert [event.sequence for event in said.events.events] == [1, 2]
        hub.add_live_text("s1", 2, "n", 0, "next")
        said = watch_pb2.WatchResponse.FromString(await anext(stream))
        assert said.live_text.text == "next"
        await commit(store, turn_ended(2))
    async with watching(hub, "s1", live_text=True) as late:
        await late.until_events(3)
        assert late.live == []


async def test_another_message_goes_on_when_one_has_ended(store: Store, hub: Hub) -> None:
    async with watching(hub, "s1", live_text=True) as watcher:
        hub.add_live_text("s1", 1, "m", 0, "one")
        hub.add_live_text("s1", 1, "n", 0, "two")
        await commit(store, message("m"))
        hub.add_live_text("s1", 1, "n", 3, " three")
        await watcher.until(lambda: text_of(watcher, "n") == "two three")


async def test_text_never_overtakes_events(store: Store, hub: Hub) -> None:
    await append(store, "s1", *["x"] * 1000)
    hub.add_live_text("s1", 1, "m", 0, "text")
    async with watching(hub, "s1", live_text=True) as watcher:
        await watcher.until(lambda: bool(watcher.live))
        assert order(watcher)[-1] == "live_text"
        assert len(watcher.events) == 1000


async def test_a_cursor_in_the_future_sees_no_text_of_the_present(store: Store, hub: Hub) -> None:
    async with watching(hub, Target("s1", after=2), live_text=True) as watcher:
        hub.add_live_text("s1", 1, "m", 0, "now")
        await append(store, "s1", "a", "b", "c")
        await watcher.until_events(1)
        await watcher.until(lambda: text_of(watcher) == "now")
        assert order(watcher) == ["progress", "events", "live_text"]


async def test_a_slow_watcher_gets_fewer_and_longer_pieces(hub: Hub) -> None:
    async with watching(hub, "s1", live_text=True) as watcher:
        watcher.pause()
        for offset in range(100):
            hub.add_live_text("s1", 1, "m", offset, "x")
        watcher.go_on()
        await watcher.until(lambda: text_of(watcher) == "x" * 100)
        assert len(watcher.live) <= 3


async def test_after_a_hole_the_message_is_waited_for(store: Store, hub: Hub) -> None:
    async with watching(hub, "s1", live_text=True) as watcher:
        hub.add_live_text("s1", 1, "m", 0, "abc")
        hub.add_live_text("s1", 1, "m", 5, "hole")
        hub.add_live_text("s1", 1, "m", 9, "more")
        hub.add_live_text("s1", 1, "late", 7, "control was started anew")
        hub.add_live_text("s1", 1, "n", 0, "next")
        await watcher.until(lambda: text_of(watcher, "n") == "next")
        assert {piece.message_id for piece in watcher.live} <= {"m", "n"}
        assert text_of(watcher) in ("", "abc")
        await commit(store, message("m"))
        hub.add_live_text("s1", 2, "m", 0, "another turn")
        await watcher.until(lambda: watcher.live[-1].turn == 2)


async def test_a_deleted_session_has_no_text(store: Store, hub: Hub) -> None:
    hub.add_live_text("s1", 1, "m", 0, "text")
    await store.write(lambda tx: tx.delete_session("s1"))
    assert hub._live._bytes == 0


def pieces(live: LiveText, seen: Cursors) -> list[watch_pb2.LiveText]:
    found = []
    while (data := live.next("s1", seen)) is not None:
        found.append(watch_pb2.WatchResponse.FromString(data).live_text)
    return found


def test_long_text_comes_in_pieces_that_end_with_whole_characters() -> None:
    live, seen = LiveText(), Cursors()
    text = "x" + "é" * 70_000
    assert live.add("s1", 1, "m", 0, text)
    found = pieces(live, seen)
    assert len(found) == 3
    assert "".join(piece.text for piece in found) == text
    assert max(len(piece.text.encode()) for piece in found) <= live_text.PIECE_BYTES


def test_only_a_window_of_a_message_is_kept_and_nobody_gets_a_piece_out_of_place() -> None:
    live, near, far = LiveText(), Cursors(), Cursors()
    offset = 0
    for _ in range(200):
        live.add("s1", 1, "m", offset, "é" * 2000)
        offset += 4000
        for piece in pieces(live, near):
            assert piece.offset + len(piece.text.encode()) <= offset
    assert live._bytes <= live_text.MESSAGE_BYTES
    assert near[1, "m"] == offset
    assert pieces(live, far) == []  # its beginning is gone: it waits for the message


def test_messages_and_sessions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    live = LiveText()
    for number in range(50):
        live.add("s1", 1, f"m{number}", 0, "x")
    assert live._bytes == live_text.SESSION_MESSAGES
    monkeypatch.setattr(live_text, "TOTAL_BYTES", 1000)
    for number in range(50):
        live.add(f"s{number}", 1, "m", 0, "x" * 100)
    assert live._bytes <= 1000
    assert pieces(live, Cursors()) == []  # the oldest session's went first


async def test_progress_and_text_do_not_stand_in_each_others_way(
    hub: Hub, clock: ManualClock
) -> None:
    async with watching(hub, "s1", live_text=True) as watcher:
        hub.add_live_text("s1", 1, "m", 0, "a")
        await watcher.until(lambda: text_of(watcher) == "a")
        clock.advance(20)
        await watcher.until(lambda: len(watcher.progress) == 2)
        hub.add_live_text("s1", 1, "m", 1, "b")
        await watcher.until(lambda: text_of(watcher) == "ab")
