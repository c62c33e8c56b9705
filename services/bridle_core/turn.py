"""What is open inside one turn: tool calls, approvals, messages that are being written.

Keeps the law of the turn's inside: ToolCallStarted < ToolCallOutput* < ToolCallEnded,
ApprovalRequested < ApprovalResolved, no live text after its message, and everything closed before
the turn ends. What breaks the law is left out, because agents are hostile or at least careless;
a turn never fails for it. Called by the session machine only, which knows the phases.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field, replace
from typing import Any

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
from bridle_core.phases import Decider, Rule, TurnTrigger
from bridle_core.utf8 import clean

#: What is kept of the messages that are being written, in characters, for the case that they are
#: cut off. Four bytes a character make 512 KiB at the most, which fits into every message of the
#: host link.
KEPT_TEXT = 128 * 1024
#: What of its last message a run reports as its last words, in bytes of UTF-8.
LAST_WORDS = 64 * 1024
#: The same of a turn's output, where there are no messages. Less, because this is written down
#: again whenever there is more of it.
LAST_OUTPUT = 4 * 1024

#: What may be open in a turn at once: all of it is written down whenever some of it changes. More
#: than any agent works on at a time; what comes beyond is left out.
OPEN_TOOLS = 1024
OPEN_MESSAGES = 64
OPEN_APPROVALS = 256
#: What is remembered of the calls that they are about, in characters: of one, and of all together.
#: A call that is longer is answered by people alone.
KEPT_CALL = 16 * 1024
KEPT_CALLS = 64 * 1024
#: How many messages and approvals that are over are remembered, for what comes late.
REMEMBERED = 256

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
class Writing:
    """A message of which live text was seen: its length and what is not kept, both in bytes of
    UTF-8; what is kept, in characters."""

    offset: int = 0
    dropped: int = 0
    kept: int = 0
    parts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What is kept of it."""
        return "".join(self.parts)


class LastWords:
    """The agent's last message, or the end of its last output where it has none.

    message: at most 64 KiB of UTF-8; output: at most 4 KiB.
    """

    def __init__(self, message: str = "", output: bytes = b"") -> None:
        self.message = message
        self.output = output

    def note(self, content: Message | ToolOutput) -> None:
        """Remember the newest."""
        if isinstance(content, Message):
            texts = [piece.text for piece in content.content if isinstance(piece, Text)]
            self.message = _end("".join(texts).encode("utf-8", "replace"), LAST_WORDS)
        else:
            self.output = (self.output + content.data[-LAST_OUTPUT:])[-LAST_OUTPUT:]

    def new_turn(self) -> None:
        """Forget the output of the turn before."""
        self.output = b""

    @property
    def text(self) -> str:
        """At most 64 KiB of UTF-8."""
        return self.message or _end(self.output, LAST_WORDS)


def _end(data: bytes, limit: int) -> str:
    # Cutting may leave the rest of a character at the front, and decoding may make three bytes of a
    # bad one.
    text = data[-limit:].decode("utf-8", "replace")
    while len(encoded := text.encode()) > limit:
        text = encoded[-limit:].decode("utf-8", "ignore")
    return text


