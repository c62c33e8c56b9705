"""What was said in a run, kept for an agent that has to take another's place within it.

Fed by the live run with what it writes into the log; asked by the driver, when an agent was killed
and the next one can't take its conversation up again. Bounded: the newest is kept. What a turn came
to is written down at its end, by the live run, for the next process of the host; of the turn that
was open when a host process died, what was said before is missing.

Touches no file, renders nothing before it is asked.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from bridle_core import effects as core
from bridle_core import observations as seen
from bridle_core import transcript
from bridle_core.effects import Emit
from bridle_core.transcript import Calls, Entry, Transcript

#: What is kept, in characters of text: more than is ever rendered.
KEPT = 2 * transcript.CAP

_MAKERS: Mapping[str, Callable[..., Entry]] = {
    "asked": transcript.asked,
    "said": transcript.said,
    "ran": transcript.ran,
    "ended": transcript.ended,
}


class Keeper:
    """See the module. `before` is what was said in the runs before."""

    def __init__(self, before: Transcript | None = None) -> None:
        self._before = before or Transcript()
        self._items: deque[tuple[str, dict[str, Any]]] = deque()
        self._size = 0
        self._dropped = False
        #: What was added since `fresh` was asked for.
        self._fresh: list[bytes] = []
        self._calls = Calls()
        self._started: dict[str, seen.ToolStarted] = {}

    # --- what happens ---

    def note(self, emit: Emit, content: Mapping[str, tuple[seen.Content, ...]]) -> None:
        """Takes what is written into the log; `content` is what the inputs say, by their ids."""
        event, turn = emit.event, emit.turn
        if isinstance(event, seen.ToolOutput):
            self._calls.put(event.tool_call_id, event.data)
        elif isinstance(event, seen.Message):
            if text := _text(event.content):
                more = {"sub_agent": event.sub_agent, "partial": event.partial}
                self._add("said", turn=turn, text=text, **more)
        elif isinstance(event, seen.ToolStarted):
            arguments = event.arguments_json[: 2 * transcript.ARGUMENTS + 1]
            self._started[event.tool_call_id] = replace(event, arguments_json=arguments)
        elif isinstance(event, seen.ToolEnded):
            self._ran(turn, event)
        elif isinstance(event, core.InputConsumed):
            who = emit.principal.name or emit.principal.id if emit.principal else ""
            said = _text(content.get(event.input_id, ()))
            self._add("asked", turn=turn, who=who, text=said)
        elif isinstance(event, core.TurnEnded):
            self._started.clear()
            if event.stop_reason is not seen.StopReason.COMPLETED:
                self._add("ended", turn=turn, reason=str(event.stop_reason))

    def _ran(self, turn: int, event: seen.ToolEnded) -> None:
        started = self._started.pop(event.tool_call_id, None)
        output, cut = self._calls.take(event.tool_call_id)
        if started is not None:
            self._add(
                "ran",
                turn=turn,
                tool=started.tool,
                arguments_json=started.arguments_json,
                output=output,
                outcome=str(event.status),
                cut=cut,
            )

    def _add(self, kind: str, **told: Any) -> None:
        text = told.get("text", "")
        if len(text) > 2 * transcript.SAID:
            told["text"] = text[: transcript.SAID] + text[-transcript.SAID :]
        self._fresh.append(json.dumps((kind, told), separators=(",", ":")).encode() + b"\n")
        self._put(kind, told)

    def _put(self, kind: str, told: dict[str, Any]) -> None:
        self._items.append((kind, told))
        self._size += _size(told)
        while self._size > KEPT:
            _, gone = self._items.popleft()
            self._size -= _size(gone)
            self._dropped = True

    # --- what is asked ---

    def transcript(self) -> Transcript:
        """What was said in the session until now."""
        missing = "the older part of the run's conversation" if self._dropped else ""
        own = transcript.render((_MAKERS[k](**told) for k, told in self._items), before=missing)
        left_out = (*self._before.left_out, *own.left_out)
        if not (self._before.text and own.text):
            return Transcript(self._before.text or own.text, left_out)
        return Transcript(f"{self._before.text}\n{own.text}", left_out)

    # --- for the next process of the host ---

    def fresh(self) -> bytes:
        """What was added since this was asked last: lines that belong behind the earlier ones."""
        lines, self._fresh = self._fresh, []
        return b"".join(lines)

    def load(self, lines: bytes) -> None:
        """Takes up what another process kept. Lines that can't be read are left out: a file that
        was cut, or that its owner's disk had no room for."""
        for line in lines.splitlines():
            try:
                kind, told = json.loads(line)
                _MAKERS[kind](**told)
            except (ValueError, TypeError, KeyError, AttributeError):
                self._dropped = True
                continue
            self._put(kind, told)


def _size(told: Mapping[str, Any]) -> int:
    return 64 + sum(len(value) for value in told.values() if isinstance(value, str))


def _text(content: tuple[seen.Content, ...]) -> str:
    """What pieces of content say; pictures and references by what they are."""
    said = []
    for piece in content:
        match piece:
            case seen.Text():
                said.append(piece.text)
            case seen.Image():
                said.append(f"(a picture, {piece.media_type})")
            case seen.Resource():
                said.append(f"({piece.title} {piece.uri})")
    return "\n".join(said)
