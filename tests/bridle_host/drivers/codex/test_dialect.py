"""What the recordings do not show: quick turns, refusals, late words, and hostile ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridle_core.observations import (
    ApprovalAsked,
    ApprovalWithdrawn,
    Decision,
    Image,
    KeepState,
    Message,
    MessageText,
    Note,
    Plan,
    PlanStep,
    Resource,
    StopReason,
    Text,
    ToolEnded,
    ToolOutput,
    ToolStarted,
    ToolStatus,
    Usage,
)
from bridle_host.drivers.codex.dialect import CodexDialect
from bridle_host.drivers.lines.dialect import (
    Began,
    Ended,
    Order,
    Ready,
    Refused,
    Said,
    UnreadableError,
)
from tests.bridle_host.drivers.codex.playing import beginning, dialect

THREAD, OTHER = "thread-1", "thread-2"
OVER = Ended(StopReason.COMPLETED)


class Agent:
    """Says Codex's lines to a dialect."""

    def __init__(self, speaker: CodexDialect | None = None, *, up: bool = True) -> None:
        self.speaker = speaker or dialect()
        if up:
            self.answers("initialize", {"userAgent": "bridle/1.2.3 (…)"})
            self.answers("thread", {"thread": {"id": THREAD}, "model": "m"})

    def says(self, **line: Any) -> list[Said]:
        return list(self.speaker.read(json.dumps(line).encode()))

    def answers(self, name: object, result: object) -> list[Said]:
        return self.says(id=name, result=result)

    def refuses(self, name: object, message: str, code: int = -32600) -> list[Said]:
        return self.says(id=name, error={"code": code, "message": message})

    def tells(self, method: str, thread: str = THREAD, **params: Any) -> list[Said]:
        return self.says(method=method, params={"threadId": thread, **params})

    def asks(self, number: object, method: str, turn: str | None, **params: Any) -> list[Said]:
        asked = {"threadId": THREAD, "turnId": turn, **params}
        return self.says(id=number, method=method, params=asked)

    def starts(self, name: str, thread: str = THREAD, root: str | None = None) -> list[Said]:
        turn = {"id": name, "rootTurnId": root or name, "status": "inProgress"}
        return self.tells("turn/started", thread, turn=turn)

    def ends(
        self, name: str, status: str = "completed", thread: str = THREAD, error: object = None
    ) -> list[Said]:
        turn = {"id": name, "status": status, "error": error}
        return self.tells("turn/completed", thread, turn=turn)

    def begins(self, item: Mapping[str, object], turn: str, thread: str = THREAD) -> list[Said]:
        return self.tells("item/started", thread, turnId=turn, item=item)

    def completes(self, item: Mapping[str, object], turn: str, thread: str = THREAD) -> list[Said]:
        return self.tells("item/completed", thread, turnId=turn, item=item)

    def turn(self, number: int, name: str) -> list[Said]:
        """A turn of ours, up to its beginning."""
        list(self.speaker.begin(number, (Text("go"),)))
        return self.answers(f"turn-{number}", {"turn": {"id": name}}) + self.starts(name)

    def interrupted(self, turn: str, *, include_background: bool = False) -> list[str]:
        orders = self.speaker.interrupt(turn, include_background=include_background)
        return [order.key for order in orders]


def plain(said: list[Said]) -> list[Said]:
    return [one for one in said if not isinstance(one, KeepState)]


def command(name: str, **more: object) -> dict[str, object]:
    text = "/bin/bash -c 'make all'"
    return {"type": "commandExecution", "id": name, "command": text, "cwd": "/x", **more}


# --- the course of turns ---


def test_a_turn_that_starts_before_it_is_answered_is_ours_by_the_answer() -> None:
    agent = Agent()
    list(agent.speaker.begin(3, ()))
    assert agent.starts("t1") == []
    assert plain(agent.answers("turn-3", {"turn": {"id": "t1"}})) == [Began(3)]
    assert plain(agent.ends("t1")) == [OVER]


