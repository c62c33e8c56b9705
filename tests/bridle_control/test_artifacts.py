"""ReadArtifact: from the host that had the run to the caller, bounded, or an error in words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from bridle.host.v1 import host_link_service_pb2 as wire
from bridle.v1 import event_pb2, session_pb2
from bridle.v1 import session_service_pb2 as pb
from bridle_control.links import artifacts
from bridle_control.links.artifacts import MOST_OF_HOST, PIECE_MAX, WINDOW, ArtifactRead
from bridle_core.errors import BridleError, Reason
from tests.bridle_control.serving import fails
from tests.bridle_control.stack import Stack, ref
from tests.fakes.host import FakeHost

PIECE = b"x" * PIECE_MAX


async def ended(
    stack: Stack, host: FakeHost, *names: str, run: int = 1, session: Any = None
) -> session_pb2.Session:
    """A session that was stopped and reported artifacts of these names."""
    made: session_pb2.Session = session or await stack.start(host)
    report = event_pb2.ArtifactsReported(
        artifacts=[event_pb2.Artifact(name=name, size=3) for name in names]
    )
    host.event(made.session_id, run, artifacts_reported=report)
    host.over(made.session_id, run)

    async def stored() -> bool:
        kinds = await stack.kinds(made.session_id)
        return kinds.count("session_ended") >= run

    await stack.eventually(stored, True)
    return made


class Reading:
    """A ReadArtifact that is on; what has come of it."""

    def __init__(self, stack: Stack, session: session_pb2.Session, name: str, **more: int) -> None:
        request = pb.ReadArtifactRequest(session=ref(session), name=name, **more)
        self.call: Any = stack.sessions.ReadArtifact(request, metadata=stack.admin)

    async def piece(self) -> pb.ReadArtifactResponse:
        async with asyncio.timeout(10):
            found = await self.call.read()
        assert isinstance(found, pb.ReadArtifactResponse)
        return found

    async def rest(self) -> bytes:
        got = bytearray()
        async with asyncio.timeout(10):
            while isinstance(piece := await self.call.read(), pb.ReadArtifactResponse):
                got += piece.data
        return bytes(got)


async def asked(host: FakeHost, count: int = 1) -> wire.ReadArtifact:
    """What control asked for, the newest."""
    await host.until(lambda: len(host.wanted) >= count)
    return host.wanted[-1]


async def opening(host: FakeHost, wanted: wire.ReadArtifact, size: int) -> Any:
    """The host's call, in which it has said that the artifact is there."""
    call = host.send_artifact()
    opened = wire.Opened(size=size)
    await call.write(wire.SendArtifactRequest(read_id=wanted.read_id, opened=opened))
    return call


async def code_of(call: Any) -> grpc.StatusCode:
    """How a host's call ended; what it may send is no longer of interest."""
    async with asyncio.timeout(10):
        try:
            while await call.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError as error:
            return error.code()
        found: grpc.StatusCode = await call.code()
        return found


async def say(call: Any, **what: Any) -> None:
    await call.write(wire.SendArtifactRequest(**what))


async def test_an_artifact_goes_from_the_host_of_its_run_to_the_caller(stack: Stack) -> None:
    host = await stack.host()
    session = await ended(stack, host, "a")
    reading = Reading(stack, session, "a", offset=2)
    wanted = await asked(host)
    assert (wanted.session_id, wanted.run, wanted.name) == (session.session_id, 1, "a")
    assert wanted.offset == 2
    assert len(wanted.read_id) >= 32
    call = await opening(host, wanted, 5)
    assert (await reading.piece()).size == 5
    await say(call, data=b"ab")
    await say(call, data=b"c")
    await say(call, done=wire.Done())
    assert await reading.rest() == b"abc"
    assert await code_of(call) is grpc.StatusCode.OK


