"""What control's rows decide surely about a verb; all else is a command, and the host decides.

Control's session row is a projection of what the host wrote, so it may be behind. A row that says
"ended" or "stopping" can't be wrong by being behind (a run never leaves those), one that says "a
turn is on" can. Hence the table: only what stays true however far the row is behind is answered
here. Pure; called by the verbs inside of their write transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum

from bridle.v1 import receipt_pb2, session_pb2
from bridle_core.errors import Reason


class Verdict(Enum):
    """What a verb comes to."""

    #: A command row; the host decides.
    COMMAND = "command"
    #: A receipt RAN, ALREADY_ENDED; nothing to do.
    ALREADY_ENDED = "already ended"
    #: The approval's own row decides: open, resolved or unknown.
    LOOK_UP = "look up"
    #: No host has a say: control does it itself.
    BY_CONTROL = "by control"
    #: The errors.
    SESSION_ENDED = "session ended"
    SESSION_ENDING = "session ending"
    SESSION_LIVE = "session live"
    APPROVAL_NOT_FOUND = "approval not found"


class Stand(StrEnum):
    """Where a session stands, as far as it matters here: the columns of the table."""

    STARTING = "STARTING"
    IDLE = "IDLE"
    TURN = "TURN"
    STOPPING = "STOPPING"
    ENDED = "ENDED"


#: The reason of each verdict that is an error.
ERRORS: Mapping[Verdict, Reason] = {
    Verdict.SESSION_ENDED: Reason.SESSION_ENDED,
    Verdict.SESSION_ENDING: Reason.SESSION_ENDING,
    Verdict.SESSION_LIVE: Reason.SESSION_LIVE,
    Verdict.APPROVAL_NOT_FOUND: Reason.APPROVAL_NOT_FOUND,
}

_C = Verdict.COMMAND
_V = receipt_pb2.Verb

#: verb → (STARTING, IDLE, a turn is on, STOPPING, ended).
TABLE: Mapping[int, tuple[Verdict, Verdict, Verdict, Verdict, Verdict]] = {
    _V.VERB_SEND: (_C, _C, _C, Verdict.SESSION_ENDING, Verdict.SESSION_ENDED),
    _V.VERB_INTERRUPT: (_C, _C, _C, _C, Verdict.SESSION_ENDED),
    _V.VERB_STOP: (_C, _C, _C, _C, Verdict.ALREADY_ENDED),
    _V.VERB_KILL: (_C, _C, _C, _C, Verdict.ALREADY_ENDED),
    _V.VERB_RESUME: (
        Verdict.SESSION_LIVE,
        Verdict.SESSION_LIVE,
        Verdict.SESSION_LIVE,
        Verdict.SESSION_LIVE,
        _C,
    ),
    # An approval is told to nobody before its event is committed here, so the rows know them all.
    _V.VERB_RESPOND: (
        Verdict.APPROVAL_NOT_FOUND,
        Verdict.APPROVAL_NOT_FOUND,
        Verdict.LOOK_UP,
        Verdict.LOOK_UP,
        Verdict.APPROVAL_NOT_FOUND,
    ),
    _V.VERB_RELEASE_QUEUE: (_C, _C, _C, Verdict.SESSION_ENDING, Verdict.SESSION_ENDED),
    _V.VERB_CANCEL_INPUT: (_C, _C, _C, _C, Verdict.BY_CONTROL),
    _V.VERB_UPDATE_SESSION: (_C, _C, _C, _C, Verdict.BY_CONTROL),
    _V.VERB_DELETE_SESSION: (
        Verdict.SESSION_LIVE,
        Verdict.SESSION_LIVE,
        Verdict.SESSION_LIVE,
        Verdict.SESSION_LIVE,
        Verdict.BY_CONTROL,
    ),
}

_STANDS: Mapping[int, Stand] = {
    session_pb2.PHASE_STARTING: Stand.STARTING,
    session_pb2.PHASE_IDLE: Stand.IDLE,
    session_pb2.PHASE_RUNNING: Stand.TURN,
    session_pb2.PHASE_WAITING: Stand.TURN,
    session_pb2.PHASE_STOPPING: Stand.STOPPING,
    session_pb2.PHASE_STOPPED: Stand.ENDED,
    session_pb2.PHASE_FAILED: Stand.ENDED,
    session_pb2.PHASE_KILLED: Stand.ENDED,
}

#: The phases of a session that lives.
LIVE = frozenset(phase for phase, stand in _STANDS.items() if stand is not Stand.ENDED)
#: The phases of one that has ended.
ENDED = frozenset(phase for phase, stand in _STANDS.items() if stand is Stand.ENDED)


def stand_of(phase: int, *, ending: bool = False) -> Stand:
    """The column. `ending`: a Stop or Kill of this run was accepted and is in force.

    Commands apply in the order of their commit, so after an accepted Stop nothing new can begin,
    wherever the host is. While the row still says STARTING or a turn, what that turn may need
    (an answer to its approval) is decided as STOPPING decides it.
    """
    stand = _STANDS[phase]
    return Stand.STOPPING if ending and stand is not Stand.ENDED else stand


def decide(verb: int, phase: int, *, ending: bool = False) -> Verdict:
    """The verdict on a verb for a session in this phase."""
    return TABLE[verb][list(Stand).index(stand_of(phase, ending=ending))]
