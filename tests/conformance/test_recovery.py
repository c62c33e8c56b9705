"""What every driver does when its host process dies, and another takes over its agent.

At each moment of an agent's life: the same process goes on, nothing that it said is lost or told
twice, no order reaches it twice or not at all, and the events stand in their order over the seam.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridle_core.commands import Interrupt, Kill, Stop
from bridle_core.effects import (
    ProcessExited,
    ProcessStarted,
    SessionEnded,
    TurnEnded,
    TurnStarted,
)
from bridle_core.observations import (
    Message,
    Observation,
    ProcessGone,
    ProcessUp,
    StopReason,
    TurnBegan,
    TurnOver,
)
from bridle_core.phases import EndReason, Phase
from tests.conformance.profiles import PROFILES, Profile, words
from tests.conformance.succession import Moment, Succession, succession
from tests.support.driving import eventually

MOMENTS = pytest.mark.parametrize("moment", list(Moment), ids=lambda moment: moment.name.lower())


@pytest.fixture(params=PROFILES, ids=lambda profile: profile.name)
def profile(request: pytest.FixtureRequest) -> Profile:
    found = request.param
    assert isinstance(found, Profile)
    return found


@pytest.fixture
async def run(profile: Profile, tmp_path: Path) -> AsyncIterator[Succession]:
    async with succession(profile.factory, tmp_path, profile.command) as made:
        await made.begin()
        yield made
        if not made.machine.closed:
            made.do(Stop("last"))
            await made.event(SessionEnded)


def said(run: Succession) -> list[str]:
    """All words, in order. A message is whole; output comes in pieces that are cut anywhere."""
    told = [words([one]) + " " * isinstance(one, Message) for one in run.told()]
    return "".join(told).split()


def at(kind: type[Observation]):  # type: ignore[no-untyped-def]
    return lambda group: any(isinstance(one, kind) for one in group)


async def up(run: Succession) -> int:
    """The pid of the agent that is up."""
    started = (await run.event(ProcessStarted)).event
    assert isinstance(started, ProcessStarted)
    return started.pid


async def ended(run: Succession, count: int = 1) -> TurnEnded:
    found = (await run.event(TurnEnded, count)).event
    assert isinstance(found, TurnEnded)
    return found


async def begun(run: Succession, script: str) -> None:
    await run.send(script)
    await run.until(lambda: "begun" in said(run))


# --- Starting and idle ---------------------------------------------------------------------------


async def test_an_agent_that_is_starting_comes_up_once(run: Succession, profile: Profile) -> None:
    await eventually(lambda: run.process is not None)
    assert run.process is not None
    first = run.process.pid
    await run.die()
    await run.succeed()
    await run.send(profile.say("hello"))
    await ended(run)
    assert (await up(run), len(run.all(ProcessStarted))) == (first, 1)
    assert said(run) == ["hello"]


@MOMENTS
async def test_the_host_dies_when_the_agent_is_up(
    run: Succession, profile: Profile, moment: Moment
) -> None:
    run.trap(at(ProcessUp), moment)
    await run.send(profile.say("one"))
    await run.send(profile.say("two"))
    await run.dies()
    await ended(run, 2)
    assert len(run.all(ProcessStarted)) == 1
    assert said(run) == ["one", "two"]


async def test_an_idle_agent_goes_on_with_what_it_knew(run: Succession, profile: Profile) -> None:
    await run.send(profile.remember)
    await ended(run)
    pid = await up(run)
    for _ in range(3):
        await run.die()
        await run.succeed()
    await run.send(profile.recall)
    await ended(run, 2)
    assert "remembered" in words(run.told())
    assert (await up(run), len(run.all(ProcessStarted))) == (pid, 1)


# --- Turns ---------------------------------------------------------------------------------------


@MOMENTS
@pytest.mark.parametrize("kind", [TurnBegan, TurnOver])
async def test_the_host_dies_at_a_turns_begin_and_at_its_end(
    run: Succession, profile: Profile, kind: type[Observation], moment: Moment
) -> None:
    await up(run)
    run.trap(at(kind), moment)
    await run.send(profile.say("one"))
    await run.dies()
    run.trap(at(kind), moment)
    await run.send(profile.say("two"))
    await run.dies()
    await ended(run, 2)
    assert said(run) == ["one", "two"]
    reasons = [emit.event.stop_reason for emit in run.all(TurnEnded)]  # type: ignore[union-attr]
    assert reasons == [StopReason.COMPLETED] * 2
    assert len(run.all(ProcessStarted)) == 1


@pytest.mark.parametrize("seed", range(3))
async def test_no_word_is_lost_or_told_twice_whenever_the_host_dies(
    run: Succession, profile: Profile, seed: int
) -> None:
    chance = random.Random(seed)
    await up(run)
    turns = 0

    def over() -> bool:
        return len(run.all(TurnEnded)) == turns

    # On a slow machine an agent may be through before so many hosts are.
    while run.lives <= 3:
        turns += 1
        await run.send(profile.count(300))
        for _ in range(8):
            left = chance.randrange(12)

            def due(group: object) -> bool:
                nonlocal left
                left -= 1
                return left < 0

            run.trap(due, chance.choice(list(Moment)))
            if not await run.dies_unless(over):
                break
        assert (await ended(run, turns)).stop_reason is StopReason.COMPLETED
    assert said(run) == [str(number) for number in range(1, 301)] * turns
    assert (len(run.all(TurnStarted)), len(run.all(ProcessStarted))) == (turns, 1)


async def test_what_an_agent_says_while_no_host_is_there_is_told(
    run: Succession, profile: Profile
) -> None:
    await up(run)
    run.trap(at(TurnBegan), Moment.AFTER_CALLS)
    await run.send(profile.count(100))
    await run.gone()
    await run.process_quiet()
    await run.succeed()
    await ended(run)
    assert said(run) == [str(number) for number in range(1, 101)]


@pytest.mark.parametrize("profile", [one for one in PROFILES if one.halves], ids=["shell"])
async def test_what_one_stream_says_within_a_character_of_the_other_is_told_once(
    run: Succession, profile: Profile, tmp_path: Path
) -> None:
    assert profile.halves is not None
    await begun(run, profile.halves(tmp_path / "go on"))
    await run.die()
    await run.succeed()
    (tmp_path / "go on").touch()
    await ended(run)
    assert words(run.told()).split() == ["begun", "é"]


# --- Interrupts ----------------------------------------------------------------------------------


@MOMENTS
async def test_an_interrupt_is_carried_on(
    run: Succession, profile: Profile, moment: Moment
) -> None:
    await run.send(profile.children(6701, False))
    await ended(run)
    await eventually(lambda: len(run.living("sleep 6701")) == 3)
    await begun(run, profile.children(6702, True))
    await eventually(lambda: len(run.living("sleep 6702")) == 3)
    if moment is Moment.AFTER_CALLS:
        run.do(Interrupt("stop it", grace=30.0))
        await run.answered("stop it")
        await run.die()
        await run.succeed()
    else:
        run.trap(at(TurnOver), moment)
        run.do(Interrupt("stop it", grace=30.0))
        await run.dies()
    assert (await ended(run, 2)).stop_reason is StopReason.INTERRUPTED
    assert run.living("sleep 6702") == []
    assert len(run.living("sleep 6701")) == 3
    await run.send(profile.say("next"))
    await ended(run, 3)
    assert said(run)[-1] == "next"
    assert "never" not in said(run)
    assert len(run.all(ProcessStarted)) == 1


async def test_an_interrupt_that_comes_after_the_seam_knows_what_the_turn_has_born(
    run: Succession, profile: Profile
) -> None:
    await run.send(profile.children(6711, False))
    await ended(run)
    await begun(run, profile.children(6712, True))
    await eventually(lambda: len(run.living("sleep 6712")) == 3)
    await run.die()
    await run.succeed()
    run.do(Interrupt("stop it", grace=30.0))
    assert (await ended(run, 2)).stop_reason is StopReason.INTERRUPTED
    assert run.living("sleep 6712") == []
    assert len(run.living("sleep 6711")) == 3


# --- Replacement ---------------------------------------------------------------------------------


@MOMENTS
@pytest.mark.parametrize("kind", [ProcessGone, ProcessUp])
async def test_an_agent_is_replaced_once(
    run: Succession, profile: Profile, kind: type[Observation], moment: Moment
) -> None:
    await run.send(profile.remember)
    await ended(run)
    await begun(run, profile.ignoring)
    run.trap(at(kind), moment)
    run.do(Interrupt("stop it", grace=0.2))
    await run.answered("stop it")
    await run.send(profile.recall)
    # In this time its driver could bring up another before the end of this one is durable.
    await run.dies(linger=0.3)
    await ended(run, 3)
    reasons = [emit.event.stop_reason for emit in run.all(TurnEnded)]  # type: ignore[union-attr]
    assert reasons[1:] == [StopReason.INTERRUPTED, StopReason.COMPLETED]
    assert "remembered" in words(run.told())
    exits = [emit.event for emit in run.all(ProcessExited)]
    assert [one.killed for one in exits] == [True]  # type: ignore[union-attr]
    replacements = [emit.event.replacement for emit in run.all(ProcessStarted)]  # type: ignore[union-attr]
    assert replacements == [False, True]


@pytest.mark.parametrize("lost", [False, True], ids=["alive", "lost"])
async def test_a_replacement_that_is_starting_comes_up_once(
    run: Succession, profile: Profile, lost: bool
) -> None:
    await begun(run, profile.ignoring)
    run.trap_spawn()
    run.do(Interrupt("stop it", grace=0.1))
    await run.gone()
    if lost:
        # Nothing was told of it yet, so another can be brought up.
        await run.sweep()
    await run.succeed()
    await run.send(profile.say("next"))
    await ended(run, 2)
    assert len(run.all(ProcessStarted)) == 2
    assert said(run)[-1] == "next"


# --- Ends ----------------------------------------------------------------------------------------


async def end_of(run: Succession) -> SessionEnded:
    found = (await run.event(SessionEnded)).event
    assert isinstance(found, SessionEnded)
    return found


async def test_a_stop_is_carried_on(run: Succession, profile: Profile) -> None:
    await up(run)
    run.do(Stop("stop"))
    await run.answered("stop")
    await run.die()
    await run.succeed()
    assert (await end_of(run)).phase is Phase.STOPPED
    [exited] = [emit.event for emit in run.all(ProcessExited)]
    assert exited == ProcessExited(await up(run), exit_code=0)


@MOMENTS
async def test_the_host_dies_at_the_agents_end(
    run: Succession, profile: Profile, moment: Moment
) -> None:
    await up(run)
    run.trap(at(ProcessGone), moment)
    await run.send(profile.quits)
    # In this time its driver could let go of the shim, and of the agent's last words with it.
    await run.dies(linger=0.3)
    found = await end_of(run)
    assert (found.phase, found.reason) == (Phase.STOPPED, EndReason.AGENT_EXITED)
    assert (await ended(run)).stop_reason is StopReason.COMPLETED
    assert len(run.all(ProcessExited)) == 1


async def test_an_agent_that_dies_while_no_host_is_there_is_lost(
    run: Succession, profile: Profile
) -> None:
    await up(run)
    run.trap(at(TurnBegan), Moment.AFTER_CALLS)
    await run.send(profile.dies)
    await run.gone()
    await run.process_quiet()
    await run.succeed()
    found = await end_of(run)
    assert (found.phase, found.reason) == (Phase.FAILED, EndReason.AGENT_LOST)
    [exited] = [emit.event for emit in run.all(ProcessExited)]
    assert exited == ProcessExited(await up(run), signal=9)


async def test_a_kill_is_carried_on(run: Succession, profile: Profile) -> None:
    await begun(run, profile.children(6721, True))
    run.do(Kill("kill"))
    await run.answered("kill")
    await run.die()
    await run.succeed()
    assert (await end_of(run)).phase is Phase.KILLED
    assert run.living("sleep") == []


async def test_an_agent_whose_shim_is_gone_too_is_lost_and_the_run_ends(
    run: Succession, profile: Profile
) -> None:
    await begun(run, profile.busy)
    await run.die()
    await run.sweep()
    await run.succeed()
    found = await end_of(run)
    assert (found.phase, found.reason) == (Phase.FAILED, EndReason.AGENT_LOST)
    assert len(run.all(TurnEnded)) == len(run.all(ProcessExited)) == 1
