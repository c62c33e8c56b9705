"""The order table (`bridle_core.ordering`), fed with events as a client gets them."""

from __future__ import annotations

from collections.abc import Iterable

from bridle.v1 import event_pb2
from bridle_core.ordering import EventKind, OrderChecker

#: Where an event names what it is about; an approval may name its tool call too.
_REFS = ("approval_id", "tool_call_id", "input_id")


def check_order(events: Iterable[event_pb2.Event]) -> OrderChecker:
    """Feed a session's events, from the first; raises OrderViolation at one out of place."""
    checker = OrderChecker()
    for event in events:
        feed_event(checker, event)
    return checker


def feed_event(checker: OrderChecker, event: event_pb2.Event) -> None:
    """Feed the next event; raises OrderViolation if it is out of place."""
    name = event.WhichOneof("kind")
    assert name is not None
    payload = getattr(event, name)
    kind = EventKind(event_pb2.EventKind.Name(_number(event, name)).removeprefix("EVENT_KIND_"))
    fields = {field.name for field in payload.DESCRIPTOR.fields}
    ref = next((getattr(payload, field) for field in _REFS if field in fields), "")
    inputs = payload.input_ids if "input_ids" in fields else ()
    verified = name != "session_ended" or event.session_ended.verified
    try:
        checker.feed(
            kind, run=event.run, turn=event.turn, ref=ref, inputs=inputs, verified=verified
        )
    except AssertionError as violation:
        raise AssertionError(f"event {event.sequence}, {name}: {violation}") from None


def _number(event: event_pb2.Event, name: str) -> event_pb2.EventKind.ValueType:
    number = event.DESCRIPTOR.fields_by_name[name].number
    return event_pb2.EventKind.Value(event_pb2.EventKind.Name(number))  # type: ignore[arg-type]
