"""Between the messages of the host link and the values of the core, in both directions.

Pure functions; nothing here decides anything. Called by the session actors and their manager.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from google.protobuf import duration_pb2, timestamp_pb2

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle.v1 import content_pb2, event_pb2, principal_pb2, receipt_pb2, session_pb2
from bridle.v1.input_pb2 import InputMode as PbInputMode
from bridle_core.commands import (
    Cancel,
    Command,
    Deliver,
    Interrupt,
    Kill,
    Release,
    Resolve,
    Stop,
    Update,
)
from bridle_core.effects import Answer
from bridle_core.observations import Content, Decision, Image, Resource, ResumeMode, Text
from bridle_core.phases import (
    AfterInterrupt,
    ApprovalPolicy,
    ConsumePolicy,
    EndReason,
    InputMode,
    Policy,
    Principal,
    PrincipalKind,
    QueueState,
    Rule,
)

_DEFAULTS = Policy()


def timestamp(seconds: float) -> timestamp_pb2.Timestamp:
    """A Timestamp of seconds since the epoch."""
    stamp = timestamp_pb2.Timestamp()
    stamp.FromNanoseconds(int(seconds * 1_000_000_000))
    return stamp


# --- from control -------------------------------------------------------------------------------


def principal_of(principal: principal_pb2.Principal) -> Principal | None:
    """None for one that isn't told, or is of a kind that this version doesn't know."""
    kind = _PRINCIPAL.get(principal.kind)
    return None if kind is None else Principal(kind, principal.id, principal.name)


def content_of(pieces: Iterable[content_pb2.Content]) -> tuple[Content, ...]:
    """The pieces that this version knows, in order."""
    found: list[Content] = []
    for piece in pieces:
        match piece.WhichOneof("kind"):
            case "text":
                found.append(Text(piece.text))
            case "image":
                found.append(Image(piece.image.data, piece.image.media_type))
            case "resource":
                resource = piece.resource
                found.append(Resource(resource.uri, resource.title, resource.media_type))
            case _:
                pass
    return tuple(found)


def content_to(piece: Content) -> content_pb2.Content:
    """The message of a piece."""
    if isinstance(piece, Text):
        return content_pb2.Content(text=piece.text)
    if isinstance(piece, Image):
        image = content_pb2.Image(data=piece.data, media_type=piece.media_type)
        return content_pb2.Content(image=image)
    resource = content_pb2.Resource(uri=piece.uri, title=piece.title, media_type=piece.media_type)
    return content_pb2.Content(resource=resource)


def policy_of(policy: session_pb2.SessionPolicy) -> Policy:
    """The rules with the defaults filled in."""

    def seconds(name: str, default: float) -> float:
        if not policy.HasField(name):  # type: ignore[arg-type]  # the name is one of its fields
            return default
        duration: duration_pb2.Duration = getattr(policy, name)
        return _seconds(duration)

    return Policy(
        after_interrupt=after_of(policy.after_interrupt) or _DEFAULTS.after_interrupt,
        consume=(
            ConsumePolicy.ALL
            if policy.consume == session_pb2.CONSUME_POLICY_ALL
            else ConsumePolicy.ONE
        ),
        approval=_APPROVAL.get(policy.approval, ApprovalPolicy.ASK),
        rules=tuple(rule_of(rule) for rule in policy.approval_rules),
        start_timeout=seconds("start_timeout", _DEFAULTS.start_timeout),
        turn_timeout=seconds("turn_timeout", _DEFAULTS.turn_timeout),
        approval_timeout=seconds("approval_timeout", _DEFAULTS.approval_timeout),
        input_ttl=seconds("input_ttl", _DEFAULTS.input_ttl),
        idle_ttl=seconds("idle_ttl", _DEFAULTS.idle_ttl),
        interrupt_grace=seconds("interrupt_grace", _DEFAULTS.interrupt_grace),
    )


def rule_of(rule: session_pb2.ApprovalRule) -> Rule:
    """A rule; one with a decision that this version doesn't know asks."""
    decision = _APPROVAL.get(rule.decision, ApprovalPolicy.ASK)
    return Rule(rule.tool, decision, rule.argument, rule.value, rule.exact)


def rule_to(rule: Rule) -> session_pb2.ApprovalRule:
    """The message of a rule."""
    return session_pb2.ApprovalRule(
        tool=rule.tool,
        decision=session_pb2.ApprovalPolicy.Value(f"APPROVAL_POLICY_{rule.decision}"),
        argument=rule.argument,
        value=rule.value,
        exact=rule.exact,
    )


def after_of(after: int) -> AfterInterrupt | None:
    """None for one that isn't told."""
    return _AFTER.get(after)


def queue_state_of(state: int) -> QueueState:
    """OPEN where it isn't told."""
    return QueueState.HELD if state == session_pb2.QUEUE_STATE_HELD else QueueState.OPEN


