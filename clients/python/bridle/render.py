"""Events as people read them: a few lines of plain text each, every field made harmless.

A `Renderer` is fed the events of one session in order and returns lines, without newlines, that may
be printed as they are. It keeps what an output of a tool left unfinished, since outputs are cut
where they happened to be read. Prints nothing. Called by the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bridle.approvals import rule_text
from bridle.terminal import Cleaner, clean_line, clean_text, decode, paint

if TYPE_CHECKING:
    from bridle.v1 import content_pb2, event_pb2, principal_pb2

#: An unfinished line that grows longer than this is shown in pieces.
LINE_CAP = 16_384
#: Of the arguments of a call that is asked for, so many characters are shown.
CALL_CAP = 1000
#: The gutter of lines that belong to the event above: as wide as number and time.
_INDENT = " " * 15
Lines = list[tuple[str, str]]  # text, style


def enum_name(message: Any, field: str) -> str:
    """The value of an enum field in the contract's words: "TURN_INTERRUPTED", or its number."""
    descriptor = message.DESCRIPTOR.fields_by_name[field].enum_type
    value = getattr(message, field)
    found = descriptor.values_by_number.get(value)
    if found is None:
        return str(value)
    prefix = descriptor.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return str(found.name.removeprefix(prefix))


def content_text(content: Iterable[content_pb2.Content]) -> str:
    """What pieces of content say, not yet harmless; pictures and references by name."""
    return "\n".join(_piece(item) for item in content)


def _piece(item: content_pb2.Content) -> str:
    kind = item.WhichOneof("kind")
    if kind == "text":
        return item.text
    if kind == "image":
        return f"[image {item.image.media_type}, {len(item.image.data)} bytes]"
    if kind == "resource":
        return f"[{item.resource.title or 'resource'} {item.resource.uri}]"
    return "[unknown content]"


def call_text(asked: event_pb2.ApprovalRequested) -> str:
    """What an agent asks leave for, in one harmless line; the end of long arguments is left out."""
    arguments = clean_line(asked.arguments_json)
    if len(arguments) > CALL_CAP:
        arguments = f"{arguments[:CALL_CAP]}… ({len(asked.arguments_json.encode())} bytes)"
    return f"{clean_line(asked.tool)} {arguments}".strip()


def principal_name(principal: principal_pb2.Principal) -> str:
    """Who it was, in one harmless line; empty where nobody is named."""
    return clean_line(principal.name or principal.id)


def clock(seconds: float) -> str:
    """A Unix time as the local time of day, HH:MM:SS."""
    try:
        return f"{datetime.fromtimestamp(seconds).astimezone():%H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return "--:--:--"  # a host may send any number


