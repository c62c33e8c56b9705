"""Stubs that are not what the contract says are found, in each language."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scripts import client_tools, generate
from scripts.client_tools import MissingError

ROOT = Path(__file__).parents[2]

#: Of each language's stubs: one to change, one to lose, one to be there for no proto.
STUBS = {
    "python": [f"clients/python/bridle/v1/{name}_pb2.py" for name in ("watch", "input", "other")],
    "go": [f"clients/go/bridle/v1/{name}.pb.go" for name in ("watch", "input", "other")],
    "typescript": [
        f"clients/typescript/src/gen/bridle/v1/{name}_pb.ts" for name in ("watch", "input", "other")
    ],
    "java": [
        f"clients/java/src/main/java/dev/bridle/v1/{name}.java"
        for name in ("WatchRequest", "Input", "Other")
    ],
}


def test_each_language_has_stubs_and_is_tried_here() -> None:
    assert set(STUBS) == set(generate.GENERATED)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project as the generator sees it, with stubs that may be changed."""
    for name in ("proto", "third_party", "scripts", ".tools", "buf.yaml", "buf.gen.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    for language, folders in generate.GENERATED.items():
        home = Path("clients", language)
        (tmp_path / home).mkdir(parents=True)
        for name in ("buf.gen.yaml", "node_modules"):
            if (ROOT / home / name).exists():
                (tmp_path / home / name).symlink_to(ROOT / home / name)
        for folder in folders:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize("language", STUBS)
def test_stubs_that_were_changed_or_lost_or_are_of_no_proto_fail_the_check_until_made_anew(
    tree: Path, language: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ready(language)
    changed, lost, other = (tree / stub for stub in STUBS[language])
    changed.write_bytes(changed.read_bytes() + b"\n")
    lost.rename(other)
    capsys.readouterr()
    assert not generate.bring_up_to_date(language, check=True)
    # These, and no others.
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(
        f"{words}: {path.relative_to(tree)}"
        for words, path in (("out of date", changed), ("out of date", lost), ("stale", other))
    )
    assert not lost.exists(), "a check changes nothing"
    assert generate.bring_up_to_date(language, check=False)
    for stub in (changed, lost):
        assert stub.read_bytes() == (ROOT / stub.relative_to(tree)).read_bytes()
    assert not other.exists()


def ready(language: str) -> None:
    try:
        with client_tools.alone():
            client_tools.PREPARE.get(language, lambda: None)()
    except MissingError as missing:
        pytest.skip(f"{language}: {missing}")
