"""The version that the services tell."""

from __future__ import annotations

import tomllib
from pathlib import Path

from bridle_core.version import VERSION


def test_the_version_is_the_one_that_is_packaged() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    assert project["project"]["version"] == VERSION
