"""The table of what control's rows decide surely, cell by cell."""

from __future__ import annotations

import pytest

from bridle.v1 import receipt_pb2, session_pb2
from bridle_control.decisions import ENDED, ERRORS, LIVE, TABLE, Stand, Verdict, decide, stand_of
from bridle_core.errors import CODE_OF, Code, Reason

#: As the documentation has it: verb | STARTING | IDLE | RUNNING, WAITING | STOPPING | ended.
CELLS = """
SEND           | COMMAND            | COMMAND            | COMMAND      | SESSION_ENDING | SESSION_ENDED
INTERRUPT      | COMMAND            | COMMAND            | COMMAND      | COMMAND        | SESSION_ENDED
STOP           | COMMAND            | COMMAND            | COMMAND      | COMMAND        | ALREADY_ENDED
KILL           | COMMAND            | COMMAND            | COMMAND      | COMMAND        | ALREADY_ENDED
RESUME         | SESSION_LIVE       | SESSION_LIVE       | SESSION_LIVE | SESSION_LIVE   | COMMAND
RESPOND        | APPROVAL_NOT_FOUND | APPROVAL_NOT_FOUND | LOOK_UP      | LOOK_UP        | APPROVAL_NOT_FOUND
RELEASE_QUEUE  | COMMAND            | COMMAND            | COMMAND      | SESSION_ENDING | SESSION_ENDED
CANCEL_INPUT   | COMMAND            | COMMAND            | COMMAND      | COMMAND        | BY_CONTROL
UPDATE_SESSION | COMMAND            | COMMAND            | COMMAND      | COMMAND        | BY_CONTROL
DELETE_SESSION | SESSION_LIVE       | SESSION_LIVE       | SESSION_LIVE | SESSION_LIVE   | BY_CONTROL
"""  # noqa: E501 - a table

PHASES = {
    Stand.STARTING: ["STARTING"],
    Stand.IDLE: ["IDLE"],
    Stand.TURN: ["RUNNING", "WAITING"],
    Stand.STOPPING: ["STOPPING"],
    Stand.ENDED: ["STOPPED", "FAILED", "KILLED"],
}


def cells() -> list[tuple[str, str, str]]:
    found = []
    for line in CELLS.strip().splitlines():
        verb, *verdicts = (word.strip() for word in line.split("|"))
        for stand, verdict in zip(Stand, verdicts, strict=True):
            found += [(verb, phase, verdict) for phase in PHASES[stand]]
    return found


@pytest.mark.parametrize(("verb", "phase", "verdict"), cells())
def test_each_cell_is_decided_as_documented(verb: str, phase: str, verdict: str) -> None:
    got = decide(
        receipt_pb2.Verb.Value(f"VERB_{verb}"),
        session_pb2.Phase.Value(f"PHASE_{phase}"),
    )
    assert got is Verdict[verdict]


def test_the_table_has_a_row_for_each_verb_of_a_session_that_is_there() -> None:
    of_sessions = {int(verb) for verb in receipt_pb2.Verb.values() if 2 <= verb <= 11}
    assert set(TABLE) == of_sessions


def test_each_phase_is_either_live_or_ended() -> None:
    assert {int(phase) for phase in session_pb2.Phase.values()} == LIVE | ENDED | {0}
    assert not LIVE & ENDED


@pytest.mark.parametrize("phase", sorted(LIVE))
def test_a_stop_in_force_makes_every_live_phase_stopping(phase: int) -> None:
    assert stand_of(phase, ending=True) is Stand.STOPPING


@pytest.mark.parametrize("phase", sorted(ENDED))
def test_an_ended_session_stays_ended(phase: int) -> None:
    assert stand_of(phase, ending=True) is Stand.ENDED


@pytest.mark.parametrize(("verdict", "reason"), sorted(ERRORS.items(), key=str))
def test_an_error_is_none_that_a_repeat_could_mend(verdict: Verdict, reason: Reason) -> None:
    assert verdict.name == reason.name
    assert CODE_OF[reason] in (Code.FAILED_PRECONDITION, Code.NOT_FOUND)
