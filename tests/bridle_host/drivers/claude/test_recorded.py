"""What the recorded lines of the real program mean, and what it is told in return."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridle_core.observations import (
    ApprovalAsked,
    ApprovalWithdrawn,
    KeepState,
    Message,
    MessageText,
    Note,
    Plan,
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
from bridle_host.drivers.claude.launch import PROVEN
from bridle_host.drivers.lines.dialect import Began, Ended, Ready, Said, UnreadableError
from tests.bridle_host.drivers.claude.playing import RECORDED, dialect, play

NAMES = sorted(path.stem for path in RECORDED.glob("*.txt"))

Kind = TypeVar("Kind")


def of(said: Iterable[Said], kind: type[Kind]) -> list[Kind]:
    return [one for one in said if isinstance(one, kind)]


def turns(said: Iterable[Said]) -> list[list[Said]]:
    """What was said in each turn, from Began to Ended."""
    found: list[list[Said]] = []
    for one in said:
        if isinstance(one, Began):
            found.append([])
        if found and not any(isinstance(other, Ended) for other in found[-1]):
            found[-1].append(one)
    return found


def texts(said: Iterable[Said]) -> list[str]:
    return [one.content[0].text for one in of(said, Message) if isinstance(one.content[0], Text)]


def endings(said: Iterable[Said]) -> list[StopReason]:
    return [one.reason for one in of(said, Ended)]


@pytest.mark.parametrize("name", NAMES)
def test_whoever_goes_on_from_any_line_says_the_same(name: str) -> None:
    assert play(name, succeeding=True).said == play(name).said


@pytest.mark.parametrize("name", NAMES)
def test_turns_begin_and_end_in_turn_and_what_belongs_to_them_is_said_in_them(name: str) -> None:
    said = play(name).said
    assert said[0] == Ready(PROVEN)
    is_open = False
    for one in said[1:]:
        match one:
            case Began():
                assert not is_open
                is_open = True
            case Ended():
                assert is_open
                is_open = False
            case Note() | KeepState() | Usage():
                pass
            case _:
                assert is_open, one
    assert not is_open


@pytest.mark.parametrize("name", NAMES)
def test_live_text_is_the_begin_of_its_message(name: str) -> None:
    said = play(name).said
    whole = {one.message_id: one.content[0] for one in of(said, Message)}
    live: dict[str, str] = {}
    for piece in of(said, MessageText):
        live[piece.message_id] = live.get(piece.message_id, "") + piece.text
    # What broke off in the middle has no message; of an interrupted one the last words may be
    # missing on either side.
    for message_id, text in live.items():
        if message_id in whole:
            assert whole[message_id] == Text(text)
        else:
            assert name == "errors"


def test_texts_and_thoughts_are_told_and_what_they_cost() -> None:
    one, two = turns(play("words").said)
    assert one[0] == Began(1)
    assert len(of(one, MessageText)) == 3
    assert texts(one) == ["T1.1 T1.2 T1.3"]
    assert not of(one, Message)[0].partial
    assert [thought.text for thought in of(two, Thought)] == ["T2.1 T2.2"]
    assert texts(two) == ["T2.3 T2.4"]
    assert endings(one + two) == [StopReason.COMPLETED] * 2
    first, second = (of(turn, Usage)[-1] for turn in (one, two))
    assert 0 < first.input_tokens < second.input_tokens
    assert 0 < first.output_tokens < second.output_tokens
    assert 0 < (first.cost_micro_usd or 0) < (second.cost_micro_usd or 0)


def test_a_conversation_is_kept_once_its_first_turn_began() -> None:
    said = play("words").said
    kept = [number for number, one in enumerate(said) if isinstance(one, KeepState)]
    began = next(number for number, one in enumerate(said) if isinstance(one, Began))
    assert kept[0] == began + 1
    speaker = play("words").dialect
    state = of(said, KeepState)[-1].state
    assert json.loads(state)["conversation"] == speaker.conversation


def test_tools_are_told_with_arguments_output_and_how_they_ended() -> None:
    said = play("calls").said
    first, second, third, fourth = turns(said)
    [call] = of(first, ToolStarted)
    assert call.tool == "Bash"
    assert json.loads(call.arguments_json)["command"] == "echo out; echo err >&2"
    assert b"".join(one.data for one in of(first, ToolOutput)) == b"out\nerr"
    ended = [of(turn, ToolEnded)[0] for turn in (first, second, third, fourth)]
    assert [one.status for one in ended] == [
        ToolStatus.SUCCEEDED,
        ToolStatus.FAILED,
        ToolStatus.DENIED,
        ToolStatus.FAILED,
    ]
    assert ended[1].exit_code == 3
    assert ended[2].message == "not today"
    assert b"bad" in of(second, ToolOutput)[0].data
    assert not of(third, ToolOutput)
    [asked] = of(second, ApprovalAsked)
    assert asked.tool == "Bash"
    assert asked.tool_call_id == of(second, ToolStarted)[0].tool_call_id
    assert json.loads(asked.arguments_json)["command"] == "touch made; echo bad; exit 3"
    assert asked.reason
    assert not of(fourth, ApprovalAsked)


def test_the_task_list_is_told_as_a_plan() -> None:
    said = play("plans").said
    plans = [[(step.text, step.state) for step in one.steps] for one in of(said, Plan)]
    assert plans == [
        [("dig", "PENDING")],
        [("dig", "PENDING"), ("fill", "PENDING")],
        [("dig", "IN_PROGRESS"), ("fill", "PENDING")],
        [("dig", "COMPLETED"), ("fill", "PENDING")],
        [("dig", "COMPLETED")],
    ]


def test_a_question_is_answered_by_the_message_of_an_approval() -> None:
    said = play("plans").said
    assert of(said, ApprovalAsked)[-1].tool == "AskUserQuestion"
    output = b"".join(one.data for one in of(turns(said)[-1], ToolOutput))
    assert b"blue" in output


def test_an_interrupt_ends_the_turn_wherever_it_is() -> None:
    said = play("interrupts").said
    at_once, in_text, in_approval, in_tool, after = turns(said)
    assert endings(said) == [StopReason.INTERRUPTED] * 4 + [StopReason.COMPLETED]
    assert not of(at_once, Message)
    [cut] = of(in_text, Message)
    assert cut.partial
    assert cut.content == (Text("T2.1 T2.2 T2.3"),)
    [asked] = of(in_approval, ApprovalAsked)
    assert of(in_approval, ApprovalWithdrawn) == [ApprovalWithdrawn(asked.approval_id)]
    for turn in (in_approval, in_tool):
        [ended] = of(turn, ToolEnded)
        assert ended.status is ToolStatus.CANCELLED
        assert not of(turn, ToolOutput)
    assert texts(after) == ["T5.1"]


def test_what_is_steered_is_part_of_the_turn_or_taken_back() -> None:
    said = play("steers").said
    gap, behind, back = turns(said)
    assert [one.input_id for one in of(said, Steered)] == ["one", "two"]
    assert of(gap, Steered)
    assert of(behind, Steered)
    assert texts(gap)[-1] == "S1.1"
    # It has two results; the turn has one end, behind both.
    assert texts(behind) == ["T2.1 T2.2 T2.3", "S2.1"]
    assert endings(behind) == [StopReason.COMPLETED]
    assert endings(back) == [StopReason.INTERRUPTED]
    assert not of(back, Steered)


def test_errors_of_the_model_are_told() -> None:
    said = play("errors").said
    bad, refused, broken, back = turns(said)
    assert endings(bad) == [StopReason.FAILED]
    assert "400" in of(bad, Ended)[0].message
    assert not of(bad, Message)
    # It asks once more by itself where the model refused.
    assert any("safeguards" in one.message for one in of(refused, Note))
    assert endings(broken) == [StopReason.INTERRUPTED]
    assert of(broken, MessageText)
    assert any("failed" in one.message for one in of(broken, Note))
    assert endings(back) == [StopReason.COMPLETED]
    assert any("status 500" in one.message for one in of(back, Note))
    assert texts(back) == ["T4.1"]


def test_a_job_that_ends_behind_its_turn_begins_one_of_the_agents_own() -> None:
    said = play("background").said
    first, own, stopped = turns(said)
    assert [turn[0] for turn in (first, own, stopped)] == [Began(1), Began(None), Began(2)]
    assert endings(own) == [StopReason.COMPLETED]
    assert texts(own)
    notes = [one.message for one in of(said, Note)]
    assert any("completed" in note and "a job" in note for note in notes)
    assert any("stopped" in note for note in notes)
    # A turn takes the jobs that it began along.
    recorded = (RECORDED / "background.txt").read_text()
    assert '"subtype": "stop_task"' in recorded


def test_sub_agents_are_told_by_the_call_that_began_them() -> None:
    waiting, outlived, own = turns(play("sub_agents").said)
    [call] = of(waiting, ToolStarted)
    assert (call.tool, call.title) == ("Task", "dig")
    assert b"".join(one.data for one in of(waiting, ToolOutput))
    [begun] = of(outlived, ToolStarted)
    assert [one.sub_agent for one in of(outlived, Message)] == ["", begun.tool_call_id]
    assert own[0] == Began(None)


def lines() -> list[dict[str, Any]]:
    found = {}
    for name in NAMES:
        for entry in (RECORDED / f"{name}.txt").read_text().splitlines():
            if entry[0] == "<":
                line = json.loads(entry[2:])
                key = (line.get("type"), line.get("subtype"), *sorted(line))
                found[key] = line
    return list(found.values())


LINES = lines()
JUNK: list[object] = [None, True, -1, 2**70, 1.5, "", "x" * 300, "\ud800", [], [1], {}, {"a": 1}]


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for key, one in value.items():
            found += places(one, (*path, key))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            found += places(one, (*path, number))
    return found


@given(data=st.data())
def test_whatever_stands_in_a_field_the_line_is_read_or_unreadable(data: st.DataObject) -> None:
    choose: Callable[[Any], Any] = data.draw
    speaker = dialect()
    list(speaker.begin(1, [Text("x")]))
    for number in choose(st.lists(st.sampled_from(range(len(LINES))), max_size=6)):
        line = json.loads(json.dumps(LINES[number]))
        for path in choose(st.lists(st.sampled_from(places(line)), max_size=2)):
            inner: Any = line
            try:
                for step in path[:-1]:
                    inner = inner[step]
                inner[path[-1]] = choose(st.sampled_from(JUNK))
            except (TypeError, KeyError, IndexError):
                continue  # the other one took its place away
        try:
            said = list(speaker.read(json.dumps(line).encode()))
        except UnreadableError:
            continue
        for one in of(said, ToolOutput):
            assert len(one.data) <= 64 * 1024
        assert len(speaker.standing()) <= 32 * 1024
        dialect(standing=speaker.standing())
