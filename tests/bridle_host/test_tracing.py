"""A host's work as spans: a driver that the test plays, a collector that is real."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle.v1 import event_pb2, input_pb2, session_pb2
from bridle_core.observations import (
    ApprovalAsked,
    Message,
    ProcessGone,
    Steered,
    StopReason,
    Text,
    ToolEnded,
    ToolOutput,
    ToolStarted,
    ToolStatus,
    TurnBegan,
    TurnOver,
)
from bridle_host.run_state import RunState
from tests.bridle_host.journal_support import until
from tests.bridle_host.sessions_support import SESSION, hosting
from tests.bridle_host.telemetry_support import (
    CALLER,
    FAKE,
    OTHER,
    TRACE,
    finish,
    measured,
    named,
    only,
    parent,
    place,
    up,
)
from tests.fakes.driver import FakeFactory
from tests.support.collector import collector

#: As OTLP counts them.
INTERNAL, CONSUMER = 1, 5


# --- commands -------------------------------------------------------------------------------------


async def test_a_command_is_a_span_of_the_trace_that_it_came_with(tmp_path: Path) -> None:
    with collector() as taken:
        async with measured(tmp_path, {FAKE: FakeFactory()}, taken.endpoint) as host:
            host.trace = place()
            start = await host.start()
            await host.outcome(start)
            send = await host.send("hello")
            await host.outcome(send)
            await host.outcome(await host.stop(grace={"seconds": 0}))
        started, sent, stopped = (
            only(taken, f"command {verb}") for verb in ("START", "SEND", "STOP")
        )
        assert {parent(span) for span in (started, sent, stopped)} == {(TRACE, CALLER)}
        assert {span.kind for span in (started, sent, stopped)} == {CONSUMER}
        assert sent.attributes == {
            "bridle.verb": "SEND",
            "bridle.command_id": send,
            "bridle.session_id": SESSION,
            "bridle.run": 1,
            "bridle.outcome.state": "PENDING",
            "bridle.outcome.reason": "QUEUED",
        }
        # All but a Send last until they are decided.
        for span in (started, stopped):
            assert span.attributes["bridle.outcome.state"] == "RAN"
            assert span.attributes["bridle.outcome.reason"] == "DONE"
            assert not span.error


async def test_how_long_an_agent_takes_to_start_is_told_below_the_start(tmp_path: Path) -> None:
    with collector() as taken:
        async with measured(tmp_path, {FAKE: FakeFactory()}, taken.endpoint) as host:
            host.trace = place()
            await host.start()
            await host.event("process_started")
        begun = only(taken, "start agent")
        assert parent(begun) == (TRACE, only(taken, "command START").span_id)
        assert begun.attributes["bridle.agent"] == FAKE


async def test_an_agent_that_does_not_come_up_ends_its_start_with_an_error(tmp_path: Path) -> None:
    factory = FakeFactory()
    factory.made = lambda driver: driver.fails.add("start")
    with collector() as taken:
        async with measured(tmp_path, {FAKE: factory}, taken.endpoint) as host:
            host.trace = place()
            await host.start()
            await host.event("session_ended")
        assert only(taken, "start agent").error


async def test_a_command_that_is_refused_is_an_error_with_its_reason(tmp_path: Path) -> None:
    with collector() as taken:
        async with measured(tmp_path, {FAKE: FakeFactory()}, taken.endpoint) as host:
            host.trace = place()
            await host.outcome(await host.start(agent="nobody"))
        refused = only(taken, "command START")
        assert refused.error
        assert refused.attributes["bridle.outcome.state"] == "NOT_RUN"
        assert refused.attributes["error.type"] == "AGENT_NOT_INSTALLED"


async def test_a_repeat_of_a_command_is_no_second_span(tmp_path: Path) -> None:
    factory = FakeFactory()
    with collector() as taken:
        async with measured(tmp_path, {FAKE: factory}, taken.endpoint) as host:
            await up(host, factory)
            host.trace = place()
            interrupt = host_pb.InterruptTurn()
            for count in (1, 2):
                await host.command(command_id="twice", interrupt=interrupt)
                await host.answer("twice", count)
        assert only(taken, "command INTERRUPT").attributes["bridle.outcome.reason"] == "NO_TURN"


async def test_without_a_trace_a_command_is_no_span_and_its_turn_is_a_trace_of_its_own(
    tmp_path: Path,
) -> None:
    factory = FakeFactory()
    with collector() as taken:
        async with measured(tmp_path, {FAKE: factory}, taken.endpoint) as host:
            driver = await up(host, factory)
            await host.send("hello")
            await host.event("turn_started")
            await finish(host, driver)
        (turn,) = taken.spans
        assert (turn.name, turn.parent_id) == ("turn", "")
        assert turn.attributes["bridle.trigger"] == "INPUT"


@pytest.mark.parametrize("traceparent", ["", "nonsense", f"00-{'0' * 32}-{CALLER}-01"])
async def test_a_trace_that_cannot_be_read_is_none(tmp_path: Path, traceparent: str) -> None:
    factory = FakeFactory()
    with collector() as taken:
        async with measured(tmp_path, {FAKE: factory}, taken.endpoint) as host:
            host.trace = host_pb.TraceContext(traceparent=traceparent)
            driver = await up(host, factory)
            await host.send("hello")
            await host.event("turn_started")
            await finish(host, driver)
        assert [(span.name, span.parent_id) for span in taken.spans] == [("turn", "")]


async def test_of_a_trace_that_its_caller_does_not_keep_nothing_is_told(tmp_path: Path) -> None:
    factory = FakeFactory()
    with collector() as taken:
        async with measured(tmp_path, {FAKE: factory}, taken.endpoint) as host:
            host.trace = place(sampled=False)
            driver = await up(host, factory)
            await host.send("hello")
            await host.event("turn_started")
            driver.tell(ToolStarted("t", "Bash"), ToolEnded("t", ToolStatus.SUCCEEDED))
            await finish(host, driver)
        assert taken.spans == []


# --- turns ----------------------------------------------------------------------------------------


async def test_a_turn_belongs_to_the_trace_of_its_input(tmp_path: Path) -> None:
    factory = FakeFactory()
    with collector() as taken:
        async with measured(tmp_path, {FAKE: factory}, taken.endpoint) as host:
            driver = await up(host, factory)
            host.trace = place()
            await host.send("hello")
            await host.event("turn_started")
            await finish(host, driver)
        turn = only(taken, "turn")
        assert parent(turn) == (TRACE, CALLER)
        assert (turn.kind, turn.error) == (INTERNAL, False)
        assert turn.attributes == {
            "bridle.session_id": SESSION,
            "bridle.run": 1,
            "bridle.turn": 1,
            "bridle.agent": FAKE,
            "bridle.trigger": "INPUT",
            "bridle.stop_reason": "COMPLETED",
        }


async def test_the_span_of_an_interrupt_lasts_until_its_turn_is_over(tmp_path: Path) -> None:
    factory = FakeFactory()
    with collector() as taken:
        async with measured(tmp_path, {FAKE: factory}, taken.endpoint) as host:
            await up(host, factory)
            host.trace = place()
            await host.outcome(await host.send("hello"))
            host.trace = place(OTHER)
            interrupt = await host.interrupt()
            assert await host.outcome(interrupt) == ("RAN", "TURN_INTERRUPTED")
        turn, hit = only(taken, "turn"), only(taken, "command INTERRUPT")
        assert (turn.trace_id, hit.trace_id) == (TRACE, OTHER)
        assert turn.attributes["bridle.stop_reason"] == "INTERRUPTED"
        assert not turn.error
        assert hit.attributes["bridle.outcome.reason"] == "TURN_INTERRUPTED"
        assert hit.end >= turn.end


async def test_the_trace_of_an_input_that_waits_is_that_of_its_later_turn(tmp_path: Path) -> None:
    factory = FakeFactory()
    with collector() as taken:
        async with measured(tmp_path, {FAKE: factory}, taken.endpoint) as host:
            driver = await up(host, factory)
            host.trace = place()
            await host.outcome(await host.send("first"))
            host.trace = place(OTHER)
            waits = await host.send("second")
            assert await host.answer(waits) == ("PENDING", "QUEUED")
            await finish(host, driver)
            await host.event("turn_started", 2)
            await finish(host, driver, 2)
        first, second = named(taken, "turn")
        assert (first.trace_id, second.trace_id) == (TRACE, OTHER)
        sent = next(span for span in named(taken, "command SEND") if span.trace_id == OTHER)
        assert sent.end <= first.end <= second.start


async def test_a_turn_of_several_inputs_hangs_at_the_first_and_is_linked_to_the_others(
    tmp_path: Path,
) -> None:
    factory = FakeFactory()
    policy = session_pb2.SessionPolicy(consume=session_pb2.CONSUME_POLICY_ALL)
    with collector() as taken:
        async with measured(tmp_path, {FAKE: factory}, taken.endpoint) as host:
            await host.start(policy=policy)
            driver = await factory.driver()
            await host.outcome(await host.send("alone"))
            for trace in (TRACE, OTHER):
                host.trace = place(trace)
                await host.answer(await host.send("waits"))
            await finish(host, driver)
            await host.event("turn_started", 2)
            steered = "3" * 32
            host.trace = place(steered)
            await host.send("this, too", mode=input_pb2.INPUT_MODE_STEER, input_id="steered")
            await driver.called("steer")
            driver.tell(Steered("steered"))
            await host.event("input_consumed", 4)
            await finish(host, driver, 2)
        _, both = named(taken, "turn")
        assert parent(both) == (TRACE, CALLER)
        assert both.links == ((OTHER, CALLER), (steered, CALLER))


async def test_a_turn_that_the_agent_begins_by_itself_is_a_trace_of_its_own(tmp_path: Path) -> None:
    factory = FakeFactory()
    with collector() as taken:
        async with measured(tmp_path, {FAKE: factory}, taken.endpoint) as host:
            host.trace = place()
            driver = await up(host, factory)
            driver.tell(TurnBegan())
            await host.event("turn_started")
            await finish(host, driver)
        turn = only(taken, "turn")
        assert turn.parent_id == ""
        assert turn.trace_id != TRACE
        assert turn.attributes["bridle.trigger"] == "AGENT"


async def test_a_turn_whose_agent_is_lost_is_an_error(tmp_path: Path) -> None:
    factory = FakeFactory()
    with collector() as taken:
        async with measured(tmp_path, {FAKE: factory}, taken.endpoint) as host:
            driver = await up(host, factory)
            host.trace = place()
            await host.outcome(await host.send("hello"))
            driver.tell(ProcessGone(4242, signal=9))
            await host.event("session_ended")
        turn = only(taken, "turn")
        assert turn.error
        assert turn.attributes["bridle.stop_reason"] == "AGENT_LOST"


async def test_tool_calls_and_approvals_are_spans_inside_of_their_turn(tmp_path: Path) -> None:
    factory = FakeFactory()
    with collector() as taken:
        async with measured(tmp_path, {FAKE: factory}, taken.endpoint) as host:
            driver = await up(host, factory)
            host.trace = place()
            await host.outcome(await host.send("hello"))
            driver.tell(ToolStarted("t", "Bash"), ApprovalAsked("a", "Bash"))
            await host.event("approval_requested")
            allow = host_pb.ResolveApproval(
                approval_id="a", decision=event_pb2.APPROVAL_DECISION_ALLOW
            )
            await host.outcome(await host.command(resolve=allow))
            driver.tell(ToolEnded("t", ToolStatus.FAILED, 1), ToolStarted("open", "Bash"))
            await finish(host, driver)
        turn = only(taken, "turn")
        done, cut = named(taken, "tool call")
        approval = only(taken, "approval")
        assert {parent(span) for span in (done, cut, approval)} == {(TRACE, turn.span_id)}
        assert done.attributes == {"bridle.tool.status": "FAILED"}
        assert approval.attributes == {
            "bridle.approval.decision": "ALLOW",
            "bridle.approval.by": "PRINCIPAL",
        }
        assert cut.attributes == {"bridle.tool.status": "CANCELLED"}
        assert approval.end <= done.end <= cut.start <= cut.end <= turn.end
        assert only(taken, "command RESPOND").trace_id == TRACE


async def test_an_agent_that_calls_tools_without_end_fills_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridle_host.run_telemetry.TOOL_CALLS", 3)
    factory = FakeFactory()
    with collector() as taken:
        async with measured(tmp_path, {FAKE: factory}, taken.endpoint) as host:
            driver = await up(host, factory)
            await host.outcome(await host.send("hello"))
            for number in range(10):
                name = f"t{number}"
                driver.tell(ToolStarted(name, "Bash"), ToolEnded(name, ToolStatus.SUCCEEDED))
            await finish(host, driver)
        assert len(named(taken, "tool call")) == 3


# --- over the host's processes --------------------------------------------------------------------


@pytest.mark.usefixtures("held")
async def test_a_turn_that_is_taken_over_is_one_span_from_its_begin_to_its_end(
    tmp_path: Path,
) -> None:
    factory = FakeFactory()
    with collector() as taken:
        async with measured(tmp_path, {FAKE: factory}, taken.endpoint) as host:
            await up(host, factory)
            host.trace = place()
            await host.outcome(await host.send("first"))
            host.trace = place(OTHER)
            await host.answer(await host.send("waits"))
            await host.sessions.detach_all()
        assert named(taken, "turn") == []
        (left,) = (span.end for span in named(taken, "command SEND") if span.trace_id == OTHER)
        factory = FakeFactory()
        async with measured(tmp_path, {FAKE: factory}, taken.endpoint) as host:
            driver = await factory.driver()
            await driver.called("read_on")
            await finish(host, driver)
            await host.event("turn_started", 2)
            await finish(host, driver, 2)
        first, second = named(taken, "turn")
        assert parent(first) == (TRACE, CALLER)
        assert first.start < left < first.end
        assert first.attributes["bridle.turn"] == 1
        # The input that waited has kept its trace, too.
        assert parent(second) == (OTHER, CALLER)


async def test_a_turn_whose_agent_died_with_the_host_is_told_by_the_next_process(
    tmp_path: Path,
) -> None:
    factory = FakeFactory()
    with collector() as taken:
        async with measured(tmp_path, {FAKE: factory}, taken.endpoint) as host:
            await up(host, factory)
            host.trace = place()
            await host.outcome(await host.send("first"))
            await host.sessions.detach_all()
        async with measured(tmp_path, {FAKE: FakeFactory()}, taken.endpoint) as host:
            await host.event("session_ended")
        turn = only(taken, "turn")
        assert parent(turn) == (TRACE, CALLER)
        assert turn.error
        assert turn.attributes["bridle.stop_reason"] == "AGENT_LOST"


@pytest.mark.usefixtures("held")
async def test_a_host_that_is_told_to_trace_takes_over_what_one_left_that_was_not(
    tmp_path: Path,
) -> None:
    factory = FakeFactory()
    with collector() as taken:
        async with hosting(tmp_path, {FAKE: factory}) as host:
            await up(host, factory)
            host.trace = place()
            await host.outcome(await host.send("first"))
            ((_, _, state),) = host.journal.runs()
            assert RunState.load(state).observed == {}
            await host.sessions.detach_all()
        factory = FakeFactory()
        async with measured(tmp_path, {FAKE: factory}, taken.endpoint) as host:
            driver = await factory.driver()
            await driver.called("read_on")
            await finish(host, driver)
        # Since when it is open, nobody knows.
        assert taken.spans == []


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize(
    "observed", [{"turn": []}, {"turn": "x", "inputs": 3}, {"inputs": {"i": 1}}]
)
async def test_what_another_version_kept_of_traces_hinders_no_run(
    tmp_path: Path, observed: dict[str, object]
) -> None:
    factory = FakeFactory()
    with collector() as taken:
        async with measured(tmp_path, {FAKE: factory}, taken.endpoint) as host:
            await up(host, factory)
            await host.outcome(await host.send("first"))
            await host.sessions.detach_all()
            ((session_id, run, state),) = host.journal.runs()
            kept = RunState.load(state)
            other = RunState(
                kept.spec, kept.record, kept.driver, kept.acknowledge, kept.output, False, observed
            )
            await host.journal.put_run(session_id, run, other.dump())
        factory = FakeFactory()
        async with measured(tmp_path, {FAKE: factory}, taken.endpoint) as host:
            driver = await factory.driver()
            await driver.called("read_on")
            await finish(host, driver)


# --- what is not told -----------------------------------------------------------------------------


async def test_nothing_that_is_said_or_done_is_told(tmp_path: Path) -> None:
    factory = FakeFactory()
    secret = "swordfish"
    where = tmp_path / f"work-{secret}"
    where.mkdir()
    with collector() as taken:
        async with measured(tmp_path, {FAKE: factory}, taken.endpoint) as host:
            host.trace = place()
            await host.start(
                slug=secret,
                workspace=secret,
                directory=str(where),
                environment={"KEY": secret, secret.upper(): "1"},
                agent_command=f"agent --key {secret}",
            )
            driver = await factory.driver()
            await host.outcome(await host.send(secret, input_id=secret))
            driver.tell(
                ToolStarted(secret, secret, f'{{"{secret}": 1}}', secret, secret),
                ToolOutput(secret, secret.encode()),
                ApprovalAsked(secret, secret, f'{{"{secret}": 1}}', secret),
            )
            await host.event("approval_requested")
            deny = host_pb.ResolveApproval(
                approval_id=secret, decision=event_pb2.APPROVAL_DECISION_DENY, message=secret
            )
            await host.outcome(await host.command(resolve=deny))
            driver.tell(
                ToolEnded(secret, ToolStatus.FAILED, 1, secret),
                Message(secret, (Text(secret),)),
                TurnOver(StopReason.FAILED, 1, secret),
            )
            await host.event("turn_ended")
            cancel = host_pb.CancelInput(input_id=f"no-{secret}")
            await host.outcome(await host.command(cancel=cancel))
            await host.outcome(await host.start("another", agent=secret))
            await until(lambda: len(host.sessions.inventory()) == 1)
        assert len(taken.spans) >= 8
        assert taken.points
        for body in taken.bodies:
            assert secret.encode() not in body.lower()
