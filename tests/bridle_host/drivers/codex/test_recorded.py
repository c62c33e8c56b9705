"""What the real program said, played to the dialect: recorded with codex-cli 0.169.0."""

from __future__ import annotations

import json
import re

import pytest

from bridle_core.observations import (
    ApprovalAsked,
    Decision,
    KeepState,
    Message,
    MessageText,
    Note,
    NoteKind,
    Steered,
    StopReason,
    Text,
    Thought,
    ToolEnded,
    ToolOutput,
    ToolStarted,
    ToolStatus,
    Usage,
)
from bridle_host.drivers.lines.dialect import Began, Ended, Ready, Refused, Said
from tests.bridle_host.drivers.codex.playing import OPEN, PROJECT, RECORDED, Player, beginning

ANSWERS = [(Decision.ALLOW_ALWAYS, ""), (Decision.DENY, "not today"), (Decision.ALLOW, "")]
NAMES = sorted(path.stem for path in RECORDED.glob("*.txt"))
OVER = Ended(StopReason.COMPLETED)
INTERRUPTED = Ended(StopReason.INTERRUPTED)


def player(name: str, *, succeeding: bool = False) -> Player:
    """Ready to play, made as when it was recorded."""
    begins = beginning()
    if name in ("resumed", "locked", "unknown"):
        recorded = (RECORDED / f"{name}.txt").read_text()
        found = re.search(r'"thread/resume".*"threadId":"([^"]+)"', recorded)
        assert found is not None
        kept = json.dumps({"version": 1, "thread": found[1], "run": 1}).encode()
        begins = beginning(2 if name == "resumed" else 3, kept, native=True)
    command = OPEN if name in ("output", "interrupts", "agents") else ""
    return Player(name, command, begins, succeeding, decisions=ANSWERS)


def heard(name: str) -> list[Said]:
    """Without what every recording has: notes of the program's own, and what is kept."""
    said = player(name).play()
    return [one for one in said if not isinstance(one, Note | KeepState | Usage)]


@pytest.mark.parametrize("name", NAMES)
def test_another_dialect_goes_on_after_any_line_and_nobody_can_tell(name: str) -> None:
    assert player(name, succeeding=True).play() == player(name).play()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_the_program_said_was_unreadable(name: str) -> None:
    kinds = {one.kind for one in player(name).play() if isinstance(one, Note)}
    assert kinds <= {NoteKind.AGENT_LOG}


def test_a_turn_is_its_thoughts_its_live_text_and_its_message() -> None:
    assert heard("text") == [
        Ready("0.169.0"),
        Began(1),
        Thought("rs_1", "I think about it"),
        MessageText("msg_1", "hello "),
        MessageText("msg_1", "there "),
        MessageText("msg_1", "friend"),
        Message("msg_1", (Text("hello there friend"),)),
        OVER,
    ]


def test_what_was_used_is_told_and_kept_with_the_thread_once_a_turn_has_begun() -> None:
    said = player("text").play()
    used = [one for one in said if isinstance(one, Usage)]
    assert used == [Usage(101, 5, 10, model="lab-model")]
    kept = [json.loads(one.state) for one in said if isinstance(one, KeepState)]
    before = said[: said.index(Began(1))]
    assert not [one for one in before if isinstance(one, KeepState)]
    assert kept[0] == {"version": 1, "thread": kept[0]["thread"], "run": 1}
    assert kept[1] == {**kept[0], "usage": {"input": 101, "output": 5, "cached": 10}}


def test_a_command_is_asked_for_as_the_agent_wrote_it_and_told_with_output_and_code() -> None:
    arguments = {"command": "echo hi; exit 3", "cwd": PROJECT}
    said = [one for one in heard("tools") if getattr(one, "tool_call_id", "") == "call_2"]
    started, asked, output, ended = said
    assert isinstance(started, ToolStarted)
    assert started.tool == "shell"
    assert json.loads(started.arguments_json) == arguments
    assert isinstance(asked, ApprovalAsked)
    assert asked.approval_id == "1-1-0"
    assert (asked.tool, json.loads(asked.arguments_json)) == ("shell", arguments)
    assert output == ToolOutput("call_2", b"hi\n")
    assert ended == ToolEnded("call_2", ToolStatus.FAILED, 3)


def test_a_denied_command_ends_as_denied_and_the_reason_is_given_to_the_agent() -> None:
    # That it was given stands in the recording: a word into the turn, behind the answer.
    said = heard("tools")
    assert ToolEnded("call_4", ToolStatus.DENIED) in said
    recorded = (RECORDED / "tools.txt").read_text()
    assert '"text":"Denied: not today"' in recorded.split('"result":{"decision":"decline"}')[1]


def test_a_change_of_files_is_asked_for_with_its_paths() -> None:
    said = heard("tools")
    change = {"path": f"{PROJECT}/f.txt", "kind": "add"}
    started = next(
        one for one in said if isinstance(one, ToolStarted) and one.tool == "apply_patch"
    )
    assert json.loads(started.arguments_json) == {"changes": [{**change, "diff": "hello\n"}]}
    asked = [one for one in said if isinstance(one, ApprovalAsked)][2]
    assert asked.tool_call_id == started.tool_call_id
    told = json.loads(asked.arguments_json)
    assert told == {"changes": [change], "path": change["path"]}
    assert ToolEnded(started.tool_call_id, ToolStatus.SUCCEEDED) in said


