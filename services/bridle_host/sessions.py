"""The sessions of this host: makes an actor for each run, and gives each command to its actor.

A command runs at most once: the journal knows the ids of those that were answered, the actors know
those that wait, and a repeat of either starts nothing. A command for a run that isn't here is
answered at once. May not look into a run; that is the actors'. Made and run by `bridle_host.app`;
the link gives it what control says.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle.v1 import receipt_pb2, session_pb2
from bridle_core.commands import Kill, RunSpec, Stop
from bridle_core.effects import Answer, Met, OutcomeState
from bridle_core.errors import Reason
from bridle_core.phases import ENDED, EndReason
from bridle_core.session import answer_after_end
from bridle_host.actor import SessionActor
from bridle_host.admission import Admission
from bridle_host.adoption import adoption
from bridle_host.containment import Containment
from bridle_host.drivers.base import DriverFactory
from bridle_host.entries import Scribe
from bridle_host.inbox import Queued
from bridle_host.journal import Entry, Journal
from bridle_host.launch import Launcher, Prepared
from bridle_host.live_run import LiveText
from bridle_host.observer import Observer
from bridle_host.run_files import RunFiles, every, forget, kept
from bridle_host.run_processes import sweep_until_gone
from bridle_host.run_state import RunState
from bridle_host.sweep import read_state, shim_alive, shim_present
from bridle_host.translate import command_of, time_to_live

log = logging.getLogger("bridle.host.sessions")

#: Seconds in which sessions are let go of: all that they wait for is a sync of the disk, or the
#: sweep of processes that are left of one.
DETACH_GRACE = 10.0

#: Seconds in which a shim that is there, and holds nothing yet, begins to or ends.
SHIM_GRACE = 5.0

#: A start with less time to live, in seconds, is out of time: control hands it over all the same,
#: as this host may have had it before, and alone can tell.
LATE = 0.001

_REASONS = {
    int(session_pb2.END_REASON_HOST_DRAINED): EndReason.HOST_DRAINED,
    int(session_pb2.END_REASON_STOP_REQUESTED): EndReason.STOP_REQUESTED,
}


class Sessions:
    """See the module.

    `live_text` takes text of messages that are being written. `control_address` is HOST:PORT, for
    the agents, and `connection` the variables that tell them how to speak to it. `output_cap` is
    what one turn may put into the log, in bytes; 0 means no cap.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        drivers: Mapping[str, DriverFactory],
        live_text: LiveText,
        containment: Containment,
        state_directory: Path,
        default_directory: Path,
        session_limit: int,
        host_id: str,
        control_address: str,
        output_cap: int = 0,
        environment: Mapping[str, str] | None = None,
        connection: Mapping[str, str] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._journal = journal
        self._observer = observer or Observer()
        self._live_text = live_text
        self._runs = state_directory
        self._host_id = host_id
        self._output_cap = output_cap
        admission = Admission(
            drivers,
            limit=session_limit,
            host_id=host_id,
            default_directory=default_directory,
        )
        self._launcher = Launcher(
            admission,
            containment=containment,
            runs=state_directory,
            host_id=host_id,
            address=control_address,
            environment=environment,
            connection=connection,
        )
        self._actors: dict[tuple[str, int], SessionActor] = {}
        self._group: asyncio.TaskGroup | None = None
        self._running = asyncio.Event()
        self._ending = False
        self._detaching = False
        self._placed = True
        #: Of an earlier host process: runs to go on with, and what belongs to no run.
        self._recovered: list[SessionActor] = []
        self._strays: list[RunFiles] = []

    async def run(self) -> None:
        """Lets the actors live; ends by being cancelled. Then what is still there is killed."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for actor in self._recovered:
                group.create_task(actor.run())
            for files in self._strays:
                group.create_task(self._clear(files))
            self._running.set()
            # For ever: the end comes from outside.
            await asyncio.Event().wait()

    # --- what control says ---

    async def submit(self, command: host_pb.Command) -> None:
        """Takes a command. Waits when too many wait for its session."""
        await self._running.wait()
        if self._detaching:
            return  # its run goes on without us: the next process of the host is given it again
        known = self._journal.answers(command.command_id)
        actor = self._actors.get((command.session_id, command.run))
        if known:
            await self._repeat(command, known[-1], live=actor is not None)
        elif actor is not None and actor.has(command.command_id):
            pass  # on its way
        else:
            self._observer.received(command)
            if command.HasField("start"):
                await self._start(command)
            else:
                await self._give(command, actor)

    async def _repeat(
        self, command: host_pb.Command, newest: host_pb.CommandEntry, *, live: bool
    ) -> None:
        """Says again what was said. What was begun and can't be decided any more is over."""
        if newest.outcome.state == receipt_pb2.OUTCOME_STATE_PENDING and not live:
            await self._answer_ended(command)
            return
        entry = Entry(command.session_id, command.run, command=newest)
        await self._journal.append([entry])

    async def _give(self, command: host_pb.Command, actor: SessionActor | None) -> None:
        core = command_of(command)
        if core is None:
            answer = Answer(
                command.command_id,
                OutcomeState.NOT_RUN,
                Met.REFUSED,
                message="this host doesn't know the command",
                error=Reason.VERSION_UNSUPPORTED,
            )
            await self._append(command, [answer])
        elif actor is None:
            await self._answer_ended(command)
        else:
            seconds = time_to_live(command)
            expires = None if seconds is None else asyncio.get_running_loop().time() + seconds
            if not await actor.submit(Queued(core, expires)) and not self._detaching:
                await self._answer_ended(command)

    async def _start(self, command: host_pb.Command) -> None:
        if self._ending:
            await self._refuse(command, Reason.SHUTTING_DOWN, "the host service is ending")
            return
        if (time_to_live(command) or 1.0) < LATE:
            await self._append(
                command, [Answer(command.command_id, OutcomeState.NOT_RUN, Met.EXPIRED)]
            )
            return
        others = [a for a in self._actors.values() if a.session_id == command.session_id]
        if not all(other.leaving for other in others):
            await self._refuse(command, Reason.SESSION_LIVE, "another run of it is live here")
            return

        async def prepare() -> Prepared:
            # Control may know of a run's end before its last process and files are put away.
            for other in others:
                await other.ended()
            return await self._launcher.prepare(command, live=len(self._actors) - 1)

        spec = RunSpec(command.command_id, command.start.agent)
        files = self._launcher.files(command.session_id, command.run)
        actor = self._actor(spec, files, prepare)
        actor.name = f"{command.start.workspace}/{command.start.slug}"
        assert self._group is not None
        self._group.create_task(actor.run())

    def _actor(
        self,
        spec: RunSpec,
        files: RunFiles,
        prepare: Callable[[], Awaitable[Prepared | None]],
        left: RunState | None = None,
    ) -> SessionActor:
        start = "" if left is not None else spec.start_command
        observer = self._observer.run(files.session_id, files.run, spec.agent, start, left)
        actor = SessionActor(
            spec,
            files,
            observer=observer,
            journal=self._journal,
            live_text=self._live_text,
            prepare=prepare,
            on_end=self._forget,
            output_cap=self._output_cap,
            left=left,
        )
        self._actors[files.session_id, files.run] = actor
        return actor

    def _forget(self, actor: SessionActor) -> None:
        actor.observer.ended(left=actor.detached)
        key = (actor.session_id, actor.run_number)
        if self._actors.get(key) is actor:
            del self._actors[key]

    async def _refuse(self, command: host_pb.Command, error: Reason, message: str) -> None:
        state, met = OutcomeState.NOT_RUN, Met.REFUSED
        answer = Answer(command.command_id, state, met, message=message, error=error)
        await self._append(command, [answer])

    async def _answer_ended(self, command: host_pb.Command) -> None:
        core = command_of(command)
        if core is not None:
            await self._append(command, [answer_after_end(core)])

    async def _append(self, command: host_pb.Command, answers: Iterable[Answer]) -> None:
        scribe = Scribe(RunSpec("", ""), command.session_id, command.run)
        await self._journal.append(scribe.entries(answers))

    def withdraw(self, command_id: str) -> None:
        """Lets a command that was not begun be out of time."""
        for actor in self._actors.values():
            if actor.withdraw(command_id):
                return

    def inventory(self) -> list[host_pb.LiveSession]:
        """The live sessions. One leaves when its SessionEnded is durable in the journal."""
        return [actor.live_session() for actor in self._actors.values()]

    def kept(self) -> list[str]:
        """The sessions that are not live, and of which there are files."""
        live = {session_id for session_id, _ in self._actors}
        return [name for name in kept(self._runs) if name not in live]

    async def forget(self, session_ids: Iterable[str]) -> None:
        """Removes the files of sessions that were deleted; not of one that is live."""
        for session_id in session_ids:
            actors = [a for a in self._actors.values() if a.session_id == session_id]
            if not all(actor.leaving for actor in actors):
                continue
            for actor in actors:
                await actor.ended()
            await asyncio.to_thread(forget, self._runs, session_id)

    async def kill_stale(self, session_id: str, run: int) -> None:
        """Kills a run without a word to control; returns when it was seen gone."""
        actor = self._actors.get((session_id, run))
        if actor is not None:
            actor.mute()
            await actor.ended()

    def set_token(self, token: host_pb.SessionToken) -> None:
        """Takes a fresh token for a session; one for another run is thrown away."""
        actor = self._actors.get((token.session_id, token.run))
        if actor is not None:
            actor.write_token(token.token)

    # --- the host's place ---

    def place_lost(self) -> None:
        """Another process has this host's place at control, or control has fenced it.

        The sessions are parked: their agents are not read, and no turn starts. What does not hear
        `place_held` in time interrupts its turn and stops. Idempotent.
        """
        self._placed = False
        for actor in self._actors.values():
            actor.park()

    def place_held(self) -> None:
        """This host has its place at control (again): parked sessions go on. Idempotent."""
        self._placed = True
        for actor in self._actors.values():
            actor.unpark()

    # --- the host's own end and begin ---

    async def stop_all(
        self, reason: int, grace: float, at_once: asyncio.Event | None = None
    ) -> None:
        """Stops every session, and returns when each was seen gone. No run starts any more.

        `reason` is a bridle.v1.EndReason. Open turns are interrupted at once; what has not ended
        within `grace` seconds, or when `at_once` is set, is killed.
        """
        self._ending = True
        why = _REASONS.get(int(reason), EndReason.HOST_STOPPED)
        actors = list(self._actors.values())
        for actor in actors:
            actor.tell(Stop(grace=0.0, reason=why))
        async with asyncio.TaskGroup() as group:
            ended = group.create_task(_all_ended(actors))
            hurry = group.create_task((at_once or asyncio.Event()).wait())
            waiting = asyncio.FIRST_COMPLETED
            await asyncio.wait({ended, hurry}, timeout=grace, return_when=waiting)
            hurry.cancel()
            if not ended.done():
                for actor in actors:
                    actor.tell(Kill(reason=why))

    async def detach_all(self) -> list[str]:
        """Leaves every session to the next process of the host; returns their names.

        When it returns, all that was written is durable, and no shim is held any more. No run
        starts any more. What is being ended gets `DETACH_GRACE`; the next process goes on with it.
        """
        self._ending = self._detaching = True
        actors = list(self._actors.values())
        for actor in actors:
            actor.detach()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DETACH_GRACE):
                await _all_ended(actors)
        return [actor.name for actor in actors if actor.goes_on]

    async def recover(self) -> None:
        """Takes in what an earlier host process left: from here on the inventory tells of it.

        Before `run`, which carries it on, and before anything is said to control. Nothing is ended
        in here, and nothing is swept: what belongs to nobody is, once `run` is on.
        """
        for session_id, run, state in self._journal.runs():
            files = RunFiles(self._runs, session_id, run)
            try:
                left = RunState.load(state)
            except ValueError:
                log.exception("what is kept of a run can't be read")
                self._strays.append(files)
                continue
            if left.record.phase in ENDED:
                self._strays.append(files)
                continue
            await self._take_in(files, left)
        known = {(files.session_id, files.run) for files in self._strays} | self._actors.keys()
        for files in await asyncio.to_thread(lambda: list(every(self._runs))):
            if (files.session_id, files.run) in known:
                continue
            if (forgotten := await self._forgotten(files)) is not None:
                await self._take_in(files, forgotten)
            else:
                self._strays.append(files)

    async def _forgotten(self, files: RunFiles) -> RunState | None:
        """A run that lives and that the journal, which must be a new one, does not know."""
        state = await asyncio.to_thread(files.read_state)
        if state is None or not await _held(files):
            return None
        try:
            forgotten = RunState.load(state).forgotten()
        except ValueError:
            return None
        log.warning("the journal does not know a live run: session=%s", files.session_id)
        entry = Entry(files.session_id, files.run, adopt=adoption(forgotten, self._host_id))
        # The turn that is over for the log is in traces told by this process, and by it alone.
        kept = (files.session_id, files.run, replace(forgotten, observed={}).dump())
        await self._journal.append([entry], lambda: kept, always=True)
        return forgotten

    async def _take_in(self, files: RunFiles, left: RunState) -> None:
        async def prepare() -> Prepared | None:
            command = await asyncio.to_thread(files.read_start)
            held = actor.held = await _held(files)
            if command is None or not (held or left.needs_no_agent):
                return None
            if not held:
                await sweep_until_gone(files.process)
            actor.name = f"{command.start.workspace}/{command.start.slug}"
            try:
                return self._launcher.restore(command, left, unborn=left.unborn and not held)
            except ValueError:
                log.exception("a run of an earlier host process can't be taken over")
                return None

        actor = self._actor(left.spec, files, prepare, left)
        self._recovered.append(actor)

    async def _clear(self, files: RunFiles) -> None:
        """End what belongs to no run any more, and take its files away."""
        await sweep_until_gone(files.process)
        await self._journal.drop_run(files.session_id, files.run)
        await asyncio.to_thread(files.remove)


async def _held(files: RunFiles) -> bool:
    """Whether a shim holds the run's process. One that is about to begin, or to end, is awaited."""
    deadline = asyncio.get_running_loop().time() + SHIM_GRACE
    while True:
        state = await asyncio.to_thread(read_state, files.process)
        if state is not None and shim_alive(state):
            return True
        present = await asyncio.to_thread(shim_present, files.process)
        if not present or asyncio.get_running_loop().time() >= deadline:
            return False
        await asyncio.sleep(0.02)


async def _all_ended(actors: Iterable[SessionActor]) -> None:
    for actor in actors:
        await actor.ended()
