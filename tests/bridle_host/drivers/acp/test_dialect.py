"""What the dialect makes of what the protocol leaves open, and of agents that break it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridle_core.observations import (
    ApprovalAsked,
    ApprovalWithdrawn,
    Content,
    Decision,
    Image,
    KeepState,
    Message,
    MessageText,
    Note,
    Observation,
    Plan,
    PlanStep,
    Resource,
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
from bridle_host.drivers.acp import launch
from bridle_host.drivers.acp.dialect import AcpDialect
from bridle_host.drivers.acp.standing import (
    APPROVALS,
    CALLS,
    KEPT_VERSION,
    LANES,
    NAME,
    Kept,
    Standing,
)
from bridle_host.drivers.acp.words import LONGEST
from bridle_host.drivers.lines.dialect import (
    Began,
    Beginning,
    Ended,
    Order,
    Ready,
    Refused,
    Said,
    UnreadableError,
)

SESSION = "s-1"
OPTIONS = [
    {"optionId": "yes", "name": "Yes", "kind": "allow_once"},
    {"optionId": "all", "name": "Always", "kind": "allow_always"},
    {"optionId": "no", "name": "No", "kind": "reject_once"},
]


class Agent:
    """One dialect, with an agent's side for tests."""

    def __init__(self, kept: bytes = b"", **can: Any) -> None:
        begins = Beginning("id", 1, 1, "/work", {}, native=bool(kept), kept=kept)
        self.dialect = AcpDialect(("agent",), begins, None)
        self.orders: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self._give(self.dialect.greet())
        self.said: list[Said] = self.answers("initialize", {"protocolVersion": 1, **can})

    @classmethod
    def up(cls, **can: Any) -> Agent:
        agent = cls(**can)
        agent.said += agent.answers("session", {"sessionId": SESSION})
        return agent

    def _give(self, orders: Iterable[Said]) -> None:
        for order in orders:
            if isinstance(order, Order) and order.key not in self.keys:
                self.keys.append(order.key)
                self.orders += map(json.loads, order.data.splitlines())

    def reads(self, message: object) -> list[Said]:
        said = list(self.dialect.read(json.dumps(message).encode()))
        self._give(said)
        return [one for one in said if not isinstance(one, Order)]

    def answers(self, identity: str, result: object) -> list[Said]:
        return self.reads({"jsonrpc": "2.0", "id": identity, "result": result})

    def fails(self, identity: str, code: int, message: str, **more: object) -> list[Said]:
        error = {"code": code, "message": message, **more}
        return self.reads({"jsonrpc": "2.0", "id": identity, "error": error})

    def updates(self, what: str, **fields: object) -> list[Said]:
        params = {"sessionId": SESSION, "update": {"sessionUpdate": what, **fields}}
        return self.reads({"jsonrpc": "2.0", "method": "session/update", "params": params})

    def says(self, text: str, what: str = "agent_message_chunk", **fields: object) -> list[Said]:
        return self.updates(what, content={"type": "text", "text": text}, **fields)

    def asks(self, identity: object = 0, **fields: object) -> list[Said]:
        call = {"toolCallId": "c-1", "title": "touch x", "kind": "execute", "rawInput": {"c": 1}}
        params = {"sessionId": SESSION, "toolCall": call, "options": OPTIONS, **fields}
        method = "session/request_permission"
        return self.reads({"jsonrpc": "2.0", "id": identity, "method": method, "params": params})

    def begins(self, turn: int = 1, *content: Content) -> list[Said]:
        """Asked for, and read by the agent."""
        self._give(self.dialect.begin(turn, content or (Text("do"),)))
        return self.fails(f"began-{turn}", -32601, "Method not found")

    def interrupts(self, turn: str = "turn-1") -> list[dict[str, Any]]:
        return self.gives(self.dialect.interrupt(turn, include_background=False))

    def gives(self, orders: Iterable[Order]) -> list[dict[str, Any]]:
        before = len(self.orders)
        self._give(orders)
        return self.orders[before:]

    def ends(self, turn: int = 1, reason: str = "end_turn", **fields: object) -> list[Said]:
        return self.answers(f"turn-{turn}", {"stopReason": reason, **fields})


def plain(said: list[Said]) -> list[Said]:
    return [one for one in said if not isinstance(one, KeepState)]


# --- Coming up -----------------------------------------------------------------------------------


