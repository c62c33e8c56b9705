"""What Codex does in a turn: its items as observations.

Pure. An item is begun and completed; what it is about is mostly known at its beginning, how it went
at its end. Used by the dialect only, which knows whose turn it is.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping

from bridle_core.observations import (
    Message,
    Note,
    NoteKind,
    Observation,
    Text,
    Thought,
    ToolEnded,
    ToolOutput,
    ToolStarted,
    ToolStatus,
)
from bridle_host.drivers.codex.rpc import Fields
from bridle_host.drivers.codex.standing import Call
from bridle_host.drivers.lines.dialect import UnreadableError

#: Characters of output in one observation: at most 64 KiB of UTF-8.
PIECE = 16 * 1024
#: How much of what was told of a command's output is kept, to find its place in the whole.
TAIL = 64
#: What an approval shows of a file change that is larger, in characters of JSON.
CHANGES = 2048
TITLE = 200

COMMAND, FILES, MCP = "commandExecution", "fileChange", "mcpToolCall"

#: The names that rules and people know the tools by.
SHELL, PATCH = "shell", "apply_patch"

_SHELLS = frozenset({"bash", "sh", "zsh", "dash"})

_STATUS: Mapping[str, ToolStatus] = {
    "completed": ToolStatus.SUCCEEDED,
    "failed": ToolStatus.FAILED,
    "declined": ToolStatus.DENIED,
    "interrupted": ToolStatus.CANCELLED,
}

#: One word for each of the ways in which an agent deals with its sub-agents.
_COLLAB: Mapping[str, str] = {
    "spawnAgent": "spawn_agent",
    "sendInput": "send_input",
    "resumeAgent": "resume_agent",
    "wait": "wait_agent",
    "closeAgent": "close_agent",
    "sendMessage": "send_message",
    "followupTask": "followup_task",
    "interruptAgent": "interrupt_agent",
    "listAgents": "list_agents",
}

Tool = tuple[str, Mapping[str, object], str]


def script(command: str) -> str:
    """A command as the agent wrote it, without the shell that it is wrapped into."""
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    if len(words) == 3 and words[0].rsplit("/", 1)[-1] in _SHELLS and words[1] in ("-c", "-lc"):
        return words[2]
    return command


def tool_of(item: Fields) -> Tool | None:
    """The tool, its arguments and a title, where the item is a tool call."""
    reader = _TOOLS.get(item.name("type"))
    return None if reader is None else reader(item)


def begun(item: Fields, sub: str) -> tuple[ToolStarted, Call] | None:
    """A tool call that began; None for an item of another kind."""
    tool = tool_of(item)
    if tool is None:
        return None
    name, arguments, title = tool
    started = ToolStarted(item.id("id"), name, json.dumps(arguments), title[:TITLE], sub)
    return started, Call(item.id("id"), item.name("type"), sub, changes=_changes_kept(item))


def ended(item: Fields, call: Call, *, interrupted: bool) -> Iterator[Observation]:
    """How a tool call went. interrupted: its turn is being."""
    kind = item.name("type")
    late = False
    if kind == COMMAND:
        missing, late = _missing(item.text("aggregatedOutput"), call)
        yield from output(call.id, missing)
    elif kind == MCP:
        yield from output(call.id, _mcp_output(item))
    elif kind == "dynamicToolCall":
        texts = (entry.text("text") for entry in item.each("contentItems"))
        yield from output(call.id, "\n".join(filter(None, texts)))
    elif kind == "webSearch" and item.raw("results") is not None:
        yield from output(call.id, json.dumps(item.raw("results")))
    elif kind == "collabAgentToolCall" and item.raw("agentsStates"):
        yield from output(call.id, json.dumps(item.raw("agentsStates")))
    message = "what it put out first stands last: the agent told of it at its end" if late else ""
    if (error := item.maybe("error")) is not None:
        message = error.text("message")
    status = _status(item)
    if status is ToolStatus.FAILED:  # the agent does not tell these apart
        status = ToolStatus.CANCELLED if interrupted else status
        status = ToolStatus.DENIED if call.denied else status
    yield ToolEnded(call.id, status, item.exit_code("exitCode"), message)


def output(call: str, text: str) -> Iterator[ToolOutput]:
    """Something that a tool call put out, in pieces."""
    for start in range(0, len(text), PIECE):
        yield ToolOutput(call, text[start : start + PIECE].encode("utf-8", "replace"))


def said(item: Fields, sub: str) -> Iterator[Observation]:
    """What a completed item says that is no tool call. Raises UnreadableError for the unknown."""
    kind = item.name("type")
    if kind in ("agentMessage", "plan"):
        yield Message(item.id("id"), (Text(item.text("text")),), sub_agent=sub)
    elif kind == "reasoning":
        text = "\n\n".join(filter(None, item.texts("summary") or item.texts("content")))
        if text:
            yield Thought(item.id("id"), text, sub_agent=sub)
    elif kind in ("enteredReviewMode", "exitedReviewMode"):
        if text := item.text("review"):
            yield Message(item.id("id"), (Text(text),), sub_agent=sub)
    elif kind == "contextCompaction":
        yield Note(NoteKind.AGENT_LOG, "codex has put its earlier context into fewer words")
    elif kind == "subAgentActivity":
        path, what = item.name("agentPath") or item.name("agentThreadId"), item.name("kind")
        yield Note(NoteKind.AGENT_LOG, f"sub-agent {path}: {what}")
    elif kind not in ("userMessage", "hookPrompt", "functionCallOutput"):
        raise UnreadableError(f"an item of the unknown kind {kind!r}")


def _status(item: Fields) -> ToolStatus:
    # Some kinds have no status: such an item is complete when it is told to be.
    return _STATUS.get(item.name("status") or "completed", ToolStatus.FAILED)


def _missing(whole: str, call: Call) -> tuple[str, bool]:
    """What was not told of a command's output, and whether other output was.

    Codex tells of the beginning only at the end: what a command puts out in its first tenths of a
    second comes in no delta.
    """
    if not call.told:
        return whole, False
    if len(whole) > call.told and whole.endswith(call.tail):
        return whole[: len(whole) - call.told], True
    return "", False


def _mcp_output(item: Fields) -> str:
    result = item.maybe("result")
    if result is None:
        return ""
    texts = []
    for block in result.each("content"):
        text = block.text("text") if block.raw("type") == "text" else ""
        texts.append(text or json.dumps({"type": block.raw("type")}))
    if not texts and result.raw("structuredContent") is not None:
        texts.append(json.dumps(result.raw("structuredContent")))
    return "\n".join(texts)


def _command(item: Fields) -> Tool:
    command = script(item.text("command"))
    return SHELL, {"command": command, "cwd": item.text("cwd")}, command


def _changes(item: Fields) -> list[dict[str, object]]:
    changes = []
    for change in item.each("changes"):
        kind = change.maybe("kind")
        moved = kind.text("move_path") if kind is not None else ""
        told: dict[str, object] = {
            "path": change.text("path"),
            "kind": kind.name("type") if kind is not None else "",
            "diff": change.text("diff"),
        }
        changes.append(told | ({"move_path": moved} if moved else {}))
    return changes


def _changes_kept(item: Fields) -> str:
    if item.name("type") != FILES:
        return ""
    changes = [{key: one[key] for key in one if key != "diff"} for one in _changes(item)]
    kept = json.dumps(changes)
    while len(kept) > CHANGES:
        changes = changes[: len(changes) // 2]
        kept = json.dumps([*changes, {"path": "…", "kind": "more"}])
    return kept


def _files(item: Fields) -> Tool:
    changes = _changes(item)
    title = ", ".join(str(change["path"]) for change in changes[:8])
    return PATCH, {"changes": changes}, title


def _mcp(item: Fields) -> Tool:
    server, tool = item.name("server"), item.name("tool")
    given = item.raw("arguments")
    arguments = given if isinstance(given, dict) else {"arguments": given}
    return f"mcp__{server}__{tool}", arguments, f"{server}: {tool}"


def _dynamic(item: Fields) -> Tool:
    given = item.raw("arguments")
    arguments = given if isinstance(given, dict) else {"arguments": given}
    return item.name("tool") or "tool", arguments, ""


def _collab(item: Fields) -> Tool:
    tool = item.name("tool")
    arguments = {
        "prompt": item.text("prompt"),
        "model": item.name("model"),
        "agents": item.texts("receiverThreadIds"),
    }
    told = {name: value for name, value in arguments.items() if value}
    return _COLLAB.get(tool, tool or "agents"), told, item.text("prompt")


def _search(item: Fields) -> Tool:
    query = item.text("query")
    arguments: dict[str, object] = {"query": query}
    if item.raw("action") is not None:
        arguments["action"] = item.raw("action")
    return "web_search", arguments, query


def _image(item: Fields) -> Tool:
    path = item.text("path")
    return "view_image", {"path": path}, path


def _generation(item: Fields) -> Tool:
    prompt, path = item.text("revisedPrompt"), item.text("savedPath")
    arguments = {"prompt": prompt, "path": path}
    return "image_generation", {k: v for k, v in arguments.items() if v}, path or prompt


def _sleep(item: Fields) -> Tool:
    return "sleep", {}, ""


_TOOLS: Mapping[str, Callable[[Fields], Tool]] = {
    COMMAND: _command,
    FILES: _files,
    MCP: _mcp,
    "dynamicToolCall": _dynamic,
    "collabAgentToolCall": _collab,
    "webSearch": _search,
    "imageView": _image,
    "imageGeneration": _generation,
    "sleep": _sleep,
}
