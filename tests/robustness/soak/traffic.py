"""The clients of a soak: they start sessions and steer them, and keep account of every request.

Each request is made again with its id until it is answered, however often the connection breaks;
some are made once more although they were answered. What was asked, and what was said about it, is
kept in an `Op` each, for the verdict.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

from bridle import Client
from bridle.errors import BridleError
from bridle.ids import uuid7
from bridle.retry import RetryPolicy
from bridle.v1 import event_pb2, input_pb2, receipt_pb2, session_pb2
from tests.robustness.soak.agents import scripted_script, shell_script
from tests.robustness.soak.world import World

#: Seconds for which a request is repeated that nobody answers.
GIVE_UP = 120.0
#: Requests of one client under way at once; more would only wait for the same machine.
AT_ONCE = 16
#: Reasons after which the same request may be sent again, beside failures without any.
AGAIN = frozenset({"SHUTTING_DOWN", "NO_HOST", "RATE_LIMITED"})

LIVE = frozenset(
    {
        session_pb2.PHASE_STARTING,
        session_pb2.PHASE_IDLE,
        session_pb2.PHASE_RUNNING,
        session_pb2.PHASE_WAITING,
        session_pb2.PHASE_STOPPING,
    }
)

#: How often each verb is chosen.
VERBS = {
    "send": 74,
    "steer": 7,
    "now": 4,
    "interrupt": 6,
    "cancel": 3,
    "respond": 4,
    "stop": 1,
    "kill": 1,
}


class Answer(Protocol):
    """Every answer of a verb."""

    @property
    def receipt(self) -> receipt_pb2.Receipt: ...


@dataclass
class Subject:
    """A session, and who works in it."""

    number: int
    slug: str
    agent: str
    session_id: str = ""


@dataclass
class Op:
    """One request, and what became of it."""

    number: int
    verb: str
    subject: Subject
    request_id: str
    at: float
    key: str = ""
    attempts: int = 0
    #: The first answer.
    receipt: receipt_pb2.Receipt | None = None
    #: The reason, where it was refused; "GAVE_UP" where nobody answered.
    refused: str = ""
    #: As GetCommand tells it in the end; None: not known to control.
    final: receipt_pb2.Receipt | None = None

    @property
    def session_id(self) -> str:
        return self.subject.session_id


@dataclass
class Traffic:
    """See the module."""

    world: World
    ops: list[Op] = field(default_factory=list)
    subjects: list[Subject] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=lambda: count(1))
    _stopped: asyncio.Event = field(default_factory=asyncio.Event)

    # --- one request ---------------------------------------------------------------------------

    async def commit(
        self,
        verb: str,
        subject: Subject,
        call: Callable[[str], Awaitable[Answer]],
        *,
        key: str = "",
        again: bool = False,
    ) -> Op:
        """Makes a request until it is answered; with `again` once more, to get the same."""
        op = Op(next(self._numbers), verb, subject, str(uuid7()), self.world.now, key)
        self.ops.append(op)
        while not op.refused:
            op.attempts += 1
            try:
                op.receipt = (await call(op.request_id)).receipt
                break
            except BridleError as error:
                may_repeat = not error.reason or error.reason in AGAIN
                if error.reason == "HOST_UNREACHABLE" and verb in ("start", "resume"):
                    may_repeat = True  # nothing was written
                if not may_repeat:
                    op.refused = error.reason
                elif self.world.now - op.at > GIVE_UP:
                    op.refused = "GAVE_UP"
                else:
                    await asyncio.sleep(0.2)
        if again and op.receipt is not None:
            await self._repeat(op, call)
        return op

    async def _repeat(self, op: Op, call: Callable[[str], Awaitable[Answer]]) -> None:
        assert op.receipt is not None
        try:
            second = (await call(op.request_id)).receipt
        except BridleError as error:
            # Nobody answered, or an interrupt that is withdrawn by now.
            if error.reason not in ("", "HOST_UNREACHABLE", *AGAIN):
                self.world.complain(f"op {op.number} {op.verb}: a repeat was refused: {error}")
            return
        first = receipt_pb2.Receipt()
        first.CopyFrom(op.receipt)
        second = _copy(second)
        first.ClearField("outcome")
        second.ClearField("outcome")
        if first != second:
            self.world.complain(f"op {op.number} {op.verb}: a repeat got another receipt")

    # --- sessions ------------------------------------------------------------------------------

    async def start_sessions(self) -> None:
        """All of the shape's sessions, spread over the hosts."""
        shape, at_once = self.world.shape, asyncio.Semaphore(6)

        async def start(subject: Subject) -> None:
            async with at_once:
                await self._start(client, subject)

        async with (
            Client(self.world.address, token=self.world.token) as client,
            asyncio.TaskGroup() as tasks,
        ):
            for number in range(shape.sessions):
                agent = ("shell", "scripted")[number % 2]
                subject = Subject(number, f"s{number:03}", agent)
                self.subjects.append(subject)
                tasks.create_task(start(subject))
        self.world.sessions = [subject.session_id for subject in self.subjects]

    async def _start(self, client: Client, subject: Subject) -> None:
        world = self.world
        work = world.work(subject.slug)
        work.mkdir(parents=True)
        os.mkfifo(work / "pause")
        command = f"ledger {work}/ledger" if subject.agent == "scripted" else ""
        host = world.hosts[subject.number % len(world.hosts)].name

        async def call(request_id: str) -> Answer:
            answer = await client.start_session(
                subject.slug,
                agent=subject.agent,
                agent_command=command,
                directory=str(work),
                host=host,
                request_id=request_id,
            )
            subject.session_id = answer.session.session_id
            return answer

        op = await self.commit("start", subject, call)
        if op.refused:
            raise RuntimeError(f"{subject.slug} was not started: {op.refused}")

    # --- clients -------------------------------------------------------------------------------

    def stop(self) -> None:
        """No new requests; those under way are finished."""
        self._stopped.set()

    async def run(self) -> None:
        """All clients, until `stop`."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(self.world.shape.clients):
                tasks.create_task(self._client(number), name=f"client-{number}")

    async def _client(self, number: int) -> None:
        shape, proxies = self.world.shape, self.world.client_proxies
        chance = random.Random(f"client/{shape.seed}/{number}")
        # Half of them leave repeating to the SDK as well.
        retry = RetryPolicy() if number % 2 else RetryPolicy(attempts=1)
        proxy = proxies[number % len(proxies)]
        room = asyncio.Semaphore(AT_ONCE)
        async with (
            Client(proxy.address, token=self.world.token, retry=retry) as client,
            asyncio.TaskGroup() as tasks,
        ):
            while not self._stopped.is_set():
                await room.acquire()
                doing = tasks.create_task(self._one(client, chance))
                doing.add_done_callback(lambda _: room.release())
                pause = chance.expovariate(shape.rate / shape.clients)
                await _sleep(self._stopped, pause)

    async def _one(self, client: Client, chance: random.Random) -> None:
        """One request of a random kind, and what naturally follows."""
        subject = chance.choice(self.subjects)
        verb = chance.choices(list(VERBS), list(VERBS.values()))[0]
        again, timeout = chance.random() < 0.1, chance.choice((2.0, 5.0, 8.0))
        caller = Caller(self, client, subject, timeout, again)
        try:
            if verb in ("send", "steer", "now"):
                await caller.send(verb, chance)
            elif verb == "respond":
                await caller.respond(chance)
            elif verb == "cancel":
                await caller.cancel()
            else:
                await caller.end_something(verb)
        except BridleError as error:
            # Of reads, which nobody repeats here.
            if error.reason:
                self.world.complain(f"{verb} on {subject.slug}: {error!r}")

    def new_key(self) -> str:
        return f"k{next(self._numbers)}"


@dataclass
class Caller:
    """One client at one session."""

    traffic: Traffic
    client: Client
    subject: Subject
    timeout: float
    again: bool

    async def _commit(self, verb: str, call: Callable[[str], Awaitable[Any]], key: str = "") -> Op:
        return await self.traffic.commit(verb, self.subject, call, key=key, again=self.again)

    async def send(self, verb: str, chance: random.Random) -> None:
        """An input; a session that has ended is resumed by it or before it."""
        key = self.traffic.new_key()
        scripted = self.subject.agent == "scripted"
        text = scripted_script(key, chance) if scripted else shell_script(key, chance)
        mode = {
            "send": input_pb2.INPUT_MODE_QUEUE,
            "steer": input_pb2.INPUT_MODE_STEER,
            "now": input_pb2.INPUT_MODE_NOW,
        }[verb]
        resume = chance.random() < 0.5
        op = await self._commit(
            verb,
            lambda request_id: self.client.send(
                self.subject.slug,
                text,
                mode=mode,
                or_queue=True,
                resume_if_ended=resume,
                request_id=request_id,
                timeout=self.timeout,
            ),
            key,
        )
        if op.refused == "SESSION_ENDED":
            await self.resume()

    async def resume(self) -> Op:
        return await self._commit(
            "resume",
            lambda request_id: self.client.resume(
                self.subject.slug, request_id=request_id, timeout=self.timeout
            ),
        )

    async def end_something(self, verb: str) -> Op:
        """Interrupt, Stop or Kill."""
        calls: dict[str, Callable[..., Awaitable[Any]]] = {
            "interrupt": self.client.interrupt,
            "stop": self.client.stop,
            "kill": self.client.kill,
        }
        return await self._commit(
            verb,
            lambda request_id: calls[verb](
                self.subject.slug, request_id=request_id, timeout=self.timeout
            ),
        )

    async def cancel(self) -> None:
        """The last input that waits, if any does."""
        found = self.client.list_inputs(self.subject.slug, "state = WAITING")
        waiting = [each.input_id async for each in found]
        if waiting:
            await self._commit(
                "cancel",
                lambda request_id: self.client.cancel_input(
                    self.subject.slug, waiting[-1], request_id=request_id, timeout=self.timeout
                ),
            )

    async def respond(self, chance: random.Random) -> None:
        """To any session that asks."""
        asking = [
            each async for each in self.client.list_sessions("live = true") if each.open_approvals
        ]
        if not asking:
            return
        session = chance.choice(asking)
        by_slug = {subject.slug: subject for subject in self.traffic.subjects}
        self.subject = by_slug[session.slug]
        decision = chance.choice(
            (event_pb2.APPROVAL_DECISION_ALLOW, event_pb2.APPROVAL_DECISION_DENY)
        )
        await self._commit(
            "respond",
            lambda request_id: self.client.respond(
                self.subject.slug,
                session.open_approvals[0],
                decision,
                request_id=request_id,
                timeout=self.timeout,
            ),
        )


def _copy(receipt: receipt_pb2.Receipt) -> receipt_pb2.Receipt:
    copied = receipt_pb2.Receipt()
    copied.CopyFrom(receipt)
    return copied


async def _sleep(stopped: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stopped.wait()
    except TimeoutError:
        pass
