"""How well this machine lets the host hold an agent's processes together.

Finds out once, when the host service starts, by trying each level in a throw-away process. May not
start agents or signal anything else. Called by the host's start (for its hello and its inventory);
`bridle_host.process` takes the answer.

Levels, strongest first:

- ``PID_NAMESPACE``: the shim is the init of a PID namespace. Nothing leaves it, the kernel kills
  all of it when the shim dies, and a kill cannot be outrun by forks. Needs root (CAP_SYS_ADMIN).
- ``SUBREAPER``: orphans come to the shim, which walks its descendants and looks for the session's
  mark in the environment of processes. When the shim itself is SIGKILLed, what it held comes to the
  guardian above it, which kills it. Only when both are killed at one blow does something live until
  the host sweeps; a process that has left the tree and cleaned its environment is then not found.

``+CGROUP`` is added to either where a cgroup v2 is found in which the host may make its own.
"""

from __future__ import annotations

import enum
import importlib.util
import logging
import os
import re
import secrets
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bridle_host import shim

log = logging.getLogger("bridle.host.containment")

# A shim is a small Python process: it starts in well under a second even on a busy machine.
PROBE_SECONDS = 15.0


class Level(enum.StrEnum):
    PID_NAMESPACE = "PID_NAMESPACE"
    SUBREAPER = "SUBREAPER"


#: What may be asked for, strongest first.
NAMES = ("PID_NAMESPACE+CGROUP", "PID_NAMESPACE", "SUBREAPER+CGROUP", "SUBREAPER")


class ContainmentUnavailableError(Exception):
    """The level that was asked for does not work on this machine; the text says why."""


@dataclass(frozen=True, slots=True)
class Containment:
    """cgroup_root: directory in which sessions get their cgroups. reason: why this, in words."""

    level: Level
    cgroup_root: Path | None
    reason: str

    @property
    def name(self) -> str:
        """As reported to users: ``PID_NAMESPACE+CGROUP``, ``PID_NAMESPACE``, ``SUBREAPER`` …"""
        return f"{self.level}+CGROUP" if self.cgroup_root is not None else str(self.level)


def shim_command(*options: str) -> list[str]:
    """The command line of a shim: isolated from the user's Python settings, no site packages."""
    return [sys.executable, "-I", "-S", "-X", "utf8", _shim_file(), *options]


def _shim_file() -> str:
    """shim.py, or its compiled form where that is current.

    Compiling it in each session would cost 3 MB there for as long as the session lives.
    """
    source = shim.__file__
    try:
        compiled = importlib.util.cache_from_source(source)
        with open(compiled, "rb") as file:
            head = file.read(16)
        status = os.stat(source)
    except (OSError, NotImplementedError):
        return source
    # A .pyc's head: magic number, flags (0: checked by time), time and size of the source.
    fresh = struct.pack("<III", 0, int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF)
    return compiled if head == importlib.util.MAGIC_NUMBER + fresh else source


def shim_environment() -> dict[str, str]:
    """What the shim itself needs; the agent's environment never passes here."""
    kept = ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME")
    return {name: os.environ[name] for name in kept if name in os.environ}


def detect(force: str | None = None) -> Containment:
    """Find the strongest level that works. Blocks for a few tenths of a second.

    force: a name as in `Containment.name`; then exactly this level, nothing weaker.
    Raises ContainmentUnavailableError when a forced level does not work, ValueError for a name that
    isn't one.
    """
    if force is not None:
        if force not in NAMES:
            raise ValueError(f"no containment level {force!r}; there are {', '.join(NAMES)}")
        name, _, wants_cgroup = force.partition("+")
        level = Level(name)
        root = _cgroup_root() if wants_cgroup else None
        problem = _try(level, root) if root or not wants_cgroup else "no cgroup v2 is mounted"
        if problem:
            raise ContainmentUnavailableError(f"{force} does not work here: {problem}")
        return Containment(level, root, "asked for")
    reasons = []
    level = Level.PID_NAMESPACE
    problem = _try(level, None)
    if problem:
        reasons.append(f"no PID namespace: {problem}")
        level = Level.SUBREAPER
        problem = _try(level, None)
        if problem:
            raise ContainmentUnavailableError(f"no containment works here: {problem}")
    root = _cgroup_root()
    problem = "no cgroup v2 is mounted" if root is None else _try(level, root)
    if problem:
        reasons.append(f"no cgroup: {problem}")
        root = None
    found = Containment(level, root, "; ".join(reasons) or "the strongest level works")
    log.info("containment %s (%s)", found.name, found.reason)
    return found


def _try(level: Level, cgroup_root: Path | None) -> str:
    """Empty when the level works here, else why it doesn't."""
    options = ["--probe", f"--level={level}"]
    if cgroup_root is not None:
        options.append(f"--cgroup={cgroup_root / f'bridle-probe-{secrets.token_hex(6)}'}")
    try:
        done = subprocess.run(
            shim_command(*options),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=shim_environment(),
            timeout=PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"the probe ended with {done.returncode}"


def _cgroup_root() -> Path | None:
    """Our own cgroup v2 as a directory, found by its mount."""
    try:
        own = Path("/proc/self/cgroup").read_text()
        mounts = Path("/proc/self/mountinfo").read_text()
    except OSError:
        return None
    return find_cgroup(own, mounts)


def find_cgroup(own: str, mounts: str) -> Path | None:
    """own: text of /proc/self/cgroup; mounts: text of /proc/self/mountinfo."""
    path = next((line[3:] for line in own.splitlines() if line.startswith("0::")), None)
    if path is None:
        return None
    for line in mounts.splitlines():
        # id parent device root mount-point options [tags …] - kind source options
        left, separator, right = line.partition(" - ")
        fields = left.split(" ")
        if not separator or not right.startswith("cgroup2 ") or len(fields) < 5:
            continue
        root, point = _unescape(fields[3]), _unescape(fields[4])
        # The mount may show only a part of the hierarchy, and we may stand outside of it.
        if root == "/" or path == root or path.startswith(root + "/"):
            inside = path.removeprefix(root) if root != "/" else path
            if ".." not in inside.split("/"):
                return Path(point + "/" + inside.strip("/")) if inside.strip("/") else Path(point)
    return None


def _unescape(text: str) -> str:
    """mountinfo writes blanks and backslashes as octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
