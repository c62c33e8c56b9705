"""A call by HTTP in the shape in which the gate and the handlers know calls: grpc's context.

They use five things of it: who calls, from where, until when, how to write an answer of a stream,
and how to end the call with a status. Called by `calls`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn

import grpc
from connectrpc.code import Code
from connectrpc.errors import ConnectError, ErrorDetail
from connectrpc.request import RequestContext
from google.protobuf.message import Message
from google.rpc import status_pb2
from protobuf.wkt import Any as DetailAny

from bridle_control import status

# connectrpc spells one of them otherwise.
_CODES = {code: Code[code.name] for code in grpc.StatusCode if code.name in Code.__members__}
_CODES[grpc.StatusCode.CANCELLED] = Code.CANCELED


class Exchange:
    """See the module. One per call."""

    def __init__(
        self,
        context: RequestContext[Any, Any],
        write: Callable[[Message | bytes], Awaitable[None]] | None = None,
    ) -> None:
        self._context = context
        self._write = write

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        """The headers; their names are in lower case."""
        return tuple(self._context.request_headers.allitems())

    def peer(self) -> str:
        """The caller's address as grpc writes them: "ipv4:127.0.0.1:5", "ipv6:[::1]:5"."""
        host, _, port = (self._context.client_address or "").rpartition(":")
        bare = host.strip("[]")
        return f"ipv6:[{bare}]:{port}" if ":" in bare else f"ipv4:{bare}:{port}"

    def time_remaining(self) -> float | None:
        """Seconds; None where the caller has set no deadline."""
        left = self._context.timeout_ms
        return None if left is None else max(0.0, left / 1000)

    async def write(self, message: Message | bytes) -> None:
        """Sends one answer of a stream; returns once the caller has room for more."""
        assert self._write is not None, "this call has one answer"
        await self._write(message)

    async def abort(
        self,
        code: grpc.StatusCode,
        details: str = "",
        trailing_metadata: Sequence[tuple[str, bytes | str]] = (),
    ) -> NoReturn:
        """Ends the call with a status, whose details stand in the trailing metadata."""
        found: list[ErrorDetail] = []
        for key, value in trailing_metadata:
            if key == status.STATUS_KEY and isinstance(value, bytes):
                rich = status_pb2.Status.FromString(value)
                found = [
                    # As Any: connectrpc knows another kind of messages.
                    ErrorDetail(DetailAny(type_url=detail.type_url, value=detail.value))
                    for detail in rich.details
                ]
        raise ConnectError(_CODES[code], details, found)
