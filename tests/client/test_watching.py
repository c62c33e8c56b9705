"""Over lost connections, repeats, gaps and silence: each event once, in order, or an error."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import grpc
import pytest

import bridle
from bridle import Client, Connected, Disconnected, SyncClient
from bridle.retry import Backoff, RetryPolicy
from bridle.v1 import event_pb2, watch_pb2
from bridle.watching import SILENCE, Watch
from tests.client.scripted_server import (
    LOG_ID,
    SESSION_ID,
    Failure,
    Server,
    Silence,
    Step,
    compacted,
    events,
    progress,
    serving,
)
from tests.robustness.fault_proxy import fault_proxy

LOST = Failure(grpc.StatusCode.UNAVAILABLE)
QUICK = RetryPolicy(backoff=Backoff(first=0.001, most=0.002))


def client_of(server: Server, **more: Any) -> Client:
    more.setdefault("token", "brt_x")
    return Client(server.address, retry=QUICK, **more)


async def sequences(watch: Watch) -> list[int]:
    return [event.sequence async for event in watch]


def cursors(server: Server) -> list[int]:
    return [request.targets[0].after_sequence for request in server.seen]


async def test_a_watch_goes_on_from_its_cursor_when_the_connection_is_lost() -> None:
    first: list[Step] = [progress(0), events(1, 2, 3), LOST]
    second: list[Step] = [progress(3), events(4), LOST]
    third: list[Step] = [progress(4), events(5), progress(5, ended=True)]
    async with serving(first, second, third) as server, client_of(server) as client:
        watch = client.watch("fix-auth")
        assert await sequences(watch) == [1, 2, 3, 4, 5]
        assert watch.cursor == 5
        assert cursors(server) == [0, 3, 4]
        # The first answer told which session it is: a slug may be taken anew in between.
        assert server.seen[0].targets[0].session.slug == "fix-auth"
        assert {request.targets[0].session.id for request in server.seen[1:]} == {SESSION_ID}
        assert {request.targets[0].log_id for request in server.seen[1:]} == {LOG_ID}


async def test_no_stream_is_made_while_nobody_answers() -> None:
    """grpc#38499: each that is leaks half a KiB in the client, for as long as control is away."""
    script: list[list[Step]] = [[progress(0), events(1), Silence()], [progress(1, ended=True)]]
    async with (
        serving(*script) as server,
        fault_proxy(server.address) as proxy,
        Client(proxy.address, token="brt_x", retry=QUICK) as client,
    ):
        watch = client.watch("x")
        made = Counted(watch._stub)
        watch._stub = made  # type: ignore[assignment]
        assert (await anext(aiter(watch))).sequence == 1
        proxy.refuse()
        going_on = asyncio.create_task(sequences(watch))
        before = proxy.refused
        async with asyncio.timeout(30):
            while proxy.refused < before + 5:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.01)
        proxy.heal()
        async with asyncio.timeout(30):
            assert await going_on == []
        # One more may be on its way before gRPC has told that the connection is gone.
        assert made.count <= 3


