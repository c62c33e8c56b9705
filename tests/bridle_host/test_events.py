"""Events as bytes: every kind, the limits of size, and characters that are cut nowhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridle.v1 import event_pb2, session_pb2
from bridle_core import effects as core
from bridle_core import observations as seen
from bridle_core.commands import RunSpec
from bridle_core.effects import Emit
from bridle_core.phases import (
    CancelReason,
    EndReason,
    Phase,
    Principal,
    PrincipalKind,
    TurnTrigger,
)
from bridle_host.events import (
    ARGUMENTS,
    LINE,
    MESSAGE,
    PARAGRAPH,
    PLAN_STEPS,
    TRUNCATED,
    EventCoder,
)
from bridle_host.output_events import OUTPUT_EVENT

SPEC = RunSpec(
    "start",
    "shell",
    "5.2",
    "host-1",
    "/srv",
    "SUBREAPER",
    frozenset({seen.Capability.STEER, seen.Capability.APPROVALS}),
)
NOW = 1_700_000_000.5


def coder(cap: int = 0) -> EventCoder:
    return EventCoder(SPEC, 3, output_cap=cap, clock=lambda: NOW)


def encoded(
    *events: core.LogEvent, by: EventCoder | None = None, artifacts: tuple[str, ...] = ()
) -> list[event_pb2.Event]:
    """The events as a reader of the log parses them, with their kinds checked."""
    told = event_pb2.ArtifactsReported(
        artifacts=[event_pb2.Artifact(name=name) for name in artifacts],
        git=event_pb2.GitReport(branch="main"),
        artifacts_left_out=3,
    )
    out = []
    for kind, data in (by or coder()).encode([Emit(event, 2) for event in events], told):
        event = event_pb2.Event.FromString(data)
        name = event.WhichOneof("kind")
        assert name is not None
        assert event.DESCRIPTOR.fields_by_name[name].number == kind
        assert (event.run, event.turn, event.time.ToNanoseconds()) == (3, 2, int(NOW * 1e9))
        assert (event.sequence, event.HasField("commit_time")) == (0, False)
        out.append(event)
    return out


def one(event: core.LogEvent, **options: tuple[str, ...]) -> event_pb2.Event:
    (event_,) = encoded(event, **options)  # type: ignore[arg-type]
    return event_


def output(data: bytes, call: str = "t", stream: str = "STDOUT") -> seen.ToolOutput:
    return seen.ToolOutput(call, data, seen.OutputStream(stream))


def ended(call: str = "t") -> seen.ToolEnded:
    return seen.ToolEnded(call, seen.ToolStatus.SUCCEEDED)


def outputs(events: list[event_pb2.Event]) -> list[str | bytes]:
    return [
        e.tool_call_output.text or e.tool_call_output.data
        for e in events
        if e.HasField("tool_call_output")
    ]


# --- every kind ---------------------------------------------------------------------------------


def test_the_begin_of_a_run_tells_what_it_is_made_of() -> None:
    started = one(core.SessionStarted()).session_started
    assert (started.agent, started.agent_version, started.host_id) == ("shell", "5.2", "host-1")
    assert (started.directory, started.containment) == ("/srv", "SUBREAPER")
    assert started.capabilities == ["APPROVALS", "STEER"]
    resumed = one(core.SessionResumed(seen.ResumeMode.SEEDED, ("jobs",))).session_resumed
    assert (resumed.mode, *resumed.lost) == (event_pb2.RESUME_MODE_SEEDED, "jobs")
    assert (resumed.agent, *resumed.capabilities) == ("shell", "APPROVALS", "STEER")


def test_processes_are_told() -> None:
    up = one(core.ProcessStarted(7, True, seen.ResumeMode.NATIVE, ("jobs",))).process_started
    assert (up.pid, up.replacement, up.mode) == (7, True, event_pb2.RESUME_MODE_NATIVE)
    assert one(core.ProcessStarted(7)).process_started.mode == 0
    exited = one(core.ProcessExited(7, exit_code=0)).process_exited
    assert exited.HasField("exit_code")
    assert not exited.HasField("signal")
    killed = one(core.ProcessExited(7, signal=9, killed=True)).process_exited
    assert (killed.signal, killed.killed, killed.HasField("exit_code")) == (9, True, False)


def test_turns_are_told() -> None:
    started = one(core.TurnStarted(TurnTrigger.INPUT, ("a", "b"))).turn_started
    assert (started.trigger, *started.input_ids) == (event_pb2.TURN_TRIGGER_INPUT, "a", "b")
    over = one(core.TurnEnded(seen.StopReason.TIMED_OUT, 0, "slow")).turn_ended
    assert (over.stop_reason, over.message) == (event_pb2.STOP_REASON_TIMED_OUT, "slow")
    assert over.HasField("exit_code")
    assert not one(core.TurnEnded(seen.StopReason.FAILED)).turn_ended.HasField("exit_code")


def test_the_end_of_a_run_is_told() -> None:
    report = one(core.ArtifactsReported("bye", None, 4), artifacts=("a.md",)).artifacts_reported
    assert (report.final_message, report.last_stop_reason, report.turns) == ("bye", 0, 4)
    assert [artifact.name for artifact in report.artifacts] == ["a.md"]
    assert (report.git.branch, report.artifacts_left_out) == ("main", 3)
    assert not report.HasField("usage")
    used = seen.Usage(1, 2, 3, cost_micro_usd=0, model="m")
    report = one(core.ArtifactsReported("bye", None, 4, used)).artifacts_reported
    assert report.usage == event_pb2.UsageReported(
        input_tokens=1, output_tokens=2, cached_tokens=3, cost_micro_usd=0, model="m"
    )
    over = one(core.SessionEnded(Phase.KILLED, EndReason.KILL_REQUESTED, "", 2)).session_ended
    assert (over.phase, over.reason) == (
        session_pb2.PHASE_KILLED,
        session_pb2.END_REASON_KILL_REQUESTED,
    )
    assert (over.verified, over.swept) == (True, 2)
    changed = one(core.PhaseChanged(Phase.IDLE, Phase.RUNNING)).phase_changed
    assert (getattr(changed, "from"), changed.to) == (
        session_pb2.PHASE_IDLE,
        session_pb2.PHASE_RUNNING,
    )


def test_the_queue_is_told() -> None:
    assert one(core.InputConsumed("i", steered=True)).input_consumed.steered
    cancelled = one(core.InputCancelled("i", CancelReason.DROPPED)).input_cancelled
    assert (cancelled.input_id, cancelled.reason) == ("i", 3)
    assert one(core.QueueHeld()).HasField("queue_held")
    assert one(core.QueueReleased()).HasField("queue_released")


def test_approvals_are_told() -> None:
    asked = core.ApprovalRequested("a", "bash", '{"x":1}', "why", "t", expires_in=60.0)
    request = one(asked).approval_requested
    assert (request.approval_id, request.tool, request.tool_call_id) == ("a", "bash", "t")
    assert request.expire_time.ToNanoseconds() == int((NOW + 60) * 1e9)
    assert not one(core.ApprovalRequested("a", "bash")).approval_requested.HasField("expire_time")
    resolved = core.ApprovalResolved("a", seen.Decision.VOID, "over")
    assert one(resolved).approval_resolved.decision == event_pb2.APPROVAL_DECISION_VOID


def test_what_the_agent_says_is_told() -> None:
    pieces: tuple[seen.Content, ...] = (
        seen.Text("hi"),
        seen.Image(b"x", "image/png"),
        seen.Resource("file:///a", "A", "text/plain"),
        seen.Text(""),
    )
    message = one(seen.Message("m", pieces, partial=True, sub_agent="helper"))
    assert message.sub_agent == "helper"
    assert message.agent_message.partial
    kinds = [piece.WhichOneof("kind") for piece in message.agent_message.content]
    assert kinds == ["text", "image", "resource"]
    assert one(seen.Thought("m", "hm", partial=True)).agent_thought.text == "hm"
    steps = (seen.PlanStep("a", "IN_PROGRESS"), seen.PlanStep("b", "COMPLETED"), seen.PlanStep("c"))
    plan = one(seen.Plan((*steps, seen.PlanStep("d", "odd")))).plan_updated
    assert [(entry.text, entry.state) for entry in plan.entries] == [
        ("a", 2),
        ("b", 3),
        ("c", 1),
        ("d", 1),
    ]
    usage = one(seen.Usage(1, 2, 3, 0, "m")).usage_reported
    assert usage.HasField("cost_micro_usd")
    assert not one(seen.Usage()).usage_reported.HasField("cost_micro_usd")
    note = one(seen.Note(seen.NoteKind.ESCALATED, "harder", 3)).diagnostic
    assert (note.kind, note.bytes_dropped) == (event_pb2.DIAGNOSTIC_KIND_ESCALATED, 3)


def test_tools_are_told() -> None:
    started = one(seen.ToolStarted("t", "bash", '{"command":"ls"}', "ls")).tool_call_started
    assert (started.tool, started.title) == ("bash", "ls")
    over = one(seen.ToolEnded("t", seen.ToolStatus.FAILED, 0, "no")).tool_call_ended
    assert over.HasField("exit_code")
    assert over.status == event_pb2.TOOL_CALL_STATUS_FAILED


def test_who_caused_an_event_stands_in_it() -> None:
    anna = Principal(PrincipalKind.USER, "t1", "anna")
    ((_, data),) = coder().encode([Emit(core.QueueHeld(), 0, anna)])
    principal = event_pb2.Event.FromString(data).principal
    assert (principal.kind, principal.id, principal.name) == (1, "t1", "anna")


def test_what_is_no_event_is_a_fault() -> None:
    with pytest.raises(TypeError, match="is no event"):
        one("hello")  # type: ignore[arg-type]


# --- output -------------------------------------------------------------------------------------


def test_outputs_that_follow_each_other_become_one() -> None:
    events = encoded(
        output(b"a"),
        output(b"b"),
        output(b"c", stream="STDERR"),
        output(b"d"),
        output(b"e", call="u"),
    )
    assert outputs(events) == ["ab", "c", "d", "e"]


def test_outputs_of_two_turns_stay_apart() -> None:
    events = coder().encode([Emit(output(b"a"), 1), Emit(output(b"b"), 2)])
    assert [event_pb2.Event.FromString(data).turn for _, data in events] == [1, 2]


def test_a_character_that_a_read_cut_is_kept_together() -> None:
    by = coder()
    euro = "€".encode()
    assert outputs(encoded(output(b"x" + euro[:1]), by=by)) == ["x"]
    assert outputs(encoded(output(euro[1:2]), by=by)) == []
    assert outputs(encoded(output(b"y", stream="STDERR"), by=by)) == ["y"]
    assert outputs(encoded(output(euro[2:]), by=by)) == ["€"]


def test_a_character_that_never_came_whole_is_told_as_bytes_at_the_end_of_its_call() -> None:
    by = coder()
    encoded(output("€".encode()[:2]), output("ä".encode()[:1], stream="STDERR"), by=by)
    events = encoded(ended("other"), ended(), by=by)
    assert outputs(events) == ["€".encode()[:2], "ä".encode()[:1]]
    assert [e.WhichOneof("kind") for e in events][-1] == "tool_call_ended"


def test_what_is_no_text_comes_as_bytes() -> None:
    (event,) = encoded(output(b"\xff\x00binary"))
    assert event.tool_call_output.data == b"\xff\x00binary"
    assert event.tool_call_output.WhichOneof("output") == "data"


def test_an_event_of_output_has_64_kib_at_most_and_ends_between_characters() -> None:
    text = "€" * OUTPUT_EVENT
    found = outputs(encoded(output(text.encode())))
    assert "".join(str(piece) for piece in found) == text
    assert all(len(str(piece).encode()) <= OUTPUT_EVENT for piece in found)
    assert len(found) == 4


@given(
    st.lists(st.binary(max_size=12) | st.text(max_size=4).map(str.encode), max_size=12),
    st.lists(st.integers(0, 40), max_size=12),
)
def test_no_byte_is_lost_or_moved_however_it_was_read(data: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(data)
    by, start = coder(), 0
    pieces: list[str | bytes] = []
    for cut in sorted({*cuts, len(whole)}):
        pieces += outputs(encoded(output(whole[start:cut]), by=by))
        start = max(start, min(cut, len(whole)))
    pieces += outputs(encoded(ended(), by=by))
    told = b"".join(p if isinstance(p, bytes) else p.encode() for p in pieces)
    assert told == whole


@given(st.text(max_size=30), st.lists(st.integers(0, 120), max_size=12))
def test_text_stays_text_however_it_was_read(text: str, cuts: list[int]) -> None:
    whole = text.encode()
    by, start = coder(), 0
    pieces: list[str | bytes] = []
    for cut in sorted({*cuts, len(whole)}):
        pieces += outputs(encoded(output(whole[start:cut]), by=by))
        start = max(start, min(cut, len(whole)))
    assert all(isinstance(piece, str) for piece in pieces)
    assert "".join(str(piece) for piece in pieces) == text


# --- limits -------------------------------------------------------------------------------------


def test_above_its_cap_the_output_of_a_turn_is_left_out_and_that_is_told() -> None:
    by = coder(cap=4)
    start = core.TurnStarted(TurnTrigger.AGENT)
    over = core.TurnEnded(seen.StopReason.COMPLETED)
    first = encoded(start, output("ab€€".encode()), output(b"c"), ended(), over, by=by)
    assert outputs(first) == ["ab"]
    note = first[-2].diagnostic
    assert (note.kind, note.bytes_dropped) == (event_pb2.DIAGNOSTIC_KIND_TRUNCATED, 7)
    second = encoded(start, output(b"abcd"), over, by=by)
    assert outputs(second) == ["abcd"]
    assert not any(event.HasField("diagnostic") for event in second)


def test_messages_count_for_the_cap_of_a_turn_and_are_left_out_whole() -> None:
    by = coder(cap=10)
    start = core.TurnStarted(TurnTrigger.AGENT)
    told: list[core.LogEvent] = [
        seen.Message("m", (seen.Text("12345"),)),
        seen.Thought("t", "6789"),
        seen.Message("n", (seen.Text("too much"),)),
        seen.ToolStarted("c", "bash", '{"command":"ls"}'),
        output(b"more"),
        seen.Plan((seen.PlanStep("x"),)),
        ended(),
    ]
    events = encoded(start, *told, core.TurnEnded(seen.StopReason.COMPLETED), by=by)
    kinds = [event.WhichOneof("kind") for event in events]
    assert kinds == [
        *("turn_started", "agent_message", "agent_thought"),
        *("tool_call_started", "tool_call_ended", "diagnostic", "turn_ended"),
    ]
    assert events[3].tool_call_started.arguments_json == TRUNCATED
    assert events[-2].diagnostic.bytes_dropped == len('too much{"command":"ls"}morex')


@pytest.mark.parametrize(
    ("event", "dropped"),
    [
        (seen.Message("m", (seen.Text("x" * (MESSAGE + 5)),)), 5),
        (seen.Message("m", (seen.Text("x"), seen.Image(b"x" * MESSAGE, "image/png"))), MESSAGE),
        (seen.Thought("m", "x" * (MESSAGE + 5)), 5),
        (seen.ToolStarted("t", "x" * (LINE + 5)), 5),
        (seen.ToolStarted("t", "bash", '"' + "x" * ARGUMENTS + '"'), ARGUMENTS + 2),
        (seen.ToolEnded("t", seen.ToolStatus.FAILED, None, "x" * (LINE + 5)), 5),
        (seen.Plan((seen.PlanStep("x"),) * (PLAN_STEPS + 5)), 5),
        (seen.Note(seen.NoteKind.AGENT_LOG, "x" * (PARAGRAPH + 5)), 5),
        (core.ApprovalRequested("a", "bash", reason="x" * (PARAGRAPH + 5)), 5),
    ],
)
def test_what_is_too_long_is_cut_and_that_is_told(event: core.LogEvent, dropped: int) -> None:
    cut, note = encoded(event)
    assert cut.ByteSize() < MESSAGE + 1024
    assert note.diagnostic.kind == event_pb2.DIAGNOSTIC_KIND_TRUNCATED
    assert note.diagnostic.bytes_dropped == dropped


def test_arguments_that_are_too_long_stay_json() -> None:
    cut, _ = encoded(seen.ToolStarted("t", "bash", '"' + "x" * ARGUMENTS + '"'))
    assert cut.tool_call_started.arguments_json == '{"truncated":true}'


def test_half_of_a_surrogate_pair_does_no_harm() -> None:
    message = one(seen.Message("m", (seen.Text("a\ud800"),))).agent_message
    assert message.content[0].text == "a\ufffd"


@pytest.mark.parametrize(
    "name_is",
    [
        lambda name: one(seen.Message(name, (seen.Text("a"),))).agent_message.message_id,
        lambda name: one(seen.Thought(name, "a")).agent_thought.message_id,
        lambda name: one(seen.ToolStarted(name, "bash")).tool_call_started.tool_call_id,
        lambda name: encoded(output(b"a", name))[0].tool_call_output.tool_call_id,
        lambda name: one(ended(name)).tool_call_ended.tool_call_id,
        lambda name: one(core.ApprovalRequested(name, "bash")).approval_requested.approval_id,
    ],
    ids=["message", "thought", "call", "output", "end", "approval"],
)
def test_whatever_an_agent_calls_its_things_is_told_alike(name_is: Callable[[str], str]) -> None:
    assert name_is("a\ud800") == "a\ufffd"
    assert name_is("x" * 100_000) == "x" * 1024
