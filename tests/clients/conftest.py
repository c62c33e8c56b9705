"""The suite's fixtures: a pair and a runner for each language, and the matrix at the end.

`make test-clients` runs it (TEST_CLIENTS="go java": some of them).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio

from scripts.client_tools import MissingError
from tests.clients.runners import LANGUAGES, Language, Runner, built, running
from tests.pair import Pair, running_pair

HERE = Path(__file__).parent
WORST = ["", "passed", "skipped", "failed"]


def chosen() -> list[Language]:
    wanted = os.environ.get("TEST_CLIENTS", "").split()
    unknown = set(wanted) - {language.name for language in LANGUAGES}
    assert not unknown, f"TEST_CLIENTS: no such client: {unknown}"
    return [language for language in LANGUAGES if not wanted or language.name in wanted]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.clients)


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is asked for is built before the first test: no test's time is meant for that."""
    if session.config.getoption("collectonly"):
        return
    wanted = dict.fromkeys(
        value
        for item in session.items
        if HERE in item.path.parents and (case := getattr(item, "callspec", None)) is not None
        for value in case.params.values()
        if isinstance(value, Language)
    )
    for language in wanted:
        # What is missing, or can't be built, each test of it tells.
        with suppress(MissingError, RuntimeError):
            built(language)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """The real pair with its browser gateway."""
    place = tmp_path_factory.mktemp("pair")
    origins = ("--http-origin", "*")
    async with running_pair(place, gateway=True, control_arguments=origins) as pair:
        yield pair


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def every_session_ends(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """The pair is shared, where one is asked for; its sessions are not."""
    pair = request.getfixturevalue("pair") if "pair" in request.fixturenames else None
    yield
    if pair is not None:
        await pair.kill_all()


@pytest_asyncio.fixture(
    loop_scope="module", scope="module", params=chosen(), ids=lambda language: language.name
)
async def runner(
    request: pytest.FixtureRequest, pair: Pair, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Runner]:
    """A runner with a client "c" that may do everything."""
    try:
        async with running(request.param, tmp_path_factory.mktemp("runner")) as runner:
            await runner.dial(
                "c", pair.http if runner.language.over_http else pair.address, pair.token
            )
            yield runner
    except MissingError as why:
        pytest.skip(f"{request.param.name}: {why}")


# --- the matrix ---------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Matrix())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    report = yield
    if HERE in item.path.parents and (call.when == "call" or report.outcome != "passed"):
        case = getattr(item, "callspec", None)
        values = case.params.values() if case is not None else ()
        for language in (each.name for each in values if isinstance(each, Language)):
            # With the report, since the one who prints may be another process.
            report.user_properties.append(("clients", [item.name.partition("[")[0], language]))
    return report


class Matrix:
    """Scenario by client, of all that reports tell."""

    def __init__(self) -> None:
        self._results: dict[tuple[str, str], str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, cell in report.user_properties:
            if name == "clients":
                scenario, language = cast("list[str]", cell)
                before = self._results.get((scenario, language), "")
                # A scenario that has several forms is as good as its worst.
                worst = max(before, report.outcome, key=WORST.index)
                self._results[scenario, language] = worst

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        names = list(dict.fromkeys(name for name, _ in self._results))
        languages = [
            each.name for each in chosen() if any(each.name == at for _, at in self._results)
        ]
        if not languages:
            return
        signs = {"passed": "ok", "failed": "FAILED", "skipped": "SKIP", "": "-"}
        terminalreporter.section("clients")
        width = max(len(name) for name in names) - len("test_") + 2
        terminalreporter.write_line(" " * width + "  ".join(languages))
        for name in names:
            cells = (
                signs[self._results.get((name, language), "")].ljust(len(language))
                for language in languages
            )
            shown = name.removeprefix("test_").replace("_", " ")
            terminalreporter.write_line(shown.ljust(width) + "  ".join(cells).rstrip())
