"""Watch under stress: slow and stuck watchers, thousands of idle ones, floods of open and cancel.

Control is the real process, the events come over a real host link (the load host of `bench`). The
short forms are part of the tests; the figures of the long ones are taken so:

    WATCH_STRESS=full python -m pytest tests/robustness/test_watch_stress.py -s
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bench.machine import resident, synced
from grpc import aio

import bridle
from bridle.errors import from_rpc
from bridle.v1 import session_pb2, watch_pb2
from bridle.v1.session_service_pb2_grpc import SessionServiceStub
from tests.pair import Pair, running_pair, until
from tests.robustness.fault_proxy import FaultProxy, fault_proxy
from tests.support.event_log import Checked, Log, Recorder, check_log, validate
from tests.support.pace import paced

if TYPE_CHECKING:
    from bridle.v1.session_service_pb2_grpc import SessionServiceAsyncStub

FULL = os.environ.get("WATCH_STRESS") == "full"
#: Of the short forms each takes a few seconds.
pytestmark = pytest.mark.timeout(900 if FULL else 300)
MIB = 1024 * 1024
WATCH = "/bridle.v1.SessionService/Watch"
NEVER = watch_pb2.WATCH_UNTIL_NEVER
Metadata = tuple[tuple[str, str], ...]
Call = aio.UnaryStreamCall[watch_pb2.WatchRequest, watch_pb2.WatchResponse]


def told(text: str) -> None:
    """A figure of this run, for who runs it with -s."""
    print(f"\n  {text}", flush=True)


@asynccontextmanager
async def connected(address: str, *, narrow: bool = False) -> AsyncIterator[aio.Channel]:
    """A connection of its own: channels to one address share theirs, unless told. A `narrow` one
    takes 64 KiB that nobody reads, and then no more."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    if narrow:
        options += [("grpc.http2.lookahead_bytes", 64 * 1024), ("grpc.http2.bdp_probe", 0)]
    async with aio.insecure_channel(address, options) as channel:
        yield channel


