"""What the agents of a soak are told to do, and what they wrote down about it themselves.

Every input carries a key. An agent notes in a file of its own, its ledger, each key that it really
got, and each line before it prints it: the truth that Bridle's log is held against. Shell agents do
so by their scripts, scripted ones by their step `ledger`. Pure, but for reading ledgers.
"""

from __future__ import annotations

import json
import random
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

KEY = re.compile(r"\bk\d+\b")


def shell_script(key: str, chance: random.Random) -> str:
    """Some lines with pauses between, by bash's builtins or by a child of it."""
    lines, pause = chance.randint(2, 24), chance.choice((0.01, 0.03, 0.06, 0.12))
    # Reading from a pipe that nobody writes to is a pause without a process.
    loop = (
        f"for ((i = 0; i < {lines}; i++)); do"
        f" echo out {key}/$i >> ledger; echo {key}/$i;"
        f" read -t {pause} _ <> pause; done"
    )
    if chance.random() < 0.3:
        loop = f"bash -c {shlex.quote(loop)}"
    if chance.random() < 0.05:
        # Outlives its turn and every host process, and may not outlive its session.
        loop = f"setsid sleep 1000 & {loop}"
    return f"echo got {key} >> ledger\n{loop}\ntrue"


def scripted_script(key: str, chance: random.Random) -> str:
    """Messages, tool calls and pauses; now and then a question."""
    steps = [f"# {key}"]
    for number in range(chance.randint(2, 12)):
        verb = chance.choice(("say", "say", "tool", "tool", "think"))
        steps.append(f"{verb} {key}/{number}")
        steps.append(f"sleep {chance.choice((0.01, 0.05, 0.1, 0.2))}")
    if chance.random() < 0.05:
        steps.insert(1, "fork as=daemon 1000")
    if chance.random() < 0.08:
        steps.insert(len(steps) // 2, f"ask name=rm{chance.randrange(1000)} wait=3 {key}?")
    return "\n".join(steps)


@dataclass
class Segment:
    """What one process of an agent wrote down, from its start to its end. Keys and lines."""

    pid: int = 0
    got: list[str] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)


@dataclass
class Ledger:
    """All that a session's agents wrote down, over all their processes."""

    segments: list[Segment]

    @property
    def got(self) -> list[str]:
        """The keys of all inputs that were played, in order."""
        return [key for segment in self.segments for key in segment.got]

    @property
    def printed(self) -> list[str]:
        return [line for segment in self.segments for line in segment.printed]


def read_ledger(path: Path, agent: str) -> Ledger:
    """What a session's agents wrote down. The last line of one that was killed may be cut off."""
    text = path.read_text(errors="replace") if path.exists() else ""
    lines = [line for line in text.split("\n")[:-1] if line]
    return _scripted(lines) if agent == "scripted" else _shell(lines)


def _shell(lines: list[str]) -> Ledger:
    segment = Segment()
    for line in lines:
        word, _, rest = line.partition(" ")
        (segment.got if word == "got" else segment.printed).append(rest)
    return Ledger([segment])


def _scripted(lines: list[str]) -> Ledger:
    segments: list[Segment] = []
    steered: dict[str, str] = {}
    for line in lines:
        entry = json.loads(line)
        if "pid" in entry:
            segments.append(Segment(entry["pid"]))
        elif "got" in entry:
            message = entry["got"]
            if message["type"] == "turn":
                segments[-1].got.append(_key(message))
            elif message["type"] == "steer":
                steered[message["input"]] = _key(message)
        elif entry["told"]["type"] == "steered":
            # What was steered and not taken comes again as a turn of its own.
            segments[-1].got.append(steered[entry["told"]["input"]])
        else:
            _told(segments[-1], entry["told"])
    return Ledger(segments)


def _told(segment: Segment, message: dict[str, str]) -> None:
    if message["type"] in ("message", "thought"):
        segment.printed.append(message["text"])
    elif message["type"] == "tool_output":
        segment.printed.append(bytes.fromhex(message["hex"]).decode())


def _key(message: dict[str, list[dict[str, str]]]) -> str:
    found = KEY.search(message["content"][0]["text"])
    return found[0] if found else "?"
