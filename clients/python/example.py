"""The example: start a session, watch it, send, interrupt, stop.

    bridle up                             # in another terminal
    python clients/python/example.py

Takes the address and the token that `bridle up` stored, or BRIDLE_ADDRESS and BRIDLE_TOKEN. Where
OTEL_EXPORTER_OTLP_ENDPOINT names a collector, its traces go there.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager

import bridle
from bridle import tracing
from bridle.v1 import event_pb2, session_pb2, watch_pb2


async def main() -> None:
    async with bridle.Client(interceptors=tracing.interceptors()) as client:
        slug = f"example-python-{os.getpid()}"
        started = await client.start_session(slug, agent="shell", prompt="echo hello from Python")
        session = bridle.by_id(started.session.session_id)
        async for event in client.watch(session, until=watch_pb2.WATCH_UNTIL_RUN_END):
            await react(client, session, event)


async def react(
    client: bridle.Client, session: session_pb2.SessionRef, event: event_pb2.Event
) -> None:
    kind = event.WhichOneof("kind")
    if kind == "tool_call_output":
        print(f"turn {event.turn} says: {event.tool_call_output.text}", end="")
    elif kind == "tool_call_started" and event.turn == 2:  # `sleep 60` is on
        await client.interrupt(session)
    elif kind == "turn_ended":
        reason = event_pb2.StopReason.Name(event.turn_ended.stop_reason)
        print(f"turn {event.turn} ended: {reason}")
        if event.turn == 1:
            await client.send(session, "sleep 60")
        else:
            await client.stop(session)
    elif kind == "session_ended":
        print("the session ended:", session_pb2.EndReason.Name(event.session_ended.reason))


@contextmanager
def traced() -> Iterator[None]:
    """One span for the whole program, the root of all that it makes Bridle do."""
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        yield
        return
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = os.environ.get("OTEL_SERVICE_NAME", "bridle-example-python")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    try:
        with trace.get_tracer("example").start_as_current_span("example"):
            yield
    finally:
        provider.shutdown()  # what is not yet with the collector goes there now


if __name__ == "__main__":
    with traced():
        asyncio.run(main())
