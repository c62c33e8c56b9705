"""What a new journal says first of a run that it takes over."""

from __future__ import annotations

from bridle.v1 import event_pb2, session_pb2
from bridle_core.commands import RunSpec
from bridle_core.observations import Capability, ResumeMode
from bridle_core.phases import Phase, QueueState
from bridle_core.session import RunRecord
from bridle_core.session_record import ItemRecord
from bridle_host.adoption import adoption
from bridle_host.run_state import RunState

SPEC = RunSpec(
    "start",
    "shell",
    agent_version="5.2",
    directory="/srv/a",
    containment="SUBREAPER",
    capabilities=frozenset({Capability.STEER}),
)
RECORD = RunRecord(
    phase=Phase.WAITING,
    opened=True,
    pid=4711,
    last_turn=3,
    turn=3,
    queue=(ItemRecord("waits", "c1"),),
    handed=(),
    steering=(ItemRecord("steered", "c2"),),
    queue_state=QueueState.HELD,
)


def test_it_says_where_the_run_begins_in_this_journal_with_no_turn_open() -> None:
    entry = adoption(RunState(SPEC, RECORD).forgotten(), "h1")
    assert entry.phase == session_pb2.PHASE_IDLE
    assert (entry.last_turn, list(entry.input_ids)) == (3, ["waits"])
    assert entry.queue_state == session_pb2.QUEUE_STATE_HELD
    started = event_pb2.SessionStarted(
        agent="shell",
        agent_version="5.2",
        host_id="h1",
        directory="/srv/a",
        containment="SUBREAPER",
        capabilities=["STEER"],
    )
    assert entry.started == started
    assert entry.process == event_pb2.ProcessStarted(pid=4711)


def test_of_a_resumed_run_it_does_not_claim_to_know_how_the_conversation_came_along() -> None:
    modes = {}
    for mode in ResumeMode:
        spec = RunSpec("start", "shell", resume=mode)
        entry = adoption(RunState(spec, RECORD).forgotten(), "h1")
        assert entry.WhichOneof("opening") == "resumed"
        modes[mode] = event_pb2.ResumeMode.Name(entry.resumed.mode)
    assert modes == {
        ResumeMode.AUTO: "RESUME_MODE_UNSPECIFIED",
        ResumeMode.NATIVE: "RESUME_MODE_NATIVE",
        ResumeMode.SEEDED: "RESUME_MODE_SEEDED",
    }


def test_a_run_that_was_not_opened_has_neither_opening_nor_process() -> None:
    record = RunRecord(phase=Phase.STARTING, opened=False, pid=0, last_turn=0, turn=0)
    entry = adoption(RunState(SPEC, record).forgotten(), "h1")
    assert entry.WhichOneof("opening") is None
    assert not entry.HasField("process")
    assert entry.phase == session_pb2.PHASE_STARTING
