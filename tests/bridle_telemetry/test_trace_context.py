"""W3C Trace Context, in and out."""

from __future__ import annotations

import pytest

from bridle_telemetry.trace_context import from_headers, from_metadata, place_of, to_headers

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize("flags", ["00", "01"])
def test_what_comes_in_goes_out_as_it_was(flags: str) -> None:
    parent = PARENT[:-2] + flags
    context = from_metadata([("x", "y"), ("traceparent", parent), ("tracestate", "a=1,b=2")])
    assert to_headers(place_of(context)) == (parent, "a=1,b=2")


def test_several_tracestates_are_one_list() -> None:
    context = from_metadata([("tracestate", "a=1"), ("traceparent", PARENT), ("tracestate", "b=2")])
    assert to_headers(place_of(context)) == (PARENT, "a=1,b=2")


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    context = from_headers("cc" + PARENT[2:] + "-what-comes-later")
    assert to_headers(place_of(context))[0] == PARENT


@pytest.mark.parametrize(
    "parent",
    [
        *("", "x", PARENT[:-1], PARENT.upper(), "ff" + PARENT[2:], PARENT + "-more"),
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
    ],
)
def test_what_is_none_is_none(parent: str) -> None:
    assert from_headers(parent) is None
    assert from_metadata([("traceparent", parent)]) is None


def test_bytes_and_a_state_alone_are_none() -> None:
    assert from_metadata([("traceparent", PARENT.encode()), ("tracestate", "a=1")]) is None


def test_a_place_that_is_none_makes_no_headers() -> None:
    assert to_headers(place_of(None)) == ("", "")
