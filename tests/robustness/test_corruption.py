"""Damage to what is stored, anywhere: it is found, told of, and never served or swept away."""

from __future__ import annotations

import os
import random
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from zlib import crc32

import pytest

from bridle.errors import BridleError as ClientError
from bridle.v1 import event_pb2
from bridle_control.store.api import Store, StoreOpenError, Tx
from bridle_control.store.event_bytes import commit_time_field, frame
from bridle_control.store.schema import MIGRATIONS
from bridle_core.errors import BridleError, Reason
from bridle_host.journal import Journal
from bridle_host.journal_file import JournalError
from tests.bridle_host.journal_support import Fatal, answer, opened, output, records
from tests.pair import running_pair
from tests.scenarios.support import log, turn_ends
from tests.support.stores import a_session, an_event, append, begin, open_sqlite, parse

DATABASE = "bridle.sqlite3"
SEED = int(os.environ.get("BRIDLE_SEED", "3"))
#: How many places are damaged, one at a time.
PLACES = int(os.environ.get("BRIDLE_PLACES", "40"))

KIND = event_pb2.EVENT_KIND_TOOL_CALL_OUTPUT
#: A session as the first version kept it.
OLD_SESSION = """INSERT INTO sessions VALUES (1, 's1', 'default', 's1', 'shell', 'h1', 3, 1, 9,
    9, '', '', '', '{}', 1, 0, 0, x'', '', x'', 0, '', '', '[]', 0, x'', 3, 1)"""

Logs = dict[str, tuple[bytes, ...]]


async def a_store(directory: Path) -> Logs:
    """A closed store with two logs, and what is in them."""
    # At one time, or rows would have other lengths each time.
    async with open_sqlite(directory, clock=lambda: 1_700_000_000_123_456_789) as store:
        await begin(store, a_session("s1"), a_session("s2"))
        for number in range(20):
            for session_id in ("s1", "s2"):
                await append(store, session_id, *(f"{session_id} {number} {'y' * 400}",) * 5)
        return {session_id: await events_of(store, session_id) for session_id in ("s1", "s2")}


async def events_of(store: Store, session_id: str) -> tuple[bytes, ...]:
    """All events of a session; its row is looked at, too."""
    assert await store.read(lambda tx: tx.session(session_id)) is not None
    return (await store.read(lambda tx: tx.events(session_id, 0))).framed


def sizes(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in directory.iterdir()}


async def check_served(directory: Path, logs: Logs) -> str:
    """Whatever a damaged store serves is what was written; returns how it tells of the damage."""
    before = sizes(directory)
    told = "nothing"
    refusal = ""
    try:
        async with open_sqlite(directory) as store:
            for session_id, framed in logs.items():
                reason = None
                try:
                    found = await events_of(store, session_id)
                except BridleError as error:
                    reason = error.reason
                if reason is None:
                    assert found == framed
                else:
                    assert reason is Reason.LOG_CORRUPT
                    told = "LOG_CORRUPT"
    except StoreOpenError as error:
        refusal = str(error)
    if refusal:
        assert "\n" not in refusal
        assert sizes(directory) == before
        return "refused"
    assert sizes(directory)[DATABASE] >= before[DATABASE]
    return told


def flip(path: Path, data: bytes, place: int, bit: int) -> None:
    """Writes the bytes with one bit turned."""
    damaged = bytearray(data)
    damaged[place] ^= 1 << bit
    path.write_bytes(damaged)


async def test_a_byte_flipped_anywhere_is_never_served(tmp_path: Path) -> None:
    logs = await a_store(tmp_path / "store")
    chance = random.Random(SEED)
    data = (tmp_path / "store" / DATABASE).read_bytes()
    told = []
    for number in range(PLACES):
        directory = tmp_path / f"copy-{number}"
        shutil.copytree(tmp_path / "store", directory)
        place = chance.randrange(len(data))
        flip(directory / DATABASE, data, place, chance.randrange(8))
        told.append(await check_served(directory, logs))
        shutil.rmtree(directory)
    print({each: told.count(each) for each in sorted(set(told))})
    assert told.count("LOG_CORRUPT") > PLACES // 4  # most of the file is events


