"""What real agents said, played to the dialect: opencode 1.18.33, claude-agent-acp 0.100.0."""

from __future__ import annotations

import json

import pytest

from bridle_core.observations import (
    ApprovalAsked,
    Decision,
    KeepState,
    Message,
    MessageText,
    Note,
    Observation,
    Plan,
    PlanStep,
    Steered,
    StopReason,
    Thought,
    ToolEnded,
    ToolOutput,
    ToolStarted,
    ToolStatus,
    Usage,
)
from bridle_host.drivers.acp.standing import KEPT_VERSION, Kept
from bridle_host.drivers.lines.dialect import Began, Ended, Order, Ready, Refused, Said
from tests.bridle_host.drivers.acp.playing import RECORDED, Player, beginning

AGENTS = ("opencode", "claude-agent-acp")
WORD = "not today"

#: What was answered while it was recorded.
DECISIONS = {
    "opencode": [
        (Decision.ALLOW, ""),
        (Decision.DENY, WORD),
        (Decision.ALLOW_ALWAYS, ""),
        (Decision.ALLOW, ""),
    ],
    "claude-agent-acp": [
        (Decision.ALLOW, ""),
        (Decision.DENY, WORD),
        (Decision.ALLOW_ALWAYS, ""),
        (Decision.ALLOW, ""),
    ],
}


def conversation(agent: str) -> bytes:
    """What is kept of the recorded one."""
    told = (RECORDED / agent / "resumed.txt").read_text()
    opened = next(line for line in told.splitlines() if '"session/resume"' in line)
    return Kept(KEPT_VERSION, json.loads(opened[2:])["params"]["sessionId"], 1).dump()


def player(agent: str, name: str, *, succeeding: bool = False) -> Player:
    begins = beginning()
    if name == "resumed":
        begins = beginning(2, conversation(agent), native=True)
    elif name == "unknown":
        kept = Kept(KEPT_VERSION, "01234567-0123-4123-8123-0123456789ab", 1).dump()
        begins = beginning(2, kept, native=True)
    return Player(f"{agent}/{name}", begins, succeeding, decisions=DECISIONS[agent])


def turns(said: list[Said]) -> list[list[Said]]:
    """What was said in each turn, from its Began to its Ended."""
    found: list[list[Said]] = []
    for one in said:
        if isinstance(one, Began):
            found.append([])
        if found:
            found[-1].append(one)
    return found


def of(kind: type[Observation], said: list[Said]) -> list[Observation]:
    return [one for one in said if isinstance(one, kind)]


@pytest.mark.parametrize("agent", AGENTS)
def test_what_a_real_agent_says_becomes_what_it_means(agent: str) -> None:
    said = player(agent, "turns").play()
    ready, *_ = said
    assert isinstance(ready, Ready)
    assert ready.version in ("OpenCode 1.18.33", "Claude Agent 0.100.0")
    told = turns(said)
    assert [turn[0] for turn in told] == [Began(number) for number in range(1, 8)]
    assert [turn[-1] for turn in told[:6]] == [Ended(StopReason.COMPLETED)] * 6

    [thought] = of(Thought, told[0])
    assert thought == Thought("m-1-1-1", "hmm")
    assert of(MessageText, told[0]) == [
        MessageText("m-1-1-2", "hello "),
        MessageText("m-1-1-2", "there "),
    ]
    assert of(Message, told[0]) == [Message("m-1-1-2", ())]


@pytest.mark.parametrize("agent", AGENTS)
def test_a_tool_of_a_real_agent_is_told_once_with_its_arguments_and_asks_for_leave(
    agent: str,
) -> None:
    allowed, denied = turns(player(agent, "turns").play())[1:3]
    for turn, status, command in (
        (allowed, ToolStatus.SUCCEEDED, "touch made"),
        (denied, ToolStatus.DENIED, "touch denied"),
    ):
        [started], [ended], [asked] = (
            of(ToolStarted, turn),
            of(ToolEnded, turn),
            of(ApprovalAsked, turn),
        )
        assert isinstance(started, ToolStarted)
        assert isinstance(ended, ToolEnded)
        assert isinstance(asked, ApprovalAsked)
        assert started.tool == asked.tool == ("Bash" if agent != "opencode" else "execute")
        assert json.loads(started.arguments_json)["command"] == command
        assert json.loads(asked.arguments_json)["command"] == command
        assert started.tool_call_id == ended.tool_call_id == asked.tool_call_id
        assert ended.status is status
        assert turn.index(started) < turn.index(asked) < turn.index(ended)
    before, after = of(Message, allowed)
    assert allowed.index(before) < allowed.index(of(ToolStarted, allowed)[0])
    assert allowed.index(after) > allowed.index(of(ToolEnded, allowed)[0])
    [note] = of(Note, denied)
    assert isinstance(note, Note)
    assert "denial" in note.message


