"""The shell driver: what a turn is, and what stays from one to the next."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridle_core.observations import (
    Image,
    Note,
    NoteKind,
    OutputStream,
    ProcessUp,
    Resource,
    StopReason,
    ToolEnded,
    ToolOutput,
    ToolStarted,
    ToolStatus,
)
from bridle_host.drivers.shell import ShellFactory
from tests.support.driving import Drive, driving, eventually


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Drive]:
    async with driving(ShellFactory(), tmp_path) as drive:
        await drive.start()
        yield drive


async def answer(shell: Drive, script: str) -> bytes:
    """What a turn printed."""
    after = await shell.begin(script)
    await shell.over(after)
    return shell.output(after)


def touch(shell: Drive, name: str) -> None:
    (shell.directory / name).touch()


# --- A turn --------------------------------------------------------------------------------------


async def test_a_turn_runs_its_script_and_tells_what_it_printed_and_its_status(
    shell: Drive,
) -> None:
    after = await shell.begin("echo out; echo err >&2; give() { return 3; }; give")
    over = await shell.over(after)
    assert (over.stop_reason, over.exit_code) == (StopReason.COMPLETED, 3)
    assert shell.output(after, OutputStream.STDOUT) == b"out\n"
    assert shell.output(after, OutputStream.STDERR) == b"err\n"


async def test_a_turn_is_one_tool_call_that_shows_the_command(shell: Drive) -> None:
    script = "echo 'a \"quoted\"\tthing'\nfalse"
    await shell.turn(script)
    [started] = shell.all(ToolStarted)
    [ended] = shell.all(ToolEnded)
    assert (started.tool, json.loads(started.arguments_json)) == ("bash", {"command": script})
    assert started.title == "echo 'a \"quoted\"\tthing'"
    assert ended == ToolEnded(started.tool_call_id, ToolStatus.FAILED, 1)
    await shell.turn("true")
    assert shell.all(ToolEnded)[1].status is ToolStatus.SUCCEEDED
    assert len({started.tool_call_id for started in shell.all(ToolStarted)}) == 2


async def test_the_process_is_bash_and_says_its_version(shell: Drive) -> None:
    [up] = shell.all(ProcessUp)
    assert up.agent_version == (await answer(shell, "echo $BASH_VERSION")).decode().strip()
    assert up.pid in shell.living()


async def test_nothing_of_bash_itself_is_printed(shell: Drive) -> None:
    assert await answer(shell, "set -x") == b""
    # What runs a turn is not traced, the script is.
    after = await shell.begin("echo traced; set +x")
    await shell.over(after)
    assert shell.output(after, OutputStream.STDOUT) == b"traced\n"
    assert shell.output(after, OutputStream.STDERR).splitlines() == [
        b"+++ echo traced",
        b"+++ set +x",
    ]
    assert await answer(shell, "PROMPT_COMMAND='echo prompt'; trap 'echo trap' DEBUG") == b""
    assert await answer(shell, "true") == b""
    assert await answer(shell, "PS1='$ '; PS4=; set -v") == b""
    assert await answer(shell, "true") == b"true\n"
    assert shell.all(Note) == []


async def test_a_multi_line_script_with_heredoc_and_quotes(shell: Drive) -> None:
    script = """cat <<'EOF'
it's "raw" $HOME `x` \\
EOF
for i in 1 2; do
  echo "line $i"   # a comment
