"""From a BridleError to what goes over the wire, and nothing more than that.

Called by the interceptor. What an error says is made one line, and all of it is kept far below the
8 KiB that metadata may have. Knows no exception but BridleError.
"""

from __future__ import annotations

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from bridle_core.errors import DOMAIN, BridleError, Reason

#: The metadata key of google.rpc.Status.
STATUS_KEY = "grpc-status-details-bin"

# Over the wire a text may take three times its bytes (percent-encoding): these keep the whole of
# an error below 6 KiB.
_MESSAGE_MAX = 400
_VALUE_MAX = 200
_FIELDS_MAX = 8

_GRPC_CODES = {code.value[0]: code for code in grpc.StatusCode}


def to_grpc_code(error: BridleError) -> grpc.StatusCode:
    """The code as grpc names it."""
    return _GRPC_CODES[error.code]


def to_status(error: BridleError) -> status_pb2.Status:
    """The google.rpc.Status: ErrorInfo first, then BadRequest and RetryInfo where they apply."""
    details: list[any_pb2.Any] = []

    def add(
        detail: error_details_pb2.ErrorInfo
        | error_details_pb2.BadRequest
        | error_details_pb2.RetryInfo,
    ) -> None:
        packed = any_pb2.Any()
        packed.Pack(detail)
        details.append(packed)

    metadata = {key: one_line(value, _VALUE_MAX) for key, value in error.metadata.items()}
    add(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata))
    if error.fields:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(
                field=one_line(violation.field, _VALUE_MAX),
                description=one_line(violation.description, _VALUE_MAX),
            )
            for violation in error.fields[:_FIELDS_MAX]
        ]
        add(error_details_pb2.BadRequest(field_violations=violations))
    if error.retry_after is not None:
        pause = duration_pb2.Duration()
        pause.FromNanoseconds(int(error.retry_after * 1e9))
        add(error_details_pb2.RetryInfo(retry_delay=pause))
    text = one_line(error.message, _MESSAGE_MAX)
    return status_pb2.Status(code=error.code, message=text, details=details)


def internal(fault_id: str) -> BridleError:
    """What a client learns about a fault of ours: an id to look up in the log."""
    return BridleError(
        Reason.INTERNAL,
        f"internal error; control's log tells more under {fault_id}",
        metadata={"id": fault_id},
    )


def shutting_down() -> BridleError:
    """For calls that come, or are still open, while the service ends."""
    return BridleError(
        Reason.SHUTTING_DOWN, "control is shutting down; call again", retry_after=1.0
    )


def one_line(text: str, limit: int) -> str:
    """The text without control characters, cut to `limit` bytes of UTF-8."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    raw = text.encode("utf-8", "replace")
    if len(raw) <= limit:
        return raw.decode()
    return raw[: limit - 3].decode("utf-8", "ignore") + "…"
