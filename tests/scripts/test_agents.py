"""The installer of pinned agents, with a program in the place of npm that does what npm does."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from scripts import agents
from scripts.agents import PINS, Missing, install

PIN = PINS["claude"]

NPM = """#!/bin/sh
echo called >> {calls}
{fails}
while [ "$1" != --prefix ]; do shift; done
program="$2/node_modules/{program}"
mkdir -p "$(dirname "$program")"
printf '#!/bin/sh\\necho "{says} (Claude Code)"\\n' > "$program"
chmod +x "$program"
"""


class Npm:
    """Where it stands, and how often it was called."""

    def __init__(self, directory: Path) -> None:
        self._calls = directory / "calls"
        self._program = directory / "npm"
        self.does()

    def does(self, *, says: str = PIN.version, fails: str = "") -> None:
        text = NPM.format(calls=self._calls, program=PIN.program[0], says=says, fails=fails)
        self._program.write_text(text)
        self._program.chmod(0o755)

    @property
    def calls(self) -> int:
        return len(self._calls.read_text().splitlines()) if self._calls.exists() else 0


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Npm:
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Npm(programs)


def kept() -> list[str]:
    """What is in the cache, but for locks."""
    return sorted(p.name for p in agents.cache().iterdir() if not p.name.endswith(".lock"))


def test_an_agent_is_installed_once_and_found_from_then_on(npm: Npm) -> None:
    first = install("claude")
    assert (first.name, first.version) == ("claude", PIN.version)
    assert Path(first.argv[0]).is_relative_to(agents.cache())
    assert install("claude") == first
    assert npm.calls == 1
    assert kept() == [f"claude-{PIN.version}"]


def test_two_that_install_at_once_install_it_once(npm: Npm) -> None:
    npm.does(fails="sleep 0.2")
    threads = [threading.Thread(target=install, args=("claude",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert npm.calls == 1


def test_another_version_than_the_one_that_was_asked_for_is_none(npm: Npm) -> None:
    npm.does(says="2.1.197")
    with pytest.raises(Missing, match=r"was asked for, and says: 2\.1\.197"):
        install("claude")
    assert kept() == []


def test_what_npm_could_not_do_is_the_reason_and_leaves_nothing(npm: Npm) -> None:
    npm.does(fails="echo npm error network is unreachable >&2; exit 1")
    with pytest.raises(Missing, match="npm error network is unreachable"):
        install("claude")
    assert kept() == []
    npm.does()
    assert install("claude").version == PIN.version


def test_an_installation_that_was_cut_short_is_made_again(npm: Npm) -> None:
    (agents.cache() / f"claude-{PIN.version}" / "node_modules").mkdir(parents=True)
    assert install("claude").version == PIN.version
    assert npm.calls == 1


def test_without_npm_it_says_so(npm: Npm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Missing, match="needs npm"):
        install("claude")
