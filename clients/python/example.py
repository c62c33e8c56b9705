"""The example: start a session, watch it, send, interrupt, stop.

    bridle up                             # in another terminal
    python clients/python/example.py

Takes the address and the token that `bridle up` stored, or BRIDLE_ADDRESS and BRIDLE_TOKEN.
"""

from __future__ import annotations

import asyncio
import os

import bridle
from bridle.v1 import event_pb2, session_pb2, watch_pb2


async def main() -> None:
    async with bridle.Client() as client:
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


if __name__ == "__main__":
    asyncio.run(main())
