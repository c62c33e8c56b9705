"""What only Go has: errors that are wrapped, requests that are nil, loops that are left."""

from __future__ import annotations

import pytest

from scripts import client_tools
from tests.clients.conftest import chosen
from tests.clients.runners import Language, built, program
from tests.pair import PATIENCE, Pair

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

GO = [each for each in chosen() if each.name == "go"]


@pytest.mark.parametrize("language", GO, ids=lambda language: language.name)
@pytest.mark.parametrize(
    ("module", "command"),
    [(".", "vet ./..."), ("example", "vet ./..."), (".", "test -count=1 -v -timeout 100s ./...")],
)
async def test_the_module_passes_its_own_checks(
    language: Language, module: str, command: str, pair: Pair
) -> None:
    try:
        built(language)
    except client_tools.MissingError as why:
        pytest.skip(f"{language.name}: {why}")
    code, said = await program(
        *("go", *command.split()),
        cwd=client_tools.CLIENTS / "go" / module,
        env=pair.environment(BRIDLE_ADDRESS=pair.address, BRIDLE_TOKEN=pair.token),
        within=3 * PATIENCE,  # it is built first
    )
    assert code == 0, said
    assert "--- SKIP" not in said, said
