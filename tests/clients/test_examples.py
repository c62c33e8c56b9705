"""The example of each language, by the command in its README."""

from __future__ import annotations

import asyncio
import re
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

#: Set-up that was done for the suite, and that others who run beside would miss meanwhile.
SET_UP = "$ npm ci\n"


def commands_of(language: str) -> str:
    """The lines that a README gives for running it."""
    text = (ROOT / "clients" / language / "README.md").read_text("utf-8")
    block = re.search(r"<!-- run: example -->\n```console\n(.*?)```", text, re.DOTALL)
    assert block
    lines = block[1].replace(SET_UP, "").splitlines()
    return "\n".join(line.removeprefix("$ ") for line in lines)


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
    variables = {**client_tools.environment(), "BRIDLE_ADDRESS": pair.address}
    with client_tools.alone():  # It is built first, and is what another test may run.
        process = await asyncio.create_subprocess_exec(
            *("bash", "-e", "-c", commands_of(language.name)),
            cwd=ROOT / "clients" / language.name,
            env=pair.environment(**variables),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
        )
        async with asyncio.timeout(3 * PATIENCE):
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
