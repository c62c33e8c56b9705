"""Waiting for what comes of a command."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from bridle.v1 import principal_pb2, receipt_pb2
from bridle_control.ids import uuid7
from bridle_control.receipts import RequestKey, new_command
from bridle_control.store.api import CommandRow, CommandState, ReadTx
from tests.bridle_control.stack import Stack, outcome

T = TypeVar("T")

#: Real seconds; the budgets are the stack's own, whose clock stands still unless it is moved.
PATIENCE = 30.0


async def _accepted(stack: Stack) -> CommandRow:
    principal = principal_pb2.Principal().SerializeToString()
    key = RequestKey("default", "test", uuid7(), None, b"", principal)
    return await stack.store.write(
        lambda tx: tx.insert_command(new_command(tx, key, verb=receipt_pb2.VERB_KILL))
    )


async def _becomes(stack: Stack, row: CommandRow, state: CommandState) -> None:
    await stack.store.write(lambda tx: tx.update_command(replace(row, state=state)))


async def test_what_was_answered_before_the_wait_began_is_not_waited_for(tmp_path: Path) -> None:
    async with Stack(tmp_path / "store") as stack, asyncio.timeout(PATIENCE):
        row = await _accepted(stack)
        await _becomes(stack, row, CommandState.ANSWERED)
        found = await stack.commands.answered(row, 5.0, stale=True)
        assert found is not None
        assert found.state is CommandState.ANSWERED


async def test_what_was_answered_in_the_very_commit_of_a_repeat_is_not_waited_for(
    tmp_path: Path,
) -> None:
    async with Stack(tmp_path / "store") as stack, asyncio.timeout(PATIENCE):
        row = await _accepted(stack)
        # One group: the repeat finds the row as it was, and behind it comes the host's answer.
        repeat, _ = await asyncio.gather(
            stack.store.write(lambda tx: tx.command(row.command_id)),
            _becomes(stack, row, CommandState.ANSWERED),
        )
        assert repeat is not None
        found = await stack.commands.answered(repeat, 5.0)
        assert found is not None
        assert found.state is CommandState.ANSWERED


async def test_what_was_decided_before_the_wait_began_is_not_waited_for(tmp_path: Path) -> None:
    async with Stack(tmp_path / "store") as stack, asyncio.timeout(PATIENCE):
        row = await _accepted(stack)
        await _becomes(stack, row, CommandState.DONE)
        found = await stack.commands.done(row, 30.0)
        assert found is not None
        assert found.state is CommandState.DONE


async def test_what_is_decided_while_the_row_is_read_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Stack(tmp_path / "store") as stack, asyncio.timeout(PATIENCE):
        row = await _accepted(stack)
        read = stack.store.read

        async def slow(fn: Callable[[ReadTx], T]) -> T:
            found = await read(fn)
            await _becomes(stack, row, CommandState.DONE)
            return found

        monkeypatch.setattr(stack.store, "read", slow)
        found = await stack.commands.done(row, 30.0)
        assert found is not None
        assert found.state is CommandState.DONE


async def test_a_wait_that_is_over_before_its_row_was_read_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Stack(tmp_path / "store") as stack, asyncio.timeout(PATIENCE):
        row = await _accepted(stack)
        read = stack.store.read

        async def slow(fn: Callable[[ReadTx], T]) -> T:
            found = await read(fn)
            if isinstance(found, CommandRow):  # (the sweeper reads, too)
                monkeypatch.undo()
                stack.clock.advance(40.0)
            return found

        monkeypatch.setattr(stack.store, "read", slow)
        found = await stack.commands.done(row, 30.0)
        assert found is not None
        assert found.state is CommandState.ACCEPTED


async def test_what_expires_while_the_sweeper_looks_is_found_by_its_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Stack(tmp_path / "store") as stack, asyncio.timeout(PATIENCE):
        host = await stack.host()
        session = await stack.start(host)
        receipt, _ = await stack.send(host, session, time_to_live={"seconds": 30})
        host.over(session.session_id, 1, "FAILED", "AGENT_LOST")
        await host.synced()
        read, looked = stack.store.read, asyncio.Event()

        async def slow(fn: Callable[[ReadTx], T]) -> T:
            found = await read(fn)
            monkeypatch.undo()
            stack.clock.advance(31.0)
            looked.set()
            return found

        monkeypatch.setattr(stack.store, "read", slow)
        stack.clock.advance(1.0)  # (it looks once a second)
        await looked.wait()

        async def state() -> tuple[str, str]:
            return outcome(await stack.command(receipt.command_id))

        await stack.eventually(state, ("NOT_RUN", "EXPIRED"))
