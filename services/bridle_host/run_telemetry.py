"""What is measured of one run: the spans of its turns, and what happens inside of them.

    the caller's span
    ├── command SEND            (`bridle_host.telemetry`)
    └── turn                    child of what the input's command came with, however long it waited
        ├── tool call           without a word of what is called
        └── approval            from when it is asked for to when it is decided

A turn that the agent began by itself is the root of a trace of its own, and so is one whose input
came with no trace. Where a turn takes more than one input (all that wait, or one that is steered
into it), the first is its parent and the others are links.

Nothing that people or agents say is told: no names of tools, no ids that an agent chose, no
messages; only numbers, names of enums, ids of Bridle's own, and the driver's name.

**Over the host's processes** a run lives on, and its observer with it (`kept`): for each input that
no turn has taken, where it stands in its trace, and of the open turn, since when it is open. So a
turn has one span, told by the process in which it ends, with the time at which it began. What is
inside of it and was over before was told by the earlier process, as the child of a span that never
came; what was open has none. `tracestate` is not kept: it may be as long as the rest of what is
written with every commit. What the host told last may be lost with it, if it is killed: spans are
handed over every few seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, Status, StatusCode, Tracer, set_span_in_context

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle_core.effects import (
    Answer,
    ApprovalRequested,
    ApprovalResolved,
    Closed,
    Effect,
    Emit,
    InputConsumed,
    PhaseChanged,
    ProcessExited,
    ProcessStarted,
    StartAgent,
    TurnEnded,
    TurnStarted,
)
from bridle_core.observations import StopReason, ToolEnded, ToolStarted
from bridle_core.phases import Phase, TurnTrigger
from bridle_host.metrics import Instruments
from bridle_host.observer import RunObserver
from bridle_host.run_state import RunState
from bridle_telemetry.trace_context import from_headers, place_of

#: Tool calls of one turn that are told at most: an agent makes as many as it likes.
TOOL_CALLS = 1000

_FAILED = frozenset({StopReason.FAILED, StopReason.AGENT_LOST, StopReason.HOST_STATE_LOST})

#: (traceparent, tracestate); empty ones: no trace.
Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Means:
    """What a run is measured with. `phases`: how many runs are in each phase."""

    tracer: Tracer
    instruments: Instruments
    phases: dict[str, int]


@dataclass(slots=True)
class _Turn:
    """The open one. `begun`: ns since the epoch."""

    begun: int
    place: Place
    span: Span
    #: Of what is inside; None where nobody wants to see it. All of that ends before the turn does.
    inside: Context | None
    tools: dict[str, Span] = field(default_factory=dict)
    approvals: dict[str, Span] = field(default_factory=dict)
    calls: int = 0


class RunTelemetry(RunObserver):
    """See the module. `start`: where the span of the command stands that started the run. `on_end`
    is called once, with the session's id and the run's number."""

    def __init__(
        self,
        means: Means,
        session_id: str,
        run: int,
        agent: str,
        start: Context | None,
        left: RunState | None,
        on_end: Callable[[tuple[str, int], RunTelemetry], None],
    ) -> None:
        self._means = means
        self._key = (session_id, run)
        self._on_end = on_end
        self._about: dict[str, str | int] = {"bridle.session_id": session_id, "bridle.run": run}
        self._agent = agent
        self._start = start
        self._starting: tuple[float, Span | None] | None = None
        #: Of the inputs that no turn has taken: where they stand, and by which commands they came.
        self._places: dict[str, Place] = {}
        self._inputs: dict[str, str] = {}
        self._turn: _Turn | None = None
        self._read = 0
        self._up = False
        self._phase = ""
        self._over = False
        self._count(Phase.STARTING if left is None else left.record.phase)
        if left is not None:
            self._take_over(left)

    def _take_over(self, left: RunState) -> None:
        record = left.record
        self._read = left.acknowledge
        if record.pid:
            self._is_up(up=True)
        turn, inputs = _read_kept(left.observed)
        for input_id, (command_id, parent) in inputs.items():
            self._inputs[command_id] = input_id
            self._places[input_id] = (parent, "")
        if turn is not None and (record.turn or left.astray):
            begun, parent = turn
            number = record.turn or record.last_turn
            self._begin(number, record.trigger, (parent, ""), (), begun)
        if not record.turn:
            # Control has ended it, for this host's journal is lost: the machine won't.
            self._end_turn(StopReason.HOST_STATE_LOST)

    # --- what it is told ---

    def given(self, command_id: str, deliver: host_pb.DeliverInput, place: Place) -> None:
        """An input is on its way to the run."""
        if deliver.input_id not in self._places:
            self._places[deliver.input_id] = place
            self._inputs[command_id] = deliver.input_id

    def performed(self, effects: Sequence[Effect], read: int) -> None:
        if read > self._read:
            self._means.instruments.output.add(read - self._read, {"bridle.agent": self._agent})
            self._read = read
        for effect in effects:
            if isinstance(effect, Emit):
                handle = _HANDLERS.get(type(effect.event))
                if handle is not None:
                    handle(self, effect, effect.event)
            elif isinstance(effect, Answer):
                if effect.final and (input_id := self._inputs.pop(effect.command_id, None)):
                    self._places.pop(input_id, None)
            elif isinstance(effect, StartAgent):
                self._on_start()
            elif isinstance(effect, Closed):
                self._started(up=False)

    def kept(self) -> Mapping[str, Any]:
        kept: dict[str, Any] = {}
        if self._turn is not None:
            kept["turn"] = [self._turn.begun, self._turn.place[0]]
        if self._inputs:
            kept["inputs"] = {i: [c, self._places[i][0]] for c, i in self._inputs.items()}
        return kept

    def ended(self, *, left: bool) -> None:
        if self._over:
            return
        self._over = True
        self._count("")
        self._is_up(up=False)
        if self._starting is not None and (span := self._starting[1]) is not None:
            span.end()  # As its command's does; nobody knows yet how it ends.
        turn, self._turn = self._turn, None
        if turn is not None and not left:
            _cut(turn)
        self._on_end(self._key, self)

    # --- the agent's process ---

    def _on_start(self) -> None:
        span = None
        if self._start is not None:
            span = self._means.tracer.start_span(
                "start agent", self._start, attributes={**self._about, "bridle.agent": self._agent}
            )
        self._starting = (time.perf_counter(), span)

    def _on_up(self, emit: Emit, event: ProcessStarted) -> None:
        self._is_up(up=True)
        self._started(up=True)

    def _on_gone(self, emit: Emit, event: ProcessExited) -> None:
        self._is_up(up=False)

    def _started(self, *, up: bool) -> None:
        if self._starting is None:
            return
        (begun, span), self._starting = self._starting, None
        if up:
            took = time.perf_counter() - begun
            self._means.instruments.start_duration.record(took, {"bridle.agent": self._agent})
        if span is not None:
            if not up:
                span.set_status(Status(StatusCode.ERROR))
            span.end()

    def _is_up(self, *, up: bool) -> None:
        if up is not self._up:
            self._up = up
            self._means.instruments.agents.add(1 if up else -1, {"bridle.agent": self._agent})

    def _on_phase(self, emit: Emit, event: PhaseChanged) -> None:
        if not self._over:
            self._count(event.after)

    def _count(self, phase: str) -> None:
        phases, before, self._phase = self._means.phases, self._phase, phase
        for name, step in ((before, -1), (phase, 1)):
            if name in phases:
                phases[name] += step

    # --- turns ---

    def _on_turn(self, emit: Emit, event: TurnStarted) -> None:
        nowhere: Place = ("", "")
        first, *others = [self._places.get(i, nowhere) for i in event.input_ids] or [nowhere]
        self._begin(emit.turn, event.trigger, first, others, time.time_ns())

    def _begin(
        self,
        number: int,
        trigger: TurnTrigger,
        place: Place,
        others: Sequence[Place],
        begun: int,
    ) -> None:
        # Not the current context: a turn belongs to what its input came with, or to nothing.
        parent = from_headers(*place) or Context()
        span = self._means.tracer.start_span(
            "turn",
            parent,
            attributes={
                **self._about,
                "bridle.turn": number,
                "bridle.agent": self._agent,
                "bridle.trigger": str(trigger),
            },
            links=[Link(place_of(context)) for p in others if (context := from_headers(*p))],
            start_time=begun,
        )
        inside = set_span_in_context(span, parent) if span.is_recording() else None
        self._turn = _Turn(begun, place, span, inside)

    def _on_consumed(self, emit: Emit, event: InputConsumed) -> None:
        turn = self._turn
        if turn is not None and event.steered and turn.inside is not None:
            context = from_headers(*self._places.get(event.input_id, ("", "")))
            if context is not None:
                turn.span.add_link(place_of(context))

    def _on_turn_over(self, emit: Emit, event: TurnEnded) -> None:
        self._end_turn(event.stop_reason)

    def _end_turn(self, stop_reason: StopReason) -> None:
        turn, self._turn = self._turn, None
        if turn is None:
            return
        reason = str(stop_reason)
        now = time.time_ns()
        # The clock may have been set meanwhile.
        took = max(0, now - turn.begun) / 1e9
        self._means.instruments.turn_duration.record(
            took, {"bridle.agent": self._agent, "bridle.stop_reason": reason}
        )
        turn.span.set_attribute("bridle.stop_reason", reason)
        if stop_reason in _FAILED:
            turn.span.set_status(Status(StatusCode.ERROR))
        turn.span.end(max(now, turn.begun))

    # --- inside of a turn ---

    def _on_tool(self, emit: Emit, event: ToolStarted) -> None:
        turn = self._turn
        if turn is not None and turn.inside is not None and turn.calls < TOOL_CALLS:
            turn.calls += 1
            turn.tools[event.tool_call_id] = self._means.tracer.start_span("tool call", turn.inside)

    def _on_tool_over(self, emit: Emit, event: ToolEnded) -> None:
        span = self._turn.tools.pop(event.tool_call_id, None) if self._turn is not None else None
        if span is not None:
            span.set_attribute("bridle.tool.status", str(event.status))
            span.end()

    def _on_asked(self, emit: Emit, event: ApprovalRequested) -> None:
        turn = self._turn
        if turn is not None and turn.inside is not None:
            span = self._means.tracer.start_span("approval", turn.inside)
            turn.approvals[event.approval_id] = span

    def _on_decided(self, emit: Emit, event: ApprovalResolved) -> None:
        turn = self._turn
        span = turn.approvals.pop(event.approval_id, None) if turn is not None else None
        if span is not None:
            span.set_attribute("bridle.approval.decision", str(event.decision))
            span.set_attribute("bridle.approval.by", str(event.by))
            span.end()


def _cut(turn: _Turn) -> None:
    """Ends the spans of a turn that was killed without a word: control has given the run up."""
    for span in (*turn.tools.values(), *turn.approvals.values()):
        span.end()
    turn.span.set_status(Status(StatusCode.ERROR))
    turn.span.end(max(time.time_ns(), turn.begun))


def _read_kept(
    kept: Mapping[str, Any],
) -> tuple[tuple[int, str] | None, dict[str, tuple[str, str]]]:
    """The open turn and the inputs of `kept`; nothing, where another version wrote it otherwise."""
    try:
        turn = (int(kept["turn"][0]), str(kept["turn"][1])) if "turn" in kept else None
        inputs = {str(i): (str(c), str(p)) for i, (c, p) in kept.get("inputs", {}).items()}
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return None, {}
    return turn, inputs


_HANDLERS: Mapping[type, Callable[[RunTelemetry, Emit, Any], None]] = {
    TurnStarted: RunTelemetry._on_turn,
    TurnEnded: RunTelemetry._on_turn_over,
    InputConsumed: RunTelemetry._on_consumed,
    ToolStarted: RunTelemetry._on_tool,
    ToolEnded: RunTelemetry._on_tool_over,
    ApprovalRequested: RunTelemetry._on_asked,
    ApprovalResolved: RunTelemetry._on_decided,
    ProcessStarted: RunTelemetry._on_up,
    ProcessExited: RunTelemetry._on_gone,
    PhaseChanged: RunTelemetry._on_phase,
}
