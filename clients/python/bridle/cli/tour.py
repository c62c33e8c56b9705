"""The tour: what Bridle does, shown on a real shell session with the real command line.

Each command is printed, run as a process of its own, and its output printed and checked. Called by
`bridle up --tour`.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from typing import NamedTuple

from bridle.cli import output
from bridle.cli.base import complain
from bridle.cli.processes import entry_point
from bridle.terminal import paint

#: Seconds that one command may take.
STEP_TIMEOUT = 20.0


class Step(NamedTuple):
    """A command of the tour: why, its words after `bridle`, and what its output must hold."""

    why: str
    words: tuple[str, ...]
    expected: str


def steps(slug: str) -> list[Step]:
    """The tour on a session with this slug."""
    session = ("session",)
    return [
        Step("What can run here?", ("agents",), "shell"),
        Step(
            "Start a session: a shell that gets its first input at once.",
            (*session, "start", slug, "--agent", "shell", 'echo "hello from bash $BASH_VERSION"'),
            "started",
        ),
        Step("Wait until it has nothing to do.", ("wait", slug), "IDLE"),
        Step(
            "Its log has everything that happened, in order.",
            (*session, "watch", slug, "--no-follow"),
            "turn 1 ended: COMPLETED",
        ),
        Step(
            "Set a variable in this very shell.",
            (*session, "send", slug, "export COLOUR=green"),
            "sent",
        ),
        Step("Give it something that takes long.", (*session, "send", slug, "sleep 60"), "sent"),
        Step(
            "And a follow-up, which waits in its queue.",
            (*session, "send", slug, 'echo "still the same shell: COLOUR is $COLOUR"'),
            "sent",
        ),
        Step("The sleep is on now.", ("wait", slug, "--for", "turn=3"), "RUNNING"),
        Step("", ("queue", "list", slug), "WAITING"),
        Step(
            "Interrupt the turn. The shell lives, and goes on with the follow-up at once.",
            (*session, "interrupt", slug, "--wait"),
            "RAN TURN_INTERRUPTED turn=3",
        ),
        Step("", ("wait", slug), "IDLE"),
        Step(
            "",
            (*session, "watch", slug, "--no-follow", "--tail", "10"),
            "still the same shell: COLOUR is green",
        ),
        Step("Let it end cleanly.", (*session, "stop", slug, "--wait"), "RAN"),
        Step("", ("status", slug), "STOPPED"),
        Step(
            "Take it up again: a new shell with what was kept of the old one.",
            (*session, "resume", slug, 'echo "resumed: COLOUR is $COLOUR"'),
            "resumed",
        ),
        Step("", ("wait", slug), "IDLE"),
        Step(
            "The whole conversation.",
            (*session, "transcript", slug),
            "resumed: COLOUR is green",
        ),
        Step("And its turns.", (*session, "turns", slug), "INTERRUPTED"),
    ]


class Tour:
    """Plays the tour against the control at an address, with the user's stored token."""

    def __init__(self, address: str) -> None:
        self._program = entry_point("bridle")
        kept = {"BRIDLE_HOME"}
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if name in kept or not name.startswith("BRIDLE_")
        }
        self._environment["BRIDLE_ADDRESS"] = address

    async def play(self) -> bool:
        """Plays it; False where a step did not do what it says, which is told on stderr."""
        taken = set((await self._output("ls", "-a", "-q"))[1].split())
        slug = next(
            name for name in ("tour", *(f"tour-{n}" for n in range(2, 10_000))) if name not in taken
        )
        for step in steps(slug):
            output.line("")
            if step.why:
                output.line(paint(f"# {step.why}", "dim", output.colour()))
            output.line(paint(f"$ bridle {shlex.join(step.words)}", "bold", output.colour()))
            code, text = await self._output(*step.words)
            output.line(text.rstrip("\n"))
            if code != 0 or step.expected not in text:
                what = f"exit code {code}" if code else f'no "{step.expected}" in its output'
                complain("up", f"the tour failed at `bridle {shlex.join(step.words)}`: {what}")
                return False
        return True

    async def _output(self, *words: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            self._program,
            *words,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(STEP_TIMEOUT):
                text, _ = await process.communicate()
        except TimeoutError:
            return 124, f"(nothing for {STEP_TIMEOUT:g} s)"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        # The command line has made it harmless already.
        return process.returncode or 0, text.decode(errors="replace")
