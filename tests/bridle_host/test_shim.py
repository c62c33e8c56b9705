"""The shim's own parts: its helpers on /proc, and that it stays one small file."""

from __future__ import annotations

import ast
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridle_host import shim


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def test_a_process_is_read_with_its_start() -> None:
    own = shim.read_process(os.getpid())
    assert own is not None
    assert (own.pid, own.parent, own.dead) == (os.getpid(), os.getppid(), False)
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    assert own.start == int(fields[19])
    assert shim.read_process(2**22 + 1) is None


def test_a_name_may_look_like_the_rest_of_the_line(tmp_path: Path) -> None:
    name = ") Z 1 (\n"
    program = tmp_path / name
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([str(program), "600"]) as process:
        # Its start is told before it has its name.
        command = Path(f"/proc/{process.pid}/cmdline")
        while not command.read_bytes().startswith(os.fsencode(program)):
            pass
        found = shim.read_process(process.pid)
        process.kill()
    assert found is not None
    assert (found.name, found.parent, found.dead) == (name, os.getpid(), False)


def test_a_corpse_is_dead() -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        found = shim.read_process(process.pid)
        assert found is not None
        assert found.dead
        assert shim.read_command(found) == "[true]"


def test_a_process_is_signalled_by_its_pid_and_its_start(
    sleeper: subprocess.Popen[bytes],
) -> None:
    found = shim.read_process(sleeper.pid)
    assert found is not None
    found.start += 1
    assert not shim.send_signal(found, signal.SIGKILL)
    assert sleeper.poll() is None
    found.start -= 1
    assert shim.send_signal(found, signal.SIGTERM)
    assert sleeper.wait() == -signal.SIGTERM
    assert not shim.send_signal(found, signal.SIGKILL)


def test_descendants_are_found_at_any_depth() -> None:
    parents = {2: 1, 3: 2, 4: 3, 5: 1, 6: 99}
    processes = {pid: shim.Process(pid, parent, 0, False, "x") for pid, parent in parents.items()}
    assert shim.children_of([2], processes) == {3, 4}
    assert shim.children_of([1], processes) == {2, 3, 4, 5}
    assert shim.children_of([], processes) == set()


def test_parents_are_killed_before_their_children_whatever_their_pids() -> None:
    parents = {9: 1, 3: 9, 4: 3, 5: 9, 6: 99, 20: 21, 21: 20}
    processes = [shim.Process(pid, parent, 0, False, "x") for pid, parent in parents.items()]
    for listed in (processes, processes[::-1]):
        order = [process.pid for process in shim.parents_first(listed)]
        assert sorted(order) == sorted(parents)
        assert order.index(9) < order.index(3) < order.index(4)
        assert order.index(9) < order.index(5)


def test_what_was_killed_and_is_in_no_list_is_told_as_killed() -> None:
    class Unseen(shim.Tree):
        """As of what forks and leaves, quicker than a look at /proc."""

        def scan(self) -> dict[int, shim.Process]:
            return {}

        def children(self) -> list[shim.Process]:
            return []

        def kill(self, found: Iterable[shim.Process]) -> None:
            """Nobody is to be killed here."""

    class Keeper(shim.Reaper):
        """The kernel says that there is a child; once it doesn't any more."""

        children = iter([True, True])

        def reap(self) -> bool:
            return not next(self.children, False)

    for flees in (True, False):
        keeper = Keeper(Unseen(None))
        if not flees:
            keeper.children = iter([])
        rungs: list[dict[str, Any]] = []
        proof: dict[str, Any] = {}
        for _ in keeper.kill_everything(rungs, proof):
            pass
        assert [(rung["signal"], rung["count"]) for rung in rungs] == [(signal.SIGKILL, 1)] * flees
        assert proof["remaining"] == 0


def test_frames_are_put_together_from_any_pieces() -> None:
    ours, theirs = socket.socketpair()
    channel = shim.Channel(ours)
    sent = [(shim.STDIN, b"abc"), (shim.STDIN_END, b""), (shim.ACK, b"x" * 1000)]
    stream = b"".join(shim.FRAME.pack(len(body), kind) + body for kind, body in sent)
    received = []
    for position in range(len(stream)):
        theirs.send(stream[position : position + 1])
        received += list(channel.receive())
    assert received == sent
    assert list(channel.receive()) == []
    theirs.send(shim.FRAME.pack(shim.FRAME_LIMIT + 1, shim.STDIN))
    with pytest.raises(ConnectionError):
        list(channel.receive())
    theirs.close()
    with pytest.raises(ConnectionError):
        list(channel.receive())
    ours.close()


def test_what_the_socket_does_not_take_is_sent_later() -> None:
    ours, theirs = socket.socketpair()
    channel = shim.Channel(ours)
    body = os.urandom(2_000_000)
    channel.send(shim.OUTPUT, body)
    channel.send_object(shim.EXIT, {"code": 0})
    received = b""
    while len(received) < 2 * shim.FRAME.size + len(body) + len('{"code": 0}'):
        channel.flush()
        received += theirs.recv(1_000_000)
    assert not channel.outgoing
    head = shim.FRAME.size
    assert received[head : head + len(body)] == body
    assert received.endswith(b'{"code": 0}')
    ours.close()
    theirs.close()


def test_input_that_was_received_is_left_out_and_a_hole_is_refused() -> None:
    ours, theirs = socket.socketpair()
    read, write = os.pipe()
    with selectors.DefaultSelector() as selector:
        given = shim.Input(shim.Channel(ours), selector, write)
        for offset, data in ((0, b"abc"), (0, b"abc"), (1, b"bcd"), (2, b"c"), (4, b"e")):
            given.add(offset, data)
        with pytest.raises(ConnectionError):
            given.add(6, b"g")
        given.end()
    assert os.read(read, 100) == b"abcde"
    os.close(read)
    ours.close()
    theirs.close()


def test_a_frame_follows_the_output_before_it_and_no_other() -> None:
    ours, theirs = socket.socketpair()
    channel = shim.Channel(ours)
    channel.spool.begin(1000)
    channel.spool.add(1, b"one")
    channel.send(shim.PONG)
    channel.spool.add(1, b"two")
    channel.flush()
    receiver = shim.Channel(theirs)
    frames = [(kind, body[shim.OUTPUT_HEAD.size :]) for kind, body in receiver.receive()]
    assert frames == [(shim.OUTPUT, b"one"), (shim.PONG, b""), (shim.OUTPUT, b"two")]
    channel.spool.taken(1004)
    channel.spool.acknowledge(1002)
    channel.disconnect()
    receiver.disconnect()
    assert (channel.spool.read, channel.spool.sent) == (1002, 1002)
    assert channel.spool.next_frame(channel.spool.end) is not None
    assert channel.spool.sent == 1006


def test_an_unknown_policy_for_a_lost_host_is_refused() -> None:
    with pytest.raises(SystemExit, match="forget"):
        shim.Options(["--on-host-lost=forget"])


def test_the_shim_imports_the_standard_library_only_and_no_asyncio() -> None:
    nodes = list(ast.walk(ast.parse(Path(shim.__file__).read_text())))
    plain = [node for node in nodes if isinstance(node, ast.Import)]
    modules = {alias.name for node in plain for alias in node.names}
    modules |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert modules - {"__future__"} <= sys.stdlib_module_names | {"collections.abc"}
    assert not modules & {"asyncio", "subprocess", "threading", "logging", "argparse"}
