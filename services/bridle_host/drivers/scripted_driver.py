"""One run of a scripted agent: from process to its successor, from turn to turn, orders beside it.

What the agent says is read by `scripted_wire`. Made by `bridle_host.drivers.scripted`, called by a
session actor.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from enum import Enum

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
    TurnBegan,
    TurnOver,
)
from bridle_host.drivers import scripted_wire as wire
from bridle_host.drivers.base import Driver, DriverContext, ResumeFrom
from bridle_host.drivers.notebook import Notebook
from bridle_host.drivers.orders import Orders
from bridle_host.drivers.outbox import Outbox
from bridle_host.drivers.output import SHOWN, Lines, Log, Overlong
from bridle_host.drivers.places import Places
from bridle_host.drivers.scripted_standing import (
    BIRTH,
    KEPT,
    MARKED,
    Birth,
    Marked,
    Stage,
    Standing,
)
from bridle_host.drivers.scripted_turn import Turn
from bridle_host.process import (
    KILL_NOW,
    Chunk,
    InputClosedError,
    Ladder,
    Mark,
    ProcessError,
    ShimProcess,
    SpawnError,
    Stream,
)

#: What the turn's tools have at least, and the agent once they were killed, in seconds.
LAST_MOMENT = 0.5
#: What an agent that ended leaves behind has this long after a SIGTERM, in seconds.
LEFT_GRACE = 1.0
#: Notes of unreadable lines in one turn; an agent that lost its way says a million of them.
UNREADABLE = 32
#: What the agent may want to have kept, in bytes of JSON.
MEMORY = 128 * 1024

VERSION = 1

#: The first order, and its key.
HELLO = "hello"
#: What an agent's word for a turn of its own can't do without.
OWN_TURN = b"turn_began"

_MEMORY_LOST = "what the agent remembered"


class Outcome(Enum):
    """How one process's life went."""

    OVER = "the run is over"
    REPLACE = "it gave its life to end a turn"
    REFUSED = "it never was ready"


