"""What the control service is started with: flags over a settings file over defaults.

    bridle-control serve --config control.yaml

    # control.yaml: the flags by their names
    store: /var/lib/bridle
    listen: 127.0.0.1:7420

Called by `__main__`. Everything that is wrong is a SettingsError of one line, before anything was
opened.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bridle_control.retain import EVERYTHING, Limits
from bridle_core.transcript import CAP
from bridle_telemetry.settings import OFF, TelemetrySettings, TelemetrySettingsError

#: Where control listens unless it is told.
DEFAULT_LISTEN = "127.0.0.1:7420"


# An origin as browsers send it: scheme, host, a port unless it is the scheme's own; no path
# (RFC 6454, section 6.2).
_ORIGIN = re.compile(
    r"\*|(?!http://.*:80$|https://.*:443$)https?://([a-z0-9.\-]+|\[[0-9a-f:]+\])(:\d{1,5})?"
)


# The settings that are TelemetrySettings'.
_TELEMETRY = ("otlp_endpoint", "metrics_listen", "trace_ratio")

#: The bounds of transcript-bytes. It goes with a start, which is one message.
TRANSCRIPT_MIN, TRANSCRIPT_MAX = 4 * 1024, 1024 * 1024


class SettingsError(Exception):
    """Its text is one line, fit for the person who started control."""


class ListenError(SettingsError):
    """The settings are right, but the address can't be had on this machine now."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. Port 0 means any that is free."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, setting: str = "listen") -> Address:
        """From "HOST:PORT" or "[IPV6]:PORT". Raises SettingsError, naming the setting."""
        host, colon, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
        if not colon or not host or not port.isascii() or not port.isdecimal():
            raise SettingsError(f"{setting}: {text!r} is not HOST:PORT")
        if ":" in host and not text.startswith("["):
            raise SettingsError(f"{setting}: {text!r}: write an IPv6 address as [ADDRESS]:PORT")
        if int(port) > 65535:
            raise SettingsError(f"{setting}: port {port} is above 65535")
        return cls(host, int(port))

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it. A name counts only if it is localhost."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """See the flags of `bridle-control serve`."""

    store: Path
    listen: Address
    insecure_public: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None
    #: Hosts connect here, and only here, each with a certificate of `hosts_ca`.
    hosts_listen: Address | None = None
    hosts_ca: Path | None = None
    #: The browser gateway; None: there is none.
    http_listen: Address | None = None
    #: Pages from these origins may call it; "*" for all.
    http_origins: tuple[str, ...] = ()
    #: Where it is told who did what; None: in the store's directory.
    audit_log: Path | None = None
    audit_reads: bool = False
    #: What is kept of the logs; by default all.
    retain_per_session: Limits = EVERYTHING
    retain_total: Limits = EVERYTHING
    #: The most bytes of the conversation that an agent is told which takes another's place.
    transcript_bytes: int = CAP
    #: Traces and metrics; by default none.
    telemetry: TelemetrySettings = OFF
    #: The store was set back to an older state.
    restored: bool = False
    ready_fd: int | None = None
    log_level: str = "INFO"

    @property
    def audit_path(self) -> Path:
        """The file of the audit log."""
        return self.audit_log or self.store / "audit.jsonl"

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise SettingsError("tls-cert and tls-key go together")
        if (self.hosts_listen is None) != (self.hosts_ca is None):
            raise SettingsError("hosts-listen and hosts-ca go together")
        if self.hosts_listen is not None and self.tls_cert is None:
            raise SettingsError("hosts-listen is mutual TLS: give --tls-cert and --tls-key too")
        for address in (self.listen, self.http_listen):
            if address is not None and not self._may_listen(address):
                raise SettingsError(
                    f"refusing to listen on {address} in plaintext: tokens would cross the network"
                    " readable; give --tls-cert and --tls-key, or force it by --insecure-public"
                )
        if self.http_origins and self.http_listen is None:
            raise SettingsError("http-origin is for the browser gateway: give --http-listen too")
        for origin in self.http_origins:
            if not _ORIGIN.fullmatch(origin):
                raise SettingsError(
                    f"http-origin: {origin!r} is no origin, such as https://app.example, nor *"
                )
        if not TRANSCRIPT_MIN <= self.transcript_bytes <= TRANSCRIPT_MAX:
            raise SettingsError(f"transcript-bytes is from {TRANSCRIPT_MIN} to {TRANSCRIPT_MAX}")
        if self.log_level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise SettingsError("log-level is one of DEBUG, INFO, WARNING, ERROR")

    def _may_listen(self, address: Address) -> bool:
        return address.loopback or self.tls_cert is not None or self.insecure_public


def load(flags: Mapping[str, Any], config: Path | None) -> Settings:
    """The settings; `flags` holds those that were given, by the names of Settings' fields."""
    chosen: dict[str, Any] = {**(read_config(config) if config else {}), **flags}
    if not chosen.get("store"):
        raise SettingsError("store: which directory? give --store PATH")
    return Settings(
        store=_path("store", chosen["store"]),
        listen=Address.parse(_text("listen", chosen.get("listen", DEFAULT_LISTEN))),
        insecure_public=_truth("insecure_public", chosen.get("insecure_public", False)),
        tls_cert=_path("tls_cert", chosen["tls_cert"]) if chosen.get("tls_cert") else None,
        tls_key=_path("tls_key", chosen["tls_key"]) if chosen.get("tls_key") else None,
        hosts_listen=(
            Address.parse(_text("hosts_listen", chosen["hosts_listen"]), "hosts-listen")
            if chosen.get("hosts_listen")
            else None
        ),
        hosts_ca=_path("hosts_ca", chosen["hosts_ca"]) if chosen.get("hosts_ca") else None,
        http_listen=(
            Address.parse(_text("http_listen", chosen["http_listen"]), "http-listen")
            if chosen.get("http_listen")
            else None
        ),
        http_origins=_texts("http_origins", chosen.get("http_origins", ())),
        audit_log=_path("audit_log", chosen["audit_log"]) if chosen.get("audit_log") else None,
        audit_reads=_truth("audit_reads", chosen.get("audit_reads", False)),
        retain_per_session=_limits("retain_per_session", chosen.get("retain_per_session")),
        retain_total=_limits("retain_total", chosen.get("retain_total")),
        transcript_bytes=_number("transcript_bytes", chosen.get("transcript_bytes", CAP)),
        telemetry=_telemetry(chosen),
        restored=_truth("restored", chosen.get("restored", False)),
        ready_fd=_number("ready_fd", chosen["ready_fd"]) if "ready_fd" in chosen else None,
        log_level=_text("log_level", chosen.get("log_level", "INFO")).upper(),
    )


