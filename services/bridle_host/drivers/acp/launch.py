"""The command line of an agent that speaks the Agent Client Protocol.

Looks for the program, and starts nothing. Used by the driver `acp` only.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from bridle_host.drivers.lines.dialect import Launch

#: How those agents are installed that are known to speak it.
INSTALL: Mapping[str, str] = {
    "opencode": "npm install -g opencode-ai",
    "claude-agent-acp": "npm install -g @agentclientprotocol/claude-agent-acp",
    "codex-acp": "npm install -g @agentclientprotocol/codex-acp",
    "gemini": "npm install -g @google/gemini-cli",
    "qwen": "npm install -g @qwen-code/qwen-code",
}
#: A browser on the host is no way to log in.
ENVIRONMENT: Mapping[str, str] = {"NO_BROWSER": "1"}


def parse(command: str) -> tuple[str, ...]:
    """Raises ValueError with a line for people."""
    try:
        argv = tuple(shlex.split(command))
    except ValueError as error:
        raise ValueError(f"acp: the agent command cannot be read: {error}") from None
    if not argv:
        raise ValueError('acp: say which agent: --agent-command "opencode acp"')
    return argv


def launch(argv: Sequence[str], environment: Mapping[str, str]) -> Launch:
    """Raises ValueError with a line for people where the program is not there."""
    program = argv[0]
    if os.sep not in program and shutil.which(program, path=environment.get("PATH")) is None:
        how = INSTALL.get(PurePath(program).name)
        hint = f"; to install it: {how}" if how is not None else ""
        raise ValueError(f"acp: {program} is not on this host's PATH{hint}")
    added = {name: value for name, value in ENVIRONMENT.items() if name not in environment}
    return Launch(argv, added)
