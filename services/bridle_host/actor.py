"""The session actor: one run of one session on this host, from its command to its proven end.

Admits and prepares the run, or refuses it; lets it live (`live_run`); writes its end even where our
own code failed at it; takes its files away. A run that an earlier process of the host began is
taken over from its shim, or ended where nothing can be taken over. Everything that happens to a run
goes through its actor, so nothing of it needs a lock.

Made and run by `bridle_host.sessions`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle.v1 import session_pb2
from bridle_core.commands import Command, RunSpec
from bridle_core.effects import Answer, Met, OutcomeState
from bridle_core.errors import BridleError, Reason
from bridle_core.phases import EndReason
from bridle_core.session import Session, answer_after_end
from bridle_host.entries import Scribe
from bridle_host.identity import write_token
from bridle_host.inbox import Inbox, Queued
from bridle_host.journal import Journal
from bridle_host.launch import Prepared
from bridle_host.live_run import UNSEEN, LiveRun, LiveText
from bridle_host.observer import RunObserver
from bridle_host.run_files import RunFiles
from bridle_host.run_processes import sweep_until_gone
from bridle_host.run_state import RunState
from bridle_host.sweep import living_elsewhere, unseen

log = logging.getLogger("bridle.host.actor")

_STARTING = session_pb2.PHASE_STARTING


class SessionActor:
    """See the module. `prepare` gives what the run is made from, or raises BridleError.

    `on_end` is called once, in the moment in which the run's end is durable, or in which it was
    left to the next process of the host. `left` is what is kept of a run of an earlier one; then
    `prepare` gives None for a run that is to be ended.
    """

    def __init__(
        self,
        spec: RunSpec,
        files: RunFiles,
        *,
        observer: RunObserver,
        journal: Journal,
        live_text: LiveText,
        prepare: Callable[[], Awaitable[Prepared | None]],
        on_end: Callable[[SessionActor], None],
        output_cap: int = 0,
        left: RunState | None = None,
    ) -> None:
        self.session_id = files.session_id
        self.run_number = files.run
        #: For people: workspace/slug, once it is known.
        self.name = files.session_id
        self.observer = observer
        self._spec = spec
        self._files = files
        self._left = left
        #: What an earlier process's run looked like, until it is taken over.
        self._before = Session.restore(left.spec, left.record) if left is not None else None
        self._journal = journal
        self._live_text = live_text
        self._prepare = prepare
        self._on_end = on_end
        self._output_cap = output_cap
        self._inbox = Inbox()
        self._live: LiveRun | None = None
        self._muted = False
        self._detached = False
        self._refusing = False
        #: Of a run of an earlier process: whether its agent was still there.
        self.held = False
        #: It was left to the next process of the host.
        self.goes_on = False
        self._over = asyncio.Event()

    # --- for the manager ---

    def live_session(self) -> host_pb.LiveSession:
        """What the inventory says of it."""
        live = host_pb.LiveSession(session_id=self.session_id, run=self.run_number, phase=_STARTING)
        left = self._left.record if self._left is not None else None
        record = self._live.durable if self._live is not None else left
        if record is not None:
            live.phase = session_pb2.Phase.Value(f"PHASE_{record.phase}")
            live.open_turn, live.last_turn = record.turn, record.last_turn
            live.input_ids.extend(record.input_ids)
        return live

    async def submit(self, queued: Queued) -> bool:
        """Takes a command; waits for room. False when the run is over."""
        return await self._inbox.put_command(queued)

    @property
    def leaving(self) -> bool:
        """Whether it is muted, or its end or its refusal is being written or is written already."""
        gone = self._refusing or self._muted
        return gone or (self._live is not None and self._live.machine.closed)

    def has(self, command_id: str) -> bool:
        """Whether it has a command that the journal may not know yet."""
        return command_id == self._spec.start_command or self._inbox.has(command_id)

    def withdraw(self, command_id: str) -> bool:
        """Whether the command was here, and not begun."""
        return self._inbox.withdraw(command_id)

    def tell(self, command: Command) -> None:
        """Takes the host's own stop or kill."""
        self._inbox.put_own(command)

    def write_token(self, token: str) -> None:
        """Puts a fresh token into the session's file."""
        try:
            write_token(self._files.token, token)
        except OSError:
            # The old one is good for a while, and control sends the next before its end.
            log.exception("a token can't be written")

    def park(self) -> None:
        """The host has no place at control: read the agent no more, start no turn."""
        if self._live is not None:
            self._live.park()

    def unpark(self) -> None:
        """Go on."""
        if self._live is not None:
            self._live.unpark()

    def mute(self) -> None:
        """Ends the run now, without a word to control."""
        self._muted = True
        if self._live is not None:
            self._live.muted = True
        self._inbox.wake.set()

    def detach(self) -> None:
        """Leave the run to the next process of the host; `ended` then says that it is left."""
        self._detached = True
        if self._live is not None:
            self._live.detach()

    @property
    def detached(self) -> bool:
        """Whether it was told to leave the run to the next process of the host."""
        return self._detached

    async def ended(self) -> None:
        """Returns when all of it is over."""
        await self._over.wait()

    # --- its life ---

    async def run(self) -> None:
        """Returns when the run has ended, and that is durable; or when it was left to the next
        process of the host. Raises what the journal raises."""
        try:
            await self._run()
        finally:
            self._inbox.close()
            self._on_end(self)
            self._over.set()

    async def _run(self) -> None:
        try:
            prepared = await self._prepare()
        except BridleError as error:
            await self._refuse(error)
            return
        except Exception:
            log.exception("a run can't be prepared")
            if self._left is None:
                await self._refuse(BridleError(Reason.INTERNAL, "the host failed at this start"))
                return
            prepared = None
        if self._detached:
            # A start that was not answered is given again; a run that was not taken over waits.
            self.goes_on = self._left is not None
            if not self.goes_on:
                await asyncio.to_thread(self._files.remove)
            return
        if self._muted and self._left is None:
            await asyncio.to_thread(self._files.remove)
            return
        if prepared is None:
            assert self._left is not None
            await self._end_left(self._left)
        else:
            live = await self._live_on(prepared)
            if live.detached and not live.machine.closed:
                self.goes_on = True
                return
        await self._leave()
        await self._journal.drop_run(self.session_id, self.run_number)
        await asyncio.to_thread(self._files.remove)

    async def _live_on(self, prepared: Prepared) -> LiveRun:
        inputs = None
        if prepared.left is not None:
            inputs = await asyncio.to_thread(self._files.read_inputs)
            prepared.keeper.load(await asyncio.to_thread(self._files.read_said))
        live = self._live = LiveRun(
            prepared,
            self._inbox,
            self._files,
            self._journal,
            self._live_text,
            self._output_cap,
            inputs,
            self.observer,
        )
        live.muted, live.detached = self._muted, self._detached
        try:
            await live.run()
        except Exception:
            # A fault of ours in one run; the others go on, and this one is ended in order.
            log.exception("the host failed at a run")
            await self._give_up(live, prepared)
            live.detached = False
        return live

    async def _end_left(self, left: RunState) -> None:
        """End a run of an earlier process of which nothing can be taken over."""
        elsewhere = await asyncio.to_thread(living_elsewhere, self._files.process)
        swept = await sweep_until_gone(self._files.process)
        log.warning(
            "ended a run of an earlier host process: session=%s run=%d swept=%d",
            self.session_id,
            self.run_number,
            swept,
        )
        # One that never opened and was no Resume left no trace: control gives its start again.
        if left.opened and self._before is not None and not self._muted:
            reason = EndReason.HOST_STOPPED
            message = "the host service came back and could not take the run over"
            if elsewhere:
                message = "the host's state is a copy, and the agent lives on under its original"
            elif not self.held:
                reason = EndReason.AGENT_LOST
                message = "the agent was gone when the host service came back"
            doubt = await asyncio.to_thread(unseen, self._files.process) and not elsewhere
            scribe = Scribe(left.spec, self.session_id, self.run_number)
            await end_lost_run(
                *(self._journal, scribe, self._before, message, reason),
                observer=self.observer,
                swept=swept,
                verified=not elsewhere,
                doubt=UNSEEN if doubt else "",
            )

    async def _refuse(self, error: BridleError) -> None:
        answer = Answer(
            self._spec.start_command,
            OutcomeState.NOT_RUN,
            Met.REFUSED,
            message=error.message,
            error=error.reason,
            metadata=error.metadata,
        )
        self._refusing = True
        # Before control can hear of it, and start this very run once more.
        await asyncio.to_thread(self._files.remove)
        await self._journal.append(self._scribe().entries([answer]))
        await self._leave()

    async def _leave(self) -> None:
        """Answer what came too late for the run; then nothing knows it any more."""
        while late := self._inbox.commands():
            answers = [answer_after_end(queued.command) for queued in late]
            entries = self._scribe().entries(answer for answer in answers if answer.command_id)
            if entries and not self._muted:
                await self._journal.append(entries)
        self._inbox.close()
        self._on_end(self)

    async def _give_up(self, live: LiveRun, prepared: Prepared) -> None:
        """End a run of which we lost the thread: as the next host process would."""
        if live.record is None or not live.record.opened or self._muted:
            return
        await end_lost_run(
            self._journal,
            self._scribe(prepared),
            Session.restore(prepared.spec, live.record),
            "the host service failed at this run",
            observer=self.observer,
        )

    def _scribe(self, prepared: Prepared | None = None) -> Scribe:
        spec = prepared.spec if prepared is not None else self._spec
        return Scribe(spec, self.session_id, self.run_number)


async def end_lost_run(
    journal: Journal,
    scribe: Scribe,
    machine: Session,
    message: str,
    reason: EndReason = EndReason.HOST_STOPPED,
    *,
    observer: RunObserver,
    swept: int = 0,
    verified: bool = True,
    doubt: str = "",
) -> None:
    """Writes the end of a run whose processes are gone, or, not `verified`, out of reach; `doubt`
    as `Session.gone` has it. The machine is a restored one."""
    if machine.closed:
        return
    effects = machine.host_lost(0.0, message, reason)
    effects += machine.gone(swept, 0.0, verified=verified, doubt=doubt)
    observer.performed(effects, 0)
    # Whatever room there is: control takes them only once it has heard of them.
    await journal.append(scribe.entries(effects), always=True)