class Renderer:
    """Turns the events of one session into lines.

    colour: whether lines may hold our own colours. phases: whether events that only tell how the
    machine moves (PhaseChanged, InputConsumed) are shown. gutter: whether each event begins with
    its sequence and its time of day.
    """

    def __init__(self, *, colour: bool = False, phases: bool = True, gutter: bool = True) -> None:
        self._colour = colour
        self._phases = phases
        self._gutter = gutter
        # By tool call and stream: the cleaner with its state, and the line that is not finished.
        # Emptied at the end of each call and of each turn, and so bounded by the open calls.
        self._cleaners: dict[tuple[str, int], Cleaner] = {}
        self._unfinished: dict[tuple[str, int], str] = {}

    def lines(self, event: event_pb2.Event) -> list[str]:
        """The lines of the next event; none where it is not shown."""
        kind = event.WhichOneof("kind")
        if kind == "tool_call_output":
            return self._output(event.tool_call_output)
        shown = self.flush()
        if kind in ("tool_call_ended", "turn_ended", "session_ended"):
            self._forget(event.tool_call_ended.tool_call_id if kind == "tool_call_ended" else None)
        if kind in ("phase_changed", "input_consumed") and not self._phases:
            return shown
        if kind is None:
            described: Lines = [("an event of a kind that this release doesn't know", "dim")]
        else:
            described = _DESCRIBE[kind](event, getattr(event, kind))
        return shown + self._laid_out(event, described)

    def flush(self) -> list[str]:
        """The lines that outputs left unfinished, as far as they go."""
        left = self._unfinished
        self._unfinished = {}
        return [self._output_line(key[1], text) for key, text in left.items() if text]

    def unfinished(self) -> str:
        """The newest unfinished line of output, harmless; for a live display."""
        return next(reversed(self._unfinished.values()), "")

    def _forget(self, tool_call_id: str | None) -> None:
        for key in [key for key in self._cleaners if tool_call_id in (None, key[0])]:
            del self._cleaners[key]

    def _output(self, output: event_pb2.ToolCallOutput) -> list[str]:
        text = output.text if output.WhichOneof("output") == "text" else decode(output.data)
        key = (output.tool_call_id, output.stream)
        # The other stream's unfinished line stands before this one's.
        shown = [
            self._output_line(other[1], self._unfinished.pop(other))
            for other in [other for other in self._unfinished if other != key]
        ]
        cleaner = self._cleaners.setdefault(key, Cleaner())
        *whole, rest = (self._unfinished.pop(key, "") + cleaner.feed(text)).split("\n")
        if len(rest) > LINE_CAP:
            whole.append(rest)
            rest = ""
        if rest:
            self._unfinished[key] = rest
        return shown + [self._output_line(output.stream, line) for line in whole]

    def _output_line(self, stream: int, line: str) -> str:
        # 2 is OUTPUT_STREAM_STDERR.
        mark, style = ("! ", "red") if stream == 2 else ("| ", "")
        indent = _INDENT if self._gutter else "  "
        return indent + paint(mark, "dim", self._colour) + paint(line, style, self._colour)

    def _laid_out(self, event: event_pb2.Event, described: Lines) -> list[str]:
        if not self._gutter:
            return [paint(text, style, self._colour) for text, style in described]
        gutter = paint(f"{event.sequence:>5} {clock(event.time.seconds)} ", "dim", self._colour)
        agent = f"({clean_line(event.sub_agent)}) " if event.sub_agent else ""
        (first, style), *more = described
        return [
            gutter + paint(agent + first, style, self._colour),
            *(_INDENT + paint(text, style, self._colour) for text, style in more),
        ]


# --- one function for each kind of event -------------------------------------------------------


def _block(mark: str, text: str, style: str) -> Lines:
    """A text of several lines, each behind the mark's width."""
    first, *more = clean_text(text).rstrip("\n").split("\n")
    return [(mark + first, style), *((" " * len(mark) + line, style) for line in more)]


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _behind(text: str, note: str) -> str:
    """`text: note`, the note made harmless and left out where empty."""
    return f"{text}: {clean_line(note)}" if note else text


def _opened(word: str, message: Any) -> str:
    agent = clean_line(f"{message.agent} {message.agent_version}".strip())
    where = clean_line(message.directory)
    containment = clean_line(message.containment)
    return f"session {word}: {agent} in {where}" + (f" ({containment})" if containment else "")


def _session_started(_: event_pb2.Event, message: event_pb2.SessionStarted) -> Lines:
    return [(_opened("started", message), "bold")]


def _session_resumed(_: event_pb2.Event, message: event_pb2.SessionResumed) -> Lines:
    first = (f"{_opened('resumed', message)}, {enum_name(message, 'mode')}", "bold")
    return [first, *((f"lost: {clean_line(item)}", "yellow") for item in message.lost)]


def _process_started(_: event_pb2.Event, message: event_pb2.ProcessStarted) -> Lines:
    text = f"process {message.pid} started"
    if message.replacement:
        text += f" in place of one that was killed, {enum_name(message, 'mode')}"
    return [(text, "dim"), *((f"lost: {clean_line(item)}", "yellow") for item in message.lost)]


def _turn_started(event: event_pb2.Event, message: event_pb2.TurnStarted) -> Lines:
    by_itself = enum_name(message, "trigger") == "AGENT"
    return [(f"turn {event.turn} started" + (" by the agent itself" if by_itself else ""), "bold")]


