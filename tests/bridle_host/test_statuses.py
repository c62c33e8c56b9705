"""What a status of control's means to the host."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from bridle_core.errors import DOMAIN, Reason
from bridle_host.statuses import describe, reason_of


def failed(
    code: grpc.StatusCode = grpc.StatusCode.NOT_FOUND,
    details: str | None = "two\nlines",
    *trailing: tuple[str, str | bytes],
) -> aio.AioRpcError:
    return aio.AioRpcError(code, aio.Metadata(), aio.Metadata(*trailing), details)


def details(reason: str, domain: str = DOMAIN) -> tuple[str, bytes]:
    other, info = any_pb2.Any(), any_pb2.Any()
    other.Pack(error_details_pb2.RetryInfo())
    info.Pack(error_details_pb2.ErrorInfo(reason=reason, domain=domain))
    status = status_pb2.Status(details=[other, info])
    return "grpc-status-details-bin", status.SerializeToString()


def test_the_reason_is_the_one_in_error_info() -> None:
    assert reason_of(failed(grpc.StatusCode.ABORTED, "", details("EPOCH_FENCED"))) is (
        Reason.EPOCH_FENCED
    )


@pytest.mark.parametrize(
    "trailing",
    [
        ("other", "x"),
        ("grpc-status-details-bin", b"\xff\xff"),
        details("OF_A_LATER_VERSION"),
        details("EPOCH_FENCED", "another.domain"),
    ],
)
def test_what_is_no_reason_of_ours_is_none(trailing: tuple[str, str | bytes]) -> None:
    assert reason_of(failed(grpc.StatusCode.ABORTED, "", trailing)) is None


def test_a_failure_is_described_in_one_line() -> None:
    assert describe(failed()) == "NOT_FOUND: two lines"
    assert describe(failed(details=None)) == "NOT_FOUND: no more is told"
    assert describe(failed(grpc.StatusCode.UNAVAILABLE)) == "control can't be reached"
    broken = failed(grpc.StatusCode.INTERNAL, "Internal error from Core")
    assert describe(broken) == "the connection to control broke"
    assert describe(failed(grpc.StatusCode.INTERNAL, "a7")) == "INTERNAL: a7"
    refused = failed(grpc.StatusCode.UNAVAILABLE, "ends", details("SHUTTING_DOWN"))
    assert describe(refused) == "UNAVAILABLE: ends"
