"""The suite that real agents pass, through control, host, shim and driver, offline.

`make test-agents` runs it (TEST_AGENTS="claude codex": some agents; TEST_INTERRUPTS=100: how many
random ones). Which agents ran, and in which versions, is in the report.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio

from scripts.agents import PINS, Missing, install
from tests.agents.environment import room
from tests.agents.profiles import PROFILES, AgentProfile, by_command, chosen, put_on_path
from tests.agents.talk import World
from tests.model_server import model_server
from tests.pair import running_pair


def pytest_report_header() -> str:
    pins = dict.fromkeys(name for profile in chosen() for name in profile.pins)
    return "agents: " + ", ".join(f"{name} {PINS[name].version}" for name in pins)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was shown of which agent, in which version."""
    shown: dict[str, Counter[str]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, ()):
            named = re.search(r"tests/agents/.*\[(.+)\]$", report.nodeid)
            found = [
                p
                for p in (*chosen(), *by_command())
                if named and f"{named[1]}-".startswith(f"{p.name}-")
            ]
            if found:
                # The longest: a name may be the beginning of another.
                name = max((profile.name for profile in found), key=len)
                shown.setdefault(name, Counter())[outcome] += 1
    known = {**PROFILES, **{profile.name: profile for profile in by_command()}}
    for name, outcomes in shown.items():
        versions = ", ".join(f"{pin} {PINS[pin].version}" for pin in known[name].pins)
        counted = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.items())
        terminalreporter.write_line(f"agent {name} ({versions}): {counted}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`needs("steer", …)` keeps a test for those agents that can."""
    if "profile" not in metafunc.fixturenames:
        return
    needed = [name for mark in metafunc.definition.iter_markers("needs") for name in mark.args]
    profiles = by_command() if hasattr(metafunc.module, "BY_COMMAND") else chosen()
    able = [p for p in profiles if all(getattr(p, name) for name in needed)]
    metafunc.parametrize("profile", able, ids=lambda profile: profile.name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in [item for item in items if here in item.path.parents]:
        item.add_marker(pytest.mark.agents)
        # Where no chosen agent can, there is nothing to test; pytest would call it a skip.
        if not isinstance(_profile(item), AgentProfile):
            items.remove(item)


def _profile(item: pytest.Item) -> object:
    # (Tests of other folders have a hand in this, too, and most of them no parameters.)
    callspec = getattr(item, "callspec", None)
    return None if callspec is None else callspec.params.get("profile")


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is missing is installed before the first test: no test's time is meant for that."""
    if session.config.getoption("collectonly"):
        return
    profiles = map(_profile, session.items)
    for name in dict.fromkeys(n for p in profiles if isinstance(p, AgentProfile) for n in p.pins):
        with suppress(Missing):
            install(name)


@pytest.fixture
def home() -> Iterator[Path]:
    """The agent's home; Codex wants none under /tmp."""
    with room() as made:
        yield made


@pytest_asyncio.fixture
async def world(profile: AgentProfile, home: Path, tmp_path: Path) -> AsyncIterator[World]:
    """A model, the pair, and the agent on the host's PATH."""
    programs = tmp_path / "programs"
    try:
        for name in profile.pins:
            put_on_path(programs, install(name))
    except Missing as why:
        pytest.skip(str(why))
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    async with (
        model_server() as model,
        running_pair(tmp_path, host_environment={"PATH": path}) as pair,
    ):
        yield World(profile, pair, model, home)