def test_a_turn_that_starts_before_it_is_answered_is_ours_by_the_input_in_it() -> None:
    agent = Agent()
    list(agent.speaker.begin(3, ()))
    agent.starts("t1")
    item = {"type": "userMessage", "id": "u", "clientId": "bridle-1-turn-3"}
    assert plain(agent.begins(item, "t1")) == [Began(3)]
    assert agent.answers("turn-3", {"turn": {"id": "t1"}}) == []


def test_a_turn_of_the_agents_own_that_was_quicker_is_not_taken_for_ours() -> None:
    agent = Agent()
    list(agent.speaker.begin(3, ()))
    agent.starts("own")
    said = plain(agent.begins({"type": "agentMessage", "id": "m"}, "own"))
    assert said == [Began(None)]
    assert plain(agent.ends("own")) == [OVER]
    assert agent.answers("turn-3", {"turn": {"id": "t1"}}) == []
    assert plain(agent.starts("t1")) == [Began(3)]


def test_a_turn_that_was_over_before_it_was_answered_is_begun_and_ended() -> None:
    agent = Agent()
    list(agent.speaker.begin(3, ()))
    agent.starts("t1")
    assert plain(agent.ends("t1")) == [Began(None), OVER]
    assert plain(agent.answers("turn-3", {"turn": {"id": "t1"}})) == [Began(3), OVER]


def test_an_input_that_the_agent_does_not_take_is_a_failed_turn() -> None:
    agent = Agent()
    list(agent.speaker.begin(3, ()))
    failed = Ended(StopReason.FAILED, "codex did not take the input: too long")
    assert plain(agent.refuses("turn-3", "too long")) == [Began(3), failed]


def test_an_input_that_is_refused_in_a_turn_of_the_agents_own_fails_behind_it() -> None:
    agent = Agent()
    agent.starts("own")
    list(agent.speaker.begin(3, ()))
    assert agent.refuses("turn-3", "too long") == []
    said = plain(agent.ends("own"))
    assert said[:2] == [OVER, Began(3)]
    assert isinstance(said[2], Ended)
    assert said[2].reason is StopReason.FAILED


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        ("contextWindowExceeded", StopReason.LIMIT_REACHED),
        ("usageLimitExceeded", StopReason.LIMIT_REACHED),
        ("cyberPolicy", StopReason.REFUSED),
        ({"httpConnectionFailed": {"httpStatusCode": 503}}, StopReason.FAILED),
        ("other", StopReason.FAILED),
        (["?"], StopReason.FAILED),
        (None, StopReason.FAILED),
    ],
)
def test_how_a_turn_failed_is_told(info: object, reason: StopReason) -> None:
    agent = Agent()
    agent.turn(1, "t1")
    error = {"message": "no", "additionalDetails": "more", "codexErrorInfo": info}
    assert plain(agent.ends("t1", "failed", error=error)) == [Ended(reason, "no (more)")]


def test_who_is_not_logged_in_is_told_how_to() -> None:
    agent = Agent()
    agent.turn(1, "t1")
    error = {"message": "401", "codexErrorInfo": "unauthorized"}
    (ended,) = plain(agent.ends("t1", "failed", error=error))
    assert isinstance(ended, Ended)
    assert "codex login" in ended.message


def test_what_comes_late_of_a_turn_that_is_over_is_left_out() -> None:
    agent = Agent()
    agent.turn(1, "t1")
    agent.begins(command("c"), "t1")
    agent.interrupted("turn-1")
    assert plain(agent.ends("t1", "interrupted")) == [Ended(StopReason.INTERRUPTED)]
    agent.turn(2, "t2")
    late = [
        *agent.tells("item/commandExecution/outputDelta", turnId="t1", itemId="c", delta="x"),
        *agent.completes(command("c", status="failed", exitCode=-1), "t1"),
        *agent.tells("item/agentMessage/delta", turnId="t1", itemId="m", delta="x"),
        *agent.completes({"type": "agentMessage", "id": "m", "text": "x"}, "t1"),
        *agent.ends("t1", "interrupted"),
    ]
    assert late == []


