"""What is sent has its effect once, in order, and its sender learns which, whatever breaks.

Real processes. Clients send through a proxy that resets their connections, the host's link goes
through another one, and control and the host service are killed with -9 meanwhile. The shells that
do the work live through all of it and write down what they truly got: that is the ledger.

`BRIDLE_SENDS=N` makes it a long one: so many Sends in each session.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from bridle import BridleError, Client
from bridle.errors import Code
from bridle.ids import uuid7
from bridle.v1 import receipt_pb2, session_pb2
from tests.pair import Pair, running_pair, until
from tests.robustness.fault_proxy import FaultProxy, fault_proxy
from tests.scenarios.support import NOT_RUN, RAN, check_order, log, reaches, turn_ends

SESSIONS = 4
#: Of each session at least; it goes on until all has been broken that is to be.
SENDS = int(os.environ.get("BRIDLE_SENDS", "25"))
#: Faults that must have been met, or nothing was tried.
RESETS_MIN = 20
SEED = int(os.environ.get("BRIDLE_SEED", "11"))
#: What dies by kill -9 on the way, in order.
KILLED = ("control", "host", "control", "host")
#: Seconds in which every Send has an outcome, once nothing breaks any more.
SETTLED = 60.0


class Sender:
    """One client of one session: sends in order, each until it has a receipt."""

    def __init__(self, client: Client, slug: str) -> None:
        self._client = client
        self._slug = slug
        #: request id → (number, all receipts that it was given).
        self.given: dict[str, tuple[int, list[receipt_pb2.Receipt]]] = {}
        self.failures = 0

    async def run(self, ledger: Path, enough: asyncio.Event) -> None:
        for number in itertools.count():
            if number >= SENDS and enough.is_set():
                return
            request_id = str(uuid7())
            self.given[request_id] = (number, [])
            await self.send(request_id, f"echo {number} >> {ledger}")

    async def send(self, request_id: str, line: str) -> None:
        while True:
            try:
                sent = await self._client.send(self._slug, line, request_id=request_id, timeout=2.0)
            except BridleError as error:
                if error.code not in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED):
                    raise
                self.failures += 1
                # (As a person would who has no other way than to ask again.)
                await asyncio.sleep(0.02)
                continue
            self.given[request_id][1].append(sent.receipt)
            return

    async def again(self, client: Client, ledger: Path) -> None:
        """Asks for every receipt once more."""
        for request_id, (number, receipts) in self.given.items():
            line = f"echo {number} >> {ledger}"
            sent = await client.send(self._slug, line, request_id=request_id)
            receipts.append(sent.receipt)


class Breaking:
    """What is broken, and how often it was."""

    def __init__(self, pair: Pair, proxies: Sequence[FaultProxy]) -> None:
        """`proxies`: before the clients' control, and before the host's."""
        self._pair = pair
        self._proxies = proxies
        self._chance = random.Random(SEED)
        self.count = {"resets": 0, "control": 0, "host": 0}
        #: Set when both services have died as often as they are to, and connections broke enough.
        self.killed = asyncio.Event()

    async def reset(
        self, proxy: FaultProxy, served: Callable[[], int], done: asyncio.Event
    ) -> None:
        """Resets all connections of a proxy every 50 to 500 ms; later where none served since the
        last time, or on a busy machine none ever would."""
        pause = 1.0
        while not done.is_set():
            before = served()
            await asyncio.sleep(pause * self._chance.uniform(0.05, 0.5))
            pause = 1.0 if served() > before else min(pause * 1.5, 10.0)
            proxy.reset_now()
            self.count["resets"] += 1

    async def kill(self) -> None:
        """Kills each service with -9, and starts it again."""
        for service in KILLED:
            await asyncio.sleep(self._chance.uniform(0.5, 1.5))
            if service == "control":
                await self._pair.restart_control()
            else:
                await self._pair.end_host(signal.SIGKILL)
                await self._pair.start_host()
            self.count[service] += 1
        await until(self._often, "connections break often enough")
        self.killed.set()

    async def _often(self) -> bool:
        # (A connection at least with each: what was reset has been in use.)
        least = min(proxy.resets for proxy in self._proxies)
        return self.count["resets"] >= RESETS_MIN and least >= RESETS_MIN // 4

    async def while_sending(
        self, senders: Mapping[str, Sender], ledgers: Mapping[str, Path]
    ) -> None:
        done = asyncio.Event()
        log = self._pair.log("host")
        served = (
            lambda: sum(len(sender.given) for sender in senders.values()),
            lambda: log.read_text().count("link is up"),
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(self.kill())
            for proxy, count in zip(self._proxies, served, strict=True):
                group.create_task(self.reset(proxy, count, done))
            async with asyncio.TaskGroup() as sending:
                for slug, sender in senders.items():
                    sending.create_task(sender.run(ledgers[slug], self.killed))
            done.set()


@pytest.mark.timeout(300 + SENDS)
async def test_every_send_takes_effect_once_in_order_and_all_answers_to_one_id_agree(
    tmp_path: Path,
) -> None:
    async with (
        running_pair(tmp_path, host=False) as pair,
        fault_proxy(pair.address, seed=SEED) as clients,
        fault_proxy(pair.address, seed=SEED) as link,
        Client(clients.address, token=pair.token) as shaky,
    ):
        pair.host_arguments = ("--control", link.address)
        await pair.start_host()
        senders = {slug: Sender(shaky, slug) for slug in (f"s{n}" for n in range(SESSIONS))}
        ledgers = {slug: pair.work / f"{slug}.ledger" for slug in senders}
        for slug in senders:
            await pair.client.start_session(slug, agent="shell")
            await reaches(pair, slug, session_pb2.PHASE_IDLE)
        pids = await shells(pair)
        breaking = Breaking(pair, [clients, link])
        await breaking.while_sending(senders, ledgers)
        for slug, sender in senders.items():
            await sender.again(pair.client, ledgers[slug])
            await check(pair, slug, sender, ledgers[slug])
        # Nobody's agent was killed: so nothing was allowed to be unknown, and nothing was.
        assert await shells(pair) == pids
        sends = sum(len(sender.given) for sender in senders.values())
        print(
            f"{sends} sends, {sum(s.failures for s in senders.values())} failed, {breaking.count}"
        )
        await pair.kill_all()


async def check(pair: Pair, slug: str, sender: Sender, ledger: Path) -> None:
    in_order = [number for number, _ in sender.given.values()]
    for _, receipts in sender.given.values():
        fixed = [
            (each.command_id, each.request_id, each.input_id, each.sequence, each.accept_time)
            for each in receipts
        ]
        assert len(receipts) >= 2
        assert all(each == fixed[0] for each in fixed), "one id had two receipts"
        async with asyncio.timeout(SETTLED):
            decided = await pair.client.wait(receipts[0])
        assert decided.outcome.state == RAN, decided
    got = [int(line) for line in (await asyncio.to_thread(ledger.read_text)).split()]
    assert got == in_order, f"{slug} got {got}"
    sequences = [receipts[0].sequence for _, receipts in sender.given.values()]
    assert sequences == sorted(sequences)
    check_order(await log(pair, slug))


async def shells(pair: Pair) -> dict[str, int]:
    """The pid of each session's agent; it has had one only."""
    found = {}
    async for session in pair.client.list_sessions():
        pids = [
            event.process_started.pid
            async for event in pair.client.list_events(session.slug)
            if event.WhichOneof("kind") == "process_started"
        ]
        found[session.slug] = pids[-1]
        assert len(pids) == 1, f"{session.slug} had {len(pids)} processes"
    return found


