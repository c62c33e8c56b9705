"""The user's tokens, one for each address of a control, in a file that only the user can read.

    {"current": "127.0.0.1:7420", "tokens": {"127.0.0.1:7420": "brt_…"}, "authorities": {}}

Beside a token the file may name the CA of that control's certificate. A token is only ever sent to
the address that it is stored for. Called by settings.py, by `bridle auth` and by `bridle up`.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bridle.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the file holds. `current` is the address that the user logged in to last."""

    current: str = ""
    tokens: dict[str, str] = field(default_factory=dict)
    authorities: dict[str, str] = field(default_factory=dict)

    def token(self, address: str) -> str | None:
        """The token for a normal address."""
        return self.tokens.get(address)

    def authority(self, address: str) -> str | None:
        """The file with the CA of the certificate at a normal address."""
        return self.authorities.get(address)

    @classmethod
    def read(cls, path: Path) -> Credentials:
        """What the file holds; nothing where it isn't there. SettingsError: it can't be used."""
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_mode & 0o077:
                    raise SettingsError(f"{path}: others may read it: chmod 600 {path}")
                raw = file.read()
        except FileNotFoundError:
            return cls()
        except OSError as error:
            raise SettingsError(f"{path}: {error.strerror}") from error
        try:
            return cls._checked(json.loads(raw))
        except json.JSONDecodeError as error:
            raise SettingsError(f"{path}:{error.lineno}:{error.colno}: {error.msg}") from error
        except (ValueError, TypeError, RecursionError) as error:
            raise SettingsError(f"{path}: no credentials file: log in again") from error

    @classmethod
    def _checked(cls, value: object) -> Credentials:
        if not isinstance(value, dict):
            raise TypeError
        current, tokens, authorities = (
            value.get("current", ""),
            value.get("tokens", {}),
            value.get("authorities", {}),
        )
        if not (isinstance(tokens, dict) and isinstance(authorities, dict)):
            raise TypeError
        texts = (current, *tokens, *tokens.values(), *authorities, *authorities.values())
        if not all(isinstance(text, str) for text in texts):
            raise TypeError
        return cls(current, tokens, authorities)


def store(path: Path, address: str, token: str, authority: Path | None = None) -> None:
    """Keeps the token, and the file with the CA, for the address, which becomes the current one."""
    with _locked(path):
        old = Credentials.read(path)
        authorities = _without(old.authorities, address)
        if authority is not None:
            authorities[address] = str(authority)
        _write(path, Credentials(address, {**old.tokens, address: token}, authorities))


def forget(path: Path, address: str) -> bool:
    """Drops the token of the address. Returns whether there was one."""
    with _locked(path):
        old = Credentials.read(path)
        new = Credentials(
            "" if old.current == address else old.current,
            _without(old.tokens, address),
            _without(old.authorities, address),
        )
        if new != old:
            _write(path, new)
        return address in old.tokens


def _without(values: dict[str, str], address: str) -> dict[str, str]:
    return {key: value for key, value in values.items() if key != address}


def write_secret(path: Path, text: str) -> None:
    """Writes a file that only the user can read, whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _write(path: Path, credentials: Credentials) -> None:
    value = asdict(credentials)
    write_secret(path, json.dumps(value, indent=2) + "\n")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One writer at a time, over processes."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = path.with_suffix(".lock")
    with open(os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
