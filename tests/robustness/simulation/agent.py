"""An agent in a simulation: it outlives its host's process, and remembers what it truly got.

It stands for the agent, its shim and its driver together: what it says is kept with a number until
a host process has taken it; an order that comes twice is done once. `said` and `got` are the truth
that the log is held against at the end.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from bridle_core.observations import (
    ApprovalAsked,
    Content,
    Decision,
    Message,
    Observation,
    OutputStream,
    ProcessGone,
    ProcessUp,
    Steered,
    StopReason,
    Text,
    ToolEnded,
    ToolOutput,
    ToolStarted,
    ToolStatus,
    TurnBegan,
    TurnOver,
)

SIGKILL = 9


class Agent:
    """See the module. `heard(key)` is called when it got an input; `news` is set when it spoke."""

    def __init__(
        self, name: str, pid: int, chance: random.Random, heard: Callable[[str], None]
    ) -> None:
        self.name = name
        self.pid = pid
        self._chance = chance
        self._heard = heard
        #: All that it ever said to its driver, in order.
        self.out: list[Observation] = []
        #: The keys of the inputs that it got, and the texts that it said within turns.
        self.got: list[str] = []
        self.said: list[str] = []
        self.dead = False
        self.started = False
        self.news: asyncio.Event | None = None
        #: Whether something other than its own end cut it off.
        self.killed = False
        self._orders: set[tuple[str, object]] = set()
        self._plan: list[Callable[[], None]] = []
        self._open = False
        self._asking = ""
        self._timer: asyncio.TimerHandle | None = None
        self._ids = 0
        #: Some heed no interrupt, and have to be killed.
        self._deaf = chance.random() < 0.05

    # --- orders, each done once ----------------------------------------------------------------

    def start(self) -> None:
        if self._first("start", 0):
            self._later(0.3, lambda: self._say(ProcessUp(self.pid)))

    def send(self, label: int, content: Sequence[Content]) -> None:
        if not self._first("send", label):
            return
        steps: list[Callable[[], None]] = [lambda: self._begin(label)]
        steps += self._hear(content)
        steps.append(lambda: self._end(StopReason.COMPLETED))
        self._plan = steps
        self._go_on()

    def steer(self, input_id: str, content: Sequence[Content]) -> None:
        if not self._first("steer", input_id) or not self._open:
            return
        steps = self._hear(content)
        self._say(Steered(input_id))
        self._plan = steps + self._plan

    def interrupt(self, *, deaf_too: bool = False) -> None:
        if self._open and not self.dead and (deaf_too or not self._deaf):
            self._asking = ""
            self._plan = [lambda: self._end(StopReason.INTERRUPTED)]
            self._go_on()

    def respond(self, approval_id: str, decision: Decision) -> None:
        if self._asking == approval_id:
            self._asking = ""
            self._go_on()

    def stop(self) -> None:
        if self._first("stop", 0):
            self._later(0.2, lambda: self._die(ProcessGone(self.pid, exit_code=0)))

    def kill(self) -> None:
        """By its host: told as such."""
        self.killed = self.killed or not self.dead
        self._die(ProcessGone(self.pid, signal=SIGKILL, killed=True))

    # --- faults --------------------------------------------------------------------------------

    def crash(self) -> None:
        """By itself, or by somebody who is none of ours."""
        self.killed = True
        self._die(ProcessGone(self.pid, signal=11))

    def vanish(self) -> None:
        """With its machine; it tells nobody."""
        self.killed = True
        self.dead = True
        self._cancel()

    # --- its life ------------------------------------------------------------------------------

    def _first(self, what: str, which: object) -> bool:
        if self.dead or (what, which) in self._orders:
            return False
        self._orders.add((what, which))
        return True

    def _hear(self, content: Sequence[Content]) -> list[Callable[[], None]]:
        """Takes inputs, a piece of text each; what it does about them."""
        steps: list[Callable[[], None]] = []
        for piece in content:
            assert isinstance(piece, Text)
            self.got.append(piece.text)
            self._heard(piece.text)
            steps += self._steps(piece.text)
        return steps

    def _steps(self, key: str) -> list[Callable[[], None]]:
        steps: list[Callable[[], None]] = []
        for number in range(self._chance.randint(0, 4)):
            text = f"{key}/{number}"
            if self._chance.random() < 0.6:
                steps.append(lambda text=text: self._message(text))  # type: ignore[misc]
            else:
                steps.append(lambda text=text: self._tool(text))  # type: ignore[misc]
        if self._chance.random() < 0.1:
            steps.insert(self._chance.randint(0, len(steps)), self._ask)
        return steps

    def _go_on(self) -> None:
        self._cancel()
        self._timer = asyncio.get_running_loop().call_later(
            self._chance.expovariate(1 / 0.4), self._next
        )

    def _next(self) -> None:
        if self.dead or not self._plan or self._asking:
            return
        self._plan.pop(0)()
        if self._plan:
            self._go_on()

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(
            self._chance.uniform(0.1, 2.0) * seconds, lambda: None if self.dead else what()
        )

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _say(self, *observations: Observation) -> None:
        self.out.extend(observations)
        if self.news is not None:
            self.news.set()

    def _begin(self, label: int) -> None:
        self._open = True
        self._say(TurnBegan(label))

    def _end(self, reason: StopReason) -> None:
        self._open = False
        self._say(TurnOver(reason))

    def _message(self, text: str) -> None:
        self.said.append(text)
        self._say(Message(self._id(), (Text(text),)))

    def _tool(self, text: str) -> None:
        self.said.append(text)
        name = self._id()
        self._say(ToolStarted(name, "tool"))
        self._say(ToolOutput(name, text.encode(), OutputStream.STDOUT))
        self._say(ToolEnded(name, ToolStatus.SUCCEEDED))

    def _ask(self) -> None:
        self._asking = self._id()
        self._say(ApprovalAsked(self._asking, "tool"))

    def _die(self, gone: ProcessGone) -> None:
        if self.dead:
            return
        self._cancel()
        self.dead, self._open = True, False
        self._say(gone)

    def _id(self) -> str:
        self._ids += 1
        return f"{self.name}-{self._ids}"
