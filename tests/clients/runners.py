"""The runners of the suite, one for each language and transport; see README.md."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from scripts import client_tools
from scripts.browser import chromium
from tests.pair import PATIENCE

Answer = dict[str, Any]


@dataclass(frozen=True)
class Language:
    """A client under test. `transport`: what TypeScript's is told to speak."""

    name: str
    build: Callable[[], Sequence[str]]
    transport: str = ""
    in_browser: bool = False

    @property
    def over_http(self) -> bool:
        """Whether it calls the browser gateway."""
        return self.transport in ("connect", "grpc-web")


def build_python() -> Sequence[str]:
    return [sys.executable, "-m", "tests.clients.python_runner"]


def build_page() -> Sequence[str]:
    """A browser's arguments but the last, the address, and variables in front of them."""
    found = chromium()
    client_tools.build_typescript()
    return [
        *("env", *(f"{name}={value}" for name, value in found.environment.items())),
        found.program,
        "--headless",
        # As root Chromium has no sandbox, and the page is our own.
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
    ]


LANGUAGES = (
    Language("python", build_python),
    Language("go", client_tools.build_go),
    Language("java", client_tools.build_java),
    Language("typescript", client_tools.build_typescript, "grpc"),
    Language("typescript-connect", client_tools.build_typescript, "connect"),
    Language("typescript-grpc-web", client_tools.build_typescript, "grpc-web"),
    Language("browser-connect", build_page, "connect", in_browser=True),
    Language("browser-grpc-web", build_page, "grpc-web", in_browser=True),
)


class Runner:
    """Gives orders, and hands out their answers."""

    def __init__(self, language: Language, write: Callable[[str], None]) -> None:
        self.language = language
        self._write = write
        self._numbers = itertools.count(1)
        # Bounded by what the tests order: at most some 10,000 events of one watch.
        self._answers: dict[str, asyncio.Queue[Answer]] = {}

    def take(self, line: str) -> None:
        """A line of the runner."""
        answer = json.loads(line)
        self._answers[answer.pop("id")].put_nowait(answer)

    def order(self, op: str, **what: object) -> str:
        """Gives an order; returns its id."""
        number = str(next(self._numbers))
        self._answers[number] = asyncio.Queue()
        self._write(json.dumps({"id": number, "op": op, **what}))
        return number

    async def next(self, number: str, within: float = PATIENCE) -> Answer:
        """The next answer to an order, in so many seconds."""
        async with asyncio.timeout(within):
            return await self._answers[number].get()

    async def dial(self, client: str, address: str, token: str, **more: object) -> None:
        """Makes a client by that name."""
        where = f"http://{address}" if self.language.over_http else address
        transport = {"transport": self.language.transport} if self.language.transport else {}
        words = {"client": client, "address": where, "token": token, **transport, **more}
        assert await self.next(self.order("dial", **words)) == {"done": True}

    async def close(self, client: str) -> None:
        """Closes a client."""
        assert await self.next(self.order("close", client=client)) == {"done": True}

    async def call(self, method: str, request: object = None, **more: Any) -> Answer:
        """A unary call, of SessionService unless it names a service: its response, or its error."""
        answer = await self.next(self.begin("call", method, request, **more))
        [found] = answer.values()
        if "error" in answer:
            return {"error": found}
        assert isinstance(found, dict) or more.get("answer_bytes"), answer
        return {"response": base64.b64decode(found)} if isinstance(found, str) else found

    def begin(
        self, op: str, method: str, request: object = None, client: str = "c", **more: Any
    ) -> str:
        """Orders a call; returns the order's id."""
        service, _, name = method.rpartition(".")
        raw = more.pop("request_bytes", None)
        what: dict[str, object] = (
            {"request": request or {}}
            if raw is None
            else {"request_bytes": base64.b64encode(raw).decode()}
        )
        full = f"bridle.v1.{service or 'SessionService'}"
        return self.order(op, client=client, service=full, method=name, **what, **more)

    def watch(self, slug: str, client: str = "c", **more: Any) -> str:
        """Orders a watch of one session; returns the order's id."""
        start: dict[str, object] = {
            name: more.pop(name) for name in ("afterSequence", "tail", "logId") if name in more
        }
        own = {"metadata": more.pop("metadata")} if "metadata" in more else {}
        target = {"session": {"slug": slug}, **start}
        request = {"targets": [target], **more}
        return self.order("watch", client=client, request=request, **own)

    async def cancel(self, number: str) -> None:
        """Cancels an order."""
        assert await self.next(self.order("cancel", target=number)) == {"done": True}


