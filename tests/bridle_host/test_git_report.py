"""What is told of a git work tree is true, whatever the repository is; and nothing of it is run."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridle.v1 import event_pb2
from bridle_host.git_report import MOST_COMMITS, MOST_FILES, find, head_of, report, start_of
from tests.support.pace import paced


def never() -> bool:
    return False


def git(place: Path, *arguments: str) -> str:
    """Runs git as its user would, and returns what it says."""
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "gc.auto=0")
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(
        ["git", *identity, *arguments],
        cwd=place,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A repository with a commit."""
    made = tmp_path / "repository"
    made.mkdir()
    git(made, "init", "-q", "-b", "main")
    (made / "a").write_text("1\n2\n3\n")
    git(made, "add", ".")
    git(made, "commit", "-qm", "first")
    return made


def told(place: Path, start: str, over: Callable[[], bool] = never) -> event_pb2.GitReport:
    tree = find(str(place))
    assert tree is not None
    scratch = tree.top.parent / "scratch"
    found = report(str(place), start, scratch, over)
    assert found is not None
    assert not scratch.exists()
    return found


def paths(found: event_pb2.GitReport) -> list[str]:
    return [file.path for file in found.files]


def test_where_there_is_no_repository_there_is_no_report(tmp_path: Path) -> None:
    assert find(str(tmp_path)) is None
    assert start_of(str(tmp_path)) == ""
    assert report(str(tmp_path), "", tmp_path / "scratch", never) is None


def test_nothing_changed_is_told_as_that(place: Path) -> None:
    start = start_of(str(place))
    assert start == git(place, "rev-parse", "HEAD")
    found = told(place / ".", start)
    assert (found.branch, found.head, found.start_head) == ("main", start, start)
    assert (found.commit_count, found.file_count, paths(found)) == (0, 0, [])


def test_commits_and_files_since_the_start_are_told_from_a_directory_below_too(
    place: Path,
) -> None:
    start = start_of(str(place))
    (place / "deep").mkdir()
    (place / "deep" / "b").write_text("b\n")
    git(place, "add", ".")
    git(place, "commit", "-qm", "second\n\nwith a body")
    (place / "a").write_text("1\n3\n4\n5\n")
    (place / ".gitignore").write_text("*.o\n")
    (place / "x.o").write_text("")
    (place / "y\nz").write_text("")
    found = told(place / "deep", start)
    assert [commit.subject for commit in found.commits] == ["second"]
    assert paths(found) == ["a", "deep/b", ".gitignore", "y\nz"]
    assert (found.insertions, found.deletions) == (3, 1)
    assert [file.untracked for file in found.files] == [False, False, True, True]


def test_a_repository_without_a_commit_and_its_first_ones_are_told(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "a").write_text("1\n")
    git(tmp_path, "add", "a")
    assert start_of(str(tmp_path)) == ""
    found = told(tmp_path, "")
    assert (found.branch, found.head, paths(found)) == ("main", "", ["a"])
    git(tmp_path, "commit", "-qm", "first")
    found = told(tmp_path, "")
    assert (found.commit_count, paths(found)) == (1, ["a"])


def test_a_detached_head_packed_refs_and_a_linked_work_tree_are_read(place: Path) -> None:
    git(place, "pack-refs", "--all")
    start = start_of(str(place))
    assert len(start) == 40
    other = place.parent / "other"
    git(place, "worktree", "add", "-q", "-b", "topic", str(other))
    (other / "b").write_text("b\n")
    git(other, "add", ".")
    git(other, "commit", "-qm", "elsewhere")
    found = told(other, start)
    assert (found.branch, found.commit_count, paths(found)) == ("topic", 1, ["b"])
    git(other, "checkout", "-q", "--detach")
    found = told(other, start)
    assert (found.branch, found.head) == ("", git(other, "rev-parse", "HEAD"))


def test_a_shallow_clone_and_one_that_borrows_objects_are_read(place: Path) -> None:
    for number in range(3):
        git(place, "commit", "-q", "--allow-empty", "-m", f"more {number}")
    for options in (("--depth", "1"), ("--shared",)):
        copy = place.parent / f"copy{options[0]}"
        # (A path is copied whole, an address is not.)
        address = f"file://{place}" if options[0] == "--depth" else str(place)
        git(place.parent, "clone", "-q", *options, address, str(copy))
        start = start_of(str(copy))
        git(copy, "commit", "-q", "--allow-empty", "-m", "own")
        found = told(copy, start)
        assert [commit.subject for commit in found.commits] == ["own"]


def test_of_many_commits_and_files_the_count_is_told_and_the_newest(place: Path) -> None:
    start = start_of(str(place))
    for number in range(MOST_COMMITS + 2):
        git(place, "commit", "-q", "--allow-empty", "-m", str(number))
    for number in range(MOST_FILES + 3):
        (place / f"new-{number:04}").touch()
    found = told(place, start)
    assert (found.commit_count, len(found.commits)) == (MOST_COMMITS + 2, MOST_COMMITS)
    assert found.commits[0].subject == str(MOST_COMMITS + 1)
    assert (found.file_count, len(found.files)) == (MOST_FILES + 3, MOST_FILES)


