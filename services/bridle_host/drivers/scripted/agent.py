"""The agent of the driver `scripted`: plays what it is sent as a script of steps.

One file, standard library only, run as ``python -I -S agent.py``; it imports nothing of
Bridle and nothing imports it but its driver, for its path. The language is documented for users in
docs/drivers/scripted.md.

It speaks JSON, one object a line: what it reads from stdin and writes to stdout is listed in
`bridle_host.drivers.scripted.wire`. One thread reads, the other does everything else; whatever the
script waits for, messages are looked at meanwhile, unless the step says that they are not.
"""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

STEP = re.compile(
    r"\s*(?:(?P<when>allowed|denied|cleanup|late)\s*:\s*)?(?P<verb>[a-z_]+)(?P<rest>.*)", re.DOTALL
)
OPTION = re.compile(r"\s+([a-z_]+)=(\S*)")
ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|(.))", re.DOTALL)
LETTERS = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "e": "\x1b"}
FOREVER = 10.0**9


class ScriptError(Exception):
    """The script cannot be played; the text is for people."""


class Interrupted(Exception):  # noqa: N818 - not an error
    """Somebody wants the turn to end, and this agent heeds it."""


class Step:
    """One step: when it is done, what, with which options, and the text after them."""

    __slots__ = ("options", "text", "verb", "when")

    def __init__(self, when: str, verb: str, options: dict[str, str], text: str) -> None:
        self.when, self.verb, self.options, self.text = when, verb, options, text

    def number(self, name: str, default: float) -> float:
        try:
            return float(self.options.get(name, default))
        except ValueError:
            raise ScriptError(f"{self.verb}: {name} is no number") from None

    def count(self, name: str, default: int) -> int:
        return int(self.number(name, default))


def parse(script: str) -> list[Step]:
    """Raises ScriptError."""
    steps = []
    for part in re.split(r"\n|(?<!\\);", script):
        if not part.strip() or part.lstrip().startswith("#"):
            continue
        match = STEP.fullmatch(part)
        if match is None or getattr(Agent, "do_" + match["verb"], None) is None:
            raise ScriptError(f"no such step: {part.strip()[:80]}")
        rest = match["rest"]
        options = {}
        while option := OPTION.match(rest):
            options[option[1]] = option[2].replace("\\;", ";")
            rest = rest[option.end() :]
        text = re.sub(r"^\s+--(?=\s|$)", "", rest).strip()
        steps.append(Step(match["when"] or "", match["verb"], options, unescape(text)))
    return steps


def unescape(text: str) -> str:
    """Bytes above 127 (``\\xff``) become surrogates: bytes again where bytes are written."""

    def one(match: re.Match[str]) -> str:
        byte, code, letter = match.groups()
        if byte is not None:
            value = int(byte, 16)
            return chr(value if value < 0x80 else 0xDC00 + value)
        return chr(int(code, 16)) if code is not None else LETTERS.get(letter, letter)

    return ESCAPE.sub(one, text)


