"""The host service, put together: starts the parts in order, and ends them in order.

Start: the state directory is locked; containment and agents are looked for; the machine joins, if
it has no credential; the journal is opened; the sessions recover (what an earlier host process left
behind is taken in) *before* the first Hello, so that the first inventory is whole, and before
anything is swept away; then the link dials. `ready` is called once, when control has welcomed and
reconciled.

End, on SIGTERM or SIGINT:

1. no run is started any more, and every session is left to the next process of the host: what was
   begun to be written is durable, then its shim is let go;
2. what is not acknowledged stays in the journal, and is told by the next process;
3. Goodbye, and the end of the stream;
4. the sessions' and the link's tasks end;
5. the journal is closed, and the state directory's lock is released.

With `--on-end stop`, and when control refuses this host for good (nobody could reach its sessions
any more), steps 1 and 2 are others: the sessions are stopped, within the grace, then killed, and a
second signal ends the grace; and their last entries are acknowledged, or `ACKNOWLEDGE_GRACE` runs
out, or control is away.

All that runs, runs in one root TaskGroup. Called by `bridle_host.__main__`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle.v1 import session_pb2
from bridle_core.version import VERSION
from bridle_host.agents import Agents
from bridle_host.clock import SystemClock
from bridle_host.containment import Containment, ContainmentUnavailableError, detect
from bridle_host.drivers.base import DriverFactory
from bridle_host.drivers.registry import factories
from bridle_host.enrolment import EnrolmentError, enroll, read_join_token
from bridle_host.journal import Journal
from bridle_host.journal_file import JournalError
from bridle_host.link import CREDENTIAL_REFUSED, Link
from bridle_host.logs import kv
from bridle_host.metrics import watch_link
from bridle_host.sessions import Sessions
from bridle_host.settings import HostSettings, OnEnd, machine_name
from bridle_host.state_directory import Credential, StateDirectory, StateError
from bridle_host.telemetry import observe
from bridle_telemetry.settings import MetricsListenError, TelemetrySettingsError
from bridle_telemetry.telemetry import Telemetry

log = logging.getLogger("bridle.host.app")

#: Seconds that control gets, at the end, to acknowledge what it was told last.
ACKNOWLEDGE_GRACE = 5.0


class HostFailure(Exception):  # noqa: N818 - what ends the process, for people
    """The service can't go on; the text is one line for people, `code` the exit code."""

    def __init__(self, line: str, code: int = 1) -> None:
        super().__init__(line)
        self.code = code


async def serve(settings: HostSettings, ready: Callable[[str], None]) -> None:
    """Runs the service until a signal ends it. Raises HostFailure. `ready` gets the host's name,
    and behind it `metrics=HOST:PORT`, where Prometheus may ask."""
    with _signals() as signals, _state(settings.state) as state:
        containment = await asyncio.to_thread(_contain, settings.containment)
        drivers = factories()
        credential = await _identity(settings, state)
        telemetry = _telemetry(settings, credential)
        try:
            journal = _journal(state)
            try:
                host = _Host(settings, state, credential, journal, containment, drivers, telemetry)
                await host.run(signals, ready)
            finally:
                await journal.close()
        finally:
            await telemetry.close()


class _Signals:
    """How often the process was told to end."""

    def __init__(self) -> None:
        self.end = asyncio.Event()
        self.again = asyncio.Event()

    def told(self) -> None:
        (self.again if self.end.is_set() else self.end).set()


