"""What is measured of the host's work: the spans of its commands, and the observers of its runs.

A command has a span if it came with a trace: from when the link hands it over to when it was
answered, and that is durable. A Send is answered when its input is queued; what becomes of that is
told by its turn. Where a command is begun by one process of the host and answered by the next, or
by none, its span tells what was answered last, by the first. Of a repeat nothing is told: it does
nothing.

Without a trace there is no span: what control traces, it traces from its own side on. Whether one
is kept, whoever began it has said.

Made by `bridle_host.app`; told by the sessions and the journal, on the event loop.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle.v1 import receipt_pb2
from bridle_core.phases import ENDED, Phase
from bridle_host.journal import Journal
from bridle_host.journal_file import AnswerRow
from bridle_host.metrics import Instruments, watch_journal, watch_sessions
from bridle_host.observer import Observer, RunObserver
from bridle_host.run_state import RunState
from bridle_host.run_telemetry import Means, Place, RunTelemetry
from bridle_telemetry.telemetry import Telemetry
from bridle_telemetry.trace_context import from_headers

#: The verb of bridle.v1.Verb that makes a command of each kind; a Resume is a start, too.
_VERBS = {
    "start": "START",
    "deliver": "SEND",
    "interrupt": "INTERRUPT",
    "stop": "STOP",
    "kill": "KILL",
    "resolve": "RESPOND",
    "release": "RELEASE_QUEUE",
    "cancel": "CANCEL_INPUT",
    "update": "UPDATE_SESSION",
}
_STATES = {
    number: name.removeprefix("OUTCOME_STATE_") for name, number in receipt_pb2.OutcomeState.items()
}
_REASONS = {
    number: name.removeprefix("OUTCOME_REASON_")
    for name, number in receipt_pb2.OutcomeReason.items()
}


def observe(telemetry: Telemetry, journal: Journal) -> Observer:
    """The observer that is asked for; one that listens to nothing where nothing is."""
    if not (telemetry.traces or telemetry.metrics):
        return Observer()
    made = HostTelemetry(telemetry)
    watch_journal(telemetry.meter, journal)
    journal.on_answers(made.answered)
    journal.on_commit(made.committed)
    return made


@dataclass(slots=True)
class _Command:
    """One that is not decided. `begun`: on the clock of `time.perf_counter`."""

    verb: str
    run: tuple[str, int]
    begun: float
    span: Span | None
    answered: bool = False


class HostTelemetry(Observer):
    """See the module."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._traces = telemetry.traces
        instruments = Instruments(telemetry.meter)
        phases = {str(phase): 0 for phase in Phase if phase not in ENDED}
        self._means = Means(telemetry.tracer, instruments, phases)
        watch_sessions(telemetry.meter, phases)
        #: As many as the sessions have: those that wait, and the inputs that no turn has taken.
        self._commands: dict[str, _Command] = {}
        self._runs: dict[tuple[str, int], RunTelemetry] = {}

    # --- runs ---

    def run(
        self, session_id: str, run: int, agent: str, start_command: str, left: RunState | None
    ) -> RunObserver:
        start = self._commands.get(start_command)
        context = None
        if start is not None and start.span is not None:
            context = set_span_in_context(start.span, Context())
        key = (session_id, run)
        made = RunTelemetry(self._means, session_id, run, agent, context, left, self._run_ended)
        self._runs[key] = made
        return made

    def _run_ended(self, key: tuple[str, int], run: RunTelemetry) -> None:
        if self._runs.get(key) is run:
            del self._runs[key]
        for command_id in [i for i, one in self._commands.items() if one.run == key]:
            span = self._commands.pop(command_id).span
            if span is not None:
                span.end()

    # --- commands ---

    def received(self, command: host_pb.Command) -> None:
        action = command.WhichOneof("action") or ""
        resumes = action == "start" and command.start.HasField("resume")
        verb = "RESUME" if resumes else _VERBS.get(action, "UNSPECIFIED")
        key = (command.session_id, command.run)
        span = None
        if self._traces and command.HasField("trace"):
            place = (command.trace.traceparent, command.trace.tracestate)
            span = self._begin(command, verb, place)
            run = self._runs.get(key)
            if run is not None and action == "deliver":
                run.given(command.command_id, command.deliver, place)
        self._commands[command.command_id] = _Command(verb, key, time.perf_counter(), span)

    def _begin(self, command: host_pb.Command, verb: str, place: Place) -> Span | None:
        parent = from_headers(*place)
        if parent is None:
            return None
        return self._means.tracer.start_span(
            f"command {verb}",
            parent,
            SpanKind.CONSUMER,
            attributes={
                "bridle.verb": verb,
                "bridle.command_id": command.command_id,
                "bridle.session_id": command.session_id,
                "bridle.run": command.run,
            },
        )

    def answered(self, answers: Sequence[AnswerRow]) -> None:
        for answer in answers:
            command = self._commands.get(answer.command_id)
            if command is not None:
                entry = host_pb.CommandEntry.FromString(answer.body)
                self._answer(answer.command_id, command, entry.outcome)

    def _answer(self, command_id: str, command: _Command, outcome: receipt_pb2.Outcome) -> None:
        state = _STATES.get(outcome.state, "UNSPECIFIED")
        reason = _REASONS.get(outcome.reason, "UNSPECIFIED")
        final = outcome.state != receipt_pb2.OUTCOME_STATE_PENDING
        instruments = self._means.instruments
        if not command.answered:
            command.answered = True
            took = time.perf_counter() - command.begun
            instruments.command_duration.record(took, {"bridle.verb": command.verb})
        if (span := command.span) is not None:
            span.set_attribute("bridle.outcome.state", state)
            span.set_attribute("bridle.outcome.reason", reason)
            if outcome.error_reason:
                span.set_attribute("error.type", outcome.error_reason)
            if outcome.error_reason or outcome.state == receipt_pb2.OUTCOME_STATE_UNKNOWN:
                span.set_status(Status(StatusCode.ERROR))
            if final or command.verb == "SEND":
                span.end()
                command.span = None
        if final:
            del self._commands[command_id]
            about = {
                "bridle.verb": command.verb,
                "bridle.outcome.state": state,
                "bridle.outcome.reason": reason,
            }
            instruments.commands.add(1, about)

    # --- the journal ---

    def committed(self, seconds: float) -> None:
        """The journal's thread has committed. On that thread."""
        self._means.instruments.commit_duration.record(seconds)
