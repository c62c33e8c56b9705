"""The agent of the driver `exec`: stays for the run, and starts a command in each turn.

One file, standard library only, run as ``python -I -S runner.py``; it imports nothing of Bridle and
nothing imports it but its driver, for its path. It speaks JSON, one object a line; what it reads
from stdin and writes to stdout is listed in `bridle_host.drivers.exec.dialect`.

A turn is a process: its stdout is what the agent says, its stderr goes where ours does, its end is
the turn's. What it leaves running may go on writing; that is told as a log.

Two threads: one reads orders, and carries an interrupt out at once, however much output waits to be
taken from us; the other does everything else. Each command has two more for a while: one that waits
for its end, one that writes its stdin.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import queue
import re
import selectors
import signal
import subprocess
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: What is read at once; what one message has at most, in bytes; the longest line with rules.
CHUNK = 32 * 1024
MESSAGE = 64 * 1024
LONGEST_LINE = 4 * 1024 * 1024
#: What is still read of a command that has ended, in bytes: others may hold its output open.
REST = 1024 * 1024
#: For so long nothing comes, in seconds, before what came is taken for a message of its own.
PAUSE = 0.2
#: The longest text of a log, in characters.
LOG = 2000


def tell(kind: str, **fields: Any) -> None:
    view = memoryview(json.dumps({"type": kind, **fields}).encode() + b"\n")
    while view:
        view = view[os.write(1, view) :]


class Said:
    """What a command says, without rules: text as it comes, and messages, which last: of the lines
    up to a pause, or of much at once."""

    def __init__(self) -> None:
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.count = 0
        self.parts: list[str] = []
        self.size = 0
        #: Whether whole lines wait for a pause.
        self.waits = False

    def feed(self, data: bytes, final: bool = False) -> None:
        text = self.decoder.decode(data, final)
        if text:
            tell("text", id=f"m{self.count}", text=text)
            self.parts.append(text)
            self.size += len(data)
            self.waits = self.waits or "\n" in text
        if self.parts and (final or self.size >= MESSAGE):
            self.message("".join(self.parts), "")

    def pause(self) -> None:
        """Nothing came for a while."""
        lines, end, rest = "".join(self.parts).rpartition("\n")
        if end:
            self.message(lines + end, rest)

    def message(self, text: str, rest: str) -> None:
        tell("message", id=f"m{self.count}", text=text)
        self.count += 1
        self.parts, self.size, self.waits = [rest] if rest else [], len(rest), False
        if rest:
            tell("text", id=f"m{self.count}", text=rest)


class Picked:
    """What a command says, with a rule for which lines of JSON are the agent's words."""

    def __init__(self, rule: dict[str, Any]) -> None:
        self.rule = rule
        self.count = 0
        self.lines = Lines()
        self.waits = False

    def feed(self, data: bytes, final: bool = False) -> None:
        for line in self.lines.feed(data, final):
            text = pick(self.rule, line)
            if text is None:
                tell("log", text=line.decode("utf-8", "replace")[:LOG])
                continue
            while text:
                tell("message", id=f"m{self.count}", text=text[:MESSAGE])
                self.count += 1
                text = text[MESSAGE:]

    def pause(self) -> None:
        """Each line is a message already."""


class Lines:
    """Whole lines of a stream; of one that is too long the begin."""

    def __init__(self) -> None:
        self.begun = bytearray()

    def feed(self, data: bytes, final: bool = False) -> list[bytes]:
        *lines, rest = data.split(b"\n")
        whole = []
        for line in lines:
            self.add(line)
            whole.append(bytes(self.begun))
            self.begun.clear()
        self.add(rest)
        if final and self.begun:
            whole.append(bytes(self.begun))
            self.begun.clear()
        return [line for line in whole if line.strip()]

    def add(self, part: bytes) -> None:
        self.begun += part[: max(0, LONGEST_LINE - len(self.begun))]


