"""A store that was set back gets another log, so that no cursor of before is taken for good."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bridle_control.store.sqlite import SqliteStore
from bridle_control.store.sqlite_restored import OPENING


async def _log_id(directory: Path, *, create: bool = False, restored: bool = False) -> str:
    """Opens the store, closes it, and tells the log's id."""
    store = await SqliteStore.open(directory, create=create, restored=restored)
    try:
        return store.log_id
    finally:
        await store.close()


def _back_up(directory: Path, copy: Path) -> None:
    with (
        closing(sqlite3.connect(directory / "bridle.sqlite3")) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)


def _put_over(copy: Path, file: Path) -> None:
    """As `cp COPY FILE` does: the file stays the same on the disk, and has other bytes."""
    file.write_bytes(copy.read_bytes())


async def test_opening_a_store_again_and_again_leaves_its_log(tmp_path: Path) -> None:
    first = await _log_id(tmp_path / "store", create=True)
    assert [await _log_id(tmp_path / "store") for _ in range(3)] == [first] * 3
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    assert await _log_id(tmp_path / "elsewhere") == first


async def test_a_database_that_was_put_back_has_another_log_and_keeps_it(tmp_path: Path) -> None:
    directory, copy = tmp_path / "store", tmp_path / "copy"
    first = await _log_id(directory, create=True)
    _back_up(directory, copy)
    assert await _log_id(directory) == first
    _put_over(copy, directory / "bridle.sqlite3")
    second = await _log_id(directory)
    assert second != first
    assert await _log_id(directory) == second


async def test_a_directory_that_was_put_back_has_another_log(tmp_path: Path) -> None:
    directory, copy = tmp_path / "store", tmp_path / "copy"
    first = await _log_id(directory, create=True)
    shutil.copytree(directory, copy)
    shutil.rmtree(directory)
    # (A file of its own, so that the place on the disk is not given out again.)
    (tmp_path / "other").write_bytes(b"x")
    copy.rename(directory)
    assert await _log_id(directory) != first


async def test_who_says_that_a_store_was_set_back_is_believed(tmp_path: Path) -> None:
    first = await _log_id(tmp_path, create=True)
    second = await _log_id(tmp_path, restored=True)
    assert second != first
    assert await _log_id(tmp_path) == second


async def test_a_death_while_the_opening_is_marked_is_no_set_back(tmp_path: Path) -> None:
    first = await _log_id(tmp_path, create=True)
    mark = tmp_path / OPENING
    (of_database,) = mark.read_text().split()
    for both in ("{other}\n{of_database}\n", "{of_database}\n{other}\n"):
        mark.write_text(both.format(other="0" * 32, of_database=of_database))
        assert await _log_id(tmp_path) == first
        (of_database,) = mark.read_text().split()


async def test_a_store_that_can_not_be_marked_is_opened_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = await _log_id(tmp_path, create=True)
    # What root may not do either: a directory in the file's way.
    (tmp_path / f"{OPENING}.new").mkdir()
    assert await _log_id(tmp_path) == first
    assert "could not be marked" in caplog.text
