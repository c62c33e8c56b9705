"""Events of the core as bytes of `bridle.v1.Event`: serialized once, here, and never again.

One `EventCoder` per run, called by its session actor only, with everything that is emitted, in
order. It joins outputs that follow each other, and holds the limits of size. It decides nothing
else.

Output is made into events by `output_events`. Other texts are cut at limits that fit into every
message of the link; what is cut is told by a Diagnostic{TRUNCATED} behind it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from bridle.v1 import content_pb2, event_pb2, input_pb2, session_pb2
from bridle_core import effects as core
from bridle_core import observations as seen
from bridle_core.commands import RunSpec
from bridle_core.effects import Emit
from bridle_core.utf8 import clean, cut
from bridle_host.output_events import OutputCoder, name_of
from bridle_host.translate import principal_to, rule_to, timestamp

#: Bytes of one message of an agent, all its pieces together.
MESSAGE = 1024 * 1024
#: Bytes of a tool call's or an approval's arguments.
ARGUMENTS = 256 * 1024
#: Bytes of a reason, a plan's step, a log line.
PARAGRAPH = 16 * 1024
#: Bytes of a line for people, a name, a title.
LINE = 4 * 1024
#: Arguments that are too long: JSON text can't be cut and stay JSON.
TRUNCATED = '{"truncated":true}'
#: Steps of a plan that are told.
PLAN_STEPS = 500

Encoded = tuple[int, bytes]

_TOOL_STATUS = {
    status: event_pb2.ToolCallStatus.Value(f"TOOL_CALL_STATUS_{status}")
    for status in seen.ToolStatus
}
_DECISION = {
    decision: event_pb2.ApprovalDecision.Value(f"APPROVAL_DECISION_{decision}")
    for decision in seen.Decision
}
_PLAN_STATE = {
    "IN_PROGRESS": event_pb2.PLAN_ENTRY_STATE_IN_PROGRESS,
    "COMPLETED": event_pb2.PLAN_ENTRY_STATE_COMPLETED,
}


class EventCoder:
    """See the module.

    `output_cap` is how many bytes of output, messages, thoughts, plans and arguments one turn may
    put into the log; 0 means no cap. What is over it is left out, a message whole, and a Diagnostic
    before the turn's end tells how much. `clock` gives
    seconds since the epoch.
    """

    def __init__(
        self,
        spec: RunSpec,
        run: int,
        *,
        output_cap: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._spec = spec
        self._run = run
        #: Goes on over the host's processes, see `RunState.output`.
        self.output = OutputCoder(output_cap)
        self._clock = clock
        #: What was left out of the event that is being made.
        self._cut = 0

    def encode(
        self, emits: Sequence[Emit], report: event_pb2.ArtifactsReported | None = None
    ) -> list[Encoded]:
        """(kind, bytes) of each event. `report` is what an ArtifactsReported among them tells
        beside what its payload does: the artifacts, and what git says."""
        now = timestamp(self._clock())
        out: list[Encoded] = []
        index = 0
        while index < len(emits):
            emit = emits[index]
            index += 1
            if isinstance(emit.event, seen.ToolOutput):
                chunks = [emit.event.data]
                while index < len(emits) and _continues(emit, emits[index]):
                    chunks.append(emits[index].event.data)  # type: ignore[union-attr]
                    index += 1
                events = self.output.write(emit.event, b"".join(chunks))
            else:
                events = self._events(emit, report)
            for event in events:
                event.time.CopyFrom(now)
                event.run = self._run
                event.turn = emit.turn
                name = event.WhichOneof("kind")
                assert name is not None
                kind = event_pb2.Event.DESCRIPTOR.fields_by_name[name].number
                out.append((kind, event.SerializeToString()))
        return out

    def _events(
        self, emit: Emit, report: event_pb2.ArtifactsReported | None
    ) -> Iterator[event_pb2.Event]:
        payload = emit.event
        if isinstance(payload, core.TurnStarted):
            self.output.begin_turn()
        elif isinstance(payload, seen.ToolEnded):
            yield from self.output.end_call(payload.tool_call_id)
        elif isinstance(payload, core.TurnEnded) and self.output.dropped:
            text = f"what this turn put out beyond {self.output.cap} bytes was left out"
            yield _diagnostic(event_pb2.DIAGNOSTIC_KIND_TRUNCATED, text, self.output.dropped)
        size = _text_size(payload)
        if size and not self.output.admits(size):
            return
        self._cut = 0
        event = self._event(payload, report)
        if emit.principal is not None:
            event.principal.CopyFrom(principal_to(emit.principal))
        sub_agent = getattr(payload, "sub_agent", "")
        if sub_agent:
            event.sub_agent = self._text(sub_agent, LINE)
        yield event
        if self._cut:
            text = "what the agent told was too long for the log"
            yield _diagnostic(event_pb2.DIAGNOSTIC_KIND_TRUNCATED, text, self._cut)

    # --- the other events ---

    def _text(self, text: str, limit: int) -> str:
        kept, dropped = cut(clean(text), limit)
        self._cut += dropped
        return kept

    def _admitted(self, text: str) -> str:
        """Arguments, or above the turn's cap a word that they are left out."""
        return self._arguments(text) if self.output.admits(len(text)) else TRUNCATED

    def _arguments(self, text: str) -> str:
        text = clean(text)
        size = len(text.encode())
        if size <= ARGUMENTS:
            return text
        self._cut += size
        return TRUNCATED

    def _event(
        self, payload: core.LogEvent, report: event_pb2.ArtifactsReported | None
    ) -> event_pb2.Event:
        match payload:
            case seen.Message():
                message = event_pb2.AgentMessage(
                    message_id=name_of(payload.message_id), partial=payload.partial
                )
                message.content.extend(self._content(payload.content))
                return event_pb2.Event(agent_message=message)
            case seen.Thought():
                return event_pb2.Event(
                    agent_thought=event_pb2.AgentThought(
                        message_id=name_of(payload.message_id),
                        text=self._text(payload.text, MESSAGE),
                        partial=payload.partial,
                    )
                )
            case seen.ToolStarted():
                return event_pb2.Event(
                    tool_call_started=event_pb2.ToolCallStarted(
                        tool_call_id=name_of(payload.tool_call_id),
                        tool=self._text(payload.tool, LINE),
                        title=self._text(payload.title, LINE),
                        arguments_json=self._admitted(payload.arguments_json),
                    )
                )
            case seen.ToolEnded():
                return event_pb2.Event(
                    tool_call_ended=event_pb2.ToolCallEnded(
                        tool_call_id=name_of(payload.tool_call_id),
                        status=_TOOL_STATUS[payload.status],
                        exit_code=payload.exit_code,
                        message=self._text(payload.message, LINE),
                    )
                )
            case seen.Plan():
                return event_pb2.Event(plan_updated=self._plan(payload))
            case seen.Usage():
                return event_pb2.Event(usage_reported=self._usage(payload))
            case seen.Note():
                kind = event_pb2.DiagnosticKind.Value(f"DIAGNOSTIC_KIND_{payload.kind}")
                text = self._text(payload.message, PARAGRAPH)
                return _diagnostic(kind, text, payload.bytes_dropped)
            case core.ApprovalRequested():
                return event_pb2.Event(approval_requested=self._approval(payload))
            case core.ApprovalResolved():
                rule = rule_to(payload.rule) if payload.rule is not None else None
                return event_pb2.Event(
                    approval_resolved=event_pb2.ApprovalResolved(
                        approval_id=name_of(payload.approval_id),
                        decision=_DECISION[payload.decision],
                        message=self._text(payload.message, PARAGRAPH),
                        by=event_pb2.ApprovalDecider.Value(f"APPROVAL_DECIDER_{payload.by}"),
                        rule=rule,
                    )
                )
            case _:
                return self._lifecycle(payload, report)

    def _lifecycle(
        self, payload: core.LogEvent, report: event_pb2.ArtifactsReported | None
    ) -> event_pb2.Event:
        match payload:
            case core.SessionStarted():
                spec = self._spec
                return event_pb2.Event(
                    session_started=event_pb2.SessionStarted(
                        agent=spec.agent,
                        agent_version=self._text(spec.agent_version, LINE),
                        host_id=spec.host_id,
                        directory=spec.directory,
                        containment=spec.containment,
                        capabilities=sorted(spec.capabilities),
                    )
                )
            case core.SessionResumed():
                spec = self._spec
                return event_pb2.Event(
                    session_resumed=event_pb2.SessionResumed(
                        mode=_resume_mode(payload.mode),
                        lost=self._lines(payload.lost),
                        agent=spec.agent,
                        agent_version=self._text(spec.agent_version, LINE),
                        host_id=spec.host_id,
                        directory=spec.directory,
                        containment=spec.containment,
                        capabilities=sorted(spec.capabilities),
                    )
                )
            case core.ProcessStarted():
                return event_pb2.Event(
                    process_started=event_pb2.ProcessStarted(
                        pid=payload.pid,
                        replacement=payload.replacement,
                        mode=_resume_mode(payload.mode),
                        lost=self._lines(payload.lost),
                    )
                )
            case core.ProcessExited():
                return event_pb2.Event(
                    process_exited=event_pb2.ProcessExited(
                        pid=payload.pid,
                        exit_code=payload.exit_code,
                        signal=payload.signal,
                        killed=payload.killed,
                    )
                )
            case core.TurnStarted():
                trigger = event_pb2.TurnTrigger.Value(f"TURN_TRIGGER_{payload.trigger}")
                return event_pb2.Event(
                    turn_started=event_pb2.TurnStarted(trigger=trigger, input_ids=payload.input_ids)
                )
            case core.TurnEnded():
                return event_pb2.Event(
                    turn_ended=event_pb2.TurnEnded(
                        stop_reason=_stop_reason(payload.stop_reason),
                        exit_code=payload.exit_code,
                        message=self._text(payload.message, LINE),
                    )
                )
            case core.ArtifactsReported():
                return event_pb2.Event(
                    artifacts_reported=event_pb2.ArtifactsReported(
                        artifacts=report.artifacts if report is not None else (),
                        git=report.git if report is not None and report.HasField("git") else None,
                        artifacts_left_out=report.artifacts_left_out if report is not None else 0,
                        usage=None if payload.usage is None else self._usage(payload.usage),
                        final_message=clean(payload.final_message),
                        last_stop_reason=_stop_reason(payload.last_stop_reason),
                        turns=payload.turns,
                    )
                )
            case _:
                return self._state(payload)

    def _state(self, payload: core.LogEvent) -> event_pb2.Event:
        match payload:
            case core.SessionEnded():
                return event_pb2.Event(
                    session_ended=event_pb2.SessionEnded(
                        phase=_phase(payload.phase),
                        reason=session_pb2.EndReason.Value(f"END_REASON_{payload.reason}"),
                        message=self._text(payload.message, LINE),
                        verified=payload.verified,
                        swept=payload.swept,
                    )
                )
            case core.PhaseChanged():
                changed = event_pb2.PhaseChanged(to=_phase(payload.after))
                # `from` is a word of the language.
                setattr(changed, "from", _phase(payload.before))
                return event_pb2.Event(phase_changed=changed)
            case core.InputConsumed():
                return event_pb2.Event(
                    input_consumed=event_pb2.InputConsumed(
                        input_id=payload.input_id, steered=payload.steered
                    )
                )
            case core.InputCancelled():
                reason = input_pb2.CancelReason.Value(f"CANCEL_REASON_{payload.reason}")
                return event_pb2.Event(
                    input_cancelled=event_pb2.InputCancelled(
                        input_id=payload.input_id, reason=reason
                    )
                )
            case core.QueueHeld():
                return event_pb2.Event(queue_held=event_pb2.QueueHeld())
            case core.QueueReleased():
                return event_pb2.Event(queue_released=event_pb2.QueueReleased())
            case _:
                raise TypeError(f"{type(payload).__name__} is no event")

    # --- parts ---

    def _lines(self, lines: Iterable[str]) -> list[str]:
        return [self._text(line, LINE) for line in lines]

    def _content(self, pieces: Iterable[seen.Content]) -> Iterator[content_pb2.Content]:
        left = MESSAGE
        for piece in pieces:
            match piece:
                case seen.Text():
                    text = self._text(piece.text, left)
                    left -= len(text.encode())
                    if text:
                        yield content_pb2.Content(text=text)
                case seen.Image():
                    if len(piece.data) > left:
                        self._cut += len(piece.data)
                        continue
                    left -= len(piece.data)
                    image = content_pb2.Image(data=piece.data, media_type=clean(piece.media_type))
                    yield content_pb2.Content(image=image)
                case seen.Resource():
                    resource = content_pb2.Resource(
                        uri=self._text(piece.uri, LINE),
                        title=self._text(piece.title, LINE),
                        media_type=self._text(piece.media_type, LINE),
                    )
                    yield content_pb2.Content(resource=resource)

    def _usage(self, usage: seen.Usage) -> event_pb2.UsageReported:
        return event_pb2.UsageReported(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_tokens=usage.cached_tokens,
            cost_micro_usd=usage.cost_micro_usd,
            model=self._text(usage.model, LINE),
        )

    def _plan(self, plan: seen.Plan) -> event_pb2.PlanUpdated:
        entries = [
            event_pb2.PlanEntry(
                text=self._text(step.text, LINE),
                state=_PLAN_STATE.get(step.state, event_pb2.PLAN_ENTRY_STATE_PENDING),
            )
            for step in plan.steps[:PLAN_STEPS]
        ]
        self._cut += sum(len(clean(step.text).encode()) for step in plan.steps[PLAN_STEPS:])
        return event_pb2.PlanUpdated(entries=entries)

    def _approval(self, asked: core.ApprovalRequested) -> event_pb2.ApprovalRequested:
        request = event_pb2.ApprovalRequested(
            approval_id=name_of(asked.approval_id),
            tool_call_id=name_of(asked.tool_call_id),
            tool=self._text(asked.tool, LINE),
            arguments_json=self._arguments(asked.arguments_json),
            reason=self._text(asked.reason, PARAGRAPH),
        )
        if asked.expires_in is not None:
            request.expire_time.CopyFrom(timestamp(self._clock() + asked.expires_in))
        return request


