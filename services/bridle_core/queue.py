"""The queue of a session's inputs on its host.

Decides which inputs run next and what is left of them; knows nothing of turns, of time's passing or
of the agent. Called by the session machine only.

The order: NOW inputs first, then those that came back (steered text that the agent did not
confirm), then the rest; within each, the order in which control accepted them. While the queue is
HELD, inputs wait, but a NOW input runs, alone.

An input is in one place at a time, and leaves the queue once: taken, steered or cancelled.
`give_back` is the one way in again, for what was handed out and certainly not used. How many inputs
may wait is control's to say, which accepts them (QUEUE_FULL).
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from bridle_core.observations import Content
from bridle_core.phases import ConsumePolicy, InputMode, Principal, QueueState

_NOW, _RETURNED, _WAITING = range(3)


@dataclass(frozen=True, slots=True)
class Item:
    """An input that waits. `expires` is a moment on the machine's clock; None means never."""

    input_id: str
    command_id: str
    content: tuple[Content, ...] = field(repr=False)
    sequence: int
    mode: InputMode = InputMode.QUEUE
    expires: float | None = None
    principal: Principal | None = None
    #: It was handed to the agent and came back unused.
    returned: bool = False
    #: To be steered into the turn that is about to begin.
    into_turn: bool = False

    @property
    def place(self) -> tuple[int, int]:
        """The sort key: smaller runs first."""
        if self.mode is InputMode.NOW:
            return (_NOW, self.sequence)
        return (_RETURNED if self.returned else _WAITING, self.sequence)


class InputQueue:
    """See the module."""

    def __init__(self, state: QueueState = QueueState.OPEN, items: tuple[Item, ...] = ()) -> None:
        """items: in their order, as `items` had them."""
        self.state = state
        self._items = list(items)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, input_id: str) -> bool:
        return any(item.input_id == input_id for item in self._items)

    @property
    def items(self) -> tuple[Item, ...]:
        """What waits, in the order in which it would run."""
        return tuple(self._items)

    @property
    def input_ids(self) -> tuple[str, ...]:
        """The ids of what waits, in the order in which it would run."""
        return tuple(item.input_id for item in self._items)

    @property
    def next_expiry(self) -> float | None:
        """When the first input expires, unless it is gone by then; None for never."""
        return min((i.expires for i in self._items if i.expires is not None), default=None)

    def add(self, item: Item) -> None:
        """Take an input in, at its place."""
        insort(self._items, item, key=lambda other: other.place)

    def give_back(self, item: Item) -> None:
        """Take an input in again that was handed out and not used: to the head, behind NOW."""
        self.add(replace(item, returned=True, into_turn=False))

    def hold(self) -> bool:
        """Let inputs wait. False when they did already."""
        changed = self.state is QueueState.OPEN
        self.state = QueueState.HELD
        return changed

    def release(self) -> bool:
        """Let inputs start turns. False when they could already."""
        changed = self.state is QueueState.HELD
        self.state = QueueState.OPEN
        return changed

    def take(self, consume: ConsumePolicy) -> tuple[Item, ...]:
        """Hand out what the next turn consumes; empty when nothing may run."""
        if not self._items:
            return ()
        if self.state is QueueState.HELD and self._items[0].mode is not InputMode.NOW:
            return ()
        alone = self.state is QueueState.HELD or consume is ConsumePolicy.ONE
        count = 1 if alone else len(self._items)
        taken, self._items = self._items[:count], self._items[count:]
        return tuple(taken)

    def take_head(self) -> Item | None:
        """Hand out the first input, HELD or not; None when nothing waits."""
        return self._items.pop(0) if self._items else None

    def take_id(self, input_id: str) -> Item | None:
        """Hand out one input by its id; None when it isn't here."""
        found = self._take_where(lambda item: item.input_id == input_id)
        return found[0] if found else None

    def take_ids(self, input_ids: frozenset[str]) -> tuple[Item, ...]:
        """Hand out those of these inputs that still wait, in order."""
        return self._take_where(lambda item: item.input_id in input_ids)

    def take_for_turn(self) -> tuple[Item, ...]:
        """Hand out what waits for the turn that began to be steered into it, in order."""
        return self._take_where(lambda item: item.into_turn)

    def take_expired(self, now: float) -> tuple[Item, ...]:
        """Hand out what has waited too long, in order."""
        return self._take_where(lambda item: item.expires is not None and item.expires <= now)

    def take_all(self) -> tuple[Item, ...]:
        """Hand out everything, in order."""
        return self._take_where(lambda item: True)

    def _take_where(self, wanted: Callable[[Item], bool]) -> tuple[Item, ...]:
        taken = tuple(item for item in self._items if wanted(item))
        if taken:
            self._items = [item for item in self._items if not wanted(item)]
        return taken
