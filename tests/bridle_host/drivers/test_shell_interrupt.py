"""The shell driver: an interrupt ends the turn, and bash goes on as if nothing had been."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bridle_core.observations import (
    Note,
    NoteKind,
    ProcessGone,
    ProcessUp,
    ResumeMode,
    StopReason,
    ToolEnded,
    ToolOutput,
    ToolStatus,
    TurnOver,
)
from bridle_host.containment import detect
from bridle_host.drivers.shell import ShellFactory
from bridle_host.drivers.shell.bash import Bash
from bridle_host.process import Interrupted, Mark, ShimProcess
from tests.support.driving import GRACE, Drive, driving, eventually


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Drive]:
    async with driving(ShellFactory(), tmp_path) as drive:
        await drive.start()
        yield drive


async def answer(shell: Drive, script: str) -> bytes:
    after = await shell.begin(script)
    await shell.over(after)
    return shell.output(after)


PYTHON = "python3 -I -S -c"

#: Whatever a bash may be doing. None of them may go on.
BUSY = {
    "a command": "sleep 60",
    "a command that catches it and ends well": (
        f"{PYTHON} 'import time\nprint(1, flush=True)\n"
        "try: time.sleep(60)\nexcept KeyboardInterrupt: print(2)'"
    ),
    "a command that dies of another signal": "bash -c \"trap 'kill -9 \\$\\$' INT; sleep 60\"",
    "a builtin loop": "while :; do :; done",
    "a loop over commands": "while sleep 0.01; do :; done",
    "a for loop": "for i in 1 2 3; do sleep 60; done",
    "a wait": "sleep 60 & wait",
    "a wait for all": "sleep 60 & sleep 60 & wait; wait",
    "a command substitution": "x=$(sleep 60)",
    "nested command substitutions": "x=$(echo $(sleep 60))",
    "a pipeline": "sleep 60 | cat",
    "a pipeline that flows": "yes | cat >/dev/null",
    "a pipeline with a loop": "yes | while read x; do :; done",
    "a last pipe": "shopt -s lastpipe; sleep 60 | read x",
    "a subshell": "(sleep 60; touch never)",
    "a subshell loop": "(while :; do sleep 0.01; done)",
    "a group in a pipeline": "{ sleep 60; touch never; } | cat",
    "a function": "f() { sleep 60; touch never; }; f",
    "functions all the way down": "f() { g; touch never; }; g() { sleep 60; touch never; }; f",
    "a fifo that nobody writes to": "mkfifo fifo; read x <fifo",
    "a command at a fifo": "mkfifo fifo; cat <fifo",
    "a read": "exec 7<> <(sleep 60); read x <&7",
    "a coprocess": "coproc sleep 60; read x <&${COPROC[0]}",
    "another bash": "bash -c 'sleep 60; touch never'",
    "a session of its own": "setsid -w sleep 60",
    "a daemon and a command": "setsid sleep 60 & sleep 60",
    "an eval": "eval 'sleep 60; touch never'",
    "an or list": "sleep 60 || touch never",
    "a condition": "if sleep 60; then touch never; else touch never; fi",
    "a negation": "! sleep 60",
    "a sourced file": "echo 'sleep 60; touch never' >file; . ./file",
    "a process substitution": "cat <(sleep 60)",
    "an output substitution": "sleep 60 > >(cat)",
    "a mapfile": "mapfile -t x < <(sleep 60)",
    "a stopped child": "sleep 60 & kill -STOP $!; wait",
    "a bash that stopped itself": "kill -STOP $$",
    "a debug trap": "trap : DEBUG; sleep 60",
    "errexit": "set -e; sleep 60",
    "an exit trap in a subshell": "(trap 'touch cleaned' EXIT; sleep 60)",
}


@pytest.mark.parametrize("settled", [False, True], ids=["at once", "later"])
@pytest.mark.parametrize("script", BUSY.values(), ids=BUSY.keys())
async def test_an_interrupt_ends_the_turn_and_bash_stays(
    shell: Drive, script: str, settled: bool
) -> None:
    await shell.turn("variable=kept; sleep 4400 & disown; sleep 4401 & disown")
    await eventually(lambda: len(shell.commands("sleep 440")) == 2)
    before = sorted(shell.living())
    after = await shell.begin(f"{script}; touch never")
    if settled:
        await shell.until_late(0.05)
    started = time.monotonic()
    over = await shell.interrupt(after, grace=40)
    assert time.monotonic() - started < 30, "the grace of 40 s was needed"
    assert over.stop_reason is StopReason.INTERRUPTED
    assert shell.notes(NoteKind.ESCALATED) == []
    # What was there before lives, and nothing else.
    assert sorted(shell.living()) == before
    assert not (shell.directory / "never").exists()
    assert shell.all(ToolEnded)[-1].status is ToolStatus.CANCELLED
    assert await answer(shell, "set +e; trap - DEBUG; echo $? $variable") == b"0 kept\n"
    assert len(shell.all(ProcessUp)) == 1


async def test_the_status_after_an_interrupt_is_that_of_a_terminal(shell: Drive) -> None:
    over = await shell.interrupt(await shell.begin("sleep 60"))
    assert over.exit_code == 130
    assert await answer(shell, "echo $?") == b"130\n"
    over = await shell.interrupt(await shell.begin("sleep 60 & wait"))
    assert over.exit_code == 130


async def test_an_interrupt_at_any_moment_always_hits(shell: Drive) -> None:
    chance = random.Random(7)
    for number in range(60):
        after = await shell.begin(f"sleep 0.00{number % 5}; sleep 60; touch never")
        if pause := chance.choice((0.0, 0.0, chance.uniform(0, 0.02))):
            await shell.until_late(pause)
        over = await shell.interrupt(after)
        assert over.stop_reason is StopReason.INTERRUPTED
        assert await answer(shell, f"echo {number}") == b"%d\n" % number
    assert shell.commands("sleep") == []
    assert not (shell.directory / "never").exists()
    assert len(shell.all(ProcessUp)) == 1


@pytest.mark.parametrize("level", ["", "SUBREAPER"])
async def test_many_shells_at_once_run_nothing_on_after_an_interrupt(
    tmp_path: Path, level: str
) -> None:
    containment = detect(level) if level else detect()
    scripts = ["(sleep 60; touch never)", "{ sleep 60; touch never; } | cat"]
    scripts += ["bash -c 'sleep 60; touch never'", "sleep 60 | (sleep 60; touch never)"]

    async def one(number: int) -> None:
        place = tmp_path / str(number)
        place.mkdir()
        async with driving(
            ShellFactory(), place, session=f"s{number}", containment=containment
        ) as shell:
            await shell.start()
            for turn in range(12):
                after = await shell.begin(f"{scripts[turn % len(scripts)]}; touch never")
                await shell.until_late(turn % 3 * 0.01)
                over = await shell.interrupt(after)
                assert over.stop_reason is StopReason.INTERRUPTED
                assert not (place / "never").exists()
            assert shell.notes(NoteKind.ESCALATED) == []
            assert len(shell.all(ProcessUp)) == 1

    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(one(number))


async def test_an_interrupt_around_the_end_of_a_turn_never_hits_the_next(shell: Drive) -> None:
    chance = random.Random(11)
    reasons = set()
    for number in range(100):
        after = await shell.begin("sleep 0.003" if number % 2 else ":")
        await shell.until_late(chance.uniform(0, 0.008))
        await shell.driver.interrupt(grace=GRACE, include_background=False)
        over = await shell.over(after)
        reasons.add(over.stop_reason)
        assert await answer(shell, f"sleep 0.001; echo {number}") == b"%d\n" % number
        assert shell.all(TurnOver)[-1].stop_reason is StopReason.COMPLETED
    assert reasons <= {StopReason.COMPLETED, StopReason.INTERRUPTED}
    assert len(shell.all(TurnOver)) == 200
    assert len(shell.all(ProcessUp)) == 1


async def test_an_interrupt_of_an_idle_shell_does_nothing(shell: Drive) -> None:
    await shell.turn("true")
    count = len(shell.seen)
    await shell.driver.interrupt(grace=1, include_background=False)
    assert await answer(shell, "echo here") == b"here\n"
    assert [type(seen) for seen in shell.seen[count:]].count(TurnOver) == 1


async def test_what_was_said_before_an_interrupt_is_kept_and_nothing_comes_after(
    shell: Drive,
) -> None:
    after = await shell.begin("trap '' INT; echo said; (trap 'echo last words' EXIT; sleep 60)")
    await shell.printed(b"said\n", after)
    await eventually(lambda: shell.commands("sleep 60"))
    await shell.interrupt(after, grace=0.2)
    over = shell.seen.index(shell.all(TurnOver)[-1])
    assert not [seen for seen in shell.seen[over:] if isinstance(seen, ToolOutput)]


async def test_an_interrupt_that_still_looks_for_what_its_turn_has_born_never_hits_the_next(
    shell: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first answer that would end the turn comes late: during the look that follows it.
    interrupt, ask, looks = ShimProcess.interrupt, Bash.ask, 0
    held: list[Awaitable[None]] = []
    looked = asyncio.Event()

    async def asked(self: Bash, token: str) -> None:
        question = ask(self, token)
        if looks == 1 and not held:
            held.append(question)
        else:
            await question

    async def late(self: ShimProcess, *mark: Mark, **how: Any) -> Interrupted:
        nonlocal looks
        looks += shell.driver._turn.last  # type: ignore[attr-defined]
        if looks != 2 or looked.is_set():
            return await interrupt(self, *mark, **how)
        await held[0]
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                while not shell.commands("sleep 4801"):  # noqa: ASYNC110 - nothing tells it
                    await asyncio.sleep(0.01)
        try:
            return await interrupt(self, *mark, **how)
        finally:
            looked.set()

    monkeypatch.setattr(Bash, "ask", asked)
    monkeypatch.setattr(ShimProcess, "interrupt", late)
    await shell.interrupt(await shell.begin("sleep 60"))
    after = await shell.begin("sleep 4801; touch never")
    await eventually(lambda: shell.commands("sleep 4801"))
    await looked.wait()
    over = await shell.interrupt(after)
    assert over.stop_reason is StopReason.INTERRUPTED
    assert not (shell.directory / "never").exists()


# --- Those who do not obey -----------------------------------------------------------------------


async def test_a_command_that_ignores_it_is_killed_after_the_grace_and_bash_stays(
    shell: Drive,
) -> None:
    await shell.turn("variable=kept")
    ignoring = (
        f"{PYTHON} 'import signal,time; signal.signal(2, signal.SIG_IGN); "
        "print(1, flush=True); time.sleep(60)'; touch never"
    )
    after = await shell.begin(ignoring)
    await shell.printed(b"1\n", after)
    started = time.monotonic()
    over = await shell.interrupt(after, grace=0.3)
    assert 0.3 <= time.monotonic() - started < 30
    assert over.stop_reason is StopReason.INTERRUPTED
    [note] = shell.notes(NoteKind.ESCALATED)
    assert "python3" in note.message
    assert shell.seen.index(note) < shell.seen.index(over)
    assert await answer(shell, "echo $variable") == b"kept\n"
    assert not (shell.directory / "never").exists()


async def test_a_script_that_handles_it_has_the_grace_to_clean_up(
    shell: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A bash that is held up for so long is sent another one, which the script would handle, too.
    monkeypatch.setattr("bridle_host.drivers.shell.driver.SILENCE", GRACE)
    script = "trap 'echo cleaning; stop=1' INT; until [ $stop ]; do sleep 60; done; echo cleaned"
    after = await shell.begin(script)
    await eventually(lambda: shell.commands("sleep 60"))
    over = await shell.interrupt(after)
    assert (over.stop_reason, over.exit_code) == (StopReason.INTERRUPTED, 0)
    assert shell.output(after) == b"cleaning\ncleaned\n"
    assert shell.notes(NoteKind.ESCALATED) == []


STUCK = {
    "it ignores SIGINT": "trap '' INT; while :; do :; done",
    "it ignores SIGINT and starts commands": "trap '' INT; while :; do sleep 0.01; done",
    "it handles SIGINT and goes on": "trap 'echo no' INT; while :; do sleep 0.05; done",
    "it took our trap away too": "trap '' INT RTMAX-1; while :; do :; done",
}


@pytest.mark.parametrize("script", STUCK.values(), ids=STUCK.keys())
async def test_a_bash_that_ignores_it_is_killed_and_a_seeded_one_follows(
    shell: Drive, script: str, tmp_path: Path
) -> None:
    (tmp_path / "below").mkdir()
    await shell.turn(
        "cd below; export kept='a b'; unkept=1; unset HOME; f() { :; }; shopt -s extglob;"
        "sleep 4500 & disown"
    )
    await eventually(lambda: shell.commands("sleep 4500"))
    after = await shell.begin(f"export half=1; {script.replace('while', 'echo stuck; while')}")
    await shell.printed(b"stuck", after)
    over = await shell.interrupt(after, grace=0.3)
    assert over.stop_reason is StopReason.INTERRUPTED
    gone = await shell.wait(ProcessGone, after)
    assert (gone.killed, gone.deliberate) == (True, False)
    up = await shell.wait(ProcessUp, after)
    assert (up.replacement, up.mode, up.pid == gone.pid) == (True, ResumeMode.SEEDED, False)
    lost = "\n".join(up.lost)
    for word in ("not exported", "functions: f", "extglob on", "background job: sleep 4500"):
        assert word in lost
    note = await shell.wait(Note, shell.seen.index(up))
    assert note.kind is NoteKind.ESCALATED
    order = [shell.seen.index(seen) for seen in (over, gone, up, note)]
    assert order == sorted(order)
    script = 'echo "$kept,$unkept,$half,${HOME-none}"; pwd; f; echo $?'
    out = (await answer(shell, script)).decode().splitlines()
    assert out[0] == "a b,,,none"
    assert out[1] == f"{tmp_path}/below"
    assert "f: command not found" in out[2] or out[2] == "127"
    assert shell.commands("sleep 4500") == []


async def test_an_interrupt_of_what_exec_put_into_the_place_of_bash(shell: Drive) -> None:
    after = await shell.begin("exec sleep 60")
    await eventually(lambda: shell.commands("sleep 60"))
    started = time.monotonic()
    over = await shell.interrupt(after, grace=40)
    assert time.monotonic() - started < 30
    assert over.stop_reason is StopReason.INTERRUPTED
    assert (await shell.wait(ProcessUp, after)).replacement
    assert await answer(shell, "echo new") == b"new\n"


async def test_a_script_that_exits_at_an_interrupt_does_not_end_the_session(shell: Drive) -> None:
    after = await shell.begin("trap 'echo cleaning; exit 1' INT; sleep 60")
    await eventually(lambda: shell.commands("sleep 60"))
    over = await shell.interrupt(after)
    assert over.stop_reason is StopReason.INTERRUPTED
    assert shell.output(after) == b"cleaning\n"
    assert (await shell.wait(ProcessUp, after)).replacement
    assert await answer(shell, "echo new") == b"new\n"


async def test_what_is_sent_while_another_bash_comes_up_is_run_by_it(shell: Drive) -> None:
    after = await shell.begin("trap '' INT; echo stuck; while :; do :; done")
    await shell.printed(b"stuck", after)
    await shell.interrupt(after, grace=0.1)
    assert await answer(shell, "echo $$") == b"%d\n" % int(await answer(shell, "echo $$"))
    assert len(shell.all(ProcessUp)) == 2


async def test_a_kill_while_an_interrupt_waits_for_its_grace(shell: Drive) -> None:
    after = await shell.begin("trap '' INT; echo stuck; while :; do :; done")
    await shell.printed(b"stuck", after)
    await shell.driver.interrupt(grace=30, include_background=False)
    await shell.driver.kill()
    gone = await shell.wait(ProcessGone, after)
    assert gone.killed
    await shell.until(lambda: shell.ended)
    assert len(shell.all(ProcessUp)) == 1


async def test_a_second_interrupt_may_shorten_the_grace(shell: Drive) -> None:
    after = await shell.begin("trap '' INT; echo stuck; sleep 60; while :; do :; done")
    await shell.printed(b"stuck", after)
    started = time.monotonic()
    await shell.driver.interrupt(grace=30, include_background=False)
    await shell.driver.interrupt(grace=0.2, include_background=False)
    over = await shell.over(after)
    assert time.monotonic() - started < 15
    assert over.stop_reason is StopReason.INTERRUPTED
    assert (await shell.wait(ProcessUp, after)).replacement


# --- Background jobs -----------------------------------------------------------------------------


async def test_jobs_of_this_turn_end_and_those_of_earlier_turns_live(shell: Drive) -> None:
    await shell.turn("sleep 4601 & (while :; do sleep 0.05; done) & setsid sleep 4602 &")
    # (Not the setsid, whose child would be one of the next turn.)
    await eventually(lambda: shell.commands("sleep 4602") == ["sleep 4602"])
    after = await shell.begin("sleep 4603 & setsid sleep 4604 & (setsid sleep 4605 &); sleep 60")
    await eventually(lambda: len(shell.commands("sleep 460")) == 5)
    started = time.monotonic()
    await shell.interrupt(after, grace=40)
    assert time.monotonic() - started < 30
    assert sorted(c for c in shell.commands("sleep 460")) == ["sleep 4601", "sleep 4602"]
    await eventually(lambda: len(shell.commands("bash")) == 2)
    assert shell.notes(NoteKind.ESCALATED) == []


async def test_background_jobs_end_too_when_that_is_asked_for(shell: Drive) -> None:
    await shell.turn("sleep 4701 & setsid sleep 4702 & variable=kept")
    await eventually(lambda: len(shell.commands("sleep 470")) == 2)
    after = await shell.begin("sleep 60")
    await shell.interrupt(after, include_background=True)
    assert shell.commands("sleep") == []
    assert await answer(shell, "echo $variable") == b"kept\n"


async def test_an_interrupt_is_not_held_up_by_a_job_that_floods(shell: Drive) -> None:
    await shell.turn("yes flood & disown")
    after = await shell.begin("sleep 60")
    started = time.monotonic()
    over = await shell.interrupt(after, grace=40)
    assert time.monotonic() - started < 30
    assert over.stop_reason is StopReason.INTERRUPTED
    assert len(shell.all(ProcessUp)) == 1
