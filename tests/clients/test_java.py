"""What only Java has: contexts, interrupts, observers, threads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scripts.client_tools import MissingError
from tests.clients.conftest import chosen
from tests.clients.odd_service import odd_service
from tests.clients.runners import Language, built, program
from tests.pair import PATIENCE

pytestmark = pytest.mark.timeout(180)

JAVA = [each for each in chosen() if each.name == "java"]


@pytest.mark.parametrize("language", JAVA, ids=lambda language: language.name)
async def test_contexts_and_interrupts_end_what_they_are_of_and_observers_are_always_told(
    language: Language, tmp_path: Path
) -> None:
    try:
        *java, _ = built(language)
    except MissingError as why:
        pytest.skip(f"{language.name}: {why}")
    async with odd_service(tmp_path / "odd") as odd:
        code, said = await program(
            *(*java, "dev.bridle.interop.Edges"),
            env=os.environ | {"BRIDLE_ADDRESS": odd.grpc, "BRIDLE_TOKEN": odd.token},
            within=2 * PATIENCE,
        )
    assert said.splitlines() == [
        "context cancelled: CANCELLED",
        "context at its deadline: DEADLINE_EXCEEDED",
        "watch interrupted: CANCELLED true",
        "call interrupted: CANCELLED true",
        "observer: completed",
        "observer that throws: CANCELLED",
        "call without a token: UNAUTHENTICATED",
        "stream without a token: UNAUTHENTICATED",
        "threads: 2 false",
    ]
    assert code == 0, "it ended by itself"
