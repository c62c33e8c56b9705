"""Tokens that change, go bad or are gone; waits that are long; clients that are closed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.clients.conftest import chosen
from tests.clients.runners import Answer, Runner
from tests.clients.test_calls import last, new_slug, phase_is, ref, start, text
from tests.clients.test_watching import events_of, parsed, until_end
from tests.pair import Pair
from tests.robustness.fault_proxy import fault_proxy

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

#: Another text each time that it is read.
ALWAYS_ANOTHER = Path("/proc/sys/kernel/random/uuid")
#: Seconds within which a client gives up what can't succeed.
GIVES_UP = 60
#: Whose calls take metadata; with the others only an interceptor adds to what the client sends.
TAKE_METADATA = [each for each in chosen() if each.name not in ("python", "java")]


def where(runner: Runner, pair: Pair) -> str:
    return pair.http if runner.language.over_http else pair.address


async def mint(runner: Runner) -> tuple[str, str]:
    """A token of its own: its id and its secret."""
    made = await runner.call(
        "IdentityService.CreateToken", {"name": new_slug(), "rights": ["session.*"]}
    )
    return made["token"]["tokenId"], made["secret"]


def put(file: Path, secret: str) -> None:
    """As whoever keeps a token fresh does it."""
    fresh = file.with_suffix(".new")
    fresh.write_text(f"{secret}\n")
    fresh.replace(file)


async def dial(runner: Runner, pair: Pair, file: Path) -> None:
    await runner.dial("other", where(runner, pair), "", token_file=str(file))


async def is_refused(runner: Runner, number: str) -> None:
    """It ends in time, and its failure says why."""
    async with asyncio.timeout(GIVES_UP):
        error = (await last(runner, number))["error"]
    assert error["code"] == "UNAUTHENTICATED", error


async def test_a_token_that_is_made_fresh_goes_on_with_calls_and_watches(
    runner: Runner, pair: Pair, tmp_path: Path
) -> None:
    (first, secret), (_, later) = await mint(runner), await mint(runner)
    put(tmp_path / "token", secret)
    await dial(runner, pair, tmp_path / "token")
    slug = await start(runner)
    number = runner.watch(slug, client="other", until="WATCH_UNTIL_RUN_END")
    assert "connected" in await runner.next(number)
    put(tmp_path / "token", later)
    await runner.call("IdentityService.RevokeToken", {"token": first})
    seen: list[Answer] = []
    while "disconnected" not in (answer := await runner.next(number)):
        seen += [answer["event"]] if "event" in answer else []
    assert "receipt" in await runner.call("Send", ref(slug) | text("say a"), client="other")
    await phase_is(runner, slug, "IDLE")
    await runner.call("Stop", ref(slug), client="other")
    rest, end = await until_end(runner, number)
    assert end == {"end": True}
    assert parsed(seen + rest) == await events_of(pair, slug)


@pytest.mark.parametrize("runner", TAKE_METADATA, ids=lambda each: each.name, indirect=True)
async def test_the_clients_token_goes_in_place_of_one_in_the_callers_metadata(
    runner: Runner,
) -> None:
    # Who serves a call and hands its metadata on has somebody else's there.
    slug = await start(runner)
    own = {"authorization": "Bearer brt_of_somebody_else"}
    assert "session" in await runner.call("GetSession", ref(slug), metadata=own)
    request = {"targets": [ref(slug)]}
    number = runner.begin("stream", "Watch", request, metadata=own)
    assert "message" in await runner.next(number)
    # Else what a page still tells of it may be under way when the page is closed.
    await runner.cancel(number)
    assert (await last(runner, number))["error"]["code"] == "CANCELLED"


async def test_a_wrong_token_that_is_always_another_is_given_up(
    runner: Runner, pair: Pair, tmp_path: Path
) -> None:
    await dial(runner, pair, ALWAYS_ANOTHER)
    await is_refused(runner, runner.begin("call", "IdentityService.WhoAmI", client="other"))
    slug = await start(runner)
    await is_refused(runner, runner.watch(slug, client="other"))
    token_id, secret = await mint(runner)
    put(tmp_path / "token", secret)
    await runner.dial("third", where(runner, pair), "", token_file=str(tmp_path / "token"))
    number = runner.watch(slug, client="third")
    assert "connected" in await runner.next(number)
    (tmp_path / "token").unlink()
    os.symlink(ALWAYS_ANOTHER, tmp_path / "token")
    await runner.call("IdentityService.RevokeToken", {"token": token_id})
    await is_refused(runner, number)


async def test_a_token_that_cannot_be_read_is_told_at_once(
    runner: Runner, pair: Pair, tmp_path: Path
) -> None:
    await dial(runner, pair, tmp_path / "nothing")
    slug = await start(runner)
    for number in (
        runner.begin("call", "GetSession", ref(slug), client="other"),
        runner.begin("stream", "Watch", {"targets": [ref(slug)]}, client="other"),
        runner.watch(slug, client="other"),
    ):
        await is_refused(runner, number)


async def test_a_call_whose_token_is_revoked_and_gone_ends(
    runner: Runner, pair: Pair, tmp_path: Path
) -> None:
    token_id, secret = await mint(runner)
    put(tmp_path / "token", secret)
    await dial(runner, pair, tmp_path / "token")
    slug, receipt = await pending(runner)
    asked = {"commandId": receipt, "wait": "60s"}
    call = runner.begin("call", "GetCommand", asked, client="other")
    watch = runner.watch(slug, client="other")
    assert "connected" in await runner.next(watch)
    (tmp_path / "token").unlink()
    await runner.call("IdentityService.RevokeToken", {"token": token_id})
    await is_refused(runner, call)
    await is_refused(runner, watch)


async def pending(runner: Runner) -> tuple[str, str]:
    """A session whose agent is busy, and the id of a command that waits for it."""
    slug = await start(runner, prompt=[{"text": "hang"}])
    await phase_is(runner, slug, "RUNNING")
    asked = await runner.call("Stop", ref(slug))  # once the turn has ended
    return slug, asked["receipt"]["commandId"]


async def test_a_call_that_asks_to_wait_is_given_the_time(runner: Runner) -> None:
    _, command = await pending(runner)
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(GIVES_UP):
        # Longer than one try of any other call may take.
        answer = await runner.call("GetCommand", {"commandId": command, "wait": "11s"})
    assert "receipt" in answer, answer
    assert loop.time() - began >= 11


@pytest.mark.parametrize("lost", [False, True], ids=["connected", "lost"])
async def test_closing_a_client_ends_its_watches(runner: Runner, pair: Pair, lost: bool) -> None:
    slug = await start(runner)
    async with fault_proxy(where(runner, pair)) as proxy:
        await runner.dial("brief", proxy.address, pair.token)
        number = runner.watch(slug, client="brief")
        assert "connected" in await runner.next(number)
        if lost:
            proxy.refuse()
            proxy.reset_now()
            while "disconnected" not in await runner.next(number):
                pass
        await runner.close("brief")
        async with asyncio.timeout(GIVES_UP):
            error = (await last(runner, number))["error"]
        assert error["code"] == "CANCELLED", error
        after = await runner.call("GetSession", ref(slug), client="brief")
        assert after["error"]["code"] == "CANCELLED", after


async def test_closing_a_client_ends_its_calls_and_streams(runner: Runner, pair: Pair) -> None:
    slug, command = await pending(runner)
    await runner.dial("brief", where(runner, pair), pair.token)
    asked = {"commandId": command, "wait": "60s"}
    call = runner.begin("call", "GetCommand", asked, client="brief")
    stream = runner.begin("stream", "Watch", {"targets": [ref(slug)]}, client="brief")
    assert "message" in await runner.next(stream)
    await runner.close("brief")
    for number in (call, stream):
        async with asyncio.timeout(GIVES_UP):
            error = (await last(runner, number))["error"]
        assert error["code"] == "CANCELLED", error
