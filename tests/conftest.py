"""What holds for every test: nothing is left behind, and nothing of the user's is touched."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

pytest_plugins = ["tests.support.leaks", "pytester"]


@pytest.fixture(scope="session", autouse=True)
def _a_home_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Neither the user's credentials nor a session that the tests happen to run in are seen."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("BRIDLE_")]:
            patch.delenv(name)
        patch.setenv("BRIDLE_HOME", str(tmp_path_factory.mktemp("bridle-home")))
        yield
