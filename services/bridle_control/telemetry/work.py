"""What control's work comes to: commits of the store, and commands from acceptance to outcome.

Hears of both from the store, so that it sees what any caller, host or sweeper did. A command's span
begins with its acceptance and ends with its outcome, in the trace of the request that brought it;
what the host does for it stands beside it, as another child of the same request. It is made whole
at its end, from the row: a control that was started anew in between makes it all the same. What is
decided with its acceptance (a stop of what has ended) has none: there was nothing to wait for.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from opentelemetry.trace import SpanKind

from bridle.v1 import receipt_pb2
from bridle_control.outcomes import outcome_of
from bridle_control.store.api import Changes, CommandRow, CommandState, Commit, Store
from bridle_control.telemetry import place
from bridle_control.telemetry.calls import BOUNDS
from bridle_telemetry.telemetry import Telemetry

#: Commands that were counted of late. What a host knows better than a decision of control comes
#: with the next connection of that host: so many commands may be decided in between.
_COUNTED = 8192
#: Bounds of histograms of numbers of things.
_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
#: Bounds for commits, in seconds: a disk takes between 0.1 ms and, where something is wrong, long.
_COMMIT_BOUNDS = (0.0002, 0.0005, *BOUNDS[1:-2])

# What an enum of a newer host may say more: what stands in metrics has to be bounded.
_OTHER = "UNRECOGNIZED"
_VERBS: dict[int, str] = {
    number: name.removeprefix("VERB_") for name, number in receipt_pb2.Verb.items()
}
_STATES = {
    number: name.removeprefix("OUTCOME_STATE_") for name, number in receipt_pb2.OutcomeState.items()
}
_REASONS = {
    number: name.removeprefix("OUTCOME_REASON_")
    for name, number in receipt_pb2.OutcomeReason.items()
}


class WorkTelemetry:
    """See the module. Used from one event loop alone; call `listen` once."""

    def __init__(
        self, telemetry: Telemetry, *, wall_clock: Callable[[], int] = time.time_ns
    ) -> None:
        """`wall_clock`: nanoseconds since the epoch; must be the clock of the store."""
        self._wall_clock = wall_clock
        self._tracer = telemetry.tracer
        self._traces = telemetry.traces
        self._counted: OrderedDict[str, None] = OrderedDict()
        meter = telemetry.meter
        self._commands = meter.create_histogram(
            "bridle.command.duration",
            unit="s",
            description="From the acceptance of a command to its outcome.",
            explicit_bucket_boundaries_advisory=BOUNDS,
        )
        self._commits = meter.create_histogram(
            "bridle.store.commit.duration",
            unit="s",
            description="How long commits took until they were on the disk.",
            explicit_bucket_boundaries_advisory=_COMMIT_BOUNDS,
        )
        self._writes = meter.create_histogram(
            "bridle.store.commit.writes",
            unit="{write}",
            description="How many writes a commit held.",
            explicit_bucket_boundaries_advisory=_SIZES,
        )
        self._events = meter.create_counter(
            "bridle.store.events", unit="{event}", description="Events that were stored."
        )

    def listen(self, store: Store) -> None:
        """From now on."""
        store.listen(self._changed)
        store.measure(self._committed)

    def _committed(self, commit: Commit) -> None:
        self._commits.record(commit.seconds)
        self._writes.record(commit.writes)
        if commit.events:
            self._events.add(commit.events)

    def _changed(self, changes: Changes) -> None:
        for row in changes.commands.values():
            if row.state == CommandState.DONE and row.command_id not in self._counted:
                self._counted[row.command_id] = None
                if len(self._counted) > _COUNTED:
                    self._counted.popitem(last=False)
                self._decided(row)

    def _decided(self, row: CommandRow) -> None:
        now = self._wall_clock()
        outcome = outcome_of(row)
        said = {
            "bridle.verb": _VERBS.get(row.verb, _OTHER),
            "bridle.outcome.state": _STATES.get(outcome.state, _OTHER),
            "bridle.outcome.reason": _REASONS.get(outcome.reason, _OTHER),
        }
        # By control's own clock: a host's may be another.
        self._commands.record(max(0, now - row.accept_time) / 1e9, said)
        parent = place.parent_of(row.trace) if self._traces else None
        if parent is None or outcome.decide_time.ToNanoseconds() == row.accept_time:
            return
        span = self._tracer.start_span(
            f"command {said['bridle.verb']}",
            parent,
            SpanKind.INTERNAL,
            {
                **said,
                "bridle.command_id": row.command_id,
                "bridle.session_id": row.session_id,
                "bridle.host_id": row.host_id,
            },
            start_time=row.accept_time,
        )
        span.end(now)
