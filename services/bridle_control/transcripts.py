"""A session's log as a transcript, for the agent that goes on with it in another process.

Reads the newest of the log, backwards, and no more of it than fits; on a snapshot, beside the
writer. `bridle_core.transcript` says how it is rendered. Called by the verbs that open a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from bridle.v1 import content_pb2, event_pb2, input_pb2
from bridle_control.render import principal_of
from bridle_control.store.api import ReadTx, SessionRow
from bridle_control.store.event_bytes import unframe
from bridle_core import transcript
from bridle_core.errors import BridleError, Reason
from bridle_core.transcript import Calls, Entry, Transcript

#: What is read of a log at most: what tools put out is read, though little of it is kept.
EVENTS_MAX = 50_000
BYTES_MAX = 16 * 1024 * 1024
_PAGE = 1000
_PAGE_BYTES = 512 * 1024

_KINDS = (
    event_pb2.EVENT_KIND_INPUT_CONSUMED,
    event_pb2.EVENT_KIND_AGENT_MESSAGE,
    event_pb2.EVENT_KIND_TOOL_CALL_STARTED,
    event_pb2.EVENT_KIND_TOOL_CALL_OUTPUT,
    event_pb2.EVENT_KIND_TOOL_CALL_ENDED,
    event_pb2.EVENT_KIND_TURN_ENDED,
)


def of_session(tx: ReadTx, row: SessionRow, cap: int) -> Transcript:
    """What was said in a session, at most `cap` bytes of it.

    Where an event is damaged, what stands before it is left out: it ends nothing but itself.
    """
    reading = _Backwards(tx, row)
    size, seen, before = 0, 0, 0
    missing = "the older part of the conversation"
    while size < cap and seen < EVENTS_MAX and reading.read < BYTES_MAX:
        try:
            found = tx.events(
                row.session_id,
                before,
                kinds=_KINDS,
                descending=True,
                limit=_PAGE,
                max_bytes=_PAGE_BYTES,
            )
        except BridleError as error:
            if error.reason is not Reason.LOG_CORRUPT:
                raise
            missing = "what was said before a part of the log that is damaged"
            break
        for framed in found.framed:
            size += reading.take(unframe(framed))
        seen += len(found.framed)
        if not found.more:
            floor = row.floor_sequence
            kept = f"what was said before event {floor}, which is no longer kept"
            missing = kept if floor > 1 else ""
            break
        before = found.scanned
    return transcript.render(reversed(reading.entries), cap, before=missing)


class _Backwards:
    """Entries of events that are read from the newest to the oldest."""

    def __init__(self, tx: ReadTx, row: SessionRow) -> None:
        self._tx = tx
        self._row = row
        self._calls = Calls()
        self._ends: dict[str, str] = {}
        #: The newest first.
        self.entries: list[Entry] = []
        #: Bytes of events.
        self.read = 0

    def take(self, data: bytes) -> int:
        """Takes an event; the bytes that it comes to in the transcript."""
        self.read += len(data)
        entry = self._entry(event_pb2.Event.FromString(data))
        if entry is None:
            return 0
        self.entries.append(entry)
        return len(entry.head) + len(entry.text.encode())

    def _entry(self, event: event_pb2.Event) -> Entry | None:
        kind, turn = event.WhichOneof("kind"), event.turn
        if kind == "agent_message":
            message = event.agent_message
            text = _text(message.content)
            told = transcript.said(turn, text, sub_agent=event.sub_agent, partial=message.partial)
            return told if text else None
        if kind == "input_consumed":
            return self._asked(turn, event.input_consumed.input_id)
        if kind == "tool_call_ended":
            ended = event.tool_call_ended
            word = _name(event_pb2.ToolCallStatus.Name, ended.status, "TOOL_CALL_STATUS_")
            self._ends[ended.tool_call_id] = word
        elif kind == "tool_call_output":
            output = event.tool_call_output
            data = output.data or output.text.encode()
            self._calls.put(output.tool_call_id, data, front=True)
        elif kind == "tool_call_started":
            call = event.tool_call_started
            put_out, cut = self._calls.take(call.tool_call_id)
            outcome = self._ends.pop(call.tool_call_id, "")
            return transcript.ran(turn, call.tool, call.arguments_json, put_out, outcome, cut=cut)
        elif kind == "turn_ended":
            reason = event.turn_ended.stop_reason
            if reason != event_pb2.STOP_REASON_COMPLETED:
                name = _name(event_pb2.StopReason.Name, reason, "STOP_REASON_")
                return transcript.ended(turn, name)
        return None

    def _asked(self, turn: int, input_id: str) -> Entry | None:
        row = self._tx.input(input_id)
        if row is None or row.session_id != self._row.session_id:
            return None
        who = principal_of(row.principal)
        text = _text(input_pb2.Input.FromString(row.content).content)
        return transcript.asked(turn, who.name or who.id, text)


def _text(content: Iterable[content_pb2.Content]) -> str:
    """What pieces of content say; pictures and references by what they are."""
    said = []
    for piece in content:
        if piece.HasField("text"):
            said.append(piece.text)
        elif piece.HasField("image"):
            said.append(f"(a picture, {piece.image.media_type})")
        elif piece.HasField("resource"):
            said.append(f"({piece.resource.title} {piece.resource.uri})")
    return "\n".join(said)


def _name(of: Callable[[Any], str], value: int, prefix: str) -> str:
    """A word of the contract; "" for one that a newer host knows."""
    try:
        return of(value).removeprefix(prefix)
    except ValueError:
        return ""
