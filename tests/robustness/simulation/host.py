"""A host in a simulation: the real session machines and the real link stream, on a disk in memory.

A process of the host is a set of tasks, which `kill` ends between any two steps. What it has
journaled, with each run's record, is on its disk; its agents live on; all else is gone. Where the
real host has files, threads and shims, this has a few lines: those have tests of their own.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle.v1 import host_pb2, receipt_pb2, session_pb2
from bridle_core.commands import Command, Deliver, RunSpec
from bridle_core.effects import (
    Answer,
    Effect,
    Emit,
    InputCancelled,
    InterruptTurn,
    KillAgent,
    Met,
    OutcomeState,
    RespondApproval,
    SendTurn,
    StartAgent,
    SteerTurn,
    StopAgent,
    VerifyGone,
)
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
from bridle_core.observations import Capability, Content
from bridle_core.phases import CancelReason
from bridle_core.session import RunRecord, Session, answer_after_end
from bridle_host.entries import Scribe
from bridle_host.link_stream import Incoming, JournalStale, LinkStream, Sent
from bridle_host.live_texts import LiveTexts
from bridle_host.translate import command_of, policy_of, queue_state_of, resume_of, time_to_live
from tests.robustness.simulation.agent import Agent
from tests.robustness.simulation.control import Control
from tests.robustness.simulation.network import LinkDownError, Wire
from tests.robustness.simulation.virtual import LoopClock

CAPABILITIES = frozenset({Capability.STEER, Capability.APPROVALS, Capability.NATIVE_RESUME})
AGENT = host_pb2.Agent(agent="sim", installed=True, version="1", capabilities=sorted(CAPABILITIES))
#: Observations that one batch takes.
BATCH = 5

Key = tuple[str, int]


@dataclass
class Kept:
    """What is on the disk of a run that lives."""

    spec: RunSpec
    record: str
    contents: dict[str, tuple[Content, ...]]
    #: How many of its agent's words are in the journal.
    taken: int


@dataclass
class Journal:
    """The journal on the disk, as the link stream uses it."""

    journal_id: str
    entries: deque[tuple[int, bytes]] = field(default_factory=deque)
    last_sequence: int = 0
    acknowledged: int = 0
    #: The newest answer to each command.
    answers: dict[str, wire.CommandEntry] = field(default_factory=dict)
    runs: dict[Key, Kept] = field(default_factory=dict)

    @property
    def floor(self) -> int:
        return self.entries[0][0] if self.entries else 0

    def acknowledge(self, sequence: int) -> None:
        self.acknowledged = max(self.acknowledged, sequence)
        while self.entries and self.entries[0][0] <= sequence:
            self.entries.popleft()

    async def read_after(
        self, cursor: int, max_bytes: int, max_entries: int
    ) -> list[tuple[int, bytes]]:
        await asyncio.sleep(0)
        found = (entry for entry in self.entries if entry[0] > cursor)
        return list(itertools.islice(found, max_entries))


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
        self._tasks: set[asyncio.Task[Any]] = set()
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
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

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


class Run:
    """One run in one process: what the real host's actor and loop around the machine do."""

    def __init__(self, process: Process, key: Key, kept: Kept) -> None:
        self._process = process
        self._host = process.host
        self._key = key
        self._kept = kept
        self._contents = dict(kept.contents)
        self._taken = kept.taken
        self._scribe = Scribe(kept.spec, *key)
        self._fresh = not kept.record
        if self._fresh:
            self.machine = Session(kept.spec)
        else:
            record = RunRecord.load(kept.record)
            self.machine = Session.restore(kept.spec, record, self._contents)
        self._agent: Agent | None = None
        self._commands: deque[tuple[Command, float | None]] = deque()
        self._under_way: set[str] = set()
        self._wake = asyncio.Event()
        self._muted = False
        self._gone = False
        self.over = asyncio.Event()

    # --- for the process -----------------------------------------------------------------------

    def told(self) -> wire.LiveSession:
        return wire.LiveSession(
            session_id=self._key[0],
            run=self._key[1],
            phase=session_pb2.Phase.Value(f"PHASE_{self.machine.phase}"),
            open_turn=self.machine.open_turn,
            input_ids=self.machine.input_ids,
        )

    def has(self, command_id: str) -> bool:
        return command_id == self._kept.spec.start_command or command_id in self._under_way

    def put(self, command: wire.Command) -> bool:
        """Takes a command; False when the run is over."""
        core = command_of(command)
        if core is None or self.machine.closed:
            return False
        seconds = time_to_live(command)
        expires = None if seconds is None else _now() + seconds
        self._under_way.add(core.command_id)
        self._commands.append((core, expires))
        self._wake.set()
        return True

    def withdraw(self, command_id: str) -> None:
        for index, (command, _) in enumerate(self._commands):
            if command.command_id == command_id:
                self._commands[index] = (command, 0.0)
                self._wake.set()

    def mute(self) -> None:
        """Ends it now, without a word to control."""
        self._muted = True
        self._wake.set()

    # --- its life ------------------------------------------------------------------------------

    async def go_on(self) -> None:
        """From where it stands to its end."""
        lost = not self._fresh and self._key not in self._host.agents
        if lost:
            await self._perform(
                self.machine.host_lost(_now(), "the machine went down")
                + self.machine.gone(0, _now())
            )
        else:
            agent = self._agent = self._host.agent(self._key)
            agent.news = self._wake
            machine = self.machine
            opening = machine.open(_now()) if self._fresh else machine.recovered(_now())
            await self._perform(opening)
            while not (machine.closed or self._muted):
                await self._step(agent)
        await self._leave()

    async def _step(self, agent: Agent) -> None:
        machine = self.machine
        if not (self._commands or self._taken < len(agent.out) or self._gone):
            deadline = machine.deadline
            with suppress(TimeoutError):
                async with asyncio.timeout(
                    None if deadline is None else max(0.0, deadline - _now())
                ):
                    await self._wake.wait()
            self._wake.clear()
        now = _now()
        effects: list[Effect] = []
        commands, self._commands = self._commands, deque()
        for command, expires in commands:
            effects += self._apply(command, expires, now)
        batch = agent.out[self._taken : self._taken + self._host.chance.randint(1, BATCH)]
        for observation in batch:
            effects += machine.observe(observation, now)
        self._taken += len(batch)
        if self._gone and self._taken == len(agent.out):
            effects += machine.gone(0, now)
        effects += machine.settle(now)
        if machine.deadline is not None and machine.deadline <= now:
            effects += machine.tick(now)
        await self._perform(effects, moved=bool(batch))
        self._under_way -= {command.command_id for command, _ in commands}

    def _apply(self, command: Command, expires: float | None, now: float) -> list[Effect]:
        if expires is None or expires > now:
            if isinstance(command, Deliver):
                self._contents[command.input_id] = command.content
            return self.machine.apply(command, now)
        effects: list[Effect] = []
        if isinstance(command, Deliver):
            effects.append(Emit(InputCancelled(command.input_id, CancelReason.EXPIRED)))
        effects.append(Answer(command.command_id, OutcomeState.NOT_RUN, Met.EXPIRED))
        return effects

    async def _perform(self, effects: Sequence[Effect], *, moved: bool = False) -> None:
        if not effects and not moved:
            return
        entries = self._scribe.entries(effects)
        machine = self.machine
        wanted = set(machine.input_ids)
        self._contents = {name: said for name, said in self._contents.items() if name in wanted}
        kept = Kept(self._kept.spec, machine.record().dump(), dict(self._contents), self._taken)
        if machine.closed:
            await self._process.append(self._key, entries, None, over=True)
            self._under_way.clear()
            return
        await self._process.append(self._key, entries, kept)
        for effect in effects:
            self._call(effect)

    def _call(self, effect: Effect) -> None:
        agent = self._agent
        if agent is None:
            return
        match effect:
            case StartAgent():
                agent.start()
            case SendTurn():
                agent.send(effect.label, effect.content)
            case SteerTurn():
                agent.steer(effect.input_id, effect.content)
            case InterruptTurn():
                agent.interrupt()
            case RespondApproval():
                agent.respond(effect.approval_id, effect.decision)
            case StopAgent():
                agent.stop()
            case KillAgent():
                agent.kill()
            case VerifyGone():
                agent.kill()
                self._gone = True
                self._wake.set()
            case _:
                pass

    async def _leave(self) -> None:
        agent = self._host.agents.pop(self._key, None)
        if agent is not None:
            agent.news = None
            if not agent.dead:
                agent.killed = True
                agent.kill()
        if self._muted:
            await self._process.append(self._key, [], None, over=True)
        late = [answer_after_end(command) for command, _ in self._commands]
        entries = self._scribe.entries(answer for answer in late if answer.command_id)
        if entries and not self._muted:
            await self._process.append(self._key, entries, None)
        self.over.set()


def _now() -> float:
    return asyncio.get_running_loop().time()
