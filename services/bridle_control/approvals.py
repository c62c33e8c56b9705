"""Approvals as control knows them: the rule that "always" becomes, and what is open.

Functions over rows, called by the verbs and the projection inside their transactions. What a rule
is about is decided in `bridle_core.approval_rules`, by the host where the agent asks; here it is
made, kept and shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bridle.v1 import event_pb2, session_pb2, session_service_pb2
from bridle_control.filters import invalid
from bridle_control.render import policy_of
from bridle_control.store.api import ApprovalRow, ReadTx, SessionRow
from bridle_control.store.event_bytes import unframe
from bridle_core.approval_rules import allows, rule_for
from bridle_core.phases import ApprovalPolicy, Policy, Rule

#: The most rules of a policy, and the most bytes of one: it goes to the host with each start and
#: each change, and is told with each session that is listed.
RULES_MAX = 256
POLICY_BYTES = 64 * 1024
#: What a host writes in the place of arguments that are too long for an event.
_CUT = '{"truncated":true}'
#: Of the arguments of an open approval so many bytes are told with its session; 0 of the reason.
SHOWN = 16 * 1024

_DECISIONS = {
    int(session_pb2.APPROVAL_POLICY_ALLOW): ApprovalPolicy.ALLOW,
    int(session_pb2.APPROVAL_POLICY_DENY): ApprovalPolicy.DENY,
}


# ---------------------------------------------------------------- rules


def core_rule(rule: session_pb2.ApprovalRule) -> Rule:
    """A rule as the core has it; one of a decision that isn't known asks."""
    decision = _DECISIONS.get(rule.decision, ApprovalPolicy.ASK)
    return Rule(rule.tool, decision, rule.argument, rule.value, rule.exact)


def wire_rule(rule: Rule) -> session_pb2.ApprovalRule:
    """A rule as the contract has it."""
    return session_pb2.ApprovalRule(
        tool=rule.tool,
        decision=session_pb2.ApprovalPolicy.Value(f"APPROVAL_POLICY_{rule.decision}"),
        argument=rule.argument,
        value=rule.value,
        exact=rule.exact,
    )


def core_policy(policy: session_pb2.SessionPolicy, *, granted: bool = True) -> Policy:
    """What a policy says of approvals. `granted`: with the rules that somebody's "always" made."""
    rules = (each for each in policy.approval_rules if granted or not each.approval_id)
    return Policy(
        approval=_DECISIONS.get(policy.approval, ApprovalPolicy.ASK),
        rules=tuple(core_rule(each) for each in rules),
    )


def check_policy(policy: session_pb2.SessionPolicy) -> None:
    """Raises INVALID_REQUEST for rules that are too many, or too long together."""
    if len(policy.approval_rules) > RULES_MAX:
        raise invalid("policy.approval_rules", f"a policy has at most {RULES_MAX} rules")
    if policy.ByteSize() > POLICY_BYTES:
        raise invalid("policy.approval_rules", f"together they are over {POLICY_BYTES} bytes")


def as_asked(
    asked: session_pb2.SessionPolicy, before: session_pb2.SessionPolicy | None = None
) -> session_pb2.SessionPolicy:
    """The policy that a caller asks for: nobody but control says who granted a rule, and a rule
    that stays keeps what control said of it. Raises INVALID_REQUEST as `check_policy` does.
    """
    known = {core_rule(each): each for each in (before.approval_rules if before else ())}
    made = session_pb2.SessionPolicy()
    made.CopyFrom(asked)
    del made.approval_rules[:]
    for rule in asked.approval_rules:
        bare = core_rule(rule)
        made.approval_rules.append(known.get(bare) or wire_rule(bare))
    check_policy(made)
    return made


# ---------------------------------------------------------------- "always"


