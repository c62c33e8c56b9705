"""One run of a shell: from bash to its successor, from turn to turn, orders beside it.

How bash is talked to is written down in `control`. Nothing here parses what commands print.
Made by `bridle_host.drivers.shell`, called by a session actor.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace

from bridle_core import values
from bridle_core.observations import (
    Checkpoint,
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
from bridle_host.drivers.notebook import Notebook
from bridle_host.drivers.orders import Orders
from bridle_host.drivers.outbox import Outbox
from bridle_host.drivers.output import Log
from bridle_host.drivers.places import Places
from bridle_host.drivers.shell.bash import BEGIN, BREAK, SEED, Bash
from bridle_host.drivers.shell.control import Began, Report
from bridle_host.drivers.shell.standing import (
    BASELINE,
    BIRTH,
    KEPT,
    MARKED,
    Birth,
    Marked,
    Stage,
    Standing,
)
from bridle_host.drivers.shell.state import Baseline, Kept
from bridle_host.drivers.shell.turn import NoScriptError, Turn, script_of
from bridle_host.process import (
    Chunk,
    DirectoryMissingError,
    ExitStatus,
    Mark,
    NotExecutableError,
    ProcessError,
    SpawnError,
    Stream,
)

#: Background jobs that are named when they are lost.
JOBS = 20
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
    """See `Driver`. `run` lives through one bash after the other; orders are tasks beside it.

    What is told is told in groups, each of which ends with where the driver stands after it. So
    nothing is awaited between what changes that and `_tell`.
    """

    def __init__(self, context: DriverContext, program: str) -> None:
        self._context = context
        self._program = program
        self._outbox = Outbox()
        self._orders = Orders()
        self._notebook = Notebook(context.state_directory)
        self._start = asyncio.Event()
        self._replace = asyncio.Event()
        self._resume: ResumeFrom | None = None
        #: Where the driver of an earlier process of the host stood.
        self._taken: Standing | None = None
        #: A turn that was ordered again before the agent was taken over.
        self._again: tuple[int, Sequence[Content]] | None = None
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
        self._stage = Stage.STARTING
        self._serial = 0
        self._pid = 0
        self._lost: tuple[str, ...] = ()
        self._places = Places()
        #: How many looks for what a turn has born are under way, and set while none is.
        self._takes = 0
        self._taken_all = asyncio.Event()
        self._taken_all.set()
        #: What is being told.
        self._group: list[Observation] = []

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
        self._resume = resume
        self._taken = self._stand(Standing.load(state))

    async def read_on(self) -> None:
        self._start.set()

    async def replace(self) -> None:
        self._replace.set()

    async def send(self, turn: int, content: Sequence[Content]) -> None:
        if self._taken is not None and not self._start.is_set():
            self._again = (turn, content)
        else:
            self._orders.give(self._begin(turn, content))

    async def steer(self, input_id: str, content: Sequence[Content]) -> None:
        raise NotImplementedError("a shell cannot be steered")

    async def interrupt(self, *, grace: float, include_background: bool) -> None:
        turn = self._turn
        if turn is None:
            return  # it is over
        first = not turn.interrupted
        turn.interrupt(asyncio.get_running_loop().time() + grace, include_background)
        self._orders.give(self._interrupt(turn, first))

    async def respond(self, approval_id: str, decision: Decision, message: str) -> None:
        raise NotImplementedError("a shell asks for no approval")

    async def stop(self, *, grace: float) -> None:
        self._stopping = True
        self._orders.give(self._stop(grace))

    async def kill(self) -> None:
        self._killed = True
        self._start.set()
        self._replace.set()
        self._orders.give(self._kill())

    # What is told, and where that leaves the driver.

    def _tell(self, *observations: Observation) -> None:
        """End the group: with these, and with where the driver stands now."""
        group = (*self._group, *observations, self._checkpoint())
        self._group.clear()
        self._outbox.add(*group)

    def _checkpoint(self) -> Checkpoint:
        turn, bash, places = self._turn, self._bash, self._places
        for stream in (Stream.STDOUT, Stream.STDERR):
            places.keep(stream, turn.held(stream) if turn is not None else 0)
        places.keep(Stream.CONTROL, bash.held if bash is not None else 0)
        began = turn is not None and turn.began
        standing = Standing(
            stage=self._stage,
            serial=self._serial,
            pid=self._pid,
            end=places.end,
            behind=tuple(places.behind.items()),
            turn=turn.number if turn is not None and began else 0,
            status=turn.status if turn is not None and began else None,
            last_status=self._status,
            log=self._log.standing,
            lost=self._lost,
            kept=_digest(self._told),
            frame=bash.spilled if bash is not None else 0,
        )
        return Checkpoint(standing.dump(), places.acknowledge)

    def _stand(self, standing: Standing) -> Standing:
        """Where an earlier driver stood is where we stand."""
        self._stage, self._serial, self._pid = standing.stage, standing.serial, standing.pid
        self._status, self._lost = standing.last_status, standing.lost
        self._log = Log(*standing.log)
        self._places = Places(standing.end, dict(standing.behind))
        if kept := self._notebook.read(KEPT):
            self._kept = Kept.decode(kept) or self._kept
            # What was written down and did not become durable is told again.
            self._told = kept if _digest(kept) == standing.kept else b""
        if report := self._notebook.read(BASELINE):
            self._baseline = Baseline(values.load(Report, report))
        if standing.turn:
            turn = self._turn_of(standing.turn, "", self._marked(standing.turn) or Mark(()))
            turn.began, turn.status = True, standing.status
            self._turn = turn
        return standing

    def _marked(self, number: int) -> Mark | None:
        """What was alive before a turn, as it was written down; None where it wasn't."""
        page = self._notebook.read(MARKED)
        marked = values.load(Marked, page) if page else None
        return Mark(marked.processes) if marked is not None and marked.turn == number else None

    def _turn_of(self, number: int, script: str, mark: Mark) -> Turn:
        call = f"bash-{self._context.run}-{number}"
        return Turn(number, call, script, mark, f"turn-{number}")

    # One bash after the other.

    async def _live_on(self) -> None:
        await self._start.wait()
        bash: Bash | None = None
        birth = self._birth()
        if self._taken is not None and birth is not None:
            try:
                bash = await self._adopt(birth)
            except ProcessError as error:
                self._gone_unseen(error)
                return
            if bash is None:
                told = birth.serial == self._serial and self._stage is Stage.BETWEEN
                anew = replace(birth, serial=birth.serial + 1, nonce=secrets.token_hex(16))
                birth = self._next_birth() if told else anew
        elif birth is None:
            birth = self._first_birth()
        if birth is None:
            text = "a shell has no native resume; resume it with AUTO or SEEDED"
            self._tell(StartFailed(text))
            return
        last: Bash | None = None
        while True:
            if bash is None:
                if birth.replacement:
                    await self._replace.wait()
                    self._replace.clear()
                if last is not None:
                    await last.process.close()
                if self._killed:
                    break
                try:
                    bash, birth = await self._spawn(birth)
                except (SpawnError, OSError) as error:
                    self._tell(StartFailed(self._why(error)))
                    return
            again = await self._live(bash, birth)
            if not again:
                return
            last, bash, birth = bash, None, self._next_birth()
        self._tell(StartFailed("killed before it started"))

    def _birth(self) -> Birth | None:
        """The bash that an earlier process of the host has spawned, or was about to."""
        page = self._notebook.read(BIRTH) if self._taken is not None else b""
        return values.load(Birth, page) if page else None

    def _first_birth(self) -> Birth | None:
        """None when it can't be as it was asked for."""
        if self._resume is None:
            return Birth(1, secrets.token_hex(16))
        if self._resume.mode is ResumeMode.NATIVE:
            return None
        lost = self._take_over(self._resume.driver_state)
        return Birth(1, secrets.token_hex(16), mode=ResumeMode.SEEDED, lost=lost)

    def _next_birth(self) -> Birth:
        lost = (*self._kept.lost(), *self._lost)
        return Birth(self._serial + 1, secrets.token_hex(16), True, ResumeMode.SEEDED, lost)

    async def _adopt(self, birth: Birth) -> Bash | None:
        """Take over the bash that is there; None when the next is due: this one is told to be gone,
        or was to take that one's place, and is gone before anything was told of it.

        Raises ShimLostError, ShimFailedError.
        """
        over = self._stage is Stage.BETWEEN and birth.serial == self._serial
        try:
            bash = await Bash.adopt(self._context, birth.nonce, 0 if over else self._spilled())
        except ProcessError:
            if over or (birth.replacement and self._stage is not Stage.UP):
                return None
            raise
        if over:
            await bash.process.close()
            return None
        if birth.serial != self._serial or not self._pid:
            self._stage, self._serial, self._pid = Stage.STARTING, birth.serial, bash.process.pid
        bash.process.acknowledge(self._places.acknowledge)
        return bash

    def _spilled(self) -> int:
        return self._taken.frame if self._taken is not None else 0

    def _gone_unseen(self, error: ProcessError) -> None:
        """The agent of an earlier process of the host is gone, and nobody knows how."""
        if self._stage is Stage.UP:
            self._turn = None
            self._tell(ProcessGone(self._pid, signal=signal.SIGKILL))
        else:
            self._tell(StartFailed(f"the agent was lost with its host: {error}"))

    def _take_over(self, state: bytes) -> tuple[str, ...]:
        """What an earlier run kept becomes ours. Returns what is lost."""
        kept = Kept.decode(state) if state else Kept(self._context.directory)
        if kept is None:
            return ("what was kept of the shell: it cannot be read here",)
        self._kept, self._told = kept, state
        self._notebook.write(KEPT, state)
        return (*kept.lost(), "background jobs")

    async def _spawn(self, birth: Birth) -> tuple[Bash, Birth]:
        """A new bash, in the last directory if that is still there. Raises SpawnError, OSError."""
        last, first = self._kept.directory, self._context.directory
        if last != first:
            with suppress(DirectoryMissingError):
                return await self._spawn_in(last, birth)
            lost = f"the directory {last}: it is not there any more"
            birth = replace(birth, lost=(*birth.lost, lost))
        return await self._spawn_in(first, birth)

    async def _spawn_in(self, directory: str, birth: Birth) -> tuple[Bash, Birth]:
        self._notebook.write(BIRTH, values.dump(birth).encode())
        bash = await Bash.spawn(self._context, self._program, directory, birth.nonce)
        self._stage, self._serial, self._pid = Stage.STARTING, birth.serial, bash.process.pid
        self._lost, self._places = (), Places()
        return bash, birth

    def _why(self, error: Exception) -> str:
        if isinstance(error, DirectoryMissingError):
            return f"the directory {self._context.directory} is not there or cannot be entered"
        if isinstance(error, NotExecutableError):
            return f"{self._program} cannot be run: {error}"
        return f"bash could not be started: {error}"

    async def _live(self, bash: Bash, birth: Birth) -> bool:
        """Read one bash to its end. Whether another is to follow it. Raises OSError."""
        self._bash = bash
        try:
            if self._killed:  # while it was being spawned, or taken over
                with suppress(ProcessError):
                    await bash.kill()
            ready = self._stage is Stage.UP or await self._bring_up(bash, birth)
            if ready:
                await self._order_again()
                self._up.set()
                while (chunk := await self._read(bash)) is not None:
                    self._observe(bash, chunk)
                    self._tell()
            return await self._gone(bash, ready)
        except BaseException:
            await bash.process.close()
            raise
        finally:
            self._bash = None
            self._up.clear()

    async def _read(self, bash: Bash) -> Chunk | None:
        """What was not used up yet of the next chunk, once it can be told what comes of it."""
        while (chunk := await bash.read()) is not None:
            if (fresh := self._places.fresh(chunk)) is not None:
                await self._outbox.room()
                self._places.took(fresh)
                return fresh
        return None

    async def _order_again(self) -> None:
        """Before anything is read of the turn that was ordered."""
        again, self._again = self._again, None
        if again is not None:
            self._up.set()
            await self._begin(*again)

    async def _bring_up(self, bash: Bash, birth: Birth) -> bool:
        """Read until bash is ready, and tell it. False when it ended before that."""
        seeding = self._stage is Stage.SEEDING
        if not seeding:
            await bash.begin()
        while self._stage is not Stage.UP:
            if seeding and not await self._seed(bash):
                self._come_up(birth, "")
                break
            chunk = await self._read(bash)
            if chunk is None:
                return False
            seeding = self._greeted(bash, birth, chunk)
        return True

    def _greeted(self, bash: Bash, birth: Birth, chunk: Chunk) -> bool:
        """What a bash says that is not up yet. Whether it is to be seeded now.

        It may have answered all that it was asked by an earlier process of the host. Until it is
        ready bash itself may print: warnings, a prompt. It's not for the log.
        """
        seeding = False
        for frame in bash.frames(chunk.data) if chunk.stream is Stream.CONTROL else ():
            if not isinstance(frame, Report):
                continue
            if frame.token == BEGIN and self._stage is Stage.STARTING:
                self._baseline = Baseline(frame)
                with suppress(OSError):  # a successor would keep nothing
                    self._notebook.write(BASELINE, values.dump(frame).encode())
                self._stage, seeding = Stage.SEEDING, True
            elif frame.token == SEED and self._stage is Stage.SEEDING:
                self._come_up(birth, frame.version)
                return False
        self._tell()
        return seeding

    async def _seed(self, bash: Bash) -> bool:
        """Whether bash will answer it."""
        try:
            await bash.seed(self._kept.seed())
        except OSError as error:
            text = f"the variables of the last run: {error.strerror}"
            self._group.append(Note(NoteKind.STATE_LOST, text))
            return False
        return True

    def _come_up(self, birth: Birth, version: str) -> None:
        self._stage = Stage.UP
        up = ProcessUp(self._pid, version, birth.replacement, birth.mode, birth.lost)
        self._group.append(up)
        if birth.replacement:
            text = "bash did not give way to an interrupt; another has taken its place"
            self._group.append(Note(NoteKind.ESCALATED, text))
        self._tell()

    async def _gone(self, bash: Bash, ready: bool) -> bool:
        """It has ended: close what is open, sweep up, tell it. Whether another is to follow."""
        self._up.clear()  # what is sent from here on is for the next one
        bash.forget()
        status = bash.process.exited or ExitStatus(None, None)
        if not ready:
            text = "killed while starting" if self._killed else f"bash {_ending(status)} at once"
            self._tell(StartFailed(text))
            return False
        proof = await bash.clear(gently=not bash.killed)
        turn = self._turn
        began = turn is not None and turn.began
        meant = status.code is not None and (began or self._stopping)
        interrupted = turn is not None and turn.interrupted
        if turn is not None and began:
            if self._killed:
                self._end(turn, StopReason.KILLED, ToolStatus.CANCELLED)
            elif interrupted or self._stopping:
                self._end(turn, StopReason.INTERRUPTED, ToolStatus.CANCELLED)
            elif status.code is not None:
                turn.status = status.code
                self._complete(turn)
            else:
                self._group += turn.flush()
        self._turn = None
        again = interrupted and not self._killed
        killed = bash.killed or again or (self._killed and status.code is None)
        if again:
            jobs = tuple(found.command[:80] for rung in proof.rungs[:1] for found in rung.found)
            self._lost = tuple(f"background job: {job}" for job in (bash.jobs + jobs)[:JOBS])
            self._stage = Stage.BETWEEN
        # In one group with the turn's end: who goes on from there knows both or neither.
        self._tell(
            ProcessGone(
                pid=bash.process.pid,
                exit_code=status.code,
                # The shim was lost, and with it the knowledge: its end kills all.
                signal=status.signal or (None if status.code is not None else signal.SIGKILL),
                killed=killed,
                deliberate=meant and not killed,
            )
        )
        return again

    # What bash says.

    def _observe(self, bash: Bash, chunk: Chunk) -> None:
        if chunk.stream is not Stream.CONTROL:
            self._seen += 1
            self._printed(self._turn, chunk)
            return
        for frame in bash.frames(chunk.data):
            self._framed(bash, frame)

    def _framed(self, bash: Bash, seen: Began | Report) -> None:
        turn = self._turn
        if turn is None:
            return  # the answer to a question that nobody asks any more
        if isinstance(seen, Began):
            if seen.token == turn.token:
                self._began(turn)
        elif seen.token == turn.token:
            if bash.killed and not turn.interrupted:
                # Its command was killed a moment before bash was, and bash took that for its end.
                # The turn is ended by bash's exit.
                return
            turn.status = seen.status
            if not turn.interrupted:
                bash.forget()
                self._complete(turn, seen)
            elif seen.status == 128 + BREAK:
                turn.status = INTERRUPTED_STATUS  # how it was done is nobody's business
        elif seen.token == turn.awaited and not turn.last:
            turn.answered.set()
        elif seen.token == turn.awaited:
            bash.forget()
            if turn.status is None:
                turn.status = INTERRUPTED_STATUS
            self._end(turn, StopReason.INTERRUPTED, ToolStatus.CANCELLED, seen)

    def _printed(self, turn: Turn | None, chunk: Chunk) -> None:
        if turn is not None and turn.began:
            self._group += turn.printed(chunk)
        elif turn is not None and turn.hold(chunk):
            return
        elif text := self._log.feed(chunk.data):
            self._group.append(Note(NoteKind.AGENT_LOG, text))

    def _began(self, turn: Turn) -> None:
        turn.began = True
        if dropped := self._log.end():
            text = "background jobs printed more between the turns than is kept"
            self._group.append(Note(NoteKind.TRUNCATED, text, dropped))
        self._group += (TurnBegan(turn.number), turn.started())
        for chunk in turn.release():
            self._printed(turn, chunk)

    def _complete(self, turn: Turn, report: Report | None = None) -> None:
        status = ToolStatus.FAILED if turn.status else ToolStatus.SUCCEEDED
        self._end(turn, StopReason.COMPLETED, status, report)

    def _end(
        self, turn: Turn, reason: StopReason, status: ToolStatus, report: Report | None = None
    ) -> None:
        self._group += turn.flush()
        self._group.append(ToolEnded(turn.tool_call_id, status, turn.status))
        if report is not None and self._baseline is not None:
            self._kept = self._baseline.kept(report)
            state = self._kept.encode()
            if state != self._told:
                self._told = state
                with suppress(OSError):  # the state directory is full: a successor has an older one
                    self._notebook.write(KEPT, state)
                self._group.append(KeepState(state))
        self._status = turn.status or 0
        # From here on the next turn may come.
        self._turn = None
        turn.over.set()
        turn.answered.set()
        self._group.append(TurnOver(reason, turn.status))

    # Orders.

    async def _begin(self, number: int, content: Sequence[Content]) -> None:
        await self._up.wait()
        # What is still looking for the last turn's processes would take this one's for them.
        await self._taken_all.wait()
        bash = self._bash
        if bash is None or (self._turn is not None and self._turn.number == number):
            return
        try:
            script = script_of(content)
            marked = self._marked(number) if bash.has(f"turn-{number}") else None
            if marked is not None:
                # It has it from an earlier process of the host.
                self._turn = self._turn_of(number, script, marked)
                return
            mark = await bash.process.mark()
            turn = self._turn = self._turn_of(number, script, mark)
            page = values.dump(Marked(number, mark.processes)).encode()
            self._notebook.write(MARKED, page)
            await bash.run(turn.token, script, self._status)
        except NoScriptError as error:
            self._refuse(number, str(error))
        except OSError as error:
            self._turn = None
            self._refuse(number, f"the script cannot be written: {error.strerror}")
        except ProcessError:
            return  # it is dying: its end is about to be read

    def _refuse(self, number: int, message: str) -> None:
        self._tell(TurnBegan(number), TurnOver(StopReason.FAILED, message=message))

    async def _interrupt(self, turn: Turn, first: bool) -> None:
        await self._up.wait()
        bash = self._bash
        if turn is not self._turn or bash is None:
            return  # it is over, or about to be
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
        if turn.over.is_set():
            return
        self._takes += 1
        self._taken_all.clear()
        try:
            done = await bash.process.interrupt(
                Mark(()) if turn.background else turn.mark,
                grace=max(0.0, turn.deadline - asyncio.get_running_loop().time()),
                spare_jobs=not turn.background,
            )
        finally:
            self._takes -= 1
            if not self._takes:
                self._taken_all.set()
        if done.killed and not turn.over.is_set():
            names = ", ".join(info.command[:80] for info in done.killed[:8])
            text = f"killed, as the interrupt's grace was over: {names}"
            self._tell(Note(NoteKind.ESCALATED, text))

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
                # It ends the turn with no answer but one to a question behind the last signal.
                turn.awaited = ""
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


def _digest(state: bytes) -> str:
    return hashlib.sha256(state).hexdigest()[:16]


def _ending(status: ExitStatus) -> str:
    if status.signal is not None:
        return f"died of signal {status.signal}"
    return f"ended with {status.code}"
