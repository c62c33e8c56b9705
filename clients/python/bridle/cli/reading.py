"""What a session has done: turns, transcript."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import click

from bridle.cli import output
from bridle.cli.base import Call, command

if TYPE_CHECKING:
    from bridle.client import Client
    from bridle.v1 import event_pb2, session_pb2

_TRANSCRIPT = (
    "session_started",
    "session_resumed",
    "turn_started",
    "turn_ended",
    "session_ended",
    "input_queued",
    "input_consumed",
    "input_cancelled",
    "agent_message",
    "tool_call_started",
    "tool_call_output",
    "tool_call_ended",
    "approval_requested",
    "approval_resolved",
)


@command("turns")
@click.argument("slug", required=False)
async def turns(call: Call, slug: str | None) -> None:
    """List the session's turns: what set each off, how long it took, how it ended."""
    from bridle.render import content_text, enum_name

    texts: dict[str, str] = {}
    rows: dict[int, list[str]] = {}
    started: dict[int, float] = {}
    async with call.client() as client:
        async for event in _listed(call, client, call.session(slug)):
            kind = event.WhichOneof("kind")
            when = event.time.seconds + event.time.nanos / 1e9
            if kind == "input_queued":
                texts[event.input_queued.input_id] = content_text(event.input_queued.content)
            elif kind in ("turn_started", "turn_ended") and call.json:
                output.json(event)
            elif kind == "turn_started":
                said = " / ".join(texts.get(item, "") for item in event.turn_started.input_ids)
                started[event.turn] = when
                began = output.clock(event.time)
                rows[event.turn] = [str(event.turn), str(event.run), began, "-", "on", said]
            elif kind == "turn_ended" and event.turn in rows:
                ended = event.turn_ended
                how = enum_name(ended, "stop_reason")
                code = f" ({ended.exit_code})" if ended.HasField("exit_code") else ""
                rows[event.turn][3] = f"{max(0.0, when - started[event.turn]):.1f}s"
                rows[event.turn][4] = how + code
    if not call.json:
        output.table(("TURN", "RUN", "STARTED", "TOOK", "ENDED", "INPUT"), list(rows.values()))


@command("transcript")
@click.argument("slug", required=False)
@click.option("--turn", type=click.IntRange(min=1), help="Only this turn.")
async def transcript(call: Call, slug: str | None, turn: int | None) -> None:
    """Show the conversation: what was said to the agent, what it said and did."""
    from bridle.render import Renderer

    renderer = Renderer(colour=output.colour(), phases=False, gutter=False)
    async with call.client() as client:
        async for event in _conversation(_listed(call, client, call.session(slug))):
            if turn is not None and event.turn != turn:
                continue
            if call.json:
                output.json(event)
            else:
                for line in renderer.lines(event):
                    output.line(line)
    for line in renderer.flush():
        output.line(line)


async def _listed(
    call: Call, client: Client, session: str | session_pb2.SessionRef
) -> AsyncIterator[event_pb2.Event]:
    """The session's log; where its beginning is gone, that is told."""
    first = True
    async for event in client.list_events(session):
        if first and event.sequence > 1:
            call.note(f"events before {event.sequence} are gone")
        first = False
        yield event


async def _conversation(events: AsyncIterator[event_pb2.Event]) -> AsyncIterator[event_pb2.Event]:
    """The events of the conversation, each input where a turn took it, not where it was queued."""
    queued: dict[str, event_pb2.Event] = {}
    async for event in events:
        kind = event.WhichOneof("kind")
        if kind not in _TRANSCRIPT:
            continue
        if kind == "input_queued":
            queued[event.input_queued.input_id] = event
        elif kind == "input_consumed":
            taken = queued.pop(event.input_consumed.input_id, None)
            if taken is not None:
                taken.turn = event.turn
                yield taken
        else:
            if kind == "input_cancelled":
                cancelled = queued.pop(event.input_cancelled.input_id, None)
                if cancelled is not None:
                    yield cancelled
            yield event
    for waiting in queued.values():
        yield waiting
