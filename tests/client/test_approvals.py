"""Rules of approvals, written and read."""

from __future__ import annotations

import pytest

from bridle.approvals import parse_rule, rule_text
from bridle.v1 import session_pb2

ALLOW = session_pb2.APPROVAL_POLICY_ALLOW


@pytest.mark.parametrize(
    ("text", "tool", "argument", "value", "exact"),
    [
        ("Bash", "Bash", "", "", False),
        ("Bash(*)", "Bash", "", "", False),
        ("mcp__git__*", "mcp__git__*", "", "", False),
        ("Bash(git status)", "Bash", "", "git status", True),
        ("Bash(git status*)", "Bash", "", "git status", False),
        ("Bash(git status:*)", "Bash", "", "git status", False),
        ("Bash(git status *)", "Bash", "", "git status", False),
        ("Bash(ls (a) | wc)", "Bash", "", "ls (a) | wc", True),
        (r"Bash(ls \*)", "Bash", "", "ls *", True),
        ("Write(file_path=/srv/*)", "Write", "file_path", "/srv/", False),
        ("Edit(/edits/0/path=a)", "Edit", "/edits/0/path", "a", True),
        ('Deploy(*={"to":"prod"})', "Deploy", "*", '{"to":"prod"}', True),
        ("Bash(command=A=1 make)", "Bash", "command", "A=1 make", True),
    ],
)
def test_a_rule_is_what_it_says_and_reads_as_it_was_written(
    text: str, tool: str, argument: str, value: str, exact: bool
) -> None:
    rule = parse_rule(text, ALLOW)
    assert (rule.tool, rule.argument, rule.value, rule.exact) == (tool, argument, value, exact)
    assert rule.decision == ALLOW
    assert parse_rule(rule_text(rule), ALLOW) == rule


@pytest.mark.parametrize("text", ["", "(x)", "two words", "Bash(", "Bash(x", "Bash( *)", "T(*=a*)"])
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\(|no rule|leave"):
        parse_rule(text, ALLOW)


def test_a_command_that_looks_like_an_argument_is_told_apart() -> None:
    rule = session_pb2.ApprovalRule(tool="Bash", decision=ALLOW, value="A=1 make", exact=True)
    assert rule_text(rule) == "Bash(=A=1 make)"
    assert parse_rule(rule_text(rule), ALLOW) == rule
