"""Artifacts are told with their sums and types, and opened only where they really are."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from bridle_host import artifacts
from bridle_host.artifacts import MOST_ARTIFACTS, collect, listed, open_artifact
from bridle_host.run_files import RunFiles, forget, kept


def never() -> bool:
    return False


@pytest.fixture(autouse=True)
def _time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left out when time runs out is not to depend on this machine."""
    monkeypatch.setattr(artifacts, "REPORT_TIME", 600.0)
    monkeypatch.setattr(artifacts, "GIT_TIME", 600.0)


@pytest.fixture
def files(tmp_path: Path) -> RunFiles:
    made = RunFiles(tmp_path / "runs", "session", 2)
    made.make()
    return made


def read(files: RunFiles, name: str, session: str = "session") -> bytes | None:
    opened = open_artifact(files.root, session, files.run, name)
    if opened is None:
        return None
    handle, size = opened
    with open(handle, "rb") as file:
        data = file.read()
    assert len(data) == size
    return data


def test_what_is_collected_has_sums_types_and_no_git_where_there_is_none(
    files: RunFiles, tmp_path: Path
) -> None:
    for name in ("a.patch", "b.json", "c", "d.tar.gz", "e.md"):
        (files.artifacts / name).write_text(name)
    found = collect(files, str(tmp_path), never)
    assert [(a.name, a.media_type) for a in found.artifacts] == [
        ("a.patch", "text/x-diff"),
        ("b.json", "application/json"),
        ("c", ""),
        ("d.tar.gz", "application/gzip"),
        ("e.md", "text/markdown"),
    ]
    assert [a.sha256 for a in found.artifacts] == [
        hashlib.sha256(a.name.encode()).hexdigest() for a in found.artifacts
    ]
    assert not found.HasField("git")


def test_large_ones_go_without_a_sum_so_that_no_stop_waits_for_them(
    files: RunFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "MOST_SUMMED", 10)
    (files.artifacts / "large").write_text("x" * 9)
    (files.artifacts / "small").write_text("x" * 2)
    large, small = collect(files, str(tmp_path), never).artifacts
    assert (large.sha256, len(small.sha256)) == ("", 64)


def test_who_is_in_a_hurry_gets_the_names_alone(files: RunFiles, tmp_path: Path) -> None:
    (files.artifacts / "a").write_text("x")
    [told] = collect(files, str(tmp_path), lambda: True).artifacts
    assert (told.name, told.size, told.sha256) == ("a", 1, "")


def test_a_file_that_grows_without_end_is_not_read_without_end(
    files: RunFiles, tmp_path: Path
) -> None:
    (files.artifacts / "a").write_text("x" * 100)
    handle = os.open(files.artifacts / "a", os.O_RDONLY)
    try:
        # It has more than its size said: whoever appends faster than we read is not waited for.
        assert artifacts._sum_of(handle, 50, never) == ""
    finally:
        os.close(handle)


def test_how_many_are_left_out_is_told(files: RunFiles) -> None:
    for number in range(MOST_ARTIFACTS + 7):
        (files.artifacts / str(number)).touch()
    (files.artifacts / ("x" * 250)).mkdir()
    found, left_out = listed(files.artifacts)
    assert (len(found), left_out) == (MOST_ARTIFACTS, 7)


def test_an_artifact_is_opened_by_its_name_and_nothing_else_is(
    files: RunFiles, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    files.token.write_text("token")
    (files.artifacts / "deep").mkdir()
    (files.artifacts / "deep" / "a").write_text("hello")
    (files.artifacts / "link").symlink_to(tmp_path / "secret")
    (files.artifacts / "out").symlink_to(tmp_path)
    (files.artifacts / "in").symlink_to("deep")
    os.mkfifo(files.artifacts / "pipe")
    assert read(files, "deep/a") == b"hello"
    for name in (
        *("", ".", "..", "/", "deep", "deep/", "/deep/a", "deep//a", "./deep/a", "deep/../deep/a"),
        *("link", "out/secret", "in/a", "pipe", "../token", "a\0b", "\udcff", "x" * 300, "no"),
    ):
        assert read(files, name) is None, name
    for session in ("", ".", "..", "../runs/session", "session/2", "other", "a\0"):
        assert read(files, "deep/a", session) is None, session


@pytest.mark.parametrize("part", ["artifacts", "2", "session"])
def test_a_link_in_the_place_of_a_directory_above_is_not_followed(
    files: RunFiles, tmp_path: Path, part: str
) -> None:
    (files.artifacts / "a").write_text("hello")
    place = {"artifacts": files.artifacts, "2": files.directory, "session": files.directory.parent}
    moved = tmp_path / "moved"
    place[part].rename(moved)
    place[part].symlink_to(moved)
    assert read(files, "a") is None


def test_a_pipe_without_a_writer_is_not_waited_for(files: RunFiles, tmp_path: Path) -> None:
    os.mkfifo(files.artifacts / "pipe")
    # (Else it would wait for ever.)
    assert read(files, "pipe") is None
    assert list(collect(files, str(tmp_path), never).artifacts) == []


def test_what_is_kept_is_forgotten_whole_and_nothing_beside_it(
    files: RunFiles, tmp_path: Path
) -> None:
    (files.artifacts / "a").write_text("x")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "marker").touch()
    (files.artifacts / "link").symlink_to(outside)
    (files.root / "linked").symlink_to(outside)
    files.remove()
    assert kept(files.root) == ["session"]
    for name in ("..", ".", "", "linked", "other", "../outside", str(outside)):
        forget(files.root, name)
    assert kept(files.root) == ["session"]
    forget(files.root, "session")
    assert kept(files.root) == []
    assert (outside / "marker").exists()
    assert kept(tmp_path / "nowhere") == []
