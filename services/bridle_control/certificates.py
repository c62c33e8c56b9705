"""TLS on control's side: certificates that are read anew when their files change, and the names in
the certificate of a host that connects.

A certificate is short-lived, a control is not: each handshake looks whether the files are others
than those in use. What can't be used then (half written, the key of another certificate) changes
nothing: the former pair stays in use, and the log says why. Called by `transport` and by the
service of the hosts' links; decides nothing about rights.
"""

from __future__ import annotations

import logging
import os
import ssl
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

import grpc

from bridle_control.logs import kv
from bridle_control.settings import SettingsError

log = logging.getLogger("bridle.control.certificates")

#: What tells a file from another of the same name: device, inode, size, time of change in ns. (Not
#: that of its content: a copy may set it back, and it stays when a file may be read at last.)
_Signature = tuple[tuple[int, int, int, int], ...]


class CertificateFiles:
    """A certificate chain with its key, both PEM, and perhaps the CA that clients' come from.

    With `client_ca` every client must show a certificate of that CA, else the handshake fails.
    """

    def __init__(self, cert: Path, key: Path, client_ca: Path | None = None) -> None:
        """Raises SettingsError when they can't be used."""
        self._cert, self._key, self._client_ca = cert, key, client_ca
        # Handshakes are made on grpc's threads, several at once.
        self._lock = threading.Lock()
        self._looked_at = self._signature()
        self._first = self._load()

    def credentials(self) -> grpc.ServerCredentials:
        """For a server's port."""
        return grpc.dynamic_ssl_server_credentials(
            self._first,
            # (None is right, and means what it says here; the types don't know it.)
            self._newer,  # type: ignore[arg-type]
            require_client_authentication=self._client_ca is not None,
        )

    def context(self) -> ssl.SSLContext:
        """For a server that isn't grpc's; it asks no client for a certificate.

        Once for each of these objects: what is newer is told to one who asks, and to nobody else.
        """
        made = now = _check_pair(self._cert, self._key)

        def newest(connection: ssl.SSLObject, _name: str, _context: ssl.SSLContext) -> None:
            nonlocal now
            if self._newer() is not None:
                now = _check_pair(self._cert, self._key)
            connection.context = now

        # Called at each handshake, whether the client names a server or not.
        made.sni_callback = newest
        return made

    def _newer(self) -> grpc.ServerCertificateConfiguration | None:
        """What to use from this handshake on; None for what was used before."""
        with self._lock:
            try:
                signature = self._signature()
                if signature == self._looked_at:
                    return None
                self._looked_at = signature
                loaded = self._load()
            except SettingsError as error:
                log.warning("a new certificate can't be used; the old one is", extra=kv(why=error))
                return None
            log.info("a new certificate is in use", extra=kv(file=self._cert))
            return loaded

    def _files(self) -> Iterable[Path]:
        return (path for path in (self._cert, self._key, self._client_ca) if path is not None)

    def _signature(self) -> _Signature:
        return tuple(_signature(path) for path in self._files())

    def _load(self) -> grpc.ServerCertificateConfiguration:
        _check_pair(self._cert, self._key)
        if self._client_ca is not None:
            check_ca(self._client_ca)
        try:
            pair = self._key.read_bytes(), self._cert.read_bytes()
            ca = None if self._client_ca is None else self._client_ca.read_bytes()
        except OSError as error:
            raise SettingsError(f"{error.filename}: {error.strerror}") from error
        return grpc.ssl_server_certificate_configuration([pair], ca)


def _signature(path: Path) -> tuple[int, int, int, int]:
    try:
        found = os.stat(path)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    return found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns


def _check_pair(cert: Path, key: Path) -> ssl.SSLContext:
    """grpc would take anything, and refuse every handshake without a word."""
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key, password="")
        return context
    except ssl.SSLError as error:
        raise SettingsError(f"{cert}, {key}: no certificate with its key (PEM)") from error
    except OSError as error:
        # (It names no file.)
        missing = cert if not cert.exists() else key
        raise SettingsError(f"{missing}: {error.strerror}") from error


def check_ca(path: Path) -> None:
    """Raises SettingsError when the file holds no certificate of a CA."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        raise SettingsError(f"{path}: no certificate (PEM)") from error
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error


def names(auth_context: Mapping[str, Iterable[bytes]]) -> frozenset[str]:
    """The names in the certificate that the peer has shown: its common name and alternative names.

    Empty when it has shown none. `auth_context`: that of the call.
    """
    keys = ("x509_common_name", "x509_subject_alternative_name")
    return frozenset(
        value.decode("utf-8", "replace") for key in keys for value in auth_context.get(key, ())
    )
