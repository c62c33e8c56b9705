"""What an agent is told of itself, and the file of its token."""

from __future__ import annotations

import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bridle_host.dial import Control
from bridle_host.identity import (
    SessionIdentity,
    command_directory,
    session_environment,
    write_token,
)

IDENTITY = SessionIdentity(
    "127.0.0.1:7000", "default", "fix-auth", "id-1", Path("/state/token"), Path("/state/artifacts")
)


def test_an_agent_is_told_who_it_is() -> None:
    environment = session_environment({}, {}, IDENTITY, None)
    assert {name: value for name, value in environment.items() if name != "PATH"} == {
        "BRIDLE_ADDRESS": "127.0.0.1:7000",
        "BRIDLE_WORKSPACE": "default",
        "BRIDLE_SESSION": "fix-auth",
        "BRIDLE_SESSION_ID": "id-1",
        "BRIDLE_TOKEN_FILE": "/state/token",
        "BRIDLE_ARTIFACTS": "/state/artifacts",
    }


def test_no_identity_is_inherited_and_none_can_be_wished_for() -> None:
    inherited = {
        "HOME": "/home/a",
        "ANTHROPIC_API_KEY": "k",
        "BRIDLE_TOKEN_FILE": "/other",
        "BRIDLE_HOME": "/other",
        "CLAUDECODE": "1",
        "CLAUDE_CODE_ENTRYPOINT": "cli",
        "CODEX_SANDBOX": "1",
    }
    asked = {"BRIDLE_SESSION": "forged", "LANG": "C", "CODEX_HOME": "/mine"}
    environment = session_environment(inherited, asked, IDENTITY, None)
    assert environment["BRIDLE_SESSION"] == "fix-auth"
    assert environment["BRIDLE_TOKEN_FILE"] == "/state/token"
    assert (environment["HOME"], environment["ANTHROPIC_API_KEY"]) == ("/home/a", "k")
    assert (environment["LANG"], environment["CODEX_HOME"]) == ("C", "/mine")
    assert not {"BRIDLE_HOME", "CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT", "CODEX_SANDBOX"} & set(
        environment
    )


def test_what_an_agent_sets_for_its_commands_is_not_passed_on_and_settings_of_a_user_are() -> None:
    # Those that Claude Code 2.1.328 sets, and those of Codex 0.169.0.
    told_to_commands = (
        "AI_AGENT CLAUDECODE CLAUDE_CODE_CHILD_NOTES_DIR CLAUDE_CODE_CHILD_SESSION"
        " CLAUDE_CODE_ENTRYPOINT CLAUDE_CODE_EXECPATH CLAUDE_CODE_MESSAGING_SOCKET"
        " CLAUDE_CODE_MESSAGING_TOKEN CLAUDE_CODE_SESSION_ATTENDED CLAUDE_CODE_SESSION_ID"
        " CLAUDE_EFFORT CLAUDE_PID CODEX_APPLY_PATCH_PRESERVE_LINE_ENDINGS CODEX_CI"
        " CODEX_SANDBOX CODEX_SESSION_ID CODEX_THREAD_ID CODEX_TOOL_CALL_ID CODEX_VERSION"
        # And those of OpenCode 1.18.33, and of others.
        " AGENT OPENCODE OPENCODE_CLIENT OPENCODE_PID OPENCODE_TERMINAL GEMINI_CLI QWEN_CODE"
        " CURSOR_AGENT GOOSE_TERMINAL"
    )
    settings = (
        "ANTHROPIC_MODEL CLAUDE_CONFIG_DIR CLAUDE_CODE_OAUTH_TOKEN CLAUDE_CODE_USE_BEDROCK"
        " CLAUDE_CODE_MAX_OUTPUT_TOKENS CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"
        " CODEX_ACCESS_TOKEN CODEX_API_KEY CODEX_HOME OPENCODE_CONFIG OPENCODE_CONFIG_CONTENT"
        " GEMINI_API_KEY OPENAI_API_KEY OPENAI_BASE_URL AGENTS_HOME"
    )
    inherited = dict.fromkeys((*told_to_commands.split(), *settings.split()), "x")
    environment = session_environment(inherited, {}, IDENTITY, None)
    assert {name for name in environment if environment[name] == "x"} == set(settings.split())


def test_what_the_host_service_is_told_of_itself_reaches_no_agent() -> None:
    told = (
        "NOTIFY_SOCKET WATCHDOG_PID WATCHDOG_USEC LISTEN_FDS LISTEN_PID LISTEN_FDNAMES"
        " CREDENTIALS_DIRECTORY INVOCATION_ID JOURNAL_STREAM MAINPID SYSTEMD_EXEC_PID"
        " TRACEPARENT TRACESTATE"
    )
    inherited = dict.fromkeys((*told.split(), "XDG_RUNTIME_DIR"), "x")
    environment = session_environment(inherited, {}, IDENTITY, None)
    assert [name for name in environment if environment[name] == "x"] == ["XDG_RUNTIME_DIR"]
    # Who starts a session may mean it.
    wished = session_environment({}, {"NOTIFY_SOCKET": "/mine"}, IDENTITY, None)
    assert wished["NOTIFY_SOCKET"] == "/mine"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ({"PATH": "/bin"}, "/bin:/opt/bridle"),
        ({"PATH": "/opt/bridle:/bin"}, "/opt/bridle:/bin"),
        ({"PATH": ""}, "/bin:/usr/bin:/opt/bridle"),
        ({}, "/bin:/usr/bin:/opt/bridle"),
    ],
)
def test_the_command_is_found_last(path: dict[str, str], expected: str) -> None:
    assert session_environment(path, {}, IDENTITY, "/opt/bridle")["PATH"] == expected


def test_the_command_is_looked_for_beside_the_interpreter_then_in_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside, elsewhere = tmp_path / "beside", tmp_path / "elsewhere"
    for place in (beside, elsewhere):
        place.mkdir()
        (place / "bridle").write_text("#!/bin/sh\n")
        (place / "bridle").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(beside / "python"))
    monkeypatch.setenv("PATH", str(elsewhere))
    assert command_directory() == str(beside)
    (beside / "bridle").unlink()
    assert command_directory() == str(elsewhere)
    (elsewhere / "bridle").unlink()
    assert command_directory() is None


def test_a_token_is_for_its_owner_only_and_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "token"
    write_token(path, "brs_one")
    write_token(path, "brs_two")
    assert path.read_text() == "brs_two\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_token_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "token").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_token(tmp_path / "token", "brs")
    assert [path.name for path in tmp_path.iterdir()] == ["token"]


@pytest.mark.parametrize(
    ("control", "told"),
    [
        (Control("127.0.0.1:7000"), {}),
        (Control("far:7000", insecure=True), {"BRIDLE_INSECURE": "1"}),
        (Control("far:7000", ca=Path("/pki/ca.pem")), {"BRIDLE_TLS_CA": "/pki/ca.pem"}),
    ],
)
def test_an_agent_speaks_to_control_as_its_host_does(
    control: Control, told: dict[str, str]
) -> None:
    identity = replace(IDENTITY, connection=control.environment)
    inherited = {"BRIDLE_INSECURE": "1", "BRIDLE_TLS_CA": "/of/another"}
    environment = session_environment(inherited, {}, identity, None)
    found = {key: environment[key] for key in inherited if key in environment}
    assert found == told
