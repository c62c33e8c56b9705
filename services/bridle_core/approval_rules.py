"""Rules of approvals: what a session's policy says of a call that an agent asks leave for.

Pure. The host decides by it where the approval arises, so it holds while control is away; control
makes rules of it for ALLOW_ALWAYS, and holds children to their parents'.

A call is decided by the strictest of the rules that are about it: a DENY wins over an ASK, an ASK
over an ALLOW; where no rule is about it, by the policy's own word. What a rule is about is read in
two ways, because they fail to opposite sides:

ALLOW is strict. The tool's name is the rule's, to the letter.
- Of a command (the argument is "", or named so) the rule's words are the first words of the
  command, whole: `git` is not about `gitx`. A command with any character that a shell makes more of
  than a word (; & | < > ( ) $ ` { } * ? [ ] ~ ! # ^ \\ or a line's end, quoted or not) is about no
  rule but one that is the same command to the letter; and so is one whose call brings along an
  environment, a shell or leave to get around a sandbox.
- Of another argument the rule's value is the text itself, or whole segments of it before a `/`:
  `/srv/src` is not about `/srv/src2`, and nothing with a `..` or a `\\` in it is.
- Arguments that are no JSON object, or have a name twice, are about no rule but one for every call.

DENY and ASK are lenient. The tool's name counts in any case; the value counts wherever it stands in
the argument as a word, whatever quotes or backslashes are in between; where the call hasn't the
argument that is named, in any of its arguments; and in arguments that can't be read, always. That
keeps an honest agent from a slip. A shell has more ways to say a thing than a rule can know:
what an agent must not be able to do, its operating system has to refuse.
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bridle_core.phases import ApprovalPolicy, Policy, Rule

#: The longest value of a rule that is made of a call, in bytes.
LONGEST = 16 * 1024

#: The names of arguments that are a command.
_COMMANDS = ("command", "cmd", "script")
#: The names of arguments that say where a tool works; what ALLOW_ALWAYS is about, where one is
#: there.
_PLACES = ("file_path", "notebook_path", "path", "url", "uri")
#: The names of arguments that make another thing of a command than its words say.
_LOADED = frozenset(
    {
        "dangerouslydisablesandbox",
        "env",
        "environment",
        "interpreter",
        "sandbox_permissions",
        "shell",
        "with_escalated_permissions",
    }
)
#: What a shell makes more of than a part of a word.
_SHELL = frozenset(";&|<>()$`{}*?[]~!#^\\")
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh"})
_RUNS_SCRIPT = frozenset({"-c", "-lc", "-cl", "-ec", "-lec"})

#: How deep arguments may lie in one another.
_DEEP = 64

_LAXNESS = {ApprovalPolicy.DENY: 0, ApprovalPolicy.ASK: 1, ApprovalPolicy.ALLOW: 2}


@dataclass(frozen=True, slots=True)
class Ruling:
    """What is decided, and by which rule; None: by the policy's own word."""

    decision: ApprovalPolicy
    rule: Rule | None = None


def decide(policy: Policy, tool: str, arguments_json: str) -> Ruling:
    """What the policy says of a call."""
    if not policy.rules:
        return Ruling(policy.approval)
    call = _Call(tool, arguments_json)
    strictest: Rule | None = None
    for rule in policy.rules:
        about = call.allowed_by(rule) if _allows(rule) else call.touched_by(rule)
        if about and (strictest is None or lax(rule.decision) < lax(strictest.decision)):
            strictest = rule
    if strictest is None:
        return Ruling(policy.approval)
    return Ruling(strictest.decision, strictest)


def lax(decision: ApprovalPolicy) -> int:
    """How much is let happen: more of it is a higher number."""
    return _LAXNESS[decision]


def allows(rule: Rule, tool: str, arguments_json: str) -> bool:
    """Whether an ALLOW rule is about a call."""
    return _allows(rule) and _Call(tool, arguments_json).allowed_by(rule)


def rule_for(tool: str, arguments_json: str) -> Rule | None:
    """The rule that "always" makes of a call: this tool with exactly this command; else on exactly
    this place; else with exactly these arguments. None where they can't be read, or are longer than
    a rule can be.
    """
    call = _Call(tool, arguments_json)
    if call.arguments is None or tool.endswith("*"):
        return None
    made = None
    command = call.command("")
    places = [name for name in _PLACES if isinstance(call.arguments.get(name), str)]
    if command is not None:
        made = Rule(tool, ApprovalPolicy.ALLOW, "", command.text, exact=True)
    elif len(places) == 1:
        value = call.arguments[places[0]]
        made = Rule(tool, ApprovalPolicy.ALLOW, places[0], value, exact=True)
    if made is None or not call.allowed_by(made):
        made = Rule(tool, ApprovalPolicy.ALLOW, "*", _canonical(call.arguments), exact=True)
    try:
        return made if len(made.value.encode()) <= LONGEST else None
    except UnicodeEncodeError:
        return None