def _text_size(payload: core.LogEvent) -> int:
    """Bytes, roughly, of what an agent may say without end and nothing else refers to; else 0."""
    match payload:
        case seen.Message():
            pieces = payload.content
            return sum(
                len(piece.text) if isinstance(piece, seen.Text) else len(getattr(piece, "data", ""))
                for piece in pieces
            )
        case seen.Thought():
            return len(payload.text)
        case seen.Plan():
            return sum(len(step.text) for step in payload.steps)
    return 0


def _continues(first: Emit, second: Emit) -> bool:
    """Whether one output goes on with the other."""
    one, two = first.event, second.event
    return (
        isinstance(one, seen.ToolOutput)
        and isinstance(two, seen.ToolOutput)
        and one.tool_call_id == two.tool_call_id
        and one.stream is two.stream
        and first.turn == second.turn
    )


def _diagnostic(
    kind: event_pb2.DiagnosticKind.ValueType, message: str, dropped: int = 0
) -> event_pb2.Event:
    diagnostic = event_pb2.Diagnostic(kind=kind, message=message, bytes_dropped=dropped)
    return event_pb2.Event(diagnostic=diagnostic)


def _phase(phase: str) -> session_pb2.Phase.ValueType:
    return session_pb2.Phase.Value(f"PHASE_{phase}")


def _stop_reason(reason: seen.StopReason | None) -> event_pb2.StopReason.ValueType:
    return event_pb2.StopReason.Value(f"STOP_REASON_{reason or 'UNSPECIFIED'}")


def _resume_mode(mode: seen.ResumeMode | None) -> event_pb2.ResumeMode.ValueType:
    return event_pb2.ResumeMode.Value(f"RESUME_MODE_{mode or 'UNSPECIFIED'}")
