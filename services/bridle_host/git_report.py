"""What became of a git work tree in a run: branch, head, commits since the start, changed files.

The repository is the agent's, or worse. Its settings can name programs for nearly everything that
git does (hooks, fsmonitor, textconv, external diffs, filters that run when a file is compared,
commands of remotes that run when an object is missing), and git would run them as the host service,
outside of the session. So git never sees them: it is run on a scratch repository of our own, with
our own settings, that borrows nothing but the objects, the index and the list of what a shallow
clone lacks. What HEAD says is read by ourselves. Submodules are not looked into.

`head_of` runs no program and takes microseconds; it is called when a run starts. `report` runs git,
with bounds on time and output. Both are called off the event loop and raise nothing.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bridle.v1 import event_pb2

#: Commits and files that are told at most, and the longest path and subject, in bytes.
MOST_COMMITS = 100
MOST_FILES = 500
LONGEST_PATH = 1024
LONGEST_SUBJECT = 256
#: What one run of git may put out, in bytes; what comes beyond that is not known.
MOST_OUTPUT = 4 * 1024 * 1024
#: How much of a list of refs is read, in bytes.
MOST_REFS = 16 * 1024 * 1024

#: The tree without any file, by the length of a repository's ids.
_EMPTY_TREE = {
    40: "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    64: "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}
_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_REF = re.compile(r"refs/(?!.*\.\.)[^\x00-\x20\x7f~^:?*\[\\]{1,1000}")
#: How many names of a name are followed to a commit.
_DEEPEST_REF = 5

Over = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class WorkTree:
    """A work tree: its top, its own git directory, and the one that it shares with others."""

    top: Path
    git: Path
    common: Path


def find(directory: str) -> WorkTree | None:
    """The work tree that a directory is in; None for none."""
    place = Path(directory)
    for top in (place, *place.parents):
        entry = top / ".git"
        with suppress(OSError, ValueError):
            if stat.S_ISDIR(os.stat(entry).st_mode):
                return _owned(top, entry)
            told = _read(entry)
            if told is not None and told.startswith("gitdir:"):
                return _owned(top, top / told.removeprefix("gitdir:").strip())
    return None


def _owned(top: Path, git: Path) -> WorkTree | None:
    """The work tree, unless its parts belong to somebody else. Raises OSError where it is none."""
    shared = _read(git / "commondir")
    common = git / shared.strip() if shared is not None else git
    owner = os.stat(top).st_uid
    if any(os.stat(part).st_uid != owner for part in (git, common)):
        return None
    os.stat(common / "objects")
    return WorkTree(top, git.resolve(), common.resolve())


def head_of(tree: WorkTree) -> tuple[str, str]:
    """(branch, commit) of HEAD: the branch is empty where it is detached, the commit where there
    is none, or it can't be told."""
    with suppress(OSError, ValueError):
        told = (_read(tree.git / "HEAD") or "").strip()
        if not told.startswith("ref:"):
            return "", told if _ID.fullmatch(told) else ""
        name = told.removeprefix("ref:").strip()
        return name.removeprefix("refs/heads/")[:LONGEST_SUBJECT], _resolve(tree, name)
    return "", ""


def start_of(directory: str) -> str:
    """What `report` needs to know of a run's start: the commit, or "" where there is none."""
    tree = find(directory)
    return "" if tree is None else head_of(tree)[1]


def report(directory: str, start: str, scratch: Path, over: Over) -> event_pb2.GitReport | None:
    """What became of the work tree since `start`; None where there is none.

    `scratch` is a directory that is made for it and removed. What git can't tell before `over`
    says that time is up is left out.
    """
    tree = find(directory)
    if tree is None:
        return None
    branch, head = head_of(tree)
    if start and not _ID.fullmatch(start):
        start = ""
    told = event_pb2.GitReport(branch=_text(branch.encode()), head=head, start_head=start)
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        git = _Git(tree, scratch, head or start, over)
        _commits(git, told)
        _files(git, told)
    except (OSError, ValueError):
        pass  # no git, or a repository that it can't read: what HEAD says has been told
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return told


# ---------------------------------------------------------------- what git is asked


def _commits(git: _Git, told: event_pb2.GitReport) -> None:
    if not told.head or told.head == told.start_head:
        return
    between = [told.head, *([f"^{told.start_head}"] if told.start_head else []), "--"]
    counted = git.run("rev-list", "--count", *between)
    if counted is None or not counted.strip().isdigit():
        return
    told.commit_count = int(counted)
    listing = git.run(
        "log", "-z", "-s", "--no-show-signature", "--no-color", "--no-decorate", "--no-notes",
        "--no-mailmap", f"--max-count={MOST_COMMITS}", "--format=%H %s", *between,
    )  # fmt: skip
    for line in (listing or b"").split(b"\0"):
        name, _, subject = line.partition(b" ")
        if _ID.fullmatch(name.decode("ascii", "replace")):
            said = _text(subject, LONGEST_SUBJECT)
            told.commits.append(event_pb2.GitCommit(id=name.decode(), subject=said))


