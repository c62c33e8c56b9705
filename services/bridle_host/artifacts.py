"""What a run leaves behind: its artifacts are listed here, and opened to be read.

An artifact is a regular file below the run's `artifacts` directory. That directory is the agent's:
whatever stands in it was put there by somebody who may want to be followed elsewhere. So nothing is
ever followed: each part of a name is opened by the descriptor of the part before it, links are
refused, and what is no regular file is never waited for (a pipe without a writer would hold us).

Called off the event loop: it blocks for as long as the file system does. `collect` by the run that
ends, `open_artifact` by what sends it to control.
"""

from __future__ import annotations

import contextlib
import hashlib
import mimetypes
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bridle.v1 import event_pb2
from bridle_host import git_report
from bridle_host.run_files import RunFiles

#: Artifacts that are told at most; an agent that leaves a whole tree behind is not asked to count.
MOST_ARTIFACTS = 1000
#: Entries of the directory that are looked at, of all kinds: more are left out without a count.
MOST_LOOKED_AT = 100_000
#: The longest name that is told, in bytes: that of ReadArtifact.
LONGEST_NAME = 1024
#: Bytes of artifacts that are read for their sums. It keeps the end of a run waiting.
MOST_SUMMED = 256 * 1024 * 1024
#: Seconds that the whole of a report may take, and those of them in which git is asked.
REPORT_TIME = 5.0
GIT_TIME = 3.0

_CHUNK = 1024 * 1024
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

# The table that comes with Python, not what the machine has: every host tells the same.
_TYPES = mimetypes.MimeTypes()
for _type, _ending in (
    ("text/markdown", ".md"),
    ("text/x-diff", ".diff"),
    ("text/x-diff", ".patch"),
    ("application/x-ndjson", ".jsonl"),
    ("text/plain", ".log"),
):
    _TYPES.add_type(_type, _ending)

Over = Callable[[], bool]


def collect(files: RunFiles, directory: str, over: Over) -> event_pb2.ArtifactsReported:
    """The artifacts of a run and what became of the git work tree in `directory`.

    Takes `REPORT_TIME` seconds at the most, and ends soon once `over` says so; what was not done
    by then is left out. Raises nothing.
    """
    begin = time.monotonic()

    def late() -> bool:
        return over() or time.monotonic() >= begin + REPORT_TIME

    def git_late() -> bool:
        return over() or time.monotonic() >= begin + GIT_TIME

    report = event_pb2.ArtifactsReported()
    found, report.artifacts_left_out = listed(files.artifacts)
    git = git_report.report(directory, files.read_git_start(), files.scratch, git_late)
    if git is not None:
        report.git.CopyFrom(git)
    _sum(files, found, late)
    report.artifacts.extend(found)
    return report


def listed(directory: Path) -> tuple[list[event_pb2.Artifact], int]:
    """The artifacts below a directory, by name and without sums; how many more there are."""
    found: list[event_pb2.Artifact] = []
    left_out = 0
    for number, (name, size) in enumerate(_files(directory)):
        if number >= MOST_LOOKED_AT:
            break
        try:
            fits = len(name.encode()) <= LONGEST_NAME
        except UnicodeEncodeError:
            fits = False
        if not fits or len(found) >= MOST_ARTIFACTS:
            left_out += 1
            continue
        kind, coding = _TYPES.guess_type(name)
        media_type = f"application/{coding}" if coding else kind
        found.append(event_pb2.Artifact(name=name, size=size, media_type=media_type or ""))
    return sorted(found, key=lambda artifact: artifact.name), left_out


def open_artifact(runs: Path, session_id: str, run: int, name: str) -> tuple[int, int] | None:
    """A descriptor of an artifact and its size in bytes; None for what is none.

    `runs` is the host's directory of runs. The names are taken for hostile.
    """
    parts = (session_id, str(run), "artifacts", *name.split("/"))
    if any(part in ("", ".", "..") or "\0" in part or "/" in part for part in parts):
        return None
    try:
        handle = os.open(runs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for part in parts[:-1]:
            handle = _within(handle, part, _DIRECTORY)
        handle = _within(handle, parts[-1], _FILE)
    except (OSError, UnicodeEncodeError):
        return None
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        return None
    return handle, status.st_size


def _within(parent: int, name: str, flags: int) -> int:
    """Opens a name below a descriptor, which is closed. Raises OSError."""
    try:
        return os.open(name, flags, dir_fd=parent)
    finally:
        os.close(parent)


def _sum(files: RunFiles, found: list[event_pb2.Artifact], late: Over) -> None:
    """Adds the sums of those that can be read in time, the smallest first."""
    room = MOST_SUMMED
    for artifact in sorted(found, key=lambda artifact: artifact.size):
        room -= artifact.size
        if room < 0 or late():
            return
        opened = open_artifact(files.root, files.session_id, files.run, artifact.name)
        if opened is not None:
            handle, _ = opened
            try:
                artifact.sha256 = _sum_of(handle, artifact.size, late)
            except OSError:
                artifact.sha256 = ""
            finally:
                os.close(handle)


def _sum_of(handle: int, size: int, late: Over) -> str:
    """The SHA-256 of a file of this size; empty where it has another, or time ran out."""
    digest, left = hashlib.sha256(), size
    while left >= 0 and not late():
        data = os.read(handle, _CHUNK)
        if not data:
            return digest.hexdigest() if left == 0 else ""
        digest.update(data)
        left -= len(data)
    return ""


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