def test_a_tool_of_an_mcp_server_is_asked_for_by_its_name_and_arguments() -> None:
    said = heard("mcp")
    asked = [one for one in said if isinstance(one, ApprovalAsked)]
    assert {(one.tool, one.arguments_json) for one in asked} == {
        ("mcp__lab__add", '{"a": 1, "b": 2}')
    }
    first, second = [one.tool_call_id for one in asked]
    assert ToolOutput(first, b"{'a': 1, 'b': 2}") in said
    assert ToolEnded(first, ToolStatus.SUCCEEDED) in said
    assert ToolEnded(second, ToolStatus.DENIED, message="user rejected MCP tool call") in said


def test_an_error_ends_the_turn_as_failed_and_says_why() -> None:
    said = player("errors").play()
    first, second = [one for one in said if isinstance(one, Ended)]
    assert first.reason is second.reason is StopReason.FAILED
    assert "bad thing happened" in first.message
    assert "high demand" in second.message
    retried = [one for one in said if isinstance(one, Note) and "tries again" in one.message]
    assert len(retried) == 1


def test_output_is_whole_though_the_program_tells_of_its_beginning_last() -> None:
    said = heard("output")
    output = [one.data for one in said if isinstance(one, ToolOutput)]
    assert output == [b"2\n", b"3\n", b"1\n"]
    ended = next(one for one in said if isinstance(one, ToolEnded))
    assert (ended.status, ended.exit_code) == (ToolStatus.SUCCEEDED, 0)
    assert "stands last" in ended.message


def test_an_interrupt_ends_the_commands_of_its_turn_and_no_earlier_ones() -> None:
    said = heard("interrupts")
    begun = [one for one in said if isinstance(one, ToolStarted)]
    background, foreground = begun
    goes_on = "it goes on in the background"
    assert ToolEnded(background.tool_call_id, ToolStatus.SUCCEEDED, None, goes_on) in said
    assert ToolEnded(foreground.tool_call_id, ToolStatus.CANCELLED, -1) in said
    terminated = re.findall(
        r'> .*"id":"terminate-([^"]+)"', (RECORDED / "interrupts.txt").read_text()
    )
    assert [name.rpartition("-")[0] for name in terminated] == [foreground.tool_call_id]
    assert [one for one in said if isinstance(one, Ended)] == [OVER, INTERRUPTED, INTERRUPTED]


def test_an_interrupt_that_is_to_end_background_jobs_too_has_them_all_ended() -> None:
    recorded = (RECORDED / "interrupts.txt").read_text().splitlines()
    orders = [line for line in recorded if line.startswith("> ")]
    assert any("backgroundTerminals/clean" in line and "clean-turn-3" in line for line in orders)
    assert not any("terminals-turn-3" in line for line in orders)


def test_after_an_interrupt_nothing_of_the_turn_is_told() -> None:
    for name in ("interrupts", "void", "agents"):
        over = False
        for one in heard(name):
            assert not over or isinstance(one, Began), (name, one)
            over = isinstance(one, Ended)


def test_an_approval_that_an_interrupt_voids_is_not_waited_for() -> None:
    said = heard("void")
    assert [type(one) for one in said[-3:]] == [ToolStarted, ApprovalAsked, Ended]
    assert said[-1] == INTERRUPTED


def test_a_word_in_between_is_confirmed_where_the_agent_took_it_in() -> None:
    said = heard("steered")
    cut, confirmed = said.index(Message("msg_20", (), partial=True)), said.index(Steered("in-9"))
    assert cut < confirmed < said.index(Message("msg_21", (Text("steered"),)))
    assert said[-1] == OVER


def test_what_a_sub_agent_does_is_told_as_its_own_and_ends_with_the_turn() -> None:
    said = heard("agents")
    commands = [one for one in said if isinstance(one, ToolStarted) and one.tool == "shell"]
    assert len(commands) == 1
    assert commands[0].sub_agent
    assert ToolOutput(commands[0].tool_call_id, b"sub\n") in said
    recorded = (RECORDED / "agents.txt").read_text()
    order = next(line for line in recorded.splitlines() if line.startswith('> {"id":"interrupt-0'))
    assert f'"threadId":"{commands[0].sub_agent}"' in order


def test_what_a_sub_agent_says_after_the_turn_is_worth_a_note() -> None:
    notes = [one.message for one in player("agents").play() if isinstance(one, Note)]
    assert [note.endswith(": sub done") for note in notes].count(True) == 1


def test_an_input_that_goes_into_a_turn_of_the_agents_own_becomes_a_turn_of_ours() -> None:
    said = [one for one in heard("goal") if isinstance(one, Began | Ended | Message)]
    assert [one for one in said if not isinstance(one, Message)] == [
        Began(1),
        OVER,
        Began(None),
        OVER,
        Began(2),
        OVER,
    ]
    mine = next(one for one in said if isinstance(one, Message) and one.content == (Text("mine"),))
    assert said.index(Began(2)) < said.index(mine)


def test_a_thread_that_is_resumed_counts_from_where_it_stood() -> None:
    said = player("resumed").play()
    assert said[0] == Ready("0.169.0", resumed=True)
    used = [one for one in said if isinstance(one, Usage)]
    assert [one.output_tokens for one in used] == [5]
    kept = [json.loads(one.state) for one in said if isinstance(one, KeepState)]
    assert all(one["run"] == 2 for one in kept)


@pytest.mark.parametrize(
    ("name", "why"), [("locked", "already has an active writer"), ("unknown", "no rollout found")]
)
def test_a_thread_that_can_t_be_resumed_is_refused_in_the_program_s_words(
    name: str, why: str
) -> None:
    refused = player(name).play()[-1]
    assert isinstance(refused, Refused)
    assert why in refused.message
