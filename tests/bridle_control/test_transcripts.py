"""The log as a transcript: what the next run of a session is given to know of those before it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from bridle.v1 import event_pb2, receipt_pb2, session_pb2
from bridle_control import transcripts
from bridle_core.errors import BridleError, Reason
from bridle_core.transcript import LEGEND
from tests.bridle_control.stack import Stack, outcome, pb, ref, text
from tests.fakes.host import PENDING, FakeHost

QUEUED = receipt_pb2.OUTCOME_REASON_QUEUED
NATIVE, SEEDED = event_pb2.RESUME_MODE_NATIVE, event_pb2.RESUME_MODE_SEEDED


def message(words: str, number: int = 1) -> dict[str, Any]:
    return {"message_id": f"m{number}", "content": [{"text": words}]}


async def spoken(stack: Stack, on: FakeHost, **fields: Any) -> session_pb2.Session:
    """A session that has ended after a turn in which something was said and done."""
    session = await stack.start(on, **fields)
    await stack.begin_turn(on, session)
    told = session.session_id, 1
    started = {"tool_call_id": "c", "tool": "Bash", "arguments_json": '{"command":"make"}'}
    on.event(*told, turn=1, tool_call_started=started)
    for piece in ("all ", "good\n"):
        on.event(*told, turn=1, tool_call_output={"tool_call_id": "c", "text": piece})
    on.event(*told, turn=1, tool_call_ended={"tool_call_id": "c", "status": 1})
    on.event(*told, turn=1, agent_message=message("done"))
    on.turn_over(*told, 1, "INTERRUPTED")
    on.over(*told)
    await on.synced()
    return await stack.session(session.session_id)


async def resumed(stack: Stack, on: FakeHost, session: session_pb2.Session, **fields: Any) -> Any:
    """What the host is told of the session's earlier runs."""
    request = pb.ResumeRequest(session=ref(session), **fields)
    call = asyncio.ensure_future(stack.sessions.Resume(request, metadata=stack.admin))
    start = await on.command("start")
    on.started(start)
    assert outcome((await call).receipt) == ("RAN", "DONE")
    return start.start.resume


TOLD = """
[turn 1] {who} asked:
| go
[turn 1] you ran Bash {{"command":"make"}}: SUCCEEDED, and it put out:
| all good
[turn 1] you said:
| done
[turn 1] the turn ended: INTERRUPTED
"""


async def who_sent(stack: Stack, session: session_pb2.Session) -> str:
    [queued] = [
        event
        for event in await stack.events(session.session_id)
        if event.WhichOneof("kind") == "input_queued"
    ]
    return str(queued.principal.name)


@pytest.mark.parametrize("mode", [0, event_pb2.RESUME_MODE_AUTO, SEEDED])
async def test_a_run_that_may_have_to_begin_anew_is_told_what_was_said(
    stack: Stack, mode: int
) -> None:
    host = await stack.host()
    session = await spoken(stack, host)
    told = await resumed(stack, host, session, mode=mode)
    assert told.transcript == LEGEND + TOLD.format(who=await who_sent(stack, session))
    assert (list(told.left_out), told.same_host) == ([], True)


async def test_a_run_that_must_be_native_is_told_nothing(stack: Stack) -> None:
    host = await stack.host()
    told = await resumed(stack, host, await spoken(stack, host), mode=NATIVE)
    assert (told.mode, told.transcript) == (NATIVE, "")


async def test_another_host_is_told_it_too(stack: Stack) -> None:
    host, other = await stack.host(), await stack.host("other")
    session = await spoken(stack, host, host="box")
    told = await resumed(stack, other, session, host="other")
    assert (told.same_host, "| done" in told.transcript) == (False, True)


async def test_a_send_that_resumes_brings_it_along(stack: Stack) -> None:
    host = await stack.host()
    session = await spoken(stack, host)
    request = pb.SendRequest(session=ref(session), content=[text("on")], resume_if_ended=True)
    call = asyncio.ensure_future(stack.sessions.Send(request, metadata=stack.admin))
    start = await host.command("start")
    host.started(start)
    host.answer(await host.command("deliver"), PENDING, QUEUED)
    await call
    assert "| done" in start.start.resume.transcript
    assert "| on" not in start.start.resume.transcript


async def test_the_newest_is_kept_and_what_is_missing_is_told(stack: Stack) -> None:
    host = await stack.host()
    session = await stack.start(host)
    await stack.begin_turn(host, session)
    for number in range(300):
        words = f"message {number}: " + "x" * 500
        host.event(session.session_id, 1, turn=1, agent_message=message(words, number))
    host.turn_over(session.session_id, 1, 1)
    host.over(session.session_id, 1)
    await host.synced()
    told = await resumed(stack, host, session)
    assert len(told.transcript) <= 64 * 1024
    assert "message 299:" in told.transcript
    assert "message 0:" not in told.transcript
    assert list(told.left_out)
    assert all(line in told.transcript for line in told.left_out)


async def test_what_retention_let_go_of_is_told_as_missing(stack: Stack) -> None:
    host = await stack.host()
    session = await spoken(stack, host)
    await stack.store.write(lambda tx: tx.raise_floor(session.session_id, 4))
    told = await resumed(stack, host, session)
    assert list(told.left_out) == ["what was said before event 4, which is no longer kept"]


async def test_of_a_long_log_no_more_is_read_than_fits(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = await stack.host()
    session = await spoken(stack, host)
    monkeypatch.setattr(transcripts, "EVENTS_MAX", 2)
    monkeypatch.setattr(transcripts, "_PAGE", 1)
    told = await resumed(stack, host, session)
    assert list(told.left_out) == ["the older part of the conversation"]
    assert "| done" in told.transcript
    assert "Bash" not in told.transcript


async def test_a_damaged_event_takes_no_resume_along(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = await stack.host()
    session = await spoken(stack, host)
    row = await stack.store.read(lambda tx: tx.session(session.session_id))
    assert row is not None

    class Damaged:
        def __init__(self, tx: Any) -> None:
            self._tx = tx

        def __getattr__(self, name: str) -> Any:
            return getattr(self._tx, name)

        def events(self, *args: Any, **named: Any) -> Any:
            found = self._tx.events(*args, **{**named, "limit": 2})
            if args[1] == 0:
                return replace(found, more=True)
            raise BridleError(Reason.LOG_CORRUPT, "damaged")

    told = await stack.store.read(lambda tx: transcripts.of_session(Damaged(tx), row, 65536))
    assert told.left_out == ("what was said before a part of the log that is damaged",)
    assert "| done" in told.text
