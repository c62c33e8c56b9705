"""Every method that the server has, found in the descriptors: who gets in, and what is promised."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from grpc_channelz.v1 import channelz_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from bridle.host.v1 import host_link_service_pb2
from bridle.v1 import host_service_pb2, identity_service_pb2, session_service_pb2
from bridle_control.app import Control
from bridle_control.store.api import Store, Tx
from bridle_control.tokens import hash_secret, mint_join_token
from bridle_core.errors import CODE_OF, Reason
from bridle_core.rights import REQUIREMENT_OF, CredentialKind
from tests.bridle_control.serving import (
    RunningControl,
    bearer,
    control_server,
    fails,
    gate_server,
    mint,
    mint_host,
    opened,
)

PROTO = Path(__file__).parents[2] / "proto"
FILES = (
    session_service_pb2,
    host_service_pb2,
    identity_service_pb2,
    host_link_service_pb2,
    health_pb2,
    reflection_pb2,
    channelz_pb2,
)
OWN = FILES[:4]


def services(files: tuple[Any, ...] = FILES) -> Iterator[ServiceDescriptor]:
    for file in files:
        yield from file.DESCRIPTOR.services_by_name.values()


def methods(files: tuple[Any, ...] = FILES) -> list[MethodDescriptor]:
    return [method for service in services(files) for method in service.methods]


def path_of(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


PATHS = [path_of(method) for method in methods()]
GUARDED = [path for path in PATHS if "health" not in path]


def call(channel: grpc.aio.Channel, path: str, metadata: Any = ()) -> Any:
    """Calls a method in its own shape, with an empty request."""
    [method] = [method for method in methods() if path_of(method) == path]
    shape = descriptor_pb2.MethodDescriptorProto()
    method.CopyToProto(shape)
    made: Any
    if shape.client_streaming:
        made = channel.stream_stream(path)
        # Nothing is written: a write that meets the refusal is an internal error of the client's.
        return made(metadata=metadata, timeout=20)
    if shape.server_streaming:
        made = channel.unary_stream(path)
    else:
        made = channel.unary_unary(path)
    return made(b"", metadata=metadata, timeout=20)


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[RunningControl]:
    async with control_server(tmp_path / "store") as running:
        yield running


# --- the table ---------------------------------------------------------------------------------


def test_every_method_of_the_descriptors_has_a_row_and_every_row_a_method() -> None:
    assert set(REQUIREMENT_OF) == set(PATHS)


async def test_the_server_serves_exactly_the_services_of_the_contract(
    control: RunningControl,
) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(cast("Any", control.channel))
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    listed = []
    async for answer in stub.ServerReflectionInfo(iter([asked]), metadata=control.metadata):
        listed = [service.name for service in answer.list_services_response.service]
    assert sorted(listed) == sorted(service.full_name for service in services())


async def test_reflection_gives_the_file_of_every_service_with_all_that_it_imports(
    control: RunningControl,
) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(cast("Any", control.channel))
    asked = [
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=service.full_name)
        for service in services(OWN)
    ]
    count = 0
    async for answer in stub.ServerReflectionInfo(iter(asked), metadata=control.metadata):
        files = {
            descriptor_pb2.FileDescriptorProto.FromString(raw).name
            for raw in answer.file_descriptor_response.file_descriptor_proto
        }
        assert any(name.endswith("_service.proto") for name in files)
        count += 1
    assert count == len(asked)


# --- who gets in ---------------------------------------------------------------------------------


@pytest.fixture
async def bad_credentials(control: RunningControl) -> dict[str, tuple[tuple[str, str], ...]]:
    """Credentials that open nothing, by what is wrong with them."""
    store = control.store
    revoked = await mint(store, name="revoked")
    await _revoke(store, revoked)
    expired = await mint(store, name="expired", expire_time=time.time_ns() - 1)
    return {
        "missing": (),
        "garbage": bearer("garbage"),
        "unknown": bearer("brt_" + "A" * 43),
        "revoked": bearer(revoked),
        "expired": bearer(expired),
        "9 KB": bearer("brt_" + "A" * 9000),
        "twice": (*control.metadata, *control.metadata),
        "basic": (("authorization", "Basic YWRtaW46YWRtaW4="),),
    }


async def _revoke(store: Store, secret: str) -> None:
    def do(tx: Tx) -> None:
        row = tx.token_by_hash(hash_secret(secret))
        assert row is not None
        tx.revoke_token(row.token_id)

    await store.write(do)


async def test_nothing_but_a_good_credential_opens_any_method_but_health(
    control: RunningControl, bad_credentials: dict[str, tuple[tuple[str, str], ...]]
) -> None:
    reasons = {"missing": "TOKEN_MISSING", "revoked": "TOKEN_REVOKED", "expired": "TOKEN_EXPIRED"}
    for path in GUARDED:
        link = "HostLinkService" in path
        for what, metadata in bad_credentials.items():
            found = await fails(call(control.channel, path, metadata))
            assert found.code is grpc.StatusCode.UNAUTHENTICATED, (path, what, found)
            # A user's token does not open the link, good or not.
            expected = reasons.get(what, "TOKEN_INVALID")
            if link and what in ("revoked", "expired"):
                expected = "TOKEN_INVALID"
            assert found.reason == expected, (path, what, found)


async def test_a_credential_of_the_wrong_kind_opens_nothing(control: RunningControl) -> None:
    join = await control.store.write(
        lambda tx: mint_join_token(tx, workspace="default", expire_time=tx.now + 60 * 10**9)
    )
    secrets = {
        CredentialKind.USER: control.admin,
        CredentialKind.HOST: await mint_host(control.store),
        CredentialKind.JOIN: join.secret,
    }
    for path in GUARDED:
        for kind, secret in secrets.items():
            if kind in REQUIREMENT_OF[path].kinds:
                continue
            found = await fails(call(control.channel, path, bearer(secret)))
            assert (found.code, found.reason) == (
                grpc.StatusCode.UNAUTHENTICATED,
                "TOKEN_INVALID",
            ), (path, kind)


async def test_a_token_without_any_right_may_only_ask_who_it_is(control: RunningControl) -> None:
    # (No token is made without rights; this one has the least: a right that opens nothing here.)
    metadata = bearer(await mint(control.store, name="weak", rights=("nothing.here",)))
    for path in GUARDED:
        row = REQUIREMENT_OF[path]
        if row.right is None:
            continue
        found = await fails(call(control.channel, path, metadata))
        assert (found.code, found.reason) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_ALLOWED")
        assert found.metadata == {"right": row.right}


async def test_health_answers_without_a_token(control: RunningControl) -> None:
    check: Any = control.channel.unary_unary("/grpc.health.v1.Health/Check")
    for service in ("", *(service.full_name for service in services(OWN))):
        request = health_pb2.HealthCheckRequest(service=service).SerializeToString()
        answer = health_pb2.HealthCheckResponse.FromString(await check(request))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    request = health_pb2.HealthCheckRequest(service="no.such").SerializeToString()
    assert (await fails(check(request))).code is grpc.StatusCode.NOT_FOUND


# --- what is promised --------------------------------------------------------------------------


def promises() -> Iterator[tuple[str, str, list[str]]]:
    """(where, code, reasons) of every line of every `Errors:` comment of the protos."""
    for file in sorted(PROTO.rglob("*_service.proto")):
        text = file.read_text(encoding="utf-8")
        for block in re.findall(r"// ?(?:Errors|ERRORS)[^\n]*:\n((?:[ ]*//[^\n]*\n)+)", text):
            for line in block.splitlines():
                body = line.strip().removeprefix("//").strip()
                for code, reasons in re.findall(
                    r"\b([A-Z]+(?:_[A-Z]+)*) ((?:[A-Z_]+\*?(?:, )?)+):", body
                ):
                    yield file.name, code, [reason.strip() for reason in reasons.split(",")]


def test_the_errors_comments_name_only_reasons_of_the_table_with_their_codes() -> None:
    found = list(promises())
    assert len(found) > 40
    for where, code, reasons in found:
        for reason in reasons:
            if reason.endswith("*"):
                named = [known for known in Reason if known.startswith(reason[:-1])]
                named = [known for known in named if known is not Reason.TOKEN_NOT_FOUND]
                assert named, (where, reason)
            else:
                named = [Reason(reason)]
            for known in named:
                assert CODE_OF[known].name == code, (where, reason)


def test_every_method_of_ours_says_what_errors_it_has() -> None:
    for file in sorted(PROTO.rglob("*_service.proto")):
        comment: list[str] = []
        for line in file.read_text(encoding="utf-8").splitlines():
            stripped = line.strip()
            if stripped.startswith("//"):
                comment.append(stripped)
                continue
            if stripped.startswith("rpc "):
                assert any("Errors:" in text for text in comment), (file.name, stripped)
            comment = []


def test_every_request_that_changes_something_carries_a_request_id() -> None:
    reading = ("Get", "List", "Watch", "Read", "WhoAmI")
    for method in methods(OWN[:3]):
        names = [field.name for field in method.input_type.fields]
        changes = not method.name.startswith(reading)
        assert ("request_id" in names) == changes or method.name == "GetCommand", method.name


def test_every_list_has_pages_a_filter_and_an_order() -> None:
    for method in methods(OWN[:3]):
        if method.name.startswith("List"):
            asked = {field.name for field in method.input_type.fields}
            assert {"page_size", "page_token", "filter", "order_by"} <= asked
            assert "next_page_token" in {field.name for field in method.output_type.fields}


# --- what never leaves ---------------------------------------------------------------------------

CANARY = "canary-51d7"


class HostileError(Exception):
    """An exception whose text is a secret, and that can't even be shown."""

    def __str__(self) -> str:
        raise RuntimeError(CANARY)