def test_an_agent_of_another_version_of_the_protocol_is_refused() -> None:
    agent = Agent(protocolVersion=2)
    [refused] = agent.said
    assert isinstance(refused, Refused)
    assert "version 2" in refused.message


def test_an_agent_that_wants_a_login_is_refused_with_the_way_to_log_in() -> None:
    methods = [{"id": "x", "name": "Log in", "description": "run `agent login`"}]
    agent = Agent(authMethods=methods)
    [refused] = agent.fails("session", -32000, "Authentication required")
    assert isinstance(refused, Refused)
    assert "Log in — run `agent login`" in refused.message
    assert "Authentication required" in refused.message


def kept(session: str = SESSION) -> bytes:
    return Kept(KEPT_VERSION, session, 1).dump()


def test_a_conversation_is_resumed_where_the_agent_can_else_loaded() -> None:
    both = {"loadSession": True, "sessionCapabilities": {"resume": {}}}
    assert Agent(kept(), agentCapabilities=both).orders[-1]["method"] == "session/resume"
    agent = Agent(kept(), agentCapabilities={"loadSession": True})
    assert agent.orders[-1]["method"] == "session/load"
    assert agent.orders[-1]["params"]["sessionId"] == SESSION
    [refused] = Agent(kept(), agentCapabilities={}).said
    assert isinstance(refused, Refused)


def test_a_conversation_that_is_loaded_empty_is_not_the_one() -> None:
    agent = Agent(kept(), agentCapabilities={"loadSession": True})
    [refused] = agent.answers("session", {})
    assert isinstance(refused, Refused)
    agent = Agent(kept(), agentCapabilities={"loadSession": True})
    assert agent.says("before") == []
    [ready] = agent.answers("session", {})
    assert ready == Ready("", resumed=True)


def test_what_was_kept_by_another_version_is_not_read() -> None:
    with pytest.raises(ValueError, match="another version"):
        Agent(b'{"version":9,"session":"s"}')


def test_the_conversation_is_worth_keeping_once_a_turn_began() -> None:
    agent = Agent.up()
    assert [type(one) for one in agent.said] == [Ready]
    [began, state] = agent.begins()
    assert began == Began(1)
    assert isinstance(state, KeepState)
    assert Kept.load(state.state).session == SESSION
    agent.ends()
    assert agent.begins(2) == [Began(2)]


# --- Begin and end -------------------------------------------------------------------------------


def test_a_turn_begins_when_the_agent_has_read_the_prompt() -> None:
    agent = Agent.up()
    prompt, question = agent.gives(agent.dialect.begin(1, [Text("do")]))
    assert (prompt["id"], prompt["method"]) == ("turn-1", "session/prompt")
    assert (question["id"], question["method"]) == ("began-1", "_bridle/began")
    assert plain(agent.fails("began-1", -32601, "Method not found")) == [Began(1)]


def test_a_turn_begins_with_its_first_word_where_that_comes_sooner() -> None:
    agent = Agent.up()
    agent.gives(agent.dialect.begin(1, [Text("do")]))
    assert plain(agent.says("so")) == [Began(1), MessageText("m-1-1-1", "so")]
    assert agent.fails("began-1", -32601, "Method not found") == []


def test_a_turn_that_is_answered_at_once_began_too() -> None:
    agent = Agent.up()
    agent.gives(agent.dialect.begin(1, [Text("do")]))
    assert plain(agent.ends()) == [Began(1), Ended(StopReason.COMPLETED)]


@pytest.mark.parametrize(
    ("word", "reason", "message"),
    [
        ("end_turn", StopReason.COMPLETED, ""),
        ("max_tokens", StopReason.LIMIT_REACHED, "max_tokens"),
        ("max_turn_requests", StopReason.LIMIT_REACHED, "max_turn_requests"),
        ("refusal", StopReason.REFUSED, ""),
        ("cancelled", StopReason.INTERRUPTED, "the agent cancelled its turn by itself"),
        ("tired", StopReason.COMPLETED, "the agent's reason to end: tired"),
    ],
)
def test_the_agents_reason_to_end_is_told(word: str, reason: StopReason, message: str) -> None:
    agent = Agent.up()
    agent.begins()
    assert agent.ends(reason=word) == [Ended(reason, message)]


def test_a_turn_that_failed_tells_why_from_wherever_the_agent_put_it() -> None:
    agent = Agent.up()
    agent.begins()
    said = agent.fails("turn-1", -32603, "Internal error", data={"details": "no such model"})
    assert said == [Ended(StopReason.FAILED, "Internal error: no such model")]


