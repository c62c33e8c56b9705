"""What every store promises of its transactions: all or nothing, together, durable, told once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridle_control.store.api import Changes, CommandRow, ReadTx, Store, Tx, WorkspaceRow
from bridle_control.store.housekeeping import PERIOD, Housekeeping
from bridle_core.errors import BridleError, Reason
from tests.support.manual_clock import ManualClock
from tests.support.stores import OpenStore, a_session, an_event, append, begin


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_what_a_write_raises_undoes_it_and_reaches_its_caller_alone(
    store: Store, place: int
) -> None:
    await begin(store)

    def broken(tx: Tx) -> int:
        tx.append_events("s1", [an_event("never")])
        tx.insert_workspace(WorkspaceRow("never", 1))
        raise BridleError(Reason.SLUG_TAKEN, "taken")

    writes = [append(store, "s1", "one"), append(store, "s1", "another")]
    writes.insert(place, store.write(broken))
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert isinstance(results.pop(place), BridleError)
    assert results == [1, 2]
    assert (await store.read(lambda tx: tx.events("s1", 0))).sequences == (1, 2)
    assert await store.read(lambda tx: tx.workspace("never")) is None


async def test_writes_that_wait_together_are_committed_together(store: Store) -> None:
    await begin(store)
    commits: list[Changes] = []
    store.listen(commits.append)
    await asyncio.gather(*(append(store, "s1", str(n)) for n in range(100)))
    assert len(commits) < 50
    told = [each for changes in commits for each in changes.appended]
    assert [each.first for each in told] == list(range(1, 101))


async def test_a_write_sees_what_an_earlier_one_of_its_group_wrote(store: Store) -> None:
    def second(tx: Tx) -> bool:
        return tx.workspace("team") is not None

    def first(tx: Tx) -> None:
        tx.insert_workspace(WorkspaceRow("team", 1))

    _, seen = await asyncio.gather(store.write(first), store.write(second))
    assert seen


async def test_a_read_is_one_snapshot(store: Store) -> None:
    await begin(store)
    loop = asyncio.get_running_loop()

    def look(tx: ReadTx) -> tuple[int, int]:
        before = len(tx.events("s1", 0).framed)
        # A commit in the midst of the read.
        asyncio.run_coroutine_threadsafe(append(store, "s1", "new"), loop).result(30)
        return before, len(tx.events("s1", 0).framed)

    assert await store.read(look) == (0, 0)
    assert (await store.read(lambda tx: tx.events("s1", 0))).sequences == (1,)


async def test_listeners_are_told_before_the_caller_goes_on_and_of_all_that_changed(
    store: Store,
) -> None:
    told: list[Changes] = []
    store.listen(told.append)

    def fn(tx: Tx) -> None:
        tx.insert_session(a_session("s1"))
        tx.insert_session(a_session("s2"))
        tx.append_events("s1", [an_event("one"), an_event("two")])
        tx.insert_command(CommandRow("c1", 1, 1, host_id="h1", action=b"do"))
        tx.insert_command(CommandRow("c2", 1, 1))
        tx.delete_session("s2")

    await store.write(fn)
    (changes,) = told
    (appended,) = changes.appended
    assert (appended.session_id, appended.first, len(appended.framed)) == ("s1", 1, 2)
    assert (set(changes.sessions), set(changes.deleted)) == ({"s1"}, {"s2"})
    assert (set(changes.hosts), set(changes.commands)) == ({"h1"}, {"c1", "c2"})
    await store.write(lambda tx: tx.workspaces())
    assert len(told) == 1


async def test_a_listener_that_fails_keeps_neither_the_others_nor_the_callers_from_hearing(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(changes: Changes) -> None:
        raise KeyError("a fault")

    told: list[Changes] = []
    store.listen(broken)
    store.listen(told.append)
    await asyncio.wait_for(begin(store), 30)
    assert [changes.sessions for changes in told] == [{"s1"}]
    assert "a fault" in caplog.text


async def test_listeners_are_told_of_the_commands_that_went_with_a_start(store: Store) -> None:
    await begin(store)
    await store.write(lambda tx: tx.insert_command(CommandRow("old", 1, 1, session_id="s1")))
    told: list[Changes] = []
    store.listen(told.append)

    def fn(tx: Tx) -> None:
        tx.insert_command(CommandRow("start", 1, 1, session_id="s1"))
        tx.insert_command(CommandRow("new", 1, 1, session_id="s1"))
        tx.delete_commands_of_session("s1", keep="start")

    await store.write(fn)
    (changes,) = told
    assert set(changes.commands) == {"start"}
    assert set(changes.commands_gone) == {"old", "new"}


async def test_a_caller_that_gives_up_does_not_hold_up_the_others(store: Store) -> None:
    await begin(store)
    given_up = asyncio.ensure_future(append(store, "s1", "maybe"))
    await asyncio.sleep(0)
    given_up.cancel()
    last = await append(store, "s1", "sure")
    assert last in (1, 2)
    with pytest.raises(asyncio.CancelledError):
        await given_up


async def test_more_writes_than_fit_wait_in_line_and_all_are_done(store: Store) -> None:
    await begin(store)
    await asyncio.gather(*(append(store, "s1", str(n)) for n in range(3000)))
    bounds = await store.read(lambda tx: tx.bounds("s1"))
    assert bounds is not None
    assert bounds.head == 3000


async def test_time_within_the_store_never_goes_back(store: Store) -> None:
    times = [await store.write(lambda tx: tx.now) for _ in range(5)]
    assert times == sorted(times)


async def test_what_was_handed_in_is_finished_at_the_close(
    open_store: OpenStore, tmp_path: Path
) -> None:
    async with open_store(tmp_path / "store") as store:
        await begin(store)
        handed_in = [asyncio.ensure_future(append(store, "s1", str(n))) for n in range(50)]
        await asyncio.sleep(0)
    assert sorted(await asyncio.gather(*handed_in)) == list(range(1, 51))
    for call in (store.write(lambda tx: None), store.read(lambda tx: None)):
        with pytest.raises(BridleError) as refused:
            await call
        assert refused.value.reason is Reason.SHUTTING_DOWN


async def test_everything_is_there_after_a_restart(open_store: OpenStore, tmp_path: Path) -> None:
    async with open_store(tmp_path / "store") as store:
        identity = store.store_id, store.log_id
        await begin(store)
        await append(store, "s1", "one", "two")
        before = await store.read(lambda tx: (tx.session("s1"), tx.events("s1", 0)))
    async with open_store(tmp_path / "store") as store:
        assert (store.store_id, store.log_id) == identity
        assert await store.read(lambda tx: (tx.session("s1"), tx.events("s1", 0))) == before
        assert await append(store, "s1", "three") == 3


async def test_two_stores_have_two_identities(open_store: OpenStore, tmp_path: Path) -> None:
    async with open_store(tmp_path / "a") as one, open_store(tmp_path / "b") as two:
        assert one.log_id != two.log_id
        assert one.store_id != two.store_id


async def test_housekeeping_lets_go_of_a_deleted_log_bit_by_bit(store: Store) -> None:
    await begin(store)
    await append(store, "s1", *map(str, range(50)))
    await store.write(lambda tx: tx.delete_session("s1"))
    assert await Housekeeping(store, bit=7).round() == 50
    assert await Housekeeping(store).round() == 0


async def test_housekeeping_goes_round_when_a_session_was_deleted_and_with_time(
    store: Store,
) -> None:
    clock = ManualClock()
    rounds: asyncio.Queue[int] = asyncio.Queue()

    class Counted(Housekeeping):
        async def round(self) -> int:
            gone = await super().round()
            rounds.put_nowait(gone)
            return gone

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        running = group.create_task(Counted(store, clock=clock).run())
        assert await rounds.get() == 0
        await begin(store)
        await append(store, "s1", "one", "two")
        await store.write(lambda tx: tx.delete_session("s1"))
        assert await rounds.get() == 2
        # It has gone on to wait before this task was woken.
        assert clock.waiting == 1
        clock.advance(PERIOD)
        assert await rounds.get() == 0
        running.cancel()