def _turn_ended(event: event_pb2.Event, message: event_pb2.TurnEnded) -> Lines:
    reason = enum_name(message, "stop_reason")
    text = f"turn {event.turn} ended: {reason}"
    if message.HasField("exit_code"):
        text += f", exit code {message.exit_code}"
    style = {"COMPLETED": "bold green", "INTERRUPTED": "bold yellow"}.get(reason, "bold red")
    return [(_behind(text, message.message), style)]


def _artifacts_reported(_: event_pb2.Event, message: event_pb2.ArtifactsReported) -> Lines:
    first = (f"artifacts: {len(message.artifacts)}, turns: {message.turns}", "")
    listed = [
        (f"{clean_line(item.name)} ({item.size} bytes)", "cyan") for item in message.artifacts
    ]
    told = [(line, "") for line in left_behind(message)]
    return [first, *listed, *told]


def left_behind(report: event_pb2.ArtifactsReported) -> list[str]:
    """What a report tells beside the artifacts: what git says, and what was used; clean lines."""
    lines = []
    if report.HasField("git"):
        git = report.git
        place = clean_line(git.branch) or "no branch"
        lines.append(
            f"git: {place} at {clean_line(git.head)[:12] or 'no commit'},"
            f" {git.commit_count} new commits, {git.file_count} changed files"
            f" (+{git.insertions} -{git.deletions})"
        )
        lines += [
            f"  {clean_line(each.id)[:12]} {clean_line(each.subject)}" for each in git.commits
        ]
        lines += [f"  {_change(file)}  {clean_line(file.path)}" for file in git.files]
    if report.HasField("usage"):
        lines.append(f"used in all: {_used(report.usage)}")
    return lines


def _change(file: event_pb2.GitFile) -> str:
    if file.untracked:
        return "untracked"
    if not file.HasField("insertions"):
        return "binary"
    return f"+{file.insertions} -{file.deletions}"


def _process_exited(_: event_pb2.Event, message: event_pb2.ProcessExited) -> Lines:
    how = ""
    if message.HasField("exit_code"):
        how = f" with {message.exit_code}"
    elif message.HasField("signal"):
        how = f" by signal {message.signal}"
    return [(f"process {message.pid} exited{how}" + (", killed" if message.killed else ""), "dim")]


def _session_ended(_: event_pb2.Event, message: event_pb2.SessionEnded) -> Lines:
    phase = enum_name(message, "phase")
    text = f"session ended: {phase}, {enum_name(message, 'reason')}"
    if message.swept:
        text += f", {message.swept} more processes killed"
    if not message.verified:
        text += ", nobody saw its processes end"
    return [(_behind(text, message.message), "bold red" if phase == "FAILED" else "bold")]


def _phase_changed(_: event_pb2.Event, message: event_pb2.PhaseChanged) -> Lines:
    # The field is called `from`, which Python can't write.
    return [(f"phase {enum_name(message, 'from')} -> {enum_name(message, 'to')}", "dim")]


def _input_queued(event: event_pb2.Event, message: event_pb2.InputQueued) -> Lines:
    mode = enum_name(message, "mode")
    mark = "> " if mode in ("QUEUE", "UNSPECIFIED") else f"> ({mode}) "
    who = principal_name(event.principal)
    lines = _block(mark, content_text(message.content), "cyan")
    first, style = lines[0]
    return [(first + (f"  [{who}]" if who else ""), style), *lines[1:]]


def _input_consumed(event: event_pb2.Event, message: event_pb2.InputConsumed) -> Lines:
    how = "steered into" if message.steered else "consumed by"
    return [(f"input {clean_line(message.input_id)} {how} turn {event.turn}", "dim")]


def _input_cancelled(_: event_pb2.Event, message: event_pb2.InputCancelled) -> Lines:
    text = f"input {clean_line(message.input_id)} cancelled: {enum_name(message, 'reason')}"
    return [(text, "yellow")]


def _queue_held(_: event_pb2.Event, __: event_pb2.QueueHeld) -> Lines:
    return [("queue HELD", "yellow")]


def _queue_released(_: event_pb2.Event, __: event_pb2.QueueReleased) -> Lines:
    return [("queue OPEN", "")]


