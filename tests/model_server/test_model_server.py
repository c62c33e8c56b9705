"""The scripted model itself: what it answers follows from the request, over each API alike."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.model_server import (
    ModelServer,
    Step,
    cut,
    error,
    gate,
    hang,
    model_server,
    say,
    think,
    tool,
    turn,
)

SHELL = {"type": "object", "properties": {"command": {"type": "string"}}}
PATHS = {
    "anthropic": "/v1/messages",
    "responses": "/v1/responses",
    "chat": "/v1/chat/completions",
}


def body(
    api: str, *said: tuple[str, str], stream: bool = False, tools: bool = True
) -> dict[str, Any]:
    """A request. said: role and text; "call" and "result" have the id of the call as their text."""
    match api:
        case "anthropic":
            tool_ = {"name": "Bash", "input_schema": SHELL}
            messages = [_anthropic(role, text) for role, text in said]
            return {"stream": stream, "tools": [tool_] if tools else [], "messages": messages}
        case "responses":
            tool_ = {"type": "function", "name": "shell_command", "parameters": SHELL}
            items = [_responses(role, text) for role, text in said]
            return {"stream": stream, "tools": [tool_] if tools else [], "input": items}
    function = {"type": "function", "function": {"name": "bash", "parameters": SHELL}}
    messages = [_chat(role, text) for role, text in said]
    return {"stream": stream, "tools": [function] if tools else [], "messages": messages}


def _anthropic(role: str, text: str) -> dict[str, Any]:
    if role == "call":
        part = {"type": "tool_use", "id": text, "name": "Bash", "input": {}}
        return {"role": "assistant", "content": [part]}
    if role == "result":
        part = {"type": "tool_result", "tool_use_id": text, "content": "42"}
        return {"role": "user", "content": [part]}
    return {"role": role, "content": text}


def _responses(role: str, text: str) -> dict[str, Any]:
    if role == "call":
        return {"type": "function_call", "call_id": text, "name": "shell_command", "arguments": ""}
    if role == "result":
        return {"type": "function_call_output", "call_id": text, "output": "42"}
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}


def _chat(role: str, text: str) -> dict[str, Any]:
    if role == "call":
        function = {"name": "bash", "arguments": ""}
        return {"role": "assistant", "tool_calls": [{"id": text, "function": function}]}
    if role == "result":
        return {"role": "tool", "tool_call_id": text, "content": "42"}
    return {"role": role, "content": text}


async def post(model: ModelServer, path: str, body: Mapping[str, Any]) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", model.port)
    try:
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
        answer = await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
    head_, _, rest = answer.partition(b"\r\n\r\n")
    return int(head_.split()[1]) if head_ else 0, rest


def said(api: str, answer: bytes) -> tuple[str, list[tuple[str, str]]]:
    """The text of a whole answer, and its tool calls: id and command."""
    value = json.loads(answer)
    match api:
        case "anthropic":
            parts = value["content"]
            text = "".join(part.get("text", "") for part in parts)
            calls = [(p["id"], p["input"]["command"]) for p in parts if p["type"] == "tool_use"]
        case "responses":
            texts = [i["content"][0]["text"] for i in value["output"] if i["type"] == "message"]
            text = "".join(texts)
            made = [i for i in value["output"] if i["type"] == "function_call"]
            calls = [(i["call_id"], json.loads(i["arguments"])["command"]) for i in made]
        case _:
            message = value["choices"][0]["message"]
            text = message["content"]
            made = [(c["id"], c["function"]["arguments"]) for c in message.get("tool_calls", ())]
            calls = [(name, json.loads(arguments)["command"]) for name, arguments in made]
    return text, calls


@pytest.mark.parametrize("api", PATHS)
async def test_a_script_is_played_over_the_results_of_its_tools(api: str) -> None:
    script = turn("T7", say(2), tool("echo 42"), say(1))
    async with model_server() as model:
        status, answer = await post(model, PATHS[api], body(api, ("user", script)))
        assert status == 200
        assert said(api, answer) == ("T7.1 T7.2", [("call_T7_1", "echo 42")])
        history = [("user", script), ("call", "call_T7_1"), ("result", "call_T7_1")]
        _, answer = await post(model, PATHS[api], body(api, *history))
        assert said(api, answer) == ("T7.3", [])
        assert model.said("T7") == ["T7.1 T7.2", "T7.3"]


@pytest.mark.parametrize("api", PATHS)
async def test_an_answer_is_streamed_as_it_comes(api: str) -> None:
    script = turn("T1", think(1), say(2), gate("go"), say(1))
    async with model_server() as model, asyncio.TaskGroup() as group:
        asked = group.create_task(post(model, PATHS[api], body(api, ("user", script), stream=True)))
        await model.sent("T1", 3)
        assert not model.of("T1")[0].done
        model.open("go")
        _, stream = await asked
        assert stream.index(b"T1.1") < stream.index(b"T1.2") < stream.index(b"T1.4")
        assert model.said("T1") == ["T1.2 T1.3 T1.4"]
        assert all(line[:6] in (b"data: ", b"event:", b"") for line in stream.split(b"\n"))


@pytest.mark.parametrize("api", PATHS)
async def test_only_the_newest_prompt_counts_however_much_is_told_again(api: str) -> None:
    retold = f"what was said: {turn('T1', say(9))}\n{turn('T2', say(1))}"
    async with model_server() as model:
        _, answer = await post(model, PATHS[api], body(api, ("user", retold)))
        assert said(api, answer) == ("T2.1", [])
        assert model.requests[0].tags == ["T1", "T2"]


async def test_an_answer_that_broke_off_is_given_once_more() -> None:
    script = turn("T1", say(2), cut())
    async with model_server() as model:
        await post(model, PATHS["chat"], body("chat", ("user", script), ("assistant", "T1.1")))
        assert model.of("T1")[0].text == "T1.1 T1.2"


async def test_what_an_agent_asks_for_itself_is_no_turns() -> None:
    script = turn("T1", say(1))
    async with model_server() as model:
        bare = body("chat", ("user", script), tools=False)
        after = body("anthropic", ("user", script), ("assistant", "T1.1"), ("user", "suggest"))
        await post(model, PATHS["chat"], bare)
        await post(model, PATHS["anthropic"], after)
        assert [reply.tag for reply in model.replies] == ["", ""]
        assert model.requests == []


async def test_a_call_without_its_result_dangles() -> None:
    async with model_server() as model:
        history = [("user", turn("T1", tool("x"))), ("call", "call_T1_0")]
        await post(model, PATHS["chat"], body("chat", *history, ("user", turn("T2", say(1)))))
        assert model.requests[0].dangling == ["call_T1_0"]


@pytest.mark.parametrize(("step", "status"), [(error(500), 500), (error(400), 400), (cut(), 200)])
async def test_it_fails_as_it_is_told(step: Step, status: int) -> None:
    async with model_server() as model:
        asked = body("anthropic", ("user", turn("T1", step)), stream=True)
        assert (await post(model, PATHS["anthropic"], asked))[0] == status
        assert model.of("T1")[0].done is (status != 200)


async def test_it_goes_down_under_an_answer_and_comes_up_on_the_same_port() -> None:
    async with model_server() as model:
        port = model.port
        asked = body("chat", ("user", turn("T1", say(1), hang())), stream=True)
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(post(model, PATHS["chat"], asked))
            await model.sent("T1", 1)
            await model.down()
            with pytest.raises(OSError):  # noqa: PT011 - refused or reset
                await asyncio.open_connection("127.0.0.1", port)
            with pytest.raises((OSError, asyncio.IncompleteReadError)):
                await _broken(answer)
        await model.up()
        assert model.port == port
        again = body("chat", ("user", turn("T2", say(1))))
        assert (await post(model, PATHS["chat"], again))[0] == 200


async def _broken(answer: asyncio.Task[tuple[int, bytes]]) -> None:
    _, rest = await answer
    if b"[DONE]" not in rest:
        raise ConnectionResetError


async def test_it_notices_that_the_agent_went_away() -> None:
    async with model_server() as model:
        asked = json.dumps(body("chat", ("user", turn("T1", hang())), stream=True)).encode()
        _, writer = await asyncio.open_connection("127.0.0.1", model.port)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {len(asked)}\r\n\r\n"
        writer.write(head.encode() + asked)
        await model.asked("T1")
        assert not model.of("T1")[0].over
        writer.close()
        await writer.wait_closed()
        await model.until(lambda: model.of("T1")[0].over)
        assert not model.of("T1")[0].done
