"""How far an agent's output is used up, stream by stream: what a Checkpoint says of it.

Pure. Used by the drivers. The bytes of all streams are numbered together, as they came
(`Chunk.offset`). A driver keeps the beginning of what is not whole yet (a line, a character) and
uses up what the other streams say meanwhile. So "used up to here" is a place of its own for each
stream that holds something back; only what lies before all of these is never asked for again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace

from bridle_host.process_types import Chunk


class Places:
    """See the module. `end` and `behind` are those of the places that are taken over."""

    def __init__(self, end: int = 0, behind: Mapping[int, int] | None = None) -> None:
        #: Of all that was read.
        self.end = end
        #: The pipes that are used up to less than that, and how far.
        self.behind = dict(behind or {})
        #: Before this place, what an earlier process of the host has read is read again: those
        #: streams that are not behind have nothing new there.
        self._again = end if behind else 0
        #: What is held back of a pipe, and the pieces of output that may be part of it.
        self._held: dict[int, deque[tuple[int, int]]] = {}

    def fresh(self, chunk: Chunk) -> Chunk | None:
        """What of a chunk was not used up before it was read again; None for nothing."""
        used = self.behind.get(chunk.pipe, self.end)
        if chunk.pipe in self._held or chunk.offset >= used:
            return chunk
        if chunk.end <= used:
            return None
        return replace(chunk, data=chunk.data[used - chunk.offset :], offset=used)

    def took(self, chunk: Chunk) -> None:
        """All of it is held back, until `keep` says how much really is."""
        if self._again and chunk.offset >= self._again:
            self._again = 0
            self.behind = {pipe: at for pipe, at in self.behind.items() if pipe in self._held}
        self._held.setdefault(chunk.pipe, deque()).append((chunk.offset, len(chunk.data)))
        self.behind.setdefault(chunk.pipe, chunk.offset)
        self.end = max(self.end, chunk.end)

    def keep(self, pipe: int, size: int) -> None:
        """Of this pipe only the last `size` bytes are held back; all before them is used up."""
        pieces = self._held.get(pipe)
        if pieces is None:
            return
        end = sum(pieces[-1])
        if size == 0:
            del self._held[pipe]
            if end < self._again:
                self.behind[pipe] = end
            else:
                self.behind.pop(pipe, None)
            return
        total = sum(length for _, length in pieces)
        while total - pieces[0][1] >= size:
            total -= pieces.popleft()[1]
        start, _ = pieces[0]
        self.behind[pipe] = start + total - size

    @property
    def acknowledge(self) -> int:
        """The offset before which nothing is asked for again."""
        return min(self.behind.values(), default=self.end)
