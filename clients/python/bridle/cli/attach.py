"""Watching and talking at once: `bridle attach`."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Protocol

import click

from bridle.cli import output
from bridle.cli.base import Call, command
from bridle.cli.screen import Standing
from bridle.cli.watch import CONNECT_TIMEOUT, PlainShow, Show, TerminalShow, run
from bridle.errors import BridleError
from bridle.v1 import watch_pb2

if TYPE_CHECKING:
    from bridle.client import Client
    from bridle.v1 import session_pb2

#: A second Ctrl-C within this many seconds leaves.
TWICE = 2.0
#: Of the past, so that one sees where one is.
TAIL = 20
#: Behind it stands what is being typed.
PROMPT = "> "


class TalkShow(Show, Protocol):
    """A show behind which somebody types."""

    def entered(self, text: str) -> None:
        """A line was typed; a terminal has echoed it."""


@command("attach", json=False)
@click.argument("slug", required=False)
async def attach(call: Call, slug: str | None) -> None:
    """Watch a session and send it each line that you type.

    Ctrl-C interrupts the turn that is on, twice it leaves; so does Ctrl-D. The session goes on.
    """
    async with call.client(timeout=CONNECT_TIMEOUT) as client:
        session = call.session(slug)
        found = await client.get_session(session)
        talk = Talk(client, client_ref(found))
        show: TalkShow = (
            TerminalShow(Standing(found), prompt=PROMPT) if output.colour() else PlainShow(call)
        )
        stream = client.watch(
            client_ref(found), tail=TAIL, until=watch_pb2.WATCH_UNTIL_RUN_END, live_text=True
        )
        try:
            await _either(run(stream, show, None), talk.run(show))
        finally:
            show.close()


def client_ref(session: session_pb2.Session) -> session_pb2.SessionRef:
    """The session by its id: a slug may be taken anew."""
    from bridle.calls import by_id

    return by_id(session.session_id, session.workspace)


async def _either(*works: Coroutine[None, None, None]) -> None:
    """Runs all until the first has ended or failed, and cancels the others."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_kept(work)) for work in works]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
    for task in done:
        if error := task.result():
            raise error


async def _kept(work: Coroutine[None, None, None]) -> BridleError | None:
    """The failure as a value: a group would wrap it."""
    try:
        await work
    except BridleError as error:
        return error
    return None


class Talk:
    """Sends what is typed, a line an input; Ctrl-C interrupts."""

    def __init__(self, client: Client, session: session_pb2.SessionRef) -> None:
        self._client = client
        self._session = session
        # Lines not sent yet and interrupts not made yet (None); a person types no faster.
        self._todo: asyncio.Queue[str | None] = asyncio.Queue(maxsize=1000)
        self._leave = asyncio.Event()
        self._last = -TWICE
        self._rest = b""
        # From the very first moment that somebody can see what Ctrl-C would be for.
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._interrupted)

    async def run(self, show: TalkShow) -> None:
        """Until the end of stdin, or Ctrl-C twice; `show` is where problems are told."""
        loop = asyncio.get_running_loop()
        loop.add_reader(sys.stdin.fileno(), self._readable, show)
        try:
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(self._send(show))
                await self._leave.wait()
                await self._todo.join()
                sending.cancel()
        finally:
            loop.remove_reader(sys.stdin.fileno())
            loop.remove_signal_handler(signal.SIGINT)

    def _interrupted(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._last < TWICE:
            self._leave.set()
        self._last = now
        self._put(None)

    def _readable(self, show: TalkShow) -> None:
        import os

        data = os.read(sys.stdin.fileno(), 65536)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "replace").strip()
            show.entered(text)
            if text:
                self._put(text)
        if not data:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            self._leave.set()

    def _put(self, item: str | None) -> None:
        try:
            self._todo.put_nowait(item)
        except asyncio.QueueFull:
            self._leave.set()  # that was no person

    async def _send(self, show: TalkShow) -> None:
        while True:
            item = await self._todo.get()
            try:
                if item is None:
                    show.note("interrupting; Ctrl-C once more leaves")
                    await self._client.interrupt(self._session)
                else:
                    await self._client.send(self._session, item)
            except BridleError as error:
                show.note(f"{error.code.name}: {error.message}")
            finally:
                self._todo.task_done()
