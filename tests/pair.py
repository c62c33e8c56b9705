"""The real pair, as processes: `bridle-control` and `bridle-host` in a folder of the test's own.

    async with running_pair(tmp_path) as pair:
        await pair.client.start_session("x", agent="shell")
        result = await pair.cli("session", "interrupt", "x")
        assert (result.code, result.out) == (0, "sent\n")
        await pair.restart_control()

Everything is ended when the block is left, sessions that outlived their host too. What the services
logged is printed when it fails.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bridle import Client, by_id
from bridle.credentials import store
from bridle.errors import BridleError, Code
from tests.support.ports import held_port
from tests.support.shims import end_shims

#: Seconds that a service, or a command that answers, may take on a busy machine.
PATIENCE = 40.0


@dataclass(frozen=True)
class Result:
    """What a finished command said, as text, and its exit code."""

    code: int
    out: str
    err: str


@dataclass
class Pair:
    """Control and one host. `home` is the BRIDLE_HOME of `cli`; `address` stays over restarts."""

    home: Path
    host_arguments: Sequence[str] = ()
    host_environment: Mapping[str, str] = field(default_factory=dict)
    control_environment: Mapping[str, str] = field(default_factory=dict)
    address: str = "127.0.0.1:0"
    token: str = ""
    control: Process | None = None
    host: Process | None = None
    control_arguments: Sequence[str] = ()
    #: Of the browser gateway; empty where there is none. Stays over restarts, as `address` does.
    http: str = ""
    #: Where Prometheus may ask control, and the host; empty for nowhere.
    metrics: str = ""
    host_metrics: str = ""
    #: What runs as `bridle-host`; empty for that of this distribution.
    host_program: Sequence[str] = ()

    def __post_init__(self) -> None:
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """A client with the first token, which may do everything."""
        assert self._client is not None
        return self._client

    @property
    def work(self) -> Path:
        """Where sessions work that name no directory."""
        return self.home / "work"

    @property
    def runs(self) -> Path:
        """What the host keeps of its runs."""
        return self.home / "host" / "runs"

    def log(self, service: str) -> Path:
        return self.home / f"{service}.log"

    # --- the services --------------------------------------------------------------------------

    async def init(self) -> None:
        """Makes the store, and the user's credentials for it."""
        self.work.mkdir(parents=True, exist_ok=True)
        token_file = self.home / "token"
        made = await asyncio.create_subprocess_exec(
            program("bridle-control"),
            *("init", "--store", str(self.home / "control"), "--token-file", str(token_file)),
            stdin=DEVNULL,
        )
        assert await made.wait() == 0
        self.token = token_file.read_text("ascii").strip()

    async def start_control(self) -> None:
        arguments = ["--store", str(self.home / "control"), "--listen", self.address]
        arguments += ["--http-listen", self.http] if self.http else []
        self.control, ready = await self._start("control", *arguments, *self.control_arguments)
        addresses = dict(word.split("=", 1) for word in ready.split()[1:])
        self.address, self.http = addresses["grpc"], addresses.get("http", "")
        self.metrics = addresses.get("metrics", "")
        await self._found_again(self.control)

    async def _found_again(self, control: Process) -> None:
        """Until the client reaches it, or it is gone.

        Where control was away for long, gRPC lets a second and more pass before it dials anew. One
        that dies at once is never reached, and the client would wait for it as long as a call may.
        """
        if self._client is None:
            return
        ends = [asyncio.ensure_future(each) for each in (_answer(self._client), control.wait())]
        try:
            async with asyncio.timeout(PATIENCE):
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in ends:
                each.cancel()
            await asyncio.gather(*ends, return_exceptions=True)

    async def start_host(self) -> None:
        arguments = ["--control", self.address, "--state", str(self.home / "host")]
        arguments += ["--directory", str(self.work), "--name", "here", *self.host_arguments]
        if not (self.home / "host" / "credential").exists():
            join = self.home / "join-token"
            join.write_text((await self.client.create_join_token()).join_token)
            arguments += ["--join-token-file", str(join)]
        self.host, ready = await self._start("host", *arguments)
        addresses = dict(word.split("=", 1) for word in ready.split()[1:])
        self.host_metrics = addresses.get("metrics", "")

    async def _start(self, service: str, *arguments: str) -> tuple[Process, str]:
        more = self.host_environment if service == "host" else self.control_environment
        other = self.host_program if service == "host" else ()
        with self.log(service).open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(other or [program(f"bridle-{service}")]),
                "serve",
                *arguments,
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=log,
                env={**os.environ, **more},
                # As a service manager would: Ctrl-C of the test run is not theirs.
                start_new_session=True,
            )
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            ready = (await process.stdout.readline()).decode().strip()
        assert ready.startswith("ready "), f"{service} did not start: {self.log(service)}"
        return process, ready

    async def end_control(self, number: int = signal.SIGTERM) -> None:
        """Ends control; SIGKILL stands for its sudden death."""
        await _ended(self.control, number)
        self.control = None

    async def end_host(self, number: int = signal.SIGTERM) -> None:
        await _ended(self.host, number)
        self.host = None

    async def restart_control(self, number: int = signal.SIGKILL) -> None:
        """Ends control and starts it again on the same port and store."""
        await self.end_control(number)
        await self.start_control()

    async def kill_all(self) -> None:
        """Ends every session, for tests that share a pair."""
        sessions = [found async for found in self.client.list_sessions("live = true")]
        for session in sessions:
            killed = await self.client.kill(by_id(session.session_id, session.workspace))
            await self.client.wait(killed.receipt)

    # --- the command line ----------------------------------------------------------------------

    def environment(self, **more: str) -> dict[str, str]:
        """What a command sees: this home, and nothing of any other."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("BRIDLE_")}
        return {**kept, "BRIDLE_HOME": str(self.home), **more}

    async def start_cli(self, *words: str, stdin: int = DEVNULL, **more: str) -> Process:
        """Starts `bridle WORD…` and leaves it running; the caller ends it."""
        return await asyncio.create_subprocess_exec(
            program("bridle"),
            *words,
            stdin=stdin,
            stdout=PIPE,
            stderr=PIPE,
            env=self.environment(**more),
            cwd=self.work,
        )

    async def cli(self, *words: str, stdin: str | None = None, **more: str) -> Result:
        """Runs `bridle WORD…` to its end. `more` are variables of its environment."""
        process = await self.start_cli(*words, stdin=DEVNULL if stdin is None else PIPE, **more)
        try:
            async with asyncio.timeout(PATIENCE):
                out, err = await process.communicate(None if stdin is None else stdin.encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return Result(process.returncode or 0, out.decode(), err.decode())


@asynccontextmanager
async def running_pair(
    tmp_path: Path,
    *,
    host: bool = True,
    host_arguments: Sequence[str] = (),
    host_environment: Mapping[str, str] | None = None,
    control_environment: Mapping[str, str] | None = None,
    control_arguments: Sequence[str] = (),
    gateway: bool = False,
) -> AsyncIterator[Pair]:
    """A running pair in `tmp_path`; without `host` control alone."""
    pair = Pair(
        tmp_path / "home", host_arguments, host_environment or {}, control_environment or {}
    )
    pair.control_arguments = control_arguments
    await pair.init()
    # Nobody else is given them while control is away.
    ports = [held_port() for _ in range(2 if gateway else 1)]
    pair.address, *more = (f"127.0.0.1:{port.getsockname()[1]}" for port in ports)
    pair.http = "".join(more)
    try:
        await pair.start_control()
        store(pair.home / "credentials.json", pair.address, pair.token)
        async with Client(pair.address, token=pair.token) as client:
            pair._client = client
            if host:
                await pair.start_host()
            yield pair
            await pair.end_host()
            await pair.end_control()
    except BaseException:
        for service in ("control", "host"):
            if pair.log(service).exists():
                print(f"--- {service}\n{pair.log(service).read_text(errors='replace')}")
        raise
    finally:
        await pair.end_host(signal.SIGKILL)
        await pair.end_control(signal.SIGKILL)
        # Sessions outlive their host, and no test is to leave one. In a thread that ends here: the
        # loop, and so a thread that it keeps, may live on for other tests.
        with ThreadPoolExecutor(1) as thread:
            await asyncio.get_running_loop().run_in_executor(thread, end_shims, pair.runs)
        for port in ports:
            port.close()


def program(name: str) -> str:
    """The path of a program of this distribution."""
    return str(Path(sys.executable).with_name(name))


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Waits for a condition that nothing announces."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not await condition():  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"it never came true: {what}") from None


async def _answer(client: Client) -> None:
    """Until control answers, be it with a refusal."""
    while True:
        try:
            await client.who_am_i()
        except BridleError as error:
            if error.code is Code.UNAVAILABLE:
                await asyncio.sleep(0.02)
                continue
        return


async def _ended(process: Process | None, number: int) -> None:
    if process is None:
        return
    if process.returncode is None:
        process.send_signal(number)
    async with asyncio.timeout(PATIENCE):
        await process.wait()
        # Its pipe would else stay until the garbage is collected.
        process._transport.close()  # type: ignore[attr-defined]
