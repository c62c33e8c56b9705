"""Who may do what: one table, and how rights are compared.

Default deny: a method that has no row below is refused, whoever calls it. A row names what kinds
of credential open the method and the one right that it needs. Control's interceptor asks this
module before a request is even parsed; nothing else decides about a method. (What a caller may
*see*, such as the sessions of a workspace, is decided where the rows are read.)

A right is "area.verb" ("session.read"). A token may also hold a whole area ("session.*") or
everything ("*").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class CredentialKind(StrEnum):
    """What a bearer secret is for. The value is the secret's prefix."""

    #: Of a person or a service.
    USER = "brt_"
    #: Of an agent: for its own session and those beneath it.
    SESSION = "brs_"
    #: Makes one machine a host, once.
    JOIN = "brj_"
    #: Of a host, for its link.
    HOST = "brh_"


@dataclass(frozen=True, slots=True)
class Requirement:
    """A row of the table."""

    #: The kinds of credential that open the method; empty: it needs none.
    kinds: frozenset[CredentialKind]
    #: The right; None: a good credential of such a kind is enough.
    right: str | None = None
    #: Whether the caller must be on this machine as well.
    loopback_only: bool = False
    #: Whether a call changes something, so that the audit log tells of it.
    changes: bool = False

    @property
    def public(self) -> bool:
        """Whether the method is open to callers without any credential."""
        return not self.kinds


_CALLERS = frozenset({CredentialKind.USER, CredentialKind.SESSION})


def _needs(right: str) -> Requirement:
    return Requirement(_CALLERS, right)


def _changes(right: str) -> Requirement:
    return Requirement(_CALLERS, right, changes=True)


_DEBUG = Requirement(frozenset({CredentialKind.USER}), "control.debug", loopback_only=True)
# Probes of orchestrators and load balancers hold no tokens, and health tells nothing but whether
# a service serves.
_PUBLIC = Requirement(frozenset())
# The contract is no secret, but only those who may call it need to read it from here.
_ANY_TOKEN = Requirement(_CALLERS)

_SESSION = "/bridle.v1.SessionService/"
_HOST = "/bridle.v1.HostService/"
_IDENTITY = "/bridle.v1.IdentityService/"
_LINK = "/bridle.host.v1.HostLinkService/"
_CHANNELZ = "/grpc.channelz.v1.Channelz/"

#: The one table: full method name as on the wire -> what it needs.
REQUIREMENT_OF: Mapping[str, Requirement] = {
    _SESSION + "StartSession": _changes("session.start"),
    _SESSION + "GetSession": _needs("session.read"),
    _SESSION + "ListSessions": _needs("session.read"),
    _SESSION + "UpdateSession": _changes("session.send"),
    _SESSION + "DeleteSession": _changes("session.delete"),
    _SESSION + "Send": _changes("session.send"),
    _SESSION + "Interrupt": _changes("session.interrupt"),
    _SESSION + "Stop": _changes("session.stop"),
    _SESSION + "Kill": _changes("session.kill"),
    _SESSION + "Resume": _changes("session.start"),
    _SESSION + "Respond": _changes("session.approve"),
    _SESSION + "ReleaseQueue": _changes("session.send"),
    _SESSION + "ListInputs": _needs("session.read"),
    _SESSION + "CancelInput": _changes("session.send"),
    _SESSION + "Watch": _needs("session.read"),
    _SESSION + "WatchSessions": _needs("session.read"),
    _SESSION + "ListEvents": _needs("session.read"),
    _SESSION + "GetCommand": _needs("session.read"),
    _SESSION + "ReadArtifact": _needs("session.read"),
    _HOST + "ListHosts": _needs("host.read"),
    _HOST + "ListAgents": _needs("host.read"),
    _HOST + "DrainHost": _changes("host.drain"),
    _HOST + "RemoveHost": _changes("host.remove"),
    _HOST + "CreateJoinToken": _changes("host.join"),
    _IDENTITY + "WhoAmI": _ANY_TOKEN,
    _IDENTITY + "CreateToken": _changes("token.create"),
    _IDENTITY + "ListTokens": _needs("token.read"),
    _IDENTITY + "RevokeToken": _changes("token.revoke"),
    _IDENTITY + "CreateWorkspace": _changes("workspace.create"),
    _IDENTITY + "ListWorkspaces": _needs("workspace.read"),
    _LINK + "Enroll": Requirement(frozenset({CredentialKind.JOIN}), changes=True),
    _LINK + "Connect": Requirement(frozenset({CredentialKind.HOST}), changes=True),
    _LINK + "SendArtifact": Requirement(frozenset({CredentialKind.HOST})),
    "/grpc.health.v1.Health/Check": _PUBLIC,
    "/grpc.health.v1.Health/List": _PUBLIC,
    "/grpc.health.v1.Health/Watch": _PUBLIC,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _ANY_TOKEN,
    _CHANNELZ + "GetTopChannels": _DEBUG,
    _CHANNELZ + "GetServers": _DEBUG,
    _CHANNELZ + "GetServer": _DEBUG,
    _CHANNELZ + "GetServerSockets": _DEBUG,
    _CHANNELZ + "GetChannel": _DEBUG,
    _CHANNELZ + "GetSubchannel": _DEBUG,
    _CHANNELZ + "GetSocket": _DEBUG,
}

#: Every right that a row names.
RIGHTS = frozenset(row.right for row in REQUIREMENT_OF.values() if row.right is not None)

#: What a token may hold: every right, every area, everything.
GRANTABLE = RIGHTS | {right.partition(".")[0] + ".*" for right in RIGHTS} | {"*"}

#: What a session's own token may hold. Never session.approve: an agent allows itself nothing.
_SESSION_TOKEN_RIGHTS = (
    "session.read",
    "session.send",
    "session.interrupt",
    "session.stop",
    "session.kill",
    "session.start",
)


def covers(granted: str, right: str) -> bool:
    """Whether a grant includes a right, or another grant: "session.*" covers "session.read"."""
    if granted in ("*", right):
        return True
    return granted.endswith(".*") and right.startswith(granted[:-1])


def holds(rights: Iterable[str], right: str) -> bool:
    """Whether one of the grants includes the right."""
    return any(covers(granted, right) for granted in rights)


def allowed(rights: Iterable[str], method: str) -> bool:
    """Whether a caller with these rights may call the method ("/package.Service/Method").

    Says nothing about the kind of the caller's credential. False for a method without a row.
    """
    row = REQUIREMENT_OF.get(method)
    if row is None:
        return False
    return row.right is None or holds(rights, row.right)


def narrows(parent: Iterable[str], child: Iterable[str]) -> bool:
    """Whether the child's rights hold nothing that the parent's don't."""
    grants = tuple(parent)
    return all(holds(grants, right) for right in child)


def session_token_rights(starter: Iterable[str] = ("*",)) -> tuple[str, ...]:
    """What a session's own token may do, to its own session and those beneath it.

    Nothing that the session's starter may not: who may only start sessions could else read and
    kill by the hands of an agent.
    """
    grants = tuple(starter)
    return tuple(right for right in _SESSION_TOKEN_RIGHTS if holds(grants, right))