class _Host:
    """The parts that run, and the order of their end."""

    def __init__(
        self,
        settings: HostSettings,
        state: StateDirectory,
        credential: Credential,
        journal: Journal,
        containment: Containment,
        drivers: Mapping[str, DriverFactory],
        telemetry: Telemetry,
    ) -> None:
        self._name = credential.name
        self._telemetry = telemetry
        self._state = state.path
        self._on_end = settings.on_end
        self._grace = settings.stop_grace
        self._journal = journal
        self._sessions = Sessions(
            observer=observe(telemetry, journal),
            journal=journal,
            drivers=drivers,
            live_text=self._live_text,
            containment=containment,
            state_directory=state.runs,
            default_directory=settings.directory,
            session_limit=settings.session_limit,
            host_id=credential.host_id,
            control_address=settings.agents_address,
            connection=settings.control.environment,
            output_cap=settings.output_cap,
        )
        self._link = Link(
            control=settings.control,
            credential=credential.secret,
            hello=_hello(settings, containment),
            journal=journal,
            sessions=self._sessions,
            runs=state.runs,
            clock=SystemClock(),
            chance=random.random,
        )
        watch_link(telemetry.meter, self._link)
        self._agents = Agents(drivers, SystemClock(), self._link.introduce)
        self._refusal: str | None = None

    def _live_text(self, piece: host_pb.LiveTextPiece) -> None:
        self._link.live_text(piece)

    async def run(self, signals: _Signals, ready: Callable[[str], None]) -> None:
        self._link.introduce(await asyncio.to_thread(self._agents.look))
        await self._sessions.recover()
        async with asyncio.TaskGroup() as root:
            sessions = root.create_task(self._sessions.run())
            link = root.create_task(self._keep_link(signals.end))
            announce = root.create_task(self._announce(ready))
            agents = root.create_task(self._agents.run())
            await signals.end.wait()
            log.info("ending", extra=kv(host=self._name))
            if self._on_end is OnEnd.STOP or self._refusal is not None:
                await self._stop(signals.again)
            else:
                await self._detach()
            await self._link.end("the host service ends")
            await link
            announce.cancel()
            agents.cancel()
            sessions.cancel()
        if self._refusal is not None:
            raise HostFailure(self._refusal)

    async def _keep_link(self, stop: asyncio.Event) -> None:
        self._refusal = await self._link.run()
        if self._refusal and self._refusal.startswith(CREDENTIAL_REFUSED):
            self._refusal += f"; to join anew, move {self._state} away"
        stop.set()

    async def _announce(self, ready: Callable[[str], None]) -> None:
        await self._link.ready.wait()
        metrics = self._telemetry.metrics_address
        ready(self._name if metrics is None else f"{self._name} metrics={metrics}")

    async def _detach(self) -> None:
        for name in await self._sessions.detach_all():
            log.info("a session goes on without its host service", extra=kv(session=name))

    async def _stop(self, at_once: asyncio.Event) -> None:
        reason = session_pb2.END_REASON_HOST_STOPPED
        await self._sessions.stop_all(reason, self._grace, at_once)
        if self._link.connected:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ACKNOWLEDGE_GRACE):
                    await self._journal.wait_acknowledged(self._journal.last_sequence)
        left = self._journal.last_sequence - self._journal.acknowledged
        log.info("the sessions have ended", extra=kv(not_acknowledged=left))


# --- the start ---


@contextlib.contextmanager
def _signals() -> Iterator[_Signals]:
    """Told by SIGTERM and SIGINT."""
    signals = _Signals()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.told)
    try:
        yield signals
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _state(path: Path) -> StateDirectory:
    try:
        return StateDirectory.open(path)
    except StateError as error:
        raise HostFailure(str(error)) from None


def _contain(level: str | None) -> Containment:
    try:
        return detect(level)
    except ValueError:
        raise HostFailure(f"{level!r} is no containment level", code=2) from None
    except ContainmentUnavailableError as error:
        raise HostFailure(str(error)) from None


async def _identity(settings: HostSettings, state: StateDirectory) -> Credential:
    """The credential that is there, or a new one for the join token. Raises HostFailure."""
    try:
        credential = state.credential()
        if credential is None:
            credential = await _join(settings, state)
    except (StateError, EnrolmentError) as error:
        raise HostFailure(str(error)) from None
    if settings.name not in (None, credential.name):
        raise HostFailure(
            f'{state.path} is that of the host "{credential.name}"; '
            f'use another --state for "{settings.name}"',
            code=2,
        )
    return credential


async def _join(settings: HostSettings, state: StateDirectory) -> Credential:
    if settings.join_token_file is None:
        raise HostFailure(
            f"{state.path} holds no credential; give --join-token-file to join control", code=2
        )
    token = read_join_token(settings.join_token_file)
    credential = await enroll(settings.control, settings.name or machine_name(), token)
    state.save_credential(credential)
    log.info("joined", extra=kv(host=credential.name, workspace=credential.workspace))
    return credential


def _journal(state: StateDirectory) -> Journal:
    try:
        return Journal.open(state.journal, on_fatal=_die)
    except JournalError as error:
        raise HostFailure(str(error)) from None


def _telemetry(settings: HostSettings, credential: Credential) -> Telemetry:
    try:
        return Telemetry.start(
            settings.telemetry,
            service="bridle-host",
            instance=credential.host_id,
            version=VERSION,
        )
    except MetricsListenError as error:
        raise HostFailure(str(error)) from None
    except TelemetrySettingsError as error:
        raise HostFailure(str(error), code=2) from None


def _die(line: str) -> None:
    """What the disk holds is unknown from now on: end without another word to anybody."""
    sys.stderr.write(f"bridle-host: {line}\n")
    sys.stderr.flush()
    os._exit(1)


def _hello(settings: HostSettings, containment: Containment) -> host_pb.Hello:
    """What the host says of itself in each Hello, but for its agents."""
    return host_pb.Hello(
        incarnation=str(uuid.uuid4()),
        boot_id=Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip(),
        containment=[containment.name],
        session_limit=settings.session_limit,
        version=VERSION,
    )