class Turn:
    """One open turn. `expires` moments are on the machine's clock."""

    def __init__(self, number: int, trigger: TurnTrigger) -> None:
        self.number = number
        self.trigger = trigger
        #: Open tool calls, in the order in which they began.
        self.tools: dict[str, None] = {}
        #: Open approvals and when each is denied by itself.
        self.approvals: dict[str, float | None] = {}
        #: The calls that they are about, (tool, arguments as JSON), as far as they are remembered.
        self.calls: dict[str, tuple[str, str]] = {}
        #: The newest of this turn that are over.
        self.resolved: dict[str, ApprovalResolved] = {}
        #: Messages that are being written, and the newest that are written.
        self.writing: dict[str, Writing] = {}
        self.written: dict[str, None] = {}

    def take(self, content: TurnContent) -> Iterator[Emit | Live]:
        """What follows from something that the agent did in this turn."""
        if isinstance(content, MessageText):
            yield from self._live(content)
        elif isinstance(content, Message) and not content.content:
            yield from self._written(content)
        elif self._fits(content):
            yield Emit(content, self.number)

    def _written(self, message: Message) -> Iterator[Emit]:
        """A message that was seen live is at its end."""
        writing = self.writing.pop(message.message_id, None)
        if writing is None:
            return
        self._fits(message)
        yield Emit(replace(message, content=(Text(writing.text),)), self.number)
        if writing.dropped:
            text = "a message is kept up to a limit only"
            yield Emit(Note(NoteKind.TRUNCATED, text, writing.dropped), self.number)

    def _fits(self, content: Stored) -> bool:
        """Whether it may stand here; keeps count of what is open."""
        if isinstance(content, Message | Thought):
            self.writing.pop(content.message_id, None)
            self.written[content.message_id] = None
            _forget(self.written)
        elif isinstance(content, ToolStarted):
            if content.tool_call_id in self.tools or len(self.tools) >= OPEN_TOOLS:
                return False
            self.tools[content.tool_call_id] = None
        elif isinstance(content, ToolOutput):
            return content.tool_call_id in self.tools
        elif isinstance(content, ToolEnded):
            if content.tool_call_id not in self.tools:
                return False
            del self.tools[content.tool_call_id]
        return True

    def _live(self, piece: MessageText) -> Iterator[Live]:
        name = piece.message_id
        if name in self.written or not piece.text:
            return
        if name not in self.writing and len(self.writing) >= OPEN_MESSAGES:
            return
        room = KEPT_TEXT - sum(other.kept for other in self.writing.values())
        writing = self.writing.setdefault(name, Writing())
        text = clean(piece.text)
        yield Live(self.number, name, writing.offset, text)
        writing.offset += len(text.encode())
        kept = "" if writing.dropped else text[:room]
        writing.dropped += len(text[len(kept) :].encode())
        writing.kept += len(kept)
        if kept:
            writing.parts.append(kept)

    def ask(self, approval_id: str, expires: float | None, tool: str, arguments_json: str) -> None:
        """Open an approval."""
        self.approvals[approval_id] = expires
        size = len(tool) + len(arguments_json)
        kept = sum(len(name) + len(arguments) for name, arguments in self.calls.values())
        if size <= KEPT_CALL and kept + size <= KEPT_CALLS:
            self.calls[approval_id] = (tool, arguments_json)

    def resolve(
        self,
        approval_id: str,
        decision: Decision,
        message: str = "",
        by: Decider = Decider.PRINCIPAL,
        rule: Rule | None = None,
    ) -> ApprovalResolved:
        """Close an open approval."""
        del self.approvals[approval_id]
        self.calls.pop(approval_id, None)
        resolved = ApprovalResolved(approval_id, decision, message, by, rule)
        self.resolved[approval_id] = resolved
        _forget(self.resolved)
        return resolved

    def close(self, reason: StopReason) -> Iterator[Emit]:
        """Close everything that is open: what was said is kept, what was asked is void."""
        for message_id, writing in self.writing.items():
            text = Text(writing.text)
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
        self.writing.clear()
        for approval_id in list(self.approvals):
            void = self.resolve(approval_id, Decision.VOID, "the turn is over", Decider.TURN_END)
            yield Emit(void, self.number)
        # The last that began is the innermost.
        for tool_call_id in reversed(list(self.tools)):
            status = ToolStatus.FAILED if reason is StopReason.FAILED else ToolStatus.CANCELLED
            ended = ToolEnded(tool_call_id, status, message="the turn ended before the call did")
            yield Emit(ended, self.number)
        self.tools.clear()


def _forget(remembered: MutableMapping[str, Any]) -> None:
    """The oldest, when there are too many."""
    if len(remembered) > REMEMBERED:
        del remembered[next(iter(remembered))]
