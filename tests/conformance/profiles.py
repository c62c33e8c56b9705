"""What a driver has to be told so that it does what the suite wants. One profile for each driver.

A driver that is to be held to the contract gets a profile here, and nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bridle_core.observations import Message, Observation, ResumeMode, Text, ToolOutput
from bridle_host.drivers.base import DriverFactory
from bridle_host.drivers.registry import factories
from tests.fakes import exec_agent


@dataclass(frozen=True, slots=True)
class Profile:
    """Inputs for one driver.

    say(word): a turn that says the word. busy: a turn that says "begun" and would go on for minutes
    and, if it were not stopped, say "never". ignoring: the same, deaf to an interrupt. children(n):
    processes `sleep n` in the background, in a session of its own and as a daemon; then busy or
    not. flood: says without end. dies: ends the agent in the turn, unasked. quits: the agent ends
    itself, on purpose. remember and recall(): something for a resume, said again as "remembered".
    """

    factory: DriverFactory
    say: Callable[[str], str]
    busy: str
    ignoring: str
    children: Callable[[int, bool], str]
    flood: str
    #: So many lines, the numbers from 1 on, over a second or so.
    count: Callable[[int], str]
    dies: str
    quits: str
    remember: str
    recall: str
    #: How AUTO resumes.
    resumes: ResumeMode
    #: Half of a character on stdout, "begun" on stderr; the other half once the file is there.
    halves: Callable[[Path], str] | None = None
    #: The session's agent command.
    command: str = ""

    @property
    def name(self) -> str:
        return self.factory.name


def _shell_children(seconds: int, busy: bool) -> str:
    # All are born when the turn ends: a setsid that is a job of a shell forks when it likes.
    forks = f"sleep {seconds} & setsid -f sleep {seconds}; (setsid sleep {seconds} &);"
    return forks + (" echo begun; sleep 600; echo never" if busy else "")


def _scripted_children(seconds: int, busy: bool) -> str:
    forks = "; ".join(f"fork as={kind} {seconds}" for kind in ("child", "session", "daemon"))
    return forks + ("; say begun; sleep 600; say never" if busy else "")


PROFILES = (
    Profile(
        factory=factories()["shell"],
        say=lambda word: f"echo {word}",
        busy="echo begun; sleep 600; echo never",
        ignoring="trap '' INT; echo begun; while :; do :; done",
        children=_shell_children,
        flood="yes begun",
        count=lambda last: f"for i in $(seq {last}); do echo $i; sleep 0.002; done",
        dies="echo begun; kill -9 $$",
        quits="exit 0",
        remember="export WORD=remembered",
        recall="echo $WORD",
        resumes=ResumeMode.SEEDED,
        halves=lambda go: (
            f"printf '\\303'; echo begun >&2; until test -e '{go}'; do sleep 0.01; done;"
            " printf '\\251\\n'"
        ),
    ),
    Profile(
        factory=factories()["scripted"],
        say=lambda word: f"say {word}",
        busy="say begun; sleep 600; say never",
        ignoring="ignore interrupt; say begun; sleep 600",
        children=_scripted_children,
        flood="tool begun; flood as=tool piece=65536 1000000000000",
        count=lambda last: "; sleep 0.002; ".join(f"say {i}" for i in range(1, last + 1)),
        dies="say begun; die signal=KILL",
        quits="quit",
        remember="remember word remembered",
        recall="recall word",
        resumes=ResumeMode.NATIVE,
    ),
    Profile(
        factory=factories()["exec"],
        command=f"{sys.executable} {exec_agent.__file__}"
        " [!--begin={session}] [--go-on={session}]",
        say=lambda word: f"echo {word}",
        busy="echo begun; sleep 600; echo never",
        # What is deaf here is the runner: it is made to stand still by what it interrupts.
        ignoring="trap 'kill -STOP $PPID' INT; echo begun; while :; do sleep 0.01; done",
        children=_shell_children,
        flood="yes begun",
        count=lambda last: f"for i in $(seq {last}); do echo $i; sleep 0.002; done",
        dies="echo begun; kill -9 $PPID",
        quits="kill -TERM $PPID",
        remember="echo remembered > $MEMORY",
        recall="cat $MEMORY",
        resumes=ResumeMode.NATIVE,
    ),
)


def words(seen: list[Observation]) -> str:
    """All that was said, whichever way a driver says it."""
    said = []
    for observation in seen:
        if isinstance(observation, ToolOutput):
            said.append(observation.data.decode("utf-8", "replace"))
        elif isinstance(observation, Message):
            said += [piece.text for piece in observation.content if isinstance(piece, Text)]
    return "".join(said)
