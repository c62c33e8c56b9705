"""The directory in which a host keeps what it must not forget: one process at a time, nobody else.

    lock          held by the host process that uses the directory
    credential    who this host is, and the secret that proves it (JSON, 0600)
    journal       see `bridle_host.journal`
    runs/         what the runs need while they live (sockets, token files, spools)

Called by `bridle_host.app` at the start. Everything in here is 0700 or 0600.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import stat
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self


class StateError(Exception):
    """The directory can't be used; the text is one line for people."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What Enroll gave, and the name that it was given for."""

    host_id: str
    name: str
    workspace: str
    secret: str = field(repr=False)


class StateDirectory:
    """The directory, locked for this process from `open` on until the `with` block ends."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def open(cls, path: Path) -> StateDirectory:
        """Makes it where it isn't there. Raises StateError."""
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = path.stat()
            if status.st_uid != os.geteuid():
                raise StateError(f"{path} belongs to another user")
            if stat.S_IMODE(status.st_mode) != 0o700:
                path.chmod(0o700)
            lock = os.open(path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(f"{path} can't be used: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise StateError(f"{path} is in use by another bridle-host") from None
        return cls(path, lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._lock)

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self.path / "journal"

    @property
    def runs(self) -> Path:
        """What the runs need while they live."""
        runs = self.path / "runs"
        runs.mkdir(mode=0o700, exist_ok=True)
        return runs

    def credential(self) -> Credential | None:
        """Who this host is; None where it never joined. Raises StateError for a broken file."""
        path = self.path / "credential"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            return Credential(**{key: str(data[key]) for key in Credential.__slots__})
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"{path} can't be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError):
            raise StateError(
                f"{path} is damaged; remove it and join again with a new join token"
            ) from None

    def save_credential(self, credential: Credential) -> None:
        """Keeps it, durably and all at once. Raises StateError."""
        path = self.path / "credential"
        draft = self.path / f"credential.{secrets.token_hex(4)}"
        try:
            with open(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
                json.dump(asdict(credential), file)
                file.flush()
                os.fsync(file.fileno())
            draft.rename(path)
            directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise StateError(f"{path} can't be written: {error.strerror}") from None
