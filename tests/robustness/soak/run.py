"""A soak from its beginning to its verdict.

    report = await soak(Shape(seed=7, seconds=600), directory)
    print(report.line); report.wrong

Phases: everything comes up; clients, watchers and faults go on for the shape's time; everything is
healed, and what is under way must come to its end; all is read; sessions and services are ended,
and nothing may be left.
"""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bridle import Client, by_id
from bridle.errors import BridleError
from bridle.v1 import session_pb2
from tests.robustness.soak.plan import Shape, plan
from tests.robustness.soak.traffic import LIVE, Caller, Op, Subject, Traffic
from tests.robustness.soak.verdict import Account, judge
from tests.robustness.soak.watchers import Watcher
from tests.robustness.soak.world import Service, Weight, World, world
from tests.support.event_log import Log

#: Seconds within which everything must have come to rest once the faults are over.
CALM = 120.0
#: What control may hold more at the end than when all hosts and sessions were up: MiB, descriptors.
MORE_MEMORY, MORE_DESCRIPTORS = 64.0, 16
#: Seconds within which the processes of what has ended must be gone.
GONE = 30.0

Progress = Callable[[str], None]


@dataclass
class Report:
    """What a soak came to. It is good when nothing is wrong."""

    shape: Shape
    account: Account = field(default_factory=Account)
    faults: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0
    left: int = 0

    @property
    def line(self) -> str:
        """The figures, as one line."""
        account, shape = self.account, self.shape
        faults = ",".join(f"{name}:{times}" for name, times in sorted(self.faults.items()))
        outcomes = ",".join(f"{name}:{n}" for name, n in sorted(account.outcomes.items()))
        return (
            f"soak seed={shape.seed} minutes={self.seconds / 60:.1f} hosts={shape.hosts}"
            f" sessions={shape.sessions} events={account.events}"
            f" events/s={account.events / max(1.0, self.seconds):.0f}"
            f" watched={account.told.events} faults={sum(self.faults.values())} ({faults})"
            f" commands={sum(account.outcomes.values())} ({outcomes})"
            f" lost={account.lost} repeated={account.repeated} reordered={account.reordered}"
            f" ran-twice={account.ran_twice} unaccounted={account.unaccounted}"
            f" left={self.left} wrong={len(self.wrong)}"
        )


async def soak(shape: Shape, directory: Path, progress: Progress = lambda _: None) -> Report:
    """Runs it in an empty directory, which keeps everything: logs, stores, ledgers."""
    report = Report(shape)
    async with world(shape, directory) as made:
        progress(f"{shape.hosts} hosts are up")
        traffic = Traffic(made)
        await traffic.start_sessions()
        progress(f"{shape.sessions} sessions are up")
        before = Weight.of(made.control.pid)
        slugs = {subject.session_id: subject.slug for subject in traffic.subjects}
        watchers = [Watcher(made, number, slugs) for number in range(shape.watchers)]
        begin = time.monotonic()
        await _storm(made, traffic, watchers, progress)
        report.seconds = time.monotonic() - begin
        report.faults = dict(made.done)
        progress("the faults are over")
        async with Client(made.address, token=made.token) as client:
            await _calm(made, traffic, client)
            progress("everything is calm")
            await _end_sessions(traffic, client)
            await _read_receipts(traffic, client)
            logs = await _read_logs(traffic, client)
            async with asyncio.TaskGroup() as tasks:
                for watcher in watchers:
                    tasks.create_task(watcher.finish(client, list(logs.values())))
        progress("everything is read")
        await _weigh(made, before)
        report.left = await _end_services(made)
        report.account = judge(traffic, logs, watchers)
        report.wrong = made.wrong + report.account.wrong
        _check_store(report, directory / "control")
        _check_minimum(report)
    return report


async def _storm(
    made: World, traffic: Traffic, watchers: list[Watcher], progress: Progress
) -> None:
    """Clients, watchers and faults, all at once, until the time is over and all is healed."""
    begin = made.now
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(traffic.run(), name="traffic")
        watching = [tasks.create_task(watcher.run()) for watcher in watchers]
        async with asyncio.TaskGroup() as faults:
            for planned in plan(made.shape):
                await asyncio.sleep(max(0.0, begin + planned.at - made.now))
                progress(f"{made.now - begin:.0f} s: {planned}")
                faults.create_task(made.inflict(planned), name=str(planned))
            await asyncio.sleep(max(0.0, begin + made.shape.seconds - made.now))
            traffic.stop()
        made.heal()
        for watcher in watchers:
            watcher.heal.set()
        for task in watching:
            task.cancel()


