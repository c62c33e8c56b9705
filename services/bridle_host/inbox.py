"""What waits for a session actor: commands, the driver's observations, and news of its own.

Bounded; commands overtake observations, so that an interrupt never stands behind a flood of output.
Observations come and are taken in groups, each whole (see `drivers.outbox`).
(What they find is at worst a little older than what the agent does, and the machine minds that.)
One actor reads; the manager and the actor's own tasks write.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bridle_core.commands import Command, Kill
from bridle_core.observations import (
    Message,
    MessageText,
    Note,
    Observation,
    Plan,
    Thought,
    ToolEnded,
    ToolOutput,
    ToolStarted,
    Usage,
)

#: Commands that wait for one actor. As many as the link takes before they are answered, so that a
#: session which is slow to begin holds back no other's.
COMMANDS = 8192
#: Groups that wait, and those that are taken at once: enough that one fsync serves many.
OBSERVATIONS = 1024
BATCH = 512
#: Bytes of text that wait, and that are taken at once. A batch has to be small beside the
#: journal's reserve, and sixty-four sessions' waiting ones beside the memory.
BYTES = 1024 * 1024
BATCH_BYTES = 256 * 1024

#: What an agent can tell without end; all else moves its session's life on.
BULK = (Message, MessageText, Note, Plan, Thought, ToolEnded, ToolOutput, ToolStarted, Usage)


@dataclass(frozen=True, slots=True)
class Queued:
    """A command that waits. `expires` is a moment on the loop's clock; None means never."""

    command: Command
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class Gone:
    """The run's processes were seen gone; or those that could be seen, see `sweep.unseen`."""

    swept: int
    unseen: bool = False


@dataclass(frozen=True, slots=True)
class Broken:
    """The driver failed, or ended without a word."""

    message: str


News = Gone | Broken
#: Observations that are written together.
Group = Sequence[Observation]


class Inbox:
    """See the module."""

    def __init__(self) -> None:
        self._commands: deque[Queued] = deque()
        # The ids of those that were taken last: until they are done nothing else knows of them.
        self._taken: frozenset[str] = frozenset()
        self._groups: deque[tuple[Group, int]] = deque()
        self._news: deque[News] = deque()
        self._bytes = 0
        self._closed = False
        self._room = asyncio.Event()
        #: Set when something came, and by whoever wants the actor to look.
        self.wake = asyncio.Event()

    # --- writing ---

    async def put_command(self, queued: Queued) -> bool:
        """Waits for room. False when nobody reads any more."""
        while len(self._commands) >= COMMANDS and not self._closed:
            self._room.clear()
            await self._room.wait()
        if self._closed:
            return False
        self._commands.append(queued)
        self.wake.set()
        return True

    def close(self) -> None:
        """Nobody reads any more."""
        self._closed = True
        self._room.set()

    def put_own(self, command: Command) -> None:
        """The host's own command, which finds room always: there are a few in a run's life."""
        self._commands.append(Queued(command))
        self.wake.set()

    async def put_group(self, group: Group) -> None:
        """Waits for room, and so lets the driver wait."""
        size = sum(map(_size, group))
        while self._groups and (len(self._groups) >= OBSERVATIONS or self._bytes + size > BYTES):
            self._room.clear()
            await self._room.wait()
        self._groups.append((group, size))
        self._bytes += size
        self.wake.set()

    def put_news(self, news: News) -> None:
        """A few in a run's life."""
        self._news.append(news)
        self.wake.set()

    def withdraw(self, command_id: str) -> bool:
        """Lets a command that was not begun be out of time. False when it is not here."""
        for index, queued in enumerate(self._commands):
            if queued.command.command_id == command_id:
                self._commands[index] = replace(queued, expires=0.0)
                self.wake.set()
                return True
        return False

    def has(self, command_id: str) -> bool:
        """Whether a command waits here, or was taken and may not be in the journal yet."""
        waits = any(queued.command.command_id == command_id for queued in self._commands)
        return waits or command_id in self._taken

    # --- reading ---

    @property
    def killing(self) -> bool:
        """Whether a Kill waits."""
        return any(isinstance(queued.command, Kill) for queued in self._commands)

    def commands(self) -> list[Queued]:
        """All that wait; those that were taken before are done."""
        taken = list(self._commands)
        self._taken = frozenset(queued.command.command_id for queued in taken)
        self._commands.clear()
        self._room.set()
        return taken

    def put_back(self, queued: Sequence[Queued]) -> None:
        """Some that were taken and can't be applied yet: they come first the next time."""
        self._commands.extendleft(reversed(queued))

    def groups(self, *, bulk: bool = True) -> list[Group]:
        """The oldest: one batch. Without `bulk` only those before the first that has bulk in it."""
        taken: list[Group] = []
        size = 0
        while self._groups and len(taken) < BATCH and size < BATCH_BYTES:
            if not bulk and _is_bulk(self._groups[0][0]):
                break
            group, bytes_ = self._groups.popleft()
            taken.append(group)
            size += bytes_
        self._bytes -= size
        if taken:
            self._room.set()
        return taken

    def news(self) -> News | None:
        """The oldest, once all observations before it were taken; None for none."""
        if self._news and not self._groups:
            return self._news.popleft()
        return None

    def ready(self, *, bulk: bool = True) -> bool:
        """Whether there is a group that could be taken, or news."""
        if self._groups:
            return bulk or not _is_bulk(self._groups[0][0])
        return bool(self._news)


def _is_bulk(group: Group) -> bool:
    return any(isinstance(observation, BULK) for observation in group)


def _size(observation: Observation) -> int:
    """Roughly, in bytes: only what can be large counts."""
    if isinstance(observation, ToolOutput):
        return len(observation.data)
    if isinstance(observation, MessageText | Thought):
        return len(observation.text)
    if isinstance(observation, Message):
        return sum(len(getattr(piece, "text", "")) for piece in observation.content)
    return 0
