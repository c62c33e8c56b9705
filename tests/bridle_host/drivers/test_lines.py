"""What one driver does for every agent that speaks in lines, whatever the language means.

Shown with the scripted agent, whose script gives it the manners that are needed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest

from bridle_core.commands import Interrupt, Resolve, Stop
from bridle_core.effects import ApprovalRequested, ProcessStarted, SessionEnded, TurnEnded
from bridle_core.observations import (
    ApprovalAsked,
    Checkpoint,
    Content,
    Decision,
    Message,
    NoteKind,
    Observation,
    ProcessGone,
    ProcessUp,
    ResumeMode,
    StartFailed,
    StopReason,
    Text,
    TurnBegan,
    TurnOver,
)
from bridle_core.phases import Phase
from bridle_core.transcript import Transcript
from bridle_host.drivers.base import Driver, DriverContext, ResumeFrom
from bridle_host.drivers.lines.dialect import Began, Ended, Order, Said
from bridle_host.drivers.lines.driver import LineDriver
from bridle_host.drivers.lines.standing import Standing
from bridle_host.drivers.scripted import ScriptedFactory, agent
from bridle_host.drivers.scripted.dialect import ScriptedDialect
from tests.conformance.observed import check
from tests.conformance.profiles import words
from tests.conformance.succession import Moment, succession
from tests.support.driving import Drive, driving, eventually
from tests.support.pace import paced

Agents = Callable[..., AbstractAsyncContextManager[Drive]]


class Factory(ScriptedFactory):
    """The scripted agent with another dialect."""

    def __init__(self, dialect: type[ScriptedDialect]) -> None:
        self._dialect = dialect

    def create(self, context: DriverContext) -> Driver:
        argv = (sys.executable, "-I", "-S", "-X", "utf8", agent.__file__, context.agent_command)
        return LineDriver(context, partial(self._dialect, argv))


@pytest.fixture
def agents(tmp_path: Path) -> Agents:
    def make(
        command: str = "", dialect: type[ScriptedDialect] = ScriptedDialect, **changes: object
    ) -> AbstractAsyncContextManager[Drive]:
        return driving(Factory(dialect), tmp_path, agent_command=command, **changes)  # type: ignore[arg-type]

    return make


def said(drive: Drive, after: int = 0) -> list[str]:
    return [
        piece.text
        for seen in drive.seen[after:]
        if isinstance(seen, Message)
        for piece in seen.content
        if isinstance(piece, Text)
    ]


# --- Late words ----------------------------------------------------------------------------------


class Patient(ScriptedDialect):
    """One that waits for silence for as long as it takes."""

    quiet_limit = 60.0


@pytest.mark.parametrize(("quiet", "seconds"), [(0, 20), (3, 0.7)])
async def test_an_agent_that_goes_on_talking_has_to_be_silent_before_its_turn_is_over(
    agents: Agents, quiet: float, seconds: float
) -> None:
    async with agents(f"quiet {quiet}", dialect=Patient) as run:
        await run.start()
        after = await run.begin(f"linger seconds={seconds} late; say begun; silent")
        await run.until(lambda: "begun" in said(run, after))
        await run.interrupt(after)
        after = await run.begin("sleep 0.3; say next")
        await run.over(after)
        # Without it, this is what the next turn would look like.
        assert (said(run, after) == ["next"]) is bool(quiet)
        check(run.seen, ended=False)


async def test_who_is_never_silent_holds_its_turn_for_two_seconds_at_the_most(
    agents: Agents,
) -> None:
    async with agents("quiet 1.9") as run:
        await run.start()
        after = await run.begin("linger seconds=20 late; say begun; silent")
        await run.until(lambda: "begun" in said(run, after))
        began = time.monotonic()
        over = await run.interrupt(after)
        assert 1.9 <= time.monotonic() - began < paced(2.5)  # it goes on for 20 s
        assert over.stop_reason is StopReason.INTERRUPTED
        assert len(run.all(ProcessUp)) == 1


# --- Turns that nobody asked for -----------------------------------------------------------------


async def test_a_turn_of_its_own_waits_until_the_interrupted_one_has_left_nothing_behind(
    agents: Agents,
) -> None:
    async with agents() as run:
        await run.start()
        after = await run.begin(
            "fork ignore=INT 6901; say begun; silent;"
            " late: turn; late: fork 6902; late: say own; late: sleep 0.1; late: end"
        )
        await run.until(lambda: "begun" in said(run, after))
        await eventually(lambda: run.commands("sleep 6901"))
        await run.interrupt(after)
        assert run.commands("sleep 6901") == []
        own = await run.wait(TurnBegan, after)
        assert own.turn is None
        await run.until(lambda: len(run.all(TurnOver)) == 2)
        assert said(run, after) == ["begun", "own"]
        [note] = run.notes(NoteKind.ESCALATED)
        assert "left behind" in note.message
        check(run.seen, ended=False)


class Abrupt(ScriptedDialect):
    """One whose agent has no word for the end of a turn of its own but the begin of the next."""

    _own = False

    def read(self, line: bytes) -> Iterable[Said]:
        for one in super().read(line):
            if isinstance(one, Ended) and self._own:
                self._own = False
            elif isinstance(one, Began) and one.turn is not None:
                yield Ended(StopReason.INTERRUPTED)
                yield one
            else:
                self._own = self._own or isinstance(one, Began)
                yield one


@pytest.mark.parametrize("dialect", [ScriptedDialect, Abrupt])
async def test_an_input_that_came_into_a_turn_of_the_agents_own_runs_when_that_is_interrupted(
    agents: Agents, dialect: type[ScriptedDialect]
) -> None:
    async with agents(dialect=dialect) as run:
        await run.start()
        # It began by itself in the moment in which the input was on its way.
        # What it starts is of this turn for certain, once its begin was read.
        own = "turn; ask may I; fork ignore=INT 6903; say own; silent"
        after = await run.begin(f"say first; end; {own}")
        asked = await run.wait(ApprovalAsked)
        await run.driver.respond(asked.approval_id, Decision.ALLOW, "")
        await run.until(lambda: said(run, after) == ["first", "own"])
        await eventually(lambda: run.commands("sleep 6903"))
        await run.driver.send(2, [Text("say second; say third")])
        over = await run.interrupt(run.seen.index(run.all(TurnBegan)[1]))
        assert over.stop_reason is StopReason.INTERRUPTED
        await run.until(lambda: len(run.all(TurnOver)) == 3)
        assert [began.turn for began in run.all(TurnBegan)] == [1, None, 2]
        # Of what it says nothing is lost, nor is it another turn's.
        assert said(run, run.seen.index(over)) == ["second", "third"]
        assert not run.notes(NoteKind.UNPARSED)
        check(run.seen, ended=False)


def has_begun(seen: Observation) -> bool:
    return isinstance(seen, Checkpoint) and bool(Standing.load(seen.state).begun)


@pytest.mark.parametrize("moment", list(Moment))
async def test_it_runs_over_the_death_of_the_host_in_between_too(
    tmp_path: Path, moment: Moment
) -> None:
    async with succession(ScriptedFactory(), tmp_path) as run:
        await run.begin()
        own = "turn; ask may I; fork ignore=INT 6904; say own,; silent"
        await run.send(f"ask may I; say first,; end; {own}")
        asked = (await run.event(ApprovalRequested)).event
        assert isinstance(asked, ApprovalRequested)
        await run.send("say second,; say third")
        run.do(Resolve("go", asked.approval_id, Decision.ALLOW))
        asked = (await run.event(ApprovalRequested, 2)).event
        assert isinstance(asked, ApprovalRequested)
        assert run.machine.record().handed  # at the end of the turn before
        run.do(Resolve("yes", asked.approval_id, Decision.ALLOW))
        await run.until(lambda: "own" in words(run.told()))
        await eventually(lambda: run.living("sleep 6904"))
        # While what the agent left behind is being ended its next turn has begun, and is not told.
        run.trap(lambda group: any(map(has_begun, group)), moment)
        run.do(Interrupt("stop it"))
        await run.dies()
        await run.event(TurnEnded, 3)
        assert words(run.told()) == "first,own,second,third"
        run.do(Stop("last"))
        await run.event(SessionEnded)


class Prompt(ScriptedDialect):
    """One whose agent has no word for the begin of a turn that was asked for."""

    def begin(self, turn: int, content: Sequence[Content]) -> Iterable[Order | Began]:
        yield from super().begin(turn, content)
        self._open = True
        yield Began(turn)

    def read(self, line: bytes) -> Iterable[Said]:
        for one in super().read(line):
            if not isinstance(one, Began):
                yield one


async def test_a_turn_may_begin_by_its_order_alone(agents: Agents) -> None:
    async with agents(dialect=Prompt) as run:
        await run.start()
        for number in range(10):
            over = await run.interrupt(await run.begin("silent"))
            assert over.stop_reason is StopReason.INTERRUPTED
            after = await run.begin(f"say word-{number}")
            assert (await run.over(after)).stop_reason is StopReason.COMPLETED
            assert said(run, after) == [f"word-{number}"]
        check(run.seen, ended=False)


# --- What was said so far ------------------------------------------------------------------------


async def seeded(run: Drive) -> str:
    """What the agent was given before its first input."""
    after = await run.begin("recall said")
    await run.over(after)
    [text] = said(run, after)
    return text


async def a_state(agents: Agents) -> bytes:
    async with agents() as run:
        await run.start()
        return run.kept


@pytest.mark.parametrize(
    ("command", "mode"),
    [("seedable", ResumeMode.SEEDED), ("native off; seedable", ResumeMode.AUTO)],
)
async def test_an_agent_that_knows_nothing_is_first_given_what_was_said(
    agents: Agents, command: str, mode: ResumeMode
) -> None:
    resume = ResumeFrom(mode, await a_state(agents), True, "A said B; C answered", ("a picture",))
    async with agents(command) as run:
        up = await run.start(resume)
        assert (up.mode, up.lost) == (
            ResumeMode.SEEDED,
            ("what the agent remembered", "a picture"),
        )
        assert "A said B; C answered" in await seeded(run)
        after = await run.begin("look")
        await run.over(after)
        assert said(run, after) == ["text, 4 bytes"]


async def test_an_agent_that_takes_the_conversation_up_again_is_told_nothing_twice(
    agents: Agents,
) -> None:
    resume = ResumeFrom(ResumeMode.AUTO, await a_state(agents), True, "A said B", ("a picture",))
    async with agents("seedable") as run:
        up = await run.start(resume)
        assert (up.mode, up.lost) == (ResumeMode.NATIVE, ())
        assert await seeded(run) == "said is not known"


async def test_a_replacement_that_knows_nothing_is_given_what_was_said_in_the_run(
    agents: Agents,
) -> None:
    def transcript() -> Transcript:
        return Transcript(f"there were {len(run.all(TurnOver))} turns", ("something",))

    async with agents("native off; seedable", transcript=transcript) as run:
        await run.start()
        after = await run.begin("ignore interrupt; look; silent")
        await run.until(lambda: len(said(run, after)) == 1)
        assert said(run, after) == ["text, 30 bytes"]
        await run.interrupt(after, grace=0.1)
        up = await run.wait(ProcessUp, after)
        assert (up.mode, up.lost) == (
            ResumeMode.SEEDED,
            ("what the agent remembered", "something"),
        )
        assert "there were 1 turns" in await seeded(run)


# --- A start that is refused ---------------------------------------------------------------------


async def test_an_agent_that_refuses_and_stays_is_ended(agents: Agents) -> None:
    refusal = 'raw {"type":"refused","message":"not\\u0020today"}'
    async with agents(f"{refusal}; silent") as run:
        await run.driver.start(None)
        assert (await run.wait(StartFailed)).message == "not today"
        await run.until(lambda: run.ended)
        assert run.living() == {}


# --- One process for each conversation ------------------------------------------------------------


class Anonymous(ScriptedDialect):
    """One whose agent tells only later what its conversation is called."""

    known = False

    @property
    def conversation(self) -> str:
        return "told later" if self.known else ""

    @conversation.setter
    def conversation(self, name: str) -> None: ...

    def read(self, line: bytes) -> Iterable[Said]:
        self.known |= b"turn_ended" in line
        return super().read(line)


def locked(directory: Path) -> int:
    """How many of the files in there are locked. Not by trying: whoever is about to would fail."""
    held = {line.split()[5].split(":")[-1] for line in Path("/proc/locks").read_text().splitlines()}
    files = directory.iterdir() if directory.is_dir() else ()
    return sum(str(path.stat().st_ino) in held for path in files)


async def test_no_two_processes_ever_hold_one_conversation(agents: Agents) -> None:
    state = await a_state(agents)
    async with agents(session="first") as first:
        await first.start(ResumeFrom(ResumeMode.NATIVE, state))
        async with agents(session="second") as second:
            await second.driver.start(ResumeFrom(ResumeMode.NATIVE, state))
            failed = await second.wait(StartFailed)
            assert failed.message == "another process holds this conversation"
        async with agents(session="third") as third:
            up = await third.start(ResumeFrom(ResumeMode.AUTO, state))
            assert up.mode is ResumeMode.SEEDED
            await third.until(lambda: bool(third.notes(NoteKind.STATE_LOST)))
            [note] = third.notes(NoteKind.STATE_LOST)
            assert "another process holds this conversation" in note.message
        assert locked(first.directory / ".state" / "locks") == 1
    assert list((first.directory / ".state" / "locks").iterdir()) == []
    async with agents(session="fourth") as fourth:
        up = await fourth.start(ResumeFrom(ResumeMode.NATIVE, state))
        assert up.mode is ResumeMode.NATIVE


async def test_a_conversation_that_gets_its_name_later_is_held_from_then_on(
    agents: Agents,
) -> None:
    async with agents(dialect=Anonymous, session="first") as first:
        await first.start()
        assert locked(first.directory / ".state" / "locks") == 0
        await first.turn("say one")
        await eventually(lambda: locked(first.directory / ".state" / "locks") == 1)
        async with agents(dialect=Anonymous, session="second") as second:
            await second.start()
            await second.turn("say two")
            gone = await second.wait(ProcessGone)
            assert (gone.killed, gone.deliberate, gone.signal) == (False, False, 9)
            assert "another process" in second.notes(NoteKind.STATE_LOST)[0].message
        await first.turn("say three")


async def test_a_conversation_is_held_while_no_host_is_there(tmp_path: Path) -> None:
    locks = tmp_path / "state" / "locks"
    async with succession(ScriptedFactory(), tmp_path) as run:
        await run.begin()
        await run.send("say one")
        await run.event(TurnEnded)
        await run.die()
        [path] = locks.iterdir()
        assert locked(locks) == 1
        await run.succeed()
        await run.send("say two")
        await run.event(TurnEnded, 2)
        assert (list(locks.iterdir()), locked(locks)) == ([path], 1)
        run.do(Stop("last"))
        await run.event(SessionEnded)
        await eventually(lambda: not list(locks.iterdir()))


# --- Long lines ----------------------------------------------------------------------------------


class Long(ScriptedDialect):
    line_limit = 8 * 1024 * 1024


async def test_a_line_of_megabytes_is_one_message(agents: Agents) -> None:
    async with agents(dialect=Long) as run:
        await run.start()
        after = await run.begin("flood as=say piece=3500000 7000000; say after")
        await run.over(after)
        assert [len(text) for text in said(run, after)] == [3500000, 3500000, 5]
        assert run.notes(NoteKind.UNPARSED) == []


# --- An agent that confirms nothing --------------------------------------------------------------


async def test_an_agent_that_never_confirms_a_turn_does_not_hold_its_interrupt(
    tmp_path: Path,
) -> None:
    async with succession(ScriptedFactory(), tmp_path) as run:
        await run.begin()
        await run.send("remember colour blue")
        await run.event(TurnEnded)
        await run.send("hang; begin; say never")
        await eventually(lambda: run.machine.phase is Phase.IDLE)
        run.do(Interrupt("stop it", grace=0.3))
        ended = (await run.event(TurnEnded, 2)).event
        assert isinstance(ended, TurnEnded)
        assert ended.stop_reason is StopReason.INTERRUPTED
        await run.send("recall colour")
        await run.event(TurnEnded, 3)
        assert "colour is blue" in words(run.told())
        assert "never" not in words(run.told())
        replacements = [emit.event.replacement for emit in run.all(ProcessStarted)]  # type: ignore[union-attr]
        assert replacements == [False, True]
        run.do(Stop("last"))
        await run.event(SessionEnded)


async def test_an_agent_that_confirms_a_turn_late_is_interrupted_then(agents: Agents) -> None:
    async with agents() as run:
        await run.start()
        await run.driver.send(1, [Text("hang 0.5; begin; silent")])
        await run.driver.interrupt(grace=20, include_background=False)
        over = await run.wait(TurnOver)
        assert over.stop_reason is StopReason.INTERRUPTED
        assert run.all(TurnBegan) == [TurnBegan(1, confirmed=False)]
        await run.driver.send(2, [Text("say next")])
        await run.until(lambda: said(run) == ["next"])
        assert len(run.all(ProcessUp)) == 1
