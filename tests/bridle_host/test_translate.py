"""Between the host link's messages and the core's values."""

from __future__ import annotations

import pytest

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle.v1 import content_pb2, event_pb2, input_pb2, principal_pb2, receipt_pb2, session_pb2
from bridle_core import commands as core
from bridle_core.effects import Answer, Met, OutcomeState
from bridle_core.errors import Reason
from bridle_core.observations import Decision, Image, Resource, ResumeMode, Text
from bridle_core.phases import (
    AfterInterrupt,
    ApprovalPolicy,
    ConsumePolicy,
    EndReason,
    InputMode,
    Policy,
    Principal,
    PrincipalKind,
    QueueState,
)
from bridle_host.translate import (
    answer_to,
    command_of,
    content_of,
    policy_of,
    principal_of,
    principal_to,
    queue_state_of,
    resume_of,
    time_to_live,
)
from tests.bridle_host.sessions_support import seconds

ANNA = Principal(PrincipalKind.USER, "t1", "anna")
ANNA_PB = principal_pb2.Principal(kind=1, id="t1", name="anna")  # type: ignore[arg-type]


def test_a_principal_of_a_kind_that_is_not_known_here_is_none() -> None:
    strange = principal_pb2.Principal(kind=99, id="t1")  # type: ignore[arg-type]
    assert principal_of(strange) is None
    command = host_pb.Command(command_id="c", principal=strange, kill=host_pb.KillRun())
    assert command_of(command) == core.Kill("c")


def test_every_action_has_its_command() -> None:
    def of(**action: object) -> core.Command | None:
        return command_of(
            host_pb.Command(command_id="c", principal=ANNA_PB, **action)  # type: ignore[arg-type]
        )

    deliver = host_pb.DeliverInput(
        input_id="i",
        content=[content_pb2.Content(text="hi")],
        mode=input_pb2.INPUT_MODE_NOW,
        or_queue=True,
        sequence=7,
        time_to_live=seconds(1.5),
    )
    assert of(deliver=deliver) == core.Deliver(
        "c", "i", (Text("hi"),), 7, InputMode.NOW, True, 1.5, ANNA
    )
    bare = host_pb.DeliverInput(input_id="i", sequence=7)
    assert of(deliver=bare) == core.Deliver("c", "i", (), 7, principal=ANNA)
    interrupt = host_pb.InterruptTurn(
        turn=3,
        after=session_pb2.AFTER_INTERRUPT_DROP,
        include_background=True,
        grace=seconds(0),
    )
    assert of(interrupt=interrupt) == core.Interrupt("c", 3, AfterInterrupt.DROP, True, 0.0, ANNA)
    assert of(interrupt=host_pb.InterruptTurn()) == core.Interrupt("c", principal=ANNA)
    stop = host_pb.StopRun(grace=seconds(2), reason=session_pb2.END_REASON_HOST_DRAINED)
    assert of(stop=stop) == core.Stop("c", 2.0, EndReason.HOST_DRAINED, ANNA)
    assert of(stop=host_pb.StopRun()) == core.Stop("c", principal=ANNA)
    assert of(kill=host_pb.KillRun()) == core.Kill("c", principal=ANNA)
    resolve = host_pb.ResolveApproval(
        approval_id="a", decision=event_pb2.APPROVAL_DECISION_ALLOW, message="go"
    )
    assert of(resolve=resolve) == core.Resolve("c", "a", Decision.ALLOW, "go", ANNA)
    assert of(release=host_pb.ReleaseQueue()) == core.Release("c", ANNA)
    assert of(cancel=host_pb.CancelInput(input_id="i")) == core.Cancel("c", "i", ANNA)
    assert of(update=host_pb.UpdatePolicy()) == core.Update("c", Policy())
    assert of(start=host_pb.StartRun()) is None
    assert of() is None


def test_an_approval_is_allowed_only_by_a_word_that_is_known() -> None:
    resolve = host_pb.ResolveApproval(approval_id="a", decision=99)  # type: ignore[arg-type]
    command = command_of(host_pb.Command(resolve=resolve))
    assert isinstance(command, core.Resolve)
    assert command.decision is Decision.DENY


