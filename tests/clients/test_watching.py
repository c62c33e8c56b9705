"""Watching: order, resumption over lost connections, where it begins and ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf import json_format

from bridle.v1 import event_pb2
from tests.clients.runners import Answer, Runner
from tests.clients.test_calls import last, phase_is, ref, start, text
from tests.pair import Pair

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]


async def events_of(pair: Pair, slug: str) -> list[event_pb2.Event]:
    """The log, by the SDK."""
    return [event async for event in pair.client.list_events(slug)]


def parsed(answers: list[Answer]) -> list[event_pb2.Event]:
    return [json_format.ParseDict(each, event_pb2.Event()) for each in answers]


async def until_end(runner: Runner, number: str) -> tuple[list[Answer], Answer]:
    """A watch's events, and its end."""
    events: list[Answer] = []
    while True:
        answer = await runner.next(number)
        if "event" in answer:
            events.append(answer["event"])
        elif answer.keys() & {"end", "error"}:
            return events, answer


async def test_ten_thousand_events_come_in_order_and_as_they_are_in_the_log(
    runner: Runner, pair: Pair
) -> None:
    slug = await start(runner, prompt=[{"text": "say repeat=10000 line; say ünd Schluß"}])
    number = runner.watch(slug, until="WATCH_UNTIL_RUN_END")
    await phase_is(runner, slug, "IDLE")
    await runner.call("Stop", ref(slug))
    events, end = await until_end(runner, number)
    assert end == {"end": True}
    assert [int(each["sequence"]) for each in events] == list(range(1, len(events) + 1))
    assert len(events) > 10_000
    assert parsed(events) == await events_of(pair, slug)


async def test_a_watch_begins_at_a_cursor_or_at_a_tail(runner: Runner) -> None:
    slug = await start(runner, prompt=[{"text": "say a; say b"}])
    await phase_is(runner, slug, "IDLE")
    await runner.call("Stop", ref(slug))
    whole, _ = await until_end(runner, runner.watch(slug, until="WATCH_UNTIL_RUN_END"))
    behind = runner.watch(slug, until="WATCH_UNTIL_RUN_END", afterSequence="3")
    assert (await until_end(runner, behind))[0] == whole[3:]
    tail = runner.watch(slug, until="WATCH_UNTIL_RUN_END", tail=2)
    assert (await until_end(runner, tail))[0] == whole[-2:]


async def test_the_cursor_of_a_watch_is_behind_the_event_that_was_told_last(
    runner: Runner,
) -> None:
    slug = await start(runner, prompt=[{"text": "say repeat=100 line"}])
    await phase_is(runner, slug, "IDLE")
    await runner.call("Stop", ref(slug))
    number = runner.watch(slug, until="WATCH_UNTIL_RUN_END")
    told = 0
    while "end" not in (answer := await runner.next(number)):
        if "event" in answer:
            # Who stores it after each event and begins again from there has missed none.
            assert answer["cursor"] == int(answer["event"]["sequence"])
            told += 1
    assert told > 100


async def test_a_watch_tells_only_the_kinds_that_it_was_asked_for(runner: Runner) -> None:
    slug = await start(runner, prompt=[{"text": "say a; say b"}])
    await phase_is(runner, slug, "IDLE")
    await runner.call("Stop", ref(slug))
    kinds = ["EVENT_KIND_AGENT_MESSAGE", "EVENT_KIND_SESSION_ENDED"]
    events, _ = await until_end(
        runner, runner.watch(slug, until="WATCH_UNTIL_RUN_END", kinds=kinds)
    )
    told = ["agentMessage" if "agentMessage" in each else "sessionEnded" for each in events]
    assert told == ["agentMessage", "agentMessage", "sessionEnded"]


async def test_live_text_adds_up_to_the_message(runner: Runner) -> None:
    words = "one two drei vier ünf 🐎 end"
    slug = await start(runner)
    number = runner.watch(slug, liveText=True)
    assert "connected" in await runner.next(number)
    # (Of a message that ends by itself, a machine that paused meanwhile tells nothing live.)
    await runner.call("Send", ref(slug) | text(f"stream finish=no {words}; silent"))
    live = ""
    while live != words:
        answer = await runner.next(number)
        assert "agentMessage" not in answer.get("event", {}), (live, answer)
        if "live_text" in answer:
            piece: Any = answer["live_text"]
            if int(piece.get("offset", 0)) == len(live.encode()):
                live += piece["text"]
    await runner.call("Interrupt", ref(slug))
    while "agentMessage" not in answer.get("event", {}):
        answer = await runner.next(number)
    assert answer["event"]["agentMessage"]["content"] == [{"text": words}]
    await runner.cancel(number)
    assert (await last(runner, number))["error"]["code"] == "CANCELLED"


async def test_what_a_watch_cannot_promise_ends_it_with_its_reason(runner: Runner) -> None:
    nobody = runner.watch("nobody")
    assert (await last(runner, nobody))["error"]["reason"] == "SESSION_NOT_FOUND"
    slug = await start(runner)
    foreign = runner.watch(slug, afterSequence="1", logId="another")
    assert (await last(runner, foreign))["error"]["reason"] == "CURSOR_FOREIGN"


async def test_a_watch_of_no_session_is_refused(runner: Runner) -> None:
    nothing = runner.order("watch", client="c", request={"targets": []})
    answer = await last(runner, nothing)
    assert "error" in answer, answer
    assert (answer["error"]["reason"], answer["error"]["fields"]) == (
        "INVALID_REQUEST",
        ["targets"],
    )


async def test_one_watch_tells_of_many_sessions(runner: Runner) -> None:
    slugs = [await start(runner) for _ in range(3)]
    targets = [ref(slug) for slug in slugs]
    number = runner.order(
        "watch", client="c", request={"targets": targets, "until": "WATCH_UNTIL_RUN_END"}
    )
    for slug in slugs:
        await phase_is(runner, slug, "IDLE")
        await runner.call("Stop", ref(slug))
    events, end = await until_end(runner, number)
    assert end == {"end": True}
    assert sum("sessionEnded" in each for each in events) == 3


async def test_a_watch_of_sessions_tells_what_is_there_and_then_what_changes(
    runner: Runner,
) -> None:
    slug = await start(runner)
    number = runner.begin("stream", "WatchSessions", {"filter": f"slug = {slug}"})
    async with asyncio.timeout(30):
        assert (await runner.next(number))["message"]["session"]["slug"] == slug
        while "snapshotEnd" not in (await runner.next(number))["message"]:
            pass
        await runner.call("Kill", ref(slug))
        while (await runner.next(number))["message"]["session"]["phase"] != "PHASE_KILLED":
            pass
    await runner.cancel(number)
    assert (await last(runner, number))["error"]["code"] == "CANCELLED"
