"""One run of a shell: from bash to its successor, from turn to turn, orders beside it.

How bash is talked to is written down in `shell_control`. Nothing here parses what commands print.
Made by `bridle_host.drivers.shell`, called by a session actor.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace

from bridle_core.observations import (
    Content,
    Decision,
    KeepState,
    Note,
    NoteKind,
    Observation,
    ProcessGone,
    ProcessUp,
    ResumeMode,
    StartFailed,
    StopReason,
    ToolEnded,
    ToolStatus,
    TurnBegan,
    TurnOver,
)
from bridle_host.drivers.base import Driver, DriverContext, ResumeFrom
from bridle_host.drivers.orders import Orders
from bridle_host.drivers.outbox import Outbox
from bridle_host.drivers.output import Log
from bridle_host.drivers.shell_bash import BREAK, Bash
from bridle_host.drivers.shell_control import Began, Report
from bridle_host.drivers.shell_state import Baseline, Kept
from bridle_host.drivers.shell_turn import NoScriptError, Turn, script_of
from bridle_host.process import (
    Chunk,
    DirectoryMissingError,
    ExitStatus,
    Mark,
    NotExecutableError,
    ProcessError,
    SpawnError,
)

#: A living bash answers in a millisecond. It is asked again after this, then after twice as much…
FIRST_ANSWER = 0.05
#: … and gets a SIGINT of its own when it has been silent for so long; seconds.
SILENCE = 0.2
#: A bash that waited for what was killed only after the grace deserves a moment of its own.
LEAST_PATIENCE = 1.0
#: Output that stands before the answer takes its time, but not longer than the session waits.
MOST_PATIENCE = 6.0
#: `$?` after an interrupt, as a terminal's shell has it.
INTERRUPTED_STATUS = 130


class ShellDriver(Driver):
    """See `Driver`. `run` lives through one bash after the other; orders are tasks beside it."""

    def __init__(self, context: DriverContext, program: str) -> None:
        self._context = context
        self._program = program
        self._outbox = Outbox()
        self._orders = Orders()
        self._start = asyncio.Event()
        self._resume: ResumeFrom | None = None
        self._bash: Bash | None = None
        self._up = asyncio.Event()
        self._turn: Turn | None = None
        self._log = Log()
        self._baseline: Baseline | None = None
        self._kept = Kept(context.directory)
        self._told = b""
        self._killed = False
        self._stopping = False
        #: `$?` for the next turn.
        self._status = 0
        #: How much output was read, so that a slow reader is not taken for a silent bash.
        self._seen = 0

    # The driver's interface.

    async def run(self) -> None:
        try:
            await self._orders.run(self._live_on())
        finally:
            self._outbox.close()

    def observations(self) -> AsyncIterator[Sequence[Observation]]:
        return self._outbox

    async def start(self, resume: ResumeFrom | None) -> None:
        self._resume = resume
        self._start.set()

    async def recover(self, state: bytes, resume: ResumeFrom | None) -> None:
        raise NotImplementedError("this driver cannot take over an agent yet")

    async def read_on(self) -> None:
        self._start.set()

    async def send(self, turn: int, content: Sequence[Content]) -> None:
        self._orders.give(self._begin(turn, content))

    async def steer(self, input_id: str, content: Sequence[Content]) -> None:
        raise NotImplementedError("a shell cannot be steered")

    async def interrupt(self, *, grace: float, include_background: bool) -> None:
        self._orders.give(self._interrupt(grace, include_background))

    async def respond(self, approval_id: str, decision: Decision, message: str) -> None:
        raise NotImplementedError("a shell asks for no approval")

    async def stop(self, *, grace: float) -> None:
        self._stopping = True
        self._orders.give(self._stop(grace))

    async def kill(self) -> None:
        self._killed = True
        self._start.set()
        self._orders.give(self._kill())

    # One bash after the other.

    async def _live_on(self) -> None:
        await self._start.wait()
        mode: ResumeMode | None = None
        lost: tuple[str, ...] = ()
        if self._resume is not None:
            if self._resume.mode is ResumeMode.NATIVE:
                text = "a shell has no native resume; resume it with AUTO or SEEDED"
                await self._outbox.put(StartFailed(text))
                return
            mode, lost = ResumeMode.SEEDED, self._take_over(self._resume.driver_state)
        replacement = False
        while not self._killed:
            try:
                bash, also_lost = await self._spawn()
            except (SpawnError, OSError) as error:
                await self._outbox.put(StartFailed(self._why(error)))
                return
            try:
                up = ProcessUp(bash.process.pid, "", replacement, mode, lost + also_lost)
                jobs = await self._live(bash, up)
            finally:
                bash.forget()
                await bash.process.close()
            if jobs is None:
                return
            mode, replacement = ResumeMode.SEEDED, True
            lost = (*self._kept.lost(), *(f"background job: {job}" for job in jobs))
        if not replacement:
            await self._outbox.put(StartFailed("killed before it started"))

    def _take_over(self, state: bytes) -> tuple[str, ...]:
        """What an earlier run kept becomes ours. Returns what is lost."""
        kept = Kept.decode(state) if state else Kept(self._context.directory)
        if kept is None:
            return ("what was kept of the shell: it cannot be read here",)
        self._kept, self._told = kept, state
        return (*kept.lost(), "background jobs")

    async def _spawn(self) -> tuple[Bash, tuple[str, ...]]:
        """A new bash, in the last directory if that is still there. Raises SpawnError, OSError."""
        last, first = self._kept.directory, self._context.directory
        if last != first:
            with suppress(DirectoryMissingError):
                return await Bash.spawn(self._context, self._program, last), ()
        bash = await Bash.spawn(self._context, self._program, first)
        return bash, () if last == first else (f"the directory {last}: it is not there any more",)

    def _why(self, error: Exception) -> str:
        if isinstance(error, DirectoryMissingError):
            return f"the directory {self._context.directory} is not there or cannot be entered"
        if isinstance(error, NotExecutableError):
            return f"{self._program} cannot be run: {error}"
        return f"bash could not be started: {error}"

    async def _live(self, bash: Bash, up: ProcessUp) -> tuple[str, ...] | None:
        """Read one bash to its end. Returns the jobs that were lost if another is to follow it."""
        self._bash = bash
        try:
            ready = await self._bring_up(bash, up)
            if ready:
                while (seen := await bash.read()) is not None:
                    await self._observe(bash, seen)
            return await self._gone(bash, ready)
        finally:
            self._bash = None

    async def _bring_up(self, bash: Bash, up: ProcessUp) -> bool:
        """Read until bash is ready, and tell it. False when it ended before that."""
        if self._killed:  # while it was being spawned
            with suppress(ProcessError):
                await bash.kill()
        awaited = await bash.begin()
        seeded = False
        while (seen := await bash.read()) is not None:
            # Until it is ready bash itself may print: warnings, a prompt. It's not for the log.
            if not isinstance(seen, Report) or seen.token != awaited:
                continue
            if not seeded:
                seeded = True
                self._baseline = Baseline(seen)
                try:
                    awaited = await bash.seed(self._kept.seed())
                    continue
                except OSError as error:
                    text = f"the variables of the last run: {error.strerror}"
                    await self._outbox.put(Note(NoteKind.STATE_LOST, text))
            bash.forget()
            await self._outbox.put(replace(up, agent_version=seen.version))
            if up.replacement:
                text = "bash did not give way to an interrupt; another has taken its place"
                await self._outbox.put(Note(NoteKind.ESCALATED, text))
            self._up.set()
            return True
        return False

    async def _gone(self, bash: Bash, ready: bool) -> tuple[str, ...] | None:
        """It has ended: close what is open, sweep up, tell it."""
        self._up.clear()  # what is sent from here on is for the next one
        status = bash.process.exited or ExitStatus(None, None)
        if not ready:
            text = "killed while starting" if self._killed else f"bash {_ending(status)} at once"
            await self._outbox.put(StartFailed(text))
            return None
        turn, self._turn = self._turn, None
        began = turn is not None and turn.began
        meant = status.code is not None and (began or self._stopping)
        interrupted = turn is not None and turn.interrupted
        if turn is not None and began:
            if self._killed:
                await self._end(turn, StopReason.KILLED, ToolStatus.CANCELLED)
            elif interrupted or self._stopping:
                await self._end(turn, StopReason.INTERRUPTED, ToolStatus.CANCELLED)
            elif status.code is not None:
                turn.status = status.code
                await self._complete(turn)
            else:
                for output in turn.flush():
                    await self._outbox.put(output)
        proof = await bash.clear(gently=not bash.killed)
        again = interrupted and not self._killed
        await self._outbox.put(
            ProcessGone(
                pid=bash.process.pid,
                exit_code=status.code,
                # The shim was lost, and with it the knowledge: its end kills all.
                signal=status.signal or (None if status.code is not None else signal.SIGKILL),
                killed=bash.killed or again,
                deliberate=meant and not bash.killed and not again,
            )
        )
        jobs = tuple(found.command[:80] for rung in proof.rungs[:1] for found in rung.found)
        return bash.jobs + jobs if again else None

    # What bash says.

    async def _observe(self, bash: Bash, seen: Chunk | Began | Report) -> None:
        turn = self._turn
        if isinstance(seen, Chunk):
            self._seen += 1
            await self._printed(turn, seen)
        elif turn is None:
            return  # the answer to a question that nobody asks any more
        elif isinstance(seen, Began):
            if seen.token == turn.token:
                await self._began(turn)
        elif seen.token == turn.token:
            turn.status = seen.status
            if not turn.interrupted:
                bash.forget()
                await self._complete(turn, seen)
            elif seen.status == 128 + BREAK:
                turn.status = INTERRUPTED_STATUS  # how it was done is nobody's business
        elif seen.token == turn.awaited and not turn.last:
            turn.answered.set()
        elif seen.token == turn.awaited:
            bash.forget()
            if turn.status is None:
                turn.status = INTERRUPTED_STATUS
            await self._end(turn, StopReason.INTERRUPTED, ToolStatus.CANCELLED, seen)

    async def _printed(self, turn: Turn | None, chunk: Chunk) -> None:
        if turn is not None and turn.began:
            for output in turn.printed(chunk):
                await self._outbox.put(output)
        elif turn is not None and turn.hold(chunk):
            return
        elif text := self._log.feed(chunk.data):
            await self._outbox.put(Note(NoteKind.AGENT_LOG, text))

    async def _began(self, turn: Turn) -> None:
        turn.began = True
        if dropped := self._log.end():
            text = "background jobs printed more between the turns than is kept"
            await self._outbox.put(Note(NoteKind.TRUNCATED, text, dropped))
        await self._outbox.put(TurnBegan(turn.number))
        await self._outbox.put(turn.started())
        for chunk in turn.release():
            await self._printed(turn, chunk)

    async def _complete(self, turn: Turn, report: Report | None = None) -> None:
        status = ToolStatus.FAILED if turn.status else ToolStatus.SUCCEEDED
        await self._end(turn, StopReason.COMPLETED, status, report)

    async def _end(
        self, turn: Turn, reason: StopReason, status: ToolStatus, report: Report | None = None
    ) -> None:
        for output in turn.flush():
            await self._outbox.put(output)
        await self._outbox.put(ToolEnded(turn.tool_call_id, status, turn.status))
        if report is not None and self._baseline is not None:
            self._kept = self._baseline.kept(report)
            state = self._kept.encode()
            if state != self._told:
                self._told = state
                await self._outbox.put(KeepState(state))
        self._status = turn.status or 0
        # From here on the next turn may come.
        self._turn = None
        turn.over.set()
        turn.answered.set()
        await self._outbox.put(TurnOver(reason, turn.status))

    # Orders.

    async def _begin(self, number: int, content: Sequence[Content]) -> None:
        await self._up.wait()
        bash = self._bash
        if bash is None:
            return
        try:
            script = script_of(content)
            token = bash.token()
            call = f"bash-{self._context.run}-{number}"
            turn = Turn(number, call, script, await bash.process.mark(), token)
            self._turn = turn
            await bash.run(token, script, self._status)
        except NoScriptError as error:
            await self._refuse(number, str(error))
        except OSError as error:
            self._turn = None
            await self._refuse(number, f"the script cannot be written: {error.strerror}")
        except ProcessError:
            return  # it is dying: its end is about to be read

    async def _refuse(self, number: int, message: str) -> None:
        await self._outbox.put(TurnBegan(number))
        await self._outbox.put(TurnOver(StopReason.FAILED, message=message))

    async def _interrupt(self, grace: float, include_background: bool) -> None:
        turn, bash = self._turn, self._bash
        if turn is None or bash is None:
            return  # it is over, or about to be
        first = not turn.interrupted
        turn.interrupt(asyncio.get_running_loop().time() + grace, include_background)
        with suppress(ProcessError):  # it has died: its end is about to be read
            if not first:
                await self._take(bash, turn)
                return
            await bash.throw()
            if await self._answered(bash, turn):
                # bash starts nothing any more, and what it printed until now has been read. What it
                # had started while we looked is still to be taken.
                turn.last = True
                if await self._answered(bash, turn):
                    return
            await bash.list_jobs()
            await bash.kill()

    async def _take(self, bash: Bash, turn: Turn) -> None:
        """Signal what was born in the turn, and kill what is left of it after the grace."""
        done = await bash.process.interrupt(
            Mark(()) if turn.background else turn.mark,
            grace=max(0.0, turn.deadline - asyncio.get_running_loop().time()),
            spare_jobs=not turn.background,
        )
        if done.killed and not turn.over.is_set():
            names = ", ".join(info.command[:80] for info in done.killed[:8])
            text = f"killed, as the interrupt's grace was over: {names}"
            await self._outbox.put(Note(NoteKind.ESCALATED, text))

    async def _answered(self, bash: Bash, turn: Turn) -> bool:
        """Ask bash until it has answered (True) or the time is up.

        Each time after taking what the turn has started: bash may start one more command before it
        notices that it was thrown out, and then waits for that.
        """
        clock = asyncio.get_running_loop().time
        begun = clock()
        pause = FIRST_ANSWER
        patience = LEAST_PATIENCE
        turn.answered.clear()
        while True:
            await self._take(bash, turn)
            seen = self._seen
            turn.awaited = bash.token()
            await bash.ask(turn.awaited)
            limit = max(turn.deadline, begun + patience)
            try:
                async with asyncio.timeout(min(pause, max(limit - clock(), 0.01))):
                    await turn.answered.wait()
                return True
            except TimeoutError:
                pass
            if self._outbox.full or (self._seen != seen and patience < MOST_PATIENCE):
                # What stands before the answer is still being read: that says nothing of bash.
                patience = max(patience, clock() - begun + LEAST_PATIENCE)
            elif clock() >= max(turn.deadline, begun + patience):
                return False
            elif clock() >= begun + SILENCE:
                await bash.poke()
            pause *= 2

    async def _stop(self, grace: float) -> None:
        await self._up.wait()
        if self._bash is not None:
            with suppress(ProcessError):
                await self._bash.exit(grace)

    async def _kill(self) -> None:
        if self._bash is not None:
            with suppress(ProcessError):
                await self._bash.kill()


def _ending(status: ExitStatus) -> str:
    if status.signal is not None:
        return f"died of signal {status.signal}"
    return f"ended with {status.code}"
