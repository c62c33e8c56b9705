"""The command line against the real pair: what it prints, where, and its exit codes."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bridle.v1 import session_pb2
from tests.pair import PATIENCE, Pair, Result, program, running_pair, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    async with running_pair(tmp_path_factory.mktemp("pair")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def nothing_stays(pair: Pair) -> AsyncIterator[None]:
    yield
    await pair.kill_all()


def one_line(text: str) -> bool:
    return text.count("\n") == 1 and text.endswith("\n")


async def start(pair: Pair, slug: str, *prompt: str) -> None:
    result = await pair.cli("session", "start", slug, "--agent", "shell", *prompt)
    assert result == Result(0, "started\n", "")


async def idle(pair: Pair, slug: str) -> None:
    assert (await pair.cli("wait", slug)).out == "IDLE\n"


# --- the verbs ---------------------------------------------------------------------------------


async def test_interrupt_ends_the_turn_and_the_same_shell_answers_the_follow_up(
    pair: Pair,
) -> None:
    await start(pair, "redirect", "kept=yes")
    assert (await pair.cli("session", "send", "redirect", "sleep 61")).out == "sent\n"
    follow_up = ("session", "send", "redirect", "echo", "kept", "is", "$kept")
    assert (await pair.cli(*follow_up)).out == "sent\n"
    assert (await pair.cli("wait", "redirect", "--for", "turn=2")).out == "RUNNING\n"
    queued = await pair.cli("queue", "list", "redirect")
    assert "echo kept is $kept" in queued.out
    assert await pair.cli("session", "interrupt", "redirect") == Result(0, "sent\n", "")
    await idle(pair, "redirect")
    transcript = (await pair.cli("session", "transcript", "redirect")).out
    assert "turn 2 ended: INTERRUPTED" in transcript
    assert "| kept is yes" in transcript
    turns = (await pair.cli("session", "turns", "redirect")).out.splitlines()
    assert [line.split()[4] for line in turns[1:]] == ["COMPLETED", "INTERRUPTED", "COMPLETED"]


async def test_an_interrupt_that_waits_tells_what_it_hit(pair: Pair) -> None:
    await start(pair, "hit", "sleep 62")
    await pair.cli("wait", "hit", "--for", "running")
    result = await pair.cli("session", "interrupt", "hit", "--wait")
    assert result == Result(0, "RAN TURN_INTERRUPTED turn=1\n", "")


async def test_an_interrupt_that_hit_nothing_prints_sent_and_says_so_beside_it(pair: Pair) -> None:
    await start(pair, "calm")
    await idle(pair, "calm")
    missed = "bridle: session interrupt: it hit nothing: no turn was on\n"
    assert await pair.cli("session", "interrupt", "calm") == Result(0, "sent\n", missed)
    waited = await pair.cli("session", "interrupt", "calm", "--wait")
    assert (waited.code, waited.err) == (7, missed)


async def test_hold_keeps_the_queue_until_it_is_released(pair: Pair) -> None:
    await start(pair, "held", "sleep 63")
    await pair.cli("wait", "held", "--for", "running")
    await pair.cli("session", "send", "held", "echo later")
    assert (await pair.cli("session", "interrupt", "held", "--hold")).code == 0
    await idle(pair, "held")
    assert "1 HELD" in (await pair.cli("status", "held")).out
    assert (await pair.cli("queue", "release", "held")).out == "sent\n"
    await until(lambda: said(pair, "held", "| later"), "the held input ran")


async def said(pair: Pair, slug: str, text: str) -> bool:
    return text in (await pair.cli("session", "transcript", slug)).out


async def test_inputs_that_wait_can_be_cancelled_one_or_all(pair: Pair) -> None:
    await start(pair, "queued", "sleep 64")
    await pair.cli("wait", "queued", "--for", "running")
    for text in ("one", "two", "three"):
        await pair.cli("session", "send", "queued", f"echo {text}")
    rows = (await pair.cli("queue", "list", "queued", "--json")).out.splitlines()
    assert [json.loads(row)["content"][0]["text"] for row in rows] == [
        "echo one",
        "echo two",
        "echo three",
    ]
    first = json.loads(rows[0])["inputId"]
    assert (await pair.cli("queue", "cancel", "queued", first, "--wait")).code == 0
    assert (await pair.cli("queue", "clear", "queued", "--wait")).code == 0
    assert len((await pair.cli("queue", "list", "queued")).out.splitlines()) == 1
    assert (await pair.cli("kill", "queued", "--wait")).code == 0


async def test_stop_and_resume_and_delete(pair: Pair) -> None:
    await start(pair, "again", "export CITY=Oslo")
    await idle(pair, "again")
    stopped = await pair.cli("session", "stop", "again", "--wait")
    assert stopped == Result(0, "RAN DONE\n", "")
    assert (await pair.cli("session", "stop", "again")).err.endswith("had ended already\n")
    refused = await pair.cli("session", "send", "again", "echo no")
    assert refused.code == 7
    assert refused.err.startswith("bridle: session send: FAILED_PRECONDITION: ")
    assert "hint: " in refused.err
    resumed = await pair.cli("session", "resume", "again", "echo", "from", "$CITY")
    assert resumed == Result(0, "resumed\n", "")
    await idle(pair, "again")
    assert await said(pair, "again", "| from Oslo")
    live = await pair.cli("session", "delete", "again")
    assert live.code == 7
    assert (await pair.cli("kill", "again", "--wait")).code == 0
    assert (await pair.cli("session", "delete", "again")).out == "deleted\n"
    assert (await pair.cli("status", "again")).code == 3


async def test_send_resumes_an_ended_session_where_it_is_asked_to(pair: Pair) -> None:
    await start(pair, "wake")
    await pair.cli("kill", "wake", "--wait")
    assert (await pair.cli("session", "send", "wake", "--resume", "echo awake")).code == 0
    await until(lambda: said(pair, "wake", "| awake"), "the input ran")


async def test_text_comes_from_stdin_where_it_is_a_dash(pair: Pair) -> None:
    await start(pair, "piped")
    script = "for i in 1 2; do\n  echo line $i\ndone\n"
    result = await pair.cli("session", "send", "piped", "-", stdin=script)
    assert result == Result(0, "sent\n", "")
    await until(lambda: said(pair, "piped", "| line 2"), "the script ran")


# --- what is printed ---------------------------------------------------------------------------


async def test_json_is_one_object_a_line_in_protobufs_mapping(pair: Pair) -> None:
    await start(pair, "as-json", "printf 'a\\033[31mb\\302\\233c\\177\\n'")
    await idle(pair, "as-json")
    listed = (await pair.cli("ls", "--json")).out.splitlines()
    found = next(row for row in map(json.loads, listed) if row["slug"] == "as-json")
    assert (found["phase"], found["agent"]) == ("PHASE_IDLE", "shell")
    watched = (await pair.cli("session", "watch", "as-json", "--no-follow", "--json")).out
    rows = [json.loads(line) for line in watched.splitlines()]
    assert [int(row["sequence"]) for row in rows] == list(range(1, len(rows) + 1))
    assert all(char == "\n" or " " <= char <= "~" for char in watched)
    output = next(row["toolCallOutput"]["text"] for row in rows if "toolCallOutput" in row)
    assert output == "a\x1b[31mb\u009bc\x7f\n"
    receipt = await pair.cli("session", "interrupt", "as-json", "--json")
    assert json.loads(receipt.out)["outcome"]["reason"] == "OUTCOME_REASON_NO_TURN"


async def test_what_agents_print_is_made_harmless(pair: Pair) -> None:
    hostile = "printf '\\033]0;evil\\007\\033[2Jx\\rOVER\\u202eabc\\x9b31m\\n'"
    await start(pair, "hostile", hostile)
    await idle(pair, "hostile")
    for words in (
        ("session", "watch", "hostile", "--no-follow"),
        ("session", "transcript", "hostile"),
    ):
        out = (await pair.cli(*words)).out
        assert "OVER<U+202E>abc" in out
        assert all(char == "\n" or char.isprintable() for char in out)


async def test_ls_lists_live_ones_and_with_a_all_and_with_q_only_slugs(pair: Pair) -> None:
    assert (await pair.cli("session", "start", "lab", "--agent", "shell", "-l", "team=a")).code == 0
    await idle(pair, "lab")
    await start(pair, "gone")
    await pair.cli("kill", "gone", "--wait")
    assert "gone" not in (await pair.cli("ls", "-q")).out.split()
    assert {"gone", "lab"} <= set((await pair.cli("ls", "-a", "-q")).out.split())
    assert (await pair.cli("ls", "-q", "-l", "team=a")).out == "lab\n"
    table = (await pair.cli("ls")).out.splitlines()
    assert table[0].split() == ["SLUG", "AGENT", "PHASE", "TURN", "QUEUE", "HOST", "AGE", "TITLE"]
    row = next(line for line in table if line.startswith("lab "))
    assert row.split()[:3] == ["lab", "shell", "IDLE"]
    assert row.split()[5] == "here"


async def test_hosts_and_agents_are_listed(pair: Pair) -> None:
    assert "CONNECTED" in (await pair.cli("hosts")).out
    assert "shell" in (await pair.cli("agents")).out
    assert json.loads((await pair.cli("hosts", "--json")).out)["name"] == "here"
    assert (await pair.cli("health")).out == "SERVING\n"


async def test_tokens_are_made_listed_and_revoked(pair: Pair) -> None:
    made = await pair.cli("token", "create", "bot", "--right", "session.read")
    assert made.out.startswith("brt_")
    token = made.out.strip()
    assert "bot" in (await pair.cli("token", "list")).out
    allowed = await pair.cli("ls", BRIDLE_TOKEN=token)
    assert allowed.code == 0
    denied = await pair.cli("kill", "lab", BRIDLE_TOKEN=token)
    assert denied.code == 5
    assert denied.err.startswith("bridle: kill: PERMISSION_DENIED: ")
    assert (await pair.cli("token", "revoke", "bot")).out == "revoked\n"
    revoked = await pair.cli("ls", BRIDLE_TOKEN=token)
    assert revoked.code == 4
    assert revoked.err.startswith("bridle: ls: UNAUTHENTICATED: ")


async def test_login_checks_the_token_before_it_stores_it(pair: Pair, tmp_path: str) -> None:
    home = {"BRIDLE_HOME": f"{tmp_path}/other"}
    bad = await pair.cli("auth", "login", "--address", pair.address, stdin="brt_no\n", **home)
    assert bad.code == 4
    assert (await pair.cli("ls", "--address", pair.address, **home)).code == 4
    words = ("auth", "login", "--address", pair.address)
    good = await pair.cli(*words, stdin=pair.token + "\n", **home)
    assert good == Result(0, f"logged in to {pair.address} as admin\n", "")
    assert (await pair.cli("ls", **home)).code == 0
    assert (await pair.cli("auth", "logout", **home)).code == 0
    assert (await pair.cli("ls", "--address", pair.address, **home)).code == 4


# --- errors ------------------------------------------------------------------------------------


async def test_an_unknown_session_is_one_line_a_hint_and_exit_code_3(pair: Pair) -> None:
    result = await pair.cli("session", "interrupt", "fix-auth")
    first, second = result.err.splitlines()
    assert first == (
        'bridle: session interrupt: NOT_FOUND: no session "fix-auth" in workspace "default"'
    )
    assert second.startswith("hint: ")
    assert (result.code, result.out) == (3, "")


@pytest.mark.parametrize("slug", ["../etc", "a\nb", "UPPER", "x" * 64, "-dash", "ünï"])
async def test_a_slug_that_is_none_is_refused_in_one_line(pair: Pair, slug: str) -> None:
    result = await pair.cli("session", "start", "--agent", "shell", "--", slug, "echo no")
    assert result.code == 2
    assert one_line(result.err)
    assert "slug: must be 1 to 63 lower-case letters" in result.err
    assert result.out == ""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("sesion", "ls"), 'bridle: there is no command "sesion"; did you mean "session"?\n'),
        (("session", "interupt"), 'did you mean "interrupt"?\n'),
        (("session", "start"), "bridle: session start: missing argument 'SLUG'\n"),
        (("session", "send"), "bridle: session send: missing argument SLUG"),
        (("session", "send", "x"), "bridle: session send: missing argument TEXT\n"),
        (("session", "send", "x", "--now", "--steer", "t"), "exclude each other\n"),
        (("session", "interrupt", "x", "--turn", "0"), "bridle: session interrupt: invalid value"),
        (("session", "stop", "x", "--grace", "soon"), "is no length of time"),
        (("session", "watch", "x", "--from", "1", "--tail", "2"), "exclude each other\n"),
        (("wait", "x", "--for", "noon"), "is none of idle"),
        (("ls", "--address", "nowhere"), "bridle: ls: the command line: 'nowhere' is no address"),
        (("ls", "-l", "team"), "is not KEY=VALUE\n"),
        (("up", "--bind", "0.0.0.0"), "bridle: up: 0.0.0.0 is public"),
    ],
)
async def test_wrong_usage_is_one_line_and_exit_code_2(
    pair: Pair, words: tuple[str, ...], told: str
) -> None:
    result = await pair.cli(*words)
    assert result.code == 2
    assert told in result.err
    assert one_line(result.err)


async def test_what_the_host_refuses_leaves_nothing(pair: Pair) -> None:
    words = ("session", "start", "no-dir", "--agent", "shell", "--dir", "/not/there")
    missing = await pair.cli(*words)
    assert missing.code == 7
    assert missing.err.startswith("bridle: session start: FAILED_PRECONDITION: ")
    unknown = await pair.cli("session", "start", "no-agent", "--agent", "none-such")
    assert unknown.code == 7
    assert not {"no-dir", "no-agent"} & set((await pair.cli("ls", "-a", "-q")).out.split())


async def test_text_that_is_too_large_is_refused(pair: Pair) -> None:
    await start(pair, "large")
    result = await pair.cli("session", "send", "large", "-", stdin="x" * 5_000_000)
    assert result.code == 1
    assert result.err == (
        "bridle: session send: RESOURCE_EXHAUSTED: the message is larger than 4 MiB\n"
    )


async def test_a_corrupt_settings_file_is_one_line_with_its_place(pair: Pair) -> None:
    file = pair.work / "bridle.yaml"
    file.write_text("workspace: [\n")
    try:
        result = await pair.cli("ls")
    finally:
        file.unlink()
    assert result.code == 2
    assert result.err.startswith(f"bridle: ls: {file}:2:1: ")
    assert one_line(result.err)


async def test_it_works_in_a_directory_that_was_deleted(pair: Pair) -> None:
    gone = pair.work / "gone"
    gone.mkdir()
    script = f'rmdir "{gone}"; exec "{program("bridle")}" ls -q'
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", script), cwd=gone, env=pair.environment(), stdout=PIPE, stderr=PIPE
    )
    out, err = await process.communicate()
    assert (process.returncode, out, err) == (0, b"", b"")


async def test_a_stdout_that_is_full_is_told_in_one_line(pair: Pair) -> None:
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f'exec "{program("bridle")}" hosts >/dev/full'),
        env=pair.environment(),
        stderr=PIPE,
    )
    _, err = await process.communicate()
    told, hint = err.decode().splitlines()
    assert process.returncode == 1
    assert told == "bridle: hosts: No space left on device"
    assert hint.startswith("hint: ")


async def test_nobody_at_the_address_is_exit_code_6(pair: Pair) -> None:
    words = ("session", "interrupt", "x", "--address", "127.0.0.1:9")
    result = await pair.cli(*words, BRIDLE_TOKEN="brt_x")
    assert result.code == 6
    assert result.err.splitlines()[0] == (
        "bridle: session interrupt: UNAVAILABLE: no answer from 127.0.0.1:9"
    )


# --- inside a session --------------------------------------------------------------------------


async def test_inside_a_session_the_slug_is_its_own(pair: Pair) -> None:
    await start(pair, "selfish", "bridle status; bridle session send 'echo to myself'")
    await until(lambda: said(pair, "selfish", "| to myself"), "it told itself")
    assert await said(pair, "selfish", "session      default/selfish")
    await pair.cli("session", "send", "selfish", "bridle session interrupt; sleep 65")
    await until(lambda: said(pair, "selfish", "INTERRUPTED"), "it interrupted itself")
    await pair.cli("session", "send", "selfish", "bridle status redirect; bridle approve . x")
    await until(lambda: said(pair, "selfish", "PERMISSION_DENIED"), "it was refused")
    assert await said(pair, "selfish", "! bridle: status: NOT_FOUND: no session")
    await pair.cli("session", "send", "selfish", "bridle session stop")
    assert (await pair.cli("wait", "selfish", "--for", "end")).out == "STOPPED\n"


async def test_inside_a_session_the_one_that_is_to_be_resumed_is_named(pair: Pair) -> None:
    await start(pair, "mother", "bridle session start daughter --agent shell")
    await until(lambda: said(pair, "mother", "| started"), "it started a child")
    await pair.cli("session", "send", "mother", "bridle kill daughter --wait")
    await until(lambda: said(pair, "mother", "| RAN"), "it killed the child")
    await pair.cli("session", "send", "mother", "bridle session resume daughter")
    await until(lambda: said(pair, "mother", "| resumed"), "it resumed the child")


# --- watching ----------------------------------------------------------------------------------


async def test_watch_begins_where_it_is_told(pair: Pair) -> None:
    await start(pair, "parts", "echo one")
    await idle(pair, "parts")
    whole = (await pair.cli("session", "watch", "parts", "--no-follow")).out.splitlines()
    late = (await pair.cli("session", "watch", "parts", "--no-follow", "--from", "3")).out
    assert late.splitlines() == whole[2:]
    tail = (await pair.cli("session", "watch", "parts", "--no-follow", "--tail", "2")).out
    assert tail.splitlines() == whole[-2:]


async def test_ctrl_c_leaves_a_watch_quietly(pair: Pair) -> None:
    await start(pair, "quiet")
    watch = await pair.start_cli("session", "watch", "quiet")
    assert watch.stdout is not None
    await watch.stdout.readline()
    watch.send_signal(signal.SIGINT)
    async with asyncio.timeout(30):
        _, err = await watch.communicate()
    assert (watch.returncode, err) == (130, b"")


@pytest.mark.parametrize("script", ["", "for i in 1 2 3 4 5 6 7 8 9; do echo $i; sleep 0.2; done"])
async def test_a_reader_that_goes_away_ends_the_watch_quietly(pair: Pair, script: str) -> None:
    slug = "busy-pipe" if script else "idle-pipe"
    await start(pair, slug, *([script] if script else []))
    watch = await pair.start_cli("session", "watch", slug)
    assert watch.stdout is not None
    await watch.stdout.readline()
    watch._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
    async with asyncio.timeout(PATIENCE):
        assert watch.stderr is not None
        err = await watch.stderr.read()
        assert (await watch.wait(), err) == (141, b"")


async def test_wait_tells_failures_and_times_out(pair: Pair) -> None:
    await start(pair, "dies", "sleep 66")

    async def runs() -> bool:
        return (await pair.client.get_session("dies")).phase == session_pb2.PHASE_RUNNING

    await until(runs, "it is at work")
    late = await pair.cli("wait", "dies", "--timeout", "0.2s")
    assert late.code == 6
    assert await runs()
    await pair.cli("session", "interrupt", "dies", "--wait")
    await pair.cli("session", "send", "dies", "kill -9 $$")
    ended = await pair.cli("wait", "dies", "--for", "end")
    assert ended == Result(1, "FAILED\n", "")


async def _imported(pair: Pair, *words: str) -> set[str]:
    """The top-level packages that a command imports, from Python's own account."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "importtime", program("bridle"), *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=pair.environment(),
    )
    _, err = await process.communicate()
    assert process.returncode == 0, err
    lines = [line for line in err.decode().splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


async def test_help_imports_neither_grpc_nor_protobuf(pair: Pair) -> None:
    assert not {"grpc", "google", "yaml", "asyncio"} & await _imported(pair, "--help")


async def test_a_verb_imports_nothing_that_it_does_not_need(pair: Pair) -> None:
    await start(pair, "swift")
    imported = await _imported(pair, "session", "interrupt", "swift")
    assert "grpc" in imported
    assert not {"protovalidate", "opentelemetry", "bridle_core", "sqlite3"} & imported
