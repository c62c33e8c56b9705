"""The files of one run on its host, and what is kept of it for the next host process.

    SESSION/RUN/process/     the shim's
    SESSION/RUN/driver/      the driver's own
    SESSION/RUN/token        the session's token (0600)
    SESSION/RUN/artifacts/   what the agent leaves behind; the only thing that stays, if it has any

Called by the session actors and their manager. Blocks for as long as the file system does.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bridle.v1 import event_pb2
from bridle_core.commands import RunSpec
from bridle_core.observations import ResumeMode
from bridle_core.session import RunRecord

#: Artifacts that are told at most; an agent that leaves a whole tree behind is not asked to count.
MOST_ARTIFACTS = 1000
#: The longest name that is told, in bytes: that of ReadArtifact.
LONGEST_NAME = 1024


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

    def make(self) -> None:
        """Makes the directories, each of mode 0700. Raises OSError."""
        for path in (self.directory.parent, self.directory, self.driver, self.artifacts):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def remove(self) -> None:
        """Removes everything but artifacts that are there. Raises nothing."""
        shutil.rmtree(self.process, ignore_errors=True)
        shutil.rmtree(self.driver, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.token.unlink(missing_ok=True)
        for path in (self.artifacts, self.directory, self.directory.parent):
            # Those that hold something stay.
            with contextlib.suppress(OSError):
                path.rmdir()

    def reported(self) -> list[event_pb2.Artifact]:
        """The artifacts, by name: regular files below `artifacts`, but for what can't be read."""
        found: list[event_pb2.Artifact] = []
        for name, size in _files(self.artifacts):
            try:
                if len(name.encode()) > LONGEST_NAME:
                    continue
            except UnicodeEncodeError:
                continue
            found.append(event_pb2.Artifact(name=name, size=size))
            if len(found) >= MOST_ARTIFACTS:
                break
        return sorted(found, key=lambda artifact: artifact.name)


def every(root: Path) -> Iterator[RunFiles]:
    """The runs of which there are files."""
    for session in sorted(root.iterdir()) if root.is_dir() else ():
        for run in sorted(session.iterdir()) if session.is_dir() else ():
            if run.name.isdecimal():
                yield RunFiles(root, session.name, int(run.name))


def _files(directory: Path) -> Iterator[tuple[str, int]]:
    """Regular files below a directory: their names from there, their sizes in bytes.

    Links are not followed, for they may lead anywhere; neither one in the place of the directory
    itself, nor one that takes a directory's place while this looks: each is looked into by the
    descriptor by which it was found to be one.
    """
    with contextlib.suppress(OSError):
        for parent, _, names, handle in os.fwalk(directory, follow_symlinks=False):
            for name in names:
                with contextlib.suppress(OSError):
                    status = os.stat(name, dir_fd=handle, follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        path = os.path.relpath(os.path.join(parent, name), directory)
                        yield path, status.st_size


def dump_run(spec: RunSpec, record: RunRecord) -> bytes:
    """What the journal keeps of a live run."""
    kept = {
        "start_command": spec.start_command,
        "agent": spec.agent,
        "last_turn": spec.last_turn,
        "resume": spec.resume,
        "record": record.dump(),
    }
    return json.dumps(kept, separators=(",", ":")).encode()


def load_run(state: bytes) -> tuple[RunSpec, RunRecord]:
    """Of `dump_run`. Raises ValueError."""
    try:
        kept = json.loads(state)
        spec = RunSpec(
            start_command=str(kept["start_command"]),
            agent=str(kept["agent"]),
            last_turn=int(kept["last_turn"]),
            resume=ResumeMode(kept["resume"]) if kept["resume"] is not None else None,
        )
        return spec, RunRecord.load(kept["record"])
    except (KeyError, TypeError) as error:
        raise ValueError("not the state of a run") from error
