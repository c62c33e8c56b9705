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

#: What the agent has once its turn's tools were killed, in seconds.
LAST_MOMENT = 0.5
#: What tools have that the agent has left behind when it ended its turn: nobody waits for them.
LEFT_BEHIND = 1.0


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
    """gently: the agent has ended its turn; it is itself meant to have ended its tools."""
    done = await process.interrupt(
        Mark(()) if turn.background else turn.mark, grace=LEFT_BEHIND if gently else 0.0
    )
    if done.killed:
        names = ", ".join(info.command[:80] for info in done.killed[:8])
        what = "the agent left behind" if gently else f"did not end within {grace:g} s"
        course.tell(Note(NoteKind.ESCALATED, f"an interrupt killed what {what}: {names}"))


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
