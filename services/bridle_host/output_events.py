"""A turn's output as events: text where it is text, never cut inside of a character.

- Output is text where it is valid UTF-8, else bytes. The bytes of an unfinished character at the
  end of a piece wait for the rest, at most until their tool call ends; only what is truly invalid
  comes as bytes.
- An event has at most 64 KiB of it.

Called by `bridle_host.events` only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bridle.v1 import event_pb2
from bridle_core.observations import OutputStream, ToolOutput
from bridle_core.utf8 import clean, cut, incomplete_tail

#: Bytes of an agent's name for a message, a call, an approval.
NAME = 1024
#: Bytes of output in one event.
OUTPUT_EVENT = 64 * 1024

_STREAM = {
    stream: event_pb2.OutputStream.Value(f"OUTPUT_STREAM_{stream}") for stream in OutputStream
}


def name_of(name: str) -> str:
    """What an agent calls something of its own, as it can be stored: cut without a word."""
    return cut(clean(name), NAME)[0]


class OutputCoder:
    """See the module. `cap` is how many bytes of output a turn may have; 0 means no cap."""

    def __init__(self, cap: int) -> None:
        self.cap = cap
        #: What was left out of this turn, in bytes.
        self.dropped = 0
        self._written = 0
        #: Unfinished characters, by tool call and stream: at most three bytes each.
        self._tails: dict[tuple[str, OutputStream], bytes] = {}

    def kept(self) -> dict[str, Any]:
        """What another coder needs to go on from here, as JSON values; empty for nothing."""
        if not (self._written or self.dropped or self._tails):
            return {}
        tails = [[*key, tail.hex()] for key, tail in self._tails.items()]
        return {"written": self._written, "dropped": self.dropped, "tails": tails}

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Go on from what another coder kept. Raises ValueError, TypeError, KeyError."""
        self._written, self.dropped = int(kept.get("written", 0)), int(kept.get("dropped", 0))
        for call, stream, tail in kept.get("tails", ()):
            self._tails[str(call), OutputStream(stream)] = bytes.fromhex(tail)

    def begin_turn(self) -> None:
        """The count of the cap begins anew."""
        self._written = self.dropped = 0

    def admits(self, size: int) -> bool:
        """Count something of this turn that is written whole or left out, as the cap allows."""
        if self.cap and self._written + size > self.cap:
            self._written = self.cap
            self.dropped += size
            return False
        self._written += size
        return True

    def write(self, output: ToolOutput, data: bytes) -> Iterator[event_pb2.Event]:
        """The events of `data`, which is what `output` and those after it hold."""
        key = (output.tool_call_id, output.stream)
        data = self._tails.pop(key, b"") + data
        if tail := incomplete_tail(data):
            self._tails[key] = data[-tail:]
            data = data[:-tail]
        yield from self._events(key, data)

    def end_call(self, tool_call_id: str) -> Iterator[event_pb2.Event]:
        """What waited for the rest of a character that will not come."""
        for stream in OutputStream:
            key = (tool_call_id, stream)
            yield from self._events(key, self._tails.pop(key, b""))

    def _events(self, key: tuple[str, OutputStream], data: bytes) -> Iterator[event_pb2.Event]:
        data = self._within_cap(data)
        start = 0
        while start < len(data):
            end = min(start + OUTPUT_EVENT, len(data))
            if end < len(data):
                end -= incomplete_tail(data[start:end])
            piece, start = data[start:end], end
            event = event_pb2.Event()
            event.tool_call_output.tool_call_id = name_of(key[0])
            event.tool_call_output.stream = _STREAM[key[1]]
            try:
                event.tool_call_output.text = piece.decode()
            except UnicodeDecodeError:
                event.tool_call_output.data = piece
            yield event

    def _within_cap(self, data: bytes) -> bytes:
        if not self.cap:
            return data
        kept = data[: max(0, self.cap - self._written)]
        if len(kept) < len(data):
            kept = kept[: len(kept) - incomplete_tail(kept)]
            self.dropped += len(data) - len(kept)
            # Once something was left out nothing follows it, or the log would have a hole.
            self._written = self.cap
        else:
            self._written += len(kept)
        return kept
