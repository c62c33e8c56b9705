"""A simulated story: a control, two or three hosts, callers, and faults, all from one seed.

    told = simulate(7)                  # everything stops being broken at some moment: LIVENESS
    told = simulate(7, liveness=False)  # faults to the end: only the laws are looked at: SAFETY
    told.hash, told.trace

The laws hold after every step: a step is a commit of control, or an input that an agent gets.

1. A session's numbers have no gap, and its log keeps to the order table.
2. No agent gets an input twice, whoever runs the session by then.
3. What a receipt once said does not change, but that a withdrawn interrupt may have run after all.
4. No session has two live agents, unless its host was given up by force.

And once the faults are over: within 60 virtual seconds every session rests, every command is
decided and agrees with what the agents got, all hosts are linked with empty journals, and every
word of an agent that nothing cut off stands in the log, in its order.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from bridle.v1 import content_pb2, event_pb2, input_pb2, receipt_pb2, session_pb2
from bridle.v1 import session_service_pb2 as pb
from bridle_control.ids import uuid7
from bridle_control.store.api import Changes
from bridle_control.store.event_bytes import unframe
from bridle_core.errors import BridleError
from bridle_core.ordering import OrderChecker
from tests.robustness.simulation.control import Control
from tests.robustness.simulation.host import Host
from tests.robustness.simulation.network import LinkDownError
from tests.robustness.simulation.virtual import run
from tests.support.event_order import feed_event

PENDING = receipt_pb2.OUTCOME_STATE_PENDING
RAN = receipt_pb2.OUTCOME_STATE_RAN
NOT_RUN = receipt_pb2.OUTCOME_STATE_NOT_RUN
UNKNOWN = receipt_pb2.OUTCOME_STATE_UNKNOWN
#: Virtual seconds of faults, and those within which all must have healed.
STORM, HEALING = 40.0, 60.0
SESSIONS, CALLERS = 3, 3

LIVE_PHASES = frozenset(
    {
        session_pb2.PHASE_STARTING,
        session_pb2.PHASE_IDLE,
        session_pb2.PHASE_RUNNING,
        session_pb2.PHASE_WAITING,
        session_pb2.PHASE_STOPPING,
    }
)


class LawBrokenError(AssertionError):
    """A law does not hold; the text says which, and when."""


@dataclass
class Told:
    """What a simulation came to."""

    seed: int
    trace: list[str]
    events: int = 0
    inputs: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def hash(self) -> str:
        """The same for the same seed."""
        return blake2b("\n".join(self.trace).encode(), digest_size=8).hexdigest()


@dataclass
class Asked:
    """A request of a caller, and what it was told."""

    verb: str
    slug: str
    request_id: str
    key: str = ""
    receipt: receipt_pb2.Receipt | None = None
    refused: str = ""
    #: Whether the end has been read from control, once the faults were over.
    settled: bool = False


def simulate(seed: int, *, liveness: bool = True, storm: float = STORM) -> Told:
    """Runs the story of a seed, with so many seconds of faults. Raises LawBrokenError."""

    async def story() -> Told:
        return await Story(seed).tell(liveness, storm)

    return run(seed, story)


class Story:
    """See the module."""

    def __init__(self, seed: int) -> None:
        self.told = Told(seed, [])
        self._chance = random.Random(f"story/{seed}")
        self._broken: list[str] = []
        self._begin = asyncio.get_running_loop().time()
        self._checkers: dict[str, OrderChecker] = {}
        self._heads: dict[str, int] = {}
        self._said: dict[str, list[str]] = {}
        self._got: Counter[tuple[str, str]] = Counter()
        self._outcomes: dict[str, tuple[int, int]] = {}
        self._names: dict[str, str] = {}
        self._asked: list[Asked] = []
        self._numbers = 0
        self._over = False
        self._forced: set[str] = set()
        self.control = Control(self._dice("control"), self._committed)
        self.hosts: list[Host] = []

    def _dice(self, name: str) -> random.Random:
        return random.Random(f"{name}/{self.told.seed}")

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time() - self._begin

    def _note(self, text: str) -> None:
        self.told.trace.append(f"{self.now:.6f} {text}")

    def _break(self, text: str) -> None:
        self._note(f"BROKEN {text}")
        self._broken.append(f"seed {self.told.seed}, at {self.now:.3f}: {text}")

    # --- the story -----------------------------------------------------------------------------

    async def tell(self, liveness: bool, storm: float = STORM) -> Told:
        self.control.start()
        for number in range(self._chance.choice((2, 2, 3))):
            name = f"h{number}"
            host_id = await self.control.enrol(name)
            host = Host(name, host_id, self.control, self._dice(name), self._heard)
            self.hosts.append(host)
            host.start()
        await self._until(lambda: len(self.control.links.live_hosts()) == len(self.hosts), 30.0)
        callers = [
            asyncio.create_task(self._caller(self._dice(f"caller{number}")))
            for number in range(CALLERS)
        ]
        await self._storm(self._dice("storm"), storm)
        self._over = True
        if liveness:
            await self._heal()
            await self._await_callers(callers)
            await self._come_to_rest()
            self._account()
        for task in callers:
            task.cancel()
        for host in self.hosts:
            host.kill()
        self.control.kill()
        self.told.seconds = self.now
        self._look()
        return self.told

    def _look(self) -> None:
        if self._broken:
            raise LawBrokenError("\n".join(self._broken[:10]))

    async def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        end = self.now + seconds
        while not condition():
            if self.now > end:
                return False
            await asyncio.sleep(0.05)
        return True

    # --- faults --------------------------------------------------------------------------------

    async def _storm(self, dice: random.Random, seconds: float) -> None:
        end = self.now + seconds
        faults: dict[str, tuple[int, Callable[[random.Random], Awaitable[None] | None]]] = {
            "control-kill": (3, self._kill_control),
            "host-kill": (4, self._kill_host),
            "cut": (4, self._cut),
            "stall": (3, self._stall),
            "latency": (2, self._slow),
            "agent-crash": (2, self._crash_agent),
            "power": (1, self._power),
            "journal-lost": (1, self._lose_journal),
            "clock": (1, self._turn_clock),
        }
        names = list(faults)
        while self.now < end:
            await asyncio.sleep(dice.expovariate(1 / 2.5))
            name = dice.choices(names, [weight for weight, _ in faults.values()])[0]
            self._note(f"fault {name}")
            self.told.faults[name] += 1
            doing = faults[name][1](dice)
            if doing is not None:
                await doing
            self._look()

    async def _kill_control(self, dice: random.Random) -> None:
        self.control.kill()
        await asyncio.sleep(dice.choice((0.0, 0.5, 3.0)))
        self.control.start()

    async def _kill_host(self, dice: random.Random) -> None:
        host = dice.choice(self.hosts)
        host.kill()
        await asyncio.sleep(dice.choice((0.0, 0.0, 1.0, 12.0)))
        host.start()

    def _cut(self, dice: random.Random) -> None:
        stream = dice.choice(self.hosts).stream
        told = dice.choice(((True, True), (True, False), (False, True), (False, False)))
        if stream is not None:
            stream.cut(tell_host=told[0], tell_control=told[1])

    def _stall(self, dice: random.Random) -> None:
        stream = dice.choice(self.hosts).stream
        if stream is not None:
            stream.stall()
            seconds = dice.choice((0.5, 3.0, 10.0, 20.0))
            asyncio.get_running_loop().call_later(seconds, stream.go_on)

    def _slow(self, dice: random.Random) -> None:
        self.control.latency = dice.choice((0.001, 0.005, 0.05, 0.3))
        for host in self.hosts:
            if host.stream is not None:
                host.stream.latency = self.control.latency

    def _crash_agent(self, dice: random.Random) -> None:
        living = [a for host in self.hosts for a in host.agents.values() if not a.dead]
        if living:
            dice.choice(living).crash()

    async def _power(self, dice: random.Random) -> None:
        host = dice.choice(self.hosts)
        host.lose_power(keep_journal=True)
        await asyncio.sleep(dice.choice((1.0, 12.0)))
        host.start()

    async def _lose_journal(self, dice: random.Random) -> None:
        host = dice.choice(self.hosts)
        host.lose_power(keep_journal=False)
        await asyncio.sleep(dice.choice((1.0, 12.0)))
        host.start()

    def _turn_clock(self, dice: random.Random) -> None:
        self.control.clock_off += dice.choice((-1, 1)) * dice.choice((3600.0, 86400.0))

    async def _heal(self) -> None:
        self._note("healed")
        self.control.latency = 0.005
        for host in self.hosts:
            if host.stream is not None:
                host.stream.go_on()

    # --- callers -------------------------------------------------------------------------------

    async def _caller(self, dice: random.Random) -> None:
        while not self._over:
            await asyncio.sleep(dice.expovariate(1 / 1.5))
            slug = f"s{dice.randrange(SESSIONS)}"
            verb = dice.choices(
                ("Send", "Interrupt", "Stop", "Kill", "Resume", "CancelInput", "Respond"),
                (60, 12, 3, 2, 6, 6, 10),
            )[0]
            await self._ask(verb, slug, dice)

    async def _ask(self, verb: str, slug: str, dice: random.Random) -> None:
        self._numbers += 1
        asked = Asked(verb, slug, uuid7(self.control.wall()), f"k{self._numbers}")
        request = await self._request(asked, dice)
        if request is None:
            return
        request.request_id = asked.request_id
        self._asked.append(asked)
        verb = "StartSession" if isinstance(request, pb.StartSessionRequest) else verb
        for _ in range(100):
            try:
                answer = await self.control.call(verb, request, dice.choice((1.0, 5.0, 10.0)))
            except LinkDownError:
                await asyncio.sleep(0.3)
                continue
            except BridleError as error:
                asked.refused = str(error.reason)
                again = ("NO_HOST", "HOST_UNREACHABLE", "SHUTTING_DOWN")
                if asked.refused in again and verb != "Interrupt" and not self._over:
                    await asyncio.sleep(1.0)
                    continue
            else:
                asked.refused = ""
                asked.receipt = answer.receipt
            break
        else:
            asked.refused = asked.refused or "GAVE_UP"
        if dice.random() < 0.1 and asked.receipt is not None:
            await self._repeat(verb, request, asked)
        told = asked.receipt.outcome if asked.receipt is not None else None
        self._note(f"{verb} {slug} {asked.key} {asked.refused} {_short(told)}")

    async def _repeat(self, verb: str, request: Any, asked: Asked) -> None:
        try:
            again = (await self.control.call(verb, request)).receipt
        except (LinkDownError, BridleError):
            return
        assert asked.receipt is not None
        if again.command_id != asked.receipt.command_id:
            self._break(f"{verb} was repeated and got another receipt")

    async def _request(self, asked: Asked, dice: random.Random) -> Any:
        """The request; StartSession where the session was never started."""
        slug, verb = asked.slug, asked.verb
        ref = session_pb2.SessionRef(slug=slug)
        try:
            session = (
                await self.control.call("GetSession", pb.GetSessionRequest(session=ref))
            ).session
        except LinkDownError:
            session = session_pb2.Session(slug=slug)
        except BridleError as error:
            if str(error.reason) != "SESSION_NOT_FOUND":
                raise
            asked.verb = "StartSession"
            host = dice.choice(self.hosts).name
            return pb.StartSessionRequest(slug=slug, agent="sim", host=host)
        if verb == "Send":
            mode = dice.choices(
                (
                    input_pb2.INPUT_MODE_QUEUE,
                    input_pb2.INPUT_MODE_STEER,
                    input_pb2.INPUT_MODE_NOW,
                ),
                (8, 2, 1),
            )[0]
            content = [content_pb2.Content(text=asked.key)]
            resume = dice.random() < 0.5
            return pb.SendRequest(
                session=ref, content=content, mode=mode, or_queue=True, resume_if_ended=resume
            )
        if verb == "Resume":
            return self._resume(ref, session, dice)
        if verb == "CancelInput":
            return await self._cancel(ref)
        if verb == "Respond":
            if not session.open_approvals:
                return None
            return pb.RespondRequest(
                session=ref,
                approval_id=session.open_approvals[0],
                decision=event_pb2.APPROVAL_DECISION_ALLOW,
            )
        makes = {"Interrupt": pb.InterruptRequest, "Stop": pb.StopRequest, "Kill": pb.KillRequest}
        return makes[verb](session=ref)

    def _resume(
        self, ref: session_pb2.SessionRef, session: session_pb2.Session, dice: random.Random
    ) -> pb.ResumeRequest:
        request = pb.ResumeRequest(session=ref)
        if dice.random() < 0.5:
            # On another host, whatever the old one does at the moment.
            request.host = dice.choice(self.hosts).name
            request.force = dice.random() < 0.7
            if request.force:
                self._forced.add(session.session_id)
        return request

    async def _cancel(self, ref: session_pb2.SessionRef) -> pb.CancelInputRequest | None:
        try:
            answer = await self.control.call("ListInputs", pb.ListInputsRequest(session=ref))
        except (LinkDownError, BridleError):
            return None
        waiting = [i.input_id for i in answer.inputs if i.state == input_pb2.INPUT_STATE_WAITING]
        return pb.CancelInputRequest(session=ref, input_id=waiting[-1]) if waiting else None

    # --- the laws, at every step ---------------------------------------------------------------

    def _committed(self, changes: Changes) -> None:
        for appended in changes.appended:
            session_id = appended.session_id
            head = self._heads.get(session_id, 0)
            if appended.first != head + 1:
                self._break(f"event {appended.first} of {session_id} follows event {head}")
            self._heads[session_id] = appended.first + len(appended.framed) - 1
            checker = self._checkers.setdefault(session_id, OrderChecker())
            for framed in appended.framed:
                self._event(session_id, checker, event_pb2.Event.FromString(unframe(framed)))
        for row in changes.commands.values():
            outcome = receipt_pb2.Outcome.FromString(row.outcome)
            self._outcome(row.command_id, outcome, row.verb)

    def _event(self, session_id: str, checker: OrderChecker, event: event_pb2.Event) -> None:
        self.told.events += 1
        kind = event.WhichOneof("kind") or "?"
        number = self._number(session_id)
        self._note(f"event {number} {event.sequence} {kind} {event.run} {event.turn}")
        try:
            feed_event(checker, event)
        except AssertionError as violation:
            self._break(f"session {number}: {violation}")
        if kind == "agent_message":
            self._said.setdefault(session_id, []).append(event.agent_message.content[0].text)
        elif kind == "tool_call_output":
            self._said.setdefault(session_id, []).append(event.tool_call_output.text)

    def _number(self, session_id: str) -> str:
        return self._names.setdefault(session_id, f"#{len(self._names)}")

    def _outcome(self, command_id: str, outcome: receipt_pb2.Outcome, verb: int) -> None:
        before = self._outcomes.get(command_id)
        if before is not None and before[0] not in (0, PENDING, outcome.state):
            expired = before == (NOT_RUN, receipt_pb2.OUTCOME_REASON_EXPIRED)
            if not (expired and verb == receipt_pb2.VERB_INTERRUPT):
                self._break(f"an outcome changed: {before} became {_short(outcome)}, verb {verb}")
        self._outcomes[command_id] = (outcome.state, outcome.reason)

    def _heard(self, session_id: str, key: str) -> None:
        self.told.inputs += 1
        self._got[session_id, key] += 1
        self._note(f"got {self._number(session_id)} {key}")
        if self._got[session_id, key] > 1:
            self._break(f"{key} ran {self._got[session_id, key]} times")
        living = [
            (host.name, key_)
            for host in self.hosts
            for key_, agent in host.agents.items()
            if key_[0] == session_id and not agent.dead
        ]
        if len(living) > 1 and session_id not in self._forced:
            self._break(f"{living} are live at once")

    # --- once the faults are over --------------------------------------------------------------

    async def _await_callers(self, callers: list[asyncio.Task[None]]) -> None:
        try:
            async with asyncio.timeout(HEALING):
                await asyncio.gather(*callers)
        except TimeoutError:
            self._break("a caller got no answer after the faults were over")

    async def _come_to_rest(self) -> None:
        end = self.now + HEALING
        while (restless := await self._restless()) and self.now < end:
            await asyncio.sleep(0.5)
        if restless:
            self._break(f"not at rest after {HEALING:.0f} s: {restless}")
        else:
            self._note("at rest")

    async def _restless(self) -> list[str]:
        """What is not as it should be by and by."""
        found = [
            f"{host.name} is not linked"
            for host in self.hosts
            if not self.control.links.is_live(host.host_id)
        ]
        found += [
            f"{host.name} holds {len(host.journal.entries)} entries"
            for host in self.hosts
            if host.journal.entries
        ]
        answer = await self.control.call("ListSessions", pb.ListSessionsRequest())
        for session in answer.sessions:
            if session.phase not in LIVE_PHASES:
                if session.inputs_waiting:
                    await self._resume_failed(session)
                    found.append(f"{session.slug} has failed with inputs")
            elif session.open_approvals:
                await self._respond(session)
                found.append(f"{session.slug} waits for an answer")
            elif session.phase != session_pb2.PHASE_IDLE or session.inputs_waiting:
                found.append(f"{session.slug} is {session_pb2.Phase.Name(session.phase)}")
        found += await self._undecided()
        return found

    async def _resume_failed(self, session: session_pb2.Session) -> None:
        request = pb.ResumeRequest(
            session=session_pb2.SessionRef(id=session.session_id),
            request_id=uuid7(self.control.wall()),
        )
        await self._try("Resume", request)

    async def _respond(self, session: session_pb2.Session) -> None:
        request = pb.RespondRequest(
            session=session_pb2.SessionRef(id=session.session_id),
            approval_id=session.open_approvals[0],
            decision=event_pb2.APPROVAL_DECISION_DENY,
            request_id=uuid7(self.control.wall()),
        )
        await self._try("Respond", request)

    async def _try(self, verb: str, request: Any) -> None:
        try:
            await self.control.call(verb, request)
        except BridleError as error:
            self._note(f"{verb} was refused: {error.reason}")

    async def _undecided(self) -> list[str]:
        found = []
        for asked in self._asked:
            if asked.settled:
                continue
            final = await self._final(asked)
            asked.settled = final is None or final.outcome.state != PENDING
            if final is not None and final.outcome.state == PENDING:
                found.append(f"{asked.verb} {asked.slug} {asked.key} is {_short(final.outcome)}")
            if final is None and asked.receipt is not None and asked.verb != "StartSession":
                self._break(f"{asked.verb} {asked.key} was acknowledged, and is not known")
            if final is not None:
                asked.receipt = final
        return found

    async def _final(self, asked: Asked) -> receipt_pb2.Receipt | None:
        try:
            request = pb.GetCommandRequest(request_id=asked.request_id)
            answer = await self.control.call("GetCommand", request)
        except BridleError as error:
            assert str(error.reason) == "COMMAND_NOT_FOUND"
            return None
        receipt: receipt_pb2.Receipt = answer.receipt
        return receipt

    def _account(self) -> None:
        """What was said is held against what the agents know."""
        got = {key for _, key in self._got}
        for asked in self._asked:
            if asked.receipt is None:
                self.told.outcomes[asked.refused] += 1
                if asked.key in got:
                    self._break(f"{asked.key} ran, and control does not know it")
                continue
            outcome = asked.receipt.outcome
            name = receipt_pb2.OutcomeState.Name(outcome.state).removeprefix("OUTCOME_STATE_")
            self.told.outcomes[name] += 1
            if asked.verb == "Send" and outcome.state == RAN and asked.key not in got:
                self._break(f"{asked.key} did not run, and its receipt says so")
            if asked.verb == "Send" and outcome.state == NOT_RUN and asked.key in got:
                self._break(f"{asked.key} ran, and its receipt says that it did not")
            harmless = not any(host.lost_machine for host in self.hosts) and not self._forced
            dead = any(agent.killed for host in self.hosts for _, agent in host.all_agents)
            if outcome.state == UNKNOWN and harmless and not dead and not self._kills():
                self._break(f"{asked.verb} {asked.key} is UNKNOWN, and nobody was killed")
        self._words()

    def _kills(self) -> bool:
        return any(asked.verb == "Kill" for asked in self._asked)

    def _words(self) -> None:
        """Of each agent that nothing cut off, every word stands in the log, once and in order."""
        for host in self.hosts:
            for (session_id, _), agent in host.all_agents:
                log = self._said.get(session_id, [])
                place = {text: number for number, text in enumerate(log)}
                if len(place) != len(log):
                    self._break("a word stands twice in the log")
                known = [place[text] for text in agent.said if text in place]
                if known != sorted(known):
                    self._break(f"words of {agent.name} stand in another order")
                if len(known) < len(agent.said) and self._whole(host, session_id, agent.killed):
                    missing = [text for text in agent.said if text not in place]
                    self._break(f"{missing} of {agent.name} are not in the log")

    def _whole(self, host: Host, session_id: str, killed: bool) -> bool:
        return not (killed or host.lost_machine or session_id in self._forced or self._kills())


def _short(outcome: receipt_pb2.Outcome | None) -> str:
    if outcome is None:
        return ""
    state = receipt_pb2.OutcomeState.Name(outcome.state).removeprefix("OUTCOME_STATE_")
    reason = receipt_pb2.OutcomeReason.Name(outcome.reason).removeprefix("OUTCOME_REASON_")
    return f"{state}/{reason}"
