"""The same request has one effect and one receipt, however often and whenever it comes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridle.errors import BridleError
from bridle.ids import uuid7
from tests.pair import PATIENCE, running_pair
from tests.scenarios.support import kinds, log, turn_ends


async def test_a_request_sent_five_times_around_a_restart_has_one_effect_and_one_receipt(
    tmp_path: Path,
) -> None:
    counted = tmp_path / "counted"
    async with running_pair(tmp_path) as pair:
        request_id = str(uuid7())
        started = str(uuid7())
        begun = [
            await pair.client.start_session("x", agent="shell", request_id=started)
            for _ in range(2)
        ]
        script = f"echo once >> {counted}"
        receipts = [
            (await pair.client.send("x", script, request_id=request_id)).receipt for _ in range(2)
        ]
        await turn_ends(pair, "x", 1)
        receipts.append((await pair.client.send("x", script, request_id=request_id)).receipt)

        await pair.restart_control()

        receipts += [
            (await pair.client.send("x", script, request_id=request_id)).receipt for _ in range(2)
        ]
        begun.append(await pair.client.start_session("x", agent="shell", request_id=started))
        await pair.client.send("x", "true")
        await turn_ends(pair, "x", 2)

        assert counted.read_text() == "once\n"
        assert kinds(await log(pair, "x")).count("input_queued") == 2
        for receipt in receipts:
            receipt.ClearField("outcome")
        assert all(receipt == receipts[0] for receipt in receipts)
        assert len({answer.receipt.command_id for answer in begun}) == 1
        # The receipt can be read by either id, with the outcome that it came to.
        by_request = await pair.client.get_command(request_id=request_id)
        by_command = await pair.client.get_command(receipts[0].command_id)
        assert by_request == by_command
        assert by_command.outcome.turn == 1

        with pytest.raises(BridleError) as refused:
            await pair.client.send("x", "something else", request_id=request_id)
        assert refused.value.reason == "REQUEST_ID_REUSED"


async def test_what_was_sent_while_the_host_was_away_runs_once_it_is_back(tmp_path: Path) -> None:
    counted = tmp_path / "counted"
    async with running_pair(tmp_path) as pair, asyncio.timeout(2 * PATIENCE):
        await pair.client.start_session("x", agent="shell")
        await pair.client.wait((await pair.client.stop("x")).receipt)
        await pair.end_host()

        with pytest.raises(BridleError) as away:
            await pair.client.resume("x", timeout=3)
        assert away.value.reason in ("HOST_UNREACHABLE", "NO_HOST")
        assert kinds(await log(pair, "x"))[-1] == "session_ended"

        await pair.start_host()
        await pair.client.send("x", f"echo once >> {counted}", resume_if_ended=True)
        await turn_ends(pair, "x", 1)
        assert counted.read_text() == "once\n"
