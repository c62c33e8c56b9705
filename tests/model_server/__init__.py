"""A scripted model, served over HTTP on loopback: what real agents talk to in tests.

    async with model_server() as model:
        # ANTHROPIC_BASE_URL=model.url, or an OpenAI base URL of f"{model.url}/v1"
        prompt = turn("T7", say(3), tool("sleep 300"), say(2))
        ...
        assert model.said("T7") == ["T7.1 T7.2 T7.3", "T7.4 T7.5"]
        assert "T6" in model.requests[-1].tags

It speaks Anthropic Messages, OpenAI Responses and OpenAI Chat Completions. What it answers is
written in the prompt (script.py), and follows from the request alone. By hand, with a log of what
comes in:  python -m tests.model_server --port 8123
"""

from __future__ import annotations

from tests.model_server.conversation import Entry, Request, Role
from tests.model_server.script import (
    Step,
    big,
    call,
    cut,
    error,
    gate,
    hang,
    pace,
    say,
    stop,
    text,
    think,
    tool,
    turn,
)
from tests.model_server.server import ModelServer, Reply, model_server

__all__ = [
    "Entry",
    "ModelServer",
    "Reply",
    "Request",
    "Role",
    "Step",
    "big",
    "call",
    "cut",
    "error",
    "gate",
    "hang",
    "model_server",
    "pace",
    "say",
    "stop",
    "text",
    "think",
    "tool",
    "turn",
]
