"""IdentityService over gRPC: who calls, tokens, workspaces."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from bridle.v1 import identity_service_pb2 as pb
from bridle.v1 import identity_service_pb2_grpc, principal_pb2, receipt_pb2
from bridle_control.ids import uuid7
from bridle_core.rights import GRANTABLE, RIGHTS, holds, narrows
from tests.bridle_control.serving import RunningControl, bearer, control_server, fails, mint

DAY = 24 * 3600


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[RunningControl]:
    async with control_server(tmp_path / "store") as running:
        yield running


@pytest.fixture
def identity(control: RunningControl) -> Any:
    stub: Any = identity_service_pb2_grpc.IdentityServiceStub(control.channel)
    return stub


def create(name: str = "ci", **changes: Any) -> pb.CreateTokenRequest:
    values: dict[str, Any] = {"rights": ["session.read"], "name": name, **changes}
    return pb.CreateTokenRequest(**values)


async def test_who_am_i_tells_the_principal_the_token_and_the_version(
    control: RunningControl, identity: Any
) -> None:
    told = await identity.WhoAmI(pb.WhoAmIRequest(), metadata=control.metadata)
    assert told.principal.kind == principal_pb2.PRINCIPAL_KIND_USER
    assert told.principal.name == told.token.name == "admin"
    assert told.principal.id == told.token.token_id
    assert list(told.token.rights) == ["*"]
    assert told.session_id == ""
    assert told.control_version


# --- tokens ----------------------------------------------------------------------------------


async def test_a_token_is_made_is_good_and_its_secret_is_told_once(
    control: RunningControl, identity: Any
) -> None:
    request = create(request_id=uuid7())
    first = await identity.CreateToken(request, metadata=control.metadata)
    again = await identity.CreateToken(request, metadata=control.metadata)
    assert first.secret.startswith("brt_")
    assert again.secret == ""
    assert again.receipt == first.receipt
    assert again.token == first.token
    assert first.receipt.verb == receipt_pb2.VERB_CREATE_TOKEN
    assert first.receipt.outcome.state == receipt_pb2.OUTCOME_STATE_RAN
    assert first.token.workspace == "default"
    assert first.token.created_by.name == "admin"
    ttl = first.token.expire_time.ToNanoseconds() - first.token.create_time.ToNanoseconds()
    assert ttl == 90 * DAY * 10**9
    told = await identity.WhoAmI(pb.WhoAmIRequest(), metadata=bearer(first.secret))
    assert told.token == first.token


async def test_a_token_may_be_good_for_ever_or_for_a_second_but_not_for_ages(
    control: RunningControl, identity: Any
) -> None:
    ever = await identity.CreateToken(
        create("ever", time_to_live=Duration()), metadata=control.metadata
    )
    assert not ever.token.HasField("expire_time")
    short = await identity.CreateToken(
        create("short", time_to_live=Duration(nanos=1)), metadata=control.metadata
    )
    found = await fails(identity.WhoAmI(pb.WhoAmIRequest(), metadata=bearer(short.secret)))
    assert found.reason == "TOKEN_EXPIRED"
    ages = create("ages", time_to_live=Duration(seconds=315_576_000_000))
    found = await fails(identity.CreateToken(ages, metadata=control.metadata))
    assert found.fields[0][0] == "time_to_live"


async def test_rights_that_are_none_are_named(control: RunningControl, identity: Any) -> None:
    request = create(rights=["session.read", "session.fly", "sky.*"])
    found = await fails(identity.CreateToken(request, metadata=control.metadata))
    assert found.reason == "INVALID_REQUEST"
    assert [path for path, _ in found.fields] == ["rights[1]", "rights[2]"]


async def test_nobody_gives_more_than_he_has(control: RunningControl, identity: Any) -> None:
    secret = await mint(
        control.store, rights=("token.*", "session.read"), workspace="default", name="clerk"
    )
    for rights in (["session.send"], ["session.*"], ["*"], ["token.create", "host.read"]):
        found = await fails(identity.CreateToken(create(rights=rights), metadata=bearer(secret)))
        assert (found.code, found.reason) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_ALLOWED")
    everywhere = create(all_workspaces=True)
    found = await fails(identity.CreateToken(everywhere, metadata=bearer(secret)))
    assert found.reason == "NOT_ALLOWED"
    elsewhere = create(workspace="elsewhere")
    found = await fails(identity.CreateToken(elsewhere, metadata=bearer(secret)))
    assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "WORKSPACE_NOT_FOUND")
    narrower = await identity.CreateToken(
        create(rights=["session.read", "token.read"]), metadata=bearer(secret)
    )
    assert narrower.secret


async def test_nobody_gives_for_longer_than_he_has(control: RunningControl, identity: Any) -> None:
    end = time.time_ns() + DAY * 10**9
    clerk = bearer(await mint(control.store, name="clerk", expire_time=end))
    unsaid = await identity.CreateToken(create("unsaid"), metadata=clerk)
    assert unsaid.token.expire_time.ToNanoseconds() == end
    shorter = create("shorter", time_to_live=Duration(seconds=3600))
    assert (await identity.CreateToken(shorter, metadata=clerk)).secret
    for ttl in (Duration(), Duration(seconds=2 * DAY)):
        longer = create("longer", time_to_live=ttl)
        found = await fails(identity.CreateToken(longer, metadata=clerk))
        assert (found.code, found.reason) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_ALLOWED")


@given(st.lists(st.sets(st.sampled_from(sorted(GRANTABLE)), min_size=1), min_size=2, max_size=6))
def test_over_any_chain_of_makers_no_right_appears(chain: list[set[str]]) -> None:
    """What CreateToken checks at each link holds over the whole chain."""
    held = chain[0]
    for wanted in chain[1:]:
        if narrows(held, wanted):
            held = wanted
    assert all(holds(chain[0], right) or not holds(held, right) for right in RIGHTS)


async def test_a_name_is_taken_while_its_token_lives(
    control: RunningControl, identity: Any
) -> None:
    await identity.CreateToken(create(), metadata=control.metadata)
    found = await fails(identity.CreateToken(create(), metadata=control.metadata))
    assert (found.code, found.reason) == (grpc.StatusCode.ALREADY_EXISTS, "NAME_TAKEN")
    assert found.metadata == {"name": "ci"}
    await identity.RevokeToken(pb.RevokeTokenRequest(token="ci"), metadata=control.metadata)
    await identity.CreateToken(create(time_to_live=Duration(nanos=1)), metadata=control.metadata)
    await identity.CreateToken(create(), metadata=control.metadata)


async def test_tokens_for_all_workspaces_belong_to_none(
    control: RunningControl, identity: Any
) -> None:
    both = create(all_workspaces=True, workspace="default")
    assert (await fails(identity.CreateToken(both, metadata=control.metadata))).fields[0][0] == (
        "workspace"
    )
    made = await identity.CreateToken(create(all_workspaces=True), metadata=control.metadata)
    assert made.token.workspace == ""


async def test_tokens_are_listed_without_secrets_in_pages_by_name(
    control: RunningControl, identity: Any
) -> None:
    for name in ("b", "a", "c"):
        await identity.CreateToken(create(name), metadata=control.metadata)
    await identity.RevokeToken(pb.RevokeTokenRequest(token="b"), metadata=control.metadata)
    names, token = [], ""
    while True:
        listed = await identity.ListTokens(
            pb.ListTokensRequest(page_size=2, page_token=token), metadata=control.metadata
        )
        names += [row.name for row in listed.tokens]
        token = listed.next_page_token
        if not token:
            break
    assert names == ["a", "admin", "b", "c"]
    listed = await identity.ListTokens(
        pb.ListTokensRequest(filter="revoked = true", order_by="create_time desc"),
        metadata=control.metadata,
    )
    assert [row.name for row in listed.tokens] == ["b"]
    clerk = await mint(control.store, rights=("token.read",), workspace="default", name="clerk")
    listed = await identity.ListTokens(pb.ListTokensRequest(), metadata=bearer(clerk))
    # Those of all workspaces are none of a workspace's business.
    assert [row.name for row in listed.tokens] == ["a", "b", "c", "clerk"]


async def test_revoking_ends_the_token_at_once_and_may_be_repeated(
    control: RunningControl, identity: Any
) -> None:
    made = await identity.CreateToken(create(), metadata=control.metadata)
    await identity.WhoAmI(pb.WhoAmIRequest(), metadata=bearer(made.secret))
    for token in (made.token.token_id, "ci", made.token.token_id):
        told = await identity.RevokeToken(
            pb.RevokeTokenRequest(token=token), metadata=control.metadata
        )
        assert told.token.revoked
        assert told.token.token_id == made.token.token_id
    found = await fails(identity.WhoAmI(pb.WhoAmIRequest(), metadata=bearer(made.secret)))
    assert found.reason == "TOKEN_REVOKED"


async def test_an_unknown_token_and_one_of_others_are_told_in_the_same_words(
    control: RunningControl, identity: Any
) -> None:
    clerk = await mint(control.store, rights=("token.*",), workspace="default", name="clerk")
    texts = set()
    for name in ("admin", "nobody"):
        found = await fails(
            identity.RevokeToken(pb.RevokeTokenRequest(token=name), metadata=bearer(clerk))
        )
        assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "TOKEN_NOT_FOUND")
        texts.add(found.text.replace(name, "X"))
    assert len(texts) == 1


async def test_a_token_can_revoke_itself(control: RunningControl, identity: Any) -> None:
    secret = await mint(control.store, rights=("token.revoke",), workspace="default", name="me")
    told = await identity.RevokeToken(pb.RevokeTokenRequest(token="me"), metadata=bearer(secret))
    assert told.token.revoked


# --- workspaces ------------------------------------------------------------------------------


async def test_a_workspace_is_made_once_and_seen_by_those_of_all_workspaces(
    control: RunningControl, identity: Any
) -> None:
    request = pb.CreateWorkspaceRequest(request_id=uuid7(), name="lab")
    first = await identity.CreateWorkspace(request, metadata=control.metadata)
    again = await identity.CreateWorkspace(request, metadata=control.metadata)
    assert first == again
    assert first.workspace.name == "lab"
    assert first.workspace.create_time.ToNanoseconds() <= time.time_ns()
    found = await fails(
        identity.CreateWorkspace(pb.CreateWorkspaceRequest(name="lab"), metadata=control.metadata)
    )
    assert found.reason == "NAME_TAKEN"
    clerk = await mint(control.store, rights=("*",), workspace="lab", name="clerk")
    for metadata, names in ((control.metadata, ["default", "lab"]), (bearer(clerk), ["lab"])):
        listed = await identity.ListWorkspaces(pb.ListWorkspacesRequest(), metadata=metadata)
        assert [row.name for row in listed.workspaces] == names
    found = await fails(
        identity.CreateWorkspace(pb.CreateWorkspaceRequest(name="x"), metadata=bearer(clerk))
    )
    assert found.reason == "NOT_ALLOWED"


async def test_workspaces_are_filtered_and_ordered(control: RunningControl, identity: Any) -> None:
    await identity.CreateWorkspace(pb.CreateWorkspaceRequest(name="a"), metadata=control.metadata)
    listed = await identity.ListWorkspaces(
        pb.ListWorkspacesRequest(order_by="name desc"), metadata=control.metadata
    )
    assert [row.name for row in listed.workspaces] == ["default", "a"]
    listed = await identity.ListWorkspaces(
        pb.ListWorkspacesRequest(filter="name != a"), metadata=control.metadata
    )
    assert [row.name for row in listed.workspaces] == ["default"]
    request = pb.ListWorkspacesRequest(filter="colour = red")
    found = await fails(identity.ListWorkspaces(request, metadata=control.metadata))
    assert found.fields[0][0] == "filter"


async def test_slugs_that_are_none_never_reach_the_handler(
    control: RunningControl, identity: Any
) -> None:
    for name in ("", "../etc", "a\nb", "A", "a" * 64, "-a", "ä"):
        request = pb.CreateWorkspaceRequest(name=name)
        found = await fails(identity.CreateWorkspace(request, metadata=control.metadata))
        assert found.reason == "INVALID_REQUEST"
        assert found.fields[0][0] == "name"
