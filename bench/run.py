"""Measure, and print each figure beside its budget: `make bench`.

Every ratio is taken against bare grpc.aio in the same run, on the same machine, with the same
number of callers; absolute figures tell of the machine. See README.md for what each row means.

    python -m bench.run [ROW...]        all rows, or those that are named (see `Bench.ROWS`)
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

import grpc

from bench.bare import CALL, STREAM
from bench.machine import resident, shims, synced
from bench.stage import BIN, Stage, stage, telling
from bridle.v1 import content_pb2, event_pb2, session_pb2, watch_pb2
from bridle.v1 import session_service_pb2 as pb
from bridle.v1 import session_service_pb2_grpc as pb_grpc

CALLERS = 64
WATCHERS = 10
EVENT_SIZE = 250
#: Each ratio is the middle one of so many, taken in turns: the machine may be busy with others.
ROUNDS = 3
#: The events of the log that is replayed.
MILLION = 1_000_000
#: What the agent runs: a line every 2 ms, which says when it was printed.
PRINTER = """
import sys, time
begun = time.monotonic()
for number in range(int(sys.argv[1])):
    time.sleep(max(0.0, begun + number / 500 - time.monotonic()))
    print(f"{time.time():.6f}", flush=True)
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what was done, what came out, what was wanted."""

    work: str
    figure: str
    budget: str
    met: bool


async def timed(call: Callable[[], Awaitable[object]]) -> float:
    """Seconds that a call takes."""
    begun = time.perf_counter()
    await call()
    return time.perf_counter() - begun


async def rate(call: Callable[[], Awaitable[object]], callers: int, seconds: float) -> float:
    """Calls a second of so many callers at once."""
    done = 0
    end = time.perf_counter() + seconds

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await call()
            done += 1

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(callers):
            tasks.create_task(caller())
    return done / (time.perf_counter() - begun)


def middle(values: list[float]) -> float:
    """The median."""
    return statistics.median(values)


class Bench:
    """The measurements, one method a row of the table."""

    ROWS = (
        "interrupt_latency",
        "command_rate",
        "telemetry",
        # Before the floods: what those let go of would be taken again, and hide a growth.
        "idle_sessions",
        "idle_watchers",
        "fan_out",
        "sustained",
        "replay",
        "age",
        "line",
        "shim",
        "command_line",
    )

    def __init__(self, at: Stage) -> None:
        self.at = at
        self.sessions: pb_grpc.SessionServiceAsyncStub = pb_grpc.SessionServiceStub(at.channel)
        self.bare_call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = at.relay.unary_unary(CALL)
        self.bare_stream: grpc.aio.UnaryStreamMultiCallable[bytes, event_pb2.Event]
        self.bare_stream = at.relay.unary_stream(
            STREAM, response_deserializer=event_pb2.Event.FromString
        )
        self.started: set[str] = set()

    def ref(self, slug: str) -> session_pb2.SessionRef:
        """The session of a slug."""
        return session_pb2.SessionRef(slug=slug)

    async def start(self, slug: str, agent: str, host: str = "") -> None:
        """Start a session and wait until it is idle, if there is none."""
        if slug in self.started:
            return
        self.started.add(slug)
        await self.sessions.StartSession(
            pb.StartSessionRequest(slug=slug, agent=agent, host=host), metadata=self.at.metadata
        )
        while True:
            got = await self.sessions.GetSession(
                pb.GetSessionRequest(session=self.ref(slug)), metadata=self.at.metadata
            )
            if got.session.phase == session_pb2.PHASE_IDLE:
                return
            await asyncio.sleep(0.02)

    async def interrupt(self, slug: str, kept: float | None = None) -> None:
        """An Interrupt that finds no turn: durable at control, host and control again. `kept`: it
        belongs to a trace, which its caller wants kept with this probability."""
        metadata = self.at.metadata
        if kept is not None:
            flags = int(random.random() < kept)
            parent = f"00-{random.getrandbits(128):032x}-{random.getrandbits(64):016x}-{flags:02x}"
            metadata = (*metadata, ("traceparent", parent))
        await self.sessions.Interrupt(
            pb.InterruptRequest(session=self.ref(slug)), metadata=metadata
        )

    async def emit(self, slug: str, count: int, rate_wanted: float = 0) -> None:
        """Order events of the load host."""
        text = f"emit {count} {EVENT_SIZE} {rate_wanted}"
        await self.sessions.Send(
            pb.SendRequest(session=self.ref(slug), content=[content_pb2.Content(text=text)]),
            metadata=self.at.metadata,
        )

    async def watch(
        self, slug: str, after: int = 0
    ) -> AsyncGenerator[watch_pb2.WatchResponse, None]:
        """The batches of a session."""
        call = self.sessions.Watch(
            watch_pb2.WatchRequest(
                targets=[watch_pb2.WatchTarget(session=self.ref(slug), after_sequence=after)]
            ),
            metadata=self.at.metadata,
        )
        try:
            async for response in call:
                yield response
        finally:
            call.cancel()

    async def count(self, slug: str, wanted: int, after: int = 0) -> None:
        """Watch until so many events have come."""
        seen = 0
        async with aclosing(self.watch(slug, after)) as responses:
            async for response in responses:
                seen += len(response.events.events)
                if seen >= wanted:
                    return

    # --- the rows ---

    async def interrupt_latency(self) -> Row:
        """One caller."""
        await self.start("one", "shell")
        for _ in range(50):
            await self.interrupt("one")
            await self.bare_call(b"x")
        ours, bare, syncs = [], [], []
        with (self.at.place / "synced").open("wb") as file:
            for _ in range(500):
                ours.append(await timed(lambda: self.interrupt("one")))
                bare.append(await timed(lambda: self.bare_call(b"x")))
                syncs.append(synced(file))
        ratio = middle(ours) / middle(bare)
        figure = (
            f"{ratio:.2f} x bare (p50 {middle(ours) * 1e3:.2f} ms, bare {middle(bare) * 1e3:.2f},"
            f" 3 syncs {3 * middle(syncs) * 1e3:.2f})"
        )
        return Row("Interrupt, there and back, durable, p50", figure, "<= 2.0 x", ratio <= 2.0)

    async def command_rate(self) -> Row:
        """64 callers over 8 sessions."""
        slugs = [f"many-{number}" for number in range(8)]
        for slug in slugs:
            await self.start(slug, "shell")
        turn = iter(range(10**9))
        ours, bare = [], []
        for _ in range(ROUNDS):
            ours.append(await rate(lambda: self.interrupt(slugs[next(turn) % 8]), CALLERS, 3))
            bare.append(await rate(lambda: self.bare_call(b"x"), CALLERS, 2))
        ratio = middle([one / other for one, other in zip(ours, bare, strict=True)])
        figure = f"{ratio:.2f} x bare ({middle(ours):,.0f}/s, bare {middle(bare):,.0f}/s)"
        return Row("commands a second, 64 callers", figure, ">= 0.8 x", ratio >= 0.8)

    async def telemetry(self) -> list[Row]:
        """What it costs to tell a collector: metrics, and none, some or all of the traces."""
        rows = []
        async with telling(self.at) as (channel, metadata):
            other = Bench(replace(self.at, channel=channel, metadata=metadata))
            await self.start("one", "shell")
            await other.start("one", "shell")
            for work, kept, least in (
                ("metrics, and no trace is kept", 0.0, 0.75),
                ("metrics, and one trace of ten", 0.1, 0.75),
                ("metrics, and all traces", 1.0, 0.5),
            ):
                ratio, more = await self.compared(other, kept)
                figure = f"{ratio:.2f} x the rate without; a call by itself: {more * 1e6:+.0f} us"
                rows.append(Row(work, figure, f">= {least} x", ratio >= least))
        return rows

    async def compared(self, other: Bench, kept: float) -> tuple[float, float]:
        """Commands a second of another pair, as a ratio to this one's; and how many seconds longer
        a call takes there that is alone."""
        ratios, longer = [], []

        async def there() -> None:
            await other.interrupt("one", kept)

        async def here() -> None:
            await self.interrupt("one")

        for _ in range(ROUNDS):
            without = await rate(here, CALLERS, 3)
            ratios.append(await rate(there, CALLERS, 3) / without)
            ours = [await timed(here) for _ in range(200)]
            longer.append(middle([await timed(there) for _ in range(200)]) - middle(ours))
        return middle(ratios), middle(longer)

    async def fan_out(self) -> Row:
        """10 watchers of one session that is being written."""
        count = 100_000
        ours, bare = [], []
        for number in range(ROUNDS):
            slug = f"fan-{number}"
            await self.start(slug, "load", self.at.load_host)
            begun = time.perf_counter()
            async with asyncio.TaskGroup() as tasks:
                for _ in range(WATCHERS):
                    tasks.create_task(self.count(slug, count))
                await self.emit(slug, count)
            ours.append(WATCHERS * count / (time.perf_counter() - begun))
            few = count // 50
            begun = time.perf_counter()
            async with asyncio.TaskGroup() as tasks:
                for _ in range(WATCHERS):
                    tasks.create_task(self.drain_bare(few))
            bare.append(WATCHERS * few / (time.perf_counter() - begun))
        ratio = middle([one / other for one, other in zip(ours, bare, strict=True)])
        figure = f"{ratio:.1f} x bare ({middle(ours):,.0f}/s, bare {middle(bare):,.0f}/s)"
        return Row("Watch delivery, 10 watchers, 250 bytes", figure, ">= 20 x", ratio >= 20)

    async def drain_bare(self, count: int) -> None:
        """Read a bare stream to its end."""
        async for _ in self.bare_stream(f"{count} {EVENT_SIZE}".encode()):
            pass

    async def sustained(self) -> Row:
        """Host, durable log, watcher."""
        rates = []
        for number in range(ROUNDS):
            slug = f"flow-{number}"
            await self.start(slug, "load", self.at.load_host)
            count = 150_000
            begun = time.perf_counter()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.count(slug, count))
                await self.emit(slug, count)
            rates.append(count / (time.perf_counter() - begun))
        ours = middle(rates)
        figure = f"{ours:,.0f}/s"
        return Row("host -> durable log -> watcher", figure, ">= 50,000/s", ours >= 50_000)

    async def replay(self) -> Row:
        """A log of a million events, from its start."""
        await self.start("long", "load", self.at.load_host)
        await self.emit("long", MILLION)
        while True:
            got = await self.sessions.GetSession(
                pb.GetSessionRequest(session=self.ref("long")), metadata=self.at.metadata
            )
            if got.session.last_sequence >= MILLION:
                break
            await asyncio.sleep(0.1)
        rates = []
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            await self.count("long", MILLION)
            rates.append(MILLION / (time.perf_counter() - begun))
        ours = middle(rates)
        return Row("replay of a million", f"{ours:,.0f}/s", ">= 300,000/s", ours >= 300_000)

    async def age(self) -> Row:
        """How old an event is when a watcher has it, at 500 a second."""
        await self.start("pace", "load", self.at.load_host)
        await self.emit("pace", 3_000, 500)
        return await self.ages("pace", 3_000, "host has it -> watcher has it, 500/s")

    async def line(self) -> Row:
        """How old a line is when a watcher has it, at 500 a second, of a real shell."""
        await self.start("printer", "shell")
        program = self.at.place / "printer.py"
        program.write_text(PRINTER, encoding="utf-8")
        text = f"{sys.executable} {program} 3000"
        await self.sessions.Send(
            pb.SendRequest(session=self.ref("printer"), content=[content_pb2.Content(text=text)]),
            metadata=self.at.metadata,
        )
        return await self.ages("printer", 3_000, "agent prints -> watcher has it, 500/s")

    async def ages(self, slug: str, wanted: int, work: str) -> Row:
        """Watch so many outputs, whose lines begin with the time at which they were made."""
        ages: list[float] = []
        rest = ""
        async with aclosing(self.watch(slug)) as responses:
            async for response in responses:
                now = time.time()
                for event in response.events.events:
                    if event.WhichOneof("kind") == "tool_call_output":
                        # An event may end within a line.
                        *lines, rest = (rest + event.tool_call_output.text).split("\n")
                        ages += [now - float(line.split()[0]) for line in lines]
                if len(ages) >= wanted:
                    break
        ages = ages[wanted // 10 :]
        p50 = middle(ages) * 1e3
        p99 = statistics.quantiles(ages, n=100)[98] * 1e3
        figure = f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"
        return Row(work, figure, "p50 <= 5, p99 <= 50 ms", p50 <= 5 and p99 <= 50)

    async def idle_watchers(self) -> Row:
        """What an idle watch costs control."""
        await self.start("one", "shell")
        calls = []
        before, warm, number = 0, 50, 200
        for index in range(warm + number):
            if index == warm:  # what the first ones allocate is there for all
                before = resident(self.at.control_pid)
            call = self.sessions.Watch(
                watch_pb2.WatchRequest(
                    targets=[watch_pb2.WatchTarget(session=self.ref("one"), tail=1)],
                    kinds=[event_pb2.EVENT_KIND_SESSION_ENDED],
                ),
                metadata=self.at.metadata,
            )
            await call.read()
            calls.append(call)
        each = (resident(self.at.control_pid) - before) / number / 1024
        for call in calls:
            call.cancel()
        return Row("an idle watcher, on control", f"{each:.1f} KB", "<= 40 KB", each <= 40)

    async def idle_sessions(self) -> Row:
        """What an idle session costs control."""
        before, warm, number = 0, 100, 1000
        for index in range(warm + number):
            if index == warm:
                before = resident(self.at.control_pid)
            await self.sessions.StartSession(
                pb.StartSessionRequest(slug=f"idle-{index}", agent="load", host=self.at.load_host),
                metadata=self.at.metadata,
            )
        each = (resident(self.at.control_pid) - before) / number / 1024
        return Row("an idle session, on control", f"{each:.1f} KB", "<= 10 KB", each <= 10)

    async def shim(self) -> Row:
        """The largest shim of the sessions that are up."""
        await self.start("one", "shell")
        size = max(resident(pid) for pid in shims()) / 1e6
        return Row("a shim", f"{size:.1f} MB", "<= 15 MB", size <= 15)

    async def command_line(self) -> Row:
        """`bridle session interrupt`, the whole process."""
        await self.start("one", "shell")
        times = []
        for _ in range(15):
            begun = time.perf_counter()
            child = await asyncio.create_subprocess_exec(
                *(str(BIN / "bridle"), "session", "interrupt", "one"),
                env={"PATH": "/usr/bin:/bin", **self.at.environment},
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            if await child.wait() != 0:
                raise RuntimeError("bridle session interrupt failed")
            times.append(time.perf_counter() - begun)
        p50 = middle(times) * 1e3
        work = "`bridle session interrupt`, whole process"
        return Row(work, f"{p50:.0f} ms", "<= 200 ms", p50 <= 200)


async def main(rows: list[str]) -> None:
    """Measure all, print a table."""
    begun = time.perf_counter()
    async with stage() as at:
        bench = Bench(at)
        print(f"{'work':42} {'measured':62} {'budget':24} met", flush=True)
        for name in rows or Bench.ROWS:
            found = await getattr(bench, name)()
            for row in found if isinstance(found, list) else [found]:
                met = "yes" if row.met else "NO"
                print(f"{row.work:42} {row.figure:62} {row.budget:24} {met}", flush=True)
        others = f"{os.getloadavg()[0]:.1f} tasks on {os.cpu_count()} cores"
        print(f"in {time.perf_counter() - begun:.0f} s; the machine's load: {others}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
