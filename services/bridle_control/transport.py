"""How control's gRPC server is set up: limits, keepalive, the addresses that it binds.

Called by `app`.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import grpc.aio

from bridle_control.certificates import CertificateFiles
from bridle_control.interceptor import MESSAGE_MAX, TRANSPORT_MAX, Gate
from bridle_control.settings import Address, ListenError, Settings

#: Calls that are open at once, over all connections. An idle watch costs some 40 KB.
CALLS_MAX = 8192
#: Calls that one connection may have open at once. Counted by the gate: with grpc's own limit
#: ("grpc.max_concurrent_streams", 1.85) a connection on which many calls are cancelled within a
#: moment comes to a standstill for good, and its client's next calls with it.
CONNECTION_CALLS_MAX = 1000
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
    ("grpc.max_allowed_incoming_connections", _CONNECTIONS_MAX),
    # Connections that say nothing are dropped.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.enable_channelz", 1),
)


@dataclass(frozen=True, slots=True)
class Port:
    """An address to bind, and how what arrives there is encrypted; None for plaintext."""

    address: Address
    certificates: CertificateFiles | None

    def bind(self, server: grpc.aio.Server) -> Address:
        """Binds it; the answer has the port that was given. Raises ListenError."""
        try:
            if self.certificates is None:
                port = server.add_insecure_port(str(self.address))
            else:
                port = server.add_secure_port(str(self.address), self.certificates.credentials())
        except RuntimeError as error:
            raise ListenError(f"can't listen on {self.address}") from error
        return Address(self.address.host, port)


@dataclass(frozen=True, slots=True)
class Ports:
    """Where control listens: for everybody, and perhaps for hosts by mutual TLS, and for pages."""

    everybody: Port
    hosts: Port | None
    http: Port | None = None

    @classmethod
    def of(cls, settings: Settings) -> Ports:
        """Reads the certificates, and looks whether the addresses can be had.

        Raises SettingsError where not: grpc would not tell why, and a server that never started
        leaks what it holds.
        """
        cert, key = settings.tls_cert, settings.tls_key
        if cert is None or key is None:
            http = None if settings.http_listen is None else Port(settings.http_listen, None)
            ports = cls(Port(settings.listen, None), None, http)
        else:
            everybody = Port(settings.listen, CertificateFiles(cert, key))
            hosts = None
            if settings.hosts_listen is not None:
                files = CertificateFiles(cert, key, settings.hosts_ca)
                hosts = Port(settings.hosts_listen, files)
            http = None
            if settings.http_listen is not None:
                http = Port(settings.http_listen, CertificateFiles(cert, key))
            ports = cls(everybody, hosts, http)
        for port in (ports.everybody, ports.hosts, ports.http):
            if port is not None and port.address.port:
                _probe(port.address)
        return ports

    def bind(self, server: grpc.aio.Server) -> Serving:
        """Binds those of the gRPC server; the answer has the ports that were given.

        Raises ListenError.
        """
        everybody = self.everybody.bind(server)
        return Serving(everybody, None if self.hosts is None else self.hosts.bind(server))


@dataclass(frozen=True, slots=True)
class Serving:
    """The addresses that are bound."""

    grpc: Address
    hosts: Address | None = None
    http: Address | None = None
    #: Where Prometheus may ask, as HOST:PORT.
    metrics: str | None = None

    def __str__(self) -> str:
        hosts = "" if self.hosts is None else f" hosts={self.hosts}"
        http = "" if self.http is None else f" http={self.http}"
        metrics = "" if self.metrics is None else f" metrics={self.metrics}"
        return f"grpc={self.grpc}{hosts}{http}{metrics}"


def make_server(gate: Gate) -> grpc.aio.Server:
    """A server with these options and the gate before its handlers; binds nothing."""
    return grpc.aio.server(interceptors=[gate], options=OPTIONS)


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
