"""Every method of the contract, and the largest answers: what test_calls.py leaves out."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from pathlib import Path

import pytest

from bridle.v1 import host_service_pb2, identity_service_pb2, session_service_pb2
from scripts.client_tools import MissingError
from tests.clients.conftest import chosen
from tests.clients.runners import Answer, Language, Runner, running
from tests.clients.test_calls import last, outcome, phase_is, ref, start, text
from tests.pair import Pair, running_pair

SERVICES = [
    each
    for file in (session_service_pb2, host_service_pb2, identity_service_pb2)
    for each in file.DESCRIPTOR.services_by_name.values()
]
shared = pytest.mark.asyncio(loop_scope="module")
pytestmark = pytest.mark.timeout(180)


@shared
async def test_every_method_of_the_contract_is_there_and_asks_who_calls(
    runner: Runner, pair: Pair
) -> None:
    address = pair.http if runner.language.over_http else pair.address
    await runner.dial("nobody", address, "brt_nobody")
    answers: dict[str, Answer] = {}
    for service in SERVICES:
        for method in service.methods:
            op = "stream" if method.server_streaming else "call"
            words = f"{service.name}.{method.name}"
            number = runner.begin(op, words, client="nobody")
            answers[words] = (await runner.next(number))["error"]
    assert len(answers) >= 30
    refused = {words: each["reason"] for words, each in answers.items()}
    assert refused == dict.fromkeys(answers, "TOKEN_INVALID")


@shared
async def test_an_artifact_is_read_whole_and_from_any_byte_on(runner: Runner) -> None:
    slug = await start(runner, agent="shell")
    script = "seq 400000 > $BRIDLE_ARTIFACTS/numbers.txt; : > $BRIDLE_ARTIFACTS/empty"
    assert "receipt" in await runner.call("Send", ref(slug) | text(script))
    await phase_is(runner, slug, "IDLE")
    await runner.call("Stop", ref(slug))
    await phase_is(runner, slug, "STOPPED")
    wanted = b"".join(b"%d\n" % number for number in range(1, 400_001))  # 2.7 MB: many messages
    for name, offset, content in (
        ("numbers.txt", 0, wanted),
        ("numbers.txt", len(wanted) - 7, b"400000\n"),
        ("empty", 0, b""),
    ):
        found = await artifact(runner, ref(slug) | {"name": name, "offset": str(offset)})
        assert (len(found), hashlib.sha256(found).digest()) == (
            len(content),
            hashlib.sha256(content).digest(),
        )
    number = runner.begin("stream", "ReadArtifact", ref(slug) | {"name": "none"})
    assert (await last(runner, number))["error"]["reason"] == "ARTIFACT_NOT_FOUND"


async def artifact(runner: Runner, request: Answer) -> bytes:
    number = runner.begin("stream", "ReadArtifact", request)
    pieces: list[bytes] = []
    while "message" in (answer := await runner.next(number)):
        pieces.append(base64.b64decode(answer["message"].get("data", "")))
    assert answer == {"end": True}
    return b"".join(pieces)


@shared
async def test_the_largest_inputs_come_back_in_answers_and_in_a_watch(runner: Runner) -> None:
    slug = await start(runner)
    piece = {"text": "ä" * (512 * 1024)}  # 1 MiB of UTF-8, the largest text
    content = [piece] * 3
    sent = await runner.call("Send", ref(slug) | {"content": content})
    assert "receipt" in sent, sent["error"]["reason"]
    inputs = (await runner.call("ListInputs", ref(slug)))["inputs"]
    assert [each["content"] for each in inputs] == [content]
    number = runner.watch(slug, kinds=["EVENT_KIND_INPUT_QUEUED"])
    async with asyncio.timeout(60):
        while "event" not in (answer := await runner.next(number)):
            assert not answer.keys() & {"end", "error"}, answer
    assert answer["event"]["inputQueued"]["content"] == content
    await runner.cancel(number)


@pytest.mark.parametrize("language", chosen(), ids=lambda language: language.name)
async def test_a_host_is_drained_of_its_sessions_and_removed(
    language: Language, tmp_path: Path
) -> None:
    async with running_pair(
        tmp_path, gateway=True, control_arguments=("--http-origin", "*")
    ) as pair:
        try:
            async with running(language, tmp_path) as runner:
                await runner.dial(
                    "c", pair.http if language.over_http else pair.address, pair.token
                )
                await drain_and_remove(runner, pair)
        except MissingError as why:
            pytest.skip(f"{language.name}: {why}")


async def drain_and_remove(runner: Runner, pair: Pair) -> None:
    slug = await start(runner)
    drained = await runner.call("HostService.DrainHost", {"host": "here"})
    assert await outcome(runner, drained) == ("RAN", "DONE")
    await phase_is(runner, slug, "STOPPED")
    refused = await runner.call("StartSession", {"slug": "late", "agent": "scripted"})
    assert refused["error"]["reason"] == "NO_HOST", refused
    await pair.end_host()
    removed = await runner.call("HostService.RemoveHost", {"host": "here"})
    assert await outcome(runner, removed) == ("RAN", "DONE")
    assert (await runner.call("HostService.ListHosts")) == {}
