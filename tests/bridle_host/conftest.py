"""What several of the host's test files begin with."""

from __future__ import annotations

import pytest

from bridle_host.run_files import RunFiles


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake driver has no shim that could hold its agent; here each has one."""

    async def always(files: RunFiles) -> bool:
        return True

    monkeypatch.setattr("bridle_host.sessions._held", always)
