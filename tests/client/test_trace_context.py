"""The place in a trace that a command was started at goes along with what it calls."""

from __future__ import annotations

import pytest

from bridle import Client
from bridle.cli.trace_context import interceptors
from bridle.retry import Backoff, RetryPolicy
from tests.client.scripted_server import AWAY, Step, events, progress, serving

PLACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
AT_ONCE = RetryPolicy(backoff=Backoff(first=0.001, most=0.001))


async def test_each_try_and_each_connection_is_told_where_the_command_was_started() -> None:
    scripts: list[list[Step]] = [[events(1), AWAY], [progress(1, ended=True)]]
    places = interceptors({"TRACEPARENT": PLACE, "TRACESTATE": "vendor=1"})
    async with (
        serving(*scripts, sends=[AWAY, None]) as server,
        Client(server.address, token="t", retry=AT_ONCE, interceptors=places) as client,
    ):
        await client.send("s", "x")
        assert [event.sequence async for event in client.watch("s")] == [1]
        assert server.places == [PLACE] * 4
        assert server.states == ["vendor=1"] * 4


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "nonsense",
        PLACE.upper(),
        f"{PLACE}-",
        f"ff{PLACE[2:]}",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
    ],
)
def test_a_place_that_cannot_be_read_is_none(parent: str) -> None:
    assert interceptors({"TRACEPARENT": parent, "TRACESTATE": "vendor=1"}) == ()


async def test_a_state_that_cannot_be_sent_is_left_out() -> None:
    places = interceptors({"TRACEPARENT": PLACE, "TRACESTATE": "vendor=\n"})
    async with (
        serving(sends=[None]) as server,
        Client(server.address, token="t", interceptors=places) as client,
    ):
        await client.send("s", "x")
        assert (server.places, server.states) == ([PLACE], ["None"])
