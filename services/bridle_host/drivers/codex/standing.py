"""What the driver `codex` keeps: where a dialect stands, and what a later run resumes from.

Pure values, which another version of Bridle may read: what is added has a default. Used by this
driver only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from bridle_core import values

#: A standing may have 32 KiB; what an agent has open beyond that is forgotten, oldest first.
STANDING = 30 * 1024
#: Tool calls, approvals and turns of sub-agents that are open at once.
OPEN = 64
#: Threads whose usage is told apart; that of older ones is only added up.
THREADS = 16
#: Notices that were told, and are not told again.
TOLD = 32
#: Interrupted turns that are remembered, for sub-agents that begin late.
STOPPED = 16

VERSION = 1


@dataclass(frozen=True, slots=True)
class Counts:
    """Tokens."""

    input: int = 0
    output: int = 0
    cached: int = 0

    def plus(self, other: Counts) -> Counts:
        return Counts(
            self.input + other.input, self.output + other.output, self.cached + other.cached
        )

    def minus(self, other: Counts) -> Counts:
        """Never below nothing: what an agent counts is not to be trusted."""
        return Counts(
            max(0, self.input - other.input),
            max(0, self.output - other.output),
            max(0, self.cached - other.cached),
        )


@dataclass(frozen=True, slots=True)
class Meter:
    """What a thread has used: when this process first heard of it, and now."""

    thread: str
    base: Counts
    total: Counts


@dataclass(frozen=True, slots=True)
class Call:
    """An open tool call."""

    id: str
    kind: str
    #: The sub-agent whose it is.
    sub: str = ""
    #: What was told of its output, in characters, and the end of that.
    told: int = 0
    tail: str = ""
    #: What a file change is about, as JSON: it is asked for by its id only.
    changes: str = ""
    #: Leave for it was refused. Of some kinds Codex says no more than that they failed.
    denied: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """An open approval. request: the request's id, as JSON."""

    id: str
    request: str
    kind: str
    thread: str
    turn: str
    #: The tool call that it is about; "" where that isn't known.
    call: str = ""
    #: The permissions that were asked for, as JSON.
    wanted: str = ""
    #: Our answer was ordered, and the agent has not confirmed it.
    answered: bool = False


@dataclass(frozen=True, slots=True)
class Sub:
    """A turn of a sub-agent that is on. born: the turn of ours beneath which it began, or ""."""

    thread: str
    turn: str
    born: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """See the module."""

    version: str = ""
    model: str = ""
    thread: str = ""
    #: What came before the agent was up, for people.
    early: tuple[str, ...] = ()
    #: The turn that was asked for and has not begun, and its id by the agent's answer.
    asked: int | None = None
    answered: str = ""
    #: A turn that began before that answer: whose it is isn't known yet.
    held: str = ""
    held_root: str = ""
    #: Why the agent did not take it, while a turn of its own is open.
    refused: str = ""
    #: The open turn, and the first in its chain.
    turn: str = ""
    root: str = ""
    #: The one before it.
    last: str = ""
    #: Our name of the open turn once it is interrupted, and how often that was said again.
    interrupting: str = ""
    retries: int = 0
    #: The message that the agent is writing: a word in between makes it stop in the middle.
    writing: str = ""
    calls: tuple[Call, ...] = ()
    asks: tuple[Ask, ...] = ()
    subs: tuple[Sub, ...] = ()
    #: First turns of chains that were interrupted.
    stopped: tuple[str, ...] = ()
    #: Commands of the interrupted turn: the agent does not end them by itself.
    leftover: tuple[str, ...] = ()
    #: Whether a turn has begun in this process: from then on there is something to resume.
    begun: bool = False
    #: Used in this run, beside what the meters count; and what was told to be kept of it all.
    spent: Counts = Counts()
    kept: Counts = Counts()
    meters: tuple[Meter, ...] = ()
    told: tuple[int, ...] = ()
    #: How often something was written to a running command.
    written: int = 0

    def dump(self) -> bytes:
        """At most 32 KiB."""
        standing = self
        while len(data := values.dump(standing).encode()) > STANDING:
            # By halves: this is written down with whatever the agent says.
            for name in ("calls", "asks", "leftover", "subs"):
                if entries := getattr(standing, name):
                    standing = replace(standing, **{name: entries[(len(entries) + 1) // 2 :]})
                    break
            else:
                return values.dump(replace(standing, early=(), told=())).encode()
        return data

    @classmethod
    def load(cls, state: bytes) -> Standing:
        """b"" is that of a dialect that has read nothing. Raises ValueError."""
        return values.load(cls, state) if state else cls()


@dataclass(frozen=True, slots=True)
class Kept:
    """What a later process resumes from. usage: that of the run so far."""

    version: int = 0
    thread: str = ""
    run: int = 0
    usage: Counts = Counts()

    def dump(self) -> bytes:
        return values.dump(self).encode()

    @classmethod
    def load(cls, state: bytes) -> Kept:
        """Raises ValueError, with a line for people."""
        try:
            kept = values.load(cls, state)
        except ValueError:
            raise ValueError("what was kept of the conversation can't be read") from None
        if kept.version != VERSION or not kept.thread:
            raise ValueError("what was kept of the conversation is of another version")
        return kept


def newest(entries: Iterable[str], entry: str, limit: int) -> tuple[str, ...]:
    """With `entry` as the newest, and not more than `limit`."""
    return (*(one for one in entries if one != entry), entry)[-limit:]
