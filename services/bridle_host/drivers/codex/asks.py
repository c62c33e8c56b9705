"""What Codex wants leave for, and how it is answered.

Pure. A request of the agent's becomes an approval; a decision becomes the answer to the request. A
request that is none of these is refused in the protocol's own words. Used by the dialect only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bridle_core.observations import ApprovalAsked, Decision
from bridle_host.drivers.codex import rpc
from bridle_host.drivers.codex.items import MCP, PATCH, SHELL, script
from bridle_host.drivers.codex.rpc import Fields
from bridle_host.drivers.codex.standing import Ask, Call

COMMAND = "item/commandExecution/requestApproval"
FILES = "item/fileChange/requestApproval"
PERMISSIONS = "item/permissions/requestApproval"
ELICITATION = "mcpServer/elicitation/request"
QUESTIONS = "item/tool/requestUserInput"

KINDS = frozenset({COMMAND, FILES, PERMISSIONS, ELICITATION, QUESTIONS})

#: What of the permissions that were asked for is kept, as JSON, in characters.
WANTED = 4096

#: Said to an agent that wants what nobody here can give.
NOT_OURS = "Bridle has no answer to this request"


@dataclass(frozen=True, slots=True)
class Asked:
    """An approval for people, and what is kept of it."""

    approval: ApprovalAsked
    ask: Ask


def asked(name: str, request: rpc.Request, calls: Sequence[Call]) -> Asked | str:
    """name: the approval's, in the session; calls: the open tool calls.

    A text, for people, where it can't be put to anybody. Raises UnreadableError.
    """
    params = request.params
    wanted, reason, about = "", params.text("reason"), params.name("itemId")
    arguments: dict[str, object]
    if request.method == COMMAND:
        tool, arguments = _command(params)
    elif request.method == FILES:
        call = next((call for call in calls if call.id == about), None)
        tool, arguments = PATCH, _files(params, call)
    elif request.method == PERMISSIONS:
        wanted = json.dumps(_permissions(params.inner("permissions")))
        if len(wanted) > WANTED:
            return "the agent wants more permissions than can be shown"
        tool = "request_permissions"
        arguments = {"permissions": json.loads(wanted), "cwd": params.text("cwd")}
    elif request.method == QUESTIONS:
        questions = [_question(question) for question in params.each("questions")]
        wanted = json.dumps([question.pop("id") for question in questions])
        if len(wanted) > WANTED:
            return "the agent asks more than can be shown"
        tool, arguments = "request_user_input", {"questions": questions}
    elif (named := _mcp_tool(params)) is not None:
        tool, arguments = named
        reason = params.text("message")
        about = next((call.id for call in reversed(calls) if call.kind == MCP), "")
    elif _has_questions(params):
        return f"the MCP server {params.name('serverName')} asks what only a form can answer"
    else:
        tool, arguments = f"mcp__{params.name('serverName')}", _elicitation(params)
    ask = Ask(
        name,
        json.dumps(request.id),
        request.method,
        params.name("threadId"),
        params.name("turnId"),
        about,
        wanted,
    )
    return Asked(ApprovalAsked(name, tool, json.dumps(arguments), reason, about), ask)


def answered(ask: Ask, decision: Decision, message: str = "") -> bytes:
    """The line that tells the agent. What is allowed always is a rule of ours, never the agent's:
    so that it can be seen and taken back, each request is allowed for itself.

    message: with leave, the answer to a question; a line for each where there are several.
    """
    allowed = decision in (Decision.ALLOW, Decision.ALLOW_ALWAYS)
    result: Mapping[str, object]
    if ask.kind == PERMISSIONS:
        granted = json.loads(ask.wanted) if allowed and ask.wanted else {}
        result = {"permissions": granted, "scope": "turn"}
    elif ask.kind == QUESTIONS:
        names = json.loads(ask.wanted) if allowed and message and ask.wanted else []
        texts = [message] if len(names) == 1 else message.split("\n")
        result = {
            "answers": {name: {"answers": [text]} for name, text in zip(names, texts, strict=False)}
        }
    elif ask.kind == ELICITATION:
        content: dict[str, object] | None = {} if allowed else None
        result = {"action": "accept" if allowed else "decline", "content": content, "_meta": None}
    else:
        result = {"decision": "accept" if allowed else "decline"}
    return rpc.answer(json.loads(ask.request), result)


def denied(request: rpc.Request) -> bytes:
    """The line for a request that is put to nobody."""
    return answered(Ask("", json.dumps(request.id), request.method, "", ""), Decision.DENY)


def _command(params: Fields) -> tuple[str, dict[str, object]]:
    arguments: dict[str, object] = {
        "command": script(params.text("command")),
        "cwd": params.text("cwd"),
    }
    # Under a name that keeps rules that allow the command as such from allowing this as well.
    network = params.maybe("networkApprovalContext")
    if network is not None:
        host = f"{network.name('protocol')}://{network.name('host')}"
        arguments["sandbox_permissions"] = {"network": host}
    elif params.raw("additionalPermissions") is not None:
        arguments["sandbox_permissions"] = params.raw("additionalPermissions")
    stdin = params.name("kind") == "writeStdin"
    return "write_stdin" if stdin else SHELL, arguments


def _permissions(wanted: Fields) -> dict[str, object]:
    """Those parts that were asked for, and no others."""
    parts = {name: wanted.raw(name) for name in ("network", "fileSystem")}
    return {name: part for name, part in parts.items() if part is not None}


def _files(params: Fields, call: Call | None) -> dict[str, object]:
    arguments: dict[str, object] = {}
    if call is not None and call.changes:
        changes = arguments["changes"] = json.loads(call.changes)
        if len(changes) == 1:
            arguments["path"] = changes[0]["path"]  # what a rule can be about
    if root := params.text("grantRoot"):
        arguments["grant_root"] = root
    return arguments


def _question(question: Fields) -> dict[str, object]:
    told: dict[str, object] = {name: question.text(name) for name in ("id", "header", "question")}
    options = [
        {"label": option.text("label"), "description": option.text("description")}
        for option in question.each("options")
    ]
    return told | ({"options": options} if options else {})


def _mcp_tool(params: Fields) -> tuple[str, dict[str, object]] | None:
    """The tool that an MCP server is to be let run: Codex asks for that in the words in which such
    a server itself asks something.
    """
    meta = params.maybe("_meta")
    if meta is None or meta.raw("codex_approval_kind") != "mcp_tool_call":
        return None
    given = meta.raw("tool_params")
    arguments = given if isinstance(given, dict) else {"arguments": given}
    return f"mcp__{params.name('serverName')}__{meta.name('tool_name')}", arguments


def _has_questions(params: Fields) -> bool:
    """Whether saying yes is not enough."""
    schema = params.maybe("requestedSchema")
    return schema is not None and bool(schema.raw("required"))


def _elicitation(params: Fields) -> dict[str, object]:
    told = {name: params.text(name) for name in ("message", "url", "title", "description")}
    return {name: text for name, text in told.items() if text}
