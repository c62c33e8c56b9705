"""The stores that the common suite runs against."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridle_control.store.api import Store
from tests.support.stores import STORES, OpenStore


@pytest.fixture(params=sorted(STORES))
def open_store(request: pytest.FixtureRequest) -> OpenStore:
    """Opens the store of one kind at a place."""
    return STORES[request.param]


@pytest.fixture
async def store(open_store: OpenStore, tmp_path: Path) -> AsyncIterator[Store]:
    """A new store."""
    async with open_store(tmp_path / "store") as opened:
        yield opened
