"""The SQLite store's own: its files, its versions, and what it does when the disk misbehaves."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bridle_control.store.api import (
    StoreExistsError,
    StoreForeignError,
    StoreFromFutureError,
    StoreInUseError,
    StoreMissingError,
    StoreOpenError,
    Tx,
    WorkspaceRow,
)
from bridle_control.store.schema import MIGRATIONS
from bridle_control.store.sqlite import SqliteStore
from bridle_core.errors import BridleError, Reason
from tests.support.stores import a_session, an_event, append, begin, open_sqlite

DATABASE = "bridle.sqlite3"


def execute(directory: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(directory / DATABASE, isolation_level=None)) as connection:
        return connection.execute(statement).fetchall()


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


async def made(directory: Path, *texts: str) -> Path:
    """A store that was used and closed."""
    async with open_sqlite(directory) as store:
        await begin(store)
        if texts:
            await append(store, "s1", *texts)
    return directory


# ---------------------------------------------------------------- files and versions


async def test_only_the_owner_can_read_the_store(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with open_sqlite(tmp_path / "deep" / "store") as store:
            await begin(store)
            modes = {
                path.name: path.stat().st_mode & 0o777
                for path in (tmp_path / "deep" / "store").iterdir()
            }
    finally:
        os.umask(before)
    assert (tmp_path / "deep" / "store").stat().st_mode & 0o777 == 0o700
    assert set(modes.values()) == {0o600}
    assert {DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", "lock"} <= modes.keys()


async def test_a_store_is_opened_by_one_process_at_a_time(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path / "store"):
        with pytest.raises(StoreInUseError, match="another process"):
            await SqliteStore.open(tmp_path / "store")
    async with open_sqlite(tmp_path / "store"):
        pass


async def test_a_store_is_not_made_where_one_is_nor_opened_where_none_is(tmp_path: Path) -> None:
    with pytest.raises(StoreMissingError, match="no store there"):
        await SqliteStore.open(tmp_path / "store")
    assert not (tmp_path / "store").exists()
    await made(tmp_path / "store")
    with pytest.raises(StoreExistsError):
        await SqliteStore.open(tmp_path / "store", create=True)


async def test_a_directory_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    os.chmod(tmp_path, 0o755)
    with pytest.raises(StoreForeignError, match=r"thesis\.txt"):
        await SqliteStore.open(tmp_path, create=True)
    assert os.stat(tmp_path).st_mode & 0o777 == 0o755
    with pytest.raises(StoreForeignError, match="not a directory"):
        await SqliteStore.open(tmp_path / "thesis.txt", create=True)


async def test_a_store_that_was_begun_and_never_finished_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / DATABASE).touch()
    store = await SqliteStore.open(tmp_path / "store", create=True)
    await store.close()


async def test_a_store_from_the_future_is_refused_and_left_alone(tmp_path: Path) -> None:
    directory = await made(tmp_path / "store")
    execute(directory, "PRAGMA user_version = 99")
    before = contents(directory)
    with pytest.raises(
        StoreFromFutureError, match=rf"version 99.*reads up to {len(MIGRATIONS)}.*nothing was"
    ):
        await SqliteStore.open(directory)
    assert contents(directory) == before


async def test_files_that_are_no_store_are_refused(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    directory.mkdir()
    (directory / DATABASE).write_bytes(b"this is not a database, however long it may be" * 100)
    with pytest.raises(StoreForeignError):
        await SqliteStore.open(directory)
    (directory / DATABASE).unlink()
    execute(directory, "CREATE TABLE theirs (a)")
    with pytest.raises(StoreForeignError, match="not a store of Bridle"):
        await SqliteStore.open(directory)


async def test_a_place_where_nothing_can_be_made_is_one_clear_line(tmp_path: Path) -> None:
    # Closed to root too, unlike a directory without permission.
    with pytest.raises(StoreOpenError, match=r"^[^\n]+$"):
        await SqliteStore.open(Path("/proc/bridle/store"), create=True)
    (tmp_path / "file").touch()
    with pytest.raises(StoreOpenError, match="Not a directory"):
        await SqliteStore.open(tmp_path / "file" / "store", create=True)


async def test_an_old_store_is_brought_up_to_date_and_keeps_what_it_holds(tmp_path: Path) -> None:
    directory = await made(tmp_path / "store", "one")

    def to_the_next(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE later (a)")

    async with open_sqlite(directory, migrations=(*MIGRATIONS, to_the_next)) as store:
        assert (await store.read(lambda tx: tx.events("s1", 0))).sequences == (1,)
    assert execute(directory, "PRAGMA user_version") == [(len(MIGRATIONS) + 1,)]
    assert execute(directory, "SELECT * FROM later") == []
    with pytest.raises(StoreFromFutureError):
        await SqliteStore.open(directory)


async def test_a_store_of_version_1_learns_how_large_its_logs_are(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    async with open_sqlite(directory, migrations=MIGRATIONS[:1]) as store:
        await begin(store, a_session("s1"), a_session("s2"))
    for sequence, size in ((1, 100), (2, 20), (3, 3)):
        execute(
            directory,
            f"INSERT INTO events SELECT log, {sequence}, 37, 1, 0, zeroblob({size})"
            " FROM sessions WHERE session_id = 's1'",
        )
    execute(
        directory,
        "UPDATE sessions SET floor_sequence = 2, last_sequence = 3 WHERE session_id = 's1'",
    )
    async with open_sqlite(directory) as store:
        sizes = await store.read(lambda tx: tx.log_sizes())
    assert [(size.events, size.bytes) for size in sizes] == [(2, 23), (0, 0)]


async def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    directory = await made(tmp_path / "store", "one")

    def broken(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE half (a)")
        connection.execute("SELECT nonsense")

    with pytest.raises(StoreForeignError):
        await SqliteStore.open(directory, migrations=(*MIGRATIONS, broken))
    async with open_sqlite(directory) as store:
        assert (await store.read(lambda tx: tx.events("s1", 0))).sequences == (1,)
    assert execute(directory, "SELECT name FROM sqlite_master WHERE name = 'half'") == []


async def test_the_file_is_written_in_the_safest_way(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path / "store") as store:

        def pragmas(tx: Tx) -> list[Any]:
            connection = tx._connection  # type: ignore[attr-defined]
            names = ("journal_mode", "synchronous", "foreign_keys")
            return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

        assert await store.write(pragmas) == ["wal", 2, 1]


async def test_readers_can_not_write(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path / "store") as store:
        with pytest.raises(sqlite3.OperationalError):
            await store.read(
                lambda tx: tx._connection.execute("DELETE FROM workspaces")  # type: ignore[attr-defined]
            )


# ---------------------------------------------------------------- a full disk


def cap_pages(tx: Tx, more: int) -> None:
    """Lets the file grow by so many pages and no more: SQLite then says FULL by itself."""
    connection = tx._connection  # type: ignore[attr-defined]
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + more}")


async def test_a_full_disk_acknowledges_nothing_and_the_store_goes_on(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path / "store") as store:
        await begin(store)
        await append(store, "s1", "before")
        await store.write(lambda tx: cap_pages(tx, 2))
        big = [an_event("x" * 60_000) for _ in range(10)]
        results = await asyncio.gather(
            append(store, "s1", "small"),
            store.write(lambda tx: tx.append_events("s1", big)),
            return_exceptions=True,
        )
        # One group: what was acknowledged is there, what was not is not.
        assert [getattr(each, "reason", None) for each in results] == [Reason.STORE_FULL] * 2
        assert (await store.read(lambda tx: tx.events("s1", 0))).sequences == (1,)
        await store.write(lambda tx: cap_pages(tx, 1000))
        assert await append(store, "s1", "after") == 2


async def test_the_last_room_is_for_what_is_urgent(tmp_path: Path) -> None:
    free = 10**9

    async with open_sqlite(
        tmp_path / "store", free_bytes=lambda: free, reserve_bytes=1000
    ) as store:
        await begin(store)
        free = 249  # beside the reserve, a quarter of its size must be free
        with pytest.raises(BridleError) as refused:
            await append(store, "s1", "ordinary")
        assert refused.value.reason is Reason.STORE_FULL
        assert (
            await store.write(lambda tx: tx.append_events("s1", [an_event("urgent")]), urgent=True)
            == 1
        )
        assert (await store.read(lambda tx: tx.events("s1", 0))).sequences == (1,)
        free = 250
        assert await append(store, "s1", "ordinary") == 2


# ---------------------------------------------------------------- a disk that fails


class FailingConnection(sqlite3.Connection):
    """Fails at a statement as if the disk had."""

    statement = "COMMIT"
    code = sqlite3.SQLITE_IOERR_FSYNC
    armed = False

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if type(self).armed and sql == self.statement:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = self.code
            raise error
        return super().execute(sql, *args)


@pytest.fixture
def failing() -> Any:
    yield FailingConnection
    FailingConnection.armed = False


async def test_a_failed_sync_ends_the_process_and_acknowledges_nothing(
    tmp_path: Path, failing: type[FailingConnection]
) -> None:
    ends: list[tuple[str, str]] = []

    def on_fatal(reason: str) -> None:
        ends.append((reason, threading.current_thread().name))

    async with open_sqlite(
        tmp_path / "store", on_fatal=on_fatal, connection_class=failing
    ) as store:
        await begin(store)
        failing.armed = True
        results = await asyncio.gather(
            append(store, "s1", "one"), append(store, "s1", "two"), return_exceptions=True
        )
        assert [getattr(each, "reason", None) for each in results] == [Reason.INTERNAL] * 2
        assert len(ends) == 1
        # Were the process still there, it would not write again, whatever the disk says now.
        failing.armed = False
        with pytest.raises(BridleError) as refused:
            await append(store, "s1", "three")
        assert refused.value.reason is Reason.INTERNAL
    async with open_sqlite(tmp_path / "store") as store:
        assert (await store.read(lambda tx: tx.events("s1", 0))).sequences == ()


async def test_a_writer_that_breaks_ends_the_process_and_leaves_nobody_waiting(
    tmp_path: Path,
) -> None:
    ends: list[str] = []
    broken = False

    def free() -> int:
        if broken:
            raise OSError("the disk is not there any more")
        return 2**40

    async with open_sqlite(tmp_path / "store", on_fatal=ends.append, free_bytes=free) as store:
        await begin(store)
        broken = True
        for _ in range(2):
            with pytest.raises(BridleError) as refused:
                await asyncio.wait_for(append(store, "s1", "one"), 30)
            assert refused.value.reason is Reason.INTERNAL
        assert len(ends) == 1


async def test_a_commit_that_finds_no_room_is_a_full_store(
    tmp_path: Path, failing: type[FailingConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failing, "code", sqlite3.SQLITE_FULL)
    async with open_sqlite(tmp_path / "store", connection_class=failing) as store:
        await begin(store)
        failing.armed = True
        with pytest.raises(BridleError) as refused:
            await append(store, "s1", "one")
        assert refused.value.reason is Reason.STORE_FULL
        failing.armed = False
        assert await append(store, "s1", "one") == 1


# ---------------------------------------------------------------- damage


def flip(path: Path, found: bytes) -> None:
    """Turns one bit of the first place where these bytes stand."""
    data = bytearray(path.read_bytes())
    place = data.index(found) + len(found) // 2
    data[place] ^= 1
    path.write_bytes(data)


async def test_a_flipped_bit_in_an_event_is_found_when_it_is_read(tmp_path: Path) -> None:
    directory = await made(tmp_path / "store", "first", "the marked text", "last")
    flip(directory / DATABASE, b"the marked text")
    async with open_sqlite(directory) as store:
        for after in (0, 1):
            with pytest.raises(BridleError) as damaged:
                await store.read(lambda tx, after=after: tx.events("s1", after))  # type: ignore[misc]
            assert damaged.value.reason is Reason.LOG_CORRUPT
        # What stands beside it is still read.
        assert (await store.read(lambda tx: tx.events("s1", 2))).sequences == (3,)


async def test_a_missing_event_is_found_when_it_is_read(tmp_path: Path) -> None:
    directory = await made(tmp_path / "store", "one", "two", "three")
    execute(directory, "DELETE FROM events WHERE sequence = 2")
    async with open_sqlite(directory) as store:
        with pytest.raises(BridleError) as damaged:
            await store.read(lambda tx: tx.events("s1", 0))
        assert damaged.value.reason is Reason.LOG_CORRUPT


async def test_events_that_were_exchanged_are_found_when_they_are_read(tmp_path: Path) -> None:
    directory = await made(tmp_path / "store", "one", "two")
    execute(
        directory,
        "UPDATE events SET (data, crc) ="
        " (SELECT data, crc FROM events AS other WHERE other.sequence = 3 - events.sequence)",
    )
    async with open_sqlite(directory) as store:
        with pytest.raises(BridleError) as damaged:
            await store.read(lambda tx: tx.events("s1", 0))
        assert damaged.value.reason is Reason.LOG_CORRUPT


async def test_a_ruined_page_is_a_corrupt_log_for_readers_and_writers(tmp_path: Path) -> None:
    directory = await made(tmp_path / "store", *(f"{n:0500}" for n in range(200)))
    page = execute(directory, "SELECT rootpage FROM sqlite_master WHERE name = 'events'")[0][0]
    size = execute(directory, "PRAGMA page_size")[0][0]
    with (directory / DATABASE).open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    async with open_sqlite(directory) as store:
        for damaged in (
            store.read(lambda tx: tx.events("s1", 0)),
            store.write(lambda tx: tx.append_events("s1", [an_event()])),
        ):
            with pytest.raises(BridleError) as told:
                await damaged
            assert told.value.reason is Reason.LOG_CORRUPT
        # The rest of the store still serves.
        await store.write(lambda tx: tx.insert_workspace(WorkspaceRow("team", 1)))
        assert await store.read(lambda tx: tx.session("s1")) is not None


async def test_a_store_copied_while_it_is_written_opens_at_a_commit(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path / "store") as store:
        await begin(store, a_session())
        await append(store, "s1", "one", "two")
        # As a crash of the machine would leave it: no checkpoint, no close.
        shutil.copytree(tmp_path / "store", tmp_path / "copy")
    async with open_sqlite(tmp_path / "copy") as copy:
        assert (await copy.read(lambda tx: tx.events("s1", 0))).sequences == (1, 2)


async def test_a_log_that_became_long_leaves_the_patience_with_other_processes_as_it_was(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "store"
    async with open_sqlite(directory, checkpoint_bytes=64 * 1024, log_bytes=64 * 1024) as store:
        await begin(store)
        for _ in range(20):
            await append(store, "s1", "x" * 20_000)
        other = sqlite3.connect(directory / DATABASE, isolation_level=None, check_same_thread=False)
        with closing(other):
            # As what copies a store does for a moment, where it moves the log by itself.
            other.execute("BEGIN IMMEDIATE")
            asyncio.get_running_loop().call_later(0.5, other.execute, "ROLLBACK")
            assert await append(store, "s1", "more") == 21
