"""The callers of a simulation: they ask for everything, and again until they are answered."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from bridle.v1 import content_pb2, event_pb2, input_pb2, session_pb2
from bridle.v1 import session_service_pb2 as pb
from bridle_control.ids import uuid7
from bridle_core.errors import BridleError
from tests.robustness.simulation.control import ADMIN, agent_of
from tests.robustness.simulation.laws import Asked, Laws, short
from tests.robustness.simulation.network import LinkDownError

SESSIONS, CALLERS = 3, 3
#: How often each verb is chosen.
VERBS = {
    "Send": 60,
    "Interrupt": 12,
    "Stop": 3,
    "Kill": 2,
    "Resume": 6,
    "CancelInput": 6,
    "Respond": 8,
    "ReleaseQueue": 3,
    "Child": 3,
}


class Callers(Laws):
    """See the module."""

    async def _caller(self, dice: random.Random) -> None:
        while not self._over:
            await asyncio.sleep(dice.expovariate(1 / 1.5))
            slug = f"s{dice.randrange(SESSIONS)}"
            if dice.random() < 0.1:
                slug = f"{slug}-c{dice.randrange(2)}"
            verb = dice.choices(list(VERBS), list(VERBS.values()))[0]
            await self._ask(verb, slug, dice)

    async def _ask(self, verb: str, slug: str, dice: random.Random) -> None:
        self._numbers += 1
        asked = Asked(verb, slug, uuid7(self.control.wall()), f"k{self._numbers}", ADMIN)
        request = await self._request(asked, dice)
        if request is None:
            return
        request.request_id = asked.request_id
        self._asked.append(asked)
        verb = "StartSession" if isinstance(request, pb.StartSessionRequest) else verb
        for _ in range(100):
            try:
                seconds = dice.choice((1.0, 5.0, 10.0))
                answer = await self.control.call(verb, request, seconds, asked.caller)
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
        self._note(f"{verb} {slug} {asked.key} {asked.refused} {short(told)}")

    async def _repeat(self, verb: str, request: Any, asked: Asked) -> None:
        try:
            again = (await self.control.call(verb, request, 10.0, asked.caller)).receipt
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
            return self._start(slug, dice)
        if verb == "Child":
            # Its own agent starts another session.
            asked.caller = agent_of(session.session_id, session.run)
            asked.verb = "StartSession"
            return self._start(f"{slug}-c{dice.randrange(2)}", dice)
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
        makes = {
            "Interrupt": pb.InterruptRequest,
            "Stop": pb.StopRequest,
            "Kill": pb.KillRequest,
            "ReleaseQueue": pb.ReleaseQueueRequest,
        }
        return makes[verb](session=ref)

    def _start(self, slug: str, dice: random.Random) -> pb.StartSessionRequest:
        host = dice.choice(self.hosts).name
        policy = _policy(dice)
        return pb.StartSessionRequest(slug=slug, agent="sim", host=host, policy=policy)

    def _resume(
        self, ref: session_pb2.SessionRef, session: session_pb2.Session, dice: random.Random
    ) -> pb.ResumeRequest:
        request = pb.ResumeRequest(session=ref)
        if session.session_id and dice.random() < 0.5:
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


def _policy(dice: random.Random) -> session_pb2.SessionPolicy:
    """Now and then a rule that lets time decide."""
    policy = session_pb2.SessionPolicy()
    policy.interrupt_grace.FromSeconds(2)
    if dice.random() < 0.3:
        policy.after_interrupt = dice.choice(
            (session_pb2.AFTER_INTERRUPT_HOLD, session_pb2.AFTER_INTERRUPT_DROP)
        )
    if dice.random() < 0.2:
        policy.consume = session_pb2.CONSUME_POLICY_ALL
    for field, chance, seconds in (
        (policy.turn_timeout, 0.15, 3),
        (policy.approval_timeout, 0.3, 2),
        (policy.input_ttl, 0.1, 4),
        (policy.idle_ttl, 0.1, 6),
    ):
        if dice.random() < chance:
            field.FromSeconds(seconds)
    return policy
