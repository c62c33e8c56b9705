"""A caller's place in its trace (W3C trace context) goes with every try of a call and every
connection of a watch, and what Bridle does for it is a part of that trace.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from scripts.client_tools import MissingError
from tests.clients.conftest import chosen
from tests.clients.odd_service import BREAKS, Odd, odd_service
from tests.clients.runners import Language, Runner, running
from tests.clients.test_calls import ref
from tests.clients.test_watching import until_end

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.parametrize("language", chosen(), ids=lambda language: language.name),
]

PLACE = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=value",
}


@asynccontextmanager
async def asking(language: Language, place: Path) -> AsyncIterator[tuple[Runner, Odd]]:
    """A runner whose client "c" asks the odd service."""
    async with odd_service(place / "odd") as odd:
        try:
            async with running(language, place) as runner:
                await runner.dial("c", odd.http if language.over_http else odd.grpc, odd.token)
                yield runner, odd
        except MissingError as why:
            pytest.skip(f"{language.name}: {why}")


def places(odd: Odd, method: str) -> list[dict[str, list[str]]]:
    """What of the trace came with each call of a method."""
    return [
        {key: values for key, values in came.items() if key in PLACE}
        for came in odd.metadata[method]
    ]


async def test_the_callers_place_in_a_trace_goes_with_every_try_of_a_call(
    language: Language, tmp_path: Path
) -> None:
    async with asking(language, tmp_path) as (runner, odd):
        answer = await runner.call("GetSession", ref("shutting-down"), metadata=PLACE)
        assert answer["error"]["reason"] == "SHUTTING_DOWN"
        tries = places(odd, "GetSession")
        assert len(tries) == 5
        assert all(each == {key: [value] for key, value in PLACE.items()} for each in tries)


async def test_the_callers_place_in_a_trace_goes_with_every_connection_of_a_watch(
    language: Language, tmp_path: Path
) -> None:
    async with asking(language, tmp_path) as (runner, odd):
        number = runner.watch("x", metadata=PLACE)
        while "connected" not in await runner.next(number):
            pass
        _, end = await until_end(runner, number)
        assert end == {"end": True}
        connections = places(odd, "Watch")
        assert len(connections) == BREAKS + 1
        assert all(each == {key: [value] for key, value in PLACE.items()} for each in connections)
