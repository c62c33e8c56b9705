"""Measure, and print each figure beside its budget: `make bench`.

Every ratio is taken against bare grpc.aio in the same run, on the same machine, with the same
number of callers; absolute figures tell of the machine. See README.md for what each row means.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from bench.bare import CALL, STREAM
from bench.stage import BIN, Stage, stage
from bridle.v1 import content_pb2, event_pb2, session_pb2, watch_pb2
from bridle.v1 import session_service_pb2 as pb
from bridle.v1 import session_service_pb2_grpc as pb_grpc

CALLERS = 64
WATCHERS = 10
EVENT_SIZE = 250


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


class Bench:
    """The measurements, one method a row of the table."""

    def __init__(self, at: Stage) -> None:
        self.at = at
        self.sessions: pb_grpc.SessionServiceAsyncStub = pb_grpc.SessionServiceStub(at.channel)
        self.bare_call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = at.relay.unary_unary(CALL)
        self.bare_stream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = at.relay.unary_stream(
            STREAM
        )

    def ref(self, slug: str) -> session_pb2.SessionRef:
        """The session of a slug."""
        return session_pb2.SessionRef(slug=slug)

    async def start(self, slug: str, agent: str, host: str = "") -> None:
        """Start a session and wait until it is idle."""
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

    async def interrupt(self, slug: str) -> None:
        """An Interrupt that finds no turn: durable at control, host and control again."""
        await self.sessions.Interrupt(
            pb.InterruptRequest(session=self.ref(slug)), metadata=self.at.metadata
        )

    async def emit(self, slug: str, count: int, rate_wanted: float = 0) -> None:
        """Order events of the load host."""
        text = f"emit {count} {EVENT_SIZE} {rate_wanted}"
        await self.sessions.Send(
            pb.SendRequest(session=self.ref(slug), content=[content_pb2.Content(text=text)]),
            metadata=self.at.metadata,
        )

    async def watch(self, slug: str, after: int = 0) -> AsyncIterator[watch_pb2.WatchResponse]:
        """The batches of a session."""
        call = self.sessions.Watch(
            watch_pb2.WatchRequest(
                targets=[watch_pb2.WatchTarget(session=self.ref(slug), after_sequence=after)]
            ),
            metadata=self.at.metadata,
        )
        async for response in call:
            yield response

    async def count(self, slug: str, wanted: int, after: int = 0) -> None:
        """Watch until so many events have come."""
        seen = 0
        async for response in self.watch(slug, after):
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
        ours, bare = [], []
        for _ in range(500):
            ours.append(await timed(lambda: self.interrupt("one")))
            bare.append(await timed(lambda: self.bare_call(b"x")))
        ratio = statistics.median(ours) / statistics.median(bare)
        figure = (
            f"{ratio:.2f} x bare (p50 {statistics.median(ours) * 1e3:.2f} ms,"
            f" bare {statistics.median(bare) * 1e3:.2f} ms)"
        )
        return Row("Interrupt, there and back, durable, p50", figure, "<= 2.0 x", ratio <= 2.0)

    async def command_rate(self) -> Row:
        """64 callers over 8 sessions."""
        slugs = [f"many-{number}" for number in range(8)]
        for slug in slugs:
            await self.start(slug, "shell")
        turn = iter(range(10**9))
        ours = await rate(lambda: self.interrupt(slugs[next(turn) % 8]), CALLERS, 5)
        bare = await rate(lambda: self.bare_call(b"x"), CALLERS, 3)
        figure = f"{ours / bare:.2f} x bare ({ours:,.0f}/s, bare {bare:,.0f}/s)"
        return Row("commands a second, 64 callers", figure, ">= 0.8 x", ours / bare >= 0.8)

    async def fan_out(self) -> Row:
        """10 watchers of one session that is being written."""
        await self.start("fan", "load", self.at.load_host)
        count = 30_000
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(WATCHERS):
                tasks.create_task(self.count("fan", count))
            await self.emit("fan", count)
        ours = WATCHERS * count / (time.perf_counter() - begun)
        begun = time.perf_counter()

        async def drain() -> None:
            async for _ in self.bare_stream(f"{count // 10} {EVENT_SIZE}".encode()):
                pass

        async with asyncio.TaskGroup() as tasks:
            for _ in range(WATCHERS):
                tasks.create_task(drain())
        bare = WATCHERS * (count // 10) / (time.perf_counter() - begun)
        figure = f"{ours / bare:.1f} x bare ({ours:,.0f}/s, bare {bare:,.0f}/s)"
        return Row("Watch delivery, 10 watchers, 250 bytes", figure, ">= 20 x", ours / bare >= 20)

    async def sustained(self) -> Row:
        """Host, durable log, watcher."""
        await self.start("flow", "load", self.at.load_host)
        count = 300_000
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.count("flow", count))
            await self.emit("flow", count)
        ours = count / (time.perf_counter() - begun)
        return Row(
            "host -> durable log -> watcher", f"{ours:,.0f}/s", ">= 50,000/s", ours >= 50_000
        )

    async def replay(self) -> Row:
        """The log of the row before, from its start."""
        count = 300_000
        begun = time.perf_counter()
        await self.count("flow", count)
        ours = count / (time.perf_counter() - begun)
        return Row("replay", f"{ours:,.0f}/s", ">= 300,000/s", ours >= 300_000)

    async def age(self) -> Row:
        """How old an event is when a watcher has it, at 500 a second."""
        await self.start("pace", "load", self.at.load_host)
        ages: list[float] = []
        await self.emit("pace", 5_000, 500)
        async for response in self.watch("pace"):
            now = time.time()
            for event in response.events.events:
                if event.WhichOneof("kind") == "tool_call_output":
                    made = float(event.tool_call_output.text.split()[0])
                    ages.append(now - made)
            if len(ages) >= 5_000:
                break
        ages = ages[500:]
        p50 = statistics.median(ages) * 1e3
        p99 = statistics.quantiles(ages, n=100)[98] * 1e3
        met = p50 <= 5 and p99 <= 50
        figure = f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"
        return Row("host has it -> watcher has it, 500/s", figure, "p50 <= 5, p99 <= 50 ms", met)

    async def idle_watchers(self) -> Row:
        """What 500 idle watches cost control."""

        def resident() -> int:
            pages = Path(f"/proc/{self.at.control_pid}/statm").read_text(encoding="ascii")
            return int(pages.split()[1]) * 4096

        number = 200
        before = resident()
        calls = []
        for _ in range(number):
            call = self.sessions.Watch(
                watch_pb2.WatchRequest(
                    targets=[watch_pb2.WatchTarget(session=self.ref("one"), tail=1)],
                    kinds=[event_pb2.EVENT_KIND_SESSION_ENDED],
                ),
                metadata=self.at.metadata,
            )
            await call.read()
            calls.append(call)
        each = (resident() - before) / number / 1024
        for call in calls:
            call.cancel()
        return Row("an idle watcher, on control", f"{each:.0f} KB", "<= 40 KB", each <= 40)

    async def command_line(self) -> Row:
        """`bridle session interrupt`, the whole process."""
        times = []
        for _ in range(7):
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
        median = statistics.median(times) * 1e3
        return Row(
            "`bridle session interrupt`, whole process",
            f"{median:.0f} ms",
            "<= 200 ms",
            median <= 200,
        )


async def main() -> None:
    """Measure all, print a table."""
    async with stage() as at:
        bench = Bench(at)
        print(f"{'work':44} {'measured':46} {'budget':24} met")
        for measure in (
            bench.interrupt_latency,
            bench.command_rate,
            bench.fan_out,
            bench.sustained,
            bench.replay,
            bench.age,
            bench.idle_watchers,
            bench.command_line,
        ):
            row = await measure()
            met = "yes" if row.met else "NO"
            print(f"{row.work:44} {row.figure:46} {row.budget:24} {met}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