def resume_of(start: host_pb.StartRun) -> ResumeMode | None:
    """How a resumed run is to come along; None for a new one."""
    if not start.HasField("resume"):
        return None
    mode = _RESUME.get(start.resume.mode, ResumeMode.AUTO)
    # An agent keeps its conversations on the host where it ran.
    return ResumeMode.SEEDED if mode is ResumeMode.AUTO and not start.resume.same_host else mode


def command_of(command: host_pb.Command) -> Command | None:
    """The core's value of a command; None for StartRun and for what this version doesn't know."""
    command_id, principal = command.command_id, principal_of(command.principal)
    match command.WhichOneof("action"):
        case "deliver":
            return _deliver(command_id, command.deliver, principal)
        case "interrupt":
            return _interrupt(command_id, command.interrupt, principal)
        case "stop":
            stop = command.stop
            grace = _seconds(stop.grace) if stop.HasField("grace") else None
            drained = stop.reason == session_pb2.END_REASON_HOST_DRAINED
            reason = EndReason.HOST_DRAINED if drained else EndReason.STOP_REQUESTED
            return Stop(command_id, grace, reason, principal)
        case "kill":
            return Kill(command_id, principal=principal)
        case "resolve":
            resolve = command.resolve
            decision = _DECISION.get(resolve.decision, Decision.DENY)
            rule = rule_of(resolve.rule) if resolve.HasField("rule") else None
            told = (resolve.approval_id, decision, resolve.message)
            return Resolve(command_id, *told, principal, rule)
        case "release":
            return Release(command_id, principal)
        case "cancel":
            return Cancel(command_id, command.cancel.input_id, principal)
        case "update":
            return Update(command_id, policy_of(command.update.policy))
        case _:
            return None


def time_to_live(command: host_pb.Command) -> float | None:
    """Seconds for which a command is good; None for ever."""
    return _seconds(command.time_to_live) if command.HasField("time_to_live") else None


def _deliver(
    command_id: str, deliver: host_pb.DeliverInput, principal: Principal | None
) -> Deliver:
    return Deliver(
        command_id,
        deliver.input_id,
        content_of(deliver.content),
        deliver.sequence,
        _MODE.get(deliver.mode, InputMode.QUEUE),
        deliver.or_queue,
        _seconds(deliver.time_to_live) if deliver.HasField("time_to_live") else None,
        principal,
    )


def _interrupt(
    command_id: str, interrupt: host_pb.InterruptTurn, principal: Principal | None
) -> Interrupt:
    return Interrupt(
        command_id,
        interrupt.turn,
        after_of(interrupt.after),
        interrupt.include_background,
        _seconds(interrupt.grace) if interrupt.HasField("grace") else None,
        principal,
    )


def _seconds(duration: duration_pb2.Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


_PRINCIPAL = {
    int(principal_pb2.PrincipalKind.Value(f"PRINCIPAL_KIND_{kind}")): kind for kind in PrincipalKind
}
_AFTER = {
    int(session_pb2.AFTER_INTERRUPT_RUN): AfterInterrupt.RUN,
    int(session_pb2.AFTER_INTERRUPT_HOLD): AfterInterrupt.HOLD,
    int(session_pb2.AFTER_INTERRUPT_DROP): AfterInterrupt.DROP,
}
_APPROVAL = {
    int(session_pb2.APPROVAL_POLICY_ALLOW): ApprovalPolicy.ALLOW,
    int(session_pb2.APPROVAL_POLICY_DENY): ApprovalPolicy.DENY,
}
_MODE = {
    int(PbInputMode.Value("INPUT_MODE_STEER")): InputMode.STEER,
    int(PbInputMode.Value("INPUT_MODE_NOW")): InputMode.NOW,
}
_RESUME = {
    int(event_pb2.RESUME_MODE_NATIVE): ResumeMode.NATIVE,
    int(event_pb2.RESUME_MODE_SEEDED): ResumeMode.SEEDED,
}
_DECISION = {
    int(event_pb2.APPROVAL_DECISION_ALLOW): Decision.ALLOW,
    int(event_pb2.APPROVAL_DECISION_ALLOW_ALWAYS): Decision.ALLOW_ALWAYS,
}

# --- to control ---------------------------------------------------------------------------------


def principal_to(principal: Principal) -> principal_pb2.Principal:
    """As a message."""
    kind = principal_pb2.PrincipalKind.Value(f"PRINCIPAL_KIND_{principal.kind}")
    return principal_pb2.Principal(kind=kind, id=principal.id, name=principal.name)


def answer_to(answer: Answer) -> host_pb.CommandEntry:
    """As an entry of the journal, decided now."""
    outcome = receipt_pb2.Outcome(
        state=receipt_pb2.OutcomeState.Value(f"OUTCOME_STATE_{answer.state}"),
        reason=receipt_pb2.OutcomeReason.Value(f"OUTCOME_REASON_{answer.met}"),
        turn=answer.turn,
        input_id=answer.input_id,
        message=answer.message,
        error_reason=answer.error or "",
    )
    if answer.final:
        outcome.decide_time.CopyFrom(timestamp(time.time()))
    return host_pb.CommandEntry(
        command_id=answer.command_id, outcome=outcome, error_metadata=dict(answer.metadata)
    )