async def test_what_lay_before_a_host_that_stood_still_is_not_done_when_its_time_is_over(
    tmp_path: Path,
) -> None:
    """An input and an interrupt, both good for less long than the host stood still."""
    async with running_pair(tmp_path) as pair:
        ledger = pair.work / "ledger"
        for slug in ("idle", "busy"):
            await pair.client.start_session(slug, agent="shell")
            await reaches(pair, slug, session_pb2.PHASE_IDLE)
        await pair.client.send("busy", "sleep 1000.8101")
        await reaches(pair, "busy", session_pb2.PHASE_RUNNING)
        assert pair.host is not None
        pair.host.send_signal(signal.SIGSTOP)
        # Both wait in the socket: for less than what makes a link silent.
        sending = asyncio.ensure_future(
            pair.client.send("idle", f"echo late >> {ledger}", time_to_live=2.0)
        )
        with pytest.raises(BridleError) as withdrawn:
            await pair.client.interrupt("busy")
        assert withdrawn.value.reason == "HOST_UNREACHABLE"
        sent = (await sending).receipt
        # (Accepted late on a busy machine, it may have some of its time left.)
        over = sent.accept_time.ToNanoseconds() / 1e9 + 2.0

        async def too_late() -> bool:
            return time.time() > over

        await until(too_late, "the input's time is over")
        pair.host.send_signal(signal.SIGCONT)
        async with asyncio.timeout(SETTLED):
            decided = await pair.client.wait(sent)
        assert (decided.outcome.state, decided.outcome.reason) == (
            NOT_RUN,
            receipt_pb2.OUTCOME_REASON_EXPIRED,
        )
        # A turn of the one proves that the host has read on; the other's goes on.
        after = await pair.client.wait((await pair.client.send("idle", "echo on")).receipt)
        await turn_ends(pair, "idle", after.outcome.turn)
        assert not await asyncio.to_thread(ledger.exists)
        busy = await pair.client.get_session("busy")
        assert (busy.phase, busy.turn_open) == (session_pb2.PHASE_RUNNING, True)
        asked = await pair.client.get_command(withdrawn.value.metadata["command"])
        assert asked.outcome.state == NOT_RUN
        await pair.kill_all()
