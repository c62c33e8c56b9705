"""`bridle up`: control and an agent host on this machine, in the foreground, with one command.

It makes what is missing (store, token, the host's credential), starts both services, stores the
token for the user so that the next command just works, and ends both with their sessions on Ctrl-C;
a second Ctrl-C gives the sessions no more time. (`bridle host serve` alone leaves its sessions to
its successor; what is started by hand in the foreground had better be gone with it.)
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shlex
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import click

from bridle.cli import measuring, output
from bridle.cli.base import Call, ExitCode, command, report
from bridle.cli.processes import Service, ServiceError, entry_point, environment
from bridle.errors import BridleError
from bridle.settings import DEFAULT_PORT, Places, is_loopback

#: Seconds that turns get to finish when it ends.
STOP_GRACE = 3
#: Seconds that control gets to tell which these are: on a busy machine it may pause for some.
NAMING_TIMEOUT = 10.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@command("up", json=False, remote=False)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Where control listens; 0: any port that is free.",
)
@click.option(
    "--http-port",
    type=click.IntRange(0, 65535),
    help="Where its browser gateway listens; 0: any that is free.  [default: PORT + 1]",
)
@click.option(
    "--http-origin",
    "http_origins",
    multiple=True,
    metavar="ORIGIN",
    help="Pages from there may call it, such as http://localhost:3000; repeatable.",
)
@click.option("--bind", default="127.0.0.1", metavar="IP", help="The address to listen on.")
@click.option("--name", metavar="NAME", help="The host's name (the machine's).")
@click.option("--directory", metavar="D", help="Where sessions work that name no directory.")
@click.option("--tour", is_flag=True, help="Show what Bridle does, on a real shell session.")
@click.option("--temporary", is_flag=True, help="In a temporary place; with --tour, end after it.")
@click.option(
    "--insecure-public",
    is_flag=True,
    help="Listen on a public address in plaintext: anybody on the way can read the tokens.",
)
@click.option(
    "--retain-per-session",
    metavar="LIMITS",
    help="Keep no more of a session's events than, say, 100000ev,1GiB,30d.",
)
@click.option(
    "--retain-total",
    metavar="LIMITS",
    help="Keep no more of all events than, say, 50GiB; the oldest go first.",
)
@measuring.options
async def up(
    call: Call,
    port: int,
    http_port: int | None,
    http_origins: tuple[str, ...],
    bind: str,
    name: str | None,
    directory: str | None,
    tour: bool,
    temporary: bool,
    insecure_public: bool,
    retain_per_session: str | None,
    retain_total: str | None,
    otlp_endpoint: str | None,
    metrics_port: int | None,
    trace_ratio: float | None,
) -> int:
    """Start control and an agent host on this machine, until Ctrl-C."""
    address = f"[{bind}]" if ":" in bind else bind
    if not is_loopback(f"{address}:0") and not insecure_public:
        raise click.UsageError(
            f"{bind} is public, and tokens would cross the network in plaintext:"
            " --insecure-public forces it"
        )
    try:
        where = Path(directory or ".").absolute()  # noqa: ASYNC240
    except FileNotFoundError:
        raise ServiceError("the working directory is not there any more") from None
    if not where.is_dir():
        raise click.UsageError(f"--directory: {where} is no directory")
    with _home(temporary) as places, _only_one(places):
        if temporary and tour:
            port = http_port = 0
            where = places.data / "work"
            where.mkdir()
        if http_port is None:
            http_port = port + 1 if 0 < port < 65535 else 0
        control = ["--http-listen", f"{address}:{http_port}"]
        control += [word for origin in http_origins for word in ("--http-origin", origin)]
        control += ["--insecure-public"] if insecure_public else []
        control += ["--retain-per-session", retain_per_session] if retain_per_session else []
        control += ["--retain-total", retain_total] if retain_total else []
        measured = measuring.Measuring(otlp_endpoint, metrics_port, trace_ratio)
        pair = Pair(call, places, address, port, http_port, name, where, control, measured)
        return await pair.run(tour, stay=not (tour and temporary), temporary=temporary)


@contextmanager
def _home(temporary: bool) -> Iterator[Places]:
    """The user's places, or temporary ones, which this process then uses as the user's."""
    if not temporary:
        yield Places.find()
        return
    home = tempfile.mkdtemp(prefix="bridle-")
    try:
        os.environ["BRIDLE_HOME"] = home
        yield Places.find()
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _only_one(places: Places) -> Iterator[None]:
    """One `bridle up` in one home: the second is told so before it touches anything."""
    places.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = places.data / "up.lock"
    with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+") as lock:
        _lock(lock)
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def _lock(lock: IO[str]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        process = lock.readline().strip()
        raise ServiceError(f"it runs already, as process {process}") from None


@dataclass
class Pair:
    """Both services of this machine, and what belongs to them."""

    call: Call
    places: Places
    bind: str
    port: int
    http_port: int
    name: str | None
    directory: Path
    control_arguments: list[str]
    measured: measuring.Measuring

    def __post_init__(self) -> None:
        self.address = ""  # of control, for this machine
        self._services: list[Service] = []
        self._stop = asyncio.Event()
        self._ending = False

    async def run(self, tour: bool, *, stay: bool, temporary: bool) -> int:
        """Starts both, plays the tour, stays; ends both whatever happens. Returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._told_to_end)
        try:
            async with asyncio.TaskGroup() as group:
                work = group.create_task(self._work(tour, stay, temporary))
                stop = group.create_task(self._stop.wait())
                await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
                stop.cancel()
                work.cancel()
            return ExitCode.DONE if work.cancelled() else work.result()
        finally:
            await self._end()
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    def _told_to_end(self) -> None:
        if self._ending:
            # Once more, and the host gives its sessions no more time.
            for service in self._services:
                if service.name == "host":
                    service.tell()
        self._stop.set()

    async def _work(self, tour: bool, stay: bool, temporary: bool) -> int:
        """All of it, until one of the services ends. Returns the exit code."""
        try:
            output.line(await self._start())
            if tour:
                from bridle.cli.tour import Tour

                if not await Tour(self.address).play() and not stay:
                    return ExitCode.FAILURE
            if not stay:
                return ExitCode.DONE
            self._tell_how_to_go_on(tour, temporary)
            raise ServiceError(await self._first_end())
        except BridleError as error:
            return report(self.call.path, error)

    async def _first_end(self) -> str:
        """Waits until a service has ended by itself, and tells which and why."""
        async with asyncio.TaskGroup() as group:
            ends = [group.create_task(service.wait()) for service in self._services]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in ends:
                task.cancel()
        return next(item for item in self._services if item.process.returncode is not None).why()

    # --- start ---------------------------------------------------------------------------------

    async def _start(self) -> str:
        from bridle import credentials

        self._check_port("--port", self.port)
        self._check_port("--http-port", self.http_port)
        for metrics in self.measured.ports or ():
            self._check_port("--metrics-port", metrics)
        token = await self._token()
        control = await self._start_control()
        self.address = control.removeprefix("ready grpc=").partition(" ")[0]
        if not is_loopback(self.address):
            self.address = f"127.0.0.1:{self.address.rpartition(':')[2]}"
        credentials.store(self.places.credentials, self.address, token)
        host = await self._start_host(token)
        return measuring.ready_line(control, host)

    def _check_port(self, option: str, port: int) -> None:
        """A port in use is told at once, and not as the failure of a service."""
        if not port:
            return
        family = socket.AF_INET6 if self.bind.startswith("[") else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.bind.strip("[]"), port))
            except OSError as error:
                reason = "is in use" if error.errno == 98 else f"can't be used: {error.strerror}"
                raise ServiceError(
                    f"port {port} of {self.bind} {reason}; {option} takes another, 0 any"
                ) from error

    async def _token(self) -> str:
        """The store's first token; made with the store where there is none."""
        from bridle.credentials import Credentials

        store, file = self.places.store, self.places.data / "token"
        if not store.exists():
            file.unlink(missing_ok=True)
            process = await asyncio.create_subprocess_exec(
                entry_point("bridle-control"),
                *("init", "--store", str(store), "--token-file", str(file)),
                env=environment(),
                stdin=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
            _, said = await process.communicate()
            if process.returncode:
                raise ServiceError(said.decode(errors="replace").strip() or "no store was made")
        if file.is_file() and (token := file.read_text("ascii").strip()):
            return token
        known = Credentials.read(self.places.credentials)
        if token := known.token(f"127.0.0.1:{self.port}") or "":
            return token
        raise ServiceError(f"the token of the store in {store} is not in {file}: put it there")

    async def _start_control(self) -> str:
        arguments = ["serve", "--store", str(self.places.store)]
        arguments += ["--listen", f"{self.bind}:{self.port}"]
        arguments += self.control_arguments + self.measured.arguments(self.bind)[0]
        return await self._started(Service("control", arguments, self.places.log("control")))

    async def _start_host(self, token: str) -> str:
        from bridle.client import Client
        from bridle.credentials import write_secret

        state, join = self.places.host, self.places.data / "join-token"
        arguments = ["serve", "--control", self.address, "--state", str(state)]
        arguments += ["--directory", str(self.directory)]
        arguments += ["--on-end", "stop", "--stop-grace", str(STOP_GRACE)]
        arguments += ["--name", self.name] if self.name else []
        arguments += self.measured.arguments(self.bind)[1]
        if not (state / "credential").exists():
            async with Client(self.address, token=token) as client:
                write_secret(join, (await client.create_join_token()).join_token)
            arguments += ["--join-token-file", str(join)]
        try:
            return await self._started(Service("host", arguments, self.places.log("host")))
        finally:
            join.unlink(missing_ok=True)

    async def _started(self, service: Service) -> str:
        self._services.append(service)
        return await service.start()

    def _tell_how_to_go_on(self, tour: bool, temporary: bool) -> None:
        if not sys.stdout.isatty() and not tour:
            return
        output.line("")
        output.line("In a second terminal:")
        if shutil.which("bridle") is None:
            # Started by its path, as `make run` does.
            output.line(f'  export PATH="{Path(sys.executable).parent}:$PATH"')
        if temporary or "BRIDLE_HOME" in os.environ:
            output.line(f"  export BRIDLE_HOME={shlex.quote(str(self.places.data))}")
        for text in (
            "bridle session start demo --agent shell 'for i in 1 2 3; do date; sleep 1; done'",
            "bridle session watch demo",
            "bridle session send demo 'sleep 60; echo never'",
            "bridle session interrupt demo",
            "bridle ls",
        ):
            output.line(f"  {text}")
        output.line("Logs are in " + str(self.places.log("control").parent))
        output.line("Ctrl-C stops the sessions and both services.")

    # --- the end -------------------------------------------------------------------------------

    async def _end(self) -> None:
        """The host first, so that the ends of its sessions still reach control."""
        self._ending = True
        try:
            if len(self._services) == 2 and all(item.running for item in self._services):
                await self._name_sessions()
        finally:
            for service in reversed(self._services):
                await service.end()

    async def _name_sessions(self) -> None:
        from bridle.client import Client
        from bridle.terminal import clean_line

        try:
            async with Client(self.address, timeout=NAMING_TIMEOUT) as client:
                names = [item.name async for item in client.list_workspaces()]
            for name in names:
                async with Client(self.address, workspace=name, timeout=NAMING_TIMEOUT) as client:
                    async for session in client.list_sessions("live = true"):
                        slug = clean_line(f"{session.workspace}/{session.slug}")
                        output.line(f"stopping session {slug}")
        except (BridleError, BrokenPipeError):
            pass  # they are stopped all the same
