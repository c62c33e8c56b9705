"""Answers that the real pair can't be made to give at will: see odd_service.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridle_core.errors import CODE_OF, Reason
from scripts.client_tools import MissingError
from tests.clients.conftest import chosen
from tests.clients.odd_service import ODD_SESSION, odd_service, refusal, slug_of
from tests.clients.runners import Language, Runner, running
from tests.clients.test_calls import ref

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.parametrize("language", chosen(), ids=lambda language: language.name),
]


@asynccontextmanager
async def asking(language: Language, place: Path) -> AsyncIterator[Runner]:
    """A runner whose client "c" asks the odd service."""
    async with odd_service(place / "odd") as odd:
        try:
            async with running(language, place) as runner:
                await runner.dial("c", odd.http if language.over_http else odd.grpc, odd.token)
                yield runner
        except MissingError as why:
            pytest.skip(f"{language.name}: {why}")


async def test_every_reason_of_an_error_is_read_with_all_that_it_carries(
    language: Language, tmp_path: Path
) -> None:
    async with asking(language, tmp_path) as runner:
        for reason in Reason:
            error = refusal(reason)
            answer = await runner.call("GetSession", ref(slug_of(reason)))
            assert answer["error"] == {
                "code": CODE_OF[reason].name,
                "reason": reason.value,
                "message": error.message,
                "metadata": error.metadata,
                "fields": ["session.slug"],
                "retry_after": 0.125,
            }


async def test_what_a_later_release_answers_is_kept_as_it_came(
    language: Language, tmp_path: Path
) -> None:
    async with asking(language, tmp_path) as runner:
        if language.transport != "connect":  # JSON carries no unknown fields
            answer = await runner.call("GetSession", ref("x"), answer_bytes=True)
            assert ODD_SESSION in answer["response"]
        found = await runner.call("GetSession", ref("x"))
        assert found["session"].get("phase") == 77
