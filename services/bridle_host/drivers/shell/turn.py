"""A turn of a shell: the script that an input is, and how far it is run.

Pure values. Used by the shell driver only.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from bridle_core.observations import Content, OutputStream, Text, ToolOutput, ToolStarted
from bridle_host.drivers.output import Pieces
from bridle_host.process import Chunk, Mark, Stream

#: What is printed may overtake the word that the script is being run. This much waits for it; only
#: a background job that floods while bash is being held up could print more.
HELD = 512 * 1024
#: The command as the tool call shows it, in bytes; the whole stands in the input.
SHOWN = 64 * 1024
TITLE = 80


class NoScriptError(ValueError):
    """The input is nothing that bash could run; the text is for people."""


def script_of(content: Sequence[Content]) -> str:
    """The texts of an input, a line break between them. Raises NoScriptError."""
    texts = []
    for piece in content:
        if not isinstance(piece, Text):
            raise NoScriptError(f"a shell takes text only, and no {type(piece).__name__.lower()}")
        texts.append(piece.text)
    script = "\n".join(texts)
    if "\0" in script:
        raise NoScriptError("the script holds a NUL character, which bash cannot read")
    return script if script.endswith("\n") else script + "\n"


@dataclass(slots=True, eq=False)
class Turn:
    """The turn that is open, from its lines being written to its TurnOver."""

    number: int
    tool_call_id: str
    script: str
    #: What was alive before it.
    mark: Mark
    #: Its lines; they are answered with this.
    token: str
    #: bash has confirmed that the script is being run.
    began: bool = False
    #: Somebody interrupted it: it ends INTERRUPTED, whatever comes.
    interrupted: bool = False
    #: When the grace is over, on the loop's clock.
    deadline: float = 0.0
    #: Background jobs of earlier turns are to end, too.
    background: bool = False
    #: The report that answers the last question, and whether that ends the interrupted turn.
    awaited: str = ""
    last: bool = False
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    #: The script's own exit status, once it is known.
    status: int | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)
    _held: list[Chunk] = field(default_factory=list)
    _held_bytes: int = 0
    _pieces: dict[Stream, Pieces] = field(
        default_factory=lambda: {Stream.STDOUT: Pieces(), Stream.STDERR: Pieces()}
    )

    def interrupt(self, deadline: float, background: bool) -> None:
        """The first, or one that joins it and may shorten its grace."""
        self.deadline = min(self.deadline, deadline) if self.interrupted else deadline
        self.background |= background
        self.interrupted = True

    def started(self) -> ToolStarted:
        """The tool call that the turn is."""
        command = self.script.removesuffix("\n")
        arguments: dict[str, object] = {"command": command}
        if len(command.encode("utf-8", "replace")) > SHOWN:
            shown = command.encode("utf-8", "replace")[:SHOWN].decode("utf-8", "ignore")
            arguments = {"command": shown, "truncated": True}
        first = next(iter(command.strip().splitlines()), "")
        title = first if len(first) <= TITLE else first[: TITLE - 1] + "…"
        return ToolStarted(
            self.tool_call_id, "bash", json.dumps(arguments, ensure_ascii=False), title
        )

    def hold(self, chunk: Chunk) -> bool:
        """Keep output that came before `began`. False when that is too much."""
        if self._held_bytes >= HELD:
            return False
        self._held.append(chunk)
        self._held_bytes += len(chunk.data)
        return True

    def held(self, stream: Stream) -> int:
        """How many bytes of this stream wait, in here or for the rest of their character."""
        waiting = sum(len(chunk.data) for chunk in self._held if chunk.stream is stream)
        return waiting + self._pieces[stream].held

    def release(self) -> list[Chunk]:
        """What was kept, in order."""
        held, self._held, self._held_bytes = self._held, [], 0
        return held

    def printed(self, chunk: Chunk) -> list[ToolOutput]:
        """What of this output is ready for the log."""
        return self._outputs(chunk.stream, self._pieces[chunk.stream].feed(chunk.data))

    def flush(self) -> list[ToolOutput]:
        """What still waited for the rest of a character."""
        return [
            output
            for stream, pieces in self._pieces.items()
            for output in self._outputs(stream, pieces.flush())
        ]

    def _outputs(self, stream: Stream, pieces: list[bytes]) -> list[ToolOutput]:
        name = OutputStream.STDOUT if stream is Stream.STDOUT else OutputStream.STDERR
        return [ToolOutput(self.tool_call_id, piece, name) for piece in pieces]
