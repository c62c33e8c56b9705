"""An interrupt ends the turn, not the agent; by the command line and over gRPC, on real shells."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridle.v1 import event_pb2, receipt_pb2
from tests.pair import Pair, running_pair
from tests.scenarios.support import RAN, bearing, check_order, log, output, turn_ends


async def test_an_interrupt_ends_sleep_and_the_same_bash_answers_the_follow_up(
    tmp_path: Path,
) -> None:
    async with running_pair(tmp_path) as pair:
        await pair.client.start_session("x", agent="shell", prompt="colour=green")
        await turn_ends(pair, "x", 1)
        await pair.client.send("x", "sleep 61.5")
        await pair.client.send("x", "echo the colour is $colour")
        async for event in pair.client.watch("x"):
            if event.WhichOneof("kind") == "tool_call_started" and event.turn == 2:
                break

        answered = await pair.cli("session", "interrupt", "x")

        assert (answered.code, answered.out, answered.err) == (0, "sent\n", "")
        assert (await turn_ends(pair, "x", 2)).turn_ended.stop_reason == (
            event_pb2.STOP_REASON_INTERRUPTED
        )
        await turn_ends(pair, "x", 3)
        events = await log(pair, "x")
        assert output(events, 3) == "the colour is green\n"
        assert bearing("sleep 61.5") == []
        check_order(events)
        ended = next(e for e in events if e.WhichOneof("kind") == "turn_ended" and e.turn == 2)
        assert not [e for e in events if e.turn == 2 and e.sequence > ended.sequence]


async def test_with_wait_the_command_line_prints_the_outcome_of_an_interrupt(
    tmp_path: Path,
) -> None:
    async with running_pair(tmp_path) as pair:
        await pair.client.start_session("x", agent="shell", prompt="sleep 60")

        hit = await pair.cli("session", "interrupt", "x", "--wait")
        missed = await pair.cli("session", "interrupt", "x", "--wait")
        unheard = await pair.cli("session", "interrupt", "x")

        assert hit.code == 0, hit
        assert hit.out.strip() not in ("", "sent")
        assert missed.code == 7
        assert (unheard.code, unheard.out) == (0, "sent\n")
        assert "hit nothing" in unheard.err


@pytest.mark.timeout(300)
async def test_two_hundred_interrupts_right_after_the_start_all_hit(tmp_path: Path) -> None:
    """The command is either never begun or ended; what follows it in the script never runs."""
    marks = tmp_path / "marks"
    marks.mkdir()
    async with running_pair(tmp_path, host_arguments=["--session-limit", "300"]) as pair:
        gate = asyncio.Semaphore(8)

        async def one(number: int) -> receipt_pb2.Outcome:
            slug = f"x{number}"
            async with gate:
                await pair.client.start_session(
                    slug, agent="shell", prompt=f"sleep 62.5; touch {marks}/{number}"
                )
                answer = await pair.client.interrupt(slug)
                outcome = (await pair.client.wait(answer.receipt)).outcome
                await pair.client.wait((await pair.client.kill(slug)).receipt)
                return outcome

        async with asyncio.timeout(240):
            outcomes = await asyncio.gather(*(one(number) for number in range(200)))

        hits = {
            receipt_pb2.OUTCOME_REASON_INPUT_CANCELLED,
            receipt_pb2.OUTCOME_REASON_TURN_INTERRUPTED,
        }
        assert [outcome for outcome in outcomes if outcome.state != RAN] == []
        assert [outcome for outcome in outcomes if outcome.reason not in hits] == []
        assert list(marks.iterdir()) == []
        assert bearing("sleep 62.5") == []
        assert await _live(pair) == 0


async def _live(pair: Pair) -> int:
    return len([session async for session in pair.client.list_sessions("live = true")])
