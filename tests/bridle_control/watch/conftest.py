"""A store with two sessions, a clock that stands still, and the hub over them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridle_control.store.api import Store
from bridle_control.watch.hub import Hub
from tests.support.manual_clock import ManualClock
from tests.support.stores import a_session, begin, open_sqlite


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_sqlite(tmp_path / "store") as opened:
        await begin(opened, a_session("s1"), a_session("s2"))
        yield opened


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def hub(store: Store, clock: ManualClock) -> Hub:
    return Hub(store, clock=clock)