def write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class Agent:
    """Everything that the steps change. What a `do_…` method does is said in the documentation."""

    def __init__(self) -> None:
        self.inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.backlog: list[dict[str, Any]] = []
        self.steps: list[Step] = []
        self.rest: list[Step] = []
        self.content: list[dict[str, Any]] = []
        self.turn: int | None = None
        self.open = False  # a turn has been told to have begun, and not to have ended
        self.asked = False  # the steps of an input are being played, whether told or not
        self.ids = 0
        self.name = os.urandom(4).hex()  # a resumed session must not see the same ids again
        self.memory: dict[str, str] = {}
        self.always: set[str] = set()
        self.answers: dict[str, str] = {}
        self.decision = ""
        self.deaf_to_interrupts = False
        self.deaf_to_stop = False
        self.steerable = True
        self.native = "on"
        self.quiet = 0.0
        self.seedable = False
        self.seeded = False  # what was said so far has come, or will not
        self.version = "1"
        self.ledger: int | None = None

    # --- The loop ---

    def run(self, start: str) -> None:
        threading.Thread(target=self.read, daemon=True).start()
        hello = self.inbox.get()
        self.always = set(hello.get("always", ()))
        try:
            for step in parse(start):
                self.play(step)
        except ScriptError as error:
            self.tell("refused", message=str(error))
            sys.exit(1)
        resume = hello.get("resume")
        if resume is not None and self.native != "on":
            self.tell("refused", message=f"no conversation {resume['conversation']}")
            sys.exit(1)
        if resume is not None:
            self.memory = dict(resume["memory"])
        self.seeded = not self.seedable
        self.tell(
            "ready",
            version=self.version,
            resumed=resume is not None,
            quiet=int(self.quiet * 1000),
            seedable=self.seedable,
        )
        while True:
            message = self.backlog.pop(0) if self.backlog else self.inbox.get()
            if message["type"] == "turn":
                self.take_turn(message)
            else:
                self.receive(message)

    def read(self) -> None:
        """The other thread: lines from stdin into the inbox."""
        begun = b""
        while data := os.read(0, 65536):
            *lines, begun = (begun + data).split(b"\n")
            for line in lines:
                message = json.loads(line)
                self.note(got=message)
                self.inbox.put(message)
        self.inbox.put({"type": "stop"})

    def receive(self, message: dict[str, Any]) -> None:
        """Anything but a turn. Raises Interrupted."""
        kind = message["type"]
        if kind == "stop" and not self.deaf_to_stop:
            sys.exit(0)
        elif kind == "respond":
            self.answers[message["approval"]] = message["decision"]
        elif kind == "steer" and self.open and self.steerable:
            self.steer(message)
        elif kind == "interrupt" and self.open and not self.deaf_to_interrupts:
            raise Interrupted

    def wait(self, seconds: float, approval: str = "") -> bool:
        """Let time pass, or wait for an answer; messages are looked at. Raises Interrupted."""
        deadline = time.monotonic() + seconds
        while not (approval and approval in self.answers):
            left = deadline - time.monotonic()
            try:
                message = self.inbox.get(timeout=max(0.0, min(left, 1000.0)))
            except queue.Empty:
                if left <= 0:
                    return False
                continue
            if message["type"] == "turn":
                self.backlog.append(message)
            else:
                self.receive(message)
        return True

    def take_turn(self, message: dict[str, Any]) -> None:
        self.turn, self.content = message["turn"], message["content"]
        texts = [piece["text"] for piece in self.content if "text" in piece]
        if not self.seeded and len(texts) > 1:
            self.memory["said"] = texts.pop(0)
        self.seeded = True
        script = "\n".join(texts)
        self.asked = True
        try:
            self.rest = parse(script)
        except ScriptError as error:
            self.begin()
            self.end("FAILED", str(error))
            return
        late = [step for step in self.rest if step.when == "late"]
        cleanup = [step for step in self.rest if step.when == "cleanup"]
        if not any(step.verb == "begin" for step in self.rest):
            self.begin()
        try:
            self.play_on()
            self.end("COMPLETED")
        except ScriptError as error:
            self.end("FAILED", str(error))
        except Interrupted:
            self.deaf_to_interrupts, before = True, self.deaf_to_interrupts
            try:
                for step in cleanup:
                    self.do(step)
                self.end("INTERRUPTED")
                for step in late:
                    self.do(step)
            except ScriptError as error:
                self.end("INTERRUPTED", str(error))
            self.deaf_to_interrupts = before

    def play_on(self) -> None:
        while self.rest:
            self.play(self.rest.pop(0))

    def play(self, step: Step) -> None:
        if step.when in ("cleanup", "late") or (step.when and step.when != self.decision):
            return
        for _ in range(step.count("repeat", 1)):
            self.wait(0)
            self.do(step)

    def do(self, step: Step) -> None:
        getattr(self, "do_" + step.verb)(step)

    def steer(self, message: dict[str, Any]) -> None:
        texts = [piece["text"] for piece in message["content"] if "text" in piece]
        try:
            self.rest[:0] = parse("\n".join(texts))
        except ScriptError as error:
            self.tell("thought", id=self.id("thought"), text=f"steered: {error}")
        self.tell("steered", input=message["input"])

    # --- What it tells ---

    def tell(self, kind: str, **fields: Any) -> None:
        self.note(told={"type": kind, **fields})
        write(1, json.dumps({"type": kind, **fields}).encode() + b"\n")

    def note(self, **entry: Any) -> None:
        """A line for the ledger, if there is one; whole, whichever thread writes it."""
        if self.ledger is not None:
            write(self.ledger, json.dumps(entry).encode() + b"\n")

    def id(self, kind: str) -> str:
        self.ids += 1
        return f"{kind}-{self.name}-{self.ids}"

    def begin(self) -> None:
        if not self.open:
            self.tell("turn_began", turn=self.turn if self.asked else None)
            self.open = True

    def end(self, reason: str, message: str = "") -> None:
        if self.open or self.asked:
            self.begin()
            self.tell("turn_ended", reason=reason, message=message)
        self.open = self.asked = False

    # --- Steps: saying ---

    def do_say(self, step: Step) -> None:
        self.tell("message", id=self.id("message"), text=step.text, sub=step.options.get("sub", ""))

    def do_stream(self, step: Step) -> None:
        name = self.id("message")
        for piece in re.findall(r"\S+\s*|\s+", step.text):
            self.tell("text", id=name, text=piece)
            self.wait(step.number("delay", 0.01))
        if step.options.get("finish", "yes") == "yes":
            self.tell("message", id=name, text=step.text, sub=step.options.get("sub", ""))

    def do_think(self, step: Step) -> None:
        self.tell("thought", id=self.id("thought"), text=step.text, sub=step.options.get("sub", ""))

    def do_look(self, _step: Step) -> None:
        seen = []
        for piece in self.content:
            if "image" in piece:
                seen.append(f"{piece['image']}, {piece['size']} bytes")
            elif "uri" in piece:
                seen.append(piece["uri"])
            else:
                seen.append(f"text, {len(piece['text'].encode())} bytes")
        self.tell("message", id=self.id("message"), text="\n".join(seen))

    def do_plan(self, step: Step) -> None:
        words = {"done": "COMPLETED", "doing": "IN_PROGRESS", "todo": "PENDING"}
        steps = []
        for part in step.text.split(","):
            state, _, text = part.strip().partition(" ")
            if state not in words:
                raise ScriptError(f"plan: {state} is none of {', '.join(words)}")
            steps.append([text, words[state]])
        self.tell("plan", steps=steps)

    def do_usage(self, step: Step) -> None:
        names = ("input_tokens", "output_tokens", "cached_tokens", "cost_micro_usd")
        fields = {name: step.count(name, 0) for name in names if name in step.options}
        self.tell("usage", model=step.options.get("model", ""), **fields)

    # --- Steps: tools ---

    def do_tool(self, step: Step) -> None:
        name = self.id("tool")
        self.start_tool(step, name)
        if step.text:
            self.tool_output(step, name, step.text.encode("utf-8", "surrogateescape"))
        self.end_tool(step, name)

    def do_tool_start(self, step: Step) -> None:
        self.start_tool(step, step.options.get("id", "tool"))

    def do_tool_output(self, step: Step) -> None:
        data = step.text.encode("utf-8", "surrogateescape")
        self.tool_output(step, step.options.get("id", "tool"), data)

    def do_tool_end(self, step: Step) -> None:
        self.end_tool(step, step.options.get("id", "tool"))

    def start_tool(self, step: Step, name: str) -> None:
        arguments = step.options.get("arguments", "{}")
        tool, sub = step.options.get("name", "tool"), step.options.get("sub", "")
        self.tell("tool_started", id=name, tool=tool, arguments=arguments, sub=sub)

    def tool_output(self, step: Step, name: str, data: bytes) -> None:
        stream = step.options.get("stream", "stdout").upper()
        self.tell("tool_output", id=name, stream=stream, hex=data.hex())

    def end_tool(self, step: Step, name: str) -> None:
        code = step.count("code", 0) if "code" in step.options else None
        status = step.options.get("status", "failed" if code else "succeeded").upper()
        self.tell("tool_ended", id=name, status=status, code=code)

    def do_ask(self, step: Step) -> None:
        tool, name = step.options.get("name", "tool"), self.id("approval")
        if tool in self.always:
            self.decision = "allowed"
            return
        arguments = step.options.get("arguments", "{}")
        self.tell("approval_asked", id=name, tool=tool, arguments=arguments, reason=step.text)
        if not self.wait(step.number("wait", FOREVER), name):
            self.decision = "denied"
            self.tell("approval_withdrawn", id=name)
            return
        decision = self.answers.pop(name)
        self.decision = "allowed" if decision.startswith("ALLOW") else "denied"
        if decision == "ALLOW_ALWAYS":
            self.always.add(tool)
            self.keep()

    # --- Steps: time ---

    def do_sleep(self, step: Step) -> None:
        self.wait(float_of(step))

    def do_silent(self, _step: Step) -> None:
        self.wait(FOREVER)

    def do_hang(self, step: Step) -> None:
        time.sleep(float_of(step) if step.text else FOREVER)

    # --- Steps: turns ---

    def do_begin(self, _step: Step) -> None:
        self.begin()

    def do_end(self, step: Step) -> None:
        self.end(step.options.get("reason", "completed").upper(), step.text)

    def do_turn(self, _step: Step) -> None:
        if self.asked or self.open:
            raise ScriptError("turn: end the one that is on first")
        self.begin()

    # --- Steps: what it heeds and keeps ---

    def do_ignore(self, step: Step) -> None:
        self.heed(step, True)

    def do_heed(self, step: Step) -> None:
        self.heed(step, False)

    def heed(self, step: Step, deaf: bool) -> None:
        for word in step.text.split():
            if word == "interrupt":
                self.deaf_to_interrupts = deaf
            elif word == "stop":
                self.deaf_to_stop = deaf
            elif word == "steer":
                self.steerable = not deaf
            elif word == "signals":
                for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    signal.signal(signum, signal.SIG_IGN if deaf else signal.SIG_DFL)
            else:
                raise ScriptError(f"{step.verb}: {word} is none of interrupt, stop, steer, signals")

    def do_native(self, step: Step) -> None:
        if step.text not in ("on", "off"):
            raise ScriptError("native: on or off")
        self.native = step.text

    def do_quiet(self, step: Step) -> None:
        self.quiet = float_of(step)

    def do_seedable(self, _step: Step) -> None:
        self.seedable = True

    def do_linger(self, step: Step) -> None:
        text, every = step.text, step.number("every", 0.02)
        end = time.monotonic() + step.number("seconds", 1)

        def talk() -> None:
            count = 0
            while time.monotonic() < end:
                count += 1
                line = {"type": "message", "id": f"{name}-{count}", "text": text}
                write(1, json.dumps(line).encode() + b"\n")
                time.sleep(every)

        name = self.id("linger")
        threading.Thread(target=talk, daemon=True).start()

    def do_version(self, step: Step) -> None:
        self.version = step.text

    def do_ledger(self, step: Step) -> None:
        if self.ledger is not None:
            os.close(self.ledger)
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self.ledger = os.open(step.text, flags, 0o600)
        except OSError as error:
            self.ledger = None
            raise ScriptError(f"ledger: {step.text}: {error.strerror}") from None
        self.note(pid=os.getpid())

    def do_remember(self, step: Step) -> None:
        name, _, value = step.text.partition(" ")
        self.memory[name] = value.strip()
        self.keep()

    def do_recall(self, step: Step) -> None:
        value = self.memory.get(step.text)
        text = f"{step.text} is {value}" if value is not None else f"{step.text} is not known"
        self.tell("message", id=self.id("message"), text=text)

    def keep(self) -> None:
        self.tell("memory", memory=self.memory, always=sorted(self.always))

    # --- Steps: faults ---

    def do_flood(self, step: Step) -> None:
        size = int(float_of(step))
        piece = max(1, step.count("piece", 4096))
        way, name = step.options.get("as", "tool"), self.id("flood")
        if way == "tool":
            self.start_tool(step, name)
        while size > 0:
            self.wait(0)
            data = b"x" * min(piece, size)
            size -= len(data)
            if way == "tool":
                self.tool_output(step, name, data)
            elif way == "text":
                self.tell("text", id=name, text=data.decode())
            elif way == "say":
                self.tell("message", id=self.id("message"), text=data.decode())
            else:
                write(2 if way == "stderr" else 1, data + b"\n")
        if way == "tool":
            self.end_tool(step, name)

    def do_raw(self, step: Step) -> None:
        write(1, step.text.encode("utf-8", "surrogateescape") + b"\n")

    def do_line(self, step: Step) -> None:
        size = int(float_of(step))
        while size > 0:
            write(1, b"x" * min(65536, size))
            size -= 65536
        write(1, b"\n")

    def do_rune(self, step: Step) -> None:
        message = {"type": "message", "id": self.id("message"), "text": step.text}
        line = json.dumps(message, ensure_ascii=False).encode() + b"\n"
        cut = next((place + 1 for place, byte in enumerate(line) if byte >= 0xC0), 1)
        write(1, line[:cut])
        self.wait(step.number("pause", 0.05))
        write(1, line[cut:])

    def do_stderr(self, step: Step) -> None:
        write(2, step.text.encode("utf-8", "surrogateescape") + b"\n")

    def do_close(self, step: Step) -> None:
        names = {"stdin": 0, "stdout": 1, "stderr": 2}
        if step.text not in names:
            raise ScriptError(f"close: none of {', '.join(names)}")
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, names[step.text])
        os.close(null)

    def do_die(self, step: Step) -> None:
        name = step.options.get("signal", "")
        if name:
            signum = getattr(signal, "SIG" + name.upper().removeprefix("SIG"), None)
            if not isinstance(signum, signal.Signals):
                raise ScriptError(f"die: no signal {name}")
            if signum not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
            self.wait(FOREVER)
        os._exit(step.count("code", 1))

    def do_quit(self, step: Step) -> None:
        self.end("COMPLETED")
        self.tell("bye")
        os._exit(step.count("code", 0))

    def do_fork(self, step: Step) -> None:
        kind = step.options.get("as", "child")
        if kind not in ("child", "session", "daemon"):
            raise ScriptError("fork: as child, session or daemon")
        pid = os.fork()
        if pid == 0:
            become_child(step, kind)
        if kind == "daemon":
            os.waitpid(pid, 0)


def float_of(step: Step) -> float:
    try:
        return float(step.text)
    except ValueError:
        raise ScriptError(f"{step.verb}: {step.text or 'nothing'} is no number") from None


def become_child(step: Step, kind: str) -> NoReturn:
    """In the forked child: a `sleep` that is as hard to end as the step says."""
    try:
        if kind != "child":
            os.setsid()
        if kind == "daemon" and os.fork() != 0:
            os._exit(0)
        deaf = step.options.get("ignore", "").upper()
        for name in filter(None, deaf.split(",")):
            signal.signal(getattr(signal, "SIG" + name), signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        if step.options.get("hold", "no") != "yes":
            os.dup2(null, 1)
            os.dup2(null, 2)
        os.execvp("sleep", ["sleep", step.text or "3600"])
    finally:
        os._exit(127)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        Agent().run(sys.argv[1] if len(sys.argv) > 1 else "")
    except BrokenPipeError:
        os._exit(1)
