"""Where a client connects, as whom, and what a stranger between the two gets to read."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridle import pki
from bridle_control.settings import Address, Settings
from scripts.client_tools import MissingError
from tests.bridle_control.serving import RunningControl, control_server, mint
from tests.clients.conftest import chosen
from tests.clients.odd_service import SPOILT, odd_service
from tests.clients.runners import Language, Runner, running
from tests.clients.test_calls import ref

pytestmark = pytest.mark.timeout(180)

OVER_GRPC = [each for each in chosen() if not each.over_http]
IN_PAGES = [each for each in chosen() if each.in_browser]
WHO = "IdentityService.WhoAmI"


def each(languages: list[Language]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("language", languages, ids=lambda language: language.name)


@asynccontextmanager
async def runner_of(language: Language, place: Path) -> AsyncIterator[Runner]:
    try:
        async with running(language, place) as runner:
            yield runner
    except MissingError as why:
        pytest.skip(f"{language.name}: {why}")


@asynccontextmanager
async def behind_tls(place: Path, *names: str) -> AsyncIterator[tuple[RunningControl, str, str]]:
    """Control with a certificate of an authority of its own: where, the authority, a token."""
    keys = place / "keys"
    authority = pki.make_authority(keys, 1)
    own = pki.make_control(keys, names, 1)
    settings = Settings(
        store=place / "store", listen=Address("127.0.0.1", 0), tls_cert=own.cert, tls_key=own.key
    )
    async with control_server(place / "store", settings=settings) as control:
        yield control, str(authority.cert), await mint(control.store, name="far")


@each(OVER_GRPC)
async def test_an_authority_of_ones_own_vouches_for_control_by_its_name(
    language: Language, tmp_path: Path
) -> None:
    async with (
        behind_tls(tmp_path / "right", "127.0.0.1") as (right, authority, token),
        behind_tls(tmp_path / "wrong", "control.example") as (wrong, others, other_token),
        runner_of(language, tmp_path) as runner,
    ):
        await runner.dial("c", str(right.address), token, authority=authority)
        assert "principal" in await runner.call(WHO)
        for name, address, vouching, secret in (
            ("misnamed", wrong.address, others, other_token),
            ("unknown", right.address, others, token),
        ):
            await runner.dial(name, str(address), secret, authority=vouching)
            refused = await runner.call(WHO, client=name)
            assert refused["error"]["reason"] == "", refused
            assert refused["error"]["code"] not in ("OK", "UNAUTHENTICATED"), refused


@each(OVER_GRPC)
async def test_an_authority_that_is_no_certificate_is_named(
    language: Language, tmp_path: Path
) -> None:
    (tmp_path / "none.pem").write_text("no certificate\n")
    async with runner_of(language, tmp_path) as runner:
        where = {"client": "c", "address": "127.0.0.1:1", "token": "brt_x"}
        order = runner.order("dial", **where, authority=str(tmp_path / "none.pem"))
        answer = await runner.next(order)
        if "refused" not in answer:  # Python's client reads it when it connects.
            answer = await runner.call(WHO)
        assert "none.pem" in str(answer), answer


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[str, list[bytes]]]:
    """Somebody who reads all that is sent to a name of this machine, and says nothing."""
    heard: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            heard.append(data)
            writer.close()  # (Else a client would wait for an answer.)

    name = socket.gethostname()  # which no client looks up to see whether it is this machine
    server = await asyncio.start_server(hear, name, 0, family=socket.AF_INET)
    async with server:
        yield f"{name}:{server.sockets[0].getsockname()[1]}", heard


@each(OVER_GRPC)
async def test_no_token_goes_in_plaintext_to_what_is_not_loopback(
    language: Language, tmp_path: Path
) -> None:
    async with listening() as (address, heard), runner_of(language, tmp_path) as runner:
        await runner.dial("c", address, "brt_secret")
        refused = await runner.call(WHO)
        assert refused["error"]["reason"] == ""
        assert heard
        assert all(first[:2] == b"\x16\x03" for first in heard), "a TLS handshake, and no more"
        assert b"brt_secret" not in b"".join(heard)


@each(IN_PAGES)
async def test_a_page_does_not_send_its_token_in_plaintext_to_what_is_not_loopback(
    language: Language, tmp_path: Path
) -> None:
    async with runner_of(language, tmp_path) as runner:
        for address in ("gateway.example:7421", "127.0.0.1.example:80", "127.0.0.1@x.example"):
            where = {"client": "c", "address": f"http://{address}", "token": "brt_secret"}
            answer = await runner.next(runner.order("dial", **where))
            assert "plaintext" in answer["refused"]


@each([each for each in OVER_GRPC if each.name != "python"])  # It keeps tokens by itself.
async def test_an_environment_without_a_token_is_refused(
    language: Language, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRIDLE_TOKEN", "")
    for name in ("SESSION", "TOKEN_FILE"):
        monkeypatch.delenv(f"BRIDLE_{name}", raising=False)
    async with runner_of(language, tmp_path) as runner:
        answer = await runner.next(runner.order("dial", client="c", environment=True))
        assert "refused" in answer, answer


@each(IN_PAGES)
async def test_a_page_may_name_the_gateway_by_a_path_of_its_own_origin(
    language: Language, tmp_path: Path
) -> None:
    async with runner_of(language, tmp_path) as runner:
        where = {"client": "c", "address": "/", "token": "brt_x", "transport": language.transport}
        assert await runner.next(runner.order("dial", **where)) == {"done": True}
        answer = await runner.call(WHO)
        # What serves the page is no gateway; but it was asked.
        assert answer["error"]["code"] == "UNIMPLEMENTED", answer


@each(OVER_GRPC)
async def test_inside_a_session_the_environment_names_the_sessions_own_token(
    language: Language, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with behind_tls(tmp_path / "control", "127.0.0.1") as (control, authority, token):
        (tmp_path / "token").write_text(f"{token}\n")
        for name, value in {
            "ADDRESS": str(control.address),
            "TLS_CA": authority,
            "TOKEN_FILE": str(tmp_path / "token"),
            "TOKEN": "brt_of_somebody_else",
            "SESSION": "me",
        }.items():
            monkeypatch.setenv(f"BRIDLE_{name}", value)
        async with runner_of(language, tmp_path) as runner:
            answer = await runner.next(runner.order("dial", client="c", environment=True))
            assert answer == {"done": True}
            assert (await runner.call(WHO))["principal"]["name"] == "far"


@each(OVER_GRPC)
async def test_what_is_no_address_is_refused(language: Language, tmp_path: Path) -> None:
    async with runner_of(language, tmp_path) as runner:
        for address in ("control", "127.0.0.1", "127.0.0.1:", "http://127.0.0.1:7420", "::1:7420"):
            where = {"client": "c", "address": address, "token": "brt_secret"}
            answer = await runner.next(runner.order("dial", **where))
            assert "refused" in answer, address


@each(OVER_GRPC)
async def test_details_that_nobody_can_read_end_a_call_as_others_do(
    language: Language, tmp_path: Path
) -> None:
    async with odd_service(tmp_path / "odd") as odd, runner_of(language, tmp_path) as runner:
        await runner.dial("c", odd.grpc, odd.token)
        for slug in SPOILT:
            assert "error" in await runner.call("GetSession", ref(slug))
