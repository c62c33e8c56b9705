"""Live text on its way: bounded, in its place, and joined where it can be."""

from __future__ import annotations

import pytest

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle_host import live_texts
from bridle_host.live_texts import LiveTexts


def piece(text: str, offset: int = 0, message: str = "m") -> host_pb.LiveTextPiece:
    return host_pb.LiveTextPiece(
        session_id="s", run=1, turn=2, message_id=message, offset=offset, text=text
    )


def taken(texts: LiveTexts, cursor: int, max_bytes: int = 1 << 20) -> list[tuple[str, int, str]]:
    return [(p.message_id, p.offset, p.text) for p in texts.take(cursor, max_bytes)]


def test_pieces_leave_only_after_the_entry_that_they_followed() -> None:
    texts = LiveTexts()
    assert texts.next_place() is None
    texts.put(piece("a"), 3)
    texts.put(piece("b", 1), 5)
    assert texts.next_place() == 3
    assert taken(texts, 2) == []
    assert taken(texts, 4) == [("m", 0, "a")]
    assert texts.next_place() == 5
    assert taken(texts, 9) == [("m", 1, "b")]


def test_pieces_of_one_message_at_one_place_are_joined_by_bytes() -> None:
    texts = LiveTexts()
    texts.put(piece("ü"), 1)
    texts.put(piece("x", message="other"), 1)
    texts.put(piece("b", 2), 1)
    texts.put(piece("c", 4), 1)  # a hole
    assert taken(texts, 1) == [("m", 0, "üb"), ("other", 0, "x"), ("m", 4, "c")]
    texts.put(piece("d", 5), 1)
    assert taken(texts, 1) == [("m", 5, "d")]


def test_a_message_takes_at_least_one_piece_and_not_many_more_bytes() -> None:
    texts = LiveTexts()
    for n in range(4):
        texts.put(piece("x" * 10, message=str(n)), 0)
    assert [m for m, _, _ in taken(texts, 0, 5)] == ["0"]
    assert [m for m, _, _ in taken(texts, 0, 15)] == ["1", "2"]


def test_what_is_too_much_is_lost_and_room_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_texts, "QUEUE_BYTES", 10)
    monkeypatch.setattr(live_texts, "QUEUE_PIECES", 2)
    texts = LiveTexts()
    texts.put(piece("x" * 8), 0)
    texts.put(piece("x" * 8, message="too large"), 0)
    texts.put(piece("x", message="fits"), 0)
    texts.put(piece("x", message="too many"), 0)
    assert [m for m, _, _ in taken(texts, 0)] == ["m", "fits"]
    texts.put(piece("x" * 10), 0)
    assert [m for m, _, _ in taken(texts, 0)] == ["m"]


def test_clear_forgets_all() -> None:
    texts = LiveTexts()
    texts.put(piece("a"), 0)
    texts.clear()
    texts.put(piece("b", 1), 0)
    assert taken(texts, 0) == [("m", 1, "b")]