class ScriptedDriver(Driver):
    """See `Driver`. argv: the agent's command line.

    What is told is told in groups, each of which ends with where the driver stands after it. So
    nothing is awaited between what changes that and `_tell`.
    """

    def __init__(self, context: DriverContext, argv: tuple[str, ...]) -> None:
        self._context = context
        self._argv = argv
        self._outbox = Outbox()
        self._orders = Orders()
        self._notebook = Notebook(context.state_directory)
        self._start = asyncio.Event()
        self._replace = asyncio.Event()
        self._resume: ResumeFrom | None = None
        #: Whether an earlier process of the host began the run.
        self._recovering = False
        #: A turn that was ordered again before the agent was taken over.
        self._again: tuple[int, Sequence[Content]] | None = None
        self._conversation = uuid.uuid4().hex
        self._memory: dict[str, str] = {}
        self._always: tuple[str, ...] = ()
        self._told = b""
        self._process: ShimProcess | None = None
        self._up = asyncio.Event()
        #: The turn that was asked for and has not begun, and the one that is on.
        self._asked: Turn | None = None
        self._turn: Turn | None = None
        self._own = 0
        #: Whether an earlier process of the host may have marked the next turn of the agent's own.
        self._own_marked = False
        self._lines = Lines()
        self._log = Log()
        self._unreadable = 0
        #: Why the agent is not up.
        self._refused = ""
        #: It said that it means to end; it had to be killed; its end is being told.
        self._bye = False
        self._stuck = False
        self._ending = False
        self._killed = False
        self._stopping = False
        self._stage = Stage.STARTING
        self._serial = 0
        self._pid = 0
        self._places = Places()
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
        self._resume, self._recovering, self._own_marked = resume, True, True
        self._stand(Standing.load(state))

    async def read_on(self) -> None:
        self._start.set()

    async def replace(self) -> None:
        self._replace.set()

    async def send(self, turn: int, content: Sequence[Content]) -> None:
        if self._recovering and not self._start.is_set():
            self._again = (turn, content)
        else:
            self._orders.give(self._begin(turn, content))

    async def steer(self, input_id: str, content: Sequence[Content]) -> None:
        fields = {"input": input_id, "content": wire.content_of(content)}
        self._orders.give(self._order(self._turn, "steer", f"steer-{input_id}", fields))

    async def interrupt(self, *, grace: float, include_background: bool) -> None:
        turn = self._turn
        if turn is None:
            return  # it is over
        first = not turn.interrupted
        turn.interrupt(asyncio.get_running_loop().time() + grace, include_background)
        if first:
            self._orders.give(self._interrupt(turn, grace))

    async def respond(self, approval_id: str, decision: Decision, message: str) -> None:
        turn = self._turn
        if turn is None:
            return  # nobody waits for it any more
        fields = {"approval": approval_id, "decision": decision.value, "message": message}
        key = f"respond-{turn.name}-{approval_id}"
        self._orders.give(self._order(turn, "respond", key, fields))

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
        turn, places = self._turn, self._places
        places.keep(Stream.STDOUT, self._lines.held)
        places.keep(Stream.STDERR, 0)
        standing = Standing(
            stage=self._stage,
            serial=self._serial,
            pid=self._pid,
            end=places.end,
            behind=tuple(places.behind.items()),
            turn=turn.name if turn is not None else "",
            ended=turn is not None and turn.ended.is_set(),
            own=self._own,
            overlong=self._lines.overlong,
            log=self._log.standing,
            unreadable=self._unreadable,
            refused=self._refused[:SHOWN],
            bye=self._bye,
            kept=_digest(self._told),
        )
        return Checkpoint(standing.dump(), places.acknowledge)

    def _stand(self, standing: Standing) -> None:
        """Where an earlier driver stood is where we stand."""
        self._stage, self._serial, self._pid = standing.stage, standing.serial, standing.pid
        self._places = Places(standing.end, dict(standing.behind))
        self._lines = Lines(overlong=standing.overlong)
        self._log = Log(*standing.log)
        self._own, self._unreadable = standing.own, standing.unreadable
        self._refused, self._bye = standing.refused, standing.bye
        kept = self._notebook.read(KEPT)
        if kept and self._take_over(kept) and _digest(kept) == standing.kept:
            self._told = kept
        if standing.turn:
            number = standing.turn.removeprefix("turn-")
            mark = self._marked(standing.turn) or Mark(())
            turn = Turn(int(number) if number.isdecimal() else None, mark, standing.turn)
            if standing.ended:
                turn.end()
            self._turn = turn

    def _marked(self, name: str) -> Mark | None:
        """What was alive before a turn, as it was written down; None where it wasn't."""
        page = self._notebook.read(_page(name))
        marked = values.load(Marked, page) if page else None
        return Mark(marked.processes) if marked is not None and marked.turn == name else None

    def _write_mark(self, name: str, mark: Mark) -> None:
        with suppress(OSError):  # a successor would take the turn's children for older ones
            self._notebook.write(_page(name), values.dump(Marked(name, mark.processes)).encode())

    # One process after the other.

    async def _live_on(self) -> None:
        await self._start.wait()
        page = self._notebook.read(BIRTH) if self._recovering else b""
        birth = values.load(Birth, page) if page else self._first_birth()
        if birth is None:
            self._tell(StartFailed("there is no conversation to take up again"))
            return
        process: ShimProcess | None = None
        if page:
            try:
                process = await self._adopt(birth)
            except ProcessError as error:
                self._gone_unseen(error)
                return
            if process is None:
                told = birth.serial == self._serial and self._stage is Stage.BETWEEN
                anew = replace(birth, serial=birth.serial + 1)
                birth = self._next_birth(birth, Outcome.REPLACE) if told else anew
                self._stage = Stage.BETWEEN
        last: ShimProcess | None = None
        while True:
            outcome = Outcome.REFUSED
            if process is None:
                if self._stage is Stage.BETWEEN:
                    await self._replace.wait()
                    self._replace.clear()
                if last is not None:
                    await last.close()
                if self._killed:
                    break
                process = await self._spawn(birth)
            if process is not None:
                outcome = await self._live(process, birth)
            if outcome is Outcome.OVER:
                return
            if outcome is Outcome.REFUSED and (birth.forced or not birth.native):
                self._tell(StartFailed(self._refused))
                return
            last, process = process, None
            birth = self._next_birth(birth, outcome)
        self._tell(StartFailed("killed before it started"))

    def _first_birth(self) -> Birth | None:
        """None when it can't be as it was asked for."""
        native = forced = False
        if self._resume is not None:
            forced = self._resume.mode is ResumeMode.NATIVE
            known = self._take_over(self._resume.driver_state)
            if forced and not known:
                return None
            native = known and self._resume.mode is not ResumeMode.SEEDED
            if known:
                with suppress(OSError):
                    self._notebook.write(KEPT, self._resume.driver_state)
        return Birth(1, self._conversation, native, forced)

    def _next_birth(self, last: Birth, outcome: Outcome) -> Birth:
        # An agent that does not know the conversation any more begins a new one.
        native = outcome is Outcome.REPLACE
        replacement = last.replacement or native
        return Birth(last.serial + 1, self._conversation, native, last.forced, replacement)

    async def _adopt(self, birth: Birth) -> ShimProcess | None:
        """Take over the process that is there; None when the next is due: this one is told to be
        gone, or was to take that one's place, and is gone before anything was told of it.

        Raises ShimLostError, ShimFailedError.
        """
        self._conversation = birth.conversation
        over = self._stage is Stage.BETWEEN and birth.serial == self._serial
        try:
            process = await self._context.adopt()
        except ProcessError:
            if over or (birth.replacement and self._stage is not Stage.UP):
                return None
            raise
        if over:
            await process.close()
            return None
        if birth.serial != self._serial:
            self._stage, self._serial, self._pid = Stage.STARTING, birth.serial, process.pid
        process.acknowledge(self._places.acknowledge)
        return process

    def _gone_unseen(self, error: ProcessError) -> None:
        """The agent of an earlier process of the host is gone, and nobody knows how."""
        if self._stage is Stage.UP:
            self._turn = None
            self._tell(ProcessGone(self._pid, signal=signal.SIGKILL))
        else:
            self._tell(StartFailed(f"the agent was lost with its host: {error}"))

    def _take_over(self, state: bytes) -> bool:
        """What an earlier run kept becomes ours. False when there is nothing readable."""
        try:
            kept = json.loads(state)
            conversation, memory, always = kept["conversation"], kept["memory"], kept["always"]
            if kept["version"] != VERSION or not isinstance(conversation, str):
                return False
            self._memory = {str(name): str(value) for name, value in memory.items()}
            self._always = tuple(map(str, always))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return False
        self._conversation = conversation
        return True

    def _keep(self) -> None:
        kept = {
            "version": VERSION,
            "conversation": self._conversation,
            "memory": self._memory,
            "always": self._always,
        }
        state = json.dumps(kept).encode("ascii")
        if state != self._told:
            self._told = state
            with suppress(OSError):  # a successor has an older one
                self._notebook.write(KEPT, state)
            self._group.append(KeepState(state))

    async def _spawn(self, birth: Birth) -> ShimProcess | None:
        try:
            self._notebook.write(BIRTH, values.dump(birth).encode())
            process = await self._context.spawn(
                self._argv, directory=self._context.directory, environment={}
            )
        except (SpawnError, OSError) as error:
            self._refused = f"the agent could not be started: {error}"
            return None
        self._stage, self._serial, self._pid = Stage.STARTING, birth.serial, process.pid
        self._places, self._lines = Places(), Lines()
        return process

    async def _live(self, process: ShimProcess, birth: Birth) -> Outcome:
        """Read one process to its end."""
        self._process = process
        try:
            if self._killed:  # while it was being spawned, or taken over
                with suppress(ProcessError):
                    await process.stop(KILL_NOW)
            if self._stage is Stage.UP:
                await self._order_again()
            else:
                await self._greet(process, birth)
                again, self._again = self._again, None
                if again is not None:
                    self._orders.give(self._begin(*again))
            async for chunk in process.output():
                if (fresh := self._places.fresh(chunk)) is not None:
                    await self._outbox.room()
                    await self._printed(fresh, birth)
            return await self._gone(process, birth)
        except BaseException:
            await process.close()
            raise
        finally:
            self._up.clear()
            self._process = None

    async def _greet(self, process: ShimProcess, birth: Birth) -> None:
        if not process.written(HELLO):
            resume = {"conversation": self._conversation, "memory": self._memory}
            known = resume if birth.native else None
            with suppress(InputClosedError):
                await process.write(wire.line(HELLO, resume=known, always=self._always), HELLO)

    async def _order_again(self) -> None:
        """It is up: before anything is read of the turn that was ordered, if one was."""
        again, self._again = self._again, None
        self._up.set()
        if again is not None:
            await self._begin(*again)

    async def _gone(self, process: ShimProcess, birth: Birth) -> Outcome:
        """It has ended: close what is open, sweep up, tell it."""
        ready = self._stage is Stage.UP
        self._up.clear()  # what is sent from here on is for the next one
        self._ending = True
        status = process.exited
        code = status.code if status is not None else None
        signum = (status.signal if status is not None else None) or signal.SIGKILL
        kill = self._killed or self._stuck
        await process.stop(KILL_NOW if kill else Ladder(0, LEFT_GRACE))
        self._ending = False
        for rest in self._lines.end():
            self._said(rest, Mark(()), birth)
        self._asked = None
        turn = self._turn
        again = turn is not None and turn.interrupted and not self._killed
        if turn is not None and (again or self._killed or self._stopping):
            self._over(turn, StopReason.KILLED if self._killed else StopReason.INTERRUPTED)
        self._turn = None
        if not ready:
            if not self._refused:
                how = f"ended with {code}" if code is not None else f"died of signal {signum}"
                self._refused = f"the agent {how} before it was ready"
            return Outcome.REFUSED
        deliberate = (self._bye or self._stopping) and code is not None and not again
        self._stage = Stage.BETWEEN if again else Stage.UP
        # In one group with the turn's end: who goes on from there knows both or neither.
        self._tell(
            ProcessGone(
                pid=process.pid,
                exit_code=code,
                signal=signum if code is None else None,
                killed=again or (kill and code is None),
                deliberate=deliberate,
            )
        )
        return Outcome.REPLACE if again else Outcome.OVER

    # What the agent says.

    async def _printed(self, chunk: Chunk, birth: Birth) -> None:
        if chunk.stream is not Stream.STDOUT:
            self._places.took(chunk)
            if text := self._log.feed(chunk.data):
                self._group.append(Note(NoteKind.AGENT_LOG, text))
            self._tell()
            return
        mark = Mark(())
        said = self._lines.tail + chunk.data
        if OWN_TURN in said and (self._asked is None or b"null" in said):
            # Perhaps it begins a turn of its own, and then nothing may be waited for any more.
            mark = await self._mark_own()
        self._places.took(chunk)
        for line in self._lines.feed(chunk.data):
            self._said(line, mark, birth)
        self._tell()

    async def _mark_own(self) -> Mark:
        """What is alive before the next turn of the agent's own."""
        name = f"own-{self._own + 1}"
        if self._own_marked:
            # Of the first one we may be reading for the second time.
            self._own_marked = False
            if (marked := self._marked(name)) is not None:
                return marked
        mark, process = Mark(()), self._process
        if process is not None:
            with suppress(ProcessError):  # it is dying: its end is about to be read
                mark = await process.mark()
                self._write_mark(name, mark)
        return mark

    def _said(self, line: bytes | Overlong, mark: Mark, birth: Birth) -> None:
        """mark: what was alive before it."""
        if isinstance(line, Overlong):
            self._unparsed("it is too long", line.beginning, line.size)
            return
        try:
            said = wire.read(line)
        except wire.UnreadableError as error:
            self._unparsed(str(error), line, len(line))
            return
        turn = self._turn
        match said:
            case wire.Ready():
                self._ready(said, birth)
            case wire.Refused(message):
                self._refused = message
            case wire.Began(number):
                self._began(number, line, mark)
            case wire.Ended(reason, message):
                if turn is not None and turn.interrupted:
                    turn.end()
                elif turn is not None:
                    self._over(turn, reason, message)
            case wire.Memory():
                self._remember(said)
            case wire.Bye():
                self._bye = True
            case observations:
                # What belongs to no turn, or to one that is over, is left out.
                if turn is not None and not turn.ended.is_set():
                    self._group += observations

    def _ready(self, said: wire.Ready, birth: Birth) -> None:
        if self._stage is Stage.UP or self._process is None:
            return
        mode: ResumeMode | None = None
        lost: tuple[str, ...] = ()
        if said.resumed:
            mode = ResumeMode.NATIVE
        elif birth.replacement or self._resume is not None:
            mode, lost = ResumeMode.SEEDED, (_MEMORY_LOST,)
            self._conversation, self._memory = uuid.uuid4().hex, {}
        self._stuck = self._bye = False
        self._refused = ""
        self._stage = Stage.UP
        self._group.append(ProcessUp(self._pid, said.version, birth.replacement, mode, lost))
        if birth.replacement:
            text = "the agent did not give way to an interrupt; another has taken its place"
            self._group.append(Note(NoteKind.ESCALATED, text))
        self._keep()
        self._up.set()

    def _began(self, number: int | None, line: bytes, mark: Mark) -> None:
        asked = self._asked
        if self._turn is not None or self._process is None or self._stage is not Stage.UP:
            self._unparsed("no turn can begin now", line, len(line))
        elif number is None:
            self._own += 1
            self._open(Turn(None, mark, f"own-{self._own}"))
        elif asked is not None and asked.number == number:
            self._asked = None
            self._open(asked)
        else:
            self._unparsed("nobody asked for this turn", line, len(line))

    def _open(self, turn: Turn) -> None:
        self._turn = turn
        self._unreadable = 0
        if dropped := self._log.end():
            text = "the agent wrote more to its stderr than is kept"
            self._group.append(Note(NoteKind.TRUNCATED, text, dropped))
        self._group.append(TurnBegan(turn.number))

    def _over(self, turn: Turn, reason: StopReason, message: str = "") -> None:
        if self._turn is not turn or self._ending:
            return  # the agent has died meanwhile
        self._turn = None
        turn.end()
        if self._unreadable > UNREADABLE:
            text = f"{self._unreadable - UNREADABLE} more lines of this turn were unreadable"
            self._group.append(Note(NoteKind.UNPARSED, text))
        self._group.append(TurnOver(reason, message=message))

    def _remember(self, said: wire.Memory) -> None:
        if len(json.dumps([said.memory, said.always])) > MEMORY:
            text = "the agent wants more kept than is possible"
            self._group.append(Note(NoteKind.STATE_LOST, text))
            return
        self._memory, self._always = dict(said.memory), said.always
        self._keep()

    def _unparsed(self, why: str, line: bytes, size: int) -> None:
        self._unreadable += 1
        if self._unreadable <= UNREADABLE:
            shown = line[:SHOWN].decode("utf-8", "replace")
            self._group.append(Note(NoteKind.UNPARSED, f"{why}: {shown}", size))

    # Orders. Each reaches the agent once, whichever process of the host gave it.

    async def _say(self, kind: str, key: str, fields: Mapping[str, object]) -> None:
        process = self._process
        if process is not None and not process.written(key):
            with suppress(InputClosedError):
                await process.write(wire.line(kind, **fields), key)

    async def _order(
        self, turn: Turn | None, kind: str, key: str, fields: Mapping[str, object]
    ) -> None:
        """Something that belongs to the turn that is open."""
        await self._up.wait()
        if turn is not None and turn is self._turn:
            await self._say(kind, key, fields)

    async def _begin(self, number: int, content: Sequence[Content]) -> None:
        await self._up.wait()
        process, name = self._process, f"turn-{number}"
        if process is None or (self._turn is not None and self._turn.name == name):
            return
        marked = self._marked(name) if process.written(name) else None
        with suppress(ProcessError):  # it is dying: its end is about to be read
            mark = marked or await process.mark()
            self._asked = Turn(number, mark, name)
            if marked is None:
                self._write_mark(name, mark)
            await self._say("turn", name, {"turn": number, "content": wire.content_of(content)})

    async def _interrupt(self, turn: Turn, grace: float) -> None:
        await self._up.wait()
        process = self._process
        if turn is not self._turn or process is None:
            return  # it is over, or about to be
        # Beside this: an agent that does not read its input must not hold us up.
        self._orders.give(self._say("interrupt", f"interrupt-{turn.name}", {}))
        with suppress(ProcessError):  # it has died: its end is about to be read
            ended = await turn.ended_in_time()
            await self._end_tools(turn, process, grace, gently=ended)
            if not ended:
                turn.deadline = asyncio.get_running_loop().time() + LAST_MOMENT
                ended = await turn.ended_in_time()
            if ended and turn is self._turn and not self._ending:
                self._over(turn, StopReason.INTERRUPTED)
                self._tell()
            elif not ended:
                self._stuck = True
                await process.stop(KILL_NOW)

    async def _end_tools(
        self, turn: Turn, process: ShimProcess, grace: float, *, gently: bool
    ) -> None:
        left = turn.deadline - asyncio.get_running_loop().time()
        done = await process.interrupt(
            Mark(()) if turn.background else turn.mark,
            grace=max(LAST_MOMENT, left) if gently else 0.0,
        )
        if done.killed:
            names = ", ".join(info.command[:80] for info in done.killed[:8])
            text = f"killed after {grace:g} s without an answer to the interrupt: {names}"
            self._tell(Note(NoteKind.ESCALATED, text))

    async def _stop(self, grace: float) -> None:
        await self._up.wait()
        process = self._process
        if process is None:
            return
        await self._say("stop", "stop", {})
        with suppress(ProcessError):
            await process.close_stdin()
            try:
                async with asyncio.timeout(grace):
                    await process.wait()
            except TimeoutError:
                self._stuck = True
                await process.stop(KILL_NOW)

    async def _kill(self) -> None:
        if self._process is not None:
            with suppress(ProcessError):
                await self._process.stop(KILL_NOW)


def _page(turn: str) -> str:
    """A turn of the agent's own may come between one that is asked for and its begin."""
    return MARKED if turn.startswith("turn-") else f"{MARKED}-own"


def _digest(state: bytes) -> str:
    return hashlib.sha256(state).hexdigest()[:16] if state else ""
