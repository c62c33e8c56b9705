"""Whether Claude Code is there, and what is said where it isn't."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridle_host.drivers.base import Installation
from bridle_host.drivers.claude import launch
from bridle_host.drivers.claude.factory import ClaudeFactory
from bridle_host.drivers.registry import factories

HINT = f"install it with: npm install -g {launch.PACKAGE}@{launch.PROVEN}"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def put(programs: Path, script: str) -> None:
    program = programs / "claude"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_it_is_among_the_agents_of_a_host() -> None:
    assert isinstance(factories()["claude"], ClaudeFactory)


def test_where_it_is_missing_it_is_told_how_to_install_it(programs: Path) -> None:
    assert ClaudeFactory().probe() == Installation(False, hint=HINT)


@pytest.mark.parametrize("version", [launch.PROVEN, "2.1.1000", "3.0.0"])
def test_a_version_that_is_new_enough_is_installed(programs: Path, version: str) -> None:
    put(programs, f"echo '{version} (Claude Code)'")
    assert ClaudeFactory().probe() == Installation(True, version)


def test_an_older_version_is_told_and_not_used(programs: Path) -> None:
    put(programs, "echo '2.1.197 (Claude Code)'")
    found = ClaudeFactory().probe()
    assert (found.installed, found.version) == (False, "2.1.197")
    assert "2.1.197 is too old" in found.hint
    assert HINT in found.hint


@pytest.mark.parametrize(
    ("script", "why"),
    [("exit 1", "does not run"), ("echo hello", "is not Claude Code"), ("kill -9 $$", "not run")],
)
def test_another_program_of_that_name_is_not_used(programs: Path, script: str, why: str) -> None:
    put(programs, script)
    found = ClaudeFactory().probe()
    assert not found.installed
    assert why in found.hint
    assert HINT in found.hint
