"""What the model is to say, written into a prompt: steps in double brackets.

    [[turn T7]]          begins the script of a turn; its tag is in every word that is said
    [[say 3]]            text: "T7.1 T7.2 T7.3", a piece for each word; numbered on over the turn
    [[text WORDS]]       this text, as one piece
    [[big 3000000]]      so many characters of text, as one piece
    [[think 2]]          the same as say, as thoughts
    [[tool COMMAND]]     a call of the agent's shell tool; what follows comes after its result
    [[call NAME BASE64]] a call of any tool; its arguments are JSON in base64
    [[pace 50]]          from now on so many milliseconds between pieces
    [[gate NAME]]        waits until the test opens the gate
    [[hang]]             not another byte
    [[cut]]              the connection breaks
    [[error 500]]        this status, if nothing was said yet
    [[stop length]]      ends with this reason: length or refusal

The script of the newest turn counts, and in it the step after the last tool result: by the result's
id, which names turn and step. What broke off is said once more. So the same request always gets the
same answer, and a request that an agent makes for itself (a title, a suggestion) is told from one
that is a turn's.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tests.model_server.conversation import TURN, Request, Role

_STEP = re.compile(r"\[\[([a-z]+)(?: (.*?))?\]\]", re.DOTALL)
_CALL_ID = re.compile(r"call_(.+)_(\d+)$")


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what, and its argument as it was written."""

    kind: str
    value: str = ""

    def __str__(self) -> str:
        return f"[[{self.kind} {self.value}]]" if self.value else f"[[{self.kind}]]"


@dataclass(frozen=True, slots=True)
class Plan:
    """What one answer is to hold: steps[first:] up to a tool call. words: numbered before."""

    tag: str
    steps: Sequence[Step]
    first: int
    words: int

    def call_id(self, step: int) -> str:
        """The id of the tool call that a step makes."""
        return f"call_{self.tag}_{step}"

    @property
    def answer(self) -> Sequence[tuple[int, Step]]:
        """The steps of this answer with their numbers."""
        chosen = []
        for number, step in enumerate(self.steps[self.first :], self.first):
            chosen.append((number, step))
            if step.kind in ("tool", "call"):
                break
        return chosen


def turn(tag: str, *steps: Step) -> str:
    """A prompt: the script of a turn."""
    return " ".join([f"[[turn {tag}]]", *map(str, steps)])


def say(words: int) -> Step:
    return Step("say", str(words))


def text(words: str) -> Step:
    return Step("text", words)


def big(characters: int) -> Step:
    return Step("big", str(characters))


def think(words: int) -> Step:
    return Step("think", str(words))


def tool(command: str) -> Step:
    assert "]]" not in command, "it would end the step"
    return Step("tool", command)


def call(name: str, arguments: object) -> Step:
    # Encoded, so that they may hold anything: the script of a sub-agent, too.
    return Step("call", f"{name} {base64.b64encode(json.dumps(arguments).encode()).decode()}")


def pace(milliseconds: int) -> Step:
    return Step("pace", str(milliseconds))


def gate(name: str) -> Step:
    return Step("gate", name)


def hang() -> Step:
    return Step("hang")


def cut() -> Step:
    return Step("cut")


def error(status: int) -> Step:
    return Step("error", str(status))


def stop(reason: str) -> Step:
    return Step("stop", reason)


def plan(request: Request) -> Plan | None:
    """What to answer; None for a request that an agent makes for itself."""
    if not request.shell:
        return None
    entries = request.entries
    spoken = [n for n, e in enumerate(entries) if e.role in (Role.ASSISTANT, Role.CALL)]
    fresh = entries[spoken[-1] + 1 if spoken else 0 :]
    asked = [e.text for e in fresh if e.role is Role.USER and TURN.search(e.text)]
    if asked:
        tag, steps = parse(asked[-1])
        return Plan(tag, steps, 0, 0)
    if not fresh and (tags := request.tags):
        # An answer that broke off, and an agent that wants it to go on: it is given once more.
        return Plan(tags[-1], _script(request, tags[-1]), 0, 0)
    results = [e.call_id for e in fresh if e.role is Role.RESULT]
    known = [match for match in map(_CALL_ID.search, results) if match]
    if not known:
        return None
    tag, done = known[-1][1], int(known[-1][2])
    if tag not in request.tags:
        return None
    steps = _script(request, tag)
    words = sum(int(s.value) for s in steps[:done] if s.kind in ("say", "think"))
    return Plan(tag, steps, done + 1, words)


def _script(request: Request, tag: str) -> list[Step]:
    """The script of a turn that the model has seen, as it stood last."""
    prompts = [e.text for e in request.entries if e.role is Role.USER]
    return parse([prompt for prompt in prompts if tag in TURN.findall(prompt)][-1], tag)[1]


def parse(prompt: str, tag: str = "") -> tuple[str, list[Step]]:
    """The last script in a prompt, or that of a turn; earlier ones are of a retold conversation."""
    begins = [match for match in TURN.finditer(prompt) if tag in ("", match[1])]
    last = begins[-1]
    following = TURN.search(prompt, last.end())
    end = following.start() if following else len(prompt)
    found = _STEP.finditer(prompt, last.end(), end)
    return last[1], [Step(match[1], match[2] or "") for match in found]