def test_an_answer_is_given_once() -> None:
    agent = Agent.up()
    agent.begins()
    assert agent.ends() == [Ended(StopReason.COMPLETED)]
    assert agent.ends() == []
    agent.begins(2)
    assert agent.ends() == []
    assert agent.ends(2) == [Ended(StopReason.COMPLETED)]


# --- Interrupts ----------------------------------------------------------------------------------


def test_what_comes_after_an_interrupted_turn_is_left_out_and_cancelled_once_more() -> None:
    agent = Agent.up()
    agent.begins()
    agent.says("half")
    [cancel] = agent.interrupts()
    assert cancel["method"] == "session/cancel"
    said = agent.ends(reason="cancelled")
    assert said == [Message("m-1-1-1", (), partial=True), Ended(StopReason.INTERRUPTED)]
    before = len(agent.orders)
    assert agent.says("late") == agent.says("later") == []
    assert [order["method"] for order in agent.orders[before:]] == ["session/cancel"]
    assert agent.begins(2) == [Began(2)]
    assert agent.says("new") == [MessageText("m-1-1-2", "new")]


def test_an_interrupt_answers_what_is_asked() -> None:
    agent = Agent.up()
    agent.begins()
    agent.asks(7)
    cancel, answer = agent.interrupts()
    assert cancel["method"] == "session/cancel"
    assert (answer["id"], answer["result"]["outcome"]) == (7, {"outcome": "cancelled"})
    # What was asked before the agent has read of the interrupt.
    assert agent.asks(8) == []
    assert agent.orders[-1]["id"] == 8
    assert agent.orders[-1]["result"]["outcome"] == {"outcome": "cancelled"}


def test_an_order_that_is_given_again_is_the_same() -> None:
    agent = Agent.up()
    agent.begins()
    agent.asks(7)
    name = "leave-1-1-7"
    once = list(agent.dialect.respond("turn-1", name, Decision.DENY, "no"))
    assert list(agent.dialect.respond("turn-1", name, Decision.DENY, "no")) == once
    one, two = (tuple(agent.dialect.interrupt("turn-1", include_background=False)) for _ in "12")
    assert one == two


# --- Turns of the agent's own --------------------------------------------------------------------


COST = {"amount": 0.25, "currency": "USD"}


def metered() -> Agent:
    """An agent that tells what its turns cost, behind its first one."""
    agent = Agent.up()
    agent.begins()
    agent.updates("usage_update", used=1, size=2, cost=COST)
    agent.ends()
    return agent


def test_what_an_agent_does_unasked_is_noted_where_it_would_not_tell_the_end() -> None:
    agent = Agent.up()
    agent.begins()
    agent.ends()
    [note] = agent.says("by the way")
    assert isinstance(note, Note)
    assert agent.says("and") == []
    assert agent.asks(9) == []
    assert agent.orders[-1]["result"]["outcome"] == {"outcome": "cancelled"}
    assert agent.begins(2) == [Began(2)]


def test_a_word_outside_of_a_turn_begins_one_and_its_cost_ends_it() -> None:
    agent = metered()
    assert agent.dialect.unasked == b'"session/'
    assert agent.says("by the way") == [Began(None), MessageText("m-1-1-1", "by the way")]
    assert agent.dialect.unasked == b""
    cost = {"amount": 0.5, "currency": "USD"}
    said = agent.updates("usage_update", used=1, size=2, cost=cost)
    assert plain(said) == [
        Usage(cost_micro_usd=500_000),
        Message("m-1-1-1", ()),
        Ended(StopReason.COMPLETED),
    ]


def test_a_turn_of_the_agents_own_ends_with_the_next_prompt() -> None:
    agent = metered()
    agent.says("by the way")
    assert agent.begins(2) == [Message("m-1-1-1", ()), Ended(StopReason.COMPLETED), Began(2)]


def test_a_turn_of_the_agents_own_is_interrupted_when_the_agent_has_read_of_it() -> None:
    agent = metered()
    agent.says("by the way")
    cancel, question = agent.interrupts("own-1")
    assert cancel["method"] == "session/cancel"
    said = agent.fails(question["id"], -32601, "Method not found")
    assert said[-1] == Ended(StopReason.INTERRUPTED)


# --- Words ---------------------------------------------------------------------------------------


