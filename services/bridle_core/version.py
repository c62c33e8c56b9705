"""The version of this release, as both services tell it. A test holds it to pyproject.toml."""

from __future__ import annotations

VERSION = "0.1.0"
