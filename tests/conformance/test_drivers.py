"""What every driver does, whichever agent it speaks to. One suite, parametrised over drivers."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from bridle_core.observations import (
    Capability,
    NoteKind,
    ProcessGone,
    ProcessUp,
    ResumeMode,
    StartFailed,
    StopReason,
    Text,
    TurnBegan,
    TurnOver,
)
from bridle_host.drivers.base import ResumeFrom
from tests.conformance.observed import check
from tests.conformance.profiles import PROFILES, Profile, words
from tests.support.driving import Drive, driving, eventually

Runs = Callable[..., AbstractAsyncContextManager[Drive]]


@pytest.fixture(params=PROFILES, ids=lambda profile: profile.name)
def profile(request: pytest.FixtureRequest) -> Profile:
    found = request.param
    assert isinstance(found, Profile)
    return found


@pytest.fixture
def runs(profile: Profile, tmp_path: Path) -> Runs:
    """Makes runs of a driver; what each of them told is held against the law at its end."""

    @asynccontextmanager
    async def make(directory: Path | None = None) -> AsyncIterator[Drive]:
        state = tmp_path / "state"
        async with driving(
            profile.factory, directory or tmp_path, state=state, agent_command=profile.command
        ) as drive:
            yield drive
            check(drive.seen, ended=drive.ended)
        check(drive.seen, ended=True)

    return make


@pytest.fixture
async def run(runs: Runs) -> AsyncIterator[Drive]:
    async with runs() as drive:
        await drive.start()
        yield drive


async def begun(run: Drive, script: str) -> int:
    """Send a turn and wait until it has said that it begun."""
    after = await run.begin(script)
    await run.until(lambda: "begun" in words(run.seen[after:]) or run.ended)
    return after


# --- Start and turns -----------------------------------------------------------------------------


def test_the_agent_is_found_on_this_machine(profile: Profile) -> None:
    assert profile.factory.probe().installed
    assert profile.factory.capabilities <= set(Capability)


async def test_a_start_is_told_once_with_a_process_that_lives(runs: Runs) -> None:
    async with runs() as run:
        up = await run.start()
        assert up.pid in run.living()
        assert (up.replacement, up.mode, up.lost) == (False, None, ())


async def test_a_start_that_fails_is_told_in_words_and_leaves_nothing(
    runs: Runs, tmp_path: Path
) -> None:
    async with runs(tmp_path / "no such directory") as run:
        await run.driver.start(None)
        assert (await run.wait(StartFailed)).message
        await run.until(lambda: run.ended)
        assert run.living() == {}


async def test_turns_run_one_after_the_other_each_once(run: Drive, profile: Profile) -> None:
    for number in range(20):
        after = await run.begin(profile.say(f"word-{number}"))
        over = await run.over(after)
        assert over.stop_reason is StopReason.COMPLETED
        assert words(run.seen[after:]).strip() == f"word-{number}"
    assert [began.turn for began in run.all(TurnBegan)] == list(range(1, 21))


async def test_what_a_turn_says_comes_while_it_is_on(run: Drive, profile: Profile) -> None:
    after = await begun(run, profile.busy)
    assert run.all(TurnOver) == []
    await run.interrupt(after)


async def test_a_turn_that_was_sent_before_the_start_waits_for_it(
    runs: Runs, profile: Profile
) -> None:
    async with runs() as run:
        await run.driver.start(None)
        await run.driver.send(1, [Text(profile.say("early"))])
        await run.wait(TurnOver)
        assert words(run.seen).strip() == "early"


# --- Interrupt -----------------------------------------------------------------------------------


async def test_an_interrupt_ends_the_turn_and_the_agent_lives(run: Drive, profile: Profile) -> None:
    after = await begun(run, profile.busy)
    started = time.monotonic()
    over = await run.interrupt(after, grace=30)
    assert time.monotonic() - started < 15
    assert over.stop_reason is StopReason.INTERRUPTED
    after = await run.begin(profile.say("next"))
    await run.over(after)
    assert words(run.seen[after:]).strip() == "next"
    assert "never" not in words(run.seen)
    assert len(run.all(ProcessUp)) == 1


async def test_an_interrupt_at_any_moment_hits_its_turn_and_no_other(
    run: Drive, profile: Profile
) -> None:
    chance = random.Random(3)
    for number in range(25):
        after = await run.begin(profile.busy)
        if number % 3:
            await run.until_late(chance.uniform(0, 0.03))
        over = await run.interrupt(after, grace=30)
        assert over.stop_reason is StopReason.INTERRUPTED
        after = await run.begin(profile.say(f"word-{number}"))
        over = await run.over(after)
        assert over.stop_reason is StopReason.COMPLETED
        assert words(run.seen[after:]).strip() == f"word-{number}"
    assert "never" not in words(run.seen)
    assert len(run.all(ProcessUp)) == 1


async def test_an_interrupt_around_the_end_of_its_turn_hits_no_other(
    run: Drive, profile: Profile
) -> None:
    chance = random.Random(5)
    for number in range(40):
        after = await run.begin(profile.say("short"))
        await run.until_late(chance.uniform(0, 0.003))
        await run.driver.interrupt(grace=30, include_background=False)
        over = await run.over(after)
        assert over.stop_reason in (StopReason.COMPLETED, StopReason.INTERRUPTED)
        after = await run.begin(profile.say(f"word-{number}"))
        over = await run.over(after)
        assert over.stop_reason is StopReason.COMPLETED
        assert words(run.seen[after:]).strip() == f"word-{number}"
    assert len(run.all(ProcessUp)) == 1


async def test_a_repeated_interrupt_changes_nothing(run: Drive, profile: Profile) -> None:
    after = await begun(run, profile.busy)
    for _ in range(5):
        await run.driver.interrupt(grace=30, include_background=False)
    over = await run.over(after)
    assert over.stop_reason is StopReason.INTERRUPTED
    after = await run.begin(profile.say("next"))
    assert (await run.over(after)).stop_reason is StopReason.COMPLETED
    assert len(run.all(TurnOver)) == 2


async def test_an_interrupt_without_a_turn_does_nothing(run: Drive, profile: Profile) -> None:
    await run.driver.interrupt(grace=0, include_background=True)
    after = await run.begin(profile.say("next"))
    assert (await run.over(after)).stop_reason is StopReason.COMPLETED
    assert len(run.all(ProcessUp)) == 1


async def test_what_was_born_in_the_turn_is_gone_by_its_end_and_older_ones_live(
    run: Drive, profile: Profile
) -> None:
    await run.turn(profile.children(6101, False))
    await eventually(lambda: len(run.commands("sleep 6101")) == 3)
    after = await begun(run, profile.children(6102, True))
    await eventually(lambda: len(run.commands("sleep 6102")) == 3)
    await run.interrupt(after)
    assert run.commands("sleep 6102") == []
    assert len(run.commands("sleep 6101")) == 3
    after = await begun(run, profile.busy)
    await run.interrupt(after, include_background=True)
    assert run.commands("sleep") == []
    assert len(run.all(ProcessUp)) == 1


async def test_an_agent_that_ignores_an_interrupt_is_replaced(run: Drive, profile: Profile) -> None:
    await run.turn(profile.remember)
    after = await begun(run, profile.ignoring)
    over = await run.interrupt(after, grace=0.2)
    assert over.stop_reason is StopReason.INTERRUPTED
    gone = await run.wait(ProcessGone, after)
    up = await run.wait(ProcessUp, after)
    assert (gone.killed, up.replacement, up.mode) == (True, True, profile.resumes)
    await run.until(lambda: bool(run.notes(NoteKind.ESCALATED)))
    assert gone.pid not in run.living()
    after = await run.begin(profile.recall)
    assert (await run.over(after)).stop_reason is StopReason.COMPLETED
    assert "remembered" in words(run.seen[after:])


async def test_a_flood_neither_fills_the_memory_nor_holds_an_interrupt(
    run: Drive, profile: Profile
) -> None:
    after = await begun(run, profile.flood)
    started = time.monotonic()
    over = await run.interrupt(after, grace=30)
    assert over.stop_reason is StopReason.INTERRUPTED
    assert time.monotonic() - started < 20
    assert len(run.all(ProcessUp)) == 1


# --- Ends ----------------------------------------------------------------------------------------


async def test_a_stop_ends_an_idle_agent_by_itself_and_nothing_is_left(
    run: Drive, profile: Profile
) -> None:
    await run.turn(profile.children(6201, False))
    gone = await run.stop()
    assert (gone.deliberate, gone.killed, gone.exit_code) == (True, False, 0)
    assert run.living() == {}
    await run.until(lambda: run.ended)


async def test_a_stop_right_after_the_start(runs: Runs) -> None:
    async with runs() as run:
        await run.driver.start(None)
        await run.driver.stop(grace=30)
        gone = await run.wait(ProcessGone)
        assert gone.deliberate
        await run.until(lambda: run.ended)


async def test_a_kill_in_a_turn_ends_everything(run: Drive, profile: Profile) -> None:
    await run.turn(profile.children(6301, False))
    after = await begun(run, profile.children(6302, True))
    await run.driver.kill()
    gone = await run.wait(ProcessGone, after)
    assert (gone.killed, gone.deliberate) == (True, False)
    assert run.living() == {}
    await run.until(lambda: run.ended)


async def test_a_kill_while_an_interrupt_is_on(run: Drive, profile: Profile) -> None:
    after = await begun(run, profile.ignoring)
    await run.driver.interrupt(grace=30, include_background=False)
    await run.driver.kill()
    await run.wait(ProcessGone, after)
    await run.until(lambda: run.ended)
    assert len(run.all(ProcessUp)) == 1
    assert run.living() == {}


@pytest.mark.parametrize("moment", [0.0, 0.01, 0.05, 0.1, 0.2])
async def test_a_kill_at_any_moment_of_the_start(runs: Runs, moment: float) -> None:
    async with runs() as run:
        await run.driver.start(None)
        await run.until_late(moment)
        await run.driver.kill()
        await run.until(lambda: run.ended)
        assert run.living() == {}


async def test_a_kill_of_an_agent_that_floods_while_nobody_reads(
    runs: Runs, profile: Profile
) -> None:
    async with runs() as run:
        await run.start()
        after = await run.begin(profile.flood)
        async with run.reading_paused():
            await run.driver.kill()
            await eventually(lambda: len(run.living()) == 0)
        await run.wait(ProcessGone, after)
        await run.until(lambda: run.ended)


async def test_an_agent_that_dies_in_its_turn_is_lost(run: Drive, profile: Profile) -> None:
    after = await begun(run, profile.dies)
    gone = await run.wait(ProcessGone, after)
    assert (gone.deliberate, gone.killed, gone.signal) == (False, False, 9)
    assert run.all(TurnOver) == []
    await run.until(lambda: run.ended)


async def test_an_agent_that_ends_on_purpose_ends_its_turn_first(
    run: Drive, profile: Profile
) -> None:
    after = await run.begin(profile.quits)
    over = await run.over(after)
    assert over.stop_reason is StopReason.COMPLETED
    gone = await run.wait(ProcessGone, after)
    assert (gone.deliberate, gone.killed, gone.exit_code) == (True, False, 0)
    await run.until(lambda: run.ended)


async def test_a_driver_whose_work_is_cancelled_leaves_nothing(
    runs: Runs, profile: Profile, tmp_path: Path
) -> None:
    async with driving(profile.factory, tmp_path, agent_command=profile.command) as run:
        await run.start()
        await begun(run, profile.children(6401, True))
        run.running.cancel()
        await asyncio.wait([run.running])
        assert run.living() == {}


# --- Resume --------------------------------------------------------------------------------------


async def test_a_resumed_run_says_how_it_came_along(runs: Runs, profile: Profile) -> None:
    async with runs() as run:
        await run.start()
        await run.turn(profile.remember)
        await run.stop()
        state = run.kept
    async with runs() as run:
        up = await run.start(ResumeFrom(ResumeMode.AUTO, state))
        assert (up.mode, up.replacement) == (profile.resumes, False)
        assert bool(up.lost) is (up.mode is ResumeMode.SEEDED)
        after = await run.begin(profile.recall)
        await run.over(after)
        assert "remembered" in words(run.seen[after:])


async def test_a_seeded_resume_says_what_was_lost(runs: Runs, profile: Profile) -> None:
    async with runs() as run:
        await run.start()
        await run.turn(profile.remember)
        state = run.kept
    async with runs() as run:
        up = await run.start(ResumeFrom(ResumeMode.SEEDED, state))
        assert up.mode is ResumeMode.SEEDED
        assert up.lost


async def test_a_native_resume_is_native_or_fails_in_words(runs: Runs, profile: Profile) -> None:
    async with runs() as run:
        await run.start()
        await run.turn(profile.remember)
        state = run.kept
    async with runs() as run:
        await run.driver.start(ResumeFrom(ResumeMode.NATIVE, state))
        if Capability.NATIVE_RESUME in profile.factory.capabilities:
            assert (await run.wait(ProcessUp)).mode is ResumeMode.NATIVE
        else:
            assert "native" in (await run.wait(StartFailed)).message