def rule_text(rule: Rule) -> str:
    """For people, as the command line takes it: `Bash(git status*)`, `Edit(path=/srv/*)`."""
    if rule.every:
        return rule.tool
    name = f"{rule.argument}=" if rule.argument else ""
    value = rule.value[:-1] + "\\*" if rule.value.endswith("*") else rule.value
    return f"{rule.tool}({name}{value}{'' if rule.exact else '*'})"


# --- the bounds of a child ----------------------------------------------------------------------


def exceeds(policy: Policy, bound: Policy) -> str:
    """Why a policy may let more happen than another one; "" where it surely does not.

    It has all of the other's DENY and ASK rules, no laxer word of its own, and no ALLOW rule that
    is not within one of the other's, unless that allows by its own word; the same of ASK rules
    where the other denies by its own word.
    """
    if lax(policy.approval) > lax(bound.approval):
        return "it allows by its own word what is not allowed there"
    for rule in bound.rules:
        if not _allows(rule) and rule not in policy.rules:
            return f"it lacks the rule {rule_text(rule)}"
    for rule in policy.rules:
        if lax(rule.decision) > lax(bound.approval) and not any(
            other.decision is rule.decision and _within(rule, other) for other in bound.rules
        ):
            return f"its rule {rule_text(rule)} goes beyond the rules there"
    return ""


def inherited(policy: Policy, bound: Policy) -> tuple[Rule, ...]:
    """The rules of another policy that this one lacks to stay within it."""
    return tuple(
        dict.fromkeys(
            rule for rule in bound.rules if not _allows(rule) and rule not in policy.rules
        )
    )


def _within(rule: Rule, other: Rule) -> bool:
    """Whether each call that `rule` is about, `other` is about, too."""
    if rule == other:
        return True
    if not _allows(rule) or not _tool_within(rule.tool, other.tool):
        return False
    if other.every:
        return True
    if rule.every or rule.argument != other.argument:
        return False
    if rule.value == other.value:
        return rule.exact or not other.exact
    if other.exact or rule.argument == "*":
        return False
    if _is_command(rule.argument):
        words, first = _words(rule.value), _words(other.value)
        return bool(words and first and _begins(words, first))
    return _lies_in(rule.value, other.value)


def _tool_within(name: str, other: str) -> bool:
    if other.endswith("*"):
        return name.removesuffix("*").startswith(other[:-1])
    return name == other


# --- a call -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Command:
    """A command: as one text, and as the words that are run; None where a shell makes more."""

    text: str
    words: tuple[str, ...] | None


class _Call:
    """A call that is asked leave for. What is in it comes from an agent: it may be anything."""

    def __init__(self, tool: str, arguments_json: str) -> None:
        self.tool = tool
        self.arguments = _object(arguments_json)
        self._bare: dict[str, list[str]] = {}

    # --- strictly, for ALLOW ---

    def allowed_by(self, rule: Rule) -> bool:
        """Whether an ALLOW rule is about this call for certain."""
        if not _tool_within(self.tool, rule.tool) or self.tool.endswith("*"):
            return False
        if rule.every:
            return True
        if self.arguments is None:
            return False
        if rule.argument == "*":
            return rule.exact and _same(rule.value, self.arguments)
        if _is_command(rule.argument):
            return self._runs(rule)
        value = self.argument(rule.argument)
        if not isinstance(value, str):
            return False
        return value == rule.value or (not rule.exact and _lies_in(value, rule.value))

    def _runs(self, rule: Rule) -> bool:
        assert self.arguments is not None
        command = self.command(rule.argument)
        loaded = any(name.casefold() in _LOADED and held for name, held in self.arguments.items())
        if command is None or loaded:
            return False
        if command.text == rule.value:
            return True
        words = _words(rule.value)
        if rule.exact or not words or command.words is None:
            return False
        return _begins(command.words, words)

    def command(self, argument: str) -> _Command | None:
        """The command that the call runs; None for none, or for more than one."""
        names = (argument,) if argument else _COMMANDS
        found = [self.argument(name) for name in names]
        told = [value for value in found if value is not None]
        return _command(told[0]) if len(told) == 1 else None

    def argument(self, name: str) -> Any:
        """An argument by its name, or by a JSON pointer; None where it isn't there."""
        if not name.startswith("/"):
            return (self.arguments or {}).get(name)
        found: Any = self.arguments
        for part in name[1:].split("/"):
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict):
                found = found.get(key)
            elif isinstance(found, list) and key.isascii() and key.isdecimal():
                found = found[int(key)] if len(key) < 10 and int(key) < len(found) else None
            else:
                return None
        return found

    # --- leniently, for DENY and ASK ---

    def touched_by(self, rule: Rule) -> bool:
        """Whether a DENY or an ASK rule may be about this call."""
        if not _tool_within(self.tool.casefold(), rule.tool.casefold()):
            return False
        if rule.every or self.arguments is None:
            return True
        if rule.argument == "*" and rule.exact:
            return _same(rule.value, self.arguments)
        texts = self._texts_of(rule.argument)
        if rule.exact:
            return _bare(rule.value) in texts
        return any(_mentions(text, rule.value) for text in texts)

    def _texts_of(self, argument: str) -> list[str]:
        """What an argument says, bare; what all say where it isn't there. Made once for a call:
        an agent may ask with a megabyte, and there may be many rules."""
        known = self._bare.get(argument)
        if known is None:
            names = (argument,) if argument else _COMMANDS
            found = [] if argument == "*" else [self.argument(name) for name in names]
            told = [value for value in found if value is not None] or [self.arguments]
            known = [_bare(text) for value in told for text in _texts(value)]
            self._bare[argument] = known
        return known


