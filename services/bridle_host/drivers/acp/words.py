"""What an agent says and thinks: pieces made into messages.

The protocol knows pieces only. A message ends where another kind of thing begins, where the agent
gives the piece another name, or with the turn. Its text is told live and kept by the session
machine, which writes it down at the end; of thoughts nothing is live, and the text waits here.

Pure. Used by the driver `acp` only.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from acp import schema

from bridle_core.observations import (
    Content,
    Image,
    Message,
    MessageText,
    Note,
    NoteKind,
    Observation,
    Resource,
    Text,
    Thought,
)
from bridle_host.drivers.acp.standing import LANES, THOUGHTS, Lane, Standing, named

#: How much live text is told at once, in characters.
LIVE = 16 * 1024
#: How much of a thought is added at once: as JSON a character has up to six bytes.
THOUGHT = THOUGHTS // 8
#: Where a message is cut in two, in characters of all that are being written: below what the
#: session machine keeps of them.
LONGEST = 96 * 1024

Block = (
    schema.TextContentBlock
    | schema.ImageContentBlock
    | schema.AudioContentBlock
    | schema.ResourceContentBlock
    | schema.EmbeddedResourceContentBlock
)


class Words:
    """See the module. prefix: for the ids of messages, which are the session's."""

    def __init__(self, standing: Standing, prefix: str) -> None:
        self._at = standing
        self._prefix = prefix
        self._lanes = {lane.sub: lane for lane in standing.lanes}

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """What is being written; bounded."""
        return tuple(self._lanes.values())

    def piece(
        self, chunk: schema.ContentChunk, *, thought: bool, sub: str
    ) -> Iterator[Observation]:
        """A piece of a message, or of a thought."""
        block = chunk.content
        if isinstance(block, schema.TextContentBlock):
            name = named(chunk.message_id or "")
            yield from self._text(block.text, thought=thought, name=name, sub=sub)
            return
        yield from self.end(sub)
        content = list(content_of([block]))
        if content:
            yield Message(self._id(), tuple(content), sub_agent=sub)
        else:
            text = f"the agent said something of a kind that is not shown: {block.type}"
            yield Note(NoteKind.UNPARSED, text)

    def _text(self, text: str, *, thought: bool, name: str, sub: str) -> Iterator[Observation]:
        lane = self._lanes.get(sub)
        if lane is not None and (lane.thought != thought or lane.agent_id != name):
            yield from self.end(sub)
        size = THOUGHT if thought else LIVE
        for start in range(0, len(text), size):
            part = text[start : start + size]
            yield from self._room(sub, part, thought=thought)
            lane = self._lanes.get(sub) or Lane(sub, thought, name, self._id())
            if thought:
                self._lanes[sub] = replace(lane, text=lane.text + part)
            else:
                self._lanes[sub] = replace(lane, size=lane.size + len(part))
                yield MessageText(lane.id, part)

    def _room(self, sub: str, part: str, *, thought: bool) -> Iterator[Observation]:
        """End what has to end so that there is room for another piece."""
        if sub not in self._lanes and len(self._lanes) >= LANES:
            yield from self.end(next(iter(self._lanes)))
        if thought:
            kept = sum(len(json.dumps(lane.text)) for lane in self._lanes.values())
            if kept + len(json.dumps(part)) > THOUGHTS:
                yield from self._end_thoughts()
        elif sum(lane.size for lane in self._lanes.values()) + len(part) > LONGEST:
            yield from self.end(max(self._lanes.values(), key=lambda lane: lane.size).sub)

    def _end_thoughts(self) -> Iterator[Observation]:
        for lane in self.lanes:
            if lane.thought:
                yield from self.end(lane.sub)

    def end(self, sub: str, *, partial: bool = False) -> Iterator[Observation]:
        """Another kind of thing begins: what was being written is whole."""
        lane = self._lanes.pop(sub, None)
        if lane is None:
            return
        if lane.thought:
            yield Thought(lane.id, lane.text, partial, sub_agent=sub)
        else:
            yield Message(lane.id, (), partial, sub_agent=sub)

    def end_all(self, *, partial: bool) -> Iterator[Observation]:
        """The turn ends. partial: not by the agent's own will."""
        for sub in list(self._lanes):
            yield from self.end(sub, partial=partial)

    def forget(self) -> None:
        """The turn is over, whatever was being written."""
        self._lanes.clear()

    def _id(self) -> str:
        self._at.words += 1
        return f"{self._prefix}-{self._at.words}"


def content_of(blocks: Sequence[Any]) -> Iterator[Content]:
    """What of content can be told; sound can't."""
    for block in blocks:
        match block:
            case schema.TextContentBlock():
                yield Text(block.text)
            case schema.ImageContentBlock():
                data = _decoded(block.data)
                if data:
                    yield Image(data, block.mime_type[:100])
            case schema.ResourceContentBlock():
                title = block.title or block.name
                yield Resource(block.uri, title[:1000], (block.mime_type or "")[:100])
            case schema.EmbeddedResourceContentBlock():
                inner = block.resource
                yield Resource(str(inner.uri), "", (inner.mime_type or "")[:100])
                if isinstance(inner, schema.TextResourceContents):
                    yield Text(inner.text)


def blocks_of(content: Sequence[Content], *, images: bool) -> tuple[list[Any], list[str]]:
    """An input as the protocol has it, and what of it the agent can't be given, a line each."""
    blocks: list[Any] = []
    missing = []
    for piece in content:
        match piece:
            case Text():
                blocks.append(schema.TextContentBlock(type="text", text=piece.text))
            case Image() if images:
                data = base64.b64encode(piece.data).decode("ascii")
                block = schema.ImageContentBlock(
                    type="image", data=data, mime_type=piece.media_type
                )
                blocks.append(block)
            case Image():
                line = f"a picture ({piece.media_type}, {len(piece.data)} bytes) was left out"
                missing.append(f"{line}: this agent takes none")
                blocks.append(schema.TextContentBlock(type="text", text=f"[{line}]"))
            case Resource():
                blocks.append(
                    schema.ResourceContentBlock(
                        type="resource_link",
                        uri=piece.uri,
                        name=piece.title or piece.uri,
                        mime_type=piece.media_type or None,
                    )
                )
    return blocks, missing


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return b""
