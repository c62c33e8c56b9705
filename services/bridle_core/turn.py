"""What is open inside one turn: tool calls, approvals, messages that are being written.

Keeps the law of the turn's inside: ToolCallStarted < ToolCallOutput* < ToolCallEnded,
ApprovalRequested < ApprovalResolved, no live text after its message, and everything closed before
the turn ends. What breaks the law is left out, because agents are hostile or at least careless;
a turn never fails for it. Called by the session machine only, which knows the phases.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from bridle_core.effects import ApprovalResolved, Emit, Live
from bridle_core.observations import (
    Decision,
    Message,
    MessageText,
    Note,
    NoteKind,
    Plan,
    StopReason,
    Text,
    Thought,
    ToolEnded,
    ToolOutput,
    ToolStarted,
    ToolStatus,
    Usage,
)
from bridle_core.phases import TurnTrigger
from bridle_core.utf8 import clean

#: What is kept of a message that is being written, in characters, for the case that it is cut off.
#: Four bytes a character make 512 KiB at the most, which fits into every message of the host link.
KEPT_TEXT = 128 * 1024
#: The end of the output that a run reports as its last words, in bytes.
LAST_WORDS = 64 * 1024

#: The observations that belong to a turn.
Stored = Message | Thought | ToolStarted | ToolOutput | ToolEnded | Plan | Usage
TurnContent = Stored | MessageText
TURN_CONTENT = (
    Message,
    MessageText,
    Thought,
    ToolStarted,
    ToolOutput,
    ToolEnded,
    Plan,
    Usage,
)


@dataclass(slots=True)
class _Writing:
    """A message of which live text was seen."""

    offset: int = 0
    kept: int = 0
    dropped: int = 0
    parts: list[str] = field(default_factory=list)


class LastWords:
    """The agent's last message, or the end of its last output where it has none."""

    def __init__(self) -> None:
        self._message = ""
        self._output: deque[bytes] = deque()
        self._size = 0

    def note(self, content: Message | ToolOutput) -> None:
        """Remember the newest."""
        if isinstance(content, Message):
            texts = [piece.text for piece in content.content if isinstance(piece, Text)]
            self._message = "".join(texts)
            return
        self._output.append(content.data)
        self._size += len(content.data)
        while self._size - len(self._output[0]) >= LAST_WORDS:
            self._size -= len(self._output.popleft())

    def new_turn(self) -> None:
        """Forget the output of the turn before."""
        self._output.clear()
        self._size = 0

    @property
    def text(self) -> str:
        """At most 64 KiB of UTF-8."""
        data = self._message.encode("utf-8", "replace") or b"".join(self._output)
        # Cutting may leave the rest of a character at the front, and decoding may make three bytes
        # of a bad one.
        text = data[-LAST_WORDS:].decode("utf-8", "replace")
        while len(encoded := text.encode()) > LAST_WORDS:
            text = encoded[-LAST_WORDS:].decode("utf-8", "ignore")
        return text


class Turn:
    """One open turn. `expires` moments are on the machine's clock."""

    def __init__(self, number: int, trigger: TurnTrigger) -> None:
        self.number = number
        self.trigger = trigger
        self.tools: dict[str, ToolStarted] = {}
        #: Open approvals and when each is denied by itself.
        self.approvals: dict[str, float | None] = {}
        #: Those of this turn that are over.
        self.resolved: dict[str, Decision] = {}
        self._writing: dict[str, _Writing] = {}
        self._written: set[str] = set()

    def reopen(self, tools: tuple[str, ...], approvals: tuple[str, ...]) -> None:
        """Take over what was open when the turn was last seen."""
        self.tools = {tool_call_id: ToolStarted(tool_call_id, "") for tool_call_id in tools}
        self.approvals = dict.fromkeys(approvals)

    def take(self, content: TurnContent) -> Iterator[Emit | Live]:
        """What follows from something that the agent did in this turn."""
        if isinstance(content, MessageText):
            yield from self._live(content)
        elif self._fits(content):
            yield Emit(content, self.number)

    def _fits(self, content: Stored) -> bool:
        """Whether it may stand here; keeps count of what is open."""
        if isinstance(content, Message | Thought):
            self._writing.pop(content.message_id, None)
            self._written.add(content.message_id)
        elif isinstance(content, ToolStarted):
            if content.tool_call_id in self.tools:
                return False
            self.tools[content.tool_call_id] = content
        elif isinstance(content, ToolOutput):
            return content.tool_call_id in self.tools
        elif isinstance(content, ToolEnded):
            return self.tools.pop(content.tool_call_id, None) is not None
        return True

    def _live(self, piece: MessageText) -> Iterator[Live]:
        if piece.message_id in self._written or not piece.text:
            return
        writing = self._writing.setdefault(piece.message_id, _Writing())
        text = clean(piece.text)
        yield Live(self.number, piece.message_id, writing.offset, text)
        writing.offset += len(text.encode())
        kept = text[: KEPT_TEXT - writing.kept]
        writing.kept += len(kept)
        writing.dropped += len(text[len(kept) :].encode())
        if kept:
            writing.parts.append(kept)

    def resolve(self, approval_id: str, decision: Decision, message: str = "") -> ApprovalResolved:
        """Close an open approval."""
        del self.approvals[approval_id]
        self.resolved[approval_id] = decision
        return ApprovalResolved(approval_id, decision, message)

    def close(self, reason: StopReason) -> Iterator[Emit]:
        """Close everything that is open: what was said is kept, what was asked is void."""
        for message_id, writing in list(self._writing.items()):
            text = Text("".join(writing.parts))
            yield Emit(Message(message_id, (text,), partial=True), self.number)
            if writing.dropped:
                yield Emit(
                    Note(
                        NoteKind.TRUNCATED,
                        "a message that was cut off is kept up to a limit only",
                        writing.dropped,
                    ),
                    self.number,
                )
        self._writing.clear()
        for approval_id in list(self.approvals):
            yield Emit(self.resolve(approval_id, Decision.VOID, "the turn is over"), self.number)
        # The last that began is the innermost.
        for tool_call_id in reversed(list(self.tools)):
            status = ToolStatus.FAILED if reason is StopReason.FAILED else ToolStatus.CANCELLED
            ended = ToolEnded(tool_call_id, status, message="the turn ended before the call did")
            yield Emit(ended, self.number)
        self.tools.clear()
