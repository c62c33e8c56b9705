"""Rules of approvals: what they are about, how strictly, and what a child's may be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridle_core.approval_rules import (
    LONGEST,
    allows,
    decide,
    exceeds,
    inherited,
    lax,
    rule_for,
    rule_text,
)
from bridle_core.phases import ApprovalPolicy, Policy, Rule

ALLOW, ASK, DENY = ApprovalPolicy.ALLOW, ApprovalPolicy.ASK, ApprovalPolicy.DENY


def args(**named: Any) -> str:
    return json.dumps(named)


def command(text: Any, **more: Any) -> str:
    return args(command=text, **more)


# --- ALLOW is strict ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "git",
        "git status",
        "git  status --short",
        "git commit -m 'a message'",
        ["git", "log"],
        ["bash", "-lc", "git status"],
        ["/bin/sh", "-c", "git status"],
        ["git", "log", "--format=%h; $(x)"],
    ],
)
def test_a_prefix_allows_a_command_that_begins_with_its_words(text: Any) -> None:
    assert allows(Rule("Bash", ALLOW, value="git"), "Bash", command(text))


@pytest.mark.parametrize(
    "text",
    [
        "gitx",
        "git-shell",
        "GIT status",
        "git; rm -rf /",
        "git status && rm x",
        "git status | sh",
        "git status > /etc/passwd",
        "git $(rm x)",
        "git `rm x`",
        "git status\nrm x",
        "git status\rrm x",
        "git 'a;b'",
        "git *",
        "git {a,b}",
        "git ~root",
        "git 'unfinished",
        "git status & rm x",
        "X=1 git status",
        "sudo git status",
        "git\u2028rm",
        "git\\status",
        "",
        ["bash", "-lc", "git status; rm x"],
        ["sh", "-c", "git", "rm"],
        ["git\n", "x"],
        [],
        ["git", 1],
        {"git": 1},
        None,
        1,
    ],
)
def test_a_prefix_allows_nothing_that_a_shell_may_make_more_of(text: Any) -> None:
    assert not allows(Rule("Bash", ALLOW, value="git"), "Bash", command(text))


@pytest.mark.parametrize("name", ["env", "environment", "shell", "dangerouslyDisableSandbox"])
def test_a_command_that_brings_its_own_surroundings_is_not_allowed_by_its_words(name: str) -> None:
    told = command("git status", **{name: {"PAGER": "rm"}})
    assert not allows(Rule("Bash", ALLOW, value="git"), "Bash", told)
    exactly = Rule("Bash", ALLOW, "", "git status", exact=True)
    assert not allows(exactly, "Bash", told)
    assert allows(exactly, "Bash", command("git status", **{name: None}))


def test_two_commands_in_one_call_are_allowed_by_neither() -> None:
    assert not allows(Rule("Bash", ALLOW, value="git"), "Bash", args(command="git", cmd="rm"))


def test_exactly_this_command_is_allowed_whatever_is_in_it_and_nothing_more() -> None:
    rule = Rule("Bash", ALLOW, value="make | tee log", exact=True)
    assert allows(rule, "Bash", command("make | tee log", description="build"))
    assert not allows(rule, "Bash", command("make | tee log2"))
    assert not allows(Rule("Bash", ALLOW, value="make", exact=True), "Bash", command("make x"))


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/srv/src", True),
        ("/srv/src/a/b.py", True),
        ("/srv/src2", False),
        ("/srv/src.bak", False),
        ("/srv/src/../../etc/passwd", False),
        ("/srv/src/..", False),
        ("/srv/src/a\\..\\b", False),
        ("/srv/src/%2e%2e/x", False),
        ("/srv/src/a\nb", False),
        (" /srv/src", False),
        (["/srv/src"], False),
        (None, False),
    ],
)
def test_a_prefix_of_a_path_is_whole_segments(path: Any, allowed: bool) -> None:
    rule = Rule("Write", ALLOW, "file_path", "/srv/src")
    assert allows(rule, "Write", args(file_path=path, content="x")) is allowed


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("https://example.org", True),
        ("https://example.org/a", True),
        ("https://example.org.evil.net/", False),
        ("https://example.org@evil.net/", False),
        ("https://example.org:81/", False),
    ],
)
def test_a_prefix_of_an_address_is_no_other_machines(address: str, allowed: bool) -> None:
    rule = Rule("Fetch", ALLOW, "url", "https://example.org")
    assert allows(rule, "Fetch", args(url=address)) is allowed


def test_an_argument_is_named_by_a_pointer_too() -> None:
    rule = Rule("Edit", ALLOW, "/edits/0/a~1b", "x")
    assert allows(rule, "Edit", args(edits=[{"a/b": "x/y"}]))
    for told in (args(edits=[{"a/b": "xy"}]), args(edits=[]), args(edits={"0": 1}), args()):
        assert not allows(rule, "Edit", told)


@pytest.mark.parametrize(
    ("tool", "asked", "allowed"),
    [
        ("Bash", "Bash", True),
        ("Bash", "bash", False),
        ("Bash", "BashOutput", False),
        ("mcp__git__*", "mcp__git__log", True),
        ("mcp__git__*", "mcp__gitx__log", False),
        ("*", "anything", True),
        ("*", "anything*", False),
    ],
)
def test_a_tool_is_named_to_the_letter(tool: str, asked: str, allowed: bool) -> None:
    assert allows(Rule(tool, ALLOW), asked, "{}") is allowed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        "1",
        '{"command":"rm","command":"git"}',
        '{"a":' * 200 + "1" + "}" * 200,
        "[" * 100_000,
    ],
    ids=range(7),
)
def test_arguments_that_cannot_be_read_are_allowed_by_no_prefix(text: str) -> None:
    assert not allows(Rule("Bash", ALLOW, value="git"), "Bash", text)
    assert allows(Rule("Bash", ALLOW), "Bash", text)


# --- DENY and ASK are lenient, and win ----------------------------------------------------------


@pytest.mark.parametrize(
    "told",
    [
        command("rm -rf x"),
        command("ls; rm x"),
        command("/bin/rm x"),
        command("r'm' x"),
        command("r\\m x"),
        command("x=1 RM y"),
        command("echo $(rm x)"),
        command(["rm", "x"]),
        command(["bash", "-lc", "cd /; rm x"]),
        args(code="rm x"),
        "no object: rm or not",
        '{"command":"ls","command":"ls"}',
    ],
)
def test_a_denial_counts_wherever_its_words_stand(told: str) -> None:
    policy = Policy(approval=ALLOW, rules=(Rule("Bash", DENY, value="rm"),))
    assert decide(policy, "bash", told).decision is DENY


@pytest.mark.parametrize("told", [command("rmdir x"), command("git-rm x"), command("ls rm-f")])
def test_a_denial_is_about_whole_words(told: str) -> None:
    policy = Policy(approval=ALLOW, rules=(Rule("Bash", DENY, value="rm"),))
    assert decide(policy, "Bash", told).decision is ALLOW


def test_a_denied_place_is_denied_on_detours() -> None:
    policy = Policy(approval=ALLOW, rules=(Rule("Write", DENY, "file_path", "/etc"),))
    for path in ("/etc/passwd", "/srv/../etc/passwd", "../../etc/x", "/srv/./../etc"):
        assert decide(policy, "Write", args(file_path=path)).decision is DENY
    assert decide(policy, "Write", args(file_path="/srv/etcetera")).decision is ALLOW


def test_exactly_these_arguments_are_told_in_any_order_of_writing() -> None:
    for decision in ApprovalPolicy:
        rule = Rule("Deploy", decision, "*", '{"to": "prod", "n": 1}', exact=True)
        policy = Policy(approval=ASK, rules=(rule,))
        assert decide(policy, "Deploy", '{"n":1,"to":"prod"}').rule == rule
        assert decide(policy, "Deploy", '{"n":2,"to":"prod"}').rule is None
        assert decide(policy, "Deploy", '{"n":true,"to":"prod"}').rule is None


def test_the_strictest_rule_wins_and_the_policys_word_is_last() -> None:
    rules = (
        Rule("Bash", ALLOW, value="git"),
        Rule("Bash", ASK, value="git push"),
        Rule("Bash", DENY, value="git push --force"),
    )
    for own in ApprovalPolicy:
        policy = Policy(approval=own, rules=rules)
        assert decide(policy, "Bash", command("git status")).decision is ALLOW
        assert decide(policy, "Bash", command("git push")).decision is ASK
        assert decide(policy, "Bash", command("git push --force")).decision is DENY
        assert decide(policy, "Bash", command("ls")) == decide(Policy(approval=own), "Bash", "{}")


# --- "always" -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "told", "text"),
    [
        ("Bash", command("npm test", description="run"), "Bash(npm test)"),
        ("shell", command(["bash", "-lc", "a | b"]), "shell(a | b)"),
        ("Edit", args(file_path="/w/a", old="x"), "Edit(file_path=/w/a)"),
        ("Deploy", args(to="prod", n=1), 'Deploy(*={"n":1,"to":"prod"})'),
        ("Bash", command("ls", env={"A": "b"}), 'Bash(*={"command":"ls","env":{"A":"b"}})'),
        ("Done", "", "Done(*={})"),
    ],
)
def test_always_allows_this_very_call(tool: str, told: str, text: str) -> None:
    rule = rule_for(tool, told)
    assert rule is not None
    assert rule_text(rule) == text
    assert allows(rule, tool, told)


@pytest.mark.parametrize("told", ["nonsense", "[]", args(text="x" * (LONGEST + 1))])
def test_of_what_cannot_be_read_or_is_too_long_no_rule_is_made(told: str) -> None:
    assert rule_for("Tool", told) is None


# --- laws ---------------------------------------------------------------------------------------

WORDS = st.lists(
    st.sampled_from(
        ["git", "gitx", "status", "rm", "-x", ";", "$(ls)", "'a b'", "/w", "/w/a", ".."]
    ),
    max_size=4,
).map(" ".join)
RULES = st.builds(
    Rule,
    st.sampled_from(["Bash", "bash", "Write", "mcp*", "*"]),
    st.sampled_from(ApprovalPolicy),
    st.sampled_from(["", "command", "file_path", "*"]),
    WORDS,
    st.booleans(),
)
POLICIES = st.builds(
    Policy,
    approval=st.sampled_from(ApprovalPolicy),
    rules=st.lists(RULES, max_size=4).map(tuple),
)
CALLS = st.tuples(
    st.sampled_from(["Bash", "bash", "Write", "mcp__x"]),
    st.one_of(
        WORDS.map(command),
        WORDS.map(lambda text: command(text.split())),
        WORDS.map(lambda text: args(file_path=text)),
        st.just("nonsense"),
    ),
)


@given(POLICIES, CALLS)
def test_any_denial_wins_however_the_rules_stand(policy: Policy, call: tuple[str, str]) -> None:
    alone = [decide(Policy(approval=ALLOW, rules=(rule,)), *call) for rule in policy.rules]
    found = [ruling.decision for ruling in alone if ruling.rule is not None]
    expected = min(found, key=lax) if found else policy.approval
    assert decide(policy, *call).decision is expected


@given(POLICIES, POLICIES, CALLS)
def test_a_policy_within_another_lets_nothing_more_happen(
    policy: Policy, bound: Policy, call: tuple[str, str]
) -> None:
    rules = (*policy.rules, *inherited(policy, bound))
    child = Policy(approval=policy.approval, rules=rules)
    if not exceeds(child, bound):
        assert lax(decide(child, *call).decision) <= lax(decide(bound, *call).decision)


@given(POLICIES)
def test_a_policy_is_within_itself(policy: Policy) -> None:
    assert exceeds(policy, policy) == ""
    assert inherited(policy, policy) == ()


@given(CALLS)
def test_what_always_makes_allows_what_it_was_made_of(call: tuple[str, str]) -> None:
    rule = rule_for(*call)
    assert rule is None or allows(rule, *call)


@pytest.mark.parametrize(
    ("child", "parent", "why"),
    [
        (Policy(approval=ALLOW), Policy(approval=ASK), "by its own word"),
        (Policy(), Policy(rules=(Rule("Bash", DENY, value="rm"),)), "lacks the rule Bash(rm*)"),
        (Policy(rules=(Rule("Bash", ALLOW),)), Policy(), "its rule Bash goes beyond"),
        (
            Policy(rules=(Rule("Bash", ALLOW, value="gitx"),)),
            Policy(rules=(Rule("Bash", ALLOW, value="git"),)),
            "goes beyond",
        ),
        (
            Policy(rules=(Rule("Bash", ALLOW, value="git"),)),
            Policy(rules=(Rule("Bash", ALLOW, value="git", exact=True),)),
            "goes beyond",
        ),
        (
            Policy(rules=(Rule("Bash", ALLOW, value="git status"),)),
            Policy(rules=(Rule("Bash", ALLOW, value="git"),)),
            "",
        ),
        (
            Policy(rules=(Rule("Write", ALLOW, "file_path", "/w/a"),)),
            Policy(rules=(Rule("*", ALLOW, "file_path", "/w"),)),
            "",
        ),
        (Policy(approval=DENY, rules=(Rule("x", ASK),)), Policy(approval=DENY), "goes beyond"),
        (Policy(rules=(Rule("x", ALLOW),)), Policy(approval=ALLOW), ""),
    ],
)
def test_a_childs_rules_stay_within_its_parents(child: Policy, parent: Policy, why: str) -> None:
    found = exceeds(child, parent)
    assert why in found
    assert bool(found) is bool(why)
