"""The one interceptor: what stands before every handler, and what comes out of every failure.

For each call, in this order:

  1. while the service is shutting down: SHUTTING_DOWN (health goes on);
  2. the row of the method in the table of rights: none, then nobody may call it;
  3. the credential: missing, unknown, of a wrong kind, expired, revoked;
  4. the right;
  5. the size of the request, then its bytes, then its rules (nothing of a request is parsed
     before its caller is known);
  6. the handler, as a task that can be ended when the token ends;
  7. every failure becomes one google.rpc.Status: a BridleError as it is, anything else INTERNAL
     with an id, and the traceback under that id in the log;
  8. what changed something, and what was refused, is told to the audit log; how long it took and
     how it ended, to traces and metrics.

It takes handlers of all four shapes, as coroutines that write by themselves and as async
generators. Answers that are bytes already (a Watch's) go out as they are. A method that a service
has not taken over from its generated base class is refused as CAPABILITY_MISSING.

Handlers find their caller by `bridle_control.caller.current()`. They never call `context.abort`.
"""

from __future__ import annotations

import asyncio
import inspect
import ipaddress
import logging
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NoReturn
from urllib.parse import unquote

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from bridle_control import status, validation
from bridle_control.audit import Audit, Seen
from bridle_control.auth import Authenticator
from bridle_control.caller import Caller, set_current
from bridle_control.logs import kv
from bridle_control.streams import OpenCall, OpenCalls
from bridle_control.telemetry.calls import CallTelemetry
from bridle_core.errors import BridleError, Reason
from bridle_core.rights import REQUIREMENT_OF, CredentialKind, Requirement, allowed
from bridle_telemetry.telemetry import Telemetry

_log = logging.getLogger("bridle.control.calls")

#: The largest message that the contract allows, in bytes.
MESSAGE_MAX = 4 * 1024 * 1024
#: What the transport takes. More than MESSAGE_MAX, so that a message which is somewhat too large
#: gets an answer with a reason; beyond it grpc itself answers RESOURCE_EXHAUSTED, without one.
TRANSPORT_MAX = 8 * 1024 * 1024

# Unary calls that may wait long, and so are ended with their token like a stream.
_LONG_CALLS = frozenset({"/bridle.v1.SessionService/GetCommand"})

# Who is refused at a method without a row must have a token all the same: the refusal tells that
# there is such a method.
_NO_ROW = Requirement(frozenset({CredentialKind.USER, CredentialKind.SESSION}))

Context = grpc.aio.ServicerContext[Any, Any]
_Behavior = Callable[[Any, Context], Any]


