"""What a call can fail with: one exception, `BridleError`, and a class of it for each reason.

    try:
        await client.send("fix-auth", "go on")
    except bridle.SessionEndedError:
        await client.resume("fix-auth", prompt="go on")

Branch on the class or on `reason`, never on the text. `from_rpc` makes them of what gRPC raises; it
is called by the transport and the watcher. This module imports neither grpc nor protobuf until an
error is there to be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, ClassVar, NamedTuple

if TYPE_CHECKING:
    import grpc

#: The `domain` of every ErrorInfo of Bridle.
DOMAIN = "bridle.v1"


class Code(IntEnum):
    """The gRPC status codes, by their numbers (google/rpc/code.proto)."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
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


class Field(NamedTuple):
    """One field of a request that breaks a rule: its path ("session.slug"), a line for people."""

    field: str
    description: str


class BridleError(Exception):
    """A call failed, or could not be made.

    code: the gRPC status code. reason: the name of an ErrorReason without its prefix; empty where
    the failure is not one of Bridle's own (a broken connection, a deadline). message: a line for
    people. metadata: what the reason's comment in error_reason.proto names. fields: what is wrong
    with the request. retry_after: seconds to wait before the next try, where the server says so.
    """

    default_code: ClassVar[Code] = Code.UNKNOWN
    default_reason: ClassVar[str] = ""
    #: Whether it was found here, so that `code` was told by nobody.
    local: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        code: Code | None = None,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        fields: Sequence[Field] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = self.default_code if code is None else code
        self.reason = self.default_reason if reason is None else reason
        self.metadata: dict[str, str] = dict(metadata or {})
        self.fields: tuple[Field, ...] = tuple(fields)
        self.retry_after = retry_after


class ConnectionLostError(BridleError):
    """Nobody answers at the address, or the connection broke. Whether a request that was under
    way took effect is not known: send it again with the same request id.
    """

    default_code = Code.UNAVAILABLE


class DeadlineExceededError(BridleError):
    """No answer came in time. The request may still take effect: see ConnectionLostError."""

    default_code = Code.DEADLINE_EXCEEDED


class SettingsError(BridleError):
    """A settings or credentials file, or a setting in the environment, can't be used."""

    default_code = Code.INVALID_ARGUMENT
    local = True


def error_class(reason: str) -> type[BridleError]:
    """The class of a reason; BridleError for one that this release doesn't know."""
    from bridle.errors_by_reason import BY_REASON

    return BY_REASON.get(reason, BridleError)


def from_reason(reason: str, message: str) -> BridleError:
    """The exception of a reason that stands in a receipt (`Outcome.error_reason`)."""
    return error_class(reason)(message, reason=reason)


def from_rpc(error: grpc.aio.AioRpcError, address: str) -> BridleError:
    """The exception of a failed call to `address`."""
    code = Code(error.code().value[0])
    text = error.details() or ""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            found = _from_details(value)
            if found is not None:
                return found
    if code is Code.UNAVAILABLE:
        return ConnectionLostError(f"no answer from {address}")
    if code is Code.DEADLINE_EXCEEDED:
        return DeadlineExceededError(f"no answer from {address} in time")
    if code is Code.RESOURCE_EXHAUSTED and "larger than max" in text:
        # Said by gRPC itself, which knows no reasons.
        return error_class("MESSAGE_TOO_LARGE")("the message is larger than 4 MiB")
    return BridleError(text or code.name, code=code)


def _from_details(raw: bytes) -> BridleError | None:
    """None where the details are not Bridle's, or can't be read."""
    from google.protobuf.message import DecodeError
    from google.rpc import error_details_pb2 as details
    from google.rpc import status_pb2

    status, info = status_pb2.Status(), details.ErrorInfo()
    bad, retry = details.BadRequest(), details.RetryInfo()
    try:
        status.ParseFromString(raw)
        for any_ in status.details:
            for message in (info, bad, retry):
                any_.Unpack(message)
        code = Code(status.code)
    except (DecodeError, ValueError):
        return None
    if info.domain != DOMAIN:
        return None
    delay = retry.retry_delay
    return error_class(info.reason)(
        status.message,
        code=code,
        reason=info.reason,
        metadata=info.metadata,
        fields=[Field(item.field, item.description) for item in bad.field_violations],
        retry_after=delay.seconds + delay.nanos / 1e9 if retry.HasField("retry_delay") else None,
    )