_built: dict[Callable[[], Sequence[str]], Sequence[str] | client_tools.MissingError] = {}


def built(language: Language) -> Sequence[str]:
    """Its runner's command. Raises MissingError.

    Asked for once: where there is no network, a package tool may take minutes to say so.
    """
    if language.build not in _built:
        try:
            _built[language.build] = language.build()
        except client_tools.MissingError as missing:
            _built[language.build] = missing
    found = _built[language.build]
    if isinstance(found, client_tools.MissingError):
        raise client_tools.MissingError(str(found))
    return found


@asynccontextmanager
async def running(language: Language, place: Path) -> AsyncIterator[Runner]:
    """The language's runner, built and started. Raises MissingError."""
    command = built(language)  # (A thread of the loop's would stay, and count as left behind.)
    if language.in_browser:
        async with _in_browser(language, command, place) as runner:
            yield runner
        return
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=PIPE,
        stdout=PIPE,
        limit=16 * 1024 * 1024,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout
    runner = Runner(language, lambda line: stdin.write(line.encode() + b"\n"))

    async def read() -> None:
        while line := await stdout.readline():
            runner.take(line.decode())

    try:
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(read())
            yield runner
            stdin.close()
            async with asyncio.timeout(PATIENCE):
                await process.wait()
                await reading
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


# --- in a browser -------------------------------------------------------------------------


class _PageServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.up.set()

    def capture_signals(self) -> Any:
        return _Nothing()


def _read(path: Path) -> str:
    return path.read_text()  # a line


class _Nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


@asynccontextmanager
async def _in_browser(
    language: Language, command: Sequence[str], place: Path
) -> AsyncIterator[Runner]:
    # As many as the tests order at once.
    orders: asyncio.Queue[str | None] = asyncio.Queue()
    runner = Runner(language, orders.put_nowait)
    listening = asyncio.Event()

    async def page(request: Request) -> Response:
        return HTMLResponse('<!doctype html><script type="module" src="/runner.js"></script>')

    async def script(request: Request) -> Response:
        return FileResponse(client_tools.TOOLS / "typescript" / "browser.js")

    async def told(request: Request) -> Response:
        async def lines() -> AsyncIterator[str]:
            listening.set()
            while (line := await orders.get()) is not None:
                yield f"data: {line}\n\n"

        return StreamingResponse(lines(), media_type="text/event-stream")

    async def token(request: Request) -> Response:
        try:
            return PlainTextResponse(_read(Path(request.query_params["file"])))
        except OSError:
            return Response(status_code=404)

    async def said(request: Request) -> Response:
        for line in (await request.body()).decode().split("\n"):
            runner.take(line)
        return Response(status_code=204)

    routes = [
        Route("/", page),
        Route("/runner.js", script),
        Route("/orders", told),
        Route("/token", token),
        Route("/said", said, methods=["POST"]),
    ]
    config = uvicorn.Config(
        Starlette(routes=routes),
        host="127.0.0.1",
        port=0,
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=1,
        # A connection that is kept for the next answer would count as left behind by a test.
        headers=[("connection", "close")],
    )
    server = _PageServer(config)
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(server.serve())
        await server.up.wait()
        port = server.servers[0].sockets[0].getsockname()[1]
        with (place / "browser.log").open("wb") as log:
            browser = await asyncio.create_subprocess_exec(
                *command,
                f"--user-data-dir={place / 'browser'}",
                f"http://127.0.0.1:{port}/",
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(PATIENCE):
                while not listening.is_set():
                    assert browser.returncode is None, f"see {place / 'browser.log'}"
                    await asyncio.sleep(0.02)
            yield runner
        finally:
            if browser.returncode is None:
                browser.terminate()
            await browser.wait()
            orders.put_nowait(None)
            server.should_exit = True
            await serving


async def program(
    *command: str, env: Mapping[str, str], cwd: Path | None = None, within: float = PATIENCE
) -> tuple[int, str]:
    """Runs a program of a client's own to its end: its exit code, and all that it said."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, env=env, cwd=cwd
    )
    try:
        async with asyncio.timeout(within):
            said = (await process.communicate())[0].decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, said
