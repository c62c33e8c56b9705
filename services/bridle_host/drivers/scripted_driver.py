"""One run of a scripted agent: from process to its successor, from turn to turn, orders beside it.

What the agent says is read by `scripted_wire`. Made by `bridle_host.drivers.scripted`, called by a
session actor.
"""

from __future__ import annotations

import asyncio
import json
import signal
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from enum import Enum

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
    TurnBegan,
    TurnOver,
)
from bridle_host.drivers import scripted_wire as wire
from bridle_host.drivers.base import Driver, DriverContext, ResumeFrom
from bridle_host.drivers.orders import Orders
from bridle_host.drivers.outbox import Outbox
from bridle_host.drivers.output import SHOWN, Lines, Log, Overlong
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

_MEMORY_LOST = "what the agent remembered"


class Outcome(Enum):
    """How one process's life went."""

    OVER = "the run is over"
    REPLACE = "it gave its life to end a turn"
    REFUSED = "it never was ready"


class ScriptedDriver(Driver):
    """See `Driver`. argv: the agent's command line."""

    def __init__(self, context: DriverContext, argv: tuple[str, ...]) -> None:
        self._context = context
        self._argv = argv
        self._outbox = Outbox()
        self._orders = Orders()
        self._start = asyncio.Event()
        self._resume: ResumeFrom | None = None
        self._conversation = uuid.uuid4().hex
        self._memory: dict[str, str] = {}
        self._always: tuple[str, ...] = ()
        self._process: ShimProcess | None = None
        self._up = asyncio.Event()
        #: The turn that was asked for and has not begun, and the one that is on.
        self._asked: Turn | None = None
        self._turn: Turn | None = None
        self._log = Log()
        self._unreadable = 0
        #: Why the agent is not up.
        self._refused = ""
        #: It said that it means to end; it had to be killed.
        self._bye = False
        self._stuck = False
        self._killed = False
        self._stopping = False

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
        self._orders.give(self._tell("steer", input=input_id, content=wire.content_of(content)))

    async def interrupt(self, *, grace: float, include_background: bool) -> None:
        self._orders.give(self._interrupt(grace, include_background))

    async def respond(self, approval_id: str, decision: Decision, message: str) -> None:
        fields = {"approval": approval_id, "decision": decision.value, "message": message}
        self._orders.give(self._tell("respond", **fields))

    async def stop(self, *, grace: float) -> None:
        self._stopping = True
        self._orders.give(self._stop(grace))

    async def kill(self) -> None:
        self._killed = True
        self._start.set()
        self._orders.give(self._kill())

    # One process after the other.

    async def _live_on(self) -> None:
        await self._start.wait()
        native = forced = False
        if self._resume is not None:
            forced = self._resume.mode is ResumeMode.NATIVE
            known = self._take_over(self._resume.driver_state)
            if forced and not known:
                await self._outbox.put(StartFailed("there is no conversation to take up again"))
                return
            native = known and self._resume.mode is not ResumeMode.SEEDED
        replacement = False
        while not self._killed:
            outcome = await self._live(native, replacement)
            if outcome is Outcome.OVER:
                return
            if outcome is Outcome.REFUSED and (forced or not native):
                await self._outbox.put(StartFailed(self._refused))
                return
            # An agent that does not know the conversation any more begins a new one.
            native = outcome is Outcome.REPLACE
            replacement = replacement or native
        if not replacement:
            await self._outbox.put(StartFailed("killed before it started"))

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

    async def _keep(self) -> None:
        state = {
            "version": VERSION,
            "conversation": self._conversation,
            "memory": self._memory,
            "always": self._always,
        }
        await self._outbox.put(KeepState(json.dumps(state).encode("ascii")))

    async def _live(self, native: bool, replacement: bool) -> Outcome:
        """Bring one process up and read it to its end."""
        try:
            process = await self._context.spawn(
                self._argv, directory=self._context.directory, environment={}
            )
        except SpawnError as error:
            self._refused = f"the agent could not be started: {error}"
            return Outcome.REFUSED
        self._process = process
        lines = Lines()
        try:
            if self._killed:  # while it was being spawned
                await process.stop(KILL_NOW)
            resume = {"conversation": self._conversation, "memory": self._memory}
            hello = wire.line("hello", resume=resume if native else None, always=self._always)
            with suppress(InputClosedError):
                await process.write(hello)
            async for chunk in process.output():
                await self._printed(chunk, lines, replacement)
            for rest in lines.end():
                await self._said(rest, replacement)
            return await self._gone(process)
        finally:
            self._up.clear()
            self._process = None
            await process.close()

    async def _gone(self, process: ShimProcess) -> Outcome:
        """It has ended: close what is open, sweep up, tell it."""
        ready = self._up.is_set()
        self._up.clear()  # what is sent from here on is for the next one
        status = process.exited
        code = status.code if status is not None else None
        signum = (status.signal if status is not None else None) or signal.SIGKILL
        self._asked = None
        turn = self._turn
        again = turn is not None and turn.interrupted and not self._killed
        if turn is not None and (again or self._killed or self._stopping):
            killed = self._killed
            await self._over(turn, StopReason.KILLED if killed else StopReason.INTERRUPTED)
        elif turn is not None:
            self._turn = None
        kill = self._killed or self._stuck
        await process.stop(KILL_NOW if kill else Ladder(0, LEFT_GRACE))
        if not ready:
            if not self._refused:
                how = f"ended with {code}" if code is not None else f"died of signal {signum}"
                self._refused = f"the agent {how} before it was ready"
            return Outcome.REFUSED
        deliberate = (self._bye or self._stopping) and code is not None and not again
        await self._outbox.put(
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

    async def _printed(self, chunk: Chunk, lines: Lines, replacement: bool) -> None:
        if chunk.stream is Stream.STDOUT:
            for said in lines.feed(chunk.data):
                await self._said(said, replacement)
        elif text := self._log.feed(chunk.data):
            await self._outbox.put(Note(NoteKind.AGENT_LOG, text))

    async def _said(self, line: bytes | Overlong, replacement: bool) -> None:
        if isinstance(line, Overlong):
            await self._unparsed("it is too long", line.beginning, line.size)
            return
        try:
            said = wire.read(line)
        except wire.UnreadableError as error:
            await self._unparsed(str(error), line, len(line))
            return
        turn = self._turn
        match said:
            case wire.Ready():
                await self._ready(said, replacement)
            case wire.Refused(message):
                self._refused = message
            case wire.Began(number):
                await self._began(number, line)
            case wire.Ended(reason, message):
                if turn is not None and turn.interrupted:
                    turn.end()
                elif turn is not None:
                    await self._over(turn, reason, message)
            case wire.Memory():
                await self._remember(said)
            case wire.Bye():
                self._bye = True
            case observations:
                # What belongs to no turn, or to one that is over, is left out.
                if turn is not None and not turn.ended.is_set():
                    for observation in observations:
                        await self._outbox.put(observation)

    async def _ready(self, said: wire.Ready, replacement: bool) -> None:
        if self._up.is_set() or self._process is None:
            return
        mode: ResumeMode | None = None
        lost: tuple[str, ...] = ()
        if said.resumed:
            mode = ResumeMode.NATIVE
        elif replacement or self._resume is not None:
            mode, lost = ResumeMode.SEEDED, (_MEMORY_LOST,)
            self._conversation, self._memory = uuid.uuid4().hex, {}
        self._stuck = self._bye = False
        self._refused = ""
        pid = self._process.pid
        await self._outbox.put(ProcessUp(pid, said.version, replacement, mode, lost))
        if replacement:
            text = "the agent did not give way to an interrupt; another has taken its place"
            await self._outbox.put(Note(NoteKind.ESCALATED, text))
        await self._keep()
        self._up.set()

    async def _began(self, number: int | None, line: bytes) -> None:
        asked = self._asked
        if self._turn is not None or self._process is None or not self._up.is_set():
            await self._unparsed("no turn can begin now", line, len(line))
        elif number is None:
            with suppress(ProcessError):
                await self._open(Turn(None, await self._process.mark()))
        elif asked is not None and asked.number == number:
            self._asked = None
            await self._open(asked)
        else:
            await self._unparsed("nobody asked for this turn", line, len(line))

    async def _open(self, turn: Turn) -> None:
        self._turn = turn
        self._unreadable = 0
        if dropped := self._log.end():
            text = "the agent wrote more to its stderr than is kept"
            await self._outbox.put(Note(NoteKind.TRUNCATED, text, dropped))
        await self._outbox.put(TurnBegan(turn.number))

    async def _over(self, turn: Turn, reason: StopReason, message: str = "") -> None:
        if self._turn is not turn:
            return  # the agent has died meanwhile
        self._turn = None
        turn.end()
        if self._unreadable > UNREADABLE:
            text = f"{self._unreadable - UNREADABLE} more lines of this turn were unreadable"
            await self._outbox.put(Note(NoteKind.UNPARSED, text))
        await self._outbox.put(TurnOver(reason, message=message))

    async def _remember(self, said: wire.Memory) -> None:
        if len(json.dumps([said.memory, said.always])) > MEMORY:
            text = "the agent wants more kept than is possible"
            await self._outbox.put(Note(NoteKind.STATE_LOST, text))
            return
        self._memory, self._always = dict(said.memory), said.always
        await self._keep()

    async def _unparsed(self, why: str, line: bytes, size: int) -> None:
        self._unreadable += 1
        if self._unreadable <= UNREADABLE:
            shown = line[:SHOWN].decode("utf-8", "replace")
            await self._outbox.put(Note(NoteKind.UNPARSED, f"{why}: {shown}", size))

    # Orders.

    async def _tell(self, kind: str, **fields: object) -> None:
        if self._process is not None:
            with suppress(InputClosedError):
                await self._process.write(wire.line(kind, **fields))

    async def _begin(self, number: int, content: Sequence[Content]) -> None:
        await self._up.wait()
        if self._process is None:
            return
        with suppress(ProcessError):  # it is dying: its end is about to be read
            self._asked = Turn(number, await self._process.mark())
            await self._tell("turn", turn=number, content=wire.content_of(content))

    async def _interrupt(self, grace: float, include_background: bool) -> None:
        turn, process = self._turn, self._process
        if turn is None or process is None:
            return  # it is over, or about to be
        first = not turn.interrupted
        turn.interrupt(asyncio.get_running_loop().time() + grace, include_background)
        if not first:
            return
        # Beside this: an agent that does not read its input must not hold us up.
        self._orders.give(self._tell("interrupt"))
        with suppress(ProcessError):  # it has died: its end is about to be read
            ended = await turn.ended_in_time()
            await self._end_tools(turn, process, grace, gently=ended)
            if not ended:
                turn.deadline = asyncio.get_running_loop().time() + LAST_MOMENT
                ended = await turn.ended_in_time()
            if ended:
                await self._over(turn, StopReason.INTERRUPTED)
            else:
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
            await self._outbox.put(Note(NoteKind.ESCALATED, text))

    async def _stop(self, grace: float) -> None:
        await self._up.wait()
        process = self._process
        if process is None:
            return
        await self._tell("stop")
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