@pytest.mark.parametrize("agent", AGENTS)
def test_a_command_that_failed_is_told_as_failed_with_what_it_put_out(agent: str) -> None:
    turn = turns(player(agent, "turns").play())[5]
    [ended] = of(ToolEnded, turn)
    assert isinstance(ended, ToolEnded)
    assert ended.status is ToolStatus.FAILED
    output = b"".join(one.data for one in turn if isinstance(one, ToolOutput))
    assert output.count(b"cannot access 'nowhere'") == 1


def test_a_plan_is_told() -> None:
    turn = turns(player("claude-agent-acp", "turns").play())[4]
    assert of(Plan, turn) == [
        Plan((PlanStep("doing", "IN_PROGRESS"), PlanStep("second", "PENDING")))
    ]


@pytest.mark.parametrize("agent", AGENTS)
def test_an_error_of_the_model_fails_the_turn_with_its_words(agent: str) -> None:
    ended = turns(player(agent, "turns").play())[6][-1]
    assert isinstance(ended, Ended)
    assert ended.reason is StopReason.FAILED
    assert "scripted error" in ended.message


@pytest.mark.parametrize("agent", AGENTS)
def test_usage_is_summed_over_the_turns(agent: str) -> None:
    said = player(agent, "turns").play()
    usages = [one for one in said if isinstance(one, Usage)]
    first, last = usages[0], usages[-1]
    assert (first.input_tokens, first.output_tokens) == (11, 7)
    assert last.input_tokens > first.input_tokens
    assert first.model
    if agent == "claude-agent-acp":
        assert first.cost_micro_usd is not None
        assert last.cost_micro_usd is not None
        assert last.cost_micro_usd > first.cost_micro_usd > 0
    kept = Kept.load([one for one in said if isinstance(one, KeepState)][-1].state)
    assert kept.used.input == last.input_tokens


@pytest.mark.parametrize("agent", AGENTS)
def test_an_interrupted_turn_keeps_what_was_said_and_the_next_goes_on(agent: str) -> None:
    said = player(agent, "interrupts").play()
    first, second, third, fourth = turns(said)
    [message] = of(Message, first)
    assert isinstance(message, Message)
    assert message.partial
    assert first[-1] == Ended(StopReason.INTERRUPTED)
    assert of(ToolEnded, third)[0].status is ToolStatus.CANCELLED  # type: ignore[union-attr]
    assert third[-1] == Ended(StopReason.INTERRUPTED)
    assert second[-1] == fourth[-1] == Ended(StopReason.COMPLETED)


@pytest.mark.parametrize("agent", AGENTS)
def test_a_conversation_is_taken_up_again(agent: str) -> None:
    said = player(agent, "resumed").play()
    [ready] = [one for one in said if isinstance(one, Ready)]
    assert ready.resumed
    assert turns(said)[0][-1] == Ended(StopReason.COMPLETED)


@pytest.mark.parametrize("agent", AGENTS)
def test_a_conversation_that_the_agent_does_not_know_is_refused(agent: str) -> None:
    [refused] = player(agent, "unknown").play()
    assert isinstance(refused, Refused)
    assert refused.message.startswith("the agent can't take its conversation up again: ")


def test_a_word_in_between_is_confirmed_by_the_agent_that_takes_one() -> None:
    said = player("claude-agent-acp", "steered").play()
    assert [one for one in said if isinstance(one, Steered)] == [Steered("input-2")]
    assert said[-1] == Ended(StopReason.COMPLETED)


RECORDINGS = [(path.parent.name, path.stem) for path in sorted(RECORDED.glob("*/*.txt"))]


@pytest.mark.parametrize(("agent", "name"), RECORDINGS)
def test_another_dialect_goes_on_from_any_line(agent: str, name: str) -> None:
    one, many = player(agent, name), player(agent, name, succeeding=True)
    assert many.play() == one.play()
    assert max(one.largest, many.largest) < 4096


@pytest.mark.parametrize("agent", AGENTS)
def test_what_is_loaded_is_told_to_nobody(agent: str) -> None:
    """Behind the recorded word that the conversation is there."""
    played = player(agent, "resumed")
    played.play()
    told = (RECORDED / agent / "turns.txt").read_text()
    loading = Player(f"{agent}/turns", played.begins).speaker
    for order in loading.greet():
        assert order.key == "initialize"
    initialized = {
        "jsonrpc": "2.0",
        "id": "initialize",
        "result": {"protocolVersion": 1, "agentCapabilities": {"loadSession": True}},
    }
    [load] = loading.read(json.dumps(initialized).encode())
    assert isinstance(load, Order)
    assert b'"session/load"' in load.data
    for line in told.splitlines():
        if line.startswith("<") and '"session/update"' in line:
            assert list(loading.read(line[2:].encode())) == []
    loaded = {"jsonrpc": "2.0", "id": "session", "result": {}}
    [ready] = loading.read(json.dumps(loaded).encode())
    assert isinstance(ready, Ready)
    assert ready.resumed
