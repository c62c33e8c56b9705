"""The HTTP server of the scripted model, on loopback, and what it remembers.

One connection, one request: the answer ends with the connection. It can go down, with all
connections broken, and come up on the same port.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.model_server import anthropic, chat, responses
from tests.model_server.apis import Api, shell_arguments
from tests.model_server.conversation import Request
from tests.model_server.script import Plan, Step, plan

_LARGEST = 256 * 1024 * 1024
_APIS: Mapping[str, tuple[Callable[[Mapping[str, Any]], Request], Callable[..., Api]]] = {
    "/v1/messages": (anthropic.read, anthropic.Answer),
    "/v1/responses": (responses.read, responses.Answer),
    "/v1/chat/completions": (chat.read, chat.Answer),
}


@dataclass
class Reply:
    """What was answered to one request. plan: None for one that an agent made for itself.

    text and thought: what was put on the wire. calls: the ids of tool calls. done: answered to the
    end; else the agent went away, or the script broke it off. at: monotonic seconds of its begin.
    """

    request: Request
    plan: Plan | None
    at: float
    text: str = ""
    thought: str = ""
    calls: list[str] = field(default_factory=list)
    done: bool = False
    over: bool = False

    @property
    def tag(self) -> str:
        """The turn; empty for a request that an agent made for itself."""
        return self.plan.tag if self.plan is not None else ""


class ModelServer:
    """See the package. Made by `model_server`."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.replies: list[Reply] = []
        #: Paths that were asked for and are none of the APIs'.
        self.unknown: list[str] = []
        #: While it is set every request to the model is answered with this status.
        self.failing: int | None = None
        self._gates: dict[str, asyncio.Event] = {}
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()

    # --- for tests ---

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[Request]:
        """Those of turns, in the order in which they came."""
        return [reply.request for reply in self.replies if reply.plan is not None]

    def of(self, tag: str) -> list[Reply]:
        """What was answered in a turn."""
        return [reply for reply in self.replies if reply.tag == tag]

    def said(self, tag: str) -> list[str]:
        """The messages of a turn that were sent to their end, without those that said nothing."""
        return [reply.text for reply in self.of(tag) if reply.done and reply.text]

    def open(self, gate: str) -> None:
        """Lets pass whoever waits at the gate, now and later."""
        self._gates.setdefault(gate, asyncio.Event()).set()

    async def until(self, condition: Callable[[], bool], timeout: float = 60.0) -> None:
        """Waits until what was asked and answered meets a condition."""
        async with asyncio.timeout(timeout), self._changed:
            await self._changed.wait_for(condition)

    async def asked(self, tag: str, times: int = 1) -> Request:
        """Waits for a turn's request, and returns the newest."""
        await self.until(lambda: len(self.of(tag)) >= times)
        return self.of(tag)[-1].request

    async def sent(self, tag: str, words: int) -> None:
        """Waits until so many words of a turn are on the wire, in all its answers."""
        await self.until(
            lambda: sum(len((r.text + " " + r.thought).split()) for r in self.of(tag)) >= words
        )

    async def up(self) -> None:
        """Listens, the first time on a port of its own."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Refuses connections, and breaks those that are."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        for connection in list(self._connections):
            connection.cancel()
        if self._connections:
            await asyncio.wait(list(self._connections))
        await server.wait_closed()

    # --- the wire ---

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._one(reader, writer)
        except (OSError, EOFError, ValueError, asyncio.CancelledError):
            # The agent went away, or the server goes down; asyncio would log either as an error.
            writer.transport.abort()
        finally:
            self._connections.discard(task)
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _one(self, reader: StreamReader, writer: StreamWriter) -> None:
        method, path, body = await _request(reader, writer)
        path = path.partition("?")[0]
        path = path if path.startswith("/v1") else f"/v1{path}"
        if method == "POST" and path == "/v1/messages/count_tokens":
            writer.write(_head(200, "application/json") + b'{"input_tokens": 100}')
        elif method == "POST" and path in _APIS:
            read, answer = _APIS[path]
            await self._answer(read(json.loads(body)), answer, reader, writer)
        elif method == "GET" and path == "/v1/models":
            listed = {"object": "list", "data": [{"id": "lab-model", "object": "model"}]}
            writer.write(_head(200, "application/json") + json.dumps(listed).encode())
        else:
            self.unknown.append(f"{method} {path}")
            writer.write(_head(404, "application/json") + b'{"error": {"message": "not here"}}')
        await writer.drain()

    async def _answer(
        self,
        request: Request,
        api: Callable[..., Api],
        reader: StreamReader,
        writer: StreamWriter,
    ) -> None:
        planned = plan(request)
        reply = Reply(request, planned, time.monotonic())
        self.replies.append(reply)
        await self._tell()
        digest = hashlib.sha256(json.dumps(request.body).encode()).hexdigest()[:12]
        # Asked for once more, it is another message: agents tell the two apart by its name.
        name = f"{digest}_{len(self.replies)}"
        if planned is not None:
            name = f"{planned.tag}_{planned.first}_{name}"
        answering = asyncio.ensure_future(self._play(reply, api(request, name), writer))
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait((answering, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            answering.cancel()
            ended = await asyncio.gather(answering, gone, return_exceptions=True)
            reply.over = True
            await self._tell()
        if isinstance(ended[0], Exception):
            raise ended[0]

    async def _play(self, reply: Reply, api: Api, writer: StreamWriter) -> None:
        request, planned = reply.request, reply.plan
        steps = planned.answer if planned is not None else [(0, Step("text", _aside(request)))]
        status = self.failing if planned is not None else None
        if steps and steps[0][1].kind == "error":
            status = int(steps[0][1].value)
        if status is not None:
            body = json.dumps(api.error(status, f"the script says {status}")).encode()
            writer.write(_head(status, "application/json") + body)
            reply.done = True
            return
        kind = "text/event-stream" if request.stream else "application/json"
        writer.write(_head(200, kind) + api.begin())
        await writer.drain()
        player = _Player(reply, api, writer, self._tell, self._gates)
        for number, step in steps:
            await player.step(number, step)
        writer.write(api.end(player.reason))
        # Before the agent can act on it.
        reply.done = True
        await writer.drain()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


class _Player:
    """Puts the steps of one answer on the wire."""

    def __init__(
        self,
        reply: Reply,
        api: Api,
        writer: StreamWriter,
        tell: Callable[[], Any],
        gates: dict[str, asyncio.Event],
    ) -> None:
        self._reply, self._api, self._writer = reply, api, writer
        self._tell, self._gates = tell, gates
        self._words = reply.plan.words if reply.plan is not None else 0
        self._pace = 0.0
        self.reason = "stop"

    async def step(self, number: int, step: Step) -> None:
        match step.kind:
            case "say" | "think":
                for _ in range(int(step.value)):
                    self._words += 1
                    await self._piece(f"{self._reply.tag}.{self._words}", step.kind)
            case "text":
                await self._piece(step.value)
            case "big":
                await self._piece("x" * int(step.value))
            case "tool" | "call":
                await self._call(number, step)
            case "pace":
                self._pace = int(step.value) / 1000
            case "gate":
                await self._gates.setdefault(step.value, asyncio.Event()).wait()
            case "hang":
                await asyncio.Event().wait()
            case "cut" | "error":
                raise ConnectionAbortedError("the script breaks it off")
            case "stop":
                self.reason = step.value
            case _:
                raise AssertionError(f"no such step: {step}")

    async def _piece(self, words: str, kind: str = "say") -> None:
        if kind == "think":
            words = f" {words}" if self._reply.thought else words
            self._reply.thought += words
            data = self._api.thought(words)
        else:
            words = f" {words}" if self._reply.text else words
            self._reply.text += words
            data = self._api.text(words)
        self._writer.write(data)
        await self._writer.drain()
        await self._tell()
        await asyncio.sleep(self._pace)

    async def _call(self, number: int, step: Step) -> None:
        request, planned = self._reply.request, self._reply.plan
        assert planned is not None
        if step.kind == "tool":
            name, arguments = request.shell, shell_arguments(request, step.value)
        else:
            name, _, encoded = step.value.partition(" ")
            arguments = base64.b64decode(encoded).decode()
        call_id = planned.call_id(number)
        self._reply.calls.append(call_id)
        self.reason = "tool"
        self._writer.write(self._api.call(call_id, name, arguments))
        await self._writer.drain()


def _aside(request: Request) -> str:
    """The answer to what an agent asks for itself: harmless, and of the shape that is wanted."""
    asked = json.dumps(request.body).lower()
    return '{"title": "A title"}' if "title" in asked and "json" in asked else "A title"


async def _request(reader: StreamReader, writer: StreamWriter) -> tuple[str, str, bytes]:
    line = (await reader.readline()).decode("latin-1").split()
    if len(line) < 2:
        raise EOFError
    headers: dict[str, str] = {}
    while (header := (await reader.readline()).decode("latin-1").strip()) != "":
        name, _, value = header.partition(":")
        headers[name.lower()] = value.strip()
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return line[0], line[1], await _chunked(reader)
    length = int(headers.get("content-length") or 0)
    if length > _LARGEST:
        raise ValueError("too large")
    return line[0], line[1], await reader.readexactly(length)


async def _chunked(reader: StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readline()).partition(b";")[0], 16):
        if len(body) + size > _LARGEST:
            raise ValueError("too large")
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body


def _head(status: int, kind: str) -> bytes:
    return (
        f"HTTP/1.1 {status} {'OK' if status < 400 else 'Error'}\r\nContent-Type: {kind}\r\n"
        "Cache-Control: no-cache\r\nConnection: close\r\n\r\n"
    ).encode()


@asynccontextmanager
async def model_server(port: int = 0) -> AsyncIterator[ModelServer]:
    """A scripted model that listens; down at the end."""
    server = ModelServer(port)
    await server.up()
    try:
        yield server
    finally:
        await server.down()
