"""The shell driver: a resumed run is a new bash with what could be kept of the last one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bridle_core.observations import (
    KeepState,
    Note,
    ProcessUp,
    ResumeMode,
    StartFailed,
    TurnOver,
)
from bridle_host.drivers.base import ResumeFrom
from bridle_host.drivers.shell import ShellFactory
from bridle_host.drivers.shell.state import STATE_LIMIT, Kept
from tests.support.driving import Drive, driving


async def answer(shell: Drive, script: str) -> bytes:
    after = await shell.begin(script)
    await shell.over(after)
    return shell.output(after)


async def kept_by(tmp_path: Path, *scripts: str) -> bytes:
    """The state that a run leaves behind."""
    async with driving(ShellFactory(), tmp_path) as shell:
        await shell.start()
        for script in scripts:
            await shell.turn(script)
        return shell.kept


async def test_a_resumed_run_has_the_directory_and_the_exported_variables(tmp_path: Path) -> None:
    (tmp_path / "below it").mkdir()
    state = await kept_by(
        tmp_path,
        "cd 'below it'; export ONE='a \"b\" $c `d` \\ é' TWO=$'x\\ny\\xff' LANG=C; unexported=1",
        "unset HOME; f() { :; }; set -u; shopt -s globstar; declare -ix THREE=3 FOUR; export FIVE=",
    )
    async with driving(ShellFactory(), tmp_path, environment={"FOUR": "now"}) as shell:
        up = await shell.start(ResumeFrom(ResumeMode.AUTO, state))
        assert (up.mode, up.replacement) == (ResumeMode.SEEDED, False)
        lost = "\n".join(up.lost)
        for word in ("not exported", "functions: f", "globstar on", "nounset on", "background"):
            assert word in lost
        script = (
            'pwd; printf "%s|" "$ONE" "$TWO" "$LANG" "${HOME-no}" "$THREE" "$unexported" "$FIVE"'
        )
        assert await answer(shell, script) == (
            f'{tmp_path}/below it\na "b" $c `d` \\ é|x\ny'.encode() + b"\xff|C|no|3|||"
        )
        assert shell.all(Note) == []


async def test_a_run_can_be_resumed_again_and_again(tmp_path: Path) -> None:
    state = await kept_by(tmp_path, "export COUNT=1")
    for number in range(1, 4):
        async with driving(ShellFactory(), tmp_path) as shell:
            await shell.start(ResumeFrom(ResumeMode.SEEDED, state))
            assert await answer(shell, "echo $COUNT; export COUNT=$((COUNT + 1))") == (
                b"%d\n" % number
            )
            state = shell.kept


async def test_what_the_session_gets_anew_is_not_carried_over(tmp_path: Path) -> None:
    environment = {"BRIDLE_SESSION": "old", "BRIDLE_TOKEN_FILE": "/old"}
    async with driving(ShellFactory(), tmp_path, environment=environment) as shell:
        await shell.start()
        await shell.turn("export BRIDLE_SESSION=forged OTHER=1")
        state = shell.kept
    assert b"forged" not in state
    environment = {"BRIDLE_SESSION": "new", "BRIDLE_TOKEN_FILE": "/new"}
    async with driving(ShellFactory(), tmp_path, environment=environment) as shell:
        await shell.start(ResumeFrom(ResumeMode.AUTO, state))
        assert await answer(shell, "echo $BRIDLE_SESSION $BRIDLE_TOKEN_FILE $OTHER") == (
            b"new /new 1\n"
        )


async def test_a_directory_that_has_vanished_is_told_and_the_sessions_own_is_taken(
    tmp_path: Path,
) -> None:
    (tmp_path / "below").mkdir()
    state = await kept_by(tmp_path, "cd below; export KEPT=1")
    shutil.rmtree(tmp_path / "below")
    async with driving(ShellFactory(), tmp_path) as shell:
        up = await shell.start(ResumeFrom(ResumeMode.AUTO, state))
        assert any(f"{tmp_path}/below" in line for line in up.lost)
        assert await answer(shell, "pwd; echo $KEPT") == f"{tmp_path}\n1\n".encode()


async def test_a_directory_that_was_reached_by_a_link_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    state = await kept_by(tmp_path, "cd link")
    async with driving(ShellFactory(), tmp_path) as shell:
        await shell.start(ResumeFrom(ResumeMode.AUTO, state))
        assert await answer(shell, "pwd; pwd -P") == f"{tmp_path}/link\n{tmp_path}/real\n".encode()


async def test_a_native_resume_is_refused_in_clear_words(tmp_path: Path) -> None:
    async with driving(ShellFactory(), tmp_path) as shell:
        await shell.driver.start(ResumeFrom(ResumeMode.NATIVE))
        failed = await shell.wait(StartFailed)
        assert "no native resume" in failed.message
        await shell.until(lambda: shell.ended)


@pytest.mark.parametrize("state", [b"\xff\x00", b"{}", b"[1]", b'{"version": 99}', b"[" * 100_000])
async def test_a_state_that_cannot_be_read_is_told_and_harms_nothing(
    tmp_path: Path, state: bytes
) -> None:
    async with driving(ShellFactory(), tmp_path) as shell:
        up = await shell.start(ResumeFrom(ResumeMode.AUTO, state))
        assert any("cannot be read" in line for line in up.lost)
        assert await answer(shell, "echo here") == b"here\n"


async def test_a_run_without_a_turn_leaves_nothing_and_can_be_resumed(tmp_path: Path) -> None:
    assert await kept_by(tmp_path) == b""
    async with driving(ShellFactory(), tmp_path) as shell:
        up = await shell.start(ResumeFrom(ResumeMode.SEEDED, b""))
        assert up.mode is ResumeMode.SEEDED
        assert await answer(shell, "pwd") == f"{tmp_path}\n".encode()


async def test_the_state_is_told_within_the_turn_and_only_when_it_changed(tmp_path: Path) -> None:
    async with driving(ShellFactory(), tmp_path) as shell:
        await shell.start()
        await shell.turn("export ONE=1")
        await shell.turn("echo nothing new")
        await shell.turn("export ONE=2")
        assert [type(seen) for seen in shell.seen if isinstance(seen, KeepState | TurnOver)] == [
            KeepState,
            TurnOver,
            TurnOver,
            KeepState,
            TurnOver,
        ]
        await shell.interrupt(await shell.begin("export ONE=3; sleep 60"))
        kept = Kept.decode(shell.kept)
        assert kept is not None
        assert kept.set == {"ONE": "3"}


async def test_variables_that_are_too_large_to_keep_are_named(tmp_path: Path) -> None:
    state = await kept_by(
        tmp_path,
        "export SMALL=1 LARGE=$(head -c 120000 /dev/zero | tr '\\0' x) "
        "LARGER=$(head -c 124000 /dev/zero | tr '\\0' y) "
        "UMLAUTS=$(head -c 60000 /dev/zero | tr '\\0' z | sed 's/z/ä/g')",
    )
    assert len(state) <= STATE_LIMIT
    async with driving(ShellFactory(), tmp_path) as shell:
        up = await shell.start(ResumeFrom(ResumeMode.AUTO, state))
        assert any("too large" in line and "UMLAUTS" in line for line in up.lost)
        assert await answer(shell, "echo $SMALL ${#UMLAUTS}") == b"1 0\n"


async def test_a_seed_that_bash_refuses_in_part_does_not_stop_the_rest(tmp_path: Path) -> None:
    state = Kept(
        directory=str(tmp_path),
        set={"A": "1", "not a name; touch hacked": "x", "EUID": "5", "B": "2"},
        unset=("UID", "PATH; touch hacked"),
    ).encode()
    async with driving(ShellFactory(), tmp_path) as shell:
        await shell.start(ResumeFrom(ResumeMode.AUTO, state))
        assert await answer(shell, "echo $A $B; ls") == b"1 2\n"


async def test_bash_replaced_in_a_resumed_run_keeps_what_the_last_run_kept(tmp_path: Path) -> None:
    state = await kept_by(tmp_path, "export KEPT=1")
    async with driving(ShellFactory(), tmp_path) as shell:
        await shell.start(ResumeFrom(ResumeMode.AUTO, state))
        after = await shell.begin("trap '' INT; echo stuck; while :; do :; done")
        await shell.printed(b"stuck", after)
        await shell.interrupt(after, grace=0.1)
        await shell.wait(ProcessUp, after)
        assert await answer(shell, "echo $KEPT") == b"1\n"
