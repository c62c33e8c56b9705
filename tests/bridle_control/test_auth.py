"""Credentials: kinds, ends in time, revocation, and the calls that end with them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from bridle.v1 import principal_pb2, session_pb2
from bridle_control import caller as callers
from bridle_control.auth import Authenticator
from bridle_control.interceptor import Context
from bridle_control.store.api import ReadTx, SessionRow, Store, Tx, WorkspaceRow
from bridle_control.store.sqlite import SqliteStore
from bridle_control.tokens import (
    SESSION_TOKEN_TTL_NS,
    hash_secret,
    kind_of,
    mint_join_token,
    mint_session_token,
    new_secret,
    session_token_is_due,
)
from bridle_core.errors import BridleError, Reason
from bridle_core.rights import CredentialKind, session_token_rights
from tests.bridle_control.serving import bearer, fails, gate_server, mint, mint_host, opened, until
from tests.support.pace import paced

SESSION = "/bridle.v1.SessionService/"
GET, WATCH, WAIT = SESSION + "GetSession", SESSION + "Watch", SESSION + "GetCommand"
ENROLL = "/bridle.host.v1.HostLinkService/Enroll"
CONNECT = "/bridle.host.v1.HostLinkService/Connect"
CHANNELZ = "/grpc.channelz.v1.Channelz/GetServers"
HEALTH = "/grpc.health.v1.Health/Check"
SECOND = 10**9


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened(tmp_path / "store") as made:
        yield made


async def whoami(request: bytes, context: Context) -> bytes:
    caller = callers.current()
    return f"{caller.kind.name} {caller.principal.id} {caller.principal.name}".encode()


async def open_end(request: bytes, context: Context) -> AsyncIterator[bytes]:
    yield b"open"
    await asyncio.Event().wait()


async def open_unary(request: bytes, context: Context) -> bytes:
    await asyncio.Event().wait()
    return b""


def unary(behavior: Any = whoami) -> Any:
    return grpc.unary_unary_rpc_method_handler(behavior)


def stream(behavior: Any = open_end) -> Any:
    return grpc.unary_stream_rpc_method_handler(behavior)


ALL = {
    GET: unary(),
    ENROLL: unary(),
    CHANNELZ: unary(),
    WATCH: stream(),
    WAIT: unary(open_unary),
}


def session_row(session_id: str, *, run: int = 1, parent: str = "") -> SessionRow:
    return SessionRow(
        session_id=session_id,
        workspace="default",
        slug=f"slug-{session_id}",
        agent="shell",
        host_id="host",
        phase=session_pb2.PHASE_IDLE,
        run=run,
        create_time=1,
        update_time=1,
        parent_session_id=parent,
    )


async def start_session(store: Store, session_id: str = "s1") -> str:
    """A live session; its own token's secret."""

    def make(tx: Tx) -> str:
        row = session_row(session_id)
        tx.insert_session(row)
        return mint_session_token(tx, row, 1).secret

    return await store.write(make)


async def change_session(store: Store, **changes: Any) -> None:
    def change(tx: Tx) -> None:
        row = tx.session("s1")
        assert row is not None
        tx.update_session(replace(row, **changes))

    await store.write(change)


async def revoke(store: Store, secret: str) -> None:
    def do(tx: Tx) -> None:
        row = tx.token_by_hash(hash_secret(secret))
        assert row is not None
        tx.revoke_token(row.token_id)

    await store.write(do)


# --- secrets ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(CredentialKind))
def test_a_secret_tells_its_kind_and_holds_256_bits(kind: CredentialKind) -> None:
    secrets = {new_secret(kind) for _ in range(100)}
    assert len(secrets) == 100
    for secret in secrets:
        assert kind_of(secret) is kind
        assert len(secret) == 4 + 43


@pytest.mark.parametrize("text", ["", "brt_", "brt_" + "A" * 42, "brt_" + "A" * 44, "x" * 9000])
def test_what_is_no_secret_has_no_kind(text: str) -> None:
    assert kind_of(text) is None
    assert kind_of("brt_" + "A" * 42 + "\n") is None
    assert kind_of("brt_" + "Ä" * 43) is None


