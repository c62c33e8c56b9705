"""What a new journal says first of a run whose journal is lost, while its agent lives on.

Pure. Called by `bridle_host.sessions` for a run that it takes over without its journal's help; the
entry stands before all others of the run, so that control knows where they begin.
"""

from __future__ import annotations

from dataclasses import replace

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle.v1 import event_pb2, session_pb2
from bridle_core.effects import Emit, LogEvent, ProcessStarted, SessionResumed, SessionStarted
from bridle_core.observations import ResumeMode
from bridle_host.events import EventCoder
from bridle_host.run_state import RunState


def adoption(left: RunState, host_id: str) -> host_pb.AdoptEntry:
    """The entry for a run of which `left` (see `RunState.forgotten`) is what is known."""
    record = left.record
    entry = host_pb.AdoptEntry(
        phase=session_pb2.Phase.Value(f"PHASE_{record.phase}"),
        last_turn=record.last_turn,
        input_ids=record.input_ids,
    )
    if record.queue_state is not None:
        entry.queue_state = session_pb2.QueueState.Value(f"QUEUE_STATE_{record.queue_state}")
    coder = EventCoder(replace(left.spec, host_id=host_id), 0)

    def event(of: LogEvent) -> event_pb2.Event:
        return event_pb2.Event.FromString(coder.encode([Emit(of)])[0][1])

    resume = left.spec.resume
    if record.opened and resume is None:
        entry.started.CopyFrom(event(SessionStarted()).session_started)
    elif record.opened and resume is not None:
        entry.resumed.CopyFrom(event(SessionResumed(resume)).session_resumed)
        if resume is ResumeMode.AUTO:
            # What the driver found is not kept.
            entry.resumed.mode = event_pb2.RESUME_MODE_UNSPECIFIED
    if record.pid:
        entry.process.CopyFrom(event(ProcessStarted(record.pid)).process_started)
    return entry