async def test_no_byte_of_an_event_row_changes_unseen(tmp_path: Path) -> None:
    logs = await a_store(tmp_path / "store")
    path = tmp_path / "store" / DATABASE
    data = path.read_bytes()
    # (The same text stands also where a page is no longer used.)
    for found in re.finditer(b"s1 7 yyy", data):
        text = found.start()
        flip(path, data, text, 2)
        if await check_served(tmp_path / "store", logs) != "nothing":
            break
    unseen = []
    # From before the row (its key, kind, run and checksum) to behind its text.
    for place in [*range(text - 36, text + 12), *range(text + 12, text + 440, 43)]:
        flip(path, data, place, 2)
        if await check_served(tmp_path / "store", logs) == "nothing":
            unseen.append(place - text)
        path.write_bytes(data)
    assert unseen == [], unseen


async def test_a_tree_that_brings_sound_rows_twice_is_found(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path / "store") as store:
        await begin(store)
        for number in range(10):
            await append(store, "s1", *(f"{number:03} {'y' * 400}",) * 10)
        logs = {"s1": await events_of(store, "s1")}
    path = tmp_path / "store" / DATABASE
    with closing(sqlite3.connect(path)) as connection:
        rows = dict(connection.execute("SELECT pageno, ncell FROM dbstat WHERE name = 'events'"))
        inner = connection.execute(
            "SELECT pageno FROM dbstat WHERE name = 'events' AND pagetype = 'internal'"
            " ORDER BY ncell DESC LIMIT 1"
        ).fetchone()[0]
    data = bytearray(path.read_bytes())
    cells = places_of_cells(data, (inner - 1) * 4096)
    # Each cell begins with the page of what is before it. Two side by side with as many rows:
    pages = [int.from_bytes(data[cell : cell + 4], "big") for cell in cells]
    place = next(n for n in range(len(pages)) if rows[pages[n]] == rows[pages[n + 1]])
    data[cells[place + 1] : cells[place + 1] + 4] = data[cells[place] : cells[place] + 4]
    path.write_bytes(data)
    assert await check_served(tmp_path / "store", logs) == "LOG_CORRUPT"


def places_of_cells(data: bytes | bytearray, page: int) -> list[int]:
    """Where the cells of an inner page begin: their places stand behind its header of 12 bytes."""
    assert data[page] == 2
    count = int.from_bytes(data[page + 3 : page + 5], "big")
    places = range(page + 12, page + 12 + 2 * count, 2)
    return [page + int.from_bytes(data[place : place + 2], "big") for place in places]


async def test_a_store_that_is_cut_by_a_page_is_refused_and_left_alone(tmp_path: Path) -> None:
    logs = await a_store(tmp_path / "store")
    size = (tmp_path / "store" / DATABASE).stat().st_size
    os.truncate(tmp_path / "store" / DATABASE, size - 4096)
    assert await check_served(tmp_path / "store", logs) == "refused"


async def test_an_index_that_lacks_a_row_is_found_at_the_start(tmp_path: Path) -> None:
    logs = await a_store(tmp_path / "store")
    with closing(sqlite3.connect(tmp_path / "store" / DATABASE)) as connection:
        root = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_sessions_1'"
        ).fetchone()[0]
    # The session would not be found by its id any more, nor a request by its own.
    with (tmp_path / "store" / DATABASE).open("r+b") as file:
        file.seek((root - 1) * 4096)
        page = file.read(4096)
        file.seek((root - 1) * 4096)
        file.write(page.replace(b"s1", b"s3"))
    assert await check_served(tmp_path / "store", logs) == "refused"


async def test_a_damaged_schema_is_refused(tmp_path: Path) -> None:
    logs = await a_store(tmp_path / "store")
    path = tmp_path / "store" / DATABASE
    data = path.read_bytes()
    path.write_bytes(data.replace(b"end_message TEXT", b"end_massage TEXT"))
    assert await check_served(tmp_path / "store", logs) == "refused"


async def test_a_damaged_log_is_told_of_and_the_others_go_on(tmp_path: Path) -> None:
    async with running_pair(tmp_path) as pair:
        for slug in ("harmed", "sound"):
            await pair.client.start_session(slug, agent="shell", prompt=f"echo from {slug}")
            await turn_ends(pair, slug, 1)
        await pair.end_control()
        path = pair.home / "control" / DATABASE
        data = path.read_bytes()
        place = data.index(b"from harmed\n")  # (what it was asked is text without the newline)
        path.write_bytes(data[:place] + b"X" + data[place + 1 :])
        await pair.start_control()
        with pytest.raises(ClientError) as told:
            await log(pair, "harmed")
        assert told.value.reason == "LOG_CORRUPT"
        with pytest.raises(ClientError) as told:
            async for _ in pair.client.watch("harmed"):
                pass
        assert told.value.reason == "LOG_CORRUPT"
        # It can be steered, and the others live as if nothing had been.
        await pair.client.send("sound", "echo once more")
        await turn_ends(pair, "sound", 2)
        assert len(await log(pair, "sound")) > 10
        killed = await pair.client.kill("harmed")
        await pair.client.wait(killed.receipt)


