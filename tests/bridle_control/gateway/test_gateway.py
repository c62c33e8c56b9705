"""The browser gateway: the same gate, the same answers, by HTTP.

What each client does over it is shown by the suite of the clients; here is what it does for any.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from google.rpc import error_details_pb2

from bridle.v1 import session_pb2
from bridle_control.gateway.messages import Answer, JsonCodec
from bridle_control.gateway.server import HEALTH
from bridle_control.settings import Address, Settings, SettingsError, load
from tests.bridle_control.gateway.http_calls import SERVICE, call, raw, request, stream
from tests.bridle_control.serving import RunningControl, control_server, hold_end, mint

TLS = Path(__file__).parent.parent / "tls"
PAGE = "http://localhost:3000"


@asynccontextmanager
async def gateway(tmp_path: Path, **more: Any) -> AsyncIterator[tuple[RunningControl, str, str]]:
    """Control, the address of its gateway, and a token that may do everything."""
    settings = Settings(
        store=tmp_path / "store",
        listen=Address("127.0.0.1", 0),
        http_listen=Address("127.0.0.1", 0),
        http_origins=(PAGE,),
    )
    async with control_server(tmp_path / "store", settings=replace(settings, **more)) as control:
        yield control, str(control.http), await mint(control.store, name="page")


async def test_a_call_by_http_is_answered_as_one_by_grpc(tmp_path: Path) -> None:
    async with (
        gateway(tmp_path) as (_, address, token),
        call(address, "ListSessions", {"pageSize": 5}, token) as reply,
    ):
        assert (reply.status, await reply.json()) == (200, {})


@pytest.mark.parametrize(
    ("value", "token", "status", "code", "reason"),
    [
        ({"session": {"slug": "x"}}, "", 401, "unauthenticated", "TOKEN_MISSING"),
        ({"session": {"slug": "x"}}, "brt_no", 401, "unauthenticated", "TOKEN_INVALID"),
        ({"session": {"slug": "x"}}, None, 404, "not_found", "SESSION_NOT_FOUND"),
        ({"session": {"slug": "X!"}}, None, 400, "invalid_argument", "INVALID_REQUEST"),
        ({"session": 7}, None, 400, "invalid_argument", "INVALID_REQUEST"),
    ],
)
async def test_an_error_carries_its_code_its_reason_and_its_details(
    tmp_path: Path, value: object, token: str | None, status: int, code: str, reason: str
) -> None:
    async with gateway(tmp_path) as (_, address, own):
        used = own if token is None else token
        async with call(address, "GetSession", value, used) as reply:
            assert reply.status == status
            error = await reply.json()
        assert error["code"] == code
        info = error_details_pb2.ErrorInfo()
        found = next(each for each in error["details"] if each["type"] == "google.rpc.ErrorInfo")
        info.ParseFromString(base64.b64decode(found["value"] + "=="))
        assert (info.reason, info.domain) == (reason, "bridle.v1")


async def test_nothing_of_a_request_is_parsed_before_its_caller_is_known(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (_, address, token):
        for used, status in (("", 401), (token, 400)):
            async with raw(address, "GetSession", b"{ no json", used) as reply:
                assert reply.status == status


async def test_a_message_that_is_too_large_is_refused_with_its_reason(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (_, address, token):
        text = {"session": {"slug": "x"}, "content": [{"text": "a" * 5_000_000}]}
        async with call(address, "Send", text, token) as reply:
            error = await reply.json()
        assert error["code"] == "resource_exhausted"


async def test_a_stream_tells_each_thing_as_it_comes_and_ends_with_its_token(
    tmp_path: Path,
) -> None:
    async with gateway(tmp_path) as (control, address, _):
        token = await mint(control.store, name="brief")
        async with stream(address, "WatchSessions", {}, token) as reply:
            assert reply.status == 200
            assert await reply.frame() == (0, {"snapshotEnd": {}})
            await control.store.write(lambda tx: revoke(tx, "brief"))
            async with asyncio.timeout(30):
                flags, end = await reply.frame()
        assert flags == 2
        assert end["error"]["code"] == "unauthenticated"


def test_what_has_no_json_is_told_in_words_of_our_own() -> None:
    session = session_pb2.Session()
    session.create_time.seconds = 10**14  # JSON's times end with the year 9999
    with pytest.raises(ConnectError, match="this has no JSON: ask for binary") as told:
        JsonCodec().encode(Answer(session.SerializeToString(), session_pb2.Session))
    assert told.value.code is Code.INTERNAL


def revoke(tx: Any, name: str) -> None:
    """As RevokeToken does."""
    [row] = [row for row in tx.tokens(None) if row.name == name]
    tx.revoke_token(row.token_id)


async def test_open_streams_are_told_that_control_ends(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (control, address, token):
        async with stream(address, "WatchSessions", {}, token) as reply:
            await reply.frame()
            control.stop.set()
            flags, end = await reply.frame()
        assert (flags, end["error"]["code"]) == (2, "unavailable")


@pytest.mark.parametrize(("origin", "allowed"), [(PAGE, True), ("http://evil.example", False)])
async def test_only_pages_of_an_allowed_origin_may_call(
    tmp_path: Path, origin: str, allowed: bool
) -> None:
    async with (
        gateway(tmp_path) as (_, address, _),
        request(
            address,
            f"{SERVICE}/GetSession",
            verb="OPTIONS",
            origin=origin,
            access_control_request_method="POST",
            # With what OpenTelemetry sends along.
            access_control_request_headers="authorization,content-type,traceparent,baggage",
            # Of a page on the net, where control is on this machine.
            access_control_request_private_network="true",
        ) as reply,
    ):
        assert (reply.status == 200) is allowed
        assert (reply.headers.get("access-control-allow-origin") == origin) is allowed


async def test_a_client_that_speaks_grpc_is_told_that_this_is_not_the_port(
    tmp_path: Path,
) -> None:
    async with (
        gateway(tmp_path) as (_, address, _),
        request(address, f"{SERVICE}/GetSession", content_type="application/grpc") as reply,
    ):
        assert reply.status == 415


async def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (_, address, token):
        for path in ("/", f"{SERVICE}/Nothing", "/bridle.host.v1.HostLinkService/Enroll"):
            async with request(
                address,
                path,
                b"{}",
                content_type="application/json",
                authorization=f"Bearer {token}",
            ) as reply:
                assert reply.status == 404, path


async def test_balancers_see_whether_control_serves_and_need_no_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(tmp_path) as (control, address, _):
        async with request(address, HEALTH, verb="GET") as reply:
            assert (reply.status, await reply.body()) == (200, b"SERVING\n")
        go_on = hold_end(monkeypatch)
        control.stop.set()
        async with asyncio.timeout(20):
            status = 200
            while status == 200:
                async with request(address, HEALTH, verb="GET") as reply:
                    status, body = reply.status, await reply.body()
        assert (status, body) == (503, b"NOT_SERVING\n")
        go_on.set()


async def test_it_is_encrypted_as_the_other_port_is(tmp_path: Path) -> None:
    files = {"tls_cert": TLS / "cert.pem", "tls_key": TLS / "key.pem"}
    trusting = ssl.create_default_context(cafile=TLS / "cert.pem")
    trusting.check_hostname = False
    async with (
        gateway(tmp_path, **files) as (_, address, token),
        call(address, "ListSessions", {}, token, context=trusting) as reply,
    ):
        assert reply.status == 200


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ({"http_listen": "0.0.0.0:7421"}, "plaintext"),
        ({"http_origins": ["https://a.example"]}, "http-listen"),
        ({"http_listen": "127.0.0.1:0", "http_origins": ["a.example"]}, "no origin"),
        ({"http_listen": "127.0.0.1:0", "http_origins": ["https://a.example/"]}, "no origin"),
        # Browsers leave out the port that goes without saying.
        ({"http_listen": "127.0.0.1:0", "http_origins": ["https://a.example:443"]}, "no origin"),
        ({"http_listen": "127.0.0.1:0", "http_origins": ["http://[::1]:80"]}, "no origin"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(flags: dict[str, object], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        load({"store": "/tmp/x", **flags}, None)
