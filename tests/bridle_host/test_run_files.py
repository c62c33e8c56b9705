"""The files of a run, and what the journal keeps of it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from bridle_core.commands import RunSpec
from bridle_core.observations import ResumeMode
from bridle_core.session import Session
from bridle_host.run_files import MOST_ARTIFACTS, RunFiles, dump_run, every, load_run


def made(tmp_path: Path) -> RunFiles:
    files = RunFiles(tmp_path, "session", 2)
    files.make()
    return files


def test_the_directories_are_for_their_owner_only(tmp_path: Path) -> None:
    files = made(tmp_path)
    files.make()
    for path in (files.directory.parent, files.directory, files.driver, files.artifacts):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_nothing_stays(tmp_path: Path) -> None:
    files = made(tmp_path)
    files.process.mkdir()
    (files.process / "x").write_text("x")
    (files.driver / "x").write_text("x")
    files.token.write_text("t")
    files.remove()
    assert list(tmp_path.iterdir()) == []
    files.remove()


def test_artifacts_stay(tmp_path: Path) -> None:
    files = made(tmp_path)
    (files.artifacts / "a").write_text("hello")
    files.remove()
    assert [path.name for path in files.directory.iterdir()] == ["artifacts"]


def test_a_token_that_cannot_be_removed_is_left(tmp_path: Path) -> None:
    files = made(tmp_path)
    files.token.mkdir()
    files.remove()
    assert files.token.exists()


def test_artifacts_are_told_by_name_with_their_size(tmp_path: Path) -> None:
    files = made(tmp_path)
    (files.artifacts / "b").write_text("hello")
    (files.artifacts / "deep").mkdir()
    (files.artifacts / "deep" / "a").write_text("hi")
    (files.artifacts / "link").symlink_to("/etc/passwd")
    (files.artifacts / "linked").symlink_to("/etc")
    assert [(a.name, a.size) for a in files.reported()] == [("b", 5), ("deep/a", 2)]


def test_names_that_nobody_could_ask_for_are_left_out(tmp_path: Path) -> None:
    files = made(tmp_path)
    deep = files.artifacts
    for _ in range(5):
        deep = deep / ("x" * 250)
    deep.mkdir(parents=True)
    (deep / "a").write_text("x")
    (files.artifacts / "bad\udcff").write_text("x")
    assert files.reported() == []


def test_only_so_many_artifacts_are_told(tmp_path: Path) -> None:
    files = made(tmp_path)
    for number in range(MOST_ARTIFACTS + 1):
        (files.artifacts / str(number)).touch()
    assert len(files.reported()) == MOST_ARTIFACTS


def test_an_artifact_that_is_gone_meanwhile_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = made(tmp_path)
    (files.artifacts / "a").touch()
    (files.artifacts / "gone").touch()
    real = os.fwalk

    def walk(*arguments: Any, **options: Any) -> Any:
        for found in real(*arguments, **options):
            (files.artifacts / "gone").unlink(missing_ok=True)
            yield found

    monkeypatch.setattr(os, "fwalk", walk)
    assert [artifact.name for artifact in files.reported()] == ["a"]


def test_the_runs_of_which_there_are_files_are_found(tmp_path: Path) -> None:
    assert list(every(tmp_path / "missing")) == []
    made(tmp_path)
    (tmp_path / "a file").touch()
    (tmp_path / "session" / "no number").mkdir()
    assert list(every(tmp_path)) == [RunFiles(tmp_path, "session", 2)]


@pytest.mark.parametrize("resume", [None, ResumeMode.AUTO])
def test_what_is_kept_of_a_run_is_read_again(resume: ResumeMode | None) -> None:
    spec = RunSpec("start", "shell", last_turn=4, resume=resume)
    record = Session(spec).record()
    assert load_run(dump_run(spec, record)) == (spec, record)


@pytest.mark.parametrize("state", [b"", b"{}", b"[]", b'{"start_command": "s", "agent": "a"}'])
def test_what_is_no_state_of_a_run_is_found_out(state: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any of them, that is the contract
        load_run(state)


def test_a_link_in_the_place_of_the_artifacts_leads_nowhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "marker").write_text("untouched")
    files = RunFiles(tmp_path / "runs", "s", 1)
    files.make()
    (files.artifacts / "real").write_text("x")
    (files.artifacts / "file").symlink_to(outside / "marker")
    (files.artifacts / "directory").symlink_to(outside)
    assert [artifact.name for artifact in files.reported()] == ["real"]
    (files.artifacts / "real").unlink()
    (files.artifacts / "file").unlink()
    (files.artifacts / "directory").unlink()
    files.artifacts.rmdir()
    files.artifacts.symlink_to(outside)
    assert files.reported() == []
    files.remove()
    assert (outside / "marker").read_text() == "untouched"
