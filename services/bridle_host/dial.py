"""The channel to control: its options, and whether it is encrypted.

On this machine the way is plaintext; to any other it is TLS, by the machine's own roots or those
that GRPC_DEFAULT_SSL_ROOTS_FILE_PATH names, unless plaintext is asked for. Called by the link and
by the enrolment.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
from grpc import aio

#: Without the first four a peer that stands still is noticed after a minute or more.
OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.max_send_message_length", 4 * 1024 * 1024),
    # For connecting the channel, where grpc makes the pauses: those of the link, ± 20 % as well.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 10_000),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # despite its name: how long a connect may take
)


@dataclass(frozen=True, slots=True)
class Control:
    """Where control is: HOST:PORT, and whether to speak plaintext although it's elsewhere."""

    address: str
    insecure: bool = False

    @property
    def plaintext(self) -> bool:
        """Whether what is said can be read on the way."""
        return self.insecure or is_loopback(self.address)

    def channel(self) -> aio.Channel:
        """A new channel; it connects when it is used, and again by itself."""
        # What is on this machine is never reached by way of a proxy.
        options = [*OPTIONS, ("grpc.enable_http_proxy", 0 if is_loopback(self.address) else 1)]
        if self.plaintext:
            return aio.insecure_channel(self.address, options)
        return aio.secure_channel(self.address, grpc.ssl_channel_credentials(), options)


def is_loopback(address: str) -> bool:
    """Whether HOST:PORT is on this machine for certain. Names other than localhost never are."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
