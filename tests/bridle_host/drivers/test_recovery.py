"""What is particular to one driver when its host dies: steering, approvals, long lines, frames."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridle_core.commands import Interrupt, Resolve, Stop
from bridle_core.effects import (
    ApprovalRequested,
    ApprovalResolved,
    InputConsumed,
    SessionEnded,
    TurnEnded,
)
from bridle_core.observations import (
    ApprovalAsked,
    Decision,
    Note,
    Observation,
    Steered,
    StopReason,
    TurnOver,
)
from bridle_core.phases import InputMode
from bridle_host.drivers.output import LINE
from bridle_host.drivers.scripted import ScriptedFactory
from bridle_host.drivers.shell import ShellFactory
from tests.conformance.profiles import words
from tests.conformance.succession import Moment, Succession, succession
from tests.support.driving import eventually

MOMENTS = pytest.mark.parametrize("moment", list(Moment), ids=lambda moment: moment.name.lower())


async def running(run: Succession) -> AsyncIterator[Succession]:
    await run.begin()
    yield run
    if not run.machine.closed:
        run.do(Stop("last"))
        await run.event(SessionEnded)


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Succession]:
    async with succession(ShellFactory(), tmp_path) as run:
        async for up in running(run):
            yield up


@pytest.fixture
async def scripted(tmp_path: Path) -> AsyncIterator[Succession]:
    async with succession(ScriptedFactory(), tmp_path) as run:
        async for up in running(run):
            yield up


def at(kind: type[Observation]):  # type: ignore[no-untyped-def]
    return lambda group: any(isinstance(one, kind) for one in group)


def reasons(run: Succession) -> list[StopReason]:
    ends = [emit.event for emit in run.all(TurnEnded)]
    return [end.stop_reason for end in ends if isinstance(end, TurnEnded)]


def got(ledger: Path, kind: str) -> list[dict[str, object]]:
    """What the agent truly got of a kind."""
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    return [line["got"] for line in lines if line.get("got", {}).get("type") == kind]


# --- The scripted agent --------------------------------------------------------------------------


@MOMENTS
async def test_what_is_steered_reaches_the_agent_once(
    scripted: Succession, tmp_path: Path, moment: Moment
) -> None:
    ledger = tmp_path / "ledger"
    # What is steered comes after the step that is on: of these none is long, and all are together.
    steps = "; sleep 0.02" * 1500
    await scripted.send(f"ledger {ledger}; say begun{steps}")
    await scripted.until(lambda: "begun" in words(scripted.told()))
    if moment is Moment.AFTER_CALLS:
        await scripted.send("say steered; end", InputMode.STEER)
        await scripted.die()
        await scripted.succeed()
    else:
        scripted.trap(at(Steered), moment)
        await scripted.send("say steered; end", InputMode.STEER)
        await scripted.dies()
    await scripted.event(TurnEnded)
    assert words(scripted.told()) == "begunsteered"
    consumed = [emit.event.steered for emit in scripted.all(InputConsumed)]  # type: ignore[union-attr]
    assert consumed == [False, True]
    assert len(got(ledger, "steer")) == 1


@MOMENTS
async def test_an_approval_is_asked_once_and_answered_once(
    scripted: Succession, tmp_path: Path, moment: Moment
) -> None:
    ledger = tmp_path / "ledger"
    scripted.trap(at(ApprovalAsked), moment)
    await scripted.send(f"ledger {ledger}; ask name=rm May I?; allowed: say yes; denied: say no")
    await scripted.dies()
    asked = (await scripted.event(ApprovalRequested)).event
    assert isinstance(asked, ApprovalRequested)
    scripted.do(Resolve("answer", asked.approval_id, Decision.ALLOW))
    await scripted.answered("answer")
    await scripted.die()
    await scripted.succeed()
    await scripted.event(TurnEnded)
    assert words(scripted.told()) == "yes"
    assert len(scripted.all(ApprovalRequested)) == len(scripted.all(ApprovalResolved)) == 1
    assert len(got(ledger, "respond")) == 1


async def test_a_turn_of_the_agents_own_is_interrupted_with_what_it_has_born(
    scripted: Succession,
) -> None:
    # What it starts is of this turn for certain, once its begin was read.
    own = "turn; ask may I; fork 6802; say begun; sleep 600"
    await scripted.send(f"fork 6801; say before; end; {own}")
    asked = (await scripted.event(ApprovalRequested)).event
    assert isinstance(asked, ApprovalRequested)
    scripted.do(Resolve("yes", asked.approval_id, Decision.ALLOW))
    await eventually(lambda: len(scripted.living("sleep 6802")) == 1)
    await scripted.until(lambda: "begun" in words(scripted.told()))
    await scripted.die()
    await scripted.succeed()
    scripted.do(Interrupt("stop it", grace=30.0))
    await scripted.event(TurnEnded, 2)
    assert reasons(scripted) == [StopReason.COMPLETED, StopReason.INTERRUPTED]
    assert scripted.living("sleep 6802") == []
    assert len(scripted.living("sleep 6801")) == 1


@pytest.mark.parametrize("size", [LINE - 100_000, LINE, 3 * LINE])
async def test_a_long_line_is_told_once_whenever_the_host_dies(
    scripted: Succession, size: int
) -> None:
    seen = 0

    def due(_group: object) -> bool:
        nonlocal seen
        seen += 1
        return seen % 5 == 4

    await scripted.send("say up")
    await scripted.event(TurnEnded)
    scripted.trap(due, Moment.BEFORE_DURABLE)
    await scripted.send(f"line {size}; say over")
    for _ in range(8):
        if not await scripted.dies_unless(lambda: len(scripted.all(TurnEnded)) == 2):
            break
        scripted.trap(due, Moment.AFTER_CALLS)
    assert scripted.lives > 2
    scripted.trap(lambda _group: False, Moment.AFTER_CALLS)
    await scripted.event(TurnEnded, 2)
    assert words(scripted.told()) == "upover"
    notes = [emit.event for emit in scripted.all(Note)]
    assert [note.bytes_dropped for note in notes] == [size]  # type: ignore[union-attr]


# --- The shell -----------------------------------------------------------------------------------


@MOMENTS
async def test_what_is_kept_for_a_resume_is_told_to_control(
    shell: Succession, moment: Moment
) -> None:
    shell.trap(at(TurnOver), moment)
    await shell.send("export LEFT=behind")
    await shell.dies()
    await shell.event(TurnEnded)
    assert b"behind" in shell.kept
    await shell.send("echo $LEFT")
    await shell.event(TurnEnded, 2)
    assert words(shell.told()) == "behind\n"


@pytest.mark.parametrize("moment", [Moment.BEFORE_DURABLE, Moment.AFTER_CALLS])
async def test_a_frame_that_is_longer_than_what_a_shim_keeps_is_read_whenever_the_host_dies(
    shell: Succession, moment: Moment
) -> None:
    await shell.send(
        "for i in {1..20}; do export V$i=$(head -c 90000 /dev/zero | tr '\\0' x); done"
    )
    seen = 0

    def due(_group: object) -> bool:
        nonlocal seen
        seen += 1
        return seen % 7 == 6

    for _ in range(4):
        shell.trap(due, moment)
        if not await shell.dies_unless(lambda: len(shell.all(TurnEnded)) == 1):
            break
    assert shell.lives > 1
    shell.trap(lambda _group: False, moment)
    await shell.event(TurnEnded)
    await shell.send("echo ${#V1} ${#V20} $?")
    await shell.event(TurnEnded, 2)
    assert words(shell.told()) == "90000 90000 0\n"
    assert reasons(shell) == [StopReason.COMPLETED] * 2


async def test_the_status_of_the_last_turn_is_there_after_the_host(shell: Succession) -> None:
    await shell.send("(exit 7)")
    await shell.event(TurnEnded)
    await shell.die()
    await shell.succeed()
    await shell.send("echo $?")
    await shell.event(TurnEnded, 2)
    assert words(shell.told()) == "7\n"
