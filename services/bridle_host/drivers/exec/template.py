"""The command of an `exec` session: what is run in each turn, and where the session's id is from.

    @session=json:thread_id codex exec [resume {session}] --json {prompt}

Words are split as a shell would, and no shell is ever run. `[…]` stands only in turns that go on
with a conversation, `[!…]` only in the one that begins it; `{session}` and `{prompt}` are put in.
Words with `@` before the command say how the agent's output is read. Pure; for users it is written
down in docs/drivers/exec.md.

A value never becomes an option: `{session}` is either ours or has the shape of an id, and a prompt
that is a word of its own and begins with `-` gets a blank before it, unless it stands behind `--`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

#: The longest command, in characters.
LONGEST = 64 * 1024

#: What may be an agent's id of a session: never an option, never a path.
SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([a-z_]*)\}")
_PATH = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")


class When(Enum):
    """In which turns a word stands."""

    ALWAYS = auto()
    #: In the one that begins a conversation.
    FIRST = auto()
    #: In those that go on with one.
    LATER = auto()


@dataclass(frozen=True, slots=True)
class Word:
    """One word of the command, with its placeholders."""

    text: str
    when: When = When.ALWAYS

    def has(self, name: str) -> bool:
        """Whether a placeholder is in it."""
        return any(found[1] == name for found in _PLACEHOLDER.finditer(self.text))


@dataclass(frozen=True, slots=True)
class Pick:
    """A text in a line of JSON: at a path, where what is at another one is this."""

    path: str
    where: str = ""
    equals: str = ""


@dataclass(frozen=True, slots=True)
class Template:
    """See the module. session: what tells the id, a regular expression or a place in JSON; None
    where it is ours, or there is none. text: which lines are what the agent says; None for all."""

    words: tuple[Word, ...]
    session: Pick | str | None = None
    text: Pick | None = None

    @property
    def resumes(self) -> bool:
        """Whether the agent has conversations of its own."""
        return any(word.has("session") for word in self.words)

    @property
    def gives_id(self) -> bool:
        """Whether the agent is told the id of a conversation that it begins."""
        return any(word.has("session") for word in self.words if word.when is not When.LATER)

    @property
    def by_stdin(self) -> bool:
        """Whether the prompt is not in the command, and so comes by its standard input."""
        return not any(word.has("prompt") for word in self.words)

    def argv(self, prompt: str, session: str, *, later: bool) -> list[str]:
        """The command of one turn."""
        left_out = When.FIRST if later else When.LATER
        made: list[str] = []
        for word in self.words:
            if word.when is left_out:
                continue
            said = prompt
            if word.text == "{prompt}" and prompt.startswith("-") and "--" not in made:
                said = " " + prompt
            made.append(_fill(word.text, {"session": session, "prompt": said}))
        return made


def parse(command: str) -> Template:
    """Raises ValueError with a line for people."""
    if len(command) > LONGEST:
        raise _wrong(f"it is longer than {LONGEST} characters")
    if not command.strip():
        raise _wrong('there is none; give one, such as --agent-command "claude -p {prompt}"')
    if "\0" in command:
        raise _wrong("it has a NUL character")
    try:
        split = shlex.split(command)
    except ValueError as error:
        raise _wrong(f"its quotes: {str(error).lower()}") from None
    session: Pick | str | None = None
    text: Pick | None = None
    while split and split[0].startswith("@"):
        name, _, rule = split.pop(0)[1:].partition("=")
        if name == "session":
            session = _session(rule)
        elif name == "text":
            if not rule.startswith("json:"):
                raise _no(rule)
            text = _pick(rule.removeprefix("json:"))
        else:
            raise _wrong(f"it knows @session and @text, not @{name}")
    template = Template(tuple(_words(split)), session, text)
    _check(template)
    return template


def _words(split: list[str]) -> Iterator[Word]:
    when = When.ALWAYS
    for part in split:
        rest = part
        if rest.startswith("[["):
            rest = rest[1:]
        elif rest.startswith("["):
            if when is not When.ALWAYS:
                raise _wrong("a [ stands within another")
            when = When.FIRST if rest.startswith("[!") else When.LATER
            rest = rest.removeprefix("[").removeprefix("!" if when is When.FIRST else "")
        closes = False
        if rest.endswith("]]"):
            rest = rest[:-1]
        elif rest.endswith("]"):
            if when is When.ALWAYS:
                raise _wrong("a ] has no [ before it")
            rest, closes = rest[:-1], True
        if rest:
            for found in _PLACEHOLDER.finditer(rest):
                if found[1] is not None and found[1] not in ("session", "prompt"):
                    raise _wrong(f"it knows {{session}} and {{prompt}}, not {found[0]}")
            yield Word(rest, when)
        if closes:
            when = When.ALWAYS
    if when is not When.ALWAYS:
        raise _wrong("a [ is never closed")


def _check(template: Template) -> None:
    words = template.words
    if not words or words[0].when is not When.ALWAYS:
        raise _wrong("the program stands first, and in every turn")
    if words[0].has("prompt") or words[0].has("session"):
        raise _wrong("the program can't be a placeholder")
    if template.resumes and not template.gives_id and template.session is None:
        raise _wrong(
            "nothing says where {session} is from: put it into [!…] too, or begin with"
            " @session=json:KEY or @session=re:EXPRESSION"
        )
    if template.session is not None and not template.resumes:
        raise _wrong("@session learns an id that the command never uses")


def _session(rule: str) -> Pick | str:
    if rule.startswith("json:"):
        return _pick(rule.removeprefix("json:"))
    if rule.startswith("re:"):
        expression = rule.removeprefix("re:")
        try:
            groups = re.compile(expression).groups
        except (re.error, OverflowError, RecursionError):
            raise _wrong(f"{expression!r} is no regular expression") from None
        if groups != 1:
            raise _wrong("the expression of @session needs one group, which is the id")
        return expression
    raise _no(rule)


def _pick(rule: str) -> Pick:
    """`path` or `path?path=value`."""
    path, asks, condition = rule.partition("?")
    where, _, equals = condition.partition("=")
    for each in (path, *([where] if asks else [])):
        if not _PATH.fullmatch(each):
            raise _wrong(f"{each!r} is no place in JSON; one is like item.text")
    return Pick(path, where, equals)


def _no(rule: str) -> ValueError:
    return _wrong(f"{rule!r} is neither json:KEY nor, for @session, re:EXPRESSION")


def _wrong(what: str) -> ValueError:
    return ValueError(f"exec: the agent command: {what}")


def _fill(text: str, values: dict[str, str]) -> str:
    def one(found: re.Match[str]) -> str:
        name = found[1]
        return found[0][0] if name is None else values[name]

    return _PLACEHOLDER.sub(one, text)