def _files(git: _Git, told: event_pb2.GitReport) -> None:
    base = told.start_head or _EMPTY_TREE[len(told.head) or 40]
    changed = git.run(
        "diff", "--numstat", "-z", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color",
        "--ignore-submodules=all", base, "--",
    )  # fmt: skip
    untracked = git.run(
        "ls-files", "-z", "--others", "--directory", "--no-empty-directory", "--exclude-standard",
        f"--exclude-from={git.excludes}",
    )  # fmt: skip
    for line in (changed or b"").split(b"\0"):
        plus, _, rest = line.partition(b"\t")
        minus, _, path = rest.partition(b"\t")
        if path:
            _add(told, path, plus, minus)
    for path in (untracked or b"").split(b"\0"):
        if path:
            _add(told, path, None, None)


def _add(told: event_pb2.GitReport, path: bytes, plus: bytes | None, minus: bytes | None) -> None:
    told.file_count += 1
    file = event_pb2.GitFile(path=_text(path, LONGEST_PATH), untracked=plus is None)
    if plus is not None and minus is not None and plus.isdigit() and minus.isdigit():
        file.insertions, file.deletions = int(plus), int(minus)
        told.insertions += file.insertions
        told.deletions += file.deletions
    if len(told.files) < MOST_FILES:
        told.files.append(file)


class _Git:
    """git, on a scratch repository with the objects and the index of a work tree."""

    def __init__(self, tree: WorkTree, scratch: Path, sample: str, over: Over) -> None:
        """`sample` is one of the repository's ids. Raises OSError."""
        self._top = tree.top
        self._over = over
        self.excludes = scratch / "excludes"
        (scratch / "refs").mkdir(mode=0o700, parents=True)
        (scratch / "objects").mkdir()
        (scratch / "HEAD").write_text("ref: refs/heads/none\n")
        longer = len(sample) == 64
        (scratch / "config").write_text(
            f"[core]\n\trepositoryformatversion = {1 if longer else 0}\n\tbare = false\n"
            + ("[extensions]\n\tobjectformat = sha256\n" if longer else "")
        )
        # (A shallow clone ends where this says; without it git looks for what isn't there.)
        shallow = _read(tree.common / "shallow", MOST_REFS)
        if shallow is not None:
            (scratch / "shallow").write_text(shallow)
        self.excludes.write_text(_read(tree.common / "info" / "exclude", MOST_OUTPUT) or "")
        self._environment: Mapping[str, str] = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(scratch),
            "LC_ALL": "C",
            "GIT_DIR": str(scratch),
            "GIT_WORK_TREE": str(tree.top),
            "GIT_OBJECT_DIRECTORY": str(tree.common / "objects"),
            "GIT_INDEX_FILE": str(tree.git / "index"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_TERMINAL_PROMPT": "0",
        }

    def run(self, *arguments: str) -> bytes | None:
        """What a git command puts out; None where it fails, says too much, or time is up.

        Raises OSError where there is no git.
        """
        if self._over():
            return None
        process = subprocess.Popen(
            ["git", "--no-pager", "--literal-pathspecs", *arguments],
            cwd=self._top,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            said = self._read(process.stdout.fileno())
            while said is not None and process.poll() is None and not self._over():
                time.sleep(0.001)  # (it has closed its output: it is ending)
            return said if process.poll() == 0 else None
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def _read(self, handle: int) -> bytes | None:
        said = bytearray()
        while not self._over():
            if not select.select([handle], [], [], 0.05)[0]:
                continue
            data = os.read(handle, 65536)
            if not data:
                return bytes(said)
            said += data
            if len(said) > MOST_OUTPUT:
                return None
        return None


# ---------------------------------------------------------------- what is read by ourselves


def _resolve(tree: WorkTree, name: str) -> str:
    """The commit of a ref; "" for none. Raises OSError, ValueError."""
    for _ in range(_DEEPEST_REF):
        if not _REF.fullmatch(name):
            return ""
        told = (_read(tree.common / name) or "").strip()
        if told.startswith("ref:"):
            name = told.removeprefix("ref:").strip()
            continue
        return told if _ID.fullmatch(told) else _packed(tree, name)
    return ""


def _packed(tree: WorkTree, name: str) -> str:
    for line in (_read(tree.common / "packed-refs", MOST_REFS) or "").split("\n"):
        commit, _, named = line.partition(" ")
        if named == name and _ID.fullmatch(commit):
            return commit
    return ""


def _read(path: Path, limit: int = 4096) -> str | None:
    """The begin of a regular file; None where there is none. A pipe in its place is not waited
    for."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        return file.read(limit).decode("utf-8", "surrogateescape")


def _text(raw: bytes, limit: int = LONGEST_PATH) -> str:
    return raw[:limit].decode("utf-8", "replace")
