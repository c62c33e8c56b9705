"""Events as lines: each kind has words, and what was cut where it was read is put together."""

from __future__ import annotations

import re
from datetime import datetime

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from bridle.render import LINE_CAP, Renderer, clock, content_text, enum_name
from bridle.v1 import content_pb2, event_pb2, input_pb2, session_pb2

STDERR = event_pb2.OUTPUT_STREAM_STDERR
STDOUT = event_pb2.OUTPUT_STREAM_STDOUT
KINDS = [field.name for field in event_pb2.Event.DESCRIPTOR.oneofs_by_name["kind"].fields]
HOSTILE = "\x1b[2Jx\r\u202e\u009b31m\x00"


def output(text: str = "", data: bytes = b"", stream: int = STDOUT) -> event_pb2.Event:
    event = event_pb2.Event(sequence=1)
    event.tool_call_output.tool_call_id = "t"
    event.tool_call_output.stream = event_pb2.OutputStream.ValueType(stream)
    if data:
        event.tool_call_output.data = data
    else:
        event.tool_call_output.text = text
    return event


def fill(message: Message, text: str) -> None:
    """Sets every field of a message, strings to `text`, down to a few levels."""
    for field in message.DESCRIPTOR.fields:
        if field.containing_oneof is not None and message.WhichOneof(field.containing_oneof.name):
            continue
        value: object
        if field.message_type is not None:
            inner = getattr(message, field.name)
            if field.is_repeated:
                fill(inner.add(), text)
            else:
                fill(inner, text)
                inner.SetInParent()
            continue
        if field.type == FieldDescriptor.TYPE_STRING:
            value = text
        elif field.type == FieldDescriptor.TYPE_BYTES:
            value = text.encode() + b"\xff\x9b"
        elif field.type == FieldDescriptor.TYPE_BOOL:
            value = True
        else:
            value = 1
        if field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)


def filled(kind: str, text: str) -> event_pb2.Event:
    event = event_pb2.Event(sequence=7, turn=3, run=1, sub_agent=text)
    event.principal.name = text
    event.time.seconds = 1_700_000_000
    fill(getattr(event, kind), text)
    getattr(event, kind).SetInParent()
    return event


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("colour", [True, False])
def test_every_kind_is_shown_and_every_field_of_it_is_harmless(kind: str, colour: bool) -> None:
    renderer = Renderer(colour=colour)
    lines = renderer.lines(filled(kind, HOSTILE)) + renderer.flush()
    assert lines
    for line in lines:
        assert re.sub(r"\x1b\[[0-9;]*m", "", line).isprintable()
        assert colour or line.isprintable()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_words_of_its_own(kind: str) -> None:
    renderer = Renderer()
    (first, *_) = renderer.lines(filled(kind, "word")) + renderer.flush()
    assert "doesn't know" not in first


def test_a_kind_of_a_newer_release_is_shown_as_unknown() -> None:
    raw = event_pb2.Event(sequence=9).SerializeToString() + b"\xda\x3e\x00"  # field 1003
    (line,) = Renderer().lines(event_pb2.Event.FromString(raw))
    assert "9 " in line
    assert "doesn't know" in line


def test_a_line_that_comes_in_pieces_is_one_line() -> None:
    renderer = Renderer(gutter=False)
    assert renderer.lines(output("one\ntw")) == ["  | one"]
    assert renderer.unfinished() == "tw"
    assert renderer.lines(output("o\nthree")) == ["  | two"]
    ended = event_pb2.Event(tool_call_ended=event_pb2.ToolCallEnded(tool_call_id="t"))
    assert renderer.lines(ended)[0] == "  | three"
    assert renderer.flush() == []


def test_a_sequence_that_is_split_over_events_is_still_left_out() -> None:
    renderer = Renderer(gutter=False)
    assert renderer.lines(output("a\x1b")) == []
    assert renderer.lines(output("[31mb\n")) == ["  | ab"]


def test_the_streams_are_told_apart_and_stand_in_the_order_that_they_were_read() -> None:
    renderer = Renderer(gutter=False)
    lines = renderer.lines(output("out"))
    lines += renderer.lines(output("err\n", stream=STDERR))
    lines += renderer.lines(output("more\n"))
    assert lines == ["  | out", "  ! err", "  | more"]


def test_output_that_is_no_utf_8_is_shown_as_bytes() -> None:
    assert Renderer(gutter=False).lines(output(data=b"a\xffb\n")) == ["  | a\\xffb"]


def test_a_line_without_an_end_is_shown_in_pieces() -> None:
    renderer = Renderer(gutter=False)
    shown = [line for _ in range(3) for line in renderer.lines(output("x" * 10_000))]
    assert sum(len(line) - 4 for line in shown) == 20_000
    assert len(renderer.unfinished()) <= LINE_CAP


def test_each_event_begins_with_its_number_and_its_time_of_day() -> None:
    event = event_pb2.Event(sequence=42, turn=5)
    event.time.seconds = 1_700_000_000
    event.turn_started.SetInParent()
    local = datetime.fromtimestamp(1_700_000_000).astimezone()
    assert Renderer().lines(event) == [f"   42 {local:%H:%M:%S} turn 5 started"]


def test_what_only_moves_the_machine_can_be_left_out() -> None:
    event = event_pb2.Event()
    event.phase_changed.to = session_pb2.PHASE_IDLE
    assert Renderer(phases=False).lines(event) == []


def test_a_time_that_no_calendar_has_is_no_error() -> None:
    assert clock(2**62) == "--:--:--"


def test_an_enum_value_of_a_newer_release_is_its_number() -> None:
    item = input_pb2.Input(mode=input_pb2.InputMode.ValueType(2))
    assert enum_name(item, "mode") == "STEER"
    newer = input_pb2.Input.FromString(b"\x18\x63")  # mode = 99
    assert enum_name(newer, "mode") == "99"


def test_content_is_text_and_the_rest_is_named() -> None:
    pieces = [
        content_pb2.Content(text="look"),
        content_pb2.Content(image=content_pb2.Image(data=b"1234", media_type="image/png")),
        content_pb2.Content(resource=content_pb2.Resource(uri="file:///x", title="notes")),
        content_pb2.Content(),
    ]
    assert content_text(pieces).splitlines() == [
        "look",
        "[image image/png, 4 bytes]",
        "[notes file:///x]",
        "[unknown content]",
    ]
