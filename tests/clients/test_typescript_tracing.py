"""The spans that the client of TypeScript makes. (Those of Go and Java are OpenTelemetry's own; for
Python's see tests/client/test_tracing.py.)
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from scripts.client_tools import TOOLS, MissingError
from tests.clients.conftest import chosen
from tests.clients.runners import Language, built

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.parametrize(
        "language",
        [each for each in chosen() if each.name == "typescript"],
        ids=lambda language: language.name,
    ),
]
GET, WATCH = "bridle.v1.SessionService/GetSession", "bridle.v1.SessionService/Watch"


def test_each_try_and_each_connection_is_a_span_below_the_callers(language: Language) -> None:
    try:
        built(language)
    except MissingError as why:
        pytest.skip(f"{language.name}: {why}")
    ran = subprocess.run(
        ["node", str(TOOLS / "typescript" / "tracing.cjs")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found: Any = json.loads(ran.stdout)
    told = [str(each).split("-")[2] for each in found["told"]]
    assert sorted(each["id"] for each in found["spans"]) == sorted(told)
    assert len(set(told)) == len(told)
    assert {each["parent"] for each in found["spans"]} == {found["caller"]}
    ends = [(each["name"], each["code"], each["failed"]) for each in found["spans"]]
    tries = [("UNAVAILABLE", True)] * 2 + [("OK", False)]
    # By the active span, then by the headers: a call, a watch; then a watch that was left.
    assert ends == [
        *((GET, *end) for _ in range(2) for end in tries),
        *((WATCH, *end) for _ in range(2) for end in tries),
        (WATCH, "CANCELLED", True),
    ]