def rule_of_answer(
    tx: ReadTx,
    row: SessionRow,
    known: ApprovalRow,
    request: session_service_pb2.RespondRequest,
) -> session_pb2.ApprovalRule | None:
    """What an answer allows from now on; None where it is about the one call alone.

    Raises INVALID_REQUEST where no rule can be made of the call, where the one that is asked for is
    not about it, or where the policy has no room for it.
    """
    if request.decision != event_pb2.APPROVAL_DECISION_ALLOW_ALWAYS:
        if request.HasField("rule"):
            raise invalid("rule", "only ALLOW_ALWAYS makes one")
        return None
    asked = _event(tx, row.session_id, known.sequence)
    if asked is None:
        raise invalid("decision", "what was asked for is no longer in the log; allow it once")
    call = asked.approval_requested
    if request.HasField("rule"):
        rule = core_rule(request.rule)
        if not allows(rule, call.tool, call.arguments_json):
            raise invalid("rule", "it is not an ALLOW rule that is about this call for certain")
    else:
        cut = call.arguments_json == _CUT
        found = None if cut else rule_for(call.tool, call.arguments_json)
        if found is None:
            raise invalid(
                "decision", "no rule can be made of these arguments; name one, or allow it once"
            )
        rule = found
    made = wire_rule(rule)
    check_policy(with_rule(policy_of(row), made))
    return made


def with_rule(
    policy: session_pb2.SessionPolicy, rule: session_pb2.ApprovalRule
) -> session_pb2.SessionPolicy:
    """The policy with one rule more, or as it is where it has it."""
    made = session_pb2.SessionPolicy()
    made.CopyFrom(policy)
    if core_rule(rule) not in map(core_rule, policy.approval_rules):
        made.approval_rules.append(rule)
    return made


def keep_rule(row: SessionRow, event: event_pb2.Event) -> SessionRow:
    """The session's row after an ApprovalResolved: with the rule that an "always" made.

    A host can't say "always" for more than a policy holds, nor deny or ask by it.
    """
    resolved = event.approval_resolved
    always = resolved.decision == event_pb2.APPROVAL_DECISION_ALLOW_ALWAYS
    if not always or not resolved.HasField("rule"):
        return row
    rule = wire_rule(core_rule(resolved.rule))
    if rule.decision != session_pb2.APPROVAL_POLICY_ALLOW or not rule.tool:
        return row
    rule.granted_by.CopyFrom(event.principal)
    rule.approval_id = resolved.approval_id
    policy = with_rule(policy_of(row), rule)
    if len(policy.approval_rules) > RULES_MAX or policy.ByteSize() > POLICY_BYTES:
        return row
    return replace(row, policy=policy.SerializeToString(deterministic=True))


# ---------------------------------------------------------------- what is open


def open_approvals(tx: ReadTx, row: SessionRow) -> list[session_service_pb2.OpenApproval]:
    """What the session's open approvals ask for, the oldest first."""
    known = [tx.approval(row.session_id, each) for each in row.open_approvals]
    found = sorted(
        (each for each in known if each is not None and not each.decision),
        key=lambda each: each.sequence,
    )
    return list(_told(tx, row, found))


def _told(
    tx: ReadTx, row: SessionRow, rows: list[ApprovalRow]
) -> Iterable[session_service_pb2.OpenApproval]:
    for each in rows:
        event = _event(tx, row.session_id, each.sequence)
        if event is None or not event.HasField("approval_requested"):
            continue
        request = event.approval_requested
        arguments = request.arguments_json.encode()
        if len(arguments) > SHOWN:
            request.arguments_json = arguments[:SHOWN].decode("utf-8", "ignore")
        yield session_service_pb2.OpenApproval(
            request=request, sequence=each.sequence, turn=event.turn, time=event.time
        )


def _event(tx: ReadTx, session_id: str, sequence: int) -> event_pb2.Event | None:
    found = tx.events(session_id, sequence - 1, limit=1)
    if not found.framed:
        return None
    event = event_pb2.Event.FromString(unframe(found.framed[0]))
    return event if event.sequence == sequence else None