def test_all_pieces_of_content_come_through_and_unknown_ones_are_left_out() -> None:
    pieces = [
        content_pb2.Content(text="a"),
        content_pb2.Content(image=content_pb2.Image(data=b"x", media_type="image/png")),
        content_pb2.Content(
            resource=content_pb2.Resource(uri="file:///a", title="A", media_type="text/plain")
        ),
        content_pb2.Content(),
    ]
    assert content_of(pieces) == (
        Text("a"),
        Image(b"x", "image/png"),
        Resource("file:///a", "A", "text/plain"),
    )


def test_unset_rules_are_the_defaults_and_0_means_never() -> None:
    assert policy_of(session_pb2.SessionPolicy()) == Policy()
    assert Policy().start_timeout == 60.0
    assert policy_of(session_pb2.SessionPolicy(start_timeout=seconds(0))).start_timeout == 0.0


def test_all_rules_come_through() -> None:
    policy = session_pb2.SessionPolicy(
        after_interrupt=session_pb2.AFTER_INTERRUPT_HOLD,
        consume=session_pb2.CONSUME_POLICY_ALL,
        approval=session_pb2.APPROVAL_POLICY_DENY,
        start_timeout=seconds(1),
        turn_timeout=seconds(2),
        approval_timeout=seconds(3),
        input_ttl=seconds(4),
        idle_ttl=seconds(5),
        interrupt_grace=seconds(0.25),
    )
    assert policy_of(policy) == Policy(
        AfterInterrupt.HOLD, ConsumePolicy.ALL, ApprovalPolicy.DENY, 1, 2, 3, 4, 5, 0.25
    )


@pytest.mark.parametrize("kind", list(PrincipalKind))
def test_principals_come_through_both_ways(kind: PrincipalKind) -> None:
    principal = Principal(kind, "id", "name")
    assert principal_of(principal_to(principal)) == principal


def test_a_principal_that_is_not_told_or_not_known_is_none() -> None:
    assert principal_of(principal_pb2.Principal()) is None


def test_a_new_run_resumes_nothing() -> None:
    assert resume_of(host_pb.StartRun()) is None
    for mode, name in (
        (event_pb2.RESUME_MODE_UNSPECIFIED, ResumeMode.AUTO),
        (event_pb2.RESUME_MODE_NATIVE, ResumeMode.NATIVE),
        (event_pb2.RESUME_MODE_SEEDED, ResumeMode.SEEDED),
    ):
        here = host_pb.ResumeFrom(mode=mode, same_host=True)
        assert resume_of(host_pb.StartRun(resume=here)) is name
    elsewhere = host_pb.ResumeFrom(mode=event_pb2.RESUME_MODE_AUTO)
    assert resume_of(host_pb.StartRun(resume=elsewhere)) is ResumeMode.SEEDED


def test_a_queue_is_open_unless_it_is_held() -> None:
    assert queue_state_of(session_pb2.QUEUE_STATE_HELD) is QueueState.HELD
    assert queue_state_of(session_pb2.QUEUE_STATE_UNSPECIFIED) is QueueState.OPEN


def test_a_command_without_a_time_to_live_is_good_for_ever() -> None:
    assert time_to_live(host_pb.Command()) is None
    assert time_to_live(host_pb.Command(time_to_live=seconds(5))) == 5.0


def test_every_answer_can_be_told() -> None:
    for state in OutcomeState:
        for met in Met:
            entry = answer_to(Answer("c", state, met))
            assert entry.outcome.HasField("decide_time") == (state is not OutcomeState.PENDING)
            name = receipt_pb2.OutcomeReason.Name(entry.outcome.reason)
            assert name == f"OUTCOME_REASON_{met}"


def test_a_refusal_tells_its_reason() -> None:
    metadata = {"agent": "x"}
    answer = Answer(
        "c",
        OutcomeState.NOT_RUN,
        Met.REFUSED,
        3,
        "i",
        "no such agent",
        Reason.AGENT_NOT_INSTALLED,
        metadata,
    )
    entry = answer_to(answer)
    assert (entry.command_id, dict(entry.error_metadata)) == ("c", metadata)
    assert entry.outcome.error_reason == "AGENT_NOT_INSTALLED"
    assert (entry.outcome.turn, entry.outcome.input_id) == (3, "i")
    assert entry.outcome.message == "no such agent"