def test_a_start_that_is_gone_leaves_out_what_hangs_on_it(place: Path) -> None:
    for start in ("0" * 40, "--upload-pack=touch", "main"):
        found = told(place, start)
        assert (found.branch, found.head) == ("main", git(place, "rev-parse", "HEAD"))


# --- Hostile repositories ------------------------------------------------------------------------

PROGRAMS = (
    "core.fsmonitor",
    "core.pager",
    "core.editor",
    "core.sshCommand",
    "core.gitProxy",
    "diff.external",
    "diff.evil.command",
    "diff.evil.textconv",
    "filter.evil.clean",
    "filter.evil.smudge",
    "filter.evil.process",
    "gpg.program",
    "interactive.diffFilter",
    "credential.helper",
    "alias.diff",
    "alias.log",
    "pager.diff",
    "pager.log",
    "sequence.editor",
    "uploadpack.packObjectsHook",
    "trailer.x.command",
)


def test_nothing_that_a_repository_names_is_ever_run(place: Path) -> None:
    start = start_of(str(place))
    marker, program = place.parent / "marker", place.parent / "program"
    program.write_text(f"#!/bin/sh\necho ran >> '{marker}'\ncat\n")
    program.chmod(0o755)
    hooks = place / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("post-index-change", "reference-transaction", "pre-auto-gc", "fsmonitor-watchman"):
        (hooks / name).write_text(program.read_text())
        (hooks / name).chmod(0o755)
    for name in PROGRAMS:
        git(place, "config", name, str(program))
    for name, value in (
        ("log.showSignature", "true"),
        ("filter.evil.required", "true"),
        ("diff.autoRefreshIndex", "true"),
        ("extensions.partialClone", "origin"),
        ("core.repositoryFormatVersion", "1"),
        ("remote.origin.url", f"ext::{program} %S"),
        ("remote.origin.promisor", "true"),
        ("protocol.ext.allow", "always"),
    ):
        with (place / ".git" / "config").open("a") as config:
            section, _, key = name.rpartition(".")
            first, _, second = section.partition(".")
            named = f'{first} "{second}"' if second else first
            config.write(f"[{named}]\n\t{key} = {value}\n")
    (place / ".gitattributes").write_text("* filter=evil diff=evil\n")
    (place / "a").write_text("1\n2\n")
    found = told(place, start)
    assert (found.branch, paths(found)) == ("main", ["a", ".gitattributes"])
    assert not marker.exists()
    # The attack is one: git itself would have run it.
    subprocess.run(["git", "-C", str(place), "diff"], capture_output=True, check=False)
    assert marker.exists()


def test_submodules_are_not_looked_into(place: Path) -> None:
    inner = place / "inner"
    inner.mkdir()
    git(inner, "init", "-q", "-b", "main")
    git(inner, "commit", "-q", "--allow-empty", "-m", "inner")
    git(place, "-c", "advice.addEmbeddedRepo=false", "add", "inner")
    git(place, "commit", "-qm", "with a module")
    start = start_of(str(place))
    marker = place.parent / "marker"
    git(inner, "config", "core.fsmonitor", f"touch {marker}; false")
    (inner / "file").write_text("x")
    found = told(place, start)
    assert paths(found) == []
    assert not marker.exists()


@pytest.mark.parametrize("part", ["HEAD", "index", "packed-refs", "config", "commondir", "shallow"])
def test_a_pipe_in_the_place_of_any_file_holds_nothing_up(place: Path, part: str) -> None:
    file = place / ".git" / part
    file.unlink(missing_ok=True)
    os.mkfifo(file)
    begin = time.monotonic()
    report(str(place), "", place.parent / "scratch", lambda: time.monotonic() > begin + 1.0)
    assert time.monotonic() - begin < paced(3.0)  # (else it waits for ever)


def test_refs_that_lead_elsewhere_are_not_followed(place: Path) -> None:
    secret = place.parent / "secret"
    secret.write_text("0123456789" * 4 + "\n")
    head = place / ".git" / "HEAD"
    for said in (
        f"ref: {secret}",
        "ref: refs/../../../secret",
        "ref: ../secret",
        "ref: refs/heads/loop",
        "ref:",
        "\xff\xfe",
        "x" * 10_000,
    ):
        head.write_bytes(said.encode("utf-8", "surrogateescape") + b"\n")
        (place / ".git" / "refs" / "heads" / "loop").write_text("ref: refs/heads/loop\n")
        tree = find(str(place))
        assert tree is not None
        assert head_of(tree)[1] == ""
        assert told(place, "").head == ""


def test_a_repository_of_somebody_else_is_none(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.stat

    def other(path: Any, **options: Any) -> os.stat_result:
        found = real(path, **options)
        if str(path).endswith(".git"):
            return os.stat_result((*found[:4], found.st_uid + 1, *found[5:10]))
        return found

    assert find(str(place)) is not None
    monkeypatch.setattr(os, "stat", other)
    assert find(str(place)) is None


def test_time_that_is_up_ends_git_and_leaves_what_was_told(place: Path) -> None:
    start = start_of(str(place))
    (place / "new").touch()
    found = told(place, start, lambda: True)
    assert (found.head, found.file_count) == (start, 0)


def test_without_git_what_head_says_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = start_of(str(place))
    monkeypatch.setenv("PATH", "/nowhere")
    found = told(place, "")
    assert (found.branch, found.head, found.file_count) == ("main", head, 0)
