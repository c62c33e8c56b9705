"""The session machine's approvals: asked for, answered, expired, void.

A part of `bridle_core.session.Session`, between its inputs and its turns. It may not begin or end a
turn. Only `session_turns` builds on it.
"""

from __future__ import annotations

from dataclasses import replace

from bridle_core.approval_rules import Ruling, decide, rule_text
from bridle_core.commands import Resolve
from bridle_core.effects import (
    ApprovalRequested,
    ApprovalResolved,
    Met,
    OutcomeState,
    RespondApproval,
)
from bridle_core.errors import Reason
from bridle_core.observations import ApprovalAsked, ApprovalWithdrawn, Decision
from bridle_core.phases import SYSTEM, ApprovalPolicy, Decider, Principal, Rule
from bridle_core.session_inputs import Inputs, Move
from bridle_core.turn import OPEN_APPROVALS, Turn


class Approvals(Inputs):
    """See the module."""

    def _on_approval_asked(self, observation: ApprovalAsked) -> None:
        turn, approval_id = self._turn, observation.approval_id
        if self._dying:
            return
        if turn is None or self._interrupt is not None:
            self._respond(approval_id, Decision.DENY, "the turn is over")
            return
        if approval_id in turn.approvals or approval_id in turn.resolved:
            return
        if len(turn.approvals) >= OPEN_APPROVALS:
            self._respond(approval_id, Decision.DENY, "too many approvals are open")
            return
        ruling = decide(self._policy, observation.tool, observation.arguments_json)
        timeout = self._policy.approval_timeout
        asks = ruling.decision is ApprovalPolicy.ASK
        expires = self._now + timeout if asks and timeout > 0 else None
        turn.ask(approval_id, expires, observation.tool, observation.arguments_json)
        self._emit(
            ApprovalRequested(
                approval_id,
                observation.tool,
                observation.arguments_json,
                observation.reason,
                observation.tool_call_id,
                timeout if expires is not None else None,
            ),
            turn.number,
        )
        if asks:
            self._move(Move.APPROVAL_OPENED)
            return
        resolved = _ruled(turn, approval_id, ruling)
        self._emit(resolved, turn.number, SYSTEM)
        self._respond_ruled(resolved)

    def _on_approval_withdrawn(self, observation: ApprovalWithdrawn) -> None:
        turn = self._turn
        if turn is not None and observation.approval_id in turn.approvals:
            message = "the agent no longer asks"
            void = turn.resolve(observation.approval_id, Decision.VOID, message, Decider.AGENT)
            self._close_approval(turn, void, None)

    def _resolve(self, command: Resolve) -> None:
        turn, approval_id = self._turn, command.approval_id
        if turn is not None and approval_id in turn.approvals:
            decision, message = command.decision, command.message
            always = decision is Decision.ALLOW_ALWAYS
            rule = command.rule if always else None
            resolved = turn.resolve(approval_id, decision, message, Decider.PRINCIPAL, rule)
            self._close_approval(turn, resolved, command.principal)
            self._respond(approval_id, decision, message)
            self._keep_rule(rule)
            self._answer(command.command_id, OutcomeState.RAN, Met.DONE, turn=turn.number)
        elif turn is not None and approval_id in turn.resolved:
            metadata = {
                "approval": approval_id,
                "decision": turn.resolved[approval_id].decision.value,
            }
            message = "somebody answered first"
            self._refuse(command.command_id, Reason.APPROVAL_RESOLVED, message, metadata)
        else:
            metadata = {"approval": approval_id}
            message = "no such approval is open"
            self._refuse(command.command_id, Reason.APPROVAL_NOT_FOUND, message, metadata)

    def _expire_approvals(self) -> None:
        turn = self._turn
        if turn is None:
            return
        due = [a for a, e in turn.approvals.items() if e is not None and e <= self._now]
        for approval_id in due:
            message = "nobody answered in time"
            late = turn.resolve(approval_id, Decision.DENY, message, Decider.TIMEOUT)
            self._close_approval(turn, late, SYSTEM)
            self._respond(approval_id, Decision.DENY, message)

    def _void_approvals(self, principal: Principal | None) -> None:
        turn = self._turn
        for approval_id in list(turn.approvals) if turn is not None else ():
            assert turn is not None
            message = "the turn is interrupted"
            void = turn.resolve(approval_id, Decision.VOID, message, Decider.INTERRUPT)
            self._close_approval(turn, void, principal)

    def _close_approval(
        self, turn: Turn, resolved: ApprovalResolved, principal: Principal | None
    ) -> None:
        self._emit(resolved, turn.number, principal)
        if not turn.approvals:
            self._move(Move.APPROVALS_CLOSED)

    def _keep_rule(self, rule: Rule | None) -> None:
        """From now on it is allowed; control keeps the same rule with the event that tells it."""
        if rule is not None and rule not in self._policy.rules:
            self._policy = replace(self._policy, rules=(*self._policy.rules, rule))
            self._rule_open()

    def _rule_open(self) -> None:
        """The rules are others: what they decide of the calls that wait for an answer need nobody
        answer any more. The policy's own word is for calls that come."""
        turn = self._turn
        for approval_id, call in list(turn.calls.items()) if turn is not None else ():
            assert turn is not None
            ruling = decide(self._policy, *call)
            if ruling.rule is not None and ruling.decision is not ApprovalPolicy.ASK:
                resolved = _ruled(turn, approval_id, ruling)
                self._close_approval(turn, resolved, SYSTEM)
                self._respond_ruled(resolved)

    def _respond_ruled(self, resolved: ApprovalResolved) -> None:
        # With what is allowed, an agent takes a message for a person's, or for an answer.
        told = "" if resolved.decision is Decision.ALLOW else resolved.message
        self._respond(resolved.approval_id, resolved.decision, told)

    def _respond(self, approval_id: str, decision: Decision, message: str) -> None:
        """What the agent is told. Never "always": it would ask no more, and a rule that is taken
        back or denies would not be heard."""
        if decision is Decision.ALLOW_ALWAYS:
            decision = Decision.ALLOW
        if not self._dying:
            self._out.append(RespondApproval(approval_id, decision, message))


def _ruled(turn: Turn, approval_id: str, ruling: Ruling) -> ApprovalResolved:
    """Closes an open approval as the policy decides it."""
    allow = ruling.decision is ApprovalPolicy.ALLOW
    decision = Decision.ALLOW if allow else Decision.DENY
    by, message = Decider.POLICY, "by policy"
    if ruling.rule is not None:
        by, message = Decider.RULE, f"by the rule {rule_text(ruling.rule)}"
    return turn.resolve(approval_id, decision, message, by, ruling.rule)