def test_a_message_ends_where_another_begins() -> None:
    agent = Agent.up()
    agent.begins()
    assert agent.says("a", messageId="1") == [MessageText("m-1-1-1", "a")]
    assert agent.says("", messageId="1") == []
    assert agent.says("b", messageId="2") == [
        Message("m-1-1-1", ()),
        MessageText("m-1-1-2", "b"),
    ]
    assert agent.says("hm", "agent_thought_chunk", messageId="2") == [Message("m-1-1-2", ())]
    assert agent.says("m", "agent_thought_chunk", messageId="2") == []
    assert agent.ends() == [Thought("m-1-1-3", "hmm"), Ended(StopReason.COMPLETED)]


def test_sub_agents_have_messages_of_their_own() -> None:
    agent = Agent.up()
    agent.begins()
    meta = {"claudeCode": {"parentToolUseId": "t-1"}}
    agent.says("a")
    agent.says("b", _meta=meta)
    assert agent.says("c") == [MessageText("m-1-1-1", "c")]
    assert agent.ends()[:-1] == [
        Message("m-1-1-1", ()),
        Message("m-1-1-2", (), sub_agent="t-1"),
    ]


def test_a_message_that_is_too_long_is_told_in_parts() -> None:
    agent = Agent.up()
    agent.begins()
    said = agent.says("ä" * (3 * LONGEST)) + agent.ends()
    pieces = [one for one in said if isinstance(one, MessageText)]
    assert "".join(one.text for one in pieces) == "ä" * (3 * LONGEST)
    whole = [one.message_id for one in said if isinstance(one, Message)]
    assert whole == list(dict.fromkeys(one.message_id for one in pieces))
    for name in whole:
        assert sum(len(one.text) for one in pieces if one.message_id == name) <= LONGEST


def test_pictures_and_files_that_an_agent_shows_are_told() -> None:
    agent = Agent.up()
    agent.begins()
    data = base64.b64encode(b"png").decode()
    shown = {"type": "image", "data": data, "mimeType": "image/png"}
    assert agent.updates("agent_message_chunk", content=shown) == [
        Message("m-1-1-1", (Image(b"png", "image/png"),))
    ]
    link = {"type": "resource_link", "uri": "file:///a", "name": "a"}
    assert agent.updates("agent_message_chunk", content=link) == [
        Message("m-1-1-2", (Resource("file:///a", "a"),))
    ]
    sound = {"type": "audio", "data": "", "mimeType": "audio/wav"}
    [note] = agent.updates("agent_message_chunk", content=sound)
    assert isinstance(note, Note)


def test_pictures_go_to_agents_that_take_them_and_others_are_told() -> None:
    picture = Image(b"png", "image/png")
    agent = Agent.up(agentCapabilities={"promptCapabilities": {"image": True}})
    agent.begins(1, picture, Resource("file:///a"))
    sent, link = agent.orders[-2]["params"]["prompt"]
    assert (sent["type"], base64.b64decode(sent["data"])) == ("image", b"png")
    assert link["uri"] == "file:///a"
    agent = Agent.up()
    [*_, note] = agent.begins(1, picture)
    assert agent.orders[-2]["params"]["prompt"][0]["type"] == "text"
    assert isinstance(note, Note)
    assert "takes none" in note.message


def test_a_word_in_between_waits_where_the_agent_takes_none() -> None:
    agent = Agent.up()
    agent.begins()
    assert list(agent.dialect.steer("turn-1", "i", [Text("x")])) == []
    note, _ = agent.says("a")
    assert isinstance(note, Note)
    agent = Agent.up(_meta={"steering": {"supported": True}})
    agent.begins()
    [steering] = agent.gives(agent.dialect.steer("turn-1", "i", [Text("x")]))
    assert steering["method"] == "_session/steering"
    assert agent.answers("steer-i", {"outcome": "promptRequired"}) == []
    assert agent.answers("steer-i", {"outcome": "injected"}) == [Steered("i")]


# --- Tools ---------------------------------------------------------------------------------------


def content(text: str) -> list[dict[str, object]]:
    return [{"type": "content", "content": {"type": "text", "text": text}}]


def test_output_that_grows_is_told_as_it_grows() -> None:
    agent = Agent.up()
    agent.begins()
    said = agent.updates("tool_call", toolCallId="c", title="t", status="in_progress", kind="read")
    assert said == [ToolStarted("c", "read", "{}", "t")]
    assert agent.updates("tool_call_update", toolCallId="c", content=content("a\n")) == [
        ToolOutput("c", b"a\n")
    ]
    assert agent.updates("tool_call_update", toolCallId="c", content=content("a\nb\n")) == [
        ToolOutput("c", b"b\n")
    ]
    update = {"toolCallId": "c", "status": "completed", "content": content("a\nb\n")}
    assert agent.updates("tool_call_update", **update) == [ToolEnded("c", ToolStatus.SUCCEEDED)]
    assert agent.updates("tool_call_update", toolCallId="c", content=content("x")) == []


