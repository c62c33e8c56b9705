"""The shell driver: how a bash comes up and how it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridle_core.observations import (
    Capability,
    ProcessGone,
    ProcessUp,
    StartFailed,
    StopReason,
    ToolEnded,
    ToolStatus,
    TurnOver,
)
from bridle_host.drivers.base import DriverContext
from bridle_host.drivers.registry import factories
from bridle_host.drivers.shell import ShellFactory
from bridle_host.process import Ladder, Proof, ShimProcess
from tests.support.driving import Drive, driving, eventually


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Drive]:
    async with driving(ShellFactory(), tmp_path) as drive:
        await drive.start()
        yield drive


# --- Coming up -----------------------------------------------------------------------------------


def test_the_registry_knows_the_shell() -> None:
    factory = factories()["shell"]
    assert factory.capabilities == {Capability.BACKGROUND}
    assert factory.probe().installed
    assert factory.probe().version.startswith(("4.", "5."))


def test_a_machine_without_bash_gets_a_hint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = ShellFactory().probe()
    assert (found.installed, "install bash" in found.hint) == (False, True)


@pytest.mark.parametrize("version", ["GNU bash, version 3.2.57(1)-release", "zsh 5.9", ""])
def test_an_old_bash_or_none_at_all_under_its_name_gets_a_hint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str
) -> None:
    bash = tmp_path / "bash"
    bash.write_text(f"#!/bin/sh\necho '{version}'\n")
    bash.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = ShellFactory().probe()
    assert (found.installed, "4.3" in found.hint) == (False, True)
    bash.write_text("#!/bin/sh\nexit 1\n")
    assert not ShellFactory().probe().installed


@pytest.mark.parametrize("command", ["bash --posix", "'unclosed"])
async def test_an_agent_command_that_names_no_bash_is_refused(command: str, tmp_path: Path) -> None:
    async def spawn(*_: object, **__: object) -> None: ...

    context = DriverContext("s", 1, "/", command, {}, tmp_path, spawn, None, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="agent command"):
        ShellFactory().create(context)


async def test_an_agent_command_names_another_bash(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.symlink_to("/bin/bash")
    async with driving(ShellFactory(), tmp_path, agent_command=str(other)) as shell:
        await shell.start()
        after = await shell.begin("echo $0")
        await shell.over(after)
        assert shell.output(after) == f"{other}\n".encode()


async def failure(drive: Drive) -> str:
    await drive.driver.start(None)
    failed = await drive.wait(StartFailed)
    await drive.until(lambda: drive.ended)
    assert drive.seen == [failed]
    return failed.message


async def test_a_bash_that_is_not_there_is_a_start_that_failed(tmp_path: Path) -> None:
    async with driving(ShellFactory(), tmp_path, agent_command="/no/such/bash") as shell:
        assert "/no/such/bash" in await failure(shell)


async def test_a_program_that_is_no_bash_is_a_start_that_failed(tmp_path: Path) -> None:
    async with driving(ShellFactory(), tmp_path, agent_command="false") as shell:
        assert await failure(shell) == "bash ended with 1 at once"


async def test_a_directory_that_is_not_there_is_a_start_that_failed(tmp_path: Path) -> None:
    async with driving(ShellFactory(), tmp_path / "gone", state=tmp_path / "state") as shell:
        assert f"{tmp_path}/gone is not there" in await failure(shell)


async def test_a_kill_before_the_start_leaves_nothing(tmp_path: Path) -> None:
    async with driving(ShellFactory(), tmp_path) as shell:
        await shell.driver.kill()
        await shell.until(lambda: shell.ended)
        assert [type(seen) for seen in shell.seen] == [StartFailed]
        assert shell.spawned == []


async def test_a_kill_while_starting_leaves_nothing(tmp_path: Path) -> None:
    async with driving(ShellFactory(), tmp_path) as shell:
        await shell.driver.start(None)
        await shell.driver.kill()
        await shell.until(lambda: shell.ended)
        assert isinstance(shell.seen[-1], StartFailed | ProcessGone)
        assert shell.living() == {}


async def test_a_script_that_cannot_be_written_fails_its_turn_and_bash_stays(
    shell: Drive, tmp_path: Path
) -> None:
    in_the_way = tmp_path / ".state" / "session" / "script"
    in_the_way.mkdir()
    over = await shell.turn("true")
    assert (over.stop_reason, over.exit_code) == (StopReason.FAILED, None)
    assert over.message.startswith("the script cannot be written")
    in_the_way.rmdir()
    assert (await shell.turn("true")).stop_reason is StopReason.COMPLETED


async def test_a_session_whose_shim_lives_cannot_be_started_twice(
    shell: Drive, tmp_path: Path
) -> None:
    async with driving(ShellFactory(), tmp_path) as other:
        assert "could not be started" in await failure(other)


# --- Ends that a script brings about -------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("exit 3", 3),
        ("exit", 0),
        ("(exit 9); exit", 9),
        ("exec sh -c 'exit 4'", 4),
        ("exec true", 0),
        ("set -e; false; echo never", 1),
        ("f() { exit 5; }; f; echo never", 5),
        ("exec /no/such/program", 127),
        ("trap 'exit 6' EXIT; exit 1", 6),
    ],
)
async def test_a_script_that_ends_bash_ends_the_turn_with_that_status(
    shell: Drive, script: str, status: int
) -> None:
    after = await shell.begin(f"echo before; {script}")
    over = await shell.over(after)
    assert (over.stop_reason, over.exit_code) == (StopReason.COMPLETED, status)
    assert b"before\n" in shell.output(after)
    assert b"never" not in shell.output(after)
    gone = await shell.wait(ProcessGone, after)
    assert (gone.exit_code, gone.signal) == (status, None)
    assert (gone.deliberate, gone.killed) == (True, False)
    await shell.until(lambda: shell.ended)
    status_of_tool = ToolStatus.FAILED if status else ToolStatus.SUCCEEDED
    assert shell.all(ToolEnded)[-1].status is status_of_tool


async def test_set_e_in_an_earlier_turn_fires_in_a_later_one(shell: Drive) -> None:
    assert (await shell.turn("set -e")).exit_code == 0
    assert (await shell.turn("if false; then :; fi; false || true")).exit_code == 0
    over = await shell.turn("false")
    assert (over.stop_reason, over.exit_code) == (StopReason.COMPLETED, 1)
    assert (await shell.wait(ProcessGone)).deliberate


async def test_an_exec_prints_to_the_turn_and_reads_nothing(shell: Drive) -> None:
    after = await shell.begin("exec sh -c 'cat; echo from exec; echo err >&2; exit 2'")
    assert (await shell.over(after)).exit_code == 2
    assert sorted(shell.output(after).splitlines()) == [b"err", b"from exec"]


async def test_an_exit_takes_the_background_jobs_along(shell: Drive) -> None:
    await shell.turn("sleep 4323 & (trap '' TERM; sleep 4324; true) & setsid sleep 4325 &")
    await shell.turn("exit 0")
    await shell.wait(ProcessGone)
    assert shell.living() == {}


async def test_a_bash_that_somebody_kills_in_a_turn_is_lost(shell: Drive) -> None:
    after = await shell.begin("echo before; kill -9 $$")
    gone = await shell.wait(ProcessGone, after)
    assert (gone.signal, gone.exit_code) == (signal.SIGKILL, None)
    assert (gone.deliberate, gone.killed) == (False, False)
    assert shell.output(after) == b"before\n"
    assert shell.all(TurnOver) == []


async def test_an_idle_bash_that_somebody_kills_is_no_deliberate_end(shell: Drive) -> None:
    [up] = shell.all(ProcessUp)
    os.kill(up.pid, signal.SIGKILL)
    gone = await shell.wait(ProcessGone)
    assert (gone.signal, gone.deliberate, gone.killed) == (signal.SIGKILL, False, False)
    assert shell.all(TurnOver) == []


async def test_an_idle_bash_that_ends_with_a_status_is_no_deliberate_end(shell: Drive) -> None:
    await shell.turn("trap 'exit 5' USR1")
    [up] = shell.all(ProcessUp)
    os.kill(up.pid, signal.SIGUSR1)
    gone = await shell.wait(ProcessGone)
    assert (gone.exit_code, gone.deliberate, gone.killed) == (5, False, False)


# --- Stop and kill -------------------------------------------------------------------------------


async def test_a_stop_ends_an_idle_bash_by_itself(shell: Drive) -> None:
    await shell.turn("trap 'echo bye > bye' EXIT; (exit 3)")
    gone = await shell.stop()
    assert (gone.exit_code, gone.deliberate, gone.killed) == (0, True, False)
    await eventually((shell.directory / "bye").exists)


async def test_a_stop_that_is_not_obeyed_becomes_a_kill(shell: Drive) -> None:
    await shell.turn("trap 'while :; do :; done' EXIT")
    gone = await shell.stop(grace=0.2)
    assert (gone.signal, gone.killed, gone.deliberate) == (signal.SIGKILL, True, False)


async def test_a_stop_in_a_turn_ends_it(shell: Drive) -> None:
    after = await shell.begin("sleep 60")
    gone = await shell.stop(grace=0.2)
    assert gone.killed
    assert shell.all(TurnOver)[0].stop_reason is StopReason.INTERRUPTED
    assert after


async def test_a_command_that_is_killed_before_bash_is_not_taken_for_a_turn_that_is_over(
    shell: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = ShimProcess.stop

    async def slow(self: ShimProcess, ladder: Ladder) -> Proof:
        # Of what is to be killed bash comes last, and has time to tell of the end of its command.
        for pid, command in shell.living().items():
            if command == "sleep 60":
                os.kill(pid, signal.SIGKILL)
        await self.wait()
        return await stop(self, ladder)

    await shell.begin("sleep 60")
    await eventually(lambda: shell.commands("sleep 60"))
    monkeypatch.setattr(ShimProcess, "stop", slow)
    await shell.stop(grace=0.2)
    [over] = shell.all(TurnOver)
    assert over.stop_reason is StopReason.INTERRUPTED


async def test_a_kill_ends_bash_and_all_that_it_started_now(shell: Drive) -> None:
    await shell.turn("sleep 4326 & (trap '' INT TERM HUP; setsid sleep 4327) &")
    after = await shell.begin("trap '' INT TERM; sleep 60")
    await shell.driver.kill()
    gone = await shell.wait(ProcessGone, after)
    assert (gone.signal, gone.killed, gone.deliberate) == (signal.SIGKILL, True, False)
    assert shell.all(TurnOver)[-1].stop_reason is StopReason.KILLED
    assert shell.living() == {}


async def test_orders_after_the_end_do_nothing(shell: Drive) -> None:
    await shell.stop()
    await shell.until(lambda: shell.ended)
    count = len(shell.seen)
    await shell.driver.send(9, [])
    await shell.driver.interrupt(grace=1, include_background=False)
    await shell.driver.stop(grace=1)
    await shell.driver.kill()
    assert len(shell.seen) == count


async def test_a_shell_neither_is_steered_nor_asks(shell: Drive) -> None:
    with pytest.raises(NotImplementedError):
        await shell.driver.steer("input", [])
    with pytest.raises(NotImplementedError):
        await shell.driver.respond("approval", None, "")  # type: ignore[arg-type]
