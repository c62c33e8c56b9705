"""The example of each language, by the command in its README."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest

from scripts import client_tools
from scripts.client_tools import MissingError
from tests.clients.conftest import chosen
from tests.clients.runners import Language, built
from tests.pair import PATIENCE, Pair

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

#: What is left out of a command: set-up that was done for the suite.
SET_UP = "npm ci && "


def command_of(language: str) -> str:
    """The line that a README, or Python's example itself, gives for running it here."""
    if language == "python":
        text = (ROOT / "clients/python/example.py").read_text("utf-8")
        found = re.findall(r"^    python (\S+)$", text, re.MULTILINE)
        return f"{shlex.quote(sys.executable)} {ROOT / found[0]}"
    text = (ROOT / "clients" / language / "README.md").read_text("utf-8")
    assert "export BRIDLE_TOKEN=$(bridle token create example --right 'session.*')\n" in text
    found = re.findall(r"^(\S.*?) +# here$", text, re.MULTILINE)
    return str(found[0]).removeprefix(SET_UP)


@pytest.mark.parametrize(
    "language",
    [each for each in chosen() if not each.in_browser and not each.over_http],
    ids=lambda language: language.name,
)
async def test_the_example_starts_a_session_sends_watches_interrupts_and_stops(
    language: Language, pair: Pair
) -> None:
    try:
        built(language)
    except MissingError as why:
        pytest.skip(f"{language.name}: {why}")
    made = await pair.cli("token", "create", f"for-{language.name}", "--right", "session.*")
    assert made.code == 0, made
    variables = {
        **client_tools.environment(),
        "BRIDLE_ADDRESS": pair.address,
        "BRIDLE_TOKEN": made.out.strip(),
    }
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f"exec {command_of(language.name)}"),
        cwd=ROOT / "clients" / language.name,
        env=pair.environment(**variables),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
    )
    async with asyncio.timeout(3 * PATIENCE):  # it is built first
        said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said
    spoken = {"go": "Go", "java": "Java", "typescript": "TypeScript"}.get(language.name, "Python")
    # (npm and Maven may have their say around it.)
    assert re.search(
        rf"^turn 1 says: hello from {spoken}\n"
        r"turn 1 ended: \w*COMPLETED\n"
        r"turn 2 ended: \w*INTERRUPTED\n"
        r"the session ended: \w*STOP_REQUESTED$",
        said,
        re.MULTILINE,
    ), said
