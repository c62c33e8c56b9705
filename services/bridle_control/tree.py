"""Sessions that start sessions: what a child may be, and who belongs to a subtree.

Functions over rows, called by the verbs inside their transactions. A session's own token reaches
the session and what is beneath it (see `caller.may_see`); here stands what it may not exceed.
"""

from __future__ import annotations

import posixpath
from dataclasses import replace

from bridle.v1 import session_pb2, session_service_pb2
from bridle_control.approvals import check_policy, core_policy, wire_rule
from bridle_control.caller import Caller
from bridle_control.decisions import LIVE
from bridle_control.placement import agent_of
from bridle_control.projection import Projection
from bridle_control.render import policy_of
from bridle_control.store.api import HostRow, ReadTx, SessionRow
from bridle_core.approval_rules import exceeds, inherited
from bridle_core.errors import BridleError, Reason
from bridle_core.rights import CredentialKind

#: How deep children may stand beneath a session that nobody started, and how many of one parent
#: may live at a time.
DEPTH_MAX = 4
CHILDREN_MAX = 32

#: The capability of agents that ask before they act.
_APPROVALS = "APPROVALS"
#: How much each policy lets happen.
_LAXNESS = {
    session_pb2.APPROVAL_POLICY_DENY: 0,
    session_pb2.APPROVAL_POLICY_UNSPECIFIED: 1,
    session_pb2.APPROVAL_POLICY_ASK: 1,
    session_pb2.APPROVAL_POLICY_ALLOW: 2,
}


def parent_of(tx: ReadTx, caller: Caller) -> SessionRow | None:
    """The session that is the caller, whose child a new session will be; None for other callers.

    Raises SESSION_ENDING, CHILD_LIMIT.
    """
    if caller.kind is not CredentialKind.SESSION:
        return None
    parent = tx.session(caller.session_id)
    if parent is None or parent.phase not in LIVE:
        raise BridleError(Reason.TOKEN_REVOKED, "the session of this token has ended")
    if parent.closing:
        raise ending(parent)
    if len(tx.ancestors(parent.session_id)) >= DEPTH_MAX:
        raise _limit(f"sessions may stand {DEPTH_MAX} deep", DEPTH_MAX)
    if len(tx.children(parent.session_id, live=True)) >= CHILDREN_MAX:
        raise _limit(f"a session may have {CHILDREN_MAX} live children", CHILDREN_MAX)
    return parent


def ending(row: SessionRow) -> BridleError:
    """The session is on its way to its end."""
    return BridleError(
        Reason.SESSION_ENDING,
        f'the session "{row.slug}" is ending',
        metadata={"session": row.slug},
    )


def host_for_child(parent: SessionRow, host: str, name_of_parent_host: str) -> str:
    """A child runs where its parent runs. Raises NOT_ALLOWED for another host."""
    if host not in ("", parent.host_id, name_of_parent_host):
        raise not_allowed("a child runs on its parent's host")
    return parent.host_id


def directory_for_child(parent: SessionRow, directory: str) -> str:
    """A child's directory: its parent's, or one beneath that. Raises NOT_ALLOWED.

    Compared as text; the host compares again with links resolved.
    """
    if not directory:
        return parent.directory
    own, asked = _plain(parent.directory), _plain(directory)
    if not parent.directory or not (asked == own or asked.startswith(own.rstrip("/") + "/")):
        raise not_allowed("a child's directory lies in its parent's")
    return asked


def check_agent_for_child(
    parent: SessionRow, host: HostRow | None, request: session_service_pb2.StartSessionRequest
) -> None:
    """Whoever must ask before it acts starts nothing that acts without asking. Raises NOT_ALLOWED.

    A parent whose approvals are asked for, or denied, could else have them by a shell, by a command
    line of its own, or by a variable that makes another program of an agent.
    """
    if _LAXNESS[policy_of(parent).approval] == _LAXNESS[session_pb2.APPROVAL_POLICY_ALLOW]:
        return
    if not _asks(host, parent.agent):
        return  # it can do all that a child could
    if request.agent != parent.agent and not _asks(host, request.agent):
        raise not_allowed("a child's agent asks for approval, as its parent's does")
    if request.agent_command not in ("", parent.agent_command) or (
        request.agent_command and request.agent != parent.agent
    ):
        raise not_allowed("a child's agent runs by its parent's command, or by the default one")
    if request.environment:
        raise not_allowed("a child of an agent that asks for approval has its host's environment")


def _asks(host: HostRow | None, agent: str) -> bool:
    told = agent_of(host, agent)
    return told is not None and _APPROVALS in told.capabilities


def policy_for_child(
    parent: SessionRow, policy: session_pb2.SessionPolicy
) -> session_pb2.SessionPolicy:
    """A child's rules; where they say nothing of approvals, no laxer than its parent's. It has
    those of its parent's that deny or ask. Raises NOT_ALLOWED, INVALID_REQUEST."""
    made = session_pb2.SessionPolicy()
    made.CopyFrom(policy)
    own = policy_of(parent)
    if made.approval == session_pb2.APPROVAL_POLICY_UNSPECIFIED and _LAXNESS[own.approval] == 0:
        made.approval = own.approval
    lacking = inherited(core_policy(made), core_policy(own))
    made.approval_rules.extend(wire_rule(rule) for rule in lacking)
    check_policy(made)
    check_approval(parent, made)
    return made


def check_approval(bound: SessionRow, policy: session_pb2.SessionPolicy) -> None:
    """Raises NOT_ALLOWED for rules that let more happen than `bound`'s do.

    What somebody allowed always in the very session that the policy is for is no agent's doing.
    """
    why = exceeds(core_policy(policy, granted=False), core_policy(policy_of(bound)))
    if why:
        raise not_allowed(f"an agent can't allow more than it is allowed itself: {why}")


def check_agent_may_set(
    tx: ReadTx, caller: Caller, row: SessionRow, policy: session_pb2.SessionPolicy
) -> None:
    """An agent that sets the rules of its session, or of one beneath it, or opens the next run of
    that, stays within its own rules and those of the session's parent.
    """
    if caller.kind is not CredentialKind.SESSION:
        return
    for bound in {caller.session_id, row.parent_session_id} - {""}:
        above = tx.session(bound)
        if above is not None:
            check_approval(above, policy)


def not_allowed(text: str) -> BridleError:
    """What the caller may see and not do."""
    return BridleError(Reason.NOT_ALLOWED, text, metadata={"right": "session.start"})


def live_beneath(tx: ReadTx, row: SessionRow) -> list[SessionRow]:
    """The live sessions beneath a session, leaves first."""
    return [each for each in tx.subtree(row.session_id) if each.phase in LIVE]


def close(projection: Projection, rows: list[SessionRow]) -> None:
    """Marks sessions as closing: no child can be started beneath them."""
    for row in rows:
        if not row.closing:
            projection.put(replace(row, closing=True, update_time=projection.tx.now))


def _plain(directory: str) -> str:
    """Without `.`, `..` and doubled slashes."""
    return "/" + posixpath.normpath(directory).lstrip("/")


def _limit(text: str, limit: int) -> BridleError:
    return BridleError(Reason.CHILD_LIMIT, text, metadata={"limit": str(limit)})
