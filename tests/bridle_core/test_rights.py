"""The table of rights, and how rights are compared."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridle_core.rights import (
    GRANTABLE,
    REQUIREMENT_OF,
    RIGHTS,
    CredentialKind,
    allowed,
    covers,
    holds,
    narrows,
    session_token_rights,
)

SESSION = "/bridle.v1.SessionService/"
GRANTS = st.sets(st.sampled_from(sorted(GRANTABLE)))


def test_a_method_without_a_row_is_refused_even_to_a_token_that_may_do_everything() -> None:
    assert not allowed(["*"], SESSION + "Explode")
    assert not allowed(["*"], "bridle.v1.SessionService/Send")  # no leading slash
    assert not allowed(["*"], "")


@pytest.mark.parametrize("method", sorted(REQUIREMENT_OF))
def test_everything_is_allowed_to_a_token_that_may_do_everything(method: str) -> None:
    assert allowed(["*"], method)


@pytest.mark.parametrize("method", sorted(REQUIREMENT_OF))
def test_the_right_of_a_row_opens_it_and_no_other_right_does(method: str) -> None:
    right = REQUIREMENT_OF[method].right
    others = RIGHTS - {right}
    assert allowed([right] if right else [], method)
    assert allowed(others, method) == (right is None)


def test_resume_needs_the_right_to_start_and_respond_the_right_to_approve() -> None:
    assert allowed(["session.start"], SESSION + "Resume")
    assert not allowed(["session.send"], SESSION + "Resume")
    assert allowed(["session.approve"], SESSION + "Respond")
    for method in ("UpdateSession", "ReleaseQueue", "CancelInput"):
        assert allowed(["session.send"], SESSION + method)


@pytest.mark.parametrize(
    ("granted", "right", "answer"),
    [
        ("*", "session.read", True),
        ("*", "*", True),
        ("session.*", "session.read", True),
        ("session.*", "session.*", True),
        ("session.*", "sessions.read", False),
        ("session.*", "host.read", False),
        ("session.*", "*", False),
        ("session.read", "session.read", True),
        ("session.read", "session.*", False),
        ("session.read", "session.readall", False),
    ],
)
def test_what_a_grant_covers(granted: str, right: str, answer: bool) -> None:
    assert covers(granted, right) is answer


def test_narrowing_forbids_what_the_parent_lacks() -> None:
    assert narrows(["session.*"], ["session.read", "session.*"])
    assert narrows(["session.read"], [])
    assert not narrows(["session.read", "session.send"], ["session.*"])
    assert not narrows([], ["session.read"])


@given(GRANTS, GRANTS, GRANTS)
def test_narrowing_holds_over_every_chain(
    first: set[str], second: set[str], third: set[str]
) -> None:
    if narrows(first, second) and narrows(second, third):
        assert narrows(first, third)
        for right in RIGHTS:
            assert holds(first, right) or not holds(third, right)


@given(st.lists(GRANTS, min_size=1, max_size=5))
def test_a_session_holds_nothing_that_its_starter_lacks_however_deep_it_stands(
    users: list[set[str]],
) -> None:
    """user → user → … → session → child → grandchild."""
    held = users[0]
    for wanted in users[1:]:
        if narrows(held, wanted):
            held = wanted
    chain: list[Iterable[str]] = [held]
    for _ in range(3):
        chain.append(session_token_rights(chain[-1]))
        assert narrows(chain[-2], chain[-1])
    for right in RIGHTS:
        assert holds(users[0], right) or not holds(chain[-1], right)
    assert not holds(chain[-1], "session.approve")


def test_a_session_token_never_approves_and_manages_neither_hosts_nor_tokens() -> None:
    rights = session_token_rights()
    assert not holds(rights, "session.approve")
    assert not holds(rights, "session.delete")
    assert all(right.startswith("session.") for right in rights)
    assert set(rights) <= RIGHTS


def test_only_health_is_open_to_callers_without_a_credential() -> None:
    public = {method for method, row in REQUIREMENT_OF.items() if row.public}
    assert public == {
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/List",
        "/grpc.health.v1.Health/Watch",
    }


def test_channelz_is_for_this_machine_and_for_users_who_may_debug() -> None:
    rows = [row for method, row in REQUIREMENT_OF.items() if "channelz" in method]
    assert rows
    for row in rows:
        assert row.loopback_only
        assert row.right == "control.debug"
        assert row.kinds == {CredentialKind.USER}


def test_a_host_credential_opens_nothing_but_the_link_and_nothing_else_opens_the_link() -> None:
    for method, row in REQUIREMENT_OF.items():
        by_hosts = method.endswith(("HostLinkService/Connect", "HostLinkService/SendArtifact"))
        assert (CredentialKind.HOST in row.kinds) == by_hosts
        assert (CredentialKind.JOIN in row.kinds) == method.endswith("HostLinkService/Enroll")
        if "HostLinkService" in method:
            assert len(row.kinds) == 1


def test_what_can_be_granted_is_every_right_every_area_and_everything() -> None:
    assert {"session.*", "host.*", "token.*", "workspace.*", "control.*", "*"} < GRANTABLE
    assert RIGHTS < GRANTABLE
