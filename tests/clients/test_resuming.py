"""A watch that is cut off, anywhere and often: each event comes once, in order, or it ends."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.clients.runners import Answer, Runner
from tests.clients.test_calls import new_slug, outcome, phase_is, ref, start, text
from tests.clients.test_restart import AWAY
from tests.clients.test_watching import events_of, parsed
from tests.pair import Pair
from tests.robustness.fault_proxy import Direction, FaultProxy, fault_proxy

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]


@asynccontextmanager
async def far(runner: Runner, pair: Pair) -> AsyncIterator[FaultProxy]:
    """A client "far" behind a network that can be cut."""
    async with fault_proxy(pair.http if runner.language.over_http else pair.address) as proxy:
        await runner.dial("far", proxy.address, pair.token)
        yield proxy


async def until(runner: Runner, number: str, *wanted: str) -> tuple[list[Answer], Answer]:
    """What a watch tells until it tells one of these; the events of it, and that one."""
    told: list[Answer] = []
    while True:
        answer = await runner.next(number)
        if "event" in answer:
            told.append(answer)
        if answer.keys() & set(wanted):
            return told, answer
        assert not answer.keys() & {"end", "error"}, answer


def cut(proxy: FaultProxy) -> None:
    """All connections break, and nobody can be reached until it heals."""
    proxy.refuse()
    proxy.reset_now()


async def test_events_of_many_sessions_come_once_however_often_they_are_cut_off(
    runner: Runner, pair: Pair
) -> None:
    slugs = [await start(runner) for _ in range(3)]
    chance = random.Random(5)
    async with far(runner, pair) as proxy:
        targets = [ref(slug) for slug in slugs]
        request = {"targets": targets, "until": "WATCH_UNTIL_RUN_END"}
        number = runner.order("watch", client="far", request=request)
        await until(runner, number, "connected")
        told: list[Answer] = []
        for step in range(4):
            # Somewhere in what comes next (which may be compressed), most often within a message.
            proxy.reset_at(chance.randint(1, 5_000), Direction.DOWN)
            for slug in slugs:
                await runner.call("Send", ref(slug) | text(f"say repeat=300 step {step}"))
            more, _ = await until(runner, number, "disconnected")
            told += more
        for slug in slugs:
            await phase_is(runner, slug, "IDLE")
            await runner.call("Stop", ref(slug))
        more, end = await until(runner, number, "end", "error")
    assert end == {"end": True}
    told += more
    for slug in slugs:
        session = await pair.client.get_session(slug)
        own = [each["event"] for each in told if each["session"] == session.session_id]
        assert parsed(own) == await events_of(pair, slug)


@pytest.mark.parametrize("tail", [0, 2])
async def test_a_tail_that_was_cut_off_leaves_nothing_out(
    runner: Runner, pair: Pair, tail: int
) -> None:
    slug = await start(runner)  # (Without a prompt nothing comes after it is idle.)
    before = (await phase_is(runner, slug, "IDLE"))["lastSequence"]
    async with far(runner, pair) as proxy:
        start_at: dict[str, Any] = {"tail": tail, "until": "WATCH_UNTIL_RUN_END"}
        number = runner.watch(slug, client="far", **start_at)
        told, _ = await until(runner, number, "progress", "event")
        cut(proxy)
        more, _ = await until(runner, number, "disconnected")
        told += more
        sent = await runner.call("Send", ref(slug) | text("say repeat=20 while it was away"))
        assert await outcome(runner, sent) == ("RAN", "TURN_STARTED")
        await phase_is(runner, slug, "IDLE")
        proxy.heal()
        await until(runner, number, "connected")
        await runner.call("Stop", ref(slug))
        more, end = await until(runner, number, "end", "error")
    assert end == {"end": True}
    whole = await events_of(pair, slug)
    assert parsed([each["event"] for each in told + more]) == whole[int(before) - tail :]


async def test_chosen_kinds_come_once_over_lost_connections(runner: Runner, pair: Pair) -> None:
    slug = await start(runner)
    async with far(runner, pair) as proxy:
        wish: dict[str, Any] = {
            "kinds": ["EVENT_KIND_AGENT_MESSAGE"],
            "until": "WATCH_UNTIL_RUN_END",
        }
        number = runner.watch(slug, client="far", **wish)
        await until(runner, number, "connected")
        told: list[Answer] = []
        for step in range(3):
            proxy.reset_at(500, Direction.DOWN)
            await runner.call("Send", ref(slug) | text(f"say repeat=100 step {step}"))
            more, _ = await until(runner, number, "disconnected")
            told += more
        await phase_is(runner, slug, "IDLE")
        await runner.call("Stop", ref(slug))
        more, end = await until(runner, number, "end", "error")
    assert end == {"end": True}
    said = [event for event in await events_of(pair, slug) if event.HasField("agent_message")]
    assert len(said) == 300
    assert parsed([each["event"] for each in told + more]) == said


async def test_a_slug_that_was_taken_again_meanwhile_is_not_mixed_with_the_old(
    runner: Runner, pair: Pair
) -> None:
    slug = await start(runner, prompt=[{"text": "say of the first"}])
    await phase_is(runner, slug, "IDLE")
    async with far(runner, pair) as proxy:
        number = runner.watch(slug, client="far")
        await until(runner, number, "event")
        cut(proxy)
        await until(runner, number, "disconnected")
        await runner.call("Kill", ref(slug))
        await phase_is(runner, slug, "KILLED")
        assert "receipt" in await runner.call("DeleteSession", ref(slug))
        again = {"slug": slug, "agent": "scripted", "prompt": [{"text": "say of the second"}]}
        assert "session" in await runner.call("StartSession", again)
        proxy.heal()
        more, end = await until(runner, number, "end", "error")
    assert end["error"]["reason"] == "SESSION_NOT_FOUND"
    assert more == []


async def test_a_call_waits_for_a_control_that_only_a_watch_has_heard_before(
    runner: Runner, pair: Pair
) -> None:
    slug = await start(runner)
    async with far(runner, pair) as proxy:
        number = runner.watch(slug, client="far")
        await until(runner, number, "connected")
        cut(proxy)
        async with asyncio.TaskGroup() as group:
            call = group.create_task(runner.call("GetSession", ref(slug), client="far"))
            await asyncio.sleep(AWAY)
            assert not call.done(), call.result()
            proxy.heal()
        await runner.cancel(number)
    assert "session" in call.result(), call.result()


async def test_a_call_waits_for_a_control_that_pauses_while_the_client_connects(
    runner: Runner, pair: Pair
) -> None:
    slug = await start(runner)
    async with far(runner, pair) as proxy:
        proxy.stall()
        async with asyncio.TaskGroup() as group:
            call = group.create_task(runner.call("GetSession", ref(slug), client="far"))
            await asyncio.sleep(AWAY)
            assert not call.done(), call.result()
            proxy.heal()
    assert "session" in call.result(), call.result()


async def test_a_watch_that_begins_while_control_is_away_waits_for_it(
    runner: Runner, pair: Pair
) -> None:
    slug = await start(runner)
    async with far(runner, pair) as proxy:
        assert "session" in await runner.call("GetSession", ref(slug), client="far")
        cut(proxy)
        number = runner.watch(slug, client="far")
        await asyncio.sleep(AWAY)
        proxy.heal()
        await until(runner, number, "connected")
        await runner.cancel(number)


async def test_a_watch_from_a_wrong_address_gives_up(runner: Runner, pair: Pair) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        await runner.dial("far", f"127.0.0.1:{nobody.getsockname()[1]}", pair.token)
        number = runner.watch(new_slug(), client="far")
        async with asyncio.timeout(60):
            _, end = await until(runner, number, "end", "error")
    # A page isn't told what was wrong.
    assert end["error"]["code"] == ("UNKNOWN" if runner.language.in_browser else "UNAVAILABLE")
