"""Finds and kills what a dead shim, or a dead host service, left of a session.

Works from the session's state file alone and blocks (threads only, never the event loop). May not
touch a process whose start time or boot differs from what was recorded, nor one that is neither
recorded, nor in the session's cgroup, nor marked, nor a descendant of such a one. Called by the
host's start for each session directory, and by `bridle_host.process` when a shim dies.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridle_host import shim
from bridle_host.process_types import ProcessInfo

LISTED = 256
# What a guardian may take to kill all that has come to it, before it is killed itself. One that
# the machine lets wait for a processor gets more, as it alone finds what has left the tree.
GUARDIAN_SECONDS = 3.0
# Seconds between the two looks that find nothing.
BETWEEN_LOOKS = 0.02
#: Stays until the run's files go.
UNSEEN_FILE = "unseen"


@dataclass(frozen=True, slots=True)
class SweepReport:
    """found: False when there was no state file, so nothing to do. rebooted: the machine has
    started anew since, so nothing can be left. killed: the first 256 that were, without shim and
    guardian. agent: the pid of the agent's own, 0 where there is none. remaining: must be 0.
    duration: seconds. seen: False when something that left the tree may live on unseen: shim and
    guardian were killed together, and no namespace or cgroup holds the rest.
    """

    found: bool
    session_id: str = ""
    run: int = 0
    rebooted: bool = False
    killed: tuple[ProcessInfo, ...] = ()
    agent: int = 0
    remaining: int = 0
    duration: float = 0.0
    seen: bool = True

    @property
    def beyond_agent(self) -> tuple[ProcessInfo, ...]:
        """Those of `killed` that are not the agent's own process."""
        return tuple(info for info in self.killed if info.pid != self.agent)


def sweep(state_directory: Path, *, limit: float = 10.0) -> SweepReport:
    """Kill what is left of the session and prove it. Blocks for `limit` seconds at the most.

    On remaining == 0 the state file is removed, so that the next sweep finds nothing; but that not
    all was seen is remembered (see `unseen`).
    """
    started = time.monotonic()
    state = read_state(state_directory)
    if state is None:
        return SweepReport(found=False)
    session, run = str(state["session"]), int(state["run"])
    if state["boot_id"] != shim.boot_id():
        _forget(state_directory)
        return SweepReport(found=True, session_id=session, run=run, rebooted=True)
    if not state["in_place"]:
        _forget(state_directory)
        return SweepReport(found=True, session_id=session, run=run)
    search = _Search(state)
    killed: dict[tuple[int, int], ProcessInfo] = {}
    left: dict[int, shim.Process] = {}
    empty = 0
    pause = 0.002
    while empty < 2 and time.monotonic() < started + limit:
        left = search.look()
        if not left and not search.populated():
            empty += 1
            # What is in the midst of an execve shows no mark, for longer than two quick looks.
            time.sleep(BETWEEN_LOOKS)
            continue
        empty = 0
        for process in left.values():
            if process.key not in search.own and process.key not in killed and len(killed) < LISTED:
                killed[process.key] = _describe(process)
        taken = time.monotonic() - started
        patience = taken < min(GUARDIAN_SECONDS, limit / 2)
        search.kill(left, patience or (taken < limit * 3 / 4 and search.guardian_works()))
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
    # What cannot be seen gone counts as there, even when it cannot be named.
    remaining = 0 if empty == 2 else max(1, len(left))
    seen = _all_seen(state_directory, state)
    if remaining == 0:
        if search.cgroup is not None:
            search.cgroup.remove()
        if seen or _note_unseen(state_directory):
            _forget(state_directory)
    return SweepReport(
        found=True,
        session_id=session,
        run=run,
        killed=tuple(killed.values()),
        agent=search.agent,
        remaining=remaining,
        duration=time.monotonic() - started,
        seen=seen,
    )


def _all_seen(state_directory: Path, state: dict[str, Any]) -> bool:
    """Whether nothing can have escaped a sweep: what was beneath the shim is dead with its
    namespace, or hangs in its cgroup, or the guardian got it and says that it is gone."""
    guardian = state.get("guardian")
    if state["cgroup"] or state.get("level") == "PID_NAMESPACE":
        return True
    try:
        return guardian is not None and guardian == json.loads(
            (state_directory / shim.SEEN_FILE).read_bytes()
        )
    except (OSError, ValueError):
        return False


def _note_unseen(state_directory: Path) -> bool:
    try:
        (state_directory / UNSEEN_FILE).touch(mode=0o600)
    except OSError:
        return False
    return True


def unseen(state_directory: Path) -> bool:
    """Whether a sweep of this directory, now or ever, could not see all that was left. Blocks."""
    return (state_directory / UNSEEN_FILE).exists() or read_state(state_directory) is not None


