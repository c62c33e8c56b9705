"""The clock that tests turn does what the machine's does, but for its going on by itself."""

from __future__ import annotations

import asyncio

from bridle_control.clock import wait
from tests.support.manual_clock import ManualClock


async def test_calls_come_when_the_clock_is_moved_to_them_in_their_order() -> None:
    clock = ManualClock()
    called: list[tuple[str, float]] = []
    for name, when in (("c", 9.0), ("a", 2.0), ("b", 2.0)):
        clock.call_at(clock.now() + when, lambda name=name: called.append((name, clock.now())))  # type: ignore[misc]
    clock.call_at(clock.now() + 1.0, lambda: called.append(("never", 0.0))).cancel()
    clock.advance(1.9)
    assert (called, clock.waiting) == ([], 3)
    clock.advance(3.1)
    assert (called, clock.waiting) == ([("a", 1002.0), ("b", 1002.0)], 1)


async def test_what_is_due_when_it_is_asked_for_comes_without_another_move() -> None:
    clock = ManualClock()
    until = clock.now() + 5.0
    clock.advance(5.0)
    async with asyncio.timeout(30):
        assert not await wait(asyncio.Event(), clock, until)
    called: list[str] = []
    clock.call_at(until, lambda: called.append("cancelled")).cancel()
    clock.call_at(until, lambda: called.append("due"))
    assert called == []
    await asyncio.sleep(0)
    assert called == ["due"]
