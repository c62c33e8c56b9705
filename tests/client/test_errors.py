from __future__ import annotations

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2
from grpc import aio

import bridle
from bridle.errors import from_rpc
from bridle.errors_by_reason import BY_REASON
from bridle.v1 import error_reason_pb2
from bridle_core import errors as core


def rpc_error(
    code: grpc.StatusCode, text: str = "", details_of: status_pb2.Status | None = None
) -> aio.AioRpcError:
    trailing = aio.Metadata()
    if details_of is not None:
        trailing.add("grpc-status-details-bin", details_of.SerializeToString())
    return aio.AioRpcError(code, aio.Metadata(), trailing, text)


def status(code: int, *messages: object) -> status_pb2.Status:
    packed = []
    for message in messages:
        item = any_pb2.Any()
        item.Pack(message)  # type: ignore[arg-type]
        packed.append(item)
    return status_pb2.Status(code=code, message="a line", details=packed)


def test_every_reason_has_a_class_with_the_code_of_the_contract() -> None:
    names = {
        name.removeprefix("ERROR_REASON_")
        for name in error_reason_pb2.ErrorReason.keys()  # noqa: SIM118 - no mapping
        if name != "ERROR_REASON_UNSPECIFIED"
    }
    assert set(BY_REASON) == names
    for reason, cls in BY_REASON.items():
        assert cls.default_code == core.CODE_OF[core.Reason(reason)].value
        assert getattr(bridle, cls.__name__) is cls


def test_a_failure_with_details_becomes_the_exception_of_its_reason() -> None:
    found = from_rpc(
        rpc_error(
            grpc.StatusCode.UNAVAILABLE,
            details_of=status(
                14,
                details.ErrorInfo(reason="NO_HOST", domain="bridle.v1", metadata={"a": "b"}),
                details.RetryInfo(retry_delay=duration_pb2.Duration(seconds=1, nanos=500_000_000)),
            ),
        ),
        "here:1",
    )
    assert type(found) is bridle.NoHostError
    assert (found.code, found.reason) == (bridle.Code.UNAVAILABLE, "NO_HOST")
    assert (found.message, found.metadata, found.retry_after) == ("a line", {"a": "b"}, 1.5)


def test_the_fields_of_a_bad_request_are_told() -> None:
    violation = details.BadRequest.FieldViolation(field="slug", description="is no DNS label")
    found = from_rpc(
        rpc_error(
            grpc.StatusCode.INVALID_ARGUMENT,
            details_of=status(
                3,
                details.ErrorInfo(reason="INVALID_REQUEST", domain="bridle.v1"),
                details.BadRequest(field_violations=[violation]),
            ),
        ),
        "here:1",
    )
    assert found.fields == (bridle.Field("slug", "is no DNS label"),)


def test_a_reason_of_a_newer_release_is_a_plain_error_with_its_name() -> None:
    info = details.ErrorInfo(reason="MOON_TOO_FULL", domain="bridle.v1")
    found = from_rpc(rpc_error(grpc.StatusCode.ABORTED, details_of=status(10, info)), "here:1")
    assert type(found) is bridle.BridleError
    assert (found.reason, found.code) == ("MOON_TOO_FULL", bridle.Code.ABORTED)


@pytest.mark.parametrize("raw", [b"\xff\xff", b"\x08\xe7\x07"])
def test_details_that_cannot_be_read_leave_the_code(raw: bytes) -> None:
    trailing = aio.Metadata(("grpc-status-details-bin", raw))
    error = aio.AioRpcError(grpc.StatusCode.NOT_FOUND, aio.Metadata(), trailing, "no such thing")
    found = from_rpc(error, "here:1")
    assert (found.code, found.reason, found.message) == (
        bridle.Code.NOT_FOUND,
        "",
        "no such thing",
    )


def test_details_of_another_domain_are_not_ours() -> None:
    info = details.ErrorInfo(reason="NO_HOST", domain="example.org")
    error = rpc_error(grpc.StatusCode.UNAVAILABLE, details_of=status(14, info))
    found = from_rpc(error, "here:1")
    assert type(found) is bridle.ConnectionLostError
    assert found.message == "no answer from here:1"


def test_what_grpc_says_by_itself_has_no_reason() -> None:
    found = from_rpc(rpc_error(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"), "here:1")
    assert type(found) is bridle.DeadlineExceededError
    large = rpc_error(grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (5)")
    assert type(from_rpc(large, "here:1")) is bridle.MessageTooLargeError
