"""A dialect: what one kind of agent says and is told, line by line, and what that means.

Sans-IO: a dialect has no clock, no files, no chance, and awaits nothing. All that it knows it has
from how it was made, from the lines that the agent said and from what was ordered. `LineDriver`
does everything else: the process and its successors, the tools' processes, the deadlines of an
interrupt, the groups and checkpoints, the recovery behind a restart of the host.

One dialect object lives through one process of the agent. Another process of the host goes on with
another object: it is made from the last durable `standing`, the same orders are given to it once
more, and the lines behind that checkpoint are read to it once more. So:

- The ids and keys in an order are made of what it is about ("turn-3", "interrupt-turn-3"), never
  from a counter, a clock or chance: given again it is the same order, and the driver leaves it out
  if the agent has it already.
- What a line leads to depends on the standing, the orders and the lines, on nothing else.

What the agent says is hostile, or at least careless: each field is looked at. A line that is no
part of the language raises UnreadableError and becomes a note; so does nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bridle_core.observations import Content, Decision, Observation, StopReason
from bridle_host.process import HELD_CAP

#: The longest line that an agent may say, in bytes, unless its dialect knows better.
LINE = 1024 * 1024
#: A dialect can't know better than this: half of what a shim holds of an agent's output that is not
#: durable. A line is that until its end, and behind all of it the agent would be read no more.
LONGEST_LINE = HELD_CAP // 2


class UnreadableError(ValueError):
    """The line is no part of the language; the text says why, for people."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How a process of the agent is started. The environment is added to the session's own."""

    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Order:
    """Lines for the agent's standard input, whole and with their ends.

    key: among all orders to this process. An order whose key was written is not written again, by
    whichever process of the host.
    """

    key: str
    data: bytes = field(repr=False)


# --- What a line of the agent can mean, beside observations and orders that answer it ------------


@dataclass(frozen=True, slots=True)
class Ready:
    """The agent is up: before it no turn is given to it. Once for each process.

    resumed: it knows the earlier conversation. lost: what did not come along, a line each.
    """

    version: str = ""
    resumed: bool = False
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """The agent will not come up; its process is ended. The message is for people.

    If it was to take a conversation up again, another process begins a new one, unless the
    native way was asked for.
    """

    message: str


@dataclass(frozen=True, slots=True)
class Began:
    """The agent confirmed that a turn began: the one that `begin` asked for, or (None) its own."""

    turn: int | None


@dataclass(frozen=True, slots=True)
class Ended:
    """The agent ended the open turn, and nothing of it follows.

    After an interrupt was ordered the reason is the driver's: INTERRUPTED.
    """

    reason: StopReason
    message: str = ""
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class Bye:
    """The agent means to end: its end is no loss."""


Said = Observation | Order | Ready | Refused | Began | Ended | Bye


@dataclass(frozen=True, slots=True)
class Beginning:
    """How a process of the agent begins.

    session_id, run, serial: which process it is; serial counts the processes of a run from 1 on.
    directory: absolute. native: take up the conversation that `kept` tells of; else begin a new
    one. kept: the newest state that a KeepState of this session told on this host; b"" for none.
    """

    session_id: str
    run: int
    serial: int
    directory: str
    environment: Mapping[str, str] = field(repr=False)
    native: bool = False
    kept: bytes = field(default=b"", repr=False)


class Dialect(Protocol):
    """See the module. `read` is called for each line, the others as `Driver`'s methods are."""

    #: The longest line of the agent, in bytes; at most LONGEST_LINE.
    line_limit: int
    #: After an interrupt has ended a turn, the agent has to be silent for so many seconds before
    #: the turn counts as over; 0 where what comes late can be told apart. Until then, what it says
    #: is dropped. At most `quiet_limit` seconds.
    quiet: float
    quiet_limit: float
    #: It reads prose: where the native way is not to be had, the first input of a process comes
    #: behind what was said in the session so far.
    seedable: bool

    @property
    def unasked(self) -> bytes | tuple[bytes, ...]:
        """Bytes without which no line begins a turn that nobody asked for, at most 100, or several
        of which one has to be there; b"" where the agent begins none. Before such a line is read,
        the driver waits until an interrupted turn is over, and looks what is alive: so that an
        interrupt of the new turn spares what was there before it.
        """

    @property
    def conversation(self) -> str:
        """What the agent's own conversation is called, among all of this kind of agent; "" while it
        is not known. No two processes on this host ever hold one.
        """

    def launch(self) -> Launch:
        """Raises ValueError with a line for people where it can't be started as asked for."""

    def greet(self) -> Iterable[Order]:
        """The first orders; asked for again as long as Ready did not come."""

    def read(self, line: bytes) -> Iterable[Said]:
        """What a line means, in order. `line` is without its end. Raises UnreadableError; then
        nothing of it counts.

        KeepState tells what a later process takes the conversation up again from. An agent that has
        nothing to take up before its first turn began says it no sooner.

        Of observations that belong to a turn, those outside of an open one are left out by the
        driver; but a dialect whose agent names its turns leaves out what is of another turn.
        """

    def begin(self, turn: int, content: Sequence[Content]) -> Iterable[Order | Began]:
        """Give the agent an input as a turn of its own; Began(turn) follows from a line.

        Where the agent's language has no word for that, and the agent loses no interrupt that comes
        right behind the order, Began(turn) may be said here, as the last.
        """

    def steer(self, turn: str, input_id: str, content: Sequence[Content]) -> Iterable[Order]:
        """Give it into the open turn; Steered(input_id) follows from a line, or nothing."""

    def interrupt(self, turn: str, *, include_background: bool) -> Iterable[Order]:
        """Ask the agent to end the open turn; Ended follows from a line.

        `turn`: its name in this run, "turn-3" or "own-1". Called after its Began, again when a
        second interrupt asks for the background jobs too. Also where Began did not come in time:
        then, if the agent would lose it, nothing is ordered; Began, if it comes, has this called
        again.
        """

    def respond(
        self, turn: str, approval_id: str, decision: Decision, message: str
    ) -> Iterable[Order]:
        """Answer an approval, once."""

    def stop(self) -> Iterable[Order]:
        """Ask the idle agent to end. Its standard input is closed behind these."""

    def standing(self) -> bytes:
        """What another object needs to go on from here, at most 32 KiB."""


class Speaks(Protocol):
    """Makes a dialect for a process of the agent."""

    def __call__(self, beginning: Beginning, standing: bytes | None) -> Dialect:
        """standing: None for a process that is about to be spawned; else that of the last durable
        checkpoint, b"" where none came before the host's process ended.

        Raises ValueError with a line for people, on a standing or a `kept` that can't be read.
        """
