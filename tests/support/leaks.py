"""Fails a test that leaves something behind: tasks, processes, threads or file descriptors.

A pytest plugin, loaded by tests/conftest.py. What exists when the first test starts is the
baseline; what a fixture of wider scope than a function brings up is its own until it is torn down.
Everything else that is still there after a test's teardown, and after a short grace, is that test's
fault: the test gets an error in its teardown. A leak is reported once.

Tasks are looked at when their loop closes, since closing cancels them silently. What asyncio logs
as an error (an exception never retrieved, a pending task destroyed) counts as a leak, too.
Processes are found as descendants, and by a variable that everything started from here inherits, so
that daemons which left the tree are seen as well.
"""

from __future__ import annotations

import asyncio
import asyncio.runners
import gc
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

GUARD = "LEAK_GUARD"  # in the environment of this process and of all that it starts
MARK = "BRIDLE_SESSION_MARK"  # in the environment of every process of a session
#: Seconds that a process may take to become another program.
EXEC_GRACE = 5.0


@dataclass(frozen=True)
class Thing:
    """Something that can be left behind. Equal means the same one, seen twice."""

    kind: str
    identity: tuple[object, ...]
    text: str = field(compare=False)

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


# --- file descriptors and threads --------------------------------------------------------------


def open_descriptors() -> set[Thing]:
    found: set[Thing] = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the descriptor of this very listing
        found.add(Thing("file descriptor", (name, target), f"{name} -> {target}"))
    return found


def live_threads() -> set[Thing]:
    return {
        Thing("thread", (thread,), repr(thread))
        for thread in threading.enumerate()
        # A dummy stands for a thread of C code that once called Python: grpc's, which it keeps.
        if thread is not threading.main_thread() and not isinstance(thread, threading._DummyThread)
    }


# --- processes ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Process:
    """One line of the process table. `started` is in clock ticks since boot."""

    pid: int
    parent: int
    started: int
    state: str

    @classmethod
    def read(cls, pid: int) -> Process | None:
        """None if it is gone."""
        try:
            text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        # The second field is the command in parentheses, which may hold anything.
        fields = text.rpartition(")")[2].split()
        return cls(pid, parent=int(fields[1]), started=int(fields[19]), state=fields[0])

    def environment(self) -> dict[str, str]:
        """The one it was started with; empty for zombies and for processes of others."""
        raw = self._told("environ")
        pairs = (item.partition("=") for item in raw.decode(errors="replace").split("\0"))
        return {name: value for name, _, value in pairs if name}

    def command(self, limit: int = 200) -> str:
        raw = self._told("cmdline")
        return raw.decode(errors="replace").replace("\0", " ").strip()[:limit] or "?"

    def is_changing(self) -> bool:
        """Whether it is just becoming another program: then it tells nothing about itself."""
        if self.state in "ZX" or self._told("cmdline") or self._told("environ"):
            return False
        try:
            return bool(os.readlink(f"/proc/{self.pid}/exe"))  # the kernel's own have none
        except OSError:
            return False

    def _told(self, name: str) -> bytes:
        """What the system tells of it; nothing if it is gone or somebody else's."""
        try:
            return Path(f"/proc/{self.pid}/{name}").read_bytes()
        except OSError:
            return b""


def command_name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


class ProcessTable:
    """Tells our processes from everybody else's.

    Those once seen to be somebody else's are not read again: no process becomes ours later.
    """

    def __init__(self, guard: str) -> None:
        self._guard = guard
        #: Where the tests of this run have their files; empty until it is known.
        self.room = ""
        self._foreign: set[int] = set()
        own = Process.read(os.getpid())
        assert own is not None
        self._born = own.started

    def ours(self) -> set[Thing]:
        pids = {int(name) for name in os.listdir("/proc") if name.isdigit()} - {os.getpid()}
        self._foreign &= pids
        read = (Process.read(pid) for pid in pids - self._foreign)
        fresh = {process.pid: process for process in read if process is not None}
        deadline = time.monotonic() + EXEC_GRACE
        while any(process.is_changing() for process in fresh.values()):
            if time.monotonic() > deadline:
                break
            time.sleep(0.001)
        mine = {pid: process for pid, process in fresh.items() if self._is_ours(process, fresh)}
        self._foreign |= fresh.keys() - mine.keys()
        return {
            Thing("process", (pid, process.started), f"{pid} [{process.state}] {process.command()}")
            for pid, process in mine.items()
            # multiprocessing keeps this one for the rest of the program, by design.
            if "multiprocessing.resource_tracker" not in process.command()
        }

    def _is_ours(self, process: Process, fresh: dict[int, Process]) -> bool:
        if self._descends(process, fresh):
            return True
        environment = process.environment()
        if GUARD in environment:
            # A test may run pytest itself; its guard begins with ours.
            return environment[GUARD].startswith(self._guard)
        # A shim that outlived its host has next to nothing in its environment.
        if self.room and f"--state={self.room}" in process.command(4096):
            return True
        # A session's process whose environment was replaced. While its host lives, it is a
        # descendant or somebody else's; an orphan is told by where it works: other workers, and
        # other runs on this machine, have such processes, too.
        if MARK not in environment or process.started < self._born:
            return False
        orphan = process.parent == 1 or command_name(process.parent) == "systemd"
        return orphan and self._is_at_home(process, environment)

    def _is_at_home(self, process: Process, environment: dict[str, str]) -> bool:
        """Whether it works, or has anything, where the tests of this run have their files."""
        try:
            place = os.readlink(f"/proc/{process.pid}/cwd")
        except OSError:
            place = ""
        return any(self.room in f"{each}/" for each in (place, *environment.values()))

    @staticmethod
    def _descends(process: Process, fresh: dict[int, Process]) -> bool:
        seen: set[int] = set()
        current: Process | None = process
        while current is not None and current.pid not in seen:
            if current.parent == os.getpid():
                return True
            seen.add(current.pid)
            current = fresh.get(current.parent)
        return False


