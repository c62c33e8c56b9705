"""One exception class for each reason of bridle.v1.ErrorReason.

Nothing here has behaviour: a class is a name to catch, its reason, and the code that goes with the
reason. A test holds this file against the contract. Import the classes from `bridle`.
"""

from __future__ import annotations

from bridle.errors import BridleError, Code


class SessionNotFoundError(BridleError):
    """No such session, or not yours. metadata: workspace, session."""

    default_code = Code.NOT_FOUND
    default_reason = "SESSION_NOT_FOUND"


class HostNotFoundError(BridleError):
    """No such host, or not yours. metadata: host."""

    default_code = Code.NOT_FOUND
    default_reason = "HOST_NOT_FOUND"


class WorkspaceNotFoundError(BridleError):
    """No such workspace, or not yours. metadata: workspace."""

    default_code = Code.NOT_FOUND
    default_reason = "WORKSPACE_NOT_FOUND"


class ApprovalNotFoundError(BridleError):
    """No such approval, or none is open. metadata: approval."""

    default_code = Code.NOT_FOUND
    default_reason = "APPROVAL_NOT_FOUND"


class InputNotFoundError(BridleError):
    """No such input. metadata: input."""

    default_code = Code.NOT_FOUND
    default_reason = "INPUT_NOT_FOUND"


class ArtifactNotFoundError(BridleError):
    """No such artifact. metadata: artifact."""

    default_code = Code.NOT_FOUND
    default_reason = "ARTIFACT_NOT_FOUND"


class CommandNotFoundError(BridleError):
    """No such command, or not yours. metadata: command."""

    default_code = Code.NOT_FOUND
    default_reason = "COMMAND_NOT_FOUND"


class TokenNotFoundError(BridleError):
    """No such token, or not yours. metadata: token."""

    default_code = Code.NOT_FOUND
    default_reason = "TOKEN_NOT_FOUND"


class TokenMissingError(BridleError):
    """The call has no `authorization: Bearer …` metadata."""

    default_code = Code.UNAUTHENTICATED
    default_reason = "TOKEN_MISSING"


class TokenInvalidError(BridleError):
    """The token is not one of ours."""

    default_code = Code.UNAUTHENTICATED
    default_reason = "TOKEN_INVALID"


class TokenExpiredError(BridleError):
    """The token's time is over."""

    default_code = Code.UNAUTHENTICATED
    default_reason = "TOKEN_EXPIRED"


class TokenRevokedError(BridleError):
    """The token was revoked."""

    default_code = Code.UNAUTHENTICATED
    default_reason = "TOKEN_REVOKED"


class NotAllowedError(BridleError):
    """You may see it, not do this. metadata: right."""

    default_code = Code.PERMISSION_DENIED
    default_reason = "NOT_ALLOWED"


class InvalidRequestError(BridleError):
    """The request breaks a rule; a google.rpc.BadRequest names the fields."""

    default_code = Code.INVALID_ARGUMENT
    default_reason = "INVALID_REQUEST"


class SlugTakenError(BridleError):
    """The slug is taken until DeleteSession. metadata: session."""

    default_code = Code.ALREADY_EXISTS
    default_reason = "SLUG_TAKEN"


class RequestIdReusedError(BridleError):
    """The same request id came with another body. metadata: request_id."""

    default_code = Code.ALREADY_EXISTS
    default_reason = "REQUEST_ID_REUSED"


class HostTwinError(BridleError):
    """Another live host has the same identity (host link). metadata: host."""

    default_code = Code.ALREADY_EXISTS
    default_reason = "HOST_TWIN"


class NameTakenError(BridleError):
    """The workspace's or token's name is taken. metadata: name."""

    default_code = Code.ALREADY_EXISTS
    default_reason = "NAME_TAKEN"


class SessionEndedError(BridleError):
    """The session has ended; Resume it. metadata: session, phase."""

    default_code = Code.FAILED_PRECONDITION
    default_reason = "SESSION_ENDED"


class SessionEndingError(BridleError):
    """The session is stopping; wait for its end. metadata: session."""

    default_code = Code.FAILED_PRECONDITION
    default_reason = "SESSION_ENDING"


class SessionLiveError(BridleError):
    """The session is live; Stop or Kill it first. metadata: session, phase."""

    default_code = Code.FAILED_PRECONDITION
    default_reason = "SESSION_LIVE"


class DirectoryMissingError(BridleError):
    """The directory is not on the host. metadata: directory."""

    default_code = Code.FAILED_PRECONDITION
    default_reason = "DIRECTORY_MISSING"


class AgentNotInstalledError(BridleError):
    """No host, or not this one, has the agent. metadata: agent."""

    default_code = Code.FAILED_PRECONDITION
    default_reason = "AGENT_NOT_INSTALLED"


class ApprovalResolvedError(BridleError):
    """Somebody answered first. metadata: approval, decision."""

    default_code = Code.FAILED_PRECONDITION
    default_reason = "APPROVAL_RESOLVED"


class RequestIdExpiredError(BridleError):
    """The request id is older than Bridle remembers; never run."""

    default_code = Code.FAILED_PRECONDITION
    default_reason = "REQUEST_ID_EXPIRED"


