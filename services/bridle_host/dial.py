"""The channel to control: its options, and whether it is encrypted.

On this machine the way is plaintext, unless TLS is asked for by naming a CA; to any other it is
TLS, by the CA that is named or else the machine's own, unless plaintext is asked for. Called by the
link and by the enrolment.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
    ("grpc.max_reconnect_backoff_ms", 4_000),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # despite its name: how long a connect may take
)


class CertificateError(Exception):
    """A file for TLS can't be used; the text is one line for people."""


@dataclass(frozen=True, slots=True)
class Control:
    """Where control is: HOST:PORT, and whether to speak plaintext although it's elsewhere.

    `ca`: of control's certificate. `cert`, `key`: of this host's own, where control wants one. All
    are files in PEM.
    """

    address: str
    insecure: bool = False
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @property
    def plaintext(self) -> bool:
        """Whether what is said can be read on the way."""
        return self.insecure or (self.ca is None and is_loopback(self.address))

    @property
    def environment(self) -> dict[str, str]:
        """What tells `bridle` how to speak to the same control, beside its address."""
        if self.insecure:
            return {"BRIDLE_INSECURE": "1"}
        return {} if self.ca is None else {"BRIDLE_TLS_CA": str(self.ca)}

    def signature(self) -> object:
        """Differs from an earlier one when a file for TLS was replaced since."""
        return [_signature(path) for path in (self.ca, self.cert, self.key) if path is not None]

    def check(self) -> None:
        """Raises CertificateError when the files can't be used."""
        self._read()

    def _read(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """The CA, the key and the certificate. grpc would take anything, and never connect."""
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            if self.ca is not None:
                context.load_verify_locations(cafile=self.ca)
            if self.cert is not None and self.key is not None:
                context.load_cert_chain(self.cert, self.key, password="")
            ca, key, cert = (
                None if path is None else path.read_bytes()
                for path in (self.ca, self.key, self.cert)
            )
        except ssl.SSLError:
            files = ", ".join(str(path) for path in (self.ca, self.cert, self.key) if path)
            raise CertificateError(f"{files}: no CA, certificate and its key (PEM)") from None
        except OSError as error:
            missing = next((p for p in (self.ca, self.cert, self.key) if p and not p.exists()), "")
            raise CertificateError(f"{missing}: {error.strerror}") from None
        return ca, key, cert

    def channel(self) -> aio.Channel:
        """A new channel; it connects when it is used, and again by itself.

        Reads the certificates; raises CertificateError when they can't be used.
        """
        # What is on this machine is never reached by way of a proxy.
        options = [*OPTIONS, ("grpc.enable_http_proxy", 0 if is_loopback(self.address) else 1)]
        if self.plaintext:
            return aio.insecure_channel(self.address, options)
        return aio.secure_channel(
            self.address, grpc.ssl_channel_credentials(*self._read()), options
        )


def _signature(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns


def is_loopback(address: str) -> bool:
    """Whether HOST:PORT is on this machine for certain. Names other than localhost never are."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
