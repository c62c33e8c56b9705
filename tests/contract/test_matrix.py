"""Every method of the descriptors by every credential that must not open it, and by every path that
is not quite its own. What is not yours is told in the words of what is not there.
"""

from __future__ import annotations

import hmac
import random
import re
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodDescriptorProto
from google.protobuf.message import Message

from bridle.v1 import session_pb2
from bridle_control import validation
from bridle_control.ids import uuid7
from bridle_control.store.api import Tx
from bridle_control.tokens import hash_secret, mint_join_token, mint_session_token
from bridle_core.rights import REQUIREMENT_OF, CredentialKind
from tests.bridle_control.serving import (
    Failure,
    RunningControl,
    bearer,
    control_server,
    fails,
    failure,
    mint,
)
from tests.contract.requests import About, own_methods, path_of, request_for
from tests.contract.test_every_method import PATHS, call
from tests.contract.worlds import SECRET, World, contents, make_world

REFUSED = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
METHODS = {path_of(method): method for method in own_methods()}


@dataclass
class Two:
    """Control with two workspaces in which everything has the same names."""

    control: RunningControl
    left: World
    right: World
    store: Path

    def ask(self, path: str, request: Message, secret: str) -> Any:
        """Calls a method of ours in its own shape."""
        shape = MethodDescriptorProto()
        METHODS[path].CopyToProto(shape)
        channel: Any = self.control.channel
        raw, options = request.SerializeToString(), {"metadata": bearer(secret), "timeout": 20}
        if shape.client_streaming:
            return channel.stream_stream(path)(iter([raw]), **options)
        if shape.server_streaming:
            return channel.unary_stream(path)(raw, **options)
        return channel.unary_unary(path)(raw, **options)


@pytest.fixture
async def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Two]:
    # The hosts of these worlds never come. Where control looks only now which hosts it waits for,
    # it would else tell after ten seconds that they are lost, in the midst of a test.
    monkeypatch.setattr("bridle_control.links.registry.LOST_AFTER", 3600.0)
    async with control_server(tmp_path / "store") as control:
        left = await make_world(control.store, "porto")
        right = await make_world(control.store, "lagos")
        yield Two(control, left, right, tmp_path / "store")


# --- credentials -------------------------------------------------------------------------------


@pytest.fixture
async def credentials(two: Two) -> dict[str, str]:
    """Secrets by name; those that are not in `OPENS` are good for nothing."""
    store = two.control.store
    dead: dict[str, str] = {
        "empty": "",
        "garbage": "garbage",
        "unknown user": "brt_" + "A" * 43,
        "unknown session": "brs_" + "A" * 43,
        "unknown join": "brj_" + "A" * 43,
        "unknown host": "brh_" + "A" * 43,
        "a byte more": two.left.user + "A",
        "a byte less": two.left.user[:-1],
        "another case": two.left.user[:4] + two.left.user[4:].swapcase(),
        "another prefix": "brh_" + two.left.user[4:],
        "9 KB": "brt_" + "A" * 9000,
        "expired": await mint(store, name="expired", expire_time=time.time_ns() - 1),
        "revoked": await mint(store, name="revoked"),
    }

    def make(tx: Tx) -> None:
        row = tx.token_by_hash(hash_secret(dead["revoked"]))
        assert row is not None
        tx.revoke_token(row.token_id)
        ended, deleted = tx.session(two.left.other_id), tx.session(two.left.child_id)
        assert ended is not None
        assert deleted is not None
        dead["ended session"] = mint_session_token(tx, ended, 1).secret
        dead["session of another run"] = mint_session_token(tx, ended, 7).secret
        dead["deleted session"] = mint_session_token(tx, deleted, 1).secret
        tx.update_session(replace(ended, phase=session_pb2.PHASE_STOPPED))
        tx.delete_session(deleted.session_id)
        used = mint_join_token(tx, workspace="porto", expire_time=tx.now + 10**12)
        assert tx.use_join_token(used.token_id, "some")
        dead["used join"] = used.secret
        dead["expired join"] = mint_join_token(tx, workspace="porto", expire_time=tx.now).secret
        live["join"] = mint_join_token(tx, workspace="porto", expire_time=tx.now + 10**12).secret

    live = {
        "session": two.left.agent,
        "host": two.left.host,
        "without rights": await mint(store, name="weak", rights=("nothing.here",)),
    }
    await store.write(make)
    assert live.keys() == OPENS.keys()
    return {**live, **dead}


