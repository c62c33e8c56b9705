"""One run on a host in a simulation: what the real host's actor and the loop around its machine do.

Made by the host's process; appends to its journal, gives orders to its agent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle.v1 import session_pb2
from bridle_core.commands import Command, Deliver
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
from bridle_core.observations import ProcessGone, TurnOver
from bridle_core.phases import CancelReason
from bridle_core.session import RunRecord, Session, answer_after_end
from bridle_host.entries import Scribe
from bridle_host.translate import command_of, time_to_live
from tests.robustness.simulation.agent import Agent
from tests.robustness.simulation.disk import Kept, Key

if TYPE_CHECKING:
    from tests.robustness.simulation.host import Process

#: Observations that one batch takes.
BATCH = 5


class Run:
    """See the module."""

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
        self._astray = kept.astray
        #: What the inventory says: no more than the journal has.
        self._durable = self.machine.record()
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
            phase=session_pb2.Phase.Value(f"PHASE_{self._durable.phase}"),
            open_turn=self._durable.turn,
            last_turn=self._durable.last_turn,
            input_ids=self._durable.input_ids,
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
            if self._astray:
                agent.interrupt(deaf_too=True)
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
        if self._astray:
            effects += machine.park(now)
        commands, self._commands = self._commands, deque()
        for command, expires in commands:
            effects += self._apply(command, expires, now)
        batch = agent.out[self._taken : self._taken + self._host.chance.randint(1, BATCH)]
        for observation in batch:
            effects += machine.observe(observation, now)
            if self._astray and isinstance(observation, TurnOver | ProcessGone):
                self._astray = False
                effects += machine.unpark(now)
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
        record, contents = machine.record(), dict(self._contents)
        kept = Kept(self._kept.spec, record.dump(), contents, self._taken, self._astray)
        if machine.closed:
            await self._process.append(self._key, entries, None, over=True)
            self._under_way.clear()
            return
        await self._process.append(self._key, entries, kept)
        self._durable = record
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
