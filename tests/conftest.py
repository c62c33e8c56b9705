"""What holds for every test: nothing is left behind, and nothing of the user's is touched."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.support.leaks", "pytester"]

# Hypothesis fails an example that takes a fifth of a second, and a test whose first examples take a
# second to make up. On a busy machine a process stands still for longer than that, in any of them.
settings.register_profile("bridle", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", settings.get_profile("bridle"), derandomize=True)
settings.load_profile("bridle")


@pytest.fixture(scope="session", autouse=True)
def _signals_as_usual() -> Iterator[None]:
    """Who is started in the background has signals ignored, and so would all that is started here.

    They are still without effect on this process; others are started with what is the default.
    """
    ignored = [
        number
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM)
        if signal.getsignal(number) is signal.SIG_IGN
    ]
    for number in ignored:
        signal.signal(number, lambda *_: None)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture(scope="session", autouse=True)
def _a_home_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Neither the user's credentials nor a session that the tests happen to run in are seen."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("BRIDLE_")]:
            patch.delenv(name)
        patch.setenv("BRIDLE_HOME", str(tmp_path_factory.mktemp("bridle-home")))
        yield
