"""The command that stays: `bridle session watch`."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import click

from bridle.cli import output
from bridle.cli.base import Call, command
from bridle.cli.screen import LiveMessage, Screen, Standing
from bridle.terminal import clean_line, paint

if TYPE_CHECKING:
    from bridle.client import Client
    from bridle.v1 import session_pb2
    from bridle.watching import Update, Watch

#: Seconds that a first connection may take.
CONNECT_TIMEOUT = 5.0


class Show(Protocol):
    """Where the updates of a watch go."""

    def take(self, update: Update) -> None: ...

    def note(self, text: str) -> None:
        """Tells something that is no event."""

    def close(self) -> None: ...


@command("watch")
@click.argument("slug", required=False)
@click.option("--from", "first", type=click.IntRange(min=0), metavar="SEQ", help="From event SEQ.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="From the newest N events.")
@click.option("--no-follow", is_flag=True, help="Only what is there; don't wait for more.")
@click.option("--forever", is_flag=True, help="Go on when the run has ended, over Resume.")
@click.option(
    "--live/--no-live",
    default=None,
    help="Show messages while they are being written (on a terminal it does).",
)
async def watch(
    call: Call,
    slug: str | None,
    first: int | None,
    tail: int | None,
    no_follow: bool,
    forever: bool,
    live: bool | None,
) -> int | None:
    """Stream the session's events, from the first one, until its run has ended.

    When the connection is lost it goes on where it was: nothing is repeated or left out.
    """
    from bridle.v1 import watch_pb2

    if first is not None and tail is not None:
        raise click.UsageError("--from and --tail exclude each other")
    show_live = live if live is not None else output.colour() and not no_follow
    until = watch_pb2.WATCH_UNTIL_NEVER if forever else watch_pb2.WATCH_UNTIL_RUN_END
    async with call.client(timeout=CONNECT_TIMEOUT) as client:
        session = call.session(slug)
        show, last = await _show(call, client, session, no_follow)
        stream = client.watch(
            session,
            after_sequence=max(0, (first or 0) - 1),
            tail=tail,
            until=until,
            live_text=show_live,
        )
        try:
            await run(stream, show, last if no_follow else None)
        finally:
            show.close()
    return None


async def _show(
    call: Call, client: Client, session: str | session_pb2.SessionRef, no_follow: bool
) -> tuple[Show, int]:
    """Where the events are to go, and the last event by now."""
    on_terminal = output.colour() and not call.json
    if not (on_terminal or no_follow):
        return (JsonShow(call) if call.json else PlainShow(call)), 0
    found = await client.get_session(session)
    if call.json:
        return JsonShow(call), found.last_sequence
    if on_terminal and not no_follow:
        return TerminalShow(Standing(found)), found.last_sequence
    return PlainShow(call), found.last_sequence


async def run(stream: Watch, show: Show, last: int | None) -> None:
    """Shows a watch until it ends, or until the event number `last` was shown."""
    if last == 0:
        return
    with _until_the_reader_goes():
        await _show_all(stream, show, last)


async def _show_all(stream: Watch, show: Show, last: int | None) -> None:
    async with stream:
        async for update in stream.updates():
            show.take(update)
            if last is not None and stream.cursor >= last:
                return


@contextmanager
def _until_the_reader_goes() -> Iterator[None]:
    """Ends the block with BrokenPipeError when nobody reads the pipe on stdout any more.

    A write would tell; but where nothing happens nothing is written, and the watch would stay.
    """
    handle = sys.stdout.fileno()
    task = asyncio.current_task()
    if task is None or not stat.S_ISFIFO(os.fstat(handle).st_mode):
        yield
        return
    loop = asyncio.get_running_loop()
    gone = False

    def hung_up() -> None:
        nonlocal gone
        gone = True
        loop.remove_reader(handle)
        task.cancel()

    loop.add_reader(handle, hung_up)  # all that a pipe's writing end ever reports so
    try:
        yield
    except asyncio.CancelledError:
        if not gone:
            raise
        task.uncancel()
        raise BrokenPipeError from None
    finally:
        loop.remove_reader(handle)


def _gone(floor: int) -> str:
    return f"events before {floor} are gone"


class JsonShow:
    """Events, and live text where it is asked for, as JSON; what is gone is told on stderr."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def note(self, text: str) -> None:
        pass

    def take(self, update: Update) -> None:
        from bridle.v1 import event_pb2, watch_pb2

        if isinstance(update.item, event_pb2.Event | watch_pb2.LiveText):
            output.json(update.item)
        elif isinstance(update.item, watch_pb2.Compacted):
            self._call.note(_gone(update.item.floor_sequence))

    def close(self) -> None:
        pass


