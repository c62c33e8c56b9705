"""Calls: every verb, errors, deadlines, cancellation, sizes, texts, what nobody knows yet."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from typing import Any

import pytest
from google.protobuf import json_format

from bridle.ids import uuid7
from bridle.v1 import session_service_pb2
from tests.clients.runners import Answer, Runner
from tests.pair import Pair
from tests.robustness.fault_proxy import Direction, fault_proxy

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

_numbers = itertools.count(1)


def new_slug() -> str:
    return f"s{next(_numbers)}"


async def start(runner: Runner, agent: str = "scripted", **more: Any) -> str:
    slug = new_slug()
    started = await runner.call("StartSession", {"slug": slug, "agent": agent, **more})
    assert started["session"]["slug"] == slug
    return slug


def ref(slug: str) -> dict[str, Any]:
    return {"session": {"slug": slug}}


def text(words: str) -> dict[str, Any]:
    return {"content": [{"text": words}]}


async def outcome(runner: Runner, answer: Answer) -> tuple[str, str]:
    """What a command came to: its state and reason, without their prefixes."""
    assert "receipt" in answer, answer
    asked = {"commandId": answer["receipt"]["commandId"], "wait": "20s"}
    answer = await runner.call("GetCommand", asked)
    assert "receipt" in answer, answer
    receipt = answer["receipt"]
    found = receipt["outcome"]
    return (
        found["state"].removeprefix("OUTCOME_STATE_"),
        found.get("reason", "").removeprefix("OUTCOME_REASON_"),
    )


async def phase_is(runner: Runner, slug: str, phase: str) -> Answer:
    """The session, once it is in this phase; in IDLE once it has nothing to do."""
    async with asyncio.timeout(30):
        while True:
            session: Answer = (await runner.call("GetSession", ref(slug)))["session"]
            busy = phase == "IDLE" and (session.get("inputsWaiting") or session.get("turnOpen"))
            if session.get("phase") == f"PHASE_{phase}" and not busy:
                return session
            await asyncio.sleep(0.02)


async def test_every_verb_of_a_session_has_the_outcome_that_the_contract_tells(
    runner: Runner,
) -> None:
    slug = await start(runner, labels={"team": "core"}, title="Zürich")
    sent = await runner.call("Send", ref(slug) | text("say hello; silent"))
    assert await outcome(runner, sent) == ("RAN", "TURN_STARTED")
    queued = await runner.call("Send", ref(slug) | text("say later"))
    inputs = (await runner.call("ListInputs", ref(slug)))["inputs"]
    waiting = [each for each in inputs if each["state"] == "INPUT_STATE_WAITING"]
    assert len(waiting) == 1
    cancel = ref(slug) | {"inputId": waiting[0]["inputId"]}
    assert (await outcome(runner, await runner.call("CancelInput", cancel)))[0] == "RAN"
    assert (await outcome(runner, queued))[0] == "NOT_RUN"
    interrupted = await runner.call("Interrupt", ref(slug) | {"after": "AFTER_INTERRUPT_HOLD"})
    assert await outcome(runner, interrupted) == ("RAN", "TURN_INTERRUPTED")
    assert (await outcome(runner, await runner.call("ReleaseQueue", ref(slug))))[0] == "RAN"
    await runner.call("Send", ref(slug) | text("ask name=rm May I?; allowed: say Done"))
    session = await phase_is(runner, slug, "WAITING")
    events = (await runner.call("ListEvents", ref(slug) | {"pageSize": 1000}))["events"]
    [asked] = [each["approvalRequested"] for each in events if "approvalRequested" in each]
    respond = ref(slug) | {
        "approvalId": asked["approvalId"],
        "decision": "APPROVAL_DECISION_ALLOW",
    }
    assert (await outcome(runner, await runner.call("Respond", respond)))[0] == "RAN"
    await phase_is(runner, slug, "IDLE")
    updated = await runner.call(
        "UpdateSession", ref(slug) | {"title": "Genève", "updateMask": "title"}
    )
    assert updated["session"]["title"] == "Genève"
    listed = await runner.call("ListSessions", {"filter": f"slug = {slug}"})
    assert [each["sessionId"] for each in listed["sessions"]] == [session["sessionId"]]
    assert (await outcome(runner, await runner.call("Stop", ref(slug))))[0] == "RAN"
    await phase_is(runner, slug, "STOPPED")
    assert (await outcome(runner, await runner.call("Resume", ref(slug))))[0] == "RAN"
    assert (await outcome(runner, await runner.call("Kill", ref(slug))))[0] == "RAN"
    await phase_is(runner, slug, "KILLED")
    assert "receipt" in await runner.call("DeleteSession", ref(slug))
    gone = await runner.call("GetSession", ref(slug))
    assert gone["error"]["reason"] == "SESSION_NOT_FOUND"


async def test_every_verb_of_hosts_and_identities_is_answered(runner: Runner) -> None:
    [host] = (await runner.call("HostService.ListHosts"))["hosts"]
    agents = (await runner.call("HostService.ListAgents"))["agents"]
    assert {"shell", "scripted"} <= {each["agent"] for each in agents}
    assert (await runner.call("HostService.CreateJoinToken", {}))["joinToken"]
    for verb in ("DrainHost", "RemoveHost"):
        refused = await runner.call(f"HostService.{verb}", {"host": "nobody"})
        assert refused["error"]["reason"] == "HOST_NOT_FOUND"
    assert host["name"] == "here"
    me = await runner.call("IdentityService.WhoAmI")
    assert me["principal"]["kind"] == "PRINCIPAL_KIND_USER"
    name = new_slug()
    workspace = await runner.call("IdentityService.CreateWorkspace", {"name": name})
    assert workspace["workspace"]["name"] == name
    spaces = (await runner.call("IdentityService.ListWorkspaces"))["workspaces"]
    assert name in {each["name"] for each in spaces}
    made = await runner.call("IdentityService.CreateToken", {"name": name, "rights": ["session.*"]})
    token_id = made["token"]["tokenId"]
    tokens = (await runner.call("IdentityService.ListTokens"))["tokens"]
    assert token_id in {each["tokenId"] for each in tokens}
    assert "error" not in await runner.call("IdentityService.RevokeToken", {"token": token_id})


async def test_a_request_may_hold_fields_that_control_does_not_know_but_no_values(
    runner: Runner,
) -> None:
    slug = await start(runner)
    request = session_service_pb2.GetSessionRequest()
    json_format.ParseDict(ref(slug), request)
    raw = request.SerializeToString() + bytes.fromhex("c23e05") + b"later"
    assert (await runner.call("GetSession", request_bytes=raw))["session"]["slug"] == slug
    odd = session_service_pb2.SendRequest(mode=77)  # type: ignore[arg-type]
    json_format.ParseDict(ref(slug) | text("x"), odd)
    refused = await runner.call("Send", request_bytes=odd.SerializeToString())
    assert (refused["error"]["reason"], refused["error"]["fields"]) == ("INVALID_REQUEST", ["mode"])


async def test_a_request_gets_an_id_and_the_callers_own_id_has_one_effect(runner: Runner) -> None:
    slug = await start(runner)
    made = (await runner.call("Send", ref(slug) | text("say a")))["receipt"]["requestId"]
    assert uuid.UUID(made).version == 7
    own = {"requestId": uuid7()}
    first = await runner.call("Send", ref(slug) | text("say b") | own)
    again = await runner.call("Send", ref(slug) | text("say b") | own)
    assert first["receipt"]["commandId"] == again["receipt"]["commandId"]
    other = await runner.call("Send", ref(slug) | text("say c") | own)
    assert other["error"]["reason"] == "REQUEST_ID_REUSED"


@pytest.mark.parametrize(
    "words",
    [
        "naïve — “quotes” \\ / 日本語 🐎🏽 \u202e\u2066\u0301",
        "\x01\x1b[31m\x7f\u2028\ufeff",
        "z" * 1000,
    ],
    ids=["scripts", "controls", "long"],
)
async def test_a_text_comes_back_as_it_was_sent(runner: Runner, words: str) -> None:
    slug = await start(runner)
    await runner.call("Send", ref(slug) | text(words))
    inputs = (await runner.call("ListInputs", ref(slug)))["inputs"]
    assert [each["content"] for each in inputs] == [[{"text": words}]]


async def test_empty_and_largest_messages_pass_and_larger_ones_are_refused_with_their_reason(
    runner: Runner,
) -> None:
    slug = await start(runner)
    nothing = await runner.call("Send")
    assert nothing["error"]["reason"] == "INVALID_REQUEST"
    piece = {"text": "ä" * (512 * 1024)}  # 1 MiB of UTF-8, the largest text
    large = await runner.call("Send", ref(slug) | {"content": [piece] * 3 + [{"text": "x" * 1000}]})
    assert "receipt" in large, large["error"]["reason"]
    too_large = await runner.call("Send", ref(slug) | {"content": [piece] * 4})
    assert too_large["error"]["code"] == "RESOURCE_EXHAUSTED"
    assert too_large["error"]["reason"] == "MESSAGE_TOO_LARGE"


@pytest.mark.parametrize("wait", ["-20s", "10000000s"])
async def test_a_wait_that_control_does_not_take_is_refused_by_control(
    runner: Runner, wait: str
) -> None:
    refused = await runner.call("GetCommand", {"commandId": uuid7(), "wait": wait})
    assert refused["error"]["reason"] == "INVALID_REQUEST", refused
    assert refused["error"]["fields"] == ["wait"]


async def test_a_deadline_ends_a_stream_and_cancelling_does(runner: Runner) -> None:
    slug = await start(runner)
    request = {"targets": [ref(slug)]}
    limited = runner.begin("stream", "Watch", request, timeout=0.5)
    assert (await last(runner, limited))["error"]["code"] == "DEADLINE_EXCEEDED"
    endless = runner.begin("stream", "Watch", request)
    assert "message" in await runner.next(endless)
    await runner.cancel(endless)
    assert (await last(runner, endless))["error"]["code"] == "CANCELLED"


async def last(runner: Runner, number: str) -> Answer:
    """The end of a stream."""
    while True:
        answer = await runner.next(number)
        if not answer.keys() & {"message", "event", "progress", "connected", "disconnected"}:
            return answer


async def test_metadata_of_the_callers_own_do_no_harm(runner: Runner) -> None:
    if runner.language.in_browser:
        # A page may send only the headers that the gateway allows it.
        own = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    else:
        own = {"x-request-source": "a" * 4000}
    assert "hosts" in await runner.call("HostService.ListHosts", metadata=own)


async def test_a_token_that_is_none_is_refused(runner: Runner, pair: Pair) -> None:
    address = pair.http if runner.language.over_http else pair.address
    await runner.dial("stranger", address, "brt_nobody")
    refused = await runner.call("IdentityService.WhoAmI", client="stranger")
    assert (refused["error"]["code"], refused["error"]["reason"]) == (
        "UNAUTHENTICATED",
        "TOKEN_INVALID",
    )


async def test_a_request_whose_answer_was_lost_is_sent_again_and_has_one_effect(
    runner: Runner, pair: Pair
) -> None:
    slug = await start(runner)
    async with fault_proxy(pair.http if runner.language.over_http else pair.address) as proxy:
        await runner.dial("far", proxy.address, pair.token)
        assert "hosts" in await runner.call("HostService.ListHosts", client="far")
        proxy.reset_at(1, Direction.DOWN)
        sent = await runner.call("Send", ref(slug) | text("say once"), client="far")
        assert await outcome(runner, sent) == ("RAN", "TURN_STARTED")
    inputs = (await runner.call("ListInputs", ref(slug)))["inputs"]
    assert len(inputs) == 1
