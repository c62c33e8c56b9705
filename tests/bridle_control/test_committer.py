"""What a host tells on its way into the store: how much of it waits, and how it is put together."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Any

import pytest

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle.v1 import event_pb2
from bridle_control.links.committer import Committer
from tests.bridle_control.stack import Stack


def committer(stack: Stack) -> Committer:
    sink: Any = None
    return Committer("h1", stack.store, sink, lambda batch: None)


async def puts(to: Committer, size: int, count: int) -> int:
    """How many messages of a size it takes while nothing is committed."""
    message = wire.ConnectRequest(records=wire.Records(journal_id="x" * size))
    taken = 0

    async def put() -> None:
        nonlocal taken
        for _ in range(count):
            await to.put(message)
            taken += 1

    task = asyncio.get_running_loop().create_task(put())
    for _ in range(10 * count):
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return taken


async def test_what_waits_for_the_disk_is_bounded_by_number_and_by_bytes(stack: Stack) -> None:
    assert await puts(committer(stack), 10, 500) == 256
    assert await puts(committer(stack), 1024 * 1024, 20) == 7
    assert await puts(committer(stack), 20 * 1024 * 1024, 3) == 1


async def test_all_that_came_while_a_commit_was_on_goes_into_the_next_one(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However small the messages are: else a slow disk is never caught up with."""
    host = await stack.host()
    session = await stack.start(host)
    commits: list[int] = []
    stack.store.listen(lambda changes: commits.append(sum(len(a.framed) for a in changes.appended)))
    taken = 0
    put = Committer.put

    async def counted(self: Committer, message: wire.ConnectRequest | None) -> None:
        nonlocal taken
        await put(self, message)
        taken += 0 if message is None else len(message.records.records)

    monkeypatch.setattr(Committer, "put", counted)
    busy = threading.Event()
    holding = asyncio.get_running_loop().create_task(stack.store.write(lambda tx: busy.wait(30)))
    for number in range(150):
        host.event(session.session_id, 1, diagnostic=event_pb2.Diagnostic(message=str(number)))
    await stack.until(lambda: taken == 150)
    busy.set()
    await holding
    await host.synced()
    # The one that was on, with whatever was there when it began, and all the rest.
    told = [count for count in commits if count]
    assert sum(told) == 150
    assert len(told) <= 2