async def _calm(made: World, traffic: Traffic, client: Client) -> None:
    """Until no input waits and no turn is on. Who failed with inputs waiting is resumed."""
    caller = Caller(traffic, client, traffic.subjects[0], timeout=10.0, again=False)
    deadline = made.now + CALM
    restless = list(traffic.subjects)
    while restless:
        if made.now > deadline:
            for subject in restless:
                session = await client.get_session(subject.slug)
                host = (subject.number % len(made.hosts), subject.session_id)
                told = " ".join(str(session).split())[:800]
                made.complain(f"{subject.slug} on host {host} does not come to rest: {told}")
            return
        still = []
        for subject in restless:
            try:
                session = await client.get_session(subject.slug)
            except BridleError as error:
                made.complain(f"a session can't be read: {error!r}")
                return
            if _at_rest(session):
                continue
            still.append(subject)
            if session.phase not in LIVE:
                caller.subject = subject
                await caller.resume()
        restless = still
        await asyncio.sleep(0.3 if restless else 0)


def _at_rest(session: session_pb2.Session) -> bool:
    quiet = session.phase == session_pb2.PHASE_IDLE or session.phase not in LIVE
    return quiet and session.inputs_waiting == 0


async def _end_sessions(traffic: Traffic, client: Client) -> None:
    """Stops all, and waits until each is told to have ended."""

    async def end(subject: Subject) -> None:
        caller = Caller(traffic, client, subject, timeout=30.0, again=False)
        op = await caller.end_something("stop")
        try:
            async with asyncio.timeout(CALM):
                if op.receipt is not None:
                    await client.wait(op.receipt)
        except TimeoutError:
            traffic.world.complain(f"{subject.slug} does not stop")

    async with asyncio.TaskGroup() as tasks:
        for subject in traffic.subjects:
            tasks.create_task(end(subject))


async def _read_receipts(traffic: Traffic, client: Client) -> None:
    """What control says in the end about each request."""
    at_once = asyncio.Semaphore(32)

    async def read(op: Op) -> None:
        async with at_once:
            try:
                op.final = await client.get_command(request_id=op.request_id)
            except BridleError as error:
                if error.reason != "COMMAND_NOT_FOUND":
                    traffic.world.complain(f"op {op.number} can't be read: {error!r}")

    async with asyncio.TaskGroup() as tasks:
        for op in traffic.ops:
            tasks.create_task(read(op))
    told = "".join(
        f"{op.at:8.2f} #{op.number} {op.verb} {op.subject.slug} {op.key} id={op.request_id}"
        f" attempts={op.attempts} {op.refused} {' '.join(str(op.final).split())}\n"
        for op in traffic.ops
    )
    (traffic.world.directory / "requests").write_text(told)


async def _read_logs(traffic: Traffic, client: Client) -> dict[str, Log]:
    logs = {}
    for subject in traffic.subjects:
        session = await client.get_session(subject.slug)
        events = [event async for event in client.list_events(by_id(subject.session_id))]
        logs[subject.session_id] = Log.of(subject.session_id, session.log_id, events)
    return logs


async def _weigh(made: World, before: Weight) -> None:
    """Control must have given back what it took; it may have been restarted since."""
    after = Weight.of(made.control.pid)
    made.say(f"control before {before} after {after}")
    if after.memory > before.memory + MORE_MEMORY:
        made.complain(f"control grew from {before.memory:.0f} to {after.memory:.0f} MiB")
    if after.descriptors > before.descriptors + MORE_DESCRIPTORS:
        made.complain(f"control holds {after.descriptors} descriptors, {before.descriptors} before")


async def _end_services(made: World) -> int:
    """Ends the services in order; how many processes are left of all that ever was."""
    async with asyncio.TaskGroup() as tasks:
        for host in made.hosts:
            tasks.create_task(_end(made, host))
    await _end(made, made.control)
    deadline = made.now + GONE
    # (What is on its way out needs a processor for that.)
    while (left := made.left_over()) and made.now < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    for pid, command in left.items():
        made.complain(f"left over: {pid} {command}")
    return len(left)


async def _end(made: World, service: Service) -> None:
    code = await made.end(service, signal.SIGTERM)
    if code != 0:
        made.complain(f"{service.name} ended with {code}")


def _check_store(report: Report, store: Path) -> None:
    for file in store.iterdir():
        if file.read_bytes()[:15] != b"SQLite format 3":
            continue
        connection = sqlite3.connect(file)
        try:
            [[answer]] = connection.execute("PRAGMA integrity_check").fetchall()
        finally:
            connection.close()
        if answer != "ok":
            report.wrong.append(f"the store is not whole: {answer}")
        return
    report.wrong.append("there is no store")


def _check_minimum(report: Report) -> None:
    """A run in which too little happened proves nothing."""
    account, shape = report.account, report.shape
    # (Of the time in which clients asked: how long the faults last is also the machine's doing.)
    rate = account.events / max(1.0, shape.seconds)
    if rate < shape.least_events:
        report.wrong.append(f"idle: {rate:.0f} events/s, {shape.least_events:.0f} are the least")
    if account.told.events < account.events / 4:
        report.wrong.append(f"idle: watchers were told of {account.told.events} events only")
    if account.outcomes["RAN"] < shape.sessions:
        report.wrong.append(f"idle: {account.outcomes['RAN']} commands ran")
    planned = len(plan(shape))
    if sum(report.faults.values()) < planned * 0.9:
        report.wrong.append(f"idle: {sum(report.faults.values())} of {planned} faults befell")