class Counted:
    """A stub that counts the streams."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub
        self.count = 0

    def Watch(self, *args: Any, **options: Any) -> Any:
        self.count += 1
        return self._stub.Watch(*args, **options)


async def test_losses_and_returns_are_told_to_who_asks() -> None:
    async with (
        serving([progress(0), LOST], [events(1), progress(1, ended=True)]) as server,
        client_of(server) as client,
    ):
        kinds = [type(update.item) async for update in client.watch("x").updates()]
    assert kinds == [
        Connected,
        watch_pb2.Progress,
        Disconnected,
        Connected,
        event_pb2.Event,
        watch_pb2.Progress,
    ]


async def test_what_comes_twice_is_told_once() -> None:
    script: list[Step] = [
        progress(0),
        events(1, 2),
        events(2, 3),
        events(1),
        progress(3, ended=True),
    ]
    async with serving(script) as server, client_of(server) as client:
        assert await sequences(client.watch("x")) == [1, 2, 3]


@pytest.mark.parametrize("hole", [events(3), progress(2)])
async def test_a_gap_is_asked_for_again_and_never_told(hole: watch_pb2.WatchResponse) -> None:
    good: list[Step] = [progress(1), events(2, 3), progress(3, ended=True)]
    async with serving([progress(0), events(1), hole], good) as server, client_of(server) as client:
        assert await sequences(client.watch("x")) == [1, 2, 3]
        assert cursors(server) == [0, 1]


async def test_a_gap_that_stays_is_an_error() -> None:
    broken: list[Step] = [progress(0), events(2)]
    async with serving(*[broken] * 9) as server, client_of(server) as client:
        with pytest.raises(bridle.BridleError, match="gap after event 0") as raised:
            await sequences(client.watch("x"))
    assert raised.value.code == bridle.Code.DATA_LOSS


async def test_left_out_kinds_are_no_gap() -> None:
    first: list[Step] = [progress(0), events(2, 7), progress(9), LOST]
    second: list[Step] = [progress(9), events(12), progress(13, ended=True)]
    async with serving(first, second) as server, client_of(server) as client:
        watch = client.watch("x", kinds=[event_pb2.EVENT_KIND_TURN_ENDED])
        assert await sequences(watch) == [2, 7, 12]
        assert cursors(server) == [0, 9]


async def test_an_ok_without_the_end_is_a_lost_connection() -> None:
    async with (
        serving([progress(0), events(1)], [progress(1), progress(1, ended=True)]) as server,
        client_of(server) as client,
    ):
        assert await sequences(client.watch("x")) == [1]


async def test_silence_is_a_lost_connection_and_the_old_stream_is_given_up() -> None:
    first: list[Step] = [progress(0), events(1), Silence()]
    second: list[Step] = [progress(1), events(2), progress(2, ended=True)]
    async with serving(first, second) as server, client_of(server) as client:
        watch = client.watch("x")
        told = []
        async for update in watch.updates():
            # Short only while nothing comes: what is on its way may take longer.
            if isinstance(update.item, event_pb2.Event):
                told.append(update.item.sequence)
                watch._silence = 0.2 if told == [1] else SILENCE
            elif isinstance(update.item, Disconnected):
                watch._silence = SILENCE
        assert told == [1, 2]
        async with asyncio.timeout(30):
            await server.cancelled.wait()


async def test_a_compacted_log_begins_at_its_floor() -> None:
    script: list[Step] = [compacted(10), progress(9), events(10, 11), progress(11, ended=True)]
    async with serving(script) as server, client_of(server) as client:
        assert await sequences(client.watch("x")) == [10, 11]


async def test_a_watch_of_a_floor_that_rises_before_the_first_event_begins_at_the_new_one() -> None:
    first: list[Step] = [compacted(10), LOST]
    second: list[Step] = [compacted(20), compacted(22), events(22), LOST]
    third: list[Step] = [progress(22), events(23), progress(23, ended=True)]
    async with serving(first, second, third) as server, client_of(server) as client:
        assert await sequences(client.watch("x")) == [22, 23]
        assert cursors(server) == [0, 0, 22]


async def test_a_beginning_above_the_floor_that_nobody_told_of_is_a_gap() -> None:
    async with (
        serving([progress(5), events(6)], [progress(0), events(1), progress(1, ended=True)]) as at,
        client_of(at) as client,
    ):
        assert await sequences(client.watch("x")) == [1]


async def test_a_tail_begins_where_control_says_and_goes_on_from_the_cursor() -> None:
    first: list[Step] = [progress(40), events(41, 42), LOST]
    second: list[Step] = [progress(42), events(43), progress(43, ended=True)]
    async with serving(first, second) as server, client_of(server) as client:
        assert await sequences(client.watch("x", tail=2)) == [41, 42, 43]
        assert server.seen[0].targets[0].tail == 2
        assert cursors(server)[1] == 42


@pytest.mark.parametrize(
    ("code", "reason", "error"),
    [
        (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND", bridle.SessionNotFoundError),
        (grpc.StatusCode.OUT_OF_RANGE, "CURSOR_COMPACTED", bridle.CursorCompactedError),
        (grpc.StatusCode.OUT_OF_RANGE, "CURSOR_FOREIGN", bridle.CursorForeignError),
        (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_REVOKED", bridle.TokenRevokedError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_WATCHES", bridle.TooManyWatchesError),
        (grpc.StatusCode.UNIMPLEMENTED, "", bridle.BridleError),
    ],
)
async def test_what_no_new_connection_would_mend_is_raised(
    code: grpc.StatusCode, reason: str, error: type[Exception]
) -> None:
    async with (
        serving([progress(0), events(1), Failure(code, reason)]) as server,
        client_of(server) as client,
    ):
        watch = client.watch("x")
        with pytest.raises(error):
            await sequences(watch)
        assert watch.cursor == 1


async def test_a_token_that_was_made_fresh_is_used_for_the_next_connection(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("brs_old")
    expired = Failure(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")
    async with (
        serving([progress(0), events(1), expired], [progress(1, ended=True)]) as server,
        client_of(server, token=file) as client,
    ):
        async for _ in client.watch("x"):
            file.write_text("brs_new")
        assert server.tokens == ["Bearer brs_old", "Bearer brs_new"]


async def test_several_sessions_share_a_stream_and_each_keeps_its_cursor() -> None:
    first: list[Step] = [
        progress(0, session_id="id-a"),
        progress(5, session_id="id-b"),
        events(1, 2, session_id="id-a"),
        events(6, session_id="id-b"),
        progress(2, ended=True, session_id="id-a"),
        LOST,
    ]
    second: list[Step] = [events(7, session_id="id-b"), progress(7, ended=True, session_id="id-b")]
    async with serving(first, second) as server, client_of(server) as client:
        told = [
            (update.session_id, update.item.sequence)
            async for update in client.watch_many({"a": 0, "b": 5}).updates()
            if isinstance(update.item, event_pb2.Event)
        ]
        assert told == [("id-a", 1), ("id-a", 2), ("id-b", 6), ("id-b", 7)]
        # What has ended is not asked for again.
        assert [target.session.id for target in server.seen[1].targets] == ["id-b"]


async def test_leaving_early_ends_the_stream() -> None:
    async with (
        serving([progress(0), events(1), Silence()]) as server,
        client_of(server) as client,
    ):
        async with client.watch("x") as watch:
            async for _ in watch:
                break
        async with asyncio.timeout(30):
            await server.cancelled.wait()


async def test_a_first_connection_that_never_comes_is_an_error() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen: nor can anybody else meanwhile
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        async with Client(address, token="brt_x", timeout=0.3, retry=QUICK) as client:
            with pytest.raises(bridle.ConnectionLostError, match=f"no answer from {address}"):
                await sequences(client.watch("x"))


async def test_the_synchronous_client_watches_too() -> None:
    first: list[Step] = [progress(0), events(1, 2), LOST]
    second: list[Step] = [progress(2), events(3), progress(3, ended=True)]
    async with serving(first, second, [events(1), Silence()]) as server:

        def watched() -> tuple[list[int], int]:
            with SyncClient(server.address, token="brt_x", retry=QUICK) as client:
                whole = [event.sequence for event in client.watch("x")]
                with client.watch("x") as watch:
                    return whole, next(watch).sequence

        assert await asyncio.to_thread(watched) == ([1, 2, 3], 1)
        async with asyncio.timeout(30):
            await server.cancelled.wait()