async def _raise(*_: Any) -> Any:
    raise HostileError(CANARY)


async def _raise_in_stream(*_: Any) -> AsyncIterator[bytes]:
    yield b""
    raise HostileError(CANARY)


def _handler(path: str) -> Any:
    """A handler in the method's own shape that fails."""
    [method] = [method for method in methods() if path_of(method) == path]
    shape = descriptor_pb2.MethodDescriptorProto()
    method.CopyToProto(shape)
    if shape.client_streaming:
        return grpc.stream_stream_rpc_method_handler(cast("Any", _raise_in_stream))
    if shape.server_streaming:
        return grpc.unary_stream_rpc_method_handler(cast("Any", _raise_in_stream))
    return grpc.unary_unary_rpc_method_handler(cast("Any", _raise))


async def test_what_a_handler_raises_never_reaches_a_client(tmp_path: Path) -> None:
    async with opened(tmp_path / "store") as store:
        secrets = {
            CredentialKind.USER: await mint(store),
            CredentialKind.HOST: await mint_host(store),
            CredentialKind.JOIN: (
                await store.write(
                    lambda tx: mint_join_token(
                        tx, workspace="default", expire_time=tx.now + 60 * 10**9
                    )
                )
            ).secret,
        }
        async with gate_server(store, {path: _handler(path) for path in PATHS}) as server:
            for path in PATHS:
                kinds = REQUIREMENT_OF[path].kinds or {CredentialKind.USER}
                metadata = bearer(next(secrets[kind] for kind in secrets if kind in kinds))
                found = await fails(call(server.channel, path, metadata))
                assert (found.code, found.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL"), path
                assert CANARY not in found.raw


async def test_a_method_that_somebody_adds_without_a_row_is_refused(tmp_path: Path) -> None:
    async def explode(request: bytes, context: Any) -> bytes:
        raise AssertionError("it was called")

    def add(control: Control) -> None:
        handler: Any = grpc.unary_unary_rpc_method_handler(cast("Any", explode))
        control.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("bridle.v1.ExtraService", {"Explode": handler}),)
        )

    async with control_server(tmp_path / "store", prepare=add) as control:
        explode_call: Any = control.channel.unary_unary("/bridle.v1.ExtraService/Explode")
        found = await fails(explode_call(b"", metadata=control.metadata))
        assert (found.code, found.reason) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_ALLOWED")
        assert (await fails(explode_call(b""))).reason == "TOKEN_MISSING"
