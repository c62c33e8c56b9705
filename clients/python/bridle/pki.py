"""A small certificate authority: for control's certificate and those of its hosts.

    DIR/ca.pem          the authority's certificate; control, hosts and clients get it
    DIR/ca.key          its private key; stays where it is
    DIR/control.pem     control's certificate, with DIR/control.key
    DIR/host-NAME.pem   a host's, with DIR/host-NAME.key

Keys are on P-256, unencrypted, of mode 0600. Whoever has an authority of their own needs none of
this: README says what the certificates must hold. Called by `bridle pki`; opens no connection.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bridle.errors import SettingsError

#: Machines' clocks differ.
_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Files:
    """A certificate and its private key, both in PEM."""

    cert: Path
    key: Path


def make_authority(directory: Path, days: int) -> Files:
    """Makes the authority. Raises SettingsError where there is one, or it can't be written."""
    files = _authority_files(directory)
    if files.cert.exists() or files.key.exists():
        raise SettingsError(f"there is an authority in {directory}; what it has signed needs it")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Bridle")])
    builder = _builder(name, name, key.public_key(), days)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(sign_certificates=True), critical=True)
    _write(files, key, builder.sign(key, hashes.SHA256()))
    return files


def make_control(directory: Path, names: Iterable[str], days: int) -> Files:
    """Makes control's certificate, or renews it.

    `names`: the DNS names and IP addresses by which clients and hosts reach it, at least one.
    """
    names = list(names)
    alternatives = [_alternative(name) for name in names]
    files = Files(directory / "control.pem", directory / "control.key")
    _issue(directory, files, names[0], alternatives, ExtendedKeyUsageOID.SERVER_AUTH, days)
    return files


def make_host(directory: Path, name: str, days: int) -> Files:
    """Makes the certificate of the host that joins by this name, or renews it."""
    files = Files(directory / f"host-{name}.pem", directory / f"host-{name}.key")
    _issue(directory, files, name, [], ExtendedKeyUsageOID.CLIENT_AUTH, days)
    return files


def _issue(
    directory: Path,
    files: Files,
    name: str,
    alternatives: list[x509.GeneralName],
    purpose: x509.ObjectIdentifier,
    days: int,
) -> None:
    authority, authority_key = _authority(directory)
    key = ec.generate_private_key(ec.SECP256R1())
    try:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    except ValueError as error:
        raise SettingsError(f"{name!r}: a name in a certificate has 1 to 64 characters") from error
    builder = _builder(subject, authority.subject, key.public_key(), days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    builder = builder.add_extension(_usage(sign_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    builder = builder.add_extension(issuer, critical=False)
    _write(files, key, builder.sign(authority_key, hashes.SHA256()))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - _SKEW).not_valid_after(now + timedelta(days=days))
    identifier = x509.SubjectKeyIdentifier.from_public_key(key)
    return builder.add_extension(identifier, critical=False)


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    labels = name.rstrip(".").split(".")
    if not name.isascii() or not all(
        label and len(label) < 64 and all(char.isalnum() or char in "-_*" for char in label)
        for label in labels
    ):
        raise SettingsError(f"{name!r} is no DNS name and no IP address")
    return x509.DNSName(name)


def _authority_files(directory: Path) -> Files:
    return Files(directory / "ca.pem", directory / "ca.key")


def _authority(directory: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    files = _authority_files(directory)
    try:
        certificate = x509.load_pem_x509_certificate(files.cert.read_bytes())
        key = serialization.load_pem_private_key(files.key.read_bytes(), password=None)
    except FileNotFoundError as error:
        raise SettingsError(
            f"there is no authority in {directory}: `bridle pki init` makes it"
        ) from error
    except OSError as error:
        raise SettingsError(f"{error.filename}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{files.cert}, {files.key}: no certificate with its key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise SettingsError(f"{files.key}: not a key that `bridle pki init` has made")
    return certificate, key


def _write(files: Files, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    """The key first: who reads both while they are renewed finds a pair that doesn't fit, and looks
    again, at worst."""
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _replace(files.key, pem, 0o600)
    _replace(files.cert, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _replace(path: Path, content: bytes, mode: int) -> None:
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with open(handle, "wb") as file:
            file.write(content)
        new.replace(path)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
