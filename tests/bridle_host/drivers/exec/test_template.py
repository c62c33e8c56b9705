"""The command of an `exec` session is read as it is written down; no value becomes an option."""

from __future__ import annotations

import pytest

from bridle_host.drivers.exec.template import LONGEST, Pick, Template, parse

CLAUDE = "claude -p [!--session-id={session}] [--resume={session}] {prompt}"
CODEX = "@session=json:thread_id codex exec [resume {session}] --json {prompt}"


def test_words_in_brackets_stand_in_first_turns_or_in_later_ones() -> None:
    claude, codex = parse(CLAUDE), parse(CODEX)
    assert claude.argv("hi", "u", later=False) == ["claude", "-p", "--session-id=u", "hi"]
    assert claude.argv("hi", "u", later=True) == ["claude", "-p", "--resume=u", "hi"]
    assert codex.argv("hi", "", later=False) == ["codex", "exec", "--json", "hi"]
    assert codex.argv("hi", "u", later=True) == ["codex", "exec", "resume", "u", "--json", "hi"]
    assert (claude.gives_id, codex.gives_id, codex.session) == (True, False, Pick("thread_id"))


def test_words_are_split_as_a_shell_would_and_no_shell_is_run() -> None:
    template = parse("a 'b c' d\\ e \"f$HOME\" `id` $(id) ; > {prompt}")
    assert template.argv("x;y", "", later=False) == [
        *("a", "b c", "d e", "f$HOME", "`id`", "$(id)", ";", ">", "x;y")
    ]


def test_braces_and_brackets_can_be_written() -> None:
    template = parse("a {{prompt}} [[b]] c]] [d [[e f]] g]] h] {prompt}")
    assert template.argv("p", "", later=False) == ["a", "{prompt}", "[b]", "c]", "p"]
    assert template.argv("p", "", later=True) == [
        *("a", "{prompt}", "[b]", "c]", "d", "[e", "f]", "g]", "h", "p")
    ]


def test_a_prompt_is_never_an_option() -> None:
    for prompt in ("-rf", "--dangerously", "-"):
        assert parse("a {prompt}").argv(prompt, "", later=False) == ["a", " " + prompt]
        assert parse("a -- {prompt}").argv(prompt, "", later=False) == ["a", "--", prompt]
        assert parse("a --p={prompt}").argv(prompt, "", later=False) == ["a", f"--p={prompt}"]
    # Words that are left out protect nothing.
    assert parse("a [--] {prompt}").argv("-x", "", later=False) == ["a", " -x"]


def test_what_is_put_in_is_not_read_again() -> None:
    template = parse("a {prompt} {session} [!x] [y]")
    prompt = "{session} {prompt} [z] }} 'q"
    assert template.argv(prompt, "{prompt}", later=False) == ["a", prompt, "{prompt}", "x"]


def test_without_a_place_for_the_prompt_it_comes_by_stdin() -> None:
    assert parse("a -p").by_stdin
    assert parse("a {{prompt}}").by_stdin
    assert not parse("a -p={prompt}").by_stdin


def test_what_tells_the_id_and_the_words_is_read() -> None:
    template = parse(
        "@session=re:'id: (\\S+)' @text=json:item.text?item.type=agent_message codex [r {session}]"
    )
    assert template.session == "id: (\\S+)"
    assert template.text == Pick("item.text", "item.type", "agent_message")
    assert template.resumes
    assert parse("a {prompt}") == Template(parse("a {prompt}").words)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("", "there is none"),
        ("  ", "there is none"),
        ("a 'b", "quotes"),
        ("a [b", "never closed"),
        ("a b]", "has no ["),
        ("a [b [c] d]", "within another"),
        ("[a] b", "program stands first"),
        ("{prompt}", "program can't be"),
        ("x{session} @b", "program can't be"),
        ("a {secret}", "not {secret}"),
        ("a {}", "not {}"),
        ("a [--resume={session}]", "nothing says where"),
        ("@session=json:x a {prompt}", "never uses"),
        ("@session=json:x?=2 a [{session}]", "no place in JSON"),
        ("@session=json: a [{session}]", "no place in JSON"),
        ("@session=re:(a a [{session}]", "no regular expression"),
        ("@session=re:a a [{session}]", "one group"),
        ("@session=thread_id a [{session}]", "neither"),
        ("@text=re:(a) a", "neither"),
        ("@env=1 a", "not @env"),
        ("@session=json:x", "program stands first"),
        ("a \0", "NUL"),
        ("a" * (LONGEST + 1), "longer"),
    ],
)
def test_a_command_that_means_nothing_is_refused_in_words(command: str, why: str) -> None:
    with pytest.raises(ValueError, match="exec: the agent command: ") as refused:
        parse(command)
    assert why in str(refused.value)
