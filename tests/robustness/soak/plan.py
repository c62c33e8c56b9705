"""What a soak does to the pair, and when: drawn from a seed before anything runs.

Pure. The same seed and shape give the same plan, whatever the machine does; which process a target
number means is found out by the world when the moment has come.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """A kind of fault. HOST and AGENT ones hit one of many, by the number of their target."""

    CONTROL_KILL = "control-kill"
    CONTROL_FREEZE = "control-freeze"
    HOST_KILL = "host-kill"
    HOST_DETACH = "host-detach"
    HOST_FREEZE = "host-freeze"
    CUT = "cut"
    BLACKHOLE = "blackhole"
    RESET_AT = "reset-at"
    LATENCY = "latency"
    SLICES = "slices"
    CLIENT_CUT = "client-cut"
    CLIENT_BLACKHOLE = "client-blackhole"
    AGENT_KILL = "agent-kill"
    SHIM_KILL = "shim-kill"


#: How often each kind stands in one deck. A plan goes through whole shuffled decks, so that no
#: kind is left out by chance.
DECK = {
    Fault.CONTROL_KILL: 2,
    Fault.CONTROL_FREEZE: 1,
    Fault.HOST_KILL: 4,
    Fault.HOST_DETACH: 2,
    Fault.HOST_FREEZE: 2,
    Fault.CUT: 2,
    Fault.BLACKHOLE: 2,
    Fault.RESET_AT: 2,
    Fault.LATENCY: 2,
    Fault.SLICES: 1,
    Fault.CLIENT_CUT: 1,
    Fault.CLIENT_BLACKHOLE: 1,
    Fault.AGENT_KILL: 1,
    Fault.SHIM_KILL: 1,
}


@dataclass(frozen=True)
class Shape:
    """How large a soak is. Times in seconds, rates a second."""

    seed: int
    seconds: float
    hosts: int = 20
    sessions: int = 50
    clients: int = 8
    watchers: int = 8
    faults: int = 60
    #: Requests of all clients together.
    rate: float = 14.0
    #: Events a second of the whole run below which it proved nothing.
    least_events: float = 100.0
    #: The longest freeze, black hole or bad weather.
    longest: float = 20.0
    without: frozenset[Fault] = field(default_factory=frozenset)


@dataclass(frozen=True)
class Planned:
    """One fault: when it begins (seconds from the start), whom it hits, for how long."""

    number: int
    at: float
    fault: Fault
    target: int
    seconds: float
    #: For what else it needs: the byte of a reset, the pause before a restart.
    chance: float

    def __str__(self) -> str:
        return f"#{self.number} {self.fault} target={self.target} seconds={self.seconds:.1f}"


def plan(shape: Shape) -> list[Planned]:
    """The faults of a run, in their order."""
    chance = random.Random(f"plan/{shape.seed}")
    kinds = _deal(shape.faults, shape.without, chance)
    gap = shape.seconds / (len(kinds) + 1)
    planned = []
    for number, fault in enumerate(kinds, 1):
        at = gap * number + chance.uniform(-0.3, 0.3) * gap
        seconds = min(shape.longest, 1.0 + chance.expovariate(1 / (shape.longest / 4)))
        target = chance.randrange(1_000_000)
        planned.append(Planned(number, at, fault, target, seconds, chance.random()))
    return planned


def _deal(count: int, without: Collection[Fault], chance: random.Random) -> list[Fault]:
    kinds: list[Fault] = []
    while len(kinds) < count:
        left = [fault for fault, times in DECK.items() for _ in range(times)]
        deck = [fault for fault in left if fault not in without]
        if not deck:
            return []
        chance.shuffle(deck)
        kinds += deck
    return kinds[:count]