def test_an_interrupt_that_the_agent_had_no_turn_for_is_said_again_and_not_for_ever() -> None:
    agent = Agent()
    agent.turn(1, "t1")
    assert agent.interrupted("turn-1") == ["interrupt-turn-1", "terminals-turn-1"]
    name = "interrupt-turn-1"
    for number in (1, 2, 3):
        (again,) = agent.refuses(name, "no active turn to interrupt")
        assert isinstance(again, Order)
        name = again.key
        assert name == f"interrupt-turn-1.{number}"
    assert agent.refuses(name, "no active turn to interrupt") == []


def test_an_interrupt_that_comes_too_late_is_not_said_again() -> None:
    agent = Agent()
    agent.turn(1, "t1")
    agent.interrupted("turn-1")
    agent.ends("t1")
    agent.turn(2, "t2")
    assert agent.refuses("interrupt-turn-1", "no active turn to interrupt") == []


# --- sub-agents ---


def test_an_interrupt_ends_the_sub_agents_of_its_turn_and_late_born_ones_too() -> None:
    agent = Agent()
    agent.turn(1, "t1")
    agent.starts("s1", OTHER, root="t1")
    assert "interrupt-s1" in agent.interrupted("turn-1")
    (order,) = agent.starts("s2", OTHER, root="t1")
    assert isinstance(order, Order)
    assert order.key == "interrupt-s2"
    agent.ends("t1", "interrupted")
    (order,) = agent.starts("s3", OTHER, root="t1")
    assert isinstance(order, Order)
    agent.turn(2, "t2")
    for name in ("s1", "s2", "s3"):
        item = {"type": "agentMessage", "id": "m", "text": "late"}
        assert agent.completes(item, name, OTHER) == []


def test_an_interrupt_spares_a_sub_agent_of_an_earlier_turn_unless_asked() -> None:
    agent = Agent()
    agent.turn(1, "t1")
    agent.starts("s1", OTHER, root="t1")
    agent.ends("t1")
    agent.turn(2, "t2")
    assert "interrupt-s1" not in agent.interrupted("turn-2")
    said = agent.completes({"type": "agentMessage", "id": "m", "text": "hi"}, "s1", OTHER)
    assert said == [Message("m", (Text("hi"),), sub_agent=OTHER)]
    orders = agent.interrupted("turn-2", include_background=True)
    assert "interrupt-s1" in orders
    assert f"clean-turn-2-{OTHER}" in orders


def test_one_sub_agent_that_is_done_does_not_silence_another() -> None:
    agent = Agent()
    agent.turn(1, "t1")
    agent.starts("s1", OTHER, root="t1")
    agent.starts("s2", "thread-3", root="t1")
    assert agent.ends("s1", thread=OTHER) == []
    said = agent.completes({"type": "agentMessage", "id": "m", "text": "hi"}, "s2", "thread-3")
    assert said == [Message("m", (Text("hi"),), sub_agent="thread-3")]


# --- approvals ---


def asked_for(agent: Agent, number: object = 0, turn: str | None = "t1") -> list[Said]:
    method = "item/commandExecution/requestApproval"
    return agent.asks(number, method, turn, itemId="c", command="/bin/sh -c 'make'", reason="why")


def decided(agent: Agent, decision: Decision, message: str = "") -> list[Any]:
    orders = agent.speaker.respond("turn-1", "1-1-0", decision, message)
    return [json.loads(order.data) for order in orders]


def test_what_is_allowed_always_is_no_rule_of_the_agents() -> None:
    agent = Agent()
    agent.turn(1, "t1")
    (asked,) = asked_for(agent)
    assert asked == ApprovalAsked("1-1-0", "shell", '{"command": "make", "cwd": ""}', "why", "c")
    assert decided(agent, Decision.ALLOW_ALWAYS) == [{"id": 0, "result": {"decision": "accept"}}]


