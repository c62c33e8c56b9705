"""What Claude Code's dialect makes of lines and orders that no recording has."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from bridle_core.observations import (
    ApprovalAsked,
    Content,
    Decision,
    Image,
    KeepState,
    Note,
    Observation,
    OutputStream,
    Plan,
    PlanStep,
    Resource,
    Steered,
    StopReason,
    Text,
    ToolEnded,
    ToolOutput,
    ToolStatus,
    Usage,
)
from bridle_host.drivers.claude import launch
from bridle_host.drivers.claude.dialect import ClaudeDialect
from bridle_host.drivers.lines.dialect import (
    Began,
    Ended,
    Order,
    Ready,
    Refused,
    Said,
    UnreadableError,
)
from tests.bridle_host.drivers.claude.playing import beginning, dialect

HELLO = {
    "type": "control_response",
    "response": {
        "subtype": "success",
        "request_id": "hello",
        "response": {"claude_code_version": launch.PROVEN},
    },
}


def read(speaker: ClaudeDialect, **fields: Any) -> list[Said]:
    return list(speaker.read(json.dumps(fields).encode()))


def wrote(orders: Iterable[Said]) -> list[dict[str, Any]]:
    return [json.loads(order.data) for order in orders if isinstance(order, Order)]


def lifecycle(speaker: ClaudeDialect, uuid: str, state: str) -> list[Said]:
    return read(speaker, type="command_lifecycle", command_uuid=uuid, state=state)


def result(speaker: ClaudeDialect, **fields: Any) -> list[Said]:
    told = {"type": "result", "subtype": "success", "is_error": False, **fields}
    return [one for one in read(speaker, **told) if not isinstance(one, Usage | KeepState)]


def init(speaker: ClaudeDialect) -> list[Said]:
    return read(speaker, type="system", subtype="init", session_id=speaker.conversation)


def state_changed(speaker: ClaudeDialect, state: str) -> list[Said]:
    return read(speaker, type="system", subtype="session_state_changed", state=state)


def up(**begins: Any) -> ClaudeDialect:
    speaker = dialect(beginning(**begins))
    assert read(speaker, **HELLO) == [Ready(launch.PROVEN, resumed=begins.get("native", False))]
    return speaker


def begun(turn: int = 1) -> tuple[ClaudeDialect, str]:
    """With an open turn, and the uuid of its message."""
    speaker = up()
    [told] = wrote(speaker.begin(turn, [Text("go")]))
    assert lifecycle(speaker, told["uuid"], "started")[0] == Began(turn)
    return speaker, told["uuid"]


def kept(speaker: ClaudeDialect) -> bytes:
    said = lifecycle(speaker, wrote(speaker.begin(1, [Text("go")]))[0]["uuid"], "started")
    [state] = [one.state for one in said if isinstance(one, KeepState)]
    return state


# --- How it comes up -----------------------------------------------------------------------------


def test_a_version_that_is_too_old_is_refused_and_told_what_to_install() -> None:
    old = json.loads(json.dumps(HELLO).replace(launch.PROVEN, "2.1.197"))
    [refused] = read(dialect(), **old)
    assert isinstance(refused, Refused)
    assert f"npm install -g {launch.PACKAGE}@{launch.PROVEN}" in refused.message


def test_a_conversation_that_it_does_not_know_is_refused() -> None:
    state = kept(up())
    speaker = dialect(beginning(2, state, native=True))
    why = "No conversation found with session ID: 1"
    said = result(speaker, subtype="error_during_execution", is_error=True, errors=[why])
    assert said == [Refused(why)]
    assert result(speaker, subtype="error_during_execution", is_error=True, errors=[why]) == []


def test_a_conversation_is_taken_up_by_its_own_name_and_a_new_one_has_another() -> None:
    first = up()
    again = dialect(beginning(2, kept(first), native=True))
    assert again.conversation == first.conversation
    assert again.launch().argv[-1] == f"--resume={first.conversation}"
    others = [dialect(beginning(2)), dialect(beginning(1, serial=2))]
    assert len({first.conversation, *(other.conversation for other in others)}) == 3
    assert others[0].launch().argv[-1] == f"--session-id={others[0].conversation}"


@pytest.mark.parametrize("state", [b"", b"{}", b"junk", b'{"conversation":"--help"}'])
def test_what_was_kept_and_can_not_be_read_is_an_error_for_people(state: bytes) -> None:
    with pytest.raises(ValueError, match=r"^claude: "):
        dialect(beginning(2, state, native=True))


def test_a_conversation_that_was_taken_up_is_not_kept_anew() -> None:
    state = kept(up())
    speaker = dialect(beginning(2, state, native=True))
    read(speaker, **HELLO)
    said = lifecycle(speaker, wrote(speaker.begin(2, [Text("go")]))[0]["uuid"], "started")
    assert said == [Began(2)]


def test_a_cleared_conversation_is_kept_by_its_new_name() -> None:
    speaker, _ = begun()
    new = "00000000-0000-4000-8000-000000000000"
    [keep] = read(speaker, type="system", subtype="init", session_id=new)
    assert isinstance(keep, KeepState)
    assert json.loads(keep.state)["conversation"] == speaker.conversation == new


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("", ("claude",)),
        ("/opt/claude --model opus", ("/opt/claude", "--model", "opus")),
        ("--append-system-prompt 'be brief'", ("claude", "--append-system-prompt", "be brief")),
    ],
)
def test_the_agent_command_is_a_command_line_or_flags(command: str, words: tuple[str]) -> None:
    assert launch.command(command) == words


@pytest.mark.parametrize(
    "command",
    ["claude --resume=1", "claude -c", "-r 1", "--session-id x", "--input-format text", "a 'b"],
)
def test_what_only_bridle_may_say_is_refused_in_an_agent_command(command: str) -> None:
    with pytest.raises(ValueError, match=r"^claude: the agent command "):
        launch.command(command)


# --- Turns ---------------------------------------------------------------------------------------


def test_an_order_is_the_same_whenever_it_is_given() -> None:
    content: list[Content] = [Text("a"), Image(b"x", "image/png"), Resource("file:///a", "the a")]
    orders = [list(up().begin(3, content)) for _ in range(2)]
    assert orders[0] == orders[1]
    [told] = wrote(orders[0])
    assert told["message"]["content"] == [
        {"type": "text", "text": "a"},
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": "eA=="},
        },
        {"type": "text", "text": "the a: file:///a"},
    ]


@pytest.mark.parametrize(
    ("fields", "reason", "message"),
    [
        ({}, StopReason.COMPLETED, ""),
        ({"is_error": True, "result": "API Error"}, StopReason.FAILED, "API Error"),
        ({"is_error": True, "errors": ["a", 1, "b"]}, StopReason.FAILED, "a; b"),
        (
            {"is_error": True, "stop_reason": "refusal", "result": "no"},
            StopReason.REFUSED,
            "no",
        ),
        (
            {"subtype": "error_max_turns", "is_error": True, "errors": ["5 turns"]},
            StopReason.LIMIT_REACHED,
            "5 turns",
        ),
        ({"stop_reason": "max_tokens"}, StopReason.LIMIT_REACHED, "success"),
        ({"terminal_reason": "aborted_tools", "is_error": True}, StopReason.INTERRUPTED, ""),
    ],
)
@pytest.mark.parametrize("first", ["result", "lifecycle"])
def test_a_turn_ends_by_its_message_and_why_by_its_result(
    fields: dict[str, Any], reason: StopReason, message: str, first: str
) -> None:
    speaker, uuid = begun()
    said = result(speaker, **fields) if first == "result" else []
    assert said == []
    said += lifecycle(speaker, uuid, "completed")
    if first == "lifecycle":
        said += result(speaker, **fields)
    assert said == [Ended(reason, message)]
    assert state_changed(speaker, "idle") == []


def test_a_message_that_it_had_before_is_a_turn_that_is_over() -> None:
    speaker = up()
    [told] = wrote(speaker.begin(1, [Text("go")]))
    said = [*lifecycle(speaker, told["uuid"], "completed"), *state_changed(speaker, "idle")]
    told_of = [one for one in said if isinstance(one, Began | Ended)]
    assert told_of == [Began(1), Ended(StopReason.COMPLETED)]


def test_an_idle_agent_has_no_open_turn() -> None:
    speaker, _ = begun()
    assert state_changed(speaker, "running") == []
    assert state_changed(speaker, "idle") == [Ended(StopReason.COMPLETED)]


def test_idle_does_not_end_a_turn_that_has_still_to_read_what_was_steered() -> None:
    speaker, uuid = begun()
    [steered] = wrote(speaker.steer("turn-1", "one", [Text("more")]))
    assert result(speaker) == lifecycle(speaker, uuid, "completed") == []
    assert state_changed(speaker, "idle") == []
    assert lifecycle(speaker, steered["uuid"], "started") == [Steered("one")]
    assert init(speaker) == []
    assert result(speaker, is_error=True, result="late") == []
    assert lifecycle(speaker, steered["uuid"], "cancelled") == [Ended(StopReason.FAILED, "late")]


def test_a_turn_of_its_own_goes_on_for_a_steered_input_and_gives_way_to_what_waits() -> None:
    speaker = up()
    assert init(speaker)[0] == Began(None)
    [told] = wrote(speaker.begin(1, [Text("go")]))
    [steered] = wrote(speaker.steer("own-1", "one", [Text("more")]))
    # An interrupt of this turn must not cancel the input that waits for its own.
    orders = wrote(speaker.interrupt("own-1", include_background=False))
    assert [order["request"] for order in orders] == [
        {"subtype": "cancel_async_message", "message_uuid": steered["uuid"]},
        {"subtype": "interrupt"},
    ]
    assert lifecycle(speaker, steered["uuid"], "cancelled") == []
    [ended] = result(speaker, terminal_reason="aborted_streaming")
    assert ended == Ended(StopReason.INTERRUPTED)
    assert lifecycle(speaker, told["uuid"], "started") == [Began(1)]


def test_a_conversation_is_kept_by_a_turn_of_its_own_too() -> None:
    speaker = up()
    began, keep = init(speaker)
    assert began == Began(None)
    assert isinstance(keep, KeepState)


def task(speaker: ClaudeDialect, name: str, tool: str, *, background: bool = True) -> None:
    read(
        speaker,
        type="system",
        subtype="task_started",
        task_id=name,
        tool_use_id=tool,
        description="dig",
        is_backgrounded=background,
    )


def sub_agent_says(speaker: ClaudeDialect, tool: str, text: str) -> list[Said]:
    message = {"id": "m", "content": [{"type": "text", "text": text}]}
    return read(speaker, type="assistant", message=message, parent_tool_use_id=tool, uuid="u")


def test_an_interrupt_stops_the_tasks_of_its_turn_and_with_the_background_all() -> None:
    speaker, uuid = begun()
    task(speaker, "old", "t1")
    assert result(speaker) == []
    lifecycle(speaker, uuid, "completed")
    lifecycle(speaker, wrote(speaker.begin(2, [Text("go")]))[0]["uuid"], "started")
    task(speaker, "new", "t2")
    task(speaker, "waited for", "t3", background=False)
    requests = [o["request"] for o in wrote(speaker.interrupt("turn-2", include_background=False))]
    assert requests == [
        {"subtype": "stop_task", "task_id": "new"},
        {"subtype": "interrupt", "cancel_queued": True},
    ]
    orders = list(speaker.interrupt("turn-2", include_background=True))
    stopped = [o["request"].get("task_id") for o in wrote(orders)]
    assert stopped == ["old", "new", None]
    assert len({order.key for order in orders}) == 3


def test_a_sub_agent_of_an_interrupted_turn_is_mute() -> None:
    speaker, uuid = begun()
    task(speaker, "a", "t1")
    assert sub_agent_says(speaker, "t1", "before") != []
    list(speaker.interrupt("turn-1", include_background=False))
    assert sub_agent_says(speaker, "t1", "after") == []
    assert lifecycle(speaker, uuid, "cancelled") == [Ended(StopReason.INTERRUPTED)]
    assert sub_agent_says(speaker, "t1", "later") == []
    [order] = read(speaker, **asks(agent_id="a"))
    assert isinstance(order, Order)
    assert json.loads(order.data)["response"]["response"]["behavior"] == "deny"


def test_a_sub_agent_that_outlives_its_turn_begins_one() -> None:
    speaker, uuid = begun()
    task(speaker, "a", "t1")
    assert result(speaker) == []
    lifecycle(speaker, uuid, "completed")
    assert read(speaker, **asks(agent_id="a"))[0] == Began(None)
    assert Began(None) not in sub_agent_says(speaker, "t1", "on")
    assert state_changed(speaker, "idle") == [Ended(StopReason.COMPLETED)]
    # What comes of a call is no work of its own.
    results = {"content": [{"type": "tool_result", "tool_use_id": "x", "content": ""}]}
    said = read(speaker, type="user", message=results, parent_tool_use_id="t1")
    assert not any(isinstance(one, Began) for one in said)


# --- Approvals -----------------------------------------------------------------------------------


def asks(**fields: Any) -> dict[str, Any]:
    asked = {
        "subtype": "can_use_tool",
        "tool_name": "Bash",
        "input": {"command": "rm x"},
        "tool_use_id": "t",
        **fields,
    }
    return {"type": "control_request", "request_id": "q1", "request": asked}


def answers(speaker: ClaudeDialect, decision: Decision, message: str = "") -> dict[str, Any]:
    [told] = wrote(speaker.respond("turn-1", "q1", decision, message))
    assert told["response"]["request_id"] == "q1"
    answer: dict[str, Any] = told["response"]["response"]
    return answer


def test_an_approval_is_asked_for_and_answered() -> None:
    speaker, _ = begun()
    [asked] = read(speaker, **asks(decision_reason="outside", blocked_path="/x"))
    assert asked == ApprovalAsked("q1", "Bash", '{"command": "rm x"}', "outside: /x", "t")
    assert answers(speaker, Decision.ALLOW) == {"behavior": "allow"}
    assert answers(speaker, Decision.ALLOW_ALWAYS) == {"behavior": "allow"}
    assert answers(speaker, Decision.DENY, "no") == {"behavior": "deny", "message": "no"}
    assert list(speaker.respond("turn-1", "q1", Decision.VOID, "")) == []


def test_what_it_asks_outside_of_a_turn_is_denied_so_that_it_does_not_wait() -> None:
    [order] = read(up(), **asks())
    assert isinstance(order, Order)
    assert json.loads(order.data)["response"]["response"]["behavior"] == "deny"


def test_what_nobody_serves_is_answered_so_that_it_does_not_wait() -> None:
    speaker, _ = begun()
    request = {"subtype": "hook_callback", "callback_id": "x"}
    [told] = wrote(read(speaker, type="control_request", request_id="q2", request=request))
    assert told["response"]["subtype"] == "error"
    assert told["response"]["request_id"] == "q2"


@pytest.mark.parametrize(
    ("message", "given"),
    [("red", ["red", "red"]), ("red\nbig", ["red", "big"]), ("", None)],
)
def test_a_message_answers_its_questions_in_their_order(
    message: str, given: list[str] | None
) -> None:
    speaker, _ = begun()
    questions = {"questions": [{"question": "colour?"}, {"question": "size?"}]}
    read(speaker, **asks(tool_name="AskUserQuestion", input=questions))
    answer = answers(speaker, Decision.ALLOW, message)
    if given is None:
        assert answer == {"behavior": "allow"}
    else:
        replies = dict(zip(["colour?", "size?"], given, strict=True))
        assert answer["updatedInput"] == {**questions, "answers": replies}


# --- Tools and the rest --------------------------------------------------------------------------


def tool_ends(speaker: ClaudeDialect, content: object, **fields: Any) -> list[Said]:
    block = {"type": "tool_result", "tool_use_id": "t", "content": content}
    block |= {"is_error": fields.pop("is_error", False)}
    return read(speaker, type="user", message={"content": [block]}, **fields)


def test_output_is_told_by_the_stream_that_it_went_to() -> None:
    speaker, _ = begun()
    said = tool_ends(speaker, "both", tool_use_result={"stdout": "o", "stderr": "e"})
    assert said == [
        ToolOutput("t", b"o"),
        ToolOutput("t", b"e", OutputStream.STDERR),
        ToolEnded("t", ToolStatus.SUCCEEDED),
    ]


def test_output_of_many_kinds_is_told_as_text_in_pieces() -> None:
    speaker, _ = begun()
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png"}}
    content = [{"type": "text", "text": "é" * 50_000}, image, {"type": "odd"}]
    pieces = [one for one in tool_ends(speaker, content) if isinstance(one, ToolOutput)]
    assert all(len(one.data) <= 64 * 1024 for one in pieces)
    text = b"".join(one.data for one in pieces).decode()
    assert text == "é" * 50_000 + '\n[image: image/png]\n{"type": "odd"}'


def test_a_call_that_was_never_interrupted_was_denied_if_the_user_rejected_it() -> None:
    speaker, _ = begun()
    meta = [{"id": "t", "non_execution_kind": "user-rejected"}]
    [ended] = tool_ends(speaker, "no", is_error=True, tool_result_meta=meta)
    assert ended == ToolEnded("t", ToolStatus.DENIED, message="no")
    list(speaker.interrupt("turn-1", include_background=False))
    [ended] = tool_ends(speaker, "no", is_error=True, tool_result_meta=meta)
    assert ended == ToolEnded("t", ToolStatus.CANCELLED, message="interrupted")


def test_a_list_that_comes_whole_is_a_plan() -> None:
    speaker, _ = begun()
    todos = [{"content": "dig", "status": "in_progress"}, {"content": "fill", "status": "?"}]
    block = {"type": "tool_use", "id": "t", "name": "TodoWrite", "input": {"todos": todos}}
    said = read(speaker, type="assistant", message={"id": "m", "content": [block]}, uuid="u")
    assert said[1] == Plan((PlanStep("dig", "IN_PROGRESS"), PlanStep("fill", "PENDING")))


def used(speaker: ClaudeDialect, read_tokens: int) -> list[Observation]:
    model = {"inputTokens": read_tokens, "outputTokens": 2, "costUSD": 0.5}
    model |= {"cacheReadInputTokens": 3, "cacheCreationInputTokens": 4}
    fields = {"model_usage_since_last_result": {"opus": model}}
    said = read(speaker, type="result", subtype="success", is_error=False, **fields)
    return [one for one in said if isinstance(one, Usage | KeepState)]


def test_usage_is_added_up_over_the_processes_of_a_run_and_no_further() -> None:
    speaker, _ = begun()
    used(speaker, 10)
    usage, keep = used(speaker, 5)
    assert usage == Usage(29, 4, 6, 1_000_000, "opus")
    assert isinstance(keep, KeepState)
    again = up(run=1, serial=2, kept=keep.state, native=True)
    assert used(again, 1)[0] == Usage(37, 6, 9, 1_500_000, "opus")
    later = up(run=2, serial=1, kept=keep.state, native=True)
    assert used(later, 1)[0] == Usage(8, 2, 3, 500_000, "opus")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"type":"dance"}',
        b'{"type":"system","subtype":"dance"}',
        b'{"type":"assistant","message":[]}',
        b'{"type":"command_lifecycle","command_uuid":1,"state":"started"}',
    ],
)
def test_a_line_that_is_no_part_of_the_language_is_unreadable(line: bytes) -> None:
    with pytest.raises(UnreadableError):
        list(up().read(line))


def test_a_block_of_an_unknown_kind_does_not_take_the_others_along() -> None:
    speaker, _ = begun()
    blocks = [{"type": "dance"}, {"type": "text", "text": "words"}]
    said = read(speaker, type="assistant", message={"id": "m", "content": blocks}, uuid="u")
    assert isinstance(said[0], Note)
    assert len(said) == 2


def test_what_it_knows_is_bounded_whatever_it_is_told() -> None:
    speaker, _ = begun()
    for number in range(200):
        task(speaker, f"task-{number}", "й" * 250)
        list(speaker.interrupt("turn-1", include_background=False))
        call = {"type": "tool_use", "id": f"c{number}", "name": "TaskCreate", "input": {}}
        read(speaker, type="assistant", message={"id": "m", "content": [call]}, uuid="u")
        made = {"task": {"id": str(number), "subject": "й" * 500}}
        block = {"type": "tool_result", "tool_use_id": f"c{number}", "content": ""}
        read(speaker, type="user", message={"content": [block]}, tool_use_result=made)
        questions = {"questions": [{"question": "й" * 100}]}
        asked = asks(tool_name="AskUserQuestion", input=questions)
        read(speaker, **{**asked, "request_id": f"q{number}"})
        event = {"type": "content_block_start", "index": number, "content_block": {"type": "text"}}
        read(speaker, type="stream_event", event=event)
        assert len(speaker.standing()) <= 32 * 1024
    # What is newest is what it still knows.
    [told] = wrote(speaker.respond("turn-1", "q199", Decision.ALLOW, "yes"))
    assert told["response"]["response"]["updatedInput"]["answers"]
