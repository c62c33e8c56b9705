"""The journal: what it promises to the sessions and the link, over restarts and bad disks."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import stat
from pathlib import Path

import pytest

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle_host.journal import MAX_ENTRY_BYTES, Entry, Journal
from bridle_host.journal_answers import KEPT
from bridle_host.journal_file import FORMAT, JournalError
from tests.bridle_host.journal_support import (
    OUTPUT,
    PENDING,
    BadDisk,
    Fatal,
    answer,
    bad_disk,
    lifecycle,
    opened,
    output,
    records,
    settle,
    until,
)
from tests.robustness.disks import Filler, small_disk

# --- entries ---


async def test_entries_are_numbered_from_1_without_gaps_in_the_order_of_the_calls(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as journal:
        assert (journal.last_sequence, journal.floor) == (0, 0)
        lasts = await asyncio.gather(
            *(journal.append([output(f"{i}.{k}") for k in range(3)]) for i in range(50))
        )
        assert lasts == list(range(3, 153, 3))
        found = await records(journal)
        assert [record.journal_sequence for record in found] == list(range(1, 151))
        assert [r.event.event for r in found] == [
            f"{i}.{k}".encode() for i in range(50) for k in range(3)
        ]
        assert journal.floor == 1


async def test_each_kind_of_entry_comes_back_as_it_went_in(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append(
            [
                Entry("s1", 7, event=(OUTPUT, b"\x00\xff")),
                answer("c1", PENDING, "s2", 8),
                Entry("s3", 9, driver_state=b"state"),
                Entry("s3", 9, driver_state=b""),
                Entry("s4", 1, event=(12345, b"of a later version")),
                Entry("s5", 2, adopt=host_pb.AdoptEntry(last_turn=3)),
            ]
        )
    async with opened(tmp_path) as journal:
        event, command, state, empty, unknown, adopt = await records(journal)
        assert (event.session_id, event.run) == ("s1", 7)
        assert (event.event.kind, event.event.event) == (OUTPUT, b"\x00\xff")
        assert (command.session_id, command.run) == ("s2", 8)
        assert command.command.command_id == "c1"
        assert command.command.outcome.state == PENDING
        assert state.driver_state.state == b"state"
        assert empty.WhichOneof("entry") == "driver_state"
        assert unknown.event.kind == 12345
        assert (adopt.session_id, adopt.adopt.last_turn) == ("s5", 3)
        assert journal.adopted == 6


async def test_numbers_above_127_are_written_as_protobuf_reads_them(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append([output(str(i)) for i in range(20_000)])
        found = await records(journal, 16_380)
        assert [record.journal_sequence for record in found] == list(range(16_381, 20_001))


async def test_appending_nothing_returns_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        assert await journal.append([]) == 0
        await journal.append([output()])
        assert await journal.append([]) == 1


async def test_an_entry_that_no_message_could_carry_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        with pytest.raises(ValueError, match="too large"):
            await journal.append([output("x" * (MAX_ENTRY_BYTES + 1))])
        assert await journal.append([output()]) == 1


async def test_what_waits_during_a_commit_goes_into_the_next_one_together(tmp_path: Path) -> None:
    commits = 0

    class Counting(sqlite3.Connection):
        def execute(self, sql: str, *arguments: object) -> sqlite3.Cursor:
            nonlocal commits
            commits += sql == "COMMIT"
            return super().execute(sql, *arguments)  # type: ignore[arg-type]

    def connect(path: Path) -> sqlite3.Connection:
        return sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, factory=Counting
        )

    async with opened(tmp_path, connect=connect) as journal:
        commits = 0
        await asyncio.gather(*(journal.append([output()]) for _ in range(400)))
        assert commits < 100


async def test_a_cancelled_append_leaves_no_gap(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(journal.append([output("a")]))
            await asyncio.sleep(0)
            first.cancel()
            await group.create_task(journal.append([output("b")]))
        assert [r.event.event for r in await records(journal)] == [b"a", b"b"]


# --- reading ---


async def test_a_read_takes_what_fits_and_at_least_one(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append([output("x" * 1000) for _ in range(10)])
        assert len(await journal.read_after(0, 3_500)) == 3
        assert len(await journal.read_after(4, 1)) == 1
        assert len(await journal.read_after(4, 1 << 20, 2)) == 2
        assert await journal.read_after(10, 1 << 20) == []
    async with opened(tmp_path) as journal:  # now from the disk, not from memory
        assert [s for s, _ in await journal.read_after(0, 3_500)] == [1, 2, 3]
        assert [s for s, _ in await journal.read_after(4, 1)] == [5]
        assert [s for s, _ in await journal.read_after(4, 1 << 20, 2)] == [5, 6]


async def test_entries_read_from_memory_and_from_the_disk_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridle_host.journal.TAIL_BYTES", 2_000)
    async with opened(tmp_path) as journal:
        for i in range(100):
            await journal.append([output(f"{i:0100}")])
        found: list[tuple[int, bytes]] = []
        while batch := await journal.read_after(len(found), 500):
            found += batch
        assert found == await journal.read_after(0, 1 << 20)
        assert [s for s, _ in found] == list(range(1, 101))


async def test_listeners_hear_of_entries_only_when_they_can_be_read(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        seen: list[int] = []
        journal.on_durable(lambda: seen.append(journal.last_sequence))
        await journal.append([output(), output()])
        assert seen == [2]


# --- acknowledgement ---


async def test_acknowledged_entries_are_gone_and_their_numbers_never_come_again(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as journal:
        await journal.append([output() for _ in range(10)])
        journal.acknowledge(7)
        assert (journal.acknowledged, journal.floor) == (7, 8)
        assert [s for s, _ in await journal.read_after(0, 1 << 20)] == [8, 9, 10]
        journal.acknowledge(3)  # an old one says nothing new
        assert journal.acknowledged == 7
        journal.acknowledge(10)
        assert (journal.floor, journal.size) == (0, 0)
    async with opened(tmp_path) as journal:
        assert (journal.last_sequence, journal.floor, journal.acknowledged) == (10, 0, 10)
        assert await journal.append([output()]) == 11


async def test_an_acknowledgement_of_what_was_never_written_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append([output()])
        with pytest.raises(ValueError, match="newest is 1"):
            journal.acknowledge(2)


async def test_waiting_for_an_acknowledgement_ends_with_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal, asyncio.TaskGroup() as group:
        await journal.append([output(), output()])
        waiting = group.create_task(journal.wait_acknowledged(2))
        journal.acknowledge(1)
        await settle()
        assert not waiting.done()
        journal.acknowledge(2)
        await waiting


# --- answers ---


async def test_answers_are_found_by_the_commands_id_also_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.put_run("s", 1, b"")
        await journal.append([answer("c1", PENDING), output(), answer("c2")])
        await journal.append([answer("c1")])
        assert journal.answers("unknown") == []
    async with opened(tmp_path) as journal:
        assert [a.outcome.state for a in journal.answers("c1")] == [PENDING, 2]
        assert [a.command_id for a in journal.answers("c2")] == ["c2"]


async def test_an_answer_is_found_before_it_is_durable(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal, asyncio.TaskGroup() as group:
        group.create_task(journal.append([answer("c1")]))
        await asyncio.sleep(0)
        assert len(journal.answers("c1")) == 1


async def test_commands_that_were_begun_and_never_decided_are_listed(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.put_run("s", 3, b"")
        await journal.append([answer("c1", PENDING, run=3), answer("c2", PENDING, run=3)])
        await journal.append([answer("c1", run=3)])
    async with opened(tmp_path) as journal:
        ((session_id, run, newest),) = journal.open_commands()
        assert (session_id, run, newest.command_id) == ("s", 3, "c2")


async def test_answers_stay_while_their_run_lives_or_they_are_not_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridle_host.journal_answers.KEPT", 0)
    async with opened(tmp_path) as journal:
        await journal.put_run("s", 1, b"")
        await journal.append([answer("acknowledged")])
        journal.acknowledge(1)
        await journal.append([answer("not acknowledged", session_id="other")])
        assert journal.answers("acknowledged")
        assert journal.answers("not acknowledged")
        await journal.drop_run("s", 1)
        assert not journal.answers("acknowledged")
        journal.acknowledge(2)
        assert not journal.answers("not acknowledged")
        await journal.append([output()])  # carries the deletions
    async with opened(tmp_path) as journal:
        assert not journal.answers("acknowledged")
        assert not journal.answers("not acknowledged")


async def test_the_newest_answers_of_ended_runs_are_kept_beyond_need(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append([answer(f"c{i}") for i in range(KEPT + 10)])
        journal.acknowledge(KEPT + 10)
        assert not journal.answers("c9")
        assert journal.answers("c10")
    async with opened(tmp_path) as journal:
        assert not journal.answers("c9")
        assert journal.answers("c10")
        await journal.append([answer("new", session_id="late")])
        journal.acknowledge(KEPT + 11)
        assert not journal.answers("c10")


# --- runs ---


async def test_live_runs_are_kept_until_they_are_dropped(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.put_run("s1", 1, b"a")
        await journal.put_run("s2", 4, b"b")
        await journal.put_run("s1", 1, b"c")
        await journal.drop_run("s2", 4)
        await journal.drop_run("never", 1)
        assert journal.runs() == [("s1", 1, b"c")]
    async with opened(tmp_path) as journal:
        assert journal.runs() == [("s1", 1, b"c")]


async def test_a_runs_state_is_kept_in_the_commit_of_its_entries(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append([output()], lambda: ("s", 1, b"a"))
        await journal.append([output()], lambda: None)
        assert journal.runs() == [("s", 1, b"a")]
    async with opened(tmp_path) as journal:
        assert journal.runs() == [("s", 1, b"a")]


async def test_a_runs_state_is_asked_for_when_there_is_room(tmp_path: Path) -> None:
    state = b"old"
    async with opened(tmp_path, cap_bytes=100) as journal, asyncio.TaskGroup() as group:
        await journal.append([output("x" * 100)])
        waiting = group.create_task(journal.append([output()], lambda: ("s", 1, state)))
        await settle()
        state = b"new"
        journal.acknowledge(1)
        await waiting
        assert journal.runs() == [("s", 1, b"new")]


# --- room ---


async def test_output_waits_at_the_cap_and_goes_on_when_control_acknowledges(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, cap_bytes=3_000, reserve_bytes=1_000) as journal:
        await journal.append([output("x" * 1000), output("x" * 1000)])
        async with asyncio.TaskGroup() as group:
            late = group.create_task(journal.append([output("y" * 1000)]))
            # The lifecycle of any session goes on meanwhile, into the reserve.
            assert await journal.append([answer("stop"), lifecycle("ended")]) == 4
            assert not late.done()
            journal.acknowledge(2)
            assert await late == 5
        assert [r.event.event[:1] for r in await records(journal, 3)] == [b"e", b"y"]


async def test_output_that_is_urgent_goes_into_the_reserve(tmp_path: Path) -> None:
    async with opened(tmp_path, cap_bytes=100, reserve_bytes=1_000) as journal:
        await journal.append([output("x" * 100)])
        assert await journal.append([output("y" * 100)], urgent=True) == 2


async def test_whoever_looked_gets_a_place_at_once_or_none_at_all(tmp_path: Path) -> None:
    async with opened(tmp_path, cap_bytes=100, reserve_bytes=1_000) as journal:
        begun = journal.begin([output("x" * 200)], ("session", 1, b"state"))
        assert begun is not None
        # It has its number, and its state, before it is durable.
        assert (journal.assigned_sequence, journal.last_sequence) == (1, 0)
        assert journal.runs() == [("session", 1, b"state")]
        assert journal.pressed
        assert journal.begin([output("y")], ("session", 1, b"later")) is None
        assert journal.runs() == [("session", 1, b"state")]
        urgent = journal.begin([output("y")], urgent=True)
        assert urgent is not None
        await begun
        await urgent
        assert journal.last_sequence == 2


async def test_a_batch_with_a_lifecycle_entry_goes_as_a_whole(tmp_path: Path) -> None:
    async with opened(tmp_path, cap_bytes=1_500, reserve_bytes=2_000) as journal:
        await journal.append([output("x" * 1400)])
        assert await journal.append([output("y" * 200), lifecycle()]) == 3


async def test_above_the_reserve_all_wait_and_nothing_is_lost(tmp_path: Path) -> None:
    async with opened(tmp_path, cap_bytes=1_000, reserve_bytes=1_000) as journal:
        await journal.append([lifecycle("x" * 1800)])
        async with asyncio.TaskGroup() as group:
            late = [group.create_task(journal.append([lifecycle(f"{i}" * 300)])) for i in range(3)]
            await settle()
            assert not any(task.done() for task in late)
            journal.acknowledge(1)
        assert [r.event.event[:1] for r in await records(journal, 1)] == [b"0", b"1", b"2"]


async def test_pressed_tells_when_to_stop_reading_from_an_agent(tmp_path: Path) -> None:
    async with opened(tmp_path, cap_bytes=1_000) as journal:
        await journal.wait_for_room()
        await journal.append([output("x" * 1_000)])
        assert journal.pressed
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(journal.wait_for_room())
            await settle()
            assert not waiting.done()
            journal.acknowledge(1)
        await waiting


async def test_while_control_is_there_agents_are_read_no_faster_than_it_takes(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, cap_bytes=64 * 1024 * 1024) as journal:
        journal.linked(True)
        pressed = []
        for _ in range(3):
            last = await journal.append([output("x" * 400_000)])
            pressed.append(journal.pressed)
        assert pressed == [False, False, True]
        # Without control they work on, up to the cap.
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(journal.wait_for_room())
            await settle()
            assert not waiting.done()
            journal.linked(False)
        journal.linked(True)
        journal.acknowledge(last)
        await journal.wait_for_room()


async def test_an_entry_larger_than_the_cap_goes_into_an_empty_journal(tmp_path: Path) -> None:
    async with opened(tmp_path, cap_bytes=10, reserve_bytes=0) as journal:
        assert await journal.append([output("x" * 1000)]) == 1


async def test_the_size_is_known_again_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append([output("x" * 1000) for _ in range(2500)])
        journal.acknowledge(100)
        await journal.append([output()])
        size = journal.size
    async with opened(tmp_path, cap_bytes=1_000) as journal:
        assert journal.size <= size
        assert journal.pressed
        journal.acknowledge(2501)
        assert journal.size == 0


# --- bad disks ---


async def test_a_full_disk_makes_appends_wait_and_loses_nothing(tmp_path: Path) -> None:
    connections: list[sqlite3.Connection] = []

    def connect(path: Path) -> sqlite3.Connection:
        connections.append(sqlite3.connect(path, isolation_level=None, check_same_thread=False))
        return connections[-1]

    async with opened(tmp_path, connect=connect) as journal:
        await journal.append([output("before")])
        # SQLite's own limit gives the very error of a full disk.
        connections[0].execute("PRAGMA max_page_count = 12")
        async with asyncio.TaskGroup() as group:
            large = group.create_task(journal.append([output("x" * 200_000)]))
            await until(lambda: journal.pressed)
            small = group.create_task(journal.append([lifecycle("small")]))
            output_waits = group.create_task(journal.append([output("late")]))
            await until(lambda: not (tmp_path / "journal.reserve").exists())
            assert not large.done()
            connections[0].execute("PRAGMA max_page_count = 100000")
            assert (await large, await small, await output_waits) == (2, 3, 4)
        await journal.wait_for_room()
        assert (tmp_path / "journal.reserve").stat().st_size == 4096
    async with opened(tmp_path) as journal:
        assert [r.event.event[:5] for r in await records(journal)] == [
            b"befor",
            b"xxxxx",
            b"small",
            b"late",
        ]


async def test_a_journal_that_takes_another_id_waits_for_room_on_a_full_disk(
    tmp_path: Path,
) -> None:
    fatal = Fatal()
    async with opened(tmp_path, connect=bad_disk, on_fatal=fatal) as journal:
        await journal.append([output("gone"), output("x")])
        journal.acknowledge(1)
        await journal.append([output("y")])  # and nothing is left to be written
        before = journal.journal_id
        BadDisk.failing = ("COMMIT", sqlite3.SQLITE_FULL)
        await journal.renew()
        assert vars(BadDisk)["failing"] is None  # it has met it
        assert journal.journal_id != before
        assert await journal.append([output("z")]) == 3
    assert not fatal.lines
    async with opened(tmp_path) as journal:
        assert [r.event.event for r in await records(journal)] == [b"x", b"y", b"z"]


async def test_a_journal_opened_on_a_full_disk_lets_only_the_lifecycle_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("bridle_host.journal_writer.TRIM_DELAY", 0.01)
    with monkeypatch.context() as disk:
        disk.setattr(os, "posix_fallocate", full)
        journal = Journal.open(tmp_path / "journal", on_fatal=Fatal(), reserve_bytes=4096)
        assert journal.pressed
        assert await journal.append([lifecycle()]) == 1
        # (It is made to look whether there is room again, and goes.)
        await until(lambda: not (tmp_path / "journal.reserve").exists())
    assert await journal.append([output()]) == 2
    await journal.close()


async def test_a_reserve_that_cannot_be_laid_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "journal.reserve").mkdir()
    with pytest.raises(JournalError, match="reserve can't be written: Is a directory"):
        Journal.open(tmp_path / "journal", on_fatal=Fatal())


async def test_closing_on_a_full_disk_refuses_what_does_not_fit(tmp_path: Path) -> None:
    connections: list[sqlite3.Connection] = []

    def connect(path: Path) -> sqlite3.Connection:
        connections.append(sqlite3.connect(path, isolation_level=None, check_same_thread=False))
        return connections[-1]

    fatal = Fatal()
    async with opened(tmp_path, connect=connect, on_fatal=fatal) as journal:
        await journal.append([output("before")])
        connections[0].execute("PRAGMA max_page_count = 12")
        async with asyncio.TaskGroup() as group:
            large = group.create_task(expect_failure(journal, "x" * 200_000, "no space"))
            await until(lambda: journal.pressed)
            await journal.close()
            await large
    assert fatal.lines == []
    async with opened(tmp_path) as journal:
        assert journal.last_sequence == 1


async def expect_failure(journal: Journal, text: str, match: str) -> None:
    with pytest.raises(JournalError, match=match):
        await journal.append([output(text)])


@pytest.mark.parametrize("code", ["SQLITE_IOERR_FSYNC", "SQLITE_IOERR_WRITE", "SQLITE_CORRUPT"])
async def test_a_failed_disk_ends_the_process_and_nothing_is_tried_again(
    tmp_path: Path, code: str
) -> None:
    fatal = Fatal()
    async with opened(tmp_path, connect=bad_disk, on_fatal=fatal) as journal:
        await journal.append([output("before")])
        BadDisk.failing = ("COMMIT", getattr(sqlite3, code))
        await expect_failure(journal, "after", "journal failed")
        assert len(fatal.lines) == 1
        await expect_failure(journal, "later", "journal failed")
        with pytest.raises(JournalError):
            await journal.put_run("s", 1, b"")
        with pytest.raises(JournalError):
            await journal.wait_acknowledged(2)
        assert len(fatal.lines) == 1
    async with opened(tmp_path) as journal:
        assert [r.event.event for r in await records(journal)] == [b"before"]


async def test_a_failed_fsync_of_a_checkpoint_is_not_overlooked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridle_host.journal_file.CHECKPOINT_BYTES", 1)
    fatal = Fatal()
    async with opened(tmp_path, connect=bad_disk, on_fatal=fatal) as journal:
        BadDisk.failing = ("PRAGMA wal_checkpoint", sqlite3.SQLITE_IOERR_FSYNC)
        await journal.append([output()])
        await until(lambda: bool(fatal.lines))


async def test_a_checkpoint_on_a_full_disk_is_made_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridle_host.journal_file.CHECKPOINT_BYTES", 1)
    async with opened(tmp_path, connect=bad_disk) as journal:
        BadDisk.failing = ("PRAGMA wal_checkpoint", sqlite3.SQLITE_FULL)
        await journal.append([output("a")])
        await journal.append([lifecycle("b")])
        await journal.wait_for_room()
        assert await journal.append([output("c")]) == 3


async def test_the_write_ahead_log_stays_small_however_little_each_commit_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridle_host.journal_file.LOG_BYTES", 512 * 1024)
    log = tmp_path / "journal-wal"
    largest = 0
    async with opened(tmp_path) as journal:
        for number in range(1, 101):
            await journal.append([output()], lambda: ("s", 1, b"state"))
            journal.acknowledge(number)
            largest = max(largest, log.stat().st_size)
        assert 256 * 1024 < largest < 640 * 1024
        await until(lambda: log.stat().st_size < 512 * 1024)


async def test_a_disk_that_the_write_ahead_log_itself_has_filled_has_room_again_by_itself(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path / "disk", 16) as disk:
        filler = Filler(disk)
        async with opened(disk, reserve_bytes=4 * 1024 * 1024) as journal:
            while (disk / "journal-wal").stat().st_size < 6 * 1024 * 1024:
                # (Carried out with the append: nothing is to be written by itself while the disk is
                # filled, which would give the log's room away to the filler.)
                journal.acknowledge(journal.last_sequence)
                await journal.append([output()], lambda: ("s", 1, b"state"))
            filler.fill()
            for _ in range(20):
                await journal.append([lifecycle()])
            async with asyncio.timeout(30):
                await journal.wait_for_room()
                await journal.append([output("there is room")])
            assert not journal.pressed
            assert (disk / "journal.reserve").stat().st_size == 4 * 1024 * 1024


# --- the file ---


async def test_the_journals_files_are_for_their_owner_only(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append([output()])
        assert set(modes_in(tmp_path)) == {"journal", "journal-wal", "journal.reserve"}
        assert set(modes_in(tmp_path).values()) == {0o600}


def modes_in(directory: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}


async def test_the_journals_id_is_random_and_stays(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with opened(tmp_path / "a") as a, opened(tmp_path / "b") as b:
        assert a.journal_id != b.journal_id
        first = a.journal_id
    async with opened(tmp_path / "a") as a:
        assert a.journal_id == first


async def test_commits_are_synced_to_the_disk(tmp_path: Path) -> None:
    settings: list[int] = []

    class Looking(sqlite3.Connection):
        def close(self) -> None:
            settings.append(self.execute("PRAGMA synchronous").fetchone()[0])
            super().close()

    def connect(path: Path) -> sqlite3.Connection:
        return sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Looking)

    async with opened(tmp_path, connect=connect) as journal:
        await journal.append([output()])
    assert settings == [2]  # FULL


async def test_a_second_process_cannot_open_the_journal(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(JournalError, match="used by another process"):
            Journal.open(tmp_path / "journal", on_fatal=Fatal())


async def test_a_journal_from_the_future_is_refused_and_left_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append([output()])
    change(tmp_path, f"PRAGMA user_version = {FORMAT + 1}")
    before = (tmp_path / "journal").read_bytes()
    with pytest.raises(JournalError, match="written by a newer bridle-host") as caught:
        Journal.open(tmp_path / "journal", on_fatal=Fatal())
    assert "\n" not in str(caught.value)
    assert (tmp_path / "journal").read_bytes() == before


async def test_a_file_that_is_no_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    change(tmp_path, "CREATE TABLE of_somebody_else (x)")
    with pytest.raises(JournalError, match="is not a journal"):
        Journal.open(tmp_path / "journal", on_fatal=Fatal())
    (tmp_path / "journal").write_bytes(b"no database at all" * 100)
    with pytest.raises(JournalError, match="is damaged"):
        Journal.open(tmp_path / "journal", on_fatal=Fatal())


async def test_a_journal_with_a_gap_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append([output() for _ in range(5)])
    change(tmp_path, "DELETE FROM entries WHERE sequence = 3")
    with pytest.raises(JournalError, match="has gaps"):
        Journal.open(tmp_path / "journal", on_fatal=Fatal())


async def test_a_directory_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="No such file or directory"):
        Journal.open(tmp_path / "missing" / "journal", on_fatal=Fatal())
    assert os.listdir(tmp_path) == []


async def test_after_close_every_call_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.close()
        with pytest.raises(JournalError, match="closed"):
            await journal.append([output()])


def change(directory: Path, statement: str) -> None:
    connection = sqlite3.connect(directory / "journal")
    connection.execute(statement)
    connection.commit()
    connection.close()


# --- another id ---


async def test_a_renewed_journal_still_knows_which_runs_it_took_over(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append([output("a"), Entry("s", 1, adopt=host_pb.AdoptEntry()), output("b")])
        journal.acknowledge(1)
        await journal.renew()
        assert journal.adopted == 1
    async with opened(tmp_path) as journal:
        assert journal.adopted == 1
        journal.acknowledge(2)
        await journal.renew()
        assert journal.adopted == 0


async def test_a_renewed_journal_has_another_id_and_numbers_what_is_left_from_1(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as journal:
        await journal.put_run("s", 1, b"")
        await journal.append([answer("c1")] + [output(str(i)) for i in range(199)])
        journal.acknowledge(150)
        before = journal.journal_id
        async with asyncio.TaskGroup() as group:
            renewing = group.create_task(journal.renew())
            await asyncio.sleep(0)
            late = group.create_task(journal.append([answer("c2"), output("late")]))
            await renewing
            assert await late == 52
        assert journal.journal_id != before
        assert (journal.last_sequence, journal.acknowledged, journal.floor) == (52, 0, 1)
        found = await records(journal)
    async with opened(tmp_path) as journal:
        assert await records(journal) == found
        assert [r.journal_sequence for r in found] == list(range(1, 53))
        assert [r.event.event for r in found[:50]] == [str(i).encode() for i in range(149, 199)]
        assert journal.answers("c1")
        assert journal.answers("c2")
        journal.acknowledge(52)
        assert journal.size == 0
