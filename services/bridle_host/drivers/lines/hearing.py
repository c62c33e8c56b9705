"""What the agent says: from its output to the course of the run. Used by `LineDriver` only."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from bridle_core.observations import (
    KeepState,
    Note,
    NoteKind,
    ProcessUp,
    ResumeMode,
)
from bridle_host.drivers.lines.course import UNREADABLE, Course
from bridle_host.drivers.lines.dialect import (
    Began,
    Bye,
    Dialect,
    Ended,
    Order,
    Ready,
    Refused,
    Said,
    UnreadableError,
)
from bridle_host.drivers.lines.locks import lock_of
from bridle_host.drivers.lines.standing import FIRST, Birth, Provision, Stage
from bridle_host.drivers.lines.turn import Turn
from bridle_host.drivers.output import Overlong
from bridle_host.process import KILL_NOW, Chunk, Mark, ProcessError, Stream

log = logging.getLogger("bridle.host.driver")

#: How much of its stderr is remembered, in bytes: why it did not come up often stands there only.
LAST_WORDS = 500

#: All that is not said within a turn. Most of what is said is: it is looked for by one question.
_ABOUT_THE_COURSE = frozenset({Order, Ready, Refused, Began, Ended, Bye, KeepState, Note})

_NOTHING = Mark(())


class Hearing:
    """Hears one process of the agent, to its end. resumed: the run is."""

    def __init__(
        self,
        course: Course,
        dialect: Dialect,
        birth: Birth,
        provision: Provision,
        *,
        resumed: bool,
        recovered: bool,
    ) -> None:
        """recovered: an earlier process of the host may have heard some of it."""
        self._course = course
        self._dialect = dialect
        self._birth = birth
        self._provision = provision
        self._resumed = resumed
        self._last_words = b""
        #: Which conversation was locked.
        self._held = "" if recovered else dialect.conversation
        #: Whether the next turn of the agent's own may have been marked already.
        self._own_marked = recovered
        #: What was alive before the line that is being read, which may begin a turn by itself.
        self._mark = _NOTHING

    async def printed(self, chunk: Chunk) -> None:
        """What came, and tell it."""
        course = self._course
        if chunk.stream is not Stream.STDOUT:
            await course.outbox.room()
            course.places.took(chunk)
            self._last_words = (self._last_words + chunk.data)[-LAST_WORDS:]
            if text := course.log.feed(chunk.data):
                course.group.append(Note(NoteKind.AGENT_LOG, text))
            course.tell()
            return
        for part, unasked in self._parts(chunk):
            await course.outbox.room()
            if course.process is not None:
                await course.process.posted()
            if unasked:
                await course.settle()
                if course.turn is None:
                    self._mark = await self._mark_own()
            course.spoke = course.now()
            for piece in _lines(part) if course.may_wait else (part,):
                if course.begun:
                    # This is of a turn that is told to have begun when the one before is over.
                    await course.settle()
                course.places.took(piece)
                for line in course.lines.feed(piece.data):
                    self.line(line)
                course.tell()
            if self._dialect.conversation != self._held:
                await self._hold(self._dialect.conversation)

    async def _hold(self, conversation: str) -> None:
        """Whoever holds the agent holds its conversation."""
        course, process = self._course, self._course.process
        self._held = conversation
        if process is None:
            return
        with suppress(ProcessError, OSError):  # it is dying; or its shim is older than that
            for path in lock_of(course.context.locks, conversation):
                if not await process.hold(path):
                    # Two that write to one conversation lose turns of it.
                    text = "another process holds this agent's conversation; it is ended"
                    course.tell(Note(NoteKind.STATE_LOST, text))
                    await process.stop(KILL_NOW)

    def end(self) -> None:
        """What was begun and never ended; nothing more will come."""
        for rest in self._course.lines.end():
            self.line(rest)

    @property
    def last_words(self) -> str:
        """The last line that it wrote to its stderr; "" for none."""
        lines = self._last_words.decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def _parts(self, chunk: Chunk) -> Iterator[tuple[Chunk, bool]]:
        """The chunk, cut where a line begins that perhaps begins a turn by itself."""
        unasked, data = self._dialect.unasked, chunk.data
        needles = (unasked,) if isinstance(unasked, bytes) else unasked
        if not any(needles):
            yield chunk, False
            return
        tail = self._course.lines.tail
        # In the line that was begun already, across the seam or not.
        first = data.find(b"\n") + 1 or len(data)
        begins = any(needle in (tail + data[:first]) for needle in needles)
        start = 0
        at = _first(data, needles, first)
        while at >= 0:
            line = data.rfind(b"\n", 0, at) + 1
            yield _cut(chunk, start, line), begins
            start, begins = line, True
            next_line = data.find(b"\n", at) + 1 or len(data)
            at = _first(data, needles, next_line)
        yield _cut(chunk, start, len(data)), begins

    async def _mark_own(self) -> Mark:
        """What is alive before the next turn of the agent's own."""
        course = self._course
        name = f"own-{course.own + 1}"
        if self._own_marked:
            # Of the first one we may be reading for the second time.
            self._own_marked = False
            if (marked := course.marked(name)) is not None:
                return marked
        if course.process is not None:
            with suppress(ProcessError):  # it is dying: its end is about to be read
                return await course.mark(name, course.process)
        return _NOTHING

    def line(self, line: bytes | Overlong) -> None:
        if isinstance(line, Overlong):
            self._course.unparsed("it is too long", line.beginning, line.size)
            return
        try:
            said = tuple(self._dialect.read(line))
        except UnreadableError as error:
            self._course.unparsed(str(error), line, len(line))
            return
        except Exception:
            # What agents say is hostile; a dialect that stumbles over it must not end the host.
            log.exception("a dialect could not read a line of %d bytes", len(line))
            self._course.unparsed("its driver stumbled over it", line, len(line))
            return
        for one in said:
            self._said(one, line)

    def _said(self, said: Said, line: bytes) -> None:
        course, turn = self._course, self._course.turn
        if type(said) not in _ABOUT_THE_COURSE:
            # What belongs to no turn, or to one that is over, is left out.
            if turn is not None and not turn.ended.is_set():
                course.group.append(said)  # type: ignore[arg-type]
            return
        match said:
            case Order():
                course.order((said,))
            case Ready():
                self._ready(said)
            case Refused(message):
                course.refused = message or "the agent refused to start"
                course.gave_up.set()
            case Began(number):
                self._began(number, line)
            case Ended(reason, message, exit_code):
                if turn is not None and turn.interrupted:
                    turn.end()
                elif turn is not None:
                    course.over(turn, reason, message, exit_code)
            case Bye():
                course.bye = True
            case KeepState():
                course.keep(said)
            case Note():
                course.unreadable += 1
                if course.unreadable <= UNREADABLE:
                    course.group.append(said)

    def _ready(self, said: Ready) -> None:
        course, birth = self._course, self._birth
        if course.stage is Stage.UP or course.process is None:
            return
        mode: ResumeMode | None = None
        lost: tuple[str, ...] = ()
        if said.resumed:
            mode = ResumeMode.NATIVE
        elif birth.replacement or self._resumed:
            mode, lost = ResumeMode.SEEDED, said.lost
            if self._dialect.seedable:
                lost += self._provision.left_out
                course.seeded = FIRST if self._provision.transcript else ""
            if why := self._provision.declined:
                text = f"the conversation could not be taken up again: {why}"
                course.group.append(Note(NoteKind.STATE_LOST, text))
        course.stuck = course.bye = False
        course.refused = ""
        course.stage = Stage.UP
        course.group.append(ProcessUp(course.pid, said.version, birth.replacement, mode, lost))
        if birth.replacement:
            text = "the agent did not give way to an interrupt; another has taken its place"
            course.group.append(Note(NoteKind.ESCALATED, text))
        course.up.set()

    def _began(self, number: int | None, line: bytes) -> None:
        course = self._course
        mark, self._mark = self._mark, _NOTHING
        turn = course.turn
        if turn is not None and turn.interrupted and turn.number == number is not None:
            # It was not waited for any longer, and here it is: now it can be interrupted.
            background = turn.background
            course.order(self._dialect.interrupt(turn.name, include_background=background))
        elif number is not None and course.begin_next(number):
            pass
        elif turn is not None or course.process is None or course.stage is not Stage.UP:
            course.unparsed("no turn can begin now", line, len(line))
        elif number is None:
            course.own += 1
            course.open(Turn(None, mark, f"own-{course.own}"))
        elif not course.begin_asked(number):
            course.unparsed("nobody asked for this turn", line, len(line))


def _lines(chunk: Chunk) -> Iterator[Chunk]:
    """Line by line; the last may have no end."""
    start = 0
    while start < len(chunk.data):
        end = chunk.data.find(b"\n", start) + 1 or len(chunk.data)
        yield _cut(chunk, start, end)
        start = end


def _first(data: bytes, needles: tuple[bytes, ...], start: int) -> int:
    """Where the first of them is; -1 for nowhere."""
    return min((at for one in needles if (at := data.find(one, start)) >= 0), default=-1)


def _cut(chunk: Chunk, start: int, end: int) -> Chunk:
    if start == 0 and end == len(chunk.data):
        return chunk
    return replace(chunk, data=chunk.data[start:end], offset=chunk.offset + start)