async def test_an_earlier_run_is_asked_of_the_host_that_had_it(stack: Stack) -> None:
    first, second = await stack.host("first"), await stack.host("second")
    session = await ended(stack, first, "a")
    resume = pb.ResumeRequest(session=ref(session), host="second", request_id=stack.new_id())
    answer = asyncio.ensure_future(stack.sessions.Resume(resume, metadata=stack.admin))
    start = await second.command("start")
    second.started(start)
    await answer
    await ended(stack, second, "b", run=2, session=session)
    for name, run, host in (("a", 1, first), ("b", 2, second), ("b", 0, second)):
        reading = Reading(stack, session, name, run=run)
        wanted = await asked(host, len(host.wanted) + 1)
        assert (wanted.name, wanted.run) == (name, run or 2)
        reading.call.cancel()
    failure = await fails(Reading(stack, session, "a").call)
    assert failure.reason == "ARTIFACT_NOT_FOUND"


async def test_what_was_not_reported_is_not_there_and_no_host_is_asked(stack: Stack) -> None:
    host = await stack.host()
    session = await ended(stack, host, "a")
    for name, run in (("b", 0), ("a", 7), ("../a", 0), ("a/", 1)):
        failure = await fails(Reading(stack, session, name, run=run).call)
        assert (failure.reason, failure.code) == ("ARTIFACT_NOT_FOUND", grpc.StatusCode.NOT_FOUND)
        assert failure.metadata["artifact"] == name
    assert host.wanted == []


async def test_what_the_host_no_longer_has_is_not_there(stack: Stack) -> None:
    host = await stack.host()
    session = await ended(stack, host, "a")
    reading = Reading(stack, session, "a")
    wanted = await asked(host)
    call = host.send_artifact()
    await say(call, read_id=wanted.read_id, missing=wire.Missing())
    assert (await fails(reading.call)).reason == "ARTIFACT_NOT_FOUND"


