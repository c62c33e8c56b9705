"""Who calls, as the handlers of RPCs see it.

The interceptor sets the caller of each call before its handler runs; handlers ask `current()`, hand
the caller on to what runs on the store's threads, and let it decide what may be seen:

    caller = current()
    row = await store.read(lambda tx: session_of(tx, caller, request.session))

What isn't the caller's is told in the same words as what isn't there.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from bridle.v1 import principal_pb2, session_pb2
from bridle_control.store.api import ReadTx, SessionRow
from bridle_core.errors import BridleError, Reason
from bridle_core.rights import CredentialKind, holds

#: The workspace of tokens that belong to none.
DEFAULT_WORKSPACE = "default"


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller whose credential is good."""

    kind: CredentialKind
    #: Of the token, or of the join token.
    token_id: str
    principal: principal_pb2.Principal
    #: The workspace that it is confined to; "" for all.
    workspace: str
    rights: tuple[str, ...]
    #: In ns since the epoch; 0: never.
    expire_time: int = 0
    #: For a session's own token: the session and the run.
    session_id: str = ""
    run: int = 0
    #: For a host's credential.
    host_id: str = ""

    @property
    def key(self) -> str:
        """What request ids are scoped to, beside the workspace."""
        return f"{self.principal.kind}:{self.principal.id}"

    @property
    def own_workspace(self) -> str:
        """What an empty `workspace` of a request means."""
        return self.workspace or DEFAULT_WORKSPACE

    def holds(self, right: str) -> bool:
        """Whether the caller has the right."""
        return holds(self.rights, right)


_current: ContextVar[Caller] = ContextVar("bridle_caller")


def current() -> Caller:
    """The caller of the call that is being handled; a LookupError outside of one, and in health."""
    return _current.get()


def set_current(caller: Caller) -> None:
    """For the interceptor (and for tests of handlers): who calls, for the rest of this task."""
    _current.set(caller)


def workspace_of(tx: ReadTx, caller: Caller, name: str) -> str:
    """The workspace that a request names; "" means the caller's own.

    Raises WORKSPACE_NOT_FOUND, in the same words for one that is not there and one that is not
    the caller's.
    """
    chosen = name or caller.own_workspace
    if (caller.workspace and chosen != caller.workspace) or tx.workspace(chosen) is None:
        raise BridleError(
            Reason.WORKSPACE_NOT_FOUND,
            f'no workspace "{chosen}"',
            metadata={"workspace": chosen},
        )
    return chosen


def may_see(tx: ReadTx, caller: Caller, session_id: str) -> bool:
    """Whether the session is one that a session's own token reaches: itself or beneath it.

    True for every other kind of caller: those are confined by their workspace.
    """
    if caller.kind is not CredentialKind.SESSION or session_id == caller.session_id:
        return True
    return caller.session_id in tx.ancestors(session_id)


def session_of(tx: ReadTx, caller: Caller, ref: session_pb2.SessionRef) -> SessionRow:
    """The session that a reference names, if the caller may see it.

    Raises WORKSPACE_NOT_FOUND, SESSION_NOT_FOUND; the words don't tell what isn't there from what
    isn't the caller's.
    """
    workspace = workspace_of(tx, caller, ref.workspace)
    if ref.WhichOneof("ref") == "id":
        name = ref.id
        row = tx.session(ref.id)
    else:
        name = ref.slug
        row = tx.session_by_slug(workspace, ref.slug)
    if row is None or row.workspace != workspace or not may_see(tx, caller, row.session_id):
        raise BridleError(
            Reason.SESSION_NOT_FOUND,
            f'no session "{name}" in workspace "{workspace}"',
            metadata={"workspace": workspace, "session": name},
        )
    return row