class PlainShow:
    """Lines for a pipe or a plain terminal. Lost connections are told on stderr."""

    def __init__(self, call: Call) -> None:
        from bridle.render import Renderer

        self._call = call
        self._renderer = Renderer(colour=output.colour())
        self._lost = False

    def note(self, text: str) -> None:
        self._call.note(text)

    def take(self, update: Update) -> None:
        from bridle.v1 import event_pb2, watch_pb2
        from bridle.watching import Connected, Disconnected

        item = update.item
        if isinstance(item, event_pb2.Event):
            for line in self._renderer.lines(item):
                output.line(line)
        elif isinstance(item, watch_pb2.Compacted):
            self._call.note(_gone(item.floor_sequence))
        elif isinstance(item, Disconnected) and not self._lost:
            self._lost = True
            self._call.note("connection lost, trying again")
        elif isinstance(item, Connected) and self._lost:
            self._lost = False
            self._call.note("connected again")

    def entered(self, text: str) -> None:
        """Nothing was drawn that it could have displaced."""

    def close(self) -> None:
        for line in self._renderer.flush():
            output.line(line)


class TerminalShow:
    """Events scroll by; what is being written and where the session stands is at the bottom."""

    def __init__(self, standing: Standing, *, prompt: str = "") -> None:
        """With a `prompt` there is room to type behind it, and no clock that draws over that."""
        from bridle.render import Renderer

        self._screen = Screen()
        self._standing = standing
        self._prompt = prompt
        self._live = LiveMessage()
        self._renderer = Renderer(colour=True, phases=False)
        self._loop = asyncio.get_running_loop()
        self._tick()

    def note(self, text: str) -> None:
        self._screen.print([paint(clean_line(text), "yellow", True)])

    def take(self, update: Update) -> None:
        from bridle.v1 import event_pb2, watch_pb2
        from bridle.watching import Connected, Disconnected

        item = update.item
        if isinstance(item, event_pb2.Event):
            self._standing.see(item)
            if item.WhichOneof("kind") in ("agent_message", "turn_ended", "session_ended"):
                self._live.clear()
            self._screen.print(self._renderer.lines(item))
        elif isinstance(item, watch_pb2.LiveText):
            self._live.take(item)
        elif isinstance(item, watch_pb2.Compacted):
            self._screen.print([_gone(item.floor_sequence)])
        elif isinstance(item, Connected | Disconnected):
            self._standing.connected = isinstance(item, Connected)
            self._live.clear()
        self._draw()

    def _draw(self) -> None:
        unfinished = self._renderer.unfinished()
        lines = [(f"  {unfinished}".replace("\t", "    "), "dim")] if unfinished else []
        prompt = [(self._prompt, "")] if self._prompt else []
        self._screen.bottom([*lines, *self._live.lines(), self._standing.line(), *prompt])

    def entered(self, text: str) -> None:
        self._screen.entered(len(text))

    def _tick(self) -> None:
        """Keeps the time in the status line going."""
        self._draw()
        delay = 3600 if self._prompt else 1
        self._next_tick = self._loop.call_later(delay, self._tick)

    def close(self) -> None:
        self._next_tick.cancel()
        self._screen.print(self._renderer.flush())
        self._screen.close()