# --- asyncio -----------------------------------------------------------------------------------


class AsyncioWatch(logging.Handler):
    """Collects the tasks that loops end with, and what asyncio logs as errors."""

    def __init__(self, grace: float) -> None:
        """`grace`: seconds for tasks that end by themselves when their loop is about to close."""
        super().__init__(level=logging.ERROR)
        self._grace = grace
        self.found: list[Thing] = []
        self._cancel_all: Callable[[asyncio.AbstractEventLoop], None] | None = None

    def install(self) -> None:
        logging.getLogger("asyncio").addHandler(self)
        # asyncio.run and pytest-asyncio close their loops through this one function.
        runners: Any = asyncio.runners
        self._cancel_all = runners._cancel_all_tasks
        runners._cancel_all_tasks = self._before_cancel_all

    def remove(self) -> None:
        logging.getLogger("asyncio").removeHandler(self)
        runners: Any = asyncio.runners
        runners._cancel_all_tasks = self._cancel_all

    def _before_cancel_all(self, loop: asyncio.AbstractEventLoop) -> None:
        deadline = time.monotonic() + self._grace
        while asyncio.all_tasks(loop) and time.monotonic() < deadline:
            loop.run_until_complete(asyncio.sleep(0.001))
        for task in asyncio.all_tasks(loop):
            self.found.append(Thing("task", (id(task), task.get_name()), repr(task)))
        assert self._cancel_all is not None
        self._cancel_all(loop)

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        error = record.exc_info[1] if record.exc_info else None
        # grpc.aio wakes every loop of the process for an event that only one of them can read.
        if "PollerCompletionQueue._handle_events" in text and isinstance(error, BlockingIOError):
            return
        self.found.append(Thing("asyncio error", (id(record), text), f"{text} {error!r}"))

    def take(self) -> set[Thing]:
        found, self.found = set(self.found), []
        return found


# --- the plugin --------------------------------------------------------------------------------


def warm_up_grpc() -> None:
    """Let grpc make what it keeps for good: its poller's thread and its descriptors.

    The reference taken here is never given back, so that no test makes them anew.
    """
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    import grpc.aio
    from grpc_health.v1 import health_pb2_grpc
    from grpc_health.v1.health import aio as health

    async def one_call() -> None:
        server = grpc.aio.server()
        health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            await check(b"")  # an empty request asks for the health of the server as a whole
        await server.stop(None)

    grpc.aio.init_grpc_aio()
    asyncio.run(one_call())


class LeakPlugin:
    """The hooks; one for the whole run."""

    def __init__(self, grace: float) -> None:
        self._grace = grace
        outer = os.environ.get(GUARD)
        guard = f"{outer + '/' if outer else ''}{uuid.uuid4()}"
        os.environ[GUARD] = guard
        self._processes = ProcessTable(guard)
        self._asyncio = AsyncioWatch(grace)
        self._baseline: set[Thing] = set()
        self._owned: dict[object, set[Thing]] = {}

    def _lasting(self) -> set[Thing]:
        return open_descriptors() | live_threads() | self._processes.ours()

    def _left(self) -> set[Thing]:
        return self._lasting() - self._baseline - set().union(*self._owned.values())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        warm_up_grpc()
        factory: Any = vars(session.config).get("_tmp_path_factory")
        self._processes.room = f"{factory.getbasetemp()}/" if factory is not None else ""
        gc.collect()
        self._baseline = self._lasting()
        self._asyncio.install()
        try:
            return (yield)
        finally:
            self._asyncio.remove()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[object]
    ) -> Generator[None, object, object]:
        if fixturedef.scope == "function":
            return (yield)
        before = self._lasting()
        try:
            return (yield)
        finally:
            self._owned[fixturedef] = self._lasting() - before

    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[object]) -> None:
        self._owned.pop(fixturedef, None)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self) -> Generator[None, None, None]:
        yield
        left = self._after_grace()
        tasks = self._asyncio.take()
        self._baseline |= left
        if left or tasks:
            pytest.fail(report(left | tasks), pytrace=False)

    def _after_grace(self) -> set[Thing]:
        """What stays. Waiting and collecting cost nothing where nothing was left."""
        if not (left := self._left()):
            return left
        deadline = time.monotonic() + self._grace
        while left and time.monotonic() < deadline:
            gc.collect()
            left = self._left()
            time.sleep(0.01)
        return left


def report(things: Iterable[Thing]) -> str:
    return "\n".join(["the test left behind:", *sorted(f"  {thing}" for thing in things)])


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a skipped test fails the run")
    parser.addini(
        "leak_grace",
        "seconds for what is on its way out after a test: a child being reaped, a socket closing",
        default="10.0",
    )


def pytest_configure(config: pytest.Config) -> None:
    grace = float(config.getini("leak_grace"))
    config.pluginmanager.register(LeakPlugin(grace), "bridle-leaks")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With --no-skips, a test that did not run is a test that did not pass."""
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--no-skips") and reporter and reporter.stats.get("skipped"):
        reporter.write_line("\nskipped tests are refused here (--no-skips)", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