def test_an_answer_is_given_again_as_the_same_order_until_the_agent_has_it() -> None:
    agent = Agent()
    agent.turn(1, "t1")
    asked_for(agent)
    first = decided(agent, Decision.DENY)
    assert decided(agent, Decision.DENY) == first
    assert agent.tells("serverRequest/resolved", requestId=0) == []
    assert decided(agent, Decision.DENY) == []


def test_an_approval_that_the_agent_settles_by_itself_is_withdrawn() -> None:
    agent = Agent()
    agent.turn(1, "t1")
    asked_for(agent)
    assert agent.tells("serverRequest/resolved", requestId=0) == [ApprovalWithdrawn("1-1-0")]
    assert decided(agent, Decision.ALLOW) == []


@pytest.mark.parametrize("turn", ["t0", None])
def test_what_is_asked_outside_of_a_turn_is_denied_at_once(turn: str | None) -> None:
    (order,) = asked_for(Agent(), turn=turn)
    assert isinstance(order, Order)
    assert json.loads(order.data) == {"id": 0, "result": {"decision": "decline"}}


def test_what_is_asked_while_the_turn_is_interrupted_is_denied_at_once() -> None:
    agent = Agent()
    agent.turn(1, "t1")
    agent.interrupted("turn-1")
    (order,) = asked_for(agent)
    assert isinstance(order, Order)


def test_an_approval_that_is_open_at_the_turns_end_is_denied_so_that_nobody_waits() -> None:
    agent = Agent()
    agent.turn(1, "t1")
    asked_for(agent)
    orders = [one for one in agent.ends("t1") if isinstance(one, Order)]
    assert [json.loads(one.data)["result"] for one in orders] == [{"decision": "decline"}]


def test_permissions_are_granted_as_they_were_asked_for_or_not_at_all() -> None:
    wanted = {"network": {"enabled": True}, "fileSystem": None}
    granted: list[Any] = []
    for decision in (Decision.ALLOW, Decision.DENY):
        agent = Agent()
        agent.turn(1, "t1")
        agent.asks(0, "item/permissions/requestApproval", "t1", permissions=wanted)
        (answer,) = decided(agent, decision)
        granted.append(answer["result"])
    assert granted == [
        {"permissions": {"network": {"enabled": True}}, "scope": "turn"},
        {"permissions": {}, "scope": "turn"},
    ]


def test_a_question_of_an_mcp_server_that_yes_answers_is_asked_and_others_are_declined() -> None:
    agent = Agent()
    agent.turn(1, "t1")
    method, server = "mcpServer/elicitation/request", {"serverName": "s", "message": "sure?"}
    (asked,) = agent.asks(0, method, None, requestedSchema={"properties": {}}, **server)
    assert isinstance(asked, ApprovalAsked)
    assert asked.tool == "mcp__s"
    (answer,) = decided(agent, Decision.ALLOW)
    assert answer["result"]["action"] == "accept"
    order, note = agent.asks(1, method, "t1", requestedSchema={"required": ["name"]}, **server)
    assert isinstance(order, Order)
    assert json.loads(order.data)["result"]["action"] == "decline"
    assert isinstance(note, Note)


@pytest.mark.parametrize(
    ("names", "decision", "message", "answers"),
    [
        (["a"], Decision.ALLOW, "left\nor right", {"a": {"answers": ["left\nor right"]}}),
        (
            ["a", "b"],
            Decision.ALLOW,
            "one\ntwo",
            {"a": {"answers": ["one"]}, "b": {"answers": ["two"]}},
        ),
        (["a"], Decision.ALLOW, "", {}),
        (["a"], Decision.DENY, "no", {}),
    ],
)
def test_a_question_of_the_agent_is_answered_by_the_message_of_an_allow(
    names: list[str], decision: Decision, message: str, answers: object
) -> None:
    agent = Agent()
    agent.turn(1, "t1")
    questions = [{"id": name, "question": "where?", "options": []} for name in names]
    (asked,) = agent.asks(0, "item/tool/requestUserInput", "t1", questions=questions, itemId="q")
    assert isinstance(asked, ApprovalAsked)
    assert asked.tool == "request_user_input"
    assert "where?" in asked.arguments_json
    assert decided(agent, decision, message)[0]["result"] == {"answers": answers}


