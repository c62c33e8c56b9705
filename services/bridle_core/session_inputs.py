"""The session machine's state, and what it does with inputs before a turn takes them.

The lowest part of `bridle_core.session.Session` (where the laws and the table of phases stand):
inputs are delivered, queued, steered, cancelled, settled. It may not begin or end a turn. Only
`session_approvals`, `session_turns` and `session` build on it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from bridle_core.commands import Cancel, Deliver, Release, RunSpec
from bridle_core.effects import (
    Answer,
    Effect,
    Emit,
    InputCancelled,
    InputConsumed,
    LogEvent,
    Met,
    OutcomeState,
    QueueReleased,
    SteerTurn,
)
from bridle_core.errors import Reason
from bridle_core.observations import Capability, Image, StopReason, Usage
from bridle_core.phases import AfterInterrupt, CancelReason, InputMode, Principal
from bridle_core.queue import InputQueue, Item
from bridle_core.turn import LastWords, Turn

#: So many inputs that are over are remembered, for a CancelInput that comes too late. Control sends
#: one only for an input that waits in its rows, so it is late by a round trip at the most. All of
#: them are written down with the run.
SETTLED = 128


class Move(StrEnum):
    """What moves a session from phase to phase."""

    PROCESS_UP = "PROCESS_UP"
    TURN_BEGAN = "TURN_BEGAN"
    APPROVAL_OPENED = "APPROVAL_OPENED"
    APPROVALS_CLOSED = "APPROVALS_CLOSED"
    TURN_OVER = "TURN_OVER"
    STOP_ACCEPTED = "STOP_ACCEPTED"
    KILL_ACCEPTED = "KILL_ACCEPTED"
    STOPPED = "STOPPED"
    FAILED = "FAILED"
    KILLED = "KILLED"


class Timer(StrEnum):
    """What the machine waits for at a moment of its own."""

    START = "START"
    TURN = "TURN"
    INTERRUPT = "INTERRUPT"
    STOP = "STOP"
    END = "END"
    KILL = "KILL"
    IDLE = "IDLE"
    PARK = "PARK"


@dataclass(frozen=True, slots=True)
class Handed:
    """Inputs that were given to the agent as a turn which it has not confirmed."""

    label: int
    items: tuple[Item, ...]


@dataclass(slots=True)
class Interrupting:
    """The turn that is on, or about to begin, is to end."""

    stop_reason: StopReason
    grace: float
    after: AfterInterrupt | None = None
    include_background: bool = False
    principal: Principal | None = None
    commands: list[str] = field(default_factory=list)
    #: What DROP cancels: the inputs that waited when it was asked for.
    dropped: frozenset[str] = frozenset()
    #: It was asked for while the turn was about to begin.
    early: bool = False
    #: When the driver's own grace is over; None until the driver was told.
    deadline: float | None = None


class Inputs(ABC):
    """See the module."""

    def __init__(self, spec: RunSpec) -> None:
        self._spec = spec
        self._policy = spec.policy
        self._now = 0.0
        self._out: list[Effect] = []
        self._timers: dict[Timer, float] = {}
        self._queue = InputQueue(spec.queue_state)
        self._turn: Turn | None = None
        self._handed: Handed | None = None
        #: Given to the agent to steer by, not confirmed.
        self._steering: dict[str, Item] = {}
        self._interrupt: Interrupting | None = None
        #: CancelInputs that wait until it is known what became of an input.
        self._cancels: dict[str, list[str]] = {}
        self._last_label = 0
        #: What became of inputs: (turn, steered), turn 0 for cancelled.
        self._settled: OrderedDict[str, tuple[int, bool]] = OrderedDict()
        self._last_turn = spec.last_turn
        self._last_stop: StopReason | None = None
        #: What the agent told last of what the run used.
        self._usage: Usage | None = None
        self._words = LastWords()
        self._up = False

    @abstractmethod
    def _move(self, move: Move) -> None:
        """Change the phase by the table, and say so."""

    @abstractmethod
    def _rest(self) -> None:
        """Decide what comes next, if nothing is on."""

    @abstractmethod
    def _interrupt_turn(
        self,
        stop_reason: StopReason,
        *,
        command_id: str = "",
        grace: float | None = None,
        after: AfterInterrupt | None = None,
        include_background: bool = False,
        principal: Principal | None = None,
    ) -> None:
        """End the turn that is on or about to begin. Without `after` the queue just goes on."""

    @property
    @abstractmethod
    def _taking(self) -> bool:
        """Whether the run takes inputs: neither Stop nor Kill nor its own end was decided."""

    @property
    @abstractmethod
    def _closing(self) -> CancelReason:
        """Why inputs are cancelled in a run that takes none."""

    @property
    @abstractmethod
    def _dying(self) -> bool:
        """Whether the agent is being killed or is gone: nothing is asked of it any more."""

    # --- small words ---

    def _flush(self) -> list[Effect]:
        out, self._out = self._out, []
        return out

    def _emit(self, event: LogEvent, turn: int = 0, principal: Principal | None = None) -> None:
        self._out.append(Emit(event, turn, principal))

    def _answer(
        self,
        command_id: str,
        state: OutcomeState,
        met: Met,
        *,
        turn: int = 0,
        input_id: str = "",
    ) -> None:
        if command_id:
            self._out.append(Answer(command_id, state, met, turn, input_id))

    def _refuse(
        self, command_id: str, error: Reason, message: str, metadata: Mapping[str, str]
    ) -> None:
        self._out.append(
            Answer(
                command_id,
                OutcomeState.NOT_RUN,
                Met.REFUSED,
                message=message,
                error=error,
                metadata=metadata,
            )
        )

    def _set_timer(self, timer: Timer, seconds: float) -> None:
        """0 means never."""
        if seconds > 0:
            self._timers[timer] = self._now + seconds

    @property
    def _turn_number(self) -> int:
        """The turn that is on or about to begin; 0 for none."""
        if self._turn is not None:
            return self._turn.number
        return self._last_turn + 1 if self._handed is not None else 0

    # --- inputs ---

    def _deliver(self, command: Deliver) -> None:
        item = Item(
            command.input_id,
            command.command_id,
            command.content,
            command.sequence,
            command.mode,
            self._expiry(command.time_to_live),
            command.principal,
            into_turn=(
                command.mode is InputMode.STEER
                and Capability.STEER in self._spec.capabilities
                and self._handed is not None
            ),
        )
        if self._known(command.input_id):
            message = "the input is here already"
            self._refuse(command.command_id, Reason.INVALID_REQUEST, message, {})
            return
        if not self._taking:
            self._reject(item, self._closing, Reason.SESSION_ENDING, "the session is ending", {})
            return
        missing = self._missing(command)
        if missing is not None:
            message = f"the agent {self._spec.agent} can't do {missing}"
            metadata = {"capability": missing}
            reason = CancelReason.CAPABILITY_MISSING
            self._reject(item, reason, Reason.CAPABILITY_MISSING, message, metadata)
            return
        pending = OutcomeState.PENDING
        self._answer(item.command_id, pending, Met.QUEUED, input_id=item.input_id)
        if self._steerable(command):
            self._steer(item)
            return
        self._queue.add(item)
        if command.mode is InputMode.NOW and self._turn_number and self._interrupt is None:
            self._interrupt_turn(StopReason.INTERRUPTED, principal=command.principal)
        self._rest()

    def _expiry(self, seconds: float | None) -> float | None:
        if seconds is None:
            return self._now + self._policy.input_ttl if self._policy.input_ttl > 0 else None
        return self._now + seconds

    def _known(self, input_id: str) -> bool:
        if input_id in self._queue or input_id in self._steering or input_id in self._settled:
            return True
        handed = self._handed.items if self._handed is not None else ()
        return any(item.input_id == input_id for item in handed)

    def _missing(self, command: Deliver) -> Capability | None:
        has = self._spec.capabilities
        if command.mode is InputMode.STEER and not command.or_queue and Capability.STEER not in has:
            return Capability.STEER
        pictures = any(isinstance(piece, Image) for piece in command.content)
        return Capability.IMAGES if pictures and Capability.IMAGES not in has else None

    def _steerable(self, command: Deliver) -> bool:
        return (
            command.mode is InputMode.STEER
            and Capability.STEER in self._spec.capabilities
            and self._turn is not None
            and self._interrupt is None
            and not self._dying
        )

    def _steer(self, item: Item) -> None:
        self._steering[item.input_id] = item
        self._out.append(SteerTurn(item.input_id, item.content))

    def _reject(
        self,
        item: Item,
        reason: CancelReason,
        error: Reason,
        message: str,
        metadata: Mapping[str, str],
    ) -> None:
        """Not taken at all: the event for the log, the answer for the caller."""
        self._emit(InputCancelled(item.input_id, reason))
        self._refuse(item.command_id, error, message, metadata)
        self._settle(item.input_id)

    def _cancel_items(
        self, items: tuple[Item, ...], reason: CancelReason, principal: Principal | None = None
    ) -> None:
        met = Met.EXPIRED if reason is CancelReason.EXPIRED else Met.CANCELLED
        for item in items:
            self._emit(InputCancelled(item.input_id, reason), principal=principal)
            self._answer(item.command_id, OutcomeState.NOT_RUN, met, input_id=item.input_id)
            self._settle(item.input_id)

    def _consume(self, item: Item, turn: int, *, steered: bool, confirmed: bool) -> None:
        """What died with the agent before it confirmed is consumed too: it never runs again."""
        state, met = OutcomeState.RAN, Met.STEERED if steered else Met.TURN_STARTED
        if not confirmed:
            state, met = OutcomeState.UNKNOWN, Met.AGENT_LOST
        self._emit(InputConsumed(item.input_id, steered), turn, item.principal)
        self._answer(item.command_id, state, met, turn=turn, input_id=item.input_id)
        self._settle(item.input_id, turn, steered=steered)

    def _settle(self, input_id: str, turn: int = 0, *, steered: bool = False) -> None:
        self._settled[input_id] = (turn, steered)
        if len(self._settled) > SETTLED:
            self._settled.popitem(last=False)
        for command_id in self._cancels.pop(input_id, ()):
            self._answer_cancel(command_id, input_id)

    def _answer_cancel(self, command_id: str, input_id: str) -> None:
        turn, steered = self._settled[input_id]
        state, met = OutcomeState.RAN, Met.INPUT_CANCELLED
        if turn:
            state, met = OutcomeState.NOT_RUN, Met.STEERED if steered else Met.TURN_STARTED
        self._answer(command_id, state, met, turn=turn, input_id=input_id)

    def _give_back(self, item: Item) -> None:
        """It was given to the agent and certainly not used."""
        if item.input_id in self._cancels:
            self._cancel_items((item,), CancelReason.REQUESTED)
        elif self._taking:
            self._queue.give_back(item)
        else:
            self._cancel_items((item,), self._closing)

    def _cancel(self, command: Cancel) -> None:
        input_id = command.input_id
        if (item := self._queue.take_id(input_id)) is not None:
            self._cancels[input_id] = [command.command_id]
            self._cancel_items((item,), CancelReason.REQUESTED, command.principal)
        elif input_id in self._settled:
            self._answer_cancel(command.command_id, input_id)
        elif self._known(input_id):
            self._answer(command.command_id, OutcomeState.PENDING, Met.IN_PROGRESS)
            self._cancels.setdefault(input_id, []).append(command.command_id)
        else:
            message, metadata = "no such input waits", {"input": input_id}
            self._refuse(command.command_id, Reason.INPUT_NOT_FOUND, message, metadata)

    def _release(self, command: Release) -> None:
        if not self._taking:
            message = "the session is ending"
            self._refuse(command.command_id, Reason.SESSION_ENDING, message, {})
            return
        if self._interrupt is not None and self._interrupt.after is AfterInterrupt.HOLD:
            # The release was committed after the interrupt: the hold that it asked for is undone.
            self._interrupt.after = AfterInterrupt.RUN
        if self._queue.release():
            self._emit(QueueReleased(), principal=command.principal)
        self._answer(command.command_id, OutcomeState.RAN, Met.DONE)
        self._rest()
