"""The driver `scripted`: what each step of its language does, as its users see it."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from bridle_core.observations import (
    ApprovalAsked,
    ApprovalWithdrawn,
    Capability,
    Decision,
    Image,
    KeepState,
    Message,
    MessageText,
    Note,
    NoteKind,
    Observation,
    OutputStream,
    Plan,
    PlanStep,
    ProcessGone,
    ProcessUp,
    Resource,
    ResumeMode,
    StartFailed,
    Steered,
    StopReason,
    Text,
    Thought,
    ToolEnded,
    ToolOutput,
    ToolStarted,
    ToolStatus,
    TurnBegan,
    TurnOver,
    Usage,
)
from bridle_host.drivers.base import DriverContext, ResumeFrom
from bridle_host.drivers.registry import factories
from bridle_host.drivers.scripted import ScriptedFactory
from bridle_host.drivers.scripted.agent import Agent
from tests.support.driving import Drive, driving, eventually

Agents = Callable[..., AbstractAsyncContextManager[Drive]]


@pytest.fixture
def agents(tmp_path: Path) -> Agents:
    def make(command: str = "", **changes: object) -> AbstractAsyncContextManager[Drive]:
        return driving(ScriptedFactory(), tmp_path, agent_command=command, **changes)  # type: ignore[arg-type]

    return make


@pytest.fixture
async def agent(agents: Agents) -> AsyncIterator[Drive]:
    async with agents() as drive:
        await drive.start()
        yield drive


def said(drive: Drive, after: int = 0) -> list[str]:
    """The texts of all messages."""
    texts = []
    for seen in drive.seen[after:]:
        if isinstance(seen, Message):
            [piece] = seen.content
            assert isinstance(piece, Text)
            texts.append(piece.text)
    return texts


async def deaf(drive: Drive, script: str) -> int:
    """Begin a turn, and wait until the agent ignores interrupts."""
    after = await drive.begin(f"ignore interrupt; say deaf; {script}")
    await drive.until(lambda: "deaf" in said(drive, after))
    return after


async def play(drive: Drive, script: str) -> list[Observation]:
    """What a whole turn shows, without its frame."""
    after = await drive.begin(script)
    over = await drive.over(after)
    return drive.seen[after : drive.seen.index(over, after)]


# --- The frame -----------------------------------------------------------------------------------


def test_the_registry_knows_the_scripted_agent() -> None:
    factory = factories()["scripted"]
    assert factory.probe().installed
    assert {"NATIVE_RESUME", "STEER", "APPROVALS", "IMAGES"} <= set(factory.capabilities)
    assert Capability.STEER in factory.capabilities


async def test_a_turn_plays_its_steps_in_order(agent: Drive) -> None:
    assert await play(agent, "say one\n\n  # a remark\n  say two; say thr\\;ee\nsay -- x=1") != []
    assert said(agent) == ["one", "two", "thr;ee", "x=1"]
    assert agent.all(TurnOver) == [TurnOver(StopReason.COMPLETED)]


async def test_an_empty_turn_completes(agent: Drive) -> None:
    assert await play(agent, "") == []
    assert agent.all(TurnOver) == [TurnOver(StopReason.COMPLETED)]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("hello there", "no such step: hello there"),
        ("say one\nSAY two", "no such step: SAY two"),
        ("sleep soon", "sleep: soon is no number"),
        ("sleep", "sleep: nothing is no number"),
        ("say repeat=often x", "say: repeat is no number"),
        ("plan maybe this", "plan: maybe is none of done, doing, todo"),
        ("ignore you", "ignore: you is none of"),
        ("native perhaps", "native: on or off"),
        ("close door", "close: none of"),
        ("die signal=NO", "die: no signal NO"),
        ("fork as=twin 5", "fork: as child, session or daemon"),
        ("turn", "turn: end the one that is on first"),
        ("allowed: perhaps", "no such step: allowed: perhaps"),
    ],
)
async def test_a_script_that_cannot_be_played_fails_the_turn_in_clear_words(
    agent: Drive, script: str, why: str
) -> None:
    over = await agent.turn(script)
    assert over.stop_reason is StopReason.FAILED
    assert over.message.startswith(why)
    assert await play(agent, "say here") != []


async def test_a_bad_agent_command_is_refused_before_anything_starts(tmp_path: Path) -> None:
    context = DriverContext("s", 1, "/", "bogus", {}, tmp_path, None, None, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no such step: bogus"):
        ScriptedFactory().create(context)


async def test_the_agent_command_is_played_before_the_agent_is_up(agents: Agents) -> None:
    async with agents("version 9.1; sleep 0.2; remember key value") as agent:
        started = time.monotonic()
        up = await agent.start()
        assert time.monotonic() - started >= 0.2
        assert up.agent_version == "9.1"
        await play(agent, "recall key")
        assert said(agent) == ["key is value"]


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("die code=3", "the agent ended with 3 before it was ready"),
        ("die signal=KILL", "the agent died of signal 9 before it was ready"),
        ("sleep soon", "sleep: soon is no number"),
        ("stderr no key; die", "the agent ended with 1 before it was ready: no key"),
    ],
)
async def test_an_agent_that_does_not_come_up_is_a_start_that_failed(
    agents: Agents, command: str, why: str
) -> None:
    async with agents(command) as agent:
        await agent.driver.start(None)
        assert (await agent.wait(StartFailed)).message == why
        await agent.until(lambda: agent.ended)


async def test_a_directory_that_is_not_there_is_a_start_that_failed(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    async with driving(ScriptedFactory(), gone, state=tmp_path / "state") as agent:
        await agent.driver.start(None)
        assert "could not be started" in (await agent.wait(StartFailed)).message


# --- Saying --------------------------------------------------------------------------------------


async def test_say_stream_and_think(agent: Drive) -> None:
    seen = await play(agent, "say sub=helper Hi\nthink hm\nstream delay=0 to be \\n or\\tnot")
    message, thought, *live, last = seen
    assert isinstance(message, Message)
    assert (message.content, message.sub_agent) == ((Text("Hi"),), "helper")
    assert isinstance(thought, Thought)
    assert thought.text == "hm"
    assert all(isinstance(piece, MessageText) for piece in live)
    assert "".join(piece.text for piece in live if isinstance(piece, MessageText)) == (
        "to be \n or\tnot"
    )
    assert isinstance(last, Message)
    assert last.content == (Text("to be \n or\tnot"),)
    assert {piece.message_id for piece in live if isinstance(piece, MessageText)} == {
        last.message_id
    }


async def test_a_stream_may_stay_unfinished(agent: Drive) -> None:
    seen = await play(agent, "stream delay=0 finish=no half a thing")
    assert [type(piece) for piece in seen] == [MessageText] * 3


async def test_repeat_says_it_again(agent: Drive) -> None:
    await play(agent, "say repeat=3 again")
    assert said(agent) == ["again"] * 3


async def test_a_plan_and_usage(agent: Drive) -> None:
    seen = await play(
        agent,
        "plan done Look, doing Build it, todo Test\n"
        "usage model=tiny input_tokens=10 output_tokens=5 cached_tokens=2 cost_micro_usd=1234\n"
        "usage",
    )
    assert seen == [
        Plan(
            (
                PlanStep("Look", "COMPLETED"),
                PlanStep("Build it", "IN_PROGRESS"),
                PlanStep("Test", "PENDING"),
            )
        ),
        Usage(10, 5, 2, 1234, "tiny"),
        Usage(),
    ]


async def test_look_tells_what_the_input_holds(agent: Drive) -> None:
    after = await agent.begin("look", Image(b"1234", "image/png"), Resource("file:///x"))
    await agent.over(after)
    assert said(agent) == ["text, 4 bytes\nimage/png, 4 bytes\nfile:///x"]


# --- Tools and approvals -------------------------------------------------------------------------


async def test_a_tool_in_one_step_or_in_three(agent: Drive) -> None:
    seen = await play(
        agent,
        'tool name=bash arguments={"command":"ls\\u0020-l"} code=2 stream=stderr no\\n\n'
        "tool_start id=t1 name=edit sub=helper\n"
        "tool_output id=t1 \\xff\\x00\n"
        "tool_end id=t1 status=denied",
    )
    started, output, ended, *rest = seen
    assert isinstance(started, ToolStarted)
    assert (started.tool, started.arguments_json) == ("bash", '{"command":"ls\\u0020-l"}')
    assert output == ToolOutput(started.tool_call_id, b"no\n", OutputStream.STDERR)
    assert ended == ToolEnded(started.tool_call_id, ToolStatus.FAILED, 2)
    assert rest == [
        ToolStarted("t1", "edit", sub_agent="helper"),
        ToolOutput("t1", b"\xff\x00"),
        ToolEnded("t1", ToolStatus.DENIED),
    ]


@pytest.mark.parametrize(
    ("decision", "heard"),
    [
        (Decision.ALLOW, ["asked", "yes"]),
        (Decision.ALLOW_ALWAYS, ["asked", "yes"]),
        (Decision.DENY, ["asked", "no"]),
    ],
)
async def test_an_approval_leads_on_by_its_answer(
    agent: Drive, decision: Decision, heard: list[str]
) -> None:
    after = await agent.begin(
        'say asked; ask name=rm arguments={"path":"x"} May I?; allowed: say yes; denied: say no'
    )
    asked = await agent.wait(ApprovalAsked, after)
    assert (asked.tool, asked.arguments_json, asked.reason) == ("rm", '{"path":"x"}', "May I?")
    await agent.driver.respond(asked.approval_id, decision, "because")
    await agent.over(after)
    assert said(agent, after) == heard


async def test_allow_always_is_not_asked_again_not_even_after_a_resume(agents: Agents) -> None:
    async with agents() as agent:
        await agent.start()
        after = await agent.begin("ask name=rm")
        asked = await agent.wait(ApprovalAsked, after)
        await agent.driver.respond(asked.approval_id, Decision.ALLOW_ALWAYS, "")
        await agent.over(after)
        await play(agent, "ask name=rm; allowed: say yes")
        assert said(agent) == ["yes"]
        state = agent.kept
    for mode in (ResumeMode.NATIVE, ResumeMode.SEEDED):
        async with agents() as agent:
            await agent.start(ResumeFrom(mode, state))
            await play(agent, "ask name=rm; allowed: say yes")
            assert said(agent) == ["yes"]


async def test_a_question_may_be_withdrawn(agent: Drive) -> None:
    seen = await play(agent, "ask wait=0.05; denied: say never mind")
    asked, withdrawn, _message = seen
    assert isinstance(asked, ApprovalAsked)
    assert withdrawn == ApprovalWithdrawn(asked.approval_id)
    assert said(agent) == ["never mind"]


# --- Turns ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["failed", "refused", "limit_reached"])
async def test_a_turn_may_end_in_other_ways(agent: Drive, reason: str) -> None:
    over = await agent.turn(f"end reason={reason} so it goes")
    assert over == TurnOver(StopReason(reason.upper()), message="so it goes")


async def test_a_turn_may_begin_late(agent: Drive) -> None:
    sent = time.monotonic()
    after = await agent.begin("sleep 0.2; begin; say here")
    assert time.monotonic() - sent >= 0.2
    await agent.over(after)
    assert said(agent) == ["here"]


async def test_the_agent_may_begin_turns_by_itself(agent: Drive) -> None:
    after = await agent.begin("say asked; end; turn; say by myself; end; turn; end reason=refused")
    await agent.until(lambda: len(agent.all(TurnOver)) == 3)
    assert agent.all(TurnBegan) == [TurnBegan(1), TurnBegan(None), TurnBegan(None)]
    assert said(agent, after) == ["asked", "by myself"]
    assert [over.stop_reason for over in agent.all(TurnOver)] == [
        StopReason.COMPLETED,
        StopReason.COMPLETED,
        StopReason.REFUSED,
    ]


async def test_steered_steps_come_next(agent: Drive) -> None:
    after = await agent.begin("ask may I; say last")
    asked = await agent.wait(ApprovalAsked, after)
    await agent.driver.steer("input-7", [Text("say steered; say twice")])
    steered = await agent.wait(Steered, after)
    assert steered.input_id == "input-7"
    await agent.driver.respond(asked.approval_id, Decision.ALLOW, "")
    await agent.over(after)
    assert said(agent, after) == ["steered", "twice", "last"]


async def test_steering_that_is_not_heeded_is_not_confirmed(agent: Drive) -> None:
    after = await agent.begin("ignore steer; say deaf; sleep 0.1")
    await agent.until(lambda: said(agent) == ["deaf"])
    await agent.driver.steer("input-7", [Text("say steered")])
    await agent.over(after)
    await agent.driver.steer("input-8", [Text("say steered")])
    await play(agent, "heed steer")
    assert agent.all(Steered) == []
    assert said(agent) == ["deaf"]


# --- Interrupts ----------------------------------------------------------------------------------


async def test_an_interrupt_ends_the_turn_with_its_last_words_and_nothing_late(
    agent: Drive,
) -> None:
    after = await agent.begin("say begun; silent; cleanup: say cleaned up; late: say too late")
    await agent.until(lambda: said(agent) == ["begun"])
    over = await agent.interrupt(after)
    assert over.stop_reason is StopReason.INTERRUPTED
    await play(agent, "say next")
    assert said(agent) == ["begun", "cleaned up", "next"]
    assert len(agent.all(ProcessUp)) == 1


@pytest.mark.parametrize(
    "script",
    [
        "silent",
        "stream delay=0.001 repeat=100000 x y z",
        "ask name=x",
        "flood 1000000000",
        "sleep 60",
    ],
)
async def test_an_interrupt_reaches_whatever_the_agent_does(agent: Drive, script: str) -> None:
    over = await agent.interrupt(await agent.begin(script))
    assert over.stop_reason is StopReason.INTERRUPTED
    assert agent.notes(NoteKind.ESCALATED) == []
    await play(agent, "say here")
    assert said(agent)[-1] == "here"


async def test_an_agent_that_takes_its_time_has_its_grace(agent: Drive) -> None:
    started = time.monotonic()
    over = await agent.interrupt(await agent.begin("silent; cleanup: sleep 0.3"))
    assert time.monotonic() - started >= 0.3
    assert over.stop_reason is StopReason.INTERRUPTED
    assert agent.notes(NoteKind.ESCALATED) == []


@pytest.mark.parametrize(
    "script",
    ["silent", "hang", "flood as=say 100000000000"],
)
async def test_an_agent_that_ignores_it_is_killed_and_another_takes_its_conversation_up(
    agent: Drive, script: str
) -> None:
    await play(agent, "remember colour blue")
    after = await deaf(agent, script)
    over = await agent.interrupt(after, grace=0.2)
    assert over.stop_reason is StopReason.INTERRUPTED
    gone = await agent.wait(ProcessGone, after)
    assert (gone.killed, gone.deliberate, gone.signal) == (True, False, signal.SIGKILL)
    up = await agent.wait(ProcessUp, after)
    assert (up.replacement, up.mode, up.lost) == (True, ResumeMode.NATIVE, ())
    assert (await agent.wait(Note, agent.seen.index(up))).kind is NoteKind.ESCALATED
    await play(agent, "recall colour")
    assert said(agent)[-1] == "colour is blue"


async def test_without_native_resume_the_replacement_remembers_nothing(agents: Agents) -> None:
    async with agents("native off") as agent:
        await agent.start()
        await play(agent, "remember colour blue")
        after = await deaf(agent, "hang")
        await agent.interrupt(after, grace=0.1)
        up = await agent.wait(ProcessUp, after)
        assert (up.replacement, up.mode, up.lost) == (
            True,
            ResumeMode.SEEDED,
            ("what the agent remembered",),
        )
        await play(agent, "recall colour")
        assert said(agent)[-1] == "colour is not known"


async def test_a_second_interrupt_may_shorten_the_grace(agent: Drive) -> None:
    after = await deaf(agent, "silent")
    await agent.driver.interrupt(grace=30, include_background=False)
    await agent.driver.interrupt(grace=0.1, include_background=False)
    over = await agent.over(after)
    assert over.stop_reason is StopReason.INTERRUPTED


async def test_an_interrupt_of_an_idle_agent_does_nothing(agent: Drive) -> None:
    await agent.driver.interrupt(grace=1, include_background=False)
    await play(agent, "say here")
    assert said(agent) == ["here"]


async def test_children_of_the_turn_end_with_it_and_older_ones_live(agent: Drive) -> None:
    await play(agent, "fork 5101; fork as=session ignore=INT,TERM 5102; fork as=daemon 5103")
    await eventually(lambda: len(agent.commands("sleep 510")) == 3)
    after = await agent.begin(
        "fork 5104; fork as=session ignore=INT,TERM 5105; fork as=daemon 5106; silent"
    )
    await eventually(lambda: len(agent.commands("sleep 510")) == 6)
    await agent.interrupt(after)
    assert sorted(agent.commands("sleep 510")) == ["sleep 5101", "sleep 5102", "sleep 5103"]
    [note] = agent.notes(NoteKind.ESCALATED)
    assert "sleep 5105" in note.message
    after = await agent.begin("silent")
    await agent.interrupt(after, include_background=True)
    assert agent.commands("sleep 510") == []
    assert len(agent.all(ProcessUp)) == 1


# --- Ends ----------------------------------------------------------------------------------------


async def test_an_agent_that_dies_in_its_turn_is_lost(agent: Drive) -> None:
    after = await agent.begin("say last; die code=7")
    gone = await agent.wait(ProcessGone, after)
    assert (gone.exit_code, gone.deliberate, gone.killed) == (7, False, False)
    assert said(agent) == ["last"]
    assert agent.all(TurnOver) == []


async def test_an_agent_that_dies_before_it_confirms_leaves_the_turn_unbegun(agent: Drive) -> None:
    await agent.driver.send(1, [Text("die signal=TERM; begin")])
    gone = await agent.wait(ProcessGone)
    assert (gone.signal, gone.exit_code) == (signal.SIGTERM, None)
    assert agent.all(TurnBegan) == []


async def test_an_agent_that_dies_after_its_turn(agent: Drive) -> None:
    after = await agent.begin("end; die code=4")
    gone = await agent.wait(ProcessGone, after)
    assert (gone.exit_code, gone.deliberate) == (4, False)
    assert agent.all(TurnOver) == [TurnOver(StopReason.COMPLETED)]


async def test_an_agent_that_quits_means_it(agent: Drive) -> None:
    after = await agent.begin("say bye; quit code=3")
    gone = await agent.wait(ProcessGone, after)
    assert (gone.exit_code, gone.deliberate) == (3, True)
    assert agent.all(TurnOver) == [TurnOver(StopReason.COMPLETED)]


async def test_a_stop_ends_an_idle_agent_by_itself(agent: Drive) -> None:
    await play(agent, "say here; fork as=daemon 5201")
    gone = await agent.stop()
    assert (gone.exit_code, gone.deliberate, gone.killed) == (0, True, False)
    assert agent.living() == {}


@pytest.mark.parametrize(
    ("script", "signum"),
    [
        ("ignore stop signals", signal.SIGKILL),
        ("ignore stop", signal.SIGTERM),
        ("ignore stop signals; end; hang", signal.SIGKILL),
    ],
)
async def test_a_stop_that_is_ignored_becomes_a_sigterm_and_then_a_kill(
    agent: Drive, script: str, signum: signal.Signals
) -> None:
    await play(agent, script)
    gone = await agent.stop(grace=0.3)
    assert (gone.signal, gone.killed) == (signum, True)


async def test_a_kill_ends_all_of_it_now(agent: Drive) -> None:
    after = await agent.begin("ignore signals; fork as=daemon ignore=INT,TERM,HUP 5301; hang")
    await eventually(lambda: agent.commands("sleep 5301"))
    await agent.driver.kill()
    gone = await agent.wait(ProcessGone, after)
    assert (gone.signal, gone.killed, gone.deliberate) == (signal.SIGKILL, True, False)
    assert agent.living() == {}


async def test_a_child_that_holds_stdout_does_not_hold_the_end(agent: Drive) -> None:
    await play(agent, "fork as=daemon hold=yes 5401")
    started = time.monotonic()
    await agent.stop(grace=40)
    assert time.monotonic() - started < 30
    assert agent.living() == {}


async def test_an_agent_that_closed_its_stdout_can_still_be_interrupted(agent: Drive) -> None:
    after = await deaf(agent, "close stdout; silent")
    over = await agent.interrupt(after, grace=0.2)
    assert over.stop_reason is StopReason.INTERRUPTED
    assert (await agent.wait(ProcessUp, after)).replacement


async def test_an_agent_that_closed_its_stdin_is_told_no_more(agent: Drive) -> None:
    after = await agent.begin("close stdin; hang 0.2; say still; silent")
    await agent.until(lambda: said(agent) == ["still"])
    over = await agent.interrupt(after, grace=0.2)
    assert over.stop_reason is StopReason.INTERRUPTED


# --- Resume --------------------------------------------------------------------------------------


async def remembering(agents: Agents) -> bytes:
    async with agents() as agent:
        await agent.start()
        await play(agent, "remember colour blue")
        return agent.kept


async def test_a_native_resume_takes_the_conversation_up_again(agents: Agents) -> None:
    state = await remembering(agents)
    for mode in (ResumeMode.NATIVE, ResumeMode.AUTO):
        async with agents() as agent:
            up = await agent.start(ResumeFrom(mode, state))
            assert (up.mode, up.lost) == (ResumeMode.NATIVE, ())
            await play(agent, "recall colour")
            assert said(agent) == ["colour is blue"]


async def test_a_seeded_resume_has_forgotten(agents: Agents) -> None:
    state = await remembering(agents)
    async with agents() as agent:
        up = await agent.start(ResumeFrom(ResumeMode.SEEDED, state))
        assert (up.mode, up.lost) == (ResumeMode.SEEDED, ("what the agent remembered",))
        await play(agent, "recall colour")
        assert said(agent) == ["colour is not known"]


async def test_without_native_resume_auto_falls_back_and_native_fails(agents: Agents) -> None:
    state = await remembering(agents)
    async with agents("native off") as agent:
        up = await agent.start(ResumeFrom(ResumeMode.AUTO, state))
        assert up.mode is ResumeMode.SEEDED
    async with agents("native off") as agent:
        await agent.driver.start(ResumeFrom(ResumeMode.NATIVE, state))
        assert "no conversation" in (await agent.wait(StartFailed)).message
        await agent.until(lambda: agent.ended)


@pytest.mark.parametrize("state", [b"", b"\xff", b"{}", b"[]", b"[" * 100_000])
async def test_without_a_state_auto_falls_back_and_native_fails(
    agents: Agents, state: bytes
) -> None:
    async with agents() as agent:
        assert (await agent.start(ResumeFrom(ResumeMode.AUTO, state))).mode is ResumeMode.SEEDED
    async with agents() as agent:
        await agent.driver.start(ResumeFrom(ResumeMode.NATIVE, state))
        assert "no conversation" in (await agent.wait(StartFailed)).message


async def test_what_is_too_much_to_keep_is_told_and_not_kept(agent: Drive) -> None:
    await play(agent, "remember small 1")
    kept = agent.kept
    await play(agent, "remember large " + "x" * 150_000)
    [note] = agent.notes(NoteKind.STATE_LOST)
    assert "kept" in note.message
    assert agent.kept == kept
    assert len(agent.all(KeepState)) == 2


# --- Faults of the stream ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "shown"),
    [
        ("raw this is no JSON", "it is no JSON: this is no JSON"),
        ("raw [1]", "it is no object: [1]"),
        ('raw {"type":"unheard"}', 'it is of no known type: {"type":"unheard"}'),
        ('raw {"type":"message","id":5}', 'id is no text: {"type":"message","id":5}'),
        (r"raw \x00\x01 NUL", "it is no JSON: \0\1 NUL"),
        (r"raw \xff\xfe no UTF-8", "it is no JSON: �� no UTF-8"),
        ('raw {"type":"turn_began","turn":99}', "no turn can begin now"),
        ("raw " + "[" * 50_000, "it is no JSON: [[["),
        ('raw {"type":"usage","input_tokens":' + "9" * 5000 + "}", "it is no JSON"),
        ('raw {"type":"turn_ended","reason":"KILLED"}', "reason is not the agent's to give"),
    ],
)
async def test_a_line_that_is_no_part_of_the_protocol_is_a_note_and_no_more(
    agent: Drive, script: str, shown: str
) -> None:
    await play(agent, f"say before; {script}; say after")
    [note] = agent.notes(NoteKind.UNPARSED)
    assert note.message.startswith(shown)
    assert note.bytes_dropped > 0
    assert said(agent) == ["before", "after"]


async def test_a_line_of_a_hundred_megabytes_is_a_note_and_costs_no_memory(agent: Drive) -> None:
    await play(agent, "say before; line 104857600; say after")
    [note] = agent.notes(NoteKind.UNPARSED)
    assert note.bytes_dropped == 104857600
    assert len(note.message) < 1000
    assert said(agent) == ["before", "after"]


async def test_a_flood_of_unreadable_lines_is_told_in_bounds(agent: Drive) -> None:
    await play(agent, "flood as=raw piece=1 5000; say after")
    assert len(agent.notes(NoteKind.UNPARSED)) == 33
    assert "4968 more lines" in agent.notes(NoteKind.UNPARSED)[-1].message
    assert said(agent) == ["after"]


async def test_half_a_rune_at_a_time(agent: Drive) -> None:
    await play(agent, "rune pause=0.02 a€😀z")
    assert said(agent) == ["a€😀z"]


async def test_text_that_could_not_be_stored_is_mended(agent: Drive) -> None:
    await play(agent, r"say lone \ud800 surrogate and \xff")
    assert said(agent) == ["lone ? surrogate and ?"]


async def test_what_the_agent_writes_to_its_stderr_is_a_note_in_bounds(agent: Drive) -> None:
    await play(agent, r"stderr a warning: \xff")
    await agent.until(lambda: bool(agent.notes(NoteKind.AGENT_LOG)))
    assert [note.message for note in agent.notes(NoteKind.AGENT_LOG)] == ["a warning: �\n"]
    await play(agent, "flood as=stderr 1000000; say after")
    # Its stderr is read beside what it says: a part may come after the turn.
    while not agent.notes(NoteKind.TRUNCATED):
        await play(agent, "say next")
    logged = sum(len(note.message) for note in agent.notes(NoteKind.AGENT_LOG))
    assert logged <= 3 * 16 * 1024
    assert agent.notes(NoteKind.TRUNCATED)[0].bytes_dropped > 0


@pytest.mark.parametrize("way", ["tool", "text", "say"])
async def test_a_flood_comes_whole(agent: Drive, way: str) -> None:
    seen = await play(agent, f"flood as={way} piece=100000 1000000")
    size = 0
    for piece in seen:
        if isinstance(piece, ToolOutput):
            assert len(piece.data) <= 65536
            size += len(piece.data)
        elif isinstance(piece, MessageText):
            size += len(piece.text)
    assert size + sum(map(len, said(agent))) == 1_000_000


async def test_what_is_said_beside_a_turn_belongs_to_none(agent: Drive) -> None:
    await play(agent, "end; say beside; tool x")
    await play(agent, "say here")
    assert said(agent) == ["here"]
    assert agent.all(ToolStarted) == []


async def test_a_ledger_holds_all_that_the_agent_got_and_told_in_order(
    agents: Agents, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    async with agents(f"ledger {ledger}") as agent:
        await agent.start()
        await play(agent, "say one")
        await play(agent, "say two")
    begin, *lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert begin.keys() == {"pid"}
    got = [line["got"]["content"][0]["text"] for line in lines if "content" in line.get("got", {})]
    assert got == ["say one", "say two"]
    kinds = [(next(iter(line)), next(iter(line.values()))["type"]) for line in lines]
    turn = [("got", "turn"), ("told", "turn_began"), ("told", "message"), ("told", "turn_ended")]
    assert kinds[:9] == [("told", "ready"), *turn, *turn]


async def test_a_ledger_that_cannot_be_written_refuses_the_start(
    agents: Agents, tmp_path: Path
) -> None:
    async with agents(f"ledger {tmp_path}/none/ledger") as agent:
        await agent.driver.start(None)
        refused = await agent.wait(StartFailed)
        assert "No such file" in refused.message


# --- The documentation ---------------------------------------------------------------------------


def test_every_step_is_documented() -> None:
    text = Path(__file__).parents[3].joinpath("docs/drivers/scripted.md").read_text()
    verbs = {name.removeprefix("do_") for name in vars(Agent) if name.startswith("do_")}
    documented = set(re.findall(r"`([a-z_]+)(?=[ `])", text))
    assert verbs <= documented, verbs - documented