def test_leave_to_get_around_the_sandbox_stands_where_rules_for_the_command_see_it() -> None:
    agent = Agent()
    agent.turn(1, "t1")
    method = "item/commandExecution/requestApproval"
    (asked,) = agent.asks(0, method, "t1", command="ls", additionalPermissions={"network": {}})
    assert isinstance(asked, ApprovalAsked)
    assert json.loads(asked.arguments_json)["sandbox_permissions"] == {"network": {}}


def test_a_request_that_is_not_ours_to_answer_is_refused_and_told() -> None:
    order, note = Agent().says(id="x", method="item/tool/call", params={})
    assert isinstance(order, Order)
    assert json.loads(order.data)["error"]["code"] == -32601
    assert isinstance(note, Note)
    assert "item/tool/call" in note.message


# --- items ---


@pytest.mark.parametrize(
    ("item", "tool", "arguments"),
    [
        (
            {"type": "mcpToolCall", "server": "s", "tool": "t", "arguments": {"a": 1}},
            "mcp__s__t",
            {"a": 1},
        ),
        ({"type": "webSearch", "query": "q"}, "web_search", {"query": "q"}),
        ({"type": "imageView", "path": "/p"}, "view_image", {"path": "/p"}),
        (
            {"type": "collabAgentToolCall", "tool": "sendInput", "prompt": "p"},
            "send_input",
            {"prompt": "p"},
        ),
        ({"type": "dynamicToolCall", "tool": "t", "arguments": 3}, "t", {"arguments": 3}),
        ({"type": "imageGeneration", "savedPath": "/p"}, "image_generation", {"path": "/p"}),
    ],
)
def test_whatever_the_agent_does_is_a_tool_call(
    item: dict[str, object], tool: str, arguments: object
) -> None:
    agent = Agent()
    agent.turn(1, "t1")
    (started,) = agent.begins({"id": "i", **item}, "t1")
    assert isinstance(started, ToolStarted)
    assert (started.tool, json.loads(started.arguments_json)) == (tool, arguments)
    assert agent.completes({"id": "i", **item}, "t1")[-1] == ToolEnded("i", ToolStatus.SUCCEEDED)


def test_what_an_mcp_tool_answered_is_its_output_and_its_error_its_message() -> None:
    agent = Agent()
    agent.turn(1, "t1")
    call = {"type": "mcpToolCall", "id": "i", "server": "s", "tool": "t", "status": "failed"}
    agent.begins(call, "t1")
    assert agent.tells("item/mcpToolCall/progress", turnId="t1", itemId="i", message="half") == [
        ToolOutput("i", b"half\n")
    ]
    content = [{"type": "text", "text": "out"}, {"type": "image", "data": "…"}]
    done = {**call, "result": {"content": content}, "error": {"message": "no"}}
    assert agent.completes(done, "t1") == [
        ToolOutput("i", b'out\n{"type": "image"}'),
        ToolEnded("i", ToolStatus.FAILED, message="no"),
    ]


def test_a_call_whose_beginning_was_not_told_begins_with_its_end() -> None:
    agent = Agent()
    agent.turn(1, "t1")
    said = agent.completes(command("c", status="completed", exitCode=0), "t1")
    assert [type(one) for one in said] == [ToolStarted, ToolEnded]


