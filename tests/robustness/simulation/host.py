"""A host in a simulation: the real session machines and the real link stream, on a disk in memory.

A process of the host is a set of tasks, which `kill` ends between any two steps. What it has
journaled, with each run's record, is on its disk; its agents live on; all else is gone. Where the
real host has files, threads and shims, this has a few lines: those have tests of their own.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle.v1 import host_pb2, receipt_pb2
from bridle_core.commands import RunSpec
from bridle_core.effects import Answer, Met, OutcomeState
from bridle_core.errors import Reason
from bridle_core.link import (
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    TWIN_PAUSE,
    Backoff,
    ProtocolViolation,
    Redial,
    Silence,
    redial_after,
)
from bridle_core.observations import Capability
from bridle_core.session import answer_after_end
from bridle_host.entries import Scribe
from bridle_host.link_stream import Incoming, JournalStale, LinkStream, Sent
from bridle_host.live_texts import LiveTexts
from bridle_host.translate import command_of, policy_of, queue_state_of, resume_of
from tests.robustness.simulation.agent import Agent
from tests.robustness.simulation.control import Control
from tests.robustness.simulation.disk import Journal, Kept, Key
from tests.robustness.simulation.network import LinkDownError, Wire
from tests.robustness.simulation.run import Run
from tests.robustness.simulation.virtual import LoopClock

CAPABILITIES = frozenset({Capability.STEER, Capability.APPROVALS, Capability.NATIVE_RESUME})
AGENT = host_pb2.Agent(agent="sim", installed=True, version="1", capabilities=sorted(CAPABILITIES))


class Host:
    """See the module. `heard(session_id, key)` is called whenever an agent gets an input."""

    def __init__(
        self,
        name: str,
        host_id: str,
        control: Control,
        chance: random.Random,
        heard: Callable[[str, str], None],
    ) -> None:
        self.name = name
        self.host_id = host_id
        self.control = control
        self.chance = chance
        self._heard = heard
        self._numbers = itertools.count(1)
        self.journal = Journal(self._new_id("journal"))
        self.agents: dict[Key, Agent] = {}
        #: All that ever were, for the account at the end.
        self.all_agents: list[tuple[Key, Agent]] = []
        self.process: Process | None = None
        #: Whether something befell it that its sessions need not survive.
        self.lost_machine = False
        self.lost_journal = False

    def _new_id(self, what: str) -> str:
        return f"{what}-{self.name}-{next(self._numbers)}"

    @property
    def stream(self) -> Wire | None:
        """The connection that is up, or on its way up."""
        return self.process.wire if self.process is not None else None

    def start(self) -> None:
        self.process = Process(self, self._new_id("incarnation"))
        self.process.start()

    def kill(self) -> None:
        """Ends the host's process; its agents live on."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()

    def lose_power(self, *, keep_journal: bool) -> None:
        """Ends the machine, and all agents with it."""
        self.kill()
        self.lost_machine = True
        for agent in self.agents.values():
            agent.vanish()
        self.agents.clear()
        if not keep_journal:
            self.journal = Journal(self._new_id("journal"))

    def lose_journal(self) -> None:
        """Ends the process; its journal is gone, its agents and their runs' files are not."""
        self.kill()
        self.lost_journal = True
        runs = self.journal.runs
        self.journal = Journal(self._new_id("journal"))
        for key, kept in runs.items():
            if kept.record and key in self.agents:
                self.journal.adopt(key, kept.forgotten(), self.host_id)
        for key in sorted(self.agents.keys() - self.journal.runs.keys()):
            self.agents.pop(key).vanish()  # what belongs to no run is swept

    def agent(self, key: Key) -> Agent:
        """The run's agent; a new one where there is none."""
        if key not in self.agents:
            session_id, _ = key
            number = next(self._numbers)
            self.agents[key] = made = Agent(
                f"{self.name}-{number}",
                1000 + number,
                random.Random(f"{self.name}/{number}/{self.chance.random()}"),
                lambda heard: self._heard(session_id, heard),
            )
            self.all_agents.append((key, made))
        return self.agents[key]