#: What each credential opens, written out here: the table that control goes by is what is tested.
#: All that is not here is closed to it, whatever is added.
ANYBODY = {f"/grpc.health.v1.Health/{name}" for name in ("Check", "List", "Watch")}
EVERY_USER = {
    "/bridle.v1.IdentityService/WhoAmI",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
}
OPENS = {
    "session": EVERY_USER
    | {
        f"/bridle.v1.SessionService/{name}"
        for name in (
            *("StartSession", "GetSession", "ListSessions", "UpdateSession", "WatchSessions"),
            *("Send", "CancelInput", "ListInputs", "ReleaseQueue"),
            *("Interrupt", "Stop", "Kill", "Resume", "GetCommand"),
            *("Watch", "ListEvents", "ReadArtifact"),
        )
    },
    "without rights": EVERY_USER,
    "host": {f"/bridle.host.v1.HostLinkService/{name}" for name in ("Connect", "SendArtifact")},
    "join": {"/bridle.host.v1.HostLinkService/Enroll"},
}


async def test_no_method_opens_to_a_credential_that_is_not_good_for_it(
    two: Two, credentials: dict[str, str]
) -> None:
    before = contents(two.store)
    refused = 0
    for path in sorted(set(PATHS) - ANYBODY):
        for name, secret in credentials.items():
            if path in OPENS.get(name, ()):
                continue
            found = await fails(call(two.control.channel, path, bearer(secret)))
            assert found.code in REFUSED, (path, name, found)
            # Who is of the right kind is told that it may not; who is not isn't known here. (An
            # agent's token is of the right kind for some of what is closed to it.)
            known = name == "without rights" and "/bridle.host.v1." not in path
            denied = found.code is grpc.StatusCode.PERMISSION_DENIED
            assert denied == known or name == "session", (path, name, found)
            assert secret == "" or secret not in found.raw
            refused += 1
        assert (await fails(call(two.control.channel, path))).reason == "TOKEN_MISSING"
    assert refused > 700
    after = contents(two.store)
    for tables in (before, after):  # (what a deleted session leaves is cleared away meanwhile)
        del tables["garbage"], tables["events"]
    assert after == before, "something was stored"


def variants(path: str) -> Iterator[str]:
    """Paths that some server might take for this one."""
    _, service, name = path.split("/")
    package, _, bare = service.rpartition(".")
    yield from (path[1:], "/" + path, f"/{service}//{name}", path + "/", path + "/x")
    yield from (f"/{service}%2f{name}", path.lower(), path.upper(), path + "%00", path + " ")
    yield from (
        path + "?x=1",
        path + "#x",
        f"/{service}/./{name}",
        f"/{service}/../{service}/{name}",
    )
    yield from (f"/{bare}/{name}", f"/other.{bare}/{name}", f"/{package}.v2.{bare}/{name}")


async def test_no_path_but_the_very_name_of_a_method_reaches_it(two: Two) -> None:
    before = contents(two.store)
    tried = 0
    for path in PATHS:
        for variant in variants(path):
            for metadata in ((), two.control.metadata):
                any_call: Any = two.control.channel.unary_unary(variant)
                try:
                    await any_call(b"", metadata=metadata, timeout=20)
                except grpc.aio.AioRpcError as error:
                    code = error.code()
                else:
                    raise AssertionError(f"{variant} was answered")
                # (Without a slash before it HTTP/2 itself refuses the path.)
                assert code in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNKNOWN), variant
                tried += 1
    assert tried > 1000
    assert contents(two.store) == before


