"""The real agents that are held to the contract, and what has to be known of each.

A profile says how an agent is called and what it can do; what all of them have to do alike is in
the tests. An agent that is to be held to the contract gets a profile here, and nothing else.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from scripts.agents import Installed
from tests.agents import environment

#: Makes the agent's variables, and its files in a folder of the test's own.
Environment = Callable[[Path, str], dict[str, str]]


@dataclass(frozen=True, slots=True)
class AgentProfile:
    """How one agent is called, and what it can do.

    pins: what is installed for it (scripts/agents.py), each put on the host's PATH by its own name.
    command: the session's agent command. history: folders in the agent's home that hold its own
    conversations. live: it tells its text as it comes. thoughts, approvals, steer, native: it can.
    jobs: its shell tool can put jobs into the background; when one ends, it begins a turn itself.
    told_why: its model learns with what words a person denied a tool. sub_agent: the name of the
    tool that starts one. short: it belongs to the short form of the suite.
    """

    name: str
    agent: str
    pins: tuple[str, ...]
    environment: Environment
    history: tuple[str, ...]
    command: str = ""
    live: bool = True
    thoughts: bool = True
    approvals: bool = True
    steer: bool = False
    native: bool = True
    jobs: bool = False
    told_why: bool = False
    sub_agent: str = ""
    short: bool = False

    def forget(self, home: Path) -> None:
        """Takes from the agent what it knows of its conversations."""
        found = [home / place for place in self.history if (home / place).exists()]
        assert found, f"{self.name} keeps its conversations elsewhere: {list(home.rglob('*'))[:50]}"
        for place in found:
            shutil.rmtree(place)


CLAUDE_HISTORY = (".claude/projects", ".claude/sessions", ".claude/file-history")

PROFILES: Mapping[str, AgentProfile] = {
    profile.name: profile
    for profile in (
        AgentProfile(
            name="claude",
            agent="claude",
            pins=("claude",),
            environment=environment.claude,
            history=CLAUDE_HISTORY,
            steer=True,
            jobs=True,
            told_why=True,
            sub_agent="Agent",
            short=True,
        ),
        AgentProfile(
            name="codex",
            agent="codex",
            pins=("codex",),
            environment=environment.codex,
            history=(".codex/sessions", ".codex/archived_sessions"),
            steer=True,
            short=True,
        ),
        AgentProfile(
            name="opencode",
            agent="acp",
            command="opencode acp",
            pins=("opencode",),
            environment=environment.opencode,
            history=(".local/share/opencode",),
            short=True,
        ),
        AgentProfile(
            name="claude-agent-acp",
            agent="acp",
            command="claude-agent-acp",
            pins=("claude-agent-acp",),
            environment=environment.claude,
            history=CLAUDE_HISTORY,
            steer=True,
        ),
    )
}


#: Agents by their command line alone, a process for each turn: their tools are not told of.
BY_COMMAND = (
    AgentProfile(
        name="exec-claude",
        agent="exec",
        command="claude -p --output-format text --allowedTools=Bash"
        " [!--session-id={session}] [--resume={session}] -- {prompt}",
        pins=("claude",),
        environment=environment.claude,
        history=CLAUDE_HISTORY,
        live=False,
        thoughts=False,
        approvals=False,
    ),
    AgentProfile(
        name="exec-codex",
        agent="exec",
        command="@session=json:thread_id @text=json:item.text?item.type=agent_message"
        " codex exec --skip-git-repo-check --sandbox danger-full-access"
        " [resume {session}] --json -- {prompt}",
        pins=("codex",),
        environment=environment.codex,
        history=(".codex/sessions", ".codex/archived_sessions"),
        live=False,
        thoughts=False,
        approvals=False,
    ),
)


def by_command() -> list[AgentProfile]:
    """Those of BY_COMMAND whose agent is one that is chosen."""
    pins = {pin for profile in chosen() for pin in profile.pins}
    return [profile for profile in BY_COMMAND if pins.issuperset(profile.pins)]


def chosen() -> list[AgentProfile]:
    """Those that TEST_AGENTS names, "short" for the short form's; all of them where it is unset."""
    wanted = os.environ.get("TEST_AGENTS", "").replace(",", " ").split()
    if wanted == ["short"]:
        return [profile for profile in PROFILES.values() if profile.short]
    return [PROFILES[name] for name in wanted] if wanted else list(PROFILES.values())


def put_on_path(directory: Path, installed: Installed) -> None:
    """Makes an agent callable by its own name from a folder."""
    directory.mkdir(exist_ok=True)
    program = directory / installed.name
    if len(installed.argv) == 1:
        program.symlink_to(installed.argv[0])
    else:
        program.write_text(f'#!/bin/sh\nexec {shlex.join(installed.argv)} "$@"\n')
        program.chmod(0o755)
