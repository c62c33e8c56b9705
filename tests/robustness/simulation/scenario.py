"""A simulated story: a control, two or three hosts, callers, and faults, all from one seed.

    told = simulate(7)                  # everything stops being broken at some moment: LIVENESS
    told = simulate(7, liveness=False)  # faults to the end: only the laws are looked at: SAFETY
    told.hash, told.trace

The laws hold after every step: a step is a commit of control, or an input that an agent gets.

1. A session's numbers have no gap, and its log keeps to the order table.
2. No agent gets an input twice, whoever runs the session by then.
3. What a receipt once said does not change, but that what was withdrawn may have run after all.
4. No session has two live agents, unless its host was given up by force.

And once the faults are over: within 60 virtual seconds every session rests, every command is
decided and agrees with what the agents got, all hosts are linked with empty journals, and every
word of an agent that nothing cut off stands in the log, in its order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from bridle.v1 import event_pb2, receipt_pb2, session_pb2
from bridle.v1 import session_service_pb2 as pb
from bridle_control.ids import uuid7
from bridle_core.errors import BridleError
from tests.robustness.simulation.callers import CALLERS
from tests.robustness.simulation.host import Host
from tests.robustness.simulation.laws import (
    NOT_RUN,
    PENDING,
    RAN,
    UNKNOWN,
    Asked,
    LawBrokenError,
    Told,
    short,
)
from tests.robustness.simulation.storm import Storm
from tests.robustness.simulation.virtual import run

__all__ = ["LawBrokenError", "Story", "Told", "simulate"]

#: Virtual seconds of faults, and those within which all must have healed.
STORM, HEALING = 40.0, 60.0

LIVE_PHASES = frozenset(
    {
        session_pb2.PHASE_STARTING,
        session_pb2.PHASE_IDLE,
        session_pb2.PHASE_RUNNING,
        session_pb2.PHASE_WAITING,
        session_pb2.PHASE_STOPPING,
    }
)


def simulate(
    seed: int, *, liveness: bool = True, storm: float = STORM, forgotten: bool = False
) -> Told:
    """Runs the story of a seed, with so many seconds of faults. Raises LawBrokenError. `forgotten`:
    hosts also lose their journals while their agents live on."""

    async def story() -> Told:
        return await Story(seed, forgotten=forgotten).tell(liveness, storm)

    return run(seed, story)


class Story(Storm):
    """See the module."""

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

    async def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        end = self.now + seconds
        while not condition():
            if self.now > end:
                return False
            await asyncio.sleep(0.05)
        return True

    # --- once the faults are over --------------------------------------------------------------

    async def _await_callers(self, callers: list[asyncio.Task[None]]) -> None:
        try:
            async with asyncio.timeout(HEALING):
                await asyncio.gather(*callers)
        except TimeoutError:
            self._break("a caller got no answer after the faults were over")

    async def _come_to_rest(self) -> None:
        end = self.now + HEALING
        while (restless := await self._restless()) and self.now < end:  # noqa: ASYNC110
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
                if session.queue_state == session_pb2.QUEUE_STATE_HELD:
                    await self._release(session)
                found.append(f"{session.slug} is {session_pb2.Phase.Name(session.phase)}")
            if session.closing and session.phase in LIVE_PHASES:
                found.append(f"{session.slug} is being killed")
            found += await self._open(session)
        found += await self._undecided()
        return found

    async def _open(self, session: session_pb2.Session) -> list[str]:
        """Commands without an outcome, also those that no caller knows of."""
        rows = await self.control.store.read(lambda tx: tx.open_commands(session.session_id))
        return [f"{session.slug} has an open command of verb {row.verb}" for row in rows]

    async def _release(self, session: session_pb2.Session) -> None:
        request = pb.ReleaseQueueRequest(
            session=session_pb2.SessionRef(id=session.session_id),
            request_id=uuid7(self.control.wall()),
        )
        await self._try("ReleaseQueue", request)

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
                found.append(f"{asked.verb} {asked.slug} {asked.key} is {short(final.outcome)}")
            if final is None and asked.receipt is not None and asked.verb != "StartSession":
                self._break(f"{asked.verb} {asked.key} was acknowledged, and is not known")
            if final is not None:
                asked.receipt = final
        return found

    async def _final(self, asked: Asked) -> receipt_pb2.Receipt | None:
        try:
            request = pb.GetCommandRequest(request_id=asked.request_id)
            answer = await self.control.call("GetCommand", request, caller=asked.caller)
        except BridleError as error:
            if str(error.reason) != "COMMAND_NOT_FOUND":
                raise
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
            if outcome.state == UNKNOWN and self._harmless(asked.receipt.session_id):
                self._break(f"{asked.verb} {asked.key} is UNKNOWN, and nobody was killed")
        self._words()

    def _harmless(self, session_id: str) -> bool:
        """Whether nothing befell the session from which it has not come away whole."""
        if session_id in self._forced:
            return False
        if any(host.lost_machine or host.lost_journal for host in self.hosts):
            return False
        agents = [
            agent for host in self.hosts for key, agent in host.all_agents if key[0] == session_id
        ]
        return not any(agent.killed for agent in agents)

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
                if len(known) < len(agent.said) and self._harmless(session_id):
                    missing = [text for text in agent.said if text not in place]
                    self._break(f"{missing} of {agent.name} are not in the log")
