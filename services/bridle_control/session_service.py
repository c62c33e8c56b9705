"""SessionService as it is registered: all verbs in one, each method with the right shape.

The comments of session_service.proto are the specification. The interceptor has checked the
caller's right and the request's rules before. Called by `app`.
"""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
from google.protobuf.message_factory import GetMessageClass

from bridle.v1 import session_service_pb2
from bridle_control.service.ends import EndVerbs
from bridle_control.service.inputs import InputVerbs
from bridle_control.service.reads import Reads
from bridle_control.service.start import StartVerbs
from bridle_control.service.verbs import OtherVerbs
from bridle_control.service.watching import WatchVerbs

_SERVICE = session_service_pb2.DESCRIPTOR.services_by_name["SessionService"]

#: What answers in bytes that are serialized already, once for all watchers.
_RAW = frozenset({"Watch", "WatchSessions"})


class SessionService(StartVerbs, InputVerbs, EndVerbs, OtherVerbs, Reads, WatchVerbs):
    """See the module."""


def add_session_service(service: SessionService, server: grpc.aio.Server) -> None:
    """Registers every method of the descriptor; one that is not served fails here, at the start."""
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
    for method in _SERVICE.methods:
        make = (
            grpc.unary_stream_rpc_method_handler
            if method.server_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        answer = GetMessageClass(method.output_type)
        handlers[method.name] = make(
            getattr(service, method.name),
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=None if method.name in _RAW else answer.SerializeToString,
        )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(_SERVICE.full_name, handlers),)
    )
