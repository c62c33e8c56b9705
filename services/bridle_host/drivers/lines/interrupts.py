"""How an interrupt ends a turn: by the agent's word, its tools' end, at last by the agent's own.

Used by `LineDriver` only.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from bridle_core.observations import Note, NoteKind, StopReason
from bridle_host.drivers.lines.course import Course
from bridle_host.drivers.lines.turn import Turn
from bridle_host.process import KILL_NOW, Mark, ProcessError, ShimProcess

#: What the turn's tools have at least, and the agent once they were killed, in seconds.
LAST_MOMENT = 0.5


async def carry_out(course: Course, turn: Turn, grace: float) -> None:
    """From the order to the agent, which was given, to TurnOver; or to the agent's end."""
    process = course.process
    try:
        if turn is course.turn and process is not None:
            with suppress(ProcessError):  # it has died: its end is about to be read
                await _end(course, turn, process, grace)
    finally:
        turn.settled.set()


async def _end(course: Course, turn: Turn, process: ShimProcess, grace: float) -> None:
    ended = await turn.ended_in_time()
    await _end_tools(course, turn, process, grace, gently=ended)
    if not ended:
        turn.deadline = course.now() + LAST_MOMENT
        ended = await turn.ended_in_time()
    if not ended:
        course.stuck = True
        await process.stop(KILL_NOW)
        return
    await _quiet(course)
    if turn is course.turn and not course.ending:
        course.over(turn, StopReason.INTERRUPTED)
        course.tell()


async def _end_tools(
    course: Course, turn: Turn, process: ShimProcess, grace: float, *, gently: bool
) -> None:
    left = turn.deadline - course.now()
    done = await process.interrupt(
        Mark(()) if turn.background else turn.mark,
        grace=max(LAST_MOMENT, left) if gently else 0.0,
    )
    if done.killed:
        names = ", ".join(info.command[:80] for info in done.killed[:8])
        text = f"killed after {grace:g} s without an answer to the interrupt: {names}"
        course.tell(Note(NoteKind.ESCALATED, text))


async def _quiet(course: Course) -> None:
    """Where late words can't be told from the next turn's, wait until there are no more."""
    dialect = course.dialect
    if dialect is None or not dialect.quiet:
        return
    limit = course.now() + dialect.quiet_limit
    begun = course.now()
    while True:
        now = course.now()
        end = min(limit, max(course.spoke, begun) + dialect.quiet)
        if now >= end:
            return
        await asyncio.sleep(end - now)
