"""An agent's tool calls: from their first mention to their end.

Agents tell of a call before they know its arguments, tell the arguments with an update, and repeat
its whole content as it grows. Told on are: its begin once, with the arguments; of the output what
is new; its end. What a call shows before it runs (a description, a proposed change) is not output.

Pure. Used by the driver `acp` only.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from acp import schema

from bridle_core.observations import (
    Observation,
    Resource,
    Text,
    ToolEnded,
    ToolOutput,
    ToolStarted,
    ToolStatus,
)
from bridle_core.utf8 import clean
from bridle_host.drivers.acp.standing import (
    ARGUMENTS,
    CALLS,
    OVER,
    Call,
    Standing,
    digest,
    named,
)
from bridle_host.drivers.acp.words import content_of
from bridle_host.drivers.output import PIECE

#: Of a longer text no difference is made: that may take very long.
COMPARED = 128 * 1024
LINES = 2000
TITLE = 200

Mention = schema.ToolCall | schema.ToolCallUpdate


class Calls:
    """See the module."""

    def __init__(self, standing: Standing) -> None:
        self._at = standing
        self._calls = {call.id: call for call in standing.calls}
        self._over = list(standing.over)

    @property
    def open(self) -> tuple[Call, ...]:
        """Bounded."""
        return tuple(self._calls.values())

    @property
    def over(self) -> tuple[str, ...]:
        """The newest that are over; bounded."""
        return tuple(self._over)

    def mention(self, update: Mention, sub: str) -> Iterator[Observation]:
        """A call is told of, or something about it."""
        name = named(update.tool_call_id)
        call = self._calls.get(name)
        if call is None:
            if name in self._over:
                return
            self._make_room()
            call = Call(name, _tool(update), sub=sub)
            if isinstance(update, schema.ToolCall) and not _settled(update):
                # Its arguments come with the next word about it, if the agent has one.
                self._calls[name] = _known(call, update)
                return
        yield from self._begin(_known(call, update))
        yield from self._go_on(name, update)

    def settle(self, but: str = "") -> Iterator[Observation]:
        """The agent speaks of something else: what was held back of a call was all there is."""
        for call in self.open:
            if not call.told and call.id != but:
                yield from self._begin(call)

    def asked(self, update: Mention, sub: str) -> Iterator[Observation]:
        """The agent asks for leave to make this call. Its status then is no news."""
        name = named(update.tool_call_id)
        if name in self._over:
            return
        call = self._calls.get(name)
        if call is None:
            self._make_room()
            call = Call(name, _tool(update), sub=sub)
        yield from self._begin(_known(call, update))

    def tool(self, name: str) -> str:
        """What an open call is a call of; "" where it isn't open."""
        call = self._calls.get(name)
        return call.tool if call is not None else ""

    def deny(self, name: str) -> None:
        """Somebody said no: its failure is a denial."""
        if (call := self._calls.get(name)) is not None:
            self._calls[name] = replace(call, denied=True)

    def forget(self) -> None:
        """The turn is over; whoever keeps the order closes what is open."""
        self._calls.clear()
        self._over.clear()

    def _make_room(self) -> None:
        while len(self._calls) >= CALLS:
            self._end(next(iter(self._calls)))

    def _begin(self, call: Call) -> Iterator[Observation]:
        if not call.told:
            yield ToolStarted(
                call.id, call.tool, call.arguments or "{}", call.title, sub_agent=call.sub
            )
            call = replace(call, told=True, arguments="", title="")
        self._calls[call.id] = call

    def _go_on(self, name: str, update: Mention) -> Iterator[Observation]:
        call = self._calls[name]
        status = update.status
        if status == "in_progress" and not call.running:
            call = self._calls[name] = replace(call, running=True)
        if status not in ("completed", "failed"):
            if call.running:
                yield from self._show(call, _output(update, final=False))
            return
        yield from self._show(call, _output(update, final=True))
        code = _exit_code(update)
        end = ToolStatus.SUCCEEDED
        if status == "failed" or code:
            # Some call a command completed that failed, and a call failed that was denied.
            end = ToolStatus.DENIED if call.denied else ToolStatus.FAILED
            if self._at.interrupted and not call.denied:
                end = ToolStatus.CANCELLED
        yield ToolEnded(name, end, code)
        self._end(name)

    def _show(self, call: Call, text: str) -> Iterator[Observation]:
        """What is new of an output that is told whole each time."""
        if call.shown and digest(text[: call.shown]) == call.digest:
            new = text[call.shown :]
        else:
            new = text
        if not new:
            return
        data = clean(new).encode()
        for start in range(0, len(data), PIECE):
            yield ToolOutput(call.id, data[start : start + PIECE])
        self._calls[call.id] = replace(call, shown=len(text), digest=digest(text))

    def _end(self, name: str) -> None:
        del self._calls[name]
        self._over = [*self._over, name][-OVER:]