# ---------------------------------------------------------------- the host's journal


async def test_a_byte_flipped_in_the_journal_is_never_told_to_control(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        for number in range(30):
            await journal.append([output(f"{number}" * 200), answer(f"c{number}")])
            await journal.put_run("s", number, b"state" * 20)
    async with opened(tmp_path) as journal:
        sound = await records(journal)
    chance = random.Random(SEED)
    data = (tmp_path / "journal").read_bytes()
    lines: list[str] = []
    for _ in range(PLACES):
        place = chance.randrange(len(data))
        flip(tmp_path / "journal", data, place, chance.randrange(8))
        try:
            async with opened(tmp_path) as journal:
                assert await records(journal) == sound
        except JournalError as error:
            lines.append(str(error))
    assert len(lines) > PLACES // 4
    assert not [line for line in lines if "\n" in line]


async def test_a_journal_that_is_damaged_while_it_is_open_ends_the_host(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        for number in range(3):
            await journal.append([output(f"{number} the marked text")])
    async with opened(tmp_path, on_fatal=(fatal := Fatal())) as journal:
        data = (tmp_path / "journal").read_bytes()
        (tmp_path / "journal").write_bytes(data.replace(b"1 the marked", b"1 the market"))
        journal._writer._file._db.execute("PRAGMA cache_size = 0")
        with pytest.raises(JournalError, match="journal failed"):
            await records(journal)
        assert "damaged" in fatal.lines[0]


# ---------------------------------------------------------------- older stores


async def test_a_store_of_the_first_version_opens_and_its_checksums_still_hold(
    tmp_path: Path,
) -> None:
    async with open_sqlite(tmp_path / "store", migrations=MIGRATIONS[:1]) as store:

        def old(tx: Tx) -> None:
            run = tx._connection.execute  # type: ignore[attr-defined]
            run(OLD_SESSION)
            for sequence, text in enumerate(("one", "two", "three"), 1):
                data = frame(an_event(text).data, sequence, commit_time_field(9))
                crc = crc32(data, sequence * 4096 + KIND)
                run("INSERT INTO events VALUES (1, ?, ?, 1, ?, ?)", (sequence, KIND, crc, data))

        await store.write(old)
    async with open_sqlite(tmp_path / "store") as store:
        assert await append(store, "s1", "four") == 4
        found = await store.read(lambda tx: tx.events("s1", 0))
        texts = [parse(each).tool_call_output.text for each in found.framed]
        assert texts == ["one", "two", "three", "four"]
    for text in (b"two", b"four"):
        data = (tmp_path / "store" / DATABASE).read_bytes()
        (tmp_path / "store" / DATABASE).write_bytes(data.replace(text, text.upper()))
        async with open_sqlite(tmp_path / "store") as store:
            with pytest.raises(BridleError) as told:
                await store.read(lambda tx: tx.events("s1", 0))
            assert told.value.reason is Reason.LOG_CORRUPT
        (tmp_path / "store" / DATABASE).write_bytes(data)


async def test_a_journal_of_the_first_format_opens_and_is_checked_from_then_on(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as journal:
        await journal.append([output("kept"), answer("c1")])
        await journal.put_run("s", 1, b"state")
    with closing(sqlite3.connect(tmp_path / "journal")) as connection:
        for table in ("entries", "answers", "runs"):
            connection.execute(f"ALTER TABLE {table} DROP COLUMN crc")
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
    async with opened(tmp_path) as journal:
        assert next(iter(await records(journal))).event.event == b"kept"
        assert journal.answers("c1")
        assert journal.runs() == [("s", 1, b"state")]
        assert await journal.append([output("more")]) == 3
    data = (tmp_path / "journal").read_bytes()
    (tmp_path / "journal").write_bytes(data.replace(b"kept", b"lost"))
    with pytest.raises(JournalError, match="damaged"):
        Journal.open(tmp_path / "journal", on_fatal=Fatal())
