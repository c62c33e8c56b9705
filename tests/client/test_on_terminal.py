"""On a terminal: the live watch, attach, and that what agents print has no power there."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from bridle.cli.attach import TWICE
from tests.client.on_terminal import on_terminal
from tests.pair import Pair, running_pair, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

#: Every way to take over a terminal that its printf can write, bytes and runes.
HOSTILE = (
    r"printf '\033[2J\033[H\033]0;evil\007\033]52;c;ZXZpbA==\033\\\033P+q544e\033\\\033c\0337'; "
    r"printf '\xc2\x9b2J\xc2\x9d0;evil\xc2\x9c\x9b31m\x90evil\x9c'; "
    r"printf 'over\rwritten\b\b\xe2\x80\xaegnp\xe2\x80\x8b\x1b'; "
    r"sleep 0.2; printf '[31msplit'; printf '\033]0;never ended\nafter\n'; echo done '>>'$((1+1))"
)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    async with running_pair(tmp_path_factory.mktemp("pair")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def nothing_stays(pair: Pair) -> AsyncIterator[None]:
    yield
    await pair.kill_all()


async def test_nothing_that_an_agent_prints_has_power_over_the_terminal(pair: Pair) -> None:
    title = "t\x1b]0;evil\x07\u202e"
    await pair.client.start_session("evil", agent="shell", prompt=HOSTILE, title=title)
    for words in (("session", "watch", "evil"), ("ls",), ("status", "evil"), ("attach", "evil")):
        async with on_terminal(pair, *words) as terminal:
            if "evil" in words and words[0] in ("session", "attach"):
                await terminal.shows("done >>2")
                await terminal.shows("IDLE")
                for shown in ("over\n", "| written␈␈<U+202E>gnp<U+200B>split\n", "| after\n"):
                    assert shown in terminal.text.replace("\r", "")
            else:
                assert await terminal.ends() == 0
            assert all(char in "\n\t" or char.isprintable() for char in terminal.text)


async def test_the_status_line_follows_the_session(pair: Pair) -> None:
    await pair.client.start_session("live", agent="shell", prompt="sleep 67")
    async with on_terminal(pair, "session", "watch", "live") as terminal:
        await terminal.shows("live  RUNNING  turn 1")
        await pair.client.send("live", "printf unfinished; sleep 68")
        await terminal.shows("queue 1")
        await pair.client.interrupt("live")
        await terminal.shows("turn 1 ended: INTERRUPTED")
        await terminal.shows("live  RUNNING  turn 2")
        await terminal.shows("unfinished")
        await pair.client.stop("live", grace=0)
        await terminal.shows("session ended: STOPPED")
        assert await terminal.ends() == 0
    assert terminal.raw.count(b"\x1b[2K") > 5


async def test_no_line_is_wider_than_a_narrow_terminal(pair: Pair) -> None:
    await pair.client.start_session("narrow", agent="shell", prompt="printf '%200s' x; sleep 69")
    async with on_terminal(pair, "session", "watch", "narrow", columns=30) as terminal:
        await terminal.shows("narrow  RUNNING")
        bottom = terminal.text.split("\n")[-1]
        assert len(bottom) < 400  # redrawn in place, never wrapped
        terminal.type("\x03")
        assert await terminal.ends() == 130


async def test_attach_sends_what_is_typed_and_ctrl_c_interrupts(pair: Pair) -> None:
    await pair.client.start_session("talk", agent="shell")
    async with on_terminal(pair, "attach", "talk") as terminal:
        await terminal.shows("talk  IDLE")
        terminal.type("echo typed $((20+1))\n")
        await terminal.shows("| typed 21")
        # What is typed stands behind a prompt of its own, not in the status line.
        assert "\n> echo typed" in terminal.text.replace("\r", "")
        terminal.type("sleep 70\n")
        await terminal.shows("RUNNING  turn 2")
        terminal.type("\x03")
        await terminal.shows("turn 2 ended: INTERRUPTED")
        terminal.type("\x04")
        assert await terminal.ends() == 0
    assert (await pair.client.get_session("talk")).phase == 2  # IDLE: it goes on


async def test_attach_leaves_at_the_second_ctrl_c(pair: Pair) -> None:
    await pair.client.start_session("twice", agent="shell")
    async with on_terminal(pair, "attach", "twice") as terminal:
        await terminal.shows("twice  IDLE")
        loop = asyncio.get_running_loop()
        before = -math.inf
        for times in itertools.count(1):
            typed = loop.time()
            terminal.type("\x03")
            here = await terminal.shows_or_ends("Ctrl-C once more leaves", times)
            # (Of two with a pause between them, be it the machine's, the second is a first again.)
            if not here or loop.time() - before < TWICE:
                break
            before = typed
        assert times > 1
        assert await terminal.ends() == 0


async def test_a_lost_connection_is_shown_until_it_is_back(tmp_path: Path) -> None:
    async with running_pair(tmp_path) as own:
        await own.client.start_session("lost", agent="shell")
        async with on_terminal(own, "session", "watch", "lost") as terminal:
            await terminal.shows("session started")
            await terminal.shows("lost  IDLE")
            await own.end_control(9)
            await terminal.shows("connection lost, trying again")
            await own.start_control()

            async def back() -> bool:
                return "connection lost" not in terminal.text.rpartition("lost  IDLE")[2]

            await until(back, "it is connected again")
            await own.client.send("lost", "echo again")
            await terminal.shows("| again")
        await own.kill_all()
