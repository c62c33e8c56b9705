"""What is measured of the host: every instrument, with its name, unit and attributes.

`docs/operating.md` tells what each means. Attributes have few values by themselves: verbs, reasons,
phases, names of agents that are admitted; never an id or a name that somebody chose, or a collector
would fill up. May not decide anything. Made by `bridle_host.telemetry`.

What is looked at rather than told (`watch`) is asked by the exporters' threads, whenever they want:
only plain numbers are read there, each by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from opentelemetry.metrics import CallbackOptions, Meter, Observation

#: Upper bounds, in seconds: of what takes a sync of the disk or a few, and of an agent's work.
_QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
_LONG = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0)

_NONE: Mapping[str, str] = {}


class Instruments:
    """Those that are told."""

    def __init__(self, meter: Meter) -> None:
        self.commands = meter.create_counter(
            "bridle.host.commands", "{command}", "Commands that were decided"
        )
        self.command_duration = meter.create_histogram(
            "bridle.host.command.duration",
            "s",
            "From when a command is read to when its first answer is durable",
            explicit_bucket_boundaries_advisory=_QUICK,
        )
        self.turn_duration = meter.create_histogram(
            "bridle.host.turn.duration",
            "s",
            "From the beginning of a turn to its end",
            explicit_bucket_boundaries_advisory=_LONG,
        )
        self.start_duration = meter.create_histogram(
            "bridle.host.agent.start.duration",
            "s",
            "From when an agent is to start to when its process is up",
            explicit_bucket_boundaries_advisory=_QUICK,
        )
        self.agents = meter.create_up_down_counter(
            "bridle.host.agents", "{process}", "Agents whose processes are up"
        )
        self.output = meter.create_counter(
            "bridle.host.agent.output", "By", "What agents have put out, as far as it was read"
        )
        self.commit_duration = meter.create_histogram(
            "bridle.host.journal.commit.duration",
            "s",
            "What a commit of the journal takes, with its sync",
            explicit_bucket_boundaries_advisory=_QUICK,
        )


class WatchedLink(Protocol):
    """Of the link, what is looked at."""

    @property
    def connected(self) -> bool: ...

    @property
    def connections(self) -> int: ...


class WatchedJournal(Protocol):
    """Of the journal, what is looked at."""

    @property
    def last_sequence(self) -> int: ...

    @property
    def acknowledged(self) -> int: ...

    @property
    def size(self) -> int: ...

    @property
    def pressed(self) -> bool: ...


def watch_sessions(meter: Meter, phases: Mapping[str, int]) -> None:
    """`phases`: how many runs are in each; its keys never change."""

    def sessions(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(number, {"bridle.phase": phase}) for phase, number in phases.items()]

    meter.create_observable_gauge(
        "bridle.host.sessions", [sessions], "{session}", "Live sessions by phase"
    )


def watch_link(meter: Meter, link: WatchedLink) -> None:
    """Whether control is there, and how often it came."""
    _gauge(meter, "link.connected", "", "1: the link to control is up", lambda: link.connected)
    meter.create_observable_counter(
        "bridle.host.link.connections",
        [lambda _: [Observation(link.connections, _NONE)]],
        "{connection}",
        "How often the link came up",
    )


def watch_journal(meter: Meter, journal: WatchedJournal) -> None:
    """What waits for control, and whether agents have to wait for it."""
    _gauge(
        meter,
        "journal.entries",
        "{entry}",
        "Entries that control has not acknowledged",
        lambda: max(0, journal.last_sequence - journal.acknowledged),
    )
    _gauge(
        meter,
        "journal.size",
        "By",
        "What waits in the journal for control to acknowledge it",
        lambda: journal.size,
    )
    _gauge(
        meter,
        "journal.pressed",
        "",
        "1: there is no room for output, and agents are not read",
        lambda: journal.pressed,
    )


def _gauge(meter: Meter, name: str, unit: str, about: str, look: Callable[[], int]) -> None:
    def seen(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(int(look()), _NONE)]

    meter.create_observable_gauge(f"bridle.host.{name}", [seen], unit, about)
