"""Leave that an agent asks for: what is asked, and which of its options is the answer.

Options are told apart by their kind, never by their id: each agent has ids of its own. Pure. Used
by the driver `acp` only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from acp import schema

from bridle_core.observations import Decision
from bridle_host.drivers.acp import wire
from bridle_host.drivers.acp.standing import APPROVALS, Leave, Standing
from bridle_host.drivers.lines.dialect import Order

#: The longest id of an option that is remembered, as JSON; one that is longer can't be chosen.
OPTION = 64

#: The kinds that say what was decided, the best first. "Always" is a rule of the session, which
#: decides what the agent asks next, so the agent is asked to go on asking.
_KINDS: Mapping[Decision, Sequence[str]] = {
    Decision.ALLOW: ("allow_once", "allow_always"),
    Decision.ALLOW_ALWAYS: ("allow_once", "allow_always"),
    Decision.DENY: ("reject_once", "reject_always"),
    Decision.VOID: (),
}


class Leaves:
    """What is asked in the open turn. See the module."""

    def __init__(self, standing: Standing) -> None:
        self._leaves = {leave.id: leave for leave in standing.leaves}

    @property
    def all(self) -> tuple[Leave, ...]:
        """Bounded."""
        return tuple(self._leaves.values())

    def ask(
        self, name: str, request: wire.Id, call: str, options: Iterable[schema.PermissionOption]
    ) -> bool:
        """name: of the approval. False where there is no room for another."""
        if len(self._leaves) >= APPROVALS:
            answered = next((leave for leave in self.all if leave.answer), None)
            if answered is None:
                return False
            del self._leaves[answered.id]
        offered: dict[str, str] = {}
        for option in options:
            if len(json.dumps(option.option_id)) <= OPTION:
                offered.setdefault(option.kind, option.option_id)
        self._leaves[name] = Leave(name, json.dumps(request), call, tuple(offered.items()))
        return True

    def answered(self, name: str, decision: Decision) -> Leave | None:
        """Remember the answer; the leave as it was before, None where it isn't known."""
        leave = self._leaves.get(name)
        if leave is not None:
            self._leaves[name] = replace(leave, answer=decision.value)
        return leave

    def void(self) -> Iterable[Order]:
        """Nobody will answer what is open."""
        for leave in self.all:
            if leave.answer in ("", Decision.VOID.value):
                self._leaves[leave.id] = replace(leave, answer=Decision.VOID.value)
                yield answer(leave, Decision.VOID)

    def withdraw(self, request: object) -> Leave | None:
        """The agent no longer asks, by its request's id."""
        asked = json.dumps(request)
        leave = next((one for one in self.all if one.request == asked), None)
        if leave is not None:
            del self._leaves[leave.id]
        return leave

    def forget(self) -> None:
        """The turn is over."""
        self._leaves.clear()


def answer(leave: Leave, decision: Decision, message: str = "") -> Order:
    """The answer to it, with the message beside it for those agents that look for one."""
    options = dict(leave.options)
    kind = next((kind for kind in _KINDS[decision] if kind in options), None)
    outcome: schema.AllowedOutcome | schema.DeniedOutcome
    if kind is None:
        outcome = schema.DeniedOutcome(outcome="cancelled")
    else:
        outcome = schema.AllowedOutcome(outcome="selected", option_id=options[kind])
    meta = {"message": message} if message else None
    response = schema.RequestPermissionResponse(outcome=outcome, field_meta=meta)
    request = json.loads(leave.request)
    return order(request, wire.answer(request, response))


def cancelled(request: wire.Id) -> Order:
    """The answer to what is asked in vain."""
    outcome = schema.DeniedOutcome(outcome="cancelled")
    response = schema.RequestPermissionResponse(outcome=outcome)
    return order(request, wire.answer(request, response))


def order(request: wire.Id, data: bytes) -> Order:
    """An answer to a request of the agent's: each gets one."""
    return Order(f"answer-{json.dumps(request)}", data)
