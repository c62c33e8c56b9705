"""Down every chain from a user over sessions to their children, nothing grows: neither rights, nor
time, nor the directory, the host, or what is allowed without asking.
"""

from __future__ import annotations

import os
import posixpath
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration

from bridle.v1 import identity_service_pb2, identity_service_pb2_grpc, session_pb2
from bridle_control import tree
from bridle_control.store.api import SessionRow
from bridle_core.errors import BridleError, Reason
from bridle_core.rights import GRANTABLE, RIGHTS, holds, narrows, session_token_rights
from tests.bridle_control.serving import RunningControl, bearer, control_server, mint

#: Chains that are tried; `make soak` may ask for more.
CHAINS = int(os.environ.get("BRIDLE_CHAINS", "10000"))
PARTS = ["a", "b", "..", ".", "", "a-evil", "x/../..", "c d", "\u00e9"]
POLICIES = [0, 1, 2, 3]
#: As the contract says: DENY < ASK (and what is not told) < ALLOW.
LAXNESS = {3: 0, 0: 1, 1: 1, 2: 2}

pb: Any = identity_service_pb2


def row(directory: str, approval: int, host: str) -> SessionRow:
    policy = session_pb2.SessionPolicy(approval=session_pb2.ApprovalPolicy.ValueType(approval))
    return SessionRow(
        session_id="s",
        workspace="default",
        slug="s",
        agent="shell",
        host_id=host,
        phase=session_pb2.PHASE_IDLE,
        run=1,
        create_time=1,
        update_time=1,
        directory=directory,
        policy=policy.SerializeToString(),
    )


def test_over_ten_thousand_chains_no_right_appears_that_the_first_user_lacks() -> None:
    rng = random.Random(3)
    grantable = sorted(GRANTABLE)
    narrowed = 0
    for _ in range(CHAINS):
        first = held = tuple(rng.sample(grantable, rng.randint(1, 6)))
        for _ in range(rng.randint(0, 3)):  # users that make users
            wanted = tuple(rng.sample(grantable, rng.randint(1, 4)))
            if narrows(held, wanted):
                held = wanted
        for _ in range(rng.randint(1, 4)):  # a session, its child, …
            below = session_token_rights(held)
            assert narrows(held, below)
            held = below
            narrowed += 1
        for right in RIGHTS:
            assert holds(first, right) or not holds(held, right), (first, held, right)
    assert narrowed > CHAINS


def test_over_ten_thousand_chains_no_child_leaves_its_parents_directory_host_or_approvals() -> None:
    rng = random.Random(4)
    made = refused = 0
    for _ in range(CHAINS):
        parent = row("/srv/app", rng.choice(POLICIES), "h1")
        for _ in range(4):
            asked = posixpath.join(
                rng.choice(
                    ["/", "/srv", "/srv/app", "/srv/app-evil", parent.directory, "//srv/app"]
                ),
                *rng.choices(PARTS, k=rng.randint(0, 4)),
            )
            policy = session_pb2.SessionPolicy(
                approval=session_pb2.ApprovalPolicy.ValueType(rng.choice(POLICIES))
            )
            try:
                child = replace(
                    parent,
                    host_id=tree.host_for_child(parent, rng.choice(["", "h1", "box", "h2"]), "box"),
                    directory=tree.directory_for_child(parent, rng.choice(["", asked])),
                    policy=tree.policy_for_child(parent, policy).SerializeToString(),
                )
            except BridleError as error:
                assert error.reason is Reason.NOT_ALLOWED  # noqa: PT017
                refused += 1
                continue
            made += 1
            assert child.host_id == parent.host_id == "h1"
            bound = parent.directory.rstrip("/") + "/"
            # (Compared as the kernel would walk it, where there are no links.)
            assert (posixpath.normpath(child.directory) + "/").replace("//", "/").startswith(bound)
            allowed = [
                LAXNESS[session_pb2.SessionPolicy.FromString(each.policy).approval]
                for each in (child, parent)
            ]
            assert allowed[0] <= allowed[1]
            parent = child
    assert min(made, refused) > CHAINS / 2


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[RunningControl]:
    async with control_server(tmp_path / "store") as running:
        yield running


async def test_over_the_wire_no_token_makes_one_that_holds_more_or_for_longer(
    control: RunningControl,
) -> None:
    rng = random.Random(5)
    stub: Any = identity_service_pb2_grpc.IdentityServiceStub(control.channel)
    grantable = sorted(GRANTABLE)
    made = refused = 0
    for chain in range(40):
        rights = ("token.*", *rng.sample(grantable, rng.randint(0, 5)))
        secret = await mint(control.store, rights=rights, workspace="default", name=f"u{chain}")
        end: int | None = None
        for depth in range(3):
            wanted = sorted({"token.create", *rng.sample(grantable, rng.randint(1, 2))})
            request = pb.CreateTokenRequest(name=f"c{chain}-{depth}", rights=wanted)
            seconds = rng.choice([None, 0, 3600, 10**6])
            if seconds is not None:
                request.time_to_live.CopyFrom(Duration(seconds=seconds))
            try:
                answer = await stub.CreateToken(request, metadata=bearer(secret))
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.PERMISSION_DENIED  # noqa: PT017
                refused += 1
                continue
            made += 1
            assert narrows(rights, wanted)
            got = answer.token.expire_time.ToNanoseconds() or None
            assert end is None or (got is not None and got <= end)
            rights, end, secret = tuple(wanted), got, answer.secret
    assert min(made, refused) > 20
