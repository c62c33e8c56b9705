"""The driver of every agent that speaks in lines: one run, from process to its successor.

What the lines mean is the business of a dialect (see `dialect`); everything else is done here, once
for all of them. A kind of agent is a subpackage of `bridle_host.drivers` with a dialect and a
factory, which `registry.factories` lists:

    class ExampleFactory:                                   # a `DriverFactory`
        name = "example"
        capabilities = frozenset({Capability.NATIVE_RESUME})

        def probe(self) -> Installation: ...

        def create(self, context: DriverContext) -> Driver:
            launch = launch_of(context.agent_command)       # raises ValueError, for people
            return LineDriver(context, partial(ExampleDialect, launch))    # a `Speaks`

Made by factories, called by a session actor. The parts: `course` is what was told and where that
leaves the driver, `births` brings processes up, `hearing` reads them, `interrupts` ends turns.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from enum import Enum

from bridle_core.observations import (
    Content,
    Decision,
    Observation,
    ProcessGone,
    StartFailed,
    StopReason,
    Text,
)
from bridle_host.drivers.base import Driver, DriverContext, ResumeFrom
from bridle_host.drivers.lines import interrupts
from bridle_host.drivers.lines.births import Births, Born, NoConversationError
from bridle_host.drivers.lines.course import Course
from bridle_host.drivers.lines.dialect import Order, Speaks
from bridle_host.drivers.lines.hearing import Hearing
from bridle_host.drivers.lines.standing import FIRST, Birth, Stage, Standing
from bridle_host.drivers.lines.turn import Turn
from bridle_host.drivers.orders import Orders, Work
from bridle_host.process import KILL_NOW, Ladder, ProcessError, ShimProcess

#: What an agent that ended leaves behind has this long after a SIGTERM, in seconds.
LEFT_GRACE = 1.0

#: How much of the grace of a stop an agent has to end by itself. In the rest it has had a SIGTERM:
#: some don't take the end of their input for an end, and put their things in order at that.
ASKED = 0.7

#: Around what was said so far, before the first input of an agent that was not there.
SEED = (
    "This conversation was begun by an agent that is no longer there; you go on with it in its"
    " place. What was said so far stands between the two lines, for you to know and not to answer;"
    " behind them stands what you are asked now.\n"
    "---------- said so far ----------\n{}\n---------- end of what was said so far ----------\n"
)


class Outcome(Enum):
    """How one process's life went."""

    OVER = "the run is over"
    REPLACE = "it gave its life to end a turn"
    REFUSED = "it never was ready"


