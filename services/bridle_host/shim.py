"""The shim: one small process per session that owns the agent's pipes and its containment.

Started by `bridle_host.shim_client` as ``python -I -S -X utf8 shim.py --session=… --run=…
--state=DIR --level=… [--cgroup=DIR] --on-host-lost=keep|kill``. It imports the standard library
only, has no asyncio and no threads, and keeps no secret: the agent's environment arrives over the
socket, never in argv. The host service's modules take the constants of the protocol and the /proc
helpers from here; nothing else may.

The contract with the host service (PROTOCOL_VERSION 2)
-------------------------------------------------------
Descriptors at start: 0 is a listening unix socket (`shim.sock` in the session's state directory) to
which the host is connected already; 1 is the birth pipe; 2 is the shim's own log.

Birth pipe, lines of text until its end: ``pid N`` names the process that became the shim. It isn't
the one that was started: that one made a PID namespace and left, or it stays as the guardian (see
`guard`). ``error TEXT`` says why there will be no shim. The end of the pipe without an error means
that the shim listens.

Socket: frames of ``>IB`` (length of the body, type), then the body. J = JSON object.

  type          from   body
  HELLO         shim   J version, session, run, pid, start_time (epoch s), start_ticks, boot_id,
                       level, agent {pid, start_time, start_ticks} | null, acknowledged, spooled
                       (offsets of output), input_received, input_taken (offsets of input), swept
                       [what stops have found beside the agent], notes [text]
  START         host   J argv, directory, environment, mark, control_pipes, cap, held_cap, holds
                       (paths of locks, as by the verb `hold`, taken before there is an agent)
  STARTED       shim   J pid, start_time (epoch s), level, notes [text], offset (of the first byte)
  REFUSED       shim   J stage ("directory" | "execute" | "held" | "shim"), errno, text. The shim
                       then ends.
  OUTPUT        shim   >BQd stream, offset of the first byte, epoch s; then the bytes.
                       The offset counts the bytes of all streams together, in the order of sending.
                       It begins with the nanoseconds since boot, so that a later shim's offsets are
                       above all of an earlier one's.
  READ          host   >Q all bytes before this offset were taken, but may be asked for again
  ACK           host   >Q nobody will ask for the bytes before this offset again
  STDIN         host   >Q offset, then bytes for the agent. What was received before is left out.
  STDIN_END     host   nothing; closes the agent's stdin once what came before is written
  STDIN_TAKEN   shim   >QB bytes that left the buffer so far; 1 when the agent has closed its stdin
  REQUEST       host   J id, verb, … (see `Shim.begin`)
  REPLY         shim   J id, … or id, error
  EXIT          shim   J code | null, signal | null, time (epoch s), offset (end of all output)
  RELEASE       host   nothing; kill what is left, remove the state, end
  BLOCKED       shim   >B 1: a cap is reached, the agent waits for us; 0: reading goes on
  REPLACED      shim   nothing; another connection has taken this one's place
  PING          host   nothing
  PONG          shim   nothing; the answer: the loop that does the work is alive

Promises:
- Output is never dropped and never reordered within a stream. Above `cap` unread bytes, or above
  `held_cap` unacknowledged ones, the shim stops reading, so that the agent blocks on its pipe,
  until half of those are read, or as many acknowledged as `cap`.
- What is read from a control pipe follows everything that was in stdout and stderr at that moment:
  an agent that prints, then writes a marker to a control pipe, is seen in this order. Output that
  is printed *after* the marker may overtake it.
- EXIT comes from the process's own status, not from the end of its pipes. It follows all output
  that was written before the exit, and doesn't wait for others that hold the pipes. What they write
  later is read and thrown away.
- Each process is signalled through a pidfd whose start time was checked.
- Input that was received is written to the agent, each byte once, whatever becomes of connections.

When the connection is lost, the policy `--on-host-lost` decides. `kill`: everything in the session
is killed, seen gone, and the shim ends. `keep`: requests that are being carried out go on, their
replies go nowhere; output is spooled up to `cap`. The next connection to `shim.sock`, by the same
user or root, is greeted by HELLO, BLOCKED if it holds, all OUTPUT from `acknowledged` on (in the
same order with the same offsets, perhaps cut elsewhere), and EXIT if the agent has exited. A newer
connection takes the place of an older one. A shim without a connection whose socket was removed
ends as by `kill`, as does one whose host was lost before START: nobody could come for them.

The shim holds nothing of the host's: neither its session, process group nor terminal, nor a signal
at its parent's death. It stays in the host's cgroup: whoever kills that kills the shims, too
(systemd does, unless the unit says KillMode=process).

The death of the shim itself, by whatever cause: in a PID namespace the kernel kills all that is in
it. Elsewhere the guardian does, to which the kernel hands whatever was beneath the shim. Only where
both are killed at one blow is there something left for the host's sweep, which doesn't find
a process that has left the tree, and the cgroup if there is one, and cleaned its environment.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import selectors
import signal
import socket
import struct
import sys
import termios
import time
from collections import deque
from contextlib import suppress

TYPE_CHECKING = False  # `typing` costs a megabyte at run time
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from typing import Any, NoReturn

    Pauses = Generator[float, None, None]
    Key = tuple[int, int]

PROTOCOL_VERSION = 2

HELLO, START, STARTED, REFUSED, OUTPUT, ACK = 1, 2, 3, 4, 5, 6
STDIN, STDIN_END, STDIN_TAKEN, REQUEST, REPLY, EXIT, RELEASE = 7, 8, 9, 10, 11, 12, 13
BLOCKED, READ, REPLACED, PING, PONG = 14, 15, 16, 17, 18

FRAME = struct.Struct(">IB")
OUTPUT_HEAD = struct.Struct(">BQd")
OFFSET = struct.Struct(">Q")
TAKEN = struct.Struct(">QB")

STDOUT, STDERR, CONTROL = 1, 2, 3  # CONTROL + n is the agent's descriptor 3 + n

CHUNK = 65_536
# A socket holds a few hundred KiB, which are read so many chunks at most after its end.
LAST_READS = 64
# A piece of the spool costs memory beside its bytes. Small ones of one stream are joined up to
# this size; while they are unsent only if they are of one moment (seconds), as each has one time.
PIECE_COST = 256
PIECE_SIZE = 16_384
PIECE_TIME = 0.05
# Frames from the host: the environment is the largest (Linux lets it be a few megabytes).
FRAME_LIMIT = 16 * 1024 * 1024
# How long a SIGKILL may take to be seen. Only uninterruptible sleep or foreign processes need more.
KILL_LIMIT = 10.0
SHELLS = frozenset({"bash", "sh", "dash", "ash", "busybox", "ksh", "mksh", "zsh"})
# How long a forked child may go on with its parent's signal handlers and not be signalled, seconds:
# of its own running, which is microseconds until a shell's child gets rid of them; and of its age.
NEWBORN_RUNNING, NEWBORN_AGE = 0.005, 1.0
# What a shim gets to leave its state directory to another, in seconds.
CLAIM_SECONDS = 10.0
# An agent that spawns without end would keep an interrupt busy for ever.
INTERRUPT_KILL_LIMIT = 3.0
# How often a shim without a host looks whether anybody could still come, seconds.
DESERTED_LOOK = 5.0
LISTED = 256  # processes named in one answer; the counts are always whole

DEAF_TO = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
)

STATE_FILE = "shim.json"
# Where the guardian says that it has seen all of it gone: which guardian.
SEEN_FILE = "seen.json"
SOCKET_FILE = "shim.sock"
INPUT_FILE = "input"  # the host's; removed with the others
MARK_VARIABLE = "BRIDLE_SESSION_MARK"

TICKS = os.sysconf("SC_CLK_TCK")
# Taken once: a start time is a part of a process's name, and must not move with the clock.
BOOT_TIME = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)

# --- Linux calls that the standard library lacks -------------------------------------------------

CLONE_NEWNS, CLONE_NEWPID, CLONE_PARENT = 0x00020000, 0x20000000, 0x00008000
SYS_CLONE3 = 435  # one number on every architecture
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_SLAVE = 2, 4, 8, 0x4000, 0x80000

# PyDLL keeps the interpreter's lock over the call, so that the child of a clone holds it too.
libc = ctypes.PyDLL(None, use_errno=True)


def checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def prctl(option: int, value: int) -> None:
    checked(libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"prctl {option}")


def mount(source: str, target: str, kind: str | None, flags: int) -> None:
    kind_bytes = kind.encode() if kind else None
    call = libc.mount(
        source.encode(), target.encode(), kind_bytes, ctypes.c_ulong(flags), ctypes.c_void_p(None)
    )
    checked(call, f"mount {target}")


def clone(flags: int) -> int:
    """Fork with clone flags. With CLONE_PARENT the child is a child of our parent."""
    # struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls.
    # CLONE_PARENT hands down our own exit signal, and the kernel wants a 0 here.
    exit_signal = 0 if flags & CLONE_PARENT else signal.SIGCHLD
    arguments = (ctypes.c_uint64 * 8)(flags, 0, 0, 0, exit_signal, 0, 0, 0)
    call = libc.syscall(
        ctypes.c_long(SYS_CLONE3), arguments, ctypes.c_size_t(ctypes.sizeof(arguments))
    )
    return checked(call, "clone3")


def enter_namespace() -> int:
    """In the first process of a new PID namespace: give it its own /proc.

    Returns a descriptor of the outer /proc/self/fdinfo, which translates pids to the host's.
    """
    outer = os.open("/proc/self/fdinfo", os.O_RDONLY | os.O_DIRECTORY)
    # Slave, not private: what the machine mounts later still shows up in the session.
    mount("none", "/", None, MS_REC | MS_SLAVE)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    return outer


# --- /proc ---------------------------------------------------------------------------------------

# The shim keeps its own /proc open: an agent that unmounts it must not make the shim blind, or show
# it the machine's. Others read by path.
proc_directory: int | None = None


def open_proc(path: str) -> int:
    if proc_directory is None:
        path = f"/proc/{path}"
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc_directory)


class Process:
    """One line of /proc: `key` = (pid, start in clock ticks since boot) names it for good."""

    __slots__ = ("dead", "name", "parent", "pid", "start")

    def __init__(self, pid: int, parent: int, start: int, dead: bool, name: str) -> None:
        self.pid, self.parent, self.start, self.dead, self.name = pid, parent, start, dead, name

    @property
    def key(self) -> Key:
        return self.pid, self.start


def read_process(pid: int) -> Process | None:
    try:
        with open(open_proc(f"{pid}/stat"), "rb", buffering=0) as file:
            data = file.read(4096)
    except OSError:
        return None
    # The name stands in brackets and may itself hold brackets, blanks and newlines.
    head, _, tail = data.rpartition(b")")
    fields = tail.split()
    if len(fields) < 20:
        return None
    # A leader that ended while its threads go on is a zombie too, but not dead.
    dead = fields[0] in (b"Z", b"X") and int(fields[17]) <= 1
    name = head.partition(b"(")[2].decode("utf-8", "replace")
    return Process(pid, int(fields[1]), int(fields[19]), dead, name)


def state_of(pid: int) -> str:
    """The letter of its state: R, S, D, T …; empty when it is gone."""
    try:
        with open(open_proc(f"{pid}/stat"), "rb", buffering=0) as file:
            return file.read(4096).rpartition(b")")[2].split()[0].decode()
    except (OSError, IndexError):
        return ""


def read_command(process: Process) -> str:
    """The command line joined by blanks (cut at 300 characters), else the name in brackets."""
    try:
        with open(open_proc(f"{process.pid}/cmdline"), "rb", buffering=0) as file:
            line = file.read(2048)
    except OSError:
        line = b""
    text = line.rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")[:300]
    return text or f"[{process.name}]"


def has_mark(pid: int, entry: bytes) -> bool | None:
    """Whether the process was executed with this NAME=VALUE in its environment.

    None when it shows no environment: it has none, or is in the midst of an execve.
    """
    try:
        with open(open_proc(f"{pid}/environ"), "rb", buffering=0) as file:
            found = file.readall()
    except OSError:
        return False
    return b"\0" + entry + b"\0" in b"\0" + found + b"\0" if found else None


def signal_mask(pid: int, name: bytes) -> int:
    """SigIgn or SigCgt: bit n - 1 stands for signal n. 0 when the process is gone."""
    try:
        with open(open_proc(f"{pid}/status"), "rb", buffering=0) as file:
            for line in file.read(8192).splitlines():
                if line.startswith(name):
                    return int(line.partition(b":")[2], 16)
    except (OSError, ValueError):
        pass
    return 0


def in_background(pid: int) -> bool:
    """Whether a shell without job control started it with `&`.

    Such a shell makes its jobs ignore SIGINT and SIGQUIT, and nobody else ignores both.
    """
    both = 1 << (signal.SIGINT - 1) | 1 << (signal.SIGQUIT - 1)
    return signal_mask(pid, b"SigIgn") & both == both


def missed(pid: int, signum: int) -> bool:
    """Whether it lives although it neither handles nor ignores nor blocks a deadly signal.

    Then it got the signal while it still had its parent's handler, and is to get it again.
    """
    masks = [signal_mask(pid, name) for name in (b"SigCgt", b"SigIgn", b"SigBlk")]
    return not any(mask >> (signum - 1) & 1 for mask in masks)


def newborn(process: Process, signum: int) -> bool:
    """Whether it was just forked and still has its parent's handler for the signal.

    The handler would set a flag that nobody looks at, or do in the child what is the parent's to
    do: an interactive bash goes back to reading its stdin. In a moment the child will have its own.
    """
    if age_of(process) > NEWBORN_AGE or running_time(process.pid) > NEWBORN_RUNNING:
        return False
    caught = signal_mask(process.pid, b"SigCgt")
    handled = bool(caught >> (signum - 1) & 1)
    return handled and caught == signal_mask(process.parent, b"SigCgt")


def all_processes() -> dict[int, Process]:
    found = {}
    for name in os.listdir("/proc" if proc_directory is None else proc_directory):
        if name.isdigit():
            process = read_process(int(name))
            if process is not None:
                found[process.pid] = process
    return found


def children_of(pids: Iterable[int], processes: dict[int, Process]) -> set[int]:
    """Everything beneath these pids, without them."""
    beneath: dict[int, list[int]] = {}
    for process in processes.values():
        beneath.setdefault(process.parent, []).append(process.pid)
    found: set[int] = set()
    todo = list(pids)
    while todo:
        for child in beneath.get(todo.pop(), ()):
            if child not in found:
                found.add(child)
                todo.append(child)
    return found


def parents_first(processes: Iterable[Process]) -> list[Process]:
    """The order in which to kill: else a shell sees its command die, and goes on in its script."""
    beneath: dict[int, list[Process]] = {}
    rest = {process.pid: process for process in processes}
    for process in rest.values():
        beneath.setdefault(process.parent, []).append(process)
    order = [process for process in rest.values() if process.parent not in rest]
    for process in order:  # (it grows)
        order += beneath.pop(process.pid, ())
    # Read at different moments, with a pid taken again in between, some may be in a circle.
    for process in order:
        del rest[process.pid]
    return order + list(rest.values())


def send_signal(process: Process, signum: int) -> bool:
    """Signal exactly this process. False: it is gone, or is not ours to signal."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        # The descriptor holds whoever has the pid now; the start time says whether it is still the
        # one that was meant. After this check the pid cannot change hands under us.
        now = read_process(process.pid)
        if now is None or now.start != process.start:
            return False
        signal.pidfd_send_signal(descriptor, signum)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def age_of(process: Process) -> float:
    """Seconds since it was forked, to a clock tick."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - process.start / TICKS


def running_time(pid: int) -> float:
    """Seconds that it has been given a processor; 0 where the kernel doesn't tell."""
    try:
        with open(open_proc(f"{pid}/schedstat"), "rb", buffering=0) as file:
            return int(file.read(256).split()[0]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def epoch_of(ticks: int) -> float:
    """Epoch seconds of a start time in ticks since boot; the same whenever it is asked for."""
    return round(BOOT_TIME + ticks / TICKS, 2)


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


# --- What belongs to the session, and how it dies ------------------------------------------------


class Cgroup:
    """A cgroup v2 of the session's own, beneath a delegated one."""

    def __init__(self, path: str) -> None:
        self.path = path

    def create(self) -> None:
        os.mkdir(self.path, 0o755)

    def members(self) -> list[int]:
        """Pids in this cgroup and those below, as this PID namespace sees them."""
        found: list[int] = []
        for directory, _, _ in os.walk(self.path):
            try:
                with open(f"{directory}/cgroup.procs") as file:
                    found += [int(line) for line in file if line.strip() != "0"]
            except OSError:
                continue
        return found

    def kill(self) -> bool:
        """Kill everything in it, forks under way included. False where the kernel cannot."""
        try:
            self.write("cgroup.kill", "1")
        except OSError:
            return False
        return True

    def write(self, name: str, text: str) -> None:
        """To a file of the kernel's, never a new one."""
        with open(os.open(f"{self.path}/{name}", os.O_WRONLY | os.O_CLOEXEC), "w") as file:
            file.write(text)

    def populated(self) -> bool:
        try:
            with open(f"{self.path}/cgroup.events") as file:
                return "populated 1" in file.read()
        except OSError:
            return False

    def remove(self) -> bool:
        """Remove it with those below, deepest first. True when it is gone."""
        for directory, _, _ in os.walk(self.path, topdown=False):
            try:
                os.rmdir(directory)
            except OSError:
                continue
        return not os.path.exists(self.path)


class Tree:
    """All processes of the session but the shim: by namespace, or by descent, mark and cgroup."""

    def __init__(self, outer_fdinfo: int | None) -> None:
        self.outer_fdinfo = outer_fdinfo
        self.own = os.getpid()
        self.cgroup: Cgroup | None = None
        self.mark = b""
        # Once seen as ours, always ours: neither a new parent nor a cleaned environment hides it.
        self.known: set[Key] = set()
        self.strangers: set[Key] = set()

    @property
    def namespaced(self) -> bool:
        return self.outer_fdinfo is not None

    def scan(self) -> dict[int, Process]:
        """Every process of the session, dead ones that nobody has reaped included."""
        found = all_processes()
        found.pop(self.own, None)
        if self.namespaced:
            return found
        return {pid: found[pid] for pid in self.belonging(found)}

    def belonging(self, everyone: dict[int, Process]) -> set[int]:
        for _ in range(3):
            # A parent that died while we read leaves a child that points nowhere: read it again, it
            # has us as its parent by now.
            orphans = [
                p.pid
                for p in everyone.values()
                if p.parent not in everyone and p.parent not in (0, self.own)
            ]
            if not orphans:
                break
            for pid in orphans:
                again = read_process(pid)
                if again is None:
                    del everyone[pid]
                else:
                    everyone[pid] = again
        roots = {self.own}
        if self.cgroup is not None:
            roots.update(pid for pid in self.cgroup.members() if pid in everyone)
        for process in everyone.values():
            if process.key in self.known:
                roots.add(process.pid)
        members = children_of(roots, everyone) | (roots - {self.own})
        strays = set()
        for process in everyone.values():
            if process.pid in members or process.key in self.strangers:
                continue
            if self.mark and has_mark(process.pid, self.mark):
                strays.add(process.pid)
            else:
                # A process is marked from its birth, as it inherits its parent's memory: a look at
                # each stranger once is enough.
                self.strangers.add(process.key)
        members |= strays | children_of(strays, everyone)
        members.discard(self.own)
        keys = {process.key for process in everyone.values()}
        self.known = {everyone[pid].key for pid in members}
        self.strangers &= keys
        return members

    def host_pid(self, pid: int) -> int:
        """The pid as the host sees it."""
        if self.outer_fdinfo is None:
            return pid
        descriptor = -1
        try:
            descriptor = os.pidfd_open(pid)
            info = os.open(str(descriptor), os.O_RDONLY, dir_fd=self.outer_fdinfo)
            with open(info, "rb", buffering=0) as file:
                for line in file.read(4096).splitlines():
                    if line.startswith(b"Pid:"):
                        return int(line[4:])
        except OSError:
            pass
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        return 0

    def describe(self, processes: Iterable[Process]) -> list[dict[str, Any]]:
        listed = list(processes)[:LISTED]
        return [
            {
                "pid": self.host_pid(process.pid),
                "parent": self.host_pid(process.parent) if process.parent else 0,
                "start_time": epoch_of(process.start),
                "command": read_command(process),
            }
            for process in listed
        ]

    def kill(self, found: Iterable[Process]) -> None:
        """SIGKILL everything once; `found` is what a scan has shown."""
        if self.cgroup is not None:
            self.cgroup.kill()
        if self.namespaced and self.own == 1:
            # From the init of a namespace this reaches all of it, and nothing else; the kernel
            # refuses forks that race with it.
            with suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
            return
        for process in parents_first(found):
            if not process.dead:
                send_signal(process, signal.SIGKILL)

    def children(self) -> list[Process]:
        """Our own children: the root, and whoever lost its parent. Much quicker than a scan."""
        try:
            path = f"{self.own}/task/{self.own}/children"
            with open(open_proc(path), "rb", buffering=0) as file:
                pids = [int(pid) for pid in file.read(65_536).split()]
        except (OSError, ValueError):
            return []
        return [process for pid in pids if (process := read_process(pid)) is not None]


class Reaper:
    """Kills all that is beneath this process, and sees it gone."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree

    def reap(self) -> bool:
        """Reap what is dead. True: we have no child left at all.

        Orphans of the session become our children, so that is the kernel's own word that nothing
        descends from us any more, however fast it forked.
        """
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            self.reaped(pid, status)

    def reaped(self, pid: int, status: int) -> None:
        """One of our children has ended."""

    def kill_orphans(self, spared: set[Key]) -> list[Process]:
        """Kill what is handed to us as its parents die, faster than it can fork and leave.

        A process that forks and exits without end is never where a scan looks for it, but each of
        its successors becomes our child. Returns those that were alive.
        """
        found: dict[Key, Process] = {}
        # Long enough to catch a sprinter, short enough for the pipes to wait.
        deadline = time.monotonic() + 0.05
        while time.monotonic() < deadline:
            self.reap()
            fresh = [process for process in self.tree.children() if process.key not in spared]
            if not fresh:
                break
            for process in fresh:
                if not process.dead:
                    found[process.key] = process
                    send_signal(process, signal.SIGKILL)
        return list(found.values())

    def kill_everything(self, rungs: list[dict[str, Any]], reply: dict[str, Any]) -> Pauses:
        """SIGKILL until two looks in a row find nothing, not even a corpse."""
        begun = time.monotonic()
        killed: set[Key] = set()
        described: list[dict[str, Any]] = []
        alive = False
        empty = 0
        pause = 0.001
        found: list[Process] = []
        while empty < 2 and time.monotonic() < begun + KILL_LIMIT:
            childless = self.reap()
            # What flees all the time may be killed, with its cgroup or namespace, in no list.
            alive = alive or not childless
            found = list(self.tree.scan().values())
            populated = self.tree.cgroup is not None and self.tree.cgroup.populated()
            if childless and not found and not populated:
                empty += 1
                continue
            empty = 0
            fresh = [p for p in found if not p.dead and p.key not in killed]
            described += self.tree.describe(fresh[: LISTED - len(described)])
            killed.update(process.key for process in fresh)
            self.tree.kill(found)
            killed.update(process.key for process in self.kill_orphans(set()))
            yield pause
            pause = min(pause * 1.5, 0.05)
        if killed or alive:
            rungs.append(rung(signal.SIGKILL, max(1, len(killed)), described, begun))
        # What cannot be seen gone counts as there, even when it cannot be named.
        reply["remaining"] = 0 if empty == 2 else max(1, len(found))
        reply["left"] = self.tree.describe(found)


def guard(shim: int, options: Options, itself: Process | None) -> None:
    """The guardian: the shim's parent, where there is no PID namespace to die with the shim.

    It waits. A subreaper itself, it inherits what was beneath a shim that was killed, wherever that
    hangs and whatever environment it has; it kills all of that, says so, and ends. Needs no host
    for it.
    """
    be_deaf()
    os.waitpid(shim, 0)
    reaper = Reaper(Tree(None))
    if options.cgroup and os.path.isdir(options.cgroup):
        reaper.tree.cgroup = Cgroup(options.cgroup)
    proof: dict[str, Any] = {}
    for pause in reaper.kill_everything([], proof):
        time.sleep(pause)
    if proof["remaining"]:
        complain(f"could not kill {proof['left']}")
        return
    if reaper.tree.cgroup is not None:
        reaper.tree.cgroup.remove()
    with suppress(OSError, ValueError):
        testify(options.state, itself)


def testify(directory: str, guardian: Process | None) -> None:
    """Tell the sweep that is to come that nothing is left. A shim that ended well needs nobody to
    say so, and its directory may be another's by now."""
    with open(os.path.join(directory, STATE_FILE), "rb") as file:
        recorded = json.load(file).get("guardian")
    if guardian is None or recorded != {"pid": guardian.pid, "start_ticks": guardian.start}:
        return
    path = os.path.join(directory, SEEN_FILE)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w") as file:
        json.dump(recorded, file)


# --- The socket ----------------------------------------------------------------------------------


class Piece:
    """Bytes of one stream. `data` is a bytearray once more was added to it."""

    __slots__ = ("data", "offset", "stream", "time")

    def __init__(self, stream: int, offset: int, seconds: float, data: bytes | bytearray) -> None:
        self.stream, self.offset, self.time, self.data = stream, offset, seconds, data

    @property
    def end(self) -> int:
        return self.offset + len(self.data)


class Spool:
    """What the agent has said and nobody has acknowledged, in order.

    Offsets: `acknowledged` ≤ `read` ≤ `end`, and `sent` between the first and the last. `held` and
    `unread` are what lies before `end` from there on, in bytes of memory.
    """

    def __init__(self) -> None:
        self.acknowledged = self.read = self.sent = self.end = 0
        # The same pieces, from where something of them is unacknowledged, unread, unsent.
        self.pieces: deque[Piece] = deque()
        self.to_read: deque[Piece] = deque()
        self.to_send: deque[Piece] = deque()

    def begin(self, offset: int) -> None:
        self.acknowledged = self.read = self.sent = self.end = offset

    @property
    def held(self) -> int:
        return self.end - self.acknowledged + PIECE_COST * len(self.pieces)

    @property
    def unread(self) -> int:
        return self.end - self.read + PIECE_COST * len(self.to_read)

    def add(self, stream: int, data: bytes) -> None:
        now = time.time()
        last = self.pieces[-1] if self.pieces else None
        if (
            last is None
            or last.stream != stream
            or len(last.data) + len(data) > PIECE_SIZE
            # What was sent has told its time already.
            or (self.sent < self.end and abs(now - last.time) > PIECE_TIME)
        ):
            last = Piece(stream, self.end, now, data)
            self.pieces.append(last)
        else:
            if not isinstance(last.data, bytearray):
                last.data = bytearray(last.data)
            last.data += data
            if self.sent == self.end:
                last.time = now
        self.end += len(data)
        for queue in (self.to_read, self.to_send):
            if not queue or queue[-1] is not last:
                queue.append(last)

    def next_frame(self, limit: int) -> bytes | None:
        """The next OUTPUT frame; nothing from `limit` on. None when there is none."""
        if self.sent >= min(limit, self.end):
            return None
        piece = self.to_send[0]
        start = self.sent - piece.offset
        data = piece.data[start : start + min(CHUNK, limit - self.sent)]
        head = OUTPUT_HEAD.pack(piece.stream, self.sent, piece.time)
        self.sent += len(data)
        drop_before(self.to_send, self.sent)
        return FRAME.pack(len(head) + len(data), OUTPUT) + head + data

    def taken(self, offset: int) -> None:
        """Read by the host."""
        self.read = max(self.read, min(offset, self.end))
        drop_before(self.to_read, self.read)

    def acknowledge(self, offset: int) -> None:
        self.acknowledged = max(self.acknowledged, min(offset, self.end))
        drop_before(self.pieces, self.acknowledged)
        self.taken(self.acknowledged)
        self.sent = max(self.sent, self.acknowledged)
        drop_before(self.to_send, self.sent)

    def rewind(self) -> None:
        """Whoever has read is gone: the next one gets all that is not acknowledged."""
        self.read = self.sent = self.acknowledged
        self.to_read = deque(self.pieces)
        self.to_send = deque(self.pieces)


def drop_before(pieces: deque[Piece], offset: int) -> None:
    while pieces and pieces[0].end <= offset:
        pieces.popleft()


class Channel:
    """Frames in both directions, over one connection after the other; without one, frames are lost.

    Output waits in the spool, and goes out when it is its turn: a frame that was sent when the
    spool's end was at some offset follows the output before it. So what waits here is small.
    """

    def __init__(self, connection: socket.socket, spool: Spool | None = None) -> None:
        self.spool = spool or Spool()
        self.generation = 0  # counts the connections
        self.connect(connection)

    def connect(self, connection: socket.socket) -> None:
        self.socket: socket.socket | None = connection
        connection.setblocking(False)
        self.generation += 1
        self.incoming = bytearray()
        self.outgoing: deque[tuple[int, bytes]] = deque()  # the spool's end at that time, frame
        self.rest = memoryview(b"")  # of a frame of which a part is sent

    def disconnect(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None
        self.outgoing.clear()
        self.rest = memoryview(b"")
        self.spool.rewind()

    def send(self, kind: int, body: bytes = b"", *, first: bool = False) -> None:
        """With `first` also before the output that waits, as nothing but a greeting may."""
        if self.socket is not None:
            place = self.spool.sent if first else self.spool.end
            self.outgoing.append((place, FRAME.pack(len(body), kind) + body))

    def send_object(self, kind: int, value: dict[str, Any], *, first: bool = False) -> None:
        self.send(kind, json.dumps(value).encode("ascii"), first=first)

    @property
    def pending(self) -> bool:
        """Whether something waits to be sent."""
        waiting = self.rest or self.outgoing or self.spool.sent < self.spool.end
        return self.socket is not None and bool(waiting)

    def flush(self) -> None:
        """Raises OSError when the host is gone."""
        while self.socket is not None:
            if not self.rest:
                limit = self.outgoing[0][0] if self.outgoing else self.spool.end
                frame = self.spool.next_frame(limit)
                if frame is None:
                    if not self.outgoing:
                        return
                    frame = self.outgoing.popleft()[1]
                self.rest = memoryview(frame)
            try:
                self.rest = self.rest[self.socket.send(self.rest) :]
            except BlockingIOError:
                return

    def receive(self) -> Iterator[tuple[int, bytes]]:
        """The frames that have arrived. Raises ConnectionError at the end of the stream."""
        if self.socket is None:
            return
        try:
            data = self.socket.recv(CHUNK)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionResetError
        self.incoming += data
        while len(self.incoming) >= FRAME.size:
            length, kind = FRAME.unpack_from(self.incoming)
            if length > FRAME_LIMIT:
                raise ConnectionAbortedError
            end = FRAME.size + length
            if len(self.incoming) < end:
                return
            body = bytes(self.incoming[FRAME.size : end])
            del self.incoming[:end]
            yield kind, body


def may_connect(connection: socket.socket) -> bool:
    """Whether it comes from the user of this process, or from root."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return struct.unpack("3i", credentials)[1] in (0, os.geteuid())


# --- The agent's process and its pipes -----------------------------------------------------------


class RefusedError(Exception):
    """The agent cannot be started. `stage` says which step failed."""

    def __init__(self, stage: str, number: int, text: str) -> None:
        super().__init__(text)
        self.stage, self.number, self.text = stage, number, text


class Agent:
    """The root process of the session, and our ends of its pipes."""

    def __init__(self, start: dict[str, Any], tree: Tree) -> None:
        self.notes: list[str] = []
        self.status: int | None = None
        self.host_pid = 0
        count = 3 + int(start["control_pipes"])
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(count)]
        report_read, report_write = os.pipe2(os.O_CLOEXEC)
        # stdin is read by the agent, all others are written by it.
        theirs = [pipes[0][0]] + [pipe[1] for pipe in pipes[1:]]
        shim = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            become_agent(start, theirs, report_write, tree, shim)
        # Not reaped before we say so: the pid cannot be another's yet.
        process = read_process(self.pid)
        self.start = process.start if process else 0
        os.close(report_write)
        for descriptor in theirs:
            os.close(descriptor)
        self.stdin = pipes[0][1]
        self.outputs = {pipe[0]: STDOUT + index for index, pipe in enumerate(pipes[1:])}
        for descriptor in [self.stdin, *self.outputs]:
            os.set_blocking(descriptor, False)
        with open(report_read, "rb") as report:
            lines = report.read().decode("utf-8", "replace").splitlines()
        for line in lines:
            stage, number, text = line.split(" ", 2)
            if stage != "note":
                os.waitpid(self.pid, 0)
                raise RefusedError(stage, int(number), text)
            self.notes.append(text)


def become_agent(
    start: dict[str, Any], theirs: list[int], report: int, tree: Tree, shim: int
) -> NoReturn:
    """In the forked child: turn into the agent, or report why not and end."""
    stage = "shim"
    try:
        signal.set_wakeup_fd(-1)
        for signum in signal.valid_signals():
            try:
                signal.signal(signum, signal.SIG_DFL)
            except (OSError, ValueError):
                continue  # SIGKILL, SIGSTOP and those that libc keeps
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.setsid()
        if not tree.namespaced:
            # The sweep finds what a killed shim leaves; this only makes the root quicker to go.
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != shim:
                os._exit(127)
        if tree.cgroup is not None:
            try:
                tree.cgroup.write("cgroup.procs", "0")
            except OSError as error:
                os.write(report, f"note 0 no cgroup: {error.strerror}\n".encode())
        # First out of the way of the low numbers, then into their places.
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64) for fd in theirs]
        report = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, 64)
        for target, descriptor in enumerate(high):
            os.dup2(descriptor, target, inheritable=True)
        os.closerange(len(high), 64)
        stage = "directory"
        os.chdir(start["directory"])
        within = start.get("within", "").rstrip("/") + "/"
        # Where it is now, whatever became of the links by which it came here.
        if within != "/" and not (os.getcwd() + "/").startswith(within):
            raise OSError(errno.EACCES, "it does not lie where it must")
        stage = "execute"
        os.execvpe(start["argv"][0], start["argv"], start["environment"])
    except OSError as error:
        text = (error.strerror or "unknown error").replace("\n", " ")
        os.write(report, f"{stage} {error.errno or 0} {text}\n".encode())
    except BaseException as error:  # noqa: BLE001 - nothing may return into the shim's code
        text = str(error).replace("\n", " ") or type(error).__name__
        os.write(report, f"{stage} 0 {text}\n".encode("utf-8", "replace"))
    finally:
        os._exit(127)


def pending(descriptor: int) -> int:
    """Bytes that wait in a pipe."""
    try:
        return int(struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0\0\0\0"))[0])
    except OSError:
        return 0


class Output:
    """Reads the agent's pipes into the spool while there is room.

    `cap` bounds what the host hasn't read, `held_cap` what it hasn't acknowledged: its driver holds
    back what it can't make sense of yet, and must be able to read on until it can.
    """

    def __init__(
        self, channel: Channel, selector: selectors.BaseSelector, cap: int, held_cap: int
    ) -> None:
        self.channel, self.selector = channel, selector
        self.cap, self.held_cap = cap, held_cap
        self.spool = channel.spool
        self.streams: dict[int, int] = {}
        self.reading = False
        self.attached = False
        self.discarding = False

    def attach(self, streams: dict[int, int]) -> None:
        self.streams = streams
        self.balance()
        self.attached = True

    @property
    def blocked(self) -> bool:
        return self.attached and not self.reading

    def balance(self) -> None:
        """Read while there is room. What isn't read stays in the pipe: the agent blocks on it."""
        unread, held = self.cap, self.held_cap
        if self.blocked:
            unread, held = unread // 2, held - self.cap
        full = self.spool.unread >= unread or self.spool.held >= held
        reading = self.discarding or not full
        if reading == self.reading:
            return
        if self.attached:
            self.channel.send(BLOCKED, b"\0" if reading else b"\1")
        self.reading = reading
        for descriptor in self.streams:
            if reading:
                self.selector.register(descriptor, selectors.EVENT_READ, self.readable)
            else:
                self.selector.unregister(descriptor)

    def readable(self, descriptor: int, _events: int) -> None:
        if not self.reading or descriptor not in self.streams:
            return  # an earlier event of the same round has changed that
        if self.streams[descriptor] >= CONTROL and not self.discarding:
            self.read_control([descriptor])
        else:
            self.keep(descriptor, self.read(descriptor, CHUNK))
        self.balance()

    def read(self, descriptor: int, limit: int) -> bytes:
        try:
            data = os.read(descriptor, limit)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            if self.reading:
                self.selector.unregister(descriptor)
            del self.streams[descriptor]
            os.close(descriptor)
        return data

    def keep(self, descriptor: int, data: bytes, stream: int | None = None) -> None:
        if not data or self.discarding:
            return
        self.spool.add(self.streams[descriptor] if stream is None else stream, data)

    def read_pending(self, descriptor: int) -> None:
        """Spool what is in the pipe now; not what comes meanwhile, which may never end."""
        left = pending(descriptor)
        while left > 0:
            data = self.read(descriptor, min(left, CHUNK))
            if not data:
                return
            self.keep(descriptor, data)
            left -= len(data)

    def read_control(self, descriptors: Iterable[int]) -> None:
        # Take the control bytes first, then all output that is there, then pass both on in the
        # other order: whatever was printed before a control byte was written is in the pipes by
        # now. This may exceed the cap by what the pipes can hold, which is bounded.
        taken = []
        for descriptor in descriptors:
            stream = self.streams[descriptor]
            left = max(pending(descriptor), 1)
            while left > 0:
                data = self.read(descriptor, min(left, CHUNK))
                if not data:
                    break
                taken.append((descriptor, data, stream))
                left -= len(data)
        for descriptor in [fd for fd, stream in self.streams.items() if stream < CONTROL]:
            self.read_pending(descriptor)
        for descriptor, data, stream in taken:
            self.keep(descriptor, data, stream)

    def finish(self) -> None:
        """The agent has exited: spool what it left in its pipes; throw away what others add."""
        self.read_control([fd for fd, stream in self.streams.items() if stream >= CONTROL])
        self.discarding = True
        self.balance()

    def taken(self, offset: int) -> None:
        self.spool.taken(offset)
        self.balance()

    def acknowledge(self, offset: int) -> None:
        self.spool.acknowledge(offset)
        self.balance()


class Input:
    """Bytes on their way to the agent's stdin. The host keeps them below its window."""

    def __init__(self, channel: Channel, selector: selectors.BaseSelector, descriptor: int) -> None:
        self.channel, self.selector, self.descriptor = channel, selector, descriptor
        self.waiting: deque[bytes | memoryview] = deque()
        self.received = 0
        self.taken = 0
        self.ending = False
        self.broken = False
        self.watched = False

    def add(self, offset: int, data: bytes) -> None:
        if offset > self.received:
            raise ConnectionAbortedError  # a hole: this is no host of ours
        data = data[self.received - offset :]
        if not data:
            return
        self.received += len(data)
        if self.broken:
            self.taken += len(data)
            self.report()
            return
        self.waiting.append(data)
        self.write()

    def end(self) -> None:
        self.ending = True
        self.write()

    def writable(self, _descriptor: int, _events: int) -> None:
        self.write()

    def write(self) -> None:
        before = self.taken
        while self.waiting and not self.broken:
            first = self.waiting[0]
            try:
                count = os.write(self.descriptor, first[:CHUNK])
            except BlockingIOError:
                break
            except OSError:
                self.broken = True
                self.taken += sum(map(len, self.waiting))
                self.waiting.clear()
                break
            self.taken += count
            if count == len(first):
                self.waiting.popleft()
            else:
                self.waiting[0] = memoryview(first)[count:]
        self.watch(bool(self.waiting))
        if (self.ending or self.broken) and not self.waiting:
            self.close()
        if self.taken != before or self.broken:
            self.report()

    def watch(self, wanted: bool) -> None:
        if wanted and not self.watched:
            self.selector.register(self.descriptor, selectors.EVENT_WRITE, self.writable)
        elif self.watched and not wanted:
            self.selector.unregister(self.descriptor)
        self.watched = wanted

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        self.broken = True

    def report(self) -> None:
        # After a close that the host asked for, it sends no more: nothing is broken for it.
        self.channel.send(STDIN_TAKEN, TAKEN.pack(self.taken, self.broken and not self.ending))


# --- The shim ------------------------------------------------------------------------------------


class Options:
    """The command line."""

    def __init__(self, arguments: list[str]) -> None:
        given = {}
        for argument in arguments:
            name, _, value = argument.removeprefix("--").partition("=")
            given[name] = value
        self.probe = "probe" in given
        self.session = given.get("session", "")
        self.run = int(given.get("run", "0"))
        self.state = given.get("state", "")
        self.level = given.get("level", "SUBREAPER")
        self.cgroup = given.get("cgroup", "")
        self.on_host_lost = given.get("on-host-lost", "keep")
        if self.on_host_lost not in ("keep", "kill"):
            raise SystemExit(f"unknown policy --on-host-lost={self.on_host_lost}")


class Shim(Reaper):
    """The loop: pumps all pipes at once, and runs requests beside it as generators of pauses."""

    def __init__(
        self,
        options: Options,
        listener: socket.socket,
        connection: socket.socket,
        tree: Tree,
        pid: int,
        guardian: Process | None,
    ) -> None:
        super().__init__(tree)
        self.options, self.pid, self.guardian = options, pid, guardian
        self.listener = listener
        self.channel = Channel(connection)
        self.selector = selectors.DefaultSelector()
        self.agent: Agent | None = None
        self.output: Output | None = None
        self.input: Input | None = None
        self.exit: dict[str, Any] | None = None
        self.held: dict[str, int] = {}
        self.notes: list[str] = []
        self.swept: dict[
            tuple[int, float], dict[str, Any]
        ] = {}  # what stops found beside the agent
        self.jobs: list[tuple[float, Pauses]] = []
        self.ended = False
        self.listening_for_room = False
        self.directory = os.open(options.state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        claim(self.directory)
        self.recorded = False
        own = read_process(tree.own)
        self.start_ticks = own.start if own else 0

    # The loop.

    def run(self, connection: socket.socket) -> None:
        wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        be_deaf()
        self.selector.register(wake_read, selectors.EVENT_READ, self.signalled)
        self.listener.setblocking(False)
        if self.options.on_host_lost == "keep":
            self.selector.register(self.listener, selectors.EVENT_READ, self.visited)
        else:
            self.listener.close()
        self.greet(connection)
        try:
            while not self.ended:
                self.turn()
        finally:
            self.perish()

    def turn(self) -> None:
        try:
            self.channel.flush()
        except OSError:
            self.last_words()
            self.host_lost()
            if self.ended:
                return
        if self.channel.socket is not None:
            self.watch_for_room(self.channel.socket, self.channel.pending)
        timeout = None if self.channel.socket is not None else DESERTED_LOOK
        if self.jobs:
            due = max(0.0, min(when for when, _ in self.jobs) - time.monotonic())
            timeout = due if timeout is None else min(due, timeout)
        for key, events in self.selector.select(timeout):
            key.data(key.fd, events)
        self.run_jobs()
        if self.channel.socket is None and self.deserted():
            self.ended = True

    def watch_for_room(self, connection: socket.socket, wanted: bool) -> None:
        if wanted != self.listening_for_room:
            self.listening_for_room = wanted
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if wanted else 0)
            self.selector.modify(connection, events, self.host_event)

    # The host comes and goes.

    def greet(self, connection: socket.socket) -> None:
        self.selector.register(connection, selectors.EVENT_READ, self.host_event)
        self.listening_for_room = False
        self.hello()
        if self.output is not None and self.output.blocked:
            self.channel.send(BLOCKED, b"\1", first=True)
        if self.exit is not None:
            self.channel.send_object(EXIT, self.exit)

    def visited(self, _descriptor: int, _events: int) -> None:
        try:
            connection, _ = self.listener.accept()
        except OSError:
            return
        if not may_connect(connection):
            connection.close()
            return
        self.last_words()
        if self.channel.socket is not None:
            self.channel.send(REPLACED)
            with suppress(OSError):
                self.channel.flush()
            self.host_lost()
        self.channel.connect(connection)
        self.greet(connection)

    def last_words(self) -> None:
        """Take what the host has said before it went: a write that fails, or the next host at the
        door, may be seen before what lies in its connection."""
        for _ in range(LAST_READS):
            if self.channel.socket is None or self.ended:
                return
            self.host_event(self.channel.socket.fileno(), selectors.EVENT_READ)

    def host_lost(self) -> None:
        if self.channel.socket is None:
            return
        self.selector.unregister(self.channel.socket)
        self.channel.disconnect()
        if self.output is not None:
            self.output.balance()
        # Without an agent there is nothing to come back for.
        if self.options.on_host_lost == "kill" or self.agent is None:
            self.ended = True

    def deserted(self) -> bool:
        """Whether nobody can come any more. A directory that was moved can still be found."""
        try:
            os.stat(SOCKET_FILE, dir_fd=self.directory)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return False

    def signalled(self, descriptor: int, _events: int) -> None:
        with suppress(BlockingIOError):
            while os.read(descriptor, 4096):
                pass
        self.reap()
        # Somebody has died: whoever waits for deaths looks again at once.
        self.jobs = [(0.0, job) for _, job in self.jobs]

    def run_jobs(self) -> None:
        now = time.monotonic()
        due = [job for when, job in self.jobs if when <= now]
        self.jobs = [(when, job) for when, job in self.jobs if when > now]
        for job in due:
            try:
                pause = next(job)
            except StopIteration:
                continue
            self.jobs.append((time.monotonic() + pause, job))

    def reaped(self, pid: int, status: int) -> None:
        if self.agent is not None and pid == self.agent.pid and self.agent.status is None:
            self.agent_exited(status)

    def agent_exited(self, status: int) -> None:
        assert self.agent is not None
        assert self.output is not None
        assert self.input is not None
        self.agent.status = status
        self.output.finish()
        if not self.input.broken:
            self.input.watch(False)
            self.input.waiting.clear()
            self.input.close()
            self.input.report()
        code = os.waitstatus_to_exitcode(status)
        self.exit = {
            "code": code if code >= 0 else None,
            "signal": -code if code < 0 else None,
            "time": time.time(),
            "offset": self.channel.spool.end,
        }
        self.channel.send_object(EXIT, self.exit)

    # Frames from the host.

    def host_event(self, descriptor: int, events: int) -> None:
        if self.channel.socket is None or descriptor != self.channel.socket.fileno():
            return  # an earlier event of the same round has changed that
        if not events & selectors.EVENT_READ:
            return  # room to send: the loop flushes anyway
        try:
            for kind, body in self.channel.receive():
                self.frame(kind, body)
        except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
            if not isinstance(error, ConnectionResetError):
                complain(f"the connection is closed: {type(error).__name__}: {error}")
            self.host_lost()

    def frame(self, kind: int, body: bytes) -> None:
        if kind == START and self.agent is None:
            self.start(json.loads(body))
        elif kind == REQUEST:
            self.request(json.loads(body))
        elif kind == PING:
            self.channel.send(PONG)
        elif kind == RELEASE:
            self.ended = True
        elif self.output is None or self.input is None:
            raise ConnectionAbortedError
        elif kind == READ:
            self.output.taken(OFFSET.unpack(body)[0])
        elif kind == ACK:
            self.output.acknowledge(OFFSET.unpack(body)[0])
        elif kind == STDIN:
            self.input.add(OFFSET.unpack_from(body)[0], body[OFFSET.size :])
        elif kind == STDIN_END:
            self.input.end()
        else:
            raise ConnectionAbortedError

    def hello(self) -> None:
        spool = self.channel.spool
        self.channel.send_object(
            HELLO,
            {
                "version": PROTOCOL_VERSION,
                "session": self.options.session,
                "run": self.options.run,
                "pid": self.pid,
                "start_time": epoch_of(self.start_ticks),
                "start_ticks": self.start_ticks,
                "boot_id": boot_id(),
                "level": self.level,
                "agent": self.agent_now(),
                "spooled": spool.end,
                "acknowledged": spool.acknowledged,
                "input_received": self.input.received if self.input else 0,
                "input_taken": self.input.taken if self.input else 0,
                "input_broken": bool(self.input and self.input.broken and not self.input.ending),
                "swept": list(self.swept.values()),
                "notes": self.notes,
            },
            first=True,
        )

    def agent_now(self) -> dict[str, Any] | None:
        agent = self.agent
        if agent is None:
            return None
        return {
            "pid": agent.host_pid,
            "start_ticks": agent.start,
            "start_time": epoch_of(agent.start),
        }

    @property
    def level(self) -> str:
        return self.options.level + ("+CGROUP" if self.tree.cgroup is not None else "")

    def start(self, start: dict[str, Any]) -> None:
        for path in start.get("holds", ()):
            try:
                free = self.hold(path)
            except OSError as error:
                self.refuse("shim", error.errno or 0, f"lock: {error.strerror}")
                return
            if not free:
                self.refuse("held", 0, "another process holds it")
                return
        self.tree.mark = f"{MARK_VARIABLE}={start['mark']}".encode()
        start["environment"][MARK_VARIABLE] = start["mark"]
        notes = self.notes
        if self.options.cgroup:
            cgroup = Cgroup(self.options.cgroup)
            try:
                cgroup.create()
                self.tree.cgroup = cgroup
            except OSError as error:
                notes.append(f"no cgroup: {error.strerror}")
        try:
            # Before the agent exists, so that a sweep knows where to look for it.
            self.write_state(start["mark"])
            self.agent = Agent(start, self.tree)
        except RefusedError as refused:
            self.refuse(refused.stage, refused.number, refused.text)
            return
        except (OSError, ValueError, TypeError) as error:
            self.refuse("shim", getattr(error, "errno", None) or 0, str(error))
            return
        if any(note.startswith("no cgroup") for note in self.agent.notes) and self.tree.cgroup:
            self.tree.cgroup.remove()
            self.tree.cgroup = None
        self.agent.host_pid = self.tree.host_pid(self.agent.pid)
        try:
            self.write_state(start["mark"])
        except OSError as error:
            self.refuse("shim", error.errno or 0, f"state file: {error.strerror}")
            return
        notes += self.agent.notes
        self.channel.spool.begin(time.clock_gettime_ns(time.CLOCK_BOOTTIME))
        self.channel.send_object(
            STARTED,
            {
                "pid": self.agent.host_pid,
                "start_time": epoch_of(self.agent.start),
                "level": self.level,
                "notes": notes,
                "offset": self.channel.spool.end,
            },
        )
        self.input = Input(self.channel, self.selector, self.agent.stdin)
        caps = int(start["cap"]), int(start["held_cap"])
        self.output = Output(self.channel, self.selector, *caps)
        self.output.attach(self.agent.outputs)
        self.reap()

    def refuse(self, stage: str, number: int, text: str) -> None:
        self.channel.send_object(REFUSED, {"stage": stage, "errno": number, "text": text})
        if self.channel.socket is not None:
            self.channel.socket.settimeout(2.0)
        with suppress(OSError):
            self.channel.flush()
        self.ended = True

    def write_state(self, mark: str) -> None:
        """What a sweep needs when this process dies without a word."""
        guardian = self.guardian
        self.recorded = True
        place = os.fstat(self.directory)
        state = {
            "version": PROTOCOL_VERSION,
            "session": self.options.session,
            "run": self.options.run,
            "boot_id": boot_id(),
            "pid": self.pid,
            "start_ticks": self.start_ticks,
            "level": self.level,
            "cgroup": self.tree.cgroup.path if self.tree.cgroup else "",
            "mark": mark,
            "agent": self.agent_now(),
            "guardian": guardian and {"pid": guardian.pid, "start_ticks": guardian.start},
            # A copy of the directory is not the directory: who finds this in one has no shim.
            "place": [place.st_dev, place.st_ino],
        }
        write_state_file(self.options.state, state)

    # Requests. Each may take its time, so it is a generator: it yields how long it wants to rest.

    def request(self, request: dict[str, Any]) -> None:
        # An answer is for whoever has asked, not for his successor, who may be there before the
        # job has its first turn.
        self.jobs.append((0.0, self.begin(request, self.channel.generation)))

    def begin(self, request: dict[str, Any], generation: int) -> Pauses:
        """Run one request and send its reply.

        signal {signal}: the agent's root process. → delivered
        mark {}: → mark [[pid, start ticks], …], opaque to the host
        interrupt {mark, signal, grace, spare_root, spare_jobs}: → signalled, killed, remaining,
            duration. Background jobs of shells are deaf to SIGINT: they get a SIGTERM for it.
        processes {}: → processes
        stop {interrupt_grace, terminate_grace}: → rungs, remaining, duration
        hold {path}: an exclusive lock on this file, until the shim has seen the end of all that it
            contains. → held: false where another process has it
        """
        reply: dict[str, Any] = {"id": request["id"]}
        try:
            verb = request["verb"]
            if verb == "signal":
                reply["delivered"] = self.signal_root(int(request["signal"]))
            elif verb == "mark":
                reply["mark"] = [p.key for p in self.alive()]
            elif verb == "hold":
                reply["held"] = self.hold(str(request["path"]))
            elif verb == "processes":
                reply["processes"] = self.tree.describe(self.alive())
            elif verb == "interrupt":
                yield from self.interrupt(request, reply)
            elif verb == "stop":
                yield from self.stop(request, reply)
            else:
                reply["error"] = f"unknown verb {verb}"
        except (OSError, ValueError, KeyError, TypeError) as error:
            reply["error"] = f"{type(error).__name__}: {error}"
        if generation == self.channel.generation:
            self.channel.send_object(REPLY, reply)

    def alive(self) -> list[Process]:
        return [process for process in self.tree.scan().values() if not process.dead]

    def root(self) -> Process | None:
        if self.agent is None or self.agent.status is not None:
            return None  # reaped: the pid may be anybody's
        return Process(self.agent.pid, 0, self.agent.start, False, "")

    def signal_root(self, signum: int) -> bool:
        root = self.root()
        return root is not None and send_signal(root, signum)

    def until_gone(self, keys: set[Key], deadline: float) -> Pauses:
        """Rest until none of these is alive, or the deadline."""
        pause = 0.005
        yield 0.001  # whoever spawns as fast as we look must not keep the pipes waiting
        while time.monotonic() < deadline:
            self.reap()
            left = set()
            for pid, start in keys:
                now = read_process(pid)
                if now is not None and now.start == start and not now.dead:
                    left.add((pid, start))
            if not left:
                return
            keys = left
            yield min(pause, max(0.0, deadline - time.monotonic()))
            pause = min(pause * 1.5, 0.05)

    def stop(self, request: dict[str, Any], reply: dict[str, Any]) -> Pauses:
        """The ladder. Each rung is left as soon as nothing is left alive."""
        started = time.monotonic()
        rungs: list[dict[str, Any]] = []
        for signum, grace in (
            (signal.SIGINT, float(request["interrupt_grace"])),
            (signal.SIGTERM, float(request["terminate_grace"])),
        ):
            found = self.alive() if grace > 0 else []
            if not found:
                continue
            begun = time.monotonic()
            for process in found:
                send_signal(process, signum)
                # A stopped process acts on a signal only once it is continued.
                send_signal(process, signal.SIGCONT)
            described = self.tree.describe(found)
            keys = {process.key for process in found}
            while keys and time.monotonic() < begun + grace:
                yield from self.until_gone(keys, begun + grace)
                keys = {process.key for process in self.alive()}
            rungs.append(rung(signum, len(found), described, begun))
            self.note(described)
        yield from self.kill_everything(rungs, reply)
        self.note(rungs[-1]["found"] if rungs else [])
        reply["rungs"] = rungs
        reply["duration"] = time.monotonic() - started

    def note(self, described: list[dict[str, Any]]) -> None:
        """Keep what a stop has found, for a host that comes after the one that has asked."""
        for found in described:
            if self.agent and found["pid"] != self.agent.host_pid and len(self.swept) < LISTED:
                self.swept[found["pid"], found["start_time"]] = found

    def signal_young(self, found: list[Process], signum: int, signalled: dict[Key, bool]) -> bool:
        """Signal those that have not heard it yet. True when some are too young to hear it."""
        # A shell forgets a SIGINT if the command that it waits for ends well, and runs the next.
        shells = {p.pid: p for p in found if p.key in signalled and p.name in SHELLS}
        waiting = False
        for process in found:
            before = signalled.get(process.key)
            if before is None and (len(signalled) >= 4096 or newborn(process, signum)):
                send_signal(process, signal.SIGCONT)
                waiting = True
                continue
            background = signum == signal.SIGINT and in_background(process.pid)
            if before is None and (parent := shells.get(process.parent)) is not None:
                send_signal(parent, signum)
            if before is None or before < background or missed(process.pid, signum):
                signalled[process.key] = background
                send_signal(process, signal.SIGTERM if background else signum)
                # A stopped process acts on a signal only once it is continued.
                send_signal(process, signal.SIGCONT)
        return waiting

    def interrupt(self, request: dict[str, Any], reply: dict[str, Any]) -> Pauses:
        """Signal, then kill, what was born since the mark. What is older lives on."""
        started = time.monotonic()
        older = {(int(pid), int(start)) for pid, start in request["mark"]}
        root = self.root()
        root_pid = root.pid if root else 0
        if root is not None:
            older.add(root.key)
            if not request["spare_root"]:
                send_signal(root, int(request["signal"]))
        signalled: dict[Key, bool] = {}  # and whether as a background job
        described: dict[Key, dict[str, Any]] = {}

        def young() -> list[Process]:
            found = self.tree.scan()
            spared: set[int] = set()
            if request["spare_jobs"]:
                heads = [p.pid for p in found.values() if p.key in older]
                spared = children_of([pid for pid in heads if pid != root_pid], found)
            # Parents first: a shell whose command dies of a SIGINT that it hasn't got itself yet
            # goes on with the next command.
            return [
                process
                for process in sorted(found.values(), key=lambda p: (p.start, p.pid))
                if not process.dead and process.key not in older and process.pid not in spared
            ]

        def describe(found: list[Process]) -> None:
            new = [process for process in found if process.key not in described]
            for process, text in zip(new, self.tree.describe(new), strict=False):
                described[process.key] = text

        signum = int(request["signal"])
        deadline = started + float(request["grace"])
        killed: dict[Key, Process] = {}
        found: list[Process] = []
        pause = 0.05
        empty = 0
        while empty < 2 and time.monotonic() < deadline + INTERRUPT_KILL_LIMIT:
            late = time.monotonic() >= deadline
            found = young()
            orphans = self.kill_orphans(older) if late or not found else []
            if not found and not orphans:
                empty += 1
                continue
            empty = 0
            describe(found + orphans)
            killed.update((process.key, process) for process in orphans)
            if not late:
                waiting = self.signal_young(found, signum, signalled)
                rest = time.monotonic() + (0.005 if waiting else pause)
                pause = min(pause * 2, 1.0)
                yield from self.until_gone({p.key for p in found}, min(rest, deadline))
                continue
            for process in found:
                if send_signal(process, signal.SIGKILL):
                    killed[process.key] = process
            yield 0.002
        reply["signalled"] = [described[key] for key in signalled if key in described][:LISTED]
        reply["killed"] = [described[key] for key in killed if key in described][:LISTED]
        reply["remaining"] = 0 if empty == 2 else max(1, len(found))
        reply["duration"] = time.monotonic() - started

    def hold(self, path: str) -> bool:
        """Have the lock, once for all. The agent doesn't get it: what it forks may outlive it.

        Raises OSError.
        """
        while path not in self.held:
            flags = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(path, flags, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            except OSError:
                os.close(descriptor)
                raise
            if is_at(descriptor, path):
                self.held[path] = descriptor
            else:
                os.close(descriptor)  # its last holder has just taken it away
        return True

    def let_go(self) -> None:
        """Of all locks: nobody is left who could use what they guard."""
        for path, descriptor in self.held.items():
            with suppress(OSError):
                if is_at(descriptor, path):
                    os.unlink(path)
            os.close(descriptor)
        self.held.clear()

    # The end.

    def perish(self) -> None:
        """Kill what is left, see it gone, remove the traces. Nothing is pumped any more."""
        self.channel.disconnect()
        self.listener.close()
        proof: dict[str, Any] = {}
        for pause in self.kill_everything([], proof):
            time.sleep(pause)
        if proof["remaining"]:
            complain(f"could not kill {proof['left']}")
            return  # the state file stays, for the next sweep
        self.let_go()
        if self.tree.cgroup is not None and not self.tree.cgroup.remove():
            complain(f"could not remove {self.tree.cgroup.path}")
            return
        # One that was never told what to start has left nothing: what is there is its successor's,
        # which waits for the directory.
        for name in (SOCKET_FILE, INPUT_FILE, STATE_FILE) if self.recorded else ():
            with suppress(OSError):
                os.unlink(name, dir_fd=self.directory)


def is_at(descriptor: int, path: str) -> bool:
    """Whether this file, and no other, is there."""
    ours = os.fstat(descriptor)
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)


def claim(directory: int) -> None:
    """One shim at a time in a state directory. Raises BlockingIOError.

    The host that started the one before may have died before it told it what to start: that one
    is about to end.
    """
    deadline = time.monotonic() + CLAIM_SECONDS
    while True:
        try:
            return fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(0.02)


def rung(signum: int, count: int, found: list[dict[str, Any]], begun: float) -> dict[str, Any]:
    duration = time.monotonic() - begun
    return {"signal": int(signum), "count": count, "found": found, "duration": duration}


def complain(text: str) -> None:
    with suppress(OSError):
        os.write(2, f"bridle shim: {text}\n".encode("utf-8", "replace"))


def be_deaf() -> None:
    """An agent's `pkill python` must not end its session; the end comes over the socket."""
    for signum in DEAF_TO:
        signal.signal(signum, signal.SIG_IGN)


def write_state_file(directory: str, state: dict[str, Any]) -> None:
    """Replace the state file in one step; mode 0600."""
    path = os.path.join(directory, STATE_FILE)
    descriptor = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w") as file:
        json.dump(state, file)
    os.replace(path + ".new", path)


# --- Starting ------------------------------------------------------------------------------------


def probe(options: Options) -> None:
    """Try a level on this machine, in this throw-away process. Ends with 0, or prints why not."""
    try:
        if options.level == "PID_NAMESPACE":
            pid = clone(CLONE_NEWPID | CLONE_NEWNS)
            if pid == 0:
                try:
                    enter_namespace()
                    os._exit(0 if os.getpid() == 1 and os.listdir("/proc").count("1") else 3)
                except BaseException as error:  # noqa: BLE001 - nothing may return from the fork
                    complain(str(error))
                    os._exit(3)
            if os.waitpid(pid, 0)[1] != 0:
                raise SystemExit(1)
        else:
            prctl(PR_SET_CHILD_SUBREAPER, 1)
        if options.cgroup:
            probe_cgroup(options.cgroup)
    except OSError as error:
        raise SystemExit(str(error)) from None


def probe_cgroup(path: str) -> None:
    cgroup = Cgroup(path)
    cgroup.create()
    gate_read, gate_write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(gate_write)
        os.read(gate_read, 1)
        os._exit(0)
    try:
        cgroup.write("cgroup.procs", str(pid))
        if pid not in cgroup.members() or not cgroup.kill():
            raise OSError(errno.EOPNOTSUPP, "cgroup.kill doesn't work here")
    finally:
        os.close(gate_write)
        os.waitpid(pid, 0)
        cgroup.remove()


def main(arguments: list[str]) -> None:
    options = Options(arguments)
    if options.probe:
        probe(options)
        return
    outer_fdinfo = guardian = None
    try:
        if options.level == "PID_NAMESPACE":
            # The shim becomes the init of a new PID namespace and a child of the host service; when
            # it dies, by whatever cause, the kernel kills the namespace. The first process leaves.
            child = clone(CLONE_NEWPID | CLONE_NEWNS | CLONE_PARENT)
            if child:
                os.write(1, f"pid {child}\n".encode())
                os._exit(0)
            host_pid = int(os.readlink("/proc/self"))
            os.setsid()
            outer_fdinfo = enter_namespace()
        else:
            prctl(PR_SET_CHILD_SUBREAPER, 1)
            # Read by itself: a child that asks for its parent may be told of init.
            guardian = read_process(os.getpid())
            child = os.fork()
            if child:
                os.write(1, f"pid {child}\n".encode())
                leave_pipes()
                guard(child, options, guardian)
                return
            host_pid = os.getpid()
            os.setsid()
            prctl(PR_SET_CHILD_SUBREAPER, 1)
        global proc_directory
        proc_directory = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.chdir("/")
        listener = socket.socket(fileno=fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 10))
        # The host connected before it started us: this doesn't wait.
        connection, _ = listener.accept()
        shim = Shim(options, listener, connection, Tree(outer_fdinfo), host_pid, guardian)
        leave_pipes()
    except OSError as error:
        os.write(1, f"error {error}\n".encode())
        raise SystemExit(1) from None
    shim.run(connection)


def leave_pipes() -> None:
    """Let go of what we were started with; this is the end of the birth pipe."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0, inheritable=False)
    os.dup2(null, 1, inheritable=False)
    os.close(null)


if __name__ == "__main__":
    main(sys.argv[1:])
