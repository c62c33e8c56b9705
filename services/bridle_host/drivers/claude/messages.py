"""What Claude Code says in words: texts as they are written, messages, thoughts.

Pure. The same text comes twice: in pieces (`stream_event`), for which it is only live, and whole
(`assistant`), one line for each block of a message. A block's name is made of its message and its
index, so that the pieces and the whole are known as one; a block that was never streamed (those of
sub-agents are not) is named by its own line. A whole that is `aborted` is what was said until an
interrupt. A block without a whole (the connection broke, and the agent asked anew) stays a text
that was cut off. Used by the dialect only.
"""

from __future__ import annotations

from bridle_core.observations import Message, MessageText, Observation, Text, Thought
from bridle_host.drivers.claude.state import OPEN_BLOCKS, Block, State
from bridle_host.drivers.claude.wire import Fields

#: How much live text is told at once, in characters.
LIVE = 16 * 1024

_TEXT, _THINKING = "text", "thinking"


def streamed(fields: Fields, state: State) -> list[Observation]:
    """What a piece of a stream tells. Raises UnreadableError."""
    event = fields.object("event")
    match event.name("type"):
        case "message_start":
            state.message, state.blocks = event.object("message").name("id"), ()
        case "content_block_start":
            kind = event.object("content_block").name("type")
            if kind in (_TEXT, _THINKING) and len(state.blocks) < OPEN_BLOCKS:
                state.blocks = (*state.blocks, Block(event.count("index"), kind))
        case "content_block_delta":
            return _live(event, state)
        case _:
            pass  # the whole that comes behind it says all of that
    return []


def _live(event: Fields, state: State) -> list[Observation]:
    delta = event.object("delta")
    if delta.name("type") != "text_delta":
        return []
    index, text = event.count("index"), delta.text("text")
    if not any(block.index == index and block.kind == _TEXT for block in state.blocks):
        return []  # the whole of it was told
    name = _name(state.message, index)
    return [MessageText(name, text[start : start + LIVE]) for start in range(0, len(text), LIVE)]


def said(line: Fields, block: Fields, number: int, state: State) -> list[Observation]:
    """A text of an `assistant` line, whole. number: of the block in the line."""
    name, text = _whole(line, _TEXT, number, state), block.text("text")
    if not text:
        return []
    parent = line.name("parent_tool_use_id", "")
    return [Message(name, (Text(text),), partial=line.flag("aborted"), sub_agent=parent)]


def thought(line: Fields, block: Fields, number: int, state: State) -> list[Observation]:
    """A thought of an `assistant` line, whole; nothing where the agent does not let it be seen."""
    name, text = _whole(line, _THINKING, number, state), block.text("thinking")
    if not text:
        return []
    parent = line.name("parent_tool_use_id", "")
    return [Thought(name, text, partial=line.flag("aborted"), sub_agent=parent)]


def _whole(line: Fields, kind: str, number: int, state: State) -> str:
    """The name of a block that is whole now."""
    message = line.object("message").name("id", "")
    if message and message == state.message and not line.name("parent_tool_use_id", ""):
        for block in state.blocks:
            if block.kind == kind:
                state.blocks = tuple(one for one in state.blocks if one is not block)
                return _name(message, block.index)
    return _name(line.name("uuid", message), number)


def _name(message: str, index: int) -> str:
    return f"{message}.{index}"