def test_what_is_written_to_a_running_command_is_a_call_of_its_own() -> None:
    agent = Agent()
    agent.turn(1, "t1")
    method = "item/commandExecution/terminalInteraction"
    names = set()
    for stdin in ("a\n", "b\n"):
        said = agent.tells(method, turnId="t1", itemId="c", processId="7", stdin=stdin)
        started, ended = said
        assert isinstance(started, ToolStarted)
        assert json.loads(started.arguments_json) == {"process": "7", "stdin": stdin}
        assert ended == ToolEnded(started.tool_call_id, ToolStatus.SUCCEEDED)
        names.add(started.tool_call_id)
    assert len(names) == 2
    assert agent.tells(method, turnId="t1", itemId="c", processId="7", stdin="") == []


def test_long_texts_and_output_come_in_pieces() -> None:
    agent = Agent()
    agent.turn(1, "t1")
    text = "ä" * 40_000
    pieces = agent.tells("item/agentMessage/delta", turnId="t1", itemId="m", delta=text)
    assert "".join(one.text for one in pieces if isinstance(one, MessageText)) == text
    output = agent.completes(command("c", aggregatedOutput="🙂" * 40_000), "t1")
    data = [one.data for one in output if isinstance(one, ToolOutput)]
    assert b"".join(data) == ("🙂" * 40_000).encode()
    assert max(map(len, data)) <= 64 * 1024


def test_a_plan_is_told_whole() -> None:
    agent = Agent()
    agent.turn(1, "t1")
    plan = [{"step": "a", "status": "inProgress"}, {"step": "b", "status": "odd"}]
    assert agent.tells("turn/plan/updated", turnId="t1", plan=plan) == [
        Plan((PlanStep("a", "IN_PROGRESS"), PlanStep("b", "PENDING")))
    ]


def test_pictures_and_addresses_are_given_as_the_agent_takes_them() -> None:
    content = (Text("a"), Image(b"\x01", "image/png"), Resource("file:///x", "x"))
    (order,) = Agent().speaker.begin(1, content)
    assert json.loads(order.data)["params"]["input"] == [
        {"type": "text", "text": "a", "text_elements": []},
        {"type": "image", "url": "data:image/png;base64,AQ=="},
        {"type": "text", "text": "x: file:///x", "text_elements": []},
    ]


# --- usage and notes ---


def used(agent: Agent, total: int, last: int, thread: str = THREAD) -> list[Said]:
    usage = {"total": {"inputTokens": total}, "last": {"inputTokens": last}}
    return agent.tells("thread/tokenUsage/updated", thread, turnId="t1", tokenUsage=usage)


def test_usage_is_that_of_the_run_with_its_sub_agents_and_its_earlier_processes() -> None:
    kept = b'{"version":1,"thread":"thread-1","run":1,"usage":{"input":1000}}'
    agent = Agent(dialect(begins=beginning(1, kept, native=True, serial=2)))
    assert used(agent, 5000, 70) == []
    agent.turn(1, "t1")
    assert used(agent, 5010, 10) == [Usage(1010, 0, 0, model="m")]
    assert used(agent, 7, 7, OTHER) == [Usage(1017, 0, 0, model="m")]
    assert used(agent, 5030, 20) == [Usage(1037, 0, 0, model="m")]


def test_a_note_is_told_once_and_what_comes_early_when_the_agent_is_up() -> None:
    agent = Agent(up=False)
    assert agent.says(method="configWarning", params={"summary": "odd"}) == []
    agent.answers("initialize", {"userAgent": "bridle/1.2.3"})
    ready, note = agent.answers("thread", {"thread": {"id": THREAD}})
    assert ready == Ready("1.2.3")
    assert isinstance(note, Note)
    assert agent.says(method="warning", params={"message": "odd"}) == []


def test_an_agent_that_will_not_have_us_is_refused() -> None:
    assert Agent(up=False).refuses("initialize", "too old") == [Refused("codex: too old")]


def test_what_can_t_be_resumed_is_refused_before_anything_is_started() -> None:
    for kept in (b"", b"{}", b"junk", b'{"version":2,"thread":"t"}'):
        with pytest.raises(ValueError, match=r"kept|take up"):
            dialect(begins=beginning(1, kept, native=True))