done
echo 'ends without a line break' \\
  and goes on"""
    assert await answer(shell, script) == (
        b'it\'s "raw" $HOME `x` \\\nline 1\nline 2\nends without a line break and goes on\n'
    )


async def test_a_script_that_ends_in_the_middle_of_something_is_its_own_fault_only(
    shell: Drive,
) -> None:
    assert b"unexpected EOF" in await answer(shell, "echo 'never closed")
    assert b"in the heredoc\n" in await answer(shell, "cat <<EOF\nin the heredoc")
    assert await answer(shell, "echo one \\") == b"one\n"
    assert await answer(shell, "echo after") == b"after\n"


async def test_a_syntax_error_is_a_failed_command_and_bash_stays(shell: Drive) -> None:
    await shell.turn("kept=1")
    after = await shell.begin("echo first\nif then")
    over = await shell.over(after)
    assert (over.stop_reason, over.exit_code) == (StopReason.COMPLETED, 2)
    assert b"syntax error" in shell.output(after, OutputStream.STDERR)
    assert await answer(shell, "echo $kept") == b"1\n"


async def test_several_texts_are_one_script(shell: Drive) -> None:
    after = await shell.begin("echo one", "echo two")
    await shell.over(after)
    assert shell.output(after) == b"one\ntwo\n"


async def test_what_bash_cannot_run_fails_the_turn_and_bash_stays(shell: Drive) -> None:
    over = await shell.turn("echo a\0b")
    assert over.stop_reason is StopReason.FAILED
    assert "NUL" in over.message
    over = await shell.turn("echo look", Image(b"\x89PNG", "image/png"))
    assert (over.stop_reason, "no image" in over.message) == (StopReason.FAILED, True)
    over = await shell.turn(Resource("file:///x"))
    assert (over.stop_reason, "no resource" in over.message) == (StopReason.FAILED, True)
    assert shell.all(ToolStarted) == []
    assert await answer(shell, "echo here") == b"here\n"


async def test_a_script_of_a_megabyte(shell: Drive) -> None:
    line = ": some words that fill a line up to sixty four characters, it is\n"
    script = line * (1024 * 1024 // len(line)) + "echo done"
    after = await shell.begin(script)
    await shell.over(after)
    assert shell.output(after) == b"done\n"
    shown = json.loads(shell.all(ToolStarted)[0].arguments_json)
    assert shown["truncated"] is True
    assert script.startswith(shown["command"])


async def test_the_text_of_a_script_does_not_stay_on_the_disk(shell: Drive, tmp_path: Path) -> None:
    await shell.turn(": a-secret-word")
    for path in (tmp_path / ".state").rglob("*"):
        if path.is_file():
            assert b"a-secret-word" not in path.read_bytes(), path
            assert path.stat().st_mode & 0o077 == 0, path


# --- Output --------------------------------------------------------------------------------------


async def test_stdout_and_stderr_are_told_apart(shell: Drive) -> None:
    after = await shell.begin("for i in 1 2 3; do echo o$i; echo e$i >&2; done")
    await shell.over(after)
    assert shell.output(after, OutputStream.STDOUT) == b"o1\no2\no3\n"
    assert shell.output(after, OutputStream.STDERR) == b"e1\ne2\ne3\n"


async def test_binary_output_comes_as_it_is(shell: Drive) -> None:
    made = "python3 -I -S -c 'import sys; sys.stdout.buffer.write(bytes(range(256)) * 4096)'"
    after = await shell.begin(made)
    await shell.over(after)
    assert shell.output(after) == bytes(range(256)) * 4096
    assert all(len(piece.data) <= 65536 for piece in shell.all(ToolOutput))


async def test_output_without_a_newline_is_not_held_back(shell: Drive) -> None:
    after = await shell.begin("printf 'a prompt: '; while [ ! -e go ]; do sleep 0.01; done")
    await shell.printed(b"a prompt: ", after)
    await shell.interrupt(after)


async def test_megabytes_without_a_newline(shell: Drive) -> None:
    after = await shell.begin("head -c 3000000 /dev/zero | tr '\\0' x")
    await shell.over(after)
    assert shell.output(after) == b"x" * 3_000_000


async def test_a_million_lines_come_whole_and_in_order(shell: Drive) -> None:
    after = await shell.begin("seq 1000000")
    await shell.over(after)
    lines = b"".join(b"%d\n" % number for number in range(1, 1_000_001))
    assert hashlib.sha256(shell.output(after)).digest() == hashlib.sha256(lines).digest()


async def test_a_character_is_never_cut_in_two(shell: Drive) -> None:
    after = await shell.begin("yes '€uro 😀' | head -c 1000000")
    await shell.over(after)
    *whole, _cut_by_head = shell.all(ToolOutput)
    for piece in whole:
        piece.data.decode("utf-8")
    assert len(shell.output(after)) == 1_000_000


async def test_half_a_character_at_the_end_is_not_lost(shell: Drive) -> None:
    assert await answer(shell, r"printf '\xf0\x9f\x98'") == b"\xf0\x9f\x98"
    assert await answer(shell, r"printf '\xf0'; sleep 0.05; printf '\x9f\x98\x80'") == "😀".encode()


async def test_endless_output_is_delivered_until_the_interrupt(shell: Drive) -> None:
    after = await shell.begin("yes endless")
    await shell.until(lambda: len(shell.output(after)) > 1_000_000)
    over = await shell.interrupt(after)
    assert over.stop_reason is StopReason.INTERRUPTED
    count = len(shell.output(after))
    assert shell.output(after) == (b"endless\n" * (count // 8 + 1))[:count]
    assert await answer(shell, "echo quiet") == b"quiet\n"


async def test_a_command_gets_no_descriptor_of_ours(shell: Drive) -> None:
    script = r"""for fd in 3 4 5 10 61 62 63; do
  printf '\0%s\0report\0%s\0000\0/\0\0\0\0\0%s.\0' x 1 x >&$fd