def _known(call: Call, update: Mention) -> Call:
    """With what an update tells, as long as its begin wasn't."""
    if call.told:
        return call
    arguments = _arguments(update)
    return replace(
        call,
        title=(update.title or call.title)[:TITLE],
        arguments=arguments if arguments != "{}" else call.arguments,
    )


def _settled(call: schema.ToolCall) -> bool:
    """Whether all is known that its begin tells."""
    if call.status not in (None, "pending"):
        return True
    raw = call.raw_input
    if isinstance(raw, Mapping):
        # Some name the directory first, and the rest later.
        return bool(raw.keys() - {"cwd"}) or len(_arguments(call)) > ARGUMENTS
    return raw is not None


def _tool(update: Mention) -> str:
    """The tool's name: the agent's own where it tells one, else the protocol's word for its kind,
    else its title. Not the title first: that names the command, and rules are made for tools."""
    meta = (update.field_meta or {}).get("claudeCode")
    name = meta.get("toolName") if isinstance(meta, Mapping) else None
    if isinstance(name, str) and name:
        return named(name)
    if update.kind is not None and update.kind != "other":
        return update.kind
    return named(update.title or "") or "other"


def _arguments(update: Mention) -> str:
    """As JSON text."""
    raw = update.raw_input
    if raw is not None and raw != {}:
        return json.dumps(raw)
    places = [place.path for place in update.locations or []]
    return json.dumps({"locations": places}) if places else "{}"


def arguments_of(update: Mention) -> str:
    """What leave is asked for, as JSON text."""
    return _arguments(update)


def shown_of(update: Mention) -> str:
    """What a call shows of itself before it runs: a description, a proposed change."""
    return "\n".join(filter(None, _contents(update)))


def _output(update: Mention, *, final: bool) -> str:
    texts = _contents(update)
    said = _said(update.raw_output)
    if said is not None and (final or not texts):
        texts = [said, *(text for text in _changes(update) if text)]
    elif not texts and update.raw_output is not None and final:
        texts = [json.dumps(update.raw_output)]
    return "\n".join(filter(None, texts))


def _said(raw: object) -> str | None:
    """The plain output among what an agent tells of it; None where there is none."""
    if isinstance(raw, str):
        return raw
    if not isinstance(raw, Mapping):
        return None
    for name in ("output", "formatted_output", "aggregated_output", "error"):
        if isinstance(text := raw.get(name), str):
            return text
    streams = [raw.get(name) for name in ("stdout", "stderr")]
    texts = [text for text in streams if isinstance(text, str)]
    return "".join(texts) if texts else None


def _exit_code(update: Mention) -> int | None:
    raw: Any = update.raw_output
    meta = update.field_meta or {}
    places = [raw, raw.get("metadata") if isinstance(raw, Mapping) else None]
    for place in (*places, meta.get("terminal_exit")):
        if not isinstance(place, Mapping):
            continue
        for name in ("exit_code", "exitCode", "exit"):
            code = place.get(name)
            if isinstance(code, int) and not isinstance(code, bool) and abs(code) < 2**31:
                return code
    return None


def _contents(update: Mention) -> list[str]:
    texts = []
    for one in update.content or []:
        if isinstance(one, schema.FileEditToolCallContent):
            texts.append(_change(one))
        elif isinstance(one, schema.ContentToolCallContent):
            texts.append(_plain(one))
    return texts


def _changes(update: Mention) -> list[str]:
    edits = [c for c in update.content or [] if isinstance(c, schema.FileEditToolCallContent)]
    return [_change(edit) for edit in edits]


def _plain(content: schema.ContentToolCallContent) -> str:
    texts = []
    for piece in content_of([content.content]):
        if isinstance(piece, Text):
            texts.append(piece.text)
        elif isinstance(piece, Resource):
            texts.append(piece.uri)
        else:
            texts.append(f"[a picture, {piece.media_type}, {len(piece.data)} bytes]")
    return "\n".join(texts)


def _change(edit: schema.FileEditToolCallContent) -> str:
    """A change of a file, as people read it."""
    old, new = edit.old_text or "", edit.new_text
    before, after = old.splitlines(), new.splitlines()
    if len(old) + len(new) > COMPARED or len(before) + len(after) > LINES:
        return f"{edit.path}: {len(before)} lines become {len(after)}"
    return "\n".join(_compared(before, after, edit.path))


def _compared(before: Sequence[str], after: Sequence[str], path: str) -> Iterator[str]:
    return difflib.unified_diff(before, after, path, path, lineterm="")
