"""The gate: what stands before every handler, and what comes out of every failure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import grpc
import grpc.aio
import pytest

from bridle.host.v1 import host_link_service_pb2 as link_pb2
from bridle.v1 import content_pb2, identity_service_pb2, session_pb2, session_service_pb2
from bridle_control import caller as callers
from bridle_control.interceptor import MESSAGE_MAX, Context, is_local
from bridle_control.store.api import Store
from bridle_core.errors import BridleError, Reason
from tests.bridle_control.serving import bearer, fails, gate_server, mint, mint_host, opened, until

SESSION = "/bridle.v1.SessionService/"
GET, SEND, WATCH = SESSION + "GetSession", SESSION + "Send", SESSION + "Watch"
CONNECT = "/bridle.host.v1.HostLinkService/Connect"
CANARY = "canary-7b1c"

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]


class HostileError(Exception):
    """Nothing can be learnt from it without a fault."""

    def __str__(self) -> str:
        raise RuntimeError(CANARY)

    __repr__ = __str__


class BeyondError(BaseException):
    """Not even an Exception."""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened(tmp_path / "store") as made:
        yield made


def unary(behavior: Any, request: type[Any] | None = None) -> Handler:
    return grpc.unary_unary_rpc_method_handler(
        behavior,
        request.FromString if request else None,
        (lambda response: response.SerializeToString()) if request else None,
    )


def streaming(behavior: Any, serializer: Any = None) -> Handler:
    return grpc.unary_stream_rpc_method_handler(behavior, None, serializer)


def raising(error: BaseException) -> Any:
    async def behavior(request: Any, context: Context) -> bytes:
        raise error

    return behavior


async def echo(request: bytes, context: Context) -> bytes:
    return request


# --- who gets in -----------------------------------------------------------------------------


async def test_a_good_token_reaches_the_handler_which_knows_its_caller(store: Store) -> None:
    seen: list[callers.Caller] = []

    async def behavior(request: bytes, context: Context) -> bytes:
        seen.append(callers.current())
        return request

    secret = await mint(store, rights=("session.read",), workspace="default", name="eve")
    async with gate_server(store, {GET: unary(behavior)}) as server:
        assert await server.unary(GET)(b"hello", metadata=bearer(secret)) == b"hello"
    [caller] = seen
    assert caller.principal.name == "eve"
    assert (caller.workspace, caller.rights) == ("default", ("session.read",))


async def test_a_right_that_is_missing_is_named(store: Store) -> None:
    secret = await mint(store, rights=("session.read",))
    async with gate_server(store, {SEND: unary(echo)}) as server:
        found = await fails(server.unary(SEND)(b"", metadata=bearer(secret)))
    assert (found.code, found.reason) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_ALLOWED")
    assert found.metadata == {"right": "session.send"}


async def test_a_method_without_a_row_is_refused_to_everybody(store: Store) -> None:
    called = False

    async def behavior(request: bytes, context: Context) -> bytes:
        nonlocal called
        called = True
        return b""

    secret = await mint(store)
    async with gate_server(store, {SESSION + "Explode": unary(behavior)}) as server:
        with_token = await fails(server.unary(SESSION + "Explode")(b"", metadata=bearer(secret)))
        without = await fails(server.unary(SESSION + "Explode")(b""))
    assert (with_token.code, with_token.reason) == (
        grpc.StatusCode.PERMISSION_DENIED,
        "NOT_ALLOWED",
    )
    assert without.reason == "TOKEN_MISSING"
    assert not called


@pytest.mark.parametrize(
    "path",
    [
        SESSION + "NoSuch",
        "/bridle.v1.sessionservice/GetSession",
        "//bridle.v1.SessionService/GetSession",
        "/bridle.v1.SessionService//GetSession",
        "/bridle.v1.SessionService/GetSession/",
        "/bridle.v1.SessionService%2fGetSession",
        "/other.v1.SessionService/GetSession",
    ],
)
async def test_paths_that_are_not_exactly_a_method_reach_nobody(store: Store, path: str) -> None:
    secret = await mint(store)
    async with gate_server(store, {GET: unary(raising(AssertionError("reached")))}) as server:
        found = await fails(server.unary(path)(b"", metadata=bearer(secret)))
    assert found.code is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ((), "TOKEN_MISSING"),
        ((("authorization", ""),), "TOKEN_INVALID"),
        ((("authorization", "Bearer"),), "TOKEN_INVALID"),
        ((("authorization", "Bearer "),), "TOKEN_INVALID"),
        ((("authorization", "Basic dXNlcjpwYXNz"),), "TOKEN_INVALID"),
        ((("authorization", "Bearer brt_short"),), "TOKEN_INVALID"),
        ((("authorization", "Bearer brt_" + "A" * 43),), "TOKEN_INVALID"),
        ((("authorization", "Bearer brt_" + "A" * 43 + " "),), "TOKEN_INVALID"),
        ((("authorization", "Bearer brx_" + "A" * 43),), "TOKEN_INVALID"),
        ((("authorization", "Bearer " + "A" * 9000),), "TOKEN_INVALID"),
        ((("authorization", "brt_" + "A" * 43),), "TOKEN_INVALID"),
    ],
)
async def test_what_is_no_good_credential_is_refused_with_its_reason(
    store: Store, metadata: tuple[tuple[str, str], ...], reason: str
) -> None:
    async with gate_server(store, {GET: unary(echo)}) as server:
        found = await fails(server.unary(GET)(b"", metadata=metadata))
    assert (found.code, found.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason)
    assert "A" * 20 not in found.text


async def test_several_authorizations_are_refused_even_if_one_is_good(store: Store) -> None:
    secret = await mint(store)
    async with gate_server(store, {GET: unary(echo)}) as server:
        twice = (*bearer(secret), *bearer("brt_" + "A" * 43))
        found = await fails(server.unary(GET)(b"", metadata=twice))
        same = await fails(server.unary(GET)(b"", metadata=(*bearer(secret), *bearer(secret))))
    assert found.reason == same.reason == "TOKEN_INVALID"


async def test_the_scheme_may_be_written_in_any_case(store: Store) -> None:
    secret = await mint(store)
    async with gate_server(store, {GET: unary(echo)}) as server:
        metadata = (("authorization", f"bEARER {secret}"),)
        assert await server.unary(GET)(b"x", metadata=metadata) == b"x"


async def test_nothing_of_a_request_is_parsed_before_its_caller_is_known(store: Store) -> None:
    parsed: list[bytes] = []

    def parse(raw: bytes) -> bytes:
        parsed.append(raw)
        return raw

    handler: Handler = grpc.unary_unary_rpc_method_handler(cast("Any", echo), parse, None)
    async with gate_server(store, {GET: handler}) as server:
        await fails(server.unary(GET)(b"payload"))
    assert parsed == []


@pytest.mark.parametrize(
    ("peer", "local"),
    [
        ("ipv4:127.0.0.1:50000", True),
        ("ipv4:127.9.9.9:50000", True),
        ("ipv6:[::1]:50000", True),
        ("ipv6:%5B::1%5D:50000", True),
        ("ipv6:%5B::ffff:127.0.0.1%5D:50000", True),
        ("unix:/run/bridle", True),
        ("unix:", True),
        ("ipv4:10.0.0.1:50000", False),
        ("ipv6:%5B2001:db8::1%5D:50000", False),
        ("ipv6:%5B::ffff:10.0.0.1%5D:50000", False),
        ("ipv4:1270.0.0.1:50000", False),
        ("", False),
        ("unknown", False),
    ],
)
def test_who_is_on_this_machine(peer: str, local: bool) -> None:
    assert is_local(peer) is local


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """An HTTP/2 frame."""
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


def header(name: bytes, value: bytes) -> bytes:
    """A header as HPACK writes it without any compression, values below 127 bytes."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


