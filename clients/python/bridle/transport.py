"""One channel to one control, and unary calls over it: the token, deadlines, retries, errors.

Called by `Client` and the watcher. Belongs to the event loop that it was first used on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from grpc import ChannelConnectivity, aio

from bridle.errors import (
    BridleError,
    Code,
    ConnectionLostError,
    SettingsError,
    error_class,
    from_rpc,
)
from bridle.retry import RetryPolicy
from bridle.settings import is_loopback

if TYPE_CHECKING:
    import grpc

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
TokenSource = Callable[[], str | None]

#: The largest message that control takes, bytes.
MESSAGE_CAP = 4 * 1024 * 1024

#: Seconds between two looks whether a channel has become ready.
LONGEST_LOOK = 0.1

#: Without all four a frozen peer goes unnoticed for more than a minute.
_KEEPALIVE = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.ping_timeout_ms", 5_000),
]
#: A service that restarts is back within a second; gRPC's own first wait would be longer.
_RECONNECT = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Despite its name: how long a connect may take. Who pauses has not gone.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
]


class Addressed:
    """An interceptor that is told whom its client calls: "host:port"."""

    address = ""


class Transport:
    """A channel that is made at the first call.

    address: a normal "host:port". insecure: plaintext although the address is not loopback.
    tls_ca: the CA of control's certificate, PEM; None means the machine's own, and plaintext to
    loopback. interceptors: they see each try of a call and each connection of a watch.
    """

    def __init__(
        self,
        address: str,
        token: TokenSource,
        *,
        insecure: bool,
        retry: RetryPolicy,
        tls_ca: Path | None = None,
        interceptors: Sequence[aio.ClientInterceptor] = (),
    ) -> None:
        self.address = address
        self._interceptors = interceptors
        for each in interceptors:
            if isinstance(each, Addressed):
                each.address = address
        self._token = token
        # Who names a CA wants TLS, whatever else is set.
        self._plaintext = tls_ca is None and (insecure or is_loopback(address))
        self._tls_ca = tls_ca
        self._retry = retry
        self._channel: aio.Channel | None = None
        self._closed = asyncio.Event()
        #: Control has answered here.
        self._known = False

    @property
    def closed(self) -> bool:
        """Whether it was closed, for good."""
        return self._closed.is_set()

    @property
    def channel(self) -> aio.Channel:
        """The one channel; it reconnects by itself and is never replaced. Raises BridleError
        (CANCELLED) where it was closed.
        """
        if self.closed:
            raise _closed()
        if self._channel is None:
            options: list[tuple[str, str | int]] = [
                *_KEEPALIVE,
                *_RECONNECT,
                ("grpc.primary_user_agent", "bridle-python"),
                # What is on this machine is never reached by way of a proxy.
                ("grpc.enable_http_proxy", 0 if is_loopback(self.address) else 1),
            ]
            if self._plaintext:
                self._channel = aio.insecure_channel(
                    self.address, options, interceptors=self._interceptors
                )
            else:
                import grpc

                credentials = grpc.ssl_channel_credentials(self._authority())
                self._channel = aio.secure_channel(
                    self.address, credentials, options, interceptors=self._interceptors
                )
        return self._channel

    def _authority(self) -> bytes | None:
        if self._tls_ca is None:
            return None
        import ssl

        try:
            # gRPC would take anything, and never connect.
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=self._tls_ca)
            return self._tls_ca.read_bytes()
        except ssl.SSLError as error:
            raise SettingsError(f"{self._tls_ca}: no certificate of a CA (PEM)") from error
        except OSError as error:
            raise SettingsError(f"{self._tls_ca}: {error.strerror}") from error

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with every call: the token, read anew."""
        token = self._token()
        if token is None:
            raise error_class("TOKEN_MISSING")(f"no token is stored for {self.address}")
        if not (token.isascii() and token.isprintable()) or not token:
            raise SettingsError(
                "the token holds characters that no token has", code=Code.UNAUTHENTICATED
            )
        return (("authorization", f"Bearer {token}"),)

    def renewed(self, error: BridleError, metadata: tuple[tuple[str, str], ...]) -> bool:
        """Whether a call was refused for a token that was made fresh meanwhile."""
        if error.code is not Code.UNAUTHENTICATED:
            return False
        try:
            return self.metadata() != metadata
        except BridleError:
            return False  # what the call failed with tells more

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Around what awaits gRPC, which cancels whoever waits when the channel is closed."""
        try:
            yield
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self.closed and not (task is not None and task.cancelling()):
                raise _closed() from None
            raise

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float,
    ) -> Response:
        """Makes a unary call, again where that is safe. `timeout` is for all tries, in seconds.

        The request must be a read or carry its request id, the same for every try. One that asks to
        wait is given that time on top in each try.
        """
        if request.ByteSize() > MESSAGE_CAP:
            raise error_class("MESSAGE_TOO_LARGE")("the message is larger than 4 MiB")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        longest = self._retry.attempt_timeout + wait_of(request)
        attempt = 0
        while True:
            attempt += 1
            left = min(deadline - loop.time(), longest)
            metadata = self.metadata()
            try:
                with self.calling():
                    answer = await method(request, timeout=max(0.001, left), metadata=metadata)
                self._known = True
                return answer
            except aio.AioRpcError as raised:
                error = from_rpc(raised, self.address)
                self._known = self._known or bool(error.reason)
                left = deadline - loop.time()
                delay = self._retry.next_delay(error, attempt, left, known=self._known)
                if attempt < self._retry.attempts and self.renewed(error, metadata):
                    delay = 0.0
                if delay is None:
                    raise error from raised
            await self._sleep(delay)
            if self._known and not error.reason:
                # While gRPC pauses between its connects every try would fail at once.
                await self.ready(deadline - loop.time())

    async def ready(self, timeout: float | None) -> None:
        """Returns once the channel is connected.

        Streams wait here: a stream that is made while nobody answers leaks within gRPC.
        ConnectionLostError: it is not within `timeout` seconds.
        """
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        pause = 0.001
        # Looked at, not waited for: gRPC forgets nobody who waits for a state, not even when the
        # channel is closed, and would tell a loop that is gone by then.
        while self.channel.get_state(try_to_connect=True) is not ChannelConnectivity.READY:
            if deadline is not None and loop.time() > deadline:
                raise ConnectionLostError(f"no answer from {self.address}")
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_LOOK)
        self._known = True

    async def pause(self, attempt: int, error: BridleError) -> None:
        """Waits before a stream is opened again, after failure number `attempt` in a row."""
        await self._sleep(self._retry.backoff.delay(attempt, error))

    async def _sleep(self, seconds: float) -> None:
        """Raises BridleError (CANCELLED) as soon as it is closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        if self.closed:
            raise _closed()

    async def close(self) -> None:
        """Ends the connection and what goes on over it, for good."""
        self._closed.set()
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()


def _closed() -> BridleError:
    return BridleError("the client is closed", code=Code.CANCELLED)


def wait_of(request: Message) -> float:
    """Seconds that a request asks control to wait before it answers."""
    if "wait" not in request.DESCRIPTOR.fields_by_name:
        return 0.0
    wait: Duration = getattr(request, "wait")  # noqa: B009
    return max(0.0, wait.seconds + wait.nanos / 1e9)  # of less than none control tells


#: What gRPC, a proxy or a dying service say when a stream breaks off.
_BROKEN_STREAM = frozenset(
    {Code.CANCELLED, Code.UNKNOWN, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.UNAVAILABLE}
)


def is_broken(error: BridleError) -> bool:
    """Whether a stream that ended so may be opened again from its cursor: the connection was
    lost, or control wants the caller to come back. Control's own failures have a reason.
    """
    if error.reason:
        return error.reason in ("SHUTTING_DOWN", "RATE_LIMITED")
    return error.code in _BROKEN_STREAM
