"""The course of a run: what was told of it, where that leaves its driver, and what goes on in it.

State that the parts of a `LineDriver` share, and the telling. What is told is told in groups, each
of which ends with where the driver stands after it. So nothing is awaited between what changes that
and `tell`. Used by `LineDriver` only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from bridle_core import values
from bridle_core.observations import (
    Checkpoint,
    KeepState,
    Note,
    NoteKind,
    Observation,
    StopReason,
    TurnBegan,
    TurnOver,
)
from bridle_host.drivers.base import DriverContext
from bridle_host.drivers.lines.dialect import LONGEST_LINE, Dialect, Order
from bridle_host.drivers.lines.standing import KEPT, Marked, Stage, Standing, digest, page_of
from bridle_host.drivers.lines.turn import Turn
from bridle_host.drivers.notebook import Notebook
from bridle_host.drivers.outbox import Outbox
from bridle_host.drivers.output import SHOWN, Lines, Log
from bridle_host.drivers.places import Places
from bridle_host.process import InputClosedError, Mark, ShimProcess, Stream

#: Notes of unreadable lines in one turn; an agent that lost its way says a million of them.
UNREADABLE = 32


class Course:
    """See the module."""

    def __init__(self, context: DriverContext) -> None:
        self.context = context
        self.notebook = Notebook(context.state_directory)
        self.outbox = Outbox()
        #: The process that lives, what it speaks, and whether turns can be given to it.
        self.process: ShimProcess | None = None
        self.dialect: Dialect | None = None
        self.up = asyncio.Event()
        self.stage = Stage.STARTING
        self.serial = 0
        self.pid = 0
        #: The turn that was asked for and has not begun, and the one that is on.
        self.asked: Turn | None = None
        self.turn: Turn | None = None
        self.own = 0
        #: The turn that was asked for and has begun, while one of the agent's own that was
        #: interrupted before it is not told to be over; 0 for none.
        self.begun = 0
        self.places = Places()
        self.lines = Lines()
        self.log = Log()
        self.unreadable = 0
        #: When the agent last said something, on the loop's clock.
        self.spoke = 0.0
        #: Why the agent is not up; that it said so by itself.
        self.refused = ""
        self.gave_up = asyncio.Event()
        #: It said that it means to end; it had to be killed; its end is being told.
        self.bye = False
        self.stuck = False
        self.ending = False
        #: The run is to end.
        self.killed = False
        self.stopping = False
        #: The newest state that was told to be kept in this run.
        self.kept = b""
        self.seeded = ""
        #: What is being told.
        self.group: list[Observation] = []

    @staticmethod
    def now() -> float:
        """On the loop's clock."""
        return asyncio.get_running_loop().time()

    # --- Telling ---

    def tell(self, *observations: Observation) -> None:
        """End the group: with these, and with where the driver stands now."""
        group = (*self.group, *observations, self._checkpoint())
        self.group.clear()
        self.outbox.add(*group)

    def _checkpoint(self) -> Checkpoint:
        turn, places = self.turn, self.places
        places.keep(Stream.STDOUT, self.lines.held)
        places.keep(Stream.STDERR, 0)
        standing = Standing(
            stage=self.stage,
            serial=self.serial,
            pid=self.pid,
            end=places.end,
            behind=tuple(places.behind.items()),
            turn=turn.name if turn is not None else "",
            ended=turn is not None and turn.ended.is_set(),
            own=self.own,
            begun=self.begun,
            overlong=self.lines.overlong,
            log=self.log.standing,
            unreadable=self.unreadable,
            refused=self.refused[:SHOWN],
            bye=self.bye,
            kept=digest(self.kept),
            seeded=self.seeded,
            dialect=self.dialect.standing() if self.dialect is not None else b"",
        )
        return Checkpoint(standing.dump(), places.acknowledge)

    def stand(self, standing: Standing) -> None:
        """Where an earlier driver stood is where we stand."""
        self.stage, self.serial, self.pid = standing.stage, standing.serial, standing.pid
        self.places = Places(standing.end, dict(standing.behind))
        self.lines = Lines(overlong=standing.overlong)
        self.log = Log(*standing.log)
        self.own, self.unreadable = standing.own, standing.unreadable
        self.begun = standing.begun
        self.refused, self.bye = standing.refused, standing.bye
        self.seeded = standing.seeded
        if self.refused:
            self.gave_up.set()
        kept = self.notebook.read(KEPT)
        if digest(kept) == standing.kept:
            self.kept = kept
        if standing.turn:
            number = standing.turn.removeprefix("turn-")
            mark = self.marked(standing.turn) or Mark(())
            turn = Turn(int(number) if number.isdecimal() else None, mark, standing.turn)
            if standing.ended:
                turn.end()
            self.turn = turn

    def speak(self, dialect: Dialect) -> None:
        """From here on this is what the process speaks."""
        self.dialect = dialect
        limit = min(dialect.line_limit, LONGEST_LINE)
        self.lines = Lines(limit, self.lines.overlong)

    def forget_output(self) -> None:
        """Another process begins: its output is not the last one's."""
        self.places, self.lines = Places(), Lines()

    def reborn(self, serial: int, pid: int) -> None:
        """Of this process nothing was told yet."""
        self.stage, self.serial, self.pid = Stage.STARTING, serial, pid
        self.seeded = ""
        self.gave_up.clear()

    # --- What is alive before a turn ---

    def marked(self, name: str) -> Mark | None:
        """What was alive before a turn, as it was written down; None where it wasn't."""
        page = self.notebook.read(page_of(name))
        marked = values.load(Marked, page) if page else None
        return Mark(marked.processes) if marked is not None and marked.turn == name else None

    async def mark(self, name: str, process: ShimProcess) -> Mark:
        """Look, and write it down. Raises ProcessError."""
        mark = await process.mark()
        with suppress(OSError):  # a successor would take the turn's children for older ones
            page = values.dump(Marked(name, mark.processes)).encode()
            self.notebook.write(page_of(name), page)
        return mark

    # --- Orders ---

    def order(self, orders: Iterable[Order]) -> None:
        """Each reaches the agent once, whichever process of the host gave it.

        At once, and before what they came from is told: a successor that goes on behind that must
        not have to give them.
        """
        for order in orders:
            process = self.process
            if process is not None and not process.written(order.key):
                with suppress(InputClosedError):
                    process.post(order.data, order.key)

    # --- What goes into the group ---

    def open(self, turn: Turn, *, confirmed: bool = True) -> None:
        self.turn = turn
        self.unreadable = 0
        if dropped := self.log.end():
            text = "the agent wrote more to its stderr than is kept"
            self.group.append(Note(NoteKind.TRUNCATED, text, dropped))
        self.group.append(TurnBegan(turn.number, confirmed))

    def begin_asked(self, number: int, *, confirmed: bool = True) -> bool:
        """The turn that was asked for begins. False where it isn't this, or can't begin now."""
        asked = self.asked
        up = self.process is not None and self.stage is Stage.UP and not self.ending
        if asked is None or asked.number != number or self.turn is not None or not up:
            return False
        self.asked = None
        self.open(asked, confirmed=confirmed)
        return True

    @property
    def may_wait(self) -> bool:
        """Whether the next turn may begin before the one that is on is told to be over."""
        turn = self.turn
        return self.asked is not None and turn is not None and turn.interrupted

    def begin_next(self, number: int) -> bool:
        """The turn that was asked for begins behind an interrupted one of the agent's own, which
        the agent has thereby ended: it is told as soon as that is over. False where it isn't so."""
        if not self.may_wait or self.asked is None or self.asked.number != number:
            return False
        assert self.turn is not None
        if self.turn.number is not None:
            return False
        self.begun = number
        self.turn.end()
        return True

    def over(
        self,
        turn: Turn,
        reason: StopReason,
        message: str = "",
        exit_code: int | None = None,
    ) -> None:
        if self.turn is not turn or self.ending:
            return  # the agent has died meanwhile
        self.turn = None
        turn.end()
        turn.settled.set()
        if self.unreadable > UNREADABLE:
            text = f"{self.unreadable - UNREADABLE} more lines of this turn were unreadable"
            self.group.append(Note(NoteKind.UNPARSED, text))
        self.group.append(TurnOver(reason, exit_code=exit_code, message=message))
        begun, self.begun = self.begun, 0
        if begun:
            self.begin_asked(begun)

    def unparsed(self, why: str, line: bytes, size: int) -> None:
        self.unreadable += 1
        if self.unreadable <= UNREADABLE:
            shown = line[:SHOWN].decode("utf-8", "replace")
            self.group.append(Note(NoteKind.UNPARSED, f"{why}: {shown}", size))

    def keep(self, kept: KeepState) -> None:
        if kept.state == self.kept:
            return
        self.kept = kept.state
        with suppress(OSError):  # a successor has an older one
            self.notebook.write(KEPT, kept.state)
        self.group.append(kept)

    async def settle(self) -> None:
        """Wait until a turn that the agent has ended is over: what it left behind is gone."""
        turn = self.turn
        if turn is not None and turn.ended.is_set():
            await turn.settled.wait()
