"""The files of a run."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle_core.observations import Image, Resource, Text
from bridle_host.artifacts import MOST_ARTIFACTS, listed
from bridle_host.run_files import RunFiles, every


def made(tmp_path: Path) -> RunFiles:
    files = RunFiles(tmp_path, "session", 2)
    files.make()
    return files


def test_the_directories_are_for_their_owner_only(tmp_path: Path) -> None:
    files = made(tmp_path)
    files.make()
    made_here = (files.driver, files.inputs, files.artifacts)
    for path in (files.directory.parent, files.directory, *made_here):
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
    assert [(a.name, a.size) for a in listed(files.artifacts)[0]] == [("b", 5), ("deep/a", 2)]


def test_names_that_nobody_could_ask_for_are_left_out(tmp_path: Path) -> None:
    files = made(tmp_path)
    deep = files.artifacts
    for _ in range(5):
        deep = deep / ("x" * 250)
    deep.mkdir(parents=True)
    (deep / "a").write_text("x")
    (files.artifacts / "bad\udcff").write_text("x")
    assert listed(files.artifacts)[0] == []


def test_only_so_many_artifacts_are_told(tmp_path: Path) -> None:
    files = made(tmp_path)
    for number in range(MOST_ARTIFACTS + 1):
        (files.artifacts / str(number)).touch()
    assert len(listed(files.artifacts)[0]) == MOST_ARTIFACTS


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
    assert [artifact.name for artifact in listed(files.artifacts)[0]] == ["a"]


def test_the_runs_of_which_there_are_files_are_found(tmp_path: Path) -> None:
    assert list(every(tmp_path / "missing")) == []
    made(tmp_path)
    (tmp_path / "a file").touch()
    (tmp_path / "session" / "no number").mkdir()
    assert list(every(tmp_path)) == [RunFiles(tmp_path, "session", 2)]


def command(**start: object) -> host_pb.Command:
    return host_pb.Command(
        command_id="c",
        session_id="session",
        run=2,
        start=host_pb.StartRun(agent="shell", token=host_pb.SessionToken(token="brs_x"), **start),  # type: ignore[arg-type]
    )


def test_the_start_is_kept_for_the_next_process_without_its_token(tmp_path: Path) -> None:
    files = made(tmp_path)
    files.write_start(command(slug="fix"), "/work")
    kept = files.read_start()
    assert kept is not None
    assert (kept.start.slug, kept.start.directory) == ("fix", "/work")
    assert b"brs_x" not in files.start.read_bytes()
    assert stat.S_IMODE(files.start.stat().st_mode) == 0o600


@pytest.mark.parametrize("data", [b"", b"\xff", command().SerializeToString()[:-1]])
def test_a_start_that_cannot_be_read_is_none(tmp_path: Path, data: bytes) -> None:
    files = made(tmp_path)
    assert files.read_start() is None
    files.start.write_bytes(data)
    assert files.read_start() is None


def test_the_start_of_another_run_is_none(tmp_path: Path) -> None:
    files = made(tmp_path)
    other = command()
    other.run = 3
    files.write_start(other, "/work")
    assert files.read_start() is None


def test_what_inputs_say_is_kept_until_they_are_over(tmp_path: Path) -> None:
    files = made(tmp_path)
    said = (Text("hello"), Image(b"\x89", "image/png"), Resource("file:///a", "a", "text/plain"))
    for input_id in ("a", "../../b", ".", ""):
        files.write_input(input_id, said)
    # The draft of a process that died while it wrote.
    (files.inputs / ".input-c.12").write_bytes(b"x")
    assert files.read_inputs() == dict.fromkeys(("a", "../../b", ".", ""), said)
    assert {path.parent for path in tmp_path.rglob("*b*")} == {files.inputs}
    files.remove_inputs(["a", ".", "never"])
    assert sorted(files.read_inputs()) == ["", "../../b"]


def test_the_state_is_put_in_its_place_whole(tmp_path: Path) -> None:
    files = made(tmp_path)
    assert files.read_state() is None
    files.write_state(b"one")
    files.write_state(b"two")
    assert files.read_state() == b"two"
    assert [path.name for path in files.directory.iterdir() if path.is_file()] == ["state"]
    files.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_the_place_of_the_artifacts_leads_nowhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "marker").write_text("untouched")
    files = RunFiles(tmp_path / "runs", "s", 1)
    files.make()
    (files.artifacts / "real").write_text("x")
    (files.artifacts / "file").symlink_to(outside / "marker")
    (files.artifacts / "directory").symlink_to(outside)
    assert [artifact.name for artifact in listed(files.artifacts)[0]] == ["real"]
    (files.artifacts / "real").unlink()
    (files.artifacts / "file").unlink()
    (files.artifacts / "directory").unlink()
    files.artifacts.rmdir()
    files.artifacts.symlink_to(outside)
    assert listed(files.artifacts)[0] == []
    files.remove()
    assert (outside / "marker").read_text() == "untouched"
