"""How control's gRPC server is set up: limits, keepalive, the address that it binds.

Called by `app`.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence

import grpc
import grpc.aio

from bridle_control.interceptor import MESSAGE_MAX, TRANSPORT_MAX, Gate
from bridle_control.settings import Address, ListenError, Settings, SettingsError

#: Calls that are open at once, over all connections. An idle watch costs some 40 KB.
CALLS_MAX = 8192
#: Calls that one connection may have open at once: beyond it, the client's wait.
_STREAMS_MAX = 1000
#: Connections at once; a client needs one.
_CONNECTIONS_MAX = 4096

OPTIONS: Sequence[tuple[str, int]] = (
    # Two processes that share a port would each get half of the calls.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", TRANSPORT_MAX),
    ("grpc.max_send_message_length", MESSAGE_MAX),
    # Metadata of up to 16 KiB reach the interceptor, which answers a token of any size with a
    # reason; far beyond it the transport refuses.
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.absolute_max_metadata_size", 32 * 1024),
    # A peer that is frozen or cut off is noticed within 12 s: all four are needed, on both sides.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.ping_timeout_ms", 5_000),
    # The server's side of it: clients ping every 10 s, also while nothing else goes on.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.max_concurrent_streams", _STREAMS_MAX),
    ("grpc.max_allowed_incoming_connections", _CONNECTIONS_MAX),
    # Connections that say nothing are dropped.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.enable_channelz", 1),
)


def make_server(gate: Gate, settings: Settings) -> grpc.aio.Server:
    """A server with these options and the gate before its handlers; binds nothing.

    Raises SettingsError for an address or a certificate that can't be used: grpc would not tell
    why, and a server that never started leaks what it holds.
    """
    if settings.listen.port:
        _probe(settings.listen)
    _check_certificate(settings)
    return grpc.aio.server(interceptors=[gate], options=OPTIONS)


def bind(server: grpc.aio.Server, settings: Settings) -> Address:
    """Binds the address; the answer has the port that was given. Raises SettingsError."""
    address = settings.listen
    try:
        if settings.tls_cert is None or settings.tls_key is None:
            port = server.add_insecure_port(str(address))
        else:
            pair = settings.tls_key.read_bytes(), settings.tls_cert.read_bytes()
            port = server.add_secure_port(str(address), grpc.ssl_server_credentials([pair]))
    except RuntimeError as error:
        raise ListenError(f"can't listen on {address}") from error
    return Address(address.host, port)


def _check_certificate(settings: Settings) -> None:
    if settings.tls_cert is None or settings.tls_key is None:
        return
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password="")
    except ssl.SSLError as error:
        raise SettingsError(
            f"{settings.tls_cert}, {settings.tls_key}: no certificate with its key (PEM)"
        ) from error
    except OSError as error:
        # (It names no file.)
        missing = settings.tls_cert if not settings.tls_cert.exists() else settings.tls_key
        raise SettingsError(f"{missing}: {error.strerror}") from error


def _probe(address: Address) -> None:
    """Raises ListenError when the address can't be bound now."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ListenError(f"can't listen on {address}: no such address") from error
    for family, kind, protocol, _, place in found:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(place)
            except OSError as error:
                text = (error.strerror or "it can't be bound").lower()
                raise ListenError(f"can't listen on {address}: {text}") from error