class LineDriver(Driver):
    """See `Driver`. speaks: makes the dialect of each process.

    prepare: what has to be done before the first is made, and takes long; off the loop.
    """

    def __init__(
        self, context: DriverContext, speaks: Speaks, prepare: Callable[[], object] | None = None
    ) -> None:
        self._prepare = prepare
        self._course = Course(context)
        self._births = Births(self._course, speaks)
        self._orders = Orders()
        self._start = asyncio.Event()
        self._replace = asyncio.Event()
        #: Whether an earlier process of the host began the run, and where that stood.
        self._recovering = False
        self._standing = Standing()
        #: What was ordered again before the agent was taken over.
        self._again: list[Work] = []
        self._born: Born | None = None
        #: Whoever has it gives a turn to the agent.
        self._giving = asyncio.Lock()

    # --- The driver's interface ---

    async def run(self) -> None:
        try:
            await self._orders.run(self._live_on())
        finally:
            for never_given in self._again:
                never_given.close()
            self._course.outbox.close()

    def observations(self) -> AsyncIterator[Sequence[Observation]]:
        return self._course.outbox

    async def start(self, resume: ResumeFrom | None) -> None:
        self._births.resume = resume
        self._start.set()

    async def recover(self, state: bytes, resume: ResumeFrom | None) -> None:
        self._births.resume, self._recovering = resume, True
        self._standing = Standing.load(state)
        self._course.stand(self._standing)

    async def read_on(self) -> None:
        self._start.set()

    async def replace(self) -> None:
        self._replace.set()

    async def send(self, turn: int, content: Sequence[Content]) -> None:
        self._give(self._begin(turn, content))

    async def steer(self, input_id: str, content: Sequence[Content]) -> None:
        self._give(self._steer(self._course.turn, input_id, content))

    async def interrupt(self, *, grace: float, include_background: bool) -> None:
        turn = self._course.turn
        if turn is None:
            self._give(self._interrupt_unbegun(grace, include_background))
            return
        first = not turn.interrupted
        more = include_background and not turn.background
        turn.interrupt(self._course.now() + grace, include_background)
        if first or more:
            self._give(self._interrupt(turn, grace, include_background, first))

    async def respond(self, approval_id: str, decision: Decision, message: str) -> None:
        self._give(self._respond(self._course.turn, approval_id, decision, message))

    async def stop(self, *, grace: float) -> None:
        self._course.stopping = True
        self._orders.give(self._stop(grace))

    async def kill(self) -> None:
        self._course.killed = True
        self._start.set()
        self._replace.set()
        self._orders.give(self._kill())

    def _give(self, work: Work) -> None:
        """What is ordered again has to come before what the agent answered to it is read."""
        if self._recovering and not self._start.is_set():
            self._again.append(work)
        else:
            self._orders.give(work)

    # --- One process after the other ---

    async def _live_on(self) -> None:
        await self._start.wait()
        if self._prepare is not None:
            await asyncio.to_thread(self._prepare)
        course, births = self._course, self._births
        birth = births.recorded() if self._recovering else None
        born: Born | None = None
        try:
            if birth is None:
                birth = births.first()
            else:
                born = await births.adopt(birth, self._standing)
                if born is None:
                    told = birth.serial == course.serial and course.stage is Stage.BETWEEN
                    anew = replace(birth, serial=birth.serial + 1)
                    birth = births.following(birth, replaces=True) if told else anew
                    course.stage = Stage.BETWEEN
        except NoConversationError as error:
            course.tell(StartFailed(str(error)))
            return
        except ProcessError as error:
            self._gone_unseen(error)
            return
        await self._succeed(birth, born)

    async def _succeed(self, birth: Birth, born: Born | None) -> None:
        """From the process that is there, or is to be spawned, to the run's end."""
        course = self._course
        last: ShimProcess | None = None
        while True:
            outcome = Outcome.REFUSED
            if born is None:
                if course.stage is Stage.BETWEEN:
                    await self._replace.wait()
                    self._replace.clear()
                if last is not None:
                    await last.close()
                if course.killed:
                    course.tell(StartFailed("killed before it started"))
                    return
                born = await self._births.spawn(birth)
            if born is not None:
                last = born.process
                outcome = await self._live(born)
            if outcome is Outcome.OVER:
                return
            if outcome is Outcome.REFUSED and (birth.forced or not birth.native):
                course.tell(StartFailed(course.refused))
                return
            born = None
            birth = self._births.following(birth, replaces=outcome is Outcome.REPLACE)

    def _gone_unseen(self, error: ProcessError) -> None:
        """The agent of an earlier process of the host is gone, and nobody knows how."""
        course = self._course
        if course.stage is Stage.UP:
            course.turn = None
            course.tell(ProcessGone(course.pid, signal=signal.SIGKILL))
        else:
            course.tell(StartFailed(f"the agent was lost with its host: {error}"))

    async def _live(self, born: Born) -> Outcome:
        """Read one process to its end."""
        course, process = self._course, born.process
        course.process, self._born = process, born
        hearing = Hearing(
            course,
            born.dialect,
            born.birth,
            born.provision,
            resumed=self._births.resume is not None,
            recovered=born.adopted,
        )
        try:
            if course.killed:  # while it was being spawned, or taken over
                with suppress(ProcessError):
                    await process.stop(KILL_NOW)
            self._orders.give(self._end_refused(process))
            await self._order_again(born)
            async for chunk in process.output():
                if (fresh := course.places.fresh(chunk)) is not None:
                    await hearing.printed(fresh)
            return await self._gone(process, hearing)
        except BaseException:
            await process.close()
            raise
        finally:
            course.up.clear()
            course.process = self._born = None

    async def _order_again(self, born: Born) -> None:
        """Before anything is read: what was ordered, if it was, and may not have arrived."""
        again, self._again = self._again, []
        if self._course.stage is not Stage.UP:
            self._course.order(born.dialect.greet())
            for work in again:
                self._orders.give(work)
            return
        self._course.up.set()
        for work in again:
            await work

    async def _end_refused(self, process: ShimProcess) -> None:
        """An agent that said that it won't come up need not end by itself."""
        await self._course.gave_up.wait()
        if process is self._course.process and self._course.stage is not Stage.UP:
            with suppress(ProcessError):
                await process.stop(Ladder(0, LEFT_GRACE))

    async def _gone(self, process: ShimProcess, hearing: Hearing) -> Outcome:
        """It has ended: close what is open, sweep up, tell it."""
        course = self._course
        ready = course.stage is Stage.UP
        course.up.clear()  # what is sent from here on is for the next one
        course.ending = True
        status = process.exited
        code = status.code if status is not None else None
        signum = (status.signal if status is not None else None) or signal.SIGKILL
        kill = course.killed or course.stuck
        await process.stop(KILL_NOW if kill else Ladder(0, LEFT_GRACE))
        course.ending = False
        hearing.end()
        course.asked = None
        turn = course.turn
        again = turn is not None and turn.interrupted and not course.killed
        if turn is not None and (again or course.killed or course.stopping):
            course.over(turn, StopReason.KILLED if course.killed else StopReason.INTERRUPTED)
        course.turn = None
        if not ready:
            if not course.refused:
                how = f"ended with {code}" if code is not None else f"died of signal {signum}"
                why = f": {hearing.last_words}" if hearing.last_words else ""
                course.refused = f"the agent {how} before it was ready{why}"
            return Outcome.REFUSED
        deliberate = (course.bye or course.stopping) and code is not None and not again
        course.stage = Stage.BETWEEN if again else Stage.UP
        # In one group with the turn's end: who goes on from there knows both or neither.
        course.tell(
            ProcessGone(
                pid=process.pid,
                exit_code=code,
                signal=signum if code is None else None,
                killed=again or (kill and code is None),
                deliberate=deliberate,
            )
        )
        return Outcome.REPLACE if again else Outcome.OVER

    # --- Orders ---

    async def _begin(self, number: int, content: Sequence[Content]) -> None:
        async with self._giving:
            await self._course.up.wait()
            name = f"turn-{number}"
            born, turn = self._born, self._course.turn
            if born is not None and (turn is None or turn.name != name):
                with suppress(ProcessError):  # it is dying: its end is about to be read
                    await self._begin_in(born, number, name, content)

    async def _begin_in(
        self, born: Born, number: int, name: str, content: Sequence[Content]
    ) -> None:
        """Raises ProcessError."""
        course = self._course
        said = tuple(born.dialect.begin(number, self._seeded(name, content, born)))
        orders = [one for one in said if isinstance(one, Order)]
        given = any(born.process.written(order.key) for order in orders)
        mark = course.marked(name) if given else None
        course.asked = Turn(number, mark or await course.mark(name, born.process), name)
        course.order(orders)
        if len(orders) < len(said) and course.begin_asked(number):
            course.tell()

    def _seeded(self, name: str, content: Sequence[Content], born: Born) -> Sequence[Content]:
        """The first input of an agent that knows nothing comes behind what was said so far."""
        course = self._course
        if course.seeded == FIRST:
            course.seeded = name
        if not course.seeded or course.seeded != name:
            return content
        return (Text(SEED.format(born.provision.transcript)), *content)

    async def _steer(self, turn: Turn | None, input_id: str, content: Sequence[Content]) -> None:
        await self._course.up.wait()
        if turn is not None and turn is self._course.turn and self._born is not None:
            self._course.order(self._born.dialect.steer(turn.name, input_id, content))

    async def _respond(
        self, turn: Turn | None, approval_id: str, decision: Decision, message: str
    ) -> None:
        await self._course.up.wait()
        if turn is not None and turn is self._course.turn and self._born is not None:
            dialect = self._born.dialect
            self._course.order(dialect.respond(turn.name, approval_id, decision, message))

    async def _interrupt(self, turn: Turn, grace: float, background: bool, first: bool) -> None:
        await self._course.up.wait()
        if turn is not self._course.turn or self._born is None:
            turn.settled.set()
            return  # it is over, or about to be
        dialect = self._born.dialect
        self._course.order(dialect.interrupt(turn.name, include_background=background))
        if first:
            self._orders.give(interrupts.carry_out(self._course, turn, grace))

    async def _interrupt_unbegun(self, grace: float, background: bool) -> None:
        """The agent has not confirmed the turn that it was sent; if there is none, it is over."""
        course = self._course
        async with self._giving:
            asked = course.asked
        if asked is None or asked.number is None:
            return
        if course.begin_asked(asked.number, confirmed=False):
            asked.interrupt(course.now() + grace, background)
            course.tell()
            await self._interrupt(asked, grace, background, True)

    async def _stop(self, grace: float) -> None:
        course = self._course
        await course.up.wait()
        process, born = course.process, self._born
        if process is None or born is None:
            return
        course.order(born.dialect.stop())
        with suppress(ProcessError):
            await process.close_stdin()
            try:
                async with asyncio.timeout(grace * ASKED):
                    await process.wait()
            except TimeoutError:
                course.stuck = True
                await process.stop(Ladder(0, grace * (1 - ASKED)))

    async def _kill(self) -> None:
        if self._course.process is not None:
            with suppress(ProcessError):
                await self._course.process.stop(KILL_NOW)
