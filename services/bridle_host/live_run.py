"""A run that is on: the loop around the session machine. The inner half of the session actor.

Does what the machine (`bridle_core.session`) says and decides nothing of its own: feeds it
commands, the driver's observations and the time, makes what it answers durable, and only then calls
the driver. So nothing is shown that isn't in the journal, and nothing is done of which the journal
doesn't know the command.

    commands ──┐                                       ┌─► journal (one append for a batch)
    driver  ───┼─► Inbox ─► machine ─► effects ────────┼─► live text
    time    ───┘                                       └─► Calls ─► driver, one call at a time

While output alone is being written, commands and the time are still served; while the journal has
no room for output, none is taken.

With everything that is written goes what the next process of the host needs to go on from exactly
there (`RunState`): the machine's record, and the Checkpoint of the last group that the machine has
seen. So a group is in the journal with its checkpoint or not at all, and what the agent said since
is read again. When it is durable, the shim hears that it may forget. Plain files, which are written
first, hold the rest: what the inputs say, and a copy for the case that the journal is lost.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle.v1 import event_pb2
from bridle_core.commands import Cancel, Deliver
from bridle_core.effects import (
    Answer,
    ArtifactsReported,
    Call,
    Effect,
    Emit,
    InputCancelled,
    InterruptTurn,
    Keep,
    Live,
    Met,
    OutcomeState,
    ReadOn,
    RecoverAgent,
    StartAgent,
    TurnEnded,
)
from bridle_core.observations import (
    Checkpoint,
    Content,
    Message,
    Note,
    NoteKind,
    ProcessGone,
    TurnOver,
)
from bridle_core.phases import CancelReason
from bridle_core.session import RunRecord, Session
from bridle_host.artifacts import collect
from bridle_host.calls import Calls
from bridle_host.entries import Scribe
from bridle_host.inbox import Broken, Gone, Inbox, Queued
from bridle_host.intake import Intake
from bridle_host.journal import Entry, Journal
from bridle_host.launch import Prepared
from bridle_host.observer import RunObserver
from bridle_host.run_files import RunFiles
from bridle_host.run_state import RunState

log = logging.getLogger("bridle.host.live_run")

#: The largest state of a driver that is kept, in bytes.
DRIVER_STATE = 256 * 1024

#: Bytes of an agent's output that are used up and were not written, from which on that is written
#: by itself: well below what its shim keeps for us.
OWED = 64 * 1024

#: What is kept of the machine is written with everything that is written, and so is cut to what
#: matters: of the inputs that are over, for a cancel that comes a round trip too late, so many; of
#: an open turn's output, for the last words of a run, so many bytes.
SETTLED = 64
LAST_OUTPUT = 2048

#: Seconds for which an agent was not read, from which on the log tells of it.
TOLD_PRESSURE = 1.0

#: Seconds between two looks whether the end of a run is in a hurry.
HURRY_LOOK = 0.05

#: Where a driver stands that has told nothing.
NOWHERE = Checkpoint(b"", 0)

#: Seconds that an agent gets to end a turn that is over for the log.
ASTRAY_GRACE = 5.0

#: What the end of a run says that may have left something behind.
UNSEEN = (
    "its shim and the shim's guardian were killed together: a process that had left the agent's"
    " tree may live on unseen"
)

LiveText = Callable[[host_pb.LiveTextPiece], None]


class LiveRun:
    """See the module.

    `run` returns when the run's end is durable, or when it was muted, or detached. `inputs` is what
    the inputs of an earlier process's run say, by their ids.
    """

    def __init__(
        self,
        prepared: Prepared,
        inbox: Inbox,
        files: RunFiles,
        journal: Journal,
        live_text: LiveText,
        output_cap: int,
        inputs: Mapping[str, tuple[Content, ...]] | None,
        observer: RunObserver,
    ) -> None:
        self._observer = observer
        self._spec = prepared.spec
        self._driver = prepared.driver
        self._processes = prepared.processes
        self._inbox = inbox
        self._files = files
        self._journal = journal
        self._live_text = live_text
        self._scribe = Scribe(prepared.spec, files.session_id, files.run, output_cap)
        #: What the journal has of the machine; None before the first append.
        self.record: RunRecord | None = None
        #: What the inventory says: of the machine, what is durable. It must not be ahead of the
        #: entries that Hello tells of, or control would be told of a turn's begin twice.
        self.durable: RunRecord | None = None
        self.muted = False
        self.detached = False
        left = self._left = prepared.left
        self._unborn = prepared.unborn
        #: See `RunState.astray`; as long as it lasts no turn begins.
        self._astray = left is not None and left.astray
        self._checkpoint = NOWHERE
        if left is None:
            self.machine = Session(prepared.spec)
        else:
            self.machine = Session.restore(prepared.spec, left.record, inputs or {})
            self.record = self.durable = left.record
            self._checkpoint = Checkpoint(left.driver, left.acknowledge)
            self._scribe.output.restore(left.output)
        #: The checkpoint that the journal has, and the inputs that are in files.
        self._kept = self._checkpoint
        self._filed = frozenset(inputs or ())
        #: What was said, and what the inputs say that no turn has taken.
        self._keeper = prepared.keeper
        self._contents = dict(inputs or {})
        self._told: tuple[object, ...] = ()
        self._parked = False
        self._calls = Calls(
            prepared.driver,
            prepared.resume,
            checkpoint=self._checkpoint.state,
            verify=self._verify,
            failed=self._failed,
            called=inbox.wake.set,
        )
        self._driving: asyncio.Task[None] | None = None
        self._intake = Intake(inbox, files)
        #: The append of output that is under way; it wakes the loop when it is through.
        self._output: asyncio.Task[None] | None = None
        self._room: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Raises what the journal raises, and faults of our own."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._driving = group.create_task(self._drive())
                helpers = [
                    self._driving,
                    group.create_task(self._pump()),
                    group.create_task(self._calls.run()),
                ]
                try:
                    await self._perform(self._opening())
                    while not (self.machine.closed or self.muted or self.detached):
                        await self._step()
                finally:
                    self._intake.close()
                    if self.detached:
                        # Before the driver is ended, which else would end its agent.
                        await self._detach()
                    for helper in (*helpers, self._output, self._room):
                        if helper is not None:
                            helper.cancel()
        except ExceptionGroup as group_error:
            # The helpers catch what is the driver's; what is left is one fault of ours.
            raise group_error.exceptions[0] from group_error
        finally:
            if not self.detached:
                await self._processes.end()

    def _opening(self) -> list[Effect]:
        now = self._loop.time()
        if self._left is None:
            return self.machine.open(now)
        effects: list[Effect] = []
        for input_id in self.machine.input_ids:
            if input_id not in self._filed:
                # The disk had no room for it. It is better not to run it than to run another.
                log.error("what an input says was not kept; it is cancelled: %s", input_id)
                effects += self.machine.apply(Cancel("", input_id), now)
        effects += self.machine.recovered(now)
        if self._astray:
            # Before anything is read of it.
            end = InterruptTurn(ASTRAY_GRACE, include_background=False)
            at = effects.index(ReadOn()) if ReadOn() in effects else len(effects)
            effects.insert(at, end)
            return effects
        if self._unborn:
            return [StartAgent(), *(e for e in effects if not isinstance(e, RecoverAgent | ReadOn))]
        return effects

    async def _detach(self) -> None:
        if self._output is not None:
            await asyncio.wait({self._output})
        self._processes.detach()

    def detach(self) -> None:
        """Leave the agent to the next process of the host; what was not written is read again."""
        self.detached = True
        self._inbox.wake.set()

    def park(self) -> None:
        """The host has no place at control: the agent is read no more. Idempotent."""
        self._parked = True
        self._inbox.wake.set()

    def unpark(self) -> None:
        """The agent is read again. Idempotent."""
        self._parked = False
        self._inbox.wake.set()

    # --- the driver's side ---

    async def _drive(self) -> None:
        try:
            await self._driver.run()
        except Exception:
            # As in Calls: the fault of a driver ends its run, not ours.
            log.exception("a driver failed")
            self._failed("the driver failed")

    async def _pump(self) -> None:
        try:
            async for group in self._driver.observations():
                await self._inbox.put_group(group)
        except Exception:
            log.exception("a driver failed")
            self._failed("the driver failed")
            return
        self._failed("the driver ended without a word")

    def _failed(self, message: str) -> None:
        self._inbox.put_news(Broken(message))

    async def _verify(self) -> None:
        """See everything gone, then the driver's own work, then tell the machine."""
        swept = await self._processes.end()
        if self._driving is not None:
            self._driving.cancel()
            await asyncio.wait({self._driving})
        self._inbox.put_news(Gone(swept, self._processes.unseen))

    # --- the loop ---

    async def _step(self) -> None:
        await self._wait()
        machine, inbox = self.machine, self._inbox
        commands = await self._intake.take(self._loop.time())
        now = self._loop.time()
        effects: list[Effect] = []
        if self._parked or self._astray:
            effects += machine.park(now)
        delivered: dict[str, tuple[Content, ...]] = {}
        for queued in commands:
            effects += self._apply(queued, now)
            if isinstance(queued.command, Deliver):
                delivered[queued.command.input_id] = queued.command.content
        if self._may_read():
            for group in inbox.groups(bulk=self._has_room()):
                for observation in group:
                    effects += machine.observe(observation, now)
                    if isinstance(observation, Checkpoint):
                        self._checkpoint = observation
                    elif isinstance(observation, TurnOver | ProcessGone):
                        self._astray = False
            if not (self._parked or self._astray):
                effects += machine.unpark(now)
            match inbox.news():
                case Gone(swept, unseen):
                    effects += machine.gone(swept, now, doubt=UNSEEN if unseen else "")
                case Broken(message):
                    effects += machine.broken(message, now)
                case None:
                    pass
            effects += machine.settle(now)
        if machine.deadline is not None and machine.deadline <= now:
            effects += machine.tick(now)
        await self._perform(effects, delivered)

    async def _wait(self) -> None:
        """Returns when there is something to do."""
        if self._may_read() and self._inbox.ready(bulk=self._has_room()):
            # Let the others in: a flood of output must not be all that the loop does.
            await asyncio.sleep(0)
            return
        deadline = self.machine.deadline
        timeout = None if deadline is None else max(0.0, deadline - self._loop.time())
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._inbox.wake.wait()
        self._inbox.wake.clear()

    def _may_read(self) -> bool:
        """Whether the driver's observations can be taken: what they cause can be written."""
        if self._parked and not self.machine.hurried:
            # Nobody but us could ask for what it says; its shim keeps it, and then lets it wait.
            return False
        return (self._output is None or self._output.done()) and not self._calls.many

    def _has_room(self) -> bool:
        """Whether that holds for output too: the journal's reserve is for what moves on a life."""
        if not self._journal.pressed or self.machine.hurried:
            return True
        if self._room is None or self._room.done():
            self._room = self._group.create_task(self._await_room())
        return False

    async def _await_room(self) -> None:
        begin = self._loop.time()
        await self._journal.wait_for_room()
        self._inbox.wake.set()
        lasted = self._loop.time() - begin
        if lasted >= TOLD_PRESSURE:
            text = f"the host's journal was full: the agent was not read for {lasted:.0f} s"
            await self._inbox.put_group((Note(NoteKind.BACKPRESSURE, text),))

    def _apply(self, queued: Queued, now: float) -> list[Effect]:
        command = queued.command
        if queued.expires is None or queued.expires > now:
            return self.machine.apply(command, now)
        effects: list[Effect] = []
        if isinstance(command, Deliver):
            effects.append(Emit(InputCancelled(command.input_id, CancelReason.EXPIRED)))
        effects.append(Answer(command.command_id, OutcomeState.NOT_RUN, Met.EXPIRED))
        return effects

    # --- effects ---

    async def _perform(
        self,
        effects: Sequence[Effect],
        delivered: Mapping[str, tuple[Content, ...]] | None = None,
    ) -> None:
        if not effects and not self._owes():
            return
        self._observer.performed(effects, self._checkpoint.acknowledge)
        self._contents.update(delivered or {})
        for effect in effects:
            if isinstance(effect, Emit):
                self._keeper.note(effect, self._contents)
        entries = await self._entries(effects)
        calls = [effect for effect in effects if isinstance(effect, Call)]
        pieces = self._pieces(effects)
        record = self.machine.record()
        over = await self._file(record, delivered or {})
        state = self._state(record) if entries or calls or self._owes() else None
        urgent = self.machine.hurried
        if entries and not calls and all(entry.is_bulk for entry in entries):
            pending = self._journal.begin(entries, state, urgent=urgent)
            if pending is not None:
                self._output = self._group.create_task(self._put_out(pending, pieces))
                return
        if entries:
            await self._journal.append(entries, lambda: state, urgent=urgent)
        elif state is not None:
            await self._journal.put_run(*state)
        self.durable = record
        if state is not None:
            self._processes.acknowledge(self._kept.acknowledge)
        for piece in pieces:
            self._live_text(piece)
        self._calls.put(calls)
        if over:
            await asyncio.to_thread(self._files.remove_inputs, over)

    async def _put_out(
        self, pending: Awaitable[None], pieces: Sequence[host_pb.LiveTextPiece]
    ) -> None:
        acknowledge = self._kept.acknowledge
        await pending
        self._processes.acknowledge(acknowledge)
        for piece in pieces:
            self._live_text(piece)
        self._inbox.wake.set()

    # --- what is kept ---

    def _owes(self) -> bool:
        """Whether so much of the output is used up that it should be written by itself."""
        return self._checkpoint.acknowledge - self._kept.acknowledge >= OWED

    def _state(self, record: RunRecord) -> tuple[str, int, bytes] | None:
        """What is to be kept of the run, when it isn't what the journal has."""
        if record == self.record and self._checkpoint is self._kept:
            return None
        self.record, self._kept = record, self._checkpoint
        return self._files.session_id, self._files.run, self._dump(record)

    def _dump(self, record: RunRecord) -> bytes:
        driver, acknowledge = self._checkpoint.state, self._checkpoint.acknowledge
        kept = replace(record, settled=record.settled[-SETTLED:])
        if record.turn:
            # Written with every piece of the output; whole once the turn is over.
            kept = replace(kept, last_output=record.last_output[-LAST_OUTPUT:])
        output = self._scribe.output.kept()
        observed = self._observer.kept()
        state = RunState(self._spec, kept, driver, acknowledge, output, self._astray, observed)
        return state.dump()

    async def _file(
        self, record: RunRecord, delivered: Mapping[str, tuple[Content, ...]]
    ) -> frozenset[str]:
        """Puts into files what has to be there before the journal is written.

        Returns the inputs whose files are no longer needed after that.
        """
        inputs = frozenset(self.machine.input_ids)
        over = (self._filed | delivered.keys()) - inputs
        told = (record.phase, record.turn, record.last_turn, record.pid, inputs, record.queue_state)
        state = self._dump(record) if told != self._told else None
        # What a turn came to; not while one is on, or each line of its output would be waited for.
        said = self._keeper.fresh() if state is not None and not record.turn else b""
        if state is not None:
            await asyncio.to_thread(self._write_files, state, said)
        self._filed, self._told = inputs, told
        if over or len(self._contents) > len(inputs):
            self._contents = {i: c for i, c in self._contents.items() if i in inputs}
        return over

    def _write_files(self, state: bytes, said: bytes) -> None:
        try:
            self._files.write_state(state)
            if said:
                self._files.append_said(said)
        except OSError:
            # The run goes on; only the next process of the host would miss them.
            log.exception("a run's files can't be written")

    async def _entries(self, effects: Sequence[Effect]) -> list[Entry]:
        kept: list[Emit | Answer | Keep] = []
        report: event_pb2.ArtifactsReported | None = None
        for effect in effects:
            if isinstance(effect, Keep) and len(effect.state) > DRIVER_STATE:
                text = "what the agent wanted kept for a resume is too large"
                kept.append(Emit(Note(NoteKind.STATE_LOST, text, len(effect.state))))
            elif isinstance(effect, Emit | Answer | Keep):
                kept.append(effect)
                if isinstance(effect, Emit) and isinstance(effect.event, ArtifactsReported):
                    report = await self._report()
        return self._scribe.entries(kept, report)

    async def _report(self) -> event_pb2.ArtifactsReported:
        """What the run leaves behind. It takes a moment, for which neither a kill nor the end of
        the host service waits."""
        over = threading.Event()
        directory = self._spec.directory
        collecting = self._group.create_task(
            asyncio.to_thread(collect, self._files, directory, over.is_set)
        )
        try:
            while not collecting.done():
                await asyncio.wait({collecting}, timeout=HURRY_LOOK)
                if self._inbox.killing or self.muted or self.detached:
                    over.set()
        finally:
            over.set()
        return collecting.result()

    def _pieces(self, effects: Sequence[Effect]) -> list[host_pb.LiveTextPiece]:
        """Live text, but for that of messages and turns that are over by the end of the batch."""
        if not any(isinstance(effect, Live) for effect in effects):
            return []
        written: set[tuple[int, str]] = set()
        over: set[int] = set()
        for effect in effects:
            if isinstance(effect, Emit) and isinstance(effect.event, Message):
                written.add((effect.turn, effect.event.message_id))
            elif isinstance(effect, Emit) and isinstance(effect.event, TurnEnded):
                over.add(effect.turn)
        return [
            self._scribe.piece(effect)
            for effect in effects
            if isinstance(effect, Live)
            and effect.turn not in over
            and (effect.turn, effect.message_id) not in written
        ]
