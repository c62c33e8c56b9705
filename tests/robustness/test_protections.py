"""Holds the table of protections against the source, as `make protections` takes minutes."""

from __future__ import annotations

import ast

import pytest

from tests.robustness.protections import ROOT
from tests.robustness.protections_table import PROTECTIONS, Protection


def _named(row: Protection) -> str:
    return row.name


@pytest.mark.parametrize("row", PROTECTIONS, ids=_named)
def test_each_protection_stands_once_in_the_source_and_its_test_is_there(row: Protection) -> None:
    source = (ROOT / row.file).read_text(encoding="utf-8")
    assert source.count(row.before) == 1
    compile(source.replace(row.before, row.after), row.file, "exec", dont_inherit=True)
    file, _, name = row.test.partition(" -k ")[0].partition("::")
    assert name.partition("[")[0] in _tests_of(file)


def test_no_protection_is_listed_twice() -> None:
    names = [row.name for row in PROTECTIONS]
    assert len(set(names)) == len(names)
    edits = [(row.file, row.before, row.after) for row in PROTECTIONS]
    assert len(set(edits)) == len(edits)


def _tests_of(file: str) -> set[str]:
    module = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in module.body if isinstance(node, functions)}