def pick(rule: dict[str, Any], line: bytes) -> str | None:
    """The text that a rule means, if the line is JSON that has it."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if rule["where"] and at(value, rule["where"]) != rule["equals"]:
        return None
    found = at(value, rule["path"])
    return found if isinstance(found, str) else None


def at(value: Any, path: list[str]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


class Runner:
    """The thread that does everything but read."""

    def __init__(self) -> None:
        self.inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.wake_read, self.wake_write = os.pipe()
        os.set_blocking(self.wake_write, False)
        os.set_blocking(self.wake_read, False)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.wake_read, selectors.EVENT_READ)
        # Held while the command's process id is used, or given back to the system.
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.turn = 0
        self.said: Said | Picked = Said()
        self.ids: Lines | None = None
        self.session: dict[str, Any] | None = None
        self.text: dict[str, Any] | None = None
        self.expression: re.Pattern[str] | None = None
        #: An order to end that lets the turn be finished.
        self.leaving = False
        self.backlog: list[dict[str, Any]] = []

    # --- The other thread, and signals ---

    def post(self, message: dict[str, Any]) -> None:
        self.inbox.put(message)
        with contextlib.suppress(BlockingIOError):  # it is awake
            os.write(self.wake_write, b"x")

    def read_orders(self) -> None:
        begun = b""
        while data := os.read(0, 65536):
            *lines, begun = (begun + data).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if message["type"] == "interrupt":
                    self.interrupt(message["turn"])
                else:
                    self.post(message)
        self.post({"type": "stop"})

    def interrupt(self, turn: int) -> None:
        with self.lock:
            if self.process is not None and self.turn == turn:
                with contextlib.suppress(OSError):  # it has ended
                    os.killpg(self.process.pid, signal.SIGINT)

    # --- The loop ---

    def run(self) -> None:
        # Handlers, not SIG_IGN, which the commands would inherit.
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self.post({"type": "leave"}))
        threading.Thread(target=self.read_orders, daemon=True).start()
        while True:
            ready = self.selector.select(PAUSE if self.said.waits else None)
            if not ready:
                self.said.pause()
            for key, _ in ready:
                if self.selector.get_map().get(key.fd) != key:
                    continue  # closed by what came before it, in this very round
                if key.fd == self.wake_read:
                    os.read(self.wake_read, 4096)
                    self.look()
                elif key.data == self.turn and self.process is not None:
                    self.take(key.fd)
                else:
                    self.late(key.fd)

    def look(self) -> None:
        """What was ordered, and what ended."""
        while True:
            try:
                message = self.inbox.get_nowait()
            except queue.Empty:
                return
            kind = message["type"]
            if kind == "hello":
                self.obey(message)
                tell("ready")
            elif kind == "turn":
                self.backlog.append(message)
            elif kind == "exited":
                self.end(message["output"])
            elif kind == "stop":
                self.leave()
            elif kind == "leave":
                self.leaving = True
            if self.process is None and self.leaving:
                self.leave()
            if self.process is None and self.backlog:
                self.begin(self.backlog.pop(0))

    def leave(self) -> None:
        tell("bye")
        os._exit(0)

    def obey(self, message: dict[str, Any]) -> None:
        self.text, session = message["text"], message["session"]
        if session is not None and "re" in session:
            self.expression = re.compile(session["re"])
        else:
            self.session = session

    # --- A turn ---

    def begin(self, message: dict[str, Any]) -> None:
        turn, argv, stdin = message["turn"], message["argv"], message["stdin"]
        self.said = Said() if self.text is None else Picked(self.text)
        learns = self.session is not None or self.expression is not None
        self.ids = Lines() if learns else None
        failed = ""
        with self.lock:
            self.turn = turn
            try:
                self.process = subprocess.Popen(
                    [word.encode("utf-8", "replace") for word in argv],
                    stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:
                failed = (isinstance(error, OSError) and error.strerror) or "it can't be run"
        tell("began", turn=turn)
        process = self.process
        if process is None:
            tell("ended", turn=turn, exit_code=None, failed=f"{argv[0]}: {failed}")
            return
        assert process.stdout is not None
        output = os.dup(process.stdout.fileno())
        process.stdout.close()
        os.set_blocking(output, False)
        self.selector.register(output, selectors.EVENT_READ, turn)
        threading.Thread(target=self.wait, args=(process.pid, output), daemon=True).start()
        if stdin is not None:
            text = stdin.encode("utf-8", "replace")
            threading.Thread(target=feed, args=(process, text), daemon=True).start()

    def wait(self, pid: int, output: int) -> None:
        # It stays a corpse until the other thread takes its id back, so that no other has it.
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        self.post({"type": "exited", "output": output})

    def take(self, handle: int) -> int:
        """Reads once of what the command says; how much there was."""
        try:
            data = os.read(handle, CHUNK)
        except BlockingIOError:
            return 0
        if not data:
            self.close(handle)
            return 0
        self.hear(data)
        return len(data)

    def hear(self, data: bytes, final: bool = False) -> None:
        if self.ids is not None:
            for line in self.ids.feed(data, final):
                self.learn(line)
        self.said.feed(data, final)

    def learn(self, line: bytes) -> None:
        name: str | None = None
        if self.expression is not None:
            found = self.expression.search(line.decode("utf-8", "replace")[:LOG])
            name = found[1] if found is not None else None
        elif self.session is not None:
            name = pick(self.session, line)
        if name:
            tell("session", id=name)
            self.ids = None  # the first one in a turn counts

    def end(self, output: int) -> None:
        """The command has ended: what it said last, then its end."""
        process = self.process
        assert process is not None
        room = REST
        while room > 0 and output in self.selector.get_map() and (size := self.take(output)):
            room -= size
        self.hear(b"", final=True)
        with self.lock:
            code = process.wait()
            self.process = None
        tell("ended", turn=self.turn, exit_code=code if code >= 0 else 128 - code, failed="")

    def late(self, handle: int) -> None:
        """What somebody says whom a command of an earlier turn has left behind."""
        try:
            data = os.read(handle, CHUNK)
        except BlockingIOError:
            return
        if not data:
            self.close(handle)
            return
        tell("log", text=data.decode("utf-8", "replace")[:LOG])

    def close(self, handle: int) -> None:
        self.selector.unregister(handle)
        os.close(handle)


def feed(process: subprocess.Popen[bytes], text: bytes) -> None:
    """Writes a command's stdin, as fast as it reads."""
    assert process.stdin is not None
    try:
        process.stdin.write(text)
        process.stdin.close()
    except OSError:
        pass  # it reads no more


if __name__ == "__main__":
    try:
        Runner().run()
    except BrokenPipeError:
        sys.exit(1)
