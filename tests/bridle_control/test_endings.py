"""Runs that control ends itself: what was open is closed, without reading the whole log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridle.v1 import event_pb2, session_pb2
from bridle_control.endings import give_up
from bridle_control.projection import Projection
from bridle_control.store.api import Tx
from tests.support.stores import a_session, an_event, event_of, open_sqlite, parse


def told(turn: int, **kind: Any) -> event_pb2.Event:
    return event_pb2.Event(run=1, turn=turn, **kind)


def began(turn: int, name: str) -> event_pb2.Event:
    return told(turn, tool_call_started=event_pb2.ToolCallStarted(tool_call_id=name))


def done(turn: int, name: str) -> event_pb2.Event:
    return told(turn, tool_call_ended=event_pb2.ToolCallEnded(tool_call_id=name))


async def test_the_open_tool_calls_are_found_in_the_turn_alone_and_closed_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridle_control.store.sqlite_log.SCAN_WINDOW", 4)
    before = [event_of(told(1, turn_started={})), event_of(began(1, "of another turn"))]
    before += [an_event() for _ in range(500)]
    turn = [told(2, turn_started={}), began(2, "a"), began(2, "b"), began(2, "c"), done(2, "b")]
    row = a_session(phase=session_pb2.PHASE_RUNNING, turn=2, turn_open=True)
    looked: list[int] = []

    def end(tx: Tx) -> None:
        events = tx.events

        def counted(*args: Any, **options: Any) -> Any:
            looked.append(args[1])
            return events(*args, **options)

        tx.events = counted  # type: ignore[method-assign]
        projection = Projection(tx)
        current = projection.session(row.session_id)
        assert current is not None
        give_up(projection, current, session_pb2.END_REASON_HOST_STATE_LOST, "gone")
        projection.flush()

    async with open_sqlite(tmp_path / "store") as store:
        await store.write(lambda tx: tx.insert_session(row))
        log_so_far = [*before, *map(event_of, turn)]
        await store.write(lambda tx: tx.append_events(row.session_id, log_so_far))
        await store.write(end)
        log = await store.read(lambda tx: tx.events(row.session_id, len(before) + len(turn)))
    ends = [parse(framed) for framed in log.framed]
    assert [each.tool_call_ended.tool_call_id for each in ends[:2]] == ["a", "c"]
    kinds = [each.WhichOneof("kind") for each in ends]
    assert kinds == ["tool_call_ended", "tool_call_ended", "turn_ended", "session_ended"]
    assert len(looked) <= 3


async def test_a_run_whose_log_is_damaged_is_ended_all_the_same(tmp_path: Path) -> None:
    row = a_session(phase=session_pb2.PHASE_RUNNING, turn=1, turn_open=True)

    def end(tx: Tx) -> None:
        projection = Projection(tx)
        current = projection.session(row.session_id)
        assert current is not None
        give_up(projection, current, session_pb2.END_REASON_HOST_STATE_LOST, "gone")
        projection.flush()

    async with open_sqlite(tmp_path / "store") as store:
        await store.write(lambda tx: tx.insert_session(row))
        turn = [event_of(told(1, turn_started={})), event_of(began(1, "a"))]
        await store.write(lambda tx: tx.append_events(row.session_id, turn))
        await store.write(
            lambda tx: tx._connection.execute("UPDATE events SET crc = 7")  # type: ignore[attr-defined]
        )
        await store.write(end)
        ended = await store.read(lambda tx: tx.session(row.session_id))
    assert ended is not None
    assert ended.phase == session_pb2.PHASE_FAILED
