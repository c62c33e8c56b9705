"""What Claude Code tells beside its work: retries, notices, tasks in the background, usage.

Pure. Used by the dialect only.
"""

from __future__ import annotations

from bridle_core.observations import Note, NoteKind, Observation, StopReason, Usage
from bridle_host.drivers.claude.state import TASK_BYTES, Ending, State, Task, Used, newest
from bridle_host.drivers.claude.wire import Fields

#: What a note or the end of a turn says, in characters.
SHOWN = 4096
#: What a task is called, in characters.
DESCRIPTION = 120

#: `system` lines of which nothing follows: they stand beside others that say it.
SILENT = frozenset(
    {
        "background_tasks_changed",
        "hook_progress",
        "hook_response",
        "hook_started",
        "files_persisted",
        "status",
        "task_progress",
        "task_updated",
        "thinking_tokens",
    }
)

#: Those that are there to be read.
NOTICES = frozenset(
    {
        "api_retry",
        "compact_boundary",
        "informational",
        "local_command_output",
        "model_refusal_fallback",
        "model_refusal_no_fallback",
        "notification",
        "permission_denied",
    }
)


def note(text: str) -> Note:
    """Something for whoever looks for a cause."""
    return Note(NoteKind.AGENT_LOG, text[:SHOWN])


def retry(fields: Fields) -> Observation:
    """The model did not answer as it should; the agent asks again."""
    status, why = fields.raw("error_status"), fields.maybe_text("error") or "unknown"
    reason = f"{why}, status {status}" if isinstance(status, int) else why
    seconds = fields.amount("retry_delay_ms") / 1000
    attempt, most = fields.count("attempt"), fields.count("max_retries")
    return note(
        f"the model's API failed ({reason}); attempt {attempt} of {most} in {seconds:.1f} s"
    )


def compacted(fields: Fields) -> Observation:
    """What was said so far was made shorter, for want of room."""
    before = fields.maybe_object("compact_metadata").count("pre_tokens")
    return note(f"the conversation was compacted; before, it had {before} tokens")


def notice(fields: Fields) -> list[Observation]:
    """A `system` line that is there to be read. Raises UnreadableError."""
    subtype = fields.name("subtype")
    if subtype == "api_retry":
        return [retry(fields)]
    if subtype == "compact_boundary":
        return [compacted(fields)]
    texts = (fields.maybe_text(name) for name in ("content", "message", "text"))
    text = next((text for text in texts if text), "")
    return [note(text)] if text else []


# --- Tasks ---------------------------------------------------------------------------------------


def task_started(fields: Fields, state: State) -> None:
    """A sub-agent or a background job begins. Raises UnreadableError."""
    task = Task(
        fields.name("task_id"),
        fields.name("tool_use_id", ""),
        fields.maybe_text("description")[:DESCRIPTION],
        state.open.name if state.open is not None else "",
        fields.flag("is_backgrounded"),
    )
    others = tuple(one for one in state.tasks if one.task_id != task.task_id)
    state.tasks = newest((*others, task), TASK_BYTES)


def task_over(fields: Fields, state: State) -> list[Observation]:
    """One is over. Of those in the foreground the tool call tells. Raises UnreadableError."""
    name = fields.name("task_id")
    task = next((one for one in state.tasks if one.task_id == name), None)
    state.tasks = tuple(one for one in state.tasks if one is not task)
    if task is None or not task.background:
        return []
    summary, status = fields.maybe_text("summary"), fields.maybe_text("status")
    told = f"{task.description}: {summary}" if task.description not in summary else summary
    return [note(f"background task {status or 'over'}: {told}")]


# --- The end of a turn ---------------------------------------------------------------------------

_LIMITS = frozenset({"max_tokens", "model_context_window_exceeded"})
_LIMITED = frozenset({"blocking_limit", "max_turns", "prompt_too_long", "rapid_refill_breaker"})


def ending(fields: Fields) -> Ending:
    """How a turn ended, as its `result` has it. An error of the API is a success with is_error."""
    subtype, terminal = fields.name("subtype"), fields.maybe_text("terminal_reason")
    failed = fields.flag("is_error")
    stopped = fields.maybe_text("stop_reason")
    message = _message(fields) if failed else ""
    if terminal.startswith("aborted"):
        return Ending(StopReason.INTERRUPTED)
    if stopped == "refusal":
        return Ending(StopReason.REFUSED, message)
    if subtype.startswith("error_max") or terminal in _LIMITED or stopped in _LIMITS:
        return Ending(StopReason.LIMIT_REACHED, message or terminal or subtype)
    if failed:
        return Ending(StopReason.FAILED, message)
    return Ending(StopReason.COMPLETED)


def _message(fields: Fields) -> str:
    errors = fields.raw("errors")
    texts = [one for one in errors if isinstance(one, str)] if isinstance(errors, list) else []
    return Fields({"told": "; ".join(texts) or fields.raw("result")}).maybe_text("told")[:SHOWN]


def usage(fields: Fields, state: State) -> list[Observation]:
    """What was used since the last `result`, added up. Raises UnreadableError.

    The agent's own totals go on over its resumes, and are lost where it was killed.
    """
    used, models = state.used, fields.named_objects("model_usage_since_last_result")
    before = (used.input, used.output, used.cached, used.cost)
    most = -1
    for name, model in models.items():
        read = model.count("inputTokens") + model.count("cacheCreationInputTokens")
        cached, written = model.count("cacheReadInputTokens"), model.count("outputTokens")
        used.input, used.cached = used.input + read + cached, used.cached + cached
        used.output += written
        used.cost += round(model.amount("costUSD") * 1_000_000)
        if written > most:
            most, used.model = written, name[:DESCRIPTION]
    if (used.input, used.output, used.cached, used.cost) == before:
        return []
    return [usage_of(used)]


def usage_of(used: Used) -> Usage:
    """As an observation."""
    return Usage(used.input, used.output, used.cached, used.cost, used.model)
