"""What control's statuses mean to the host: the reason in a call's status, and lines for people.

Called by the link and by the enrolment. Clients branch on the reason, never on the text.
"""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from bridle_core.errors import DOMAIN, Reason

#: What grpc says when a write met a connection that is gone.
_BROKEN = "Internal error from Core"
_DETAILS = "grpc-status-details-bin"


def reason_of(error: aio.AioRpcError) -> Reason | None:
    """The reason in a failed call's ErrorInfo; None where there is none that this version knows."""
    info = _info_of(error)
    return None if info is None else Reason.__members__.get(info.reason)


def metadata_of(error: aio.AioRpcError) -> Mapping[str, str]:
    """What a failed call's ErrorInfo tells beside its reason."""
    info = _info_of(error)
    return {} if info is None else dict(info.metadata)


def _info_of(error: aio.AioRpcError) -> error_details_pb2.ErrorInfo | None:
    for key, value in error.trailing_metadata() or ():
        if key != _DETAILS or isinstance(value, str):
            continue
        status = status_pb2.Status()
        try:
            status.ParseFromString(bytes(value))
        except DecodeError:
            return None
        for detail in status.details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info) and info.domain == DOMAIN:
                return info
    return None


def describe(error: aio.AioRpcError) -> str:
    """A failed call in one line: what control says, or that it can't be reached."""
    if reason_of(error) is None:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return "control can't be reached"
        if error.code() is grpc.StatusCode.INTERNAL and error.details() == _BROKEN:
            return "the connection to control broke"
    return f"{error.code().name}: {error.details() or 'no more is told'}".replace("\n", " ")