def _allows(rule: Rule) -> bool:
    return rule.decision is ApprovalPolicy.ALLOW


def _is_command(argument: str) -> bool:
    return argument == "" or argument in _COMMANDS


def _object(text: str) -> dict[str, Any] | None:
    """Arguments; None where they are no object, or one that two readers may read differently."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            raise ValueError("a name twice")
        return made

    try:
        found = json.loads(text or "{}", object_pairs_hook=once)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and not _is_deep(found) else None


def _is_deep(value: Any) -> bool:
    """Whether values lie in one another deeper than anything that is meant to be read."""
    level: list[Any] = [value]
    for _ in range(_DEEP):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return False
    return True


def _canonical(arguments: dict[str, Any]) -> str:
    """Arguments as one text, the same for each way to write them."""
    return json.dumps(arguments, sort_keys=True, separators=(",", ":"))


def _same(text: str, arguments: dict[str, Any] | None) -> bool:
    told = _object(text)
    return told is not None and arguments is not None and _canonical(told) == _canonical(arguments)


def _command(value: Any) -> _Command | None:
    if isinstance(value, str):
        return _Command(value, _words(value))
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value) or not value:
        return None
    words = tuple(value)
    shell = posixpath.basename(words[0]) in _SHELLS
    if shell and len(words) == 3 and words[1] in _RUNS_SCRIPT:
        return _Command(words[2], _words(words[2]))
    plain = all(word.isprintable() for word in words)
    return _Command(shlex.join(words), words if plain else None)


def _words(text: str) -> tuple[str, ...] | None:
    """The words of a command that a shell takes for nothing else; None where it might."""
    if not text.isprintable() or any(sign in _SHELL for sign in text):
        return None
    try:
        return tuple(shlex.split(text))
    except ValueError:
        return None


def _begins(words: Sequence[str], first: Sequence[str]) -> bool:
    return tuple(words[: len(first)]) == tuple(first)


def _lies_in(text: str, prefix: str) -> bool:
    """Whether whole segments of a path or an address begin a text that stays beneath them."""
    if not text.startswith(prefix) or not text.isprintable() or "\\" in text:
        return False
    if ".." in text.split("/") or "%2e" in text.casefold():
        return False
    return text == prefix or prefix.endswith("/") or text[len(prefix)] == "/"


def _texts(value: Any) -> Iterator[str]:
    """All that a value holds, as texts; a list also as the one command that it may be."""
    if isinstance(value, str):
        yield value
        if "/" in value:
            yield posixpath.normpath(value)
    elif isinstance(value, list):
        if value and all(isinstance(one, str) for one in value):
            yield " ".join(value)
        for one in value:
            yield from _texts(one)
    elif isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif value is not None:
        yield json.dumps(value)


def _bare(text: str) -> str:
    """Without what a shell takes away, and with single spaces."""
    return " ".join(re.sub(r"[\"'\\]", "", text).split()).casefold()


def _mentions(text: str, value: str) -> bool:
    """Whether a value stands in a bare text as a word, or as several."""
    wanted = _bare(value)
    if wanted not in text:
        return False
    if not wanted:
        return True
    before = r"(?<![\w-])" if wanted[0].isalnum() else ""
    behind = r"(?![\w-])" if wanted[-1].isalnum() else ""
    return re.search(before + re.escape(wanted) + behind, text) is not None
