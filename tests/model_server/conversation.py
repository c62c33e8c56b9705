"""What an agent asked of the model, the same for every API. Data and plain questions about it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

TURN = re.compile(r"\[\[turn ([A-Za-z0-9_-]+)\]\]")


class Role(Enum):
    """Whose an entry is."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    CALL = "call"
    RESULT = "result"


@dataclass(frozen=True, slots=True)
class Entry:
    """One piece of a conversation. call_id: of a CALL, or of the call that a RESULT is of.

    text: of a CALL its arguments as JSON.
    """

    role: Role
    text: str
    call_id: str = ""
    name: str = ""


@dataclass(frozen=True)
class Request:
    """One request to the model. tools: the schema of each tool's arguments, by its name."""

    api: str
    model: str
    stream: bool
    entries: Sequence[Entry]
    tools: Mapping[str, Mapping[str, Any]]
    body: Mapping[str, Any] = field(repr=False)

    @property
    def tags(self) -> list[str]:
        """The turns whose prompts the model sees, in order, each once."""
        found = [tag for e in self.entries if e.role is Role.USER for tag in TURN.findall(e.text)]
        return list(dict.fromkeys(found))

    @property
    def dangling(self) -> list[str]:
        """The tool calls that have no result; a real model's API refuses such a history."""
        results = {e.call_id for e in self.entries if e.role is Role.RESULT}
        return [e.call_id for e in self.entries if e.role is Role.CALL and e.call_id not in results]

    @property
    def shell(self) -> str:
        """The name of the agent's shell tool; empty where it offers none."""
        lowered = {name.lower(): name for name in self.tools}
        for known in ("bash", "shell_command", "exec_command", "shell", "local_shell"):
            if known in lowered:
                return lowered[known]
        return ""

    def said(self, role: Role) -> str:
        """All text of one role, a line for each entry."""
        return "\n".join(entry.text for entry in self.entries if entry.role is role)


def as_text(content: object) -> str:
    """The text of what APIs call content: a string, or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(as_text(part) for part in content)
    if isinstance(content, dict):
        return as_text(content.get("text") or content.get("content") or "")
    return ""
