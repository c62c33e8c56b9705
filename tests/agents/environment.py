"""What each real agent needs to run offline, against a scripted model: its variables and files.

None of them asks a host outside of loopback for anything. Everything that an agent keeps for
itself lies in `home`, a folder of the test's own; Codex refuses one under /tmp, hence `room`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.agents import cache

#: No real model knows it.
DUMMY_KEY = "sk-test-dummy"
MODEL = "lab-model"


@contextmanager
def room() -> Iterator[Path]:
    """A folder for an agent's home, not under /tmp; removed at the end."""
    base = cache().parent / "homes"
    base.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=base))
    try:
        yield made
    finally:
        # An agent that was killed may have left a process that still writes for a moment.
        shutil.rmtree(made, ignore_errors=True)


def claude(home: Path, model: str) -> dict[str, str]:
    """For Claude Code, and for the ACP adapter around it. model: the server's URL."""
    return {
        "HOME": str(home),
        "CLAUDE_CONFIG_DIR": str(home / ".claude"),
        "ANTHROPIC_API_KEY": DUMMY_KEY,
        "ANTHROPIC_BASE_URL": model,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_ERROR_REPORTING": "1",
        # The machine's own, if there is one: the adapter takes it for leave to skip permissions,
        # and the agent that it starts as root refuses just that.
        "IS_SANDBOX": "",
    }


def codex(home: Path, model: str) -> dict[str, str]:
    """For Codex: its settings are in a file, so that the command line stays the user's own."""
    settings = home / ".codex"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "config.toml").write_text(
        f"""
model = "{MODEL}"
model_provider = "lab"
check_for_update_on_startup = false

[analytics]
enabled = false

[features]
plugins = false
apps = false

[model_providers.lab]
name = "lab"
base_url = "{model}/v1"
wire_api = "responses"
env_key = "LAB_API_KEY"
request_max_retries = 2
stream_max_retries = 2
"""
    )
    return {"HOME": str(home), "CODEX_HOME": str(settings), "LAB_API_KEY": DUMMY_KEY}


def codex_acp(home: Path, model: str) -> dict[str, str]:
    """For the ACP adapter around Codex.

    In its other modes it asks a model, not the user, or hides the network from its tools.
    """
    mode = {"INITIAL_AGENT_MODE": "agent-full-access", "MODEL_PROVIDER": "lab", "NO_BROWSER": "1"}
    return codex(home, model) | mode


def opencode(home: Path, model: str) -> dict[str, str]:
    """For opencode: nothing but the scripted model is enabled, and its shell tool asks."""
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": f"{model}/v1", "apiKey": DUMMY_KEY},
        "models": {MODEL: {}},
    }
    settings = {
        "autoupdate": False,
        "share": "disabled",
        "enabled_providers": ["lab"],
        "model": f"lab/{MODEL}",
        "small_model": f"lab/{MODEL}",
        "permission": {"bash": "ask", "edit": "ask"},
        "provider": {"lab": provider},
    }
    return {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_DATA_HOME": str(home / ".local/share"),
        "XDG_STATE_HOME": str(home / ".local/state"),
        "OPENCODE_CONFIG_CONTENT": json.dumps(settings),
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
        "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    }