async def test_the_store_holds_no_secret(store: Store, tmp_path: Path) -> None:
    secrets = [await mint(store), await mint_host(store), await start_session(store)]
    secrets.append(
        (
            await store.write(lambda tx: mint_join_token(tx, workspace="default", expire_time=1))
        ).secret
    )
    files = [path for path in (tmp_path / "store").iterdir() if path.is_file()]
    assert any(path.stat().st_size for path in files)
    for path in files:
        held = path.read_bytes()
        for secret in secrets:
            assert secret.encode() not in held
            assert secret[4:].encode() not in held


# --- kinds -----------------------------------------------------------------------------------


async def test_each_kind_of_credential_opens_its_own_methods_and_no_others(store: Store) -> None:
    join = await store.write(
        lambda tx: mint_join_token(tx, workspace="default", expire_time=tx.now + 60 * SECOND)
    )
    user, host, session = await mint(store), await mint_host(store), await start_session(store)
    async with gate_server(store, ALL) as server:
        for secret, opens in (
            (user, {GET}),
            (session, {GET}),
            (host, set()),
            (join.secret, {ENROLL}),
        ):
            for method in (GET, ENROLL):
                call = server.unary(method)(b"", metadata=bearer(secret))
                if method in opens:
                    await call
                else:
                    found = await fails(call)
                    assert (found.code, found.reason) == (
                        grpc.StatusCode.UNAUTHENTICATED,
                        "TOKEN_INVALID",
                    )


async def test_a_session_is_told_by_its_own_token(store: Store) -> None:
    secret = await start_session(store)
    async with gate_server(store, ALL) as server:
        told = await server.unary(GET)(b"", metadata=bearer(secret))
    assert told == b"SESSION s1 slug-s1"


async def test_a_session_token_holds_its_few_rights(store: Store) -> None:
    secret = await start_session(store)
    approve = SESSION + "Respond"
    async with gate_server(store, {approve: unary()}) as server:
        found = await fails(server.unary(approve)(b"", metadata=bearer(secret)))
    assert found.metadata == {"right": "session.approve"}
    assert "session.approve" not in session_token_rights()


async def test_channelz_answers_callers_on_this_machine_who_may_debug(store: Store) -> None:
    debug, other = (
        await mint(store, rights=("control.debug",)),
        await mint(store, rights=("host.*",)),
    )
    async with gate_server(store, ALL) as server:
        await server.unary(CHANNELZ)(b"", metadata=bearer(debug))
        found = await fails(server.unary(CHANNELZ)(b"", metadata=bearer(other)))
        assert found.reason == "NOT_ALLOWED"


async def test_health_needs_no_token_and_minds_no_bad_one(store: Store) -> None:
    async def check(request: bytes, context: Context) -> bytes:
        return b"ok"

    async with gate_server(store, {HEALTH: unary(check)}) as server:
        assert await server.unary(HEALTH)(b"") == b"ok"
        assert await server.unary(HEALTH)(b"", metadata=bearer("garbage")) == b"ok"


# --- ends ------------------------------------------------------------------------------------