class Gate(grpc.aio.ServerInterceptor):
    """See the module. One per server; used from its event loop alone."""

    def __init__(
        self,
        authenticator: Authenticator,
        open_calls: OpenCalls,
        *,
        calls_max: int,
        connection_calls_max: int,
        audit: Audit | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        """`calls_max`: how many calls may be open at once, and `connection_calls_max`: how many of
        them over one connection; beyond it RATE_LIMITED."""
        self.audit = audit or Audit()
        self.telemetry = CallTelemetry(telemetry or Telemetry.off())
        self._authenticator = authenticator
        self._open_calls = open_calls
        # Callers without a token get a share of their own: they can't keep the others out.
        self._limits = {False: calls_max, True: max(1, calls_max // 8)}
        self._calls = {False: 0, True: 0}
        self._connection_limit = connection_calls_max
        self._of_connection: Counter[str] = Counter()
        self._shutting_down = False
        # grpc asks for the handler of each call; what is made of it is the same each time.
        self._guarded: dict[str, tuple[object, grpc.RpcMethodHandler[Any, Any]]] = {}

    def refuse_new_calls(self) -> None:
        """From now on every new call but health's gets SHUTTING_DOWN."""
        self._shutting_down = True

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler behind the gate. A method that nobody serves is left to grpc
        (UNIMPLEMENTED): clients find out by that which version of reflection we speak."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method: str = handler_call_details.method
        known = self._guarded.get(method)
        if known is None or known[0] is not handler:
            known = (handler, self.guard(method, handler))
            self._guarded[method] = known
        return known[1]

    def guard(
        self, method: str, handler: grpc.RpcMethodHandler[Any, Any]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """A handler behind the gate. It takes a unary request undecoded, and gives bytes."""
        guarded = _Guarded(self, method, handler)
        if handler.request_streaming:
            deserializer = guarded.decode
        else:
            deserializer = None  # done by the guard, once the caller is known
        if handler.response_streaming:
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            return make(guarded.stream, deserializer, guarded.encode)
        make = (
            grpc.stream_unary_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        return make(guarded.unary, deserializer, None)

    @contextmanager
    def admit(self, requirement: Requirement, peer: str) -> Iterator[None]:
        """Counts a call; `peer` names the connection. Raises SHUTTING_DOWN, RATE_LIMITED."""
        public = requirement.public
        if not public and self._shutting_down:
            raise status.shutting_down()
        if self._calls[public] >= self._limits[public]:
            raise BridleError(
                Reason.RATE_LIMITED,
                f"control has {self._limits[public]} such calls open; try again",
                retry_after=1.0,
            )
        if self._of_connection[peer] >= self._connection_limit:
            raise BridleError(
                Reason.RATE_LIMITED,
                f"this connection has {self._connection_limit} calls open; try again",
                retry_after=1.0,
            )
        self._calls[public] += 1
        self._of_connection[peer] += 1
        try:
            yield
        finally:
            self._calls[public] -= 1
            self._of_connection[peer] -= 1
            if not self._of_connection[peer]:
                del self._of_connection[peer]

    async def identify(self, seen: Seen, context: Context) -> Caller | None:
        """The caller, set for the handler; None where the method is public."""
        requirement = seen.requirement
        if requirement.public:
            return None
        metadata = context.invocation_metadata() or ()
        caller = await self._authenticator.authenticate(metadata, requirement.kinds)
        seen.caller = caller
        if not allowed(caller.rights, seen.method):
            right = requirement.right or ""
            text = f"this needs the right {right}" if right else "nobody may call this"
            raise BridleError(Reason.NOT_ALLOWED, text, metadata={"right": right})
        if requirement.loopback_only and not is_local(context.peer()):
            raise BridleError(
                Reason.NOT_ALLOWED,
                "this is open to callers on control's own machine only",
                metadata={"right": requirement.right or ""},
            )
        set_current(caller)
        self.telemetry.known(seen, metadata)
        return caller

    # -- how calls end, for those who are told

    def over(self, seen: Seen) -> None:
        """A call was answered."""
        if seen.caller is not None:
            self.audit.over(seen)
        self.telemetry.over(seen)

    def failed(self, seen: Seen, error: BridleError) -> None:
        """A call was refused, or failed."""
        self.audit.failed(seen, error)
        self.telemetry.failed(seen, error)

    def cancelled(self, seen: Seen) -> None:
        """A call's client is gone."""
        self.audit.cancelled(seen)
        self.telemetry.cancelled(seen)

    def track(self, caller: Caller, *, long: bool) -> AbstractContextManager[OpenCall]:
        """For as long as a call under this caller's token is open."""
        return self._open_calls.track(caller, long=long)


class _Guarded:
    """One method's handler behind the gate."""

    def __init__(self, gate: Gate, method: str, handler: grpc.RpcMethodHandler[Any, Any]) -> None:
        self._gate = gate
        self._method = method
        self._requirement = REQUIREMENT_OF.get(method, _NO_ROW)
        # (grpc's types know only the synchronous shapes.)
        behavior: Any = (
            handler.unary_unary
            or handler.unary_stream
            or handler.stream_unary
            or handler.stream_stream
        )
        self._behavior: _Behavior = behavior
        self._streams_requests = handler.request_streaming
        self._deserialize = handler.request_deserializer
        self._serialize = handler.response_serializer
        self._generates = inspect.isasyncgenfunction(behavior)
        # The generated base classes' methods are plain functions that raise NotImplementedError.
        self._served = self._generates or inspect.iscoroutinefunction(behavior)
        # grpc's own servicers (channelz) tell what is not there by a status, and no answer.
        self._foreign = not method.startswith("/bridle.")
        self._long = handler.response_streaming or method in _LONG_CALLS

    # -- the two shapes that grpc calls

    async def unary(self, request: Any, context: Context) -> Any:
        """For handlers with one answer; returns its bytes."""
        return await self._handle(self._unary, request, context)

    async def stream(self, request: Any, context: Context) -> None:
        """For handlers with a stream of answers; writes them."""
        await self._handle(self._stream, request, context)

    def decode(self, raw: bytes) -> Any:
        """A request from its bytes. Raises MESSAGE_TOO_LARGE, INVALID_REQUEST."""
        if len(raw) > MESSAGE_MAX:
            raise BridleError(
                Reason.MESSAGE_TOO_LARGE,
                f"the message has {len(raw)} bytes; at most {MESSAGE_MAX} are taken",
                metadata={"limit": str(MESSAGE_MAX)},
            )
        if self._deserialize is None:
            return raw
        try:
            return self._deserialize(raw)
        except (DecodeError, ValueError) as error:
            raise validation.undecodable() from error

    def encode(self, response: Any) -> Any:
        """An answer as bytes."""
        if isinstance(response, bytes) or self._serialize is None:
            return response
        if response is None and self._foreign:
            return None  # it has set the status by itself
        return self._serialize(response)

    # -- what goes on behind

    async def _handle(
        self,
        respond: Callable[[Any, Context, Seen], Awaitable[Any]],
        request: Any,
        context: Context,
    ) -> Any:
        call: OpenCall | None = None
        began = time.time_ns()
        seen = Seen(self._method, self._requirement, context.peer(), began=began)
        try:
            with self._gate.admit(self._requirement, seen.peer):
                caller = await self._gate.identify(seen, context)
                self._check_served()
                if caller is None:
                    answer = await self._receive(respond, request, context, seen)
                else:
                    with self._gate.track(caller, long=self._long) as call:
                        answer = await self._receive(respond, request, context, seen)
            self._gate.over(seen)
            return answer
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 (the one place that catches everything)
            await self._fail(context, call, error, seen)

    def _check_served(self) -> None:
        if not self._served:
            name = self._method.rpartition("/")[2]
            raise BridleError(
                Reason.CAPABILITY_MISSING,
                f"{name} is not served by this release",
                metadata={"capability": name},
            )

    async def _receive(
        self,
        respond: Callable[[Any, Context, Seen], Awaitable[Any]],
        request: Any,
        context: Context,
        seen: Seen,
    ) -> Any:
        if self._streams_requests:
            return await respond(_Checked(request), context, seen)
        seen.request = message = self.decode(request)
        validation.check(message)
        return await respond(message, context, seen)

    async def _unary(self, request: Any, context: Context, seen: Seen) -> Any:
        seen.response = await self._behavior(request, context)
        return self.encode(seen.response)

    async def _stream(self, request: Any, context: Context, seen: Seen) -> None:
        self._gate.audit.opened(seen)
        if not self._generates:
            await self._behavior(request, context)
            return
        responses = self._behavior(request, context)
        try:
            async for response in responses:
                await context.write(response)
        finally:
            await responses.aclose()

    # -- failures

    async def _fail(
        self, context: Context, call: OpenCall | None, error: BaseException, seen: Seen
    ) -> NoReturn:
        gate = self._gate
        if call is not None and call.ended is not None:
            # Ended by us: the cancellation has done its work, whatever the handler made of it.
            call.task.uncancel()
            gate.failed(seen, call.ended)
            await _abort(context, call.ended)
        if isinstance(error, grpc.aio.AbortError | asyncio.CancelledError):
            gate.cancelled(seen)
            raise error  # health's own status; the client is gone, or the server stops
        if isinstance(error, grpc.aio.InternalError):
            # So an answer fails that was being written when the client went; the cancellation of
            # the call comes later.
            gate.cancelled(seen)
            raise asyncio.CancelledError from error
        if isinstance(error, BridleError):
            gate.failed(seen, error)
            await _abort(context, error)
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # Nobody is there to be told; what failed was most likely a clean-up.
            _log.debug("failed after its end", extra=kv(method=self._method), exc_info=error)
            gate.cancelled(seen)
            raise asyncio.CancelledError
        fault_id = uuid.uuid4().hex
        _log.error("fault", extra=kv(id=fault_id, method=self._method), exc_info=error)
        fault = status.internal(fault_id)
        gate.failed(seen, fault)
        await _abort(context, fault)


class _Checked:
    """The requests of a stream, the first of them checked against its rules."""

    def __init__(self, requests: AsyncIterator[Any]) -> None:
        self._requests = requests
        self._first = True

    def __aiter__(self) -> _Checked:
        return self

    async def __anext__(self) -> Any:
        message = await anext(self._requests)
        if self._first:
            self._first = False
            validation.check(message)
        return message


async def _abort(context: Context, error: BridleError) -> NoReturn:
    """Ends the call with the error's status."""
    rich = status.to_status(error)
    await context.abort(
        status.to_grpc_code(error),
        rich.message,
        ((status.STATUS_KEY, rich.SerializeToString()),),
    )


def is_local(peer: str) -> bool:
    """Whether grpc's name of a peer ("ipv4:127.0.0.1:5", "ipv6:%5B::1%5D:5") is of this machine."""
    scheme, _, place = unquote(peer).partition(":")
    if scheme == "unix":
        return True
    host = place.rpartition(":")[0].removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
