"""What Claude Code does: its tool calls, what comes of them, its plan.

Pure. A call is an `assistant` block, its result a block of a `user` line. How a call that failed
came to fail is said beside the result (`tool_result_meta`): refused by a user or a rule, stopped by
an interrupt, or by itself. Used by the dialect only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from bridle_core.observations import (
    Observation,
    OutputStream,
    Plan,
    PlanStep,
    ToolEnded,
    ToolOutput,
    ToolStarted,
    ToolStatus,
)
from bridle_core.utf8 import clean
from bridle_host.drivers.claude.state import (
    OPEN_CALLS,
    PLAN_BYTES,
    STEP_TEXT,
    PlanCall,
    Planning,
    State,
    Step,
    fitting,
)
from bridle_host.drivers.claude.wire import Fields
from bridle_host.drivers.output import Pieces

#: What is told about the end of a call, in characters.
REASON = 1024
#: What a call is called for people, in characters.
TITLE = 200

_STATES = {"pending": "PENDING", "in_progress": "IN_PROGRESS", "completed": "COMPLETED"}
_EXIT = re.compile(r"Exit code (\d{1,3})(?:\n|$)")


def started(line: Fields, block: Fields, state: State) -> list[Observation]:
    """A tool call begins. Raises UnreadableError."""
    call, tool = block.name("id"), block.name("name")
    arguments, parent = block.maybe_object("input"), line.name("parent_tool_use_id", "")
    title = arguments.maybe_text("description")[:TITLE]
    told: list[Observation] = [ToolStarted(call, tool, arguments.json(), title, parent)]
    if parent:
        return told  # a sub-agent's list is its own affair
    if tool == "TodoWrite":
        told.append(_todos(arguments))
    elif tool in set(Planning) and len(state.planning) < OPEN_CALLS:
        text = arguments.maybe_text("subject")[:STEP_TEXT]
        state.planning = (*state.planning, PlanCall(call, Planning(tool), text))
    return told


def ended(line: Fields, block: Fields, state: State) -> list[Observation]:
    """A tool call's result. Raises UnreadableError."""
    call, text = block.name("tool_use_id"), _text(block.raw("content"))
    status = _status(line, call, state) if block.flag("is_error") else ToolStatus.SUCCEEDED
    told: list[Observation] = []
    code, message = None, ""
    if status is ToolStatus.DENIED:
        message = text[:REASON]
    elif status is ToolStatus.CANCELLED:
        message = "interrupted"  # what stands there is for the model
    else:
        told += _output(line, call, text, failed=status is ToolStatus.FAILED)
        found = _EXIT.match(text) if status is ToolStatus.FAILED else None
        code = int(found[1]) if found else None
    told.append(ToolEnded(call, status, code, message))
    return told + _planned(line, call, status, state)


def served(block: Fields) -> list[Observation]:
    """The result of a tool that the model's own side ran: it stands among what the agent says."""
    call, content = block.name("tool_use_id"), block.raw("content")
    failed = isinstance(content, dict) and "error_code" in content
    told: list[Observation] = list(_pieces(call, _text(content), OutputStream.STDOUT))
    told.append(ToolEnded(call, ToolStatus.FAILED if failed else ToolStatus.SUCCEEDED))
    return told


def _status(line: Fields, call: str, state: State) -> ToolStatus:
    meta = next(
        (one for one in line.objects("tool_result_meta") if one.maybe_text("id") == call),
        Fields({}),
    )
    if meta.maybe_object("permission_decision").maybe_text("decision") == "reject":
        return ToolStatus.DENIED
    if meta.maybe_text("non_execution_kind") == "user-rejected":
        # Its word for an interrupt, too.
        interrupted = state.open is not None and state.open.interrupted
        return ToolStatus.CANCELLED if interrupted else ToolStatus.DENIED
    return ToolStatus.FAILED


def _output(line: Fields, call: str, text: str, *, failed: bool) -> Iterator[Observation]:
    raw = line.maybe_object("tool_use_result")
    out, err = raw.raw("stdout"), raw.raw("stderr")
    # A line of several results says of none of them where it went.
    alone = len(line.object("message").objects("content")) == 1
    if alone and not failed and isinstance(out, str) and isinstance(err, str) and (out or err):
        yield from _pieces(call, clean(out), OutputStream.STDOUT)
        yield from _pieces(call, clean(err), OutputStream.STDERR)
    else:
        yield from _pieces(call, text, OutputStream.STDOUT)


def _pieces(call: str, text: str, stream: OutputStream) -> Iterator[Observation]:
    pieces = Pieces()
    for piece in [*pieces.feed(text.encode()), *pieces.flush()]:
        yield ToolOutput(call, piece, stream)


def _text(content: object) -> str:
    """A result's content as text; pictures and such by their names only."""
    if isinstance(content, str):
        return clean(content)
    if content is None:
        return ""
    blocks = content if isinstance(content, list) else [content]
    texts = []
    for block in blocks:
        if isinstance(block, dict) and isinstance(block.get("text"), str):
            texts.append(block["text"])
        elif isinstance(block, dict) and isinstance(block.get("source"), dict):
            texts.append(f"[{block.get('type')}: {block['source'].get('media_type')}]")
        else:
            texts.append(json.dumps(block, ensure_ascii=False))
    return clean("\n".join(texts))


# --- The plan ------------------------------------------------------------------------------------


def _todos(arguments: Fields) -> Plan:
    """A list that comes whole with each call."""
    return Plan(
        tuple(
            PlanStep(todo.maybe_text("content"), _STATES.get(todo.maybe_text("status"), "PENDING"))
            for todo in arguments.objects("todos")
        )
    )


def _planned(line: Fields, call: str, status: ToolStatus, state: State) -> list[Observation]:
    """A list that is moved step by step: what is true of it is what the calls led to."""
    known = next((one for one in state.planning if one.tool_call_id == call), None)
    if known is None:
        return []
    state.planning = tuple(one for one in state.planning if one is not known)
    if status is not ToolStatus.SUCCEEDED:
        return []
    before, result = state.steps, line.maybe_object("tool_use_result")
    if known.tool is Planning.CREATE:
        made = result.maybe_object("task")
        text = made.maybe_text("subject")[:STEP_TEXT] or known.text
        steps = [*state.steps, Step(made.maybe_text("id")[:STEP_TEXT], text)]
    elif known.tool is Planning.LIST:
        steps = [
            Step(
                one.maybe_text("id")[:STEP_TEXT],
                one.maybe_text("subject")[:STEP_TEXT],
                _STATES.get(one.maybe_text("status"), "PENDING"),
            )
            for one in result.objects("tasks")
        ]
    else:
        steps = list(_moved(state, known, result))
    state.steps = fitting(steps, PLAN_BYTES)
    if state.steps == before:
        return []
    return [Plan(tuple(PlanStep(step.text, step.state) for step in state.steps))]


def _moved(state: State, known: PlanCall, result: Fields) -> Iterator[Step]:
    to = result.maybe_object("statusChange").maybe_text("to")
    for step in state.steps:
        if step.step_id != result.maybe_text("taskId"):
            yield step
        elif to != "deleted":
            yield Step(step.step_id, known.text or step.text, _STATES.get(to, step.state))
