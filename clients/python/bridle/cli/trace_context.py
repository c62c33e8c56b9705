"""The place in a trace that a command was started at.

TRACEPARENT and TRACESTATE in its environment, as W3C Trace Context writes them and build systems
set them. They go with every call, so that what it does belongs to that trace; the command makes no
span of its own and needs no OpenTelemetry. Called by bridle.cli.base, which imports it only
where there is such a place.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from grpc import aio

# https://www.w3.org/TR/trace-context/#traceparent-header-field-values
_PARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_STATE = re.compile(r"[\x20-\x7e]{1,512}")

_Continuation = Callable[[Any, Any], Awaitable[Any]]


def interceptors(environment: Mapping[str, str]) -> Sequence[aio.ClientInterceptor]:
    """None where no place is named, or none that can be read: the standard has it ignored."""
    parent, state = environment.get("TRACEPARENT", ""), environment.get("TRACESTATE", "")
    if not _PARENT.fullmatch(parent):
        return ()
    place = [("traceparent", parent)]
    if _STATE.fullmatch(state):
        place.append(("tracestate", state))
    return (_Unary(place), _Stream(place))


class _Placing:
    def __init__(self, place: Sequence[tuple[str, str]]) -> None:
        self._place = place

    def placed(self, details: Any) -> Any:
        metadata = aio.Metadata(*(details.metadata or ()), *self._place)
        return details._replace(metadata=metadata)


class _Unary(_Placing, aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, continuation: _Continuation, details: Any, request: Any
    ) -> Any:
        return await continuation(self.placed(details), request)


class _Stream(_Placing, aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(
        self, continuation: _Continuation, details: Any, request: Any
    ) -> Any:
        return await continuation(self.placed(details), request)