async def test_a_token_that_has_expired_is_told_so(store: Store) -> None:
    past = await mint(store, expire_time=time.time_ns() - SECOND)
    async with gate_server(store, ALL) as server:
        found = await fails(server.unary(GET)(b"", metadata=bearer(past)))
    assert (found.code, found.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")


async def test_a_token_that_expires_while_it_is_remembered_is_told_so(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    expire = time.time_ns() + 3600 * SECOND
    secret = await mint(store, expire_time=expire)
    authenticator = Authenticator(store, lambda: 0.0)  # what is remembered stays so
    kinds = frozenset({CredentialKind.USER})
    assert (await authenticator.authenticate(bearer(secret), kinds)).expire_time == expire
    # By the store's clock, which is not asked, it is good.
    monkeypatch.setattr("bridle_control.auth.time", SimpleNamespace(time_ns=lambda: expire))
    with pytest.raises(BridleError) as refused:
        await authenticator.authenticate(bearer(secret), kinds)
    assert refused.value.reason is Reason.TOKEN_EXPIRED


async def test_a_token_that_was_revoked_is_refused_at_its_very_next_call(store: Store) -> None:
    secret = await mint(store)
    async with gate_server(store, ALL) as server:
        await server.unary(GET)(b"", metadata=bearer(secret))
        await revoke(store, secret)
        found = await fails(server.unary(GET)(b"", metadata=bearer(secret)))
    assert (found.code, found.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_REVOKED")


@pytest.mark.parametrize(
    "change",
    [{"phase": session_pb2.PHASE_STOPPED}, {"phase": session_pb2.PHASE_FAILED}, {"run": 2}],
    ids=["stopped", "failed", "next run"],
)
async def test_a_session_token_dies_with_its_run(store: Store, change: dict[str, Any]) -> None:
    secret = await start_session(store)
    async with gate_server(store, ALL) as server:
        await server.unary(GET)(b"", metadata=bearer(secret))
        watch = server.stream(WATCH)(b"", metadata=bearer(secret))
        assert await watch.read() == b"open"
        await change_session(store, **change)
        assert (await fails(server.unary(GET)(b"", metadata=bearer(secret)))).reason == (
            "TOKEN_REVOKED"
        )
        assert (await fails(watch)).reason == "TOKEN_REVOKED"


async def test_a_session_token_dies_with_its_session(store: Store) -> None:
    secret = await start_session(store)
    async with gate_server(store, ALL) as server:
        await server.unary(GET)(b"", metadata=bearer(secret))
        await store.write(lambda tx: tx.delete_session("s1"))
        found = await fails(server.unary(GET)(b"", metadata=bearer(secret)))
    assert found.code is grpc.StatusCode.UNAUTHENTICATED


async def test_a_join_token_is_good_once_and_for_its_time(store: Store) -> None:
    def make(tx: Tx) -> tuple[str, str]:
        used = mint_join_token(tx, workspace="default", expire_time=tx.now + 60 * SECOND)
        assert tx.use_join_token(used.token_id, "host")
        assert not tx.use_join_token(used.token_id, "host")
        past = mint_join_token(tx, workspace="default", expire_time=tx.now)
        return used.secret, past.secret

    used, past = await store.write(make)
    async with gate_server(store, ALL) as server:
        assert (await fails(server.unary(ENROLL)(b"", metadata=bearer(used)))).reason == (
            "TOKEN_INVALID"
        )
        assert (await fails(server.unary(ENROLL)(b"", metadata=bearer(past)))).reason == (
            "TOKEN_EXPIRED"
        )


async def test_a_removed_hosts_credential_is_dead_and_its_link_ends(store: Store) -> None:
    async def link(requests: AsyncIterator[bytes], context: Context) -> None:
        await context.write(callers.current().host_id.encode())
        async for _ in requests:
            pass

    handler: Any = grpc.stream_stream_rpc_method_handler(link)
    secret = await mint_host(store)
    async with gate_server(store, {CONNECT: handler}) as server:
        connect: Any = server.channel.stream_stream(CONNECT)
        call = connect(metadata=bearer(secret))
        host_id = (await call.read()).decode()
        await store.write(lambda tx: tx.delete_host(host_id))
        assert (await fails(call)).reason == "TOKEN_REVOKED"
        assert (await fails(connect(iter(()), metadata=bearer(secret)))).reason == "TOKEN_REVOKED"


async def test_open_streams_and_long_calls_end_when_their_token_is_revoked(store: Store) -> None:
    revoked, other = await mint(store, name="a"), await mint(store, name="b")
    async with gate_server(store, ALL) as server:
        ending = [server.stream(WATCH)(b"", metadata=bearer(revoked)) for _ in range(3)]
        staying = server.stream(WATCH)(b"", metadata=bearer(other))
        for call in (*ending, staying):
            assert await call.read() == b"open"
        waiting = server.unary(WAIT)(b"", metadata=bearer(revoked))
        await until(lambda: len(server.open_calls) == 5)
        began = time.monotonic()
        await revoke(store, revoked)
        for call in (*ending, waiting):
            found = await fails(call)
            assert (found.code, found.reason) == (
                grpc.StatusCode.UNAUTHENTICATED,
                "TOKEN_REVOKED",
            )
        assert time.monotonic() - began < paced(5)
        assert not staying.done()
        staying.cancel()


async def test_open_streams_end_when_their_token_expires(tmp_path: Path) -> None:
    passed = 0
    store = await SqliteStore.open(
        tmp_path / "store", create=True, clock=lambda: time.time_ns() + passed
    )
    try:
        secret = await mint(store, expire_time=time.time_ns() + 3600 * SECOND)
        async with gate_server(store, ALL) as server:
            call = server.stream(WATCH)(b"", metadata=bearer(secret))
            assert await call.read() == b"open"
            passed = 3600 * SECOND
            found = await fails(call)
    finally:
        await store.close()
    assert found.reason == "TOKEN_EXPIRED"


async def test_while_the_store_can_not_be_read_streams_go_on_and_are_looked_at_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    async def unreadable(fn: object) -> None:
        nonlocal looks
        looks += 1
        raise BridleError(Reason.LOG_CORRUPT, "unreadable")

    secret = await mint(store)
    async with gate_server(store, ALL) as server:
        call = server.stream(WATCH)(b"", metadata=bearer(secret))
        assert await call.read() == b"open"
        with monkeypatch.context() as patch:
            patch.setattr(store, "read", unreadable)
            await server.open_calls.look()
        assert looks == 1
        assert not call.done()
        await revoke(store, secret)
        assert (await fails(call)).reason == "TOKEN_REVOKED"


async def test_when_more_tokens_are_in_use_than_are_remembered_all_are_still_looked_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridle_control.auth._CACHE_MAX", 1)
    secrets = [await mint(store, name=name) for name in ("a", "b")]
    now = 0.0
    authenticator = Authenticator(store, lambda: now)
    kinds = frozenset({CredentialKind.USER})
    for _ in range(2):
        for secret in secrets:
            found = await authenticator.authenticate(bearer(secret), kinds)
            assert found.principal.name == ("a" if secret == secrets[0] else "b")
        now += 10  # all that was remembered is stale: there is room again


# --- what may be seen ------------------------------------------------------------------------


async def make_family(store: Store) -> None:
    """root > child > grandchild, and a stranger; all in "default"."""

    def make(tx: Tx) -> None:
        tx.insert_session(session_row("root"))
        tx.insert_session(session_row("child", parent="root"))
        tx.insert_session(session_row("grandchild", parent="child"))
        tx.insert_session(session_row("stranger"))

    await store.write(make)


def caller(kind: CredentialKind, *, workspace: str = "", session_id: str = "") -> callers.Caller:
    return callers.Caller(
        kind=kind,
        token_id="t",
        principal=principal_pb2.Principal(id=session_id),
        workspace=workspace,
        rights=("*",),
        session_id=session_id,
    )


async def test_a_session_reaches_itself_and_those_beneath_it_and_no_others(store: Store) -> None:
    await make_family(store)
    child = caller(CredentialKind.SESSION, workspace="default", session_id="child")

    def texts(tx: ReadTx) -> dict[str, str]:
        found = {}
        for name in ("root", "child", "grandchild", "stranger", "nobody"):
            try:
                row = callers.session_of(tx, child, session_pb2.SessionRef(slug=f"slug-{name}"))
                by_id = callers.session_of(tx, child, session_pb2.SessionRef(id=name))
                assert row == by_id
                found[name] = "seen"
            except BridleError as error:
                found[name] = f"{error.reason} {error.message}".replace(name, "X")
        return found

    found = await store.read(texts)
    assert found["child"] == found["grandchild"] == "seen"
    assert found["root"] == found["stranger"] == found["nobody"]
    assert found["nobody"].startswith("SESSION_NOT_FOUND")


async def test_another_workspace_is_told_in_the_words_of_one_that_is_not_there(
    store: Store,
) -> None:
    await store.write(lambda tx: tx.insert_workspace(WorkspaceRow("other", 1)))
    confined = caller(CredentialKind.USER, workspace="default")
    everywhere = caller(CredentialKind.USER)

    def refusal(tx: ReadTx, name: str) -> str:
        with pytest.raises(BridleError) as raised:
            callers.workspace_of(tx, confined, name)
        assert raised.value.metadata == {"workspace": name}
        return f"{raised.value.reason} {raised.value.message}".replace(name, "X")

    def look(tx: ReadTx) -> None:
        assert refusal(tx, "other") == refusal(tx, "nowhere")
        assert callers.workspace_of(tx, confined, "") == "default"
        assert callers.workspace_of(tx, everywhere, "") == "default"
        assert callers.workspace_of(tx, everywhere, "other") == "other"

    await store.read(look)


async def test_a_session_token_is_due_after_half_of_its_life(tmp_path: Path) -> None:
    now = 10**18
    store = await SqliteStore.open(tmp_path / "store", create=True, clock=lambda: now)
    try:
        await start_session(store)

        async def due(run: int) -> bool:
            return await store.read(lambda tx: session_token_is_due(tx, "s1", run))

        assert not await due(1)
        assert await due(2)
        now += SESSION_TOKEN_TTL_NS // 2 + 1
        assert await due(1)
    finally:
        await store.close()
