"""The verbs-by-phase table: each verb in each phase, its answer, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from bridle_core.commands import Release, Resolve, RunSpec, Update
from bridle_core.effects import (
    Answer,
    InputCancelled,
    InterruptTurn,
    KillAgent,
    Met,
    OutcomeState,
    RespondApproval,
    SendTurn,
    SessionEnded,
    SteerTurn,
    StopAgent,
    TurnEnded,
)
from bridle_core.errors import Reason
from bridle_core.observations import (
    ApprovalAsked,
    Capability,
    Decision,
    ProcessGone,
    ProcessUp,
    StopReason,
    TurnOver,
)
from bridle_core.phases import InputMode, Phase, Policy
from tests.bridle_core.session_support import Run

PENDING, RAN, NOT_RUN = OutcomeState.PENDING, OutcomeState.RAN, OutcomeState.NOT_RUN
ALL = frozenset({Capability.STEER, Capability.APPROVALS})


def starting() -> Run:
    run = Run(RunSpec("start", "fake", capabilities=ALL))
    run.open()
    return run


def idle() -> Run:
    return Run(RunSpec("start", "fake", capabilities=ALL)).up()


def running() -> Run:
    return idle().begin("first")


def waiting() -> Run:
    run = running()
    run.see(ApprovalAsked("a", "bash"))
    return run


def stopping() -> Run:
    """With a turn on that needs an approval."""
    run = waiting()
    run.stop("stop0")
    return run


def ended() -> Run:
    run = idle()
    run.kill("kill0")
    run.see(ProcessGone(7, signal=9, killed=True))
    run.gone()
    return run


IN: dict[str, Callable[[], Run]] = {
    "STARTING": starting,
    "IDLE": idle,
    "RUNNING": running,
    "WAITING": waiting,
    "STOPPING": stopping,
    "ended": ended,
}


def send(mode: InputMode = InputMode.QUEUE) -> Callable[[Run], str]:
    def act(run: Run) -> str:
        run.send("x", mode=mode)
        return "cx"

    return act


def interrupt(run: Run) -> str:
    run.interrupt("v")
    return "v"


def stop(run: Run) -> str:
    run.stop("v")
    return "v"


def kill(run: Run) -> str:
    run.kill("v")
    return "v"


def respond(run: Run) -> str:
    run.do(Resolve("v", "a", Decision.ALLOW, "go on"))
    return "v"


def release(run: Run) -> str:
    run.do(Release("v"))
    return "v"


def cancel(run: Run) -> str:
    run.cancel("unknown", "v")
    return "v"


def update(run: Run) -> str:
    run.do(Update("v", Policy()))
    return "v"


@dataclass(frozen=True)
class Cell:
    """The first answer, and the kind of call of the driver that follows, if one does."""

    state: OutcomeState
    met: Met
    call: type | None = None
    error: Reason | None = None


def refused(error: Reason) -> Cell:
    return Cell(NOT_RUN, Met.REFUSED, error=error)


QUEUED = Cell(PENDING, Met.QUEUED)
DONE = Cell(RAN, Met.DONE)
OVER = Cell(NOT_RUN, Met.SESSION_ENDED)
ENDING = refused(Reason.SESSION_ENDING)
NO_APPROVAL = refused(Reason.APPROVAL_NOT_FOUND)
ANSWERED = Cell(RAN, Met.DONE, RespondApproval)
AT_IT = Cell(PENDING, Met.IN_PROGRESS)
STARTS = Cell(PENDING, Met.QUEUED, SendTurn)
ENDS_TURN = Cell(PENDING, Met.IN_PROGRESS, InterruptTurn)
KILLS = Cell(PENDING, Met.IN_PROGRESS, KillAgent)
NO_INPUT = refused(Reason.INPUT_NOT_FOUND)

# verb: STARTING, IDLE, RUNNING, WAITING, STOPPING, ended
TABLE: dict[str, tuple[Callable[[Run], str], list[Cell]]] = {
    "Send": (send(), [QUEUED, STARTS, QUEUED, QUEUED, ENDING, OVER]),
    "Send STEER": (
        send(InputMode.STEER),
        [
            QUEUED,
            STARTS,
            Cell(PENDING, Met.QUEUED, SteerTurn),
            Cell(PENDING, Met.QUEUED, SteerTurn),
            ENDING,
            OVER,
        ],
    ),
    "Send NOW": (
        send(InputMode.NOW),
        [
            QUEUED,
            STARTS,
            Cell(PENDING, Met.QUEUED, InterruptTurn),
            Cell(PENDING, Met.QUEUED, InterruptTurn),
            ENDING,
            OVER,
        ],
    ),
    "Interrupt": (
        interrupt,
        [Cell(RAN, Met.NO_TURN), Cell(RAN, Met.NO_TURN), ENDS_TURN, ENDS_TURN, ENDS_TURN, OVER],
    ),
    "Stop": (
        stop,
        [
            AT_IT,
            Cell(PENDING, Met.IN_PROGRESS, StopAgent),
            AT_IT,
            AT_IT,
            Cell(RAN, Met.ALREADY_STOPPING),
            Cell(RAN, Met.ALREADY_ENDED),
        ],
    ),
    "Kill": (kill, [KILLS, KILLS, KILLS, KILLS, KILLS, Cell(RAN, Met.ALREADY_ENDED)]),
    "Respond": (
        respond,
        [NO_APPROVAL, NO_APPROVAL, NO_APPROVAL, ANSWERED, ANSWERED, OVER],
    ),
    "ReleaseQueue": (release, [DONE, DONE, DONE, DONE, ENDING, OVER]),
    "CancelInput": (cancel, [NO_INPUT, NO_INPUT, NO_INPUT, NO_INPUT, NO_INPUT, OVER]),
    "UpdateSession": (update, [DONE, DONE, DONE, DONE, DONE, OVER]),
}

CELLS = [
    pytest.param(act, phase, cell, id=f"{verb} in {phase}")
    for verb, (act, cells) in TABLE.items()
    for phase, cell in zip(IN, cells, strict=True)
]


@pytest.mark.parametrize(("act", "phase", "cell"), CELLS)
def test_each_verb_in_each_phase_gives_its_answer(
    act: Callable[[Run], str], phase: str, cell: Cell
) -> None:
    run = IN[phase]()
    before = len(run.said)
    command_id = act(run)
    answer = run.all_answers(command_id)[0]
    assert (answer.state, answer.met) == (cell.state, cell.met)
    assert answer.error is cell.error
    made = [type(e) for e in run.said[before:] if type(e).__name__.endswith(("Turn", "Agent"))]
    made += [type(e) for e in run.said[before:] if isinstance(e, RespondApproval)]
    expected = [] if cell.call is None else [cell.call]
    # An interrupt voids the approval first; that is said by an event, not by a call.
    assert made == expected
    if phase == "ended":
        assert all(isinstance(effect, Answer) for effect in run.said[before:])


def test_an_interrupt_while_starting_cancels_the_head_input() -> None:
    run = starting()
    run.send("x")
    run.send("y")
    run.interrupt("v")
    answer = run.all_answers("v")[0]
    assert (answer.state, answer.met, answer.input_id) == (RAN, Met.INPUT_CANCELLED, "x")
    assert run.answers("cx")[-1] == (NOT_RUN, Met.CANCELLED)
    assert run.machine.input_ids == ("y",)


@pytest.mark.parametrize("phase", ["RUNNING", "WAITING"])
def test_an_interrupted_turn_ends_the_process_lives_and_the_next_input_runs(phase: str) -> None:
    run = IN[phase]()
    run.send("next")
    run.interrupt("v")
    run.finish(StopReason.INTERRUPTED)
    assert run.events(TurnEnded)[-1].stop_reason is StopReason.INTERRUPTED
    assert run.all_answers("v")[-1] == Answer("v", RAN, Met.TURN_INTERRUPTED, turn=1)
    assert isinstance(run.said[-1], SendTurn)
    assert run.phase() is Phase.IDLE
    run.confirm()
    assert run.phase() is Phase.RUNNING


def test_in_stopping_an_interrupt_ends_the_last_turn_so_that_the_stop_comes_sooner() -> None:
    run = stopping()
    run.interrupt("v")
    effects = run.see(TurnOver(StopReason.INTERRUPTED))
    assert isinstance(effects[-1], StopAgent)
    assert run.answers("v") == [(PENDING, Met.IN_PROGRESS), (RAN, Met.TURN_INTERRUPTED)]


def test_a_stop_while_starting_ends_the_run_once_it_has_started() -> None:
    run = starting()
    run.stop()
    assert run.phase() is Phase.STOPPING
    effects = run.see(ProcessUp(7))
    assert isinstance(effects[-1], StopAgent)
    run.see(ProcessGone(7, exit_code=0))
    run.gone()
    assert run.events(SessionEnded)[-1].phase is Phase.STOPPED
    assert run.answers("stop") == [(PENDING, Met.IN_PROGRESS), (RAN, Met.DONE)]


@pytest.mark.parametrize("phase", ["STARTING", "IDLE", "RUNNING", "WAITING", "STOPPING"])
def test_a_kill_ends_the_run_from_every_live_phase(phase: str) -> None:
    run = IN[phase]()
    run.send("left")
    run.kill("v")
    run.see(ProcessGone(7, signal=9, killed=True))
    run.gone(2)
    ending = run.events(SessionEnded)[-1]
    assert (ending.phase, ending.swept) == (Phase.KILLED, 2)
    assert run.answers("v") == [(PENDING, Met.IN_PROGRESS), (RAN, Met.DONE)]
    if phase == "IDLE":
        # It was with the agent already, which never said that it had it.
        assert run.answers("cleft")[-1] == (OutcomeState.UNKNOWN, Met.AGENT_LOST)
    elif phase != "STOPPING":
        assert [e.input_id for e in run.events(InputCancelled)] == ["left"]
    if phase in ("RUNNING", "WAITING", "STOPPING"):
        assert run.events(TurnEnded)[-1].stop_reason is StopReason.KILLED
    run.checker.finish()
