"""What is true at every step of a simulation, and what is told of it. See `scenario`.

The base of the story: its control, its hosts, its trace; whatever is committed, and whatever an
agent gets, comes by here.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b

from bridle.v1 import event_pb2, receipt_pb2
from bridle_control.caller import Caller
from bridle_control.store.api import Changes
from bridle_control.store.event_bytes import unframe
from bridle_core.ordering import OrderChecker
from tests.robustness.simulation.control import Control
from tests.robustness.simulation.host import Host
from tests.support.event_order import feed_event

PENDING = receipt_pb2.OUTCOME_STATE_PENDING
RAN = receipt_pb2.OUTCOME_STATE_RAN
NOT_RUN = receipt_pb2.OUTCOME_STATE_NOT_RUN
UNKNOWN = receipt_pb2.OUTCOME_STATE_UNKNOWN


class LawBrokenError(AssertionError):
    """A law does not hold; the text says which, and when."""


@dataclass
class Told:
    """What a simulation came to."""

    seed: int
    trace: list[str]
    events: int = 0
    inputs: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def hash(self) -> str:
        """The same for the same seed."""
        return blake2b("\n".join(self.trace).encode(), digest_size=8).hexdigest()


@dataclass
class Asked:
    """A request of a caller, and what it was told."""

    verb: str
    slug: str
    request_id: str
    key: str
    caller: Caller
    receipt: receipt_pb2.Receipt | None = None
    refused: str = ""
    #: Whether the end has been read from control, once the faults were over.
    settled: bool = False


class Laws:
    """See the module."""

    def __init__(self, seed: int, *, forgotten: bool = False) -> None:
        """`forgotten`: hosts also lose their journals while their agents live on."""
        self._forgotten = forgotten
        self.told = Told(seed, [])
        self._chance = random.Random(f"story/{seed}")
        self._broken: list[str] = []
        self._begin = asyncio.get_running_loop().time()
        self._checkers: dict[str, OrderChecker] = {}
        self._heads: dict[str, int] = {}
        self._said: dict[str, list[str]] = {}
        self._got: Counter[tuple[str, str]] = Counter()
        self._outcomes: dict[str, tuple[int, int]] = {}
        self._names: dict[str, str] = {}
        self._asked: list[Asked] = []
        self._numbers = 0
        self._over = False
        self._forced: set[str] = set()
        self.control = Control(self._dice("control"), self._committed)
        self.hosts: list[Host] = []

    def _dice(self, name: str) -> random.Random:
        return random.Random(f"{name}/{self.told.seed}")

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time() - self._begin

    def _note(self, text: str) -> None:
        self.told.trace.append(f"{self.now:.6f} {text}")

    def _break(self, text: str) -> None:
        self._note(f"BROKEN {text}")
        self._broken.append(f"seed {self.told.seed}, at {self.now:.3f}: {text}")

    def _look(self) -> None:
        if self._broken:
            raise LawBrokenError("\n".join(self._broken[:10]))

    # --- the laws, at every step ---------------------------------------------------------------

    def _committed(self, changes: Changes) -> None:
        for appended in changes.appended:
            session_id = appended.session_id
            head = self._heads.get(session_id, 0)
            if appended.first != head + 1:
                self._break(f"event {appended.first} of {session_id} follows event {head}")
            self._heads[session_id] = appended.first + len(appended.framed) - 1
            checker = self._checkers.setdefault(session_id, OrderChecker())
            for framed in appended.framed:
                self._event(session_id, checker, event_pb2.Event.FromString(unframe(framed)))
        for row in changes.commands.values():
            outcome = receipt_pb2.Outcome.FromString(row.outcome)
            self._outcome(row.command_id, outcome, row.verb)

    def _event(self, session_id: str, checker: OrderChecker, event: event_pb2.Event) -> None:
        self.told.events += 1
        kind = event.WhichOneof("kind") or "?"
        number = self._number(session_id)
        self._note(f"event {number} {event.sequence} {kind} {event.run} {event.turn}")
        try:
            feed_event(checker, event)
        except AssertionError as violation:
            self._break(f"session {number}: {violation}")
        if kind == "agent_message":
            self._said.setdefault(session_id, []).append(event.agent_message.content[0].text)
        elif kind == "tool_call_output":
            self._said.setdefault(session_id, []).append(event.tool_call_output.text)

    def _number(self, session_id: str) -> str:
        return self._names.setdefault(session_id, f"#{len(self._names)}")

    def _outcome(self, command_id: str, outcome: receipt_pb2.Outcome, verb: int) -> None:
        before = self._outcomes.get(command_id)
        # A host that had begun what was withdrawn knows better.
        may_change = (None, (NOT_RUN, receipt_pb2.OUTCOME_REASON_EXPIRED))
        if before not in may_change and before[0] not in (0, PENDING, outcome.state):
            self._break(f"an outcome changed: {before} became {short(outcome)}, verb {verb}")
        self._outcomes[command_id] = (outcome.state, outcome.reason)

    def _heard(self, session_id: str, key: str) -> None:
        self.told.inputs += 1
        self._got[session_id, key] += 1
        self._note(f"got {self._number(session_id)} {key}")
        if self._got[session_id, key] > 1:
            self._break(f"{key} ran {self._got[session_id, key]} times")
        living = [
            (host.name, key_)
            for host in self.hosts
            for key_, agent in host.agents.items()
            if key_[0] == session_id and not agent.dead
        ]
        if len(living) > 1 and session_id not in self._forced:
            self._break(f"{living} are live at once")


def short(outcome: receipt_pb2.Outcome | None) -> str:
    if outcome is None:
        return ""
    state = receipt_pb2.OutcomeState.Name(outcome.state).removeprefix("OUTCOME_STATE_")
    reason = receipt_pb2.OutcomeReason.Name(outcome.reason).removeprefix("OUTCOME_REASON_")
    return f"{state}/{reason}"
