"""What the driver `scripted` takes for a word of its agent, and what not."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridle_core.observations import Content, Image, MessageText, Resource, Text, ToolOutput
from bridle_host.drivers.lines.dialect import UnreadableError
from bridle_host.drivers.scripted import wire


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"type": "message", "id": "x" * 257, "text": ""}, "id is too long"),
        ({"type": "message", "id": "x"}, "text is no text"),
        ({"type": "turn_began", "turn": -1}, "turn is no count"),
        ({"type": "turn_began", "turn": True}, "turn is no count"),
        ({"type": "turn_began", "turn": 2**63}, "turn is no count"),
        ({"type": "turn_ended", "reason": "TIRED"}, "reason is none of its words"),
        ({"type": "tool_output", "id": "x", "stream": "STDIN", "hex": ""}, "stream is none"),
        ({"type": "tool_output", "id": "x", "stream": "STDOUT", "hex": "zz"}, "hex is no bytes"),
        ({"type": "tool_ended", "id": "x", "status": "LOST"}, "status is none"),
        ({"type": "tool_ended", "id": "x", "status": "FAILED", "code": "1"}, "code is no count"),
        (
            {"type": "tool_started", "id": "x", "tool": "t", "arguments": "{"},
            "arguments is no JSON",
        ),
        ({"type": "plan", "steps": "none"}, "steps is no list"),
        ({"type": "plan", "steps": [["a", "PENDING"]] * 1001}, "steps is no list"),
        ({"type": "plan", "steps": [["a"]]}, "state is no text"),
        ({"type": "plan", "steps": [["a", "LATER"]]}, "a step's state"),
        ({"type": "usage", "input_tokens": 1.5}, "input_tokens is no count"),
        ({"type": "memory", "memory": [], "always": []}, "memory is no object"),
        ({"type": "memory", "memory": {"a": 1}, "always": []}, "memory holds"),
        ({"type": "memory", "memory": {}, "always": [1]}, "always holds"),
        ({"type": ["message"]}, "it is of no known type"),
        ({}, "it is of no known type"),
    ],
)
def test_a_word_with_a_bad_field_is_unreadable(fields: dict[str, object], why: str) -> None:
    with pytest.raises(UnreadableError, match=why):
        wire.read(json.dumps(fields).encode())


@given(st.binary(max_size=200))
def test_whatever_an_agent_says_is_read_or_unreadable_and_never_a_fault(said: bytes) -> None:
    with suppress(UnreadableError):
        wire.read(said)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
NAMES = ("id", "text", "turn", "reason", "hex", "stream", "steps", "memory", "always", "tool")


@given(
    st.sampled_from(sorted(wire._READERS)),
    st.dictionaries(st.sampled_from(NAMES), JSON),
)
def test_known_words_with_any_fields_are_read_or_unreadable(
    kind: str, fields: dict[str, object]
) -> None:
    with suppress(UnreadableError):
        wire.read(json.dumps({**fields, "type": kind}).encode())


def test_large_output_and_live_text_come_in_pieces() -> None:
    data = bytes(range(256)) * 1000
    line = wire.line("tool_output", id="x", stream="STDOUT", hex=data.hex())
    pieces = wire.read(line)
    assert isinstance(pieces, tuple)
    assert b"".join(p.data for p in pieces if isinstance(p, ToolOutput)) == data
    assert len(pieces) == 4
    pieces = wire.read(wire.line("text", id="x", text="é" * 40_000))
    assert isinstance(pieces, tuple)
    assert "".join(p.text for p in pieces if isinstance(p, MessageText)) == "é" * 40_000
    assert len(pieces) == 3


def test_content_tells_what_came_and_not_the_picture_itself() -> None:
    content: list[Content] = [Text("a"), Image(b"1234", "image/png"), Resource("file:///x")]
    assert wire.content_of(content) == [
        {"text": "a"},
        {"image": "image/png", "size": 4},
        {"uri": "file:///x"},
    ]
