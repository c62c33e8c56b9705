"""Rules of approvals as people write and read them.

    Bash                     every call of the tool
    Bash(git status)         with exactly this command
    Bash(git status*)        with a command that begins with these words
    Write(file_path=/srv/*) with an argument that is beneath this
    mcp__git__*              of every tool whose name begins so

`:*` and ` *` at the end mean the same as `*`; `\\*` is a star. An argument may be a JSON pointer
(`/edits/0/path=`); `*=` is all of them, as one JSON object; `=` is the command, where that begins
with a word and a `=` itself. What a rule is about is the contract's to say: see ApprovalRule.
"""

from __future__ import annotations

import re

from bridle.v1 import session_pb2

_RULE = re.compile(r"(?P<tool>[^()\s]+)(?:\((?P<about>.*)\))?", re.DOTALL)
_NAMED = re.compile(r"(?P<name>[A-Za-z_][\w.-]*|/[^=]*|\*|)=(?P<value>.*)", re.DOTALL)


def parse_rule(
    text: str, decision: session_pb2.ApprovalPolicy.ValueType
) -> session_pb2.ApprovalRule:
    """The rule that a text means. Raises ValueError with a line for people."""
    found = _RULE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f'"{text}" is no rule: TOOL, TOOL(COMMAND*) or TOOL(ARGUMENT=VALUE*)')
    rule = session_pb2.ApprovalRule(tool=found["tool"], decision=decision)
    about = found["about"]
    if about is None or about == "*":
        return rule
    if named := _NAMED.fullmatch(about):
        rule.argument, about = named["name"], named["value"]
    rule.exact = not about.endswith("*") or about.endswith("\\*")
    if not rule.exact:
        about = about[:-1].removesuffix(":").rstrip(" ")
    rule.value = about[:-2] + "*" if about.endswith("\\*") else about
    if not rule.exact and not rule.value:
        raise ValueError(f'"{text}" is about every call: leave the argument out')
    if rule.argument == "*" and not rule.exact:
        raise ValueError(f'"{text}": all arguments are compared as a whole, without a star')
    return rule


def rule_text(rule: session_pb2.ApprovalRule) -> str:
    """The text of a rule, as `parse_rule` takes it; not yet harmless."""
    if not (rule.value or rule.exact):
        return rule.tool
    name = f"{rule.argument}=" if rule.argument or _NAMED.fullmatch(rule.value) else ""
    value = rule.value
    if value.endswith("*"):
        value = value[:-1] + "\\*"
    return f"{rule.tool}({name}{value}{'' if rule.exact else '*'})"
