"""How `codex` is called, by an agent command and without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridle_host.drivers.codex import HINT, CodexFactory, launch
from tests.bridle_host.drivers.codex.playing import PROJECT


def argv(command: str, **environment: str) -> list[str]:
    return list(launch.launch(launch.parse(command), environment).argv)


def settings(words: list[str]) -> dict[str, str]:
    pairs = [words[i + 1] for i, word in enumerate(words) if word == "-c"]
    return dict(pair.partition("=")[::2] for pair in pairs)


def test_without_a_command_codex_asks_about_everything_and_writes_in_its_directory() -> None:
    assert launch.thread(launch.parse(""), PROJECT) == {
        "cwd": PROJECT,
        "approvalPolicy": "untrusted",
        "approvalsReviewer": "user",
        "sandbox": "workspace-write",
    }
    words = argv("", BRIDLE_ARTIFACTS='/home/a "b"')
    assert words[:2] == ["codex", "app-server"]
    assert settings(words) == {
        "features.unbounded_connection_retries": "false",
        "check_for_update_on_startup": "false",
        "analytics.enabled": "false",
        "allow_login_shell": "false",
        "sandbox_workspace_write.network_access": "true",
        "sandbox_workspace_write.writable_roots": '["/home/a \\"b\\""]',
    }


@pytest.mark.parametrize(
    ("command", "program", "flags"),
    [
        ("codex", ["codex"], []),
        ("/opt/codex --disable apps", ["/opt/codex"], ["--disable", "apps"]),
        ("node /opt/codex.js -c a=1", ["node", "/opt/codex.js"], ["-c", "a=1"]),
        ("npx -y codex app-server -c a=1", ["npx", "-y", "codex"], ["-c", "a=1"]),
        ("-c 'a=\"b c\"'", ["codex"], ["-c", 'a="b c"']),
        ("app-server", ["codex"], []),
    ],
)
def test_what_the_command_says_of_the_program_and_its_flags_has_the_last_word(
    command: str, program: list[str], flags: list[str]
) -> None:
    words = argv(command)
    at = words.index("app-server")
    assert words[:at] == program
    assert words[len(words) - len(flags) :] == flags


@pytest.mark.parametrize(
    ("command", "sandbox", "policy", "model"),
    [
        ("codex -s read-only", "read-only", "untrusted", ""),
        ("codex --sandbox=danger-full-access -a never", "danger-full-access", "never", ""),
        ("codex --ask-for-approval on-request -m gpt-x", "workspace-write", "on-request", "gpt-x"),
        ("codex --yolo", "danger-full-access", "never", ""),
        ("codex --dangerously-bypass-approvals-and-sandbox", "danger-full-access", "never", ""),
    ],
)
def test_the_flags_of_codex_for_sandbox_approvals_and_model_are_told_to_the_thread(
    command: str, sandbox: str, policy: str, model: str
) -> None:
    made = launch.thread(launch.parse(command), PROJECT)
    assert (made["sandbox"], made["approvalPolicy"]) == (sandbox, policy)
    assert made.get("model", "") == model
    assert argv(command)[-1].startswith("sandbox_workspace_write")


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("codex 'x", "cannot be read"),
        ("codex -s", "needs a value"),
        ("codex -s everything", "is none of read-only, workspace-write"),
        ("codex -a sometimes", "is none of untrusted"),
        ("codex app-server --listen=off", "--listen is Bridle's own"),
    ],
)
def test_a_command_that_can_t_be_is_refused_with_a_line_for_people(command: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"^codex: .*{why}"):
        launch.parse(command)


def program(directory: Path, script: str) -> None:
    made = directory / "codex"
    made.write_text(f"#!/bin/sh\n{script}\n")
    made.chmod(0o755)


def test_an_installed_codex_is_found_with_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, 'test "$1" = --version && echo codex-cli 0.169.0')
    monkeypatch.setenv("PATH", str(tmp_path))
    found = CodexFactory().probe()
    assert (found.installed, found.version) == (True, "0.169.0")


@pytest.mark.parametrize("script", [None, "exit 1"])
def test_a_missing_or_broken_codex_is_told_with_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None
) -> None:
    if script is not None:
        program(tmp_path, script)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = CodexFactory().probe()
    assert not found.installed
    assert found.hint.endswith(HINT)
