"""The processes of a run, one after the other: how each begins. Used by `LineDriver` only."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from bridle_core import values
from bridle_core.observations import ResumeMode
from bridle_core.transcript import Transcript
from bridle_host.drivers.base import ResumeFrom
from bridle_host.drivers.lines.course import Course
from bridle_host.drivers.lines.dialect import Beginning, Dialect, Speaks
from bridle_host.drivers.lines.locks import lock_of
from bridle_host.drivers.lines.standing import (
    BIRTH,
    KEPT,
    PROVISION,
    Birth,
    Provision,
    Stage,
    Standing,
)
from bridle_host.drivers.output import SHOWN
from bridle_host.process import HeldError, ProcessError, ShimProcess, SpawnError


class NoConversationError(Exception):
    """The native way was asked for, and there is nothing to take up."""


@dataclass(frozen=True, slots=True)
class Born:
    """A process of the agent and what it speaks. adopted: it was there before this driver."""

    birth: Birth
    provision: Provision
    process: ShimProcess
    dialect: Dialect
    adopted: bool = False


class Births:
    """Brings the run's processes up, or takes the one over that is there."""

    def __init__(self, course: Course, speaks: Speaks) -> None:
        self._course = course
        self._context = course.context
        self._speaks = speaks
        self.resume: ResumeFrom | None = None

    def first(self) -> Birth:
        """Raises NoConversationError."""
        native = forced = False
        if self.resume is not None:
            kept = self.resume.driver_state
            forced = self.resume.mode is ResumeMode.NATIVE
            if forced and not kept:
                raise NoConversationError("there is no conversation to take up again")
            native = bool(kept) and self.resume.mode is not ResumeMode.SEEDED
            if kept:
                with suppress(OSError):
                    self._course.notebook.write(KEPT, kept)
        return Birth(1, native, forced)

    def following(self, last: Birth, *, replaces: bool) -> Birth:
        """replaces: `last` was killed to end a turn; else it would not come up, and if that was
        because it does not know the conversation any more, the next begins a new one.
        """
        native = replaces and bool(self._course.notebook.read(KEPT))
        return Birth(last.serial + 1, native, last.forced, last.replacement or replaces)

    def recorded(self) -> Birth | None:
        """The last one that an earlier process of the host was about to spawn."""
        page = self._course.notebook.read(BIRTH)
        return values.load(Birth, page) if page else None

    async def spawn(self, birth: Birth) -> Born | None:
        """None where it can't be; `course.refused` says why."""
        course = self._course
        provision = self._provide(birth)
        try:
            dialect, provision = self._dialect(birth, provision)
            launch = dialect.launch()
        except ValueError as error:
            course.refused = str(error)
            return None
        try:
            course.notebook.write(PROVISION, values.dump(provision).encode())
            course.notebook.write(BIRTH, values.dump(birth).encode())
            process = await self._context.spawn(
                launch.argv,
                directory=self._context.directory,
                environment=launch.environment,
                # Before there is an agent that could write to it.
                holds=lock_of(self._context.locks, dialect.conversation),
            )
        except HeldError:
            course.refused = "another process holds this conversation"
            return None
        except (SpawnError, OSError) as error:
            course.refused = f"the agent could not be started: {error}"
            return None
        course.forget_output()
        course.reborn(birth.serial, process.pid)
        course.speak(dialect)
        return Born(birth, provision, process, dialect)

    async def adopt(self, birth: Birth, standing: Standing) -> Born | None:
        """Take over the process that is there; None when the next is due: this one is told to be
        gone, or was to take that one's place, and is gone before anything was told of it.

        Raises ShimLostError, ShimFailedError; ProcessError where its standing can't be read.
        """
        course = self._course
        over = course.stage is Stage.BETWEEN and birth.serial == course.serial
        try:
            process = await self._context.adopt()
        except ProcessError:
            if over or (birth.replacement and course.stage is not Stage.UP):
                return None
            raise
        if over:
            await process.close()
            return None
        page = course.notebook.read(PROVISION)
        provision = values.load(Provision, page) if page else Provision(birth.serial)
        if provision.serial != birth.serial:
            provision = Provision(birth.serial)
        told = birth.serial == course.serial
        if not told:
            course.reborn(birth.serial, process.pid)
        try:
            dialect, _ = self._dialect(birth, provision, standing.dialect if told else b"")
        except ValueError as error:
            await process.close()
            raise ProcessError(str(error)) from None
        course.speak(dialect)
        process.acknowledge(course.places.acknowledge)
        return Born(birth, provision, process, dialect, adopted=True)

    def _provide(self, birth: Birth) -> Provision:
        kept = self._course.notebook.read(KEPT)
        told = Transcript()
        if birth.replacement:
            told = self._context.transcript()
        elif self.resume is not None:
            told = Transcript(self.resume.transcript, self.resume.left_out)
        declined = self._course.refused[:SHOWN]
        return Provision(birth.serial, kept, told.text, told.left_out, declined)

    def _dialect(
        self, birth: Birth, provision: Provision, standing: bytes | None = None
    ) -> tuple[Dialect, Provision]:
        """Raises ValueError."""
        context = self._context
        beginning = Beginning(
            session_id=context.session_id,
            run=context.run,
            serial=birth.serial,
            directory=context.directory,
            environment=context.environment,
            native=birth.native,
            kept=provision.kept,
        )
        try:
            return self._speaks(beginning, standing), provision
        except ValueError:
            if birth.native or not provision.kept:
                raise
        # What can't be read is not needed either: it begins anew.
        without = replace(beginning, kept=b"")
        return self._speaks(without, standing), replace(provision, kept=b"")