def living_elsewhere(state_directory: Path) -> int:
    """How many processes live of the session of which this state file is a copy. Kills none: they
    are the original's. 0 where the file is no copy. Blocks."""
    state = read_state(state_directory)
    if state is None or state["in_place"] or state["boot_id"] != shim.boot_id():
        return 0
    return len(_Search(state).look())


def read_state(state_directory: Path) -> dict[str, Any] | None:
    """The state file of a session's shim; None where there is none, or none that can be trusted.

    `in_place` is added: whether the file was written where it is, and is no copy. The processes of
    a copy's original may well live on, as somebody else's.
    """
    path = state_directory / shim.STATE_FILE
    try:
        status = os.stat(path, follow_symlinks=False)
        state = json.loads(path.read_bytes())
        directory = os.stat(state_directory)
    except (OSError, ValueError):
        return None
    # Whoever else could write it could name a victim.
    if status.st_uid not in (0, os.geteuid()) or not isinstance(state, dict):
        return None
    texts = all(isinstance(state.get(key), str) for key in ("session", "boot_id", "mark", "cgroup"))
    numbers = all(isinstance(state.get(key), int) for key in ("run", "pid", "start_ticks"))
    if not texts or not numbers:
        return None
    place = [directory.st_dev, directory.st_ino]
    return {**state, "in_place": state.get("place", place) == place}


def shim_alive(state: dict[str, Any]) -> bool:
    """Whether the very process that wrote this state file is still there. `state`: as read."""
    if state["boot_id"] != shim.boot_id() or not state["in_place"]:
        return False
    process = shim.read_process(int(state["pid"]))
    return process is not None and process.start == state["start_ticks"] and not process.dead


def shim_present(state_directory: Path) -> bool:
    """Whether any shim is at work in this directory, also one that has recorded nothing yet."""
    try:
        directory = os.open(state_directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(directory)
    return False


class _Search:
    def __init__(self, state: dict[str, Any]) -> None:
        self.recorded = {(int(state["pid"]), int(state["start_ticks"]))}
        # Ours, and not the agent's.
        self.own = set(self.recorded)
        self.guardian: tuple[int, int] | None = None
        guardian = state.get("guardian")
        if isinstance(guardian, dict):
            self.guardian = (int(guardian["pid"]), int(guardian["start_ticks"]))
            self.recorded.add(self.guardian)
            self.own.add(self.guardian)
        self.agent = 0
        agent = state.get("agent")
        if isinstance(agent, dict):
            key = (int(agent["pid"]), int(agent["start_ticks"]))
            self.agent = key[0]
            self.recorded.add(key)
            self.own.discard(key)
        self.mark = f"{shim.MARK_VARIABLE}={state['mark']}".encode() if state["mark"] else b""
        self.cgroup = shim.Cgroup(state["cgroup"]) if state["cgroup"] else None
        self.strangers: set[tuple[int, int]] = set()

    def populated(self) -> bool:
        return self.cgroup is not None and self.cgroup.populated()

    def guardian_works(self) -> bool:
        """Whether it runs, or would if it were let."""
        return self.guardian is not None and shim.state_of(self.guardian[0]) in ("R", "D")

    def look(self) -> dict[int, shim.Process]:
        """What is alive of the session. Corpses are somebody else's to reap."""
        everyone = shim.all_processes()
        roots = set()
        members = set(self.cgroup.members()) if self.cgroup is not None else set()
        for process in everyone.values():
            if process.key in self.recorded or process.pid in members:
                roots.add(process.pid)
            elif process.key not in self.strangers:
                marked = shim.has_mark(process.pid, self.mark) if self.mark else False
                if marked:
                    roots.add(process.pid)
                elif marked is not None:
                    self.strangers.add(process.key)
        found = roots | shim.children_of(roots, everyone)
        # One that was seen beneath the session stays its own when its parents are gone.
        self.recorded |= {everyone[pid].key for pid in found}
        # Never ourselves, were the host service started from inside of a session.
        found.discard(os.getpid())
        return {pid: everyone[pid] for pid in found if not everyone[pid].dead}

    def kill(self, found: dict[int, shim.Process], patience: bool) -> None:
        """patience: the guardian may do its own part, which can't be outrun, and end."""
        if self.cgroup is not None:
            self.cgroup.kill()
        for process in shim.parents_first(found.values()):
            if process.key == self.guardian and patience:
                shim.send_signal(process, signal.SIGCONT)
            else:
                shim.send_signal(process, signal.SIGKILL)


def _describe(process: shim.Process) -> ProcessInfo:
    return ProcessInfo(
        process.pid, process.parent, shim.epoch_of(process.start), shim.read_command(process)
    )


def _forget(state_directory: Path) -> None:
    for name in (shim.SOCKET_FILE, shim.INPUT_FILE, shim.SEEN_FILE, shim.STATE_FILE):
        (state_directory / name).unlink(missing_ok=True)
