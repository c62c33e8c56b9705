"""How much there is of everything: sessions by phase, hosts, watchers and how far they are behind.

Looked at every few seconds on the event loop, for the store and the hub are asked there; whoever
collects metrics reads what was seen last, on a thread of its own. Runs only where metrics are on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from opentelemetry.metrics import CallbackOptions, Observation

from bridle.v1 import session_pb2
from bridle_control.clock import Clock, SystemClock, wait
from bridle_control.links.registry import Links
from bridle_control.logs import kv
from bridle_control.store.api import ReadTx, Store
from bridle_control.streams import OpenCalls
from bridle_control.watch.hub import Hub
from bridle_core.errors import BridleError
from bridle_telemetry.telemetry import Telemetry

_log = logging.getLogger("bridle.control.telemetry")

#: How often it is looked, in seconds: a third of what Prometheus' default is.
_EVERY = 5.0

_PHASES = {
    number: name.removeprefix("PHASE_") for name, number in session_pb2.Phase.items() if number
}


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was seen last. All phases are in it, so that none stays at what it was once."""

    phases: dict[str, int] = field(default_factory=dict)
    hosts: dict[str, int] = field(default_factory=dict)
    calls: int = 0
    lags: tuple[int, ...] = ()


class Gauges:
    """See the module. `run` is one of the process's components."""

    def __init__(
        self,
        telemetry: Telemetry,
        store: Store,
        links: Links,
        hub: Hub,
        calls: OpenCalls,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._on = telemetry.metrics
        self._store = store
        self._links = links
        self._hub = hub
        self._calls = calls
        self._clock = clock or SystemClock()
        self._seen = _Seen()
        if not self._on:
            return
        meter = telemetry.meter
        self._changes = meter.create_counter(
            "bridle.link.changes",
            unit="{change}",
            description="Links of hosts that opened, and that ended.",
        )
        #: Hosts of which the link is counted as open.
        self._linked: set[str] = set()
        links.listen(self._link_changed)

        def gauge(
            name: str, unit: str, about: str, look: Callable[[], Iterable[Observation]]
        ) -> None:
            def observe(_: CallbackOptions) -> Iterable[Observation]:
                return look()

            meter.create_observable_gauge(name, [observe], unit, about)

        gauge("bridle.sessions", "{session}", "Sessions, by phase.", self._phases)
        gauge("bridle.hosts", "{host}", "Hosts, by whether their link is open.", self._hosts)
        gauge("bridle.calls", "{call}", "Calls that are open.", self._open_calls)
        gauge("bridle.watchers", "{watcher}", "Sessions that are being watched.", self._watchers)
        gauge(
            "bridle.watchers.behind",
            "{watcher}",
            "Watchers that have not been told of all events yet.",
            self._behind,
        )
        gauge(
            "bridle.watch.lag",
            "{event}",
            "How many events the watcher that is furthest behind has still to be told of.",
            self._lag,
        )

    async def run(self) -> None:
        """Looks, until cancelled; returns at once where nobody wants to know."""
        while self._on:
            try:
                await self._look()
            except BridleError as error:
                _log.warning("gauges could not be read", extra=kv(reason=error.reason))
            await wait(asyncio.Event(), self._clock, self._clock.now() + _EVERY)

    async def _look(self) -> None:
        def read(tx: ReadTx) -> tuple[dict[int, int], list[str]]:
            return tx.sessions_by_phase(), [host.host_id for host in tx.hosts(None)]

        phases, hosts = await self._store.read(read)
        connected = sum(map(self._links.is_live, hosts))
        self._seen = _Seen(
            phases={name: phases.get(number, 0) for number, name in _PHASES.items()},
            hosts={"connected": connected, "away": len(hosts) - connected},
            calls=len(self._calls),
            lags=tuple(self._hub.lags()),
        )

    def _link_changed(self, host_id: str) -> None:
        # A link that a newer one of its host has replaced is not told of: it has ended, too.
        if host_id in self._linked:
            self._linked.remove(host_id)
            self._changes.add(1, {"bridle.link.state": "ended"})
        if self._links.is_live(host_id):
            self._linked.add(host_id)
            self._changes.add(1, {"bridle.link.state": "opened"})

    # -- on threads of those who collect

    def _phases(self) -> Iterable[Observation]:
        seen = self._seen.phases
        return [Observation(count, {"bridle.phase": phase}) for phase, count in seen.items()]

    def _hosts(self) -> Iterable[Observation]:
        seen = self._seen.hosts
        return [Observation(count, {"bridle.link.state": state}) for state, count in seen.items()]

    def _open_calls(self) -> Iterable[Observation]:
        return [Observation(self._seen.calls)]

    def _watchers(self) -> Iterable[Observation]:
        return [Observation(len(self._seen.lags))]

    def _behind(self) -> Iterable[Observation]:
        return [Observation(sum(1 for lag in self._seen.lags if lag))]

    def _lag(self) -> Iterable[Observation]:
        return [Observation(max(self._seen.lags, default=0))]