# --- hostile words ---


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"{}",
        b'{"id":true,"method":"x"}',
        b'{"method":"no/such/thing"}',
        b'{"method":"turn/started","params":{"threadId":"t"}}',
        b'{"method":"item/completed","params":{"threadId":"thread-1","turnId":"t1","item":3}}',
        b'{"method":5}',
        b"\xff",
    ],
)
def test_a_line_that_is_no_part_of_the_language_is_unreadable(line: bytes) -> None:
    agent = Agent()
    agent.turn(1, "t1")
    before = agent.speaker.standing()
    with pytest.raises(UnreadableError):
        agent.speaker.read(line)
    assert agent.speaker.standing() == before


def test_of_an_unreadable_line_nothing_counts() -> None:
    agent = Agent()
    agent.turn(1, "t1")
    agent.begins({"type": "agentMessage", "id": "m"}, "t1")
    before = agent.speaker.standing()
    with pytest.raises(UnreadableError):
        agent.completes({"type": "agentMessage", "id": "m", "text": 3}, "t1")
    assert agent.speaker.standing() == before


def test_an_item_of_an_unknown_kind_is_unreadable_once_and_the_turn_goes_on() -> None:
    agent = Agent()
    agent.turn(1, "t1")
    item: dict[str, object] = {"type": "dream", "id": "d"}
    assert agent.begins(item, "t1") == []
    with pytest.raises(UnreadableError, match="dream"):
        agent.completes(item, "t1")
    assert plain(agent.ends("t1")) == [OVER]


NAMES = st.sampled_from(
    ["id", "type", "turn", "item", "status", "error", "text", "changes", "kind", "x", "result"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=8,
)
METHODS = st.sampled_from(
    [
        "item/started",
        "item/completed",
        "turn/started",
        "turn/completed",
        "error",
        "thread/tokenUsage/updated",
        "turn/plan/updated",
        "serverRequest/resolved",
        "item/commandExecution/outputDelta",
        "item/commandExecution/requestApproval",
        "item/fileChange/requestApproval",
        "item/permissions/requestApproval",
        "mcpServer/elicitation/request",
        "item/tool/requestUserInput",
        "hook/completed",
    ]
)
TYPES = st.sampled_from(
    ["commandExecution", "fileChange", "mcpToolCall", "agentMessage", "reasoning", "webSearch"]
)


@given(
    METHODS,
    st.dictionaries(NAMES, JSON, max_size=6),
    st.none() | st.integers() | st.text(max_size=300),
    TYPES,
)
def test_whatever_an_agent_says_is_read_or_unreadable_and_never_a_fault(
    method: str, params: dict[str, object], number: object, kind: str
) -> None:
    agent = Agent()
    agent.turn(1, "t1")
    item = params.get("item")
    params = {"threadId": THREAD, "turnId": "t1", "itemId": "i", **params}
    if isinstance(item, dict):
        params["item"] = {"id": "i", **item, "type": kind}
    line = {"method": method, "params": params} | ({} if number is None else {"id": number})
    with suppress(UnreadableError):
        agent.speaker.read(json.dumps(line).encode())
    standing = agent.speaker.standing()
    assert len(standing) <= 32 * 1024
    dialect(standing=standing)


def test_however_much_an_agent_has_open_its_standing_stays_small() -> None:
    agent = Agent()
    agent.turn(1, "t1")
    for number in range(500):
        name = f"{number}-" + "é" * 250
        agent.begins({"type": "fileChange", "id": name, "changes": [{"path": "ü" * 500}]}, "t1")
        agent.asks(number, "item/fileChange/requestApproval", "t1", itemId=name)
        agent.starts(f"s{name}", OTHER, root="t1")
        assert len(agent.speaker.standing()) <= 32 * 1024
    dialect(standing=agent.speaker.standing())
