"""What is open inside a turn, and how it is closed; the run's last words."""

from __future__ import annotations

from bridle_core.effects import ApprovalResolved, Emit, Live, LogEvent
from bridle_core.observations import (
    Decision,
    Message,
    MessageText,
    Note,
    NoteKind,
    Plan,
    StopReason,
    Text,
    Thought,
    ToolEnded,
    ToolOutput,
    ToolStarted,
    ToolStatus,
    Usage,
)
from bridle_core.phases import TurnTrigger
from bridle_core.turn import (
    KEPT_TEXT,
    LAST_OUTPUT,
    LAST_WORDS,
    OPEN_MESSAGES,
    OPEN_TOOLS,
    REMEMBERED,
    LastWords,
    Turn,
    TurnContent,
)


def turn() -> Turn:
    return Turn(3, TurnTrigger.INPUT)


def taken(on: Turn, *contents: TurnContent) -> list[Emit | Live]:
    return [effect for content in contents for effect in on.take(content)]


def closed(on: Turn, reason: StopReason = StopReason.INTERRUPTED) -> list[LogEvent]:
    effects = list(on.close(reason))
    assert all(effect.turn == 3 for effect in effects)
    return [effect.event for effect in effects]


def test_what_the_agent_tells_goes_into_the_log_as_it_came() -> None:
    told: list[TurnContent] = [Plan(()), Usage(1), Thought("m", "hm"), Message("n", (Text("x"),))]
    assert taken(turn(), *told) == [Emit(one, 3) for one in told]  # type: ignore[arg-type]


def test_a_tool_call_begins_puts_out_and_ends_once() -> None:
    on = turn()
    begin, end = ToolStarted("t", "bash"), ToolEnded("t", ToolStatus.SUCCEEDED)
    output = ToolOutput("t", b"x")
    assert len(taken(on, begin, begin, output, end, end, output)) == 3
    assert closed(on) == []


def test_output_of_a_call_that_is_not_open_is_left_out() -> None:
    assert taken(turn(), ToolOutput("t", b"x"), ToolEnded("t", ToolStatus.FAILED)) == []


def test_live_text_counts_its_bytes() -> None:
    on = turn()
    pieces = [MessageText("m", "ä"), MessageText("m", ""), MessageText("m", "b")]
    assert taken(on, *pieces) == [Live(3, "m", 0, "ä"), Live(3, "m", 2, "b")]


def test_half_a_surrogate_pair_in_live_text_becomes_a_character() -> None:
    on = turn()
    pieces = [MessageText("m", "\ud800"), MessageText("m", "b")]
    assert taken(on, *pieces) == [Live(3, "m", 0, "\ufffd"), Live(3, "m", 3, "b")]


def test_no_live_text_follows_its_message() -> None:
    on = turn()
    taken(on, MessageText("m", "a"), Message("m", (Text("a"),)))
    assert taken(on, MessageText("m", "b")) == []
    assert closed(on) == []


def test_a_message_without_content_says_what_was_seen_live() -> None:
    on = turn()
    taken(on, MessageText("m", "so "), MessageText("m", "far"), MessageText("n", "else"))
    whole = Message("m", (Text("so far"),), sub_agent="helper")
    assert taken(on, Message("m", (), sub_agent="helper")) == [Emit(whole, 3)]
    assert taken(on, MessageText("m", "b"), Message("m", ()), Message("never", ())) == []
    assert closed(on) == [Message("n", (Text("else"),), partial=True)]


def test_of_a_long_message_without_content_the_begin_is_kept_and_the_rest_told() -> None:
    on = turn()
    taken(on, MessageText("m", "a" * KEPT_TEXT), MessageText("m", "ä" * 5))
    message, note = (
        effect.event for effect in taken(on, Message("m", ())) if isinstance(effect, Emit)
    )
    assert message == Message("m", (Text("a" * KEPT_TEXT),))
    assert isinstance(note, Note)
    assert (note.kind, note.bytes_dropped) == (NoteKind.TRUNCATED, 10)


def test_a_message_that_was_being_written_is_kept_as_partial() -> None:
    on = turn()
    taken(on, MessageText("m", "so "), MessageText("m", "far"))
    assert closed(on) == [Message("m", (Text("so far"),), partial=True)]