async def test_secrets_are_found_by_their_hash_and_compared_in_constant_time(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def compare(left: bytes, right: bytes) -> bool:
        compared.append((left, right))
        return real(left, right)

    monkeypatch.setattr("hmac.compare_digest", compare)
    path = "/bridle.v1.IdentityService/WhoAmI"
    secret = two.left.user
    await two.ask(path, request_for(METHODS[path], About()), secret)
    assert compared == [(hash_secret(secret), hash_secret(secret))]
    near = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    await fails(two.ask(path, request_for(METHODS[path], About()), near))
    # (A hash that is one bit off is another one altogether: no row, so nothing to compare.)
    assert len(compared) == 1


# --- another workspace ---------------------------------------------------------------------------


def abouts(world: World, unknown: bool) -> list[About]:
    """What somebody else may try to name of a workspace; or the same of one that is not there."""
    if unknown:
        return [
            About(workspace="evora"),
            About(session_id=uuid7()),
            About(slug="fix-huth", session_id=uuid7(), command_id=uuid7(), host=uuid7()),
            About(token=uuid7(), host=uuid7(), input_id=uuid7(), command_id=uuid7()),
        ]
    return [
        About(workspace=world.workspace),
        About(session_id=world.session_id),
        About(session_id=world.child_id, command_id=world.command_id, host=world.host_id),
        About(
            token=world.token_id,
            host=world.host_id,
            input_id=world.input_id,
            command_id=world.command_id,
        ),
    ]


#: Methods that name something beside a session, or something else altogether.
BESIDE = frozenset(
    {
        *("StartSession", "Resume", "CancelInput", "Respond", "GetCommand"),
        *("ListAgents", "DrainHost", "RemoveHost", "RevokeToken"),
    }
)


def names_of(request: Message) -> list[str]:
    """All names and ids in a request, longest first."""
    found = set(re.findall(r'"((?:[^"\\]|\\.)*)"', str(request)))
    return sorted(found, key=len, reverse=True)


def neutral(found: Failure, request: Message) -> str:
    """All that came over the wire, without the names that the caller gave."""
    raw = found.raw
    for name in names_of(request):
        raw = raw.replace(name, "*")
    return raw


async def outcome_of(asked: Any) -> Failure | bytes:
    """How a call ended, or its first answer."""
    try:
        if hasattr(asked, "read"):
            answer = await asked.read()
            if answer is grpc.aio.EOF:
                await asked.code()
                return b""
            asked.cancel()
            return bytes(answer)
        return bytes(await asked)
    except grpc.aio.AioRpcError as error:
        return failure(error)


@pytest.mark.parametrize("who", ["user", "agent"])
async def test_what_is_not_yours_is_told_in_the_very_words_of_what_is_not_there(
    two: Two, who: str
) -> None:
    secret = two.left.user if who == "user" else two.left.agent
    kind = CredentialKind.USER if who == "user" else CredentialKind.SESSION
    before = contents(two.store)["sessions"]
    compared = 0
    for path, method in METHODS.items():
        if kind not in REQUIREMENT_OF[path].kinds:
            continue
        pairs = zip(abouts(two.right, False), abouts(two.right, True), strict=True)
        for index, (yours, nobodys) in enumerate(pairs):
            if index == len(abouts(two.right, False)) - 1 and method.name not in BESIDE:
                continue  # it would be about one's own session, and do something
            asked = [request_for(method, about) for about in (yours, nobodys)]
            for request in asked:
                validation.check(request)
            answers = [await outcome_of(two.ask(path, request, secret)) for request in asked]
            if any(isinstance(answer, bytes) for answer in answers):
                # What names nothing of another's (a list of one's own) is answered alike.
                assert all(isinstance(answer, bytes) for answer in answers), (path, answers)
                assert two.right.secret.encode() not in answers[0] + answers[1]  # type: ignore[operator]
                continue
            theirs, none = answers
            assert isinstance(theirs, Failure)
            assert isinstance(none, Failure)
            assert (theirs.code, theirs.reason) == (none.code, none.reason), path
            assert neutral(theirs, asked[0]) == neutral(none, asked[1]), path
            assert two.right.secret not in theirs.raw
            compared += 1
    assert compared > (40 if who == "user" else 20)
    assert contents(two.store)["sessions"] == before


async def test_an_agent_is_told_of_a_neighbour_in_its_own_workspace_as_of_nobody(two: Two) -> None:
    path = "/bridle.v1.SessionService/Kill"
    for about in (About(session_id=two.left.other_id), About(slug="other")):
        unknown = replace(about, session_id=about.session_id and uuid7(), slug="utter")
        requests = [request_for(METHODS[path], each) for each in (about, unknown)]
        found = [await fails(two.ask(path, each, two.left.agent)) for each in requests]
        assert {each.reason for each in found} == {"SESSION_NOT_FOUND"}
        assert neutral(found[0], requests[0]) == neutral(found[1], requests[1])


async def test_how_long_a_refusal_takes_tells_nothing(two: Two) -> None:
    path = "/bridle.v1.SessionService/GetSession"
    method = METHODS[path]

    async def taken(there: bool) -> float:
        about = About(session_id=two.right.session_id if there else uuid7())
        request = request_for(method, about)
        begin = time.perf_counter()
        await fails(two.ask(path, request, two.left.user))
        return time.perf_counter() - begin

    # Pairs, each in one order or the other: how busy the machine is while they are made, and when
    # that changes, is the same for both.
    chance = random.Random(1)
    more: list[float] = []
    for _ in range(300):
        first = chance.choice((True, False))
        times = {first: await taken(first)}
        times[not first] = await taken(not first)
        more.append(times[True] - times[False])
    low, median, high = statistics.quantiles(more, n=4)
    # Far within what one call differs from the next.
    assert abs(median) < max(0.5 * (high - low), 0.0001)


async def test_in_thousands_of_random_calls_nothing_crosses_between_workspaces(two: Two) -> None:
    """Everything has the same names on both sides; each calls all, by names and ids of both."""
    rng = random.Random(20)
    worlds = {world.workspace: world for world in (two.left, two.right)}
    reads = [
        path
        for path in METHODS
        if not REQUIREMENT_OF[path].changes and "HostLink" not in path and "Watch" not in path
    ]
    changes = [
        "/bridle.v1.SessionService/" + name
        for name in ("UpdateSession", "CancelInput", "ReleaseQueue", "DeleteSession")
    ] + ["/bridle.v1.IdentityService/RevokeToken", "/bridle.v1.HostService/RemoveHost"]
    answered = refused = 0
    for number in range(2500):
        mine, other = rng.sample(sorted(worlds), 2)
        # Half of the time everything is named as it is called here, where it means one's own.
        named = worlds[rng.choice((mine, other))]
        foreign = named.workspace == other
        about = About(
            workspace=rng.choice(("", named.workspace)),
            session_id=rng.choice(("", named.session_id, named.child_id, named.other_id)),
            slug=rng.choice(("fix-auth", "child", "other")),
            host=rng.choice(("box", named.host_id)),
            command_id=named.command_id,
            input_id=named.input_id,
        )
        path = rng.choice(reads)
        if foreign and number % 3 == 0:
            path = rng.choice(changes)
            about = replace(
                about,
                workspace=other if not about.session_id else about.workspace,
                token=named.token_id,
                host=named.host_id,
            )
        secret = rng.choice((worlds[mine].user, worlds[mine].agent))
        answer = await outcome_of(two.ask(path, request_for(METHODS[path], about), secret))
        raw = answer if isinstance(answer, bytes) else answer.raw.encode()
        assert SECRET.format(other).encode() not in raw, (path, about)
        answered += isinstance(answer, bytes)
        refused += not isinstance(answer, bytes)
    assert min(answered, refused) > 400
    tables = contents(two.store)
    for world in worlds.values():
        assert sum(world.workspace in map(str, row) for row in tables["sessions"]) == 3
    assert not [row for row in tables["commands"] if row and "REVOKE" in str(row)]


def method_of(name: str) -> MethodDescriptor:
    [found] = [method for method in METHODS.values() if method.name == name]
    return found


def test_every_method_that_takes_a_request_id_is_told_in_the_audit_log_and_no_other() -> None:
    for path, method in METHODS.items():
        takes = "request_id" in method.input_type.fields_by_name and method.name != "GetCommand"
        link = path.endswith(("HostLinkService/Enroll", "HostLinkService/Connect"))
        assert REQUIREMENT_OF[path].changes == (takes or link), path
    assert not any(row.changes for path, row in REQUIREMENT_OF.items() if path not in METHODS)
