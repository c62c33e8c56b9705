"""The driver `exec`: what a command prints, how it ends, and which conversation it goes on with."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from bridle_core.observations import (
    Message,
    MessageText,
    NoteKind,
    Resource,
    ResumeMode,
    StopReason,
    Text,
    TurnOver,
)
from bridle_host.drivers.base import ResumeFrom
from bridle_host.drivers.exec import ExecFactory
from bridle_host.drivers.exec.dialect import ExecDialect
from bridle_host.drivers.exec.template import parse
from bridle_host.drivers.lines.dialect import Beginning, UnreadableError
from tests.conformance.profiles import words
from tests.support.driving import Drive, driving, eventually

Make = Callable[[str], AbstractAsyncContextManager[Drive]]

#: As Codex: makes an id by itself, tells it first, and says what it does in lines of JSON.
LEARNED = """
import json, os, sys
known, prompt = sys.argv[1:-1], sys.argv[-1]
name = known[-1] if known else "thread-" + prompt
def tell(**fields): print(json.dumps(fields), flush=True)
tell(type="thread.started", thread_id=name)
tell(type="item.completed", item={"type": "reasoning", "text": "hm"})
if prompt == "die": os.kill(os.getpid(), 9)
tell(type="item.completed", item={"type": "agent_message", "text": f"{known} {prompt}"})
"""


@pytest.fixture
def agent(tmp_path: Path) -> Make:
    return lambda command: driving(ExecFactory(), tmp_path, agent_command=command)


async def said(run: Drive, *content: str) -> tuple[str, TurnOver]:
    after = await run.begin(*content)
    over = await run.over(after)
    return words(run.seen[after:]), over


async def test_a_turn_is_a_process_and_its_output_is_what_the_agent_says(agent: Make) -> None:
    async with agent("sh -c {prompt}") as run:
        await run.start()
        assert (await said(run, "echo one; echo two"))[0] == "one\ntwo\n"
        text, over = await said(run, "printf 'no end'; exit 3")
        assert (text, over.stop_reason, over.exit_code) == ("no end", StopReason.FAILED, 3)
        assert over.message == "the command exited with 3"
        text, over = await said(run, "kill -9 $$")
        assert (text, over.stop_reason, over.exit_code) == ("", StopReason.FAILED, 137)
        assert over.message == "the command was ended by signal 9"
        text, over = await said(run, "exit 0")
        assert (text, over.stop_reason, over.exit_code) == ("", StopReason.COMPLETED, 0)


async def test_what_is_said_is_live_and_lasts_in_messages_at_pauses(agent: Make) -> None:
    async with agent("sh -c {prompt}") as run:
        await run.start()
        after = await run.begin(r"printf 'one\nbegun'; until test -e go; do sleep 0.01; done")
        await run.wait(Message, after)
        live = "".join(o.text for o in run.seen[after:] if isinstance(o, MessageText))
        assert live.startswith("one\nbegun")
        assert words(run.seen[after:]) == "one\n"
        (run.directory / "go").touch()
        await run.over(after)
        assert words(run.seen[after:]) == "one\nbegun"
        names = [o.message_id for o in run.seen[after:] if isinstance(o, Message)]
        assert len(set(names)) == len(names)


async def test_bytes_that_are_no_text_and_megabytes_come_through(agent: Make) -> None:
    async with agent("sh -c {prompt}") as run:
        await run.start()
        assert (await said(run, r"printf 'a\377b\303'"))[0] == "a\ufffdb\ufffd"
        text, over = await said(run, "head -c 3000000 /dev/zero | tr '\\0' x")
        assert over.stop_reason is StopReason.COMPLETED
        assert text == "x" * 3_000_000


async def test_a_prompt_comes_by_stdin_where_the_command_has_no_place_for_it(agent: Make) -> None:
    async with agent("cat") as run:
        await run.start()
        assert (await said(run, "--help"))[0] == "--help"
        long = "é" * 300_000
        assert (await said(run, long))[0] == long
        after = await run.begin("see", Resource("file:///a"))
        await run.over(after)
        assert words(run.seen[after:]) == "see\n\nfile:///a"
    async with agent("sh -c 'exec 0<&-; echo deaf'") as run:
        await run.start()
        assert (await said(run, long))[0] == "deaf\n"


async def test_values_are_words_and_never_options_or_scripts(agent: Make) -> None:
    script = "import sys; print(sys.argv[1:])"
    async with agent(f"{sys.executable} -c '{script}' {{prompt}} --x={{prompt}}") as run:
        await run.start()
        for prompt in ("$(touch marker)", "a b", "'", "é\n", "{session}"):
            assert (await said(run, prompt))[0].strip() == str([prompt, f"--x={prompt}"])
        assert (await said(run, "-h"))[0].strip() == str([" -h", "--x=-h"])


async def test_a_command_that_cannot_be_run_fails_its_turn_in_words(agent: Make) -> None:
    async with agent("/no/such/program {prompt}") as run:
        await run.start()
        for _ in range(2):
            _, over = await said(run, "hi")
            assert over.stop_reason is StopReason.FAILED
            assert over.message == "/no/such/program: No such file or directory"
    async with agent("echo {prompt}") as run:
        await run.start()
        _, over = await said(run, "x" * 200_000)
        assert over.message == "echo: Argument list too long"
        _, over = await said(run, "a\0b")
        assert (over.stop_reason, over.message) == (StopReason.FAILED, "echo: it can't be run")
        assert (await said(run, "next"))[0] == "next\n"


async def test_stderr_and_what_is_left_running_are_told_as_a_log(agent: Make) -> None:
    async with agent("sh -c {prompt}") as run:
        await run.start()
        wait = "until test -e go; do sleep 0.01; done"
        text, _ = await said(run, f"echo oops >&2; ({wait}; echo late) & echo said")
        assert text == "said\n"
        await run.until(lambda: any("oops" in n.message for n in run.notes(NoteKind.AGENT_LOG)))
        (run.directory / "go").touch()
        await run.until(lambda: any("late" in n.message for n in run.notes(NoteKind.AGENT_LOG)))
        assert (await said(run, "echo next"))[0] == "next\n"


async def test_the_id_is_learned_from_the_agent_and_taken_up_again(
    agent: Make, tmp_path: Path
) -> None:
    program = tmp_path / "agent.py"
    program.write_text(LEARNED)
    command = (
        "@session=json:thread_id @text=json:item.text?item.type=agent_message"
        f" {sys.executable} {program} [resume {{session}}] {{prompt}}"
    )
    async with agent(command) as run:
        await run.start()
        assert (await said(run, "one"))[0] == "[] one"
        assert (await said(run, "two"))[0] == "['resume', 'thread-one'] two"
        assert any('"reasoning"' in note.message for note in run.notes(NoteKind.AGENT_LOG))
        kept = run.kept
        assert json.loads(kept) == {"version": 1, "session": "thread-one"}
    async with agent(command) as run:
        up = await run.start(ResumeFrom(ResumeMode.AUTO, kept))
        assert up.mode is ResumeMode.NATIVE
        assert (await said(run, "three"))[0] == "['resume', 'thread-one'] three"
    async with agent(command) as run:
        # Of a turn that died the id is known all the same.
        await run.start()
        _, over = await said(run, "die")
        assert over.stop_reason is StopReason.FAILED
        assert (await said(run, "on"))[0] == "['resume', 'thread-die'] on"


async def test_an_id_that_is_an_option_is_none(agent: Make) -> None:
    async with agent("@session='re:id=(\\S+)' sh -c 'echo id={prompt}' [x {session}]") as run:
        await run.start()
        for name in ("--evil", "../x", "-", "x" * 300):
            await said(run, name)
        assert run.kept == b""
        await said(run, "good.1")
        assert json.loads(run.kept)["session"] == "good.1"


async def test_a_first_turn_that_showed_nothing_leaves_another_id_for_the_next(
    agent: Make,
) -> None:
    script = 'echo "$1 $2"; test "$2" != die'
    quiet = 'test "$2" = die && exit 1; echo "$1"'
    async with agent(f"sh -c '{script}' sh {{session}} {{prompt}}") as run:
        await run.start()
        one = (await said(run, "die"))[0].split()[0]
        assert (await said(run, "on"))[0].split()[0] == one
    async with agent(f"sh -c '{quiet}' sh [!new={{session}}] [old={{session}}] {{prompt}}") as run:
        await run.start()
        await said(run, "die")
        assert run.kept == b""
        new = (await said(run, "a"))[0].strip()
        old = (await said(run, "b"))[0].strip()
        assert new.startswith("new=")
        assert old == new.replace("new=", "old=")


async def test_a_command_without_a_conversation_is_seeded(agent: Make) -> None:
    async with agent("echo {prompt}") as run:
        up = await run.start(ResumeFrom(ResumeMode.AUTO, b"", transcript="you: hello"))
        assert up.mode is ResumeMode.SEEDED
        assert "you: hello" in (await said(run, "what was it?"))[0]
        assert (await said(run, "next"))[0] == "next\n"
        assert run.kept == b""


async def test_many_jobs_left_behind_hold_no_descriptors(agent: Make) -> None:
    async with agent("sh -c {prompt}") as run:
        await run.start()
        for number in range(50):
            await said(run, f"(until test -e go; do sleep 0.05; done) & echo {number}")
        (run.directory / "go").touch()
        pid = run.seen[0].pid  # type: ignore[union-attr]
        await eventually(lambda: len(list(Path(f"/proc/{pid}/fd").iterdir())) < 12)


BEGINNING = Beginning("session", 1, 1, "/", {})


def dialect() -> ExecDialect:
    return ExecDialect(("runner",), parse("a [!{session}] [{session}] {prompt}"), BEGINNING)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"x",
        b"[]",
        b"1",
        b'{"type": 1}',
        b'{"type": "no"}',
        b'{"type": "began"}',
        b'{"type": "began", "turn": true}',
        b'{"type": "text", "id": [], "text": "x"}',
        b'{"type": "message", "id": "m", "text": {}}',
        b'{"type": "session", "id": "-x"}',
        b'{"type": "ended", "exit_code": "0"}',
        b'{"type": "ended", "exit_code": 1e9}',
        b'{"type": "ended", "exit_code": -1}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_line_that_the_runner_never_says_is_unreadable(line: bytes) -> None:
    """Whoever is in the session may write to where it writes."""
    with pytest.raises(UnreadableError):
        list(dialect().read(line))


def test_an_order_is_the_same_when_it_is_given_again() -> None:
    first, again = dialect(), dialect()
    content = (Text("hello"),)
    assert list(first.begin(3, content)) == list(again.begin(3, content))
    [order] = first.begin(4, content)
    assert order.key == "turn-4"
    list(first.read(b'{"type": "text", "id": "m0", "text": "x"}'))
    taken_over = ExecDialect(
        ("runner",),
        parse("a [!{session}] [{session}] {prompt}"),
        BEGINNING,
        first.standing(),
    )
    assert list(first.begin(5, content)) == list(taken_over.begin(5, content))
    assert first.conversation == taken_over.conversation != ""