def test_a_call_whose_arguments_never_come_is_told_with_the_next_word() -> None:
    agent = Agent.up()
    agent.begins()
    assert agent.updates("tool_call", toolCallId="c", title="bash", status="pending") == []
    [started, *_] = agent.says("x")
    assert started == ToolStarted("c", "bash", "{}", "bash")
    agent.updates("tool_call", toolCallId="d", title="bash", status="pending")
    assert ToolStarted("d", "bash", "{}", "bash") in agent.ends()


def test_a_change_of_a_file_is_shown_as_one() -> None:
    agent = Agent.up()
    agent.begins()
    diff = {"type": "diff", "path": "/a", "oldText": "one\n", "newText": "two\n"}
    said = agent.updates("tool_call_update", toolCallId="c", status="completed", content=[diff])
    [output] = [one for one in said if isinstance(one, ToolOutput)]
    assert b"-one" in output.data
    assert b"+two" in output.data


@pytest.mark.parametrize(
    ("decision", "outcome"),
    [
        (Decision.ALLOW, {"outcome": "selected", "optionId": "yes"}),
        (Decision.ALLOW_ALWAYS, {"outcome": "selected", "optionId": "yes"}),
        (Decision.DENY, {"outcome": "selected", "optionId": "no"}),
        (Decision.VOID, {"outcome": "cancelled"}),
    ],
)
def test_an_option_is_chosen_by_its_kind(decision: Decision, outcome: object) -> None:
    agent = Agent.up()
    agent.begins()
    started, asked = agent.asks("r")
    assert started == ToolStarted("c-1", "execute", '{"c": 1}', "touch x")
    assert isinstance(asked, ApprovalAsked)
    assert (asked.tool, asked.reason, asked.tool_call_id) == ("execute", "touch x", "c-1")
    [answer] = agent.gives(agent.dialect.respond("turn-1", asked.approval_id, decision, ""))
    assert (answer["id"], answer["result"]["outcome"]) == ("r", outcome)


def test_a_denial_where_there_is_no_such_option_cancels() -> None:
    agent = Agent.up()
    agent.begins()
    agent.asks(1, options=OPTIONS[:2])
    [answer] = agent.gives(agent.dialect.respond("turn-1", "leave-1-1-1", Decision.DENY, "why"))
    assert answer["result"]["outcome"] == {"outcome": "cancelled"}
    assert answer["result"]["_meta"] == {"message": "why"}


def test_what_the_agent_no_longer_asks_is_withdrawn() -> None:
    agent = Agent.up()
    agent.begins()
    agent.asks(1)
    taken = {"jsonrpc": "2.0", "method": "$/cancel_request", "params": {"requestId": 1}}
    assert agent.reads(taken) == [ApprovalWithdrawn("leave-1-1-1")]
    assert agent.reads(taken) == []


def test_what_is_not_served_is_refused() -> None:
    agent = Agent.up()
    method = "fs/write_text_file"
    assert agent.reads({"jsonrpc": "2.0", "id": 3, "method": method, "params": {}}) == []
    assert (agent.orders[-1]["id"], agent.orders[-1]["error"]["code"]) == (3, -32601)
    [note] = agent.reads({"jsonrpc": "2.0", "id": 4, "method": "dance", "params": {}})
    assert isinstance(note, Note)
    assert agent.orders[-1]["id"] == 4


def test_plans_of_either_kind_are_told() -> None:
    agent = Agent.up()
    agent.begins()
    entry = {"content": "a", "priority": "low", "status": "completed"}
    assert agent.updates("plan", entries=[entry, {"content": 1}]) == [
        Plan((PlanStep("a", "COMPLETED"),))
    ]
    plan = {"type": "markdown", "planId": "p", "content": "# a"}
    assert agent.updates("plan_update", plan=plan) == [Plan((PlanStep("# a"),))]


