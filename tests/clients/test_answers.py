"""Answers that the real pair can't be made to give at will: see odd_service.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridle_core.errors import CODE_OF, Reason
from scripts.client_tools import MissingError
from tests.clients.conftest import chosen
from tests.clients.odd_service import (
    AGAIN,
    AGAIN_AFTER,
    DEADLINE,
    LATER_REASON,
    LONG,
    LONG_AFTER,
    NEVER,
    ODD_SESSION,
    OddService,
    odd_service,
    refusal,
    slug_of,
)
from tests.clients.runners import Language, Runner, running
from tests.clients.test_calls import ref
from tests.clients.test_watching import until_end
from tests.pair import PATIENCE

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.parametrize("language", chosen(), ids=lambda language: language.name),
]


@asynccontextmanager
async def asking(language: Language, place: Path) -> AsyncIterator[tuple[Runner, OddService]]:
    """A runner whose client "c" asks the odd service."""
    async with odd_service(place / "odd") as odd:
        try:
            async with running(language, place) as runner:
                await runner.dial("c", odd.http if language.over_http else odd.grpc, odd.token)
                yield runner, odd.service
        except MissingError as why:
            pytest.skip(f"{language.name}: {why}")


async def warm(runner: Runner) -> None:
    """Connects, and has what is loaded at a first call: that takes seconds on a busy machine."""
    assert "error" in await runner.call("ListSessions")  # which is not there


async def test_every_reason_of_an_error_is_read_with_all_that_it_carries(
    language: Language, tmp_path: Path
) -> None:
    async with asking(language, tmp_path) as (runner, _):
        for reason in Reason:
            error = refusal(reason)
            answer = await runner.call("GetSession", ref(slug_of(reason)))
            assert answer["error"] == {
                "code": CODE_OF[reason].name,
                "reason": reason.value,
                "message": error.message,
                "metadata": error.metadata,
                "fields": ["session.slug"],
                "retry_after": 0.125,
            }


async def test_a_reason_of_a_later_release_keeps_its_name(
    language: Language, tmp_path: Path
) -> None:
    async with asking(language, tmp_path) as (runner, _):
        error = (await runner.call("GetSession", ref(LATER_REASON.lower())))["error"]
        told = {name: error[name] for name in ("code", "reason", "message", "metadata")}
        assert told == {
            "code": "FAILED_PRECONDITION",
            "reason": LATER_REASON,
            "message": "refused: later",
            "metadata": {"key": "value"},
        }


async def test_what_a_later_release_answers_is_kept_as_it_came(
    language: Language, tmp_path: Path
) -> None:
    async with asking(language, tmp_path) as (runner, _):
        if language.transport != "connect":  # JSON carries no unknown fields
            answer = await runner.call("GetSession", ref("x"), answer_bytes=True)
            assert ODD_SESSION in answer["response"]
        found = await runner.call("GetSession", ref("x"))
        assert found["session"].get("phase") == 77


async def test_a_watch_goes_on_over_what_it_does_not_know(
    language: Language, tmp_path: Path
) -> None:
    async with asking(language, tmp_path) as (runner, _):
        events, end = await until_end(runner, runner.watch("x", until="WATCH_UNTIL_RUN_END"))
        assert end == {"end": True}
        known, kind, value = events
        assert (known["sequence"], known["queueHeld"]) == ("1", {})
        assert kind == {"sequence": "2"}, "in JSON nothing is left of a kind that one doesn't know"
        assert value["turnEnded"] == {"stopReason": 77}


async def test_control_learns_how_long_a_caller_waits_and_when_it_goes(
    language: Language, tmp_path: Path
) -> None:
    async with asking(language, tmp_path) as (runner, service):
        await warm(runner)
        found = await runner.call("GetSession", ref(DEADLINE), timeout=9)
        # (Rounded up by some, in the ways that the protocols have.)
        assert 0 < float(found["session"]["title"]) < 9.5
        endless = runner.begin("call", "GetSession", ref(NEVER))
        async with asyncio.timeout(PATIENCE):
            await service.asked.wait()
            await runner.cancel(endless)
            assert (await runner.next(endless))["error"]["code"] == "CANCELLED"
            await service.left.wait()


async def test_a_call_that_gets_no_answer_ends_at_its_deadline(
    language: Language, tmp_path: Path
) -> None:
    async with asking(language, tmp_path) as (runner, _):
        late = await runner.call("GetSession", ref(NEVER), timeout=0.5)
        assert (late["error"]["code"], late["error"]["reason"]) == ("DEADLINE_EXCEEDED", "")


async def test_each_try_tells_control_what_is_left_of_the_callers_time(
    language: Language, tmp_path: Path
) -> None:
    async with asking(language, tmp_path) as (runner, _):
        await warm(runner)
        found = await runner.call("GetSession", ref(AGAIN), timeout=9)
        assert 0 < float(found["session"]["title"]) < 9 - AGAIN_AFTER + 0.5


async def test_a_refusal_that_asks_to_wait_beyond_the_deadline_is_told_with_its_reason(
    language: Language, tmp_path: Path
) -> None:
    async with asking(language, tmp_path) as (runner, _):
        refused = await runner.call("GetSession", ref(LONG), timeout=30)
        assert refused["error"]["reason"] == "SHUTTING_DOWN", refused


@pytest.mark.parametrize("closed", [False, True], ids=["cancelled", "closed"])
async def test_a_call_that_waits_for_its_next_try_ends_at_once(
    language: Language, tmp_path: Path, closed: bool
) -> None:
    assert LONG_AFTER > PATIENCE
    async with asking(language, tmp_path) as (runner, service):
        waiting = runner.begin("call", "GetSession", ref(LONG), timeout=10 * LONG_AFTER)
        async with asyncio.timeout(PATIENCE):
            await service.asked.wait()
            # Once this is answered, the other has been: what goes over one connection is in order.
            assert "session" in await runner.call("GetSession", ref("x"))
            await (runner.close("c") if closed else runner.cancel(waiting))
            assert (await runner.next(waiting))["error"]["code"] == "CANCELLED"
