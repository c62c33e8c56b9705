"""Spans of the client's own: one for each try of a call and each connection of a watch, below its
caller's, and handed on to control.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, Tracer

from bridle import Client, SyncClient, tracing
from bridle.retry import Backoff, RetryPolicy
from tests.client.scripted_server import AWAY, Silence, Step, events, progress, serving

AT_ONCE = RetryPolicy(backoff=Backoff(first=0.001, most=0.001))


class Traced:
    """A program's own set-up of OpenTelemetry, and what its exporter got."""

    def __init__(self) -> None:
        self.provider = TracerProvider(shutdown_on_exit=False)
        self._exporter = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def tracer(self) -> Tracer:
        return self.provider.get_tracer("test")

    @property
    def calls(self) -> Sequence[ReadableSpan]:
        """The client's spans that have ended."""
        spans = self._exporter.get_finished_spans()
        return [span for span in spans if span.kind is SpanKind.CLIENT]

    def client(self, address: str) -> Client:
        return Client(
            address,
            token="t",
            retry=AT_ONCE,
            interceptors=tracing.interceptors(self.provider),
        )


@pytest.fixture
def traced() -> Iterator[Traced]:
    made = Traced()
    yield made
    made.provider.shutdown()


def place_of(span: ReadableSpan) -> str:
    """As its callees are told it."""
    found = span.get_span_context()
    assert found is not None
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"


def parents(spans: Sequence[ReadableSpan]) -> set[int | None]:
    return {span.parent.span_id if span.parent else None for span in spans}


def codes(spans: Sequence[ReadableSpan]) -> list[object]:
    return [(span.attributes or {})["rpc.response.status_code"] for span in spans]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


async def test_each_try_of_a_call_is_a_span_below_the_callers_and_told_to_control(
    traced: Traced,
) -> None:
    async with serving(sends=[AWAY, AWAY, None]) as server, traced.client(server.address) as client:
        with traced.tracer.start_as_current_span("caller") as caller:
            await client.send("s", "x")
        assert [place_of(span) for span in traced.calls] == server.places
        assert len(server.places) == 3
        assert parents(traced.calls) == {caller.get_span_context().span_id}
        assert codes(traced.calls) == ["UNAVAILABLE", "UNAVAILABLE", "OK"]
        failed = [span.status.status_code is StatusCode.ERROR for span in traced.calls]
        assert failed == [True, True, False]
        host, _, port = server.address.partition(":")
        assert {span.name for span in traced.calls} == {"bridle.v1.SessionService/Send"}
        assert dict(traced.calls[0].attributes or {}) == {
            "rpc.system.name": "grpc",
            "rpc.method": "bridle.v1.SessionService/Send",
            "server.address": host,
            "server.port": int(port),
            "rpc.response.status_code": "UNAVAILABLE",
            "error.type": "UNAVAILABLE",
        }


async def test_each_connection_of_a_watch_is_a_span_and_none_that_ended_by_itself_failed(
    traced: Traced,
) -> None:
    scripts: list[list[Step]] = [[events(1), AWAY], [events(2), progress(2, ended=True)]]
    async with serving(*scripts) as server, traced.client(server.address) as client:
        with traced.tracer.start_as_current_span("caller") as caller:
            assert [event.sequence async for event in client.watch("s")] == [1, 2]
        await until(lambda: len(traced.calls) == 2)
        assert [place_of(span) for span in traced.calls] == server.places
        assert parents(traced.calls) == {caller.get_span_context().span_id}
        assert codes(traced.calls) == ["UNAVAILABLE", "OK"]


async def test_the_span_of_a_watch_ends_when_its_reader_has_enough(traced: Traced) -> None:
    async with serving([events(1), Silence()]) as server, traced.client(server.address) as client:
        async with client.watch("s") as watch:
            assert (await anext(aiter(watch))).sequence == 1
            assert not traced.calls
        await until(lambda: traced.calls)
        assert codes(traced.calls) == ["CANCELLED"]
        await server.cancelled.wait()


async def test_the_span_of_a_call_ends_when_its_caller_goes(traced: Traced) -> None:
    async with serving(sends=[Silence()]) as server, traced.client(server.address) as client:
        calling = asyncio.create_task(client.send("s", "x"))
        await until(lambda: server.requests)
        calling.cancel()
        await asyncio.wait([calling])
        assert calling.cancelled()
        await until(lambda: traced.calls)
        assert codes(traced.calls) == ["CANCELLED"]
        await server.cancelled.wait()


async def test_the_synchronous_client_calls_as_a_part_of_its_callers_span(traced: Traced) -> None:
    async with serving([events(1), progress(1, ended=True)], sends=[None]) as server:

        def work() -> int:
            interceptors = tracing.interceptors(traced.provider)
            with (
                SyncClient(server.address, token="t", interceptors=interceptors) as client,
                traced.tracer.start_as_current_span("caller") as caller,
            ):
                client.send("s", "x")
                assert [event.sequence for event in client.watch("s")] == [1]
                return caller.get_span_context().span_id

        caller = await asyncio.to_thread(work)
        assert parents(traced.calls) == {caller}
        assert {place_of(span) for span in traced.calls} == set(server.places)


def test_nothing_of_opentelemetry_is_loaded_unless_it_is_asked_for() -> None:
    program = (
        "import sys, bridle.cli.app, bridle.client, bridle.sync;"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "[]\n"
