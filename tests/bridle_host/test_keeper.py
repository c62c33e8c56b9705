"""What was said in a run, for the agent that takes another's place."""

from __future__ import annotations

import pytest

from bridle_core.effects import Emit, InputConsumed, LogEvent, TurnEnded
from bridle_core.observations import (
    Image,
    Message,
    StopReason,
    Text,
    ToolEnded,
    ToolOutput,
    ToolStarted,
    ToolStatus,
)
from bridle_core.phases import Principal, PrincipalKind
from bridle_core.transcript import SAID, Transcript
from bridle_host.keeper import KEPT, Keeper

ANNA = Principal(PrincipalKind.USER, "t1", "anna")
CONTENT = {"i1": (Text("mend it"), Image(b"...", "image/png"))}


def tell(keeper: Keeper, *events: LogEvent, turn: int = 1) -> Keeper:
    for event in events:
        keeper.note(Emit(event, turn, ANNA), CONTENT)
    return keeper


TURN: tuple[LogEvent, ...] = (
    InputConsumed("i1"),
    ToolStarted("c", "Bash", '{"command":"make"}'),
    ToolOutput("c", b"all "),
    ToolOutput("c", b"good"),
    ToolEnded("c", ToolStatus.SUCCEEDED),
    Message("m", (Text("done"),)),
    TurnEnded(StopReason.INTERRUPTED),
)
TOLD = """
[turn 1] anna asked:
| mend it
| (a picture, image/png)
[turn 1] you ran Bash {"command":"make"}: SUCCEEDED, and it put out:
| all good
[turn 1] you said:
| done
[turn 1] the turn ended: INTERRUPTED
"""


def test_a_run_is_told_behind_those_before_it() -> None:
    before = Transcript("BEFORE\n", ("the very first",))
    assert Keeper(before).transcript() == before
    found = tell(Keeper(before), *TURN).transcript()
    assert found.text.startswith("BEFORE\n\n")
    assert found.text.endswith(TOLD)
    assert found.left_out == ("the very first",)


def test_another_process_goes_on_with_what_was_written_down() -> None:
    one = tell(Keeper(), *TURN)
    first = one.fresh()
    assert one.fresh() == b""
    tell(one, Message("n", (Text("more"),)), turn=2)
    again = Keeper()
    again.load(first + one.fresh())
    assert again.transcript() == one.transcript()
    assert again.fresh() == b""


@pytest.mark.parametrize(
    "line",
    [b"nonsense", b"[]", b'["said"]', b'["exec",{}]', b'["said",{"turn":"x"}]', b"\xff", b"1"],
)
def test_lines_that_cannot_be_read_are_left_out_and_that_is_told(line: bytes) -> None:
    keeper = Keeper()
    keeper.load(line + b"\n" + tell(Keeper(), *TURN).fresh())
    found = keeper.transcript()
    assert found.text.endswith(TOLD)
    assert found.left_out == ("the older part of the run's conversation",)


def test_what_is_kept_is_bounded() -> None:
    keeper = Keeper()
    for number in range(200):
        tell(keeper, Message(f"m{number}", (Text(f"{number}" + "x" * 3 * SAID),)), turn=number)
    assert sum(len(told["text"]) for _, told in keeper._items) <= KEPT
    found = keeper.transcript()
    assert "[turn 199]" in found.text
    assert found.left_out[0] == "the older part of the run's conversation"


def test_calls_that_never_end_leave_nothing_behind() -> None:
    keeper = tell(Keeper(), *(ToolStarted(f"c{n}", "t", "x" * 10_000) for n in range(100)))
    tell(keeper, TurnEnded(StopReason.FAILED))
    assert not keeper._started