async def test_a_host_that_is_away_or_says_nothing_is_told_of(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = await stack.host()
    session = await ended(stack, host, "a")
    monkeypatch.setattr(artifacts, "PATIENCE", 0.05)
    failure = await fails(Reading(stack, session, "a").call)
    assert (failure.reason, failure.code) == ("HOST_UNREACHABLE", grpc.StatusCode.UNAVAILABLE)
    await host.drop()
    await stack.until(lambda: not stack.links.is_live(host.host_id))
    failure = await fails(Reading(stack, session, "a").call)
    assert failure.reason == "HOST_UNREACHABLE"


async def test_a_host_that_goes_in_mid_read_ends_it_with_an_error(stack: Stack) -> None:
    host = await stack.host()
    session = await ended(stack, host, "a")
    ways: tuple[Callable[[Any], Any], ...] = (
        lambda call: call.done_writing(),  # a lost channel looks like this at first
        lambda call: _cancelled(call),
        lambda call: host.drop(),
    )
    for number, go in enumerate(ways, 1):
        reading = Reading(stack, session, "a")
        call = await opening(host, await asked(host, number), 10)
        await say(call, data=b"ab")
        await reading.piece()
        assert (await reading.piece()).data == b"ab"
        await go(call)
        assert (await fails(reading.call)).reason == "HOST_UNREACHABLE"


async def _cancelled(call: Any) -> None:
    call.cancel()


async def test_a_reader_who_leaves_ends_the_hosts_call(stack: Stack) -> None:
    host = await stack.host()
    session = await ended(stack, host, "a")
    reading = Reading(stack, session, "a")
    call = await opening(host, await asked(host), 10 * WINDOW)
    await reading.piece()
    reading.call.cancel()
    assert await code_of(call) is grpc.StatusCode.OK


async def test_no_more_than_the_window_comes_before_it_is_read(stack: Stack) -> None:
    host = await stack.host()
    session = await ended(stack, host, "a")
    reading = Reading(stack, session, "a")
    call = await opening(host, await asked(host), 100 * WINDOW)
    allowed = (await call.read()).allowed
    assert allowed == WINDOW
    for _ in range(WINDOW // PIECE_MAX):
        await say(call, data=PIECE)
    taken = 0
    while taken < WINDOW:
        taken += len((await reading.piece()).data)
    async with asyncio.timeout(10):
        while allowed < 2 * WINDOW:
            allowed = (await call.read()).allowed
    assert allowed == 2 * WINDOW


@pytest.mark.parametrize(
    "said",
    [
        [{"data": b"x"}],
        [{"done": wire.Done()}],
        [{"opened": wire.Opened(size=1)}, {"opened": wire.Opened(size=1)}],
        [{"opened": wire.Opened(size=1)}, {"missing": wire.Missing()}],
        [{"opened": wire.Opened(size=1)}, {"data": PIECE + b"x"}],
    ],
    ids=["data first", "done first", "twice", "both", "a piece too large"],
)
async def test_a_host_that_breaks_the_rules_is_told_and_the_read_ends(
    stack: Stack, said: list[dict[str, Any]]
) -> None:
    host = await stack.host()
    session = await ended(stack, host, "a")
    reading = Reading(stack, session, "a")
    wanted = await asked(host)
    call = host.send_artifact()
    try:
        for number, what in enumerate(said):
            await say(call, **what, read_id="" if number else wanted.read_id)
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        pass  # it was told already
    assert await code_of(call) is grpc.StatusCode.FAILED_PRECONDITION
    reading.call.cancel()


async def test_bytes_beyond_the_window_break_the_rules_until_some_were_read() -> None:
    read = ArtifactRead("host")
    read.take(wire.SendArtifactRequest(opened=wire.Opened(size=100 * WINDOW)))
    for _ in range(WINDOW // PIECE_MAX):
        assert read.take(wire.SendArtifactRequest(data=PIECE))
    pieces = read.pieces()
    assert await anext(pieces) == PIECE
    assert await anext(pieces) == PIECE  # the first one is taken now
    assert read.take(wire.SendArtifactRequest(data=PIECE))
    with pytest.raises(BridleError) as refused:
        read.take(wire.SendArtifactRequest(data=b"x"))
    assert refused.value.reason is Reason.VERSION_UNSUPPORTED
    await pieces.aclose()


async def test_only_the_host_that_was_asked_may_bring_it_and_once(stack: Stack) -> None:
    host, other = await stack.host("one"), await stack.host("two")
    session = await ended(stack, host, "a")
    reading = Reading(stack, session, "a")
    wanted = await asked(host)
    opened = wire.Opened(size=1)
    for who, read_id in ((other, wanted.read_id), (host, "guessed"), (host, wanted.read_id + "x")):
        call = who.send_artifact()
        await say(call, read_id=read_id, opened=opened)
        assert (await fails(call)).reason == "ARTIFACT_NOT_FOUND"
    call = await opening(host, wanted, 1)
    await reading.piece()
    again = host.send_artifact()
    await say(again, read_id=wanted.read_id, opened=opened)
    assert (await fails(again)).reason == "ARTIFACT_NOT_FOUND"
    await say(call, data=b"a")
    await say(call, done=wire.Done())
    assert await reading.rest() == b"a"


async def test_so_many_reads_of_a_host_are_open_at_once(stack: Stack) -> None:
    host = await stack.host()
    session = await ended(stack, host, "a")
    readings = [Reading(stack, session, "a") for _ in range(MOST_OF_HOST)]
    await asked(host, MOST_OF_HOST)
    failure = await fails(Reading(stack, session, "a").call)
    assert (failure.reason, failure.code) == (
        "RATE_LIMITED",
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    )
    for reading in readings:
        reading.call.cancel()

    one_more = 0
    async with asyncio.timeout(20):
        while len(host.wanted) == MOST_OF_HOST:  # as soon as control has seen one of them leave
            again = Reading(stack, session, "a")
            readings.append(again)
            one_more += 1
            await asyncio.wait({asyncio.ensure_future(again.call.initial_metadata())}, timeout=0.1)
            again.call.cancel()
    assert one_more


async def test_hosts_are_told_of_deleted_sessions_at_once_or_when_they_come(stack: Stack) -> None:
    host = await stack.host()
    one, two = [
        await ended(stack, host, "a", session=await stack.start(host, slug)) for slug in ("x", "y")
    ]

    async def delete(session: session_pb2.Session) -> None:
        request = pb.DeleteSessionRequest(session=ref(session))
        await stack.sessions.DeleteSession(request, metadata=stack.admin)

    await delete(one)
    await host.until(lambda: host.forgotten == [one.session_id])
    await host.drop()
    await delete(two)
    # Of a session that it merely doesn't know this control says nothing.
    host.kept = [two.session_id, "01a1fd05-0000-7000-8000-000000000000"]
    await host.connect()
    await host.until(lambda: host.forgotten == [one.session_id, two.session_id])
