"""A session machine in the hands of a test: a clock to turn, what it said, the order checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from bridle_core.commands import Cancel, Command, Deliver, Interrupt, Kill, RunSpec, Stop
from bridle_core.effects import (
    Answer,
    ApprovalRequested,
    ApprovalResolved,
    ArtifactsReported,
    Closed,
    Effect,
    Emit,
    InputCancelled,
    InputConsumed,
    LogEvent,
    Met,
    OutcomeState,
    PhaseChanged,
    ProcessExited,
    ProcessStarted,
    QueueHeld,
    QueueReleased,
    SendTurn,
    SessionEnded,
    SessionResumed,
    SessionStarted,
    TurnEnded,
    TurnStarted,
)
from bridle_core.observations import (
    Content,
    Message,
    Note,
    Observation,
    Plan,
    ProcessUp,
    StopReason,
    Text,
    Thought,
    ToolEnded,
    ToolOutput,
    ToolStarted,
    TurnBegan,
    TurnOver,
    Usage,
)
from bridle_core.ordering import EventKind, OrderChecker
from bridle_core.phases import InputMode, Phase
from bridle_core.session import RunRecord, Session

KINDS: dict[type, EventKind] = {
    SessionStarted: EventKind.SESSION_STARTED,
    SessionResumed: EventKind.SESSION_RESUMED,
    ProcessStarted: EventKind.PROCESS_STARTED,
    TurnStarted: EventKind.TURN_STARTED,
    TurnEnded: EventKind.TURN_ENDED,
    ArtifactsReported: EventKind.ARTIFACTS_REPORTED,
    ProcessExited: EventKind.PROCESS_EXITED,
    SessionEnded: EventKind.SESSION_ENDED,
    PhaseChanged: EventKind.PHASE_CHANGED,
    InputConsumed: EventKind.INPUT_CONSUMED,
    InputCancelled: EventKind.INPUT_CANCELLED,
    QueueHeld: EventKind.QUEUE_HELD,
    QueueReleased: EventKind.QUEUE_RELEASED,
    Message: EventKind.AGENT_MESSAGE,
    Thought: EventKind.AGENT_THOUGHT,
    ToolStarted: EventKind.TOOL_CALL_STARTED,
    ToolOutput: EventKind.TOOL_CALL_OUTPUT,
    ToolEnded: EventKind.TOOL_CALL_ENDED,
    Plan: EventKind.PLAN_UPDATED,
    ApprovalRequested: EventKind.APPROVAL_REQUESTED,
    ApprovalResolved: EventKind.APPROVAL_RESOLVED,
    Usage: EventKind.USAGE_REPORTED,
    Note: EventKind.DIAGNOSTIC,
}

E = TypeVar("E")


def feed(checker: OrderChecker, emit: Emit) -> None:
    """Give the checker an event of the core."""
    event: Any = emit.event
    # Of an approval, which names a tool call too, the approval counts.
    ids = (getattr(event, name, "") for name in ("approval_id", "tool_call_id", "input_id"))
    ref = next((one for one in ids if one), "")
    inputs = event.input_ids if isinstance(event, TurnStarted) else ()
    checker.feed(KINDS[type(event)], turn=emit.turn, ref=ref, inputs=inputs)


class Twins:
    """A machine that is made again from its record before each call, and has to do the same.

    The one that was never written down goes on; so what a record leaves out shows in the end.
    """

    def __init__(self, machine: Session) -> None:
        self._machine = machine
        #: What the inputs say, by their ids; a record does not hold it.
        self.contents: dict[str, tuple[Content, ...]] = {}

    def __getattr__(self, name: str) -> Any:
        held = getattr(self._machine, name)
        if not callable(held) or name in ("record", "recovered"):
            return held

        def call(*arguments: Any, **named: Any) -> Any:
            machine = self._machine
            record = RunRecord.load(machine.record().dump())
            assert record == machine.record()
            again = Session.restore(machine._spec, record, self.contents)
            assert again.record() == record
            if isinstance(arguments[0], Deliver):
                self.contents.setdefault(arguments[0].input_id, arguments[0].content)
            done = held(*arguments, **named)
            assert getattr(again, name)(*arguments, **named) == done
            assert again.record() == machine.record()
            assert again.deadline == machine.deadline
            assert again.input_ids == machine.input_ids
            return done

        return call


class Run:
    """A machine, its clock, and everything that it ever said."""

    def __init__(self, spec: RunSpec | None = None) -> None:
        self.machine: Any = Twins(Session(spec or RunSpec("start", "fake")))
        self.now = 100.0
        self.said: list[Effect] = []
        self.checker = OrderChecker()
        self._sequence = 0

    # --- doing ---

    def take(self, effects: Sequence[Effect]) -> list[Effect]:
        for effect in effects:
            if isinstance(effect, Emit):
                feed(self.checker, effect)
        self.said += effects
        return list(effects)

    def open(self) -> list[Effect]:
        return self.take(self.machine.open(self.now))

    def see(self, *observations: Observation) -> list[Effect]:
        """One batch of observations."""
        effects: list[Effect] = []
        for observation in observations:
            effects += self.machine.observe(observation, self.now)
        effects += self.machine.settle(self.now)
        return self.take(effects)

    def do(self, command: Command) -> list[Effect]:
        return self.take(self.machine.apply(command, self.now))

    def wait(self, seconds: float) -> list[Effect]:
        """Let the time pass, with a tick at each deadline on the way."""
        effects: list[Effect] = []
        end = self.now + seconds
        while (deadline := self.machine.deadline) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            effects += self.take(self.machine.tick(self.now))
        self.now = end
        return effects + self.take(self.machine.tick(self.now))

    def gone(self, swept: int = 0) -> list[Effect]:
        return self.take(self.machine.gone(swept, self.now))

    def succeed(self) -> list[Effect]:
        """Let the host process end and the next one take over."""
        record = RunRecord.load(self.machine.record().dump())
        contents = self.machine.contents
        self.machine = Twins(Session.restore(self.machine._spec, record, contents))
        self.machine.contents = contents
        return self.take(self.machine.recovered(self.now))

    # --- short words ---

    def up(self) -> Run:
        """Open, with the agent up."""
        self.open()
        self.see(ProcessUp(7))
        return self

    def send(
        self,
        input_id: str = "",
        *,
        mode: InputMode = InputMode.QUEUE,
        or_queue: bool = False,
        ttl: float | None = None,
        text: str = "hello",
    ) -> list[Effect]:
        """Deliver an input; its command is called as it is, with a c before."""
        self._sequence += 1
        input_id = input_id or f"i{self._sequence}"
        content = (Text(text),)
        return self.do(
            Deliver("c" + input_id, input_id, content, self._sequence, mode, or_queue, ttl)
        )

    def begin(self, input_id: str = "") -> Run:
        """Send, and let the agent confirm the turn."""
        self.send(input_id)
        self.confirm()
        return self

    def confirm(self) -> list[Effect]:
        return self.see(TurnBegan(self.label))

    def finish(self, reason: StopReason = StopReason.COMPLETED) -> list[Effect]:
        return self.see(TurnOver(reason))

    def interrupt(self, command_id: str = "int", **options: Any) -> list[Effect]:
        return self.do(Interrupt(command_id, **options))

    def stop(self, command_id: str = "stop", **options: Any) -> list[Effect]:
        return self.do(Stop(command_id, **options))

    def kill(self, command_id: str = "kill") -> list[Effect]:
        return self.do(Kill(command_id))

    def cancel(self, input_id: str, command_id: str = "cancel") -> list[Effect]:
        return self.do(Cancel(command_id, input_id))

    @property
    def label(self) -> int:
        """Of the newest turn that was handed to the agent."""
        return [effect.label for effect in self.said if isinstance(effect, SendTurn)][-1]

    def phase(self) -> Phase:
        phase: Phase = self.machine.phase
        return phase

    # --- looking back ---

    def answers(self, command_id: str) -> list[tuple[OutcomeState, Met]]:
        return [(a.state, a.met) for a in self.all_answers(command_id)]

    def all_answers(self, command_id: str) -> list[Answer]:
        return [a for a in self.said if isinstance(a, Answer) and a.command_id == command_id]

    def events(self, kind: type[E]) -> list[E]:
        return [e.event for e in self.said if isinstance(e, Emit) and isinstance(e.event, kind)]

    @property
    def closed(self) -> bool:
        return any(isinstance(effect, Closed) for effect in self.said)


def events(effects: Sequence[Effect]) -> list[LogEvent]:
    """The events among effects."""
    return [effect.event for effect in effects if isinstance(effect, Emit)]


def calls(effects: Sequence[Effect]) -> list[Effect]:
    """What is neither an event nor an answer."""
    return [effect for effect in effects if not isinstance(effect, Emit | Answer)]