async def test_a_token_of_bytes_that_are_no_text_is_refused_and_nobody_minds(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """What no grpc client would send: written to the socket by hand."""
    secret = await mint(store)
    async with gate_server(store, {GET: unary(echo)}) as server:
        host, port = server.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        headers = b"".join(
            header(name, value)
            for name, value in (
                (b":method", b"POST"),
                (b":scheme", b"http"),
                (b":path", GET.encode()),
                (b":authority", b"x"),
                (b"content-type", b"application/grpc"),
                (b"te", b"trailers"),
                (b"authorization", b"Bearer brt_\xff\xfe\xc3\x28" + "ä€".encode()),
            )
        )
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
        writer.write(frame(1, 4, 1, headers) + frame(0, 1, 1, b"\0\0\0\0\0"))
        # HEADERS that end the stream are its answer: trailers without a message.
        answered = False
        while not answered:
            head = await reader.readexactly(9)
            await reader.readexactly(int.from_bytes(head[:3], "big"))
            answered = head[3] in (1, 3) and int.from_bytes(head[5:], "big") == 1
        writer.close()
        await writer.wait_closed()
        assert await server.unary(GET)(b"x", metadata=bearer(secret)) == b"x"
    # (grpc's own log, which shows what it could not decode, is silenced where control runs.)
    ours = [record for record in caplog.records if record.name.startswith("bridle")]
    assert [cast("Any", record).bridle_fields["reason"] for record in ours] == ["TOKEN_INVALID"]


# --- requests --------------------------------------------------------------------------------


async def test_a_broken_rule_names_the_field_by_its_path(store: Store) -> None:
    secret = await mint(store)
    handlers = {SEND: unary(raising(AssertionError()), session_service_pb2.SendRequest)}
    request = session_service_pb2.SendRequest(
        session=session_pb2.SessionRef(slug="../etc"),
        content=[content_pb2.Content(text="x"), content_pb2.Content(text="")],
    )
    async with gate_server(store, handlers) as server:
        call = server.unary(SEND)(request.SerializeToString(), metadata=bearer(secret))
        found = await fails(call)
    assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert [path for path, _ in found.fields] == ["session.slug", "content[1].text"]
    assert "\n" not in found.text


async def test_a_key_of_a_map_is_shown_quoted_in_the_path(store: Store) -> None:
    secret = await mint(store)
    start = SESSION + "StartSession"
    handlers = {start: unary(raising(AssertionError()), session_service_pb2.StartSessionRequest)}
    request = session_service_pb2.StartSessionRequest(
        slug="a", agent="shell", labels={"evil\nkey": "x"}
    )
    async with gate_server(store, handlers) as server:
        call = server.unary(start)(request.SerializeToString(), metadata=bearer(secret))
        found = await fails(call)
    assert [path for path, _ in found.fields] == ["labels['evil\\nkey']"]


async def test_what_the_validator_chokes_on_is_an_invalid_request(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Choking:
        def collect_violations(self, message: object) -> list[object]:
            raise ValueError(CANARY)

    monkeypatch.setattr("bridle_control.validation._validator", Choking())
    secret = await mint(store)
    handlers = {SEND: unary(raising(AssertionError()), session_service_pb2.SendRequest)}
    async with gate_server(store, handlers) as server:
        found = await fails(server.unary(SEND)(b"", metadata=bearer(secret)))
    assert found.reason == "INVALID_REQUEST"
    assert CANARY not in found.raw


async def test_bytes_that_are_no_message_are_an_invalid_request(store: Store) -> None:
    secret = await mint(store)
    handlers = {SEND: unary(raising(AssertionError()), session_service_pb2.SendRequest)}
    async with gate_server(store, handlers) as server:
        for junk in (b"\xff\xff\xff", b"\x0a\x05ab", bytes(range(256)), b"\x12\x02\x12\xff"):
            found = await fails(server.unary(SEND)(junk, metadata=bearer(secret)))
            assert found.reason == "INVALID_REQUEST"


async def test_a_message_that_is_too_large_is_told_so_in_one_line(store: Store) -> None:
    secret = await mint(store)
    async with gate_server(store, {SEND: unary(echo)}) as server:
        found = await fails(server.unary(SEND)(b"x" * 5_000_000, metadata=bearer(secret)))
        fits = await server.unary(SEND)(b"x" * (MESSAGE_MAX - 100), metadata=bearer(secret))
        beyond = await fails(server.unary(SEND)(b"x" * 20_000_000, metadata=bearer(secret)))
    assert (found.code, found.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "MESSAGE_TOO_LARGE",
    )
    assert found.metadata == {"limit": str(MESSAGE_MAX)}
    assert len(fits) == MESSAGE_MAX - 100
    # Past the transport's own limit grpc refuses by itself, before anybody knows who calls.
    assert beyond.code is grpc.StatusCode.RESOURCE_EXHAUSTED


# --- failures --------------------------------------------------------------------------------


async def test_a_bridle_error_becomes_a_status_with_all_its_details(store: Store) -> None:
    error = BridleError(
        Reason.NO_HOST,
        "no host\nhas room",
        metadata={"agent": "shell\x1b[31m"},
        retry_after=2.5,
    )
    secret = await mint(store)
    async with gate_server(store, {GET: unary(raising(error))}) as server:
        found = await fails(server.unary(GET)(b"", metadata=bearer(secret)))
    assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "NO_HOST")
    assert found.text == "no host\\nhas room"
    assert found.metadata == {"agent": "shell\\x1b[31m"}
    assert found.retry_seconds == 2.5


@pytest.mark.parametrize(
    "error",
    [
        ValueError(CANARY),
        HostileError(CANARY),
        BeyondError(CANARY),
        ExceptionGroup(CANARY, [ValueError(CANARY)]),
        NotImplementedError(CANARY),
        StopAsyncIteration(CANARY),
        TimeoutError(CANARY),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_any_other_failure_is_an_id_and_its_text_never_leaves(
    store: Store, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async def generating(request: bytes, context: Context) -> AsyncIterator[bytes]:
        yield b"one"
        raise error

    secret = await mint(store)
    handlers = {
        GET: unary(raising(error)),
        WATCH: streaming(generating),
    }
    async with gate_server(store, handlers) as server:
        for call in (server.unary(GET), server.stream(WATCH)):
            caplog.clear()
            found = await fails(call(b"", metadata=bearer(secret), timeout=10))
            assert (found.code, found.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
            assert CANARY not in found.raw
            [record] = [r for r in caplog.records if r.levelno >= logging.ERROR]
            assert cast("Any", record).bridle_fields["id"] == found.metadata["id"]
            assert found.metadata["id"] in found.text


async def test_a_failure_after_the_client_has_gone_is_not_reported_as_a_fault(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    over = asyncio.Event()

    async def stubborn(request: bytes, context: Context) -> bytes:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError(CANARY) from None
        finally:
            over.set()
        return b""

    secret = await mint(store)
    async with gate_server(store, {GET: unary(stubborn)}) as server:
        call = server.unary(GET)(b"", metadata=bearer(secret))
        await until(lambda: len(server.open_calls) == 1)
        call.cancel()
        await over.wait()
        await until(lambda: len(server.open_calls) == 0)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_client_that_goes_while_an_answer_is_being_written_is_no_fault(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    written = 0

    async def endless(request: bytes, context: Context) -> AsyncIterator[bytes]:
        nonlocal written
        while True:
            yield b"x" * MESSAGE_MAX
            written += 1

    async def stuck() -> None:
        """Until the client's window is full, and an answer waits for it."""
        before = -1
        while written > before:
            before = written
            await asyncio.sleep(0.2)

    secret = await mint(store)
    async with gate_server(store, {WATCH: streaming(endless)}) as server:
        for _ in range(4):
            written = 0
            call = server.stream(WATCH)(b"", metadata=bearer(secret))
            await call.read()
            await stuck()
            call.cancel()
            await until(lambda: len(server.open_calls) == 0)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_method_that_a_service_has_not_taken_over_is_a_missing_capability(
    store: Store,
) -> None:
    def base(request: bytes, context: Context) -> bytes:
        raise NotImplementedError("Method not implemented!")

    secret = await mint(store)
    async with gate_server(store, {GET: unary(base)}) as server:
        found = await fails(server.unary(GET)(b"", metadata=bearer(secret)))
    assert (found.code, found.reason) == (grpc.StatusCode.UNIMPLEMENTED, "CAPABILITY_MISSING")
    assert found.metadata == {"capability": "GetSession"}


async def test_an_answer_that_can_not_be_serialized_is_an_internal_error(store: Store) -> None:
    async def behavior(request: Any, context: Context) -> Any:
        return object()

    secret = await mint(store)
    handlers = {GET: unary(behavior, identity_service_pb2.WhoAmIRequest)}
    async with gate_server(store, handlers) as server:
        found = await fails(server.unary(GET)(b"", metadata=bearer(secret)))
    assert found.reason == "INTERNAL"


# --- shapes of handlers ----------------------------------------------------------------------


async def test_a_handler_may_write_by_itself_messages_or_bytes(store: Store) -> None:
    async def writing(request: Any, context: Context) -> None:
        await context.write(link_pb2.ConnectResponse(goodbye=link_pb2.Goodbye(reason="a")))
        second = link_pb2.ConnectResponse(goodbye=link_pb2.Goodbye(reason="b"))
        await context.write(second.SerializeToString())

    handler = streaming(writing, link_pb2.ConnectResponse.SerializeToString)
    secret = await mint(store)
    async with gate_server(store, {WATCH: handler}) as server:
        found = [
            link_pb2.ConnectResponse.FromString(raw).goodbye.reason
            async for raw in server.stream(WATCH)(b"", metadata=bearer(secret))
        ]
    assert found == ["a", "b"]


async def test_a_generator_is_closed_when_its_client_goes_away(store: Store) -> None:
    closed = asyncio.Event()

    async def generating(request: bytes, context: Context) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x"
                await asyncio.sleep(0.001)
        finally:
            closed.set()

    handler = streaming(generating)
    secret = await mint(store)
    async with gate_server(store, {WATCH: handler}) as server:
        call = server.stream(WATCH)(b"", metadata=bearer(secret))
        assert await call.read() == b"x"
        call.cancel()
        await closed.wait()
        await until(lambda: len(server.open_calls) == 0)


async def test_the_first_message_of_a_stream_is_checked_and_each_is_parsed_with_care(
    store: Store,
) -> None:
    async def bidi(requests: AsyncIterator[Any], context: Context) -> None:
        async for request in requests:
            await context.write(request.goodbye.reason.encode())

    handler: Handler = grpc.stream_stream_rpc_method_handler(
        cast("Any", bidi), link_pb2.ConnectRequest.FromString, None
    )
    secret = await mint_host(store)
    hello = link_pb2.Hello(incarnation="i" * 8, journal_id="j" * 8)
    async with gate_server(store, {CONNECT: handler}) as server:

        async def exchange(*messages: bytes) -> Any:
            connect: Any = server.channel.stream_stream(CONNECT)
            return await fails(connect(iter(messages), metadata=bearer(secret)))

        bad_hello = link_pb2.ConnectRequest(hello=link_pb2.Hello()).SerializeToString()
        good_hello = link_pb2.ConnectRequest(hello=hello).SerializeToString()
        found = await exchange(bad_hello)
        assert found.reason == "INVALID_REQUEST"
        assert found.fields[0][0] == "hello.incarnation"
        assert (await exchange(good_hello, b"\xff")).reason == "INVALID_REQUEST"
        assert (await exchange(good_hello, b"x" * 5_000_000)).reason == "MESSAGE_TOO_LARGE"


# --- limits and the end ----------------------------------------------------------------------


async def test_beyond_the_limit_of_open_calls_more_are_told_to_wait(store: Store) -> None:
    release = asyncio.Event()

    async def behavior(request: bytes, context: Context) -> bytes:
        await release.wait()
        return request

    secret = await mint(store)
    async with gate_server(store, {GET: unary(behavior)}, calls_max=1) as server:
        first = server.unary(GET)(b"1", metadata=bearer(secret))
        await until(lambda: len(server.open_calls) == 1)
        found = await fails(server.unary(GET)(b"2", metadata=bearer(secret)))
        release.set()
        assert await first == b"1"
    assert found.reason == "RATE_LIMITED"
    assert found.retry_seconds == 1.0


async def test_one_connection_can_not_take_all_the_calls(store: Store) -> None:
    release = asyncio.Event()

    async def behavior(request: bytes, context: Context) -> bytes:
        await release.wait()
        return request

    token = bearer(await mint(store))
    handlers = {GET: unary(behavior), SEND: unary(echo)}
    async with gate_server(store, handlers, connection_calls_max=1) as server:
        first = server.unary(GET)(b"1", metadata=token)
        await until(lambda: len(server.open_calls) == 1)
        assert (await fails(server.unary(SEND)(b"2", metadata=token))).reason == "RATE_LIMITED"
        own = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(server.address, own) as another:
            call: Any = another.unary_unary(SEND)
            assert await call(b"3", metadata=token) == b"3"
        release.set()
        assert await first == b"1"
        # And the place is given back.
        assert await server.unary(SEND)(b"4", metadata=token) == b"4"


async def test_callers_without_a_token_can_not_keep_the_others_out(store: Store) -> None:
    health = "/grpc.health.v1.Health/Watch"

    async def watching(request: bytes, context: Context) -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    secret = await mint(store)
    handlers = {health: streaming(watching), GET: unary(echo)}
    async with gate_server(store, handlers, calls_max=8) as server:
        first = server.stream(health)(b"")
        assert await first.read() == b"x"
        assert (await fails(server.stream(health)(b""))).reason == "RATE_LIMITED"
        assert await server.unary(GET)(b"x", metadata=bearer(secret)) == b"x"
        first.cancel()


async def test_a_flood_of_calls_that_are_cancelled_at_once_leaves_nothing(store: Store) -> None:
    async def watching(request: bytes, context: Context) -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    secret = await mint(store)
    handlers = {WATCH: streaming(watching), GET: unary(echo)}
    async with gate_server(store, handlers) as server:
        for _ in range(300):
            server.stream(WATCH)(b"", metadata=bearer(secret)).cancel()
        opened_calls = [server.stream(WATCH)(b"", metadata=bearer(secret)) for _ in range(50)]
        for call in opened_calls:
            assert await call.read() == b"x"
            call.cancel()
        await until(lambda: len(server.open_calls) == 0)
        assert await server.unary(GET)(b"x", metadata=bearer(secret)) == b"x"


async def test_new_calls_are_told_that_the_service_shuts_down(store: Store) -> None:
    secret = await mint(store)
    async with gate_server(store, {GET: unary(echo)}) as server:
        server.gate.refuse_new_calls()
        found = await fails(server.unary(GET)(b"", metadata=bearer(secret)))
    assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
    assert found.retry_seconds == 1.0


async def test_at_the_end_streams_go_at_once_and_short_calls_after_a_grace(store: Store) -> None:
    async def waiting(request: bytes, context: Context) -> bytes:
        await asyncio.Event().wait()
        return b""

    async def watching(request: bytes, context: Context) -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    handlers = {
        GET: unary(waiting),
        WATCH: streaming(watching),
    }
    secret = await mint(store)
    async with gate_server(store, handlers) as server:
        watch = server.stream(WATCH)(b"", metadata=bearer(secret))
        assert await watch.read() == b"x"
        short = server.unary(GET)(b"", metadata=bearer(secret))
        await until(lambda: len(server.open_calls) == 2)
        ending = asyncio.create_task(
            server.open_calls.end_all(BridleError(Reason.SHUTTING_DOWN, "bye"), 0.05)
        )
        assert (await fails(watch)).reason == "SHUTTING_DOWN"
        assert (await fails(short)).reason == "SHUTTING_DOWN"
        await ending