def read_config(path: Path) -> dict[str, Any]:
    """The settings file: a mapping with the flags' names ("tls-cert" or "tls_cert")."""
    import yaml  # 20 ms that most starts don't need

    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not text in UTF-8") from error
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise SettingsError(f"{path}{where}: not YAML") from error
    except RecursionError as error:
        raise SettingsError(f"{path}: nested too deep") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise SettingsError(f"{path}: must be a mapping of settings")
    known = {field.name for field in fields(Settings)} - {"ready_fd", "restored", "telemetry"}
    known |= set(_TELEMETRY)
    result = {}
    for key, value in found.items():
        name = str(key).replace("-", "_")
        if name not in known:
            raise SettingsError(f"{path}: unknown setting {str(key)!r}")
        result[name] = value
    return result


def _telemetry(chosen: Mapping[str, Any]) -> TelemetrySettings:
    try:
        return TelemetrySettings.of(**{name: chosen.get(name) for name in _TELEMETRY})
    except TelemetrySettingsError as error:
        raise SettingsError(str(error)) from error


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise SettingsError(f"{name}: expected text")
    return value


def _texts(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise SettingsError(f"{name}: expected a list")
    return tuple(_text(name, item) for item in value)


def _path(name: str, value: object) -> Path:
    if isinstance(value, Path):
        return value
    text = _text(name, value)
    if "\0" in text:
        raise SettingsError(f"{name}: not a path")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise SettingsError(f"{name}: {text!r}: no such user") from error


def _limits(name: str, value: object) -> Limits:
    if value is None:
        return EVERYTHING
    try:
        return Limits.parse(_text(name, value))
    except ValueError as error:
        raise SettingsError(f"{name.replace('_', '-')}: {error}") from error


def _truth(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise SettingsError(f"{name}: expected true or false")
    return value


def _number(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise SettingsError(f"{name}: expected a number")
    return value