class Stage:
    """Control, the load host and sessions of it."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.metadata: Metadata = (("authorization", f"Bearer {pair.token}"),)
        assert pair.control is not None
        self.control = pair.control.pid
        self.load_host = ""

    def memory(self) -> int:
        """What control has, in bytes."""
        return resident(self.control)

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.control}/fd"))

    async def session(self, slug: str) -> session_pb2.SessionRef:
        await self.pair.client.start_session(slug, agent="load", host=self.load_host)

        async def idle() -> bool:
            found = await self.pair.client.get_session(slug)
            return found.phase == session_pb2.PHASE_IDLE

        await until(idle, f"{slug} is idle")
        return session_pb2.SessionRef(slug=slug)

    async def emit(self, slug: str, count: int, size: int, rate: float) -> None:
        """Orders outputs that begin with the time at which they were made."""
        await self.pair.client.send(slug, f"emit {count} {size} {rate}")

    async def principals(self, count: int) -> list[Metadata]:
        """Tokens that each have a limit of watches of their own."""
        made = [await self.pair.client.create_token(f"t{n}", ["*"]) for n in range(count)]
        return [(("authorization", f"Bearer {each.secret}"),) for each in made]


@asynccontextmanager
async def staged(tmp_path: Path) -> AsyncIterator[Stage]:
    async with running_pair(tmp_path, host=False) as pair:
        stage = Stage(pair)
        join = tmp_path / "load-join"
        join.write_text((await pair.client.create_join_token()).join_token, encoding="utf-8")
        load = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.load_host", pair.address, str(join)),
            stdout=PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert load.stdout is not None
        try:
            async with asyncio.timeout(30):
                stage.load_host = (await load.stdout.readline()).decode().split()[-1]
            yield stage
        finally:
            load.kill()
            await load.communicate()


class Reader:
    """One raw Watch. Keeps the ages of what comes, and that nothing is left out or repeated."""

    def __init__(self, channel: aio.Channel, stage: Stage, ref: session_pb2.SessionRef) -> None:
        request = watch_pb2.WatchRequest(targets=[watch_pb2.WatchTarget(session=ref)], until=NEVER)
        self._call = channel.unary_stream(
            WATCH,
            request_serializer=watch_pb2.WatchRequest.SerializeToString,
            response_deserializer=watch_pb2.WatchResponse.FromString,
        )(request, metadata=stage.metadata)
        self.cursor = 0
        self.ages: list[float] = []
        self.recorder: Recorder | None = None

    def record(self, session_id: str) -> Recorder:
        self.recorder = Recorder()
        self.recorder.opened({session_id: 0})
        return self.recorder

    async def read(self) -> None:
        """One message."""
        response = await self._call.read()
        assert isinstance(response, watch_pb2.WatchResponse), await self._call.details()
        if self.recorder is not None:
            self.recorder.said(response)
        events = response.events.events
        if not events:
            return
        first, last = events[0], events[-1]
        assert first.sequence == self.cursor + 1
        assert last.sequence == self.cursor + len(events)
        self.cursor = last.sequence
        if last.WhichOneof("kind") == "tool_call_output":
            self.ages.append(time.time() - float(last.tool_call_output.text[:19]))

    async def until(self, sequence: int) -> None:
        while self.cursor < sequence:
            await self.read()

    async def crawl(self, sequence: int, pause: float, over: asyncio.Event) -> None:
        """A message now and then, until `over`. It is told, not cancelled: gRPC would end the call
        of whoever is cancelled while it reads."""
        while self.cursor < sequence and not over.is_set():
            await self.read()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await over.wait()

    def cancel(self) -> None:
        self._call.cancel()


async def watch_memory(stage: Stage, peaks: list[int]) -> None:
    while True:
        peaks.append(stage.memory())
        await asyncio.sleep(0.2)


@dataclass
class Machine:
    """What the machine itself makes everybody wait for meanwhile: its disk, its processors. In
    seconds, the longest of each."""

    place: Path
    sync: float = 0.0
    turn: float = 0.0

    async def watch_disk(self) -> None:
        with (self.place / "synced").open("wb") as file:
            while True:
                self.sync = max(self.sync, await asyncio.to_thread(synced, file))
                await asyncio.sleep(0.05)

    async def watch_turns(self) -> None:
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0.01)
            self.turn = max(self.turn, time.monotonic() - begun - 0.01)

    def __str__(self) -> str:
        return f"slowest sync {self.sync * 1e3:.0f} ms, longest turn {self.turn * 1e3:.0f} ms"


async def test_ten_stuck_or_slow_watchers_of_fifty_slow_nobody_and_lose_nothing(
    tmp_path: Path,
) -> None:
    """1,000 events a second; the others' p99 is at most 500 ms, control grows by at most 64 MB."""
    seconds = 60 if FULL else 6
    rate, size = 1000, 400
    count = rate * seconds
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(staged(tmp_path))
        ref = await stage.session("busy")
        session_id = (await stage.pair.client.get_session("busy")).session_id
        head = (await stage.pair.client.get_session("busy")).last_sequence

        async def readers(channels: int, each: int) -> list[Reader]:
            made = []
            for _ in range(channels):
                channel = await stack.enter_async_context(
                    connected(stage.pair.address, narrow=each == 1)
                )
                made += [Reader(channel, stage, ref) for _ in range(each)]
            return made

        # Slow ones are programs of their own: no connection is shared with them.
        stuck, slow, quick = await readers(5, 1), await readers(5, 1), await readers(4, 10)
        recorded = [*stuck, *slow, *quick[:2]]
        recorders = [each.record(session_id) for each in recorded]
        for reader in (*stuck, *slow, *quick):
            await reader.until(head)
        before = stage.memory()
        peaks = [before]
        last = head + count + 1  # and the InputQueued
        async with asyncio.TaskGroup() as tasks:
            machine = Machine(tmp_path)
            looking = [
                tasks.create_task(each)
                for each in (
                    watch_memory(stage, peaks),
                    machine.watch_disk(),
                    machine.watch_turns(),
                )
            ]
            over = asyncio.Event()
            for each in slow:
                # (Not to the end: where all take their time, they would be there with the others.)
                tasks.create_task(each.crawl(head + count // 2, 1.0, over))
            await stage.emit("busy", count, size, rate)
            async with asyncio.timeout(seconds * 2 + 20), asyncio.TaskGroup() as reading:
                for reader in quick:
                    reading.create_task(reader.until(last))
            # All is over; who was behind catches up, from the very place where it stood.
            assert all(each.cursor == head for each in stuck)
            assert all(each.cursor < last for each in slow)
            over.set()
            for task in looking:
                task.cancel()
        async with asyncio.timeout(60), asyncio.TaskGroup() as catching_up:
            for reader in (*stuck, *slow):
                catching_up.create_task(reader.until(last))
        assert {each.cursor for each in (*stuck, *slow, *quick)} == {last}

        events = [event async for event in stage.pair.client.list_events("busy")]
        log = Log.of(session_id, "", events)
        checked = Checked()
        for recorder in recorders:
            log.log_id = recorder.of(session_id).log_id
            checked += validate(log, recorder, complete=True)
        check_numbers(log)
        assert checked.events >= count * len(recorders)
        ages = sorted(age for reader in quick for age in reader.ages)
        p50, p99 = statistics.median(ages), ages[int(len(ages) * 0.99)]
        grown = (max(peaks) - before) / MIB
        told(
            f"{count} events at {rate}/s to 40 quick watchers beside 5 stuck and 5 slow ones:"
            f" p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms, max {ages[-1] * 1e3:.0f} ms;"
            f" control {before / MIB:.0f} MiB +{grown:.1f} MiB ({machine})"
        )
        assert len(ages) > 40 * seconds  # they were there while it went on
        # (What the machine itself made everybody wait for is not the watchers' doing.)
        assert p99 <= paced(0.5) + machine.sync + machine.turn
        assert grown <= 64


def check_numbers(log: Log) -> None:
    """The load host writes no turns, so it isn't held against the order table."""
    plain = Log(log.session_id, log.log_id, log.floor, log.head, log.events[:3])
    check_log(plain)
    assert [event.sequence for event in log.events] == list(range(log.floor, log.head + 1))


async def test_thousands_of_idle_watchers_cost_little_and_hear_what_comes(tmp_path: Path) -> None:
    """At most 40 KB each; one more than a principal may hold is TOO_MANY_WATCHES."""
    principals = 16 if FULL else 8
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(staged(tmp_path))
        ref = await stage.session("quiet")
        request = watch_pb2.WatchRequest(
            targets=[watch_pb2.WatchTarget(session=ref, tail=0)], until=NEVER
        )
        calls: list[Call] = []
        before, counted = 0, 0
        for number, metadata in enumerate(await stage.principals(principals)):
            channel = await stack.enter_async_context(connected(stage.pair.address))
            stub: SessionServiceAsyncStub = SessionServiceStub(channel)
            if number == 1:  # what the first ones allocate is there for all
                before, counted = stage.memory(), len(calls)
            for _ in range(256):
                call = stub.Watch(request, metadata=metadata)
                first = await call.read()
                assert isinstance(first, watch_pb2.WatchResponse)
                calls.append(call)
            with pytest.raises(bridle.TooManyWatchesError) as refused:
                await raising(stub.Watch(request, metadata=metadata))
            assert refused.value.metadata["limit"] == "256"
        each = (stage.memory() - before) / (len(calls) - counted) / 1024
        told(f"{len(calls)} idle watchers: {each:.1f} KiB each")
        assert each <= 40
        begun = time.monotonic()
        await stage.emit("quiet", 1, 100, 0)
        for call in calls:
            kinds: list[str | None] = []
            while "tool_call_output" not in kinds:
                async with asyncio.timeout(30):
                    response = await call.read()
                assert isinstance(response, watch_pb2.WatchResponse)
                kinds += [event.WhichOneof("kind") for event in response.events.events]
        told(f"all of them had an event after {time.monotonic() - begun:.2f} s")
        for call in calls:
            call.cancel()


async def raising(
    call: aio.UnaryStreamCall[watch_pb2.WatchRequest, watch_pb2.WatchResponse],
) -> None:
    """Reads until the call fails, with the SDK's error."""
    try:
        async for _ in call:
            pass
    except aio.AioRpcError as error:
        raise from_rpc(error, "") from None


async def test_watches_that_are_opened_and_cancelled_leave_nothing_on_control(
    tmp_path: Path,
) -> None:
    """grpc#43360: a handler that swallows its cancellation leaks with each. After a warm-up control
    grows by at most 30 MB over all of them, its descriptors not at all; no watch stays counted."""
    warm, number = (2000, 20_000) if FULL else (500, 2500)
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(staged(tmp_path))
        ref = await stage.session("flood")
        await stage.emit("flood", 500, 400, 0)
        channel = await stack.enter_async_context(connected(stage.pair.address))
        stub: SessionServiceAsyncStub = SessionServiceStub(channel)
        request = watch_pb2.WatchRequest(
            targets=[watch_pb2.WatchTarget(session=ref)], until=NEVER, live_text=True
        )

        async def flood(count: int) -> None:
            """Some are cancelled at once, some after the first message, some in the replay."""
            for index in range(count):
                call = stub.Watch(request, metadata=stage.metadata)
                for _ in range(index % 4):
                    await call.read()
                call.cancel()
                if index % 100 == 0:
                    await stage.pair.client.who_am_i()

        async def four(count: int) -> None:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(4):
                    tasks.create_task(flood(count // 4))

        await four(warm)
        before, descriptors = stage.memory(), stage.descriptors()
        begun = time.monotonic()
        await four(number)
        took = time.monotonic() - begun
        grown = (stage.memory() - before) / MIB
        told(f"{number} watches opened and cancelled in {took:.1f} s: control +{grown:.1f} MiB")
        assert grown <= (30 if FULL else 15)
        assert stage.descriptors() <= descriptors
        # None of them is counted any more: the principal may hold as many as ever.
        held = []
        for _ in range(256):
            call = stub.Watch(request, metadata=stage.metadata)
            assert isinstance(await call.read(), watch_pb2.WatchResponse)
            held.append(call)
        for call in held:
            call.cancel()


#: What reconnects: a program of its own, so that its memory and descriptors are nobody else's.
RECONNECTOR = """
import asyncio, os, sys
import bridle
from bridle.retry import Backoff, RetryPolicy
from bridle.v1 import watch_pb2
from bridle.watching import Connected

def standing():
    fields = open("/proc/self/statm").read().split()
    return int(fields[1]) * 4096, len(os.listdir("/proc/self/fd"))

async def main(address, token, warm, number):
    retry = RetryPolicy(backoff=Backoff(first=0.001, most=0.002))
    async with bridle.Client(address, token=token, retry=retry) as client:
        watch = client.watch("away", until=watch_pb2.WATCH_UNTIL_NEVER)
        connections = 0
        async with watch:
            async for update in watch.updates():
                if isinstance(update.item, Connected):
                    connections += 1
                    if connections in (warm, warm + number):
                        print(connections, *standing(), watch.cursor, flush=True)
                    if connections == warm + number:
                        return
                    print("cut", flush=True)

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
"""


async def test_the_sdk_leaks_nothing_when_its_watch_reconnects(tmp_path: Path) -> None:
    """grpc#38499: a stream that is made while nobody answers leaks in the client. Each connection
    is reset, and for a while after each tenth one nobody answers."""
    warm, number = (500, 5000) if FULL else (40, 100)
    async with staged(tmp_path) as stage, fault_proxy(stage.pair.address, seed=1) as proxy:
        await stage.session("away")
        await stage.emit("away", 10, 100, 0)
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", RECONNECTOR),
            *(proxy.address, stage.pair.token, str(warm), str(number)),
            stdout=PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert child.stdout is not None
        standings = []
        cuts = 0
        try:
            async with asyncio.timeout(600 if FULL else 60):
                while line := (await child.stdout.readline()).decode().split():
                    if line == ["cut"]:
                        cuts += 1
                        if cuts % 10 == 0:
                            await nobody_answers(proxy)
                        else:
                            proxy.reset_now()
                    else:
                        standings.append([int(word) for word in line])
                assert await child.wait() == 0
        finally:
            if child.returncode is None:
                child.kill()
            await child.communicate()
        (_, before, descriptors, cursor), (_, after, later, same) = standings
        grown = (after - before) / MIB
        told(
            f"{number} reconnects: the SDK's process +{grown:.2f} MiB, {descriptors} -> {later} fds"
        )
        assert cuts == warm + number - 1
        assert later <= descriptors + 2
        assert grown <= (20 if FULL else 6)
        assert cursor == same  # nothing came twice: the cursor stands at the end


async def nobody_answers(proxy: FaultProxy) -> None:
    """Until the client has tried twice in vain."""
    proxy.refuse()
    before = proxy.refused

    async def tried() -> bool:
        return proxy.refused >= before + 2

    await until(tried, "the client dials again")
    proxy.heal()
