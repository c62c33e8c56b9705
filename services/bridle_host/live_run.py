"""A run that is on: the loop around the session machine. The inner half of the session actor.

Does what the machine (`bridle_core.session`) says and decides nothing of its own: feeds it
commands, the driver's observations and the time, makes what it answers durable, and only then calls
the driver. So nothing is shown that isn't in the journal, and nothing is done of which the journal
doesn't know the command.

    commands ──┐                                       ┌─► journal (one append for a batch)
    driver  ───┼─► Inbox ─► machine ─► effects ────────┼─► live text
    time    ───┘                                       └─► Calls ─► driver, one call at a time

While output alone is being written, or waits for room in the journal, commands and the time are
still served: nothing that they write has its place behind that output.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle.v1 import event_pb2
from bridle_core.commands import Deliver
from bridle_core.effects import (
    Answer,
    ArtifactsReported,
    Call,
    Effect,
    Emit,
    InputCancelled,
    Keep,
    Live,
    Met,
    OutcomeState,
    TurnEnded,
)
from bridle_core.observations import Message, Note, NoteKind
from bridle_core.phases import CancelReason
from bridle_core.session import RunRecord, Session
from bridle_host.calls import Calls
from bridle_host.entries import Scribe
from bridle_host.inbox import Broken, Gone, Inbox, Queued
from bridle_host.journal import Entry, Journal
from bridle_host.launch import Prepared
from bridle_host.run_files import RunFiles, dump_run

log = logging.getLogger("bridle.host.live_run")

#: The largest state of a driver that is kept, in bytes.
DRIVER_STATE = 256 * 1024

#: Seconds for which an agent was not read, from which on the log tells of it.
TOLD_PRESSURE = 1.0

LiveText = Callable[[host_pb.LiveTextPiece], None]


class LiveRun:
    """See the module. `run` returns when the run's end is durable, or when it was muted."""

    def __init__(
        self,
        prepared: Prepared,
        inbox: Inbox,
        files: RunFiles,
        journal: Journal,
        live_text: LiveText,
        output_cap: int,
    ) -> None:
        self._spec = prepared.spec
        self._driver = prepared.driver
        self._processes = prepared.processes
        self._inbox = inbox
        self._files = files
        self._journal = journal
        self._live_text = live_text
        self._scribe = Scribe(prepared.spec, files.session_id, files.run, output_cap)
        self.machine = Session(prepared.spec)
        #: What the journal has of the machine; None before the first append.
        self.record: RunRecord | None = None
        self.muted = False
        self._parked = False
        self._calls = Calls(
            prepared.driver,
            prepared.resume,
            verify=self._verify,
            failed=self._failed,
            called=inbox.wake.set,
        )
        self._driving: asyncio.Task[None] | None = None
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
                    await self._perform(self.machine.open(self._loop.time()))
                    while not self.machine.closed and not self.muted:
                        await self._step()
                finally:
                    for helper in (*helpers, self._output, self._room):
                        if helper is not None:
                            helper.cancel()
        except ExceptionGroup as group_error:
            # The helpers catch what is the driver's; what is left is one fault of ours.
            raise group_error.exceptions[0] from group_error
        finally:
            await self._processes.end()

    def park(self) -> None:
        """The host has no place at control: the agent is read no more. Idempotent."""
        self._parked = True

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
        self._inbox.put_news(Gone(swept))

    # --- the loop ---

    async def _step(self) -> None:
        await self._wait()
        now = self._loop.time()
        machine, inbox = self.machine, self._inbox
        effects: list[Effect] = []
        for queued in inbox.commands():
            effects += self._apply(queued, now)
        if machine.hurried and self._output is not None:
            # What the turn put out before somebody wanted its end need not wait any more.
            self._journal.look_again()
        if self._may_read():
            for group in inbox.groups(bulk=self._has_room()):
                for observation in group:
                    effects += machine.observe(observation, now)
            match inbox.news():
                case Gone(swept):
                    effects += machine.gone(swept, now)
                case Broken(message):
                    effects += machine.broken(message, now)
                case None:
                    pass
            effects += machine.settle(now)
        if machine.deadline is not None and machine.deadline <= now:
            effects += machine.tick(now)
        await self._perform(effects)

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

    async def _perform(self, effects: Sequence[Effect]) -> None:
        if not effects:
            return
        entries = await self._entries(effects)
        calls = [effect for effect in effects if isinstance(effect, Call)]
        pieces = self._pieces(effects)
        if entries and not calls and all(entry.is_bulk for entry in entries):
            self._output = self._group.create_task(self._append_output(entries, pieces))
            return
        if entries:
            await self._journal.append(entries, self._state, urgent=self._hurried)
        elif (state := self._state()) is not None:
            await self._journal.put_run(*state)
        for piece in pieces:
            self._live_text(piece)
        self._calls.put(calls)

    async def _append_output(
        self, entries: Sequence[Entry], pieces: Sequence[host_pb.LiveTextPiece]
    ) -> None:
        await self._journal.append(entries, self._state, urgent=self._hurried)
        for piece in pieces:
            self._live_text(piece)
        self._inbox.wake.set()

    def _hurried(self) -> bool:
        return self.machine.hurried

    def _state(self) -> tuple[str, int, bytes] | None:
        """What is to be kept of the run, when it isn't what the journal has."""
        record = self.machine.record()
        if record == self.record:
            return None
        self.record = record
        return self._files.session_id, self._files.run, dump_run(self._spec, record)

    async def _entries(self, effects: Sequence[Effect]) -> list[Entry]:
        kept: list[Emit | Answer | Keep] = []
        artifacts: list[event_pb2.Artifact] = []
        for effect in effects:
            if isinstance(effect, Keep) and len(effect.state) > DRIVER_STATE:
                text = "what the agent wanted kept for a resume is too large"
                kept.append(Emit(Note(NoteKind.STATE_LOST, text, len(effect.state))))
            elif isinstance(effect, Emit | Answer | Keep):
                kept.append(effect)
                if isinstance(effect, Emit) and isinstance(effect.event, ArtifactsReported):
                    artifacts = await asyncio.to_thread(self._files.reported)
        return self._scribe.entries(kept, artifacts)

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
