"""The errors of Bridle: one table of reasons and status codes.

Every failure that a caller can see is a `BridleError` with one of the reasons below. Control's
interceptor turns it into a `google.rpc.Status`; nothing else aborts a call. A reason's code never
changes, and the table holds every value of `bridle.v1.ErrorReason` (a test compares them).

Choosing between the three codes that sound alike: UNAVAILABLE, the caller may send the same
request again; ABORTED, the caller must start over at a higher level; FAILED_PRECONDITION, it
must not try again until something was changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum

#: The `domain` of every ErrorInfo.
DOMAIN = "bridle.v1"


class Code(IntEnum):
    """The gRPC status codes that Bridle uses, by their numbers (google/rpc/code.proto)."""

    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Reason(StrEnum):
    """`ErrorInfo.reason`: the names of bridle.v1.ErrorReason without their prefix."""

    SESSION_NOT_FOUND = "SESSION_NOT_FOUND"
    HOST_NOT_FOUND = "HOST_NOT_FOUND"
    WORKSPACE_NOT_FOUND = "WORKSPACE_NOT_FOUND"
    APPROVAL_NOT_FOUND = "APPROVAL_NOT_FOUND"
    INPUT_NOT_FOUND = "INPUT_NOT_FOUND"
    ARTIFACT_NOT_FOUND = "ARTIFACT_NOT_FOUND"
    COMMAND_NOT_FOUND = "COMMAND_NOT_FOUND"
    TOKEN_NOT_FOUND = "TOKEN_NOT_FOUND"
    TOKEN_MISSING = "TOKEN_MISSING"
    TOKEN_INVALID = "TOKEN_INVALID"
    TOKEN_EXPIRED = "TOKEN_EXPIRED"
    TOKEN_REVOKED = "TOKEN_REVOKED"
    NOT_ALLOWED = "NOT_ALLOWED"
    INVALID_REQUEST = "INVALID_REQUEST"
    SLUG_TAKEN = "SLUG_TAKEN"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    HOST_TWIN = "HOST_TWIN"
    NAME_TAKEN = "NAME_TAKEN"
    SESSION_ENDED = "SESSION_ENDED"
    SESSION_ENDING = "SESSION_ENDING"
    SESSION_LIVE = "SESSION_LIVE"
    DIRECTORY_MISSING = "DIRECTORY_MISSING"
    AGENT_NOT_INSTALLED = "AGENT_NOT_INSTALLED"
    APPROVAL_RESOLVED = "APPROVAL_RESOLVED"
    REQUEST_ID_EXPIRED = "REQUEST_ID_EXPIRED"
    VERSION_UNSUPPORTED = "VERSION_UNSUPPORTED"
    START_FAILED = "START_FAILED"
    HOST_IN_USE = "HOST_IN_USE"
    CAPABILITY_MISSING = "CAPABILITY_MISSING"
    HOST_FULL = "HOST_FULL"
    QUEUE_FULL = "QUEUE_FULL"
    CHILD_LIMIT = "CHILD_LIMIT"
    TOO_MANY_WATCHES = "TOO_MANY_WATCHES"
    STORE_FULL = "STORE_FULL"
    MESSAGE_TOO_LARGE = "MESSAGE_TOO_LARGE"
    RATE_LIMITED = "RATE_LIMITED"
    HOST_UNREACHABLE = "HOST_UNREACHABLE"
    NO_HOST = "NO_HOST"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    CURSOR_COMPACTED = "CURSOR_COMPACTED"
    CURSOR_FOREIGN = "CURSOR_FOREIGN"
    EPOCH_FENCED = "EPOCH_FENCED"
    LOG_CORRUPT = "LOG_CORRUPT"
    INTERNAL = "INTERNAL"


#: The one table. Grouped by code, as in error_reason.proto.
CODE_OF: Mapping[Reason, Code] = {
    Reason.SESSION_NOT_FOUND: Code.NOT_FOUND,
    Reason.HOST_NOT_FOUND: Code.NOT_FOUND,
    Reason.WORKSPACE_NOT_FOUND: Code.NOT_FOUND,
    Reason.APPROVAL_NOT_FOUND: Code.NOT_FOUND,
    Reason.INPUT_NOT_FOUND: Code.NOT_FOUND,
    Reason.ARTIFACT_NOT_FOUND: Code.NOT_FOUND,
    Reason.COMMAND_NOT_FOUND: Code.NOT_FOUND,
    Reason.TOKEN_NOT_FOUND: Code.NOT_FOUND,
    Reason.TOKEN_MISSING: Code.UNAUTHENTICATED,
    Reason.TOKEN_INVALID: Code.UNAUTHENTICATED,
    Reason.TOKEN_EXPIRED: Code.UNAUTHENTICATED,
    Reason.TOKEN_REVOKED: Code.UNAUTHENTICATED,
    Reason.NOT_ALLOWED: Code.PERMISSION_DENIED,
    Reason.INVALID_REQUEST: Code.INVALID_ARGUMENT,
    Reason.SLUG_TAKEN: Code.ALREADY_EXISTS,
    Reason.REQUEST_ID_REUSED: Code.ALREADY_EXISTS,
    Reason.HOST_TWIN: Code.ALREADY_EXISTS,
    Reason.NAME_TAKEN: Code.ALREADY_EXISTS,
    Reason.SESSION_ENDED: Code.FAILED_PRECONDITION,
    Reason.SESSION_ENDING: Code.FAILED_PRECONDITION,
    Reason.SESSION_LIVE: Code.FAILED_PRECONDITION,
    Reason.DIRECTORY_MISSING: Code.FAILED_PRECONDITION,
    Reason.AGENT_NOT_INSTALLED: Code.FAILED_PRECONDITION,
    Reason.APPROVAL_RESOLVED: Code.FAILED_PRECONDITION,
    Reason.REQUEST_ID_EXPIRED: Code.FAILED_PRECONDITION,
    Reason.VERSION_UNSUPPORTED: Code.FAILED_PRECONDITION,
    Reason.START_FAILED: Code.FAILED_PRECONDITION,
    Reason.HOST_IN_USE: Code.FAILED_PRECONDITION,
    Reason.CAPABILITY_MISSING: Code.UNIMPLEMENTED,
    Reason.HOST_FULL: Code.RESOURCE_EXHAUSTED,
    Reason.QUEUE_FULL: Code.RESOURCE_EXHAUSTED,
    Reason.CHILD_LIMIT: Code.RESOURCE_EXHAUSTED,
    Reason.TOO_MANY_WATCHES: Code.RESOURCE_EXHAUSTED,
    Reason.STORE_FULL: Code.RESOURCE_EXHAUSTED,
    Reason.MESSAGE_TOO_LARGE: Code.RESOURCE_EXHAUSTED,
    Reason.RATE_LIMITED: Code.RESOURCE_EXHAUSTED,
    Reason.HOST_UNREACHABLE: Code.UNAVAILABLE,
    Reason.NO_HOST: Code.UNAVAILABLE,
    Reason.SHUTTING_DOWN: Code.UNAVAILABLE,
    Reason.CURSOR_COMPACTED: Code.OUT_OF_RANGE,
    Reason.CURSOR_FOREIGN: Code.OUT_OF_RANGE,
    Reason.EPOCH_FENCED: Code.ABORTED,
    Reason.LOG_CORRUPT: Code.DATA_LOSS,
    Reason.INTERNAL: Code.INTERNAL,
}


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request that breaks a rule.

    `field` is its path ("session.slug"), `description` a line for people.
    """

    field: str
    description: str


class BridleError(Exception):
    """A failure that the caller may know about: reason, text and metadata all reach the client.

    Raise it with a text that adds what only this place knows, and never with the text of another
    exception. `metadata` holds what the comment of the reason in error_reason.proto names.
    `retry_after` is in seconds and becomes a RetryInfo; `fields` become a BadRequest.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        fields: Sequence[FieldViolation] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})
        self.fields = tuple(fields)
        self.retry_after = retry_after

    @property
    def code(self) -> Code:
        """The status code that goes with the reason."""
        return CODE_OF[self.reason]