# --- Hostile -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"nonsense",
        b'{"id":true,"method":"x"}',
        b'{"id":5,"result":{}}',
        b'{"id":"never","result":{}}',
        b'{"id":"turn-1","error":3}',
        b'{"method":"dance"}',
        b'{"method":"session/update","params":{"sessionId":"s-1","update":{"sessionUpdate":"x"}}}',
        b'{"method":"session/update","params":[]}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_part_of_the_language_is_unreadable(line: bytes) -> None:
    agent = Agent.up()
    agent.begins()
    with pytest.raises(UnreadableError):
        list(agent.dialect.read(line))
    assert agent.ends() == [Ended(StopReason.COMPLETED)]


def test_half_a_surrogate_pair_becomes_a_character() -> None:
    agent = Agent.up()
    agent.begins()
    assert agent.says("\ud800") == [MessageText("m-1-1-1", "\ufffd")]


def test_nothing_that_an_agent_opens_and_never_closes_grows_the_standing() -> None:
    agent = Agent.up(
        agentInfo={"name": "\x00" * 1000, "version": "ä" * 1000},
        authMethods=[{"id": "x", "name": "ä" * 1000}] * 10,
    )
    agent.begins()
    options = [{**option, "optionId": "\x00" * 128} for option in OPTIONS]
    for number in range(2 * CALLS):
        name = f"{number}" + "x" * (NAME - len(f"{number}"))
        meta = {"claudeCode": {"toolName": "t" * NAME, "parentToolUseId": name}}
        agent.updates("tool_call", toolCallId=name, title="ä" * 999, status="pending", _meta=meta)
        call = {"toolCallId": name, "rawInput": {"a": "b" * 5000}}
        agent.asks(f"{number:0120}", toolCall=call, options=options)
        agent.says("ä" * 99, messageId="ä" * 999, _meta=meta)
        agent.says("ä" * 9999, "agent_thought_chunk", messageId="ä" * 999, _meta=meta)
    standing = agent.dialect.standing()
    assert len(standing) <= 32 * 1024
    stood = Standing.load(standing)
    assert len(stood.calls) <= CALLS
    assert len(stood.leaves) == APPROVALS
    assert len(stood.lanes) <= LANES


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
KINDS = st.sampled_from(
    ["agent_message_chunk", "tool_call", "tool_call_update", "plan", "usage_update", "plan_update"]
)
FIELDS = st.sampled_from(
    ["content", "toolCallId", "title", "status", "kind", "rawInput", "rawOutput", "entries"]
) | st.sampled_from(["cost", "used", "size", "messageId", "_meta", "locations", "plan"])
UPDATES = st.builds(
    lambda kind, fields: {"sessionUpdate": kind, **fields}, KINDS, st.dictionaries(FIELDS, VALUES)
)
MESSAGES = st.one_of(
    VALUES,
    st.builds(
        lambda update: {"method": "session/update", "params": {"sessionId": "s", "update": update}},
        UPDATES,
    ),
    st.builds(
        lambda name, result: {"id": name, "result": result},
        st.sampled_from(["initialize", "session", "turn-1", "began-1", "steer-x", "over-x"]),
        VALUES,
    ),
    st.builds(
        lambda name, params: {"id": name, "method": "session/request_permission", "params": params},
        VALUES,
        VALUES,
    ),
)


@settings(max_examples=300)
@given(st.lists(MESSAGES, max_size=8))
def test_whatever_an_agent_says_is_read_or_unreadable(messages: list[object]) -> None:
    agent = Agent.up()
    agent.begins()
    for message in messages:
        try:
            said = list(agent.dialect.read(json.dumps(message).encode()))
        except UnreadableError:
            continue
        for one in said:
            assert isinstance(one, Observation | Order | Ready | Refused | Began | Ended)
        AcpDialect(("agent",), Beginning("id", 1, 1, "/", {}), agent.dialect.standing())


# --- How it is started ---------------------------------------------------------------------------


def test_an_agent_command_is_a_command_line() -> None:
    assert launch.parse("opencode acp --cwd '/a b'") == ("opencode", "acp", "--cwd", "/a b")
    with pytest.raises(ValueError, match="opencode acp"):
        launch.parse(" ")
    with pytest.raises(ValueError, match="cannot be read"):
        launch.parse("'")


def test_an_agent_that_is_not_there_is_named_with_the_way_to_get_it() -> None:
    with pytest.raises(ValueError, match="npm install -g opencode-ai"):
        launch.launch(("opencode", "acp"), {"PATH": "/nowhere"})
    assert launch.launch(("/bin/sh",), {"PATH": "/nowhere"}).argv == ("/bin/sh",)