def test_of_a_long_message_the_begin_is_kept_and_the_rest_told() -> None:
    on = turn()
    taken(on, MessageText("m", "a" * KEPT_TEXT), MessageText("m", "ä" * 5))
    message, note = closed(on)
    assert message == Message("m", (Text("a" * KEPT_TEXT),), partial=True)
    assert isinstance(note, Note)
    assert (note.kind, note.bytes_dropped) == (NoteKind.TRUNCATED, 10)


def test_the_end_of_a_turn_voids_approvals_and_cancels_calls_innermost_first() -> None:
    on = turn()
    taken(on, ToolStarted("outer", "task"), ToolStarted("inner", "bash"))
    on.approvals["a"] = None
    events = closed(on)
    assert isinstance(events[0], ApprovalResolved)
    assert events[0].decision is Decision.VOID
    ended = [event for event in events if isinstance(event, ToolEnded)]
    assert [(one.tool_call_id, one.status) for one in ended] == [
        ("inner", ToolStatus.CANCELLED),
        ("outer", ToolStatus.CANCELLED),
    ]
    assert closed(on) == []


def test_calls_of_a_turn_that_failed_have_failed() -> None:
    on = turn()
    taken(on, ToolStarted("t", "bash"))
    ended = closed(on, StopReason.FAILED)[0]
    assert isinstance(ended, ToolEnded)
    assert ended.status is ToolStatus.FAILED


def test_an_approval_is_remembered_when_it_is_over() -> None:
    on = turn()
    on.approvals["a"] = None
    assert on.resolve("a", Decision.ALLOW, "go") == ApprovalResolved("a", Decision.ALLOW, "go")
    assert on.approvals == {}
    assert on.resolved == {"a": ApprovalResolved("a", Decision.ALLOW, "go")}


def test_of_all_messages_that_are_being_written_only_so_much_is_kept() -> None:
    on = turn()
    taken(on, MessageText("m", "a" * (KEPT_TEXT - 1)), MessageText("n", "bcd"))
    assert sum(writing.kept for writing in on.writing.values()) == KEPT_TEXT
    *_, message, note = closed(on)
    assert message == Message("n", (Text("b"),), partial=True)
    assert isinstance(note, Note)
    assert note.bytes_dropped == 2


def test_what_is_open_in_a_turn_is_bounded() -> None:
    on = turn()
    for number in range(OPEN_TOOLS + 5):
        taken(on, ToolStarted(f"t{number}", "bash"), MessageText(f"m{number}", "x"))
        taken(on, Message(f"w{number}", (Text("x"),)))
        on.approvals[f"a{number}"] = None
        on.resolve(f"a{number}", Decision.DENY)
    assert len(on.tools) == OPEN_TOOLS
    assert len(on.writing) == OPEN_MESSAGES
    assert len(on.written) == len(on.resolved) == REMEMBERED
    # A call that was left out does not exist.
    assert taken(on, ToolEnded(f"t{OPEN_TOOLS}", ToolStatus.SUCCEEDED)) == []
    taken(on, ToolEnded("t0", ToolStatus.SUCCEEDED))
    assert taken(on, ToolStarted("another", "bash")) != []


def test_the_last_words_are_the_last_message() -> None:
    words = LastWords()
    words.note(ToolOutput("t", b"output"))
    assert words.text == "output"
    words.note(Message("m", (Text("done"), Text("!"))))
    words.new_turn()
    words.note(ToolOutput("t", b"more output"))
    assert words.text == "done!"


def test_without_a_message_the_last_words_are_the_end_of_the_last_turns_output() -> None:
    words = LastWords()
    words.note(ToolOutput("t", b"old"))
    words.new_turn()
    for _ in range(5):
        words.note(ToolOutput("t", b"x" * LAST_WORDS))
    words.note(ToolOutput("t", b"end"))
    assert words.text == "x" * (LAST_OUTPUT - 3) + "end"


def test_the_last_words_of_a_long_message_are_its_end() -> None:
    words = LastWords()
    words.note(Message("m", (Text("ä" * LAST_WORDS + "end"),)))
    assert len(words.message.encode()) <= LAST_WORDS
    assert words.text.endswith("äend")


def test_the_last_words_of_bytes_that_are_no_text_stay_within_their_limit() -> None:
    words = LastWords()
    words.note(ToolOutput("t", b"\xff" * LAST_WORDS))
    assert 0 < len(words.text.encode()) <= LAST_WORDS
    assert LastWords().text == ""