done 2>/dev/null; ls /proc/self/fd | tr '\n' ' '"""
    after = await shell.begin(script)
    assert (await shell.over(after)).exit_code == 0
    # stdin, stdout, stderr and what `ls` itself has open.
    assert shell.output(after) == b"0 1 2 3 "


async def test_a_command_that_reads_its_input_gets_its_end(shell: Drive) -> None:
    assert await answer(shell, "cat; read x || echo nothing; wc -c") == b"nothing\n0\n"


# --- What stays ----------------------------------------------------------------------------------


async def test_directory_variables_functions_and_status_stay(shell: Drive, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    await shell.turn("cd below; one=1; export two=2; hello() { echo hello $1; }; alias hi=hello")
    assert await answer(shell, "pwd; echo $one $two; hello you; hi all") == (
        f"{tmp_path}/below\n1 2\nhello you\nhello all\n".encode()
    )
    await shell.turn("(exit 7)")
    assert await answer(shell, "echo $?") == b"7\n"
    await shell.turn("set -- a b")
    assert await answer(shell, 'echo "$# $*"') == b"2 a b\n"


async def test_descriptors_stay_but_the_three_are_new_in_each_turn(shell: Drive) -> None:
    await shell.turn("exec 5>five 9>nine {any}>any; exec >/dev/null 2>&1 <five")
    script = "echo 5 >&5; echo 9 >&9; echo any >&$any; echo out; echo err >&2; cat"
    assert sorted((await answer(shell, script)).split()) == [b"err", b"out"]
    assert await answer(shell, "cat five nine any") == b"5\n9\nany\n"


async def test_shell_options_stay_and_harm_nothing(shell: Drive) -> None:
    await shell.turn("set -u -o pipefail -f; shopt -s extglob; IFS=:; ulimit -n 64; set +B")
    assert await answer(shell, "set -o | grep -E 'nounset|pipefail' | tr -d ' \\t'") == (
        b"nounseton\npipefailon\n"
    )
    assert await answer(shell, "echo still; false | true || echo failed") == b"still\nfailed\n"
    await shell.turn("set -T; trap 'echo debug' DEBUG RETURN ERR")
    after = await shell.begin("false")
    assert (await shell.over(after)).exit_code == 1


async def test_the_history_of_the_user_is_left_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".bash_history").write_text("mine\n")
    (home / ".bashrc").write_text("echo rc\n")
    async with driving(ShellFactory(), tmp_path, environment={"HOME": str(home)}) as shell:
        await shell.start()
        assert await answer(shell, "echo !! | cat; history; echo $HISTFILE") == b"!!\n\n"
        await shell.stop()
    assert (home / ".bash_history").read_text() == "mine\n"


# --- Background jobs -----------------------------------------------------------------------------


async def test_background_jobs_outlive_the_turn_and_not_the_session(shell: Drive) -> None:
    over = await shell.turn("sleep 4321 & (setsid sleep 4322 &) ; disown")
    assert over.stop_reason is StopReason.COMPLETED
    await eventually(lambda: len(shell.commands("sleep 432")) == 2)
    await shell.turn("true")
    assert len(shell.commands("sleep 432")) == 2
    gone = await shell.stop()
    assert gone.exit_code == 0
    assert shell.living() == {}


async def test_a_turn_does_not_wait_for_a_job_that_holds_its_output(shell: Drive) -> None:
    after = await shell.begin("(while [ ! -e go ]; do sleep 0.01; done; echo late) & echo soon")
    assert (await shell.over(after)).exit_code == 0
    assert shell.output(after) == b"soon\n"
    after = await shell.begin("touch go; wait")
    await shell.over(after)
    assert shell.output(after) == b"late\n"


async def test_what_jobs_print_between_turns_is_a_note_and_bounded(shell: Drive) -> None:
    await shell.turn("(while [ ! -e go ]; do sleep 0.01; done; exec yes between) & job=$!")
    assert shell.all(Note) == []
    touch(shell, "go")
    await shell.until(lambda: len(shell.notes(NoteKind.AGENT_LOG)) > 1)
    await eventually(lambda: shell.commands("yes between"))
    await shell.turn("kill $job; wait")
    logged = "".join(note.message for note in shell.notes(NoteKind.AGENT_LOG))
    assert logged.startswith("between\nbetween\n")
    assert len(logged) <= 16 * 1024


async def test_what_is_left_out_of_the_notes_is_told(shell: Drive) -> None:
    await shell.turn(
        "(while [ ! -e go ]; do sleep 0.01; done; head -c 100000 /dev/zero; touch done) &"
    )
    touch(shell, "go")
    await eventually((shell.directory / "done").exists)
    await shell.turn("wait")
    [truncated] = shell.notes(NoteKind.TRUNCATED)
    logged = "".join(note.message for note in shell.notes(NoteKind.AGENT_LOG))
    assert len(logged) + truncated.bytes_dropped == 100_000