class VersionUnsupportedError(BridleError):
    """The two ends speak no common version. metadata: supported."""

    default_code = Code.FAILED_PRECONDITION
    default_reason = "VERSION_UNSUPPORTED"


class StartFailedError(BridleError):
    """The agent could not be started. metadata: agent."""

    default_code = Code.FAILED_PRECONDITION
    default_reason = "START_FAILED"


class HostInUseError(BridleError):
    """The host still owns live sessions; drain it or use force. metadata: host."""

    default_code = Code.FAILED_PRECONDITION
    default_reason = "HOST_IN_USE"


class CapabilityMissingError(BridleError):
    """The driver, host or service can't do this. metadata: capability."""

    default_code = Code.UNIMPLEMENTED
    default_reason = "CAPABILITY_MISSING"


class HostFullError(BridleError):
    """The host admits no more sessions. metadata: host, limit."""

    default_code = Code.RESOURCE_EXHAUSTED
    default_reason = "HOST_FULL"


class QueueFullError(BridleError):
    """Too many inputs wait. metadata: limit."""

    default_code = Code.RESOURCE_EXHAUSTED
    default_reason = "QUEUE_FULL"


class ChildLimitError(BridleError):
    """Too many live children, or too deep. metadata: limit."""

    default_code = Code.RESOURCE_EXHAUSTED
    default_reason = "CHILD_LIMIT"


class TooManyWatchesError(BridleError):
    """Too many watches by this principal. metadata: limit."""

    default_code = Code.RESOURCE_EXHAUSTED
    default_reason = "TOO_MANY_WATCHES"


class StoreFullError(BridleError):
    """The store has no room; reads, Interrupt, Stop and Kill still work."""

    default_code = Code.RESOURCE_EXHAUSTED
    default_reason = "STORE_FULL"


class MessageTooLargeError(BridleError):
    """The message is larger than the service takes (4 MiB)."""

    default_code = Code.RESOURCE_EXHAUSTED
    default_reason = "MESSAGE_TOO_LARGE"


class RateLimitedError(BridleError):
    """Too many calls; the RetryInfo says when to try again."""

    default_code = Code.RESOURCE_EXHAUSTED
    default_reason = "RATE_LIMITED"


class HostUnreachableError(BridleError):
    """The session's host did not answer in time; an Interrupt was withdrawn."""

    default_code = Code.UNAVAILABLE
    default_reason = "HOST_UNREACHABLE"


class NoHostError(BridleError):
    """No live host can take the session now. Comes with RetryInfo."""

    default_code = Code.UNAVAILABLE
    default_reason = "NO_HOST"


class ShuttingDownError(BridleError):
    """The service is shutting down; call again."""

    default_code = Code.UNAVAILABLE
    default_reason = "SHUTTING_DOWN"


class CursorCompactedError(BridleError):
    """The cursor is below the floor. metadata: floor."""

    default_code = Code.OUT_OF_RANGE
    default_reason = "CURSOR_COMPACTED"


class CursorForeignError(BridleError):
    """The cursor belongs to another log. metadata: log_id."""

    default_code = Code.OUT_OF_RANGE
    default_reason = "CURSOR_FOREIGN"


class EpochFencedError(BridleError):
    """A newer connection of this host was accepted (host link). metadata: epoch."""

    default_code = Code.ABORTED
    default_reason = "EPOCH_FENCED"


class LogCorruptError(BridleError):
    """The stored log does not read back as it was written."""

    default_code = Code.DATA_LOSS
    default_reason = "LOG_CORRUPT"


class InternalError(BridleError):
    """A fault of Bridle. metadata: id, to look up in the service's log."""

    default_code = Code.INTERNAL
    default_reason = "INTERNAL"


#: The class of each reason.
BY_REASON: dict[str, type[BridleError]] = {
    cls.default_reason: cls
    for cls in (
        SessionNotFoundError,
        HostNotFoundError,
        WorkspaceNotFoundError,
        ApprovalNotFoundError,
        InputNotFoundError,
        ArtifactNotFoundError,
        CommandNotFoundError,
        TokenNotFoundError,
        TokenMissingError,
        TokenInvalidError,
        TokenExpiredError,
        TokenRevokedError,
        NotAllowedError,
        InvalidRequestError,
        SlugTakenError,
        RequestIdReusedError,
        HostTwinError,
        NameTakenError,
        SessionEndedError,
        SessionEndingError,
        SessionLiveError,
        DirectoryMissingError,
        AgentNotInstalledError,
        ApprovalResolvedError,
        RequestIdExpiredError,
        VersionUnsupportedError,
        StartFailedError,
        HostInUseError,
        CapabilityMissingError,
        HostFullError,
        QueueFullError,
        ChildLimitError,
        TooManyWatchesError,
        StoreFullError,
        MessageTooLargeError,
        RateLimitedError,
        HostUnreachableError,
        NoHostError,
        ShuttingDownError,
        CursorCompactedError,
        CursorForeignError,
        EpochFencedError,
        LogCorruptError,
        InternalError,
    )
}