def _agent_message(_: event_pb2.Event, message: event_pb2.AgentMessage) -> Lines:
    lines = _block("", content_text(message.content), "")
    return [*lines, ("(cut off)", "yellow")] if message.partial else lines


def _agent_thought(_: event_pb2.Event, message: event_pb2.AgentThought) -> Lines:
    return _block("~ ", message.text, "dim")


def _tool_call_started(_: event_pb2.Event, message: event_pb2.ToolCallStarted) -> Lines:
    what = message.title or message.arguments_json[:200]
    return [(f"{clean_line(message.tool)}: {clean_line(what)}", "magenta")]


def _tool_call_ended(_: event_pb2.Event, message: event_pb2.ToolCallEnded) -> Lines:
    status = enum_name(message, "status")
    text = f"tool {status}"
    if message.HasField("exit_code"):
        text += f", exit code {message.exit_code}"
    return [(_behind(text, message.message), "dim" if status == "SUCCEEDED" else "yellow")]


def _plan_updated(_: event_pb2.Event, message: event_pb2.PlanUpdated) -> Lines:
    marks = {"COMPLETED": "[x]", "IN_PROGRESS": "[~]"}
    steps = [
        (f"{marks.get(enum_name(entry, 'state'), '[ ]')} {clean_line(entry.text)}", "")
        for entry in message.entries
    ]
    return [("plan", "bold"), *steps]


def _approval_requested(_: event_pb2.Event, message: event_pb2.ApprovalRequested) -> Lines:
    text = f"approval {clean_line(message.approval_id)} wanted: {call_text(message)}"
    return [(_joined(text, clean_line(message.reason)), "bold yellow")]


def _approval_resolved(event: event_pb2.Event, message: event_pb2.ApprovalResolved) -> Lines:
    text = f"approval {clean_line(message.approval_id)}: {enum_name(message, 'decision')}"
    who = principal_name(event.principal)
    first = (_behind(text + (f" by {who}" if who else ""), message.message), "yellow")
    if enum_name(message, "decision") != "ALLOW_ALWAYS" or not message.HasField("rule"):
        return [first]
    return [first, (f"allowed from now on: {clean_line(rule_text(message.rule))}", "yellow")]


def _usage_reported(_: event_pb2.Event, message: event_pb2.UsageReported) -> Lines:
    return [(f"usage: {_used(message)}", "dim")]


def _used(usage: event_pb2.UsageReported) -> str:
    cost = ""
    if usage.HasField("cost_micro_usd"):
        cost = f"{usage.cost_micro_usd / 1e6:.4f} USD"
    tokens = f"{usage.input_tokens} tokens in, {usage.output_tokens} out"
    return _joined(tokens, cost, clean_line(usage.model))


def _diagnostic(_: event_pb2.Event, message: event_pb2.Diagnostic) -> Lines:
    text = enum_name(message, "kind")
    if message.bytes_dropped:
        text += f", {message.bytes_dropped} bytes left out"
    return [(_behind(text, message.message), "yellow")]


def _host_lost(_: event_pb2.Event, __: event_pb2.HostLost) -> Lines:
    return [("the link to the host is down", "red")]


def _host_returned(_: event_pb2.Event, __: event_pb2.HostReturned) -> Lines:
    return [("the link to the host is up again", "green")]


_FUNCTIONS: Sequence[Callable[[event_pb2.Event, Any], Lines]] = (
    _session_started,
    _session_resumed,
    _process_started,
    _turn_started,
    _turn_ended,
    _artifacts_reported,
    _process_exited,
    _session_ended,
    _phase_changed,
    _input_queued,
    _input_consumed,
    _input_cancelled,
    _queue_held,
    _queue_released,
    _agent_message,
    _agent_thought,
    _tool_call_started,
    _tool_call_ended,
    _plan_updated,
    _approval_requested,
    _approval_resolved,
    _usage_reported,
    _diagnostic,
    _host_lost,
    _host_returned,
)
#: By the name of the field of Event.kind, which is each function's own name.
_DESCRIBE = {function.__name__[1:]: function for function in _FUNCTIONS}