class Process:
    """One process of a host: its link, and a task for each run."""

    def __init__(self, host: Host, incarnation: str) -> None:
        self.host = host
        self.journal = host.journal
        self.wire: Wire | None = None
        self._incarnation = incarnation
        self._runs: dict[Key, Run] = {}
        self._stream: LinkStream | None = None
        self._sent = Sent(host.journal.last_sequence)
        self._attempt = 0
        self._tasks: dict[asyncio.Task[Any], None] = {}
        # One append at a time, in order: what is written later has the higher number.
        self._writing = asyncio.Lock()
        self.dead = False

    def start(self) -> None:
        for key, kept in list(self.journal.runs.items()):
            self._runs[key] = Run(self, key, kept)
        for run in list(self._runs.values()):
            self.spawn(run.go_on())
        self.spawn(self._keep_up())

    def kill(self) -> None:
        self.dead = True
        if self.wire is not None:
            self.wire.cut()
        for task in list(self._tasks):
            task.cancel()

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    # --- the link ------------------------------------------------------------------------------

    async def _keep_up(self) -> None:
        backoff = Backoff()
        # (Cancelling alone does not do: it is lost where a task group fails in the same moment.)
        while not self.dead:
            redial = Redial.SOON
            try:
                self.wire = await self.host.control.dial(self.host.host_id)
                await self._serve(self.wire)
                backoff.reset()
            except LinkDownError as error:
                reason = error.error.reason if error.error is not None else None
                told = error.error.metadata.get("incarnation") if error.error is not None else ""
                redial = redial_after(reason, by_itself=told == self._incarnation)
            except JournalStale:
                raise AssertionError("control knows more of a journal than it holds") from None
            except (Silence, ProtocolViolation) as error:
                if isinstance(error, ProtocolViolation):
                    raise
            self.wire = None
            pause = (
                TWIN_PAUSE if redial is Redial.LATER else backoff.next(self.host.chance.random())
            )
            await asyncio.sleep(pause)

    async def _serve(self, stream: Wire) -> None:
        self._attempt += 1
        journal = self.journal
        hello = wire.Hello(
            protocol_min=PROTOCOL_MIN,
            protocol_max=PROTOCOL_MAX,
            incarnation=self._incarnation,
            boot_id="boot",
            journal_id=journal.journal_id,
            journal_sequence=journal.last_sequence,
            journal_floor=journal.floor,
            journal_adopted=journal.adopted,
            journal_known=min(self._sent.newest, journal.last_sequence),
            attempt=self._attempt,
            agents=[AGENT],
            containment=["SUBREAPER"],
            session_limit=64,
        )
        self._stream = LinkStream(
            stream,  # type: ignore[arg-type]
            hello=hello,
            inventory=[run.told() for run in self._runs.values()],
            kept=(),
            journal=journal,  # type: ignore[arg-type]
            live_texts=LiveTexts(),
            hand_over=self,
            clock=LoopClock(),
            sent=self._sent,
        )
        try:
            await self._stream.run()
        finally:
            self._stream = None

    def opened(self) -> None:
        """The handshake is over."""

    def send_artifact(self, wanted: wire.ReadArtifact) -> None:
        """The stories have no files."""

    def forget(self, session_ids: Sequence[str]) -> None:
        """As before."""

    def kill_stale(self, runs: Sequence[wire.StaleRun]) -> None:
        for stale in runs:
            run = self._runs.get((stale.session_id, stale.run))
            if run is not None:
                run.mute()

    def put(self, item: Incoming) -> None:
        if isinstance(item, wire.Command):
            self._take(item)
        elif isinstance(item, wire.Withdraw):
            for run in self._runs.values():
                run.withdraw(item.command_id)

    # --- commands ------------------------------------------------------------------------------

    def _take(self, command: wire.Command) -> None:
        key = (command.session_id, command.run)
        run = self._runs.get(key)
        known = self.journal.answers.get(command.command_id)
        if known is not None:
            pending = known.outcome.state == receipt_pb2.OUTCOME_STATE_PENDING
            if pending and run is None:
                self._answer_ended(command)
            else:
                self.spawn(self.append(key, [known], None))
        elif run is not None and run.has(command.command_id):
            pass
        elif command.HasField("start"):
            self._begin(command, key)
        elif run is None or not run.put(command):
            self._answer_ended(command)

    def _answer_ended(self, command: wire.Command) -> None:
        core = command_of(command)
        if core is not None:
            key = (command.session_id, command.run)
            scribe = Scribe(RunSpec("", ""), *key)
            self.spawn(self._write(key, scribe, [answer_after_end(core)]))

    async def _write(self, key: Key, scribe: Scribe, effects: Iterable[object]) -> None:
        entries = scribe.entries(effects)
        await self.append(key, [entry.command for entry in entries if entry.command], None)

    def _begin(self, command: wire.Command, key: Key) -> None:
        start = command.start
        others = [run for (session_id, _), run in self._runs.items() if session_id == key[0]]
        if any(not run.machine.closed for run in others):
            refused = Answer(
                command.command_id,
                OutcomeState.NOT_RUN,
                Met.REFUSED,
                error=Reason.SESSION_LIVE,
                message="another run of it is live here",
            )
            self.spawn(self._write(key, Scribe(RunSpec("", ""), *key), [refused]))
            return
        spec = RunSpec(
            command.command_id,
            start.agent,
            host_id=self.host.host_id,
            directory=start.directory or "/srv",
            containment="SUBREAPER",
            capabilities=CAPABILITIES,
            policy=policy_of(start.policy),
            last_turn=start.last_turn,
            queue_state=queue_state_of(start.queue_state),
            resume=resume_of(start),
        )
        run = self._runs[key] = Run(self, key, Kept(spec, "", {}, 0))
        self.spawn(self._follow(others, run))

    async def _follow(self, others: list[Run], run: Run) -> None:
        """Control may know of a run's end before the host has put it away."""
        for other in others:
            await other.over.wait()
        await run.go_on()

    # --- the disk ------------------------------------------------------------------------------

    async def append(
        self,
        key: Key,
        entries: Sequence[Any],
        kept: Kept | None,
        *,
        over: bool = False,
    ) -> None:
        """Makes entries durable, with what is kept of the run, or (`over`) that nothing is."""
        async with self._writing:
            await asyncio.sleep(self.host.chance.random() * 0.01)
            journal = self.journal
            for entry in entries:
                journal.last_sequence += 1
                record = wire.Record(
                    journal_sequence=journal.last_sequence, session_id=key[0], run=key[1]
                )
                if isinstance(entry, wire.CommandEntry):
                    record.command.CopyFrom(entry)
                elif entry.event is not None:
                    record.event.kind, record.event.event = entry.event
                elif entry.command is not None:
                    record.command.CopyFrom(entry.command)
                else:
                    record.driver_state.state = entry.driver_state
                if record.HasField("command"):
                    journal.answers[record.command.command_id] = record.command
                journal.entries.append((journal.last_sequence, record.SerializeToString()))
            if kept is not None:
                journal.runs[key] = kept
            if over:
                journal.runs.pop(key, None)
                self._runs.pop(key, None)
        if self._stream is not None:
            self._stream.wake()
