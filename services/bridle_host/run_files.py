"""The files of one run on its host.

    SESSION/RUN/process/     the shim's
    SESSION/RUN/driver/      the driver's own
    SESSION/RUN/token        the session's token (0600)
    SESSION/RUN/start        the command that started it, without its token (0600)
    SESSION/RUN/state        a copy of what the journal keeps of it (0600), see `run_state`
    SESSION/RUN/said         what was said in it so far (0600), see `keeper`
    SESSION/RUN/inputs/ID    what the inputs say that no turn has consumed (0600)
    SESSION/RUN/git          the commit that its directory was at when it started (0600)
    SESSION/RUN/scratch/     what is needed for a moment at its end, see `git_report`
    SESSION/RUN/artifacts/   what the agent leaves behind; the only thing that stays, if it has any

`start`, `state`, `said` and `inputs` are for the host process that comes after this one, as long as
the agent lives. They are not synced: what takes unwritten pages away takes the agent away, too.

Called by the session actors and their manager. Blocks for as long as the file system does.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from google.protobuf.message import DecodeError

from bridle.host.v1 import host_link_service_pb2 as host_pb
from bridle_core.observations import Content
from bridle_host.translate import content_of, content_to

#: The least that is kept of what was said, in bytes.
SAID_KEPT = 512 * 1024

_INPUT = "input-"


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The paths of a run below `root`, the host's directory of runs."""

    root: Path
    session_id: str
    run: int

    @property
    def directory(self) -> Path:
        return self.root / self.session_id / str(self.run)

    @property
    def process(self) -> Path:
        return self.directory / "process"

    @property
    def driver(self) -> Path:
        return self.directory / "driver"

    @property
    def token(self) -> Path:
        return self.directory / "token"

    @property
    def artifacts(self) -> Path:
        return self.directory / "artifacts"

    @property
    def start(self) -> Path:
        return self.directory / "start"

    @property
    def state(self) -> Path:
        return self.directory / "state"

    @property
    def said(self) -> Path:
        return self.directory / "said"

    @property
    def inputs(self) -> Path:
        return self.directory / "inputs"

    @property
    def git(self) -> Path:
        return self.directory / "git"

    @property
    def scratch(self) -> Path:
        return self.directory / "scratch"

    def make(self) -> None:
        """Makes the directories, each of mode 0700. Raises OSError."""
        made = (self.driver, self.inputs, self.artifacts)
        for path in (self.directory.parent, self.directory, *made):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def remove(self) -> None:
        """Removes everything but artifacts that are there. Raises nothing."""
        for directory in (self.process, self.driver, self.inputs, self.scratch):
            shutil.rmtree(directory, ignore_errors=True)
        for file in (self.token, self.start, self.state, self.said, self.git):
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
        for path in (self.artifacts, self.directory, self.directory.parent):
            # Those that hold something stay.
            with contextlib.suppress(OSError):
                path.rmdir()

    # --- for the next host process ---

    def write_start(self, command: host_pb.Command, directory: str) -> None:
        """Keeps the command that started the run, and where it works. Raises OSError."""
        kept = host_pb.Command()
        kept.CopyFrom(command)
        kept.start.ClearField("token")
        kept.start.directory = directory
        _write(self.start, kept.SerializeToString())

    def read_start(self) -> host_pb.Command | None:
        """The command that started the run; None where it isn't there, or is none."""
        try:
            command = host_pb.Command.FromString(self.start.read_bytes())
        except (OSError, DecodeError):
            return None
        mine = (command.session_id, command.run) == (self.session_id, self.run)
        return command if mine and command.HasField("start") else None

    def write_state(self, state: bytes) -> None:
        """Keeps a copy of the run's state. Raises OSError."""
        _write(self.state, state)

    def read_state(self) -> bytes | None:
        """The copy of the run's state; None for none."""
        try:
            return self.state.read_bytes()
        except OSError:
            return None

    def write_git_start(self, commit: str) -> None:
        """Keeps the commit that the directory is at. Raises OSError."""
        _write(self.git, commit.encode())

    def read_git_start(self) -> str:
        """The commit that the directory was at; "" for none."""
        try:
            return self.git.read_text(encoding="ascii")
        except (OSError, ValueError):
            return ""

    def append_said(self, lines: bytes) -> None:
        """Keeps more of what was said; the oldest goes when it is a lot. Raises OSError."""
        flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC
        with open(os.open(self.said, flags, 0o600), "ab") as file:
            file.write(lines)
            size = file.tell()
        if size > 2 * SAID_KEPT:
            _write(self.said, self.read_said())

    def read_said(self) -> bytes:
        """The newest of what was said, whole lines; b"" for nothing."""
        try:
            with open(self.said, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - SAID_KEPT))
                found = file.read()
        except OSError:
            return b""
        return found if size <= SAID_KEPT else found.partition(b"\n")[2]

    def write_input(self, input_id: str, content: Sequence[Content]) -> None:
        """Keeps what an input says. Raises OSError."""
        kept = host_pb.DeliverInput(content=map(content_to, content))
        _write(self.inputs / _name(input_id), kept.SerializeToString())

    def remove_inputs(self, input_ids: Iterable[str]) -> None:
        """Forgets inputs that are over. Raises nothing."""
        for input_id in input_ids:
            with contextlib.suppress(OSError):
                (self.inputs / _name(input_id)).unlink(missing_ok=True)

    def read_inputs(self) -> dict[str, tuple[Content, ...]]:
        """What the inputs say that were kept, by their ids."""
        found: dict[str, tuple[Content, ...]] = {}
        for path in self.inputs.iterdir() if self.inputs.is_dir() else ():
            if not path.name.startswith(_INPUT):
                continue  # a draft of a process that died
            with contextlib.suppress(OSError, DecodeError):
                kept = host_pb.DeliverInput.FromString(path.read_bytes())
                found[unquote(path.name.removeprefix(_INPUT))] = content_of(kept.content)
        return found


def kept(root: Path) -> list[str]:
    """The sessions of which there are files. Raises nothing."""
    try:
        return sorted(
            entry.name for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False)
        )
    except OSError:
        return []


def forget(root: Path, session_id: str) -> None:
    """Removes all files of a session that is no longer live. Raises nothing."""
    if session_id in kept(root):
        shutil.rmtree(root / session_id, ignore_errors=True)


def every(root: Path) -> Iterator[RunFiles]:
    """The runs of which there are files."""
    for session in sorted(root.iterdir()) if root.is_dir() else ():
        for run in sorted(session.iterdir()) if session.is_dir() else ():
            if run.name.isdecimal():
                yield RunFiles(root, session.name, int(run.name))


def _name(input_id: str) -> str:
    """The name of an input's file, whatever control takes for an id."""
    return _INPUT + quote(input_id, safe="")


def _write(path: Path, data: bytes) -> None:
    """Puts a file into its place, whole or not at all, mode 0600. Raises OSError."""
    draft = path.with_name(f".{path.name[:64]}.{secrets.token_hex(4)}")
    try:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        with open(os.open(draft, flags, 0o600), "wb") as file:
            file.write(data)
        draft.rename(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
